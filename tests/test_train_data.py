"""What a trainer trains on: iterables of batches, inputs by name, whole batches alone, several batches an update."""

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn, optim
from fastnn.data import DataLoader
from fastnn.train import callbacks
from fastnn.train.checkpoint import read_checkpoint

from interrupts import Interrupted, distinct, run

X, Y = fn.data.moons(40, seed=0)


def make(seed=0, lr=0.1, **settings):
    fn.manual_seed(seed)
    model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 2))
    return fn.Trainer(model, nn.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=lr), **settings)


def trained(data, validation=None, *, settings=None, **given):
    """A trainer that has trained: each begins with the same random numbers."""
    trainer = make(**(settings or {}))
    trainer.fit(data, validation, verbose=False, **given)
    return trainer


def bits(trainer):
    states = [a for group in trainer.optimizer.state_dict()["state"] for a in group.values()]
    return b"".join(a.tobytes() for a in (*trainer.model.state_dict().values(), *states))


# ---- iterables of batches ----------------------------------------------------------------------


class Batches:
    """The batches of a loader, without its length and its indices: other ones in each epoch."""

    def __init__(self):
        self.loader = DataLoader((X, Y), 8, shuffle=True, seed=3)

    def __iter__(self):
        yield from self.loader


class Tensors:
    """What can be read as arrays, in lists, as PyTorch's loader gives it."""

    def __iter__(self):
        for i in range(0, 40, 8):
            yield [memoryview(X[i : i + 8]), Y[i : i + 8].tolist()]


def batches_of_arrays():
    return ((X[i : i + 8], Y[i : i + 8]) for i in range(0, 40, 8))


def test_an_iterable_of_batches_is_trained_on_as_a_loader():
    loaded = trained(DataLoader((X, Y), 8, shuffle=True, seed=3), (X, Y), epochs=3)
    streamed = trained(Batches(), Tensors(), epochs=3)
    assert bits(loaded) == bits(streamed)
    a, b = loaded.history.history, streamed.history.history
    assert a["loss"] == b["loss"]
    assert a["val_loss"] == pytest.approx(b["val_loss"], rel=1e-6)
    assert streamed.batches == 5
    listed = trained(list(batches_of_arrays()), epochs=3)
    assert listed.batches == 5 and bits(listed) == bits(trained((X, Y), epochs=3, batch_size=8, shuffle=False))


def test_a_generator_gives_one_epoch_and_with_steps_as_many_as_it_has():
    def batches():
        yield from ((X[i : i + 8], Y[i : i + 8]) for i in range(0, 40, 8))

    one = trained(batches())
    assert bits(one) == bits(trained((X, Y), batch_size=8, shuffle=False))
    steps = trained(batches(), epochs=2, steps_per_epoch=2)
    assert steps.history.epoch == [0, 1] and steps.step == 4
    with pytest.raises(ValueError, match="data: the generator has no more batches: a generator gives its batches once"):
        one.fit(batches(), epochs=2, verbose=False)
    with pytest.raises(ValueError, match="no more batches: it gave 5 batches, and steps_per_epoch=4 asks for more"):
        steps.fit(batches(), epochs=2, steps_per_epoch=4, verbose=False)


def test_epochs_of_so_many_steps_begin_an_iterable_anew_where_it_ends():
    assert bits(trained(Tensors(), epochs=5, steps_per_epoch=3)) == bits(trained(Tensors(), epochs=3))


@pytest.mark.parametrize(
    ("batches", "error", "match"),
    [
        ([], ValueError, "has no batch"),
        ([(X, Y), X[0]], ValueError, r"expected batches \(x, y\), inputs and a target, got"),
        ([(X,)], ValueError, r"got 1 array\(s\)"),
        ([(X, {"y": Y})], ValueError, r"expected batches \(x, y\)"),
        ([(X, Y[:3])], ValueError, "target"),
        ([({1: X}, Y)], ValueError, "1 is no name"),
        ([(object(), Y)], TypeError, r"data\[0\]: expected an array, got object"),
    ],
)
def test_batches_that_are_none_are_refused(batches, error, match):
    with pytest.raises(error, match=match):
        make().fit(iter(batches), verbose=False)


