"""Sums, means, maxima, minima and products along one axis, in a fixed order; and running sums.

`kind` is an index in REDUCE. x is (outer, length, inner), y (outer, pieces, inner): piece p reduces the indices from
p * ceil(length / pieces) on. With one piece that is the result. Of several a second op makes it: the sum of pieces of
a sum, or of a mean (pieces are divided by the whole length), the maximum of maxima. A piece may be empty: it is then 0,
or -Inf for max, Inf for min, 1 for prod. NaN wins over any maximum or minimum. The bits depend on the sizes alone.

cumsum: y[o, k, i] is the sum of x[o, 0, i] ... x[o, k, i], or of x[o, k, i] ... x[o, length - 1, i] if `reverse`. Sums
are kept as float64.

What takes longer than a chunk may is cut into segments, whose results a second round reduces.
"""
from libc.stdint cimport int64_t

from fastnn_ext cimport runtime
from fastnn_ext.driver cimport at, ceil_div, item_size
from fastnn_ext.runtime cimport FNN_MOST_NS, fnn_op, short_parts


cdef extern from "simd/reduce.h" nogil:
    enum: REDUCE_SUM
    enum: REDUCE_MEAN
    enum: REDUCE_COUNT
    ctypedef void (*reduce_rows)(void *y, const void *x, int64_t rows, int64_t length, int64_t stride,
                                 double divisor) noexcept nogil
    ctypedef void (*reduce_columns)(void *y, const void *x, int64_t length, int64_t n, int64_t stride,
                                    double divisor) noexcept nogil
    struct reduce_kernels:
        reduce_rows rows[REDUCE_COUNT]
        reduce_columns columns[REDUCE_COUNT]
    const reduce_kernels *reduce_table(int isa, int dtype)


REDUCE = ("sum", "mean", "max", "min", "prod")
# Into how many pieces a long reduction to few results is cut, so that threads can share it.
PIECES = 64

# Places in fnn_op.buf.
cdef enum: Y, X
# Places in fnn_op.dim; those from BLOCKS on are set by prepare.
cdef enum:
    KIND, OUTER, LENGTH, INNER, PIECE_COUNT
    BLOCKS    # of columns, COLUMNS wide
    UNITS     # a chunk's: a unit is one of (outer, pieces, blocks)
    SEGMENTS  # that a unit is cut into, in a chunk each

cdef enum:
    COLUMNS = 128  # whole strips of the kernel on every ISA
    CHUNK_NS = 10000
    SHORTER = 4    # a segment takes so many times less than a chunk may, lest threads wait for the last one
# Estimates of nanoseconds.
cdef double BYTE_NS = 0.04
cdef double[3] ROW_NS = [5.0, 2.5, 1.5]  # a few columns of a row, on each ISA
cdef double UNIT_NS = 10.0  # the last few additions of a result, or of a vector of them


cdef inline int64_t units_of(const fnn_op *op) noexcept nogil:
    return op.dim[OUTER] * op.dim[PIECE_COUNT] * op.dim[BLOCKS]


cdef void prepare(fnn_op *op) noexcept nogil:
    cdef double ns = BYTE_NS * item_size(op) * min(op.dim[INNER], <int64_t> COLUMNS)  # for a row of a block
    op.kernels = reduce_table(op.isa, op.dtype)
    op.dim[BLOCKS] = ceil_div(op.dim[INNER], COLUMNS)
    if op.dim[INNER] > 1:
        ns = max(ns, ROW_NS[op.isa])
    ns = UNIT_NS + ns * ceil_div(op.dim[LENGTH], op.dim[PIECE_COUNT])
    op.cost = ns * units_of(op)
    op.dim[UNITS] = max(<int64_t> 1, <int64_t> (CHUNK_NS / ns))
    op.dim[SEGMENTS] = 1
    op.chunks = ceil_div(units_of(op), op.dim[UNITS])
    if ns > FNN_MOST_NS:
        op.dim[SEGMENTS] = short_parts(SHORTER * ns)
        op.chunks = units_of(op) * op.dim[SEGMENTS]
        op.rounds = 2
        op.shared = op.dim[OUTER] * op.dim[PIECE_COUNT] * op.dim[SEGMENTS] * op.dim[INNER] * item_size(op)


cdef void reduce_block(const fnn_op *op, int64_t kind, char *y, const char *x, int64_t count,
                       int64_t block) noexcept nogil:
    """Reduces `count` rows of `inner` columns, those of a block of columns."""
    cdef const reduce_kernels *kernels = <const reduce_kernels *> op.kernels
    cdef int64_t inner = op.dim[INNER], column = block * COLUMNS, skipped = column * item_size(op)
    if inner == 1:
        kernels.rows[kind](y, x, 1, count, count, op.dim[LENGTH])
    else:
        kernels.columns[kind](y + skipped, x + skipped, count, min(<int64_t> COLUMNS, inner - column), inner,
                              op.dim[LENGTH])


