"""Parameter updates: SGD with momentum, Adam, AdamW, RMSprop; each one sweep over flat arrays, as PyTorch's.

sgd, adam and rmsprop update `count` parameters of n elements together, which lie one behind the other, and their states, from
the gradient. Parameter k has the elements from begins[k] - begins[0] on, and has been updated steps[k] times (a
double), each by its own count: one that was frozen for a while is not as far as its neighbours. At steps[k] = 0 SGD does
not read momentum_buffer, and with a momentum of 0 it leaves it alone, so only steps with a momentum count for it.
max_exp_avg_sq is AMSGrad's, NULL without it; `decoupled` is AdamW's weight decay.
RMSprop's momentum_buffer and grad_avg are NULL without momentum, and where it is not centered.

`hyper` points to doubles, read at run time, so that a schedule changes them without a new plan; HYPER_NAMES has their
names, in order, by the op that reads them.

tick runs after the updates. It adds 1 to steps[0 ... count - 1], unless hyper[condition] is 0 (condition -1: always),
and to hyper[updates], those of the whole group (updates -1: not).

References
----------
Sutskever, Martens, Dahl, Hinton, "On the importance of initialization and momentum in deep learning", ICML 2013, with
PyTorch's definition of the momentum buffer. Kingma, Ba, "Adam: a method for stochastic optimization", ICLR 2015,
algorithm 1. Reddi, Kale, Kumar, "On the convergence of Adam and beyond", ICLR 2018 (AMSGrad). Loshchilov, Hutter,
"Decoupled weight decay regularization", ICLR 2019 (AdamW). Tieleman, Hinton, "Lecture 6.5: RMSprop", Coursera, 2012;
Graves, "Generating sequences with recurrent neural networks", 2013 (centered).
"""
from libc.math cimport pow, sqrt
from libc.stdint cimport int64_t

from fastnn_ext cimport runtime
from fastnn_ext.driver cimport at, ceil_div
from fastnn_ext.runtime cimport fnn_op


cdef extern from "simd/optimizer.h" nogil:
    struct sgd_step:
        double lr, momentum, gain, weight_decay
        int first, nesterov, maximize
    struct adam_step:
        double step_size, inverse_root, gain1, beta2, gain2, eps, weight_decay, shrink
        int decoupled, maximize
    struct rmsprop_step:
        double lr, momentum, alpha, gain, eps, weight_decay
        int maximize
    struct optimizer_kernels:
        void (*sgd)(void *param, void *buffer, const void *grad, int64_t n, const sgd_step *s) noexcept nogil
        void (*adam)(void *param, void *m, void *v, void *vmax, const void *grad, int64_t n,
                     const adam_step *s) noexcept nogil
        void (*rmsprop)(void *param, void *square, void *buffer, void *mean, const void *grad, int64_t n,
                        const rmsprop_step *s) noexcept nogil
    const optimizer_kernels *optimizer_table(int isa, int dtype)


# What `hyper` points to.
cdef struct sgd_hyper:
    double lr, momentum, dampening, weight_decay, updates
cdef struct adam_hyper:
    double lr, beta1, beta2, eps, weight_decay, updates
cdef struct rmsprop_hyper:
    double lr, alpha, eps, weight_decay, momentum, updates

# A struct becomes a dict by its members' names.
cdef sgd_hyper of_sgd
cdef adam_hyper of_adam
cdef rmsprop_hyper of_rmsprop
HYPER_NAMES = {"sgd": tuple(<dict> of_sgd), "adam": tuple(<dict> of_adam), "rmsprop": tuple(<dict> of_rmsprop)}

# Places in fnn_op.buf: of all updates; states of sgd, adam, rmsprop; of tick.
cdef enum: PARAM, GRAD, HYPER, STEPS, BEGINS
cdef enum: MOMENTUM_BUFFER = 5
cdef enum:
    EXP_AVG = 5
    EXP_AVG_SQ, MAX_EXP_AVG_SQ
cdef enum:
    SQUARE_AVG = 5
    RMSPROP_BUFFER, GRAD_AVG
cdef enum: TICK_HYPER, TICK_STEPS
# Places in fnn_op.dim: of all updates; of sgd; of adam; of tick.
cdef enum: N, COUNT, MAXIMIZE
cdef enum: NESTEROV = 3
cdef enum: DECOUPLED = 3
cdef enum: TICK_COUNT, UPDATES, CONDITION

cdef enum: CHUNK = 8192  # elements


cdef inline void cut(fnn_op *op, double ns) noexcept nogil:
    """Chunks of CHUNK elements; a float32's update takes ns, a float64's twice as long."""
    op.kernels = optimizer_table(op.isa, op.dtype)
    op.chunks = ceil_div(op.dim[N], CHUNK)
    op.cost = (ns if op.dtype == 0 else 2 * ns) * op.dim[N]


cdef void prepare_sgd(fnn_op *op) noexcept nogil:
    cut(op, 0.3)


cdef void prepare_adam(fnn_op *op) noexcept nogil:
    cut(op, 0.5)


cdef void prepare_rmsprop(fnn_op *op) noexcept nogil:
    cut(op, 0.5)


cdef void prepare_tick(fnn_op *op) noexcept nogil:
    op.chunks = max(<int64_t> 1, ceil_div(op.dim[TICK_COUNT], CHUNK))
    op.cost = 1 + op.dim[TICK_COUNT]


