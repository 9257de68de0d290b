# distutils: extra_compile_args = -Os
"""Max and average pooling over channels-last images, windowed and adaptive, and their gradients.

Images are (N, H, W, C). P stands for n, ih, iw, c, oh, ow, kh, kw, stride_h, stride_w, pad_top,
pad_left, dilation_h, dilation_w; A for n, ih, iw, c, oh, ow. Ceil mode is a larger oh or ow.

Native ops
----------
max_pool2d                    buf: y, index | NULL, x   dim: P
max_pool2d_backward           buf: dx, dy, index        dim: P
avg_pool2d                    buf: y, x                 dim: P, count_include_pad, divisor
avg_pool2d_backward           buf: dx, dy               dim: P, count_include_pad, divisor
adaptive_max_pool2d           buf: y, index | NULL, x   dim: A
adaptive_max_pool2d_backward  buf: dx, dy, index        dim: A
adaptive_avg_pool2d           buf: y, x                 dim: A
adaptive_avg_pool2d_backward  buf: dx, dy               dim: A

`index` is (N, OH, OW, C), of uint8 for max_pool2d: the maximum's tap i * kw + j in its window, which
may hold 255 taps at most; kh * kw where the window lies outside the image (y is -inf then). It is
int32 for adaptive_max_pool2d: h * iw + w. The first of equals wins, and NaN over all, as in PyTorch.

An average divides by `divisor`; where that is 0 by how many taps lie in the image or, with
count_include_pad, in the image padded by pad_top above and below and pad_left on both sides.

Where a pixel takes longer than a chunk may, a chunk has some of its channels; where a vector of them does, as its
windows are large, they are read in several rounds.

The window of output o of an adaptive pooling is [floor(o * in / out), ceil((o + 1) * in / out)).
"""
from libc.stdint cimport int64_t
from libc.string cimport memset

from fastnn_ext cimport runtime
from fastnn_ext.arrays cimport check, check_real, data
from fastnn_ext.runtime cimport FNN_MOST_NS, fnn_op, short_parts

import numpy as np


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


# Places in fnn_op.dim. Those from ROWS on are set by prepare.
cdef enum:
    N, IH, IW, C, OH, OW, KH, KW, SH, SW, PT, PL, DH, DW
    COUNT_INCLUDE_PAD, DIVISOR
    ROWS     # of the output a chunk
    COLS     # of the output a chunk
    SCATTER  # whether a gradient of maxima goes through windows, ROWS of them a chunk
    CHANNELS # a chunk
    DOWN     # parts that windows are read in, down and across
    ACROSS

cdef enum: MAX, AVG, ADAPTIVE_MAX, ADAPTIVE_AVG
# A chunk's aim in nanoseconds.
cdef enum: CHUNK_NS = 20000
cdef double FAR_NS = 0.08, SOME_NS = 4  # a byte that comes from memory; a vector that is not full
cdef enum: MAX_TAPS = 255
LARGEST_SIZE = 2**31 - 1  # sums and products of a few fit 64 bits


cdef inline int64_t ceil_div(int64_t a, int64_t b) noexcept nogil:
    return (a + b - 1) // b


cdef pool2d_job job_of(const fnn_op *op, int kind) noexcept nogil:
    cdef pool2d_job job
    cdef const int64_t *dim = &op.dim[0]
    memset(&job, 0, sizeof(job))
    job.ih = dim[IH]
    job.iw = dim[IW]
    job.c = dim[C]
    job.oh = dim[OH]
    job.ow = dim[OW]
    job.stride_h = job.stride_w = job.dilation_h = job.dilation_w = job.down_parts = job.across_parts = 1
    job.flat = kind == ADAPTIVE_MAX
    if kind == MAX or kind == AVG:
        job.kh = dim[KH]
        job.kw = dim[KW]
        job.stride_h = dim[SH]
        job.stride_w = dim[SW]
        job.pad_top = dim[PT]
        job.pad_left = dim[PL]
        job.dilation_h = dim[DH]
        job.dilation_w = dim[DW]
    if kind == AVG:
        job.count_include_pad = dim[COUNT_INCLUDE_PAD]
        job.divisor = dim[DIVISOR]
    return job


