"""Arithmetic element by element, copies between layouts, and fills.

Native ops
----------
unary    buf: y, x     dim: n, kind   scalar: a, b
binary   buf: y, a, b  dim: kind, ndim (<= 6), shape[6], a_stride[6], b_stride[6]
copy     buf: y, x     dim: ndim (<= 8), shape[8], y_stride[8], x_stride[8], y_at, x_at   scalar: accumulate
fill     buf: y        dim: n         scalar: value
divide_by_size   buf: y, x     dim: n, size

`kind` is an index in UNARY or BINARY. Arrays of `ndim` places use the first ndim of them; the drivers
put a simpler equal description in their place. Strides are in elements and not negative.

unary: y = f(x), contiguous; y may be x. affine is a x + b, power is x**a.
binary: y is C-contiguous of `shape`; an operand's stride is 0 where it is broadcast. y may be an operand
of the same strides. Comparisons give 1 or 0; zero_where is 0 where b is not 0, and else a.
copy: y[...] = x[...], or += if `accumulate` is not 0; a stride 0 in x broadcasts it. No two elements of
y share a place.
"""
from libc.stdint cimport int64_t
from libc.string cimport memset

from fastnn_ext cimport runtime
from fastnn_ext.arrays cimport check, check_real, data
from fastnn_ext.runtime cimport fnn_op

import numpy as np


cdef extern from "simd/elementwise.h" nogil:
    enum: UNARY_AFFINE, UNARY_EXP, UNARY_LOG, UNARY_POWER, UNARY_EXPM1, UNARY_COUNT
    enum: BINARY_POWER, BINARY_COUNT
    ctypedef void (*elementwise_unary)(void *y, const void *x, int64_t n, double a, double b) noexcept nogil
    ctypedef void (*elementwise_binary)(void *y, const void *a, const void *b, int64_t rows, int64_t n,
                                        int64_t a_row, int64_t a_col, int64_t b_row, int64_t b_col) noexcept nogil
    ctypedef void (*elementwise_copy)(void *y, const void *x, int64_t rows, int64_t n, int64_t y_row,
                                      int64_t y_col, int64_t x_row, int64_t x_col) noexcept nogil
    struct elementwise_kernels:
        elementwise_unary unary[UNARY_COUNT]
        elementwise_binary binary[BINARY_COUNT]
        elementwise_copy copy
        elementwise_copy add_copy
        void (*fill)(void *y, int64_t n, double value) noexcept nogil
    const elementwise_kernels *elementwise_table(int isa, int dtype)


UNARY = ("neg", "exp", "log", "sqrt", "abs", "square", "reciprocal", "affine", "power", "sign",
         "expm1", "erf", "log1pexp")
BINARY = ("add", "sub", "mul", "div", "maximum", "minimum", "power", "greater", "greater_equal", "less",
          "less_equal", "equal", "zero_where")

cdef enum:
    BINARY_DIMS = 6
    COPY_DIMS = 8
# Places in fnn_op.dim. Those named last are set by prepare.
cdef enum: N, KIND, CHUNK
cdef enum:
    B_KIND = 0
    B_NDIM = 1
    B_SHAPE = 2
    B_A = 8
    B_B = 14
    B_CHUNK = 20
cdef enum:
    C_NDIM = 0
    C_SHAPE = 1
    C_Y = 9
    C_X = 17
    C_Y_AT = 25
    C_X_AT = 26
    C_BAND = 27  # rows and columns of the last two dimensions that one block takes,
    C_SPAN = 28
    C_BANDS = 29  # how many blocks there are of each,
    C_SPANS = 30
    C_BLOCKS = 31  # and how many blocks, in order, make a chunk

cdef enum: CHUNK_NS = 10000
cdef double BYTE_NS = 0.04   # reading or writing a byte that is not in the innermost cache
cdef double ROW_NS = 5.0     # starting on a new row
cdef double STRIDED_NS = 0.5 # an element by itself
cdef double EXP_NS = 0.5     # a float32 of exp and its kin on AVX2
cdef double POW_NS = 10.0    # libm's pow
cdef double[3] ISA_FACTOR = [3.0, 1.0, 0.6]


