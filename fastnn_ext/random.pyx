"""Random numbers that follow from (seed, step, stream, position) alone: dropout, initial values.

Native ops
----------
dropout   buf: y, x, state           dim: n, inner, stream, period  scalar: p
advance   buf: state                 dim: none
philox    buf: out (uint32), state   dim: n, stream, first
uniform   buf: out, state            dim: n, stream                 scalar: low, high
normal    buf: out, state            dim: n, stream                 scalar: mean, std

`state` points to two uint64, (seed, step), read at run time; `advance` adds 1 to the step and runs
after the ops that share the state. The words are Philox4x32-10's (simd/random.inc.c says how the
counter is made up); a stream is below 2^24 and has 2^42 words.

Dropout keeps element i, and scales it by 1 / (1 - p), if word d(i) of its stream is at least
p * 2^32. d(i) = i // inner: one decision for `inner` consecutive elements; with a period > 0,
d(i) = i // (inner * period) * period + i % period: one for each channel of a sample that has `inner`
pixels of `period` channels. inner (inner * period) divides n. The gradient is the same op on dy with
the same state; y may be x.
"""
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset

from fastnn_ext cimport runtime
from fastnn_ext.arrays cimport check, check_real, data
from fastnn_ext.runtime cimport fnn_op

import math
import operator

import numpy as np


cdef extern from "simd/random.h" nogil:
    struct random_key:
        uint64_t seed, step
        uint32_t stream
    struct random_kernels:
        void (*words)(uint32_t *out, const random_key *key, int64_t first, int64_t n) noexcept nogil
        void (*uniform)(double *out, const uint32_t *words, int64_t n) noexcept nogil
        void (*normal)(double *out, const uint32_t *words, int64_t n) noexcept nogil
        void (*drop)(void *y, const void *x, const uint32_t *words, int64_t n, int64_t inner,
                     uint32_t threshold, double scale) noexcept nogil
    const random_kernels *random_table(int isa, int dtype)


# Initial values have a step of their own, which no training run reaches.
cdef uint64_t FILL_STEP = <uint64_t> 0xffffffffffffffff

cdef enum:
    CHUNK = 8192  # elements
    WORDS = 1024  # made at a time, on the stack
    NUMBERS = 512  # of two words each


cdef inline random_key key_of(const void *state, int64_t stream) noexcept nogil:
    cdef random_key key
    key.seed = (<const uint64_t *> state)[0]
    key.step = (<const uint64_t *> state)[1]
    key.stream = <uint32_t> stream
    return key


# ---- dropout --------------------------------------------------------------------------------------

# dim of "dropout"; the others are set by prepare.
cdef enum:
    N, INNER, STREAM, PERIOD
    ROW    # elements with decisions of their own, or a run of those that share one
    PARTS  # that a long row is cut into, a chunk each