cdef void cut(fnn_op *op, int64_t height, int64_t width, double vector_ns, double pixel_ns, double reads, int64_t down,
              int64_t across) noexcept nogil:
    """Chunks of rows, or of parts of one row, of n images of (height, width), or of some channels of a pixel, which
    takes pixel_ns and vector_ns for each vector, and longer where the vectors that it reads come from memory. What
    windows hold may be read in down * across parts."""
    cdef int64_t rows = op.dim[N] * height, lanes = (<const pool2d_kernels *> op.kernels).lanes, parts
    cdef double budget, longest = vector_ns + FAR_NS * reads * min(op.dim[C], lanes) * (4 if op.dtype == 0 else 8)
    if op.dim[C] < lanes:
        longest += SOME_NS * reads
    pixel_ns += vector_ns * ceil_div(op.dim[C], lanes)
    op.cost = pixel_ns * rows * width
    budget = max(5000.0, min(<double> CHUNK_NS, op.cost / 8))
    op.dim[ROWS] = max(<int64_t> 1, min(rows, <int64_t> (budget / (pixel_ns * width))))
    op.dim[COLS] = width
    if op.dim[ROWS] == 1:
        op.dim[COLS] = ceil_div(width, <int64_t> (pixel_ns * width / budget) + 1)
    op.dim[CHANNELS] = op.dim[C]
    op.dim[DOWN] = op.dim[ACROSS] = 1
    if longest * ceil_div(op.dim[C], lanes) > FNN_MOST_NS:
        op.dim[CHANNELS] = min(op.dim[C], max(<int64_t> 1, <int64_t> (FNN_MOST_NS / (2 * longest))) * lanes)
        op.dim[ROWS] = op.dim[COLS] = 1
        parts = short_parts(longest)
        op.dim[DOWN] = min(parts, down)
        op.dim[ACROSS] = min(ceil_div(parts, op.dim[DOWN]), across)
        op.cost = longest * ceil_div(op.dim[C], lanes) * rows * width
    op.rounds = op.dim[DOWN] * op.dim[ACROSS]
    op.chunks = ceil_div(rows, op.dim[ROWS]) * ceil_div(width, op.dim[COLS]) if width > 0 else 0
    op.chunks *= ceil_div(op.dim[C], op.dim[CHANNELS])


cdef inline void place(const fnn_op *op, pool2d_job *job, int64_t height, int64_t width, int64_t chunk) noexcept nogil:
    cdef int64_t blocks = ceil_div(width, op.dim[COLS]), round = chunk // op.chunks
    cdef int64_t split = ceil_div(op.dim[C], op.dim[CHANNELS])
    chunk = chunk % op.chunks
    job.c0 = chunk % split * op.dim[CHANNELS]
    job.c1 = min(job.c0 + op.dim[CHANNELS], job.c)
    chunk = chunk // split
    job.row0 = chunk // blocks * op.dim[ROWS]
    job.row1 = min(job.row0 + op.dim[ROWS], op.dim[N] * height)
    job.col0 = chunk % blocks * op.dim[COLS]
    job.col1 = min(job.col0 + op.dim[COLS], width)
    job.down_parts = op.dim[DOWN]
    job.across_parts = op.dim[ACROSS]
    job.down = round // job.across_parts
    job.across = round % job.across_parts


cdef void prepare_forward(fnn_op *op, int kind) noexcept nogil:
    cdef const pool2d_kernels *kernels = pool2d_table(op.isa, op.dtype)
    cdef pool2d_job job = job_of(op, kind)
    cdef int64_t down = job.kh if job.kh > 0 else job.ih // job.oh + 2  # of a window, at most
    cdef int64_t across = job.kw if job.kh > 0 else job.iw // job.ow + 2
    cdef double taps = job.kh * job.kw if job.kh > 0 else (<double> job.ih / job.oh + 1) * (<double> job.iw / job.ow + 1)
    cdef double tap_ns = 0.6 if kind == AVG or kind == ADAPTIVE_AVG else 1.0 if op.buf[1] == NULL else 1.8
    op.kernels = kernels
    cut(op, job.oh, job.ow, taps * tap_ns + 3, 3, taps, down, across)
    job.col1 = op.dim[COLS]
    job.c1 = op.dim[CHANNELS]
    op.scratch = kernels.forward_bytes(&job)


