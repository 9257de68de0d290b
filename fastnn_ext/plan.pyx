"""The executor: a flat list of ops over one arena, run as one native call.

Plan knows no op by name. It is given what fastnn.lowering made of a graph:

ops      tuples (kernel, dtype, buffers, dims, scalars, object): `kernel` is the name a driver
         registered; `buffers` are references (see below) or None; a dim is an int or a pair
         (fixed, per_sample), which stands for fixed + per_sample * batch; `object` is the Python
         object that a callback op calls, or None.
phases   tuples (first, count): ops[first:first + count] do not depend on each other.
commit   the phase from which on the program no longer stops for signals.
constant how many phases, the first ones, run only when the batch differs from the last run's: those
         that depend on constants alone. What they write stays in the arena.
refs     ("arena", 0, byte_offset), ("fixed", k, byte_offset), ("input", k, byte_offset),
         ("output", k, byte_offset).
inputs   InputSpec tuples (name, dtype, dims, limit, ignore): dims as above; for labels `limit` is
         the number of classes (0: unchecked) and `ignore` the label that is passed over. Labels are
         checked in a copy of the plan's own, which ops read: another thread may write to the caller's.
outputs  tuples (dtype, dims); a new array a run, or a Python number where dims is ().
arena    the Arena that it works in, with other plans that never run at once; None for one of its own.
after    the plan whose run this one goes on from, in the same arena and at the same batch: the forward
         pass before a backward one.
fixed    arrays that live as long as the plan: parameters, gradients, optimizer state, constants. A weak
         reference to each makes NumPy refuse to resize it, which would free the memory that ops point at.
copies   pairs (array of fixed, source): before each run the source, an array from outside that kernels
         cannot read as it lies, is copied over.
batches  the set of batch sizes that the plan may run at, which its maker may add to; None for all.
marks    pairs (Marked, bool): which have a gradient whenever a run has been made, and which have none; said before
         Python hears of a signal.
receipt  the Receipt in which a run leaves its values, and `rebuild`, which makes the result of them; see `leave_in`.
"""
import sys

import numpy as np

cimport cython
from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release,
    PyObject_CheckBuffer, PyObject_GetBuffer,
)
from cpython.dict cimport PyDict_GetItemWithError
from cpython.exc cimport PyErr_Occurred
from cpython.object cimport PyObject
from cpython.pythread cimport (
    NOWAIT_LOCK, WAIT_LOCK, PyThread_acquire_lock, PyThread_allocate_lock, PyThread_free_lock,
    PyThread_get_thread_ident, PyThread_release_lock, PyThread_type_lock,
)
from cpython.weakref cimport PyWeakref_NewRef
from libc.stdint cimport int32_t, int64_t, uintptr_t
from libc.string cimport memcpy

from fastnn_ext cimport runtime
from fastnn_ext.watch cimport Watch
from fastnn_ext.runtime cimport (
    FNN_FAILED, FNN_LATE, FNN_MAX_BUF, FNN_MAX_DIM, FNN_MAX_SCALAR, FNN_NO_MEMORY, fnn_event, fnn_op,
    fnn_phase, fnn_profile, fnn_program,
)


cdef extern from "Python.h":
    # Declared here without Cython's error check: the error must stay set until the run has ended.
    int PyErr_CheckSignals() noexcept


@cython.auto_pickle(False)
cdef class Marked:
    """What has a gradient or none, of which runs say so in a nanosecond."""
    cdef public bint _has_grad


class NotFiniteError(FloatingPointError):
    """A number that a program watches is NaN or infinite; it stopped before it changed anything."""


EVENT = np.dtype([("begin", "f8"), ("end", "f8"), ("op", "i4"), ("thread", "i4")])  # fnn_event
DTYPES = ("float32", "float64", "int64")
# A phase that takes longer gives other Python threads time to run, if it is no callback that runs Python itself.
cdef enum: PIN_NS = 20000
cdef int ITEMSIZE[3]
ITEMSIZE[0] = 4
ITEMSIZE[1] = 8
ITEMSIZE[2] = 8


