"""What happens within a network while it trains: signals, gradients, weights and updates, layer by layer."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import _check
from fastnn.files import write_atomically
from fastnn.graph import Graph, Tensor, active_graph
from fastnn.lowering.cache import Programs, Recipe
from fastnn.lowering.call import flatten_result, tensors_in
from fastnn.nn.loss import Loss
from fastnn.nn.module import Module
from fastnn.seed import state
from fastnn.train.callbacks import Callback, Logs, csv_lines
from fastnn.train.checkpoint import fit_model, read_checkpoint
from fastnn_ext.atomic import Meanwhile, commit

Array = NDArray[Any]

#: Of each parameter: of its values, its gradient, and what the last update added to it; and of each layer's output.
FIGURES = (
    "weight_mean",
    "weight_std",
    "gradient_mean",
    "gradient_std",
    "update_mean",
    "update_std",
    "update_ratio",
    "activation_mean",
    "activation_std",
    "dead",
)
KINDS = ("weight", "gradient", "update", "activation")


class Signals:
    """The output of each layer for a batch, in the modes that modules are in; nothing is changed by looking.

    Parameters
    ----------
    model : Module

    Examples
    --------
    >>> outputs = fn.train.Signals(model)(xb)
    >>> [(name, output.shape) for name, output in outputs.items()]
    [('0', (32, 32)), ('1', (32, 32)), ('2', (32, 10))]
    """

    def __init__(self, model: Module) -> None:
        self.model = model
        self._programs = Programs(self._forward, _finish, model._argument_names, (model,), "the model")

    def __call__(self, *inputs: Any, **keywords: Any) -> dict[str, Array]:
        """Outputs by layers' names, in the order in which they are computed; "" is the whole model's."""
        arrays, entry = self._programs.served(inputs, keywords)
        kept = [b._storage for b in self.model.buffers() if b._storage.flags.writeable]
        # Running statistics and random numbers have their values again afterwards.
        with Meanwhile([], [*kept, state()]):
            found: dict[str, Array] = entry.rebuild(entry.program.plans[0].run(*arrays))
        return found

    def _forward(self, *tensors: Tensor, **keywords: Any) -> dict[str, Tensor]:
        self.model(*tensors, **keywords)
        names = {id(module): name for name, module in self.model.named_modules()}
        outputs: dict[str, Tensor] = {}
        seen: set[Tensor] = set(tensors)
        for module, result in active_graph().calls:
            for i, tensor in enumerate(tensors_in(result)):
                name = names.get(id(module))
                if name is None or tensor in seen or tensor.dtype.kind != "f":
                    continue
                seen.add(tensor)
                name = f"{name}[{i}]" if i else name
                again = sum(1 for other in outputs if other.partition("#")[0] == name)
                outputs[f"{name}#{again + 1}" if again else name] = tensor
        return outputs


def _finish(graph: Graph, result: Any) -> Recipe:
    tensors, rebuild = flatten_result(result, "the model")
    return Recipe([tensors], rebuild)


class Measurements:
    """Figures of each layer at some steps.

    Attributes
    ----------
    steps : ndarray of int64
        Updates made when each was taken.

    Examples
    --------
    >>> monitor = fn.train.Monitor(every=4, by="step")
    >>> trainer = fn.Trainer(model, nn.CrossEntropyLoss(), opt)
    >>> history = trainer.fit((x, y), callbacks=[monitor], verbose=False)
    >>> monitor.measurements.steps
    array([4, 8])
    >>> sorted(monitor.measurements["update_ratio"])
    ['0.bias', '0.weight', '2.bias', '2.weight']
    >>> monitor.measurements["dead"]["1"].shape
    (2,)
    """

    def __init__(self) -> None:
        self._records: list[_Record] = []

    @property
    def steps(self) -> NDArray[np.int64]:
        return np.array([record.step for record in self._records], np.int64)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, figure: str) -> dict[str, NDArray[np.float64]]:
        """A figure of each parameter or layer, a value a step; NaN where there was none.

        Parameters
        ----------
        figure : str
            ``weight_mean``, ``weight_std``, likewise of ``gradient``, ``update`` and ``activation``;
            ``update_ratio``, the norm of an update over that of the weights; ``dead``, the share of a layer's units
            (features or channels) that are 0 for the whole batch.
        """
        _check.choice("figure", figure, *FIGURES)
        names = dict.fromkeys(name for record in self._records for name in record.figures.get(figure, ()))
        return {
            name: np.array([record.figures.get(figure, {}).get(name, math.nan) for record in self._records])
            for name in names
        }

    def histogram(self, kind: str, name: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """How values are spread, step by step.

        Parameters
        ----------
        kind : {"weight", "gradient", "update", "activation"}
        name : str
            Of the parameter or layer.

        Returns
        -------
        counts : ndarray of int64, shape (steps, bins)
        edges : ndarray of float64, shape (steps, bins + 1)
        """
        _check.choice("kind", kind, *KINDS)
        tables = [record.histograms.get(f"{kind}/{name}") for record in self._records]
        rows = [table for table in tables if table is not None]
        if not rows:
            raise ValueError(f"there is no histogram of {kind} {name!r}; give Monitor bins, and see its figures' names")
        none = np.full(len(rows[0]), math.nan)
        table = np.stack([none if row is None else row for row in tables])
        counts, (low, high) = table[:, 2:], table[:, :2].T
        edges = np.linspace(low, high, counts.shape[1] + 1, axis=1)
        return np.nan_to_num(counts).astype(np.int64), edges

    def save_csv(self, path: str | os.PathLike[str]) -> None:
        """Write a line for each step and parameter or layer; the file is replaced as a whole."""
        rows: list[list[Any]] = [["step", "name", *FIGURES]]
        for record in self._records:
            names = dict.fromkeys(name for figure in FIGURES for name in record.figures.get(figure, ()))
            for name in names:
                values = [record.figures.get(figure, {}).get(name, "") for figure in FIGURES]
                rows.append([record.step, name, *values])
        write_atomically(path, csv_lines(rows).encode())

    def add(self, record: _Record) -> None:
        """Append a record; of one step the last one stays."""
        if self._records and self._records[-1].step == record.step:
            self._records[-1] = record
        else:
            self._records.append(record)

    # ---- as arrays, for checkpoints ---------------------------------------------------------------

    def _state(self) -> dict[str, Any]:
        names: dict[str, list[str]] = {}
        arrays: dict[str, Array] = {"steps": self.steps}
        for figure in FIGURES:
            if table := self[figure]:
                names[figure] = list(table)
                arrays[f"figure/{figure}"] = np.stack(list(table.values()))
        for key in dict.fromkeys(key for record in self._records for key in record.histograms):
            tables = [record.histograms.get(key) for record in self._records]
            width = next(len(table) for table in tables if table is not None)
            none = np.full(width, math.nan)
            arrays[f"histogram/{key}"] = np.stack([none if table is None else table for table in tables])
        for array in arrays.values():
            array.flags.writeable = False
        return {"names": names, **arrays}

    @classmethod
    def _of(cls, given: Mapping[str, Any]) -> Measurements:
        """From what `_state` gave; ValueError if it is something else."""
        steps, names = given.get("steps"), given.get("names")
        if not isinstance(steps, np.ndarray) or steps.ndim != 1 or steps.dtype != np.int64:
            raise ValueError("the measurements must hold steps")
        if not isinstance(names, Mapping) or any(not isinstance(rows, (list, tuple)) for rows in names.values()):
            raise ValueError("the measurements must hold lists of names")
        made = cls()
        made._records = [_Record(int(step), {}, {}) for step in steps]
        for key, array in given.items():
            what, _, name = key.partition("/")
            if what not in ("figure", "histogram"):
                continue
            rows = names.get(name, ()) if what == "figure" else [name]
            right = isinstance(array, np.ndarray) and array.ndim == 2 and array.dtype == np.float64
            if right and what == "figure":
                right = array.shape == (len(rows), len(steps)) and name in FIGURES
            elif right:
                right = len(array) == len(steps) and array.shape[1] > 2
            if not right:
                raise ValueError(f"{_check.brief(key, str)} does not fit the {len(steps)} steps")
            for i, record in enumerate(made._records):
                if what == "histogram":
                    record.histograms[name] = array[i]
                    continue
                record.figures[name] = {str(row): float(array[k, i]) for k, row in enumerate(rows)}
        return made


class _Record:
    """Figures by name, and histograms as rows: the ends, then the counts."""

    def __init__(self, step: int, figures: dict[str, dict[str, float]], histograms: dict[str, Array]) -> None:
        self.step, self.figures, self.histograms = step, figures, histograms


def _measured(
    step: int, model: Module, before: Mapping[str, Array] | None, outputs: Mapping[str, Array], bins: int
) -> _Record:
    record = _Record(step, {}, {})

    def note(kind: str, name: str, values: Array | None) -> None:
        if values is None:
            return
        for what, function in (("mean", np.mean), ("std", np.std)):
            value = float(function(values, dtype=np.float64))
            record.figures.setdefault(f"{kind}_{what}", {})[name] = value
        if bins:
            record.histograms[f"{kind}/{name}"] = _histogram(values, bins)

    for name, p in model.named_parameters():
        note("weight", name, p.data)
        note("gradient", name, p.grad)
        if before is None or name not in before:
            continue
        update = p.data - before[name]
        note("update", name, update)
        size = float(np.linalg.norm(p.data.astype(np.float64)))
        ratio = float(np.linalg.norm(update.astype(np.float64))) / size if size else math.nan
        record.figures.setdefault("update_ratio", {})[name] = ratio
    for name, output in outputs.items():
        if not isinstance(output, np.ndarray):  # of a layer that gives one number
            continue
        note("activation", name, output)
        if output.ndim > 1:
            alive = output.any(axis=tuple(axis for axis in range(output.ndim) if axis != 1))
            record.figures.setdefault("dead", {})[name] = float(np.mean(~alive))
    return record


def _histogram(values: Array, bins: int) -> NDArray[np.float64]:
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    counts, _ = np.histogram(finite.astype(np.float64), bins, (low, high))
    return np.array([low, high, *counts], np.float64)


def _weights(model: Module) -> dict[str, Array]:
    """Copies of the parameters, which stay as they are."""
    found = {name: p.data.copy() for name, p in model.named_parameters()}
    for array in found.values():
        array.flags.writeable = False
    return found


class Monitor(Callback):
    """Measure signals, gradients, weights and updates of each layer, every so many steps or epochs.

    The figures are those of the update that has just been made: its gradients, as they came, before clipping; what it
    added to the weights; and what the layers then give for its batch, in training mode. Looking changes nothing: a
    training with a Monitor has the bits of one without.

    Parameters
    ----------
    every : int, default 1
    by : {"epoch", "step"}, default "epoch"
        Every so many updates, or at the first update of every so many epochs.
    bins : int, default 0
        Of histograms of all that is measured; 0 for none.
    path : path-like, optional
        A CSV file, written at the end of each epoch, with a line for each step and parameter or layer.
    log : sequence of str, optional
        Figures that go into the epochs' logs, too, as ``update_ratio/0.weight``: so to the history, to `CSVLogger`, and
        to whatever monitors a log, such as `EarlyStopping`.

    Attributes
    ----------
    measurements : Measurements
        Drawn by `fastnn.plotting.plot_measurements`.

    Notes
    -----
    Where Ctrl-C strikes between an update and its measurement, a resumed run lacks its gradients and signals.
    """

    order = -1  # before the history, which keeps what it adds to the logs

    def __init__(
        self,
        every: int = 1,
        by: str = "epoch",
        bins: int = 0,
        path: str | os.PathLike[str] | None = None,
        log: Sequence[str] = (),
    ) -> None:
        self.every = _check.integer("every", every, 1)
        self.by = _check.choice("by", by, "epoch", "step")
        self.bins = _check.integer("bins", bins, 0)
        self.path = None if path is None else _check.path("path", path)
        if isinstance(log, str):
            raise TypeError(f"log: expected a list of figures, got {log!r}; of one figure, too: log=[{log!r}]")
        self.log = [_check.choice("log", figure, *FIGURES) for figure in log]
        self.measurements = Measurements()
        self._before: dict[str, Array] | None = None
        self._signals: Signals | None = None

    def on_train_begin(self) -> None:
        self.measurements, self._before = Measurements(), None
        self._signals = Signals(self.trainer.model)

    def _due(self, step: int) -> bool:
        return self.by == "step" and step % self.every == 0

    def on_epoch_begin(self, epoch: int) -> None:
        if self.by == "epoch":
            if self.trainer.batch == 0:
                self._before = _weights(self.trainer.model) if epoch % self.every == 0 else None
        elif self._before is None and self._due(self.trainer.step + 1):
            self._before = _weights(self.trainer.model)

    def on_batch_end(self, batch: int, logs: Logs) -> None:
        trainer, step = self.trainer, self.trainer.step
        if trainer.gathered:
            return
        if self._due(step) or (self.by == "epoch" and self._before is not None):
            assert self._signals is not None
            data = trainer._batch
            outputs = {} if data is None else self._signals(*data.inputs, **data.keywords)
            self.measurements.add(_measured(step, trainer.model, self._before, outputs, self.bins))
        # Last: a call that is made again finds what the first one found.
        self._before = _weights(trainer.model) if self._due(step + 1) else None

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        if len(self.measurements):
            latest = self.measurements._records[-1].figures
            logs.update({f"{what}/{name}": v for what in self.log for name, v in latest.get(what, {}).items()})
        if self.path is not None:
            self.measurements.save_csv(self.path)

    def state_dict(self) -> dict[str, Any]:
        before = {f"before/{name}": array for name, array in (self._before or {}).items()}
        return {**self.measurements._state(), **before, "begun": self._before is not None}

    def check_state(self, state: Mapping[str, Any]) -> None:
        Measurements._of(state)
        _check.flag("begun", state.get("begun"))
        own = {name: (p.dtype, p.shape) for name, p in self.trainer.model.named_parameters()}
        for key, array in state.items():
            what, _, name = key.partition("/")
            if what == "before" and (getattr(array, "dtype", None), np.shape(array)) != own.get(name):
                raise ValueError(f"{_check.brief(key, str)} is no parameter of the model")

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        before = {k.removeprefix("before/"): v for k, v in state.items() if k.startswith("before/")}
        self.measurements = Measurements._of(state)
        self._before = before if state["begun"] else None

    def __getstate__(self) -> dict[str, Any]:
        """What copies hold: not the programs."""
        return {**super().__getstate__(), "_signals": None}


def measure_checkpoints(
    paths: Iterable[str | os.PathLike[str]],
    model: Module,
    *batch: Any,
    loss: Loss | None = None,
    bins: int = 0,
) -> Measurements:
    """The figures of a `Monitor`, from checkpoints of a training that is over.

    Parameters
    ----------
    paths : iterable of path-like
        In the order of the training; an update is what came to the weights since the file before.
    model : Module
        Built as the one that was trained; it stays as it is. Signals are those of the mode it is in.
    *batch : array, optional
        Inputs to measure signals on, and behind them, with a loss, its target.
    loss : Loss, optional
        For gradients.
    bins : int, default 0
        Of histograms; 0 for none.

    Returns
    -------
    Measurements

    Raises
    ------
    FileNotFoundError, ValueError
        If a file is missing or damaged, or of another model.

    Examples
    --------
    >>> trainer = fn.Trainer(model, nn.CrossEntropyLoss(), opt)
    >>> keep = fn.callbacks.ModelCheckpoint("step-{step}.safetensors", every=4, by="step")
    >>> history = trainer.fit((x, y), callbacks=[keep], verbose=False)
    >>> paths = [f"step-{step}.safetensors" for step in (4, 8)]
    >>> found = fn.train.measure_checkpoints(paths, model, xb, yb, loss=nn.CrossEntropyLoss())
    >>> found["gradient_std"]["0.weight"].shape
    (2,)
    """
    _check.instance("model", model, Module)
    if loss is not None:
        _check.instance("loss", loss, Loss)
        if len(batch) < 2:
            raise ValueError(f"loss: gradients need inputs and a target behind them, got {len(batch)} array(s)")
    bins = _check.integer("bins", bins, 0)
    if isinstance(paths, (str, os.PathLike)):
        raise TypeError(f"paths: expected a list of files, got one; of one file, too: [{os.fspath(paths)!r}]")
    twin = copy.deepcopy(model)
    signals, measurements, before = Signals(twin), Measurements(), None
    inputs = batch if loss is None else batch[:-1]
    for path in paths:
        content, tensors = read_checkpoint(path)
        name = _check.path("path", path)
        weights = {k.removeprefix("model/"): a for k, a in tensors.items() if k.startswith("model/")}
        fit_model(name, twin, weights)
        commit(twin._staged(name, weights))
        twin.zero_grad()
        outputs = signals(*inputs) if inputs else {}
        if loss is not None:
            with Meanwhile([], [state()]):
                _, dy = loss.value_and_grad(twin.forward_train(*inputs), batch[-1])
                twin.backward(dy)
        measurements.add(_measured(content["step"], twin, before, outputs, bins))
        # With a backward pass running statistics have moved: the next file brings its own.
        before = {name: a for name, a in weights.items()}
    return measurements
