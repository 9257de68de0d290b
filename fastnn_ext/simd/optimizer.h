#ifndef FNN_OPTIMIZER_H
#define FNN_OPTIMIZER_H
#include "isa.h"

/* All optimizers: KIND(name, states): how many arrays are kept beside the parameter, at most. */
#define FNN_OPTIMIZERS(KIND) \
    KIND(sgd, 1)             \
    KIND(adagrad, 1)         \
    KIND(adadelta, 2)        \
    KIND(rmsprop, 3)         \
    KIND(rprop, 2)           \
    KIND(adam, 3)            \
    KIND(adamax, 2)          \
    KIND(nadam, 2)           \
    KIND(radam, 2)           \
    KIND(lion, 1)

#define FNN_OPTIMIZER_INDEX(name, states) FNN_OPTIMIZER_##name,
enum { FNN_OPTIMIZERS(FNN_OPTIMIZER_INDEX) FNN_OPTIMIZER_COUNT };
enum { FNN_MOST_STATES = 3 };

/* Coefficients come in double, computed from the hyperparameters of the step, and are rounded to the
 * element type once.
 *
 * What all updates do first, in this order: the gradient times `scale` (-1 to maximize, less where it is clipped by
 * its norm), no element of it beyond `clip`, plus noise; then the parameter times `shrink` (decoupled weight decay), or
 * to the gradient plus decay times the parameter (L2) and l1 times its sign. */
struct optimizer_rule {
    double scale, clip, noise, shrink, decay, l1;
    int plain; /* nothing but scale */
};

struct sgd_step {
    double lr, momentum, gain; /* gain: 1 - dampening */
    int first, nesterov;       /* first: the momentum buffer has no value yet */
};

struct adagrad_step {
    double lr; /* lr / (1 + (t - 1) * lr_decay) */
    double eps, initial;
    int first; /* the sum is `initial` */
};

struct adadelta_step { double lr, rho, gain, eps; /* gain: 1 - rho */ };

struct rmsprop_step {
    double lr, momentum;
    double alpha, gain; /* gain: 1 - alpha */
    double eps;
};

struct rprop_step {
    double initial, eta_minus, eta_plus, least, most;
    int first;      /* the step sizes are `initial` */
    int zero, undo; /* where the sign has changed: take the gradient for 0; and take the last step back */
};

struct adam_step {
    double step_size;    /* lr / (1 - beta1^t) */
    double inverse_root; /* 1 / sqrt(1 - beta2^t) */
    double gain1;        /* 1 - beta1 */
    double beta2, gain2; /* gain2: 1 - beta2 */
    double eps;
};

struct adamax_step { double step_size, gain1, beta2, eps; /* step_size: lr / (1 - beta1^t) */ };

struct nadam_step {
    double of_grad, of_mean; /* the rates of the gradient and of its running mean */
    double inverse_root, gain1, beta2, gain2, eps;
};

struct radam_step {
    double step_size; /* rectified or not */
    double gain1, beta2, gain2, eps;
    int rectified;
};

struct lion_step { double lr, gain1, gain2; };

/* The update of n elements by scale times the gradient; all arrays have as many. A state that is not kept is NULL. */
typedef void fnn_update(void *param, void *const *states, const void *grad, int64_t n, double scale, const void *step);

struct optimizer_kernels {
    double (*squares)(const void *x, int64_t n); /* their sum */
    /* taken = the gradient as the rule has it, the parameter is shrunk; noise may be NULL */
    void (*take)(void *taken, void *param, const void *grad, const void *noise, int64_t n,
                 const struct optimizer_rule *rule);
    /* average += share * (param - average); a share of 1 copies */
    void (*average)(void *average, const void *param, int64_t n, double share);
    fnn_update *update[FNN_OPTIMIZER_COUNT];
};

FNN_TABLES(optimizer)
#endif