cdef int poll_signals() noexcept nogil:
    """Nonzero if a Python signal handler raised, KeyboardInterrupt above all."""
    with gil:
        return PyErr_CheckSignals() != 0


cdef int raise_pending() except -1:
    """Raises the Python error that native code has set."""
    return -1


cdef struct linear:  # a size: fixed + per_sample * batch
    int64_t fixed
    int64_t per_sample


cdef struct patch:  # op.buf[slot] follows an input or output of the call
    int32_t op
    int32_t slot
    int32_t index
    int64_t offset


cdef inline linear as_linear(object dim) except *:
    cdef linear size
    if isinstance(dim, tuple):
        size.fixed, size.per_sample = dim
    else:
        size.fixed = dim
        size.per_sample = 0
    return size


@cython.final
cdef class Spec:
    """Name, dtype and sizes of one input or output."""
    cdef readonly str name
    cdef readonly int dtype
    cdef readonly int ndim
    cdef readonly int64_t limit
    cdef readonly int64_t ignore
    cdef linear sizes[8]

    def __init__(self, str name, int dtype, dims, int64_t limit=0, int64_t ignore=-1):
        if len(dims) > 8:
            raise ValueError(f"{name} has {len(dims)} dimensions; at most 8 are supported")
        self.name = name
        self.dtype = dtype
        self.ndim = len(dims)
        self.limit = limit
        self.ignore = ignore
        for i, dim in enumerate(dims):
            self.sizes[i] = as_linear(dim)

    def describe(self):
        """The expected shape as text, with N for the batch."""
        parts = []
        for i in range(self.ndim):
            if self.sizes[i].per_sample:
                parts.append("N" if self.sizes[i].per_sample == 1 else f"{self.sizes[i].per_sample}N")
            else:
                parts.append(str(self.sizes[i].fixed))
        return "(" + ", ".join(parts) + ("," if len(parts) == 1 else "") + ")"


cdef bint is_format(const char *format, int dtype) noexcept:
    if format == NULL:
        return False
    if format[0] == b'@' or format[0] == b'=' or format[0] == b'<':
        format += 1
    if format[0] == 0 or format[1] != 0:
        return False
    if dtype == 0:
        return format[0] == b'f'
    if dtype == 1:
        return format[0] == b'd'
    return (format[0] == b'l' and sizeof(long) == 8) or format[0] == b'q'


cdef object ndarray = np.ndarray


cdef bint is_masked(object value) except -1:
    masked = sys.modules.get("numpy.ma")  # where it was never imported, there are no such arrays
    return masked is not None and isinstance(value, masked.MaskedArray)


cdef int pin(object array, list pins) except -1:
    """Makes NumPy refuse to resize an array, and those that it is a view of, while `pins` lives: it looks for weak
    references, but not for exported buffers."""
    while isinstance(array, np.ndarray):
        pins.append(PyWeakref_NewRef(array, None))
        array = array.base
    return 0


@cython.final
cdef class Arena:
    """Memory that plans work in, one at a time; it grows to what the largest of them needs."""
    cdef void *base
    cdef readonly int64_t nbytes
    cdef PyThread_type_lock lock
    cdef unsigned forks
    cdef long owner
    cdef object latest  # the plan that ran last: what it wrote is there

    def __cinit__(self):
        self.lock = PyThread_allocate_lock()
        self.forks = runtime.forks()
        if self.lock == NULL:
            raise MemoryError("no memory for a lock")

    def __dealloc__(self):
        runtime.deallocate(self.base)
        if self.lock != NULL:
            PyThread_free_lock(self.lock)

    cdef int acquire(self) except -1:
        cdef PyThread_type_lock lock
        if self.forks != runtime.forks():
            # Another thread of the parent may have held the lock for ever.
            lock = PyThread_allocate_lock()
            if lock == NULL:
                raise MemoryError("no memory for a lock")
            self.lock = lock
            self.forks = runtime.forks()
            self.owner = 0
        if not PyThread_acquire_lock(self.lock, NOWAIT_LOCK):
            if self.owner == <long> PyThread_get_thread_ident():
                raise RuntimeError("a plan cannot be run from inside itself")
            with nogil:
                PyThread_acquire_lock(self.lock, WAIT_LOCK)
        self.owner = <long> PyThread_get_thread_ident()
        return 0

    cdef void release(self) noexcept:
        self.owner = 0
        PyThread_release_lock(self.lock)

    cdef int reserve(self, int64_t nbytes) except -1:
        """Room for a plan; what stood in the arena is lost if it has to grow. Called while it is held."""
        cdef void *base
        if self.base != NULL and nbytes <= self.nbytes:
            return 0
        base = runtime.allocate(<size_t> nbytes)
        if base == NULL:
            raise MemoryError(f"no memory for a plan with an arena of {nbytes} bytes")
        runtime.deallocate(self.base)
        self.base, self.nbytes, self.latest = base, nbytes, None
        return 0


