"""Batch, group, layer and local response norm: y = (x - mean) / deviation * weight + bias, and gradients.

Activations are channels-last; `rows` is all that stands before the channels. Statistics over rows are
taken in pieces, each summed in a fixed order, which a later op combines in a fixed order. xhat is
(x - mean) invstd, g is dy times the gradient of the activation.

Native ops
----------
batch_norm_stats        buf: partial (PIECES, 2, channels), x
                        dim: rows, channels
batch_norm_finish       buf: mean (channels), invstd (channels), var (channels) | NULL, partial, x
                        dim: rows, channels  scalar: eps
batch_norm_running      buf: running_mean, running_var, batches (int64) | NULL, mean, var
                        dim: rows, channels  scalar: momentum
batch_norm_invstd       buf: invstd, var
                        dim: channels  scalar: eps
batch_norm_apply        buf: y, x, mean, invstd, weight | NULL, bias | NULL, residual | NULL
                        dim: rows, channels, act  scalar: alpha
batch_norm_eval         buf: y, x, running_mean, running_var, weight | NULL, bias | NULL, residual | NULL
                        dim: rows, channels, act  scalar: alpha, eps
batch_norm_grad_stats   buf: partial (PIECES, 2, channels), dy, x, mean, invstd, y | NULL
                        dim: rows, channels, act  scalar: alpha
batch_norm_grad_finish  buf: dweight | NULL, dbias | NULL, sums (2, channels) | NULL, partial
                        dim: rows, channels
batch_norm_grad_apply   buf: dx | NULL, dresidual | NULL, dy, x, mean, invstd, weight | NULL, sums, y | NULL
                        dim: rows, channels, act  scalar: alpha

group_norm_stats        buf: partial (n, pieces, 2, channels), x
                        dim: n, rows, channels
group_norm_finish       buf: mean (n, groups), invstd (n, groups), partial, x
                        dim: n, rows, channels, groups  scalar: eps
group_norm_apply        buf: y, x, mean, invstd, weight | NULL, bias | NULL, residual | NULL
                        dim: n, rows, channels, groups, act  scalar: alpha
group_norm_grad_stats   buf: partial (n, pieces, 2, channels), dy, x, mean, invstd, y | NULL
                        dim: n, rows, channels, groups, act  scalar: alpha
group_norm_grad_params  buf: dweight | NULL, dbias | NULL, NULL, partial
                        dim: n, rows, channels
group_norm_grad_finish  buf: sums (n, 2, groups), partial, weight | NULL
                        dim: n, rows, channels, groups
group_norm_grad_apply   buf: dx | NULL, dresidual | NULL, dy, x, mean, invstd, weight | NULL, sums, y | NULL
                        dim: n, rows, channels, groups, act  scalar: alpha

layer_norm              buf: y, mean (rows) | NULL, invstd (rows) | NULL, x, weight | NULL, bias | NULL
                        dim: rows, cols  scalar: eps
layer_norm_backward     buf: dx, dy, x, mean, invstd, weight | NULL
                        dim: rows, cols
layer_norm_grad_params  buf: partial (PIECES, 2, cols), dy, x, mean, invstd
                        dim: rows, cols; batch_norm_grad_finish combines it

local_response_norm           buf: y, base | NULL, x
                              dim: rows, channels, size  scalar: alpha, beta, k
local_response_norm_backward  buf: dx, dy, x, base
                              dim: rows, channels, size  scalar: alpha, beta

`partial` of statistics holds a piece's mean, less the first row of x (of the sample), and its sum of
squared deviations from the mean; of gradients, its sums of g and of g xhat. Batch and layer norm cut
all rows into PIECES = pieces_of(rows) pieces, 64 but for millions of rows; pieces without rows are not touched. Group norm cuts
each sample's rows (its `rows` are a sample's) into group_pieces(rows). Instance norm is group norm with
groups == channels.

`act` is an index in fastnn_ext.activation.ACTIVATIONS, or -1, and `y` is what its gradient is taken from
(SAVES says: of those that save their input, the forward pass must leave it alone). `sums` NULL in
batch_norm_grad_apply: mean and invstd are constants, and x and mean are not read (evaluation mode).
momentum < 0 stands for the cumulative average, which needs `batches`; `batches` counts up in any case.
The running variance is the unbiased one, save for rows == 1, where there is none. It comes from `var`,
as 1 / invstd^2 - eps has no digit left where the variance is far below eps.

y may be x or residual, dx and dresidual may be dy.
"""
import math

from libc.math cimport sqrt
from libc.stdint cimport INT64_MAX, int64_t
from libc.string cimport memcpy, memset

from fastnn_ext cimport runtime
from fastnn_ext.activation cimport act_backward, act_forward, backward_kernel, forward_kernel
from fastnn_ext.arrays cimport check, check_apart, check_real, data
from fastnn_ext.runtime cimport FNN_MOST_NS, fnn_op, short_parts

import numpy as np

from fastnn_ext.activation import ACTIVATIONS


cdef extern from "simd/activation.h" nogil:
    enum: ACT_relu

cdef extern from "simd/norm.h" nogil:
    enum: NORM_SCRATCH, NORM_FEW
    struct norm_kernels:
        int64_t (*columns)(int64_t channels) noexcept nogil
        void (*stats)(void *mean, void *m2, const void *x, const void *shift, int64_t rows, int64_t channels,
                      int64_t stride, void *scratch) noexcept nogil
        void (*grad_stats)(void *sum, void *dot, const void *dy, const void *x, const void *y, const void *mean,
                           const void *invstd, int64_t rows, int64_t channels, int64_t stride, int64_t per, int relu,
                           act_backward act, const double *settings, void *scratch) noexcept nogil
        void (*row_grad_stats)(void *sum, void *dot, const void *dy, const void *x, const void *mean,
                               const void *invstd, int64_t rows, int64_t channels, int64_t stride,
                               void *scratch) noexcept nogil
        void (*finish)(void *mean, void *invstd, void *var, const void *pieces, const void *shift, int64_t rows,
                       int64_t piece, int64_t channels, int64_t first, int64_t n, double eps,
                       void *scratch) noexcept nogil
        void (*group_finish)(void *mean, void *invstd, double *part, const void *pieces, const void *shift,
                             int64_t rows, int64_t piece, int64_t channels, int64_t first, int64_t n, int64_t per,
                             double eps, void *scratch) noexcept nogil
        void (*far_group)(void *mean, void *invstd, const void *x, int64_t rows, int64_t stride, int64_t per,
                          double eps) noexcept nogil
        void (*grad_finish)(void *dweight, void *dbias, void *sums, const void *pieces, int64_t count,
                            int64_t channels, int64_t first, int64_t n, void *scratch) noexcept nogil
        void (*group_grad_finish)(void *sums, void *dots, double *part, const void *pieces, const void *weight,
                                  int64_t count, int64_t channels, int64_t first, int64_t n, int64_t per,
                                  void *scratch) noexcept nogil
        void (*running)(void *running_mean, void *running_var, const void *mean, const void *var, int64_t rows,
                        int64_t channels, double gain) noexcept nogil
        void (*inverse)(void *invstd, const void *var, int64_t channels, double eps) noexcept nogil
        void (*forward_columns)(void *columns, const void *mean, const void *spread, const void *weight,
                                const void *bias, int64_t channels, int64_t per, double eps) noexcept nogil
        void (*apply)(void *y, const void *x, const void *residual, const void *columns, int64_t rows,
                      int64_t channels, int64_t stride, int relu) noexcept nogil
        int (*backward_columns)(void *columns, const void *mean, const void *invstd, const void *weight,
                                 const void *sums, const void *dots, int64_t channels, int64_t per, double count,
                                 int weighted) noexcept nogil
        void (*grad_apply)(void *dx, void *dresidual, const void *dy, const void *x, const void *y,
                           const void *columns, int64_t rows, int64_t channels, int64_t stride, int far,
                           int relu) noexcept nogil
        void (*layer)(void *y, void *mean, void *invstd, const void *x, const void *weight, const void *bias,
                      int64_t rows, int64_t cols, double eps) noexcept nogil
        void (*layer_grad)(void *dx, const void *dy, const void *x, const void *mean, const void *invstd,
                           const void *weight, int64_t rows, int64_t cols) noexcept nogil
        void (*layer_moments)(double *sum, double *square, const void *x, int64_t n, double shift) noexcept nogil
        void (*layer_part)(void *y, const void *x, double mean, double invstd, const void *weight, const void *bias,
                           int64_t n) noexcept nogil
        int (*keeps_digits)(double var, double eps) noexcept nogil
        void (*layer_grad_sums)(double *sum, double *dot, const void *dy, const void *x, double mean,
                                const void *weight, int64_t n) noexcept nogil
        void (*layer_grad_part)(void *dx, const void *dy, const void *x, double mean, double invstd,
                                const void *weight, int64_t n, double sum, double dot, int64_t cols) noexcept nogil
        int (*is_near)(const void *invstd, int64_t n) noexcept nogil
        int64_t (*response_scratch)(int64_t n, int64_t size) noexcept nogil
        void (*response)(void *y, void *base, const void *x, int64_t rows, int64_t channels, int64_t first, int64_t n,
                         int64_t size, double alpha, double beta, double k, void *scratch) noexcept nogil
        void (*response_grad)(void *dx, const void *dy, const void *x, const void *base, int64_t rows,
                              int64_t channels, int64_t first, int64_t n, int64_t size, double alpha, double beta,
                              void *scratch) noexcept nogil
    const norm_kernels *norm_table(int isa, int dtype)


