"""Batches as a trainer sees them, whatever the data come as: arrays, data sets, loaders, any iterable of batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastnn import _check
from fastnn.data import ArrayDataset, DataLoader, Subset
from fastnn.data.columns import Frame, aligned, as_column
from fastnn.data.dataset import as_dataset as data_set
from fastnn.data.dataset import is_array
from fastnn.data.samples import TARGETS, SampleDataset, ordered
from fastnn.train.weighting import ClassWeights, as_sample_weight

#: Names of the columns of DataFrames, by the place or the name of the model's input that they are.
Features: TypeAlias = Mapping[Any, tuple[Any, ...]]
NO_TARGET = f"a target, which the loss needs, is called {', '.join(TARGETS[:-1])} or {TARGETS[-1]}"


class Batch(NamedTuple):
    """The model's inputs, in order and by name, the loss's target, and the weight of each sample, if they have any."""

    inputs: tuple[Any, ...]
    keywords: dict[str, Any]
    target: Any
    weight: NDArray[np.float64] | None

    @property
    def samples(self) -> int:
        return len(next(iter((*self.inputs, *self.keywords.values()))))


class Layout(NamedTuple):
    """What the arrays of a loader's batch are: inputs in order, inputs by name, as `names` has them, the target, and
    weights. For `prediction` the target is left out, where there is one behind the inputs."""

    names: tuple[str, ...] = ()
    weighted: bool = False
    targeted: bool = True
    prediction: bool = False

    def batch(self, arrays: Sequence[Any]) -> Batch:
        rest, weight = (arrays[:-1], arrays[-1]) if self.weighted else (arrays, None)
        targeted = self.targeted and (len(rest) > 1 or not self.prediction)
        inputs, target = (rest[:-1], None if self.prediction else rest[-1]) if targeted else (rest, None)
        if not inputs:
            raise ValueError("data: expected inputs and a target in each batch, (x, y), got one array")
        at = len(inputs) - len(self.names)
        return Batch(tuple(inputs[:at]), dict(zip(self.names, inputs[at:], strict=True)), target, weight)


class Batches:
    """A pass over data, batch by batch.

    Parameters
    ----------
    loader : DataLoader
        Of arrays; or a Stream.
    layout : Layout
    class_weights : ClassWeights, optional
    """

    def __init__(self, loader: DataLoader, layout: Layout, class_weights: ClassWeights | None = None) -> None:
        self.loader = loader
        self.layout = layout
        self.class_weights = class_weights

    def __iter__(self) -> Iterator[Batch]:
        for parts in self.loader:
            batch = parts if isinstance(parts, Batch) else self._layout().batch(parts)
            if self.class_weights is not None:
                own = self.class_weights.of(batch.target)
                weight = own if batch.weight is None else _times(own, batch.weight)
                batch = batch._replace(weight=weight)
            yield batch

    def _layout(self) -> Layout:
        """That of the arrays; samples say of their own what is given by name, and whether there is a target."""
        samples = _within(self.loader.dataset)
        if not isinstance(samples, SampleDataset):
            return self.layout
        if not samples.targeted and not self.layout.prediction:
            raise ValueError(f"data: its samples hold {_check.some(samples.names)}; {NO_TARGET}")
        return self.layout._replace(names=samples.names, targeted=samples.targeted)


def _times(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """Products of weights, of which one may have sizes behind those of the other."""
    few, many = sorted((a, b), key=np.ndim)
    return np.asarray(few.reshape(*few.shape, *[1] * (many.ndim - few.ndim)) * many)


class Stream(DataLoader):
    """An iterable of batches as a loader: each epoch is a pass over it, or so many batches of it.

    Parameters
    ----------
    name : str
        What messages call it.
    batches : iterable
        Of tuples (x, y) of arrays; x may be several, or dicts of arrays.
    steps : int, optional
        Batches an epoch. Epochs then go on where the one before ended, and begin it anew when it ends.
    features : Features, optional
        Names of columns of DataFrames, by which those of batches are aligned; else those of the first batch are.
    """

    def __init__(
        self, name: str, batches: Iterable[Any], steps: int | None = None, features: Features | None = None
    ) -> None:
        self.name = name
        self.features: dict[Any, tuple[Any, ...]] = dict(features or {})
        self.iterable = batches
        self.steps = steps
        self.seed = 0
        self.batch_size = 0
        self.dataset = ()
        self._epoch = self._batch = 0
        self._iteration = None
        self._iterator: Iterator[Any] | None = None
        self._given = 0  # by the iterator

    def __len__(self) -> int:
        """Batches an epoch; 0 if that is not known."""
        if self.steps is not None:
            return self.steps
        return len(self.iterable) if isinstance(self.iterable, Sized) else 0

    def __iter__(self) -> Iterator[Any]:
        epoch, first = self._epoch, self._batch
        if self.steps is None:
            batches = iter(self.iterable)
            if batches is self.iterable and epoch:
                raise self._ended(
                    "a generator gives its batches once; give an object whose iter() begins anew, or steps_per_epoch"
                )
            done = sum(1 for _ in islice(batches, first))
            more = False
            for parts in batches:
                yield self._as_batch(parts)
                more = True
            if done < first or not (done or more):
                raise self._ended(
                    f"it has {done} batches, and training goes on behind {first}" if first else "it has no batch"
                )
        else:
            for _ in range(epoch * self.steps + first - self._given):
                self._pull()
            for _ in range(first, self.steps):
                yield self._as_batch(self._pull())
        self._move(epoch + 1, 0, None)

    def _pull(self) -> Any:
        if self._iterator is None:
            self._iterator = iter(self.iterable)
        found = next(self._iterator, None)
        if found is None and self._iterator is not self.iterable:
            self._iterator = iter(self.iterable)
            found = next(self._iterator, None)
        if found is None:
            raise self._ended(f"it gave {self._given} batches, and steps_per_epoch={self.steps} asks for more")
        self._given += 1
        return found

    def _ended(self, why: str) -> ValueError:
        return ValueError(f"{self.name}: the {type(self.iterable).__name__} has no more batches: {why}")

    def _as_batch(self, parts: Any) -> Batch:
        if isinstance(parts, Mapping):
            inputs, named, target = ordered(dict(parts), self.name)
            if not target:
                raise ValueError(f"{self.name}: its batches hold {_check.some(parts)}; {NO_TARGET}")
            parts = (*inputs, named, *target)
        if not isinstance(parts, (tuple, list)) or len(parts) < 2 or isinstance(parts[-1], dict):
            given = f"{len(parts)} array(s)" if isinstance(parts, (tuple, list)) else _check.kind_of(parts)
            raise ValueError(f"{self.name}: expected batches (x, y), inputs and a target, got {given}")
        columns, names = _flat(self.name, parts, self.features)
        self.features.update(_names_of(columns[:-1], names))
        return Layout(names).batch([column[:] if column.shape else column for column in columns])

    def _geometry(self) -> dict[str, int | bool]:
        return {} if self.steps is None else {"steps": self.steps}

    def _staged(self, state: Any) -> list[tuple[Any, str, Any]]:
        expected = self.state_dict()
        if not isinstance(state, Mapping) or state.keys() != expected.keys() or state.get("steps") != self.steps:
            raise ValueError(f"state: expected {_check.some(expected)} of this iterable, got {_check.brief(state)}")
        epoch = _check.count("state['epoch']", state["epoch"])
        batch = _check.integer("state['batch']", state["batch"], 0, len(self) or _check.LARGEST_COUNT)
        return [(self, "_epoch", epoch), (self, "_batch", batch)]


def arranged(
    name: str,
    data: Any,
    *,
    sample_weight: Any = None,
    class_weight: Any = None,
    validation_split: float = 0.0,
    ignore_index: int | None = None,
    features: Features | None = None,
) -> tuple[Any, Layout, ClassWeights | None, Batches | None]:
    """Data in rows, for a loader: the data set, what its arrays are, weights by classes, and what validates."""
    rows, layout = _as_dataset(name, data, features)
    if sample_weight is not None:
        if not isinstance(rows, ArrayDataset) or rows.transform is not None:
            raise TypeError(f"sample_weight goes with arrays, (x, y), not with {_check.kind_of(data)}")
        weight = as_sample_weight("sample_weight", sample_weight, len(rows))
        rows, layout = ArrayDataset(*rows.arrays, weight), layout._replace(weighted=True)
    validation = None
    share = _check.real("validation_split", validation_split, 0, 1)
    if share:
        # Keras's: the last rows, before they are shuffled.
        count = int(len(rows) * (1.0 - share))
        if not 0 < count < len(rows):
            raise ValueError(f"validation_split: {share:g} of {len(rows)} rows leaves none to train or to validate on")
        rest = Subset(rows, np.arange(count, len(rows)))
        rows = Subset(rows, np.arange(count))
        validation = Batches(DataLoader(rest, 256), layout)
    weights = None
    if class_weight is not None:
        weights = ClassWeights(class_weight, _targets(rows, layout, class_weight), ignore_index)
    return rows, layout, weights, validation


def _targets(rows: Any, layout: Layout, class_weight: Any) -> Any:
    """The targets of all rows, if weights are to be made of them."""
    if not isinstance(class_weight, str):
        return None
    parts = [rows[np.arange(i, min(i + 256, len(rows)))] for i in range(0, len(rows), 256)]
    return np.concatenate([layout.batch(part).target for part in parts])


def loader_weights(loader: DataLoader, class_weight: Any, ignore_index: int | None) -> ClassWeights | None:
    """Weights by classes of what a loader gives."""
    if class_weight is None:
        return None
    if isinstance(class_weight, str) and isinstance(loader, Stream):
        raise ValueError("class_weight='balanced' counts all targets first; of an iterable give a dict of weights")
    targets = None if isinstance(loader, Stream) else _targets(loader.dataset, Layout(), class_weight)
    return ClassWeights(class_weight, targets, ignore_index)


def in_order(
    name: str,
    data: Any,
    batch_size: int | None = None,
    sample_weight: Any = None,
    features: Features | None = None,
) -> Batches:
    """Data batch by batch as they stand; a loader in its own order."""
    if isinstance(data, Batches):
        return data
    if isinstance(data, DataLoader) or is_stream(data):
        given = {"batch_size": batch_size, "sample_weight": sample_weight}
        for setting, value in given.items():
            if value is not None:
                what = "DataLoader" if isinstance(data, DataLoader) else "iterable"
                raise ValueError(f"{setting}: the {what} brings its own; leave it out")
        if not isinstance(data, DataLoader):
            return Batches(Stream(name, data, features=features), Layout())
        check_features(name, data.dataset, features)
        return Batches(data, Layout())
    rows, layout, _, _ = arranged(name, data, sample_weight=sample_weight, features=features)
    return Batches(DataLoader(rows, 256 if batch_size is None else batch_size), layout)


def inputs_in_order(name: str, x: Any, batch_size: int, features: Features | None = None) -> Batches:
    """A model's inputs batch by batch: arrays, or a data set, whose targets are left out."""
    if isinstance(x, DataLoader):
        raise TypeError(f"{name}: a DataLoader has an order of its own; give its .dataset, or arrays")
    if not isinstance(x, (tuple, list, Mapping)) and not is_array(x) and hasattr(x, "__len__"):
        rows = data_set(x)
        check_features(name, rows, features)
        return Batches(DataLoader(rows, batch_size), Layout(prediction=True))
    parts = x if isinstance(x, tuple) else (x,)
    columns, names = _flat(name, parts, features, targeted=False)
    if not columns:
        raise ValueError(f"{name}: expected an array, a tuple of arrays or a dict of arrays with names, got none")
    return Batches(DataLoader(rows_of(name, columns), batch_size), Layout(names, targeted=False))


