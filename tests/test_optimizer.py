"""Parameter updates: PyTorch's formulas, one sweep, the same bits on all threads."""

import inspect

import numpy as np
import pytest

from fastnn import nn, optim
from fastnn_ext.optimizer import HYPER_NAMES

from native import on_threads, optimizer, run_op
from optimizers import CLASSES, IN_TORCH, KINDS, every_kind, every_kind_in_torch, make
from reference import optimizer as twin

DTYPES = (np.float32, np.float64)
UNIT = {np.float32: 2.0**-24, np.float64: 2.0**-53}
STATES = {kernel: optimizer.state_names(kernel) for kernel in HYPER_NAMES}
every_kernel = pytest.mark.parametrize("kernel", HYPER_NAMES)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)

#: Numbers under which every operation of an update takes place.
NUMBERS = {
    "lr": 0.01, "weight_decay": 0.01, "momentum": 0.9, "dampening": 0.1, "lr_decay": 0.1, "rho": 0.9, "alpha": 0.9,
    "beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "momentum_decay": 4e-3, "initial_accumulator_value": 0.1,
    "eta_minus": 0.5, "eta_plus": 1.2, "least": 1e-6, "most": 50.0, "averaging": 0.9, "averaging_every": 1,
}  # fmt: skip


def drawn(n, dtype, seed=0):
    return np.random.default_rng(seed).standard_normal(n).astype(dtype)


def numbers_of(kernel, **others):
    return {name: NUMBERS[name] for name in HYPER_NAMES[kernel] if name in NUMBERS} | others


def parameter(values):
    """A parameter, which keeps its values in an array of its own."""
    return nn.Parameter(values.copy())


# ---- one step is that of the twin ------------------------------------------------------------------


def data(opt, n, dtype, seed):
    """A parameter, its gradient and its states, such that nothing cancels and the twin is exact to a few roundings."""
    (group,) = opt.param_groups
    p = drawn(n, dtype, seed)
    g = np.copysign(drawn(n, dtype, seed + 1), -p if group["maximize"] else p)
    states = {name: abs(drawn(n, dtype, seed + 2 + i)) for i, name in enumerate(opt.state_names(group))}
    for name in ("momentum_buffer", "exp_avg", "grad_avg"):
        if name in states:
            states[name] = np.copysign(states[name], p)
    if "prev" in states:  # half of the signs have changed
        states["prev"] *= np.sign(drawn(n, dtype, seed + 9))
    if "grad_avg" in states:  # the root mean square is above the mean
        states["square_avg"] += dtype(16) * (states["grad_avg"] ** 2 + (0.1 * g) ** 2)
    return p, g, states


@every_dtype
@every_kind
@pytest.mark.parametrize("shared", [{}, {"maximize": True}, {"l1_penalty": 0.1, "clip_grad_value": 0.7}])
def test_a_step_is_that_of_the_twin(isa, dtype, kind, shared):
    n, gate = 1031, 8 * UNIT[dtype]
    for t in (1, 2, 9):
        param = parameter(drawn(n, dtype))
        opt = make(kind, [param], **shared)
        (group,) = opt.param_groups
        p, g, states = data(opt, n, dtype, 10 * t)
        param.data = p
        param.grad = g
        for name, values in states.items():
            group.states[name][:n] = values
        group.steps_of[:] = t - 1
        expected_states = {name: a.astype(np.float64) for name, a in states.items()}
        if "mu_product" in group.counters:
            earlier = {name: np.zeros(1) for name in states}
            for i in range(1, t):
                twin.update(opt.kernel, np.ones(1), np.ones(1), earlier, i, group)
            group.counters["mu_product"][:] = earlier.get("mu_product", 1.0)
        arguments = p.astype(np.float64), g.astype(np.float64), expected_states, t, group, opt.decoupled
        expected = twin.update(opt.kernel, *arguments)
        opt.step()
        assert np.all(abs(param.data - expected) <= gate * (abs(p) + abs(expected - p)))
        for name in states:
            got, want = group.states[name][:n], expected_states[name]
            assert np.all(abs(got - want) <= gate * abs(want)), name
        if "mu_product" in group.counters:
            np.testing.assert_allclose(group.counters["mu_product"], expected_states["mu_product"], rtol=1e-15)


def test_sgd_reads_no_buffer_at_its_first_step(isa):
    param, grad, buffer = drawn(37, np.float32), drawn(37, np.float32, 1), np.full(37, np.nan, np.float32)
    optimizer.update("sgd", param, grad, {"momentum_buffer": buffer}, {"lr": 0.1, "momentum": 0.9})
    np.testing.assert_array_equal(buffer, grad)
    assert np.isfinite(param).all()


@every_dtype
@every_kernel
def test_a_coefficient_of_zero_leaves_its_operation_out(isa, dtype, kernel):
    param, ones = np.array([np.inf, 1.0], dtype), np.ones(2, dtype)
    states = {name: np.zeros(2, dtype) for name in STATES[kernel]}
    optimizer.update(kernel, param, ones, states, numbers_of(kernel, weight_decay=0.0, l1_penalty=0.0))
    assert param[0] == np.inf
    assert all(np.isfinite(state).all() for name, state in states.items() if name != "average")


