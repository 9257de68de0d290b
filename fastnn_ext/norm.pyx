"""Batch, group, layer and local response norm: y = (x - mean) / deviation * weight + bias, and gradients.

Shapes
------
x, y, dy, dx, residual, dresidual and base are (rows, channels); (n, rows, channels) in group norm, whose rows are those
of a sample; (rows, cols) in layer norm. mean and invstd are (channels,); (n, groups) in group norm; (rows,) in layer
norm. weight, bias and their gradients are (channels,) or (cols,). Instance norm is group norm with groups == channels.

Statistics and gradients
------------------------
invstd is 1 / sqrt(var + eps), xhat is (x - mean) invstd, and g is dy times the gradient of the activation.

Sums over rows are taken in pieces, each in a fixed order, which a later op combines in a fixed order. `partial`,
(pieces, 2, channels) or (n, pieces, 2, channels), has of statistics each piece's mean, less the first row of x (of the
sample), and its sum of squared deviations from the mean; of gradients, its sums of g and of g xhat. Batch and layer
norm have pieces_of(rows) pieces, 64 but for millions of rows; those without rows are not touched. Group norm cuts each
sample's rows into group_pieces(rows). batch_norm_grad_finish combines what layer_norm_grad_params leaves, too.

`sums`, (2, channels), has the sums of g and of g xhat over all rows; in group norm, (n, 2, groups), those of g and g
xhat times the weight. Without them, batch_norm_grad_apply takes mean and invstd as constants, and reads neither x nor
mean: so it is in evaluation mode.

Activations
-----------
`act` is an index in fastnn_ext.activation.ACTIVATIONS, or -1. In gradients, `y` is what the activation's is taken from:
SAVES says what. Of those that save their input, the forward pass must leave it alone.

What may be left out
--------------------
Without weight or bias, they are 1 and 0. Outputs marked with ? in the signatures are computed where they are given; the
op that makes dx and dresidual may make one of them alone. y may lie in the memory of x or residual, dx and dresidual in
that of dy.

Running statistics
------------------
momentum < 0 stands for the cumulative average, which needs `batches`, an int64; where that is given, it counts up in
any case. The running variance is the unbiased one, save for rows == 1, where there is none. It comes from `var`, as 1 /
invstd^2 - eps has no digit left where the variance is far below eps.

Local response norm
-------------------
y = x / base^beta with base = k + alpha / size * (sum of x^2 over `size` neighbouring channels). The window of channel c
reaches from c - size // 2 to c + (size - 1) // 2, as in PyTorch, and channels outside count as 0.

References
----------
Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979. Ioffe, Szegedy,
"Batch normalization: accelerating deep network training by reducing internal covariate shift", ICML 2015, algorithm 1.
Wu, He, "Group normalization", ECCV 2018. Ulyanov, Vedaldi, Lempitsky, "Instance normalization", 2016. Ba, Kiros,
Hinton, "Layer normalization", 2016. Krizhevsky, Sutskever, Hinton, "ImageNet classification with deep convolutional
neural networks", NIPS 2012, section 3.3 (where alpha is not divided by the size).
"""
from libc.math cimport sqrt
from libc.stdint cimport INT64_MAX, int64_t
from libc.string cimport memcpy, memset

from fastnn_ext cimport runtime
from fastnn_ext.activation cimport act_backward, act_forward, backward_kernel, forward_kernel
from fastnn_ext.driver cimport at, ceil_div, item_size
from fastnn_ext.runtime cimport FNN_MOST_NS, fnn_op, short_parts


cdef extern from "simd/activation.h" nogil:
    enum: ACT_relu

cdef extern from "simd/norm.h" nogil:
    enum: NORM_SCRATCH, NORM_FEW
    struct norm_far:
        double scale, n, mean, m2
    struct norm_job:
        int64_t rows, channels, stride, per, piece, pieces
        void *partial
        const void *first_row
        const void *x
        const void *dy
        const void *residual
        void *y
        void *dx
        void *dresidual
        void *mean
        void *invstd
        void *var
        const void *weight
        const void *bias
        void *dweight
        void *dbias
        void *sums
        void *dots
        int64_t weighted
        double count, eps
        double *part
        norm_far *far_part
        int64_t far_parts
        int64_t relu
        act_backward act
        const double *settings
        int64_t far
        void *scratch
    struct norm_response_job:
        int64_t rows, channels, first, n, size
        double alpha, beta, k
        const void *x
        const void *dy
        void *y
        void *base
        void *dx
        void *scratch
    struct norm_kernels:
        int64_t (*columns)(int64_t channels) noexcept nogil
        void (*stats)(const norm_job *job) noexcept nogil
        int (*grad_stats)(const norm_job *job) noexcept nogil
        void (*far_dots)(const norm_job *job, int64_t begin, int64_t end) noexcept nogil
        void (*row_grad_stats)(const norm_job *job) noexcept nogil
        void (*finish)(const norm_job *job) noexcept nogil
        void (*group_finish)(const norm_job *job) noexcept nogil
        void (*far_stats)(const norm_job *job) noexcept nogil
        void (*far_finish)(const norm_job *job) noexcept nogil
        void (*grad_finish)(const norm_job *job) noexcept nogil
        void (*group_grad_finish)(const norm_job *job) noexcept nogil
        void (*running)(void *running_mean, void *running_var, const void *mean, const void *var, int64_t rows,
                        int64_t channels, double gain) noexcept nogil
        void (*inverse)(void *invstd, const void *var, int64_t channels, double eps) noexcept nogil
        void (*forward_columns)(const norm_job *job) noexcept nogil
        void (*apply)(const norm_job *job) noexcept nogil
        void (*backward_columns)(norm_job *job) noexcept nogil
        void (*grad_apply)(const norm_job *job) noexcept nogil
        void (*layer)(const norm_job *job) noexcept nogil
        void (*layer_grad)(const norm_job *job) noexcept nogil
        void (*layer_moments)(const norm_job *job, double shift, double *sum, double *square) noexcept nogil
        void (*layer_part)(const norm_job *job, double mean, double invstd) noexcept nogil
        int (*keeps_digits)(double var, double eps) noexcept nogil
        void (*far_layer_moments)(const norm_job *job) noexcept nogil
        int (*far_layer_part)(const norm_job *job, double *mean, double *invstd) noexcept nogil
        void (*layer_grad_sums)(const norm_job *job, double *sum, double *dot) noexcept nogil
        void (*layer_grad_part)(const norm_job *job, double sum, double dot) noexcept nogil
        int64_t (*response_scratch)(int64_t n, int64_t size) noexcept nogil
        void (*response)(const norm_response_job *job) noexcept nogil
        void (*response_grad)(const norm_response_job *job) noexcept nogil
    const norm_kernels *norm_table(int isa, int dtype)


