"""Layers that change the size of images: padding and Upsample."""

from __future__ import annotations

from typing import Any, ClassVar

from fastnn import _check
from fastnn.nn import functional as F
from fastnn.nn.module import Module
from fastnn.ops.resize import check_settings


class ZeroPad2d(Module):
    """Zeros around images (N, C, H, W).

    Parameters
    ----------
    padding : int or (left, right, top, bottom)
    """

    mode: ClassVar[str] = "constant"

    def __init__(self, padding: int | tuple[int, int, int, int]) -> None:
        super().__init__()
        sides = padding if isinstance(padding, (tuple, list)) else (padding,) * 4
        if len(sides) != 4:
            raise ValueError(f"padding must be an int or (left, right, top, bottom), got {padding!r}")
        self.padding = tuple(_check.size("padding", side, 0) for side in sides)

    def forward(self, input: Any) -> Any:
        return F.pad(input, self.padding, self.mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ReflectionPad2d(ZeroPad2d):
    """Images (N, C, H, W) mirrored at their first and last rows and columns, by less than their size.

    Parameters
    ----------
    padding : int or (left, right, top, bottom)

    Examples
    --------
    >>> nn.ReflectionPad2d((1, 2, 0, 0))(np.array([[[[1.0, 2.0, 3.0]]]], np.float32))
    array([[[[2., 1., 2., 3., 2., 1.]]]], dtype=float32)
    """

    mode = "reflect"


class ReplicationPad2d(ZeroPad2d):
    """Images (N, C, H, W) with their first and last rows and columns again and again.

    Parameters
    ----------
    padding : int or (left, right, top, bottom)

    Examples
    --------
    >>> nn.ReplicationPad2d((1, 2, 0, 0))(np.array([[[[1.0, 2.0]]]], np.float32))
    array([[[[1., 1., 2., 2., 2.]]]], dtype=float32)
    """

    mode = "replicate"


class CircularPad2d(ZeroPad2d):
    """Images (N, C, H, W) with what stands at the other end around them, up to their size.

    Parameters
    ----------
    padding : int or (left, right, top, bottom)

    Examples
    --------
    >>> nn.CircularPad2d((1, 0, 0, 0))(np.array([[[[1.0, 2.0]]]], np.float32))
    array([[[[2., 1., 2.]]]], dtype=float32)
    """

    mode = "circular"


class ConstantPad2d(ZeroPad2d):
    """A number around images (N, C, H, W).

    Parameters
    ----------
    padding : int or (left, right, top, bottom)
    value : float

    Examples
    --------
    >>> nn.ConstantPad2d((1, 0, 0, 0), 0.5)(np.array([[[[1.0, 2.0]]]], np.float32))
    array([[[[0.5, 1. , 2. ]]]], dtype=float32)
    """

    def __init__(self, padding: int | tuple[int, int, int, int], value: float) -> None:
        super().__init__(padding)
        self.value = _check.real("value", value)

    def forward(self, input: Any) -> Any:
        return F.pad(input, self.padding, self.mode, self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class Upsample(Module):
    """Sequences, images or volumes of another size; see F.interpolate.

    Parameters
    ----------
    size : int or tuple of int, optional
    scale_factor : number or tuple of numbers, optional
        Give this or size.
    mode : {"nearest", "nearest-exact", "linear", "bilinear", "bicubic", "trilinear", "area"}
    align_corners : bool, optional
        Of the linear and cubic modes: whether the centres of the first and last elements stay where they are.
    recompute_scale_factor : bool, optional

    Examples
    --------
    >>> nn.Upsample(scale_factor=2, mode="bilinear")(np.array([[[[0.0, 4.0]]]], np.float32))
    array([[[[0., 1., 3., 4.],
             [0., 1., 3., 4.]]]], dtype=float32)
    """

    def __init__(
        self,
        size: int | tuple[int, ...] | None = None,
        scale_factor: float | tuple[float, ...] | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ) -> None:
        super().__init__()
        if (size is None) == (scale_factor is None):
            raise ValueError(f"give either size or scale_factor, got size={size}, scale_factor={scale_factor}")
        check_settings(mode, align_corners, False)
        self.size = size
        self.scale_factor = scale_factor
        self.mode = mode
        self.align_corners = align_corners
        self.recompute_scale_factor = recompute_scale_factor

    def forward(self, input: Any) -> Any:
        return F.interpolate(
            input, self.size, self.scale_factor, self.mode, self.align_corners, self.recompute_scale_factor
        )

    def extra_repr(self) -> str:
        given = "size" if self.scale_factor is None else "scale_factor"
        return f"{given}={getattr(self, given)}, mode={self.mode!r}"
