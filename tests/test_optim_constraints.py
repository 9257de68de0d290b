"""Max-norm, iRprop+ and the perceptron rule."""

import numpy as np
import pytest
from test_averaging import mean_of
from test_optim_steps import X, Y, bits, both_ways, heads, in_one, in_pieces

import fastnn as fn
import fastnn.nn.functional as F
from fastnn import nn, optim
from fastnn.train import callbacks

from native import on_threads
from optimizers import CLASSES, every_kind, make

RNG = np.random.default_rng(8)


def renormed(w, most):
    """torch.renorm(w, 2, 0, most), written out."""
    norm = np.sqrt((w.reshape(len(w), -1) ** 2).sum(1)).reshape(-1, *(1,) * (w.ndim - 1))
    return np.where(norm > most, w * (most / (norm + 1e-7)), w)


class Shapes(nn.Module):
    """Parameters whose rows lie in all ways: (out, in) as (in, out), kernels first, groups, and as they are."""

    def __init__(self, dtype):
        super().__init__()
        self.conv, self.grouped = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 2, groups=2)
        self.linear, self.table = nn.Linear(54, 5), nn.Embedding(7, 5)
        self.cube = nn.Parameter(RNG.standard_normal((3, 4, 5)))
        self.middle = nn.Parameter(RNG.standard_normal((3, 4, 5)), order=(1, 0, 2))
        self.to(dtype)

    def forward(self, x, labels):
        y = self.linear(self.grouped(self.conv(x)).tanh().flatten(1)) + self.table(labels)
        return y * self.cube.sum() + (self.middle * self.cube).mean()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_become_as_long_as_max_norm_allows(dtype):
    fn.manual_seed(0)
    model, twin = Shapes(dtype), Shapes(dtype)
    twin.load_state_dict(model.state_dict())
    most = 0.9
    opt = optim.SGD(model.parameters(), lr=0.1, max_norm=most)
    free = optim.SGD(twin.parameters(), lr=0.1)
    x, labels = RNG.standard_normal((6, 3, 6, 6)).astype(dtype), RNG.integers(0, 7, 6)
    y = RNG.standard_normal((6, 5)).astype(dtype)
    for model_, opt_ in ((model, opt), (twin, free)):
        loss = nn.MSELoss()
        _, dy = loss.value_and_grad(model_.forward_train(x, labels), y)
        model_.backward(dy)
        opt_.step()
    rtol = 1e-5 if dtype == np.float32 else 1e-12
    shortened = 0
    for (name, p), q in zip(model.named_parameters(), twin.parameters(), strict=True):
        expected = renormed(q.data, most) if q.ndim > 1 else q.data
        np.testing.assert_allclose(p.data, expected, rtol=rtol, atol=1e-7, err_msg=name)
        shortened += np.any(expected != q.data)
        if p.ndim > 1 and np.all(expected == q.data, axis=tuple(range(1, p.ndim))).any():
            same = np.all(expected == q.data, axis=tuple(range(1, p.ndim)))
            np.testing.assert_array_equal(p.data[same], q.data[same])
    assert shortened >= 4


def test_max_norm_is_torchs_renorm():
    torch = pytest.importorskip("torch")
    model = nn.Linear(6, 3).double()
    model.weight.data *= 3
    start = model.weight.data.copy()
    model.weight.grad = np.zeros((3, 6))
    optim.SGD([model.weight], lr=0.1, max_norm=1.2).step()
    np.testing.assert_allclose(model.weight.data, torch.renorm(torch.tensor(start), 2, 0, 1.2), rtol=1e-13)


@every_kind
@both_ways
def test_every_optimizer_keeps_rows_within_max_norm(kind, way):
    model = heads()
    opt = make(kind, model.parameters(), max_norm=0.5)
    step = way(model, opt)
    for p in model.parameters():
        p.data *= 2
    for _ in range(4):
        step(X, Y)
    for name in ("trunk", "a"):
        norms = np.sqrt((getattr(model, name).weight.data ** 2).sum(1))
        assert norms.max() <= 0.5 * (1 + 1e-12)
    assert np.sqrt((model.b.weight.data**2).sum(1)).max() > 0.5  # the loss does not reach it


