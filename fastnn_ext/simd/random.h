#ifndef FNN_RANDOM_H
#define FNN_RANDOM_H
#include "isa.h"

/* Which random numbers: all of them follow from these and a position. */
struct random_key {
    uint64_t seed, step;
    uint32_t stream; /* below 2^24 */
};

struct random_kernels {
    /* out[i] = word first + i of the stream, 0 <= i < n. */
    void (*words)(uint32_t *out, const struct random_key *key, int64_t first, int64_t n);
    /* n doubles, each from two words: evenly spread over [0, 1), and normal with mean 0 and variance
     * 1 (each pair from four words; n even). */
    void (*uniform)(double *out, const uint32_t *words, int64_t n);
    void (*normal)(double *out, const uint32_t *words, int64_t n);
    /* y[i] = x[i] * (words[i / inner] >= threshold ? scale : 0), 0 <= i < n * inner; in place if y == x. */
    void (*drop)(void *y, const void *x, const uint32_t *words, int64_t n, int64_t inner, uint32_t threshold,
                 double scale);
};

FNN_TABLES(random)
#endif
