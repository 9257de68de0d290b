"""What is to be predicted: classes by name, or numbers in their own units."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn import _check

LONGEST_NAME = 1 << 17  # characters: as long as a cell of a CSV file may be
_MOST_CLASSES = 1000  # that are taken for classes unasked


@dataclass(frozen=True)
class ClassTarget:
    """Classes, which a network tells by a logit each.

    Parameters
    ----------
    classes : tuple of str
        Their names; a label is an index of it.
    name : str, optional
        Of what they are classes of: the target's column.

    Examples
    --------
    >>> target = fn.data.ClassTarget(("cat", "dog"), "animal")
    >>> target.decode(np.array([[0.1, 2.0], [3.0, 0.5]]))
    ['dog', 'cat']
    """

    classes: tuple[str, ...]
    name: str | None = None
    task: ClassVar[str] = "classification"

    @property
    def outputs(self) -> int:
        """How many values a network gives for a sample."""
        return len(self.classes)

    @classmethod
    def fit(cls, texts: Sequence[str], name: str | None = None) -> ClassTarget:
        """Of the names of samples' classes: in the order of numbers, if all are, or else of the alphabet."""
        counts = Counter(texts)
        try:
            classes = sorted(counts, key=lambda text: (float(text), text))
        except ValueError:
            classes = sorted(counts)
        if len(classes) < 2:
            raise ValueError(f"{_named(name)} has one class alone, {_check.brief(classes[0])}; two at least are needed")
        return cls(tuple(classes), name)

    def encode(self, texts: Sequence[str], where: Callable[[int], str] = "sample {}".format) -> NDArray[np.int64]:
        """Labels of names of classes.

        Raises
        ------
        ValueError
            For a name that is none of them; `where` says of a row's number what the message calls it.
        """
        numbers = {name: number for number, name in enumerate(self.classes)}
        labels = np.fromiter((numbers.get(text, -1) for text in texts), np.int64, len(texts))
        wrong = np.flatnonzero(labels < 0)
        if len(wrong):
            text = texts[int(wrong[0])]
            raise ValueError(
                f"{where(int(wrong[0]))}: {_check.brief(text)} is none of the classes of {_named(self.name)}, "
                f"{_check.some(self.classes)}"
            )
        return labels

    def decode(self, output: NDArray[Any]) -> list[str]:
        """The name of each row's class: that of the largest logit or probability."""
        return [self.classes[number] for number in output.argmax(1).tolist()]

    def to_json(self) -> dict[str, Any]:
        return {"task": self.task, "name": self.name, "classes": list(self.classes)}


@dataclass(frozen=True)
class NumberTarget:
    """Numbers, which a network is trained on standardised: less their mean, by their standard deviation.

    Parameters
    ----------
    mean, std : tuple of float
        Of each of the numbers of a sample.
    name : str, optional
        The target's column.

    Examples
    --------
    >>> target = fn.data.NumberTarget.fit([10.0, 20.0, 30.0, 40.0], "price")
    >>> target.decode(target.encode([15.0, 40.0])).round(3).tolist()
    [[15.0], [40.0]]
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    name: str | None = None
    task: ClassVar[str] = "regression"

    @property
    def outputs(self) -> int:
        """How many values a network gives for a sample."""
        return len(self.mean)

    @classmethod
    def fit(cls, values: ArrayLike, name: str | None = None) -> NumberTarget:
        """Of numbers, (N,) or (N, K): those of the training data alone.

        Raises
        ------
        ValueError
            If they are constant, not finite, or so large that they have no deviation.
        """
        columns = np.asarray(values, np.float64)
        columns = columns.reshape(len(columns), -1)
        mean, std = mean_and_std(columns)
        if not (np.isfinite(mean).all() and np.isfinite(std).all()):
            raise ValueError(f"{_named(name)} has values that are too large, or not finite")
        if not std.all():
            raise ValueError(f"{_named(name)} has the same value in all rows, {columns[0, np.argmin(std)]:g}")
        return cls(tuple(mean.tolist()), tuple(std.tolist()), name)

    def encode(self, values: ArrayLike, where: Callable[[int], str] = "sample {}".format) -> NDArray[np.float32]:
        """Numbers as a network is trained on them, float32 (N, K)."""
        columns = np.asarray(values, np.float64)
        columns = columns.reshape(len(columns), -1)
        if columns.shape[1] != self.outputs:
            raise ValueError(f"{_named(self.name)} has {self.outputs} numbers a sample, got {columns.shape[1]}")
        return standardized(columns, self.mean, self.std, lambda row, _: where(row))

    def decode(self, output: NDArray[Any]) -> NDArray[np.float64]:
        """What a network gives, (N, K), in the numbers' own units."""
        result: NDArray[np.float64] = output * np.array(self.std) + np.array(self.mean)
        return result

    def to_json(self) -> dict[str, Any]:
        return {"task": self.task, "name": self.name, "mean": list(self.mean), "std": list(self.std)}


