/* Softmax and the losses with their gradients.
 *
 * Rows of up to NARROW columns (the common case: ten classes) are worked on W at a time: a block is
 * transposed, so that a lane is a row and every sum over the columns stays within its lane. Wider
 * rows are read along the columns, one at a time. Either way a row's bits depend on that row alone.
 * Sums are taken over blocks of BLOCK elements in the element type, and over blocks in double.
 */
#define NARROW 32
#define BLOCK 256

#define first_lanes NAME(first_lanes)
#define read_block NAME(read_block)
#define write_block NAME(write_block)

/* v in the first n lanes, `rest` in the others. By bits, not vsel: gcc 12 cannot select by a mask
 * that it finds to be constant, as it does where W is 2. */
INLINE vec first_lanes(vec v, int n, vec rest) {
    static const ireal window[2 * W] = {[0 ... W - 1] = -1};
    veci mask = vasi(vload((const real *)window + W - n));
    return vasf((mask & vasi(v)) | (~mask & vasi(rest)));
}

/* t[c * W + r] = x[r * cols + c]: a vector holds a column of `rows` rows, zeros in the other lanes. */
INLINE void read_block(real *t, const real *x, int rows, int cols) {
    if (rows < W) memset(t, 0, (size_t)(cols * W) * sizeof *t);
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < cols; c++) t[c * W + r] = x[r * cols + c];
}

INLINE void write_block(real *x, const real *t, int rows, int cols) {
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < cols; c++) x[r * cols + c] = t[c * W + r];
}

/* NaN if any is NaN. */
static double NAME(row_max)(const void *x_, int64_t n) {
    const real *x = x_;
    vec lowest = vset(-(real)INFINITY), m0 = lowest, m1 = lowest, m2 = lowest, m3 = lowest;
    int64_t i = 0;
    for (; i + 4 * W <= n; i += 4 * W) {
        m0 = vmax(m0, vload(x + i));
        m1 = vmax(m1, vload(x + i + W));
        m2 = vmax(m2, vload(x + i + 2 * W));
        m3 = vmax(m3, vload(x + i + 3 * W));
    }
    for (; i + W <= n; i += W) m0 = vmax(m0, vload(x + i));
    if (i < n) m1 = vmax(m1, first_lanes(vload_n(x + i, (int)(n - i)), (int)(n - i), lowest));
    return (double)vhmax(vmax(vmax(m0, m1), vmax(m2, m3)));
}

/* ---- softmax ------------------------------------------------------------------------------ */

static void NAME(softmax_narrow)(real *y, const real *x, int rows, int cols, int log) {
    real t[NARROW * W];
    read_block(t, x, rows, cols);
    vec max = vload(t), sum = vzero();
    for (int c = 1; c < cols; c++) max = vmax(max, vload(t + c * W));
    for (int c = 0; c < cols; c++) {
        vec shifted = vload(t + c * W) - max, e = vexp(shifted);
        sum = sum + e;
        vstore(t + c * W, log ? shifted : e);
    }
    vec log_sum = log ? vlog(sum) : vzero(), factor = log ? vset(1) : vset(1) / sum;
    for (int c = 0; c < cols; c++) vstore(t + c * W, vload(t + c * W) * factor - log_sum);
    write_block(y, t, rows, cols);
}

/* y = exp(x - max) unless y is NULL; returns its sum. */
static double NAME(row_exp)(void *y_, const void *x_, int64_t n, double max_) {
    real *y = y_;
    const real *x = x_;
    vec max = vset((real)max_);
    double total = 0;
    for (int64_t begin = 0; begin < n; begin += BLOCK) {
        int64_t i = begin, end = n - begin < BLOCK ? n : begin + BLOCK;
        vec sum = vzero();
        for (; i + W <= end; i += W) {
            vec e = vexp(vload(x + i) - max);
            if (y) vstore(y + i, e);
            sum = sum + e;
        }
        if (i < end) {
            int m = (int)(end - i);
            vec e = vexp(vload_n(x + i, m) - max);
            if (y) vstore_n(y + i, e, m);
            sum = sum + first_lanes(e, m, vzero());
        }
        total += (double)vsum(sum);
    }
    return total;
}

