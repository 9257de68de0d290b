"""Dense and Embedding, what only moves elements, and what scales inputs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn import _check
from fastnn.interop.keras.activation import activation
from fastnn.interop.keras.config import Settings
from fastnn.interop.keras.layer import Arrays, Layer, register
from fastnn.nn import functional as F
from fastnn.ops.layout import broadcast_to


@register("Dense")
class Dense(Layer):
    """weight (units, features) and bias over the last dimension."""

    def __init__(self, s: Settings, arrays: Arrays) -> None:
        super().__init__(s, arrays)
        units = s.integer("units", 1)
        kernel = arrays.read("kernel", None, units)
        self.weight = arrays.parameter(kernel.T, (1, 0))
        self.bias = arrays.parameter(arrays.read("bias", units)) if s.flag("use_bias", True) else None
        self.activation = activation(s, s.get("activation"))
        self._shown = f"{kernel.shape[0]}, {units}"

    @classmethod
    def variables(cls, s: Settings) -> tuple[list[str], list[str]]:
        return ["kernel", "bias"] if s.flag("use_bias", True) else ["kernel"], []

    def forward(self, input: Any, training: bool | None = None) -> Any:
        y = F.linear(input, self.weight, self.bias)
        return y if self.activation is None else self.activation(y)


@register("Embedding")
class Embedding(Layer):
    """A row of weight for each label."""

    def __init__(self, s: Settings, arrays: Arrays) -> None:
        super().__init__(s, arrays)
        rows, features = s.integer("input_dim", 1), s.integer("output_dim", 1)
        self.weight = arrays.parameter(arrays.read("embeddings", rows, features))
        self._shown = f"{rows}, {features}"

    @classmethod
    def variables(cls, s: Settings) -> tuple[list[str], list[str]]:
        return ["embeddings"], []

    def forward(self, input: Any, training: bool | None = None) -> Any:
        return F.embedding(input, self.weight)


@register("Identity")
class Identity(Layer):
    """What it is given."""

    def forward(self, input: Any, training: bool | None = None) -> Any:
        return input


@register("Flatten")
class Flatten(Layer):
    """All but the batch as one dimension, the channels last."""

    def __init__(self, s: Settings, arrays: Arrays) -> None:
        super().__init__(s, arrays)
        self.channels_last = s.channels_last

    def forward(self, input: Any, training: bool | None = None) -> Any:
        x = input
        if not self.channels_last and x.ndim > 2:
            x = x.permute(0, *range(2, x.ndim), 1)
        return x.reshape(x.shape[0], -1)


@register("Reshape")
class Reshape(Layer):
    """Other sizes behind the batch."""

    def __init__(self, s: Settings, arrays: Arrays) -> None:
        super().__init__(s, arrays)
        target = s.get("target_shape")
        if not isinstance(target, list) or len(target) > 32:
            raise s.wrong(f"target_shape must be a list of ints, got {_check.brief(target)}")
        self.target_shape = s.sizes("target_shape", len(target), -1)
        self._shown = f"{self.target_shape}"

    def forward(self, input: Any, training: bool | None = None) -> Any:
        return input.reshape(input.shape[0], *self.target_shape)


@register("Permute")
class Permute(Layer):
    """Dimensions behind the batch in another order."""

    def __init__(self, s: Settings, arrays: Arrays) -> None:
        super().__init__(s, arrays)
        dims = s.get("dims")
        self.dims = s.sizes("dims", len(dims) if isinstance(dims, list) else 1, 1)
        if sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            raise s.wrong(f"dims must be an order of 1 ... {len(self.dims)}, got {_check.brief(dims)}")
        self._shown = f"{self.dims}"

    def forward(self, input: Any, training: bool | None = None) -> Any:
        return input.permute(0, *self.dims)


@register("RepeatVector")
class RepeatVector(Layer):
    """(N, F) -> (N, n, F)."""

    def __init__(self, s: Settings, arrays: Arrays) -> None:
        super().__init__(s, arrays)
        self.n = s.integer("n", 1)
        self._shown = f"{self.n}"

    def forward(self, input: Any, training: bool | None = None) -> Any:
        if input.ndim != 2:
            raise ValueError(f"input has shape {tuple(input.shape)}; expected (N, F)")
        return broadcast_to(input.unsqueeze(1), (input.shape[0], self.n, input.shape[1]))


def _numbers(s: Settings, name: str, value: Any) -> np.ndarray[Any, Any]:
    """A number or nested lists of them, as float64."""
    if isinstance(value, dict):  # as Keras 2 wraps arrays
        inner = value.get("config")
        value = value.get("value", inner.get("value") if isinstance(inner, dict) else None)
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.empty(0, object)
    if array.dtype.kind not in "fiu" or not array.size or not np.isfinite(array).all():
        raise s.wrong(f"{name} must be a number or a list of numbers, got {_check.brief(value)}")
    return array.astype(np.float64)


@register("Rescaling")
class Rescaling(Layer):
    """x * scale + offset, with numbers or one for each channel."""

    def __init__(self, s: Settings, arrays: Arrays) -> None:
        super().__init__(s, arrays)
        for name, usual in (("scale", 1.0), ("offset", 0.0)):
            value = _numbers(s, name, s.get(name, usual))
            if value.ndim:
                self.register_buffer(name, value.astype(arrays.dtype))
            else:
                setattr(self, name, float(value))
        self._shown = f"{s.get('scale')!r}, {s.get('offset', 0.0)!r}"[:80]

    def forward(self, input: Any, training: bool | None = None) -> Any:
        return input * self.scale + self.offset


@register("Normalization")
class Normalization(Layer):
    """(x - mean) / sqrt(variance) along the axes that are kept; the inverse of it with `invert`."""

    def __init__(self, s: Settings, arrays: Arrays) -> None:
        super().__init__(s, arrays)
        self.axis = () if s.get("axis", -1) in (None, []) else s.axes("axis", -1)
        self.invert = s.flag("invert", False)
        if self.is_given(s):
            mean, variance = (_numbers(s, name, s.get(name)) for name in ("mean", "variance"))
        else:
            mean, variance = arrays.all("mean"), arrays.all("variance")
        if mean.shape != variance.shape or (mean.ndim > len(self.axis) and mean.size > 1):
            raise s.wrong(f"mean and variance have shapes {mean.shape} and {variance.shape} for axis {self.axis}")
        self.register_buffer("mean", mean.astype(arrays.dtype))
        self.register_buffer("variance", variance.astype(arrays.dtype))

    @classmethod
    def variables(cls, s: Settings) -> tuple[list[str], list[str]]:
        return [], [] if cls.is_given(s) else ["mean", "variance", "count"]

    @staticmethod
    def is_given(s: Settings) -> bool:
        """Whether mean and variance are in the config."""
        return s.get("mean") is not None

    def forward(self, input: Any, training: bool | None = None) -> Any:
        shape = [1] * input.ndim
        kept = sorted(axis % input.ndim for axis in self.axis)
        sizes = self.mean.shape if math.prod(self.mean.shape) > 1 else ()
        for axis, size in zip(kept[len(kept) - len(sizes) :], sizes, strict=True):
            shape[axis] = size
        mean, deviation = self.mean.reshape(*shape), self.variance.sqrt().clamp(min=1e-7).reshape(*shape)
        return input * deviation + mean if self.invert else (input - mean) / deviation
