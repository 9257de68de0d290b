"""Training next to PyTorch: same weights, same batches, the same losses."""

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn, optim

from native.activation import LAYERS, OURS_ALONE
from optimizers import every_kind_in_torch, make

STEPS = 100
SIZES = (64, 96, 48, 10)
TOLERANCE = {np.float32: 1e-4, np.float64: 1e-9}


def batches(dtype):
    x, y = fn.data.digits("train", flatten=True)
    x = x.astype(dtype)
    order = np.random.default_rng(0).permutation(len(x))
    for i in range(STEPS):
        part = order[(i * 64) % 1300 :][:64]
        yield x[part], y[part]


def build(torch, dtype, activation):
    (a, b, c, d), layer = SIZES, f"nn.{activation}"
    layers = f"nn.Sequential(nn.Linear({a}, {b}), {layer}, nn.Linear({b}, {c}), {layer}, nn.Linear({c}, {d}))"
    ours = eval(layers).to(dtype)
    theirs = eval(layers, {"nn": torch.nn}).to(getattr(torch, np.dtype(dtype).name))
    torch.manual_seed(0)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@every_kind_in_torch
def test_losses_over_100_steps_follow_torch(torch_counts_in_double, kind, dtype):
    torch = pytest.importorskip("torch")
    ours, theirs = build(torch, dtype, "ReLU()")
    opt, torch_opt = make(kind, ours.parameters()), make(kind, theirs.parameters(), torch.optim)
    step = fn.TrainStep(ours, nn.CrossEntropyLoss(), opt)
    worst = 0.0
    for xb, yb in batches(dtype):
        loss = step(xb, yb)
        torch_opt.zero_grad()
        expected = torch.nn.functional.cross_entropy(theirs(torch.from_numpy(xb)), torch.from_numpy(yb))
        expected.backward()
        torch_opt.step()
        worst = max(worst, abs(loss - expected.item()) / abs(expected.item()))
    assert worst <= TOLERANCE[dtype]


@pytest.mark.parametrize("activation", [layer for kind, layer in LAYERS.items() if kind not in OURS_ALONE])
def test_every_activation_trains_as_in_torch(activation):
    torch = pytest.importorskip("torch")
    ours, theirs = build(torch, np.float64, activation)
    opt, torch_opt = make("adam", ours.parameters()), make("adam", theirs.parameters(), torch.optim)
    step = fn.TrainStep(ours, nn.CrossEntropyLoss(label_smoothing=0.1), opt)
    for xb, yb in batches(np.float64):
        loss = step(xb, yb)
        torch_opt.zero_grad()
        expected = torch.nn.functional.cross_entropy(
            theirs(torch.from_numpy(xb)), torch.from_numpy(yb), label_smoothing=0.1
        )
        expected.backward()
        torch_opt.step()
        assert abs(loss - expected.item()) <= 1e-9 * abs(expected.item())


def test_parameter_groups_and_frozen_layers_train_as_in_torch():
    torch = pytest.importorskip("torch")
    ours, theirs = build(torch, np.float64, "ReLU()")
    ours[0].weight.requires_grad = False
    theirs[0].weight.requires_grad = False
    groups = lambda m: [{"params": list(m[0].parameters()), "lr": 0.1}, {"params": list(m[2:].parameters())}]  # noqa: E731
    opt = optim.SGD(groups(ours), lr=0.01, momentum=0.9)
    torch_opt = torch.optim.SGD(groups(theirs), lr=0.01, momentum=0.9)
    step = fn.TrainStep(ours, nn.CrossEntropyLoss(), opt)
    frozen = ours[0].weight.data.copy()
    for i, (xb, yb) in enumerate(batches(np.float64)):
        if i == 50:
            for o in (opt, torch_opt):
                for group in o.param_groups:
                    group["lr"] = group["lr"] * 0.1
        loss = step(xb, yb)
        torch_opt.zero_grad()
        expected = torch.nn.functional.cross_entropy(theirs(torch.from_numpy(xb)), torch.from_numpy(yb))
        expected.backward()
        torch_opt.step()
        assert abs(loss - expected.item()) <= 1e-9 * abs(expected.item())
    np.testing.assert_array_equal(ours[0].weight.data, frozen)
