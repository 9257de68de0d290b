"""What Caffe's layers without weights compute, on tensors; and its layers that have weights, where ours differ."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn import nn
from fastnn.nn import functional as F
from fastnn.nn.norm import _BatchNorm
from fastnn.ops.elementwise import exp, log, maximum
from fastnn.ops.shape import concat


class InnerProduct(nn.Linear):
    """Linear over all dimensions from `axis` on, which it merges."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True, axis: int = 1) -> None:
        super().__init__(in_features, out_features, bias)
        self.axis = axis

    def forward(self, input: Any) -> Any:
        return super().forward(input.flatten(self.axis))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, axis={self.axis}"


class BatchNorm(_BatchNorm):
    """Batch norm over channels of anything, with neither weight nor bias, which a Scale behind it has."""

    dimensions = (2, 3, 4)
    shapes = "(N, C), (N, C, L) or (N, C, H, W)"


class Scale(nn.Module):
    """x times a weight of the sizes from `axis` on, plus a bias of these; either may be missing (None)."""

    def __init__(self, shape: Sequence[int], axis: int = 1, weight: bool = True, bias: bool = True) -> None:
        super().__init__()
        self.axis = axis
        ones = np.ones(tuple(shape), np.float32)
        self.register_parameter("weight", nn.Parameter(ones) if weight else None)
        self.register_parameter("bias", nn.Parameter(0 * ones) if bias else None)

    def forward(self, input: Any) -> Any:
        if self.weight is not None:
            input = input * along(self.weight, input, self.axis)
        return input if self.bias is None else input + along(self.bias, input, self.axis)

    def extra_repr(self) -> str:
        shapes = ", ".join(f"{name}={value.shape}" for name, value in self._parameters.items() if value is not None)
        return f"{shapes}, axis={self.axis}"


def along(value: Any, input: Any, axis: int) -> Any:
    """A value whose first dimension is the input's at `axis`, so that it broadcasts."""
    axis = axis + input.ndim if axis < 0 else axis
    behind = input.ndim - axis - value.ndim
    if behind < 0 or tuple(value.shape) != tuple(input.shape[axis : axis + value.ndim]):
        raise ValueError(f"sizes {tuple(value.shape)} are not those of {tuple(input.shape)} from axis {axis} on")
    return value.reshape(*value.shape, *[1] * behind)


def scaled(input: Any, factor: Any, axis: int) -> Any:
    return input * along(factor, input, axis)


def shifted(input: Any, bias: Any, axis: int) -> Any:
    return input + along(bias, input, axis)


