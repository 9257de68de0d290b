"""MNIST, and every set in its form, from files that the user has."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastnn import _check
from fastnn.data import _folders
from fastnn.data.idx import read_checked

_NAMES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_SUBFOLDERS = ("", "mnist", "MNIST/raw")  # the last is torchvision's


def mnist(
    split: str = "train",
    root: str | os.PathLike[str] | None = None,
    *,
    flatten: bool = False,
    normalize: bool = True,
    dtype: DTypeLike = np.float32,
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Read handwritten digits, 28x28 grey: 60 000 for training, 10 000 for testing.

    Fashion-MNIST and KMNIST come in the same form under the same names, and are read alike.

    Parameters
    ----------
    split : {"train", "test"}, default "train"
    root : path-like, optional
        The folder of the files. Without it, ``$FASTNN_DATA`` and then the cache folder
        (``~/.cache/fastnn`` on Linux) are searched. The files, compressed with gzip or not, may
        lie there or in its subfolder ``mnist`` or ``MNIST/raw``.
    flatten : bool, default False
        Images as rows of 784 values.
    normalize : bool, default True
        Scale the images from 0..255 to [0, 1]. Otherwise they are uint8.
    dtype : dtype, default float32
        Floating type of the scaled images.

    Returns
    -------
    images : ndarray of shape (N, 1, 28, 28) or (N, 784)
        0 is background, the largest value ink.
    labels : ndarray of int64, shape (N,)
        The digits, 0 to 9.

    Raises
    ------
    FileNotFoundError
        If the files are not there; says which go where. Nothing is downloaded.
    ValueError
        For another `split`, or a file that is damaged or holds something else, by name.
    TypeError
        For flags that are no bool, a `dtype` that is not floating, or a `root` that is no path.

    References
    ----------
    Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document
    recognition", Proceedings of the IEEE 86(11), 1998.
    """
    names = _NAMES[_folders.split_of(split, *_NAMES)]
    flatten = _check.flag("flatten", flatten)
    normalize = _check.flag("normalize", normalize)
    dtype = _check.floating("dtype", dtype)

    images_path, labels_path = _find(names, root)

    def are_images(dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        if dtype != np.uint8 or shape[1:] != (28, 28):
            raise ValueError(f"{images_path}: expected uint8 images (N, 28, 28), got {dtype} {shape}")

    images = read_checked(images_path, are_images)

    def are_labels(dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        if dtype != np.uint8 or shape != images.shape[:1]:
            raise ValueError(
                f"{labels_path}: expected uint8 labels ({len(images)},), one for each image, got {dtype} {shape}"
            )

    labels = read_checked(labels_path, are_labels)
    if labels.max(initial=0) > 9:
        raise ValueError(f"{labels_path}: expected labels 0 to 9, got {labels.max()}")

    images = images.reshape(-1, 784) if flatten else images.reshape(-1, 1, 28, 28)
    if normalize:
        images = np.divide(images, 255, dtype=dtype)
    return images, labels.astype(np.int64)


def _find(names: tuple[str, ...], root: str | os.PathLike[str] | None) -> list[str]:
    """Return the paths of `names`, all from the first folder that has every one of them."""
    places = _folders.places(root)
    for folder in (os.path.join(place, sub) for place in places for sub in _SUBFOLDERS):
        found = [_either(os.path.join(folder, name)) for name in names]
        if all(os.path.isfile(path) for path in found):
            return found
    four = ", ".join(name for pair in _NAMES.values() for name in pair)
    raise _folders.DataNotFoundError(
        f"MNIST: no folder with both {names[0]} and {names[1]}. Put the four files {four} (each as "
        f"it is or with .gz) into {' or '.join(places)}, or into a subfolder mnist there"
    )


def _either(plain: str) -> str:
    return plain if os.path.isfile(plain) else f"{plain}.gz"
