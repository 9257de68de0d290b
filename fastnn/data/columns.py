"""Arrays of other libraries, each as something with rows: NumPy's own, or what makes arrays of the rows asked for.

Nothing is read as a whole that need not be: a memory-mapped file and a sparse matrix stay what they are, and a batch of
their rows is an array.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastnn import _check
from fastnn.data.dtypes import check_kind, not_in_table

Rows: TypeAlias = slice | NDArray[Any]


class Column(Protocol):
    """What has rows: an ndarray is one."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> NDArray[Any]: ...


class Frame:
    """The columns of a DataFrame as an array (N, columns), by rows: batches of a table by columns would gather each
    number from another place.

    Parameters
    ----------
    names : sequence
        Of the columns.
    array : ndarray
    places : array of int, optional
        Which columns of the array these are; default: all as they stand.
    """

    def __init__(self, names: Sequence[Any], array: NDArray[Any], places: NDArray[np.intp] | None = None) -> None:
        self.names = tuple(names)
        self.array = array
        self.places = places
        self.shape = array.shape
        self.dtype = array.dtype

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        part: NDArray[Any] = self.array[rows]
        return part if self.places is None else part[:, self.places]

    def ordered(self, names: Sequence[Any]) -> Frame:
        """The same columns in another order."""
        places = np.array([self.names.index(name) for name in names], np.intp)
        return Frame(names, self.array, places if self.places is None else self.places[places])


class Sparse:
    """A sparse matrix, of which rows become a dense array (n, columns).

    Parameters
    ----------
    matrix : sparse matrix or array of SciPy, of two dimensions
    """

    def __init__(self, matrix: Any) -> None:
        self.matrix = matrix.tocsr()
        self.shape: tuple[int, ...] = self.matrix.shape
        self.dtype: np.dtype[Any] = self.matrix.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        return np.asarray(self.matrix[rows].toarray())


def as_column(value: Any, name: str) -> Any:
    """What has rows, as a `Column`: without a copy wherever the layout allows.

    Parameters
    ----------
    value : array_like
        An ndarray, a memory map among them; what has `__dlpack__`, `__array__` or the buffer protocol; a DataFrame or
        Series of pandas or polars; a sparse matrix of SciPy; numbers in lists.
    name : str
        What messages call it.

    Returns
    -------
    ndarray, Frame or Sparse

    Raises
    ------
    TypeError
        For what holds no numbers (see `dtypes.check_kind`), and where some are missing but not NaN.
    """
    kind = type(value)
    if kind is Frame or kind is Sparse:
        return value
    if kind is not np.ndarray:
        for package, read in (("pandas", _of_pandas), ("polars", _of_polars)):
            library = sys.modules.get(package)
            if library is not None and isinstance(value, (library.DataFrame, library.Series)):
                return read(value, name)
        if _is_sparse(value):
            if len(value.shape) != 2:
                return as_column(value.toarray(), name)
            check_kind(value.dtype, name)
            return Sparse(value)
        if hasattr(value, "__dataframe__") or kind.__name__ == "LazyFrame":
            raise TypeError(
                f"{name}: {_check.kind_of(value)} is no DataFrame of pandas or polars; make it one, by its "
                "to_pandas() or collect(), say"
            )
    array = _as_array(value, name)
    if array.dtype.kind in "OUST" and not array.ndim:
        raise TypeError(f"{name}: expected an array, got {_check.kind_of(value)}")
    check_kind(array.dtype, name, "biufc")
    return array


def aligned(column: Any, names: tuple[Any, ...] | None, name: str) -> Any:
    """A column whose features lie as those of these names do; ValueError where others are there."""
    if names is None or not isinstance(column, Frame) or column.names == names:
        return column
    lacks, more = [n for n in names if n not in column.names], [n for n in column.names if n not in names]
    if lacks or more:
        problems = [f"{what}: {_check.some(some)}" for what, some in (("missing", lacks), ("unexpected", more)) if some]
        raise ValueError(
            f"{name}: its columns are not those that the model was trained on; {'; '.join(problems)}; to go by their "
            "order alone give .to_numpy()"
        )
    return column.ordered(names)


def _as_array(value: Any, name: str) -> NDArray[Any]:
    _check.readable(name, value)
    try:
        if not isinstance(value, np.ndarray) and hasattr(value, "__dlpack__"):
            return np.from_dlpack(value)
        return np.asarray(value)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise TypeError(f"{name}: {_check.kind_of(value)} is no array: {error}{_mend(value)}") from error


