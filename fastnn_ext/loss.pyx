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
from fastnn_ext.runtime cimport fnn_op

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
    # Every chunk of a mean counts all labels for itself, which is cheaper than a phase that counts
    # them once; so there are not many chunks.
    MAX_CHUNKS = 32


cdef inline void *at(const fnn_op *op, int k, int64_t element) noexcept nogil:
    return NULL if op.buf[k] == NULL else <char *> op.buf[k] + element * (4 if op.dtype == 0 else 8)


cdef inline int64_t ceil_div(int64_t a, int64_t b) noexcept nogil:
    return (a + b - 1) // b


# ---- softmax and cross-entropy, by rows -----------------------------------------------------------

# dim; CHUNK_ROWS is set by prepare.
cdef enum: ROWS, COLS, LOG, CHUNK_ROWS = 4, IGNORE = 2, ROW_REDUCTION = 3


cdef inline void cut_rows(fnn_op *op, int64_t max_chunks, double ns) noexcept nogil:
    cdef int64_t rows = op.dim[ROWS], n = rows * op.dim[COLS]
    cdef int64_t chunks = max(<int64_t> 1, min(max_chunks, ceil_div(n, CHUNK)))
    cdef int64_t step = ROW_STEP if op.dim[COLS] * ROW_STEP <= CHUNK else 1
    op.kernels = loss_table(op.isa, op.dtype)
    op.dim[CHUNK_ROWS] = max(step, ceil_div(ceil_div(rows, chunks), step) * step)
    op.chunks = ceil_div(rows, op.dim[CHUNK_ROWS])
    op.cost = (ns * n + 10 * rows) * (1 if op.dtype == 0 else 2.5)


cdef void prepare_softmax(fnn_op *op) noexcept nogil:
    cut_rows(op, op.dim[ROWS], 1.5)


cdef void prepare_cross_entropy(fnn_op *op) noexcept nogil:
    cut_rows(op, MAX_CHUNKS, 1.8)


