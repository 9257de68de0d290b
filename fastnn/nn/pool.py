"""Pooling layers; fastnn.nn.functional has them as functions, with their formulas."""

from __future__ import annotations

from typing import Any

from fastnn import _check
from fastnn.nn import functional as F
from fastnn.nn.module import Module
from fastnn.ops.arguments import ends, pair, sides, single


def _is_row(value: Any, length: int) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == length


class _Pool(Module):
    """What windowed pooling layers share: what their repr shows."""

    def extra_repr(self) -> str:
        shown = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
        return ", ".join(f"{k}={getattr(self, k)}" for k in shown if hasattr(self, k))


class MaxPool2d(_Pool):
    """The largest value of each window of each channel.

    Parameters
    ----------
    kernel_size : int or (height, width)
    stride : int or (height, width), optional
        kernel_size by default.
    padding : int, (height, width) or (top, bottom, left, right), default 0
        At most half of the kernel, of four less than all of it; never the largest.
    dilation : int or (height, width), default 1
    ceil_mode : bool, default False
        Whether a last window may reach beyond the padded input, if it begins inside of it.
    """

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: int | tuple[int, ...] = 0,
        dilation: int | tuple[int, int] = 1,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size = pair(kernel_size, "kernel_size", 1)
        self.stride = self.kernel_size if stride is None else pair(stride, "stride", 1)
        self.padding = sides(padding, "padding") if _is_row(padding, 4) else pair(padding, "padding", 0)
        self.dilation = pair(dilation, "dilation", 1)
        self.ceil_mode = _check.flag("ceil_mode", ceil_mode)

    def forward(self, input: Any) -> Any:
        return F.max_pool2d(input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)


class MaxPool1d(_Pool):
    """The largest value of each window of each channel of sequences (N, C, L); see MaxPool2d."""

    def __init__(
        self,
        kernel_size: int | tuple[int],
        stride: int | tuple[int] | None = None,
        padding: int | tuple[int, ...] = 0,
        dilation: int | tuple[int] = 1,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size = single(kernel_size, "kernel_size", 1)
        self.stride = self.kernel_size if stride is None else single(stride, "stride", 1)
        self.padding = ends(padding, "padding") if _is_row(padding, 2) else single(padding, "padding", 0)
        self.dilation = single(dilation, "dilation", 1)
        self.ceil_mode = _check.flag("ceil_mode", ceil_mode)

    def forward(self, input: Any) -> Any:
        return F.max_pool1d(input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)


class AvgPool2d(_Pool):
    """The mean of each window of each channel.

    Parameters
    ----------
    kernel_size : int or (height, width)
    stride : int or (height, width), optional
        kernel_size by default.
    padding : int, (height, width) or (top, bottom, left, right), default 0
        Zeros around the input; at most half of the kernel, of four less than all of it.
    ceil_mode : bool, default False
        Whether a last window may reach beyond the padded input, if it begins inside of it.
    count_include_pad : bool, default True
        Whether pixels of the padding count in the mean.
    divisor_override : int, optional
        What sums are divided by instead of the number of pixels.
    """

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: int | tuple[int, ...] = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        self.kernel_size = pair(kernel_size, "kernel_size", 1)
        self.stride = self.kernel_size if stride is None else pair(stride, "stride", 1)
        self.padding = sides(padding, "padding") if _is_row(padding, 4) else pair(padding, "padding", 0)
        self.ceil_mode = _check.flag("ceil_mode", ceil_mode)
        self.count_include_pad = _check.flag("count_include_pad", count_include_pad)
        if divisor_override is not None:
            divisor_override = _check.integer("divisor_override", divisor_override, 1)
        self.divisor_override = divisor_override

    def forward(self, input: Any) -> Any:
        return F.avg_pool2d(
            input, self.kernel_size, self.stride, self.padding, self.ceil_mode,
            self.count_include_pad, self.divisor_override,
        )  # fmt: skip


class AvgPool1d(_Pool):
    """The mean of each window of each channel of sequences (N, C, L); see AvgPool2d."""

    def __init__(
        self,
        kernel_size: int | tuple[int],
        stride: int | tuple[int] | None = None,
        padding: int | tuple[int, ...] = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__()
        self.kernel_size = single(kernel_size, "kernel_size", 1)
        self.stride = self.kernel_size if stride is None else single(stride, "stride", 1)
        self.padding = ends(padding, "padding") if _is_row(padding, 2) else single(padding, "padding", 0)
        self.ceil_mode = _check.flag("ceil_mode", ceil_mode)
        self.count_include_pad = _check.flag("count_include_pad", count_include_pad)

    def forward(self, input: Any) -> Any:
        return F.avg_pool1d(
            input, self.kernel_size, self.stride, self.padding, self.ceil_mode,
            self.count_include_pad,
        )  # fmt: skip


class AdaptiveAvgPool2d(Module):
    """The means of windows that cut the image into output_size parts, as even as they can be.

    Parameters
    ----------
    output_size : int or (height, width)
        None for a side keeps it. 1 gives the mean of each channel.
    """

    def __init__(self, output_size: int | tuple[int | None, int | None]) -> None:
        super().__init__()
        sides = list(output_size) if isinstance(output_size, (tuple, list)) else [output_size] * 2
        pair([1 if side is None else side for side in sides], "output_size", 1)
        self.output_size: tuple[int | None, int | None] = (sides[0], sides[1])

    def forward(self, input: Any) -> Any:
        return F.adaptive_avg_pool2d(input, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveMaxPool2d(AdaptiveAvgPool2d):
    """The largest values of the windows of AdaptiveAvgPool2d."""

    def forward(self, input: Any) -> Any:
        return F.adaptive_max_pool2d(input, self.output_size)


class AdaptiveAvgPool1d(Module):
    """AdaptiveAvgPool2d over sequences (N, C, L).

    Parameters
    ----------
    output_size : int
    """

    def __init__(self, output_size: int | tuple[int]) -> None:
        super().__init__()
        self.output_size = single(output_size, "output_size", 1)

    def forward(self, input: Any) -> Any:
        return F.adaptive_avg_pool1d(input, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveMaxPool1d(AdaptiveAvgPool1d):
    """AdaptiveMaxPool2d over sequences (N, C, L)."""

    def forward(self, input: Any) -> Any:
        return F.adaptive_max_pool1d(input, self.output_size)
