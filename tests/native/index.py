"""The index stem's native ops as functions."""

import math

import numpy as np

from native import run_op

__all__ = ["arg_extreme", "first_rows", "flat_index", "gather", "one_hot", "scatter_add", "top"]


def places(shape, index, axis):
    """Sizes and strides of the index, of one dimension or of y's."""
    outer, count, inner = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
    strides = (0, 1, 0) if index.ndim < len(shape) else (count * inner, inner, 1)
    names = ("outer", "count", "inner", "index_outer", "index_count", "index_inner")
    return dict(zip(names, (outer, count, inner, *strides), strict=True))


def gather(x, index, axis, *, out=None):
    """x at the labels `index`: (k,), or one for each element of y."""
    shape = (*x.shape[:axis], index.shape[axis if index.ndim == x.ndim > 1 else 0], *x.shape[axis + 1 :])
    out = np.empty(shape, x.dtype) if out is None else out
    run_op("gather", y=out, x=x, index=index, length=x.shape[axis], **places(shape, index, axis))
    return out


def scatter_add(dx, dy, index, axis, rows=None):
    """dx with dy added at the labels `index`, in place; at `rows`, the first of each, dy itself."""
    sizes = places(dy.shape, index, axis)
    run_op("scatter_add", dx=dx, dy=dy, index=index, rows=rows, length=dx.shape[axis], **sizes)
    return dx


def first_rows(index, length, *, out=None, mark=None):
    """The labels where they come first, and -1 where they come again."""
    out = np.empty(index.size, np.int64) if out is None else out
    mark = np.zeros(length, np.int64) if mark is None else mark
    run_op("first_rows", rows=out, mark=mark, index=index, n=index.size, length=length, dtype=np.float64)
    return out


def arg_extreme(kind, x, axis, *, out=None):
    """The label of the first largest or smallest."""
    shape = x.shape
    out = np.empty((*shape[:axis], *shape[axis + 1 :]), np.int64) if out is None else out
    run_op(
        "arg_extreme", y=out, x=x, outer=math.prod(shape[:axis]), length=shape[axis],
        inner=math.prod(shape[axis + 1 :]), kind=("max", "min").index(kind), dtype=x.dtype,
    )  # fmt: skip
    return out


def top(kind, x, count, axis, *, out=None):
    """The labels of the largest or smallest, in their order."""
    shape = x.shape
    out = np.empty((*shape[:axis], count, *shape[axis + 1 :]), np.int64) if out is None else out
    run_op(
        "top", y=out, x=x, outer=math.prod(shape[:axis]), length=shape[axis], inner=math.prod(shape[axis + 1 :]),
        count=count, kind=("max", "min").index(kind), dtype=x.dtype,
    )  # fmt: skip
    return out


def one_hot(index, classes, dtype):
    out = np.empty((*index.shape, classes), dtype)
    run_op("one_hot", y=out, index=index, n=index.size, classes=classes)
    return out


def flat_index(indices, strides):
    out = np.empty_like(indices[0])
    run_op("flat_index", y=out, indices=indices, n=out.size, strides=strides, count=len(strides), dtype=np.float64)
    return out