@both_ways
@pytest.mark.parametrize("averaging", [0.7, "uniform"])
def test_averages_are_of_the_constrained_weights(way, averaging):
    model = heads()
    opt = make("momentum", model.parameters(), max_norm=0.5, averaging=averaging, averaging_every=2)
    step, seen = way(model, opt), {name: [] for name, _ in model.named_parameters() if not name.startswith("b")}
    for i in range(8):
        step(X, Y)
        if i % 2:
            for name, p in model.named_parameters():
                if name in seen:
                    seen[name].append(p.data.copy())
    mean = dict(fn.train.averaged(model, opt).named_parameters())
    for name, values in seen.items():
        np.testing.assert_allclose(mean[name].data, mean_of(values, averaging), rtol=1e-13)


def test_max_norm_is_changed_by_group_and_between_steps():
    model = heads()
    opt = optim.SGD(
        [{"params": model.trunk.parameters(), "max_norm": 0.3}, {"params": model.a.parameters()}], lr=0.01
    )  # fmt: skip
    step = in_one(model, opt)
    model.a.weight.data *= 5
    step(X, Y)
    longest = lambda layer: np.sqrt((layer.weight.data**2).sum(1)).max()  # noqa: E731
    assert longest(model.trunk) <= 0.3 + 1e-9 < 1 < longest(model.a)
    opt.param_groups[1]["max_norm"] = 0.2
    step(X, Y)
    assert longest(model.a) <= 0.2 + 1e-9
    opt.param_groups[1]["max_norm"] = None
    model.a.weight.data *= 5
    step(X, Y)
    assert longest(model.a) > 0.5
    for value, error in ((0.0, ValueError), (-1.0, ValueError), ("1", TypeError)):
        with pytest.raises(error, match="max_norm"):
            opt.param_groups[0]["max_norm"] = value


def test_a_row_that_is_not_finite_is_left_as_torch_leaves_it():
    rows = np.array([[np.nan, 5.0], [np.inf, 5.0], [3.0, 4.0], [0.0, 0.0]])
    p = nn.Parameter(rows.copy())
    p.grad = np.zeros((4, 2))
    optim.SGD([p], lr=0.1, max_norm=1.0).step()
    np.testing.assert_allclose(p.data, [[np.nan, 5.0], [np.nan, 0.0], [0.6, 0.8], [0.0, 0.0]], rtol=1e-6)


@pytest.mark.parametrize("name", CLASSES)
def test_the_bits_of_constrained_steps_do_not_depend_on_the_threads(name):
    x, y = (RNG.standard_normal((32, n)).astype(np.float32) for n in (300, 150))

    def train():
        fn.manual_seed(0)
        model = nn.Sequential(nn.Linear(300, 200), nn.ReLU(), nn.Linear(200, 150))
        settings = {**CLASSES[name], "max_norm": 0.4, "averaging": 0.9, "clip_grad_norm": 1.0, "grad_noise": 1e-3}
        opt = getattr(optim, name)(model.parameters(), **settings)
        step = fn.TrainStep(model, nn.MSELoss(), opt)
        for _ in range(3):
            step(x, y)
        return bits(model) + bits(fn.train.averaged(model, opt))

    first, *rest = on_threads(train, (1, 2, 3, 8))
    assert all(each == first for each in rest)


# ---- iRprop+ ----------------------------------------------------------------------------------------


