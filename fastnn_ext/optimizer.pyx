"""Parameter updates, each one sweep over flat arrays, as PyTorch's; and what is counted and measured for them.

An update is that of `count` parameters of n elements together, which lie one behind the other, and their states, from
the gradient. Parameter k has the elements from begins[k] - begins[0] on, and has been updated steps[k] times (a
double), each by its own count: one that was frozen for a while is not as far as its neighbours. At steps[k] = 0 states
that begin with something else than 0 are not read. States that are optional are NULL where the settings do without.

`hyper` points to doubles, read at run time, so that a schedule changes them without a new plan; HYPER_NAMES has their
names, in order, by the op that reads them. The first are the same for all (shared_hyper): how much the gradient is
clipped, decayed and so on, before an update takes it (simd/optimizer.h says in which order). `decoupled` is AdamW's
weight decay. `norm` points to a double, the norm of the gradients by which they are clipped; `noise` has n numbers of
mean 0 and variance 1. `average` is a running mean of the new parameters, which takes every averaging_every-th of them;
averaged[k] says how many updates it has seen of parameter k (a double). `averaging` is the decay, or 1 for a mean in
which all that it took count alike.

sgd_rows is sgd of those rows of a parameter, `width` elements each, that `rows` names: n numbers, of which -1 names
none.

squares sums the squares of each piece of n elements, which lie together as above; piece k has the pieces[2 k + 1]
elements from pieces[2 k] on, CHUNK at most, of one parameter alone: so a norm does not depend on how parameters lie.
total adds them, in their order, to `before` (0 without it); root: and takes the root.

rprop has the `loss` that parameters had at the step before (doubles), which undoes steps only where `present`, the loss
now, is above it; without the two it always does. rprop_count keeps the latter.

average is an update that leaves parameters as they are: for averages of what other ops make of them after the update.

nadam has the product of its momenta for each parameter, mu_product (doubles); nadam_count multiplies the next one to
it.

tick runs after the updates. It adds 1 to steps[0 ... count - 1], unless hyper[condition] is 0 (condition -1: always),
and to hyper[updates], those of the whole group (updates -1: not).

References
----------
SGD: Sutskever, Martens, Dahl, Hinton, "On the importance of initialization and momentum in deep learning", ICML 2013,
with PyTorch's definition of the momentum buffer. Adagrad: Duchi, Hazan, Singer, "Adaptive subgradient methods", JMLR
12, 2011. Adadelta: Zeiler, arXiv 1212.5701, 2012. RMSprop: Tieleman, Hinton, "Lecture 6.5", Coursera, 2012; Graves,
"Generating sequences with recurrent neural networks", 2013 (centered). Rprop: Riedmiller, Braun, ICNN 1993; Igel,
Huesken, "Improving the Rprop learning algorithm", NC 2000. Adam, Adamax: Kingma, Ba, "Adam: a method for stochastic
optimization", ICLR 2015, algorithms 1 and 2. AMSGrad: Reddi, Kale, Kumar, "On the convergence of Adam and beyond", ICLR
2018. AdamW: Loshchilov, Hutter, "Decoupled weight decay regularization", ICLR 2019. NAdam: Dozat, "Incorporating
Nesterov momentum into Adam", ICLR workshop 2016. RAdam: Liu and others, "On the variance of the adaptive learning rate
and beyond", ICLR 2020. Lion: Chen and others, "Symbolic discovery of optimization algorithms", NeurIPS 2023. Averages:
Polyak, Juditsky, "Acceleration of stochastic approximation by averaging", SIAM J. Control Optim. 30, 1992.
"""
from libc.math cimport INFINITY, fmod, pow, sqrt
from libc.stdint cimport int64_t

from fastnn_ext cimport runtime
from fastnn_ext.driver cimport at, ceil_div
from fastnn_ext.runtime cimport fnn_op


