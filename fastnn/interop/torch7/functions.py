"""What Torch7's layers compute, where fastnn's own differ; a table of tensors is a tuple, or several arguments."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastnn import nn
from fastnn.nn import functional as F
from fastnn.ops.elementwise import exp, log, maximum, minimum, sqrt
from fastnn.ops.layout import broadcast_to
from fastnn.ops.shape import concat


def table(inputs: Sequence[Any]) -> tuple[Any, ...]:
    """The tensors of a table."""
    if len(inputs) == 1 and not isinstance(inputs[0], tuple):
        raise ValueError(f"a table of tensors is expected, got one of shape {tuple(inputs[0].shape)}")
    return tuple(inputs[0] if len(inputs) == 1 else inputs)


def axis_of(x: Any, dimension: int, inputs: int | None = None) -> int:
    """The axis of a dimension that counts from 1, in samples of `inputs` dimensions where that is given."""
    axis = x.ndim + dimension if dimension < 0 else dimension - (not (inputs and x.ndim == inputs + 1))
    if not 0 <= axis < x.ndim:
        raise ValueError(f"a tensor of shape {tuple(x.shape)} has no dimension {dimension}")
    return axis


# ---- containers -------------------------------------------------------------------------------------


class Chain(nn.Sequential):
    """Sequential, whose first layer may take several inputs."""

    def forward(self, *inputs: Any) -> Any:
        return super().forward(inputs[0] if len(inputs) == 1 else inputs)


class ConcatTable(nn.Sequential):
    """Each layer's output for the same input, as a table."""

    def forward(self, *inputs: Any) -> Any:
        return tuple(layer(*inputs) for layer in self)


class ParallelTable(nn.Sequential):
    """Each layer's output for its own entry of a table."""

    def forward(self, *inputs: Any) -> Any:
        values = table(inputs)
        if len(values) != len(self):
            raise ValueError(f"a table of {len(values)} for {len(self)} layers")
        return tuple(layer(value) for layer, value in zip(self, values, strict=True))


class Concat(ConcatTable):
    """The outputs of all layers for the same input, side by side along a dimension (which counts from 1)."""

    def __init__(self, layers: Any, dimension: int, pads: bool = False) -> None:
        super().__init__(layers)
        self.dimension = dimension
        self.pads = pads

    def forward(self, *inputs: Any) -> Any:
        values = super().forward(*inputs)
        axis = axis_of(values[0], self.dimension)
        return concat(_padded(values, axis) if self.pads else values, axis)

    def extra_repr(self) -> str:
        return f"dimension={self.dimension}{', pads=True' if self.pads else ''}"