def is_stream(data: Any) -> bool:
    """Whether data is an iterable of batches, and nothing with rows."""
    if isinstance(data, list):
        return bool(data) and all(map(_is_batch, data))
    if isinstance(data, (tuple, str, bytes, Mapping, DataLoader)) or hasattr(data, "__array__"):
        return False
    return isinstance(data, Iterable) and not hasattr(data, "__getitem__")


def _is_batch(parts: Any) -> bool:
    """Whether parts are a tuple of arrays, as a batch is, and not rows of numbers."""
    if not isinstance(parts, (tuple, list)) or len(parts) < 2:
        return False
    return all(isinstance(part, dict) or hasattr(part, "__array__") for part in parts)


def _as_dataset(name: str, data: Any, features: Features | None) -> tuple[Any, Layout]:
    """(x, y) as an ArrayDataset; a data set as it is."""
    if isinstance(data, (tuple, list)):
        columns, names = _flat(name, data, features)
        if len(columns) < 2 or isinstance(data[-1], dict):
            raise ValueError(f"{name}: expected inputs and a target, (x, y); got {len(columns)} array(s)")
        return rows_of(name, columns), Layout(names)
    is_dataset = hasattr(data, "__len__") and hasattr(data, "__getitem__") and not isinstance(data, (Mapping, str))
    if not is_dataset or is_array(data):
        raise TypeError(
            f"{name}: expected (x, y), an ArrayDataset, fastnn's DataLoader, as fn.data.DataLoader((x, y), "
            f"batch_size=64), or an iterable of batches, got {_check.kind_of(data)}"
        )
    rows = data_set(data)
    check_features(name, rows, features)
    return rows, Layout()


