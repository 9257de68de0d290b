"""Random numbers in programs: functions of (seed, step, place, position), so nothing is stored for them."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastnn_ext.random  # noqa: F401  (registers the native ops)
from fastnn.graph import Arguments, Emitter, Node, Op, OutputTypes, Tensor, active_graph, as_tensor
from fastnn.ops.arguments import check_float
from fastnn.ops.elementwise import add, affine, binary, mul, sub
from fastnn.ops.layout import behind_layout, to_nchw, to_nhwc
from fastnn.sizes import Shape, count, describe, same_shape


class Dropout(Op):
    """attrs: p, stream, inner, period (see fastnn_ext.random). Linear in x, so it is its own gradient."""

    name = "dropout"

    def infer(self, node: Node) -> OutputTypes:
        return [(node.inputs[0].shape, node.inputs[0].dtype)]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        return [active_graph().add(DROPOUT, [grads[0]], **node.attrs).output]  # type: ignore[list-item]

    def lower(self, node: Node, to: Emitter) -> None:
        to.emit(
            "dropout",
            y=node.output,
            x=node.inputs[0],
            state=to.random_state(),
            n=count(node.output.shape),
            **node.attrs,
            flops=count(node.output.shape),
        )


class Numbers(Op):
    """attrs: kind ("normal", "uniform"), shape, dtype, stream. Normal of mean 0 and deviation 1, or even in
    [0, 1)."""

    name = "random"
    sized = ("shape",)

    def infer(self, node: Node) -> OutputTypes:
        return [(node.attrs["shape"], node.attrs["dtype"])]

    def lower(self, node: Node, to: Emitter) -> None:
        n, stream = count(node.output.shape), node.attrs["stream"]
        kind, state = node.attrs["kind"], to.random_state()
        to.emit(kind, out=node.output, state=state, n=n, stream=stream, **STANDARD[kind], flops=n)


#: What the native ops draw: moved and scaled by further ops, whose operands may be tensors.
STANDARD: dict[str, Arguments] = {"normal": {"mean": 0.0, "std": 1.0}, "uniform": {"low": 0.0, "high": 1.0}}

DROPOUT = Dropout()
NUMBERS = Numbers()


def normal(shape: Shape, dtype: np.dtype[Any], mean: Any, std: Any) -> Tensor:
    """See fastnn.random.normal."""
    return _placed(add(mean, mul(_numbers("normal", shape, dtype), std)), shape)


def uniform(shape: Shape, dtype: np.dtype[Any], low: Any, high: Any) -> Tensor:
    """See fastnn.random.uniform."""
    u = _numbers("uniform", shape, dtype)
    if isinstance(low, (int, float)) and isinstance(high, (int, float)):
        return affine(u, high - low, low)
    low = as_tensor(low, like=u)
    return _placed(add(low, mul(u, sub(high, low))), shape)


def bernoulli(shape: Shape, dtype: np.dtype[Any], p: Any) -> Tensor:
    """See fastnn.random.bernoulli."""
    return _placed(binary(_numbers("uniform", shape, dtype), p, "less"), shape)


def _numbers(kind: str, shape: Shape, dtype: np.dtype[Any]) -> Tensor:
    return active_graph().add(NUMBERS, [], kind=kind, shape=tuple(shape), dtype=dtype, stream=_stream()).output


def _placed(x: Tensor, shape: Shape) -> Tensor:
    if not same_shape(x.shape, shape):
        raise ValueError(
            f"random numbers of shape {describe(shape)} were asked for; with the settings they are {describe(x.shape)}"
        )
    return x


def dropout(x: Any, p: float) -> Tensor:
    """x with each element kept with probability 1 - p and scaled by 1 / (1 - p), else 0."""
    x = as_tensor(x)
    check_float("dropout", x)
    return behind_layout(lambda t: _drop(t, p, 1, 0), x)


def dropout2d(x: Any, p: float) -> Tensor:
    """Dropout of whole channels of x (N, C, H, W)."""
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
    return graph.add(DROPOUT, [x], p=float(p), stream=_stream(), inner=inner, period=period).output


def _stream() -> int:
    """A stream of its own for what draws next."""
    return sum("stream" in node.attrs for node in active_graph().nodes)