def _padded(values: Sequence[Any], axis: int) -> list[Any]:
    """Zeros around smaller ones, so that all have the largest sizes but along the axis; less before than behind."""
    padded = []
    for x in values:
        widths: list[int] = []
        for d in reversed(range(x.ndim)):
            missing = 0 if d == axis else max(v.shape[d] for v in values) - x.shape[d]
            widths += [missing // 2, missing - missing // 2]
        padded.append(F.pad(x, tuple(widths)) if any(widths) else x)
    return padded


class Parallel(nn.Sequential):
    """Each layer's output for its own slice of the input, side by side."""

    def __init__(self, layers: Any, input_dimension: int, output_dimension: int) -> None:
        super().__init__(layers)
        self.input_dimension = input_dimension
        self.output_dimension = output_dimension

    def forward(self, input: Any) -> Any:
        axis = axis_of(input, self.input_dimension)
        if input.shape[axis] != len(self):
            raise ValueError(f"{input.shape[axis]} slices for {len(self)} layers")
        values = [layer(_at(input, axis, i)) for i, layer in enumerate(self)]
        return concat(values, axis_of(values[0], self.output_dimension))

    def extra_repr(self) -> str:
        return f"input_dimension={self.input_dimension}, output_dimension={self.output_dimension}"


class Bottle(nn.Sequential):
    """A layer of samples with `inputs` dimensions, over inputs that have more before these."""

    def __init__(self, layers: Any, inputs: int) -> None:
        super().__init__(layers)
        self.inputs = inputs

    def forward(self, input: Any) -> Any:
        first = input.ndim - self.inputs + 1
        if first <= 1:
            return super().forward(input)
        y = super().forward(input.reshape(math.prod(input.shape[:first]), *input.shape[first:]))
        return y.reshape(*input.shape[:first], *y.shape[1:])

    def extra_repr(self) -> str:
        return f"inputs={self.inputs}"


# ---- layers with weights ----------------------------------------------------------------------------


class LookupTable(nn.Embedding):
    """Embedding of labels that count from 1; label 0, of which there is none, gives NaN."""

    def forward(self, input: Any) -> Any:
        none = np.full((1, self.embedding_dim), np.nan, self.weight.dtype)
        padding = None if self.padding_idx is None else self.padding_idx + 1
        return F.embedding(input, concat([none, self.weight], 0), padding)


class TemporalConvolution(nn.Conv1d):
    """Conv1d over (N, L, C)."""

    def forward(self, input: Any) -> Any:
        return super().forward(input.transpose(1, 2)).transpose(1, 2)


class Factor(nn.Module):
    """x times a weight, and plus a bias: either may be missing. They have one element, or those of a sample."""

    def __init__(self, weight: np.ndarray[Any, Any] | None = None, bias: np.ndarray[Any, Any] | None = None) -> None:
        super().__init__()
        self.register_parameter("weight", None if weight is None else nn.Parameter(weight))
        self.register_parameter("bias", None if bias is None else nn.Parameter(bias))

    def forward(self, input: Any) -> Any:
        if self.weight is not None:
            input = input * _of_sample(self.weight, input)
        return input if self.bias is None else input + _of_sample(self.bias, input)


def _of_sample(value: Any, x: Any) -> Any:
    if value.size == 1:
        return value.reshape(*[1] * x.ndim)
    if value.ndim == x.ndim:
        return value
    if value.size != math.prod(x.shape[1:]):
        raise ValueError(f"weights of shape {value.shape} do not fit an input of shape {tuple(x.shape)}")
    return value.reshape(1, *x.shape[1:])


# ---- functions of one tensor ------------------------------------------------------------------------


def _at(x: Any, axis: int, index: int) -> Any:
    place = (*[slice(None)] * axis, index)
    return x[place]


def viewed(x: Any, size: Sequence[int], inputs: int | None) -> Any:
    """nn.View: the samples, of `inputs` dimensions where that is given, under another shape."""
    known = math.prod(s for s in size if s != -1)
    first = max(x.ndim - inputs, 0) if inputs else 0
    rest = math.prod(x.shape[first:])
    if not known or rest % known:
        raise ValueError(f"an input of shape {tuple(x.shape)} does not fit a view of {tuple(size)}")
    batch = math.prod(x.shape[:first]) * (1 if -1 in size else rest // known)
    # A single sample keeps its first dimension, which Torch7 drops.
    return x.reshape(*size) if -1 in size and not inputs else x.reshape(batch, *size)


def reshaped(x: Any, size: Sequence[int], batch: bool | None) -> Any:
    whole = batch is False or (batch is None and math.prod(x.shape) == math.prod(size) and x.shape[0] != 1)
    return x.reshape(*size) if whole else x.reshape(x.shape[0], *size)


def softmax(x: Any, log: bool, sign: int = 1) -> Any:
    """Over features, or the channels of images."""
    if x.ndim not in (2, 4):
        raise ValueError(f"an input of shape {tuple(x.shape)}; expected (N, C) or (N, C, H, W)")
    return (F.log_softmax if log else F.softmax)(x if sign > 0 else -x, 1)


def scaled(x: Any, constant: float) -> Any:
    return x * constant


def added(x: Any, constant: float) -> Any:
    return x + constant


def root(x: Any, eps: float) -> Any:
    return sqrt(x + eps if eps else x)


def power(x: Any, exponent: float) -> Any:
    return x**exponent


def square(x: Any) -> Any:
    return x.square()


def absolute(x: Any) -> Any:
    return x.abs()


def exponential(x: Any) -> Any:
    return exp(x)


def logarithm(x: Any) -> Any:
    return log(x)


def normalized(x: Any, p: float, eps: float) -> Any:
    """Divided by the p-norm over axis 1, with eps under the root."""
    sums = (x.square() if p == 2 else x.abs() ** p).sum(1, keepdim=True)
    return x / (sums + eps) ** (1 / p)


def reduced(x: Any, kind: str, dimension: int, inputs: int | None, squeeze: bool) -> Any:
    method = getattr(x, {"Max": "amax", "Min": "amin"}.get(kind, kind.lower()))
    return method(axis_of(x, dimension, inputs), keepdim=not squeeze)


def selected(x: Any, dimension: int, index: int) -> Any:
    axis = axis_of(x, dimension)
    return _at(x, axis, index if index < 0 else index - 1)


def narrowed(x: Any, dimension: int, start: int, length: int) -> Any:
    """Elements from `start` on; of a negative length, those up to one counted from the end; of a negative start, Torch7
    leaves as many out at the end."""
    axis = axis_of(x, dimension)
    size = x.shape[axis]
    count = length if length >= 0 else size - start + length + 2
    first, count = (start - 1, count) if start > 0 else (0, size - count)
    if not 0 <= first < first + count <= size:
        raise ValueError(f"a size of {size} has no part from {start} of length {length}")
    place = (*[slice(None)] * axis, slice(first, first + count))
    return x[place]


def transposed(x: Any, swaps: Sequence[tuple[int, int]], inputs: int | None) -> Any:
    for a, b in swaps:
        x = x.transpose(axis_of(x, a, inputs), axis_of(x, b, inputs))
    return x


def squeezed(x: Any, dimension: int | None, inputs: int | None) -> Any:
    """Without a dimension of size 1, or without all such, but the batch."""
    if dimension is not None:
        return x.squeeze(axis_of(x, dimension, inputs))
    return x.reshape(x.shape[0], *(size for size in x.shape[1:] if size != 1))


def replicated(x: Any, count: int, dimension: int, inputs: int | None) -> Any:
    axis = dimension - (not (inputs and x.ndim == inputs + 1))
    return broadcast_to(x.unsqueeze(axis), (*x.shape[:axis], count, *x.shape[axis:]))


def max_over_time(x: Any, size: int, stride: int) -> Any:
    """Maxima over windows of (N, L, C)."""
    return F.max_pool1d(x.transpose(1, 2), size, stride).transpose(1, 2)


def unsqueezed(x: Any, position: int, inputs: int | None) -> Any:
    return x.unsqueeze(position - (not (inputs and x.ndim == inputs + 1)))


def padded(x: Any, dimension: int, pad: int, inputs: int | None) -> Any:
    """Zeros before (a negative pad) or behind a dimension."""
    axis = axis_of(x, dimension, inputs)
    return F.pad(x, (*[0, 0] * (x.ndim - 1 - axis), max(-pad, 0), max(pad, 0)))


def framed(x: Any, left: int, right: int, top: int, bottom: int) -> Any:
    """Zeros around an image; a negative width cuts."""
    rows, columns = x.shape[-2:]
    cut = x[..., max(-top, 0) : rows - max(-bottom, 0), max(-left, 0) : columns - max(-right, 0)]
    widths = tuple(max(width, 0) for width in (left, right, top, bottom))
    return F.pad(cut, widths) if any(widths) else cut


def resized(x: Any, scale: int | None, height: int | None, width: int | None) -> Any:
    """Between pixels linearly, from corner to corner."""
    size: Any = (x.shape[2] * scale, x.shape[3] * scale) if scale else (height, width)
    return F.interpolate(x, size, mode="bilinear", align_corners=True)


def summed_windows(x: Any, kernel: Any, stride: Any, padding: Any, ceil_mode: bool, include: bool) -> Any:
    """Average pooling as older files have it: times the pixels of a window."""
    return F.avg_pool2d(x, kernel, stride, padding, ceil_mode, include) * (kernel[0] * kernel[1])


# ---- functions of tables ----------------------------------------------------------------------------


def _folded(inputs: Sequence[Any], combine: Callable[[Any, Any], Any]) -> Any:
    first, *rest = table(inputs)
    for other in rest:
        first = combine(first, other)
    return first


def total(*inputs: Any) -> Any:
    return _folded(inputs, lambda a, b: a + b)


def product(*inputs: Any) -> Any:
    return _folded(inputs, lambda a, b: a * b)


def difference(*inputs: Any) -> Any:
    a, b = table(inputs)
    return a - b


def quotient(*inputs: Any) -> Any:
    a, b = table(inputs)
    return a / b


def largest(*inputs: Any) -> Any:
    return _folded(inputs, maximum)


def smallest(*inputs: Any) -> Any:
    return _folded(inputs, minimum)


def joined(*inputs: Any, dimension: int, inputs_dims: int | None) -> Any:
    values = table(inputs)
    return concat(values, axis_of(values[0], dimension, inputs_dims))


def split(x: Any, dimension: int, inputs: int | None) -> Any:
    axis = axis_of(x, dimension, inputs)
    return tuple(_at(x, axis, i) for i in range(x.shape[axis]))


def entry(*inputs: Any, index: int) -> Any:
    values = table(inputs)
    if not 1 <= abs(index) <= len(values):
        raise ValueError(f"a table of {len(values)} has no entry {index}")
    return values[index if index < 0 else index - 1]


def entries(*inputs: Any, start: int, length: int) -> Any:
    values = table(inputs)[start - 1 : start - 1 + length]
    if len(values) != length:
        raise ValueError(f"a table has no {length} entries from {start} on")
    return values


def flat(*inputs: Any) -> Any:
    found: list[Any] = []
    for value in table(inputs):
        found += flat(value) if isinstance(value, tuple) else [value]
    return tuple(found)


def listed(*inputs: Any) -> Any:
    return inputs


def matrix_product(*inputs: Any, left: bool, right: bool) -> Any:
    a, b = table(inputs)
    return (a.transpose(-2, -1) if left else a) @ (b.transpose(-2, -1) if right else b)


def itself(*inputs: Any) -> Any:
    return inputs[0] if len(inputs) == 1 else inputs
