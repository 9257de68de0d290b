"""Activations and their gradients: y = f(x), dx = dy * f'(x), over contiguous arrays of any shape.

`kind` is an index in ACTIVATIONS; `alpha` and `beta` are its settings, if it has any: the negative slope of
leaky_relu, the scale and the factor of x of elu, the factor of x of silu, the factor of x and the threshold of
softplus, the limits of hardtanh, the limit of hardshrink and softshrink, the limit and the value of threshold. y may be
x, and dx may be dy or saved. `saved` is what SAVES says: the "output" y or the "input" x of the forward op, or the
"output if alpha > 0".
"""
from libc.stdint cimport int64_t

from fastnn_ext cimport runtime
from fastnn_ext.driver cimport at, ceil_div, item_size
from fastnn_ext.runtime cimport fnn_op


cdef extern from "simd/activation.h" nogil:
    enum: ACT_COUNT
    struct activation_kernels:
        act_forward forward[ACT_COUNT]
        act_backward backward[ACT_COUNT]
    const activation_kernels *activation_table(int isa, int dtype)

cdef extern from *:
    """
    enum { OUTPUT, POSITIVE, INPUT };
    struct fnn_kind {
        const char *name;
        int saves;
        double forward_ns, backward_ns;
    };
    #define FNN_KIND(name, saves, forward_ns, backward_ns) {#name, saves, forward_ns, backward_ns},
    static const struct fnn_kind fnn_kinds[ACT_COUNT] = {FNN_ACTIVATIONS(FNN_KIND)};
    """
    struct fnn_kind:
        const char *name
        int saves
        double forward_ns, backward_ns
    const fnn_kind fnn_kinds[ACT_COUNT]


SAVES = {(<bytes> fnn_kinds[i].name).decode(): ("output", "output if alpha > 0", "input")[fnn_kinds[i].saves]
         for i in range(ACT_COUNT)}
ACTIVATIONS = tuple(SAVES)

# Places in fnn_op.buf and fnn_op.dim; CHUNK is set by prepare.
cdef enum: Y, X
cdef enum: DX, DY, SAVED
cdef enum: N, KIND, CHUNK
cdef enum: CHUNK_NS = 10000

cdef double BYTE_NS = 0.04  # read or written
cdef double[3] ISA_FACTOR = [3.0, 1.0, 0.6]


cdef act_forward forward_kernel(int kind, int isa, int dtype) noexcept nogil:
    return NULL if kind < 0 else activation_table(isa, dtype).forward[kind]


cdef act_backward backward_kernel(int kind, int isa, int dtype) noexcept nogil:
    return NULL if kind < 0 else activation_table(isa, dtype).backward[kind]


cdef void cut(fnn_op *op, int arrays, double ns) noexcept nogil:
    """Chunks of CHUNK_NS or so, whole vectors and cache lines on every ISA."""
    ns *= ISA_FACTOR[op.isa] * (1 if op.dtype == 0 else 3)
    ns += arrays * BYTE_NS * item_size(op)
    op.kernels = activation_table(op.isa, op.dtype)
    op.dim[CHUNK] = max(<int64_t> 1, <int64_t> (CHUNK_NS / ns) // 1024) * 1024
    op.chunks = ceil_div(op.dim[N], op.dim[CHUNK])
    op.cost = ns * op.dim[N]


cdef void prepare_forward(fnn_op *op) noexcept nogil:
    cut(op, 2, fnn_kinds[op.dim[KIND]].forward_ns)


cdef void prepare_backward(fnn_op *op) noexcept nogil:
    cut(op, 3, fnn_kinds[op.dim[KIND]].backward_ns)


cdef int run_forward(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t begin = chunk * op.dim[CHUNK], n = min(op.dim[CHUNK], op.dim[N] - begin)
    (<const activation_kernels *> op.kernels).forward[op.dim[KIND]](at(op, Y, begin), at(op, X, begin), n, op.scalar)
    return 0


cdef int run_backward(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t begin = chunk * op.dim[CHUNK], n = min(op.dim[CHUNK], op.dim[N] - begin)
    (<const activation_kernels *> op.kernels).backward[op.dim[KIND]](
        at(op, DX, begin), at(op, DY, begin), at(op, SAVED, begin), n, op.scalar)
    return 0


runtime.register_op("activation", run_forward, prepare_forward, "y", "*x", "n kind", "alpha beta")
runtime.register_op("activation_backward", run_backward, prepare_backward, "dx", "*dy *saved", "n kind", "alpha beta")
