/* Convolutions over channels-last images, on the calling thread, without an im2col buffer.
 *
 * Forward, and each residue of the gradient for the input: a register tile holds some outputs (pixels)
 * times one panel of channels (two vectors, or one where no more are left). For each stretch of the
 * sum it reads a pointer a pixel and then walks the stretch: a broadcast from each pixel, a row of the
 * panel, one fused multiply-add for each vector of the tile. `gather` prepares the pointers of a
 * region once for all panels; `panel` runs one panel over it.
 *
 * Gradient for the weights: the tile holds some rows (tap, input channel) times a panel of output
 * channels and sums over a block of outputs, whose reads have been copied side by side.
 *
 * Depthwise convolutions are the same tiles with a vector of channels read from each pixel where the
 * others broadcast one.
 */

#define LANES2 (2 * W)
/* Pixels (or rows) of a tile of two vectors, and of one: what the registers hold. */
#if VEC_BYTES == 64
#define TILE2 14
#define TILE1 14
#define EACH_TILE2(F) F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8) F(9) F(10) F(11) F(12) F(13) F(14)
#define EACH_TILE1(F) EACH_TILE2(F)
#elif VEC_BYTES == 32
#define TILE2 6
#define TILE1 12
#define EACH_TILE2(F) F(1) F(2) F(3) F(4) F(5) F(6)
#define EACH_TILE1(F) F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8) F(9) F(10) F(11) F(12)
#else
#define TILE2 4
#define TILE1 8
#define EACH_TILE2(F) F(1) F(2) F(3) F(4)
#define EACH_TILE1(F) F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8)
#endif

#ifndef CONV2D_ONCE
#define CONV2D_ONCE
/* Rows of a panel of two vectors (twice as many of one) that are walked for all pixels of a region before the next:
 * they stay in L1. */
enum { K_BLOCK = 256 };
/* Terms of a sum from which on those outside the image are worth leaving out. */
enum { LONG_SUM = 64 };
/* Channels that a weight gradient copies at a time, at most: they and their neighbours stay in L2. */
enum { PATCH_CHANNELS = 64 };

INLINE int64_t align64(int64_t bytes) { return (bytes + 63) & ~(int64_t)63; }
INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

/* Which outputs c of [begin, end) read inside [0, size) at c * stride + origin. */
INLINE void inside(int64_t begin, int64_t end, int64_t stride, int64_t origin, int64_t size, int64_t *low,
                   int64_t *high) {
    /* Dividing takes long, and strides are mostly 1. */
    int64_t from = origin >= 0 ? 0 : stride == 1 ? -origin : (-origin + stride - 1) / stride;
    int64_t to = origin >= size ? 0 : stride == 1 ? size - origin : (size - 1 - origin) / stride + 1;
    *low = smaller(larger(from, begin), end);
    *high = larger(smaller(to, end), *low);
}

/* A patch: the pixels that some rows and columns of outputs of one image read, zero outside the
 * image. Where there is one tap in a direction, pixels that the stride passes over are left out. */
struct patch_shape { int64_t h, w, pitch_h, pitch_w, stride_h, stride_w; };

INLINE struct patch_shape patch_of(const struct conv2d_view *v, int64_t rows, int64_t cols) {
    struct patch_shape s;
    s.pitch_h = v->taps_h == 1 ? v->stride_h : 1;
    s.pitch_w = v->taps_w == 1 ? v->stride_w : 1;
    s.stride_h = v->taps_h == 1 ? 1 : v->stride_h;
    s.stride_w = v->taps_w == 1 ? 1 : v->stride_w;
    s.h = (rows - 1) * s.stride_h + (v->taps_h - 1) * v->step_h + 1;
    s.w = (cols - 1) * s.stride_w + (v->taps_w - 1) * v->step_w + 1;
    return s;
}

/* At most how many patch rows any `rows` consecutive rows of outputs need: they may straddle images. */
INLINE int64_t patch_rows_bound(const struct conv2d_view *v, int64_t rows, int64_t oh) {
    int64_t images = (rows + oh - 2) / oh + 1;
    struct patch_shape s = patch_of(v, 1, 1);
    return larger(rows - images, 0) * s.stride_h + images * (s.h + s.stride_h);
}

#endif

/* Some segments of the sum, for one panel. */
struct NAME(tile_block) {
    const struct conv2d_seg *seg, *end;
    const real *weights; /* of the panel's row 0 */
    const real *bias;    /* (width of the panel,) */
    int64_t first, n; /* channels */
    int begins, ends; /* whether these segments are the sum's first, and its last */
};

/* ---- the tile of a forward pass ----------------------------------------------------------- */

/* The first n elements of v. A masked store of AVX2 takes many cycles on some machines. */
INLINE void NAME(store_some)(real *p, vec v, int n) {
#if VEC_BYTES == 64
    vstore_n(p, v, n);
#else
    real t[W];
    vstore(t, v);
    const real *s = t;
    if (n == W) {
        vstore(p, v);
        return;
    }
    if (W > 4 && (n & 4)) memcpy(p, s, 4 * sizeof(real)), p += 4, s += 4;
    if (W > 2 && (n & 2)) memcpy(p, s, 2 * sizeof(real)), p += 2, s += 2;
    if (n & 1) *p = *s;
#endif
}

/* The tile's sums, from and to y where its columns do not fill the vectors or more is left to do than
 * bias and relu: rows of `width`, apart from the tile's code, which is compiled for each number of pixels. */
static __attribute__((noinline)) void NAME(resume)(real *sum, int64_t width, const struct conv2d_job *t,
                                                   const struct NAME(tile_block) *b, int64_t p, int64_t pixels) {
    for (int64_t m = 0; m < pixels; m++)
        memcpy(sum + m * width, (const real *)t->y + t->at[p + m] + b->first, (size_t)b->n * sizeof(real));
}

