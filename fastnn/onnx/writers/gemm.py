"""Matrix products."""

from __future__ import annotations

from fastnn.graph import Node, Tensor
from fastnn.onnx.writer import Writer, writes


@writes("matmul")
def matmul(w: Writer, node: Node) -> None:
    (a, b), y = node.inputs[:2], node.output
    left, ta = _matrix(w, a, node.attrs["ta"])
    right, tb = _matrix(w, b, node.attrs["tb"])
    if a.ndim == 2 and (node.attrs["bias"] or ((ta or tb) and w.opset >= 11)):
        bias = [w.name(node.inputs[2])] if node.attrs["bias"] else []
        flags = {"transA": int(ta) or None, "transB": int(tb) or None}
        w.put(y, w.node("Gemm", left, right, *bias, **flags))
        return
    swap = [*range(a.ndim - 2), a.ndim - 1, a.ndim - 2]
    left = w.once("Transpose", left, perm=swap) if ta else left
    right = w.once("Transpose", right, perm=swap) if tb else right
    name = w.node("MatMul", left, right)
    w.put(y, w.node("Add", name, w.name(node.inputs[2])) if node.attrs["bias"] else name)


def _matrix(w: Writer, tensor: Tensor, transposed: bool) -> tuple[str, bool]:
    """A matrix or a stack of them, and whether it is to be read transposed: as it lies, if it lies in one of the two
    orders."""
    order = list(range(tensor.ndim))
    swapped = [*order[:-2], order[-1], order[-2]]
    if not w.is_free(tensor, order) and w.is_free(tensor, swapped):
        return w.arranged(tensor, swapped), not transposed
    return w.name(tensor), transposed
