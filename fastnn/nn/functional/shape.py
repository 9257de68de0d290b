"""Flattening, its opposite, and joining."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fastnn import _check
from fastnn.graph import as_tensor, is_tracing
from fastnn.nn._eager import eager, run_function
from fastnn.ops import layout, shape
from fastnn.ops.arguments import normalize_dim


@eager("input")
def flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    """Merge the dimensions start_dim ... end_dim into one."""
    return layout.flatten(input, start_dim, end_dim)


@eager("input")
def unflatten(input: Any, dim: int, sizes: Sequence[int]) -> Any:
    """Cut a dimension into several; one of their sizes may be -1.

    Examples
    --------
    >>> F.unflatten(np.zeros((2, 6)), 1, (3, -1)).shape
    (2, 3, 2)
    """
    x = as_tensor(input)
    d = normalize_dim(dim, x.ndim, "unflatten")
    return layout.reshape(x, (*x.shape[:d], *_split(sizes, x.shape[d]), *x.shape[d + 1 :]))


def _split(sizes: Sequence[int], whole: int) -> list[int]:
    """Sizes whose product is `whole`."""
    filled = [_check.integer(f"unflatten: sizes[{i}]", size, -1) for i, size in enumerate(sizes)]
    known = math.prod(size for size in filled if size != -1)
    if -1 in filled and filled.count(-1) == 1 and known and whole % known == 0:
        filled[filled.index(-1)] = whole // known
    if not filled or math.prod(filled) != whole or min(filled) < 1:
        raise ValueError(f"unflatten: a dimension of {whole} cannot be cut into {tuple(sizes)}")
    return filled


def concat(tensors: Sequence[Any], dim: int = 0) -> Any:
    """Join tensors along a dimension; all other sizes must agree."""
    if is_tracing() or not isinstance(tensors, (list, tuple)) or not tensors:
        return shape.concat(tensors, dim)
    return run_function(_concat, {f"tensors[{i}]": t for i, t in enumerate(tensors)}, dim=dim)


def _concat(dim: int, **tensors: Any) -> Any:
    return shape.concat(list(tensors.values()), dim)


cat = concat
