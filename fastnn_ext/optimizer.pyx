"""Parameter updates: SGD with momentum, Adam, AdamW; each one sweep over flat arrays.

Native ops
----------
sgd         buf: param, grad, momentum_buffer | NULL, hyper, steps, begins  dim: n, count, nesterov, maximize
adam        buf: param, grad, m, v, vmax | NULL, hyper, steps, begins       dim: n, count, decoupled, maximize
tick        buf: hyper, steps | NULL                                        dim: index, count, condition

`hyper` points to eight doubles, read at run time, so that a schedule changes them without a new plan:

sgd    lr, momentum, dampening, weight_decay, updates
adam   lr, beta1, beta2, eps, weight_decay, updates

An op updates `count` parameters that lie one behind the other; parameter k has the elements from
begins[k] - begins[0] on, and has been updated steps[k] times (a double), each by its own count: one that
was frozen for a while is not as far as its neighbours. For SGD only steps with a momentum count, since at
steps[k] = 0 the buffer's contents are not read.

`tick` runs after the updates. It adds 1 to steps[0 ... count - 1], unless hyper[condition] is 0
(condition -1: always), and to hyper[index], the group's updates (index -1: not). SGD without a buffer is SGD
without momentum. `decoupled` is AdamW's weight decay, `vmax` AMSGrad's maximum.
"""
from libc.math cimport pow, sqrt
from libc.stdint cimport int64_t
from libc.string cimport memset

from fastnn_ext cimport runtime
from fastnn_ext.arrays cimport check, check_apart, check_real, data
from fastnn_ext.runtime cimport fnn_op


cdef extern from "simd/optimizer.h" nogil:
    struct sgd_step:
        double lr, momentum, gain, weight_decay
        int first, nesterov, maximize
    struct adam_step:
        double step_size, inverse_root, gain1, beta2, gain2, eps, weight_decay, shrink
        int decoupled, maximize
    struct optimizer_kernels:
        void (*sgd)(void *param, void *buffer, const void *grad, int64_t n, const sgd_step *s) noexcept nogil
        void (*adam)(void *param, void *m, void *v, void *vmax, const void *grad, int64_t n,
                     const adam_step *s) noexcept nogil
    const optimizer_kernels *optimizer_table(int isa, int dtype)


HYPER = 8  # doubles that `hyper` points to

cdef enum: CHUNK = 8192


cdef inline void *at(const fnn_op *op, int k, int64_t element) noexcept nogil:
    return NULL if op.buf[k] == NULL else <char *> op.buf[k] + element * (4 if op.dtype == 0 else 8)


cdef inline void cut(fnn_op *op, double ns) noexcept nogil:
    op.kernels = optimizer_table(op.isa, op.dtype)
    op.chunks = (op.dim[0] + CHUNK - 1) // CHUNK
    op.cost = (ns if op.dtype == 0 else 2 * ns) * op.dim[0]


cdef void prepare_sgd(fnn_op *op) noexcept nogil:
    cut(op, 0.3)


cdef void prepare_adam(fnn_op *op) noexcept nogil:
    cut(op, 0.5)


