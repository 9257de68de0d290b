"""The learning-rate range test: its curve, and that nothing is changed by it."""

import contextlib

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn, optim
from fastnn.data import DataLoader
from fastnn.train import lr_range_test
from fastnn.train.range_test import RangeTest

from interrupts import Interrupted, places, run
from optimizers import KINDS, make

X, Y = fn.data.moons(60, seed=0)


def network():
    fn.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 2)).eval()


def trained(kind=None):
    """In the middle of a training: with states, gradients, running statistics."""
    model = network()
    opt = optim.Adam(model.parameters(), lr=0.02) if kind is None else make(kind, model.parameters())
    trainer = fn.Trainer(model, nn.CrossEntropyLoss(), opt)
    trainer.fit((X, Y), batch_size=16, verbose=False)
    model[0].bias.grad = None
    return trainer


def snapshot(trainer):
    model, opt = trainer.model, trainer.optimizer
    saved = opt.state_dict()
    return (
        {name: a.tobytes() for name, a in model.state_dict().items()},
        [None if p.grad is None else p.grad.tobytes() for p in model.parameters()],
        [module.training for module in model.modules()],
        saved["groups"],
        [{name: a.tobytes() for name, a in states.items()} for states in saved["state"]],
        fn.get_rng_state(),
        trainer.step,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_model_and_optimizer_are_as_they_were(kind):
    trainer = trained(kind)
    before = snapshot(trainer)
    lr_range_test(trainer, (X, Y), max_lr=100.0, num_training=30)
    assert snapshot(trainer) == before
    trainer.fit((X, Y), epochs=2, batch_size=16, verbose=False)
    after = snapshot(trainer)
    twin = trained(kind)
    twin.fit((X, Y), epochs=2, batch_size=16, verbose=False)
    assert snapshot(twin) == after


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_wherever_ctrl_c_strikes_all_is_as_it_was():
    trainer, loader = trained(), DataLoader((X, Y), 16, shuffle=True, seed=1, prefetch=0)

    def call():
        lr_range_test(trainer, loader, max_lr=1.0, num_training=4)

    call()
    before = snapshot(trainer)
    for at in places(call, 40):
        with contextlib.suppress(Interrupted):  # one that strikes as a generator goes is heard of no more
            run(call, at)
        assert snapshot(trainer) == before, at


def test_the_curve_is_that_of_steps_by_hand():
    trainer = trained()
    before = {name: a.copy() for name, a in trainer.model.state_dict().items()}
    state = trainer.optimizer.state_dict()
    loader = DataLoader((X, Y), 16, shuffle=True, seed=3)
    random = fn.get_rng_state()
    found = lr_range_test(trainer, loader, 1e-3, 1.0, num_training=7, early_stop_threshold=None)
    assert (loader.epoch, loader.state_dict()["batch"]) == (0, 0)
    np.testing.assert_allclose(found.lr, np.geomspace(1e-3, 1, 7))

    assert all((before[name] == a).all() for name, a in trainer.model.state_dict().items())
    fn.set_rng_state(random)
    step = fn.TrainStep(trainer.model.train(), trainer.loss, trainer.optimizer)
    losses = []
    for rate, batch in zip(found.lr, [*loader, *loader], strict=False):
        trainer.optimizer.lr = float(rate)
        losses.append(step(*batch))
    np.testing.assert_array_equal(found.loss, losses)
    weights = [0.98 ** (6 - i) for i in range(7)]
    assert found.smoothed[-1] == pytest.approx(np.average(losses, weights=weights))
    trainer.optimizer.load_state_dict(state)


def test_a_step_is_tested_in_the_mode_of_its_model():
    model = network()  # in evaluation mode: without dropout
    step = fn.TrainStep(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
    a, b = (lr_range_test(step, (X, Y), num_training=5, batch_size=60, seed=1) for _ in range(2))
    np.testing.assert_array_equal(a.loss, b.loss)
    assert a.loss[0] == pytest.approx(nn.CrossEntropyLoss()(model(X), Y), rel=1e-6)


def test_the_test_ends_where_the_loss_explodes():
    trainer = trained()
    found = lr_range_test(trainer, (X, Y), 1e-3, 1e12, num_training=200, seed=0)
    assert len(found.lr) == len(found.loss) < 200
    assert found.smoothed[-1] > 4 * found.smoothed.min() or not np.isfinite(found.loss[-1])
    nan = X.copy()
    nan[:] = np.nan
    found = lr_range_test(trainer, (nan, Y), num_training=20)
    assert len(found.lr) == 1 and found.suggestion() is None


def test_rates_rise_by_a_factor_or_by_steps():
    found = lr_range_test(trained(), (X, Y), 0.0, 0.01, num_training=6, mode="linear")
    np.testing.assert_allclose(found.lr, np.linspace(0, 0.01, 6))


def test_the_suggestion_is_where_the_loss_falls_most_steeply():
    rates = np.geomspace(1e-4, 1, 41)
    curve = 2 - np.tanh(4 * (np.log10(rates) + 2))
    found = RangeTest(rates, curve, curve)
    assert found.suggestion() == pytest.approx(1e-2)
    assert found.suggestion(skip_begin=25) > 0.01
    assert found.suggestion(skip_begin=40) is None


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        (dict(min_lr=1.0, max_lr=0.1), ValueError, "min_lr must be above 0 and below max_lr"),
        (dict(min_lr=0.0), ValueError, "min_lr"),
        (dict(num_training=1), ValueError, "num_training"),
        (dict(mode="cubic"), ValueError, "mode"),
        (dict(early_stop_threshold=0.5), ValueError, "early_stop_threshold"),
        (dict(data=DataLoader((X, Y), 8), batch_size=4), ValueError, "batch_size"),
        (dict(data=(X, Y[:3])), ValueError, "equal lengths"),
    ],
)
def test_what_does_not_fit_is_refused(given, error, match):
    trainer = trained()
    before = snapshot(trainer)
    with pytest.raises(error, match=match):
        lr_range_test(trainer, given.pop("data", (X, Y)), **given)
    assert snapshot(trainer) == before


def test_what_is_no_trainer_is_refused():
    with pytest.raises(TypeError, match="trainer must be a Trainer or a TrainStep, got Sequential"):
        lr_range_test(network(), (X, Y))


def test_a_picture_of_the_curve(tmp_path):
    pytest.importorskip("matplotlib").use("Agg")
    from fastnn.plotting import plot_range_test

    found = lr_range_test(trained(), (X, Y), 1e-4, 1.0, num_training=30, seed=0)
    figure = plot_range_test(found)
    lines = figure.axes[0].get_lines()
    np.testing.assert_array_equal(lines[0].get_ydata(), found.loss)
    np.testing.assert_array_equal(lines[1].get_ydata(), found.smoothed)
    assert lines[2].get_xdata() == [found.suggestion()] and figure.axes[0].get_xscale() == "log"
    with pytest.raises(TypeError, match="result"):
        plot_range_test([1, 2])
