"""fit: wherever Ctrl-C strikes, the checkpoint that is then written resumes to what the whole run is.

Ctrl-C comes between any two bytecodes of fastnn: see interrupts.py.
"""

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

    def __init__(self):
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

    def __init__(self):
        self.batches, self.average = 0, np.zeros((4, 2))

    def on_batch_end(self, batch, logs):
        weight = self.trainer.model.first.weight.data
        self.batches += 1
        self.average *= 0.9
        self.average += 0.1 * logs["loss"] * weight

    def on_epoch_end(self, epoch, logs):
        self.average += logs["val_loss"]
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
            rows = [without(row, "samples_per_second", "average") for row in csv.DictReader(file)]
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
    ("each", "most"), [pytest.param(4, 45, id="some"), pytest.param(30, None, id="all", marks=pytest.mark.slow)]
)


def interrupted_at(numbers, tmp_path, begin, whole, **arguments):
    """Interrupts a fit at each of the bytecodes, and resumes it in another trainer."""
    struck = 0
    for at in numbers:
        first = begin()
        try:
            run(lambda: first.fit(**arguments), at)  # noqa: B023  (called at once)
        except Interrupted:
            struck += 1
        assert [module.training for module in first.trainer.model.modules()] == first.modes, at
        first.trainer.save_checkpoint(tmp_path / "stopped")
        second = Run(first.folder, 77, first.kind).fit(resume=tmp_path / "stopped")
        assert not differences(second.outcome(), whole), f"after an interrupt at bytecode {at}"
    # With a thread that makes batches, some runs need a few bytecodes less than others.
    assert struck > 0.95 * len(numbers)


@KINDS
@SOME_AND_ALL
def test_a_fit_that_is_interrupted_anywhere_resumes_to_the_whole_run(tmp_path, kind, each, most):
    def begin():
        return Run(tmp_path / "run", 0, kind).warm()

    whole = Run(tmp_path / "whole", 0, kind).fit().outcome()
    assert not differences(begin().fit().outcome(), whole)
    numbers, _ = distinct(begin().fit, each, most)
    interrupted_at(numbers, tmp_path, begin, whole)


@pytest.mark.parametrize("most", [10, pytest.param(300, marks=pytest.mark.slow)])
def test_a_fit_that_is_interrupted_while_it_plans_resumes_to_the_whole_run(tmp_path, most):
    def begin():
        return Run(tmp_path / "run")

    whole = Run(tmp_path / "whole").fit().outcome()
    total = run(begin().fit)
    interrupted_at(range(0, total, total // most), tmp_path, begin, whole)


def stopped_at(step, tmp_path):
    """A run that ends like one that is killed, and its checkpoint."""

    def halt(batch, logs):
        if first.trainer.step == step:
            raise Interrupted

    first = Run(tmp_path / "run", 0, extra=[callbacks.LambdaCallback(on_batch_end=halt)])
    with pytest.raises(Interrupted):
        first.fit()
    first.trainer.save_checkpoint(tmp_path / f"step {step}")
    return tmp_path / f"step {step}"


@SOME_AND_ALL
def test_a_resumed_fit_that_is_interrupted_anywhere_resumes_to_the_whole_run(tmp_path, each, most):
    def begin():
        return Run(tmp_path / "run", 7).warm()

    whole = Run(tmp_path / "whole").fit().outcome()
    halfway = stopped_at(4, tmp_path)
    counted = begin()
    numbers, _ = distinct(lambda: counted.fit(resume=halfway), each, most)
    # Before it has seen the name of the checkpoint, a trainer can only save what it is itself.
    numbers = [at for at in numbers if at >= 10]
    interrupted_at(numbers, tmp_path, begin, whole, resume=halfway)


