"""Flatten and Unflatten."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastnn import _check
from fastnn.nn import functional as F
from fastnn.nn.module import Module


class Flatten(Module):
    """Merges the dimensions start_dim ... end_dim into one; by default all but the batch."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim = _check.integer("start_dim", start_dim)
        self.end_dim = _check.integer("end_dim", end_dim)

    def forward(self, input: Any) -> Any:
        return F.flatten(input, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """Cuts a dimension into several; one of their sizes may be -1.

    Examples
    --------
    >>> nn.Unflatten(1, (2, 3))(np.zeros((4, 6), np.float32)).shape
    (4, 2, 3)
    """

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        super().__init__()
        self.dim = _check.integer("dim", dim)
        self.unflattened_size = tuple(_check.integer("unflattened_size", size, -1) for size in unflattened_size)

    def forward(self, input: Any) -> Any:
        return F.unflatten(input, self.dim, self.unflattened_size)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"
