"""Sums, means, maxima and minima along one axis, in a fixed order.

Native op
---------
reduce   buf: y, x   dim: kind, outer, length, inner, pieces   scalar: accumulate

`kind` is an index in REDUCE. x is (outer, length, inner), contiguous. With `pieces` 1, y is
(outer, inner); with more, y is (outer, pieces, inner), where piece p is taken from the indices
p * ceil(length / pieces) on, and a plain reduction over the pieces gives the whole: `sum` after `sum`
and after `mean` (whose pieces are divided by the whole length), `max` after `max`. A piece may be empty:
it is then 0, or -Inf for max, Inf for min. y += if `accumulate` is not 0. NaN wins over any maximum.
The bits depend on the sizes alone. What takes longer than a chunk may is cut into segments, whose results
a second round reduces.
"""
from libc.stdint cimport int64_t
from libc.string cimport memset

from fastnn_ext cimport runtime
from fastnn_ext.arrays cimport check, check_apart, check_real, data
from fastnn_ext.runtime cimport FNN_MOST_NS, fnn_op, short_parts

import numpy as np


cdef extern from "simd/reduce.h" nogil:
    enum: REDUCE_COUNT
    ctypedef void (*reduce_rows)(void *y, const void *x, int64_t rows, int64_t length, int64_t stride,
                                 double divisor, int accumulate) noexcept nogil
    ctypedef void (*reduce_columns)(void *y, const void *x, int64_t length, int64_t n, int64_t stride,
                                    double divisor, int accumulate) noexcept nogil
    struct reduce_kernels:
        reduce_rows rows[REDUCE_COUNT]
        reduce_columns columns[REDUCE_COUNT]
    const reduce_kernels *reduce_table(int isa, int dtype)


REDUCE = ("sum", "mean", "max", "min")
# Into how many pieces a long reduction to few results is cut, so that threads can share it.
PIECES = 64

# Places in fnn_op.dim; those from BLOCKS on are set by prepare.
cdef enum:
    KIND, OUTER, LENGTH, INNER, PIECE_COUNT
    BLOCKS  # of columns, COLUMNS wide
    UNITS   # a chunk's (outer, piece, block) triples
    SEGMENTS  # that a triple is cut into, in a chunk each

cdef enum: SUM, MEAN
cdef enum:
    COLUMNS = 128
    CHUNK_NS = 10000
cdef double BYTE_NS = 0.04
cdef double[3] ROW_NS = [5.0, 2.5, 1.5]  # a few columns of one, on each ISA
cdef double UNIT_NS = 10.0  # the last few additions of a result, or of a vector of them


cdef inline int64_t ceil_div(int64_t a, int64_t b) noexcept nogil:
    return (a + b - 1) // b


cdef void prepare(fnn_op *op) noexcept nogil:
    cdef int64_t units, size = 4 if op.dtype == 0 else 8
    cdef double ns
    op.kernels = reduce_table(op.isa, op.dtype)
    op.dim[BLOCKS] = ceil_div(op.dim[INNER], COLUMNS)
    units = op.dim[OUTER] * op.dim[PIECE_COUNT] * op.dim[BLOCKS]
    ns = BYTE_NS * size * min(op.dim[INNER], <int64_t> COLUMNS)
    if op.dim[INNER] > 1:
        ns = max(ns, ROW_NS[op.isa])
    ns = UNIT_NS + ns * ceil_div(op.dim[LENGTH], op.dim[PIECE_COUNT])
    op.dim[UNITS] = max(<int64_t> 1, <int64_t> (CHUNK_NS / ns))
    op.dim[SEGMENTS] = 1
    op.chunks = ceil_div(units, op.dim[UNITS])
    op.cost = ns * units
    if ns > FNN_MOST_NS:
        op.dim[SEGMENTS] = short_parts(4 * ns)
        op.chunks = units * op.dim[SEGMENTS]
        op.rounds = 2
        op.shared = op.dim[OUTER] * op.dim[PIECE_COUNT] * op.dim[SEGMENTS] * op.dim[INNER] * size


cdef void reduce_unit(const fnn_op *op, int64_t unit, int64_t segment, bint combine) noexcept nogil:
    """A triple, or a segment of it; or what its segments came to."""
    cdef const reduce_kernels *kernels = <const reduce_kernels *> op.kernels
    cdef int64_t kind = op.dim[KIND], length = op.dim[LENGTH], inner = op.dim[INNER], segments = op.dim[SEGMENTS]
    cdef int64_t pieces = op.dim[PIECE_COUNT], piece = ceil_div(length, pieces), size = 4 if op.dtype == 0 else 8
    cdef int64_t column = unit % op.dim[BLOCKS] * COLUMNS, result = unit // op.dim[BLOCKS]
    cdef int64_t first = min(result % pieces * piece, length), count = min(piece, length - first), begin
    cdef int accumulate = op.scalar[0] != 0
    cdef char *y = <char *> op.buf[0]
    cdef const char *x = <const char *> op.buf[1]
    if combine:
        x = <const char *> op.common
        first = result * segments
        count = segments
    else:
        begin = first + count * segment // segments
        count = first + count * (segment + 1) // segments - begin
        first = begin + result // pieces * length
        if segments > 1:  # of sums, which the second round makes means of
            y = <char *> op.common
            result = result * segments + segment
            kind = SUM if kind == MEAN else kind
            accumulate = 0
    if inner == 1:
        kernels.rows[kind](y + result * size, x + first * size, 1, count, count, length, accumulate)
    else:
        kernels.columns[kind](y + (result * inner + column) * size, x + (first * inner + column) * size,
                              count, min(<int64_t> COLUMNS, inner - column), inner, length, accumulate)


