/* One stem for one ISA: setup.py compiles this file with -DFNN_STEM=<stem> -DFNN_ISA=<isa> and the
 * ISA's flags. The stem's body is read twice, for float and for double; NAME(f) is f_f32 or f_f64. */
#include <float.h>
#include <math.h>
#include <string.h>

#define FNN_STR_(x) #x
#define FNN_STR(x) FNN_STR_(x)
#define FNN_CAT_(a, b) a##b
#define FNN_CAT(a, b) FNN_CAT_(a, b)

#include "isa.h"
#include FNN_STR(FNN_STEM.h)

#define REAL_IS_FLOAT 1
#include "vec.h"
#include "mathfn.h"
#include FNN_STR(FNN_STEM.inc.c)
#undef REAL_IS_FLOAT

#define REAL_IS_FLOAT 0
#include "vec.h"
#include "mathfn.h"
#include FNN_STR(FNN_STEM.inc.c)
#undef REAL_IS_FLOAT

#define FNN_SYMBOL FNN_CAT(FNN_CAT(fnn_, FNN_STEM), FNN_CAT(_, FNN_ISA))
#define FNN_TABLE_TYPE FNN_CAT(FNN_STEM, _kernels)
const struct FNN_TABLE_TYPE *const FNN_SYMBOL[FNN_DTYPE_COUNT] = {&table_f32, &table_f64};
