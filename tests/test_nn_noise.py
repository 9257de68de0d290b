"""Noise and dropout that keeps mean and variance."""

import numpy as np
import pytest

import fastnn as fn
import fastnn.nn.functional as F
from fastnn import nn
from fastnn.testing import gradcheck

X = np.random.default_rng(0).standard_normal((500, 2000)).astype(np.float32)


@pytest.mark.parametrize("p", [0.05, 0.3, 0.8])
def test_alpha_dropout_keeps_mean_zero_and_variance_one(p):
    fn.manual_seed(0)
    y = nn.AlphaDropout(p)(X).astype(np.float64)
    assert abs(y.mean()) < 0.005
    assert y.var() == pytest.approx(1, rel=0.005)
    limit = -1.7580993408473766
    a = ((1 - p) * (1 + p * limit**2)) ** -0.5
    dropped = np.isclose(y, a * limit * (1 - p), rtol=1e-5)
    assert dropped.mean() == pytest.approx(p, rel=0.01)
    np.testing.assert_allclose(y[~dropped], (a * X - a * p * limit)[~dropped], rtol=1e-5, atol=1e-6)


def test_alpha_dropout_rests_outside_of_training_and_at_the_ends():
    np.testing.assert_array_equal(nn.AlphaDropout(0.5).eval()(X), X)
    np.testing.assert_array_equal(F.alpha_dropout(X, 0.0), X)
    assert not F.alpha_dropout(X, 1.0).any()
    gradcheck(nn.AlphaDropout(0.4), X[:3, :5])
    assert F.alpha_dropout(X.astype(np.float64)[:2], 0.5).dtype == np.float64


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gaussian_noise_has_its_deviation_and_is_drawn_anew(dtype):
    fn.manual_seed(0)
    layer, x = nn.GaussianNoise(0.5), X.astype(dtype)
    first, second = layer(x) - x, layer(x) - x
    assert first.dtype == dtype
    for noise in (first, second):
        assert abs(noise.mean()) < 0.0025
        assert noise.var() == pytest.approx(0.25, rel=0.005)
    assert abs((first * second).mean()) < 0.002
    fn.manual_seed(0)
    np.testing.assert_array_equal(layer(x) - x, first)
    np.testing.assert_array_equal(layer.eval()(x), x)
    np.testing.assert_array_equal(nn.GaussianNoise(0)(x), x)


def test_noise_of_any_shape_passes_gradients_on():
    for shape in ((3,), (2, 3, 4), (2, 1, 3, 4)):
        gradcheck(nn.GaussianNoise(0.3), np.ones(shape), eps=1.0)
    with pytest.raises(ValueError, match="std must be"):
        nn.GaussianNoise(-1)
    assert repr(nn.GaussianNoise(0.1)) == "GaussianNoise(std=0.1)"


def test_detach_keeps_the_value_and_stops_the_gradient():
    x = np.array([1.0, -2.0, 0.3])
    value, grad = fn.value_and_grad(lambda x: (x * x.detach() + (x.sign() - x).detach() + x).sum())(x)
    assert value == pytest.approx((x * x + np.sign(x)).sum())
    np.testing.assert_allclose(grad, x + 1)  # straight through the step
