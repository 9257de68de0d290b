"""Softmax, and losses with their gradients.

Softmax, its gradient and cross_entropy work on rows of `cols` elements. With `log`, softmax is its own logarithm.
`reduction` is an index in REDUCTIONS. Without dlogits or dinput a loss has no gradient.

cross_entropy writes one loss a row; of a mean, each is divided already by the number of rows that are not ignored (by
the sum of their labels' weights), so that the plain sum of row_loss is the loss, and dlogits its gradient. With "none",
dlogits is each row's own gradient. weight, (cols,), is that of each class; without it all are 1. The int64 labels are
trusted: the caller has checked that each is a column or ignore_index.

nll is the same of log-probabilities in place of logits, without smoothing.

The other losses write PIECES numbers whose plain sum is the loss (a mean is divided already), and dinput is its
gradient; with "none", n numbers and each one's own gradient. Piece p covers the elements from p * size on, where size
is ceil(n / PIECES), rounded up to a multiple of 256; pieces past the end are 0. Of bce_with_logits, weight has n
elements, and pos_weight has `cols`, of which i % cols belongs to element i.

A row that takes longer than a chunk may (some 300 000 columns) is cut into parts: a round finds each part's largest
value, one its sum of exponentials, and one writes the result. A piece that takes longer is summed in several rounds.

finite stops the program if a loss is NaN or infinite.
"""
from libc.math cimport NAN, isfinite
from libc.stdint cimport int64_t
from libc.string cimport memset

from fastnn_ext cimport runtime
from fastnn_ext.driver cimport at, ceil_div, item_size
from fastnn_ext.runtime cimport FNN_MOST_NS, fnn_op, short_parts


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
        loss_elementwise mse, l1, smooth_l1, huber, bce, soft_margin
        double (*bce_with_logits)(void *loss, void *dinput, const void *input, const void *target,
                                  const void *weight, const void *pos_weight, int64_t n, int64_t first,
                                  int64_t cols, double scale) noexcept nogil
    const loss_kernels *loss_table(int isa, int dtype)


PIECES = N_PIECES
REDUCTIONS = ("none", "mean", "sum")

# Places in fnn_op.buf: of softmax, of its gradient, of cross_entropy, of the other losses.
cdef enum: Y, X
cdef enum: DX, DY, OUTPUT
cdef enum: ROW_LOSS, DLOGITS, LOGITS, LABELS, WEIGHT
cdef enum: LOSS, DINPUT, INPUT, TARGET, ELEMENT_WEIGHT, POS_WEIGHT
# Places in fnn_op.dim: of ops by rows, of softmax, of cross_entropy, what prepare sets for them; of the other losses,
# where prepare sets PIECE and CHUNK_PIECES.
cdef enum: ROWS, COLS
cdef enum: LOG = 2
cdef enum: IGNORE_INDEX = 2, ROW_REDUCTION
cdef enum: CHUNK_ROWS = 4, PARTS
cdef enum: N, REDUCTION, POS_COLS, PIECE, CHUNK_PIECES
# Places in fnn_op.scalar: of cross_entropy; the beta of smooth_l1 or the delta of huber.
cdef enum: SMOOTHING
cdef enum: SETTING
cdef enum: NONE, MEAN, SUM  # as REDUCTIONS
cdef enum:
    N_PIECES = 64
    BLOCK = 256     # elements that kernels sum at a time: pieces are made of whole ones
    CHUNK = 4096    # elements
    ROW_STEP = 16   # a multiple of every vector's width
    # Every chunk of a mean counts all labels for itself, if they are few, which is cheaper than a round that counts
    # them once; so there are not many chunks.
    MAX_CHUNKS = 32
    FEW_LABELS = 1 << 17
    SHARES = 4      # a long row's parts are so many times shorter than a chunk may be: several threads share the row

