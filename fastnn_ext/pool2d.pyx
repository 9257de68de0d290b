# distutils: extra_compile_args = -Os
"""Max and average pooling over channels-last images, windowed and adaptive, and their gradients.

x and dx are (n, ih, iw, c), y and dy (n, oh, ow, c). Ceil mode is a larger oh or ow. The window of output o of an
adaptive pooling is [floor(o * in / out), ceil((o + 1) * in / out)) along each axis.

`index`, (n, oh, ow, c), is where the maxima were; forward ops need not give it. The first of equals wins, and NaN over
all, as in PyTorch. For windows of at most MOST_TAPS it is uint8: the tap i * kw + j in its window, or kh * kw where the
window lies outside the image and y is -Inf. For larger ones and adaptive_max_pool2d it is int32: h * iw + w, or -1.

An average divides by `divisor`; where that is 0 by how many taps lie in the image or, with count_include_pad, in the
image padded by pad_top above and below and pad_left on both sides.

Where a pixel takes longer than a chunk may, a chunk has some of its channels; where a vector of them does, as its
windows are large, they are read in several rounds.
"""
from libc.stdint cimport int64_t
from libc.string cimport memset

from fastnn_ext cimport runtime
from fastnn_ext.driver cimport ceil_div, item_size
from fastnn_ext.runtime cimport FNN_MOST_NS, fnn_op, short_parts


cdef extern from "simd/pool2d.h" nogil:
    struct pool2d_job:
        int64_t ih, iw, c, oh, ow
        int64_t kh, kw, stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w
        int64_t count_include_pad, divisor
        int64_t row0, row1, col0, col1, c0, c1
        int64_t down, down_parts, across, across_parts
        void *out
        const void *in_ "in"
        void *index
        int64_t flat
        void *scratch
    struct pool2d_kernels:
        int64_t lanes
        void (*max)(const pool2d_job *job) noexcept nogil
        void (*avg)(const pool2d_job *job) noexcept nogil
        void (*max_gather)(const pool2d_job *job) noexcept nogil
        void (*avg_gather)(const pool2d_job *job) noexcept nogil
        void (*max_scatter)(const pool2d_job *job) noexcept nogil
        int64_t (*forward_bytes)(const pool2d_job *job) noexcept nogil
        int64_t (*backward_bytes)(const pool2d_job *job) noexcept nogil
    const pool2d_kernels *pool2d_table(int isa, int dtype)


# Places in fnn_op.buf: of maxima, of averages, of gradients.
cdef enum: MAX_Y, MAX_INDEX, MAX_X
cdef enum: AVG_Y, AVG_X
cdef enum: DX, DY, INDEX
# Places in fnn_op.dim. An adaptive op has those up to OW, and kh is 0. Those from ROWS on are set by prepare.
cdef enum:
    N, IH, IW, C, OH, OW
    KH, KW, STRIDE_H, STRIDE_W, PAD_TOP, PAD_LEFT, DILATION_H, DILATION_W
    COUNT_INCLUDE_PAD, DIVISOR
    ROWS     # of the output a chunk
    COLS     # of the output a chunk
    CHANNELS # a chunk
    DOWN     # parts that windows are read in, down and across
    ACROSS
    SCATTER  # whether a gradient of maxima goes through windows, ROWS of them a chunk

cdef enum:
    CHUNK_NS = 20000
    LEAST_CHUNK_NS = 5000
    CHUNKS = 8  # that an op is cut into, where they last from LEAST_CHUNK_NS to CHUNK_NS
# Estimates of nanoseconds, by vectors of channels: a tap of an average, of a maximum, of a maximum that is located, and
# of a gradient; a vector without its taps; a pixel without its vectors; what is added for a byte that comes from memory,
# and for a vector that is not full.
cdef double AVG_NS = 0.6
cdef double MAX_NS = 1.0
cdef double INDEX_NS = 1.8
cdef double GRAD_NS = 2.0
cdef double VECTOR_NS = 3.0
cdef double GRAD_VECTOR_NS = 1.0
cdef double PIXEL_NS = 3.0
cdef double GRAD_PIXEL_NS = 5.0
cdef double SCATTER_PIXEL_NS = 1.0
cdef double FAR_NS = 0.08
cdef double SOME_NS = 4.0
cdef enum: WIDENED = 4  # where a maximum was is widened before it is read: as if it had so many times the bytes


