"""nn.Normalization: standardisation by the mean and variance of the data, as Keras' layer."""

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn
from fastnn.testing import gradcheck

RNG = np.random.default_rng(0)


def data(*shape):
    features = np.arange(shape[1]).reshape(-1, *[1] * (len(shape) - 2))
    return (RNG.standard_normal(shape) * (1 + features) + 10 * features).astype(np.float32)


@pytest.mark.parametrize("shape", [(20, 3), (6, 2, 5), (4, 3, 5, 2)])
def test_features_have_mean_0_and_deviation_1_and_invert_gives_them_back(shape):
    x = data(*shape)
    layer, inverse = (nn.Normalization(shape[1], invert=invert).adapt(x) for invert in (False, True))
    axes = (0, *range(2, len(shape)))
    y = layer(x)
    wide = x.astype(np.float64)
    expected = (wide - wide.mean(axes, keepdims=True)) / wide.std(axes, keepdims=True)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(inverse(y), x, rtol=1e-5, atol=1e-5)


def test_mean_and_variance_may_be_given_and_a_constant_feature_divides_by_1e_7():
    layer = nn.Normalization(2, mean=[1.0, 2.0], variance=[4.0, 0.0])
    np.testing.assert_allclose(layer(np.array([[3.0, 2.0]], np.float32)), [[1.0, 0.0]])
    np.testing.assert_allclose(layer(np.array([[1.0, 3.0]], np.float32)), [[0.0, 1e7]], rtol=1e-6)


def test_it_is_saved_with_the_model_and_training_leaves_it(tmp_path):
    x = data(40, 3)
    model = nn.Sequential(nn.Normalization(3).adapt(x), nn.Linear(3, 2))
    before = {name: array.copy() for name, array in model[0].state_dict().items()}
    fn.TrainStep(model, nn.MSELoss(), fn.optim.SGD(model.parameters(), lr=0.1))(x, np.ones((40, 2), np.float32))
    assert before.keys() == {"mean", "variance"} and len(list(model.parameters())) == 2
    model.save(tmp_path / "m.safetensors")
    again = nn.Sequential(nn.Normalization(3), nn.Linear(3, 2)).load(tmp_path / "m.safetensors")
    for name, array in again[0].state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    np.testing.assert_array_equal(again.eval()(x), model.eval()(x))


def test_a_model_that_was_run_notices_that_its_layer_is_adapted_again():
    x = data(10, 2)
    model = nn.Sequential(nn.Normalization(2))
    np.testing.assert_array_equal(model(x), x)
    model[0].adapt(x)
    np.testing.assert_allclose(model(x).mean(0), 0, atol=1e-5)


@pytest.mark.parametrize("invert", [False, True])
def test_gradients(invert):
    x = data(5, 3).astype(np.float64)
    layer = nn.Normalization(3, invert=invert, dtype=np.float64).adapt(x)
    gradcheck(lambda a: layer(a).square().sum(), RNG.standard_normal((5, 3)) * 0.1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Normalization(0), "num_features must be"),
        (lambda: nn.Normalization(2, mean=[1.0]), r"mean must be finite numbers of shape \(2,\)"),
        (lambda: nn.Normalization(2, variance=[1.0, -1.0]), "variance must be at least 0, got -1"),
        (lambda: nn.Normalization(2, variance=[1.0, np.inf]), "variance must be finite"),
        (lambda: nn.Normalization(2).adapt(np.zeros((4, 3))), r"data must have shape \(N, 2, ...\), got \(4, 3\)"),
        (lambda: nn.Normalization(2).adapt(np.zeros((0, 2))), r"data must have shape \(N, 2, ...\), got \(0, 2\)"),
        (lambda: nn.Normalization(2).adapt(np.full((4, 2), np.nan)), "mean must be finite"),
        (
            lambda: nn.Normalization(2)(np.zeros((4, 3), np.float32)),
            r"input has shape \(4, 3\); expected \(N, 2, ...\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()