Target = ClassTarget | NumberTarget


def recognized(values: NDArray[Any], name: str) -> str:
    """The task of an array of targets: whole numbers, booleans and texts are classes, other numbers are numbers."""
    if values.dtype.kind in "bUO":
        return ClassTarget.task
    if values.dtype.kind == "f":
        return NumberTarget.task
    count = len(np.unique(values))
    if values.size != len(values) or count > min(_MOST_CLASSES, max(len(values) // 2, 20)):
        raise ValueError(
            f"{name} holds {count} different whole numbers for {len(values)} samples, of which it is not plain whether "
            "they are classes; say the task: classification or regression"
        )
    return ClassTarget.task


def target_of(values: Any) -> Target:
    """The target that JSON describes; ValueError for any other."""
    if isinstance(values, dict) and values.keys() == {"task", "name", "classes"} and values["task"] == ClassTarget.task:
        classes = values["classes"]
        if not (are_names(classes) and len(set(classes)) == len(classes) > 1):
            raise ValueError(f"target: classes cannot be {_check.brief(classes)}")
        return ClassTarget(tuple(classes), _name_of(values))
    if isinstance(values, dict) and values.keys() == {"task", "name", "mean", "std"} and values["task"] == "regression":
        mean, std = values["mean"], values["std"]
        if not (are_numbers(mean) and are_numbers(std) and len(mean) == len(std) > 0 and min(std) > 0):
            raise ValueError(f"target: mean and std cannot be {_check.brief(mean)} and {_check.brief(std)}")
        return NumberTarget(tuple(map(float, mean)), tuple(map(float, std)), _name_of(values))
    raise ValueError(f"target cannot be {_check.brief(values)}")


def _name_of(values: Mapping[str, Any]) -> str | None:
    name = values["name"]
    if name is not None and not are_names([name]):
        raise ValueError(f"target: name cannot be {_check.brief(name)}")
    return name  # type: ignore[no-any-return]


def are_names(value: Any) -> bool:
    """Whether this is a list of texts that a file can hold."""
    return isinstance(value, list) and all(
        isinstance(name, str) and len(name) <= LONGEST_NAME and not any("\ud800" <= c <= "\udfff" for c in name)
        for name in value
    )


def are_numbers(value: Any) -> bool:
    """Whether this is a list of finite numbers."""
    return isinstance(value, list) and all(
        type(number) in (int, float) and abs(number) <= sys.float_info.max for number in value
    )


def mean_and_std(columns: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each column; the deviation of one that is constant is 0, and neither squares overflow nor underflow."""
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = columns.min(0), columns.max(0)
        spread = high - low
        scale = np.where(spread > 0, spread, 1.0)
        scaled = (columns - low) / scale
        centre = scaled.mean(0)
        std = np.sqrt(np.square(scaled - centre).mean(0)) * scale
        mean = np.where(spread > 0, centre * scale + low, low)
    return mean, np.where(spread == 0, 0.0, std)


def standardized(
    columns: NDArray[Any], mean: ArrayLike, std: ArrayLike, where: Callable[[int, int], str]
) -> NDArray[np.float32]:
    """(columns - mean) / std as float32; ValueError where that is not finite, with the place of the first such one."""
    with np.errstate(over="ignore", invalid="ignore"):
        result: NDArray[np.float32] = ((columns - np.asarray(mean)) / np.asarray(std)).astype(np.float32)
    finite = np.isfinite(result)
    if not finite.all():
        row, column = np.argwhere(~finite)[0].tolist()
        raise ValueError(
            f"{where(row, column)}: {columns[row, column]:g} is not finite, or too far from what the training data have"
        )
    return result


def _named(name: str | None) -> str:
    return "the target" if name is None else f"the target {_check.brief(name)}"
