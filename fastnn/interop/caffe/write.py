"""save_caffe: a network as a prototxt and a caffemodel."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fastnn import _check, nn
from fastnn.files import write_atomically
from fastnn.graph import INPUT, Graph, Node, Tensor, active_graph, recording
from fastnn.interop.caffe.proto import need_protobuf
from fastnn.interop.caffe.rules import FUNCTIONS, LAYERS, NODES
from fastnn.interop.caffe.writer import Unknown, Writer
from fastnn.interop.network import Apply, refusal
from fastnn.lowering.call import flatten_result, to_array
from fastnn.ops.layout import detach


def save_caffe(
    model: nn.Module, prototxt: str | os.PathLike[str], caffemodel: str | os.PathLike[str], *example: Any
) -> None:
    """Write a network for Caffe: what it consists of as a prototxt, its weights as a caffemodel.

    It needs protobuf: ``pip install "fastnn[interop]"``. Layers have the names of modules, with ``/`` for dots; batch
    norm becomes a BatchNorm and a Scale. Functions between modules are written, too, where Caffe has a layer for them:
    arithmetic of tensors of one shape, activations, pooling, concatenation, reshaping, softmax. A pool that rounds
    down, where that makes a difference, is given by ``round_mode``, which Caffe has since 2018.

    Parameters
    ----------
    model : Module
        As it is in evaluation mode; it stays as it is.
    prototxt, caffemodel : path-like
        Each file is replaced as a whole or not at all.
    *example : array
        Inputs as for a call, for their shapes.

    Raises
    ------
    ImportError
        Without protobuf.
    TypeError, ValueError
        If the network has parts that Caffe has no layer for; the message names each.

    Examples
    --------
    >>> net = nn.Sequential({"conv1": nn.Conv2d(1, 2, 3), "relu1": nn.ReLU()})
    >>> image = np.ones((1, 1, 5, 5), np.float32)
    >>> fn.interop.save_caffe(net, "net.prototxt", "net.caffemodel", image)
    >>> again = fn.interop.load_caffe("net.prototxt", "net.caffemodel")
    >>> bool((again(image) == net(image)).all())
    True
    """
    need_protobuf("save_caffe")
    _check.instance("model", model, nn.Module)
    paths = [_check.path("prototxt", prototxt), _check.path("caffemodel", caffemodel)]
    if not example:
        raise TypeError("save_caffe needs the model's inputs after the paths, for their shapes")
    from google.protobuf import text_format

    net = _written(model, [to_array(x, f"example[{i}]") for i, x in enumerate(example)]).net
    weights = net.SerializeToString()
    for layer in net.layer:
        layer.ClearField("blobs")
    write_atomically(paths[1], weights)
    write_atomically(paths[0], text_format.MessageToString(net).encode())


class _Call(NamedTuple):
    """A call of a module that is a layer of its own: the nodes from start to end are its."""

    start: int
    end: int
    module: nn.Module
    args: tuple[Any, ...]
    result: Any


def _written(model: nn.Module, arrays: Sequence[np.ndarray[Any, Any]]) -> Writer:
    twin = copy.deepcopy(model)
    names = {id(module): name.replace(".", "/") or type(module).__name__ for name, module in twin.named_modules()}
    calls: list[_Call] = []
    for module in dict.fromkeys(twin.modules()):
        if type(module) in LAYERS or (type(module) is Apply and module.function in FUNCTIONS):
            _listen(module, calls)
    graph = Graph(training=False)
    with recording(graph):
        inputs = [
            graph.add(INPUT, (), name=f"data{i or ''}", shape=a.shape, dtype=a.dtype, limit=0, ignore=-1).output
            for i, a in enumerate(arrays)
        ]
        outputs, _ = flatten_result(twin(*inputs), f"{type(model).__name__}.forward")
    w = Writer(type(model).__name__)
    for tensor in inputs:
        layer = w.add("Input", tensor.node.attrs["name"], [], [tensor])
        layer.input_param.shape.add().dim.extend(tensor.shape)
    problems = _walk(w, graph, outputs, calls, names)
    if problems:
        raise refusal(f"Caffe has no layers for parts of {type(model).__name__}", problems)
    # What no layer reads is an output, in the order of layers.
    blobs = [w.plain(t).blob for t in outputs]
    if blobs != [top for layer in w.net.layer for top in layer.top if layer.type != "Input" and top not in w.read]:
        for i, tensor in enumerate(outputs):
            w.add("Split", f"output{i or ''}", [tensor], [None])
    return w


def _listen(module: nn.Module, calls: list[_Call]) -> None:
    """Have the calls of a module, within the trace, come to the list."""
    starts: list[int] = []

    def before(_: nn.Module, args: Any) -> None:
        starts.append(len(active_graph().nodes))

    def after(module: nn.Module, args: Any, result: Any) -> Any:
        if isinstance(module, nn.Dropout):  # which does nothing in evaluation: a tensor that stands for it
            result = detach(result)
        calls.append(_Call(starts.pop(), len(active_graph().nodes), module, args, result))
        return result

    module.register_forward_pre_hook(before)
    module.register_forward_hook(after)


def _walk(
    w: Writer, graph: Graph, outputs: Sequence[Tensor], calls: Sequence[_Call], names: dict[int, str]
) -> list[str]:
    """Layers for all that the outputs depend on, in the order of the graph; what cannot be written is returned."""
    starts = {call.start: call for call in calls if call.end > call.start}
    callers = {node: call for call in starts.values() for node in graph.nodes[call.start : call.end]}
    live: set[Node] = set()
    todo = [t.node for t in outputs]
    while todo:
        node = todo.pop()
        if node not in live:
            live.add(node)
            # A graph looks through what only reshapes, which a module's layer reads.
            given = callers[node].args if node in callers else ()
            todo += [t.node for t in (*node.inputs, *given) if isinstance(t, Tensor)]
    problems: list[str] = []
    at = 0
    while at < len(graph.nodes):
        call, node = starts.get(at), graph.nodes[at]
        end = at + 1 if call is None else call.end
        what = node.op.name if call is None else f"{names[id(call.module)]} ({type(call.module).__name__})"
        try:
            if not live.isdisjoint(graph.nodes[at:end]):
                if call is None:
                    _node(w, node)
                else:
                    _call(w, call, names[id(call.module)])
        except (ValueError, TypeError) as error:
            w.failed.update(t for inner in graph.nodes[at:end] for t in inner.outputs)
            if not isinstance(error, Unknown):
                problems.append(f"{what}: {_check.brief(str(error), str)}")
        at = end
    return problems


def _node(w: Writer, node: Node) -> None:
    if node.op.name in NODES:
        NODES[node.op.name](w, node)
    elif node.op.name not in ("input", "memory", "constant", "transpose", "detach"):
        raise ValueError("it is no layer of Caffe's")


def _call(w: Writer, call: _Call, name: str) -> None:
    module, results = call.module, list(call.result) if isinstance(call.result, tuple) else [call.result]
    tensors = [x for x in call.args if isinstance(x, Tensor)]
    rule = FUNCTIONS[module.function] if isinstance(module, Apply) else LAYERS[type(module)]
    rule(w, module, name, tensors, results)
