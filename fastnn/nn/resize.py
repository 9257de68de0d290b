"""Layers that change the size of images: ZeroPad2d, Upsample."""

from __future__ import annotations

from typing import Any

from fastnn import _check
from fastnn.nn import functional as F
from fastnn.nn.module import Module


class ZeroPad2d(Module):
    """Zeros around images (N, C, H, W).

    Parameters
    ----------
    padding : int or (left, right, top, bottom)
    """

    def __init__(self, padding: int | tuple[int, int, int, int]) -> None:
        super().__init__()
        sides = padding if isinstance(padding, (tuple, list)) else (padding,) * 4
        if len(sides) != 4:
            raise ValueError(f"padding must be an int or (left, right, top, bottom), got {padding!r}")
        self.padding = tuple(_check.size("padding", side, 0) for side in sides)

    def forward(self, input: Any) -> Any:
        return F.pad(input, self.padding)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class Upsample(Module):
    """Larger images (N, C, H, W), each pixel repeated.

    Parameters
    ----------
    size : int or (height, width), optional
        The new size, a multiple of the old one.
    scale_factor : number or (height, width), optional
        How often each pixel is repeated along a side; give this or size.
    mode : "nearest"
    """

    def __init__(
        self,
        size: int | tuple[int, int] | None = None,
        scale_factor: float | tuple[float, float] | None = None,
        mode: str = "nearest",
    ) -> None:
        super().__init__()
        if (size is None) == (scale_factor is None):
            raise ValueError(f"give either size or scale_factor, got size={size}, scale_factor={scale_factor}")
        if mode != "nearest":
            raise ValueError(f"mode must be 'nearest', got {mode!r}")
        self.size = size
        self.scale_factor = scale_factor
        self.mode = mode

    def forward(self, input: Any) -> Any:
        return F.interpolate(input, self.size, self.scale_factor, self.mode)

    def extra_repr(self) -> str:
        given = "size" if self.scale_factor is None else "scale_factor"
        return f"{given}={getattr(self, given)}, mode={self.mode!r}"
