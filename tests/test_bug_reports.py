"""Scripts that people would post: training loops as they are written for PyTorch, with the same outcome here."""

from __future__ import annotations

import collections
import copy
import dataclasses
import functools
import threading
import types

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn, optim

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 4))
Y = RNG.normal(size=(6, 3))


@pytest.fixture(params=[False, True], ids=["plain", "checked"])
def _checks(request):
    fn.debug.check_traces(request.param)
    yield
    fn.debug.check_traces(False)


def module(forward, **attributes):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            for name, value in attributes.items():
                setattr(self, name, value)

    Model.forward = forward
    return Model()


# ---- next to PyTorch ----------------------------------------------------------------------------

OPTIMIZERS = {
    "SGD with momentum, dampening and decay": (
        "SGD",
        {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1},
    ),
    "SGD with Nesterov momentum": ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "Adam with decay": ("Adam", {"lr": 0.1, "weight_decay": 0.1}),
    "Adam with amsgrad": ("Adam", {"lr": 0.1, "amsgrad": True}),
    "AdamW": ("AdamW", {"lr": 0.1}),
}


class Pair:
    """A network here and in PyTorch, with an optimizer each."""

    def __init__(self, optimizer, norm=False):
        self.torch = pytest.importorskip("torch")
        self.loss = self.torch.nn.functional.mse_loss

        def build(nn):
            class Net(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.a = nn.Linear(4, 8)
                    if norm:
                        self.norm = nn.BatchNorm1d(8)
                    self.b = nn.Linear(8, 3)

                def forward(self, x):
                    hidden = self.a(x)
                    return self.b((self.norm(hidden) if norm else hidden).tanh())

            return Net().double()

        self.mine, self.theirs = build(nn), build(self.torch.nn)
        self.theirs.load_state_dict({k: self.torch.tensor(v) for k, v in self.mine.state_dict().items()})
        kind, settings = OPTIMIZERS[optimizer]
        self.renew = lambda params: getattr(optim, kind)(params, **settings)
        self.optimizers = [
            self.renew(self.mine.parameters()),
            getattr(self.torch.optim, kind)(self.theirs.parameters(), **settings),
        ]
        self.take(self.mine, self.optimizers[0])

    def take(self, mine, optimizer):
        self.mine, self.optimizers[0] = mine, optimizer
        self.run = fn.TrainStep(mine, nn.MSELoss(), optimizer)

    @property
    def both(self):
        return self.mine, self.theirs

    def zero_grad(self):
        for optimizer in self.optimizers:
            optimizer.zero_grad()

    def backward(self, x, y, scale=1.0):
        out = self.mine.forward_train(x)
        self.mine.backward(nn.MSELoss().value_and_grad(out, y)[1] * scale)
        tensor = self.torch.tensor
        (self.loss(self.theirs(tensor(x)), tensor(y)) * scale).backward()

    def update(self):
        for optimizer in self.optimizers:
            optimizer.step()

    def step(self):
        self.run(X, Y)
        self.optimizers[1].zero_grad()
        self.loss(self.theirs(self.torch.tensor(X)), self.torch.tensor(Y)).backward()
        self.optimizers[1].step()

    def compare(self, when):
        for name, value in self.mine.state_dict().items():
            theirs = self.theirs.state_dict()[name].numpy()
            np.testing.assert_allclose(value, theirs, rtol=0, atol=1e-9, err_msg=f"{name}, step {when}")


@pytest.mark.usefixtures("_checks")
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_layers_that_freeze_and_thaw_train_as_in_pytorch(optimizer):
    pair = Pair(optimizer)
    for k in range(15):
        for net in pair.both:
            for p in net.a.parameters():
                p.requires_grad = bool(k >= 5 and k % 3)
            net.b.bias.requires_grad = k % 4 != 2
        pair.step()
        pair.compare(k)
        if k == 8:
            pair.take(*copy.deepcopy((pair.mine, pair.optimizers[0])))
        if k == 10:
            state, fresh = pair.optimizers[0].state_dict(), pair.renew(pair.mine.parameters())
            fresh.load_state_dict(state)
            pair.take(pair.mine, fresh)


@pytest.mark.usefixtures("_checks")
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_accumulated_and_clipped_gradients_train_as_in_pytorch(optimizer):
    pair = Pair(optimizer)
    for k in range(5):
        pair.zero_grad()
        for i in (0, 2, 4):
            pair.backward(X[i : i + 2], Y[i : i + 2], 1 / 3)
        norm = np.sqrt(sum((p.grad**2).sum() for p in pair.mine.parameters()))
        for p in pair.mine.parameters():
            p.grad *= min(1, 0.1 / (norm + 1e-6))
        pair.torch.nn.utils.clip_grad_norm_(pair.theirs.parameters(), 0.1)
        pair.update()
        pair.compare(k)


@pytest.mark.usefixtures("_checks")
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_whole_steps_and_steps_in_pieces_with_gradients_set_to_none_mix_as_in_pytorch(optimizer):
    pair = Pair(optimizer)
    for k in range(6):
        if k % 2:
            pair.step()
        else:
            pair.zero_grad()
            pair.backward(X, Y)
            for net in pair.both:
                net.b.bias.grad = None
            pair.update()
        pair.compare(k)
        mine, theirs = ([p.grad is None for p in net.parameters()] for net in pair.both)
        assert mine == theirs


@pytest.mark.usefixtures("_checks")
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_settings_that_change_in_each_step_act_as_in_pytorch(optimizer):
    pair = Pair(optimizer)
    for k in range(12):
        for one in pair.optimizers:
            group = one.param_groups[0]
            group["lr"], group["weight_decay"] = 0.1 / (k + 1), 0.1 * (k % 2)
            if group.get("momentum") is not None and not group["nesterov"]:
                group["momentum"] = [0.9, 0.0, 0.0, 0.5][k // 2 % 4]
            if "betas" in group:
                group["betas"], group["eps"] = (0.9 - k * 0.01, 0.99), 1e-3 * k
            if k % 5 == 4:
                group["maximize"] = not group["maximize"]
        pair.step()
        pair.compare(k)


@pytest.mark.usefixtures("_checks")
def test_a_batch_norm_whose_mode_and_settings_change_while_training_acts_as_in_pytorch():
    pair = Pair("SGD with Nesterov momentum", norm=True)
    for k in range(14):
        for net in pair.both:
            if k == 4:
                net.norm.eval()
            if k == 6:
                net.norm.momentum = 0.5
                net.norm.train()
            if k == 8:
                net.norm.momentum = None
            if k == 10:
                net.norm.eps = 0.1
                net.eval()
            if k == 12:
                net.norm.weight.requires_grad = False
                net.train()
        pair.step()
        pair.compare(k)


@pytest.mark.usefixtures("_checks")
def test_an_adversarial_pair_with_two_optimizers_trains_as_in_pytorch():
    torch = pytest.importorskip("torch")

    def build(nn):
        class Both(nn.Module):
            def __init__(self, maker, critic):
                super().__init__()
                self.maker, self.critic = maker, critic

            def forward(self, z):
                return self.critic(self.maker(z))

        maker = nn.Sequential(nn.Linear(2, 4), nn.Tanh()).double()
        critic = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 1)).double()
        return maker, critic, Both(maker, critic)

    maker, critic, both = build(nn)
    t_maker, t_critic, t_both = build(torch.nn)
    t_both.load_state_dict({k: torch.tensor(v) for k, v in both.state_dict().items()})
    loss, t_loss = nn.BCEWithLogitsLoss(), torch.nn.BCEWithLogitsLoss()
    judge = fn.TrainStep(critic, loss, optim.Adam(critic.parameters(), 0.05))
    make = fn.TrainStep(both, loss, optim.Adam(maker.parameters(), 0.05))
    t_judge = torch.optim.Adam(t_critic.parameters(), 0.05)
    t_make = torch.optim.Adam(t_maker.parameters(), 0.05)

    def t_step(optimizer, out, target):
        optimizer.zero_grad()
        t_loss(out, torch.tensor(target)).backward()
        optimizer.step()

    for k in range(8):
        n = 5 + k % 3
        z, real = RNG.normal(size=(n, 2)), RNG.normal(size=(n, 4))
        one, zero = np.ones((n, 1)), np.zeros((n, 1))
        critic.requires_grad_(True)
        fake = maker(z)
        judge(real, one)
        judge(fake, zero)
        critic.requires_grad_(False)
        make(z, one)
        t_fake = t_maker(torch.tensor(z)).detach()
        t_step(t_judge, t_critic(torch.tensor(real)), one)
        t_step(t_judge, t_critic(t_fake), zero)
        t_step(t_make, t_both(torch.tensor(z)), one)
        for name, value in both.state_dict().items():
            np.testing.assert_allclose(value, t_both.state_dict()[name].numpy(), rtol=0, atol=1e-8, err_msg=name)


