"""Matrix products with their epilogue: C = f(A B + bias).

gemm makes `batch` products C (m, n) of A (m, k) and B (k, n). a_row, a_col and a_batch are A's strides from a row, a
column and a product to the next; C's columns lie side by side. An operand whose batch stride is 0 is that of all
products. `bias` (n,) is added to each row.

f is the activation `act`; with `act_grad` its derivative instead: C = (A B + bias) * f'(saved), where `saved` lies as C
does. Both are kinds of fastnn_ext.activation, or -1, and alpha and beta are their settings.

`partial` (row_parts, n) is for A of a single row. Such a product takes as long as memory needs to send B, which it
does fastest row by row: gemm leaves the sums over some rows of B each in `partial`, and gemm_sum makes C of them. Where
A has more rows, gemm makes C itself, and gemm_sum does nothing.

`panels` (k, packed_columns) is for a large product, whose chunks read the same parts of B: gemm_pack copies B there, as
the kernel reads it, once for all of them. For a product that is not large (the batch may be small) it does nothing, and
each chunk copies what it reads.

Where a piece of C takes longer than a chunk may, as k is long, it is made in several rounds, each of which adds some
blocks of k to it.
"""
from libc.math cimport sqrt
from libc.stdint cimport int64_t
from libc.string cimport memset

from fastnn_ext cimport runtime
from fastnn_ext.activation cimport act_backward, act_forward, backward_kernel, forward_kernel
from fastnn_ext.driver cimport at, ceil_div, item_size
from fastnn_ext.runtime cimport FNN_MOST_NS, fnn_op, short_parts


cdef extern from "simd/gemm.h" nogil:
    struct gemm_block:
        int64_t m, n, k
        const void *a
        int64_t a_row, a_col
        const void *b
        int64_t b_row, b_col
        void *c
        int64_t c_row, c_col
        const void *bias
        int64_t exchanged, accumulate, pack_a
        const void *panels
        void *scratch
    struct gemm_kernels:
        int64_t mr, nr, kc
        double rate
        int64_t (*scratch_bytes)(int64_t m, int64_t pack_a) noexcept nogil
        void (*pack_panels)(const gemm_block *block, void *panels) noexcept nogil
        void (*multiply)(const gemm_block *block) noexcept nogil
    const gemm_kernels *gemm_table(int isa, int dtype)


# Places in fnn_op.buf: of gemm, gemm_pack and gemm_sum.
cdef enum: C, PARTIAL, A, B, BIAS, SAVED, PANELS
cdef enum: PACK_PANELS, PACK_B
cdef enum: SUM_C, SUM_PARTIAL, SUM_BIAS, SUM_SAVED
# Places in fnn_op.dim; those from EXCHANGED on are set by prepare.
cdef enum:
    BATCH, M, N, K, A_ROW, A_COL, A_BATCH, B_ROW, B_COL, B_BATCH, C_ROW, C_BATCH, ACT, ACT_GRAD
    EXCHANGED   # C' = B' A' is computed: M to C_ROW are those of that product
    C_COL
    A_PACKED    # whether each chunk copies what it reads of A
    B_PACKED    # whether gemm_pack has copied B
    DEPTH       # of a block of k, at most
    ROW_PIECES  # that C's rows are cut into
    COL_PIECES  # that C's columns are cut into
    PARTS       # that k is cut into, for a single row
    STRIPS      # of columns, that a part is cut into

cdef enum:
    CHUNK_NS = 30000     # a chunk's aim
    LEAST_NS = 6000      # and what one of the two halves of a small product takes at least
    MIN_CHUNKS = 8       # a long product's chunks are longer: more of them would read and pack more often
    PACKED_CHUNKS = 16   # as MIN_CHUNKS, where B is copied for all
    PIECE_CHUNKS = 2     # as long as a chunk may be, one a round, in a piece: a larger one reads and packs less often
    MOST_ROWS = 192      # of A in a chunk: over a block of k they take part of a core's L2
    FAR_BYTES = 262144   # a B of more bytes does not stay in L2 between pieces
    SET_BYTES = 4096     # what lies a multiple of this apart shares a set of L1
    MANY_COLS = 24       # of A, whose lines L1 does not keep together
    WIDEST = 32          # columns of a panel: a multiple of any ISA's
    PACKED_COLS = 256    # columns of a chunk of gemm_pack
    SUM_COLS = 2048      # columns of a chunk of gemm_sum
