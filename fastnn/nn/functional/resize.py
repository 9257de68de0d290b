"""Padding, and images of another size."""

from __future__ import annotations

import math
from typing import Any

from fastnn import _check
from fastnn.nn._eager import eager
from fastnn.ops import resize, shape


@eager("input")
def pad(input: Any, pad: tuple[int, ...], mode: str = "constant", value: float | None = None) -> Any:
    """More around the last dimensions.

    Parameters
    ----------
    input : (...)
    pad : tuple of int
        Before and after the last dimension, then the last but one, ...: (left, right, top, bottom)
        for images.
    mode : {"constant", "reflect", "replicate", "circular"}
        `value`; what a mirror at the last element shows, of widths less than the size; the last element again and
        again; or what stands at the other end, of widths up to the size.
    value : number, optional
        Of mode "constant"; 0 by default.

    Examples
    --------
    >>> F.pad(np.array([1.0, 2.0, 3.0]), (2, 1), "reflect")
    array([3., 2., 1., 2., 3., 2.])
    """
    if mode == "constant":
        return shape.constant_pad(input, pad, 0.0 if value is None else _number(value))
    if mode not in ("reflect", "replicate", "circular") or value not in (None, 0):
        raise ValueError(
            "pad: mode must be 'constant', to which alone value belongs, 'reflect', 'replicate' or 'circular', got "
            f"mode={mode!r}, value={value!r}"
        )
    return shape.edge_pad(input, pad, mode)


def _number(value: Any) -> float:
    """A float, which may be infinite or NaN."""
    value = _check.plain(value)
    return value if isinstance(value, float) and not math.isfinite(value) else _check.real("pad: value", value)


@eager("input")
def interpolate(
    input: Any,
    size: int | tuple[int, ...] | None = None,
    scale_factor: float | tuple[float, ...] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Any:
    """Sequences, images or volumes of another size.

    Parameters
    ----------
    input : (N, C, L), (N, C, H, W) or (N, C, D, H, W)
    size : int or tuple of int, optional
        The new size.
    scale_factor : number or tuple of numbers, optional
        What the sizes are multiplied by, and rounded down; give this or size.
    mode : {"nearest", "nearest-exact", "linear", "bilinear", "bicubic", "trilinear", "area"}
        Copies of the nearest element, the second rounding to the nearest centre; linear between neighbours of
        sequences, images or volumes; cubic (Keys, 1981, with a = -0.75); means of areas.
    align_corners : bool, optional
        Whether the centres of the first and last elements stay where they are, instead of their outer edges.
    recompute_scale_factor : bool, optional
        Whether the distance of elements follows from the rounded size and not from scale_factor.
    antialias : bool
        Whether a smaller image is made of means with bilinear or bicubic weights.

    Returns
    -------
    (N, C, *size)

    Examples
    --------
    >>> F.interpolate(np.array([[[0.0, 4.0]]]), size=4, mode="linear")
    array([[[0., 1., 3., 4.]]])
    """
    recompute = recompute_scale_factor is not None and _check.flag("recompute_scale_factor", recompute_scale_factor)
    return resize.interpolate(input, size, scale_factor, mode, align_corners, recompute, antialias)
