"""Reverse-mode differentiation: appends to a graph the nodes that compute gradients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastnn.graph import CONSTANT, Graph, Tensor, active_graph
from fastnn.sizes import same_shape


def one(dtype: np.dtype) -> Tensor:
    """The gradient of a scalar for itself."""
    return active_graph().add(CONSTANT, (), value=np.ones((), dtype)).output


def gradients(graph: Graph, seeds: dict[Tensor, Tensor], wrt: Sequence[Tensor]) -> list[Tensor | None]:
    """Gradients of sum(output * seed) for each tensor of `wrt`; None where it has no influence.

    Only nodes between `wrt` and the seeds are walked, and each is told which of its inputs matter:
    a first layer computes no gradient for the data, a frozen one none for its weights.
    """
    forward = list(graph.nodes)
    reached = set(wrt)
    for node in forward:
        if any(t in reached for t in node.inputs):
            reached.update(node.outputs)
    total: dict[Tensor, Tensor] = {t: g for t, g in seeds.items() if t in reached}
    for node in reversed(forward):
        needs = [t in reached for t in node.inputs]
        grads = [total.get(t) for t in node.outputs]
        if not any(needs) or all(g is None for g in grads):
            continue
        for tensor, need, grad in zip(node.inputs, needs, node.op.vjp(node, grads, needs), strict=True):
            if grad is None or not need:
                continue
            assert same_shape(grad.shape, tensor.shape), f"{node}: gradient {grad} for {tensor}"
            total[tensor] = total[tensor] + grad if tensor in total else grad
    return [total.get(t) for t in wrt]
