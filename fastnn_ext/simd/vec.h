/* The vector vocabulary that every kernel is written on. Read twice by unit.c, once for float and
 * once for double; the words then mean that type:
 *
 *   real, NAME(f)            the element type; f_f32 or f_f64
 *   vec, W                   a vector of W reals (16, 32 or 64 bytes by ISA)
 *   veci                     a vector of W integers of the same width (int32 or int64)
 *   vset(x) vzero()          broadcast
 *   vload(p) vstore(p, v)    unaligned; vload_n / vstore_n touch the first n elements only (0 <= n <= W)
 *                            and vload_n fills the rest with zero
 *   + - * /  on vec          IEEE operations, lane by lane
 *   vfma(a, b, c)            a * b + c; one rounding where the ISA has FMA, two on the baseline
 *   vaccumulate(&c, a, b)    c = vfma(a, b, c), in the register of c: for sums that fill most of the registers,
 *                            which a compiler may move about otherwise
 *   vmask                    the result of vlt vle vgt vge veq vneq (ordered, as C's operators are) and
 *                            visnan; vsel(m, a, b) = m ? a : b; vmand(m1, m2), vmor(m1, m2)
 *   vmax(a, b) vmin(a, b)    as PyTorch's maximum: NaN if either is NaN
 *   vabs vneg vsqrt
 *   vround(x)                nearest integer as real, ties to even, |x| < 2^22 (2^51)
 *   vtoi(x)                  integer value of an already rounded x in that range
 *   vitof(i)                 back to real, same range
 *   vasi(v) vasf(i)          the bits, reinterpreted; + - & | ^ << >> work on veci (>> is arithmetic)
 *   vidiff(i, j)             i - j, where it may wrap
 *   vzip_low(a, b)           a0 b0 a1 b1 ... of the lower halves of a and b; vzip_high of the upper
 *   vload16(p, step)         16 bytes each from p, p + step, p + 2 step, ...; vstore16(p, step, v) writes so
 *   vtranspose16(v)          LANE vectors, seen as columns of LANE x LANE blocks of 16 bytes' width: each
 *                            block transposed; LANE is how many reals 16 bytes hold
 *   vsum(v)                  sum over lanes in a fixed tree order; vhmax(v): maximum (NaN wins)
 *   vhasnan(v)               whether a lane is NaN
 *
 * There is one body for every width, on GCC/Clang vector types; an ISA overrides only the words
 * whose generic form compiles badly. No -ffast-math and -ffp-contract=off: what is written is what
 * is computed. Plain C and NEON use the generic forms at 16 bytes.
 */
#undef real
#undef vec
#undef vecu
#undef veci
#undef vmask
#undef ireal
#undef W
#undef NAME
#undef LANE

#if defined(__AVX512F__)
#define VEC_BYTES 64
#include <immintrin.h>
#elif defined(__AVX2__)
#define VEC_BYTES 32
#include <immintrin.h>
#else
#define VEC_BYTES 16
#endif

#ifndef FNN_VEC_TYPES
#define FNN_VEC_TYPES
typedef float vec_f32 __attribute__((vector_size(VEC_BYTES)));
typedef double vec_f64 __attribute__((vector_size(VEC_BYTES)));
typedef int32_t veci_f32 __attribute__((vector_size(VEC_BYTES)));
typedef int64_t veci_f64 __attribute__((vector_size(VEC_BYTES)));
typedef uint32_t vecw_f32 __attribute__((vector_size(VEC_BYTES)));
typedef uint64_t vecw_f64 __attribute__((vector_size(VEC_BYTES)));
typedef float vecu_f32 __attribute__((vector_size(VEC_BYTES), aligned(4), may_alias));
typedef double vecu_f64 __attribute__((vector_size(VEC_BYTES), aligned(8), may_alias));
#define INLINE static inline __attribute__((always_inline, unused))
/* What ordinary data never reaches: made small, not fast. */
#define RARE static __attribute__((cold, noinline))
#define UNROLL _Pragma("GCC unroll 32")
#if defined(__AVX512F__)
typedef __mmask16 vmask_f32;
typedef __mmask8 vmask_f64;
#else
typedef veci_f32 vmask_f32;
typedef veci_f64 vmask_f64;
#endif
#endif

