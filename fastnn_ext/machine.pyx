"""What this machine gives at most: multiply-adds in registers, and memory read and written in order.

The functions run on the calling thread with the GIL released; to load several cores, call them from
several Python threads.
"""
from libc.stdint cimport int64_t

from fastnn_ext cimport runtime

import numpy as np


cdef extern from "simd/machine.h" nogil:
    ctypedef void (*machine_multiply_add)(void *sums, const void *a, const void *b, int64_t rounds) noexcept nogil
    ctypedef void (*machine_triad)(void *y, const void *x, const void *z, double s, int64_t n) noexcept nogil
    struct machine_kernels:
        int64_t width
        int64_t sums
        machine_multiply_add multiply_add
        machine_triad triad
    const machine_kernels *machine_table(int isa, int dtype)


def multiply_add(double start, double a, double b, int64_t rounds):
    """start * a + b, the result again times a plus b, and so on, in float32 in as many places as keep
    the units busy.

    Parameters
    ----------
    start, a, b : float
    rounds : int

    Returns
    -------
    array of float32
        The result, as often as it was computed; 2 * rounds * size FLOPs were made.
    """
    cdef const machine_kernels *kernels = machine_table(runtime.isa(), 0)
    cdef float[::1] sums = np.full(kernels.sums * kernels.width, start, np.float32)
    cdef float[::1] factor = np.full(kernels.width, a, np.float32)
    cdef float[::1] addend = np.full(kernels.width, b, np.float32)
    if rounds < 0:
        raise ValueError(f"rounds must be at least 0, got {rounds}")
    with nogil:
        kernels.multiply_add(&sums[0], &factor[0], &addend[0], rounds)
    return np.asarray(sums)


def triad(float[::1] y, const float[::1] x, const float[::1] z, double s):
    """y = x + s * z

    Parameters
    ----------
    y, x, z : arrays of float32, shape (n,)
        y may not overlap the others.
    s : float
    """
    cdef const machine_kernels *kernels = machine_table(runtime.isa(), 0)
    cdef int64_t n = y.shape[0]
    if x.shape[0] != n or z.shape[0] != n:
        raise ValueError(f"y, x and z must have one length, got {n}, {x.shape[0]} and {z.shape[0]}")
    if n:
        with nogil:
            kernels.triad(&y[0], &x[0], &z[0], s, n)
