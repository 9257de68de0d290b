/* cflags: -ftree-loop-vectorize -fvect-cost-model=dynamic */
/* Batch, group, layer and local response norm.
 *
 * Lines
 * -----
 * Most kernels here treat every channel alike and look along the rows. Rows of few channels would
 * leave lanes empty, so `fold` rows are read as one line of fold * channels columns, a whole number
 * of vectors; rows left over are the front of one more line. What belongs to a channel (its mean,
 * scale, sums) is laid out once for each column before, and columns are joined afterwards.
 *
 * Mean and variance
 * -----------------
 * One pass over memory. Within a block of BLOCK lines, s = sum(x - c) and q = sum((x - c)^2) are taken
 * in vectors about a shift c near the mean (the mean so far, rounded; at first the first line). Each
 * block then joins the mean m and the sum of squared deviations M of the n lines before it, in double:
 *
 *     e = m - c, t = s - nb e = sum(x - m)
 *     M += q - e (s + t) - t^2 / (n + nb),    m += t / (n + nb)
 *
 * which is Chan, Golub and LeVeque's pairwise formula (1979) with the shift put in. As c is close to
 * the data, x - c is exact where |mean| >> deviation, and t^2 / (n + nb) takes at most the share
 * nb / (n + nb) of q, so nothing cancels; that holds from the second block on, and the first has FIRST
 * lines only, which bounds its loss by that factor for the worst data. Sums in the element type are
 * BLOCK lines long, the rest is double: the error does not grow with the number of rows. NORM_FEW rows are
 * read twice instead, first for a mean and then for the moments about it. A piece's mean is handed on
 * as its distance from a row that all pieces know, which has no digits to lose.
 * An infinity makes its channel's variance NaN, and its mean infinite or NaN.
 *
 * Far from 1
 * ----------
 * Squares of numbers beyond 1.8e19 are infinite in float, and those of numbers below 1e-19 lose their digits. Where a
 * variance (with eps) says so, its numbers are read again, scaled by a power of two to lie below 1, one after another
 * in double: see far_moments. Parts of them have scales of their own, and are joined by Chan's formula. Gradients of
 * such numbers hold products like invstd^3 dot that leave the range, though their values do not; they take the same
 * sums in another order, by (x - mean) invstd, which is near 1. So is a sum of g (x - mean) that overflows. Ordinary
 * numbers pay a comparison a row or channel.
 */
#define STEP 4 /* lines that are worked on side by side, so that a column's state is loaded once for all */
#define FIRST 8
#define BLOCK 64
/* A few rows: vectors whose sums stay in registers, so that whole cache lines are read; and elements up
 * to which this is faster with three arrays, before their rows lie too far apart for the prefetchers. */
#define WIDE 4
#define NEAR (32768 / (int64_t)sizeof(real))
/* Layer norm: elements of a row that are summed in the element type, and rows that are worked on together. */
#define RUN (64 * W)
#define FAR_BLOCK ((int64_t)512)
#define ROWS 4

/* A variance (and eps) from which on squares have kept their digits; and inverse deviations between which what their
 * cubes are multiplied by may be of any usual size. */
#undef LEAST_VARIANCE
#undef LEAST_INVERSE
#undef MOST_INVERSE
#undef MOST
#if REAL_IS_FLOAT
#define LEAST_VARIANCE 0x1p-122
#define LEAST_INVERSE 0x1p-40
#define MOST_INVERSE 0x1p40
#define MOST FLT_MAX
#else
#define LEAST_VARIANCE 0x1p-965
#define LEAST_INVERSE 0x1p-300
#define MOST_INVERSE 0x1p300
#define MOST DBL_MAX
#endif

#define first_lanes NAME(first_lanes)
#define get NAME(get)
#define put NAME(put)

/* v in the first n lanes, 0 in the others. */
INLINE vec first_lanes(vec v, int n) {
    if (n == W) return v;
    real lane[W];
    UNROLL for (int i = 0; i < W; i++) lane[i] = (real)i;
    return vsel(vlt(vload(lane), vset((real)n)), v, vzero());
}

INLINE vec get(const real *p, int n) { return n == W ? vload(p) : vload_n(p, n); }
INLINE void put(real *p, vec v, int n) {
    if (n == W) vstore(p, v);
    else vstore_n(p, v, n);
}

struct NAME(lines) {
    int64_t fold, count, cols, padded; /* padded: cols, up to whole cache lines */
    int64_t rest;                      /* columns of the line after the last */
    int64_t stride;                    /* from line to line; where it is not cols, fold is 1 */
};

static int64_t NAME(fold)(int64_t channels) {
    if (channels >= 4 * W) return 1;
    int64_t unit = W, fold;
    while (unit > 1 && unit / 2 * channels % W == 0) unit /= 2;
    for (fold = unit; fold * channels < 8 * W;) fold += unit;
    return fold;
}

static int64_t NAME(pad)(int64_t cols) { return (cols + 15) / 16 * 16; }

static int64_t NAME(columns)(int64_t channels) { return NAME(pad)(NAME(fold)(channels) * channels); }

static struct NAME(lines) NAME(cut)(int64_t rows, int64_t channels, int64_t row, int64_t fold) {
    if (row != channels) fold = 1;
    struct NAME(lines) l = {.fold = fold, .count = rows / fold, .cols = fold * channels, .stride = fold * row};
    l.padded = NAME(pad)(l.cols);
    l.rest = rows % fold * channels;
    return l;
}

/* Joining columns is not worth it for a handful of lines. */
static struct NAME(lines) NAME(cut_reduction)(int64_t rows, int64_t channels, int64_t row) {
    int64_t fold = NAME(fold)(channels);
    return NAME(cut)(rows, channels, row, rows < 4 * fold ? 1 : fold);
}

/* column[c] = x[c / per], or `missing` where x is NULL. */
static void NAME(spread)(real *column, const real *x, real missing, int64_t channels, int64_t per) {
    if (!x)
        for (int64_t c = 0; c < channels; c++) column[c] = missing;
    else if (per == 1) memcpy(column, x, (size_t)channels * sizeof *x);
    else
        for (int64_t c = 0; c < channels; c += per)
            for (int64_t i = c; i < c + per; i++) column[i] = x[c / per];
}

/* From the first row of a line to the others; 0 in the padding. */
static void NAME(repeat)(real *column, struct NAME(lines) l, int64_t channels) {
    for (int64_t i = channels; i < l.cols; i++) column[i] = column[i - channels];
    for (int64_t i = l.cols; i < l.padded; i++) column[i] = 0;
}

/* ---- numbers far from 1 -------------------------------------------------------------------- */

INLINE int NAME(is_far)(double invstd) { return invstd > 0 && (invstd < LEAST_INVERSE || invstd > MOST_INVERSE); }

INLINE int NAME(keeps_digits)(double var, double eps) { return (var + eps >= LEAST_VARIANCE) & (var <= DBL_MAX); }
static int NAME(keep_digits)(double var, double eps) { return NAME(keeps_digits)(var, eps); }

/* Whether low < x <= high for all of x. */
INLINE int NAME(all_between)(const real *x, int64_t n, real low, real high) {
    const vec nan = vset((real)NAN), least = vset(low), most = vset(high);
    vec nothing = vzero();
    for (int64_t c = 0; c < n; c += W) {
        const int m = n - c < W ? (int)(n - c) : W;
        const vec v = m == W ? vload(x + c) : vload_n(x + c, m);
        nothing = vsel(vmand(vgt(v, least), vle(v, most)), nothing, m == W ? nan : first_lanes(nan, m));
    }
    return !vhasnan(nothing);
}

/* Whether all of n inverse deviations are those of variances (and eps) that keep digits. */
INLINE int NAME(all_keep_digits)(const real *invstd, int64_t n) {
    return NAME(all_between)(invstd, n, 0, (real)(1 / sqrt(LEAST_VARIANCE)));
}

/* Whether none of n inverse deviations is far from 1. */
INLINE int NAME(is_near)(const real *invstd, int64_t n) {
    return NAME(all_between)(invstd, n, LEAST_INVERSE, MOST_INVERSE);
}