#if REAL_IS_FLOAT
#define real float
#define ireal int32_t
#define vec vec_f32
#define vecu vecu_f32
#define veci veci_f32
#define vmask vmask_f32
#define NAME(f) f##_f32
#define W (VEC_BYTES / 4)
#define LANE 4
#else
#define real double
#define ireal int64_t
#define vec vec_f64
#define vecu vecu_f64
#define veci veci_f64
#define vmask vmask_f64
#define NAME(f) f##_f64
#define W (VEC_BYTES / 8)
#define LANE 2
#endif

#define vset NAME(vset)
#define vzero NAME(vzero)
#define vload NAME(vload)
#define vstore NAME(vstore)
#define vload_n NAME(vload_n)
#define vstore_n NAME(vstore_n)
#define vfma NAME(vfma)
#define vaccumulate NAME(vaccumulate)
#define vlt NAME(vlt)
#define vle NAME(vle)
#define vgt NAME(vgt)
#define vge NAME(vge)
#define veq NAME(veq)
#define vneq NAME(vneq)
#define visnan NAME(visnan)
#define vsel NAME(vsel)
#define vmand NAME(vmand)
#define vmor NAME(vmor)
#define vmax NAME(vmax)
#define vmin NAME(vmin)
#define vabs NAME(vabs)
#define vneg NAME(vneg)
#define vsqrt NAME(vsqrt)
#define vround NAME(vround)
#define vtoi NAME(vtoi)
#define vitof NAME(vitof)
#define vasi NAME(vasi)
#define vasf NAME(vasf)
#define viset NAME(viset)
#define vidiff NAME(vidiff)
#define vzip_low NAME(vzip_low)
#define vzip_high NAME(vzip_high)
#define vload16 NAME(vload16)
#define vstore16 NAME(vstore16)
#define vtranspose16 NAME(vtranspose16)
#define vsum NAME(vsum)
#define vhmax NAME(vhmax)
#define vhasnan NAME(vhasnan)

INLINE vec vset(real x) { return x - (vec){0}; }
INLINE vec vzero(void) { return (vec){0}; }
INLINE vec vload(const real *p) { return *(const vecu *)p; }
INLINE void vstore(real *p, vec v) { *(vecu *)p = v; }
INLINE veci vasi(vec v) { return (veci)v; }
INLINE vec vasf(veci i) { return (vec)i; }
INLINE veci viset(ireal x) { return x - (veci){0}; }
INLINE veci vidiff(veci i, veci j) { return (veci)((NAME(vecw))i - (NAME(vecw))j); }
INLINE vec vneg(vec v) { return -v; }

#undef V512
#undef V512M
#undef TAIL
#if REAL_IS_FLOAT
#define V512(op) _mm512_##op##_ps
#define V512M(op) _mm512_##op##_ps_mask
#define TAIL(n) ((__mmask16)((1u << (n)) - 1u))
#else
#define V512(op) _mm512_##op##_pd
#define V512M(op) _mm512_##op##_pd_mask
#define TAIL(n) ((__mmask8)((1u << (n)) - 1u))
#endif

/* gcc's sanitizers do not see what a masked instruction reads or writes: a build for them has none. */
#if VEC_BYTES == 16 || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
INLINE vec vload_n(const real *p, int n) {
    vec v = {0};
    for (int i = 0; i < n; i++) v[i] = p[i];
    return v;
}
INLINE void vstore_n(real *p, vec v, int n) {
    for (int i = 0; i < n; i++) p[i] = v[i];
}
#elif VEC_BYTES == 64
INLINE vec vload_n(const real *p, int n) { return V512(maskz_loadu)(TAIL(n), p); }
INLINE void vstore_n(real *p, vec v, int n) { V512(mask_storeu)(p, TAIL(n), v); }
#elif REAL_IS_FLOAT
INLINE __m256i tail_f32(int n) { return (__m256i)(viset(n) > (veci){0, 1, 2, 3, 4, 5, 6, 7}); }
INLINE vec vload_n(const real *p, int n) { return _mm256_maskload_ps(p, tail_f32(n)); }
INLINE void vstore_n(real *p, vec v, int n) { _mm256_maskstore_ps(p, tail_f32(n), v); }
#else
INLINE __m256i tail_f64(int n) { return (__m256i)(viset(n) > (veci){0, 1, 2, 3}); }
INLINE vec vload_n(const real *p, int n) { return _mm256_maskload_pd(p, tail_f64(n)); }
INLINE void vstore_n(real *p, vec v, int n) { _mm256_maskstore_pd(p, tail_f64(n), v); }
#endif

