/* Philox4x32-10, a counter-based generator, and what is made of its words.
 *
 * Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011. A
 * block of four 32-bit words is a bijection of a 128-bit counter under a 64-bit key: ten rounds of
 * two 32 x 32 -> 64 bit products. It passes TestU01's BigCrush (ibid., table 2).
 *
 * The key is the seed; the counter is, from its lowest word: block mod 2^32; block / 2^32 + 2^8 *
 * stream; step mod 2^32; step / 2^32. Word i of a stream is word i % 4 of block i / 4, so that any
 * part of it can be had by itself: blocks below 2^40, streams below 2^24.
 *
 * A vector holds one word of several blocks, each in a 64-bit lane, which is how the product
 * instructions want their operands: they read the low half of a lane only, so rubbish may stay in
 * the high halves until the end. Bits are the same on every ISA, and so are those of uniform and
 * normal, which use nothing but IEEE + - * / sqrt.
 */
#if REAL_IS_FLOAT

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

typedef uint64_t wide __attribute__((vector_size(VEC_BYTES)));
enum { BLOCKS = VEC_BYTES / 8, GROUP = 4 * BLOCKS, ROUNDS = 10 }; /* GROUP: words of BLOCKS blocks */

INLINE wide wide_set(uint64_t x) { return x - (wide){0}; }

