"""Max and average pooling."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.graph import Node
from fastnn.onnx.writer import Writer, fixed, writes
from fastnn.onnx.writers.pad import pad
from fastnn.sizes import count


class _Windows:
    """Where windows lie along the spatial dimensions of a value."""

    def __init__(self, node: Node, order: list[int]) -> None:
        settings, x, y = node.attrs["settings"], node.inputs[0], node.output
        dims = order[2:]

        def along(high: str, wide: str) -> list[int]:
            return [settings[(high, wide)[dim - 1]] for dim in dims]

        self.kernel = along("kh", "kw")
        self.stride = along("stride_h", "stride_w")
        self.begin = along("pad_top", "pad_left")
        self.dilation = along("dilation_h", "dilation_w")
        self.sizes = [fixed(x.shape[dim]) for dim in dims]
        self.count = [fixed(y.shape[dim]) for dim in dims]
        self.span = [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True)]
        #: How far beyond the data the last window reaches.
        self.over = [
            max(0, (n - 1) * s + span - begin - size)
            for n, s, span, begin, size in zip(self.count, self.stride, self.span, self.begin, self.sizes, strict=True)
        ]

    def end(self) -> list[int]:
        """Padding behind the data with which as many windows fit: as much as before them where that will do."""
        result = []
        for i, begin in enumerate(self.begin):
            windows = (self.sizes[i] + 2 * begin - self.span[i]) // self.stride[i] + 1
            result.append(begin if windows == self.count[i] else self.over[i])
        return result


def _flat(order: list[int], settings: dict[str, int]) -> bool:
    return order[2:] == [2] and (not settings or (settings["kh"], settings["pad_top"]) == (1, 0))


def _images(w: Writer, node: Node) -> tuple[str, list[int]]:
    x = node.inputs[0]
    name, order = w.channels_first(x)
    if _flat(order, node.attrs["settings"]) and node.attrs["size"][0] == 1:
        return name, order
    return w.arranged(x, [0, 3, 1, 2]), [0, 3, 1, 2]


@writes("max_pool2d")
def max_pool2d(w: Writer, node: Node) -> None:
    name, order = _images(w, node)
    windows = _Windows(node, order)
    form: dict[str, Any] = dict(kernel_shape=windows.kernel, strides=windows.stride)
    form["pads"] = [*windows.begin, *windows.end()]
    if all(d == 1 for d in windows.dilation):
        pooled = w.node("MaxPool", name, **form)
    elif w.opset >= 10:
        pooled = w.node("MaxPool", name, **form, dilations=windows.dilation)
    else:
        pooled = _largest_of_taps(w, name, windows)
    w.put_ordered(node.output, pooled, order)


def _largest_of_taps(w: Writer, x: str, windows: _Windows) -> str:
    """Max pooling with dilation: the largest of as many images as a window has pixels."""
    x = w.node("Pad", x, mode="constant", value=-np.inf, pads=[0, 0, *windows.begin, 0, 0, *windows.end()])
    taps = [x]
    for axis, (kernel, d, s, n) in enumerate(
        zip(windows.kernel, windows.dilation, windows.stride, windows.count, strict=True), 2
    ):
        places = [w.ints(*(k * d + s * np.arange(n)).tolist()) for k in range(kernel)]
        taps = [w.node("Gather", tap, place, axis=axis) for tap in taps for place in places]
    return w.node("Max", *taps)


@writes("avg_pool2d")
def avg_pool2d(w: Writer, node: Node) -> None:
    name, order = _images(w, node)
    windows, (x,), y = _Windows(node, order), node.inputs, node.output
    padding, divisor = node.attrs["settings"]["count_include_pad"], node.attrs["settings"]["divisor"]
    pads = [*windows.begin, *windows.end()]
    dilated = any(d != 1 for d in windows.dilation)
    form: dict[str, Any] = dict(kernel_shape=windows.kernel, strides=windows.stride)
    if not divisor and not padding and not dilated and windows.end() == windows.begin:
        w.put_ordered(y, w.node("AveragePool", name, **form, pads=pads), order)
        return
    if dilated:
        form["dilations"] = windows.dilation
    counts, taps = _counts(windows, bool(padding), divisor), float(np.prod(windows.kernel))
    if dilated and w.opset < 19:  # one channel's convolution with equal weights
        shapes = [tuple(t.shape[i] for i in order) for t in (x, y)]
        single, pooled_single = ((count(shape[:2]), 1, *shape[2:]) for shape in shapes)
        weights = w.constant(np.full((1, 1, *windows.kernel), 1 / taps), y.dtype)
        pooled = w.node("Conv", w.reshape(name, shapes[0], single), weights, **form, pads=pads)
        pooled = w.reshape(pooled, pooled_single, shapes[1])
    else:
        if any(pads):
            if np.all(counts == taps) and not dilated:
                form.update(pads=pads, count_include_pad=1)
            else:
                half = len(pads) // 2
                name = pad(w, name, [0, 0, *pads[:half], 0, 0, *pads[half:]])
        pooled = w.node("AveragePool", name, **form)
    share = taps / counts
    if np.any(share != 1):
        constant = share.reshape(-1)[0] if np.all(share == share.reshape(-1)[0]) else share
        pooled = w.node("Mul", pooled, w.constant(constant, y.dtype))
    w.put_ordered(y, pooled, order)


def _counts(windows: _Windows, padding: bool, divisor: int) -> np.ndarray[Any, Any]:
    """By what each window's sum is divided: how many of its pixels there are."""
    counts = np.ones(())
    for i, size in enumerate(windows.sizes):
        starts = np.arange(windows.count[i]) * windows.stride[i] - windows.begin[i]
        taps = starts[:, None] + np.arange(windows.kernel[i]) * windows.dilation[i]
        more = windows.begin[i] if padding else 0
        counts = counts[..., None] * ((taps >= -more) & (taps < size + more)).sum(1)
    return np.full(counts.shape, float(divisor)) if divisor else counts


