"""Activations as layers; fastnn.nn.functional has them as functions, with their formulas."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn import _check
from fastnn.nn import functional as F
from fastnn.nn.module import Module
from fastnn.nn.parameter import Parameter


class ReLU(Module):
    """max(x, 0)."""

    def forward(self, input: Any) -> Any:
        return F.relu(input)


class LeakyReLU(Module):
    """x where x > 0, else negative_slope * x."""

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__()
        self.negative_slope = _check.real("negative_slope", negative_slope)

    def forward(self, input: Any) -> Any:
        return F.leaky_relu(input, self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"


class ELU(Module):
    """x where x > 0, else alpha * (exp(x) - 1)."""

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = _check.real("alpha", alpha)

    def forward(self, input: Any) -> Any:
        return F.elu(input, self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"


class CELU(ELU):
    """x where x > 0, else alpha * (exp(x / alpha) - 1)."""

    def forward(self, input: Any) -> Any:
        return F.celu(input, self.alpha)


class SELU(Module):
    """1.0507 * elu(x, 1.67326), which keeps mean 0 and variance 1 in deep networks."""

    def forward(self, input: Any) -> Any:
        return F.selu(input)


class ReLU6(Module):
    """max(x, 0), at most 6."""

    def forward(self, input: Any) -> Any:
        return F.relu6(input)


class PReLU(Module):
    """x where x > 0, else weight * x, with slopes that are learned.

    Parameters
    ----------
    num_parameters : int, default 1
        1, or the number of channels: a slope for each.
    init : number, default 0.25
    dtype : float32 or float64, default float32

    Attributes
    ----------
    weight : Parameter (num_parameters,)
    """

    def __init__(self, num_parameters: int = 1, init: float = 0.25, dtype: Any = None) -> None:
        super().__init__()
        self.num_parameters = _check.size("num_parameters", num_parameters, 1)
        init = _check.real("init", init)
        self.weight = Parameter(np.full(self.num_parameters, init, _check.floating("dtype", dtype)))

    def forward(self, input: Any) -> Any:
        return F.prelu(input, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"


class RReLU(Module):
    """x where x > 0, else x times a slope: in training mode drawn for each element, else the mean of both limits."""

    def __init__(self, lower: float = 1 / 8, upper: float = 1 / 3) -> None:
        super().__init__()
        self.lower = _check.real("lower", lower)
        self.upper = _check.real("upper", upper)

    def forward(self, input: Any) -> Any:
        return F.rrelu(input, self.lower, self.upper, self.training)

    def extra_repr(self) -> str:
        return f"lower={self.lower}, upper={self.upper}"


class Step(Module):
    """1 where x > 0, else 0, as a perceptron answers; its gradient is 0."""

    def forward(self, input: Any) -> Any:
        return F.step(input)


class Sign(Module):
    """1 where x > 0, -1 where x < 0, else 0; its gradient is 0."""

    def forward(self, input: Any) -> Any:
        return F.sign(input)


class Sigmoid(Module):
    """1 / (1 + exp(-x))."""

    def forward(self, input: Any) -> Any:
        return F.sigmoid(input)


class Tanh(Module):
    """Hyperbolic tangent."""

    def forward(self, input: Any) -> Any:
        return F.tanh(input)


class GELU(Module):
    """x * Phi(x), exact, or with approximate="tanh" by a formula that approximates it."""

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        if approximate not in ("none", "tanh"):
            raise ValueError(f"approximate must be 'none' or 'tanh', got {_check.brief(approximate)}")
        self.approximate = approximate

    def forward(self, input: Any) -> Any:
        return F.gelu(input, self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class SiLU(Module):
    """x * sigmoid(x)."""

    def forward(self, input: Any) -> Any:
        return F.silu(input)


class Swish(Module):
    """x * sigmoid(beta * x), with a beta that is fixed or learned; SiLU is that of beta 1.

    Parameters
    ----------
    beta : number, default 1
        Its value, or where it starts.
    trainable : bool, default False
    dtype : float32 or float64, default float32
        Of a beta that is learned.

    Attributes
    ----------
    beta : float, or Parameter (1,) if trainable
    """

    def __init__(self, beta: float = 1.0, trainable: bool = False, dtype: Any = None) -> None:
        super().__init__()
        beta = _check.real("beta", beta)
        dtype = _check.floating("dtype", dtype)
        self.beta: Any = Parameter(np.full(1, beta, dtype)) if _check.flag("trainable", trainable) else beta

    def forward(self, input: Any) -> Any:
        return F.swish(input, self.beta)

    def extra_repr(self) -> str:
        return "trainable=True" if isinstance(self.beta, Parameter) else f"beta={self.beta}"


class Mish(Module):
    """x * tanh(log(1 + exp(x)))."""

    def forward(self, input: Any) -> Any:
        return F.mish(input)


class Softplus(Module):
    """log(1 + exp(beta * x)) / beta; x itself where beta * x > threshold."""

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta = _check.real("beta", beta)
        self.threshold = _check.real("threshold", threshold)

    def forward(self, input: Any) -> Any:
        return F.softplus(input, self.beta, self.threshold)

    def extra_repr(self) -> str:
        return f"beta={self.beta}, threshold={self.threshold}"


class LogSigmoid(Module):
    """log(sigmoid(x)), without overflow."""

    def forward(self, input: Any) -> Any:
        return F.logsigmoid(input)


class Softsign(Module):
    """x / (1 + |x|).

    Examples
    --------
    >>> nn.Softsign()(np.array([-3.0, 0.0, 1.0]))
    array([-0.75,  0.  ,  0.5 ])
    """

    def forward(self, input: Any) -> Any:
        return F.softsign(input)


class Hardsigmoid(Module):
    """x / 6 + 1 / 2, at least 0 and at most 1."""

    def forward(self, input: Any) -> Any:
        return F.hardsigmoid(input)


class Hardswish(Module):
    """x * hardsigmoid(x)."""

    def forward(self, input: Any) -> Any:
        return F.hardswish(input)


class Hardtanh(Module):
    """x, at least min_val and at most max_val."""

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0) -> None:
        super().__init__()
        self.min_val = _check.real("min_val", min_val)
        self.max_val = _check.real("max_val", max_val)

    def forward(self, input: Any) -> Any:
        return F.hardtanh(input, self.min_val, self.max_val)

    def extra_repr(self) -> str:
        return f"min_val={self.min_val}, max_val={self.max_val}"


class Hardshrink(Module):
    """0 where -lambd <= x <= lambd, else x."""

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        self.lambd = _check.real("lambd", lambd)

    def forward(self, input: Any) -> Any:
        return F.hardshrink(input, self.lambd)

    def extra_repr(self) -> str:
        return f"lambd={self.lambd}"


class Softshrink(Module):
    """0 where -lambd <= x <= lambd, else x less lambd by its size."""

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        self.lambd = _check.real("lambd", lambd, 0)

    def forward(self, input: Any) -> Any:
        return F.softshrink(input, self.lambd)

    def extra_repr(self) -> str:
        return f"lambd={self.lambd}"


class Tanhshrink(Module):
    """x - tanh(x)."""

    def forward(self, input: Any) -> Any:
        return F.tanhshrink(input)


class Threshold(Module):
    """x where x > threshold, else value."""

    def __init__(self, threshold: float, value: float) -> None:
        super().__init__()
        self.threshold = _check.real("threshold", threshold)
        self.value = _check.real("value", value)

    def forward(self, input: Any) -> Any:
        return F.threshold(input, self.threshold, self.value)

    def extra_repr(self) -> str:
        return f"threshold={self.threshold}, value={self.value}"


class GLU(Module):
    """a * sigmoid(b), with a and b the halves of the input along dimension `dim`."""

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = _check.integer("dim", dim)

    def forward(self, input: Any) -> Any:
        return F.glu(input, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Maxout(Module):
    """The largest of every `pieces` neighbours along dimension `dim`; see functional.maxout."""

    def __init__(self, pieces: int, dim: int = 1) -> None:
        super().__init__()
        self.pieces = _check.size("pieces", pieces, 1)
        self.dim = _check.integer("dim", dim)

    def forward(self, input: Any) -> Any:
        return F.maxout(input, self.pieces, self.dim)

    def extra_repr(self) -> str:
        return f"pieces={self.pieces}, dim={self.dim}"


class Softmax(Module):
    """Softmax along dimension `dim`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = _check.integer("dim", dim)

    def forward(self, input: Any) -> Any:
        return F.softmax(input, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class LogSoftmax(Softmax):
    """Logarithm of the softmax along dimension `dim`."""

    def forward(self, input: Any) -> Any:
        return F.log_softmax(input, self.dim)


class Softmin(Softmax):
    """Softmax of -x along dimension `dim`."""

    def forward(self, input: Any) -> Any:
        return F.softmin(input, self.dim)
