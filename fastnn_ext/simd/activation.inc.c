/* Activations and their gradients over a contiguous range.
 *
 * A kind is two expressions: its value of x, and its gradient of dy and what was saved (the output y,
 * or the input x). Comparisons are ordered, so each says on which side a NaN falls: PyTorch's.
 */

/* NAME(kind): y = value of x, with `a` and `b` for the settings. The tail goes through the same vectors, so an
 * element's result does not depend on its place. */
#define FORWARD_LOOP(kind, value) \
    INLINE void NAME(kind##_loop)(real *y, const real *x_in, int64_t n, vec a, vec b, const double *settings) { \
        int64_t i = 0; \
        for (; i + W <= n; i += W) { \
            vec x = vload(x_in + i); \
            vstore(y + i, value); \
        } \
        if (i < n) { \
            vec x = vload_n(x_in + i, (int)(n - i)); \
            vstore_n(y + i, value, (int)(n - i)); \
        } \
        (void)a, (void)b, (void)settings; \
    }
#define FORWARD(kind, value) \
    FORWARD_LOOP(kind, value) \
    static void NAME(kind)(void *y, const void *x, int64_t n, const double *settings) { \
        NAME(kind##_loop)(y, x, n, vset((real)settings[0]), vset((real)settings[1]), settings); \
    }

/* NAME(kind_grad): dx = gradient of dy and s, the saved output or input. */
#define BACKWARD_LOOP(kind, gradient) \
    INLINE void NAME(kind##_grad_loop)(real *dx, const real *dy_in, const real *saved, int64_t n, vec a, vec b, \
                                       const double *settings) { \
        int64_t i = 0; \
        for (; i + W <= n; i += W) { \
            vec dy = vload(dy_in + i), s = vload(saved + i); \
            vstore(dx + i, gradient); \
            (void)dy, (void)s; \
        } \
        if (i < n) { \
            vec dy = vload_n(dy_in + i, (int)(n - i)), s = vload_n(saved + i, (int)(n - i)); \
            vstore_n(dx + i, gradient, (int)(n - i)); \
            (void)dy, (void)s; \
        } \
        (void)a, (void)b, (void)settings; \
    }
#define BACKWARD(kind, gradient) \
    BACKWARD_LOOP(kind, gradient) \
    static void NAME(kind##_grad)(void *dx, const void *dy, const void *saved, int64_t n, const double *settings) { \
        NAME(kind##_grad_loop)(dx, dy, saved, n, vset((real)settings[0]), vset((real)settings[1]), settings); \
    }

/* The same where setting number F is a factor of x, which is 1 nearly always: then nothing is multiplied by it. */
#define WITH_FACTOR(F, loop, ...) \
    const vec a = vset((real)settings[0]), b = vset((real)settings[1]), one = vset(1); \
    if (settings[F] == 1) \
        loop(__VA_ARGS__, F == 0 ? one : a, F == 1 ? one : b, settings); \
    else \
        loop(__VA_ARGS__, a, b, settings);
#define FORWARD_BY_FACTOR(kind, F, value) \
    FORWARD_LOOP(kind, value) \
    static void NAME(kind)(void *y, const void *x, int64_t n, const double *settings) { \
        WITH_FACTOR(F, NAME(kind##_loop), y, x, n) \
    }
#define BACKWARD_BY_FACTOR(kind, F, gradient) \
    BACKWARD_LOOP(kind, gradient) \
    static void NAME(kind##_grad)(void *dx, const void *dy, const void *saved, int64_t n, const double *settings) { \
        WITH_FACTOR(F, NAME(kind##_grad_loop), dx, dy, saved, n) \
    }

/* The gradient at 0 is 0; NaN passes both ways, and -0 stays. */
FORWARD(relu, vsel(vlt(x, vzero()), vzero(), x))
BACKWARD(relu, vsel(vle(s, vzero()), vzero(), dy))

/* At 0 and at NaN the gradient is the slope. The sign of x shows in the output if the slope is positive. */
FORWARD(leaky_relu, vsel(vgt(x, vzero()), x, x * a))
BACKWARD(leaky_relu, vsel(vgt(s, vzero()), dy, dy * a))

/* a (e^(b x) - 1) has the gradient a b e^(b x): b (y + a), from the output. ELU has b = 1, CELU b = 1 / a. */
INLINE vec NAME(elu_slope)(vec s, vec a, vec b, int from_output) {
    return vsel(vgt(s, vzero()), vset(1), b * (from_output ? s + a : a * vexp(s * b)));
}
FORWARD_BY_FACTOR(elu, 1, vsel(vgt(x, vzero()), x, a *vexpm1(x *b)))
BACKWARD_BY_FACTOR(elu, 1, dy *NAME(elu_slope)(s, a, b, settings[0] > 0))

FORWARD(sigmoid, vsigmoid(x))
BACKWARD(sigmoid, dy * (s * (vset(1) - s)))

FORWARD(tanh, vtanh(x))
BACKWARD(tanh, dy * vfma(vneg(s), s, vset(1)))

/* x Phi(x), Phi the normal distribution; its density phi is exp(-x^2 / 2) / sqrt(2 pi). */
INLINE vec NAME(normal_cdf)(vec x) {
    vec half = vset((real)0.5);
    return vfma(half, verf(x * vset((real)0.70710678118654752440)), half);
}
INLINE vec NAME(gelu_slope)(vec x) {
    vec density = vexp(x * x * vset((real)-0.5)) * vset((real)0.39894228040143267794);
    return vfma(x, density, NAME(normal_cdf)(x));
}
FORWARD(gelu, x * NAME(normal_cdf)(x))
BACKWARD(gelu, dy * NAME(gelu_slope)(s))

/* x sigma(a x), with sigma' = sigma (1 - sigma). SiLU has a = 1. */
INLINE vec NAME(silu_slope)(vec x, vec a) {
    vec sigma = vsigmoid(x * a);
    return sigma * vfma(x * a, vset(1) - sigma, vset(1));
}
FORWARD_BY_FACTOR(silu, 0, x *vsigmoid(x *a))
BACKWARD_BY_FACTOR(silu, 0, dy *NAME(silu_slope)(s, a))

/* x / (1 + |x|) has the gradient 1 / (1 + |x|)^2: (1 - |y|)^2, from the output. */
INLINE vec NAME(softsign_slope)(vec s) {
    vec rest = vset(1) - vabs(s);
    return rest * rest;
}
FORWARD(softsign, x / (vset(1) + vabs(x)))
BACKWARD(softsign, dy * NAME(softsign_slope)(s))

/* The gradient is 0, also of an infinite dy; NaN passes. */
FORWARD(step, vsel(vgt(x, vzero()), vset(1), vsel(visnan(x), x, vzero())))
BACKWARD(step, vzero())

/* scale x, or scale alpha (e^x - 1), whose gradient is y + scale alpha (Klambauer et al., 2017). */
#define SELU_SCALE vset((real)1.05070098735548049342)
#define SELU_LIMIT vset((real)1.75809934084737685994) /* scale alpha */
FORWARD(selu, vsel(vgt(x, vzero()), SELU_SCALE * x, SELU_LIMIT * vexpm1(x)))
BACKWARD(selu, dy * vsel(vgt(s, vzero()), SELU_SCALE, s + SELU_LIMIT))

/* log(1 + e^(a x)) / a; x itself where a x is above b. */
FORWARD(softplus, vsel(vgt(x *a, b), x, vsoftplus(x *a) / a))
BACKWARD(softplus, vsel(vgt(s *a, b), dy, dy *vsigmoid(s *a)))

/* x (1 + tanh u) / 2 = x sigma(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3). Beyond 100, where sigma is 0 or 1, the slope
 * of u is that of 100, lest it overflow. */
INLINE vec NAME(gelu_tanh_share)(vec x) {
    return vsigmoid(x * vfma(x * x, vset((real)0.07135481627260025), vset((real)1.5957691216057308)));
}
INLINE vec NAME(gelu_tanh_slope)(vec x) {
    vec sigma = NAME(gelu_tanh_share)(x), size = vmin(vabs(x), vset(100));
    vec inner = vfma(size * size, vset((real)0.21406444881780075), vset((real)1.5957691216057308));
    return sigma * vfma(x * (vset(1) - sigma), inner, vset(1));
}
FORWARD(gelu_tanh, x * NAME(gelu_tanh_share)(x))
BACKWARD(gelu_tanh, dy * NAME(gelu_tanh_slope)(s))

/* x t, t = tanh(log(1 + e^x)) = n / (n + 2) with e = e^x, n = e (e + 2). Its gradient is
 * t + x sigma(x) (1 - t^2) = t + 4 x e (1 + e) / (n + 2)^2. From 40 on, t is 1 and flat. */
INLINE vec NAME(mish_share)(vec x) {
    vec e = vexp(vmin(x, vset(40))), n = e * (e + vset(2));
    return n / (n + vset(2));
}
INLINE vec NAME(mish_slope)(vec x) {
    vec e = vexp(vmin(x, vset(40))), n = e * (e + vset(2)), inverse = vset(1) / (n + vset(2));
    vec flat = vset(4) * (e * inverse) * ((vset(1) + e) * inverse);
    return vfma(x, vsel(vge(x, vset(40)), vzero(), flat), n * inverse);
}
FORWARD(mish, x * NAME(mish_share)(x))
BACKWARD(mish, dy * NAME(mish_slope)(s))

INLINE vec NAME(clamp)(vec x, vec low, vec high) { return vsel(vlt(x, low), low, vsel(vgt(x, high), high, x)); }
/* Whether low < x < high; NaN is not. */
INLINE vmask NAME(within)(vec x, vec low, vec high) { return vmand(vgt(x, low), vlt(x, high)); }

FORWARD(hardsigmoid, NAME(clamp)(x + vset(3), vzero(), vset(6)) / vset(6))
BACKWARD(hardsigmoid, vsel(NAME(within)(s, vset(-3), vset(3)), dy / vset(6), vzero()))

FORWARD(hardswish, x * (NAME(clamp)(x + vset(3), vzero(), vset(6)) / vset(6)))
BACKWARD(hardswish, vsel(vle(s, vset(-3)), vzero(), vsel(vge(s, vset(3)), dy, dy * (s / vset(3) + vset((real)0.5)))))

/* Between a and b. At both, and at NaN, the gradient is 0. */
FORWARD(hardtanh, NAME(clamp)(x, a, b))
BACKWARD(hardtanh, vsel(NAME(within)(s, a, b), dy, vzero()))

/* 0 from -a to a; beyond, x itself, or what it has beyond. The gradient at NaN is 0. */
FORWARD(hardshrink, vsel(vmand(vge(x, vneg(a)), vle(x, a)), vzero(), x))
BACKWARD(hardshrink, vsel(vmor(vlt(s, vneg(a)), vgt(s, a)), dy, vzero()))
FORWARD(softshrink, vsel(vgt(x, a), x - a, vsel(vlt(x, vneg(a)), x + a, x * vzero())))
BACKWARD(softshrink, vsel(vmor(vlt(s, vzero()), vgt(s, vzero())), dy, vzero()))

/* b where x is not above a. */
FORWARD(threshold, vsel(vle(x, a), b, x))
BACKWARD(threshold, vsel(vle(s, a), vzero(), dy))

#define ACT_FORWARD(name, saves, forward_ns, backward_ns) [ACT_##name] = NAME(name),
#define ACT_BACKWARD(name, saves, forward_ns, backward_ns) [ACT_##name] = NAME(name##_grad),

static const struct activation_kernels NAME(table) = {
    .forward = {FNN_ACTIVATIONS(ACT_FORWARD)},
    .backward = {FNN_ACTIVATIONS(ACT_BACKWARD)},
};
