"""Shapes whose sizes may follow the batch: arithmetic on them, broadcasting, strides, and how they read.

While a function is traced all sizes are plain ints. Where traces at several batches agree but for sizes on a
line (fastnn.lowering.trace), these are then of class Dim, which no code of a user ever sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

Shape: TypeAlias = tuple[int, ...]


class SpecialiseError(Exception):
    """A size that follows the batch has no form that a program can hold for any batch."""


class Dim(int):
    """A size that is fixed + per_sample * batch; as an int, its value at one batch.

    It stands for no batch at which it is 1, which broadcasts, or less: those have programs of their own.
    """

    fixed: int
    per_sample: int
    batch: int

    def __new__(cls, fixed: int, per_sample: int, batch: int) -> Dim:
        self = super().__new__(cls, fixed + per_sample * batch)
        self.fixed, self.per_sample, self.batch = fixed, per_sample, batch
        return self

    def __mul__(self, other: Any) -> Any:
        if type(other) is not int:
            raise SpecialiseError
        return Dim(self.fixed * other, self.per_sample * other, self.batch) if other else 0

    __rmul__ = __mul__

    def __floordiv__(self, other: Any) -> Any:
        if type(other) is int and other > 0 and self.per_sample % other == 0 and self.fixed % other == 0:
            return Dim(self.fixed // other, self.per_sample // other, self.batch)
        raise SpecialiseError

    def __add__(self, other: Any) -> Any:
        fixed, per_sample = linear(other)
        return sized(self.fixed + fixed, self.per_sample + per_sample, self.batch)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        fixed, per_sample = linear(other)
        return sized(self.fixed - fixed, self.per_sample - per_sample, self.batch)

    def _number(self, *_: Any) -> Any:
        raise SpecialiseError

    __rsub__ = __truediv__ = __rtruediv__ = _number
    __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = __neg__ = __float__ = _number
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __bool__ = _number
    __hash__ = int.__hash__


def sized(fixed: int, per_sample: int, batch: int) -> int:
    """fixed + per_sample * batch: an int where it does not follow the batch, else a Dim."""
    return Dim(fixed, per_sample, batch) if per_sample else fixed


def linear(size: int) -> tuple[int, int]:
    """A size as (fixed, per_sample): it is fixed + per_sample * batch."""
    return (size.fixed, size.per_sample) if isinstance(size, Dim) else (int(size), 0)


def is_one(size: int) -> bool:
    return not isinstance(size, Dim) and size == 1


def same_shape(a: Sequence[int], b: Sequence[int]) -> bool:
    return len(a) == len(b) and all(linear(x) == linear(y) for x, y in zip(a, b, strict=True))


def count(shape: Sequence[int]) -> int:
    """Number of elements: an int, or a Dim where the shape follows the batch."""
    total: int = 1
    for size in shape:
        total = size * total if isinstance(size, Dim) else total * size
    return total


def describe(shape: Sequence[int]) -> str:
    """A shape as text, with N for the batch."""
    parts = [_term(size) if isinstance(size, Dim) else str(size) for size in shape]
    return "(" + ", ".join(parts) + ("," if len(parts) == 1 else "") + ")"


def _term(size: Dim) -> str:
    batch = "N" if size.per_sample == 1 else f"{size.per_sample}N"
    return batch + (f" {'+' if size.fixed > 0 else '-'} {abs(size.fixed)}" if size.fixed else "")


def broadcast_shapes(what: str, a: Shape, b: Shape) -> Shape:
    """NumPy's rule."""
    result: list[int] = []
    for i in range(max(len(a), len(b))):
        x = a[len(a) - 1 - i] if i < len(a) else 1
        y = b[len(b) - 1 - i] if i < len(b) else 1
        if linear(x) == linear(y) or is_one(y):
            result.append(x)
        elif is_one(x):
            result.append(y)
        else:
            raise ValueError(f"{what}: shapes {describe(a)} and {describe(b)} do not broadcast")
    return tuple(reversed(result))


def strides_of(shape: Shape) -> list[int]:
    """Element strides of a contiguous array."""
    strides: list[int] = []
    step: int = 1
    for size in reversed(shape):
        strides.append(step)
        step = count((size, step))
    return list(reversed(strides))


def broadcast_strides(shape: Shape, to: Shape) -> list[int]:
    """Element strides that read a contiguous array of `shape` as one of shape `to`."""
    strides = strides_of(shape)
    missing = len(to) - len(shape)
    return [
        0 if i < missing or (is_one(shape[i - missing]) and not is_one(to[i])) else strides[i - missing]
        for i in range(len(to))
    ]
