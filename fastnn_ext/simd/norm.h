#ifndef FNN_NORM_H
#define FNN_NORM_H
#include "activation.h"

/* Rows of `channels` elements lie side by side, or `stride` elements apart: then they are some columns of longer ones,
 * at least as many as keep the vectors full. A mean, or an inverse deviation, belongs to `per` neighbouring channels: to
 * 1 in batch and instance norm, to a group's in group norm.
 *
 * `scratch` and `columns` are private memory, 64-byte aligned, of NORM_SCRATCH bytes for each of
 * columns(channels) columns. */
enum { NORM_SCRATCH = 72 };

/* Rows up to which sums over rows take hardly more time than reading them. */
enum { NORM_FEW = 16 };

/* The two backward kernels that take `relu` and `y` work on g = dy, or where relu is set on
 * g = y <= 0 ? 0 : dy. */
struct norm_kernels {
    int64_t (*columns)(int64_t channels);

    /* ---- statistics over rows ---- */
    /* Each channel's mean, less shift (channels), and sum of squared deviations from the mean. */
    void (*stats)(void *mean, void *m2, const void *x, const void *shift, int64_t rows, int64_t channels,
                  int64_t stride, void *scratch);
    /* Each channel's sum of g and of g (x - mean) invstd. act, unless NULL, makes g of dy and y. */
    void (*grad_stats)(void *sum, void *dot, const void *dy, const void *x, const void *y, const void *mean,
                       const void *invstd, int64_t rows, int64_t channels, int64_t stride, int64_t per, int relu,
                       act_backward act, const double *settings, void *scratch);
    /* The same with mean and invstd (rows) of each row. */
    void (*row_grad_stats)(void *sum, void *dot, const void *dy, const void *x, const void *mean, const void *invstd,
                           int64_t rows, int64_t channels, int64_t stride, void *scratch);

    /* ---- pieces: (pieces, 2, channels), each of `piece` rows, the last one of what is left ---- */
    /* For n channels from `first` on; var may be NULL. */
    void (*finish)(void *mean, void *invstd, void *var, const void *pieces, const void *shift, int64_t rows,
                   int64_t piece, int64_t channels, int64_t first, int64_t n, double eps, void *scratch);
    /* The same for groups; with `part`, which gets the mean and the sum of squared deviations, of a part of one. */
    void (*group_finish)(void *mean, void *invstd, double *part, const void *pieces, const void *shift, int64_t rows,
                         int64_t piece, int64_t channels, int64_t first, int64_t n, int64_t per, double eps,
                         void *scratch);
    /* The same of `per` columns of x, where the variance does not keep its digits; nothing if one of them is not finite. */
    void (*far_group)(void *mean, void *invstd, const void *x, int64_t rows, int64_t stride, int64_t per, double eps);
    /* Sums over `count` pieces for n channels from `first` on; each output may be NULL, sums is (2, channels). */
    void (*grad_finish)(void *dweight, void *dbias, void *sums, const void *pieces, int64_t count, int64_t channels,
                        int64_t first, int64_t n, void *scratch);
    /* sums and dots (n / per) of the pieces' sums times weight (1 where NULL), or both in `part`, of a part of a group. */
    void (*group_grad_finish)(void *sums, void *dots, double *part, const void *pieces, const void *weight, int64_t count,
                              int64_t channels, int64_t first, int64_t n, int64_t per, void *scratch);

    /* ---- statistics of channels ---- */
    /* average += gain (value - average); the variance by rows - 1. */
    void (*running)(void *running_mean, void *running_var, const void *mean, const void *var, int64_t rows,
                    int64_t channels, double gain);
    void (*inverse)(void *invstd, const void *var, int64_t channels, double eps);

    /* ---- maps: first the columns, then rows by them ---- */
    /* spread: invstd, or var if eps >= 0. weight, bias: NULL for 1, 0. */
    void (*forward_columns)(void *columns, const void *mean, const void *spread, const void *weight, const void *bias,
                            int64_t channels, int64_t per, double eps);
    /* y = f((x - mean) invstd weight + bias + residual); residual may be NULL, f is relu or nothing. */
    void (*apply)(void *y, const void *x, const void *residual, const void *columns, int64_t rows, int64_t channels,
                  int64_t stride, int relu);
    /* sums and dots (channels / per) over `count` elements, NULL where mean and invstd are constants;
     * `weighted` if they have weight in them. mean is not read where sums is NULL. Returns 1 if an invstd is far from 1: then
     * grad_apply must be told so. */
    int (*backward_columns)(void *columns, const void *mean, const void *invstd, const void *weight, const void *sums,
                             const void *dots, int64_t channels, int64_t per, double count, int weighted);
    /* dx = weight invstd (g - sum / count - (x - mean) invstd dot / count), dresidual = g; dresidual
     * may be NULL, x is NULL where mean and invstd are constants. */
    void (*grad_apply)(void *dx, void *dresidual, const void *dy, const void *x, const void *y, const void *columns,
                       int64_t rows, int64_t channels, int64_t stride, int far, int relu);

    /* ---- layer norm: statistics of rows (mean and invstd may be NULL) ---- */
    void (*layer)(void *y, void *mean, void *invstd, const void *x, const void *weight, const void *bias, int64_t rows,
                  int64_t cols, double eps);
    void (*layer_grad)(void *dx, const void *dy, const void *x, const void *mean, const void *invstd,
                       const void *weight, int64_t rows, int64_t cols);
    /* What these are made of, for n elements of a row: the sums of x - shift and of its square; y by mean and invstd,
     * where the variance keeps its digits; the sums of g and g (x - mean), dx by those of the row's cols, where n
     * inverse deviations are near 1. */
    void (*layer_moments)(double *sum, double *square, const void *x, int64_t n, double shift);
    void (*layer_part)(void *y, const void *x, double mean, double invstd, const void *weight, const void *bias,
                       int64_t n);
    int (*keeps_digits)(double var, double eps);
    void (*layer_grad_sums)(double *sum, double *dot, const void *dy, const void *x, double mean, const void *weight,
                            int64_t n);
    void (*layer_grad_part)(void *dx, const void *dy, const void *x, double mean, double invstd, const void *weight,
                            int64_t n, double sum, double dot, int64_t cols);
    int (*is_near)(const void *invstd, int64_t n);

    /* ---- local response norm of channels [first, first + n); base may be NULL; scratch: response_scratch(n, size)
     * elements ---- */
    int64_t (*response_scratch)(int64_t n, int64_t size);
    void (*response)(void *y, void *base, const void *x, int64_t rows, int64_t channels, int64_t first, int64_t n,
                     int64_t size, double alpha, double beta, double k, void *scratch);
    void (*response_grad)(void *dx, const void *dy, const void *x, const void *base, int64_t rows, int64_t channels,
                          int64_t first, int64_t n, int64_t size, double alpha, double beta, void *scratch);
};

FNN_TABLES(norm)
#endif