# Estimates of nanoseconds an element of float32, and how many times as long a float64 takes.
cdef double SOFTMAX_NS = 1.5
cdef double CROSS_ENTROPY_NS = 1.8
cdef double NLL_NS = 0.1
cdef double SMOOTHED_NS = 3.0  # where each chunk adds up the classes' weights, too
cdef double ROW_NS = 10.0      # a row without its elements
cdef double ROW_FACTOR = 2.5
cdef double DIFFERENCE_NS = 0.4
cdef double BRANCHES_NS = 0.5  # of a difference whose loss is another below a limit
cdef double[3] BCE_NS = [5.0, 2.5, 2.5]  # by ISA: on logits, on probabilities, of margins
cdef double ELEMENT_FACTOR = 2.0


cdef inline double get(const fnn_op *op, int place, int64_t element) noexcept nogil:
    return (<float *> op.buf[place])[element] if op.dtype == 0 else (<double *> op.buf[place])[element]


cdef inline void put(const fnn_op *op, int place, int64_t element, double value) noexcept nogil:
    if op.dtype == 0:
        (<float *> op.buf[place])[element] = <float> value
    else:
        (<double *> op.buf[place])[element] = value


# ---- softmax and cross-entropy, by rows -----------------------------------------------------------

cdef inline void cut_rows(fnn_op *op, int64_t max_chunks, double ns, int64_t rounds) noexcept nogil:
    """Chunks of whole rows; where a row takes too long, of a part of one, in so many rounds."""
    cdef int64_t rows = op.dim[ROWS], cols = op.dim[COLS]
    cdef int64_t chunks, step = ROW_STEP if cols * ROW_STEP <= CHUNK else 1
    cdef double factor = 1 if op.dtype == 0 else ROW_FACTOR
    ns *= factor
    op.kernels = loss_table(op.isa, op.dtype)
    op.cost = ns * (rows * cols) + ROW_NS * rows * factor
    op.dim[PARTS] = 1
    if ns * cols > FNN_MOST_NS:
        op.dim[PARTS] = short_parts(SHARES * ns * cols)
        op.dim[CHUNK_ROWS] = 1
        op.chunks = rows * op.dim[PARTS]
        op.rounds = rounds
        op.shared = op.chunks * FOUND * sizeof(double)
        return
    chunks = max(<int64_t> 1, min(max(max_chunks, short_parts(op.cost)), ceil_div(rows * cols, CHUNK)))
    op.dim[CHUNK_ROWS] = max(step, ceil_div(ceil_div(rows, chunks), step) * step)
    op.chunks = ceil_div(rows, op.dim[CHUNK_ROWS])


# What a part of a long row finds, and hands on to later rounds in op.common: (rows, PARTS, FOUND) doubles.
cdef enum:
    LARGEST   # of x
    TOTAL     # of exp(x - largest of the row); of dy y, or dy, for the gradient of softmax
    WEIGHTED  # sum of weight (x - largest of the row)
    WEIGHTS   # sum of weights
    OWN       # x - largest of the row, at the row's label, where the part holds it
    FOUND     # how many


cdef struct part_of_row:
    int64_t round
    int64_t row, begin, n  # columns
    double *mine           # what this part found
    double *first          # what the row's parts found, one behind the other


cdef part_of_row part_of(const fnn_op *op, int64_t chunk) noexcept nogil:
    cdef int64_t cols = op.dim[COLS], parts = op.dim[PARTS], part
    cdef part_of_row p
    p.round, chunk = chunk // op.chunks, chunk % op.chunks
    p.row, part = chunk // parts, chunk % parts
    p.begin = cols * part // parts
    p.n = cols * (part + 1) // parts - p.begin
    p.mine = <double *> op.common + chunk * FOUND
    p.first = p.mine - part * FOUND
    return p


cdef double total_of(const fnn_op *op, const part_of_row *p, int value) noexcept nogil:
    """Of what the parts of a row found: the sum, or the largest, NaN if any is."""
    cdef double result = p.first[value], v
    cdef int64_t i
    for i in range(1, op.dim[PARTS]):
        v = p.first[i * FOUND + value]
        if value != LARGEST:
            result += v
        elif v > result or v != v:
            result = v
    return result


cdef void prepare_softmax(fnn_op *op) noexcept nogil:
    cut_rows(op, op.dim[ROWS], SOFTMAX_NS, 3)


cdef void prepare_softmax_backward(fnn_op *op) noexcept nogil:
    cut_rows(op, op.dim[ROWS], SOFTMAX_NS, 2)


