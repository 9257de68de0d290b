"""How arrays become what a network takes: features and images standardised, targets encoded."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn import _check
from fastnn.data.augment import Normalize
from fastnn.data.recipe import load_recipe, save_recipe
from fastnn.data.target import (
    ClassTarget,
    NumberTarget,
    Target,
    are_numbers,
    mean_and_std,
    recognized,
    standardized,
    target_of,
)

_ROWS = 1024  # that are looked at together


@dataclass(frozen=True)
class ArrayRecipe:
    """What was learned of arrays, by which they, and all others of their kind, become features and a target.

    Features (N, F) are standardised: less their mean, by their standard deviation; NaN stands for a missing value, and
    the median of the feature takes its place. Images (N, C, H, W) or (N, H, W) are standardised by channel, bytes as
    numbers from 0 to 1. Classes may be given by whole numbers or texts; numbers are standardised.

    `ArrayRecipe.fit` makes one.

    Attributes
    ----------
    shape : tuple of int
        Of a sample, as a network takes it: (F,) or (C, H, W).
    fill : tuple of float
        The median of each feature; empty for images.
    mean, std : tuple of float
        Of each feature or channel; std is 1 where all values are the same.
    bytes : bool
        Whether images are bytes, so that other whole numbers are taken for such, too.
    target : ClassTarget or NumberTarget

    Examples
    --------
    >>> x = np.array([[1.0, 10.0], [2.0, np.nan], [3.0, 30.0]])
    >>> recipe = fn.data.ArrayRecipe.fit(x, [0, 1, 1])
    >>> features, labels = recipe(x, [0, 1, 1])
    >>> features[1].tolist(), labels.tolist(), recipe.target.classes
    ([0.0, 0.0], [0, 1, 1], ('0', '1'))
    """

    shape: tuple[int, ...]
    fill: tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    bytes: bool
    target: Target

    @classmethod
    def fit(
        cls,
        x: ArrayLike,
        y: ArrayLike,
        task: str = "auto",
        rows: ArrayLike | None = None,
        classes: tuple[str, ...] | None = None,
        names: tuple[str, str] = ("x", "y"),
    ) -> ArrayRecipe:
        """Learn a recipe from arrays.

        Parameters
        ----------
        x : array, (N, F), (N, C, H, W) or (N, H, W)
        y : array, (N,), or (N, K) of numbers
        task : {"auto", "regression", "classification"}
            Whether `y` holds numbers or classes; "auto": classes, if it holds whole numbers, booleans or texts.
        rows : array of int, optional
            The training rows, of which all numbers are learned. Default: all.
        classes : tuple of str, optional
            Names of classes, of which `y` holds the numbers.
        names : (str, str)
            What messages call the arrays: the paths of their files.

        Returns
        -------
        ArrayRecipe

        Raises
        ------
        ValueError
            For arrays of other shapes or kinds, for infinite numbers, images with NaN, and a target that has one value
            alone. The message begins with the name of the array.
        """
        array, target = np.asarray(x), np.asarray(y)
        chosen = np.arange(len(array)) if rows is None else np.asarray(rows, np.int64)
        shape = _check_arrays(array, target, names)
        fitted: Target = ClassTarget(classes) if classes is not None else fit_target(target, task, chosen, names[1])
        if len(shape) == 1:
            fill, mean, std = _of_features(array, chosen, names[0])
        else:
            fill, (mean, std) = (), _of_channels(array.reshape(-1, *shape), chosen, names[0])
        return cls(shape, fill, mean, std, array.dtype == np.uint8 and len(shape) == 3, fitted)

    def __call__(
        self, x: ArrayLike, y: ArrayLike, names: tuple[str, str] = ("x", "y")
    ) -> tuple[NDArray[np.float32], NDArray[Any]]:
        """Features or images, and the target: float32 (N, F) or (N, C, H, W), and int64 (N,) or float32 (N, K)."""
        return self.inputs(x, names[0]), self.targets(y, names[1])

    def inputs(self, x: ArrayLike, name: str = "x") -> NDArray[np.float32]:
        """Features or images as a network takes them; one sample alone makes N = 1.

        Raises
        ------
        ValueError
            For another shape, and for what is not finite; `name` is what the message calls the array.
        """
        array = np.asarray(x)
        array = array.reshape(samples(array.shape, self.shape, name), *self.shape)
        if array.dtype.kind not in "biuf":
            raise ValueError(f"{name}: holds {array.dtype}; expected numbers")
        result = np.empty(array.shape, np.float32)
        for first in range(0, len(array), _ROWS):
            part = array[first : first + _ROWS]
            result[first : first + _ROWS] = self._standardized(part, name, first)
        return result

    def _standardized(self, part: NDArray[Any], name: str, first: int) -> NDArray[np.float32]:
        if len(self.shape) == 1:
            values = part.astype(np.float64)
            values = np.where(np.isnan(values), self.fill, values)
            return standardized(values, self.mean, self.std, lambda row, i: f"{name}: row {first + row}, column {i}")
        if part.dtype.kind != "f":
            part = part.astype(np.uint8) if self.bytes else part.astype(np.float32)
        (images,) = Normalize(self.mean, self.std)((part.astype(np.float32) if part.dtype.kind == "f" else part,))
        finite = np.isfinite(images).all((1, 2, 3))
        if not finite.all():
            raise ValueError(f"{name}: image {first + int(np.argmin(finite))} is not finite")
        return images

    def targets(self, y: ArrayLike, name: str = "y") -> NDArray[Any]:
        """The target as a loss takes it; `name` is what messages call the array."""
        array = np.asarray(y)

        def where(row: int) -> str:
            return f"{name}: row {row}"

        if isinstance(self.target, ClassTarget):
            return self.target.encode(class_texts(array, name), where)
        if array.dtype.kind not in "biuf":
            raise ValueError(f"{name}: holds {array.dtype}; expected numbers")
        try:
            return self.target.encode(array, where)
        except ValueError as error:
            message = str(error)
            raise ValueError(message if message.startswith(name) else f"{name}: {message}") from None

    def notes(self) -> list[str]:
        """What was done that one should know of."""
        return []

    def to_json(self) -> dict[str, Any]:
        """The recipe as plain values."""
        return {
            "kind": "arrays",
            "shape": list(self.shape),
            "fill": list(self.fill),
            "mean": list(self.mean),
            "std": list(self.std),
            "bytes": self.bytes,
            "target": self.target.to_json(),
        }

    @classmethod
    def from_json(cls, values: Any) -> ArrayRecipe:
        """The recipe that plain values describe; ValueError for any others."""
        entries = {"kind", "shape", "fill", "mean", "std", "bytes", "target"}
        if not isinstance(values, dict) or values.keys() != entries or values["kind"] != "arrays":
            raise ValueError("its entries are not those of a recipe of arrays")
        shape, lists = values["shape"], [values[name] for name in ("fill", "mean", "std")]
        right = isinstance(shape, list) and len(shape) in (1, 3)
        right = right and all(type(size) is int and 0 < size <= _check.LARGEST_SIZE for size in shape)
        if not right or not all(map(are_numbers, lists)) or type(values["bytes"]) is not bool:
            raise ValueError("shape, fill, mean, std or bytes are not those of a recipe of arrays")
        fill, mean, std = (tuple(map(float, numbers)) for numbers in lists)
        fills = shape[0] if len(shape) == 1 else 0
        if [len(fill), len(mean), len(std)] != [fills, shape[0], shape[0]] or min(std) <= 0:
            raise ValueError(f"fill, mean and std do not fit samples of shape {_check.brief(shape)}")
        return cls(tuple(shape), fill, mean, std, values["bytes"], target_of(values["target"]))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the recipe as JSON: the whole file, or nothing."""
        save_recipe(path, self.to_json())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ArrayRecipe:
        """Read a recipe that `save` has written; ValueError, which names the file, for any other."""
        return load_recipe(path, cls.from_json)  # type: ignore[no-any-return]


