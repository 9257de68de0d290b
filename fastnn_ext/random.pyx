"""Random numbers that follow from (seed, step, stream, position) alone: dropout, and arrays of numbers.

`state` is a pair of uint64, (seed, step), read at run time; `advance` adds 1 to the step and runs after the ops that
share the state. The words are Philox4x32-10's (simd/random.inc.c says how the counter is made up); a stream is below
2^24 and has 2^42 words.

dropout: keeps element i of n, and scales it by 1 / (1 - p), if word d(i) of its stream is at least p * 2^32; else it is
times 0. d(i) = i // inner: one decision for `inner` elements one behind the other; with a period > 0,
d(i) = i // (inner * period) * period + i % period: one for each channel of a sample that has `inner` pixels of
`period` channels. inner (inner * period) divides n. The gradient is the same op on dy with the same state; y may be x.
philox: n words themselves, uint32, from word `first` on, for tests of known answers.
uniform: n numbers evenly spread over [0, 1): multiples of 2^-53, or of 2^-24 in float32. Number i is made of the
words 2 i and 2 i + 1.
normal: n numbers of mean 0 and variance 1, none further than 8.6 from 0 (Box and Muller, 1958): two are made of four
words. Neither these nor the uniform ones depend on the instruction set.
"""
from libc.stdint cimport int64_t, uint32_t, uint64_t

from fastnn_ext cimport runtime
from fastnn_ext.driver cimport at, ceil_div
from fastnn_ext.runtime cimport fnn_op


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


cdef struct generator:  # what `state` points to
    uint64_t seed, step


# Places in fnn_op.buf: of what draws; of advance.
cdef enum: OUT, STATE, X
cdef enum: ADVANCED
# Places in fnn_op.dim: of dropout, of which all have the first two; of philox.
cdef enum:
    N, STREAM, INNER, PERIOD
    # set by prepare:
    ROW    # elements with decisions of their own, or a run of those that share one
    PARTS  # that a long row is cut into, a chunk each
cdef enum: FIRST = 2
# Place in fnn_op.scalar.
cdef enum: P

cdef enum:
    CHUNK = 8192  # elements
    WORDS = 1024  # made at a time, on the stack
    NUMBERS = 512  # of two words each
    FLOAT_STEPS = 16777216  # 2^24: float32 holds their multiples in [0, 1)
cdef double WORD_RANGE = 4294967296.0  # words are below 2^32


cdef inline random_key key_of(const fnn_op *op) noexcept nogil:
    cdef const generator *state = <const generator *> op.buf[STATE]
    cdef random_key key
    key.seed, key.step, key.stream = state.seed, state.step, <uint32_t> op.dim[STREAM]
    return key


# ---- dropout --------------------------------------------------------------------------------------

cdef void prepare_dropout(fnn_op *op) noexcept nogil:
    cdef double ns = 0.6 if op.dim[INNER] > 1 else 1.0  # an element, with its share of a decision
    cdef int64_t rows
    op.kernels = random_table(op.isa, op.dtype)
    op.dim[ROW] = op.dim[PERIOD] if op.dim[PERIOD] > 0 else op.dim[INNER]
    op.dim[PARTS] = ceil_div(op.dim[ROW], 4 * CHUNK)
    rows = max(<int64_t> 1, CHUNK // op.dim[ROW])
    op.chunks = ceil_div(op.dim[N] // op.dim[ROW], rows) * op.dim[PARTS]
    op.cost = ns * op.dim[N] * (1 if op.dtype == 0 else 1.25)


cdef int run_dropout(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef const random_kernels *kernels = <const random_kernels *> op.kernels
    cdef random_key key = key_of(op)
    cdef int64_t row = op.dim[ROW], rows = max(<int64_t> 1, CHUNK // row)
    cdef int64_t parts = op.dim[PARTS], part = chunk % parts
    cdef int64_t begin = chunk // parts * rows, end = min(begin + rows, op.dim[N] // row)
    cdef int64_t left = row * part // parts, right = row * (part + 1) // parts  # of a row
    cdef int64_t sample, sample_end, channel, first, m, r
    cdef double p = op.scalar[P], scale = 0 if p >= 1 else 1 / (1 - p)
    cdef uint32_t threshold = <uint32_t> min(p * WORD_RANGE + 0.5, WORD_RANGE - 1)
    cdef uint32_t words[WORDS]
    if op.dim[PERIOD] <= 0:  # a row is a run of elements with one decision
        while begin < end:
            m = min(<int64_t> WORDS, end - begin)
            kernels.words(words, &key, begin, m)
            first = begin * row + left
            kernels.drop(at(op, OUT, first), at(op, X, first), words, m, right - left, threshold, scale)
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
                first = r * row + channel
                kernels.drop(at(op, OUT, first), at(op, X, first), words, m, 1, threshold, scale)
            channel += m
        begin = sample_end
    return 0


cdef void prepare_advance(fnn_op *op) noexcept nogil:
    op.chunks = 1
    op.cost = 1


cdef int run_advance(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    (<generator *> op.buf[ADVANCED]).step += 1
    return 0


# ---- arrays of random numbers ---------------------------------------------------------------------

cdef inline void cut(fnn_op *op, double ns) noexcept nogil:
    """Chunks of CHUNK elements, which take ns each."""
    op.kernels = random_table(op.isa, op.dtype)
    op.chunks = ceil_div(op.dim[N], CHUNK)
    op.cost = ns * op.dim[N]


cdef void prepare_philox(fnn_op *op) noexcept nogil:
    cut(op, 0.8)


cdef void prepare_uniform(fnn_op *op) noexcept nogil:
    cut(op, 2.5)


cdef void prepare_normal(fnn_op *op) noexcept nogil:
    cut(op, 15)


cdef int run_philox(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t begin = chunk * CHUNK
    cdef random_key key = key_of(op)
    (<const random_kernels *> op.kernels).words(
        <uint32_t *> op.buf[OUT] + begin, &key, op.dim[FIRST] + begin, min(<int64_t> CHUNK, op.dim[N] - begin))
    return 0


cdef inline int run_numbers(const fnn_op *op, int64_t chunk, bint normal) noexcept nogil:
    cdef const random_kernels *kernels = <const random_kernels *> op.kernels
    cdef random_key key = key_of(op)
    cdef int64_t begin = chunk * CHUNK, end = min(begin + CHUNK, op.dim[N]), m, i
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
                (<double *> op.buf[OUT])[begin + i] = numbers[i]
        elif normal:
            for i in range(m):
                (<float *> op.buf[OUT])[begin + i] = <float> numbers[i]
        else:
            for i in range(m):  # cut, not rounded: below 1
                (<float *> op.buf[OUT])[begin + i] = <float> (<int64_t> (numbers[i] * FLOAT_STEPS)) / FLOAT_STEPS
        begin += m
    return 0


cdef int run_uniform(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    return run_numbers(op, chunk, False)


cdef int run_normal(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    return run_numbers(op, chunk, True)


runtime.register_op("dropout", run_dropout, prepare_dropout, "y", "state *x", "n stream inner period", "p")
runtime.register_op("advance", run_advance, prepare_advance, "state", "")
runtime.register_op("philox", run_philox, prepare_philox, "out", "state", "n stream first")
runtime.register_op("uniform", run_uniform, prepare_uniform, "out", "state", "n stream")
runtime.register_op("normal", run_normal, prepare_normal, "out", "state", "n stream")
