"""Parameter updates: PyTorch's formulas, one sweep, the same bits on all threads."""

import numpy as np
import pytest

from native import on_threads, optimizer, run_op
from reference import optimizer as twin

DTYPES = (np.float32, np.float64)
UNIT = {np.float32: 2.0**-24, np.float64: 2.0**-53}

# momentum, dampening, weight_decay, nesterov, maximize
SGD = [
    (0.0, 0.0, 0.0, False, False),
    (0.9, 0.0, 0.0, False, False),
    (0.9, 0.1, 0.01, False, True),
    (0.9, 0.0, 1e-4, True, False),
]
# beta1, beta2, weight_decay, decoupled, amsgrad, maximize
ADAM = [
    (0.9, 0.999, 0.0, False, False, False),
    (0.3, 0.9, 0.01, False, True, False),
    (0.9, 0.999, 0.01, True, False, True),
]

# alpha, weight_decay, momentum, centered, maximize
RMSPROP = [
    (0.99, 0.0, 0.0, False, False),
    (0.9, 0.01, 0.9, False, True),
    (0.3, 0.0, 0.0, True, False),
    (0.99, 0.01, 0.5, True, False),
]


def numbers(n, dtype, seed=0):
    return np.random.default_rng(seed).standard_normal(n).astype(dtype)


def sgd_hyper(lr=0.1, momentum=0.0, dampening=0.0, weight_decay=0.0, step=0):
    numbers = dict(lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay)
    return optimizer.hyper("sgd", **numbers, updates=step)


def adam_hyper(lr=1e-2, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, step=0):
    numbers = dict(lr=lr, beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay)
    return optimizer.hyper("adam", **numbers, updates=step)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("momentum", "dampening", "weight_decay", "nesterov", "maximize"), SGD)
def test_a_step_of_sgd_is_that_of_the_twin(isa, dtype, momentum, dampening, weight_decay, nesterov, maximize):
    n = 1031
    param, buffer = numbers(n, dtype), np.full(n, np.nan, dtype)
    for step in range(3):
        grad = numbers(n, dtype, seed=step + 1)
        before = [a.astype(np.float64) for a in (param, grad, buffer)]
        expected, expected_buffer = twin.sgd(*before, 0.1, momentum, dampening, weight_decay, step, nesterov, maximize)
        hyper = sgd_hyper(0.1, momentum, dampening, weight_decay, step)
        optimizer.sgd(param, grad, buffer, hyper, nesterov, maximize)
        size = abs(before[0]) + abs(grad) + (0 if step == 0 or momentum == 0 else abs(before[2]))
        assert np.all(abs(param - expected) <= 8 * UNIT[dtype] * size)
        if momentum == 0:
            assert np.isnan(buffer).all()
        else:
            assert np.all(abs(buffer - expected_buffer) <= 8 * UNIT[dtype] * size)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("beta1", "beta2", "weight_decay", "decoupled", "amsgrad", "maximize"), ADAM)
def test_a_step_of_adam_is_that_of_the_twin(isa, dtype, beta1, beta2, weight_decay, decoupled, amsgrad, maximize):
    n = 1031
    param, m, v = numbers(n, dtype), np.zeros(n, dtype), np.zeros(n, dtype)
    vmax = np.zeros(n, dtype) if amsgrad else None
    for step in range(3):
        grad = numbers(n, dtype, seed=step + 1)
        before = [None if a is None else a.astype(np.float64) for a in (param, grad, m, v, vmax)]
        expected = twin.adam(*before, 1e-2, beta1, beta2, 1e-8, weight_decay, step, decoupled, maximize)
        hyper = adam_hyper(1e-2, beta1, beta2, 1e-8, weight_decay, step)
        optimizer.adam(param, grad, m, v, vmax, hyper, decoupled, maximize)
        gate = 8 * UNIT[dtype]
        # An error of the gradient (weight decay) reaches v as twice its size times the gradient.
        size = abs(before[0]) + abs(before[1])
        assert np.all(abs(m - expected[1]) <= gate * (abs(before[2]) + size))
        assert np.all(abs(v - expected[2]) <= gate * (before[3] + size**2))
        if amsgrad:
            assert np.all(abs(vmax - expected[3]) <= gate * (before[4] + before[3] + size**2))
        # m / sqrt(v) stays below 1 / sqrt(1 - beta2), and m may have lost digits by cancellation.
        root = np.sqrt((vmax if amsgrad else v) / (1 - beta2 ** (step + 1)))
        moved = 1e-2 * (abs(before[2]) + size) / (1 - beta1 ** (step + 1)) / (root + 1e-8)
        assert np.all(abs(param - expected[0]) <= gate * (abs(before[0]) + 2 * moved))