/* (x - mean) invstd; where the difference might overflow, that of their quarters. */
INLINE double NAME(hat)(real x, real mean, real invstd) {
    if (invstd >= 1) return ((double)x - (double)mean) * (double)invstd;
    return (0.25 * (double)x - 0.25 * (double)mean) * (4 * (double)invstd);
}

/* Of (rows, cols) elements, rows `stride` apart; the square root of eps times the scale is below 1, too. */
INLINE void NAME(far_block)(struct norm_far *f, const real *x, int64_t rows, int64_t stride, int64_t cols, double eps) {
    double largest = sqrt(eps), sum = 0, rest = 0, square = 0;
    int exponent;
    f->n = (double)rows * (double)cols;
    f->scale = 0;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++) {
            const double v = fabs((double)x[r * stride + c]);
            if (!(v <= MOST)) return;
            if (v > largest) largest = v;
        }
    frexp(largest, &exponent);
    if (largest == 0) exponent = -1000;
    f->scale = ldexp(1, exponent < -1000 ? 1000 : exponent > 1000 ? -1000 : -exponent);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++) sum += (double)x[r * stride + c] * f->scale;
    f->mean = sum / f->n;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++) {
            const double d = (double)x[r * stride + c] * f->scale - f->mean;
            rest += d;
            square += d * d;
        }
    f->mean += rest / f->n;
    f->m2 = square - rest * rest / f->n;
    if (f->m2 < 0) f->m2 = 0;
}

/* Both as one, at the scale of the larger numbers; `a` may know of none yet. */
RARE void NAME(far_add)(struct norm_far *a, const struct norm_far *b) {
    const double scale = a->n > 0 && a->scale < b->scale ? a->scale : b->scale, n = a->n + b->n;
    if (scale > 0 && a->n > 0) {
        const double by = scale / a->scale, to = scale / b->scale, share = b->n / n, away = b->mean * to - a->mean * by;
        a->mean = a->mean * by + away * share;
        a->m2 = a->m2 * by * by + b->m2 * to * to + away * away * (a->n * share);
    } else a->mean = b->mean, a->m2 = b->m2;
    a->scale = scale, a->n = n;
}

/* In blocks, so that their sums are short: of one after another, the error would grow with their number. */
RARE void NAME(far_moments)(struct norm_far *f, const real *x, int64_t rows, int64_t stride, int64_t cols, double eps) {
    const int64_t width = cols < FAR_BLOCK ? cols : FAR_BLOCK, height = FAR_BLOCK / width;
    *f = (struct norm_far){0};
    for (int64_t r = 0; r < rows; r += height)
        for (int64_t c = 0; c < cols; c += width) {
            struct norm_far block;
            NAME(far_block)(&block, x + r * stride + c, rows - r < height ? rows - r : height, stride,
                            cols - c < width ? cols - c : width, eps);
            NAME(far_add)(f, &block);
        }
}

/* Parts as one; returns 0 if a number is not finite. */
RARE int NAME(far_join)(struct norm_far *f, const struct norm_far *part, int64_t parts) {
    *f = part[0];
    for (int64_t i = 1; i < parts; i++) NAME(far_add)(f, part + i);
    return f->scale > 0;
}

/* 1 / sqrt(var + eps) of numbers times f->scale. */
RARE double NAME(far_inverse)(const struct norm_far *f, double eps) {
    return 1 / sqrt(f->m2 / f->n + eps * f->scale * f->scale);
}

/* ---- statistics over rows ------------------------------------------------------------------ */

INLINE void NAME(stats_at)(const int lines, const int n, const real *x, int64_t stride, const real *shift_, real *sum_,
                           real *square_) {
    vec shift = vload(shift_), sum = vload(sum_), square = vload(square_);
    UNROLL for (int i = 0; i < lines; i++) {
        vec d = get(x + i * stride, n) - shift;
        sum = sum + d;
        square = vfma(d, d, square);
    }
    vstore(sum_, sum);
    vstore(square_, square);
}

INLINE void NAME(stats_lines)(const int lines, const real *x, int64_t stride, int64_t cols, const real *shift,
                              real *sum, real *square) {
    int64_t c = 0;
    for (; c + W <= cols; c += W) NAME(stats_at)(lines, W, x + c, stride, shift + c, sum + c, square + c);
    if (c < cols) NAME(stats_at)(lines, (int)(cols - c), x + c, stride, shift + c, sum + c, square + c);
}

/* See "Mean and variance" above. */
static void NAME(join)(double *restrict mean, double *restrict m2, const real *restrict shift, const real *restrict sum,
                       const real *restrict square, int64_t cols, double n, double nb) {
    const double inverse = 1 / (n + nb);
    for (int64_t c = 0; c < cols; c++) {
        double s = (double)sum[c], e = mean[c] - (double)shift[c], t = s - nb * e;
        m2[c] += (double)square[c] - e * (s + t) - t * t * inverse;
        mean[c] += t * inverse;
    }
}

INLINE void NAME(few_stats_at)(const int v, const int n, real *mean, real *m2, const real *x, const real *about,
                               int rows, int64_t stride) {
    const vec share = vset((real)1 / (real)rows);
    vec near[WIDE], sum[WIDE], square[WIDE];
    UNROLL for (int k = 0; k < v; k++) near[k] = get(x + k * W, n), sum[k] = square[k] = vzero();
    for (int i = 1; i < rows; i++)
        UNROLL for (int k = 0; k < v; k++) sum[k] = sum[k] + (get(x + i * stride + k * W, n) - near[k]);
    UNROLL for (int k = 0; k < v; k++) near[k] = vfma(sum[k], share, near[k]), sum[k] = vzero();
    for (int i = 0; i < rows; i++) {
        UNROLL for (int k = 0; k < v; k++) {
            vec d = get(x + i * stride + k * W, n) - near[k];
            sum[k] = sum[k] + d;
            square[k] = vfma(d, d, square[k]);
        }
    }
    UNROLL for (int k = 0; k < v; k++) {
        const vec rest = sum[k] * share;
        put(mean + k * W, (near[k] - get(about + k * W, n)) + rest, n);
        put(m2 + k * W, vfma(vneg(sum[k]), rest, square[k]), n);
    }
}

static void NAME(few_stats)(real *mean, real *m2, const real *x, const real *about, int rows, int64_t cols,
                            int64_t stride) {
    int64_t c = 0;
    for (; c + WIDE * W <= cols; c += WIDE * W)
        NAME(few_stats_at)(WIDE, W, mean + c, m2 + c, x + c, about + c, rows, stride);
    for (; c < cols; c += W)
        NAME(few_stats_at)(1, cols - c < W ? (int)(cols - c) : W, mean + c, m2 + c, x + c, about + c, rows, stride);
}

static void NAME(stats)(const struct norm_job *job) {
    const real *x = job->x, *first_row = job->first_row;
    const int64_t rows = job->rows, channels = job->channels, stride = job->stride;
    real *partial = job->partial, *restrict mean_out = partial, *restrict m2_out = partial + stride;
    if (rows <= NORM_FEW) {
        NAME(few_stats)(mean_out, m2_out, x, first_row, (int)rows, channels, stride);
        return;
    }
    const struct NAME(lines) l = NAME(cut_reduction)(rows, channels, stride);
    double *mean = job->scratch, *m2 = mean + l.padded;
    real *shift = (real *)(m2 + l.padded), *sum = shift + l.padded, *square = sum + l.padded;
    memset(mean, 0, (size_t)(2 * l.padded) * sizeof *mean);
    for (int64_t c = 0; c < l.cols; c++) mean[c] = (double)x[c];
    const int64_t total = l.count + (l.rest > 0);
    for (int64_t begin = 0, lines; begin < total; begin += lines) {
        const int64_t cols = begin < l.count ? l.cols : l.rest, left = begin < l.count ? l.count - begin : 1;
        const int64_t most = begin == 0 ? FIRST : BLOCK;
        const real *row = x + begin * l.stride;
        lines = left < most ? left : most;
        for (int64_t c = 0; c < l.padded; c++) shift[c] = (real)mean[c];
        memset(sum, 0, (size_t)(2 * l.padded) * sizeof *sum);
        int64_t i = 0;
        for (; i + STEP <= lines; i += STEP)
            NAME(stats_lines)(STEP, row + i * l.stride, l.stride, cols, shift, sum, square);
        for (; i < lines; i++) NAME(stats_lines)(1, row + i * l.stride, l.stride, cols, shift, sum, square);
        NAME(join)(mean, m2, shift, sum, square, cols, (double)begin, (double)lines);
    }
    for (int64_t c = 0; c < channels; c++) {
        double n = (double)l.count + (c < l.rest);
        for (int64_t i = c + channels; i < l.cols; i += channels) {
            double ni = (double)l.count + (i < l.rest), delta = mean[i] - mean[c], share = ni / (n + ni);
            mean[c] += delta * share;
            m2[c] += m2[i] + delta * delta * n * share;
            n += ni;
        }
    }
    for (int64_t c = 0; c < channels; c++) {
        mean_out[c] = (real)(mean[c] - (double)first_row[c]);
        m2_out[c] = (real)m2[c];
    }
}

