"""2-D convolution over channels-last images, its gradients, and sums of weight gradients.

Images are (N, H, W, C), weights (groups, KH, KW, IC / groups, OC / groups), outputs (N, OH, OW, OC).
G stands for n, ih, iw, ic, oh, ow, oc, kh, kw, stride_h, stride_w, pad_top, pad_left, dilation_h,
dilation_w, groups; padding at the bottom and right follows from oh and ow. 1-D: ih = kh = 1.

Native ops
----------
conv2d                  buf: y, x, w, bias | NULL, residual | NULL, packed | NULL, scale | NULL
                        dim: G, act, kept   scalar: alpha
conv2d_input_grad       buf: dx, dy, w, saved | NULL, packed | NULL
                        dim: G, act_grad, kept   scalar: alpha
conv2d_weight_grad      buf: dw, dbias | NULL, x, dy, partial | NULL
                        dim: G, beta, pieces
conv2d_weight_grad_sum  buf: dw, dbias | NULL, partial
                        dim: elements of dw, oc, pieces, beta
conv2d_pack             buf: packed, w, scale | NULL   dim: G, kind, kept

y = act(conv(x, w * scale) + bias + residual), scale being (OC,); dx = conv^T(dy, w), times
act_grad'(saved). act and act_grad are indices into fastnn_ext.activation.ACTIVATIONS, or -1. Outputs
must not overlap inputs.

`packed` holds w * scale as the kernels read it, so that chunks do not each copy what they need:
conv2d_pack writes it, kind 0 for conv2d and 1 for conv2d_input_grad, packed_elements says its size.
A chunk whose sums are so long that it would last too long is made in several rounds, each of which adds some taps,
or some input channels of a tap, or some outputs to what the ones before have left.

With few pixels chunks share no weights: then conv2d_pack does nothing, and packed is not read; unless
`kept` is 1, which says that packed weights are made once and read in many runs.

Where outputs read zeros outside the image, those terms are mostly left out of their sums.

With 3 x 3 taps, stride and dilation 1 and channels enough, both passes make their outputs, if weights
are packed and corners have 4 taps inside, in squares of 2 x 2 by Winograd's products (simd/winograd.h):
16 for 36; and the gradient for the weights is their transpose. Small integers come out exactly; an
output's rounding error is that of its whole square (over random data two thirds of the direct sum's, as
fewer products are added one after another). Where a result is not finite, its square, or the chunk of a
gradient for the weights, is made again by the direct sum: infinities and NaN reach what the sum says, and
numbers so large that only their transforms overflow do no harm.

The sum over N * OH * OW that makes dw is cut into `pieces` by shape (weight_grad_pieces says how
many). With one piece the op writes dw and dbias, or adds to them if beta is 1; with more it writes
each piece's dw, then dbias, into its slice of `partial`, ignores beta, and conv2d_weight_grad_sum
combines them.
"""
from libc.stdint cimport int64_t
from libc.string cimport memset

from fastnn_ext cimport runtime
from fastnn_ext.activation cimport backward_kernel, forward_kernel
from fastnn_ext.arrays cimport check, check_apart, check_real, data
from fastnn_ext.runtime cimport FNN_MOST_NS, fnn_op, short_parts

import numpy as np

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
        void (*sum)(void *out, const void *parts, int64_t n, int64_t count, int64_t stride,
                    int64_t accumulate) noexcept nogil
    const conv2d_kernels *conv2d_table(int isa, int dtype)


# Places in fnn_op.dim. Those from ROWS on are set by prepare.
cdef enum:
    N, IH, IW, IC, OH, OW, OC, KH, KW, SH, SW, PT, PL, DH, DW, GROUPS
    ACT
    BETA = 16
    KIND = 16
    PIECES = 17
    KEPT = 17
    ROWS    # of outputs a chunk
    COLS    # of outputs a chunk
    PANELS  # of channels a chunk
    DEPTHS  # parts into which a weight gradient's input channels are cut
    INNER   # whether chunks that follow each other share outputs rather than weights
    UNITS   # panels that a chunk of conv2d_pack copies
    WORK    # bytes of scratch before the panel that a chunk packs for itself; of which squares are not finite
    SQUARES # of 2 x 2 outputs a chunk, where they are made by Winograd's products
    # Slices of a sum: rows and columns of taps, and input channels. A pass makes them in a round each; the chunks of a
    # gradient for the weights have some taps each, and its rounds some rows and columns of outputs.
    DOWN
    ACROSS
    DEEP
    SUM_ROWS
    SUM_COLS
    PACK_PARTS  # that conv2d_pack cuts a panel into, a chunk each

# A chunk's aim in nanoseconds; a long pass is cut into MIN_CHUNKS longer ones, up to LONG_NS: the more
# channels and rows a chunk has, the less often its patch is copied and its weights are read. One that takes more than
# MOST_NS has fewer pixels than are worth a panel.
cdef enum: CHUNK_NS = 25000, LONG_NS = 200000, MOST_NS = 1000000, MIN_CHUNKS = 24
# Pixels for which a panel is worth reading; and worth packing.
cdef enum: FEW_PIXELS = 96, PACK_PIXELS = 128, MANY_PIXELS = 1024
# Up to so many pixels in all, chunks pack the panels that they read; but not of longer sums than this.
cdef enum: OWN_PIXELS = 256, OWN_TERMS = 1 << 16
# Winograd's products: a chunk holds so many bytes of transformed inputs, and of sums, and has so many panels if there
# are many: it transforms its inputs for them. A chunk of packing has some panels of a block of depth.
cdef enum: WINOGRAD_BYTES = 208 << 10, WINOGRAD_PANELS = 4, WINOGRAD_UNITS = 4
# Sums over more channels are too long for a chunk of them to be short.
cdef enum: WINOGRAD_CHANNELS = 2048
# What transforming costs, in multiply-adds: for a square and channel, in or out; and for a channel in and out. Weights
# that are kept are not transformed, but are more to read.
cdef enum: SQUARE_COST = 230, WEIGHT_COST = 180, KEPT_COST = 60
# Channels of outputs of a chunk of a gradient for the weights.
cdef enum: GRAD_CHANNELS = 64
# A zero-padded copy holds at most so many elements, or as many as there would be pointers instead.
cdef enum: PATCH_ELEMENTS = 1 << 16
# Outputs that a weight gradient sums in registers before it adds them to memory.
cdef enum: BLOCK_OUTPUTS = 256
# A weight gradient is cut into at most so many chunks on account of its time alone, and into pieces
# whose copies of dw together hold at most so many elements.
cdef enum: WEIGHT_CHUNKS = 32, PARTIAL_ELEMENTS = 1 << 20
cdef enum: SUM_CHUNK = 4096
# Elements of a panel that a chunk of packing copies, at most.
cdef enum: PACK_CHUNK = 1 << 17
# Panels are at most so wide, on any ISA.
cdef enum: WIDEST = 32

# A panel of more bytes comes from memory, one line after another.
cdef enum: FAR_BYTES = 1 << 20
# Nanoseconds: a float32 of a panel that is read, or that a chunk packs for itself, where no memory is waited for;
# a tap's pointer; an element of dw that a block of outputs is added to; a float32 that a block reads, copied.
cdef double WEIGHT_NS = 0.15, OWN_NS = 0.4, TAP_NS = 1.0, ADD_NS = 0.3, COPY_NS = 0.3

LARGEST_SIZE = 2**31 - 1  # sums and products of a few fit 64 bits
LARGEST = 2**46           # elements

cdef int RELU = ACTIVATIONS.index("relu")


cdef inline int64_t ceil_div(int64_t a, int64_t b) noexcept nogil:
    return (a + b - 1) // b


cdef inline int64_t clamp(int64_t x, int64_t low, int64_t high) noexcept nogil:
    return max(low, min(x, high))


cdef inline void *at(const fnn_op *op, int k, int64_t element) noexcept nogil:
    return NULL if op.buf[k] == NULL else <char *> op.buf[k] + element * (4 if op.dtype == 0 else 8)


cdef inline bint is_depthwise(const int64_t *dim) noexcept nogil:
    return dim[GROUPS] == dim[IC] and dim[GROUPS] == dim[OC] and dim[GROUPS] > 1


# ---- one direction of a pass, and one phase of it --------------------------------------------

cdef struct axis:
    # One direction (rows or columns) of one phase: output r (the phase's r-th) is output
    # r * spacing + phase of the pass; its tap i, in the order of packed weights, is tap
    # tap0 + i * tap_step of the kernel and reads source r * stride + i * step + origin.
    # `before` taps of other phases precede its own in packed weights.
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


