/* Matrix products: C = A B over a block of C on the calling thread.
 *
 * A tile of C, up to MR rows by two vectors, stays in registers over all of k: each step broadcasts a
 * column of A and loads a row of B. The tiles of a block are computed panel by panel, a panel being two
 * vectors' columns of B over all of k: the first tile reads it from B and leaves a copy in scratch, where
 * its rows lie one after another in L1, and the other tiles read the copy; or B comes as panels packed
 * before, for several blocks. A block of a single tile copies nothing; with two or three rows its tile is
 * wider, to keep as many sums going. Columns that do not reach a panel's second vector are computed one
 * vector wide, two tiles at a time.
 */

#undef MR
#undef NR
#undef KC
#undef WIDE
#undef TILE_SIZE
#define NR (2 * W)
#define KC 256
#if VEC_BYTES == 64
#define MR 14
#elif VEC_BYTES == 32
#define MR 6
#else
#define MR 4
#endif
/* A packed tile of A holds MR values for each step of k. They are written by vectors, WIDE values from step to
 * step: what is beyond MR is overwritten by the next step, and after the last one there is room. */
#define WIDE ((MR + W - 1) / W * W)
/* Reals between packed tiles; the extra line keeps them from sharing sets of L1. */
#define TILE_SIZE(k) ((k) * MR + 64 / (int64_t)sizeof(real))

#ifndef FNN_GEMM_MODES
#define FNN_GEMM_MODES
enum {
    COPIED,       /* read a copy of B's panel */
    COPYING,      /* read B and write the copy; every column is there */
    DIRECT,       /* read B; the last vector may be partial */
    COPIED_ROWS,  /* as COPIED, where A's columns lie side by side: STEPS of k in a go */
    COPIED_TILES, /* as COPIED, where A is packed: STEPS of k in a go */
};
enum { STEPS = 4 };
enum { STREAMED = 8 }; /* rows of B that are read side by side where C has one row */
#endif

/* C (rows, n) from a tile (rows, wide) whose last columns may be none of C's, or where C is transposed. */
static __attribute__((noinline)) void NAME(finish)(const struct gemm_block *t, real *tile, int rows, int wide, real *c,
                                                   const real *bias, int64_t n) {
    if (!t->exchanged) {
        for (int i = 0; i < rows; i++, c += t->c_row)
            for (int j = 0; j < wide && j < n; j += W, tile += W) {
                const int width = (int)(n - j < W ? n - j : W);
                vec v = vload(tile);
                if (t->accumulate) v = vload_n(c + j, width) + v;
                if (bias) v = v + vload_n(bias + j, width);
                vstore_n(c + j, v, width);
            }
        return;
    }
    const int64_t c_col = t->c_col;
    int whole_rows = rows / LANE * LANE, whole = (int)(n / W * W);
    if (whole > wide) whole = wide;
    for (int i = 0; i < whole_rows; i += LANE)
        for (int j = 0; j < whole; j += W) {
            vec v[LANE];
            UNROLL for (int x = 0; x < LANE; x++) v[x] = vload(tile + (i + x) * wide + j);
            vtranspose16(v);
            UNROLL for (int x = 0; x < LANE; x++) {
                real *to = c + i + (j + x) * c_col;
                if (t->accumulate) v[x] = vload16(to, LANE * c_col) + v[x];
                if (bias) v[x] = v[x] + vload16(bias + i, 0);
                vstore16(to, LANE * c_col, v[x]);
            }
        }
    for (int i = 0; i < rows; i++)
        for (int j = i < whole_rows ? whole : 0; j < wide && j < n; j++) {
            real *to = c + i + j * c_col, value = tile[i * wide + j];
            if (t->accumulate) value = *to + value;
            *to = bias ? value + bias[i] : value;
        }
}

/* Tiles of C, one below the other, each groups * mr rows by n <= nv * W columns. It lies in memory, not in
 * arguments, to leave the registers to the inner loop. */
struct NAME(strip) {
    int64_t count;
    const real *a;
    int64_t a_row, a_col, a_group; /* a_group: from a group's rows of A to the next one's */
    const real *b;
    const real *next; /* what the panel after this one will read: a row of it every pause + 1 steps, over all */
    int64_t next_row, pause; /* tiles, as memory cannot send it within one; pause + 1 is a power of two */
    real *c;
    const real *bias;
    int64_t n;
};

