"""Elementwise arithmetic, comparisons and choices with NumPy's broadcasting, and copies between strided layouts.

What a comparison makes is a mask: 1 and 0 in the dtype of what is compared. A mask adapts to the dtype of what it is
combined with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fastnn_ext.elementwise as native
from fastnn import _check
from fastnn.graph import Emitter, Node, Op, OutputTypes, Tensor, TensorMethods, active_graph, as_tensor
from fastnn.ops.arguments import check_dtypes, check_float
from fastnn.ops.layout import behind_layout, broadcast_to, constant_value, sum_to
from fastnn.sizes import broadcast_shapes, broadcast_strides, count, same_shape

#: Of further kinds of Unary (fastnn.ops.maps): the gradient for x of that for y, x and y.
GRADIENTS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {}


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
            case "sin":
                return [dy * unary(x, "cos")]
            case "cos":
                return [-(dy * unary(x, "sin"))]
            case "affine":
                return [dy * a]
            case "power" if a != 0.0:
                return [dy * (x ** (a - 1.0) * a)]
            case "power" | "sign" | "floor" | "ceil" | "round":
                # Zeros, also where dy is infinite; and not None, as the loss does reach x.
                return [binary(dy, 1.0, "zero_where")]
        return [GRADIENTS[node.attrs["kind"]](dy, x, y)]

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


class Where(Op):
    """inputs: condition, a, b, which broadcast: a where the condition is not 0, else b."""

    name = "where"

    def infer(self, node: Node) -> OutputTypes:
        c, a, b = node.inputs
        return [(broadcast_shapes("where", broadcast_shapes("where", c.shape, a.shape), b.shape), a.dtype)]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        (dy,), (c, a, b) = grads, node.inputs
        assert dy is not None
        da = sum_to(where(c, dy, 0.0), a.shape) if needs[1] else None
        db = sum_to(binary(dy, c, "zero_where"), b.shape) if needs[2] else None
        return [None, da, db]

    def lower(self, node: Node, to: Emitter) -> None:
        c, a, b = node.inputs
        shape = node.output.shape
        if len(shape) > native.MAX_BINARY_NDIM:
            raise ValueError(f"where: {len(shape)} dimensions; at most {native.MAX_BINARY_NDIM} are supported")
        to.emit(
            "where",
            y=node.output,
            c=c,
            a=a,
            b=b,
            ndim=len(shape),
            shape=shape,
            c_strides=broadcast_strides(c.shape, shape),
            a_strides=broadcast_strides(a.shape, shape),
            b_strides=broadcast_strides(b.shape, shape),
            flops=count(shape),
        )


class Clamp(Op):
    """inputs: what x was clamped to, and x. attrs: low, high. Its gradient passes within the bounds, and at them."""

    name = "clamp"
    view_of = 0

    def infer(self, node: Node) -> OutputTypes:
        return [(node.inputs[0].shape, node.inputs[0].dtype)]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        (dy,), x = grads, node.inputs[1]
        assert dy is not None
        return [None, where(mul(x >= node.attrs["low"], x <= node.attrs["high"]), dy, 0.0)]

    def lower(self, node: Node, to: Emitter) -> None:
        to.alias(node.output, node.inputs[0])


class Cast(Op):
    """Whole numbers, or numbers of the other precision, in another dtype. attrs: dtype."""

    name = "cast"

    def infer(self, node: Node) -> OutputTypes:
        return [(node.inputs[0].shape, node.attrs["dtype"])]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        assert grads[0] is not None
        return [cast(grads[0], node.inputs[0].dtype) if node.inputs[0].dtype.kind == "f" else None]

    def lower(self, node: Node, to: Emitter) -> None:
        x, n = node.inputs[0], count(node.output.shape)
        to.emit("cast", y=node.output, x=x, n=n, source=_SOURCES.index(x.dtype))


UNARY = Unary()
BINARY = Binary()
WHERE = Where()
CLAMP = Clamp()
CAST = Cast()

_COMPARISONS = ("greater", "greater_equal", "less", "less_equal", "equal")
#: Ops that move elements without changing them.
_MOVES = ("broadcast", "cast", "gather", "reshape", "slice", "transpose")
#: What a cast reads, as its native op numbers them.
_SOURCES = [np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.int64)]


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
    left, right = of_one_dtype(left, right)
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


# ---- masks ----


def is_mask(tensor: Tensor) -> bool:
    """Whether all elements are known to be 0 or 1, as a comparison made them."""
    node = tensor.node
    kind = node.attrs.get("kind")
    if node.op is BINARY and kind in ("mul", "maximum"):
        return all(map(is_mask, node.inputs))
    if node.op is UNARY and kind == "affine" and (node.attrs["a"], node.attrs["b"]) == (-1.0, 1.0):
        return is_mask(node.inputs[0])
    if node.op.name in _MOVES:
        return is_mask(node.inputs[0])
    return (node.op is BINARY and kind in _COMPARISONS) or node.op.name == "one_hot"


def of_one_dtype(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Operands of which a mask takes the dtype of the other one, and of two masks one that of the float64 one."""
    if left.dtype == right.dtype or left.dtype.kind != "f" or right.dtype.kind != "f":
        return left, right
    masks = [operand for operand in (left, right) if is_mask(operand)]
    if not masks:
        return left, right
    dtype = np.float64 if len(masks) == 2 else right.dtype if masks[0] is left else left.dtype
    return cast(left, dtype), cast(right, dtype)


