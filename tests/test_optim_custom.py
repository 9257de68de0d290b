"""Optimizers written in NumPy, next to the native ones and in the step."""

import copy
import pickle

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn, optim

RNG = np.random.default_rng(5)
X, Y = RNG.standard_normal((6, 4)), RNG.standard_normal((6, 3))


class Adam(optim.Custom):
    """Adam with weight decay, as native."""

    states = ("exp_avg", "exp_avg_sq")

    def __init__(self, params, lr=0.01, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.1):
        settings = {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, settings)

    def update(self, param, grad, state):
        grad = grad + state["weight_decay"] * param
        t, b1, b2 = state["step"], state["beta1"], state["beta2"]
        state["exp_avg"] = b1 * state["exp_avg"] + (1 - b1) * grad
        state["exp_avg_sq"] *= b2
        state["exp_avg_sq"] += (1 - b2) * grad**2
        root = np.sqrt(state["exp_avg_sq"] / (1 - b2**t))
        return param - state["lr"] * (state["exp_avg"] / (1 - b1**t)) / (root + state["eps"])


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 2)
        self.norm = nn.BatchNorm2d(2)
        self.head = nn.Linear(2, 3)

    def forward(self, x):
        return self.head(self.norm(self.conv(x.reshape(-1, 1, 2, 2))).flatten(1).tanh())


def net(dtype=np.float64, seed=0):
    fn.manual_seed(seed)
    return Net().to(dtype)


def in_one(model, opt):
    return fn.TrainStep(model, nn.MSELoss(), opt)


def in_pieces(model, opt):
    loss = nn.MSELoss()

    def step(x, y):
        opt.zero_grad()
        value, dy = loss.value_and_grad(model.forward_train(x), y)
        model.backward(dy)
        opt.step()
        return value

    return step


both_ways = pytest.mark.parametrize("way", [in_one, in_pieces], ids=["in one", "in pieces"])


def bits(model, opt):
    arrays = [*model.state_dict().values(), *(a for group in opt.state_dict()["state"] for a in group.values())]
    return b"".join(a.tobytes() for a in arrays)


@both_ways
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-5), (np.float64, 1e-12)])
def test_it_trains_as_the_native_one(way, dtype, rtol):
    ours, theirs = net(dtype), net(dtype)
    opt = Adam(ours.parameters())
    native = optim.Adam(theirs.parameters(), lr=0.01, weight_decay=0.1)
    step, expected = way(ours, opt), way(theirs, native)
    for i in range(20):
        ours.norm.requires_grad_(i % 3 > 0)
        theirs.norm.requires_grad_(i % 3 > 0)
        opt.lr = native.lr = 0.01 / (1 + i)
        assert step(X.astype(dtype), Y.astype(dtype)) == pytest.approx(
            expected(X.astype(dtype), Y.astype(dtype)), rel=rtol
        )
    np.testing.assert_array_equal(opt.param_groups[0].steps_of, native.param_groups[0].steps_of)
    if way is in_one:
        assert step._programs.count() == expected._programs.count()


@both_ways
def test_it_goes_on_from_a_checkpoint_and_as_a_copy_with_the_same_bits(tmp_path, way):
    model = net()
    opt = Adam(model.parameters())
    step = way(model, opt)
    step(X, Y)
    fn.save_checkpoint(tmp_path / "c.safetensors", model, opt)
    copies = [copy.deepcopy((model, opt)), pickle.loads(pickle.dumps((model, opt)))]
    other = net(seed=1)
    copies.append((other, Adam(other.parameters(), lr=1.0)))
    fn.load_checkpoint(tmp_path / "c.safetensors", *copies[-1])
    step(X, Y)
    for pair in copies:
        way(*pair)(X, Y)
        assert bits(*pair) == bits(model, opt)


@both_ways
def test_an_update_that_raises_changes_nothing(way):
    class Fails(Adam):
        def update(self, param, grad, state):
            if param.ndim == 2:  # after others were updated
                raise ArithmeticError("no")
            return super().update(param, grad, state)

    model = net()
    model.eval()  # a batch norm's statistics are those of the forward pass
    opt = Fails(model.parameters())
    before = bits(model, opt)
    with pytest.raises(ArithmeticError, match="no"):
        way(model, opt)(X, Y)
    assert bits(model, opt) == before
    assert opt.param_groups[0].steps == 0


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (lambda param, state: None, "must return the new parameter, an array of shape"),
        (lambda param, state: param[..., :1], "must return the new parameter"),
        (lambda param, state: param.astype(str), "must return the new parameter"),
        (lambda param, state: state.pop("exp_avg") * 0 + param, r"must leave state\['exp_avg'\]"),
        (lambda param, state: state.update(exp_avg=1.0) or param, "exp_avg"),
    ],
)
def test_what_an_update_gives_back_is_checked(new, message):
    class Strange(Adam):
        def update(self, param, grad, state):
            return new(param, state)

    model = nn.Linear(4, 3).double()
    with pytest.raises(ValueError, match=message):
        in_one(model, Strange(model.parameters()))(X, Y)


def test_settings_are_checked():
    params = [*nn.Linear(4, 3).parameters()]
    with pytest.raises(NotImplementedError, match="needs a method update"):
        optim.Custom(params, {"lr": 0.1}).update(None, None, None)
    for settings, message in (({}, "lr"), ({"lr": 0.1, "step": 1}, "step"), ({"lr": -1.0}, "lr")):
        with pytest.raises(ValueError, match=message):
            optim.Custom(params, settings)
    with pytest.raises(TypeError, match="beta1"):
        Adam(params, beta1="x")
