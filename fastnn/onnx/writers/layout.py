"""What moves elements: most of it writes nothing, until somebody reads the result."""

from __future__ import annotations

import numpy as np

from fastnn.graph import Node, Tensor
from fastnn.onnx.writer import INT64, LAST, Unwritable, Value, Writer, writes
from fastnn.sizes import Dim, is_one, linear, same_shape


@writes("transpose")
def transpose(w: Writer, node: Node) -> None:
    x, y = node.inputs[0], node.output
    for table in (w.values, w.masks):
        if x in table:
            value = w.laid(x, table.__getitem__)
            assert value.axes is not None
            table[y] = value._replace(axes=tuple(value.axes[a] for a in node.attrs["axes"]))


@writes("reshape")
def reshape(w: Writer, node: Node) -> None:
    x, y = node.inputs[0], node.output
    for table in (w.values, w.masks):
        if x in table:
            table[y] = _reshaped(w, table[x], x, y)


def _reshaped(w: Writer, value: Value, x: Tensor, y: Tensor) -> Value:
    if value.axes is None:
        if same_shape(value.shape, y.shape):
            return value._replace(axes=tuple(range(y.ndim)))
        return value
    axes = _moved_ones(value.axes, x, y)
    if axes is not None:
        return value._replace(axes=axes)
    order = range(x.ndim)
    name = w.arranged(x, order, lambda _: value)
    return Value(name, x.shape, None)


def _moved_ones(axes: tuple[int | None, ...], x: Tensor, y: Tensor) -> tuple[int | None, ...] | None:
    """The axes of y where it is x but for sizes of 1, which come and go."""
    if not same_shape([size for size in x.shape if not is_one(size)], [size for size in y.shape if not is_one(size)]):
        return None
    result: list[int | None] = []
    j = 0
    for size in y.shape:
        if not is_one(size):
            while is_one(x.shape[j]):
                j += 1
        if j < x.ndim and is_one(x.shape[j]) == is_one(size):
            result.append(axes[j])
            j += 1
        else:
            result.append(None)
    return tuple(result)


@writes("detach", "variance")
def same(w: Writer, node: Node) -> None:
    for table in (w.values, w.masks):
        if node.inputs[0] in table:
            table[node.output] = table[node.inputs[0]]


@writes("broadcast")
def broadcast(w: Writer, node: Node) -> None:
    x, y = node.inputs[0], node.output
    w.put(y, w.node("Expand", w.name(x), w.sizes(y.shape)))


@writes("slice")
def slice_(w: Writer, node: Node) -> None:
    x, y = node.inputs[0], node.output
    value = w.laid(x)
    assert value.axes is not None
    starts: list[int] = []
    ends: list[int] = []
    axes: list[int] = []
    steps: list[int] = []
    for dim, (start, step, size) in enumerate(zip(node.attrs["starts"], node.attrs["steps"], y.shape, strict=True)):
        axis = value.axes[dim]
        if axis is None or (linear(start) == (0, 0) and step == 1 and linear(size) == linear(x.shape[dim])):
            continue
        end = start + (size - 1) * step + 1
        starts.append(_from_either_end(start, x.shape[dim]))
        whole = isinstance(end, Dim) and linear(end) == linear(x.shape[dim])
        ends.append(LAST if whole else _from_either_end(end, x.shape[dim]))
        axes.append(axis)
        steps.append(step)
    shape = list(value.shape)
    for dim, size in enumerate(y.shape):
        if value.axes[dim] is not None:
            shape[value.axes[dim]] = size  # type: ignore[index]
    name = _slice(w, value.name, starts, ends, axes, steps) if axes else value.name
    w.values[y] = Value(name, tuple(shape), value.axes)


def _from_either_end(place: int, size: int) -> int:
    """A place that follows the batch as one counted from the end, if it is a fixed number of steps away from there."""
    if not isinstance(place, Dim):
        return place
    left = place - size
    return place if isinstance(left, Dim) or left >= 0 else left


def _slice(w: Writer, name: str, starts: list[int], ends: list[int], axes: list[int], steps: list[int]) -> str:
    if w.opset < 10:
        if any(isinstance(place, Dim) for place in (*starts, *ends)):
            w.needs(10, "a slice whose bounds follow the batch")
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
            if step == 1:
                name = w.node("Slice", name, starts=[start], ends=[end], axes=[axis])
            elif end == LAST:
                w.needs(10, "a slice of the batch with steps")
            else:
                name = w.node("Gather", name, w.ints(*range(start, end, step)), axis=axis)
        return name
    inputs = [w.sizes(starts), w.sizes(ends), w.ints(*axes)]
    return w.node("Slice", name, *inputs, *([] if set(steps) == {1} else [w.ints(*steps)]))


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
    pads = [*before, *after]
    if w.opset >= 11:
        name = w.node("Pad", value.name, w.sizes(pads), mode="constant")
    elif any(isinstance(size, Dim) for size in pads):
        w.needs(11, "padding that follows the batch")
    else:
        name = w.node("Pad", value.name, mode="constant", pads=pads)
    w.values[y] = Value(name, tuple(shape), value.axes)


@writes("concat")
def concat(w: Writer, node: Node) -> None:
    y, dim = node.output, node.attrs["dim"]
    best, fits = list(range(y.ndim)), -1
    for tensor in (None, *node.inputs):
        order = list(range(y.ndim))
        if tensor is not None:
            axes = w.value(tensor).axes
            if axes is None or None in axes or len(axes) != len(w.value(tensor).shape):
                continue
            order = sorted(order, key=axes.__getitem__)  # type: ignore[arg-type]
        free = sum(w.is_free(t, order) for t in node.inputs)
        if free > fits:
            best, fits = order, free
    names = [w.arranged(t, best) for t in node.inputs]
    w.put_ordered(y, w.node("Concat", *names, axis=best.index(dim)), best)


@writes("cast")
def cast(w: Writer, node: Node) -> None:
    x, y = node.inputs[0], node.output
    if x in w.masks:
        w.masks[y] = w.masks[x]
        return
    value = w.value(x)
    w.values[y] = value._replace(name=w.cast(value.name, y.dtype))


@writes("divide_by_size")
def divide_by_size(w: Writer, node: Node) -> None:
    x, y, length = node.inputs[0], node.output, node.attrs["length"]
    value = w.value(x)
    if isinstance(length, Dim):
        by = w.cast(w.reshape(w.size(length), (1,), ()), y.dtype)
    else:
        by = w.constant(length, y.dtype)
    w.put(y, w.node("Div", value.name, by), value)


def range_of(w: Writer, size: int) -> str:
    """0, 1, ... size - 1 as int64."""
    if not isinstance(size, Dim):
        return w.constant(np.arange(size), INT64)
    if w.opset >= 11:
        return w.once("Range", w.constant(0, INT64), w.reshape(w.size(size), (1,), ()), w.constant(1, INT64))
    one = w.onnx.helper.make_tensor("value", w.element_type(INT64), [1], [1])
    places = w.once("NonZero", w.once("ConstantOfShape", w.size(size), value=one))
    return w.reshape(places, (1, size), (size,))
