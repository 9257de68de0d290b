"""Dropout, which does nothing until somebody trains on, unless it drops in evaluation mode, too; random numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.graph import Node
from fastnn.onnx.writer import Writer, writes


@writes("dropout")
def dropout(w: Writer, node: Node) -> None:
    x, y, p = node.inputs[0], node.output, node.attrs["p"]
    if node.attrs["inner"] == 1:
        value = w.value(x)
        w.put(y, _dropped(w, value.name, p, y.dtype), value)
        return
    # Whole channels: what is dropped is a factor of each.
    name, order = w.channels_first(x)
    factors = (x.shape[0], x.shape[-1], *[1] * (len(order) - 2))
    one = w.onnx.helper.make_tensor("value", w.element_type(y.dtype), [1], [1])
    ones = w.node("ConstantOfShape", w.sizes(factors), value=one)
    w.put_ordered(y, w.node("Mul", name, _dropped(w, ones, p, y.dtype)), order)


def _dropped(w: Writer, x: str, p: float, dtype: Any) -> str:
    if w.opset < 12:
        return w.node("Dropout", x, ratio=p) if w.training else _drawn(w, x, p, dtype)
    ratio = w.constant(p, np.float32 if np.float32(p) == p else np.float64)
    return w.node("Dropout", x, ratio, *([] if w.training else [w.constant(True, np.bool_)]))


def _drawn(w: Writer, x: str, p: float, dtype: Any) -> str:
    """Dropout that always drops, by random numbers."""
    low = w.node("Less", w.node("RandomUniformLike", x, dtype=w.element_type(dtype)), w.constant(p, dtype))
    scaled = w.node("Mul", x, w.constant(1 / (1 - p) if p < 1 else 0, dtype))
    return w.node("Where", low, w.constant(0, dtype), scaled)


@writes("random")
def random(w: Writer, node: Node) -> None:
    y = node.output
    shaped = w.node("ConstantOfShape", w.sizes(y.shape))
    kind = "RandomNormalLike" if node.attrs["kind"] == "normal" else "RandomUniformLike"
    w.put(y, w.node(kind, shaped, dtype=w.element_type(y.dtype)))