def cast(x: Any, dtype: Any) -> Tensor:
    """x as float32 or float64 numbers; a label as the number that it is."""
    given, wanted = as_tensor(x), np.dtype(dtype)
    if wanted not in _SOURCES[:2]:
        raise TypeError(f"to: dtype must be np.float32 or np.float64, got {wanted}")
    if given.dtype == wanted:
        return given
    if given.node.op is CAST and given.node.inputs[0].dtype == wanted and is_mask(given):
        return given.node.inputs[0]
    return active_graph().add(CAST, [given], dtype=wanted).output


def single(x: Any) -> Tensor:
    """x as float32, as PyTorch's float()."""
    return cast(x, np.float32)


def double(x: Any) -> Tensor:
    """x as float64."""
    return cast(x, np.float64)


def _comparable(a: Any, b: Any) -> tuple[Tensor, Tensor]:
    """Two operands in one dtype. Labels are compared as float64, which holds them exactly up to 2**53."""
    first = as_tensor(a)
    if first.dtype.kind == "f":
        second = as_tensor(b, like=first)
        return first, cast(second, first.dtype) if second.dtype.kind in "iu" else second
    second = as_tensor(b, like=cast(first, np.float64))
    dtype = second.dtype if second.dtype.kind == "f" else np.dtype(np.float64)
    return cast(first, dtype), cast(second, dtype)


def compare(a: Any, b: Any, kind: str) -> Tensor:
    """The mask of where a comparison holds. Of labels it is float32."""
    left, right = _comparable(a, b)
    mask = binary(left, right, kind)
    return cast(mask, np.float32) if all(_is_labels(x) for x in (a, b)) else mask


def _is_labels(value: Any) -> bool:
    """Whether an operand decides no dtype: it holds labels, or is a number."""
    return value.dtype.kind in "iu" if isinstance(value, (Tensor, np.ndarray)) else _is_plain(value)


def greater(a: Any, b: Any) -> Tensor:
    """The mask of a > b."""
    return compare(a, b, "greater")


def greater_equal(a: Any, b: Any) -> Tensor:
    """The mask of a >= b."""
    return compare(a, b, "greater_equal")


def less(a: Any, b: Any) -> Tensor:
    """The mask of a < b."""
    return compare(a, b, "less")


def less_equal(a: Any, b: Any) -> Tensor:
    """The mask of a <= b."""
    return compare(a, b, "less_equal")


