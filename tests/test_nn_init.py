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
        ("xavier_uniform_", math.sqrt(6 / (6 * 5 * 3 + 4 * 5 * 3))),
        ("kaiming_uniform_", math.sqrt(6 / (6 * 5 * 3))),
    ],
)
def test_fans_are_those_of_out_in_and_kernel(name, bound):
    values = getattr(init, name)(np.empty((4, 6, 5, 3)), seed=1)
    assert bound * 0.98 < abs(values).max() <= bound


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


# ---- as the papers say, within 0.5% -----------------------------------------------------------------

BIG = (1600, 900)  # fan_in 900, fan_out 1600
R3 = math.sqrt(3)
#: Of values: what makes them, their standard deviation, and the largest of them (None: no bound).
SPREADS = {
    "uniform": (lambda w: init.uniform_(w, -2, 4, seed=0), 6 / math.sqrt(12), None),
    "normal": (lambda w: init.normal_(w, 0, 0.3, seed=0), 0.3, None),
    "truncated normal": (lambda w: init.trunc_normal_(w, seed=0), 0.87962566, 2),
    "lecun normal": (lambda w: init.lecun_normal_(w, seed=0), 1 / 30, 2 / 30 / 0.87962566),
    "lecun uniform": (lambda w: init.lecun_uniform_(w, seed=0), 1 / 30, R3 / 30),
    "xavier normal": (lambda w: init.xavier_normal_(w, seed=0), math.sqrt(2 / 2500), None),
    "xavier uniform": (lambda w: init.xavier_uniform_(w, seed=0), math.sqrt(2 / 2500), math.sqrt(6 / 2500)),
    "4 / (n_i + n_j)": (lambda w: init.xavier_normal_(w, math.sqrt(2), seed=0), math.sqrt(4 / 2500), None),
    "kaiming normal": (lambda w: init.kaiming_normal_(w, nonlinearity="relu", seed=0), math.sqrt(2 / 900), None),
    "kaiming uniform": (lambda w: init.kaiming_uniform_(w, seed=0), math.sqrt(2 / 900), math.sqrt(6 / 900)),
    "kaiming backward": (lambda w: init.kaiming_normal_(w, mode="fan_out", seed=0), math.sqrt(2 / 1600), None),
    "kaiming tanh": (lambda w: init.kaiming_normal_(w, nonlinearity="tanh", seed=0), 5 / 3 / 30, None),
    "kaiming leaky": (lambda w: init.kaiming_normal_(w, 0.2, seed=0), math.sqrt(2 / 1.04 / 900), None),
    "average": (lambda w: init.variance_scaling_(w, 2, "fan_avg", seed=0), math.sqrt(2 / 1250), 0.08 / 0.87962566),
    "scaling out": (
        lambda w: init.variance_scaling_(w, 3, "fan_out", "untruncated_normal", seed=0),
        math.sqrt(3 / 1600),
        None,
    ),
    "scaling uniform": (
        lambda w: init.variance_scaling_(w, 3, "fan_avg", "uniform", seed=0),
        math.sqrt(3 / 1250),
        math.sqrt(9 / 1250),
    ),
    "orthogonal": (lambda w: init.orthogonal_(w, 2, seed=0), 2 / 40, None),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", SPREADS)
def test_mean_variance_and_bounds_are_the_papers(name, dtype):
    fill, std, bound = SPREADS[name]
    w = fill(np.empty(BIG, dtype)).astype(np.float64)
    mean = 1 if name == "uniform" else 0
    assert abs(w.mean() - mean) < 0.005 * std
    assert w.var() == pytest.approx(std**2, rel=0.005)
    if bound is not None:
        assert 0.995 * bound < abs(w).max() <= bound * (1 + 1e-6)


def test_a_sparse_matrix_has_so_many_zeros_in_each_column():
    w = init.sparse_(np.empty((1000, 900)), 0.1501, std=2.0, seed=0)
    assert ((w == 0).sum(0) == 151).all()
    kept = w[w != 0]
    assert kept.var() == pytest.approx(4, rel=0.005)
    assert abs(kept.mean()) < 0.01
    assert (init.sparse_(np.empty((10, 10)), 0.5, seed=1) == 0).any(1).all()
    assert not init.sparse_(np.empty((4, 3)), 1.0).any()


def test_identities_are_pytorchs():
    torch = pytest.importorskip("torch")
    for shape in ((3, 5), (5, 3), (4, 4)):
        np.testing.assert_array_equal(init.eye_(np.empty(shape)), torch.nn.init.eye_(torch.empty(shape)).numpy())
    for shape, groups in (((4, 4, 3), 1), ((6, 3, 3, 5), 1), ((6, 2, 4, 3), 3), ((2, 5, 1, 2, 3), 1), ((6, 3, 3), 2)):
        theirs = torch.nn.init.dirac_(torch.empty(shape), groups).numpy()
        np.testing.assert_array_equal(init.dirac_(np.empty(shape), groups), theirs)


def test_a_dirac_convolution_hands_its_channels_on():
    conv = nn.Conv2d(3, 3, 3, padding=1, bias=False)
    init.dirac_(conv.weight)
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 5)).astype(np.float32)
    np.testing.assert_array_equal(conv(x), x)


