"""What a trace depended on, compared with what is there now, in some nanoseconds a fact.

A fact is a tuple (kind, container, key, value), which holds while

ENTRY     container[key], of a dict, is value; where value is ABSENT, there is no such key
MEMBER    the same, of any mapping (a class's __dict__)
ATTRIBUTE getattr(container, key) is value
CELL      the closure cell `container` holds value, or is empty where value is ABSENT
SEQUENCE  container, a list or deque, holds the members of the tuple value, in order
MAPPING   container, a dict, holds the (key, value) pairs of the tuple value, in order
SET       container, a set, holds the members of the frozenset value
CONTENT   container, an array, has the bytes, shape and dtype of the array value
NAMES     container, a mapping, has the keys of the tuple value, in order
COUNT     container has as many members as value says

where "is" means: the same object, or a number, text or tuple of these of one type and one value (a NaN
is itself, 0.0 is not -0.0). The facts hold what they name, so that no id recurs.

`changed` is called by whatever can make a fact false and knows it (a module's __setattr__, a parameter
that moves): facts of this kind, `loud` ones, are compared only after such a call; `silent` ones always.
"""
cimport cython
from cpython.buffer cimport PyBUF_C_CONTIGUOUS, PyBuffer_Release, PyObject_GetBuffer
from cpython.dict cimport PyDict_GetItem
from cpython.object cimport PyObject
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.stdint cimport uint64_t
from libc.string cimport memcmp

import numpy as np


cdef extern from "Python.h":
    PyObject *PyCell_GET(object cell)


cdef enum Kind:
    IS_ENTRY
    IS_MEMBER
    IS_ATTRIBUTE
    IS_CELL
    IS_SEQUENCE
    IS_MAPPING
    IS_SET
    IS_CONTENT
    IS_NAMES
    IS_COUNT


ENTRY = IS_ENTRY
MEMBER = IS_MEMBER
ATTRIBUTE = IS_ATTRIBUTE
CELL = IS_CELL
SEQUENCE = IS_SEQUENCE
MAPPING = IS_MAPPING
SET = IS_SET
CONTENT = IS_CONTENT
NAMES = IS_NAMES
COUNT = IS_COUNT


Fact = tuple


class _Absent:
    def __repr__(self):
        return "absent"


ABSENT = _Absent()
cdef object absent = ABSENT
cdef object generic = np.generic
cdef uint64_t changes = 1
cdef bint checking = False


def changed():
    """Something that loud facts may name is another one now."""
    global changes
    changes += 1


def check_traces(bint enabled):
    """Let no watch hold, so that each call looks at its trace again."""
    global checking
    checking = enabled


def is_checking():
    return checking


cdef bint same(object a, object b) except -1:
    """Whether two objects are one, or equal for good."""
    cdef Py_ssize_t i
    cdef double x, y
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if type(a) is float:
        x, y = a, b
        return memcmp(&x, &y, sizeof(double)) == 0
    if type(a) is int or type(a) is str or type(a) is bytes:
        return a == b
    if type(a) is tuple:
        if PyTuple_GET_SIZE(a) != PyTuple_GET_SIZE(b):
            return False
        for i in range(PyTuple_GET_SIZE(a)):
            if not same(<object> PyTuple_GET_ITEM(a, i), <object> PyTuple_GET_ITEM(b, i)):
                return False
        return True
    if type(a) is complex or type(a) is range or type(a) is slice or isinstance(a, np.dtype):
        return repr(a) == repr(b)
    if isinstance(a, generic):
        return a.tobytes() == b.tobytes()
    return False


cdef bint same_content(object array, object kept) except -1:
    cdef Py_buffer view, other
    cdef bint equal
    if array.shape != kept.shape or array.dtype != kept.dtype:
        return False
    if not array.flags.c_contiguous:
        array = np.ascontiguousarray(array)
    if array.dtype.hasobject:
        return array.tolist() == kept.tolist()
    PyObject_GetBuffer(array.view(np.uint8) if array.ndim else array.reshape(1).view(np.uint8), &view,
                       PyBUF_C_CONTIGUOUS)
    try:
        PyObject_GetBuffer(kept.view(np.uint8) if kept.ndim else kept.reshape(1).view(np.uint8), &other,
                           PyBUF_C_CONTIGUOUS)
        equal = view.len == other.len and memcmp(view.buf, other.buf, view.len) == 0
        PyBuffer_Release(&other)
    finally:
        PyBuffer_Release(&view)
    return equal


cdef bint holds(tuple fact) except -1:
    cdef int kind = fact[0]
    cdef object container = fact[1], key, value = fact[3], item
    cdef PyObject *found
    cdef Py_ssize_t i
    if kind == IS_ENTRY:
        found = PyDict_GetItem(container, fact[2])
        return value is absent if found == NULL else same(<object> found, value)
    if kind == IS_MEMBER:
        return same(container.get(fact[2], absent), value)
    if kind == IS_ATTRIBUTE:
        return same(getattr(container, fact[2], absent), value)
    if kind == IS_CELL:
        found = PyCell_GET(container)
        return value is absent if found == NULL else same(<object> found, value)
    if kind == IS_SEQUENCE:
        if len(container) != PyTuple_GET_SIZE(value):
            return False
        i = 0
        for item in container:
            if i == PyTuple_GET_SIZE(value) or not same(item, <object> PyTuple_GET_ITEM(value, i)):
                return False
            i += 1
        return True
    if kind == IS_MAPPING:
        if len(container) != PyTuple_GET_SIZE(value):
            return False
        i = 0
        for key, item in container.items():
            if i == PyTuple_GET_SIZE(value):
                return False
            found = PyTuple_GET_ITEM(value, i)
            if (not same(key, <object> PyTuple_GET_ITEM(<object> found, 0))
                    or not same(item, <object> PyTuple_GET_ITEM(<object> found, 1))):
                return False
            i += 1
        return True
    if kind == IS_SET:
        return container == value
    if kind == IS_COUNT:
        return len(container) == value
    if kind == IS_NAMES:
        if len(container) != PyTuple_GET_SIZE(value):
            return False
        i = 0
        for key in container:
            if i == PyTuple_GET_SIZE(value) or not same(key, <object> PyTuple_GET_ITEM(value, i)):
                return False
            i += 1
        return True
    return same_content(container, value)


@cython.final
cdef class Watch:
    """Facts, and whether they still hold.

    Parameters
    ----------
    loud, silent : list of fact
    """
    # seen: how many changes there were when the loud facts were last compared

    def __init__(self, list loud, list silent):
        self.loud = loud
        self.silent = silent
        self.seen = changes

    cpdef bint holds(self) except -1:
        """Whether all is as it was. A comparison that another thread disturbs counts as a change."""
        if checking:
            return False
        if self.seen == changes and not self.silent:
            return True
        return self.first_broken() is None

    cpdef tuple first_broken(self):
        """The first fact that does not hold, or None."""
        cdef tuple fact
        cdef uint64_t now
        try:
            if self.seen != changes:
                now = changes
                for fact in self.loud:
                    if not holds(fact):
                        return fact
                self.seen = now
            for fact in self.silent:
                if not holds(fact):
                    return fact
        except RuntimeError:  # a dict changed its size while it was read
            return (IS_MAPPING, None, None, None)
        return None