cdef void reduce_segment(const fnn_op *op, int64_t unit, int64_t segment) noexcept nogil:
    """A segment of a unit, of which it may be all."""
    cdef int64_t block = unit % op.dim[BLOCKS], result = unit // op.dim[BLOCKS], inner = op.dim[INNER]
    cdef int64_t outer = result // op.dim[PIECE_COUNT], piece = result % op.dim[PIECE_COUNT]
    cdef int64_t length = op.dim[LENGTH], longest = ceil_div(length, op.dim[PIECE_COUNT])
    cdef int64_t first = min(piece * longest, length), count = min(longest, length - first)
    cdef int64_t segments = op.dim[SEGMENTS], begin = count * segment // segments
    cdef int64_t end = count * (segment + 1) // segments, kind = op.dim[KIND]
    cdef char *y = at(op, Y, result * inner)
    if segments > 1:
        y = <char *> op.common + (result * segments + segment) * inner * item_size(op)
        if kind == REDUCE_MEAN:  # of sums, which the second round makes means of
            kind = REDUCE_SUM
    reduce_block(op, kind, y, at(op, X, (outer * length + first + begin) * inner), end - begin, block)


cdef void reduce_segments(const fnn_op *op, int64_t unit) noexcept nogil:
    """What the segments of a unit came to."""
    cdef int64_t block = unit % op.dim[BLOCKS], result = unit // op.dim[BLOCKS], inner = op.dim[INNER]
    cdef const char *x = <const char *> op.common + result * op.dim[SEGMENTS] * inner * item_size(op)
    reduce_block(op, op.dim[KIND], at(op, Y, result * inner), x, op.dim[SEGMENTS], block)


cdef int run(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef const reduce_kernels *kernels = <const reduce_kernels *> op.kernels
    cdef int64_t units = units_of(op), segments = op.dim[SEGMENTS], length = op.dim[LENGTH]
    cdef int64_t begin = chunk * op.dim[UNITS], end = min(begin + op.dim[UNITS], units), unit
    if segments > 1:
        if chunk < op.chunks:
            reduce_segment(op, chunk // segments, chunk % segments)
        elif chunk < op.chunks + units:
            reduce_segments(op, chunk - op.chunks)
    elif op.dim[INNER] == 1 and op.dim[PIECE_COUNT] == 1:
        kernels.rows[op.dim[KIND]](at(op, Y, begin), at(op, X, begin * length), end - begin, length, length, length)
    else:
        for unit in range(begin, end):
            reduce_segment(op, unit, 0)
    return 0


# ---- cumsum -------------------------------------------------------------------------------------

ctypedef fused real:
    float
    double

cdef enum: REVERSE = KIND  # its place in fnn_op.dim; the others are those of reduce
cdef double TERM_NS = 1.5  # an addition that waits for the one before


cdef void prepare_cumsum(fnn_op *op) noexcept nogil:
    cdef double ns = TERM_NS * op.dim[LENGTH] * min(op.dim[INNER], <int64_t> COLUMNS)
    op.dim[BLOCKS] = ceil_div(op.dim[INNER], COLUMNS)
    op.dim[SEGMENTS] = short_parts(2 * ns)
    op.dim[UNITS] = max(<int64_t> 1, <int64_t> (CHUNK_NS / (ns / op.dim[SEGMENTS] + 1)))
    op.chunks = ceil_div(op.dim[OUTER] * op.dim[BLOCKS], op.dim[UNITS])
    op.rounds = op.dim[SEGMENTS]
    op.shared = op.dim[OUTER] * op.dim[INNER] * sizeof(double)
    op.cost = ns * op.dim[OUTER] * op.dim[BLOCKS]


cdef void add_up(const fnn_op *op, real *y, const real *x, double *total, int64_t columns, int64_t begin,
                 int64_t end) noexcept nogil:
    """The terms begin ... end - 1 of a block of columns, onto the totals of those before."""
    cdef int64_t inner = op.dim[INNER], k, i, row
    for k in range(begin, end):
        row = (op.dim[LENGTH] - 1 - k if op.dim[REVERSE] else k) * inner
        for i in range(columns):
            total[i] += x[row + i]
            y[row + i] = <real> total[i]


cdef int run_cumsum(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t blocks = op.dim[BLOCKS], length = op.dim[LENGTH], inner = op.dim[INNER], segments = op.dim[SEGMENTS]
    cdef int64_t segment = chunk // op.chunks, first = chunk % op.chunks * op.dim[UNITS], unit, outer, column, columns
    cdef int64_t begin = length * segment // segments, end = length * (segment + 1) // segments, place, i
    cdef double *total
    for unit in range(first, min(first + op.dim[UNITS], op.dim[OUTER] * blocks)):
        outer = unit // blocks
        column = unit % blocks * COLUMNS
        columns = min(<int64_t> COLUMNS, inner - column)
        total = <double *> op.common + outer * inner + column
        if segment == 0:
            for i in range(columns):
                total[i] = 0
        place = outer * length * inner + column
        if op.dtype == 0:
            add_up(op, <float *> op.buf[Y] + place, <const float *> op.buf[X] + place, total, columns, begin, end)
        else:
            add_up(op, <double *> op.buf[Y] + place, <const double *> op.buf[X] + place, total, columns, begin, end)
    return 0


runtime.register_op("cumsum", run_cumsum, prepare_cumsum, "y", "x", "reverse outer length inner")
runtime.register_op("reduce", run, prepare, "y", "x", "kind outer length inner pieces")