@pytest.mark.parametrize("name", ["batch_size", "shuffle", "seed", "drop_last", "sample_weight", "validation_split"])
def test_settings_that_an_iterable_brings_itself_are_refused(name):
    values = {"shuffle": True, "drop_last": True, "sample_weight": np.ones(40), "validation_split": 0.5}
    with pytest.raises(ValueError, match=f"{name}: the iterable brings its own"):
        make().fit(Tensors(), verbose=False, **{name: values.get(name, 1)})


def test_balanced_classes_of_an_iterable_are_refused_and_named_ones_weigh():
    with pytest.raises(ValueError, match="counts all targets first"):
        make().fit(Tensors(), class_weight="balanced", verbose=False)
    weights = np.where(Y == 0, 3.0, 1.0)
    plain = trained((X, Y), batch_size=8, shuffle=False, sample_weight=weights)
    assert bits(trained(Tensors(), class_weight={0: 3.0})) == bits(plain)


# ---- inputs by name ----------------------------------------------------------------------------


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x=None, *, offset, mask=None):
        y = self.b(offset)
        if x is not None:
            y = y + self.a(x)
        return y if mask is None else y * mask


def masked():
    fn.manual_seed(0)
    model = Masked()
    return fn.Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.3))


MASK = np.random.default_rng(0).integers(0, 2, (40, 2)).astype(np.float32)


def test_arrays_of_a_dict_go_to_the_models_arguments_of_these_names():
    trainer, twin = masked(), masked()
    data = (X, {"mask": MASK, "offset": X[::-1].copy()}, Y)
    history = trainer.fit(data, data, epochs=2, batch_size=16, seed=1, verbose=False)
    step = fn.TrainStep(twin.model, twin.loss, twin.optimizer)
    loader = DataLoader((X, MASK, X[::-1], Y), 16, shuffle=True, seed=1)
    for _ in range(2):
        for x, m, o, y in loader:
            step(x, y, mask=m, offset=o)
    assert bits(trainer) == bits(twin)
    assert history.history["val_loss"][-1] == trainer.evaluate(data)["loss"]
    output = trainer.predict((X, {"mask": MASK, "offset": X[::-1].copy()}), batch_size=7)
    np.testing.assert_allclose(output, trainer.model(X, mask=MASK, offset=X[::-1].copy()), rtol=1e-5, atol=1e-6)


def test_a_model_may_have_inputs_by_name_alone():
    trainer, other = masked(), masked()
    trainer.fit(({"offset": X}, Y), epochs=9, batch_size=16, seed=1, verbose=False)
    other.fit([{"offset": X}, Y], epochs=9, batch_size=16, seed=1, verbose=False, sample_weight=np.ones(40))
    np.testing.assert_allclose(trainer.model.b.weight.data, other.model.b.weight.data, rtol=1e-5)
    assert trainer.evaluate(({"offset": X}, Y))["accuracy"] > 0.5
    assert trainer.predict({"offset": X}).shape == (40, 2)
    streamed = masked()
    streamed.fit(iter([({"offset": X}, Y)]), verbose=False)
    assert streamed.step == 1


@pytest.mark.parametrize(
    ("data", "error", "match"),
    [
        (({"offset": X[:3]}, Y), ValueError, "equal lengths"),
        ((X, {"offset": X}), ValueError, r"expected inputs and a target"),
        (({"sample_weight": X}, Y), ValueError, "no name of one of the model's inputs"),
        (({"offset": X}, {"offset": X}, Y), ValueError, "no name of one"),
        (({"other": X}, Y), TypeError, "other"),
    ],
)
def test_names_that_do_not_fit_are_refused(data, error, match):
    with pytest.raises(error, match=match):
        masked().fit(data, verbose=False)


def test_a_loss_that_is_not_finite_is_diagnosed_with_inputs_by_name_and_weights():
    trainer = masked()
    bad = X.copy()
    bad[:] = np.nan
    with pytest.raises(FloatingPointError, match=r"offset is not finite, first in sample 0"):
        trainer.fit(({"offset": bad}, Y), sample_weight=np.ones(40), verbose=False)


