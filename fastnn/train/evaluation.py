"""Evaluation: losses and metrics over a data set, and predictions for one."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from fastnn import _check
from fastnn.nn.loss import Loss
from fastnn.nn.module import Module
from fastnn.train.batches import Batch, Features, in_order, inputs_in_order
from fastnn.train.intake import Intake
from fastnn.train.metrics import IGNORE_INDEX, Metric, divided, is_of_whole, resolve, usual
from fastnn.train.weighting import denominator, shares, weighted_sum


class Evaluation(Module):
    """A model with its loss behind it: (loss, output) of inputs and a target, as one plan.

    Parameters
    ----------
    model : Module
    loss : callable
        loss(output, target), a scalar.
    metrics : sequence of str or callable, optional
        Default: what goes with the loss.
    """

    input_names = ("input", "target")

    def __init__(self, model: Module, loss: Any, metrics: Sequence[str | Metric] | None = None) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.measures = Measures(loss, metrics)

    def forward(self, *args: Any, sample_weight: Any = None, **keywords: Any) -> Any:
        output = self.model(*args[:-1], **keywords)
        if sample_weight is None:
            return self.loss(output, args[-1]), output
        return weighted_sum(self.loss, output, args[-1], sample_weight), output

    def measure(
        self, data: Any, batch_size: int | None = None, sample_weight: Any = None, features: Features | None = None
    ) -> dict[str, float]:
        """Loss and metrics of data in evaluation mode; see `Trainer.evaluate`."""
        means, intake = Means(), Intake(self.model, "data")
        wholes: dict[str, list[tuple[Any, Any]]] = {}
        for given in in_order("data", data, batch_size, sample_weight, features):
            batch, loss, output = intake.run(given, self._measured)
            means.add(self.measures.of(loss, output, batch), batch.samples)
            for name in self.measures.wholes(output, batch):
                wholes.setdefault(name, []).append((output, batch.target))
        logs = means.final()
        for name, pairs in wholes.items():
            outputs, targets = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
            logs[name] = self.measures.whole(name, outputs, targets)
        return {name: logs[name] for name in ("loss", *self.measures.metrics) if name in logs}

    def _measured(self, batch: Batch) -> tuple[Batch, float, Any]:
        """A batch with its loss and output."""
        keywords = batch.keywords
        if batch.weight is not None:
            keywords = {**keywords, "sample_weight": shares(self.loss, batch.target, batch.weight)}
        loss, output = self.evaluated(*batch.inputs, batch.target, **keywords)
        return batch, loss, output


def predict(model: Module, x: Any, batch_size: int = 256, features: Features | None = None) -> Any:
    """The model's output in evaluation mode; see `Trainer.predict`."""
    intake = Intake(model, "x")

    def output(batch: Batch) -> Any:
        return model.evaluated(*batch.inputs, **batch.keywords)

    return _joined([intake.run(batch, output) for batch in inputs_in_order("x", x, batch_size, features)])


#: A total and what to divide it by, which is None for a plain total.
Parts: TypeAlias = tuple[float, float | None]


class Measures:
    """What a batch says of a model: its loss and metrics, in parts that add up over batches.

    A loss's denominator is what its method of that name says, without one the number of samples; a
    metric's is that of its `parts`, without them the number of samples.

    Parameters
    ----------
    loss : callable
    metrics : sequence of str or callable, optional
        Default: what goes with the loss.
    """

    def __init__(self, loss: Any, metrics: Sequence[str | Metric] | None) -> None:
        self.loss = loss
        self.metrics = resolve(usual(loss) if metrics is None else metrics)
        #: Those that may be means over batches; the others are measured in evaluation alone.
        self.by_batch = {k: metric for k, metric in self.metrics.items() if not getattr(metric, "of_whole", False)}

    def of(self, loss: float, output: Any, batch: Batch) -> dict[str, Parts]:
        """The parts of a batch's loss, a mean weighted by its samples' weights, and of each metric by name."""
        target, samples = batch.target, batch.samples
        count = denominator(self.loss, target, samples)
        # What counts nothing has no mean: cross-entropy of ignored labels alone is NaN.
        total = loss * count if count else 0.0
        if count is not None and batch.weight is not None:
            count = denominator(self.loss, target, samples, batch.weight)
        values: dict[str, Parts] = {"loss": (loss, None) if count is None else (total, count)}
        for name, metric in self.by_batch.items():
            if not self._is_whole(name, metric, output, target):
                values[name] = self._parts(name, metric, output, target, samples)
        return values

    def wholes(self, output: Any, batch: Batch) -> list[str]:
        """The metrics that are no means over batches, and so no parts of `of`."""
        return [name for name, metric in self.metrics.items() if self._is_whole(name, metric, output, batch.target)]

    def whole(self, name: str, output: Any, target: Any) -> float:
        """A metric of all samples."""
        metric = self.metrics[name]
        if not getattr(metric, "of_classes", False):
            return float(metric(output, target))
        ignored = getattr(self.loss, "ignore_index", IGNORE_INDEX)
        return float(metric(*self._answers(output, target), ignore_index=ignored))

    def _is_whole(self, name: str, metric: Metric, output: Any, target: Any) -> bool:
        if not hasattr(metric, "of_whole") and not hasattr(metric, "of_whole_classes"):
            return False
        _check_one_output(name, output)
        return is_of_whole(metric, output, target)

    def _answers(self, output: Any, target: Any) -> tuple[Any, Any]:
        """What metrics of classes compare."""
        if not isinstance(self.loss, Loss):
            return output, target
        return self.loss.scores(output), self.loss.classes(target)

    def counts_nothing(self, batch: Batch) -> bool:
        """Whether the loss of a batch is a mean of nothing."""
        return denominator(self.loss, batch.target, batch.samples) == 0

    def _parts(self, name: str, metric: Metric, output: Any, target: Any, samples: int) -> Parts:
        parts: Callable[..., Parts] | None = getattr(metric, "parts", None)
        if parts is not None:
            _check_one_output(name, output)
        if parts is None:
            value = metric(output, target)
            try:
                return float(value) * samples, samples
            except (TypeError, ValueError):
                raise TypeError(f"metrics: {name} gave {_check.brief(value)}; expected a number") from None
        if getattr(metric, "of_classes", False):
            output, target = self._answers(output, target)
        return parts(output, target, getattr(self.loss, "ignore_index", IGNORE_INDEX))


