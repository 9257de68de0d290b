"""Data sets that give a sample at a time, as PyTorch's do, or columns by name, as Hugging Face's: put together to
batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import _check
from fastnn.data.columns import as_column
from fastnn.data.dtypes import check_kind

#: Names of targets among the columns of a sample.
TARGETS = ("label", "labels", "target", "targets", "y")
Parts = dict[Any, Any]


class SampleDataset:
    """An object with ``len(samples)`` and ``samples[i]`` as a `Dataset`.

    Where ``samples[indices]`` gives batches, as of a `Dataset`, they are taken as they come, once a first one was found
    equal to its samples one by one. A sample is a tuple, (x, y) or with more inputs, of which a dict has its own by
    name; or a dict with a column "label" (or "labels", "target", "targets", "y"). Pillow's images become (C, H, W).

    Parameters
    ----------
    samples : object

    Attributes
    ----------
    names : tuple of str
        Of the inputs that samples have by name; known when the first batch was made.
    targeted : bool
        Whether the last array of a batch is a target, if there is more than one.
    """

    def __init__(self, samples: Any) -> None:
        self.samples = samples
        self.names: tuple[str, ...] = ()
        self.targeted = True
        self._gives_batches: bool | None = None

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, indices: NDArray[np.int64]) -> tuple[Any, ...]:
        rows = indices.tolist()
        if self._gives_batches is None:
            self._gives_batches, parts = self._looked_at(indices, rows)
        else:
            parts = _whole(self.samples[indices], rows) if self._gives_batches else _stacked(self._each(rows), rows)
        return self._in_order(parts)

    def _looked_at(self, indices: NDArray[np.int64], rows: list[int]) -> tuple[bool, Parts]:
        """Whether indices give what the samples give one by one; and that."""
        problem: Exception | None = None
        try:
            batch = self.samples[indices]
        except Exception as error:
            problem = error
        try:
            each = self._each(rows)
        except (TypeError, AttributeError) as error:
            if problem is not None:
                raise error from problem
            return True, _whole(batch, rows)  # it takes indices alone
        stacked = _stacked(each, rows)
        return problem is None and _equal(batch, stacked, rows), stacked

    def _each(self, rows: list[int]) -> list[Any]:
        """Samples one by one, or all at once where they are given so, as PyTorch's __getitems__ does."""
        many = getattr(self.samples, "__getitems__", None)
        at, samples = rows[0], []
        try:
            if callable(many):
                samples = list(many(list(rows)))
            else:
                for at in rows:
                    samples.append(self.samples[at])
        except IndexError as error:
            raise ValueError(f"dataset: its length is {len(self)}, and dataset[{at}] is not there: {error}") from error
        if len(samples) != len(rows):
            raise ValueError(f"dataset: expected {len(rows)} samples, got {len(samples)}")
        return samples

    def _in_order(self, parts: Parts) -> tuple[Any, ...]:
        """Inputs in order, inputs by name, the target."""
        inputs, named, target = ordered(parts, "dataset")
        self.names, self.targeted = tuple(named), bool(target)
        return (*inputs, *named.values(), *target)


def ordered(parts: Parts, name: str) -> tuple[list[Any], dict[str, Any], list[Any]]:
    """Inputs in order, by name, and the target, if there is one."""
    named = {key: value for key, value in parts.items() if isinstance(key, str)}
    rest = [value for key, value in parts.items() if not isinstance(key, str)]
    if rest:
        return rest[:-1], named, rest[-1:]
    targets = [key for key in TARGETS if key in named]
    target = [named.pop(targets[0])] if targets else []
    if len(named) == 1:
        return [*named.values()], {}, target
    return [], named, target


def _parts(sample: Any) -> Parts:
    """A sample, or a batch, by place and name."""
    if isinstance(sample, Mapping):
        return {_name(key): value for key, value in sample.items()}
    if not isinstance(sample, (tuple, list)):
        return {0: sample}
    parts: Parts = {}
    for i, part in enumerate(sample):
        if isinstance(part, Mapping):
            parts |= {_name(key): value for key, value in part.items()}
        else:
            parts[i] = part
    return parts


def _name(key: Any) -> str:
    if not isinstance(key, str):
        raise TypeError(f"dataset: {_check.brief(key)} is no name of an input")
    return key


def _whole(given: Any, rows: list[int]) -> Parts:
    """A batch as it was given."""
    if not isinstance(given, (tuple, list, Mapping)):
        raise TypeError(f"dataset[indices]: expected a tuple of arrays, got {type(given).__name__}")
    return {key: _rows(part, rows, key) for key, part in _parts(given).items()}


def _stacked(given: list[Any], rows: list[int]) -> Parts:
    """Samples as arrays of n rows."""
    samples = [_parts(sample) for sample in given]
    first = samples[0]
    for i, sample in zip(rows, samples, strict=True):
        if sample.keys() != first.keys():
            raise ValueError(f"dataset[{i}] holds {_check.some(sample)}, and dataset[{rows[0]}] {_check.some(first)}")
    return {key: _stack(key, [sample[key] for sample in samples], rows) for key in first}


def _stack(key: Any, values: Sequence[Any], indices: Sequence[int]) -> NDArray[Any]:
    """Parts of samples as an array of a row each."""
    arrays = [_array(value, f"dataset[{i}][{key!r}]") for i, value in zip(indices, values, strict=True)]
    for i, array in zip(indices, arrays, strict=True):
        if array.shape != arrays[0].shape:
            raise ValueError(
                f"dataset[{i}][{key!r}] has shape {array.shape}, and dataset[{indices[0]}][{key!r}] {arrays[0].shape}; "
                "the samples of a batch have one shape: pad or cut them"
            )
    return np.stack(arrays)


def _array(value: Any, name: str) -> NDArray[Any]:
    if hasattr(value, "getbands"):  # Pillow's
        array = np.asarray(value)
        check_kind(array.dtype, name)
        return array[np.newaxis] if array.ndim == 2 else array.transpose(2, 0, 1)
    column = as_column(value, name)
    return column if isinstance(column, np.ndarray) else column[:]


def _rows(value: Any, indices: Sequence[int], key: Any) -> Any:
    """A batch's part, which a list has by samples."""
    return _stack(key, value, indices) if isinstance(value, list) and len(value) == len(indices) else value


def _equal(given: Any, stacked: Parts, rows: list[int]) -> bool:
    """Whether a batch holds what samples do."""
    try:
        batch = _whole(given, rows)
        if batch.keys() != stacked.keys():
            return False
        pairs = [(_array(batch[key], "dataset"), stacked[key]) for key in batch]
    except (TypeError, ValueError):
        return False
    return all(a.shape == b.shape and np.array_equal(a, b, equal_nan=a.dtype.kind in "fc") for a, b in pairs)
