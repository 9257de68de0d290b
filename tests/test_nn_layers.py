"""Layers give PyTorch's values and gradients, under PyTorch's names."""

import numpy as np
import pytest

from fastnn import nn
from fastnn.functions import value_and_grad
from fastnn.seed import manual_seed
from fastnn.testing import gradcheck

from native.activation import LAYERS as ACTIVATION_LAYERS
from native.activation import OURS_ALONE

DTYPES = [np.float32, np.float64]
TOLERANCE = {np.float32: {"rtol": 2e-5, "atol": 2e-6}, np.float64: {"rtol": 1e-9, "atol": 1e-12}}

# Expressions that mean the same layer here and in PyTorch, and a shape to try it on.
LAYERS = [
    ("nn.Linear(7, 5)", (6, 7)),
    ("nn.Linear(7, 5, bias=False)", (6, 7)),
    ("nn.Linear(4, 1)", (1, 4)),
    ("nn.Linear(1, 3)", (5, 1)),
    ("nn.Linear(3, 4)", (2, 5, 3)),
    ("nn.Linear(3, 4)", (3,)),
    *((f"nn.{layer}", (5, 9)) for kind, layer in ACTIVATION_LAYERS.items() if kind not in OURS_ALONE),
    ("nn.LeakyReLU(0.3)", (2, 3, 4)),
    ("nn.LeakyReLU(-0.3)", (5, 9)),
    ("nn.LeakyReLU(0.0)", (5, 9)),
    ("nn.ELU(alpha=0.4)", (5, 9)),
    ("nn.ELU(alpha=-0.4)", (5, 9)),
    ("nn.Tanh()", (2, 3, 4, 5)),
    ("nn.SiLU()", (17,)),
    ("nn.CELU()", (5, 9)),
    ("nn.CELU(alpha=2.5)", (5, 9)),
    ("nn.CELU(alpha=-0.5)", (5, 9)),
    ("nn.ReLU6()", (5, 9)),
    ("nn.PReLU()", (5, 9)),
    ("nn.PReLU(init=-0.5)", (7,)),
    ("nn.PReLU(9, init=1.5)", (5, 9)),
    ("nn.PReLU(3)", (2, 3, 4, 5)),
    ("nn.RReLU().eval()", (5, 9)),
    ("nn.Softplus(beta=2, threshold=1.5)", (5, 9)),
    ("nn.LogSigmoid()", (5, 9)),
    ("nn.Hardtanh(-0.5, 2)", (2, 3, 4)),
    ("nn.Softshrink(lambd=0.7)", (5, 9)),
    ("nn.Tanhshrink()", (5, 9)),
    ("nn.Threshold(0.1, 20)", (5, 9)),
    ("nn.GLU()", (5, 8)),
    ("nn.GLU(dim=1)", (2, 6, 3, 4)),
    ("nn.Softmin(dim=1)", (5, 9)),
    ("nn.Sequential(nn.Linear(6, 8), nn.PReLU(8), nn.Linear(8, 3), nn.SELU())", (4, 6)),
    ("nn.Sequential(nn.Conv2d(3, 4, 3), nn.PReLU(4), nn.Conv2d(4, 4, 1), nn.Hardswish())", (2, 3, 5, 4)),
    ("nn.Softmax(dim=1)", (5, 9)),
    ("nn.Softmax(dim=0)", (5, 9)),
    ("nn.Softmax(dim=-2)", (2, 3, 4)),
    ("nn.LogSoftmax(dim=-1)", (5, 9)),
    ("nn.LogSoftmax(dim=1)", (2, 3, 4)),
    ("nn.RMSNorm(9)", (5, 9)),
    ("nn.RMSNorm((3, 4), 0.1)", (2, 3, 4)),
    ("nn.RMSNorm([4], elementwise_affine=False)", (2, 3, 4)),
    ("nn.InstanceNorm1d(3)", (2, 3, 7)),
    ("nn.InstanceNorm2d(3, affine=True)", (2, 3, 4, 5)),
    ("nn.ReflectionPad2d((1, 2, 3, 0))", (2, 3, 4, 5)),
    ("nn.ReflectionPad2d(2)", (2, 3, 4, 5)),
    ("nn.ReplicationPad2d((1, 2, 0, 5))", (2, 3, 4, 5)),
    ("nn.ReplicationPad2d(2)", (1, 3, 1, 5)),
    ("nn.ZeroPad2d((1, 2, 0, 5))", (2, 3, 4, 5)),
    ("nn.Unflatten(1, (2, 3))", (4, 6)),
    ("nn.Unflatten(-2, (2, -1))", (4, 6, 3)),
    ("nn.AlphaDropout(0.4).eval()", (5, 9)),
    ("nn.Flatten()", (2, 3, 4)),
    ("nn.Flatten(0, 1)", (2, 3, 4)),
    ("nn.Flatten(1, -2)", (2, 3, 4, 5)),
    ("nn.Identity()", (2, 3)),
    ("nn.Identity(54, unused=0.1)", (2, 3)),
    ("nn.Dropout(0.4).eval()", (5, 9)),
    ("nn.Dropout(0.0)", (5, 9)),
    (
        "nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 4), nn.Tanh(), nn.Flatten(0))",
        (3, 6),
    ),
    (
        "nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))",
        (9, 6),
    ),
    (
        "nn.Sequential(nn.Linear(6, 8), nn.Sequential(nn.SiLU(), nn.Linear(8, 3)), nn.Softmax(1))",
        (4, 6),
    ),
]


