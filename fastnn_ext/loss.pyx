"""Softmax, and losses with their gradients.

Native ops
----------
softmax            buf: y, x                                        dim: rows, cols, log
softmax_backward   buf: dx, dy, y                                   dim: rows, cols, log
cross_entropy      buf: row_loss, dlogits | NULL, logits, labels (int64), weight | NULL
                   dim: rows, cols, ignore_index, reduction         scalar: label_smoothing
mse, l1            buf: loss, dinput | NULL, input, target          dim: n, reduction
smooth_l1, huber   the same                                         scalar: beta or delta
bce_with_logits    buf: loss, dinput | NULL, input, target, weight | NULL, pos_weight | NULL
                   dim: n, reduction, cols
finite             buf: loss                                        stops the program if it is NaN or infinite

reduction: 0 none, 1 mean, 2 sum; an index into REDUCTIONS.

cross_entropy writes one loss a row; where the reduction is a mean, each is divided already by the
number of rows that are not ignored (by the sum of their labels' weights), so that the plain sum of
row_loss is the loss, and dlogits its gradient. With `none`, dlogits is each row's own gradient.

A row that takes longer than a chunk may (some 300,000 columns) is cut into parts: a round finds each part's
largest value, one its sum of exponentials, and one writes the result.

The other losses write PIECES numbers whose plain sum is the loss (a mean is divided already); with
`none`, n numbers. Piece p covers the elements from p * size on, where size is ceil(n / PIECES),
rounded up to a multiple of 256; pieces past the end are 0. weight has n elements; pos_weight has
cols, and its index is i % cols. dinput is the gradient of the reduced loss for the input.

Labels are trusted: the caller has checked that each is a column or ignore_index.
"""
from libc.math cimport NAN, isfinite
from libc.stdint cimport int64_t
from libc.string cimport memset

from fastnn_ext cimport runtime
from fastnn_ext.arrays cimport check, check_real, data
from fastnn_ext.runtime cimport FNN_MOST_NS, fnn_op, short_parts

import numpy as np


cdef extern from "simd/loss.h" nogil:
    ctypedef struct cross_entropy_t "struct cross_entropy":
        int64_t cols, ignore_index
        double scale, smoothing, ignored, weight_sum
    ctypedef double (*loss_elementwise)(void *loss, void *dinput, const void *input, const void *target,
                                        int64_t n, double scale, double param) noexcept nogil
    struct loss_kernels:
        void (*softmax)(void *y, const void *x, int64_t rows, int64_t cols, int log) noexcept nogil
        void (*softmax_backward)(void *dx, const void *dy, const void *y, int64_t rows, int64_t cols,
                                 int log) noexcept nogil
        void (*cross_entropy)(void *loss, void *dlogits, const void *logits, const int64_t *labels,
                              const void *weight, int64_t rows, const cross_entropy_t *c) noexcept nogil
        double (*row_max)(const void *x, int64_t n) noexcept nogil
        double (*row_exp)(void *y, const void *x, int64_t n, double max) noexcept nogil
        double (*row_weighted)(const void *x, const void *weight, int64_t n, double max) noexcept nogil
        void (*row_map)(void *y, const void *x, const void *weight, int64_t n, double shift, double factor,
                        double less) noexcept nogil
        double (*row_dot)(const void *dy, const void *y, int64_t n, int log) noexcept nogil
        void (*row_back)(void *dx, const void *dy, const void *y, int64_t n, double sum, int log) noexcept nogil
        double (*log_of)(double x) noexcept nogil
        double (*label_weight)(const int64_t *labels, const void *weight, int64_t rows,
                               int64_t ignore_index) noexcept nogil
        double (*sum)(const void *x, int64_t n) noexcept nogil
        loss_elementwise mse, l1, smooth_l1, huber
        double (*bce_with_logits)(void *loss, void *dinput, const void *input, const void *target,
                                  const void *weight, const void *pos_weight, int64_t n, int64_t first,
                                  int64_t cols, double scale) noexcept nogil
    const loss_kernels *loss_table(int isa, int dtype)