static __attribute__((noinline)) void NAME(finish)(const real *sum, int64_t width, const struct conv2d_job *t,
                                                   const struct NAME(tile_block) *b, int64_t p, int64_t pixels) {
    for (int64_t m = 0; m < pixels; m++, sum += width) {
        const int64_t at = t->at[p + m] + b->first;
        for (int64_t c = 0; c < b->n; c += W) {
            const int n = (int)smaller(b->n - c, W);
            vec v = vload(sum + c);
            if (b->ends) {
                if (t->residual) v = v + vload_n((const real *)t->residual + at + c, n);
                if (t->relu) v = vmax(v, vzero());
                if (t->saved) v = vsel(vle(vload_n((const real *)t->saved + at + c, n), vzero()), vzero(), v);
            }
            NAME(store_some)((real *)t->y + at + c, v, n);
        }
    }
}

INLINE void NAME(tile)(const int pixels, const int vecs, const int depthwise, const struct conv2d_job *t,
                       const struct NAME(tile_block) *b, int64_t p) {
    const int whole = b->n == vecs * W;
    vec sum[TILE1][2];
    real spare[TILE1 * LANES2];
    if (b->begins) {
        const vec bias0 = vload(b->bias), bias1 = vecs == 2 ? vload(b->bias + W) : vzero();
        UNROLL for (int m = 0; m < pixels; m++) sum[m][0] = bias0, sum[m][1] = bias1;
    } else {
        if (!whole) NAME(resume)(spare, vecs * W, t, b, p, pixels);
        UNROLL for (int m = 0; m < pixels; m++) {
            const real *from = whole ? (const real *)t->y + t->at[p + m] + b->first : spare + m * vecs * W;
            sum[m][0] = vload(from);
            if (vecs == 2) sum[m][1] = vload(from + W);
        }
    }
    const int64_t pitch = t->pixels;
    for (const struct conv2d_seg *seg = b->seg; seg < b->end; seg++) {
        const real *const *row = (const real *const *)t->table + seg->row * pitch + p;
        const real *x[TILE1], *w = b->weights + seg->k * vecs * W;
        UNROLL for (int m = 0; m < pixels; m++) x[m] = row[m] + seg->offset + (depthwise ? b->first : 0);
        if (depthwise) {
            const int left = (int)smaller(b->n, W), right = (int)(b->n - left);
            const vec w0 = vload(w), w1 = vecs == 2 ? vload(w + W) : vzero();
            UNROLL for (int m = 0; m < pixels; m++) {
                sum[m][0] = vfma(vecs == 2 ? vload(x[m]) : vload_n(x[m], left), w0, sum[m][0]);
                if (vecs == 2) sum[m][1] = vfma(vload_n(x[m] + W, right), w1, sum[m][1]);
            }
        } else {
            const int64_t length = seg->length;
            for (int64_t k = 0; k < length; k++) {
                const vec w0 = vload(w), w1 = vecs == 2 ? vload(w + W) : vzero();
                UNROLL for (int m = 0; m < pixels; m++) {
                    const vec a = vset(x[m][k]);
                    sum[m][0] = vfma(a, w0, sum[m][0]);
                    if (vecs == 2) sum[m][1] = vfma(a, w1, sum[m][1]);
                }
                w += vecs * W;
            }
        }
    }
    if (!whole || (b->ends && (t->residual || t->saved))) {
        UNROLL for (int m = 0; m < pixels; m++) {
            vstore(spare + m * vecs * W, sum[m][0]);
            if (vecs == 2) vstore(spare + m * vecs * W + W, sum[m][1]);
        }
        NAME(finish)(spare, vecs * W, t, b, p, pixels);
        return;
    }
    if (b->ends && t->relu) {
        UNROLL for (int m = 0; m < pixels; m++) {
            sum[m][0] = vmax(sum[m][0], vzero());
            if (vecs == 2) sum[m][1] = vmax(sum[m][1], vzero());
        }
    }
    UNROLL for (int m = 0; m < pixels; m++) {
        real *y = (real *)t->y + t->at[p + m] + b->first;
        vstore(y, sum[m][0]);
        if (vecs == 2) vstore(y + W, sum[m][1]);
    }
}

typedef void (*NAME(tile_fn))(const struct conv2d_job *t, const struct NAME(tile_block) *b, int64_t p);
#define TILE_FN(name, pixels, vecs, depthwise)                                                       \
    static void NAME(name##pixels)(const struct conv2d_job *t, const struct NAME(tile_block) *b, int64_t p) { \
        NAME(tile)(pixels, vecs, depthwise, t, b, p);                                                \
    }
#define WIDE(m) TILE_FN(wide, m, 2, 0)
#define NARROW(m) TILE_FN(narrow, m, 1, 0)
#define CHANNELS2(m) TILE_FN(channels2_, m, 2, 1)
#define CHANNELS1(m) TILE_FN(channels1_, m, 1, 1)
/* clang-format off */
EACH_TILE2(WIDE) EACH_TILE1(NARROW) EACH_TILE2(CHANNELS2) EACH_TILE1(CHANNELS1)
#undef WIDE
#undef NARROW
#undef CHANNELS2
#undef CHANNELS1
#define WIDE(m) NAME(wide##m),
#define NARROW(m) NAME(narrow##m),
#define CHANNELS2(m) NAME(channels2_##m),
#define CHANNELS1(m) NAME(channels1_##m),
static const NAME(tile_fn) NAME(wide)[] = {NULL, EACH_TILE2(WIDE)};
static const NAME(tile_fn) NAME(narrow)[] = {NULL, EACH_TILE1(NARROW)};
static const NAME(tile_fn) NAME(channels2)[] = {NULL, EACH_TILE2(CHANNELS2)};
static const NAME(tile_fn) NAME(channels1)[] = {NULL, EACH_TILE1(CHANNELS1)};
/* clang-format on */
#undef WIDE
#undef NARROW
#undef CHANNELS2
#undef CHANNELS1
#undef TILE_FN

/* ---- weights as panels --------------------------------------------------------------------- */

