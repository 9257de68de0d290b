#ifndef FNN_LOSS_H
#define FNN_LOSS_H
#include "isa.h"

struct cross_entropy {
    int64_t cols, ignore_index;
    double scale;      /* of each row's loss: 1, or 1 over the sum of the labels' weights */
    double smoothing;  /* label smoothing, in [0, 1] */
    double ignored;    /* loss of an ignored row: 0, or NaN where a mean has no row */
    double weight_sum; /* of all classes */
};

/* The sum of n elements' losses, with scale 1. Writes each element's loss and the gradient for the
 * input, times scale, where loss and dinput are not NULL. param: beta or delta. */
typedef double (*loss_elementwise)(void *loss, void *dinput, const void *input, const void *target, int64_t n,
                                   double scale, double param);

/* Rows lie side by side. weight, pos_weight and gradients may be NULL. */
struct loss_kernels {
    /* y may be x */
    void (*softmax)(void *y, const void *x, int64_t rows, int64_t cols, int log);
    /* dx may be dy or y */
    void (*softmax_backward)(void *dx, const void *dy, const void *y, int64_t rows, int64_t cols, int log);
    /* dlogits may be logits */
    void (*cross_entropy)(void *loss, void *dlogits, const void *logits, const int64_t *labels, const void *weight,
                          int64_t rows, const struct cross_entropy *c);
    /* What these are made of where there are more than a few columns, for parts of rows. The largest, NaN if any is;
     * y = exp(x - max), unless y is NULL, and its sum; the sum of w (x - max), w = 1 without weights;
     * y = (x - shift) factor - less w. */
    double (*row_max)(const void *x, int64_t n);
    double (*row_exp)(void *y, const void *x, int64_t n, double max);
    double (*row_weighted)(const void *x, const void *weight, int64_t n, double max);
    void (*row_map)(void *y, const void *x, const void *weight, int64_t n, double shift, double factor, double less);
    /* The sum of dy y, of dy where log is set; and softmax_backward by it. */
    double (*row_dot)(const void *dy, const void *y, int64_t n, int log);
    void (*row_back)(void *dx, const void *dy, const void *y, int64_t n, double sum, int log);
    double (*log_of)(double x); /* in the element type */
    /* The sum of the weights (1 without) of the labels that are not ignored. */
    double (*label_weight)(const int64_t *labels, const void *weight, int64_t rows, int64_t ignore_index);
    double (*sum)(const void *x, int64_t n);
    loss_elementwise mse, l1, smooth_l1, huber, bce, soft_margin;
    /* pos_weight[(first + i) % cols] belongs to element i. */
    double (*bce_with_logits)(void *loss, void *dinput, const void *input, const void *target, const void *weight,
                              const void *pos_weight, int64_t n, int64_t first, int64_t cols, double scale);
};

FNN_TABLES(loss)
#endif