cdef int run_forward(const fnn_op *op, int64_t chunk, void *scratch, int kind) noexcept nogil:
    cdef const pool2d_kernels *kernels = <const pool2d_kernels *> op.kernels
    cdef pool2d_job job = job_of(op, kind)
    place(op, &job, job.oh, job.ow, chunk)
    job.out = op.buf[0]
    job.scratch = scratch
    if kind == MAX or kind == ADAPTIVE_MAX:
        job.index = op.buf[1]
        job.in_ = op.buf[2]
        kernels.max(&job)
    else:
        job.in_ = op.buf[1]
        kernels.avg(&job)
    return 0


cdef void prepare_backward(fnn_op *op, int kind) noexcept nogil:
    cdef const pool2d_kernels *kernels = pool2d_table(op.isa, op.dtype)
    cdef pool2d_job job = job_of(op, kind)
    cdef double outputs = <double> job.oh * job.ow, inputs = <double> job.ih * job.iw, each, down, across
    op.kernels = kernels
    op.dim[SCATTER] = (kind == MAX and (job.kh - 1) * job.dilation_h < job.stride_h
                       and (job.kw - 1) * job.dilation_w < job.stride_w)
    if op.dim[SCATTER]:
        # A row of windows with the rows of inputs that belong to it.
        each = max(1.0, inputs / outputs)
        cut(op, job.oh, job.ow, 2.0 * each, each, each, 1, 1)
        op.dim[SCATTER] = op.dim[COLS] == job.ow and op.dim[CHANNELS] == job.c
    if not op.dim[SCATTER]:
        # Windows that hold an input, on average.
        down = <double> job.kh * job.oh / job.ih if job.kh > 0 else <double> job.oh / job.ih + 1
        across = <double> job.kw * job.ow / job.iw if job.kh > 0 else <double> job.ow / job.iw + 1
        # Where it was a maximum is widened before it is read.
        cut(op, job.ih, job.iw, 2.0 * down * across + 1, 5, (1 if kind == AVG or kind == ADAPTIVE_AVG else 4) * down * across,
            1 + <int64_t> down, 1 + <int64_t> across)
    job.col1 = job.iw if op.dim[SCATTER] else op.dim[COLS]
    job.c1 = op.dim[CHANNELS]
    op.scratch = kernels.backward_bytes(&job)


cdef int run_backward(const fnn_op *op, int64_t chunk, void *scratch, int kind) noexcept nogil:
    cdef const pool2d_kernels *kernels = <const pool2d_kernels *> op.kernels
    cdef pool2d_job job = job_of(op, kind)
    job.out = op.buf[0]
    job.in_ = op.buf[1]
    job.scratch = scratch
    if kind == AVG or kind == ADAPTIVE_AVG:
        place(op, &job, job.ih, job.iw, chunk)
        kernels.avg_gather(&job)
        return 0
    job.index = op.buf[2]
    if op.dim[SCATTER]:
        place(op, &job, job.oh, job.ow, chunk)
        job.col0 = 0
        job.col1 = job.iw
        kernels.max_scatter(&job)
    else:
        place(op, &job, job.ih, job.iw, chunk)
        kernels.max_gather(&job)
    return 0


cdef void prepare_max(fnn_op *op) noexcept nogil:
    prepare_forward(op, MAX)


cdef void prepare_avg(fnn_op *op) noexcept nogil:
    prepare_forward(op, AVG)


cdef void prepare_adaptive_max(fnn_op *op) noexcept nogil:
    prepare_forward(op, ADAPTIVE_MAX)


cdef void prepare_adaptive_avg(fnn_op *op) noexcept nogil:
    prepare_forward(op, ADAPTIVE_AVG)


