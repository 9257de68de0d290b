"""fit: wherever Ctrl-C strikes, the checkpoint that is then written resumes to what the whole run is.

Ctrl-C comes between any two bytecodes of fastnn: see interrupts.py.
"""

import contextlib
import csv
import os
import signal
import time

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn, optim
from fastnn.data import DataLoader
from fastnn.train import callbacks
from fastnn.train.checkpoint import read_checkpoint

from interrupts import Interrupted, distinct, places, run

X, Y = fn.data.moons(20, seed=0)
XV, YV = fn.data.moons(12, seed=1)
EPOCHS = 3


class Noisy(nn.Module):
    """Draws random numbers in evaluation, too."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)
        self.dropout = nn.Dropout(0.3)

    def forward(self, x):
        hidden = self.dropout(self.norm(self.first(x)))
        return self.last(hidden) + 0.1 * fn.random.normal(x.shape)


class MomentumOnPlateau(callbacks.Callback):
    """Lowers a setting of the optimizer after epochs that bring little."""

    def on_train_begin(self):
        self.best = np.inf

    def on_epoch_end(self, epoch, logs):
        if logs["val_loss"] > self.best - 0.05:
            for group in self.trainer.optimizer.param_groups:
                group["momentum"] *= 0.5
        self.best = min(self.best, logs["val_loss"])

    def state_dict(self):
        return {"best": self.best}

    def load_state_dict(self, state):
        self.best = state["best"]


class Average(callbacks.Callback):
    """Follows the weights batch by batch, and writes to its array in place."""

    def on_train_begin(self):
        self.batches, self.average = 0, np.zeros((4, 2))

    def on_batch_end(self, batch, logs):
        weight = self.trainer.model.first.weight.data
        self.batches += 1
        self.average *= 0.9
        self.average += 0.1 * logs["loss"] * weight

    def on_epoch_end(self, epoch, logs):
        self.average += logs["val_loss"] + logs.get("extra", 0)
        logs["average"] = float(self.average.sum())

    def state_dict(self):
        return {"batches": self.batches, "average": self.average}

    def load_state_dict(self, state):
        self.batches, self.average = state["batches"], state["average"].copy()


class Run:
    """A training with all that it writes, in a folder."""

    def __init__(self, folder, seed=0, kind="loader", extra=()):
        folder.mkdir(exist_ok=True)
        fn.manual_seed(seed)
        self.kind = kind
        model = Noisy()
        groups = [{"params": list(model.first.parameters())}, {"params": list(model.last.parameters())}]
        self.trainer = fn.Trainer(model, nn.CrossEntropyLoss(), optim.SGD(groups, lr=0.1, momentum=0.9))
        self.folder = folder
        self.chain = [
            *extra,
            Average(),
            MomentumOnPlateau(),
            callbacks.LearningRateScheduler(lambda epoch: 0.1 / (1 + epoch)),
            callbacks.EarlyStopping(patience=9, restore_best=True),
            callbacks.ModelCheckpoint(folder / "last"),
            callbacks.ModelCheckpoint(folder / "best", best_only=True),
            callbacks.CSVLogger(folder / "log.csv"),
            callbacks.Averaging(0.9, start=1, every=2),
            callbacks.Snapshots(cycle=1, last=2),
        ]
        if kind == "arrays":  # their order is drawn; a thread makes the batches
            self.data, self.settings = (X, Y), {"batch_size": 8}
            self.validation = XV, YV
        else:
            self.data, self.settings = DataLoader((X, Y), 8, shuffle=True, seed=5, prefetch=0, augment=shifted), {}
            self.validation = DataLoader((XV, YV), 5, shuffle=True, seed=6, prefetch=0, augment=shifted)
        self.modes = [i % 2 == 0 for i, _ in enumerate(model.modules())]
        self.set_modes()

    def set_modes(self):
        for module, training in zip(self.trainer.model.modules(), self.modes, strict=True):
            module.training = training

    def warm(self):
        """Make all programs, so that what is interrupted is the training and not a trace; in an empty folder."""
        for file in self.folder.iterdir():
            file.unlink()
        random = fn.get_rng_state()
        self.trainer.model.train()
        for size in (8, 4):
            self.trainer._train_step.plan(X[:size], Y[:size])
        for size in (12, 5, 2):
            self.trainer.evaluate((XV[:size], YV[:size]))
        self.set_modes()
        fn.set_rng_state(random)
        return self

    def fit(self, **arguments):
        given = {**self.settings, "epochs": EPOCHS, **arguments}
        self.trainer.fit(self.data, self.validation, callbacks=self.chain, verbose=False, **given)
        return self

    def outcome(self):
        """All that two equal runs have in common."""
        trainer = self.trainer
        with open(self.folder / "log.csv", newline="") as file:
            # What callbacks add to the logs is not in the history, of which a resumed run makes the file anew.
            rows = [without(row, "samples_per_second", "average", "extra") for row in csv.DictReader(file)]
        found = {
            "weights": as_bytes(trainer.model.state_dict()),
            "optimizer": [as_bytes(states) for states in trainer.optimizer.state_dict()["state"]],
            "settings": trainer.optimizer.settings(),
            "random": fn.get_rng_state(),
            "loader": trainer._loader.state_dict(),
            "history": (trainer.history.epoch, without(trainer.history.history, "samples_per_second")),
            "place": (trainer.epoch, trainer.step, trainer.batch, trainer.stop_training),
            "csv": rows,
        }
        for i, callback in enumerate(self.chain):
            found[f"{type(callback).__name__} {i}"] = as_bytes(callback.state_dict())
        for name in ("last", "best"):
            content, arrays = read_checkpoint(self.folder / name)
            content["history"] = without(content["history"], "samples_per_second")
            if content["extra"].get("ending"):
                content["extra"]["ending"] = without(content["extra"]["ending"], "logs", "seconds")
            found[name] = (content, as_bytes(arrays))
        return found


def shifted(batch, generator):
    return batch[0] + generator.normal(size=batch[0].shape).astype(np.float32), batch[1]


def without(table, *names):
    return {name: value for name, value in table.items() if name not in names}


def as_bytes(state):
    return {name: value.tobytes() if isinstance(value, np.ndarray) else value for name, value in state.items()}


def differences(found, expected):
    assert found.keys() == expected.keys()
    return [name for name in expected if found[name] != expected[name]]


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    """A test writes thousands of checkpoints, and none has to outlive a power failure."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr("fastnn.files.sync_folder", lambda _: None)


