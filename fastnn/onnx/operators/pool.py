"""Pools, over windows and over everything, of any number of dimensions."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn import _check
from fastnn.graph import Tensor
from fastnn.onnx.operator import Call, Ints, Value, Whole, constant, operator
from fastnn.onnx.operators.windows import Windows, windows
from fastnn.ops import pool2d
from fastnn.ops.elementwise import cast, equal, where
from fastnn.ops.layout import broadcast_to, reshape, transpose
from fastnn.ops.reduce import reduce
from fastnn.ops.shape import constant_pad, stack
from fastnn.sizes import count

#: Taps of a window, and what all of them span, where the places of the largest values are made.
MOST_TAPS, MOST_REACH = 256, 1 << 20


def _images(X: Tensor, w: Windows, one: Callable[..., Tensor], two: Callable[..., Tensor]) -> Tensor:
    """X pooled by a function of sequences and one of images, two dimensions at a time and then one by one: what the
    windows of all dimensions give is what those of some give of what those of the others gave."""
    dims = X.ndim - 2
    if dims == 1:
        return one(X, w.kernel[0], w.strides[0], w.sides(0), w.dilations[0])
    last = (dims - 2, dims - 1)
    flat = reshape(X, (X.shape[0], count(X.shape[1:-2]), *X.shape[-2:]))
    y = two(flat, w.kernel[-2:], w.strides[-2:], w.sides(*last), w.dilations[-2:])
    y = reshape(y, (*X.shape[:-2], *y.shape[-2:]))
    for dim in range(dims - 2):
        order = [i for i in range(y.ndim) if i != dim + 2] + [dim + 2]
        moved = transpose(y, order)
        rows = reshape(moved, (y.shape[0], count(moved.shape[1:-1]), moved.shape[-1]))
        pooled = one(rows, w.kernel[dim], w.strides[dim], w.sides(dim), w.dilations[dim])
        pooled = reshape(pooled, (*moved.shape[:-1], pooled.shape[-1]))
        y = transpose(pooled, [order.index(i) for i in range(y.ndim)])
    return y


def _spatial(X: Tensor) -> tuple[int, ...]:
    if X.ndim < 3:
        raise ValueError(f"its input has {X.ndim} dimensions; expected (N, C, L, ...)")
    return X.shape[2:]


@operator("MaxPool", 1, raw="X")
def max_pool(
    call: Call,
    X: Value,
    *,
    kernel_shape: Ints,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Ints | None = None,
    pads: Ints | None = None,
    storage_order: int = 0,
    strides: Ints | None = None,
) -> Any:
    """The largest value of each window, and its place in the input."""
    if isinstance(X, Whole):
        numbers = cast(X.tensor, np.float64)
    elif isinstance(X, np.ndarray) and X.dtype.kind in "iu":
        numbers = constant(X.astype(np.float64))
    else:
        numbers = call.tensor(X)
    w = windows(_spatial(numbers), kernel_shape, strides, dilations, pads, auto_pad)
    y = _images(
        numbers,
        w,
        lambda x, k, s, p, d: pool2d.max_pool1d(x, k, s, p, d, bool(ceil_mode)),
        lambda x, k, s, p, d: pool2d.max_pool2d(x, k, s, p, d, bool(ceil_mode)),
    )
    result = y if X.dtype.kind == "f" else Whole(y, X.dtype, late=True)
    return (result, _places(numbers, w, y.shape[2:], bool(storage_order))) if call.wants(1) else result


def _places(x: Tensor, w: Windows, outputs: tuple[int, ...], columns_first: bool) -> Whole:
    """Where the largest value of each window lies in x as a row of numbers, each image by rows or by columns."""
    taps = list(itertools.product(*map(range, w.kernel)))
    if len(taps) > MOST_TAPS:
        raise ValueError(f"its output Indices is made for windows of at most {MOST_TAPS} taps, not {len(taps)}")
    sizes = x.shape[2:]
    each = list(zip(outputs, w.strides, w.kernel, w.dilations, strict=True))
    reach = [(o - 1) * s + (k - 1) * d + 1 for o, s, k, d in each]
    if max(reach) > MOST_REACH:
        raise ValueError(f"its output Indices is made for windows that span {MOST_REACH} at most, not {max(reach)}")
    around = [(p[0], max(r - p[0] - n, 0)) for p, r, n in zip(w.pads, reach, sizes, strict=True)]
    padded = constant_pad(x.detach(), tuple(width for pair in reversed(around) for width in pair), -np.inf)
    seen = []
    for tap in taps:
        steps = (slice(t * d, t * d + (o - 1) * s + 1, s) for t, (o, s, _, d) in zip(tap, each, strict=True))
        index: Any = (slice(None), slice(None), *steps)
        seen.append(padded[index])
    first = stack(seen, x.ndim).argmax(-1)
    strides = np.cumprod([1, *(sizes[:-1] if columns_first else sizes[:0:-1])])[:: 1 if columns_first else -1]
    offsets = np.array(taps) * w.dilations @ strides
    corner = sum(
        np.reshape((np.arange(o) * s - p[0]) * step, (-1, *[1] * (len(sizes) - 1 - i)))
        for i, (o, s, p, step) in enumerate(zip(outputs, w.strides, w.pads, strides, strict=True))
    )
    images = broadcast_to(constant(np.ones(1)), (count(x.shape[:2]),)).cumsum(0) - 1.0
    image = reshape(images * float(count(sizes)), (*x.shape[:2], *[1] * len(sizes)))
    within = reshape(constant(offsets.astype(np.float64)).take(first), first.shape)
    return Whole(within + np.asarray(corner, np.float64) + image, np.int64, late=True)


@operator("AveragePool", 1)
def average_pool(
    call: Call,
    X: Tensor,
    *,
    kernel_shape: Ints,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Ints | None = None,
    pads: Ints | None = None,
    strides: Ints | None = None,
) -> Tensor:
    """The mean of each window."""
    w = windows(_spatial(X), kernel_shape, strides, dilations, pads, auto_pad)
    return _means(X, w, bool(ceil_mode), bool(count_include_pad))


def _means(X: Tensor, w: Windows, ceil: bool, include: bool) -> Tensor:
    return _images(
        X,
        w,
        lambda x, k, s, p, d: pool2d.avg_pool1d(x, k, s, p, ceil, include, d),
        lambda x, k, s, p, d: pool2d.avg_pool2d(x, k, s, p, ceil, include, None, d),
    )


@operator("LpPool", 2)
def lp_pool(
    call: Call,
    X: Tensor,
    *,
    kernel_shape: Ints,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Ints | None = None,
    p: int = 2,
    pads: Ints | None = None,
    strides: Ints | None = None,
) -> Tensor:
    """The p-norm of each window."""
    w = windows(_spatial(X), kernel_shape, strides, dilations, pads, auto_pad)
    power = _check.size("its p", p, 1)
    sums = _images(
        _powers(X, power),
        w,
        lambda x, k, s, p, d: _row_sums(x, k, s, p, d, bool(ceil_mode)),
        lambda x, k, s, p, d: pool2d.avg_pool2d(x, k, s, p, bool(ceil_mode), False, 1, d),
    )
    return _root(sums, power)


def _row_sums(x: Tensor, kernel: int, stride: int, sides: Ints, dilation: int, ceil: bool) -> Tensor:
    """Sums over windows of a sequence, as an image one pixel high."""
    image = reshape(x, (x.shape[0], x.shape[1], 1, x.shape[2]))
    y = pool2d.avg_pool2d(image, (1, kernel), (1, stride), (0, 0, *sides), ceil, False, 1, (1, dilation))
    return reshape(y, (y.shape[0], y.shape[1], y.shape[3]))


def _powers(x: Tensor, p: int) -> Tensor:
    return x.square() if p == 2 else x.abs() if p == 1 else x.abs() ** p


def _root(sums: Tensor, p: int) -> Tensor:
    """sums ** (1 / p); at 0 its gradient is 0."""
    if p == 1:
        return sums
    none = equal(sums, 0.0)
    return where(none, 0.0, where(none, 1.0, sums) ** (1 / p))


@operator("GlobalAveragePool", 1)
def global_average_pool(call: Call, X: Tensor) -> Tensor:
    """The mean of each channel."""
    if X.ndim == 4:
        return pool2d.adaptive_pool2d(X, 1, "avg")
    return reduce(X, "mean", tuple(range(2, len(_spatial(X)) + 2)), keepdim=True)


@operator("GlobalMaxPool", 1)
def global_max_pool(call: Call, X: Tensor) -> Tensor:
    """The largest value of each channel."""
    if X.ndim == 4:
        return pool2d.adaptive_pool2d(X, 1, "max")
    return reduce(X, "max", tuple(range(2, len(_spatial(X)) + 2)), keepdim=True)


@operator("GlobalLpPool", 2)
def global_lp_pool(call: Call, X: Tensor, *, p: int = 2) -> Tensor:
    """The p-norm of each channel."""
    power = _check.size("its p", p, 1)
    return _root(reduce(_powers(X, power), "sum", tuple(range(2, len(_spatial(X)) + 2)), keepdim=True), power)
