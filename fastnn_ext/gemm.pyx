"""Matrix products with their epilogue: C = f(A B + C + bias).

Native ops
----------
gemm      buf: c, a, b, bias, saved, partial | NULL, panels | NULL
          dim: batch, m, n, k, a_row, a_col, a_batch, b_row, b_col, b_batch, c_row, c_batch, beta,
               act, act_grad
          scalar: alpha
gemm_sum  buf: c, partial, NULL, bias, saved   dim, scalar: as gemm's
gemm_pack buf: panels, NULL, b                   dim: as gemm's

C[i, j] = sum over k of A[i, k] B[k, j], plus C[i, j] if beta is 1, plus bias[j] unless bias is NULL;
then f(C) if act >= 0, C * f'(saved) if act_grad >= 0: kinds of fastnn_ext.activation, `alpha` is
theirs, `saved` is laid out as C. Strides in elements; C's column stride is 1. `batch` products, a
stride 0 of a_batch or b_batch gives all of them the same operand.

A row times a large matrix takes as long as memory needs to send the matrix, which it does fastest row
by row: with room for them in `partial`, of (row_parts, n), gemm writes the sums over some rows each
there, and gemm_sum adds them to C. Where A has more rows gemm_sum does nothing, and partial is not read.

Where a piece of C takes longer than a chunk may, as k is long, it is made in several rounds, each of which adds
some blocks of k to it.

The chunks of a large product read the same parts of B: with room for it in `panels` (packed_columns says
how much), gemm_pack copies B there once for all, as the kernel reads it. It does nothing for a product
that is not large: then each chunk copies what it reads, and panels is not read.
"""
from libc.math cimport sqrt
from libc.stdint cimport int64_t
from libc.string cimport memset

from fastnn_ext cimport runtime
from fastnn_ext.activation cimport act_backward, act_forward, backward_kernel, forward_kernel
from fastnn_ext.runtime cimport fnn_op, short_parts

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


# Places in fnn_op.dim; those from EXCHANGED on are set by prepare.
cdef enum:
    BATCH, M, N, K, A_ROW, A_COL, A_BATCH, B_ROW, B_COL, B_BATCH, C_ROW, C_BATCH, BETA, ACT, ACT_GRAD
    EXCHANGED   # C' = B' A' is computed: M to C_ROW are those of that product
    C_COL
    PACK_A
    DEPTH       # of a block of k, at most
    ROWS, COLS  # how many pieces C's rows and columns are cut into
    PARTS       # how many parts k is cut into, for a row
    PACKED      # whether gemm_pack has copied B
    STRIPS      # how many strips of columns a part is cut into

cdef enum:
    CHUNK_NS = 30000     # a chunk's aim
    LEAST_NS = 6000      # and what one of the two halves of a small product takes at least
    MIN_CHUNKS = 8       # a long product's chunks are longer: more of them would read and pack more often
    MOST_NS = 1000000    # but no larger pieces than these, in rounds: one is what a lost core, or a Ctrl-C, costs
    MOST_ROWS = 192      # of A in a chunk: over a block of k they take part of a core's L2
    PACKED_WORK = 1 << 24   # multiplications that B is copied for, at least
    PACKED_BYTES = 1 << 24  # of such a B, at most: the room for it is there for small batches, too
    PACKED_CHUNKS = 16      # as MIN_CHUNKS, where B is copied for all
    FAR_BYTES = 262144   # a B of more bytes does not stay in L2 between pieces
    LONG_ROW = 4096      # bytes of B's rows that a chunk of few rows of A reads at least
    PART_BYTES = 262144  # of B in a part, at least
    MOST_PARTS = 8
    STREAMED = 8         # rows that the kernel reads side by side
    SUM_COLS = 2048      # columns of a chunk of gemm_sum
    WIDEST = 32          # columns of a panel: a multiple of any ISA's
    PACKED_COLS = 256    # columns of a chunk of gemm_pack

# Nanoseconds for a float32 from memory, beside the one before it, or in a line of its own.
cdef double FAR_NS = 0.15, APART_NS = 0.35


cdef inline int64_t ceil_div(int64_t a, int64_t b) noexcept nogil:
    return (a + b - 1) // b