cdef int run(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef const reduce_kernels *kernels = <const reduce_kernels *> op.kernels
    cdef int64_t units = op.dim[OUTER] * op.dim[PIECE_COUNT] * op.dim[BLOCKS], length = op.dim[LENGTH]
    cdef int64_t begin = chunk * op.dim[UNITS], end = min(begin + op.dim[UNITS], units), unit
    cdef int64_t size = 4 if op.dtype == 0 else 8
    if op.dim[SEGMENTS] > 1:
        if chunk < op.chunks:
            reduce_unit(op, chunk // op.dim[SEGMENTS], chunk % op.dim[SEGMENTS], False)
        elif chunk < op.chunks + units:
            reduce_unit(op, chunk - op.chunks, 0, True)
    elif op.dim[INNER] == 1 and op.dim[PIECE_COUNT] == 1:
        kernels.rows[op.dim[KIND]](<char *> op.buf[0] + begin * size, <char *> op.buf[1] + begin * length * size,
                                   end - begin, length, length, length, op.scalar[0] != 0)
    else:
        for unit in range(begin, end):
            reduce_unit(op, unit, 0, False)
    return 0


runtime.register_op("reduce", run, prepare, "y", "x", "kind outer length inner pieces", "accumulate?")


def reduce(kind, x, axis=None, *, out=None, bint accumulate=False, int64_t pieces=1):
    """Reduction of a contiguous array along one axis, or of all its elements.

    Parameters
    ----------
    kind : str
        One of REDUCE; max and min are NaN where an element is.
    x : ndarray of float32 or float64
        C-contiguous.
    axis : int, optional
        Which axis; by default all elements, as one row.
    out : ndarray, optional
        Where the result goes, of the dtype of `x`; see Returns for its shape.
    accumulate : bool, default False
        Add to what `out` holds.
    pieces : int, default 1
        Leave so many partial results, to be reduced once more (by sum, if this is a mean).

    Returns
    -------
    ndarray
        The shape of `x` without the axis (shape () for all elements); with `pieces` > 1, the axis is
        `pieces` long instead.

    Raises
    ------
    TypeError
        If an array is not float32 or float64, or their dtypes differ.
    ValueError
        If the kind or the axis does not exist, `pieces` is less than 1, `out` does not fit or overlaps
        `x`, or a mean, maximum or minimum over no elements is asked for.
    """
    cdef fnn_op op
    cdef int64_t i
    memset(&op, 0, sizeof(op))
    op.dtype = check_real("x", x, None)
    if kind not in REDUCE:
        raise ValueError(f"kind must be one of {', '.join(REDUCE)}, got {kind!r}")
    if pieces < 1:
        raise ValueError(f"pieces must be at least 1, got {pieces}")
    shape = (x.size,) if axis is None else x.shape
    at = 0 if axis is None else axis
    if not isinstance(at, int):
        raise TypeError(f"axis must be an int or None, got {type(axis).__name__}")
    if not -len(shape) <= at < len(shape):
        raise ValueError(f"axis must lie in the {len(shape)} dimensions of x, got {axis}")
    at %= len(shape)
    if kind != "sum" and shape[at] == 0:
        raise ValueError(f"x must have elements along the axis for {kind}, got shape {x.shape}")
    result = shape[:at] + ((pieces,) if pieces > 1 else ()) + shape[at + 1:]
    if out is None:
        if accumulate:
            raise ValueError("out must be given to accumulate into it")
        out = np.empty(result, x.dtype)
    else:
        check("out", out, x.dtype, result, True)
        check_apart({"x": x, "out": out})
    op.dim[KIND] = REDUCE.index(kind)
    op.dim[OUTER] = op.dim[INNER] = 1
    for i in range(at):
        op.dim[OUTER] *= shape[i]
    for i in range(at + 1, len(shape)):
        op.dim[INNER] *= shape[i]
    op.dim[LENGTH] = shape[at]
    op.dim[PIECE_COUNT] = pieces
    op.buf[0], op.buf[1] = data(out), data(x)
    op.scalar[0] = accumulate
    runtime.run_one("reduce", &op)
    return out
