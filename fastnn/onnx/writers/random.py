"""Dropout, and random numbers drawn in each run."""

from __future__ import annotations

from fastnn.graph import Node
from fastnn.onnx.writer import Unwritable, Writer, writes


@writes("dropout")
def dropout(w: Writer, node: Node) -> None:
    x, y, p = node.inputs[0], node.output, node.attrs["p"]
    if node.attrs["inner"] != 1:
        raise Unwritable("whole channels dropped out are not written")
    value = w.value(x)
    if w.opset < 12:
        name = w.node("Dropout", value.name, ratio=p)
    else:
        name = w.node("Dropout", value.name, w.constant(p, y.dtype))
    w.put(y, name, value)


@writes("random")
def random(w: Writer, node: Node) -> None:
    y = node.output
    shaped = w.node("ConstantOfShape", w.sizes(y.shape))
    kind = "RandomNormalLike" if node.attrs["kind"] == "normal" else "RandomUniformLike"
    w.put(y, w.node(kind, shaped, dtype=w.element_type(y.dtype)))
