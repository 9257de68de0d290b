"""Rewrites of a graph: elementwise work joins the op that makes its data, or moves to where there are fewer elements.

Each is a pass over a graph without dead nodes, and states what it needs through `Live`: that a value is
read by one node alone, is not wanted by the caller, and is made in the stage in which it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fastnn.graph import Graph, Node, Tensor, recording
from fastnn.ops.activation import ACTIVATION, ACTIVATION_GRAD, saves_output
from fastnn.ops.conv2d import CONV2D
from fastnn.ops.elementwise import BINARY, add, mul, neg, sub
from fastnn.ops.norm import BATCH_NORM_EVAL, BATCH_NORM_INVSTD
from fastnn.ops.pool2d import PoolGrad
from fastnn.sizes import same_shape


def remove_dead(graph: Graph, wanted: Iterable[Tensor]) -> None:
    """Drop nodes that nothing wanted depends on, and that change nothing which outlives the run."""
    live = set(wanted)
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if node.op.acts(node) or any(t in live for t in node.outputs):
            live.update(node.inputs)
            kept.append(node)
    graph.nodes = kept[::-1]


class Live:
    """A graph without dead nodes, and who reads what.

    Attributes
    ----------
    position : dict of Node to int
        Where each node stands.
    """

    def __init__(self, graph: Graph, wanted: Iterable[Tensor]) -> None:
        self.wanted = set(wanted)
        remove_dead(graph, self.wanted)
        self.readers = graph.consumers()
        self.position = {node: i for i, node in enumerate(graph.nodes)}

    def is_for(self, tensor: Tensor, reader: Node) -> bool:
        """Whether `reader` alone needs a tensor, once, in the stage that makes it."""
        return self.readers.get(tensor) == [reader] and tensor not in self.wanted and tensor.node.stage == reader.stage


def absorb(graph: Graph, wanted: Iterable[Tensor]) -> None:
    """Additions of a residual, then activations, into the norm or convolution before them.

    Runs before gradients are made: the gradient of an op covers what it absorbs (Op.absorbs). The op
    moves to where the addition stood, behind both operands.
    """
    live = Live(graph, wanted)
    position = live.position
    order: list[Node | None] = list(graph.nodes)

    def takes(tensor: Tensor, reader: Node, what: str) -> bool:
        producer = tensor.node
        return (
            what in producer.op.absorbs
            and producer.attrs["act"] is None
            and not (what == "residual" and producer.attrs["residual"])
            and producer.output is tensor
            and live.is_for(tensor, reader)
        )

    for i, node in enumerate(graph.nodes):
        if _is_addition(node):
            fit = [t for t in node.inputs if takes(t, node, "residual")]
            if not fit:
                continue
            source = max(fit, key=lambda t: position[t.node])
            producer = source.node
            producer.inputs.append(node.inputs[1] if node.inputs[0] is source else node.inputs[0])
            producer.attrs["residual"] = True
        elif _is_activation_by_output(node) and takes(node.inputs[0], node, "act"):
            producer = node.inputs[0].node
            producer.attrs["act"] = (node.attrs["kind"], node.attrs["settings"])
        else:
            continue
        _take_output(live, producer, node)
        order[position[producer]], order[i] = None, producer
        position[producer] = i
    graph.nodes = [node for node in order if node is not None]


def _is_addition(node: Node) -> bool:
    """Of two tensors of one shape."""
    return node.op is BINARY and node.attrs["kind"] == "add" and same_shape(node.inputs[0].shape, node.inputs[1].shape)


def _is_activation_by_output(node: Node) -> bool:
    """Whose gradient can be had from its output."""
    return node.op is ACTIVATION and saves_output(node.attrs["kind"], node.attrs["settings"])


def _take_output(live: Live, producer: Node, node: Node) -> None:
    """Let `producer` make what `node` made of its output, and read what `node` read beside it."""
    producer.outputs[0] = node.output
    node.output.node = producer
    for tensor in node.inputs:
        if node in live.readers.get(tensor, ()):
            live.readers[tensor] = [producer if reader is node else reader for reader in live.readers[tensor]]


def fold_batch_norms(graph: Graph, wanted: Iterable[Tensor]) -> None:
    """Batch norm by running statistics into the weights and the bias of the convolution before it.

    Only into weights that have not been scaled by another one. Each run makes the weights anew, as
    parameters may have changed: packing them multiplies.
    """
    live = Live(graph, wanted)
    nodes: list[Node | None] = []
    position: dict[Node, int] = {}
    for node in graph.nodes:
        source = node.inputs[0] if node.op is BATCH_NORM_EVAL else None
        if (
            source is not None
            and source.node.op is CONV2D
            and source.node.attrs["act"] is None
            and not source.node.attrs["residual"]
            and not source.node.attrs.get("scale")
            and live.is_for(source, node)
        ):
            conv = source.node
            nodes[position[conv]] = None
            nodes.extend(_fold(live, conv, node))
            node = conv
        position[node] = len(nodes)
        nodes.append(node)
    graph.nodes = [node for node in nodes if node is not None]


def _fold(live: Live, conv: Node, norm: Node) -> list[Node]:
    """Rewrites conv; returns the nodes that make its scale and its new bias."""
    scratch = Graph()
    scratch.stage = norm.stage
    with recording(scratch):
        (x, w), bias = conv.inputs[:2], conv.inputs[2:]
        _, mean, var, *rest = norm.inputs
        scale = scratch.add(BATCH_NORM_INVSTD, [var], eps=norm.attrs["eps"]).output
        shift = sub(bias[0], mean) if bias else neg(mean)
        if norm.attrs["affine"]:
            weight, beta, *rest = rest
            scale = mul(scale, weight)
            shift = add(mul(shift, scale), beta)
        else:
            shift = mul(shift, scale)
    _take_output(live, conv, norm)
    conv.inputs = [x, w, shift, *rest, scale]
    conv.attrs |= {"bias": True, "residual": norm.attrs["residual"], "act": norm.attrs["act"], "scale": True}
    return scratch.nodes


def mask_before_unpooling(graph: Graph, wanted: Iterable[Tensor]) -> None:
    """Let the gradient of an activation run before the gradient of the max pooling that follows the activation.

    In the forward pass: activation, then pooling. In the backward pass the pooling's gradient would spread dy over
    the large image first, and the activation's gradient then visit every pixel of it. As a pooled maximum is itself
    an output of the activation, the activation's gradient can be taken from it: on the small image, and often in the
    epilogue of the product that makes dy.
    """
    live = Live(graph, wanted)
    position = live.position
    for i, node in enumerate(graph.nodes):
        if node.op is not ACTIVATION_GRAD:
            continue
        grad, saved = node.inputs
        spread = grad.node
        if (
            not isinstance(spread.op, PoolGrad)
            or len(spread.inputs) < 2
            or spread.inputs[1].node.inputs[0] is not saved
            or not live.is_for(grad, node)
        ):
            continue
        dy, index = spread.inputs
        result = node.output
        node.inputs = [dy, index.node.output]
        node.outputs = [Tensor(node, 0, dy.shape, dy.dtype)]
        spread.inputs = [node.output, index]
        spread.outputs = [result]
        result.node = spread
        live.readers[dy] = [node if reader is spread else reader for reader in live.readers[dy]]
        live.readers[node.output] = [spread]
        at = position[spread]
        graph.nodes[at], graph.nodes[i] = node, spread
        position[node], position[spread] = at, i


def fuse_activations(graph: Graph, wanted: Iterable[Tensor]) -> None:
    """Activations, and gradients of activations, into the product or convolution before them.

    A value that the gradient needs, too, stays. An op says what its epilogue can take in `Op.epilogue`:
    "act", "grad" or both.
    """
    live = Live(graph, wanted)
    gone: set[Node] = set()
    for node in graph.nodes:
        if node.op not in (ACTIVATION, ACTIVATION_GRAD):
            continue
        slot = "act" if node.op is ACTIVATION else "grad"
        source = node.inputs[0]
        producer = source.node
        if (
            slot not in producer.op.epilogue
            or producer.attrs.get("act") is not None
            or producer.attrs.get("grad") is not None
            or producer.output is not source
            or not live.is_for(source, node)
        ):
            continue
        if slot == "grad":
            saved = node.inputs[1]
            if live.position[saved.node] > live.position[producer]:
                continue
            producer.inputs.append(saved)
        producer.attrs[slot] = (node.attrs["kind"], node.attrs["settings"])
        _take_output(live, producer, node)
        gone.add(node)
    graph.nodes = [node for node in graph.nodes if node not in gone]


#: In their order, behind the gradients; `absorb` runs before them.
PASSES: tuple[Callable[[Graph, Iterable[Tensor]], None], ...] = (
    remove_dead,
    fold_batch_norms,
    mask_before_unpooling,
    fuse_activations,
)