# ---- at every bytecode ---------------------------------------------------------------------------

KINDS = pytest.mark.parametrize("kind", ["arrays", "loader"])
SOME_AND_ALL = pytest.mark.parametrize(
    ("each", "most"), [pytest.param(4, 40, id="some"), pytest.param(3, None, id="all", marks=pytest.mark.slow)]
)


def interrupted_at(numbers, tmp_path, begin, whole, **arguments):
    """Interrupts a fit at each of the bytecodes, and resumes it in another trainer."""
    missed = []
    for at in numbers:
        first = begin()
        try:
            run(lambda: first.fit(**arguments), at)  # noqa: B023  (called at once)
            missed.append(at)
        except Interrupted:
            pass
        assert [module.training for module in first.trainer.model.modules()] == first.modes, at
        assert not first.trainer._running, at  # else a checkpoint leaves out what the last step left
        first.trainer.save_checkpoint(tmp_path / "stopped")
        second = Run(first.folder, 77, first.kind).fit(resume=tmp_path / "stopped")
        assert not differences(second.outcome(), whole), f"after an interrupt at bytecode {at}"
    # With a thread that makes batches, some runs end a few bytecodes sooner than others.
    assert all(at > max(numbers) - 60 for at in missed)


@KINDS
@SOME_AND_ALL
def test_a_fit_that_is_interrupted_anywhere_resumes_to_the_whole_run(tmp_path, kind, each, most):
    def begin():
        return Run(tmp_path / "run", 0, kind).warm()

    whole = Run(tmp_path / "whole", 0, kind).fit().outcome()
    assert not differences(begin().fit().outcome(), whole)
    numbers, _ = distinct(begin().fit, each, most)
    interrupted_at(numbers, tmp_path, begin, whole)


