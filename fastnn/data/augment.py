"""Augmentation: batches of images, changed by chance, with numbers that the place in a run decides.

An augmentation is called as ``augmentation(batch, generator)`` with a tuple of arrays, of which the
first holds the images, and a NumPy Generator; it returns the tuple with other images, and leaves
what it was given as it is. `DataLoader` calls it in its background thread, each time with a
Generator of its own for that batch of that epoch (see there), and so draws the same numbers
whatever the threads do and wherever a run was resumed. Any function of this form is one, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from fastnn import _check
from fastnn.data.dataset import Batch

# A string, since NumPy imports its random room only when that is named.
Augmentation: TypeAlias = "Callable[[Batch, np.random.Generator], Batch]"

_PADDING_MODES = ("constant", "edge", "reflect", "symmetric")


class Compose:
    """Augmentations one after the other; each draws its numbers where the one before ended.

    Parameters
    ----------
    augmentations : sequence of callable
        Called in this order. Those that work on bytes (all but `GaussianNoise`) are cheapest
        before `Normalize` makes them floats.

    Raises
    ------
    TypeError
        For anything but a sequence of callables.

    Examples
    --------
    >>> x, y = fn.data.digits("train")
    >>> augment = fn.data.Compose([fn.data.RandomCrop(8, padding=1), fn.data.Normalize((0.3,), (0.38,))])
    >>> loader = fn.data.DataLoader((x, y), 128, shuffle=True, seed=0, augment=augment)
    >>> [xb.shape for xb, yb in loader][-1]
    (29, 1, 8, 8)
    """

    def __init__(self, augmentations: Sequence[Augmentation]) -> None:
        if not isinstance(augmentations, (list, tuple)):
            raise TypeError(
                f"augmentations: expected a list or tuple of callables, got {_check.kind_of(augmentations)}"
            )
        for i, augmentation in enumerate(augmentations):
            if not callable(augmentation) or isinstance(augmentation, type):
                kind = _check.kind_of(augmentation)
                raise TypeError(f"augmentations[{i}]: expected a callable, got {kind}")
        self.augmentations = tuple(augmentations)

    def __call__(self, batch: Batch, generator: np.random.Generator) -> Batch:
        for augmentation in self.augmentations:
            batch = augmentation(batch, generator)
        return batch

    def __repr__(self) -> str:
        return f"Compose([{', '.join(map(repr, self.augmentations))}])"


class RandomCrop:
    """Cut a window out of each image, at a place of its own, all places alike probable.

    Parameters
    ----------
    size : int or (int, int)
        Height and width of the window, or the side of a square.
    padding : int, default 0
        Pixels added on each side before.
    fill : float, default 0
        Value of the pixels added, in the unit of the images.
    padding_mode : {"constant", "edge", "reflect", "symmetric"}, default "constant"
        What is added: `fill`, the pixel at the edge, or the image mirrored, without or with the
        pixel at the edge once more.

    Raises
    ------
    TypeError, ValueError
        Naming the argument; for a batch, if its images are smaller than the window.

    References
    ----------
    With ``padding=4`` the augmentation of CIFAR in K. He et al., "Deep residual learning for image
    recognition", 2016, section 4.2.
    """

    def __init__(
        self,
        size: int | Sequence[int],
        padding: int = 0,
        fill: float = 0.0,
        padding_mode: str = "constant",
    ) -> None:
        self.size = _check.height_and_width("size", size)
        self.padding = _check.integer("padding", padding, 0)
        self.fill = _check.real("fill", fill)
        self.padding_mode = _check.choice("padding_mode", padding_mode, *_PADDING_MODES)

    def __call__(self, batch: Batch, generator: np.random.Generator) -> Batch:
        images, *rest = _images(batch)
        padded = _pad(images, self.padding, self.fill, self.padding_mode)
        (height, width), (rows, columns) = self.size, padded.shape[-2:]
        if height > rows or width > columns:
            raise ValueError(
                f"size: a window of {height}x{width} is cut out of images of {rows}x{columns} "
                f"pixels (height x width, padding included)"
            )
        count = len(images)
        top = _integers(generator, count, rows - height + 1)
        left = _integers(generator, count, columns - width + 1)
        # (N, rows - height + 1, columns - width + 1, ..., height, width): all windows, as a view
        windows = np.moveaxis(sliding_window_view(padded, self.size, axis=(-2, -1)), (-4, -3), (1, 2))
        return windows[np.arange(count), top, left], *rest

    def __repr__(self) -> str:
        more = f", fill={self.fill:g}" if self.padding_mode == "constant" and self.fill else ""
        if self.padding_mode != "constant":
            more = f", padding_mode={self.padding_mode!r}"
        return f"RandomCrop({self.size}, padding={self.padding}{more})"


class RandomShift:
    """Move each image by whole pixels, all moves alike probable, and fill what is bared.

    Parameters
    ----------
    max : int
        The largest move up, down, left and right, in pixels.
    fill : float, default 0
        Value of the pixels bared, in the unit of the images.

    Raises
    ------
    TypeError, ValueError
        Naming the argument.
    """

    def __init__(self, max: int, fill: float = 0.0) -> None:
        self.max = _check.integer("max", max, 0)
        self.fill = _check.real("fill", fill)

    def __call__(self, batch: Batch, generator: np.random.Generator) -> Batch:
        height, width = _images(batch)[0].shape[-2:]
        return RandomCrop((height, width), self.max, self.fill)(batch, generator)

    def __repr__(self) -> str:
        return f"RandomShift({self.max}{f', fill={self.fill:g}' if self.fill else ''})"


class RandomHorizontalFlip:
    """Mirror some of the images, left for right.

    Parameters
    ----------
    p : float, default 0.5
        Probability of each image to be mirrored.

    Raises
    ------
    TypeError, ValueError
        Naming the argument.
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = _check.real("p", p, 0, 1)

    def __call__(self, batch: Batch, generator: np.random.Generator) -> Batch:
        images, *rest = _images(batch)
        flipped = _uniform(generator, len(images)) < self.p
        result = images.copy()
        result[flipped] = images[flipped][..., ::-1]
        return result, *rest

    def __repr__(self) -> str:
        return f"RandomHorizontalFlip({self.p:g})"


