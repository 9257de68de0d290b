"""How elements lie: shapes, orders, joints and parts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn import _check
from fastnn.graph import Tensor
from fastnn.onnx.operator import (
    Array,
    Call,
    Ints,
    Value,
    Whole,
    axes_of,
    axis_of,
    check_known,
    collapse,
    dense,
    fold,
    lift,
    operator,
)
from fastnn.onnx.whole import alike, elementwise, numbers
from fastnn.ops import layout
from fastnn.ops.elementwise import where
from fastnn.ops.index import getitem
from fastnn.ops.shape import concat as join
from fastnn.ops.shape import edge_pad, zero_pad


def ints(array: Array) -> list[int]:
    """A known array's numbers."""
    return [int(x) for x in array.ravel()]


def reshaped(x: Value, shape: Sequence[int]) -> Value:
    """x under another shape of as many elements."""
    sizes = tuple(shape)

    def of_array(a: Array) -> Array:
        number = collapse(a)
        return np.broadcast_to(number.reshape(()), sizes) if number.size == 1 else np.reshape(dense(a), sizes)

    return lift(x, of_array, lambda t: layout.reshape(t, sizes))


def permuted(x: Value, axes: Sequence[int]) -> Value:
    """x with its dimensions in another order."""
    order = tuple(axes)
    return lift(x, lambda a: np.transpose(a, order), lambda t: layout.permute(t, order))


@operator("Reshape", 5, raw="data", known="shape")
def reshape(call: Call, data: Value, shape: Array, *, allowzero: int = 0) -> Value:
    """data under another shape: 0 keeps a size, unless `allowzero` says that it is one."""
    wanted = ints(shape)
    for i, size in enumerate(wanted):
        if size == 0 and not allowzero:
            if i >= len(data.shape):
                raise ValueError(f"shape {_check.brief(wanted)} keeps size {i} of {len(data.shape)}")
            wanted[i] = data.shape[i]
    total = math.prod(data.shape)
    if wanted.count(-1) == 1:
        rest = math.prod(size for size in wanted if size != -1)
        if rest <= 0 or total % rest:
            raise ValueError(f"{tuple(data.shape)} does not fit {_check.brief(tuple(wanted))}")
        wanted[wanted.index(-1)] = total // rest
    if min(wanted, default=0) < 0 or math.prod(wanted) != total:
        raise ValueError(f"{tuple(data.shape)} does not fit {_check.brief(tuple(wanted))}")
    return reshaped(data, wanted)