def test_sgd_reads_no_buffer_at_step_0_and_leaves_it_alone_without_momentum(isa):
    param, grad = numbers(37, np.float32), numbers(37, np.float32, 1)
    buffer = np.full(37, np.nan, np.float32)
    optimizer.sgd(param, grad, buffer, sgd_hyper(momentum=0.9))
    np.testing.assert_array_equal(buffer, grad)
    buffer[:] = 7
    optimizer.sgd(param, grad, buffer, sgd_hyper(momentum=0.0, step=1))
    np.testing.assert_array_equal(buffer, 7)
    assert np.isfinite(param).all()


def test_a_coefficient_of_zero_leaves_its_operation_out(isa):
    for dtype in DTYPES:
        param = np.array([np.inf, 1.0], dtype)
        optimizer.sgd(param, np.ones(2, dtype), np.zeros(2, dtype), sgd_hyper(weight_decay=0.0))
        assert param[0] == np.inf
        param, m, v = np.array([np.inf, 1.0], dtype), np.zeros(2, dtype), np.zeros(2, dtype)
        optimizer.adam(param, np.ones(2, dtype), m, v, None, adam_hyper(weight_decay=0.0))
        assert param[0] == np.inf
        assert np.isfinite(m).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_gradient_of_nan_reaches_its_parameter_and_no_other(isa, dtype):
    for place in range(20):
        grad = numbers(20, dtype, 1)
        grad[place] = np.nan
        sgd, adam = numbers(20, dtype), numbers(20, dtype)
        m, v, vmax = np.zeros((3, 20), dtype)
        optimizer.sgd(sgd, grad, np.zeros(20, dtype), sgd_hyper(momentum=0.9))
        optimizer.adam(adam, grad, m, v, vmax, adam_hyper())
        for array in (sgd, adam, m, v, vmax):
            np.testing.assert_array_equal(np.flatnonzero(np.isnan(array)), [place])


@pytest.mark.parametrize("dtype", DTYPES)
def test_tails_touch_nothing_past_the_end_and_have_the_bits_of_whole_vectors(isa, guarded, dtype):
    whole = [abs(numbers(100, dtype, seed)) for seed in range(5)]
    hypers = [sgd_hyper(0.1, 0.9, 0.0, 0.01, 3), adam_hyper(weight_decay=0.01, step=3)]
    for n in range(100):
        for update, count, hyper in zip((optimizer.sgd, optimizer.adam), (3, 5), hypers, strict=True):
            arrays = [a.copy() for a in whole[:count]]
            ends = [guarded(a[:n]) for a in arrays]
            update(*arrays, hyper)
            update(*ends, hyper)
            for array, end in zip(arrays, ends, strict=True):
                np.testing.assert_array_equal(end, array[:n])


