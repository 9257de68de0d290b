/* Maps, broadcasting maps of two operands, copies between layouts, and fills. */

#undef POW
#undef LIBM
#if REAL_IS_FLOAT
#define POW powf
#define LIBM(kind, function) BY_LIBM(kind, function##f)
#else
#define POW pow
#define LIBM(kind, function) BY_LIBM(kind, function)
#endif

/* ---- one operand ---- */

/* The loop of a map: y = value of x. The tail goes through the same vectors, so that an element's
 * result does not depend on its place. */
#define MAP(value)                                           \
    do {                                                     \
        int64_t i = 0;                                       \
        for (; i + W <= n; i += W) {                         \
            vec x = vload(x_in + i);                         \
            vstore(y + i, value);                            \
        }                                                    \
        if (i < n) {                                         \
            vec x = vload_n(x_in + i, (int)(n - i));         \
            vstore_n(y + i, value, (int)(n - i));            \
        }                                                    \
    } while (0)

#define UNARY(kind, value)                                                                    \
    static void NAME(unary_##kind)(void *y_, const void *x_, int64_t n, double a, double b) { \
        real *y = y_;                                                                         \
        const real *x_in = x_;                                                                \
        MAP(value);                                                                           \
    }

/* 1 and -1 by sign, 0 at zeros and, as PyTorch has it, at NaN. */
INLINE vec NAME(signum)(vec x) {
    vec negative = vsel(vlt(x, vzero()), vset(-1), vzero());
    return vsel(vgt(x, vzero()), vset(1), negative);
}

UNARY(exp, vexp(x))
UNARY(log, vlog(x))
UNARY(sqrt, vsqrt(x))
UNARY(abs, vabs(x))
UNARY(square, x * x)
UNARY(reciprocal, vset(1) / x)
UNARY(sign, NAME(signum)(x))
UNARY(expm1, vexpm1(x))
UNARY(erf, verf(x))
UNARY(log1pexp, vlog1pexp(x))

/* a x + b. -0, not 0, is what can be added without a trace: it keeps the sign of a x = -0. */
static void NAME(unary_affine)(void *y_, const void *x_, int64_t n, double a, double b) {
    real *y = y_;
    const real *x_in = x_;
    vec factor = vset((real)a), term = vset(b == 0 ? (real)-0.0 : (real)b);
    MAP(vfma(factor, x, term));
}

/* x^a. The exponents that networks use are rounded as written here, as PyTorch does. */
static void NAME(unary_power)(void *y_, const void *x_, int64_t n, double a, double b) {
    real *y = y_;
    const real *x_in = x_;
    if (a == 0.5) MAP(vsqrt(x));
    else if (a == 1) MAP(x);
    else if (a == 2) MAP(x * x);
    else if (a == 3) MAP(x * x * x);
    else if (a == -1) MAP(vset(1) / x);
    else if (a == -0.5) MAP(vset(1) / vsqrt(x));
    else
        for (int64_t i = 0; i < n; i++) y[i] = POW(x_in[i], (real)a);
}

#define BY_LIBM(kind, function)                                                                   \
    static void NAME(unary_##kind)(void *y, const void *x, int64_t n, double a, double b) {       \
        for (int64_t i = 0; i < n; i++) ((real *)y)[i] = function(((const real *)x)[i]);          \
    }

LIBM(sin, sin)
LIBM(cos, cos)
LIBM(tan, tan)
LIBM(asin, asin)
LIBM(acos, acos)
LIBM(atan, atan)
LIBM(sinh, sinh)
LIBM(cosh, cosh)
LIBM(asinh, asinh)
LIBM(acosh, acosh)
LIBM(atanh, atanh)
LIBM(log1p, log1p)
LIBM(floor, floor)
LIBM(ceil, ceil)
LIBM(round, nearbyint)

/* ---- two operands ---- */

/* Up to W elements of any stride, out of line: the rare case must not swell every kind. */
static __attribute__((noinline)) void NAME(gather)(real *t, const real *p, int64_t stride, int64_t n) {
    for (int64_t k = 0; k < n; k++) t[k] = p[k * stride];
}

