"""Activations."""

from __future__ import annotations

import math
from typing import Any

from fastnn import _check
from fastnn.graph import as_tensor
from fastnn.nn._eager import eager
from fastnn.ops import loss, random
from fastnn.ops.activation import activation
from fastnn.ops.arguments import check_dtypes, check_float, normalize_dim
from fastnn.ops.elementwise import add, binary, mul, neg, sub, unary
from fastnn.ops.index import getitem
from fastnn.ops.layout import reshape
from fastnn.ops.reduce import reduce
from fastnn.sizes import describe


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
    return activation(input, "elu", _check.real("alpha", alpha), 1.0)


@eager("input")
def celu(input: Any, alpha: float = 1.0) -> Any:
    """x where x > 0, else alpha * (exp(x / alpha) - 1) (Barron, 2017).

    Examples
    --------
    >>> F.celu(np.array([-np.inf, 0.0, 3.0]), alpha=2.0)
    array([-2.,  0.,  3.])
    """
    alpha = _not_zero("alpha", alpha)
    return activation(input, "elu", alpha, 1 / alpha)


@eager("input")
def selu(input: Any) -> Any:
    """1.0507 * elu(x, 1.67326), which keeps mean 0 and variance 1 in deep networks (Klambauer et al., 2017).

    Examples
    --------
    >>> F.selu(np.array([-np.inf, 0.0, 1.0])).round(4)
    array([-1.7581,  0.    ,  1.0507])
    """
    return activation(input, "selu")


@eager("input")
def sigmoid(input: Any) -> Any:
    """1 / (1 + exp(-x))."""
    return activation(input, "sigmoid")


@eager("input")
def tanh(input: Any) -> Any:
    """Hyperbolic tangent."""
    return activation(input, "tanh")


@eager("input")
def gelu(input: Any, approximate: str = "none") -> Any:
    """x * Phi(x), Phi the normal distribution function (Hendrycks and Gimpel, 2016).

    With approximate="tanh", x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))), as in GPT-2.
    """
    if approximate not in ("none", "tanh"):
        raise ValueError(f"approximate must be 'none' or 'tanh', got {_check.brief(approximate)}")
    return activation(input, "gelu" if approximate == "none" else "gelu_tanh")


@eager("input")
def silu(input: Any) -> Any:
    """x * sigmoid(x)."""
    return activation(input, "silu", 1.0)


def swish(input: Any, beta: Any = 1.0) -> Any:
    """x * sigmoid(beta * x) (Ramachandran et al., 2017).

    Parameters
    ----------
    input : (...)
    beta : number, tensor or array, default 1
        Broadcast with the input; a tensor or parameter has a gradient.

    Examples
    --------
    >>> F.swish(np.array([-1.0, 0.0, 1.0]), beta=0.0)
    array([-0.5,  0. ,  0.5])
    """
    return _swish_of_tensor(input, beta) if hasattr(beta, "shape") else _swish_of_number(input, beta)


@eager("input")
def _swish_of_number(input: Any, beta: float) -> Any:
    return activation(input, "silu", _check.real("beta", beta))


@eager("input", "beta")
def _swish_of_tensor(input: Any, beta: Any) -> Any:
    return mul(input, activation(mul(input, beta), "sigmoid"))


@eager("input")
def mish(input: Any) -> Any:
    """x * tanh(log(1 + exp(x))) (Misra, 2019).

    Examples
    --------
    >>> F.mish(np.array([-1.0, 0.0, 100.0])).round(4)
    array([ -0.3034,   0.    , 100.    ])
    """
    return activation(input, "mish")


