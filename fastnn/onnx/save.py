"""Networks as ONNX files."""

from __future__ import annotations

import inspect
import itertools
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fastnn import _check
from fastnn.config import __version__
from fastnn.files import write_atomically
from fastnn.graph import CONSTANT, INPUT, MEMORY, Graph, Node, Tensor
from fastnn.lowering.call import tensors_in, to_array
from fastnn.lowering.fusion import remove_dead
from fastnn.lowering.trace import Form, Trace
from fastnn.nn.module import Module
from fastnn.nn.parameter import Parameter
from fastnn.onnx import writers  # noqa: F401  (register themselves)
from fastnn.onnx.file import STATE
from fastnn.onnx.package import package
from fastnn.onnx.traced import traced
from fastnn.onnx.writer import WRITERS, Unwritable, Value, Writer
from fastnn.ops.layout import RESHAPE, TRANSPOSE
from fastnn.sizes import Dim, SpecialiseError

#: The oldest opset that is written, and the one that is written by default.
OLDEST, USUAL = 9, 18
#: What a file of protocol buffers holds, in bytes.
LARGEST_FILE = 2**31 - 1


def save(
    model: Module,
    path: str | os.PathLike[str],
    *example_inputs: Any,
    opset: int = USUAL,
    dynamic_batch: bool = True,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
) -> None:
    """Write a network as an ONNX file, which other systems run, and `fastnn.onnx.load` reads.

    The network is traced as for a call; parameters and buffers become initializers under their names. Dropout and
    batch norm stay nodes of their own, so that what reads the file can train on; a network that does anything else in
    training than in evaluation is written as it is in evaluation mode. Files hold no `detach`, nor running statistics
    that are averages of all batches (momentum=None), and no parameters that `forward` does not use. The model stays as
    it is.

    Parameters
    ----------
    model : Module
    path : path-like
        The file is replaced as a whole or not at all.
    *example_inputs : array
        Inputs as for a call, for their shapes and dtypes.
    opset : int, default 18
        The version of ONNX's operators, from 9 on. What an older one lacks is written in single steps.
    dynamic_batch : bool, default True
        Whether the file takes any batch: the first size of the first input, and of those that agree with it.
    input_names : sequence of str, optional
        By default what `forward` calls its arguments, or the file that the network was read from.
    output_names : sequence of str, optional
        One for each output, in order; by default "output", "output_1", ..., or the keys of a dict.

    Raises
    ------
    ImportError
        Without the onnx package: pip install "fastnn[onnx]".
    ValueError, TypeError
        If an argument does not fit; if the network cannot be written, naming each operation that ONNX lacks and where;
        or if it is another one for another batch.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10))
    >>> fn.onnx.save(model, "model.onnx", x[:4])
    >>> import onnx
    >>> [node.op_type for node in onnx.load("model.onnx").graph.node]
    ['Gemm', 'Relu', 'Gemm']
    """
    onnx = package("fastnn.onnx.save")
    _check.instance("model", model, Module)
    target = _check.path("path", path)
    opset = _opset(onnx, opset)
    dynamic = _check.flag("dynamic_batch", dynamic_batch)
    state = _State(model)
    arguments = _arguments(model, state, example_inputs, input_names)
    trace = traced(model, arguments, dynamic)
    _check_size(target, sum(array.nbytes for array in state.arrays()))
    data = _model(onnx, model, trace, state, opset, output_names).SerializeToString()
    _check_size(target, len(data))
    write_atomically(target, data)


def _check_size(target: str, size: int) -> None:
    if size > LARGEST_FILE:
        raise ValueError(
            f"{target} would take {size} bytes, and an ONNX file holds at most {LARGEST_FILE}: write the network in "
            "parts"
        )


def _opset(onnx: Any, opset: Any) -> int:
    newest = onnx.defs.onnx_opset_version()
    number = _check.integer("opset", opset)
    if not OLDEST <= number <= newest:
        raise ValueError(
            f"opset must lie in {OLDEST} ... {newest}, what the installed onnx package knows; got {number}"
        )
    return number


def _arguments(model: Module, state: _State, values: Sequence[Any], names: Sequence[str] | None) -> list[Form]:
    """What the network is traced with."""
    if not values:
        raise TypeError(
            "example_inputs: give an input for each argument of forward, as in save(model, path, x): its shape and "
            "dtype decide what is written"
        )
    if names is None:
        called = _free(_argument_names(model, len(values)), state.names)
    else:
        called = _named_by_user("input_names", names, len(values), state.names)
    arrays = [to_array(value, name) for name, value in zip(called, values, strict=True)]
    batch = arrays[0].shape[0] if arrays[0].ndim else None
    return [
        Form(name, array.shape, array.dtype, array.ndim > 0 and array.shape[0] == batch)
        for name, array in zip(called, arrays, strict=True)
    ]


