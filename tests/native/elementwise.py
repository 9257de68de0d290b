"""The elementwise stem's native ops as functions."""

import numpy as np

from fastnn_ext.elementwise import BINARY, UNARY

from native import run_op

__all__ = ["BINARY", "UNARY", "binary", "cast", "copy", "fill", "unary", "where"]


def unary(kind, x, a=1.0, b=0.0, *, out=None):
    """y = f(x); a and b are read by affine and power."""
    out = np.empty_like(x) if out is None else out
    run_op("unary", y=out, x=x, n=x.size, kind=UNARY.index(kind), a=a, b=b)
    return out


def binary(kind, a, b, *, out=None):
    """y = f(a, b) with NumPy's broadcasting, of operands of any strides."""
    shape = np.broadcast_shapes(a.shape, b.shape)
    out = np.empty(shape, a.dtype) if out is None else out
    run_op(
        "binary", y=out, a=a, b=b, kind=BINARY.index(kind), ndim=len(shape), shape=shape,
        a_strides=strides(np.broadcast_to(a, shape)), b_strides=strides(np.broadcast_to(b, shape)),
    )  # fmt: skip
    return out


def where(c, a, b, *, out=None):
    """y = a where c is not 0, else b, with NumPy's broadcasting, of operands of any strides."""
    shape = np.broadcast_shapes(c.shape, a.shape, b.shape)
    out = np.empty(shape, a.dtype) if out is None else out
    c_strides, a_strides, b_strides = (strides(np.broadcast_to(x, shape)) for x in (c, a, b))
    run_op(
        "where", y=out, c=c, a=a, b=b, ndim=len(shape), shape=shape, c_strides=c_strides, a_strides=a_strides,
        b_strides=b_strides,
    )  # fmt: skip
    return out


def cast(x, dtype):
    """x in another dtype."""
    out = np.empty(x.shape, dtype)
    run_op("cast", y=out, x=x, n=x.size, source=[np.float32, np.float64, np.int64].index(x.dtype.type), dtype=out.dtype)
    return out


def copy(x, *, out=None):
    """out[...] = x[...], each of any strides; by default into a new C-contiguous array."""
    out = np.empty(x.shape, x.dtype) if out is None else out
    source = np.broadcast_to(x, out.shape)
    run_op("copy", y=out, x=x, ndim=out.ndim, shape=out.shape, y_strides=strides(out), x_strides=strides(source))
    return out


def fill(out, value):
    """out[...] = value."""
    run_op("fill", y=out, n=out.size, value=value)
    return out


def strides(array):
    """In elements."""
    return [stride // array.itemsize for stride in array.strides]
