"""Pooling: windowed and global, of sequences and images."""

from __future__ import annotations

from typing import Any

from fastnn.interop.keras.config import Settings
from fastnn.interop.keras.conv import same_ends
from fastnn.interop.keras.layer import Arrays, Layer, from_channels_first, register, to_channels_first
from fastnn.nn import functional as F


@register("MaxPooling1D", "MaxPooling2D", "AveragePooling1D", "AveragePooling2D")
class Pooling(Layer):
    """The largest value of each window, or the mean of what of it is no padding."""

    def __init__(self, s: Settings, arrays: Arrays) -> None:
        super().__init__(s, arrays)
        self.largest, self.rank = s.kind.startswith("Max"), int(s.kind[-2])
        self.pool_size = s.sizes("pool_size", self.rank, 1, 2)
        given = s.get("strides")
        self.strides = self.pool_size if given is None else s.sizes("strides", self.rank, 1)
        self.padding = s.choice("padding", "valid", "valid", "same")
        self.channels_last = s.channels_last
        self._shown = f"{s.kind}, {self.pool_size}, strides={self.strides}, {self.padding!r}"

    def forward(self, input: Any, training: bool | None = None) -> Any:
        if input.ndim != self.rank + 2:
            raise ValueError(f"input has shape {tuple(input.shape)}; expected {self.rank + 2} dimensions")
        x = to_channels_first(input, self.channels_last)
        ends: tuple[int, ...] = (0,) * (2 * self.rank)
        if self.padding == "same":
            windows = zip(x.shape[2:], self.pool_size, self.strides, strict=True)
            ends = tuple(end for size, pool, stride in windows for end in same_ends(size, pool, stride))
        function: Any
        if self.largest:
            function = F.max_pool1d if self.rank == 1 else F.max_pool2d
            y = function(x, self.pool_size, self.strides, ends)
        else:
            function = F.avg_pool1d if self.rank == 1 else F.avg_pool2d
            y = function(x, self.pool_size, self.strides, ends, count_include_pad=False)
        return from_channels_first(y, self.channels_last)


@register("GlobalMaxPooling1D", "GlobalMaxPooling2D", "GlobalAveragePooling1D", "GlobalAveragePooling2D")
class GlobalPooling(Layer):
    """The largest value of each channel, or its mean."""

    def __init__(self, s: Settings, arrays: Arrays) -> None:
        super().__init__(s, arrays)
        self.largest, self.rank = s.kind.startswith("GlobalMax"), int(s.kind[-2])
        self.keepdims = s.flag("keepdims", False)
        self.channels_last = s.channels_last
        self._shown = s.kind

    def forward(self, input: Any, training: bool | None = None) -> Any:
        if input.ndim != self.rank + 2:
            raise ValueError(f"input has shape {tuple(input.shape)}; expected {self.rank + 2} dimensions")
        first = 1 if self.channels_last else 2
        dims = tuple(range(first, first + self.rank))
        return input.amax(dims, self.keepdims) if self.largest else input.mean(dims, self.keepdims)