def _argument_names(model: Module, count: int) -> list[str]:
    if len(model.input_names) == count:
        return list(model.input_names)
    parameters = list(inspect.signature(model.forward).parameters.values())[:count]
    if len(parameters) == count and all(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters):
        return [p.name for p in parameters]
    return _numbered("input", count)


def _numbered(name: str, count: int) -> list[str]:
    return [name if i == 0 else f"{name}_{i}" for i in range(count)]


def _free(names: Iterable[str], taken: Iterable[str]) -> list[str]:
    """The names, with numbers where they are taken."""
    used, result = set(taken), []
    for wish in names:
        name = next(name for i in itertools.count() if (name := f"{wish}_{i}" if i else wish) not in used)
        used.add(name)
        result.append(name)
    return result


def _named_by_user(what: str, names: Any, count: int, taken: Iterable[str]) -> list[str]:
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) and name for name in names):
        raise TypeError(f"{what} must be a list of names, got {_check.brief(names)}")
    if len(names) != count or len(set(names)) != count:
        raise ValueError(f"{what} must be {count} name(s), each another one; got {_check.brief(list(names))}")
    if clash := set(names).intersection(taken):
        raise ValueError(f"{what}: {min(clash)!r} is the name of a parameter, or of an input")
    return list(names)


def _output_names(result: Any, name: str = "") -> list[str]:
    """Keys of dicts, and numbers of what is in tuples and lists."""
    if isinstance(result, dict):
        parts = [(f"{name}_{key}" if name else str(key), value) for key, value in result.items()]
    elif isinstance(result, (tuple, list)):
        parts = list(zip(_numbered(name or "output", len(result)), result, strict=True))
    else:
        return [name or "output"]
    return [inner for key, value in parts for inner in _output_names(value, key)]


def _model(
    onnx: Any, model: Module, trace: Trace, state: _State, opset: int, output_names: Sequence[str] | None
) -> Any:
    """The ModelProto."""
    graph, tensors = trace.graph, trace.tensors
    remove_dead(graph, [*tensors, *graph.inputs])
    inputs = [tensor.node.attrs["name"] for tensor in graph.inputs]
    taken = {*inputs, *state.names}
    if output_names is None:
        own = getattr(model, "output_names", ())  # of a network that was read from a file
        usual = own if len(own) == len(tensors) and isinstance(own, tuple) else _output_names(trace.result)
        outputs = _free(usual, taken)
    else:
        outputs = _named_by_user("output_names", output_names, len(tensors), taken)
    reserved = [*inputs, *outputs, *state.names]
    paths = _paths(model, graph, state)
    w = Writer(onnx, opset, reserved, inputs[0], paths, graph.consumers(), state.stored, bool(graph.training))
    _write(w, graph, state, paths)
    results = [w.name(tensor) for tensor in tensors]
    nodes = _named(onnx, w.nodes, results, outputs, {*inputs, *state.used})
    helper = onnx.helper
    proto = helper.make_graph(
        nodes,
        type(model).__name__,
        [_form(w, name, tensor) for name, tensor in zip(inputs, graph.inputs, strict=True)],
        [_form(w, name, tensor) for name, tensor in zip(outputs, tensors, strict=True)],
    )
    imports = [helper.make_opsetid("", opset)]
    made = helper.make_model(
        proto,
        opset_imports=imports,
        ir_version=helper.find_min_ir_version_for(imports),
        producer_name="fastnn",
        producer_version=__version__,
        doc_string=f"{type(model).__name__}, written by fastnn {__version__}",
    )
    helper.set_model_props(made, {STATE: state.described()})
    for name, array in state.written():  # where they stay: networks are large
        tensor = made.graph.initializer.add()
        tensor.name, tensor.data_type = name, w.element_type(array.dtype)
        tensor.dims.extend(array.shape)
        tensor.raw_data = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    return made


class _State:
    """A model's parameters and buffers, and which of them are written.

    Attributes
    ----------
    names, used : set of str
    """

    def __init__(self, model: Module) -> None:
        self._model = model
        self._entries: dict[str, Parameter] = {}
        self._by_storage: dict[int, str] = {}
        for name, value in (*model.named_parameters(), *model.named_buffers()):
            self._entries[name] = value
            self._by_storage.setdefault(id(value._storage), name)
        self.names = set(self._entries)
        self.used: set[str] = set()

    def described(self) -> str:
        """What initializers do not say of themselves, as `fastnn.onnx.file.State` has it."""
        buffers = {id(value) for value in self._model.buffers()}
        used = [(name, value) for name, value in self._entries.items() if name in self.used]
        counts = {n: v for n, v in self._entries.items() if n not in self.used and v.dtype.kind == "i" and not v.shape}
        return json.dumps(
            {
                "buffers": [name for name, value in used if id(value) in buffers],
                "frozen": [name for name, value in used if id(value) not in buffers and not value.requires_grad],
                "counts": {name: int(value.data) for name, value in counts.items()},
            }
        )

    def name_of(self, array: Any) -> str | None:
        return self._by_storage.get(id(array))

    def stored(self, array: Any) -> str | None:
        """The initializer that holds a parameter's memory; None if the array is no parameter's."""
        name = self.name_of(array)
        if name is not None:
            self.used.add(name)
        return name

    def value(self, name: str) -> Value:
        entry = self._entries[name]
        return Value(name, entry.shape, entry._order)

    def arrays(self) -> Iterable[np.ndarray[Any, Any]]:
        return (entry._storage for entry in self._entries.values())

    def written(self) -> Iterable[tuple[str, np.ndarray[Any, Any]]]:
        return ((name, entry.data) for name, entry in self._entries.items() if name in self.used)