/* Rows [row, row + rows) of a panel: row t * depth + k is that of tap t and depth k. */
static void NAME(pack_rows)(void *out_, const struct conv2d_pack_job *pack, int64_t row, int64_t rows, int64_t first,
                            int64_t n) {
    real *out = out_;
    const int64_t width = n > W ? LANES2 : W, depth = pack->depth;
    const int64_t step = pack->depth_stride, channel = pack->channel_stride;
    const int left = (int)smaller(n, W), right = (int)(n - left);
    const real *scale = pack->scale ? (const real *)pack->scale + first : NULL;
    const vec scale0 = scale ? vload_n(scale, left) : vset(1), scale1 = scale ? vload_n(scale + W, right) : vset(1);
    for (int64_t length; rows > 0; row += length, rows -= length) {
        const int64_t begin = row % depth;
        length = smaller(depth - begin, rows);
        const real *w = (const real *)pack->w + pack->order[row / depth] * pack->tap_stride + begin * step +
                        first * channel;
        int64_t k = 0;
        if (channel == 1) {
            for (; k < length; k++, out += width, w += step) {
                vstore(out, vload_n(w, left) * scale0);
                if (width > W) vstore(out + W, vload_n(w + W, right) * scale1);
            }
        } else if (step == 1 && n == width && !scale) {
            for (; k + LANE <= length; k += LANE, out += LANE * width, w += LANE)
                for (int64_t j = 0; j < width; j += W) {
                    vec v[LANE];
                    UNROLL for (int i = 0; i < LANE; i++) v[i] = vload16(w + (j + i) * channel, LANE * channel);
                    vtranspose16(v);
                    UNROLL for (int i = 0; i < LANE; i++) vstore(out + i * width + j, v[i]);
                }
        }
        for (; k < length; k++, out += width, w += step) {
            for (int64_t j = 0; j < n; j++) out[j] = scale ? w[j * channel] * scale[j] : w[j * channel];
            for (int64_t j = n; j < width; j++) out[j] = 0;
        }
    }
}

/* Ask memory for what pack_rows will read, where a row is a stretch of a line or two. */
static void NAME(fetch_rows)(const struct conv2d_pack_job *pack, int64_t row, int64_t rows, int64_t first, int64_t n) {
    if (pack->channel_stride != 1) return;
    for (; rows > 0; row++, rows--) {
        const real *w = (const real *)pack->w + pack->order[row / pack->depth] * pack->tap_stride +
                        row % pack->depth * pack->depth_stride + first;
        __builtin_prefetch(w, 0, 2);
        __builtin_prefetch(w + n - 1, 0, 2);
    }
}

/* ---- a panel over a region ------------------------------------------------------------------ */

/* Of segments [seg, end) what a group's taps read inside the image; returns how many are left. */
static int64_t NAME(clip)(struct conv2d_seg *out, const struct conv2d_seg *seg, const struct conv2d_seg *end,
                          const struct conv2d_job *t, const struct conv2d_group *g) {
    const int64_t depth = t->depthwise ? 1 : t->view.depth;
    struct conv2d_seg *begin = out;
    for (; seg < end; seg++) {
        const int64_t first = seg->tap_row * t->view.taps_w, k = seg->k;
        const int64_t from = larger((first + g->left) * depth, k);
        const int64_t to = smaller((first + g->right) * depth, k + seg->length);
        if (seg->tap_row >= g->top && seg->tap_row < g->bottom && from < to)
            *out++ = (struct conv2d_seg){seg->row, seg->offset + from - k, to - from, from, seg->tap_row};
    }
    return out - begin;
}

static void NAME(panel)(const struct conv2d_job *t, void *weights, const struct conv2d_pack_job *pack, int64_t first,
                        int64_t n) {
    const int vecs = n > W ? 2 : 1;
    const int most = vecs == 2 ? TILE2 : TILE1, block = vecs == 2 ? K_BLOCK : 2 * K_BLOCK;
    const NAME(tile_fn) *tiles = t->depthwise ? (vecs == 2 ? NAME(channels2) : NAME(channels1))
                                              : (vecs == 2 ? NAME(wide) : NAME(narrow));
    const struct conv2d_seg *end = t->segs + t->n_segs, *seg = t->segs, *next;
    struct conv2d_seg clipped[2 * K_BLOCK];
    real bias[LANES2] = {0};
    if (t->bias) memcpy(bias, (const real *)t->bias + first, (size_t)n * sizeof(real));
    struct NAME(tile_block) b = {.weights = weights, .bias = bias, .first = first, .n = n, .begins = !t->resumes};
    int64_t row = 0, rows = pack ? pack->taps * pack->depth : 0;
    do {
        int64_t length = 0;
        for (next = seg; next < end && (next == seg || length + next->length <= block); next++) length += next->length;
        b.ends = next == end && !t->goes_on;
        if (pack) {
            NAME(pack_rows)(weights, pack, row, length, first, n);
            b.weights = (const real *)weights - row * vecs * W;
        }
        const int64_t ahead = pack ? smaller(rows - row - length, block) : 0;
        int64_t p = 0;
        for (const struct conv2d_group *g = t->groups; g < t->groups + t->n_groups; g++) {
            const int64_t begin = p, count = (g->pixels + most - 1) / most;
            const int all = g->top == 0 && g->bottom == t->view.taps_h && g->left == 0 && g->right == t->view.taps_w;
            b.seg = all ? seg : clipped;
            b.end = all ? next : clipped + NAME(clip)(clipped, seg, next, t, g);
            for (int64_t i = 0; i < count; i++) {
                /* Equal pixels for all of a group's tiles, rather than a short last one. */
                const int64_t pixels = begin + g->pixels * (i + 1) / count - p;
                if (ahead > 0) {
                    const int64_t fetch = ahead * p / t->pixels;
                    NAME(fetch_rows)(pack, row + length + fetch, ahead * (p + pixels) / t->pixels - fetch, first, n);
                }
                tiles[pixels](t, &b, p);
                p += pixels;
            }
        }
        row += length;
        b.begins = 0;
        seg = next;
    } while (seg < end);
}

/* ---- where a region's outputs read --------------------------------------------------------- */

/* Channels [c0, c0 + n) of the pixels that rows [row, row + rows) and columns [col, col + cols) of one
 * image read, `spacing` elements apart. */