/* One of k: sum[i][j] += A's row i, from `at` on, times y's vector j. */
INLINE void NAME(step)(const int mr, const int groups, const int nv, const int mode, vec sum[][4], const real **x,
                       const int64_t a_row, const int at, const real *y, const int last, real *copy) {
    const int thirds = (mr + 2) / 3;
    vec row[4];
    UNROLL for (int j = 0; j < nv; j++) row[j] = mode == DIRECT && j == nv - 1 ? vload_n(y + j * W, last)
                                                                               : vload(y + j * W);
    if (mode == COPYING) UNROLL for (int j = 0; j < nv; j++) vstore(copy + j * W, row[j]);
    UNROLL for (int i = 0; i < mr; i++) UNROLL for (int g = 0; g < groups; g++) {
        const real *a = x[g * thirds + i / 3] + at;
        const vec v = vset(a[i % 3 * a_row]);
        UNROLL for (int j = 0; j < nv; j++) vaccumulate(&sum[g * mr + i][j], v, row[j]);
    }
}

INLINE void NAME(tiles)(const int mr, const int groups, const int nv, const int mode, const struct gemm_block *t,
                        struct NAME(strip) *s) {
    for (; s->count > 0; s->count--) {
        vec sum[2 * MR][4];
        UNROLL for (int i = 0; i < groups * mr; i++) UNROLL for (int j = 0; j < nv; j++) sum[i][j] = vzero();
        {
            /* C's lines will be needed after k steps. */
            const real *c = s->c;
            const int64_t c_row = t->c_row;
            UNROLL for (int i = 0; i < groups * mr; i++, c += c_row) {
                __builtin_prefetch(c, 1);
                if (nv == 2) __builtin_prefetch(c + NR - 1, 1);
            }
        }
        {
            /* A pointer for every third row: the two below it are at one and two times a_row, which an
             * address can hold. The asm keeps the compiler from deriving one pointer from another. */
            const int thirds = (mr + 2) / 3, last = (int)(s->n - (nv - 1) * W);
            const int64_t a_row = mode == COPIED_TILES ? 1 : s->a_row, a_col = s->a_col,
                          b_row = mode == COPYING || mode == DIRECT ? t->b_row : nv * W;
            const int64_t next_row = s->next_row, pause = s->pause;
            const real *x[2 * ((MR + 2) / 3)], *y = s->b, *next = s->next;
            real *copy = t->scratch;
            UNROLL for (int i = 0; i < groups * thirds; i++) {
                x[i] = s->a + i / thirds * s->a_group + i % thirds * 3 * a_row;
                __asm__("" : "+r"(x[i]));
            }
            /* Bookkeeping is a quarter of a step's instructions. Where addresses allow it several steps share it,
             * which shows where another thread on the same core wants instructions decoded, too. */
            const int col = mode == COPIED_ROWS ? 1 : mode == COPIED_TILES ? MR : 0;
            int64_t k = t->k;
            for (const int64_t grouped = col ? k / STEPS * STEPS : 0; k > grouped; k--) {
                NAME(step)(mr, groups, nv, mode, sum, x, a_row, 0, y, last, copy);
                if (mode == COPIED && (k & pause) == 0) {
                    __builtin_prefetch(next, 0, 2);
                    __builtin_prefetch(next + nv * W - 1, 0, 2);
                    next += next_row;
                }
                UNROLL for (int i = 0; i < groups * thirds; i++) x[i] += a_col;
                y += b_row;
                copy += nv * W;
            }
            if (col)
                for (; k > 0; k -= STEPS) {
                    UNROLL for (int q = 0; q < STEPS; q++)
                        NAME(step)(mr, groups, nv, mode, sum, x, a_row, q * col, y + q * nv * W, last, copy);
                    if ((k & pause) == 0) {
                        __builtin_prefetch(next, 0, 2);
                        __builtin_prefetch(next + nv * W - 1, 0, 2);
                        next += next_row;
                    }
                    UNROLL for (int i = 0; i < groups * thirds; i++) x[i] += STEPS * col;
                    y += STEPS * nv * W;
                }
        }
        __asm__("" ::: "memory"); /* nothing below is read before or kept during the loop */
        if (mode != COPYING && mode != DIRECT) s->next += t->k / (s->pause + 1) * s->next_row;
        real *c = s->c;
        const real *bias = s->bias;
        const int64_t c_row = t->c_row;
        if (s->n == nv * W && !t->exchanged) {
            if (t->accumulate)
                UNROLL for (int i = 0; i < groups * mr; i++) UNROLL for (int j = 0; j < nv; j++)
                    sum[i][j] = vload(c + i * c_row + j * W) + sum[i][j];
            if (bias) {
                UNROLL for (int j = 0; j < nv; j++) {
                    vec v = vload(bias + j * W);
                    UNROLL for (int i = 0; i < groups * mr; i++) sum[i][j] = sum[i][j] + v;
                }
            }
            UNROLL for (int i = 0; i < groups * mr; i++, c += c_row) UNROLL for (int j = 0; j < nv; j++)
                vstore(c + j * W, sum[i][j]);
        } else {
            real tile[2 * MR * NR];
            UNROLL for (int i = 0; i < groups * mr; i++) UNROLL for (int j = 0; j < nv; j++)
                vstore(tile + (i * nv + j) * W, sum[i][j]);
            NAME(finish)(t, tile, groups * mr, nv * W, c, bias, s->n);
        }
        s->a += groups * s->a_group;
        s->c += groups * mr * c_row;
        if (t->exchanged && bias) s->bias = bias + groups * mr;
    }
}

