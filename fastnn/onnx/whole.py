"""Operators' work on whatever values there are: arrays in NumPy, where they are known while tracing, floats in the
graph, and integers that are known when a program runs as float64, which holds them exactly up to 2**53."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastnn.graph import Tensor
from fastnn.onnx.operator import LARGEST_KNOWN, Call, Unknown, Value, Whole, collapse, constant, fold
from fastnn.ops.elementwise import cast, compare, not_equal

#: Integers that a program computes with: of narrower ones it would have to wrap.
_COMPUTED = ("bool", "int32", "int64")


def elementwise(
    call: Call, of_arrays: Callable[..., Any], of_tensors: Callable[..., Tensor] | None, *values: Value
) -> Value:
    """An operator of one dtype, which its result has, too. Without `of_tensors` it is of integers alone."""
    dtype = values[0].dtype
    kinds = {v.dtype.kind for v in values}
    if len(kinds) > 1:
        raise TypeError(f"its inputs hold {', '.join(str(v.dtype) for v in values)}; expected one dtype")
    if all(isinstance(v, np.ndarray) for v in values):
        shape = np.broadcast_shapes(*(collapse(v).shape for v in values))  # type: ignore[arg-type]
        if dtype.kind != "f" or of_tensors is None or np.prod(shape, dtype=float) <= LARGEST_KNOWN:
            return fold(of_arrays, *values).astype(dtype, copy=False)  # type: ignore[arg-type]
    if dtype.kind == "f":
        if of_tensors is None:
            raise TypeError(f"it takes integers, got {dtype}")
        return of_tensors(*(call.tensor(v) for v in values))
    if of_tensors is None:
        raise Unknown("the integers that it computes with must be known")
    return Whole(of_tensors(*numbers(*values)), dtype, late=True)


def numbers(*values: Value) -> list[Tensor]:
    """Integers or bools as tensors of float64, to compute with. Unknown where inputs alone decide them: they can be
    known exactly."""
    wholes = [v for v in values if isinstance(v, Whole)]
    if not all(v.late for v in wholes):
        raise Unknown("the integers that it computes with must be known")
    if values[0].dtype.name not in _COMPUTED:
        raise TypeError(f"numbers of {values[0].dtype} that the network itself computes are not computed with")
    return [held(v) for v in values]


def held(value: Value) -> Tensor:
    """Integers or bools as a tensor of float64."""
    if isinstance(value, np.ndarray):
        return constant(value.astype(np.float64))
    return cast(value.tensor if isinstance(value, Whole) else value, np.float64)


def mask(value: Value, dtype: Any = np.float32) -> Tensor:
    """Bools as a tensor of 1 and 0 in a dtype."""
    if value.dtype.kind != "b":
        raise TypeError(f"it takes bools, got {value.dtype}")
    if isinstance(value, np.ndarray):
        return constant(value.astype(dtype))
    assert isinstance(value, Whole)
    return cast(value.tensor, dtype)


def comparison(call: Call, of_arrays: Callable[..., Any], kind: str, a: Value, b: Value) -> Value:
    """Bools: where a comparison holds."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return fold(of_arrays, a, b).astype(bool, copy=False)
    if a.dtype != b.dtype:
        raise TypeError(f"its inputs hold {a.dtype} and {b.dtype}; expected one dtype")
    if a.dtype.kind == "f":
        return Whole(compare(call.tensor(a), call.tensor(b), kind), bool, late=True)
    return Whole(compare(held(a), held(b), kind), bool, late=late(a, b))


def late(*values: Value) -> bool:
    """Whether what is made of integers and bools is decided by floats."""
    return any(v.late if isinstance(v, Whole) else not isinstance(v, np.ndarray) for v in values)


def converted(call: Call, value: Value, dtype: np.dtype[Any]) -> Value:
    """A value as another dtype: integers from floats by what stands before the point."""
    if isinstance(value, np.ndarray):
        with np.errstate(all="ignore"):
            return fold(lambda x: x.astype(dtype), value)
    if isinstance(value, Whole):
        if dtype.kind == "f":
            return cast(value.tensor, call.float_dtype(dtype))
        if dtype.kind == "b" and value.dtype.kind != "b":
            return Whole(not_equal(held(value), 0.0), dtype, value.late)
        return Whole(value.tensor, dtype, value.late)
    if dtype.kind == "f":
        return cast(value, call.float_dtype(dtype))
    if dtype.kind == "b":
        return Whole(not_equal(value, 0.0), dtype, late=True)
    return Whole(value.trunc(), dtype, late=True)


def alike(call: Call, values: Sequence[Value]) -> tuple[list[Any], Callable[[Any], Value]]:
    """Values that are to be joined, as all arrays or all tensors, and what makes a value of the joint one."""
    dtypes = {v.dtype for v in values}
    if len({d.kind for d in dtypes}) > 1:
        raise TypeError(f"its inputs hold {', '.join(sorted(map(str, dtypes)))}; expected one dtype")
    if all(isinstance(v, np.ndarray) for v in values):
        return list(values), lambda joint: joint
    if values[0].dtype.kind == "f":
        return [call.tensor(v) for v in values], lambda joint: joint
    wholes = [v for v in values if isinstance(v, Whole)]
    is_late = late(*values)
    dtype = values[0].dtype
    if all(v.tensor.dtype == np.int64 for v in wholes):
        parts = [v.tensor if isinstance(v, Whole) else constant(np.asarray(v, np.int64)) for v in values]
    else:
        parts = [held(v) for v in values]
    return parts, lambda joint: Whole(joint, dtype, is_late)
