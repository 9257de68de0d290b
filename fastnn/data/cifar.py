"""CIFAR-10 and CIFAR-100 in their binary version, from files that the user has.

A file is a row of records without a header: a label byte (in CIFAR-100 two, coarse and fine), then
the red, the green and the blue values of 32x32 pixels, row by row. Source: A. Krizhevsky, "The
CIFAR-10 dataset", section "Binary version", https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastnn import _check
from fastnn.data import _folders

#: What the labels of CIFAR-10 mean, by number.
CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)

_PIXELS = 3 * 32 * 32
_CIFAR10 = {
    "train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
    "test": ("test_batch.bin",),
}
_CIFAR100 = {"train": ("train.bin",), "test": ("test.bin",)}
_CIFAR100_CLASSES = (20, 100)  # of its two label bytes, coarse and fine


def cifar10(
    split: str = "train",
    root: str | os.PathLike[str] | None = None,
    *,
    flatten: bool = False,
    normalize: bool = True,
    dtype: DTypeLike = np.float32,
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Read 32x32 colour photographs of 10 classes: 50 000 for training, 10 000 for testing.

    Parameters
    ----------
    split : {"train", "test"}, default "train"
    root : path-like, optional
        The folder of the files ``data_batch_1.bin`` ... ``data_batch_5.bin`` and
        ``test_batch.bin``. Without it, ``$FASTNN_DATA`` and then the cache folder
        (``~/.cache/fastnn`` on Linux) are searched. The files may lie there or in its subfolder
        ``cifar-10-batches-bin``, ``cifar10`` or ``cifar10/cifar-10-batches-bin``.
    flatten : bool, default False
        Images as rows of 3 072 values.
    normalize : bool, default True
        Scale the images from 0..255 to [0, 1]. Otherwise they are uint8, a quarter of the memory:
        `Normalize` scales a batch at a time.
    dtype : dtype, default float32
        Floating type of the scaled images.

    Returns
    -------
    images : ndarray of shape (N, 3, 32, 32) or (N, 3072)
        Red, green, blue.
    labels : ndarray of int64, shape (N,)
        0 to 9; `CIFAR10_CLASSES` names them.

    Raises
    ------
    FileNotFoundError
        If the files are not there; says which go where. Nothing is downloaded.
    ValueError
        For another `split`, or a file that is no whole number of records or has a label of no
        class, by name.
    TypeError
        For flags that are no bool, a `dtype` that is not floating, or a `root` that is no path.

    References
    ----------
    A. Krizhevsky, "Learning multiple layers of features from tiny images", technical report,
    University of Toronto, 2009, chapter 3.
    """
    names = _CIFAR10[_folders.split_of(split, *_CIFAR10)]
    paths = _find("CIFAR-10", names, _CIFAR10, ("cifar-10-batches-bin", "cifar10"), root)
    images, labels = _read(paths, (10,), flatten, normalize, dtype)
    return images, labels[:, 0]


def cifar100(
    split: str = "train",
    root: str | os.PathLike[str] | None = None,
    *,
    flatten: bool = False,
    normalize: bool = True,
    dtype: DTypeLike = np.float32,
    labels: str = "fine",
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Read 32x32 colour photographs of 100 classes: 50 000 for training, 10 000 for testing.

    Parameters
    ----------
    split : {"train", "test"}, default "train"
    root : path-like, optional
        The folder of the files ``train.bin`` and ``test.bin``, searched for as by `cifar10`, in
        the subfolders ``cifar-100-binary``, ``cifar100`` and ``cifar100/cifar-100-binary``.
    flatten, normalize, dtype
        As of `cifar10`.
    labels : {"fine", "coarse"}, default "fine"
        The 100 classes, or the 20 groups of five that they form.

    Returns
    -------
    images : ndarray of shape (N, 3, 32, 32) or (N, 3072)
    labels : ndarray of int64, shape (N,)
        0 to 99, or 0 to 19.

    Raises
    ------
    FileNotFoundError, ValueError, TypeError
        As by `cifar10`.
    """
    names = _CIFAR100[_folders.split_of(split, *_CIFAR100)]
    column = ("coarse", "fine").index(_check.choice("labels", labels, "fine", "coarse"))
    paths = _find("CIFAR-100", names, _CIFAR100, ("cifar-100-binary", "cifar100"), root)
    images, both = _read(paths, _CIFAR100_CLASSES, flatten, normalize, dtype)
    return images, np.ascontiguousarray(both[:, column])


def _read(
    paths: Sequence[str],
    classes: tuple[int, ...],
    flatten: bool,
    normalize: bool,
    dtype: DTypeLike,
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Images, and labels of shape (N, len(classes)), of all files in their order."""
    flatten = _check.flag("flatten", flatten)
    pixel = _check.floating("dtype", dtype)
    if not _check.flag("normalize", normalize):
        pixel = np.dtype(np.uint8)
    counts = [_records(path, len(classes)) for path in paths]
    images = np.empty((sum(counts), _PIXELS), pixel)
    labels = np.empty((sum(counts), len(classes)), np.int64)
    end = 0
    # A file at a time: beside the result, no more than one is in memory.
    for path, count in zip(paths, counts, strict=True):
        start, end = end, end + count
        records = np.fromfile(path, np.uint8, count * (len(classes) + _PIXELS))
        if records.size != count * (len(classes) + _PIXELS):
            raise ValueError(f"{path}: it was made shorter while it was read")
        records = records.reshape(count, -1)
        labels[start:end] = records[:, : len(classes)]
        for column, number in enumerate(classes):
            largest = labels[start:end, column].max()
            if largest >= number:
                raise ValueError(f"{path}: expected labels 0 to {number - 1}, got {largest}")
        if pixel.kind == "f":
            np.divide(records[:, len(classes) :], 255, out=images[start:end], dtype=pixel)
        else:
            images[start:end] = records[:, len(classes) :]
    return images if flatten else images.reshape(-1, 3, 32, 32), labels


def _records(path: str, label_bytes: int) -> int:
    """The number of records in a file, by its size."""
    length, size = label_bytes + _PIXELS, os.path.getsize(path)
    count, rest = divmod(size, length)
    if count == 0 or rest:
        raise ValueError(
            f"{path}: expected one or more records of {length} bytes each, got {size} bytes: "
            f"{count} records and {rest} bytes"
        )
    return count


def _find(
    title: str,
    names: tuple[str, ...],
    files: Mapping[str, tuple[str, ...]],
    subfolders: tuple[str, str],
    root: str | os.PathLike[str] | None,
) -> list[str]:
    """Return the paths of `names`, all from the first folder that has every one of them."""
    original, short = subfolders
    places = _folders.places(root)
    for folder in (
        os.path.join(place, sub) for place in places for sub in ("", original, short, os.path.join(short, original))
    ):
        found = [os.path.join(folder, name) for name in names]
        if all(os.path.isfile(path) for path in found):
            return found
    every = ", ".join(name for group in files.values() for name in group)
    raise _folders.DataNotFoundError(
        f"{title}: no folder with {', '.join(names)}. Put {every} of the binary version (not the "
        f"Python or Matlab version) into {' or '.join(places)}, or into a subfolder {original} there"
    )
