"""The learning-rate range test: how the loss answers to rates that rise from step to step."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastnn import _check
from fastnn.data import DataLoader
from fastnn.nn.module import Module
from fastnn.optim.optimizer import Optimizer
from fastnn.seed import state, twin
from fastnn.train.batches import Batch, Batches, Layout, Stream, arranged, is_stream
from fastnn.train.intake import Intake
from fastnn.train.step import TrainStep
from fastnn_ext.atomic import Meanwhile


class Trained(Protocol):
    """A `Trainer` or a `TrainStep`."""

    model: Module
    loss: Any
    optimizer: Optimizer


@dataclass(frozen=True)
class RangeTest:
    """What `lr_range_test` found; drawn by `fastnn.plotting.plot_range_test`.

    Attributes
    ----------
    lr : ndarray of float64, shape (steps,)
        The rates, of which each made an update.
    loss : ndarray of float64, shape (steps,)
        Of each batch, before its update.
    smoothed : ndarray of float64, shape (steps,)
        The losses, averaged over the steps before by a factor of 0.98.
    """

    lr: NDArray[np.float64]
    loss: NDArray[np.float64]
    smoothed: NDArray[np.float64]

    def suggestion(self, skip_begin: int = 10, skip_end: int = 1) -> float | None:
        """The rate at which the loss falls most steeply; None if there are too few steps.

        Parameters
        ----------
        skip_begin, skip_end : int, default 10 and 1
            Steps at both ends that are not looked at.
        """
        begin = _check.integer("skip_begin", skip_begin, 0)
        end = len(self.lr) - _check.integer("skip_end", skip_end, 0)
        losses = self.smoothed[begin:end]
        if len(losses) < 2 or not np.isfinite(losses).all():
            return None
        return float(self.lr[begin + int(np.gradient(losses).argmin())])


def lr_range_test(
    trainer: Trained,
    data: Any,
    min_lr: float = 1e-8,
    max_lr: float = 1.0,
    num_training: int = 100,
    mode: str = "exponential",
    early_stop_threshold: float | None = 4.0,
    batch_size: int | None = None,
    seed: int | None = None,
) -> RangeTest:
    """Train for some steps with a rate that rises, and put everything back.

    Model, optimizer, gradients, modes, random numbers and a loader's place are afterwards as they were, bit for bit,
    whatever ends the test. The rate is that of all groups.

    Parameters
    ----------
    trainer : Trainer or TrainStep
        Its model, loss and optimizer; the model is in training mode for a Trainer, else in the mode that it is in.
    data : tuple of arrays, ArrayDataset, DataLoader or iterable of batches
        As for `Trainer.fit`; begun anew as often as there are steps for it.
    min_lr, max_lr : float, default 1e-8 and 1
        The first rate and the last.
    num_training : int, default 100
        Steps.
    mode : {"exponential", "linear"}
        How the rate rises; Smith's own test is linear.
    early_stop_threshold : float or None, default 4
        The test ends when the smoothed loss is this many times its smallest value. It ends at a loss that is not
        finite, too.
    batch_size : int, default 32
    seed : int, optional
        Of the order of arrays.

    Returns
    -------
    RangeTest

    Raises
    ------
    TypeError, ValueError
        If an argument or a batch does not fit.

    References
    ----------
    L. N. Smith, "Cyclical learning rates for training neural networks", 2017, section 3.3. Arguments are those of
    PyTorch Lightning's `lr_find`.

    Examples
    --------
    >>> trainer = fn.Trainer(model, nn.CrossEntropyLoss(), opt)
    >>> found = fn.train.lr_range_test(trainer, (x, y), min_lr=1e-4, max_lr=10, num_training=50)
    >>> 1e-4 < found.suggestion() < 10
    True
    """
    if not all(hasattr(trainer, name) for name in ("model", "loss", "optimizer")):
        raise TypeError(f"trainer must be a Trainer or a TrainStep, got {_check.kind_of(trainer)}")
    low, high = _check.real("min_lr", min_lr, 0), _check.real("max_lr", max_lr, 0)
    _check.choice("mode", mode, "exponential", "linear")
    steps = _check.integer("num_training", num_training, 2)
    if not low < high or (mode == "exponential" and low == 0):
        raise ValueError(f"min_lr must be above 0 and below max_lr, got {min_lr} and {max_lr}")
    limit = math.inf if early_stop_threshold is None else _check.real("early_stop_threshold", early_stop_threshold, 1)
    rates = np.geomspace(low, high, steps) if mode == "exponential" else np.linspace(low, high, steps)
    model, optimizer = trainer.model, trainer.optimizer
    step = TrainStep(model, trainer.loss, optimizer)
    batches = _again_and_again(_source(data, batch_size, seed))
    intake = Intake(model, "data")
    losses: list[float] = []
    smoothed: list[float] = []
    average = 0.0
    with Meanwhile(*_all_that_changes(trainer)):
        if not isinstance(trainer, TrainStep):
            model.train()
        for number, (rate, batch) in enumerate(zip(rates, batches, strict=False), 1):
            optimizer.lr = float(rate)
            losses.append(intake.run(batch, lambda b: float(step(*b.inputs, b.target, **b.keywords))))
            average = 0.98 * average + 0.02 * losses[-1]
            smoothed.append(average / (1 - 0.98**number))
            if not math.isfinite(losses[-1]) or (number > 1 and smoothed[-1] > limit * min(smoothed)):
                break
    return RangeTest(rates[: len(losses)], np.array(losses), np.array(smoothed))


def _source(data: Any, batch_size: int | None, seed: int | None) -> Batches:
    if isinstance(data, DataLoader) or is_stream(data):
        for name, value in {"batch_size": batch_size, "seed": seed}.items():
            if value is not None:
                raise ValueError(f"{name}: the data bring their own; leave it out")
        # A loader of the same rows with a place of its own.
        return Batches(copy.copy(data) if isinstance(data, DataLoader) else Stream("data", data), Layout())
    rows, layout, _, _ = arranged("data", data)
    order = twin()[0] if seed is None else seed
    return Batches(DataLoader(rows, 32 if batch_size is None else batch_size, shuffle=True, seed=order), layout)


def _again_and_again(batches: Batches) -> Iterator[Batch]:
    while True:
        yield from batches


def _all_that_changes(trainer: Trained) -> tuple[list[Any], list[Any], list[Any]]:
    """Entries, arrays and attributes that a step writes to."""
    modules = [*trainer.model.modules(), *(trainer.loss.modules() if isinstance(trainer.loss, Module) else ())]
    held = {id(p): p for p in (*trainer.optimizer.parameters(), *trainer.model.parameters())}
    trained = [p for p in held.values() if p._storage.flags.writeable]
    buffers = [b._storage for module in modules for b in module._buffers.values()]
    arrays = [array for p in trained for array in (p._storage, p._gradient_storage())]
    arrays += [array for array in buffers if array.flags.writeable]
    entries: list[Any] = [(vars(module), "training", vars(module)["training"]) for module in modules]
    for group in trainer.optimizer.param_groups:
        entries += [(group, "lr", group["lr"])]
        arrays += [group.hyper, *group.states.values(), *group.counters.values()]
    return entries, [*arrays, state()], [(p, "_has_grad") for p in trained]