cdef int run_max(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    return run_forward(op, chunk, scratch, MAX)


cdef int run_avg(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    return run_forward(op, chunk, scratch, AVG)


cdef int run_adaptive_max(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    return run_forward(op, chunk, scratch, ADAPTIVE_MAX)


cdef int run_adaptive_avg(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    return run_forward(op, chunk, scratch, ADAPTIVE_AVG)


cdef void prepare_max_backward(fnn_op *op) noexcept nogil:
    prepare_backward(op, MAX)


cdef void prepare_avg_backward(fnn_op *op) noexcept nogil:
    prepare_backward(op, AVG)


cdef void prepare_adaptive_max_backward(fnn_op *op) noexcept nogil:
    prepare_backward(op, ADAPTIVE_MAX)


cdef void prepare_adaptive_avg_backward(fnn_op *op) noexcept nogil:
    prepare_backward(op, ADAPTIVE_AVG)


cdef int run_max_backward(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    return run_backward(op, chunk, scratch, MAX)


cdef int run_avg_backward(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    return run_backward(op, chunk, scratch, AVG)


cdef int run_adaptive_max_backward(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    return run_backward(op, chunk, scratch, ADAPTIVE_MAX)


cdef int run_adaptive_avg_backward(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    return run_backward(op, chunk, scratch, ADAPTIVE_AVG)


runtime.register_op("max_pool2d", run_max, prepare_max)
runtime.register_op("avg_pool2d", run_avg, prepare_avg)
runtime.register_op("adaptive_max_pool2d", run_adaptive_max, prepare_adaptive_max)
runtime.register_op("adaptive_avg_pool2d", run_adaptive_avg, prepare_adaptive_avg)
runtime.register_op("max_pool2d_backward", run_max_backward, prepare_max_backward)
runtime.register_op("avg_pool2d_backward", run_avg_backward, prepare_avg_backward)
runtime.register_op("adaptive_max_pool2d_backward", run_adaptive_max_backward, prepare_adaptive_max_backward)
runtime.register_op("adaptive_avg_pool2d_backward", run_adaptive_avg_backward, prepare_adaptive_avg_backward)


# ---- checked functions over NumPy arrays ------------------------------------------------------

cdef tuple integers(str name, object values, int count, int64_t least):
    values = tuple(values) if isinstance(values, (tuple, list)) else (values,)
    if len(values) != count or not all(isinstance(v, (int, np.integer)) and not isinstance(v, bool) for v in values):
        raise TypeError(f"{name} must be {count} integers, got {values}")
    if any(v < least or v > LARGEST_SIZE for v in values):
        limits = f"at least {least}" if any(v < least for v in values) else f"at most {LARGEST_SIZE}"
        raise ValueError(f"{name} must be {limits}, got {values}")
    return tuple([int(v) for v in values])


cdef int fill_images(fnn_op *op, int dtype, tuple x_shape) except -1:
    if len(x_shape) != 4:
        raise ValueError(f"x must have 4 dimensions (N, H, W, C), got shape {x_shape}")
    if min(x_shape[1:]) < 1:
        raise ValueError(f"x must have a height, width and channels, got shape {x_shape}")
    memset(op, 0, sizeof(op[0]))
    op.dtype = dtype
    for i in range(4):
        op.dim[i] = x_shape[i]
    return 0


cdef tuple fill_windows(fnn_op *op, int dtype, tuple x_shape, object kernel, object stride, object padding,
                        object dilation, bint ceil_mode):
    """Checks the geometry, writes P, and returns y's shape."""
    fill_images(op, dtype, x_shape)
    kernel = integers("kernel", kernel, 2, 1)
    stride = kernel if stride is None else integers("stride", stride, 2, 1)
    padding = integers("padding", padding, 2, 0)
    dilation = integers("dilation", dilation, 2, 1)
    out = []
    for axis, i, k, s, p, d in zip(("height", "width"), x_shape[1:3], kernel, stride, padding, dilation):
        extent = d * (k - 1) + 1
        if 2 * p > extent:
            raise ValueError(f"padding must be at most half of the kernel's {axis} {extent}, got {p}")
        o = (i + 2 * p - extent + (s - 1 if ceil_mode else 0)) // s + 1
        # A window begins inside the image or the padding before it.
        if ceil_mode and (o - 1) * s >= i + p:
            o -= 1
        if o < 1:
            raise ValueError(f"the kernel's {axis} is {extent} (size {k}, dilation {d}), more than the padded "
                             f"input's {i + 2 * p}")
        out.append(o)
    for i, size in enumerate((*out, *kernel, *stride, *padding, *dilation)):
        op.dim[OH + i] = size
    return (x_shape[0], *out, x_shape[3])


cdef tuple fill_adaptive(fnn_op *op, int dtype, tuple x_shape, object output_size):
    fill_images(op, dtype, x_shape)
    out = integers("output_size", output_size, 2, 1)
    op.dim[OH], op.dim[OW] = out
    return (x_shape[0], *out, x_shape[3])


cdef int fits_a_byte(const fnn_op *op) except -1:
    if op.dim[KH] * op.dim[KW] > MAX_TAPS:
        raise ValueError(f"kernel must have at most {MAX_TAPS} taps, got {op.dim[KH]} x {op.dim[KW]}")
    return 0


cdef tuple shape4(object shape):
    return integers("x_shape", tuple(shape) if isinstance(shape, (tuple, list)) else shape, 4, 0)


cdef object forward(str name, fnn_op *op, object x, tuple shape, object index_dtype):
    """y, or (y, index) where an index dtype is given."""
    y = np.empty(shape, x.dtype)
    index = None if index_dtype is None else np.empty(shape, index_dtype)
    op.buf[0] = data(y)
    if name.endswith("max_pool2d"):
        op.buf[1] = data(index)
        op.buf[2] = data(x)
    else:
        op.buf[1] = data(x)
    runtime.run_one(name, op)
    return y if index is None else (y, index)


cdef object backward(str name, fnn_op *op, object dy, tuple x_shape, tuple shape, object index, object index_dtype):
    check("dy", dy, dy.dtype, shape)
    if index_dtype is not None:
        check("index", index, np.dtype(index_dtype), shape)
        # A window outside the image has kh * kw.
        most = op.dim[KH] * op.dim[KW] if index_dtype is np.uint8 else x_shape[1] * x_shape[2] - 1
        if index.size and not 0 <= index.min() <= index.max() <= most:
            raise ValueError(f"index must lie in 0 ... {most}, got {index.min()} ... {index.max()}")
    dx = np.empty(x_shape, dy.dtype)
    op.buf[0] = data(dx)
    op.buf[1] = data(dy)
    op.buf[2] = data(index)
    runtime.run_one(name, op)
    return dx


def max_pool2d(x, kernel, stride=None, padding=(0, 0), dilation=(1, 1), *, bint ceil_mode=False, bint return_index=False):
    """The maximum of each window. The first of equals is chosen, and NaN over all else, as in PyTorch.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (N, H, W, C)
        C-contiguous, as all arrays here.
    kernel : (int, int)
        Height and width of a window, in taps: at most 255 taps.
    stride : (int, int), optional
        Pixels from window to window; default: kernel.
    padding : (int, int), default (0, 0)
        Rows above and below, columns left and right; never a maximum. At most half the window.
    dilation : (int, int), default (1, 1)
        Pixels from tap to tap.
    ceil_mode : bool, default False
        Keep a last window that reaches beyond the padded image.
    return_index : bool, default False
        Return where the maxima are, too.

    Returns
    -------
    y : ndarray, shape (N, OH, OW, C)
    index : ndarray of uint8, shape of y
        The maximum's tap, row * kernel width + column; only with return_index.

    Raises
    ------
    TypeError
        If x has another dtype, or a size is no integer.
    ValueError
        If a shape does not fit, a stride is 0, a padding negative, or the window larger than x.
    """
    cdef fnn_op op
    shape = fill_windows(&op, check_real("x", x, None), x.shape, kernel, stride, padding, dilation, ceil_mode)
    fits_a_byte(&op)
    return forward("max_pool2d", &op, x, shape, np.uint8 if return_index else None)


def max_pool2d_backward(dy, index, x_shape, kernel, stride=None, padding=(0, 0), dilation=(1, 1), *,
                        bint ceil_mode=False):
    """Gradient of max_pool2d for x.

    Parameters
    ----------
    dy : ndarray of float32 or float64, shape (N, OH, OW, C)
    index : ndarray of uint8, shape of dy
        As max_pool2d returned it.
    x_shape : (int, int, int, int)
        (N, H, W, C).
    kernel, stride, padding, dilation, ceil_mode
        As max_pool2d's.

    Returns
    -------
    ndarray, shape x_shape

    Raises
    ------
    TypeError, ValueError
        As max_pool2d.
    """
    cdef fnn_op op
    cdef int dtype = check_real("dy", dy, None)
    x_shape = shape4(x_shape)
    shape = fill_windows(&op, dtype, x_shape, kernel, stride, padding, dilation, ceil_mode)
    fits_a_byte(&op)
    return backward("max_pool2d_backward", &op, dy, x_shape, shape, index, np.uint8)


cdef int fill_divisor(fnn_op *op, bint count_include_pad, object divisor_override) except -1:
    op.dim[COUNT_INCLUDE_PAD] = count_include_pad
    if divisor_override is not None:
        (op.dim[DIVISOR],) = integers("divisor_override", divisor_override, 1, 1)
    return 0


def avg_pool2d(x, kernel, stride=None, padding=(0, 0), *, bint ceil_mode=False, bint count_include_pad=True,
               divisor_override=None):
    """The mean of each window.

    Parameters
    ----------
    x, kernel, stride, padding, ceil_mode
        As max_pool2d's; padding counts as zeros, and any number of taps is allowed.
    count_include_pad : bool, default True
        Divide by the taps inside the padded image rather than inside the image.
    divisor_override : int, optional
        Divide by this instead.

    Returns
    -------
    ndarray, shape (N, OH, OW, C)

    Raises
    ------
    TypeError, ValueError
        As max_pool2d.
    """
    cdef fnn_op op
    shape = fill_windows(&op, check_real("x", x, None), x.shape, kernel, stride, padding, (1, 1), ceil_mode)
    fill_divisor(&op, count_include_pad, divisor_override)
    return forward("avg_pool2d", &op, x, shape, None)


def avg_pool2d_backward(dy, x_shape, kernel, stride=None, padding=(0, 0), *, bint ceil_mode=False,
                        bint count_include_pad=True, divisor_override=None):
    """Gradient of avg_pool2d for x, of shape x_shape; arguments as there, dy of y's shape.

    Raises
    ------
    TypeError, ValueError
        As max_pool2d.
    """
    cdef fnn_op op
    cdef int dtype = check_real("dy", dy, None)
    x_shape = shape4(x_shape)
    shape = fill_windows(&op, dtype, x_shape, kernel, stride, padding, (1, 1), ceil_mode)
    fill_divisor(&op, count_include_pad, divisor_override)
    return backward("avg_pool2d_backward", &op, dy, x_shape, shape, None, None)


def adaptive_avg_pool2d(x, output_size):
    """The means of output_size windows, as even as they can be.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (N, H, W, C)
    output_size : (int, int)
        Height and width of y; (1, 1) is the mean of each channel.

    Returns
    -------
    ndarray, shape (N, *output_size, C)

    Raises
    ------
    TypeError, ValueError
        If x or output_size does not fit.
    """
    cdef fnn_op op
    shape = fill_adaptive(&op, check_real("x", x, None), x.shape, output_size)
    return forward("adaptive_avg_pool2d", &op, x, shape, None)


def adaptive_avg_pool2d_backward(dy, x_shape, output_size):
    """Gradient of adaptive_avg_pool2d for x, of shape x_shape; dy (N, *output_size, C).

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit.
    """
    cdef fnn_op op
    cdef int dtype = check_real("dy", dy, None)
    x_shape = shape4(x_shape)
    shape = fill_adaptive(&op, dtype, x_shape, output_size)
    return backward("adaptive_avg_pool2d_backward", &op, dy, x_shape, shape, None, None)


def adaptive_max_pool2d(x, output_size, *, bint return_index=False):
    """The maxima of output_size windows, as even as they can be.

    Parameters
    ----------
    x, output_size
        As adaptive_avg_pool2d's.
    return_index : bool, default False
        Return where the maxima are, too.

    Returns
    -------
    y : ndarray, shape (N, *output_size, C)
    index : ndarray of int32, shape of y
        The maximum's place, row * W + column; only with return_index.

    Raises
    ------
    TypeError, ValueError
        If x or output_size does not fit.
    """
    cdef fnn_op op
    shape = fill_adaptive(&op, check_real("x", x, None), x.shape, output_size)
    return forward("adaptive_max_pool2d", &op, x, shape, np.int32 if return_index else None)


def adaptive_max_pool2d_backward(dy, index, x_shape, output_size):
    """Gradient of adaptive_max_pool2d for x, of shape x_shape; dy and its index (N, *output_size, C).

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit.
    """
    cdef fnn_op op
    cdef int dtype = check_real("dy", dy, None)
    x_shape = shape4(x_shape)
    shape = fill_adaptive(&op, dtype, x_shape, output_size)
    return backward("adaptive_max_pool2d_backward", &op, dy, x_shape, shape, index, np.int32)
