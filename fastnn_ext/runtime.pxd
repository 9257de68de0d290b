"""What drivers and the plan see of the runtime. runtime_team.h explains ops, phases and programs."""
from libc.stdint cimport int32_t, int64_t


cdef extern from "runtime_team.h" nogil:
    enum: FNN_MAX_BUF
    enum: FNN_MAX_DIM
    enum: FNN_MAX_SCALAR
    enum: FNN_MOST_NS
    enum: FNN_LATE
    enum: FNN_FAILED
    enum: FNN_NO_MEMORY

    ctypedef struct fnn_op:
        int (*run)(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil
        void (*prepare)(fnn_op *op) noexcept nogil
        int32_t dtype
        int32_t isa
        void *buf[FNN_MAX_BUF]
        int64_t dim[FNN_MAX_DIM]
        double scalar[FNN_MAX_SCALAR]
        const void *kernels
        void *object
        int64_t chunks
        int64_t rounds
        int64_t scratch
        int64_t shared
        double cost
        void *common

    ctypedef int (*fnn_run_fn)(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil
    ctypedef void (*fnn_prepare_fn)(fnn_op *op) noexcept nogil
    ctypedef int (*fnn_poll_fn)() noexcept nogil

    ctypedef struct fnn_phase:
        int32_t first
        int32_t count
        int32_t on_caller
        int32_t serial
        int64_t chunks
        double cost

    ctypedef struct fnn_program:
        fnn_op *ops
        fnn_phase *phases
        int32_t n_ops
        int32_t n_phases
        int32_t commit
        int32_t constant
        double shared_cost
        int64_t scratch
        int64_t shared
        void *team


    ctypedef struct fnn_event:
        double begin
        double end
        int32_t op
        int32_t thread

    ctypedef struct fnn_profile:
        double *op_seconds
        int threads
        fnn_event *events
        int64_t room
        int64_t count


cdef inline int64_t short_parts(double ns) noexcept nogil:
    """Into how many parts work of so many nanoseconds is cut, so that none is longer than a chunk may be."""
    return 1 + <int64_t> (ns / (FNN_MOST_NS + 1))


cdef int isa() noexcept nogil
cdef int threads() noexcept nogil
cpdef unsigned forks() noexcept nogil
cdef void *allocate(size_t bytes) noexcept nogil
cdef void deallocate(void *memory) noexcept nogil
cdef void prepare(fnn_program *program) noexcept nogil
cdef int execute(fnn_program *program, int threads, fnn_poll_fn poll, fnn_profile *profile) noexcept nogil
cdef void release(fnn_program *program) noexcept nogil
cdef void register_op(str name, fnn_run_fn run, fnn_prepare_fn prepare, str outputs, str inputs, str dims=*,
                      str scalars=*) except *
cdef int find_op(str name, fnn_op *op) except -1
