"""Reshape (a view), and what moves elements: transpose, slice, concat, broadcast."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

import fastnn_ext.elementwise  # noqa: F401  (registers "copy")
from fastnn import _check
from fastnn.graph import Arguments, Emitter, Node, Op, OutputTypes, Tensor, active_graph, as_tensor
from fastnn.ops.arguments import check_dtypes, check_float, normalize_dim
from fastnn.ops.elementwise import where
from fastnn.ops.layout import TRANSPOSE, broadcast_to, emit_copy, reshape, transpose, unsqueeze
from fastnn.sizes import (
    Dim,
    Shape,
    SpecialiseError,
    count,
    describe,
    same_shape,
    strides_of,
)


class Slice(Op):
    """attrs: starts, steps, shape: y[i, j] = x[start0 + i * step0, start1 + j * step1]."""

    name = "slice"
    sized = ("starts", "shape")

    def infer(self, node: Node) -> OutputTypes:
        return [(node.attrs["shape"], node.inputs[0].dtype)]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        assert grads[0] is not None
        starts, steps = node.attrs["starts"], node.attrs["steps"]
        return [unslice(grads[0], starts, steps, node.inputs[0].shape)]

    def lower(self, node: Node, to: Emitter) -> None:
        x, y = node.inputs[0], node.output
        offset, strides = _slice_layout(x.shape, node.attrs["starts"], node.attrs["steps"])
        emit_copy(to, y, x, y.shape, strides_of(y.shape), strides, x_offset=offset)


class Unslice(Op):
    """The gradient of Slice: zeros of `shape`, with x at the places the slice read."""

    name = "unslice"
    sized = ("starts", "shape")

    def infer(self, node: Node) -> OutputTypes:
        return [(node.attrs["shape"], node.inputs[0].dtype)]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        assert grads[0] is not None
        starts, steps = node.attrs["starts"], node.attrs["steps"]
        return [_slice(grads[0], starts, steps, node.inputs[0].shape)]

    def lower(self, node: Node, to: Emitter) -> None:
        x, y = node.inputs[0], node.output
        to.emit("fill", y=y, n=count(y.shape), value=0.0)
        offset, strides = _slice_layout(y.shape, node.attrs["starts"], node.attrs["steps"])
        emit_copy(to, y, x, x.shape, strides, strides_of(x.shape), y_offset=offset)


class Concat(Op):
    """attrs: dim."""

    name = "concat"

    def infer(self, node: Node) -> OutputTypes:
        dim, first = node.attrs["dim"], node.inputs[0]
        total = sum(t.shape[dim] for t in node.inputs)
        return [((*first.shape[:dim], total, *first.shape[dim + 1 :]), first.dtype)]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        dy, dim = grads[0], node.attrs["dim"]
        assert dy is not None
        result: list[Tensor | None] = []
        start: int = 0
        for x, need in zip(node.inputs, needs, strict=True):
            if need:
                starts = tuple(start if i == dim else 0 for i in range(dy.ndim))
                result.append(_slice(dy, starts, (1,) * dy.ndim, x.shape))
            else:
                result.append(None)
            start = start + x.shape[dim]
        return result

    def lower(self, node: Node, to: Emitter) -> None:
        y, dim = node.output, node.attrs["dim"]
        strides = strides_of(y.shape)
        start: int = 0
        for x in node.inputs:
            emit_copy(to, y, x, x.shape, strides, strides_of(x.shape), y_offset=count((start, strides[dim])))
            start = start + x.shape[dim]


SLICE = Slice()
UNSLICE = Unslice()
CONCAT = Concat()


def _slice_layout(shape: Shape, starts: Sequence[int], steps: Sequence[int]) -> tuple[int, list[int]]:
    """Element offset of a slice's first element in an array of `shape`, and its strides."""
    strides = strides_of(shape)
    offset: int = 0
    for start, stride in zip(starts, strides, strict=True):
        offset = offset + count((start, stride))
    return offset, [count((step, stride)) for step, stride in zip(steps, strides, strict=True)]