cdef extern from "simd/optimizer.h" nogil:
    enum:
        FNN_OPTIMIZER_COUNT, FNN_MOST_STATES
        FNN_OPTIMIZER_sgd, FNN_OPTIMIZER_adagrad, FNN_OPTIMIZER_adadelta, FNN_OPTIMIZER_rmsprop, FNN_OPTIMIZER_rprop
        FNN_OPTIMIZER_adam, FNN_OPTIMIZER_adamax, FNN_OPTIMIZER_nadam, FNN_OPTIMIZER_radam, FNN_OPTIMIZER_lion
    struct optimizer_rule:
        double scale, clip, noise, shrink, decay, l1
        int plain
    struct sgd_step:
        double lr, momentum, gain
        int first, nesterov
    struct adagrad_step:
        double lr, eps, initial
        int first
    struct adadelta_step:
        double lr, rho, gain, eps
    struct rmsprop_step:
        double lr, momentum, alpha, gain, eps
    struct rprop_step:
        double initial, eta_minus, eta_plus, least, most
        int first, zero, undo
    struct adam_step:
        double step_size, inverse_root, gain1, beta2, gain2, eps
    struct adamax_step:
        double step_size, gain1, beta2, eps
    struct nadam_step:
        double of_grad, of_mean, inverse_root, gain1, beta2, gain2, eps
    struct radam_step:
        double step_size, gain1, beta2, gain2, eps
        int rectified
    struct lion_step:
        double lr, gain1, gain2
    ctypedef void (*fnn_update)(void *param, void *const *states, const void *grad, int64_t n, double scale,
                                const void *step) noexcept nogil
    struct optimizer_kernels:
        double (*squares)(const void *x, int64_t n) noexcept nogil
        void (*take)(void *taken, void *param, const void *grad, const void *noise, int64_t n,
                     const optimizer_rule *rule) noexcept nogil
        void (*average)(void *average, const void *param, int64_t n, double share) noexcept nogil
        fnn_update update[FNN_OPTIMIZER_COUNT]
    const optimizer_kernels *optimizer_table(int isa, int dtype)


cdef union any_step:
    sgd_step sgd
    adagrad_step adagrad
    adadelta_step adadelta
    rmsprop_step rmsprop
    rprop_step rprop
    adam_step adam
    adamax_step adamax
    nadam_step nadam
    radam_step radam
    lion_step lion


# What `hyper` points to: these, and what the optimizer has of its own.
cdef struct shared_hyper:
    double lr, weight_decay, l1_penalty, clip_grad_value, clip_grad_norm, grad_noise
    double averaging, averaging_every, updates
cdef struct sgd_hyper:
    double momentum, dampening
cdef struct adagrad_hyper:
    double lr_decay, initial_accumulator_value, eps
cdef struct adadelta_hyper:
    double rho, eps
cdef struct rmsprop_hyper:
    double alpha, eps, momentum
cdef struct rprop_hyper:
    double eta_minus, eta_plus, least, most
cdef struct adam_hyper:  # and of adamax and radam
    double beta1, beta2, eps
cdef struct nadam_hyper:
    double beta1, beta2, eps, momentum_decay
cdef struct lion_hyper:
    double beta1, beta2

# A struct becomes a dict by its members' names.
cdef shared_hyper of_all
cdef sgd_hyper of_sgd
cdef adagrad_hyper of_adagrad
cdef adadelta_hyper of_adadelta
cdef rmsprop_hyper of_rmsprop
cdef rprop_hyper of_rprop
cdef adam_hyper of_adam
cdef nadam_hyper of_nadam
cdef lion_hyper of_lion
SHARED = tuple(<dict> of_all)
HYPER_NAMES = {
    "sgd": SHARED + tuple(<dict> of_sgd),
    "adagrad": SHARED + tuple(<dict> of_adagrad),
    "adadelta": SHARED + tuple(<dict> of_adadelta),
    "rmsprop": SHARED + tuple(<dict> of_rmsprop),
    "rprop": SHARED + tuple(<dict> of_rprop),
    "adam": SHARED + tuple(<dict> of_adam),
    "adamax": SHARED + tuple(<dict> of_adam),
    "nadam": SHARED + tuple(<dict> of_nadam),
    "radam": SHARED + tuple(<dict> of_adam),
    "lion": SHARED + tuple(<dict> of_lion),
}