static void NAME(copy_patch)(real *out, const struct conv2d_view *v, int64_t image, int64_t row, int64_t rows,
                             int64_t col, int64_t cols, int64_t c0, int64_t n, int64_t spacing) {
    const struct patch_shape s = patch_of(v, rows, cols);
    const int64_t top = v->top + row * v->stride_h, left = v->left + col * v->stride_w;
    const int solid = n == v->pixel && spacing == n && s.pitch_w == 1;
    int64_t low, high;
    inside(0, s.w, s.pitch_w, left, v->w, &low, &high);
    for (int64_t r = 0; r < s.h; r++, out += s.w * spacing) {
        const int64_t y = top + r * s.pitch_h;
        if (y < 0 || y >= v->h || low == high) {
            memset(out, 0, (size_t)(s.w * spacing) * sizeof(real));
            continue;
        }
        const real *x = (const real *)v->x + ((image * v->h + y) * v->w + left + low * s.pitch_w) * v->pixel + c0;
        memset(out, 0, (size_t)(low * spacing) * sizeof(real));
        memset(out + high * spacing, 0, (size_t)((s.w - high) * spacing) * sizeof(real));
        real *to = out + low * spacing;
        if (solid) {
            memcpy(to, x, (size_t)((high - low) * n) * sizeof(real));
            continue;
        }
        for (int64_t i = low; i < high; i++, to += spacing, x += s.pitch_w * v->pixel) {
            int64_t c = 0;
            for (; c + W <= n; c += W) vstore(to + c, vload(x + c));
            for (; c < n; c++) to[c] = x[c];
            for (; c % W != 0 && c < spacing; c++) to[c] = 0;
        }
    }
}

static int64_t NAME(gather_bytes)(const struct conv2d_job *t) {
    const struct conv2d_view *v = &t->view;
    const int64_t rows = t->row1 - t->row0, cols = t->col1 - t->col0, taps = v->taps_h * v->taps_w;
    int64_t bytes = align64(rows * cols * (int64_t)sizeof *t->at);
    bytes += align64(rows * cols * (t->mode == CONV_POINTERS ? taps : 1) * (int64_t)sizeof *t->table);
    bytes += align64(taps * (v->depth / K_BLOCK + 1) * (int64_t)sizeof *t->segs);
    bytes += align64((rows * cols / t->few + 1) * (int64_t)sizeof *t->groups);
    bytes += align64(2 * rows * (int64_t)sizeof(struct conv2d_line));
    bytes += align64(cols * (int64_t)sizeof(struct conv2d_run));
    if (t->mode == CONV_POINTERS) bytes += align64(v->depth * (int64_t)sizeof(real));
    if (t->mode == CONV_COPY)
        bytes += align64(patch_rows_bound(v, rows, t->oh) * patch_of(v, 1, cols).w * v->depth * (int64_t)sizeof(real));
    return bytes;
}

/* Segments for `length` elements from row k of the panel on, of a row of taps. */
INLINE struct conv2d_seg *NAME(add_seg)(struct conv2d_seg *seg, int64_t row, int64_t offset, int64_t length, int64_t k,
                                        int64_t tap_row) {
    const int64_t pieces = (length + K_BLOCK - 1) / K_BLOCK;
    for (int64_t i = 0; i < pieces; i++) {
        const int64_t begin = length * i / pieces;
        *seg++ = (struct conv2d_seg){row, offset + begin, length * (i + 1) / pieces - begin, k + begin, tap_row};
    }
    return seg;
}

/* The segments of the sum over all taps. */
static void NAME(gather_segs)(struct conv2d_job *t, int64_t patch_w) {
    const struct conv2d_view *v = &t->view;
    struct conv2d_seg *seg = t->segs;
    const int64_t pixel = t->mode == CONV_COPY ? v->depth : v->pixel, depth = t->depthwise ? 1 : v->depth;
    const int64_t line = pixel * (t->mode == CONV_COPY ? patch_w : v->w);
    for (int64_t i = 0, tap = 0; i < v->taps_h; i++) {
        if (t->mode != CONV_POINTERS && !t->depthwise && v->step_w == 1 && pixel == v->depth) {
            seg = NAME(add_seg)(seg, 0, i * v->step_h * line, v->taps_w * depth, tap * depth, i);
            tap += v->taps_w;
            continue;
        }
        for (int64_t j = 0; j < v->taps_w; j++, tap++) {
            const int64_t row = t->mode == CONV_POINTERS ? tap : 0;
            const int64_t offset = t->mode == CONV_POINTERS ? 0 : i * v->step_h * line + j * v->step_w * pixel;
            seg = NAME(add_seg)(seg, row, offset, depth, tap * depth, i);
        }
    }
    t->n_segs = seg - t->segs;
}

/* The region's rows; where they read: in x, or in the patches, which are copied here. */
static void NAME(gather_lines)(const struct conv2d_job *t, struct conv2d_line *line, real *patch) {
    const struct conv2d_view *v = &t->view;
    const int64_t cols = t->col1 - t->col0;
    const struct patch_shape whole = patch_of(v, 1, cols);
    for (int64_t row = t->row0, copied = 0; row < t->row1;) {
        const int64_t image = row / t->oh, r0 = row % t->oh, r1 = smaller(t->oh, r0 + t->row1 - row);
        if (t->mode == CONV_COPY)
            NAME(copy_patch)(patch + copied, v, image, r0, r1 - r0, t->col0, cols, 0, v->depth, v->depth);
        for (int64_t r = r0; r < r1; r++, line++) {
            const int64_t y = r * v->stride_h + v->top;
            int64_t top = 0, bottom = v->taps_h;
            if (t->clips) inside(0, v->taps_h, v->step_h, y, v->h, &top, &bottom);
            line->at = image * t->y_image + r * t->y_row;
            line->from = t->mode == CONV_COPY
                             ? copied + ((r - r0) * whole.stride_h * whole.w - t->col0 * whole.stride_w) * v->depth
                             : ((image * v->h + y) * v->w + v->left) * v->pixel;
            line->top = (int32_t)top, line->bottom = (int32_t)bottom;
        }
        if (t->mode == CONV_COPY) copied += patch_of(v, r1 - r0, cols).h * whole.w * v->depth;
        row += r1 - r0;
    }
}

