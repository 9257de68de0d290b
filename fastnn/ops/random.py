"""Dropout. Its mask is a function of (seed, step, layer, position), so nothing is stored for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import fastnn_ext.random  # noqa: F401  (registers the native ops)
from fastnn.graph import Node, Tensor, active_graph, as_tensor, count, describe
from fastnn.ops.base import Op, Signature, check_float

if TYPE_CHECKING:
    from fastnn.lowering.builder import Builder


class Dropout(Op):
    """attrs: p, stream, inner, period (see fastnn_ext.random). Linear in x, so it is its own gradient."""

    name = "dropout"

    def infer(self, node: Node) -> Signature:
        return [(node.inputs[0].shape, node.inputs[0].dtype)]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        return [active_graph().add(DROPOUT, [grads[0]], **node.attrs).output]  # type: ignore[list-item]

    def lower(self, node: Node, to: Builder) -> None:
        to.emit(
            "dropout",
            outputs=node.outputs,
            inputs=[*node.inputs, to.random_state()],
            dims=[count(node.output.shape), node.attrs["inner"], node.attrs["stream"], node.attrs["period"]],
            scalars=[node.attrs["p"]],
            in_place=(0,),
        )

    def flops(self, node: Node) -> int:
        return count(node.output.shape)


DROPOUT = Dropout()


def dropout(x: Any, p: float) -> Tensor:
    """x with each element kept with probability 1 - p and scaled by 1 / (1 - p), else 0."""
    from fastnn.ops.shape import behind_layout

    x = as_tensor(x)
    check_float("dropout", x)
    return behind_layout(lambda t: _drop(t, p, 1, 0), x)


def dropout2d(x: Any, p: float) -> Tensor:
    """Dropout of whole channels of x (N, C, H, W)."""
    from fastnn.ops.conv2d import to_nchw, to_nhwc

    x = as_tensor(x)
    check_float("dropout2d", x)
    if x.ndim != 4:
        raise ValueError(f"dropout2d: input has shape {describe(x.shape)}; expected (N, C, H, W)")
    return to_nchw(_drop(to_nhwc(x), p, count(x.shape[2:]), x.shape[1]))


def _drop(x: Tensor, p: float, inner: int, period: int) -> Tensor:
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout: p must lie in 0 ... 1, got {p}")
    if p == 0.0:
        return x
    graph = active_graph()
    stream = sum(1 for node in graph.nodes if node.op is DROPOUT)
    return graph.add(DROPOUT, [x], p=float(p), stream=stream, inner=inner, period=period).output
