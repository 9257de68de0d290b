/* Which instruction sets a build holds, and how a driver reaches its stem's kernels.
 *
 * A stem's kernels stand in simd/<stem>.inc.c, written once on the vocabulary of vec.h. setup.py
 * compiles that file through unit.c for each ISA of the list below, and each object exports one
 * symbol: the stem's table for float32 and float64. Everything else in it is static: an inline
 * function that leaked out of the AVX-512 object would crash older machines.
 */
#ifndef FNN_ISA_H
#define FNN_ISA_H

#include <stddef.h>
#include <stdint.h>

enum { FNN_BASELINE = 0, FNN_AVX2 = 1, FNN_AVX512 = 2, FNN_ISA_COUNT = 3 };
enum { FNN_F32 = 0, FNN_F64 = 1, FNN_DTYPE_COUNT = 2 };

/* FNN_TABLES(gemm) in simd/gemm.h declares the tables of struct gemm_kernels, and
 * gemm_table(isa, dtype), which picks one. FNN_BUILT_* come from setup.py. */
#define FNN_DECLARE_(stem, isa) extern const struct stem##_kernels *const fnn_##stem##_##isa[FNN_DTYPE_COUNT];
#ifdef FNN_BUILT_AVX2
#define FNN_DECLARE_AVX2_(stem) FNN_DECLARE_(stem, avx2)
#define FNN_PICK_AVX2_(stem) if (isa == FNN_AVX2) return fnn_##stem##_avx2[dtype];
#else
#define FNN_DECLARE_AVX2_(stem)
#define FNN_PICK_AVX2_(stem)
#endif
#ifdef FNN_BUILT_AVX512
#define FNN_DECLARE_AVX512_(stem) FNN_DECLARE_(stem, avx512)
#define FNN_PICK_AVX512_(stem) if (isa == FNN_AVX512) return fnn_##stem##_avx512[dtype];
#else
#define FNN_DECLARE_AVX512_(stem)
#define FNN_PICK_AVX512_(stem)
#endif

#define FNN_TABLES(stem)                                                                     \
    FNN_DECLARE_(stem, baseline)                                                             \
    FNN_DECLARE_AVX2_(stem)                                                                  \
    FNN_DECLARE_AVX512_(stem)                                                                \
    static inline const struct stem##_kernels *stem##_table(int isa, int dtype) {            \
        FNN_PICK_AVX2_(stem)                                                                 \
        FNN_PICK_AVX512_(stem)                                                               \
        (void)isa;                                                                           \
        return fnn_##stem##_baseline[dtype];                                                 \
    }

#endif