/* y = value of vectors a and b, for the strides that are worth a loop of their own. */
#define BINARY(kind, value)                                                                   \
    INLINE vec NAME(apply_##kind)(vec a, vec b) { return value; }                             \
    static void NAME(binary_##kind)(void *y_, const void *a_, const void *b_, int64_t rows, int64_t n, \
                                    int64_t a_row, int64_t a_col, int64_t b_row, int64_t b_col) { \
        for (int64_t r = 0; r < rows; r++) {                                                  \
            real *y = (real *)y_ + r * n;                                                     \
            const real *a = (const real *)a_ + r * a_row, *b = (const real *)b_ + r * b_row;  \
            int64_t i = 0;                                                                    \
            if (a_col == 1 && b_col == 1) {                                                   \
                for (; i + W <= n; i += W) vstore(y + i, NAME(apply_##kind)(vload(a + i), vload(b + i))); \
                int m = (int)(n - i);                                                         \
                if (m) vstore_n(y + i, NAME(apply_##kind)(vload_n(a + i, m), vload_n(b + i, m)), m); \
            } else if (a_col == 1 && b_col == 0) {                                            \
                vec right = vset(*b);                                                         \
                for (; i + W <= n; i += W) vstore(y + i, NAME(apply_##kind)(vload(a + i), right)); \
                int m = (int)(n - i);                                                         \
                if (m) vstore_n(y + i, NAME(apply_##kind)(vload_n(a + i, m), right), m);      \
            } else if (a_col == 0 && b_col == 1) {                                            \
                vec left = vset(*a);                                                          \
                for (; i + W <= n; i += W) vstore(y + i, NAME(apply_##kind)(left, vload(b + i))); \
                int m = (int)(n - i);                                                         \
                if (m) vstore_n(y + i, NAME(apply_##kind)(left, vload_n(b + i, m)), m);       \
            } else {                                                                          \
                real left[W] = {0}, right[W] = {0};                                           \
                for (; i < n; i += W) {                                                       \
                    int m = n - i < W ? (int)(n - i) : W;                                     \
                    NAME(gather)(left, a + i * a_col, a_col, m);                              \
                    NAME(gather)(right, b + i * b_col, b_col, m);                             \
                    vstore_n(y + i, NAME(apply_##kind)(vload(left), vload(right)), m);        \
                }                                                                             \
            }                                                                                 \
        }                                                                                     \
    }

static __attribute__((noinline)) vec NAME(power)(vec a, vec b) {
    real base[W], exponent[W];
    vstore(base, a);
    vstore(exponent, b);
    for (int k = 0; k < W; k++) base[k] = POW(base[k], exponent[k]);
    return vload(base);
}
INLINE vec NAME(truth)(vmask m) { return vsel(m, vset(1), vzero()); }

BINARY(add, a + b)
BINARY(sub, a - b)
BINARY(mul, a * b)
BINARY(div, a / b)
BINARY(maximum, vmax(a, b))
BINARY(minimum, vmin(a, b))
BINARY(power, NAME(power)(a, b))
BINARY(greater, NAME(truth)(vgt(a, b)))
BINARY(greater_equal, NAME(truth)(vge(a, b)))
BINARY(less, NAME(truth)(vlt(a, b)))
BINARY(less_equal, NAME(truth)(vle(a, b)))
BINARY(equal, NAME(truth)(veq(a, b)))
/* A gradient that must be 0 whatever stands there: a product with 0 would be NaN at infinities. */
BINARY(zero_where, vsel(veq(b, vzero()), a, vzero()))

/* ---- a choice ---- */

/* The m <= W elements from the i-th on, of any stride. */
INLINE vec NAME(fetch)(const real *p, int64_t i, int64_t col, int m) {
    if (col == 1) return m == W ? vload(p + i) : vload_n(p + i, m);
    if (col == 0) return vset(*p);
    real t[W] = {0};
    NAME(gather)(t, p + i * col, col, m);
    return vload(t);
}

static void NAME(where)(void *y_, const void *c, const void *a, const void *b, int64_t n, int64_t c_col, int64_t a_col,
                        int64_t b_col) {
    real *y = y_;
    for (int64_t i = 0; i < n; i += W) {
        int m = n - i < W ? (int)(n - i) : W;
        vmask no = veq(NAME(fetch)(c, i, c_col, m), vzero());
        vec chosen = vsel(no, NAME(fetch)(b, i, b_col, m), NAME(fetch)(a, i, a_col, m));
        if (m == W) vstore(y + i, chosen);
        else vstore_n(y + i, chosen, m);
    }
}

/* ---- copies ---- */

static void NAME(fill)(void *y_, int64_t n, double value) {
    real *y = y_;
    vec v = vset((real)value);
    int64_t i = 0;
    for (; i + W <= n; i += W) vstore(y + i, v);
    for (; i < n; i++) y[i] = (real)value;
}

/* One W x W tile: y[i * y_row + j] from x[i + j * x_col]. Interleaving row i with row i + W/2, log2 W
 * times, turns rows into columns. */
INLINE void NAME(transpose_tile)(real *y, const real *x, int64_t y_row, int64_t x_col) {
    vec t[W], u[W];
    UNROLL for (int j = 0; j < W; j++) t[j] = vload(x + j * x_col);
    UNROLL for (int stage = 1; stage < W; stage *= 2) {
        UNROLL for (int i = 0; i < W / 2; i++) {
            u[2 * i] = vzip_low(t[i], t[i + W / 2]);
            u[2 * i + 1] = vzip_high(t[i], t[i + W / 2]);
        }
        UNROLL for (int i = 0; i < W; i++) t[i] = u[i];
    }
    UNROLL for (int i = 0; i < W; i++) vstore(y + i * y_row, t[i]);
}

/* By blocks of a cache line each way, and in a block x's lines first: where strides are multiples of
 * 4 KiB, all of them fall into one set of the cache, and what is left there half used is lost. */
INLINE void NAME(transpose)(real *y, const real *x, int64_t rows, int64_t n, int64_t y_row, int64_t x_col) {
    enum { LINE = 64 / sizeof(real) };
    int64_t full_rows = rows / LINE * LINE, full_n = n / LINE * LINE;
    for (int64_t i0 = 0; i0 < full_rows; i0 += LINE)
        for (int64_t j0 = 0; j0 < full_n; j0 += LINE)
            for (int64_t j = j0; j < j0 + LINE; j += W)
                for (int64_t i = i0; i < i0 + LINE; i += W)
                    NAME(transpose_tile)(y + i * y_row + j, x + i + j * x_col, y_row, x_col);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = i < full_rows ? full_n : 0; j < n; j++) y[i * y_row + j] = x[i + j * x_col];
}

static void NAME(copy)(void *y_, const void *x_, int64_t rows, int64_t n, int64_t y_row, int64_t y_col, int64_t x_row,
                       int64_t x_col) {
    real *y = y_;
    const real *x = x_;
    if (y_col == 1 && x_col > 1 && x_row == 1) {
        NAME(transpose)(y, x, rows, n, y_row, x_col);
        return;
    }
    for (int64_t r = 0; r < rows; r++, y += y_row, x += x_row) {
        if (y_col == 1 && x_col == 1) {
            memcpy(y, x, (size_t)n * sizeof(real));
        } else if (y_col == 1 && x_col == 0) {
            int64_t i = 0;
            vec v = vset(*x);
            for (; i + W <= n; i += W) vstore(y + i, v);
            for (; i < n; i++) y[i] = *x;
        } else {
            for (int64_t i = 0; i < n; i++) y[i * y_col] = x[i * x_col];
        }
    }
}

#define UNARY_KERNEL(name, ns) [UNARY_##name] = NAME(unary_##name),
#define BINARY_KERNEL(name, ns) [BINARY_##name] = NAME(binary_##name),

static const struct elementwise_kernels NAME(table) = {
    .unary = {FNN_UNARY(UNARY_KERNEL)},
    .binary = {FNN_BINARY(BINARY_KERNEL)},
    .where = NAME(where),
    .copy = NAME(copy),
    .fill = NAME(fill),
};