cdef inline int64_t size_of(const fnn_op *op) noexcept nogil:
    return 4 if op.dtype == 0 else 8


cdef inline int64_t ceil_div(int64_t a, int64_t b) noexcept nogil:
    return (a + b - 1) // b


cdef inline int64_t elements_in_chunk(double ns) noexcept nogil:
    """A chunk's elements, whole vectors and cache lines on every ISA."""
    return max(<int64_t> 1, <int64_t> (CHUNK_NS / ns) // 1024) * 1024


# ---- unary and fill -----------------------------------------------------------------------------

cdef void prepare_unary(fnn_op *op) noexcept nogil:
    cdef double ns = 2 * size_of(op) * BYTE_NS, a = op.scalar[0]
    cdef int64_t kind = op.dim[KIND]
    if kind == UNARY_EXP or kind == UNARY_LOG or kind >= UNARY_EXPM1:
        ns += EXP_NS * ISA_FACTOR[op.isa] * (1 if op.dtype == 0 else 3)
    elif kind == UNARY_POWER and a != 0.5 and a != 1 and a != 2 and a != 3 and a != -1 and a != -0.5:
        ns += POW_NS
    op.kernels = elementwise_table(op.isa, op.dtype)
    op.dim[CHUNK] = elements_in_chunk(ns)
    op.chunks = ceil_div(op.dim[N], op.dim[CHUNK])
    op.cost = ns * op.dim[N]


cdef int run_unary(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t begin = chunk * op.dim[CHUNK], offset = begin * size_of(op)
    (<const elementwise_kernels *> op.kernels).unary[op.dim[KIND]](
        <char *> op.buf[0] + offset, <char *> op.buf[1] + offset, min(op.dim[CHUNK], op.dim[N] - begin),
        op.scalar[0], op.scalar[1])
    return 0


cdef void prepare_divide(fnn_op *op) noexcept nogil:
    """A mean's gradient: the divisor is a size, and may follow the batch."""
    op.scalar[0] = 1.0 / <double> op.dim[KIND]
    op.scalar[1] = 0.0
    op.dim[KIND] = UNARY_AFFINE
    prepare_unary(op)


cdef void prepare_fill(fnn_op *op) noexcept nogil:
    cdef double ns = size_of(op) * BYTE_NS
    op.kernels = elementwise_table(op.isa, op.dtype)
    op.dim[CHUNK] = elements_in_chunk(ns)
    op.chunks = ceil_div(op.dim[N], op.dim[CHUNK])
    op.cost = ns * op.dim[N]


cdef int run_fill(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t begin = chunk * op.dim[CHUNK]
    (<const elementwise_kernels *> op.kernels).fill(
        <char *> op.buf[0] + begin * size_of(op), min(op.dim[CHUNK], op.dim[N] - begin), op.scalar[0])
    return 0


# ---- binary -------------------------------------------------------------------------------------

cdef int64_t simplify(int64_t ndim, int64_t *shape, int64_t *left, int64_t *right) noexcept nogil:
    """Drops dimensions of length 1 and joins neighbours that both operands run through in one stride.

    Returns how many dimensions are left, at least 1.
    """
    cdef int64_t kept = 0, i
    for i in range(ndim):
        if shape[i] == 1:
            continue
        if kept > 0 and left[kept - 1] == left[i] * shape[i] and right[kept - 1] == right[i] * shape[i]:
            kept -= 1
            shape[kept] *= shape[i]
        else:
            shape[kept] = shape[i]
        left[kept] = left[i]
        right[kept] = right[i]
        kept += 1
    if kept == 0:
        shape[0] = 1
        left[0] = right[0] = 0
        kept = 1
    return kept


cdef void prepare_binary(fnn_op *op) noexcept nogil:
    cdef int64_t *shape = &op.dim[B_SHAPE]
    cdef int64_t i, total = 1
    cdef double ns = 3 * size_of(op) * BYTE_NS
    op.kernels = elementwise_table(op.isa, op.dtype)
    for i in range(op.dim[B_NDIM]):
        total *= shape[i]
    op.chunks = 0
    if total == 0:
        return
    op.dim[B_NDIM] = simplify(op.dim[B_NDIM], shape, &op.dim[B_A], &op.dim[B_B])
    i = op.dim[B_NDIM] - 1
    if op.dim[B_KIND] == BINARY_POWER:
        ns += POW_NS
    elif op.dim[B_A + i] > 1 or op.dim[B_B + i] > 1:
        ns += 2 * STRIDED_NS
    ns += ROW_NS / shape[i]
    op.dim[B_CHUNK] = elements_in_chunk(ns)
    op.chunks = ceil_div(total, op.dim[B_CHUNK])
    op.cost = ns * total


cdef int run_binary(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    """A run of elements of y: the end of a row, whole rows, the start of a row."""
    cdef elementwise_binary kernel = (<const elementwise_kernels *> op.kernels).binary[op.dim[B_KIND]]
    cdef const int64_t *shape = &op.dim[B_SHAPE]
    cdef const int64_t *a = &op.dim[B_A]
    cdef const int64_t *b = &op.dim[B_B]
    cdef int64_t size = size_of(op), last = op.dim[B_NDIM] - 1, total = 1, i
    cdef int64_t begin, end, rest, index, rows, n, col, a_at, b_at, a_row = 0, b_row = 0
    for i in range(last + 1):
        total *= shape[i]
    begin = chunk * op.dim[B_CHUNK]
    end = min(total, begin + op.dim[B_CHUNK])
    if last > 0:
        a_row = a[last - 1]
        b_row = b[last - 1]
    while begin < end:
        col = begin % shape[last]
        rest = begin // shape[last]
        a_at = col * a[last]
        b_at = col * b[last]
        rows = 1
        n = min(shape[last] - col, end - begin)
        for i in range(last - 1, -1, -1):
            index = rest % shape[i]
            rest = rest // shape[i]
            a_at += index * a[i]
            b_at += index * b[i]
            if i == last - 1 and n == shape[last]:
                rows = min(shape[i] - index, (end - begin) // n)
        kernel(<char *> op.buf[0] + begin * size, <char *> op.buf[1] + a_at * size,
               <char *> op.buf[2] + b_at * size, rows, n, a_row, a[last], b_row, b[last])
        begin += rows * n
    return 0


# ---- copy ---------------------------------------------------------------------------------------

cdef inline void swap(int64_t *dim, int64_t i, int64_t j) noexcept nogil:
    """Exchanges dimensions i and j of a copy."""
    cdef int64_t k, t
    for k in range(3):  # shape, y_stride, x_stride
        t = dim[C_SHAPE + k * COPY_DIMS + i]
        dim[C_SHAPE + k * COPY_DIMS + i] = dim[C_SHAPE + k * COPY_DIMS + j]
        dim[C_SHAPE + k * COPY_DIMS + j] = t


cdef void prepare_copy(fnn_op *op) noexcept nogil:
    """Puts the dimensions in the order of y's strides, with x's own innermost one before the last if it
    is another: a transpose. Cuts the last two into blocks."""
    cdef int64_t *dim = op.dim
    cdef int64_t *shape = &op.dim[C_SHAPE]
    cdef int64_t *y = &op.dim[C_Y]
    cdef int64_t *x = &op.dim[C_X]
    cdef int64_t i, j, last, rows, n, aim, block, total = 1
    cdef double ns = 2 * size_of(op) * BYTE_NS
    op.kernels = elementwise_table(op.isa, op.dtype)
    for i in range(dim[C_NDIM]):
        total *= shape[i]
    op.chunks = 0
    if total == 0:
        return
    for i in range(1, dim[C_NDIM]):
        j = i
        while j > 0 and y[j] > y[j - 1]:
            swap(dim, j, j - 1)
            j -= 1
    dim[C_NDIM] = simplify(dim[C_NDIM], shape, y, x)
    if dim[C_NDIM] == 1:
        shape[1] = shape[0]
        y[1] = y[0]
        x[1] = x[0]
        shape[0] = 1
        y[0] = x[0] = 0
        dim[C_NDIM] = 2
    last = dim[C_NDIM] - 1
    aim = elements_in_chunk(ns)
    block = aim
    n = shape[last]
    dim[C_SPAN] = min(n, aim)
    if x[last] > 1:
        for i in range(last):
            if x[i] == 1:
                for j in range(i, last - 1):
                    swap(dim, j, j + 1)
                # A block's pages, one a row of x and one a row of y, must not overflow the TLB.
                dim[C_SPAN] = min(n, <int64_t> 256)
                block = 64 * 256
                break
    if x[last] > 1 or y[last] != 1:
        ns += STRIDED_NS
    rows = shape[last - 1]
    dim[C_BAND] = min(aim, block) // dim[C_SPAN]
    if dim[C_BAND] > 16:
        dim[C_BAND] -= dim[C_BAND] % 16
    dim[C_BAND] = min(dim[C_BAND], rows)
    dim[C_BANDS] = ceil_div(rows, dim[C_BAND])
    dim[C_SPANS] = ceil_div(n, dim[C_SPAN])
    dim[C_BLOCKS] = max(<int64_t> 1, aim // (dim[C_BAND] * dim[C_SPAN]))
    op.chunks = ceil_div(total // (rows * n) * dim[C_BANDS] * dim[C_SPANS], dim[C_BLOCKS])
    op.cost = ns * total + ROW_NS * (total // n)


cdef int run_copy(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef const elementwise_kernels *kernels = <const elementwise_kernels *> op.kernels
    cdef elementwise_copy kernel = kernels.copy if op.scalar[0] == 0 else kernels.add_copy
    cdef const int64_t *dim = &op.dim[0]
    cdef const int64_t *shape = &op.dim[C_SHAPE]
    cdef const int64_t *y = &op.dim[C_Y]
    cdef const int64_t *x = &op.dim[C_X]
    cdef int64_t size = size_of(op), last = dim[C_NDIM] - 1, blocks = dim[C_BANDS] * dim[C_SPANS], i
    cdef int64_t block, begin = chunk * dim[C_BLOCKS], end = begin + dim[C_BLOCKS]
    cdef int64_t rest, row, col, y_at, x_at
    for i in range(last - 1):
        blocks *= shape[i]
    for block in range(begin, min(end, blocks)):
        col = block % dim[C_SPANS] * dim[C_SPAN]
        rest = block // dim[C_SPANS]
        row = rest % dim[C_BANDS] * dim[C_BAND]
        rest = rest // dim[C_BANDS]
        y_at = dim[C_Y_AT] + row * y[last - 1] + col * y[last]
        x_at = dim[C_X_AT] + row * x[last - 1] + col * x[last]
        for i in range(last - 2, -1, -1):
            y_at += rest % shape[i] * y[i]
            x_at += rest % shape[i] * x[i]
            rest = rest // shape[i]
        kernel(<char *> op.buf[0] + y_at * size, <char *> op.buf[1] + x_at * size,
               min(dim[C_BAND], shape[last - 1] - row), min(dim[C_SPAN], shape[last] - col),
               y[last - 1], y[last], x[last - 1], x[last])
    return 0


runtime.register_op("unary", run_unary, prepare_unary, "y", "*x", "n kind", "a b")
runtime.register_op("divide_by_size", run_unary, prepare_divide, "y", "*x", "n size")
runtime.register_op("binary", run_binary, prepare_binary, "y", "*a *b", "kind ndim shape[6] a_strides[6] b_strides[6]")
runtime.register_op("copy", run_copy, prepare_copy,
                    "y", "x", "ndim shape[8] y_strides[8] x_strides[8] y_at? x_at?", "accumulate?")
runtime.register_op("fill", run_fill, prepare_fill, "y", "", "n", "value")


# ---- over NumPy arrays --------------------------------------------------------------------------

cdef int check_strided(str name, object array, bint writeable=False) except -1:
    """Refuses what is not an array of float32 or float64 with whole, non-negative strides."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array, got {type(array).__name__}")
    if array.dtype != np.float32 and array.dtype != np.float64:
        raise TypeError(f"{name} must be float32 or float64, got {array.dtype}")
    if not array.flags.aligned or any(stride < 0 or stride % array.itemsize for stride in array.strides):
        raise ValueError(f"{name} must have non-negative strides of whole elements, got {array.strides} bytes")
    if writeable and not array.flags.writeable:
        raise ValueError(f"{name} must be writeable")
    return 0 if array.dtype == np.float32 else 1


cdef int set_strides(int64_t *dim, object array) except -1:
    cdef int64_t i
    for i in range(array.ndim):
        dim[i] = array.strides[i] // array.itemsize
    return 0


cdef int kind_of(object kind, tuple kinds) except -1:
    if kind not in kinds:
        raise ValueError(f"kind must be one of {', '.join(kinds)}, got {kind!r}")
    return kinds.index(kind)


def unary(kind, x, double a=1.0, double b=0.0, *, out=None):
    """y = f(x), element by element.

    Parameters
    ----------
    kind : str
        One of UNARY. affine is a x + b, power is x**a, sign is 0 for NaN, log1pexp is log(1 + exp(-|x|)).
    x : ndarray of float32 or float64
        C-contiguous, of any shape.
    a, b : float, default 1.0, 0.0
        Read by affine and power only.
    out : ndarray, optional
        Where y goes, as `x` in dtype and shape; may be `x` itself.

    Returns
    -------
    ndarray
        `out`, or a new array.

    Raises
    ------
    TypeError
        If an array is not float32 or float64, or their dtypes differ.
    ValueError
        If the kind is unknown, shapes differ, an array is not contiguous, or `out` overlaps `x` in part.
    """
    cdef fnn_op op
    memset(&op, 0, sizeof(op))
    op.dtype = check_real("x", x, None)
    op.dim[KIND] = kind_of(kind, UNARY)
    if out is None:
        out = np.empty(x.shape, x.dtype)
    else:
        check("out", out, x.dtype, x.shape, True)
        if np.may_share_memory(out, x) and data(out) != data(x):
            raise ValueError("out must be x itself or not overlap it")
    op.buf[0], op.buf[1] = data(out), data(x)
    op.dim[N] = x.size
    op.scalar[0], op.scalar[1] = a, b
    runtime.run_one("unary", &op)
    return out


def binary(kind, a, b, *, out=None):
    """y = f(a, b), element by element, with NumPy's broadcasting.

    Parameters
    ----------
    kind : str
        One of BINARY. maximum and minimum are NaN where an operand is; comparisons give 1 or 0.
    a, b : ndarray of float32 or float64
        Of one dtype, with any non-negative strides and shapes that broadcast to at most 6 dimensions.
    out : ndarray, optional
        Where y goes: C-contiguous, of the operands' dtype and common shape; may be an operand itself.

    Returns
    -------
    ndarray
        `out`, or a new array.

    Raises
    ------
    TypeError
        If an array is not float32 or float64, or their dtypes differ.
    ValueError
        If the kind is unknown, shapes or strides do not fit, or `out` overlaps an operand in part.
    """
    cdef fnn_op op
    cdef int64_t i
    memset(&op, 0, sizeof(op))
    op.dtype = check_strided("a", a)
    check_strided("b", b)
    if a.dtype != b.dtype:
        raise TypeError(f"b must be {a.dtype}, as a is, got {b.dtype}")
    op.dim[B_KIND] = kind_of(kind, BINARY)
    try:
        shape = np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        raise ValueError(f"b must have a shape that broadcasts with {a.shape}, got {b.shape}") from None
    if len(shape) > BINARY_DIMS:
        raise ValueError(f"a and b must have at most {BINARY_DIMS} dimensions, got shape {shape}")
    if out is None:
        out = np.empty(shape, a.dtype)
    else:
        check("out", out, a.dtype, shape, True)
    op.dim[B_NDIM] = len(shape)
    for i in range(op.dim[B_NDIM]):
        op.dim[B_SHAPE + i] = shape[i]
    for i, (name, operand) in enumerate((("a", a), ("b", b))):
        if np.may_share_memory(out, operand) and not (
                data(out) == data(operand) and operand.shape == shape and operand.flags.c_contiguous):
            raise ValueError(f"out must be {name} itself or not overlap it")
        set_strides(&op.dim[B_B if i else B_A], np.broadcast_to(operand, shape))
        op.buf[1 + i] = data(operand)
    op.buf[0] = data(out)
    runtime.run_one("binary", &op)
    return out


def copy(x, *, out=None, bint accumulate=False):
    """A copy of x in another layout: y[...] = x[...].

    Parameters
    ----------
    x : ndarray of float32 or float64
        A view of at most 8 dimensions with non-negative strides: transposed, sliced, broadcast.
    out : ndarray, optional
        Where y goes, of the dtype of `x` and a shape that `x` broadcasts to: a view whose strides are not
        negative and whose elements share no memory with each other or with `x`. By default a new
        C-contiguous array of the shape of `x`.
    accumulate : bool, default False
        Add to what `out` holds.

    Returns
    -------
    ndarray
        `out`, or a new array.

    Raises
    ------
    TypeError
        If an array is not float32 or float64, or their dtypes differ.
    ValueError
        If shapes or strides do not fit, or there is no `out` to accumulate into.
    """
    cdef fnn_op op
    cdef int64_t i
    memset(&op, 0, sizeof(op))
    op.dtype = check_strided("x", x)
    if out is None:
        if accumulate:
            raise ValueError("out must be given to accumulate into it")
        out = np.empty(x.shape, x.dtype)
    check_strided("out", out, True)
    if out.dtype != x.dtype:
        raise TypeError(f"out must be {x.dtype}, as x is, got {out.dtype}")
    if out.ndim > COPY_DIMS:
        raise ValueError(f"x and out must have at most {COPY_DIMS} dimensions, got shape {out.shape}")
    try:
        source = np.broadcast_to(x, out.shape)
    except ValueError:
        raise ValueError(f"out must have a shape that x of shape {x.shape} broadcasts to, got {out.shape}") from None
    extent = out.itemsize
    for length, stride in sorted(zip(out.shape, out.strides), key=lambda pair: pair[1]):
        if out.size and length > 1 and stride < extent:
            raise ValueError(f"out must have elements that share no memory, got shape {out.shape}, "
                             f"strides {out.strides} bytes")
        extent += (length - 1) * stride
    if np.may_share_memory(out, x):
        raise ValueError("out must not overlap x")
    op.dim[C_NDIM] = out.ndim
    for i in range(out.ndim):
        op.dim[C_SHAPE + i] = out.shape[i]
    set_strides(&op.dim[C_Y], out)
    set_strides(&op.dim[C_X], source)
    op.buf[0], op.buf[1] = data(out), data(x)
    op.scalar[0] = accumulate
    runtime.run_one("copy", &op)
    return out


def fill(out, double value):
    """out[...] = value, for a C-contiguous, writeable array of float32 or float64; returns it."""
    cdef fnn_op op
    memset(&op, 0, sizeof(op))
    op.dtype = check_real("out", out, None, True)
    op.buf[0] = data(out)
    op.dim[N] = out.size
    op.scalar[0] = value
    runtime.run_one("fill", &op)
    return out
