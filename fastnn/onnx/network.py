"""Network: a module whose forward walks the nodes of an ONNX file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fastnn import _check
from fastnn.graph import Graph, Tensor
from fastnn.lowering.cache import Programs, Recipe
from fastnn.nn.module import Module
from fastnn.nn.parameter import Parameter
from fastnn.onnx import operators  # noqa: F401  (registers them)
from fastnn.onnx.calls import Calls, called
from fastnn.onnx.external import Unreadable
from fastnn.onnx.file import Diagram, read
from fastnn.onnx.run import Run, Source
from fastnn.onnx.static import bind, entries, part_equals

#: How many parts a name may have for modules to be made of them: others are there under the file's name alone.
DEEPEST_NAME = 32


def load(source: str | os.PathLike[str] | bytes) -> Network:
    """Read a network from an ONNX file.

    It needs the package onnx: `pip install "fastnn[onnx]"`. Operators of version 7 to the newest are read. What a file
    has in float16 or bfloat16 is computed in float32, and a warning says so.

    Parameters
    ----------
    source : str, path or bytes
        The file, or what is in it. Arrays beside the file are read from its folder alone.

    Returns
    -------
    Network
        A module: its parameters are the file's floating-point initializers, under their names, and can be trained at
        once. It is in evaluation mode, so that it computes what the file describes, with batch norm by running
        statistics and without dropout, also where the file was exported for training: call `train()` before it is
        trained.

    Raises
    ------
    FileNotFoundError, ValueError
        If it is missing, damaged, or has nodes that are not read: all of them are named.

    Examples
    --------
    >>> fn.onnx.save(model, "model.onnx", x[:4])
    >>> net = fn.onnx.load("model.onnx")
    >>> [(name, p.shape) for name, p in net.named_parameters()][:2]
    [('0.weight', (32, 784)), ('0.bias', (32,))]
    >>> step = fn.TrainStep(net.train(), nn.CrossEntropyLoss(), optim.SGD(net.parameters(), lr=0.1))
    >>> step(xb, yb) > step(xb, yb)
    True
    """
    diagram = read(source)
    try:
        network = Network(diagram)
    except Unreadable as error:
        raise Unreadable(f"{diagram.origin}: {error}") from None
    network.eval()
    return network


class Network(Module):
    """A network that was read from an ONNX file; `load` makes it.

    Called with arrays, in the file's order or by the file's names as keywords, it returns the file's outputs: an array,
    or a tuple of several, of the dtypes that the file says. Integers and bools are labels where they are looked up,
    and numbers where they are converted; where they decide shapes, or are computed with, the network is traced anew
    for other values. Where it is a part of something else (a training step, another module), integers that are computed
    with are held in float64, exactly up to 2**53, and those that decide shapes must be arrays.

    Attributes
    ----------
    input_names, output_names : tuple of str
        As the file has them.
    """

    def __init__(self, diagram: Diagram) -> None:
        super().__init__()
        part_equals(diagram)
        bind(diagram)
        self._source = Source(diagram)
        object.__setattr__(self, "input_names", tuple(p.name for p in diagram.inputs))
        for name, (parameter, is_state) in entries(diagram).items():
            _place(self, name, parameter, is_state)
            self._source.entries.append(name)
            self._source.dtypes.add(parameter.dtype)
        for name, count in diagram.state.counts.items():
            if name not in self._source.entries:
                _place(self, name, Parameter(np.asarray(count, np.int64), requires_grad=False), True)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Follow the nodes. Arguments are tensors, or arrays where their numbers are to be known."""
        given = self._source.in_order(args, kwargs)
        run = Run(
            self._source,
            {name: _find(self, name) for name in self._source.entries},
            self.training,
            called.network is self,
        )
        results = run.network(given)
        return results[0] if len(results) == 1 else tuple(results)

    def extra_repr(self) -> str:
        """Its inputs and outputs."""
        return f"{', '.join(self.input_names)} -> {', '.join(self.output_names)}"

    @property
    def input_shapes(self) -> tuple[tuple[int | None, ...] | None, ...]:
        """Shapes of the inputs, with the batch first; sizes that follow the data, and what the file leaves open, are
        None."""
        return tuple(p.shape for p in self._source.diagram.inputs)

    @property
    def operators(self) -> tuple[str, ...]:
        """What the nodes do, in the order in which they are computed."""
        return tuple(node.op for node in self._source.diagram.nodes)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs, as the file has them."""
        return tuple(p.name for p in self._source.diagram.outputs)

    def _programs_for(
        self, purpose: str, finish: Callable[[Graph, Any], Recipe], training: bool | None = None
    ) -> Programs:
        programs = Calls(self, self._source, finish, self._argument_names, training)
        self._programs[purpose] = programs
        return programs

    def _finish_infer(self, graph: Graph, result: Any) -> Recipe:
        recipe, declared = super()._finish_infer(graph, result), self._declared(result)
        return replace(recipe, rebuild=lambda values: declared(recipe.rebuild(values)))

    def _finish_train(self, graph: Graph, result: Any) -> Recipe:
        recipe, declared = super()._finish_train(graph, result), self._declared(result)

        def rebuild(values: Sequence[Any]) -> Any:
            result, penalty = recipe.rebuild(values)
            return declared(result), penalty

        return replace(recipe, rebuild=rebuild)

    def _declared(self, result: Any) -> Callable[[Any], Any]:
        """What makes arrays of the dtypes that the file says of a run's results: programs know floats and labels."""
        tensors = result if isinstance(result, tuple) else (result,)
        ports = self._source.diagram.outputs
        if len(tensors) != len(ports) or not all(isinstance(t, Tensor) for t in tensors):
            return lambda values: values  # of a hook's making
        dtypes = [t.dtype if p.dtype.kind == "f" else p.dtype for t, p in zip(tensors, ports, strict=True)]
        if len(dtypes) == 1:
            return lambda value: np.asarray(value).astype(dtypes[0], copy=False)
        return lambda values: tuple(np.asarray(v).astype(d, copy=False) for v, d in zip(values, dtypes, strict=True))


def _place(root: Module, name: str, parameter: Parameter, is_state: bool) -> None:
    """Give an entry its place: in modules that its name's parts make, or in the root where they do not."""
    parts = name.split(".")
    module = root
    if len(parts) <= DEEPEST_NAME and all(parts):
        for part in parts[:-1]:
            inner = module._modules.get(part)
            if inner is None:
                if part in module._parameters or part in module._buffers or part in dir(type(module)):
                    module, parts = root, [name]
                    break
                inner = Module()
                module.add_module(part, inner)
            module = inner
    else:
        parts = [name]
    if parts[-1] in module._modules:
        module, parts = root, [name]
    table = module._buffers if is_state else module._parameters
    table[parts[-1]] = parameter


def _find(module: Module, name: str) -> Any:
    """The entry of this name, wherever it has its place."""
    for table in (module._parameters, module._buffers):
        if name in table:
            return table[name]
    if name in module.derived:
        return module.derived[name](module)
    head, _, rest = name.partition(".")
    if rest and head in module._modules:
        return _find(module._modules[head], rest)
    raise ValueError(f"the network has no {_check.brief(name)} any more: assign a Parameter to it")
