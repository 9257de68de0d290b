/* Elementary functions on the vec vocabulary. unit.c reads this after vec.h, once for each type.
 *
 * Largest error in units of the last place: over all 2^32 floats with FMA (AVX2) and without
 * (baseline), and over 18 million doubles (the worse of both).
 *
 *                                 float: FMA  baseline   double
 *   vexp(x)       e^x                     1.04      1.01     0.98
 *   vexpm1(x)     e^x - 1                 1.50      1.56     1.93
 *   vlog(x)       natural logarithm       0.84      0.84     0.85
 *   vlog1pexp(x)  log(1 + e^-|x|)         1.52      1.60     1.61
 *   vsigmoid(x)   1 / (1 + e^-x)          1.48      1.49     1.49
 *   vtanh(x)                              1.67      1.71     1.91
 *   verf(x)                               1.06      1.35     1.15
 *
 * Special values are libm's: NaN stays NaN, e^Inf = Inf, e^-Inf = 0, log 0 = -Inf, log of a negative
 * number is NaN, tanh, erf and sigmoid saturate to exactly 1 (and -1, 0), odd functions keep -0.
 * Results become denormal gradually, and denormal arguments count for what they are.
 *
 * Method
 * ------
 * exp: x = n ln2 + r with n = round(x / ln2), |r| <= ln2 / 2 (Cody and Waite, "Software Manual for the
 * Elementary Functions", 1980). ln2 stands as high + low, where n * high is exact in the type for
 * every n that occurs (16 of 24 bits of float, 42 of 53 of double), so the reduction needs no FMA.
 * p(r) = r + r^2 q(r) approximates e^r - 1 with a small relative error; e^x = 2^n + 2^n p. Where n
 * reaches past the exponents of the type, 2^n is applied as two factors: results become denormal
 * gradually and overflow as IEEE rounding does.
 * tanh |x| = t / (t + 2) with t = e^(2|x|) - 1 = 2^n p + (2^n - 1): one formula serves tiny and
 * large x, as p loses nothing near 0. The sign is put back last, so -0 stays.
 * sigmoid = (x < 0 ? z : 1) / (1 + z) with z = e^-|x|: no overflow, and gradual towards 0.
 * log: x = 2^k m, sqrt(1/2) <= m < sqrt 2, f = m - 1, s = f / (2 + f); then
 * log m = f - (f^2/2 - s (f^2/2 + R(s^2))), R the tail of 2 atanh s (the form of fdlibm's e_log.c);
 * k ln2 joins as high and low part. Denormal x is scaled up first.
 * log1pexp: with z = e^-|x| in (0, 1] and d = z / (1 + z/2), log(1 + z) = 2 atanh(d/2) = d + d^3 S(d^2).
 * erf: |x| < 1: x + x Q(x^2). Else 1 - e^T(|x|), T a polynomial for log erfc, which must be good only
 * to the error that erf >= 0.84 can show; above 4 (float) or 6 (double) erf rounds to 1.
 *
 * Quotients whose denominator rounds away bits of the numerator get one step of refinement:
 * y += (numerator - y * denominator) / denominator, the difference taken without cancellation.
 *
 * Coefficients: weighted minimax fits of our own (Remez exchange in 60 digits with mpmath, on the
 * interval a bit widened), each coefficient rounded to the type from the lowest on and the rest
 * fitted anew. Relative errors of the fits, as powers of two, float / double: e^r - 1: -25.8 / -61.3;
 * log: -30.2 / -59.5; log1p: -27.7 / -57.5; erf below 1: -29.4 / -56.0, above: -29.8 / -57.0.
 */
#define vexp NAME(vexp)
#define vexpm1 NAME(vexpm1)
#define vlog NAME(vlog)
#define vlog1pexp NAME(vlog1pexp)
#define vsoftplus NAME(vsoftplus)
#define vsigmoid NAME(vsigmoid)
#define vtanh NAME(vtanh)
#define verf NAME(verf)
#define POLY(c, x) NAME(poly)(c, (int)(sizeof(c) / sizeof(c)[0]), x)