INLINE void NAME(grad_at)(const int lines, const int n, const int relu, const real *dy, const real *x, const real *y,
                          int64_t stride, const real *mean_, real *sum_, real *dot_) {
    vec mean = vload(mean_), sum = vload(sum_), dot = vload(dot_);
    UNROLL for (int i = 0; i < lines; i++) {
        vec g = get(dy + i * stride, n);
        if (relu) g = vsel(vle(get(y + i * stride, n), vzero()), vzero(), g);
        sum = sum + g;
        dot = vfma(g, get(x + i * stride, n) - mean, dot);
    }
    vstore(sum_, sum);
    vstore(dot_, dot);
}

INLINE void NAME(grad_lines)(const int lines, const int relu, const real *dy, const real *x, const real *y,
                             int64_t stride, int64_t cols, const real *mean, real *sum, real *dot) {
    int64_t c = 0;
    for (; c + W <= cols; c += W)
        NAME(grad_at)(lines, W, relu, dy + c, x + c, y + c, stride, mean + c, sum + c, dot + c);
    if (c < cols) NAME(grad_at)(lines, (int)(cols - c), relu, dy + c, x + c, y + c, stride, mean + c, sum + c, dot + c);
}

INLINE void NAME(few_grad_at)(const int v, const int n, const int relu, vec *nothing, real *sum_, real *dot_,
                              const real *dy, const real *x, const real *y, const real *mean_, const real *invstd,
                              int rows, int64_t stride) {
    vec mean[WIDE], sum[WIDE], dot[WIDE];
    UNROLL for (int k = 0; k < v; k++) mean[k] = get(mean_ + k * W, n), sum[k] = dot[k] = vzero();
    for (int i = 0; i < rows; i++, dy += stride, x += stride, y += stride) {
        UNROLL for (int k = 0; k < v; k++) {
            vec g = get(dy + k * W, n);
            if (relu) g = vsel(vle(get(y + k * W, n), vzero()), vzero(), g);
            sum[k] = sum[k] + g;
            dot[k] = vfma(g, get(x + k * W, n) - mean[k], dot[k]);
        }
    }
    UNROLL for (int k = 0; k < v; k++) {
        put(sum_ + k * W, sum[k], n);
        put(dot_ + k * W, dot[k] * get(invstd + k * W, n), n);
        nothing[k] = vfma(dot[k], vzero(), nothing[k]);
    }
}

/* Whether a dot is not finite. */
INLINE int NAME(few_grad)(const int relu, real *sum, real *dot, const real *dy, const real *x, const real *y,
                          const real *mean, const real *invstd, int rows, int64_t cols, int64_t stride) {
    int64_t c = 0;
    vec nothing[WIDE];
    UNROLL for (int k = 0; k < WIDE; k++) nothing[k] = vzero();
    for (; c + WIDE * W <= cols; c += WIDE * W)
        NAME(few_grad_at)(WIDE, W, relu, nothing, sum + c, dot + c, dy + c, x + c, y + c, mean + c, invstd + c, rows,
                          stride);
    for (; c < cols; c += W)
        NAME(few_grad_at)(1, cols - c < W ? (int)(cols - c) : W, relu, nothing, sum + c, dot + c, dy + c, x + c, y + c,
                          mean + c, invstd + c, rows, stride);
    return vhasnan((nothing[0] + nothing[1]) + (nothing[2] + nothing[3]));
}

/* Sums of a block, in the element type, go to their totals, and start again from 0. */
static void NAME(flush)(double *restrict total, real *restrict sum, int64_t cols) {
    for (int64_t c = 0; c < cols; c++) total[c] += (double)sum[c];
    memset(sum, 0, (size_t)cols * sizeof *sum);
}

static int NAME(grad_stats)(const struct norm_job *job) {
    const int64_t rows = job->rows, channels = job->channels, stride = job->stride, per = job->per;
    const int relu = job->relu != 0;
    const act_backward act = job->act;
    /* Where there is no y, nothing reads it, but an offset is added. */
    const real *dy = job->dy, *x = job->x, *y = job->y ? job->y : dy, *invstd = job->invstd;
    real *partial = job->partial, *restrict sum_out = partial, *restrict dot_out = partial + stride;
    if (rows <= NORM_FEW && rows * channels <= NEAR && per == 1 && !act) {
        if (relu) return NAME(few_grad)(1, sum_out, dot_out, dy, x, y, job->mean, invstd, (int)rows, channels, stride);
        return NAME(few_grad)(0, sum_out, dot_out, dy, x, y, job->mean, invstd, (int)rows, channels, stride);
    }
    const struct NAME(lines) l = NAME(cut_reduction)(rows, channels, stride);
    double *totals = job->scratch; /* of sums, then of dots */
    real *mean = (real *)(totals + 2 * l.padded), *sum = mean + l.padded, *dot = sum + l.padded, *g = dot + l.padded;
    NAME(spread)(mean, job->mean, 0, channels, per);
    NAME(repeat)(mean, l, channels);
    memset(totals, 0, (size_t)(2 * l.padded) * sizeof *totals);
    memset(sum, 0, (size_t)(2 * l.padded) * sizeof *sum);
    const int64_t total = l.count + (l.rest > 0);
    for (int64_t i = 0, lines; i < total; i += lines) {
        const int64_t cols = i < l.count ? l.cols : l.rest, at = i * l.stride;
        const real *from = dy + at;
        /* What act makes lies line by line: where lines are not side by side, one at a time. */
        lines = i + STEP <= l.count && !(act && l.stride != l.cols) ? STEP : 1;
        if (act) {
            act(g, from, y + at, lines * cols, job->settings);
            from = g;
        }
        if (lines == STEP && relu) NAME(grad_lines)(STEP, 1, from, x + at, y + at, l.stride, cols, mean, sum, dot);
        else if (lines == STEP) NAME(grad_lines)(STEP, 0, from, x + at, y + at, l.stride, cols, mean, sum, dot);
        else if (relu) NAME(grad_lines)(1, 1, from, x + at, y + at, l.stride, cols, mean, sum, dot);
        else NAME(grad_lines)(1, 0, from, x + at, y + at, l.stride, cols, mean, sum, dot);
        if ((i + lines) % BLOCK == 0 || i + lines == total) NAME(flush)(totals, sum, 2 * l.padded);
    }
    double *dots = totals + l.padded;
    for (int64_t i = channels; i < l.cols; i += channels)
        for (int64_t c = 0; c < channels; c++) {
            totals[c] += totals[i + c];
            dots[c] += dots[i + c];
        }
    NAME(spread)(mean, invstd, 1, channels, per);
    for (int64_t c = 0; c < channels; c++) {
        sum_out[c] = (real)totals[c];
        dot_out[c] = (real)(dots[c] * (double)mean[c]);
    }
    vec nothing = vzero();
    for (int64_t c = 0; c < channels; c += W)
        nothing = vfma(get(dot_out + c, channels - c < W ? (int)(channels - c) : W), vzero(), nothing);
    return vhasnan(nothing);
}

