"""Reshape (a view), and what moves elements: transpose, slice, concat, broadcast."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import fastnn_ext.elementwise  # noqa: F401  (registers "copy")
from fastnn import _check
from fastnn.graph import (
    Dim,
    Node,
    Shape,
    SpecialiseError,
    Tensor,
    active_graph,
    as_tensor,
    count,
    describe,
    is_one,
    linear,
    same_shape,
)
from fastnn.ops.base import Op, Signature, check_dtypes, check_float, normalize_dim
from fastnn.ops.elementwise import broadcast_strides, padded, strides_of, sum_to

if TYPE_CHECKING:
    from fastnn.lowering.builder import Builder

MAX_NDIM = 8


def emit_copy(
    to: Builder,
    output: Tensor,
    source: Tensor,
    shape: Sequence[int],
    y_strides: Sequence[int],
    x_strides: Sequence[int],
    y_offset: int = 0,
    x_offset: int = 0,
) -> None:
    """output[...] = source[...] over `shape`, with element strides and offsets."""
    if len(shape) > MAX_NDIM:
        raise ValueError(f"a tensor of {len(shape)} dimensions; at most {MAX_NDIM} are supported")
    to.emit(
        "copy",
        outputs=[output],
        inputs=[source],
        dims=[
            len(shape),
            *padded(list(shape), MAX_NDIM, 1),
            *padded(list(y_strides), MAX_NDIM, 0),
            *padded(list(x_strides), MAX_NDIM, 0),
            y_offset,
            x_offset,
        ],
        scalars=[0.0],
    )


class Reshape(Op):
    """attrs: shape. The same memory under another shape."""

    name = "reshape"
    sized = ("shape",)
    view_of = 0

    def infer(self, node: Node) -> Signature:
        return [(node.attrs["shape"], node.inputs[0].dtype)]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        assert grads[0] is not None
        return [reshape(grads[0], node.inputs[0].shape)]

    def lower(self, node: Node, to: Builder) -> None:
        to.alias(node.output, node.inputs[0])


class Transpose(Op):
    """attrs: axes."""

    name = "transpose"

    def infer(self, node: Node) -> Signature:
        x = node.inputs[0]
        return [(tuple(x.shape[a] for a in node.attrs["axes"]), x.dtype)]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        assert grads[0] is not None
        return [transpose(grads[0], tuple(int(i) for i in np.argsort(node.attrs["axes"])))]

    def lower(self, node: Node, to: Builder) -> None:
        x, y = node.inputs[0], node.output
        strides = strides_of(x.shape)
        emit_copy(to, y, x, y.shape, strides_of(y.shape), [strides[a] for a in node.attrs["axes"]])


class Slice(Op):
    """attrs: starts, steps, shape: y[i, j] = x[start0 + i * step0, start1 + j * step1]."""

    name = "slice"
    sized = ("starts", "shape")

    def infer(self, node: Node) -> Signature:
        return [(node.attrs["shape"], node.inputs[0].dtype)]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        assert grads[0] is not None
        starts, steps = node.attrs["starts"], node.attrs["steps"]
        return [unslice(grads[0], starts, steps, node.inputs[0].shape)]

    def lower(self, node: Node, to: Builder) -> None:
        x, y = node.inputs[0], node.output
        offset, strides = _slice_layout(x.shape, node.attrs["starts"], node.attrs["steps"])
        emit_copy(to, y, x, y.shape, strides_of(y.shape), strides, x_offset=offset)


class Unslice(Op):
    """The gradient of Slice: zeros of `shape`, with x at the places the slice read."""

    name = "unslice"
    sized = ("starts", "shape")

    def infer(self, node: Node) -> Signature:
        return [(node.attrs["shape"], node.inputs[0].dtype)]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        assert grads[0] is not None
        starts, steps = node.attrs["starts"], node.attrs["steps"]
        return [_slice(grads[0], starts, steps, node.inputs[0].shape)]

    def lower(self, node: Node, to: Builder) -> None:
        x, y = node.inputs[0], node.output
        to.emit("fill", outputs=[y], inputs=[], dims=[count(y.shape)], scalars=[0.0])
        offset, strides = _slice_layout(y.shape, node.attrs["starts"], node.attrs["steps"])
        emit_copy(to, y, x, x.shape, strides, strides_of(x.shape), y_offset=offset)


class Concat(Op):
    """attrs: dim."""

    name = "concat"

    def infer(self, node: Node) -> Signature:
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

    def lower(self, node: Node, to: Builder) -> None:
        y, dim = node.output, node.attrs["dim"]
        strides = strides_of(y.shape)
        start: int = 0
        for x in node.inputs:
            emit_copy(to, y, x, x.shape, strides, strides_of(x.shape), y_offset=count((start, strides[dim])))
            start = start + x.shape[dim]


class Broadcast(Op):
    """attrs: shape."""

    name = "broadcast"
    sized = ("shape",)

    def infer(self, node: Node) -> Signature:
        return [(node.attrs["shape"], node.inputs[0].dtype)]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        assert grads[0] is not None
        return [sum_to(grads[0], node.inputs[0].shape)]

    def lower(self, node: Node, to: Builder) -> None:
        x, y = node.inputs[0], node.output
        emit_copy(to, y, x, y.shape, strides_of(y.shape), broadcast_strides(x.shape, y.shape))


RESHAPE = Reshape()
TRANSPOSE = Transpose()
SLICE = Slice()
UNSLICE = Unslice()
CONCAT = Concat()
BROADCAST = Broadcast()


def _slice_layout(shape: Shape, starts: Sequence[int], steps: Sequence[int]) -> tuple[int, list[int]]:
    """Element offset of a slice's first element in an array of `shape`, and its strides."""
    strides = strides_of(shape)
    offset: int = 0
    for start, stride in zip(starts, strides, strict=True):
        offset = offset + count((start, stride))
    return offset, [count((step, stride)) for step, stride in zip(steps, strides, strict=True)]


