"""Batches of a dataset, in an order that a seed decides."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn import _check
from fastnn.data.dataset import Batch, Dataset, as_batch, as_dataset
from fastnn.data.order import as_seed, drawn, shuffled, stream
from fastnn.data.prefetch import ahead
from fastnn_ext.atomic import commit


class DataLoader:
    """Iterate over a dataset in batches; every ``for`` over the loader is one epoch.

    The order of epoch e depends on `seed` and e alone. Each batch is a tuple of C-contiguous arrays
    in native byte order, fresh memory that belongs to the consumer. The next batches are made, and
    augmented, in a background thread meanwhile.

    Parameters
    ----------
    dataset : Dataset, or tuple or list of arrays, or array
        Arrays, DataFrames and sparse matrices are taken as an `ArrayDataset`. Any other object needs
        ``len(dataset)`` and ``dataset[indices]`` as `Dataset` describes, or ``dataset[i]``, a sample: a
        tuple, or a dict with a column "label", as PyTorch's and Hugging Face's give.
    batch_size : int, default 1
        Rows a batch, at least 1.
    shuffle : bool, default False
        Draw a new order each epoch. Otherwise rows come as they stand.
    seed : int, numpy Generator or None
        From 0 to 2**64 - 1. A Generator is asked for one number. With None one is drawn from the
        operating system; either way ``loader.seed`` tells it, and repeats the run.
    drop_last : bool, default False
        Leave out the last batch of an epoch if it is smaller than `batch_size`.
    prefetch : int, default 2
        Batches made in advance; 0 makes each when it is asked for, without a thread.
    augment : callable, optional
        Called as ``augment(batch, generator)`` with a tuple of arrays and a NumPy Generator, and
        returns a tuple of arrays of as many rows; see `Compose` and its neighbours. It leaves its
        arguments as they are, and takes chance from `generator` alone.
    weights : array of float, shape (N,), optional
        Of each row, at least 0. Each epoch then draws as many rows as there are, with replacement, each with a
        chance in proportion to its weight: `balanced_weights` gives the rows of rare classes a larger one.

    Attributes
    ----------
    epoch : int
        The epoch under way, or, between two, the next one; from 0. Leaving an epoch early
        (``break``) ends it: the next ``for`` begins another.

    Raises
    ------
    TypeError, ValueError
        At once, naming the argument; also for a dataset without rows, and for one that
        `drop_last` leaves without a batch. What the dataset or its transform raises is raised in
        the loop, at the batch it concerns.

    Notes
    -----
    The Generator that `augment` gets for batch b of epoch e is a new one over
    ``numpy.random.Philox(key=[seed, e], counter=[0, 0, b + 1, 0])``, so that its numbers depend on
    these three alone: not on threads, on what was drawn for other batches, or on where a run was
    resumed. The order of the epoch comes from the same key and counter 0.

    Examples
    --------
    >>> loader = DataLoader((np.arange(10), np.arange(10) % 2), batch_size=4)
    >>> [len(x) for x, y in loader]
    [4, 4, 2]
    """

    def __init__(
        self,
        dataset: Dataset | Sequence[ArrayLike] | NDArray[Any],
        batch_size: int = 1,
        shuffle: bool = False,
        seed: int | np.random.Generator | None = None,
        drop_last: bool = False,
        prefetch: int = 2,
        augment: Callable[[Batch, np.random.Generator], Batch] | None = None,
        weights: ArrayLike | None = None,
    ) -> None:
        self.dataset = as_dataset(dataset)
        self.batch_size = _check.integer("batch_size", batch_size, 1)
        self.shuffle = _check.flag("shuffle", shuffle)
        self.seed = as_seed(seed)
        self.drop_last = _check.flag("drop_last", drop_last)
        self.prefetch = _check.integer("prefetch", prefetch, 0)
        if augment is not None and (not callable(augment) or isinstance(augment, type)):
            raise TypeError(
                f"augment: expected a callable, augment(batch, generator), or None, got {_check.kind_of(augment)}"
            )
        self.augment = augment
        self._samples = len(self.dataset)
        self.weights = None if weights is None else _as_weights(weights, self._samples)
        if self.weights is not None and self.shuffle:
            raise ValueError("shuffle: rows that weights draw come by chance already; leave it out")
        if self._samples == 0:
            raise ValueError("dataset: expected at least one row, got none")
        if len(self) == 0:
            raise ValueError(
                f"batch_size: {self.batch_size} with drop_last=True leaves no batch of a dataset "
                f"of {self._samples} rows"
            )
        self._epoch = 0
        self._batch = 0  # batches of this epoch that were handed out
        self._iteration: object | None = None  # the latest; only it moves the two above

    @property
    def epoch(self) -> int:
        return self._epoch

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        whole, rest = divmod(self._samples, self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Batch]:
        (epoch, batch), iteration = self._next(), object()
        # A state loaded midway leaves this iteration alone: it takes along what it needs.
        load = self._loading(epoch, self._order(epoch))
        self._move(epoch, batch, iteration)
        return self._batches(iteration, load, epoch, batch)

    def _next(self) -> tuple[int, int]:
        """Epoch and batch with which the next ``for`` begins."""
        left_early = self._iteration is not None
        return (self._epoch + 1, 0) if left_early else (self._epoch, self._batch)

    def _move(self, epoch: int, batch: int, iteration: object | None) -> None:
        """Take a place, as a whole: an interrupt in between would make it that of another epoch."""
        from fastnn_ext.atomic import commit

        commit([], [], [(self, "_epoch", epoch), (self, "_batch", batch), (self, "_iteration", iteration)])

    def state_dict(self) -> dict[str, int | bool]:
        """Return where the loader stands, as plain numbers.

        Returns
        -------
        dict
            ``seed``, ``epoch`` and ``batch``, the number of this epoch's batches handed out so
            far; and ``samples``, ``batch_size``, ``shuffle``, ``drop_last`` and a checksum of `weights`,
            if there are any, without which these would mean other batches.
        """
        return {"seed": self.seed, "epoch": self._epoch, "batch": self._batch, **self._geometry()}

    def load_state_dict(self, state: Mapping[str, int | bool]) -> None:
        """Continue from a state: the next ``for`` yields the batches that its epoch still had.

        That may be none, if the state was taken after the last batch of an epoch and before the
        end of its loop. An iteration under way goes on as it was, and no longer counts.

        Parameters
        ----------
        state : mapping
            From `state_dict`, of this loader or of one built alike.

        Raises
        ------
        TypeError, ValueError
            For keys or values that `state_dict` does not return, and for a loader that differs.
            The loader is left as it was.
        """
        commit([], [], self._staged(state))

    def _staged(self, state: Any) -> list[tuple[Any, str, Any]]:
        """The attributes that a state gives."""
        if not isinstance(state, Mapping):
            raise TypeError(f"state: expected a mapping, got {type(state).__name__}")
        expected = self.state_dict().keys()
        if state.keys() != expected:
            raise ValueError(f"state: expected the keys {sorted(expected)}, got {_check.some(state)}")
        for name, own in self._geometry().items():
            if type(state[name]) is not type(own) or state[name] != own:
                raise ValueError(
                    f"state: {name} is {_check.brief(state[name])} there and {own!r} in this loader, which "
                    "would make other batches"
                )
        seed = _check.integer("state['seed']", state["seed"], 0, _check.LARGEST_SEED)
        epoch = _check.count("state['epoch']", state["epoch"])
        batch = _check.integer("state['batch']", state["batch"], 0, len(self))
        return [(self, "seed", seed), (self, "_epoch", epoch), (self, "_batch", batch), (self, "_iteration", None)]

    def _geometry(self) -> dict[str, int | bool]:
        geometry: dict[str, int | bool] = {
            "samples": self._samples,
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "drop_last": self.drop_last,
        }
        if self.weights is not None:
            geometry["weights"] = zlib.crc32(self.weights.tobytes())
        return geometry

    def _loading(self, epoch: int, order: NDArray[np.int64]) -> Callable[[int], Batch]:
        seed, augment = self.seed, self.augment

        def load(number: int) -> Batch:
            rows = order[number * self.batch_size : (number + 1) * self.batch_size]
            batch = as_batch(self.dataset[rows], len(rows), "dataset[indices]")
            if augment is None:
                return batch
            generator = np.random.Generator(stream(seed, epoch, number + 1))
            return as_batch(augment(batch, generator), len(rows), "augment(batch, generator)")

        return load

    def _batches(self, iteration: object, load: Callable[[int], Batch], epoch: int, first: int) -> Iterator[Batch]:
        with closing(ahead(load, range(first, len(self)), self.prefetch)) as batches:
            for batch in batches:
                if self._iteration is iteration:
                    self._batch += 1
                yield batch
        if self._iteration is iteration:
            self._move(epoch + 1, 0, None)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if self.weights is not None:
            return drawn(self.weights, self.seed, epoch)
        if self.shuffle:
            return shuffled(self._samples, self.seed, epoch)
        return np.arange(self._samples, dtype=np.int64)


def balanced_weights(labels: ArrayLike) -> NDArray[np.float64]:
    """Weights of rows by which a `DataLoader` draws every class equally often.

    Parameters
    ----------
    labels : array of int, shape (N,)
        Classes, from 0.

    Returns
    -------
    ndarray of float64, shape (N,)
        1 / (rows of the row's class).

    Raises
    ------
    TypeError, ValueError
        If they are no classes.

    Examples
    --------
    >>> fn.data.balanced_weights([0, 0, 1, 0])
    array([0.33333333, 0.33333333, 1.        , 0.33333333])
    """
    classes = np.asarray(labels)
    if classes.ndim != 1 or classes.dtype.kind not in "iub" or not classes.size:
        raise TypeError(f"labels: expected integers of shape (N,), got {classes.dtype} {classes.shape}")
    _, which, counts = np.unique(classes, return_inverse=True, return_counts=True)
    return 1.0 / counts[which]


def _as_weights(weights: ArrayLike, rows: int) -> NDArray[np.float64]:
    array = np.asarray(weights)
    if array.shape != (rows,) or array.dtype.kind not in "fiub":
        raise ValueError(
            f"weights: expected a number for each of {rows} rows, shape ({rows},), got {array.dtype} {array.shape}"
        )
    array = array.astype(np.float64)
    if not (np.isfinite(array).all() and (array >= 0).all() and 0 < array.sum() < np.inf):
        raise ValueError("weights: expected finite numbers of at least 0, and one above it")
    return array
