"""Module: parameters, submodules, and a `forward` that is traced once and run as a plan."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from fastnn import _check
from fastnn._check import FLOATS
from fastnn.files import CHECKPOINT, MODEL, load_arrays, save_arrays
from fastnn.graph import INPUT, Graph, Tensor, active, active_graph
from fastnn.lowering.cache import Entry, Programs, Recipe
from fastnn.lowering.call import flatten_result, to_array
from fastnn.lowering.gradients import gradients, one
from fastnn.lowering.program import Program
from fastnn.lowering.watch import Walk, is_library
from fastnn.nn.parameter import Parameter, zero_grads
from fastnn.nn.summary import examples, summary
from fastnn.ops.elementwise import add
from fastnn_ext.atomic import commit
from fastnn_ext.watch import ATTRIBUTE, changed


class _Table(dict[str, Any]):
    """A module's parameters, buffers or submodules by name, or hooks by rank; says when it changes, whoever does it."""

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        changed()

    def __delitem__(self, name: str) -> None:
        super().__delitem__(name)
        changed()

    def __ior__(self, other: Any) -> _Table:  # type: ignore[override, misc]
        self.update(other)
        return self

    def update(self, *args: Any, **kwargs: Any) -> None:
        super().update(*args, **kwargs)
        changed()

    def pop(self, *args: Any) -> Any:
        changed()
        return super().pop(*args)

    def popitem(self) -> tuple[str, Any]:
        changed()
        return super().popitem()

    def clear(self) -> None:
        super().clear()
        changed()

    def setdefault(self, name: str, default: Any = None) -> Any:
        changed()
        return super().setdefault(name, default)


_TABLES = ("_parameters", "_buffers", "_modules", "_forward_pre_hooks", "_forward_hooks")
#: What a module keeps beside its attributes.
_PASSING = ("_programs", "_pending", "_penalty")
_OWN = (*_TABLES, *_PASSING)


class RemovableHandle:
    """Of a hook: what registering it returns. As a context manager it removes the hook at the end of the block."""

    def __init__(self, table: _Table, rank: str) -> None:
        self._table = table
        self._rank = rank

    def remove(self) -> None:
        """Take the hook away; programs are made anew without it. It may be gone already."""
        if self._rank in self._table:
            changed()  # before it, too, lest an interrupt come between
            del self._table[self._rank]

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *_: Any) -> None:
        self.remove()


