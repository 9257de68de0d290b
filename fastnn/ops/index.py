"""Elements chosen by labels, one-hot rows, and the places of the largest and the smallest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import fastnn_ext.index as native
from fastnn import _check
from fastnn.graph import (
    CONSTANT,
    INPUT,
    MEMORY,
    Arguments,
    Emitter,
    Node,
    Op,
    OutputTypes,
    Tensor,
    TensorMethods,
    active_graph,
    as_tensor,
)
from fastnn.ops.arguments import check_float, normalize_dim
from fastnn.ops.elementwise import is_mask, maximum, minimum
from fastnn.ops.layout import broadcast_to, reshape, transpose
from fastnn.ops.reduce import reduce
from fastnn.ops.shape import basic_getitem, slice_to
from fastnn.sizes import Shape, count, describe, strides_of

_INT64 = np.dtype(np.int64)


class Gather(Op):
    """inputs: x, index. attrs: dim; full: whether each element has a label of its own, or each row along dim; sparse:
    whether an update may visit the rows of x that are chosen alone (dim is 0, and each row has a label)."""

    name = "gather"

    def infer(self, node: Node) -> OutputTypes:
        x, index = node.inputs
        d = node.attrs["dim"]
        size = index.shape[d] if node.attrs["full"] else index.shape[0]
        return [((*x.shape[:d], size, *x.shape[d + 1 :]), x.dtype)]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        (dy,), (x, index), d = grads, node.inputs, node.attrs["dim"]
        assert dy is not None
        settings = dict(dim=d, full=node.attrs["full"], length=x.shape[d], sparse=node.attrs["sparse"])
        return [active_graph().add(SCATTER_ADD, [dy, index], **settings).output, None]

    def lower(self, node: Node, to: Emitter) -> None:
        (x, index), d = node.inputs, node.attrs["dim"]
        sizes = _sizes(node.output.shape, d, x.shape[d], node.attrs["full"])
        to.emit("gather", y=node.output, x=x, index=index, **sizes)


class ScatterAdd(Op):
    """The gradient of Gather. inputs: dy, index. attrs: dim, full, sparse; length: the size of dim."""

    name = "scatter_add"
    sized = ("length",)

    def infer(self, node: Node) -> OutputTypes:
        dy, d = node.inputs[0], node.attrs["dim"]
        return [((*dy.shape[:d], node.attrs["length"], *dy.shape[d + 1 :]), dy.dtype)]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        assert grads[0] is not None
        settings = dict(dim=node.attrs["dim"], full=node.attrs["full"], sparse=False)
        return [active_graph().add(GATHER, [grads[0], node.inputs[1]], **settings).output, None]

    def lower(self, node: Node, to: Emitter) -> None:
        (dy, index), dx = node.inputs, node.output
        sizes = _sizes(dy.shape, node.attrs["dim"], node.attrs["length"], node.attrs["full"])
        to.emit("fill", y=dx, n=count(dx.shape), value=0.0)
        to.emit("scatter_add", dx=dx, dy=dy, index=index, **sizes, flops=count(dy.shape))


class ScatterRows(Op):
    """The gradient of the rows that labels name; the others hold anything. inputs: dy, index. attrs: length.
    outputs: dx, and the rows, each once, with -1 in between."""

    name = "scatter_rows"
    sized = ("length",)

    def infer(self, node: Node) -> OutputTypes:
        dy, index = node.inputs
        return [((node.attrs["length"], *dy.shape[1:]), dy.dtype), (index.shape, _INT64)]

    def lower(self, node: Node, to: Emitter) -> None:
        (dy, index), (dx, rows), length = node.inputs, node.outputs, node.attrs["length"]
        mark = to.temporary((length,), _INT64)
        n = count(index.shape)
        to.emit("first_rows", rows=rows, mark=mark, index=index, n=n, length=length, dtype=np.dtype(np.float64))
        sizes = _sizes(dy.shape, 0, length, False)
        to.emit("scatter_add", dx=dx, dy=dy, index=index, rows=rows, **sizes, flops=count(dy.shape))


class ArgExtreme(Op):
    """The label of the first largest, or smallest. attrs: dim, kind."""

    name = "arg_extreme"

    def infer(self, node: Node) -> OutputTypes:
        x, d = node.inputs[0], node.attrs["dim"]
        return [((*x.shape[:d], *x.shape[d + 1 :]), _INT64)]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        return [None]

    def lower(self, node: Node, to: Emitter) -> None:
        x, d = node.inputs[0], node.attrs["dim"]
        sizes: Arguments = dict(outer=count(x.shape[:d]), length=x.shape[d], inner=count(x.shape[d + 1 :]))
        to.emit(
            "arg_extreme", y=node.output, x=x, **sizes, kind=("max", "min").index(node.attrs["kind"]), dtype=x.dtype
        )


class Top(Op):
    """The labels of the largest, or smallest, in their order. attrs: dim, kind, count."""

    name = "top"

    def infer(self, node: Node) -> OutputTypes:
        x, d = node.inputs[0], node.attrs["dim"]
        return [((*x.shape[:d], node.attrs["count"], *x.shape[d + 1 :]), _INT64)]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        return [None]

    def lower(self, node: Node, to: Emitter) -> None:
        x, d = node.inputs[0], node.attrs["dim"]
        sizes: Arguments = dict(outer=count(x.shape[:d]), length=x.shape[d], inner=count(x.shape[d + 1 :]))
        kind = ("max", "min").index(node.attrs["kind"])
        to.emit("top", y=node.output, x=x, **sizes, count=node.attrs["count"], kind=kind, dtype=x.dtype)


class OneHot(Op):
    """attrs: classes, dtype."""

    name = "one_hot"

    def infer(self, node: Node) -> OutputTypes:
        return [((*node.inputs[0].shape, node.attrs["classes"]), np.dtype(np.float32))]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        return [None]

    def lower(self, node: Node, to: Emitter) -> None:
        index = node.inputs[0]
        to.emit("one_hot", y=node.output, index=index, n=count(index.shape), classes=node.attrs["classes"])


class FlatIndex(Op):
    """Labels of several dimensions, all of one shape, as one of these dimensions together. attrs: strides."""

    name = "flat_index"
    sized = ("strides",)

    def infer(self, node: Node) -> OutputTypes:
        return [(node.inputs[0].shape, _INT64)]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        return [None] * len(node.inputs)

    def lower(self, node: Node, to: Emitter) -> None:
        n, strides = count(node.output.shape), node.attrs["strides"]
        settings: Arguments = dict(n=n, strides=strides, count=len(strides), dtype=np.dtype(np.float64))
        to.emit("flat_index", y=node.output, indices=node.inputs, **settings)


GATHER = Gather()
SCATTER_ADD = ScatterAdd()
SCATTER_ROWS = ScatterRows()
ARG_EXTREME = ArgExtreme()
ONE_HOT = OneHot()
TOP = Top()
FLAT_INDEX = FlatIndex()


def _sizes(shape: Shape, d: int, length: int, full: bool) -> Arguments:
    """Of the native ops, for y or dy of `shape`."""
    outer, size, inner = count(shape[:d]), shape[d], count(shape[d + 1 :])
    strides = (count((size, inner)), inner, 1) if full else (0, 1, 0)
    names = ("outer", "length", "inner", "count", "index_outer", "index_count", "index_inner")
    return dict(zip(names, (outer, length, inner, size, *strides), strict=True))


# ---- labels ----


def labels(what: str, value: Any, size: int) -> Tensor:
    """Labels in 0 ... size - 1 as a tensor: those of an argument, which the plan then checks before it runs; or
    constant ones, of which negative ones count from the end."""
    if isinstance(value, TensorMethods):
        tensor = as_tensor(value)
        if tensor.dtype != _INT64:
            hint = (
                "how many elements a mask leaves is not known before it runs: write fn.where(mask, x, 0) or x * mask"
                if is_mask(tensor)
                else "convert it with .astype(np.int64) before the call"
            )
            raise TypeError(f"{what}: an index holds labels, int64, got {tensor.dtype}; {hint}")
        _bound(what, tensor, size)
        return tensor
    array = np.asarray(value)
    if array.size == 0:
        raise ValueError(f"{what}: the index is empty")
    if array.dtype.kind not in "iu":
        raise TypeError(f"{what}: an index holds whole numbers, got {array.dtype}")
    low, high = int(array.min()), int(array.max())
    if low < -size or high >= size:
        raise IndexError(f"{what}: index {low if low < -size else high} is out of range for a size of {size}")
    return active_graph().add(CONSTANT, (), value=np.where(array < 0, array + size, array).astype(np.int64)).output


def _bound(what: str, tensor: Tensor, size: int) -> None:
    """See that labels lie in 0 ... size - 1: those of an argument are checked by the plan."""
    node = tensor.node
    while node.op.view_of is not None or node.op.name in ("transpose", "slice", "broadcast", "gather", "concat"):
        for other in node.inputs[1:] if node.op.name == "concat" else ():
            _bound(what, other, size)
        node = node.inputs[0].node
    if node.op is INPUT:
        node.attrs["limit"] = min(size, node.attrs["limit"] or size)
        node.attrs["ignore"] = 0  # a label like others: none is passed over
        return
    if node.op in (ARG_EXTREME, TOP):
        known = node.inputs[0].shape[node.attrs["dim"]]
    elif node.op in (MEMORY, CONSTANT):
        array = node.attrs["array" if node.op is MEMORY else "value"]
        known = int(array.max()) + 1 if array.min() >= 0 else math.inf
    else:
        known = math.inf
    if known > size:
        raise IndexError(f"{what}: labels from {node.op.name} may be out of range for a size of {size}")


# ---- what users call ----


def index_select(x: Any, dim: int, index: Any) -> Tensor:
    """The slices of x along a dimension that a list of labels names, in its order.

    Parameters
    ----------
    x : tensor
    dim : int
    index : (k,) of int64
        Labels 0 ... size - 1: an argument of the traced function, or an array or list of ints.
    """
    x = as_tensor(x)
    d = normalize_dim(dim, x.ndim, "index_select")
    chosen = labels("index_select", index, x.shape[d])
    if chosen.ndim != 1:
        raise ValueError(f"index_select: index has shape {describe(chosen.shape)}; expected one dimension")
    return _select(x, d, chosen)


def _select(x: Tensor, d: int, index: Tensor, sparse: bool = False) -> Tensor:
    return active_graph().add(GATHER, [x, index], dim=d, full=False, sparse=sparse).output


def sparse_rows(grad: Tensor) -> tuple[Tensor, Tensor] | None:
    """A sparse gradient as it is in the rows that it touches, and which these are; None if it touches all."""
    node = grad.node
    if node.op is not SCATTER_ADD or not node.attrs["sparse"]:
        return None
    dx, rows = active_graph().add(SCATTER_ROWS, node.inputs, length=node.attrs["length"]).outputs
    return dx, rows


def gather(x: Any, dim: int, index: Any) -> Tensor:
    """One element of x for each of index: y[i][j] = x[index[i][j]][j] for dim=0, x[i][index[i][j]] for dim=1.

    Parameters
    ----------
    x : tensor
    dim : int
    index : tensor or array of int64
        Of as many dimensions as x, and in those but `dim` at most as large.
    """
    x = as_tensor(x)
    d = normalize_dim(dim, x.ndim, "gather")
    chosen = labels("gather", index, x.shape[d])
    if chosen.ndim != x.ndim or any(i != d and n > x.shape[i] for i, n in enumerate(chosen.shape)):
        raise ValueError(
            f"gather: index has shape {describe(chosen.shape)}; for dim {d} of {describe(x.shape)} it must have as "
            "many dimensions, and no other larger one"
        )
    sizes = tuple(x.shape[i] if i == d else n for i, n in enumerate(chosen.shape))
    return active_graph().add(GATHER, [slice_to(x, sizes), chosen], dim=d, full=True, sparse=False).output


def rows_of(table: Tensor, index: Tensor, sparse: bool) -> Tensor:
    """The rows of a table that labels of any shape name."""
    y = _select(table, 0, reshape(index, (count(index.shape),)), sparse)
    return reshape(y, (*index.shape, *table.shape[1:]))


def take(x: Any, index: Any) -> Tensor:
    """Elements of x by their places in x.flatten(), in the shape of index."""
    x = as_tensor(x)
    chosen = labels("take", index, count(x.shape))
    return reshape(_select(reshape(x, (count(x.shape),)), 0, reshape(chosen, (count(chosen.shape),))), chosen.shape)


def one_hot(index: Any, num_classes: int) -> Tensor:
    """See fastnn.nn.functional.one_hot."""
    chosen = labels("one_hot", index, num_classes)
    return active_graph().add(ONE_HOT, [chosen], classes=num_classes).output


class Extreme(NamedTuple):
    """What max and min give along a dimension."""

    values: Tensor
    indices: Tensor


def _arg(x: Any, kind: str, dim: int | None, keepdim: bool) -> Tensor:
    x = as_tensor(x)
    check_float(f"arg{kind}", x)
    if dim is None:
        y = _arg(reshape(x, (count(x.shape),)), kind, 0, False)
        return reshape(y, (1,) * x.ndim) if keepdim else y
    d = normalize_dim(dim, x.ndim, f"arg{kind}")
    y = active_graph().add(ARG_EXTREME, [x], dim=d, kind=kind).output
    return reshape(y, (*x.shape[:d], 1, *x.shape[d + 1 :])) if keepdim else y


def argmax(x: Any, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The label, int64, of the first largest value or NaN along a dimension, or in x.flatten()."""
    return _arg(x, "max", dim, keepdim)