@pytest.mark.usefixtures("_checks")
def test_tied_weights_survive_copies_and_come_apart_as_in_pytorch():
    torch = pytest.importorskip("torch")

    def build(nn):
        class Tied(nn.Module):
            def __init__(self):
                super().__init__()
                self.a = nn.Linear(4, 4, bias=False)
                self.b = nn.Linear(4, 4, bias=False)
                self.b.weight = self.a.weight
                self.c = self.a

            def forward(self, x):
                return self.c(self.b(self.a(x).tanh()).tanh())

        return Tied().double()

    mine, theirs = build(nn), build(torch.nn)
    assert list(mine.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict({k: torch.tensor(v) for k, v in mine.state_dict().items()})
    adam, t_adam = optim.Adam(mine.parameters(), 0.05), torch.optim.Adam(theirs.parameters(), 0.05)
    step = fn.TrainStep(mine, nn.MSELoss(), adam)
    for k in range(9):
        step(X, X)
        t_adam.zero_grad()
        torch.nn.functional.mse_loss(theirs(torch.tensor(X)), torch.tensor(X)).backward()
        t_adam.step()
        for name, value in mine.state_dict().items():
            np.testing.assert_allclose(value, theirs.state_dict()[name].detach().numpy(), rtol=0, atol=1e-9)
        if k == 3:
            step = copy.deepcopy(step)
            mine = step.model
        if k == 5:
            mine.b.weight = nn.Parameter(mine.a.weight.data)
            theirs.b.weight = torch.nn.Parameter(theirs.a.weight.detach().clone())


# ---- loops around a model -----------------------------------------------------------------------


def test_a_learning_rate_finder_that_puts_back_model_and_optimizer_leaves_no_trace():
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    adam = optim.Adam(model.parameters(), lr=0.01)
    step = fn.TrainStep(model, nn.MSELoss(), adam)
    step(X, Y)
    kept = copy.deepcopy((model.state_dict(), adam.state_dict()))
    expected = [step(X, Y) for _ in range(4)]
    for lr in (None, 1e-3, 10.0):
        model.load_state_dict(kept[0])
        adam.load_state_dict(kept[1])
        if lr is None:
            continue
        adam.lr = lr
        for _ in range(3):
            step(X, Y)
        model.load_state_dict(kept[0])
        adam.load_state_dict(kept[1])
    assert [step(X, Y) for _ in range(4)] == expected


def test_a_moving_average_of_the_weights_in_a_deep_copy_is_the_one_that_numpy_computes():
    model = nn.Linear(4, 3).double()
    step = fn.TrainStep(model, nn.MSELoss(), optim.SGD(model.parameters(), lr=0.1))
    step(X, Y)
    average = copy.deepcopy(model)
    weight, bias = average.weight.data.copy(), average.bias.data.copy()
    for _ in range(4):
        step(X, Y)
        for mean, now in zip(average.parameters(), model.parameters(), strict=True):
            mean.data = 0.9 * mean.data + 0.1 * now.data
        weight, bias = 0.9 * weight + 0.1 * model.weight.data, 0.9 * bias + 0.1 * model.bias.data
        np.testing.assert_allclose(average(X), X @ weight.T + bias, atol=1e-12)


def test_a_branch_that_is_switched_on_later_starts_with_a_step_count_of_its_own():
    model = module(
        lambda self, x: self.a(x) + self.b(x) if self.both else self.a(x),
        a=nn.Linear(4, 3),
        b=nn.Linear(4, 3),
        both=False,
    ).double()
    before = model.b.weight.data.copy()
    adam = optim.Adam(model.parameters(), weight_decay=0.5)
    step = fn.TrainStep(model, nn.MSELoss(), adam)
    for _ in range(3):
        step(X, Y)
    assert np.array_equal(model.b.weight.data, before)
    assert model.b.weight.grad is None
    model.both = True
    step(X, Y)
    assert list(adam.state_dict()["state"][0]["steps"]) == [4, 4, 1, 1]


def test_a_model_that_holds_its_optimizer_is_copied_with_it():
    model = nn.Sequential(nn.Linear(4, 4)).double()
    model.optimizer = optim.Adam(model.parameters(), lr=0.1)
    step = fn.TrainStep(model, nn.MSELoss(), model.optimizer)
    step(X, X)
    twin = copy.deepcopy(model)
    step(X, X)
    fn.TrainStep(twin, nn.MSELoss(), twin.optimizer)(X, X)
    assert np.array_equal(twin[0].weight.data, model[0].weight.data)


def test_a_forward_that_fails_at_one_size_serves_the_others_and_leaves_the_weights_alone():
    def forward(self, x):
        if x.shape[0] == 4:
            raise ValueError("no fours")
        return self.layer(x)

    model = module(forward, layer=nn.Linear(4, 4)).double()
    step = fn.TrainStep(model, nn.MSELoss(), optim.Adam(model.parameters()))
    for n in (5, 4, 3, 4, 2, 5):
        before = model.layer.weight.data.copy()
        if n == 4:
            with pytest.raises(ValueError, match="no fours"):
                step(X[:4], X[:4])
            assert np.array_equal(model.layer.weight.data, before)
        else:
            step(X[:n], X[:n])
            assert not np.array_equal(model.layer.weight.data, before)


def test_two_threads_with_many_sizes_and_a_third_that_switches_modes_get_right_results():
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3)).double()
    w, b, v, c = (p.data.copy() for p in model.parameters())
    wrong, done = [], threading.Event()

    def work(seed):
        rng = np.random.default_rng(seed)
        for _ in range(300):
            x = rng.normal(size=(int(rng.integers(1, 40)), 4))
            try:
                np.testing.assert_allclose(model(x), np.maximum(x @ w.T + b, 0) @ v.T + c, atol=1e-12)
            except Exception as error:
                wrong.append(error)

    def switch():
        while not done.wait(0.001):
            model.train()
            model.eval()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 2)]
    other = threading.Thread(target=switch)
    for thread in (*threads, other):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    other.join()
    assert not wrong


