#ifndef FNN_GEMM_H
#define FNN_GEMM_H
#include "isa.h"

/* A piece of a product: C[i, j] (m, n) = sum over k of A[i, k] B[k, j], plus C[i, j] if `accumulate`,
 * plus bias[j] if `bias` is not NULL. Strides in elements; C's column stride is 1. */
struct gemm_block {
    int64_t m, n, k;
    const void *a;
    int64_t a_row, a_col;
    const void *b;
    int64_t b_row, b_col;
    void *c;
    int64_t c_row;
    const void *bias;
    int64_t accumulate;
    void *scratch; /* scratch bytes of the table, 64-byte aligned */
};

struct gemm_kernels {
    int64_t mr, nr; /* the register tile: rows, columns */
    int64_t kc;     /* block->k is at most this */
    int64_t scratch;
    double rate;    /* multiply-adds a nanosecond, for estimates of cost */
    void (*multiply)(const struct gemm_block *block);
};

FNN_TABLES(gemm)
#endif
