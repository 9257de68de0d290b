"""Sequential, ModuleList and ModuleDict behave as PyTorch's."""

from collections import OrderedDict

import numpy as np
import pytest

from fastnn import nn

X = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)


def three():
    return nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)


def test_sequential_calls_one_after_the_other():
    a, b, c = three()
    np.testing.assert_array_equal(nn.Sequential(a, b, c)(X), c(b(a(X))))


def test_an_empty_sequential_returns_its_input():
    np.testing.assert_array_equal(nn.Sequential()(X), X)


@pytest.mark.parametrize("mapping", [OrderedDict, dict])
def test_a_mapping_gives_the_names(mapping):
    a, b, c = three()
    model = nn.Sequential(mapping([("fc1", a), ("act", b), ("fc2", c)]))
    assert list(model.state_dict()) == ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]
    assert model.fc1 is a
    np.testing.assert_array_equal(model(X), nn.Sequential(a, b, c)(X))


@pytest.mark.parametrize("make", [lambda m: nn.Sequential(*m), nn.ModuleList])
def test_positions_count_from_either_end(make):
    modules = three()
    container = make(modules)
    assert len(container) == 3
    assert list(container) == list(modules)
    assert [container[i] for i in (0, 1, 2, -1, -3)] == [modules[i] for i in (0, 1, 2, -1, -3)]
    for wrong in (3, -4):
        with pytest.raises(IndexError, match=f"index {wrong} is out of range for 3 modules"):
            container[wrong]
    with pytest.raises(TypeError):
        container["0"]


@pytest.mark.parametrize("make", [lambda m: nn.Sequential(*m), nn.ModuleList])
def test_a_slice_is_a_container_of_the_same_modules(make):
    modules = three()
    part = make(modules)[1:]
    assert type(part) is type(make(modules))
    assert list(part) == list(modules[1:])


def test_the_parts_of_a_sequential_compose_to_the_whole():
    model = nn.Sequential(*three())
    np.testing.assert_array_equal(model[1:](model[:1](X)), model(X))


def test_a_slice_can_be_appended_to():
    part = nn.Sequential(*three())[1:]
    last = nn.Linear(2, 1)
    part.append(last)
    assert [type(m).__name__ for m in part] == ["ReLU", "Linear", "Linear"]
    assert part[-1] is last


def test_appending_and_replacing_take_effect_in_the_next_call():
    model = nn.Sequential(*three())
    before = model(X)
    assert model.append(nn.Linear(2, 5)) is model
    assert model(X).shape == (4, 5)
    model[-1] = nn.Identity()
    np.testing.assert_array_equal(model(X), before)
    model[0] = nn.Linear(3, 4)
    assert list(model.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert not np.array_equal(model(X), before)
    model.extend([nn.Linear(2, 3), nn.Tanh()])
    assert model(X).shape == (4, 3)
    assert len(model) == 6


def test_a_module_list_registers_parameters_and_is_walked_by_forward():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(3, 3) for _ in range(3)])

        def forward(self, x):
            for layer in self.layers:
                x = layer(x).relu()
            return x

    net = Net()
    assert list(net.state_dict()) == [f"layers.{i}.{n}" for i in range(3) for n in ("weight", "bias")]
    assert net(X).shape == (4, 3)
    with pytest.raises(NotImplementedError, match="ModuleList has no forward"):
        net.layers(X)


def test_a_module_dict_registers_parameters_by_name():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.heads = nn.ModuleDict({"mean": nn.Linear(3, 1), "spread": nn.Linear(3, 2)})

        def forward(self, x):
            return {name: head(x) for name, head in self.heads.items()}

    net = Net()
    y = net(X)
    assert {k: v.shape for k, v in y.items()} == {"mean": (4, 1), "spread": (4, 2)}
    heads = net.heads
    assert "mean" in heads and "other" not in heads
    assert list(heads) == list(heads.keys()) == ["mean", "spread"]
    assert len(heads) == len(heads.values()) == 2
    heads["third"] = nn.Identity()
    del heads["mean"]
    assert list(net(X)) == ["spread", "third"]
    with pytest.raises(KeyError):
        heads["mean"]


def test_a_module_that_stands_twice_shares_its_parameters():
    layer = nn.Linear(3, 3)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    assert len(list(model.parameters())) == 2
    np.testing.assert_allclose(model(X), layer(np.maximum(layer(X), 0)), rtol=1e-6)
    model.forward_train(X)
    model.backward(np.ones((4, 3), np.float32))
    h = np.maximum(layer(X), 0)
    w = layer.weight.data
    dy = np.ones((4, 3), np.float32)
    np.testing.assert_allclose(layer.weight.grad, dy.T @ h + ((dy @ w) * (h > 0)).T @ X, rtol=1e-5)


def test_the_representation_is_pytorchs():
    torch = pytest.importorskip("torch")
    inner = "nn.Sequential(nn.LeakyReLU(0.1), nn.Flatten())"
    code = f"nn.Sequential(nn.Linear(3, 4), {inner}, nn.Softmax(dim=1), nn.ELU())"
    ours, theirs = (eval(code, {"nn": module}) for module in (nn, torch.nn))
    assert repr(ours) == repr(theirs)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.Sequential(nn.ReLU(), 3), TypeError, "must be a Module, got int"),
        (lambda: nn.Sequential(nn.ReLU), TypeError, r"got the class ReLU itself; make one with ReLU\("),
        (lambda: nn.Sequential([nn.ReLU()]), TypeError, "must be a Module, got list"),
        (lambda: nn.Sequential({"a.b": nn.ReLU()}), ValueError, "text without dots"),
        (lambda: nn.Sequential({"": nn.ReLU()}), ValueError, "text without dots"),
        (lambda: nn.Sequential({"training": nn.ReLU()}), ValueError, "'training' is an attribute"),
        (lambda: nn.ModuleDict({"items": nn.ReLU()}), ValueError, "'items' is an attribute"),
        (lambda: nn.ModuleDict({1: nn.ReLU()}), ValueError, "text without dots"),
        (lambda: nn.ModuleList([None]), TypeError, "must be a Module, got NoneType"),
        (
            lambda: nn.ModuleList([nn.ReLU()]).__setitem__(0, "x"),
            TypeError,
            "module must be a Module",
        ),
        (lambda: nn.ModuleList([nn.ReLU()]).__setitem__(1, nn.ReLU()), IndexError, "index 1"),
    ],
)
def test_what_is_no_module_or_no_name_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