# Group norm's pieces have so many rows at least, so that what they leave is small next to x. None has more than
# LONGEST_PIECE: then there are more of them.
cdef enum: MOST_PIECES = 64, MOST_GROUP_PIECES = 16, LEAST_GROUP_PIECE = 64, LONGEST_PIECE = 1 << 13

# What prepare finds out, in fnn_op.dim: batch norm is group norm of one sample with a group a channel.
cdef enum:
    SAMPLES = 8, ROWS, CHANNELS, GROUPS, ACT
    PIECE, USED    # rows a piece; pieces that a sample's rows make
    SPAN, PARTS    # a chunk is SPAN pieces, samples or channels, or one of PARTS of a sample's rows
    BLOCKS, SPLIT  # into which channels are cut where they are many: of whole groups, or SPLIT of each group

# A chunk's aim in nanoseconds, and bytes of rows that are still hot when an activation takes them.
cdef enum: CHUNK_NS = 20000, HOT_BYTES = 16384, SPAN_CHANNELS = 128
# Channels of a block at least; more than these are cut into blocks where each chunk lays them out in columns.
cdef enum: LEAST_BLOCK = 16, MOST_COLUMNS = 4096

# Nanoseconds, for each float32 on AVX2 unless said otherwise, and how much longer each ISA takes.
cdef double STATS_NS = 0.1, APPLY_NS = 0.12, GRAD_STATS_NS = 0.2, GRAD_APPLY_NS = 0.2
cdef double ACT_NS = 0.7  # an activation other than relu
# A piece, a column of many rows, combining, laying out a column, or one of a line of few, a group's statistics.
cdef double PIECE_NS = 20, COLUMN_NS = 1, PARTIAL_NS = 0.25, LAYOUT_NS = 3, LINE_NS = 1.5, GROUP_NS = 5
cdef double LAYER_NS = 0.2, LAYER_GRAD_NS = 0.22, ROW_NS = 20
cdef double RESPONSE_NS = 0.5, TERM_NS = 0.08, POWER_NS = 1.5  # plus each term of a window; beta not 0.75
cdef double FAR_NS = 0.3  # more, for each float32 of an array that no cache holds
cdef enum: NEAR_ELEMENTS = 1 << 20  # of one that a cache does
cdef double[3] ISA_FACTOR = [2.0, 1.0, 0.7]


cdef inline int64_t ceil_div(int64_t a, int64_t b) noexcept nogil:
    return (a + b - 1) // b


cdef inline int64_t clip(double x, int64_t most) noexcept nogil:
    return 1 if x < 1 else most if x > most else <int64_t> x


cdef inline void *at(const fnn_op *op, int k, int64_t element) noexcept nogil:
    return NULL if op.buf[k] == NULL else <char *> op.buf[k] + element * (4 if op.dtype == 0 else 8)


cdef inline double scaled(const fnn_op *op, double ns) noexcept nogil:
    return ns * ISA_FACTOR[op.isa] * (1 if op.dtype == 0 else 2)


cdef inline double at_most(const fnn_op *op, double ns) noexcept nogil:
    """The same of an element that comes from memory."""
    return scaled(op, ns) + (FAR_NS if op.dtype == 0 else 2 * FAR_NS)


cdef inline const norm_kernels *kernels_of(const fnn_op *op) noexcept nogil:
    return <const norm_kernels *> op.kernels


cdef inline bint is_map(const fnn_op *op) noexcept nogil:
    """Whether the activation is none that the kernels know themselves."""
    return op.dim[ACT] >= 0 and op.dim[ACT] != ACT_relu


# ---- geometry: prepare ----------------------------------------------------------------------------

cdef inline int64_t rows_of_piece(int64_t rows, int64_t pieces, int64_t least) noexcept nogil:
    return min(max(least, ceil_div(rows, pieces)), <int64_t> LONGEST_PIECE)


cdef void set_sizes(fnn_op *op) noexcept nogil:
    op.kernels = norm_table(op.isa, op.dtype)
    op.dim[USED] = ceil_div(op.dim[ROWS], op.dim[PIECE])
    op.dim[BLOCKS] = op.dim[SPLIT] = 1


cdef void set_batch(fnn_op *op) noexcept nogil:
    op.dim[SAMPLES], op.dim[ROWS], op.dim[CHANNELS], op.dim[GROUPS] = 1, op.dim[0], op.dim[1], op.dim[1]
    op.dim[ACT] = op.dim[2]
    op.dim[PIECE] = rows_of_piece(op.dim[ROWS], MOST_PIECES, 1)
    set_sizes(op)


cdef void set_group(fnn_op *op) noexcept nogil:
    op.dim[SAMPLES], op.dim[ROWS], op.dim[CHANNELS], op.dim[GROUPS] = op.dim[0], op.dim[1], op.dim[2], op.dim[3]
    op.dim[ACT] = op.dim[4]
    op.dim[PIECE] = rows_of_piece(op.dim[ROWS], MOST_GROUP_PIECES, LEAST_GROUP_PIECE)
    set_sizes(op)


cdef int64_t cut_blocks(fnn_op *op, double width) noexcept nogil:
    """Blocks of about so many channels, each of whole groups or a part of one; returns the most that one has."""
    cdef int64_t groups = op.dim[GROUPS], per = op.dim[CHANNELS] // groups
    width = max(<double> LEAST_BLOCK, width)
    if per <= width:
        op.dim[BLOCKS] = ceil_div(groups, clip(width / per, groups))
        return ceil_div(groups, op.dim[BLOCKS]) * per
    op.dim[SPLIT] = ceil_div(per, <int64_t> width)
    op.dim[BLOCKS] = groups * op.dim[SPLIT]
    return ceil_div(per, op.dim[SPLIT])


cdef struct block:
    int64_t group, first, n, per  # the group that it begins in; its channels, `per` of which share a mean


cdef block block_of(const fnn_op *op, int64_t i) noexcept nogil:
    cdef int64_t groups = op.dim[GROUPS], split = op.dim[SPLIT]
    cdef block b
    b.per = op.dim[CHANNELS] // groups
    if split == 1:
        b.group = groups * i // op.dim[BLOCKS]
        b.first = b.group * b.per
        b.n = groups * (i + 1) // op.dim[BLOCKS] * b.per - b.first
    else:
        b.group = i // split
        b.first = b.per * (i % split) // split
        b.n = b.per * (i % split + 1) // split - b.first
        b.first += b.group * b.per
        b.per = b.n
    return b


cdef void cut_pieces(fnn_op *op, double ns, double column) noexcept nogil:
    """Chunks of whole pieces, or of some channels of one; `column` nanoseconds are for laying out a channel, if there are
    very many."""
    cdef int64_t pieces = op.dim[SAMPLES] * op.dim[USED], width = op.dim[CHANNELS]
    cdef int64_t rows = min(op.dim[PIECE], op.dim[ROWS])
    cdef double piece, longest
    if width <= MOST_COLUMNS:
        column = 0 if op.dim[PIECE] <= NORM_FEW else COLUMN_NS
    piece = (scaled(op, ns) * rows + column) * width + PIECE_NS
    longest = (at_most(op, ns) * rows + scaled(op, column)) * width
    op.cost = (piece if rows * pieces * width < NEAR_ELEMENTS else longest) * pieces
    if longest > FNN_MOST_NS:
        width = cut_blocks(op, width * (FNN_MOST_NS / longest))
        piece /= op.dim[BLOCKS]
    op.dim[SPAN] = 1 if op.dim[BLOCKS] > 1 else clip(CHUNK_NS / piece, max(<int64_t> 1, pieces))
    op.chunks = ceil_div(pieces, op.dim[SPAN]) * op.dim[BLOCKS]
    op.scratch = NORM_SCRATCH * kernels_of(op).columns(width)


cdef void cut_rows(fnn_op *op, double ns) noexcept nogil:
    """Chunks of some rows of a sample, or of some samples, or of some rows and channels."""
    cdef int64_t samples = op.dim[SAMPLES], rows = op.dim[ROWS], width = op.dim[CHANNELS]
    cdef double sample, chunk = CHUNK_NS, columns = scaled(op, LINE_NS * kernels_of(op).columns(width))
    if is_map(op):
        ns += ACT_NS
    sample = scaled(op, ns) * rows * width
    op.cost = sample * samples if rows * samples * width < NEAR_ELEMENTS else at_most(op, ns) * rows * width * samples
    if width > MOST_COLUMNS:  # as many rows as make the columns worth while
        width = cut_blocks(op, MOST_COLUMNS / 2)
        op.cost += scaled(op, LAYOUT_NS) * samples * op.dim[CHANNELS]
        sample /= op.dim[BLOCKS]
        chunk *= 4
    elif samples > 1:
        sample += columns
        op.cost += columns * samples
    op.dim[PARTS] = clip(sample / chunk + 0.5, max(<int64_t> 1, rows))
    op.dim[SPAN] = 1 if op.dim[PARTS] > 1 else clip(chunk / (sample + 1), max(<int64_t> 1, samples))
    op.chunks = ceil_div(samples, op.dim[SPAN]) * op.dim[PARTS] * op.dim[BLOCKS] if rows > 0 else 0
    op.scratch = NORM_SCRATCH * kernels_of(op).columns(width)


