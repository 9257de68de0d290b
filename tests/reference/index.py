"""NumPy twins of fastnn_ext.index."""

import numpy as np


def gather(x, index, axis):
    return np.take_along_axis(x, index, axis) if index.ndim == x.ndim > 1 else np.take(x, index, axis)


def scatter_add(dx, dy, index, axis):
    """In float64, in the order of the labels."""
    dx = np.moveaxis(dx.astype(np.float64), axis, 0).copy()
    dy = np.moveaxis(dy.astype(np.float64), axis, 0)
    if index.ndim == dy.ndim > 1:
        others = np.indices(dy.shape)[1:]
        np.add.at(dx, (np.moveaxis(index, axis, 0), *others), dy)
    else:
        np.add.at(dx, index, dy)
    return np.moveaxis(dx, 0, axis)


def top(kind, x, count, axis):
    """By a stable sort, from the first of the largest, or of the smallest; NaN is larger than all."""
    x = np.moveaxis(x, axis, -1)
    order = np.argsort(x, -1, kind="stable")
    if kind == "max":
        order = x.shape[-1] - 1 - np.argsort(x[..., ::-1], -1, kind="stable")[..., ::-1]
    return np.moveaxis(order[..., :count], -1, axis)


def arg_extreme(kind, x, axis):
    return {"max": np.argmax, "min": np.argmin}[kind](x, axis)


def one_hot(index, classes):
    return (index[..., None] == np.arange(classes)).astype(np.float64)


def first_rows(index, length):
    rows, first = np.full(index.size, -1), np.unique(index, return_index=True)[1]
    rows[first] = index[first]
    return np.where((rows >= 0) & (rows < length), rows, -1)