def pair(expression, dtype):
    """The same layer in fastnn and in PyTorch, with the same weights."""
    torch = pytest.importorskip("torch")
    ours = eval(expression, {"nn": nn}).to(dtype)
    theirs = eval(expression, {"nn": torch.nn}).to(torch.float64 if dtype == np.float64 else torch.float32)
    if ours.state_dict():
        ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def data(shape, dtype, seed=0):
    x = np.random.default_rng(seed).standard_normal(shape) * 2
    return np.where(abs(x) < 0.01, 0.5, x).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("expression", "shape"), LAYERS)
def test_outputs_and_gradients_are_pytorchs(expression, shape, dtype):
    torch = pytest.importorskip("torch")
    ours, theirs = pair(expression, dtype)
    x = data(shape, dtype)
    x_torch = torch.tensor(x, requires_grad=True)
    y_torch = theirs(x_torch)
    dy = data(tuple(y_torch.shape), dtype, 1)
    y_torch.backward(torch.tensor(dy))
    _, dx = value_and_grad(lambda x: (ours(x) * dy).sum())(x)

    # PyTorch's 1 / 6 in the gradient of hardsigmoid is a float32.
    tolerance = (
        {"rtol": 1e-7, "atol": 1e-7} if dtype == np.float64 and "Hardsigmoid" in expression else TOLERANCE[dtype]
    )

    def assert_close(a, b):
        np.testing.assert_allclose(a, b.detach().numpy(), **tolerance)

    assert_close(ours(x), y_torch)
    assert_close(dx, x_torch.grad)
    assert ours(x).dtype == dx.dtype == dtype
    if list(ours.parameters()):
        assert_close(ours.forward_train(x), y_torch)
        ours.backward(dy)
        for p, p_torch in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert_close(p.grad, p_torch.grad)


@pytest.mark.parametrize(("expression", "shape"), LAYERS)
def test_gradients_agree_with_central_differences(expression, shape):
    assert gradcheck(eval(expression).double(), data(shape, np.float64))


@pytest.mark.parametrize("expression", [e for e, _ in LAYERS])
def test_state_dict_has_pytorchs_names_order_and_shapes(expression):
    ours, theirs = pair(expression, np.float32)
    state = theirs.state_dict()
    assert [(k, v.shape) for k, v in ours.state_dict().items()] == [(k, tuple(v.shape)) for k, v in state.items()]
    for name, array in ours.state_dict().items():
        np.testing.assert_array_equal(array, state[name].numpy())