/* The region's columns; how many runs there are. */
static int64_t NAME(gather_runs)(const struct conv2d_job *t, struct conv2d_run *runs) {
    const struct conv2d_view *v = &t->view;
    struct conv2d_run *run = runs - 1;
    for (int64_t c = t->col0; c < t->col1; c++) {
        int64_t left = 0, right = v->taps_w;
        if (t->clips) inside(0, v->taps_w, v->step_w, c * v->stride_w + v->left, v->w, &left, &right);
        if (run < runs || run->left != left || run->right != right)
            *++run = (struct conv2d_run){c, c, (int32_t)left, (int32_t)right};
        run->col1 = c + 1;
    }
    return run + 1 - runs;
}

/* The pixels of a run on a line, p and those after it; they read `each` elements apart. */
static void NAME(gather_run)(const struct conv2d_job *t, const struct conv2d_line *line, const struct conv2d_run *run,
                             int64_t each, int64_t p, const real *area) {
    const struct conv2d_view *v = &t->view;
    const real **table = (const real **)t->table + p;
    const real *x = (t->mode == CONV_COPY ? area : (const real *)v->x) + line->from;
    const int64_t c0 = run->col0, n = run->col1 - c0;
    for (int64_t c = 0; c < n; c++) t->at[p + c] = line->at + (c0 + c) * t->y_pixel;
    if (t->mode != CONV_POINTERS) {
        for (int64_t c = 0; c < n; c++) table[c] = x + (c0 + c) * each;
        return;
    }
    for (int64_t i = 0; i < v->taps_h; i++)
        for (int64_t j = 0; j < v->taps_w; j++, table += t->pixels) {
            if (i < line->top || i >= line->bottom || j < run->left || j >= run->right) {
                for (int64_t c = 0; c < n; c++) table[c] = area;
                continue;
            }
            const real *tap = x + (i * v->step_h * v->w + j * v->step_w) * v->pixel;
            for (int64_t c = 0; c < n; c++) table[c] = tap + (c0 + c) * each;
        }
}

INLINE void NAME(join)(struct conv2d_group *g, const struct conv2d_group *other) {
    if (g->pixels == 0) *g = (struct conv2d_group){0, other->top, other->bottom, other->left, other->right};
    g->pixels += other->pixels;
    g->top = g->top < other->top ? g->top : other->top;
    g->left = g->left < other->left ? g->left : other->left;
    g->bottom = g->bottom > other->bottom ? g->bottom : other->bottom;
    g->right = g->right > other->right ? g->right : other->right;
}

/* Pixels whose taps inside the image are the same lie together, so that tiles leave out those outside. Along rows and
 * columns they move from the last taps to the first: top + bottom tells rows apart, and neighbours in this order
 * have nearly the same. Groups of few pixels are joined to a neighbour of the same rows. */
static void NAME(gather)(struct conv2d_job *t, void *scratch) {
    const struct conv2d_view *v = &t->view;
    const int64_t rows = t->row1 - t->row0, cols = t->col1 - t->col0, pixels = rows * cols;
    const int64_t taps = v->taps_h * v->taps_w;
    char *free_from = scratch;
    t->pixels = pixels;
    t->at = (int64_t *)free_from;
    free_from += align64(pixels * (int64_t)sizeof *t->at);
    t->table = (const void **)free_from;
    free_from += align64(pixels * (t->mode == CONV_POINTERS ? taps : 1) * (int64_t)sizeof *t->table);
    t->segs = (struct conv2d_seg *)free_from;
    free_from += align64(taps * (v->depth / K_BLOCK + 1) * (int64_t)sizeof *t->segs);
    t->groups = (struct conv2d_group *)free_from;
    free_from += align64((pixels / t->few + 1) * (int64_t)sizeof *t->groups);
    struct conv2d_line *lines = (struct conv2d_line *)free_from, *same = lines + rows;
    free_from += align64(2 * rows * (int64_t)sizeof *lines);
    struct conv2d_run *runs = (struct conv2d_run *)free_from;
    free_from += align64(cols * (int64_t)sizeof *runs);
    real *area = (real *)free_from; /* the zeros, or the patches */

    t->clips = t->mode == CONV_POINTERS || (t->mode == CONV_COPY && taps * v->depth >= LONG_SUM);
    if (t->mode == CONV_POINTERS) memset(area, 0, (size_t)v->depth * sizeof(real));
    NAME(gather_lines)(t, lines, area);
    NAME(gather_segs)(t, patch_of(v, 1, cols).w);
    const struct conv2d_run *end = runs + NAME(gather_runs)(t, runs);
    const int64_t each = t->mode == CONV_COPY ? patch_of(v, 1, 1).stride_w * v->depth : v->stride_w * v->pixel;
    struct conv2d_group *g = t->groups;
    *g = (struct conv2d_group){0};
    for (int64_t key = 2 * v->taps_h, p = 0; p < pixels; key--) {
        int64_t n = 0;
        for (int64_t r = 0; r < rows; r++)
            if (lines[r].top + lines[r].bottom == key) same[n++] = lines[r];
        int64_t left = n * cols; /* pixels of these rows that are in no group yet */
        for (const struct conv2d_run *run = runs; left > 0 && run < end; run++) {
            const int64_t each_line = run->col1 - run->col0;
            if (g->pixels >= t->few && left >= t->few) *++g = (struct conv2d_group){0};
            NAME(join)(g, &(struct conv2d_group){n * each_line, same->top, same->bottom, run->left, run->right});
            for (int64_t r = 0; r < n; r++, p += each_line) NAME(gather_run)(t, same + r, run, each, p, area);
            left -= n * each_line;
        }
    }
    t->n_groups = g + 1 - t->groups;
}

/* ---- gradient for the weights -------------------------------------------------------------- */

/* What a block of outputs reads, and the gradients that came for it. */
struct NAME(weight_block) {
    const real *x;        /* row m of the tile reads x[rows[m]] for the block's first output */
    const int64_t *lines; /* (h,): where each row of outputs begins to read, in pixels */
    int64_t h, w, spacing, stride;
    const real *dy; /* (h, w, width of the panel) */
};

