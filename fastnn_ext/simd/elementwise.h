#ifndef FNN_ELEMENTWISE_H
#define FNN_ELEMENTWISE_H
#include "isa.h"

/* All kinds, in their order: KIND(name, ns). ns: what the arithmetic of a float32 takes on AVX2, beside reading and
 * writing it. Powers and all from sin on are libm's, which has no vectors. */
#define FNN_UNARY(KIND)  \
    KIND(exp, 0.5)       \
    KIND(log, 0.5)       \
    KIND(sqrt, 0)        \
    KIND(abs, 0)         \
    KIND(square, 0)      \
    KIND(reciprocal, 0)  \
    KIND(affine, 0)      \
    KIND(power, 10)      \
    KIND(sign, 0)        \
    KIND(expm1, 0.5)     \
    KIND(erf, 0.5)       \
    KIND(log1pexp, 0.5)  \
    KIND(sin, 10)        \
    KIND(cos, 10)        \
    KIND(tan, 12)        \
    KIND(asin, 8)        \
    KIND(acos, 8)        \
    KIND(atan, 8)        \
    KIND(sinh, 12)       \
    KIND(cosh, 10)       \
    KIND(asinh, 15)      \
    KIND(acosh, 15)      \
    KIND(atanh, 15)      \
    KIND(log1p, 10)      \
    KIND(floor, 1)       \
    KIND(ceil, 1)        \
    KIND(round, 1)
#define FNN_BINARY(KIND)   \
    KIND(add, 0)           \
    KIND(sub, 0)           \
    KIND(mul, 0)           \
    KIND(div, 0)           \
    KIND(maximum, 0)       \
    KIND(minimum, 0)       \
    KIND(power, 10)        \
    KIND(greater, 0)       \
    KIND(greater_equal, 0) \
    KIND(less, 0)          \
    KIND(less_equal, 0)    \
    KIND(equal, 0)         \
    KIND(zero_where, 0)

#define UNARY_INDEX(name, ns) UNARY_##name,
enum { FNN_UNARY(UNARY_INDEX) UNARY_COUNT };
#define BINARY_INDEX(name, ns) BINARY_##name,
enum { FNN_BINARY(BINARY_INDEX) BINARY_COUNT };

/* y[i] = f(x[i]); in place if y == x. a and b: constants of the kind. */
typedef void (*elementwise_unary)(void *y, const void *x, int64_t n, double a, double b);

/* y is (rows, n), contiguous; element (i, j) of a lies at i * a_row + j * a_col, b's likewise.
 * In place if y is a or b, with the same strides. */
typedef void (*elementwise_binary)(void *y, const void *a, const void *b, int64_t rows, int64_t n, int64_t a_row,
                                   int64_t a_col, int64_t b_row, int64_t b_col);

/* y[j] = a[j * a_col] where c[j * c_col] is not 0, else b[j * b_col], j < n.
 * In place if y is an operand with its elements one behind the other. */
typedef void (*elementwise_where)(void *y, const void *c, const void *a, const void *b, int64_t n, int64_t c_col,
                                  int64_t a_col, int64_t b_col);

struct elementwise_kernels {
    elementwise_unary unary[UNARY_COUNT];
    elementwise_binary binary[BINARY_COUNT];
    elementwise_where where;
    /* y[i * y_row + j * y_col] = x[i * x_row + j * x_col], i < rows, j < n. */
    void (*copy)(void *y, const void *x, int64_t rows, int64_t n, int64_t y_row, int64_t y_col, int64_t x_row,
                 int64_t x_col);
    void (*fill)(void *y, int64_t n, double value);
};

FNN_TABLES(elementwise)
#endif