def _write(w: Writer, graph: Graph, state: _State, paths: Mapping[Node, str]) -> None:
    """Write all nodes; ValueError names those that cannot be."""
    problems = []
    for i, node in enumerate(graph.nodes):
        if node.outputs and all(t in w.values or t in w.masks for t in node.outputs):
            continue  # together with the one before it
        w.begin(node)
        if node.op is INPUT:
            w.put(node.output, node.attrs["name"])
        elif node.op is CONSTANT:
            w.put(node.output, w.constant(node.attrs["value"]))
        elif node.op is MEMORY:
            array = node.attrs["array"]
            name = state.stored(array)
            if name is None:
                w.put(node.output, w.constant(array))
            else:
                w.values[node.output] = state.value(name)
        else:
            try:
                if node.op.name not in WRITERS:
                    raise Unwritable(_reason(node))
                WRITERS[node.op.name](w, node)
            except (Unwritable, SpecialiseError) as error:
                reason = str(error) or "a size follows the batch where ONNX wants a number"
                problems.append(f"{reason} ({_where(graph.nodes[i:], paths)})")
                for tensor in node.outputs:
                    w.put(tensor, "")
    if problems:
        raise ValueError(f"the network cannot be written as ONNX of opset {w.opset}: {'; '.join(problems)}")


def _where(nodes: Sequence[Node], paths: Mapping[Node, str]) -> str:
    """Where the first of these nodes stands."""
    place, path = next(((i, paths[node]) for i, node in enumerate(nodes) if paths.get(node)), (0, ""))
    return f"{'before' if place else 'in'} {path.replace('/', '.')}" if path else "in forward"


def _reason(node: Node) -> str:
    if node.op.name == "callback":
        return f"{node.attrs['name']} computes with NumPy arrays"
    if node.op.name == "assign":
        return "a buffer is assigned to"
    return f"{node.op.name} has no counterpart"


def _paths(model: Module, graph: Graph, state: _State) -> Mapping[Node, str]:
    """The module that each node is of: the one whose parameters it reads, or whose result it is."""
    paths: dict[Node, str] = {}
    for node in graph.nodes:
        for tensor in node.inputs:
            name = state.name_of(_source(tensor).attrs.get("array"))
            if name is not None and node.op not in (TRANSPOSE, RESHAPE):
                paths.setdefault(node, name.rpartition(".")[0].replace(".", "/"))
    names = {id(module): name for name, module in model.named_modules()}
    for module, result in graph.calls:
        for tensor in tensors_in(result):
            paths.setdefault(_source(tensor), names.get(id(module), "").replace(".", "/"))
    return paths


def _source(tensor: Tensor) -> Node:
    """The node that made what a tensor shows."""
    node = tensor.node
    while node.op in (TRANSPOSE, RESHAPE):
        node = node.inputs[0].node
    return node


def _named(onnx: Any, nodes: list[Any], results: list[str], names: list[str], leaves: set[str]) -> list[Any]:
    """The nodes that the results depend on, whose last ones make outputs of these names."""
    renamed: dict[str, str] = {}
    more = []
    for result, name in zip(results, names, strict=True):
        if result in leaves or result in renamed:
            more.append(
                onnx.helper.make_node("Identity", [renamed.get(result, result)], [name], name=f"{name}/Identity")
            )
        else:
            renamed[result] = name
    live = {*results}
    kept = []
    for node in reversed(nodes):
        if live.intersection(node.output):
            live.update(node.input)
            kept.append(node)
    for node in kept:
        for values in (node.input, node.output):
            for i, value in enumerate(values):
                values[i] = renamed.get(value, value)
    return [*reversed(kept), *more]


def _form(w: Writer, name: str, tensor: Tensor) -> Any:
    dims = [_symbol(size) if isinstance(size, Dim) else int(size) for size in tensor.shape]
    return w.onnx.helper.make_tensor_value_info(name, w.element_type(tensor.dtype), dims)


def _symbol(size: Dim) -> str:
    text = "batch" if size.per_sample == 1 else f"{size.per_sample}*batch"
    return text + (f"{size.fixed:+d}" if size.fixed else "")
