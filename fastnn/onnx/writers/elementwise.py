"""Arithmetic, comparisons and choices. What compares makes bools, which become numbers where numbers are read."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.graph import Node, Tensor
from fastnn.onnx.writer import Unwritable, Value, Writer, writes
from fastnn.ops.layout import constant_value
from fastnn.sizes import same_shape

#: Kinds of the same name.
_UNARY = (
    "exp", "log", "sqrt", "abs", "reciprocal", "sign", "erf", "sin", "cos", "tan", "asin", "acos", "atan", "sinh",
    "cosh", "asinh", "acosh", "atanh", "floor", "ceil",
)  # fmt: skip
_BINARY = {
    "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "maximum": "Max", "minimum": "Min", "power": "Pow",
}  # fmt: skip


@writes("unary")
def unary(w: Writer, node: Node) -> None:
    (x,), y = node.inputs, node.output
    kind, a, b = node.attrs["kind"], node.attrs["a"], node.attrs["b"]
    if kind == "affine" and (a, b) == (-1.0, 1.0) and x in w.masks:
        w.put(y, w.node("Not", w.masks[x].name), w.masks[x], mask=True)
        return
    value = w.value(x)
    w.put(y, _unary(w, kind, value.name, a, b, y.dtype), value)


def _unary(w: Writer, kind: str, x: str, a: float, b: float, dtype: np.dtype[Any]) -> str:
    match kind:
        case "affine":
            return affine(w, x, a, b, dtype)
        case "square":
            return w.node("Mul", x, x)
        case "power":
            return w.node("Pow", x, w.constant(a, dtype))
        case "expm1":
            return w.node("Sub", w.node("Exp", x), w.constant(1, dtype))
        case "log1p":
            return w.node("Log", w.node("Add", x, w.constant(1, dtype)))
        case "log1pexp":
            return w.node("Softplus", x)
        case "round" if w.opset >= 11:
            return w.node("Round", x)
        case "round":
            return _rounded(w, x, dtype)
    if kind not in _UNARY:
        raise Unwritable(f"{kind} has no counterpart")
    return w.node(kind.capitalize(), x)


def _rounded(w: Writer, x: str, dtype: np.dtype[Any]) -> str:
    """To the nearest whole number, and of two as near to the even one."""
    moved, one = affine(w, x, 1.0, 0.5, dtype), w.constant(1, dtype)
    whole = w.node("Floor", moved)
    half = affine(w, whole, 0.5, 0.0, dtype)
    tie = compared(w, "equal", moved, whole)
    odd = compared(w, "greater", half, w.node("Floor", half))
    return w.node("Where", w.node("And", tie, odd), w.node("Sub", whole, one), whole)


def affine(w: Writer, x: str, a: float, b: float, dtype: np.dtype[Any]) -> str:
    """a * x + b, by as few nodes as it takes."""
    if (a, b) == (-1.0, 0.0):
        return w.node("Neg", x)
    if a == -1.0:
        return w.node("Sub", w.constant(b, dtype), x)
    if a != 1.0:
        x = w.node("Mul", x, w.constant(a, dtype))
    if b < 0.0:
        return w.node("Sub", x, w.constant(-b, dtype))
    return w.node("Add", x, w.constant(b, dtype)) if b else x


@writes("binary")
def binary(w: Writer, node: Node) -> None:
    (a, b), y, kind = node.inputs, node.output, node.attrs["kind"]
    if kind == "mul" and _is_prelu(node):
        slope = b.node.inputs[1].node.inputs[0]
        names, like = w.together(y, (a, slope))
        w.put(y, w.node("PRelu", *names), like)
        return
    logical = {"mul": "And", "maximum": "Or"}.get(kind)
    if logical and a in w.masks and b in w.masks:
        names, like = w.together(y, (a, b), truths=2)
        w.put(y, w.node(logical, *names), like, mask=True)
    elif kind == "zero_where":
        _zero_where(w, node)
    elif kind in _BINARY:
        names, like = w.together(y, (a, b))
        w.put(y, w.node(_BINARY[kind], *names), like)
    else:
        names, like = w.together(y, (a, b))
        w.put(y, compared(w, kind, *names), like, mask=True)


def _is_prelu(node: Node) -> bool:
    """Whether it is x times 1 where x > 0, and a slope elsewhere, as F.prelu writes it."""
    x, factor = node.inputs
    if not _is(factor, "add") or not all(_is(t, kind) for t, kind in zip(factor.node.inputs, _PRELU, strict=True)):
        return False
    above, below = factor.node.inputs
    bound = constant_value(above.node.inputs[1])
    return above.node.inputs[0] is x and bound == 0.0 and below.node.inputs[1] is above


_PRELU = ("greater", "zero_where")


def _is(tensor: Tensor, kind: str) -> bool:
    return tensor.node.op.name == "binary" and bool(tensor.node.attrs["kind"] == kind)


def compared(w: Writer, kind: str, a: str, b: str) -> str:
    """Whether a comparison of numbers holds, as bools."""
    match kind:
        case "greater":
            return w.node("Greater", a, b)
        case "less":
            return w.node("Less", a, b)
        case "equal" if w.opset >= 11:
            return w.node("Equal", a, b)
        case "equal":  # Equal of floating numbers came later
            apart = w.node("Or", w.node("Less", a, b), w.node("Greater", a, b))
            return w.node("Not", w.node("Or", apart, _unordered(w, a, b)))
        case _ if w.opset >= 12:
            return w.node({"greater_equal": "GreaterOrEqual", "less_equal": "LessOrEqual"}[kind], a, b)
    beyond = w.node({"greater_equal": "Less", "less_equal": "Greater"}[kind], a, b)
    return w.node("Not", w.node("Or", beyond, _unordered(w, a, b)))


def _unordered(w: Writer, a: str, b: str) -> str:
    return w.node("Or", w.node("IsNaN", a), w.node("IsNaN", b))


def _zero_where(w: Writer, node: Node) -> None:
    """a where b is 0, else 0."""
    (a, b), y = node.inputs, node.output
    names, like = w.together(y, (b, a), truths=1)
    w.put(y, w.node("Where", names[0], w.constant(0, y.dtype), names[1]), like)


@writes("where")
def where(w: Writer, node: Node) -> None:
    (c, a, b), y = node.inputs, node.output
    names, like = w.together(y, (c, a, b), truths=1)
    if names[1] == names[2] and same_shape(a.shape, y.shape):  # but for their gradients
        w.put(y, names[1], like)
    else:
        w.put(y, w.node("Where", *names), like)


@writes("clamp")
def clamp(w: Writer, node: Node) -> None:
    y, x = node.output, node.inputs[1]
    value: Value = w.value(x)
    w.put(y, clipped(w, value.name, node.attrs["low"], node.attrs["high"], y.dtype), value)


def clipped(w: Writer, x: str, low: float, high: float, dtype: np.dtype[Any]) -> str:
    """x within bounds, of which infinite ones are none."""
    if w.opset < 11:
        bounds = {"min": low, "max": high}
        return w.node("Clip", x, **{name: float(bound) for name, bound in bounds.items() if np.isfinite(bound)})
    return w.node("Clip", x, *(w.constant(bound, dtype) if np.isfinite(bound) else "" for bound in (low, high)))