cdef void cut_channels(fnn_op *op, bint sums) noexcept nogil:
    """Chunks of some channels; of sums over very many pieces, a first round makes fewer."""
    cdef int64_t pieces = op.dim[SAMPLES] * op.dim[USED]
    cdef double channel = PARTIAL_NS * 2 * max(<int64_t> 1, pieces)
    op.dim[SPAN] = max(<int64_t> LEAST_BLOCK, clip(FNN_MOST_NS / channel, SPAN_CHANNELS))
    op.dim[PARTS] = 1
    if sums and channel * op.dim[SPAN] > FNN_MOST_NS:
        op.dim[SPAN] = SPAN_CHANNELS
        op.dim[PARTS] = short_parts(2 * channel * SPAN_CHANNELS)
        op.rounds = 2
        op.shared = op.dim[PARTS] * 2 * op.dim[CHANNELS] * (4 if op.dtype == 0 else 8)
    op.chunks = ceil_div(op.dim[CHANNELS], op.dim[SPAN]) * op.dim[PARTS]
    op.scratch = NORM_SCRATCH * SPAN_CHANNELS
    op.cost = channel * op.dim[CHANNELS]


cdef void cut_samples(fnn_op *op) noexcept nogil:
    """Chunks of some samples, or of some channels of one, which a second round joins where groups are cut."""
    cdef int64_t width = op.dim[CHANNELS]
    cdef double sample = PARTIAL_NS * 2 * (op.dim[USED] + 2) * width + GROUP_NS * op.dim[GROUPS]
    op.cost = sample * op.dim[SAMPLES]
    op.dim[SPAN] = clip(CHUNK_NS / sample, max(<int64_t> 1, op.dim[SAMPLES]))
    if sample > FNN_MOST_NS:
        op.dim[SPAN] = 1
        width = cut_blocks(op, width * (FNN_MOST_NS / sample / 2))
    op.chunks = ceil_div(op.dim[SAMPLES], op.dim[SPAN]) * op.dim[BLOCKS]
    op.scratch = NORM_SCRATCH * width
    if op.dim[SPLIT] > 1:
        op.rounds = 2
        op.shared = op.chunks * 2 * sizeof(double)


cdef void prepare_batch_stats(fnn_op *op) noexcept nogil:
    set_batch(op)
    cut_pieces(op, STATS_NS, COLUMN_NS)


cdef void prepare_group_stats(fnn_op *op) noexcept nogil:
    set_group(op)
    op.dim[GROUPS] = op.dim[CHANNELS]  # statistics of channels know no groups
    cut_pieces(op, STATS_NS, COLUMN_NS)


cdef void prepare_batch_grad_stats(fnn_op *op) noexcept nogil:
    set_batch(op)
    cut_pieces(op, GRAD_STATS_NS + (ACT_NS if is_map(op) else 0), LAYOUT_NS)


cdef void prepare_group_grad_stats(fnn_op *op) noexcept nogil:
    set_group(op)
    cut_pieces(op, GRAD_STATS_NS + (ACT_NS if is_map(op) else 0), LAYOUT_NS)


cdef void prepare_batch_finish(fnn_op *op) noexcept nogil:
    set_batch(op)
    cut_channels(op, False)


cdef void prepare_batch_grad_finish(fnn_op *op) noexcept nogil:
    set_batch(op)
    cut_channels(op, True)


cdef void prepare_group_params(fnn_op *op) noexcept nogil:
    set_group(op)
    cut_channels(op, True)


cdef void prepare_group_finish(fnn_op *op) noexcept nogil:
    set_group(op)
    cut_samples(op)


cdef void prepare_batch_apply(fnn_op *op) noexcept nogil:
    set_batch(op)
    cut_rows(op, APPLY_NS)


cdef void prepare_group_apply(fnn_op *op) noexcept nogil:
    set_group(op)
    cut_rows(op, APPLY_NS)


cdef void prepare_batch_grad_apply(fnn_op *op) noexcept nogil:
    set_batch(op)
    cut_rows(op, GRAD_APPLY_NS)


cdef void prepare_group_grad_apply(fnn_op *op) noexcept nogil:
    set_group(op)
    cut_rows(op, GRAD_APPLY_NS)


cdef void cut_vector(fnn_op *op, int64_t channels, double ns) noexcept nogil:
    op.kernels = norm_table(op.isa, op.dtype)
    op.dim[SPAN] = max(<int64_t> 1, <int64_t> (CHUNK_NS / ns))
    op.chunks = ceil_div(channels, op.dim[SPAN])
    op.cost = ns * channels


cdef void prepare_running(fnn_op *op) noexcept nogil:
    cut_vector(op, op.dim[1], 2)
    if op.chunks > 1:
        op.rounds = 2  # `batches` is read for all channels before it is counted up


cdef void prepare_invstd(fnn_op *op) noexcept nogil:
    cut_vector(op, op.dim[0], 5)


# ---- batch and group norm: run --------------------------------------------------------------------

