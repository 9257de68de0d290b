"""Training by Newton's method and Gauss-Newton."""

import numpy as np
import pytest

import fastnn as fn
import fastnn.nn.functional as F
from fastnn import nn
from fastnn.train.flat import Flat
from fastnn.train.newton import _gauss_newton, _hessian

from native import on_threads

RNG = np.random.default_rng(6)
X, Y, LABELS = RNG.standard_normal((20, 3)), RNG.standard_normal((20, 2)), RNG.integers(0, 2, 20)
CURVATURES = ("gauss_newton", "hessian", "absolute")
every_curvature = pytest.mark.parametrize("curvature", CURVATURES)


def network(seed=0, dtype=np.float64):
    fn.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).to(dtype)


def bits(model):
    return b"".join(array.tobytes() for array in model.state_dict().values())


def by_differences(model, function, eps=1e-6):
    """Derivatives of an array for all parameters, element by element: (its size, parameters)."""
    columns = []
    for p in model.parameters():
        for index in np.ndindex(p.shape):
            before = p.data[index]
            ends = []
            for step in (eps, -eps):
                p.data[index] = before + step
                ends.append(np.ravel(np.array(function())))
            p.data[index] = before
            columns.append((ends[0] - ends[1]) / (2 * eps))
    return np.array(columns).T


def gradient(model, loss, x, y):
    model.zero_grad()
    _, dy = loss.value_and_grad(model.forward_train(x), y)
    model.backward(dy)
    return np.concatenate([np.zeros(p.size) if p.grad is None else p.grad.ravel() for p in model.parameters()])


class Power(nn.Loss):
    """A loss of one's own, written as arithmetic."""

    def forward(self, output, target):
        return ((output - target) ** 4).sum() * 0.1


#: Name: loss, target, and the Hessian of the loss for the output, as a matrix.
def of_softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    p = e / e.sum(1, keepdims=True)
    blocks = [np.diag(row) - np.outer(row, row) for row in p]
    whole = np.zeros((z.size, z.size))
    for i, block in enumerate(blocks):
        whole[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = block / len(p)
    return whole


LOSSES = {
    "mse": (nn.MSELoss(), Y, lambda z: np.eye(z.size) * 2 / z.size),
    "sum of squares": (nn.MSELoss(reduction="sum"), Y, lambda z: np.eye(z.size) * 2.0),
    "cross entropy": (nn.CrossEntropyLoss(), LABELS, of_softmax),
    "own": (Power(), Y, lambda z: np.diag(1.2 * (z - Y).ravel() ** 2)),
}
every_loss = pytest.mark.parametrize("name", LOSSES)


class Layouts(nn.Module):
    """Weights in several layouts, one used twice, and an activation that the last product takes in."""

    def __init__(self):
        super().__init__()
        fn.manual_seed(1)
        self.first, self.again = nn.Linear(3, 4, bias=False), nn.Linear(4, 4)
        self.cube = nn.Parameter(RNG.standard_normal((2, 4, 2)), order=(1, 2, 0))
        self.unused = nn.Parameter(np.ones(2))
        self.double()

    def forward(self, x):
        y = self.again(self.again(self.first(x)).tanh())
        return F.softplus(fn.einsum("ni,oij->no", y, self.cube))


@every_loss
@pytest.mark.parametrize("make", [network, Layouts])
def test_the_curvatures_are_those_of_differences(name, make):
    model = make()
    loss, target, hessian_of = LOSSES[name]
    x = X
    params = list(model.parameters())
    jacobian = by_differences(model, lambda: model(x))
    expected = jacobian.T @ hessian_of(np.asarray(model(x))) @ jacobian
    np.testing.assert_allclose(_gauss_newton(model, loss, params)(x, target), expected, rtol=1e-6, atol=1e-7)
    second = by_differences(model, lambda: gradient(model, loss, x, target))
    np.testing.assert_allclose(_hessian(model, loss, params)(x, target), second, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_mean_squares_are_twice_differentiable(reduction):
    def loss(x, t):
        return (F.mse_loss(x * x, t, reduction=reduction) * 0.5).sum()

    def written(x, t):
        y = (x * x - t).square() * 0.5
        return y.mean() if reduction == "mean" else y.sum()

    x, t = RNG.standard_normal((2, 3, 4))
    for argnum in (0, 1):
        np.testing.assert_allclose(fn.hessian(loss, argnum)(x, t), fn.hessian(written, argnum)(x, t), rtol=1e-12)

    def of_gradient(x, t):  # without the loss itself
        return F.mse_loss(x, t * x, reduction="sum")

    both = fn.hessian(of_gradient)(x, t)
    np.testing.assert_allclose(both.reshape(12, 12), np.diag(2 * (1 - t.ravel()) ** 2), rtol=1e-12, atol=1e-14)


@every_curvature
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-4), (np.float64, 1e-8)])
def test_a_linear_model_ends_at_the_least_squares(curvature, dtype, rtol):
    model = nn.Linear(3, 2).to(dtype)
    x, y = X.astype(dtype), Y.astype(dtype)
    loss = fn.train.newton(model, nn.MSELoss(), x, y, curvature=curvature, damping=1e-9, max_iter=5)
    with_ones = np.hstack([X, np.ones((20, 1))])
    solution = np.linalg.lstsq(with_ones, Y, rcond=None)[0]
    np.testing.assert_allclose(model.weight.data.T, solution[:-1], rtol=rtol, atol=rtol)
    np.testing.assert_allclose(model.bias.data, solution[-1], rtol=rtol, atol=rtol)
    assert loss == pytest.approx(np.mean((with_ones @ solution - Y) ** 2), rel=rtol)