class Cutout:
    """Cover squares of each image, at places of their own; what would lie outside of the image is cut off.

    Parameters
    ----------
    size : int or (int, int)
        Height and width of what is covered, or the side of a square. All pixels are alike probable to be its middle.
    holes : int, default 1
        How many in each image.
    fill : float, default 0
        Value of what is covered, in the unit of the images: their mean, which is 0 behind `Normalize`.

    Raises
    ------
    TypeError, ValueError
        Naming the argument.

    References
    ----------
    T. DeVries and G. W. Taylor, "Improved regularization of convolutional neural networks with cutout", 2017.

    Examples
    --------
    >>> x, y = fn.data.digits("train")
    >>> loader = fn.data.DataLoader((x, y), 128, seed=0, augment=fn.data.Cutout(3, fill=0.5))
    >>> xb, yb = next(iter(loader))
    >>> bool(((xb == 0.5).sum((1, 2, 3)) >= 4).all())
    True
    """

    def __init__(self, size: int | Sequence[int], holes: int = 1, fill: float = 0.0) -> None:
        self.size = _check.height_and_width("size", size)
        self.holes = _check.integer("holes", holes, 1)
        self.fill = _check.real("fill", fill)

    def __call__(self, batch: Batch, generator: np.random.Generator) -> Batch:
        images, *rest = _images(batch)
        value = _value(self.fill, images.dtype)
        count, (rows, columns) = len(images), images.shape[-2:]
        covered = np.zeros((count, rows, columns), bool)
        for _ in range(self.holes):
            within = []
            for length, size in ((rows, self.size[0]), (columns, self.size[1])):
                begin = (_integers(generator, count, length) - size // 2)[:, None]
                places = np.arange(length)
                within.append((places >= begin) & (places < begin + size))
            covered |= within[0][:, :, None] & within[1][:, None, :]
        result = images.copy()
        np.copyto(result, value, where=covered.reshape(count, *[1] * (images.ndim - 3), rows, columns))
        return result, *rest

    def __repr__(self) -> str:
        more = f", holes={self.holes}" if self.holes > 1 else ""
        return f"Cutout({self.size}{more}{f', fill={self.fill:g}' if self.fill else ''})"


class MixUp:
    """Mix each sample with another one of its batch, and their targets likewise.

    share * one + (1 - share) * other, with one share a batch, drawn from the beta distribution. Class indices become
    probabilities (N, num_classes), which `nn.CrossEntropyLoss` takes; targets of floats are mixed as they are.

    Parameters
    ----------
    alpha : float, default 1.0
        Both parameters of the beta distribution: 1 for shares that are all alike probable, small for some that are near
        0 or 1. 0 mixes nothing.
    num_classes : int, optional
        Of targets that are class indices.

    Raises
    ------
    TypeError, ValueError
        Naming the argument; for a batch, if its inputs are no floats or its classes no such.

    Notes
    -----
    The share is NumPy's ``Generator.beta``, of which another version of NumPy may make other numbers.

    References
    ----------
    H. Zhang et al., "mixup: Beyond empirical risk minimization", 2018. The arguments are torchvision's.

    Examples
    --------
    >>> x, y = fn.data.digits("train")
    >>> loader = fn.data.DataLoader((x, y), 128, shuffle=True, seed=0, augment=fn.data.MixUp(0.2, num_classes=10))
    >>> xb, yb = next(iter(loader))
    >>> yb.shape, yb.dtype
    ((128, 10), dtype('float32'))
    """

    def __init__(self, alpha: float = 1.0, num_classes: int | None = None) -> None:
        self.alpha = _check.real("alpha", alpha, 0)
        self.num_classes = None if num_classes is None else _check.integer("num_classes", num_classes, 2)

    def __call__(self, batch: Batch, generator: np.random.Generator) -> Batch:
        if not isinstance(batch, tuple) or len(batch) < 2:
            raise ValueError("batch: expected inputs and a target, (x, y), to be mixed")
        *inputs, target = (np.asarray(array) for array in batch)
        for array in inputs:
            if array.dtype.kind != "f":
                raise TypeError(f"inputs: expected floats to be mixed, got {array.dtype}; put Normalize before MixUp")
        if target.dtype.kind != "f":
            target = self._probabilities(target, inputs[0].dtype)
        count = len(target)
        other = np.argsort(_words(generator, count), kind="stable")
        share = generator.beta(self.alpha, self.alpha) if self.alpha else 1.0
        return tuple(_mixed(array, array[other], share) for array in (*inputs, target))

    def _probabilities(self, target: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
        if self.num_classes is None:
            raise ValueError("num_classes: it is needed to mix class indices; give MixUp(num_classes=...)")
        if target.ndim != 1 or target.dtype.kind not in "iu":
            raise ValueError(f"target: expected class indices (N,), or floats, got {target.dtype} {target.shape}")
        if target.size and not 0 <= target.min() <= target.max() < self.num_classes:
            raise ValueError(
                f"target: classes must lie in 0 ... {self.num_classes - 1}, got {target.min()} ... {target.max()}"
            )
        return np.asarray(target[:, None] == np.arange(self.num_classes), dtype)

    def __repr__(self) -> str:
        classes = "" if self.num_classes is None else f", num_classes={self.num_classes}"
        return f"MixUp({self.alpha:g}{classes})"


def _mixed(one: NDArray[Any], other: NDArray[Any], share: float) -> NDArray[Any]:
    """share * one + (1 - share) * other, in their dtype."""
    result: NDArray[Any] = one * one.dtype.type(share)
    result += other * one.dtype.type(1 - share)
    return result


class GaussianNoise:
    """Add normally distributed noise to each value.

    Parameters
    ----------
    std : float
        Standard deviation, in the unit of the images. Values may leave [0, 1].

    Raises
    ------
    TypeError, ValueError
        Naming the argument; for a batch, if its images are no floats.

    Notes
    -----
    The noise is NumPy's ``standard_normal``, of which another version of NumPy may make other
    numbers. What the other augmentations draw is the same with all versions.
    """

    def __init__(self, std: float) -> None:
        self.std = _check.real("std", std, 0)

    def __call__(self, batch: Batch, generator: np.random.Generator) -> Batch:
        images, *rest = _images(batch)
        if images.dtype not in (np.float32, np.float64):
            raise TypeError(
                f"images: noise is added to float32 or float64, got {images.dtype}; put Normalize before GaussianNoise"
            )
        noise = generator.standard_normal(images.shape, images.dtype)
        noise *= images.dtype.type(self.std)
        noise += images
        return noise, *rest

    def __repr__(self) -> str:
        return f"GaussianNoise({self.std:g})"


class Normalize:
    """(image - mean) / std, channel by channel. It draws no numbers: test data take it, too.

    Parameters
    ----------
    mean, std : float or sequence of float
        Of each channel, or of all; `std` above 0. Bytes are scaled from 0..255 to [0, 1] before,
        so that these are numbers for images from 0 to 1.
    dtype : dtype, default float32
        Of the result, where the images are bytes; floats stay what they are.

    Raises
    ------
    TypeError, ValueError
        Naming the argument; for a batch, if its images have another number of channels, or are
        neither floats nor bytes.
    """

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float], dtype: Any = np.float32) -> None:
        self.mean = _each("mean", mean)
        self.std = _each("std", std)
        if min(self.std) <= 0:
            raise ValueError(f"std: expected numbers above 0, got {std!r}")
        if len({len(self.mean), len(self.std)} - {1}) > 1:
            raise ValueError(
                f"std: expected a number, or one for each of the {len(self.mean)} channels of mean, got {len(self.std)}"
            )
        self.dtype = _check.floating("dtype", dtype)

    def __call__(self, batch: Batch, generator: np.random.Generator | None = None) -> Batch:
        images, *rest = _images(batch)
        channels = max(len(self.mean), len(self.std))
        if channels > 1 and (images.ndim < 4 or images.shape[1] != channels):
            raise ValueError(f"images: expected {channels} channels, as mean and std have, got shape {images.shape}")
        if images.dtype != np.uint8 and images.dtype.kind != "f":
            raise TypeError(f"images: expected floats or uint8, got {images.dtype}")
        unit = 255 if images.dtype == np.uint8 else 1
        dtype = self.dtype if images.dtype == np.uint8 else images.dtype
        shape = (-1, *[1] * (images.ndim - 2))
        mean, std = (np.array(values).reshape(shape) for values in (self.mean, self.std))
        # One factor and one term, rounded once each: two passes instead of four.
        result = np.multiply(images, (1 / (unit * std)).astype(dtype), dtype=dtype)
        result -= (mean / std).astype(dtype)
        return result, *rest

    def __repr__(self) -> str:
        return f"Normalize({_bare(self.mean)}, {_bare(self.std)})"


