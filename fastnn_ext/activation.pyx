"""Activations and their gradients: y = f(x), dx = dy * f'(x), over contiguous arrays of any shape.

Native ops
----------
activation            buf: y, x           dim: n, kind   scalar: alpha
activation_backward   buf: dx, dy, saved  dim: n, kind   scalar: alpha
"""
from libc.stdint cimport int64_t
from libc.string cimport memset

from fastnn_ext cimport runtime
from fastnn_ext.runtime cimport fnn_op

import numpy as np


cdef extern from "simd/activation.h" nogil:
    enum: ACT_COUNT
    struct activation_kernels:
        act_forward forward[ACT_COUNT]
        act_backward backward[ACT_COUNT]
    const activation_kernels *activation_table(int isa, int dtype)


ACTIVATIONS = ("relu",)
# 16 KiB of float32: small enough to share out, large enough that a chunk's cost hides its hand-out.
cdef enum: CHUNK = 4096


cdef act_forward forward_kernel(int kind, int isa, int dtype) noexcept nogil:
    return NULL if kind < 0 else activation_table(isa, dtype).forward[kind]


cdef act_backward backward_kernel(int kind, int isa, int dtype) noexcept nogil:
    return NULL if kind < 0 else activation_table(isa, dtype).backward[kind]


cdef void prepare(fnn_op *op) noexcept nogil:
    op.kernels = activation_table(op.isa, op.dtype)
    op.chunks = (op.dim[0] + CHUNK - 1) // CHUNK
    op.cost = 0.3 * op.dim[0]


cdef int run_forward(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t begin = chunk * CHUNK, n = min(<int64_t> CHUNK, op.dim[0] - begin)
    cdef int64_t offset = begin * (4 if op.dtype == 0 else 8)
    (<const activation_kernels *> op.kernels).forward[op.dim[1]](
        <char *> op.buf[0] + offset, <char *> op.buf[1] + offset, n, op.scalar[0])
    return 0


cdef int run_backward(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t begin = chunk * CHUNK, n = min(<int64_t> CHUNK, op.dim[0] - begin)
    cdef int64_t offset = begin * (4 if op.dtype == 0 else 8)
    (<const activation_kernels *> op.kernels).backward[op.dim[1]](
        <char *> op.buf[0] + offset, <char *> op.buf[1] + offset, <char *> op.buf[2] + offset, n, op.scalar[0])
    return 0


runtime.register_op("activation", run_forward, prepare)
runtime.register_op("activation_backward", run_backward, prepare)
