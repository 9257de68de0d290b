"""Reductions, running sums and softmax."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.graph import Node
from fastnn.onnx.writer import INT64, Value, Writer, writes
from fastnn.onnx.writers.layout import range_of
from fastnn.sizes import Dim

_KINDS = {"sum": "ReduceSum", "mean": "ReduceMean", "max": "ReduceMax", "min": "ReduceMin", "prod": "ReduceProd"}


@writes("reduce")
def reduce(w: Writer, node: Node) -> None:
    x, y, kind = node.inputs[0], node.output, node.attrs["kind"]
    if x in w.totals:  # the parts of a loss, of which the whole was written
        w.put(y, w.totals[x])
        return
    value = w.laid(x)
    assert value.axes is not None
    dims = range(node.attrs["first"], node.attrs["last"] + 1)
    axes = sorted(axis for dim in dims if (axis := value.axes[dim]) is not None)
    kept = [axis for dim, axis in enumerate(value.axes) if dim not in dims]
    after = w.reader(y)
    while after is not None and after.op.name in ("activation", "unary", "dropout"):
        after = w.reader(after.output)
    keep = after is not None and after.op.name == "reshape" and after.output.ndim == x.ndim
    name = reduced(w, _KINDS[kind], value.name, axes, keep)
    if keep:
        shape = tuple(1 if axis in axes else size for axis, size in enumerate(value.shape))
        w.values[y] = Value(name, shape, tuple(kept))
        return
    left = [axis for axis in range(len(value.shape)) if axis not in axes]
    places = tuple(None if axis is None else left.index(axis) for axis in kept)
    w.values[y] = Value(name, tuple(value.shape[axis] for axis in left), places)


def reduced(w: Writer, kind: str, x: str, axes: list[int], keep: bool) -> str:
    if w.opset < (13 if kind == "ReduceSum" else 18):
        return w.node(kind, x, axes=axes, keepdims=int(keep))
    return w.node(kind, x, w.ints(*axes), keepdims=int(keep))


@writes("cumsum")
def cumsum(w: Writer, node: Node) -> None:
    x, y, dim = node.inputs[0], node.output, node.attrs["dim"]
    value = w.laid(x)
    axis = value.place(dim)
    if axis is None:
        w.put(y, value.name, value)
    elif w.opset >= 11:
        w.put(
            y, w.node("CumSum", value.name, w.constant(axis, INT64), reverse=int(node.attrs["reverse"]) or None), value
        )
    else:
        order = [*(i for i in range(x.ndim) if i != dim), dim]
        rows = _triangle(w, x.shape[dim], bool(node.attrs["reverse"]), y.dtype)
        w.put_ordered(y, w.node("MatMul", w.arranged(x, order), rows), order)


def _triangle(w: Writer, size: int, reverse: bool, dtype: Any) -> str:
    """The matrix whose columns add up what comes before, or behind."""
    if not isinstance(size, Dim):
        whole = np.ones((size, size))
        return w.constant(np.tril(whole) if reverse else np.triu(whole), dtype)
    places = range_of(w, size)
    row, column = (w.reshape(places, (size,), shape) for shape in ((size, 1), (1, size)))
    outside = w.node("Less" if reverse else "Greater", row, column)
    return w.cast(w.node("Not", outside), dtype)


@writes("softmax")
def softmax(w: Writer, node: Node) -> None:
    x, y = node.inputs[0], node.output
    kind = "LogSoftmax" if node.attrs["log"] else "Softmax"
    value = w.laid(x)
    axis = value.place(x.ndim - 1)
    # Before opset 13 all dimensions behind the axis were taken together.
    if axis is None or (w.opset < 13 and axis != len(value.shape) - 1):
        value, axis = Value(w.name(x), x.shape, tuple(range(x.ndim))), x.ndim - 1
    w.put(y, w.node(kind, value.name, axis=axis), value)
