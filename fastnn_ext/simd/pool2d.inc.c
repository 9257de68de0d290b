/* Pooling over channels-last images: vectors of channels, pixel by pixel.
 *
 * Where the channels do not fill their last vector it is moved back to end with them, and computes
 * some channels twice. Where they do not fill one, a row of outputs is made in scratch, each pixel
 * overwriting what the one before it wrote too much, and then copied.
 *
 * A gradient is gathered: each input adds, in a fixed order, what the windows that hold it send it.
 * Maxima whose windows do not overlap are scattered instead: each window writes all its inputs.
 */

#ifndef POOL2D_ONCE
#define POOL2D_ONCE
/* Of one output along one axis: its inputs are begin, begin + dilation, ... (count of them), the
 * first being tap `first` of the kernel; `span` taps lie inside the padded image. */
struct pool_window { int64_t begin, count, first, span; };

/* Whole dilations in a distance. Nearly all dilations are 1, and divisions take their time. */
INLINE int64_t dilations_in(int64_t distance, int64_t dilation) { return dilation == 1 ? distance : distance / dilation; }

INLINE struct pool_window window_of(int64_t o, int64_t size, int64_t outputs, int64_t k, int64_t stride, int64_t pad, int64_t dilation) {
    struct pool_window w;
    if (k == 0) {
        w.begin = o * size / outputs;
        w.count = w.span = ((o + 1) * size + outputs - 1) / outputs - w.begin;
        w.first = 0;
        return w;
    }
    const int64_t start = o * stride - pad;
    w.first = start < 0 ? (-start + dilation - 1) / dilation : 0;
    w.begin = start + w.first * dilation;
    w.count = start < size ? dilations_in(size - 1 - start, dilation) + 1 : 0;
    w.count = (w.count < k ? w.count : k) - w.first;
    if (w.count < 0) w.count = 0;
    w.span = dilations_in(size + pad - 1 - start, dilation) + 1;
    if (w.span > k) w.span = k;
    return w;
}

/* One window that holds an input: output `out` along the axis, of which the input is tap `tap`. */
struct pool_source { int64_t out, tap; };

/* The windows that hold input i, in order; returns how many. */
INLINE int64_t sources_of(struct pool_source *s, int64_t i, int64_t size, int64_t outputs, int64_t k, int64_t stride,
                          int64_t pad, int64_t dilation) {
    int64_t n = 0;
    if (k == 0) {
        int64_t o = i * outputs / size;
        while (o > 0 && (o * size + outputs - 1) / outputs > i) o--;
        for (; o < outputs && o * size / outputs <= i; o++) s[n++] = (struct pool_source){o, 0};
        return n;
    }
    const int64_t low = i + pad - (k - 1) * dilation;
    for (int64_t o = low > 0 ? (low + stride - 1) / stride : 0; o < outputs && o * stride <= i + pad; o++) {
        const int64_t t = i + pad - o * stride;
        const int64_t tap = dilations_in(t, dilation);
        if (tap * dilation == t) s[n++] = (struct pool_source){o, tap};
    }
    return n;
}

/* The most that sources_of returns. */
INLINE int64_t sources_bound(int64_t size, int64_t outputs, int64_t k, int64_t stride, int64_t dilation) {
    return k == 0 ? outputs / size + 2 : (k - 1) * dilation / stride + 1;
}

/* The most outputs that `inputs` inputs side by side lie in the windows of. */
INLINE int64_t outputs_bound(int64_t inputs, int64_t size, int64_t outputs, int64_t k, int64_t stride, int64_t dilation) {
    const int64_t bound = k == 0 ? inputs * outputs / size + 2 : (inputs - 1 + (k - 1) * dilation) / stride + 1;
    return bound < outputs ? bound : outputs;
}

/* Part `part` of `parts` of a window's inputs along one axis. */
INLINE struct pool_window part_of_window(struct pool_window w, int64_t part, int64_t parts, int64_t dilation) {
    if (parts == 1) return w; /* as a rule */
    const int64_t begin = w.count * part / parts;
    w.begin += begin * dilation;
    w.first += begin;
    w.count = w.count * (part + 1) / parts - begin;
    return w;
}

/* Whether windows are read at once; whether this is their first part, or the last. */
INLINE int whole_windows(const struct pool2d_job *t) { return t->down_parts == 1 && t->across_parts == 1; }
INLINE int begins_windows(const struct pool2d_job *t) { return t->down == 0 && t->across == 0; }
INLINE int ends_windows(const struct pool2d_job *t) {
    return t->down == t->down_parts - 1 && t->across == t->across_parts - 1;
}

