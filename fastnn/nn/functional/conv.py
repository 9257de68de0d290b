"""Convolutions and transposed convolutions."""

from __future__ import annotations

from typing import Any

from fastnn.nn._eager import eager
from fastnn.ops import conv2d as convolution


@eager("input", "weight", "bias")
def conv2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, ...] | str = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
) -> Any:
    """Cross-correlation of images with kernels.

    Parameters
    ----------
    input : (N, C, H, W)
    weight : (out, C / groups, KH, KW)
    bias : (out,), optional
    stride, dilation : int or (height, width)
    padding : int, (height, width), (top, bottom, left, right), "same" or "valid"
        Zeros around the input, in pixels. "same" keeps the size, for a stride of 1.
    groups : int
        Parts into which the channels are cut; each part of the output sees its part of the input.

    Returns
    -------
    (N, out, OH, OW)
        OH = (H + padding - dilation * (KH - 1) - 1) // stride + 1, and so for OW.

    Raises
    ------
    ValueError
        If the sizes do not fit, the kernel is larger than the padded input among them.
    """
    return convolution.conv2d(input, weight, bias, stride, padding, dilation, groups)


@eager("input", "weight", "bias")
def conv1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: int | tuple[int] = 1,
    padding: int | tuple[int, ...] | str = 0,
    dilation: int | tuple[int] = 1,
    groups: int = 1,
) -> Any:
    """Cross-correlation of sequences with kernels; see conv2d.

    Parameters
    ----------
    input : (N, C, L)
    weight : (out, C / groups, K)
    bias : (out,), optional
    stride, dilation : int
    padding : int, (left, right), "same" or "valid"
    groups : int

    Returns
    -------
    (N, out, OL)
    """
    return convolution.conv1d(input, weight, bias, stride, padding, dilation, groups)


@eager("input", "weight", "bias")
def conv_transpose2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, ...] = 0,
    output_padding: int | tuple[int, int] = 0,
    groups: int = 1,
    dilation: int | tuple[int, int] = 1,
) -> Any:
    """The gradient of conv2d for its input, as a layer (Zeiler et al., 2010).

    Parameters
    ----------
    input : (N, C, H, W)
    weight : (C, out / groups, KH, KW)
    bias : (out,), optional
    stride, dilation : int or (height, width)
    padding : int, (height, width) or (top, bottom, left, right)
        Those of the convolution that this one is the transpose of.
    output_padding : int or (height, width)
        Rows and columns added at the bottom and right of the output; less than stride or dilation.
    groups : int

    Returns
    -------
    (N, out, OH, OW)
        OH = (H - 1) * stride - top - bottom + dilation * (KH - 1) + output_padding + 1, and so OW.
    """
    return convolution.conv_transpose2d(input, weight, bias, stride, padding, output_padding, groups, dilation)


@eager("input", "weight", "bias")
def conv_transpose1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: int | tuple[int] = 1,
    padding: int | tuple[int, ...] = 0,
    output_padding: int | tuple[int] = 0,
    groups: int = 1,
    dilation: int | tuple[int] = 1,
) -> Any:
    """The gradient of conv1d for its input, as a layer; see conv_transpose2d.

    Parameters
    ----------
    input : (N, C, L)
    weight : (C, out / groups, K)
    bias : (out,), optional
    stride, dilation, output_padding, groups : int
    padding : int or (left, right)

    Returns
    -------
    (N, out, OL)
    """
    return convolution.conv_transpose1d(input, weight, bias, stride, padding, output_padding, groups, dilation)
