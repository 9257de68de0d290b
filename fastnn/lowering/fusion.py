"""Rewrites that put work into the op that makes its data, or to where there is less of it."""

from __future__ import annotations

from collections.abc import Iterable

from fastnn.graph import Graph, Node, Tensor, recording, same_shape
from fastnn.ops.activation import ACTIVATION, ACTIVATION_GRAD, saves_output
from fastnn.ops.conv2d import CONV2D
from fastnn.ops.elementwise import BINARY, add, mul, neg, sub
from fastnn.ops.norm import BATCH_NORM_EVAL, BATCH_NORM_INVSTD
from fastnn.ops.pool2d import PoolGrad


def live_nodes(graph: Graph, wanted: Iterable[Tensor]) -> list[Node]:
    """The nodes that something wanted depends on, in their order."""
    live = set(wanted)
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if any(t in live for t in node.outputs):
            live.update(node.inputs)
            kept.append(node)
    return kept[::-1]


def remove_dead(graph: Graph, wanted: Iterable[Tensor]) -> None:
    """Drop nodes that nothing wanted depends on."""
    graph.nodes = live_nodes(graph, wanted)


def absorb(graph: Graph, wanted: Iterable[Tensor]) -> None:
    """Additions of a residual, then activations, into the norm or convolution before them.

    Runs before gradients are made: the gradient of an op covers what it absorbs (Op.absorbs). The op
    moves to where the addition stood, behind both operands.
    """
    protected = set(wanted)
    readers: dict[Tensor, int] = {}
    for node in live_nodes(graph, protected):
        for tensor in node.inputs:
            readers[tensor] = readers.get(tensor, 0) + 1
    position = {node: i for i, node in enumerate(graph.nodes)}
    order: list[Node | None] = list(graph.nodes)

    def takes(tensor: Tensor, what: str) -> bool:
        producer = tensor.node
        return (
            what in producer.op.absorbs
            and producer.attrs["act"] is None
            and not (what == "residual" and producer.attrs["residual"])
            and producer.output is tensor
            and readers.get(tensor) == 1
            and tensor not in protected
        )

    for i, node in enumerate(graph.nodes):
        if _is_addition(node):
            fit = [t for t in node.inputs if takes(t, "residual")]
            if not fit:
                continue
            source = max(fit, key=lambda t: position[t.node])
            producer = source.node
            producer.inputs.append(node.inputs[1 - node.inputs.index(source)])
            producer.attrs["residual"] = True
        elif _is_activation_by_output(node) and takes(node.inputs[0], "act"):
            producer = node.inputs[0].node
            producer.attrs["act"] = (node.attrs["kind"], node.attrs["alpha"])
        else:
            continue
        _take_output(producer, node)
        order[position[producer]], order[i] = None, producer
        position[producer] = i
    graph.nodes = [node for node in order if node is not None]


def _is_addition(node: Node) -> bool:
    """Of two tensors of one shape."""
    return (
        node.op is BINARY
        and node.attrs["kind"] == "add"
        and same_shape(node.inputs[0].shape, node.inputs[1].shape)
    )


def _is_activation_by_output(node: Node) -> bool:
    """Whose gradient can be had from its output."""
    return node.op is ACTIVATION and saves_output(node.attrs["kind"], node.attrs["alpha"])


def _take_output(producer: Node, node: Node) -> None:
    """Let `producer` make what `node` made of its output."""
    producer.outputs[0] = node.output
    node.output.node = producer


def fold_batch_norms(graph: Graph, wanted: Iterable[Tensor]) -> None:
    """Batch norm by running statistics into the weights and the bias of the convolution before it.

    Each run makes the weights anew, as parameters may have changed: packing them multiplies.
    """
    readers = graph.consumers()
    protected = set(wanted)
    nodes: list[Node | None] = []
    position: dict[Node, int] = {}
    for node in graph.nodes:
        source = node.inputs[0] if node.op is BATCH_NORM_EVAL else None
        if (
            source is not None
            and source.node.op is CONV2D
            and source.node.attrs["act"] is None
            and not source.node.attrs["residual"]
            and len(readers[source]) == 1
            and source not in protected
            and source.node.stage == node.stage
        ):
            conv = source.node
            nodes[position[conv]] = None
            nodes.extend(_fold(graph, conv, node))
            node = conv
        position[node] = len(nodes)
        nodes.append(node)
    graph.nodes = [node for node in nodes if node is not None]


def _fold(graph: Graph, conv: Node, norm: Node) -> list[Node]:
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
    conv.inputs = [x, w, shift, *rest, scale]
    conv.attrs |= {"bias": True, "residual": norm.attrs["residual"], "act": norm.attrs["act"], "scale": True}
    _take_output(conv, norm)
    return scratch.nodes


def mask_before_unpooling(graph: Graph, wanted: Iterable[Tensor]) -> None:
    """The gradient of an activation moves before that of the max pooling which follows it.

    There are fewer elements there, and often the epilogue of a product; and a maximum is one of the
    activation's outputs, so that it tells what they tell.
    """
    readers = graph.consumers()
    protected = set(wanted)
    position = {node: i for i, node in enumerate(graph.nodes)}
    for i, node in enumerate(graph.nodes):
        if node.op is not ACTIVATION_GRAD:
            continue
        grad, saved = node.inputs
        spread = grad.node
        if (
            not isinstance(spread.op, PoolGrad)
            or len(spread.inputs) < 2
            or spread.inputs[1].node.inputs[0] is not saved
            or len(readers[grad]) > 1
            or grad in protected
            or spread.stage != node.stage
        ):
            continue
        dy, index = spread.inputs
        result = node.output
        node.inputs = [dy, index.node.output]
        node.outputs = [Tensor(node, 0, dy.shape, dy.dtype)]
        spread.inputs = [node.output, index]
        spread.outputs = [result]
        result.node = spread
        at = position[spread]
        graph.nodes[at], graph.nodes[i] = node, spread
        position[node], position[spread] = at, i


def fuse_activations(graph: Graph, wanted: Iterable[Tensor]) -> None:
    """Activations, and gradients of activations, into the product or convolution before them.

    Only where the producer is read by nobody else: a value that the gradient needs stays. An op says
    what its epilogue can take in `Op.epilogue`: "act", "grad" or both.
    """
    readers = graph.consumers()
    protected = set(wanted)
    position = {node: i for i, node in enumerate(graph.nodes)}
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
            or len(readers[source]) > 1
            or source in protected
            or producer.stage != node.stage
        ):
            continue
        if slot == "grad":
            saved = node.inputs[1]
            if position[saved.node] > position[producer]:
                continue
            producer.inputs.append(saved)
        producer.attrs[slot] = (node.attrs["kind"], node.attrs["alpha"])
        _take_output(producer, node)
        gone.add(node)
    graph.nodes = [node for node in graph.nodes if node not in gone]
