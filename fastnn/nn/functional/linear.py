"""Affine maps."""

from __future__ import annotations

from typing import Any

from fastnn.nn._eager import eager
from fastnn.ops import gemm


@eager("input", "weight", "bias")
def linear(input: Any, weight: Any, bias: Any = None) -> Any:
    """input @ weight.T + bias over the last dimension.

    Parameters
    ----------
    input : (..., in)
    weight : (out, in)
    bias : (out,), optional

    Returns
    -------
    (..., out)
    """
    return gemm.linear_map(input, weight, bias)