@every_dtype
@every_kernel
def test_a_gradient_of_nan_reaches_its_parameter_and_no_other(isa, dtype, kernel):
    for clip in (np.inf, 0.5):
        for place in range(20):
            grad = drawn(20, dtype, 1)
            grad[place] = np.nan
            param, states = drawn(20, dtype), {name: np.zeros(20, dtype) for name in STATES[kernel]}
            numbers = numbers_of(kernel, clip_grad_value=clip)
            optimizer.update(kernel, param, grad, states, numbers)
            np.testing.assert_array_equal(np.flatnonzero(np.isnan(param)), [place])
            for name, state in states.items():
                if name != "step_size":  # Rprop's: a NaN has no sign that could change
                    np.testing.assert_array_equal(np.flatnonzero(np.isnan(state)), [place])


@every_dtype
@every_kernel
def test_tails_touch_nothing_past_the_end_and_have_the_bits_of_whole_vectors(isa, guarded, dtype, kernel):
    whole = [abs(drawn(100, dtype, seed)) for seed in range(2 + len(STATES[kernel]))]
    numbers = numbers_of(kernel, l1_penalty=0.1, clip_grad_value=2.0)
    for n in range(100):
        arrays = [a.copy() for a in whole]
        ends = [guarded(a[:n]) for a in arrays]
        for param, grad, *states in (arrays, ends):
            optimizer.update(kernel, param, grad, dict(zip(STATES[kernel], states, strict=True)), numbers, step=3)
        for array, end in zip(arrays, ends, strict=True):
            np.testing.assert_array_equal(end, array[:n])


@every_dtype
@every_kernel
def test_neighbours_are_each_updated_by_their_own_count(isa, dtype, kernel):
    sizes = [3, 8200, 1, 1, 16000, 40]
    begins, n = np.cumsum([7, *sizes[:-1]]), sum(sizes)  # a state array begins before the first parameter
    steps, averaged = np.array([0.0, 5.0, 5.0, 0.0, 2.0, 2.0]), np.array([0.0, 5.0, 1.0, 3.0, 0.0, 2.0])
    together = [abs(drawn(n, dtype, seed)) for seed in range(2 + len(STATES[kernel]))]
    apart = [a.copy() for a in together]
    for k, (begin, size) in enumerate(zip(begins - 7, sizes, strict=True)):
        param, grad, *states = (a[begin : begin + size] for a in apart)
        states = dict(zip(STATES[kernel], states, strict=True))
        optimizer.update(kernel, param, grad, states, numbers_of(kernel), step=steps[k], averaged=averaged[k])
    param, grad, *states = together
    counters = {"averaged": averaged} | ({"mu_product": np.ones(len(sizes))} if kernel == "nadam" else {})
    switches = {p.name: 0 for p in optimizer.signature(kernel).dims[2:]}
    run_op(
        kernel, param=param, grad=grad, **dict(zip(STATES[kernel], states, strict=True)), **counters,
        hyper=optimizer.hyper(kernel, **numbers_of(kernel)), steps=steps, begins=begins, n=n, count=len(sizes),
        **switches,
    )  # fmt: skip
    for a, b in zip(together, apart, strict=True):
        np.testing.assert_array_equal(a, b)


@every_dtype
@every_kernel
def test_the_bits_do_not_depend_on_the_threads(isa, dtype, kernel):
    n = 150_001

    def train():
        arrays = [abs(drawn(n, dtype, seed)) for seed in range(1 + len(STATES[kernel]))]
        param, *states = arrays
        for step in range(3):
            grad = drawn(n, dtype, 10 + step)
            optimizer.update(kernel, param, grad, dict(zip(STATES[kernel], states, strict=True)), numbers_of(kernel),
                             step=step)  # fmt: skip
        return b"".join(a.tobytes() for a in arrays)

    first, *rest = on_threads(train, (1, 2, 3, 8))
    assert all(bits == first for bits in rest)


@every_dtype
def test_a_constant_gradient_has_a_variance_of_zero_and_no_nan(isa, dtype):
    param, square, mean = np.zeros((3, 37), dtype)
    for _ in range(2000):
        states = {"square_avg": square, "grad_avg": mean}
        optimizer.update("rmsprop", param, np.full(37, 0.3, dtype), states, {"lr": 0.01, "alpha": 0.5, "eps": 1.0})
    assert np.isfinite(param).all()


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


# ---- many steps are PyTorch's ----------------------------------------------------------------------


def loss_and_gradient(x, y, w):
    """Logistic regression: smooth, and its updates never settle within 100 steps."""
    z = x @ w
    return np.logaddexp(0, -y * z).mean(), -(x * (y / (1 + np.exp(y * z)))[:, None]).mean(axis=0)


