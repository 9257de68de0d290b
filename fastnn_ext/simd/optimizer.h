#ifndef FNN_OPTIMIZER_H
#define FNN_OPTIMIZER_H
#include "isa.h"

/* Coefficients come in double, computed from the hyperparameters of the step, and are rounded to the
 * element type once. */
struct sgd_step {
    double lr, momentum, gain, weight_decay; /* gain: 1 - dampening */
    int first, nesterov, maximize;           /* first: the momentum buffer has no value yet */
};

struct adam_step {
    double step_size;    /* lr / (1 - beta1^t) */
    double inverse_root; /* 1 / sqrt(1 - beta2^t) */
    double gain1;        /* 1 - beta1 */
    double beta2, gain2; /* gain2: 1 - beta2 */
    double eps, weight_decay;
    double shrink; /* 1 - lr * weight_decay, for AdamW */
    int decoupled, maximize;
};

struct rmsprop_step {
    double lr, momentum;
    double alpha, gain; /* gain: 1 - alpha */
    double eps, weight_decay;
    int maximize;
};

/* All arrays have n elements. buffer (vmax) may be NULL: no momentum (no AMSGrad). mean, the
 * gradient's, may be NULL: not centered. */
struct optimizer_kernels {
    void (*sgd)(void *param, void *buffer, const void *grad, int64_t n, const struct sgd_step *s);
    void (*adam)(void *param, void *m, void *v, void *vmax, const void *grad, int64_t n, const struct adam_step *s);
    void (*rmsprop)(void *param, void *square, void *buffer, void *mean, const void *grad, int64_t n,
                    const struct rmsprop_step *s);
};

FNN_TABLES(optimizer)
#endif
