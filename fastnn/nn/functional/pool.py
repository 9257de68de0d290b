"""Max and average pooling, windowed and adaptive."""

from __future__ import annotations

from typing import Any

from fastnn import _check
from fastnn.nn._eager import eager
from fastnn.ops import pool2d


@eager("input")
def max_pool2d(
    input: Any,
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int] | None = None,
    padding: int | tuple[int, ...] = 0,
    dilation: int | tuple[int, int] = 1,
    ceil_mode: bool = False,
) -> Any:
    """The largest value of each window of each channel; NaN if one is.

    Of equal values the first, row by row, gets the gradient.

    Parameters
    ----------
    input : (N, C, H, W)
    kernel_size : int or (height, width)
    stride : int or (height, width), optional
        kernel_size by default.
    padding : int, (height, width) or (top, bottom, left, right)
        At most half of the kernel, of four less than all of it; never the largest.
    dilation : int or (height, width)
    ceil_mode : bool
        Whether a last window may reach beyond the padded input, if it begins inside of it.

    Returns
    -------
    (N, C, OH, OW)
        OH = (H + top + bottom - dilation * (KH - 1) - 1) / stride + 1, rounded down (in ceil mode
        up), and so for OW.
    """
    return pool2d.max_pool2d(input, kernel_size, stride, padding, dilation, _check.flag("ceil_mode", ceil_mode))


@eager("input")
def max_pool1d(
    input: Any,
    kernel_size: int | tuple[int],
    stride: int | tuple[int] | None = None,
    padding: int | tuple[int, ...] = 0,
    dilation: int | tuple[int] = 1,
    ceil_mode: bool = False,
) -> Any:
    """max_pool2d over sequences (N, C, L); padding is an int or (left, right)."""
    return pool2d.max_pool1d(input, kernel_size, stride, padding, dilation, _check.flag("ceil_mode", ceil_mode))


@eager("input")
def avg_pool2d(
    input: Any,
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int] | None = None,
    padding: int | tuple[int, ...] = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    dilation: int | tuple[int, int] = 1,
) -> Any:
    """The mean of each window of each channel.

    Parameters
    ----------
    input, kernel_size, stride, padding, ceil_mode
        As for max_pool2d; padding is of zeros.
    count_include_pad : bool
        Whether pixels of the padding count in the mean.
    divisor_override : int, optional
        What sums are divided by instead of the number of pixels.
    dilation : int or (height, width)

    Returns
    -------
    (N, C, OH, OW)
    """
    if divisor_override is not None:
        divisor_override = _check.integer("divisor_override", divisor_override, 1)
    return pool2d.avg_pool2d(
        input,
        kernel_size,
        stride,
        padding,
        _check.flag("ceil_mode", ceil_mode),
        _check.flag("count_include_pad", count_include_pad),
        divisor_override,
        dilation,
    )


@eager("input")
def avg_pool1d(
    input: Any,
    kernel_size: int | tuple[int],
    stride: int | tuple[int] | None = None,
    padding: int | tuple[int, ...] = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    dilation: int | tuple[int] = 1,
) -> Any:
    """avg_pool2d over sequences (N, C, L); padding is an int or (left, right)."""
    return pool2d.avg_pool1d(
        input,
        kernel_size,
        stride,
        padding,
        _check.flag("ceil_mode", ceil_mode),
        _check.flag("count_include_pad", count_include_pad),
        dilation,
    )


@eager("input")
def adaptive_avg_pool2d(input: Any, output_size: int | tuple[int | None, int | None]) -> Any:
    """The means of windows that cut the image into output_size parts, as even as they can be.

    Window i of OH covers the rows floor(i * H / OH) ... ceil((i + 1) * H / OH) - 1.

    Parameters
    ----------
    input : (N, C, H, W)
    output_size : int or (height, width)
        None for a side keeps it. 1 gives the mean of a channel.

    Returns
    -------
    (N, C, *output_size)
    """
    return pool2d.adaptive_pool2d(input, output_size, "avg")


@eager("input")
def adaptive_max_pool2d(input: Any, output_size: int | tuple[int | None, int | None]) -> Any:
    """The largest values of the windows of adaptive_avg_pool2d."""
    return pool2d.adaptive_pool2d(input, output_size, "max")


@eager("input")
def adaptive_avg_pool1d(input: Any, output_size: int | tuple[int]) -> Any:
    """adaptive_avg_pool2d over sequences (N, C, L)."""
    return pool2d.adaptive_pool1d(input, output_size, "avg")


@eager("input")
def adaptive_max_pool1d(input: Any, output_size: int | tuple[int]) -> Any:
    """adaptive_max_pool2d over sequences (N, C, L)."""
    return pool2d.adaptive_pool1d(input, output_size, "max")