def samples(found: tuple[int, ...], shape: tuple[int, ...], name: str) -> int:
    """How many samples of a shape an array holds: one alone, several, or several as rows."""
    size = math.prod(shape)
    plain = shape[1:] if len(shape) == 3 and shape[0] == 1 else shape  # grey images may come without their channel
    if found in (shape, plain, (size,)):
        return 1
    if len(found) > 1 and found[0] > 0 and found[1:] in (shape, plain, (size,)):
        return found[0]
    forms = " or ".join(f"(N, {', '.join(map(str, form))})" for form in dict.fromkeys([shape, plain, (size,)]))
    raise ValueError(f"{name}: holds an array of shape {_check.brief(found)}; expected {forms}")


def class_texts(y: NDArray[Any], name: str) -> list[str]:
    """The names of classes in an array, (N,) or (N, 1)."""
    flat = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if flat.ndim != 1:
        raise ValueError(f"{name}: expected a class for each sample, shape (N,), got {y.shape}")
    if flat.dtype.kind == "f":
        wrong = np.flatnonzero(flat != np.floor(flat))
        if len(wrong) or not np.isfinite(flat).all():
            row = int(wrong[0]) if len(wrong) else int(np.argmin(np.isfinite(flat)))
            raise ValueError(f"{name}: row {row}: {flat[row]:g} is no class; expected whole numbers or texts")
        flat = flat.astype(np.int64)
    return list(map(str, flat.tolist()))