/* y = (x - shift) factor - less w, w = 1 without weights. */
static void NAME(row_map)(void *y_, const void *x_, const void *weight_, int64_t n, double shift_, double factor_,
                          double less_) {
    real *y = y_;
    const real *x = x_, *weight = weight_;
    const vec shift = vset((real)shift_), factor = vset((real)factor_), less = vset((real)less_);
    for (int64_t i = 0; i < n; i += W) {
        int m = n - i < W ? (int)(n - i) : W;
        vec v = ((m == W ? vload(x + i) : vload_n(x + i, m)) - shift) * factor;
        v = v - (!weight ? less : less * (m == W ? vload(weight + i) : vload_n(weight + i, m)));
        if (m == W) vstore(y + i, v);
        else vstore_n(y + i, v, m);
    }
}

static double NAME(log_of)(double x) { return (double)vlog(vset((real)x))[0]; }

static void NAME(softmax_wide)(real *y, const real *x, int64_t n, int log) {
    const double max = NAME(row_max)(x, n), total = NAME(row_exp)(log ? NULL : y, x, n, max);
    if (log) NAME(row_map)(y, x, NULL, n, max, 1, NAME(log_of)(total));
    else NAME(row_map)(y, y, NULL, n, 0, 1 / total, 0);
}

static void NAME(softmax)(void *y_, const void *x_, int64_t rows, int64_t cols, int log) {
    real *y = y_;
    const real *x = x_;
    if (cols <= NARROW)
        for (int64_t r = 0; r < rows; r += W)
            NAME(softmax_narrow)(y + r * cols, x + r * cols, rows - r < W ? (int)(rows - r) : W, (int)cols, log);
    else
        for (int64_t r = 0; r < rows; r++) NAME(softmax_wide)(y + r * cols, x + r * cols, cols, log);
}

/* Softmax: dx = y (dy - sum(dy y)). Log-softmax: dx = dy - exp(y) sum(dy). */
static void NAME(softmax_backward_narrow)(real *dx, const real *dy, const real *y, int rows, int cols, int log) {
    real t[NARROW * W], d[NARROW * W];
    vec sum = vzero();
    read_block(t, y, rows, cols);
    read_block(d, dy, rows, cols);
    for (int i = 0; i < cols * W; i += W) sum = log ? sum + vload(d + i) : vfma(vload(d + i), vload(t + i), sum);
    for (int i = 0; i < cols * W; i += W)
        vstore(d + i, log ? vload(d + i) - vexp(vload(t + i)) * sum : vload(t + i) * (vload(d + i) - sum));
    write_block(dx, d, rows, cols);
}

/* sum(dy y), or sum(dy) */
static double NAME(row_dot)(const void *dy_, const void *y_, int64_t n, int log) {
    const real *dy = dy_, *y = y_;
    double total = 0;
    for (int64_t begin = 0; begin < n; begin += BLOCK) {
        int64_t i = begin, end = n - begin < BLOCK ? n : begin + BLOCK;
        vec sum = vzero();
        for (; i + W <= end; i += W) sum = log ? sum + vload(dy + i) : vfma(vload(dy + i), vload(y + i), sum);
        if (i < end) {
            int m = (int)(end - i);
            sum = log ? sum + vload_n(dy + i, m) : vfma(vload_n(dy + i, m), vload_n(y + i, m), sum);
        }
        total += (double)vsum(sum);
    }
    return total;
}

