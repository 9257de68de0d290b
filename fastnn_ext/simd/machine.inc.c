/* What the silicon gives at most, to hold kernels against: multiply-adds that wait for nothing, and
 * memory read and written in order.
 *
 * Two FMA units of 4 or 5 cycles' latency are kept busy by 10 independent chains; 12 leave room for
 * the two operands in 16 registers. Without FMA a step is a multiplication and an addition. */
enum { NAME(SUMS) = 12 };

static void NAME(multiply_add)(void *sums_, const void *a_, const void *b_, int64_t rounds) {
    real *sums = sums_;
    vec a = vload(a_), b = vload(b_), s[NAME(SUMS)];
    UNROLL for (int i = 0; i < NAME(SUMS); i++) s[i] = vload(sums + i * W);
    for (int64_t k = 0; k < rounds; k++) UNROLL for (int i = 0; i < NAME(SUMS); i++) s[i] = vfma(s[i], a, b);
    UNROLL for (int i = 0; i < NAME(SUMS); i++) vstore(sums + i * W, s[i]);
}

static void NAME(triad)(void *y_, const void *x_, const void *z_, double s, int64_t n) {
    real *y = y_;
    const real *x = x_, *z = z_;
    vec factor = vset((real)s);
    int64_t i = 0;
    for (; i + W <= n; i += W) vstore(y + i, vfma(vload(z + i), factor, vload(x + i)));
    int rest = (int)(n - i);
    vstore_n(y + i, vfma(vload_n(z + i, rest), factor, vload_n(x + i, rest)), rest);
}

static const struct machine_kernels NAME(table) = {
    .width = W, .sums = NAME(SUMS), .multiply_add = NAME(multiply_add), .triad = NAME(triad)};