cdef int run_softmax(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t begin = chunk * op.dim[CHUNK_ROWS], cols = op.dim[COLS]
    cdef int64_t rows = min(op.dim[CHUNK_ROWS], op.dim[ROWS] - begin)
    (<const loss_kernels *> op.kernels).softmax(
        at(op, 0, begin * cols), at(op, 1, begin * cols), rows, cols, op.dim[LOG] != 0)
    return 0


cdef int run_softmax_backward(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t begin = chunk * op.dim[CHUNK_ROWS], cols = op.dim[COLS]
    cdef int64_t rows = min(op.dim[CHUNK_ROWS], op.dim[ROWS] - begin)
    (<const loss_kernels *> op.kernels).softmax_backward(
        at(op, 0, begin * cols), at(op, 1, begin * cols), at(op, 2, begin * cols), rows, cols, op.dim[LOG] != 0)
    return 0


cdef int run_cross_entropy(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef const loss_kernels *kernels = <const loss_kernels *> op.kernels
    cdef int64_t begin = chunk * op.dim[CHUNK_ROWS], cols = op.dim[COLS]
    cdef int64_t rows = min(op.dim[CHUNK_ROWS], op.dim[ROWS] - begin)
    cdef const int64_t *labels = <const int64_t *> op.buf[3]
    cdef double denominator
    cdef cross_entropy_t c
    c.cols, c.ignore_index = cols, op.dim[IGNORE]
    c.smoothing, c.scale, c.ignored = op.scalar[0], 1, 0
    c.weight_sum = cols if op.buf[4] == NULL else kernels.sum(op.buf[4], cols)
    if op.dim[ROW_REDUCTION] == MEAN:
        denominator = kernels.label_weight(labels, op.buf[4], op.dim[ROWS], c.ignore_index)
        c.scale = 1 / denominator
        if denominator == 0:
            c.ignored = NAN
    kernels.cross_entropy(at(op, 0, begin), at(op, 1, begin * cols), at(op, 2, begin * cols), labels + begin,
                          op.buf[4], rows, &c)
    return 0


runtime.register_op("softmax", run_softmax, prepare_softmax, "y", "x", "rows cols log")
runtime.register_op("softmax_backward", run_softmax_backward, prepare_softmax, "dx", "dy y", "rows cols log")
runtime.register_op("cross_entropy", run_cross_entropy, prepare_cross_entropy,
                    "row_loss dlogits?", "logits labels weight?", "rows cols ignore_index reduction", "smoothing")


# ---- losses by elements ---------------------------------------------------------------------------

# dim; PIECE and CHUNK_PIECES are set by prepare.
cdef enum: N, REDUCTION, PERIOD, PIECE, CHUNK_PIECES


cdef inline void cut_pieces(fnn_op *op, double ns) noexcept nogil:
    op.dim[PIECE] = max(<int64_t> 1, ceil_div(op.dim[N], N_PIECES * PIECE_STEP)) * PIECE_STEP
    op.dim[CHUNK_PIECES] = max(<int64_t> 1, CHUNK // op.dim[PIECE])
    # The pieces past the end belong to the last chunk.
    op.chunks = max(<int64_t> 1, ceil_div(op.dim[N], op.dim[PIECE] * op.dim[CHUNK_PIECES]))
    op.cost = ns * op.dim[N] * (1 if op.dtype == 0 else 2)


cdef inline double scale_of(const fnn_op *op) noexcept nogil:
    return 1.0 / op.dim[N] if op.dim[REDUCTION] == MEAN else 1.0


cdef inline void put_piece(const fnn_op *op, int64_t piece, double total) noexcept nogil:
    if op.dim[REDUCTION] == NONE:
        return
    if op.dtype == 0:
        (<float *> op.buf[0])[piece] = <float> (total * scale_of(op))
    else:
        (<double *> op.buf[0])[piece] = total * scale_of(op)


# The kernels of a difference have one signature: op.kernels is the kernel itself.
cdef void prepare_mse(fnn_op *op) noexcept nogil:
    cut_pieces(op, 0.2)
    op.kernels = <const void *> loss_table(op.isa, op.dtype).mse


cdef void prepare_l1(fnn_op *op) noexcept nogil:
    cut_pieces(op, 0.2)
    op.kernels = <const void *> loss_table(op.isa, op.dtype).l1


cdef void prepare_smooth_l1(fnn_op *op) noexcept nogil:
    cut_pieces(op, 0.4)
    op.kernels = <const void *> loss_table(op.isa, op.dtype).smooth_l1


cdef void prepare_huber(fnn_op *op) noexcept nogil:
    cut_pieces(op, 0.3)
    op.kernels = <const void *> loss_table(op.isa, op.dtype).huber


cdef void prepare_bce(fnn_op *op) noexcept nogil:
    cut_pieces(op, 2.5)
    op.kernels = loss_table(op.isa, op.dtype)


cdef int64_t end_piece(const fnn_op *op, int64_t chunk) noexcept nogil:
    return N_PIECES if chunk == op.chunks - 1 else (chunk + 1) * op.dim[CHUNK_PIECES]


cdef int run_difference(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t piece, begin, n
    for piece in range(chunk * op.dim[CHUNK_PIECES], end_piece(op, chunk)):
        begin = min(piece * op.dim[PIECE], op.dim[N])
        n = min(op.dim[PIECE], op.dim[N] - begin)
        put_piece(op, piece, (<loss_elementwise> op.kernels)(
            at(op, 0, begin) if op.dim[REDUCTION] == NONE else NULL, at(op, 1, begin), at(op, 2, begin),
            at(op, 3, begin), n, scale_of(op), op.scalar[0]))
    return 0


cdef int run_bce(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t piece, begin, n
    for piece in range(chunk * op.dim[CHUNK_PIECES], end_piece(op, chunk)):
        begin = min(piece * op.dim[PIECE], op.dim[N])
        n = min(op.dim[PIECE], op.dim[N] - begin)
        put_piece(op, piece, (<const loss_kernels *> op.kernels).bce_with_logits(
            at(op, 0, begin) if op.dim[REDUCTION] == NONE else NULL, at(op, 1, begin), at(op, 2, begin),
            at(op, 3, begin), at(op, 4, begin), op.buf[5], n, begin, op.dim[PERIOD], scale_of(op)))
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