# Places in fnn_op.buf: of all updates; of nadam; of rprop; of what counts; of tick; of squares; of total.
cdef enum: PARAM, GRAD, HYPER, STEPS, BEGINS, NORM, NOISE, AVERAGE, AVERAGED, STATE
cdef enum: MU_PRODUCT = STATE + 2
cdef enum: PRESENT = STATE + 2, LOSS
cdef enum: COUNTED, COUNT_HYPER, COUNT_STEPS, COUNT_PRESENT
cdef enum: TICK_HYPER, TICK_STEPS
cdef enum: SUMS, SQUARED, PIECES
cdef enum: TOTAL, SUMMED, BEFORE
# Places in fnn_op.dim: of all updates, of sgd, of rprop and of adam; of tick and nadam_count; of squares; of total.
cdef enum: N, COUNT, MAXIMIZE, DECOUPLED, NESTEROV
cdef enum: ZERO = 4, UNDO
cdef enum: UNCORRECTED_EPS = 4
cdef enum: TICK_COUNT, UPDATES, CONDITION
cdef enum: PIECE_COUNT = 1
cdef enum: TOTAL_COUNT, ROOT

cdef enum: CHUNK = 8192  # elements
cdef enum: BLOCK = 1024  # elements, that stay in the first cache between what is done to them
PIECE = CHUNK

ctypedef void (*fnn_coefficients)(const fnn_op *op, const shared_hyper *all, int64_t k, void *step) noexcept nogil


cdef void prepare_update(fnn_op *op) noexcept nogil:
    """Chunks of CHUNK elements. A float32's update takes 0.3 to 0.6 ns, a float64's twice as long."""
    op.kernels = optimizer_table(op.isa, op.dtype)
    op.chunks = ceil_div(op.dim[N], CHUNK)
    op.cost = (0.4 if op.dtype == 0 else 0.8) * op.dim[N]


cdef inline int64_t part_of(const fnn_op *op, int64_t begin, int64_t end, int64_t *first) noexcept nogil:
    """The end of the elements from `begin` on whose parameters have made as many steps, and are averaged of as
    many; `first` is the parameter that holds `begin`."""
    cdef const double *steps = <const double *> op.buf[STEPS]
    cdef const double *averaged = <const double *> op.buf[STEPS if op.buf[AVERAGED] == NULL else AVERAGED]
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
    while (k < count and steps[k] == steps[first[0]] and averaged[k] == averaged[first[0]]
           and begins[k] - begins[0] < end):
        k += 1
    return min(end, begins[k] - begins[0]) if k < count else end


cdef inline const void *own(const shared_hyper *all) noexcept nogil:
    """The numbers behind those that all have."""
    return all + 1


cdef inline double steps_of(const fnn_op *op, int64_t k) noexcept nogil:
    return (<const double *> op.buf[STEPS])[k]


cdef optimizer_rule rule_of(const fnn_op *op, const shared_hyper *all) noexcept nogil:
    cdef optimizer_rule r
    cdef double clipped
    r.scale = -1 if op.dim[MAXIMIZE] else 1
    if op.buf[NORM] != NULL:
        clipped = all.clip_grad_norm / ((<const double *> op.buf[NORM])[0] + 1e-6)  # PyTorch's
        if not clipped >= 1:  # NaN is one of the gradients', and remains
            r.scale *= clipped
    r.clip = all.clip_grad_value
    r.noise = all.grad_noise
    r.shrink = 1 - all.lr * all.weight_decay if op.dim[DECOUPLED] else 1
    r.decay = 0 if op.dim[DECOUPLED] else all.weight_decay
    r.l1 = all.l1_penalty
    r.plain = (r.clip == INFINITY and op.buf[NOISE] == NULL and r.shrink == 1 and r.decay == 0 and r.l1 == 0)
    return r


cdef inline double share_of_average(const fnn_op *op, const shared_hyper *all, int64_t k) noexcept nogil:
    """How much of the average parameter k is after this step; 0 if the average does not take it."""
    cdef double seen, taken
    if op.buf[AVERAGE] == NULL:
        return 0
    seen = (<const double *> op.buf[AVERAGED])[k] + 1
    taken = seen / all.averaging_every
    if fmod(seen, all.averaging_every) != 0:
        return 0
    return 1 / taken if taken == 1 or all.averaging == 1 else 1 - all.averaging


cdef inline void update(const optimizer_kernels *kernels, int kind, void *param, void *const *states, const void *grad,
                        const void *noise, int64_t n, const optimizer_rule *rule, const any_step *step) noexcept nogil:
    """n elements; no more than BLOCK of them, unless the rule is plain."""
    cdef double[BLOCK] taken
    if rule.plain:
        kernels.update[kind](param, states, grad, n, rule.scale, step)
    else:
        kernels.take(taken, param, grad, noise, n, rule)
        kernels.update[kind](param, states, taken, n, 1, step)


