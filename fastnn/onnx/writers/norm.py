"""Norms."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.graph import Node, Tensor
from fastnn.onnx.writer import Value, Writer, fixed, writes
from fastnn.onnx.writers.pad import pad
from fastnn.sizes import count, linear


def _affine(w: Writer, node: Node, first: int, channels: int) -> list[str]:
    if node.attrs["affine"]:
        return [w.name(t) for t in node.inputs[first : first + 2]]
    dtype, channels = node.output.dtype, fixed(channels)
    return [w.constant(np.ones(channels), dtype), w.constant(np.zeros(channels), dtype)]


@writes("batch_norm_eval")
def batch_norm_eval(w: Writer, node: Node) -> None:
    mean, var = (w.name(t) for t in node.inputs[1:3])
    _batch_norm(w, node, 3, mean, var)


def _batch_norm(w: Writer, node: Node, first: int, mean: str, var: str) -> None:
    x, y = node.inputs[0], node.output
    name, order = w.channels_first(x)
    affine = _affine(w, node, first, x.shape[-1])
    settings: dict[str, Any] = dict(epsilon=float(node.attrs["eps"]))
    momentum = node.attrs.get("momentum", -1)
    if momentum >= 0:
        settings["momentum"] = 1.0 - momentum
    w.put_ordered(y, w.node("BatchNormalization", name, *affine, mean, var, **settings), order)


@writes("batch_norm")
def batch_norm(w: Writer, node: Node) -> None:
    """With running statistics in the form of inference, which readers train on; else by the batch's."""
    if node.attrs["running"] is not None:
        mean, var = (w.stored(array) or w.constant(array) for array in node.attrs["running"][:2])
        _batch_norm(w, node, 1, mean, var)
        return
    x, y = node.inputs[0], node.output
    name, order = w.channels_first(x)
    axes = [0, *range(2, len(order))]
    ones = [1] * (len(order) - 2)
    affine = [w.reshape(n, x.shape[-1:], (x.shape[-1], *ones)) for n in _affine(w, node, 1, x.shape[-1])]
    w.put_ordered(y, normalised(w, name, axes, node.attrs["eps"], y.dtype, affine), order)


def normalised(w: Writer, x: str, axes: list[int], eps: float, dtype: Any, affine: list[str]) -> str:
    """(x - mean) / sqrt(var + eps) * weight + bias over some axes, in single steps."""
    centred = w.node("Sub", x, mean_over(w, x, axes))
    var = mean_over(w, w.node("Mul", centred, centred), axes)
    y = w.node("Div", centred, w.node("Sqrt", w.node("Add", var, w.constant(eps, dtype))))
    return w.node("Add", w.node("Mul", y, affine[0]), affine[1]) if affine else y


def mean_over(w: Writer, x: str, axes: list[int]) -> str:
    if w.opset < 18:
        return w.node("ReduceMean", x, axes=axes, keepdims=1)
    return w.node("ReduceMean", x, w.ints(*axes), keepdims=1)


@writes("layer_norm")
def layer_norm(w: Writer, node: Node) -> None:
    x, y = node.inputs[0], node.output
    value, cols = w.value(x), x.shape[1]
    first = _first_of(value, cols)
    if first is None:
        value, first = Value(w.name(x), x.shape, (0, 1)), 1
    shape = value.shape[first:]
    affine = []
    if node.attrs["affine"]:
        affine = [_shaped(w, t, shape) for t in node.inputs[1:3]]
    axis = first - len(value.shape)
    if w.opset >= 17:
        scale = affine or [w.constant(np.ones(list(map(fixed, shape))), y.dtype)]
        name = w.node("LayerNormalization", value.name, *scale, axis=axis, epsilon=float(node.attrs["eps"]))
    else:
        axes = list(range(first, len(value.shape)))
        name = normalised(w, value.name, axes, node.attrs["eps"], y.dtype, affine)
    w.values[y] = value._replace(name=name)


def _first_of(value: Value, cols: int) -> int | None:
    """From which dimension on a value's rows are normalised, where it is not yet a matrix."""
    if value.axes is not None:
        return None
    for first in range(len(value.shape)):
        if linear(count(value.shape[first:])) == linear(cols):
            return first
    return None


def _shaped(w: Writer, tensor: Tensor, shape: tuple[int, ...]) -> str:
    value = w.value(tensor)
    if value.axes is None:
        return w.reshape(value.name, value.shape, shape)
    return w.reshape(w.name(tensor), tensor.shape, shape)


@writes("group_norm")
def group_norm(w: Writer, node: Node) -> None:
    x, y, groups = node.inputs[0], node.output, node.attrs["groups"]
    name, order = w.channels_first(x)
    shape = tuple(x.shape[i] for i in order)
    channels, eps = x.shape[-1], float(node.attrs["eps"])
    if groups == channels and len(order) > 2:
        name = w.node("InstanceNormalization", name, *_affine(w, node, 1, channels), epsilon=eps)
    elif w.opset >= 21:
        name = w.node("GroupNormalization", name, *_affine(w, node, 1, channels), num_groups=groups, epsilon=eps)
    else:
        parts = (shape[0], groups, count((channels // groups, *shape[2:])))
        unit = [w.constant(np.ones(groups), y.dtype), w.constant(np.zeros(groups), y.dtype)]
        rows = w.reshape(name, shape, parts)
        name = w.reshape(w.node("InstanceNormalization", rows, *unit, epsilon=eps), parts, shape)
        if node.attrs["affine"]:
            full = (channels, *[1] * (len(shape) - 2))
            scale, bias = (w.reshape(n, (channels,), full) for n in _affine(w, node, 1, channels))
            name = w.node("Add", w.node("Mul", name, scale), bias)
    w.put_ordered(y, name, order)


@writes("local_response_norm")
def local_response_norm(w: Writer, node: Node) -> None:
    x, y = node.inputs[0], node.output
    name, order = w.channels_first(x)
    size, alpha, beta, k = (node.attrs[key] for key in ("size", "alpha", "beta", "k"))
    if size % 2 and len(order) == 4:
        lrn = w.node("LRN", name, size=size, alpha=float(alpha), beta=float(beta), bias=float(k))
        w.put_ordered(y, lrn, order)
        return
    # An even window lies one channel lower, as in PyTorch. Means of squares, of images of a row for each channel:
    shape = tuple(x.shape[i] for i in order)
    image = (shape[0], 1, shape[1], count(shape[2:]))
    squares = w.reshape(w.node("Mul", name, name), shape, image)
    padded = pad(w, squares, [0, 0, size // 2, 0, 0, 0, (size - 1) // 2, 0])
    means = w.node("AveragePool", padded, kernel_shape=[size, 1], strides=[1, 1])
    means = w.reshape(means, image, shape)
    base = w.node("Add", w.node("Mul", means, w.constant(alpha, y.dtype)), w.constant(k, y.dtype))
    w.put_ordered(y, w.node("Div", name, w.node("Pow", base, w.constant(beta, y.dtype))), order)
