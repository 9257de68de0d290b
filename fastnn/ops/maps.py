"""Functions of one number, elementwise, and their gradients: trigonometric, hyperbolic, erf, and rounding."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from fastnn.graph import Tensor
from fastnn.ops.elementwise import GRADIENTS, sub, unary, where

_BY_INPUT: dict[str, Callable[[Tensor], Tensor]] = {
    "asin": lambda x: _cosine_of_asin(x) ** -1.0,
    "acos": lambda x: -(_cosine_of_asin(x) ** -1.0),
    "atan": lambda x: (x.square() + 1.0) ** -1.0,
    "sinh": lambda x: cosh(x),
    "cosh": lambda x: sinh(x),
    "asinh": lambda x: (x.square() + 1.0) ** -0.5,
    "acosh": lambda x: (x.square() - 1.0) ** -0.5,
    "atanh": lambda x: (sub(1.0, x) * (x + 1.0)) ** -1.0,
    "log1p": lambda x: (x + 1.0) ** -1.0,
    "erf": lambda x: (-x.square()).exp() * (2.0 / math.sqrt(math.pi)),
}
_BY_OUTPUT: dict[str, Callable[[Tensor], Tensor]] = {
    "tan": lambda y: y.square() + 1.0,
    "expm1": lambda y: y + 1.0,
}


def _cosine_of_asin(x: Tensor) -> Tensor:
    return (sub(1.0, x) * (x + 1.0)).sqrt()


GRADIENTS.update(
    {kind: lambda dy, x, y, slope=slope: dy * slope(x) for kind, slope in _BY_INPUT.items()}
    | {kind: lambda dy, x, y, slope=slope: dy * slope(y) for kind, slope in _BY_OUTPUT.items()}
)


def tan(x: Any) -> Tensor:
    """Tangent of radians, elementwise."""
    return unary(x, "tan")


def asin(x: Any) -> Tensor:
    """Arc sine in radians, elementwise; NaN beyond -1 and 1, where its gradient is infinite."""
    return unary(x, "asin")


def acos(x: Any) -> Tensor:
    """Arc cosine in radians, elementwise; NaN beyond -1 and 1, where its gradient is infinite."""
    return unary(x, "acos")


def atan(x: Any) -> Tensor:
    """Arc tangent in radians, elementwise."""
    return unary(x, "atan")


def sinh(x: Any) -> Tensor:
    """Hyperbolic sine, elementwise."""
    return unary(x, "sinh")


def cosh(x: Any) -> Tensor:
    """Hyperbolic cosine, elementwise."""
    return unary(x, "cosh")


def asinh(x: Any) -> Tensor:
    """Inverse hyperbolic sine, elementwise."""
    return unary(x, "asinh")


def acosh(x: Any) -> Tensor:
    """Inverse hyperbolic cosine, elementwise; NaN below 1."""
    return unary(x, "acosh")


def atanh(x: Any) -> Tensor:
    """Inverse hyperbolic tangent, elementwise; NaN beyond -1 and 1."""
    return unary(x, "atanh")


def erf(x: Any) -> Tensor:
    """The error function, elementwise."""
    return unary(x, "erf")


def expm1(x: Any) -> Tensor:
    """e to the power of x, minus 1, elementwise: right to the last digits near 0, too."""
    return unary(x, "expm1")


def log1p(x: Any) -> Tensor:
    """The logarithm of 1 + x, elementwise: right to the last digits near 0, too."""
    return unary(x, "log1p")


def floor(x: Any) -> Tensor:
    """The largest whole number that is not above x, elementwise; its gradient is 0."""
    return unary(x, "floor")


def ceil(x: Any) -> Tensor:
    """The smallest whole number that is not below x, elementwise; its gradient is 0."""
    return unary(x, "ceil")


def round(x: Any) -> Tensor:
    """The nearest whole number, of two the even one, elementwise; its gradient is 0."""
    return unary(x, "round")


def trunc(x: Any) -> Tensor:
    """x without what is behind the point, elementwise; its gradient is 0."""
    given = unary(x, "floor")
    return where(given < 0.0, unary(x, "ceil"), given)
