"""Norms: batch, layer, root mean square, group, and to a length of 1."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.interop.keras.config import Settings
from fastnn.interop.keras.layer import Arrays, Layer, register
from fastnn.nn import functional as F


def _affine(s: Settings) -> list[str]:
    """Keras's names of a norm's factor and offset, where it has them."""
    return [name for name, flag in (("gamma", "scale"), ("beta", "center")) if s.flag(flag, True)]


def _moved(x: Any, axis: int, to: int) -> Any:
    """x with a dimension at another place."""
    order = [d for d in range(x.ndim) if d != axis]
    order.insert(to, axis)
    return x.permute(*order)


class _Norm(Layer):
    """What norms share: eps, weight and bias."""

    def __init__(self, s: Settings, arrays: Arrays) -> None:
        super().__init__(s, arrays)
        self.eps = s.number("epsilon", 1e-3, 0.0)
        names = self.variables(s)[0]
        for own, name in (("weight", "gamma"), ("bias", "beta")):
            self.register_parameter(own, arrays.parameter(arrays.all(name)) if name in names else None)
        shapes = {arrays.shape(name) for each in self.variables(s) for name in each}
        if len(shapes) > 1:
            raise s.wrong(f"its arrays have several shapes: {', '.join(map(str, sorted(shapes)))}")

    @classmethod
    def variables(cls, s: Settings) -> tuple[list[str], list[str]]:
        return _affine(s), []


class _ChannelNorm(_Norm):
    """A norm of one dimension's elements: the channels."""

    def __init__(self, s: Settings, arrays: Arrays) -> None:
        super().__init__(s, arrays)
        self.axis = s.axis()
        self._shown = f"axis={self.axis}, eps={self.eps}"

    def forward(self, input: Any, training: bool | None = None) -> Any:
        if not -input.ndim <= self.axis < input.ndim or self.axis % input.ndim == 0:
            raise ValueError(f"input has shape {tuple(input.shape)}, of which there is no axis {self.axis}")
        axis = self.axis % input.ndim
        return _moved(self.normalized(_moved(input, axis, 1), training), 1, axis)

    def normalized(self, x: Any, training: bool | None) -> Any:
        """The norm of x (N, C, ...)."""
        raise NotImplementedError

    def affine(self, channels: int, dtype: np.dtype[Any]) -> tuple[Any, Any]:
        """Weight and bias: both, or none."""
        weight, bias = self.weight, self.bias
        if weight is None and bias is not None:
            weight = np.ones(channels, dtype)
        if bias is None and weight is not None:
            bias = np.zeros(channels, dtype)
        return weight, bias


@register("BatchNormalization", "BatchNormalizationV1", "BatchNormalizationV2", "SyncBatchNormalization")
class BatchNormalization(_ChannelNorm):
    """Batch norm; running_mean and running_var move in training if the layer is trainable."""

    def __init__(self, s: Settings, arrays: Arrays) -> None:
        super().__init__(s, arrays)
        if s.flag("renorm", False):
            raise s.wrong("renorm is not read")
        self.momentum = 1.0 - s.number("momentum", 0.99, 0.0)
        self.trainable = s.trainable
        self.register_buffer("running_mean", arrays.read("moving_mean", None))
        self.register_buffer("running_var", arrays.read("moving_variance", None))

    @classmethod
    def variables(cls, s: Settings) -> tuple[list[str], list[str]]:
        return _affine(s), ["moving_mean", "moving_variance"]

    def normalized(self, x: Any, training: bool | None) -> Any:
        weight, bias = self.affine(self.running_mean.size, self.running_mean.dtype)
        on = self.trainable and self.trains(training)
        return F.batch_norm(x, self.running_mean, self.running_var, weight, bias, on, self.momentum, self.eps)


@register("GroupNormalization")
class GroupNormalization(_ChannelNorm):
    """Norm of groups of channels of each sample."""

    def __init__(self, s: Settings, arrays: Arrays) -> None:
        super().__init__(s, arrays)
        self.groups = s.integer("groups", -1, 32)

    def normalized(self, x: Any, training: bool | None) -> Any:
        channels = int(x.shape[1])
        weight, bias = self.affine(channels, x.dtype)
        return F.group_norm(x, channels if self.groups == -1 else self.groups, weight, bias, self.eps)


class _LastNorm(_Norm):
    """A norm of each sample along some dimensions."""

    def __init__(self, s: Settings, arrays: Arrays) -> None:
        super().__init__(s, arrays)
        self.axes = s.axes("axis", -1)
        self._shown = f"axis={list(self.axes)}, eps={self.eps}"

    def forward(self, input: Any, training: bool | None = None) -> Any:
        axes = sorted({axis % input.ndim for axis in self.axes})
        others = [d for d in range(input.ndim) if d not in axes]
        order = [*others, *axes]
        y = self.normalized(input.permute(*order), len(axes))
        return y.permute(*(order.index(d) for d in range(input.ndim)))

    def normalized(self, x: Any, count: int) -> Any:
        """The norm along the last dimensions."""
        raise NotImplementedError


@register("LayerNormalization")
class LayerNormalization(_LastNorm):
    """Layer norm."""

    def __init__(self, s: Settings, arrays: Arrays) -> None:
        super().__init__(s, arrays)
        if s.flag("rms_scaling", False):
            raise s.wrong("rms_scaling is not read")

    def normalized(self, x: Any, count: int) -> Any:
        shape = tuple(int(size) for size in x.shape[x.ndim - count :])
        weight = self.weight if self.weight is not None or self.bias is None else np.ones(shape, self.bias.dtype)
        return F.layer_norm(x, shape, weight, self.bias, self.eps)


@register("RMSNormalization")
class RMSNormalization(_LastNorm):
    """x / sqrt(mean(x ** 2) + eps) * weight."""

    @classmethod
    def variables(cls, s: Settings) -> tuple[list[str], list[str]]:
        return ["gamma"], []

    def __init__(self, s: Settings, arrays: Arrays) -> None:
        super().__init__(s, arrays)
        self.eps = s.number("epsilon", 1e-6, 0.0)

    def normalized(self, x: Any, count: int) -> Any:
        shape = tuple(int(size) for size in x.shape[x.ndim - count :])
        return F.rms_norm(x, shape, self.weight, self.eps)


@register("UnitNormalization")
class UnitNormalization(Layer):
    """x divided by its length along some dimensions, at least 1e-12 (in Keras 2, 1e-6)."""

    def __init__(self, s: Settings, arrays: Arrays) -> None:
        super().__init__(s, arrays)
        self.axes = s.axes("axis", -1)
        self.least = 1e-12 if s.major >= 3 else 1e-6
        self._shown = f"axis={list(self.axes)}"

    def forward(self, input: Any, training: bool | None = None) -> Any:
        return unit(input, self.axes, self.least)


def unit(x: Any, axes: tuple[int, ...], least: float) -> Any:
    """x divided by its length along some dimensions, at least `least`, whose square float32 still holds."""
    return x / x.square().sum(axes, True).clamp(min=least**2).sqrt()
