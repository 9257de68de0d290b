"""Arrays of equal length, looked at row by row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn import _check

Batch = tuple[NDArray[Any], ...]


class Dataset(Protocol):
    """What a `DataLoader` asks of a dataset; `ArrayDataset` is one, and yours may be another.

    `dataset[indices]` gets an int64 array of n row numbers and returns a tuple of arrays, each
    with n rows, in memory that no later call writes to. The loader calls it from a thread of its
    own, one call at a time.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: NDArray[np.int64], /) -> Batch: ...


class ArrayDataset:
    """Arrays whose rows belong together, such as images and their labels.

    Parameters
    ----------
    *arrays : array_like, each of shape (N, ...)
        Numbers or booleans. An ndarray, and anything with `__dlpack__`, `__array__` or the buffer
        protocol, is held without a copy.
    transform : callable, optional
        Called as ``transform(*batch)`` with arrays of n rows each, and returns a tuple of arrays
        of n rows. It sees a batch (of one row) for ``dataset[i]`` too, and leaves its arguments
        as they are: a slice shows it the arrays themselves.

    Attributes
    ----------
    arrays : tuple of ndarray
    shapes : tuple of tuple of int
        The shape of each array, rows first.

    Raises
    ------
    TypeError
        For no array at all, an array of objects or text, or a transform that cannot be called.
    ValueError
        For a 0-d array or arrays of different lengths.

    Examples
    --------
    >>> dataset = ArrayDataset(np.zeros((5, 3)), np.arange(5))
    >>> x, y = dataset[[4, 0]]
    >>> x.shape, y
    ((2, 3), array([4, 0]))
    """

    def __init__(self, *arrays: ArrayLike, transform: Callable[..., Batch] | None = None) -> None:
        if not arrays:
            raise TypeError("arrays: expected at least one array, got none")
        if transform is not None and not callable(transform):
            raise TypeError(
                f"transform: expected a callable, transform(*batch), or None, got {_check.kind_of(transform)}"
            )
        self.arrays: Batch = tuple(_as_array(array, i) for i, array in enumerate(arrays))
        self.transform = transform
        if len({len(array) for array in self.arrays}) > 1:
            raise ValueError(
                f"arrays: expected equal lengths (first axis), got shapes {', '.join(map(str, self.shapes))}"
            )

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        return tuple(array.shape for array in self.arrays)

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, index: int | slice | ArrayLike) -> Batch:
        """Return the chosen rows of each array.

        Parameters
        ----------
        index : int, slice, or 1-d array of ints or bools
            As in NumPy: negative numbers count from the end, slices are views, arrays copy.

        Returns
        -------
        tuple of ndarray
            Each of shape (...) for an int, and (n, ...) for n rows.
        """
        if isinstance(index, slice):
            return self._rows(index)
        chosen = np.asarray(index)
        if chosen.size == 0 and chosen.ndim == 1:
            chosen = chosen.astype(np.intp)  # an empty list would be float64
        if chosen.ndim > 1 or chosen.dtype.kind not in ("iub" if chosen.ndim else "iu"):
            raise TypeError(
                "index: expected an int, a slice or a 1-d array of ints or bools, got "
                f"{type(index).__name__} of shape {chosen.shape} and dtype {chosen.dtype}"
            )
        if chosen.ndim:
            return self._rows(chosen)
        row = int(chosen)
        if not -len(self) <= row < len(self):
            raise IndexError(f"index: {row} given for a dataset of {len(self)} rows")
        row %= len(self)
        return tuple(array[0, ...] for array in self._rows(slice(row, row + 1)))

    def _rows(self, index: slice | NDArray[Any]) -> Batch:
        batch = tuple(array[index] for array in self.arrays)
        if self.transform is None:
            return batch
        return as_batch(self.transform(*batch), len(batch[0]), "transform(*batch)")


def as_dataset(value: Any) -> Dataset:
    """Arrays as an `ArrayDataset`, and a dataset as it is."""
    if isinstance(value, (tuple, list)):
        return ArrayDataset(*value)
    if hasattr(value, "__array__") or hasattr(value, "__dlpack__"):
        return ArrayDataset(value)
    if not (hasattr(value, "__len__") and hasattr(value, "__getitem__")) or isinstance(value, (Mapping, str)):
        raise TypeError(
            "dataset: expected a tuple of arrays, or an object with len(dataset) and "
            f"dataset[indices], got {_check.kind_of(value)}"
        )
    dataset: Dataset = value
    return dataset


def as_batch(result: Any, rows: int, source: str) -> Batch:
    """Check what a user's code returned as a batch; make it C-contiguous, in native byte order."""
    if not isinstance(result, tuple):
        raise TypeError(f"{source}: expected a tuple of arrays, got {type(result).__name__}")
    batch = tuple(np.asarray(_check.readable(source, array)) for array in result)
    if any(array.shape[:1] != (rows,) for array in batch):
        shapes = ", ".join(str(array.shape) for array in batch)
        raise ValueError(f"{source}: expected arrays of {rows} rows, got shapes {shapes}")
    return tuple(np.ascontiguousarray(a, dtype=a.dtype.newbyteorder("=")) for a in batch)


def _as_array(value: Any, position: int) -> NDArray[Any]:
    name = f"arrays[{position}]"
    _check.readable(name, value)
    try:
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            array = np.from_dlpack(value)
        else:
            array = np.asarray(value)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise TypeError(f"{name}: {type(value).__name__} is no array: {error}") from error
    if array.dtype.kind not in "biufc":
        raise TypeError(f"{name}: expected numbers or booleans, got dtype {array.dtype}")
    if array.ndim == 0:
        raise ValueError(f"{name}: expected at least one axis, got a 0-d {array.dtype} array")
    return array
