"""Elements chosen by labels, put at labels, and one-hot rows; Einstein's sums."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn import _check
from fastnn.graph import Tensor
from fastnn.onnx.operator import Array, Call, Unknown, Value, Whole, axis_of, check_known, dense, operator
from fastnn.onnx.operators.shape import permuted
from fastnn.onnx.whole import held, late, numbers
from fastnn.ops import elementwise as ops
from fastnn.ops.einsum import einsum as summed
from fastnn.ops.index import gather as gathered
from fastnn.ops.index import getitem, index_select, topk
from fastnn.ops.layout import broadcast_to

#: How often an element may be written to by one ScatterElements or ScatterND.
MOST_WRITES = 64


def _labels(indices: Value) -> Any:
    """Labels as an array, or as a tensor that is looked up."""
    if isinstance(indices, np.ndarray):
        if indices.dtype.kind not in "iu":
            raise TypeError(f"its indices hold {indices.dtype}; expected integers")
        return indices
    if not isinstance(indices, Whole):
        raise TypeError(f"its indices hold {indices.dtype}; expected integers")
    if indices.tensor.dtype != np.int64:
        raise Unknown("indices that are computed with must be known")
    return indices.tensor


def _looked_up(call: Call, data: Value, indices: Value, look: Callable[[Any, Any], Any]) -> Value:
    """look(data, labels), of whatever values they are."""
    labels = _labels(indices)
    if isinstance(data, np.ndarray) and isinstance(labels, np.ndarray):
        return np.asarray(look(data, labels))
    if data.dtype.kind == "f":
        return look(call.tensor(data), labels)  # type: ignore[no-any-return]
    source = data.tensor if isinstance(data, Whole) else held(data)
    return Whole(look(source, labels), data.dtype, late(data, indices))


@operator("Gather", 1, raw="*")
def gather(call: Call, data: Value, indices: Value, *, axis: int = 0) -> Value:
    """Slices of data along a dimension, by labels of any shape."""
    d = axis_of(axis, len(data.shape))
    shape = (*data.shape[:d], *indices.shape, *data.shape[d + 1 :])

    def look(x: Any, labels: Any) -> Any:
        if isinstance(x, np.ndarray):
            check_known(shape)
            index = (*[slice(None)] * d, labels)
            return x[index]  # np.take would first copy all of what is repeated
        if isinstance(labels, np.ndarray) and labels.size == 1:  # a slice, which moves less
            label = int(labels.reshape(()))
            if not -x.shape[d] <= label < x.shape[d]:
                raise IndexError(f"index {label} is out of range for a size of {x.shape[d]}")
            label %= x.shape[d]
            return getitem(x, (*[slice(None)] * d, slice(label, label + 1))).reshape(shape)
        return index_select(x, d, labels.reshape(math.prod(labels.shape))).reshape(shape)

    return _looked_up(call, data, indices, look)


@operator("GatherElements", 11, raw="*")
def gather_elements(call: Call, data: Value, indices: Value, *, axis: int = 0) -> Value:
    """An element of data for each label."""
    d = axis_of(axis, len(data.shape))
    if len(indices.shape) != len(data.shape):
        raise ValueError(f"indices of shape {tuple(indices.shape)} for data of shape {tuple(data.shape)}")

    def look(x: Any, labels: Any) -> Any:
        if isinstance(x, np.ndarray):
            check_known(labels.shape)
            part = x[tuple(slice(None) if i == d else slice(0, n) for i, n in enumerate(labels.shape))]
            return np.take_along_axis(part, labels, d)
        return gathered(x, d, labels)

    return _looked_up(call, data, indices, look)


@operator("GatherND", 11, raw="*")
def gather_nd(call: Call, data: Value, indices: Value, *, batch_dims: int = 0) -> Value:
    """Parts of data, each by a row of labels for its first dimensions."""
    width = indices.shape[-1] if len(indices.shape) else 0
    if not 0 <= batch_dims < len(indices.shape) or not 0 < width <= len(data.shape) - batch_dims:
        raise ValueError(f"indices of shape {tuple(indices.shape)} for data of shape {tuple(data.shape)}")
    if tuple(data.shape[:batch_dims]) != tuple(indices.shape[:batch_dims]):
        raise ValueError(f"batches {tuple(indices.shape[:batch_dims])} of {tuple(data.shape[:batch_dims])}")

    def look(x: Any, labels: Any) -> Any:
        rows = labels.shape[batch_dims:-1]
        places = [
            np.arange(n).reshape([n if i == k else 1 for i in range(batch_dims)] + [1] * len(rows))
            for k, n in enumerate(x.shape[:batch_dims])
        ]
        parts = [labels[..., k] for k in range(width)]
        if isinstance(x, np.ndarray):
            check_known([*labels.shape[:-1], *x.shape[batch_dims + width :]])
            return x[tuple(places + parts)]
        return getitem(x, tuple(places + parts))

    return _looked_up(call, data, indices, look)


@operator("ScatterElements", 11, raw="data updates", known="indices")
@operator("Scatter", 9, raw="data updates", known="indices")
def scatter_elements(
    call: Call, data: Value, indices: Array, updates: Value, *, axis: int = 0, reduction: str = "none"
) -> Value:
    """data with updates at labels along a dimension."""
    d = axis_of(axis, len(data.shape))
    if indices.ndim != len(data.shape) or indices.shape != tuple(updates.shape):
        shapes = f"{indices.shape} and {tuple(updates.shape)} for data of shape {tuple(data.shape)}"
        raise ValueError(f"indices and updates of shapes {shapes}")
    if any(n > size for i, (n, size) in enumerate(zip(indices.shape, data.shape, strict=True)) if i != d):
        raise ValueError(f"indices of shape {indices.shape} for data of shape {tuple(data.shape)}")
    check_known(indices.shape)
    places = [
        np.arange(n).reshape([n if i == k else 1 for i in range(indices.ndim)]) for k, n in enumerate(indices.shape)
    ]
    places[d] = _in_range(indices, data.shape[d])
    targets = np.ravel_multi_index(np.broadcast_arrays(*places), tuple(data.shape))
    return _scattered(call, data, targets.ravel(), updates, reduction)


@operator("ScatterND", 11, raw="data updates", known="indices")
def scatter_nd(call: Call, data: Value, indices: Array, updates: Value, *, reduction: str = "none") -> Value:
    """data with updates, each at a row of labels for its first dimensions."""
    width = indices.shape[-1] if indices.ndim else 0
    if not 0 < width <= len(data.shape) or (*indices.shape[:-1], *data.shape[width:]) != tuple(updates.shape):
        shapes = f"{indices.shape} and {tuple(updates.shape)} for data of shape {tuple(data.shape)}"
        raise ValueError(f"indices and updates of shapes {shapes}")
    check_known(updates.shape)
    labels = [_in_range(indices[..., k], data.shape[k]) for k in range(width)]
    rows = np.ravel_multi_index(labels, tuple(data.shape[:width])).ravel()
    rest = math.prod(data.shape[width:])
    return _scattered(call, data, (rows[:, None] * rest + np.arange(rest)).ravel(), updates, reduction)


def _in_range(labels: Array, size: int) -> Array:
    if labels.size and not -size <= labels.min() <= labels.max() < size:
        raise IndexError(f"indices from {labels.min()} to {labels.max()} for a size of {size}")
    return np.where(labels < 0, labels + size, labels)


def _scattered(call: Call, data: Value, targets: Array, updates: Value, reduction: str) -> Value:
    """data with the updates' elements at flat places, one round for each further one at a place."""
    combine: dict[str, tuple[Any, Any]] = {
        "none": (lambda old, new: new, lambda old, new: new),
        "add": (np.add, lambda old, new: old + new),
        "mul": (np.multiply, lambda old, new: old * new),
        "max": (np.maximum, ops.maximum),
        "min": (np.minimum, ops.minimum),
    }
    if reduction not in combine:
        raise ValueError(f"reduction {_check.brief(reduction)} is not read")
    of_arrays, of_tensors = combine[reduction]
    shape, size = tuple(data.shape), math.prod(data.shape)
    check_known((size,))
    if not targets.size:
        return data
    rounds = _rounds(targets, last=reduction == "none")
    if isinstance(data, np.ndarray) and isinstance(updates, np.ndarray):
        flat = np.array(data).ravel()
        for chosen in rounds:
            flat[targets[chosen]] = of_arrays(flat[targets[chosen]], updates.ravel()[chosen])
        return flat.reshape(shape)
    if data.dtype.kind != "f":
        raise Unknown("the integers that it puts together must be known")
    if len(rounds) > MOST_WRITES:
        raise ValueError(f"an element is written to {len(rounds)} times; at most {MOST_WRITES} are supported")
    old, new = call.tensor(data).reshape(size), call.tensor(updates).reshape(targets.size)
    for chosen in rounds:
        source, hit = np.zeros(size, np.int64), np.zeros(size, old.dtype)
        source[targets[chosen]], hit[targets[chosen]] = chosen, 1
        old = ops.where(call.tensor(hit), of_tensors(old, index_select(new, 0, source)), old)
    return old.reshape(shape)


