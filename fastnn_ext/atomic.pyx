# distutils: extra_compile_args = -Os
"""Work that is done as a whole: from when it begins until it ends, no bytecode runs and no memory is asked for.

Python hears a signal between two bytecodes, so that Ctrl-C may strike between any two statements: of two
assignments the second is then not made. So does a failing allocation. What must not be left halfway (a checkpoint
that is loaded) is checked and prepared first, and then done by one call of `commit`. What calls Python in between
cannot be done as a whole: `Meanwhile` puts back what a block has changed, and `Calls` knows of each call whether it has
been made.
"""
import numpy as np

cimport cython
from cpython.buffer cimport PyBuffer_IsContiguous
from cpython.dict cimport PyDict_DelItem, PyDict_GetItemWithError, PyDict_SetItem
from cpython.object cimport PyObject, PyObject_DelAttr, PyObject_SetAttr
from libc.stdio cimport remove
from libc.string cimport memcpy

from fastnn_ext.watch import ABSENT, changed


cdef extern from "Python.h":
    Py_buffer *PyMemoryView_GET_BUFFER(object view)


cdef extern from *:
    """
    #ifdef _WIN32
    static int fnn_sync_folder(const char *path) { (void)path; return 0; }
    #else
    #include <fcntl.h>
    #include <unistd.h>
    static int fnn_sync_folder(const char *path) {
        int descriptor = open(path, O_RDONLY
    #ifdef O_CLOEXEC
                              | O_CLOEXEC
    #endif
        );
        if (descriptor < 0) return -1;
        int status = fsync(descriptor);
        close(descriptor);
        return status;
    }
    #endif
    """
    int fnn_sync_folder(const char *path) nogil


cdef object absent = ABSENT


def commit(list copies, list entries=None, list attributes=None):
    """Copy arrays and assign values, all or nothing.

    Parameters
    ----------
    copies : list of (destination, source)
        Arrays of one shape and dtype; none shares memory with another.
    entries : list of (dict, key, value), optional
        Written past the __setitem__ of a subclass.
    attributes : list of (object, name, value), optional
        Of objects that have no __setattr__ of their own.

    Raises
    ------
    TypeError, ValueError
        If that cannot be done; nothing has been done then.
    MemoryError
        Nothing has been done then, either.
    """
    assign(copies, entries, attributes)
    changed()


def assign(list copies, list entries=None, list attributes=None):
    """As `commit`, of what no trace depends on: programs go on without a look at what they were made from."""
    cdef object destination, source, table, owner, key, value
    cdef Py_ssize_t i, n_entries = 0, n_attributes = 0
    cdef bint done = False
    entries = entries or []
    attributes = attributes or []
    views = []
    for destination, source in copies:
        if type(destination) is not np.ndarray or type(source) is not np.ndarray:
            raise TypeError(f"expected two arrays, got {type(destination).__name__} and {type(source).__name__}")
        if destination.dtype != source.dtype or destination.dtype.hasobject:
            raise TypeError(f"an array of {source.dtype} cannot be copied into one of {destination.dtype}")
        if destination.shape != source.shape:
            raise ValueError(f"an array of shape {source.shape} cannot be copied into one of {destination.shape}")
        if not destination.flags.writeable:
            raise ValueError("the array that is copied to is read-only")
        if np.may_share_memory(destination, source):
            raise ValueError("an array cannot be copied into memory that it lies in")
        views.append((memoryview(destination), memoryview(source)))
    # What was there before is kept until the end: it comes back if something cannot be assigned, and the code that
    # runs where an object goes does not run before.
    before = []
    for table, key, value in entries:
        if not isinstance(table, dict) or type(key) is not str:
            raise TypeError(f"expected a dict and a name, got {type(table).__name__} and {type(key).__name__}")
        before.append(entry_of(table, key))
    for owner, key, value in attributes:
        if type(key) is not str or type(owner).__setattr__ is not object.__setattr__:
            raise TypeError(f"{type(owner).__name__} decides itself how {key!r} is assigned")
        before.append(getattr(owner, key, absent))
    # A new name may ask for memory. What replaces another value asks for none, nor do copies, which are the last.
    try:
        for table, key, value in entries:
            PyDict_SetItem(table, key, value)
            n_entries += 1
        for owner, key, value in attributes:
            PyObject_SetAttr(owner, key, value)
            n_attributes += 1
        done = True
    finally:
        if not done:
            for i in range(n_attributes):
                owner, key, value = attributes[i]
                value = before[n_entries + i]
                if value is absent:
                    PyObject_DelAttr(owner, key)
                else:
                    PyObject_SetAttr(owner, key, value)
            for i in range(n_entries):
                table, key, value = entries[i]
                put_back(table, key, before[i])
    for destination, source in views:
        copy(PyMemoryView_GET_BUFFER(destination), PyMemoryView_GET_BUFFER(source))


