"""What moves elements: most of it writes nothing, until somebody reads the result."""

from __future__ import annotations

import numpy as np

from fastnn.graph import Node, Tensor
from fastnn.onnx.writer import INT64, LAST, Value, Writer, writes
from fastnn.onnx.writers.pad import edges
from fastnn.sizes import Dim, Shape, is_one, linear, same_shape


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
    axes = _moved_ones(value.axes, x.shape, y.shape)
    if axes is not None:
        return value._replace(axes=axes)
    order = range(x.ndim)
    name = w.arranged(x, order, lambda _: value)
    return Value(name, x.shape, None)


def _moved_ones(axes: tuple[int | None, ...], old: Shape, new: Shape) -> tuple[int | None, ...] | None:
    """The axes of a tensor of another shape where it differs in sizes of 1 alone, which come and go."""
    if not same_shape([size for size in old if not is_one(size)], [size for size in new if not is_one(size)]):
        return None
    result: list[int | None] = []
    j = 0
    for size in new:
        if not is_one(size):
            while is_one(old[j]):
                j += 1
        if j < len(old) and is_one(old[j]) == is_one(size):
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
    if not _repeated(w, x, y):
        w.put(y, w.node("Expand", w.name(x), w.sizes(y.shape)))


def _repeated(w: Writer, x: Tensor, y: Tensor) -> bool:
    """Write the elements of a dimension repeated, which the graph has as a broadcast of one more that a reshape then
    joins to it, as an image or sequence of another size."""
    after, value = w.reader(y), w.value(x)
    dims = [i for i in range(x.ndim) if x.ndim == y.ndim and linear(x.shape[i]) != linear(y.shape[i])]
    if after is None or after.op.name != "reshape" or value.axes is None or len(dims) != 1 or dims[0] < 2:
        return False
    (dim,), times = dims, y.shape[dims[0]]
    axis, size = value.place(dim - 1), y.shape[dim - 1]
    if axis is None or value.place(dim) is not None or isinstance(times, Dim) or isinstance(size, Dim):
        return False
    joined = (*y.shape[: dim - 1], size * times, *y.shape[dim + 1 :])
    axes = _moved_ones((*value.axes[:dim], *value.axes[dim + 1 :]), joined, after.output.shape)
    if axes is None:
        return False
    scales = [1.0] * len(value.shape)
    scales[axis] = float(times)
    shape = tuple(n * times if i == axis else n for i, n in enumerate(value.shape))
    w.values[after.output] = Value(w.resized(value.name, scales), shape, axes)
    return True


@writes("slice")
def slice_(w: Writer, node: Node) -> None:
    x, y = node.inputs[0], node.output
    value = w.laid(x)
    assert value.axes is not None
    starts: list[int] = []
    ends: list[int] = []
    axes: list[int] = []
    steps: list[int] = []
    places: list[int] = []
    sizes: list[int] = []
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
        places.append(start)
        sizes.append(size)
    shape = list(value.shape)
    for dim, size in enumerate(y.shape):
        if value.axes[dim] is not None:
            shape[value.axes[dim]] = size  # type: ignore[index]
    if not axes:
        name = value.name
    elif w.opset < 10:
        name = _sliced_by_steps(w, value.name, starts, ends, axes, steps, places, sizes)
    else:
        bounds = [w.sizes(starts), w.sizes(ends), w.ints(*axes)]
        name = w.node("Slice", value.name, *bounds, *([] if set(steps) == {1} else [w.ints(*steps)]))
    w.values[y] = Value(name, tuple(shape), value.axes)


def _from_either_end(place: int, size: int) -> int:
    """A place that follows the batch as one counted from the end, if it is a fixed number of steps away from there."""
    if not isinstance(place, Dim):
        return place
    left = place - size
    return place if isinstance(left, Dim) or left >= 0 else left


def _sliced_by_steps(w: Writer, name: str, *slices: list[int]) -> str:
    """A slice where the operator takes fixed bounds and no steps: else by the places themselves."""
    for start, end, axis, step, first, size in zip(*slices, strict=True):
        if step == 1 and not isinstance(start, Dim) and not isinstance(end, Dim):
            name = w.node("Slice", name, starts=[start], ends=[end], axes=[axis])
            continue
        places = range_of(w, size)
        if step != 1:
            places = w.node("Mul", places, w.constant(step, INT64))
        name = w.node("Gather", name, w.node("Add", places, w.size(first)), axis=axis)
    return name


@writes("concat")
def concat(w: Writer, node: Node) -> None:
    y, dim = node.output, node.attrs["dim"]
    if edges(w, node):
        return
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
    """0, 1, ... size - 1 as int64, without Range, which came in opset 11: who asks for it has it no more."""
    if not isinstance(size, Dim):
        return w.constant(np.arange(size), INT64)
    one = w.onnx.helper.make_tensor("value", w.element_type(INT64), [1], [1])
    places = w.once("NonZero", w.once("ConstantOfShape", w.size(size), value=one))
    return w.reshape(places, (1, size), (size,))
