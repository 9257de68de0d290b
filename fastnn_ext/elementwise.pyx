"""Arithmetic element by element, copies between layouts, and fills.

`kind` is an index in UNARY or BINARY. Strides are in elements and not negative. Of `shape` and the strides, `ndim`
places count; `prepare` puts a simpler equal description in their place.

unary: y = f(x) for n elements, one behind the other; y may be x. affine is a x + b, power is x**a, sign is 0 for NaN,
log1pexp is log(1 + exp(-|x|)), round that to the nearest integer, an even one of two. No other kind reads a or b.
divide_by_size: y = x * (1 / size); unlike a number, a size may follow the batch.
binary: y is C-contiguous of `shape`; an operand's stride is 0 where it is broadcast. y may be an operand of the same
strides. Comparisons give 1 or 0; maximum and minimum are NaN where an operand is; zero_where is 0 where b is not 0,
and else a.
where: y is C-contiguous of `shape`, and a where c is not 0 (NaN is not), else b; else as binary.
cast: y = x for n elements; x holds what dtype code `source` stands for: 0 float32, 1 float64, 2 int64.
copy: y[...] = x[...], from element y_at of y and x_at of x on; a stride of 0 in x broadcasts it. No two elements of
y share a place, and y shares none with x.
fill: y[...] = value, for n elements.
"""
from libc.stdint cimport int64_t

from fastnn_ext cimport runtime
from fastnn_ext.driver cimport at, ceil_div, item_size
from fastnn_ext.runtime cimport fnn_op


cdef extern from "simd/elementwise.h" nogil:
    enum: UNARY_affine, UNARY_power, UNARY_COUNT, BINARY_COUNT
    ctypedef void (*elementwise_unary)(void *y, const void *x, int64_t n, double a, double b) noexcept nogil
    ctypedef void (*elementwise_binary)(void *y, const void *a, const void *b, int64_t rows, int64_t n,
                                        int64_t a_row, int64_t a_col, int64_t b_row, int64_t b_col) noexcept nogil
    ctypedef void (*elementwise_where)(void *y, const void *c, const void *a, const void *b, int64_t n, int64_t c_col,
                                       int64_t a_col, int64_t b_col) noexcept nogil
    struct elementwise_kernels:
        elementwise_unary unary[UNARY_COUNT]
        elementwise_binary binary[BINARY_COUNT]
        elementwise_where where
        void (*copy)(void *y, const void *x, int64_t rows, int64_t n, int64_t y_row, int64_t y_col, int64_t x_row,
                     int64_t x_col) noexcept nogil
        void (*fill)(void *y, int64_t n, double value) noexcept nogil
    const elementwise_kernels *elementwise_table(int isa, int dtype)

cdef extern from *:
    """
    struct fnn_kind {
        const char *name;
        double ns;
    };
    #define FNN_KIND(name, ns) {#name, ns},
    static const struct fnn_kind fnn_unary[UNARY_COUNT] = {FNN_UNARY(FNN_KIND)};
    static const struct fnn_kind fnn_binary[BINARY_COUNT] = {FNN_BINARY(FNN_KIND)};
    """
    struct fnn_kind:
        const char *name
        double ns
    const fnn_kind fnn_unary[UNARY_COUNT]
    const fnn_kind fnn_binary[BINARY_COUNT]


cdef tuple names_of(const fnn_kind *kinds, int count):
    cdef int i
    names = []
    for i in range(count):
        names.append((<bytes> kinds[i].name).decode())
    return tuple(names)


UNARY = names_of(fnn_unary, UNARY_COUNT)
BINARY = names_of(fnn_binary, BINARY_COUNT)

cdef enum:
    BINARY_NDIM = 6
    COPY_NDIM = 8
MAX_BINARY_NDIM, MAX_COPY_NDIM = BINARY_NDIM, COPY_NDIM

# Places in fnn_op.buf: of unary, divide_by_size, copy and fill; of binary.
cdef enum: Y, X
cdef enum:
    LEFT = 1
    RIGHT
cdef enum:
    CONDITION = 1  # of where
    CHOSEN = 2
    OTHER = 3
# Places in fnn_op.scalar: of unary; of fill.
cdef enum: A, B
cdef enum: VALUE
# Places in fnn_op.dim: of unary and fill; of divide_by_size; of binary; of where; of cast; of copy. What prepare sets
# comes last.
cdef enum: N, KIND, CHUNK
cdef enum: SIZE = KIND  # prepare puts the kind in its place
cdef enum:
    B_KIND, B_NDIM, B_SHAPE
    B_LEFT = B_SHAPE + BINARY_NDIM  # strides of the operands
    B_RIGHT = B_LEFT + BINARY_NDIM
    B_CHUNK = B_RIGHT + BINARY_NDIM