/* Element by element, in double. */
RARE void NAME(far_dots)(const struct norm_job *job, int64_t begin, int64_t end) {
    const int64_t rows = job->rows, channels = job->channels, stride = job->stride, per = job->per;
    const act_backward act = job->act;
    const real *dy = job->dy, *x = job->x, *y = job->y ? job->y : dy, *mean = job->mean, *invstd = job->invstd;
    real *sum = job->partial, *dot = sum + stride;
    double *total = job->scratch;
    real *g = (real *)(total + channels);
    int found = 0;
    for (int64_t c = begin; c < end; c++) {
        const double m = fabs((double)mean[c / per]), s = (double)invstd[c / per];
        const int far = fabs((double)sum[c]) <= MOST && m <= MOST && s > 0 && s <= MOST &&
                        !(fabs((double)dot[c]) <= MOST);
        total[c] = far ? 0 : -INFINITY;
        found |= far;
    }
    if (!found) return;
    for (int64_t r = 0; r < rows; r++, dy += stride, x += stride, y += stride) {
        if (act) act(g + begin, dy + begin, y + begin, end - begin, job->settings);
        else memcpy(g + begin, dy + begin, (size_t)(end - begin) * sizeof *g);
        for (int64_t c = begin; c < end; c++)
            if (total[c] > -INFINITY && !(job->relu && y[c] <= 0))
                total[c] += (double)g[c] * NAME(hat)(x[c], mean[c / per], invstd[c / per]);
    }
    for (int64_t c = begin; c < end; c++)
        if (total[c] > -INFINITY) dot[c] = (real)total[c];
}

INLINE void NAME(row_grad_at)(const int rows, const int n, const real *dy, const real *x, int64_t stride,
                              const real *mean, const real *invstd, real *sum_, real *dot_) {
    vec sum = vload(sum_), dot = vload(dot_);
    UNROLL for (int i = 0; i < rows; i++) {
        vec g = get(dy + i * stride, n);
        sum = sum + g;
        dot = vfma(g, (get(x + i * stride, n) - vset(mean[i])) * vset(invstd[i]), dot);
    }
    vstore(sum_, sum);
    vstore(dot_, dot);
}

INLINE void NAME(row_grad_lines)(const int rows, const real *dy, const real *x, int64_t stride, int64_t cols,
                                 const real *mean, const real *invstd, real *sum, real *dot) {
    int64_t c = 0;
    for (; c + W <= cols; c += W) NAME(row_grad_at)(rows, W, dy + c, x + c, stride, mean, invstd, sum + c, dot + c);
    if (c < cols) NAME(row_grad_at)(rows, (int)(cols - c), dy + c, x + c, stride, mean, invstd, sum + c, dot + c);
}

INLINE void NAME(few_row_grad_at)(const int v, const int n, real *sum_, real *dot_, const real *dy, const real *x,
                                  const real *mean, const real *invstd, int rows, int64_t stride) {
    vec sum[WIDE], dot[WIDE];
    UNROLL for (int k = 0; k < v; k++) sum[k] = dot[k] = vzero();
    for (int i = 0; i < rows; i++, dy += stride, x += stride) {
        const vec about = vset(mean[i]), scale = vset(invstd[i]);
        UNROLL for (int k = 0; k < v; k++) {
            vec g = get(dy + k * W, n);
            sum[k] = sum[k] + g;
            dot[k] = vfma(g, (get(x + k * W, n) - about) * scale, dot[k]);
        }
    }
    UNROLL for (int k = 0; k < v; k++) {
        put(sum_ + k * W, sum[k], n);
        put(dot_ + k * W, dot[k], n);
    }
}

static void NAME(few_row_grad)(real *sum, real *dot, const real *dy, const real *x, const real *mean,
                               const real *invstd, int rows, int64_t cols, int64_t stride) {
    int64_t c = 0;
    for (; c + WIDE * W <= cols; c += WIDE * W)
        NAME(few_row_grad_at)(WIDE, W, sum + c, dot + c, dy + c, x + c, mean, invstd, rows, stride);
    for (; c < cols; c += W)
        NAME(few_row_grad_at)(1, cols - c < W ? (int)(cols - c) : W, sum + c, dot + c, dy + c, x + c, mean, invstd,
                              rows, stride);
}

static void NAME(row_grad_stats)(const struct norm_job *job) {
    const int64_t rows = job->rows, cols = job->channels, stride = job->stride;
    const real *dy = job->dy, *x = job->x, *mean = job->mean, *invstd = job->invstd;
    real *sum_out = job->partial, *dot_out = sum_out + stride;
    if (rows <= NORM_FEW) {
        NAME(few_row_grad)(sum_out, dot_out, dy, x, mean, invstd, (int)rows, cols, stride);
        return;
    }
    const int64_t padded = NAME(pad)(cols);
    double *totals = job->scratch;
    real *sum = (real *)(totals + 2 * padded), *dot = sum + padded;
    memset(totals, 0, (size_t)(2 * padded) * sizeof *totals);
    memset(sum, 0, (size_t)(2 * padded) * sizeof *sum);
    for (int64_t i = 0, n; i < rows; i += n) {
        n = i + STEP <= rows ? STEP : 1;
        const int64_t at = i * stride;
        if (n == STEP) NAME(row_grad_lines)(STEP, dy + at, x + at, stride, cols, mean + i, invstd + i, sum, dot);
        else NAME(row_grad_lines)(1, dy + at, x + at, stride, cols, mean + i, invstd + i, sum, dot);
        if ((i + n) % BLOCK == 0 || i + n == rows) NAME(flush)(totals, sum, 2 * padded);
    }
    for (int64_t c = 0; c < cols; c++) {
        sum_out[c] = (real)totals[c];
        dot_out[c] = (real)totals[padded + c];
    }
}

/* ---- pieces -------------------------------------------------------------------------------- */

/* The mean, less the sample's first row, and M of the job's channels, in double, over all pieces. */
static void NAME(join_pieces)(double *restrict mean, double *restrict m2, const struct norm_job *job) {
    const int64_t rows = job->rows, piece = job->piece, stride = job->stride, n = job->channels;
    const real *restrict pieces = job->partial;
    memset(mean, 0, (size_t)n * sizeof *mean);
    memset(m2, 0, (size_t)n * sizeof *m2);
    const real *p = pieces;
    for (int64_t row = 0; row < rows; row += piece, p += 2 * stride) {
        const double share = (double)(rows - row < piece ? rows - row : piece) / (double)rows;
        for (int64_t c = 0; c < n; c++) mean[c] += share * (double)p[c];
    }
    p = pieces;
    for (int64_t row = 0; row < rows; row += piece, p += 2 * stride) {
        const double count = (double)(rows - row < piece ? rows - row : piece);
        for (int64_t c = 0; c < n; c++) {
            double delta = (double)p[c] - mean[c];
            m2[c] += (double)p[stride + c] + count * delta * delta;
        }
    }
}

static void NAME(finish)(const struct norm_job *job) {
    const int64_t rows = job->rows, n = job->channels;
    const double eps = job->eps;
    real *mean = job->mean, *invstd = job->invstd, *var = job->var;
    const real *x = job->x;
    double *sum = job->scratch, *m2 = sum + n;
    NAME(join_pieces)(sum, m2, job);
    for (int64_t c = 0; c < n; c++) {
        double v = m2[c] < 0 ? 0 : m2[c] / (double)rows;
        mean[c] = (real)((double)x[c] + sum[c]);
        invstd[c] = (real)(1 / sqrt(v + eps));
        if (var) var[c] = (real)v;
    }
}

