/* Matrix products: C = A B over a block of the output on the calling thread.
 *
 * A panel of B (k, NR) is copied so that its rows lie one after another, zero-padded to NR columns.
 * The micro-kernel then keeps a tile of C (up to MR rows, NR columns) in registers over all k.
 */

#undef MR
#undef NR
#undef KC
#define NR (2 * W)
#if VEC_BYTES == 64
#define MR 14
#elif VEC_BYTES == 32
#define MR 6
#else
#define MR 4
#endif
#define KC 256

/* c (mr, n) = a (mr, k) panel (k, NR), n <= NR. */
INLINE void NAME(tile)(const int mr, const struct gemm_block *t, const real *a, const real *panel, real *c,
                       const real *bias, int64_t n) {
    vec sum[MR][2];
    UNROLL for (int i = 0; i < mr; i++) sum[i][0] = sum[i][1] = vzero();
    const int64_t a_row = t->a_row, a_col = t->a_col;
    for (int64_t k = t->k; k > 0; k--) {
        vec b0 = vload(panel), b1 = vload(panel + W);
        UNROLL for (int i = 0; i < mr; i++) {
            vec x = vset(a[i * a_row]);
            sum[i][0] = vfma(x, b0, sum[i][0]);
            sum[i][1] = vfma(x, b1, sum[i][1]);
        }
        panel += NR;
        a += a_col;
    }
    const int64_t c_row = t->c_row;
    const int left = (int)(n < W ? n : W), right = (int)(n - left);
    UNROLL for (int i = 0; i < mr; i++) {
        real *row = c + i * c_row;
        if (t->accumulate) {
            sum[i][0] = vload_n(row, left) + sum[i][0];
            sum[i][1] = vload_n(row + left, right) + sum[i][1];
        }
        if (bias) {
            sum[i][0] = sum[i][0] + vload_n(bias, left);
            sum[i][1] = sum[i][1] + vload_n(bias + left, right);
        }
        vstore_n(row, sum[i][0], left);
        vstore_n(row + left, sum[i][1], right);
    }
}

#define TILE(rows)                                                                                   \
    static void NAME(tile_##rows)(const struct gemm_block *t, const real *a, const real *panel,      \
                                  real *c, const real *bias, int64_t n) {                            \
        NAME(tile)(rows, t, a, panel, c, bias, n);                                                   \
    }
TILE(1) TILE(2) TILE(3) TILE(4)
#if VEC_BYTES >= 32
TILE(5) TILE(6)
#endif
#if VEC_BYTES >= 64
TILE(7) TILE(8) TILE(9) TILE(10) TILE(11) TILE(12) TILE(13) TILE(14)
#endif
#undef TILE

typedef void (*NAME(tile_fn))(const struct gemm_block *t, const real *a, const real *panel, real *c,
                              const real *bias, int64_t n);
static const NAME(tile_fn) NAME(tiles)[MR + 1] = {
    NULL, NAME(tile_1), NAME(tile_2), NAME(tile_3), NAME(tile_4),
#if VEC_BYTES >= 32
    NAME(tile_5), NAME(tile_6),
#endif
#if VEC_BYTES >= 64
    NAME(tile_7), NAME(tile_8), NAME(tile_9), NAME(tile_10), NAME(tile_11), NAME(tile_12), NAME(tile_13),
    NAME(tile_14),
#endif
};

static void NAME(pack)(real *panel, const struct gemm_block *t, int64_t j, int64_t n) {
    const real *b = (const real *)t->b + j * t->b_col;
    for (int64_t k = 0; k < t->k; k++)
        for (int64_t x = 0; x < NR; x++) panel[k * NR + x] = x < n ? b[k * t->b_row + x * t->b_col] : 0;
}

static void NAME(multiply)(const struct gemm_block *t) {
    const int64_t tiles = (t->m + MR - 1) / MR;
    for (int64_t j = 0; j < t->n; j += NR) {
        const int64_t n = t->n - j < NR ? t->n - j : NR;
        NAME(pack)(t->scratch, t, j, n);
        for (int64_t p = 0; p < tiles; p++) {
            /* Equal rows for all tiles, rather than a short last one. */
            const int64_t i = t->m * p / tiles, rows = t->m * (p + 1) / tiles - i;
            NAME(tiles)[rows](t, (const real *)t->a + i * t->a_row, t->scratch, (real *)t->c + i * t->c_row + j,
                              t->bias ? (const real *)t->bias + j : NULL, n);
        }
    }
}

static const struct gemm_kernels NAME(table) = {
    .mr = MR,
    .nr = NR,
    .kc = KC,
    .scratch = KC * NR * sizeof(real),
    .rate = VEC_BYTES == 64 ? 3 * W : VEC_BYTES == 32 ? 5 * W : 2 * W,
    .multiply = NAME(multiply),
};