def _flat(
    name: str, parts: Sequence[Any], features: Features | None = None, targeted: bool = True
) -> tuple[list[Any], tuple[str, ...]]:
    """Arrays and dicts of arrays as columns, those of dicts before the target, and the names that these have."""
    inputs: list[Any] = []
    named: dict[str, Any] = {}
    known = features or {}
    for i, part in enumerate(parts):
        if not isinstance(part, dict):
            what = name if len(parts) == 1 else f"{name}[{i}]"
            column = as_column(part, what)
            is_target = targeted and i == len(parts) - 1
            inputs.append(column if is_target else aligned(column, known.get(len(inputs)), what))
            continue
        for key, value in part.items():
            what = f"{name}[{key!r}]" if len(parts) == 1 else f"{name}[{i}][{key!r}]"
            if not isinstance(key, str) or key in named or key == "sample_weight":
                raise ValueError(f"{name}[{i}]: {_check.brief(key)} is no name of one of the model's inputs")
            named[key] = aligned(as_column(value, what), known.get(key), what)
    at = len(inputs) - targeted
    return [*inputs[:at], *named.values(), *inputs[at:]], tuple(named)


def rows_of(name: str, columns: Sequence[Any]) -> ArrayDataset:
    """Columns as a data set, if each has a row for each sample."""
    shapes = ", ".join(str(column.shape) for column in columns)
    if any(not column.shape for column in columns) or len({len(column) for column in columns}) != 1:
        raise ValueError(f"{name}: expected arrays of equal lengths, with a row for each sample, got shapes {shapes}")
    if not len(columns[0]):
        raise ValueError(f"{name}: expected at least one row, got shapes {shapes}")
    return ArrayDataset(*columns)


