"""The data sets that the command line knows by name."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn import _check, data
from fastnn.cli.config import Config
from fastnn.cli.source import Samples, Source, read_samples
from fastnn.data import ClassTarget, DataLoader

_NO_EPOCH = 2**64 - 1  # the words of a seed that no epoch draws


@dataclass(frozen=True)
class Set:
    """A data set that the command line knows."""

    shape: tuple[int, ...]  # of a sample as files have it
    classes: int
    scale: float  # what integer values are divided by
    normalize: data.Normalize | None = None  # and what is done to them then

    @property
    def image(self) -> tuple[int, ...]:
        """Channels, height, width."""
        return self.shape if len(self.shape) == 3 else (1, *self.shape)

    def scaled(self, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Integers (N, ...) as networks take them."""
        images = np.divide(images, self.scale, dtype=np.float32).reshape(-1, *self.image)
        return images if self.normalize is None else self.normalize((images,))[0]


# Means and deviations of the training set's pixels.
_CIFAR10 = data.Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))

SETS = {
    "digits": Set((8, 8), 10, 16.0),
    "mnist": Set((28, 28), 10, 255.0),
    "cifar10": Set((3, 32, 32), 10, 255.0, _CIFAR10),
}


class Named(Source):
    """A data set by its name.

    Parameters
    ----------
    config : Config
    folder : str, optional
        Of its files; see Run.data_folder.
    """

    splits = ("train", "validation", "test")

    def __init__(self, config: Config, folder: str | None = None) -> None:
        self.config = config
        self.folder = folder
        self.set = SETS[config.data]
        self.shape = self.set.image
        digits = tuple(map(str, range(self.set.classes)))
        self.target = ClassTarget(data.CIFAR10_CLASSES if config.data == "cifar10" else digits)

    def load(self, split: str) -> Samples:
        whole = self._read("test" if split == "test" else "train")
        return self._as_taken(whole if split == "test" else self._parts(whole)[split])

    def training(self) -> tuple[DataLoader, Samples, Samples | None]:
        """With `shifts` it is trained on five images for each of the set; with `crops`, each image is moved and
        mirrored by chance."""
        config = self.config
        parts = self._parts(self._read("train"))
        augment: list[Any] = []
        if config.data == "cifar10":
            # Bytes are a quarter of the memory, and are moved and mirrored in a quarter of the time.
            images, labels = parts["train"]
            if config.crops:
                augment += [data.RandomCrop(images.shape[2], padding=4), data.RandomHorizontalFlip()]
        else:
            images, labels = self._as_taken(parts["train"])
        if self.set.normalize is not None:
            augment.append(self.set.normalize)
        loader = DataLoader(
            Shifted(images, labels) if config.shifts else (images, labels),
            config.batch_size,
            shuffle=True,
            seed=config.seed,
            augment=data.Compose(augment) if augment else None,
        )
        return loader, self._as_taken(parts["validation"]), self.load("test")

    def inputs(self, files: list[str]) -> np.ndarray[Any, Any]:
        """Samples of a file as float32, (N, C, H, W); one sample alone makes N = 1."""
        if len(files) > 1:
            raise ValueError(f"{files[1]}: one file is read, got {len(files)}")
        (path,) = files
        array = read_samples(path)
        shape, size = self.set.shape, math.prod(self.set.shape)
        if array.shape in (shape, (1, *shape), (size,)):
            array = array[np.newaxis]
        if array.ndim < 2 or math.prod(array.shape[1:]) != size or len(array) == 0:
            raise ValueError(
                f"{path}: holds an array of shape {_check.brief(array.shape)}; {self.config.data} has samples of shape "
                f"{shape}, so expected (N, {', '.join(map(str, shape))}) or (N, {size})"
            )
        if array.dtype.kind in "iu":
            return self.set.scaled(array)
        if array.dtype.kind != "f":
            raise ValueError(f"{path}: holds {array.dtype}; expected numbers")
        return array.astype(np.float32).reshape(-1, *self.shape)

    def labelled(self, files: list[str]) -> Samples:
        raise ValueError(f"{files[0]}: the test set of {self.config.data} is measured; leave the file out")

    def decoded(self, output: np.ndarray[Any, Any]) -> list[Any]:
        """Classes by their numbers, which are the names of digits."""
        classes: list[Any] = output.argmax(1).tolist()
        return classes

    def _read(self, split: str) -> Samples:
        return read_set(self.config.data, split, self.folder)

    def _as_taken(self, samples: Samples) -> Samples:
        images, labels = samples
        return self.set.scaled(images), labels

    def _parts(self, samples: Samples) -> dict[str, Samples]:
        """The training data in two: a part, which the seed chooses, is for validation."""
        images, labels = samples
        words = np.random.Philox(key=np.array([self.config.seed, _NO_EPOCH], np.uint64)).random_raw(len(labels))
        held_out = np.zeros(len(labels), bool)
        count = min(max(1, round(self.config.val_fraction * len(labels))), len(labels) - 1)
        held_out[np.argsort(words, kind="stable")[:count]] = True
        return {
            "train": (images[~held_out], labels[~held_out]),
            "validation": (images[held_out], labels[held_out]),
        }


def read_set(name: str, split: str, folder: str | None) -> Samples:
    """Images, as integers, and labels of "train" or "test"."""
    if name == "digits":
        images, labels = data.digits(split)
        return (images * np.float32(SETS[name].scale)).astype(np.uint8), labels
    return {"mnist": data.mnist, "cifar10": data.cifar10}[name](split, folder, normalize=False)


class Shifted:
    """Images as they are, and moved by a pixel to each side: a data set five times as large."""

    moves = ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))  # where the image is cut from its padded self

    def __init__(self, images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> None:
        self.size = images.shape[2:]
        self.padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels) * len(self.moves)

    def __getitem__(self, index: np.ndarray[Any, np.dtype[np.int64]]) -> Samples:
        row, move = np.divmod(index, len(self.moves))
        height, width = self.size
        channels = self.padded.shape[1]
        images = np.empty((len(index), channels, height, width), self.padded.dtype)
        for k, (i, j) in enumerate(self.moves):
            chosen = move == k
            images[chosen] = self.padded[row[chosen], :, i : i + height, j : j + width]
        return images, self.labels[row]