cdef object entry_of(object table, object key):
    """What `put_back` puts back later."""
    cdef PyObject *found = PyDict_GetItemWithError(table, key)
    return absent if found == NULL else <object> found


cdef int put_back(object table, object key, object value) except -1:
    if value is absent:
        PyDict_DelItem(table, key)
    else:
        PyDict_SetItem(table, key, value)
    return 0


@cython.final
cdef class Meanwhile:
    """Entries of dicts that have other values for the time of a block, and after it those again that they had.

    However the block ends: __exit__ is C, where Python hears no signal. Python 3.10 hears one between an exception and
    __exit__, which is then not called; but then the with statement lets go of this, which puts back, too.

    Parameters
    ----------
    entries : list of (dict, key, value)
        An entry that the block alone changes has its own value here.
    arrays : list of array, optional
        They have after the block what they had when this was made.
    attributes : list of (object, name), optional
        Likewise; of objects that have no __setattr__ of their own.
    """
    cdef list entries, before, views, attributes

    def __init__(self, list entries not None, list arrays=None, list attributes=None):
        self.entries = entries
        self.attributes = []
        for owner, key in attributes or []:
            self.attributes.append((owner, key, getattr(owner, key)))
        self.views = []
        for array in arrays or []:
            self.views.append((memoryview(array), memoryview(array.copy())))

    def __enter__(self):
        before = []
        for table, key, _ in self.entries:
            before.append(entry_of(table, key))
        commit([], self.entries)
        self.before = before

    def __exit__(self, kind, value, traceback):
        self.leave()

    def __del__(self):
        self.leave()

    cdef int leave(self) except -1:
        cdef list before = self.before
        cdef Py_ssize_t i
        if before is None:
            return 0
        self.before = None
        for i in range(len(self.entries)):
            put_back(self.entries[i][0], self.entries[i][1], before[i])
        for owner, key, value in self.attributes:
            PyObject_SetAttr(owner, key, value)
        for destination, source in self.views:
            copy(PyMemoryView_GET_BUFFER(destination), PyMemoryView_GET_BUFFER(source))
        changed()
        return 0


cdef enum: MOST_DIMS = 64  # NumPy's limit


cdef void copy(Py_buffer *to, Py_buffer *source) noexcept:
    """Between arrays of one shape and itemsize."""
    cdef Py_ssize_t[MOST_DIMS] to_strides, strides, shape
    cdef int i, k, ndim = to.ndim
    if PyBuffer_IsContiguous(to, b"C") and PyBuffer_IsContiguous(source, b"C"):
        memcpy(to.buf, source.buf, <size_t> to.len)
        return
    # In the order in which the target lies: parameters of convolutions lie with their channels last.
    for i in range(ndim):
        k = i
        while k > 0 and to_strides[k - 1] < to.strides[i]:
            to_strides[k], strides[k], shape[k] = to_strides[k - 1], strides[k - 1], shape[k - 1]
            k -= 1
        to_strides[k], strides[k], shape[k] = to.strides[i], source.strides[i], to.shape[i]
    copy_strided(<char *> to.buf, to_strides, <const char *> source.buf, strides, shape, ndim, to.itemsize)