#undef MANTISSA_BITS
#undef EXPONENT_BIAS
#undef ROUND_MAGIC
#undef SQRT_HALF_BITS
#undef SIGN_BIT
#undef MIN_NORMAL
#undef LOG2_E
#undef LN2_HIGH
#undef LN2_LOW
#undef EXP_MAX
#undef EXP_MIN
#undef EXPM1_MIN
#undef TANH_MAX
#undef ERF_MAX

/* ROUND_MAGIC is vec.h's: 1.5 * 2^MANTISSA_BITS, to which a small integer is added without loss.
 * EXP_MAX, EXP_MIN: beyond, e^x is Inf, 0. EXPM1_MIN: below, e^x - 1 is -1. TANH_MAX: above, 1. */
#if REAL_IS_FLOAT
#define MANTISSA_BITS 23
#define EXPONENT_BIAS 127
#define ROUND_MAGIC 12582912.0f
#define SQRT_HALF_BITS 0x3f3504f3
#define SIGN_BIT INT32_MIN
#define MIN_NORMAL 0x1p-126f
#define LOG2_E 0x1.715476p+0f
#define LN2_HIGH 0x1.62e4p-1f
#define LN2_LOW 0x1.7f7d1cp-20f
#define EXP_MAX 89.0f
#define EXP_MIN -104.0f
#define EXPM1_MIN -18.0f
#define TANH_MAX 10.0f
#define ERF_MAX 4.0f
/* clang-format off */
static const float exp_q_f32[] = {
    0x1.fffffep-2f, 0x1.5554a8p-3f, 0x1.555796p-5f, 0x1.122a4ep-7f, 0x1.6aed7ap-10f,
};
static const float log_r_f32[] = {0x1.55557ap-1f, 0x1.995ec6p-2f, 0x1.31e364p-2f};
static const float log1p_s_f32[] = {0x1.555502p-4f, 0x1.99d1ccp-7f, 0x1.1ec04p-9f, 0x1.1eca1ap-11f};
static const float erf_q_f32[] = {
    0x1.06eba8p-3f, -0x1.81273ep-2f, 0x1.ce2ce6p-4f, -0x1.b7f71ap-6f,
    0x1.53f224p-8f, -0x1.a3515ep-11f, 0x1.4771fcp-14f,
};
static const float erf_t_f32[] = {
    -0x1.6626b2p-12f, -0x1.2088e8p+0f, -0x1.46baf6p-1f, -0x1.a652fp-4f,
    0x1.65cac2p-6f, -0x1.825968p-9f, 0x1.86dadcp-13f,
};
/* clang-format on */
#else
#define MANTISSA_BITS 52
#define EXPONENT_BIAS 1023
#define ROUND_MAGIC 6755399441055744.0
#define SQRT_HALF_BITS 0x3fe6a09e667f3bcd
#define SIGN_BIT INT64_MIN
#define MIN_NORMAL 0x1p-1022
#define LOG2_E 0x1.71547652b82fep+0
#define LN2_HIGH 0x1.62e42fefa38p-1
#define LN2_LOW 0x1.ef35793c7673p-45
#define EXP_MAX 710.0
#define EXP_MIN -746.0
#define EXPM1_MIN -38.0
#define TANH_MAX 20.0
#define ERF_MAX 6.0
/* clang-format off */
static const double exp_q_f64[] = {
    0x1p-1, 0x1.555555555555ap-3, 0x1.555555555555dp-5, 0x1.111111110f0a7p-7,
    0x1.6c16c16c11877p-10, 0x1.a01a01b26a48p-13, 0x1.a01a01c35d38ap-16, 0x1.71ddf1d384306p-19,
    0x1.27e498f363072p-22, 0x1.af6a287b70343p-26, 0x1.1fdad8e9919afp-29,
};
static const double log_r_f64[] = {
    0x1.5555555555593p-1, 0x1.999999997f9d1p-2, 0x1.249249422e738p-2, 0x1.c71c51d2e30a8p-3,
    0x1.74664afcbdb65p-3, 0x1.39a06cf0283a5p-3, 0x1.2f135ad41c9c6p-3,
};
static const double log1p_s_f64[] = {
    0x1.5555555555535p-4, 0x1.99999999a075p-7, 0x1.249249208c585p-9, 0x1.c71c741c75307p-12,
    0x1.745cb3ffa9984p-14, 0x1.3b1ddb7ef72bbp-16, 0x1.1067c43450b0fp-18, 0x1.efd885a33b4c5p-21,
    0x1.55ad9e4e644e3p-23, 0x1.5c80c9a30d83fp-24,
};
static const double erf_q_f64[] = {
    0x1.06eba8214db68p-3, -0x1.812746b03799dp-2, 0x1.ce2f21a03f8bap-4, -0x1.b82ce311a9837p-6,
    0x1.565bcceedacaap-8, -0x1.c02daeb6f59dfp-11, 0x1.f9a296ab470ap-14, -0x1.f4c82d9995e85p-17,
    0x1.b96b3c4fb2d29p-20, -0x1.5b8b54e3c76fap-23, 0x1.d3d21cf090656p-27, -0x1.a20cf5825c4fp-31,
};
static const double erf_t_f64[] = {
    -0x1.0dfb4589a0899p-21, -0x1.20dd1fd2bec01p+0, -0x1.45f6275e3e04fp-1, -0x1.a4ac5bbab3c72p-4,
    0x1.37228e9ad1262p-6, 0x1.ae95666a7b94bp-12, -0x1.f64165517c427p-10, 0x1.940b01fe1e7d5p-11,
    -0x1.1b3b55a2d1b76p-13, -0x1.53f939cc70357p-16, 0x1.7ee12c410d985p-16, -0x1.22cf4d8128425p-17,
    0x1.1ea239c7e48aep-19, -0x1.90cff902d2f4bp-22, 0x1.8ebfab644c1bap-25, -0x1.0e581767c6b9cp-28,
    0x1.c1a94ed033d0dp-33, -0x1.5acb4937835d9p-38,
};
/* clang-format on */
#endif

