from libc.stdint cimport int64_t


cdef extern from "simd/activation.h" nogil:
    ctypedef void (*act_forward)(void *y, const void *x, int64_t n, const double *settings) noexcept nogil
    ctypedef void (*act_backward)(void *dx, const void *dy, const void *saved, int64_t n,
                                 const double *settings) noexcept nogil


# For epilogues: the kernel of a kind (its index in ACTIVATIONS), NULL for kind < 0.
cdef act_forward forward_kernel(int kind, int isa, int dtype) noexcept nogil
cdef act_backward backward_kernel(int kind, int isa, int dtype) noexcept nogil