PIECES = 64
REDUCTIONS = ("none", "mean", "sum")

cdef enum: NONE, MEAN, SUM
cdef enum:
    N_PIECES = 64
    PIECE_STEP = 256
    CHUNK = 4096  # elements
    ROW_STEP = 16  # a multiple of every vector's width
    # Every chunk of a mean counts all labels for itself, if they are few, which is cheaper than a round that counts
    # them once; so there are not many chunks.
    MAX_CHUNKS = 32
    FEW_LABELS = 1 << 17


cdef inline void *at(const fnn_op *op, int k, int64_t element) noexcept nogil:
    return NULL if op.buf[k] == NULL else <char *> op.buf[k] + element * (4 if op.dtype == 0 else 8)


cdef inline int64_t ceil_div(int64_t a, int64_t b) noexcept nogil:
    return (a + b - 1) // b


# ---- softmax and cross-entropy, by rows -----------------------------------------------------------

# dim; CHUNK_ROWS and PARTS are set by prepare. A long row is worked on in PARTS, which hand on what they have found from
# round to round in op.common: (rows, PARTS, VALUES) doubles.
cdef enum: ROWS, COLS, LOG, CHUNK_ROWS = 4, PARTS, IGNORE = 2, ROW_REDUCTION = 3
cdef enum: LARGEST, TOTAL, WEIGHTED, WEIGHTS, OWN, VALUES


cdef inline void cut_rows(fnn_op *op, int64_t max_chunks, double ns, int64_t rounds) noexcept nogil:
    cdef int64_t rows = op.dim[ROWS], n = rows * op.dim[COLS]
    cdef int64_t chunks, step = ROW_STEP if op.dim[COLS] * ROW_STEP <= CHUNK else 1
    if op.dtype == 1:
        ns *= 2.5
    op.kernels = loss_table(op.isa, op.dtype)
    op.cost = ns * n + 10.0 * rows * (1 if op.dtype == 0 else 2.5)
    op.dim[PARTS] = 1
    if ns * op.dim[COLS] > FNN_MOST_NS:
        op.dim[PARTS] = short_parts(4 * ns * op.dim[COLS])
        op.dim[CHUNK_ROWS] = 1
        op.chunks = rows * op.dim[PARTS]
        op.rounds = rounds
        op.shared = op.chunks * VALUES * sizeof(double)
        return
    chunks = max(<int64_t> 1, min(max(max_chunks, short_parts(op.cost)), ceil_div(n, CHUNK)))
    op.dim[CHUNK_ROWS] = max(step, ceil_div(ceil_div(rows, chunks), step) * step)
    op.chunks = ceil_div(rows, op.dim[CHUNK_ROWS])


cdef struct part_of_row:
    int64_t row, begin, n  # columns
    double *mine           # what this part found
    double *first          # what the row's parts found, one behind the other


cdef part_of_row part_of(const fnn_op *op, int64_t chunk) noexcept nogil:
    cdef int64_t cols = op.dim[COLS], parts = op.dim[PARTS], part = chunk % parts
    cdef part_of_row p
    p.row = chunk // parts
    p.begin = cols * part // parts
    p.n = cols * (part + 1) // parts - p.begin
    p.mine = <double *> op.common + chunk * VALUES
    p.first = p.mine - part * VALUES
    return p


cdef double total_of(const fnn_op *op, const part_of_row *p, int value) noexcept nogil:
    """Of what the parts of a row found: the sum, or the largest, NaN if any is."""
    cdef double result = p.first[value], v
    cdef int64_t i
    for i in range(1, op.dim[PARTS]):
        v = p.first[i * VALUES + value]
        if value != LARGEST:
            result += v
        elif v > result or v != v:
            result = v
    return result


