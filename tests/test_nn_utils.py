"""Weight norm and spectral norm, as PyTorch's, and noise in weights."""

import copy
import inspect
import pickle

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn, optim
from fastnn.testing import gradcheck

LAYERS = [
    ("nn.Linear(4, 3)", (5, 4), 0), ("nn.Linear(4, 3)", (5, 4), 1), ("nn.Linear(4, 3, bias=False)", (5, 4), None),
    ("nn.Conv2d(3, 4, 3)", (2, 3, 6, 6), 0), ("nn.Conv1d(4, 2, 3)", (2, 4, 9), 2),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("expression", "shape", "dim"), LAYERS)
def test_outputs_gradients_and_names_are_pytorchs(expression, shape, dim, dtype):
    torch = pytest.importorskip("torch")
    theirs = torch.nn.utils.weight_norm(eval(expression, {"nn": torch.nn}), dim=dim)
    theirs = theirs.to(torch.float32 if dtype == np.float32 else torch.float64)
    ours = nn.utils.weight_norm(eval(expression).to(dtype), dim=dim)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    if dim is None:
        ours.weight_g.data[:] = theirs.weight_g.item()
        ours.weight_v.data = theirs.weight_v.detach().numpy()
    else:
        ours.load_state_dict(theirs.state_dict())
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    want = theirs(torch.tensor(x))
    y = ours.forward_train(x)
    np.testing.assert_allclose(y, want.detach().numpy(), rtol=1e-4, atol=1e-5)
    dy = np.random.default_rng(1).standard_normal(y.shape).astype(dtype)
    ours.backward(dy)
    want.backward(torch.tensor(dy))
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(p.grad.ravel(), q.grad.numpy().ravel(), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(ours.weight, theirs.weight.detach().numpy(), rtol=1e-5)
    gradcheck(ours.double(), x)


def test_the_function_stays_as_it_is_made_and_as_it_is_removed():
    layer, x = nn.Linear(4, 3), np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    y, weight = layer(x), layer.weight.data.copy()
    assert nn.utils.weight_norm(layer) is layer
    np.testing.assert_allclose(layer(x), y, rtol=1e-5, atol=1e-6)
    layer.weight_g.data *= 2
    np.testing.assert_allclose(layer.weight, 2 * weight, rtol=1e-5)
    np.testing.assert_allclose(layer(x), 2 * (y - layer.bias.data) + layer.bias.data, rtol=1e-4, atol=1e-5)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        np.testing.assert_array_equal(other(x), layer(x))
        other.weight_g.data[:] = 0
        assert layer.weight.any()
    with pytest.raises(ValueError, match="read-only"):
        layer.weight[0] = 1
    nn.utils.remove_weight_norm(layer)
    assert sorted(name for name, _ in layer.named_parameters()) == ["bias", "weight"]
    np.testing.assert_allclose(layer.weight.data, 2 * weight, rtol=1e-5)


def test_a_step_trains_length_and_direction():
    model = nn.Sequential(nn.utils.weight_norm(nn.Linear(4, 8)), nn.Tanh(), nn.utils.weight_norm(nn.Linear(8, 1)))
    step = fn.TrainStep(model, nn.MSELoss(), optim.Adam(model.parameters(), lr=0.02))
    x = np.random.default_rng(0).standard_normal((64, 4)).astype(np.float32)
    y = np.sin(x[:, :1])
    losses = [step(x[:n], y[:n]) for n in (64, 32, 64, 1) * 60]
    assert losses[-2] < 0.1 * losses[0]


def test_what_is_not_there_is_refused():
    with pytest.raises(ValueError, match="ReLU has no parameter 'weight'"):
        nn.utils.weight_norm(nn.ReLU())
    with pytest.raises(ValueError, match="Linear has no weight norm of 'weight'"):
        nn.utils.remove_weight_norm(nn.Linear(2, 3))
    with pytest.raises(ValueError, match="has no parameter 'weight'"):
        nn.utils.weight_norm(nn.utils.weight_norm(nn.Linear(2, 3)))
    with pytest.raises(ValueError, match="dim must be an int of at least 0"):
        nn.utils.weight_norm(nn.Linear(2, 3), dim=-1)  # for PyTorch one length for all
    with pytest.raises(TypeError, match="module must be"):
        nn.utils.weight_norm(3)


SPECTRAL = [
    ("nn.Linear(4, 3)", (5, 4), {}), ("nn.Linear(4, 3, bias=False)", (5, 4), dict(dim=1, n_power_iterations=3)),
    ("nn.Conv2d(3, 4, 3)", (2, 3, 6, 6), {}), ("nn.Conv2d(4, 6, 3, groups=2)", (2, 4, 6, 6), dict(dim=-1)),
    ("nn.ConvTranspose2d(3, 4, 3)", (2, 3, 6, 6), {}), ("nn.Conv1d(4, 2, 3)", (2, 4, 9), dict(dim=2, eps=0.1)),
    ("nn.Linear(4, 3)", (5, 4), dict(name="bias")),
]  # fmt: skip


def _both(expression, settings, dtype):
    """PyTorch's layer with spectral norm, and fastnn's with the same values."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(3)
    theirs = eval(expression, {"nn": torch.nn}).to(getattr(torch, dtype))
    theirs = torch.nn.utils.parametrizations.spectral_norm(theirs, **settings)
    ours = nn.utils.parametrizations.spectral_norm(eval(expression).to(np.dtype(dtype)), **settings)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    return torch, ours, theirs


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("expression", "shape", "settings"), SPECTRAL)
def test_ten_steps_of_spectral_norm_are_pytorchs(expression, shape, settings, dtype):
    torch, ours, theirs = _both(expression, settings, dtype)
    tolerance = dict(rtol=2e-4, atol=2e-5) if dtype == "float32" else dict(rtol=1e-11, atol=1e-12)
    step = fn.TrainStep(ours, lambda y, target: ((y - target) ** 2).mean(), optim.SGD(ours.parameters(), lr=0.3))
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.3)
    rng = np.random.default_rng(0)
    for _ in range(10):
        x = rng.standard_normal(shape).astype(dtype)
        target = rng.standard_normal(theirs.eval()(torch.tensor(x)).shape).astype(dtype)
        theirs.train()
        optimizer.zero_grad()
        loss = ((theirs(torch.tensor(x)) - torch.tensor(target)) ** 2).mean()
        loss.backward()
        optimizer.step()
        np.testing.assert_allclose(step(x, target), loss.item(), **tolerance)
        for (name, a), b in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
            np.testing.assert_allclose(a, b, err_msg=name, **tolerance)
    before = ours.state_dict()
    np.testing.assert_allclose(ours.eval()(x), theirs.eval()(torch.tensor(x)).detach(), **tolerance)
    name = settings.get("name", "weight")
    np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name).detach(), **tolerance)
    for name, value in ours.state_dict().items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)


def test_each_use_in_a_forward_iterates_once_as_pytorchs():
    torch, ours, theirs = _both("nn.Linear(4, 4)", {}, "float64")
    model, other = nn.Sequential(ours, nn.Tanh(), ours), torch.nn.Sequential(theirs, torch.nn.Tanh(), theirs)
    x = np.random.default_rng(0).standard_normal((5, 4))
    for _ in range(3):
        np.testing.assert_allclose(model.forward_train(x), other(torch.tensor(x)).detach(), rtol=1e-12)
        for (name, a), b in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
            np.testing.assert_allclose(a, b, err_msg=name, rtol=1e-12)
    y = other(torch.tensor(x))
    y.sum().backward()
    model.backward(np.ones_like(model.forward_train(x)))
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(p.grad, q.grad, rtol=1e-10, atol=1e-13)


def test_spectral_norm_starts_near_one_and_draws_from_the_seed():
    weights = []
    for seed in (0, 0, 1):
        fn.manual_seed(seed)
        layer = nn.utils.parametrizations.spectral_norm(nn.Linear(40, 30))
        weights.append(layer.weight)
        assert abs(np.linalg.norm(layer.weight, 2) - 1) < 0.1
        parametrization = layer.parametrizations.weight._modules["0"]
        for vector in (parametrization._u.data, parametrization._v.data):
            assert abs(np.linalg.norm(vector) - 1) < 1e-5
    np.testing.assert_array_equal(weights[0], weights[1])
    assert (weights[0] != weights[2]).any()
    step = fn.TrainStep(layer, lambda y, target: (y * target).mean(), optim.SGD(layer.parameters(), lr=1e-9))
    x = np.ones((2, 40), np.float32)
    for _ in range(50):
        step(x, np.ones((2, 30), np.float32))
    assert abs(np.linalg.norm(layer.weight, 2) - 1) < 1e-3


def test_gradients_of_spectral_norm_are_those_by_finite_differences():
    layer = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3).double()).eval()
    gradcheck(layer, np.random.default_rng(0).standard_normal((5, 4)))


def test_no_weight_is_turned_around_for_spectral_norm():
    """A Linear keeps (in, out): what is divided by a number stays so, and products take it as it lies."""
    layer = nn.utils.parametrizations.spectral_norm(nn.Linear(40, 30))
    step = fn.TrainStep(layer, nn.MSELoss(), optim.SGD(layer.parameters(), lr=0.1))
    x, y = np.ones((8, 40), np.float32), np.ones((8, 30), np.float32)
    ops = [op for phase in step.plan(x, y).phases for op in phase if op.node is not None]
    assert "assign" in {op.node.op.name for op in ops}
    assert "transpose" not in {op.node.op.name for op in ops}


def test_an_optimizer_made_before_spectral_norm_trains_on_and_a_weight_comes_back():
    layer, x = nn.Linear(4, 3), np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    optimizer = optim.SGD(layer.parameters(), lr=0.1)
    original = layer.weight.data.copy()
    assert nn.utils.parametrizations.spectral_norm(layer) is layer
    assert nn.utils.parametrize.is_parametrized(layer) and nn.utils.parametrize.is_parametrized(layer, "weight")
    fn.TrainStep(layer, nn.MSELoss(), optimizer)(x, np.ones((5, 3), np.float32))
    assert (layer.parametrizations.weight.original.data != original).all()
    layer.eval()
    y, weight = layer(x), layer.weight
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), layer.frozen()):
        np.testing.assert_array_equal(other(x), y)
    with pytest.raises(ValueError, match="read-only"):
        layer.weight[0] = 1
    assert nn.utils.parametrize.remove_parametrizations(layer, "weight") is layer
    assert not nn.utils.parametrize.is_parametrized(layer)
    assert sorted(layer.state_dict()) == ["bias", "weight"] and not layer._modules
    np.testing.assert_array_equal(layer.weight.data, weight)
    np.testing.assert_allclose(layer(x), y, rtol=1e-6)

    nn.utils.parametrizations.spectral_norm(layer, "bias")
    nn.utils.parametrizations.spectral_norm(layer)
    nn.utils.parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
    np.testing.assert_array_equal(layer.weight.data, weight)
    assert nn.utils.parametrize.is_parametrized(layer, "bias")


def test_spectral_norms_arguments_and_defaults_are_pytorchs():
    torch = pytest.importorskip("torch")
    for ours, theirs in (
        (nn.utils.parametrizations.spectral_norm, torch.nn.utils.parametrizations.spectral_norm),
        (nn.utils.parametrize.remove_parametrizations, torch.nn.utils.parametrize.remove_parametrizations),
        (nn.utils.parametrize.is_parametrized, torch.nn.utils.parametrize.is_parametrized),
    ):
        settings = [[(p.name, p.default) for p in inspect.signature(f).parameters.values()] for f in (ours, theirs)]
        assert settings[0] == settings[1]


def test_spectral_norm_refuses_what_is_not_there():
    spectral_norm, remove = nn.utils.parametrizations.spectral_norm, nn.utils.parametrize.remove_parametrizations
    with pytest.raises(ValueError, match="ReLU has no parameter 'weight'"):
        spectral_norm(nn.ReLU())
    with pytest.raises(ValueError, match="Linear has no parameter 'weight'"):
        spectral_norm(spectral_norm(nn.Linear(2, 3)))
    with pytest.raises(ValueError, match="Linear has no parametrized 'weight'"):
        remove(nn.Linear(2, 3), "weight")
    with pytest.raises(ValueError, match="n_power_iterations must be an int of at least 1"):
        spectral_norm(nn.Linear(2, 3), n_power_iterations=0)
    with pytest.raises(ValueError, match="spectral_norm: dim 2 is out of range for a tensor of 2 dimensions"):
        spectral_norm(nn.Linear(2, 3), dim=2)
    with pytest.raises(TypeError, match="module must be"):
        spectral_norm(3)


@pytest.mark.parametrize("way", [nn.utils.weight_norm, nn.utils.parametrizations.spectral_norm])
def test_a_computed_weight_is_neither_assigned_nor_initialized(way):
    layer = way(nn.Linear(2, 3))
    before = layer.weight
    for value in (np.zeros((3, 2), np.float32), nn.Parameter(np.zeros((3, 2), np.float32)), None):
        with pytest.raises(AttributeError, match=r"Linear.weight is computed from other parameters .*; assign to"):
            layer.weight = value
    with pytest.raises(ValueError, match=r"tensor is read-only: .* computed from other parameters"):
        layer.reset_parameters()
    np.testing.assert_array_equal(layer.weight, before)


# ---- weight noise ---------------------------------------------------------------------------------


def test_weight_noise_has_its_deviation_is_drawn_anew_and_rests_in_evaluation():
    layer = nn.utils.parametrizations.weight_noise(nn.Linear(300, 200, bias=False), 0.25)
    quiet = layer.parametrizations.weight.original.data.copy()
    x = np.eye(300, dtype=np.float32)
    first, second = layer(x).T - quiet, layer(x).T - quiet
    for noise in (first, second):
        assert abs(noise.mean()) < 4 * 0.25 / np.sqrt(noise.size)
        assert abs(noise.std() / 0.25 - 1) < 0.01
    assert abs((first * second).mean()) < 4 * 0.25**2 / np.sqrt(first.size)
    np.testing.assert_array_equal(layer.eval()(x).T, quiet)
    np.testing.assert_array_equal(layer.weight, quiet)
    with pytest.raises(ValueError):
        layer.weight[0, 0] = 1.0
    np.testing.assert_array_equal(layer.parametrizations.weight.original.data, quiet)


def test_the_gradient_of_a_weight_with_noise_is_taken_at_the_noisy_weight():
    layer = nn.utils.parametrizations.weight_noise(nn.Linear(4, 3, bias=False).double(), 0.5)
    original = layer.parametrizations.weight.original
    opt = optim.SGD(layer.parameters(), lr=1.0)
    step = fn.TrainStep(layer, lambda y, t: 0.5 * (y - t).square().sum(), opt, outputs=True)
    x, t, before = np.eye(4), np.zeros((4, 3)), original.data.copy()
    _, y = step(x, t)  # y is the noisy weight, transposed, and so is the gradient
    np.testing.assert_allclose(before - original.data, y.T, rtol=1e-12)
    assert abs(y.T - before).max() > 0.01
