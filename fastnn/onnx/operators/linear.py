"""Products of matrices."""

from __future__ import annotations

from typing import Any

from fastnn.graph import Tensor
from fastnn.onnx.operator import Call, operator
from fastnn.ops.gemm import matmul, product
from fastnn.sizes import same_shape


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
    a, b = a.T if transA else a, b.T if transB else b
    if alpha == 1 and c is not None and beta and same_shape(c.shape, b.shape[1:]) and a.dtype == b.dtype == c.dtype:
        return product(a, b, bias=c * beta)
    result = matmul(a, b) * alpha
    return result if c is None or not beta else result + c * beta


@operator("MatMul", 1)
def matrix_product(call: Call, A: Tensor, B: Tensor) -> Tensor:
    """NumPy's A @ B."""
    return matmul(A, B)
