"""The rule for dtypes, at all doors where data come in: numbers become the model's dtype, labels int64.

Data that `Trainer`, its helpers and estimators take:

- float16, float32, float64 (and longer ones) become the model's dtype. NaN and infinities stay. A finite number that
  the model's dtype cannot hold is refused.
- Integers and booleans become the model's dtype, too, where the model computes with them: bytes of images stay 0 to
  255. Where it reads them as labels, an embedding or a loss of classes, they are int64.
- Complex numbers, texts, times and objects are refused, with the way that helps.

A module or a `TrainStep` that is called itself converts nothing but integers to int64, and refuses what does not fit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import _check

_LARGEST_LABEL = np.iinfo(np.int64).max

_TEXTS = (
    ".astype(np.float32) makes numbers of texts, np.unique(y, return_inverse=True)[1] labels of classes, and "
    "fn.data.TableRecipe features of a table with categories"
)
#: What helps, by the kind of a dtype.
_MENDS = {
    "c": "give its real and imaginary parts as columns",
    "M": "t - t.min() makes differences of times",
    "m": "t / np.timedelta64(1, 's') makes seconds of differences of times",
}


def check_kind(dtype: Any, name: str, kinds: str = "biuf") -> None:
    """TypeError for a dtype that no numbers have."""
    if dtype.kind not in kinds:
        raise not_numbers(name, dtype, _MENDS.get(dtype.kind, _TEXTS))


def not_in_table(name: str, dtype: Any) -> TypeError:
    """Of a DataFrame's column."""
    return not_numbers(
        name,
        dtype,
        "leave it out, or make features of categories by fn.data.TableRecipe, of fn.data.Table(df.columns, "
        "df.to_numpy().astype(str)); labels of classes are np.unique(y, return_inverse=True)[1]",
    )


def not_numbers(name: str, dtype: Any, mend: str = _TEXTS) -> TypeError:
    return TypeError(f"{name}: expected numbers or booleans, got dtype {_check.brief(str(dtype), str)}; {mend}")


def as_numbers(array: NDArray[Any], dtype: np.dtype[Any], name: str) -> NDArray[Any]:
    """Numbers in the model's dtype; the array itself, where it has that.

    Raises
    ------
    TypeError
        For a dtype that no numbers have.
    ValueError
        For a finite number that is an infinity in the model's dtype.

    Examples
    --------
    >>> from fastnn.data.dtypes import as_numbers
    >>> as_numbers(np.array([0, 255], np.uint8), np.dtype(np.float32), "x")
    array([  0., 255.], dtype=float32)
    """
    if array.dtype == dtype:
        return array
    check_kind(array.dtype, name)
    try:
        with np.errstate(over="raise", invalid="ignore"):
            return array.astype(dtype)
    except FloatingPointError:
        largest = np.nanmax(np.abs(array[np.isfinite(array)]))
        raise ValueError(
            f"{name} holds numbers up to {largest:.3g}, and {dtype} none above {np.finfo(dtype).max:.3g}; scale them"
        ) from None


def as_labels(array: NDArray[Any], name: str) -> NDArray[np.int64]:
    """Integers or booleans as int64; the array itself, where it is that."""
    if array.dtype == np.uint64 and array.size and int(array.max()) > _LARGEST_LABEL:
        raise ValueError(f"{name} holds {_check.brief(int(array.max()))}, which does not fit int64")
    return array.astype(np.int64, copy=False)
