"""Elements chosen by labels, the places of the largest and the smallest, and labels as rows of zeros and a one.

x is (outer, length, inner), y (outer, count, inner). The label of y[o, k, i] is the element
o * index_outer + k * index_count + i * index_inner of `index`; a stride of 0 gives a whole row the same label. Labels
are trusted to lie in 0 ... length - 1; others, as an array that was written to since it was checked may hold them,
read NaN (of labels 0) and add to nothing.

gather: y[o, k, i] = x[o, label, i].
scatter_add: dx[o, label, i] += dy[o, k, i], in the order of k. With `rows`, those that first_rows gives (outer is 1),
dx need not be 0 before, and rows that no label names are left as they are.
first_rows: rows (n) is the label where it comes for the first time in index (n), else -1; `mark` (length) is scratch.
arg_extreme: y (outer, inner) is the label of the first largest (kind 0) or smallest (1) along the length, or of the
first NaN.
top: y (outer, count, inner) are the labels of the largest (kind 0) or smallest (1) along the length, the first of them
first, and of equal ones the one that comes first. NaN is larger than all.
one_hot: y (n, classes) is 1 at the label of each row, else 0.
flat_index: y = sum of strides[j] * indices[j], for n elements.

A long count or length takes several rounds.
"""
from libc.stdint cimport int64_t
from libc.math cimport NAN
from libc.string cimport memcpy, memset

from fastnn_ext cimport runtime
from fastnn_ext.driver cimport ceil_div, item_size
from fastnn_ext.runtime cimport fnn_op, short_parts


ctypedef fused real:
    float
    double

cdef enum: MOST_INDICES = 8
MAX_INDICES = MOST_INDICES

# Places in fnn_op.buf: of all but flat_index; x of gather, dy of scatter_add; index. Of flat_index: Y, and its inputs.
cdef enum: Y, X, INDEX, ROWS
cdef enum: FIRSTS, MARK, LABELS  # of first_rows
# Places in fnn_op.dim: of gather and scatter_add; of arg_extreme; of top; of one_hot; of flat_index. What prepare sets
# comes last.
cdef enum:
    OUTER, LENGTH, INNER, COUNT, INDEX_OUTER, INDEX_COUNT, INDEX_INNER
    BLOCKS    # of columns, COLUMNS wide
    UNITS     # a chunk's: a unit is a block of columns of a row, or of all rows
    SEGMENTS  # rounds
cdef enum: KIND = COUNT
cdef enum: T_KIND = KIND + 1, T_UNITS, T_SEGMENTS  # of top
cdef enum: N, CLASSES, ELEMENTS
cdef enum: R_LENGTH = 1, R_SEGMENTS
cdef enum:
    F_STRIDES = 1
    F_COUNT = F_STRIDES + MOST_INDICES
    F_ELEMENTS = F_COUNT + 1

cdef enum: COLUMNS = 128
cdef enum: CHUNK_NS = 10000
# Estimates of nanoseconds.
cdef double BYTE_NS = 0.04     # reading or writing a byte that is not in the innermost cache
cdef double ROW_NS = 8.0       # going to another row
cdef double ELEMENT_NS = 1.5   # an element by itself


cdef inline int64_t label_at(const fnn_op *op, int64_t outer, int64_t k, int64_t i) noexcept nogil:
    cdef int64_t place = outer * op.dim[INDEX_OUTER] + k * op.dim[INDEX_COUNT] + i * op.dim[INDEX_INNER]
    return (<const int64_t *> op.buf[INDEX])[place]


cdef inline double row_ns(const fnn_op *op) noexcept nogil:
    """Of moving a block of columns of one row."""
    cdef int64_t columns = min(op.dim[INNER], <int64_t> COLUMNS)
    if op.dim[INDEX_INNER] or op.dim[INNER] == 1:
        return 2 * ELEMENT_NS * columns
    return ROW_NS + 3 * BYTE_NS * item_size(op) * columns


