/* Activations and their gradients over a contiguous range.
 *
 * A kind is two expressions: its value of x, and its gradient of dy and what was saved (the output y,
 * or the input x). Comparisons are ordered, so each says on which side a NaN falls: PyTorch's.
 */

/* NAME(kind): y = value of x, with `a` and `b` for the settings. The tail goes through the same vectors, so an
 * element's result does not depend on its place. */
#define FORWARD(kind, value)                                                            \
    static void NAME(kind)(void *y_, const void *x_, int64_t n, const double *settings) { \
        real *y = y_;                                                                   \
        const real *x_in = x_;                                                          \
        vec a = vset((real)settings[0]), b = vset((real)settings[1]);                   \
        int64_t i = 0;                                                                  \
        for (; i + W <= n; i += W) {                                                    \
            vec x = vload(x_in + i);                                                    \
            vstore(y + i, value);                                                       \
        }                                                                               \
        if (i < n) {                                                                    \
            vec x = vload_n(x_in + i, (int)(n - i));                                    \
            vstore_n(y + i, value, (int)(n - i));                                       \
        }                                                                               \
        (void)a, (void)b;                                                               \
    }

/* NAME(kind_grad): dx = gradient of dy and s, the saved output or input. */
#define BACKWARD(kind, gradient)                                                        \
    static void NAME(kind##_grad)(void *dx_, const void *dy_, const void *saved_, int64_t n, const double *settings) { \
        real *dx = dx_;                                                                 \
        const real *dy_in = dy_, *saved = saved_;                                       \
        vec a = vset((real)settings[0]), b = vset((real)settings[1]);                   \
        int64_t i = 0;                                                                  \
        for (; i + W <= n; i += W) {                                                    \
            vec dy = vload(dy_in + i), s = vload(saved + i);                            \
            vstore(dx + i, gradient);                                                   \
        }                                                                               \
        if (i < n) {                                                                    \
            vec dy = vload_n(dy_in + i, (int)(n - i)), s = vload_n(saved + i, (int)(n - i)); \
            vstore_n(dx + i, gradient, (int)(n - i));                                   \
        }                                                                               \
        (void)a, (void)b;                                                               \
    }

/* The gradient at 0 is 0; NaN passes both ways, and -0 stays. */
FORWARD(relu, vsel(vlt(x, vzero()), vzero(), x))
BACKWARD(relu, vsel(vle(s, vzero()), vzero(), dy))

/* At 0 and at NaN the gradient is the slope. The sign of x shows in the output if the slope is positive. */
FORWARD(leaky_relu, vsel(vgt(x, vzero()), x, x * a))
BACKWARD(leaky_relu, vsel(vgt(s, vzero()), dy, dy * a))

/* alpha (e^x - 1) has the gradient alpha e^x: y + alpha, from the output. */
INLINE vec NAME(elu_slope)(vec s, vec a, int from_output) {
    return vsel(vgt(s, vzero()), vset(1), from_output ? s + a : a * vexp(s));
}
FORWARD(elu, vsel(vgt(x, vzero()), x, a * vexpm1(x)))
BACKWARD(elu, dy * NAME(elu_slope)(s, a, settings[0] > 0))

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

/* x sigma(x), with sigma' = sigma (1 - sigma). */
INLINE vec NAME(silu_slope)(vec x) {
    vec sigma = vsigmoid(x);
    return sigma * vfma(x, vset(1) - sigma, vset(1));
}
FORWARD(silu, x * vsigmoid(x))
BACKWARD(silu, dy * NAME(silu_slope)(s))

/* x / (1 + |x|) has the gradient 1 / (1 + |x|)^2: (1 - |y|)^2, from the output. */
INLINE vec NAME(softsign_slope)(vec s) {
    vec rest = vset(1) - vabs(s);
    return rest * rest;
}
FORWARD(softsign, x / (vset(1) + vabs(x)))
BACKWARD(softsign, dy * NAME(softsign_slope)(s))

#define ACT_FORWARD(name, saves, forward_ns, backward_ns) [ACT_##name] = NAME(name),
#define ACT_BACKWARD(name, saves, forward_ns, backward_ns) [ACT_##name] = NAME(name##_grad),

static const struct activation_kernels NAME(table) = {
    .forward = {FNN_ACTIVATIONS(ACT_FORWARD)},
    .backward = {FNN_ACTIVATIONS(ACT_BACKWARD)},
};
