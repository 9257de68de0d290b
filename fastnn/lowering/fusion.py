"""Rewrites that put work into the epilogue of the op that produces its data."""

from __future__ import annotations

from collections.abc import Iterable

from fastnn.graph import Graph, Node, Tensor
from fastnn.ops.activation import ACTIVATION, ACTIVATION_GRAD
from fastnn.ops.gemm import MATMUL


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
    """Activations, and gradients of activations, into the matrix product before them.

    Only where the product is read by nobody else: a value that the gradient needs stays.
    """
    readers = graph.consumers()
    protected = set(wanted)
    position = {node: i for i, node in enumerate(graph.nodes)}
    gone: set[Node] = set()
    for node in graph.nodes:
        if node.op not in (ACTIVATION, ACTIVATION_GRAD):
            continue
        source = node.inputs[0]
        product = source.node
        if (
            product.op is not MATMUL
            or product.attrs["act"] is not None
            or product.attrs["grad"] is not None
            or len(readers[source]) > 1
            or source in protected
            or product.stage != node.stage
        ):
            continue
        kind = (node.attrs["kind"], node.attrs["alpha"])
        if node.op is ACTIVATION:
            product.attrs["act"] = kind
        else:
            saved = node.inputs[1]
            if position[saved.node] > position[product]:
                continue
            product.attrs["grad"] = kind
            product.inputs.append(saved)
        product.outputs = node.outputs
        product.outputs[0].node = product
        gone.add(node)
    graph.nodes = [node for node in graph.nodes if node not in gone]
