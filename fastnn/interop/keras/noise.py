"""Dropout and noise, which are there in training alone, and penalties on signals."""

from __future__ import annotations

import math
from typing import Any

from fastnn import _check
from fastnn.interop.keras.config import Settings
from fastnn.interop.keras.layer import Arrays, Layer, register
from fastnn.nn import functional as F
from fastnn.nn.regularization import penalize
from fastnn.ops import random
from fastnn.ops.elementwise import where


class _Noise(Layer):
    """What is the identity but in training."""

    def __init__(self, s: Settings, arrays: Arrays) -> None:
        super().__init__(s, arrays)
        name = "stddev" if s.kind == "GaussianNoise" else "rate"
        name = "p" if name == "rate" and "p" in s.values else name  # as Keras 1 called it
        self.rate = s.number(name, None, 0.0)
        if name != "stddev" and self.rate >= 1:
            raise s.wrong(f"rate must be below 1, got {self.rate}")
        self._shown = f"{self.rate}"

    def forward(self, input: Any, training: bool | None = None) -> Any:
        return self.noisy(input) if self.rate and self.trains(training) else input

    def noisy(self, x: Any) -> Any:
        """x in training."""
        raise NotImplementedError


class _Shaped(_Noise):
    """What draws for a shape of its own, which is then stretched to the input's."""

    def __init__(self, s: Settings, arrays: Arrays) -> None:
        super().__init__(s, arrays)
        shape = s.get("noise_shape")
        if shape is not None and not isinstance(shape, list):
            raise s.wrong(f"noise_shape must be a list, got {_check.brief(shape)}")
        self.noise_shape = (
            None if shape is None else tuple(None if n is None else s._integer("noise_shape", n, 1) for n in shape)
        )

    def drawn(self, x: Any) -> tuple[int, ...]:
        """The shape of what is drawn."""
        if self.noise_shape is None:
            return tuple(x.shape)
        return tuple(size if own is None else own for own, size in zip(self.noise_shape, x.shape, strict=True))

    def kept(self, x: Any) -> Any:
        """1 where an element stays, else 0."""
        return random.bernoulli(self.drawn(x), x.dtype, 1 - self.rate)


@register("Dropout")
class Dropout(_Shaped):
    """0 in place of some elements; the others are scaled up."""

    def noisy(self, x: Any) -> Any:
        return F.dropout(x, self.rate) if self.noise_shape is None else x * self.kept(x) * (1 / (1 - self.rate))


@register("AlphaDropout")
class AlphaDropout(_Shaped):
    """Dropout for SELU."""

    def noisy(self, x: Any) -> Any:
        if self.noise_shape is None:
            return F.alpha_dropout(x, self.rate)
        low = -1.7580993408473766
        scale = ((1 - self.rate) * (1 + self.rate * low**2)) ** -0.5
        return where(self.kept(x), x, low) * scale - scale * self.rate * low


@register("SpatialDropout1D", "SpatialDropout2D")
class SpatialDropout(_Noise):
    """Dropout of whole channels."""

    def __init__(self, s: Settings, arrays: Arrays) -> None:
        super().__init__(s, arrays)
        self.rank, self.channels_last = int(s.kind[-2]), s.channels_last

    def noisy(self, x: Any) -> Any:
        first = 1 if self.channels_last else 2
        shape = [1 if first <= d < first + self.rank else size for d, size in enumerate(x.shape)]
        return x * random.bernoulli(tuple(shape), x.dtype, 1 - self.rate) * (1 / (1 - self.rate))


@register("GaussianNoise")
class GaussianNoise(_Noise):
    """Normal numbers are added."""

    def noisy(self, x: Any) -> Any:
        return x + random.normal(x.shape, x.dtype, 0.0, self.rate)


@register("GaussianDropout")
class GaussianDropout(_Noise):
    """Elements are multiplied by normal numbers of mean 1."""

    def noisy(self, x: Any) -> Any:
        return x * random.normal(x.shape, x.dtype, 1.0, math.sqrt(self.rate / (1 - self.rate)))


@register("ActivityRegularization")
class ActivityRegularization(Layer):
    """A penalty on its input, as fastnn.nn.ActivityRegularization's."""

    def __init__(self, s: Settings, arrays: Arrays) -> None:
        super().__init__(s, arrays)
        self.l1, self.l2 = s.number("l1", 0.0, 0.0), s.number("l2", 0.0, 0.0)
        self._shown = f"l1={self.l1:g}, l2={self.l2:g}"

    def forward(self, input: Any, training: bool | None = None) -> Any:
        if self.trains(training):
            penalize(input, self.l1, self.l2)
        return input