def _images(batch: Batch) -> Batch:
    """The batch, if it begins with images: (N, ..., height, width)."""
    if not isinstance(batch, tuple) or not batch:
        raise TypeError(f"batch: expected a tuple of arrays, got {type(batch).__name__}")
    if np.ndim(batch[0]) < 3:
        raise ValueError(f"images: expected shape (N, channels, height, width), got {np.shape(batch[0])}")
    return np.asarray(batch[0]), *batch[1:]


def _pad(images: NDArray[Any], padding: int, fill: float, mode: str) -> NDArray[Any]:
    if padding == 0:
        return images
    if mode == "constant":
        *outer, height, width = images.shape
        shape = (*outer, height + 2 * padding, width + 2 * padding)
        value = _value(fill, images.dtype)
        padded = np.full(shape, value, images.dtype) if value else np.zeros(shape, images.dtype)
        padded[..., padding : padding + height, padding : padding + width] = images
        return padded
    widths = [(0, 0)] * (images.ndim - 2) + [(padding, padding)] * 2
    return np.pad(images, widths, mode=mode)  # type: ignore[call-overload,no-any-return]


def _value(fill: float, dtype: np.dtype[Any]) -> Any:
    """`fill` as a pixel; ValueError for what bytes cannot hold."""
    if dtype.kind in "iu" and (fill != int(fill) or not 0 <= fill <= np.iinfo(dtype).max):
        raise ValueError(f"fill: expected an integer that {dtype} images hold, got {fill:g}")
    return dtype.type(fill)