@pytest.mark.parametrize("dtype", DTYPES)
def test_neighbours_are_each_updated_by_their_own_count(isa, dtype):
    sizes = [3, 8200, 1, 1, 16000, 40]
    begins, n = np.cumsum([7, *sizes[:-1]]), sum(sizes)  # a state array begins before the first parameter
    steps = np.array([0.0, 5.0, 5.0, 0.0, 2.0, 2.0])
    hyper = adam_hyper(weight_decay=0.01)
    together = [abs(numbers(n, dtype, seed)) for seed in range(4)]
    apart = [a.copy() for a in together]
    for k, (begin, size) in enumerate(zip(begins - 7, sizes, strict=True)):
        optimizer.adam(*(a[begin : begin + size] for a in apart), None, adam_hyper(weight_decay=0.01, step=steps[k]))
    run_op(
        "adam", **dict(zip(("param", "grad", "exp_avg", "exp_avg_sq"), together, strict=True)), hyper=hyper,
        steps=steps, begins=begins, n=n, count=len(sizes), decoupled=0, maximize=0,
    )  # fmt: skip
    for a, b in zip(together, apart, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_bits_do_not_depend_on_the_threads(isa, dtype):
    n = 150_001

    def train():
        param, buffer = numbers(n, dtype), np.empty(n, dtype)
        other, m, v, vmax = numbers(n, dtype), *np.zeros((3, n), dtype)
        for step in range(3):
            grad = numbers(n, dtype, step + 1)
            optimizer.sgd(param, grad, buffer, sgd_hyper(0.1, 0.9, 0.0, 0.01, step), nesterov=True)
            optimizer.adam(other, grad, m, v, vmax, adam_hyper(step=step))
        return param.tobytes() + other.tobytes()

    first, *rest = on_threads(train)
    assert all(bits == first for bits in rest)


def test_tick_counts_a_step_and_touches_nothing_else():
    hyper, steps = np.arange(6.0), np.array([0.0, 7.0, 3.0])
    optimizer.tick(hyper, steps[:2], updates=5)
    np.testing.assert_array_equal(hyper, [0, 1, 2, 3, 4, 6])
    np.testing.assert_array_equal(steps, [1, 8, 3])
    optimizer.tick(hyper, steps, updates=4, condition=0)  # hyper[0] is 0
    np.testing.assert_array_equal(hyper, [0, 1, 2, 3, 5, 6])
    np.testing.assert_array_equal(steps, [1, 8, 3])
    optimizer.tick(hyper, steps, updates=-1, condition=1)
    np.testing.assert_array_equal(hyper, [0, 1, 2, 3, 5, 6])
    np.testing.assert_array_equal(steps, [2, 9, 4])


def loss_and_gradient(x, y, w):
    """Logistic regression: smooth, and its updates never settle within 100 steps."""
    z = x @ w
    return np.logaddexp(0, -y * z).mean(), -(x * (y / (1 + np.exp(y * z)))[:, None]).mean(axis=0)


def curves(dtype, make, update):
    """Losses over 100 steps, of PyTorch's optimizer and of update(param, grad, step)."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 30)).astype(dtype)
    y = np.sign(x @ rng.standard_normal(30) + rng.standard_normal(64)).astype(dtype)
    ours = rng.standard_normal(30).astype(dtype)
    theirs = torch.tensor(ours.copy())
    opt = make(torch, [theirs])
    losses = []
    for step in range(100):
        pair = []
        for w in (ours, theirs.numpy()):
            loss, grad = loss_and_gradient(x, y, w)
            pair.append((loss, grad.astype(dtype)))
        losses.append((pair[0][0], pair[1][0]))
        update(ours, pair[0][1], step)
        theirs.grad = torch.tensor(pair[1][1])
        opt.step()
    return np.array(losses).T


LIMIT = {np.float32: 1e-4, np.float64: 1e-9}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("momentum", "dampening", "weight_decay", "nesterov", "maximize"), SGD)
def test_sgd_follows_pytorch_over_100_steps(isa, dtype, momentum, dampening, weight_decay, nesterov, maximize):
    buffer = np.empty(30, dtype)

    def make(torch, params):
        how = {"maximize": maximize, "foreach": False}
        return torch.optim.SGD(params, 0.05, momentum, dampening, weight_decay, nesterov, **how)

    def update(param, grad, step):
        hyper = sgd_hyper(0.05, momentum, dampening, weight_decay, step)
        optimizer.sgd(param, grad, buffer, hyper, nesterov, maximize)

    ours, theirs = curves(dtype, make, update)
    np.testing.assert_allclose(ours, theirs, rtol=LIMIT[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("beta1", "beta2", "weight_decay", "decoupled", "amsgrad", "maximize"), ADAM)
def test_adam_follows_pytorch_over_100_steps(isa, dtype, beta1, beta2, weight_decay, decoupled, amsgrad, maximize):
    m, v, vmax = np.zeros((3, 30), dtype)

    def make(torch, params):
        kind = torch.optim.AdamW if decoupled else torch.optim.Adam
        how = {"maximize": maximize, "foreach": False}
        return kind(params, 0.01, (beta1, beta2), 1e-8, weight_decay, amsgrad, **how)

    def update(param, grad, step):
        hyper = adam_hyper(0.01, beta1, beta2, 1e-8, weight_decay, step)
        optimizer.adam(param, grad, m, v, vmax if amsgrad else None, hyper, decoupled, maximize)

    ours, theirs = curves(dtype, make, update)
    np.testing.assert_allclose(ours, theirs, rtol=LIMIT[dtype])


def rmsprop_hyper(lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0):
    numbers = dict(lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum)
    return optimizer.hyper("rmsprop", **numbers)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("alpha", "weight_decay", "momentum", "centered", "maximize"), RMSPROP)
def test_a_step_of_rmsprop_is_that_of_the_twin(isa, dtype, alpha, weight_decay, momentum, centered, maximize):
    n = 1031
    param, square = numbers(n, dtype), np.zeros(n, dtype)
    buffer, mean = (np.zeros(n, dtype) if there else None for there in (momentum, centered))
    for step in range(3):
        grad = numbers(n, dtype, seed=step + 1)
        before = [None if a is None else a.astype(np.float64) for a in (param, grad, square, buffer, mean)]
        settings = alpha, 1e-3, weight_decay, momentum
        expected = twin.rmsprop(*before, 0.01, *settings, maximize)
        optimizer.rmsprop(param, grad, square, buffer, mean, rmsprop_hyper(0.01, *settings), maximize)
        for got, want in zip((param, square, buffer, mean), expected, strict=True):
            if want is not None:
                np.testing.assert_allclose(got, want, rtol=1e4 * UNIT[dtype], atol=1e3 * UNIT[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_constant_gradient_has_a_variance_of_zero_and_no_nan(isa, dtype):
    param, square, mean = np.zeros((3, 37), dtype)
    for _ in range(2000):
        optimizer.rmsprop(param, np.full(37, 0.3, dtype), square, None, mean, rmsprop_hyper(alpha=0.5, eps=1.0))
    assert np.isfinite(param).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("alpha", "weight_decay", "momentum", "centered", "maximize"), RMSPROP)
def test_rmsprop_follows_pytorch_over_100_steps(isa, dtype, alpha, weight_decay, momentum, centered, maximize):
    square, buffer, mean = np.zeros((3, 30), dtype)

    def make(torch, params):
        how = {"maximize": maximize, "foreach": False}
        return torch.optim.RMSprop(params, 0.01, alpha, 1e-3, weight_decay, momentum, centered, **how)

    def update(param, grad, step):
        hyper = rmsprop_hyper(0.01, alpha, 1e-3, weight_decay, momentum)
        optimizer.rmsprop(
            param, grad, square, buffer if momentum else None, mean if centered else None, hyper, maximize
        )

    ours, theirs = curves(dtype, make, update)
    np.testing.assert_allclose(ours, theirs, rtol=LIMIT[dtype])