cdef void prepare_tick(fnn_op *op) noexcept nogil:
    op.chunks = max(<int64_t> 1, (op.dim[1] + CHUNK - 1) // CHUNK)
    op.cost = 1 + op.dim[1]


cdef inline int64_t part_of(const fnn_op *op, const double *steps, const int64_t *begins, int64_t begin,
                            int64_t end, int64_t *first) noexcept nogil:
    """The end of the elements from `begin` on whose parameters have made as many steps; `first` is the
    parameter that holds `begin`."""
    cdef int64_t count = op.dim[1], k, beyond = op.dim[1]
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
    cdef int64_t begin = chunk * CHUNK, end = min(begin + CHUNK, op.dim[0]), part, k = 0
    cdef const double *hyper = <const double *> op.buf[3]
    cdef const double *steps = <const double *> op.buf[4]
    cdef const int64_t *begins = <const int64_t *> op.buf[5]
    cdef sgd_step s
    s.lr, s.momentum, s.gain, s.weight_decay = hyper[0], hyper[1], 1 - hyper[2], hyper[3]
    s.nesterov, s.maximize = op.dim[2] != 0, op.dim[3] != 0
    while begin < end:
        part = part_of(op, steps, begins, begin, end, &k)
        s.first = steps[k] == 0
        # PyTorch leaves the buffer alone while momentum is 0.
        (<const optimizer_kernels *> op.kernels).sgd(
            at(op, 0, begin), NULL if s.momentum == 0 else at(op, 2, begin), at(op, 1, begin), part - begin, &s)
        begin = part
    return 0


cdef int run_adam(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef int64_t begin = chunk * CHUNK, end = min(begin + CHUNK, op.dim[0]), part, k = 0
    cdef const double *hyper = <const double *> op.buf[5]
    cdef const double *steps = <const double *> op.buf[6]
    cdef const int64_t *begins = <const int64_t *> op.buf[7]
    cdef double lr = hyper[0], beta1 = hyper[1], beta2 = hyper[2], t
    cdef adam_step s
    s.gain1, s.beta2, s.gain2 = 1 - beta1, beta2, 1 - beta2
    s.eps, s.weight_decay, s.shrink = hyper[3], hyper[4], 1 - lr * hyper[4]
    s.decoupled, s.maximize = op.dim[2] != 0, op.dim[3] != 0
    while begin < end:
        part = part_of(op, steps, begins, begin, end, &k)
        t = steps[k] + 1
        s.step_size = lr / (1 - pow(beta1, t))
        s.inverse_root = 1 / sqrt(1 - pow(beta2, t))
        (<const optimizer_kernels *> op.kernels).adam(
            at(op, 0, begin), at(op, 2, begin), at(op, 3, begin), at(op, 4, begin), at(op, 1, begin),
            part - begin, &s)
        begin = part
    return 0


cdef int run_tick(const fnn_op *op, int64_t chunk, void *scratch) noexcept nogil:
    cdef double *hyper = <double *> op.buf[0]
    cdef int64_t k
    if op.dim[2] < 0 or hyper[op.dim[2]] != 0:
        for k in range(chunk * CHUNK, min((chunk + 1) * CHUNK, op.dim[1])):
            (<double *> op.buf[1])[k] += 1
    if op.dim[0] >= 0 and chunk == 0:
        hyper[op.dim[0]] += 1
    return 0


runtime.register_op("sgd", run_sgd, prepare_sgd)
runtime.register_op("adam", run_adam, prepare_adam)
runtime.register_op("tick", run_tick, prepare_tick)


def sgd(param, grad, momentum_buffer, hyper, bint nesterov=False, bint maximize=False):
    """One step of stochastic gradient descent, as torch.optim.SGD; updates its arrays in place.

    Parameters
    ----------
    param : ndarray of float32 or float64
    grad : ndarray like `param`
    momentum_buffer : ndarray like `param`, or None
        Needed where the momentum is not 0; its contents are not read at step 0.
    hyper : ndarray of float64, shape (8,)
        lr, momentum, dampening, weight_decay, step (finished steps); the rest is unused. It is not
        changed: see `tick`.
    nesterov, maximize : bool, default False

    Raises
    ------
    TypeError, ValueError
        If an array is not contiguous, or its dtype or shape does not fit, or two arrays overlap.

    References
    ----------
    Sutskever, Martens, Dahl, Hinton, "On the importance of initialization and momentum in deep
    learning", ICML 2013; with PyTorch's definition of the momentum buffer.
    """
    cdef fnn_op op
    cdef int64_t begins = 0
    memset(&op, 0, sizeof(op))
    op.dtype = check_real("param", param, None, True)
    check("grad", grad, param.dtype, param.shape)
    check("hyper", hyper, "float64", (HYPER,))
    if momentum_buffer is not None:
        check("momentum_buffer", momentum_buffer, param.dtype, param.shape, True)
    elif hyper[1] != 0:
        raise ValueError(f"momentum_buffer must be given, as the momentum is {hyper[1]}")
    check_apart({"param": param, "grad": grad, "momentum_buffer": momentum_buffer, "hyper": hyper})
    op.buf[0], op.buf[1], op.buf[2], op.buf[3] = data(param), data(grad), data(momentum_buffer), data(hyper)
    op.buf[4], op.buf[5] = <double *> data(hyper) + 4, &begins
    op.dim[0], op.dim[1], op.dim[2], op.dim[3] = param.size, 1, nesterov, maximize
    runtime.run_one("sgd", &op)


def adam(param, grad, m, v, vmax, hyper, bint decoupled=False, bint maximize=False):
    """One step of Adam, as torch.optim.Adam, or AdamW; updates its arrays in place.

    Parameters
    ----------
    param : ndarray of float32 or float64
    grad : ndarray like `param`
    m, v : ndarray like `param`
        Running averages of the gradient and of its square; zero before the first step.
    vmax : ndarray like `param`, or None
        The maximum of `v` so far: AMSGrad.
    hyper : ndarray of float64, shape (8,)
        lr, beta1, beta2, eps, weight_decay, step (finished steps); the rest is unused. It is not
        changed: see `tick`.
    decoupled : bool, default False
        Weight decay as in AdamW, not through the gradient.
    maximize : bool, default False

    Raises
    ------
    TypeError, ValueError
        If an array is not contiguous, or its dtype or shape does not fit, or two arrays overlap.

    References
    ----------
    Kingma, Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1. Reddi, Kale,
    Kumar, "On the convergence of Adam and beyond", ICLR 2018 (AMSGrad). Loshchilov, Hutter,
    "Decoupled weight decay regularization", ICLR 2019 (AdamW).
    """
    cdef fnn_op op
    cdef int64_t begins = 0
    memset(&op, 0, sizeof(op))
    op.dtype = check_real("param", param, None, True)
    check("grad", grad, param.dtype, param.shape)
    check("m", m, param.dtype, param.shape, True)
    check("v", v, param.dtype, param.shape, True)
    if vmax is not None:
        check("vmax", vmax, param.dtype, param.shape, True)
    check("hyper", hyper, "float64", (HYPER,))
    check_apart({"param": param, "grad": grad, "m": m, "v": v, "vmax": vmax, "hyper": hyper})
    op.buf[0], op.buf[1], op.buf[2] = data(param), data(grad), data(m)
    op.buf[3], op.buf[4], op.buf[5] = data(v), data(vmax), data(hyper)
    op.buf[6], op.buf[7] = <double *> data(hyper) + 5, &begins
    op.dim[0], op.dim[1], op.dim[2], op.dim[3] = param.size, 1, decoupled, maximize
    runtime.run_one("adam", &op)


def tick(hyper, int64_t index):
    """Adds 1 to hyper[index]: a step is finished.

    Parameters
    ----------
    hyper : ndarray of float64, shape (8,)
    index : int
        Where `hyper` holds the step: 4 for `sgd`, 5 for `adam`.

    Raises
    ------
    TypeError, ValueError
        If `hyper` or `index` does not fit.
    """
    cdef fnn_op op
    memset(&op, 0, sizeof(op))
    check("hyper", hyper, "float64", (HYPER,), True)
    if not 0 <= index < HYPER:
        raise ValueError(f"index must lie in 0 ... {HYPER - 1}, got {index}")
    op.buf[0] = data(hyper)
    op.dim[0], op.dim[2] = index, -1
    runtime.run_one("tick", &op)
