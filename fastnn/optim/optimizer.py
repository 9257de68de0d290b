"""Optimizer: parameters, gradients and state in flat arrays, updated in one native sweep."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

import fastnn_ext.optimizer as native
from fastnn import _check
from fastnn.graph import Graph
from fastnn.lowering.builder import Builder
from fastnn.lowering.program import Program
from fastnn.nn import parameter as parameters_
from fastnn.nn.parameter import Parameter

ALIGN = 16  # elements: a parameter starts at a cache line


class Group(dict[str, Any]):
    """The settings of some parameters, and their flat memory.

    A dict, as PyTorch's param_groups hold: what is assigned to `group["lr"]` holds from the next step
    on, and costs no new plan.
    """

    def __init__(self, optimizer: Optimizer, params: list[Parameter], settings: dict[str, Any]) -> None:
        super().__init__()
        self._optimizer = optimizer
        dtypes = {p.dtype for p in params}
        if len(dtypes) != 1:
            raise TypeError(f"the parameters of a group must share a dtype, got {sorted(map(str, dtypes))}")
        self.dtype = dtypes.pop()
        self.hyper = np.zeros(native.HYPER)
        self.offsets: list[int] = []
        size = 0
        for p in params:
            self.offsets.append(size)
            size += -(-p.size // ALIGN) * ALIGN
        self.data = np.zeros(size, self.dtype)
        self.grad = np.zeros(size, self.dtype)
        self.states: dict[str, np.ndarray[Any, Any]] = {}
        super().__setitem__("params", params)
        for name, value in settings.items():
            self[name] = value
        for name in optimizer.state_names(self):
            self.states[name] = np.zeros(size, self.dtype)
        for p, offset in zip(params, self.offsets, strict=True):
            part = slice(offset, offset + p.size)
            p._move(self.data[part].reshape(p._storage.shape), self.grad[part].reshape(p._storage.shape))

    def __setitem__(self, name: str, value: Any) -> None:
        if name == "params":
            raise ValueError("the parameters of a group cannot be exchanged; make a new optimizer")
        if name not in self._optimizer.defaults:
            known = ", ".join(self._optimizer.defaults)
            raise ValueError(f"{type(self._optimizer).__name__} has no setting {name!r}; it has {known}")
        self._optimizer.check(name, value)
        if name in self._optimizer.hyper:
            number = tuple(value) if isinstance(value, (tuple, list)) else (value,)
            at = self._optimizer.hyper[name]
            self.hyper[at : at + len(number)] = number
            if name in self and bool(self[name]) != bool(value):
                parameters_.structure_changed()  # whether a momentum is kept, say
        elif name in self and self[name] != value:
            parameters_.structure_changed()
        super().__setitem__(name, value)

    @property
    def steps(self) -> int:
        """How many updates have been made."""
        return int(self.hyper[self._optimizer.step_index])

    def signature(self) -> tuple[Any, ...]:
        """What a plan that updates this group depends on."""
        optimizer = self._optimizer
        return (id(self.data), tuple(self.runs()), tuple(optimizer.dims(self)), optimizer.operands(self))

    def runs(self) -> list[tuple[int, int]]:
        """The trained ranges (begin, end) of the flat arrays: neighbours merge, frozen ones are left out."""
        runs: list[tuple[int, int]] = []
        for p, begin in zip(self["params"], self.offsets, strict=True):
            if not p.requires_grad:
                continue
            end = begin + -(-p.size // ALIGN) * ALIGN
            if runs and runs[-1][1] == begin:
                runs[-1] = (runs[-1][0], end)
            else:
                runs.append((begin, end))
        return runs


class Optimizer:
    """Base of the optimizers. A subclass names its native op, its settings and its state arrays.

    Parameters
    ----------
    params : iterable of Parameter, or of dicts
        `model.parameters()`, or groups: dicts with "params" and settings of their own.
    defaults : dict
        Settings of groups that do not bring their own.

    Raises
    ------
    TypeError, ValueError
        If params holds nothing, something else than parameters, or one of them twice; or a setting is
        out of its range.
    """

    #: Name of the native op.
    kernel: ClassVar[str]
    #: Where each numeric setting stands in the op's `hyper` array.
    hyper: ClassVar[dict[str, int]]
    step_index: ClassVar[int]

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        for name, value in defaults.items():
            self.check(name, value)
        if isinstance(params, (Parameter, np.ndarray)):
            raise TypeError("params must be an iterable of parameters, such as model.parameters()")
        entries = list(params)
        if not entries:
            raise ValueError("params is empty: there is nothing to optimize")
        groups = entries if isinstance(entries[0], Mapping) else [{"params": entries}]
        self.param_groups: list[Group] = []
        seen: set[int] = set()
        for group in groups:
            if not isinstance(group, Mapping) or "params" not in group:
                raise TypeError('params must hold parameters, or dicts with the key "params"')
            members = [group["params"]] if isinstance(group["params"], Parameter) else list(group["params"])
            for p in members:
                if not isinstance(p, Parameter):
                    raise TypeError(f"params must hold parameters, got {type(p).__name__}")
                if id(p) in seen:
                    raise ValueError("params names a parameter twice")
                seen.add(id(p))
            if not members:
                raise ValueError('a group\'s "params" is empty')
            settings = {**defaults, **{k: v for k, v in group.items() if k != "params"}}
            self.param_groups.append(Group(self, members, settings))
        self._program: tuple[int, Program] | None = None

    # ---- for subclasses -------------------------------------------------------------------------

    def check(self, name: str, value: Any) -> None:
        """Raise ValueError or TypeError if a setting's value is out of its range."""

    def state_names(self, group: Group) -> tuple[str, ...]:
        """Names of the state arrays that a group with these settings needs, in the op's order."""
        raise NotImplementedError

    def dims(self, group: Group) -> list[int]:
        """The op's small integers after n."""
        raise NotImplementedError

    def operands(self, group: Group) -> tuple[str | None, ...]:
        """The op's state buffers in order; None where one is absent."""
        return self.state_names(group)

    # ---- running --------------------------------------------------------------------------------

    def emit(self, to: Builder) -> None:
        """Append the update of all groups to a program."""
        for group in self.param_groups:
            itemsize = group.data.itemsize
            for begin, end in group.runs():
                at = begin * itemsize
                states = [
                    None if name is None else to.array(group.states[name], at) for name in self.operands(group)
                ]
                to.emit(
                    self.kernel,
                    outputs=[to.array(group.data, at)],
                    inputs=[to.array(group.grad, at), *states, to.array(group.hyper)],
                    dims=[end - begin, *self.dims(group)],
                    scalars=[],
                    dtype=group.dtype,
                    commit=True,
                )
            to.emit(
                "tick", [to.array(group.hyper)], [], [self.step_index], [], dtype=np.dtype(np.float64), commit=True
            )

    def step(self) -> None:
        """Update the parameters from their gradients."""
        version = parameters_.structure_version
        if self._program is None or self._program[0] != version:
            self._program = version, Program(Graph(), [[]], update=self.emit)
        self._program[1].plans[0].run()

    def zero_grad(self) -> None:
        """Set all gradients to zero."""
        for group in self.param_groups:
            group.grad[...] = 0

    @property
    def lr(self) -> float:
        """The learning rate of the first group; assigning sets that of all."""
        return float(self.param_groups[0]["lr"])

    @lr.setter
    def lr(self, value: float) -> None:
        for group in self.param_groups:
            group["lr"] = value

    # ---- state ----------------------------------------------------------------------------------

    def settings(self) -> list[dict[str, Any]]:
        """Each group's settings and step count, as plain values."""
        return [
            {**{k: v for k, v in group.items() if k != "params"}, "steps": group.steps}
            for group in self.param_groups
        ]

    def state_dict(self) -> dict[str, Any]:
        """Settings, step counts and copies of the state arrays, by group."""
        return {
            "kind": type(self).__name__,
            "groups": self.settings(),
            "state": [{k: v.copy() for k, v in group.states.items()} for group in self.param_groups],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Return to a state that `state_dict` gave; nothing is changed if it does not fit.

        Raises
        ------
        ValueError
            If it comes from another kind of optimizer, or from other parameters.
        TypeError
            If a setting is of the wrong type, or a state's array does not hold numbers.
        """
        if state.get("kind") != type(self).__name__:
            raise ValueError(f"the state is that of {state.get('kind')}, not of {type(self).__name__}")
        groups, arrays = list(state["groups"]), list(state["state"])
        if len(groups) != len(self.param_groups) or len(arrays) != len(self.param_groups):
            raise ValueError(f"the state has {len(groups)} groups; the optimizer {len(self.param_groups)}")
        for group, settings, states in zip(self.param_groups, groups, arrays, strict=True):
            for name, value in settings.items():
                if name == "steps":
                    _check.real(name, value, 0)
                elif name not in self.defaults:
                    raise ValueError(f"the state has the unknown setting {name!r}")
                else:
                    self.check(name, value)
            if "steps" not in settings:
                raise ValueError("the state lacks the number of steps made")
            if set(states) != set(group.states):
                raise ValueError(f"the state holds {sorted(states)}; expected {sorted(group.states)}")
            for name, array in states.items():
                if np.shape(array) != group.states[name].shape:
                    raise ValueError(
                        f"{name} has shape {np.shape(array)}; expected {group.states[name].shape}: the "
                        "parameters differ"
                    )
                if np.asarray(array).dtype.kind not in "fiu":
                    raise TypeError(f"{name} must hold numbers, got {np.asarray(array).dtype}")
        for group, settings, states in zip(self.param_groups, groups, arrays, strict=True):
            for name, value in settings.items():
                if name != "steps":
                    group[name] = tuple(value) if isinstance(value, list) else value
            group.hyper[self.step_index] = settings["steps"]
            for name, array in states.items():
                group.states[name][...] = array

    def __repr__(self) -> str:
        first = {k: v for k, v in self.param_groups[0].items() if k != "params"}
        settings = ", ".join(f"{k}={v}" for k, v in first.items())
        return f"{type(self).__name__}({settings})"