cdef enum:  # of where, whose first places are binary's without a kind
    W_NDIM, W_SHAPE
    W_CONDITION = W_SHAPE + BINARY_NDIM  # strides of the operands
    W_CHOSEN = W_CONDITION + BINARY_NDIM
    W_OTHER = W_CHOSEN + BINARY_NDIM
    W_CHUNK = W_OTHER + BINARY_NDIM
cdef enum: SOURCE = KIND  # of cast
cdef enum:
    C_NDIM, C_SHAPE
    C_Y = C_SHAPE + COPY_NDIM  # strides
    C_X = C_Y + COPY_NDIM
    C_Y_AT = C_X + COPY_NDIM
    C_X_AT
    C_BAND  # rows and columns of the last two dimensions that one block takes,
    C_SPAN
    C_BANDS  # how many blocks there are of each,
    C_SPANS
    C_BLOCKS  # and how many blocks, in order, make a chunk

cdef enum: CHUNK_NS = 10000
cdef enum: LINE = 16  # float32s of a cache line
# A transpose's blocks: BAND rows of y and SPAN rows of x, each on a page of its own, must not overflow the TLB.
cdef enum:
    BAND = 64
    SPAN = 256
cdef double BYTE_NS = 0.04   # reading or writing a byte that is not in the innermost cache
cdef double ROW_NS = 5.0     # starting on a new row
cdef double STRIDED_NS = 0.5 # an element by itself
cdef double[3] ISA_FACTOR = [3.0, 1.0, 0.6]