cdef void prepare_softmax(fnn_op *op) noexcept nogil:
    cut_rows(op, op.dim[ROWS], 1.5, 3)


cdef void prepare_softmax_backward(fnn_op *op) noexcept nogil:
    cut_rows(op, op.dim[ROWS], 1.5, 2)


cdef void prepare_cross_entropy(fnn_op *op) noexcept nogil:
    # With label smoothing, each chunk adds up the classes' weights, too.
    cut_rows(op, MAX_CHUNKS, 1.8 if op.buf[4] == NULL or op.scalar[0] == 0 else 3, 3)
    if op.dim[PARTS] == 1 and op.dim[ROW_REDUCTION] == MEAN and op.dim[ROWS] > FEW_LABELS:
        op.rounds = 2
        op.shared = op.chunks * sizeof(double)


cdef int run_long_softmax(const fnn_op *op, int64_t chunk) noexcept nogil:
    cdef const loss_kernels *kernels = <const loss_kernels *> op.kernels
    cdef part_of_row p = part_of(op, chunk % op.chunks)
    cdef void *y = at(op, 0, p.row * op.dim[COLS] + p.begin)
    cdef void *x = at(op, 1, p.row * op.dim[COLS] + p.begin)
    cdef bint log = op.dim[LOG] != 0
    if chunk < op.chunks:
        p.mine[LARGEST] = kernels.row_max(x, p.n)
    elif chunk < 2 * op.chunks:
        p.mine[TOTAL] = kernels.row_exp(NULL if log else y, x, p.n, total_of(op, &p, LARGEST))
    elif log:
        kernels.row_map(y, x, NULL, p.n, total_of(op, &p, LARGEST), 1, kernels.log_of(total_of(op, &p, TOTAL)))
    else:
        kernels.row_map(y, y, NULL, p.n, 0, 1 / total_of(op, &p, TOTAL), 0)
    return 0