# Group norm's pieces have so many rows at least, so that what they leave is small next to x. None has more than
# LONGEST_PIECE: then there are more of them.
cdef enum: MOST_PIECES = 64, MOST_GROUP_PIECES = 16, LEAST_GROUP_PIECE = 64, LONGEST_PIECE = 1 << 13

# Places in fnn_op.buf, by op.
cdef enum: STATS_PARTIAL, STATS_X
cdef enum: FINISH_MEAN, FINISH_INVSTD, FINISH_VAR, FINISH_PARTIAL, FINISH_X
cdef enum: GROUP_FINISH_MEAN, GROUP_FINISH_INVSTD, GROUP_FINISH_PARTIAL, GROUP_FINISH_X
cdef enum: RUNNING_MEAN, RUNNING_VAR, BATCHES, BATCH_MEAN, BATCH_VAR
cdef enum: INVSTD, VAR
# SPREAD: invstd, or in batch_norm_eval the variance.
cdef enum: APPLY_Y, APPLY_X, APPLY_MEAN, APPLY_SPREAD, APPLY_WEIGHT, APPLY_BIAS, APPLY_RESIDUAL
cdef enum: GRAD_STATS_PARTIAL, GRAD_STATS_DY, GRAD_STATS_X, GRAD_STATS_MEAN, GRAD_STATS_INVSTD, GRAD_STATS_Y
# batch_norm_grad_finish, group_norm_grad_params (which has no sums) and group_norm_grad_finish.
cdef enum: DWEIGHT, DBIAS, BATCH_SUMS, BATCH_PARTIAL
cdef enum: GROUP_PARTIAL = 2
cdef enum: GROUP_SUMS, SUMS_PARTIAL, SUMS_WEIGHT
cdef enum: DX, DRESIDUAL, DY, GRAD_X, GRAD_MEAN, GRAD_INVSTD, GRAD_WEIGHT, GRAD_SUMS, GRAD_Y

# Places in fnn_op.dim: of batch norm, of batch_norm_invstd, and of group norm.
cdef enum: BATCH_ROWS, BATCH_CHANNELS, BATCH_ACT
cdef enum: INVSTD_CHANNELS
cdef enum: GROUP_N, GROUP_ROWS, GROUP_CHANNELS, GROUP_GROUPS, GROUP_ACT
# Places in fnn_op.scalar: of ops with an activation, of batch_norm_running, and of the others.
cdef enum: ALPHA, BETA, EVAL_EPS
cdef enum: MOMENTUM
cdef enum: EPS

# What prepare finds out, in fnn_op.dim behind the sizes: batch norm is group norm of one sample with a group a channel.
cdef enum:
    SAMPLES = 8, ROWS, CHANNELS, GROUPS, ACT
    PIECE, USED    # rows a piece; pieces that a sample's rows make
    SPAN, PARTS    # a chunk is SPAN pieces, samples or channels, or one of PARTS of a sample's rows
    BLOCKS, SPLIT  # into which channels are cut where they are many: of whole groups, or SPLIT of each group
    FAR_PARTS      # into which a chunk is cut where its numbers are far from 1

# A chunk's aim in nanoseconds; bytes of rows that are still in L1 when an activation takes them; and channels whose
# pieces a chunk combines, at most.
cdef enum: CHUNK_NS = 20000, HOT_BYTES = 16384, SPAN_CHANNELS = 128
# Channels of a block at least, a cache line of float32; and how many channels a chunk lays out in columns, at most:
# where there are more, blocks have MAP_BLOCK, and a chunk of rows is LONGER times as long, lest the columns take most
# of it.
cdef enum: LEAST_BLOCK = 16, MOST_COLUMNS = 4096, MAP_BLOCK = 2048, LONGER = 4

# Nanoseconds, for each float32 on AVX2 unless said otherwise, and how much longer each ISA takes.
cdef double STATS_NS = 0.1, APPLY_NS = 0.12, GRAD_STATS_NS = 0.2, GRAD_APPLY_NS = 0.2
cdef double ACT_NS = 0.7  # an activation other than relu
# A piece, a column of many rows, combining, laying out a column, or one of a line of few, a group's statistics.
cdef double PIECE_NS = 20, COLUMN_NS = 1, PARTIAL_NS = 0.25, LAYOUT_NS = 3, LINE_NS = 1.5, GROUP_NS = 5
cdef double RUNNING_NS = 2, INVSTD_NS = 5  # a channel, on any ISA
cdef double LAYER_NS = 0.2, LAYER_GRAD_NS = 0.22, ROW_NS = 20
cdef double RESPONSE_NS = 0.5, TERM_NS = 0.08, POWER_NS = 1.5  # plus each term of a window; beta not 0.75
cdef double FAR_NS = 0.3  # more, for each float32 of an array that no cache holds
cdef enum: NEAR_ELEMENTS = 1 << 20  # of one that a cache does
cdef double RARE_NS = 4  # a chunk, for each number far from 1: of any type, on any ISA
cdef double[3] ISA_FACTOR = [2.0, 1.0, 0.7]


cdef inline int64_t clip(double x, int64_t most) noexcept nogil:
    return 1 if x < 1 else most if x > most else <int64_t> x


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
    op.dim[SAMPLES], op.dim[ROWS], op.dim[ACT] = 1, op.dim[BATCH_ROWS], op.dim[BATCH_ACT]
    op.dim[CHANNELS] = op.dim[GROUPS] = op.dim[BATCH_CHANNELS]
    op.dim[PIECE] = rows_of_piece(op.dim[ROWS], MOST_PIECES, 1)
    set_sizes(op)


cdef void set_group(fnn_op *op) noexcept nogil:
    op.dim[SAMPLES], op.dim[ROWS], op.dim[CHANNELS] = op.dim[GROUP_N], op.dim[GROUP_ROWS], op.dim[GROUP_CHANNELS]
    op.dim[GROUPS], op.dim[ACT] = op.dim[GROUP_GROUPS], op.dim[GROUP_ACT]
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


cdef inline int64_t far_parts(double ns) noexcept nogil:
    """Into how many parts work on numbers far from 1 is cut. As such numbers are rare, a chunk of ordinary ones is made
    no shorter for them than it must: it may take all of a millisecond."""
    return short_parts(ns * FNN_MOST_NS / 1e6)


