"""Dropout."""

from __future__ import annotations

from typing import Any

from fastnn import _check
from fastnn.nn import functional as F
from fastnn.nn.module import Module


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