@pytest.mark.parametrize("most", [6, pytest.param(300, marks=pytest.mark.slow)])
def test_a_fit_that_is_interrupted_while_it_plans_resumes_to_the_whole_run(tmp_path, most):
    def begin():
        return Run(tmp_path / "run")

    whole = Run(tmp_path / "whole").fit().outcome()
    total = run(begin().fit)
    interrupted_at(range(0, total, total // most), tmp_path, begin, whole)


def stopped_at(step, tmp_path, extra=()):
    """The checkpoint of a run that Ctrl-C ends after an update."""

    first = Run(tmp_path / "run", extra=extra)
    average = first.chain[len(extra)]

    def halts(batch, logs):
        if first.trainer.step == step:
            raise Interrupted
        Average.on_batch_end(average, batch, logs)

    average.on_batch_end = halts
    with pytest.raises(Interrupted):
        first.fit()
    first.trainer.save_checkpoint(tmp_path / "stopped")
    return tmp_path / "stopped"


@pytest.mark.parametrize(
    ("each", "most"), [pytest.param(4, 15, id="some"), pytest.param(3, None, id="all", marks=pytest.mark.slow)]
)
def test_a_resumed_fit_that_is_interrupted_anywhere_resumes_to_the_whole_run(tmp_path, each, most):
    def begin():
        return Run(tmp_path / "run", 7).warm()

    whole = Run(tmp_path / "whole").fit().outcome()
    halfway = stopped_at(4, tmp_path).replace(tmp_path / "halfway")
    counted = begin()
    numbers, _ = distinct(lambda: counted.fit(resume=halfway), each, most)
    # Before it has seen the name of the checkpoint, a trainer can only save what it is itself.
    numbers = [at for at in numbers if at >= 10]
    interrupted_at(numbers, tmp_path, begin, whole, resume=halfway)


@pytest.mark.parametrize("most", [10, pytest.param(2000, marks=pytest.mark.slow)])
def test_a_checkpoint_that_a_signal_handler_writes_changes_nothing(tmp_path, most):
    def begin():
        return Run(tmp_path / "run").warm()

    whole = begin().fit().outcome()
    numbers, _ = distinct(begin().fit, 2, most)
    for at in numbers:
        first = begin()
        run(first.fit, at, lambda: first.trainer.save_checkpoint(tmp_path / "now"))  # noqa: B023  (called at once)
        assert not differences(first.outcome(), whole), at
        read_checkpoint(tmp_path / "now")


@pytest.mark.parametrize("most", [100, pytest.param(10**9, marks=pytest.mark.slow)])
@pytest.mark.parametrize("what", ["evaluate", "predict"])
def test_an_interrupted_evaluation_or_prediction_leaves_all_modes(tmp_path, what, most):
    subject = Run(tmp_path)
    call = {
        "evaluate": lambda: subject.trainer.evaluate((XV, YV), 5),
        "predict": lambda: subject.trainer.predict(XV, 5),
    }[what]
    call()
    for at in places(call, most):
        # With a thread that makes batches, some calls end a few bytecodes sooner than others.
        with contextlib.suppress(Interrupted):
            run(call, at)
        assert [module.training for module in subject.trainer.model.modules()] == subject.modes, at


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers that send signals")
def test_the_loss_of_an_update_that_a_signal_strikes_is_counted():
    """A step is mostly its update here, which a signal lets end: it is made, and what was to follow is not done."""
    fn.manual_seed(0)
    model = nn.Linear(1500, 1500)
    trainer = fn.Trainer(model, nn.MSELoss(), optim.Adam(model.parameters()), metrics=[])
    ones = np.ones((64, 1500), np.float32)
    started = time.perf_counter()
    trainer.fit(DataLoader((ones, ones), 1, prefetch=0), verbose=False)
    step = (time.perf_counter() - started) / 64

    def strike(*_):
        raise Interrupted

    before = signal.signal(signal.SIGALRM, strike)
    generator, batches = np.random.default_rng(0), []
    try:
        for _ in range(15):
            signal.setitimer(signal.ITIMER_REAL, step * generator.uniform(2, 8))
            with pytest.raises(Interrupted):
                trainer.fit(DataLoader((ones, ones), 1, prefetch=0), epochs=10**6, verbose=False)
            assert trainer._counted().samples == trainer.batch
            batches.append(trainer.batch)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert max(batches) > 1


# ---- callbacks -----------------------------------------------------------------------------------


class Midway(callbacks.Callback):
    """Changes all that it can reach, and is left by an exception before it is done."""

    def __init__(self, error=None):
        self.error, self.calls, self.values = error, 0, np.zeros(3)

    def on_epoch_end(self, epoch, logs):
        groups = self.trainer.optimizer.param_groups
        self.calls += 1
        self.values += logs["val_loss"]
        logs["extra"] = logs.get("extra", 0) + 1
        groups[0]["dampening"] += 0.1
        self.trainer.history.history.setdefault("own", []).append(float(self.values.sum()))
        self.trainer.evaluate((XV, YV))  # draws random numbers
        if epoch == 1 and self.error is not None:
            raise self.error
        groups[1]["dampening"] += 0.2
        self.values *= 2

    def state_dict(self):
        return {"calls": self.calls, "values": self.values}

    def load_state_dict(self, state):
        self.calls, self.values = state["calls"], state["values"].copy()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_callback_that_an_exception_leaves_is_called_again_with_all_as_before(tmp_path, error):
    whole = Run(tmp_path / "whole", extra=[Midway()]).fit().outcome()
    first = Run(tmp_path / "run", extra=[Midway(error("midway"))])
    with pytest.raises(error, match="midway"):
        first.fit()
    # What the trainer has is put back at once: who changes it now finds it in the checkpoint.
    assert [group["dampening"] for group in first.trainer.optimizer.param_groups] == [0.1, 0.2]
    first.trainer.save_checkpoint(tmp_path / "stopped")
    second = Run(tmp_path / "run", 77, extra=[Midway()]).fit(resume=tmp_path / "stopped")
    assert not differences(second.outcome(), whole)


@pytest.mark.parametrize("every", [60, pytest.param(1, marks=pytest.mark.slow)])
def test_a_second_ctrl_c_while_the_first_is_answered_loses_nothing(tmp_path, every):
    def begin():
        return Run(tmp_path / "run", extra=[Midway(KeyboardInterrupt())]).warm()

    def ends(fit):
        with pytest.raises(KeyboardInterrupt):
            fit()

    whole = Run(tmp_path / "whole", extra=[Midway()]).fit().outcome()
    first = begin()
    total = run(lambda: ends(first.fit))
    for at in range(total - 800, total, every):
        first = begin()
        run(lambda: ends(first.fit), at)  # noqa: B023  (called at once)
        assert [module.training for module in first.trainer.model.modules()] == first.modes, at
        assert not first.trainer._running, at  # else a checkpoint leaves out what the last step left
        first.trainer.save_checkpoint(tmp_path / "stopped")
        second = Run(tmp_path / "run", 77, extra=[Midway()]).fit(resume=tmp_path / "stopped")
        assert not differences(second.outcome(), whole), at


class Refuses(callbacks.Callback):
    def on_epoch_end(self, epoch, logs):
        raise Interrupted


class Unreadable:
    """Data that Ctrl-C strikes when they are read."""

    def __len__(self):
        return len(X)

    def __getitem__(self, index):
        raise Interrupted


@pytest.mark.parametrize("where", ["validation", "epoch's end"])
def test_what_is_changed_after_ctrl_c_is_in_the_checkpoint(tmp_path, where):
    first = Run(tmp_path / "run", extra=[Refuses()] if where == "epoch's end" else [])
    if where == "validation":
        first.validation = DataLoader(Unreadable(), 4, prefetch=0)
    with pytest.raises(Interrupted):
        first.fit()
    first.trainer.optimizer.param_groups[1]["weight_decay"] = 0.25
    fn.manual_seed(123)
    random = fn.get_rng_state()
    for name in ("a", "b"):
        first.trainer.save_checkpoint(tmp_path / name)
        content = read_checkpoint(tmp_path / name)[0]
        assert content["optimizer"]["groups"][1]["weight_decay"] == 0.25
        assert content["random"] == random


class Hearing(callbacks.Callback):
    """Remembers what it heard, and raises once."""

    def __init__(self, deaf_at=None):
        self.deaf_at, self.heard = deaf_at, []

    def hear(self, what):
        if what == self.deaf_at:
            raise Interrupted
        self.heard.append(what)

    def on_batch_end(self, batch, logs):
        self.hear(f"batch {self.trainer.epoch} {batch} {logs['loss']}")

    def on_epoch_end(self, epoch, logs):
        self.hear(f"epoch {epoch} {logs['loss']}")

    def state_dict(self):
        return {"heard": list(self.heard)}

    def load_state_dict(self, state):
        self.heard = state["heard"]


@pytest.mark.parametrize("number", [0, 3, 7, 11])
def test_each_callback_hears_of_each_batch_and_epoch_once(tmp_path, number):
    whole = Run(tmp_path / "whole", extra=[Hearing(), Hearing(), Hearing()]).fit()
    story = whole.chain[0].heard
    assert len(story) == 12 == len(set(story))
    first = Run(tmp_path / "run", extra=[Hearing(), Hearing(story[number]), Hearing()])
    with pytest.raises(Interrupted):
        first.fit()
    assert [len(callback.heard) for callback in first.chain[:3]] == [number + 1, number, number]
    first.trainer.save_checkpoint(tmp_path / "stopped")
    second = Run(tmp_path / "run", 77, extra=[Hearing(), Hearing(), Hearing()]).fit(resume=tmp_path / "stopped")
    assert not differences(second.outcome(), whole.outcome())


def test_of_two_checkpoints_the_first_remembers_that_the_second_is_due(tmp_path):
    whole = Run(tmp_path / "whole").fit().outcome()
    first = Run(tmp_path / "run")
    best = first.chain[5]

    def killed(epoch, logs):
        if epoch == 1:
            raise Interrupted
        callbacks.ModelCheckpoint.on_epoch_end(best, epoch, logs)

    best.on_epoch_end = killed
    with pytest.raises(Interrupted):
        first.fit()
    # Nothing else is saved, as if the process had been killed.
    second = Run(tmp_path / "run", 77).fit(resume=tmp_path / "run" / "last")
    assert not differences(second.outcome(), whole)


class Unloadable(callbacks.Callback):
    def state_dict(self):
        return {"version": 1}

    def load_state_dict(self, state):
        raise KeyError("a state of another version")


def test_a_callback_that_cannot_load_its_state_refuses_the_checkpoint_before_anything_changes(tmp_path):
    Run(tmp_path / "a", extra=[Unloadable()]).fit(epochs=1)
    subject = Run(tmp_path / "b", 77, extra=[Unloadable()])
    trainer = subject.trainer

    def state():
        saved = trainer.optimizer.state_dict()
        states = [as_bytes(states) for states in saved["state"]]
        return as_bytes(trainer.model.state_dict()), states, saved["groups"], fn.get_rng_state(), trainer.epoch

    before = state()
    with pytest.raises(ValueError, match=r"last does not fit: callbacks\['Unloadable.1'\]: .*another version"):
        subject.fit(resume=tmp_path / "a" / "last")
    assert state() == before


class StopsFor(callbacks.Callback):
    """Ends training for good after the epoch of an update."""

    def __init__(self, step):
        self.step, self.due = step, False

    def on_batch_end(self, batch, logs):
        if self.trainer.step == self.step:
            self.due = self.trainer.stop_training = True

    def state_dict(self):
        return {"due": self.due}

    def load_state_dict(self, state):
        self.due = self.trainer.stop_training = state["due"]


def test_a_training_that_is_to_end_after_its_epoch_ends_there_when_it_is_resumed(tmp_path):
    whole = Run(tmp_path / "whole", extra=[StopsFor(4)]).fit()
    assert whole.trainer.epoch == 2
    stopped = stopped_at(5, tmp_path, [StopsFor(4)])
    second = Run(tmp_path / "run", 77, extra=[StopsFor(4)]).fit(resume=stopped)
    assert not differences(second.outcome(), whole.outcome())


# ---- before the first batch ----------------------------------------------------------------------


def test_a_training_that_has_not_begun_begins_with_the_random_numbers_of_its_checkpoint(tmp_path):
    whole = Run(tmp_path / "whole", kind="arrays").fit().outcome()
    Run(tmp_path / "run", kind="arrays").trainer.save_checkpoint(tmp_path / "begun")
    second = Run(tmp_path / "run", 77, "arrays").fit(resume=tmp_path / "begun")
    assert not differences(second.outcome(), whole)


def test_a_checkpoint_of_another_loop_without_a_loader_is_refused(tmp_path):
    first = Run(tmp_path / "run").fit(epochs=1).trainer
    fn.save_checkpoint(tmp_path / "c", first.model, first.optimizer, epoch=1)
    with pytest.raises(ValueError, match="c holds no position of a loader"):
        Run(tmp_path / "other").fit(resume=tmp_path / "c")


class Halts(callbacks.Callback):
    """Ends one of its trainings, from the first on, before it begins."""

    def __init__(self, after=0):
        self.after = after

    def on_train_begin(self):
        self.after -= 1
        if self.after == -1:
            raise Interrupted


def test_callbacks_that_have_not_begun_anew_are_not_saved(tmp_path):
    whole = Run(tmp_path / "whole").fit(epochs=2).fit().outcome()
    first = Run(tmp_path / "run", extra=[Halts(1)]).fit(epochs=2)
    first.chain[4].best = -1.0  # nothing would be better
    with pytest.raises(Interrupted):
        first.fit()
    first.trainer.save_checkpoint(tmp_path / "stopped")
    second = Run(tmp_path / "run", 77)
    second.fit(resume=tmp_path / "stopped")
    found = second.outcome()
    assert found["history"] == whole["history"] and found["EarlyStopping 3"] == whole["EarlyStopping 3"]


def test_what_is_saved_before_a_checkpoint_is_loaded_is_that_checkpoint(tmp_path):
    halfway = stopped_at(4, tmp_path)
    contents = halfway.read_bytes()
    first = Run(tmp_path / "other", 77, extra=[Halts()])
    with pytest.raises(Interrupted):
        first.fit(resume=halfway)
    first.trainer.save_checkpoint(tmp_path / "again")
    first.trainer.save_checkpoint(halfway)
    assert (tmp_path / "again").read_bytes() == contents == halfway.read_bytes()


def test_what_is_saved_after_a_checkpoint_was_refused_is_what_there_is(tmp_path):
    first = Run(tmp_path / "run")
    with pytest.raises(FileNotFoundError):
        first.fit(resume=tmp_path / "none")
    first.trainer.save_checkpoint(tmp_path / "own")
    assert read_checkpoint(tmp_path / "own")[0]["epoch"] == 0