# Of a product whose B is copied for all chunks, at least: several chunks read each part of it, and the copy is small
# beside the multiplications.
cdef enum:
    LARGE_M = MOST_ROWS * 3 // 2
    LARGE_N = 4 * WIDEST
    LARGE_K = 64
    LARGE_WORK = 1 << 24   # multiplications
    LARGE_BYTES = 1 << 24  # of such a B, at most: the room for it is there for small batches, too
# Of a product of one row, or of few.
cdef enum:
    FEW_ROWS = 3         # of A, which the kernel multiplies by B where it lies
    LONG_ROW = 4096      # bytes of B's rows that a chunk reads at least, as memory likes them long
    SHORT_ROW = 1024     # bytes of B's rows: where they are shorter, k is not cut into parts
    PART_BYTES = 262144  # of B in a part, at least
    MOST_PARTS = 8
    STREAMED = 8         # rows of B that the kernel reads side by side

# Estimates of nanoseconds: for a float32 from memory, beside the one before it or in a line of its own; for an element
# of C that is written, of `partial` that is added, of B that gemm_pack copies; for a product beside its elements.
cdef double FAR_NS = 0.15
cdef double APART_NS = 0.35
cdef double WRITE_NS = 0.5
cdef double ADD_NS = 0.05
cdef double PACK_NS = 0.2
cdef double PRODUCT_NS = 20.0
# What a piece of C pays for a value of A, read where it lies or copied; and for one of B, copied from columns that lie
# side by side or apart, or read from panels; and what is added where B comes from beyond L2, for each piece of rows.
cdef double A_PRICE = 0.05
cdef double PACKED_A_PRICE = 0.3
cdef double B_PRICE = 0.08
cdef double APART_B_PRICE = 0.25
cdef double PANELS_PRICE = 0.03
cdef double FAR_B_PRICE = 0.22


cdef inline void swap(int64_t *a, int64_t *b) noexcept nogil:
    cdef int64_t t = a[0]
    a[0] = b[0]
    b[0] = t


# ---- how a product is cut ---------------------------------------------------------------------

