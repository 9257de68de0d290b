"""Convolution layers: Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn import _check
from fastnn.graph import LARGEST_BYTES
from fastnn.nn import functional as F
from fastnn.nn import init
from fastnn.nn.module import Module
from fastnn.nn.parameter import Parameter
from fastnn.ops.arguments import ends, pair, sides, single
from fastnn.ops.conv2d import ends_of, padding_of


def _briefly(around: tuple[int, ...]) -> tuple[int, ...]:
    """Padding before and after each dimension: once for each, where they are the same."""
    return around[::2] if around[::2] == around[1::2] else around


class _Conv(Module):
    """What convolutions share: channels, parameters and their initial values."""

    def __init__(
        self,
        in_channels: Any,
        out_channels: Any,
        kernel_size: tuple[int, ...],
        groups: Any,
        bias: Any,
        padding_mode: Any,
        dtype: Any,
        transposed: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels = _check.size("in_channels", in_channels, 1)
        self.out_channels = _check.size("out_channels", out_channels, 1)
        self.groups = _check.size("groups", groups, 1)
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise ValueError(
                f"in_channels {self.in_channels} and out_channels {self.out_channels} must be "
                f"multiples of groups {self.groups}"
            )
        if padding_mode != "zeros":
            raise ValueError(f"padding_mode must be 'zeros', got {padding_mode!r}")
        self.kernel_size = kernel_size
        dtype = _check.floating("dtype", dtype)
        first, second = self.out_channels, self.in_channels
        if transposed:
            first, second = second, first
        shape = (first, second // self.groups, *kernel_size)
        if math.prod(shape) > LARGEST_BYTES // dtype.itemsize:
            raise ValueError(f"channels and kernel_size make a weight of shape {shape}, larger than any memory")
        # Kernels read (*kernel, in, out); with groups no order of the dimensions gives that.
        order = (*range(2, len(shape)), 1, 0) if self.groups == 1 else None
        self.weight = Parameter(np.zeros(shape, dtype), order=order)
        has_bias = _check.flag("bias", bias)
        self.register_parameter("bias", Parameter(np.zeros(self.out_channels, dtype)) if has_bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(math.prod(self.weight.shape[1:]))
            init.uniform_(self.bias, -bound, bound)

    def _repr(self, **settings: Any) -> str:
        """The layer's settings without those that have their usual value."""
        usual = {"groups": 1, "bias": True}
        settings |= {"groups": self.groups, "bias": self.bias is not None}
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"]
        for name, value in settings.items():
            plain = {0} if "padding" in name else {1}
            if value != usual.get(name) and not (isinstance(value, tuple) and set(value) == plain):
                parts.append(f"{name}={value!r}")
        return ", ".join(parts)