cdef inline void swap(int64_t *a, int64_t *b) noexcept nogil:
    cdef int64_t t = a[0]
    a[0] = b[0]
    b[0] = t


cdef bint exchange_pays(const fnn_op *op, const gemm_kernels *kernels) noexcept nogil:
    """Whether C' = B' A' is faster: the kernel's vectors run along n, here too short to fill them."""
    cdef int64_t n = op.dim[N]
    return n < kernels.nr and n % (kernels.nr // 2) != 0 and op.dim[M] > n


cdef bint packing_pays(const fnn_op *op, const gemm_kernels *kernels) noexcept nogil:
    """Whether A is better copied: read by many panels of B, and from lines that L1 cannot keep together.

    Rows that are a multiple of 4 KiB apart share a set of L1, and columns lie in a line each.
    """
    cdef int64_t size = 4 if op.dtype == 0 else 8
    if op.dim[M] < 2 * kernels.mr or op.dim[N] < 4 * kernels.nr:
        return False
    if op.dim[A_COL] == 1:
        return op.dim[A_ROW] * size % 4096 == 0
    return op.dim[K] >= 24 or op.dim[A_COL] * size % 1024 == 0


cdef inline bint is_large(int64_t m, int64_t n, int64_t k, int64_t size) noexcept nogil:
    """Whether several chunks read each part of B, and it pays to copy it for all of them."""
    return (2 * m >= 3 * MOST_ROWS and n >= 4 * WIDEST and k >= 64 and m * n * k >= PACKED_WORK
            and n * k * size <= PACKED_BYTES)


cdef void cut(fnn_op *op, const gemm_kernels *kernels, double rate) noexcept nogil:
    """Choose ROWS and COLS: pieces of a good size, and of the shape that copies least.

    A piece of (rows, cols) over all of k copies k * (rows + cols) values, those of A at another price
    than those of B, and they are cheapest where the prices of both sides are equal.
    """
    cdef int64_t m = op.dim[M], n = op.dim[N], panels = ceil_div(n, kernels.nr)
    cdef double k = max(<int64_t> 1, op.dim[K])
    cdef double ns = m * n * k / rate
    cdef double least = max(<double> LEAST_NS, min(<double> CHUNK_NS, ns / 2))
    cdef int64_t chunks = PACKED_CHUNKS if op.dim[PACKED] else MIN_CHUNKS
    cdef double area = max(least, min(<double> MOST_NS, ns / chunks)) * rate / k
    cdef double row_price = 0.3 if op.dim[PACK_A] else 0.05
    cdef double col_price = 0.08 if op.dim[B_COL] == 1 else 0.25
    if op.dim[PACKED]:
        col_price = 0.03
    elif n * k * (4 if op.dtype == 0 else 8) > FAR_BYTES:
        # Beyond L2, B is read from farther away each time that a piece of rows asks for it.
        col_price += 0.22
    cdef double most_rows = min(m, <int64_t> MOST_ROWS)
    cdef double rows = min(most_rows, sqrt(area * col_price / row_price))
    cdef double cols = min(<double> n, area / rows)
    rows = min(most_rows, area / cols)
    # No piece is without rows, or without a panel: a kernel of no tiles divides by their number.
    op.dim[ROWS] = max(<int64_t> 1, min(m, <int64_t> (m / rows + 0.5)))
    op.dim[COLS] = max(<int64_t> 1, min(panels, <int64_t> (n / cols + 0.5)))
    # An odd number of pieces leaves one of two threads idle for the time of one.
    if op.dim[ROWS] * op.dim[COLS] > 1 and op.dim[ROWS] % 2 and op.dim[COLS] % 2:
        if op.dim[COLS] < panels and op.dim[COLS] > op.dim[ROWS]:
            op.dim[COLS] += 1
        elif op.dim[ROWS] < m:
            op.dim[ROWS] += 1


cdef inline int64_t parts_of(int64_t n, int64_t k, int64_t size) noexcept nogil:
    """Into how many parts k is cut where a row is multiplied: by shape alone."""
    if n * size < LONG_ROW // 4:
        return 1
    return max(<int64_t> 1, min(n * k * size // PART_BYTES, min(<int64_t> MOST_PARTS, k // STREAMED)))


cdef inline int64_t row_parts_of(const fnn_op *op) noexcept nogil:
    if op.dim[BATCH] != 1 or op.dim[M] != 1 or op.dim[B_COL] != 1:
        return 1
    return parts_of(op.dim[N], op.dim[K], 4 if op.dtype == 0 else 8)


cdef void arrange(fnn_op *op, bint partial, bint packed) noexcept nogil:
    """What prepare does, with room for partial sums and for a copy of B or without."""
    cdef const gemm_kernels *kernels = gemm_table(op.isa, op.dtype)
    cdef double rate = kernels.rate, one
    cdef int64_t blocks
    op.kernels = kernels
    op.dim[PACKED] = 0
    if op.dim[M] == 0 or op.dim[N] == 0 or op.dim[BATCH] == 0:
        op.chunks = 0
        op.cost = 0
        return
    op.dim[C_COL] = 1
    op.dim[PARTS] = row_parts_of(op) if partial else 1
    op.dim[EXCHANGED] = exchange_pays(op, kernels)
    if op.dim[EXCHANGED]:
        swap(&op.dim[M], &op.dim[N])
        swap(&op.dim[A_ROW], &op.dim[B_COL])
        swap(&op.dim[A_COL], &op.dim[B_ROW])
        swap(&op.dim[A_BATCH], &op.dim[B_BATCH])
        swap(&op.dim[C_ROW], &op.dim[C_COL])
    op.dim[PACK_A] = packing_pays(op, kernels)
    op.dim[PACKED] = (packed and op.dim[BATCH] == 1
                      and is_large(op.dim[M], op.dim[N], op.dim[K], 4 if op.dtype == 0 else 8))
    if op.dim[M] < kernels.mr:  # few rows: each value of B serves few multiplications
        rate *= (op.dim[M] + 1.0) / (kernels.mr + 1.0)
    op.dim[DEPTH] = kernels.kc if op.dim[M] > 1 or op.dim[B_COL] != 1 else max(<int64_t> 1, op.dim[K])
    cut(op, kernels, rate)
    if op.dim[M] <= 3 and op.dim[B_COL] == 1:
        # B is read once, and memory likes its rows long.
        op.dim[COLS] = max(<int64_t> 1, min(op.dim[COLS], op.dim[N] * (4 if op.dtype == 0 else 8) // LONG_ROW))
    one = op.dim[M] * op.dim[N] * (op.dim[K] / rate + 0.5) + 20.0  # nanoseconds for a product
    op.cost = op.dim[BATCH] * one
    blocks = max(<int64_t> 1, ceil_div(op.dim[K], kernels.kc))
    one = piece_ns(op, kernels)
    if short_parts(one) > blocks:
        op.dim[COLS] = min(ceil_div(op.dim[N], kernels.nr), op.dim[COLS] * short_parts(one / blocks))
        one = piece_ns(op, kernels)
    op.chunks = op.dim[BATCH] * op.dim[ROWS] * op.dim[COLS]
    if op.dim[PARTS] > 1:
        one = op.dim[N] * (<double> op.dim[K] / op.dim[PARTS]) * max(1 / rate, FAR_NS if op.dtype == 0 else 2 * FAR_NS)
        op.dim[STRIPS] = max(<int64_t> 1, min(short_parts(one), op.dim[N] * (4 if op.dtype == 0 else 8) // LONG_ROW))
        one /= op.dim[STRIPS]
        op.chunks = op.dim[PARTS] * op.dim[STRIPS]
    op.rounds = min(short_parts(one), blocks)
    op.dim[DEPTH] = min(op.dim[DEPTH], max(<int64_t> 1, ceil_div(op.dim[K], op.rounds)))
    if one > CHUNK_NS:
        op.cost = max(op.cost, one * op.chunks)
    op.scratch = kernels.scratch_bytes(ceil_div(op.dim[M], op.dim[ROWS]), op.dim[PACK_A])


cdef double piece_ns(const fnn_op *op, const gemm_kernels *kernels) noexcept nogil:
    """What a piece takes, over all of k: its products, and reading what it multiplies from afar."""
    cdef double rows = ceil_div(op.dim[M], op.dim[ROWS])
    cdef double cols = ceil_div(ceil_div(op.dim[N], kernels.nr), op.dim[COLS]) * kernels.nr
    cdef double rate = kernels.rate * min(<double> 1, (rows + 1) / (kernels.mr + 1.0))
    cdef double copies = cols * (FAR_NS if op.dim[B_COL] == 1 or op.dim[PACKED] else APART_NS)
    if op.dim[PACK_A]:
        copies += rows * APART_NS
    return op.dim[K] * (rows * cols / rate + (copies if op.dtype == 0 else 2 * copies)) + 0.5 * rows * cols


cdef void prepare(fnn_op *op) noexcept nogil:
    arrange(op, op.buf[5] != NULL, op.buf[6] != NULL)


cdef inline int64_t first_col(const fnn_op *op, const gemm_kernels *kernels, int64_t piece) noexcept nogil:
    return min(op.dim[N], ceil_div(op.dim[N], kernels.nr) * piece // op.dim[COLS] * kernels.nr)


cdef inline int64_t k_blocks_of(const fnn_op *op) noexcept nogil:
    return max(<int64_t> 1, ceil_div(op.dim[K], op.dim[DEPTH]))


cdef inline char *panels_at(const fnn_op *op, const gemm_kernels *kernels, char *panels, int64_t block,
                            int64_t col) noexcept nogil:
    """Where the panels of a block of k from a column on lie; those of a block lie side by side."""
    cdef int64_t at = op.dim[K] * block // k_blocks_of(op), k = op.dim[K] * (block + 1) // k_blocks_of(op) - at
    return panels + (ceil_div(op.dim[N], kernels.nr) * kernels.nr * at + col * k) * (4 if op.dtype == 0 else 8)


cdef void finish(const fnn_op *op, int64_t offset, int64_t rows, int64_t cols, int64_t row) noexcept nogil:
    """The activation, or its gradient, over (rows, cols) of C that are still in cache."""
    cdef int64_t size = 4 if op.dtype == 0 else 8, i
    cdef act_forward forward = forward_kernel(<int> op.dim[ACT], op.isa, op.dtype)
    cdef act_backward backward = backward_kernel(<int> op.dim[ACT_GRAD], op.isa, op.dtype)
    cdef char *c = <char *> op.buf[0] + offset * size
    cdef char *saved = <char *> op.buf[4] + offset * size
    cdef int64_t step = row * size
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
    cdef int64_t size = 4 if op.dtype == 0 else 8, groups = ceil_div(op.dim[K], STREAMED)
    cdef int64_t part = chunk % op.chunks // op.dim[STRIPS], strip = chunk % op.dim[STRIPS], round = chunk // op.chunks
    cdef int64_t first = groups * part // op.dim[PARTS], more = groups * (part + 1) // op.dim[PARTS] - first
    cdef int64_t begin = (first + more * round // op.rounds) * STREAMED
    cdef int64_t end = min((first + more * (round + 1) // op.rounds) * STREAMED, op.dim[K])
    cdef int64_t col = op.dim[N] * strip // op.dim[STRIPS]
    cdef gemm_block block
    memset(&block, 0, sizeof(block))
    block.m = 1
    block.n = block.c_row = op.dim[N] * (strip + 1) // op.dim[STRIPS] - col
    block.k = end - begin
    block.a = <char *> op.buf[1] + begin * op.dim[A_COL] * size
    block.a_col = op.dim[A_COL]
    block.b = <char *> op.buf[2] + (begin * op.dim[B_ROW] + col) * size
    block.b_row = op.dim[B_ROW]
    block.b_col = block.c_col = 1
    block.c = <char *> op.buf[5] + (part * op.dim[N] + col) * size
    block.accumulate = round > 0
    kernels.multiply(&block)
    return 0


cdef int run(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    if op.dim[PARTS] > 1:
        return run_part(op, chunk)
    cdef const gemm_kernels *kernels = <const gemm_kernels *> op.kernels
    cdef int64_t size = 4 if op.dtype == 0 else 8
    cdef int64_t k = op.dim[K], k_blocks = k_blocks_of(op), p, at, round = chunk // op.chunks
    chunk = chunk % op.chunks
    cdef int64_t batch = chunk // (op.dim[ROWS] * op.dim[COLS])
    cdef int64_t row = chunk // op.dim[COLS] % op.dim[ROWS], col = chunk % op.dim[COLS]
    cdef int64_t i = op.dim[M] * row // op.dim[ROWS], j = first_col(op, kernels, col)
    cdef bint exchanged = op.dim[EXCHANGED]
    cdef char *a = <char *> op.buf[2 if exchanged else 1]
    cdef char *b = <char *> op.buf[1 if exchanged else 2]
    cdef int64_t offset
    cdef gemm_block block
    block.m = op.dim[M] * (row + 1) // op.dim[ROWS] - i
    block.n = first_col(op, kernels, col + 1) - j
    block.a_row = op.dim[A_ROW]
    block.a_col = op.dim[A_COL]
    block.b_row = op.dim[B_ROW]
    block.b_col = op.dim[B_COL]
    block.c_row = op.dim[C_ROW]
    block.c_col = op.dim[C_COL]
    block.exchanged = exchanged
    block.pack_a = op.dim[PACK_A]
    block.panels = NULL
    block.scratch = scratch
    block.bias = NULL
    offset = batch * op.dim[C_BATCH] + i * block.c_row + j * block.c_col
    block.c = <char *> op.buf[0] + offset * size
    for p in range(k_blocks * round // op.rounds, k_blocks * (round + 1) // op.rounds):
        at = k * p // k_blocks
        block.k = k * (p + 1) // k_blocks - at
        block.a = a + (batch * op.dim[A_BATCH] + i * block.a_row + at * block.a_col) * size
        block.b = b + (batch * op.dim[B_BATCH] + at * block.b_row + j * block.b_col) * size
        block.accumulate = p > 0 or op.dim[BETA]
        if p == k_blocks - 1 and op.buf[3] != NULL:
            block.bias = <char *> op.buf[3] + (i if exchanged else j) * size
        if op.dim[PACKED]:
            block.panels = panels_at(op, kernels, <char *> op.buf[6], p, j)
        kernels.multiply(&block)
    if round < op.rounds - 1:
        return 0
    if exchanged:
        finish(op, offset, block.n, block.m, block.c_col)
    else:
        finish(op, offset, block.m, block.n, block.c_row)
    return 0


cdef float[MOST_PARTS] ONES = [1, 1, 1, 1, 1, 1, 1, 1]
cdef double[MOST_PARTS] DOUBLE_ONES = [1, 1, 1, 1, 1, 1, 1, 1]


cdef void prepare_sum(fnn_op *op) noexcept nogil:
    op.kernels = gemm_table(op.isa, op.dtype)
    op.dim[C_COL] = 1
    op.dim[PARTS] = row_parts_of(op)
    op.chunks = ceil_div(op.dim[N], SUM_COLS) if op.dim[PARTS] > 1 else 0
    op.scratch = 0
    op.cost = 20 + 0.05 * op.dim[N] * op.dim[PARTS]


cdef int run_sum(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    """The parts' sums: a row of ones times them."""
    cdef const gemm_kernels *kernels = <const gemm_kernels *> op.kernels
    cdef int64_t size = 4 if op.dtype == 0 else 8, first = chunk * SUM_COLS
    cdef gemm_block block
    memset(&block, 0, sizeof(block))
    block.m = 1
    block.n = min(op.dim[N] - first, <int64_t> SUM_COLS)
    block.k = op.dim[PARTS]
    block.a = <const void *> &ONES[0] if op.dtype == 0 else <const void *> &DOUBLE_ONES[0]
    block.a_col = block.b_col = block.c_col = 1
    block.b = <char *> op.buf[1] + first * size
    block.b_row = op.dim[N]
    block.c = <char *> op.buf[0] + first * size
    block.c_row = op.dim[N]
    block.accumulate = op.dim[BETA]
    if op.buf[3] != NULL:
        block.bias = <char *> op.buf[3] + first * size
    kernels.multiply(&block)
    finish(op, first, 1, block.n, op.dim[N])
    return 0


cdef void prepare_pack(fnn_op *op) noexcept nogil:
    arrange(op, False, True)
    op.chunks = k_blocks_of(op) * ceil_div(op.dim[N], PACKED_COLS) if op.dim[PACKED] else 0
    op.rounds = 1
    op.cost = 20 + 0.2 * op.dim[K] * op.dim[N]
    op.scratch = 0


cdef int run_pack(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    """Some of B's columns, over a block of k."""
    cdef const gemm_kernels *kernels = <const gemm_kernels *> op.kernels
    cdef int64_t size = 4 if op.dtype == 0 else 8, k_blocks = k_blocks_of(op)
    cdef int64_t p = chunk % k_blocks, col = chunk // k_blocks * PACKED_COLS, at = op.dim[K] * p // k_blocks
    cdef gemm_block block
    memset(&block, 0, sizeof(block))
    block.n = min(op.dim[N] - col, <int64_t> PACKED_COLS)
    block.k = op.dim[K] * (p + 1) // k_blocks - at
    block.b_row = op.dim[B_ROW]
    block.b_col = op.dim[B_COL]
    block.b = <char *> op.buf[2] + (at * block.b_row + col * block.b_col) * size
    kernels.pack_panels(&block, panels_at(op, kernels, <char *> op.buf[0], p, col))
    return 0


PRODUCT = "batch m n k a_row a_col a_batch b_row b_col b_batch c_row c_batch accumulate? act act_grad"

runtime.register_op("gemm", run, prepare, "c", "a b bias? saved? +partial? panels?", PRODUCT, "alpha beta")
runtime.register_op("gemm_pack", run_pack, prepare_pack, "panels", "a? b", PRODUCT, "alpha beta")
runtime.register_op("gemm_sum", run_sum, prepare_sum, "c", "partial b? bias? saved?", PRODUCT, "alpha beta")


def _check_sizes(**sizes):
    """Refuses sizes that are negative (an itemsize of 0 too), or larger than any memory."""
    for name, size in sizes.items():
        if not (name == "itemsize") <= size <= (8 if name == "itemsize" else 1 << 40):
            raise ValueError(f"{name} must be at least {int(name == 'itemsize')}, and no more than memory holds, "
                             f"got {size}")


def row_parts(int64_t n, int64_t k, int64_t itemsize):
    """How many rows `partial` has where a row is multiplied by k rows of n values of itemsize bytes; 1: none
    is needed."""
    _check_sizes(n=n, k=k, itemsize=itemsize)
    return parts_of(n, k, itemsize)


def packed_columns(int64_t m, int64_t n, int64_t k, int64_t itemsize):
    """How many columns `panels`, of k rows, has on any ISA for a product; 0: it is not large, and needs none."""
    _check_sizes(m=m, n=n, k=k, itemsize=itemsize)
    return ceil_div(n, WIDEST) * WIDEST if is_large(m, n, k, itemsize) else 0


cdef object checked(str name, object array, int ndim, object dtype):
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array, got {type(array).__name__}")
    if array.dtype != dtype:
        raise TypeError(f"{name} must be {dtype}, as a is, got {array.dtype}")
    if array.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} dimensions, got shape {array.shape}")
    if not array.flags.aligned:
        raise ValueError(f"{name} must be aligned")
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
        With any non-negative strides; aligned, as all arrays here.
    b : ndarray, shape (k, n) or (batch, k, n)
        As many dimensions as `a`; a batch of 1 in either is used for all products.
    bias : ndarray, shape (n,), optional
        Contiguous; added to each row.
    transpose_a, transpose_b : bool, default False
        `a` is given as (..., k, m), or `b` as (..., n, k).
    out : ndarray, shape (m, n) or (batch, m, n), optional
        Where C goes; its columns lie side by side. It must not overlap the other arrays.
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
        If shapes or strides do not fit, or arrays overlap.
    """
    cdef fnn_op op, pack
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
    for name, array in (("a", a), ("b", b), ("bias", bias), ("saved", saved)):
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
    columns = packed_columns(m, n, k, size) if batch == 1 else 0
    if columns:
        panels = np.empty((k, columns), dtype)
        pack = op
        pack.buf[0] = data(panels)
        runtime.run_one("gemm_pack", &pack)
        op.buf[6] = data(panels)
    parts = row_parts_of(&op)
    if parts > 1:
        partial = np.empty((parts, n), dtype)
        op.buf[5] = data(partial)
    runtime.run_one("gemm", &op)
    if parts > 1:
        op.buf[1] = op.buf[5]
        op.buf[2] = NULL
        runtime.run_one("gemm_sum", &op)
    return out
