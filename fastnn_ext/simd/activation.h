#ifndef FNN_ACTIVATION_H
#define FNN_ACTIVATION_H
#include "isa.h"

/* The kinds, in the order of ACTIVATIONS in activation.pyx. */
enum { ACT_RELU, ACT_LEAKY_RELU, ACT_ELU, ACT_SIGMOID, ACT_TANH, ACT_GELU, ACT_SILU, ACT_COUNT };

/* y[i] = f(x[i]); in place if y == x. alpha: slope or scale where the kind has one. */
typedef void (*act_forward)(void *y, const void *x, int64_t n, double alpha);
/* dx[i] = dy[i] * f'(.), from `saved`: the output y where f' can be had from it, else the input x
 * (activation.pyx says which); in place if dx == dy or dx == saved. */
typedef void (*act_backward)(void *dx, const void *dy, const void *saved, int64_t n, double alpha);

struct activation_kernels {
    act_forward forward[ACT_COUNT];
    act_backward backward[ACT_COUNT];
};

FNN_TABLES(activation)
#endif
