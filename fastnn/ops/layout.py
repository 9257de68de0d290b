"""How elements lie: reshape (a view), transpose, broadcast, and layout changes that sink and cancel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import fastnn_ext.elementwise as native
from fastnn.graph import CONSTANT, Emitter, Node, Op, OutputTypes, Tensor, active_graph, as_tensor
from fastnn.ops.arguments import normalize_dim
from fastnn.sizes import (
    Dim,
    Shape,
    broadcast_shapes,
    broadcast_strides,
    count,
    describe,
    is_one,
    linear,
    same_shape,
    strides_of,
)


def emit_copy(
    to: Emitter,
    output: Tensor,
    source: Tensor,
    shape: Sequence[int],
    y_strides: Sequence[int],
    x_strides: Sequence[int],
    y_offset: int = 0,
    x_offset: int = 0,
) -> None:
    """output[...] = source[...] over `shape`, with element strides and offsets."""
    if len(shape) > native.MAX_COPY_NDIM:
        raise ValueError(f"a tensor of {len(shape)} dimensions; at most {native.MAX_COPY_NDIM} are supported")
    to.emit(
        "copy",
        y=output,
        x=source,
        ndim=len(shape),
        shape=shape,
        y_strides=y_strides,
        x_strides=x_strides,
        y_at=y_offset,
        x_at=x_offset,
        dtype=np.dtype(np.float64)
        if output.dtype.kind in "iu"
        else output.dtype,  # labels are copied as what is as long
    )


class Reshape(Op):
    """attrs: shape. The same memory under another shape."""

    name = "reshape"
    sized = ("shape",)
    view_of = 0

    def infer(self, node: Node) -> OutputTypes:
        return [(node.attrs["shape"], node.inputs[0].dtype)]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        assert grads[0] is not None
        return [grads[0].reshape(node.inputs[0].shape)]

    def lower(self, node: Node, to: Emitter) -> None:
        to.alias(node.output, node.inputs[0])


class Transpose(Op):
    """attrs: axes."""

    name = "transpose"

    def infer(self, node: Node) -> OutputTypes:
        x = node.inputs[0]
        return [(tuple(x.shape[a] for a in node.attrs["axes"]), x.dtype)]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        assert grads[0] is not None
        return [transpose(grads[0], tuple(int(i) for i in np.argsort(node.attrs["axes"])))]

    def lower(self, node: Node, to: Emitter) -> None:
        x, y = node.inputs[0], node.output
        strides = strides_of(x.shape)
        emit_copy(to, y, x, y.shape, strides_of(y.shape), [strides[a] for a in node.attrs["axes"]])


class Broadcast(Op):
    """attrs: shape."""

    name = "broadcast"
    sized = ("shape",)

    def infer(self, node: Node) -> OutputTypes:
        return [(node.attrs["shape"], node.inputs[0].dtype)]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        assert grads[0] is not None
        return [sum_to(grads[0], node.inputs[0].shape)]

    def lower(self, node: Node, to: Emitter) -> None:
        x, y = node.inputs[0], node.output
        emit_copy(to, y, x, y.shape, strides_of(y.shape), broadcast_strides(x.shape, y.shape))


class Detach(Op):
    """The same memory, of which no gradient comes back."""

    name = "detach"
    view_of = 0

    def infer(self, node: Node) -> OutputTypes:
        return [(node.inputs[0].shape, node.inputs[0].dtype)]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        return [None]

    def lower(self, node: Node, to: Emitter) -> None:
        to.alias(node.output, node.inputs[0])


DETACH = Detach()
RESHAPE = Reshape()
TRANSPOSE = Transpose()
BROADCAST = Broadcast()


def reshape(x: Any, *shape: Any) -> Tensor:
    """x under another shape; one size may be -1."""
    given = as_tensor(x)
    sizes = list(shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape)
    for size in sizes:
        if isinstance(size, bool) or not isinstance(size, (int, np.integer)):
            raise TypeError(f"reshape: sizes must be ints, got {size!r}")
    total = count(given.shape)
    unknown = [i for i, size in enumerate(sizes) if not isinstance(size, Dim) and size == -1]
    if len(unknown) > 1:
        raise ValueError(f"reshape: only one size may be -1, got {tuple(sizes)}")
    if unknown:
        rest = count([size for i, size in enumerate(sizes) if i != unknown[0]])
        sizes[unknown[0]] = _quotient(given, total, rest, sizes)
    result = tuple(size if isinstance(size, Dim) else int(size) for size in sizes)
    if any(not isinstance(size, Dim) and size < 0 for size in result):
        raise ValueError(f"reshape: negative size in {tuple(sizes)}")
    if linear(count(result)) != linear(total):
        raise ValueError(f"reshape: {describe(given.shape)} does not fit {describe(result)}")
    if same_shape(result, given.shape):
        return given
    if given.node.op is RESHAPE:
        return reshape(given.node.inputs[0], result)
    return active_graph().add(RESHAPE, [given], shape=result).output


def detach(x: Any) -> Tensor:
    """x as a constant: it has no gradient."""
    return active_graph().add(DETACH, [as_tensor(x)]).output


def _quotient(x: Tensor, total: int, rest: int, sizes: Sequence[int]) -> int:
    """The size that -1 stands for."""
    if isinstance(rest, Dim):
        whole = linear(total)
        factor = whole[1] // rest.per_sample
        if linear(count((rest, factor))) == whole:
            return factor
    elif isinstance(total, Dim):
        quotient: int = total // rest
        return quotient
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
    """Elementwise work, done before the transpose or reshape that all operands come from, if there is one; those of no
    dimensions fit any.

    So layout changes sink to where they are needed, and cancel on the way; and the work stands next to the
    op that makes its data, which may take it into its epilogue.
    """
    laid = [t for t in operands if t.ndim]
    op = laid[0].node.op if laid else None
    if op not in (TRANSPOSE, RESHAPE) or any(t.node.op is not op for t in laid):
        return apply(*operands)
    sources = [t.node.inputs[0] if t.ndim else t for t in operands]
    first, before = laid[0], laid[0].node.inputs[0]
    if op is TRANSPOSE:
        axes = first.node.attrs["axes"]
        if all(t.node.attrs["axes"] == axes for t in laid):
            return transpose(behind_layout(apply, *sources), axes)
    elif all(same_shape(t.node.inputs[0].shape, before.shape) for t in laid):
        if all(same_shape(t.shape, first.shape) for t in laid):
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
    x = as_tensor(x)
    target = tuple(shape)
    if not same_shape(broadcast_shapes("broadcast_to", x.shape, target), target):
        raise ValueError(f"broadcast_to: {describe(x.shape)} does not broadcast to {describe(target)}")
    return x if same_shape(x.shape, target) else active_graph().add(BROADCAST, [x], shape=target).output


def sum_to(x: Tensor, shape: Shape) -> Tensor:
    """The transpose of broadcasting: sum x over the axes along which `shape` was stretched."""
    if same_shape(x.shape, shape):
        return x
    missing = x.ndim - len(shape)
    axes = [i for i in range(x.ndim) if i < missing or (is_one(shape[i - missing]) and not is_one(x.shape[i]))]
    return x.sum(tuple(axes)).reshape(shape)


def constant_value(tensor: Tensor) -> float | None:
    """The number that all elements of a tensor are known to be, else None."""
    node = tensor.node
    while node.op.name in ("reshape", "broadcast"):
        node = node.inputs[0].node
    if node.op is CONSTANT and node.attrs["value"].size == 1:
        return float(node.attrs["value"].reshape(()))
    return None


def to_nhwc(x: Tensor) -> Tensor:
    return transpose(x, (0, 2, 3, 1))


def to_nchw(x: Tensor) -> Tensor:
    return transpose(x, (0, 3, 1, 2))


def to_nwc(x: Tensor) -> Tensor:
    """Sequences (N, C, L) as images (N, 1, L, C)."""
    return reshape(transpose(x, (0, 2, 1)), (x.shape[0], 1, x.shape[2], x.shape[1]))


def from_nwc(x: Tensor) -> Tensor:
    """Images (N, 1, L, C) as sequences (N, C, L)."""
    return transpose(reshape(x, (x.shape[0], *x.shape[2:])), (0, 2, 1))