class Conv2d(_Conv):
    """2-D convolution (cross-correlation, as PyTorch's).

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size : int or (height, width)
    stride : int or (height, width), default 1
    padding : int, (height, width), (top, bottom, left, right), "same" or "valid", default 0
        Zeros around the input, in pixels. "same" keeps the size, for a stride of 1.
    dilation : int or (height, width), default 1
    groups : int, default 1
        Parts into which the channels are cut; as many as channels make it depthwise.
    bias : bool, default True
    padding_mode : "zeros"
    dtype : float32 or float64, default float32

    Attributes
    ----------
    weight : Parameter (out_channels, in_channels / groups, KH, KW)
        Starts uniform in +-1 / sqrt(in_channels / groups * KH * KW), as PyTorch's.
    bias : Parameter (out_channels,), or None
        Likewise.

    Notes
    -----
    Kernels of 3 x 3 with stride and dilation 1 and padding of at most 1, in one group and from about 24
    channels on, are computed by Winograd's F(2 x 2, 3 x 3): 16 multiplications for 36. Outputs come in
    squares of 2 x 2 and share a square's rounding errors. Squares that are not finite are computed again by
    the direct sum: NaN and infinities reach the outputs that read them.
    Source: Lavin and Gray, arXiv:1509.09308.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, ...] | str = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        dtype: Any = None,
    ) -> None:
        kernel = pair(kernel_size, "kernel_size", 1)
        super().__init__(in_channels, out_channels, kernel, groups, bias, padding_mode, dtype)
        self.stride = pair(stride, "stride", 1)
        self.dilation = pair(dilation, "dilation", 1)
        around = padding_of(padding, kernel, self.stride, self.dilation)
        self.padding = padding if isinstance(padding, str) else _briefly(around)

    def forward(self, input: Any) -> Any:
        return F.conv2d(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        return self._repr(stride=self.stride, padding=self.padding, dilation=self.dilation)


class Conv1d(_Conv):
    """1-D convolution over sequences (N, C, L); see Conv2d.

    Parameters
    ----------
    in_channels, out_channels, kernel_size : int
    stride : int, default 1
    padding : int, (left, right), "same" or "valid", default 0
    dilation, groups : int, default 1
    bias : bool, default True
    padding_mode : "zeros"
    dtype : float32 or float64, default float32

    Attributes
    ----------
    weight : Parameter (out_channels, in_channels / groups, K)
    bias : Parameter (out_channels,), or None
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int],
        stride: int | tuple[int] = 1,
        padding: int | tuple[int, ...] | str = 0,
        dilation: int | tuple[int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        dtype: Any = None,
    ) -> None:
        kernel = (single(kernel_size, "kernel_size", 1),)
        super().__init__(in_channels, out_channels, kernel, groups, bias, padding_mode, dtype)
        self.stride = (single(stride, "stride", 1),)
        self.dilation = (single(dilation, "dilation", 1),)
        around = ends_of(padding, kernel[0], self.stride[0], self.dilation[0])
        self.padding = padding if isinstance(padding, str) else _briefly(around)

    def forward(self, input: Any) -> Any:
        return F.conv1d(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        return self._repr(stride=self.stride, padding=self.padding, dilation=self.dilation)


class ConvTranspose2d(_Conv):
    """Transposed 2-D convolution: what Conv2d's gradient for its input computes, as a layer.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size : int or (height, width)
    stride, dilation : int or (height, width)
    padding : int, (height, width) or (top, bottom, left, right)
        Those of the convolution that this one is the transpose of.
    output_padding : int or (height, width), default 0
        Rows and columns added at the bottom and right; less than stride or dilation.
    groups : int, default 1
    bias : bool, default True
    padding_mode : "zeros"
    dtype : float32 or float64, default float32

    Attributes
    ----------
    weight : Parameter (in_channels, out_channels / groups, KH, KW)
        Starts uniform in +-1 / sqrt(out_channels / groups * KH * KW), as PyTorch's.
    bias : Parameter (out_channels,), or None
        Likewise.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, ...] = 0,
        output_padding: int | tuple[int, int] = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | tuple[int, int] = 1,
        padding_mode: str = "zeros",
        dtype: Any = None,
    ) -> None:
        kernel = pair(kernel_size, "kernel_size", 1)
        super().__init__(in_channels, out_channels, kernel, groups, bias, padding_mode, dtype, transposed=True)
        self.stride = pair(stride, "stride", 1)
        self.padding = _briefly(sides(padding, "padding"))
        self.output_padding = pair(output_padding, "output_padding", 0)
        self.dilation = pair(dilation, "dilation", 1)

    def forward(self, input: Any) -> Any:
        return F.conv_transpose2d(
            input, self.weight, self.bias, self.stride, self.padding, self.output_padding,
            self.groups, self.dilation,
        )  # fmt: skip

    def extra_repr(self) -> str:
        return self._repr(
            stride=self.stride,
            padding=self.padding,
            output_padding=self.output_padding,
            dilation=self.dilation,
        )


class ConvTranspose1d(_Conv):
    """Transposed 1-D convolution over sequences (N, C, L); see ConvTranspose2d.

    Parameters
    ----------
    in_channels, out_channels, kernel_size : int
    stride, dilation, output_padding : int
    padding : int or (left, right)
    groups : int, default 1
    bias : bool, default True
    padding_mode : "zeros"
    dtype : float32 or float64, default float32

    Attributes
    ----------
    weight : Parameter (in_channels, out_channels / groups, K)
    bias : Parameter (out_channels,), or None
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int],
        stride: int | tuple[int] = 1,
        padding: int | tuple[int, ...] = 0,
        output_padding: int | tuple[int] = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | tuple[int] = 1,
        padding_mode: str = "zeros",
        dtype: Any = None,
    ) -> None:
        kernel = (single(kernel_size, "kernel_size", 1),)
        super().__init__(in_channels, out_channels, kernel, groups, bias, padding_mode, dtype, transposed=True)
        self.stride = (single(stride, "stride", 1),)
        self.padding = _briefly(ends(padding, "padding"))
        self.output_padding = (single(output_padding, "output_padding", 0),)
        self.dilation = (single(dilation, "dilation", 1),)

    def forward(self, input: Any) -> Any:
        return F.conv_transpose1d(
            input, self.weight, self.bias, self.stride, self.padding, self.output_padding,
            self.groups, self.dilation,
        )  # fmt: skip

    def extra_repr(self) -> str:
        return self._repr(
            stride=self.stride,
            padding=self.padding,
            output_padding=self.output_padding,
            dilation=self.dilation,
        )
