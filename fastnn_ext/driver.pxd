"""What drivers share: sizes, and where an element of a buffer lies."""
from libc.stdint cimport int64_t

from fastnn_ext.runtime cimport fnn_op


cdef inline int64_t ceil_div(int64_t a, int64_t b) noexcept nogil:
    return (a + b - 1) // b


cdef inline int64_t item_size(const fnn_op *op) noexcept nogil:
    """Bytes of a float32 or a float64, whichever the op works on."""
    return 4 if op.dtype == 0 else 8


cdef inline char *at(const fnn_op *op, int place, int64_t element) noexcept nogil:
    """Address of an element of a buffer of op.dtype; NULL where the buffer is absent."""
    return NULL if op.buf[place] == NULL else <char *> op.buf[place] + element * item_size(op)
