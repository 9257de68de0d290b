"""Matrix products with their epilogue: C = f(A B + C + bias).

Native op
---------
gemm    buf: c, a, b, bias, saved
        dim: batch, m, n, k, a_row, a_col, a_batch, b_row, b_col, b_batch, c_row, c_batch, beta,
             act, act_grad
        scalar: alpha

C[i, j] = sum over k of A[i, k] B[k, j], plus C[i, j] if beta is 1, plus bias[j] unless bias is NULL;
then f(C) if act >= 0, C * f'(saved) if act_grad >= 0: kinds of fastnn_ext.activation, `alpha` is
theirs, `saved` is laid out as C. Strides in elements; C's column stride is 1. `batch` products, a
stride 0 of a_batch or b_batch gives all of them the same operand.
"""
from libc.stdint cimport int64_t
from libc.string cimport memset

from fastnn_ext cimport runtime
from fastnn_ext.activation cimport act_backward, act_forward, backward_kernel, forward_kernel
from fastnn_ext.runtime cimport fnn_op

import numpy as np

from fastnn_ext.activation import ACTIVATIONS


cdef extern from "simd/gemm.h" nogil:
    struct gemm_block:
        int64_t m, n, k
        const void *a
        int64_t a_row, a_col
        const void *b
        int64_t b_row, b_col
        void *c
        int64_t c_row
        const void *bias
        int64_t accumulate
        void *scratch
    struct gemm_kernels:
        int64_t mr, nr, kc, scratch
        double rate
        void (*multiply)(const gemm_block *block) noexcept nogil
    const gemm_kernels *gemm_table(int isa, int dtype)


# Places in fnn_op.dim; those from ROWS on are set by prepare.
cdef enum:
    BATCH, M, N, K, A_ROW, A_COL, A_BATCH, B_ROW, B_COL, B_BATCH, C_ROW, C_BATCH, BETA, ACT, ACT_GRAD
    ROWS, COLS  # how many pieces C's rows and columns are cut into

# A chunk's aim in nanoseconds.
cdef enum: CHUNK_NS = 30000


cdef inline int64_t ceil_div(int64_t a, int64_t b) noexcept nogil:
    return (a + b - 1) // b