static void NAME(row_back)(void *dx_, const void *dy_, const void *y_, int64_t n, double total, int log) {
    real *dx = dx_;
    const real *dy = dy_, *y = y_;
    vec sum = vset((real)total);
    for (int64_t i = 0; i < n; i += W) {
        int m = n - i < W ? (int)(n - i) : W;
        vec d = m == W ? vload(dy + i) : vload_n(dy + i, m), t = m == W ? vload(y + i) : vload_n(y + i, m);
        d = log ? d - vexp(t) * sum : t * (d - sum);
        if (m == W) vstore(dx + i, d);
        else vstore_n(dx + i, d, m);
    }
}

static void NAME(softmax_backward_wide)(real *dx, const real *dy, const real *y, int64_t n, int log) {
    NAME(row_back)(dx, dy, y, n, NAME(row_dot)(dy, y, n, log), log);
}

static void NAME(softmax_backward)(void *dx_, const void *dy_, const void *y_, int64_t rows, int64_t cols, int log) {
    real *dx = dx_;
    const real *dy = dy_, *y = y_;
    if (cols <= NARROW)
        for (int64_t r = 0; r < rows; r += W)
            NAME(softmax_backward_narrow)(dx + r * cols, dy + r * cols, y + r * cols,
                                          rows - r < W ? (int)(rows - r) : W, (int)cols, log);
    else
        for (int64_t r = 0; r < rows; r++)
            NAME(softmax_backward_wide)(dx + r * cols, dy + r * cols, y + r * cols, cols, log);
}

/* ---- cross-entropy ------------------------------------------------------------------------ */

/* With q = log softmax(x), t the label, w the class weights (1 without), s the smoothing, C columns:
 *
 *   loss = a (-q_t) + b (-sum_c w_c q_c)        a = (1 - s) w_t scale, b = s / C scale
 *   dx_c = softmax(x)_c (a + b sum w) - b w_c   and, for c = t, less a
 *
 * Terms with b are left out where s = 0, as in PyTorch: 0 * inf would be NaN.
 */
static void NAME(cross_entropy_narrow)(real *loss, real *dlogits, const real *logits, const int64_t *labels,
                                       const real *weight, int rows, const struct cross_entropy *s) {
    int cols = (int)s->cols;
    real t[NARROW * W], lane_a[W] = {0}, lane_own[W] = {0}, lane_skip[W];
    read_block(t, logits, rows, cols);
    vstore(lane_skip, vset(1));
    for (int r = 0; r < rows; r++) {
        if (labels[r] == s->ignore_index) continue;
        lane_skip[r] = 0;
        lane_own[r] = t[labels[r] * W + r];
        lane_a[r] = (real)((1 - s->smoothing) * (weight ? (double)weight[labels[r]] : 1.0) * s->scale);
    }
    const int smooth = s->smoothing != 0;
    const vec a = vload(lane_a), b = vset((real)(s->smoothing / cols * s->scale)),
              weight_sum = vset((real)s->weight_sum);
    const vmask skip = vneq(vload(lane_skip), vzero());
    vec max = vload(t), sum = vzero(), weighted = vzero();
    for (int c = 1; c < cols; c++) max = vmax(max, vload(t + c * W));
    for (int c = 0; c < cols; c++) {
        vec x = vload(t + c * W) - max, e = vexp(x);
        if (smooth) weighted = weight ? vfma(x, vset(weight[c]), weighted) : weighted + x;
        sum = sum + e;
        vstore(t + c * W, e);
    }
    vec log_sum = vlog(sum), value = a * (log_sum - (vload(lane_own) - max));
    if (smooth) value = vfma(b, weight_sum * log_sum - weighted, value);
    value = vsel(skip, vset((real)s->ignored), value);
    if (rows == W) vstore(loss, value);
    else vstore_n(loss, value, rows);
    if (!dlogits) return;
    vec k = (smooth ? vfma(b, weight_sum, a) : a) / sum;
    for (int c = 0; c < cols; c++) {
        vec d = vload(t + c * W) * k;
        if (smooth) d = d - (weight ? b * vset(weight[c]) : b);
        vstore(t + c * W, vsel(skip, vzero(), d));
    }
    for (int r = 0; r < rows; r++)
        if (labels[r] != s->ignore_index) t[labels[r] * W + r] -= lane_a[r];
    write_block(dlogits, t, rows, cols);
}