typedef void (*NAME(tile_fn))(const struct gemm_block *t, struct NAME(strip) *s);

/* clang-format off */
#define TILE(mr, groups, nv, mode)                                                                            \
    static void NAME(tile_##mr##_##groups##nv##mode)(const struct gemm_block *t, struct NAME(strip) *s) {     \
        NAME(tiles)(mr, groups, nv, mode, t, s);                                                              \
    }
#define TILES(mr)                                                                                             \
    TILE(mr, 1, 1, COPIED) TILE(mr, 1, 1, DIRECT) TILE(mr, 2, 1, COPIED)                                      \
    TILE(mr, 1, 2, COPIED) TILE(mr, 1, 2, COPYING) TILE(mr, 1, 2, DIRECT)
TILES(1) TILES(2) TILES(3) TILES(4)
#if VEC_BYTES >= 32
TILES(5) TILES(6)
#endif
#if VEC_BYTES >= 64
TILES(7) TILES(8) TILES(9) TILES(10) TILES(11) TILES(12) TILES(13) TILES(14)
#endif
TILE(2, 1, 4, DIRECT) TILE(3, 1, 4, DIRECT)
/* With 16 registers a step is short, and its bookkeeping matters. */
#if VEC_BYTES == 32
TILE(5, 1, 2, COPIED_ROWS) TILE(5, 1, 2, COPIED_TILES) TILE(6, 1, 2, COPIED_ROWS) TILE(6, 1, 2, COPIED_TILES)
#endif

static const NAME(tile_fn) NAME(wide_tile)[] = {
    NULL, NULL, NAME(tile_2_14DIRECT), NAME(tile_3_14DIRECT),
};