INLINE int64_t pool_align(int64_t bytes) { return (bytes + 63) & ~(int64_t)63; }
#endif

/* BODY(c, n) for vectors of channels: from channel c, of which n count. */
#define POOL_CHANNELS(channels, BODY)                                                 \
    if ((channels) < W) {                                                             \
        BODY(0, (int)(channels))                                                      \
    } else {                                                                          \
        for (int64_t c = 0, last = (channels) - W;; c = c + W < last ? c + W : last) { \
            BODY(c, W)                                                                \
            if (c == last) break;                                                     \
        }                                                                             \
    }

INLINE vec NAME(pool_load)(const real *p, int n) { return n == W ? vload(p) : vload_n(p, n); }

static int64_t NAME(forward_bytes)(const struct pool2d_job *t) {
    const int64_t cols = t->col1 - t->col0, n = cols * (t->c1 - t->c0) + W;
    return pool_align(cols * (int64_t)sizeof(struct pool_window)) + pool_align(n * (int64_t)sizeof(real)) +
           n * (int64_t)sizeof(ireal);
}

/* What a forward pass works with. */
struct NAME(pool_forward) {
    struct pool_window *cols; /* this part of the windows */
    real *row;     /* (columns, channels) and a vector more */
    ireal *places; /* the same */
};

/* A row of pixels of some channels, and what was made of it: the pixels of `far` are t->c channels apart. */
INLINE void NAME(move_row)(const struct pool2d_job *t, int out, real *far, real *row, int64_t cols) {
    const int64_t n = t->c1 - t->c0, runs = n == t->c ? 1 : cols, length = n == t->c ? cols * n : n;
    for (int64_t i = 0; i < runs; i++) {
        real *to = out ? far + i * t->c : row + i * n;
        memcpy(to, out ? row + i * n : far + i * t->c, (size_t)length * sizeof(real));
    }
}

INLINE struct NAME(pool_forward) NAME(start_forward)(const struct pool2d_job *t) {
    const int64_t cols = t->col1 - t->col0;
    struct NAME(pool_forward) f;
    f.cols = t->scratch;
    f.row = (real *)((char *)t->scratch + pool_align(cols * (int64_t)sizeof(struct pool_window)));
    f.places = (ireal *)((char *)f.row + pool_align((cols * (t->c1 - t->c0) + W) * (int64_t)sizeof(real)));
    for (int64_t o = t->col0; o < t->col1; o++)
        f.cols[o - t->col0] = part_of_window(window_of(o, t->iw, t->ow, t->kw, t->stride_w, t->pad_left, t->dilation_w),
                                             t->across, t->across_parts, t->dilation_w);
    return f;
}

/* ---- maxima --------------------------------------------------------------------------------- */

/* The maximum of rows x cols pixels and, if `places`, where it is: place, + row_place a row, +
 * col_place a column. The first of equals; NaN wins, the last one if there are more, as in PyTorch. */
INLINE void NAME(max_window)(const int64_t rows, const int64_t cols, const real *x, int64_t row_step, int64_t col_step,
                             int64_t channels, real *y, ireal *places, int64_t place, int64_t row_place, int64_t col_place,
                             const int begins) {
#define BODY(c, n)                                                                          \
    const real *line = x + (c);                                                             \
    vec best = vset(-(real)INFINITY), at = vasf(viset((ireal)place));                       \
    if (!begins) best = NAME(pool_load)(y + (c), n);                                        \
    if (!begins && places) at = vload((const real *)(places + (c)));                        \
    int64_t line_place = place;                                                             \
    for (int64_t i = 0; i < rows; i++, line += row_step, line_place += row_place)           \
        for (int64_t j = 0; j < cols; j++) {                                         \
            const vec v = NAME(pool_load)(line + j * col_step, n);                          \
            const vmask wins = vmor(vgt(v, best), visnan(v));                               \
            best = vsel(wins, v, best);                                                     \
            if (places) at = vsel(wins, vasf(viset((ireal)(line_place + j * col_place))), at); \
        }                                                                                   \
    vstore(y + (c), best);                                                                  \
    if (places) vstore((real *)(places + (c)), at);
    POOL_CHANNELS(channels, BODY)
#undef BODY
}