/* sum of w (x - max), w = 1 without weights */
static double NAME(row_weighted)(const void *x_, const void *weight_, int64_t n, double max_) {
    const real *x = x_, *weight = weight_;
    vec max = vset((real)max_);
    double total = 0;
    for (int64_t begin = 0; begin < n; begin += BLOCK) {
        int64_t i = begin, end = n - begin < BLOCK ? n : begin + BLOCK;
        vec sum = vzero();
        for (; i + W <= end; i += W) {
            vec v = vload(x + i) - max;
            sum = weight ? vfma(v, vload(weight + i), sum) : sum + v;
        }
        if (i < end) {
            int m = (int)(end - i);
            vec v = first_lanes(vload_n(x + i, m) - max, m, vzero());
            sum = weight ? vfma(v, vload_n(weight + i, m), sum) : sum + v;
        }
        total += (double)vsum(sum);
    }
    return total;
}

static void NAME(cross_entropy_wide)(real *loss, real *dlogits, const real *logits, int64_t label, const real *weight,
                                     const struct cross_entropy *s) {
    int64_t n = s->cols;
    if (label == s->ignore_index) {
        *loss = (real)s->ignored;
        if (dlogits) memset(dlogits, 0, (size_t)n * sizeof *dlogits);
        return;
    }
    double a = (1 - s->smoothing) * (weight ? (double)weight[label] : 1.0) * s->scale;
    double b = s->smoothing != 0 ? s->smoothing / (double)n * s->scale : 0;
    double max = NAME(row_max)(logits, n), own = (double)(logits[label] - (real)max);
    double weighted = s->smoothing != 0 ? NAME(row_weighted)(logits, weight, n, max) : 0;
    double sum = NAME(row_exp)(dlogits, logits, n, max), log_sum = NAME(log_of)(sum);
    double value = a * (log_sum - own), k = a;
    if (s->smoothing != 0) {
        value += b * (s->weight_sum * log_sum - weighted);
        k += b * s->weight_sum;
    }
    *loss = (real)value;
    if (!dlogits) return;
    NAME(row_map)(dlogits, dlogits, s->smoothing != 0 ? weight : NULL, n, 0, k / sum, b);
    dlogits[label] -= (real)a;
}

static void NAME(cross_entropy)(void *loss_, void *dlogits_, const void *logits_, const int64_t *labels,
                                const void *weight, int64_t rows, const struct cross_entropy *s) {
    real *loss = loss_, *dlogits = dlogits_;
    const real *logits = logits_;
    int64_t n = s->cols;
    if (n <= NARROW)
        for (int64_t r = 0; r < rows; r += W)
            NAME(cross_entropy_narrow)(loss + r, dlogits ? dlogits + r * n : NULL, logits + r * n, labels + r, weight,
                                       rows - r < W ? (int)(rows - r) : W, s);
    else
        for (int64_t r = 0; r < rows; r++)
            NAME(cross_entropy_wide)(loss + r, dlogits ? dlogits + r * n : NULL, logits + r * n, labels[r], weight, s);
}

static double NAME(label_weight)(const int64_t *labels, const void *weight_, int64_t rows, int64_t ignore_index) {
    const real *weight = weight_;
    int64_t count = 0;
    double total = 0;
    if (!weight) {
        for (int64_t r = 0; r < rows; r++) count += labels[r] != ignore_index;
        return (double)count;
    }
    for (int64_t r = 0; r < rows; r++)
        if (labels[r] != ignore_index) total += (double)weight[labels[r]];
    return total;
}

static double NAME(sum)(const void *x_, int64_t n) {
    const real *x = x_;
    double total = 0;
    for (int64_t i = 0; i < n; i++) total += (double)x[i];
    return total;
}