@operator("Flatten", 1, raw="x")
def flatten(call: Call, x: Value, *, axis: int = 1) -> Value:
    """x as a matrix: of the dimensions before `axis`, and of the others."""
    if not -len(x.shape) <= axis <= len(x.shape):
        raise ValueError(f"axis {axis} is out of range for {len(x.shape)} dimensions")
    axis += len(x.shape) if axis < 0 else 0
    return reshaped(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


@operator("Transpose", 1, raw="x")
def transpose(call: Call, x: Value, *, perm: Ints | None = None) -> Value:
    """x with its dimensions in another order, backwards by default."""
    axes = tuple(reversed(range(len(x.shape)))) if perm is None else perm
    if sorted(axes) != list(range(len(x.shape))):
        raise ValueError(f"perm {_check.brief(axes)} does not name each of {len(x.shape)} dimensions once")
    return permuted(x, axes)


@operator("Squeeze", 1, raw="x")
def squeeze_by_attribute(call: Call, x: Value, *, axes: Ints | None = None) -> Value:
    """x without dimensions of size 1."""
    return _squeezed(x, axes)


@operator("Squeeze", 13, raw="x", known="axes")
def squeeze(call: Call, x: Value, axes: Array | None = None) -> Value:
    """x without dimensions of size 1."""
    return _squeezed(x, None if axes is None else ints(axes))


def _squeezed(x: Value, axes: Sequence[int] | None) -> Value:
    if axes is None:
        gone = [i for i, size in enumerate(x.shape) if size == 1]
    else:
        gone = axes_of(axes, len(x.shape))
        if any(x.shape[a] != 1 for a in gone):
            raise ValueError(f"axes {gone} of shape {tuple(x.shape)} are not all of size 1")
    return reshaped(x, [size for i, size in enumerate(x.shape) if i not in gone])


@operator("Unsqueeze", 1, raw="x")
def unsqueeze_by_attribute(call: Call, x: Value, *, axes: Ints) -> Value:
    """x with further dimensions of size 1."""
    return _unsqueezed(x, axes)


@operator("Unsqueeze", 13, raw="x", known="axes")
def unsqueeze(call: Call, x: Value, axes: Array) -> Value:
    """x with further dimensions of size 1."""
    return _unsqueezed(x, ints(axes))


def _unsqueezed(x: Value, axes: Sequence[int]) -> Value:
    new = axes_of(axes, len(x.shape) + len(axes))
    sizes = list(x.shape)
    for axis in new:
        sizes.insert(axis, 1)
    return reshaped(x, sizes)


@operator("Concat", 4, raw="*")
def concat(call: Call, first: Value, *more: Value, axis: int) -> Value:
    """Values joined along a dimension."""
    d = axis_of(axis, len(first.shape))
    values = [v for v in (first, *more) if v.shape[d : d + 1] != (0,)] or [first]
    if len(values) == 1:
        return values[0]
    parts, made = alike(call, values)
    if isinstance(parts[0], np.ndarray):
        check_known([sum(p.size for p in parts)])
        return np.concatenate(parts, d)
    return made(join(parts, d))


@operator("Split", 2, raw="x")
def split_by_attribute(call: Call, x: Value, *, axis: int = 0, split: Ints | None = None) -> tuple[Value, ...]:
    """Parts of x along a dimension, of equal size by default."""
    return _parts(call, x, axis, split, None)


@operator("Split", 13, raw="x", known="split")
def split(
    call: Call, x: Value, split: Array | None = None, *, axis: int = 0, num_outputs: int | None = None
) -> tuple[Value, ...]:
    """Parts of x along a dimension, of equal size by default; the last one may be smaller."""
    return _parts(call, x, axis, None if split is None else ints(split), num_outputs)


def _parts(call: Call, x: Value, axis: int, sizes: Sequence[int] | None, outputs: int | None) -> tuple[Value, ...]:
    d = axis_of(axis, len(x.shape))
    whole, n = x.shape[d], len(call.node.outputs)
    if outputs not in (None, n):
        raise ValueError(f"num_outputs is {outputs}, and it has {n}")
    if sizes is None:
        if whole % n and outputs is None:
            raise ValueError(f"a dimension of {whole} cannot be cut into {n} equal parts")
        part = -(-whole // n)
        sizes = [*[part] * (n - 1), whole - part * (n - 1)]
    if len(sizes) != n or sum(sizes) != whole or min(sizes) < 0:
        raise ValueError(f"parts {_check.brief(tuple(sizes))} of a dimension of {whole}, for {n} outputs")
    begins = [sum(sizes[:i]) for i in range(n)]
    return tuple(sliced(x, {d: slice(b, b + size)}) for b, size in zip(begins, sizes, strict=True))


def sliced(x: Value, slices: dict[int, slice]) -> Value:
    """x with parts of dimensions alone. What has no elements left is known."""
    sizes = [len(range(*slices.get(i, slice(None)).indices(size))) for i, size in enumerate(x.shape)]
    if 0 in sizes:
        return np.zeros(sizes, x.dtype)
    index = tuple(slices.get(i, slice(None)) for i in range(len(x.shape)))
    return lift(x, lambda a: a[index], lambda t: getitem(t, index))


@operator("Slice", 1, raw="data")
def slice_by_attributes(call: Call, data: Value, *, starts: Ints, ends: Ints, axes: Ints | None = None) -> Value:
    """A part of data."""
    return _sliced(data, starts, ends, axes, None)


@operator("Slice", 10, raw="data", known="starts ends axes steps")
def slice_(
    call: Call, data: Value, starts: Array, ends: Array, axes: Array | None = None, steps: Array | None = None
) -> Value:
    """A part of data, perhaps every so many elements, perhaps backwards."""
    return _sliced(data, ints(starts), ints(ends), *(None if a is None else ints(a) for a in (axes, steps)))


def _sliced(
    x: Value, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int] | None, steps: Sequence[int] | None
) -> Value:
    chosen = list(range(len(starts))) if axes is None else [axis_of(a, len(x.shape)) for a in axes]
    steps = [1] * len(starts) if steps is None else steps
    if len({len(starts), len(ends), len(chosen), len(steps)}) > 1 or len(set(chosen)) < len(chosen):
        raise ValueError(f"starts, ends, axes and steps do not fit: {len(starts)}, {len(ends)}, {chosen}, {len(steps)}")
    slices = {}
    for start, end, d, step in zip(starts, ends, chosen, steps, strict=True):
        if step == 0 or d >= len(x.shape):
            raise ValueError(f"a step of {step} along dimension {d} of {len(x.shape)}")
        size = x.shape[d]
        low, high = (0, size) if step > 0 else (-1, size - 1)
        first = min(max(start + size if start < 0 else start, max(low, 0)), high)
        last = min(max(end + size if end < 0 else end, low), high)
        if step > 0:
            slices[d] = slice(first, max(first, last), step)
        else:
            slices[d] = slice(first, None if last < 0 else min(first, last), step)
            if first <= last:
                slices[d] = slice(0, 0)
    return sliced(x, slices)


@operator("Expand", 8, raw="x", known="shape")
def expand(call: Call, x: Value, shape: Array) -> Value:
    """x stretched to a shape, which it may stretch in turn."""
    return _stretched(x, np.broadcast_shapes(tuple(x.shape), tuple(ints(shape))))


@operator("Tile", 6, raw="x", known="repeats")
def tile(call: Call, x: Value, repeats: Array) -> Value:
    """x, so many times along each dimension."""
    times = ints(repeats)
    if len(times) != len(x.shape) or min(times, default=1) < 1:
        raise ValueError(f"repeats {_check.brief(tuple(times))} for {len(x.shape)} dimensions")
    for d in reversed(range(len(times))):
        if times[d] == 1:
            continue
        sizes = tuple(x.shape)
        x = reshaped(x, (math.prod(sizes[:d]), 1, math.prod(sizes[d:])))
        x = _stretched(x, (x.shape[0], times[d], x.shape[2]))
        x = reshaped(x, (*sizes[:d], sizes[d] * times[d], *sizes[d + 1 :]))
    return x


def _stretched(x: Value, shape: Sequence[int]) -> Value:
    return lift(x, lambda a: np.broadcast_to(a, shape), lambda t: layout.broadcast_to(t, shape))


@operator("Pad", 2)
def pad_by_attributes(call: Call, data: Any, *, pads: Ints, mode: str = "constant", value: float = 0.0) -> Value:
    """data with more around it."""
    return _padded(call, data, list(pads), None, mode, value)


@operator("Pad", 11, raw="data", known="pads constant_value axes")
def pad(
    call: Call,
    data: Value,
    pads: Array,
    constant_value: Array | None = None,
    axes: Array | None = None,
    *,
    mode: str = "constant",
) -> Value:
    """data with more around it."""
    value = 0.0 if constant_value is None or not constant_value.size else constant_value.reshape(()).item()
    return _padded(call, data, ints(pads), None if axes is None else ints(axes), mode, value)


_MODES = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}