static void NAME(group_finish)(const struct norm_job *job) {
    const int64_t rows = job->rows, n = job->channels, per = job->per;
    const double eps = job->eps;
    real *mean = job->mean, *invstd = job->invstd;
    const real *x = job->x;
    double *means = job->scratch, *m2s = means + n, *part = job->part;
    NAME(join_pieces)(means, m2s, job);
    for (int64_t c = 0; c < n; c++) means[c] += (double)x[c];
    for (int64_t c = 0; c < n; c += per) {
        double m = 0, m2 = 0;
        for (int64_t i = c; i < c + per; i++) m += means[i];
        m /= (double)per;
        for (int64_t i = c; i < c + per; i++) m2 += m2s[i] + (double)rows * (means[i] - m) * (means[i] - m);
        if (part) {
            part[0] = m, part[1] = m2;
            return;
        }
        mean[c / per] = (real)m;
        invstd[c / per] = (real)(1 / sqrt(m2 / ((double)rows * (double)per) + eps));
    }
}

static void NAME(far_stats)(const struct norm_job *job) {
    const int64_t groups = job->channels / job->per;
    const real *x = job->x, *invstd = job->invstd;
    if (NAME(all_keep_digits)(invstd, groups)) return;
    for (int64_t i = 0; i < groups; i++)
        if (!NAME(all_keep_digits)(invstd + i, 1))
            NAME(far_moments)(job->far_part + i * job->far_parts, x + i * job->per, job->rows, job->stride, job->per,
                              job->eps);
}

static void NAME(far_finish)(const struct norm_job *job) {
    const int64_t groups = job->channels / job->per;
    real *mean = job->mean, *invstd = job->invstd, *var = job->var;
    if (NAME(all_keep_digits)(invstd, groups)) return;
    for (int64_t i = 0; i < groups; i++) {
        struct norm_far f;
        if (NAME(all_keep_digits)(invstd + i, 1)) continue;
        if (!NAME(far_join)(&f, job->far_part + i * job->far_parts, job->far_parts)) continue;
        mean[i] = (real)(f.mean / f.scale);
        invstd[i] = (real)(NAME(far_inverse)(&f, job->eps) * f.scale);
        if (var) var[i] = (real)(f.m2 / f.n / f.scale / f.scale);
    }
}

/* The sums and dots of the job's channels, in double. */
static void NAME(add_pieces)(double *restrict sum, double *restrict dot, const struct norm_job *job) {
    const int64_t n = job->channels, count = job->pieces, stride = job->stride;
    const real *restrict p = job->partial;
    memset(sum, 0, (size_t)n * sizeof *sum);
    memset(dot, 0, (size_t)n * sizeof *dot);
    for (int64_t i = 0; i < count; i++, p += 2 * stride)
        for (int64_t c = 0; c < n; c++) {
            sum[c] += (double)p[c];
            dot[c] += (double)p[stride + c];
        }
}

static void NAME(grad_finish)(const struct norm_job *job) {
    const int64_t n = job->channels;
    real *dweight = job->dweight, *dbias = job->dbias, *sums = job->sums, *dots = job->dots;
    double *sum = job->scratch, *dot = sum + n;
    NAME(add_pieces)(sum, dot, job);
    for (int64_t c = 0; c < n; c++) {
        if (dweight) dweight[c] = (real)dot[c];
        if (dbias) dbias[c] = (real)sum[c];
        if (sums) {
            sums[c] = (real)sum[c];
            dots[c] = (real)dot[c];
        }
    }
}

static void NAME(group_grad_finish)(const struct norm_job *job) {
    const int64_t n = job->channels, per = job->per;
    real *sums = job->sums, *dots = job->dots;
    const real *weight = job->weight;
    double *sum = job->scratch, *dot = sum + n, *part = job->part;
    NAME(add_pieces)(sum, dot, job);
    for (int64_t c = 0; c < n; c += per) {
        double s = 0, d = 0;
        for (int64_t i = c; i < c + per; i++) {
            double w = weight ? (double)weight[i] : 1;
            s += w * sum[i];
            d += w * dot[i];
        }
        if (part) {
            part[0] = s, part[1] = d;
            return;
        }
        sums[c / per] = (real)s;
        dots[c / per] = (real)d;
    }
}

/* ---- statistics of channels ---------------------------------------------------------------- */

static void NAME(running)(void *running_mean_, void *running_var_, const void *mean_, const void *var_, int64_t rows,
                          int64_t channels, double gain) {
    real *running_mean = running_mean_, *running_var = running_var_;
    const real *mean = mean_, *var = var_;
    const double unbiased = rows > 1 ? (double)rows / (double)(rows - 1) : 1;
    for (int64_t c = 0; c < channels; c++) {
        running_mean[c] = (real)((1 - gain) * (double)running_mean[c] + gain * (double)mean[c]);
        running_var[c] = (real)((1 - gain) * (double)running_var[c] + gain * unbiased * (double)var[c]);
    }
}

static void NAME(inverse)(void *invstd_, const void *var_, int64_t channels, double eps) {
    real *invstd = invstd_;
    const real *var = var_;
    for (int64_t c = 0; c < channels; c++) invstd[c] = (real)(1 / sqrt((double)var[c] + eps));
}

/* ---- maps ---------------------------------------------------------------------------------- */

/* Columns of mean, scale and bias. */
static void NAME(forward_columns)(const struct norm_job *job) {
    const int64_t channels = job->channels;
    const struct NAME(lines) l = NAME(cut)(0, channels, channels, NAME(fold)(channels));
    const real *weight = job->weight;
    real *mean = job->scratch, *scale = mean + l.padded, *bias = scale + l.padded;
    const int by_var = job->eps >= 0;
    NAME(spread)(mean, job->mean, 0, channels, job->per);
    NAME(spread)(scale, by_var ? job->var : job->invstd, 1, channels, job->per);
    NAME(spread)(bias, job->bias, 0, channels, 1);
    if (by_var) NAME(inverse)(scale, scale, channels, job->eps);
    if (weight)
        for (int64_t c = 0; c < channels; c++) scale[c] *= weight[c];
    NAME(repeat)(mean, l, channels);
    NAME(repeat)(scale, l, channels);
    NAME(repeat)(bias, l, channels);
}

INLINE void NAME(apply_at)(const int lines, const int n, const int add, const int relu, real *y, const real *x,
                           const real *residual, int64_t stride, const real *column, int64_t padded) {
    vec mean = vload(column), scale = vload(column + padded), bias = vload(column + 2 * padded);
    UNROLL for (int i = 0; i < lines; i++) {
        vec z = vfma(get(x + i * stride, n) - mean, scale, bias);
        if (add) z = z + get(residual + i * stride, n);
        if (relu) z = vsel(vlt(z, vzero()), vzero(), z);
        put(y + i * stride, z, n);
    }
}

INLINE void NAME(apply_lines)(const int lines, const int add, const int relu, real *y, const real *x,
                              const real *residual, int64_t stride, int64_t cols, const real *column, int64_t padded) {
    int64_t c = 0;
    for (; c + W <= cols; c += W)
        NAME(apply_at)(lines, W, add, relu, y + c, x + c, residual + c, stride, column + c, padded);
    if (c < cols)
        NAME(apply_at)(lines, (int)(cols - c), add, relu, y + c, x + c, residual + c, stride, column + c, padded);
}

INLINE void NAME(apply_as)(const int add, const int relu, real *y, const real *x, const real *residual,
                           const real *column, struct NAME(lines) l) {
    int64_t at = 0, i = 0;
    for (; i + STEP <= l.count; i += STEP, at += STEP * l.stride)
        NAME(apply_lines)(STEP, add, relu, y + at, x + at, residual + at, l.stride, l.cols, column, l.padded);
    for (; i < l.count + (l.rest > 0); i++, at += l.stride)
        NAME(apply_lines)(1, add, relu, y + at, x + at, residual + at, l.stride, i < l.count ? l.cols : l.rest, column,
                          l.padded);
}

