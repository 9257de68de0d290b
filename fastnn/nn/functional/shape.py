"""Flattening and joining."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastnn.graph import is_tracing
from fastnn.nn._eager import eager, run_function
from fastnn.ops import layout, shape


@eager("input")
def flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    """Merge the dimensions start_dim ... end_dim into one."""
    return layout.flatten(input, start_dim, end_dim)


def concat(tensors: Sequence[Any], dim: int = 0) -> Any:
    """Join tensors along a dimension; all other sizes must agree."""
    if is_tracing() or not isinstance(tensors, (list, tuple)) or not tensors:
        return shape.concat(tensors, dim)
    return run_function(_concat, {f"tensors[{i}]": t for i, t in enumerate(tensors)}, dim=dim)


def _concat(dim: int, **tensors: Any) -> Any:
    return shape.concat(list(tensors.values()), dim)


cat = concat
