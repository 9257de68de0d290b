"""Affine and bilinear maps."""

from __future__ import annotations

from typing import Any

from fastnn.graph import as_tensor
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


@eager("input1", "input2", "weight", "bias")
def bilinear(input1: Any, input2: Any, weight: Any, bias: Any = None) -> Any:
    """x1^T W_k x2 + b_k for each output k.

    Parameters
    ----------
    input1 : (..., in1)
    input2 : (..., in2)
    weight : (out, in1, in2)
    bias : (out,), optional

    Returns
    -------
    (..., out)

    Examples
    --------
    >>> F.bilinear(np.array([[1.0, 2.0]]), np.array([[3.0]]), np.ones((1, 2, 1)))
    array([[9.]])
    """
    x, y, w = as_tensor(input1), as_tensor(input2), as_tensor(weight)
    fits = w.ndim == 3 and x.ndim == y.ndim > 0 and x.shape[:-1] == y.shape[:-1]
    if not fits or (x.shape[-1], y.shape[-1]) != tuple(w.shape[1:]):
        shapes = f"{tuple(x.shape)}, {tuple(y.shape)} and {tuple(w.shape)}"
        raise ValueError(f"bilinear: expected inputs (..., in1), (..., in2) and a weight (out, in1, in2), got {shapes}")
    out, in1, in2 = w.shape
    # (rows, in1) @ (in1, out * in2), and then a product of each row's (out, in2) with its x2.
    rows = x.reshape(-1, in1) @ w.permute(1, 0, 2).reshape(in1, out * in2)
    result = (rows.reshape(-1, out, in2) @ y.reshape(-1, in2, 1)).reshape(*x.shape[:-1], out)
    return result if bias is None else result + as_tensor(bias)
