"""Dropout, and noise."""

from __future__ import annotations

from typing import Any

from fastnn import _check
from fastnn.nn import functional as F
from fastnn.nn.module import Module
from fastnn.ops import random


class Dropout(Module):
    """In training mode, zeroes each element with probability p and scales the rest by 1 / (1 - p).

    In evaluation mode it does nothing (Srivastava et al., 2014; "inverted", as PyTorch's). The mask
    follows from the seed that `fn.manual_seed` sets, the step and the element's position, whatever
    the number of threads.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = _check.real("p", p, 0, 1)

    def forward(self, input: Any) -> Any:
        return F.dropout(input, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class Dropout2d(Dropout):
    """Dropout of whole channels of images (N, C, H, W) (Tompson et al., 2015)."""

    def forward(self, input: Any) -> Any:
        return F.dropout2d(input, self.p, self.training)


class AlphaDropout(Dropout):
    """Dropout that keeps mean 0 and variance 1, for SELU (Klambauer et al., 2017); see F.alpha_dropout.

    Examples
    --------
    >>> nn.AlphaDropout(0.5).eval()(np.ones(2, np.float32))
    array([1., 1.], dtype=float32)
    """

    def forward(self, input: Any) -> Any:
        return F.alpha_dropout(input, self.p, self.training)


class GaussianNoise(Module):
    """In training mode, adds normal numbers of mean 0 and standard deviation `std` to what has any shape.

    They are drawn anew in each run. In evaluation mode it does nothing.

    Examples
    --------
    >>> nn.GaussianNoise(0.1).eval()(np.ones(2, np.float32))
    array([1., 1.], dtype=float32)
    """

    def __init__(self, std: float) -> None:
        super().__init__()
        self.std = _check.real("std", std, 0)

    def forward(self, input: Any) -> Any:
        if not self.training or self.std == 0:
            return input
        return input + random.normal(input.shape, input.dtype, 0.0, self.std)

    def extra_repr(self) -> str:
        return f"std={self.std}"
