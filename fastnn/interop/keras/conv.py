"""Convolutions: plain, depthwise, separable and transposed, of sequences and images, with Keras's paddings."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from fastnn.interop.keras.activation import activation
from fastnn.interop.keras.config import Settings
from fastnn.interop.keras.layer import Arrays, Layer, from_channels_first, register, to_channels_first
from fastnn.nn import functional as F


def same_ends(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and behind a dimension for "same": the more behind, where they are odd.

    Source: TensorFlow's API documentation, tf.nn, "Notes on padding".
    """
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def spans(kernel: tuple[int, ...], dilation: tuple[int, ...]) -> tuple[int, ...]:
    """What a kernel covers of each dimension."""
    return tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))


class _Convolution(Layer):
    """What convolutions share: sizes, layout, bias and activation."""

    rank: ClassVar[int]
    paddings: ClassVar[tuple[str, ...]] = ("valid", "same")

    def __init__(self, s: Settings, arrays: Arrays) -> None:
        super().__init__(s, arrays)
        self.kernel_size = s.sizes("kernel_size", self.rank, 1)
        self.strides = s.sizes("strides", self.rank, 1, 1)
        self.dilation_rate = s.sizes("dilation_rate", self.rank, 1, 1)
        self.padding = s.choice("padding", "valid", *self.paddings)
        self.channels_last = s.channels_last
        self.make(s, arrays)
        bias = arrays.read("bias", self.channels) if s.flag("use_bias", True) else None
        self.bias = None if bias is None else arrays.parameter(bias)
        self.activation = activation(s, s.get("activation"))
        self._shown = f"{self.channels}, kernel_size={self.kernel_size}, strides={self.strides}, {self.padding!r}"

    channels: int

    def make(self, s: Settings, arrays: Arrays) -> None:
        """Weights, and the number of channels that come out."""
        raise NotImplementedError

    @classmethod
    def kernels(cls) -> list[str]:
        """Keras's names of the weights."""
        return ["kernel"]

    @classmethod
    def variables(cls, s: Settings) -> tuple[list[str], list[str]]:
        return [*cls.kernels(), *(["bias"] if s.flag("use_bias", True) else [])], []

    def forward(self, input: Any, training: bool | None = None) -> Any:
        if input.ndim != self.rank + 2:
            raise ValueError(f"input has shape {tuple(input.shape)}; expected {self.rank + 2} dimensions")
        y = from_channels_first(self.convolved(to_channels_first(input, self.channels_last)), self.channels_last)
        return y if self.activation is None else self.activation(y)

    def convolved(self, x: Any) -> Any:
        """The convolution of x (N, C, ...)."""
        raise NotImplementedError

    def ends(self, x: Any) -> tuple[int, ...]:
        """The padding of x (N, C, ...) as fastnn's functions take it."""
        found: list[int] = []
        for size, span, stride in zip(
            x.shape[2:], spans(self.kernel_size, self.dilation_rate), self.strides, strict=True
        ):
            match self.padding:
                case "same":
                    found += same_ends(size, span, stride)
                case "causal":
                    found += [span - 1, 0]
                case _:
                    found += [0, 0]
        return tuple(found)

    def conv(self, x: Any, weight: Any, bias: Any, groups: int) -> Any:
        """The convolution that the settings describe."""
        function: Any = F.conv1d if self.rank == 1 else F.conv2d
        return function(x, weight, bias, self.strides, self.ends(x), self.dilation_rate, groups)


def _kernel_order(rank: int) -> tuple[int, ...]:
    """Of a weight's dimensions in memory: kernels read (*kernel, in, out)."""
    return (*range(2, rank + 2), 1, 0)


class _Conv(_Convolution):
    def make(self, s: Settings, arrays: Arrays) -> None:
        self.channels = s.integer("filters", 1)
        self.groups = s.integer("groups", 1, 1)
        kernel = arrays.read("kernel", *self.kernel_size, None, self.channels)
        if self.channels % self.groups:
            raise s.wrong(f"filters {self.channels} must be a multiple of groups {self.groups}")
        weight = np.moveaxis(kernel, (-1, -2), (0, 1))  # (out, in / groups, *kernel)
        self.weight = arrays.parameter(weight, _kernel_order(self.rank) if self.groups == 1 else None)

    def convolved(self, x: Any) -> Any:
        return self.conv(x, self.weight, self.bias, self.groups)


@register("Conv1D")
class Conv1D(_Conv):
    """weight (filters, channels / groups, K)."""

    rank = 1
    paddings = ("valid", "same", "causal")


@register("Conv2D")
class Conv2D(_Conv):
    """weight (filters, channels / groups, KH, KW)."""

    rank = 2


