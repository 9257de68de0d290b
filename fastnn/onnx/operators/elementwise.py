"""Arithmetic, and functions of one number."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from fastnn.graph import Tensor
from fastnn.onnx.file import DTYPES
from fastnn.onnx.operator import Array, Call, Value, fold, operator
from fastnn.onnx.whole import converted, elementwise
from fastnn.ops.elementwise import cast, clamp, maximum, minimum, power, where
from fastnn.ops.maps import trunc

#: Of floats and integers: the name, the version it begins with, and what computes it in NumPy and in the graph.
_MAPS: tuple[tuple[str, int, Callable[..., Any], Callable[[Tensor], Tensor]], ...] = (
    ("Abs", 6, np.abs, lambda x: x.abs()),
    ("Neg", 6, np.negative, lambda x: -x),
    ("Sign", 9, np.sign, lambda x: where(x == x, x.sign(), x)),
    ("Floor", 6, np.floor, lambda x: x.floor()),
    ("Ceil", 6, np.ceil, lambda x: x.ceil()),
    ("Round", 11, np.round, lambda x: x.round()),
    ("Sqrt", 6, np.sqrt, lambda x: x.sqrt()),
    ("Exp", 6, np.exp, lambda x: x.exp()),
    ("Log", 6, np.log, lambda x: x.log()),
    ("Reciprocal", 6, np.reciprocal, lambda x: x**-1.0),
)
#: Of floats alone, in the graph.
_FLOAT_MAPS = (
    ("Sin", 7), ("Cos", 7), ("Tan", 7), ("Asin", 7), ("Acos", 7), ("Atan", 7), ("Sinh", 9), ("Cosh", 9), ("Asinh", 9),
    ("Acosh", 9), ("Atanh", 9), ("Erf", 9),
)  # fmt: skip


def _map(of_arrays: Callable[..., Any], of_tensors: Callable[[Tensor], Tensor]) -> Callable[..., Value]:
    def compute(call: Call, x: Value) -> Value:
        return elementwise(call, of_arrays, of_tensors, x)

    return compute


def _float_map(name: str) -> Callable[..., Tensor]:
    def compute(call: Call, x: Tensor) -> Tensor:
        return getattr(x, name)()  # type: ignore[no-any-return]

    return compute


for _name, _since, _of_arrays, _of_tensors in _MAPS:
    operator(_name, _since, raw="*")(_map(_of_arrays, _of_tensors))
for _name, _since in _FLOAT_MAPS:
    operator(_name, _since)(_float_map(_name.lower()))


@operator("Add", 7, raw="*")
def add(call: Call, a: Value, b: Value) -> Value:
    """a + b."""
    return elementwise(call, np.add, lambda x, y: x + y, a, b)


@operator("Sub", 7, raw="*")
def sub(call: Call, a: Value, b: Value) -> Value:
    """a - b."""
    return elementwise(call, np.subtract, lambda x, y: x - y, a, b)


@operator("Mul", 7, raw="*")
def mul(call: Call, a: Value, b: Value) -> Value:
    """a * b."""
    return elementwise(call, np.multiply, lambda x, y: x * y, a, b)


@operator("Div", 7, raw="*")
def div(call: Call, a: Value, b: Value) -> Value:
    """a / b; of integers what stands before the point."""
    if a.dtype.kind == "f":
        return elementwise(call, np.divide, lambda x, y: x / y, a, b)
    if isinstance(b, np.ndarray) and not b.all():
        raise ValueError("integers are divided by 0")
    return elementwise(call, _quotient, lambda x, y: (x / y).trunc(), a, b)


def _quotient(a: Array, b: Array) -> Array:
    """Integers divided, rounded towards 0."""
    quotient: Array = a // b
    up: Array = (quotient < 0) & (quotient * b != a)
    quotient += up.astype(quotient.dtype)
    return quotient


@operator("Mod", 10, raw="*")
def mod(call: Call, a: Value, b: Value, *, fmod: int = 0) -> Value:
    """What a division leaves: of b's sign, or of a's with `fmod`."""
    if a.dtype.kind != "f" and isinstance(b, np.ndarray) and not b.all():
        raise ValueError("integers are divided by 0")

    def of_tensors(x: Tensor, y: Tensor) -> Tensor:
        # float64 holds the quotient of two float32s, and its product with y, exactly up to 2**28.
        wide, by = cast(x, np.float64), cast(y, np.float64)
        quotient = wide / by
        rest = wide - (trunc(quotient) if fmod else quotient.floor()) * by
        small = wide if fmod else where(wide * by.sign() < 0.0, by, wide)
        return cast(where(by.abs() == np.inf, small, rest), x.dtype)

    return elementwise(call, np.fmod if fmod else np.mod, of_tensors, a, b)


@operator("Pow", 7, raw="x", settings="y")
def pow(call: Call, x: Value, y: Value) -> Value:
    """x to the power of y, of x's dtype."""
    dtype = x.dtype
    if isinstance(x, np.ndarray) and isinstance(y, np.ndarray):
        return fold(np.power, x, y).astype(dtype, copy=False)
    if dtype.kind == "f":
        exponent = call.tensor(converted(call, y, dtype))
        return power(call.tensor(x), exponent)
    return elementwise(call, np.power, power, x, converted(call, y, dtype))


