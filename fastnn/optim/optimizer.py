"""Optimizer: state in flat arrays, updated in one native sweep with the parameters."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

import fastnn_ext.optimizer as native
from fastnn import _check
from fastnn.graph import Arguments, Graph, Tensor
from fastnn.lowering.builder import Builder
from fastnn.lowering.cache import Programs, Recipe
from fastnn.lowering.signature import signature
from fastnn.lowering.watch import Walk
from fastnn.nn.parameter import Parameter, zero_grads
from fastnn.optim.max_norm import emit_max_norm
from fastnn.sizes import count
from fastnn_ext.atomic import assign, commit
from fastnn_ext.watch import ATTRIBUTE, SEQUENCE, Fact

ALIGN = 16  # elements: a parameter starts at a cache line

#: Settings that all optimizers have, and that do nothing by default.
SHARED: Mapping[str, Any] = {
    "maximize": False,
    "l1_penalty": 0.0,
    "clip_grad_value": None,
    "clip_grad_norm": None,
    "grad_noise": 0.0,
    "max_norm": None,
    "averaging": None,
    "averaging_every": 1,
}

#: The streams of random numbers from which gradients' noise is drawn: the last ones, which no model reaches.
LAST_STREAM = 2**24 - 1

Array = np.ndarray[Any, Any]
#: What `commit` takes: copies, entries and attributes.
_Changes = tuple[list[Any], list[Any], list[Any]]


class Group(dict[str, Any]):
    """The settings of some parameters, and the flat memory of their state.

    A dict, as PyTorch's param_groups hold: what is assigned to `group["lr"]` holds from the next step
    on, and costs no new plan.

    Values and gradients of parameters lie wherever the parameter says (`_storage`): in flat arrays of the
    first optimizer that met them, or, after a change of dtype, in memory of their own. So any number of
    optimizers can hold one parameter. What is here is this optimizer's alone: states, and how often each
    parameter was updated.

    Attributes
    ----------
    begins : array (parameters,) of int64
        Where each parameter begins in the state arrays.
    counters : dict of array (parameters,) of float64
        What is counted of each parameter: its updates, "steps", and what the optimizer has beside them.
    revision : int
        Counts changes that updates must be planned anew for.
    """

    def __init__(self, optimizer: Optimizer, params: list[Parameter], settings: dict[str, Any]) -> None:
        super().__init__()
        self._optimizer = optimizer
        self.revision = 0
        self.initial_lr: float | None = None  # the rate before its first schedule (lr_scheduler)
        self.hyper = np.zeros(len(optimizer.hyper))
        sizes = [-(-p.size // ALIGN) * ALIGN for p in params]
        self.begins = np.cumsum([0, *sizes[:-1]], dtype=np.int64)
        self.size = sum(sizes)
        self.counters = {name: np.full(len(params), first) for name, first in optimizer.counters.items()}
        self.states: dict[str, Array] = {}
        super().__setitem__("params", params)
        self.dtype = self._common_dtype()
        for name, value in settings.items():
            self[name] = value
        self.states = self._states_for({})
        _gather(params, self.dtype)

    def __setitem__(self, name: str, value: Any) -> None:
        _set(self._setting(name, value))

    def _setting(self, name: str, value: Any) -> _Changes:
        """What `commit` copies and assigns to set one; ValueError or TypeError if it cannot be set."""
        if name == "params":
            raise ValueError('a group\'s "params" cannot be exchanged; make a new optimizer')
        if name not in self._optimizer.defaults:
            known = ", ".join(self._optimizer.defaults)
            raise ValueError(f"{type(self._optimizer).__name__} has no setting {name!r}; it has {known}")
        value = _plain(value)
        if isinstance(self._optimizer.defaults[name], bool):
            value = _check.flag(name, value)
        self._optimizer.check(name, value)
        before = self.get(name)
        copies: list[Any] = []
        attributes: list[Any] = []
        if "averaged" in self.counters and _begins_anew(name, before, value):
            copies.append((self.counters["averaged"], np.zeros_like(self.counters["averaged"])))
        numbers = self._optimizer.numbers(name, value)
        for entry, number in numbers.items():
            at = self._optimizer.hyper.index(entry)
            copies.append((self.hyper[at : at + 1], np.array([number], self.hyper.dtype)))
        # Numbers are read at each step; but whether there is a momentum, say, is planned for.
        if bool(before) != bool(value) if numbers else before != value:
            attributes.append((self, "revision", self.revision + 1))
        if name in self and len(states := self._states_for({name: value})) > len(self.states):
            attributes.append((self, "states", states))
        return copies, [(self, name, value)], attributes

    def update(self, *args: Any, **kwargs: Any) -> None:
        """As a dict's; each setting is checked."""
        for name, value in dict(*args, **kwargs).items():
            self[name] = value

    def __ior__(self, other: Any) -> Group:  # type: ignore[override, misc]
        self.update(other)
        return self

    def setdefault(self, name: str, default: Any = None) -> Any:
        """As a dict's; a new setting is checked."""
        if name not in self:
            self[name] = default
        return self[name]

    def _states_for(self, change: Mapping[str, Any]) -> dict[str, Array]:
        """The state arrays that there are, and those that the settings, changed so, ask for beside them."""
        names = self._optimizer.state_names({**self, **change})
        return self.states | {name: np.zeros(self.size, self.dtype) for name in names if name not in self.states}

    @property
    def steps_of(self) -> Array:
        """Updates of each parameter (parameters,)."""
        return self.counters["steps"]

    @property
    def steps(self) -> int:
        """How many updates have been made."""
        return int(self.hyper[self._optimizer.hyper.index("updates")])

    def _common_dtype(self) -> np.dtype[Any]:
        dtypes: set[np.dtype[Any]] = {p.dtype for p in self["params"]}
        if len(dtypes) != 1:
            raise TypeError(
                f"the parameters of a group must share a dtype, got {', '.join(sorted(map(str, dtypes)))}; convert the "
                "model with model.float() or model.double(), or give a group for each"
            )
        return dtypes.pop()

    def follow(self) -> None:
        """Take the dtype that the parameters have now, after `model.double()`, say."""
        dtype = self._common_dtype()
        if dtype != self.dtype:
            states = {name: array.astype(dtype) for name, array in self.states.items()}
            commit([], [], [(self, "dtype", dtype), (self, "states", states), (self, "revision", self.revision + 1)])
        _gather(self["params"], dtype)

    def runs(self, reached: Collection[Parameter]) -> Iterator[tuple[int, int]]:
        """Ranges (first, last + 1) of the parameters to be updated whose memory is one piece."""
        params: list[Parameter] = self["params"]
        first = None
        for i, p in enumerate(params):
            if p not in reached:
                if first is not None:
                    yield first, i
                first = None
            elif first is None:
                first = i
            elif not self._adjoin(params[i - 1], p):
                yield first, i
                first = i
        if first is not None:
            yield first, len(params)

    @staticmethod
    def _adjoin(before: Parameter, p: Parameter) -> bool:
        """Whether values and gradients of two parameters lie as those in the state arrays do."""
        step = -(-before.size // ALIGN) * ALIGN * before.dtype.itemsize
        pairs = ((before._storage, p._storage), (before._gradient_storage(), p._gradient_storage()))
        return all(b.base is not None and a.base is b.base and b.ctypes.data - a.ctypes.data == step for a, b in pairs)


def _set(*settings: _Changes) -> None:
    """Set settings at once."""
    copies, entries, attributes = ([change for setting in settings for change in setting[i]] for i in range(3))
    if attributes:
        commit(copies, entries, attributes)
    else:  # numbers that native ops read
        assign(copies, entries)


def _begins_anew(name: str, before: Any, value: Any) -> bool:
    """Whether what is averaged so far is no part of the average that a change of a setting asks for."""
    if name == "averaging":
        return type(before) is not type(value)
    return name == "averaging_every" and before != value


def _is_model(value: Any) -> bool:
    """Whether its parameters were meant, which it would give: a module may be iterable itself."""
    return callable(getattr(value, "parameters", None))


def _gather(params: Sequence[Parameter], dtype: np.dtype[Any]) -> None:
    """Put parameters that have memory of their own into flat arrays, where one sweep updates them."""
    loose = [p for p in params if p._storage.base is None]
    sizes = [-(-p.size // ALIGN) * ALIGN for p in loose]
    data, grad = (np.zeros(sum(sizes), dtype) for _ in range(2))
    begin = 0
    for p, size in zip(loose, sizes, strict=True):
        shape, part = p._storage.shape, slice(begin, begin + p.size)
        p._move(data[part].reshape(shape), grad[part].reshape(shape))
        begin += size


def _plain(value: Any) -> Any:
    """NumPy's numbers as Python's, which a checkpoint can hold."""
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        return value.item()
    if isinstance(value, (tuple, list)):
        return tuple(_plain(v) for v in value)
    return value


class Optimizer:
    """Base of the optimizers. A subclass has settings, and a native op that knows numbers, states and switches by name.

    Parameters
    ----------
    params : iterable of Parameter, or of dicts
        `model.parameters()`, or groups: dicts with "params" and settings of their own.
    defaults : dict
        Settings of groups that do not bring their own.
    maximize : bool, default False
        Update in the gradient's direction.
    l1_penalty : float, default 0
        Added to the gradient, times the sign of the parameter (L1), as weight_decay times the parameter is (L2).
    clip_grad_value : float, optional
        The largest size of a gradient's element, which a larger one is clipped to.
    clip_grad_norm : float, optional
        The largest norm of all gradients that an update takes, those of other groups too: those of the group are
        multiplied by clip_grad_norm / (norm + 1e-6) where that is below 1, as PyTorch's clip_grad_norm_ does.
    grad_noise : float, default 0
        Standard deviation of normal noise that is added to the gradient (Neelakantan et al., 2015), from the default
        generator (`fn.manual_seed`).
    max_norm : float, optional
        After the update, rows of parameters of two dimensions or more whose norm is larger become that long: the
        weights of each output unit (Srivastava et al., 2014), as torch.renorm(parameter, 2, 0, max_norm) does.
    averaging : float between 0 and 1, "uniform", or None, default None
        Keep an average of each parameter over the updates that it gets, as a part of them: average = averaging *
        average + (1 - averaging) * parameter, which begins as the first of them (Polyak's, in its exponential form), or
        the mean of all ("uniform"; SWA, Izmailov et al., 2018). `train.averaged` gives a model of the averages.
    averaging_every : int, default 1
        Of so many updates the average takes the last one: those of an epoch or of a cycle, for SWA.

    The gradient is clipped by norm, then by value, then it gets its noise; then come weight_decay and l1_penalty. All
    this is a part of the update: `grad` is as the backward pass has left it.

    Raises
    ------
    TypeError, ValueError
        If params holds nothing, something else than parameters, or one of them twice; or a setting is
        out of its range.
    """

    #: Name of the native op.
    kernel: ClassVar[str]
    #: States that the op can do without, and the setting with which they are kept.
    optional_states: ClassVar[Mapping[str, str]] = {}
    #: The number without which a parameter's steps do not count.
    steps_only_with: ClassVar[str | None] = None
    #: What is counted of each parameter, and where it begins. A native op NAME_count counts what is no step.
    counters: ClassVar[Mapping[str, float]] = {"steps": 0.0, "averaged": 0.0}
    #: Counters that states of before there were such lack.
    later: ClassVar[tuple[str, ...]] = ("averaged",)
    #: Where a step that is made by itself finds the loss that it was told, by dtype.
    _losses: Mapping[str, Array] | None = None
    #: Whether weight_decay shrinks the parameter itself, where no setting decoupled_weight_decay says.
    decoupled: ClassVar[bool] = False

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any], **shared: Any) -> None:
        self.defaults = {name: _plain(value) for name, value in self._with_shared(defaults, shared).items()}
        for name, value in self.defaults.items():
            self.check(name, value)
        if not isinstance(params, Iterable) or isinstance(params, (Parameter, np.ndarray)) or _is_model(params):
            raise TypeError(
                f"params must be an iterable of parameters, such as model.parameters(), got {_check.kind_of(params)}"
            )
        entries = list(params)
        if not entries:
            raise ValueError("params is empty: there is nothing to optimize")
        groups = entries if isinstance(entries[0], Mapping) else [{"params": entries}]
        self.param_groups: list[Group] = []
        for group in groups:
            self.add_param_group(group)
        self._make_programs()

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Take more parameters, as a group of their own, which have made no step yet.

        Parameters
        ----------
        param_group : dict
            With "params" and settings of its own; others are the optimizer's defaults.

        Raises
        ------
        TypeError, ValueError
            As when an optimizer is made; nothing is changed then.
        """
        if not isinstance(param_group, Mapping) or "params" not in param_group:
            raise TypeError(
                'params must hold parameters, or dicts with the key "params", got '
                f"{_check.brief(param_group) if isinstance(param_group, Mapping) else _check.kind_of(param_group)}"
            )
        given = param_group["params"]
        if isinstance(given, Parameter):
            given = [given]
        if not isinstance(given, Iterable) or _is_model(given):
            raise TypeError(
                f'a group\'s "params" must be parameters, such as layer.parameters(), got {_check.kind_of(given)}'
            )
        members = list(given)
        seen = {id(p) for p in self.parameters()}
        for p in members:
            if not isinstance(p, Parameter):
                raise TypeError(f"params must hold parameters, as model.parameters() does, got {_check.kind_of(p)}")
            if id(p) in seen:
                raise ValueError(f"params names a parameter twice, one of shape {p.shape}")
            seen.add(id(p))
        if not members:
            raise ValueError('a group\'s "params" is empty')
        settings = {**self.defaults, **{k: v for k, v in param_group.items() if k != "params"}}
        self.param_groups.append(Group(self, members, settings))

    def _with_shared(self, defaults: dict[str, Any], shared: dict[str, Any]) -> dict[str, Any]:
        """The settings, and those that all optimizers have."""
        unknown = shared.keys() - SHARED.keys()
        if unknown:
            known = ", ".join([*defaults, *SHARED])
            raise TypeError(f"{type(self).__name__} has no setting {min(unknown)!r}; it has {known}")
        defaults = {**defaults, **SHARED, **shared}
        return {**defaults, "maximize": bool(defaults["maximize"])}

    def _make_programs(self) -> None:
        self._programs = self._update_programs(lambda _: None, self._losses)

    def _update_programs(self, more: Callable[[Builder], None], loss: Mapping[str, Array] | None = None) -> Programs:
        """Of updates; `more` emits what they do beside, `loss` is as `emit` takes it."""

        def finish(graph: Graph, reached: Any) -> Recipe:
            def update(to: Builder) -> None:
                self.emit(to, reached, loss)
                more(to)

            storages = ((ATTRIBUTE, p, "_grad_storage", p._gradient_storage()) for p in reached)
            return Recipe([[]], tuple, update=update, facts=[*storages, *self.facts()])

        return Programs(lambda: (), finish, lambda _: (), (self,), type(self).__name__, trusted=True)

    # ---- for subclasses -------------------------------------------------------------------------

    def check(self, name: str, value: Any) -> None:
        """Raise ValueError or TypeError if a setting's value is out of its range; a number's begins at 0."""
        if name == "betas":
            check_pair(name, value)
            for i, beta in enumerate(value):
                _check.real(f"betas[{i}]", beta, 0, 1)
                if beta == 1.0:
                    raise ValueError(f"betas[{i}] must be below 1, got {beta}")
        elif name in ("clip_grad_value", "clip_grad_norm", "max_norm"):
            if value is not None and _check.real(name, value, 0) == 0:
                raise ValueError(f"{name} must be above 0, or None, got {value}")
        elif name == "averaging":
            if value is not None and value != "uniform" and not 0 < _check.real(name, value) < 1:
                raise ValueError(f'averaging must be above 0 and below 1, "uniform" or None, got {value}')
        elif name == "averaging_every":
            _check.integer(name, value, 1)
        elif name in self.hyper:
            _check.real(name, value, 0)

    def numbers(self, name: str, value: Any) -> Mapping[str, float]:
        """What the native op reads for a setting at each step, by its names in `hyper`; nothing for a switch."""
        if name == "betas":
            return dict(zip(("beta1", "beta2"), value, strict=True))
        if name in ("clip_grad_value", "clip_grad_norm"):
            return {name: np.inf if value is None else value}
        if name == "averaging":
            return {name: 1.0 if value == "uniform" else value or 0.0}
        return {name: value} if name in self.hyper else {}

    def switches(self, group: Group) -> Arguments:
        """What the native op is planned with beside sizes and memory, by name."""
        own = {p.name: group[p.name] for p in signature(self.kernel).dims if p.name in group}
        return {**own, "decoupled": group.get("decoupled_weight_decay", self.decoupled)}

    # ---- what the native op names ---------------------------------------------------------------

    @property
    def hyper(self) -> tuple[str, ...]:
        """Names of the numbers that the native op reads at each step, in the order of a group's array `hyper`."""
        return native.HYPER_NAMES[self.kernel]

    def put(self, hyper: Array, name: str, value: Any) -> bool:
        """Write a setting to where the native op reads it in `hyper`; False if it reads it nowhere."""
        numbers = self.numbers(name, value)
        for entry, number in numbers.items():
            hyper[self.hyper.index(entry)] = number
        return bool(numbers)

    def state_names(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        """Names of the state arrays that a group with these settings needs: what the native op writes to beside the
        parameter."""
        states, settings = self.written().items(), {"average": "averaging", **self.optional_states}
        return tuple(name for name, optional in states if not optional or group[settings[name]])

    def written(self) -> dict[str, bool]:
        """Names of all state arrays that a group may have, and whether it can do without."""
        return {p.name: p.optional for p in signature(self.kernel).inputs if p.written}

    def counters_in_use(self, group: Group) -> list[str]:
        """Names of the counters that the native op reads with these settings."""
        return [name for name in self.counters if name != "averaged" or group["averaging"]]

    def told(self, to: Builder, group: Group, loss: Tensor | Mapping[str, Array] | None) -> Arguments:
        """What the native op, and that which counts for it, read of the loss."""
        return {}

    def forms(self, group: Group) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Dtypes and shapes of all that the state of a group may hold, by name."""
        counters = {name: (array.dtype, array.shape) for name, array in group.counters.items()}
        return {**{name: (group.dtype, (group.size,)) for name in self.written()}, **counters}

    # ---- running --------------------------------------------------------------------------------

    def parameters(self) -> list[Parameter]:
        """The parameters of all groups."""
        return [p for group in self.param_groups for p in group["params"]]

    def follow(self) -> None:
        """Take the parameters as they are now; to be called before a trace that an update is appended to."""
        for group in self.param_groups:
            group.follow()

    def skips_zeros(self, p: Parameter) -> bool:
        """Whether an element whose gradient is 0 stays as it is, so that an update need not visit it."""
        return False

    def emit(
        self,
        to: Builder,
        reached: Sequence[Parameter],
        loss: Tensor | Mapping[str, Array] | None = None,
        by_rows: Mapping[Parameter, Any] | None = None,
    ) -> None:
        """Append to a program the update of the parameters that have a gradient, and of no others.

        `loss` is what the gradients are of, if it is known: a tensor, or arrays of one element by their dtypes. Of the
        parameters in `by_rows`, which `skips_zeros`, only the rows that a tensor of labels names have a gradient.
        """
        by_rows = by_rows or {}
        wanted = {p for p in reached if p not in by_rows}
        clipped = any(group["clip_grad_norm"] is not None for group in self.param_groups)
        norm = self._emit_norm(to, wanted) if clipped else None
        drawn = 0
        for group in self.param_groups:
            params = group["params"]
            itemsize = group.dtype.itemsize
            hyper = to.array(group.hyper)
            runs = list(group.runs(wanted))
            if group["max_norm"] is not None:  # what follows an update finds it by where a parameter begins
                runs = [(i, i + 1) for first, end in runs for i in range(first, end)]
            for first, end in runs:
                begin = int(group.begins[first])
                states: Arguments = {n: to.array(group.states[n], begin * itemsize) for n in self.state_names(group)}
                in_use = self.counters_in_use(group)
                counters: Arguments = {n: to.array(group.counters[n], first * 8) for n in in_use}
                told = self.told(to, group, loss)
                n = int(group.begins[end - 1]) - begin + params[end - 1].size
                noise = to.temporary((n,), group.dtype) if group["grad_noise"] else None
                if noise is not None:
                    to.emit("normal", out=noise, state=to.random_state(), n=n, stream=LAST_STREAM - drawn)
                    drawn += 1
                param = _memory(to, params[first]._storage)
                sizes: Arguments = {"n": n, "count": end - first, "dtype": group.dtype, "commit": True}
                begins = to.array(group.begins, first * group.begins.itemsize)
                later: Arguments = {}
                if group["max_norm"] is not None and group["averaging"]:
                    later = {"average": states.pop("average"), "averaged": counters.pop("averaged")}
                to.emit(
                    self.kernel,
                    param=param,
                    grad=_memory(to, params[first]._gradient_storage()),
                    **states,
                    **counters,
                    **told,
                    hyper=hyper,
                    begins=begins,
                    norm=norm if group["clip_grad_norm"] is not None else None,
                    noise=noise,
                    **self.switches(group),
                    **sizes,
                )
                if group["max_norm"] is not None and params[first].ndim > 1:
                    emit_max_norm(to, params[first], param, group["max_norm"])
                if later:
                    read: Arguments = {"grad": param, "hyper": hyper, "steps": later["averaged"], "begins": begins}
                    to.emit("average", param=param, **read, **later, **sizes)
                for name in counters.keys() - {"steps", "averaged"}:
                    counted: Arguments = {name: counters[name], "steps": counters["steps"], "count": end - first}
                    to.emit(f"{self.kernel}_count", **counted, **told, hyper=hyper, dtype=group.dtype, commit=True)
            for k, p in enumerate(params):
                if p in by_rows:
                    self._emit_rows(to, group, k, by_rows[p])
                    runs.append((k, k + 1))
            self._emit_ticks(to, group, runs)

    def _emit_rows(self, to: Builder, group: Group, k: int, rows: Any) -> None:
        """Append the update of some rows of parameter k."""
        p = group["params"][k]
        to.emit(
            f"{self.kernel}_rows",
            param=_memory(to, p._storage),
            grad=_memory(to, p._gradient_storage()),
            rows=rows,
            hyper=to.array(group.hyper),
            steps=to.array(group.steps_of, k * 8),
            begins=to.array(group.begins, k * 8),
            n=count(rows.shape),
            count=1,
            width=p.size // p.shape[0],
            **self.switches(group),
            dtype=group.dtype,
            commit=True,
        )

    def _emit_ticks(self, to: Builder, group: Group, runs: list[tuple[int, int]]) -> None:
        """Append the counting of an update of a group."""
        condition = -1 if self.steps_only_with is None else self.hyper.index(self.steps_only_with)
        for first, end in runs or [(0, 0)]:
            updates = self.hyper.index("updates") if (first, end) == (runs or [(0, 0)])[-1] else -1
            steps = to.array(group.steps_of, first * group.steps_of.itemsize)
            sizes: Arguments = dict(count=end - first, updates=updates, condition=condition)
            hyper = to.array(group.hyper)
            to.emit("tick", hyper=hyper, steps=steps, **sizes, dtype=np.dtype(np.float64), commit=True)
            if group.get("averaging"):
                steps = to.array(group.counters["averaged"], first * group.steps_of.itemsize)
                sizes = dict(count=end - first, updates=-1, condition=-1)
                to.emit("tick", hyper=hyper, steps=steps, **sizes, dtype=np.dtype(np.float64), commit=True)

    def _emit_norm(self, to: Builder, wanted: Collection[Parameter]) -> Any:
        """Append the norm of the gradients that are updated from; None if there is none.

        Its ops commit as updates do: so they come after all gradients, whose memory has other names there.
        """
        norm = None
        runs = [(group, first, end) for group in self.param_groups for first, end in group.runs(wanted)]
        double = np.dtype(np.float64)
        for last, (group, first, end) in zip([*(False for _ in runs[1:]), True], runs, strict=False):
            begins = [int(begin - group.begins[first]) for begin in group.begins[first:end]]
            sizes = [p.size for p in group["params"][first:end]]
            pieces = np.array(
                [
                    (begin + at, min(native.PIECE, size - at))
                    for begin, size in zip(begins, sizes, strict=True)
                    for at in range(0, size, native.PIECE)
                ],
                np.int64,
            )
            sums, total = to.temporary((len(pieces),), double), to.temporary((1,), double)
            to.emit(
                "squares",
                sums=sums,
                x=_memory(to, group["params"][first]._gradient_storage()),
                pieces=to.array(pieces, constant=True),
                n=begins[-1] + sizes[-1],
                count=len(pieces),
                dtype=group.dtype,
                commit=True,
            )
            to.emit("total", total=total, sums=sums, before=norm, count=len(pieces), root=last, commit=True)
            norm = total
        return norm

    def step(self) -> None:
        """Update the parameters from their gradients; those without one are left alone."""
        self._update(self._programs)

    def _update(self, programs: Programs) -> None:
        reached = tuple(p for p in self.parameters() if p._has_grad and p.requires_grad)
        entry = programs.find((), _Update(self, reached))
        entry.program.plans[0].run()

    def __fastnn_watch__(self, walk: Walk) -> None:
        """What of this optimizer a program that updates its parameters depends on."""
        walk.silent.append((SEQUENCE, self.param_groups, None, tuple(self.param_groups)))
        for group in self.param_groups:
            walk.attribute(group, "revision", loud=True)
            for p in group["params"]:
                walk.visit(p)
            if walk.any_name or walk.names & {"lr", "param_groups", "steps", "settings", "state_dict", "defaults"}:
                walk.mapping(group)
                walk.visit(group.hyper)

    def facts(self) -> list[Fact]:
        """What a program of an update depends on beyond the parameters."""
        groups = tuple(self.param_groups)
        revisions = ((ATTRIBUTE, group, "revision", group.revision) for group in groups)
        return [(SEQUENCE, self.param_groups, None, groups), *revisions]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Leave all parameters without a gradient: `grad` is None.

        With set_to_none=False gradients that there are become 0: an update then still decays, and goes on by momentum.
        """
        zero_grads(self.parameters(), set_to_none)

    @property
    def lr(self) -> float:
        """The learning rate of the first group; assigning sets that of all."""
        return float(self.param_groups[0]["lr"])

    @lr.setter
    def lr(self, value: float) -> None:
        _set(*(group._setting("lr", value) for group in self.param_groups))

    # ---- state ----------------------------------------------------------------------------------

    def settings(self) -> list[dict[str, Any]]:
        """Each group's settings and step count, as plain values."""
        return [
            {**{k: v for k, v in group.items() if k != "params"}, "steps": group.steps} for group in self.param_groups
        ]

    def state_dict(self) -> dict[str, Any]:
        """Settings, step counts and copies of the state arrays, by group.

        The array "steps" of a group's state has the number of updates of each parameter.
        """
        return {
            "kind": type(self).__name__,
            "groups": self.settings(),
            "state": [
                {k: v.copy() for k, v in {**group.states, **group.counters}.items()} for group in self.param_groups
            ],
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
        commit(*self._staged(state))

    def _staged(self, state: Any) -> _Changes:
        """What `commit` copies and assigns to return to a state; ValueError or TypeError if it does not fit."""
        if not isinstance(state, Mapping):
            raise TypeError(f"the state must be a mapping, got {type(state).__name__}")
        if state.get("kind") != type(self).__name__:
            kind = _check.brief(state.get("kind"), str)
            raise ValueError(f"the state is that of {kind}, not of {type(self).__name__}")
        groups, arrays = (state.get(name) for name in ("groups", "state"))
        if not isinstance(groups, (list, tuple)) or not isinstance(arrays, (list, tuple)):
            raise TypeError("the state must hold groups and state, each a list")
        if len(groups) != len(self.param_groups) or len(arrays) != len(self.param_groups):
            raise ValueError(f"the state has {len(groups)} groups; the optimizer {len(self.param_groups)}")
        copies: list[Any] = []
        entries: list[Any] = []
        attributes: list[Any] = []
        for group, settings, states in zip(self.param_groups, groups, arrays, strict=True):
            if not isinstance(settings, Mapping) or not isinstance(states, Mapping):
                raise TypeError("each group's settings and state must be mappings")
            checked = self._checked(settings)
            hyper = group.hyper.copy()
            hyper[self.hyper.index("updates")] = checked.pop("steps")
            for name, value in checked.items():
                self.put(hyper, name, value)
            loaded = self._loaded(group, states, {**group, **checked})
            copies.append((group.hyper, hyper))
            for name, counter in group.counters.items():
                copies.append((counter, loaded.pop(name)))
            if loaded.keys() == group.states.keys():
                copies += [(group.states[name], array) for name, array in loaded.items()]
            else:
                attributes.append((group, "states", loaded))
            entries += [(group, name, value) for name, value in checked.items()]
            if loaded.keys() != group.states.keys() or any(group[name] != value for name, value in checked.items()):
                attributes.append((group, "revision", group.revision + 1))
        return copies, entries, attributes

    def _loaded(self, group: Group, given: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Array]:
        """A group's arrays of a state: those that its settings need, and what was kept under others."""
        forms = self.forms(group)
        later = [name for name in self.later if name in self.counters]
        given = {name: np.full(len(group["params"]), self.counters[name]) for name in later} | dict(given)
        needed = [*self.state_names(settings), *self.counters]
        if given.keys() - forms.keys() or set(needed) - given.keys():
            raise ValueError(f"the state holds {_check.some(given)}; expected {_check.some(needed)}")
        return {name: _state_array(name, given[name], *forms[name]) for name in forms if name in given}

    def _checked(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """A group's settings of a state, and its step count."""
        checked = {}
        for name, value in settings.items():
            if name == "steps":
                value = _check.count(name, value)
            elif name not in self.defaults:
                raise ValueError(f"the state has the unknown setting {_check.brief(name)}")
            elif isinstance(self.defaults[name], bool):
                value = _check.flag(name, value)
            else:
                value = _plain(value)
                self.check(name, value)
            checked[name] = value
        if "steps" not in checked:
            raise ValueError("the state lacks the number of steps made")
        return checked

    # A copy is tied to copies of the parameters (those of the model in the same copy); plans stay behind.

    def __getstate__(self) -> dict[str, Any]:
        rest = {k: v for k, v in self.__dict__.items() if k not in ("_programs", "param_groups")}
        groups = [(group["params"], dict(group)) for group in self.param_groups]
        return {"rest": rest, "groups": groups, "state": self.state_dict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state["rest"])
        self.param_groups = [
            Group(self, params, {k: v for k, v in settings.items() if k != "params"})
            for params, settings in state["groups"]
        ]
        self._make_programs()
        self.load_state_dict(state["state"])

    def __repr__(self) -> str:
        kind = type(self).__name__
        groups = [
            ", ".join(f"{k}={v}" for k, v in group.items() if k != "params" and (k == "maximize" or v != SHARED.get(k)))
            for group in self.param_groups
        ]
        if len(groups) == 1:
            return f"{kind}({groups[0]})"
        sizes = [len(group["params"]) for group in self.param_groups]
        lines = [
            f"  ({i}): {n} parameter{'s' if n > 1 else ''}, {each}"
            for i, (n, each) in enumerate(zip(sizes, groups, strict=True))
        ]
        return "\n".join([f"{kind}(", *lines, ")"])


def check_pair(name: str, value: Any) -> None:
    """TypeError unless a setting is a pair."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"{name} must be a pair of numbers, got {_check.brief(value)}")


def _state_array(name: str, value: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    """An array of a state as a group keeps it."""
    array = np.asarray(value)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {_check.brief(array.shape)}; expected {shape}: the parameters differ")
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must hold numbers, got {array.dtype}")
    array = array.astype(dtype)
    if name == "steps" and not ((array >= 0) & (array <= _check.LARGEST_COUNT) & (array == np.floor(array))).all():
        raise ValueError(f"{name} must hold numbers of updates, 0 to {_check.LARGEST_COUNT}, got {_check.brief(array)}")
    return array


class _Update:
    """The update of some parameters: what a program of `Optimizer.step` is found by, and traced from."""

    names = ()

    def __init__(self, optimizer: Optimizer, reached: tuple[Parameter, ...]) -> None:
        self.optimizer = optimizer
        self.reached = reached

    def __call__(self) -> tuple[Parameter, ...]:
        self.optimizer.follow()
        return self.reached

    def __hash__(self) -> int:
        return hash(self.reached)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, _Update)
            and len(self.reached) == len(other.reached)
            and all(a is b for a, b in zip(self.reached, other.reached, strict=True))
        )


def _memory(to: Builder, part: Array) -> Any:
    """The buffer that begins with a parameter's array, in the flat array that it is a part of."""
    whole = part if part.base is None else part.base
    return to.array(whole, part.ctypes.data - whole.ctypes.data)
