"""The 8x8 handwritten digits that come with the package."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastnn import _check
from fastnn.data.idx import read_idx

# SHA-256 of each file of _digits; its README.md tells where they come from.
_FILES = {
    "images-idx3-ubyte.gz": "16bf71e8bfa958f11ad68a045567f2a2f5362b27ab1e7cadd4cf9a3cbb37176e",
    "labels-idx1-ubyte.gz": "22e1486adc7849d49bbac7f3e6227134ade1aea8cf5289c8dceeecd5a005d43c",
}
_TEST_PER_CLASS = 36  # a fifth, and the same of every digit


def digits(split: str = "train", *, flatten: bool = False) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the 1 797 handwritten digits of UCI's test set, 8x8 grey, embedded in the package.

    Parameters
    ----------
    split : {"train", "test", "all"}, default "train"
        1 437, 360 or 1 797 digits, in the order of UCI's file. "test" has 36 of each digit: those
        with the smallest numbers, when image i is given word i of the stream of
        ``numpy.random.Philox(key=0)``. The same 13 writers are in both parts.
    flatten : bool, default False
        Images as rows of 64 values.

    Returns
    -------
    images : ndarray of float32, shape (N, 1, 8, 8) or (N, 64)
        From 0 (background) to 1 (ink), in steps of 1/16.
    labels : ndarray of int64, shape (N,)
        The digits, 0 to 9.

    Raises
    ------
    ValueError
        For another `split`, or when the embedded files are damaged.
    TypeError
        For a `flatten` that is no bool.

    References
    ----------
    E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
    Repository, 1998, doi:10.24432/C50P49; CC BY 4.0. See ``_digits/README.md``.
    """
    _check.choice("split", split, "train", "test", "all")
    flatten = _check.flag("flatten", flatten)
    images, labels = (_read(name) for name in _FILES)
    if split != "all":
        chosen = _held_out(labels) == (split == "test")
        images, labels = images[chosen], labels[chosen]
    images = images.reshape(-1, 64) if flatten else images.reshape(-1, 1, 8, 8)
    return np.divide(images, 16, dtype=np.float32), labels.astype(np.int64)


def _held_out(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    words = np.random.Philox(key=0).random_raw(len(labels))
    held_out = np.zeros(len(labels), dtype=bool)
    for digit in range(10):
        (where,) = np.nonzero(labels == digit)
        held_out[where[np.argsort(words[where])[:_TEST_PER_CLASS]]] = True
    return held_out


def _read(name: str) -> NDArray[np.uint8]:
    from hashlib import sha256
    from importlib import resources

    with resources.as_file(resources.files("fastnn.data") / "_digits" / name) as path:
        if sha256(path.read_bytes()).hexdigest() != _FILES[name]:
            raise ValueError(f"{path}: damaged: its SHA-256 is not the one recorded for it")
        return read_idx(path)