cdef inline int sweep(const fnn_op *op, int64_t chunk, int kind, int states,
                      fnn_coefficients coefficients) noexcept nogil:
    """A chunk of an update: each part of it by the steps that its parameters have made."""
    cdef int64_t begin = chunk * CHUNK, end = min(begin + CHUNK, op.dim[N]), part, k = 0
    cdef const shared_hyper *all = <const shared_hyper *> op.buf[HYPER]
    cdef optimizer_rule rule = rule_of(op, all)
    cdef const optimizer_kernels *kernels = <const optimizer_kernels *> op.kernels
    cdef any_step step
    cdef void *state[FNN_MOST_STATES]
    cdef double share
    cdef int64_t n
    cdef int j
    while begin < end:
        part = part_of(op, begin, end, &k)
        coefficients(op, all, k, &step)
        share = share_of_average(op, all, k)
        while begin < part:
            n = part - begin
            if not rule.plain or share != 0:
                n = min(n, <int64_t> BLOCK)
            for j in range(states):
                state[j] = at(op, STATE + j, begin)
            update(kernels, kind, at(op, PARAM, begin), state, at(op, GRAD, begin), at(op, NOISE, begin), n, &rule,
                   &step)
            if share != 0:
                kernels.average(at(op, AVERAGE, begin), at(op, PARAM, begin), n, share)
            begin += n
    return 0


# ---- the optimizers: what the numbers of a step are ------------------------------------------------

cdef void sgd(const fnn_op *op, const shared_hyper *all, int64_t k, void *step) noexcept nogil:
    cdef const sgd_hyper *h = <const sgd_hyper *> own(all)
    cdef sgd_step *s = <sgd_step *> step
    s.lr, s.momentum, s.gain = all.lr, h.momentum, 1 - h.dampening
    s.first, s.nesterov = steps_of(op, k) == 0, op.dim[NESTEROV] != 0


cdef void adagrad(const fnn_op *op, const shared_hyper *all, int64_t k, void *step) noexcept nogil:
    cdef const adagrad_hyper *h = <const adagrad_hyper *> own(all)
    cdef adagrad_step *s = <adagrad_step *> step
    cdef double t = steps_of(op, k)
    s.lr, s.eps, s.initial, s.first = all.lr / (1 + t * h.lr_decay), h.eps, h.initial_accumulator_value, t == 0


cdef void adadelta(const fnn_op *op, const shared_hyper *all, int64_t k, void *step) noexcept nogil:
    cdef const adadelta_hyper *h = <const adadelta_hyper *> own(all)
    cdef adadelta_step *s = <adadelta_step *> step
    s.lr, s.rho, s.gain, s.eps = all.lr, h.rho, 1 - h.rho, h.eps


cdef void rmsprop(const fnn_op *op, const shared_hyper *all, int64_t k, void *step) noexcept nogil:
    cdef const rmsprop_hyper *h = <const rmsprop_hyper *> own(all)
    cdef rmsprop_step *s = <rmsprop_step *> step
    s.lr, s.momentum, s.alpha, s.gain, s.eps = all.lr, h.momentum, h.alpha, 1 - h.alpha, h.eps


cdef inline double present_loss(const fnn_op *op, int place) noexcept nogil:
    return (<const float *> op.buf[place])[0] if op.dtype == 0 else (<const double *> op.buf[place])[0]


cdef void rprop(const fnn_op *op, const shared_hyper *all, int64_t k, void *step) noexcept nogil:
    cdef const rprop_hyper *h = <const rprop_hyper *> own(all)
    cdef rprop_step *s = <rprop_step *> step
    s.initial, s.eta_minus, s.eta_plus, s.least, s.most = all.lr, h.eta_minus, h.eta_plus, h.least, h.most
    s.first, s.zero, s.undo = steps_of(op, k) == 0, op.dim[ZERO] != 0, op.dim[UNDO] != 0
    if op.buf[LOSS] != NULL and not present_loss(op, PRESENT) > (<const double *> op.buf[LOSS])[k]:
        s.undo = 0