def _rounds(targets: Array, last: bool) -> list[Array]:
    """Which updates are made together: those of one round are at places of their own. The last ones alone, or all."""
    order = np.argsort(targets, kind="stable")
    ordered = targets[order]
    begins = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    counts = np.diff(np.r_[begins, ordered.size])
    if last:
        return [order[begins + counts - 1]]
    rank = np.arange(ordered.size) - np.repeat(begins, counts)
    return [order[rank == k] for k in range(int(counts.max()))]


@operator("OneHot", 9, raw="indices values", known="depth")
def one_hot(call: Call, indices: Value, depth: Array, values: Value, *, axis: int = -1) -> Value:
    """Rows of one number but for another one at a label; at a label that is out of range there is none."""
    n = _check.size("depth", int(depth.reshape(())), 1)
    d = axis_of(axis, len(indices.shape) + 1)
    order = [*range(d), len(indices.shape), *range(d, len(indices.shape))]
    if tuple(values.shape) != (2,):
        raise ValueError(f"values of shape {tuple(values.shape)}; expected two numbers")
    if isinstance(indices, np.ndarray) and isinstance(values, np.ndarray):
        check_known((*indices.shape, n))
        hit = np.mod(indices[..., None], n) == np.arange(n)
        hit &= (indices[..., None] >= -n) & (indices[..., None] < n)
        rows: Array = np.where(hit, values[1], values[0]).transpose(order)
        return rows
    given = held(indices) if not isinstance(indices, Tensor) else indices.double()
    label = given.reshape(*indices.shape, 1)
    places = np.arange(n, dtype=np.float64)
    hit = ops.logical_or(ops.equal(label, places), ops.equal(label, places - n))
    if values.dtype.kind == "f":
        pair = call.tensor(values)
        return permuted(ops.where(hit, pair[1], pair[0]), order)
    pair = held(values)
    return permuted(Whole(ops.where(hit, pair[1], pair[0]), values.dtype, late(indices)), order)


