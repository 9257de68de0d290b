"""Callbacks: what a trainer calls at the turns of training, under Keras's names."""

from __future__ import annotations

import copy
import math
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, TextIO

import numpy as np

from fastnn import _check
from fastnn.files import named, write_atomically
from fastnn.nn.module import Module
from fastnn.optim.lr_scheduler import CYCLED, LRScheduler, ReduceLROnPlateau
from fastnn.optim.optimizer import Optimizer
from fastnn.train.ensemble import Ensemble

Logs = dict[str, float]


class Training(Protocol):
    """What callbacks see of a `Trainer`."""

    model: Module
    optimizer: Optimizer
    history: History
    epochs: int
    batches: int
    seconds: float
    stop_training: bool

    _batch: Any

    @property
    def epoch(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def step(self) -> int: ...
    @property
    def accumulate(self) -> int: ...
    @property
    def gathered(self) -> int: ...
    def save_checkpoint(self, path: str | os.PathLike[str]) -> None: ...


class Callback:
    """Base of callbacks: override what is needed.

    Epochs and batches count from 0. An epoch's `logs` hold ``loss`` and the metrics, ``val_loss``
    and so on where there is validation data, and ``samples_per_second``. Setting
    ``self.trainer.stop_training`` to True ends training after the epoch.

    Attributes
    ----------
    trainer : Trainer
        Set when `fit` begins.
    order : int, default 0
        Of a class: callbacks of a lower one hear first of each turn, those of one order as they were given. -1 for
        what adds logs that belong into the history, which is the first of order 0 (`train.Monitor`), 1 for
        what keeps what the others have made (`ModelCheckpoint`), 2 for what shows it then (`ProgressBar`).

    Notes
    -----
    Ctrl-C may end `fit` between any two steps of Python. Resumed from a checkpoint that is written then, each callback
    hears of every batch and of every epoch's end once, but for the call that Ctrl-C, or an error, has left midway: that
    one is made again. Before an `on_epoch_end` that is made again, the callback has the state that `state_dict` gave
    before the first call, and the optimizer's settings, random numbers, history and logs are as they were then. Nothing
    else that it has done is taken back, nor what an `on_batch_end` has done: let what is done twice be as what is done
    once (write a file anew instead of adding to it), or change things last.
    """

    trainer: Training
    order: ClassVar[int] = 0

    def on_train_begin(self) -> None:
        """Before the first epoch, and before a resumed state is loaded: forget an earlier training."""

    def on_train_end(self) -> None:
        """After the last epoch; not when an error or Ctrl-C ends training. Called again if the end is resumed."""

    def on_epoch_begin(self, epoch: int) -> None:
        """Before an epoch's first batch, and before what a resumed epoch still has."""

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """After an epoch's validation, with the same logs for all callbacks: what one adds, those after it see."""

    def on_batch_end(self, batch: int, logs: Logs) -> None:
        """After each batch, and the update if it makes one; `logs` holds the means of the epoch so far."""

    def close(self) -> None:
        """Let go of what the callback holds: called however `fit` ends."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs: plain values, and arrays. Asked for at each epoch's end, too, where arrays are
        copied that can be written to."""
        return {}

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Raise ValueError or TypeError if a file's state is none for `load_state_dict`: before anything changes."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Return to a state that `state_dict` gave. Model, optimizer and trainer do so afterwards, and not at all if
        this raises an error. One who has ended training for good sets ``self.trainer.stop_training`` again."""

    def __getstate__(self) -> dict[str, Any]:
        """What copies hold: all but the trainer, which `fit` sets."""
        return {name: value for name, value in self.__dict__.items() if name != "trainer"}


class LambdaCallback(Callback):
    """A callback made of functions.

    Parameters
    ----------
    on_train_begin, on_train_end, on_epoch_begin, on_epoch_end, on_batch_end : callable, optional
        Called as the methods of `Callback`, without self.
    """

    def __init__(self, **functions: Callable[..., None]) -> None:
        known = [name for name in vars(Callback) if name.startswith("on_")]
        for name, function in functions.items():
            if name not in known:
                raise TypeError(f"LambdaCallback has no {name!r}; it has {', '.join(known)}")
            if not callable(function):
                raise TypeError(f"{name}: expected a callable, got {function!r}")
            setattr(self, name, function)


class History(Callback):
    """What `fit` returns: the logs of all epochs.

    Attributes
    ----------
    epoch : list of int
        Epochs done, from 0.
    history : dict of str to list of float
        One value an epoch.
    """

    def __init__(self) -> None:
        self.epoch: list[int] = []
        self.history: dict[str, list[float]] = {}

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        self.epoch.append(epoch)
        for name, value in logs.items():
            self.history.setdefault(name, []).append(_check.plain(value))

    def __repr__(self) -> str:
        logs = {name: values[-1] for name, values in self.history.items() if name != "samples_per_second"}
        last = "".join(f", {name} {value:.4g}" for name, value in logs.items())
        return f"History({len(self.epoch)} epochs{last})"


class CSVLogger(Callback):
    """Write a line an epoch to a CSV file: its number, counted from 1, and its logs.

    The file is begun anew, in a resumed run with the epochs before the checkpoint. Each line is in
    the file when its epoch ends.

    Parameters
    ----------
    path : path-like
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = _check.path("path", path)
        self._columns: list[str] | None = None

    def on_train_begin(self) -> None:
        self._columns = None

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        columns = ["epoch", *logs]
        if columns == self._columns:
            with named(self.path), open(self.path, "a", encoding="utf-8", newline="") as file:
                file.write(csv_lines([[epoch + 1, *logs.values()]]))
            return
        self._columns = columns
        past = self.trainer.history
        values = [past.history.get(name, []) for name in logs]
        # A column that began late has no values for the first epochs.
        padded = [[""] * (len(past.epoch) - len(v)) + v for v in values]
        rows = [[e + 1, *row] for e, *row in zip(past.epoch, *padded, strict=True)]
        write_atomically(self.path, csv_lines([columns, *rows]).encode())


class ProgressBar(Callback):
    """A line an epoch, and a bar within it (tqdm) when the output is a terminal.

    Parameters
    ----------
    file : text file, optional
        Default: standard output.
    bar : bool, default True
        Whether there is a bar within an epoch.
    """

    order = 2

    def __init__(self, file: TextIO | None = None, bar: bool = True) -> None:
        self.file = file
        self.bar = _check.flag("bar", bar)
        self._bar: Any = None

    @property
    def shows(self) -> bool:
        """Whether there is a bar now."""
        return self._bar is not None

    def on_epoch_begin(self, epoch: int) -> None:
        out = self.file or sys.stdout
        if self.bar and out.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                total=self.trainer.batches,
                initial=self.trainer.batch,
                desc=f"epoch {epoch + 1}/{self.trainer.epochs}",
                unit="batch",
                leave=False,
                file=out,
            )

    def on_batch_end(self, batch: int, logs: Logs) -> None:
        if self._bar is not None:
            self._bar.set_postfix(loss=f"{logs['loss']:.4f}", refresh=False)
            self._bar.update()

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        self.close()
        width = len(str(self.trainer.epochs))
        parts = [f"epoch {epoch + 1:{width}}/{self.trainer.epochs}"]
        parts += [f"{k} {v:.4f}" for k, v in logs.items() if k != "samples_per_second"]
        parts.append(f"{self.trainer.seconds:.2f} s")
        parts.append(f"{logs['samples_per_second']:,.0f} samples/s")
        print("  ".join(parts), file=self.file or sys.stdout, flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __getstate__(self) -> dict[str, Any]:
        """What copies hold: not the bar, and the standard streams by name."""
        names = {id(sys.stdout): "stdout", id(sys.stderr): "stderr"}
        return {**super().__getstate__(), "_bar": None, "file": names.get(id(self.file), self.file)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if isinstance(self.file, str):
            self.file = getattr(sys, self.file)


class LearningRateScheduler(Callback):
    """Set the optimizer's learning rate at the beginning of each epoch.

    Parameters
    ----------
    schedule : callable
        schedule(epoch) gives the rate; a function of the epoch alone, so that a resumed run has the
        same rates.
    """

    def __init__(self, schedule: Callable[[int], float]) -> None:
        if not callable(schedule):
            raise TypeError(f"schedule: expected a callable, schedule(epoch), got {_check.brief(schedule)}")
        self.schedule = schedule

    def on_epoch_begin(self, epoch: int) -> None:
        self.trainer.optimizer.lr = _check.real(f"schedule({epoch})", self.schedule(epoch))


class Scheduler(Callback):
    """Step a schedule of `optim.lr_scheduler` after each epoch, or after each update.

    Parameters
    ----------
    schedule : optim.lr_scheduler.LRScheduler
        Of the trainer's optimizer.
    every : {"epoch", "step"}, default "epoch"
    monitor : str, default "val_loss"
        The log that a ReduceLROnPlateau is given.

    Examples
    --------
    >>> schedule = optim.lr_scheduler.OneCycleLR(opt, max_lr=0.1, epochs=2, steps_per_epoch=8)
    >>> trainer = fn.Trainer(model, nn.CrossEntropyLoss(), opt)
    >>> history = trainer.fit(
    ...     (x, y), epochs=2, batch_size=32, verbose=False, callbacks=[fn.callbacks.Scheduler(schedule, every="step")]
    ... )
    """

    def __init__(self, schedule: LRScheduler, every: str = "epoch", monitor: str = "val_loss") -> None:
        self.schedule = _check.instance("schedule", schedule, LRScheduler, "a schedule of optim.lr_scheduler")
        self.every = _check.choice("every", every, "epoch", "step")
        self.monitor = monitor
        # What the last update found, so that a call that is made again begins where the first one did: its number, the
        # schedule's state and the rates and momenta.
        self._before: list[Any] | None = None

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        if self.every == "epoch":
            self._step(logs)

    def on_batch_end(self, batch: int, logs: Logs) -> None:
        if self.every != "step" or self.trainer.gathered:
            return
        groups = self.trainer.optimizer.param_groups
        number = self.trainer.step
        if self._before is None or self._before[0] != number:
            settings = [{k: group[k] for k in CYCLED if k in group} for group in groups]
            self._before = [number, self.schedule.state_dict(), settings]
        else:
            self.schedule.load_state_dict(self._before[1])
            for group, before in zip(groups, self._before[2], strict=True):
                group.update(before)
        self._step(logs)

    def _step(self, logs: Logs) -> None:
        if not isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step()
        elif self.monitor in logs:
            self.schedule.step(logs[self.monitor])
        else:
            raise ValueError(f"monitor names {self.monitor!r}, and the logs have {_check.some(logs)}")

    def state_dict(self) -> dict[str, Any]:
        return {"schedule": self.schedule.state_dict(), "before": self._before}

    def check_state(self, state: Mapping[str, Any]) -> None:
        self.schedule.check_state(state.get("schedule", {}))
        before = state.get("before")
        if before is None:
            return
        if not isinstance(before, (list, tuple)) or len(before) != 3 or not isinstance(before[2], (list, tuple)):
            raise ValueError(f"before must be a step, a state and settings, got {_check.brief(before)}")
        _check.count("before[0]", before[0])
        self.schedule.check_state(before[1])
        groups = self.trainer.optimizer.param_groups
        if len(before[2]) != len(groups):
            raise ValueError(f"before must have settings of {len(groups)} groups, got {len(before[2])}")
        for group, settings in zip(groups, before[2], strict=True):
            if not isinstance(settings, Mapping) or settings.keys() - set(CYCLED):
                raise ValueError(f"before must have settings of {', '.join(CYCLED)}, got {_check.brief(settings)}")
            for name, value in settings.items():
                group._setting(name, value)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.schedule.load_state_dict(state["schedule"])
        self._before = None if state["before"] is None else list(state["before"])


class Averaging(Callback):
    """Average the weights as a part of the step: Trainer.evaluate and predict take them with averaged=True.

    It sets the optimizer's settings averaging and averaging_every. The average begins anew with each `fit`, and goes on
    in a resumed one. For what batch norms keep of averaged weights, see `train.update_bn`.

    Parameters
    ----------
    averaging : float between 0 and 1, or "uniform", default 0.995
        The decay of an exponential average (Polyak), or "uniform" for a plain mean (SWA).
    start : int, default 0
        Epochs, from 0, before the first one that is averaged over.
    every : int, "step" or "epoch", default "step"
        Whether the average takes the weights after each step, after each so many, or at the end of each epoch.

    Examples
    --------
    >>> trainer = fn.Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
    >>> history = trainer.fit((x, y), epochs=2, verbose=0, callbacks=[fn.callbacks.Averaging(0.9)])
    >>> logits = trainer.predict(x, averaged=True)
    """

    def __init__(self, averaging: float | str = 0.995, start: int = 0, every: int | str = "step") -> None:
        if averaging != "uniform" and not 0 < _check.real("averaging", averaging) < 1:
            raise ValueError(f'averaging must be above 0 and below 1, or "uniform", got {averaging}')
        self.averaging = averaging
        self.start = _check.count("start", start)
        self.every = every if every == "step" or every == "epoch" else _check.integer("every", every, 1)

    def on_train_begin(self) -> None:
        for group in self.trainer.optimizer.param_groups:
            group["averaging"] = None

    def on_epoch_begin(self, epoch: int) -> None:
        if epoch < self.start:
            return
        if self.every == "epoch" and (self.trainer.accumulate > 1 or not self.trainer.batches):
            raise ValueError(
                "every='epoch' needs an update for each batch, and data that tell how many batches they have; give "
                "every a number of updates"
            )
        every = {"step": 1, "epoch": self.trainer.batches}[self.every] if isinstance(self.every, str) else self.every
        for group in self.trainer.optimizer.param_groups:
            group.update(averaging_every=every, averaging=self.averaging)


class Snapshots(Callback):
    """Keep the weights at the end of each cycle of the learning rate: members of an ensemble from one run.

    A rate that falls to zero and begins again leads to one minimum after another (snapshot ensembles; Huang et al.,
    2017): see `optim.lr_scheduler.CosineAnnealingWarmRestarts`.

    Parameters
    ----------
    cycle : int or sequence of int
        Epochs of a cycle; or the numbers of epochs, counted from 1, after which the weights are kept.
    last : int, optional
        Keep so many of them, the last ones. Default: all.

    Attributes
    ----------
    states : list of dict
        What model.state_dict() gave at each, read-only.

    Examples
    --------
    >>> snapshots = fn.callbacks.Snapshots(cycle=2)
    >>> trainer = fn.Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
    >>> history = trainer.fit((x, y), epochs=6, verbose=0, callbacks=[snapshots])
    >>> ensemble = snapshots.ensemble("softmax")
    >>> len(ensemble.members)
    3
    """

    def __init__(self, cycle: int | Sequence[int], last: int | None = None) -> None:
        several = isinstance(cycle, Sequence) and not isinstance(cycle, str)
        self.cycle: int | tuple[int, ...] = (
            tuple(_check.integer(f"cycle[{i}]", end, 1) for i, end in enumerate(cycle))  # type: ignore[arg-type]
            if several
            else _check.integer("cycle", cycle, 1)
        )
        self.last = None if last is None else _check.integer("last", last, 1)
        self.states: list[dict[str, np.ndarray[Any, Any]]] = []

    def on_train_begin(self) -> None:
        self.states = []

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        done = epoch + 1
        if done in self.cycle if isinstance(self.cycle, tuple) else done % self.cycle == 0:
            states = [*self.states, _read_only(self.trainer.model.state_dict())]
            self.states = states if self.last is None else states[-self.last :]

    def ensemble(self, average: str = "outputs") -> Ensemble:
        """Copies of the model with the weights that were kept; ValueError if no cycle has ended.

        Parameters
        ----------
        average : {"outputs", "softmax", "sigmoid"}, default "outputs"
            As for `train.Ensemble`.
        """
        if not self.states:
            raise ValueError("there is no snapshot: no cycle has ended")
        members = [copy.deepcopy(self.trainer.model) for _ in self.states]
        for member, state in zip(members, self.states, strict=True):
            member.load_state_dict(state)
        return Ensemble(members, average)

    def state_dict(self) -> dict[str, Any]:
        return {"count": len(self.states)} | {
            f"{i}/{name}": array for i, state in enumerate(self.states) for name, array in state.items()
        }

    def check_state(self, state: Mapping[str, Any]) -> None:
        count = _check.count("count", state.get("count"))
        forms: dict[str, dict[str, Any]] = {}
        for key, array in state.items():
            if key != "count":
                if not isinstance(array, np.ndarray):
                    raise ValueError("snapshots must be arrays")
                number, _, name = key.partition("/")
                forms.setdefault(number, {})[name] = (array.dtype, array.shape)
        if count != len(forms):
            raise ValueError(f"there must be {_check.brief(count)} snapshots, got {len(forms)}")
        for i in range(count):
            if str(i) not in forms:
                raise ValueError(f"snapshot {i} is missing")
            self.trainer.model._check_fit(f"snapshot {i}", forms[str(i)], strict=True)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        parts = ((key.partition("/"), array) for key, array in state.items() if key != "count")
        states: list[dict[str, np.ndarray[Any, Any]]] = [{} for _ in range(state["count"])]
        for (number, _, name), array in parts:
            states[int(number)][name] = array
        self.states = [_read_only(each) for each in states]


class TerminateOnNaN(Callback):
    """End training at a loss that is NaN or infinite, before the batch's update is made.

    Every `fit` has one; give it one of your own to choose what is done. The message names the first
    layer whose output is not finite, and epoch and batch counted from 1. A validation loss that is
    not finite is warned of.

    Parameters
    ----------
    action : {"raise", "stop", "ignore"}, default "raise"
        "raise" a FloatingPointError; "stop" with a warning, so that `fit` returns the history of the
        epochs that were done; or "ignore": make the update all the same.
    """

    def __init__(self, action: str = "raise") -> None:
        self.action = _check.choice("action", action, "raise", "stop", "ignore")

    def terminate(self, message: str) -> None:
        """What the trainer calls at such a loss, unless it is to be ignored."""
        if self.action == "raise":
            raise FloatingPointError(message)
        warnings.warn(message, RuntimeWarning, stacklevel=2)
        self.trainer.stop_training = True

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        value = logs.get("val_loss", 0.0)
        if self.action != "ignore" and not math.isfinite(value):
            warnings.warn(f"the validation loss is {value} in epoch {epoch + 1}", RuntimeWarning, stacklevel=2)


#: How the names of those metrics begin that are better the larger they are; beside all accuracies.
MORE_IS_BETTER = ("top_", "precision", "recall", "f1", "roc_auc", "r2")


class _Monitor(Callback):
    """Follows the best value of one log."""

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0) -> None:
        if not isinstance(monitor, str):
            raise TypeError(f"monitor: expected the name of a log, such as 'val_loss', got {_check.brief(monitor)}")
        _check.choice("mode", mode, "auto", "min", "max")
        if mode == "auto":
            more_is_better = "accuracy" in monitor or monitor.removeprefix("val_").startswith(MORE_IS_BETTER)
            mode = "max" if more_is_better else "min"
        self.monitor = monitor
        self.mode = mode
        self.min_delta = _check.real("min_delta", min_delta, 0)
        self.best = self._worst()

    def _worst(self) -> float:
        return math.inf if self.mode == "min" else -math.inf

    def on_train_begin(self) -> None:
        self.best = self._worst()

    def _improved(self, logs: Logs) -> bool:
        if self.monitor not in logs:
            hint = "; fit(validation_data=...) makes those of val_" if self.monitor.startswith("val_") else ""
            raise ValueError(f"monitor: there is no log {self.monitor!r}; there are {', '.join(logs)}{hint}")
        value = float(logs[self.monitor])
        gain = self.best - value if self.mode == "min" else value - self.best
        if not (math.isfinite(value) and gain > self.min_delta):
            return False
        self.best = value
        return True

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def check_state(self, state: Mapping[str, Any]) -> None:
        if state.get("best") != self._worst():  # nothing yet
            _check.real("best", state.get("best"))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best = float(state["best"])


class EarlyStopping(_Monitor):
    """Stop when a log has not improved for some epochs; NaN and infinities are no improvement.

    Parameters
    ----------
    monitor : str, default "val_loss"
        Any log: of the loss, of a metric, or of what a callback before this one adds, such as `train.Monitor`.
    patience : int, default 0
        Epochs without improvement after which training stops; 0 is as 1. With `patience_increase` the number of the
        epoch after which it stops, at first.
    min_delta : float, default 0
        An improvement is larger than this.
    mode : {"auto", "min", "max"}, default "auto"
        Whether less or more is better; "auto" takes "max" for accuracy, top_k, precision, recall, f1, roc_auc and r2.
    restore_best : bool, default False
        Return to the weights of the best epoch when training ends, early or not.
    patience_increase : float, optional
        Patience grows with what was achieved: whenever epoch e, counted from 1, improves the best value by a
        significant part, it becomes at least patience_increase * e (2 in the deep learning tutorials of Bengio and
        others, http://deeplearning.net).
    improvement_threshold : float, default 0.995
        What is significant then: a value of less than this part of the best one, or in mode "max" one that is as much
        above it.

    Attributes
    ----------
    best : float
        The best value so far.
    wait : int
        Epochs since.
    limit : float
        With `patience_increase`: the number of the epoch after which training stops.

    Examples
    --------
    >>> stop = fn.callbacks.EarlyStopping(patience=5, patience_increase=2)
    >>> trainer = fn.Trainer(model, nn.CrossEntropyLoss(), opt)
    >>> history = trainer.fit((x, y), validation_split=0.2, epochs=20, callbacks=[stop], verbose=False)
    >>> len(history.epoch) == min(20, stop.limit)
    True
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 0,
        min_delta: float = 0.0,
        mode: str = "auto",
        restore_best: bool = False,
        patience_increase: float | None = None,
        improvement_threshold: float = 0.995,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.patience = _check.integer("patience", patience, 0)
        self.restore_best = _check.flag("restore_best", restore_best)
        self.patience_increase = patience_increase
        if patience_increase is not None:
            self.patience_increase = _check.real("patience_increase", patience_increase, 0)
        self.improvement_threshold = _check.real("improvement_threshold", improvement_threshold, 0, 1)
        self.wait = 0
        self.limit = float(max(self.patience, 1))
        self._weights: dict[str, np.ndarray[Any, Any]] = {}

    def on_train_begin(self) -> None:
        super().on_train_begin()
        self.wait, self.limit, self._weights = 0, float(max(self.patience, 1)), {}

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        before = self.best
        improved = self._improved(logs)
        if self.patience_increase is not None:
            if improved and self._is_significant(before):
                self.limit = max(self.limit, self.patience_increase * (epoch + 1))
            if epoch + 1 >= self.limit:
                self.trainer.stop_training = True
        if improved:
            self.wait = 0
            if self.restore_best:
                self._weights = _read_only(self.trainer.model.state_dict())
            return
        self.wait += 1
        self._stop_if_due()

    def _is_significant(self, before: float) -> bool:
        """Whether the best value is better than the one before by a part that counts."""
        if not math.isfinite(before):
            return True
        return abs(self.best - before) > (1 - self.improvement_threshold) * abs(before)

    def _stop_if_due(self) -> None:
        if self.patience_increase is not None:
            return
        if self.wait >= max(self.patience, 1):
            self.trainer.stop_training = True

    def on_train_end(self) -> None:
        if self._weights:
            self.trainer.model.load_state_dict(self._weights)

    def state_dict(self) -> dict[str, Any]:
        weights = {f"weights/{name}": array for name, array in self._weights.items()}
        return {**super().state_dict(), "wait": self.wait, "limit": self.limit, **weights}

    def check_state(self, state: Mapping[str, Any]) -> None:
        super().check_state(state)
        _check.count("wait", state.get("wait"))
        _check.real("limit", state.get("limit", self.limit), 0)
        weights = {k.removeprefix("weights/"): v for k, v in state.items() if k.startswith("weights/")}
        if any(not isinstance(array, np.ndarray) for array in weights.values()):
            raise ValueError("the weights must be arrays")
        if weights:
            forms = {name: (array.dtype, array.shape) for name, array in weights.items()}
            self.trainer.model._check_fit("weights", forms, strict=True)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.wait = int(state["wait"])
        self.limit = float(state.get("limit", self.limit))  # files of before patience could grow have none
        weights = {k.removeprefix("weights/"): v for k, v in state.items() if k.startswith("weights/")}
        self._weights = _read_only(weights)
        self._stop_if_due()


class ModelCheckpoint(_Monitor):
    """Save a checkpoint at the beginning and after each epoch, every so many epochs or updates, or the best ones alone.

    It is saved when the other callbacks have seen the epoch's end, or the batch, and holds their state.

    Parameters
    ----------
    path : path-like
        Replaced each time, as a whole. ``{step}`` and ``{epoch}`` in it become the number of updates and of whole
        epochs done, as in ``"step-{step:06d}.safetensors"``: then there is a file of each.
    best_only : bool, default False
        Save only when `monitor` has improved.
    monitor : str, default "val_loss"
        By updates there are the logs of the training data alone, such as "loss".
    mode : {"auto", "min", "max"}, default "auto"
    every : int, default 1
    by : {"epoch", "step"}, default "epoch"
        Every so many epochs, or updates.
    """

    order = 1

    def __init__(
        self,
        path: str | os.PathLike[str],
        best_only: bool = False,
        monitor: str = "val_loss",
        mode: str = "auto",
        every: int = 1,
        by: str = "epoch",
    ) -> None:
        super().__init__(monitor, mode)
        self.path = _check.path("path", path)
        self.best_only = _check.flag("best_only", best_only)
        self.every = _check.integer("every", every, 1)
        self.by = _check.choice("by", by, "epoch", "step")
        self._begun = False
        self._numbered = "{step" in self.path or "{epoch" in self.path
        self._path(0, 0)

    def on_train_begin(self) -> None:
        super().on_train_begin()
        self._begun = False

    def on_epoch_begin(self, epoch: int) -> None:
        # So that a run killed in its first epoch can be resumed, too.
        if not self._begun and not self.best_only:
            self._save()
        self._begun = True

    def on_batch_end(self, batch: int, logs: Logs) -> None:
        if self.by == "step" and not self.trainer.gathered and self.trainer.step % self.every == 0:
            self._save_if_best(logs)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        if self.by == "epoch" and (epoch + 1) % self.every == 0:
            self._save_if_best(logs)

    def _save_if_best(self, logs: Logs) -> None:
        if not self.best_only or self._improved(logs):
            self._save()

    def _save(self) -> None:
        self.trainer.save_checkpoint(self._path(self.trainer.step, self.trainer.epoch))

    def _path(self, step: int, epoch: int) -> str:
        if not self._numbered:
            return self.path
        try:
            return self.path.format(step=step, epoch=epoch)
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            raise ValueError(
                f"path: {self.path!r} is no pattern of {{step}} and {{epoch}}: {type(error).__name__}: {error}; "
                "braces that shall stay are doubled"
            ) from None


def _read_only(arrays: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays, which from now on stay as they are: a trainer need not copy them at each epoch's end."""
    for array in arrays.values():
        array.flags.writeable = False
    return arrays


def csv_lines(rows: list[list[Any]]) -> str:
    """Rows of a table as the text of a CSV file."""
    import csv
    import io

    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