# Raw words, not Generator.integers and random: NumPy promises the words for all its versions
# (NEP 19), so that a run resumes after an upgrade.


def _words(generator: np.random.Generator, count: int) -> NDArray[np.uint64]:
    """32 random bits each."""
    words: NDArray[np.uint64] = generator.bit_generator.random_raw(count) >> np.uint64(32)
    return words


def _integers(generator: np.random.Generator, count: int, end: int) -> NDArray[np.int64]:
    """Integers from 0 to end - 1; of 2**32 words each gets the same number, give or take one."""
    words: NDArray[np.uint64] = (_words(generator, count) * np.uint64(end)) >> np.uint64(32)
    return words.astype(np.int64)


def _uniform(generator: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Numbers in [0, 1), multiples of 2**-32."""
    return np.multiply(_words(generator, count), 2.0**-32, dtype=np.float64)


def _each(name: str, values: Any) -> tuple[float, ...]:
    if np.ndim(values) == 0:
        return (_check.real(name, values),)
    if np.ndim(values) != 1 or len(values) == 0:
        raise ValueError(f"{name}: expected a number or one for each channel, got {values!r}")
    return tuple(_check.real(f"{name}[{i}]", v) for i, v in enumerate(values))


def _bare(values: tuple[float, ...]) -> Any:
    return values[0] if len(values) == 1 else values
