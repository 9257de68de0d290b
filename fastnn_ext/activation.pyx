"""Activations and their gradients: y = f(x), dx = dy * f'(x), over contiguous arrays of any shape.

Native ops
----------
activation            buf: y, x           dim: n, kind   scalar: alpha
activation_backward   buf: dx, dy, saved  dim: n, kind   scalar: alpha

`kind` is an index in ACTIVATIONS. `alpha` is the negative slope of leaky_relu and the scale of elu; no
other kind reads it. y may be x, and dx may be dy or saved. `saved` is the output y or the input x of
the forward op, as SAVES says; but for leaky_relu and elu with alpha <= 0, whose output does not show the
sign of x, it is the input.
"""
import math

from libc.stdint cimport int64_t
from libc.string cimport memset

from fastnn_ext cimport runtime
from fastnn_ext.arrays cimport check, check_real, data
from fastnn_ext.runtime cimport fnn_op

import numpy as np


cdef extern from "simd/activation.h" nogil:
    enum: ACT_COUNT
    struct activation_kernels:
        act_forward forward[ACT_COUNT]
        act_backward backward[ACT_COUNT]
    const activation_kernels *activation_table(int isa, int dtype)


ACTIVATIONS = ("relu", "leaky_relu", "elu", "sigmoid", "tanh", "gelu", "silu")
# What a kind's gradient is taken from (where alpha > 0).
SAVES = {
    "relu": "output",
    "leaky_relu": "output",
    "elu": "output",
    "sigmoid": "output",
    "tanh": "output",
    "gelu": "input",
    "silu": "input",
}
ALPHA = {"leaky_relu": 0.01, "elu": 1.0}  # PyTorch's defaults

# Places in fnn_op.dim; CHUNK is set by prepare.
cdef enum: N, KIND, CHUNK
cdef enum: CHUNK_NS = 10000

# Nanoseconds for a byte read or written, and for a float32's arithmetic on AVX2, by kind.
cdef double BYTE_NS = 0.04
cdef double[7] FORWARD_NS = [0, 0, 0.4, 0.6, 0.6, 0.8, 0.6]
cdef double[7] BACKWARD_NS = [0, 0, 0, 0, 0, 1.4, 0.8]
cdef double[3] ISA_FACTOR = [3.0, 1.0, 0.6]


cdef act_forward forward_kernel(int kind, int isa, int dtype) noexcept nogil:
    return NULL if kind < 0 else activation_table(isa, dtype).forward[kind]


cdef act_backward backward_kernel(int kind, int isa, int dtype) noexcept nogil:
    return NULL if kind < 0 else activation_table(isa, dtype).backward[kind]


