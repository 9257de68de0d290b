/* The peak that shares are taken of: multiply-adds on 14 independent accumulators, which hides an
 * FMA's latency (4 or 5 cycles on two units) and leaves registers for the two operands. */
typedef float vec __attribute__((vector_size(WIDTH)));

enum { ACCUMULATORS = 14 };

double fma_flops(long loops) {
    vec sum[ACCUMULATORS], a, b;
    for (int j = 0; j < WIDTH / 4; j++) a[j] = 0.999999f, b[j] = 1e-6f;
    for (int i = 0; i < ACCUMULATORS; i++) sum[i] = a;
    for (long k = 0; k < loops; k++) {
        /* The operands must look new each time, or the loop is folded away. */
        __asm__ volatile("" : "+x"(a), "+x"(b));
#pragma GCC unroll 14
        for (int i = 0; i < ACCUMULATORS; i++) sum[i] = sum[i] * a + b;
    }
    for (int i = 1; i < ACCUMULATORS; i++) sum[0] += sum[i];
    volatile float sink = sum[0][0];
    (void)sink;
    return 2.0 * (double)loops * ACCUMULATORS * (WIDTH / 4);
}
