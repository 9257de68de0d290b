"""What is made of shapes, or of nothing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn.onnx.file import DTYPES
from fastnn.onnx.operator import LARGEST_KNOWN, Array, Call, Floats, Ints, Value, check_known, dense, operator
from fastnn.onnx.operators.shape import ints


@operator("Shape", 1, raw="x")
def shape(call: Call, x: Value, *, start: int = 0, end: int | None = None) -> Array:
    """The sizes of x, or some of them."""
    return np.array(x.shape[start:end], np.int64)


@operator("Size", 1, raw="x")
def size(call: Call, x: Value) -> Array:
    """How many elements x has."""
    return np.array(math.prod(x.shape), np.int64)


@operator("Constant", 1)
def constant(
    call: Call,
    *,
    value: Array | None = None,
    value_float: float | None = None,
    value_floats: Floats | None = None,
    value_int: int | None = None,
    value_ints: Ints | None = None,
) -> Array:
    """An array of the file's."""
    given = [v for v in (value, value_float, value_floats, value_int, value_ints) if v is not None]
    if len(given) != 1:
        raise ValueError("it has not one value")
    if value is not None:
        return value
    return np.asarray(given[0], np.float32 if value_int is None and value_ints is None else np.int64)


@operator("ConstantOfShape", 9, known="shape")
def constant_of_shape(call: Call, shape: Array, *, value: Array | None = None) -> Array:
    """One number everywhere."""
    number = np.zeros((), np.float32) if value is None else value
    sizes = ints(shape)
    if number.size != 1 or min(sizes, default=0) < 0:
        raise ValueError(f"{number.size} numbers for the shape {sizes}")
    return np.broadcast_to(number.reshape(()), sizes)


@operator("Range", 11, known="*")
def range_(call: Call, start: Array, limit: Array, delta: Array) -> Array:
    """Numbers from start on, delta apart, up to limit and without it."""
    first, end, step = (x.reshape(()).item() for x in (start, limit, delta))
    if step == 0 or not all(map(math.isfinite, (first, end, step))):
        raise ValueError(f"a range from {first} to {end} by {step}")
    # Python's integers are exact, whatever their size.
    count = max(0, -((first - end) // step)) if start.dtype.kind != "f" else max(0, math.ceil((end - first) / step))
    check_known([int(count)])
    steps = np.arange(int(count)).astype(start.dtype) * delta.reshape(())
    numbers: Array = (start.reshape(()) + steps).astype(start.dtype)
    return numbers


@operator("EyeLike", 9, raw="x")
def eye_like(call: Call, x: Value, *, dtype: int | None = None, k: int = 0) -> Array:
    """1 on a diagonal of a matrix of x's shape, and 0 elsewhere."""
    if len(x.shape) != 2:
        raise ValueError(f"its input has shape {tuple(x.shape)}; expected a matrix")
    if dtype is not None and dtype not in DTYPES:
        raise TypeError(f"dtype {dtype} is not computed with")
    check_known(x.shape)
    wanted: Any = x.dtype if dtype is None else DTYPES[dtype][2]
    rows, columns = x.shape
    eye: Array = np.eye(rows, columns, min(max(k, -LARGEST_KNOWN), LARGEST_KNOWN), wanted)
    return eye


@operator("NonZero", 9, known="x")
def nonzero(call: Call, x: Array) -> Array:
    """The places of what is not 0: a row of the result for each dimension."""
    return np.array(np.nonzero(dense(x)), np.int64).reshape(max(x.ndim, 1), -1)