def _padded(call: Call, x: Value, pads: list[int], axes: Sequence[int] | None, mode: str, value: Any) -> Value:
    n = len(x.shape)
    chosen = list(range(n)) if axes is None else [axis_of(a, n) for a in axes]
    if len(pads) != 2 * len(chosen) or len(set(chosen)) < len(chosen):
        raise ValueError(f"{len(pads)} pads for {len(chosen)} dimensions of {n}; expected two for each")
    if mode != "constant" and mode not in _MODES:
        raise ValueError(f"mode {_check.brief(mode)} is not read")
    widths = [(0, 0)] * n
    for i, d in enumerate(chosen):
        widths[d] = (pads[i], pads[i + len(chosen)])
    cuts = {d: slice(-min(a, 0), x.shape[d] + min(b, 0)) for d, (a, b) in enumerate(widths) if min(a, b) < 0}
    if any(c.start >= c.stop for c in cuts.values()):
        raise ValueError(f"pads {_check.brief(tuple(pads))} leave nothing of {tuple(x.shape)}")
    x = sliced(x, cuts) if cuts else x
    widths = [(max(a, 0), max(b, 0)) for a, b in widths]
    for width in (w for pair in widths for w in pair):
        _check.size("pads", width, 0)
    if isinstance(x, np.ndarray):
        check_known([size + a + b for size, (a, b) in zip(x.shape, widths, strict=True)])
        settings: Any = {"constant_values": value} if mode == "constant" else {}
        return np.pad(x, widths, mode, **settings)  # type: ignore[call-overload, no-any-return]
    if isinstance(x, Whole):
        (tensor,) = numbers(x)
        return Whole(_framed(call, tensor, widths, mode, value), x.dtype, late=True)
    return _framed(call, call.tensor(x), widths, mode, value)


