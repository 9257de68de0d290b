#ifndef FNN_NORM_H
#define FNN_NORM_H
#include "activation.h"

/* Bytes of private memory, 64-byte aligned, for each of columns(channels) columns. */
enum { NORM_SCRATCH = 72 };

/* Rows up to which sums over rows take hardly more time than reading them. */
enum { NORM_FEW = 16 };

/* What is known of n numbers far from 1, times `scale`, a power of two: their mean and sum of squared deviations.
 * scale == 0: one of them is not finite, and nothing is known. */
struct norm_far { double scale, n, mean, m2; };

/* Batch, group and layer norm, of some rows and channels; each kernel says what it takes. Rows of `channels`
 * elements lie `stride` elements apart: side by side, or as some columns of longer rows, at least as many as keep
 * the vectors full. Pointers are to the first of these rows and channels, or to what belongs to it. A mean, or an
 * inverse deviation, belongs to `per` neighbouring channels: to 1 in batch and instance norm, to a group's in group
 * norm; in layer norm to a row, whose columns are the channels. g is the gradient before the activation. */
struct norm_job {
    int64_t rows, channels, stride, per;
    /* Rows are read in `pieces` pieces of `piece` rows, the last one of what is left. `partial` is (pieces, 2,
     * stride): of each piece the means, less the sample's first row, and the sums of squared deviations; or the sums
     * of g and of g (x - mean) invstd. */
    int64_t piece, pieces;
    void *partial;
    const void *first_row;
    const void *x, *dy, *residual;   /* residual may be NULL */
    void *y;                         /* gradients read it, where there is an activation; else NULL */
    void *dx, *dresidual;            /* dresidual may be NULL */
    void *mean, *invstd, *var;       /* var may be NULL */
    const void *weight, *bias;       /* NULL: 1 and 0 */
    void *dweight, *dbias;           /* NULL: not wanted */
    void *sums, *dots; /* of g and of g (x - mean) invstd, one for each mean; NULL: mean is a constant */
    int64_t weighted; /* whether these have weight in them */
    double count; /* of the elements that a mean is of */
    double eps;
    double *part; /* two numbers of a part of a group go here; NULL: the group is whole */
    struct norm_far *far_part; /* of the first mean's numbers, if they are far from 1; the next mean's are */
    int64_t far_parts; /* far_parts on, and a mean's have so many parts */
    int64_t relu; /* the activation is relu: g = y <= 0 ? 0 : dy */
    act_backward act; /* another one's gradient, which makes g of dy and y with `settings`, or NULL */
    const double *settings;
    int64_t far; /* set by backward_columns: an invstd is far from 1 */
    void *scratch; /* NORM_SCRATCH bytes for each of columns(channels) columns */
};

/* Local response norm, of the channels [first, first + n) of rows of `channels`, side by side. Pointers are to the
 * first row. */
struct norm_response_job {
    int64_t rows, channels, first, n, size;
    double alpha, beta, k;
    const void *x, *dy;
    void *y, *base, *dx; /* base: what x was divided by, before it was raised to beta; NULL: not wanted */
    void *scratch; /* response_scratch(n, size) elements */
};

struct norm_kernels {
    int64_t (*columns)(int64_t channels);

    /* ---- partial of one piece, of `rows` rows ---- */
    /* Of x, first_row: means and squared deviations. */
    void (*stats)(const struct norm_job *job);
    /* Of dy, x, mean, invstd, per, and y with relu or act: the sums of gradients. Returns whether one is not finite. */
    int (*grad_stats)(const struct norm_job *job);
    /* Then, of channels [begin, end): sums of g (x - mean) invstd that are not, for no reason of g, mean or invstd. */
    void (*far_dots)(const struct norm_job *job, int64_t begin, int64_t end);
    /* The same with mean and invstd of each row, and neither relu nor act. */
    void (*row_grad_stats)(const struct norm_job *job);

    /* ---- of partial of all pieces ---- */
    /* mean, invstd and var of `rows` rows, by eps. */
    void (*finish)(const struct norm_job *job);
    /* The same for groups, without var; of a part of one, `part` gets the mean and the sum of squared deviations. */
    void (*group_finish)(const struct norm_job *job);
    /* Where invstd tells of a variance that did not keep its digits: far_part of some rows of x. */
    void (*far_stats)(const struct norm_job *job);
    /* And from all its parts the same once more; it stays where a number is not finite. */
    void (*far_finish)(const struct norm_job *job);
    /* dweight, dbias, and sums and dots. */
    void (*grad_finish)(const struct norm_job *job);
    /* sums and dots of groups, times weight; of a part of one, `part` gets both. */
    void (*group_grad_finish)(const struct norm_job *job);

    /* ---- statistics of channels ---- */
    /* average += gain (value - average); the variance by rows - 1. */
    void (*running)(void *running_mean, void *running_var, const void *mean, const void *var, int64_t rows,
                    int64_t channels, double gain);
    void (*inverse)(void *invstd, const void *var, int64_t channels, double eps);

    /* ---- maps: first columns in scratch, then rows by them ---- */
    /* Of mean, weight, bias, and invstd; or, if eps >= 0, var. */
    void (*forward_columns)(const struct norm_job *job);
    /* y = f((x - mean) invstd weight + bias + residual), where f is relu or nothing. */
    void (*apply)(const struct norm_job *job);
    /* Of mean, invstd, weight, sums, dots, weighted and count. Where sums is NULL, neither mean nor x is read. */
    void (*backward_columns)(struct norm_job *job);
    /* dx = weight invstd (g - sum / count - (x - mean) invstd dot / count), dresidual = g. */
    void (*grad_apply)(const struct norm_job *job);

    /* ---- layer norm: rows side by side ---- */
    /* y, and mean and invstd unless NULL, of x, weight, bias, eps. */
    void (*layer)(const struct norm_job *job);
    /* dx of dy, x, mean, invstd, weight. */
    void (*layer_grad)(const struct norm_job *job);
    /* What these are made of, for `channels` elements of a row, of `count`: the sums of x - shift and of its square;
     * y by mean and invstd, where the variance keeps its digits; */
    void (*layer_moments)(const struct norm_job *job, double shift, double *sum, double *square);
    void (*layer_part)(const struct norm_job *job, double mean, double invstd);
    int (*keeps_digits)(double var, double eps);
    /* where it does not, far_part; y, mean and invstd by all parts of the row, unless this returns 0, as a number is
     * not finite; */
    void (*far_layer_moments)(const struct norm_job *job);
    int (*far_layer_part)(const struct norm_job *job, double *mean, double *invstd);
    /* two sums of gradients, and dx by those of the whole row. */
    void (*layer_grad_sums)(const struct norm_job *job, double *sum, double *dot);
    void (*layer_grad_part)(const struct norm_job *job, double sum, double dot);

    /* ---- local response norm ---- */
    int64_t (*response_scratch)(int64_t n, int64_t size);
    /* y and base of x, k. */
    void (*response)(const struct norm_response_job *job);
    /* dx of dy, x and base. */
    void (*response_grad)(const struct norm_response_job *job);
};

FNN_TABLES(norm)
#endif