cdef void adam(const fnn_op *op, const shared_hyper *all, int64_t k, void *step) noexcept nogil:
    cdef const adam_hyper *h = <const adam_hyper *> own(all)
    cdef adam_step *s = <adam_step *> step
    cdef double t = steps_of(op, k) + 1
    s.step_size, s.inverse_root = all.lr / (1 - pow(h.beta1, t)), 1 / sqrt(1 - pow(h.beta2, t))
    s.gain1, s.beta2, s.gain2, s.eps = 1 - h.beta1, h.beta2, 1 - h.beta2, h.eps
    if op.dim[UNCORRECTED_EPS]:
        s.step_size, s.inverse_root = s.step_size / s.inverse_root, 1


cdef void adamax(const fnn_op *op, const shared_hyper *all, int64_t k, void *step) noexcept nogil:
    cdef const adam_hyper *h = <const adam_hyper *> own(all)
    cdef adamax_step *s = <adamax_step *> step
    s.step_size = all.lr / (1 - pow(h.beta1, steps_of(op, k) + 1))
    s.gain1, s.beta2, s.eps = 1 - h.beta1, h.beta2, h.eps


cdef inline double nadam_momentum(const nadam_hyper *h, double t) noexcept nogil:
    return h.beta1 * (1 - 0.5 * pow(0.96, t * h.momentum_decay))


cdef void nadam(const fnn_op *op, const shared_hyper *all, int64_t k, void *step) noexcept nogil:
    cdef const nadam_hyper *h = <const nadam_hyper *> own(all)
    cdef nadam_step *s = <nadam_step *> step
    cdef double t = steps_of(op, k) + 1, mu = nadam_momentum(h, t), following = nadam_momentum(h, t + 1)
    cdef double product = (<const double *> op.buf[MU_PRODUCT])[k] * mu
    s.of_grad = all.lr * (1 - mu) / (1 - product)
    s.of_mean = all.lr * following / (1 - product * following)
    s.inverse_root = 1 / sqrt(1 - pow(h.beta2, t))
    s.gain1, s.beta2, s.gain2, s.eps = 1 - h.beta1, h.beta2, 1 - h.beta2, h.eps


cdef void radam(const fnn_op *op, const shared_hyper *all, int64_t k, void *step) noexcept nogil:
    cdef const adam_hyper *h = <const adam_hyper *> own(all)
    cdef radam_step *s = <radam_step *> step
    cdef double t = steps_of(op, k) + 1, correction2 = 1 - pow(h.beta2, t), most = 2 / (1 - h.beta2) - 1
    cdef double length = most - 2 * t * pow(h.beta2, t) / correction2  # of the average that is as uncertain
    s.step_size = all.lr / (1 - pow(h.beta1, t))
    s.rectified = length > 5
    if s.rectified:
        s.step_size *= sqrt(
            correction2 * (length - 4) * (length - 2) * most / ((most - 4) * (most - 2) * length))
    s.gain1, s.beta2, s.gain2, s.eps = 1 - h.beta1, h.beta2, 1 - h.beta2, h.eps


cdef void lion(const fnn_op *op, const shared_hyper *all, int64_t k, void *step) noexcept nogil:
    cdef const lion_hyper *h = <const lion_hyper *> own(all)
    cdef lion_step *s = <lion_step *> step
    s.lr, s.gain1, s.gain2 = all.lr, 1 - h.beta1, 1 - h.beta2