/* tile[rows][vectors - 1][mode] */
#define ROW(mr, rows, tiles)                                                                                  \
    {{NAME(tile_##mr##_11COPIED), NULL, NAME(tile_##mr##_11DIRECT), NAME(tile_##mr##_11COPIED),               \
      NAME(tile_##mr##_11COPIED)},                                                                            \
     {NAME(tile_##mr##_12COPIED), NAME(tile_##mr##_12COPYING), NAME(tile_##mr##_12DIRECT),                    \
      NAME(tile_##mr##_12##rows), NAME(tile_##mr##_12##tiles)}}
#define LOW(mr) ROW(mr, COPIED, COPIED)
#define TALL(mr) ROW(mr, COPIED_ROWS, COPIED_TILES)
static const NAME(tile_fn) NAME(tile)[MR + 1][2][5] = {
    {{NULL}}, LOW(1), LOW(2), LOW(3), LOW(4),
#if VEC_BYTES == 32
    TALL(5), TALL(6),
#elif VEC_BYTES == 64
    LOW(5), LOW(6), LOW(7), LOW(8), LOW(9), LOW(10), LOW(11), LOW(12), LOW(13), LOW(14),
#endif
};
/* Two tiles at a time, one vector wide. */
#define PAIR(mr) NAME(tile_##mr##_21COPIED)
static const NAME(tile_fn) NAME(pair)[MR + 1] = {
    NULL, PAIR(1), PAIR(2), PAIR(3), PAIR(4),
#if VEC_BYTES >= 32
    PAIR(5), PAIR(6),
#endif
#if VEC_BYTES >= 64
    PAIR(7), PAIR(8), PAIR(9), PAIR(10), PAIR(11), PAIR(12), PAIR(13), PAIR(14),
#endif
};
/* clang-format on */
#undef TILE
#undef TILES
#undef ROW
#undef LOW
#undef TALL
#undef PAIR

/* panel[k][x] = B[k, x] for x < n, zero up to `wide`. */
static void NAME(pack_panel)(real *panel, const struct gemm_block *t, const real *b, int64_t n, int wide) {
    const int64_t b_row = t->b_row, b_col = t->b_col, depth = t->k;
    int64_t k = 0;
    if (b_col == 1) {
        for (; k < depth; k++, b += b_row, panel += wide)
            for (int x = 0; x < wide; x += W) {
                const int64_t rest = n - x < 0 ? 0 : n - x < W ? n - x : W;
                vstore(panel + x, vload_n(b + x, (int)rest));
            }
        return;
    }
    if (b_row == 1 && n == wide) {
        /* A cache line of each column at a time: columns a multiple of 4 KiB apart would push each other
         * out before a second visit. */
        const int64_t line = 64 / (int64_t)sizeof(real);
        for (; k + LANE <= depth; k += line)
            for (int x = 0; x < wide; x += W)
                for (int64_t q = k; q < k + line && q + LANE <= depth; q += LANE) {
                    vec v[LANE];
                    UNROLL for (int i = 0; i < LANE; i++) v[i] = vload16(b + (x + i) * b_col + q, LANE * b_col);
                    vtranspose16(v);
                    UNROLL for (int i = 0; i < LANE; i++) vstore(panel + (q + i) * wide + x, v[i]);
                }
        k = depth / LANE * LANE;
    }
    for (int64_t x = 0; x < wide; x++)
        for (int64_t q = k; q < depth; q++) panel[q * wide + x] = x < n ? b[q * b_row + x * b_col] : 0;
}

/* Tile after tile, `tall` of them of `rows` rows and the others of rows - 1: to[k][i] = A[i, k]. */
static void NAME(pack_tiles)(real *to, const struct gemm_block *t, int64_t tiles, int64_t tall, int64_t rows) {
    const int64_t a_row = t->a_row, a_col = t->a_col, depth = t->k;
    const real *a = t->a;
    if (a_row == 1) {
        /* A few columns of A at a time over all tiles, as each column lies in one piece; the next ones are asked
         * for, as they are too far apart for the processor to guess. */
        enum { FEW = 8 };
        for (int64_t k = 0; k < depth; k += FEW, a += FEW * a_col)
            for (int64_t p = 0, i = 0; p < tiles; p++) {
                const int64_t r = p < tall ? rows : rows - 1;
                const real *from = a + i;
                real *tile = to + p * TILE_SIZE(depth) + k * MR;
                if (k + FEW <= depth && i + WIDE <= t->m) { /* beyond the tile's rows lies the next one's */
                    UNROLL for (int q = 0; q < FEW; q++, from += a_col, tile += MR) {
                        __builtin_prefetch(from + FEW * a_col, 0, 2);
                        UNROLL for (int x = 0; x < WIDE; x += W) vstore(tile + x, vload(from + x));
                    }
                } else {
                    for (int64_t q = k; q < k + FEW && q < depth; q++, from += a_col, tile += MR)
                        for (int64_t x = 0; x < r; x++) tile[x] = from[x];
                }
                i += r;
            }
        return;
    }
    const real *end = a + t->m * a_row;
    for (int64_t p = 0; p < tiles; p++, to += TILE_SIZE(depth)) {
        const int64_t r = p < tall ? rows : rows - 1;
        int64_t k = 0;
        if (a_col == 1 && a + WIDE * a_row <= end) /* the rows below the tile are there to be read */
            for (; k + LANE <= depth; k += LANE) {
                vec v[WIDE / W][LANE];
                UNROLL for (int x = 0; x < WIDE / W; x++) {
                    UNROLL for (int i = 0; i < LANE; i++) v[x][i] = vload16(a + (x * W + i) * a_row + k, LANE * a_row);
                    vtranspose16(v[x]);
                }
                UNROLL for (int i = 0; i < LANE; i++) UNROLL for (int x = 0; x < WIDE / W; x++)
                    vstore(to + (k + i) * MR + x * W, v[x][i]);
            }
        for (; k < depth; k++)
            for (int64_t i = 0; i < r; i++) to[k * MR + i] = a[i * a_row + k * a_col];
        a += r * a_row;
    }
}

/* Panel after panel, as far apart as all have NR columns. */
static void NAME(pack_panels)(const struct gemm_block *t, void *copy) {
    enum { SIDE_BY_SIDE = 4 }; /* as many lines of each row of B are read in one go */
    const int64_t whole = t->b_col == 1 ? t->n / (SIDE_BY_SIDE * NR) * SIDE_BY_SIDE * NR : 0;
    const int64_t depth = t->k, b_row = t->b_row, size = NR * depth;
    const real *b = t->b;
    real *to = copy;
    int64_t j = 0;
    for (; j < whole; j += SIDE_BY_SIDE * NR, to += SIDE_BY_SIDE * size) {
        const real *row = b + j;
        for (int64_t k = 0; k < depth; k++, row += b_row)
            UNROLL for (int p = 0; p < SIDE_BY_SIDE; p++) UNROLL for (int x = 0; x < NR; x += W) {
                if (x == 0) __builtin_prefetch(row + 8 * b_row + p * NR, 0, 2);
                vstore(to + p * size + k * NR + x, vload(row + p * NR + x));
            }
    }
    for (; j < t->n; j += NR, to += size) {
        const int64_t n = t->n - j < NR ? t->n - j : NR;
        NAME(pack_panel)(to, t, b + j * t->b_col, n, n > W ? NR : W);
    }
}

static int64_t NAME(scratch_bytes)(int64_t m, int64_t pack_a) {
    const int64_t tiles = pack_a ? (m + MR - 1) / MR : 0;
    return (int64_t)sizeof(real) * (KC * NR + tiles * TILE_SIZE(KC));
}

/* c (n,) = a' B for the rows [0, rows) of B, whose columns lie side by side: added to c unless `begins`. */
INLINE void NAME(add_rows)(const int rows, const struct gemm_block *t, const real *a, const real *b, int begins) {
    real *c = t->c;
    const int64_t b_row = t->b_row;
    vec x[STREAMED];
    UNROLL for (int i = 0; i < rows; i++) x[i] = vset(a[i * t->a_col]);
    int64_t j = 0;
    for (; j + 2 * W <= t->n; j += 2 * W) {
        vec sum0 = begins ? vzero() : vload(c + j), sum1 = begins ? vzero() : vload(c + j + W);
        UNROLL for (int i = 0; i < rows; i++) {
            sum0 = vfma(x[i], vload(b + i * b_row + j), sum0);
            sum1 = vfma(x[i], vload(b + i * b_row + j + W), sum1);
        }
        vstore(c + j, sum0);
        vstore(c + j + W, sum1);
    }
    for (; j < t->n; j += W) {
        const int n = (int)(t->n - j < W ? t->n - j : W);
        vec sum = begins ? vzero() : vload_n(c + j, n);
        UNROLL for (int i = 0; i < rows; i++) sum = vfma(x[i], vload_n(b + i * b_row + j, n), sum);
        vstore_n(c + j, sum, n);
    }
}

/* One row of C: B is read once, some of its rows at a time, each from end to end, as memory likes it. */
static void NAME(multiply_row)(const struct gemm_block *t) {
    const real *a = t->a, *b = t->b;
    int begins = !t->accumulate;
    int64_t k = 0;
    for (; k + STREAMED <= t->k; k += STREAMED, begins = 0)
        NAME(add_rows)(STREAMED, t, a + k * t->a_col, b + k * t->b_row, begins);
    for (; k < t->k; k++, begins = 0) NAME(add_rows)(1, t, a + k * t->a_col, b + k * t->b_row, begins);
    if (begins) NAME(add_rows)(0, t, a, b, 1);
    if (!t->bias) return;
    real *c = t->c;
    for (int64_t j = 0; j < t->n; j += W) {
        const int n = (int)(t->n - j < W ? t->n - j : W);
        const vec bias = t->exchanged ? vset(*(const real *)t->bias) : vload_n((const real *)t->bias + j, n);
        vstore_n(c + j, vload_n(c + j, n) + bias, n);
    }
}

static void NAME(multiply)(const struct gemm_block *t) {
    if (t->m == 1 && t->n > NR && t->b_col == 1 && t->c_col == 1) {
        NAME(multiply_row)(t);
        return;
    }
    /* `tall` tiles of `rows`, then `tiles - tall` of rows - 1. */
    const int64_t tiles = (t->m + MR - 1) / MR, rows = (t->m + tiles - 1) / tiles, tall = tiles - (rows * tiles - t->m);
    const int direct = tiles == 1 && t->b_col == 1 && !t->panels;
    real *packed = (real *)t->scratch + KC * NR;
    struct NAME(strip) s = {.a_row = t->pack_a ? 1 : t->a_row, .a_col = t->pack_a ? MR : t->a_col};
    if (t->pack_a) NAME(pack_tiles)(packed, t, tiles, tall, rows);
    int64_t pause = 1;
    while (pause * 2 < tiles) pause *= 2;
    const int copied = pause < STEPS ? COPIED : t->pack_a ? COPIED_TILES : t->a_col == 1 ? COPIED_ROWS : COPIED;
    for (int64_t j = 0, n; j < t->n; j += n) {
        const int64_t rest = t->n - j;
        const int nv = direct && t->m > 1 && t->m <= 3 && rest >= 4 * W ? 4 : rest > W ? 2 : 1;
        n = rest < nv * W ? rest : nv * W;
        s.a = t->pack_a ? packed : t->a;
        s.c = (real *)t->c + j * t->c_col;
        s.bias = t->bias && !t->exchanged ? (const real *)t->bias + j : t->bias;
        s.n = n;
        s.pause = pause - 1;
        int copying = 0;
        if (t->panels) {
            s.b = (const real *)t->panels + j * t->k;
            s.next = s.b + NR * t->k;
            s.next_row = NR;
        } else {
            s.b = (const real *)t->b + j * t->b_col;
            s.next = n < rest ? s.b + n * t->b_col : (const real *)t->b + t->k * t->b_row;
            s.next_row = t->b_row;
            copying = !direct && t->b_col == 1 && n == NR;
            if (!direct && !copying) {
                NAME(pack_panel)(t->scratch, t, s.b, n, nv * W);
                s.b = t->scratch;
            }
        }
        int64_t left = tall, r = rows;
        for (int part = 0; part < 2; part++, left = tiles - tall, r = rows - 1) {
            s.a_group = t->pack_a ? TILE_SIZE(t->k) : r * t->a_row;
            while (left > 0) {
                const int groups = nv == 1 && left > 1 ? 2 : 1;
                s.count = copying ? 1 : left / groups;
                left -= s.count * groups;
                const int mode = direct ? DIRECT : copying ? COPYING : copied;
                const NAME(tile_fn) tile = nv > 2        ? NAME(wide_tile)[r]
                                           : groups == 2 ? NAME(pair)[r]
                                                         : NAME(tile)[r][nv - 1][mode];
                tile(t, &s);
                if (copying) {
                    s.b = t->scratch;
                    copying = 0;
                }
            }
        }
    }
}

static const struct gemm_kernels NAME(table) = {
    .mr = MR,
    .nr = NR,
    .kc = KC,
    .rate = VEC_BYTES == 64   ? 5 * W
            : VEC_BYTES == 32 ? 6 * W
                              : 2 * W,
    .scratch_bytes = NAME(scratch_bytes),
    .pack_panels = NAME(pack_panels),
    .multiply = NAME(multiply),
};