def reshape(x: Any, *shape: Any) -> Tensor:
    """x under another shape; one size may be -1."""
    x = as_tensor(x)
    sizes = list(shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape)
    for size in sizes:
        if isinstance(size, bool) or not isinstance(size, (int, np.integer)):
            raise TypeError(f"reshape: sizes must be ints, got {size!r}")
    total = count(x.shape)
    unknown = [i for i, size in enumerate(sizes) if not isinstance(size, Dim) and size == -1]
    if len(unknown) > 1:
        raise ValueError(f"reshape: only one size may be -1, got {tuple(sizes)}")
    if unknown:
        rest = count([size for i, size in enumerate(sizes) if i != unknown[0]])
        sizes[unknown[0]] = _quotient(x, total, rest, sizes)
    result = tuple(size if isinstance(size, Dim) else int(size) for size in sizes)
    if any(not isinstance(size, Dim) and size < 0 for size in result):
        raise ValueError(f"reshape: negative size in {tuple(sizes)}")
    if linear(count(result)) != linear(total):
        raise ValueError(f"reshape: {describe(x.shape)} does not fit {describe(result)}")
    if same_shape(result, x.shape):
        return x
    if x.node.op is RESHAPE:
        return reshape(x.node.inputs[0], result)
    return active_graph().add(RESHAPE, [x], shape=result).output


def _quotient(x: Tensor, total: int, rest: int, sizes: Sequence[int]) -> int:
    """The size that -1 stands for."""
    if isinstance(rest, Dim):
        whole = linear(total)
        factor = whole[1] // rest.per_sample
        if linear(count((rest, factor))) == whole:
            return factor
    elif isinstance(total, Dim):
        return total // rest
    elif rest > 0 and total % rest == 0:
        return total // rest
    raise ValueError(f"reshape: {describe(x.shape)} does not fit {tuple(sizes)}")