def _mend(tensor: Any) -> str:
    """How a tensor becomes one that NumPy reads."""
    if getattr(tensor, "requires_grad", False):
        return "; give its .detach()"
    if getattr(getattr(tensor, "device", None), "type", "cpu") != "cpu":
        return "; give its .cpu()"
    return "; give its .float()" if "bfloat16" in str(getattr(tensor, "dtype", "")) else ""


def _is_sparse(value: Any) -> bool:
    return hasattr(value, "toarray") and hasattr(value, "tocsr") and not hasattr(value, "__array__")


def _of_pandas(value: Any, name: str) -> Any:
    import pandas

    if isinstance(value, pandas.Series):
        return _pandas_block(value.to_frame(), name, [value.name])[:, 0]
    _check_names(value.columns, name)

    def block(places: list[int], names: list[Any]) -> NDArray[Any]:
        return _pandas_block(value if len(places) == len(value.columns) else value.iloc[:, places], name, names)

    return _frame(name, list(value.columns), len(value), list(value.dtypes), block)


def _pandas_block(frame: Any, name: str, names: Sequence[Any]) -> NDArray[Any]:
    """Columns of one dtype as an array: by position, whatever the index."""
    dtype = frame.dtypes.iloc[0]
    if isinstance(dtype, np.dtype):
        if dtype.kind not in "biuf":
            raise not_in_table(_of(name, names), dtype)
        return np.asarray(frame.to_numpy())
    # pandas' own types, with a mask or sparse, or Arrow's: numbers among them have a NumPy dtype of their own.
    inner = getattr(dtype, "numpy_dtype", getattr(dtype, "subtype", None))
    if dtype.kind not in "biuf" or inner is None:
        raise not_in_table(_of(name, names), dtype)
    missing = frame.isna().to_numpy().sum(0)
    if missing.any():
        raise TypeError(
            f"{_of(name, _at(names, missing))}: {missing.sum()} values are missing, as pandas' NA; fill them, by "
            ".fillna(0), or let NaN stand for them, by .astype('float64')"
        )
    return np.asarray(frame.to_numpy(dtype=inner))


def _of_polars(value: Any, name: str) -> Any:
    import polars

    if isinstance(value, polars.Series):
        return _polars_block(value.to_frame(), name)[:, 0]

    def block(_: list[int], names: list[Any]) -> NDArray[Any]:
        return _polars_block(value.select(names), name)

    return _frame(name, value.columns, len(value), value.dtypes, block)


def _polars_block(frame: Any, name: str) -> NDArray[Any]:
    dtype = frame.dtypes[0]
    if not (dtype.is_numeric() or str(dtype) == "Boolean") or dtype.is_decimal():
        raise not_in_table(_of(name, frame.columns), dtype)
    missing = frame.null_count().row(0)
    if any(missing):
        raise TypeError(
            f"{_of(name, _at(frame.columns, missing))}: {sum(missing)} values are missing, as polars' null; fill them, "
            "by .fill_null(0), or let NaN stand for them, by .cast(pl.Float64).fill_null(float('nan'))"
        )
    return np.asarray(frame.to_numpy(order="c"))


def _frame(name: str, names: list[Any], count: int, dtypes: Iterable[Any], block: Any) -> Frame:
    """A frame of `count` rows, of the columns of each dtype, which `block(places, names)` makes an array."""
    if not names:
        raise ValueError(f"{name}: the DataFrame has no columns")
    groups: dict[str, list[int]] = {}
    for place, dtype in enumerate(dtypes):
        groups.setdefault(repr(dtype), []).append(place)
    blocks = ((places, block(places, [names[i] for i in places])) for places in groups.values())
    if len(groups) == 1:
        return Frame(names, np.ascontiguousarray(next(blocks)[1]))
    parts = list(blocks)
    array: NDArray[Any] = np.empty((count, len(names)), np.result_type(*(part.dtype for _, part in parts)))
    for places, part in parts:
        array[:, places] = part
    return Frame(names, array)


def _check_names(names: Any, name: str) -> None:
    if len(set(names)) != len(names):
        twice = [column for i, column in enumerate(names) if column in list(names[:i])]
        raise ValueError(f"{name}: there is more than one column {_check.some(dict.fromkeys(twice))}")


def _at(names: Sequence[Any], counts: Iterable[int]) -> list[Any]:
    """Names of which something is counted."""
    return [name for name, count in zip(names, counts, strict=True) if count]


def _of(name: str, columns: Sequence[Any]) -> str:
    """What messages call columns of a table."""
    if list(columns) == [None]:
        return name
    return f"{name}: column{'s' if len(columns) > 1 else ''} {_check.some(columns)}"
