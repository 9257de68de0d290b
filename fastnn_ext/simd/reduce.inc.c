/* Sums, means, maxima, minima and products along rows or columns.
 *
 * A float32 sum of a million terms must not lose ten bits. Each lane adds up a block of BLOCK terms;
 * the blocks' results are added like the digits of a binary counter, two of equal weight at a time.
 * So no term goes through more than BLOCK + log2(length) additions, in an order that depends on the
 * length alone. Maxima go the same way; their order does not matter.
 */

#define BLOCK 16  /* terms that a chain of additions takes before its result moves up */
#define LEVELS 60 /* digits of the counter */
#define CHAINS 4  /* independent additions in flight, along a row */
#define STRIP 8   /* vectors side by side, down columns */

INLINE vec NAME(combine)(int kind, vec a, vec b) {
    return kind == REDUCE_MAX ? vmax(a, b) : kind == REDUCE_MIN ? vmin(a, b) : kind == REDUCE_PROD ? a * b : a + b;
}
INLINE vec NAME(neutral)(int kind) {
    return vset(kind == REDUCE_MAX ? -(real)INFINITY : kind == REDUCE_MIN ? (real)INFINITY : kind == REDUCE_PROD);
}
INLINE real NAME(across)(int kind, vec v) {
    if (kind == REDUCE_PROD) {
        real lane[W], product = 1;
        vstore(lane, v);
        for (int k = 0; k < W; k++) product *= lane[k];
        return product;
    }
    return kind == REDUCE_MAX ? vhmax(v) : kind == REDUCE_MIN ? -vhmax(vneg(v)) : vsum(v);
}