#if defined(__AVX512F__)

INLINE vec vfma(vec a, vec b, vec c) { return V512(fmadd)(a, b, c); }
INLINE void vaccumulate(vec *c, vec a, vec b) { *c = vfma(a, b, *c); }
INLINE vmask vlt(vec a, vec b) { return V512M(cmp)(a, b, _CMP_LT_OQ); }
INLINE vmask vle(vec a, vec b) { return V512M(cmp)(a, b, _CMP_LE_OQ); }
INLINE vmask vgt(vec a, vec b) { return V512M(cmp)(a, b, _CMP_GT_OQ); }
INLINE vmask vge(vec a, vec b) { return V512M(cmp)(a, b, _CMP_GE_OQ); }
INLINE vmask veq(vec a, vec b) { return V512M(cmp)(a, b, _CMP_EQ_OQ); }
INLINE vmask vneq(vec a, vec b) { return V512M(cmp)(a, b, _CMP_NEQ_UQ); }
INLINE vmask visnan(vec a) { return V512M(cmp)(a, a, _CMP_UNORD_Q); }
INLINE vec vsel(vmask m, vec a, vec b) { return V512(mask_blend)(m, b, a); }
INLINE vmask vmand(vmask a, vmask b) { return (vmask)(a & b); }
INLINE vmask vmor(vmask a, vmask b) { return (vmask)(a | b); }
INLINE vec vsqrt(vec a) { return V512(sqrt)(a); }
/* maxps returns its second operand when either is NaN: put b second, then mend a NaN in a. */
INLINE vec vmax(vec a, vec b) { return vsel(visnan(a), a, V512(max)(a, b)); }
INLINE vec vmin(vec a, vec b) { return vsel(visnan(a), a, V512(min)(a, b)); }

#else

INLINE vec vsel(vmask m, vec a, vec b) {
#if defined(__AVX2__) && REAL_IS_FLOAT
    return _mm256_blendv_ps(b, a, (__m256)m);
#elif defined(__AVX2__)
    return _mm256_blendv_pd(b, a, (__m256d)m);
#else
    return vasf((m & vasi(a)) | (~m & vasi(b)));
#endif
}
INLINE vmask vlt(vec a, vec b) { return a < b; }
INLINE vmask vle(vec a, vec b) { return a <= b; }
INLINE vmask vgt(vec a, vec b) { return a > b; }
INLINE vmask vge(vec a, vec b) { return a >= b; }
INLINE vmask veq(vec a, vec b) { return a == b; }
INLINE vmask vneq(vec a, vec b) { return a != b; }
INLINE vmask visnan(vec a) { return a != a; }
INLINE vmask vmand(vmask a, vmask b) { return a & b; }
INLINE vmask vmor(vmask a, vmask b) { return a | b; }

#if defined(__AVX2__)
#if REAL_IS_FLOAT
INLINE vec vfma(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }
INLINE void vaccumulate(vec *c, vec a, vec b) { __asm__("vfmadd231ps %2, %1, %0" : "+x"(*c) : "x"(a), "x"(b)); }
INLINE vec vsqrt(vec a) { return _mm256_sqrt_ps(a); }
INLINE vec vmax(vec a, vec b) { return vsel(visnan(a), a, _mm256_max_ps(a, b)); }
INLINE vec vmin(vec a, vec b) { return vsel(visnan(a), a, _mm256_min_ps(a, b)); }
#else
INLINE vec vfma(vec a, vec b, vec c) { return _mm256_fmadd_pd(a, b, c); }
INLINE void vaccumulate(vec *c, vec a, vec b) { __asm__("vfmadd231pd %2, %1, %0" : "+x"(*c) : "x"(a), "x"(b)); }
INLINE vec vsqrt(vec a) { return _mm256_sqrt_pd(a); }
INLINE vec vmax(vec a, vec b) { return vsel(visnan(a), a, _mm256_max_pd(a, b)); }
INLINE vec vmin(vec a, vec b) { return vsel(visnan(a), a, _mm256_min_pd(a, b)); }
#endif

