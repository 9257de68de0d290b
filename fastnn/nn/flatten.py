"""Flatten."""

from __future__ import annotations

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
