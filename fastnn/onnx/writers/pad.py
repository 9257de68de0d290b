"""Zeros around a tensor, or what is at its edges."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.graph import Node, Tensor
from fastnn.onnx.writer import Unwritable, Value, Writer, writes
from fastnn.sizes import Dim, is_one, linear

#: ONNX's names of what is around a tensor, which are NumPy's, and the opsets that have them.
_MODES = {"reflect": 9, "edge": 9, "wrap": 19}


def pad(w: Writer, x: str, pads: list[int], mode: str = "constant") -> str:
    """x with so many elements before it along each dimension, and then behind it."""
    return w.node("Pad", x, w.ints(*pads), mode=mode) if w.opset >= 11 else w.node("Pad", x, mode=mode, pads=pads)


@writes("unslice")
def unslice(w: Writer, node: Node) -> None:
    x, y = node.inputs[0], node.output
    if set(node.attrs["steps"]) != {1}:
        raise Unwritable("zeros between elements are not written")
    value = w.laid(x)
    assert value.axes is not None
    if any(axis is None and not is_one(y.shape[dim]) for dim, axis in enumerate(value.axes)):
        value = Value(w.name(x), x.shape, tuple(range(x.ndim)))
    before, after = [0] * len(value.shape), [0] * len(value.shape)
    shape = list(value.shape)
    for dim, start in enumerate(node.attrs["starts"]):
        axis = value.place(dim)
        if axis is not None:
            before[axis], after[axis] = start, y.shape[dim] - start - x.shape[dim]
            shape[axis] = y.shape[dim]
    name = pad(w, value.name, [*before, *after])
    w.values[y] = Value(name, tuple(shape), value.axes)


def edges(w: Writer, node: Node) -> bool:
    """Write what is made of a tensor and slices of its own, mirrored, repeated or from the other side."""
    y, dim = node.output, node.attrs["dim"]
    for k, x in enumerate(node.inputs):
        places = [place for t in node.inputs if (place := _places(t, x, dim)) is not None]
        if len(places) < len(node.inputs):
            continue
        before, after = (sum(map(len, part)) for part in (places[:k], places[k + 1 :]))
        found, own = np.concatenate(places), places[k]
        for mode, opset in _MODES.items():
            if w.opset < opset or (mode != "edge" and max(before, after) > len(own) - (mode == "reflect")):
                continue
            if np.array_equal(found, np.pad(own, (before, after), mode=mode)):  # type: ignore[call-overload]
                return _edges(w, x, y, dim, before, after, mode)
    return False


def _edges(w: Writer, x: Tensor, y: Tensor, dim: int, before: int, after: int, mode: str) -> bool:
    value = w.laid(x)
    axis, ndim = value.place(dim), len(value.shape)
    if axis is None:
        return False
    pads = [0] * (2 * ndim)
    pads[axis], pads[ndim + axis] = before, after
    shape = tuple(size + before + after if i == axis else size for i, size in enumerate(value.shape))
    name, inner = w.padded.get(value.name, (value.name, (mode, [0] * len(pads))))
    if inner[0] == mode and not inner[1][axis] and not inner[1][ndim + axis]:  # along other dimensions
        pads = [a + b for a, b in zip(pads, inner[1], strict=True)]
    else:
        name = value.name
    made = pad(w, name, pads, mode)
    w.padded[made] = (name, (mode, pads))
    w.values[y] = Value(made, shape, value.axes)
    return True


def _places(tensor: Tensor, x: Tensor, dim: int) -> np.ndarray[Any, Any] | None:
    """Which places of x along a dimension a tensor shows; None if it is anything else."""
    if tensor is x:
        return np.arange(x.shape[dim]) if not isinstance(x.shape[dim], Dim) else None
    times: int = 1
    if tensor.node.op.name == "broadcast":
        times, tensor = tensor.shape[dim], tensor.node.inputs[0]
    node = tensor.node
    if node.op.name != "slice" or node.inputs[0] is not x or (times != 1 and tensor.shape[dim] != 1):
        return None
    start, step = node.attrs["starts"][dim], node.attrs["steps"][dim]
    others = all(linear(a) == linear(b) for i, (a, b) in enumerate(zip(tensor.shape, x.shape, strict=True)) if i != dim)
    if isinstance(tensor.shape[dim], Dim) or not others:
        return None
    return np.repeat(start + step * np.arange(tensor.shape[dim]), times)