# ---- what a forward reads -----------------------------------------------------------------------


@dataclasses.dataclass
class Settings:
    scale: float = 2.0
    kind: str = "double"


class Slotted:
    __slots__ = ("scale",)


def _matched(self, x):
    match self.settings:
        case Settings(kind="double"):
            return x * 2
        case _:
            return x * 3


def _settings(forward, name, value):
    settings = Settings()
    return module(forward, settings=settings), lambda: setattr(settings, name, value)


def _held(forward, held, change):
    return module(forward, held=held), lambda: change(held)


def _cell():
    scale = 2.0

    def put(value):
        nonlocal scale
        scale = value

    return module(lambda self, x: x * scale), lambda: put(3.0)


def _cleared():
    table = {"scale": 2.0}
    read = functools.lru_cache(None)(lambda: table["scale"])

    def change():
        table["scale"] = 3.0
        read.cache_clear()

    return module(lambda self, x: x * read()), change


def _inherited():
    class Base(nn.Module):
        scale = 2.0

        def forward(self, x):
            return x * self.scale

    class Derived(Base):
        def forward(self, x):
            return super().forward(x)

    return Derived(), lambda: setattr(Base, "scale", 3.0)


def _forward_of_the_class():
    class Model(nn.Module):
        def forward(self, x):
            return x * 2

    return Model(), lambda: setattr(Model, "forward", lambda self, x: x * 3)


