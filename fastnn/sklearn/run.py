"""A fit as callbacks see it, and what is measured after each of its epochs."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn import _check, nn
from fastnn.sklearn.descent import Descent, Rows
from fastnn.sklearn.network import PerSample
from fastnn.train.batches import Batch
from fastnn.train.callbacks import Callback, History, Logs
from fastnn.train.checkpoint import save_checkpoint
from fastnn.train.evaluation import Evaluation
from fastnn.train.progress import overriding

Array = np.ndarray[Any, Any]


class Run:
    """What callbacks see of a fit, as of a `Trainer`: see `fn.callbacks.Callback`.

    Parameters
    ----------
    model : Module
    descent : Descent
    callbacks : sequence of Callback
    history : dict of str to list of float
        What was logged so far.
    epochs, batches : int
        Epochs at most, and batches an epoch.
    """

    accumulate = 1
    gathered = 0

    def __init__(
        self,
        model: nn.Module,
        descent: Descent,
        callbacks: Sequence[Callback],
        history: dict[str, list[float]],
        epochs: int,
        batches: int,
    ) -> None:
        self.model = model
        self.optimizer = descent.optimizer
        self.history = History()
        self.history.history = history
        self.history.epoch = list(range(len(history["loss"])))
        self.first = len(self.history.epoch)
        self.epochs = self.first + epochs
        self.batches = batches
        self.epoch = self.first
        self.batch = 0
        self.seconds = 0.0
        self.stop_training = False
        self._batch: Batch | None = None
        self._began = time.perf_counter()
        chain = [self.history, *callbacks]
        for callback in chain:
            _check.instance("callbacks[...]", callback, Callback)
        self.chain = sorted(chain, key=lambda callback: callback.order)
        followers = overriding("on_batch_end", self.chain)
        self.told = self._tell if followers else None
        self._followers = followers

    @property
    def step(self) -> int:
        """Updates that the optimizer has made."""
        return int(self.optimizer.param_groups[0].steps)

    def begins(self) -> None:
        """Before the first epoch."""
        for callback in self.chain:
            callback.trainer = self
            callback.on_train_begin()

    def epoch_begins(self) -> None:
        """Before each epoch."""
        self.batch, self._began = 0, time.perf_counter()
        for callback in self.chain:
            callback.on_epoch_begin(self.epoch)

    def _tell(self, number: int, batch: tuple[Any, ...], loss: float) -> None:
        weight = batch[2].astype(np.float64) if len(batch) == 4 else None
        self._batch = Batch(batch[:1], {}, batch[1], weight)
        self.batch = number + 1
        for callback in self._followers:
            callback.on_batch_end(number, {"loss": loss})

    def epoch_ends(self, logs: Logs) -> None:
        """After each epoch, and what was measured then."""
        self.seconds = max(time.perf_counter() - self._began, 1e-9)
        epoch, self.epoch = self.epoch, self.epoch + 1
        for callback in self.chain:
            callback.on_epoch_end(epoch, logs)

    def ends(self) -> None:
        """After the last epoch."""
        for callback in self.chain:
            callback.on_train_end()

    def closes(self) -> None:
        """However it ended."""
        for callback in self.chain:
            callback.close()

    def save_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Write model, optimizer and history; see `fn.save_checkpoint`."""
        history: dict[str, list[Any]] = {"epoch": self.history.epoch, **self.history.history}
        save_checkpoint(path, self.model, self.optimizer, step=self.step, epoch=self.epoch, history=history)


class Measured:
    """Metrics of the training data, and loss and metrics of validation data, after an epoch.

    Parameters
    ----------
    network, answers : Module
    loss : str
        As an Objective's.
    metrics : sequence of str or callable
        As a Trainer's.
    rows : Rows
        That are trained on.
    order : array
        Which of them.
    held_out : tuple of arrays, optional
        Samples, targets and weights, perhaps None, to validate on.
    """

    def __init__(
        self, network: nn.Module, answers: nn.Module, loss: str, metrics: Any, rows: Rows, order: Array, held_out: Any
    ) -> None:
        self.evaluation = Evaluation(answers if loss == "poisson" else network, PerSample(loss), metrics or [])
        self.rows = rows
        self.order = order
        self.held_out = held_out

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: Any) -> tuple[Array, Array]:
        return self.rows[self.order[index]]

    def logs(self) -> Logs:
        """By the names of the metrics, those of validation data beginning with ``val_``."""
        found: Logs = {}
        if self.evaluation.measures.metrics:
            found = self.evaluation.measure(self)
            del found["loss"]
        if self.held_out is not None:
            x, target, weight = self.held_out
            x = x.toarray() if hasattr(x, "toarray") else x
            values = self.evaluation.measure((x, target), sample_weight=weight)
            found |= {f"val_{name}": value for name, value in values.items()}
        return found
