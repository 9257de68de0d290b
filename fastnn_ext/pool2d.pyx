# distutils: extra_compile_args = -Os
"""Max and average pooling over channels-last images, windowed and adaptive, and their gradients.

x and dx are (n, ih, iw, c), y and dy (n, oh, ow, c). Ceil mode is a larger oh or ow. The window of output o of an
adaptive pooling is [floor(o * in / out), ceil((o + 1) * in / out)) along each axis.

`index`, (n, oh, ow, c), is where the maxima were; forward ops need not give it. The first of equals wins, and NaN over
all, as in PyTorch. It is uint8 for max_pool2d: the tap i * kw + j in its window, of at most 255 taps, or kh * kw
where the window lies outside the image and y is -Inf. It is int32 for adaptive_max_pool2d: h * iw + w.

An average divides by `divisor`; where that is 0 by how many taps lie in the image or, with count_include_pad, in the
image padded by pad_top above and below and pad_left on both sides.
"""
from libc.stdint cimport int64_t
from libc.string cimport memset

from fastnn_ext cimport runtime
from fastnn_ext.driver cimport ceil_div
from fastnn_ext.runtime cimport fnn_op


cdef extern from "simd/pool2d.h" nogil:
    struct pool2d_job:
        int64_t ih, iw, c, oh, ow
        int64_t kh, kw, stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w
        int64_t count_include_pad, divisor
        int64_t row0, row1, col0, col1
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
    SCATTER  # whether a gradient of maxima goes through windows, ROWS of them a chunk

cdef enum:
    CHUNK_NS = 20000
    LEAST_CHUNK_NS = 5000
    CHUNKS = 8  # that an op is cut into, where they last from LEAST_CHUNK_NS to CHUNK_NS
# Estimates of nanoseconds, by vectors of channels: a tap of an average, of a maximum, of a maximum that is located, and
# of a gradient; a vector without its taps; a pixel without its vectors.
cdef double AVG_NS = 0.6
cdef double MAX_NS = 1.0
cdef double INDEX_NS = 1.8
cdef double GRAD_NS = 2.0
cdef double VECTOR_NS = 3.0
cdef double GRAD_VECTOR_NS = 1.0
cdef double PIXEL_NS = 3.0
cdef double GRAD_PIXEL_NS = 5.0
cdef double SCATTER_PIXEL_NS = 1.0


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
    if job.kh == 0:
        job.stride_h = job.stride_w = job.dilation_h = job.dilation_w = 1
        job.flat = True
    return job


cdef inline double taps_of(const pool2d_job *job) noexcept nogil:
    """Of a window, or the most of an adaptive one."""
    return job.kh * job.kw if job.kh > 0 else (<double> job.ih / job.oh + 1) * (<double> job.iw / job.ow + 1)


cdef inline double windows_of(const pool2d_job *job) noexcept nogil:
    """How many windows an input lies in: the mean, or the most of adaptive ones."""
    if job.kh == 0:
        return (<double> job.oh / job.ih + 1) * (<double> job.ow / job.iw + 1)
    return <double> (job.kh * job.kw) * (<double> job.oh * job.ow) / (<double> job.ih * job.iw)


cdef void cut(fnn_op *op, int64_t height, int64_t width, double pixel_ns) noexcept nogil:
    """Chunks of rows, or of parts of one row, of n images of (height, width)."""
    cdef int64_t rows = op.dim[N] * height
    cdef double budget
    op.cost = pixel_ns * rows * width
    budget = max(<double> LEAST_CHUNK_NS, min(<double> CHUNK_NS, op.cost / CHUNKS))
    op.dim[ROWS] = max(<int64_t> 1, min(rows, <int64_t> (budget / (pixel_ns * width))))
    op.dim[COLS] = width
    if op.dim[ROWS] == 1:
        op.dim[COLS] = ceil_div(width, <int64_t> (pixel_ns * width / budget) + 1)
    op.chunks = ceil_div(rows, op.dim[ROWS]) * ceil_div(width, op.dim[COLS]) if width > 0 else 0


cdef inline void place(const fnn_op *op, pool2d_job *job, int64_t height, int64_t width, int64_t chunk) noexcept nogil:
    """Which rows and columns of n images of (height, width) a chunk takes."""
    cdef int64_t blocks = ceil_div(width, op.dim[COLS])
    job.row0 = chunk // blocks * op.dim[ROWS]
    job.row1 = min(job.row0 + op.dim[ROWS], op.dim[N] * height)
    job.col0 = chunk % blocks * op.dim[COLS]
    job.col1 = min(job.col0 + op.dim[COLS], width)


# ---- forward ----------------------------------------------------------------------------------

cdef void prepare_forward(fnn_op *op, double tap_ns) noexcept nogil:
    cdef const pool2d_kernels *kernels = pool2d_table(op.isa, op.dtype)
    cdef pool2d_job job = job_of(op)
    op.kernels = kernels
    cut(op, job.oh, job.ow, (taps_of(&job) * tap_ns + VECTOR_NS) * ceil_div(job.c, kernels.lanes) + PIXEL_NS)
    job.col1 = op.dim[COLS]
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

cdef void prepare_gather(fnn_op *op) noexcept nogil:
    """Each input takes its gradient from the windows that it lies in."""
    cdef const pool2d_kernels *kernels = pool2d_table(op.isa, op.dtype)
    cdef pool2d_job job = job_of(op)
    op.kernels = kernels
    op.dim[SCATTER] = False
    cut(op, job.ih, job.iw,
        (GRAD_NS * windows_of(&job) + GRAD_VECTOR_NS) * ceil_div(job.c, kernels.lanes) + GRAD_PIXEL_NS)
    job.col1 = op.dim[COLS]
    op.scratch = kernels.backward_bytes(&job)


cdef void prepare_max_backward(fnn_op *op) noexcept nogil:
    """Where windows do not overlap, each gives its gradient to one input instead, if a row of them is not cut."""
    cdef const pool2d_kernels *kernels = pool2d_table(op.isa, op.dtype)
    cdef pool2d_job job = job_of(op)
    cdef double inputs
    if job.kh > 0 and (job.kh - 1) * job.dilation_h < job.stride_h and (job.kw - 1) * job.dilation_w < job.stride_w:
        # A row of windows with the rows of inputs that belong to it.
        inputs = max(1.0, <double> job.ih * job.iw / (<double> job.oh * job.ow))
        cut(op, job.oh, job.ow, (GRAD_NS * ceil_div(job.c, kernels.lanes) + SCATTER_PIXEL_NS) * inputs)
        if op.dim[COLS] == job.ow:
            op.kernels = kernels
            op.dim[SCATTER] = True
            job.col1 = job.iw
            op.scratch = kernels.backward_bytes(&job)
            return
    prepare_gather(op)


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
runtime.register_op("avg_pool2d_backward", run_avg_backward, prepare_gather, "dx", "dy", AVG_POOL)
runtime.register_op("adaptive_max_pool2d_backward", run_max_backward, prepare_max_backward, "dx", "dy index", IMAGES)
runtime.register_op("adaptive_avg_pool2d_backward", run_avg_backward, prepare_gather, "dx", "dy", IMAGES)