cdef void cut_pieces(fnn_op *op, double ns, double column, bint far) noexcept nogil:
    """Chunks of whole pieces, or of some channels of one. `column`: nanoseconds to lay out a channel, where there are
    more than MOST_COLUMNS. `far`: a second round looks for numbers far from 1, if that may take long."""
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
    op.dim[FAR_PARTS] = min(far_parts(RARE_NS * rows * width * op.dim[SPAN]), width) if far else 1
    op.rounds = 1 if op.dim[FAR_PARTS] == 1 else 2
    op.chunks = ceil_div(pieces, op.dim[SPAN]) * op.dim[BLOCKS] * op.dim[FAR_PARTS]
    op.scratch = NORM_SCRATCH * kernels_of(op).columns(width)


cdef void cut_rows(fnn_op *op, double ns) noexcept nogil:
    """Chunks of some rows of a sample, or of some samples, or of some rows and channels."""
    cdef int64_t samples = op.dim[SAMPLES], rows = op.dim[ROWS], width = op.dim[CHANNELS]
    cdef double sample, chunk = CHUNK_NS, columns = scaled(op, LINE_NS * kernels_of(op).columns(width))
    if is_map(op):
        ns += ACT_NS
    sample = scaled(op, ns) * rows * width
    op.cost = sample * samples if rows * samples * width < NEAR_ELEMENTS else at_most(op, ns) * rows * width * samples
    if width > MOST_COLUMNS:
        width = cut_blocks(op, MAP_BLOCK)
        op.cost += scaled(op, LAYOUT_NS) * samples * op.dim[CHANNELS]
        sample /= op.dim[BLOCKS]
        chunk *= LONGER
    elif samples > 1:
        sample += columns
        op.cost += columns * samples
    op.dim[PARTS] = clip(sample / chunk + 0.5, max(<int64_t> 1, rows))  # rounded to the nearest
    op.dim[SPAN] = 1 if op.dim[PARTS] > 1 else clip(chunk / (sample + 1), max(<int64_t> 1, samples))
    op.chunks = ceil_div(samples, op.dim[SPAN]) * op.dim[PARTS] * op.dim[BLOCKS] if rows > 0 else 0
    op.scratch = NORM_SCRATCH * kernels_of(op).columns(width)


cdef double cut_channels(fnn_op *op) noexcept nogil:
    """Chunks of some channels; returns nanoseconds of one."""
    cdef double channel = PARTIAL_NS * 2 * max(<int64_t> 1, op.dim[SAMPLES] * op.dim[USED])
    op.dim[SPAN] = max(<int64_t> LEAST_BLOCK, clip(FNN_MOST_NS / channel, SPAN_CHANNELS))
    op.chunks = ceil_div(op.dim[CHANNELS], op.dim[SPAN])
    op.scratch = NORM_SCRATCH * SPAN_CHANNELS
    op.cost = channel * op.dim[CHANNELS]
    return channel


cdef void cut_sums(fnn_op *op) noexcept nogil:
    """Chunks of some channels; of very many pieces, a first round makes fewer, in chunks of half the time that one may
    take."""
    cdef double channel = cut_channels(op)
    op.dim[PARTS] = 1
    if channel * op.dim[SPAN] > FNN_MOST_NS:
        op.dim[SPAN] = SPAN_CHANNELS
        op.dim[PARTS] = short_parts(2 * channel * SPAN_CHANNELS)
        op.rounds = 2
        op.shared = op.dim[PARTS] * 2 * op.dim[CHANNELS] * item_size(op)
    op.chunks = ceil_div(op.dim[CHANNELS], op.dim[SPAN]) * op.dim[PARTS]


cdef int64_t cut_samples(fnn_op *op, double more) noexcept nogil:
    """Chunks of some samples, or of some channels of one, of half the time that a chunk may take: parts of groups are
    still to be joined. `more`: nanoseconds for each channel. Returns the most channels that a chunk has of a sample."""
    cdef int64_t width = op.dim[CHANNELS]
    cdef double sample = PARTIAL_NS * 2 * (op.dim[USED] + 2) * width + GROUP_NS * op.dim[GROUPS]
    op.cost = sample * op.dim[SAMPLES]
    op.dim[SPAN] = clip(CHUNK_NS / sample, max(<int64_t> 1, op.dim[SAMPLES]))
    sample += more * width
    if sample > FNN_MOST_NS:
        op.dim[SPAN] = 1
        width = cut_blocks(op, width * (FNN_MOST_NS / sample / 2))
    op.chunks = ceil_div(op.dim[SAMPLES], op.dim[SPAN]) * op.dim[BLOCKS]
    op.scratch = NORM_SCRATCH * width
    return width


cdef bint cut_far(fnn_op *op, int64_t rows) noexcept nogil:
    """Where a chunk's numbers, so many rows of one channel, would take long if they were far from 1: cut into parts."""
    op.dim[FAR_PARTS] = min(far_parts(RARE_NS * rows), max(<int64_t> 1, op.dim[ROWS]))
    op.chunks *= op.dim[FAR_PARTS]
    return op.dim[FAR_PARTS] > 1


cdef void prepare_batch_stats(fnn_op *op) noexcept nogil:
    set_batch(op)
    cut_pieces(op, STATS_NS, COLUMN_NS, False)


cdef void prepare_group_stats(fnn_op *op) noexcept nogil:
    set_group(op)
    op.dim[GROUPS] = op.dim[CHANNELS]  # statistics of channels know no groups
    cut_pieces(op, STATS_NS, COLUMN_NS, False)


cdef void prepare_batch_grad_stats(fnn_op *op) noexcept nogil:
    set_batch(op)
    cut_pieces(op, GRAD_STATS_NS + (ACT_NS if is_map(op) else 0), LAYOUT_NS, True)


cdef void prepare_group_grad_stats(fnn_op *op) noexcept nogil:
    set_group(op)
    cut_pieces(op, GRAD_STATS_NS + (ACT_NS if is_map(op) else 0), LAYOUT_NS, True)


cdef void prepare_batch_finish(fnn_op *op) noexcept nogil:
    set_batch(op)
    cut_channels(op)
    if cut_far(op, op.dim[ROWS] * min(op.dim[SPAN], op.dim[CHANNELS])):
        op.rounds = 3
        op.shared = op.dim[CHANNELS] * op.dim[FAR_PARTS] * sizeof(norm_far)


cdef void prepare_batch_grad_finish(fnn_op *op) noexcept nogil:
    set_batch(op)
    cut_sums(op)


cdef void prepare_group_params(fnn_op *op) noexcept nogil:
    set_group(op)
    cut_sums(op)