cdef enum: MOST = 255  # taps that a byte tells apart, and that there is none
MOST_TAPS = MOST


cdef pool2d_job job_of(const fnn_op *op) noexcept nogil:
    """The op's sizes; which part of it, and its memory, are still to come."""
    cdef pool2d_job job
    memset(&job, 0, sizeof(job))
    job.ih, job.iw, job.c = op.dim[IH], op.dim[IW], op.dim[C]
    job.oh, job.ow = op.dim[OH], op.dim[OW]
    job.kh, job.kw = op.dim[KH], op.dim[KW]
    job.stride_h, job.stride_w = op.dim[STRIDE_H], op.dim[STRIDE_W]
    job.pad_top, job.pad_left = op.dim[PAD_TOP], op.dim[PAD_LEFT]
    job.dilation_h, job.dilation_w = op.dim[DILATION_H], op.dim[DILATION_W]
    job.count_include_pad, job.divisor = op.dim[COUNT_INCLUDE_PAD], op.dim[DIVISOR]
    job.down_parts = job.across_parts = 1
    if job.kh == 0:
        job.stride_h = job.stride_w = job.dilation_h = job.dilation_w = 1
        job.flat = True
    elif job.kh * job.kw > MOST:
        job.flat = True
    return job


cdef struct extent:  # of a window in inputs, or of what an input lies in in windows
    double down, across


cdef inline extent window_of(const pool2d_job *job) noexcept nogil:
    """The taps of a window, or the most of an adaptive one."""
    cdef extent window
    if job.kh > 0:
        window.down, window.across = job.kh, job.kw
    else:
        window.down, window.across = <double> job.ih / job.oh + 1, <double> job.iw / job.ow + 1
    return window


cdef inline extent windows_of(const pool2d_job *job) noexcept nogil:
    """How many windows an input lies in: the mean, or the most of adaptive ones."""
    cdef extent windows
    if job.kh > 0:
        windows.down, windows.across = <double> job.kh * job.oh / job.ih, <double> job.kw * job.ow / job.iw
    else:
        windows.down, windows.across = <double> job.oh / job.ih + 1, <double> job.ow / job.iw + 1
    return windows


cdef void cut(fnn_op *op, int64_t height, int64_t width, double pixel_ns, double vector_ns, extent reads,
              double bytes_of_one) noexcept nogil:
    """Chunks of rows, or of parts of one row, of n images of (height, width), or of some channels of a pixel, in as many
    rounds as it takes to read what belongs to it. A pixel takes pixel_ns, and vector_ns for each vector: longer where
    the vectors that it reads, of lanes of bytes_of_one, come from memory."""
    cdef int64_t rows = op.dim[N] * height, lanes = (<const pool2d_kernels *> op.kernels).lanes, parts
    cdef int64_t vectors = ceil_div(op.dim[C], lanes)
    cdef double budget, count = reads.down * reads.across
    cdef double longest = vector_ns + FAR_NS * count * min(op.dim[C], lanes) * bytes_of_one
    if op.dim[C] < lanes:
        longest += SOME_NS * count
    pixel_ns += vector_ns * vectors
    op.cost = pixel_ns * rows * width
    budget = max(<double> LEAST_CHUNK_NS, min(<double> CHUNK_NS, op.cost / CHUNKS))
    op.dim[ROWS] = max(<int64_t> 1, min(rows, <int64_t> (budget / (pixel_ns * width))))
    op.dim[COLS] = width
    if op.dim[ROWS] == 1:
        op.dim[COLS] = ceil_div(width, <int64_t> (pixel_ns * width / budget) + 1)
    op.dim[CHANNELS] = op.dim[C]
    op.dim[DOWN] = op.dim[ACROSS] = 1
    if longest * vectors > FNN_MOST_NS:
        op.dim[CHANNELS] = min(op.dim[C], max(<int64_t> 1, <int64_t> (FNN_MOST_NS / (2 * longest))) * lanes)
        op.dim[ROWS] = op.dim[COLS] = 1
        parts = short_parts(longest)
        op.dim[DOWN] = min(parts, 1 + <int64_t> reads.down)
        op.dim[ACROSS] = min(ceil_div(parts, op.dim[DOWN]), 1 + <int64_t> reads.across)
        op.cost = longest * vectors * rows * width
    op.rounds = op.dim[DOWN] * op.dim[ACROSS]
    op.chunks = ceil_div(rows, op.dim[ROWS]) * ceil_div(width, op.dim[COLS]) if width > 0 else 0
    op.chunks *= ceil_div(op.dim[C], op.dim[CHANNELS])