cdef void copy_strided(char *to, const Py_ssize_t *to_strides, const char *source, const Py_ssize_t *strides,
                       const Py_ssize_t *shape, int ndim, Py_ssize_t itemsize) noexcept:
    cdef Py_ssize_t i
    if ndim > 1:
        for i in range(shape[0]):
            copy_strided(to + i * to_strides[0], to_strides + 1, source + i * strides[0], strides + 1, shape + 1,
                         ndim - 1, itemsize)
    elif itemsize == 4:
        for i in range(shape[0]):
            memcpy(to + i * to_strides[0], source + i * strides[0], 4)
    elif itemsize == 8:
        for i in range(shape[0]):
            memcpy(to + i * to_strides[0], source + i * strides[0], 8)
    else:
        for i in range(shape[0]):
            memcpy(to + i * to_strides[0], source + i * strides[0], <size_t> itemsize)


@cython.final
cdef class Temporary:
    """A file that is not there any more when a block ends, however it ends; under another name by then, it stays.

    No memory is asked for: that there is none may be what ended the block. As of `Meanwhile`, letting go ends it, too.
    """
    cdef bytes path
    cdef bint entered

    def __init__(self, bytes path not None):
        self.path = path

    def __enter__(self):
        self.entered = True

    def __exit__(self, kind, value, traceback):
        self.leave()

    def __del__(self):
        self.leave()

    cdef void leave(self) noexcept:
        if self.entered:
            self.entered = False
            remove(self.path)


@cython.final
cdef class Held:
    """A lock that a block holds; as of `Meanwhile`, letting go ends the block, too."""
    cdef object lock, release

    def __init__(self, lock):
        self.lock = lock

    def __enter__(self):
        release = self.lock.release  # asks for memory, which there has to be before
        self.lock.acquire()
        self.release = release

    def __exit__(self, kind, value, traceback):
        self.leave()

    def __del__(self):
        self.leave()

    cdef int leave(self) except -1:
        release = self.release
        self.release = None
        if release is not None:
            release()
        return 0


@cython.final
cdef class Calls:
    """A method of several objects that is to be called on one after another, and how far that has come.

    A call counts from its beginning, unless an exception leaves it: then it has not been made.

    Parameters
    ----------
    method : str
    objects : sequence
    number : int, default 0
        Of what the calls are about.
    done : int, default 0
        On how many of the objects, the first ones, it has been called.
    """
    cdef readonly str method
    cdef readonly tuple objects
    cdef readonly long long number
    cdef readonly Py_ssize_t done

    def __init__(self, str method not None, objects, long long number=0, Py_ssize_t done=0):
        objects = tuple(objects)
        if not 0 <= done <= len(objects):
            raise ValueError(f"{done} of {len(objects)} calls cannot have been made")
        self.method, self.objects, self.number, self.done = method, objects, number, done

    def next(self, *args):
        """Call the method on the next object; False if there is none."""
        cdef Py_ssize_t at = self.done
        if at >= len(self.objects):
            return False
        self.done = at + 1
        try:
            getattr(self.objects[at], self.method)(*args)
        except:
            self.done = at
            raise
        return True

    def rest(self, *args):
        """Call the method on all objects that are left."""
        while self.next(*args):
            pass

    def again(self, long long number):
        """Begin once more, about something else."""
        self.number, self.done = number, 0

    def left(self):
        """The objects on which the method has not been called."""
        return self.objects[self.done:]

    def __reduce__(self):
        return Calls, (self.method, self.objects, self.number, self.done)


def sync_folder(bytes path):
    """Bring a folder's table of names to the disk, where the system lets a folder be synced."""
    cdef const char *name = path
    with nogil:
        fnn_sync_folder(name)