/* c[0] + c[1] x + ... + c[n - 1] x^(n - 1), by Horner's rule. */
INLINE vec NAME(poly)(const real *c, int n, vec x) {
    vec p = vset(c[n - 1]);
    UNROLL for (int k = n - 2; k >= 0; k--) p = vfma(p, x, vset(c[k]));
    return p;
}

/* 2^n for an integer n within the normal exponents. The sum has n + bias in its lowest bits. */
INLINE vec NAME(power_of_two)(vec n) { return vasf(vasi(n + vset(ROUND_MAGIC + EXPONENT_BIAS)) << MANTISSA_BITS); }

/* The p(r) of x = n ln2 + r. */
INLINE vec NAME(exp_parts)(vec x, vec *n) {
    *n = vfma(x, vset(LOG2_E), vset(ROUND_MAGIC)) - vset(ROUND_MAGIC);
    vec r = vfma(*n, vset(-LN2_LOW), vfma(*n, vset(-LN2_HIGH), x));
    return vfma(r * r, POLY(NAME(exp_q), r), r);
}

/* e^x for EXP_MIN <= x <= EXP_MAX or NaN. */
INLINE vec NAME(exp_in_range)(vec x) {
    vec n, p = NAME(exp_parts)(x, &n), half = vround(n * vset((real)0.5));
    vec scale = NAME(power_of_two)(half);
    return vfma(p, scale, scale) * NAME(power_of_two)(n - half);
}

/* e^-|x| */
INLINE vec NAME(exp_neg_abs)(vec x) {
    vec a = vneg(vabs(x)), least = vset(EXP_MIN);
    return NAME(exp_in_range)(vsel(vlt(a, least), least, a));
}

INLINE vec NAME(with_sign_of)(vec magnitude, vec x) { return vasf(vasi(magnitude) | (vasi(x) & viset(SIGN_BIT))); }

INLINE vec vexp(vec x) {
    vec most = vset(EXP_MAX), least = vset(EXP_MIN);
    x = vsel(vgt(x, most), most, x);
    return NAME(exp_in_range)(vsel(vlt(x, least), least, x));
}

