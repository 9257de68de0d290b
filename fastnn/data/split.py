"""Parts of a dataset: some of its rows, random splits, folds for cross-validation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn import _check
from fastnn.data.dataset import Batch, Dataset, as_dataset
from fastnn.data.order import as_seed, shuffled


class Subset:
    """Some rows of a dataset, in an order of their own.

    Parameters
    ----------
    dataset : Dataset, or tuple or list of arrays, or array
        Arrays are taken as an `ArrayDataset`.
    indices : array of int, shape (n,)
        Row numbers; negative ones count from the end. A row may stand there more than once.

    Attributes
    ----------
    dataset : Dataset
    indices : ndarray of int64, shape (n,)

    Raises
    ------
    TypeError, ValueError, IndexError
        Naming the argument.

    Examples
    --------
    >>> odd = fn.data.Subset((np.arange(10), np.arange(10) ** 2), [1, 3, 5, 7, 9])
    >>> odd[[0, 1]]
    (array([1, 3]), array([1, 9]))
    """

    def __init__(self, dataset: Dataset | Sequence[ArrayLike] | NDArray[Any], indices: ArrayLike) -> None:
        self.dataset = as_dataset(dataset)
        rows = np.asarray(indices)
        if rows.ndim != 1 or (rows.dtype.kind not in "iu" and rows.size):
            raise TypeError(f"indices: expected integers of shape (n,), got {rows.dtype} {rows.shape}")
        count = len(self.dataset)
        if rows.size and not (-count <= rows.min() and rows.max() < count):
            raise IndexError(f"indices: from {rows.min()} to {rows.max()}, for a dataset of {count} rows")
        self.indices: NDArray[np.int64] = np.where(rows < 0, rows + count, rows).astype(np.int64)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: NDArray[np.int64]) -> Batch:
        return self.dataset[self.indices[index]]


def random_split(
    dataset: Dataset | Sequence[ArrayLike] | NDArray[Any],
    lengths: Sequence[float],
    seed: int | np.random.Generator | None = None,
    stratify: ArrayLike | None = None,
) -> list[Subset]:
    """Divide a dataset by chance into parts that share no row.

    Parameters
    ----------
    dataset : Dataset, or tuple or list of arrays, or array
    lengths : sequence of int or of float
        Rows of each part, which add up to those of the dataset; or shares, which add up to 1: then
        rows that are left over go to the first parts, one each.
    seed : int, numpy Generator or None
        As of `DataLoader`; with None every call divides anew.
    stratify : array of int, shape (N,), optional
        Classes. Each part has of each class its share, to within a row.

    Returns
    -------
    list of Subset

    Raises
    ------
    TypeError, ValueError
        Naming the argument.

    Examples
    --------
    >>> training, validation = fn.data.random_split((np.arange(10), np.arange(10) % 2), [0.8, 0.2], seed=0)
    >>> len(training), len(validation)
    (8, 2)
    """
    whole = as_dataset(dataset)
    counts = _counts(lengths, len(whole))
    order = _shuffled(len(whole), seed, stratify)
    if stratify is None:
        return [Subset(whole, part) for part in np.split(order, np.cumsum(counts)[:-1])]
    # Rows of a class stand side by side: dealt out evenly, each part gets its share of every class.
    owner = _dealt(counts)
    return [Subset(whole, order[owner == part]) for part in range(len(counts))]


def k_fold(
    dataset: Dataset | Sequence[ArrayLike] | NDArray[Any],
    k: int = 5,
    seed: int | np.random.Generator | None = None,
    stratify: ArrayLike | None = None,
) -> Iterator[tuple[Subset, Subset]]:
    """Training and validation parts for cross-validation: each row validates once, and trains k - 1 times.

    Parameters
    ----------
    dataset : Dataset, or tuple or list of arrays, or array
    k : int, default 5
        Folds, from 2 to as many as there are rows.
    seed, stratify
        As of `random_split`.

    Yields
    ------
    training, validation : Subset

    Raises
    ------
    TypeError, ValueError
        Naming the argument, at once.

    Examples
    --------
    >>> [(len(training), len(validation)) for training, validation in fn.data.k_fold(np.arange(10), k=3, seed=0)]
    [(6, 4), (7, 3), (7, 3)]
    """
    whole = as_dataset(dataset)
    k = _check.integer("k", k, 2)
    if k > len(whole):
        raise ValueError(f"k: {k} folds of a dataset of {len(whole)} rows; expected {len(whole)} at most")
    folds = random_split(whole, [len(whole) // k + (fold < len(whole) % k) for fold in range(k)], seed, stratify)
    return (
        (Subset(whole, np.concatenate([other.indices for other in folds if other is not fold])), fold) for fold in folds
    )


def _counts(lengths: Sequence[float], rows: int) -> list[int]:
    parts = list(lengths) if isinstance(lengths, (list, tuple)) or hasattr(lengths, "__array__") else None
    if not parts:
        raise TypeError(f"lengths: expected rows or shares of the parts, got {_check.kind_of(lengths)}")
    if all(isinstance(part, (int, np.integer)) and not isinstance(part, bool) for part in parts):
        counts = [_check.integer(f"lengths[{i}]", part, 0) for i, part in enumerate(parts)]
        if sum(counts) != rows:
            raise ValueError(f"lengths: {counts} add up to {sum(counts)}, and the dataset has {rows} rows")
        return counts
    shares = [_check.real(f"lengths[{i}]", part, 0, 1) for i, part in enumerate(parts)]
    if not math.isclose(sum(shares), 1, abs_tol=1e-9):
        raise ValueError(f"lengths: shares add up to 1, and {shares} to {sum(shares):g}")
    counts = [math.floor(share * rows + 1e-9) for share in shares]
    for i in range(rows - sum(counts)):
        counts[i % len(counts)] += 1
    return counts


def _shuffled(rows: int, seed: int | np.random.Generator | None, stratify: ArrayLike | None) -> NDArray[np.int64]:
    """Row numbers in an order that the seed decides; those of a class side by side, if there are classes."""
    order = shuffled(rows, as_seed(seed))
    if stratify is None:
        return order
    classes = np.asarray(stratify)
    if classes.shape != (rows,) or classes.dtype.kind not in "iub":
        raise ValueError(
            f"stratify: expected the classes of {rows} rows, integers of shape ({rows},), got {classes.dtype} "
            f"{classes.shape}"
        )
    return order[np.argsort(classes[order], kind="stable")]


def _dealt(counts: Sequence[int]) -> NDArray[np.int64]:
    """To which part each row goes, so that every part's rows are spread evenly: its j-th of c at (j + 1/2) / c."""
    owner = np.repeat(np.arange(len(counts)), counts)
    places = np.concatenate([(np.arange(count) + 0.5) / max(count, 1) for count in counts])
    return owner[np.argsort(places, kind="stable")].astype(np.int64)
