# distutils: extra_compile_args = -Os
"""Work that is done as a whole: from when it begins until it ends, no bytecode runs.

Python hears a signal between two bytecodes, so that Ctrl-C may strike between any two statements: of two
assignments the second is then not made. What must not be left halfway (a checkpoint that is loaded) is checked
and prepared first, and then done by one call of `commit`. What calls Python in between cannot be done as a whole:
`restoring` puts back what a call has changed, and `Calls` knows of each call whether it has been made.
"""
import numpy as np
cimport cython
from cpython.dict cimport PyDict_SetItem
from cpython.object cimport PyObject_SetAttr

from fastnn_ext.watch import changed


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
    """
    cdef object destination, source, table, owner, key, value
    entries = entries or []
    attributes = attributes or []
    for destination, source in copies:
        if type(destination) is not np.ndarray or type(source) is not np.ndarray:
            raise TypeError(f"expected two arrays, got {type(destination).__name__} and {type(source).__name__}")
        if destination.dtype != source.dtype or destination.dtype.hasobject:
            raise TypeError(f"an array of {source.dtype} cannot be copied into one of {destination.dtype}")
        if destination.shape != source.shape:
            raise ValueError(f"an array of shape {source.shape} cannot be copied into one of {destination.shape}")
        if not destination.flags.writeable:
            raise ValueError("the array that is copied to is read-only")
    for table, key, value in entries:
        if not isinstance(table, dict) or type(key) is not str:
            raise TypeError(f"expected a dict and a name, got {type(table).__name__} and {type(key).__name__}")
    for owner, key, value in attributes:
        if type(key) is not str or type(owner).__setattr__ is not object.__setattr__:
            raise TypeError(f"{type(owner).__name__} decides itself how {key!r} is assigned")
    # From here on nothing fails, and all is C: NumPy's copies between equal dtypes, and assignments.
    for destination, source in copies:
        destination[...] = source
    for table, key, value in entries:
        PyDict_SetItem(table, key, value)
    for owner, key, value in attributes:
        PyObject_SetAttr(owner, key, value)
    changed()


def put(table, str key not None, value, target, source):
    """Set one entry, past the __setitem__ of a subclass, and the numbers of an array that stand for it.

    Parameters
    ----------
    table : dict
    key : str
    value
    target : array
    source : array
        Copied to `target`; if that cannot be done, nothing is.
    """
    if not isinstance(table, dict):
        raise TypeError(f"expected a dict, got {type(table).__name__}")
    if type(target) is not np.ndarray or type(source) is not np.ndarray or target.dtype.hasobject:
        raise TypeError(f"expected two arrays of numbers, got {type(target).__name__} and {type(source).__name__}")
    target[...] = source
    PyDict_SetItem(table, key, value)


def restoring(list entries not None, list attributes not None, function, *args):
    """Call a function, and assign values as soon as it has returned or raised.

    Parameters
    ----------
    entries : list of (dict, key, value)
    attributes : list of (object, name, value)
    function : callable
    *args

    Returns
    -------
    object
        What the function returns.
    """
    try:
        return function(*args)
    finally:
        commit([], entries, attributes)


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