INLINE void NAME(max_rows)(const struct pool2d_job *t, const int wanted, const int whole) {
    const struct NAME(pool_forward) f = NAME(start_forward)(t);
    const int64_t channels = t->c, n = t->c1 - t->c0, cols = t->col1 - t->col0, direct = n >= W;
    const int64_t pixel = direct ? channels : n;
    const int64_t row_step = t->dilation_h * t->iw * channels, col_step = t->dilation_w * channels;
    const int64_t row_place = t->flat ? t->dilation_h * t->iw : t->kw, col_place = t->flat ? t->dilation_w : 1;
    const int64_t none = t->flat ? -1 : t->kh * t->kw;
    const int64_t runs = n == channels ? 1 : cols, length = n == channels ? cols * n : n;
    const int begins = whole || begins_windows(t);
    for (int64_t r = t->row0; r < t->row1; r++) {
        const struct pool_window h = part_of_window(
            window_of(r % t->oh, t->ih, t->oh, t->kh, t->stride_h, t->pad_top, t->dilation_h), t->down, t->down_parts,
            t->dilation_h);
        const real *x = (const real *)t->in + (r / t->oh * t->ih + h.begin) * t->iw * channels + t->c0;
        const int64_t at = (r * t->ow + t->col0) * channels + t->c0;
        real *y = direct ? (real *)t->out + at : f.row;
        if (!begins) {
            if (!direct) NAME(move_row)(t, 0, (real *)t->out + at, f.row, cols);
            for (int64_t i = 0; wanted && i < cols * n; i++)
                f.places[i] = ((int32_t *)t->index)[at + i / n * channels + i % n];
        }
        for (int64_t o = 0; o < cols; o++, y += pixel) {
            const struct pool_window w = f.cols[o];
            const real *from = x + w.begin * channels;
            const int64_t place = h.count < 1 || w.count < 1 ? none
                                  : t->flat ? h.begin * t->iw + w.begin : h.first * t->kw + w.first;
            ireal *places = wanted ? f.places + o * n : NULL;
            if (whole && h.count == 2 && w.count == 2)
                NAME(max_window)(2, 2, from, row_step, col_step, n, y, places, place, row_place, 1, 1);
            else if (whole && h.count == 3 && w.count == 3)
                NAME(max_window)(3, 3, from, row_step, col_step, n, y, places, place, row_place, 1, 1);
            else
                NAME(max_window)(h.count, w.count, from, row_step, col_step, n, y, places, place, row_place, col_place, begins);
        }
        if (!direct) NAME(move_row)(t, 1, (real *)t->out + at, f.row, cols);
        if (!wanted) continue;
        for (int64_t k = 0; k < runs; k++) {
            const ireal *places = f.places + k * n;
            if (t->flat)
                for (int64_t i = 0; i < length; i++) ((int32_t *)t->index)[at + k * channels + i] = (int32_t)places[i];
            else
                for (int64_t i = 0; i < length; i++) ((uint8_t *)t->index)[at + k * channels + i] = (uint8_t)places[i];
        }
    }
}

RARE void NAME(max_parts)(const struct pool2d_job *t) { NAME(max_rows)(t, t->index != NULL, 0); }

static void NAME(max)(const struct pool2d_job *t) {
    if (!whole_windows(t)) NAME(max_parts)(t);
    else if (t->index) NAME(max_rows)(t, 1, 1);
    else NAME(max_rows)(t, 0, 1);
}

/* ---- averages ------------------------------------------------------------------------------- */

INLINE real NAME(divisor)(const struct pool2d_job *t, const struct pool_window *h, const struct pool_window *w) {
    if (t->divisor) return (real)t->divisor;
    if (h->count < 1 || w->count < 1) return 1;
    return (real)(t->count_include_pad ? h->span * w->span : h->count * w->count);
}

