"""2-D convolution over channels-last images, its gradients, and sums of weight gradients.

Images are (n, h, w, c), weights (groups, kh, kw, ic / groups, oc / groups); 1-D: ih = kh = 1. Padding at the bottom and
right follows from oh and ow. Outputs must not overlap inputs.

y = act(conv(x, w * scale) + bias + residual), scale being (oc,); dx = conv^T(dy, w) * act_grad'(saved). act and
act_grad are indices into fastnn_ext.activation.ACTIVATIONS, or -1.

`packed` holds w * scale as the kernels read it, so that chunks do not each copy what they need: conv2d_pack writes it,
kind 0 for conv2d and 1 for conv2d_input_grad, and packed_elements says its size. All of them are given w, too. With few
pixels chunks share no weights: then conv2d_pack does nothing, and packed is not read; unless `constant` is 1: the
weights are, and what is packed in the first run is read in many.

Where outputs read zeros outside the image, those terms are mostly left out of their sums.

With 3 x 3 taps, stride and dilation 1 and channels enough, both passes make their outputs, if weights are packed, in
squares of 2 x 2 by Winograd's products (simd/winograd.h): 16 for 36; and the gradient for the weights is their
transpose. Small integers come out exactly; an output's rounding error is that of its whole square (over random data two
thirds of the direct sum's, as fewer products are added one after another). Where a result is not finite, its square, or
the chunk of a gradient for the weights, is made again by the direct sum: infinities and NaN reach what the sum says,
and numbers so large that only their transforms overflow do no harm.

The sum over n * oh * ow that makes dw is cut into `pieces` by shape; weight_grad_pieces says how many. With one piece
conv2d_weight_grad writes dw and dbias. With more it writes each piece's dw, then its dbias, into a row of `partial`,
(pieces, elements of dw + oc), and conv2d_weight_grad_sum adds the rows up. Where dbias is absent neither op makes it;
where there are pieces conv2d_weight_grad takes it as a sign that it is wanted, and does not write to it.

A chunk of a pass whose sums are so long that it would last too long is made in several rounds, each of which adds some
taps, or some input channels of a tap, to what the rounds before have left; a chunk of a gradient for the weights adds
some outputs in each round.
"""
from cpython.number cimport PyNumber_Index
from libc.stdint cimport int64_t
from libc.string cimport memset

from fastnn_ext cimport runtime
from fastnn_ext.activation cimport backward_kernel, forward_kernel
from fastnn_ext.driver cimport at, ceil_div, item_size
from fastnn_ext.runtime cimport fnn_op, short_parts

from fastnn_ext.activation import ACTIVATIONS


cdef extern from "simd/conv2d.h" nogil:
    enum:
        CONV_DIRECT, CONV_COPY, CONV_POINTERS
        CONV_POINTS, CONV_POINTS_DEPTH, CONV_SQUARES_BYTES
    struct conv2d_view:
        const void *x
        int64_t h, w, pixel, depth
        int64_t taps_h, taps_w, step_h, step_w, stride_h, stride_w, top, left
    struct conv2d_job:
        conv2d_view view
        int64_t oh, row0, row1, col0, col1
        void *y
        int64_t y_image, y_row, y_pixel
        const void *bias
        const void *residual
        const void *saved
        int64_t relu, depthwise, mode, resumes, goes_on, few
        int64_t ow, square0, square1
    struct conv2d_pack_job:
        const void *w
        const void *scale
        const int64_t *order
        int64_t taps, depth, tap_stride, depth_stride, channel_stride
    struct conv2d_weight_job:
        conv2d_view view
        int64_t oh, ow, row0, row1, col0, col1
        int64_t square0, square1
        void *sums
        int64_t resumes, goes_on
        int64_t block_rows, block_cols
        int64_t depth0, depth1, first, n
        const void *dy
        int64_t dy_pixel
        void *dw
        int64_t dw_row
        void *dbias
        int64_t accumulate, depthwise
        void *scratch
    struct conv2d_kernels:
        int64_t lanes
        int64_t pixels, narrow_pixels
        double rate
        void (*pack)(void *out, const conv2d_pack_job *job, int64_t row, int64_t rows, int64_t first,
                     int64_t n) noexcept nogil
        int64_t (*gather_bytes)(const conv2d_job *job) noexcept nogil
        void (*gather)(conv2d_job *job, void *scratch) noexcept nogil
        int64_t room
        void (*panel)(const conv2d_job *job, void *weights, const conv2d_pack_job *pack, int64_t first,
                      int64_t n) noexcept nogil
        int64_t (*winograd_depth)(int64_t depth) noexcept nogil
        int64_t (*winograd_elements)(int64_t rows, int64_t n) noexcept nogil
        int64_t winograd_pack_bytes
        void (*winograd_pack)(void *out, const conv2d_pack_job *pack, int64_t row, int64_t rows, int64_t first,
                              int64_t n, void *scratch) noexcept nogil
        int64_t (*winograd_bytes)(int64_t depth, int64_t squares, int64_t n) noexcept nogil
        int64_t (*winograd)(const conv2d_job *job, const void *packed, int64_t width, int64_t first, int64_t n,
                            unsigned char *spoilt, void *scratch) noexcept nogil
        int64_t (*weight_grad_bytes)(const conv2d_weight_job *job) noexcept nogil
        void (*weight_grad)(const conv2d_weight_job *job) noexcept nogil
        int64_t (*winograd_grad_bytes)(const conv2d_weight_job *job) noexcept nogil
        int64_t (*winograd_sums_bytes)(const conv2d_weight_job *job) noexcept nogil
        int (*winograd_grad)(const conv2d_weight_job *job) noexcept nogil
        void (*sum)(void *out, const void *parts, int64_t n, int64_t count, int64_t stride) noexcept nogil
    const conv2d_kernels *conv2d_table(int isa, int dtype)


GEOMETRY = "n ih iw ic oh ow oc kh kw stride_h stride_w pad_top pad_left dilation_h dilation_w groups"

# Places in fnn_op.buf: of a pass, of conv2d_pack, of the gradient for the weights and of its sum.
cdef enum: OUT, SOURCE, WEIGHTS, PACKED
cdef enum: SCALE = 4, BIAS, RESIDUAL  # of conv2d
cdef enum: SAVED = 4                  # of conv2d_input_grad
cdef enum: PANELS_OUT, PACK_WEIGHTS, PACK_SCALE
cdef enum: DW, DBIAS, PARTIAL, X, DY
cdef enum: SUM_DW, SUM_DBIAS, SUM_PARTIAL

# Places in fnn_op.dim. Those from METHOD on are set by prepare.
cdef enum:
    N, IH, IW, IC, OH, OW, OC, KH, KW
    STRIDE_H, STRIDE_W, PAD_TOP, PAD_LEFT, DILATION_H, DILATION_W, GROUPS
    ACT       # of passes: act, act_grad
    CONSTANT  # of passes and of conv2d_pack: whether the weights are
    METHOD    # one of those below
    ROWS      # of outputs a chunk
    COLS      # of outputs a chunk
    SQUARES   # of 2 x 2 outputs a chunk, by Winograd's products
    PANELS    # of channels a chunk
    PANELS_INNER  # whether chunks that follow each other share outputs rather than weights
    PACK_PARTS    # that conv2d_pack cuts a panel into, a chunk each
    # Parts that sums are cut into: rows and columns of taps, and input channels. A pass takes a round for each; a
    # gradient for the weights a chunk, and has a round for each part of its rows and columns of outputs.
    DOWN
    ACROSS
    DEPTHS
    SUM_ROWS
    SUM_COLS
    WORK      # bytes of scratch before the panel that a chunk packs for itself, or before what Winograd's products take
    SUMS      # bytes that a chunk of a gradient for the weights keeps from round to round, by Winograd's products
cdef enum: KIND = ACT
cdef enum: PIECES = ACT
cdef enum: SUM_ELEMENTS, SUM_OC, SUM_PIECES

# Values of METHOD: direct sums from packed weights; from weights of which each chunk packs what it reads (both are one
# to the gradient for the weights, which reads none); Winograd's products.
cdef enum: DIRECT, DIRECT_PACKING, WINOGRAD

cdef enum: LINE = 64  # bytes of a line of the cache

# How long a chunk of a pass lasts, in nanoseconds: short passes are cut into CHUNKS that last from LEAST_CHUNK_NS to
# CHUNK_NS; long ones into LONG_CHUNKS that last up to LONG_NS, as the more channels and rows a chunk has, the less
# often its patch is copied and its weights are read.
cdef enum: CHUNKS = 8, LEAST_CHUNK_NS = 5000, CHUNK_NS = 25000
cdef enum: LONG_CHUNKS = 24, LONG_NS = 200000
# Pixels of a chunk: READ_PIXELS at least, for which it is worth reading a panel, and fewer where these take longer than
# READ_NS; where the chunk packs the panel, which takes as long as some 20 pixels, PACK_PIXELS, and fewer where these
# take longer than PACK_NS, but at least LEAST_PACK_PIXELS. At most MOST_PIXELS, each of which has pointers in scratch.
cdef enum: READ_PIXELS = 96, READ_NS = 1000000
cdef enum: PACK_PIXELS = 128, LEAST_PACK_PIXELS = 32, PACK_NS = 8000000
cdef enum: MOST_PIXELS = 1024
# Up to so many pixels in all, chunks pack the panels that they read: hardly two chunks read the same one. But not where
# the sum is longer than OWN_TERMS: in each of its rounds a chunk would wait for memory.
cdef enum: OWN_PIXELS = 256, OWN_TERMS = 1 << 16
# A zero-padded copy holds at most so many elements, which stay in L2, or as many as there would be pointers instead; it
# is made COPIED elements in the time that a pointer takes.
cdef enum: PATCH_ELEMENTS = 1 << 16, COPIED = 4