cdef void prepare_dropout(fnn_op *op) noexcept nogil:
    cdef double ns = 0.6 if op.dim[INNER] > 1 else 1.0
    cdef int64_t rows
    op.kernels = random_table(op.isa, op.dtype)
    op.dim[ROW] = op.dim[PERIOD] if op.dim[PERIOD] > 0 else op.dim[INNER]
    op.dim[PARTS] = (op.dim[ROW] + 4 * CHUNK - 1) // (4 * CHUNK)
    rows = max(<int64_t> 1, CHUNK // op.dim[ROW])
    op.chunks = (op.dim[N] // op.dim[ROW] + rows - 1) // rows * op.dim[PARTS]
    op.cost = ns * op.dim[N] * (1 if op.dtype == 0 else 1.25)


cdef int run_dropout(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef const random_kernels *kernels = <const random_kernels *> op.kernels
    cdef random_key key = key_of(op.buf[2], op.dim[STREAM])
    cdef int64_t row = op.dim[ROW], rows = max(<int64_t> 1, CHUNK // row), size = 4 if op.dtype == 0 else 8
    cdef int64_t parts = op.dim[PARTS], part = chunk % parts
    cdef int64_t begin = chunk // parts * rows, end = min(begin + rows, op.dim[N] // row)
    cdef int64_t left = row * part // parts, right = row * (part + 1) // parts  # of a row
    cdef int64_t sample, sample_end, channel, first, m, r
    cdef double p = op.scalar[0], scale = 0 if p >= 1 else 1 / (1 - p)
    cdef uint32_t threshold = <uint32_t> min(p * 4294967296.0 + 0.5, 4294967295.0)
    cdef char *y = <char *> op.buf[0]
    cdef const char *x = <const char *> op.buf[1]
    cdef uint32_t words[WORDS]
    if op.dim[PERIOD] <= 0:  # a row is a run of elements with one decision
        while begin < end:
            m = min(<int64_t> WORDS, end - begin)
            first = (begin * row + left) * size
            kernels.words(words, &key, begin, m)
            kernels.drop(y + first, x + first, words, m, right - left, threshold, scale)
            begin += m
        return 0
    while begin < end:  # a row is a pixel
        sample = begin // op.dim[INNER]
        sample_end = min(end, (sample + 1) * op.dim[INNER])
        channel = left
        while channel < right:
            m = min(<int64_t> WORDS, right - channel)
            kernels.words(words, &key, sample * row + channel, m)
            for r in range(begin, sample_end):
                first = (r * row + channel) * size
                kernels.drop(y + first, x + first, words, m, 1, threshold, scale)
            channel += m
        begin = sample_end
    return 0


cdef void prepare_advance(fnn_op *op) noexcept nogil:
    op.chunks = 1
    op.cost = 1


cdef int run_advance(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    (<uint64_t *> op.buf[0])[1] += 1
    return 0


# ---- arrays of random numbers ---------------------------------------------------------------------

cdef inline void prepare_fill(fnn_op *op, double ns) noexcept nogil:
    op.kernels = random_table(op.isa, op.dtype)
    op.chunks = (op.dim[0] + CHUNK - 1) // CHUNK
    op.cost = ns * op.dim[0]


cdef void prepare_philox(fnn_op *op) noexcept nogil:
    prepare_fill(op, 0.8)


cdef void prepare_uniform(fnn_op *op) noexcept nogil:
    prepare_fill(op, 2.5)


cdef void prepare_normal(fnn_op *op) noexcept nogil:
    prepare_fill(op, 15)


cdef int run_philox(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t begin = chunk * CHUNK
    cdef random_key key = key_of(op.buf[1], op.dim[1])
    (<const random_kernels *> op.kernels).words(
        <uint32_t *> op.buf[0] + begin, &key, op.dim[2] + begin, min(<int64_t> CHUNK, op.dim[0] - begin))
    return 0


cdef inline int run_fill(const fnn_op *op, int64_t chunk, bint normal) noexcept nogil:
    """out[i] = shift + factor * number i; number i is made of the words 2 i and 2 i + 1."""
    cdef const random_kernels *kernels = <const random_kernels *> op.kernels
    cdef random_key key = key_of(op.buf[1], op.dim[1])
    cdef int64_t begin = chunk * CHUNK, end = min(begin + CHUNK, op.dim[0]), m, i
    cdef double shift = op.scalar[0], factor = op.scalar[1] if normal else op.scalar[1] - op.scalar[0]
    cdef uint32_t words[WORDS]
    cdef double numbers[NUMBERS]
    while begin < end:
        m = min(<int64_t> NUMBERS, end - begin)
        kernels.words(words, &key, 2 * begin, 2 * (m + m % 2))
        if normal:
            kernels.normal(numbers, words, m + m % 2)
        else:
            kernels.uniform(numbers, words, m)
        if op.dtype == 1:
            for i in range(m):
                (<double *> op.buf[0])[begin + i] = shift + factor * numbers[i]
        else:
            for i in range(m):
                if not normal:  # cut, not rounded: below 1
                    numbers[i] = <double> <int64_t> (numbers[i] * 16777216.0) * 5.9604644775390625e-08
                (<float *> op.buf[0])[begin + i] = <float> (shift + factor * numbers[i])
        begin += m
    return 0


cdef int run_uniform(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    return run_fill(op, chunk, False)


cdef int run_normal(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    return run_fill(op, chunk, True)


runtime.register_op("dropout", run_dropout, prepare_dropout)
runtime.register_op("advance", run_advance, prepare_advance)
runtime.register_op("philox", run_philox, prepare_philox)
runtime.register_op("uniform", run_uniform, prepare_uniform)
runtime.register_op("normal", run_normal, prepare_normal)


# ---- over NumPy arrays ----------------------------------------------------------------------------

cdef below(str name, value, object bits):
    """The int in [0, 2^bits) that `value` is."""
    if not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an int, got {type(value).__name__}")
    number = operator.index(value)
    if not 0 <= number < 1 << bits:
        raise ValueError(f"{name} must lie in 0 ... 2^{bits} - 1, got {value}")
    return number


cdef new_state(seed, step):
    return np.array([below("seed", seed, 64), below("step", step, 64)], np.uint64)


def philox(seed, step, stream, n, first=0):
    """Words of Philox4x32-10.

    Parameters
    ----------
    seed, step : int
        Below 2^64.
    stream : int
        Below 2^24.
    n : int
        How many words, from position `first` on.
    first : int, default 0

    Returns
    -------
    ndarray of uint32, shape (n,)
        Word i is word i % 4 of the block whose counter, lowest word first, is
        (i // 4 mod 2^32, i // 4 // 2^32 + 2^8 * stream, step mod 2^32, step // 2^32), under the key
        (seed mod 2^32, seed // 2^32).

    Raises
    ------
    TypeError, ValueError
        If an argument is no int, or out of its range.

    References
    ----------
    Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
    """
    cdef fnn_op op
    memset(&op, 0, sizeof(op))
    state = new_state(seed, step)
    stream, n, first = below("stream", stream, 24), below("n", n, 42), below("first", first, 42)
    below("first + n - 1", max(0, first + n - 1), 42)
    out = np.empty(n, np.uint32)
    op.buf[0], op.buf[1] = data(out), data(state)
    op.dim[0], op.dim[1], op.dim[2] = n, stream, first
    runtime.run_one("philox", &op)
    return out


def dropout(x, double p, seed, step, stream, int64_t inner=1, int64_t period=0):
    """Zeroes elements with probability p and scales the others by 1 / (1 - p).

    Parameters
    ----------
    x : ndarray of float32 or float64, any shape
    p : float
        In [0, 1].
    seed, step, stream : int
        Which random numbers: see `philox`.
    inner : int, default 1
        How many consecutive elements share a decision.
    period : int, default 0
        Where positive: `x` is made of samples of `inner` pixels of `period` channels, and a channel
        of a sample shares a decision.

    Returns
    -------
    ndarray like `x`

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit.

    References
    ----------
    Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov, "Dropout: a simple way to prevent neural
    networks from overfitting", JMLR 15, 2014; Tompson et al., "Efficient object localization using
    convolutional networks", CVPR 2015 (whole channels).
    """
    cdef fnn_op op
    memset(&op, 0, sizeof(op))
    op.dtype = check_real("x", x, None)
    state = new_state(seed, step)
    stream = below("stream", stream, 24)
    if not 0 <= p <= 1:
        raise ValueError(f"p must lie in [0, 1], got {p}")
    if inner < 1:
        raise ValueError(f"inner must be at least 1, got {inner}")
    if period < 0:
        raise ValueError(f"period must be at least 0, got {period}")
    if x.size % (int(inner) * max(1, period)):
        raise ValueError(f"x of shape {x.shape} has {x.size} elements, which inner = {inner} and "
                         f"period = {period} do not divide")
    y = np.empty_like(x)
    op.buf[0], op.buf[1], op.buf[2] = data(y), data(x), data(state)
    op.dim[N], op.dim[INNER], op.dim[STREAM], op.dim[PERIOD] = x.size, inner, stream, period
    op.scalar[0] = p
    runtime.run_one("dropout", &op)
    return y


def advance(state):
    """Adds 1 to state[1]: a step is finished.

    Parameters
    ----------
    state : ndarray of uint64, shape (2,)
        Seed and step.
    """
    cdef fnn_op op
    memset(&op, 0, sizeof(op))
    check("state", state, "uint64", (2,), True)
    op.buf[0] = data(state)
    runtime.run_one("advance", &op)


cdef fill(str name, seed, stream, n, double a, double b):
    cdef fnn_op op
    memset(&op, 0, sizeof(op))
    state = new_state(seed, FILL_STEP)
    stream, n = below("stream", stream, 24), below("n", n, 41)
    out = np.empty(n)
    op.dtype = 1
    op.buf[0], op.buf[1] = data(out), data(state)
    op.dim[0], op.dim[1] = n, stream
    op.scalar[0], op.scalar[1] = a, b
    runtime.run_one(name, &op)
    return out


def uniform(seed, stream, n, double low=0.0, double high=1.0):
    """Numbers evenly spread over [low, high), for initial values.

    The bits do not depend on the machine or its instruction set.

    Parameters
    ----------
    seed : int
        Below 2^64.
    stream : int
        Below 2^24. The numbers are those of step 2^64 - 1: none is shared with a dropout.
    n : int
    low, high : float, default 0.0, 1.0
        Rounding may give `high` itself.

    Returns
    -------
    ndarray of float64, shape (n,)
        low + (high - low) u, with u a multiple of 2^-53.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another type, or out of its range.
    """
    if not (low <= high and math.isfinite(high - low)):
        raise ValueError(f"low and high must be finite and in order, got {low} and {high}")
    return fill("uniform", seed, stream, n, low, high)


def normal(seed, stream, n, double mean=0.0, double std=1.0):
    """Normally distributed numbers, for initial values.

    The bits do not depend on the machine or its instruction set.

    Parameters
    ----------
    seed : int
        Below 2^64.
    stream : int
        Below 2^24. The numbers are those of step 2^64 - 1: none is shared with a dropout.
    n : int
    mean, std : float, default 0.0, 1.0

    Returns
    -------
    ndarray of float64, shape (n,)
        None lies further than 8.6 std from the mean.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another type, or out of its range.

    References
    ----------
    Box, Muller, "A note on the generation of random normal deviates", Ann. Math. Stat. 29, 1958.
    """
    if not (math.isfinite(mean) and 0 <= std < math.inf):
        raise ValueError(f"mean must be finite, and std too and not negative, got {mean} and {std}")
    return fill("normal", seed, stream, n, mean, std)
