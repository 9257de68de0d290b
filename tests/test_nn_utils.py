"""Weight norm, as PyTorch's."""

import copy
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