cdef inline bint counts_first(const fnn_op *op) noexcept nogil:
    """Whether the labels of a mean are counted in a round before the others."""
    return op.dim[ROW_REDUCTION] == MEAN and op.dim[ROWS] > FEW_LABELS and op.dim[PARTS] == 1


cdef void prepare_cross_entropy(fnn_op *op) noexcept nogil:
    cdef bint smoothed = op.buf[WEIGHT] != NULL and op.scalar[SMOOTHING] != 0
    cut_rows(op, MAX_CHUNKS, SMOOTHED_NS if smoothed else CROSS_ENTROPY_NS, 3)
    if counts_first(op):
        op.rounds = 2
        op.shared = op.chunks * sizeof(double)


cdef int run_long_softmax(const fnn_op *op, int64_t chunk) noexcept nogil:
    cdef const loss_kernels *kernels = <const loss_kernels *> op.kernels
    cdef part_of_row p = part_of(op, chunk)
    cdef void *y = at(op, Y, p.row * op.dim[COLS] + p.begin)
    cdef void *x = at(op, X, p.row * op.dim[COLS] + p.begin)
    cdef bint log = op.dim[LOG] != 0
    if p.round == 0:
        p.mine[LARGEST] = kernels.row_max(x, p.n)
    elif p.round == 1:
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
        at(op, Y, begin * cols), at(op, X, begin * cols), rows, cols, op.dim[LOG] != 0)
    return 0


cdef int run_long_softmax_backward(const fnn_op *op, int64_t chunk) noexcept nogil:
    cdef const loss_kernels *kernels = <const loss_kernels *> op.kernels
    cdef part_of_row p = part_of(op, chunk)
    cdef int64_t begin = p.row * op.dim[COLS] + p.begin
    cdef bint log = op.dim[LOG] != 0
    if p.round == 0:
        p.mine[TOTAL] = kernels.row_dot(at(op, DY, begin), at(op, OUTPUT, begin), p.n, log)
    else:
        kernels.row_back(
            at(op, DX, begin), at(op, DY, begin), at(op, OUTPUT, begin), p.n, total_of(op, &p, TOTAL), log)
    return 0


