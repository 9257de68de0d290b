"""Convolutions, and transposed ones."""

from __future__ import annotations

from typing import Any

from fastnn import _check
from fastnn.graph import Tensor
from fastnn.onnx.operator import Call, Ints, operator
from fastnn.onnx.operators.windows import settings, split, windows
from fastnn.ops import conv2d


def _order(input: str, shape: tuple[int, ...], attributes: dict[str, Any]) -> tuple[int, ...] | None:
    """Kernels read (*kernel, in, out); with groups no order of the dimensions gives that."""
    if input != "W" or len(shape) not in (3, 4) or attributes.get("group", 1) != 1:
        return None
    return (*range(2, len(shape)), 1, 0)


def _check_operands(X: Tensor, W: Tensor, kernel_shape: Ints | None) -> None:
    if X.ndim not in (3, 4) or W.ndim != X.ndim:
        raise ValueError(
            f"its input has {X.ndim} dimensions, its weight {W.ndim}; sequences and images are read, "
            "(N, C, L) and (N, C, H, W)"
        )
    if kernel_shape is not None and tuple(kernel_shape) != tuple(W.shape[2:]):
        raise ValueError(f"its kernel_shape is {_check.brief(kernel_shape)}, its weight has shape {tuple(W.shape)}")


@operator("Conv", 1, order=_order)
def conv(
    call: Call,
    X: Tensor,
    W: Tensor,
    B: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Ints | None = None,
    group: int = 1,
    kernel_shape: Ints | None = None,
    pads: Ints | None = None,
    strides: Ints | None = None,
) -> Tensor:
    """Cross-correlation with kernels."""
    _check_operands(X, W, kernel_shape)
    w = windows(X.shape[2:], W.shape[2:], strides, dilations, pads, auto_pad)
    group = _check.size("its group", group, 1)
    if X.ndim == 3:
        return conv2d.conv1d(X, W, B, w.strides, w.sides(0), w.dilations, group)
    return conv2d.conv2d(X, W, B, w.strides, w.sides(0, 1), w.dilations, group)


@operator("ConvTranspose", 1, order=_order)
def conv_transpose(
    call: Call,
    X: Tensor,
    W: Tensor,
    B: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Ints | None = None,
    group: int = 1,
    kernel_shape: Ints | None = None,
    output_padding: Ints | None = None,
    output_shape: Ints | None = None,
    pads: Ints | None = None,
    strides: Ints | None = None,
) -> Tensor:
    """The gradient of a convolution for its input."""
    _check_operands(X, W, kernel_shape)
    dims = X.ndim - 2
    kernel, steps, spread, around = settings(W.shape[2:], strides, dilations, pads, auto_pad)
    extra = _sizes("output_padding", output_padding or (0,) * dims, dims, 0)
    whole = [
        (n - 1) * s + (k - 1) * d + 1 + e
        for n, k, s, d, e in zip(X.shape[2:], kernel, steps, spread, extra, strict=True)
    ]
    if output_shape is not None:
        wanted = _sizes("output_shape", output_shape[-dims:], dims, 1)
    elif around is None:
        wanted = tuple(n * s for n, s in zip(X.shape[2:], steps, strict=True))
    if output_shape is not None or around is None:
        totals = [have - want for have, want in zip(whole, wanted, strict=True)]
        # What the kernels do not reach is added at the end.
        extra = tuple(e - min(total, 0) for e, total in zip(extra, totals, strict=True))
        around = split([max(total, 0) for total in totals], "SAME_UPPER" if auto_pad == "SAME_UPPER" else "")
    group = _check.size("its group", group, 1)
    sides = tuple(width for pair in around or () for width in pair)
    function = conv2d.conv_transpose1d if dims == 1 else conv2d.conv_transpose2d
    return function(X, W, B, steps, sides, extra, group, spread)


def _sizes(name: str, values: Ints, count: int, low: int) -> Ints:
    if len(values) != count:
        raise ValueError(f"its {name} holds {len(values)} numbers; expected {count}")
    return tuple(_check.size(f"its {name}", value, low) for value in values)