def _checked_pad(x: Tensor, pad: Any) -> None:
    check_float("pad", x)
    if not isinstance(pad, (tuple, list)) or not all(type(p) is int for p in pad):
        raise TypeError(f"pad must be a tuple of ints, got {pad!r}")
    if len(pad) % 2 or len(pad) > 2 * x.ndim:
        raise ValueError(
            f"pad must hold two numbers for each of the last dimensions of {describe(x.shape)}, got {tuple(pad)}"
        )
    if min(pad, default=0) < 0:
        raise ValueError(f"pad must not be negative, got {tuple(pad)}; index the tensor to crop it")
    for width in pad:
        _check.size("pad", width, 0)


def constant_pad(x: Any, pad: Any, value: float) -> Tensor:
    """See fastnn.nn.functional.pad."""
    x = as_tensor(x)
    padded = zero_pad(x, pad)
    if value == 0 or padded is x:
        return padded
    inside = np.ones([old if old != new else 1 for old, new in zip(x.shape, padded.shape, strict=True)], bool)
    widths = [(0, 0)] * (x.ndim - len(pad) // 2) + list(zip(pad[::2], pad[1::2], strict=True))[::-1]
    return where(np.pad(inside, widths), padded, value)


def zero_pad(x: Any, pad: Any) -> Tensor:
    """See fastnn.nn.functional.pad."""
    x = as_tensor(x)
    _checked_pad(x, pad)
    starts, sizes = [0] * x.ndim, list(x.shape)
    for i in range(len(pad) // 2):
        starts[-1 - i] = pad[2 * i]
        if pad[2 * i] or pad[2 * i + 1]:
            sizes[-1 - i] += pad[2 * i] + pad[2 * i + 1]
    return unslice(x, starts, (1,) * x.ndim, tuple(sizes))


def edge_pad(x: Any, pad: Any, mode: str) -> Tensor:
    """See fastnn.nn.functional.pad: what is added is a copy of what is there."""
    y: Tensor = as_tensor(x)
    _checked_pad(y, pad)
    for i in range(len(pad) // 2):
        axis, before, after = y.ndim - 1 - i, pad[2 * i], pad[2 * i + 1]
        size = y.shape[axis]
        most = {"reflect": size - 1, "circular": size}.get(mode)
        if most is not None and max(before, after) > most:
            raise ValueError(f"pad: {mode} takes at most {most} for a dimension of {size}, got {max(before, after)}")
        if before or after:
            y = _edge_pad(y, axis, before, after, mode)
    return y


def _edge_pad(x: Tensor, axis: int, before: int, after: int, mode: str) -> Tensor:
    size = x.shape[axis]

    def part(begin: int, count: int) -> Tensor:
        starts, sizes = [0] * x.ndim, list(x.shape)
        starts[axis], sizes[axis] = begin, count
        return _slice(x, starts, (1,) * x.ndim, tuple(sizes))

    def repeated(place: int, count: int) -> list[Tensor]:
        sizes = list(x.shape)
        sizes[axis] = count
        return [broadcast_to(part(place, 1), sizes)] if count else []

    match mode:
        case "replicate":
            parts = [*repeated(0, before), x, *repeated(size - 1, after)]
        case "circular":
            ends = [part(size - before, before)] if before else []
            parts = [*ends, x, *([part(0, after)] if after else [])]
        case _:
            mirrored = [part(i, 1) for i in range(before, 0, -1)]
            parts = [*mirrored, x, *(part(size - 2 - i, 1) for i in range(after))]
    return concat(parts, axis)


def concat(tensors: Sequence[Any], dim: int = 0) -> Tensor:
    """Join tensors along a dimension; all other sizes must agree."""
    if isinstance(tensors, Tensor) or not isinstance(tensors, (tuple, list)):
        raise TypeError(f"concat: tensors must be a list or tuple, got {type(tensors).__name__}")
    if not tensors:
        raise ValueError("concat: no tensors given")
    parts = [as_tensor(t) for t in tensors]
    first = parts[0]
    if first.ndim == 0:
        raise ValueError("concat: 0-d tensors cannot be joined; reshape them to (1,)")
    d = normalize_dim(dim, first.ndim, "concat")
    for i, t in enumerate(parts[1:], 1):
        check_dtypes("concat", first, t, ("the first tensor", f"tensor {i}"))
        if t.ndim != first.ndim or not same_shape(
            (*t.shape[:d], *t.shape[d + 1 :]), (*first.shape[:d], *first.shape[d + 1 :])
        ):
            raise ValueError(
                f"concat along {d}: tensor {i} has shape {describe(t.shape)}, the first {describe(first.shape)}; but "
                f"for the size of dimension {d} they must agree"
            )
    if len(parts) == 1:
        return first
    if all(t.node.op is TRANSPOSE and t.node.attrs["axes"] == first.node.attrs["axes"] for t in parts):
        axes = first.node.attrs["axes"]
        return transpose(concat([t.node.inputs[0] for t in parts], axes[d]), axes)
    return active_graph().add(CONCAT, parts, dim=d).output


def stack(tensors: Sequence[Any], dim: int = 0) -> Tensor:
    """Join tensors of one shape along a new dimension."""
    if isinstance(tensors, Tensor) or not isinstance(tensors, Iterable):
        raise TypeError(f"stack: tensors must be a list or tuple, got {type(tensors).__name__}")
    return concat([unsqueeze(t, dim) for t in tensors], dim)


def _slice(x: Tensor, starts: Sequence[int], steps: Sequence[int], shape: Shape) -> Tensor:
    if same_shape(shape, x.shape):
        return x
    return _moved(SLICE, x, starts, steps, shape)


def unslice(x: Tensor, starts: Sequence[int], steps: Sequence[int], shape: Shape) -> Tensor:
    """Zeros of `shape`, with x at the places starts, starts + steps, ..."""
    return x if same_shape(shape, x.shape) else _moved(UNSLICE, x, starts, steps, shape)


def _moved(op: Op, x: Tensor, starts: Sequence[int], steps: Sequence[int], shape: Shape) -> Tensor:
    """SLICE or UNSLICE, before the transpose that x comes from, if there is one."""
    if x.node.op is TRANSPOSE:
        axes = x.node.attrs["axes"]
        order = [axes.index(d) for d in range(x.ndim)]
        first, step, size = (tuple(values[i] for i in order) for values in (starts, steps, shape))
        return transpose(_moved(op, x.node.inputs[0], first, step, size), axes)
    settings: Arguments = dict(starts=tuple(starts), steps=tuple(steps), shape=tuple(shape))
    return active_graph().add(op, [x], **settings).output


def slice_to(x: Tensor, sizes: Shape) -> Tensor:
    """The first elements of x along each dimension."""
    return _slice(x, (0,) * x.ndim, (1,) * x.ndim, sizes)


def basic_getitem(x: Any, index: Any) -> Tensor:
    """Indexing by constant integers, slices with positive steps, `...` and None."""
    x = as_tensor(x)
    items = list(index) if isinstance(index, tuple) else [index]
    dots = [i for i, item in enumerate(items) if item is Ellipsis]
    if len(dots) > 1:
        raise IndexError("an index can hold only one ...")
    named = sum(1 for item in items if item is not None and item is not Ellipsis)
    if named > x.ndim:
        raise IndexError(f"{named} indices for a tensor of shape {describe(x.shape)}")
    at = dots[0] if dots else len(items)
    items[at : at + 1] = [slice(None)] * (x.ndim - named)

    starts: list[int] = []
    steps: list[int] = []
    sizes: list[int] = []
    result: list[int] = []
    for item in items:
        if item is None:
            result.append(1)
            continue
        axis = len(sizes)
        size = x.shape[axis]
        if isinstance(item, slice):
            if item.start is None and item.stop is None and item.step is None:
                starts.append(0)
                steps.append(1)
                sizes.append(size)
                result.append(size)
                continue
            start, stop, step = item.indices(size)
            length = max(0, -(-(stop - start) // step))
            if length == 0:
                raise ValueError(f"indexing: the slice {item} of dimension {axis} (size {size}) is empty")
            starts.append(start)
            steps.append(step)
            sizes.append(length)
            result.append(length)
        elif isinstance(item, (int, np.integer)) and not isinstance(item, bool):
            if isinstance(size, Dim):  # in gradients alone, which ask for the first
                if item != 0:
                    raise SpecialiseError
            elif not -size <= item < size:
                raise IndexError(f"index {item} is out of range for dimension {axis} of size {size}")
            starts.append(0 if isinstance(size, Dim) else int(item) % size)
            steps.append(1)
            sizes.append(1)
        else:
            raise TypeError(
                f"a tensor is indexed by constant ints, slices, ..., None, arrays of ints or bools and tensors of "
                f"labels, not {type(item).__name__}"
            )
    return reshape(_slice(x, starts, steps, tuple(sizes)), tuple(result))