/* The products of the low halves. */
INLINE wide wide_product(wide a, wide b) {
#if defined(__AVX512F__)
    return (wide)_mm512_mul_epu32((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
    return (wide)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
    return (wide)_mm_mul_epu32((__m128i)a, (__m128i)b);
#else
    return (a & 0xffffffff) * (b & 0xffffffff);
#endif
}

/* The words of BLOCKS blocks, block by block. */
INLINE void store_blocks(uint32_t *out, wide c0, wide c1, wide c2, wide c3) {
    wide low = (c0 & 0xffffffff) | c1 << 32, high = (c2 & 0xffffffff) | c3 << 32;
#if defined(__AVX512F__)
    __m512i first = _mm512_set_epi64(11, 3, 10, 2, 9, 1, 8, 0), last = _mm512_set_epi64(15, 7, 14, 6, 13, 5, 12, 4);
    _mm512_storeu_si512(out, _mm512_permutex2var_epi64((__m512i)low, first, (__m512i)high));
    _mm512_storeu_si512(out + 16, _mm512_permutex2var_epi64((__m512i)low, last, (__m512i)high));
#elif defined(__AVX2__)
    __m256i even = _mm256_unpacklo_epi64((__m256i)low, (__m256i)high);
    __m256i odd = _mm256_unpackhi_epi64((__m256i)low, (__m256i)high);
    _mm256_storeu_si256((__m256i *)out, _mm256_permute2x128_si256(even, odd, 0x20));
    _mm256_storeu_si256((__m256i *)(out + 8), _mm256_permute2x128_si256(even, odd, 0x31));
#else
    for (int i = 0; i < BLOCKS; i++) {
        uint64_t pair[2] = {low[i], high[i]};
        memcpy(out + 4 * i, pair, sizeof pair);
    }
#endif
}

static void random_words(uint32_t *out, const struct random_key *key, int64_t first, int64_t n) {
    wide round_key[ROUNDS][2], lanes;
    for (uint32_t i = 0; i < ROUNDS; i++) {
        round_key[i][0] = wide_set((uint32_t)key->seed + i * 0x9E3779B9u);
        round_key[i][1] = wide_set((uint32_t)(key->seed >> 32) + i * 0xBB67AE85u);
    }
    for (int i = 0; i < BLOCKS; i++) lanes[i] = (uint64_t)i;
    const wide stream = wide_set((uint64_t)key->stream << 8), step = wide_set(key->step);
    uint64_t block = (uint64_t)first / 4;
    for (int64_t i = -(first % 4); i < n; i += GROUP, block += BLOCKS) {
        wide blocks = lanes + wide_set(block);
        wide c0 = blocks, c1 = (blocks >> 32) + stream, c2 = step, c3 = step >> 32;
        UNROLL for (int r = 0; r < ROUNDS; r++) {
            wide p0 = wide_product(c0, wide_set(0xD2511F53)), p1 = wide_product(c2, wide_set(0xCD9E8D57));
            c0 = (p1 >> 32) ^ c1 ^ round_key[r][0];
            c1 = p1;
            c2 = (p0 >> 32) ^ c3 ^ round_key[r][1];
            c3 = p0;
        }
        if (i >= 0 && i + GROUP <= n) {
            store_blocks(out + i, c0, c1, c2, c3);
        } else {
            uint32_t group[GROUP];
            int64_t from = i < 0 ? -i : 0, to = n - i < GROUP ? n - i : GROUP;
            store_blocks(group, c0, c1, c2, c3);
            memcpy(out + i + from, group + from, (size_t)(to - from) * sizeof *out);
        }
    }
}

/* 53 bits of two words, as a multiple of 2^-53 in [0, 1). */
INLINE double unit_interval(const uint32_t *words) {
    return (double)(int64_t)(((uint64_t)words[1] << 32 | words[0]) >> 11) * 0x1p-53;
}

static void random_uniform(double *out, const uint32_t *words, int64_t n) {
    for (int64_t i = 0; i < n; i++) out[i] = unit_interval(words + 2 * i);
}

/* ln(x) for normal x > 0, within 2 ulp: x = 2^e m with m next to 1, then the series of 2 artanh(s)
 * for s = (m - 1) / (m + 1), |s| < 0.172, up to s^21 / 21: the next term is below 2^-60 of the sum. */
INLINE double portable_log(double x) {
    int64_t bits, e;
    memcpy(&bits, &x, sizeof bits);
    e = (bits - 0x3fe6a09e667f3bcd) >> 52; /* the bits of sqrt(1/2): m is in [sqrt(1/2), sqrt(2)) */
    bits -= e * ((int64_t)1 << 52);
    double m, series = 0;
    memcpy(&m, &bits, sizeof m);
    double s = (m - 1) / (m + 1), s2 = s * s;
    UNROLL for (int k = 21; k >= 3; k -= 2) series = series * s2 + 1.0 / k;
    return (double)e * 0.6931471805599453 + (2 * s + 2 * s * (s2 * series));
}

/* Box and Muller, "A note on the generation of random normal deviates", 1958, eq. 1: a radius and an
 * angle of 2 pi t. The angle is reduced to t in [-1/8, 1/8] and a quarter turn, exactly; sine and
 * cosine are Taylor's series up to the 17th and 16th power, with errors below 2^-58. */
static void random_normal(double *out, const uint32_t *words, int64_t n) {
    for (int64_t i = 0; i < n; i += 2, words += 4) {
        double radius = sqrt(-2 * portable_log(1 - unit_interval(words))), t = unit_interval(words + 2);
        int quarter = (int)(4 * t + 0.5);
        double x = 6.283185307179586 * (t - 0.25 * quarter), x2 = x * x, sine = 1, cosine = 1;
        UNROLL for (int k = 16; k >= 2; k -= 2) sine = 1 - sine * (x2 * (1.0 / (k * (k + 1))));
        UNROLL for (int k = 15; k >= 1; k -= 2) cosine = 1 - cosine * (x2 * (1.0 / (k * (k + 1))));
        sine *= x;
        double a = quarter & 1 ? -sine : cosine, b = quarter & 1 ? cosine : sine;
        out[i] = quarter & 2 ? -radius * a : radius * a;
        out[i + 1] = quarter & 2 ? -radius * b : radius * b;
    }
}

#endif

static void NAME(drop)(void *y_, const void *x_, const uint32_t *words, int64_t n, int64_t inner, uint32_t threshold,
                       double scale_) {
    enum { BLOCK = 256 };
    real *y = y_, factor[BLOCK];
    const real *x = x_, scale = (real)scale_;
    int64_t decision = 0, left = inner; /* of the current run */
    for (int64_t i = 0; i < n * inner; i += BLOCK) {
        int m = n * inner - i < BLOCK ? (int)(n * inner - i) : BLOCK, j = 0;
        if (inner == 1) {
            for (; j < m; j++) factor[j] = words[i + j] >= threshold ? scale : 0;
        } else {
            while (j < m) {
                int end = left < m - j ? j + (int)left : m;
                real f = words[decision] >= threshold ? scale : 0;
                left -= end - j;
                for (; j < end; j++) factor[j] = f;
                if (left == 0) left = inner, decision++;
            }
        }
        /* A product, not a selection: NaN stays NaN where it is dropped, as in PyTorch. */
        for (j = 0; j + W <= m; j += W) vstore(y + i + j, vload(x + i + j) * vload(factor + j));
        if (j < m) vstore_n(y + i + j, vload_n(x + i + j, m - j) * vload_n(factor + j, m - j), m - j);
    }
}

static const struct random_kernels NAME(table) = {
    .words = random_words,
    .uniform = random_uniform,
    .normal = random_normal,
    .drop = NAME(drop),
};