cdef void cut(fnn_op *op, int arrays, double ns) noexcept nogil:
    """Chunks of CHUNK_NS or so, whole vectors and cache lines on every ISA."""
    ns *= ISA_FACTOR[op.isa] * (1 if op.dtype == 0 else 3)
    ns += arrays * BYTE_NS * (4 if op.dtype == 0 else 8)
    op.kernels = activation_table(op.isa, op.dtype)
    op.dim[CHUNK] = max(<int64_t> 1, <int64_t> (CHUNK_NS / ns) // 1024) * 1024
    op.chunks = (op.dim[N] + op.dim[CHUNK] - 1) // op.dim[CHUNK]
    op.cost = ns * op.dim[N]


cdef void prepare_forward(fnn_op *op) noexcept nogil:
    cut(op, 2, FORWARD_NS[op.dim[KIND]])


cdef void prepare_backward(fnn_op *op) noexcept nogil:
    cut(op, 3, BACKWARD_NS[op.dim[KIND]])


cdef int run_forward(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t begin = chunk * op.dim[CHUNK], n = min(op.dim[CHUNK], op.dim[N] - begin)
    cdef int64_t offset = begin * (4 if op.dtype == 0 else 8)
    (<const activation_kernels *> op.kernels).forward[op.dim[KIND]](
        <char *> op.buf[0] + offset, <char *> op.buf[1] + offset, n, op.scalar[0])
    return 0


cdef int run_backward(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t begin = chunk * op.dim[CHUNK], n = min(op.dim[CHUNK], op.dim[N] - begin)
    cdef int64_t offset = begin * (4 if op.dtype == 0 else 8)
    (<const activation_kernels *> op.kernels).backward[op.dim[KIND]](
        <char *> op.buf[0] + offset, <char *> op.buf[1] + offset, <char *> op.buf[2] + offset, n, op.scalar[0])
    return 0


runtime.register_op("activation", run_forward, prepare_forward, "y", "*x", "n kind", "alpha")
runtime.register_op("activation_backward", run_backward, prepare_backward, "dx", "*dy *saved", "n kind", "alpha")


cdef int set_kind(fnn_op *op, object kind, object alpha) except -1:
    if kind not in ACTIVATIONS:
        raise ValueError(f"kind must be one of {', '.join(ACTIVATIONS)}, got {kind!r}")
    if alpha is None:
        alpha = ALPHA.get(kind, 0.0)
    if not math.isfinite(alpha):
        raise ValueError(f"alpha must be finite, got {alpha}")
    op.dim[KIND] = ACTIVATIONS.index(kind)
    op.scalar[0] = alpha
    return 0


cdef int check_overlap(str name, object out, object array) except -1:
    """An array may be worked on in place, but not shifted."""
    if np.may_share_memory(out, array) and data(out) != data(array):
        raise ValueError(f"out must be {name} itself or not overlap it")
    return 0


def activation(kind, x, alpha=None, *, out=None):
    """y = f(x), as PyTorch computes it at the kink, at infinities and for NaN.

    Parameters
    ----------
    kind : str
        One of ACTIVATIONS; gelu is x Phi(x), with the normal distribution by erf.
    x : ndarray of float32 or float64
        C-contiguous, of any shape.
    alpha : float, optional
        The negative slope of leaky_relu (default 0.01), or the scale of elu (default 1).
    out : ndarray, optional
        Where y goes, as `x` in dtype and shape; may be `x` itself.

    Returns
    -------
    ndarray
        `out`, or a new array.

    Raises
    ------
    TypeError
        If an array is not float32 or float64, or their dtypes differ.
    ValueError
        If the kind is unknown, alpha is not finite, shapes differ, an array is not contiguous, or `out`
        overlaps `x` in part.
    """
    cdef fnn_op op
    memset(&op, 0, sizeof(op))
    op.dtype = check_real("x", x, None)
    set_kind(&op, kind, alpha)
    if out is None:
        out = np.empty(x.shape, x.dtype)
    else:
        check("out", out, x.dtype, x.shape, True)
        check_overlap("x", out, x)
    op.buf[0], op.buf[1] = data(out), data(x)
    op.dim[N] = x.size
    runtime.run_one("activation", &op)
    return out


def activation_backward(kind, dy, saved, alpha=None, *, out=None):
    """dx = dy * f'(x).

    Parameters
    ----------
    kind : str
        One of ACTIVATIONS.
    dy : ndarray of float32 or float64
        C-contiguous, of any shape.
    saved : ndarray
        f(x) where SAVES[kind] is "output", x where it is "input" or where leaky_relu or elu has an
        alpha <= 0; as `dy` in dtype and shape.
    alpha : float, optional
        As in activation.
    out : ndarray, optional
        Where dx goes; may be `dy` or `saved` itself.

    Returns
    -------
    ndarray
        `out`, or a new array.

    Raises
    ------
    TypeError, ValueError
        As activation.
    """
    cdef fnn_op op
    memset(&op, 0, sizeof(op))
    op.dtype = check_real("dy", dy, None)
    check("saved", saved, dy.dtype, dy.shape)
    set_kind(&op, kind, alpha)
    if out is None:
        out = np.empty(dy.shape, dy.dtype)
    else:
        check("out", out, dy.dtype, dy.shape, True)
        check_overlap("dy", out, dy)
        check_overlap("saved", out, saved)
    op.buf[0], op.buf[1], op.buf[2] = data(out), data(dy), data(saved)
    op.dim[N] = dy.size
    runtime.run_one("activation_backward", &op)
    return out