def improved_rprop(p, g, s, loss, c):
    """Igel and Huesken, 2000, with weight-backtracking (iRprop+), in float64."""
    size = s.setdefault("size", np.full_like(p, c["lr"]))
    before, moved, last = s.get("g", np.zeros_like(p)), s.get("moved", np.zeros_like(p)), s.get("loss", np.inf)
    same, changed = before * g > 0, before * g < 0
    minus, plus = c["etas"]
    size = np.where(same, np.minimum(size * plus, c["step_sizes"][1]), size)
    size = np.where(changed, np.maximum(size * minus, c["step_sizes"][0]), size)
    step = np.where(changed, -moved if loss > last else 0.0, -np.sign(g) * size)
    s.update(size=size, g=np.where(changed, 0.0, g), moved=step, loss=loss)
    return p + step


SETTINGS = {"lr": 0.02, "etas": (0.5, 1.2), "step_sizes": (1e-6, 0.5)}


@both_ways
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_irprop_plus_follows_the_paper_over_50_steps(way, dtype):
    model, twin = heads(dtype=dtype), heads()
    twin.load_state_dict(model.state_dict())
    opt = optim.Rprop(model.parameters(), **SETTINGS, variant="irprop+")
    step = way(model, opt) if way is in_one else told(model, opt)
    states, losses, undone = {}, [], 0
    for _ in range(50):
        if dtype == np.float32:
            twin.load_state_dict(model.state_dict())  # signs decide: each step is compared by itself
        twin.zero_grad()
        loss, dy = nn.MSELoss().value_and_grad(twin.forward_train(X), Y)
        twin.backward(dy)
        new = {
            name: improved_rprop(p.data, p.grad, states.setdefault(name, {}), loss, SETTINGS)
            for name, p in twin.named_parameters()
            if p.grad is not None
        }
        undone += bool(losses) and loss > losses[-1]
        losses.append(loss)
        assert step(X.astype(dtype), Y.astype(dtype)) == pytest.approx(loss, rel=1e-5 if dtype == np.float32 else 1e-9)
        for name, p in twin.named_parameters():
            if name in new:
                if dtype == np.float64:
                    np.testing.assert_allclose(dict(model.named_parameters())[name].data, new[name], rtol=1e-9)
                p.data = new[name]
    assert undone > 1
    assert losses[-1] < 0.5 * losses[0]


def told(model, opt):
    loss = nn.MSELoss()

    def step(x, y):
        opt.zero_grad()
        value, dy = loss.value_and_grad(model.forward_train(x), y)
        model.backward(dy)
        opt.step(value)
        return value

    return step


def test_irprop_plus_in_one_and_in_pieces_has_the_same_bits_and_others_than_rprop_plus():
    ends = []
    for variant, way in (("irprop+", in_one), ("irprop+", told), ("rprop+", in_one), ("rprop+", in_pieces)):
        model = heads()
        step = way(model, optim.Rprop(model.parameters(), **SETTINGS, variant=variant))
        for _ in range(30):
            step(X, Y)
        ends.append(bits(model))
    assert ends[0] == ends[1] != ends[2] == ends[3]


def test_irprop_plus_without_a_loss_is_refused():
    model = heads()
    opt = optim.Rprop(model.parameters(), variant="irprop+")
    before = bits(model)
    in_pieces_step = in_pieces(model, opt)
    with pytest.raises(ValueError, match=r"step\(loss\)"):
        in_pieces_step(X, Y)
    step = fn.TrainStep(model, nn.MSELoss(), opt, accumulate=2)
    with pytest.raises(ValueError, match="irprop"):
        step(X, Y), step(X, Y)
    assert bits(model) == before


@pytest.mark.parametrize("stop", [1, 9, 14])
def test_irprop_plus_stopped_and_resumed_has_the_same_bits(tmp_path, stop):
    class Stop(callbacks.Callback):
        def on_batch_end(self, batch, logs):
            if self.trainer.step == stop:
                self.trainer.save_checkpoint(tmp_path / "run.safetensors")

    def run(resume=None, seed=0):
        model = heads(seed)
        opt = optim.Rprop(model.parameters(), **SETTINGS, variant="irprop+")
        trainer = fn.Trainer(model, nn.MSELoss(), opt)
        chain = [] if resume else [Stop()]
        trainer.fit((X, Y), epochs=20, batch_size=6, callbacks=chain, verbose=0, seed=1, resume=resume)
        return bits(model)

    assert run() == run(tmp_path / "run.safetensors", seed=4)