/* ---- element by element ------------------------------------------------------------------- */

/* Losses of x, an input, and t, its target, with parameter p: value and slope for x. */
INLINE vec NAME(mse_value)(vec x, vec t, vec p) { return (x - t) * (x - t); }
INLINE vec NAME(mse_slope)(vec x, vec t, vec p) { return (x - t) + (x - t); }
INLINE vec NAME(l1_value)(vec x, vec t, vec p) { return vabs(x - t); }
/* The sign; 0 for NaN, as in PyTorch. */
INLINE vec NAME(l1_slope)(vec x, vec t, vec p) {
    vec d = x - t;
    return vsel(vgt(d, vzero()), vset(1), vsel(vlt(d, vzero()), vset(-1), vzero()));
}
INLINE vec NAME(smooth_l1_value)(vec x, vec t, vec p) {
    vec d = x - t, size = vabs(d), half = vset((real)0.5);
    return vsel(vlt(size, p), half * d * d / p, size - half * p);
}
INLINE vec NAME(smooth_l1_slope)(vec x, vec t, vec p) {
    vec d = x - t;
    return vsel(vge(vabs(d), p), NAME(l1_slope)(x, t, p), d / p);
}
INLINE vec NAME(huber_value)(vec x, vec t, vec p) {
    vec d = x - t, size = vabs(d), half = vset((real)0.5);
    return vsel(vle(size, p), half * d * d, p * (size - half * p));
}
INLINE vec NAME(huber_slope)(vec x, vec t, vec p) {
    vec d = x - t;
    return vsel(vgt(d, p), p, vsel(vlt(d, vneg(p)), vneg(p), d));
}
/* -(t log x + (1 - t) log(1 - x)), logarithms at least -100; the divisor of the slope is at least 1e-12.
 * log(1 - x) is that of u = 1 - x, corrected by what u was rounded by. */
INLINE vec NAME(log_of_rest)(vec x) {
    vec u = vset(1) - x, lost = (vset(1) - u) - x;
    return vsel(veq(u, vzero()), vlog(u), vlog(u) + lost / u);
}
INLINE vec NAME(bce_value)(vec x, vec t, vec p) {
    vec least = vset(-100), yes = vmax(vlog(x), least), no = vmax(NAME(log_of_rest)(x), least);
    return vneg(vfma(t, yes, (vset(1) - t) * no));
}
INLINE vec NAME(bce_slope)(vec x, vec t, vec p) { return (x - t) / vmax((vset(1) - x) * x, vset((real)1e-12)); }
/* log(1 + e^-(t x)) */
INLINE vec NAME(soft_margin_value)(vec x, vec t, vec p) { return vsoftplus(vneg(x * t)); }
INLINE vec NAME(soft_margin_slope)(vec x, vec t, vec p) { return vneg(t) * vsigmoid(vneg(x * t)); }

INLINE double NAME(by_element)(vec (*value)(vec, vec, vec), vec (*slope)(vec, vec, vec), real *loss, real *dinput,
                               const real *input, const real *target, int64_t n, real scale, real param) {
    double total = 0;
    for (int64_t begin = 0; begin < n; begin += BLOCK) {
        int64_t i = begin, end = n - begin < BLOCK ? n : begin + BLOCK;
        vec sum = vzero(), p = vset(param);
        for (; i + W <= end; i += W) {
            vec x = vload(input + i), t = vload(target + i), v = value(x, t, p);
            if (loss) vstore(loss + i, v);
            if (dinput) vstore(dinput + i, slope(x, t, p) * vset(scale));
            sum = sum + v;
        }
        if (i < end) {
            int m = (int)(end - i);
            vec x = vload_n(input + i, m), t = vload_n(target + i, m), v = value(x, t, p);
            if (loss) vstore_n(loss + i, v, m);
            if (dinput) vstore_n(dinput + i, slope(x, t, p) * vset(scale), m);
            sum = sum + first_lanes(v, m, vzero());
        }
        total += (double)vsum(sum);
    }
    return total;
}