cdef int run_softmax_backward(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t begin = chunk * op.dim[CHUNK_ROWS], cols = op.dim[COLS]
    cdef int64_t rows = min(op.dim[CHUNK_ROWS], op.dim[ROWS] - begin)
    if op.dim[PARTS] > 1:
        return run_long_softmax_backward(op, chunk)
    (<const loss_kernels *> op.kernels).softmax_backward(
        at(op, DX, begin * cols), at(op, DY, begin * cols), at(op, OUTPUT, begin * cols), rows, cols, op.dim[LOG] != 0)
    return 0


cdef int run_long_cross_entropy(const fnn_op *op, int64_t chunk, const cross_entropy_t *c) noexcept nogil:
    """What cross_entropy_wide in loss.inc.c does with a row, in three rounds."""
    cdef const loss_kernels *kernels = <const loss_kernels *> op.kernels
    cdef part_of_row p = part_of(op, chunk)
    cdef int64_t row = p.row * c.cols, label = (<const int64_t *> op.buf[LABELS])[p.row]
    cdef bint holds = p.begin <= label < p.begin + p.n, smooth = c.smoothing != 0
    cdef const void *logits = at(op, LOGITS, row + p.begin)
    cdef void *dlogits = at(op, DLOGITS, row + p.begin)
    cdef const void *weight = at(op, WEIGHT, p.begin)
    cdef double a, b, largest, log_sum, weights, value
    if p.round == 0:
        p.mine[LARGEST] = kernels.row_max(logits, p.n)
        p.mine[WEIGHTS] = kernels.sum(weight, p.n) if smooth and weight != NULL else p.n
        return 0
    largest = total_of(op, &p, LARGEST)
    if p.round == 1:
        p.mine[OWN] = get(op, LOGITS, row + label) - largest if holds else 0
        p.mine[WEIGHTED] = kernels.row_weighted(logits, weight, p.n, largest) if smooth else 0
        p.mine[TOTAL] = kernels.row_exp(dlogits, logits, p.n, largest)
        return 0
    if label == c.ignore_index:
        if p.begin == 0:
            put(op, ROW_LOSS, p.row, c.ignored)
        if dlogits != NULL:
            memset(dlogits, 0, p.n * item_size(op))
        return 0
    a = (1 - c.smoothing) * c.scale * (1 if weight == NULL else get(op, WEIGHT, label))
    b = c.smoothing / c.cols * c.scale if smooth else 0
    weights = total_of(op, &p, WEIGHTS)
    if p.begin == 0:
        log_sum = kernels.log_of(total_of(op, &p, TOTAL))
        value = a * (log_sum - total_of(op, &p, OWN))
        if smooth:
            value += b * (weights * log_sum - total_of(op, &p, WEIGHTED))
        put(op, ROW_LOSS, p.row, value)
    if dlogits != NULL:
        kernels.row_map(dlogits, dlogits, weight if smooth else NULL, p.n, 0,
                        (a + b * weights if smooth else a) / total_of(op, &p, TOTAL), b)
        if holds:
            put(op, DLOGITS, row + label, get(op, DLOGITS, row + label) - a)
    return 0


cdef void count_labels(const fnn_op *op, int64_t chunk, int64_t begin, int64_t rows) noexcept nogil:
    """What a chunk's labels add to the denominator of a mean, for the round after."""
    (<double *> op.common)[chunk] = (<const loss_kernels *> op.kernels).label_weight(
        <const int64_t *> op.buf[LABELS] + begin, op.buf[WEIGHT], rows, op.dim[IGNORE_INDEX])


cdef void find_scale(const fnn_op *op, double *scale, double *ignored) noexcept nogil:
    """The factor of each row's loss, and the loss of an ignored row."""
    cdef double denominator = 0
    cdef int64_t i
    scale[0], ignored[0] = 1, 0
    if op.dim[ROW_REDUCTION] != MEAN:
        return
    if counts_first(op):
        for i in range(op.chunks):
            denominator += (<double *> op.common)[i]
    else:
        denominator = (<const loss_kernels *> op.kernels).label_weight(
            <const int64_t *> op.buf[LABELS], op.buf[WEIGHT], op.dim[ROWS], op.dim[IGNORE_INDEX])
    scale[0] = 1 / denominator
    if denominator == 0:
        ignored[0] = NAN


cdef int run_cross_entropy(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef const loss_kernels *kernels = <const loss_kernels *> op.kernels
    cdef int64_t begin = chunk % op.chunks * op.dim[CHUNK_ROWS], cols = op.dim[COLS]
    cdef int64_t rows = min(op.dim[CHUNK_ROWS], op.dim[ROWS] - begin)
    cdef const int64_t *labels = <const int64_t *> op.buf[LABELS]
    cdef const void *weight = op.buf[WEIGHT]
    cdef cross_entropy_t c
    if counts_first(op) and chunk < op.chunks:
        count_labels(op, chunk, begin, rows)
        return 0
    c.cols, c.ignore_index, c.smoothing = cols, op.dim[IGNORE_INDEX], op.scalar[SMOOTHING]
    find_scale(op, &c.scale, &c.ignored)
    if op.dim[PARTS] > 1:
        return run_long_cross_entropy(op, chunk, &c)
    c.weight_sum = kernels.sum(weight, cols) if c.smoothing != 0 and weight != NULL else cols
    kernels.cross_entropy(at(op, ROW_LOSS, begin), at(op, DLOGITS, begin * cols), at(op, LOGITS, begin * cols),
                          labels + begin, weight, rows, &c)
    return 0


cdef void prepare_nll(fnn_op *op) noexcept nogil:
    cut_rows(op, MAX_CHUNKS, NLL_NS, 1)
    if counts_first(op):
        op.rounds = 2
        op.shared = op.chunks * sizeof(double)


cdef int run_nll(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    """Rows, or a part of one: zeros for the gradient, but at the label."""
    cdef const int64_t *labels = <const int64_t *> op.buf[LABELS]
    cdef int64_t begin = chunk % op.chunks * op.dim[CHUNK_ROWS], cols = op.dim[COLS], row, label
    cdef int64_t rows = min(op.dim[CHUNK_ROWS], op.dim[ROWS] - begin), first = 0, n = cols
    cdef double weight, scale, ignored
    cdef part_of_row p
    if counts_first(op) and chunk < op.chunks:
        count_labels(op, chunk, begin, rows)
        return 0
    find_scale(op, &scale, &ignored)
    if op.dim[PARTS] > 1:
        p = part_of(op, chunk)
        begin, rows, first, n = p.row, 1, p.begin, p.n
    for row in range(begin, begin + rows):
        label = labels[row]
        if op.buf[DLOGITS] != NULL:
            memset(at(op, DLOGITS, row * cols + first), 0, n * item_size(op))
        if label == op.dim[IGNORE_INDEX]:
            if first == 0:
                put(op, ROW_LOSS, row, ignored)
        elif first <= label < first + n:
            weight = scale * (1 if op.buf[WEIGHT] == NULL else get(op, WEIGHT, label))
            put(op, ROW_LOSS, row, -weight * get(op, LOGITS, row * cols + label))
            if op.buf[DLOGITS] != NULL:
                put(op, DLOGITS, row * cols + label, -weight)
    return 0


runtime.register_op("softmax", run_softmax, prepare_softmax, "y", "*x", "rows cols log")
runtime.register_op("softmax_backward", run_softmax_backward, prepare_softmax_backward, "dx", "*dy *y",
                    "rows cols log")
runtime.register_op("cross_entropy", run_cross_entropy, prepare_cross_entropy,
                    "row_loss dlogits?", "logits labels weight?", "rows cols ignore_index reduction", "smoothing")
runtime.register_op("nll", run_nll, prepare_nll,
                    "row_loss dlogits?", "logits labels weight?", "rows cols ignore_index reduction")


# ---- losses by elements ---------------------------------------------------------------------------

cdef inline void cut_pieces(fnn_op *op, double ns) noexcept nogil:
    """Chunks of whole pieces; a long one is summed in several rounds, from one to the next in op.common."""
    op.dim[PIECE] = max(<int64_t> 1, ceil_div(op.dim[N], N_PIECES * BLOCK)) * BLOCK
    op.dim[CHUNK_PIECES] = max(<int64_t> 1, CHUNK // op.dim[PIECE])
    # The pieces past the end belong to the last chunk.
    op.chunks = max(<int64_t> 1, ceil_div(op.dim[N], op.dim[PIECE] * op.dim[CHUNK_PIECES]))
    op.cost = ns * op.dim[N] * (1 if op.dtype == 0 else ELEMENT_FACTOR)
    op.rounds = short_parts(op.cost / op.chunks)
    if op.rounds > 1:
        op.shared = N_PIECES * sizeof(double)


cdef inline double scale_of(const fnn_op *op) noexcept nogil:
    return 1.0 / op.dim[N] if op.dim[REDUCTION] == MEAN else 1.0


cdef struct part_of_pieces:
    int64_t round
    int64_t first, end  # of the pieces


cdef part_of_pieces pieces_of(const fnn_op *op, int64_t chunk) noexcept nogil:
    cdef part_of_pieces p
    p.round, chunk = chunk // op.chunks, chunk % op.chunks
    p.first = chunk * op.dim[CHUNK_PIECES]
    p.end = N_PIECES if chunk == op.chunks - 1 else p.first + op.dim[CHUNK_PIECES]
    return p


cdef inline int64_t element_of(const fnn_op *op, int64_t piece, int64_t round) noexcept nogil:
    """The first that a round takes of a piece; N where it has none."""
    cdef int64_t blocks = op.dim[PIECE] // BLOCK
    return min(piece * op.dim[PIECE] + blocks * round // op.rounds * BLOCK, op.dim[N])


cdef inline void *loss_at(const fnn_op *op, int64_t element) noexcept nogil:
    """Where the loss of an element goes; NULL where they are summed."""
    return at(op, LOSS, element) if op.dim[REDUCTION] == NONE else NULL


cdef inline void add_to(const fnn_op *op, int64_t piece, int64_t round, double total) noexcept nogil:
    cdef double *totals = <double *> op.common
    if op.dim[REDUCTION] == NONE:
        return
    if round > 0:
        total += totals[piece]
    if round < op.rounds - 1:
        totals[piece] = total
    else:
        put(op, LOSS, piece, total * scale_of(op))


# These kernels have one signature: op.kernels is the kernel itself.
cdef void prepare_mse(fnn_op *op) noexcept nogil:
    cut_pieces(op, DIFFERENCE_NS)
    op.kernels = <const void *> loss_table(op.isa, op.dtype).mse


cdef void prepare_l1(fnn_op *op) noexcept nogil:
    cut_pieces(op, DIFFERENCE_NS)
    op.kernels = <const void *> loss_table(op.isa, op.dtype).l1


cdef void prepare_smooth_l1(fnn_op *op) noexcept nogil:
    cut_pieces(op, BRANCHES_NS)
    op.kernels = <const void *> loss_table(op.isa, op.dtype).smooth_l1


cdef void prepare_huber(fnn_op *op) noexcept nogil:
    cut_pieces(op, BRANCHES_NS)
    op.kernels = <const void *> loss_table(op.isa, op.dtype).huber


cdef void prepare_bce(fnn_op *op) noexcept nogil:
    cut_pieces(op, BCE_NS[op.isa])
    op.kernels = <const void *> loss_table(op.isa, op.dtype).bce


cdef void prepare_soft_margin(fnn_op *op) noexcept nogil:
    cut_pieces(op, BCE_NS[op.isa])
    op.kernels = <const void *> loss_table(op.isa, op.dtype).soft_margin


cdef void prepare_bce_with_logits(fnn_op *op) noexcept nogil:
    cut_pieces(op, BCE_NS[op.isa])
    op.kernels = loss_table(op.isa, op.dtype)


cdef int run_by_element(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef part_of_pieces p = pieces_of(op, chunk)
    cdef int64_t piece, begin, n
    for piece in range(p.first, p.end):
        begin = element_of(op, piece, p.round)
        n = element_of(op, piece, p.round + 1) - begin
        add_to(op, piece, p.round, (<loss_elementwise> op.kernels)(
            loss_at(op, begin), at(op, DINPUT, begin), at(op, INPUT, begin), at(op, TARGET, begin), n, scale_of(op),
            op.scalar[SETTING]))
    return 0


cdef int run_bce_with_logits(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef part_of_pieces p = pieces_of(op, chunk)
    cdef int64_t piece, begin, n
    for piece in range(p.first, p.end):
        begin = element_of(op, piece, p.round)
        n = element_of(op, piece, p.round + 1) - begin
        add_to(op, piece, p.round, (<const loss_kernels *> op.kernels).bce_with_logits(
            loss_at(op, begin), at(op, DINPUT, begin), at(op, INPUT, begin), at(op, TARGET, begin),
            at(op, ELEMENT_WEIGHT, begin), op.buf[POS_WEIGHT], n, begin, op.dim[POS_COLS], scale_of(op)))
    return 0


runtime.register_op("mse", run_by_element, prepare_mse, "loss dinput?", "input target", "n reduction")
runtime.register_op("l1", run_by_element, prepare_l1, "loss dinput?", "input target", "n reduction")
runtime.register_op("smooth_l1", run_by_element, prepare_smooth_l1,
                    "loss dinput?", "input target", "n reduction", "beta")
runtime.register_op("huber", run_by_element, prepare_huber, "loss dinput?", "input target", "n reduction", "delta")
runtime.register_op("bce", run_by_element, prepare_bce, "loss dinput?", "input target", "n reduction")
runtime.register_op("soft_margin", run_by_element, prepare_soft_margin, "loss dinput?", "input target", "n reduction")
runtime.register_op("bce_with_logits", run_bce_with_logits, prepare_bce_with_logits,
                    "loss dinput?", "input target weight? pos_weight?", "n reduction cols")


# ---- a loss that can be trained on ----------------------------------------------------------------

cdef void prepare_finite(fnn_op *op) noexcept nogil:
    op.chunks = 1
    op.cost = 1


cdef int run_finite(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    return 0 if isfinite(get(op, LOSS, 0)) else -1


runtime.register_op("finite", run_finite, prepare_finite, "", "loss")