INLINE void NAME(avg_rows)(const struct pool2d_job *t, const int whole) {
    const struct NAME(pool_forward) f = NAME(start_forward)(t);
    const int64_t channels = t->c, count = t->c1 - t->c0, cols = t->col1 - t->col0, direct = count >= W;
    const int64_t pixel = direct ? channels : count;
    const int64_t row_step = t->dilation_h * t->iw * channels, col_step = t->dilation_w * channels;
    const int begins = whole || begins_windows(t), ends = whole || ends_windows(t);
    for (int64_t r = t->row0; r < t->row1; r++) {
        const struct pool_window all = window_of(r % t->oh, t->ih, t->oh, t->kh, t->stride_h, t->pad_top, t->dilation_h);
        const struct pool_window h = part_of_window(all, t->down, t->down_parts, t->dilation_h);
        const real *x = (const real *)t->in + (r / t->oh * t->ih + h.begin) * t->iw * channels + t->c0;
        const int64_t at = (r * t->ow + t->col0) * channels + t->c0;
        real *y = direct ? (real *)t->out + at : f.row;
        if (!begins && !direct) NAME(move_row)(t, 0, (real *)t->out + at, f.row, cols);
        for (int64_t o = 0; o < cols; o++, y += pixel) {
            const struct pool_window w = f.cols[o];
            const struct pool_window across =
                whole ? w : window_of(t->col0 + o, t->iw, t->ow, t->kw, t->stride_w, t->pad_left, t->dilation_w);
            const vec divisor = vset(ends ? NAME(divisor)(t, &all, &across) : 1);
/* Row by row: the sum of sums of a row rounds less than one long sum. */
#define BODY(c, n)                                                                      \
    vec sum = begins ? vzero() : NAME(pool_load)(y + (c), n);                           \
    const real *line = x + w.begin * channels + (c);                                    \
    for (int64_t i = 0; i < h.count; i++, line += row_step) {                           \
        vec part = vzero();                                                             \
        for (int64_t j = 0; j < w.count; j++) part = part + NAME(pool_load)(line + j * col_step, n); \
        sum = sum + part;                                                               \
    }                                                                                   \
    vstore(y + (c), sum / divisor);
            POOL_CHANNELS(count, BODY)
#undef BODY
        }
        if (!direct) NAME(move_row)(t, 1, (real *)t->out + at, f.row, cols);
    }
}

RARE void NAME(avg_parts)(const struct pool2d_job *t) { NAME(avg_rows)(t, 0); }

static void NAME(avg)(const struct pool2d_job *t) {
    if (whole_windows(t)) NAME(avg_rows)(t, 1);
    else NAME(avg_parts)(t);
}

/* ---- gradients ------------------------------------------------------------------------------ */

INLINE int64_t NAME(most_rows)(const struct pool2d_job *t) {
    return sources_bound(t->ih, t->oh, t->kh, t->stride_h, t->dilation_h);
}
INLINE int64_t NAME(most_cols)(const struct pool2d_job *t) {
    return sources_bound(t->iw, t->ow, t->kw, t->stride_w, t->dilation_w);
}

INLINE int64_t NAME(most_outputs)(const struct pool2d_job *t) {
    return outputs_bound(t->col1 - t->col0, t->iw, t->ow, t->kw, t->stride_w, t->dilation_w);
}

static int64_t NAME(backward_bytes)(const struct pool2d_job *t) {
    const int64_t cols = t->col1 - t->col0, n = t->c1 - t->c0, outputs = NAME(most_outputs)(t);
    const int64_t sources = NAME(most_rows)(t) + cols * (NAME(most_cols)(t) + 1);
    return pool_align(sources * (int64_t)sizeof(struct pool_source)) +
           pool_align((NAME(most_rows)(t) + outputs) * (int64_t)sizeof(real)) +
           pool_align((cols * n + W) * (int64_t)sizeof(real)) + (NAME(most_rows)(t) * outputs * n + W) * (int64_t)sizeof(ireal);
}

/* What a gather works with. */
struct NAME(pool_backward) {
    struct pool_source *rows, *cols; /* (most_rows,); (columns, most_cols + 1), the last: how many */
    real *row;
    int64_t out0, out1; /* columns of outputs that the inputs reach */
    ireal *places;      /* (most_rows, out1 - out0, channels) */
    real *row_counts, *col_counts; /* (most_rows,), (out1 - out0,): factors of averages' divisors */
};