# What an output takes besides its sum, in terms of the sum: bias, activation, writing it.
cdef double OUTPUT_TERMS = 4.0
# Depthwise convolutions read two numbers for each multiply-add, and wait for them. A pass makes multiply-adds at this
# share of the rate of others; in a gradient for the weights one takes as long as so many of others.
cdef double DEPTHWISE_RATE = 0.3
cdef enum: DEPTHWISE_GRAD = 3
# What has more bytes comes from memory, one line after another: a panel takes FAR times as long to read.
cdef enum: FAR_BYTES = 1 << 20, FAR = 3
# Nanoseconds: a float32 of a panel that is read, or that a chunk packs for itself, where no memory is waited for; one
# that conv2d_pack packs; a tap's pointer.
cdef double WEIGHT_NS = 0.15, OWN_NS = 0.4, PACKED_NS = 0.3, TAP_NS = 1.0

# Winograd's products. A chunk holds so many bytes of transformed inputs, and as many of sums: both stay in L2. It has
# so many panels if there are many, as it transforms its inputs for them; at least LEAST_PANELS, and LEAST_TILES
# register tiles of squares, if that makes too few chunks.
cdef enum: WINOGRAD_BYTES = 208 << 10, WINOGRAD_PANELS = 4, LEAST_PANELS = 2, LEAST_TILES = 2
# Sums over more channels are too long for a chunk of them to be short.
cdef enum: WINOGRAD_CHANNELS = 2048
# What they cost besides, in multiply-adds as measured: to transform a square of a channel, in or out; and the weights
# of a channel in and out. Constant weights are not transformed in each run, but are more to read.
cdef enum: SQUARE_COST = 230, WEIGHT_COST = 180, CONSTANT_COST = 60
cdef enum: DIRECT_TAPS = 9  # multiply-adds of an output and channel by the direct sum, where these are CONV_POINTS / 4
# Rounds of direct sums for one of Winograd's where these are not finite: 36 products for 16, and a shorter last one.
cdef enum: DIRECT_ROUNDS = 3

# conv2d_pack: elements of panels that a chunk copies at least, and at most; panels of a block of depth of a chunk that
# transforms weights.
cdef enum: LEAST_PACK = 1 << 14, MOST_PACK = 1 << 17, POINTS_PANELS = 4
cdef enum: WIDEST = 32  # channels of a panel, on any ISA

# The gradient for the weights. Outputs that it sums in registers before it adds them to memory (half as many of
# float64).
cdef enum: BLOCK_OUTPUTS = 256
cdef enum: GRAD_CHANNELS = 64  # of outputs of a chunk by Winograd's products: their sums stay in L2
# It is cut into chunks of CHUNK_MACS multiply-adds, but into no more than WEIGHT_CHUNKS, as more would read inputs and
# outputs more often, unless these last too long. By shape alone, the same on any ISA: a panel's channels are counted in
# multiples of NARROWEST.
cdef enum: CHUNK_MACS = 1000000, WEIGHT_CHUNKS = 32, NARROWEST = 8
# Input channels of a chunk, at least: for fewer, copying the gradients of outputs for each chunk costs too much.
cdef enum: LEAST_DEPTH = 24
# Its pieces have so many blocks of outputs each, at least, and so many elements in all.
cdef enum: PIECE_BLOCKS = 2, PARTIAL_ELEMENTS = 1 << 20
# Nanoseconds: an element of dw that a block of outputs is added to; a float32 that a block reads, copied; an element of
# dw, or of a piece of it, that comes from a chunk; an element that conv2d_weight_grad_sum reads or writes.
cdef double ADD_NS = 0.3, COPY_NS = 0.3, WRITE_NS = 0.2, SUM_NS = 0.1
# A float32 of dw that is written to memory or read back; depthwise sums are cleared, made, and read again to be
# written.
cdef double MEMORY_NS = 0.3
cdef enum: DEPTHWISE_MOVES = 4
cdef enum: SUM_CHUNK = 4096  # elements of dw that a chunk of conv2d_weight_grad_sum makes

cdef enum: MANY_IMAGES = 1 << 20  # a batch of so many uses Winograd's products if one of any other size does
cdef enum: LARGEST_SIZE = 0x7FFFFFFF  # sums and products of a few fit 64 bits
cdef double LARGEST = 1 << 46  # elements of an array: more than any memory holds

cdef int RELU = ACTIVATIONS.index("relu")


cdef inline int64_t clamp(int64_t x, int64_t low, int64_t high) noexcept nogil:
    return max(low, min(x, high))


cdef inline int64_t whole_lines(int64_t bytes) noexcept nogil:
    return ceil_div(bytes, LINE) * LINE


cdef inline const conv2d_kernels *kernels_of(const fnn_op *op) noexcept nogil:
    return <const conv2d_kernels *> op.kernels


cdef inline int64_t floats_of(const fnn_op *op) noexcept nogil:
    """Of how many float32 an element has the size: as much longer does memory take."""
    return item_size(op) // <int64_t> sizeof(float)


cdef inline bint is_depthwise(const int64_t *dim) noexcept nogil:
    return dim[GROUPS] == dim[IC] and dim[GROUPS] == dim[OC] and dim[GROUPS] > 1


# ---- what a pass reads and writes --------------------------------------------------------------

cdef struct axis:
    # One direction (rows or columns) of one residue of a stride: the residue's output i is output i * spacing +
    # remainder of the pass. Its tap j, in the order of packed weights, is tap tap0 + j * tap_step of the kernel and
    # reads source i * stride + j * step + origin. `before` taps of other residues precede its own in packed weights.
    int64_t outputs, spacing, taps, tap0, tap_step, stride, step, origin, before


cdef axis forward_axis(int64_t outputs, int64_t kernel, int64_t stride, int64_t pad, int64_t dilation) noexcept nogil:
    cdef axis a
    a.outputs = outputs
    a.spacing = 1
    a.taps = kernel
    a.tap0 = 0
    a.tap_step = 1
    a.stride = stride
    a.step = dilation
    a.origin = -pad
    a.before = 0
    return a