cdef int run_softmax(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t begin = chunk * op.dim[CHUNK_ROWS], cols = op.dim[COLS]
    cdef int64_t rows = min(op.dim[CHUNK_ROWS], op.dim[ROWS] - begin)
    if op.dim[PARTS] > 1:
        return run_long_softmax(op, chunk)
    (<const loss_kernels *> op.kernels).softmax(
        at(op, 0, begin * cols), at(op, 1, begin * cols), rows, cols, op.dim[LOG] != 0)
    return 0


cdef int run_softmax_backward(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef const loss_kernels *kernels = <const loss_kernels *> op.kernels
    cdef int64_t begin = chunk % op.chunks * op.dim[CHUNK_ROWS] * op.dim[COLS]
    cdef int64_t rows = min(op.dim[CHUNK_ROWS], op.dim[ROWS] - chunk * op.dim[CHUNK_ROWS])
    cdef part_of_row p
    if op.dim[PARTS] == 1:
        kernels.softmax_backward(at(op, 0, begin), at(op, 1, begin), at(op, 2, begin), rows, op.dim[COLS],
                                 op.dim[LOG] != 0)
        return 0
    p = part_of(op, chunk % op.chunks)
    begin = p.row * op.dim[COLS] + p.begin
    if chunk < op.chunks:
        p.mine[TOTAL] = kernels.row_dot(at(op, 1, begin), at(op, 2, begin), p.n, op.dim[LOG] != 0)
    else:
        kernels.row_back(at(op, 0, begin), at(op, 1, begin), at(op, 2, begin), p.n, total_of(op, &p, TOTAL),
                         op.dim[LOG] != 0)
    return 0


cdef inline double get(const fnn_op *op, int k, int64_t i) noexcept nogil:
    return (<float *> op.buf[k])[i] if op.dtype == 0 else (<double *> op.buf[k])[i]


cdef inline void put(const fnn_op *op, int k, int64_t i, double value) noexcept nogil:
    if op.dtype == 0:
        (<float *> op.buf[k])[i] = <float> value
    else:
        (<double *> op.buf[k])[i] = value


cdef int run_long_cross_entropy(const fnn_op *op, int64_t chunk, const cross_entropy_t *c) noexcept nogil:
    """As the kernel works on a row of more than a few columns."""
    cdef const loss_kernels *kernels = <const loss_kernels *> op.kernels
    cdef part_of_row p = part_of(op, chunk % op.chunks)
    cdef int64_t place = p.row * c.cols + p.begin, label = (<const int64_t *> op.buf[3])[p.row]
    cdef bint holds = p.begin <= label < p.begin + p.n
    cdef const void *x = at(op, 2, place)
    cdef void *dx = at(op, 1, place)
    cdef void *weight = at(op, 4, p.begin)
    cdef double a, b, largest, log_sum, weights, value
    if chunk < op.chunks:
        p.mine[LARGEST] = kernels.row_max(x, p.n)
        p.mine[WEIGHTS] = p.n if weight == NULL or c.smoothing == 0 else kernels.sum(weight, p.n)
        return 0
    largest = total_of(op, &p, LARGEST)
    if chunk < 2 * op.chunks:
        p.mine[OWN] = get(op, 2, place - p.begin + label) - largest if holds else 0
        p.mine[WEIGHTED] = 0 if c.smoothing == 0 else kernels.row_weighted(x, weight, p.n, largest)
        p.mine[TOTAL] = kernels.row_exp(dx, x, p.n, largest)
        return 0
    if label == c.ignore_index:
        if p.begin == 0:
            put(op, 0, p.row, c.ignored)
        if dx != NULL:
            memset(dx, 0, p.n * (4 if op.dtype == 0 else 8))
        return 0
    a = (1 - c.smoothing) * c.scale * (1 if weight == NULL else get(op, 4, label))
    b = 0 if c.smoothing == 0 else c.smoothing / c.cols * c.scale
    weights = total_of(op, &p, WEIGHTS)
    if p.begin == 0:
        log_sum = kernels.log_of(total_of(op, &p, TOTAL))
        value = a * (log_sum - total_of(op, &p, OWN))
        if c.smoothing != 0:
            value += b * (weights * log_sum - total_of(op, &p, WEIGHTED))
        put(op, 0, p.row, value)
    if dx != NULL:
        kernels.row_map(dx, dx, NULL if c.smoothing == 0 else weight, p.n, 0,
                        (a + b * weights if c.smoothing != 0 else a) / total_of(op, &p, TOTAL), b)
        if holds:
            put(op, 1, p.row * c.cols + label, get(op, 1, p.row * c.cols + label) - a)
    return 0


cdef int run_cross_entropy(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef const loss_kernels *kernels = <const loss_kernels *> op.kernels
    cdef int64_t begin = chunk % op.chunks * op.dim[CHUNK_ROWS], cols = op.dim[COLS], i
    cdef int64_t rows = min(op.dim[CHUNK_ROWS], op.dim[ROWS] - begin)
    cdef const int64_t *labels = <const int64_t *> op.buf[3]
    cdef double denominator = 0
    cdef cross_entropy_t c
    c.cols, c.ignore_index = cols, op.dim[IGNORE]
    c.smoothing, c.scale, c.ignored = op.scalar[0], 1, 0
    if op.rounds == 2 and chunk < op.chunks:
        (<double *> op.common)[chunk] = kernels.label_weight(labels + begin, op.buf[4], rows, c.ignore_index)
        return 0
    if op.dim[ROW_REDUCTION] == MEAN:
        if op.rounds == 2:
            for i in range(op.chunks):
                denominator += (<double *> op.common)[i]
        else:
            denominator = kernels.label_weight(labels, op.buf[4], op.dim[ROWS], c.ignore_index)
        c.scale = 1 / denominator
        if denominator == 0:
            c.ignored = NAN
    if op.dim[PARTS] > 1:
        return run_long_cross_entropy(op, chunk, &c)
    c.weight_sum = cols if op.buf[4] == NULL or c.smoothing == 0 else kernels.sum(op.buf[4], cols)
    kernels.cross_entropy(at(op, 0, begin), at(op, 1, begin * cols), at(op, 2, begin * cols), labels + begin,
                          op.buf[4], rows, &c)
    return 0


runtime.register_op("softmax", run_softmax, prepare_softmax, "y", "x", "rows cols log")
runtime.register_op("softmax_backward", run_softmax_backward, prepare_softmax_backward, "dx", "dy y", "rows cols log")
runtime.register_op("cross_entropy", run_cross_entropy, prepare_cross_entropy,
                    "row_loss dlogits?", "logits labels weight?", "rows cols ignore_index reduction", "smoothing")


# ---- losses by elements ---------------------------------------------------------------------------

# dim; PIECE and CHUNK_PIECES are set by prepare. Long pieces are summed in several rounds, in op.common.
cdef enum: N, REDUCTION, PERIOD, PIECE, CHUNK_PIECES


cdef inline void cut_pieces(fnn_op *op, double ns) noexcept nogil:
    op.dim[PIECE] = max(<int64_t> 1, ceil_div(op.dim[N], N_PIECES * PIECE_STEP)) * PIECE_STEP
    op.dim[CHUNK_PIECES] = max(<int64_t> 1, CHUNK // op.dim[PIECE])
    # The pieces past the end belong to the last chunk.
    op.chunks = max(<int64_t> 1, ceil_div(op.dim[N], op.dim[PIECE] * op.dim[CHUNK_PIECES]))
    op.cost = ns * op.dim[N] * (1 if op.dtype == 0 else 2)
    op.rounds = short_parts(op.cost / op.chunks)
    if op.rounds > 1:
        op.shared = N_PIECES * sizeof(double)


cdef inline double scale_of(const fnn_op *op) noexcept nogil:
    return 1.0 / op.dim[N] if op.dim[REDUCTION] == MEAN else 1.0


cdef struct stretch:  # of a piece's elements, in a round
    int64_t begin, n


cdef stretch stretch_of(const fnn_op *op, int64_t piece, int64_t round) noexcept nogil:
    cdef int64_t steps = op.dim[PIECE] // PIECE_STEP
    cdef stretch s
    s.begin = min(piece * op.dim[PIECE] + steps * round // op.rounds * PIECE_STEP, op.dim[N])
    s.n = min(piece * op.dim[PIECE] + steps * (round + 1) // op.rounds * PIECE_STEP, op.dim[N]) - s.begin
    return s


cdef inline void add_stretch(const fnn_op *op, int64_t piece, int64_t round, double total) noexcept nogil:
    cdef double *sums = <double *> op.common
    if op.dim[REDUCTION] == NONE:
        return
    if round > 0:
        total += sums[piece]
    if round < op.rounds - 1:
        sums[piece] = total
    else:
        put(op, 0, piece, total * scale_of(op))


# The kernels of a difference have one signature: op.kernels is the kernel itself.
cdef void prepare_mse(fnn_op *op) noexcept nogil:
    cut_pieces(op, 0.4)
    op.kernels = <const void *> loss_table(op.isa, op.dtype).mse


cdef void prepare_l1(fnn_op *op) noexcept nogil:
    cut_pieces(op, 0.4)
    op.kernels = <const void *> loss_table(op.isa, op.dtype).l1


cdef void prepare_smooth_l1(fnn_op *op) noexcept nogil:
    cut_pieces(op, 0.5)
    op.kernels = <const void *> loss_table(op.isa, op.dtype).smooth_l1


cdef void prepare_huber(fnn_op *op) noexcept nogil:
    cut_pieces(op, 0.5)
    op.kernels = <const void *> loss_table(op.isa, op.dtype).huber


cdef void prepare_bce(fnn_op *op) noexcept nogil:
    cut_pieces(op, 5 if op.isa == 0 else 2.5)
    op.kernels = loss_table(op.isa, op.dtype)


cdef int64_t end_piece(const fnn_op *op, int64_t chunk) noexcept nogil:
    return N_PIECES if chunk == op.chunks - 1 else (chunk + 1) * op.dim[CHUNK_PIECES]


cdef int run_difference(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t piece, round = chunk // op.chunks
    cdef stretch s
    chunk = chunk % op.chunks
    for piece in range(chunk * op.dim[CHUNK_PIECES], end_piece(op, chunk)):
        s = stretch_of(op, piece, round)
        add_stretch(op, piece, round, (<loss_elementwise> op.kernels)(
            at(op, 0, s.begin) if op.dim[REDUCTION] == NONE else NULL, at(op, 1, s.begin), at(op, 2, s.begin),
            at(op, 3, s.begin), s.n, scale_of(op), op.scalar[0]))
    return 0


cdef int run_bce(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t piece, round = chunk // op.chunks
    cdef stretch s
    chunk = chunk % op.chunks
    for piece in range(chunk * op.dim[CHUNK_PIECES], end_piece(op, chunk)):
        s = stretch_of(op, piece, round)
        add_stretch(op, piece, round, (<const loss_kernels *> op.kernels).bce_with_logits(
            at(op, 0, s.begin) if op.dim[REDUCTION] == NONE else NULL, at(op, 1, s.begin), at(op, 2, s.begin),
            at(op, 3, s.begin), at(op, 4, s.begin), op.buf[5], s.n, s.begin, op.dim[PERIOD], scale_of(op)))
    return 0


runtime.register_op("mse", run_difference, prepare_mse, "loss dinput?", "input target", "n reduction")
runtime.register_op("l1", run_difference, prepare_l1, "loss dinput?", "input target", "n reduction")
runtime.register_op("smooth_l1", run_difference, prepare_smooth_l1,
                    "loss dinput?", "input target", "n reduction", "beta")
runtime.register_op("huber", run_difference, prepare_huber, "loss dinput?", "input target", "n reduction", "delta")
runtime.register_op("bce_with_logits", run_bce, prepare_bce,
                    "loss dinput?", "input target weight? pos_weight?", "n reduction cols")


# ---- a loss that can be trained on ----------------------------------------------------------------

cdef void prepare_finite(fnn_op *op) noexcept nogil:
    op.chunks = 1
    op.cost = 1


cdef int run_finite(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    return 0 if isfinite((<float *> op.buf[0])[0] if op.dtype == 0 else (<double *> op.buf[0])[0]) else -1


runtime.register_op("finite", run_finite, prepare_finite, "", "loss")


# ---- over NumPy arrays ----------------------------------------------------------------------------

cdef int reduction_of(reduction) except -1:
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}")
    return REDUCTIONS.index(reduction)


cdef int rows_of(fnn_op *op, str name, x) except -1:
    memset(op, 0, sizeof(op[0]))
    op.dtype = check_real(name, x, None)
    cols = x.shape[x.ndim - 1] if x.ndim > 0 else 0
    if cols < 1:
        raise ValueError(f"{name} must have at least one column, got shape {x.shape}")
    op.dim[ROWS], op.dim[COLS] = x.size // cols, cols
    return 0


def softmax(x, bint log=False):
    """Softmax, or its logarithm, over the last axis.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (..., cols)
    log : bool, default False

    Returns
    -------
    ndarray like `x`
        exp(x) / sum(exp(x)); NaN in a row with NaN or +Inf, and in one of nothing but -Inf.

    Raises
    ------
    TypeError, ValueError
        If `x` is no contiguous array of these dtypes, or has no columns.
    """
    cdef fnn_op op
    rows_of(&op, "x", x)
    y = np.empty_like(x)
    op.buf[0], op.buf[1] = data(y), data(x)
    op.dim[LOG] = log
    runtime.run_one("softmax", &op)
    return y


def softmax_backward(dy, y, bint log=False):
    """The gradient of `softmax` for its input.

    Parameters
    ----------
    dy : ndarray of float32 or float64, shape (..., cols)
        The gradient for the output.
    y : ndarray like `dy`
        The output.
    log : bool, default False

    Returns
    -------
    ndarray like `dy`

    Raises
    ------
    TypeError, ValueError
        If the arrays do not fit.
    """
    cdef fnn_op op
    rows_of(&op, "dy", dy)
    check("y", y, dy.dtype, dy.shape)
    dx = np.empty_like(dy)
    op.buf[0], op.buf[1], op.buf[2] = data(dx), data(dy), data(y)
    op.dim[LOG] = log
    runtime.run_one("softmax_backward", &op)
    return dx


def cross_entropy(logits, labels, weight=None, int64_t ignore_index=-100, reduction="mean",
                  double label_smoothing=0.0, bint gradient=True):
    """Softmax cross-entropy of class labels, as torch.nn.functional.cross_entropy.

    Parameters
    ----------
    logits : ndarray of float32 or float64, shape (rows, cols)
    labels : ndarray of int64, shape (rows,)
        Columns, or `ignore_index`.
    weight : ndarray like `logits`, shape (cols,), optional
        Of each class.
    ignore_index : int, default -100
        Rows with this label have no loss and no gradient.
    reduction : {"none", "mean", "sum"}, default "mean"
        A mean is weighted with the labels' weights.
    label_smoothing : float, default 0.0
        In [0, 1].
    gradient : bool, default True

    Returns
    -------
    row_loss : ndarray, shape (rows,)
        With "mean" and "sum" its sum is the loss.
    dlogits : ndarray like `logits`, or None
        The gradient of the loss; with "none", of each row's loss.

    Raises
    ------
    TypeError, ValueError
        If the arrays do not fit, or a label is neither a column nor `ignore_index`.
    """
    cdef fnn_op op
    rows_of(&op, "logits", logits)
    if logits.ndim != 2:
        raise ValueError(f"logits must have shape (rows, cols), got {logits.shape}")
    rows, cols = logits.shape
    check("labels", labels, "int64", (rows,))
    wrong = np.flatnonzero(((labels < 0) | (labels >= cols)) & (labels != ignore_index))
    if wrong.size:
        raise ValueError(f"labels[{wrong[0]}] is {labels[wrong[0]]}; it must lie in 0 ... {cols - 1} "
                         f"or be the ignore_index {ignore_index}")
    if weight is not None:
        check("weight", weight, logits.dtype, (cols,))
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must lie in [0, 1], got {label_smoothing}")
    op.dim[IGNORE], op.dim[ROW_REDUCTION] = ignore_index, reduction_of(reduction)
    op.scalar[0] = label_smoothing
    row_loss = np.empty(rows, logits.dtype)
    dlogits = np.empty_like(logits) if gradient else None
    op.buf[0], op.buf[1], op.buf[2] = data(row_loss), data(dlogits), data(logits)
    op.buf[3], op.buf[4] = data(labels), data(weight)
    runtime.run_one("cross_entropy", &op)
    return row_loss, dlogits


cdef tuple elementwise(str name, fnn_op *op, input, target, reduction, bint gradient):
    """Runs the op and returns (loss, dinput or None)."""
    op.dtype = check_real("input", input, None)
    check("target", target, input.dtype, input.shape)
    op.dim[N], op.dim[REDUCTION] = input.size, reduction_of(reduction)
    loss = np.empty(input.shape if op.dim[REDUCTION] == NONE else (PIECES,), input.dtype)
    dinput = np.empty_like(input) if gradient else None
    op.buf[0], op.buf[1], op.buf[2], op.buf[3] = data(loss), data(dinput), data(input), data(target)
    runtime.run_one(name, op)
    return loss, dinput


def mse(input, target, reduction="mean", bint gradient=True):
    """Squared error (input - target)^2.

    Parameters
    ----------
    input : ndarray of float32 or float64, any shape
    target : ndarray like `input`
    reduction : {"none", "mean", "sum"}, default "mean"
    gradient : bool, default True

    Returns
    -------
    loss : ndarray, shape (PIECES,), or that of `input` with "none"
        With "mean" and "sum" its sum is the loss.
    dinput : ndarray like `input`, or None
        The gradient of the loss for the input.

    Raises
    ------
    TypeError, ValueError
        If the arrays do not fit.
    """
    cdef fnn_op op
    memset(&op, 0, sizeof(op))
    return elementwise("mse", &op, input, target, reduction, gradient)


def l1(input, target, reduction="mean", bint gradient=True):
    """Absolute error |input - target|; arguments and results as for `mse`."""
    cdef fnn_op op
    memset(&op, 0, sizeof(op))
    return elementwise("l1", &op, input, target, reduction, gradient)


def smooth_l1(input, target, double beta=1.0, reduction="mean", bint gradient=True):
    """With d = |input - target|: d^2 / (2 beta) below beta, d - beta / 2 from there on.

    Arguments and results as for `mse`, and beta >= 0.

    References
    ----------
    Girshick, "Fast R-CNN", ICCV 2015, eq. 3.
    """
    cdef fnn_op op
    memset(&op, 0, sizeof(op))
    if not beta >= 0:
        raise ValueError(f"beta must not be negative, got {beta}")
    op.scalar[0] = beta
    return elementwise("smooth_l1", &op, input, target, reduction, gradient)


def huber(input, target, double delta=1.0, reduction="mean", bint gradient=True):
    """With d = |input - target|: d^2 / 2 up to delta, delta (d - delta / 2) from there on.

    Arguments and results as for `mse`, and delta > 0.

    References
    ----------
    Huber, "Robust estimation of a location parameter", Ann. Math. Stat. 35, 1964.
    """
    cdef fnn_op op
    memset(&op, 0, sizeof(op))
    if not delta > 0:
        raise ValueError(f"delta must be positive, got {delta}")
    op.scalar[0] = delta
    return elementwise("huber", &op, input, target, reduction, gradient)


def bce_with_logits(input, target, weight=None, pos_weight=None, reduction="mean", bint gradient=True):
    """Binary cross-entropy of sigmoid(input), as torch.nn.functional.binary_cross_entropy_with_logits.

    Parameters
    ----------
    input : ndarray of float32 or float64, any shape
    target : ndarray like `input`
        Probabilities.
    weight : ndarray like `input`, optional
        Of each element. A mean divides by the number of elements all the same.
    pos_weight : ndarray like `input`, shape (cols,), optional
        Of the positive class, along the last axis of `input`.
    reduction : {"none", "mean", "sum"}, default "mean"
    gradient : bool, default True

    Returns
    -------
    loss : ndarray, shape (PIECES,), or that of `input` with "none"
        With "mean" and "sum" its sum is the loss.
    dinput : ndarray like `input`, or None
        The gradient of the loss for the input.

    Raises
    ------
    TypeError, ValueError
        If the arrays do not fit.
    """
    cdef fnn_op op
    memset(&op, 0, sizeof(op))
    check_real("input", input, None)
    cols = input.shape[input.ndim - 1] if input.ndim > 0 else 1
    if weight is not None:
        check("weight", weight, input.dtype, input.shape)
    if pos_weight is not None:
        check("pos_weight", pos_weight, input.dtype, (cols,))
    op.buf[4], op.buf[5] = data(weight), data(pos_weight)
    op.dim[PERIOD] = cols
    return elementwise("bce_with_logits", &op, input, target, reduction, gradient)