cdef int run_stats(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t rows = op.dim[ROWS], channels = op.dim[CHANNELS], i, first, row
    cdef block b = block_of(op, chunk % op.dim[BLOCKS])
    chunk = chunk // op.dim[BLOCKS]
    for i in range(chunk * op.dim[SPAN], min((chunk + 1) * op.dim[SPAN], op.dim[SAMPLES] * op.dim[USED])):
        first = i // op.dim[USED] * rows
        row = i % op.dim[USED] * op.dim[PIECE]
        kernels_of(op).stats(
            at(op, 0, 2 * i * channels + b.first), at(op, 0, (2 * i + 1) * channels + b.first),
            at(op, 1, (first + row) * channels + b.first), at(op, 1, first * channels + b.first),
            min(op.dim[PIECE], rows - row), b.n, channels, scratch)
    return 0


cdef int run_grad_stats(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t rows = op.dim[ROWS], channels = op.dim[CHANNELS], i, row, sample, place, group
    cdef act_backward act = backward_kernel(<int> op.dim[ACT], op.isa, op.dtype) if is_map(op) else NULL
    cdef block b = block_of(op, chunk % op.dim[BLOCKS])
    chunk = chunk // op.dim[BLOCKS]
    for i in range(chunk * op.dim[SPAN], min((chunk + 1) * op.dim[SPAN], op.dim[SAMPLES] * op.dim[USED])):
        sample = i // op.dim[USED]
        row = i % op.dim[USED] * op.dim[PIECE]
        place = (sample * rows + row) * channels + b.first
        group = sample * op.dim[GROUPS] + b.group
        kernels_of(op).grad_stats(
            at(op, 0, 2 * i * channels + b.first), at(op, 0, (2 * i + 1) * channels + b.first), at(op, 1, place),
            at(op, 2, place), at(op, 5, place), at(op, 3, group), at(op, 4, group), min(op.dim[PIECE], rows - row),
            b.n, channels, b.per, op.dim[ACT] == ACT_relu, act, op.scalar, scratch)
    return 0


cdef int run_finish(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t channels = op.dim[CHANNELS], first = chunk * op.dim[SPAN]
    kernels_of(op).finish(op.buf[0], op.buf[1], op.buf[2], op.buf[3], op.buf[4], op.dim[ROWS], op.dim[PIECE],
                          channels, first, min(op.dim[SPAN], channels - first), op.scalar[0], scratch)
    return 0


cdef inline double *part_at(const fnn_op *op, int64_t chunk) noexcept nogil:
    """Where the chunks leave what they know of parts of groups, two numbers each; NULL where groups are not cut."""
    return NULL if op.dim[SPLIT] == 1 else <double *> op.common + 2 * chunk


cdef inline void put(const fnn_op *op, int k, int64_t i, double value) noexcept nogil:
    if op.dtype == 0:
        (<float *> op.buf[k])[i] = <float> value
    else:
        (<double *> op.buf[k])[i] = value


cdef void join_group(const fnn_op *op, int64_t chunk) noexcept nogil:
    """Mean and inverse deviation of a group from those of its parts, as the kernel takes them from its channels."""
    cdef int64_t groups = op.dim[GROUPS], split = op.dim[SPLIT], sample = chunk // op.dim[BLOCKS], k
    cdef int64_t group = chunk % op.dim[BLOCKS] // split, per = op.dim[CHANNELS] // groups, rows = op.dim[ROWS]
    cdef int64_t place = sample * groups + group
    cdef double *parts = part_at(op, chunk)
    cdef double mean = 0, m2 = 0, away
    for k in range(split):
        mean += parts[2 * k] * block_of(op, k).n / per
    for k in range(split):
        away = parts[2 * k] - mean
        m2 += parts[2 * k + 1] + <double> rows * block_of(op, k).n * away * away
    m2 /= <double> rows * per
    put(op, 0, place, mean)
    put(op, 1, place, 1 / sqrt(m2 + op.scalar[0]))
    if not kernels_of(op).keeps_digits(m2, op.scalar[0]):
        kernels_of(op).far_group(at(op, 0, place), at(op, 1, place),
                                 at(op, 3, (sample * rows * groups + group) * per), rows, op.dim[CHANNELS], per,
                                 op.scalar[0])


cdef int run_group_finish(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t channels = op.dim[CHANNELS], groups = op.dim[GROUPS], i
    cdef block b = block_of(op, chunk % op.dim[BLOCKS])
    cdef double *part = part_at(op, chunk)
    if chunk >= op.chunks:  # the first part of a group joins them all
        if chunk % op.dim[SPLIT] == 0:
            join_group(op, chunk - op.chunks)
        return 0
    chunk = chunk // op.dim[BLOCKS]
    for i in range(chunk * op.dim[SPAN], min((chunk + 1) * op.dim[SPAN], op.dim[SAMPLES])):
        kernels_of(op).group_finish(
            at(op, 0, i * groups + b.group), at(op, 1, i * groups + b.group), part,
            at(op, 2, i * op.dim[USED] * 2 * channels), at(op, 3, i * op.dim[ROWS] * channels), op.dim[ROWS],
            op.dim[PIECE], channels, b.first, b.n, b.per, op.scalar[0], scratch)
    return 0


cdef int run_grad_finish(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t channels = op.dim[CHANNELS], parts = op.dim[PARTS], part = chunk % op.chunks % parts
    cdef int64_t first = chunk % op.chunks // parts * op.dim[SPAN], n = min(op.dim[SPAN], channels - first)
    cdef int64_t count = op.dim[SAMPLES] * op.dim[USED], begin = count * part // parts
    cdef int64_t row = 2 * channels * (4 if op.dtype == 0 else 8)
    if op.rounds == 2 and chunk < op.chunks:
        kernels_of(op).grad_finish(NULL, NULL, <char *> op.common + part * row, <char *> op.buf[3] + begin * row,
                                   count * (part + 1) // parts - begin, channels, first, n, scratch)
    elif part == 0:
        kernels_of(op).grad_finish(op.buf[0], op.buf[1], op.buf[2], op.buf[3] if op.rounds == 1 else op.common,
                                   count if op.rounds == 1 else parts, channels, first, n, scratch)
    return 0


cdef int run_group_grad_finish(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t channels = op.dim[CHANNELS], groups = op.dim[GROUPS], i, k, sums
    cdef block b
    cdef double *part
    cdef bint joins = chunk >= op.chunks
    chunk = chunk % op.chunks
    b = block_of(op, chunk % op.dim[BLOCKS])
    part = part_at(op, chunk)
    chunk = chunk // op.dim[BLOCKS]
    for i in range(chunk * op.dim[SPAN], min((chunk + 1) * op.dim[SPAN], op.dim[SAMPLES])):
        sums = i * 2 * groups + b.group
        if not joins:
            kernels_of(op).group_grad_finish(
                at(op, 0, sums), at(op, 0, sums + groups), part, at(op, 1, i * op.dim[USED] * 2 * channels), op.buf[2],
                op.dim[USED], channels, b.first, b.n, b.per, scratch)
        elif b.first == b.group * (channels // groups):  # the first part of its group
            for k in range(1, op.dim[SPLIT]):
                part[0] += part[2 * k]
                part[1] += part[2 * k + 1]
            put(op, 0, sums, part[0])
            put(op, 0, sums + groups, part[1])
    return 0


cdef int run_running(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t *batches = <int64_t *> op.buf[2]
    cdef int64_t first = chunk * op.dim[SPAN]
    cdef double gain = op.scalar[0]
    if batches != NULL and gain < 0:
        gain = 1.0 / (<double> batches[0] + 1)
    if chunk < op.chunks:
        kernels_of(op).running(at(op, 0, first), at(op, 1, first), at(op, 3, first), at(op, 4, first), op.dim[0],
                               min(op.dim[SPAN], op.dim[1] - first), gain)
    if batches != NULL and chunk == op.chunks * (op.rounds - 1):
        batches[0] += batches[0] < INT64_MAX
    return 0


cdef int run_invstd(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t first = chunk * op.dim[SPAN]
    kernels_of(op).inverse(at(op, 0, first), at(op, 1, first), min(op.dim[SPAN], op.dim[0] - first), op.scalar[0])
    return 0


cdef inline int64_t hot_rows(const fnn_op *op, const block *b) noexcept nogil:
    """How many rows, that lie side by side, an activation takes in one go."""
    if op.dim[BLOCKS] > 1:
        return 1
    return max(<int64_t> 1, HOT_BYTES // (b.n * (4 if op.dtype == 0 else 8)))


cdef void apply_chunk(const fnn_op *op, int64_t chunk, void *scratch, double eps) noexcept nogil:
    """buf[3] is the variance if eps >= 0, else invstd."""
    cdef int64_t rows = op.dim[ROWS], channels = op.dim[CHANNELS], sample, row, end, n, place, group
    cdef block b = block_of(op, chunk % op.dim[BLOCKS])
    cdef int64_t part = chunk // op.dim[BLOCKS] % op.dim[PARTS]
    cdef int64_t first = chunk // op.dim[BLOCKS] // op.dim[PARTS] * op.dim[SPAN]
    cdef act_forward act = forward_kernel(<int> op.dim[ACT], op.isa, op.dtype) if is_map(op) else NULL
    cdef int64_t most = hot_rows(op, &b) if act != NULL else rows
    for sample in range(first, min(first + op.dim[SPAN], op.dim[SAMPLES])):
        group = sample * op.dim[GROUPS] + b.group
        kernels_of(op).forward_columns(scratch, at(op, 2, group), at(op, 3, group), at(op, 4, b.first),
                                       at(op, 5, b.first), b.n, b.per, eps)
        row = rows * part // op.dim[PARTS]
        end = rows * (part + 1) // op.dim[PARTS]
        while row < end:
            n = min(most, end - row)
            place = (sample * rows + row) * channels + b.first
            kernels_of(op).apply(at(op, 0, place), at(op, 1, place), at(op, 6, place), scratch, n, b.n, channels,
                                 op.dim[ACT] == ACT_relu)
            if act != NULL:
                act(at(op, 0, place), at(op, 0, place), n * b.n, op.scalar)
            row += n


cdef int run_apply(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    apply_chunk(op, chunk, scratch, -1)
    return 0


cdef int run_eval(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    apply_chunk(op, chunk, scratch, op.scalar[2])
    return 0


cdef void grad_apply_chunk(const fnn_op *op, int64_t chunk, void *scratch, bint weighted) noexcept nogil:
    """`weighted`: sums have the weight in them."""
    cdef int64_t rows = op.dim[ROWS], channels = op.dim[CHANNELS], groups = op.dim[GROUPS], per = channels // groups
    cdef block b = block_of(op, chunk % op.dim[BLOCKS])
    cdef int64_t part = chunk // op.dim[BLOCKS] % op.dim[PARTS], sample, row, end, n, place, group, sums
    cdef int64_t first = chunk // op.dim[BLOCKS] // op.dim[PARTS] * op.dim[SPAN]
    # What the kernel does not do itself goes through g, written to dresidual, or to dx where there is none.
    cdef bint mapped = is_map(op) or op.buf[0] == NULL, far = False
    cdef act_backward act = backward_kernel(<int> op.dim[ACT], op.isa, op.dtype)
    cdef int64_t most = hot_rows(op, &b) if mapped else rows
    cdef void *dx
    cdef void *dresidual
    cdef const void *g
    for sample in range(first, min(first + op.dim[SPAN], op.dim[SAMPLES])):
        group = sample * groups + b.group
        sums = sample * 2 * groups + b.group
        if op.buf[0] != NULL:
            far = kernels_of(op).backward_columns(
                scratch, at(op, 4, group), at(op, 5, group), at(op, 6, b.first), at(op, 7, sums),
                at(op, 7, sums + groups), b.n, b.per, <double> (rows * per), weighted)
        row = rows * part // op.dim[PARTS]
        end = rows * (part + 1) // op.dim[PARTS]
        while row < end:
            n = min(most, end - row)
            place = (sample * rows + row) * channels + b.first
            dx, dresidual, g = at(op, 0, place), at(op, 1, place), at(op, 2, place)
            if mapped:
                if dresidual == NULL:
                    dresidual = dx
                if act != NULL:
                    act(dresidual, g, at(op, 8, place), n * b.n, op.scalar)
                elif dresidual != g:
                    memcpy(dresidual, g, n * b.n * (4 if op.dtype == 0 else 8))
                g = dresidual
                dresidual = NULL
            if dx != NULL:
                kernels_of(op).grad_apply(
                    dx, dresidual, g, NULL if op.buf[7] == NULL else at(op, 3, place), at(op, 8, place), scratch, n,
                    b.n, channels, far, not mapped and op.dim[ACT] == ACT_relu)
            row += n


cdef int run_batch_grad_apply(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    grad_apply_chunk(op, chunk, scratch, False)
    return 0


cdef int run_group_grad_apply(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    grad_apply_chunk(op, chunk, scratch, True)
    return 0


runtime.register_op("batch_norm_stats", run_stats, prepare_batch_stats, "partial", "x", "rows channels")
runtime.register_op("batch_norm_finish", run_finish, prepare_batch_finish,
                    "mean invstd var?", "partial x", "rows channels", "eps")
runtime.register_op("batch_norm_running", run_running, prepare_running,
                    "running_mean running_var batches?", "mean var", "rows channels", "momentum")
runtime.register_op("batch_norm_invstd", run_invstd, prepare_invstd, "invstd", "var", "channels", "eps")
runtime.register_op("batch_norm_apply", run_apply, prepare_batch_apply,
                    "y", "*x mean invstd weight? bias? *residual?", "rows channels act", "alpha beta")
runtime.register_op("batch_norm_eval", run_eval, prepare_batch_apply,
                    "y", "*x running_mean running_var weight? bias? *residual?", "rows channels act", "alpha beta eps")
runtime.register_op("batch_norm_grad_stats", run_grad_stats, prepare_batch_grad_stats,
                    "partial", "dy x mean invstd y?", "rows channels act", "alpha beta")
runtime.register_op("batch_norm_grad_finish", run_grad_finish, prepare_batch_grad_finish,
                    "dweight? dbias? sums?", "partial", "rows channels")
runtime.register_op("batch_norm_grad_apply", run_batch_grad_apply, prepare_batch_grad_apply,
                    "dx? dresidual?", "*dy x mean invstd weight? sums? y?", "rows channels act", "alpha beta")
runtime.register_op("group_norm_stats", run_stats, prepare_group_stats, "partial", "x", "n rows channels")
runtime.register_op("group_norm_finish", run_group_finish, prepare_group_finish,
                    "mean invstd", "partial x", "n rows channels groups", "eps")
runtime.register_op("group_norm_apply", run_apply, prepare_group_apply,
                    "y", "*x mean invstd weight? bias? *residual?", "n rows channels groups act", "alpha beta")
runtime.register_op("group_norm_grad_stats", run_grad_stats, prepare_group_grad_stats,
                    "partial", "dy x mean invstd y?", "n rows channels groups act", "alpha beta")
runtime.register_op("group_norm_grad_params", run_grad_finish, prepare_group_params,
                    "dweight? dbias? sums?", "partial", "n rows channels")
runtime.register_op("group_norm_grad_finish", run_group_grad_finish, prepare_group_finish,
                    "sums", "partial weight?", "n rows channels groups")
runtime.register_op("group_norm_grad_apply", run_group_grad_apply, prepare_group_grad_apply,
                    "dx? dresidual?", "*dy x mean invstd weight? sums y?", "n rows channels groups act", "alpha beta")


# ---- layer norm -----------------------------------------------------------------------------------

# What the parts of a long row find, in op.common: (rows, PARTS, FOUND) doubles.
cdef enum: FIRST_SUM, SUM, SQUARE, FOUND


cdef void cut_plain_rows(fnn_op *op, double ns, int64_t rounds) noexcept nogil:
    """Chunks of some rows, or of a part of one, in so many rounds."""
    cdef double row = scaled(op, ns) * op.dim[1] + ROW_NS, longest = at_most(op, ns) * op.dim[1]
    op.kernels = norm_table(op.isa, op.dtype)
    op.dim[SPAN] = clip(CHUNK_NS / row, max(<int64_t> 1, op.dim[0]))
    op.dim[PARTS] = 1
    if longest > FNN_MOST_NS:
        op.dim[SPAN] = 1
        op.dim[PARTS] = min(short_parts(4 * longest), ceil_div(op.dim[1], LEAST_BLOCK))
        op.rounds = rounds
    op.chunks = ceil_div(op.dim[0], op.dim[SPAN]) * op.dim[PARTS]
    op.cost = (row if op.dim[0] * op.dim[1] < NEAR_ELEMENTS else longest) * op.dim[0]
    if rounds > 1 and op.rounds == rounds:
        op.shared = op.chunks * FOUND * sizeof(double)


cdef double total_of(const fnn_op *op, const double *first, int value) noexcept nogil:
    cdef double total = 0
    cdef int64_t i
    for i in range(op.dim[PARTS]):
        total += first[i * FOUND + value]
    return total


cdef void prepare_layer(fnn_op *op) noexcept nogil:
    cut_plain_rows(op, LAYER_NS, 3)


cdef void prepare_layer_grad(fnn_op *op) noexcept nogil:
    cut_plain_rows(op, LAYER_GRAD_NS, 2)


cdef int run_long_layer(const fnn_op *op, int64_t chunk) noexcept nogil:
    """A part of a long row: as the kernel does it, a pass a round."""
    cdef const norm_kernels *kernels = kernels_of(op)
    cdef int64_t cols = op.dim[1], parts = op.dim[PARTS], round = chunk // op.chunks
    cdef int64_t row = chunk % op.chunks // parts, part = chunk % parts, begin = cols * part // parts
    cdef int64_t n = cols * (part + 1) // parts - begin, place = row * cols + begin
    cdef double *first = <double *> op.common + row * parts * FOUND
    cdef double *mine = first + part * FOUND
    cdef double mean, rest, var, invstd
    if round == 0:
        kernels.layer_moments(&mine[FIRST_SUM], &mine[SQUARE], at(op, 3, place), n, 0)
        return 0
    mean = total_of(op, first, FIRST_SUM) / cols
    if op.dtype == 0:
        mean = <float> mean
    if round == 1:
        kernels.layer_moments(&mine[SUM], &mine[SQUARE], at(op, 3, place), n, mean)
        return 0
    rest = total_of(op, first, SUM) / cols
    var = total_of(op, first, SQUARE) / cols - rest * rest
    invstd = 1 / sqrt(max(<double> 0, var) + op.scalar[0])
    mean += rest
    if not kernels.keeps_digits(var, op.scalar[0]):
        # Rare: the row is taken as one.
        if part == 0:
            kernels.layer(at(op, 0, place), at(op, 1, row), at(op, 2, row), at(op, 3, place), op.buf[4], op.buf[5], 1,
                          cols, op.scalar[0])
        return 0
    if part == 0 and op.buf[1] != NULL:
        put(op, 1, row, mean)
    if part == 0 and op.buf[2] != NULL:
        put(op, 2, row, invstd)
    kernels.layer_part(at(op, 0, place), at(op, 3, place), mean, invstd, at(op, 4, begin), at(op, 5, begin), n)
    return 0


cdef int run_layer(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t cols = op.dim[1], row = chunk * op.dim[SPAN]
    if op.dim[PARTS] > 1:
        return run_long_layer(op, chunk)
    kernels_of(op).layer(at(op, 0, row * cols), at(op, 1, row), at(op, 2, row), at(op, 3, row * cols), op.buf[4],
                         op.buf[5], min(op.dim[SPAN], op.dim[0] - row), cols, op.scalar[0])
    return 0


cdef inline double get(const fnn_op *op, int k, int64_t i) noexcept nogil:
    return (<float *> op.buf[k])[i] if op.dtype == 0 else (<double *> op.buf[k])[i]


cdef int run_long_layer_grad(const fnn_op *op, int64_t chunk) noexcept nogil:
    cdef const norm_kernels *kernels = kernels_of(op)
    cdef int64_t cols = op.dim[1], parts = op.dim[PARTS]
    cdef int64_t row = chunk % op.chunks // parts, part = chunk % parts, begin = cols * part // parts
    cdef int64_t n = cols * (part + 1) // parts - begin, place = row * cols + begin
    cdef double *first = <double *> op.common + row * parts * FOUND
    cdef double *mine = first + part * FOUND
    if not kernels.is_near(at(op, 4, row), 1):
        # Rare: the row is taken as one.
        if chunk < op.chunks and part == 0:
            kernels.layer_grad(at(op, 0, place), at(op, 1, place), at(op, 2, place), at(op, 3, row), at(op, 4, row),
                               op.buf[5], 1, cols)
    elif chunk < op.chunks:
        kernels.layer_grad_sums(&mine[SUM], &mine[SQUARE], at(op, 1, place), at(op, 2, place), get(op, 3, row),
                                at(op, 5, begin), n)
    else:
        kernels.layer_grad_part(at(op, 0, place), at(op, 1, place), at(op, 2, place), get(op, 3, row), get(op, 4, row),
                                at(op, 5, begin), n, total_of(op, first, SUM), total_of(op, first, SQUARE), cols)
    return 0


cdef int run_layer_grad(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t cols = op.dim[1], row = chunk * op.dim[SPAN]
    if op.dim[PARTS] > 1:
        return run_long_layer_grad(op, chunk)
    kernels_of(op).layer_grad(at(op, 0, row * cols), at(op, 1, row * cols), at(op, 2, row * cols), at(op, 3, row),
                              at(op, 4, row), op.buf[5], min(op.dim[SPAN], op.dim[0] - row), cols)
    return 0


cdef int run_layer_grad_params(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t rows = op.dim[ROWS], cols = op.dim[CHANNELS], i, row, place
    cdef block b = block_of(op, chunk % op.dim[BLOCKS])
    chunk = chunk // op.dim[BLOCKS]
    for i in range(chunk * op.dim[SPAN], min((chunk + 1) * op.dim[SPAN], op.dim[USED])):
        row = i * op.dim[PIECE]
        place = row * cols + b.first
        kernels_of(op).row_grad_stats(
            at(op, 0, 2 * i * cols + b.first), at(op, 0, (2 * i + 1) * cols + b.first), at(op, 1, place),
            at(op, 2, place), at(op, 3, row), at(op, 4, row), min(op.dim[PIECE], rows - row), b.n, cols, scratch)
    return 0


runtime.register_op("layer_norm", run_layer, prepare_layer, "y mean? invstd?", "x weight? bias?", "rows cols", "eps")
runtime.register_op("layer_norm_backward", run_layer_grad, prepare_layer_grad,
                    "dx", "dy x mean invstd weight?", "rows cols")
runtime.register_op("layer_norm_grad_params", run_layer_grad_params, prepare_batch_grad_stats,
                    "partial", "dy x mean invstd", "rows cols")


# ---- local response norm --------------------------------------------------------------------------

cdef void prepare_response(fnn_op *op) noexcept nogil:
    cut_plain_rows(op, RESPONSE_NS + TERM_NS * op.dim[2] + (0 if op.scalar[1] == 0.75 else POWER_NS), 1)
    op.scratch = kernels_of(op).response_scratch(ceil_div(op.dim[1], op.dim[PARTS]), op.dim[2])
    op.scratch *= 4 if op.dtype == 0 else 8


cdef int run_response(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t channels = op.dim[1], parts = op.dim[PARTS], row = chunk // parts * op.dim[SPAN]
    cdef int64_t place = row * channels, first = channels * (chunk % parts) // parts
    kernels_of(op).response(at(op, 0, place), at(op, 1, place), at(op, 2, place), min(op.dim[SPAN], op.dim[0] - row),
                            channels, first, channels * (chunk % parts + 1) // parts - first, op.dim[2], op.scalar[0],
                            op.scalar[1], op.scalar[2], scratch)
    return 0


cdef int run_response_grad(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t channels = op.dim[1], parts = op.dim[PARTS], row = chunk // parts * op.dim[SPAN]
    cdef int64_t place = row * channels, first = channels * (chunk % parts) // parts
    kernels_of(op).response_grad(at(op, 0, place), at(op, 1, place), at(op, 2, place), at(op, 3, place),
                                 min(op.dim[SPAN], op.dim[0] - row), channels, first,
                                 channels * (chunk % parts + 1) // parts - first, op.dim[2], op.scalar[0],
                                 op.scalar[1], scratch)
    return 0


runtime.register_op("local_response_norm", run_response, prepare_response,
                    "y base?", "x", "rows channels size", "alpha beta k")
runtime.register_op("local_response_norm_backward", run_response_grad, prepare_response,
                    "dx", "dy x base", "rows channels size", "alpha beta")


# ---- over NumPy arrays ----------------------------------------------------------------------------

LARGEST = 2**46  # rows: no memory holds more


cdef int check_count(int64_t rows) except -1:
    if not 1 <= rows <= LARGEST:
        raise ValueError(f"rows must be at least 1, and no more than memory holds, got {rows}")
    return 0


def pieces_of(int64_t rows):
    """How many pieces batch and layer norm cut so many rows into, or fewer of them, at most."""
    check_count(rows)
    return max(<int64_t> MOST_PIECES, ceil_div(rows, LONGEST_PIECE))


def group_pieces(int64_t rows):
    """How many pieces group norm cuts the rows of one sample into."""
    check_count(rows)
    return ceil_div(rows, rows_of_piece(rows, MOST_GROUP_PIECES, LEAST_GROUP_PIECE))


cdef int check_rows(str name, object x, int ndim) except -1:
    """Refuses what is not a real array of so many dimensions with elements; returns fnn_op.dtype."""
    cdef int dtype = check_real(name, x, None)
    if x.ndim != ndim or x.size == 0:
        layout = "(rows, channels)" if ndim == 2 else "(n, rows, channels)"
        raise ValueError(f"{name} must have shape {layout} without a zero, got {x.shape}")
    return dtype


OPTIONAL = ("weight", "bias", "residual", "y", "sums")


cdef int check_vectors(dict arrays, object dtype, object shape) except -1:
    """Refuses arrays, by name, that do not fit; those of OPTIONAL may be None."""
    for name, array in arrays.items():
        if array is not None or name not in OPTIONAL:
            check(name, array, dtype, shape)
    return 0


cdef int check_positive(str name, double value) except -1:
    if not value >= 0 or math.isinf(value):
        raise ValueError(f"{name} must be finite and not negative, got {value}")
    return 0


cdef object output(object out, object like, dict sources):
    """`out` checked, or a new array; it may be one of `sources`, but not overlap it otherwise."""
    if out is None:
        return np.empty(like.shape, like.dtype)
    check("out", out, like.dtype, like.shape, True)
    for name, array in sources.items():
        if array is not None and np.may_share_memory(out, array) and data(out) != data(array):
            raise ValueError(f"out must be {name} itself or not overlap it")
    return out


cdef int check_groups(object groups, int64_t channels) except -1:
    if not 1 <= groups <= channels or channels % groups:
        raise ValueError(f"groups must divide the {channels} channels, got {groups}")
    return 0


cdef int set_shape(fnn_op *op, object x, int64_t groups) except -1:
    """Sizes of (rows, channels), or of (n, rows, channels) and the groups; returns the place of act."""
    cdef int i
    for i in range(x.ndim):
        op.dim[i] = x.shape[i]
    if x.ndim == 2:
        return 2
    op.dim[3] = groups
    return 4


cdef int set_activation(fnn_op *op, int place, object activation, object alpha) except -1:
    op.dim[place] = -1
    if activation is not None:
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation must be None or one of {', '.join(ACTIVATIONS)}, got {activation!r}")
        op.dim[place] = ACTIVATIONS.index(activation)
        op.scalar[0] = {"leaky_relu": 0.01, "elu": 1.0}.get(activation, 0.0) if alpha is None else alpha
    return 0


cdef inline object last(tuple shape):
    return shape[len(shape) - 1]


cdef object statistics_shape(object x, object mean):
    """What mean and invstd must have as shape: of channels, or of groups, whose number mean tells."""
    if x.ndim == 2:
        return (x.shape[1],)
    if not isinstance(mean, np.ndarray) or mean.ndim != 2:
        raise ValueError(f"mean must be an array of shape ({x.shape[0]}, groups), got {np.shape(mean)}")
    check_groups(mean.shape[1], x.shape[2])
    return (x.shape[0], mean.shape[1])


cdef object stats(str name, object x, object shape):
    cdef fnn_op op
    memset(&op, 0, sizeof(op))
    op.dtype = check_rows("x", x, 2 if name == "batch_norm_stats" else 3)
    set_shape(&op, x, last(x.shape))
    partial = np.zeros(shape(x), x.dtype)
    op.buf[0], op.buf[1] = data(partial), data(x)
    runtime.run_one(name, &op)
    return partial


cdef object batch_partial(object x):
    return (pieces_of(x.shape[0]), 2, x.shape[1])


cdef object group_partial(object x):
    return (x.shape[0], group_pieces(x.shape[1]), 2, x.shape[2])


cdef object apply(str name, int ndim, object x, object mean, object spread, object weight, object bias, double eps,
                  object residual, object activation, object alpha, object out):
    cdef fnn_op op
    memset(&op, 0, sizeof(op))
    op.dtype = check_rows("x", x, ndim)
    shape = statistics_shape(x, mean)
    evaluation = name == "batch_norm_eval"
    names = ("running_mean", "running_var") if evaluation else ("mean", "invstd")
    check_vectors(dict(zip(names, (mean, spread))), x.dtype, shape)
    check_vectors({"weight": weight, "bias": bias}, x.dtype, (last(x.shape),))
    check_vectors({"residual": residual}, x.dtype, x.shape)
    set_activation(&op, set_shape(&op, x, last(shape)), activation, alpha)
    out = output(out, x, {"x": x, "residual": residual})
    check_apart({"out": out, names[0]: mean, names[1]: spread, "weight": weight, "bias": bias})
    op.buf[0], op.buf[1], op.buf[2], op.buf[3] = data(out), data(x), data(mean), data(spread)
    op.buf[4], op.buf[5], op.buf[6] = data(weight), data(bias), data(residual)
    op.scalar[2] = eps
    runtime.run_one(name, &op)
    return out


cdef object grad_stats(str name, int ndim, object dy, object x, object mean, object invstd, object y,
                       object activation, object alpha, object shape):
    cdef fnn_op op
    memset(&op, 0, sizeof(op))
    op.dtype = check_rows("dy", dy, ndim)
    check_vectors({"x": x, "y": y}, dy.dtype, dy.shape)
    statistics = statistics_shape(dy, mean)
    check_vectors({"mean": mean, "invstd": invstd}, dy.dtype, statistics)
    set_activation(&op, set_shape(&op, dy, last(statistics)), activation, alpha)
    if (y is None) != (activation is None):
        raise ValueError("y and activation must be given together")
    partial = np.zeros(shape(dy), dy.dtype)
    op.buf[0], op.buf[1], op.buf[2] = data(partial), data(dy), data(x)
    op.buf[3], op.buf[4], op.buf[5] = data(mean), data(invstd), data(y)
    runtime.run_one(name, &op)
    return partial


cdef object grad_apply(str name, int ndim, object dy, object x, object mean, object invstd, object weight,
                       object sums, object y, object activation, object alpha, bint residual, object out):
    cdef fnn_op op
    memset(&op, 0, sizeof(op))
    op.dtype = check_rows("dy", dy, ndim)
    check_vectors({"x": x, "y": y}, dy.dtype, dy.shape)
    statistics = statistics_shape(dy, mean)
    check_vectors({"mean": mean, "invstd": invstd}, dy.dtype, statistics)
    check_vectors({"weight": weight}, dy.dtype, (last(dy.shape),))
    check_vectors({"sums": sums}, dy.dtype, (*statistics[:ndim - 2], 2, last(statistics)))
    set_activation(&op, set_shape(&op, dy, last(statistics)), activation, alpha)
    if (y is None) != (activation is None):
        raise ValueError("y and activation must be given together")
    out = output(out, dy, {"dy": dy})
    check_apart({"out": out, "x": x, "mean": mean, "invstd": invstd, "weight": weight, "sums": sums})
    check_apart({"out": out, "y": y})
    dresidual = np.empty(dy.shape, dy.dtype) if residual else None
    op.buf[0], op.buf[1], op.buf[2], op.buf[3] = data(out), data(dresidual), data(dy), data(x)
    op.buf[4], op.buf[5], op.buf[6], op.buf[7] = data(mean), data(invstd), data(weight), data(sums)
    op.buf[8] = data(y)
    runtime.run_one(name, &op)
    return (out, dresidual) if residual else out


def batch_norm_stats(x):
    """Mean, less the first row, and sum of squared deviations of each channel of each piece.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (rows, channels)
        C-contiguous, as all arrays here.

    Returns
    -------
    ndarray of shape (pieces_of(rows), 2, channels)
        Zeros where a piece has no rows.

    Raises
    ------
    TypeError, ValueError
        If an array is not float32 or float64, or its dtype, shape or layout does not fit; so in all
        functions here.

    References
    ----------
    Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances",
    1979.
    """
    return stats("batch_norm_stats", x, batch_partial)


def batch_norm_finish(partial, x, double eps=1e-5):
    """Mean, inverse deviation and variance of each channel from the statistics of pieces.

    Parameters
    ----------
    partial : ndarray, shape (pieces_of(rows), 2, channels)
        From batch_norm_stats.
    x : ndarray, shape (rows, channels)
        As given there; its first row is read.
    eps : float, default 1e-5
        Added to the variance.

    Returns
    -------
    mean, invstd, var : ndarray, shape (channels,)
        invstd = 1 / sqrt(var + eps), of the biased variance.
    """
    cdef fnn_op op
    memset(&op, 0, sizeof(op))
    op.dtype = check_rows("x", x, 2)
    check("partial", partial, x.dtype, batch_partial(x))
    check_positive("eps", eps)
    mean, invstd, var = (np.empty(x.shape[1], x.dtype) for _ in range(3))
    op.buf[0], op.buf[1], op.buf[2], op.buf[3], op.buf[4] = data(mean), data(invstd), data(var), data(partial), data(x)
    op.dim[0], op.dim[1] = x.shape
    op.scalar[0] = eps
    runtime.run_one("batch_norm_finish", &op)
    return mean, invstd, var


cdef int check_partial(object partial, tuple front, int64_t rows) except -1:
    cdef int dtype = check_real("partial", partial, None)
    check_count(rows)
    if partial.ndim != len(front) + 1 or partial.shape[:len(front)] != front or partial.size == 0:
        expected = ", ".join(map(str, front))
        raise ValueError(f"partial must have shape ({expected}, channels), got {partial.shape}")
    return dtype


def batch_norm_running(running_mean, running_var, mean, var, int64_t rows, momentum=0.1, batches=None):
    """Moves the running statistics towards a batch's, in place.

    Parameters
    ----------
    running_mean, running_var : ndarray, shape (channels,)
        running = (1 - momentum) running + momentum value.
    mean, var : ndarray, shape (channels,)
        From batch_norm_finish; the running variance takes var rows / (rows - 1), or var where rows is 1.
    rows : int
    momentum : float or None, default 0.1
        None: the average of all batches so far, which needs `batches`.
    batches : ndarray of int64, shape (), optional
        Counted up.
    """
    cdef fnn_op op
    memset(&op, 0, sizeof(op))
    op.dtype = check_real("running_mean", running_mean, None, True)
    if running_mean.ndim != 1:
        raise ValueError(f"running_mean must have shape (channels,), got {running_mean.shape}")
    check_count(rows)
    check("running_var", running_var, running_mean.dtype, running_mean.shape, True)
    check_vectors({"mean": mean, "var": var}, running_mean.dtype, running_mean.shape)
    if batches is not None:
        check("batches", batches, "int64", (), True)
    if momentum is None and batches is None:
        raise ValueError("batches must be given where momentum is None")
    if momentum is not None and not 0 <= momentum <= 1:
        raise ValueError(f"momentum must be None or lie in 0 ... 1, got {momentum}")
    check_apart({"running_mean": running_mean, "running_var": running_var, "mean": mean, "var": var,
                 "batches": batches})
    op.buf[0], op.buf[1], op.buf[2] = data(running_mean), data(running_var), data(batches)
    op.buf[3], op.buf[4] = data(mean), data(var)
    op.dim[0], op.dim[1] = rows, running_mean.shape[0]
    op.scalar[0] = -1 if momentum is None else momentum
    runtime.run_one("batch_norm_running", &op)


def batch_norm_invstd(var, double eps=1e-5):
    """1 / sqrt(var + eps) of an array of shape (channels,)."""
    cdef fnn_op op
    memset(&op, 0, sizeof(op))
    op.dtype = check_real("var", var, None)
    check_positive("eps", eps)
    invstd = np.empty(var.shape, var.dtype)
    op.buf[0], op.buf[1] = data(invstd), data(var)
    op.dim[0] = var.size
    op.scalar[0] = eps
    runtime.run_one("batch_norm_invstd", &op)
    return invstd


def batch_norm_apply(x, mean, invstd, weight=None, bias=None, *, residual=None, activation=None, alpha=None,
                     out=None):
    """y = f((x - mean) invstd weight + bias + residual).

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (rows, channels)
    mean, invstd : ndarray, shape (channels,)
        From batch_norm_finish.
    weight, bias : ndarray, shape (channels,), optional
        Default 1 and 0.
    residual : ndarray, shape of `x`, optional
    activation : str, optional
        A name of fastnn_ext.activation.ACTIVATIONS.
    alpha : float, optional
        The activation's slope or scale.
    out : ndarray, shape of `x`, optional
        Where y goes; may be `x` or `residual` itself.

    Returns
    -------
    ndarray
        `out`, or a new array.

    References
    ----------
    Ioffe, Szegedy, "Batch normalization: accelerating deep network training by reducing internal
    covariate shift", ICML 2015, algorithm 1.
    """
    return apply("batch_norm_apply", 2, x, mean, invstd, weight, bias, 0, residual, activation, alpha, out)


def batch_norm_eval(x, running_mean, running_var, weight=None, bias=None, double eps=1e-5, *, residual=None,
                    activation=None, alpha=None, out=None):
    """As batch_norm_apply, with 1 / sqrt(running_var + eps) for invstd."""
    check_positive("eps", eps)
    return apply("batch_norm_eval", 2, x, running_mean, running_var, weight, bias, eps, residual, activation, alpha,
                 out)


def batch_norm_grad_stats(dy, x, mean, invstd, *, y=None, activation=None, alpha=None):
    """Each piece's sums of g and of g xhat, where g is the gradient before the activation.

    Parameters
    ----------
    dy, x : ndarray of float32 or float64, shape (rows, channels)
    mean, invstd : ndarray, shape (channels,)
    y : ndarray, shape of `x`, optional
        With an activation: what its gradient is taken from (see fastnn_ext.activation.SAVES).
    activation, alpha
        As in batch_norm_apply.

    Returns
    -------
    ndarray of shape (pieces_of(rows), 2, channels)
    """
    return grad_stats("batch_norm_grad_stats", 2, dy, x, mean, invstd, y, activation, alpha, batch_partial)


def batch_norm_grad_finish(partial, int64_t rows):
    """Gradients of weight and bias from the sums of pieces.

    Parameters
    ----------
    partial : ndarray, shape (pieces_of(rows), 2, channels)
        From batch_norm_grad_stats or layer_norm_grad_params.
    rows : int

    Returns
    -------
    dweight, dbias : ndarray, shape (channels,)
    sums : ndarray, shape (2, channels)
        For batch_norm_grad_apply: dbias above dweight.
    """
    cdef fnn_op op
    memset(&op, 0, sizeof(op))
    op.dtype = check_partial(partial, (pieces_of(rows), 2), rows)
    dweight, dbias = (np.empty(partial.shape[2], partial.dtype) for _ in range(2))
    sums = np.empty((2, partial.shape[2]), partial.dtype)
    op.buf[0], op.buf[1], op.buf[2], op.buf[3] = data(dweight), data(dbias), data(sums), data(partial)
    op.dim[0], op.dim[1] = rows, partial.shape[2]
    runtime.run_one("batch_norm_grad_finish", &op)
    return dweight, dbias, sums


def batch_norm_grad_apply(dy, x, mean, invstd, weight=None, sums=None, *, y=None, activation=None, alpha=None,
                          bint residual=False, out=None):
    """dx = weight invstd (g - sum(g) / rows - xhat sum(g xhat) / rows).

    Parameters
    ----------
    dy, x, mean, invstd, y, activation, alpha
        As in batch_norm_grad_stats.
    weight : ndarray, shape (channels,), optional
    sums : ndarray, shape (2, channels), optional
        From batch_norm_grad_finish. Without: dx = weight invstd g, as mean and invstd are constants.
    residual : bool, default False
        Also return the gradient of the residual, which is g.
    out : ndarray, shape of `dy`, optional
        Where dx goes; may be `dy` itself.

    Returns
    -------
    dx, or (dx, dresidual) : ndarray
    """
    return grad_apply("batch_norm_grad_apply", 2, dy, x, mean, invstd, weight, sums, y, activation, alpha, residual,
                      out)


def group_norm_stats(x):
    """As batch_norm_stats, for each sample of x (n, rows, channels): (n, group_pieces(rows), 2, channels)."""
    return stats("group_norm_stats", x, group_partial)


def group_norm_finish(partial, x, int64_t groups, double eps=1e-5):
    """Mean and inverse deviation of each group of channels of each sample.

    Parameters
    ----------
    partial : ndarray, shape (n, group_pieces(rows), 2, channels)
        From group_norm_stats.
    x : ndarray, shape (n, rows, channels)
        As given there; each sample's first row is read.
    groups : int
        Divides the channels; as many as channels make it instance norm.
    eps : float, default 1e-5

    Returns
    -------
    mean, invstd : ndarray, shape (n, groups)

    References
    ----------
    Wu, He, "Group normalization", ECCV 2018. Ulyanov, Vedaldi, Lempitsky, "Instance normalization", 2016.
    """
    cdef fnn_op op
    memset(&op, 0, sizeof(op))
    op.dtype = check_rows("x", x, 3)
    check("partial", partial, x.dtype, group_partial(x))
    check_groups(groups, x.shape[2])
    check_positive("eps", eps)
    mean, invstd = (np.empty((x.shape[0], groups), x.dtype) for _ in range(2))
    op.buf[0], op.buf[1], op.buf[2], op.buf[3] = data(mean), data(invstd), data(partial), data(x)
    set_shape(&op, x, groups)
    op.scalar[0] = eps
    runtime.run_one("group_norm_finish", &op)
    return mean, invstd


def group_norm_apply(x, mean, invstd, weight=None, bias=None, *, residual=None, activation=None, alpha=None,
                     out=None):
    """As batch_norm_apply, for x (n, rows, channels) with mean and invstd (n, groups)."""
    return apply("group_norm_apply", 3, x, mean, invstd, weight, bias, 0, residual, activation, alpha, out)


def group_norm_grad_stats(dy, x, mean, invstd, *, y=None, activation=None, alpha=None):
    """As batch_norm_grad_stats, for each sample: (n, group_pieces(rows), 2, channels)."""
    return grad_stats("group_norm_grad_stats", 3, dy, x, mean, invstd, y, activation, alpha, group_partial)


def group_norm_grad_params(partial, int64_t rows):
    """Gradients of weight and bias, each (channels,), from group_norm_grad_stats."""
    cdef fnn_op op
    memset(&op, 0, sizeof(op))
    op.dtype = check_partial(partial, (*np.shape(partial)[:1], group_pieces(rows), 2), rows)
    dweight, dbias = (np.empty(partial.shape[3], partial.dtype) for _ in range(2))
    op.buf[0], op.buf[1], op.buf[3] = data(dweight), data(dbias), data(partial)
    op.dim[0], op.dim[1], op.dim[2], op.dim[3] = partial.shape[0], rows, partial.shape[3], partial.shape[3]
    runtime.run_one("group_norm_grad_params", &op)
    return dweight, dbias


def group_norm_grad_finish(partial, int64_t rows, int64_t groups, weight=None):
    """Each sample's sums over groups of weight g and weight g xhat: (n, 2, groups)."""
    cdef fnn_op op
    memset(&op, 0, sizeof(op))
    op.dtype = check_partial(partial, (*np.shape(partial)[:1], group_pieces(rows), 2), rows)
    n, channels = partial.shape[0], partial.shape[3]
    check_groups(groups, channels)
    check_vectors({"weight": weight}, partial.dtype, (channels,))
    sums = np.empty((n, 2, groups), partial.dtype)
    op.buf[0], op.buf[1], op.buf[2] = data(sums), data(partial), data(weight)
    op.dim[0], op.dim[1], op.dim[2], op.dim[3] = n, rows, channels, groups
    runtime.run_one("group_norm_grad_finish", &op)
    return sums


def group_norm_grad_apply(dy, x, mean, invstd, weight=None, sums=None, *, y=None, activation=None, alpha=None,
                          bint residual=False, out=None):
    """As batch_norm_grad_apply, for samples, with mean and invstd (n, groups) and sums (n, 2, groups)."""
    return grad_apply("group_norm_grad_apply", 3, dy, x, mean, invstd, weight, sums, y, activation, alpha, residual,
                      out)


def layer_norm(x, weight=None, bias=None, double eps=1e-5, *, out=None):
    """y = (x - mean) invstd weight + bias, with the mean and deviation of each row.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (rows, cols)
    weight, bias : ndarray, shape (cols,), optional
    eps : float, default 1e-5
        Added to the (biased) variance.
    out : ndarray, shape of `x`, optional
        Where y goes; may be `x` itself.

    Returns
    -------
    y : ndarray, shape of `x`
    mean, invstd : ndarray, shape (rows,)

    References
    ----------
    Ba, Kiros, Hinton, "Layer normalization", 2016.
    """
    cdef fnn_op op
    memset(&op, 0, sizeof(op))
    op.dtype = check_rows("x", x, 2)
    check_vectors({"weight": weight, "bias": bias}, x.dtype, x.shape[1:])
    check_positive("eps", eps)
    out = output(out, x, {"x": x})
    check_apart({"out": out, "weight": weight, "bias": bias})
    mean, invstd = (np.empty(x.shape[0], x.dtype) for _ in range(2))
    op.buf[0], op.buf[1], op.buf[2] = data(out), data(mean), data(invstd)
    op.buf[3], op.buf[4], op.buf[5] = data(x), data(weight), data(bias)
    op.dim[0], op.dim[1] = x.shape
    op.scalar[0] = eps
    runtime.run_one("layer_norm", &op)
    return out, mean, invstd


def layer_norm_backward(dy, x, mean, invstd, weight=None, *, out=None):
    """dx = invstd (g - mean(g) - xhat mean(g xhat)) with g = weight dy, in each row.

    Parameters
    ----------
    dy, x : ndarray of float32 or float64, shape (rows, cols)
    mean, invstd : ndarray, shape (rows,)
        From layer_norm.
    weight : ndarray, shape (cols,), optional
    out : ndarray, shape of `dy`, optional
        Where dx goes; may be `dy` itself.

    Returns
    -------
    ndarray
        `out`, or a new array.
    """
    cdef fnn_op op
    memset(&op, 0, sizeof(op))
    op.dtype = check_rows("dy", dy, 2)
    check("x", x, dy.dtype, dy.shape)
    check_vectors({"mean": mean, "invstd": invstd}, dy.dtype, dy.shape[:1])
    check_vectors({"weight": weight}, dy.dtype, dy.shape[1:])
    out = output(out, dy, {"dy": dy})
    check_apart({"out": out, "x": x, "mean": mean, "invstd": invstd, "weight": weight})
    op.buf[0], op.buf[1], op.buf[2] = data(out), data(dy), data(x)
    op.buf[3], op.buf[4], op.buf[5] = data(mean), data(invstd), data(weight)
    op.dim[0], op.dim[1] = dy.shape
    runtime.run_one("layer_norm_backward", &op)
    return out


def layer_norm_grad_params(dy, x, mean, invstd):
    """Each piece's sums over rows of dy and of dy xhat: (pieces_of(rows), 2, cols), for batch_norm_grad_finish."""
    cdef fnn_op op
    memset(&op, 0, sizeof(op))
    op.dtype = check_rows("dy", dy, 2)
    check("x", x, dy.dtype, dy.shape)
    check_vectors({"mean": mean, "invstd": invstd}, dy.dtype, dy.shape[:1])
    partial = np.zeros((pieces_of(dy.shape[0]), 2, dy.shape[1]), dy.dtype)
    op.buf[0], op.buf[1], op.buf[2] = data(partial), data(dy), data(x)
    op.buf[3], op.buf[4] = data(mean), data(invstd)
    op.dim[0], op.dim[1] = dy.shape
    runtime.run_one("layer_norm_grad_params", &op)
    return partial


cdef int set_response(fnn_op *op, object x, int64_t size, double alpha, double beta) except -1:
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    if not math.isfinite(alpha) or not math.isfinite(beta):
        raise ValueError(f"alpha and beta must be finite, got {alpha} and {beta}")
    # A window beyond all channels sees no more of them.
    op.dim[0], op.dim[1], op.dim[2] = x.shape[0], x.shape[1], min(size, max(1, 2 * x.shape[1]))
    op.scalar[0], op.scalar[1] = alpha * (<double> op.dim[2] / <double> size), beta
    return 0


def local_response_norm(x, int64_t size, double alpha=1e-4, double beta=0.75, double k=1.0, *, out=None):
    """y = x / base^beta, base = k + alpha / size * (sum of x^2 over `size` neighbouring channels).

    The window of channel c reaches from c - size // 2 to c + (size - 1) // 2, as in PyTorch; channels
    outside count as 0.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (rows, channels)
    size : int
    alpha, beta, k : float, default 1e-4, 0.75, 1
    out : ndarray, shape of `x`, optional
        Where y goes; may be `x` itself.

    Returns
    -------
    y, base : ndarray, shape of `x`

    References
    ----------
    Krizhevsky, Sutskever, Hinton, "ImageNet classification with deep convolutional neural networks",
    NIPS 2012, section 3.3 (where alpha is not divided by the size).
    """
    cdef fnn_op op
    memset(&op, 0, sizeof(op))
    op.dtype = check_rows("x", x, 2)
    set_response(&op, x, size, alpha, beta)
    if not math.isfinite(k):
        raise ValueError(f"k must be finite, got {k}")
    op.scalar[2] = k
    out = output(out, x, {"x": x})
    base = np.empty(x.shape, x.dtype)
    op.buf[0], op.buf[1], op.buf[2] = data(out), data(base), data(x)
    runtime.run_one("local_response_norm", &op)
    return out, base


def local_response_norm_backward(dy, x, base, int64_t size, double alpha=1e-4, double beta=0.75, *, out=None):
    """The gradient of local_response_norm.

    Parameters
    ----------
    dy, x, base : ndarray of float32 or float64, shape (rows, channels)
        `base` from the forward pass.
    size, alpha, beta
        As in the forward pass.
    out : ndarray, shape of `dy`, optional
        Where dx goes; may be `dy` itself.

    Returns
    -------
    ndarray
        `out`, or a new array.
    """
    cdef fnn_op op
    memset(&op, 0, sizeof(op))
    op.dtype = check_rows("dy", dy, 2)
    check_vectors({"x": x, "base": base}, dy.dtype, dy.shape)
    set_response(&op, dy, size, alpha, beta)
    out = output(out, dy, {"dy": dy})
    check_apart({"out": out, "x": x, "base": base})
    op.buf[0], op.buf[1], op.buf[2], op.buf[3] = data(out), data(dy), data(x), data(base)
    runtime.run_one("local_response_norm_backward", &op)
    return out