cdef void prepare_group_finish(fnn_op *op) noexcept nogil:
    cdef int64_t width
    set_group(op)
    width = cut_samples(op, RARE_NS / 2)
    if cut_far(op, op.dim[SPAN] * op.dim[ROWS] * width) or op.dim[SPLIT] > 1:
        op.rounds = 4
        op.shared = op.dim[SAMPLES] * (op.dim[BLOCKS] * 2 * sizeof(double)
                                       + op.dim[GROUPS] * op.dim[SPLIT] * op.dim[FAR_PARTS] * sizeof(norm_far))


cdef void prepare_group_grad_finish(fnn_op *op) noexcept nogil:
    set_group(op)
    cut_samples(op, 0)
    if op.dim[SPLIT] > 1:
        op.rounds = 2
        op.shared = op.chunks * 2 * sizeof(double)


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
    cut_vector(op, op.dim[BATCH_CHANNELS], RUNNING_NS)
    if op.chunks > 1:
        op.rounds = 2  # `batches` is read for all channels before it is counted up


cdef void prepare_invstd(fnn_op *op) noexcept nogil:
    cut_vector(op, op.dim[INVSTD_CHANNELS], INVSTD_NS)


# ---- batch and group norm: run --------------------------------------------------------------------

cdef norm_job job_of(const fnn_op *op, const block *b, void *scratch) noexcept nogil:
    """The op's sizes, for all rows of a sample and a block of channels; its memory is still to come."""
    cdef norm_job job
    memset(&job, 0, sizeof(job))
    job.rows, job.piece, job.pieces = op.dim[ROWS], op.dim[PIECE], op.dim[USED]
    job.channels, job.stride, job.per = b.n, op.dim[CHANNELS], b.per
    job.relu = op.dim[ACT] == ACT_relu
    job.settings = &op.scalar[ALPHA]
    job.scratch = scratch
    return job