INLINE struct NAME(pool_backward) NAME(start_backward)(const struct pool2d_job *t) {
    const int64_t cols = t->col1 - t->col0, most = NAME(most_cols)(t) + 1;
    struct NAME(pool_backward) b;
    b.rows = t->scratch;
    b.cols = b.rows + NAME(most_rows)(t);
    b.row_counts = (real *)((char *)t->scratch +
                            pool_align((NAME(most_rows)(t) + cols * most) * (int64_t)sizeof(struct pool_source)));
    b.col_counts = b.row_counts + NAME(most_rows)(t);
    b.row = (real *)((char *)b.row_counts +
                     pool_align((NAME(most_rows)(t) + NAME(most_outputs)(t)) * (int64_t)sizeof(real)));
    b.places = (ireal *)((char *)b.row + pool_align((cols * (t->c1 - t->c0) + W) * (int64_t)sizeof(real)));
    b.out0 = t->ow;
    b.out1 = 0;
    for (int64_t i = 0; i < cols; i++) {
        struct pool_source *s = b.cols + i * most;
        const int64_t n = s[most - 1].out = sources_of(s, t->col0 + i, t->iw, t->ow, t->kw, t->stride_w, t->pad_left, t->dilation_w);
        if (n > 0 && s[0].out < b.out0) b.out0 = s[0].out;
        if (n > 0 && s[n - 1].out >= b.out1) b.out1 = s[n - 1].out + 1;
    }
    return b;
}

/* The places of columns [out0, out1) of a row of outputs, which lies at `at`. */
INLINE void NAME(widen)(ireal *places, const struct pool2d_job *t, int64_t at, int64_t out0, int64_t out1) {
    const int64_t n = t->c1 - t->c0, runs = n == t->c ? 1 : out1 - out0, length = n == t->c ? (out1 - out0) * n : n;
    for (int64_t k = 0; k < runs; k++, places += n) {
        const int64_t from = at + (out0 + k) * t->c + t->c0;
        if (t->flat)
            for (int64_t i = 0; i < length; i++) places[i] = ((const int32_t *)t->index)[from + i];
        else
            for (int64_t i = 0; i < length; i++) places[i] = ((const uint8_t *)t->index)[from + i];
    }
}

INLINE void NAME(gather)(const struct pool2d_job *t, const int max, const int whole) {
    const struct NAME(pool_backward) b = NAME(start_backward)(t);
    const int64_t channels = t->c, own = t->c1 - t->c0, cols = t->col1 - t->col0, direct = own >= W;
    const int64_t line = t->ow * channels, places_line = (b.out1 - b.out0) * own, most = NAME(most_cols)(t) + 1;
    const int64_t pixel = direct ? channels : own;
    const int begins = whole || begins_windows(t);
    const real *in = (const real *)t->in + t->c0;
    const real *col_counts = b.col_counts - b.out0;    /* by outputs */
    const ireal *places = b.places - b.out0 * own;
    for (int64_t o = b.out0; !max && o < b.out1; o++) {
        const struct pool_window w = window_of(o, t->iw, t->ow, t->kw, t->stride_w, t->pad_left, t->dilation_w);
        b.col_counts[o - b.out0] = (real)(t->divisor ? t->divisor : t->count_include_pad ? w.span : w.count);
    }
    for (int64_t r = t->row0; r < t->row1; r++) {
        const int64_t y = r % t->ih, at = (r * t->iw + t->col0) * channels + t->c0;
        const int64_t all = sources_of(b.rows, y, t->ih, t->oh, t->kh, t->stride_h, t->pad_top, t->dilation_h);
        const int64_t image = r / t->ih * t->oh, row0 = whole ? 0 : all * t->down / t->down_parts;
        const int64_t row1 = whole ? all : all * (t->down + 1) / t->down_parts;
        real *dx = direct ? (real *)t->out + at : b.row;
        if (!begins && !direct) NAME(move_row)(t, 0, (real *)t->out + at, b.row, cols);
        for (int64_t i = row0; i < row1 && b.out0 < b.out1; i++) {
            const int64_t o = b.rows[i].out;
            if (max) {
                NAME(widen)(b.places + i * places_line, t, (image + o) * line, b.out0, b.out1);
                continue;
            }
            const struct pool_window w = window_of(o, t->ih, t->oh, t->kh, t->stride_h, t->pad_top, t->dilation_h);
            b.row_counts[i] = (real)(t->divisor ? 1 : t->count_include_pad ? w.span : w.count);
        }
        for (int64_t p = 0; p < cols; p++, dx += pixel) {
            const struct pool_source *s = b.cols + p * most;
            const int64_t count = s[most - 1].out, left = whole ? 0 : count * t->across / t->across_parts;
            const int64_t right = whole ? count : count * (t->across + 1) / t->across_parts;
#define BODY(c, n)                                                                                      \
    vec sum = begins ? vzero() : NAME(pool_load)(dx + (c), n);                                          \
    for (int64_t i = row0; i < row1; i++) {                                                             \
        const real *dy = in + (image + b.rows[i].out) * line + (c);                                     \
        for (int64_t j = left; j < right; j++) {                                                        \
            const vec v = NAME(pool_load)(dy + s[j].out * channels, n);                                 \
            if (max) {                                                                                  \
                const int64_t place = t->flat ? y * t->iw + t->col0 + p : b.rows[i].tap * t->kw + s[j].tap; \
                const ireal *at_ = places + i * places_line + s[j].out * own + (c);                    \
                sum = sum + vasf(vasi(v) & (veci)(vasi(vload((const real *)at_)) == viset((ireal)place))); \
            } else {                                                                                    \
                sum = sum + v / vset(b.row_counts[i] * col_counts[s[j].out]);                           \
            }                                                                                           \
        }                                                                                               \
    }                                                                                                   \
    vstore(dx + (c), sum);
            POOL_CHANNELS(own, BODY)
#undef BODY
        }
        if (!direct) NAME(move_row)(t, 1, (real *)t->out + at, b.row, cols);
    }
}

