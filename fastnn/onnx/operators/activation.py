"""Activations: of each element, and the softmax family."""

from __future__ import annotations

import math
from collections.abc import Callable

from fastnn.graph import Tensor
from fastnn.onnx.operator import Call, axis_of, operator
from fastnn.ops.activation import activation
from fastnn.ops.elementwise import cast, clamp, where
from fastnn.ops.index import one_hot
from fastnn.ops.layout import reshape
from fastnn.ops.loss import softmax
from fastnn.sizes import count


def _plain(name: str, since: int, kind: str, alpha: float = 0.0, beta: float = 0.0) -> None:
    @operator(name, since)
    def function(call: Call, X: Tensor) -> Tensor:
        return activation(X, kind, alpha, beta)


_plain("Relu", 6, "relu")
_plain("Sigmoid", 6, "sigmoid")
_plain("Tanh", 6, "tanh")
_plain("Softsign", 1, "softsign")
_plain("Softplus", 1, "softplus", 1.0, math.inf)
_plain("HardSwish", 14, "hardswish")
_plain("Mish", 18, "mish")


@operator("LeakyRelu", 6)
def leaky_relu(call: Call, X: Tensor, *, alpha: float = 0.01) -> Tensor:
    """X where it is above 0, else alpha * X."""
    return activation(X, "leaky_relu", alpha)


@operator("PRelu", 7)
def prelu(call: Call, X: Tensor, slope: Tensor) -> Tensor:
    """X where it is at least 0, else slope * X; the slope broadcasts to X."""
    return where(X < 0.0, X * slope, X)


@operator("Elu", 6)
def elu(call: Call, X: Tensor, *, alpha: float = 1.0) -> Tensor:
    """X where it is above 0, else alpha * (exp(X) - 1)."""
    return activation(X, "elu", alpha, 1.0)


@operator("Celu", 12)
def celu(call: Call, X: Tensor, *, alpha: float = 1.0) -> Tensor:
    """X where it is above 0, else alpha * (exp(X / alpha) - 1)."""
    if alpha == 0:
        raise ValueError("its alpha must not be 0")
    return activation(X, "elu", alpha, 1 / alpha)


#: Selu's numbers as fastnn has them, and as files do, rounded to float32.
_ALPHA, _GAMMA = 1.6732632423543772, 1.0507009873554805


@operator("Selu", 6)
def selu(call: Call, X: Tensor, *, alpha: float = _ALPHA, gamma: float = _GAMMA) -> Tensor:
    """gamma * X where it is above 0, else gamma * alpha * (exp(X) - 1)."""
    if math.isclose(alpha, _ALPHA, rel_tol=2e-7) and math.isclose(gamma, _GAMMA, rel_tol=2e-7):
        return activation(X, "selu")
    return activation(X, "elu", alpha, 1.0) * gamma


@operator("Gelu", 20)
def gelu(call: Call, X: Tensor, *, approximate: str = "none") -> Tensor:
    """X times the normal distribution function, or its approximation by tanh."""
    if approximate not in ("none", "tanh"):
        raise ValueError(f"its approximate is {approximate!r}; expected none or tanh")
    return activation(X, "gelu" if approximate == "none" else "gelu_tanh")


@operator("HardSigmoid", 6)
def hard_sigmoid(call: Call, X: Tensor, *, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    """alpha * X + beta, at least 0 and at most 1."""
    if beta == 0.5 and math.isclose(alpha, 1 / 6, rel_tol=1e-7):
        return activation(X, "hardsigmoid")
    return clamp(X * alpha + beta, 0.0, 1.0)


@operator("Swish", 24)
def swish(call: Call, X: Tensor, *, alpha: float = 1.0) -> Tensor:
    """X * sigmoid(alpha * X)."""
    return activation(X, "silu", alpha)


@operator("SwiGLU", 28)
def swiglu(call: Call, A: Tensor, B: Tensor, *, alpha: float = 1.0) -> Tensor:
    """Swish of A, times B."""
    return activation(A, "silu", alpha) * B


@operator("ThresholdedRelu", 1)
def thresholded_relu(call: Call, X: Tensor, *, alpha: float = 1.0) -> Tensor:
    """X where it is above alpha, else 0."""
    return activation(X, "threshold", alpha, 0.0)


@operator("Shrink", 9)
def shrink(call: Call, input: Tensor, *, bias: float = 0.0, lambd: float = 0.5) -> Tensor:
    """input + bias below -lambd, input - bias above lambd, else 0."""
    if bias == lambd > 0:
        return activation(input, "softshrink", lambd)
    if bias == 0 and lambd > 0:
        return activation(input, "hardshrink", lambd)
    return where(input < -lambd, input + bias, where(input > lambd, input - bias, 0.0))


@operator("Softmax", 1)
def softmax_1(call: Call, input: Tensor, *, axis: int = 1) -> Tensor:
    """Over all dimensions from `axis` on."""
    return _of_rows(input, axis, lambda rows: softmax(rows, 1))


@operator("LogSoftmax", 1)
def log_softmax_1(call: Call, input: Tensor, *, axis: int = 1) -> Tensor:
    """The logarithm of softmax over all dimensions from `axis` on."""
    return _of_rows(input, axis, lambda rows: softmax(rows, 1, log=True))


@operator("Hardmax", 1)
def hardmax_1(call: Call, input: Tensor, *, axis: int = 1) -> Tensor:
    """1 at the first largest element over all dimensions from `axis` on, else 0."""
    return _of_rows(input, axis, _hardmax)


def _of_rows(x: Tensor, axis: int, function: Callable[[Tensor], Tensor]) -> Tensor:
    """function(rows) of x as a matrix: the dimensions before axis are rows, the others columns."""
    if not -x.ndim <= axis <= x.ndim:
        raise ValueError(f"axis {axis} is out of range for {x.ndim} dimensions")
    d = axis % x.ndim if axis < x.ndim else x.ndim
    return reshape(function(reshape(x, (count(x.shape[:d]), count(x.shape[d:])))), x.shape)


def _hardmax(x: Tensor) -> Tensor:
    """Along the last dimension."""
    return cast(one_hot(x.argmax(-1), x.shape[-1]), x.dtype)


@operator("Softmax", 13)
def softmax_13(call: Call, input: Tensor, *, axis: int = -1) -> Tensor:
    """exp(input) / sum(exp(input)) along a dimension."""
    return softmax(input, axis_of(axis, input.ndim))


@operator("LogSoftmax", 13)
def log_softmax_13(call: Call, input: Tensor, *, axis: int = -1) -> Tensor:
    """The logarithm of softmax along a dimension."""
    return softmax(input, axis_of(axis, input.ndim), log=True)


@operator("Hardmax", 13)
def hardmax_13(call: Call, input: Tensor, *, axis: int = -1) -> Tensor:
    """1 at the first largest element along a dimension, else 0."""
    d = axis_of(axis, input.ndim)
    return _hardmax(input.transpose(d, -1)).transpose(d, -1)