/* out (rows, n) (+)= sum, where n columns do not fill the vectors. */
static __attribute__((noinline)) void NAME(add_some)(const real *sum, int64_t width, int64_t rows, real *out,
                                                     int64_t out_row, int64_t n, int begins) {
    for (int64_t m = 0; m < rows; m++, sum += width, out += out_row)
        for (int64_t c = 0; c < n; c += W) {
            const int left = (int)smaller(n - c, W);
            NAME(store_some)(out + c, begins ? vload(sum + c) : vload_n(out + c, left) + vload(sum + c), left);
        }
}

INLINE void NAME(weight_tile)(const int rows, const int vecs, const int depthwise, const struct NAME(weight_block) *b,
                              const int64_t *offsets, real *out, int64_t out_row, int64_t n, int begins) {
    vec sum[TILE1][2];
    const real *x[TILE1], *dy = b->dy;
    UNROLL for (int m = 0; m < rows; m++) {
        x[m] = b->x + offsets[m];
        sum[m][0] = sum[m][1] = vzero();
    }
    const int64_t step = b->stride * b->spacing;
    for (int64_t r = 0; r < b->h; r++) {
        int64_t i = b->lines[r] * b->spacing;
        for (int64_t c = b->w; c > 0; c--) {
            vec g0 = vload(dy), g1 = vecs == 2 ? vload(dy + W) : vzero();
            UNROLL for (int m = 0; m < rows; m++) {
                vec a = depthwise ? vload(x[m] + i) : vset(x[m][i]);
                sum[m][0] = vfma(a, g0, sum[m][0]);
                if (vecs == 2) sum[m][1] = vfma(a, g1, sum[m][1]);
            }
            i += step;
            dy += vecs * W;
        }
    }
    if (n < vecs * W) {
        real spare[TILE1 * LANES2];
        UNROLL for (int m = 0; m < rows; m++) {
            vstore(spare + m * vecs * W, sum[m][0]);
            if (vecs == 2) vstore(spare + m * vecs * W + W, sum[m][1]);
        }
        NAME(add_some)(spare, vecs * W, rows, out, out_row, n, begins);
        return;
    }
    UNROLL for (int m = 0; m < rows; m++, out += out_row) {
        if (!begins) {
            sum[m][0] = vload(out) + sum[m][0];
            if (vecs == 2) sum[m][1] = vload(out + W) + sum[m][1];
        }
        vstore(out, sum[m][0]);
        if (vecs == 2) vstore(out + W, sum[m][1]);
    }
}

typedef void (*NAME(weight_fn))(const struct NAME(weight_block) *b, const int64_t *offsets, real *out, int64_t out_row,
                                int64_t n, int begins);
#define TILE_FN(name, rows, vecs, depthwise)                                                         \
    static void NAME(name##rows)(const struct NAME(weight_block) *b, const int64_t *offsets, real *out, \
                                 int64_t out_row, int64_t n, int begins) {                           \
        NAME(weight_tile)(rows, vecs, depthwise, b, offsets, out, out_row, n, begins);               \
    }
#define WIDE(m) TILE_FN(weight_wide, m, 2, 0)
#define NARROW(m) TILE_FN(weight_narrow, m, 1, 0)
#define CHANNELS1(m) TILE_FN(weight_channels, m, 1, 1)
/* clang-format off */
EACH_TILE2(WIDE) EACH_TILE1(NARROW) EACH_TILE1(CHANNELS1)
#undef WIDE
#undef NARROW
#undef CHANNELS1
#define WIDE(m) NAME(weight_wide##m),
#define NARROW(m) NAME(weight_narrow##m),
#define CHANNELS1(m) NAME(weight_channels##m),
static const NAME(weight_fn) NAME(weight_wide)[] = {NULL, EACH_TILE2(WIDE)};
static const NAME(weight_fn) NAME(weight_narrow)[] = {NULL, EACH_TILE1(NARROW)};
static const NAME(weight_fn) NAME(weight_channels)[] = {NULL, EACH_TILE1(CHANNELS1)};
/* clang-format on */
#undef WIDE
#undef NARROW
#undef CHANNELS1
#undef TILE_FN

/* How the rows (tap, channel) of dw are cut into tiles. */
struct NAME(weight_plan) {
    int64_t merged;  /* few channels: the rows of all taps are one list, over a patch of all channels */
    int64_t groups;  /* of channels, each copied into a patch of its own */
    int64_t spacing; /* from pixel to pixel of a patch */
    int64_t offsets; /* entries of the list of rows */
    int64_t panels, outputs, patch; /* panels of dy; outputs of a block; elements of a block's patches */
};

/* An odd number of cache lines from pixel to pixel: they are spread over all sets of L1. */
INLINE int64_t NAME(patch_spacing)(int64_t channels) {
    const int64_t line = 64 / (int64_t)sizeof(real);
    return ((channels + line - 1) / line | 1) * line;
}

INLINE struct NAME(weight_plan) NAME(plan_weight)(const struct conv2d_weight_job *t) {
    const struct conv2d_view *v = &t->view;
    const int64_t depth = t->depth1 - t->depth0, taps = v->taps_h * v->taps_w;
    struct NAME(weight_plan) plan;
    plan.merged = !t->depthwise && depth == v->depth && depth <= 8;
    plan.groups = t->depthwise || plan.merged ? 1 : (depth + PATCH_CHANNELS - 1) / PATCH_CHANNELS;
    const int64_t most = plan.groups ? (depth + plan.groups - 1) / plan.groups : 0;
    plan.spacing = t->depthwise ? W : plan.merged ? depth : NAME(patch_spacing)(most);
    plan.offsets = t->depthwise ? taps : plan.merged ? taps * depth : most;
    plan.panels = t->depthwise ? 1 : (t->n + LANES2 - 1) / LANES2;
    plan.outputs = t->block_rows * t->block_cols;
    plan.patch = patch_rows_bound(v, t->block_rows, t->oh) * patch_of(v, 1, t->block_cols).w * plan.spacing;
    return plan;
}