def argmin(x: Any, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The label, int64, of the first smallest value or NaN along a dimension, or in x.flatten()."""
    return _arg(x, "min", dim, keepdim)


def _extreme(x: Any, kind: str, dim: Any, keepdim: bool) -> Any:
    x = as_tensor(x)
    if dim is None:
        return reduce(x, kind, None, keepdim)
    if isinstance(dim, (TensorMethods, np.ndarray)):
        return (maximum if kind == "max" else minimum)(x, dim)
    d = normalize_dim(dim, x.ndim, kind)
    indices = _arg(x, kind, d, True)
    values = active_graph().add(GATHER, [x, indices], dim=d, full=True, sparse=False).output
    if keepdim:
        return Extreme(values, indices)
    kept = (*x.shape[:d], *x.shape[d + 1 :])
    return Extreme(reshape(values, kept), reshape(indices, kept))


def largest(x: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """The largest value; along a dimension (values, indices), of which the first largest gets the gradient.

    Given another tensor in place of dim, their maximum.
    """
    return _extreme(x, "max", dim, keepdim)


def smallest(x: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """The smallest value; along a dimension (values, indices), of which the first smallest gets the gradient.

    Given another tensor in place of dim, their minimum.
    """
    return _extreme(x, "min", dim, keepdim)


def topk(x: Any, k: int, dim: int = -1, largest: bool = True) -> Extreme:
    """The k largest values, or the smallest, along a dimension, and their places: (values, indices), in their order.

    Of equal values the one that comes first is first; NaN is larger than all. The values chosen get the gradient.
    """
    x = as_tensor(x)
    check_float("topk", x)
    d = normalize_dim(dim, x.ndim, "topk")
    size = x.shape[d]
    k, largest = _check.integer("topk: k", k, 1), _check.flag("topk: largest", largest)
    if k > size:
        raise ValueError(f"topk: k is {k}, and dimension {d} has {size}")
    indices = active_graph().add(TOP, [x], dim=d, kind="max" if largest else "min", count=k).output
    return Extreme(active_graph().add(GATHER, [x, indices], dim=d, full=True, sparse=False).output, indices)


# ---- indexing ----


def getitem(x: Any, index: Any) -> Tensor:
    """Indexing as NumPy's: by ints, slices, `...`, None, and arrays or tensors of labels, or arrays of bools."""
    x = as_tensor(x)
    items = [_array(item) for item in (index if isinstance(index, tuple) else (index,))]
    if not any(_is_advanced(item) or _runs_backwards(item) for item in items):
        return basic_getitem(x, tuple(items))
    items = _spelled_out(items, x)
    y = basic_getitem(x, tuple(slice(None) if _is_label(i) or _runs_backwards(i) else i for i in items))
    axes = [i for i, item in enumerate(items) if _is_label(item)]
    for i, item in enumerate(items):
        if _runs_backwards(item):
            y = index_select(y, i, np.arange(*item.indices(y.shape[i])))
    if not any(_is_advanced(items[i]) for i in axes):  # ints alone, beside a slice that runs backwards
        return basic_getitem(y, tuple(items[i] if i in axes else slice(None) for i in range(len(items))))
    return _by_labels(y, axes, [items[i] for i in axes])


def _array(item: Any) -> Any:
    """A list as an array, and an array of bools as a mask."""
    if isinstance(item, list):
        item = np.asarray(item)
    if isinstance(item, np.ndarray) and item.dtype == bool and item.ndim:
        return _Mask(item)
    return item


class _Mask:
    """An array of bools in an index."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array


def _is_advanced(item: Any) -> bool:
    return isinstance(item, (TensorMethods, np.ndarray, _Mask))


def _is_label(item: Any) -> bool:
    return _is_advanced(item) or isinstance(item, (int, np.integer))


def _runs_backwards(item: Any) -> bool:
    return isinstance(item, slice) and item.step is not None and item.step < 0


def _spelled_out(items: Sequence[Any], x: Tensor) -> list[Any]:
    """An index with an item for each dimension of its result before labels are looked up."""
    named = sum(item.array.ndim if isinstance(item, _Mask) else item is not None and item is not ... for item in items)
    if sum(item is ... for item in items) > 1:
        raise IndexError("an index can hold only one ...")
    if named > x.ndim:
        raise IndexError(f"{named} indices for a tensor of shape {describe(x.shape)}")
    rest = [slice(None)] * (x.ndim - named)
    items = [*items] if any(item is ... for item in items) else [*items, ...]
    result: list[Any] = []
    axis = 0
    for item in items:
        if item is ...:
            result += rest
            axis += len(rest)
        elif isinstance(item, _Mask):
            shape = tuple(x.shape[axis : axis + item.array.ndim])
            if item.array.shape != shape:
                raise IndexError(f"indexing: a mask of shape {item.array.shape} for dimensions of sizes {shape}")
            result += np.nonzero(item.array)
            axis += item.array.ndim
        else:
            result.append(item)
            axis += item is not None
    return result


def _by_labels(y: Tensor, axes: list[int], items: list[Any]) -> Tensor:
    """y with the dimensions `axes` looked up at labels, which broadcast."""
    sizes = [y.shape[a] for a in axes]
    chosen = [labels("indexing", item, size) for item, size in zip(items, sizes, strict=True)]
    shape = np.broadcast_shapes(*(tuple(t.shape) for t in chosen))
    adjoining = axes == list(range(axes[0], axes[0] + len(axes)))
    at = axes[0] if adjoining else 0
    others = [i for i in range(y.ndim) if i not in axes]
    y = transpose(y, (*others[:at], *axes, *others[at:]))
    flat = reshape(y, (*y.shape[:at], count(sizes), *y.shape[at + len(axes) :]))
    rows = _flat_labels([broadcast_to(t, shape) for t in chosen], strides_of(tuple(sizes)))
    selected = _select(flat, at, reshape(rows, (count(shape),)))
    return reshape(selected, (*flat.shape[:at], *shape, *flat.shape[at + 1 :]))


def _flat_labels(chosen: list[Tensor], strides: list[int]) -> Tensor:
    if len(chosen) == 1:
        return chosen[0]
    if len(chosen) > native.MAX_INDICES:
        raise ValueError(f"indexing: labels for {len(chosen)} dimensions; at most {native.MAX_INDICES} are supported")
    return active_graph().add(FLAT_INDEX, chosen, strides=tuple(strides)).output