def test_lsuv_gives_each_layer_the_variance_one():
    layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Tanh(), nn.Flatten(), nn.Linear(8 * 36, 20)]
    model = nn.Sequential(*layers, nn.ReLU(), nn.Linear(20, 4))
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((200, 3, 10, 10)) * 7 + 3).astype(np.float32)
    assert init.lsuv_(model, x, tol=0.005, seed=0) is model
    y = x
    for layer in model:
        y = layer(y)
        if hasattr(layer, "weight"):
            assert y.var() == pytest.approx(1, rel=0.0051)
            assert not layer.bias.data.any()
    w = model[0].weight.data.reshape(8, -1)
    np.testing.assert_allclose(w @ w.T, np.eye(8) * (w[0] @ w[0]), atol=1e-6)  # a multiple of an orthogonal matrix
    again = nn.Sequential(*(type(m)(3, 8, 3) if m is layers[0] else m for m in layers))
    init.lsuv_(again, x, seed=1)
    assert again(x).var() == pytest.approx(1, rel=0.011)


def test_lsuv_leaves_a_layer_without_signal_alone():
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    init.lsuv_(model, np.zeros((5, 4), np.float32), seed=0)
    assert all(np.isfinite(p.data).all() for p in model.parameters())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: init.variance_scaling_(np.empty((2, 3)), mode="average"), ValueError, "fan_avg"),
        (lambda: init.variance_scaling_(np.empty((2, 3)), distribution="normal"), ValueError, "untruncated_normal"),
        (lambda: init.variance_scaling_(np.empty((2, 3)), -1), ValueError, "scale must be"),
        (lambda: init.eye_(np.empty(3)), ValueError, "two dimensions"),
        (lambda: init.sparse_(np.empty((2, 3, 4)), 0.5), ValueError, "two dimensions"),
        (lambda: init.sparse_(np.empty((2, 3)), 1.5), ValueError, "sparsity must be"),
        (lambda: init.dirac_(np.empty((2, 3))), ValueError, "weight of a convolution"),
        (lambda: init.dirac_(np.empty((3, 3, 3)), 2), ValueError, "groups must divide"),
        (lambda: init.lsuv_(3, np.ones(2)), TypeError, "model must be"),
    ],
)
def test_wrong_arguments_of_the_others_are_refused_by_name(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2, 0, 3, 3)])
def test_scaling_without_elements_draws_nothing(shape):
    for fill in (init.lecun_normal_, init.lecun_uniform_, init.variance_scaling_):
        assert fill(np.empty(shape)).shape == shape
