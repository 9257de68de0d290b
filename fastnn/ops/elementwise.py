"""Elementwise arithmetic with NumPy's broadcasting, and copies between strided layouts."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastnn_ext.elementwise as native
from fastnn.graph import Emitter, Node, Op, OutputTypes, Tensor, active_graph, as_tensor
from fastnn.ops.arguments import check_dtypes, check_float
from fastnn.ops.layout import behind_layout, broadcast_to, constant_value, sum_to
from fastnn.sizes import broadcast_shapes, broadcast_strides, count, same_shape


class Unary(Op):
    """attrs: kind, a, b."""

    name = "unary"

    def infer(self, node: Node) -> OutputTypes:
        return [(node.inputs[0].shape, node.inputs[0].dtype)]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        (dy,), x, y, a = grads, node.inputs[0], node.output, node.attrs["a"]
        assert dy is not None
        match node.attrs["kind"]:
            case "exp":
                return [dy * y]
            case "log":
                return [dy / x]
            case "sqrt":
                return [dy / y * 0.5]
            case "abs":
                return [dy * unary(x, "sign")]
            case "square":
                return [dy * x * 2.0]
            case "reciprocal":
                return [-(dy * y.square())]
            case "affine":
                return [dy * a]
            case "power" if a != 0.0:
                return [dy * (x ** (a - 1.0) * a)]
            case "power" | "sign":
                # Zeros, also where dy is infinite; and not None, as the loss does reach x.
                return [binary(dy, 1.0, "zero_where")]
        raise AssertionError(node.attrs["kind"])

    def lower(self, node: Node, to: Emitter) -> None:
        n, kind = count(node.output.shape), native.UNARY.index(node.attrs["kind"])
        a, b = node.attrs["a"], node.attrs["b"]
        to.emit("unary", y=node.output, x=node.inputs[0], n=n, kind=kind, a=a, b=b, flops=n)


class Binary(Op):
    """attrs: kind. Inputs broadcast."""

    name = "binary"

    def infer(self, node: Node) -> OutputTypes:
        a, b = node.inputs
        return [(broadcast_shapes(node.attrs["kind"], a.shape, b.shape), a.dtype)]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        (dy,), (a, b), y = grads, node.inputs, node.output
        assert dy is not None
        da = db = None
        match node.attrs["kind"]:
            case "add":
                da, db = dy, dy
            case "sub":
                da, db = dy, -dy if needs[1] else None
            case "mul":
                da, db = dy * b if needs[0] else None, dy * a if needs[1] else None
            case "div":
                da = dy / b if needs[0] else None
                db = -(dy * y / b) if needs[1] else None
            case "power":
                # Limits that the formulas miss: a**0 is flat, and so is 0**b for b >= 0, as PyTorch has it.
                if needs[0]:
                    da = dy * (b * a ** (b - 1.0))
                    da = binary(da, binary(b, 0.0, "equal"), "zero_where")
                if needs[1]:
                    flat = binary(a, 0.0, "equal") * binary(b, 0.0, "greater_equal")
                    db = binary(dy * (y * a.log()), flat, "zero_where")
            case "maximum" | "minimum":
                # As in PyTorch, the gradient of a tie is shared in halves, and goes to both if one is NaN.
                loses = "less" if node.attrs["kind"] == "maximum" else "greater"
                shared = dy * affine(binary(a, b, "equal"), -0.5, 1.0)
                da = binary(shared, binary(a, b, loses), "zero_where") if needs[0] else None
                db = binary(shared, binary(b, a, loses), "zero_where") if needs[1] else None
            case "zero_where":
                da = binary(dy, b, "zero_where") if needs[0] else None
            case _:
                pass  # comparisons are flat
        return [
            sum_to(da, a.shape) if da is not None and needs[0] else None,
            sum_to(db, b.shape) if db is not None and needs[1] else None,
        ]

    def lower(self, node: Node, to: Emitter) -> None:
        a, b = node.inputs
        shape = node.output.shape
        if len(shape) > native.MAX_BINARY_NDIM:
            raise ValueError(f"arithmetic on {len(shape)} dimensions; at most {native.MAX_BINARY_NDIM} are supported")
        to.emit(
            "binary",
            y=node.output,
            a=a,
            b=b,
            kind=native.BINARY.index(node.attrs["kind"]),
            ndim=len(shape),
            shape=shape,
            a_strides=broadcast_strides(a.shape, shape),
            b_strides=broadcast_strides(b.shape, shape),
            flops=count(shape),
        )


UNARY = Unary()
BINARY = Binary()


def unary(x: Any, kind: str, a: float = 1.0, b: float = 0.0) -> Tensor:
    x = as_tensor(x)
    check_float(kind, x)
    return behind_layout(lambda t: active_graph().add(UNARY, [t], kind=kind, a=float(a), b=float(b)).output, x)


def neg(x: Any) -> Tensor:
    return affine(x, -1.0)


def exp(x: Any) -> Tensor:
    """e to the power of x, elementwise."""
    return unary(x, "exp")


def log(x: Any) -> Tensor:
    """Natural logarithm, elementwise."""
    return unary(x, "log")


def sqrt(x: Any) -> Tensor:
    """Square root, elementwise."""
    return unary(x, "sqrt")


def abs(x: Any) -> Tensor:
    """Absolute value, elementwise; its gradient at 0 is 0."""
    return unary(x, "abs")


def square(x: Any) -> Tensor:
    """x * x, elementwise."""
    return unary(x, "square")


def affine(x: Any, a: float, b: float = 0.0) -> Tensor:
    """a * x + b for numbers a and b; chains of it fold into one."""
    given = as_tensor(x)
    if a == 1.0 and b == 0.0:
        return given
    if (value := constant_value(given)) is not None:
        return broadcast_to(as_tensor(a * value + b, like=given), given.shape)
    node = given.node
    if node.op is UNARY and node.attrs["kind"] == "affine" and b == 0.0 and node.attrs["b"] == 0.0:
        return unary(node.inputs[0], "affine", a * node.attrs["a"])
    return unary(given, "affine", a, b)


def _operands(what: str, a: Any, b: Any) -> tuple[Tensor, Tensor]:
    if isinstance(a, Tensor) or not _is_plain(a):
        left = as_tensor(a)
        right = as_tensor(b, like=left)
    else:
        right = as_tensor(b)
        left = as_tensor(a, like=right)
    check_float(what, left, "the left operand")
    check_float(what, right, "the right operand")
    check_dtypes(what, left, right)
    return left, right


def _is_plain(value: Any) -> bool:
    return isinstance(value, (bool, int, float, np.generic, np.ndarray))


def binary(a: Any, b: Any, kind: str) -> Tensor:
    left, right = _operands(kind, a, b)
    return behind_layout(lambda x, y: active_graph().add(BINARY, [x, y], kind=kind).output, left, right)


def _number(operand: Tensor, other: Tensor) -> float | None:
    """The number that `operand` is everywhere, if the result then has the other's shape."""
    value = constant_value(operand)
    if value is None or not same_shape(broadcast_shapes("", operand.shape, other.shape), other.shape):
        return None
    return value