cdef axis gradient_axis(int64_t phase, int64_t outputs, int64_t kernel, int64_t stride, int64_t pad,
                        int64_t dilation) noexcept nogil:
    """Inputs ih = phase, phase + stride, ...: those taps k of the kernel with ih + pad - k * dilation a
    multiple of the stride reach them, from the output at that multiple."""
    cdef axis a
    cdef int64_t inverse, g = gcd(dilation, stride, &inverse), period = stride // g
    cdef int64_t k = (phase + pad) // g % period * inverse % period
    cdef bint reached = (phase + pad) % g == 0 and k < kernel
    a.outputs = ceil_div(outputs - phase, stride) if phase < outputs else 0
    a.spacing = stride
    a.taps = ceil_div(kernel - k, period) if reached else 0
    a.tap0 = k + (a.taps - 1) * period
    a.tap_step = -period
    a.stride = 1
    a.step = dilation // g
    a.origin = (phase + pad - k * dilation) // stride - (a.taps - 1) * a.step
    # Of the residues that taps have, those of the first taps come first.
    a.before = k * (kernel // period) + min(k, kernel % period) if reached else 0
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


cdef struct phase:
    axis h, w
    int64_t start    # offset of its first output
    int64_t before   # taps of other phases that precede its own in packed weights


cdef struct layer:
    # What a pass reads (depth channels of a group's pixel) and writes (width channels).
    bint grad, depthwise, winograd
    int64_t source_h, source_w, source_c, depth
    int64_t out_h, out_w, out_c, width
    int64_t groups, taps, phases_h, phases_w
    int64_t panels, lanes


cdef layer layer_of(const fnn_op *op, bint grad, bint packed) noexcept nogil:
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
    t.width = t.out_c // t.groups
    t.taps = dim[KH] * dim[KW]
    t.phases_h = min(dim[SH], dim[IH]) if grad else 1  # those that have outputs
    t.phases_w = min(dim[SW], dim[IW]) if grad else 1
    t.lanes = conv2d_table(op.isa, op.dtype).lanes
    t.panels = ceil_div(t.width, 2 * t.lanes)
    t.winograd = packed and suits_winograd(dim, &t)
    return t


cdef inline bint is_plain_3x3(const int64_t *dim) noexcept nogil:
    return (dim[KH] == dim[KW] == 3 and dim[SH] == dim[SW] == 1 and dim[DH] == dim[DW] == 1 and dim[GROUPS] == 1)


cdef bint suits_winograd(const int64_t *dim, const layer *t) noexcept nogil:
    """Whether Winograd's products are fewer, what they cost besides counted in products, too: adding and moving a
    square's inputs and outputs, and the weights. An output at a corner must have 4 taps inside: rounding errors are
    those of its whole square, and would be large beside a sum over fewer."""
    cdef double products = <double> t.depth * t.width, squares = <double> squares_of(dim, t)
    cdef int64_t top = dim[PT] - 2 if t.grad else -dim[PT], left = dim[PL] - 2 if t.grad else -dim[PL]
    if (min(top, left) < -1 or t.out_h + 1 + top > t.source_h or t.out_w + 1 + left > t.source_w
            or t.depth > WINOGRAD_CHANNELS):
        return False
    return is_plain_3x3(dim) and 9 * products * dim[N] * t.out_h * t.out_w > (
        squares * (CONV_POINTS * products + SQUARE_COST * (t.depth + t.width))
        + (KEPT_COST if dim[KEPT] else WEIGHT_COST) * products)


cdef bint grad_suits_winograd(const int64_t *dim, const layer *t) noexcept nogil:
    """The same for the gradient for the weights, whose chunks transform what they read for a block of channels. Where
    it pays each piece has squares, as WEIGHT_COST is that of several."""
    cdef double products = <double> t.depth * t.width, squares = <double> squares_of(dim, t)
    cdef double moved = ceil_div(t.width, GRAD_CHANNELS) * t.depth + ceil_div(t.depth, CONV_POINTS_DEPTH) * t.width
    return is_plain_3x3(dim) and 9 * products * dim[N] * t.out_h * t.out_w > (
        squares * (CONV_POINTS * products + SQUARE_COST * moved) + WEIGHT_COST * products * dim[PIECES])


cdef inline int64_t squares_of(const int64_t *dim, const layer *t) noexcept nogil:
    return dim[N] * ceil_div(t.out_h, 2) * ceil_div(t.out_w, 2)


cdef phase phase_of(const int64_t *dim, const layer *t, int64_t i, int64_t j) noexcept nogil:
    cdef phase p
    if not t.grad:
        p.h = forward_axis(dim[OH], dim[KH], dim[SH], dim[PT], dim[DH])
        p.w = forward_axis(dim[OW], dim[KW], dim[SW], dim[PL], dim[DW])
        p.start = 0
        p.before = 0
        return p
    p.h = gradient_axis(i, dim[IH], dim[KH], dim[SH], dim[PT], dim[DH])
    p.w = gradient_axis(j, dim[IW], dim[KW], dim[SW], dim[PL], dim[DW])
    p.start = (i * t.out_w + j) * t.out_c
    p.before = p.h.before * dim[KW] + p.h.taps * p.w.before
    return p


cdef void view_of(conv2d_view *v, const layer *t, const phase *p) noexcept nogil:
    v.x = NULL
    v.h = t.source_h
    v.w = t.source_w
    v.pixel = t.source_c
    v.depth = t.depth
    v.taps_h = p.h.taps
    v.taps_w = p.w.taps
    v.step_h = p.h.step
    v.step_w = p.w.step
    v.stride_h = p.h.stride
    v.stride_w = p.w.stride
    v.top = p.h.origin
    v.left = p.w.origin


cdef inline bint stays_inside(const axis *a, int64_t size) noexcept nogil:
    return a.origin >= 0 and (a.outputs - 1) * a.stride + (a.taps - 1) * a.step + a.origin < size


cdef int64_t mode_of(const layer *t, const phase *p, int64_t rows, int64_t cols, int64_t panels,
                     bint inside) noexcept nogil:
    """How the taps of a phase find their pixels, for chunks of (rows, cols, panels), `inside` if all may lie in the
    image; figures in cycles, roughly."""
    cdef int64_t taps = p.h.taps * p.w.taps
    cdef int64_t patch = ((rows - 1) * p.h.stride + (p.h.taps - 1) * p.h.step + 1) * (
        (cols - 1) * p.w.stride + (p.w.taps - 1) * p.w.step + 1) * t.depth
    if taps == 0:
        return CONV_POINTERS
    if inside and stays_inside(&p.h, t.source_h) and stays_inside(&p.w, t.source_w):
        return CONV_DIRECT
    if (t.depthwise or patch > max(<int64_t> PATCH_ELEMENTS, taps * rows * cols)
            or patch // 4 > taps * rows * cols * (1 + panels)):
        return CONV_POINTERS
    return CONV_COPY


cdef inline int64_t few_pixels(const conv2d_kernels *kernels, const layer *t) noexcept nogil:
    """Less than two thirds of a tile."""
    return (kernels.narrow_pixels if t.width <= t.lanes else kernels.pixels) * 2 // 3


# ---- packed weights ---------------------------------------------------------------------------

cdef inline int64_t panel_width(const layer *t, int64_t panel) noexcept nogil:
    return 2 * t.lanes if t.width - panel * 2 * t.lanes > t.lanes else t.lanes


cdef inline int64_t packed_at(const layer *t, int64_t group, int64_t panel) noexcept nogil:
    """Where a panel of all taps begins in packed weights, in elements."""
    cdef int64_t last = t.panels - 1
    cdef int64_t width = last * 2 * t.lanes + panel_width(t, last)
    return (group * width + panel * 2 * t.lanes) * t.taps * (1 if t.depthwise else t.depth)


cdef inline int64_t squares_fit(const fnn_op *op, const layer *t) noexcept nogil:
    """Squares of a chunk whose transformed inputs stay in cache, in whole register tiles."""
    cdef int64_t tile = conv2d_table(op.isa, op.dtype).pixels
    return max(tile, WINOGRAD_BYTES // (
        CONV_POINTS * min(t.depth, CONV_POINTS_DEPTH) * (4 if op.dtype == 0 else 8)) // tile * tile)


cdef bint packs_itself(const int64_t *dim, const layer *t) noexcept nogil:
    """Whether chunks read the weights as they are, and copy what they need."""
    if t.winograd or dim[KEPT] or t.taps * (1 if t.depthwise else t.depth) > OWN_TERMS:
        return False
    return dim[N] * ceil_div(t.out_h, t.phases_h) * ceil_div(t.out_w, t.phases_w) <= OWN_PIXELS


cdef void pack_job(conv2d_pack_job *job, const fnn_op *op, const layer *t, const phase *p, int64_t group, const void *w,
                   const void *scale, int64_t *order) noexcept nogil:
    """What the panels of a phase of a group are made of."""
    cdef int64_t i, j, size = 4 if op.dtype == 0 else 8
    cdef int64_t icg = op.dim[IC] // op.dim[GROUPS], ocg = op.dim[OC] // op.dim[GROUPS]
    for i in range(p.h.taps):
        for j in range(p.w.taps):
            order[i * p.w.taps + j] = (p.h.tap0 + i * p.h.tap_step) * op.dim[KW] + p.w.tap0 + j * p.w.tap_step
    job.w = <const char *> w + group * t.taps * icg * ocg * size
    job.scale = scale
    if scale != NULL:
        job.scale = <const char *> scale + group * t.width * size
    job.order = order
    job.taps = p.h.taps * p.w.taps
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
    cdef layer t = layer_of(op, op.dim[KIND] == 1, True)
    cdef int64_t elements = t.taps * (1 if t.depthwise else t.depth) * 2 * t.lanes
    op.kernels = kernels
    op.scratch = t.taps * sizeof(int64_t)
    op.cost = (0.3 if elements <= PACK_CHUNK else 3 * OWN_NS) * t.groups * t.panels * elements
    if packs_itself(op.dim, &t):
        op.chunks = 0
    elif t.winograd:
        op.dim[UNITS] = WINOGRAD_UNITS
        op.scratch += kernels.winograd_pack_bytes
        op.chunks = ceil_div(t.panels, op.dim[UNITS]) * ceil_div(t.depth, kernels.winograd_depth(t.depth))
    else:
        op.dim[UNITS] = max(<int64_t> 1, 16384 // max(<int64_t> 1, elements))
        op.dim[PACK_PARTS] = ceil_div(elements, PACK_CHUNK)
        op.chunks = ceil_div(t.groups * t.panels, op.dim[UNITS]) * op.dim[PACK_PARTS]


cdef struct residues:
    # Of the taps of a gradient along an axis: those k, k + period, ... have residue k, and are those of one phase. `least`
    # of them have each, and the first `more` residues one more.
    int64_t stride, pad, spread, g, period, least, more


cdef residues residues_of(int64_t kernel, int64_t stride, int64_t pad, int64_t dilation) noexcept nogil:
    cdef residues r
    cdef int64_t inverse
    r.g = gcd(dilation, stride, &inverse)
    r.stride = stride
    r.pad = pad
    r.spread = dilation // r.g
    r.period = stride // r.g
    r.least = kernel // r.period
    r.more = kernel % r.period
    return r


cdef inline int64_t residue_at(const residues *r, int64_t tap) noexcept nogil:
    """The residue of a tap's place in packed weights."""
    if tap < r.more * (r.least + 1):
        return tap // (r.least + 1)
    return r.more + (tap - r.more * (r.least + 1)) // r.least


cdef inline int64_t taps_before(const residues *r, int64_t residue) noexcept nogil:
    return residue * r.least + min(residue, r.more)


cdef inline int64_t phase_with(const residues *r, int64_t residue) noexcept nogil:
    return ((residue * r.spread % r.period * r.g - r.pad) % r.stride + r.stride) % r.stride


cdef int run_pack(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef layer t = layer_of(op, op.dim[KIND] == 1, True)
    cdef int64_t unit, parts, part, rows = t.taps * (1 if t.depthwise else t.depth)
    if t.winograd:
        pack_points(op, &t, chunk, scratch)
        return 0
    parts = op.dim[PACK_PARTS]
    part = chunk % parts
    chunk = chunk // parts
    for unit in range(chunk * op.dim[UNITS], min((chunk + 1) * op.dim[UNITS], t.groups * t.panels)):
        pack_panel(op, &t, unit // t.panels, unit % t.panels, rows * part // parts, rows * (part + 1) // parts, scratch)
    return 0


cdef void pack_panel(const fnn_op *op, const layer *t, int64_t group, int64_t panel, int64_t begin, int64_t end,
                     void *scratch) noexcept nogil:
    """Rows [begin, end) of a panel: those of the taps of a phase after those of another."""
    cdef const int64_t *dim = &op.dim[0]
    cdef int64_t k = 1 if t.depthwise else t.depth, place = packed_at(t, group, panel), width = panel_width(t, panel)
    cdef int64_t first = panel * 2 * t.lanes, n = min(t.width - first, 2 * t.lanes), i, j, row, left, from_
    cdef residues h, w
    cdef phase p
    cdef conv2d_pack_job job
    if not t.grad:
        p = phase_of(dim, t, 0, 0)
        pack_job(&job, op, t, &p, group, op.buf[1], op.buf[2], <int64_t *> scratch)
        (<const conv2d_kernels *> op.kernels).pack(at(op, 0, place + begin * width), &job, begin, end - begin, first, n)
        return
    h = residues_of(dim[KH], dim[SH], dim[PT], dim[DH])
    w = residues_of(dim[KW], dim[SW], dim[PL], dim[DW])
    for i in range(residue_at(&h, begin // k // dim[KW]), min(h.period, dim[KH])):
        row = taps_before(&h, i) * dim[KW]
        if row * k >= end:
            break
        if phase_with(&h, i) >= t.phases_h:
            continue
        left = taps_before(&h, i + 1) - taps_before(&h, i)  # rows of taps
        for j in range(residue_at(&w, max(<int64_t> 0, begin // k - row) // left), min(w.period, dim[KW])):
            if (row + left * taps_before(&w, j)) * k >= end:
                break
            if phase_with(&w, j) >= t.phases_w:
                continue
            p = phase_of(dim, t, phase_with(&h, i), phase_with(&w, j))
            pack_job(&job, op, t, &p, group, op.buf[1], op.buf[2], <int64_t *> scratch)
            from_ = max(begin, p.before * k)
            (<const conv2d_kernels *> op.kernels).pack(
                at(op, 0, place + from_ * width), &job, from_ - p.before * k, min(end, (p.before + job.taps) * k) - from_,
                first, n)


cdef void pack_points(const fnn_op *op, const layer *t, int64_t chunk, void *scratch) noexcept nogil:
    """Some panels of a block of rows."""
    cdef const conv2d_kernels *kernels = <const conv2d_kernels *> op.kernels
    cdef int64_t parts = ceil_div(t.panels, op.dim[UNITS]), block = chunk // parts
    cdef int64_t each = kernels.winograd_depth(t.depth)
    cdef int64_t rows = min(each, t.depth - block * each), first = chunk % parts * op.dim[UNITS] * 2 * t.lanes
    cdef phase p = phase_of(op.dim, t, 0, 0)
    cdef conv2d_pack_job job
    pack_job(&job, op, t, &p, 0, op.buf[1], op.buf[2], <int64_t *> (<char *> scratch + kernels.winograd_pack_bytes))
    kernels.winograd_pack(
        at(op, 0, block * kernels.winograd_elements(each, t.width) + kernels.winograd_elements(rows, first)), &job,
        block * each, rows, first, min(t.width - first, op.dim[UNITS] * 2 * t.lanes), scratch)


# ---- forward, and the gradient for the input --------------------------------------------------

cdef void prepare_pass(fnn_op *op, bint grad, bint packed) noexcept nogil:
    cdef const conv2d_kernels *kernels = conv2d_table(op.isa, op.dtype)
    cdef layer t = layer_of(op, grad, packed)
    packed = packed and not packs_itself(op.dim, &t)
    op.dim[DOWN] = op.dim[ACROSS] = op.dim[DEEP] = 1
    if t.winograd:
        prepare_winograd(op, &t)
        return
    cdef conv2d_job job
    cdef phase p
    cdef int64_t *dim = op.dim
    cdef int64_t rows, cols, pixels, least, i, j
    cdef int64_t size = 4 if op.dtype == 0 else 8
    cdef int64_t width = (t.panels - 1) * 2 * t.lanes + panel_width(&t, t.panels - 1)
    cdef int64_t k = t.taps * (1 if t.depthwise else t.depth)
    cdef double pixel_ns, terms, budget, chunk
    cdef int64_t down = most_taps(dim[KH], dim[SH], dim[DH]) if grad else dim[KH]
    cdef int64_t across = most_taps(dim[KW], dim[SW], dim[DW]) if grad else dim[KW]
    op.kernels = kernels
    op.chunks = 0
    op.scratch = 0
    # Of a phase, on average: the taps are shared out among the phases, of which those without outputs are left out.
    rows = dim[N] * ceil_div(t.out_h, t.phases_h)
    cols = ceil_div(t.out_w, t.phases_w)
    terms = <double> k / (t.phases_h * t.phases_w)
    if grad and (t.phases_h < dim[SH] or t.phases_w < dim[SW]):
        terms = ceil_div(dim[KH], dim[SH]) * ceil_div(dim[KW], dim[SW]) * <double> (1 if t.depthwise else t.depth)
    pixel_ns = (terms + 4) * 2 * t.lanes / (
        kernels.rate * (0.3 if t.depthwise else 1.0))
    op.cost = pixel_ns * t.panels * t.groups * rows * cols * t.phases_h * t.phases_w
    if op.cost <= 0:
        return
    budget = max(clamp(<int64_t> (op.cost / 8), 5000, CHUNK_NS), min(op.cost / MIN_CHUNKS, <double> LONG_NS))
    if packed:
        least = clamp(<int64_t> (MOST_NS / pixel_ns), 1, FEW_PIXELS)
    else:  # packing takes as long as some 20 pixels
        least = clamp(<int64_t> (8 * MOST_NS / pixel_ns), PACK_PIXELS // 4, PACK_PIXELS)
    least = min(least, rows * cols)
    dim[PANELS] = clamp(<int64_t> (budget / (pixel_ns * least)), 1, t.panels)
    dim[PANELS] = ceil_div(t.panels, ceil_div(t.panels, dim[PANELS]))
    pixels = clamp(<int64_t> (budget / (pixel_ns * dim[PANELS])), least, MANY_PIXELS)
    if cols > pixels:
        dim[ROWS] = 1
        dim[COLS] = ceil_div(cols, ceil_div(cols, pixels))
    else:
        dim[COLS] = cols
        dim[ROWS] = ceil_div(rows, ceil_div(rows, pixels // cols))
    pixels = dim[ROWS] * dim[COLS]
    dim[INNER] = pixels * t.depth > k * 2 * t.lanes * dim[PANELS]
    op.chunks = t.groups * ceil_div(t.panels, dim[PANELS]) * (
        blocks_of(t.out_h, t.phases_h, dim[N], dim[ROWS]) * blocks_of(t.out_w, t.phases_w, 1, dim[COLS]))
    # What a chunk takes, of the phase that has most taps: its products, reading its weights and finding its pixels.
    terms = <double> down * across * (1 if t.depthwise else t.depth)
    chunk = (WEIGHT_NS if packed else OWN_NS) * (1 if op.dtype == 0 else 2)
    if terms * 2 * t.lanes * size > FAR_BYTES:
        chunk *= 3
    chunk = (terms + 4) * pixels / (kernels.rate * (0.3 if t.depthwise else 1.0)) + terms * chunk
    chunk = chunk * dim[PANELS] * 2 * t.lanes + TAP_NS * down * across * pixels
    slice_sums(op, short_parts(chunk), down, across, 1 if t.depthwise else t.depth)
    op.rounds = dim[DOWN] * dim[ACROSS] * dim[DEEP]
    if chunk > CHUNK_NS:
        op.cost = max(op.cost, chunk * op.chunks)
    for i in range(t.phases_h):
        for j in range(t.phases_w):
            p = phase_of(dim, &t, i, j)
            op.scratch = max(op.scratch, gather_bytes(op, &t, &p))
    dim[WORK] = op.scratch
    if not packed:
        op.scratch += ceil_div(t.taps * 8, 64) * 64 + kernels.room * size


cdef int64_t most_taps(int64_t kernel, int64_t stride, int64_t dilation) noexcept nogil:
    """Of any phase of a gradient, along an axis."""
    cdef int64_t inverse
    return ceil_div(kernel, stride // gcd(dilation, stride, &inverse))


cdef void slice_sums(fnn_op *op, int64_t parts, int64_t down, int64_t across, int64_t depth) noexcept nogil:
    """Cut sums into so many parts: rows of taps; single taps, if those are too few; some channels of a tap."""
    op.dim[DOWN] = min(parts, down)
    op.dim[ACROSS] = min(ceil_div(parts, op.dim[DOWN]), across)
    op.dim[DEEP] = min(ceil_div(parts, op.dim[DOWN] * op.dim[ACROSS]), depth)


cdef struct slice_of_sum:
    int64_t at           # rows of the phase's packed weights before it; -1 if there is no such slice
    int64_t depth0       # its first input channel
    bint resumes, goes_on


cdef slice_of_sum take_slice(const fnn_op *op, layer *t, phase *p, int64_t round) noexcept nogil:
    """Leaves in t and p what a round adds up of a phase, which may have less taps than there are slices."""
    cdef int64_t down = min(op.dim[DOWN], p.h.taps), across = min(op.dim[ACROSS], p.w.taps), deep = op.dim[DEEP]
    cdef int64_t i = round // (deep * op.dim[ACROSS]), j = round // deep % op.dim[ACROSS], d = round % deep
    cdef int64_t row = p.h.taps * i // down, col = p.w.taps * j // across, taps_w = p.w.taps, depth = t.depth
    cdef slice_of_sum s
    s.at = -1
    if i >= down or j >= across:
        return s
    s.resumes = round > 0
    s.goes_on = i < down - 1 or j < across - 1 or d < deep - 1
    s.depth0 = depth * d // deep
    s.at = (row * taps_w + col) * (1 if t.depthwise else depth) + s.depth0
    take_taps(&p.h, row, p.h.taps * (i + 1) // down)
    take_taps(&p.w, col, taps_w * (j + 1) // across)
    t.depth = depth * (d + 1) // deep - s.depth0
    return s


cdef inline void take_taps(axis *a, int64_t begin, int64_t end) noexcept nogil:
    a.tap0 += begin * a.tap_step
    a.origin += begin * a.step
    a.taps = end - begin


cdef int64_t gather_bytes(const fnn_op *op, const layer *t, const phase *p) noexcept nogil:
    """What gathering any slice of a phase takes: of the largest, or the smallest, which may be copied sooner."""
    cdef conv2d_job job
    cdef layer s = t[0]
    cdef phase q = p[0]
    cdef int64_t bytes = 0, less
    cdef int64_t down = max(<int64_t> 1, min(op.dim[DOWN], p.h.taps)), across = max(<int64_t> 1, min(op.dim[ACROSS], p.w.taps))
    for less in range(2):
        q.h.taps = p.h.taps // down if less else ceil_div(p.h.taps, down)
        q.w.taps = p.w.taps // across if less else ceil_div(p.w.taps, across)
        s.depth = ceil_div(t.depth, op.dim[DEEP])
        view_of(&job.view, &s, &q)
        job.oh = q.h.outputs
        job.row0 = job.col0 = 0
        job.row1 = op.dim[ROWS]
        job.col1 = op.dim[COLS]
        job.mode = mode_of(&s, &q, op.dim[ROWS], op.dim[COLS], op.dim[PANELS], op.rounds == 1)
        job.few = few_pixels(<const conv2d_kernels *> op.kernels, t)
        bytes = max(bytes, (<const conv2d_kernels *> op.kernels).gather_bytes(&job))
    return bytes


cdef void prepare_winograd(fnn_op *op, const layer *t) noexcept nogil:
    cdef const conv2d_kernels *kernels = conv2d_table(op.isa, op.dtype)
    cdef int64_t squares = squares_of(op.dim, t), blocks, least, parts, wanted
    op.kernels = kernels
    # The products, and adding and moving what goes in and comes out.
    op.cost = CONV_POINTS * (t.depth + 4.0) * t.panels * 2 * t.lanes + <double> SQUARE_COST * (t.depth + t.width)
    op.cost *= squares / kernels.rate
    wanted = max(clamp(<int64_t> (op.cost / 5000), 1, 8), clamp(<int64_t> (op.cost / (LONG_NS / 2)), 1, MIN_CHUNKS))
    # Cut the squares so that they fit, the panels where that is cheap, and both further if chunks are still too few.
    least = ceil_div(squares, squares_fit(op, t))
    parts = clamp(ceil_div(wanted, least), 1, max(<int64_t> 1, t.panels // WINOGRAD_PANELS))
    blocks = clamp(ceil_div(wanted, parts), least, max(least, squares // (2 * kernels.pixels)))
    parts = clamp(ceil_div(wanted, blocks), parts, max(parts, t.panels // 2))
    op.dim[SQUARES] = ceil_div(squares, blocks)
    if blocks == least > 1:
        op.dim[SQUARES] = ceil_div(op.dim[SQUARES], kernels.pixels) * kernels.pixels
    op.dim[PANELS] = min(ceil_div(t.panels, parts), max(<int64_t> 1, WINOGRAD_BYTES // (
        CONV_POINTS * op.dim[SQUARES] * 2 * t.lanes * (4 if op.dtype == 0 else 8))))
    # Deep sums: fewer squares and panels.
    parts = short_parts(winograd_ns(op, t))
    if parts > 1 and op.dim[SQUARES] > kernels.pixels:
        op.dim[SQUARES] = max(<int64_t> 1, op.dim[SQUARES] // parts // kernels.pixels) * kernels.pixels
    op.dim[PANELS] = ceil_div(op.dim[PANELS], short_parts(winograd_ns(op, t)))
    op.chunks = ceil_div(squares, op.dim[SQUARES]) * ceil_div(t.panels, op.dim[PANELS])
    op.dim[WORK] = ceil_div(op.dim[PANELS] * op.dim[SQUARES], 64) * 64
    op.scratch = op.dim[WORK] + max(
        kernels.winograd_bytes(t.depth, op.dim[SQUARES], op.dim[PANELS] * 2 * t.lanes),
        direct_bytes(op, t) + kernels.room * (4 if op.dtype == 0 else 8))


cdef double winograd_ns(const fnn_op *op, const layer *t) noexcept nogil:
    """What a chunk takes."""
    cdef double channels = op.dim[PANELS] * 2 * t.lanes
    return op.dim[SQUARES] * (CONV_POINTS * (t.depth + 4.0) * channels + SQUARE_COST * (t.depth + channels)) / (
        (<const conv2d_kernels *> op.kernels).rate)


cdef int64_t direct_bytes(const fnn_op *op, const layer *t) noexcept nogil:
    """What gathering any of a chunk's squares takes, but the room for weights: of rows and columns that make as many
    pixels, those of one column take most."""
    cdef phase p = phase_of(op.dim, t, 0, 0)
    cdef conv2d_job job
    view_of(&job.view, t, &p)
    job.oh = t.out_h
    job.row0 = job.col0 = 0
    job.row1 = 4 * op.dim[SQUARES]
    job.col1 = 1
    job.mode = CONV_POINTERS
    job.few = 1
    return ceil_div((<const conv2d_kernels *> op.kernels).gather_bytes(&job) + 128, 64) * 64


cdef void finish_pixels(const fnn_op *op, const layer *t, int64_t start, int64_t elements) noexcept nogil:
    """The activation, or its gradient, over outputs that are still in cache."""
    cdef void *y = at(op, 0, start)
    if t.grad:
        backward_kernel(<int> op.dim[ACT], op.isa, op.dtype)(y, y, at(op, 3, start), elements, op.scalar)
    else:
        forward_kernel(<int> op.dim[ACT], op.isa, op.dtype)(y, y, elements, op.scalar)


cdef void finish(const fnn_op *op, const layer *t, const conv2d_job *job, const phase *p, int64_t offset,
                 int64_t channels) noexcept nogil:
    cdef int64_t row, col, start, cols = job.col1 - job.col0
    if op.dim[ACT] < 0 or op.dim[ACT] == RELU:
        return
    if channels == t.out_c and p.w.spacing == 1:
        channels *= cols
        cols = 1
    for row in range(job.row0, job.row1):
        start = offset + row // job.oh * job.y_image + row % job.oh * job.y_row + job.col0 * job.y_pixel
        for col in range(cols):
            finish_pixels(op, t, start + col * job.y_pixel, channels)


cdef void finish_squares(const fnn_op *op, const layer *t, const conv2d_job *job, int64_t first,
                         int64_t channels) noexcept nogil:
    cdef int64_t across = ceil_div(t.out_w, 2), down = ceil_div(t.out_h, 2), square, row, col, start
    if op.dim[ACT] < 0 or op.dim[ACT] == RELU:
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


cdef void run_spoilt(const fnn_op *op, const layer *t, const phase *p, conv2d_job *job, int64_t first,
                     const unsigned char *spoilt, void *scratch, const void *scale) noexcept nogil:
    """Makes those squares of a panel of channels again whose outputs are not finite, by the direct sum. Neighbours are
    made together, whole rows of squares at best, as their weights are packed for them."""
    cdef const conv2d_kernels *kernels = <const conv2d_kernels *> op.kernels
    cdef int64_t across = ceil_div(t.out_w, 2), begin = job.square0, end
    cdef int64_t[9] order
    cdef void *weights = <char *> scratch + direct_bytes(op, t)
    cdef conv2d_pack_job pack
    pack_job(&pack, op, t, p, 0, op.buf[2], scale, order)
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
        if begin % across == 0 and end - begin >= across:
            end -= end % across
        else:
            end = min(end, (begin // across + 1) * across)
        job.row0 = row_of_squares(t, begin // across)
        job.row1 = row_of_squares(t, (end - 1) // across)
        job.row1 += min(<int64_t> 2, t.out_h - job.row1 % t.out_h)
        job.col0 = begin % across * 2
        job.col1 = min(((end - 1) % across + 1) * 2, t.out_w)
        kernels.gather(job, scratch)
        kernels.panel(job, weights, &pack, first, min(t.width - first, 2 * t.lanes))
        begin = end


cdef void run_winograd(const fnn_op *op, const layer *t, int64_t chunk, void *scratch, const void *packed,
                       const void *scale) noexcept nogil:
    cdef const conv2d_kernels *kernels = <const conv2d_kernels *> op.kernels
    cdef const int64_t *dim = &op.dim[0]
    cdef int64_t squares = squares_of(dim, t), blocks = ceil_div(squares, dim[SQUARES])
    cdef int64_t first = chunk // blocks * dim[PANELS]
    cdef int64_t channels = min(t.width, (first + dim[PANELS]) * 2 * t.lanes) - first * 2 * t.lanes, panel
    cdef phase p = phase_of(dim, t, 0, 0)
    cdef conv2d_job job
    view_of(&job.view, t, &p)
    job.view.x = op.buf[1]
    job.oh = t.out_h
    job.ow = t.out_w
    job.square0 = chunk % blocks * dim[SQUARES]
    job.square1 = min(job.square0 + dim[SQUARES], squares)
    outputs_of(op, t, &p, 0, &job)
    # The kernels' scratch lies behind the marks.
    if kernels.winograd(&job, packed, t.width, first * 2 * t.lanes, channels, <unsigned char *> scratch,
                        <char *> scratch + dim[WORK]) > 0:
        for panel in range(ceil_div(channels, 2 * t.lanes)):
            run_spoilt(op, t, &p, &job, (first + panel) * 2 * t.lanes,
                       <unsigned char *> scratch + panel * (job.square1 - job.square0), <char *> scratch + dim[WORK],
                       scale)
    finish_squares(op, t, &job, first * 2 * t.lanes, channels)


cdef void outputs_of(const fnn_op *op, const layer *t, const phase *p, int64_t group, conv2d_job *job) noexcept nogil:
    """What a pass writes, for a phase of a group, and what it does to it on the way."""
    cdef int64_t offset = p.start + group * t.width
    job.y = at(op, 0, offset)
    job.y_image = t.out_h * t.out_w * t.out_c
    job.y_row = p.h.spacing * t.out_w * t.out_c
    job.y_pixel = p.w.spacing * t.out_c
    job.bias = NULL if t.grad else at(op, 3, group * t.width)
    job.residual = NULL if t.grad else at(op, 4, offset)
    job.saved = at(op, 3, offset) if t.grad and op.dim[ACT] == RELU else NULL
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


cdef int64_t blocks_of(int64_t outputs, int64_t phases, int64_t images, int64_t block) noexcept nogil:
    """Blocks of rows (of columns, images being 1) of all phases together: the first ones have an output more."""
    cdef int64_t least = outputs // phases, more = outputs % phases
    return more * ceil_div(images * (least + 1), block) + (phases - more) * ceil_div(images * least, block)


cdef int64_t take_phase(int64_t *chunk, int64_t outputs, int64_t phases, int64_t images, int64_t block, int64_t each,
                        int64_t *blocks) noexcept nogil:
    """The phase that a chunk is of, where a block has `each` chunks; leaves the chunk's number in it and its blocks."""
    cdef int64_t least = outputs // phases, more = outputs % phases, phase
    blocks[0] = ceil_div(images * (least + 1), block)
    phase = chunk[0] // (blocks[0] * each)
    if phase < more:
        chunk[0] -= phase * blocks[0] * each
        return phase
    chunk[0] -= more * blocks[0] * each
    blocks[0] = ceil_div(images * least, block)
    phase = chunk[0] // (blocks[0] * each)
    chunk[0] -= phase * blocks[0] * each
    return more + phase


cdef int run_pass(const fnn_op *op, int64_t chunk, void *scratch, bint grad, const void *packed,
                  const void *scale) noexcept nogil:
    cdef const conv2d_kernels *kernels = <const conv2d_kernels *> op.kernels
    cdef layer t = layer_of(op, grad, packed != NULL)
    cdef const int64_t *dim = &op.dim[0]
    cdef int64_t size = 4 if op.dtype == 0 else 8
    cdef int64_t row_blocks = 0, col_blocks = 0, panel_blocks = ceil_div(t.panels, dim[PANELS]), each
    cdef int64_t i, j, group, block, part, panel, first, last, round = chunk // op.chunks
    cdef int64_t k = 1 if t.depthwise else t.depth
    cdef void *weights
    cdef conv2d_pack_job pack
    cdef conv2d_job job
    cdef slice_of_sum s
    cdef layer part_of = t  # with the channels of a slice
    cdef phase p = phase_of(dim, &t, 0, 0)
    if t.winograd:
        run_winograd(op, &t, chunk, scratch, packed, scale)
        return 0
    chunk = chunk % op.chunks
    each = t.groups * panel_blocks
    i = take_phase(&chunk, t.out_h, t.phases_h, dim[N], dim[ROWS], each * blocks_of(t.out_w, t.phases_w, 1, dim[COLS]), &row_blocks)
    each *= row_blocks
    j = take_phase(&chunk, t.out_w, t.phases_w, 1, dim[COLS], each, &col_blocks)
    p = phase_of(dim, &t, i, j)
    group = chunk // (row_blocks * col_blocks * panel_blocks)
    chunk = chunk % (row_blocks * col_blocks * panel_blocks)
    if dim[INNER]:
        block = chunk // panel_blocks
        part = chunk % panel_blocks
    else:
        block = chunk % (row_blocks * col_blocks)
        part = chunk // (row_blocks * col_blocks)

    job.oh = p.h.outputs
    job.row0 = block // col_blocks * dim[ROWS]
    job.row1 = min(job.row0 + dim[ROWS], dim[N] * p.h.outputs)
    job.col0 = block % col_blocks * dim[COLS]
    job.col1 = min(job.col0 + dim[COLS], p.w.outputs)
    outputs_of(op, &t, &p, group, &job)
    if p.h.taps * p.w.taps == 0:
        if round == 0:
            clear_pixels(&t, &job, part * dim[PANELS] * 2 * t.lanes, dim[PANELS] * 2 * t.lanes, size)
        return 0
    s = take_slice(op, &part_of, &p, round)
    if s.at < 0:
        return 0
    view_of(&job.view, &part_of, &p)
    job.view.x = at(op, 1, group * t.depth + s.depth0)
    job.mode = mode_of(&part_of, &p, dim[ROWS], dim[COLS], dim[PANELS], True)
    job.few = few_pixels(kernels, &t)
    job.depthwise = t.depthwise
    job.resumes = s.resumes
    job.goes_on = s.goes_on
    kernels.gather(&job, scratch)
    if packs_itself(dim, &t):
        packed = NULL
    if packed == NULL:
        pack_job(&pack, op, &t, &p, group, op.buf[2], scale, <int64_t *> (<char *> scratch + dim[WORK]))
        if not t.depthwise:
            pack.depth = part_of.depth
            pack.w = <const char *> pack.w + s.depth0 * pack.depth_stride * size
    weights = <char *> scratch + dim[WORK] + ceil_div(t.taps * 8, 64) * 64
    first = part * dim[PANELS]
    last = min(first + dim[PANELS], t.panels)
    for panel in range(first, last):
        if packed != NULL:
            weights = <char *> <void *> packed + (
                packed_at(&t, group, panel) + (p.before * k + s.at) * panel_width(&t, panel)) * size
        kernels.panel(&job, weights, &pack if packed == NULL else NULL, panel * 2 * t.lanes,
                      min(t.width - panel * 2 * t.lanes, 2 * t.lanes))
    if not s.goes_on:
        finish(op, &t, &job, &p, p.start + group * t.width + first * 2 * t.lanes,
               min(t.width, last * 2 * t.lanes) - first * 2 * t.lanes)
    return 0


cdef void prepare_forward(fnn_op *op) noexcept nogil:
    prepare_pass(op, False, op.buf[5] != NULL)


cdef int run_forward(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    return run_pass(op, chunk, scratch, False, op.buf[5], op.buf[6])


cdef void prepare_input_grad(fnn_op *op) noexcept nogil:
    prepare_pass(op, True, op.buf[4] != NULL)


cdef int run_input_grad(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    return run_pass(op, chunk, scratch, True, op.buf[4], NULL)


# ---- the gradient for the weights -------------------------------------------------------------

cdef int64_t weight_chunks(const int64_t *dim) noexcept nogil:
    """How many chunks the time of a weight gradient asks for: by shape alone, the same on any ISA."""
    cdef int64_t groups = dim[GROUPS], width = ceil_div(dim[OC] // groups, 8) * 8
    cdef double macs = <double> dim[N] * dim[OH] * dim[OW] * dim[KH] * dim[KW] * dim[IC] * width
    if is_depthwise(dim):
        macs /= 2
    return clamp(<int64_t> (macs / 1e6), 1, WEIGHT_CHUNKS)


cdef inline int64_t depth_parts(const int64_t *dim) noexcept nogil:
    """Into how many parts input channels may be cut before copying them for each costs too much."""
    return max(<int64_t> 1, dim[IC] // dim[GROUPS] // 24)


cdef int64_t pieces_for(const int64_t *dim) noexcept nogil:
    """As many as the time asks for while each sums some blocks of outputs: a chunk then reads its outputs'
    data once, where a chunk of some channels reads it as often as there are others."""
    cdef int64_t groups = dim[GROUPS]
    cdef int64_t elements = dim[KH] * dim[KW] * (dim[IC] // groups) * dim[OC] + dim[OC]
    cdef int64_t pieces = min(weight_chunks(dim), PARTIAL_ELEMENTS // elements)
    return max(<int64_t> 1, min(pieces, min(dim[N] * dim[OH], dim[N] * dim[OH] * dim[OW] // (2 * BLOCK_OUTPUTS))))


cdef void weight_job(const fnn_op *op, const layer *t, conv2d_weight_job *job) noexcept nogil:
    """What all chunks have in common."""
    cdef phase p = phase_of(op.dim, t, 0, 0)
    cdef int64_t cols = op.dim[OW], outputs = BLOCK_OUTPUTS if op.dtype == 0 else BLOCK_OUTPUTS // 2
    memset(job, 0, sizeof(job[0]))
    view_of(&job.view, t, &p)
    job.oh = op.dim[OH]
    job.ow = job.col1 = cols
    job.block_cols = ceil_div(cols, ceil_div(cols, 2 * outputs))
    job.block_rows = clamp(outputs // job.block_cols, 1, max(<int64_t> 1, op.dim[N] * op.dim[OH]))
    job.depthwise = t.depthwise
    job.dy_pixel = op.dim[OC]
    job.dw_row = t.taps if t.depthwise else t.width
    job.accumulate = op.dim[BETA] if op.dim[PIECES] == 1 else 0


cdef inline int64_t block_squares(const fnn_op *op) noexcept nogil:
    return CONV_SQUARES_BYTES // (4 if op.dtype == 0 else 8)


cdef void prepare_weight_grad(fnn_op *op) noexcept nogil:
    cdef const conv2d_kernels *kernels = conv2d_table(op.isa, op.dtype)
    cdef layer t = layer_of(op, False, False)
    cdef int64_t *dim = op.dim
    cdef int64_t parts, splits, blocks, squares
    cdef bint winograd = grad_suits_winograd(dim, &t)
    cdef double outputs = <double> dim[N] * dim[OH] * dim[OW], width, block, products
    cdef conv2d_weight_job job
    op.kernels = kernels
    weight_job(op, &t, &job)
    parts = 1 if t.depthwise else depth_parts(dim)
    splits = ceil_div(weight_chunks(dim), dim[PIECES] * t.groups)
    dim[PANELS] = ceil_div(t.panels, clamp(ceil_div(splits, parts), 1, t.panels))
    dim[DEPTHS] = clamp(ceil_div(splits, ceil_div(t.panels, dim[PANELS])), 1, parts)
    dim[DOWN] = dim[ACROSS] = dim[SUM_COLS] = 1
    if winograd:
        dim[PANELS] = min(dim[PANELS], GRAD_CHANNELS // (2 * t.lanes))
        dim[DEPTHS] = max(dim[DEPTHS], ceil_div(t.depth, CONV_POINTS_DEPTH))
        width = dim[PANELS] * 2 * t.lanes
        products = CONV_POINTS * (<double> t.depth / dim[DEPTHS]) * width + SQUARE_COST * (
            <double> t.depth / dim[DEPTHS] + width)
        squares = squares_of(dim, &t) // dim[PIECES]
        dim[SUM_ROWS] = clamp(short_parts(products * squares / kernels.rate), 1,
                              max(<int64_t> 1, squares // block_squares(op)))
        op.cost = products * squares / kernels.rate * dim[PIECES] * ceil_div(t.panels, dim[PANELS]) * dim[DEPTHS]
    else:
        # Of a block of outputs: a chunk of some taps, if all of them take too long, or of fewer channels; then, blocks.
        width = dim[PANELS] * 2 * t.lanes
        block = min(outputs, <double> job.block_rows * job.block_cols)
        products = block * (3 if t.depthwise else 1) / kernels.rate + ADD_NS + COPY_NS * (
            block * dim[SH] * dim[SW] + t.taps) / (t.taps * (t.lanes if t.depthwise else width))
        parts = short_parts(products * width * t.taps * (1 if t.depthwise else ceil_div(t.depth, dim[DEPTHS])))
        if parts > 1 and not t.depthwise:
            splits = clamp(parts, 1, max(<int64_t> 1, depth_parts(dim) // dim[DEPTHS]))
            dim[DEPTHS] *= splits
            parts = ceil_div(parts, splits)
        slice_sums(op, parts, dim[KH], dim[KW], 1 if t.depthwise else ceil_div(t.depth, dim[DEPTHS]))
        dim[DEPTHS] = min(dim[DEPTHS] * dim[DEEP], t.depth)
        blocks = max(<int64_t> 1, ceil_div(ceil_div(dim[N] * dim[OH], dim[PIECES]), job.block_rows))
        parts = short_parts(products * width * ceil_div(dim[KH], dim[DOWN]) * ceil_div(dim[KW], dim[ACROSS]) * (
            1 if t.depthwise else ceil_div(t.depth, dim[DEPTHS])) * blocks * ceil_div(dim[OW], job.block_cols))
        dim[SUM_ROWS] = min(parts, blocks)
        dim[SUM_COLS] = min(ceil_div(parts, dim[SUM_ROWS]), ceil_div(dim[OW], job.block_cols))
        op.cost = outputs * t.groups * t.taps * (3 if t.depthwise else t.depth) * t.panels * 2 * t.lanes / kernels.rate
        op.cost += ADD_NS * ceil_div(<int64_t> outputs, job.block_rows * job.block_cols) * (
            t.taps * (1 if t.depthwise else t.depth) * t.width * t.groups)
    op.cost += 0.2 * dim[PIECES] * t.groups * t.taps * (1 if t.depthwise else t.depth) * t.width
    op.chunks = t.groups * dim[PIECES] * ceil_div(t.panels, dim[PANELS]) * dim[DEPTHS] * dim[DOWN] * dim[ACROSS]
    op.rounds = dim[SUM_ROWS] * dim[SUM_COLS]
    job.view.taps_h = ceil_div(dim[KH], dim[DOWN])
    job.view.taps_w = ceil_div(dim[KW], dim[ACROSS])
    job.depth0 = 0
    job.depth1 = ceil_div(t.depth, dim[DEPTHS])
    job.first = 0
    job.n = min(t.width, dim[PANELS] * 2 * t.lanes)
    op.scratch = kernels.weight_grad_bytes(&job)
    if winograd:
        op.scratch = max(op.scratch, kernels.winograd_grad_bytes(&job))
        if op.rounds > 1:
            # Each chunk's sums, and whether they are not finite: then more rounds add them up directly.
            dim[WORK] = ceil_div(kernels.winograd_sums_bytes(&job), 64) * 64 + 64
            op.shared = op.chunks * dim[WORK]
            op.rounds += 3 * op.rounds


cdef void weight_grad_squares(const fnn_op *op, const layer *t, conv2d_weight_job *job) noexcept nogil:
    """The direct sum over the job's squares, for dw alone: the rest of a row of squares, whole rows, part of a row."""
    cdef int64_t across = ceil_div(t.out_w, 2), begin = job.square0, end
    job.dbias = NULL
    while begin < job.square1:
        if begin % across == 0 and job.square1 - begin >= across:
            end = job.square1 - job.square1 % across
        else:
            end = min(job.square1, (begin // across + 1) * across)
        job.row0 = row_of_squares(t, begin // across)
        job.row1 = row_of_squares(t, (end - 1) // across)
        job.row1 += min(<int64_t> 2, t.out_h - job.row1 % t.out_h)
        job.col0 = begin % across * 2
        job.col1 = min(((end - 1) % across + 1) * 2, t.out_w)
        (<const conv2d_kernels *> op.kernels).weight_grad(job)
        job.accumulate = 1
        begin = end


cdef int run_weight_grad(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef const int64_t *dim = &op.dim[0]
    cdef layer t = layer_of(op, False, False)
    cdef conv2d_weight_job job
    cdef int64_t panel_blocks = ceil_div(t.panels, dim[PANELS]), round = chunk // op.chunks, number = chunk % op.chunks
    cdef int64_t down, across, depth, panel, piece, group, rows = dim[N] * dim[OH], row, col
    cdef int64_t group_elements = t.taps * (1 if t.depthwise else t.depth) * t.width
    cdef int64_t elements = t.groups * group_elements, slice_
    cdef phase p = phase_of(dim, &t, 0, 0)
    chunk = number
    across = chunk % dim[ACROSS]
    chunk = chunk // dim[ACROSS]
    down = chunk % dim[DOWN]
    chunk = chunk // dim[DOWN]
    depth = chunk % dim[DEPTHS]
    panel = chunk // dim[DEPTHS] % panel_blocks * dim[PANELS]
    piece = chunk // (dim[DEPTHS] * panel_blocks) % dim[PIECES]
    group = chunk // (dim[DEPTHS] * panel_blocks * dim[PIECES])
    slice_ = piece * (elements + dim[OC])
    weight_job(op, &t, &job)
    row = dim[KH] * down // dim[DOWN]
    col = dim[KW] * across // dim[ACROSS]
    take_taps(&p.h, row, dim[KH] * (down + 1) // dim[DOWN])
    take_taps(&p.w, col, dim[KW] * (across + 1) // dim[ACROSS])
    view_of(&job.view, &t, &p)
    job.row0 = rows * piece // dim[PIECES]
    job.row1 = rows * (piece + 1) // dim[PIECES]
    job.depth0 = t.depth * depth // dim[DEPTHS]
    job.depth1 = t.depth * (depth + 1) // dim[DEPTHS]
    job.first = panel * 2 * t.lanes
    job.n = min(t.width, (panel + dim[PANELS]) * 2 * t.lanes) - job.first
    job.view.x = at(op, 2, group * t.depth)
    job.dy = at(op, 3, group * t.width)
    row = (row * dim[KW] + col) * (1 if t.depthwise else t.depth * t.width)  # elements of dw before those of these taps
    if dim[PIECES] == 1:
        job.dw = at(op, 0, group * group_elements + row)
        job.dbias = at(op, 1, group * t.width)
    else:
        job.dw = at(op, 4, slice_ + group * group_elements + row)
        job.dbias = at(op, 4, slice_ + elements + group * t.width) if op.buf[1] != NULL else NULL
    if depth + down + across > 0:
        job.dbias = NULL
    job.scratch = scratch
    if grad_suits_winograd(dim, &t):
        job.square0 = squares_of(dim, &t) * piece // dim[PIECES]
        job.square1 = squares_of(dim, &t) * (piece + 1) // dim[PIECES]
        run_winograd_grad(op, &t, &job, round, number)
        return 0
    take_blocks(&job.row0, &job.row1, job.block_rows, round // dim[SUM_COLS], dim[SUM_ROWS])
    take_blocks(&job.col0, &job.col1, job.block_cols, round % dim[SUM_COLS], dim[SUM_COLS])
    if round > 0:
        job.accumulate = 1
    (<const conv2d_kernels *> op.kernels).weight_grad(&job)
    return 0


cdef inline void take_blocks(int64_t *begin, int64_t *end, int64_t block, int64_t part, int64_t parts) noexcept nogil:
    """Leaves in [begin, end) a part of its blocks."""
    cdef int64_t first = begin[0], blocks = ceil_div(end[0] - first, block)
    begin[0] = first + blocks * part // parts * block
    end[0] = min(end[0], first + blocks * (part + 1) // parts * block)


cdef void run_winograd_grad(const fnn_op *op, const layer *t, conv2d_weight_job *job, int64_t round,
                            int64_t chunk) noexcept nogil:
    """In one round, or in dim[SUM_ROWS] that keep their sums, and others that do what is left to do if these are not
    finite: they start anew."""
    cdef const conv2d_kernels *kernels = <const conv2d_kernels *> op.kernels
    cdef int64_t rounds = op.dim[SUM_ROWS], begin = job.square0, squares = job.square1 - begin
    cdef char *mine = <char *> op.common + chunk * op.dim[WORK]
    if rounds == 1:
        if kernels.winograd_grad(job):
            weight_grad_squares(op, t, job)
        return
    if round < rounds:
        take_blocks(&job.square0, &job.square1, block_squares(op), round, rounds)
        job.sums = mine + 64
        job.resumes = round > 0
        job.goes_on = round < rounds - 1
        (<int64_t *> mine)[0] = kernels.winograd_grad(job)
        return
    if (<int64_t *> mine)[0]:
        round -= rounds
        rounds = op.rounds - rounds
        job.square0 = begin + squares * round // rounds
        job.square1 = begin + squares * (round + 1) // rounds
        if round > 0:
            job.accumulate = 1
        weight_grad_squares(op, t, job)


cdef enum:
    SUM_ELEMENTS, SUM_OC, SUM_PIECES, SUM_BETA


cdef void prepare_sum(fnn_op *op) noexcept nogil:
    cdef int64_t elements = op.dim[SUM_ELEMENTS] + (op.dim[SUM_OC] if op.buf[1] != NULL else 0)
    op.kernels = conv2d_table(op.isa, op.dtype)
    op.chunks = ceil_div(elements, SUM_CHUNK)
    op.cost = 0.1 * elements * (op.dim[SUM_PIECES] + 1)


cdef int run_sum(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t elements = op.dim[SUM_ELEMENTS], total = elements + op.dim[SUM_OC]
    cdef int64_t begin = chunk * SUM_CHUNK, end = min(begin + SUM_CHUNK, total), middle = clamp(elements, begin, end)
    cdef const conv2d_kernels *kernels = <const conv2d_kernels *> op.kernels
    if middle > begin:
        kernels.sum(at(op, 0, begin), at(op, 2, begin), middle - begin, op.dim[SUM_PIECES], total, op.dim[SUM_BETA])
    if end > middle and op.buf[1] != NULL:
        kernels.sum(at(op, 1, middle - elements), at(op, 2, middle), end - middle, op.dim[SUM_PIECES], total,
                    op.dim[SUM_BETA])
    return 0


GEOMETRY = "n ih iw ic oh ow oc kh kw stride_h stride_w pad_top pad_left dilation_h dilation_w groups"

runtime.register_op("conv2d", run_forward, prepare_forward,
                    "y", "x w bias? residual? packed? scale?", GEOMETRY + " act kept", "alpha beta")
runtime.register_op("conv2d_input_grad", run_input_grad, prepare_input_grad,
                    "dx", "dy w saved? packed?", GEOMETRY + " act_grad kept", "alpha beta")
runtime.register_op("conv2d_weight_grad", run_weight_grad, prepare_weight_grad,
                    "dw? dbias?", "x dy +partial?", GEOMETRY + " accumulate? pieces")
runtime.register_op("conv2d_weight_grad_sum", run_sum, prepare_sum, "dw dbias?", "partial", "elements oc pieces accumulate?")
runtime.register_op("conv2d_pack", run_pack, prepare_pack, "packed", "w scale?", GEOMETRY + " kind kept")


# ---- checked functions over NumPy arrays ------------------------------------------------------

cdef int check_geometry(n, ih, iw, ic, oh, ow, oc, kh, kw, stride_h, stride_w, pad_top, pad_left, dilation_h,
                        dilation_w, groups) except -1:
    """Refuses sizes that make no convolution, or whose products overflow."""
    integers("sizes, stride and dilation", (n, ih, iw, ic, oh, ow, oc, kh, kw, stride_h, stride_w, dilation_h,
                                            dilation_w, groups), 14, 1)
    integers("padding", (pad_top, pad_left), 2, 0)
    if ic % groups or oc % groups:
        raise ValueError(f"groups = {groups} must divide the channels {ic} and {oc}")
    if kh * kw * ic // groups * oc > LARGEST or n * oh * ow * oc > LARGEST or n * ih * iw * ic > LARGEST:
        raise ValueError("the sizes are larger than any memory")
    return 0


def weight_grad_pieces(n, ih, iw, ic, oh, ow, oc, kh, kw, stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w,
                       groups):
    """How a plan cuts the sum over outputs that makes a weight gradient.

    Parameters
    ----------
    n, ..., groups : int
        The geometry G of the module's docstring, n being the largest batch.

    Returns
    -------
    pieces : int
        The op's `pieces`; where it is 1 the op needs no `partial`.
    elements : int
        Of `partial`, for each piece.
    """
    cdef int64_t dim[16]
    check_geometry(n, ih, iw, ic, oh, ow, oc, kh, kw, stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w,
                   groups)
    for i, size in enumerate((n, ih, iw, ic, oh, ow, oc, kh, kw, stride_h, stride_w, pad_top, pad_left, dilation_h,
                              dilation_w, groups)):
        dim[i] = size
    return pieces_for(dim), kh * kw * (ic // groups) * oc + oc


def packed_elements(n, ih, iw, ic, oh, ow, oc, kh, kw, stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w,
                    groups, *, kind):
    """Elements of packed weights, enough for any ISA: kind 0 for conv2d, 1 for conv2d_input_grad.

    The geometry is G of the module's docstring; n makes no difference.
    """
    cdef fnn_op op
    cdef layer t
    check_geometry(1, ih, iw, ic, oh, ow, oc, kh, kw, stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w,
                   groups)
    memset(&op, 0, sizeof(op))
    many = 1 << 20  # images: enough for Winograd's products, which take more room, wherever a batch may use them
    for i, size in enumerate((many, ih, iw, ic, oh, ow, oc, kh, kw, stride_h, stride_w, pad_top, pad_left,
                              dilation_h, dilation_w, groups)):
        op.dim[i] = size
    t = layer_of(&op, kind == 1, True)
    width = ceil_div(t.width, WIDEST) * WIDEST
    if t.winograd:  # and a line of a cache between points, of narrow panels at worst
        return CONV_POINTS * width * (t.depth + 2 * ceil_div(t.depth, CONV_POINTS_DEPTH))
    return t.groups * t.taps * (1 if t.depthwise else t.depth) * width


cdef tuple integers(str name, object values, int count, int64_t least):
    values = tuple(values) if isinstance(values, (tuple, list)) else (values,)
    if len(values) != count or not all(isinstance(v, (int, np.integer)) and not isinstance(v, bool) for v in values):
        raise TypeError(f"{name} must be {count} integers, got {values}")
    if any(v < least or v > LARGEST_SIZE for v in values):
        limits = f"at least {least}" if any(v < least for v in values) else f"at most {LARGEST_SIZE}"
        raise ValueError(f"{name} must be {limits}, got {values}")
    return tuple([int(v) for v in values])


cdef tuple output_size(tuple size, tuple kernel, tuple stride, tuple padding, tuple dilation):
    """(OH, OW) from (IH, IW), or ValueError where the kernel is larger than the padded input."""
    cdef list out = []
    for axis, i, k, s, d, p in zip(("height", "width"), size, kernel, stride, dilation,
                                   (padding[0] + padding[1], padding[2] + padding[3])):
        if d * (k - 1) + 1 > i + p:
            raise ValueError(f"the kernel's {axis} is {d * (k - 1) + 1} (size {k}, dilation {d}), more than the "
                             f"padded input's {i + p}")
        out.append((i + p - d * (k - 1) - 1) // s + 1)
    return tuple(out)


cdef int fill(fnn_op *op, int dtype, tuple x_shape, tuple w_shape, object stride, object padding, object dilation,
              object groups) except -1:
    """Checks the geometry and writes G; x_shape is (N, IH, IW, IC), w_shape as the user gave it."""
    (groups,) = integers("groups", groups, 1, 1)
    if len(w_shape) == 4 and groups == 1:
        w_shape = (1, *w_shape)
    if len(w_shape) != 5 or w_shape[0] != groups:
        raise ValueError(f"w must have shape (groups, KH, KW, IC / groups, OC / groups) with groups = {groups}, "
                         f"got {w_shape}")
    if min(w_shape) < 1:
        raise ValueError(f"w must not be empty, got shape {w_shape}")
    if min(x_shape[1:]) < 1:
        raise ValueError(f"x must have a height, width and channels, got shape {x_shape}")
    if x_shape[3] != groups * w_shape[3]:
        raise ValueError(f"x has {x_shape[3]} channels; w of shape {w_shape} expects {groups * w_shape[3]}")
    stride = integers("stride", stride, 2, 1)
    dilation = integers("dilation", dilation, 2, 1)
    padding = integers("padding", padding, 4, 0)
    oh, ow = output_size(x_shape[1:3], w_shape[1:3], stride, padding, dilation)
    memset(op, 0, sizeof(op[0]))
    op.dtype = dtype
    for i, size in enumerate((*x_shape, oh, ow, groups * w_shape[4], *w_shape[1:3], *stride, padding[0], padding[2],
                              *dilation, groups)):
        op.dim[i] = size
    return 0


cdef tuple shape4(str name, object shape):
    return integers(name, tuple(shape) if isinstance(shape, (tuple, list)) else shape, 4, 0)


cdef int four_dimensions(str name, object array, str layout) except -1:
    if array.ndim != 4:
        raise ValueError(f"{name} must have 4 dimensions {layout}, got shape {array.shape}")
    return 0


cdef int kind_of(str name, object activation) except -2:
    if activation is None:
        return -1
    if activation not in ACTIVATIONS:
        raise ValueError(f"{name} must be None or one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    return ACTIVATIONS.index(activation)


cdef object packed_weights(const fnn_op *op, object w, object scale, int kind):
    cdef fnn_op pack
    memset(&pack, 0, sizeof(pack))
    pack.dtype = op.dtype
    for i in range(16):
        pack.dim[i] = op.dim[i]
    pack.dim[KIND] = kind
    pack.dim[KEPT] = op.dim[KEPT]
    packed = np.empty(packed_elements(*[op.dim[i] for i in range(16)], kind=kind), w.dtype)
    pack.buf[0] = data(packed)
    pack.buf[1] = data(w)
    pack.buf[2] = data(scale)
    runtime.run_one("conv2d_pack", &pack)
    return packed


def conv2d(x, w, bias=None, *, stride=(1, 1), padding=(0, 0, 0, 0), dilation=(1, 1), groups=1, activation=None,
           double alpha=0.0, residual=None, scale=None, bint packed=False, bint kept=False):
    """y = activation(conv(x, w * scale) + bias + residual).

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (N, H, W, IC)
        C-contiguous, as all arrays here.
    w : ndarray, shape (groups, KH, KW, IC / groups, OC / groups)
        Or (KH, KW, IC, OC) where groups is 1.
    bias : ndarray, shape (OC,), optional
    stride, dilation : (int, int), default (1, 1)
        Down, across; in pixels.
    padding : (int, int, int, int), default (0, 0, 0, 0)
        Zeros at the top, bottom, left, right; in pixels.
    groups : int, default 1
    activation : str, optional
        A name of fastnn_ext.activation.ACTIVATIONS.
    alpha : float, default 0.0
        The activation's slope or scale.
    residual : ndarray, shape of y, optional
    scale : ndarray, shape (OC,), optional
        What each output channel's weights are multiplied by.
    packed : bool, default False
        Go through conv2d_pack, as a plan may.
    kept : bool, default False
        With `packed`: choose what is best where the packed weights are made beforehand.

    Returns
    -------
    ndarray, shape (N, OH, OW, OC)

    Raises
    ------
    TypeError
        If an array has not the dtype of x, or a size is no integer.
    ValueError
        If shapes do not fit, a stride is 0, a padding negative, or the kernel larger than its input.
    """
    cdef fnn_op op
    cdef int dtype = check_real("x", x, None)
    four_dimensions("x", x, "(N, H, W, IC)")
    check("w", w, x.dtype, None)
    fill(&op, dtype, x.shape, w.shape, stride, padding, dilation, groups)
    shape = (op.dim[N], op.dim[OH], op.dim[OW], op.dim[OC])
    if bias is not None:
        check("bias", bias, x.dtype, shape[3:])
    if residual is not None:
        check("residual", residual, x.dtype, shape)
    if scale is not None:
        check("scale", scale, x.dtype, shape[3:])
    op.dim[ACT] = kind_of("activation", activation)
    op.dim[KEPT] = kept
    op.scalar[0] = alpha
    y = np.empty(shape, x.dtype)
    weights = packed_weights(&op, w, scale, 0) if packed else None
    op.buf[0] = data(y)
    op.buf[1] = data(x)
    op.buf[2] = data(w)
    op.buf[3] = data(bias)
    op.buf[4] = data(residual)
    op.buf[5] = data(weights)
    op.buf[6] = data(scale)
    runtime.run_one("conv2d", &op)
    return y


def conv2d_input_grad(dy, w, x_shape, *, stride=(1, 1), padding=(0, 0, 0, 0), dilation=(1, 1), groups=1,
                      activation_grad=None, double alpha=0.0, saved=None, bint packed=False, bint kept=False):
    """Gradient of conv2d for x, times activation_grad'(saved); also a transposed convolution of dy.

    Parameters
    ----------
    dy : ndarray of float32 or float64, shape (N, OH, OW, OC)
    w : ndarray
        As conv2d's.
    x_shape : (int, int, int, int)
        (N, H, W, IC).
    stride, padding, dilation, groups, packed, kept
        As conv2d's.
    activation_grad : str, optional
        The activation that x came out of.
    alpha : float, default 0.0
        Its slope or scale.
    saved : ndarray, shape x_shape, optional
        What its derivative is taken from, see fastnn_ext.activation.

    Returns
    -------
    ndarray, shape x_shape

    Raises
    ------
    TypeError, ValueError
        As conv2d; also if dy has not the shape that x_shape leads to.
    """
    cdef fnn_op op
    cdef int dtype = check_real("dy", dy, None)
    check("w", w, dy.dtype, None)
    x_shape = shape4("x_shape", x_shape)
    fill(&op, dtype, x_shape, w.shape, stride, padding, dilation, groups)
    check("dy", dy, dy.dtype, (op.dim[N], op.dim[OH], op.dim[OW], op.dim[OC]))
    if (saved is None) != (activation_grad is None):
        raise ValueError("saved and activation_grad must be given together")
    if saved is not None:
        check("saved", saved, dy.dtype, x_shape)
    op.dim[ACT] = kind_of("activation_grad", activation_grad)
    op.dim[KEPT] = kept
    op.scalar[0] = alpha
    dx = np.empty(x_shape, dy.dtype)
    weights = packed_weights(&op, w, None, 1) if packed else None
    op.buf[0] = data(dx)
    op.buf[1] = data(dy)
    op.buf[2] = data(w)
    op.buf[3] = data(saved)
    op.buf[4] = data(weights)
    runtime.run_one("conv2d_input_grad", &op)
    return dx


def conv2d_weight_grad(x, dy, w_shape, *, stride=(1, 1), padding=(0, 0, 0, 0), dilation=(1, 1), groups=1, out=None,
                       bias_out=None, bint accumulate=False, pieces=None):
    """Gradients of conv2d for w and bias.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (N, H, W, IC)
    dy : ndarray, shape (N, OH, OW, OC)
    w_shape : tuple of int
        As conv2d's w.
    stride, padding, dilation, groups
        As conv2d's.
    out, bias_out : ndarray, shapes w_shape and (OC,), optional
        Where the gradients go.
    accumulate : bool, default False
        Add to what `out` and `bias_out` hold.
    pieces : int, optional
        Into how many pieces the sum over outputs is cut; default: what weight_grad_pieces says.

    Returns
    -------
    dw, dbias : ndarray
        `out` and `bias_out`, or new arrays.

    Raises
    ------
    TypeError, ValueError
        As conv2d.
    """
    cdef fnn_op op, sum_op
    cdef int dtype = check_real("x", x, None)
    four_dimensions("x", x, "(N, H, W, IC)")
    if not isinstance(w_shape, (tuple, list)):
        raise TypeError(f"w_shape must be a tuple of integers, got {type(w_shape).__name__}")
    w_shape = integers("w_shape", w_shape, len(w_shape), 1)
    fill(&op, dtype, x.shape, w_shape, stride, padding, dilation, groups)
    check("dy", dy, x.dtype, (op.dim[N], op.dim[OH], op.dim[OW], op.dim[OC]))
    if accumulate and (out is None or bias_out is None):
        raise ValueError("out and bias_out must be given to accumulate into them")
    if out is None:
        out = np.empty(w_shape, x.dtype)
    if bias_out is None:
        bias_out = np.empty(op.dim[OC], x.dtype)
    check("out", out, x.dtype, w_shape, True)
    check("bias_out", bias_out, x.dtype, (op.dim[OC],), True)
    check_apart({"x": x, "out": out, "bias_out": bias_out})
    check_apart({"dy": dy, "out": out, "bias_out": bias_out})
    op.dim[BETA] = accumulate
    op.dim[PIECES] = pieces_for(op.dim) if pieces is None else integers("pieces", pieces, 1, 1)[0]
    partial = None
    if op.dim[PIECES] > 1:
        partial = np.empty(op.dim[PIECES] * (out.size + op.dim[OC]), x.dtype)
    op.buf[0] = data(out)
    op.buf[1] = data(bias_out)
    op.buf[2] = data(x)
    op.buf[3] = data(dy)
    op.buf[4] = data(partial)
    runtime.run_one("conv2d_weight_grad", &op)
    if op.dim[PIECES] > 1:
        memset(&sum_op, 0, sizeof(sum_op))
        sum_op.dtype = dtype
        sum_op.buf[0] = data(out)
        sum_op.buf[1] = data(bias_out)
        sum_op.buf[2] = data(partial)
        sum_op.dim[SUM_ELEMENTS] = out.size
        sum_op.dim[SUM_OC] = op.dim[OC]
        sum_op.dim[SUM_PIECES] = op.dim[PIECES]
        sum_op.dim[SUM_BETA] = accumulate
        runtime.run_one("conv2d_weight_grad_sum", &sum_op)
    return out, bias_out