cdef void prepare(fnn_op *op) noexcept nogil:
    cdef const gemm_kernels *kernels = gemm_table(op.isa, op.dtype)
    cdef int64_t batch = op.dim[BATCH], m = op.dim[M], n = op.dim[N]
    cdef double one  # cost of one product
    cdef int64_t pieces
    op.kernels = kernels
    op.scratch = kernels.scratch
    one = m * n * (<double> op.dim[K] / kernels.rate + 0.5) + 20.0
    op.cost = batch * one
    pieces = max(<int64_t> 1, <int64_t> (one / CHUNK_NS + 0.5))
    op.dim[COLS] = max(<int64_t> 1, min(pieces, n // kernels.nr))
    op.dim[ROWS] = max(<int64_t> 1, min(ceil_div(pieces, op.dim[COLS]), m // kernels.mr))
    op.chunks = batch * op.dim[ROWS] * op.dim[COLS] if m > 0 and n > 0 else 0


cdef void finish(const fnn_op *op, int64_t offset, int64_t rows, int64_t cols) noexcept nogil:
    """The activation, or its gradient, over rows of C that are still in cache."""
    cdef int64_t size = 4 if op.dtype == 0 else 8, i
    cdef act_forward forward = forward_kernel(<int> op.dim[ACT], op.isa, op.dtype)
    cdef act_backward backward = backward_kernel(<int> op.dim[ACT_GRAD], op.isa, op.dtype)
    cdef char *c = <char *> op.buf[0] + offset * size
    cdef char *saved = <char *> op.buf[4] + offset * size
    cdef int64_t step = op.dim[C_ROW] * size
    if cols == op.dim[C_ROW]:
        cols *= rows
        rows = 1
    if forward != NULL:
        for i in range(rows):
            forward(c + i * step, c + i * step, cols, op.scalar[0])
    if backward != NULL:
        for i in range(rows):
            backward(c + i * step, c + i * step, saved + i * step, cols, op.scalar[0])


cdef int run(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef const gemm_kernels *kernels = <const gemm_kernels *> op.kernels
    cdef int64_t size = 4 if op.dtype == 0 else 8
    cdef int64_t k = op.dim[K], k_blocks = max(<int64_t> 1, ceil_div(k, kernels.kc)), p, at
    cdef int64_t batch = chunk // (op.dim[ROWS] * op.dim[COLS])
    cdef int64_t row = chunk // op.dim[COLS] % op.dim[ROWS], col = chunk % op.dim[COLS]
    cdef int64_t panels = ceil_div(op.dim[N], kernels.nr)
    cdef int64_t i = op.dim[M] * row // op.dim[ROWS]
    cdef int64_t j = panels * col // op.dim[COLS] * kernels.nr
    cdef gemm_block block
    block.m = op.dim[M] * (row + 1) // op.dim[ROWS] - i
    block.n = min(op.dim[N], panels * (col + 1) // op.dim[COLS] * kernels.nr) - j
    block.a_row = op.dim[A_ROW]
    block.a_col = op.dim[A_COL]
    block.b_row = op.dim[B_ROW]
    block.b_col = op.dim[B_COL]
    block.c_row = op.dim[C_ROW]
    block.c = <char *> op.buf[0] + (batch * op.dim[C_BATCH] + i * block.c_row + j) * size
    block.scratch = scratch
    block.bias = NULL
    for p in range(k_blocks):
        at = k * p // k_blocks
        block.k = k * (p + 1) // k_blocks - at
        block.a = <char *> op.buf[1] + (batch * op.dim[A_BATCH] + i * block.a_row + at * block.a_col) * size
        block.b = <char *> op.buf[2] + (batch * op.dim[B_BATCH] + at * block.b_row + j * block.b_col) * size
        block.accumulate = p > 0 or op.dim[BETA]
        if p == k_blocks - 1 and op.buf[3] != NULL:
            block.bias = <char *> op.buf[3] + j * size
        kernels.multiply(&block)
    finish(op, batch * op.dim[C_BATCH] + i * block.c_row + j, block.m, block.n)
    return 0


runtime.register_op("gemm", run, prepare)


cdef object checked(str name, object array, int ndim, object dtype):
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array, got {type(array).__name__}")
    if array.dtype != dtype:
        raise TypeError(f"{name} must be {dtype}, as a is, got {array.dtype}")
    if array.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} dimensions, got shape {array.shape}")
    if any(stride < 0 or stride % array.itemsize for stride in array.strides):
        raise ValueError(f"{name} must have non-negative strides of whole elements, got {array.strides} bytes")
    return array


cdef int kind_of(str name, object activation) except -2:
    if activation is None:
        return -1
    if activation not in ACTIVATIONS:
        raise ValueError(f"{name} must be None or one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    return ACTIVATIONS.index(activation)


cdef bint has_distinct_rows(object c, int64_t size) except -1:
    """Whether no two elements of c share memory and its columns lie side by side."""
    cdef int last = c.ndim - 1
    cdef int64_t extent = c.shape[last] * size  # bytes that the dimensions from here on span
    if c.shape[last] > 1 and c.strides[last] != size:
        return False
    for length, stride in sorted(zip(c.shape[:last], c.strides[:last]), key=lambda pair: pair[1]):
        if length > 1 and stride < extent:
            return False
        extent += (length - 1) * stride
    return True


cdef void *data(object array) except? NULL:
    cdef size_t address = array.ctypes.data
    return <void *> address


def gemm(a, b, *, bias=None, bint transpose_a=False, bint transpose_b=False, out=None, bint accumulate=False,
         activation=None, double alpha=0.0, saved=None, activation_grad=None):
    """Matrix product C = f(A B + C + bias), or C = (A B + C + bias) * f'(saved).

    Parameters
    ----------
    a : ndarray of float32 or float64, shape (m, k) or (batch, m, k)
        With any non-negative strides.
    b : ndarray, shape (k, n) or (batch, k, n)
        As many dimensions as `a`; a batch of 1 in either is used for all products.
    bias : ndarray, shape (n,), optional
        Contiguous; added to each row.
    transpose_a, transpose_b : bool, default False
        `a` is given as (..., k, m), or `b` as (..., n, k).
    out : ndarray, shape (m, n) or (batch, m, n), optional
        Where C goes; its columns lie side by side. It must not overlap the operands.
    accumulate : bool, default False
        Add to what `out` holds.
    activation, activation_grad : str, optional
        A name of fastnn_ext.activation.ACTIVATIONS: apply it, or multiply by its derivative.
    alpha : float, default 0.0
        The activation's slope or scale.
    saved : ndarray, shape of C, optional
        What the derivative is taken from, with the strides of `out`.

    Returns
    -------
    ndarray
        `out`, or a new array.

    Raises
    ------
    TypeError
        If an argument is not an array of the dtype of `a`, which must be float32 or float64.
    ValueError
        If shapes or strides do not fit.
    """
    cdef fnn_op op
    cdef int64_t size
    if not isinstance(a, np.ndarray):
        raise TypeError(f"a must be a NumPy array, got {type(a).__name__}")
    if a.dtype != np.float32 and a.dtype != np.float64:
        raise TypeError(f"a must be float32 or float64, got {a.dtype}")
    if a.ndim not in (2, 3):
        raise ValueError(f"a must have 2 or 3 dimensions, got shape {a.shape}")
    dtype, ndim = a.dtype, a.ndim
    checked("a", a, ndim, dtype)
    checked("b", b, ndim, dtype)
    if transpose_a:
        a = a.swapaxes(-1, -2)
    if transpose_b:
        b = b.swapaxes(-1, -2)
    row, col = ndim - 2, ndim - 1
    m, k = a.shape[row], a.shape[col]
    if b.shape[row] != k:
        raise ValueError(f"b must have {k} rows to be multiplied from the left by shape {a.shape}, got {b.shape}")
    n = b.shape[col]
    if ndim == 3:
        batch = a.shape[0] if b.shape[0] == 1 else b.shape[0]
        if a.shape[0] not in (1, batch):
            raise ValueError(f"b must have a batch of 1 or {a.shape[0]}, got shape {b.shape}")
        shape = (batch, m, n)
    else:
        batch = 1
        shape = (m, n)
    if out is None:
        if accumulate:
            raise ValueError("out must be given to accumulate into it")
        out = np.empty(shape, dtype)
    checked("out", out, ndim, dtype)
    if out.shape != shape:
        raise ValueError(f"out must have shape {shape}, got {out.shape}")
    size = out.itemsize
    if out.size and not has_distinct_rows(out, size):
        raise ValueError(f"out must have columns side by side and distinct rows, got strides {out.strides} bytes")
    if not out.flags.writeable:
        raise ValueError("out must be writeable")
    memset(&op, 0, sizeof(op))
    if bias is not None:
        checked("bias", bias, 1, dtype)
        if bias.shape != (n,) or (n > 1 and bias.strides[0] != size):
            raise ValueError(f"bias must be contiguous with shape ({n},), got {bias.shape}, strides {bias.strides}")
        op.buf[3] = data(bias)
    op.dim[ACT] = kind_of("activation", activation)
    op.dim[ACT_GRAD] = kind_of("activation_grad", activation_grad)
    if (saved is None) != (activation_grad is None):
        raise ValueError("saved and activation_grad must be given together")
    if saved is not None:
        checked("saved", saved, ndim, dtype)
        if saved.shape != shape or saved.strides != out.strides:
            raise ValueError(f"saved must have shape {shape} and strides {out.strides}, "
                             f"got {saved.shape} and {saved.strides}")
        op.buf[4] = data(saved)
    for name, array in (("a", a), ("b", b), ("bias", bias)):
        if array is not None and np.may_share_memory(array, out):
            raise ValueError(f"out must not overlap {name}")
    op.dtype = 0 if dtype == np.float32 else 1
    op.buf[0] = data(out)
    op.buf[1] = data(a)
    op.buf[2] = data(b)
    op.dim[BATCH] = batch
    op.dim[M] = m
    op.dim[N] = n
    op.dim[K] = k
    op.dim[A_ROW] = a.strides[row] // size
    op.dim[A_COL] = a.strides[col] // size
    op.dim[A_BATCH] = a.strides[0] // size if ndim == 3 and a.shape[0] > 1 else 0
    op.dim[B_ROW] = b.strides[row] // size
    op.dim[B_COL] = b.strides[col] // size
    op.dim[B_BATCH] = b.strides[0] // size if ndim == 3 and b.shape[0] > 1 else 0
    op.dim[C_ROW] = out.strides[row] // size
    op.dim[C_BATCH] = out.strides[0] // size if ndim == 3 else 0
    op.dim[BETA] = accumulate
    op.scalar[0] = alpha
    runtime.run_one("gemm", &op)
    return out
