"""Activations."""

from __future__ import annotations

from typing import Any

from fastnn import _check
from fastnn.nn._eager import eager
from fastnn.ops import loss
from fastnn.ops.activation import activation


@eager("input")
def relu(input: Any) -> Any:
    """max(x, 0); NaN stays NaN."""
    return activation(input, "relu")


@eager("input")
def leaky_relu(input: Any, negative_slope: float = 0.01) -> Any:
    """x where x > 0, else negative_slope * x."""
    return activation(input, "leaky_relu", _check.real("negative_slope", negative_slope))


@eager("input")
def elu(input: Any, alpha: float = 1.0) -> Any:
    """x where x > 0, else alpha * (exp(x) - 1) (Clevert et al., 2016)."""
    return activation(input, "elu", _check.real("alpha", alpha))


@eager("input")
def sigmoid(input: Any) -> Any:
    """1 / (1 + exp(-x))."""
    return activation(input, "sigmoid")


@eager("input")
def tanh(input: Any) -> Any:
    """Hyperbolic tangent."""
    return activation(input, "tanh")


@eager("input")
def gelu(input: Any) -> Any:
    """x * Phi(x), with the exact normal distribution function (Hendrycks and Gimpel, 2016)."""
    return activation(input, "gelu")


@eager("input")
def silu(input: Any) -> Any:
    """x * sigmoid(x)."""
    return activation(input, "silu")


@eager("input")
def softsign(input: Any) -> Any:
    """x / (1 + |x|) (Bergstra et al., 2009).

    Examples
    --------
    >>> F.softsign(np.array([-3.0, 0.0, 1.0]))
    array([-0.75,  0.  ,  0.5 ])
    """
    return activation(input, "softsign")


@eager("input")
def softmax(input: Any, dim: int) -> Any:
    """exp(x) / sum(exp(x)) along a dimension."""
    return loss.softmax(input, dim)


@eager("input")
def log_softmax(input: Any, dim: int) -> Any:
    """x - log(sum(exp(x))) along a dimension."""
    return loss.softmax(input, dim, log=True)