#define BY_ELEMENT(kind)                                                                                          \
    static double NAME(kind)(void *loss, void *dinput, const void *input, const void *target, int64_t n,          \
                             double scale, double param) {                                                        \
        return NAME(by_element)(NAME(kind##_value), NAME(kind##_slope), loss, dinput, input, target, n,           \
                                (real)scale, (real)param);                                                        \
    }
BY_ELEMENT(mse)
BY_ELEMENT(l1)
BY_ELEMENT(smooth_l1)
BY_ELEMENT(huber)
BY_ELEMENT(bce)
BY_ELEMENT(soft_margin)

/* With x = input, t = target, p = pos_weight (1 without):
 *
 *   loss = weight ((1 - t) x + (1 + (p - 1) t) log(1 + e^-x))
 *   dx   = weight ((p t + 1 - t) sigmoid(x) - p t)
 */
static double NAME(bce_with_logits)(void *loss_, void *dinput_, const void *input_, const void *target_,
                                    const void *weight_, const void *pos_weight_, int64_t n, int64_t first,
                                    int64_t cols, double scale_) {
    real *loss = loss_, *dinput = dinput_, positive[BLOCK];
    const real *input = input_, *target = target_, *weight = weight_, *pos_weight = pos_weight_;
    const vec scale = vset((real)scale_), one = vset(1);
    int64_t column = pos_weight ? first % cols : 0;
    double total = 0;
    for (int64_t begin = 0; begin < n; begin += BLOCK) {
        int64_t size = n - begin < BLOCK ? n - begin : BLOCK;
        vec sum = vzero();
        if (pos_weight)
            for (int64_t j = 0; j < size; j++) {
                positive[j] = pos_weight[column];
                if (++column == cols) column = 0;
            }
        for (int64_t j = 0; j < size; j += W) {
            int64_t i = begin + j;
            int m = size - j < W ? (int)(size - j) : W;
            vec x = m == W ? vload(input + i) : vload_n(input + i, m);
            vec t = m == W ? vload(target + i) : vload_n(target + i, m);
            vec w = !weight ? one : m == W ? vload(weight + i) : vload_n(weight + i, m);
            vec s = vsigmoid(x), v = vsoftplus(vneg(x)), d = s - t;
            if (pos_weight) {
                vec p = m == W ? vload(positive + j) : vload_n(positive + j, m);
                v = vfma(p - one, t, one) * v;
                d = vfma(vfma(p, t, one - t), s, vneg(p * t));
            }
            v = w * vfma(one - t, x, v);
            d = w * d * scale;
            sum = sum + (m == W ? v : first_lanes(v, m, vzero()));
            if (m == W) {
                if (loss) vstore(loss + i, v);
                if (dinput) vstore(dinput + i, d);
            } else {
                if (loss) vstore_n(loss + i, v, m);
                if (dinput) vstore_n(dinput + i, d, m);
            }
        }
        total += (double)vsum(sum);
    }
    return total;
}

static const struct loss_kernels NAME(table) = {
    .softmax = NAME(softmax),
    .softmax_backward = NAME(softmax_backward),
    .cross_entropy = NAME(cross_entropy),
    .row_max = NAME(row_max),
    .row_exp = NAME(row_exp),
    .row_weighted = NAME(row_weighted),
    .row_map = NAME(row_map),
    .row_dot = NAME(row_dot),
    .row_back = NAME(row_back),
    .log_of = NAME(log_of),
    .label_weight = NAME(label_weight),
    .sum = NAME(sum),
    .mse = NAME(mse),
    .l1 = NAME(l1),
    .smooth_l1 = NAME(smooth_l1),
    .huber = NAME(huber),
    .bce = NAME(bce),
    .soft_margin = NAME(soft_margin),
    .bce_with_logits = NAME(bce_with_logits),
};