def _of_several(
    of_arrays: Callable[..., Any], of_tensors: Callable[..., Tensor], combine: Callable[[Value, int], Value]
) -> Callable[..., Value]:
    def compute(call: Call, first: Value, *more: Value) -> Value:
        joint = reduce(lambda a, b: elementwise(call, of_arrays, of_tensors, a, b), more, first)
        return combine(joint, 1 + len(more))

    return compute


operator("Max", 8, raw="*")(_of_several(np.maximum, maximum, lambda joint, n: joint))
operator("Min", 8, raw="*")(_of_several(np.minimum, minimum, lambda joint, n: joint))
operator("Sum", 8, raw="*")(_of_several(np.add, lambda a, b: a + b, lambda joint, n: joint))


@operator("Mean", 8)
def mean(call: Call, first: Tensor, *more: Tensor) -> Tensor:
    """The mean of several, element by element."""
    total = reduce(lambda a, b: a + b, more, first)
    return total / float(1 + len(more)) if more else total


@operator("Clip", 6)
def clip_by_attributes(call: Call, x: Tensor, *, min: float = -np.inf, max: float = np.inf) -> Tensor:
    """x within bounds that are attributes."""
    return _clipped(x, np.asarray(min), np.asarray(max))


@operator("Clip", 11, raw="x", settings="min max")
def clip(call: Call, x: Value, min: Value | None = None, max: Value | None = None) -> Value:
    """x within bounds; max counts where min is larger."""
    if x.dtype.kind == "f":
        return _clipped(
            call.tensor(x), *(b if b is None or isinstance(b, np.ndarray) else call.tensor(b) for b in (min, max))
        )
    if min is not None:
        x = elementwise(call, np.maximum, maximum, x, min)
    return x if max is None else elementwise(call, np.minimum, minimum, x, max)


def _clipped(x: Tensor, low: Any, high: Any) -> Tensor:
    bounds = []
    for bound, none in ((low, -np.inf), (high, np.inf)):
        if bound is not None and bound.shape not in ((), (1,)):
            raise ValueError(f"a bound has shape {tuple(bound.shape)}; expected a number")
        bounds.append(None if isinstance(bound, np.ndarray) and float(bound.reshape(())) == none else bound)
    if all(b is None or (isinstance(b, np.ndarray) and np.isfinite(b).all()) for b in bounds):
        low, high = (None if b is None else float(b.reshape(())) for b in bounds)
        return x if low is None and high is None else clamp(x, low, high)
    for bound, limit in zip(bounds, (maximum, minimum), strict=True):
        if bound is not None:
            x = limit(x, float(bound.reshape(())) if isinstance(bound, np.ndarray) else bound.reshape(()))
    return x


@operator("Cast", 6, raw="x")
def cast_to(call: Call, x: Value, *, to: int, saturate: int = 1, round_mode: str = "up") -> Value:
    """x in another dtype."""
    if to not in DTYPES:
        raise TypeError(f"dtype {to} is not computed with")
    return converted(call, x, np.dtype(DTYPES[to][2]))


@operator("CastLike", 15, raw="*")
def cast_like(call: Call, x: Value, like: Value, *, saturate: int = 1, round_mode: str = "up") -> Value:
    """x in the dtype of another one."""
    return converted(call, x, like.dtype)


def _bits(of_arrays: Callable[..., Any]) -> Callable[..., Value]:
    def compute(call: Call, *values: Value) -> Value:
        return elementwise(call, of_arrays, None, *values)

    return compute


operator("BitwiseAnd", 18, raw="*")(_bits(np.bitwise_and))
operator("BitwiseOr", 18, raw="*")(_bits(np.bitwise_or))
operator("BitwiseXor", 18, raw="*")(_bits(np.bitwise_xor))
operator("BitwiseNot", 18, raw="*")(_bits(np.bitwise_not))


@operator("BitShift", 11, raw="*")
def bit_shift(call: Call, x: Value, y: Value, *, direction: str) -> Value:
    """The bits of x, y places further."""
    if direction not in ("LEFT", "RIGHT"):
        raise ValueError(f"direction is {direction!r}; expected LEFT or RIGHT")
    return elementwise(call, np.left_shift if direction == "LEFT" else np.right_shift, None, x, y)
