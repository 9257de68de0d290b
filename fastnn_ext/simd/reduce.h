#ifndef FNN_REDUCE_H
#define FNN_REDUCE_H
#include "isa.h"

/* The kinds, in the order of REDUCE in reduce.pyx. A mean is a sum with a divisor. */
enum { REDUCE_SUM, REDUCE_MEAN, REDUCE_MAX, REDUCE_MIN, REDUCE_PROD, REDUCE_COUNT };

/* y[r] = (reduction of x[r * stride + k] over k < length) / divisor, r < rows. */
typedef void (*reduce_rows)(void *y, const void *x, int64_t rows, int64_t length, int64_t stride, double divisor);
/* y[j] = (reduction of x[k * stride + j] over k < length) / divisor, j < n. */
typedef void (*reduce_columns)(void *y, const void *x, int64_t length, int64_t n, int64_t stride, double divisor);

struct reduce_kernels {
    reduce_rows rows[REDUCE_COUNT];
    reduce_columns columns[REDUCE_COUNT];
};

FNN_TABLES(reduce)
#endif