cdef int run_sgd(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    return sweep(op, chunk, FNN_OPTIMIZER_sgd, 1, sgd)


cdef enum: ROWS = STATE
cdef enum: WIDTH = NESTEROV + 1, BLOCKS, UNITS


cdef void prepare_rows(fnn_op *op) noexcept nogil:
    """A unit is a block of a row."""
    op.kernels = optimizer_table(op.isa, op.dtype)
    op.dim[BLOCKS] = ceil_div(op.dim[WIDTH], BLOCK)
    op.dim[UNITS] = CHUNK // (min(op.dim[WIDTH], <int64_t> BLOCK) + 16)
    op.chunks = ceil_div(op.dim[N] * op.dim[BLOCKS], op.dim[UNITS])
    op.cost = (20 + (0.6 if op.dtype == 0 else 1.2) * op.dim[WIDTH]) * op.dim[N]


cdef int run_sgd_rows(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t blocks = op.dim[BLOCKS], width = op.dim[WIDTH], unit, begin, row
    cdef int64_t first = chunk * op.dim[UNITS], end = min(first + op.dim[UNITS], op.dim[N] * blocks)
    cdef const shared_hyper *all = <const shared_hyper *> op.buf[HYPER]
    cdef optimizer_rule rule = rule_of(op, all)
    cdef any_step step
    cdef void *state[FNN_MOST_STATES]
    state[0] = NULL
    sgd(op, all, 0, &step)
    for unit in range(first, end):
        row = (<const int64_t *> op.buf[ROWS])[unit // blocks]
        begin = unit % blocks * BLOCK
        if row >= 0:
            update(<const optimizer_kernels *> op.kernels, FNN_OPTIMIZER_sgd, at(op, PARAM, row * width + begin), state,
                   at(op, GRAD, row * width + begin), NULL, min(<int64_t> BLOCK, width - begin), &rule, &step)
    return 0


cdef int run_adagrad(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    return sweep(op, chunk, FNN_OPTIMIZER_adagrad, 1, adagrad)


cdef int run_adadelta(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    return sweep(op, chunk, FNN_OPTIMIZER_adadelta, 2, adadelta)


cdef int run_rmsprop(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    return sweep(op, chunk, FNN_OPTIMIZER_rmsprop, 3, rmsprop)


cdef int run_rprop(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    return sweep(op, chunk, FNN_OPTIMIZER_rprop, 2, rprop)


cdef int run_adam(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    return sweep(op, chunk, FNN_OPTIMIZER_adam, 3, adam)


cdef int run_adamax(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    return sweep(op, chunk, FNN_OPTIMIZER_adamax, 2, adamax)


cdef int run_nadam(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    return sweep(op, chunk, FNN_OPTIMIZER_nadam, 2, nadam)


cdef int run_radam(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    return sweep(op, chunk, FNN_OPTIMIZER_radam, 2, radam)


cdef int run_lion(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    return sweep(op, chunk, FNN_OPTIMIZER_lion, 1, lion)


cdef int run_average(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t begin = chunk * CHUNK, end = min(begin + CHUNK, op.dim[N]), part, k = 0
    cdef const shared_hyper *all = <const shared_hyper *> op.buf[HYPER]
    cdef double share
    while begin < end:
        part = part_of(op, begin, end, &k)
        share = share_of_average(op, all, k)
        if share != 0:
            (<const optimizer_kernels *> op.kernels).average(at(op, AVERAGE, begin), at(op, PARAM, begin), part - begin,
                                                             share)
        begin = part
    return 0


# ---- counting --------------------------------------------------------------------------------------

cdef void prepare_count(fnn_op *op) noexcept nogil:
    op.chunks = max(<int64_t> 1, ceil_div(op.dim[TICK_COUNT], CHUNK))
    op.cost = 1 + op.dim[TICK_COUNT]


cdef int run_tick(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef double *hyper = <double *> op.buf[TICK_HYPER]
    cdef int64_t k
    if op.dim[CONDITION] < 0 or hyper[op.dim[CONDITION]] != 0:
        for k in range(chunk * CHUNK, min((chunk + 1) * CHUNK, op.dim[TICK_COUNT])):
            (<double *> op.buf[TICK_STEPS])[k] += 1
    if op.dim[UPDATES] >= 0 and chunk == 0:
        hyper[op.dim[UPDATES]] += 1
    return 0


cdef void prepare_nadam_count(fnn_op *op) noexcept nogil:
    op.chunks = ceil_div(op.dim[TICK_COUNT], CHUNK)
    op.cost = 50 * op.dim[TICK_COUNT]


cdef int run_nadam_count(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef const nadam_hyper *h = <const nadam_hyper *> own(<const shared_hyper *> op.buf[COUNT_HYPER])
    cdef const double *steps = <const double *> op.buf[COUNT_STEPS]
    cdef int64_t k
    for k in range(chunk * CHUNK, min((chunk + 1) * CHUNK, op.dim[TICK_COUNT])):
        (<double *> op.buf[COUNTED])[k] *= nadam_momentum(h, steps[k] + 1)
    return 0


cdef int run_rprop_count(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t k
    for k in range(chunk * CHUNK, min((chunk + 1) * CHUNK, op.dim[TICK_COUNT])):
        (<double *> op.buf[COUNTED])[k] = present_loss(op, COUNT_PRESENT)
    return 0


# ---- norms -----------------------------------------------------------------------------------------

cdef void prepare_squares(fnn_op *op) noexcept nogil:
    op.kernels = optimizer_table(op.isa, op.dtype)
    op.chunks = ceil_div(op.dim[N], CHUNK)
    op.cost = (0.08 if op.dtype == 0 else 0.16) * op.dim[N] + 5 * op.dim[PIECE_COUNT]


cdef int run_squares(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    """The pieces that begin in the chunk."""
    cdef const int64_t *pieces = <const int64_t *> op.buf[PIECES]
    cdef int64_t begin = chunk * CHUNK, first = 0, beyond = op.dim[PIECE_COUNT], k
    while first < beyond:
        k = (first + beyond) // 2
        if pieces[2 * k] < begin:
            first = k + 1
        else:
            beyond = k
    while first < op.dim[PIECE_COUNT] and pieces[2 * first] < begin + CHUNK:
        (<double *> op.buf[SUMS])[first] = (<const optimizer_kernels *> op.kernels).squares(
            at(op, SQUARED, pieces[2 * first]), pieces[2 * first + 1])
        first += 1
    return 0


cdef void prepare_total(fnn_op *op) noexcept nogil:
    op.chunks = 1
    op.cost = 20 + op.dim[TOTAL_COUNT]


cdef int run_total(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef double total = 0 if op.buf[BEFORE] == NULL else (<const double *> op.buf[BEFORE])[0]
    cdef int64_t k
    for k in range(op.dim[TOTAL_COUNT]):
        total += (<const double *> op.buf[SUMMED])[k]
    (<double *> op.buf[TOTAL])[0] = sqrt(total) if op.dim[ROOT] else total
    return 0


# All updates have these, in front of what they have of their own.
INPUTS = "grad hyper steps begins norm? noise? +average? averaged? "
DIMS = "n count maximize decoupled "
runtime.register_op("sgd", run_sgd, prepare_update, "param", INPUTS + "+momentum_buffer?", DIMS + "nesterov")
runtime.register_op("sgd_rows", run_sgd_rows, prepare_rows, "param", INPUTS + "rows", DIMS + "nesterov width")
runtime.register_op("adagrad", run_adagrad, prepare_update, "param", INPUTS + "+sum", DIMS)
runtime.register_op("adadelta", run_adadelta, prepare_update, "param", INPUTS + "+square_avg +acc_delta", DIMS)
runtime.register_op("rmsprop", run_rmsprop, prepare_update,
                    "param", INPUTS + "+square_avg +momentum_buffer? +grad_avg?", DIMS)
runtime.register_op("rprop", run_rprop, prepare_update,
                    "param", INPUTS + "+prev +step_size present? loss?", DIMS + "zero undo")
runtime.register_op("adam", run_adam, prepare_update,
                    "param", INPUTS + "+exp_avg +exp_avg_sq +max_exp_avg_sq?", DIMS + "uncorrected_eps")
runtime.register_op("adamax", run_adamax, prepare_update, "param", INPUTS + "+exp_avg +exp_inf", DIMS)
runtime.register_op("nadam", run_nadam, prepare_update, "param", INPUTS + "+exp_avg +exp_avg_sq mu_product", DIMS)
runtime.register_op("radam", run_radam, prepare_update, "param", INPUTS + "+exp_avg +exp_avg_sq", DIMS)
runtime.register_op("lion", run_lion, prepare_update, "param", INPUTS + "+exp_avg", DIMS)
runtime.register_op("average", run_average, prepare_update, "param", INPUTS, "n count")
runtime.register_op("squares", run_squares, prepare_squares, "sums", "x pieces", "n count")
runtime.register_op("total", run_total, prepare_total, "total", "sums before?", "count root")
runtime.register_op("tick", run_tick, prepare_count, "hyper", "+steps", "count updates condition")
runtime.register_op("nadam_count", run_nadam_count, prepare_nadam_count, "mu_product", "hyper steps", "count")
runtime.register_op("rprop_count", run_rprop_count, prepare_count, "loss", "hyper steps present", "count")
