"""Training by L-BFGS."""

import sys

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn
from fastnn.train.flat import Slope

RNG = np.random.default_rng(2)
X, Y = RNG.standard_normal((50, 6)), RNG.standard_normal((50, 3))


def state(model):
    return b"".join(a.tobytes() for a in model.state_dict().values())


@pytest.fixture
def scipy():
    return pytest.importorskip("scipy.optimize")


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-3), (np.float64, 1e-6)])
def test_a_linear_model_ends_at_the_least_squares(scipy, dtype, rtol):
    model = nn.Linear(6, 3).to(dtype)
    x, y = X.astype(dtype), Y.astype(dtype)
    loss = fn.train.minimize(model, nn.MSELoss(), x, y, tolerance_change=0.0, tolerance_grad=1e-9)
    with_ones = np.hstack([X, np.ones((50, 1))])
    solution = np.linalg.lstsq(with_ones, Y, rcond=None)[0]
    np.testing.assert_allclose(model.weight.data.T, solution[:-1], rtol=rtol, atol=rtol)
    np.testing.assert_allclose(model.bias.data, solution[-1], rtol=rtol, atol=rtol)
    assert loss == pytest.approx(np.mean((with_ones @ solution - Y) ** 2), rel=rtol)


def test_a_network_learns_what_a_thousand_steps_of_descent_do_not(scipy):
    x, y = fn.data.moons(100, noise=0.1, seed=0)
    fn.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 10), nn.Tanh(), nn.Linear(10, 2))
    loss = fn.train.minimize(model, nn.CrossEntropyLoss(), x, y)
    assert loss < 0.01
    assert loss == pytest.approx(nn.CrossEntropyLoss().value_and_grad(model(x), y)[0], rel=1e-3, abs=1e-6)


def test_frozen_parameters_are_left_alone_and_max_iter_ends_it(scipy):
    model = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    model[0].requires_grad_(False)
    before = state(model[0])
    values = [fn.train.minimize(model, nn.MSELoss(), X, Y, max_iter=n) for n in (1, 2, 50)]
    assert values[0] > values[1] > values[2]
    assert state(model[0]) == before


def test_whatever_is_raised_leaves_the_parameters_as_they_were(scipy, monkeypatch):
    model = nn.Linear(6, 3).double()
    before, calls = state(model), []
    real = Slope.__call__

    def third_time(self, *given):
        calls.append(state(model) != before)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(self, *given)

    monkeypatch.setattr(Slope, "__call__", third_time)
    with pytest.raises(KeyboardInterrupt):
        fn.train.minimize(model, nn.MSELoss(), X, Y)
    assert calls == [False, True, True]
    assert state(model) == before


def test_what_does_not_fit_is_refused(scipy):
    model = nn.Linear(6, 3).double()
    before = state(model)
    for given, error in (
        ((None, nn.MSELoss(), X, Y), TypeError), ((model, abs, X, Y), TypeError), ((model, nn.MSELoss(), X), TypeError),
        ((model, nn.MSELoss(), X, Y[:3]), ValueError),
    ):  # fmt: skip
        with pytest.raises(error):
            fn.train.minimize(*given)
    with pytest.raises(ValueError, match="max_iter"):
        fn.train.minimize(model, nn.MSELoss(), X, Y, max_iter=0)
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="requires a gradient"):
        fn.train.minimize(model, nn.MSELoss(), X, Y)
    assert state(model) == before


def test_without_scipy_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(ImportError, match=r"fastnn\[optimize\]"):
        fn.train.minimize(nn.Linear(6, 3).double(), nn.MSELoss(), X, Y)