def _check_one_output(name: str, output: Any) -> None:
    if not isinstance(output, np.ndarray):
        held = f"a {type(output).__name__}{f' of {len(output)}' if hasattr(output, '__len__') else ''}"
        raise TypeError(
            f"metrics: {name} compares one output with the target, and the model returns {held}; give metrics=[] "
            "or functions of your own, metric(output, target)"
        )


class Means:
    """Running means of the loss and the metrics: totals, and what they are divided by.

    Attributes
    ----------
    runs : int
        Of a Receipt; those that the totals hold are the ones up to it.
    waiting : list of (dict of str to Parts, int)
        What the runs after that gave, and of how many samples: one is counted as it is appended.
    """

    __slots__ = ("counts", "runs", "samples", "sums", "waiting")

    def __init__(self, state: Mapping[str, Any] | None = None, runs: int = 0) -> None:
        self.runs = runs
        self.waiting: list[tuple[dict[str, Parts], int]] = []
        self.samples = 0
        self.sums: dict[str, float] = {}
        self.counts: dict[str, float] = {}
        if state is not None:
            known = {"samples", "sums", "counts"}
            if not isinstance(state, Mapping) or not known - {"counts"} <= state.keys() <= known:
                raise ValueError(f"means must hold samples, sums and counts, got {_check.brief(state)}")
            self.samples = _check.count("means['samples']", state["samples"])
            self.sums = numbers("means['sums']", state["sums"], -math.inf, math.inf)
            # Checkpoints of before counts were kept: each batch counted by its size.
            counts = state.get("counts", dict.fromkeys(self.sums, self.samples))
            self.counts = numbers("means['counts']", counts, 0, _check.LARGEST_COUNT)
            if not self.counts.keys() <= self.sums.keys():
                others = self.counts.keys() - self.sums.keys()
                raise ValueError(f"means['counts'] has {_check.some(others)}, of which there are no sums")

    def add(self, parts: Mapping[str, Parts], samples: int) -> None:
        """Add what a batch of so many samples gave."""
        for name, (total, count) in parts.items():
            self.sums[name] = self.sums.get(name, 0.0) + total
            if count is not None:
                self.counts[name] = self.counts.get(name, 0) + count
        self.samples += samples

    def folded(self) -> Means:
        """The same with nothing waiting."""
        means = Means(None, self.runs + len(self.waiting))
        means.samples, means.sums, means.counts = self.samples, self.sums.copy(), self.counts.copy()
        for parts, samples in self.waiting:
            means.add(parts, samples)
        return means

    def logs(self) -> dict[str, float]:
        return {
            name: divided(total, self.counts[name]) if name in self.counts else total
            for name, total in self.sums.items()
        }

    def final(self, stacklevel: int = 4) -> dict[str, float]:
        """The logs of a whole pass; a warning names those for which it held nothing that counts."""
        empty = [name for name, count in self.counts.items() if not count]
        if empty:
            warnings.warn(
                f"{' and '.join(empty)} of {self.samples} samples: nothing counts, so that it is nan; are all "
                "labels ignored, or do their classes weigh nothing?",
                RuntimeWarning,
                stacklevel=stacklevel,
            )
        return self.logs()

    def state_dict(self) -> dict[str, Any]:
        return {"samples": self.samples, "sums": dict(self.sums), "counts": dict(self.counts)}


def numbers(what: str, table: Any, minimum: float, maximum: float) -> dict[str, float]:
    """A table of numbers of a checkpoint; NaN, which a diverged loss is, only where there are no bounds."""
    if not isinstance(table, Mapping):
        raise ValueError(f"{what} must be a table of numbers, got {_check.brief(table)}")
    for name, value in table.items():
        right = type(value) in (int, float) and (minimum <= value <= maximum or maximum == math.inf)
        if not right or (type(value) is int and abs(value) > _check.LARGEST_COUNT):
            raise ValueError(f"{what}[{_check.brief(name)}] must be a number, got {_check.brief(value)}")
    return dict(table)


def _joined(parts: list[Any]) -> Any:
    """Outputs of batches as outputs of all samples."""
    first = parts[0]
    if isinstance(first, dict):
        return {key: _joined([part[key] for part in parts]) for key in first}
    if isinstance(first, (tuple, list)):
        members = [_joined([part[i] for part in parts]) for i in range(len(first))]
        return type(first)(members) if type(first) in (tuple, list) else type(first)(*members)
    if np.ndim(first) == 0:
        raise ValueError("predict: the model returns one number; expected a row for each sample")
    return np.concatenate(parts)
