from libc.stdint cimport uint64_t


cdef class Watch:
    cdef list loud, silent
    cdef uint64_t seen
    cpdef bint holds(self) except -1
    cpdef tuple first_broken(self)