# ---- the columns of DataFrames -----------------------------------------------------------------


def features_of(dataset: Any, layout: Layout) -> Features:
    """The names of features of the inputs that are DataFrames, by the inputs' places or names."""
    rows = _within(dataset)
    if not isinstance(rows, ArrayDataset) or rows.transform is not None:
        return {}
    return _names_of(rows.arrays[: len(rows.arrays) - layout.weighted - 1], layout.names)


def _names_of(inputs: Sequence[Any], names: Sequence[str]) -> Features:
    """Names of columns of those inputs that are DataFrames; the last inputs have names."""
    keys = [*range(len(inputs) - len(names)), *names]
    return {key: column.names for key, column in zip(keys, inputs, strict=True) if isinstance(column, Frame)}


def check_features(name: str, dataset: Any, features: Features | None) -> None:
    """ValueError where a data set's columns are not those that the model was trained on, in their order."""
    for key, names in features_of(dataset, Layout()).items():
        known = (features or {}).get(key, names)
        if names != known:
            raise ValueError(
                f"{name}: input {key} has the columns {_check.some(names)}, and the model was trained on "
                f"{_check.some(known)}; give them in that order"
            )


def saved_features(features: Features) -> list[Any]:
    """As checkpoints hold them: names that are no text or integer as text."""
    return [[key, [n if type(n) in (int, str) else str(n) for n in names]] for key, names in features.items()]


def resumed_features(saved: Any, features: Features) -> Features:
    """Those of a checkpoint, which the data's are to agree with."""
    entries = [] if saved is None else saved
    if not isinstance(entries, list) or not all(
        isinstance(entry, list) and len(entry) == 2 and type(entry[0]) in (int, str) and isinstance(entry[1], list)
        for entry in entries
    ):
        raise ValueError(f"features must be a list of inputs and their columns, got {_check.brief(saved)}")
    found = {key: tuple(names) for key, names in entries}
    for key, names in saved_features(features):
        known = found.get(key, tuple(names))
        if tuple(names) != known:
            raise ValueError(
                f"features: input {key} was trained on the columns {_check.some(known)}, and the data have "
                f"{_check.some(names)}"
            )
    return {**found, **features}


def _within(dataset: Any) -> Any:
    """The data set of which another one is a part."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    return dataset
