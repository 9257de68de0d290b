"""Orders and streams of random numbers that a seed decides, the same on every machine."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from fastnn import _check


def as_seed(seed: int | np.random.Generator | None) -> int:
    """The number that a seed stands for."""
    # 63 bits: what is drawn here also fits where others keep it as a signed number.
    if seed is None:
        return int.from_bytes(os.urandom(8), "little") >> 1
    if isinstance(seed, np.random.Generator):
        return int(seed.integers(2**63))
    return _check.integer("seed", seed, 0, _check.LARGEST_SEED)


def stream(seed: int, epoch: int, number: int) -> np.random.Philox:
    """The random words of an epoch: number 0 for its order, b + 1 for its batch b."""
    # Two words of the counter are left to each number: 2**128 blocks, so that none meets another.
    return np.random.Philox(key=np.array([seed, epoch], np.uint64), counter=np.array([0, 0, number, 0], np.uint64))


def shuffled(rows: int, seed: int, epoch: int = 0) -> NDArray[np.int64]:
    """Row numbers, each once."""
    # The rank of raw random words, not Generator.permutation: NumPy promises the words for
    # all its versions (NEP 19), so that a run resumes after an upgrade.
    words = stream(seed, epoch, 0).random_raw(rows)
    return np.argsort(words, kind="stable").astype(np.int64, copy=False)


def drawn(weights: NDArray[np.float64], seed: int, epoch: int) -> NDArray[np.int64]:
    """As many row numbers as there are weights, each as often as its weight says, by chance."""
    words = stream(seed, epoch, 0).random_raw(len(weights))
    total = np.cumsum(weights)
    chances = (words >> np.uint64(11)) * 2.0**-53 * total[-1]  # in [0, 1) times the sum of all
    # Rounding may bring a chance up to the sum itself: then it is that of the last row with a weight.
    last = int(np.flatnonzero(weights)[-1])
    rows: NDArray[np.int64] = np.minimum(np.searchsorted(total, chances, side="right"), last).astype(np.int64)
    return rows