/* The first n elements, the rest neutral. */
INLINE vec NAME(load_part)(int kind, const real *x, int n) {
    static const real lane[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return vsel(vlt(vload(lane), vset((real)n)), vload_n(x, n), NAME(neutral)(kind));
}

INLINE vec NAME(join)(int kind, const vec *chain) {
    return NAME(combine)(kind, NAME(combine)(kind, chain[0], chain[1]), NAME(combine)(kind, chain[2], chain[3]));
}

INLINE real NAME(reduce_row)(int kind, const real *x, int64_t length) {
    enum { STEP = BLOCK * CHAINS * W };
    vec level[LEVELS], chain[CHAINS];
    int64_t blocks = length / STEP, k = blocks * STEP;
    for (int64_t block = 0; block < blocks; block++) {
        const real *p = x + block * STEP;
        UNROLL for (int c = 0; c < CHAINS; c++) chain[c] = vload(p + c * W);
        UNROLL for (int t = 1; t < BLOCK; t++)
            UNROLL for (int c = 0; c < CHAINS; c++)
                chain[c] = NAME(combine)(kind, chain[c], vload(p + (t * CHAINS + c) * W));
        vec sum = NAME(join)(kind, chain);
        int digit = 0;
        for (; block >> digit & 1; digit++) sum = NAME(combine)(kind, level[digit], sum);
        level[digit] = sum;
    }
    UNROLL for (int c = 0; c < CHAINS; c++) chain[c] = NAME(neutral)(kind);
    for (; k + CHAINS * W <= length; k += CHAINS * W)
        UNROLL for (int c = 0; c < CHAINS; c++) chain[c] = NAME(combine)(kind, chain[c], vload(x + k + c * W));
    for (; k + W <= length; k += W) chain[0] = NAME(combine)(kind, chain[0], vload(x + k));
    vec total = NAME(join)(kind, chain);
    if (k < length) total = NAME(combine)(kind, total, NAME(load_part)(kind, x + k, (int)(length - k)));
    for (int digit = 0; blocks >> digit; digit++)
        if (blocks >> digit & 1) total = NAME(combine)(kind, level[digit], total);
    return NAME(across)(kind, total);
}

/* `count` vectors side by side, of which the last holds `n` columns. */
INLINE void NAME(reduce_strip)(int kind, int count, real *y, const real *x, int64_t length, int n, int64_t stride,
                               vec divisor) {
    vec level[LEVELS][STRIP], total[STRIP];
    int64_t blocks = length / BLOCK;
    UNROLL for (int c = 0; c < count; c++) total[c] = NAME(neutral)(kind);
#define AT(k, c) (n == W ? vload(x + (k) * stride + (c) * W) : vload_n(x + (k) * stride, n))
    for (int64_t block = 0; block < blocks; block++) {
        vec sum[STRIP];
        UNROLL for (int c = 0; c < count; c++) sum[c] = AT(block * BLOCK, c);
        for (int t = 1; t < BLOCK; t++)
            UNROLL for (int c = 0; c < count; c++) sum[c] = NAME(combine)(kind, sum[c], AT(block * BLOCK + t, c));
        int digit = 0;
        for (; block >> digit & 1; digit++)
            UNROLL for (int c = 0; c < count; c++) sum[c] = NAME(combine)(kind, level[digit][c], sum[c]);
        UNROLL for (int c = 0; c < count; c++) level[digit][c] = sum[c];
    }
    for (int64_t k = blocks * BLOCK; k < length; k++)
        UNROLL for (int c = 0; c < count; c++) total[c] = NAME(combine)(kind, total[c], AT(k, c));
#undef AT
    for (int digit = 0; blocks >> digit; digit++)
        if (blocks >> digit & 1)
            UNROLL for (int c = 0; c < count; c++) total[c] = NAME(combine)(kind, level[digit][c], total[c]);
    if (kind == REDUCE_MEAN) UNROLL for (int c = 0; c < count; c++) total[c] = total[c] / divisor;
    if (n < W) {
        vstore_n(y, total[0], n);
        return;
    }
    UNROLL for (int c = 0; c < count; c++) vstore(y + c * W, total[c]);
}

#define REDUCE(name, kind)                                                                                  \
    static void NAME(name##_rows)(void *y_, const void *x_, int64_t rows, int64_t length, int64_t stride,   \
                                  double divisor) {                                                         \
        real *y = y_;                                                                                       \
        const real *x = x_;                                                                                 \
        for (int64_t r = 0; r < rows; r++) {                                                                \
            real value = NAME(reduce_row)(kind, x + r * stride, length);                                    \
            if (kind == REDUCE_MEAN) value /= (real)divisor;                                                \
            y[r] = value;                                                                                   \
        }                                                                                                   \
    }                                                                                                       \
    static void NAME(name##_columns)(void *y_, const void *x_, int64_t length, int64_t n, int64_t stride,   \
                                     double divisor) {                                                      \
        real *y = y_;                                                                                       \
        const real *x = x_;                                                                                 \
        vec d = vset((real)divisor);                                                                        \
        int64_t j = 0;                                                                                      \
        for (; j + STRIP * W <= n; j += STRIP * W)                                                          \
            NAME(reduce_strip)(kind, STRIP, y + j, x + j, length, W, stride, d);                            \
        for (; j + W <= n; j += W) NAME(reduce_strip)(kind, 1, y + j, x + j, length, W, stride, d);         \
        if (j < n) NAME(reduce_strip)(kind, 1, y + j, x + j, length, (int)(n - j), stride, d);              \
    }

REDUCE(sum, REDUCE_SUM)
REDUCE(mean, REDUCE_MEAN)
REDUCE(max, REDUCE_MAX)
REDUCE(min, REDUCE_MIN)
REDUCE(prod, REDUCE_PROD)

static const struct reduce_kernels NAME(table) = {
    .rows = {[REDUCE_SUM] = NAME(sum_rows), [REDUCE_MEAN] = NAME(mean_rows), [REDUCE_MAX] = NAME(max_rows),
             [REDUCE_MIN] = NAME(min_rows), [REDUCE_PROD] = NAME(prod_rows)},
    .columns = {[REDUCE_SUM] = NAME(sum_columns), [REDUCE_MEAN] = NAME(mean_columns),
                [REDUCE_MAX] = NAME(max_columns), [REDUCE_MIN] = NAME(min_columns),
                [REDUCE_PROD] = NAME(prod_columns)},
};