#else /* plain C, SSE2, NEON: 16 bytes */

#if defined(__ARM_FEATURE_FMA)
INLINE vec vfma(vec a, vec b, vec c) {
    vec r;
    for (int i = 0; i < W; i++)
        r[i] = REAL_IS_FLOAT ? (real)fmaf((float)a[i], (float)b[i], (float)c[i]) : (real)fma(a[i], b[i], c[i]);
    return r;
}
#else
INLINE vec vfma(vec a, vec b, vec c) { return a * b + c; }
#endif
INLINE void vaccumulate(vec *c, vec a, vec b) { *c = vfma(a, b, *c); }
INLINE vec vsqrt(vec a) {
    vec r;
    for (int i = 0; i < W; i++) r[i] = REAL_IS_FLOAT ? (real)sqrtf((float)a[i]) : (real)sqrt(a[i]);
    return r;
}
INLINE vec vmax(vec a, vec b) { return vsel(vmor(vgt(a, b), visnan(a)), a, b); }
INLINE vec vmin(vec a, vec b) { return vsel(vmor(vlt(a, b), visnan(a)), a, b); }
#endif
#endif

/* clang-format off */
#if REAL_IS_FLOAT
INLINE vec vabs(vec a) { return vasf(vasi(a) & viset(0x7fffffff)); }
/* Adding 1.5 * 2^23 leaves the rounded integer in the low bits. */
INLINE vec vround(vec x) { vec magic = vset(12582912.0f); return (x + magic) - magic; }
INLINE veci vtoi(vec x) { vec magic = vset(12582912.0f); return vasi(x + magic) - vasi(magic); }
INLINE vec vitof(veci i) { vec magic = vset(12582912.0f); return vasf(i + vasi(magic)) - magic; }
#else
INLINE vec vabs(vec a) { return vasf(vasi(a) & viset(0x7fffffffffffffff)); }
INLINE vec vround(vec x) { vec magic = vset(6755399441055744.0); return (x + magic) - magic; }
INLINE veci vtoi(vec x) { vec magic = vset(6755399441055744.0); return vasi(x + magic) - vasi(magic); }
INLINE vec vitof(veci i) { vec magic = vset(6755399441055744.0); return vasf(i + vasi(magic)) - magic; }
#endif
/* clang-format on */

