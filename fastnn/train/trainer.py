"""Trainer: fit, evaluate and predict around a TrainStep."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from fastnn import _check
from fastnn.data import DataLoader
from fastnn.nn.module import Module
from fastnn.optim.optimizer import Optimizer
from fastnn.seed import generator
from fastnn.train.callbacks import Callback, History, ModelCheckpoint, ProgressBar, TerminateOnNaN
from fastnn.train.checkpoint import prepare, save_checkpoint
from fastnn.train.evaluation import (
    Evaluation,
    Means,
    as_dataset,
    in_order,
    mode,
    predict,
    with_target,
)
from fastnn.train.metrics import Metric
from fastnn.train.step import TrainStep, describe_parts
from fastnn_ext.plan import NotFiniteError


class Trainer:
    """Trains a model epoch by epoch, and says how good it is.

    Parameters
    ----------
    model : Module
    loss : callable
        loss(output, target), a scalar. In the mean over batches a loss of `fastnn.nn` counts by what
        it divides by (see `nn.Loss.denominator`); one of your own by its samples, unless it has such
        a method.
    optimizer : Optimizer
        Over the model's parameters.
    metrics : sequence of str or callable, optional
        Names ("accuracy", "mean_absolute_error", "mean_squared_error"), `fn.train.metrics.top_k(5)`,
        or functions of a batch's output and target that give a mean over its samples. Accuracy and
        top_k leave out the labels that the loss ignores (its `ignore_index`). Default: what goes with
        the loss, accuracy for cross-entropy and binary cross-entropy, and nothing for other losses.

    Attributes
    ----------
    history : History
        Of the last `fit`.
    step : int
        Updates that the optimizer has made.
    epoch, epochs : int
        Whole epochs done, and after how many `fit` ends.
    batch, batches : int
        Batches done of this epoch, and batches an epoch.
    seconds : float
        That the steps of the latest epoch took, without evaluation.
    stop_training : bool
        Set it in a callback to end training after the epoch.

    Raises
    ------
    TypeError, ValueError
        As `TrainStep`; for an unknown metric.

    Examples
    --------
    >>> trainer = fn.Trainer(model, nn.CrossEntropyLoss(), optim.Adam(model.parameters()))
    >>> history = trainer.fit((x, y), validation_data=(xv, yv), epochs=10, batch_size=64, verbose=0)
    >>> sorted(trainer.evaluate((xt, yt)))
    ['accuracy', 'loss']
    """

    def __init__(
        self,
        model: Module,
        loss: Any,
        optimizer: Optimizer,
        metrics: Sequence[str | Metric] | None = None,
    ) -> None:
        self._evaluation = Evaluation(model, loss, metrics)
        self._measures = self._evaluation.measures
        self._train_step = TrainStep(model, loss, optimizer, outputs=bool(self._measures.metrics), finite=True)
        self.model = model
        self.loss = loss
        self.optimizer = optimizer
        self.history = History()
        self.epochs = self.batches = 0
        self.seconds = 0.0
        self.stop_training = False
        # This epoch, and the updates made before its first batch. The optimizer counts updates as
        # it makes them, so wherever Ctrl-C strikes, the batches done are known.
        self._position = (0, self.step)
        # For batches that are trained on although their loss is not finite.
        self._unchecked_step = TrainStep(model, loss, optimizer, outputs=bool(self._measures.metrics))
        self._means = Means()
        self._loader: DataLoader | None = None
        self._loader_lead = 0  # the loader's epoch less ours
        self._callbacks: list[Callback] = []

    def __repr__(self) -> str:
        parts = describe_parts(self.model, self.loss, self.optimizer)
        metrics = ", ".join(self._measures.metrics)
        return f"Trainer({parts}, metrics=[{metrics}], epoch={self.epoch}, step={self.step})"

    @property
    def step(self) -> int:
        return self.optimizer.param_groups[0].steps

    @property
    def epoch(self) -> int:
        return self._position[0]

    @property
    def batch(self) -> int:
        return self.step - self._position[1]

    def fit(
        self,
        data: Any,
        validation_data: Any = None,
        epochs: int = 1,
        batch_size: int | None = None,
        shuffle: bool | None = None,
        callbacks: Sequence[Callback] = (),
        initial_epoch: int = 0,
        resume: str | os.PathLike[str] | None = None,
        seed: int | np.random.Generator | None = None,
        verbose: bool | int = True,
    ) -> History:
        """Train until `epochs` epochs are done.

        Parameters
        ----------
        data : tuple of arrays, ArrayDataset or DataLoader
            The model's inputs, and last the loss's target.
        validation_data : the same, optional
            Evaluated after each epoch; its logs begin with ``val_``.
        epochs : int, default 1
            The number of the last epoch: with `initial_epoch` or `resume`, those before count.
        batch_size : int, default 32
        shuffle : bool, default True
            Draw a new order each epoch. A DataLoader brings its own order and batch size.
        callbacks : sequence of Callback
        initial_epoch : int, default 0
            Epochs done before; decides the order of the data, too.
        resume : path-like, optional
            A checkpoint to go on from: weights, optimizer, random numbers, place in the data,
            history and callbacks are then as they were, and what follows is the same, bit for bit,
            as if training had not been interrupted.
        seed : int, numpy Generator or None
            Of the order of the data; by default drawn from the one that `fn.manual_seed` starts.
        verbose : bool, 0, 1 or 2, default True
            Print progress (see `ProgressBar`), or with False or 0 nothing; with 2 a line an epoch and
            no bar.

        Returns
        -------
        History

        Raises
        ------
        TypeError, ValueError
            If an argument or a batch does not fit, or the checkpoint is damaged or another model's.
        FileNotFoundError
            If there is no such checkpoint.
        FloatingPointError
            If a batch's loss is NaN or infinite; its update is not made. See `callbacks.TerminateOnNaN`.
        KeyboardInterrupt
            On Ctrl-C. Each step was made as a whole or not at all.

        Notes
        -----
        Losses and metrics are means over the epoch, as if it were one batch (a loss that is a sum is
        summed up). Those of the training data are taken while the weights change. Modules are in
        training mode while they train, and then again in the mode that each was in.
        """
        epochs = _check.integer("epochs", epochs, 0)
        first = _check.count("initial_epoch", initial_epoch)
        if resume is not None and first:
            raise ValueError("initial_epoch: the checkpoint of resume= knows its own; leave it out")
        loader = self._training_loader(data, batch_size, shuffle, seed, first)
        validation = validation_data
        if validation is not None:
            validation = in_order("validation_data", validation)
        history = History()
        chain = [history, *_chain(callbacks, _verbosity(verbose))]

        self.history = history
        self.epochs, self.batches, self.stop_training = epochs, len(loader), False
        self._position = (first, self.step - int(loader.state_dict()["batch"]))
        self._loader_lead = loader.epoch - first
        self._means, self._loader, self._callbacks = Means(), loader, chain
        with mode(self.model, True):
            try:
                for callback in chain:
                    callback.trainer = self
                    callback.on_train_begin()
                if resume is not None:
                    self._resume(resume)
                while self.epoch < epochs and not self.stop_training:
                    self._run_epoch(loader, validation)
                for callback in chain:
                    callback.on_train_end()
            finally:
                for callback in chain:
                    callback.close()
        return self.history

    def evaluate(self, data: Any, batch_size: int | None = None) -> dict[str, float]:
        """Loss and metrics in evaluation mode.

        Parameters
        ----------
        data : tuple of arrays, ArrayDataset or DataLoader
            The model's inputs, and last the loss's target.
        batch_size : int, default 256
            How many samples are computed at a time; a DataLoader brings its own.

        Returns
        -------
        dict of str to float
            ``loss`` and each metric, over the whole set whatever the batch size; NaN, with a warning,
            where nothing counts, such as ignored labels alone.
        """
        return self._evaluation.measure(data, batch_size)

    def predict(self, x: Any, batch_size: int = 256) -> Any:
        """The model's output in evaluation mode.

        Parameters
        ----------
        x : array, or tuple of arrays for a model of several inputs
        batch_size : int, default 256
            How many samples are computed at a time.

        Returns
        -------
        array, or tuple, list or dict of arrays
            What the model returns, for all samples.
        """
        return predict(self.model, x, batch_size)

    def save_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint that `fit` can go on from; callbacks may do so after any batch."""
        position = None
        if self._loader is not None:
            # Where the training is: the loader may have handed out a batch more.
            place = {"epoch": self.epoch + self._loader_lead, "batch": self.batch}
            position = {**self._loader.state_dict(), **place}
        plain: dict[str, Any] = {}
        arrays: dict[str, np.ndarray[Any, Any]] = {}
        for name, callback in _named(self._callbacks):
            state = callback.state_dict()
            plain[name] = {k: v for k, v in state.items() if not isinstance(v, np.ndarray)}
            arrays |= {f"{name}/{k}": v for k, v in state.items() if isinstance(v, np.ndarray)}
        save_checkpoint(
            path,
            self.model,
            self.optimizer,
            step=self.step,
            epoch=self.epoch,
            history={"epoch": self.history.epoch, **self.history.history},
            loader=position,
            extra={"means": self._means.state_dict(), "callbacks": plain},
            arrays=arrays,
        )

    def _resume(self, path: str | os.PathLike[str]) -> None:
        loader = self._loader
        assert loader is not None
        prepared = prepare(path, self.model, self.optimizer, loader)
        epoch, extra, place = prepared.info["epoch"], prepared.info["extra"], prepared.content["loader"]
        steps = prepared.content["optimizer"]["groups"][0]["steps"]
        try:
            history = dict(prepared.info["history"])
            epochs = _check_history(history)
            means = Means(extra.get("means"))
            others = means.sums.keys() - {"loss", *self._measures.metrics}
            if others:
                raise ValueError(f"means['sums'] has {_check.some(others)}, which this trainer does not measure")
            states = self._callback_states(extra.get("callbacks", {}), prepared.info["arrays"])
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"{prepared.name} does not fit: {error}") from None
        prepared.attributes += [
            (self, "_position", (epoch, steps - place["batch"])),
            (self, "_loader_lead", place["epoch"] - epoch),
            (self, "_means", means),
            (self.history, "epoch", epochs),
            (self.history, "history", history),
        ]
        prepared.commit()
        for callback, state in states:
            callback.load_state_dict(state)

    def _callback_states(self, saved: Any, arrays: dict[str, Any]) -> list[tuple[Callback, dict[str, Any]]]:
        """The state that a checkpoint holds for each callback, found to fit."""
        if not isinstance(saved, dict):
            raise ValueError(f"callbacks must be a table, got {_check.brief(saved)}")
        states = []
        for name, callback in _named(self._callbacks):
            if name in saved:
                if not isinstance(saved[name], dict):
                    raise ValueError(f"callbacks[{name!r}] must be a table, got {_check.brief(saved[name])}")
                own = {k.removeprefix(f"{name}/"): v for k, v in arrays.items() if k.startswith(f"{name}/")}
                states.append((callback, {**saved[name], **own}))
                try:
                    callback.check_state(states[-1][1])
                except (TypeError, ValueError) as error:
                    raise ValueError(f"callbacks[{name!r}]: {error}") from None
        return states

    def _run_epoch(self, loader: DataLoader, validation: DataLoader | None) -> None:
        epoch, chain, means, measures = self.epoch, self._callbacks, self._means, self._measures
        each_batch = [c for c in chain if _follows_batches(c)]
        for callback in chain:
            callback.on_epoch_begin(epoch)
        samples = means.samples
        start = time.perf_counter()
        for batch in loader:
            result = self._update(with_target(batch))
            if result is None:
                return
            loss, output = result if measures.metrics else (result, None)
            means.add(measures.of(loss, output, batch), len(batch[0]))
            for callback in each_batch:
                callback.on_batch_end(self.batch - 1, means.logs())
        self.seconds = max(time.perf_counter() - start, 1e-9)
        logs = means.final()
        if validation is not None:
            logs |= {f"val_{name}": value for name, value in self.evaluate(validation).items()}
        logs["samples_per_second"] = (means.samples - samples) / self.seconds
        # What a checkpoint written from here on says: this epoch is done.
        self._position, self._means = (epoch + 1, self.step), Means()
        for callback in chain:
            callback.on_epoch_end(epoch, logs)

    def _update(self, batch: tuple[Any, ...]) -> Any:
        """A step's result, or None if training ends because its loss is not finite."""
        try:
            return self._train_step(*batch)
        except NotFiniteError:
            guard = next(c for c in self._callbacks if isinstance(c, TerminateOnNaN))
            if guard.action == "ignore" or self._measures.counts_nothing(batch):
                return self._unchecked_step(*batch)
            value, reason = self._train_step.diagnose(*batch)
            guard.terminate(
                f"the loss is {value} in epoch {self.epoch + 1}, batch {self.batch + 1}: {reason}; the parameters "
                "are as they were before this batch"
            )
            return None

    def _training_loader(
        self, data: Any, batch_size: int | None, shuffle: bool | None, seed: Any, epoch: int
    ) -> DataLoader:
        if isinstance(data, DataLoader):
            given = {"batch_size": batch_size, "shuffle": shuffle, "seed": seed}
            for name, value in given.items():
                if value is not None:
                    raise ValueError(f"{name}: the DataLoader brings its own; leave it out")
            return data
        loader = DataLoader(
            as_dataset("data", data),
            batch_size=32 if batch_size is None else batch_size,
            shuffle=True if shuffle is None else shuffle,
            seed=generator() if seed is None else seed,
        )
        loader.load_state_dict({**loader.state_dict(), "epoch": epoch})
        return loader


