"""What the commands ask of a run's data, be they a known set or the user's own."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from fastnn.data import ClassTarget, DataLoader, NumberTarget, read_idx, read_npy
from fastnn.data.idx import NotIDXError

Samples: TypeAlias = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]  # inputs and targets, as networks take them


class Source:
    """A run's data.

    Attributes
    ----------
    splits : tuple of str
        The parts that there are.
    shape : tuple of int
        Of a sample, as networks take it: (features,), or (channels, height, width).
    target : ClassTarget or NumberTarget
    """

    splits: tuple[str, ...]
    shape: tuple[int, ...]
    target: ClassTarget | NumberTarget

    def load(self, split: str) -> Samples:
        """The inputs and targets of one of the splits, as networks take them."""
        raise NotImplementedError

    def training(self) -> tuple[DataLoader, Samples, Samples | None]:
        """What the network is trained on, what it is validated on, and what it is tested on at last, if there is
        such a part."""
        raise NotImplementedError

    def inputs(self, files: list[str]) -> np.ndarray[Any, Any]:
        """Other samples, of files that the user names."""
        raise NotImplementedError

    def labelled(self, files: list[str]) -> Samples:
        """Other samples with their targets."""
        raise NotImplementedError

    def decoded(self, output: np.ndarray[Any, Any]) -> list[Any]:
        """Predictions as the user knows them: classes by name, or rows of numbers in their own units."""
        raise NotImplementedError


def read_samples(path: str) -> np.ndarray[Any, Any]:
    """The array of a .npy or IDX file."""
    if path.endswith(".npy"):
        return read_npy(path)
    try:
        return read_idx(path)
    except NotIDXError as error:
        raise ValueError(
            f"{error}. Samples are read from .npy files, by that ending, and from IDX files; numbers in a text "
            f"file become one by np.save('samples.npy', np.loadtxt({path!r}, delimiter=','))"
        ) from None
