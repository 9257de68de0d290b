"""Padding, and repeating pixels."""

from __future__ import annotations

from typing import Any

from fastnn.nn._eager import eager
from fastnn.ops import shape


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
        Zeros; what a mirror at the last element shows, of widths less than the size; the last element again and again;
        or what stands at the other end, of widths up to the size.
    value : 0

    Examples
    --------
    >>> F.pad(np.array([1.0, 2.0, 3.0]), (2, 1), "reflect")
    array([3., 2., 1., 2., 3., 2.])
    """
    if mode == "constant" and value in (None, 0):
        return shape.zero_pad(input, pad)
    if mode not in ("reflect", "replicate", "circular") or value not in (None, 0):
        raise ValueError(
            "pad: mode must be 'constant' (of zeros), 'reflect', 'replicate' or 'circular', got "
            f"mode={mode!r}, value={value!r}"
        )
    return shape.edge_pad(input, pad, mode)


@eager("input")
def interpolate(
    input: Any,
    size: int | tuple[int, int] | None = None,
    scale_factor: float | tuple[float, float] | None = None,
    mode: str = "nearest",
) -> Any:
    """Larger images (N, C, H, W), each pixel repeated.

    Parameters
    ----------
    input : (N, C, H, W)
    size : int or (height, width), optional
        The new size, a multiple of the old one.
    scale_factor : number or (height, width), optional
        How often each pixel is repeated along a side; give this or size.
    mode : "nearest"

    Returns
    -------
    (N, C, H * scale_factor, W * scale_factor)
    """
    if mode != "nearest":
        raise ValueError(f"interpolate: mode must be 'nearest', got {mode!r}")
    return shape.upsample(input, size, scale_factor)
