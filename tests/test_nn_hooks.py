"""Forward hooks: they are part of the trace, and are noticed when they come and go."""

import copy
import pickle

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn, optim
from fastnn.testing import gradcheck

X = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
Y = np.array([0, 1, 1, 0, 1, 0])


def make(seed=0):
    fn.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def double(module, args, output):
    return output * 2.0


def bits(model):
    return b"".join(a.tobytes() for a in model.state_dict().values())


def test_what_a_hook_returns_takes_the_place_of_the_output_and_none_leaves_it():
    model = make()
    plain = model(X)
    handle = model.register_forward_hook(double)
    np.testing.assert_array_equal(model(X), plain * 2)
    other = model.register_forward_hook(lambda module, args, output: None)
    np.testing.assert_array_equal(model(X), plain * 2)
    handle.remove()
    np.testing.assert_array_equal(model(X), plain)
    other.remove()
    handle.remove()  # which is gone already
    np.testing.assert_array_equal(model(X), plain)


def test_hooks_see_the_module_and_tensors_with_their_shapes():
    seen = []

    def before(module, args):
        seen.append((module, [a.shape for a in args]))

    def after(module, args, output):
        seen.append((module, [a.shape for a in args], output.shape))

    model = make()
    model[0].register_forward_pre_hook(before)
    model[2].register_forward_hook(after)
    model(X)
    assert (model[0], [(6, 3)]) in seen and (model[2], [(6, 4)], (6, 2)) in seen


def test_a_hook_before_replaces_the_arguments():
    model = make()
    expected = model(X * 3)
    with model.register_forward_pre_hook(lambda module, args: args[0] * 3.0):
        np.testing.assert_array_equal(model(X), expected)
    with model.register_forward_pre_hook(lambda module, args: (args[0] * 3.0,)):
        np.testing.assert_array_equal(model(X), expected)
    np.testing.assert_array_equal(model(X), make()(X))


class Scaled(nn.Module):
    def forward(self, x, scale=1.0):
        return x * scale


def test_hooks_with_kwargs_get_and_give_what_is_passed_by_name():
    model = Scaled()
    model.register_forward_pre_hook(lambda module, args, kwargs: (args, {"scale": 4.0}), with_kwargs=True)
    model.register_forward_hook(lambda module, args, kwargs, output: output + kwargs["scale"], with_kwargs=True)
    np.testing.assert_array_equal(model(X, scale=2.0), X * 4 + np.float32(4))
    model.register_forward_pre_hook(lambda module, args, kwargs: args, with_kwargs=True)
    with pytest.raises(TypeError, match=r"returns \(args, kwargs\) or None"):
        model(X)


def test_hooks_run_in_the_order_in_which_they_came_but_for_those_that_are_put_first():
    model = Scaled()
    for value, prepend in ((1.0, False), (2.0, False), (3.0, True), (4.0, True)):
        model.register_forward_hook(lambda module, args, output, v=value: output * 10.0 + v, prepend=prepend)
    assert model(np.zeros((1, 1), np.float32)).item() == 4312


@pytest.mark.parametrize("where", [0, 1, 2])
def test_a_step_notices_hooks_that_come_and_go_and_trains_through_them(where):
    hooked, twin = make(), make()

    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = twin
            self.on = False

        def forward(self, x):
            for i, layer in enumerate(self.layers):
                x = layer(x)
                if self.on and i == where:
                    x = x * 2.0
            return x

    written = Twin()
    a = fn.TrainStep(hooked, nn.CrossEntropyLoss(), optim.SGD(hooked.parameters(), lr=0.1))
    b = fn.TrainStep(written, nn.CrossEntropyLoss(), optim.SGD(twin.parameters(), lr=0.1))
    assert a(X, Y) == b(X, Y)
    handle = hooked[where].register_forward_hook(double)
    written.on = True
    for _ in range(2):
        assert a(X, Y) == b(X, Y)
    assert bits(hooked) == bits(twin)
    np.testing.assert_array_equal(hooked(X), written(X))
    handle.remove()
    written.on = False
    for _ in range(2):
        assert a(X, Y) == b(X, Y)
    assert bits(hooked) == bits(twin)
    assert a._programs.count() == 2  # the first one is found again