def curves(dtype, ours, theirs):
    """Losses over 100 steps of two functions that give weights to (weights, gradient)."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 30)).astype(dtype)
    y = np.sign(x @ rng.standard_normal(30) + rng.standard_normal(64)).astype(dtype)
    start = rng.standard_normal(30).astype(dtype)
    weights = [start.copy(), start.copy()]
    losses = []
    for _ in range(100):
        pair = [loss_and_gradient(x, y, w) for w in weights]
        losses.append([loss for loss, _ in pair])
        weights = [
            update(w, grad.astype(dtype)) for update, w, (_, grad) in zip((ours, theirs), weights, pair, strict=True)
        ]
    return np.array(losses).T


def steps_of(opt, param):
    def update(_, grad):
        param.grad = grad
        opt.step()
        return param.data.copy()

    return update


LIMIT = {np.float32: 1e-4, np.float64: 1e-9}
settings_of_pytorch = pytest.mark.parametrize("shared", [{}, {"maximize": True}], ids=["", "maximize"])


@every_dtype
@every_kind_in_torch
@settings_of_pytorch
def test_an_optimizer_follows_pytorch_over_100_steps(isa, torch_counts_in_double, dtype, kind, shared):
    torch = pytest.importorskip("torch")
    start = np.random.default_rng(1).standard_normal(30).astype(dtype)
    ours, theirs = parameter(start), torch.tensor(start)
    torch_opt = make(kind, [theirs], torch.optim, **shared)

    def update(_, grad):
        theirs.grad = torch.tensor(grad)
        torch_opt.step()
        return theirs.numpy().copy()

    mine, expected = curves(dtype, steps_of(make(kind, [ours], **shared), ours), update)
    np.testing.assert_allclose(mine, expected, rtol=LIMIT[dtype])
    assert mine.std() > 1e-4  # it moves


@every_dtype
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in IN_TORCH])
@settings_of_pytorch
def test_what_pytorch_lacks_follows_its_twin_over_100_steps(isa, dtype, kind, shared):
    start = np.random.default_rng(1).standard_normal(30).astype(dtype)
    param = parameter(start)
    opt = make(kind, [param], **shared)
    (group,) = opt.param_groups
    states = {name: np.zeros(30) for name in opt.state_names(group)}
    twins = {"w": start.astype(np.float64), "t": 0}

    def update(_, grad):
        twins["t"] += 1
        twins["w"] = twin.update(
            opt.kernel, twins["w"], grad.astype(np.float64), states, twins["t"], group, opt.decoupled
        )
        return twins["w"].astype(dtype)

    mine, expected = curves(dtype, steps_of(opt, param), update)
    np.testing.assert_allclose(mine, expected, rtol=LIMIT[dtype])
    assert mine.std() > 1e-4


def test_every_optimizer_is_in_the_table():
    classes = {name for name in optim.__all__ if isinstance(getattr(optim, name), type)} - {
        "Custom",
        "Group",
        "Optimizer",
    }
    assert classes == CLASSES.keys()
    assert {getattr(optim, name).kernel for name in classes} == HYPER_NAMES.keys()


@pytest.mark.parametrize("name", CLASSES)
def test_settings_defaults_and_their_order_are_pytorchs(name):
    torch = pytest.importorskip("torch")
    if not hasattr(torch.optim, name):
        pytest.skip(f"PyTorch has no {name}")

    def positional(kind):
        parameters = inspect.signature(kind).parameters.values()
        return [(p.name, p.default) for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.name not in loops]

    loops = ("params", "foreach", "capturable", "differentiable", "maximize")  # how PyTorch runs, and what all have
    assert positional(getattr(optim, name)) == positional(getattr(torch.optim, name))


@every_dtype
def test_rows_are_updated_as_the_whole_and_the_others_left(dtype, isa, guarded):
    for rows, width in [([2, -1, 0], 3), ([-1, -1], 40), ([1], 20_000), (list(range(600)), 17)]:
        shape = (max(rows) + 2, width)
        p, g = drawn(np.prod(shape), dtype).reshape(shape), drawn(np.prod(shape), dtype, 1).reshape(shape)
        named = np.array(rows)
        want = p.copy()
        optimizer.update("sgd", want, g, {}, dict(lr=0.3, clip_grad_value=0.7))
        want[np.isin(np.arange(len(p)), named, invert=True)] = p[np.isin(np.arange(len(p)), named, invert=True)]
        g[np.isin(np.arange(len(p)), named, invert=True)] = np.nan

        def updated(p, g, rows):
            run_op(
                "sgd_rows", param=p, grad=g, rows=rows, hyper=optimizer.hyper("sgd", lr=0.3, clip_grad_value=0.7),
                steps=np.zeros(1), begins=np.zeros(1, np.int64), n=rows.size, count=1, width=p.shape[1], maximize=0,
                decoupled=0, nesterov=0,
            )  # fmt: skip
            return p

        for got in on_threads(lambda: updated(p.copy(), g, named), (1, 2, 3)):  # noqa: B023
            np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(updated(guarded(p), guarded(g), guarded(named)), want)
