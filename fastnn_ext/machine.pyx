# distutils: extra_compile_args = -Os
"""What this machine gives at most: multiply-adds in registers, and memory read and written in order.

The functions run on the calling thread with the GIL released; to load several cores, call them from
several Python threads.
"""
from libc.stdint cimport int64_t, uintptr_t

from fastnn_ext cimport runtime

import numpy as np


cdef extern from "simd/machine.h" nogil:
    enum: FNN_F32
    ctypedef void (*machine_multiply_add)(void *sums, const void *a, const void *b, int64_t rounds) noexcept nogil
    ctypedef void (*machine_triad)(void *y, const void *x, const void *z, double s, int64_t n) noexcept nogil
    struct machine_kernels:
        int64_t width
        int64_t sums
        machine_multiply_add multiply_add
        machine_triad triad
    const machine_kernels *machine_table(int isa, int dtype)


cdef void *data(object array) except? NULL:
    """Address of the first element; NULL for None."""
    return NULL if array is None else <void *> <uintptr_t> array.ctypes.data


cdef int check(str name, object array, object dtype, object shape, bint writeable=False) except -1:
    """Refuses what is not a C-contiguous array of this dtype and, unless None, this shape."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array, got {type(array).__name__}")
    if array.dtype != dtype:
        raise TypeError(f"{name} must have dtype {np.dtype(dtype)}, got {array.dtype}")
    if shape is not None and array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
    if not array.flags.c_contiguous or not array.flags.aligned:
        raise ValueError(f"{name} must be C-contiguous and aligned, got strides {array.strides}")
    if writeable and not array.flags.writeable:
        raise ValueError(f"{name} must be writeable")
    return 0


cdef int check_apart(dict arrays) except -1:
    """Refuses arrays, by name, of which two overlap; None is passed over."""
    before = []
    for name, array in arrays.items():
        if array is None:
            continue
        for other, other_array in before:
            if np.may_share_memory(array, other_array):
                raise ValueError(f"{name} must not overlap {other}")
        before.append((name, array))
    return 0


MOST_ROUNDS = 1 << 28  # about a second's


def multiply_add(double start, double a, double b, int64_t rounds):
    """start * a + b, the result again times a plus b, and so on, in float32; in so many places at once that the units
    for multiply-adds never wait.

    Parameters
    ----------
    start, a, b : float
    rounds : int
        At most MOST_ROUNDS.

    Returns
    -------
    array of float32
        The result, as often as it was computed; 2 * rounds * size FLOPs were made.
    """
    cdef const machine_kernels *kernels = machine_table(runtime.isa(), FNN_F32)
    if not 0 <= rounds <= MOST_ROUNDS:
        raise ValueError(f"rounds must be at least 0, got {rounds}" if rounds < 0 else
                         f"rounds must be at most {MOST_ROUNDS}, got {rounds}")
    sums = np.full(kernels.sums * kernels.width, start, np.float32)
    factor, addend = np.full(kernels.width, a, np.float32), np.full(kernels.width, b, np.float32)
    cdef void *s = data(sums)
    cdef const void *f = data(factor)
    cdef const void *d = data(addend)
    with nogil:
        kernels.multiply_add(s, f, d, rounds)
    return sums


def triad(y, x, z, double s):
    """y = x + s * z

    Parameters
    ----------
    y, x, z : arrays of float32, shape (n,), that do not overlap
    s : float
    """
    cdef const machine_kernels *kernels = machine_table(runtime.isa(), FNN_F32)
    check("y", y, np.float32, None, True)
    check("x", x, np.float32, y.shape)
    check("z", z, np.float32, y.shape)
    check_apart({"y": y, "x": x, "z": z})
    cdef void *to = data(y)
    cdef const void *first = data(x)
    cdef const void *second = data(z)
    cdef int64_t n = y.size
    with nogil:
        kernels.triad(to, first, second, s, n)