def _check_history(history: dict[str, Any]) -> list[int]:
    """Take the epochs' numbers out of a checkpoint's history, whose logs have a value for each of the last ones."""
    longest = max(map(len, history.values()), default=0)
    given = history.pop("epoch", range(longest))  # without: saved by another hand than a trainer's
    epochs = [_check.count(f"history['epoch'][{i}]", number) for i, number in enumerate(given)]
    for name, values in history.items():
        if len(values) > len(epochs):
            raise ValueError(f"history[{_check.brief(name)}] has {len(values)} values for {len(epochs)} epochs")
        for i, value in enumerate(values):
            if not isinstance(value, float) and not (isinstance(value, int) and abs(value) <= _check.LARGEST_COUNT):
                raise ValueError(f"history[{_check.brief(name)}][{i}] must be a number, got {_check.brief(value)}")
    return epochs


def _verbosity(verbose: Any) -> int:
    return int(verbose) if isinstance(verbose, (bool, np.bool_)) else _check.integer("verbose", verbose, 0, 2)


def _chain(callbacks: Sequence[Callback], verbose: int) -> list[Callback]:
    if isinstance(callbacks, Callback):
        raise TypeError(f"callbacks: expected a list of callbacks, got one {type(callbacks).__name__}; put it into []")
    if not isinstance(callbacks, Iterable):
        raise TypeError(f"callbacks: expected a list of callbacks, got {_check.kind_of(callbacks)}")
    chain = list(callbacks)
    for callback in chain:
        if not isinstance(callback, Callback):
            raise TypeError(f"callbacks: expected Callback objects, got {_check.kind_of(callback)}")
    if not any(isinstance(c, TerminateOnNaN) for c in chain):
        chain.append(TerminateOnNaN())
    if verbose and not any(isinstance(c, ProgressBar) for c in chain):
        chain.append(ProgressBar(bar=verbose == 1))
    # Checkpoints hold what the other callbacks have made of the epoch, so they come after them. The
    # epoch's line is printed last: what has been seen is on the disk.
    return sorted(
        chain, key=lambda c: 2 * isinstance(c, ProgressBar) + isinstance(c, ModelCheckpoint)
    )


def _follows_batches(callback: Callback) -> bool:
    return getattr(callback.on_batch_end, "__func__", None) is not Callback.on_batch_end


def _named(callbacks: Sequence[Callback]) -> Iterator[tuple[str, Callback]]:
    """Callbacks with the names under which checkpoints hold their state."""
    seen: dict[str, int] = {}
    for callback in callbacks:
        kind = type(callback).__name__
        seen[kind] = seen.get(kind, 0) + 1
        yield f"{kind}.{seen[kind]}", callback