@writes("adaptive_avg_pool2d", "adaptive_max_pool2d")
def adaptive_pool2d(w: Writer, node: Node) -> None:
    name, order = _images(w, node)
    x, y = node.inputs[0], node.output
    average = node.op.name == "adaptive_avg_pool2d"
    sizes, wanted = ([fixed(t.shape[dim]) for dim in order[2:]] for t in (x, y))
    if all(n == 1 for n in wanted):
        pooled = w.node("GlobalAveragePool" if average else "GlobalMaxPool", name)
    elif all(size % n == 0 for size, n in zip(sizes, wanted, strict=True)):
        parts = [size // n for size, n in zip(sizes, wanted, strict=True)]
        pooled = w.node("AveragePool" if average else "MaxPool", name, kernel_shape=parts, strides=parts)
    else:
        pooled = name
        for axis, (size, n) in enumerate(zip(sizes, wanted, strict=True), 2):
            pooled = _parts(w, pooled, axis, size, n, average, len(order), y.dtype)
    w.put_ordered(y, pooled, order)


def _parts(w: Writer, x: str, axis: int, size: int, n: int, average: bool, ndim: int, dtype: Any) -> str:
    """Pooling along one axis by parts of unequal sizes: a product with a matrix of shares, or the largest of slices."""
    starts = np.arange(n) * size // n
    ends = -(-(np.arange(1, n + 1) * size) // n)
    if average:
        place = np.arange(size)[:, None]
        shares = ((place >= starts) & (place < ends)) / (ends - starts)  # (size, n)
        if axis == ndim - 1:
            return w.node("MatMul", x, w.constant(shares, dtype))
        return w.node("MatMul", w.constant(shares.T, dtype), x)
    parts = []
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        if w.opset < 10:
            part = w.node("Slice", x, starts=[start], ends=[end], axes=[axis])
        else:
            part = w.node("Slice", x, w.ints(start), w.ints(end), w.ints(axis))
        if w.opset < 18:
            parts.append(w.node("ReduceMax", part, axes=[axis], keepdims=1))
        else:
            parts.append(w.node("ReduceMax", part, w.ints(axis), keepdims=1))
    return w.node("Concat", *parts, axis=axis)
