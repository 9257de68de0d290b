"""Activations as layers; fastnn.nn.functional has them as functions, with their formulas."""

from __future__ import annotations

from typing import Any

from fastnn import _check
from fastnn.nn import functional as F
from fastnn.nn.module import Module


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


class Sigmoid(Module):
    """1 / (1 + exp(-x))."""

    def forward(self, input: Any) -> Any:
        return F.sigmoid(input)


class Tanh(Module):
    """Hyperbolic tangent."""

    def forward(self, input: Any) -> Any:
        return F.tanh(input)


class GELU(Module):
    """x * Phi(x), exact."""

    def forward(self, input: Any) -> Any:
        return F.gelu(input)


class SiLU(Module):
    """x * sigmoid(x)."""

    def forward(self, input: Any) -> Any:
        return F.silu(input)


class Softsign(Module):
    """x / (1 + |x|).

    Examples
    --------
    >>> nn.Softsign()(np.array([-3.0, 0.0, 1.0]))
    array([-0.75,  0.  ,  0.5 ])
    """

    def forward(self, input: Any) -> Any:
        return F.softsign(input)


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
