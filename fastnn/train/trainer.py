"""Trainer: fit, evaluate and predict around a TrainStep."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fastnn import _check
from fastnn.data import DataLoader
from fastnn.data.order import as_seed
from fastnn.files import write_atomically
from fastnn.nn.module import Module
from fastnn.nn.parameter import Parameter, marks
from fastnn.optim.optimizer import Optimizer
from fastnn.seed import set_rng_state, twin
from fastnn.train.averaging import averaged as averaged_model
from fastnn.train.batches import (
    Batch,
    Batches,
    Features,
    Layout,
    Stream,
    arranged,
    check_features,
    features_of,
    in_order,
    is_stream,
    loader_weights,
    resumed_features,
    saved_features,
)
from fastnn.train.callbacks import Callback, History, ProgressBar, TerminateOnNaN
from fastnn.train.checkpoint import no_position, prepare, save_checkpoint
from fastnn.train.evaluation import (
    Evaluation,
    Means,
    Parts,
    predict,
)
from fastnn.train.intake import Intake
from fastnn.train.metrics import Metric
from fastnn.train.progress import (
    Before,
    Ending,
    chosen,
    named,
    names_of,
    overriding,
    resumed_ending,
    saved_ending,
    start_of,
)
from fastnn.train.step import TrainStep, describe_parts
from fastnn_ext.atomic import Calls, Meanwhile, commit
from fastnn_ext.plan import NotFiniteError, Receipt


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
        Names ("accuracy", "precision", "recall", "f1", "roc_auc", "r2", "mean_absolute_error",
        "mean_squared_error"), `fn.train.metrics.top_k(5)`, or functions of a batch's output and target that give a
        mean over its samples. Accuracy and top_k leave out the labels that the loss ignores (its `ignore_index`). What
        is no mean over batches, as are roc_auc, r2, and precision, recall and f1 of several classes, is measured of
        validation data and by `evaluate`. Default: what goes with the loss, accuracy for losses of classes, and
        nothing for others.
    accumulate : int, default 1
        Batches whose gradients an update is made of, as `TrainStep(accumulate=)`. Those that wait for it when an epoch
        ends, or `fit`, are part of the next update, and of checkpoints.

    Attributes
    ----------
    history : History
        Of the last `fit`.
    step : int
        Updates that the optimizer has made.
    accumulate, gathered : int
        Batches an update, and those whose gradients wait for the next one.
    epoch, epochs : int
        Whole epochs done, and after how many `fit` ends.
    batch, batches : int
        Batches done of this epoch, and batches an epoch (0 while that is not known of an iterable).
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
        accumulate: int = 1,
    ) -> None:
        self._evaluation = Evaluation(model, loss, metrics)
        self._measures = self._evaluation.measures
        # Each update leaves its loss here as it is made: wherever Ctrl-C strikes, it can be counted.
        self._receipt = Receipt()
        settings: dict[str, Any] = dict(outputs=bool(self._measures.by_batch), accumulate=accumulate)
        self._train_step = TrainStep(model, loss, optimizer, finite=True, **settings)
        # For batches that are trained on although their loss is not finite.
        self._unchecked_step = TrainStep(model, loss, optimizer, **settings)
        self._unchecked_step._gathered = self._train_step._gathered
        self._train_step._receipt = self._unchecked_step._receipt = self._receipt
        self.model = model
        self.loss = loss
        self.optimizer = optimizer
        self.history = History()
        self.epochs = self.batches = 0
        self.seconds = 0.0
        self.stop_training = False
        # What follows is assigned by one bytecode or by one commit at each turn, so that a checkpoint may be
        # written between any two bytecodes.
        self._position = (0, self._done)  # this epoch, and the batches done before its first one
        self._means = Means()
        self._batch: Batch | None = None  # that the step under way, or made last, trains on
        self._told = Calls("on_batch_end", ())  # of the update that is its number
        self._ending: Ending | None = None
        self._before: Before | None = None
        self._halted: tuple[Callback, dict[str, Any]] | None = None  # that an exception has left, and its state before
        self._intake = Intake(model, "data")
        self._features: Features = {}  # of the DataFrames that the model was trained on
        self._loader: DataLoader | None = None
        self._data: Batches | None = None  # of the loader
        self._loader_lead = 0  # the loader's epoch less ours
        self._validation: DataLoader | None = None  # if it is the user's own, whose order and augmentation go on
        self._callbacks: list[Callback] = []  # none until they have begun
        self._averages: Evaluation | None = None  # of a copy of the model, for averaged weights
        self._source: str | None = None  # the checkpoint that `fit` has yet to load
        self._running = False

    def __repr__(self) -> str:
        parts = describe_parts(self.model, self.loss, self.optimizer)
        metrics = ", ".join(self._measures.metrics)
        return f"Trainer({parts}, metrics=[{metrics}], epoch={self.epoch}, step={self.step})"

    @property
    def step(self) -> int:
        return self.optimizer.param_groups[0].steps

    @property
    def accumulate(self) -> int:
        return self._train_step.accumulate

    @property
    def gathered(self) -> int:
        return int(self._train_step._gathered[0]) if self._train_step.accumulate > 1 else 0

    @property
    def _done(self) -> int:
        """Batches that the optimizer has been given, of this training or before."""
        return self.step * self._train_step.accumulate + self.gathered

    @property
    def epoch(self) -> int:
        return self._position[0]

    @property
    def batch(self) -> int:
        return self._done - self._position[1]

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
        *,
        validation_split: float = 0.0,
        sample_weight: Any = None,
        class_weight: Any = None,
        drop_last: bool = False,
        steps_per_epoch: int | None = None,
    ) -> History:
        """Train until `epochs` epochs are done.

        Parameters
        ----------
        data : tuple of arrays, data set, DataLoader or iterable of batches
            The model's inputs, and last the loss's target. In a tuple, arrays in a dict are inputs by name:
            ``({"tokens": t, "mask": m}, y)``. An iterable, such as a generator, gives such tuples, of a batch each; a
            data set, PyTorch's or Hugging Face's too, samples or batches of them. Arrays may be memory maps, tensors,
            DataFrames, whose columns are known by name from then on, and sparse matrices. Numbers become the model's
            dtype: `fastnn.data.dtypes` has the rule.
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
        validation_split : float, default 0.0
            The share of the rows, the last ones before they are shuffled, that are validated on and not trained on.
        sample_weight : array (N,), optional
            The weight of each sample of arrays in the loss, or (N, d1, ...) of each of its labels. As in Keras a step
            minimizes the sum of the losses times their weights, divided by what a mean without weights divides by; the
            losses shown are means weighted by them. Metrics are not weighted.
        class_weight : dict of int to float, or "balanced", optional
            What samples weigh by their class, 1 where it is not named; times `sample_weight`. "balanced" weighs classes
            by samples / (classes * samples of the class), as scikit-learn does. Not for validation.
        drop_last : bool, default False
            Leave out an epoch's last batch if it is smaller than the others.
        steps_per_epoch : int, optional
            Batches of an iterable that make an epoch; the next epoch goes on from there. Default: all.

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
            On Ctrl-C. Each step was made as a whole or not at all, and `save_checkpoint` may be called: resumed, what
            it has written comes to the same bits as the run without Ctrl-C. For callbacks of one's own, see
            `callbacks.Callback`.

        Notes
        -----
        Losses and metrics are means over the epoch, as if it were one batch (a loss that is a sum is
        summed up). Those of the training data are taken while the weights change. Modules are in
        training mode while they train, and then again in the mode that each was in.

        A resumed run takes the batches of an iterable that were done before from it, and leaves them out: it must give
        the same ones again.

        Examples
        --------
        >>> trainer = fn.Trainer(model, nn.CrossEntropyLoss(), opt)
        >>> history = trainer.fit((x, y), validation_split=0.25, class_weight="balanced", verbose=False)
        >>> sorted(name for name in history.history if "loss" in name)
        ['loss', 'val_loss']
        """
        self._source = None if resume is None else os.fspath(resume)
        epochs = _check.integer("epochs", epochs, 0)
        first = _check.count("initial_epoch", initial_epoch)
        if resume is not None and first:
            raise ValueError("initial_epoch: the checkpoint of resume= knows its own; leave it out")
        settings = {"batch_size": batch_size, "shuffle": shuffle, "seed": seed, "drop_last": drop_last or None}
        weights = {"sample_weight": sample_weight, "class_weight": class_weight}
        source, split, drawn = self._training_data(data, settings, weights, validation_split, steps_per_epoch, first)
        loader = source.loader
        if isinstance(loader, Stream):
            features: Features = loader.features  # which its first batch adds to
        else:
            features = {**self._features, **features_of(loader.dataset, source.layout)}
        validation = validation_data
        if validation is not None:
            if split is not None:
                raise ValueError("validation_split: there is validation_data; leave one of them out")
            validation = in_order("validation_data", validation, features=features)
        history, (loader_epoch, batch) = History(), loader._next()
        chain = _chain(history, callbacks, _verbosity(verbose))
        self._become(
            # What a checkpoint brings is not drawn.
            entries=drawn if resume is None else [],
            history=history,
            epochs=epochs,
            batches=len(loader),
            stop_training=False,
            _position=(first, self._done - batch),
            _means=Means(runs=self._receipt.runs),
            _batch=None,
            _told=Calls("on_batch_end", (), self._receipt.runs),
            _ending=None,
            _before=None,
            _halted=None,
            _intake=Intake(self.model, "data"),
            _features=features,
            _loader=loader,
            _data=source,
            _loader_lead=loader_epoch - first,
            _validation=validation_data
            if isinstance(validation_data, DataLoader) and validation_data is not loader
            else None,
            _callbacks=[],
        )
        modes = [(vars(module), "training", module.training) for module in self.model.modules()]
        with Meanwhile([*modes, (vars(self), "_running", True)]):
            self._train(chain, split if validation is None else validation, bool(drawn))
        return self.history

    def _train(self, chain: list[Callback], validation: Batches | None, seed_drawn: bool) -> None:
        """What `fit` does once all is in its place."""
        try:
            self.model.train()
            for callback in chain:
                callback.trainer = self
                callback.on_train_begin()
            if self._source is None:
                self._callbacks = chain
            else:
                self._resume(self._source, chain, seed_drawn)
            if self._ending is not None:
                self._end_epoch()
            # An epoch under way is brought to its end.
            while self.epoch < self.epochs and (self.batch or not self.stop_training):
                if not self._run_epoch(validation):
                    break
            for callback in chain:
                callback.on_train_end()
        except BaseException:
            self._settle()
            raise
        finally:
            for callback in chain:
                callback.close()

    def evaluate(
        self, data: Any, batch_size: int | None = None, sample_weight: Any = None, averaged: bool = False
    ) -> dict[str, float]:
        """Loss and metrics in evaluation mode.

        Parameters
        ----------
        data : tuple of arrays, ArrayDataset, DataLoader or iterable of batches
            As for `fit`.
        batch_size : int, default 256
            How many samples are computed at a time; a DataLoader brings its own.
        sample_weight : array, optional
            As for `fit`: the loss is then the weighted mean.
        averaged : bool, default False
            Of the averaged weights, where the optimizer keeps an average (see `callbacks.Averaging`).

        Returns
        -------
        dict of str to float
            ``loss`` and each metric, over the whole set whatever the batch size; NaN, with a warning,
            where nothing counts, such as ignored labels alone.
        """
        evaluation = self._of_averages() if _check.flag("averaged", averaged) else self._evaluation
        return evaluation.measure(data, batch_size, sample_weight, self._features)

    def predict(self, x: Any, batch_size: int = 256, averaged: bool = False) -> Any:
        """The model's output in evaluation mode.

        Parameters
        ----------
        x : array, or for a model of several inputs a tuple of arrays, or a dict of those with names; or a data set
            Anything that `fit` takes; the target of a data set, the last one of its arrays, is left out.
        batch_size : int, default 256
            How many samples are computed at a time.
        averaged : bool, default False
            By the averaged weights, where the optimizer keeps an average (see `callbacks.Averaging`).

        Returns
        -------
        array, or tuple, list or dict of arrays
            What the model returns, for all samples.
        """
        model = self._of_averages().model if _check.flag("averaged", averaged) else self.model
        return predict(model, x, batch_size, self._features)

    def _of_averages(self) -> Evaluation:
        """The present averages."""
        if self._averages is None:
            evaluation = Evaluation(averaged_model(self.model, self.optimizer), self.loss, [])
            evaluation.measures = self._measures
            self._averages = evaluation
        else:
            averaged_model(self.model, self.optimizer, self._averages.model)
        return self._averages

    def save_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint that `fit` can go on from.

        Callbacks may do so whenever they are called, and whoever has caught what ended `fit`, Ctrl-C included.

        Parameters
        ----------
        path : path-like

        Raises
        ------
        OSError
            If the file cannot be written; a file that was there stays.

        Notes
        -----
        Where `fit` ended before it had loaded the checkpoint that it was to go on from, that one is written.
        """
        if self._source is not None:
            with open(self._source, "rb") as file:
                write_atomically(path, file.read())
            return
        if not self._running:
            self._settle()
        position = None
        if self._loader is not None:
            # Where the training is: the loader may have handed out a batch more.
            place = {"epoch": self.epoch + self._loader_lead, "batch": self.batch}
            position = {**self._loader.state_dict(), **place}
        plain: dict[str, Any] = {}
        arrays: dict[str, np.ndarray[Any, Any]] = {}
        halted, before = self._halted or (None, {})
        for name, callback in named(self._callbacks):
            state = before if callback is halted else callback.state_dict()
            plain[name] = {k: v for k, v in state.items() if not isinstance(v, np.ndarray)}
            arrays |= {f"{name}/{k}": v for k, v in state.items() if isinstance(v, np.ndarray)}
        waiting = self.gathered
        if waiting:
            arrays |= {f"gathered/{i}": p._gradient_storage() for i, p in enumerate(self._gathering()) if p._has_grad}
        untold = self._told.left() if self._told.number == self._receipt.runs else self._followers()
        save_checkpoint(
            path,
            self.model,
            self.optimizer,
            step=self.step,
            epoch=self.epoch,
            history={"epoch": self.history.epoch, **self.history.history},
            loader=position,
            extra={
                "means": self._counted().state_dict(),
                "gathered": {"batches": waiting, "accumulate": self._train_step.accumulate},
                "callbacks": plain,
                "untold": names_of(untold, self._callbacks),  # that have yet to hear of the last batch
                "features": saved_features(self._features),
                "ending": saved_ending(self._ending, self.seconds, self._callbacks),
                "validation": None if self._validation is None else start_of(self._validation),
            },
            arrays=arrays,
        )

    def _resume(self, path: str, chain: list[Callback], seed_drawn: bool) -> None:
        """Go to where a checkpoint is; refused, all but the callbacks' states is as before."""
        loader = self._loader
        assert loader is not None
        try:
            prepared = prepare(path, self.model, self.optimizer, loader)
            extra, place = prepared.info["extra"], prepared.content["loader"]
            steps = prepared.content["optimizer"]["groups"][0]["steps"]
            try:
                history = dict(prepared.info["history"])
                epochs = _check_history(history)
                means = Means(extra.get("means"), self._receipt.runs)
                others = means.sums.keys() - {"loss", *self._measures.metrics}
                if others:
                    raise ValueError(f"means['sums'] has {_check.some(others)}, which this trainer does not measure")
                states = _callback_states(chain, extra.get("callbacks", {}), prepared.info["arrays"])
                untold = chosen("untold", extra.get("untold", []), chain)
                gathered = self._gathered_state(extra.get("gathered"), prepared.info["arrays"])
                ending, seconds = resumed_ending(extra.get("ending"), chain)
                validated = self._validation_state(extra.get("validation"))
                features = resumed_features(extra.get("features"), self._features)
            except (TypeError, ValueError, RecursionError) as error:
                raise ValueError(f"{prepared.name} does not fit: {error}") from None
            if place is None:
                # Of a training that had not begun: it begins here, with the file's random numbers.
                if prepared.info["epoch"] or epochs:
                    raise no_position(prepared.name)
                place = dict(zip(("epoch", "batch"), loader._next(), strict=True))
                if seed_drawn:
                    prepared.attributes.append((loader, "seed", as_seed(prepared.generator)))
            for name, callback, state in states:
                try:
                    callback.load_state_dict(state)
                except Exception as error:
                    what = f"{prepared.name} does not fit: callbacks[{name!r}]"
                    raise ValueError(f"{what}: {_check.brief(error)}") from error
        except Exception:
            self._source = None
            raise
        if isinstance(loader, Stream):
            prepared.attributes.append((loader, "features", features))
        epoch = prepared.info["epoch"]
        prepared.copies += gathered[0]
        prepared.attributes += [
            *validated,
            *gathered[1],
            (self.history, "epoch", epochs),
            (self.history, "history", history),
            (self, "seconds", seconds),
            (self, "_position", (epoch, steps * self._train_step.accumulate + gathered[2] - place["batch"])),
            (self, "_loader_lead", place["epoch"] - epoch),
            (self, "_means", means),
            (self, "_told", Calls("on_batch_end", untold, self._receipt.runs)),
            (self, "_ending", ending),
            (self, "_callbacks", chain),
            (self, "_features", features),
            (self, "_source", None),
        ]
        prepared.commit()

    def _gathering(self) -> list[Parameter]:
        return list(self.optimizer.parameters())

    def _gathered_state(self, saved: Any, arrays: dict[str, Any]) -> tuple[list[Any], list[Any], int]:
        """What a checkpoint's gradients that wait for an update are copied to, and which there are; their batches."""
        every, params = self._train_step.accumulate, self._gathering()
        saved = {"batches": 0, "accumulate": every} if saved is None else saved
        if not isinstance(saved, dict) or saved.keys() != {"batches", "accumulate"}:
            raise ValueError(f"gathered must hold batches and accumulate, got {_check.brief(saved)}")
        count = _check.integer("gathered['batches']", saved["batches"], 0, _check.LARGEST_COUNT)
        if count and saved["accumulate"] != every:
            raise ValueError(
                f"gathered: gradients of {count} batches wait for an update of {_check.brief(saved['accumulate'])}, "
                f"and this trainer has accumulate={every}"
            )
        if count > every:
            raise ValueError(f"gathered: {count} batches of {every}")
        copies: list[Any] = [(self._train_step._gathered, np.full(1, float(count)))]
        present = []
        for i, p in enumerate(params if count else []):
            array = arrays.get(f"gathered/{i}")
            if array is None:
                continue
            target = p._gradient_storage()
            if (array.dtype, array.shape) != (target.dtype, target.shape):
                raise ValueError(f"gathered: gradient {i} is {array.dtype} {_check.brief(array.shape)}")
            copies.append((target, array))
            present.append(p)
        return copies, marks(present, [p for p in params if p not in present]) if count else [], count

    def _validation_state(self, saved: Any) -> list[tuple[Any, str, Any]]:
        """What a checkpoint gives to the loader of the validation data."""
        if saved is None or self._validation is None:
            return []
        if not isinstance(saved, dict) or saved.keys() != {"seed", "epoch"}:
            raise ValueError(f"validation must hold seed and epoch, got {_check.brief(saved)}")
        try:
            return self._validation._staged({**self._validation.state_dict(), **saved, "batch": 0})
        except (TypeError, ValueError) as error:
            raise ValueError(f"validation: {error}") from None

    def _become(self, entries: Sequence[tuple[dict[str, Any], str, Any]] = (), **attributes: Any) -> None:
        """Assign attributes, and entries of dicts, in one piece that no interrupt cuts."""
        commit([], list(entries), [(self, name, value) for name, value in attributes.items()])

    def _run_epoch(self, validation: Batches | None) -> bool:
        """An epoch, or what is left of it; False if it ends early."""
        epoch, data, receipt, means = self.epoch, self._data, self._receipt, self._means
        assert data is not None
        self._train_step._update_if_due()  # in a resumed run
        for callback in self._callbacks:
            callback.on_epoch_begin(epoch)
        if self._told.left():  # in a resumed run
            self._told.rest(self.batch - 1, means.logs())
        followers = self._followers()
        told = self._told = Calls("on_batch_end", followers, receipt.runs, len(followers))
        samples = means.samples
        start = time.perf_counter()
        for number, batch in enumerate(data, self.batch):
            if not self._intake.run(batch, self._update):
                return False
            means.waiting.append(self._measured())
            if followers or len(means.waiting) == 64:
                self._means = means = means.folded()
            if followers:
                told.again(receipt.runs)
                told.rest(number, means.logs())
        self.seconds = max(time.perf_counter() - start, 1e-9)
        self._means = means = means.folded()
        logs = means.final(stacklevel=5)
        if validation is not None:
            self._before = Before.validation(self.history, self.optimizer, self._validation)
            logs |= {f"val_{name}": value for name, value in self.evaluate(validation).items()}
        logs["samples_per_second"] = (means.samples - samples) / self.seconds
        calls = Calls("on_epoch_end", overriding("on_epoch_end", self._callbacks))
        # What a checkpoint written from here on says: this epoch is done, but for calls of callbacks.
        self._become(
            _position=(epoch + 1, self._done),
            batches=self.batches or self.batch,
            _means=Means(runs=receipt.runs),
            _batch=None,
            _ending=Ending(epoch, logs, calls),
            _before=None,
        )
        self._end_epoch()
        return True

    def _end_epoch(self) -> None:
        """Call on_epoch_end of the callbacks that have yet to hear of it."""
        ending = self._ending
        assert ending is not None
        for _ in ending.calls.left():
            self._before = Before.call(ending, self.history, self.optimizer, self._validation)
            ending.calls.next(ending.epoch, ending.logs)
        self._become(_ending=None, _before=None)

    def _followers(self) -> list[Callback]:
        """The callbacks that want to hear of each batch."""
        return [
            callback
            for callback in overriding("on_batch_end", self._callbacks)
            if not isinstance(callback, ProgressBar) or callback.shows
        ]

    def _measured(self) -> tuple[dict[str, Parts], int]:
        """What the last update gave, and of how many samples."""
        batch = self._batch
        assert batch is not None
        result = self._receipt.result()
        loss, output = result if self._measures.by_batch else (result, None)
        return self._measures.of(loss, output, batch), batch.samples

    def _counted(self) -> Means:
        """The means of all updates of this epoch, the last included if it has been made and not counted."""
        means = self._means.folded()
        if means.runs < self._receipt.runs and self._batch is not None:
            with contextlib.suppress(Exception):  # of a metric: `fit` has ended with it
                means.add(*self._measured())
        return means

    def _settle(self) -> None:
        """Put back what an exception has left halfway."""
        before, ending = self._before, self._ending
        if before is None or before.done != (-1 if ending is None else ending.calls.done):
            return
        world, history = before.world, self.history
        if world is not None:
            set_rng_state(world.random.plain())
            for group, settings in zip(self.optimizer.param_groups, world.settings, strict=False):
                group.update({name: value for name, value in settings.items() if group[name] != value})
            commit([], [], self._validation_state(world.validation))
        lengths = before.lengths
        logs = {name: values[: lengths[name]] for name, values in history.history.items() if name in lengths}
        commit([], [], [(history, "epoch", history.epoch[: before.epochs]), (history, "history", logs)])
        if ending is None:
            self._become(_before=None)
        else:
            halted = ending.calls.left()[0], before.state
            self._become(_before=None, _ending=replace(ending, logs=before.logs), _halted=halted)

    def _update(self, batch: Batch) -> bool:
        """Make a step; False if training ends because its loss is not finite."""
        self._batch = batch
        args, keywords = (*batch.inputs, batch.target), batch.keywords
        if batch.weight is not None:
            keywords = {**keywords, "sample_weight": batch.weight}
        try:
            self._train_step(*args, **keywords)
        except NotFiniteError:
            guard = next(c for c in self._callbacks if isinstance(c, TerminateOnNaN))
            if guard.action == "ignore" or self._measures.counts_nothing(batch):
                self._unchecked_step(*args, **keywords)
                return True
            value, reason = self._train_step.diagnose(*args, **keywords)
            guard.terminate(
                f"the loss is {value} in epoch {self.epoch + 1}, batch {self.batch + 1}: {reason}; the parameters "
                "are as they were before this batch"
            )
            return False
        return True

    def _training_data(
        self,
        data: Any,
        settings: dict[str, Any],
        weights: dict[str, Any],
        validation_split: float,
        steps: int | None,
        epoch: int,
    ) -> tuple[Batches, Batches | None, list[Any]]:
        """What to train and to validate on, and what is to be committed for a seed to have been drawn from the default
        source."""
        ignored = getattr(self.loss, "ignore_index", None)
        streams = is_stream(data)
        if steps is not None:
            if not streams:
                raise ValueError("steps_per_epoch is for an iterable of batches; other data have an end")
            _check.integer("steps_per_epoch", steps, 1)
        if streams or isinstance(data, DataLoader):
            own = {**settings, "sample_weight": weights["sample_weight"], "validation_split": validation_split or None}
            for name, value in own.items():
                if value is not None:
                    raise ValueError(
                        f"{name}: the {'iterable' if streams else 'DataLoader'} brings its own; leave it out"
                    )
            loader = Stream("data", data, steps, self._features) if streams else data
            check_features("data", loader.dataset, self._features)
            return Batches(loader, Layout(), loader_weights(loader, weights["class_weight"], ignored)), None, []
        rows, layout, classes, validation = arranged(
            "data", data, **weights, validation_split=validation_split, ignore_index=ignored, features=self._features
        )
        drawn: list[Any] = []
        given = {name: value for name, value in settings.items() if value is not None}
        if "seed" not in given:
            given["seed"], drawn = twin()
        loader = DataLoader(rows, **{"batch_size": 32, "shuffle": True, **given})
        loader.load_state_dict({**loader.state_dict(), "epoch": epoch})
        return Batches(loader, layout, classes), validation, drawn


