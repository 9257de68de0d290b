"""Checks that the drivers' functions over NumPy arrays share. Inline: no NumPy headers, no module."""
from libc.stdint cimport uintptr_t


cdef inline void *data(object array) except? NULL:
    """Address of the first element; NULL for None."""
    return NULL if array is None else <void *> <uintptr_t> array.ctypes.data


cdef inline int check(str name, object array, object dtype, object shape, bint writeable=False) except -1:
    """Refuses what is not a C-contiguous array of this dtype and, unless None, this shape."""
    import numpy as np
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array, got {type(array).__name__}")
    if array.dtype != dtype:
        raise TypeError(f"{name} must have dtype {np.dtype(dtype)}, got {array.dtype}")
    if shape is not None and array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
    if not array.flags.c_contiguous or not array.flags.aligned:
        raise ValueError(f"{name} must be C-contiguous and aligned, got strides {array.strides}")
    if writeable and not array.flags.writeable:
        raise ValueError(f"{name} must be writeable")
    return 0


cdef inline int check_real(str name, object array, object shape, bint writeable=False) except -1:
    """As check, for float32 or float64; returns fnn_op.dtype, 0 or 1."""
    import numpy as np
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array, got {type(array).__name__}")
    if array.dtype != np.float32 and array.dtype != np.float64:
        raise TypeError(f"{name} must be float32 or float64, got {array.dtype}")
    check(name, array, array.dtype, shape, writeable)
    return 0 if array.dtype == np.float32 else 1


cdef inline int check_apart(dict arrays) except -1:
    """Refuses arrays, by name, of which two overlap; None is passed over."""
    import numpy as np
    given = [(name, array) for name, array in arrays.items() if array is not None]
    for i, (name, array) in enumerate(given):
        for other, other_array in given[:i]:
            if np.may_share_memory(array, other_array):
                raise ValueError(f"{name} must not overlap {other}")
    return 0