def add(a: Any, b: Any) -> Tensor:
    left, right = _operands("add", a, b)
    if (value := _number(right, left)) is not None:
        return affine(left, 1.0, value)
    if (value := _number(left, right)) is not None:
        return affine(right, 1.0, value)
    return binary(left, right, "add")


def sub(a: Any, b: Any) -> Tensor:
    left, right = _operands("subtract", a, b)
    if (value := _number(right, left)) is not None:
        return affine(left, 1.0, -value)
    if (value := _number(left, right)) is not None:
        return affine(right, -1.0, value)
    return binary(left, right, "sub")


def mul(a: Any, b: Any) -> Tensor:
    left, right = _operands("multiply", a, b)
    if (value := _number(right, left)) is not None:
        return affine(left, value)
    if (value := _number(left, right)) is not None:
        return affine(right, value)
    return binary(left, right, "mul")


def div(a: Any, b: Any) -> Tensor:
    left, right = _operands("divide", a, b)
    if _number(left, right) == 1.0:
        return unary(right, "reciprocal")
    return binary(left, right, "div")


def power(a: Any, b: Any) -> Tensor:
    """a to the power of b; a constant exponent of 1, 2 or 0.5 takes its direct form."""
    left, right = _operands("power", a, b)
    exponent = _number(right, left)
    if exponent is None:
        return binary(left, right, "power")
    if exponent == 1.0:
        return left
    if exponent == 2.0:
        return square(left)
    return unary(left, "power", exponent)


def maximum(a: Any, b: Any) -> Tensor:
    """The larger of two values, elementwise; NaN if either is."""
    return binary(a, b, "maximum")


def minimum(a: Any, b: Any) -> Tensor:
    """The smaller of two values, elementwise; NaN if either is."""
    return binary(a, b, "minimum")