static void NAME(apply)(const struct norm_job *job) {
    const struct NAME(lines) l = NAME(cut)(job->rows, job->channels, job->stride, NAME(fold)(job->channels));
    real *y = job->y;
    const real *x = job->x, *residual = job->residual, *columns = job->scratch;
    if (residual && job->relu) NAME(apply_as)(1, 1, y, x, residual, columns, l);
    else if (residual) NAME(apply_as)(1, 0, y, x, residual, columns, l);
    else if (job->relu) NAME(apply_as)(0, 1, y, x, x, columns, l);
    else NAME(apply_as)(0, 0, y, x, x, columns, l);
}

/* Columns of a, mean, b, c: dx = a g + (b (x - mean) + c), with a = weight invstd. Where an invstd is far from 1, and b
 * too small or large for its type, b lacks a factor that stands in one more column. */
static void NAME(backward_columns)(struct norm_job *job) {
    const int64_t channels = job->channels, per = job->per;
    const struct NAME(lines) l = NAME(cut)(0, channels, channels, NAME(fold)(channels));
    const real *invstd = job->invstd, *weight = job->weight, *sum = job->sums, *dot = job->dots;
    real *a = job->scratch, *mean = a + l.padded, *b = mean + l.padded, *c = b + l.padded, *scale = c + l.padded;
    const double count = job->count;
    const int weighted = job->weighted != 0;
    int far = 0;
    NAME(spread)(mean, sum ? job->mean : NULL, 0, channels, per);
    if (sum)
        for (int64_t i = 0; i < channels / per; i++) far |= NAME(is_far)((double)invstd[i]);
    for (int64_t i = 0; i < channels; i++) {
        double s = (double)invstd[i / per], w = weight ? (double)weight[i] : 1, f = weighted ? s : s * w;
        a[i] = (real)(s * w);
        b[i] = sum ? (real)(-f * (far ? 1 : s) * (double)dot[i / per] / count) : 0;
        c[i] = sum ? (real)(-f * (double)sum[i / per] / count) : 0;
    }
    if (far) NAME(spread)(scale, invstd, 1, channels, per);
    for (int k = 0; k < 4 + far; k++) NAME(repeat)(a + k * l.padded, l, channels);
    job->far = far;
}

INLINE void NAME(grad_apply_at)(const int lines, const int n, const int constant, const int far, const int relu,
                                real *dx, real *dresidual, const real *dy, const real *x, const real *y, int64_t stride,
                                const real *column, int64_t padded) {
    vec a = vload(column), mean = vzero(), b = vzero(), c = vzero();
    if (!constant) mean = vload(column + padded), b = vload(column + 2 * padded), c = vload(column + 3 * padded);
    const vec scale = far ? vload(column + 4 * padded) : vzero();
    UNROLL for (int i = 0; i < lines; i++) {
        vec g = get(dy + i * stride, n);
        if (relu) g = vsel(vle(get(y + i * stride, n), vzero()), vzero(), g);
        vec about = constant ? vzero() : get(x + i * stride, n) - mean;
        if (far) about = about * scale;
        vec d = constant ? a * g : vfma(a, g, vfma(b, about, c));
        if (dresidual) put(dresidual + i * stride, g, n);
        put(dx + i * stride, d, n);
    }
}

INLINE void NAME(grad_apply_lines)(const int lines, const int constant, const int far, const int relu, real *dx,
                                   real *dresidual, const real *dy, const real *x, const real *y, int64_t stride,
                                   int64_t cols, const real *column, int64_t padded) {
    int64_t c = 0;
    for (; c + W <= cols; c += W)
        NAME(grad_apply_at)(lines, W, constant, far, relu, dx + c, dresidual ? dresidual + c : NULL, dy + c, x + c,
                            y + c, stride, column + c, padded);
    if (c < cols)
        NAME(grad_apply_at)(lines, (int)(cols - c), constant, far, relu, dx + c, dresidual ? dresidual + c : NULL,
                            dy + c, x + c, y + c, stride, column + c, padded);
}

/* Line by line, with the column of scales. */
RARE void NAME(far_grad_apply)(real *dx, real *dresidual, const real *dy, const real *x, const real *y,
                               const real *column, struct NAME(lines) l, int relu) {
    for (int64_t i = 0, at = 0; i < l.count + (l.rest > 0); i++, at += l.stride)
        NAME(grad_apply_lines)(1, 0, 1, relu, dx + at, dresidual ? dresidual + at : NULL, dy + at, x + at, y + at,
                               l.stride, i < l.count ? l.cols : l.rest, column, l.padded);
}

INLINE void NAME(grad_apply_as)(const int constant, const int relu, real *dx, real *dresidual, const real *dy,
                                const real *x, const real *y, const real *column, struct NAME(lines) l) {
    int64_t at = 0, i = 0;
    for (; i + STEP <= l.count; i += STEP, at += STEP * l.stride)
        NAME(grad_apply_lines)(STEP, constant, 0, relu, dx + at, dresidual ? dresidual + at : NULL, dy + at, x + at,
                               y + at, l.stride, l.cols, column, l.padded);
    for (; i < l.count + (l.rest > 0); i++, at += l.stride)
        NAME(grad_apply_lines)(1, constant, 0, relu, dx + at, dresidual ? dresidual + at : NULL, dy + at, x + at,
                               y + at, l.stride, i < l.count ? l.cols : l.rest, column, l.padded);
}

static void NAME(grad_apply)(const struct norm_job *job) {
    const struct NAME(lines) l = NAME(cut)(job->rows, job->channels, job->stride, NAME(fold)(job->channels));
    real *dx = job->dx, *dresidual = job->dresidual;
    const real *dy = job->dy, *x = job->x, *y = job->y ? job->y : dy, *columns = job->scratch;
    const int relu = job->relu != 0;
    if (job->far) NAME(far_grad_apply)(dx, dresidual, dy, x, y, columns, l, relu);
    else if (job->sums && relu) NAME(grad_apply_as)(0, 1, dx, dresidual, dy, x, y, columns, l);
    else if (job->sums) NAME(grad_apply_as)(0, 0, dx, dresidual, dy, x, y, columns, l);
    else if (relu) NAME(grad_apply_as)(1, 1, dx, dresidual, dy, dy, y, columns, l);
    else NAME(grad_apply_as)(1, 0, dx, dresidual, dy, dy, y, columns, l);
}

/* ---- layer norm ---------------------------------------------------------------------------- */

/* The sums of x - shift and, where asked for, of its square. */
INLINE void NAME(row_moments)(const int squares, double *sum_, double *square_, const real *x, int64_t n, real shift_) {
    const vec shift = vset(shift_);
    double sum = 0, square = 0;
    for (int64_t begin = 0; begin < n; begin += RUN) {
        int64_t i = begin, end = n - begin < RUN ? n : begin + RUN;
        vec s[4], q[4];
        UNROLL for (int k = 0; k < 4; k++) s[k] = q[k] = vzero();
        for (; i + 4 * W <= end; i += 4 * W) {
            UNROLL for (int k = 0; k < 4; k++) {
                vec d = vload(x + i + k * W) - shift;
                s[k] = s[k] + d;
                q[k] = vfma(d, d, q[k]);
            }
        }
        for (; i < end; i += W) {
            const int m = end - i < W ? (int)(end - i) : W;
            vec d = first_lanes(get(x + i, m) - shift, m);
            s[0] = s[0] + d;
            q[0] = vfma(d, d, q[0]);
        }
        sum += (double)vsum((s[0] + s[1]) + (s[2] + s[3]));
        if (squares) square += (double)vsum((q[0] + q[1]) + (q[2] + q[3]));
    }
    *sum_ = sum;
    *square_ = square;
}

/* Some elements of a row whose squares leave the range. */
RARE void NAME(far_layer_map)(real *y, const real *x, const struct norm_far *f, const real *weight, const real *bias,
                              int64_t cols, double eps) {
    const double inverse = NAME(far_inverse)(f, eps);
    for (int64_t c = 0; c < cols; c++) {
        double z = ((double)x[c] * f->scale - f->mean) * inverse;
        if (weight) z *= (double)weight[c];
        y[c] = (real)(z + (bias ? (double)bias[c] : 0));
    }
}

