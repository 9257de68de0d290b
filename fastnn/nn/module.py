"""Module: parameters, submodules, and a `forward` that is traced once and run as a plan."""

from __future__ import annotations

import copy
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from fastnn.graph import FLOATS, Graph, Tensor, active_graph, is_tracing
from fastnn.lowering.call import build, flatten_result, to_array
from fastnn.lowering.gradients import gradients
from fastnn.lowering.program import Program
from fastnn.nn import parameter as parameters_
from fastnn.nn.parameter import Parameter, structure_changed
from fastnn.ops.base import INPUT
from fastnn.ops.elementwise import add


class Module:
    """Base of all layers and networks, as PyTorch's.

    A subclass assigns parameters and submodules in `__init__` (after `super().__init__()`) and writes
    `forward`. Called with arrays, a module runs as a plan and returns new arrays; called with tensors,
    inside another module's `forward`, it takes part in the trace.
    """

    training: bool
    _frozen = False
    #: What messages call the arguments of forward; where empty: input, or input[0], input[1], ...
    input_names: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        object.__setattr__(self, "_parameters", OrderedDict())
        object.__setattr__(self, "_buffers", OrderedDict())
        object.__setattr__(self, "_modules", OrderedDict())
        object.__setattr__(self, "_cache", _Programs(self))
        self.training = True

    # ---- attributes -----------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        if "_parameters" not in self.__dict__:
            raise AttributeError(f"call super().__init__() before assigning {type(self).__name__}.{name}")
        for table in (self._parameters, self._buffers, self._modules):
            table.pop(name, None)
        self.__dict__.pop(name, None)
        if isinstance(value, Parameter):
            self._parameters[name] = value
        elif isinstance(value, Module):
            self._modules[name] = value
        else:
            object.__setattr__(self, name, value)
        structure_changed()

    def __getattr__(self, name: str) -> Any:
        for table in ("_parameters", "_buffers", "_modules"):
            entries = self.__dict__.get(table, ())
            if name in entries:
                return entries[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __delattr__(self, name: str) -> None:
        for table in (self._parameters, self._buffers, self._modules):
            if name in table:
                del table[name]
                break
        else:
            object.__delattr__(self, name)
        structure_changed()

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._parameters, *self._buffers, *self._modules]

    def register_parameter(self, name: str, parameter: Parameter | None) -> None:
        """As assigning it; None says that the module goes without."""
        if parameter is None:
            object.__setattr__(self, name, None)
        else:
            setattr(self, name, parameter)

    def register_buffer(self, name: str, buffer: Parameter | np.ndarray[Any, Any]) -> None:
        """An array of the module's state that is not trained, such as running statistics."""
        entry = buffer if isinstance(buffer, Parameter) else Parameter(buffer, requires_grad=False)
        self.__dict__.pop(name, None)
        self._buffers[name] = entry
        structure_changed()

    def add_module(self, name: str, module: Module) -> None:
        """As assigning it; names may be any text without dots."""
        if not isinstance(module, Module):
            raise TypeError(f"{name} must be a Module, got {type(module).__name__}")
        if not isinstance(name, str) or "." in name or not name:
            raise ValueError(f"a module's name is text without dots, got {name!r}")
        setattr(self, name, module)

    # ---- running --------------------------------------------------------------------------------

    def forward(self, *args: Any) -> Any:
        """What the module computes, written with tensors. To be overridden."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def __call__(self, *args: Any) -> Any:
        """Compute outputs.

        Parameters
        ----------
        *args : array
            Inputs, float32 (float64 for a float64 model); the first dimension is the batch.

        Returns
        -------
        array, or tuple, list or dict of arrays
            What `forward` returns, as new arrays.

        Raises
        ------
        TypeError, ValueError
            If an argument's dtype or shape does not fit.
        """
        if is_tracing():
            result = self.forward(*args)
            active_graph().calls.append((self, result))
            return result
        return self._cache.infer(args)

    def forward_train(self, *args: Any) -> Any:
        """As a call, and keeps what `backward` needs."""
        return self._cache.forward_train(args)

    def backward(self, *grads: Any) -> None:
        """Add the gradients of the last `forward_train` to the parameters' `grad`.

        Parameters
        ----------
        *grads : array
            The gradient for each output, in order, of the output's shape and dtype.

        Raises
        ------
        RuntimeError
            Without a `forward_train` before it.
        """
        self._cache.backward(grads)

    def plan(self, *args: Any) -> Program:
        """The program that a call with these arguments runs: see its explain() and profile()."""
        return self._cache.inference_program(self._cache.arrays(args))[0]

    # ---- walking --------------------------------------------------------------------------------

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all below it, with dotted names, each once."""
        yield from self._walk(prefix, set())

    def _walk(self, prefix: str, seen: set[int]) -> Iterator[tuple[str, Module]]:
        if id(self) in seen:
            return
        seen.add(id(self))
        yield prefix, self
        for name, module in self._modules.items():
            yield from module._walk(f"{prefix}.{name}" if prefix else name, seen)

    def modules(self) -> Iterator[Module]:
        """This module and all below it, each once."""
        return (module for _, module in self.named_modules())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        return iter(self._modules.items())

    def children(self) -> Iterator[Module]:
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
        return (value for _, value in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Parameter]]:
        for prefix, module in self.named_modules():
            for name, value in module._buffers.items():
                yield (f"{prefix}.{name}" if prefix else name), value

    def buffers(self) -> Iterator[Parameter]:
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
        for module in self.modules():
            if module.training is not bool(mode) and not module._frozen:
                module.training = bool(mode)
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
            object.__setattr__(part, "_frozen", True)
        for value in (*module.parameters(), *module.buffers()):
            value._freeze()
        return module

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        """Whether all parameters are trained."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def zero_grad(self) -> None:
        """Set all gradients to zero."""
        for parameter in self.parameters():
            parameter.grad = None

    def to(self, dtype: Any) -> Module:
        """Convert all parameters and buffers to float32 or float64. Do it before making an optimizer."""
        wanted = np.dtype(dtype)
        if wanted not in FLOATS:
            raise TypeError(f"a model is float32 or float64, not {wanted}")
        for value in (*self.parameters(), *self.buffers()):
            if value.dtype != wanted and value.dtype in FLOATS:
                value._convert(wanted)
        return self

    def float(self) -> Module:
        """Convert to float32."""
        return self.to(np.float32)

    def double(self) -> Module:
        """Convert to float64."""
        return self.to(np.float64)

    # ---- state ----------------------------------------------------------------------------------

    def _entries(self) -> Iterator[tuple[str, Parameter]]:
        for prefix, module in self.named_modules():
            for table in (module._parameters, module._buffers):
                for name, value in table.items():
                    yield (f"{prefix}.{name}" if prefix else name), value

    def state_dict(self) -> dict[str, np.ndarray[Any, Any]]:
        """Copies of all parameters and buffers under PyTorch's names, in PyTorch's shapes."""
        return {name: np.array(value.data, order="C") for name, value in self._entries()}

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
            If names (strict) or shapes do not fit; nothing is changed then.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"state_dict must be a mapping of names to arrays, got {type(state_dict).__name__}")
        entries = dict(self._entries())
        missing = [name for name in entries if name not in state_dict]
        unexpected = [name for name in state_dict if name not in entries]
        problems = []
        if strict and missing:
            problems.append(f"missing: {', '.join(missing)}")
        if strict and unexpected:
            problems.append(f"unexpected: {', '.join(map(str, unexpected))}")
        arrays: dict[str, np.ndarray[Any, Any]] = {}
        for name, entry in entries.items():
            if name not in state_dict:
                continue
            value = state_dict[name]
            array = np.asarray(value.detach() if hasattr(value, "detach") else value)
            if array.dtype.kind not in "fiu":
                problems.append(f"{name} has dtype {array.dtype}; expected {entry.dtype}")
            elif array.shape != entry.shape:
                problems.append(f"{name} has shape {array.shape}; expected {entry.shape}")
            else:
                arrays[name] = array
        if problems:
            raise ValueError(f"state_dict does not fit {type(self).__name__}: {'; '.join(problems)}")
        for name, array in arrays.items():
            entries[name].data = array
        return missing, unexpected

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state_dict as safetensors; the file is replaced as a whole or not at all."""
        from fastnn.files import save_arrays

        save_arrays(path, self.state_dict(), {"fastnn.model": type(self).__name__})

    def load(self, path: str | os.PathLike[str], strict: bool = True) -> Module:
        """Read a state_dict from a safetensors file.

        Raises
        ------
        FileNotFoundError, ValueError
            If it is missing, damaged or does not fit; nothing is changed then.
        """
        from fastnn.files import load_arrays

        self.load_state_dict(load_arrays(path)[0], strict)
        return self

    # ---- text -----------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """What stands between the parentheses of a layer's repr."""
        return ""

    def __repr__(self) -> str:
        lines = [
            f"  ({name}): " + repr(child).replace("\n", "\n  ") for name, child in self._modules.items()
        ]
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
        from fastnn.nn.summary import summary

        return summary(self, shape, batch_size)

    def signature(self) -> tuple[Any, ...]:
        """What a plan of this module depends on besides shapes: modes, settings, where arrays lie."""
        parts: list[Any] = []
        for name, module in self.named_modules():
            settings = tuple(
                (k, v if isinstance(v, (int, float, str, bool, tuple, type(None))) else id(v))
                for k, v in sorted(module.__dict__.items())
                if not k.startswith("_")
            )
            own = tuple(
                (k, id(p._storage), id(p._grad_storage), p._requires_grad)
                for table in (module._parameters, module._buffers)
                for k, p in table.items()
            )
            parts.append((name, type(module), settings, own))
        return tuple(parts)


