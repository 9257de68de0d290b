"""Penalties on signals, as a part of the loss."""

import copy

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn, optim

RNG = np.random.default_rng(3)
X, Y = RNG.standard_normal((8, 3)), RNG.integers(0, 2, 8)


def make(l1=0.0, l2=0.0, hooked=False, seed=0):
    fn.manual_seed(seed)
    layers = [nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)]
    if not hooked:
        layers.insert(2, nn.ActivityRegularization(l1, l2))
    model = nn.Sequential(*layers).double()
    if hooked:
        nn.utils.activity_regularizer(model[1], l1, l2)
    return model


def penalty(model, l1, l2, x=X):
    signal = np.tanh(x @ model[0].weight.data.T + model[0].bias.data)
    return (l1 * np.abs(signal).sum(1) + l2 * (signal**2).sum(1)).mean()


FORMS = pytest.mark.parametrize("hooked", [False, True])
FACTORS = pytest.mark.parametrize(("l1", "l2"), [(0.3, 0.0), (0.0, 0.2), (0.3, 0.2)])


@FORMS
@FACTORS
def test_a_step_returns_the_loss_with_the_penalty_and_descends_it(hooked, l1, l2):
    model = make(l1, l2, hooked)
    twin = copy.deepcopy(model).eval()
    loss = nn.CrossEntropyLoss()

    def whole():
        return loss(twin(X), Y) + penalty(twin, l1, l2)

    step = fn.TrainStep(model, loss, optim.SGD(model.parameters(), lr=1.0))
    assert step(X, Y) == pytest.approx(whole(), rel=1e-12)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        for at in np.ndindex(p.shape):
            kept, sums = q.data[at], []
            for shift in (1e-6, -1e-6):
                q.data[at] = kept + shift
                sums.append(whole())
            q.data[at] = kept
            assert kept - p.data[at] == pytest.approx((sums[0] - sums[1]) / 2e-6, rel=1e-5, abs=1e-8)


@FORMS
def test_in_pieces_backward_adds_the_penaltys_gradient_and_its_value_can_be_asked_for(hooked):
    model, twin = make(0.3, 0.2, hooked), make(0.3, 0.2, hooked)
    step = fn.TrainStep(twin, nn.CrossEntropyLoss(), optim.SGD(twin.parameters(), lr=0.5))
    opt = optim.SGD(model.parameters(), lr=0.5)
    for _ in range(3):
        value, dy = nn.CrossEntropyLoss().value_and_grad(model.forward_train(X), Y)
        assert model.penalty == pytest.approx(penalty(model, 0.3, 0.2), rel=1e-12)
        opt.zero_grad()
        value += model.penalty
        model.backward(dy)
        opt.step()
        assert step(X, Y) == pytest.approx(value, rel=1e-12)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        np.testing.assert_allclose(p.data, q.data, rtol=1e-12)
    plain = nn.Linear(3, 2).double()
    plain.forward_train(X)
    assert plain.penalty == 0.0


@FORMS
def test_in_evaluation_there_is_none_and_outputs_are_as_without(hooked):
    model, plain = make(0.3, 0.2, hooked), make(0.0, 0.0, hooked)
    np.testing.assert_array_equal(model(X), plain(X))
    loss = nn.CrossEntropyLoss()
    trainer = fn.Trainer(model, loss, optim.SGD(model.parameters(), lr=0.0))
    history = trainer.fit((X, Y), (X, Y), batch_size=8, verbose=False).history
    assert history["val_loss"][0] == pytest.approx(loss(model(X), Y), rel=1e-12)
    assert history["loss"][0] == pytest.approx(history["val_loss"][0] + penalty(model, 0.3, 0.2), rel=1e-12)
    step = fn.TrainStep(model.eval(), loss, optim.SGD(model.parameters(), lr=0.0))
    assert step(X, Y) == pytest.approx(history["val_loss"][0], rel=1e-12)


def test_the_penalty_is_a_mean_over_the_batch_at_any_size_by_one_program():
    model = make(0.3, 0.2)
    step = fn.TrainStep(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.0))
    for n in (8, 5, 3):
        expected = nn.CrossEntropyLoss()(model(X[:n]), Y[:n]) + penalty(model, 0.3, 0.2, X[:n])
        assert step(X[:n], Y[:n]) == pytest.approx(expected, rel=1e-12)
    assert step._programs.count() == 1


def test_a_change_of_the_factor_and_its_removal_are_noticed():
    model = make(0.3)
    loss = nn.CrossEntropyLoss()
    step = fn.TrainStep(model, loss, optim.SGD(model.parameters(), lr=0.0))
    plain = loss(model(X), Y)
    for factor in (0.3, 0.7, 0.0, 0.1):
        model[2].l1 = factor
        assert step(X, Y) == pytest.approx(plain + penalty(model, factor, 0.0), rel=1e-12)
    handle = nn.utils.activity_regularizer(model[0], l2=1.0)
    with_more = step(X, Y)
    assert with_more > plain + penalty(model, 0.1, 0.0) + 0.01
    handle.remove()
    assert step(X, Y) == pytest.approx(plain + penalty(model, 0.1, 0.0), rel=1e-12)


def test_images_and_sums_of_several_layers():
    fn.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.ActivityRegularization(l1=0.5), nn.Flatten(), nn.Linear(8, 2),
        nn.ActivityRegularization(l2=0.25),
    ).double()  # fmt: skip
    x, y = RNG.standard_normal((6, 1, 4, 4)), np.arange(6) % 2
    loss, parts = nn.CrossEntropyLoss(), [model[:2].eval()(x), model.eval()(x)]
    expected = loss(parts[1], y) + 0.5 * np.abs(parts[0]).sum((1, 2, 3)).mean() + 0.25 * (parts[1] ** 2).sum(1).mean()
    step = fn.TrainStep(model.train(), loss, optim.SGD(model.parameters(), lr=0.1))
    assert step(x, y) == pytest.approx(expected, rel=1e-12)


def test_sparse_signals_come_of_it():
    x, y = fn.data.digits("train", flatten=True)

    def share_of_zeros(l1):
        fn.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.ActivityRegularization(l1=l1), nn.Linear(64, 10))
        trainer = fn.Trainer(model, nn.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=3e-3))
        trainer.fit((x, y), epochs=5, seed=0, verbose=False)
        return (model[:2](x) == 0).mean(), trainer.evaluate((x, y))["accuracy"]

    (dense, _), (sparse, accuracy) = share_of_zeros(0.0), share_of_zeros(0.003)
    assert sparse > dense + 0.1 and accuracy > 0.9


def test_settings_that_do_not_fit_are_refused():
    for call, error, match in (
        (lambda: nn.ActivityRegularization(l1=-1), ValueError, "l1"),
        (lambda: nn.ActivityRegularization(l2="1"), TypeError, "l2"),
        (lambda: nn.utils.activity_regularizer(nn.ReLU(), l1=-1), ValueError, "l1"),
        (lambda: nn.utils.activity_regularizer("relu"), TypeError, "module"),
    ):
        with pytest.raises(error, match=match):
            call()
    assert repr(nn.ActivityRegularization(0.1)) == "ActivityRegularization(l1=0.1, l2=0)"

    class Pair(nn.Module):
        def forward(self, x):
            return x, x

    model = Pair().train()
    nn.utils.activity_regularizer(model, 1.0)
    with pytest.raises(TypeError, match="an activity penalty is on one tensor"):
        model(X)