INLINE void NAME(layer_map)(real *y, const real *x, real mean, real invstd, const real *weight, const real *bias,
                            int64_t cols) {
    const vec about = vset(mean), scale = vset(invstd);
    for (int64_t c = 0; c < cols; c += W) {
        const int m = cols - c < W ? (int)(cols - c) : W;
        vec z = (get(x + c, m) - about) * scale;
        if (weight) z = z * get(weight + c, m);
        if (bias) z = z + get(bias + c, m);
        put(y + c, z, m);
    }
}

/* Parts of a long row: what the whole is made of below. */
static void NAME(layer_moments)(const struct norm_job *job, double shift, double *sum, double *square) {
    NAME(row_moments)(1, sum, square, job->x, job->channels, (real)shift);
}

static void NAME(layer_part)(const struct norm_job *job, double mean, double invstd) {
    NAME(layer_map)(job->y, job->x, (real)mean, (real)invstd, job->weight, job->bias, job->channels);
}

static void NAME(far_layer_moments)(const struct norm_job *job) {
    NAME(far_moments)(job->far_part, job->x, 1, job->channels, job->channels, job->eps);
}

static int NAME(far_layer_part)(const struct norm_job *job, double *mean, double *invstd) {
    struct norm_far f;
    if (!NAME(far_join)(&f, job->far_part, job->far_parts)) return 0;
    NAME(far_layer_map)(job->y, job->x, &f, job->weight, job->bias, job->channels, job->eps);
    *mean = f.mean / f.scale;
    *invstd = NAME(far_inverse)(&f, job->eps) * f.scale;
    return 1;
}

/* Some rows of which one at least is far. */
RARE void NAME(far_layers)(real *y, real *mean, real *invstd, const real *x, const real *weight, const real *bias,
                           int64_t rows, int64_t cols, double eps) {
    for (int64_t r = 0; r < rows; r++, y += cols, x += cols) {
        struct norm_far f = {0};
        if (!NAME(all_keep_digits)(invstd + r, 1)) NAME(far_moments)(&f, x, 1, cols, cols, eps);
        if (f.scale == 0) {
            NAME(layer_map)(y, x, mean[r], invstd[r], weight, bias, cols);
            continue;
        }
        NAME(far_layer_map)(y, x, &f, weight, bias, cols, eps);
        mean[r] = (real)(f.mean / f.scale);
        invstd[r] = (real)(NAME(far_inverse)(&f, eps) * f.scale);
    }
}

/* A row is read from cache twice more: a first mean, then both moments about it, which mend its
 * rounding (the corrected two-pass algorithm of Chan, Golub and LeVeque 1983), then the map. Each
 * pass is made for some rows before the next, so that their chains of operations overlap. */
static void NAME(layer)(const struct norm_job *job) {
    const int64_t rows = job->rows, cols = job->channels;
    const double eps = job->eps;
    real *mean_out = job->mean, *invstd_out = job->invstd, *y = job->y;
    const real *x = job->x, *weight = job->weight, *bias = job->bias;
    const int64_t together = cols <= 1024 ? ROWS : 1;
    const double share = 1 / (double)cols;
    for (int64_t first = 0, n; first < rows; first += n, x += n * cols, y += n * cols) {
        double sum[ROWS], square[ROWS];
        real mean[ROWS], invstd[ROWS];
        int far = 0;
        n = rows - first < together ? rows - first : together;
        for (int64_t r = 0; r < n; r++) NAME(row_moments)(0, sum + r, square + r, x + r * cols, cols, 0);
        for (int64_t r = 0; r < n; r++) mean[r] = (real)(sum[r] * share);
        for (int64_t r = 0; r < n; r++) NAME(row_moments)(1, sum + r, square + r, x + r * cols, cols, mean[r]);
        for (int64_t r = 0; r < n; r++) {
            const double rest = sum[r] * share, var = square[r] * share - rest * rest;
            mean[r] = (real)((double)mean[r] + rest);
            invstd[r] = (real)(1 / sqrt((var < 0 ? 0 : var) + eps));
            far |= !NAME(keeps_digits)(var, eps);
        }
        if (far) NAME(far_layers)(y, mean, invstd, x, weight, bias, n, cols, eps);
        for (int64_t r = 0; r < n; r++) {
            if (mean_out) mean_out[first + r] = mean[r];
            if (invstd_out) invstd_out[first + r] = invstd[r];
            if (!far) NAME(layer_map)(y + r * cols, x + r * cols, mean[r], invstd[r], weight, bias, cols);
        }
    }
}

/* A row's gradient where its deviation is far from 1: the sums of g and of g (x - mean) invstd. */
RARE void NAME(far_row_grad_sums)(double *sum_, double *dot_, const real *dy, const real *x, real mean, real invstd,
                                  const real *weight, int64_t cols) {
    *sum_ = *dot_ = 0;
    for (int64_t begin = 0; begin < cols; begin += FAR_BLOCK) {
        const int64_t end = cols - begin < FAR_BLOCK ? cols : begin + FAR_BLOCK;
        double sum = 0, dot = 0;
        for (int64_t c = begin; c < end; c++) {
            const double g = (double)dy[c] * (weight ? (double)weight[c] : 1);
            sum += g;
            dot += g * NAME(hat)(x[c], mean, invstd);
        }
        *sum_ += sum;
        *dot_ += dot;
    }
}

/* dx of some columns of a row of n. */
RARE void NAME(far_row_grad_map)(real *dx, const real *dy, const real *x, real mean, real invstd, const real *weight,
                                 int64_t cols, double sum, double dot, double n) {
    for (int64_t c = 0; c < cols; c++) {
        const double g = (double)dy[c] * (weight ? (double)weight[c] : 1);
        dx[c] = (real)((double)invstd * (g - sum / n - NAME(hat)(x[c], mean, invstd) * (dot / n)));
    }
}

/* The sums of g and of g (x - mean). */
INLINE void NAME(row_grad_sums)(double *sum_, double *dot_, const real *dy, const real *x, real mean_,
                                const real *weight, int64_t cols) {
    const vec mean = vset(mean_);
    double sum = 0, dot = 0;
    for (int64_t begin = 0; begin < cols; begin += RUN) {
        const int64_t end = cols - begin < RUN ? cols : begin + RUN;
        vec s[2] = {vzero(), vzero()}, d[2] = {vzero(), vzero()};
        int64_t c = begin;
        for (; c + 2 * W <= end; c += 2 * W) {
            UNROLL for (int k = 0; k < 2; k++) {
                vec g = vload(dy + c + k * W);
                if (weight) g = g * vload(weight + c + k * W);
                s[k] = s[k] + g;
                d[k] = vfma(g, vload(x + c + k * W) - mean, d[k]);
            }
        }
        for (; c < end; c += W) {
            const int m = end - c < W ? (int)(end - c) : W;
            vec g = get(dy + c, m);
            if (weight) g = g * get(weight + c, m);
            s[0] = s[0] + g;
            d[0] = vfma(g, get(x + c, m) - mean, d[0]);
        }
        sum += (double)vsum(s[0] + s[1]);
        dot += (double)vsum(d[0] + d[1]);
    }
    *sum_ = sum;
    *dot_ = dot;
}

/* dx of some columns of a row of n. */
INLINE void NAME(row_grad_map)(real *dx, const real *dy, const real *x, real mean_, real invstd, const real *weight,
                               int64_t cols, double sum, double dot, double n) {
    const double i = (double)invstd;
    const vec mean = vset(mean_), a = vset(invstd), b = vset((real)(-i * i * i * dot / n)),
              e = vset((real)(-i * sum / n));
    for (int64_t c = 0; c < cols; c += W) {
        const int m = cols - c < W ? (int)(cols - c) : W;
        vec g = get(dy + c, m);
        if (weight) g = g * get(weight + c, m);
        put(dx + c, vfma(a, g, vfma(b, get(x + c, m) - mean, e)), m);
    }
}