cdef inline int64_t part_of(const fnn_op *op, int64_t begin, int64_t end, int64_t *first) noexcept nogil:
    """The end of the elements from `begin` on whose parameters have made as many steps; `first` is the
    parameter that holds `begin`."""
    cdef const double *steps = <const double *> op.buf[STEPS]
    cdef const int64_t *begins = <const int64_t *> op.buf[BEGINS]
    cdef int64_t count = op.dim[COUNT], beyond = count, k
    first[0] = 0
    while beyond - first[0] > 1:
        k = (first[0] + beyond) // 2
        if begins[k] - begins[0] <= begin:
            first[0] = k
        else:
            beyond = k
    k = first[0] + 1
    while k < count and steps[k] == steps[first[0]] and begins[k] - begins[0] < end:
        k += 1
    return min(end, begins[k] - begins[0]) if k < count else end


cdef int run_sgd(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t begin = chunk * CHUNK, end = min(begin + CHUNK, op.dim[N]), part, k = 0
    cdef const sgd_hyper *hyper = <const sgd_hyper *> op.buf[HYPER]
    cdef const double *steps = <const double *> op.buf[STEPS]
    cdef sgd_step s
    s.lr, s.momentum, s.gain, s.weight_decay = hyper.lr, hyper.momentum, 1 - hyper.dampening, hyper.weight_decay
    s.nesterov, s.maximize = op.dim[NESTEROV] != 0, op.dim[MAXIMIZE] != 0
    while begin < end:
        part = part_of(op, begin, end, &k)
        s.first = steps[k] == 0
        (<const optimizer_kernels *> op.kernels).sgd(
            at(op, PARAM, begin), NULL if s.momentum == 0 else at(op, MOMENTUM_BUFFER, begin), at(op, GRAD, begin),
            part - begin, &s)
        begin = part
    return 0


cdef int run_adam(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t begin = chunk * CHUNK, end = min(begin + CHUNK, op.dim[N]), part, k = 0
    cdef const adam_hyper *hyper = <const adam_hyper *> op.buf[HYPER]
    cdef const double *steps = <const double *> op.buf[STEPS]
    cdef double t
    cdef adam_step s
    s.gain1, s.beta2, s.gain2 = 1 - hyper.beta1, hyper.beta2, 1 - hyper.beta2
    s.eps, s.weight_decay, s.shrink = hyper.eps, hyper.weight_decay, 1 - hyper.lr * hyper.weight_decay
    s.decoupled, s.maximize = op.dim[DECOUPLED] != 0, op.dim[MAXIMIZE] != 0
    while begin < end:
        part = part_of(op, begin, end, &k)
        t = steps[k] + 1
        s.step_size = hyper.lr / (1 - pow(hyper.beta1, t))
        s.inverse_root = 1 / sqrt(1 - pow(hyper.beta2, t))
        (<const optimizer_kernels *> op.kernels).adam(
            at(op, PARAM, begin), at(op, EXP_AVG, begin), at(op, EXP_AVG_SQ, begin), at(op, MAX_EXP_AVG_SQ, begin),
            at(op, GRAD, begin), part - begin, &s)
        begin = part
    return 0


cdef int run_rmsprop(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t begin = chunk * CHUNK, n = min(<int64_t> CHUNK, op.dim[N] - begin)
    cdef const rmsprop_hyper *hyper = <const rmsprop_hyper *> op.buf[HYPER]
    cdef rmsprop_step s
    s.lr, s.momentum, s.alpha, s.gain = hyper.lr, hyper.momentum, hyper.alpha, 1 - hyper.alpha
    s.eps, s.weight_decay, s.maximize = hyper.eps, hyper.weight_decay, op.dim[MAXIMIZE] != 0
    (<const optimizer_kernels *> op.kernels).rmsprop(
        at(op, PARAM, begin), at(op, SQUARE_AVG, begin), at(op, RMSPROP_BUFFER, begin), at(op, GRAD_AVG, begin),
        at(op, GRAD, begin), n, &s)
    return 0


cdef int run_tick(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef double *hyper = <double *> op.buf[TICK_HYPER]
    cdef int64_t k
    if op.dim[CONDITION] < 0 or hyper[op.dim[CONDITION]] != 0:
        for k in range(chunk * CHUNK, min((chunk + 1) * CHUNK, op.dim[TICK_COUNT])):
            (<double *> op.buf[TICK_STEPS])[k] += 1
    if op.dim[UPDATES] >= 0 and chunk == 0:
        hyper[op.dim[UPDATES]] += 1
    return 0


runtime.register_op("sgd", run_sgd, prepare_sgd,
                    "param", "grad hyper steps begins +momentum_buffer", "n count maximize nesterov")
runtime.register_op("adam", run_adam, prepare_adam,
                    "param", "grad hyper steps begins +exp_avg +exp_avg_sq +max_exp_avg_sq?", "n count maximize decoupled")
runtime.register_op("rmsprop", run_rmsprop, prepare_rmsprop,
                    "param", "grad hyper steps begins +square_avg +momentum_buffer? +grad_avg?", "n count maximize")
runtime.register_op("tick", run_tick, prepare_tick, "hyper", "+steps", "count updates condition")
