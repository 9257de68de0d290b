# distutils: extra_compile_args = -Os
"""Ops computed by Python: the one place where a program takes the GIL.

The op's object is a fastnn.ops.callback.Call. It has `outputs` and `inputs`, tuples of (place in fnn_op.buf, dtype,
ndim), whose sizes follow each other in `sizes`; called with a list of input arrays and a list of output shapes, it
returns the outputs. Python gets copies: an array that it keeps is its own, while the arena goes on to hold other
things. What it raises stops the program, and is raised again from the run.
"""
from cpython.buffer cimport PyBUF_WRITE
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stdint cimport int64_t

from fastnn_ext cimport runtime
from fastnn_ext.runtime cimport FNN_MAX_BUF, FNN_MAX_DIM, fnn_op, fnn_run_fn

import numpy as np


MAX_BUFFERS = FNN_MAX_BUF
MAX_SIZES = FNN_MAX_DIM

cdef enum: CALL_NS = 20000  # of a small function over small arrays, and the copies


cdef void prepare(fnn_op *op) noexcept nogil:
    op.chunks = 1
    op.cost = CALL_NS


cdef object view(const fnn_op *op, int slot, str dtype, tuple shape):
    """An array over op.buf[slot]. It must not outlive the call."""
    cdef Py_ssize_t nbytes = np.dtype(dtype).itemsize
    for size in shape:
        nbytes *= size
    memory = PyMemoryView_FromMemory(<char *> op.buf[slot], nbytes, PyBUF_WRITE)
    return np.frombuffer(memory, dtype).reshape(shape)


cdef int call(const fnn_op *op) except -1:
    cdef Py_ssize_t at = 0, k
    cdef object function = <object> op.object
    targets = []
    sources = []
    for operands, arrays in ((function.outputs, targets), (function.inputs, sources)):
        for slot, dtype, ndim in operands:
            shape = []
            for k in range(ndim):
                shape.append(op.dim[at + k])
            at += ndim
            arrays.append(view(op, slot, dtype, tuple(shape)))
    copies = []
    for array in sources:
        copies.append(array.copy())
    shapes = []
    for array in targets:
        shapes.append(array.shape)
    values = function(copies, shapes)
    for target, value in zip(targets, values, strict=True):
        np.copyto(target, value)
    return 0


cdef int run(const fnn_op *op, int64_t chunk, void *scratch) except -1 nogil:
    with gil:
        return call(op)


# The executor takes -1 for "a Python error is set", which is what `except -1` leaves behind.
runtime.register_op("callback", <fnn_run_fn> run, prepare, "outputs...", "inputs...", "sizes...")