cdef inline void place(const fnn_op *op, pool2d_job *job, int64_t height, int64_t width, int64_t chunk) noexcept nogil:
    """Which rows, columns and channels of n images of (height, width) a chunk takes, and in its round which part of what
    it reads."""
    cdef int64_t round = chunk // op.chunks, blocks = ceil_div(width, op.dim[COLS])
    cdef int64_t split = ceil_div(op.dim[C], op.dim[CHANNELS]), block
    chunk = chunk % op.chunks
    block = chunk // split
    job.c0 = chunk % split * op.dim[CHANNELS]
    job.c1 = min(job.c0 + op.dim[CHANNELS], job.c)
    job.row0 = block // blocks * op.dim[ROWS]
    job.row1 = min(job.row0 + op.dim[ROWS], op.dim[N] * height)
    job.col0 = block % blocks * op.dim[COLS]
    job.col1 = min(job.col0 + op.dim[COLS], width)
    job.down_parts, job.across_parts = op.dim[DOWN], op.dim[ACROSS]
    job.down, job.across = round // job.across_parts, round % job.across_parts


# ---- forward ----------------------------------------------------------------------------------

cdef void prepare_forward(fnn_op *op, double tap_ns) noexcept nogil:
    cdef const pool2d_kernels *kernels = pool2d_table(op.isa, op.dtype)
    cdef pool2d_job job = job_of(op)
    cdef extent window = window_of(&job)
    op.kernels = kernels
    cut(op, job.oh, job.ow, PIXEL_NS, window.down * window.across * tap_ns + VECTOR_NS, window, item_size(op))
    job.col1, job.c1 = op.dim[COLS], op.dim[CHANNELS]
    op.scratch = kernels.forward_bytes(&job)


cdef void prepare_max(fnn_op *op) noexcept nogil:
    prepare_forward(op, MAX_NS if op.buf[MAX_INDEX] == NULL else INDEX_NS)


cdef void prepare_avg(fnn_op *op) noexcept nogil:
    prepare_forward(op, AVG_NS)


