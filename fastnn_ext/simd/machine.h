#ifndef FNN_MACHINE_H
#define FNN_MACHINE_H
#include "isa.h"

/* sums[i] = sums[i] * a[i % W] + b[i % W], `rounds` times, i < MACHINE_SUMS * W. */
typedef void (*machine_multiply_add)(void *sums, const void *a, const void *b, int64_t rounds);
/* y[i] = x[i] + s * z[i], i < n: two reads and a write. */
typedef void (*machine_triad)(void *y, const void *x, const void *z, double s, int64_t n);

struct machine_kernels {
    int64_t width, sums; /* W, and how many accumulators of it */
    machine_multiply_add multiply_add;
    machine_triad triad;
};

FNN_TABLES(machine)
#endif
