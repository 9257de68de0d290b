"""Evaluation: losses and metrics over a data set, and predictions for one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fastnn.data import ArrayDataset, DataLoader
from fastnn.lowering.call import to_array
from fastnn.nn.module import Module
from fastnn.train.metrics import Metric, resolve


class Evaluation(Module):
    """A model with its loss behind it: (loss, output) of inputs and a target, as one plan.

    Parameters
    ----------
    model : Module
    loss : callable
        loss(output, target), a scalar.
    metrics : sequence of str or callable
    """

    input_names = ("input", "target")

    def __init__(self, model: Module, loss: Any, metrics: Sequence[str | Metric] = ()) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self._metrics = resolve(metrics)

    def forward(self, *args: Any) -> Any:
        output = self.model(*args[:-1])
        return self.loss(output, args[-1]), output

    def measure(self, data: Any, batch_size: int | None = None) -> dict[str, float]:
        """Loss and metrics of data in evaluation mode; see `Trainer.evaluate`."""
        means = Means()
        with mode(self.model, False):
            for batch in in_order("data", data, batch_size):
                loss, output = self(*with_target(batch))
                means.add(loss, output, batch, self._metrics)
        return means.logs()


def predict(model: Module, x: Any, batch_size: int = 256) -> Any:
    """The model's output in evaluation mode; see `Trainer.predict`."""
    inputs = x if isinstance(x, tuple) else (x,)
    names = ["x"] if len(inputs) == 1 else [f"x[{i}]" for i in range(len(inputs))]
    arrays = tuple(to_array(a, name) for a, name in zip(inputs, names, strict=True))
    with mode(model, False):
        return _joined([model(*batch) for batch in DataLoader(arrays, batch_size)])


class Means:
    """Running means of the loss and the metrics, each batch weighted by its size."""

    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        self.samples: int = state["samples"] if state else 0
        self.sums: dict[str, float] = dict(state["sums"]) if state else {}

    def add(
        self, loss: float, output: Any, batch: tuple[Any, ...], metrics: Mapping[str, Metric]
    ) -> None:
        count = len(batch[0])
        values = {"loss": loss}
        values |= {name: float(metric(output, batch[-1])) for name, metric in metrics.items()}
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value * count
        self.samples += count

    def logs(self) -> dict[str, float]:
        return {name: total / self.samples for name, total in self.sums.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"samples": self.samples, "sums": dict(self.sums)}


@contextlib.contextmanager
def mode(model: Module, training: bool) -> Iterator[None]:
    """Training or evaluation mode for a while; then each module has its own again."""
    before = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, flag in before:
            if module.training is not flag:
                module.training = flag


def as_dataset(name: str, data: Any) -> Any:
    """(x, y) as an ArrayDataset; a data set as it is."""
    if isinstance(data, (tuple, list)):
        if len(data) < 2:
            raise ValueError(
                f"{name}: expected inputs and a target, (x, y); got {len(data)} of them"
            )
        return ArrayDataset(*(to_array(a, f"{name}[{i}]") for i, a in enumerate(data)))
    is_dataset = hasattr(data, "__len__") and hasattr(data, "__getitem__")
    if not is_dataset or hasattr(data, "__array__"):
        raise TypeError(
            f"{name}: expected (x, y), an ArrayDataset or a DataLoader, got {type(data).__name__}"
        )
    return data


def in_order(name: str, data: Any, batch_size: int | None = None) -> DataLoader:
    """A loader of data as it stands; a given loader as it is."""
    if isinstance(data, DataLoader):
        if batch_size is not None:
            raise ValueError("batch_size: the DataLoader brings its own; leave it out")
        return data
    return DataLoader(as_dataset(name, data), 256 if batch_size is None else batch_size)


def with_target(batch: tuple[Any, ...]) -> tuple[Any, ...]:
    """The batch, if it holds inputs and a target."""
    if len(batch) < 2:
        raise ValueError("data: expected inputs and a target in each batch, got one array")
    return batch


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
