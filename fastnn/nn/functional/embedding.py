"""Rows for labels."""

from __future__ import annotations

from typing import Any

from fastnn import _check
from fastnn.nn._eager import eager
from fastnn.ops import index


@eager("input")
def one_hot(input: Any, num_classes: int) -> Any:
    """A row of zeros with a one at its place for each label, as a mask: float32, or the dtype it is combined with.

    Parameters
    ----------
    input : (...) of int64
        Labels, 0 ... num_classes - 1.
    num_classes : int

    Returns
    -------
    (..., num_classes)

    Examples
    --------
    >>> F.one_hot(np.array([2, 0]), 3)
    array([[0., 0., 1.],
           [1., 0., 0.]], dtype=float32)
    """
    return index.one_hot(input, _check.size("num_classes", num_classes, 1))