def depthwise(kernel: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(*kernel, channels, multiplier) -> (channels * multiplier, 1, *kernel)."""
    moved = np.moveaxis(kernel, (-2, -1), (0, 1))
    return moved.reshape(-1, 1, *moved.shape[2:])


class _Depthwise(_Convolution):
    def make(self, s: Settings, arrays: Arrays) -> None:
        kernel = arrays.read("kernel", *self.kernel_size, None, s.integer("depth_multiplier", 1, 1))
        self.inputs, self.channels = kernel.shape[-2], kernel.shape[-2] * kernel.shape[-1]
        self.weight = arrays.parameter(depthwise(kernel))

    def convolved(self, x: Any) -> Any:
        return self.conv(x, self.weight, self.bias, self.inputs)


@register("DepthwiseConv1D")
class DepthwiseConv1D(_Depthwise):
    """weight (channels * multiplier, 1, K)."""

    rank = 1
    paddings = ("valid", "same", "causal")


@register("DepthwiseConv2D")
class DepthwiseConv2D(_Depthwise):
    """weight (channels * multiplier, 1, KH, KW)."""

    rank = 2


class _Separable(_Convolution):
    @classmethod
    def kernels(cls) -> list[str]:
        return ["depthwise_kernel", "pointwise_kernel"]

    def make(self, s: Settings, arrays: Arrays) -> None:
        self.channels = s.integer("filters", 1)
        kernel = arrays.read("depthwise_kernel", *self.kernel_size, None, s.integer("depth_multiplier", 1, 1))
        self.inputs, inner = kernel.shape[-2], kernel.shape[-2] * kernel.shape[-1]
        point = arrays.read("pointwise_kernel", *[1] * self.rank, inner, self.channels)
        self.depthwise_weight = arrays.parameter(depthwise(kernel))
        self.pointwise_weight = arrays.parameter(np.moveaxis(point, (-1, -2), (0, 1)), _kernel_order(self.rank))

    def convolved(self, x: Any) -> Any:
        inner = self.conv(x, self.depthwise_weight, None, self.inputs)
        return (F.conv1d if self.rank == 1 else F.conv2d)(inner, self.pointwise_weight, self.bias)


@register("SeparableConv1D")
class SeparableConv1D(_Separable):
    """depthwise_weight (channels * multiplier, 1, K), pointwise_weight (filters, channels * multiplier, 1)."""

    rank = 1
    paddings = ("valid", "same", "causal")


@register("SeparableConv2D")
class SeparableConv2D(_Separable):
    """depthwise_weight (channels * multiplier, 1, KH, KW), pointwise_weight (filters, channels * multiplier, 1, 1)."""

    rank = 2


class _Transposed(_Convolution):
    def make(self, s: Settings, arrays: Arrays) -> None:
        self.channels = s.integer("filters", 1)
        kernel = arrays.read("kernel", *self.kernel_size, self.channels, None)
        self.weight = arrays.parameter(np.moveaxis(kernel, (-1, -2), (0, 1)), _kernel_order(self.rank))
        given = s.get("output_padding")
        self.output_padding = None if given is None else s.sizes("output_padding", self.rank, 0)
        if self.output_padding is not None and any(
            p >= t for p, t in zip(self.output_padding, self.strides, strict=True)
        ):
            raise s.wrong(f"output_padding {self.output_padding} must be less than strides {self.strides}")

    def convolved(self, x: Any) -> Any:
        cuts, more = [], []
        for i, span in enumerate(spans(self.kernel_size, self.dilation_rate)):
            before, behind = self.cut(x.shape[2 + i], span, i)
            cuts += [before, max(behind, 0)]
            more.append(max(-behind, 0))
        function: Any = F.conv_transpose1d if self.rank == 1 else F.conv_transpose2d
        return function(x, self.weight, self.bias, self.strides, tuple(cuts), tuple(more), 1, self.dilation_rate)

    def cut(self, size: int, span: int, i: int) -> tuple[int, int]:
        """What of the whole transpose is left out before and behind; less than 0 behind is more of it.

        The output is what a convolution with this padding reads to give `size`: see Keras's documentation of
        Conv2DTranspose, and `same_ends`.
        """
        stride = self.strides[i]
        whole = (size - 1) * stride + span
        if self.output_padding is not None:
            kept = whole - (2 * (span // 2) if self.padding == "same" else 0) + self.output_padding[i]
        else:
            kept = size * stride if self.padding == "same" else max(whole, size * stride)
        before = max(whole - kept, 0) // 2 if self.padding == "same" else 0
        return before, whole - before - kept


@register("Conv1DTranspose")
class Conv1DTranspose(_Transposed):
    """weight (channels, filters, K)."""

    rank = 1


@register("Conv2DTranspose")
class Conv2DTranspose(_Transposed):
    """weight (channels, filters, KH, KW)."""

    rank = 2