/* By half of 2^n, as 2^n itself would overflow in the topmost binade; but a denormal has no half. */
INLINE vec vexpm1(vec x) {
    vec most = vset(EXP_MAX), least = vset(EXPM1_MIN), n;
    vec y = vsel(vgt(x, most), most, x);
    vec p = NAME(exp_parts)(vsel(vlt(y, least), least, y), &n);
    vec scale = NAME(power_of_two)(n - vset(1)), half = vfma(p, scale, scale - vset((real)0.5));
    return NAME(with_sign_of)(vsel(veq(n, vzero()), p, half + half), x);
}

INLINE vec vtanh(vec x) {
    vec most = vset(2 * TANH_MAX), y = vabs(x) + vabs(x), n;
    vec p = NAME(exp_parts)(vsel(vgt(y, most), most, y), &n), scale = NAME(power_of_two)(n);
    vec t = vfma(p, scale, scale - vset(1));
    y = t / (t + vset(2));
    /* One step of refinement, where t + 2 loses bits of t: 1 / (t + 2) = (1 - y) / 2. */
    vec half = vset((real)0.5), rest = vfma(vneg(y), t, t - (y + y));
    vec refined = vfma(rest, vfma(vneg(y), half, half), y);
    return NAME(with_sign_of)(vsel(vlt(y, half), refined, y), x);
}

INLINE vec vsigmoid(vec x) {
    vec z = NAME(exp_neg_abs)(x), top = vsel(vlt(x, vzero()), z, vset(1));
    vec inverse = vset(1) / (vset(1) + z), y = top * inverse;
    vec rest = vfma(vneg(y), z, top - y);
    return vfma(rest, inverse, y);
}

INLINE vec vlog1pexp(vec x) {
    vec z = NAME(exp_neg_abs)(x);
    vec half = z * vset((real)0.5), d = z / (half + vset(1)), square = d * d;
    /* A step of refinement here too: 1 / (1 + z/2) = 1 - d/2. */
    vec rest = vfma(vneg(d), half, z - d) * vfma(d, vset((real)-0.5), vset(1));
    return vfma(d * square, POLY(NAME(log1p_s), square), rest) + d;
}

/* log(1 + e^x) */
INLINE vec vsoftplus(vec x) { return vmax(x, vzero()) + vlog1pexp(x); }

INLINE vec vlog(vec x) {
    vmask tiny = vlt(x, vset(MIN_NORMAL));
    vec scaled = vsel(tiny, x * vset((real)0x1p54), x);
    /* Bits above the mantissa's of `i` count the binades from sqrt(1/2) on. */
    veci i = vidiff(vasi(scaled), viset(SQRT_HALF_BITS));
    vec k = vitof(i >> MANTISSA_BITS) - vsel(tiny, vset(54), vzero());
    vec f = vasf((i & viset(((ireal)1 << MANTISSA_BITS) - 1)) + viset(SQRT_HALF_BITS)) - vset(1);
    vec s = f / (f + vset(2)), square = s * s, half = f * f * vset((real)0.5);
    vec r = half + square * POLY(NAME(log_r), square);
    vec y = vfma(k, vset(LN2_HIGH), f - (half - vfma(s, r, k * vset(LN2_LOW))));
    /* What is not positive and finite: Inf and NaN stay, negative becomes NaN, zero -Inf. */
    vec special = vsel(vlt(x, vzero()), vset((real)NAN), vsel(veq(x, vzero()), vset(-(real)INFINITY), x));
    return vsel(vmand(vgt(x, vzero()), vlt(x, vset((real)INFINITY))), y, special);
}

INLINE vec verf(vec x) {
    vec a = vabs(x), most = vset(ERF_MAX), n;
    vec near = vfma(a, POLY(NAME(erf_q), x * x), a);
    vec p = NAME(exp_parts)(POLY(NAME(erf_t), vsel(vgt(a, most), most, a)), &n);
    vec scale = NAME(power_of_two)(n), far = vset(1) - vfma(p, scale, scale);
    return NAME(with_sign_of)(vsel(vlt(a, vset(1)), near, far), x);
}
