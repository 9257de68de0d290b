#ifndef FNN_ELEMENTWISE_H
#define FNN_ELEMENTWISE_H
#include "isa.h"

/* The kinds, in the order of UNARY and BINARY in elementwise.pyx. */
enum {
    UNARY_NEG, UNARY_EXP, UNARY_LOG, UNARY_SQRT, UNARY_ABS, UNARY_SQUARE, UNARY_RECIPROCAL, UNARY_AFFINE,
    UNARY_POWER, UNARY_SIGN, UNARY_EXPM1, UNARY_ERF, UNARY_LOG1PEXP, UNARY_COUNT
};
enum {
    BINARY_ADD, BINARY_SUB, BINARY_MUL, BINARY_DIV, BINARY_MAXIMUM, BINARY_MINIMUM, BINARY_POWER,
    BINARY_GREATER, BINARY_GREATER_EQUAL, BINARY_LESS, BINARY_LESS_EQUAL, BINARY_EQUAL, BINARY_ZERO_WHERE,
    BINARY_COUNT
};

/* y[i] = f(x[i]); in place if y == x. a and b: constants of the kind. */
typedef void (*elementwise_unary)(void *y, const void *x, int64_t n, double a, double b);

/* y is (rows, n), contiguous; element (i, j) of a lies at i * a_row + j * a_col, b's likewise.
 * In place if y is a or b, with the same strides. */
typedef void (*elementwise_binary)(void *y, const void *a, const void *b, int64_t rows, int64_t n,
                                   int64_t a_row, int64_t a_col, int64_t b_row, int64_t b_col);

/* y[i * y_row + j * y_col] = or += x[i * x_row + j * x_col], i < rows, j < n. */
typedef void (*elementwise_copy)(void *y, const void *x, int64_t rows, int64_t n,
                                 int64_t y_row, int64_t y_col, int64_t x_row, int64_t x_col);

struct elementwise_kernels {
    elementwise_unary unary[UNARY_COUNT];
    elementwise_binary binary[BINARY_COUNT];
    elementwise_copy copy, add_copy;
    void (*fill)(void *y, int64_t n, double value);
};

FNN_TABLES(elementwise)
#endif
