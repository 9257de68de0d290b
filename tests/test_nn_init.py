"""Initializers follow PyTorch's formulas."""

import math

import numpy as np
import pytest

from fastnn import nn
from fastnn.nn import init
from fastnn.seed import manual_seed

SHAPES = [(300, 200), (64, 32, 5, 3)]
UNIFORM = {
    "xavier_uniform_": [{}, {"gain": 2.0}],
    "kaiming_uniform_": [{}, {"a": math.sqrt(5)}, {"mode": "fan_out", "nonlinearity": "relu"}],
}
NORMAL = {
    "xavier_normal_": [{}, {"gain": 0.5}],
    "kaiming_normal_": [{}, {"nonlinearity": "tanh"}, {"a": 0.2, "mode": "fan_out"}],
}
CASES = [(name, settings) for table in (UNIFORM, NORMAL) for name, each in table.items() for settings in each]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("name", "settings"), CASES)
def test_scaled_initializers_have_pytorchs_spread(name, settings, shape):
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.nn.init, name)(torch.empty(shape), **settings).numpy()
    ours = getattr(init, name)(np.empty(shape), **settings, seed=0)
    assert ours.std() == pytest.approx(theirs.std(), rel=0.02)
    assert abs(ours.mean()) < 5 * ours.std() / math.sqrt(ours.size)
    if name in UNIFORM:
        assert abs(ours).max() == pytest.approx(abs(theirs).max(), rel=2e-3)


@pytest.mark.parametrize(
    ("name", "bound"),
    [
        ("xavier_uniform_", math.sqrt(6 / (60 * 5 * 3 + 40 * 5 * 3))),
        ("kaiming_uniform_", math.sqrt(6 / (60 * 5 * 3))),
    ],
)
def test_fans_are_those_of_out_in_and_kernel(name, bound):
    values = getattr(init, name)(np.empty((40, 60, 5, 3)), seed=1)
    assert bound * 0.999 < abs(values).max() <= bound


@pytest.mark.parametrize(
    "arguments",
    [
        ("linear",),
        ("conv2d",),
        ("sigmoid",),
        ("tanh",),
        ("relu",),
        ("selu",),
        ("leaky_relu",),
        ("leaky_relu", 0.2),
    ],
)
def test_gains_are_pytorchs(arguments):
    torch = pytest.importorskip("torch")
    assert init.calculate_gain(*arguments) == pytest.approx(torch.nn.init.calculate_gain(*arguments))


def test_uniform_and_normal_have_the_moments_asked_for():
    u = init.uniform_(np.empty(100_000), -2.0, 4.0, seed=0)
    assert -2 <= u.min() < -1.99
    assert 3.99 < u.max() <= 4
    n = init.normal_(np.empty(100_000), 3.0, 0.5, seed=0)
    assert n.mean() == pytest.approx(3, abs=0.01)
    assert n.std() == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize("interval", [(-2, 2), (-0.1, 0.1), (0, 100), (1, 3), (-1000, 1000)])
def test_trunc_normal_has_the_moments_of_pytorchs_in_its_interval(interval):
    torch = pytest.importorskip("torch")
    a, b = interval
    ours = init.trunc_normal_(np.empty(100_000), 0.5, 1.0, a, b, seed=0)
    theirs = torch.nn.init.trunc_normal_(torch.empty(100_000, dtype=torch.float64), 0.5, 1.0, a, b).numpy()
    assert a <= ours.min()
    assert ours.max() <= b
    np.testing.assert_allclose(ours.mean(), theirs.mean(), atol=0.02)
    np.testing.assert_allclose(ours.std(), theirs.std(), rtol=0.02)


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (3, 2, 5)])
def test_orthogonal_rows_or_columns_are_orthonormal_times_the_gain(shape):
    w = init.orthogonal_(np.empty(shape), gain=2.0, seed=0).reshape(shape[0], -1)
    small = w @ w.T if shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(small, 4 * np.eye(len(small)), atol=1e-12)


def test_constants_fill():
    for value, filled in [
        (0, init.zeros_(np.empty(3))),
        (1, init.ones_(np.empty(3))),
        (2.5, init.constant_(np.empty(3), 2.5)),
    ]:
        np.testing.assert_array_equal(filled, value)


def test_a_parameter_is_filled_in_place_in_its_users_shape_and_returned():
    layer = nn.Linear(3, 5)
    before = layer(np.ones((1, 3), np.float32))
    assert init.uniform_(layer.weight, seed=4) is layer.weight
    np.testing.assert_array_equal(layer.weight.data, init.uniform_(np.empty((5, 3), np.float32), seed=4))
    after = layer(np.ones((1, 3), np.float32))
    np.testing.assert_allclose(after[0], layer.weight.data.sum(1) + layer.bias.data, rtol=1e-5)
    assert not np.allclose(before, after)