cdef int run_stats(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t rows = op.dim[ROWS], channels = op.dim[CHANNELS], i, first, row
    cdef block b = block_of(op, chunk % op.dim[BLOCKS])
    cdef norm_job job = job_of(op, &b, scratch)
    chunk = chunk // op.dim[BLOCKS]
    for i in range(chunk * op.dim[SPAN], min((chunk + 1) * op.dim[SPAN], op.dim[SAMPLES] * op.dim[USED])):
        first = i // op.dim[USED] * rows
        row = i % op.dim[USED] * op.dim[PIECE]
        job.rows = min(op.dim[PIECE], rows - row)
        job.partial = at(op, STATS_PARTIAL, 2 * i * channels + b.first)
        job.first_row = at(op, STATS_X, first * channels + b.first)
        job.x = at(op, STATS_X, (first + row) * channels + b.first)
        kernels_of(op).stats(&job)
    return 0


cdef int run_grad_stats(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t rows = op.dim[ROWS], channels = op.dim[CHANNELS], i, row, sample, place, group
    cdef int64_t far = op.dim[FAR_PARTS], round = chunk // op.chunks, part = chunk % op.chunks % far
    cdef block b = block_of(op, chunk % op.chunks // far % op.dim[BLOCKS])
    cdef norm_job job = job_of(op, &b, scratch)
    if is_map(op):
        job.act = backward_kernel(<int> op.dim[ACT], op.isa, op.dtype)
    if round == 0 and part > 0:
        return 0
    chunk = chunk % op.chunks // far // op.dim[BLOCKS]
    for i in range(chunk * op.dim[SPAN], min((chunk + 1) * op.dim[SPAN], op.dim[SAMPLES] * op.dim[USED])):
        sample = i // op.dim[USED]
        row = i % op.dim[USED] * op.dim[PIECE]
        place = (sample * rows + row) * channels + b.first
        group = sample * op.dim[GROUPS] + b.group
        job.rows = min(op.dim[PIECE], rows - row)
        job.partial = at(op, GRAD_STATS_PARTIAL, 2 * i * channels + b.first)
        job.dy, job.x = at(op, GRAD_STATS_DY, place), at(op, GRAD_STATS_X, place)
        job.mean, job.invstd = at(op, GRAD_STATS_MEAN, group), at(op, GRAD_STATS_INVSTD, group)
        job.y = at(op, GRAD_STATS_Y, place)
        if round == 1:
            kernels_of(op).far_dots(&job, b.n * part // far, b.n * (part + 1) // far)
        elif kernels_of(op).grad_stats(&job) and op.rounds == 1:
            kernels_of(op).far_dots(&job, 0, b.n)
    return 0


cdef inline block some_channels(const fnn_op *op, int64_t i) noexcept nogil:
    """SPAN channels, or what is left, each with a mean of its own."""
    cdef block b
    b.group = b.first = i * op.dim[SPAN]
    b.n = min(op.dim[SPAN], op.dim[CHANNELS] - b.first)
    b.per = 1
    return b


cdef void find_far(const fnn_op *op, const norm_job *whole, int64_t part) noexcept nogil:
    """What one of FAR_PARTS of the rows knows where numbers are far from 1."""
    cdef int64_t parts = op.dim[FAR_PARTS], first = whole.rows * part // parts
    cdef norm_job job = whole[0]
    job.x = <const char *> whole.x + first * whole.stride * item_size(op)
    job.rows = whole.rows * (part + 1) // parts - first
    job.far_part = whole.far_part + part
    job.far_parts = parts
    kernels_of(op).far_stats(&job)


cdef int run_finish(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t far = op.dim[FAR_PARTS], round = chunk // op.chunks, part = chunk % op.chunks % far
    cdef block b = some_channels(op, chunk % op.chunks // far)
    cdef norm_job job = job_of(op, &b, scratch)
    job.mean, job.invstd = at(op, FINISH_MEAN, b.first), at(op, FINISH_INVSTD, b.first)
    job.var = at(op, FINISH_VAR, b.first)
    job.partial, job.x = at(op, FINISH_PARTIAL, b.first), at(op, FINISH_X, b.first)
    job.eps = op.scalar[EPS]
    job.far_part = <norm_far *> scratch if op.rounds == 1 else <norm_far *> op.common + b.first * far
    if round == 0 and part == 0:
        kernels_of(op).finish(&job)
    if round == 1 or op.rounds == 1:
        find_far(op, &job, part)
    if round == op.rounds - 1 and part == 0:
        job.far_parts = far
        kernels_of(op).far_finish(&job)
    return 0


cdef inline double *part_at(const fnn_op *op, int64_t chunk) noexcept nogil:
    """Where the chunks leave what they know of parts of groups, two numbers each; NULL where groups are not cut."""
    return NULL if op.dim[SPLIT] == 1 else <double *> op.common + 2 * chunk


cdef inline void put(const fnn_op *op, int k, int64_t i, double value) noexcept nogil:
    if op.dtype == 0:
        (<float *> op.buf[k])[i] = <float> value
    else:
        (<double *> op.buf[k])[i] = value


cdef void join_group(const fnn_op *op, int64_t sample, int64_t group) noexcept nogil:
    """Mean and inverse deviation of a group from those of its parts, as the kernel takes them from its channels."""
    cdef int64_t groups = op.dim[GROUPS], split = op.dim[SPLIT], per = op.dim[CHANNELS] // groups
    cdef int64_t rows = op.dim[ROWS], k
    cdef double *parts = part_at(op, sample * op.dim[BLOCKS] + group * split)
    cdef double mean = 0, m2 = 0, away
    for k in range(split):
        mean += parts[2 * k] * block_of(op, k).n / per
    for k in range(split):
        away = parts[2 * k] - mean
        m2 += parts[2 * k + 1] + <double> rows * block_of(op, k).n * away * away
    m2 /= <double> rows * per
    put(op, GROUP_FINISH_MEAN, sample * groups + group, mean)
    put(op, GROUP_FINISH_INVSTD, sample * groups + group, 1 / sqrt(m2 + op.scalar[EPS]))


cdef int run_group_finish(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    """In rounds, or in one go: statistics, or those of parts of groups; these joined; the same of numbers far from
    1."""
    cdef int64_t channels = op.dim[CHANNELS], groups = op.dim[GROUPS], split = op.dim[SPLIT], i, place
    cdef int64_t far = op.dim[FAR_PARTS], round = chunk // op.chunks, part = chunk % op.chunks % far
    cdef int64_t cut = chunk % op.chunks // far % op.dim[BLOCKS]
    cdef int64_t first = chunk % op.chunks // far // op.dim[BLOCKS] * op.dim[SPAN]
    cdef norm_far *found = <norm_far *> (<double *> op.common + 2 * op.dim[SAMPLES] * op.dim[BLOCKS])
    cdef bint joins = part == 0 and cut % split == 0  # the first part of a group joins them all
    cdef block b = block_of(op, cut)
    cdef norm_job job = job_of(op, &b, scratch)
    job.eps = op.scalar[EPS]
    for i in range(first, min(first + op.dim[SPAN], op.dim[SAMPLES])):
        place = i * groups + b.group
        job.mean, job.invstd = at(op, GROUP_FINISH_MEAN, place), at(op, GROUP_FINISH_INVSTD, place)
        job.partial = at(op, GROUP_FINISH_PARTIAL, i * op.dim[USED] * 2 * channels + b.first)
        job.x = at(op, GROUP_FINISH_X, i * op.dim[ROWS] * channels + b.first)
        if round == 0 and part == 0:
            job.part = part_at(op, i * op.dim[BLOCKS] + cut)
            kernels_of(op).group_finish(&job)
        if round == 1 and split > 1 and joins:
            join_group(op, i, b.group)
        job.far_part = <norm_far *> scratch if op.rounds == 1 else found + (place * split + cut % split) * far
        if round == 2 or op.rounds == 1:
            find_far(op, &job, part)
        if round == op.rounds - 1 and joins:
            job.far_parts = split * far
            kernels_of(op).far_finish(&job)
    return 0


cdef void add_pieces(const fnn_op *op, int64_t chunk, int partial, int64_t first, norm_job *job) noexcept nogil:
    """The sums of pieces over all samples: of all of them, or first of PARTS parts of them, which op.common keeps."""
    cdef int64_t channels = op.dim[CHANNELS], parts = op.dim[PARTS], part = chunk % op.chunks % parts
    cdef int64_t count = op.dim[SAMPLES] * op.dim[USED], begin = count * part // parts
    cdef char *kept = <char *> op.common + first * item_size(op)
    if op.rounds == 1:
        job.partial, job.pieces = at(op, partial, first), count
        kernels_of(op).grad_finish(job)
    elif chunk < op.chunks:
        job.partial = at(op, partial, 2 * begin * channels + first)
        job.pieces = count * (part + 1) // parts - begin
        job.dweight = job.dbias = NULL
        job.sums = kept + 2 * part * channels * item_size(op)
        job.dots = kept + (2 * part + 1) * channels * item_size(op)
        kernels_of(op).grad_finish(job)
    elif part == 0:
        job.partial, job.pieces = kept, parts
        kernels_of(op).grad_finish(job)


cdef int run_grad_finish(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef block b = some_channels(op, chunk % op.chunks // op.dim[PARTS])
    cdef norm_job job = job_of(op, &b, scratch)
    job.dweight, job.dbias = at(op, DWEIGHT, b.first), at(op, DBIAS, b.first)
    job.sums, job.dots = at(op, BATCH_SUMS, b.first), at(op, BATCH_SUMS, op.dim[CHANNELS] + b.first)
    add_pieces(op, chunk, BATCH_PARTIAL, b.first, &job)
    return 0


cdef int run_group_grad_params(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef block b = some_channels(op, chunk % op.chunks // op.dim[PARTS])
    cdef norm_job job = job_of(op, &b, scratch)
    job.dweight, job.dbias = at(op, DWEIGHT, b.first), at(op, DBIAS, b.first)
    add_pieces(op, chunk, GROUP_PARTIAL, b.first, &job)
    return 0


cdef int run_group_grad_finish(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t channels = op.dim[CHANNELS], groups = op.dim[GROUPS], i, k, sums
    cdef bint joins = chunk >= op.chunks
    cdef block b
    cdef norm_job job
    cdef double *part
    chunk = chunk % op.chunks
    b = block_of(op, chunk % op.dim[BLOCKS])
    part = part_at(op, chunk)
    job = job_of(op, &b, scratch)
    job.part = part
    job.weight = at(op, SUMS_WEIGHT, b.first)
    chunk = chunk // op.dim[BLOCKS]
    for i in range(chunk * op.dim[SPAN], min((chunk + 1) * op.dim[SPAN], op.dim[SAMPLES])):
        sums = i * 2 * groups + b.group
        if not joins:
            job.sums, job.dots = at(op, GROUP_SUMS, sums), at(op, GROUP_SUMS, sums + groups)
            job.partial = at(op, SUMS_PARTIAL, i * op.dim[USED] * 2 * channels + b.first)
            kernels_of(op).group_grad_finish(&job)
        elif b.first == b.group * (channels // groups):  # the first part of its group
            for k in range(1, op.dim[SPLIT]):
                part[0] += part[2 * k]
                part[1] += part[2 * k + 1]
            put(op, GROUP_SUMS, sums, part[0])
            put(op, GROUP_SUMS, sums + groups, part[1])
    return 0


cdef int run_running(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t *batches = <int64_t *> op.buf[BATCHES]
    cdef int64_t first = chunk * op.dim[SPAN], n = min(op.dim[SPAN], op.dim[BATCH_CHANNELS] - first)
    cdef double gain = op.scalar[MOMENTUM]
    if batches != NULL and gain < 0:
        gain = 1.0 / (<double> batches[0] + 1)
    if chunk < op.chunks:
        kernels_of(op).running(at(op, RUNNING_MEAN, first), at(op, RUNNING_VAR, first), at(op, BATCH_MEAN, first),
                               at(op, BATCH_VAR, first), op.dim[BATCH_ROWS], n, gain)
    if batches != NULL and chunk == op.chunks * (op.rounds - 1):
        batches[0] += batches[0] < INT64_MAX
    return 0


cdef int run_invstd(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t first = chunk * op.dim[SPAN], n = min(op.dim[SPAN], op.dim[INVSTD_CHANNELS] - first)
    kernels_of(op).inverse(at(op, INVSTD, first), at(op, VAR, first), n, op.scalar[EPS])
    return 0


cdef inline int64_t hot_rows(const fnn_op *op, const block *b) noexcept nogil:
    """How many rows, that lie side by side, an activation takes in one go."""
    if op.dim[BLOCKS] > 1:
        return 1
    return max(<int64_t> 1, HOT_BYTES // (b.n * item_size(op)))


cdef void apply_chunk(const fnn_op *op, int64_t chunk, void *scratch, double eps) noexcept nogil:
    """SPREAD is the variance if eps >= 0, else invstd."""
    cdef int64_t rows = op.dim[ROWS], channels = op.dim[CHANNELS], sample, row, end, place, group
    cdef block b = block_of(op, chunk % op.dim[BLOCKS])
    cdef int64_t part = chunk // op.dim[BLOCKS] % op.dim[PARTS]
    cdef int64_t first = chunk // op.dim[BLOCKS] // op.dim[PARTS] * op.dim[SPAN]
    cdef act_forward act = forward_kernel(<int> op.dim[ACT], op.isa, op.dtype) if is_map(op) else NULL
    cdef int64_t most = hot_rows(op, &b) if act != NULL else rows
    cdef norm_job job = job_of(op, &b, scratch)
    job.weight, job.bias = at(op, APPLY_WEIGHT, b.first), at(op, APPLY_BIAS, b.first)
    job.eps = eps
    for sample in range(first, min(first + op.dim[SPAN], op.dim[SAMPLES])):
        group = sample * op.dim[GROUPS] + b.group
        job.mean = at(op, APPLY_MEAN, group)
        job.invstd = job.var = at(op, APPLY_SPREAD, group)
        kernels_of(op).forward_columns(&job)
        row = rows * part // op.dim[PARTS]
        end = rows * (part + 1) // op.dim[PARTS]
        while row < end:
            place = (sample * rows + row) * channels + b.first
            job.rows = min(most, end - row)
            job.y, job.x, job.residual = at(op, APPLY_Y, place), at(op, APPLY_X, place), at(op, APPLY_RESIDUAL, place)
            kernels_of(op).apply(&job)
            if act != NULL:
                act(job.y, job.y, job.rows * b.n, job.settings)
            row += job.rows


cdef int run_apply(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    apply_chunk(op, chunk, scratch, -1)
    return 0


cdef int run_eval(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    apply_chunk(op, chunk, scratch, op.scalar[EVAL_EPS])
    return 0


cdef void grad_apply_chunk(const fnn_op *op, int64_t chunk, void *scratch, bint weighted) noexcept nogil:
    """`weighted`: sums have the weight in them."""
    cdef int64_t rows = op.dim[ROWS], channels = op.dim[CHANNELS], groups = op.dim[GROUPS]
    cdef block b = block_of(op, chunk % op.dim[BLOCKS])
    cdef int64_t part = chunk // op.dim[BLOCKS] % op.dim[PARTS], sample, row, end, place, group, sums
    cdef int64_t first = chunk // op.dim[BLOCKS] // op.dim[PARTS] * op.dim[SPAN]
    # What the kernel does not do itself goes through g, written to dresidual, or to dx where there is none.
    cdef bint mapped = is_map(op) or op.buf[DX] == NULL
    cdef act_backward act = backward_kernel(<int> op.dim[ACT], op.isa, op.dtype)
    cdef int64_t most = hot_rows(op, &b) if mapped else rows
    cdef norm_job job = job_of(op, &b, scratch)
    cdef void *g
    job.weight = at(op, GRAD_WEIGHT, b.first)
    job.weighted = weighted
    job.count = <double> (rows * (channels // groups))
    if mapped:
        job.relu = False
    for sample in range(first, min(first + op.dim[SPAN], op.dim[SAMPLES])):
        group = sample * groups + b.group
        sums = sample * 2 * groups + b.group
        job.mean, job.invstd = at(op, GRAD_MEAN, group), at(op, GRAD_INVSTD, group)
        job.sums, job.dots = at(op, GRAD_SUMS, sums), at(op, GRAD_SUMS, sums + groups)
        if op.buf[DX] != NULL:
            kernels_of(op).backward_columns(&job)
        row = rows * part // op.dim[PARTS]
        end = rows * (part + 1) // op.dim[PARTS]
        while row < end:
            place = (sample * rows + row) * channels + b.first
            job.rows = min(most, end - row)
            job.dx, job.dresidual = at(op, DX, place), at(op, DRESIDUAL, place)
            job.dy, job.x, job.y = at(op, DY, place), at(op, GRAD_X, place), at(op, GRAD_Y, place)
            if mapped:
                g = job.dx if job.dresidual == NULL else job.dresidual
                if act != NULL:
                    act(g, job.dy, job.y, job.rows * b.n, job.settings)
                elif g != job.dy:
                    memcpy(g, job.dy, job.rows * b.n * item_size(op))
                job.dy = g
                job.dresidual = NULL
            if job.dx != NULL:
                kernels_of(op).grad_apply(&job)
            row += job.rows


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
runtime.register_op("group_norm_grad_params", run_group_grad_params, prepare_group_params,
                    "dweight? dbias?", "partial", "n rows channels")
runtime.register_op("group_norm_grad_finish", run_group_grad_finish, prepare_group_grad_finish,
                    "sums", "partial weight?", "n rows channels groups")
runtime.register_op("group_norm_grad_apply", run_group_grad_apply, prepare_group_grad_apply,
                    "dx? dresidual?", "*dy x mean invstd weight? sums y?", "n rows channels groups act", "alpha beta")


# ---- layer norm -----------------------------------------------------------------------------------

# Places in fnn_op.buf: of y, of dx, and of the parameters' gradients.
cdef enum: LAYER_Y, LAYER_MEAN, LAYER_INVSTD, LAYER_X, LAYER_WEIGHT, LAYER_BIAS
cdef enum: LAYER_DX, LAYER_DY, LAYER_GRAD_X, LAYER_GRAD_MEAN, LAYER_GRAD_INVSTD, LAYER_GRAD_WEIGHT
cdef enum: PARAMS_PARTIAL, PARAMS_DY, PARAMS_X, PARAMS_MEAN, PARAMS_INVSTD
# Places in fnn_op.dim; local response norm's columns are channels.
cdef enum: ROW_COUNT, COLS

# What the parts of a long row find, in op.common: (rows, PARTS, FOUND) doubles, and behind them (rows, PARTS) norm_far.
cdef enum: FIRST_SUM, SUM, SQUARE, FOUND


cdef void cut_plain_rows(fnn_op *op, double ns, double far_ns, int64_t rounds) noexcept nogil:
    """Chunks of some rows, or of a part of one, of a quarter of the time that a chunk may take, in so many rounds.
    far_ns: of an element that is far from 1."""
    cdef double row = scaled(op, ns) * op.dim[COLS] + ROW_NS, longest = at_most(op, ns) * op.dim[COLS]
    op.kernels = norm_table(op.isa, op.dtype)
    op.dim[SPAN] = clip(CHUNK_NS / row, max(<int64_t> 1, op.dim[ROW_COUNT]))
    op.dim[PARTS] = far_parts(far_ns * op.dim[COLS])
    if longest > FNN_MOST_NS:
        op.dim[PARTS] = max(op.dim[PARTS], short_parts(4 * longest))
    if op.dim[PARTS] > 1:
        op.dim[SPAN] = 1
        op.dim[PARTS] = min(op.dim[PARTS], ceil_div(op.dim[COLS], LEAST_BLOCK))
        op.rounds = rounds
    op.chunks = ceil_div(op.dim[ROW_COUNT], op.dim[SPAN]) * op.dim[PARTS]
    op.cost = (row if op.dim[ROW_COUNT] * op.dim[COLS] < NEAR_ELEMENTS else longest) * op.dim[ROW_COUNT]
    if op.rounds > 1:
        op.shared = op.chunks * (FOUND * sizeof(double) + sizeof(norm_far))


cdef double total_of(const fnn_op *op, const double *first, int value) noexcept nogil:
    cdef double total = 0
    cdef int64_t i
    for i in range(op.dim[PARTS]):
        total += first[i * FOUND + value]
    return total


cdef void prepare_layer(fnn_op *op) noexcept nogil:
    cut_plain_rows(op, LAYER_NS, RARE_NS, 4)


cdef void prepare_layer_grad(fnn_op *op) noexcept nogil:
    cut_plain_rows(op, LAYER_GRAD_NS, RARE_NS, 2)


cdef void prepare_layer_grad_params(fnn_op *op) noexcept nogil:
    set_batch(op)
    cut_pieces(op, GRAD_STATS_NS, LAYOUT_NS, False)


cdef norm_job layer_job(const fnn_op *op, int64_t row, int64_t col, int64_t end) noexcept nogil:
    """Columns [col, end) of a row."""
    cdef int64_t place = row * op.dim[COLS] + col
    cdef norm_job job
    memset(&job, 0, sizeof(job))
    job.rows, job.channels, job.count = 1, end - col, <double> op.dim[COLS]
    job.y, job.mean, job.invstd = at(op, LAYER_Y, place), at(op, LAYER_MEAN, row), at(op, LAYER_INVSTD, row)
    job.x = at(op, LAYER_X, place)
    job.weight, job.bias = at(op, LAYER_WEIGHT, col), at(op, LAYER_BIAS, col)
    job.eps = op.scalar[EPS]
    return job


cdef int run_long_layer(const fnn_op *op, int64_t chunk) noexcept nogil:
    """A part of a long row: as the kernel does it, a pass a round."""
    cdef const norm_kernels *kernels = kernels_of(op)
    cdef int64_t cols = op.dim[COLS], parts = op.dim[PARTS], round = chunk // op.chunks
    cdef int64_t row = chunk % op.chunks // parts, part = chunk % parts
    cdef double *first = <double *> op.common + row * parts * FOUND
    cdef double *mine = first + part * FOUND
    cdef norm_far *far = <norm_far *> (<double *> op.common + op.chunks * FOUND) + row * parts
    cdef double mean, rest, var, invstd
    cdef norm_job job = layer_job(op, row, cols * part // parts, cols * (part + 1) // parts)
    if round == 0:
        kernels.layer_moments(&job, 0, &mine[FIRST_SUM], &mine[SQUARE])
        return 0
    mean = total_of(op, first, FIRST_SUM) / cols
    if op.dtype == 0:
        mean = <float> mean
    if round == 1:
        kernels.layer_moments(&job, mean, &mine[SUM], &mine[SQUARE])
        return 0
    rest = total_of(op, first, SUM) / cols
    var = total_of(op, first, SQUARE) / cols - rest * rest
    invstd = 1 / sqrt((0 if var < 0 else var) + op.scalar[EPS])
    mean += rest
    if kernels.keeps_digits(var, op.scalar[EPS]):
        if round == 3:
            return 0
        kernels.layer_part(&job, mean, invstd)
    elif round == 2:
        job.far_part = far + part
        kernels.far_layer_moments(&job)
        return 0
    else:
        job.far_part, job.far_parts = far, parts
        if not kernels.far_layer_part(&job, &mean, &invstd):
            kernels.layer_part(&job, mean, invstd)
    if part == 0 and job.mean != NULL:
        put(op, LAYER_MEAN, row, mean)
    if part == 0 and job.invstd != NULL:
        put(op, LAYER_INVSTD, row, invstd)
    return 0


cdef int run_layer(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t row = chunk * op.dim[SPAN]
    cdef norm_job job
    if op.dim[PARTS] > 1:
        return run_long_layer(op, chunk)
    job = layer_job(op, row, 0, op.dim[COLS])
    job.rows = min(op.dim[SPAN], op.dim[ROW_COUNT] - row)
    kernels_of(op).layer(&job)
    return 0


cdef norm_job layer_grad_job(const fnn_op *op, int64_t row, int64_t col, int64_t end) noexcept nogil:
    """As layer_job, for dx."""
    cdef int64_t place = row * op.dim[COLS] + col
    cdef norm_job job
    memset(&job, 0, sizeof(job))
    job.rows, job.channels, job.count = 1, end - col, <double> op.dim[COLS]
    job.dx, job.dy, job.x = at(op, LAYER_DX, place), at(op, LAYER_DY, place), at(op, LAYER_GRAD_X, place)
    job.mean, job.invstd = at(op, LAYER_GRAD_MEAN, row), at(op, LAYER_GRAD_INVSTD, row)
    job.weight = at(op, LAYER_GRAD_WEIGHT, col)
    return job


cdef int run_long_layer_grad(const fnn_op *op, int64_t chunk) noexcept nogil:
    cdef const norm_kernels *kernels = kernels_of(op)
    cdef int64_t cols = op.dim[COLS], parts = op.dim[PARTS]
    cdef int64_t row = chunk % op.chunks // parts, part = chunk % parts
    cdef double *first = <double *> op.common + row * parts * FOUND
    cdef double *mine = first + part * FOUND
    cdef norm_job job = layer_grad_job(op, row, cols * part // parts, cols * (part + 1) // parts)
    if chunk < op.chunks:
        kernels.layer_grad_sums(&job, &mine[SUM], &mine[SQUARE])
    else:
        kernels.layer_grad_part(&job, total_of(op, first, SUM), total_of(op, first, SQUARE))
    return 0


cdef int run_layer_grad(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t row = chunk * op.dim[SPAN]
    cdef norm_job job
    if op.dim[PARTS] > 1:
        return run_long_layer_grad(op, chunk)
    job = layer_grad_job(op, row, 0, op.dim[COLS])
    job.rows = min(op.dim[SPAN], op.dim[ROW_COUNT] - row)
    kernels_of(op).layer_grad(&job)
    return 0


cdef int run_layer_grad_params(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t rows = op.dim[ROWS], cols = op.dim[CHANNELS], i, row, place
    cdef block b = block_of(op, chunk % op.dim[BLOCKS])
    cdef norm_job job = job_of(op, &b, scratch)
    chunk = chunk // op.dim[BLOCKS]
    for i in range(chunk * op.dim[SPAN], min((chunk + 1) * op.dim[SPAN], op.dim[USED])):
        row = i * op.dim[PIECE]
        place = row * cols + b.first
        job.rows = min(op.dim[PIECE], rows - row)
        job.partial = at(op, PARAMS_PARTIAL, 2 * i * cols + b.first)
        job.dy, job.x = at(op, PARAMS_DY, place), at(op, PARAMS_X, place)
        job.mean, job.invstd = at(op, PARAMS_MEAN, row), at(op, PARAMS_INVSTD, row)
        kernels_of(op).row_grad_stats(&job)
    return 0


runtime.register_op("layer_norm", run_layer, prepare_layer, "y mean? invstd?", "x weight? bias?", "rows cols", "eps")
runtime.register_op("layer_norm_backward", run_layer_grad, prepare_layer_grad,
                    "dx", "dy x mean invstd weight?", "rows cols")
runtime.register_op("layer_norm_grad_params", run_layer_grad_params, prepare_layer_grad_params,
                    "partial", "dy x mean invstd", "rows cols")


# ---- local response norm --------------------------------------------------------------------------

# Places in fnn_op.buf, of y and of dx; in fnn_op.dim, behind ROW_COUNT and COLS; and in fnn_op.scalar.
cdef enum: RESPONSE_Y, RESPONSE_BASE, RESPONSE_X
cdef enum: RESPONSE_DX, RESPONSE_DY, RESPONSE_GRAD_X, RESPONSE_GRAD_BASE
cdef enum: SIZE = 2
cdef enum: RESPONSE_ALPHA, RESPONSE_BETA, RESPONSE_K


cdef void prepare_response(fnn_op *op) noexcept nogil:
    cdef double power_ns = 0 if op.scalar[RESPONSE_BETA] == 0.75 else POWER_NS
    cut_plain_rows(op, RESPONSE_NS + TERM_NS * op.dim[SIZE] + power_ns, 0, 1)
    op.scratch = kernels_of(op).response_scratch(ceil_div(op.dim[COLS], op.dim[PARTS]), op.dim[SIZE])
    op.scratch *= item_size(op)


cdef norm_response_job response_job(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    """The rows and channels of a chunk; their memory is still to come."""
    cdef int64_t parts = op.dim[PARTS], part = chunk % parts
    cdef norm_response_job job
    memset(&job, 0, sizeof(job))
    job.rows = min(op.dim[SPAN], op.dim[ROW_COUNT] - chunk // parts * op.dim[SPAN])
    job.channels, job.size = op.dim[COLS], op.dim[SIZE]
    job.first = job.channels * part // parts
    job.n = job.channels * (part + 1) // parts - job.first
    job.alpha, job.beta = op.scalar[RESPONSE_ALPHA], op.scalar[RESPONSE_BETA]
    job.scratch = scratch
    return job


cdef int run_response(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t place = chunk // op.dim[PARTS] * op.dim[SPAN] * op.dim[COLS]
    cdef norm_response_job job = response_job(op, chunk, scratch)
    job.k = op.scalar[RESPONSE_K]
    job.y, job.base, job.x = at(op, RESPONSE_Y, place), at(op, RESPONSE_BASE, place), at(op, RESPONSE_X, place)
    kernels_of(op).response(&job)
    return 0


cdef int run_response_grad(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t place = chunk // op.dim[PARTS] * op.dim[SPAN] * op.dim[COLS]
    cdef norm_response_job job = response_job(op, chunk, scratch)
    job.dx, job.dy = at(op, RESPONSE_DX, place), at(op, RESPONSE_DY, place)
    job.x, job.base = at(op, RESPONSE_GRAD_X, place), at(op, RESPONSE_GRAD_BASE, place)
    kernels_of(op).response_grad(&job)
    return 0


runtime.register_op("local_response_norm", run_response, prepare_response,
                    "y base?", "x", "rows channels size", "alpha beta k")
runtime.register_op("local_response_norm_backward", run_response_grad, prepare_response,
                    "dx", "dy x base", "rows channels size", "alpha beta")


# ---- sizes of temporaries -------------------------------------------------------------------------

cdef int64_t MOST_ROWS = <int64_t> 1 << 46  # no memory holds more


cdef int check_rows(int64_t rows) except -1:
    if not 1 <= rows <= MOST_ROWS:
        raise ValueError(f"rows must be at least 1, and no more than memory holds, got {rows}")
    return 0


def pieces_of(int64_t rows):
    """How many pieces batch and layer norm cut so many rows into, or fewer of them, at most."""
    check_rows(rows)
    return max(<int64_t> MOST_PIECES, ceil_div(rows, LONGEST_PIECE))


def group_pieces(int64_t rows):
    """How many pieces group norm cuts the rows of one sample into."""
    check_rows(rows)
    return ceil_div(rows, rows_of_piece(rows, MOST_GROUP_PIECES, LEAST_GROUP_PIECE))