def marquardt(model, loss, x, y, iterations, matrix, damping=1e-3):
    """The method written out: values after each step."""
    params = list(model.parameters())
    sizes = [p.size for p in params]

    def put(w):
        for p, part in zip(params, np.split(w, np.cumsum(sizes)[:-1]), strict=True):
            p.data = part.reshape(p.shape)

    w = np.concatenate([p.data.ravel() for p in params])
    value, values = loss.value_and_grad(model(x), y)[0], []
    for _ in range(iterations):
        put(w)
        g, c = gradient(model, loss, x, y), matrix(model)
        unit = abs(np.diag(c)).max()
        while True:
            damped = c + damping * unit * np.eye(len(w))
            if np.linalg.eigvalsh(damped)[0] > 0:
                put(w - np.linalg.solve(damped, g))
                new = loss.value_and_grad(model(x), y)[0]
                if new < value:
                    w, value = w - np.linalg.solve(damped, g), new
                    damping /= 10
                    break
            damping *= 10
        values.append(value)
    return values


@every_curvature
@every_loss
def test_it_follows_the_method_written_out(curvature, name):
    loss, target, hessian_of = LOSSES[name]

    def matrix(model):
        if curvature == "gauss_newton":
            jacobian = by_differences(model, lambda: model(X))
            return jacobian.T @ hessian_of(np.asarray(model(X))) @ jacobian
        c = by_differences(model, lambda: gradient(model, loss, X, target))
        c = (c + c.T) / 2
        if curvature == "absolute":
            values, vectors = np.linalg.eigh(c)
            c = vectors @ np.diag(abs(values)) @ vectors.T
        return c

    expected = marquardt(network(), loss, X, target, 5, matrix)
    settings = dict(curvature=curvature, tolerance_change=0.0, tolerance_grad=0.0)
    values = [fn.train.newton(network(), loss, X, target, max_iter=n + 1, **settings) for n in range(5)]
    np.testing.assert_allclose(values, expected, rtol=1e-3)


class Product(nn.Module):
    """w1 w2: with decay, two minima and a saddle between them."""

    def __init__(self, start):
        super().__init__()
        self.w = nn.Parameter(np.array(start))

    def forward(self, x):
        return self.w[0] * self.w[1] * x


class Decayed(nn.Loss):
    def __init__(self, model):
        super().__init__()
        self.of = model

    def forward(self, output, target):
        return (output - target).square().mean() + 0.04 * self.of.w.square().sum()


@pytest.mark.parametrize("curvature", ["hessian", "absolute"])
def test_a_start_beside_a_saddle_ends_in_a_minimum(curvature):
    model = Product([0.02, 0.01])
    loss = fn.train.newton(model, Decayed(model), np.ones((1, 1)), np.full((1, 1), 1.5), curvature=curvature)
    assert loss == pytest.approx(1.5**2 - (1.5 - 0.04) ** 2, rel=1e-6)
    np.testing.assert_allclose(abs(model.w.data), np.sqrt(1.46), rtol=1e-5)


@every_curvature
def test_a_network_learns_what_descent_does_not(curvature):
    x, y = fn.data.moons(100, noise=0.1, seed=0)
    x = x.astype(np.float32)
    fn.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))
    loss = fn.train.newton(model, nn.CrossEntropyLoss(), x, y, curvature=curvature)
    assert loss < 1e-4
    assert loss == pytest.approx(nn.CrossEntropyLoss().value_and_grad(model(x), y)[0], rel=1e-3, abs=1e-7)