def test_what_a_hook_depends_on_is_watched():
    settings = {"factor": 2.0}

    class Factor:
        factor = 3.0

        def hook(self, module, args, output):
            return output * self.factor

    model, own = Scaled(), Factor()
    model.register_forward_hook(lambda module, args, output: output * settings["factor"])
    model.register_forward_hook(own.hook)
    np.testing.assert_array_equal(model(X), X * np.float32(2) * np.float32(3))
    settings["factor"] = 4.0
    np.testing.assert_array_equal(model(X), X * np.float32(4) * np.float32(3))
    own.factor = 0.5
    np.testing.assert_array_equal(model(X), X * np.float32(4) * np.float32(0.5))


def test_a_hook_with_a_function_looks_at_the_numbers_in_each_run():
    class Look(fn.Function):
        def __init__(self):
            self.seen = []

        def forward(self, x):
            self.seen.append(x.copy())
            return x

        def backward(self, dy):
            return dy

    model, look = make(), Look()
    plain = make()
    model[1].register_forward_hook(lambda module, args, output: look(output))
    step = fn.TrainStep(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
    expected = []
    for _ in range(3):
        expected.append(np.maximum(nn.functional.linear(X, model[0].weight.data, model[0].bias.data), 0))
        step(X, Y)
    np.testing.assert_array_equal(look.seen, expected)
    other = fn.TrainStep(plain, nn.CrossEntropyLoss(), optim.SGD(plain.parameters(), lr=0.1))
    for _ in range(3):
        other(X, Y)
    np.testing.assert_allclose(model[0].weight.data, plain[0].weight.data, rtol=1e-5)


def test_gradients_go_through_hooks():
    model = make().double()
    model[0].register_forward_hook(lambda module, args, output: output.tanh())
    model.register_forward_pre_hook(lambda module, args: args[0] * args[0])
    assert gradcheck(model, X.astype(np.float64))


def test_the_summary_and_evaluation_know_of_hooks():
    model = make()
    model[2].register_forward_hook(lambda module, args, output: output.sum(1))
    assert model.evaluated(X).shape == (6,)
    assert "(N)" in model.summary(3) or "(N,)" in model.summary(3)


def test_copies_have_the_hooks_and_those_of_their_own():
    model = make()
    handle = model[0].register_forward_hook(double)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), model.frozen()):
        np.testing.assert_allclose(twin(X), model(X), rtol=1e-6)
    twin = copy.deepcopy(model)
    hooked = model(X)
    handle.remove()
    assert not np.array_equal(model(X), hooked)
    np.testing.assert_array_equal(twin(X), hooked)


def test_hooks_are_not_part_of_the_state():
    model = make()
    names = list(model.state_dict())
    model.register_forward_hook(double)
    assert list(model.state_dict()) == names


@pytest.mark.parametrize("register", ["register_forward_hook", "register_forward_pre_hook"])
def test_what_is_no_hook_is_refused(register):
    with pytest.raises(TypeError, match="hook: expected a callable"):
        getattr(make(), register)("print")
    with pytest.raises(TypeError, match="prepend"):
        getattr(make(), register)(double, prepend=1)


def test_hooks_compute_what_pytorchs_compute():
    torch = pytest.importorskip("torch")
    ours = make()
    theirs = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    theirs.load_state_dict({name: torch.tensor(a) for name, a in ours.state_dict().items()})
    for model in (ours, theirs):
        model[0].register_forward_hook(double)
        model[2].register_forward_pre_hook(lambda module, args: (args[0] + 1.0,))
        model[2].register_forward_hook(lambda module, args, output: output * args[0].sum(), prepend=True)
    np.testing.assert_allclose(ours(X), theirs(torch.tensor(X)).detach().numpy(), rtol=1e-5)