def _slotted():
    held = Slotted()
    held.scale = 2.0
    return _held(lambda self, x: x * self.held.scale, held, lambda h: setattr(h, "scale", 3.0))


def _registry():
    registry = {"act": lambda x: x * 2}
    return module(lambda self, x: registry["act"](x)), lambda: registry.update(act=lambda x: x * 3)


CHANGES = {
    "a field of a dataclass": lambda: _settings(lambda self, x: x * self.settings.scale, "scale", 3.0),
    "a field that a pattern matches": lambda: _settings(_matched, "kind", "triple"),
    "a field within astuple": lambda: _settings(
        lambda self, x: x * dataclasses.astuple(self.settings)[0], "scale", 3.0
    ),
    "a slot": _slotted,
    "a closure's variable": _cell,
    "what a cleared cache computes": _cleared,
    "a base class's attribute": _inherited,
    "the class's forward": _forward_of_the_class,
    "a function in a registry": _registry,
    "a namespace through vars": lambda: _held(
        lambda self, x: x * sum(vars(self.held).values()),
        types.SimpleNamespace(scale=2.0),
        lambda h: setattr(h, "scale", 3.0),
    ),
    "the order of a dict": lambda: _held(
        lambda self, x: x * next(iter(self.held.values())),
        collections.OrderedDict(a=2.0, b=3.0),
        lambda h: h.move_to_end("a"),
    ),
    "a deque": lambda: _held(
        lambda self, x: x * sum(self.held), collections.deque([1.0, 2.0], maxlen=2), lambda h: h.append(3.0)
    ),
    "an inverted mask": lambda: _held(
        lambda self, x: x * ~self.held, np.array([True, False, True, False]), lambda h: h.__setitem__(1, True)
    ),
    "an array of integers": lambda: _held(
        lambda self, x: x * self.held, np.array([1, 0, 1, 0]), lambda h: h.__setitem__(1, 1)
    ),
    "an array deep in lists": lambda: _held(
        lambda self, x: x * self.held[0][0].sum(), [[np.ones(3)]], lambda h: h[0].__setitem__(0, np.ones(2))
    ),
    "the order of layers in a list": lambda: _held(
        lambda self, x: self.held[1](self.held[0](x)),
        [nn.Linear(4, 4).double(), nn.ReLU()],
        lambda h: h.reverse(),
    ),
    "a parameter read in Python": lambda: _held(
        lambda self, x: x * float(self.held),
        nn.Parameter(np.array(2.0)),
        lambda h: h.data.__setitem__(..., 3.0),
    ),
    "whether a parameter is trained": lambda: _held(
        lambda self, x: x * (2 if self.held.requires_grad else 3),
        nn.Parameter(np.ones(1)),
        lambda h: setattr(h, "requires_grad", False),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_next_call_sees_a_change_of(change):
    model, make = CHANGES[change]()
    before = model(X)
    assert np.array_equal(model(X), before)
    make()
    now = model(X)
    model._programs["infer"].clear()
    assert not np.array_equal(now, before)
    assert np.array_equal(now, model(X))


SIZES = {
    "a factor that depends on the size": (
        lambda self, x: x * {1: 5.0, 4: 7.0}.get(x.shape[0], 1.0),
        lambda x: x * {1: 5.0, 4: 7.0}.get(len(x), 1.0),
    ),
    "a threshold": (lambda self, x: x * 2 if x.shape[0] > 5 else x, lambda x: x * 2 if len(x) > 5 else x),
    "a division by the size": (lambda self, x: x.sum(0) / x.shape[0], lambda x: x.sum(0) / len(x)),
    "a loop over the batch": (lambda self, x: sum((x[i] for i in range(len(x))), x[0] * 0), lambda x: x.sum(0)),
    "differences along the batch": (
        lambda self, x: x[1:] - x[:-1] if len(x) > 1 else x,
        lambda x: np.diff(x, axis=0) if len(x) > 1 else x,
    ),
    "the batch three times": (
        lambda self, x: fn.concat([x, x[:1], x * 2]),
        lambda x: np.concatenate([x, x[:1], x * 2]),
    ),
    "attention over the batch": (
        lambda self, x: (x @ x.T) @ x,
        lambda x: (x @ x.T) @ x,
    ),
    "the batch as columns": (lambda self, x: x.T.reshape(2, 2 * len(x)), lambda x: x.T.reshape(2, -1)),
    "two rows for each": (
        lambda self, x: x.reshape(len(x) * 2, 2).tanh().reshape(len(x), 4),
        np.tanh,
    ),
    "a table that is kept for each size": (
        lambda self, x: x * self.tables.setdefault(len(x), np.arange(len(x), dtype=float).reshape(-1, 1)),
        lambda x: x * np.arange(len(x), dtype=float).reshape(-1, 1),
    ),
}


@pytest.mark.parametrize("what", SIZES)
def test_each_size_gets_its_own_result_whatever_came_before_with(what):
    forward, expected = SIZES[what]
    for order in ((4, 8, 3, 2, 1, 6, 5, 7), (7, 6, 3, 2, 5, 1, 8, 4), (1, 2, 3, 4, 5, 6, 7, 8)):
        model = module(forward, tables={})
        for n in (*order, *order):
            x = RNG.normal(size=(n, 4))
            np.testing.assert_allclose(model(x), expected(x), atol=1e-12, err_msg=f"{n} of {order}")


def test_two_inputs_with_any_first_sizes_are_served():
    model = module(lambda self, a, b: (a @ b.T, b * 2))
    for n, m in ((5, 3), (3, 3), (4, 3), (5, 5), (2, 3), (1, 1), (1, 3), (3, 1), (6, 6), (5, 3)):
        a, b = RNG.normal(size=(n, 4)), RNG.normal(size=(m, 4))
        product, double = model(a, b)
        np.testing.assert_allclose(product, a @ b.T, atol=1e-12)
        np.testing.assert_allclose(double, b * 2)
