"""Gemm: products of matrices."""

from __future__ import annotations

from typing import Any

from fastnn.graph import Tensor
from fastnn.onnx.operator import Call, operator
from fastnn.ops.gemm import matmul


def _order(input: str, shape: tuple[int, ...], attributes: dict[str, Any]) -> tuple[int, ...] | None:
    """Kernels read (in, out)."""
    return (1, 0) if input == "b" and len(shape) == 2 and attributes.get("transB") == 1 else None


@operator("Gemm", 7, order=_order)
def gemm(
    call: Call,
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Tensor:
    """alpha * a @ b + beta * c."""
    if a.ndim != 2 or b.ndim != 2:
        raise ValueError(f"its inputs have {a.ndim} and {b.ndim} dimensions; expected matrices")
    product = matmul(a.T if transA else a, b.T if transB else b) * alpha
    return product if c is None or not beta else product + c * beta