cdef inline int64_t elements_in_chunk(double ns) noexcept nogil:
    """A chunk's elements, whole vectors and cache lines on every ISA."""
    return max(<int64_t> 1, <int64_t> (CHUNK_NS / ns) // 1024) * 1024


# ---- unary and fill -----------------------------------------------------------------------------

cdef void cut(fnn_op *op, int arrays, double ns) noexcept nogil:
    """Chunks of so many arrays' elements; ns: what an element's arithmetic takes."""
    ns += arrays * item_size(op) * BYTE_NS
    op.kernels = elementwise_table(op.isa, op.dtype)
    op.dim[CHUNK] = elements_in_chunk(ns)
    op.chunks = ceil_div(op.dim[N], op.dim[CHUNK])
    op.cost = ns * op.dim[N]


cdef void prepare_unary(fnn_op *op) noexcept nogil:
    cdef double ns = fnn_unary[op.dim[KIND]].ns, a = op.scalar[A]
    if op.dim[KIND] != UNARY_power:
        ns *= ISA_FACTOR[op.isa] * (1 if op.dtype == 0 else 3)
    elif a == 0.5 or a == 1 or a == 2 or a == 3 or a == -1 or a == -0.5:
        ns = 0  # the kernel writes these out
    cut(op, 2, ns)


cdef int run_unary(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t begin = chunk * op.dim[CHUNK], n = min(op.dim[CHUNK], op.dim[N] - begin)
    (<const elementwise_kernels *> op.kernels).unary[op.dim[KIND]](
        at(op, Y, begin), at(op, X, begin), n, op.scalar[A], op.scalar[B])
    return 0


cdef void prepare_divide(fnn_op *op) noexcept nogil:
    op.scalar[A] = 1.0 / <double> op.dim[SIZE]
    op.scalar[B] = 0.0
    op.dim[KIND] = UNARY_affine
    prepare_unary(op)


cdef void prepare_fill(fnn_op *op) noexcept nogil:
    cut(op, 1, 0)


cdef int run_fill(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t begin = chunk * op.dim[CHUNK], n = min(op.dim[CHUNK], op.dim[N] - begin)
    (<const elementwise_kernels *> op.kernels).fill(at(op, Y, begin), n, op.scalar[VALUE])
    return 0


cdef void prepare_cast(fnn_op *op) noexcept nogil:
    cut(op, 3, 0)  # of which one has twice the bytes


cdef int run_cast(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t begin = chunk * op.dim[CHUNK], end = min(begin + op.dim[CHUNK], op.dim[N]), i
    cdef int64_t source = op.dim[SOURCE]
    cdef const void *x = op.buf[X]
    cdef float *single = <float *> op.buf[Y]
    cdef double *double_ = <double *> op.buf[Y]
    if op.dtype == 0 and source == 1:
        for i in range(begin, end):
            single[i] = <float> (<const double *> x)[i]
    elif op.dtype == 0:
        for i in range(begin, end):
            single[i] = <float> (<const int64_t *> x)[i]
    elif source == 0:
        for i in range(begin, end):
            double_[i] = (<const float *> x)[i]
    else:
        for i in range(begin, end):
            double_[i] = <double> (<const int64_t *> x)[i]
    return 0


# ---- binary -------------------------------------------------------------------------------------

cdef int64_t simplify(int64_t ndim, int64_t *shape, int64_t *left, int64_t *right) noexcept nogil:
    """Drops dimensions of length 1 and joins neighbours that both operands run through in one stride.

    Returns how many dimensions are left, at least 1.
    """
    cdef int64_t kept = 0, i
    for i in range(ndim):
        if shape[i] == 1:
            continue
        if kept > 0 and left[kept - 1] == left[i] * shape[i] and right[kept - 1] == right[i] * shape[i]:
            kept -= 1
            shape[kept] *= shape[i]
        else:
            shape[kept] = shape[i]
        left[kept] = left[i]
        right[kept] = right[i]
        kept += 1
    if kept == 0:
        shape[0] = 1
        left[0] = right[0] = 0
        kept = 1
    return kept


cdef void prepare_binary(fnn_op *op) noexcept nogil:
    cdef int64_t *shape = &op.dim[B_SHAPE]
    cdef int64_t i, total = 1
    cdef double ns = 3 * item_size(op) * BYTE_NS + fnn_binary[op.dim[B_KIND]].ns
    op.kernels = elementwise_table(op.isa, op.dtype)
    for i in range(op.dim[B_NDIM]):
        total *= shape[i]
    op.chunks = 0
    if total == 0:
        return
    op.dim[B_NDIM] = simplify(op.dim[B_NDIM], shape, &op.dim[B_LEFT], &op.dim[B_RIGHT])
    i = op.dim[B_NDIM] - 1
    if op.dim[B_LEFT + i] > 1 or op.dim[B_RIGHT + i] > 1:
        ns += 2 * STRIDED_NS
    ns += ROW_NS / shape[i]
    op.dim[B_CHUNK] = elements_in_chunk(ns)
    op.chunks = ceil_div(total, op.dim[B_CHUNK])
    op.cost = ns * total


cdef int run_binary(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    """A run of elements of y: the end of a row, whole rows, the start of a row."""
    cdef elementwise_binary kernel = (<const elementwise_kernels *> op.kernels).binary[op.dim[B_KIND]]
    cdef const int64_t *shape = &op.dim[B_SHAPE]
    cdef const int64_t *a = &op.dim[B_LEFT]
    cdef const int64_t *b = &op.dim[B_RIGHT]
    cdef char *y = at(op, Y, 0)
    cdef const char *left = at(op, LEFT, 0)
    cdef const char *right = at(op, RIGHT, 0)
    cdef int64_t size = item_size(op), last = op.dim[B_NDIM] - 1, total = 1, i
    cdef int64_t begin, end, rest, index, rows, n, col, a_at, b_at, a_row = 0, b_row = 0
    for i in range(last + 1):
        total *= shape[i]
    begin = chunk * op.dim[B_CHUNK]
    end = min(total, begin + op.dim[B_CHUNK])
    if last > 0:
        a_row = a[last - 1]
        b_row = b[last - 1]
    while begin < end:
        col = begin % shape[last]
        rest = begin // shape[last]
        a_at = col * a[last]
        b_at = col * b[last]
        rows = 1
        n = min(shape[last] - col, end - begin)
        for i in range(last - 1, -1, -1):
            index = rest % shape[i]
            rest = rest // shape[i]
            a_at += index * a[i]
            b_at += index * b[i]
            if i == last - 1 and n == shape[last]:
                rows = min(shape[i] - index, (end - begin) // n)
        kernel(y + begin * size, left + a_at * size, right + b_at * size, rows, n, a_row, a[last], b_row, b[last])
        begin += rows * n
    return 0


# ---- where --------------------------------------------------------------------------------------

cdef void prepare_where(fnn_op *op) noexcept nogil:
    cdef int64_t i, total = 1
    cdef double ns = 4 * item_size(op) * BYTE_NS
    op.kernels = elementwise_table(op.isa, op.dtype)
    for i in range(op.dim[W_NDIM]):
        total *= op.dim[W_SHAPE + i]
    op.chunks = 0
    if total == 0:
        return
    if op.dim[W_NDIM] == 0:
        op.dim[W_NDIM] = op.dim[W_SHAPE] = 1
        op.dim[W_CONDITION] = op.dim[W_CHOSEN] = op.dim[W_OTHER] = 0
    join_rows(op)
    i = op.dim[W_NDIM] - 1
    if op.dim[W_CONDITION + i] > 1 or op.dim[W_CHOSEN + i] > 1 or op.dim[W_OTHER + i] > 1:
        ns += 3 * STRIDED_NS
    ns += 2 * ROW_NS / op.dim[W_SHAPE + i]
    op.dim[W_CHUNK] = elements_in_chunk(ns)
    op.chunks = ceil_div(total, op.dim[W_CHUNK])
    op.cost = ns * total


cdef void join_rows(fnn_op *op) noexcept nogil:
    """Joins the last dimension with those before it while all operands run through both in one stride."""
    cdef int64_t *dim = op.dim
    cdef int64_t last, k
    cdef int64_t[3] strides = [W_CONDITION, W_CHOSEN, W_OTHER]
    cdef bint joined = True
    while joined and dim[W_NDIM] > 1:
        last = dim[W_NDIM] - 1
        if dim[W_SHAPE + last] != 1 and dim[W_SHAPE + last - 1] != 1:
            for k in strides:
                joined = joined and dim[k + last - 1] == dim[k + last] * dim[W_SHAPE + last]
        if joined:
            for k in strides:
                if dim[W_SHAPE + last] == 1:
                    dim[k + last] = dim[k + last - 1]
                dim[k + last - 1] = dim[k + last]
            dim[W_SHAPE + last - 1] *= dim[W_SHAPE + last]
            dim[W_NDIM] = last


cdef int run_where(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    """A run of elements of y, row by row."""
    cdef const elementwise_kernels *kernels = <const elementwise_kernels *> op.kernels
    cdef const int64_t *dim = &op.dim[0]
    cdef int64_t last = dim[W_NDIM] - 1, columns = dim[W_SHAPE + last], total = 1, i
    cdef int64_t begin, end, rest, index, n, c, a, b
    for i in range(last + 1):
        total *= dim[W_SHAPE + i]
    begin = chunk * dim[W_CHUNK]
    end = min(total, begin + dim[W_CHUNK])
    while begin < end:
        index = begin % columns
        rest = begin // columns
        n = min(columns - index, end - begin)
        c = index * dim[W_CONDITION + last]
        a = index * dim[W_CHOSEN + last]
        b = index * dim[W_OTHER + last]
        for i in range(last - 1, -1, -1):
            index = rest % dim[W_SHAPE + i]
            rest = rest // dim[W_SHAPE + i]
            c += index * dim[W_CONDITION + i]
            a += index * dim[W_CHOSEN + i]
            b += index * dim[W_OTHER + i]
        kernels.where(at(op, Y, begin), at(op, CONDITION, c), at(op, CHOSEN, a), at(op, OTHER, b), n,
                      dim[W_CONDITION + last], dim[W_CHOSEN + last], dim[W_OTHER + last])
        begin += n
    return 0


# ---- copy ---------------------------------------------------------------------------------------

cdef inline void swap(int64_t *array, int64_t i, int64_t j) noexcept nogil:
    array[i], array[j] = array[j], array[i]


cdef inline void swap_dimensions(int64_t *dim, int64_t i, int64_t j) noexcept nogil:
    swap(dim + C_SHAPE, i, j)
    swap(dim + C_Y, i, j)
    swap(dim + C_X, i, j)


cdef void prepare_copy(fnn_op *op) noexcept nogil:
    """Sorts the dimensions by y's strides, and cuts the last two into blocks. Where x has its elements one behind
    the other along another one, a transpose, that one comes last but one."""
    cdef int64_t *dim = op.dim
    cdef int64_t *shape = &op.dim[C_SHAPE]
    cdef int64_t *y = &op.dim[C_Y]
    cdef int64_t *x = &op.dim[C_X]
    cdef int64_t i, j, last, rows, n, aim, block, total = 1
    cdef double ns = 2 * item_size(op) * BYTE_NS
    op.kernels = elementwise_table(op.isa, op.dtype)
    for i in range(dim[C_NDIM]):
        total *= shape[i]
    op.chunks = 0
    if total == 0:
        return
    for i in range(1, dim[C_NDIM]):
        j = i
        while j > 0 and y[j] > y[j - 1]:
            swap_dimensions(dim, j, j - 1)
            j -= 1
    dim[C_NDIM] = simplify(dim[C_NDIM], shape, y, x)
    if dim[C_NDIM] == 1:
        shape[1] = shape[0]
        y[1] = y[0]
        x[1] = x[0]
        shape[0] = 1
        y[0] = x[0] = 0
        dim[C_NDIM] = 2
    last = dim[C_NDIM] - 1
    aim = elements_in_chunk(ns)
    block = aim
    n = shape[last]
    dim[C_SPAN] = min(n, aim)
    if x[last] > 1:
        for i in range(last):
            if x[i] == 1:
                for j in range(i, last - 1):
                    swap_dimensions(dim, j, j + 1)
                dim[C_SPAN] = min(n, <int64_t> SPAN)
                block = BAND * SPAN
                break
    if x[last] > 1 or y[last] != 1:
        ns += STRIDED_NS
    rows = shape[last - 1]
    dim[C_BAND] = min(aim, block) // dim[C_SPAN]
    if dim[C_BAND] > LINE:
        dim[C_BAND] -= dim[C_BAND] % LINE
    dim[C_BAND] = min(dim[C_BAND], rows)
    dim[C_BANDS] = ceil_div(rows, dim[C_BAND])
    dim[C_SPANS] = ceil_div(n, dim[C_SPAN])
    dim[C_BLOCKS] = max(<int64_t> 1, aim // (dim[C_BAND] * dim[C_SPAN]))
    op.chunks = ceil_div(total // (rows * n) * dim[C_BANDS] * dim[C_SPANS], dim[C_BLOCKS])
    op.cost = ns * total + ROW_NS * (total // n)


cdef int run_copy(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef const elementwise_kernels *kernels = <const elementwise_kernels *> op.kernels
    cdef const int64_t *dim = &op.dim[0]
    cdef const int64_t *shape = &op.dim[C_SHAPE]
    cdef const int64_t *y = &op.dim[C_Y]
    cdef const int64_t *x = &op.dim[C_X]
    cdef int64_t last = dim[C_NDIM] - 1, blocks = dim[C_BANDS] * dim[C_SPANS], i
    cdef int64_t block, begin = chunk * dim[C_BLOCKS], end = begin + dim[C_BLOCKS]
    cdef int64_t rest, row, col, y_at, x_at
    for i in range(last - 1):
        blocks *= shape[i]
    for block in range(begin, min(end, blocks)):
        col = block % dim[C_SPANS] * dim[C_SPAN]
        rest = block // dim[C_SPANS]
        row = rest % dim[C_BANDS] * dim[C_BAND]
        rest = rest // dim[C_BANDS]
        y_at = dim[C_Y_AT] + row * y[last - 1] + col * y[last]
        x_at = dim[C_X_AT] + row * x[last - 1] + col * x[last]
        for i in range(last - 2, -1, -1):
            y_at += rest % shape[i] * y[i]
            x_at += rest % shape[i] * x[i]
            rest = rest // shape[i]
        kernels.copy(at(op, Y, y_at), at(op, X, x_at),
                     min(dim[C_BAND], shape[last - 1] - row), min(dim[C_SPAN], shape[last] - col),
                     y[last - 1], y[last], x[last - 1], x[last])
    return 0


runtime.register_op("unary", run_unary, prepare_unary, "y", "*x", "n kind", "a b")
runtime.register_op("divide_by_size", run_unary, prepare_divide, "y", "*x", "n size")
runtime.register_op("binary", run_binary, prepare_binary, "y", "*a *b",
                    "kind ndim shape[{0}] a_strides[{0}] b_strides[{0}]".format(BINARY_NDIM))
runtime.register_op("where", run_where, prepare_where, "y", "*c *a *b",
                    "ndim shape[{0}] c_strides[{0}] a_strides[{0}] b_strides[{0}]".format(BINARY_NDIM))
runtime.register_op("cast", run_cast, prepare_cast, "y", "x", "n source")
runtime.register_op("copy", run_copy, prepare_copy, "y", "x",
                    "ndim shape[{0}] y_strides[{0}] x_strides[{0}] y_at? x_at?".format(COPY_NDIM))
runtime.register_op("fill", run_fill, prepare_fill, "y", "", "n", "value")