RARE void NAME(max_gather_parts)(const struct pool2d_job *t) { NAME(gather)(t, 1, 0); }
RARE void NAME(avg_gather_parts)(const struct pool2d_job *t) { NAME(gather)(t, 0, 0); }

static void NAME(max_gather)(const struct pool2d_job *t) {
    if (whole_windows(t)) NAME(gather)(t, 1, 1);
    else NAME(max_gather_parts)(t);
}
static void NAME(avg_gather)(const struct pool2d_job *t) {
    if (whole_windows(t)) NAME(gather)(t, 0, 1);
    else NAME(avg_gather_parts)(t);
}

/* Windows that do not overlap, of all columns and channels: each row of inputs that belongs to a row of windows is
 * written from left to right. */
static void NAME(max_scatter)(const struct pool2d_job *t) {
    const struct NAME(pool_backward) b = NAME(start_backward)(t); /* b.places hold all columns: none overlap */
    const int64_t channels = t->c, direct = channels >= W, line = t->ow * channels;
    for (int64_t r = t->row0; r < t->row1; r++) {
        const int64_t o = r % t->oh, image = r / t->oh;
        const int64_t top = o * t->stride_h - t->pad_top;
        const int64_t y0 = o == 0 ? 0 : top, y1 = o == t->oh - 1 ? t->ih : top + t->stride_h;
        NAME(widen)(b.places, t, r * line, 0, t->ow);
        for (int64_t y = y0 < 0 ? 0 : y0; y < y1 && y < t->ih; y++) {
            real *out = (real *)t->out + (image * t->ih + y) * t->iw * channels;
            real *row = direct ? out : b.row;
            const int64_t i = (y - top) / t->dilation_h;
            int64_t done = 0; /* columns of this row */
            if (i < t->kh && (y - top) % t->dilation_h == 0)
                for (int64_t p = 0; p < t->ow; p++)
                    for (int64_t j = 0; j < t->kw; j++) {
                        const int64_t x = p * t->stride_w - t->pad_left + j * t->dilation_w;
                        if (x < 0 || x >= t->iw) continue;
                        if (x > done) memset(row + done * channels, 0, (size_t)((x - done) * channels) * sizeof(real));
                        const veci place = viset((ireal)(i * t->kw + j));
                        const real *dy = (const real *)t->in + r * line + p * channels;
                        const ireal *places = b.places + p * channels;
                        real *dx = row + x * channels;
#define BODY(c, n)                                                                                  \
    vstore(dx + (c), vasf(vasi(NAME(pool_load)(dy + (c), n)) &                                      \
                          (veci)(vasi(vload((const real *)(places + (c)))) == place)));
                        POOL_CHANNELS(channels, BODY)
#undef BODY
                        done = x + 1;
                    }
            if (done < t->iw) memset(row + done * channels, 0, (size_t)((t->iw - done) * channels) * sizeof(real));
            if (!direct) memcpy(out, row, (size_t)(t->iw * channels) * sizeof(real));
        }
    }
}

static const struct pool2d_kernels NAME(table) = {
    .lanes = W,
    .max = NAME(max),
    .avg = NAME(avg),
    .max_gather = NAME(max_gather),
    .avg_gather = NAME(avg_gather),
    .max_scatter = NAME(max_scatter),
    .forward_bytes = NAME(forward_bytes),
    .backward_bytes = NAME(backward_bytes),
};