def flatten(x: Any, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Merge dimensions start_dim ... end_dim into one."""
    x = as_tensor(x)
    if x.ndim == 0:
        return reshape(x, (1,))
    first = normalize_dim(start_dim, x.ndim, "flatten: start_dim")
    last = normalize_dim(end_dim, x.ndim, "flatten: end_dim")
    if first > last:
        raise ValueError(f"flatten: start_dim {start_dim} lies behind end_dim {end_dim}")
    return reshape(x, (*x.shape[:first], count(x.shape[first : last + 1]), *x.shape[last + 1 :]))


def transpose(x: Tensor, axes: Sequence[int]) -> Tensor:
    """x with its dimensions in another order; neighbouring transposes fold into one."""
    axes = tuple(axes)
    if x.node.op is TRANSPOSE:
        inner = x.node.attrs["axes"]
        return transpose(x.node.inputs[0], tuple(inner[a] for a in axes))
    if axes == tuple(range(x.ndim)):
        return x
    moving = [a for a in axes if not is_one(x.shape[a])]
    if moving == sorted(moving):  # only sizes of 1 change places
        return reshape(x, tuple(x.shape[a] for a in axes))
    return active_graph().add(TRANSPOSE, [x], axes=axes).output


def behind_layout(apply: Callable[..., Tensor], *operands: Tensor) -> Tensor:
    """Elementwise work, done before the transpose or reshape that all operands come from, if there is one.

    So layout changes sink to where they are needed, and cancel on the way; and the work stands next to the
    op that makes its data, which may take it into its epilogue.
    """
    first = operands[0]
    op = first.node.op
    if op not in (TRANSPOSE, RESHAPE) or any(t.node.op is not op for t in operands):
        return apply(*operands)
    sources = [t.node.inputs[0] for t in operands]
    if op is TRANSPOSE:
        axes = first.node.attrs["axes"]
        if all(t.node.attrs["axes"] == axes for t in operands):
            return transpose(behind_layout(apply, *sources), axes)
    elif all(same_shape(t.shape, sources[0].shape) for t in sources):
        if all(same_shape(t.shape, first.shape) for t in operands):
            return reshape(behind_layout(apply, *sources), first.shape)
    return apply(*operands)


def permute(x: Any, *dims: Any) -> Tensor:
    """x with its dimensions in the order `dims`."""
    x = as_tensor(x)
    order = tuple(dims[0]) if len(dims) == 1 and isinstance(dims[0], (tuple, list)) else dims
    axes = tuple(normalize_dim(d, x.ndim, "permute") for d in order)
    if sorted(axes) != list(range(x.ndim)):
        raise ValueError(f"permute: {order} does not name each of the {x.ndim} dimensions once")
    return transpose(x, axes)


def swap(x: Any, dim0: int, dim1: int) -> Tensor:
    """x with two dimensions swapped."""
    x = as_tensor(x)
    axes = list(range(x.ndim))
    i, j = normalize_dim(dim0, x.ndim, "transpose"), normalize_dim(dim1, x.ndim, "transpose")
    axes[i], axes[j] = axes[j], axes[i]
    return transpose(x, axes)


def transpose_all(x: Any) -> Tensor:
    x = as_tensor(x)
    return transpose(x, tuple(reversed(range(x.ndim))))


def squeeze(x: Any, dim: int) -> Tensor:
    """x without dimension `dim`, if its size is 1."""
    x = as_tensor(x)
    d = normalize_dim(dim, x.ndim, "squeeze")
    return reshape(x, (*x.shape[:d], *x.shape[d + 1 :])) if is_one(x.shape[d]) else x


def unsqueeze(x: Any, dim: int) -> Tensor:
    """x with a new dimension of size 1 at `dim`."""
    x = as_tensor(x)
    d = normalize_dim(dim, x.ndim + 1, "unsqueeze")
    return reshape(x, (*x.shape[:d], 1, *x.shape[d:]))


def broadcast_to(x: Any, shape: Sequence[int]) -> Tensor:
    """x stretched to `shape` by NumPy's rule."""
    from fastnn.ops.elementwise import broadcast_shapes

    x = as_tensor(x)
    target = tuple(shape)
    if not same_shape(broadcast_shapes("broadcast_to", x.shape, target), target):
        raise ValueError(f"broadcast_to: {describe(x.shape)} does not broadcast to {describe(target)}")
    return x if same_shape(x.shape, target) else active_graph().add(BROADCAST, [x], shape=target).output


def zero_pad(x: Any, pad: Any) -> Tensor:
    """See fastnn.nn.functional.pad."""
    x = as_tensor(x)
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
    starts, sizes = [0] * x.ndim, list(x.shape)
    for i in range(len(pad) // 2):
        starts[-1 - i] = pad[2 * i]
        if pad[2 * i] or pad[2 * i + 1]:
            sizes[-1 - i] += pad[2 * i] + pad[2 * i + 1]
    return unslice(x, starts, (1,) * x.ndim, tuple(sizes))


def upsample(x: Any, size: Any, scale: Any) -> Tensor:
    """See fastnn.nn.functional.interpolate."""
    x = as_tensor(x)
    check_float("interpolate", x)
    if x.ndim != 4:
        raise ValueError(f"interpolate: input has shape {describe(x.shape)}; expected (N, C, H, W)")
    if (size is None) == (scale is None):
        raise ValueError(f"interpolate: give either size or scale_factor, got size={size}, scale_factor={scale}")
    wanted = scale if size is None else size
    sides = tuple(wanted) if isinstance(wanted, (tuple, list)) else (wanted, wanted)
    old = x.shape[2:]
    if len(sides) != 2:
        raise ValueError(f"interpolate: {'scale_factor' if size is None else 'size'} must be one or two, got {wanted}")
    if size is None:
        factors = tuple(_check.real("interpolate: scale_factor", f, 0, _check.LARGEST_SIZE) for f in sides)
    else:
        wished = (_check.size("interpolate: size", new, 1) for new in sides)
        factors = tuple(new / side for new, side in zip(wished, old, strict=True))
    if any(not f >= 1 or f != int(f) for f in factors):
        raise ValueError(
            f"interpolate: pixels can be repeated a whole number of times alone; got size={size}, "
            f"scale_factor={scale} for an image of {old[0]} x {old[1]}"
        )
    (n, c, h, w), (fh, fw) = x.shape, (int(f) for f in factors)
    pixels = reshape(transpose(x, (0, 2, 3, 1)), (n, h, 1, w, 1, c))
    repeated = reshape(broadcast_to(pixels, (n, h, fh, w, fw, c)), (n, h * fh, w * fw, c))
    return transpose(repeated, (0, 3, 1, 2))


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
    settings = dict(starts=tuple(starts), steps=tuple(steps), shape=tuple(shape))
    return active_graph().add(op, [x], **settings).output


def getitem(x: Any, index: Any) -> Tensor:
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
            if step < 1:
                raise ValueError(f"indexing: step {step} along dimension {axis}; only positive steps are supported")
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
                f"a tensor is indexed by constant ints, slices, ... and None, not {type(item).__name__}; to choose "
                "rows write fn.stack([x[i] for i in rows])"
            )
    return reshape(_slice(x, starts, steps, tuple(sizes)), tuple(result))
