"""Arrays of equal length, looked at row by row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn import _check
from fastnn.data.columns import as_column
from fastnn.data.samples import SampleDataset

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
        Numbers or booleans. An ndarray, a memory map, and anything with `__dlpack__`, `__array__` or the
        buffer protocol, is held without a copy. A DataFrame of pandas or polars is held as an array by rows,
        which is a copy unless it lies so; rows of a sparse matrix of SciPy are dense in a batch alone.
    transform : callable, optional
        Called as ``transform(*batch)`` with arrays of n rows each, and returns a tuple of arrays
        of n rows. It sees a batch (of one row) for ``dataset[i]`` too, and leaves its arguments
        as they are: a slice shows it the arrays themselves.

    Attributes
    ----------
    arrays : tuple of ndarray, `columns.Frame` or `columns.Sparse`
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
        self.arrays: tuple[Any, ...] = tuple(_as_rows(array, f"arrays[{i}]") for i, array in enumerate(arrays))
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
    """Arrays as an `ArrayDataset`, samples one by one as batches, and a dataset of fastnn as it is."""
    if isinstance(value, (tuple, list)):
        return ArrayDataset(*value)
    if is_array(value):
        return ArrayDataset(value)
    if not (hasattr(value, "__len__") and hasattr(value, "__getitem__")) or isinstance(value, (Mapping, str)):
        raise TypeError(
            "dataset: expected a tuple of arrays, or an object with len(dataset) and "
            f"dataset[indices], got {_check.kind_of(value)}"
        )
    dataset: Dataset = value if type(value).__module__.startswith("fastnn.") else SampleDataset(value)
    return dataset


def is_array(value: Any) -> bool:
    """Whether this is one array, and no data set of several."""
    if any(hasattr(value, door) for door in ("__array__", "__dlpack__", "tocsr", "__dataframe__")):
        return True
    try:
        memoryview(value)
    except TypeError:
        return False
    return True


def as_batch(result: Any, rows: int, source: str) -> Batch:
    """Check what a user's code returned as a batch; make it C-contiguous, in native byte order."""
    if not isinstance(result, tuple):
        raise TypeError(f"{source}: expected a tuple of arrays, got {type(result).__name__}")
    batch = tuple(np.asarray(_check.readable(source, array)) for array in result)
    if any(array.shape[:1] != (rows,) for array in batch):
        shapes = ", ".join(str(array.shape) for array in batch)
        raise ValueError(f"{source}: expected arrays of {rows} rows, got shapes {shapes}")
    return tuple(np.ascontiguousarray(a, dtype=a.dtype.newbyteorder("=")) for a in batch)


def _as_rows(value: Any, name: str) -> Any:
    column = as_column(value, name)
    if not column.shape:
        raise ValueError(f"{name}: expected at least one axis, got a 0-d {column.dtype} array")
    return column