@operator("TopK", 1, raw="x")
def top_by_attribute(call: Call, x: Value, *, axis: int = -1, k: int) -> tuple[Value, Value]:
    """The k largest along a dimension, and their places."""
    return _top(call, x, k, axis, True)


@operator("TopK", 10, raw="x", known="k")
def top(call: Call, x: Value, k: Array, *, axis: int = -1, largest: int = 1, sorted: int = 1) -> tuple[Value, Value]:
    """The k largest or smallest along a dimension, and their places."""
    if k.size != 1:
        raise ValueError(f"k has shape {k.shape}; expected a number")
    return _top(call, x, int(k.reshape(())), axis, bool(largest))


def _top(call: Call, x: Value, k: int, axis: int, largest: bool) -> tuple[Value, Value]:
    d = axis_of(axis, len(x.shape))
    if not 0 < k <= x.shape[d]:
        raise ValueError(f"k is {k}, for a dimension of {x.shape[d]}")
    if isinstance(x, np.ndarray):
        dense(x)
        # Of equal ones the first: backwards, the order of equal ones is turned twice.
        order = np.flip(np.argsort(np.flip(x, d), d, kind="stable"), d) if largest else np.argsort(x, d, kind="stable")
        places = np.take(x.shape[d] - 1 - order if largest else order, range(k), d)
        return np.take_along_axis(x, places, d), places.astype(np.int64)
    values, labels = topk(call.tensor(x) if x.dtype.kind == "f" else numbers(x)[0], k, d, largest)
    indices = Whole(labels, np.int64, late=True)
    return (values if x.dtype.kind == "f" else Whole(values, x.dtype, late=True)), indices


@operator("Einsum", 12)
def einsum(call: Call, first: Tensor, *more: Tensor, equation: str) -> Tensor:
    """Products summed over the letters that the result lacks; `...` are dimensions that broadcast."""
    operands = [first, *more]
    text = equation.replace(" ", "")
    if "..." not in text:
        return summed(text, *operands)
    left, arrow, result = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(operands):
        raise ValueError(
            f"equation {_check.brief(equation)} names {len(terms)} operands, and there are {len(operands)}"
        )
    free = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" if c not in text]
    wide = [x.ndim - len(t.replace("...", "")) if "..." in t else 0 for t, x in zip(terms, operands, strict=True)]
    if min(wide) < 0 or max(wide) > len(free):
        raise ValueError(f"equation {_check.brief(equation)} does not fit its operands")
    letters = "".join(free[: max(wide)])
    shapes = [x.shape[t.find("...") : t.find("...") + k] for t, x, k in zip(terms, operands, wide, strict=True)]
    common = np.broadcast_shapes(*(tuple(s) for s in shapes))
    for i, (term, x, k) in enumerate(zip(terms, operands, wide, strict=True)):
        at = term.find("...")
        if at >= 0:
            shape = (*x.shape[:at], *common[len(common) - k :], *x.shape[at + k :])
            operands[i] = broadcast_to(x, shape)
            terms[i] = term.replace("...", letters[len(letters) - k :])
    if not arrow:
        once = sorted(c for c in set("".join(terms)) - set(letters) if "".join(terms).count(c) == 1)
        result = "..." + "".join(once)
    return summed(f"{','.join(terms)}->{result.replace('...', letters)}", *operands)
