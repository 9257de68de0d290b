"""Threads, memory, the ISA in use, and the registry of native ops.

The team of threads itself is runtime_team.c, the only file that knows OpenMP.
"""
import os
import warnings

from libc.stdint cimport int64_t, uintptr_t


cdef extern from "runtime_team.h" nogil:
    void *fnn_allocate(size_t bytes)
    void fnn_free(void *memory)
    int fnn_threads()
    int fnn_threads_taken()
    unsigned fnn_forks()
    void fnn_prepare(fnn_program *program)
    int fnn_execute(fnn_program *program, int threads, fnn_poll_fn poll, fnn_profile *profile)
    void fnn_release(fnn_program *program)
    void fnn_runtime_init()
    int fnn_openmp()
    void fnn_set_threads(int n, int cap)
    int fnn_most_threads()
    int fnn_startup_threads()
    int fnn_best_isa()
    int64_t fnn_fail_allocation(int64_t nth)
    int64_t fnn_held_allocations()
    void fnn_always_share(int yes)


cdef extern from *:
    """
    #if defined(__clang__)
    #define FNN_COMPILER "clang " __clang_version__
    #elif defined(__GNUC__)
    #define FNN_COMPILER "gcc " __VERSION__
    #else
    #define FNN_COMPILER "unknown"
    #endif
    #ifdef FNN_BUILT_AVX2
    #define FNN_HAS_AVX2 1
    #else
    #define FNN_HAS_AVX2 0
    #endif
    #ifdef FNN_BUILT_AVX512
    #define FNN_HAS_AVX512 1
    #else
    #define FNN_HAS_AVX512 0
    #endif
    """
    const char *FNN_COMPILER
    bint FNN_HAS_AVX2
    bint FNN_HAS_AVX512


ISA_NAMES = ("baseline", "avx2", "avx512")

cdef int current_isa = 0
cdef dict registry = {}


cdef int isa() noexcept nogil:
    """The ISA that newly prepared ops use: 0 baseline, 1 avx2, 2 avx512."""
    return current_isa


cdef void register_op(str name, fnn_run_fn run, fnn_prepare_fn prepare, str outputs, str inputs, str dims="",
                      str scalars="") except *:
    """Called by each driver at import, once for each of its ops.

    The last four are the op's signature: names of what is in `buf`, `dim` and `scalar`, in that order. Behind a
    name, "?" says that it may be absent (NULL or 0), "[8]" that it takes eight places, "..." as many as are given.
    Before an input's name, "+" says that it is written to as well, "*" that the first output may lie in its place.
    """
    if name in registry:
        raise RuntimeError(f"two drivers register the op {name!r}")
    registry[name] = (<uintptr_t> run, <uintptr_t> prepare, outputs, inputs, dims, scalars)


cdef int find_op(str name, fnn_op *op) except -1:
    """Fills in op's functions and the ISA in use."""
    try:
        run, prepare_ = registry[name][:2]
    except KeyError:
        raise LookupError(f"no driver has registered the op {name!r}") from None
    op.run = <fnn_run_fn> <uintptr_t> run
    op.prepare = <fnn_prepare_fn> <uintptr_t> prepare_
    op.isa = current_isa
    return 0


# The C functions live in this module's shared object; the other modules reach them through these.
cdef int threads() noexcept nogil:
    return fnn_threads()


cpdef unsigned forks() noexcept nogil:
    return fnn_forks()


cdef void *allocate(size_t bytes) noexcept nogil:
    return fnn_allocate(bytes)


cdef void deallocate(void *memory) noexcept nogil:
    fnn_free(memory)


cdef void prepare(fnn_program *program) noexcept nogil:
    fnn_prepare(program)


cdef int execute(fnn_program *program, int threads, fnn_poll_fn poll, fnn_profile *profile) noexcept nogil:
    return fnn_execute(program, threads, poll, profile)


cdef void release(fnn_program *program) noexcept nogil:
    fnn_release(program)


def registered_ops():
    """Names of all native ops, sorted."""
    return sorted(registry)