@pytest.mark.parametrize("std", [1e-162, 5e-324, 1e-30, 1e150])
def test_trunc_normal_ends_for_any_deviation(std):
    """The square of a small one is 0: no proposal was ever accepted."""
    values = init.trunc_normal_(np.empty(4000), 0.0, std, -2 * std, 2 * std, seed=0)
    assert np.all(abs(values) <= 2 * std)
    if std > 1e-300:
        assert 0.8 < (values / std).std() < 0.95
    init.trunc_normal_(np.empty(10), 1.0, std, seed=0)


def test_seeds_keep_the_numbers_that_trunc_normal_drew():
    values = init.trunc_normal_(np.empty(3), 0.5, 0.25, seed=7)
    assert values.tolist() == [0.14086120434576488, 0.6258995649388375, 0.3470755348677448]


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (2, 0, 3, 3), (2, 3, 0, 1)])
def test_without_elements_there_is_nothing_to_draw(shape):
    for fill in (init.xavier_uniform_, init.xavier_normal_, init.kaiming_uniform_, init.orthogonal_):
        assert fill(np.empty(shape)).shape == shape
    for mode in ("fan_in", "fan_out"):
        assert init.kaiming_normal_(np.empty(shape), mode=mode).shape == shape


def test_seeds_decide():
    def make(seed):
        return init.normal_(np.empty(5), seed=seed)

    np.testing.assert_array_equal(make(1), make(1))
    assert not np.array_equal(make(1), make(2))
    np.testing.assert_array_equal(make(np.random.Generator(np.random.Philox(1))), make(1))
    manual_seed(3)
    first = make(None)
    manual_seed(3)
    np.testing.assert_array_equal(make(None), first)
    assert not np.array_equal(make(None), first)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: init.uniform_(np.empty(3), 2, 1), ValueError, "a must be at most b"),
        (
            lambda: init.uniform_(np.empty(3, np.int64)),
            TypeError,
            "tensor must be float32 or float64, got int64",
        ),
        (lambda: init.uniform_([1.0, 2.0]), TypeError, "tensor"),
        (lambda: init.zeros_(3.0), TypeError, "tensor"),
        (lambda: init.uniform_(np.empty(3), seed="x"), TypeError, "seed"),
        (lambda: init.uniform_(np.empty(3), "x"), TypeError, "a must be"),
        (lambda: init.uniform_(np.empty(3), 0, math.inf), ValueError, "b must be"),
        (lambda: init.normal_(np.empty(3), 0, -1), ValueError, "std must be"),
        (lambda: init.constant_(np.empty(3), "x"), TypeError, "val must be"),
        (lambda: init.kaiming_uniform_(np.empty(3)), ValueError, "tensor must have the shape"),
        (lambda: init.kaiming_uniform_(np.empty((2, 3)), mode="fan"), ValueError, "mode"),
        (
            lambda: init.kaiming_normal_(np.empty((2, 3)), nonlinearity="gelu"),
            ValueError,
            "nonlinearity",
        ),
        (lambda: init.xavier_normal_(np.empty((2, 3)), gain=None), TypeError, "gain"),
        (lambda: init.orthogonal_(np.empty(3)), ValueError, "tensor"),
        (lambda: init.trunc_normal_(np.empty(3), 0, 1, 20, 30), ValueError, "must hold a part"),
        (lambda: init.trunc_normal_(np.empty(3), 0, 0), ValueError, r"0.0 \+- 0.0"),
        (lambda: init.calculate_gain("swish"), ValueError, "nonlinearity"),
        (lambda: init.calculate_gain([]), ValueError, "nonlinearity"),
        (lambda: init.calculate_gain("leaky_relu", 1e200), ValueError, "param must be"),
        (lambda: init.xavier_uniform_(np.empty((2, 3)), -1), ValueError, "gain must be"),
        (lambda: init.uniform_(np.empty(3), -1.5e308, 1.5e308), ValueError, "b - a must be finite"),
        (lambda: init.trunc_normal_(np.empty(3), 0, 1e308, -1.5e308, 1.5e308), ValueError, "std and a"),
        (lambda: init.normal_(np.empty(3), 10**400), ValueError, "mean must be"),
        (lambda: init.uniform_(np.empty(3), seed=-1), ValueError, "seed must be"),
    ],
)
def test_wrong_arguments_are_refused_by_name(call, error, message):
    with pytest.raises(error, match=message):
        call()