def _framed(call: Call, tensor: Tensor, widths: list[tuple[int, int]], mode: str, value: Any) -> Tensor:
    flat = tuple(w for pair in reversed(widths) for w in pair)
    if mode != "constant":
        return edge_pad(tensor, flat, _MODES[mode])
    padded = zero_pad(tensor, flat)
    if not value:
        return padded
    # The frame alone: where nothing is padded it is of size 1, so that it holds for any batch.
    frame = np.zeros([size if a or b else 1 for size, (a, b) in zip(tensor.shape, widths, strict=True)], tensor.dtype)
    check_known([size + a + b for size, (a, b) in zip(frame.shape, widths, strict=True)])
    return padded + call.tensor(np.pad(frame, widths, constant_values=value))


@operator("DepthToSpace", 1, raw="x")
def depth_to_space(call: Call, x: Value, *, blocksize: int, mode: str = "DCR") -> Value:
    """Channels as pixels of squares of blocksize * blocksize."""
    n, c, h, w = _image(x)
    b = _check.size("blocksize", blocksize, 1)
    if c % (b * b):
        raise ValueError(f"{c} channels are no multiple of {b} * {b}")
    if mode == "DCR":
        y = permuted(reshaped(x, (n, b, b, c // (b * b), h, w)), (0, 3, 4, 1, 5, 2))
    else:
        y = permuted(reshaped(x, (n, c // (b * b), b, b, h, w)), (0, 1, 4, 2, 5, 3))
    return reshaped(y, (n, c // (b * b), h * b, w * b))


@operator("SpaceToDepth", 1, raw="x")
def space_to_depth(call: Call, x: Value, *, blocksize: int, mode: str = "DCR") -> Value:
    """Pixels of squares of blocksize * blocksize as channels: the places in a square before the channels, or behind."""
    n, c, h, w = _image(x)
    b = _check.size("blocksize", blocksize, 1)
    if h % b or w % b:
        raise ValueError(f"an image of {h} x {w} is not made of squares of {b} * {b}")
    order = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    y = permuted(reshaped(x, (n, c, h // b, b, w // b, b)), order)
    return reshaped(y, (n, c * b * b, h // b, w // b))


def _image(x: Value) -> tuple[int, ...]:
    if len(x.shape) != 4:
        raise ValueError(f"its input has shape {tuple(x.shape)}; expected (N, C, H, W)")
    return tuple(x.shape)


@operator("Identity", 1, raw="x")
def identity(call: Call, x: Value) -> Value:
    """x."""
    return x


@operator("Trilu", 14, raw="x", known="k")
def trilu(call: Call, x: Value, k: Array | None = None, *, upper: int = 1) -> Value:
    """The upper or lower triangle of matrices, with zeros in place of the rest."""
    if len(x.shape) < 2:
        raise ValueError(f"its input has shape {tuple(x.shape)}; expected matrices")
    rows, columns = x.shape[-2:]
    check_known((rows, columns))
    by = 0 if k is None else min(max(int(k.reshape(())), -rows), columns)
    kept = np.tri(rows, columns, by - 1 if upper else by, dtype=bool) != bool(upper)
    if isinstance(x, np.ndarray):
        return fold(lambda a, m: np.where(m, a, np.zeros((), a.dtype)), x, kept)
    if x.dtype.kind == "f":
        tensor = call.tensor(x)
        return where(call.tensor(kept.astype(tensor.dtype)), tensor, 0.0)
    return elementwise(call, np.multiply, lambda a, b: a * b, x, kept.astype(x.dtype))