static void NAME(layer_grad_sums)(const struct norm_job *job, double *sum, double *dot) {
    const real *mean = job->mean, *invstd = job->invstd, *weight = job->weight;
    if (NAME(is_far)((double)*invstd))
        NAME(far_row_grad_sums)(sum, dot, job->dy, job->x, *mean, *invstd, weight, job->channels);
    else NAME(row_grad_sums)(sum, dot, job->dy, job->x, *mean, weight, job->channels);
}

static void NAME(layer_grad_part)(const struct norm_job *job, double sum, double dot) {
    const real *mean = job->mean, *invstd = job->invstd, *weight = job->weight, *dy = job->dy, *x = job->x;
    if (NAME(is_far)((double)*invstd))
        NAME(far_row_grad_map)(job->dx, dy, x, *mean, *invstd, weight, job->channels, sum, dot, job->count);
    else NAME(row_grad_map)(job->dx, dy, x, *mean, *invstd, weight, job->channels, sum, dot, job->count);
}

static __attribute__((noinline)) void NAME(near_layer_grad)(const struct norm_job *job, int64_t first, int64_t end) {
    const int64_t cols = job->channels;
    const real *mean = job->mean, *invstd = job->invstd, *weight = job->weight;
    for (int64_t r = first; r < end; r++) {
        const real *dy = (const real *)job->dy + r * cols, *x = (const real *)job->x + r * cols;
        double sum, dot;
        NAME(row_grad_sums)(&sum, &dot, dy, x, mean[r], weight, cols);
        NAME(row_grad_map)((real *)job->dx + r * cols, dy, x, mean[r], invstd[r], weight, cols, sum, dot, (double)cols);
    }
}

static void NAME(layer_grad)(const struct norm_job *job) {
    const int64_t rows = job->rows, cols = job->channels;
    const real *dy = job->dy, *x = job->x, *mean = job->mean, *invstd = job->invstd, *weight = job->weight;
    real *dx = job->dx;
    if (NAME(is_near)(invstd, rows)) {
        NAME(near_layer_grad)(job, 0, rows);
        return;
    }
    for (int64_t r = 0; r < rows; r++, dx += cols, dy += cols, x += cols) {
        double sum, dot;
        if (!NAME(is_far)((double)invstd[r])) {
            NAME(near_layer_grad)(job, r, r + 1);
            continue;
        }
        NAME(far_row_grad_sums)(&sum, &dot, dy, x, mean[r], invstd[r], weight, cols);
        NAME(far_row_grad_map)(dx, dy, x, mean[r], invstd[r], weight, cols, sum, dot, (double)cols);
    }
}

/* ---- local response norm ------------------------------------------------------------------- */

/* The window of channel c reaches from c - size / 2 to c + (size - 1) / 2. A row of terms stands
 * between as many zeros, with a vector to spare, so that a window is `size` unaligned loads. */
static int64_t NAME(response_scratch)(int64_t n, int64_t size) { return 2 * (n + 2 * W + size); }

/* The channels that the windows of n channels from `first` on hold. */
struct NAME(reach) { int64_t left, right; };

INLINE struct NAME(reach) NAME(reach_of)(int64_t channels, int64_t first, int64_t n, int64_t before, int64_t after) {
    const int64_t end = first + n;
    return (struct NAME(reach)){first < before ? 0 : first - before, channels - end < after ? channels : end + after};
}

INLINE vec NAME(window_sum)(const real *terms, int64_t size) {
    vec sum = vload(terms);
    for (int64_t j = 1; j < size; j++) sum = sum + vload(terms + j);
    return sum;
}

/* x / base^beta */
INLINE vec NAME(divide_power)(vec x, vec base, double beta) {
    if (beta == 0.75) {
        vec root = vsqrt(base);
        return x / (root * vsqrt(root));
    }
    return x * vexp(vset((real)-beta) * vlog(base));
}

static void NAME(response)(const struct norm_response_job *job) {
    const int64_t rows = job->rows, channels = job->channels, first = job->first, n = job->n, size = job->size;
    const double beta = job->beta;
    real *squares = job->scratch, *y = job->y, *base = job->base;
    const real *x = job->x;
    const vec scale = vset((real)(job->alpha / (double)size)), k = vset((real)job->k);
    const struct NAME(reach) to = NAME(reach_of)(channels, first, n, size / 2, (size - 1) / 2);
    memset(squares, 0, (size_t)(n + 2 * W + size) * sizeof *squares);
    for (int64_t r = 0; r < rows; r++, x += channels, y += channels) {
        for (int64_t c = to.left; c < to.right; c += W) {
            const int m = to.right - c < W ? (int)(to.right - c) : W;
            vec v = get(x + c, m);
            vstore(squares + size / 2 + c - first, v * v);
        }
        for (int64_t c = first; c < first + n; c += W) {
            const int m = first + n - c < W ? (int)(first + n - c) : W;
            vec b = vfma(NAME(window_sum)(squares + c - first, size), scale, k);
            if (base) put(base + r * channels + c, b, m);
            put(y + c, NAME(divide_power)(get(x + c, m), b, beta), m);
        }
    }
}

/* With p = base^-beta: dx = dy p - 2 alpha beta / size x sum(dy x p / base), the sum over the channels
 * in whose window this one is, c - (size - 1) / 2 to c + size / 2. */
static void NAME(response_grad)(const struct norm_response_job *job) {
    const int64_t rows = job->rows, channels = job->channels, first = job->first, n = job->n, size = job->size;
    const double beta = job->beta;
    real *scaled = job->scratch, *terms = scaled + n + 2 * W + size, *dx = job->dx;
    const real *dy = job->dy, *x = job->x, *base = job->base;
    const vec factor = vset((real)(-2 * job->alpha * beta / (double)size));
    const int64_t before = (size - 1) / 2;
    const struct NAME(reach) to = NAME(reach_of)(channels, first, n, before, size / 2);
    memset(terms, 0, (size_t)(n + 2 * W + size) * sizeof *terms);
    for (int64_t r = 0; r < rows; r++, x += channels, dy += channels, dx += channels, base += channels) {
        for (int64_t c = to.left; c < to.right; c += W) {
            const int m = to.right - c < W ? (int)(to.right - c) : W;
            vec b = get(base + c, m), g = NAME(divide_power)(get(dy + c, m), b, beta), t = g * get(x + c, m) / b;
            vstore(scaled + c - to.left, g);
            vstore(terms + before + c - first, t);
        }
        /* The last vector has left 0 / 0 behind the row. */
        memset(terms + before + to.right - first, 0, W * sizeof *terms);
        for (int64_t c = first; c < first + n; c += W) {
            const int m = first + n - c < W ? (int)(first + n - c) : W;
            vec sum = NAME(window_sum)(terms + c - first, size);
            put(dx + c, vfma(factor * get(x + c, m), sum, vload(scaled + c - to.left)), m);
        }
    }
}

#undef first_lanes
#undef get
#undef put

static const struct norm_kernels NAME(table) = {
    .columns = NAME(columns),
    .stats = NAME(stats),
    .grad_stats = NAME(grad_stats),
    .far_dots = NAME(far_dots),
    .row_grad_stats = NAME(row_grad_stats),
    .finish = NAME(finish),
    .group_finish = NAME(group_finish),
    .far_stats = NAME(far_stats),
    .far_finish = NAME(far_finish),
    .grad_finish = NAME(grad_finish),
    .group_grad_finish = NAME(group_grad_finish),
    .running = NAME(running),
    .inverse = NAME(inverse),
    .forward_columns = NAME(forward_columns),
    .apply = NAME(apply),
    .backward_columns = NAME(backward_columns),
    .grad_apply = NAME(grad_apply),
    .layer = NAME(layer),
    .layer_moments = NAME(layer_moments),
    .layer_part = NAME(layer_part),
    .keeps_digits = NAME(keep_digits),
    .far_layer_moments = NAME(far_layer_moments),
    .far_layer_part = NAME(far_layer_part),
    .layer_grad = NAME(layer_grad),
    .layer_grad_sums = NAME(layer_grad_sums),
    .layer_grad_part = NAME(layer_grad_part),
    .response_scratch = NAME(response_scratch),
    .response = NAME(response),
    .response_grad = NAME(response_grad),
};
