#ifndef FNN_ACTIVATION_H
#define FNN_ACTIVATION_H
#include "isa.h"

/* All kinds, in their order: KIND(name, saves, forward_ns, backward_ns).
 *
 * saves: what the gradient is taken from. OUTPUT: the output; POSITIVE: the output if the first setting is above 0,
 * since the sign of x then shows in it, else the input; INPUT: the input.
 * forward_ns, backward_ns: what the arithmetic of a float32 takes on AVX2, beside reading and writing it. */
#define FNN_ACTIVATIONS(KIND)          \
    KIND(relu, OUTPUT, 0, 0)           \
    KIND(leaky_relu, POSITIVE, 0, 0)   \
    KIND(elu, POSITIVE, 0.4, 0)        \
    KIND(sigmoid, OUTPUT, 0.6, 0)      \
    KIND(tanh, OUTPUT, 0.6, 0)         \
    KIND(gelu, INPUT, 0.8, 1.4)        \
    KIND(silu, INPUT, 0.6, 0.8)        \
    KIND(softsign, OUTPUT, 0.1, 0)     \
    KIND(step, OUTPUT, 0, 0)           \
    KIND(selu, OUTPUT, 0.4, 0)         \
    KIND(softplus, INPUT, 0.7, 0.7)    \
    KIND(gelu_tanh, INPUT, 0.7, 0.8)   \
    KIND(mish, INPUT, 0.6, 0.8)        \
    KIND(hardsigmoid, INPUT, 0.1, 0)   \
    KIND(hardswish, INPUT, 0.1, 0.1)   \
    KIND(hardtanh, OUTPUT, 0, 0)       \
    KIND(hardshrink, OUTPUT, 0, 0)     \
    KIND(softshrink, OUTPUT, 0, 0)     \
    KIND(threshold, INPUT, 0, 0)

#define ACT_INDEX(name, saves, forward_ns, backward_ns) ACT_##name,
enum { FNN_ACTIVATIONS(ACT_INDEX) ACT_COUNT };

/* y[i] = f(x[i]); in place if y == x. settings: two numbers, of which a kind reads those that it has. */
typedef void (*act_forward)(void *y, const void *x, int64_t n, const double *settings);
/* dx[i] = dy[i] * f'(.), from what the kind saves; in place if dx == dy or dx == saved. */
typedef void (*act_backward)(void *dx, const void *dy, const void *saved, int64_t n, const double *settings);

struct activation_kernels {
    act_forward forward[ACT_COUNT];
    act_backward backward[ACT_COUNT];
};

FNN_TABLES(activation)
#endif
