"""Dropout: of elements, and of channels."""

from __future__ import annotations

from typing import Any

from fastnn import _check
from fastnn.nn._eager import eager
from fastnn.ops import random
from fastnn.ops.elementwise import where


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


@eager("input")
def alpha_dropout(input: Any, p: float = 0.5, training: bool = True) -> Any:
    """Dropout that keeps mean 0 and variance 1, for SELU (Klambauer et al., 2017), if training.

    Elements become SELU's negative limit with probability p; all are then scaled and moved.

    Examples
    --------
    >>> F.alpha_dropout(np.array([1.0, 2.0]), training=False)
    array([1., 2.])
    """
    p = _check.real("p", p, 0, 1)
    if not _check.flag("training", training) or p == 0:
        return input
    if p == 1:
        return input * 0.0
    limit = -1.7580993408473766  # -scale * alpha of SELU
    scale = ((1 - p) * (1 + p * limit**2)) ** -0.5
    kept = random.bernoulli(input.shape, input.dtype, 1 - p)
    return where(kept, input, limit) * scale - scale * p * limit
