"""Images and sequences of another size: each element is a weighted sum of a few neighbours, its taps.

Where an element lies among those of the input (its place) and which taps it has follow from sizes and settings alone,
so both are constants of a program: an axis is a gather and a product for each tap.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from fastnn import _check
from fastnn.graph import Tensor, as_tensor
from fastnn.ops.arguments import check_float
from fastnn.ops.elementwise import add, mul
from fastnn.ops.gemm import matmul
from fastnn.ops.index import index_select
from fastnn.ops.layout import broadcast_to, permute, reshape, swap
from fastnn.ops.pool2d import adaptive_pool1d, adaptive_pool2d
from fastnn.sizes import describe

Array = np.ndarray[Any, Any]

LARGEST = 2**22  #: of a resized dimension, whose taps lie in memory
FEW = 4  #: taps that are gathered one by one; of more, a product with a matrix takes less
MODES = {"linear": 3, "bilinear": 4, "bicubic": 4, "trilinear": 5}  # and the dimensions that each takes


class Taps(NamedTuple):
    """What a dimension is made of: where its taps are, and their weights, (size, taps); without them, of copies."""

    source: Array
    weight: Array | None = None


def taps_at(
    places: Array, size: int, kind: str, stretch: float = 1.0, a: float = -0.75, outside: str = "repeated"
) -> Taps:
    """Taps around places in a dimension of `size`.

    Parameters
    ----------
    places : (n,) of float64
    size : int
    kind : {"linear", "cubic"}
        Two neighbours, or four by Keys (1981).
    stretch : float
        How much wider the kernel is, to even out what a smaller image cannot show.
    a : float
        The cubic kernel's slope.
    outside : {"repeated", "left out"}
        What lies before the first element and behind the last: they again, or nothing.
    """
    reach = {"linear": 1.0, "cubic": 2.0}[kind] * stretch
    at = np.floor(places - reach)[:, None] + 1 + np.arange(math.ceil(2 * reach))
    t = np.abs(at - places[:, None]) / stretch
    if kind == "linear":
        weight = np.maximum(1 - t, 0)
    else:
        near = ((a + 2) * t - (a + 3)) * t * t + 1
        far = (((t - 5) * t + 8) * t - 4) * a
        weight = np.where(t <= 1, near, np.where(t < 2, far, 0))
    if outside == "left out":
        weight = np.where((at >= 0) & (at <= size - 1), weight, 0)
    if outside == "left out" or stretch != 1:
        weight = weight / weight.sum(1, keepdims=True)
    index = np.clip(at, 0, size - 1).astype(np.int64)
    used = weight.any(0)
    return Taps(index[:, used], weight[:, used])


def resample(x: Tensor, dims: Mapping[int, Taps]) -> Tensor:
    """x with each of the dimensions `dims` made of its taps."""
    last = x.ndim >= 3 and min(dims, default=0) >= 2  # channels-last, as convolutions have it
    y = permute(x, 0, *range(2, x.ndim), 1) if last else x
    for dim, taps in dims.items():
        y = _along(y, dim - last, taps)
    return permute(y, 0, y.ndim - 1, *range(1, y.ndim - 1)) if last else y


def _along(x: Tensor, dim: int, taps: Taps) -> Tensor:
    index, weight = taps
    size, n = x.shape[dim], len(index)
    if weight is None:
        places = index[:, 0]
        times = n // size
        if n == size * times and np.array_equal(places, np.arange(n) // times):  # each one repeated: no gather
            if times == 1:
                return x
            shape = (*x.shape[: dim + 1], times, *x.shape[dim + 1 :])
            repeated = broadcast_to(reshape(x, (*x.shape[: dim + 1], 1, *x.shape[dim + 1 :])), shape)
            return reshape(repeated, (*x.shape[:dim], n, *x.shape[dim + 1 :]))
        return index_select(x, dim, places)
    if index.shape[1] > FEW:
        matrix = np.zeros((n, size))
        np.add.at(matrix, (np.arange(n)[:, None], index), weight)
        return swap(matmul(swap(x, dim, -1), matrix.T.astype(x.dtype)), dim, -1)
    total: Any = None
    for tap in range(index.shape[1]):
        part = mul(
            index_select(x, dim, index[:, tap]),
            weight[:, tap].astype(x.dtype).reshape(-1, *[1] * (x.ndim - 1 - dim)),
        )
        total = part if total is None else add(total, part)
    return total  # type: ignore[no-any-return]


def interpolate(
    x: Any, size: Any, scale: Any, mode: str, align_corners: bool | None, recompute: bool, antialias: bool
) -> Tensor:
    """See fastnn.nn.functional.interpolate."""
    x = as_tensor(x)
    check_float("interpolate", x)
    check_settings(mode, align_corners, antialias)
    dims = MODES.get(mode)
    if not 3 <= x.ndim <= 5 or (dims is not None and x.ndim != dims):
        wanted = ("(N, C, L)", "(N, C, H, W)", "(N, C, D, H, W)")
        expected = ", ".join(wanted[:-1]) + f" or {wanted[-1]}" if dims is None else wanted[dims - 3]
        raise ValueError(f"interpolate: input has shape {describe(x.shape)}; expected {expected} for mode={mode!r}")
    old = x.shape[2:]
    sizes, scales = _sizes(old, size, scale)
    if mode == "area":
        if x.ndim == 5:
            raise ValueError("interpolate: mode='area' takes sequences and images, (N, C, L) or (N, C, H, W)")
        return adaptive_pool1d(x, sizes[0], "avg") if x.ndim == 3 else adaptive_pool2d(x, sizes, "avg")
    taps: dict[int, Taps] = {}
    for i, (before, after, factor) in enumerate(zip(old, sizes, scales, strict=True)):
        step = 1 / factor if factor is not None and not recompute else before / after
        taps[2 + i] = _taps(mode, before, after, step, bool(align_corners), antialias)
    return resample(x, taps)


def check_settings(mode: Any, align_corners: Any, antialias: Any) -> None:
    """ValueError or TypeError unless these settings of interpolate go together."""
    _check.choice("mode", mode, "nearest", "nearest-exact", "area", *MODES)
    if align_corners is not None and (_check.flag("align_corners", align_corners) or mode not in MODES):
        if mode not in MODES:
            raise ValueError(f"align_corners is a setting of {', '.join(MODES)}, not of {mode}")
    if _check.flag("antialias", antialias) and mode not in ("bilinear", "bicubic"):
        raise ValueError(f"antialias is a setting of bilinear and bicubic, not of {mode}")


def _sizes(old: tuple[int, ...], size: Any, scale: Any) -> tuple[tuple[int, ...], tuple[float | None, ...]]:
    """The new sizes, and the scales if they were given."""
    if (size is None) == (scale is None):
        raise ValueError(f"interpolate: give either size or scale_factor, got size={size}, scale_factor={scale}")
    given = scale if size is None else size
    sides = tuple(given) if isinstance(given, (tuple, list)) else (given,) * len(old)
    name = "scale_factor" if size is None else "size"
    if len(sides) != len(old):
        raise ValueError(f"interpolate: {name} must be one or {len(old)}, got {_check.brief(given)}")
    scales: tuple[float | None, ...] = (None,) * len(old)
    if size is None:
        factors = tuple(_check.positive("interpolate: scale_factor", side) for side in sides)
        new = tuple(math.floor(before * factor) for before, factor in zip(old, factors, strict=True))
        scales = factors
    else:
        new = tuple(_check.size("interpolate: size", side, 1) for side in sides)
    for before, after in zip(old, new, strict=True):
        check_size("interpolate", before, after)
    return new, scales


def check_size(what: str, before: int, after: int) -> None:
    """ValueError for a dimension that would be empty, or too large."""
    if not 1 <= after <= LARGEST:
        raise ValueError(
            f"{what}: a dimension of {before} would become {_check.brief(after)}; sizes are from 1 to {LARGEST}"
        )


def _taps(mode: str, before: int, after: int, step: float, align_corners: bool, antialias: bool) -> Taps:
    """PyTorch's, of a dimension; `step` is the distance of two elements in the input."""
    places = np.arange(after, dtype=np.float64)
    if mode in ("nearest", "nearest-exact"):
        places = np.floor((places + (0.5 if mode == "nearest-exact" else 0)) * step)
        return Taps(np.clip(places, 0, before - 1).astype(np.int64)[:, None])
    if align_corners:
        step = (before - 1) / (after - 1) if after > 1 else 0.0
        places = places * step
    else:
        places = (places + 0.5) * step - 0.5
    kind = "cubic" if mode == "bicubic" else "linear"
    if not antialias:
        return taps_at(places, before, kind)
    return taps_at(places, before, kind, max(step, 1.0), -0.5, "left out")