@eager("input")
def softplus(input: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
    """log(1 + exp(beta * x)) / beta; x itself where beta * x > threshold.

    Examples
    --------
    >>> F.softplus(np.array([-np.inf, 0.0, 1000.0])).round(4)
    array([0.000e+00, 6.931e-01, 1.000e+03])
    """
    return activation(input, "softplus", _not_zero("beta", beta), _check.real("threshold", threshold))


@eager("input")
def logsigmoid(input: Any) -> Any:
    """log(sigmoid(x)), computed without overflow.

    Examples
    --------
    >>> F.logsigmoid(np.array([-1000.0, 0.0])).round(4)
    array([-1.000e+03, -6.931e-01])
    """
    return activation(input, "softplus", -1.0, math.inf)


@eager("input")
def hardsigmoid(input: Any) -> Any:
    """x / 6 + 1 / 2, at least 0 and at most 1.

    Examples
    --------
    >>> F.hardsigmoid(np.array([-4.0, 0.0, 1.5, 4.0]))
    array([0.  , 0.5 , 0.75, 1.  ])
    """
    return activation(input, "hardsigmoid")


@eager("input")
def hardswish(input: Any) -> Any:
    """x * hardsigmoid(x) (Howard et al., 2019).

    Examples
    --------
    >>> F.hardswish(np.array([-3.0, 0.0, 1.5, 4.0]))
    array([-0.   ,  0.   ,  1.125,  4.   ])
    """
    return activation(input, "hardswish")


@eager("input")
def hardtanh(input: Any, min_val: float = -1.0, max_val: float = 1.0) -> Any:
    """x, at least min_val and at most max_val.

    Examples
    --------
    >>> F.hardtanh(np.array([-4.0, 0.5, 4.0]))
    array([-1. ,  0.5,  1. ])
    """
    low, high = _check.real("min_val", min_val), _check.real("max_val", max_val)
    if low > high:
        raise ValueError(f"min_val must not exceed max_val, got {low} and {high}")
    return activation(input, "hardtanh", low, high)


@eager("input")
def relu6(input: Any) -> Any:
    """max(x, 0), at most 6.

    Examples
    --------
    >>> F.relu6(np.array([-4.0, 0.5, 8.0]))
    array([0. , 0.5, 6. ])
    """
    return activation(input, "hardtanh", 0.0, 6.0)


@eager("input")
def hardshrink(input: Any, lambd: float = 0.5) -> Any:
    """0 where -lambd <= x <= lambd, else x.

    Examples
    --------
    >>> F.hardshrink(np.array([-2.0, 0.5, 0.75]))
    array([-2.  ,  0.  ,  0.75])
    """
    return activation(input, "hardshrink", _check.real("lambd", lambd))


@eager("input")
def softshrink(input: Any, lambd: float = 0.5) -> Any:
    """0 where -lambd <= x <= lambd, else x less lambd by its size.

    Examples
    --------
    >>> F.softshrink(np.array([-2.0, 0.5, 0.75]))
    array([-1.5 ,  0.  ,  0.25])
    """
    return activation(input, "softshrink", _check.real("lambd", lambd, 0))


@eager("input")
def tanhshrink(input: Any) -> Any:
    """x - tanh(x).

    Examples
    --------
    >>> F.tanhshrink(np.array([0.0, 20.0]))
    array([ 0., 19.])
    """
    return sub(input, activation(input, "tanh"))


@eager("input")
def threshold(input: Any, threshold: float, value: float) -> Any:
    """x where x > threshold, else value.

    Examples
    --------
    >>> F.threshold(np.array([-2.0, 0.5, 0.75]), 0.5, -1.0)
    array([-1.  , -1.  ,  0.75])
    """
    return activation(input, "threshold", _check.real("threshold", threshold), _check.real("value", value))


@eager("input")
def step(input: Any) -> Any:
    """1 where x > 0, else 0, as a perceptron answers; its gradient is 0. NaN stays NaN.

    Examples
    --------
    >>> F.step(np.array([-2.0, 0.0, 0.5]))
    array([0., 0., 1.])
    """
    return activation(input, "step")


@eager("input")
def sign(input: Any) -> Any:
    """1 where x > 0, -1 where x < 0, else 0; its gradient is 0.

    Examples
    --------
    >>> F.sign(np.array([-2.0, 0.0, 0.5]))
    array([-1.,  0.,  1.])
    """
    return unary(input, "sign")


@eager("input", "weight")
def prelu(input: Any, weight: Any) -> Any:
    """x where x > 0, else weight * x (He et al., 2015).

    Parameters
    ----------
    input : (N, C, ...)
    weight : (C,) or (1,)
        Slope of each channel, or of all.

    Examples
    --------
    >>> F.prelu(np.array([[-2.0, -2.0, 3.0]]), np.array([0.25, 0.5, 0.5]))
    array([[-0.5, -1. ,  3. ]])
    """
    x = as_tensor(input)
    weight = as_tensor(weight, like=x)
    check_float("prelu", x)
    check_dtypes("prelu", x, weight, ("the input", "the weight"))
    channels = x.shape[1] if x.ndim > 1 else 1
    if weight.shape not in ((), (1,), (channels,)):
        raise ValueError(
            f"prelu: weight has shape {describe(weight.shape)}; the input's {describe(x.shape)} wants (1,) or "
            f"{describe((channels,))}"
        )
    if weight.ndim and x.ndim > 2:
        weight = reshape(weight, (*weight.shape, *[1] * (x.ndim - 2)))
    return mul(x, _below(binary(x, 0.0, "greater"), weight))


@eager("input")
def rrelu(input: Any, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False) -> Any:
    """x where x > 0, else x times a slope between `lower` and `upper` (Xu et al., 2015).

    In training, each element has a slope of its own, drawn evenly at each run from the seed that
    `fn.manual_seed` sets; else all have the mean of both.

    Examples
    --------
    >>> F.rrelu(np.array([-1.0, 2.0]), 0.25, 0.75)
    array([-0.5,  2. ])
    """
    low, high = _check.real("lower", lower), _check.real("upper", upper)
    if low > high:
        raise ValueError(f"lower must not exceed upper, got {low} and {high}")
    x = as_tensor(input)
    check_float("rrelu", x)
    if not _check.flag("training", training):
        return activation(x, "leaky_relu", (low + high) / 2)
    return mul(x, _below(binary(x, 0.0, "greater"), random.uniform(x.shape, x.dtype, low, high)))


def _below(above: Any, slope: Any) -> Any:
    """1 where `above` is 1, else `slope`, which may hold what is not finite."""
    return add(above, binary(slope, above, "zero_where"))


@eager("input")
def glu(input: Any, dim: int = -1) -> Any:
    """a * sigmoid(b), with a and b the halves of the input along a dimension (Dauphin et al., 2017).

    Examples
    --------
    >>> F.glu(np.array([[1.0, 2.0, 0.0, 0.0]]))
    array([[0.5, 1. ]])
    """
    x = as_tensor(input)
    check_float("glu", x)
    d = normalize_dim(dim, x.ndim, "glu")
    if x.shape[d] % 2:
        raise ValueError(f"glu: input has shape {describe(x.shape)}; its size along dim {dim} must be even")
    half, before = x.shape[d] // 2, (slice(None),) * d
    return mul(getitem(x, (*before, slice(half))), activation(getitem(x, (*before, slice(half, None))), "sigmoid"))


@eager("input")
def maxout(input: Any, pieces: int, dim: int = 1) -> Any:
    """The largest of every `pieces` neighbours along a dimension (Goodfellow et al., 2013).

    Behind a linear layer or convolution of pieces * n channels: n convex functions, each the largest of linear ones.
    Ties share the gradient.

    Parameters
    ----------
    input : (N, pieces * n, ...)
    pieces : int
    dim : int, default 1

    Examples
    --------
    >>> F.maxout(np.array([[1.0, 5.0, -2.0, -3.0]]), 2)
    array([[ 5., -2.]])
    """
    x = as_tensor(input)
    check_float("maxout", x)
    pieces = _check.size("pieces", pieces, 1)
    d = normalize_dim(dim, x.ndim, "maxout")
    if x.shape[d] % pieces:
        raise ValueError(
            f"maxout: input has shape {describe(x.shape)}; its size along dim {dim} must be a multiple of "
            f"pieces={pieces}"
        )
    return reduce(reshape(x, (*x.shape[:d], x.shape[d] // pieces, pieces, *x.shape[d + 1 :])), "max", d + 1)


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


@eager("input")
def softmin(input: Any, dim: int) -> Any:
    """softmax of -x along a dimension.

    Examples
    --------
    >>> F.softmin(np.log([[1.0, 3.0]]), 1)
    array([[0.75, 0.25]])
    """
    return loss.softmax(neg(input), dim)


def _not_zero(name: str, value: Any) -> float:
    number = _check.real(name, value)
    if number == 0:
        raise ValueError(f"{name} must not be 0")
    return number