static int64_t NAME(weight_grad_bytes)(const struct conv2d_weight_job *t) {
    struct NAME(weight_plan) plan = NAME(plan_weight)(t);
    if (!t->depthwise && !plan.merged) { /* a chunk of fewer channels may copy more of them at a time */
        plan.offsets = smaller(t->depth1 - t->depth0, PATCH_CHANNELS);
        plan.patch = plan.patch / plan.spacing * NAME(patch_spacing)(plan.offsets);
    }
    int64_t reals = plan.patch + plan.panels * plan.outputs * LANES2;
    if (t->depthwise) reals += t->view.taps_h * t->view.taps_w * W;
    return align64((t->block_rows + plan.offsets) * (int64_t)sizeof(int64_t)) + reals * (int64_t)sizeof(real) + 4 * 64;
}

/* out (rows * cols, width) = n channels of a block of dy, zeros after them; dbias (+)= their sum. */
static void NAME(copy_gradients)(real *out, const struct conv2d_weight_job *t, int64_t row, int64_t rows, int64_t col,
                                 int64_t cols, int64_t first, int64_t n, real *dbias, int begins) {
    const int left = (int)smaller(n, W), right = (int)(n - left);
    vec sum0 = vzero(), sum1 = vzero();
    for (int64_t r = row; r < row + rows; r++) {
        const real *dy = (const real *)t->dy + (r * t->ow + col) * t->dy_pixel + first;
        for (int64_t c = 0; c < cols; c++, dy += t->dy_pixel) {
            vec v0 = vload_n(dy, left);
            vstore(out, v0);
            sum0 = sum0 + v0;
            out += W;
            if (n > W) {
                vec v1 = vload_n(dy + W, right);
                vstore(out, v1);
                sum1 = sum1 + v1;
                out += W;
            }
        }
    }
    if (!dbias) return;
    if (!begins) {
        sum0 = vload_n(dbias, left) + sum0;
        sum1 = vload_n(dbias + left, right) + sum1;
    }
    NAME(store_some)(dbias, sum0, left);
    NAME(store_some)(dbias + left, sum1, right);
}

/* Copies what a block reads, channels [c0, c0 + n), and says where its rows of outputs begin. */
static void NAME(copy_block)(real *patch, int64_t *lines, struct NAME(weight_block) *b,
                             const struct conv2d_weight_job *t, int64_t row, int64_t rows, int64_t col, int64_t cols,
                             int64_t c0, int64_t n, int64_t spacing) {
    const struct conv2d_view *v = &t->view;
    const struct patch_shape whole = patch_of(v, 1, cols);
    int64_t pixels = 0;
    for (int64_t r = row; r < row + rows;) {
        const int64_t image = r / t->oh, r0 = r % t->oh, r1 = smaller(t->oh, r0 + row + rows - r);
        NAME(copy_patch)(patch + pixels * spacing, v, image, r0, r1 - r0, col, cols, c0, n, spacing);
        for (int64_t i = 0; i < r1 - r0; i++) lines[r - row + i] = pixels + i * whole.stride_h * whole.w;
        pixels += patch_of(v, r1 - r0, cols).h * whole.w;
        r += r1 - r0;
    }
    b->x = patch;
    b->lines = lines;
    b->h = rows;
    b->w = cols;
    b->spacing = spacing;
    b->stride = whole.stride_w;
    if (v->taps_h == 1 && v->taps_w == 1) { /* the patch holds output after output */
        b->h = 1;
        b->w = rows * cols;
    }
}

/* out (taps, channels, ...) (+)= the sums over one block, for the channels in its patch. */
static void NAME(add_block)(const struct NAME(weight_plan) *plan, struct NAME(weight_block) *b,
                            const struct conv2d_weight_job *t, const real *gradients, int64_t *offsets, int64_t cols,
                            int64_t c0, int64_t channels, int begins) {
    const struct conv2d_view *v = &t->view;
    const int64_t patch_w = patch_of(v, 1, cols).w, lists = plan->merged ? 1 : v->taps_h * v->taps_w;
    const int64_t rows = plan->merged ? v->taps_h * v->taps_w * channels : channels;
    for (int64_t tap = 0; tap < lists; tap++) {
        if (!plan->merged) {
            const int64_t base = (tap / v->taps_w * v->step_h * patch_w + tap % v->taps_w * v->step_w) * plan->spacing;
            for (int64_t m = 0; m < rows; m++) offsets[m] = base + m;
        }
        for (int64_t j = 0; j < plan->panels; j++) {
            const int64_t first = j * LANES2, n = smaller(t->n - first, LANES2);
            const int64_t most = n > W ? TILE2 : TILE1, count = (rows + most - 1) / most;
            const NAME(weight_fn) *tiles = n > W ? NAME(weight_wide) : NAME(weight_narrow);
            b->dy = gradients + j * plan->outputs * LANES2;
            for (int64_t i = 0; i < count; i++) {
                const int64_t m = rows * i / count, size = rows * (i + 1) / count - m;
                real *out = (real *)t->dw + (tap * v->depth + c0 + m) * t->dw_row + t->first + first;
                tiles[size](b, offsets + m, out, t->dw_row, n, begins);
            }
        }
    }
}

