"""Optimizers whose update is written in NumPy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from fastnn import _check
from fastnn.lowering.builder import Builder
from fastnn.nn.parameter import Parameter
from fastnn.optim.optimizer import Group, Optimizer

Array = np.ndarray[Any, Any]


class Custom(Optimizer):
    """Base of optimizers whose update is written in NumPy; it takes its place in the step as fn.Function does.

    A subclass names its states, arrays of the parameter's shape which begin with 0, and has the method `update`. It is
    not as fast as a native one: each parameter's arrays are copied, and the update holds the GIL.

    Parameters
    ----------
    params : iterable of Parameter or of dict
    settings : dict
        Settings and their defaults: numbers and flags. There must be an lr.

    Examples
    --------
    >>> class Heavy(optim.Custom):
    ...     states = ("velocity",)
    ...
    ...     def __init__(self, params, lr=0.1, momentum=0.9):
    ...         super().__init__(params, {"lr": lr, "momentum": momentum})
    ...
    ...     def update(self, param, grad, state):
    ...         state["velocity"] = state["momentum"] * state["velocity"] + grad
    ...         return param - state["lr"] * state["velocity"]
    >>> step = fn.TrainStep(model, nn.CrossEntropyLoss(), Heavy(model.parameters()))
    >>> step(x, y) > step(x, y)
    True
    """

    kernel = "callback"
    counters: ClassVar[Mapping[str, float]] = {"steps": 0.0}
    #: Names of the state arrays.
    states: ClassVar[tuple[str, ...]] = ()

    def __init__(self, params: Iterable[Any], settings: dict[str, Any]) -> None:
        if not isinstance(settings, Mapping):
            raise TypeError(
                f'settings must be a dict, such as {{"lr": 0.1}}, got {_check.kind_of(settings)}; the update is a '
                "method of a subclass: see help(fn.optim.Custom)"
            )
        if "lr" not in settings:
            raise ValueError(f"settings must have an lr, got {_check.some(settings) if settings else 'none'}")
        taken = {"step", "steps", "updates", "params"} & {*settings, *self.states} or settings.keys() & set(self.states)
        if taken:
            raise ValueError(f"a setting or a state cannot be called {min(taken)}: something else is")
        super().__init__(params, settings)

    def update(self, param: Array, grad: Array, state: dict[str, Any]) -> Array:
        """The new values of a parameter.

        Parameters
        ----------
        param, grad : array
            Of the parameter's shape and dtype: copies, which may be changed.
        state : dict
            The states by name, to be changed in place or replaced, "step", the number of this update of the parameter
            from 1 on, and the group's settings.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method update(param, grad, state)")

    def _with_shared(self, defaults: dict[str, Any], shared: dict[str, Any]) -> dict[str, Any]:
        return dict(defaults)

    def check(self, name: str, value: Any) -> None:
        if not isinstance(self.defaults[name], bool):
            _check.real(name, value, *([0] if name == "lr" else []))

    @property
    def hyper(self) -> tuple[str, ...]:
        return ("updates", *(name for name, value in self.defaults.items() if not isinstance(value, bool)))

    def written(self) -> dict[str, bool]:
        return dict.fromkeys(self.states, False)

    def emit(
        self,
        to: Builder,
        reached: Sequence[Parameter],
        loss: Any = None,
        by_rows: Mapping[Parameter, Any] | None = None,
    ) -> None:
        # All updates are made beside the present values, which native copies then replace at once.
        wanted = set(reached)
        for group in self.param_groups:
            for i, p in enumerate(group["params"]):
                if p not in wanted:
                    continue
                begin = int(group.begins[i]) * group.dtype.itemsize
                kept = [to.array(group.states[name], begin) for name in self.states]
                values = to.array(p._storage)
                made = [to.temporary((p.size,), group.dtype) for _ in (values, *kept)]
                given = [values, to.array(p._gradient_storage()), *kept]
                to.emit(
                    "callback",
                    outputs=made,
                    inputs=given,
                    sizes=[p.size] * (len(made) + len(given)),
                    callback=_Call(self, group, i),
                    dtype=group.dtype,
                )
                for target, source in zip((values, *kept), made, strict=True):
                    form: dict[str, Any] = dict(ndim=1, shape=[p.size], y_strides=[1], x_strides=[1])
                    to.emit("copy", y=target, x=source, **form, dtype=group.dtype, commit=True)
            self._emit_ticks(to, group, list(group.runs(wanted)))


class _Call:
    """What the native op "callback" calls for a parameter."""

    def __init__(self, optimizer: Custom, group: Group, index: int) -> None:
        self.optimizer, self.group, self.index = optimizer, group, index
        made = 1 + len(optimizer.states)
        self.outputs = tuple((slot, group.dtype.name, 1) for slot in range(made))
        self.inputs = tuple((made + slot, group.dtype.name, 1) for slot in range(made + 1))

    def __call__(self, inputs: list[Array], _: Any) -> list[Array]:
        optimizer, group, parameter = self.optimizer, self.group, self.group["params"][self.index]
        like = parameter._storage
        param, grad, *kept = (parameter._view(array.reshape(like.shape)) for array in inputs)
        settings = {name: value for name, value in group.items() if name != "params"}
        state: dict[str, Any] = {
            **settings,
            "step": int(group.steps_of[self.index]) + 1,
            **dict(zip(optimizer.states, kept, strict=True)),
        }
        new = optimizer.update(param, grad, state)
        named: Mapping[str, Any] = {"update": new, **{name: state.get(name) for name in optimizer.states}}
        return [self._flat(parameter, name, value) for name, value in named.items()]

    def _flat(self, parameter: Parameter, name: str, value: Any) -> Array:
        """An array as it lies in memory."""
        what = f"{type(self.optimizer).__name__}.update " + (
            "must return the new parameter," if name == "update" else f"must leave state[{name!r}]"
        )
        array = np.asarray(value)
        if array.shape != parameter.shape or array.dtype.kind not in "fiu":
            raise ValueError(f"{what} an array of shape {parameter.shape}, got {_check.brief(value)}")
        return np.ascontiguousarray(array.transpose(parameter._order), self.group.dtype).reshape(-1)