def test_the_bits_of_irprop_plus_do_not_depend_on_the_threads():
    x, y = (RNG.standard_normal((32, n)).astype(np.float32) for n in (200, 100))

    def train():
        fn.manual_seed(0)
        model = nn.Sequential(nn.Linear(200, 150), nn.Tanh(), nn.Linear(150, 100))
        step = fn.TrainStep(model, nn.MSELoss(), optim.Rprop(model.parameters(), **SETTINGS, variant="irprop+"))
        for _ in range(10):
            step(x, y)
        return bits(model)

    first, *rest = on_threads(train, (1, 2, 3, 8))
    assert all(each == first for each in rest)


# ---- the perceptron ---------------------------------------------------------------------------------


def rosenblatt(x, t, w, b, rate):
    """The rule, point by point, for several units at once."""
    for point, target in zip(x, t, strict=True):
        error = target - (w @ point + b > 0)
        w, b = w + rate * np.outer(error, point), b + rate * error
    return w, b


@pytest.mark.parametrize("way", [in_one, in_pieces])
@pytest.mark.parametrize("rate", [1.0, 0.25])
def test_the_perceptron_loss_makes_descent_the_perceptron_rule(monkeypatch, way, rate):
    x = RNG.integers(-8, 9, (200, 3)) / 4  # exact in any order
    t = (x @ RNG.integers(-3, 4, (3, 2)) + [0.5, -0.5] > 0).astype(np.float64)
    model = nn.Linear(3, 2).double()
    model.weight.data[:] = model.bias.data[:] = 0.0
    monkeypatch.setattr(nn, "MSELoss", lambda: nn.PerceptronLoss(reduction="sum"))
    step = way(model, optim.SGD(model.parameters(), lr=rate))
    for i in range(len(x)):
        step(x[i : i + 1], t[i : i + 1])
    w, b = rosenblatt(x, t, np.zeros((2, 3)), np.zeros(2), rate)
    np.testing.assert_array_equal(model.weight.data, w)
    np.testing.assert_array_equal(model.bias.data, b)
    assert np.any(w != 0)


def test_a_perceptron_parts_what_a_line_parts_and_then_stops():
    x = RNG.standard_normal((100, 2))
    x = x[abs(x[:, 0] + 0.5 * x[:, 1]) > 0.2]
    t = (x[:, :1] + 0.5 * x[:, 1:] > 0).astype(np.float64)
    model = nn.Linear(2, 1).double()
    step = fn.TrainStep(model, nn.PerceptronLoss("sum"), optim.SGD(model.parameters(), lr=1.0))
    for _ in range(200):
        if max(step(x[i : i + 1], t[i : i + 1]) for i in range(len(x))) == 0:
            break
    assert step(x, t) == 0
    np.testing.assert_array_equal(np.asarray(model(x)) > 0, t)


def test_the_perceptron_loss_is_how_far_a_mistake_is_from_the_line():
    z, t = np.array([2.0, -2.0, 2.0, -2.0, 0.0, 0.0]), np.array([1.0, 1.0, 0.0, 0.0, 1.0, 0.0])
    np.testing.assert_array_equal(F.perceptron_loss(z, t, reduction="none"), [0, 2, 2, 0, 0, 0])
    gradient = fn.grad(lambda z: F.perceptron_loss(z, t, reduction="sum"))(z)
    np.testing.assert_array_equal(gradient, [0, -1, 1, 0, -1, 0])
    assert F.perceptron_loss(z, t) == pytest.approx(4 / 6)
    assert nn.PerceptronLoss()(z, t) == pytest.approx(4 / 6)
    assert np.isnan(F.perceptron_loss(np.array([np.nan, 1.0]), np.array([1.0, 1.0])))