def fit_target(y: NDArray[Any], task: str, rows: NDArray[np.int64], name: str) -> Target:
    """The target that an array holds: classes of all rows, or numbers by mean and deviation of some."""
    _check.choice("task", task, "auto", "regression", "classification")
    task = recognized(y, name) if task == "auto" else task
    try:
        if task == ClassTarget.task:
            return ClassTarget.fit(class_texts(y, name))
        if y.dtype.kind not in "biuf" or y.ndim > 2:
            raise ValueError(f"expected numbers of shape (N,) or (N, K), got {y.dtype} {y.shape}")
        return NumberTarget.fit(y[rows])
    except ValueError as error:
        message = str(error)
        raise ValueError(message if message.startswith(name) else f"{name}: {message}") from None


def _check_arrays(x: NDArray[Any], y: NDArray[Any], names: tuple[str, str]) -> tuple[int, ...]:
    """The shape of a sample, as networks take it."""
    if x.dtype.kind not in "biuf":
        raise ValueError(f"{names[0]}: holds {x.dtype}; expected numbers")
    if x.ndim not in (2, 3, 4) or 0 in x.shape:
        raise ValueError(
            f"{names[0]}: holds an array of shape {_check.brief(x.shape)}; expected features (N, F), or images "
            "(N, C, H, W) or (N, H, W)"
        )
    if x.ndim == 4 and x.shape[3] in (1, 3, 4) and x.shape[1] not in (1, 3, 4):
        raise ValueError(
            f"{names[0]}: holds images of shape {x.shape}, with the channels last; expected (N, C, H, W): save "
            "x.transpose(0, 3, 1, 2)"
        )
    if y.ndim == 0 or len(y) != len(x):
        held = f"holds an array of shape {_check.brief(y.shape)}"
        raise ValueError(f"{names[1]}: {held}, and {names[0]} {len(x)} samples")
    return (1, *x.shape[1:]) if x.ndim == 3 else x.shape[1:]


def _of_features(x: NDArray[Any], rows: NDArray[np.int64], name: str) -> Any:
    values = x[rows].astype(np.float64)
    if np.isinf(values).any():
        row, column = np.argwhere(np.isinf(values))[0].tolist()
        raise ValueError(f"{name}: row {rows[row]}, column {column}: {values[row, column]:g} is no finite number")
    missing = np.isnan(values)
    empty = missing.all(0)
    if empty.any():
        raise ValueError(f"{name}: column {int(empty.argmax())} has no value in the training rows; leave it out")
    fill = np.nanmedian(values, 0)
    mean, std = mean_and_std(np.where(missing, fill, values))
    if not (np.isfinite(mean).all() and np.isfinite(std).all()):
        raise ValueError(f"{name}: column {int(np.argmin(np.isfinite(std)))} has values too large to be standardised")
    return tuple(fill.tolist()), tuple(mean.tolist()), tuple(np.where(std == 0, 1.0, std).tolist())


def _of_channels(images: NDArray[Any], rows: NDArray[np.int64], name: str) -> tuple[tuple[float, ...], ...]:
    """Mean and deviation by channel, in parts: images are many."""
    scale = 255.0 if images.dtype == np.uint8 else 1.0
    channels, count = images.shape[1], len(rows) * math.prod(images.shape[2:])

    def mean_of(function: Any) -> NDArray[np.float64]:
        total = np.zeros(channels)
        for first in range(0, len(rows), _ROWS):
            part = images[rows[first : first + _ROWS]].astype(np.float64)
            part /= scale
            total += function(part).sum((0, 2, 3))
        return total / count

    with np.errstate(over="ignore", invalid="ignore"):
        mean = mean_of(lambda part: part)
        std = np.sqrt(mean_of(lambda part: np.square(part - mean[:, None, None])))
    if not (np.isfinite(mean).all() and np.isfinite(std).all()):
        raise ValueError(f"{name}: expected images of finite numbers")
    return tuple(mean.tolist()), tuple(np.where(std == 0, 1.0, std).tolist())
