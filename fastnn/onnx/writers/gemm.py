"""Matrix products."""

from __future__ import annotations

from fastnn.graph import Node, Tensor
from fastnn.onnx.writer import Value, Writer, writes
from fastnn.sizes import same_shape


@writes("matmul")
def matmul(w: Writer, node: Node) -> None:
    (a, b), y = node.inputs[:2], node.output
    if _on_stacks(w, node):
        return
    left, ta = _matrix(w, a, node.attrs["ta"])
    right, tb = _matrix(w, b, node.attrs["tb"])
    if a.ndim == 2 and (node.attrs["bias"] or ((ta or tb) and w.opset >= 11)):
        bias = [w.name(node.inputs[2])] if node.attrs["bias"] else []
        flags = {"transA": int(ta) or None, "transB": int(tb) or None}
        w.put(y, w.node("Gemm", left, right, *bias, **flags))
        return
    name = w.node("MatMul", _turned(w, left, a.ndim, ta), _turned(w, right, b.ndim, tb))
    w.put(y, w.node("Add", name, w.name(node.inputs[2])) if node.attrs["bias"] else name)


def _on_stacks(w: Writer, node: Node) -> bool:
    """Write a product of stacks of several dimensions, which the graph has as one, if both were stacked alike."""
    (a, b), y = node.inputs[:2], node.output
    left, right = w.value(a), w.value(b)
    if left.axes is not None or right.axes is not None or not same_shape(left.shape[:-2], right.shape[:-2]):
        return False
    if not all(same_shape(v.shape[-2:], t.shape[-2:]) and t.ndim == 3 for v, t in ((left, a), (right, b))):
        return False
    ndim = len(left.shape)
    names = [_turned(w, v.name, ndim, node.attrs[key]) for v, key in ((left, "ta"), (right, "tb"))]
    w.values[y] = Value(w.node("MatMul", *names), (*left.shape[:-2], *y.shape[-2:]), None)
    return True


def _turned(w: Writer, name: str, ndim: int, transposed: bool) -> str:
    return w.once("Transpose", name, perm=[*range(ndim - 2), ndim - 1, ndim - 2]) if transposed else name


def _matrix(w: Writer, tensor: Tensor, transposed: bool) -> tuple[str, bool]:
    """A matrix or a stack of them, and whether it is to be read transposed: as it lies, if it lies in one of the two
    orders."""
    order = list(range(tensor.ndim))
    swapped = [*order[:-2], order[-1], order[-2]]
    if not w.is_free(tensor, order) and w.is_free(tensor, swapped):
        return w.arranged(tensor, swapped), not transposed
    return w.name(tensor), transposed