# ---- whole batches alone -----------------------------------------------------------------------


def test_the_last_batch_is_dropped_if_it_is_smaller():
    trainer = make()
    trainer.fit((X, Y), batch_size=16, drop_last=True, verbose=False)
    assert trainer.step == trainer.batches == 2
    with pytest.raises(TypeError, match="drop_last"):
        trainer.fit((X, Y), drop_last=3, verbose=False)


# ---- several batches an update -----------------------------------------------------------------


def test_an_update_of_several_batches_is_that_of_the_step():
    trainer = trained((X, Y), epochs=2, batch_size=8, shuffle=False, settings={"accumulate": 3})
    assert (trainer.step, trainer.gathered) == (3, 1)
    twin = make()
    step = fn.TrainStep(twin.model, twin.loss, twin.optimizer, accumulate=3)
    twin.model.train()
    for i in [*range(0, 40, 8)] * 2:
        step(X[i : i + 8], Y[i : i + 8])
    assert bits(trainer) == bits(twin)


def test_a_schedule_by_steps_goes_on_at_updates():
    trainer = make(accumulate=2, lr=1.0)
    rates = []
    schedule = optim.lr_scheduler.ExponentialLR(trainer.optimizer, gamma=0.5)
    watch = callbacks.LambdaCallback(on_batch_end=lambda *_: rates.append(trainer.optimizer.lr))
    chain = [callbacks.Scheduler(schedule, every="step"), watch]
    trainer.fit((X, Y), batch_size=8, callbacks=chain, verbose=False)
    assert rates == [1.0, 0.5, 0.5, 0.25, 0.25]


def test_gradients_of_another_number_of_batches_are_refused(tmp_path):
    first = make(accumulate=3)
    first.fit((X, Y), batch_size=8, verbose=False)
    first.save_checkpoint(tmp_path / "c")
    second = make(accumulate=4)
    with pytest.raises(ValueError, match="c does not fit: gathered: gradients of 2 batches wait for an update of 3"):
        second.fit((X, Y), batch_size=8, epochs=2, resume=tmp_path / "c", verbose=False)


# ---- stopped and resumed -----------------------------------------------------------------------

STEPS = {"epochs": 3, "steps_per_epoch": 4}
KINDS = {
    "an update of three batches": (dict(accumulate=3), lambda: (X, Y), dict(epochs=3, batch_size=8, seed=1)),
    "weights": (
        {},
        lambda: (X, Y),
        dict(
            epochs=3, batch_size=8, sample_weight=np.linspace(0, 2, 40), class_weight="balanced", validation_split=0.2
        ),
    ),
    "an iterable": ({}, Tensors, dict(epochs=3)),
    "an iterable by steps": (dict(accumulate=2), Tensors, STEPS),
    "a generator by steps": ({}, lambda: iter(list(Tensors()) * 3), STEPS),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_fit_that_is_interrupted_anywhere_resumes_to_the_whole_run(tmp_path, kind):
    settings, data, given = KINDS[kind]

    def begin(seed=0):
        trainer = make(seed, **settings)
        return trainer, lambda **more: trainer.fit(data(), verbose=False, **given, **more)

    def outcome(trainer):
        trainer.save_checkpoint(tmp_path / "end")
        content, arrays = read_checkpoint(tmp_path / "end")
        content["history"].pop("samples_per_second")
        return content, {name: array.tobytes() for name, array in arrays.items()}

    trainer, fit = begin()
    fit()
    whole = outcome(trainer)
    numbers, _ = distinct(begin()[1], 2, 10)
    interrupted = 0
    for at in numbers[::3]:
        trainer, fit = begin()
        try:
            run(fit, at)
        except Interrupted:
            interrupted += 1
        trainer.save_checkpoint(tmp_path / "stopped")
        second, fit = begin(5)
        fit(resume=tmp_path / "stopped")
        assert outcome(second) == whole, f"after an interrupt at bytecode {at}"
    assert interrupted > 2
