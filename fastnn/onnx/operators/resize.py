"""Resize and Upsample: dimensions of another size."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fastnn import _check
from fastnn.graph import Tensor
from fastnn.onnx.operator import Array, Call, Floats, Ints, axis_of, operator
from fastnn.ops import resize as op
from fastnn.ops.elementwise import where

_TRANSFORMS = (
    "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_half_pixel_for_nn",
    "tf_crop_and_resize",
)  # fmt: skip
_ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil", "simple")


@dataclass(frozen=True)
class _Axis:
    """One dimension: its size, the new one, what it is multiplied by, and the part of it that is seen."""

    before: int
    after: int
    scale: float
    begin: float = 0.0
    end: float = 1.0

    def places(self, transform: str) -> Array:
        """Where the new elements lie among the old ones."""
        x = np.arange(self.after, dtype=np.float64)
        before, length = self.before, self.before * self.scale
        match transform:
            case "asymmetric":
                return x / self.scale
            case "tf_half_pixel_for_nn":
                return (x + 0.5) / self.scale
            case "align_corners":
                return x * ((before - 1) / (length - 1)) if length > 1 else x * 0
            case "tf_crop_and_resize":
                reach = (before - 1) * (self.end - self.begin)
                if self.after == 1:
                    return x + 0.5 * (self.begin + self.end) * (before - 1)
                return self.begin * (before - 1) + x * (reach / (self.after - 1))
            case "pytorch_half_pixel" if self.after == 1:
                return x * 0
            case "half_pixel_symmetric":
                moved = before / 2 * (1 - self.after / length)
                return moved + (x + 0.5) / self.scale - 0.5
        return (x + 0.5) / self.scale - 0.5


@dataclass(frozen=True)
class _Settings:
    transform: str
    mode: str
    rounding: str
    a: float
    outside: bool  # whether what lies outside has no weight
    value: float  # of what a crop shows of the outside
    antialias: bool

    def __post_init__(self) -> None:
        _check.choice("its coordinate_transformation_mode", self.transform, *_TRANSFORMS)
        _check.choice("its mode", self.mode, "nearest", "linear", "cubic")
        _check.choice("its nearest_mode", self.rounding, *_ROUNDINGS)
        _check.real("its cubic_coeff_a", self.a)

    def taps(self, axis: _Axis) -> op.Taps:
        places = axis.places(self.transform)
        if self.mode == "nearest":
            return op.Taps(np.clip(self._rounded(places, axis), 0, axis.before - 1).astype(np.int64)[:, None])
        stretch = max(1 / axis.scale, 1.0) if self.antialias else 1.0
        return op.taps_at(places, axis.before, self.mode, stretch, self.a, "left out" if self.outside else "repeated")

    def _rounded(self, places: Array, axis: _Axis) -> Array:
        match self.rounding:
            case "round_prefer_floor":
                return np.ceil(places - 0.5)
            case "round_prefer_ceil":
                return np.floor(places + 0.5)
            case "simple":  # of before version 11
                return np.ceil(places) if axis.scale < 1 else np.floor(places)
        return np.ceil(places) if self.rounding == "ceil" else np.floor(places)

    def apply(self, x: Tensor, axes: dict[int, _Axis]) -> Tensor:
        """x with dimensions resized."""
        for axis in axes.values():
            op.check_size("it", axis.before, axis.after)
        resized = {d: a for d, a in axes.items() if not _is_same(a)}
        y = op.resample(x, {d: self.taps(a) for d, a in resized.items()})
        if self.transform != "tf_crop_and_resize":
            return y
        for d, axis in resized.items():
            places = axis.places(self.transform)
            seen = (places >= 0) & (places <= axis.before - 1)
            if not seen.all():
                y = where(seen.reshape(-1, *[1] * (y.ndim - 1 - d)), y, self.value)
        return y


def _is_same(axis: _Axis) -> bool:
    return (axis.before, axis.scale, axis.begin, axis.end) == (axis.after, 1, 0, 1)


@operator("Resize", 11, known="roi scales sizes")
def resize(
    call: Call,
    X: Tensor,
    roi: Array | None = None,
    scales: Array | None = None,
    sizes: Array | None = None,
    *,
    antialias: int = 0,
    axes: Ints | None = None,
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch",
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
) -> Tensor:
    """X with dimensions of other sizes, or scaled."""
    settings = _Settings(
        coordinate_transformation_mode,
        mode,
        nearest_mode,
        cubic_coeff_a,
        bool(exclude_outside),
        extrapolation_value,
        bool(antialias),
    )
    dims = [axis_of(a, X.ndim) for a in axes] if axes is not None else list(range(X.ndim))
    old = [X.shape[d] for d in dims]
    factors, wanted = _numbers("scales", scales), _numbers("sizes", sizes)
    if (factors is None) == (wanted is None):
        raise ValueError("give it either scales or sizes")
    if len(factors or wanted or ()) != len(dims):
        raise ValueError(f"it has {len(factors or wanted or ())} scales or sizes for {len(dims)} dimensions")
    if wanted is not None:
        pairs = _to_sizes(old, [int(w) for w in wanted], keep_aspect_ratio_policy)
    else:
        pairs = [(_scaled(n, f), f) for n, f in zip(old, factors or (), strict=True)]
    parts = [(0.0, 1.0)] * len(dims)
    if coordinate_transformation_mode == "tf_crop_and_resize":
        region = _numbers("roi", roi) or ()
        if len(region) != 2 * len(dims):
            raise ValueError(f"its roi has {len(region)} numbers; expected {2 * len(dims)}")
        parts = list(zip(region[: len(dims)], region[len(dims) :], strict=True))
    return settings.apply(
        X, {d: _Axis(n, *pair, *part) for d, n, pair, part in zip(dims, old, pairs, parts, strict=True)}
    )


def _to_sizes(old: list[int], wanted: list[int], policy: str) -> list[tuple[int, float]]:
    """(size, scale) of each dimension."""
    _check.choice("its keep_aspect_ratio_policy", policy, "stretch", "not_larger", "not_smaller")
    factors = [new / n for new, n in zip(wanted, old, strict=True)]
    if policy == "stretch":
        return list(zip(wanted, factors, strict=True))
    factor = min(factors) if policy == "not_larger" else max(factors)
    return [(math.floor(n * factor + 0.5), factor) for n in old]


def _numbers(name: str, given: Array | None) -> list[float] | None:
    """Finite numbers, or None where there are none."""
    if given is None or not given.size:
        return None
    if given.ndim != 1 or not np.isfinite(given).all():
        raise ValueError(f"its {name} must be finite numbers in a row, got {_check.brief(given)}")
    return [float(value) for value in given]


def _scaled(size: int, scale: float) -> int:
    """The new size, worked out in float32 as other readers do."""
    if scale <= 0:
        raise ValueError(f"its scales must be above 0, got {scale}")
    return math.floor(float(np.float32(size) * np.float32(scale)))


def _of_scales(X: Tensor, scales: list[float] | None, mode: str) -> Tensor:
    """As before version 11."""
    if scales is None or len(scales) != X.ndim:
        raise ValueError(f"it has {len(scales or ())} scales for {X.ndim} dimensions")
    mode = "linear" if mode == "bilinear" else mode
    settings = _Settings("asymmetric", mode, "simple", -0.75, False, 0.0, False)
    return settings.apply(
        X, {d: _Axis(n, _scaled(n, s), s) for d, (n, s) in enumerate(zip(X.shape, scales, strict=True))}
    )


@operator("Resize", 10, known="scales")
def resize_10(call: Call, X: Tensor, scales: Array, *, mode: str = "nearest") -> Tensor:
    """X with its dimensions scaled."""
    return _of_scales(X, _numbers("scales", scales), mode)


@operator("Upsample", 7)
def upsample_7(call: Call, X: Tensor, *, scales: Floats, mode: str = "nearest") -> Tensor:
    """X with its dimensions scaled."""
    return _of_scales(X, _numbers("scales", np.asarray(scales)), mode)


@operator("Upsample", 9, known="scales")
def upsample_9(call: Call, X: Tensor, scales: Array, *, mode: str = "nearest") -> Tensor:
    """X with its dimensions scaled."""
    return _of_scales(X, _numbers("scales", scales), mode)