cdef int run_max(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef pool2d_job job = job_of(op)
    place(op, &job, job.oh, job.ow, chunk)
    job.out, job.index, job.in_, job.scratch = op.buf[MAX_Y], op.buf[MAX_INDEX], op.buf[MAX_X], scratch
    (<const pool2d_kernels *> op.kernels).max(&job)
    return 0


cdef int run_avg(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef pool2d_job job = job_of(op)
    place(op, &job, job.oh, job.ow, chunk)
    job.out, job.in_, job.scratch = op.buf[AVG_Y], op.buf[AVG_X], scratch
    (<const pool2d_kernels *> op.kernels).avg(&job)
    return 0


# ---- gradients --------------------------------------------------------------------------------

cdef void prepare_gather(fnn_op *op, double read_bytes) noexcept nogil:
    """Each input takes its gradient from the windows that it lies in, of which it reads so many bytes."""
    cdef const pool2d_kernels *kernels = pool2d_table(op.isa, op.dtype)
    cdef pool2d_job job = job_of(op)
    cdef extent windows = windows_of(&job)
    op.kernels = kernels
    op.dim[SCATTER] = False
    cut(op, job.ih, job.iw, GRAD_PIXEL_NS, GRAD_NS * windows.down * windows.across + GRAD_VECTOR_NS, windows, read_bytes)
    job.col1, job.c1 = op.dim[COLS], op.dim[CHANNELS]
    op.scratch = kernels.backward_bytes(&job)


cdef void prepare_avg_backward(fnn_op *op) noexcept nogil:
    prepare_gather(op, item_size(op))


cdef void prepare_max_backward(fnn_op *op) noexcept nogil:
    """Where windows do not overlap, each gives its gradient to one input instead, if a row of them is not cut."""
    cdef const pool2d_kernels *kernels = pool2d_table(op.isa, op.dtype)
    cdef pool2d_job job = job_of(op)
    cdef extent inputs
    cdef double count
    if not job.flat and (job.kh - 1) * job.dilation_h < job.stride_h and (job.kw - 1) * job.dilation_w < job.stride_w:
        # A row of windows with the rows of inputs that belong to it.
        inputs.down = max(1.0, <double> job.ih / job.oh)
        inputs.across = max(1.0, <double> job.iw / job.ow)
        count = inputs.down * inputs.across
        op.kernels = kernels
        cut(op, job.oh, job.ow, SCATTER_PIXEL_NS * count, GRAD_NS * count, inputs, item_size(op))
        if op.rounds == 1 and op.dim[COLS] == job.ow and op.dim[CHANNELS] == job.c:
            op.dim[SCATTER] = True
            job.col1, job.c1 = job.iw, job.c
            op.scratch = kernels.backward_bytes(&job)
            return
    prepare_gather(op, WIDENED * item_size(op))


cdef int run_max_backward(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef const pool2d_kernels *kernels = <const pool2d_kernels *> op.kernels
    cdef pool2d_job job = job_of(op)
    job.out, job.in_, job.index, job.scratch = op.buf[DX], op.buf[DY], op.buf[INDEX], scratch
    if op.dim[SCATTER]:
        place(op, &job, job.oh, job.ow, chunk)
        job.col0, job.col1 = 0, job.iw
        kernels.max_scatter(&job)
    else:
        place(op, &job, job.ih, job.iw, chunk)
        kernels.max_gather(&job)
    return 0


cdef int run_avg_backward(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef pool2d_job job = job_of(op)
    place(op, &job, job.ih, job.iw, chunk)
    job.out, job.in_, job.scratch = op.buf[DX], op.buf[DY], scratch
    (<const pool2d_kernels *> op.kernels).avg_gather(&job)
    return 0


IMAGES = "n ih iw c oh ow"
POOL = IMAGES + " kh kw stride_h stride_w pad_top pad_left dilation_h dilation_w"
AVG_POOL = POOL + " count_include_pad divisor"

runtime.register_op("max_pool2d", run_max, prepare_max, "y index?", "x", POOL)
runtime.register_op("avg_pool2d", run_avg, prepare_avg, "y", "x", AVG_POOL)
runtime.register_op("adaptive_max_pool2d", run_max, prepare_max, "y index?", "x", IMAGES)
runtime.register_op("adaptive_avg_pool2d", run_avg, prepare_avg, "y", "x", IMAGES)
runtime.register_op("max_pool2d_backward", run_max_backward, prepare_max_backward, "dx", "dy index", POOL)
runtime.register_op("avg_pool2d_backward", run_avg_backward, prepare_avg_backward, "dx", "dy", AVG_POOL)
runtime.register_op("adaptive_max_pool2d_backward", run_max_backward, prepare_max_backward, "dx", "dy index", IMAGES)
runtime.register_op("adaptive_avg_pool2d_backward", run_avg_backward, prepare_avg_backward, "dx", "dy", IMAGES)