class WithSignals(nn.Module):
    """A network's output, and its hidden signals beside it."""

    def __init__(self, layers):
        super().__init__()
        self.layers = layers

    def forward(self, x):
        hidden = self.layers[1](self.layers[0](x))
        return fn.concat([self.layers[2](hidden), hidden], 1)


@every_curvature
def test_penalties_on_signals_are_a_part_of_the_loss(curvature):
    plain, layers = network(), network()
    model = nn.Sequential(layers[0], layers[1], nn.ActivityRegularization(l2=0.1), layers[2])

    def written(output, target):
        return (output[:, :2] - target).square().mean() + 0.1 * output[:, 2:].square().sum(1).mean()

    settings = dict(tolerance_change=0.0, max_iter=200)
    before = nn.MSELoss().value_and_grad(model.forward_train(X), Y)[0] + model.penalty
    loss = fn.train.newton(model, nn.MSELoss(), X, Y, curvature=curvature, **settings)
    assert loss < 0.5 * before
    if curvature != "gauss_newton":  # which sees the penalty's slope alone
        expected = fn.train.newton(WithSignals(plain), written, X, Y, curvature=curvature, **settings)
        assert loss == pytest.approx(expected, rel=1e-6)
    model.forward_train(X)
    assert loss == pytest.approx(nn.MSELoss().value_and_grad(model(X), Y)[0] + model.penalty, rel=1e-12)


def test_frozen_parameters_are_left_alone_and_max_iter_ends_it():
    model = network()
    model[0].requires_grad_(False)
    before = bits(model[0])
    values = [fn.train.newton(model, nn.CrossEntropyLoss(), X, LABELS, max_iter=n) for n in (1, 2, 10)]
    assert values[0] > values[1] > values[2]
    assert bits(model[0]) == before


def test_at_a_minimum_nothing_changes():
    model = nn.Linear(3, 2).double()
    fn.train.newton(model, nn.MSELoss(), X, Y, tolerance_change=0.0, tolerance_grad=0.0)
    before = bits(model)
    loss = fn.train.newton(model, nn.MSELoss(), X, Y)
    assert bits(model) == before
    assert loss == nn.MSELoss().value_and_grad(model(X), Y)[0]


@every_curvature
def test_the_bits_do_not_depend_on_the_threads(curvature):
    x, y = RNG.standard_normal((3000, 3)), RNG.integers(0, 2, 3000)

    def train():
        model = network()
        fn.train.newton(model, nn.CrossEntropyLoss(), x, y, curvature=curvature, max_iter=3)
        return bits(model)

    first, *rest = on_threads(train, (1, 2, 3, 8))
    assert all(each == first for each in rest)


@pytest.mark.parametrize("time", [1, 3])
def test_whatever_is_raised_leaves_the_parameters_as_they_were(monkeypatch, time):
    model = network(dtype=np.float32)
    before, calls = bits(model), []
    real = Flat.put

    def stopping(self, values):
        real(self, values)
        calls.append(bits(model) != before)
        if len(calls) == time:
            raise KeyboardInterrupt

    monkeypatch.setattr(Flat, "put", stopping)
    with pytest.raises(KeyboardInterrupt):
        fn.train.newton(model, nn.MSELoss(), X.astype(np.float32), Y.astype(np.float32))
    assert calls == [False, True, True][:time]
    assert bits(model) == before


def test_what_does_not_fit_is_refused():
    model = network()
    before = bits(model)
    for given, error in (
        ((None, nn.MSELoss(), X, Y), TypeError), ((model, nn.MSELoss, X, Y), TypeError),
        ((model, nn.MSELoss(), X), TypeError), ((model, nn.MSELoss(), X, Y[:3]), ValueError),
        ((model, nn.L1Loss(), X, Y), TypeError), ((model, nn.MSELoss(reduction="none"), X, Y), ValueError),
    ):  # fmt: skip
        with pytest.raises(error):
            fn.train.newton(*given)
    for name, value in (("max_iter", 0), ("damping", -1.0), ("curvature", "newton"), ("tolerance_grad", -1.0)):
        with pytest.raises(ValueError, match=name):
            fn.train.newton(model, nn.MSELoss(), X, Y, **{name: value})

    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 2).double()

        def forward(self, x):
            return self.fc(x), self.fc(x)

    with pytest.raises(TypeError):
        fn.train.newton(Pair(), nn.MSELoss(), X, Y)
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="requires a gradient"):
        fn.train.newton(model, nn.MSELoss(), X, Y)
    assert bits(model) == before
