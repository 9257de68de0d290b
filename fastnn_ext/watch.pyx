"""What a trace depended on, compared with what is there now, in some nanoseconds a fact.

A fact is a tuple (kind, container, key, value), which holds while

ENTRY     container[key], of a dict, is value; where value is ABSENT, there is no such key
CLASS     container, a class, has not been changed since, or the facts in value[1] hold: facts MEMBER and
          NAMES of its __dict__ and those of its bases. value is a list, [version, facts], and is kept up to
          date; versions are CPython's, which no two states of a class share
MEMBER    as ENTRY, of any mapping
FUNCTION  container, a function, has the code and the defaults of the tuple value
ATTRIBUTE getattr(container, key) is value
CELL      the closure cell `container` holds value, or is empty where value is ABSENT
SEQUENCE  container, a list or deque, holds the members of the tuple value, in order
MAPPING   container, a dict, holds the (key, value) pairs of the tuple value, in order
SET       container, a set, holds the members of the frozenset value
CONTENT   container, an array, has the bytes, shape and dtype of the array value
TYPE      container is of the class value
BYTES     bytes(memoryview(container)) is value
CALLED    container() is value
NAMES     container, a mapping, has the keys of the tuple value, in order
COUNT     container has as many members as value says

where "is" means: the same object, or a number, text or tuple of these of one type and one value (a NaN
is itself, 0.0 is not -0.0). The facts hold what they name, so that no id recurs.

`changed` is called by whatever can make a fact false and knows it (a module's __setattr__, a parameter
that moves): facts of this kind, `loud` ones, are compared only after such a call; `silent` ones always.
"""
cimport cython
from cpython.buffer cimport PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBuffer_Release, PyObject_GetBuffer
from cpython.dict cimport PyDict_GetItemWithError
from cpython.object cimport PyObject
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.stdint cimport uint64_t
from libc.string cimport memcmp, strcmp

import numpy as np


cdef extern from "Python.h":
    PyObject *PyCell_GET(object cell)
    PyObject *PyFunction_GetCode(object function)
    PyObject *PyFunction_GetDefaults(object function)
    PyObject *PyFunction_GetKwDefaults(object function)
    ctypedef struct PyTypeObject:
        unsigned int tp_version_tag  # 0 where there is none yet


cdef enum Kind:
    IS_ENTRY
    IS_CLASS
    IS_FUNCTION
    IS_MEMBER
    IS_ATTRIBUTE
    IS_CELL
    IS_SEQUENCE
    IS_MAPPING
    IS_SET
    IS_CONTENT
    IS_NAMES
    IS_COUNT
    IS_TYPE
    IS_BYTES
    IS_CALLED


ENTRY = IS_ENTRY
CLASS = IS_CLASS
FUNCTION = IS_FUNCTION
MEMBER = IS_MEMBER
ATTRIBUTE = IS_ATTRIBUTE
CELL = IS_CELL
SEQUENCE = IS_SEQUENCE
MAPPING = IS_MAPPING
SET = IS_SET
CONTENT = IS_CONTENT
NAMES = IS_NAMES
COUNT = IS_COUNT
TYPE = IS_TYPE
BYTES = IS_BYTES
CALLED = IS_CALLED


Fact = tuple


# Stands for a fact that could not be compared.
cdef tuple UNKNOWN = (IS_MAPPING, None, None, None)


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
    cdef int i
    if array.dtype.kind not in "biufc":
        return array.shape == kept.shape and array.dtype == kept.dtype and array.tolist() == kept.tolist()
    if not array.flags.c_contiguous:
        return array.shape == kept.shape and array.dtype == kept.dtype and array.tobytes() == kept.tobytes()
    PyObject_GetBuffer(array, &view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
    try:
        PyObject_GetBuffer(kept, &other, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
        equal = view.ndim == other.ndim and view.len == other.len and strcmp(view.format, other.format) == 0
        for i in range(view.ndim if equal else 0):
            equal = equal and view.shape[i] == other.shape[i]
        equal = equal and memcmp(view.buf, other.buf, view.len) == 0
        PyBuffer_Release(&other)
    finally:
        PyBuffer_Release(&view)
    return equal


def version_of(cls):
    """The version of a class, changed with it or a base of it; 0 where it has none."""
    if not isinstance(cls, type):
        raise TypeError(f"cls must be a class, got {type(cls).__name__}")
    getattr(cls, "__doc__", None)  # a look into it gives it one
    return (<PyTypeObject *> cls).tp_version_tag


cdef bint is_unchanged(object cls, list value) except -1:
    cdef unsigned int version = value[0]
    cdef tuple fact
    if version != 0 and (<PyTypeObject *> cls).tp_version_tag == version:
        return True
    for fact in <list> value[1]:
        if not holds(fact):
            return False
    value[0] = version_of(cls)
    return True


cdef inline bint is_object(PyObject *found, object value) noexcept:
    """Whether they are one object; NULL is None's."""
    return found == <PyObject *> value or (found == NULL and value is None)


cdef bint holds(tuple fact) except -1:
    cdef int kind = fact[0]
    cdef object container = fact[1], key, value = fact[3], item
    cdef PyObject *found
    cdef Py_ssize_t i
    if kind == IS_ENTRY:
        found = PyDict_GetItemWithError(container, fact[2])
        return value is absent if found == NULL else same(<object> found, value)
    if kind == IS_CLASS:
        return is_unchanged(container, value)
    if kind == IS_FUNCTION:
        return (is_object(PyFunction_GetCode(container), (<tuple> value)[0])
                and is_object(PyFunction_GetDefaults(container), (<tuple> value)[1])
                and is_object(PyFunction_GetKwDefaults(container), (<tuple> value)[2]))
    if kind == IS_MEMBER:
        return same(container.get(fact[2], absent), value)
    if kind == IS_ATTRIBUTE:
        return same(getattr(container, fact[2], absent), value)
    if kind == IS_CELL:
        found = PyCell_GET(container)
        return value is absent if found == NULL else same(<object> found, value)
    if kind == IS_SEQUENCE or kind == IS_NAMES:  # a mapping gives its keys
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
    if kind == IS_TYPE:
        return type(container) is value
    if kind == IS_BYTES:
        return bytes(memoryview(container)) == value
    if kind == IS_CALLED:
        return same(container(), value)
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
        cdef tuple fact, disturbed = None
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
        except Exception:  # a dict changed its size while it was read, an attribute's code raised
            disturbed = UNKNOWN
        return disturbed

    def broken(self):
        """The places, as (id of the container, key), of all facts that do not hold."""
        found = set()
        for fact in (*self.loud, *self.silent):
            try:
                if holds(fact):
                    continue
            except Exception:
                pass
            found.add((id(fact[1]), fact[2]))
        return found