@cython.final
cdef class Receipt:
    """What the latest of some plans' runs gave, filled in before the run returns: a Ctrl-C that strikes right after an
    update leaves the loss of that update here.

    Attributes
    ----------
    runs : int
        How many there have been; who counts them tells by it whether it has counted the latest.
    """
    cdef readonly int64_t runs
    cdef tuple values
    cdef object rebuild

    def __init__(self, int64_t runs=0):
        self.runs = runs

    def result(self):
        """The latest run's result."""
        if self.values is None:
            raise RuntimeError("no run has left its values here")
        return self.values[0] if self.rebuild is None else self.rebuild(self.values)

    def __reduce__(self):
        return Receipt, (self.runs,)


@cython.final
cdef class Plan:
    """A lowered graph, ready to run. See the module's docstring for the arguments."""
    cdef fnn_program program
    cdef linear *dims            # (n_ops, FNN_MAX_DIM)
    cdef patch *input_patches
    cdef patch *output_patches
    cdef patch *arena_patches
    cdef int n_input_patches, n_output_patches, n_arena_patches, n_labels
    cdef bint pinning            # whether other Python code may run during a run
    cdef void *base              # of the arena, where the ops point now
    cdef Py_buffer *views        # one an input, held during a call
    cdef void **labels           # one an input: where those with a limit are copied to, or NULL
    cdef int64_t *label_bytes    # one an input: how much there is room for
    cdef double *scalars         # one an output: where those without dimensions are written
    cdef readonly Arena arena
    cdef Plan after              # whose run this one goes on from, or None
    cdef list keep               # arrays and objects that ops point at
    cdef tuple copies
    cdef tuple marks
    cdef Receipt receipt
    cdef object rebuild          # from the values to the receipt's result
    cdef readonly set batches
    cdef set cleared             # in which the batch of the last run was found
    cdef readonly tuple inputs, outputs
    cdef readonly int64_t max_batch
    cdef readonly int64_t arena_bytes
    cdef int64_t batch
    cdef unsigned forks
    cdef object seconds          # (n_ops, threads) while profiling
    cdef object events           # (room,) of EVENT, of the latest profile
    cdef int64_t n_events
    cdef readonly object kernels # names of the ops

    def __cinit__(self):
        self.batch = -1
        self.events = np.zeros(0, EVENT)

    def __init__(self, list ops, list phases, int commit, int64_t arena_bytes, list fixed,
                 list inputs, list outputs, int64_t max_batch, Arena arena=None, Plan after=None,
                 int constant=0, tuple copies=(), set batches=None, tuple marks=()):
        cdef Py_ssize_t i, k, room
        cdef fnn_op *op
        if self.program.ops != NULL:
            raise RuntimeError("a plan is made once")
        pins = []
        for array in fixed:
            pin(array, pins)
        self.keep = [fixed, pins]
        self.kernels = tuple(op_spec[0] for op_spec in ops)
        self.inputs = tuple(Spec(*spec) for spec in inputs)
        self.outputs = tuple(Spec(f"output {k}", *spec) for k, spec in enumerate(outputs))
        self.max_batch = max_batch
        self.arena_bytes = arena_bytes
        self.forks = runtime.forks()
        self.arena = Arena() if arena is None else arena
        self.after = after
        self.copies = copies
        self.batches = batches
        for owner, has_grad in marks:
            if not isinstance(owner, Marked) or type(has_grad) is not bool:
                raise TypeError(f"marks are pairs of Marked and bool, got {type(owner).__name__}")
        self.marks = marks
        self.program.n_ops = <int32_t> len(ops)
        self.program.n_phases = <int32_t> len(phases)
        self.program.commit = commit
        self.program.constant = constant
        self.program.ops = <fnn_op *> runtime.allocate(max(1, len(ops)) * sizeof(fnn_op))
        self.program.phases = <fnn_phase *> runtime.allocate(max(1, len(phases)) * sizeof(fnn_phase))
        self.dims = <linear *> runtime.allocate(max(1, len(ops)) * FNN_MAX_DIM * sizeof(linear))
        self.views = <Py_buffer *> runtime.allocate(max(1, len(inputs)) * sizeof(Py_buffer))
        self.labels = <void **> runtime.allocate(max(1, len(inputs)) * sizeof(void *))
        self.label_bytes = <int64_t *> runtime.allocate(max(1, len(inputs)) * sizeof(int64_t))
        room = 0
        for op_spec in ops:
            room += len(op_spec[2])
        room = max(1, room)
        self.input_patches = <patch *> runtime.allocate(room * sizeof(patch))
        self.output_patches = <patch *> runtime.allocate(room * sizeof(patch))
        self.arena_patches = <patch *> runtime.allocate(room * sizeof(patch))
        self.scalars = <double *> runtime.allocate(max(1, len(outputs)) * sizeof(double))
        if (self.program.ops == NULL or self.program.phases == NULL or self.dims == NULL or self.views == NULL
                or self.labels == NULL or self.label_bytes == NULL
                or self.scalars == NULL or self.input_patches == NULL or self.output_patches == NULL
                or self.arena_patches == NULL):
            raise MemoryError(f"no memory for a plan of {len(ops)} ops")
        self.n_labels = <int> len(inputs)
        self.arena.acquire()
        try:
            self.arena.reserve(arena_bytes)
        finally:
            self.arena.release()
        for i, (kernel, dtype, buffers, dims, scalars, callback) in enumerate(ops):
            op = &self.program.ops[i]
            if len(buffers) > FNN_MAX_BUF or len(dims) > FNN_MAX_DIM or len(scalars) > FNN_MAX_SCALAR:
                raise ValueError(f"op {kernel} has too many buffers, sizes or scalars")
            runtime.find_op(kernel, op)
            op.dtype = dtype
            for k, value in enumerate(scalars):
                op.scalar[k] = value
            for k, dim in enumerate(dims):
                self.dims[i * FNN_MAX_DIM + k] = as_linear(dim)
            for k, ref in enumerate(buffers):
                if ref is not None:
                    self.bind(i, k, ref, fixed)
            if callback is not None:
                self.keep.append(callback)
                op.object = <void *> callback
        for i, (first, count) in enumerate(phases):
            self.program.phases[i].first = first
            self.program.phases[i].count = count
            for k in range(first, first + count):
                if self.program.ops[k].object != NULL:
                    self.program.phases[i].on_caller = 1

    def leave_in(self, Receipt receipt not None, rebuild=None):
        """Leave the values of each run that has been made in a receipt, too.

        Parameters
        ----------
        receipt : Receipt
        rebuild : callable, optional
            From the values to the receipt's result; without it, that is the first of them.
        """
        self.receipt, self.rebuild = receipt, rebuild

    cdef int bind(self, Py_ssize_t i, Py_ssize_t slot, tuple ref, list fixed) except -1:
        cdef fnn_op *op = &self.program.ops[i]
        cdef Py_buffer view
        cdef patch *p
        where, index, offset = ref
        if where == "fixed":
            # Read-only arrays (constants) are only ever read.
            PyObject_GetBuffer(fixed[index], &view, PyBUF_STRIDES)
            op.buf[slot] = <char *> view.buf + <int64_t> offset
            PyBuffer_Release(&view)
        else:
            if where == "arena":
                p = &self.arena_patches[self.n_arena_patches]
                self.n_arena_patches += 1
            elif where == "input":
                p = &self.input_patches[self.n_input_patches]
                self.n_input_patches += 1
            else:
                p = &self.output_patches[self.n_output_patches]
                self.n_output_patches += 1
            p.op = <int32_t> i
            p.slot = <int32_t> slot
            p.index = index
            p.offset = offset
        return 0

    def __dealloc__(self):
        cdef Py_ssize_t k
        runtime.release(&self.program)
        for k in range(self.n_labels):
            runtime.deallocate(self.labels[k])
        runtime.deallocate(self.labels)
        runtime.deallocate(self.label_bytes)
        runtime.deallocate(self.program.ops)
        runtime.deallocate(self.program.phases)
        runtime.deallocate(self.dims)
        runtime.deallocate(self.views)
        runtime.deallocate(self.scalars)
        runtime.deallocate(self.input_patches)
        runtime.deallocate(self.output_patches)
        runtime.deallocate(self.arena_patches)

    # ---- one run ------------------------------------------------------------------------------

    cdef int acquire(self) except -1:
        """Holds the arena, with room for this plan and the ops pointed at it."""
        cdef int k
        cdef patch *p
        cdef bint ready = False
        self.arena.acquire()
        if self.forks != runtime.forks():
            # Another thread of the parent may have held the team's mutex for ever.
            self.program.team = NULL
            self.forks = runtime.forks()
        try:
            self.arena.reserve(self.arena_bytes)
            ready = True
        finally:
            if not ready:
                self.arena.release()
        if self.base != self.arena.base:
            self.base = self.arena.base
            for k in range(self.n_arena_patches):
                p = &self.arena_patches[k]
                self.program.ops[p.op].buf[p.slot] = <char *> self.base + p.offset
        return 0

    cdef void release(self) noexcept:
        self.arena.release()

    cdef int check_turn(self) except -1:
        """What the runs before have left in the arena must fit."""
        if self.after is not None and self.arena.latest is not self.after:
            raise RuntimeError("another run has written over what the forward pass left: call forward_train again, "
                               "and backward right after it")
        if self.arena.latest is not self and self.program.constant > 0:
            self.batch = -1  # what is constant is gone
        return 0

    cdef int take_input(self, int k, object value, int64_t *batch, bint insist) except -2:
        """Holds the buffer of argument k: 0 if it fits, 1 if not, -1 if there is none to hold."""
        cdef Spec spec = <Spec> self.inputs[k]
        cdef Py_buffer *view = &self.views[k]
        cdef int i
        cdef int64_t n
        cdef bint shared = True
        if type(value) is not ndarray and is_masked(value):
            if insist:
                raise TypeError(f"{spec.name} is a masked array, whose mask would be lost; fill it or compress it "
                                "first")
            return -1
        try:
            PyObject_GetBuffer(value, view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
        except (BufferError, ValueError):
            if insist:
                raise
            shared = False
        if not shared:
            return -1
        if (not is_format(view.format, spec.dtype) or view.ndim != spec.ndim
                or <uintptr_t> view.buf % ITEMSIZE[spec.dtype]):
            return 1
        for i in range(spec.ndim):
            if spec.sizes[i].per_sample:
                if batch[0] < 0:
                    n = view.shape[i] - spec.sizes[i].fixed
                    if n % spec.sizes[i].per_sample or n <= 0:
                        return 1
                    batch[0] = n // spec.sizes[i].per_sample
                n = spec.sizes[i].fixed + spec.sizes[i].per_sample * batch[0]
            else:
                n = spec.sizes[i].fixed
            if view.shape[i] != n:
                return 1
        return 0

    cdef object refuse(self, int k, object value, int64_t batch):
        """Says what is wrong with argument k. Called only when take_input found it unfit."""
        cdef Spec spec = <Spec> self.inputs[k]
        array = np.asarray(value)
        if array.dtype != np.dtype(DTYPES[spec.dtype]):
            return TypeError(f"{spec.name} has dtype {array.dtype}; expected {DTYPES[spec.dtype]} of shape "
                             f"{spec.describe()}: convert it with .astype(np.{DTYPES[spec.dtype]})")
        with_batch = f" with N = {batch}, as the arguments before it" if batch > 0 and k > 0 else ""
        return ValueError(f"{spec.name} has shape {array.shape}; expected {spec.describe()}{with_batch}")

    cdef int take_labels(self, int k) except -1:
        """Copies the labels of argument k, and checks the copy."""
        cdef Spec spec = <Spec> self.inputs[k]
        cdef int64_t nbytes = self.views[k].len
        cdef const int64_t *labels
        cdef int64_t i, wrong = -1
        cdef int64_t limit = spec.limit, ignore = spec.ignore
        cdef void *room
        if nbytes > self.label_bytes[k]:
            room = runtime.allocate(<size_t> nbytes)
            if room == NULL:
                raise MemoryError(f"no memory for {nbytes} bytes of {spec.name}")
            runtime.deallocate(self.labels[k])
            self.labels[k] = room
            self.label_bytes[k] = nbytes
        memcpy(self.labels[k], self.views[k].buf, <size_t> nbytes)
        labels = <const int64_t *> self.labels[k]
        for i in range(nbytes // 8):
            if (labels[i] < 0 or labels[i] >= limit) and labels[i] != ignore:
                wrong = i
                break
        if wrong >= 0:
            raise ValueError(f"{spec.name}[{wrong}] is {labels[wrong]}; labels must lie in "
                             f"0 ... {limit - 1}")
        return 0

    cdef int set_batch(self, int64_t batch) except -1:
        if batch > self.max_batch:
            raise ValueError(f"a batch of {batch} exceeds the {self.max_batch} this plan was built for")
        if not self.serves(batch):
            raise ValueError(f"this plan was not seen to hold for a batch of {batch}: ask for the plan of such a batch")
        self.take_sizes(batch)
        return 0

    cdef bint serves(self, int64_t batch) except -1:
        return batch <= self.max_batch and (self.batches is None or batch in self.batches)

    cdef int take_sizes(self, int64_t batch) except -1:
        cdef Py_ssize_t i, k
        cdef linear *size
        for i in range(self.program.n_ops):
            for k in range(FNN_MAX_DIM):
                size = &self.dims[i * FNN_MAX_DIM + k]
                self.program.ops[i].dim[k] = size.fixed + size.per_sample * batch
        runtime.prepare(&self.program)
        self.pinning = False
        for i in range(self.program.n_phases):
            if self.program.phases[i].on_caller or self.program.phases[i].cost > PIN_NS:
                self.pinning = True
        self.batch = batch
        return 0

    def run(self, *args):
        """Run once.

        Parameters
        ----------
        *args : array
            One an input, in order: C-contiguous, of the input's dtype and shape.

        Returns
        -------
        tuple
            One new array an output; a number where the output's shape is ().

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit; nothing has run then.
        MemoryError
            If the threads' scratch memory cannot be had; nothing has run then.
        NotFiniteError
            If the program watches its loss, and that is NaN or infinite.
        """
        return self.run_arrays(args, True)

    def try_run(self, *args):
        """As run, but None if the arguments are not arrays that fit this plan as they are."""
        return self.run_arrays(args, False)

    cdef object run_arrays(self, tuple args, bint insist, set batches=None):
        cdef int64_t batch = -1 if self.after is None else self.after.batch
        cdef int k, taken = 0, status, threads, unfit
        cdef int n_inputs = <int> len(self.inputs)
        cdef Py_ssize_t i
        cdef patch *p
        cdef fnn_profile profile
        cdef fnn_profile *profiled = NULL
        cdef tuple results
        cdef list pins
        cdef object latest
        if len(args) != n_inputs:
            if not insist:
                return None
            raise TypeError(f"expected {n_inputs} arrays, got {len(args)}")
        self.acquire()
        try:
            for k in range(n_inputs):
                if not insist and not PyObject_CheckBuffer(args[k]):
                    return None
                unfit = self.take_input(k, args[k], &batch, insist)
                if unfit >= 0:
                    taken += 1
                if unfit:
                    if not insist:
                        return None
                    raise self.refuse(k, args[k], batch)
                if (<Spec> self.inputs[k]).limit > 0:
                    self.take_labels(k)
            if batch < 0:
                batch = self.max_batch
            if not insist and (batch != self.batch or batches is not self.cleared):
                if not self.serves(batch) or (batches is not None and batch not in batches):
                    return None
                self.cleared = batches
            self.check_turn()
            if batch != self.batch:
                self.set_batch(batch)
            for copy, source in self.copies:
                copy[...] = source
            for i in range(self.n_input_patches):
                p = &self.input_patches[i]
                self.program.ops[p.op].buf[p.slot] = (
                    <char *> (self.views[p.index].buf if self.labels[p.index] == NULL else self.labels[p.index])
                    + p.offset)
            if self.pinning:
                pins = []
                for value in args:
                    pin(value, pins)
            results = self.new_outputs(batch)
            threads = runtime.threads()
            if self.seconds is not None:
                threads = self.seconds.shape[1]
                self.open_profile(&profile)
                profiled = &profile
            latest, self.arena.latest = self.arena.latest, self
            with nogil:
                status = runtime.execute(&self.program, threads, poll_signals, profiled)
            if status == FNN_NO_MEMORY:
                self.arena.latest = latest  # no op has run
            elif status != FNN_FAILED:
                for owner, has_grad in self.marks:
                    (<Marked> owner)._has_grad = has_grad
            if profiled != NULL:
                self.n_events = min(profile.count, profile.room)
            if status == FNN_NO_MEMORY:
                raise MemoryError(f"no memory for {threads} threads' scratch of {self.program.scratch} bytes each")
            if status == FNN_FAILED and PyErr_Occurred() == NULL:
                raise NotFiniteError("the loss is not finite; all that outlives this run is as it was before it")
            if status == FNN_FAILED:
                raise_pending()
            if status == FNN_LATE:
                try:
                    raise_pending()
                finally:
                    self.finish(results)
            results = self.finish(results)
        finally:
            for k in range(taken):
                PyBuffer_Release(&self.views[k])
            self.release()
        return results

    cdef tuple new_outputs(self, int64_t batch):
        """A new array an output, with the ops pointed at it; None where a number will do."""
        cdef Py_buffer view
        cdef Spec spec
        cdef Py_ssize_t i, k
        cdef void *memory
        results = []
        for k in range(len(self.outputs)):
            spec = <Spec> self.outputs[k]
            if spec.ndim:
                shape = []
                for i in range(spec.ndim):
                    shape.append(spec.sizes[i].fixed + spec.sizes[i].per_sample * batch)
                array = np.empty(tuple(shape), DTYPES[spec.dtype])
                PyObject_GetBuffer(array, &view, PyBUF_WRITABLE)
                memory = view.buf
                PyBuffer_Release(&view)
            else:
                array = None
                memory = &self.scalars[k]
            results.append(array)
            for i in range(self.n_output_patches):
                if self.output_patches[i].index == k:
                    self.program.ops[self.output_patches[i].op].buf[self.output_patches[i].slot] = (
                        <char *> memory + self.output_patches[i].offset)
        return tuple(results)

    cdef tuple finish(self, tuple results):
        """The results of a run that was made, with numbers for the outputs without dimensions."""
        cdef Py_ssize_t k
        cdef list values = list(results)
        for k in range(len(values)):
            if values[k] is None:
                if (<Spec> self.outputs[k]).dtype == 0:
                    values[k] = <double> (<float *> &self.scalars[k])[0]
                elif (<Spec> self.outputs[k]).dtype == 2:
                    values[k] = (<int64_t *> &self.scalars[k])[0]
                else:
                    values[k] = self.scalars[k]
        results = tuple(values)
        if self.receipt is not None:
            self.receipt.values, self.receipt.rebuild = results, self.rebuild
            self.receipt.runs += 1
        return results

    # ---- what a reader wants to know ------------------------------------------------------------

    def start_profile(self, int64_t events=0):
        """Time each op from now on; see stop_profile.

        Parameters
        ----------
        events : int, default 0
            For how many chunks their times are kept, too; see profile_events.
        """
        self.seconds = np.zeros((self.program.n_ops, runtime.threads()))
        self.events = np.zeros(events, EVENT)
        self.n_events = 0

    cdef int open_profile(self, fnn_profile *profile) except -1:
        """Where the run that follows writes."""
        cdef Py_buffer view
        PyObject_GetBuffer(self.seconds, &view, PyBUF_WRITABLE)
        profile.op_seconds = <double *> view.buf
        PyBuffer_Release(&view)
        profile.threads = self.seconds.shape[1]
        PyObject_GetBuffer(self.events, &view, PyBUF_WRITABLE)
        profile.events = <fnn_event *> view.buf
        PyBuffer_Release(&view)
        profile.room = len(self.events)
        profile.count = self.n_events
        return 0

    def profile_events(self):
        """The chunks that ran since start_profile, as far as there was room for them.

        Returns
        -------
        array of (begin, end, op, thread)
            In the order in which they ended; begin and end in seconds of a clock that only goes
            forward, op as an index in `kernels`.
        """
        return self.events[:self.n_events]

    def stop_profile(self):
        """Seconds spent in each op on each thread since start_profile, shape (ops, threads)."""
        seconds, self.seconds = self.seconds, None
        return seconds

    def phases(self, int64_t batch):
        """How a batch of this size runs: a list of (first op, ops, chunks, serial, cost in ns)."""
        cdef fnn_phase *phase
        cdef int32_t i
        if self.arena is None or batch < 1:
            raise ValueError(f"batch must be at least 1, of a plan that was made, got {batch}")
        self.acquire()
        try:
            if batch > self.max_batch:
                raise ValueError(f"a batch of {batch} exceeds the {self.max_batch} this plan was built for")
            self.take_sizes(batch)
            found = []
            for i in range(self.program.n_phases):
                phase = &self.program.phases[i]
                found.append((phase.first, phase.count, phase.chunks, bool(phase.serial), phase.cost))
            return found
        finally:
            self.release()


@cython.final
cdef class Route:
    """The way that the last call took, for the next one: a plan, while what its trace depended on holds.

    Parameters
    ----------
    watch : Watch
    plan : Plan
    batches : set of int
        Those that it serves while that holds; others may have joined the plan's since.
    rebuild : callable, optional
        From the plan's values to what a call returns; None where that is the only value.
    names : tuple of str, optional
        Of the arrays that are given by name; the plan has them behind the others.
    """
    cdef Watch watch
    cdef Plan plan
    cdef set batches
    cdef object rebuild
    cdef tuple names

    def __init__(self, Watch watch not None, Plan plan not None, set batches, rebuild=None, tuple names=()):
        self.watch = watch
        self.plan = plan
        self.batches = batches
        self.rebuild = rebuild
        self.names = names

    cdef object take_named(self, tuple args, dict keywords):
        """As take, of arrays that may be given by name, too."""
        cdef list values
        cdef PyObject *value
        if len(keywords) != len(self.names):
            return None
        values = list(args)
        for name in self.names:
            value = PyDict_GetItemWithError(keywords, name)
            if value == NULL:
                return None
            values.append(<object> value)
        return self.take(tuple(values))

    cpdef object take(self, tuple args):
        """What the plan gives for these arguments, or None if it is not to be taken."""
        cdef tuple values
        if not self.watch.holds():
            return None
        values = self.plan.run_arrays(args, False, self.batches)
        if values is None:
            return None
        return values[0] if self.rebuild is None else self.rebuild(values)


cdef class Repeated:
    """Calls that take the way of the latest one while they can, and else `serve(args, keywords)`, which a class made
    of this has; it says the way for the next one by setting `latest`, or `latest_named` of calls with keywords."""
    cdef public Route latest, latest_named

    def __call__(self, tuple args, dict keywords=None):
        """What there is for positional arguments, and for those by name."""
        cdef Route route = self.latest_named if keywords else self.latest
        cdef object result
        if route is not None:
            result = route.take_named(args, keywords) if keywords else route.take(args)
            if result is not None:
                return result
        return self.serve(args, keywords)