static void NAME(weight_grad_channels)(const struct conv2d_weight_job *t, const struct NAME(weight_plan) *plan,
                                       int64_t *lines, int64_t *offsets, real *gradients, real *patch, real *sums) {
    const struct conv2d_view *v = &t->view;
    const int64_t taps = v->taps_h * v->taps_w;
    for (int64_t c0 = t->first; c0 < t->first + t->n; c0 += W) {
        const int64_t n = smaller(t->first + t->n - c0, W);
        int begins = 1;
        for (int64_t i = 0; i < taps * W; i++) sums[i] = 0;
        for (int64_t row = t->row0; row < t->row1; row += t->block_rows)
            for (int64_t col = t->col0; col < t->col1; col += t->block_cols, begins = 0) {
                const int64_t rows = smaller(t->block_rows, t->row1 - row),
                              cols = smaller(t->block_cols, t->col1 - col);
                const int64_t patch_w = patch_of(v, 1, cols).w;
                struct NAME(weight_block) b;
                NAME(copy_gradients)(gradients, t, row, rows, col, cols, c0, n, t->dbias ? (real *)t->dbias + c0 : NULL,
                                     begins && !t->accumulate);
                NAME(copy_block)(patch, lines, &b, t, row, rows, col, cols, c0, n, W);
                b.dy = gradients;
                for (int64_t tap = 0; tap < taps; tap++)
                    offsets[tap] = (tap / v->taps_w * v->step_h * patch_w + tap % v->taps_w * v->step_w) * W;
                const int64_t count = (taps + TILE1 - 1) / TILE1;
                for (int64_t i = 0; i < count; i++) {
                    const int64_t tap = taps * i / count, size = taps * (i + 1) / count - tap;
                    NAME(weight_channels)[size](&b, offsets + tap, sums + tap * W, W, W, begins);
                }
            }
        for (int64_t c = 0; c < n; c++)
            for (int64_t tap = 0; tap < taps; tap++) {
                real *out = (real *)t->dw + (c0 + c) * t->dw_row + tap;
                *out = t->accumulate ? *out + sums[tap * W + c] : sums[tap * W + c];
            }
    }
}

static void NAME(weight_grad)(const struct conv2d_weight_job *t) {
    const struct conv2d_view *v = &t->view;
    const struct NAME(weight_plan) plan = NAME(plan_weight)(t);
    const int64_t taps = v->taps_h * v->taps_w, depth = t->depth1 - t->depth0;
    int64_t *lines = t->scratch, *offsets = lines + t->block_rows;
    real *gradients = (real *)((char *)t->scratch + align64((t->block_rows + plan.offsets) * (int64_t)sizeof(int64_t)));
    real *patch = (real *)((char *)gradients + align64(plan.panels * plan.outputs * LANES2 * (int64_t)sizeof(real)));
    if (t->row0 == t->row1 && t->dbias && !t->accumulate)
        memset((real *)t->dbias + t->first, 0, (size_t)t->n * sizeof(real));
    if (t->depthwise) {
        real *sums = (real *)((char *)patch + align64(plan.patch * (int64_t)sizeof(real)));
        NAME(weight_grad_channels)(t, &plan, lines, offsets, gradients, patch, sums);
        return;
    }
    if (t->row0 == t->row1 && !t->accumulate)
        for (int64_t tap = 0; tap < taps; tap++)
            for (int64_t c = t->depth0; c < t->depth1; c++)
                memset((real *)t->dw + (tap * v->depth + c) * t->dw_row + t->first, 0, (size_t)t->n * sizeof(real));
    int begins = !t->accumulate;
    for (int64_t row = t->row0; row < t->row1; row += t->block_rows)
        for (int64_t col = t->col0; col < t->col1; col += t->block_cols, begins = 0) {
            const int64_t rows = smaller(t->block_rows, t->row1 - row), cols = smaller(t->block_cols, t->col1 - col);
            for (int64_t j = 0; j < plan.panels; j++) {
                const int64_t first = t->first + j * LANES2, n = smaller(t->first + t->n - first, LANES2);
                NAME(copy_gradients)(gradients + j * plan.outputs * LANES2, t, row, rows, col, cols, first, n,
                                     t->dbias ? (real *)t->dbias + first : NULL, begins);
            }
            struct NAME(weight_block) b;
            if (plan.merged) {
                const int64_t patch_w = patch_of(v, 1, cols).w;
                for (int64_t m = 0; m < taps * depth; m++) {
                    const int64_t tap = m / depth;
                    offsets[m] = (tap / v->taps_w * v->step_h * patch_w + tap % v->taps_w * v->step_w) * depth +
                                 m % depth;
                }
                NAME(copy_block)(patch, lines, &b, t, row, rows, col, cols, 0, depth, depth);
                NAME(add_block)(&plan, &b, t, gradients, offsets, cols, 0, depth, begins);
                continue;
            }
            for (int64_t i = 0; i < plan.groups; i++) {
                const int64_t c0 = t->depth0 + depth * i / plan.groups,
                              n = t->depth0 + depth * (i + 1) / plan.groups - c0;
                NAME(copy_block)(patch, lines, &b, t, row, rows, col, cols, c0, n, plan.spacing);
                NAME(add_block)(&plan, &b, t, gradients, offsets, cols, c0, n, begins);
            }
        }
}

#include "winograd.h"

static void NAME(sum)(void *out_, const void *parts_, int64_t n, int64_t count, int64_t stride) {
    real *out = out_;
    const real *parts = parts_;
    for (int64_t i = 0; i < n; i += W) {
        const int m = (int)smaller(n - i, W);
        vec v = vzero();
        for (int64_t p = 0; p < count; p++) v = v + vload_n(parts + p * stride + i, m);
        NAME(store_some)(out + i, v, m);
    }
}

static const struct conv2d_kernels NAME(table) = {
    .lanes = W,
    .pixels = TILE2,
    .narrow_pixels = TILE1,
    .rate = VEC_BYTES == 64   ? 5 * W
            : VEC_BYTES == 32 ? 6 * W
                              : 2 * W,
    .pack = NAME(pack_rows),
    .gather_bytes = NAME(gather_bytes),
    .gather = NAME(gather),
    .room = K_BLOCK * LANES2,
    .panel = NAME(panel),
    .winograd_depth = NAME(winograd_depth),
    .winograd_elements = NAME(winograd_elements),
    .winograd_pack_bytes = PACK_PANELS * 9 * (CONV_POINTS_DEPTH * LANES2 * (int64_t)sizeof(real) + 64),
    .winograd_pack = NAME(winograd_pack),
    .winograd_bytes = NAME(winograd_bytes),
    .winograd = NAME(winograd),
    .winograd_grad_bytes = NAME(winograd_grad_bytes),
    .winograd_sums_bytes = NAME(winograd_sums_bytes),
    .winograd_grad = NAME(winograd_grad),
    .weight_grad_bytes = NAME(weight_grad_bytes),
    .weight_grad = NAME(weight_grad),
    .sum = NAME(sum),
};