def equal(a: Any, b: Any) -> Any:
    """The mask of a == b. What is neither a tensor nor numbers equals no tensor."""
    return compare(a, b, "equal") if _is_numeric(b) else NotImplemented


def not_equal(a: Any, b: Any) -> Any:
    """The mask of a != b, which holds for NaN."""
    return logical_not(compare(a, b, "equal")) if _is_numeric(b) else NotImplemented


def _is_numeric(value: Any) -> bool:
    return isinstance(value, TensorMethods) or (_is_plain(value) and np.asarray(value).dtype.kind in "fiub")


def logical_not(x: Any) -> Tensor:
    """The mask of where x is 0."""
    given = as_tensor(x)
    return affine(given, -1.0, 1.0) if is_mask(given) else binary(given, 0.0, "equal")


def logical_and(a: Any, b: Any) -> Tensor:
    """The mask of where neither is 0."""
    return mul(*_truths("&", a, b))


def logical_or(a: Any, b: Any) -> Tensor:
    """The mask of where not both are 0."""
    return maximum(*_truths("|", a, b))


def logical_xor(a: Any, b: Any) -> Tensor:
    """The mask of where one is 0 and the other is not."""
    left, right = _truths("^", a, b)
    return logical_not(binary(left, right, "equal"))


def _truths(sign: str, a: Any, b: Any) -> tuple[Tensor, Tensor]:
    for value in (a, b):
        if isinstance(value, (int, float, np.number)) and not isinstance(value, bool):
            raise TypeError(
                f"`{sign}` combines masks, not the number {value!r}; it binds more strongly than a comparison: write "
                f"(x > 0) {sign} (y > 0)"
            )
    left, right = _operands(sign, a, b)
    return _truth(left), _truth(right)


def _truth(x: Tensor) -> Tensor:
    return x if is_mask(x) else affine(binary(x, 0.0, "equal"), -1.0, 1.0)


def where(condition: Any, input: Any, other: Any) -> Tensor:
    """`input` where the condition is not 0, else `other`; all three broadcast.

    Nothing of what is not chosen enters: no NaN, and no gradient.

    Parameters
    ----------
    condition : tensor or array
        A mask such as x > 0, or an array of bools.
    input, other : tensor, array or number
    """
    if _is_plain(input) and _is_plain(other) and not isinstance(condition, np.ndarray):
        c = as_tensor(condition)
        like = c if c.dtype.kind == "f" else cast(c, np.float32)
        a, b = as_tensor(input, like=like), as_tensor(other, like=like)
    else:
        a, b = _operands("where", input, other)
        c = as_tensor(condition, like=a)
    c = cast(c, a.dtype) if is_mask(c) or c.dtype.kind in "iu" else c
    check_dtypes("where", c, a, ("the condition", "the input"))
    return behind_layout(lambda *operands: active_graph().add(WHERE, operands).output, c, a, b)


def sign(x: Any) -> Tensor:
    """1, 0 or -1 by sign, 0 at NaN; its gradient is 0."""
    return unary(x, "sign")


def sin(x: Any) -> Tensor:
    """Sine of radians, elementwise."""
    return unary(x, "sin")


def cos(x: Any) -> Tensor:
    """Cosine of radians, elementwise."""
    return unary(x, "cos")


def clamp(x: Any, min: float | None = None, max: float | None = None) -> Tensor:
    """x within bounds, elementwise; NaN stays. Its gradient is 0 beyond them.

    Parameters
    ----------
    x : tensor
    min, max : float, optional
        Numbers; where min is larger, max counts. fn.maximum and fn.minimum take tensors.
    """
    if min is None and max is None:
        raise ValueError("clamp: give min, max or both")
    low = -np.inf if min is None else _check.real("clamp: min", min)
    high = np.inf if max is None else _check.real("clamp: max", max)
    x = as_tensor(x)
    value = x
    if min is not None:
        value = maximum(value, low)
    if max is not None:
        value = minimum(value, high)
    return active_graph().add(CLAMP, [value, x], low=low, high=high).output


clip = clamp