cdef bint exchange_pays(const fnn_op *op, const gemm_kernels *kernels) noexcept nogil:
    """Whether C' = B' A' is faster: the kernel's vectors run along n, here too short to fill them."""
    cdef int64_t n = op.dim[N]
    return n < kernels.nr and n % (kernels.nr // 2) != 0 and op.dim[M] > n


cdef bint packing_pays(const fnn_op *op, const gemm_kernels *kernels) noexcept nogil:
    """Whether A is better copied: read by several panels of B, and from lines that L1 cannot keep together.

    Rows a multiple of SET_BYTES apart share a set of L1. Columns lie in lines of their own: too many of them are as
    bad, and so are fewer that share some sets.
    """
    if op.dim[M] < 2 * kernels.mr or op.dim[N] < 4 * kernels.nr:
        return False
    if op.dim[A_COL] == 1:
        return op.dim[A_ROW] * item_size(op) % SET_BYTES == 0
    return op.dim[K] >= MANY_COLS or op.dim[A_COL] * item_size(op) % (SET_BYTES // 4) == 0


cdef inline bint is_large(int64_t m, int64_t n, int64_t k, int64_t size) noexcept nogil:
    """Whether it pays to copy B for all chunks."""
    return (m >= LARGE_M and n >= LARGE_N and k >= LARGE_K and n <= LARGE_BYTES // (k * size)
            and m * n * k >= LARGE_WORK)


cdef inline int64_t parts_of(int64_t n, int64_t k, int64_t size) noexcept nogil:
    """Into how many parts k is cut where a row is multiplied: by shape alone."""
    if n * size < SHORT_ROW:
        return 1
    cdef double parts = min(<double> MOST_PARTS, <double> n * k * size / PART_BYTES)
    return max(<int64_t> 1, min(<int64_t> parts, k // STREAMED))


cdef inline int64_t row_parts_of(const fnn_op *op) noexcept nogil:
    if op.dim[BATCH] != 1 or op.dim[M] != 1 or op.dim[B_COL] != 1:
        return 1
    return parts_of(op.dim[N], op.dim[K], item_size(op))


cdef inline int64_t long_rows(const fnn_op *op) noexcept nogil:
    """Into how many pieces B's rows are cut at most, where memory shall send them."""
    return max(<int64_t> 1, op.dim[N] * item_size(op) // LONG_ROW)


cdef void cut(fnn_op *op, const gemm_kernels *kernels, double rate) noexcept nogil:
    """Choose ROW_PIECES and COL_PIECES: pieces of a good size, and of the shape that copies least.

    A piece of (rows, cols) over all of k copies k * (rows + cols) values, those of A at another price
    than those of B, and they are cheapest where the prices of both sides are equal.
    """
    cdef int64_t m = op.dim[M], n = op.dim[N], panels = ceil_div(n, kernels.nr)
    cdef double k = max(<int64_t> 1, op.dim[K])
    cdef double ns = m * n * k / rate
    cdef double least = max(<double> LEAST_NS, min(<double> CHUNK_NS, ns / 2))
    cdef int64_t chunks = PACKED_CHUNKS if op.dim[B_PACKED] else MIN_CHUNKS
    cdef double area = max(least, min(<double> PIECE_CHUNKS * FNN_MOST_NS, ns / chunks)) * rate / k
    cdef double row_price = PACKED_A_PRICE if op.dim[A_PACKED] else A_PRICE
    cdef double col_price = B_PRICE if op.dim[B_COL] == 1 else APART_B_PRICE
    if op.dim[B_PACKED]:
        col_price = PANELS_PRICE
    elif n * k * item_size(op) > FAR_BYTES:
        col_price += FAR_B_PRICE
    cdef double most_rows = min(m, <int64_t> MOST_ROWS)
    cdef double rows = min(most_rows, sqrt(area * col_price / row_price))
    cdef double cols = min(<double> n, area / rows)
    rows = min(most_rows, area / cols)
    # No piece is without rows, or without a panel: a kernel of no tiles divides by their number.
    op.dim[ROW_PIECES] = max(<int64_t> 1, min(m, <int64_t> (m / rows + 0.5)))
    op.dim[COL_PIECES] = max(<int64_t> 1, min(panels, <int64_t> (n / cols + 0.5)))
    # An odd number of pieces leaves one of two threads idle for the time of one.
    if op.dim[ROW_PIECES] * op.dim[COL_PIECES] > 1 and op.dim[ROW_PIECES] % 2 and op.dim[COL_PIECES] % 2:
        if op.dim[COL_PIECES] < panels and op.dim[COL_PIECES] > op.dim[ROW_PIECES]:
            op.dim[COL_PIECES] += 1
        elif op.dim[ROW_PIECES] < m:
            op.dim[ROW_PIECES] += 1


cdef double piece_ns(const fnn_op *op, const gemm_kernels *kernels) noexcept nogil:
    """What a piece takes, over all of k: its products, and reading what it multiplies from afar."""
    cdef double rows = ceil_div(op.dim[M], op.dim[ROW_PIECES])
    cdef double cols = ceil_div(ceil_div(op.dim[N], kernels.nr), op.dim[COL_PIECES]) * kernels.nr
    cdef double rate = kernels.rate * min(<double> 1, (rows + 1) / (kernels.mr + 1.0))
    cdef double copies = cols * (FAR_NS if op.dim[B_COL] == 1 or op.dim[B_PACKED] else APART_NS)
    if op.dim[A_PACKED]:
        copies += rows * APART_NS
    return op.dim[K] * (rows * cols / rate + (copies if op.dtype == 0 else 2 * copies)) + WRITE_NS * rows * cols


cdef void arrange(fnn_op *op, bint has_partial, bint has_panels) noexcept nogil:
    """How a product is computed, by its sizes and by the room that there is. gemm and gemm_pack ask for the same."""
    cdef const gemm_kernels *kernels = gemm_table(op.isa, op.dtype)
    cdef double rate = kernels.rate, ns
    cdef int64_t k_blocks
    op.kernels = kernels
    op.dim[B_PACKED] = False
    if op.dim[M] == 0 or op.dim[N] == 0 or op.dim[BATCH] == 0:
        op.chunks = 0
        op.cost = 0
        return
    op.dim[C_COL] = 1
    op.dim[PARTS] = row_parts_of(op) if has_partial else 1
    op.dim[EXCHANGED] = exchange_pays(op, kernels)
    if op.dim[EXCHANGED]:
        swap(&op.dim[M], &op.dim[N])
        swap(&op.dim[A_ROW], &op.dim[B_COL])
        swap(&op.dim[A_COL], &op.dim[B_ROW])
        swap(&op.dim[A_BATCH], &op.dim[B_BATCH])
        swap(&op.dim[C_ROW], &op.dim[C_COL])
    op.dim[A_PACKED] = packing_pays(op, kernels)
    op.dim[B_PACKED] = (has_panels and op.dim[BATCH] == 1
                        and is_large(op.dim[M], op.dim[N], op.dim[K], item_size(op)))
    if op.dim[M] < kernels.mr:  # few rows: each value of B serves few multiplications
        rate *= (op.dim[M] + 1.0) / (kernels.mr + 1.0)
    op.dim[DEPTH] = kernels.kc if op.dim[M] > 1 or op.dim[B_COL] != 1 else max(<int64_t> 1, op.dim[K])
    cut(op, kernels, rate)
    if op.dim[M] <= FEW_ROWS and op.dim[B_COL] == 1:
        op.dim[COL_PIECES] = min(op.dim[COL_PIECES], long_rows(op))
    op.cost = op.dim[BATCH] * (op.dim[M] * op.dim[N] * (op.dim[K] / rate + WRITE_NS) + PRODUCT_NS)
    k_blocks = max(<int64_t> 1, ceil_div(op.dim[K], kernels.kc))
    ns = piece_ns(op, kernels)
    if short_parts(ns) > k_blocks:  # rounds alone would not do
        op.dim[COL_PIECES] = min(ceil_div(op.dim[N], kernels.nr), op.dim[COL_PIECES] * short_parts(ns / k_blocks))
        ns = piece_ns(op, kernels)
    op.chunks = op.dim[BATCH] * op.dim[ROW_PIECES] * op.dim[COL_PIECES]
    if op.dim[PARTS] > 1:
        ns = op.dim[N] * (<double> op.dim[K] / op.dim[PARTS]) * max(1 / rate, FAR_NS if op.dtype == 0 else 2 * FAR_NS)
        op.dim[STRIPS] = min(short_parts(ns), long_rows(op))
        ns /= op.dim[STRIPS]
        op.chunks = op.dim[PARTS] * op.dim[STRIPS]
    op.rounds = min(short_parts(ns), k_blocks)
    op.dim[DEPTH] = min(op.dim[DEPTH], max(<int64_t> 1, ceil_div(op.dim[K], op.rounds)))
    if ns > CHUNK_NS:
        op.cost = max(op.cost, ns * op.chunks)
    op.scratch = kernels.scratch_bytes(ceil_div(op.dim[M], op.dim[ROW_PIECES]), op.dim[A_PACKED])


cdef inline int64_t first_col(const fnn_op *op, const gemm_kernels *kernels, int64_t piece) noexcept nogil:
    """Pieces of columns begin where panels do."""
    return min(op.dim[N], ceil_div(op.dim[N], kernels.nr) * piece // op.dim[COL_PIECES] * kernels.nr)


cdef inline int64_t k_blocks_of(const fnn_op *op) noexcept nogil:
    return max(<int64_t> 1, ceil_div(op.dim[K], op.dim[DEPTH]))


cdef inline int64_t k_begin(const fnn_op *op, int64_t block) noexcept nogil:
    """Where a block of k begins, and the one before it ends."""
    return op.dim[K] * block // k_blocks_of(op)


cdef inline int64_t panels_begin(const fnn_op *op, const gemm_kernels *kernels, int64_t block,
                                 int64_t col) noexcept nogil:
    """Where the panels of a block of k lie, from a column on; those of a block lie side by side."""
    cdef int64_t begin = k_begin(op, block), depth = k_begin(op, block + 1) - begin
    return ceil_div(op.dim[N], kernels.nr) * kernels.nr * begin + col * depth


# ---- gemm -------------------------------------------------------------------------------------

cdef void prepare(fnn_op *op) noexcept nogil:
    arrange(op, op.buf[PARTIAL] != NULL, op.buf[PANELS] != NULL)


cdef void finish(const fnn_op *op, char *c, const char *saved, int64_t rows, int64_t cols, int64_t row) noexcept nogil:
    """The activation, or its gradient, over (rows, cols) of C that are still in cache; `row` is its stride."""
    cdef act_forward forward = forward_kernel(<int> op.dim[ACT], op.isa, op.dtype)
    cdef act_backward backward = backward_kernel(<int> op.dim[ACT_GRAD], op.isa, op.dtype)
    cdef int64_t step = row * item_size(op), i
    if cols == row:
        cols *= rows
        rows = 1
    if forward != NULL:
        for i in range(rows):
            forward(c + i * step, c + i * step, cols, op.scalar)
    if backward != NULL:
        for i in range(rows):
            backward(c + i * step, c + i * step, saved + i * step, cols, op.scalar)


cdef int run_part(const fnn_op *op, int64_t chunk) noexcept nogil:
    """Some rows of B, for a single row of A, and of these a strip of columns."""
    cdef const gemm_kernels *kernels = <const gemm_kernels *> op.kernels
    cdef int64_t part = chunk % op.chunks // op.dim[STRIPS], strip = chunk % op.dim[STRIPS], round = chunk // op.chunks
    # Of groups of rows that are read side by side: those of the part, of which a round takes some.
    cdef int64_t groups = ceil_div(op.dim[K], STREAMED), first = groups * part // op.dim[PARTS]
    cdef int64_t count = groups * (part + 1) // op.dim[PARTS] - first
    cdef int64_t begin = (first + count * round // op.rounds) * STREAMED
    cdef int64_t end = min((first + count * (round + 1) // op.rounds) * STREAMED, op.dim[K])
    cdef int64_t col = op.dim[N] * strip // op.dim[STRIPS]
    cdef gemm_block block
    memset(&block, 0, sizeof(block))
    block.m = 1
    block.n = block.c_row = op.dim[N] * (strip + 1) // op.dim[STRIPS] - col
    block.k = end - begin
    block.a = at(op, A, begin * op.dim[A_COL])
    block.a_col = op.dim[A_COL]
    block.b = at(op, B, begin * op.dim[B_ROW] + col)
    block.b_row = op.dim[B_ROW]
    block.b_col = block.c_col = 1
    block.c = at(op, PARTIAL, part * op.dim[N] + col)
    block.accumulate = round > 0
    kernels.multiply(&block)
    return 0


cdef int run(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    """A piece of C, block of k after block of k."""
    if op.dim[PARTS] > 1:
        return run_part(op, chunk)
    cdef const gemm_kernels *kernels = <const gemm_kernels *> op.kernels
    cdef int64_t round = chunk // op.chunks, piece = chunk % op.chunks
    cdef int64_t row = piece // op.dim[COL_PIECES] % op.dim[ROW_PIECES], col = piece % op.dim[COL_PIECES]
    cdef int64_t product = piece // (op.dim[ROW_PIECES] * op.dim[COL_PIECES])
    cdef int64_t i = op.dim[M] * row // op.dim[ROW_PIECES], j = first_col(op, kernels, col)
    cdef int64_t k_blocks = k_blocks_of(op), p, k, offset
    cdef bint exchanged = op.dim[EXCHANGED]
    cdef int a = B if exchanged else A, b = A if exchanged else B
    cdef gemm_block block
    memset(&block, 0, sizeof(block))
    block.m = op.dim[M] * (row + 1) // op.dim[ROW_PIECES] - i
    block.n = first_col(op, kernels, col + 1) - j
    block.a_row = op.dim[A_ROW]
    block.a_col = op.dim[A_COL]
    block.b_row = op.dim[B_ROW]
    block.b_col = op.dim[B_COL]
    block.c_row = op.dim[C_ROW]
    block.c_col = op.dim[C_COL]
    block.exchanged = exchanged
    block.pack_a = op.dim[A_PACKED]
    block.scratch = scratch
    offset = product * op.dim[C_BATCH] + i * block.c_row + j * block.c_col
    block.c = at(op, C, offset)
    for p in range(k_blocks * round // op.rounds, k_blocks * (round + 1) // op.rounds):
        k = k_begin(op, p)
        block.k = k_begin(op, p + 1) - k
        block.a = at(op, a, product * op.dim[A_BATCH] + i * block.a_row + k * block.a_col)
        block.b = at(op, b, product * op.dim[B_BATCH] + k * block.b_row + j * block.b_col)
        block.accumulate = p > 0
        if p == k_blocks - 1:
            block.bias = at(op, BIAS, i if exchanged else j)
        if op.dim[B_PACKED]:
            block.panels = at(op, PANELS, panels_begin(op, kernels, p, j))
        kernels.multiply(&block)
    if round < op.rounds - 1:
        return 0
    if exchanged:
        finish(op, at(op, C, offset), at(op, SAVED, offset), block.n, block.m, block.c_col)
    else:
        finish(op, at(op, C, offset), at(op, SAVED, offset), block.m, block.n, block.c_row)
    return 0


# ---- gemm_pack, before it ---------------------------------------------------------------------

cdef void prepare_pack(fnn_op *op) noexcept nogil:
    arrange(op, False, True)
    op.chunks = k_blocks_of(op) * ceil_div(op.dim[N], PACKED_COLS) if op.dim[B_PACKED] else 0
    op.rounds = 1
    op.cost = PRODUCT_NS + PACK_NS * op.dim[K] * op.dim[N]
    op.scratch = 0


cdef int run_pack(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    """Some of B's columns, over a block of k."""
    cdef const gemm_kernels *kernels = <const gemm_kernels *> op.kernels
    cdef int64_t k_blocks = k_blocks_of(op), p = chunk % k_blocks, k = k_begin(op, p)
    cdef int64_t col = chunk // k_blocks * PACKED_COLS
    cdef gemm_block block
    memset(&block, 0, sizeof(block))
    block.n = min(op.dim[N] - col, <int64_t> PACKED_COLS)
    block.k = k_begin(op, p + 1) - k
    block.b_row = op.dim[B_ROW]
    block.b_col = op.dim[B_COL]
    block.b = at(op, PACK_B, k * block.b_row + col * block.b_col)
    kernels.pack_panels(&block, at(op, PACK_PANELS, panels_begin(op, kernels, p, col)))
    return 0


# ---- gemm_sum, after it -----------------------------------------------------------------------

cdef float ONE = 1
cdef double DOUBLE_ONE = 1


cdef void prepare_sum(fnn_op *op) noexcept nogil:
    op.kernels = gemm_table(op.isa, op.dtype)
    op.dim[PARTS] = row_parts_of(op)
    op.chunks = ceil_div(op.dim[N], SUM_COLS) if op.dim[PARTS] > 1 else 0
    op.scratch = 0
    op.cost = PRODUCT_NS + ADD_NS * op.dim[N] * op.dim[PARTS]


cdef int run_sum(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    """The sum of the parts: a row of ones, which are the same one, times them."""
    cdef const gemm_kernels *kernels = <const gemm_kernels *> op.kernels
    cdef int64_t col = chunk * SUM_COLS
    cdef gemm_block block
    memset(&block, 0, sizeof(block))
    block.m = 1
    block.n = min(op.dim[N] - col, <int64_t> SUM_COLS)
    block.k = op.dim[PARTS]
    block.a = <const void *> &ONE if op.dtype == 0 else <const void *> &DOUBLE_ONE
    block.b = at(op, SUM_PARTIAL, col)
    block.b_row = op.dim[N]
    block.b_col = block.c_col = 1
    block.c = at(op, SUM_C, col)
    block.c_row = op.dim[N]
    block.bias = at(op, SUM_BIAS, col)
    kernels.multiply(&block)
    finish(op, at(op, SUM_C, col), at(op, SUM_SAVED, col), 1, block.n, op.dim[N])
    return 0


PRODUCT = "batch m n k a_row a_col a_batch b_row b_col b_batch c_row c_batch"
EPILOGUE = " act act_grad"

runtime.register_op("gemm", run, prepare, "c partial?", "a b bias? saved? panels?", PRODUCT + EPILOGUE, "alpha beta")
runtime.register_op("gemm_pack", run_pack, prepare_pack, "panels", "b", PRODUCT)
runtime.register_op("gemm_sum", run_sum, prepare_sum, "c", "partial bias? saved?", PRODUCT + EPILOGUE, "alpha beta")


def _check_sizes(itemsize, **sizes):
    """Refuses sizes that are negative, or larger than any memory."""
    if itemsize not in (4, 8):
        raise ValueError(f"itemsize must be 4 or 8, got {itemsize}")
    for name, size in sizes.items():
        if not 0 <= size <= 1 << 40:
            raise ValueError(f"{name} must be at least 0, and no more than memory holds, got {size}")


def row_parts(int64_t n, int64_t k, int64_t itemsize):
    """How many rows `partial` has where a row is multiplied by k rows of n values of itemsize bytes; 1: none
    is needed."""
    _check_sizes(itemsize, n=n, k=k)
    return parts_of(n, k, itemsize)


def packed_columns(int64_t m, int64_t n, int64_t k, int64_t itemsize):
    """How many columns `panels`, of k rows, has on any ISA for a product; 0: it is not large, and needs none."""
    _check_sizes(itemsize, m=m, n=n, k=k)
    return ceil_div(n, WIDEST) * WIDEST if is_large(m, n, k, itemsize) else 0
