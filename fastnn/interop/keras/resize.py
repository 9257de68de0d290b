"""Padding, cropping and repeating."""

from __future__ import annotations

from typing import Any, ClassVar

from fastnn.interop.keras.config import Settings
from fastnn.interop.keras.layer import Arrays, Layer, from_channels_first, register, to_channels_first
from fastnn.nn import functional as F


class _Sized(Layer):
    """A layer over sequences (N, L, C), which are always channels-last, or images."""

    rank: ClassVar[int]

    def __init__(self, s: Settings, arrays: Arrays) -> None:
        super().__init__(s, arrays)
        self.channels_last = s.channels_last
        self.first = 1 if self.channels_last else 2

    def check(self, x: Any) -> None:
        """ValueError unless x is a sequence, or an image."""
        if x.ndim != self.rank + 2:
            raise ValueError(f"input has shape {tuple(x.shape)}; expected {self.rank + 2} dimensions")


class _ZeroPadding(_Sized):
    def __init__(self, s: Settings, arrays: Arrays) -> None:
        super().__init__(s, arrays)
        self.padding = s.sides("padding", self.rank, 1)
        self._shown = f"{self.padding}"

    def forward(self, input: Any, training: bool | None = None) -> Any:
        self.check(input)
        widths = [(0, 0)] * input.ndim
        widths[self.first : self.first + self.rank] = self.padding
        return F.pad(input, tuple(width for pair in reversed(widths) for width in pair))


@register("ZeroPadding1D")
class ZeroPadding1D(_ZeroPadding):
    """Zeros before and behind sequences."""

    rank = 1


@register("ZeroPadding2D")
class ZeroPadding2D(_ZeroPadding):
    """Zeros around images."""

    rank = 2


class _Cropping(_Sized):
    def __init__(self, s: Settings, arrays: Arrays) -> None:
        super().__init__(s, arrays)
        self.cropping = s.sides("cropping", self.rank, 1 if self.rank == 1 else 0)
        self._shown = f"{self.cropping}"

    def forward(self, input: Any, training: bool | None = None) -> Any:
        self.check(input)
        index = [slice(None)] * input.ndim
        for i, (before, behind) in enumerate(self.cropping):
            size = input.shape[self.first + i]
            if before + behind >= size:
                raise ValueError(f"nothing is left of an input of shape {tuple(input.shape)}")
            index[self.first + i] = slice(before, size - behind)
        return input[tuple(index)]


@register("Cropping1D")
class Cropping1D(_Cropping):
    """Sequences without their ends."""

    rank = 1


@register("Cropping2D")
class Cropping2D(_Cropping):
    """Images without their edges."""

    rank = 2


class _UpSampling(_Sized):
    def __init__(self, s: Settings, arrays: Arrays) -> None:
        super().__init__(s, arrays)
        self.size = s.sizes("size", self.rank, 1, 2)
        self.mode = s.choice("interpolation", "nearest", *(("nearest", "bilinear") if self.rank == 2 else ("nearest",)))
        self._shown = f"{self.size}, {self.mode}"

    def forward(self, input: Any, training: bool | None = None) -> Any:
        self.check(input)
        x = to_channels_first(input, self.channels_last)
        size = tuple(int(old) * times for old, times in zip(x.shape[2:], self.size, strict=True))
        return from_channels_first(F.interpolate(x, size, mode=self.mode), self.channels_last)


@register("UpSampling1D")
class UpSampling1D(_UpSampling):
    """Each element of sequences several times."""

    rank = 1


@register("UpSampling2D")
class UpSampling2D(_UpSampling):
    """Larger images: each pixel several times, or linear between them."""

    rank = 2
