"""The gemm stem's native ops as functions: whole products, as `fastnn.ops.gemm` lowers them."""

import numpy as np

from fastnn_ext.gemm import packed_columns, row_parts

from native import run_op
from native.activation import epilogue

__all__ = ["gemm", "packed_columns", "row_parts"]


def gemm(
    a, b, *, bias=None, transpose_a=False, transpose_b=False, out=None, activation=None, alpha=None, saved=None,
    activation_grad=None,
):  # fmt: skip
    """C = f(A B + bias), or (A B + bias) * f'(saved), of matrices or stacks of them, of any strides."""
    a = a.swapaxes(-1, -2) if transpose_a else a
    b = b.swapaxes(-1, -2) if transpose_b else b
    (m, k), n = a.shape[-2:], b.shape[-1]
    stack = (max(len(a), len(b)),) if a.ndim == 3 else ()
    out = np.empty((*stack, m, n), a.dtype) if out is None else out
    parts = row_parts(n, k, a.itemsize) if m == 1 and not stack and stride(b, -1) == 1 else 1
    columns = 0 if stack else packed_columns(m, n, k, a.itemsize)
    partial = np.empty((parts, n), a.dtype) if parts > 1 else None
    panels = np.empty((k, columns), a.dtype) if columns else None
    sizes = dict(
        batch=stack[0] if stack else 1, m=m, n=n, k=k, a_row=stride(a, -2), a_col=stride(a, -1), b_row=stride(b, -2),
        b_col=stride(b, -1), c_row=stride(out, -2), a_batch=batch_stride(a), b_batch=batch_stride(b),
        c_batch=batch_stride(out),
    )  # fmt: skip
    # One of both at most, whose settings stand last.
    kinds = [(activation, "act"), (activation_grad, "act_grad")]
    kinds.sort(key=lambda entry: entry[0] is not None)
    kinds = epilogue(kinds[0][0], alpha, name=kinds[0][1]) | epilogue(kinds[1][0], alpha, name=kinds[1][1])
    end = dict(c=out, partial=partial, bias=bias, saved=saved, **kinds)
    if panels is not None:
        run_op("gemm_pack", panels=panels, b=b, **sizes)
    run_op("gemm", a=a, b=b, panels=panels, **sizes, **end)
    if partial is not None:
        run_op("gemm_sum", **sizes, **end)
    return out


def stride(array, axis):
    """In elements."""
    return array.strides[axis] // array.itemsize


def batch_stride(array):
    """0 for one matrix, which is that of all products."""
    return stride(array, 0) if array.ndim == 3 and len(array) > 1 else 0
