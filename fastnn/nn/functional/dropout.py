"""Dropout: of elements, and of channels."""

from __future__ import annotations

from typing import Any

from fastnn import _check
from fastnn.nn._eager import eager
from fastnn.ops import random


@eager("input")
def dropout(input: Any, p: float = 0.5, training: bool = True) -> Any:
    """Zero each element with probability p and scale the rest by 1 / (1 - p), if training.

    The mask is drawn anew at each run, from the seed that `fn.manual_seed` sets.
    """
    p = _check.real("p", p, 0, 1)
    return random.dropout(input, p if _check.flag("training", training) else 0.0)


@eager("input")
def dropout2d(input: Any, p: float = 0.5, training: bool = True) -> Any:
    """dropout of whole channels of images (N, C, H, W) (Tompson et al., 2015)."""
    p = _check.real("p", p, 0, 1)
    return random.dropout2d(input, p if _check.flag("training", training) else 0.0)