class _Programs:
    """The programs of one module, made at need and kept while they fit."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.version = -1
        self.signature: tuple[Any, ...] = ()
        self.made: dict[Any, tuple[Program, Callable[[Any], Any]]] = {}
        self.latest: tuple[Any, Callable[[Any], Any]] | None = None
        self.pending: Program | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> _Programs:
        return _Programs(memo[id(self.module)])

    def refresh(self) -> None:
        """Forget programs if the module, or what it consists of, has changed."""
        if self.version == parameters_.structure_version:
            return
        signature = self.module.signature()
        if signature != self.signature:
            self.signature = signature
            self.made.clear()
            self.latest = self.pending = None
        self.version = parameters_.structure_version

    def arrays(self, args: tuple[Any, ...]) -> list[np.ndarray[Any, Any]]:
        if not args:
            raise TypeError(f"{type(self.module).__name__} was called without an input")
        return [to_array(a, name) for a, name in zip(args, self.names(len(args)), strict=True)]

    def names(self, count: int) -> Sequence[str]:
        if len(self.module.input_names) == count:
            return self.module.input_names
        return ["input"] if count == 1 else [f"input[{i}]" for i in range(count)]

    def infer(self, args: tuple[Any, ...]) -> Any:
        self.refresh()
        if self.latest is not None:
            plan, rebuild = self.latest
            values = plan.try_run(*args)
            if values is not None:
                return rebuild(values)
        arrays = self.arrays(args)
        program, rebuild = self.inference_program(arrays)
        self.latest = program.plans[0], rebuild
        return rebuild(program.plans[0].run(*arrays))

    def inference_program(self, arrays: list[np.ndarray[Any, Any]]) -> tuple[Program, Callable[[Any], Any]]:
        self.refresh()

        def finish(graph: Graph, result: Any) -> tuple[Program, Callable[[Any], Any]]:
            tensors, rebuild = flatten_result(result, f"{type(self.module).__name__}.forward")
            return Program(graph, [tensors]), rebuild

        return self.program("infer", arrays, finish)

    def program(
        self,
        purpose: str,
        arrays: list[np.ndarray[Any, Any]],
        finish: Callable[[Graph, Any], tuple[Program, Callable[[Any], Any]]],
    ) -> tuple[Program, Callable[[Any], Any]]:
        """The program for a purpose and these arrays' shapes; any batch up to the largest seen."""
        key = (purpose, tuple((a.shape[1:], a.dtype.char, a.ndim) for a in arrays))
        batch = max((a.shape[0] for a in arrays if a.ndim), default=1)
        entry = self.made.get(key)
        if entry is not None and fits(entry[0], arrays):
            return entry
        exact = (*key, batch)
        if exact in self.made:
            return self.made[exact]
        entry = build(self.module, arrays, self.names(len(arrays)), finish)
        self.made[key if entry[0].batched else exact] = entry
        return entry

    def forward_train(self, args: tuple[Any, ...]) -> Any:
        self.refresh()
        arrays = self.arrays(args)
        for parameter in self.module.parameters():
            if parameter.requires_grad:
                parameter._gradient_storage()
        program, rebuild = self.program("train", arrays, self.finish_train)
        self.pending = None
        values = program.plans[0].run(*arrays)
        self.pending = program
        return rebuild(values)

    def finish_train(self, graph: Graph, result: Any) -> tuple[Program, Callable[[Any], Any]]:
        tensors, rebuild = flatten_result(result, f"{type(self.module).__name__}.forward")
        graph.stage = 1
        seeds: dict[Tensor, Tensor] = {}
        for k, tensor in enumerate(tensors):
            name = "dy" if len(tensors) == 1 else f"dy[{k}]"
            seed = graph.add(INPUT, (), name=name, shape=tensor.shape, dtype=tensor.dtype).output
            graph.inputs.append(seed)
            seeds[tensor] = add(seeds[tensor], seed) if tensor in seeds else seed
        sinks = []
        trained = [p for p in self.module.parameters() if p.requires_grad]
        leaves = [graph.memory(p._storage) for p in trained]
        for parameter, grad in zip(trained, gradients(graph, seeds, leaves), strict=True):
            if grad is not None:
                array = parameter._gradient_storage()
                sinks.append((add(graph.memory(array), grad), array, 0))
        return Program(graph, [tensors, []], sinks), rebuild

    def backward(self, grads: tuple[Any, ...]) -> None:
        self.refresh()
        if self.pending is None:
            raise RuntimeError("backward needs a forward_train of the unchanged model before it")
        arrays = [to_array(g, "dy" if len(grads) == 1 else f"dy[{i}]") for i, g in enumerate(grads)]
        program, self.pending = self.pending, None
        try:
            program.plans[1].run(*arrays)
        except (TypeError, ValueError):
            self.pending = program
            raise


def fits(program: Program, arrays: list[np.ndarray[Any, Any]]) -> bool:
    """Whether a program made for these sizes but the batch serves this batch too."""
    batch = arrays[0].shape[0] if arrays[0].ndim else 1
    return program.batched and batch <= program.batch