/* Lane W + i is lane i of b. */
#undef VZIP
#if defined(__clang__)
#define VZIP(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define VZIP(a, b, ...) __builtin_shuffle(a, b, (veci){__VA_ARGS__})
#endif
#if W == 16
INLINE vec vzip_low(vec a, vec b) { return VZIP(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23); }
INLINE vec vzip_high(vec a, vec b) { return VZIP(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31); }
#elif W == 8
INLINE vec vzip_low(vec a, vec b) { return VZIP(a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
INLINE vec vzip_high(vec a, vec b) { return VZIP(a, b, 4, 12, 5, 13, 6, 14, 7, 15); }
#elif W == 4
INLINE vec vzip_low(vec a, vec b) { return VZIP(a, b, 0, 4, 1, 5); }
INLINE vec vzip_high(vec a, vec b) { return VZIP(a, b, 2, 6, 3, 7); }
#else
INLINE vec vzip_low(vec a, vec b) { return VZIP(a, b, 0, 2); }
INLINE vec vzip_high(vec a, vec b) { return VZIP(a, b, 1, 3); }
#endif

#undef PIECE
#if REAL_IS_FLOAT
typedef float piece_f32 __attribute__((vector_size(16), aligned(4), may_alias));
#define PIECE piece_f32
#else
typedef double piece_f64 __attribute__((vector_size(16), aligned(8), may_alias));
#define PIECE piece_f64
#endif
INLINE vec vload16(const real *p, int64_t step) {
#if VEC_BYTES == 64
    __m512 v = _mm512_castps128_ps512((__m128)*(const PIECE *)p);
    v = _mm512_insertf32x4(v, (__m128)*(const PIECE *)(p + step), 1);
    v = _mm512_insertf32x4(v, (__m128)*(const PIECE *)(p + 2 * step), 2);
    return (vec)_mm512_insertf32x4(v, (__m128)*(const PIECE *)(p + 3 * step), 3);
#elif VEC_BYTES == 32
    __m256 v = _mm256_castps128_ps256((__m128)*(const PIECE *)p);
    return (vec)_mm256_insertf128_ps(v, (__m128)*(const PIECE *)(p + step), 1);
#else
    return vload(p);
#endif
}
INLINE void vstore16(real *p, int64_t step, vec v) {
#if VEC_BYTES == 64
    *(PIECE *)p = (PIECE)_mm512_extractf32x4_ps((__m512)v, 0);
    *(PIECE *)(p + step) = (PIECE)_mm512_extractf32x4_ps((__m512)v, 1);
    *(PIECE *)(p + 2 * step) = (PIECE)_mm512_extractf32x4_ps((__m512)v, 2);
    *(PIECE *)(p + 3 * step) = (PIECE)_mm512_extractf32x4_ps((__m512)v, 3);
#elif VEC_BYTES == 32
    *(PIECE *)p = (PIECE)_mm256_castps256_ps128((__m256)v);
    *(PIECE *)(p + step) = (PIECE)_mm256_extractf128_ps((__m256)v, 1);
#else
    vstore(p, v);
#endif
}
/* Lanes x0, x1, ... of every 16 bytes of a (those below W) and of b (W and above). */
#undef V16
#if VEC_BYTES == 64 && REAL_IS_FLOAT
#define V16(a, b, x, y, z, t)                                                                                 \
    VZIP(a, b, x, y, z, t, x + 4, y + 4, z + 4, t + 4, x + 8, y + 8, z + 8, t + 8, x + 12, y + 12, z + 12, t + 12)
#elif VEC_BYTES == 32 && REAL_IS_FLOAT
#define V16(a, b, x, y, z, t) VZIP(a, b, x, y, z, t, x + 4, y + 4, z + 4, t + 4)
#elif REAL_IS_FLOAT
#define V16(a, b, x, y, z, t) VZIP(a, b, x, y, z, t)
#elif VEC_BYTES == 64
#define V16(a, b, x, y) VZIP(a, b, x, y, x + 2, y + 2, x + 4, y + 4, x + 6, y + 6)
#elif VEC_BYTES == 32
#define V16(a, b, x, y) VZIP(a, b, x, y, x + 2, y + 2)
#else
#define V16(a, b, x, y) VZIP(a, b, x, y)
#endif
INLINE void vtranspose16(vec *v) {
#if REAL_IS_FLOAT
    vec a = V16(v[0], v[1], 0, W, 1, W + 1), b = V16(v[0], v[1], 2, W + 2, 3, W + 3);
    vec c = V16(v[2], v[3], 0, W, 1, W + 1), d = V16(v[2], v[3], 2, W + 2, 3, W + 3);
    v[0] = V16(a, c, 0, 1, W, W + 1);
    v[1] = V16(a, c, 2, 3, W + 2, W + 3);
    v[2] = V16(b, d, 0, 1, W, W + 1);
    v[3] = V16(b, d, 2, 3, W + 2, W + 3);
#else
    vec a = V16(v[0], v[1], 0, W), b = V16(v[0], v[1], 1, W + 1);
    v[0] = a;
    v[1] = b;
#endif
}

INLINE real vsum(vec v) {
    real t[W];
    memcpy(t, &v, sizeof v);
    UNROLL for (int half = W / 2; half > 0; half /= 2) UNROLL for (int i = 0; i < half; i++) t[i] += t[i + half];
    return t[0];
}
INLINE real vhmax(vec v) {
    UNROLL for (int folded = 1; folded < W; folded *= 2) v = vmax(vzip_low(v, v), vzip_high(v, v));
    return v[0];
}
INLINE int vhasnan(vec v) {
#if VEC_BYTES == 64
    return visnan(v) != 0;
#elif VEC_BYTES == 32
    return _mm256_movemask_ps((__m256)visnan(v)) != 0;
#else
    int found = 0;
    UNROLL for (int i = 0; i < W; i++) found |= v[i] != v[i];
    return found;
#endif
}