def pooled(input: Any, maxima: bool, kernel: Any, stride: Any, floor: bool) -> Any:
    """Pooling without padding, by a stride larger than the kernel: Caffe has windows that hold no pixel."""
    for extent, k, s in zip(input.shape[2:], kernel, stride, strict=False):
        if not floor and -(-(extent - k) // s) * s >= extent:
            raise ValueError(f"of the windows of {k} with stride {s} over {extent} pixels the last would hold none")
    pool = F.max_pool2d if maxima else F.avg_pool2d
    return pool(input, kernel, stride, 0, ceil_mode=not floor)


def lrn_within(input: Any, size: int, alpha: float, beta: float) -> Any:
    """x (1 + alpha * mean of x^2 over size x size pixels)^-beta, zeros around the image."""
    return input * (1.0 + alpha * F.avg_pool2d(input.square(), size, 1, size // 2)) ** -beta


def eltwise_sum(*inputs: Any, coeff: Sequence[float] = ()) -> Any:
    _alike(inputs)
    terms = [x * c if c != 1 else x for x, c in zip(inputs, coeff, strict=True)] if coeff else inputs
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def eltwise_prod(*inputs: Any) -> Any:
    _alike(inputs)
    product = inputs[0]
    for factor in inputs[1:]:
        product = product * factor
    return product


def eltwise_max(*inputs: Any) -> Any:
    _alike(inputs)
    largest = inputs[0]
    for other in inputs[1:]:
        largest = maximum(largest, other)
    return largest


def _alike(inputs: Sequence[Any]) -> None:
    shapes = [tuple(x.shape) for x in inputs]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError(f"inputs have the shapes {', '.join(map(str, shapes))}; expected one shape for all")


def joined(*inputs: Any, axis: int) -> Any:
    return concat(inputs, axis)


def sliced(input: Any, axis: int, points: Sequence[int], count: int) -> Any:
    axis = axis + input.ndim if axis < 0 else axis
    size = input.shape[axis]
    if not points:
        if size % count:
            raise ValueError(f"a size of {size} cannot be cut into {count} equal parts")
        points = range(size // count, size, size // count)
    edges = [0, *points, size]
    if len(edges) != count + 1 or any(a >= b for a, b in itertools.pairwise(edges)):
        raise ValueError(f"slice points {tuple(points)} do not cut a size of {size} into {count} parts")
    places = [(*[slice(None)] * axis, slice(a, b)) for a, b in itertools.pairwise(edges)]
    return tuple(input[place] for place in places)


def copied(input: Any, count: int) -> Any:
    return input if count == 1 else (input,) * count


def reshaped(input: Any, shape: Sequence[int], axis: int, num_axes: int) -> Any:
    """Sizes from axis on, num_axes of them (-1: all), become others: 0 is the size that is there, -1 what is left."""
    start = axis if axis >= 0 else input.ndim + axis + 1
    end = input.ndim if num_axes == -1 else start + num_axes
    if not 0 <= start <= end <= input.ndim:
        raise ValueError(f"axis {axis} and num_axes {num_axes} are not within {tuple(input.shape)}")
    if any(size == 0 and start + i >= input.ndim for i, size in enumerate(shape)):
        raise ValueError(f"shape {tuple(shape)} copies a size that {tuple(input.shape)} lacks")
    sizes = [input.shape[start + i] if size == 0 else size for i, size in enumerate(shape)]
    return input.reshape(*input.shape[:start], *sizes, *input.shape[end:])


def cropped(input: Any, like: Any, axis: int, offsets: Sequence[int]) -> Any:
    axis = axis + input.ndim if axis < 0 else axis
    cut = input.ndim - axis
    offsets = list(offsets) * cut if len(offsets) == 1 else list(offsets) or [0] * cut
    if input.ndim != like.ndim or len(offsets) != cut:
        raise ValueError(f"{tuple(input.shape)} is not cropped to {tuple(like.shape)} by {len(offsets)} offset(s)")
    ends = [offset + size for offset, size in zip(offsets, like.shape[axis:], strict=True)]
    if any(end > size for end, size in zip(ends, input.shape[axis:], strict=True)):
        raise ValueError(f"{tuple(input.shape)} is too small to be cropped to {tuple(like.shape)} at {tuple(offsets)}")
    place = (*[slice(None)] * axis, *map(slice, offsets, ends))
    return input[place]


def normalized(input: Any, variance: bool, across_channels: bool, eps: float) -> Any:
    """Mean 0 and, with `variance`, deviation 1 for each channel of each sample, or for each sample."""
    dims = tuple(range(1 if across_channels else 2, input.ndim))
    if not dims:
        raise ValueError(f"channels of shape {tuple(input.shape)} have one number each, which has no deviation")
    centered = input - input.mean(dims, keepdim=True)
    return centered / (centered.square().mean(dims, keepdim=True).sqrt() + eps) if variance else centered


def power(input: Any, power: float, scale: float, shift: float) -> Any:
    """(shift + scale * x) ^ power"""
    inner = input * scale if scale != 1 else input
    inner = inner + shift if shift else inner
    return inner if power == 1 else inner**power


def exponential(input: Any, base: float, scale: float, shift: float) -> Any:
    """base ^ (shift + scale * x); a base of -1 stands for e."""
    rate = 1.0 if base == -1 else math.log(base)
    return exp(input * (rate * scale) + rate * shift)


def logarithm(input: Any, base: float, scale: float, shift: float) -> Any:
    """log of shift + scale * x to a base; -1 stands for e."""
    result = log(power(input, 1.0, scale, shift))
    return result if base == -1 else result * (1 / math.log(base))


def tiled(input: Any, axis: int, tiles: int) -> Any:
    return concat([input] * tiles, axis)


def absolute(input: Any) -> Any:
    return input.abs()