def _callback_states(
    callbacks: Sequence[Callback], saved: Any, arrays: dict[str, Any]
) -> list[tuple[str, Callback, dict[str, Any]]]:
    """The state that a checkpoint holds for each callback, found to fit."""
    if not isinstance(saved, dict):
        raise ValueError(f"callbacks must be a table, got {_check.brief(saved)}")
    states = []
    for name, callback in named(callbacks):
        if name in saved:
            if not isinstance(saved[name], dict):
                raise ValueError(f"callbacks[{name!r}] must be a table, got {_check.brief(saved[name])}")
            own = {k.removeprefix(f"{name}/"): v for k, v in arrays.items() if k.startswith(f"{name}/")}
            states.append((name, callback, {**saved[name], **own}))
            try:
                callback.check_state(states[-1][2])
            except (TypeError, ValueError) as error:
                raise ValueError(f"callbacks[{name!r}]: {error}") from None
    return states


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


def _chain(history: History, callbacks: Sequence[Callback], verbose: int) -> list[Callback]:
    if isinstance(callbacks, Callback):
        raise TypeError(f"callbacks: expected a list of callbacks, got one {type(callbacks).__name__}; put it into []")
    if not isinstance(callbacks, Iterable):
        raise TypeError(f"callbacks: expected a list of callbacks, got {_check.kind_of(callbacks)}")
    chain = [history, *callbacks]
    for callback in chain:
        if not isinstance(callback, Callback):
            raise TypeError(f"callbacks: expected Callback objects, got {_check.kind_of(callback)}")
    if not any(isinstance(c, TerminateOnNaN) for c in chain):
        chain.append(TerminateOnNaN())
    if verbose and not any(isinstance(c, ProgressBar) for c in chain):
        chain.append(ProgressBar(bar=verbose == 1))
    # Checkpoints hold what the other callbacks have made of the epoch, so they come after them. The
    # epoch's line is printed last: what has been seen is on the disk.
    return sorted(chain, key=lambda callback: callback.order)
