"""The reduce stem's native ops as functions."""

import math

import numpy as np

from fastnn_ext.reduce import PIECES, REDUCE

from native import run_op

__all__ = ["PIECES", "REDUCE", "cumsum", "reduce"]


def reduce(kind, x, axis=None, *, out=None, pieces=1):
    """x without the axis, by default without any; of several pieces that many results stand in its place."""
    shape, axis = ((x.size,), 0) if axis is None else (x.shape, axis % x.ndim)
    result = (*shape[:axis], *([pieces] if pieces > 1 else []), *shape[axis + 1 :])
    out = np.empty(result, x.dtype) if out is None else out
    run_op(
        "reduce", y=out, x=x, kind=REDUCE.index(kind), outer=math.prod(shape[:axis]), length=shape[axis],
        inner=math.prod(shape[axis + 1 :]), pieces=pieces,
    )  # fmt: skip
    return out


def cumsum(x, axis, reverse=False, *, out=None):
    """The sums up to each element, or from it on."""
    shape, axis = x.shape, axis % x.ndim
    out = np.empty_like(x) if out is None else out
    run_op(
        "cumsum", y=out, x=x, outer=math.prod(shape[:axis]), length=shape[axis], inner=math.prod(shape[axis + 1 :]),
        reverse=int(reverse),
    )  # fmt: skip
    return out
