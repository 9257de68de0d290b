"""Comparisons, bools, and choices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.graph import Tensor
from fastnn.onnx.file import Diagram
from fastnn.onnx.operator import Call, Unknown, Value, Whole, fold, operator
from fastnn.onnx.whole import alike, comparison, held, late, mask
from fastnn.ops import elementwise as ops

_COMPARISONS = (
    ("Greater", 7, np.greater, "greater"),
    ("Less", 7, np.less, "less"),
    ("Equal", 7, np.equal, "equal"),
    ("GreaterOrEqual", 12, np.greater_equal, "greater_equal"),
    ("LessOrEqual", 12, np.less_equal, "less_equal"),
)
_LOGIC = (
    ("And", np.logical_and, ops.logical_and),
    ("Or", np.logical_or, ops.logical_or),
    ("Xor", np.logical_xor, ops.logical_xor),
)


def _comparison(of_arrays: Callable[..., Any], kind: str) -> Callable[..., Value]:
    return lambda call, a, b: comparison(call, of_arrays, kind, a, b)


def _logic(of_arrays: Callable[..., Any], of_tensors: Callable[..., Tensor]) -> Callable[..., Value]:
    def compute(call: Call, a: Value, b: Value) -> Value:
        if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
            return fold(of_arrays, a, b)
        return Whole(of_tensors(mask(a), mask(b)), bool, late=late(a, b))

    return compute


for _name, _since, _of_arrays, _kind in _COMPARISONS:
    operator(_name, _since, raw="*")(_comparison(_of_arrays, _kind))
for _name, _of_bools, _of_masks in _LOGIC:
    operator(_name, 7, raw="*")(_logic(_of_bools, _of_masks))


@operator("Not", 1, raw="x")
def logical_not(call: Call, x: Value) -> Value:
    """Where x is false."""
    if isinstance(x, np.ndarray):
        return fold(np.logical_not, x)
    return Whole(ops.logical_not(mask(x)), bool, late=late(x))


@operator("IsNaN", 9, raw="x")
def is_nan(call: Call, x: Value) -> Value:
    """Where x is no number."""
    if isinstance(x, np.ndarray):
        return fold(np.isnan, x)
    return Whole(ops.not_equal(call.tensor(x), call.tensor(x)), bool, late=True)


@operator("IsInf", 10)
def is_inf(call: Call, x: Tensor, *, detect_negative: int = 1, detect_positive: int = 1) -> Value:
    """Where x is infinite."""
    above, below = ops.equal(x, np.inf), ops.equal(x, -np.inf)
    if detect_positive and detect_negative:
        return Whole(ops.logical_or(above, below), bool, late=True)
    found = above if detect_positive else below if detect_negative else ops.logical_and(above, below)
    return Whole(found, bool, late=True)


@operator("Where", 9, raw="*")
def where(call: Call, condition: Value, x: Value, y: Value) -> Value:
    """x where the condition holds, else y."""
    if all(isinstance(v, np.ndarray) for v in (condition, x, y)):
        return fold(np.where, condition, x, y)  # type: ignore[arg-type]
    if x.dtype.kind == "f":
        if x.dtype.kind != y.dtype.kind:
            raise TypeError(f"its inputs hold {x.dtype} and {y.dtype}; expected one dtype")
        chosen, other = call.tensor(x), call.tensor(y)
        return ops.where(mask(condition, chosen.dtype), chosen, other)
    if x.dtype.kind == y.dtype.kind == "b":
        m = mask(condition)
        bools = ops.logical_or(ops.logical_and(m, mask(x)), ops.logical_and(ops.logical_not(m), mask(y)))
        return Whole(bools, bool, late=late(condition, x, y))
    if not late(condition, x, y):
        raise Unknown("the integers that it chooses from must be known")
    _, joint = alike(call, (x, y))
    return joint(ops.where(mask(condition, np.float64), held(x), held(y)))


@operator("If", 1, known="condition")
def follow(call: Call, condition: Any, *, then_branch: Diagram, else_branch: Diagram) -> tuple[Value, ...]:
    """The outputs of one of two graphs, by a condition that is known while tracing."""
    if condition.size != 1:
        raise ValueError(f"its condition has shape {condition.shape}; expected one bool")
    return tuple(call.run.branch(then_branch if condition.reshape(()) else else_branch, call.around))