def signature(str name):
    """Names of an op's outputs, inputs, dims and scalars, as `register_op` explains them."""
    if name not in registry:
        raise ValueError(f"no native op is called {name!r}")
    return registry[name][2:]


def built_isas():
    """Names of the instruction sets that this build holds, least first."""
    return ("baseline",) + (("avx2",) if FNN_HAS_AVX2 else ()) + (("avx512",) if FNN_HAS_AVX512 else ())


def available_isas():
    """Names of the built instruction sets that this machine can run, least first."""
    best = fnn_best_isa()
    return tuple(name for name in built_isas() if ISA_NAMES.index(name) <= best)


def get_isa():
    """Name of the instruction set in use."""
    return ISA_NAMES[current_isa]


def set_isa(str name):
    """Use another instruction set for plans prepared and kernels called from now on.

    Raises
    ------
    ValueError
        If this build or this machine lacks it.
    """
    global current_isa
    if name not in available_isas():
        raise ValueError(f"ISA {name!r} is not available here; choose from {', '.join(available_isas())}")
    current_isa = ISA_NAMES.index(name)


def set_num_threads(int n):
    """See fastnn.set_num_threads."""
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    warn_of_threads(f"{n} threads", n, 2)
    fnn_set_threads(n, 0)


cdef int warn_of_threads(str what, int n, int level) except -1:
    """Says that fewer threads than n will be used, if so."""
    if n > fnn_most_threads():
        warnings.warn(f"{what} are more than this machine has any use for; fastnn uses {fnn_most_threads()}",
                      RuntimeWarning, stacklevel=level)
    return 0


def get_num_threads():
    """How many threads a plan run from this Python thread may use now."""
    return fnn_threads()


def threads_taken():
    """How many threads the plans have that run now on several."""
    return fnn_threads_taken()


def openmp_version():
    """The date in _OPENMP, such as 201511, or 0 in a serial build."""
    return fnn_openmp()


def compiler():
    """Name and version of the C compiler that built this module."""
    return (<bytes> FNN_COMPILER).decode()


def fail_allocation(int64_t nth):
    """Make the nth native allocation from now fail; 0 lifts it. For tests of behaviour without memory.

    Returns how many allocations were left until the one that was to fail before; 0 if it has failed.
    """
    return fnn_fail_allocation(nth)


def held_allocations():
    """How many native allocations there are now. For tests of leaks."""
    return fnn_held_allocations()


def always_share(bint yes):
    """Open a team even where one thread measures faster. For tests of what teams do."""
    fnn_always_share(yes)


cdef int cgroup_quota():
    """Whole cores that the cgroup lets this process use, or 0 for no limit."""
    try:
        with open("/sys/fs/cgroup/cpu.max") as f:
            quota, period = f.read().split()[:2]
        return 0 if quota == "max" else max(1, int(quota) // int(period))
    except (OSError, ValueError):
        pass
    try:
        with open("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") as f:
            quota_us = int(f.read())
        with open("/sys/fs/cgroup/cpu/cpu.cfs_period_us") as f:
            return 0 if quota_us <= 0 else max(1, quota_us // int(f.read()))
    except (OSError, ValueError):
        pass
    return 0


cdef void start() except *:
    global current_isa
    fnn_runtime_init()
    if "OMP_NUM_THREADS" not in os.environ:
        fnn_set_threads(0, cgroup_quota())
    else:
        warn_of_threads(f"OMP_NUM_THREADS={os.environ['OMP_NUM_THREADS']}: so many", fnn_startup_threads(), 2)
    current_isa = fnn_best_isa()
    wish = os.environ.get("FASTNN_ISA")
    if wish:
        if wish not in ISA_NAMES:
            raise ImportError(f"FASTNN_ISA={wish!r} is not one of {', '.join(ISA_NAMES)}")
        # A cap, not a demand: the same setting serves machines that lack the wider set.
        current_isa = min(current_isa, ISA_NAMES.index(wish))


start()
