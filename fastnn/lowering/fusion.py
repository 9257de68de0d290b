"""Rewrites that put work into the epilogue of the op that produces its data."""

from __future__ import annotations

from collections.abc import Iterable

from fastnn.graph import Graph, Node, Tensor
from fastnn.ops.activation import ACTIVATION, ACTIVATION_GRAD


def remove_dead(graph: Graph, wanted: Iterable[Tensor]) -> None:
    """Drop nodes that nothing wanted depends on."""
    live = set(wanted)
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if any(t in live for t in node.outputs):
            live.update(node.inputs)
            kept.append(node)
    graph.nodes = kept[::-1]


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
        producer.outputs = node.outputs
        producer.outputs[0].node = producer
        gone.add(node)
    graph.nodes = [node for node in graph.nodes if node not in gone]