def test_linear_starts_uniform_within_one_over_the_root_of_its_inputs():
    manual_seed(0)
    layer = nn.Linear(400, 300)
    for p in layer.parameters():
        assert abs(p.data).max() <= 1 / 20
        assert abs(p.data).max() > 0.99 / 20
    assert abs(layer.weight.data.std() - 1 / 20 / np.sqrt(3)) < 1e-4


def test_layers_made_after_one_seed_are_equal_and_after_another_differ():
    def weights(seed):
        manual_seed(seed)
        return nn.Linear(5, 4).weight.data

    np.testing.assert_array_equal(weights(1), weights(1))
    assert not np.array_equal(weights(1), weights(2))


def test_linear_of_float64_takes_and_gives_float64():
    layer = nn.Linear(3, 2, dtype=np.float64)
    assert layer.weight.dtype == layer.bias.dtype == np.float64
    assert layer(np.zeros((1, 3))).dtype == np.float64


def test_activations_pass_nan_and_infinities_as_pytorch_does():
    torch = pytest.importorskip("torch")
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e30, -1e30, 1e-40] * 5, np.float32)
    for kind, layer in ACTIVATION_LAYERS.items():
        if kind in OURS_ALONE:
            continue
        # In float64: PyTorch's float32 kernels for AVX-512 give GELU(inf) = nan and the like.
        y = eval(f"torch.nn.{layer}")(torch.tensor(x, dtype=torch.float64)).numpy().astype(np.float32)
        np.testing.assert_allclose(eval(f"nn.{layer}")(x), y, rtol=1e-6, err_msg=layer)


# ---- dropout ------------------------------------------------------------------------------------


def test_dropout_keeps_with_probability_one_minus_p_and_scales():
    manual_seed(0)
    y = nn.Dropout(0.3)(np.ones((500, 400), np.float32))
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.7)}
    assert abs((y != 0).mean() - 0.7) < 4 * np.sqrt(0.3 * 0.7 / y.size)


def test_dropout_draws_anew_each_run_and_again_after_the_same_seed():
    x, layer = np.ones((8, 64), np.float32), nn.Dropout()
    manual_seed(5)
    first, second = layer(x), layer(x)
    assert not np.array_equal(first, second)
    manual_seed(5)
    np.testing.assert_array_equal(layer(x), first)
    np.testing.assert_array_equal(layer(x), second)


def test_dropout_does_nothing_in_evaluation_mode_and_drops_again_in_training_mode():
    x = np.ones((8, 64), np.float32)
    model = nn.Sequential(nn.Dropout(0.5))
    model.eval()
    np.testing.assert_array_equal(model(x), x)
    model.train()
    assert (model(x) == 0).any()


def test_dropout_of_everything_gives_zeros():
    np.testing.assert_array_equal(nn.Dropout(1.0)(np.ones((3, 4), np.float32)), np.zeros((3, 4)))


def test_two_dropouts_of_one_model_draw_different_masks():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, x):
            return self.drop(x), self.drop(x)

    a, b = Two()(np.ones((8, 64), np.float32))
    assert not np.array_equal(a, b)


def test_dropouts_gradient_has_the_mask_of_its_forward():
    layer, x = nn.Dropout(0.5), np.ones((8, 64))

    def both(x):
        y = layer(x)
        return (y * y).sum()

    value, dx = value_and_grad(both)(x)
    kept = dx != 0
    np.testing.assert_allclose(dx[kept], 2 * 4)  # d(2x)^2/dx
    assert value == pytest.approx(4 * kept.sum())


def test_gradients_through_dropout_agree_with_central_differences():
    model = nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.3), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 2)).double()
    assert gradcheck(model, data((4, 5), np.float64))
