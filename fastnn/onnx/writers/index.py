"""Elements chosen by labels, one-hot rows, and the places of the largest and the smallest."""

from __future__ import annotations

import numpy as np

from fastnn.graph import Node
from fastnn.onnx.writer import INT64, Unwritable, Value, Writer, writes
from fastnn.onnx.writers.layout import range_of
from fastnn.sizes import count, strides_of


@writes("gather")
def gather(w: Writer, node: Node) -> None:
    x, index = node.inputs
    y, dim = node.output, node.attrs["dim"]
    if node.attrs["full"]:
        _gather_elements(w, node)
        return
    value = w.value(index)
    name = w.node("Gather", w.name(x), value.name if value.axes is None else w.name(index), axis=dim)
    if value.axes is None:  # labels of several dimensions, which the graph has as a list
        w.values[y] = Value(name, (*x.shape[:dim], *value.shape, *x.shape[dim + 1 :]), None)
    else:
        w.put(y, name)


def _gather_elements(w: Writer, node: Node) -> None:
    x, index = node.inputs
    y, dim = node.output, node.attrs["dim"]
    if w.opset >= 11:
        w.put(y, w.node("GatherElements", w.name(x), w.name(index), axis=dim))
        return
    # Places in the flat x: those of the other dimensions are what they are in y.
    places = ""
    for i, stride in enumerate(strides_of(x.shape)):
        own = w.name(index)
        if i != dim:
            ones = tuple(y.shape[i] if j == i else 1 for j in range(y.ndim))
            own = w.reshape(range_of(w, y.shape[i]), y.shape[i : i + 1], ones)
        own = w.node("Mul", own, w.size(stride))
        places = w.node("Add", places, own) if places else own
    flat = w.reshape(w.name(x), x.shape, (count(x.shape),))
    w.put(y, w.node("Gather", flat, places, axis=0))


@writes("arg_extreme")
def arg_extreme(w: Writer, node: Node) -> None:
    x, y, dim = node.inputs[0], node.output, node.attrs["dim"]
    kind = "ArgMax" if node.attrs["kind"] == "max" else "ArgMin"
    w.put(y, w.node(kind, w.name(x), axis=dim, keepdims=0))


@writes("top")
def top(w: Writer, node: Node) -> None:
    x, y, k, dim = node.inputs[0], node.output, node.attrs["count"], node.attrs["dim"]
    largest = node.attrs["kind"] == "max"
    if not largest and w.opset < 11:
        raise Unwritable(f"topk of the smallest needs opset 11 or newer, and {w.opset} was asked for")
    if w.opset < 10:
        places = w.node("TopK", w.name(x), axis=dim, k=k)
    else:
        places = w.node("TopK", w.name(x), w.ints(k), axis=dim, largest=None if w.opset < 11 else int(largest))
    w.nodes[-1].output.insert(0, f"{places}/values")
    w.put(y, places)


@writes("one_hot")
def one_hot(w: Writer, node: Node) -> None:
    index, y = node.inputs[0], node.output
    value = w.value(index)
    depth, values = w.constant(node.attrs["classes"], INT64), w.constant([0, 1], y.dtype)
    name = w.node("OneHot", value.name if value.axes is None else w.name(index), depth, values, axis=-1)
    if value.axes is None:
        w.values[y] = Value(name, (*value.shape, node.attrs["classes"]), None)
    else:
        w.put(y, name)


@writes("flat_index")
def flat_index(w: Writer, node: Node) -> None:
    y = node.output
    names, like = w.together(y, node.inputs)
    total = ""
    for name, stride in zip(names, node.attrs["strides"], strict=True):
        part = name if np.array_equal(stride, 1) else w.node("Mul", name, w.size(stride))
        total = w.node("Add", total, part) if total else part
    w.put(y, total, like)