# ---- gather -------------------------------------------------------------------------------------

cdef void prepare_gather(fnn_op *op) noexcept nogil:
    cdef double ns = row_ns(op)
    op.dim[BLOCKS] = ceil_div(op.dim[INNER], COLUMNS)
    op.dim[UNITS] = max(<int64_t> 1, <int64_t> (CHUNK_NS / ns))
    op.chunks = ceil_div(op.dim[OUTER] * op.dim[COUNT] * op.dim[BLOCKS], op.dim[UNITS])
    op.cost = ns * op.dim[OUTER] * op.dim[COUNT] * op.dim[BLOCKS]


cdef void nothing(const fnn_op *op, char *y, int64_t n) noexcept nogil:
    """What is read where there is nothing."""
    cdef int64_t i
    for i in range(n):
        if op.dtype == 0:
            (<float *> y)[i] = NAN
        elif op.dtype == 1:
            (<double *> y)[i] = NAN
        else:
            (<int64_t *> y)[i] = 0


cdef int run_gather(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t blocks = op.dim[BLOCKS], count = op.dim[COUNT], inner = op.dim[INNER], length = op.dim[LENGTH]
    cdef int64_t begin = chunk * op.dim[UNITS], end = min(begin + op.dim[UNITS], op.dim[OUTER] * count * blocks)
    cdef int64_t unit, row, outer, first, columns, label, i, size = item_size(op)
    cdef char *y
    cdef const char *x
    for unit in range(begin, end):
        row = unit // blocks
        outer = row // count
        first = unit % blocks * COLUMNS
        columns = min(<int64_t> COLUMNS, inner - first)
        y = <char *> op.buf[Y] + (row * inner + first) * size
        x = <const char *> op.buf[X] + (outer * length * inner + first) * size
        if op.dim[INDEX_INNER] == 0:
            label = label_at(op, outer, row % count, 0)
            if 0 <= label < length:
                memcpy(y, x + label * inner * size, columns * size)
            else:
                nothing(op, y, columns)
            continue
        for i in range(columns):
            label = label_at(op, outer, row % count, first + i)
            if 0 <= label < length:
                memcpy(y + i * size, x + (label * inner + i) * size, size)
            else:
                nothing(op, y + i * size, 1)
    return 0


# ---- scatter_add --------------------------------------------------------------------------------

cdef void prepare_scatter(fnn_op *op) noexcept nogil:
    cdef double ns = row_ns(op) * op.dim[COUNT]
    op.dim[BLOCKS] = ceil_div(op.dim[INNER], COLUMNS)
    op.dim[SEGMENTS] = short_parts(2 * ns)
    op.dim[UNITS] = max(<int64_t> 1, <int64_t> (CHUNK_NS / (ns / op.dim[SEGMENTS] + 1)))
    op.chunks = ceil_div(op.dim[OUTER] * op.dim[BLOCKS], op.dim[UNITS])
    op.rounds = op.dim[SEGMENTS]
    op.cost = ns * op.dim[OUTER] * op.dim[BLOCKS]


cdef void add_rows(const fnn_op *op, real *dx, const real *dy, int64_t outer, int64_t first, int64_t columns,
                   int64_t begin, int64_t end) noexcept nogil:
    """A block of columns of the rows begin ... end - 1 of dy, added to those of dx."""
    cdef int64_t inner = op.dim[INNER], length = op.dim[LENGTH], k, i, label
    cdef const int64_t *rows = <const int64_t *> op.buf[ROWS]
    cdef real *target
    cdef const real *source
    dx += outer * length * inner + first
    dy += outer * op.dim[COUNT] * inner + first
    for k in range(begin, end):
        source = dy + k * inner
        if op.dim[INDEX_INNER] == 0:
            label = label_at(op, outer, k, 0)
            if 0 <= label < length:
                target = dx + label * inner
                if rows != NULL and rows[k] >= 0:
                    for i in range(columns):
                        target[i] = 0 + source[i]  # -0.0 becomes 0.0, as it does in a sum
                else:
                    for i in range(columns):
                        target[i] += source[i]
            continue
        for i in range(columns):
            label = label_at(op, outer, k, first + i)
            if 0 <= label < length:
                dx[label * inner + i] += source[i]


cdef int run_scatter(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t blocks = op.dim[BLOCKS], count = op.dim[COUNT], segments = op.dim[SEGMENTS]
    cdef int64_t segment = chunk // op.chunks, begin = chunk % op.chunks * op.dim[UNITS], unit, first, columns, k, end
    for unit in range(begin, min(begin + op.dim[UNITS], op.dim[OUTER] * blocks)):
        first = unit % blocks * COLUMNS
        columns = min(<int64_t> COLUMNS, op.dim[INNER] - first)
        k = count * segment // segments
        end = count * (segment + 1) // segments
        if op.dtype == 0:
            add_rows(op, <float *> op.buf[Y], <const float *> op.buf[X], unit // blocks, first, columns, k, end)
        else:
            add_rows(op, <double *> op.buf[Y], <const double *> op.buf[X], unit // blocks, first, columns, k, end)
    return 0


# ---- first_rows ---------------------------------------------------------------------------------

cdef void prepare_first(fnn_op *op) noexcept nogil:
    op.cost = 2 * ELEMENT_NS * op.dim[N]
    op.dim[R_SEGMENTS] = short_parts(op.cost)
    op.chunks = 1
    op.rounds = 2 * op.dim[R_SEGMENTS]


cdef int run_first(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    """The first half of the rounds marks the labels that there are, the other half finds the first of each."""
    cdef int64_t segments = op.dim[R_SEGMENTS], segment = chunk % segments, n = op.dim[N], length = op.dim[R_LENGTH]
    cdef int64_t *rows = <int64_t *> op.buf[FIRSTS]
    cdef int64_t *mark = <int64_t *> op.buf[MARK]
    cdef const int64_t *labels = <const int64_t *> op.buf[LABELS]
    cdef int64_t k, label
    for k in range(n * segment // segments, n * (segment + 1) // segments):
        if chunk < segments:
            rows[k] = labels[k] if 0 <= labels[k] < length else -1
            if rows[k] >= 0:
                mark[rows[k]] = -1
        elif rows[k] >= 0:
            label = rows[k]
            if mark[label] >= 0:
                rows[k] = -1
            mark[label] = k
    return 0


# ---- arg_extreme --------------------------------------------------------------------------------

cdef void prepare_arg(fnn_op *op) noexcept nogil:
    cdef double ns = ELEMENT_NS * op.dim[LENGTH] * min(op.dim[INNER], <int64_t> COLUMNS)
    op.dim[BLOCKS] = ceil_div(op.dim[INNER], COLUMNS)
    op.dim[SEGMENTS] = short_parts(2 * ns)
    op.dim[UNITS] = max(<int64_t> 1, <int64_t> (CHUNK_NS / (ns / op.dim[SEGMENTS] + 1)))
    op.chunks = ceil_div(op.dim[OUTER] * op.dim[BLOCKS], op.dim[UNITS])
    op.rounds = op.dim[SEGMENTS]
    op.cost = ns * op.dim[OUTER] * op.dim[BLOCKS]


cdef void find(const fnn_op *op, int64_t *y, const real *x, int64_t outer, int64_t first, int64_t columns,
               int64_t begin, int64_t end) noexcept nogil:
    """Goes on from what y says of the places before `begin`."""
    cdef int64_t inner = op.dim[INNER], k, i
    cdef bint least = op.dim[KIND] != 0
    cdef real value, best
    y += outer * inner + first
    x += outer * op.dim[LENGTH] * inner + first
    if begin == 0:
        memset(y, 0, columns * sizeof(int64_t))
    for k in range(begin, end):
        for i in range(columns):
            value = x[k * inner + i]
            best = x[y[i] * inner + i]
            if best == best and (value != value or (value < best if least else value > best)):
                y[i] = k


cdef int run_arg(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t blocks = op.dim[BLOCKS], length = op.dim[LENGTH], segments = op.dim[SEGMENTS]
    cdef int64_t segment = chunk // op.chunks, begin = chunk % op.chunks * op.dim[UNITS], unit, first, columns, k, end
    cdef int64_t *y = <int64_t *> op.buf[Y]
    for unit in range(begin, min(begin + op.dim[UNITS], op.dim[OUTER] * blocks)):
        first = unit % blocks * COLUMNS
        columns = min(<int64_t> COLUMNS, op.dim[INNER] - first)
        k = length * segment // segments
        end = length * (segment + 1) // segments
        if op.dtype == 0:
            find(op, y, <const float *> op.buf[X], unit // blocks, first, columns, k, end)
        else:
            find(op, y, <const double *> op.buf[X], unit // blocks, first, columns, k, end)
    return 0


# ---- top ----------------------------------------------------------------------------------------
#
# A column's labels are a heap while its elements come, whose root is the last one that is kept; then the last ones are
# taken out of it, one by one, each to the place that it leaves. A step is an element that comes, or one that is taken
# out; a round makes a part of all steps.

cdef void prepare_top(fnn_op *op) noexcept nogil:
    cdef double ns = ELEMENT_NS * (op.dim[LENGTH] + op.dim[COUNT])
    cdef int64_t n = op.dim[COUNT]
    while n > 1:  # levels of the heap
        ns += ELEMENT_NS * (op.dim[LENGTH] + op.dim[COUNT])
        n //= 2
    op.dim[T_SEGMENTS] = short_parts(2 * ns)
    op.dim[T_UNITS] = max(<int64_t> 1, <int64_t> (CHUNK_NS / (ns / op.dim[T_SEGMENTS] + 1)))
    op.chunks = ceil_div(op.dim[OUTER] * op.dim[INNER], op.dim[T_UNITS])
    op.rounds = op.dim[T_SEGMENTS]
    op.cost = ns * op.dim[OUTER] * op.dim[INNER]


cdef inline bint before(const real *x, int64_t step, int64_t i, int64_t j, bint least) noexcept nogil:
    """Whether element i comes before element j in the result."""
    cdef real a = x[i * step], b = x[j * step]
    if a == b or (a != a and b != b):
        return i < j
    if a != a or b != b:
        return (b != b) if least else (a != a)
    return a < b if least else a > b


cdef void sink(int64_t *y, const real *x, int64_t step, int64_t size, bint least) noexcept nogil:
    """Let the root of a heap of that size fall to its place."""
    cdef int64_t place = 0, child, label = y[0]
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and before(x, step, y[child * step], y[(child + 1) * step], least):
            child += 1
        if not before(x, step, label, y[child * step], least):
            break
        y[place * step] = y[child * step]
        place = child
    y[place * step] = label


cdef void order(int64_t *y, const real *x, const fnn_op *op, int64_t begin, int64_t end) noexcept nogil:
    """Some of a column's steps."""
    cdef int64_t length = op.dim[LENGTH], count = op.dim[COUNT], step = op.dim[INNER], t, place, size, label
    cdef bint least = op.dim[T_KIND] != 0
    cdef real last, value
    for t in range(begin, min(end, count)):
        place = t
        while place > 0 and before(x, step, y[(place - 1) // 2 * step], t, least):
            y[place * step] = y[(place - 1) // 2 * step]
            place = (place - 1) // 2
        y[place * step] = t
    last = x[y[0] * step]
    for t in range(max(begin, count), min(end, length)):
        value = x[t * step]
        if (value >= last) if least else (value <= last):
            continue  # as most do
        if before(x, step, t, y[0], least):
            y[0] = t
            sink(y, x, step, count, least)
            last = x[y[0] * step]
    for t in range(max(begin, length), end):
        size = count - 1 - (t - length)
        label = y[size * step]
        y[size * step] = y[0]
        y[0] = label
        sink(y, x, step, size, least)


cdef int run_top(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t inner = op.dim[INNER], segments = op.dim[T_SEGMENTS], steps = op.dim[LENGTH] + op.dim[COUNT]
    cdef int64_t segment = chunk // op.chunks, first = chunk % op.chunks * op.dim[T_UNITS], unit, begin, end, at
    cdef int64_t *y
    begin = steps * segment // segments
    end = steps * (segment + 1) // segments
    for unit in range(first, min(first + op.dim[T_UNITS], op.dim[OUTER] * inner)):
        y = <int64_t *> op.buf[Y] + unit // inner * op.dim[COUNT] * inner + unit % inner
        at = unit // inner * op.dim[LENGTH] * inner + unit % inner
        if op.dtype == 0:
            order(y, <const float *> op.buf[X] + at, op, begin, end)
        else:
            order(y, <const double *> op.buf[X] + at, op, begin, end)
    return 0


# ---- one_hot and flat_index ---------------------------------------------------------------------

cdef void prepare_one_hot(fnn_op *op) noexcept nogil:
    cdef double ns = BYTE_NS * item_size(op) + ELEMENT_NS / op.dim[CLASSES]
    op.dim[ELEMENTS] = max(<int64_t> 1, <int64_t> (CHUNK_NS / ns))
    op.chunks = ceil_div(op.dim[N] * op.dim[CLASSES], op.dim[ELEMENTS])
    op.cost = ns * op.dim[N] * op.dim[CLASSES]


cdef int run_one_hot(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t classes = op.dim[CLASSES], begin = chunk * op.dim[ELEMENTS], row, place, label
    cdef int64_t end = min(begin + op.dim[ELEMENTS], op.dim[N] * classes)
    memset(<char *> op.buf[Y] + begin * item_size(op), 0, (end - begin) * item_size(op))
    for row in range(begin // classes, ceil_div(end, classes)):
        label = (<const int64_t *> op.buf[X])[row]
        place = row * classes + label
        if 0 <= label < classes and begin <= place < end:
            if op.dtype == 0:
                (<float *> op.buf[Y])[place] = 1
            else:
                (<double *> op.buf[Y])[place] = 1
    return 0


cdef void prepare_flat(fnn_op *op) noexcept nogil:
    cdef double ns = ELEMENT_NS * (1 + op.dim[F_COUNT])
    op.dim[F_ELEMENTS] = max(<int64_t> 1, <int64_t> (CHUNK_NS / ns))
    op.chunks = ceil_div(op.dim[N], op.dim[F_ELEMENTS])
    op.cost = ns * op.dim[N]


cdef int run_flat(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t begin = chunk * op.dim[F_ELEMENTS], end = min(begin + op.dim[F_ELEMENTS], op.dim[N]), i, j
    cdef int64_t *y = <int64_t *> op.buf[Y]
    for i in range(begin, end):
        y[i] = 0
        for j in range(op.dim[F_COUNT]):
            y[i] += (<const int64_t *> op.buf[1 + j])[i] * op.dim[F_STRIDES + j]
    return 0


cdef str SIZES = "outer length inner count index_outer index_count index_inner"
runtime.register_op("gather", run_gather, prepare_gather, "y", "x index", SIZES)
runtime.register_op("scatter_add", run_scatter, prepare_scatter, "dx", "dy index rows?", SIZES)
runtime.register_op("first_rows", run_first, prepare_first, "rows mark", "index", "n length")
runtime.register_op("arg_extreme", run_arg, prepare_arg, "y", "x", "outer length inner kind")
runtime.register_op("top", run_top, prepare_top, "y", "x", "outer length inner count kind")
runtime.register_op("one_hot", run_one_hot, prepare_one_hot, "y", "index", "n classes")
runtime.register_op("flat_index", run_flat, prepare_flat, "y", f"indices[{MOST_INDICES}]",
                    f"n strides[{MOST_INDICES}] count")