class Module:
    """Base of all layers and networks, as PyTorch's.

    A subclass assigns parameters and submodules in `__init__` (after `super().__init__()`) and writes
    `forward`. Called with arrays, a module runs as a plan and returns new arrays; called with tensors,
    inside another module's `forward`, it takes part in the trace.
    """

    _modules: dict[str, Module]
    _penalty: float
    _forward_pre_hooks: _Table
    _forward_hooks: _Table
    _is_frozen = False
    #: What messages call the arguments of forward; where empty: input, or input[0], input[1], ...
    input_names: ClassVar[tuple[str, ...]] = ()
    #: Attributes that are computed from parameters where they are read: functions of the module (nn.utils).
    derived: Mapping[str, Callable[[Module], Any]] = MappingProxyType({})

    def __init__(self, *unknown: Any, **settings: Any) -> None:
        if unknown or settings:
            given = ", ".join(
                [*map(_check.brief, unknown), *(f"{name}={_check.brief(v)}" for name, v in settings.items())]
            )
            raise TypeError(f"{type(self).__name__}() takes no arguments, got {given}")
        for table in _TABLES:
            object.__setattr__(self, table, _Table())
        self.__forget_programs()
        self.training = True

    def __forget_programs(self) -> None:
        object.__setattr__(self, "_programs", {})
        object.__setattr__(self, "_pending", None)
        object.__setattr__(self, "_penalty", 0.0)

    # ---- attributes -----------------------------------------------------------------------------

    @property
    def training(self) -> bool:
        """Training mode or evaluation mode: see `train`.

        While a program is traced for a mode of its own (`Trainer.predict` and `evaluate`), modules are in
        that one, for the trace alone: no other thread sees a switch.
        """
        graph = active.graph
        if graph is not None and graph.training is not None:
            return bool(graph.training and not self._is_frozen)
        return bool(self.__dict__["training"])

    @training.setter
    def training(self, mode: bool) -> None:
        self.__dict__["training"] = bool(mode)

    def __setattr__(self, name: str, value: Any) -> None:
        if "_modules" not in self.__dict__:
            raise AttributeError(f"call super().__init__() before assigning {type(self).__name__}.{name}")
        if name in self.derived:
            raise AttributeError(
                f"{type(self).__name__}.{name} is computed from other parameters (weight norm, spectral norm); assign "
                "to those, or undo that first: nn.utils.remove_weight_norm, "
                "nn.utils.parametrize.remove_parametrizations"
            )
        tables: tuple[dict[str, Any], ...] = (self._parameters, self._buffers, self._modules)
        table = next((t for t in tables if name in t), None)
        if name in ("_parameters", "_buffers", "_modules"):  # the table stays, since programs watch it
            entries = dict(value)
            getattr(self, name).clear()
            getattr(self, name).update(entries)
        elif isinstance(value, (Parameter, Module)):
            own: dict[str, Any] = self._parameters if isinstance(value, Parameter) else self._modules
            if table is not None and table is not own:
                del table[name]
            self.__dict__.pop(name, None)
            own[name] = value
        elif table is not None and value is not None:
            self.__assign(table, name, value)
        else:
            if table is not None:
                del table[name]
            object.__setattr__(self, name, value)
            changed()

    def __assign(self, table: dict[str, Any], name: str, value: Any) -> None:
        """What is neither parameter nor module, to a name that one of them has: copied in, or refused."""
        what = f"{type(self).__name__}.{name}"
        if table is self._modules:
            raise TypeError(
                f"{what} is a module; assign a Module or None to it, or delete it first; got {type(value).__name__}"
            )
        array = np.asarray(_check.readable(what, value))
        if array.dtype.kind not in "fiu":
            raise TypeError(
                f"{what} is a parameter or buffer; assign an array, a Parameter or None to it, or delete it "
                f"first; got {type(value).__name__}"
            )
        if array.shape != table[name].shape:
            raise ValueError(
                f"{what} has shape {table[name].shape}; an array of shape {array.shape} cannot be copied into "
                "it: assign a Parameter to replace it"
            )
        table[name].data = array

    def __getattr__(self, name: str) -> Any:
        for table in ("_parameters", "_buffers", "_modules"):
            entries = self.__dict__.get(table, ())
            if name in entries:
                return entries[name]
        if name in self.derived:
            return self.derived[name](self)
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}", name=name, obj=self)

    def __delattr__(self, name: str) -> None:
        for table in (self._parameters, self._buffers, self._modules):
            if name in table:
                del table[name]
                break
        else:
            object.__delattr__(self, name)
            changed()

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._parameters, *self._buffers, *self._modules]

    def register_parameter(self, name: str, parameter: Parameter | None) -> None:
        """As assigning it; None says that the module goes without."""
        setattr(self, name, parameter)

    def register_buffer(self, name: str, buffer: Parameter | np.ndarray[Any, Any]) -> None:
        """An array of the module's state that is not trained, such as running statistics."""
        entry = buffer if isinstance(buffer, Parameter) else Parameter(buffer, requires_grad=False)
        for table in (self.__dict__, self._parameters, self._modules):
            table.pop(name, None)
        self._buffers[name] = entry

    def add_module(self, name: str, module: Module) -> None:
        """As assigning it; names may be any text without dots."""
        _check.instance(f"module {name!r}", module, Module)
        if not isinstance(name, str) or "." in name or not name:
            raise ValueError(f"a module's name is text without dots, got {name!r}")
        setattr(self, name, module)

    # ---- running --------------------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the output from tensors; a call runs it as a program. A subclass writes it."""
        raise NotImplementedError(f"{type(self).__name__} has no forward; write one: def forward(self, input)")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Compute outputs.

        Parameters
        ----------
        *args : array
            Inputs, float32 (float64 for a float64 model); the first dimension is the batch.
        **kwargs
            The same by the names that `forward` gives them: arrays, such as a mask; or settings (None, bools, numbers,
            text), of which each value has a program of its own.

        Returns
        -------
        array, or tuple, list or dict of arrays
            What `forward` returns, as new arrays.

        Raises
        ------
        TypeError, ValueError
            If an argument's dtype or shape does not fit.
        """
        if active.graph is not None:  # is_tracing(), without the time of a call
            if self._forward_pre_hooks or self._forward_hooks:
                result = self.__hooked(args, kwargs)
            else:
                result = self.forward(*args, **kwargs)
            active_graph().calls.append((self, result))
            return result
        try:
            programs = self._programs["infer"]
        except KeyError:
            programs = self._programs_for("infer", self._finish_infer)
        return programs(args, kwargs)

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call a function before each `forward`, while it is traced: see `register_forward_hook`.

        Parameters
        ----------
        hook : callable
            hook(module, args), or hook(module, args, kwargs) with `with_kwargs`. What it returns takes the place of the
            arguments: a tuple, or one argument; (args, kwargs) with `with_kwargs`; None leaves them.
        prepend : bool, default False
            Before the hooks that there are.
        with_kwargs : bool, default False

        Returns
        -------
        RemovableHandle
            Its `remove()` takes the hook away.
        """
        return self.__register(self._forward_pre_hooks, hook, prepend, with_kwargs)

    def register_forward_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call a function after each `forward`, while it is traced.

        A hook is part of the trace, as what `forward` writes is: it sees tensors, which have shapes and no numbers yet,
        and what it computes of them is part of the program, with its gradient. Programs are made anew when hooks come
        or go, or when what a hook depends on changes. A hook is not called again in each run of the program: what is to
        happen then, such as to look at the numbers, an `fn.Function` does, whose result the hook returns;
        `fn.train.Signals(model)(x)` gives the outputs of all layers as arrays.

        Parameters
        ----------
        hook : callable
            hook(module, args, output), or hook(module, args, kwargs, output) with `with_kwargs`. What it returns takes
            the place of the output; None leaves it.
        prepend : bool, default False
            Before the hooks that there are.
        with_kwargs : bool, default False

        Returns
        -------
        RemovableHandle
            Its `remove()` takes the hook away.

        Raises
        ------
        TypeError
            If the hook cannot be called.

        Examples
        --------
        >>> layer = nn.Linear(2, 2)
        >>> handle = layer.register_forward_hook(lambda module, args, output: output * 0.0 + 1.0)
        >>> layer(np.ones((1, 2), np.float32))
        array([[1., 1.]], dtype=float32)
        >>> handle.remove()
        """
        return self.__register(self._forward_hooks, hook, prepend, with_kwargs)

    def __register(self, table: _Table, hook: Callable[..., Any], prepend: bool, with_kwargs: bool) -> RemovableHandle:
        if not callable(hook):
            raise TypeError(f"hook: expected a callable, hook(module, args, ...), got {_check.kind_of(hook)}")
        prepend, with_kwargs = _check.flag("prepend", prepend), _check.flag("with_kwargs", with_kwargs)
        ranks = [int(rank) for rank in table]
        rank = str(min(ranks, default=0) - 1 if prepend else max(ranks, default=0) + 1)
        commit([], [(table, rank, (hook, with_kwargs))])
        return RemovableHandle(table, rank)

    def __hooked(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """forward, with hooks before and after it."""
        for hook, with_kwargs in _in_order(self._forward_pre_hooks):
            given = hook(self, args, kwargs) if with_kwargs else hook(self, args)
            if given is None:
                continue
            if not with_kwargs:
                args = given if isinstance(given, tuple) else (given,)
            elif isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], dict):
                args, kwargs = given
            else:
                raise TypeError(f"a forward pre-hook with_kwargs returns (args, kwargs) or None, got {given!r}")
        result = self.forward(*args, **kwargs)
        for hook, with_kwargs in _in_order(self._forward_hooks):
            given = hook(self, args, kwargs, result) if with_kwargs else hook(self, args, result)
            if given is not None:
                result = given
        return result

    def evaluated(self, *args: Any, **kwargs: Any) -> Any:
        """As a call in evaluation mode, whatever mode the module is in; that stays as it is."""
        programs = self._programs.get("evaluate") or self._programs_for("evaluate", self._finish_infer, False)
        return programs(args, kwargs)

    def forward_train(self, *args: Any, **kwargs: Any) -> Any:
        """As a call, and keeps what `backward` needs."""
        programs = self._programs.get("train") or self._programs_for("train", self._finish_train)
        object.__setattr__(self, "_pending", None)
        arrays, entry = programs.served(args, kwargs)
        result, penalty = entry.rebuild(entry.program.plans[0].run(*arrays))
        object.__setattr__(self, "_penalty", penalty)
        object.__setattr__(self, "_pending", entry)
        return result

    @property
    def penalty(self) -> float:
        """The penalties on signals in the last `forward_train`, of which `backward` adds the gradients; 0.0 without
        any. See `ActivityRegularization`."""
        return self._penalty

    def backward(self, *grads: Any) -> None:
        """Add the gradients of the last `forward_train` to the parameters' `grad`.

        Parameters that the outputs do not depend on keep the `grad` that they have, None perhaps.

        Parameters
        ----------
        *grads : array
            The gradient for each output, in order, of the output's shape and dtype.

        Raises
        ------
        RuntimeError
            Without a `forward_train` before it, or if the model has changed since.
        KeyboardInterrupt
            On Ctrl-C: all gradients were added or none.
        """
        entry: Entry | None = self._pending
        if entry is None or not entry.holds():
            raise RuntimeError(
                "backward needs a forward_train of the unchanged model before it, and each forward_train serves one "
                "backward"
            )
        outputs = len(entry.program.plans[1].inputs)
        if len(grads) != outputs:
            raise TypeError(f"backward takes the gradient of each of the {outputs} output(s), got {len(grads)}")
        arrays = [to_array(g, "dy" if len(grads) == 1 else f"dy[{i}]") for i, g in enumerate(grads)]
        for _, p, name, array in entry.facts:
            if name == "_grad_storage" and not p._has_grad:
                array[...] = 0  # the program adds to it
        entry.program.plans[1].run(*arrays)
        object.__setattr__(self, "_pending", None)

    def plan(self, *args: Any, **kwargs: Any) -> Program:
        """The program that a call with these arguments runs: see its explain() and profile()."""
        programs = self._programs.get("infer") or self._programs_for("infer", self._finish_infer)
        return programs.served(args, kwargs)[1].program

    def _programs_for(
        self, purpose: str, finish: Callable[[Graph, Any], Recipe], training: bool | None = None
    ) -> Programs:
        what = f"{type(self).__name__}.forward"
        programs = Programs(self, finish, self._argument_names, (self,), what, training=training)
        self._programs[purpose] = programs
        return programs

    def _argument_names(self, count: int) -> Sequence[str]:
        if not count:
            raise TypeError(f"{type(self).__name__} was called without an input")
        if len(self.input_names) == count:
            return self.input_names
        return ["input"] if count == 1 else [f"input[{i}]" for i in range(count)]

    def _finish_infer(self, graph: Graph, result: Any) -> Recipe:
        tensors, rebuild = flatten_result(result, f"{type(self).__name__}.forward")
        return Recipe([tensors], rebuild)

    def _finish_train(self, graph: Graph, result: Any) -> Recipe:
        tensors, rebuild = flatten_result(result, f"{type(self).__name__}.forward")
        penalties = graph.penalties[:1]
        for penalty in graph.penalties[1:]:
            penalties = [add(penalties[0], penalty)]
        graph.stage = 1
        seeds: dict[Tensor, Tensor] = {penalty: one(penalty.dtype) for penalty in penalties}
        for k, tensor in enumerate(tensors):
            name = "dy" if len(tensors) == 1 else f"dy[{k}]"
            seed = graph.add(INPUT, (), name=name, shape=tensor.shape, dtype=tensor.dtype).output
            graph.inputs.append(seed)
            seeds[tensor] = add(seeds[tensor], seed) if tensor in seeds else seed
        reached, sinks, facts = [], [], [(ATTRIBUTE, p, "_requires_grad", p.requires_grad) for p, _ in graph.owners]
        trained = trained_parameters(graph)
        leaves = [graph.memory(p._storage) for p in trained]
        for parameter, grad in zip(trained, gradients(graph, seeds, leaves), strict=True):
            if grad is not None:
                array = parameter._gradient_storage()
                reached.append(parameter)
                sinks.append((add(graph.memory(array), grad), array, 0))
                facts.append((ATTRIBUTE, parameter, "_grad_storage", array))
        count = len(tensors)

        def with_penalty(values: Sequence[Any]) -> tuple[Any, float]:
            return rebuild(values[:count]), values[count] if penalties else 0.0

        marks = [(p, True) for p in reached]
        return Recipe([[*tensors, *penalties], []], with_penalty, sinks, facts=facts, marks=marks)

    def __fastnn_watch__(self, walk: Walk) -> None:
        """What of this module a trace depends on: see fastnn.lowering.watch."""
        for table in (self._parameters, self._buffers, self._modules, self._forward_pre_hooks, self._forward_hooks):
            walk.mapping(table, loud=True)
        library = is_library(type(self))
        for name in list(self.__dict__):
            if name not in _OWN and (library or name in ("training", "_is_frozen") or walk.selects(name)):
                # __setattr__ says so; but a user's code may go past it.
                walk.entry(self.__dict__, name, loud=library or name == "training")
        walk.keys(self.__dict__, loud=library)
        walk.object_of(self)

    # ---- copies: plans stay behind --------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in self.__dict__.items() if name not in _PASSING}
        for table in _TABLES:
            state[table] = dict(state[table])
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, _Table(value) if name in _OWN else value)
        self.__forget_programs()

    # ---- walking --------------------------------------------------------------------------------

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all below it, with dotted names, each once."""
        yield from self.__walk(prefix, set())

    def __walk(self, prefix: str, seen: set[int]) -> Iterator[tuple[str, Module]]:
        if id(self) in seen:
            return
        seen.add(id(self))
        yield prefix, self
        for name, module in self._modules.items():
            yield from module.__walk(f"{prefix}.{name}" if prefix else name, seen)

    def modules(self) -> Iterator[Module]:
        """This module and all below it, each once."""
        return (module for _, module in self.named_modules())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly below this one, with their names."""
        return iter(self._modules.items())

    def children(self) -> Iterator[Module]:
        """The modules directly below this one."""
        return iter(self._modules.values())

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """All parameters with dotted names, a shared one once."""
        seen: set[int] = set()
        for prefix, module in self.named_modules():
            for name, value in module._parameters.items():
                if id(value) not in seen:
                    seen.add(id(value))
                    yield (f"{prefix}.{name}" if prefix else name), value

    def parameters(self) -> Iterator[Parameter]:
        """All parameters, of this module and those below it, a shared one once: what an optimizer takes."""
        return (value for _, value in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Parameter]]:
        """All buffers, such as running statistics, with dotted names."""
        for prefix, module in self.named_modules():
            for name, value in module._buffers.items():
                yield (f"{prefix}.{name}" if prefix else name), value

    def buffers(self) -> Iterator[Parameter]:
        """All buffers, such as running statistics."""
        return (value for _, value in self.named_buffers())

    def apply(self, function: Callable[[Module], None]) -> Module:
        """Call `function` on this module and all below it, innermost first."""
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    # ---- modes ----------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Module:
        """Training mode: dropout drops, batch norm uses the batch's statistics. Frozen modules stay in
        evaluation mode."""
        tables = [m.__dict__ for m in self.modules() if not m._is_frozen and m.__dict__["training"] is not bool(mode)]
        if tables:
            commit([], [(table, "training", bool(mode)) for table in tables])
        return self

    def eval(self) -> Module:
        """Evaluation mode."""
        return self.train(False)

    def frozen(self) -> Module:
        """A copy for inference: in evaluation mode, its parameters and buffers read-only.

        What depends on them alone, such as weights in the order in which kernels read them, is then
        computed for the first batch of a size and kept, instead of in every call. It takes as much memory
        as the weights again, or up to twice that, and pays most for few samples a call. A frozen module
        may be part of one that is trained; its own parameters are not.

        Returns
        -------
        Module
            Independent of this one, which stays as it is.
        """
        module = copy.deepcopy(self).eval()
        for part in module.modules():
            object.__setattr__(part, "_is_frozen", True)
        for value in (*module.parameters(), *module.buffers()):
            value._freeze()
        return module

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        """Whether all parameters are trained."""
        if changes := [change for p in self.parameters() for change in p._trained(bool(requires_grad))]:
            commit([], [], changes)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Leave all parameters without a gradient: `grad` is None. With set_to_none=False, those that there are
        become 0."""
        zero_grads(self.parameters(), set_to_none)

    def to(self, dtype: Any) -> Module:
        """Convert all parameters and buffers to float32 or float64. Optimizers go along."""
        wanted = _check.floating("dtype", dtype)
        values = {id(v): v for v in (*self.parameters(), *self.buffers()) if v.dtype != wanted and v.dtype in FLOATS}
        if values:
            commit([], [], [change for value in values.values() for change in value._converted(wanted)])
        return self

    def float(self) -> Module:
        """Convert to float32."""
        return self.to(np.float32)

    def double(self) -> Module:
        """Convert to float64."""
        return self.to(np.float64)

    # ---- state ----------------------------------------------------------------------------------

    def __entries(self, prefix: str = "", path: tuple[Module, ...] = ()) -> Iterator[tuple[str, Parameter]]:
        """Parameters and buffers; what is shared, under each of its names."""
        for table in (self._parameters, self._buffers):
            for name, value in table.items():
                yield prefix + name, value
        for name, module in self._modules.items():
            if module not in path:
                yield from module.__entries(f"{prefix}{name}.", (*path, self))

    def state_dict(self) -> dict[str, np.ndarray[Any, Any]]:
        """Copies of all parameters and buffers under PyTorch's names, in PyTorch's shapes."""
        return {name: np.array(value.data, order="C") for name, value in self.__entries()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> tuple[list[str], list[str]]:
        """Copy values in.

        Parameters
        ----------
        state_dict : mapping of str to array
            Anything NumPy reads as an array; PyTorch's tensors among them.
        strict : bool
            Whether missing or unexpected names are errors.

        Returns
        -------
        missing, unexpected : list of str

        Raises
        ------
        ValueError
            If names (strict) or shapes do not fit, or a frozen part would get other values; nothing is changed
            then. Whatever happens, an interrupt included, all is copied or nothing.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"state_dict must be a mapping of names to arrays, got {type(state_dict).__name__}")
        own = dict(self.__entries())
        arrays = {name: _entry(name, value) for name, value in state_dict.items() if name in own}
        forms: dict[Any, Any] = {name: (array.dtype, array.shape) for name, array in arrays.items()}
        forms |= {name: None for name in state_dict if name not in own}
        self._check_fit("state_dict", forms, strict)
        commit(self._staged("state_dict", arrays))
        return [name for name in own if name not in state_dict], [name for name in state_dict if name not in own]

    def _check_fit(self, source: str, forms: Mapping[Any, Any], strict: bool) -> None:
        """ValueError unless tensors of these names, dtypes and shapes can be loaded."""
        own = dict(self.__entries())
        problems = []
        if strict:
            lacks, more = [name for name in own if name not in forms], [name for name in forms if name not in own]
            problems += [f"missing: {_check.some(lacks)}"] if lacks else []
            problems += [f"unexpected: {_check.some(more)}"] if more else []
        wrong = []
        for name in own.keys() & forms.keys():
            dtype, shape = forms[name]
            if dtype.kind not in "fiu":
                wrong.append(f"{name} has dtype {dtype}; expected {own[name].dtype}")
            elif shape != own[name].shape:
                wrong.append(f"{name} has shape {_check.brief(shape)}; expected {own[name].shape}")
        problems += [*sorted(wrong)[:8], *([f"{len(wrong) - 8} more do not fit"] if len(wrong) > 8 else [])]
        if problems:
            raise ValueError(f"{source} does not fit {type(self).__name__}: {'; '.join(problems)}")

    def _staged(self, source: str, arrays: Mapping[str, np.ndarray[Any, Any]]) -> list[tuple[Any, Any]]:
        """What `commit` copies to make the entries those arrays, which fit.

        What is read-only, since it is of a frozen part, has these values already, or ValueError says so.
        """
        own = {name: value for name, value in self.__entries() if name in arrays}
        memory = {id(_owner(value._storage)) for value in own.values()}
        copies = []
        for name, value in own.items():
            target, array = value._view(value._storage), arrays[name].astype(value.dtype, copy=False)
            if not target.flags.writeable:
                if array.shape != target.shape or array.tobytes() != target.tobytes():
                    raise ValueError(
                        f"{source} does not fit {type(self).__name__}: {name} is of a frozen module, which is "
                        "read-only, and has other values"
                    )
                continue
            # What is copied later must not have been written over by then.
            copies.append((target, array.copy() if id(_owner(array)) in memory else array))
        return copies

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state_dict as safetensors; the file is replaced as a whole or not at all.

        Its metadata hold a checksum, which `load` compares.
        """
        save_arrays(path, self.state_dict(), {MODEL: type(self).__name__}, digest=True)

    def load(self, path: str | os.PathLike[str], strict: bool = True) -> Module:
        """Read a state_dict from a safetensors file.

        Raises
        ------
        FileNotFoundError, ValueError
            If it is missing, damaged or does not fit; nothing is changed then. See SECURITY.md for files
            of strangers.
        """
        name = _check.path("path", path)

        # Before memory is taken for what the file holds.
        def check(forms: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
            if CHECKPOINT in metadata:
                raise ValueError(
                    f"{name} is a checkpoint, of a model with its optimizer: read it with "
                    "fn.load_checkpoint(path, model) or trainer.fit(resume=path)"
                )
            self._check_fit(name, forms, strict)

        arrays, _ = load_arrays(name, check)
        commit(self._staged(name, arrays))
        return self

    # ---- text -----------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """What stands between the parentheses of a layer's repr."""
        return ""

    def __repr__(self) -> str:
        lines = [f"  ({name}): " + repr(child).replace("\n", "\n  ") for name, child in self._modules.items()]
        extra = self.extra_repr()
        if not lines:
            return f"{type(self).__name__}({extra})"
        return "\n".join([f"{type(self).__name__}({extra}", *lines, ")"])

    def summary(self, *shape: Any, batch_size: int = 1) -> str:
        """A table of layers with output shapes and parameters, and the memory that inference takes.

        Parameters
        ----------
        *shape : int or tuple of int
            Sizes of one sample's input, without the batch; a tuple each where there are several.
        batch_size : int
        """
        batch = _check.size("batch_size", batch_size, 1)
        parameters = list(self.parameters())
        dtype = next((p.dtype for p in parameters if p.dtype.kind == "f"), np.dtype(np.float32))
        program = self.plan(*examples(shape, batch, dtype))
        # A batch of one has a program of its own, without an N in its sizes.
        calls = self.plan(*examples(shape, max(batch, 2), dtype)).graph.calls
        names = {id(m): name or type(self).__name__ for name, m in self.named_modules()}
        held = [*parameters, *self.buffers()]
        return summary(calls, names, parameters, held, program.batch, program.arena_bytes)


def _in_order(hooks: _Table) -> list[tuple[Callable[..., Any], bool]]:
    return [hooks[rank] for rank in sorted(hooks, key=int)]


def _entry(name: str, value: Any) -> np.ndarray[Any, Any]:
    """An entry of a state_dict, which may be a tensor of PyTorch, on any device and of bfloat16, which NumPy lacks."""
    try:
        if hasattr(value, "cpu"):
            value = value.detach().cpu()
            value = value.float() if str(value.dtype) == "torch.bfloat16" else value
        return np.asarray(_check.readable(name, value))
    except ValueError as error:
        raise ValueError(f"state_dict: {name} is no array: {error}") from None


def _owner(array: np.ndarray[Any, Any]) -> Any:
    """Whose memory a view shows."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array if array.base is None else array.base


def trained_parameters(graph: Graph) -> list[Parameter]:
    """The parameters to be trained that a graph reads, each once, in the order in which it does."""
    owners = dict.fromkeys(owner for owner, _ in graph.owners)
    return [p for p in owners if isinstance(p, Parameter) and p.requires_grad]
