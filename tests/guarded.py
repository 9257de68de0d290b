"""Arrays that end where memory ends, a byte beyond which is a segmentation fault; and misaligned ones."""

import ctypes
import mmap

import numpy as np


def guarded(array):
    """A writeable copy of `array` whose last byte is the last before a page without access."""
    array = np.array(array, order="C")
    size = max(1, -(-array.nbytes // mmap.PAGESIZE)) * mmap.PAGESIZE
    memory = mmap.mmap(-1, size + mmap.PAGESIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    if ctypes.CDLL(None, use_errno=True).mprotect(ctypes.c_void_p(address + size), ctypes.c_size_t(mmap.PAGESIZE), 0):
        raise OSError(ctypes.get_errno(), "mprotect")
    result = np.frombuffer(memory, array.dtype, array.size, size - array.nbytes).reshape(array.shape)
    result[...] = array
    return result


def misaligned(array):
    """A copy of `array` that begins at an odd address."""
    memory = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    memory[...] = array
    assert not memory.flags.aligned
    return memory