cdef axis gradient_axis(int64_t remainder, int64_t outputs, int64_t kernel, int64_t stride, int64_t pad,
                        int64_t dilation) noexcept nogil:
    """Inputs i = remainder, remainder + stride, ...: those taps k of the kernel reach them for which i + pad - k *
    dilation is a multiple of the stride, from the output at that multiple."""
    cdef axis a
    cdef int64_t inverse, g = gcd(dilation, stride, &inverse), period = stride // g
    cdef int64_t k = (remainder + pad) // g % period * inverse % period
    cdef bint reached = (remainder + pad) % g == 0 and k < kernel
    a.outputs = ceil_div(outputs - remainder, stride) if remainder < outputs else 0
    a.spacing = stride
    a.taps = ceil_div(kernel - k, period) if reached else 0
    a.tap0 = k + (a.taps - 1) * period
    a.tap_step = -period
    a.stride = 1
    a.step = dilation // g
    a.origin = (remainder + pad - k * dilation) // stride - (a.taps - 1) * a.step
    a.before = k * (kernel // period) + min(k, kernel % period) if reached else 0  # as taps_before
    return a


cdef int64_t gcd(int64_t a, int64_t b, int64_t *inverse) noexcept nogil:
    """The greatest common divisor g, and what a // g is to be multiplied by for 1 modulo b // g (0 where that is 1)."""
    cdef int64_t modulus, g = b, rest = a % b, x = 0, y = 1, q
    while rest != 0:
        q = g // rest
        g, rest = rest, g - q * rest
        x, y = y, x - q * y
    modulus = b // g
    inverse[0] = (x % modulus + modulus) % modulus
    return g


cdef struct residue:
    # Outputs of a pass whose row and column leave the same remainders by the strides: the same taps reach them. A
    # forward pass has one residue, of all outputs.
    axis h, w
    int64_t start    # offset of its first output
    int64_t before   # taps of other residues that precede its own in packed weights


cdef struct layer:
    # What a pass reads (depth channels of a group's pixel) and writes (width channels); an output channel sums `summed`
    # channels of each pixel: depth, or 1 where the convolution is depthwise, which is one group here.
    bint grad, depthwise
    int64_t source_h, source_w, source_c, depth, summed
    int64_t out_h, out_w, out_c, width
    int64_t groups, taps, residues_h, residues_w
    int64_t panels, lanes


cdef layer layer_of(const fnn_op *op, bint grad) noexcept nogil:
    cdef const int64_t *dim = &op.dim[0]
    cdef layer t
    t.grad = grad
    t.depthwise = is_depthwise(dim)
    t.source_h = dim[OH] if grad else dim[IH]
    t.source_w = dim[OW] if grad else dim[IW]
    t.source_c = dim[OC] if grad else dim[IC]
    t.out_h = dim[IH] if grad else dim[OH]
    t.out_w = dim[IW] if grad else dim[OW]
    t.out_c = dim[IC] if grad else dim[OC]
    t.groups = 1 if t.depthwise else dim[GROUPS]
    t.depth = t.source_c // t.groups
    t.summed = 1 if t.depthwise else t.depth
    t.width = t.out_c // t.groups
    t.taps = dim[KH] * dim[KW]
    t.residues_h = min(dim[STRIDE_H], dim[IH]) if grad else 1  # those that have outputs
    t.residues_w = min(dim[STRIDE_W], dim[IW]) if grad else 1
    t.lanes = conv2d_table(op.isa, op.dtype).lanes
    t.panels = ceil_div(t.width, 2 * t.lanes)
    return t


cdef inline int64_t squares_of(const int64_t *dim, const layer *t) noexcept nogil:
    return dim[N] * ceil_div(t.out_h, 2) * ceil_div(t.out_w, 2)


cdef bint fewer_products(const int64_t *dim, const layer *t, double moved, double weight_cost) noexcept nogil:
    """Whether Winograd's products are fewer than those of the direct sum, with what they cost besides, counted in
    products: of a square `moved` channels are transformed; weight_cost is that of the weights of a channel in and
    out."""
    cdef double products = <double> t.depth * t.width, squares = <double> squares_of(dim, t)
    if not (dim[KH] == dim[KW] == 3 and dim[STRIDE_H] == dim[STRIDE_W] == 1 and dim[DILATION_H] == dim[DILATION_W] == 1
            and dim[GROUPS] == 1):
        return False
    return DIRECT_TAPS * products * dim[N] * t.out_h * t.out_w > (
        squares * (CONV_POINTS * products + SQUARE_COST * moved) + weight_cost * products)


cdef int64_t method_of_pass(const int64_t *dim, const layer *t, bint packed) noexcept nogil:
    """How the outputs are made, if weights are packed for it or not. By Winograd's products only if an output at a
    corner has 4 taps inside the image: its rounding error is that of its whole square, which would be large beside a
    sum over fewer."""
    cdef int64_t top = dim[PAD_TOP] - 2 if t.grad else -dim[PAD_TOP]  # the row that an output's first tap reads
    cdef int64_t left = dim[PAD_LEFT] - 2 if t.grad else -dim[PAD_LEFT]
    if not packed:
        return DIRECT_PACKING
    if (min(top, left) >= -1 and t.out_h + 1 + top <= t.source_h and t.out_w + 1 + left <= t.source_w
            and t.depth <= WINOGRAD_CHANNELS
            and fewer_products(dim, t, t.depth + t.width, CONSTANT_COST if dim[CONSTANT] else WEIGHT_COST)):
        return WINOGRAD
    if not dim[CONSTANT] and t.taps * t.summed <= OWN_TERMS and (
            dim[N] * ceil_div(t.out_h, t.residues_h) * ceil_div(t.out_w, t.residues_w) <= OWN_PIXELS):
        return DIRECT_PACKING
    return DIRECT


cdef residue residue_of(const int64_t *dim, const layer *t, int64_t i, int64_t j) noexcept nogil:
    """The residue of rows that leave i and columns that leave j."""
    cdef residue r
    if not t.grad:
        r.h = forward_axis(dim[OH], dim[KH], dim[STRIDE_H], dim[PAD_TOP], dim[DILATION_H])
        r.w = forward_axis(dim[OW], dim[KW], dim[STRIDE_W], dim[PAD_LEFT], dim[DILATION_W])
        r.start = 0
        r.before = 0
        return r
    r.h = gradient_axis(i, dim[IH], dim[KH], dim[STRIDE_H], dim[PAD_TOP], dim[DILATION_H])
    r.w = gradient_axis(j, dim[IW], dim[KW], dim[STRIDE_W], dim[PAD_LEFT], dim[DILATION_W])
    r.start = (i * t.out_w + j) * t.out_c
    r.before = r.h.before * dim[KW] + r.h.taps * r.w.before
    return r


cdef inline residue all_outputs(const int64_t *dim, const layer *t) noexcept nogil:
    """The one residue of a pass whose stride is 1, or that goes forward."""
    return residue_of(dim, t, 0, 0)


cdef void view_of(conv2d_view *v, const layer *t, const residue *r) noexcept nogil:
    v.x = NULL
    v.h = t.source_h
    v.w = t.source_w
    v.pixel = t.source_c
    v.depth = t.depth
    v.taps_h = r.h.taps
    v.taps_w = r.w.taps
    v.step_h = r.h.step
    v.step_w = r.w.step
    v.stride_h = r.h.stride
    v.stride_w = r.w.stride
    v.top = r.h.origin
    v.left = r.w.origin


cdef inline bint stays_inside(const axis *a, int64_t size) noexcept nogil:
    return a.origin >= 0 and (a.outputs - 1) * a.stride + (a.taps - 1) * a.step + a.origin < size


cdef int64_t mode_of(const layer *t, const residue *r, int64_t rows, int64_t cols, int64_t panels,
                     bint inside) noexcept nogil:
    """How the taps of a residue find their pixels, for chunks of (rows, cols, panels): in the image itself, if no
    tap lies outside (not if `inside` is False: then the answer is what takes more room, for parts of sums of which some
    lie inside); in a zero-padded copy, if that is small and takes less time than pointers, which are made once and read
    once for each panel."""
    cdef int64_t taps = r.h.taps * r.w.taps
    cdef int64_t patch = ((rows - 1) * r.h.stride + (r.h.taps - 1) * r.h.step + 1) * (
        (cols - 1) * r.w.stride + (r.w.taps - 1) * r.w.step + 1) * t.depth
    if taps == 0:
        return CONV_POINTERS
    if inside and stays_inside(&r.h, t.source_h) and stays_inside(&r.w, t.source_w):
        return CONV_DIRECT
    if (t.depthwise or patch > max(<int64_t> PATCH_ELEMENTS, taps * rows * cols)
            or patch // COPIED > taps * rows * cols * (1 + panels)):
        return CONV_POINTERS
    return CONV_COPY


cdef inline int64_t few_pixels(const conv2d_kernels *kernels, const layer *t) noexcept nogil:
    """Pixels that fill less than two thirds of a register tile are made together with others, rather than apart without
    the taps of theirs that lie outside the image."""
    return (kernels.narrow_pixels if t.width <= t.lanes else kernels.pixels) * 2 // 3


# ---- packed weights ---------------------------------------------------------------------------

cdef inline int64_t panel_width(const layer *t, int64_t panel) noexcept nogil:
    return 2 * t.lanes if t.width - panel * 2 * t.lanes > t.lanes else t.lanes


cdef inline int64_t packed_width(const layer *t) noexcept nogil:
    """Of all panels of a group."""
    return (t.panels - 1) * 2 * t.lanes + panel_width(t, t.panels - 1)


cdef inline int64_t packed_at(const layer *t, int64_t group, int64_t panel) noexcept nogil:
    """Where a panel of all taps begins in packed weights, in elements."""
    return (group * packed_width(t) + panel * 2 * t.lanes) * t.taps * t.summed


cdef void pack_job(conv2d_pack_job *job, const fnn_op *op, const layer *t, const residue *r, int64_t group,
                   const void *w, const void *scale, int64_t *order) noexcept nogil:
    """What the panels of a residue of a group are made of; fills `order`, a place for each of its taps."""
    cdef int64_t i, j
    cdef int64_t icg = op.dim[IC] // op.dim[GROUPS], ocg = op.dim[OC] // op.dim[GROUPS]
    for i in range(r.h.taps):
        for j in range(r.w.taps):
            order[i * r.w.taps + j] = (r.h.tap0 + i * r.h.tap_step) * op.dim[KW] + r.w.tap0 + j * r.w.tap_step
    job.w = <const char *> w + group * t.taps * icg * ocg * item_size(op)
    job.scale = scale
    if scale != NULL:
        job.scale = <const char *> scale + group * t.width * item_size(op)
    job.order = order
    job.taps = r.h.taps * r.w.taps
    if t.depthwise:
        job.depth = job.tap_stride = 1
        job.depth_stride = 0
        job.channel_stride = t.taps
    else:
        job.depth = t.depth
        job.tap_stride = icg * ocg
        job.depth_stride = 1 if t.grad else ocg
        job.channel_stride = ocg if t.grad else 1


cdef void prepare_pack(fnn_op *op) noexcept nogil:
    cdef const conv2d_kernels *kernels = conv2d_table(op.isa, op.dtype)
    cdef layer t = layer_of(op, op.dim[KIND] == 1)
    cdef int64_t elements = t.taps * t.summed * 2 * t.lanes
    op.kernels = kernels
    op.scratch = t.taps * sizeof(int64_t)
    op.cost = (PACKED_NS if elements <= MOST_PACK else FAR * OWN_NS) * t.groups * t.panels * elements
    op.dim[METHOD] = method_of_pass(op.dim, &t, True)
    if op.dim[METHOD] == DIRECT_PACKING:
        op.chunks = 0
    elif op.dim[METHOD] == WINOGRAD:
        op.dim[PANELS] = POINTS_PANELS
        op.scratch += kernels.winograd_pack_bytes
        op.chunks = ceil_div(t.panels, op.dim[PANELS]) * ceil_div(t.depth, kernels.winograd_depth(t.depth))
    else:
        op.dim[PANELS] = max(<int64_t> 1, LEAST_PACK // max(<int64_t> 1, elements))
        op.dim[PACK_PARTS] = ceil_div(elements, MOST_PACK)
        op.chunks = ceil_div(t.groups * t.panels, op.dim[PANELS]) * op.dim[PACK_PARTS]


cdef struct tap_sets:
    # Of the taps of a gradient along an axis, taps k, k + period, k + 2 * period, ... reach the same residue: set k.
    # The sets follow each other in packed weights. Each has `least` taps, and the first `more` of them one more.
    int64_t stride, pad, spread, g, period, count, least, more


cdef tap_sets tap_sets_of(int64_t kernel, int64_t stride, int64_t pad, int64_t dilation) noexcept nogil:
    cdef tap_sets s
    cdef int64_t inverse
    s.g = gcd(dilation, stride, &inverse)
    s.stride = stride
    s.pad = pad
    s.spread = dilation // s.g
    s.period = stride // s.g
    s.count = min(s.period, kernel)
    s.least = kernel // s.period
    s.more = kernel % s.period
    return s


cdef inline int64_t set_at(const tap_sets *s, int64_t place) noexcept nogil:
    """The set of the tap that has a place in packed weights."""
    if place < s.more * (s.least + 1):
        return place // (s.least + 1)
    return s.more + (place - s.more * (s.least + 1)) // s.least


cdef inline int64_t taps_before(const tap_sets *s, int64_t k) noexcept nogil:
    return k * s.least + min(k, s.more)


cdef inline int64_t remainder_of(const tap_sets *s, int64_t k) noexcept nogil:
    """The residue that set k reaches."""
    return ((k * s.spread % s.period * s.g - s.pad) % s.stride + s.stride) % s.stride


cdef int run_pack(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef layer t = layer_of(op, op.dim[KIND] == 1)
    cdef int64_t panel, parts, part, rows = t.taps * t.summed
    if op.dim[METHOD] == WINOGRAD:
        pack_points(op, &t, chunk, scratch)
        return 0
    parts = op.dim[PACK_PARTS]
    part = chunk % parts
    chunk = chunk // parts
    for panel in range(chunk * op.dim[PANELS], min((chunk + 1) * op.dim[PANELS], t.groups * t.panels)):
        pack_panel(op, &t, panel // t.panels, panel % t.panels, rows * part // parts, rows * (part + 1) // parts,
                   scratch)
    return 0


cdef void pack_panel(const fnn_op *op, const layer *t, int64_t group, int64_t panel, int64_t begin, int64_t end,
                     void *scratch) noexcept nogil:
    """Rows [begin, end) of a panel: those of the taps of a residue after those of another."""
    cdef const int64_t *dim = &op.dim[0]
    cdef int64_t place = packed_at(t, group, panel), width = panel_width(t, panel)
    cdef int64_t first = panel * 2 * t.lanes, n = min(t.width - first, 2 * t.lanes), i, j, before, rows, start
    cdef tap_sets h, w
    cdef residue r
    cdef conv2d_pack_job job
    if not t.grad:
        r = all_outputs(dim, t)
        pack_job(&job, op, t, &r, group, op.buf[PACK_WEIGHTS], op.buf[PACK_SCALE], <int64_t *> scratch)
        kernels_of(op).pack(at(op, PANELS_OUT, place + begin * width), &job, begin, end - begin, first, n)
        return
    h = tap_sets_of(dim[KH], dim[STRIDE_H], dim[PAD_TOP], dim[DILATION_H])
    w = tap_sets_of(dim[KW], dim[STRIDE_W], dim[PAD_LEFT], dim[DILATION_W])
    for i in range(set_at(&h, begin // t.summed // dim[KW]), h.count):
        before = taps_before(&h, i) * dim[KW]
        if before * t.summed >= end:
            break
        if remainder_of(&h, i) >= t.residues_h:
            continue
        rows = taps_before(&h, i + 1) - taps_before(&h, i)
        for j in range(set_at(&w, max(<int64_t> 0, begin // t.summed - before) // rows), w.count):
            if (before + rows * taps_before(&w, j)) * t.summed >= end:
                break
            if remainder_of(&w, j) >= t.residues_w:
                continue
            r = residue_of(dim, t, remainder_of(&h, i), remainder_of(&w, j))
            pack_job(&job, op, t, &r, group, op.buf[PACK_WEIGHTS], op.buf[PACK_SCALE], <int64_t *> scratch)
            start = max(begin, r.before * t.summed)
            kernels_of(op).pack(at(op, PANELS_OUT, place + start * width), &job, start - r.before * t.summed,
                                min(end, (r.before + job.taps) * t.summed) - start, first, n)


cdef void pack_points(const fnn_op *op, const layer *t, int64_t chunk, void *scratch) noexcept nogil:
    """Some panels of a block of depth, for Winograd's products."""
    cdef const conv2d_kernels *kernels = kernels_of(op)
    cdef int64_t parts = ceil_div(t.panels, op.dim[PANELS]), block = chunk // parts
    cdef int64_t each = kernels.winograd_depth(t.depth)
    cdef int64_t rows = min(each, t.depth - block * each), channels = op.dim[PANELS] * 2 * t.lanes
    cdef int64_t first = chunk % parts * channels
    cdef residue r = all_outputs(op.dim, t)
    cdef conv2d_pack_job job
    pack_job(&job, op, t, &r, 0, op.buf[PACK_WEIGHTS], op.buf[PACK_SCALE],
             <int64_t *> (<char *> scratch + kernels.winograd_pack_bytes))
    kernels.winograd_pack(
        at(op, PANELS_OUT, block * kernels.winograd_elements(each, t.width) + kernels.winograd_elements(rows, first)),
        &job, block * each, rows, first, min(t.width - first, channels), scratch)


# ---- forward, and the gradient for the input --------------------------------------------------

cdef inline double rate_of(const layer *t, const conv2d_kernels *kernels) noexcept nogil:
    """Multiply-adds of direct sums that a pass makes in a nanosecond."""
    return kernels.rate * (DEPTHWISE_RATE if t.depthwise else 1.0)


cdef void prepare_pass(fnn_op *op, bint grad) noexcept nogil:
    cdef const conv2d_kernels *kernels = conv2d_table(op.isa, op.dtype)
    cdef layer t = layer_of(op, grad)
    cdef int64_t *dim = op.dim
    cdef int64_t rows, cols, pixels, least, i, j
    cdef int64_t k = t.taps * t.summed
    cdef double pixel_ns, terms, budget, chunk
    cdef int64_t down = most_taps(dim[KH], dim[STRIDE_H], dim[DILATION_H]) if grad else dim[KH]
    cdef int64_t across = most_taps(dim[KW], dim[STRIDE_W], dim[DILATION_W]) if grad else dim[KW]
    cdef residue r
    op.kernels = kernels
    op.chunks = 0
    op.scratch = 0
    dim[DOWN] = dim[ACROSS] = dim[DEPTHS] = 1
    dim[METHOD] = method_of_pass(dim, &t, op.buf[PACKED] != NULL)
    if dim[METHOD] == WINOGRAD:
        prepare_winograd(op, &t)
        return
    # Of a residue, on average: the taps are shared out among the residues, of which those without outputs are left out.
    rows = dim[N] * ceil_div(t.out_h, t.residues_h)
    cols = ceil_div(t.out_w, t.residues_w)
    terms = <double> k / (t.residues_h * t.residues_w)
    if grad and (t.residues_h < dim[STRIDE_H] or t.residues_w < dim[STRIDE_W]):
        terms = ceil_div(dim[KH], dim[STRIDE_H]) * ceil_div(dim[KW], dim[STRIDE_W]) * <double> t.summed
    pixel_ns = (terms + OUTPUT_TERMS) * 2 * t.lanes / rate_of(&t, kernels)  # of a panel
    op.cost = pixel_ns * t.panels * t.groups * rows * cols * t.residues_h * t.residues_w
    if op.cost <= 0:
        return
    budget = max(clamp(<int64_t> (op.cost / CHUNKS), LEAST_CHUNK_NS, CHUNK_NS),
                 min(op.cost / LONG_CHUNKS, <double> LONG_NS))
    if dim[METHOD] == DIRECT:
        least = clamp(<int64_t> (READ_NS / pixel_ns), 1, READ_PIXELS)
    else:
        least = clamp(<int64_t> (PACK_NS / pixel_ns), LEAST_PACK_PIXELS, PACK_PIXELS)
    least = min(least, rows * cols)
    dim[PANELS] = clamp(<int64_t> (budget / (pixel_ns * least)), 1, t.panels)
    dim[PANELS] = ceil_div(t.panels, ceil_div(t.panels, dim[PANELS]))
    pixels = clamp(<int64_t> (budget / (pixel_ns * dim[PANELS])), least, MOST_PIXELS)
    if cols > pixels:
        dim[ROWS] = 1
        dim[COLS] = ceil_div(cols, ceil_div(cols, pixels))
    else:
        dim[COLS] = cols
        dim[ROWS] = ceil_div(rows, ceil_div(rows, pixels // cols))
    pixels = dim[ROWS] * dim[COLS]
    dim[PANELS_INNER] = pixels * t.depth > k * 2 * t.lanes * dim[PANELS]
    op.chunks = t.groups * ceil_div(t.panels, dim[PANELS]) * (
        blocks_of(t.out_h, t.residues_h, dim[N], dim[ROWS]) * blocks_of(t.out_w, t.residues_w, 1, dim[COLS]))
    # What a chunk takes, of the residue that has most taps: its products, reading its weights and finding its pixels.
    terms = <double> down * across * t.summed
    chunk = (WEIGHT_NS if dim[METHOD] == DIRECT else OWN_NS) * floats_of(op)
    if terms * 2 * t.lanes * item_size(op) > FAR_BYTES:
        chunk *= FAR
    chunk = (terms + OUTPUT_TERMS) * pixels / rate_of(&t, kernels) + terms * chunk
    chunk = chunk * dim[PANELS] * 2 * t.lanes + TAP_NS * down * across * pixels
    cut_sums(op, short_parts(chunk), down, across, t.summed)
    op.rounds = dim[DOWN] * dim[ACROSS] * dim[DEPTHS]
    if chunk > CHUNK_NS:
        op.cost = max(op.cost, chunk * op.chunks)
    for i in range(t.residues_h):
        for j in range(t.residues_w):
            r = residue_of(dim, &t, i, j)
            op.scratch = max(op.scratch, gather_bytes(op, &t, &r))
    dim[WORK] = op.scratch
    if dim[METHOD] == DIRECT_PACKING:
        op.scratch += whole_lines(t.taps * sizeof(int64_t)) + kernels.room * item_size(op)


cdef int64_t most_taps(int64_t kernel, int64_t stride, int64_t dilation) noexcept nogil:
    """Of any residue of a gradient, along an axis."""
    cdef int64_t inverse
    return ceil_div(kernel, stride // gcd(dilation, stride, &inverse))


cdef void cut_sums(fnn_op *op, int64_t parts, int64_t down, int64_t across, int64_t depth) noexcept nogil:
    """Cut sums over (down, across) taps of some input channels into so many parts: rows of taps; single taps, if the
    rows are too few; some channels of a tap."""
    op.dim[DOWN] = min(parts, down)
    op.dim[ACROSS] = min(ceil_div(parts, op.dim[DOWN]), across)
    op.dim[DEPTHS] = min(ceil_div(parts, op.dim[DOWN] * op.dim[ACROSS]), depth)


cdef struct sum_part:
    int64_t at           # rows of the residue's packed weights before it; -1 if a residue has no such part
    int64_t depth0       # its first input channel
    bint resumes, goes_on


cdef sum_part take_part(const fnn_op *op, layer *t, residue *r, int64_t round) noexcept nogil:
    """Leaves in t and r what a round adds up of a residue, which may have less taps than sums have parts."""
    cdef int64_t down = min(op.dim[DOWN], r.h.taps), across = min(op.dim[ACROSS], r.w.taps), depths = op.dim[DEPTHS]
    cdef int64_t i = round // (depths * op.dim[ACROSS]), j = round // depths % op.dim[ACROSS], d = round % depths
    cdef int64_t row = r.h.taps * i // down, col = r.w.taps * j // across, taps_w = r.w.taps, depth = t.depth
    cdef sum_part s
    s.at = -1
    if i >= down or j >= across:
        return s
    s.resumes = round > 0
    s.goes_on = i < down - 1 or j < across - 1 or d < depths - 1
    s.depth0 = depth * d // depths
    s.at = (row * taps_w + col) * t.summed + s.depth0
    take_taps(&r.h, row, r.h.taps * (i + 1) // down)
    take_taps(&r.w, col, taps_w * (j + 1) // across)
    t.depth = depth * (d + 1) // depths - s.depth0
    t.summed = 1 if t.depthwise else t.depth
    return s


cdef inline void take_taps(axis *a, int64_t begin, int64_t end) noexcept nogil:
    a.tap0 += begin * a.tap_step
    a.origin += begin * a.step
    a.taps = end - begin


cdef int64_t gather_bytes(const fnn_op *op, const layer *t, const residue *r) noexcept nogil:
    """What finding the pixels of any part of a residue's sum takes: of the largest, or of the smallest, of whose pixels
    a copy may be made where that of the largest is too large."""
    cdef conv2d_job job
    cdef layer s = t[0]
    cdef residue part = r[0]
    cdef int64_t bytes = 0, smallest
    cdef int64_t down = clamp(op.dim[DOWN], 1, max(<int64_t> 1, r.h.taps))
    cdef int64_t across = clamp(op.dim[ACROSS], 1, max(<int64_t> 1, r.w.taps))
    for smallest in range(2):
        part.h.taps = r.h.taps // down if smallest else ceil_div(r.h.taps, down)
        part.w.taps = r.w.taps // across if smallest else ceil_div(r.w.taps, across)
        s.depth = ceil_div(t.depth, op.dim[DEPTHS])
        view_of(&job.view, &s, &part)
        job.oh = part.h.outputs
        job.row0 = job.col0 = 0
        job.row1 = op.dim[ROWS]
        job.col1 = op.dim[COLS]
        job.mode = mode_of(&s, &part, op.dim[ROWS], op.dim[COLS], op.dim[PANELS], op.rounds == 1)
        job.few = few_pixels(kernels_of(op), t)
        bytes = max(bytes, kernels_of(op).gather_bytes(&job))
    return bytes


cdef inline int64_t squares_fit(const fnn_op *op, const layer *t) noexcept nogil:
    """Squares of a chunk whose transformed inputs stay in cache, in whole register tiles."""
    cdef int64_t tile = kernels_of(op).pixels
    return max(tile, WINOGRAD_BYTES // (CONV_POINTS * min(t.depth, CONV_POINTS_DEPTH) * item_size(op)) // tile * tile)


cdef void prepare_winograd(fnn_op *op, const layer *t) noexcept nogil:
    cdef const conv2d_kernels *kernels = kernels_of(op)
    cdef int64_t squares = squares_of(op.dim, t), blocks, least, parts, wanted
    # The products, and adding and moving what goes in and comes out.
    op.cost = CONV_POINTS * (t.depth + OUTPUT_TERMS) * t.panels * 2 * t.lanes + (
        <double> SQUARE_COST * (t.depth + t.width))
    op.cost *= squares / kernels.rate
    wanted = max(clamp(<int64_t> (op.cost / LEAST_CHUNK_NS), 1, CHUNKS),
                 clamp(<int64_t> (op.cost / (LONG_NS / 2)), 1, LONG_CHUNKS))
    # Cut the squares so that they fit, the panels where that is cheap, and both further if chunks are still too few.
    least = ceil_div(squares, squares_fit(op, t))
    parts = clamp(ceil_div(wanted, least), 1, max(<int64_t> 1, t.panels // WINOGRAD_PANELS))
    blocks = clamp(ceil_div(wanted, parts), least, max(least, squares // (LEAST_TILES * kernels.pixels)))
    parts = clamp(ceil_div(wanted, blocks), parts, max(parts, t.panels // LEAST_PANELS))
    op.dim[SQUARES] = ceil_div(squares, blocks)
    if blocks == least > 1:
        op.dim[SQUARES] = ceil_div(op.dim[SQUARES], kernels.pixels) * kernels.pixels
    op.dim[PANELS] = min(ceil_div(t.panels, parts), max(<int64_t> 1, WINOGRAD_BYTES // (
        CONV_POINTS * op.dim[SQUARES] * 2 * t.lanes * item_size(op))))
    # Deep sums: fewer squares and panels.
    parts = short_parts(winograd_ns(op, t))
    if parts > 1 and op.dim[SQUARES] > kernels.pixels:
        op.dim[SQUARES] = max(<int64_t> 1, op.dim[SQUARES] // parts // kernels.pixels) * kernels.pixels
    op.dim[PANELS] = ceil_div(op.dim[PANELS], short_parts(winograd_ns(op, t)))
    op.chunks = ceil_div(squares, op.dim[SQUARES]) * ceil_div(t.panels, op.dim[PANELS])
    op.dim[WORK] = whole_lines(op.dim[PANELS] * op.dim[SQUARES])  # a byte for each: whether it is finite
    op.scratch = op.dim[WORK] + max(
        kernels.winograd_bytes(t.depth, op.dim[SQUARES], op.dim[PANELS] * 2 * t.lanes),
        direct_bytes(op, t) + kernels.room * item_size(op))


cdef double winograd_ns(const fnn_op *op, const layer *t) noexcept nogil:
    """What a chunk takes."""
    cdef double channels = op.dim[PANELS] * 2 * t.lanes
    cdef double products = CONV_POINTS * (t.depth + OUTPUT_TERMS) * channels
    return op.dim[SQUARES] * (products + SQUARE_COST * (t.depth + channels)) / kernels_of(op).rate


cdef int64_t direct_bytes(const fnn_op *op, const layer *t) noexcept nogil:
    """What finding the pixels of any of a chunk's squares takes, for direct sums: of rows and columns that make as many
    pixels, those of one column take most, but for two tables that may be rounded up to a line more."""
    cdef residue r = all_outputs(op.dim, t)
    cdef conv2d_job job
    view_of(&job.view, t, &r)
    job.oh = t.out_h
    job.row0 = job.col0 = 0
    job.row1 = 4 * op.dim[SQUARES]
    job.col1 = 1
    job.mode = CONV_POINTERS
    job.few = 1
    return whole_lines(kernels_of(op).gather_bytes(&job) + 2 * LINE)


cdef void finish_pixels(const fnn_op *op, const layer *t, int64_t start, int64_t elements) noexcept nogil:
    """The activation, or its gradient, over outputs that are still in cache."""
    cdef void *y = at(op, OUT, start)
    if t.grad:
        backward_kernel(<int> op.dim[ACT], op.isa, op.dtype)(y, y, at(op, SAVED, start), elements, op.scalar)
    else:
        forward_kernel(<int> op.dim[ACT], op.isa, op.dtype)(y, y, elements, op.scalar)


cdef inline bint is_finished(const fnn_op *op) noexcept nogil:
    """Whether kernels leave nothing to do: relu is theirs."""
    return op.dim[ACT] < 0 or op.dim[ACT] == RELU


cdef void finish(const fnn_op *op, const layer *t, const conv2d_job *job, const residue *r, int64_t offset,
                 int64_t channels) noexcept nogil:
    cdef int64_t row, col, start, cols = job.col1 - job.col0
    if is_finished(op):
        return
    if channels == t.out_c and r.w.spacing == 1:
        channels *= cols
        cols = 1
    for row in range(job.row0, job.row1):
        start = offset + row // job.oh * job.y_image + row % job.oh * job.y_row + job.col0 * job.y_pixel
        for col in range(cols):
            finish_pixels(op, t, start + col * job.y_pixel, channels)


cdef void finish_squares(const fnn_op *op, const layer *t, const conv2d_job *job, int64_t first,
                         int64_t channels) noexcept nogil:
    cdef int64_t across = ceil_div(t.out_w, 2), down = ceil_div(t.out_h, 2), square, row, col, start
    if is_finished(op):
        return
    for square in range(job.square0, job.square1):
        for row in range(square // across % down * 2, min(square // across % down * 2 + 2, t.out_h)):
            for col in range(square % across * 2, min(square % across * 2 + 2, t.out_w)):
                start = square // (across * down) * job.y_image + row * job.y_row + col * job.y_pixel + first
                finish_pixels(op, t, start, channels)


cdef inline int64_t row_of_squares(const layer *t, int64_t line) noexcept nogil:
    """The first row of outputs, counted through all images, of a row of squares."""
    cdef int64_t down = ceil_div(t.out_h, 2)
    return line // down * t.out_h + line % down * 2


cdef struct rectangle:
    int64_t row0, row1, col0, col1  # of outputs, rows being counted through all images


cdef rectangle rectangle_of(const layer *t, int64_t begin, int64_t end) noexcept nogil:
    """The outputs of squares [begin, end), which are some of one row of squares or whole rows of them."""
    cdef int64_t across = ceil_div(t.out_w, 2)
    cdef rectangle a
    a.row0 = row_of_squares(t, begin // across)
    a.row1 = row_of_squares(t, (end - 1) // across)
    a.row1 += min(<int64_t> 2, t.out_h - a.row1 % t.out_h)
    a.col0 = begin % across * 2
    a.col1 = min(((end - 1) % across + 1) * 2, t.out_w)
    return a


cdef inline int64_t end_of_rectangle(const layer *t, int64_t begin, int64_t end) noexcept nogil:
    """How far squares from `begin` on, up to `end`, make a rectangle: whole rows, or a part of one."""
    cdef int64_t across = ceil_div(t.out_w, 2)
    if begin % across == 0 and end - begin >= across:
        return end - end % across
    return min(end, (begin // across + 1) * across)


cdef void run_spoilt(const fnn_op *op, const layer *t, const residue *r, conv2d_job *job, int64_t first,
                     const unsigned char *spoilt, void *scratch) noexcept nogil:
    """Makes those squares of a panel of channels again whose outputs are not finite, by the direct sum. Neighbours are
    made together, whole rows of squares at best, as their weights are packed for them."""
    cdef const conv2d_kernels *kernels = kernels_of(op)
    cdef int64_t begin = job.square0, end
    cdef int64_t[DIRECT_TAPS] order
    cdef void *weights = <char *> scratch + direct_bytes(op, t)
    cdef conv2d_pack_job pack
    cdef rectangle outputs
    pack_job(&pack, op, t, r, 0, op.buf[WEIGHTS], scale_of(op, t), order)
    job.depthwise = False
    job.mode = CONV_POINTERS
    job.few = 1  # no pixel reads more than its own taps inside the image
    while begin < job.square1:
        end = begin
        while end < job.square1 and spoilt[end - job.square0]:
            end += 1
        if end == begin:
            begin += 1
            continue
        end = end_of_rectangle(t, begin, end)
        outputs = rectangle_of(t, begin, end)
        job.row0, job.row1, job.col0, job.col1 = outputs.row0, outputs.row1, outputs.col0, outputs.col1
        kernels.gather(job, scratch)
        kernels.panel(job, weights, &pack, first, min(t.width - first, 2 * t.lanes))
        begin = end


cdef void run_winograd(const fnn_op *op, const layer *t, int64_t chunk, void *scratch) noexcept nogil:
    cdef const int64_t *dim = &op.dim[0]
    cdef int64_t squares = squares_of(dim, t), blocks = ceil_div(squares, dim[SQUARES]), width = 2 * t.lanes
    cdef int64_t first = chunk // blocks * dim[PANELS]
    cdef int64_t channels = min(t.width, (first + dim[PANELS]) * width) - first * width, panel
    cdef unsigned char *spoilt = <unsigned char *> scratch
    cdef void *work = <char *> scratch + dim[WORK]
    cdef residue r = all_outputs(dim, t)
    cdef conv2d_job job
    view_of(&job.view, t, &r)
    job.view.x = op.buf[SOURCE]
    job.oh = t.out_h
    job.ow = t.out_w
    job.square0 = chunk % blocks * dim[SQUARES]
    job.square1 = min(job.square0 + dim[SQUARES], squares)
    outputs_of(op, t, &r, 0, &job)
    if kernels_of(op).winograd(&job, op.buf[PACKED], t.width, first * width, channels, spoilt, work) > 0:
        for panel in range(ceil_div(channels, width)):
            run_spoilt(op, t, &r, &job, (first + panel) * width, spoilt + panel * (job.square1 - job.square0), work)
    finish_squares(op, t, &job, first * width, channels)


cdef inline const void *scale_of(const fnn_op *op, const layer *t) noexcept nogil:
    return NULL if t.grad else op.buf[SCALE]


cdef void outputs_of(const fnn_op *op, const layer *t, const residue *r, int64_t group, conv2d_job *job) noexcept nogil:
    """What a pass writes, for a residue of a group, and what it does to it on the way."""
    cdef int64_t offset = r.start + group * t.width
    job.y = at(op, OUT, offset)
    job.y_image = t.out_h * t.out_w * t.out_c
    job.y_row = r.h.spacing * t.out_w * t.out_c
    job.y_pixel = r.w.spacing * t.out_c
    job.bias = NULL if t.grad else at(op, BIAS, group * t.width)
    job.residual = NULL if t.grad else at(op, RESIDUAL, offset)
    job.saved = at(op, SAVED, offset) if t.grad and op.dim[ACT] == RELU else NULL
    job.relu = not t.grad and op.dim[ACT] == RELU
    job.resumes = job.goes_on = 0


cdef void clear_pixels(const layer *t, const conv2d_job *job, int64_t first, int64_t n, int64_t size) noexcept nogil:
    """Channels [first, first + n) of inputs that no tap reaches: their gradient is 0."""
    cdef int64_t row, col
    cdef char *pixel
    for row in range(job.row0, job.row1):
        for col in range(job.col0, job.col1):
            pixel = <char *> job.y + (row // job.oh * job.y_image + row % job.oh * job.y_row + col * job.y_pixel) * size
            memset(pixel + first * size, 0, min(n, t.width - first) * size)


cdef int64_t blocks_of(int64_t outputs, int64_t residues, int64_t images, int64_t block) noexcept nogil:
    """Blocks of rows (of columns, images being 1) of all residues together: the first ones have an output more."""
    cdef int64_t least = outputs // residues, more = outputs % residues
    return more * ceil_div(images * (least + 1), block) + (residues - more) * ceil_div(images * least, block)


cdef int64_t take_residue(int64_t *chunk, int64_t outputs, int64_t residues, int64_t images, int64_t block,
                          int64_t each, int64_t *blocks) noexcept nogil:
    """The residue that a chunk is of, where a block has `each` chunks; leaves the chunk's number among those of the
    residue in `chunk`, and the residue's blocks in `blocks`."""
    cdef int64_t least = outputs // residues, more = outputs % residues, remainder
    blocks[0] = ceil_div(images * (least + 1), block)
    remainder = chunk[0] // (blocks[0] * each)
    if remainder < more:
        chunk[0] -= remainder * blocks[0] * each
        return remainder
    chunk[0] -= more * blocks[0] * each
    blocks[0] = ceil_div(images * least, block)
    remainder = chunk[0] // (blocks[0] * each)
    chunk[0] -= remainder * blocks[0] * each
    return more + remainder


cdef int run_pass(const fnn_op *op, int64_t chunk, void *scratch, bint grad) noexcept nogil:
    cdef const conv2d_kernels *kernels = kernels_of(op)
    cdef layer t = layer_of(op, grad)
    cdef const int64_t *dim = &op.dim[0]
    cdef int64_t row_blocks = 0, col_blocks = 0, panel_blocks = ceil_div(t.panels, dim[PANELS]), each
    cdef int64_t i, j, group, block, part, panel, first, last, round = chunk // op.chunks
    cdef bint packs = dim[METHOD] == DIRECT_PACKING
    cdef void *weights
    cdef conv2d_pack_job pack
    cdef conv2d_job job
    cdef sum_part s
    cdef layer part_of = t  # with the channels of a part of the sum
    cdef residue r
    if dim[METHOD] == WINOGRAD:
        run_winograd(op, &t, chunk, scratch)
        return 0
    chunk = chunk % op.chunks
    each = t.groups * panel_blocks
    i = take_residue(&chunk, t.out_h, t.residues_h, dim[N], dim[ROWS],
                     each * blocks_of(t.out_w, t.residues_w, 1, dim[COLS]), &row_blocks)
    each *= row_blocks
    j = take_residue(&chunk, t.out_w, t.residues_w, 1, dim[COLS], each, &col_blocks)
    r = residue_of(dim, &t, i, j)
    group = chunk // (row_blocks * col_blocks * panel_blocks)
    chunk = chunk % (row_blocks * col_blocks * panel_blocks)
    if dim[PANELS_INNER]:
        block = chunk // panel_blocks
        part = chunk % panel_blocks
    else:
        block = chunk % (row_blocks * col_blocks)
        part = chunk // (row_blocks * col_blocks)

    job.oh = r.h.outputs
    job.row0 = block // col_blocks * dim[ROWS]
    job.row1 = min(job.row0 + dim[ROWS], dim[N] * r.h.outputs)
    job.col0 = block % col_blocks * dim[COLS]
    job.col1 = min(job.col0 + dim[COLS], r.w.outputs)
    outputs_of(op, &t, &r, group, &job)
    if r.h.taps * r.w.taps == 0:
        if round == 0:
            clear_pixels(&t, &job, part * dim[PANELS] * 2 * t.lanes, dim[PANELS] * 2 * t.lanes, item_size(op))
        return 0
    s = take_part(op, &part_of, &r, round)
    if s.at < 0:
        return 0
    view_of(&job.view, &part_of, &r)
    job.view.x = at(op, SOURCE, group * t.depth + s.depth0)
    job.mode = mode_of(&part_of, &r, dim[ROWS], dim[COLS], dim[PANELS], True)
    job.few = few_pixels(kernels, &t)
    job.depthwise = t.depthwise
    job.resumes = s.resumes
    job.goes_on = s.goes_on
    kernels.gather(&job, scratch)
    weights = <char *> scratch + dim[WORK]
    if packs:
        pack_job(&pack, op, &t, &r, group, op.buf[WEIGHTS], scale_of(op, &t), <int64_t *> weights)
        if not t.depthwise:
            pack.depth = part_of.depth
            pack.w = <const char *> pack.w + s.depth0 * pack.depth_stride * item_size(op)
        weights = <char *> weights + whole_lines(t.taps * sizeof(int64_t))
    first = part * dim[PANELS]
    last = min(first + dim[PANELS], t.panels)
    for panel in range(first, last):
        if not packs:
            weights = at(op, PACKED,
                         packed_at(&t, group, panel) + (r.before * t.summed + s.at) * panel_width(&t, panel))
        kernels.panel(&job, weights, &pack if packs else NULL, panel * 2 * t.lanes,
                      min(t.width - panel * 2 * t.lanes, 2 * t.lanes))
    if not s.goes_on:
        finish(op, &t, &job, &r, r.start + group * t.width + first * 2 * t.lanes,
               min(t.width, last * 2 * t.lanes) - first * 2 * t.lanes)
    return 0


cdef void prepare_forward(fnn_op *op) noexcept nogil:
    prepare_pass(op, False)


cdef int run_forward(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    return run_pass(op, chunk, scratch, False)


cdef void prepare_input_grad(fnn_op *op) noexcept nogil:
    prepare_pass(op, True)


cdef int run_input_grad(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    return run_pass(op, chunk, scratch, True)


# ---- the gradient for the weights -------------------------------------------------------------

cdef int64_t weight_chunks(const int64_t *dim) noexcept nogil:
    """How many chunks the time of a weight gradient asks for: by shape alone, the same on any ISA."""
    cdef int64_t groups = dim[GROUPS], width = ceil_div(dim[OC] // groups, NARROWEST) * NARROWEST
    cdef double macs = <double> dim[N] * dim[OH] * dim[OW] * dim[KH] * dim[KW] * dim[IC] * width
    if is_depthwise(dim):
        macs /= 2  # each is counted NARROWEST times above, and takes as long as some NARROWEST / 2 of others
    return clamp(<int64_t> (macs / CHUNK_MACS), 1, WEIGHT_CHUNKS)


cdef inline int64_t depth_parts(const int64_t *dim) noexcept nogil:
    """Into how many parts input channels may be cut before copying what is common to them costs too much."""
    return max(<int64_t> 1, dim[IC] // dim[GROUPS] // LEAST_DEPTH)


cdef inline int64_t partial_elements(const int64_t *dim) noexcept nogil:
    """Of a piece of the sum: dw, and dbias."""
    return dim[KH] * dim[KW] * (dim[IC] // dim[GROUPS]) * dim[OC] + dim[OC]


cdef int64_t pieces_for(const int64_t *dim) noexcept nogil:
    """As many as the time asks for while each sums some blocks of outputs: a chunk then reads its outputs'
    data once, where a chunk of some channels reads it as often as there are others."""
    cdef int64_t pieces = min(weight_chunks(dim), PARTIAL_ELEMENTS // partial_elements(dim)), rows = dim[N] * dim[OH]
    return max(<int64_t> 1, min(pieces, min(rows, rows * dim[OW] // (PIECE_BLOCKS * BLOCK_OUTPUTS))))


cdef void weight_job(const fnn_op *op, const layer *t, conv2d_weight_job *job) noexcept nogil:
    """What all chunks of a gradient for the weights have in common."""
    cdef residue r = all_outputs(op.dim, t)
    cdef int64_t cols = op.dim[OW], outputs = BLOCK_OUTPUTS // floats_of(op)
    memset(job, 0, sizeof(job[0]))
    view_of(&job.view, t, &r)
    job.oh = op.dim[OH]
    job.ow = job.col1 = cols
    job.block_cols = ceil_div(cols, ceil_div(cols, 2 * outputs))  # a row of up to two blocks is not cut
    job.block_rows = clamp(outputs // job.block_cols, 1, max(<int64_t> 1, op.dim[N] * op.dim[OH]))
    job.depthwise = t.depthwise
    job.dy_pixel = op.dim[OC]
    job.dw_row = t.taps if t.depthwise else t.width


cdef inline int64_t block_squares(const fnn_op *op) noexcept nogil:
    return CONV_SQUARES_BYTES // item_size(op)


cdef void prepare_weight_grad(fnn_op *op) noexcept nogil:
    cdef const conv2d_kernels *kernels = conv2d_table(op.isa, op.dtype)
    cdef layer t = layer_of(op, False)
    cdef int64_t *dim = op.dim
    cdef int64_t parts, splits, moved
    cdef conv2d_weight_job job
    op.kernels = kernels
    weight_job(op, &t, &job)
    dim[METHOD] = DIRECT
    # Its chunks transform what they read for a block of channels. Where that pays each piece has squares, as
    # WEIGHT_COST is that of several.
    moved = ceil_div(t.width, GRAD_CHANNELS) * t.depth + ceil_div(t.depth, CONV_POINTS_DEPTH) * t.width
    if fewer_products(dim, &t, moved, WEIGHT_COST * dim[PIECES]):
        dim[METHOD] = WINOGRAD
    parts = 1 if t.depthwise else depth_parts(dim)
    splits = ceil_div(weight_chunks(dim), dim[PIECES] * t.groups)
    dim[PANELS] = ceil_div(t.panels, clamp(ceil_div(splits, parts), 1, t.panels))
    dim[DEPTHS] = clamp(ceil_div(splits, ceil_div(t.panels, dim[PANELS])), 1, parts)
    dim[DOWN] = dim[ACROSS] = dim[SUM_ROWS] = dim[SUM_COLS] = 1
    if dim[METHOD] == WINOGRAD:
        cut_winograd_grad(op, &t)
    else:
        cut_weight_grad(op, &t, &job)
    op.cost += WRITE_NS * dim[PIECES] * t.groups * t.taps * t.summed * t.width
    op.chunks = t.groups * dim[PIECES] * ceil_div(t.panels, dim[PANELS]) * dim[DEPTHS] * dim[DOWN] * dim[ACROSS]
    op.rounds = dim[SUM_ROWS] * dim[SUM_COLS]
    job.view.taps_h = ceil_div(dim[KH], dim[DOWN])
    job.view.taps_w = ceil_div(dim[KW], dim[ACROSS])
    job.depth0 = 0
    job.depth1 = ceil_div(t.depth, dim[DEPTHS])
    job.first = 0
    job.n = min(t.width, dim[PANELS] * 2 * t.lanes)
    op.scratch = kernels.weight_grad_bytes(&job)
    if dim[METHOD] == WINOGRAD:
        op.scratch = max(op.scratch, kernels.winograd_grad_bytes(&job))
        if op.rounds > 1:
            # Each chunk's sums, and whether they are not finite: then more rounds add them up directly.
            dim[SUMS] = LINE + whole_lines(kernels.winograd_sums_bytes(&job))
            op.shared = op.chunks * dim[SUMS]
            op.rounds += DIRECT_ROUNDS * op.rounds


cdef void cut_winograd_grad(fnn_op *op, const layer *t) noexcept nogil:
    """Chunks of some channels in and out, and rounds of some squares."""
    cdef double width, depth, ns
    cdef int64_t squares = squares_of(op.dim, t) // op.dim[PIECES]
    op.dim[PANELS] = min(op.dim[PANELS], GRAD_CHANNELS // (2 * t.lanes))
    op.dim[DEPTHS] = max(op.dim[DEPTHS], ceil_div(t.depth, CONV_POINTS_DEPTH))
    width = op.dim[PANELS] * 2 * t.lanes
    depth = <double> t.depth / op.dim[DEPTHS]
    ns = (CONV_POINTS * depth * width + SQUARE_COST * (depth + width)) * squares / kernels_of(op).rate  # a chunk
    op.dim[SUM_ROWS] = clamp(short_parts(ns), 1, max(<int64_t> 1, squares // block_squares(op)))
    op.cost = ns * op.dim[PIECES] * ceil_div(t.panels, op.dim[PANELS]) * op.dim[DEPTHS]


cdef double memory_ns(const fnn_op *op, const layer *t, double elements, int64_t blocks) noexcept nogil:
    """What an element of dw waits for memory in each block of outputs, where a chunk has so many elements: more than
    stay in cache are written, and read back if there are several blocks."""
    if elements * item_size(op) <= FAR_BYTES:
        return 0
    return MEMORY_NS * floats_of(op) * (DEPTHWISE_MOVES if t.depthwise else 2 if blocks > 1 else 1)


cdef void cut_weight_grad(fnn_op *op, const layer *t, const conv2d_weight_job *job) noexcept nogil:
    """Chunks of some channels in and out; if a block of outputs takes too long, of fewer input channels, or of some of
    the taps; rounds of some blocks."""
    cdef int64_t *dim = op.dim
    cdef double rate = kernels_of(op).rate, outputs = <double> dim[N] * dim[OH] * dim[OW]
    cdef double width = dim[PANELS] * 2 * t.lanes, block = min(outputs, <double> job.block_rows * job.block_cols)
    cdef int64_t block_rows = max(<int64_t> 1, ceil_div(ceil_div(dim[N] * dim[OH], dim[PIECES]), job.block_rows))
    cdef int64_t block_cols = ceil_div(dim[OW], job.block_cols), blocks = block_rows * block_cols
    cdef int64_t depths = dim[DEPTHS], depth = 1 if t.depthwise else ceil_div(t.depth, depths), parts, more, rows
    cdef double channels = min(width, <double> t.width), memory = memory_ns(op, t, channels * t.taps * depth, blocks)
    # Of a block, for an element of dw: its products, and what is added and copied.
    cdef double ns = block * (DEPTHWISE_GRAD if t.depthwise else 1) / rate + ADD_NS + COPY_NS * (
        block * dim[STRIDE_H] * dim[STRIDE_W] + t.taps) / (t.taps * (t.lanes if t.depthwise else width))
    parts = short_parts((ns + memory) * width * t.taps * depth)
    if parts > 1 and not t.depthwise:
        more = clamp(parts, 1, max(<int64_t> 1, depth_parts(dim) // depths))
        depths *= more
        parts = ceil_div(parts, more)
        depth = ceil_div(t.depth, depths)
    cut_sums(op, parts, dim[KH], dim[KW], depth)
    dim[DEPTHS] = min(depths * dim[DEPTHS], t.depth)
    depth = 1 if t.depthwise else ceil_div(t.depth, dim[DEPTHS])
    rows = ceil_div(dim[KH], dim[DOWN]) * ceil_div(dim[KW], dim[ACROSS]) * depth  # of dw, in a chunk
    parts = short_parts((ns + memory_ns(op, t, channels * rows, blocks)) * width * rows * blocks)
    dim[SUM_ROWS] = min(parts, block_rows)
    dim[SUM_COLS] = min(ceil_div(parts, dim[SUM_ROWS]), block_cols)
    op.cost = outputs * t.groups * t.taps * (DEPTHWISE_GRAD if t.depthwise else t.depth) * t.panels * 2 * t.lanes / rate
    op.cost += (ADD_NS + memory) * ceil_div(<int64_t> outputs, job.block_rows * job.block_cols) * (
        t.taps * t.summed * t.width * t.groups)


cdef void weight_grad_squares(const fnn_op *op, const layer *t, conv2d_weight_job *job) noexcept nogil:
    """The direct sum over the job's squares, for dw alone: the rest of a row of squares, whole rows, part of a row."""
    cdef int64_t begin = job.square0, end
    cdef rectangle outputs
    job.dbias = NULL
    while begin < job.square1:
        end = end_of_rectangle(t, begin, job.square1)
        outputs = rectangle_of(t, begin, end)
        job.row0, job.row1, job.col0, job.col1 = outputs.row0, outputs.row1, outputs.col0, outputs.col1
        kernels_of(op).weight_grad(job)
        job.accumulate = 1
        begin = end


cdef int run_weight_grad(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef const int64_t *dim = &op.dim[0]
    cdef layer t = layer_of(op, False)
    cdef conv2d_weight_job job
    cdef int64_t panel_blocks = ceil_div(t.panels, dim[PANELS]), round = chunk // op.chunks, number = chunk % op.chunks
    cdef int64_t down, across, depth, panel, piece, group, rows = dim[N] * dim[OH], row, col, first, place
    cdef int64_t group_elements = t.taps * t.summed * t.width, elements = t.groups * group_elements
    cdef residue r = all_outputs(dim, &t)
    chunk = number
    across = chunk % dim[ACROSS]
    chunk = chunk // dim[ACROSS]
    down = chunk % dim[DOWN]
    chunk = chunk // dim[DOWN]
    depth = chunk % dim[DEPTHS]
    panel = chunk // dim[DEPTHS] % panel_blocks * dim[PANELS]
    piece = chunk // (dim[DEPTHS] * panel_blocks) % dim[PIECES]
    group = chunk // (dim[DEPTHS] * panel_blocks * dim[PIECES])
    weight_job(op, &t, &job)
    row = dim[KH] * down // dim[DOWN]
    col = dim[KW] * across // dim[ACROSS]
    take_taps(&r.h, row, dim[KH] * (down + 1) // dim[DOWN])
    take_taps(&r.w, col, dim[KW] * (across + 1) // dim[ACROSS])
    view_of(&job.view, &t, &r)
    job.row0 = rows * piece // dim[PIECES]
    job.row1 = rows * (piece + 1) // dim[PIECES]
    job.depth0 = t.depth * depth // dim[DEPTHS]
    job.depth1 = t.depth * (depth + 1) // dim[DEPTHS]
    job.first = panel * 2 * t.lanes
    job.n = min(t.width, (panel + dim[PANELS]) * 2 * t.lanes) - job.first
    job.view.x = at(op, X, group * t.depth)
    job.dy = at(op, DY, group * t.width)
    # Where the chunk's taps begin in dw.
    first = group * group_elements + (row * dim[KW] + col) * (1 if t.depthwise else t.depth * t.width)
    if dim[PIECES] == 1:
        job.dw = at(op, DW, first)
        job.dbias = at(op, DBIAS, group * t.width)
    else:
        place = piece * (elements + dim[OC])
        job.dw = at(op, PARTIAL, place + first)
        job.dbias = at(op, PARTIAL, place + elements + group * t.width) if op.buf[DBIAS] != NULL else NULL
    if depth + down + across > 0:
        job.dbias = NULL
    job.scratch = scratch
    if dim[METHOD] == WINOGRAD:
        job.square0 = squares_of(dim, &t) * piece // dim[PIECES]
        job.square1 = squares_of(dim, &t) * (piece + 1) // dim[PIECES]
        run_winograd_grad(op, &t, &job, round, number)
        return 0
    take_blocks(&job.row0, &job.row1, job.block_rows, round // dim[SUM_COLS], dim[SUM_ROWS])
    take_blocks(&job.col0, &job.col1, job.block_cols, round % dim[SUM_COLS], dim[SUM_COLS])
    job.accumulate = round > 0
    kernels_of(op).weight_grad(&job)
    return 0


cdef inline void take_blocks(int64_t *begin, int64_t *end, int64_t block, int64_t part, int64_t parts) noexcept nogil:
    """Leaves in [begin, end) a part of its blocks."""
    cdef int64_t first = begin[0], blocks = ceil_div(end[0] - first, block)
    begin[0] = first + blocks * part // parts * block
    end[0] = min(end[0], first + blocks * (part + 1) // parts * block)


cdef void run_winograd_grad(const fnn_op *op, const layer *t, conv2d_weight_job *job, int64_t round,
                            int64_t chunk) noexcept nogil:
    """In one round, or in dim[SUM_ROWS] that keep their sums, and others that make them again directly, from nothing,
    if they are not finite."""
    cdef int64_t rounds = op.dim[SUM_ROWS], begin = job.square0, squares = job.square1 - begin
    cdef int64_t *spoilt
    if rounds == 1:
        if kernels_of(op).winograd_grad(job):
            weight_grad_squares(op, t, job)
        return
    spoilt = <int64_t *> (<char *> op.common + chunk * op.dim[SUMS])
    if round < rounds:
        take_blocks(&job.square0, &job.square1, block_squares(op), round, rounds)
        job.sums = <char *> spoilt + LINE
        job.resumes = round > 0
        job.goes_on = round < rounds - 1
        spoilt[0] = kernels_of(op).winograd_grad(job)
    elif spoilt[0]:
        round -= rounds
        rounds = op.rounds - rounds
        job.square0 = begin + squares * round // rounds
        job.square1 = begin + squares * (round + 1) // rounds
        job.accumulate = round > 0
        weight_grad_squares(op, t, job)


cdef void prepare_sum(fnn_op *op) noexcept nogil:
    cdef int64_t elements = op.dim[SUM_ELEMENTS] + (op.dim[SUM_OC] if op.buf[SUM_DBIAS] != NULL else 0)
    op.kernels = conv2d_table(op.isa, op.dtype)
    op.chunks = ceil_div(elements, SUM_CHUNK)
    op.cost = SUM_NS * elements * (op.dim[SUM_PIECES] + 1)


cdef int run_sum(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t elements = op.dim[SUM_ELEMENTS], total = elements + op.dim[SUM_OC], pieces = op.dim[SUM_PIECES]
    cdef int64_t begin = chunk * SUM_CHUNK, end = min(begin + SUM_CHUNK, total), middle = clamp(elements, begin, end)
    if middle > begin:
        kernels_of(op).sum(at(op, SUM_DW, begin), at(op, SUM_PARTIAL, begin), middle - begin, pieces, total)
    if end > middle and op.buf[SUM_DBIAS] != NULL:
        kernels_of(op).sum(at(op, SUM_DBIAS, middle - elements), at(op, SUM_PARTIAL, middle), end - middle, pieces,
                           total)
    return 0


runtime.register_op("conv2d", run_forward, prepare_forward,
                    "y", "x w packed? scale? bias? residual?", GEOMETRY + " act constant", "alpha beta")
runtime.register_op("conv2d_input_grad", run_input_grad, prepare_input_grad,
                    "dx", "dy w packed? saved?", GEOMETRY + " act_grad constant", "alpha beta")
runtime.register_op("conv2d_pack", run_pack, prepare_pack, "packed", "w scale?", GEOMETRY + " kind constant")
runtime.register_op("conv2d_weight_grad", run_weight_grad, prepare_weight_grad,
                    "dw? dbias? partial?", "x dy", GEOMETRY + " pieces")
runtime.register_op("conv2d_weight_grad_sum", run_sum, prepare_sum, "dw dbias?", "partial", "elements oc pieces")


# ---- sizes of temporaries ---------------------------------------------------------------------

cdef int read_geometry(int64_t *dim, dict geometry) except -1:
    """Fills dim[N .. GROUPS]; refuses sizes that make no convolution, or whose products overflow."""
    cdef int i
    cdef double outputs, inputs, weights
    names = GEOMETRY.split()
    if geometry.keys() != set(names):
        raise TypeError(f"a geometry has the sizes {GEOMETRY}, got {' '.join(geometry)}")
    for i, name in enumerate(names):
        dim[i] = PyNumber_Index(geometry[name])
        if not (0 if i == PAD_TOP or i == PAD_LEFT else 1) <= dim[i] <= LARGEST_SIZE:
            raise ValueError(f"{name} is {dim[i]}; sizes must be from 1 to {LARGEST_SIZE}, padding from 0")
    if dim[IC] % dim[GROUPS] or dim[OC] % dim[GROUPS]:
        raise ValueError(f"groups = {dim[GROUPS]} must divide the channels {dim[IC]} and {dim[OC]}")
    inputs = <double> dim[N] * dim[IH] * dim[IW] * dim[IC]
    outputs = <double> dim[N] * dim[OH] * dim[OW] * dim[OC]
    weights = <double> dim[KH] * dim[KW] * (dim[IC] // dim[GROUPS]) * dim[OC]
    if max(inputs, outputs, weights) > LARGEST:
        raise ValueError("the sizes are larger than any memory")
    return 0


def weight_grad_pieces(**geometry):
    """How a plan cuts the sum over outputs that makes a weight gradient.

    Parameters
    ----------
    **geometry : int
        The sizes that GEOMETRY names, of the largest batch.

    Returns
    -------
    pieces : int
        The op's `pieces`; where it is 1 the op needs no `partial`.
    elements : int
        Of `partial`, for each piece.
    """
    cdef int64_t[GROUPS + 1] dim
    read_geometry(dim, geometry)
    return pieces_for(dim), partial_elements(dim)


def packed_elements(*, int kind, **geometry):
    """Elements of packed weights, enough for any ISA and batch.

    Parameters
    ----------
    kind : int
        0 for conv2d, 1 for conv2d_input_grad.
    **geometry : int
        The sizes that GEOMETRY names; n makes no difference.
    """
    cdef fnn_op op
    cdef layer t
    cdef int64_t width
    memset(&op, 0, sizeof(op))
    read_geometry(op.dim, {**geometry, "n": 1})
    op.dim[N] = MANY_IMAGES
    t = layer_of(&op, kind == 1)
    width = ceil_div(t.width, WIDEST) * WIDEST
    if method_of_pass(op.dim, &t, True) == WINOGRAD:  # it takes more room than panels
        # A line of a cache lies between points, of narrow panels at worst.
        return CONV_POINTS * width * (t.depth + 2 * ceil_div(t.depth, CONV_POINTS_DEPTH))
    return t.groups * t.taps * t.summed * width
