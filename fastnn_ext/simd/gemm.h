#ifndef FNN_GEMM_H
#define FNN_GEMM_H
#include "isa.h"

/* A piece of a product: C[i, j] (m, n) = sum over k of A[i, k] B[k, j], plus C[i, j] if `accumulate`,
 * plus bias[j] if `bias` is not NULL. Strides in elements.
 *
 * The micro-kernel broadcasts A and loads vectors of B: it is at its best where b_col is 1 and n long. The
 * driver exchanges the operands of a product with few columns, C' = B' A'; the block is then one of that
 * product, c_row is 1, and the bias bias[i]. Otherwise c_col is 1. */
struct gemm_block {
    int64_t m, n, k;
    const void *a;
    int64_t a_row, a_col;
    const void *b;
    int64_t b_row, b_col;
    void *c;
    int64_t c_row, c_col;
    const void *bias;
    int64_t exchanged;
    int64_t accumulate;
    int64_t pack_a;     /* copy A, too */
    const void *panels; /* what pack_panels made of B, or NULL */
    void *scratch;      /* scratch_bytes(m, pack_a), 64-byte aligned */
};

struct gemm_kernels {
    int64_t mr, nr; /* the register tile: rows, columns */
    int64_t kc;     /* block->k is at most this */
    double rate;    /* multiply-adds a nanosecond, for estimates of cost */
    int64_t (*scratch_bytes)(int64_t m, int64_t pack_a);
    void (*pack_panels)(const struct gemm_block *block, void *panels); /* nr * k elements each */
    void (*multiply)(const struct gemm_block *block);
};

FNN_TABLES(gemm)
#endif
