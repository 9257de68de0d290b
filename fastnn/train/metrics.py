"""Metrics: functions of a batch's output and target that give a mean.

Any function that gives a mean over the samples is one: the trainer weighs batches by their size. Those
of this module have `parts` beside it, a total and what to divide it by, which add up over batches
whatever they are means over: elements, or labels that are not ignored.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastnn import _check
from fastnn.nn import functional as F
from fastnn.nn.loss import Loss

Metric: TypeAlias = Callable[..., float]
#: A total, and what to divide it by.
Parts: TypeAlias = tuple[float, float]

IGNORE_INDEX = -100  # cross-entropy's default


def _share_of(parts: Callable[..., Parts]) -> Metric:
    """The metric whose total and count a function of output, target and ignore_index gives."""

    @functools.wraps(parts)
    def metric(output: NDArray[Any], target: NDArray[Any], ignore_index: int = IGNORE_INDEX) -> float:
        return divided(*parts(output, target, ignore_index))

    metric.parts = parts  # type: ignore[attr-defined]
    metric.of_classes = True  # type: ignore[attr-defined]
    return metric


def _mean_of(elements: Callable[..., NDArray[Any]]) -> Metric:
    """The metric that is a mean over the elements that a function of output and target gives."""

    def parts(output: NDArray[Any], target: NDArray[Any], ignore_index: int) -> Parts:
        values = elements(output, target)
        return float(np.sum(values, dtype=np.float64)), values.size

    @functools.wraps(elements)
    def metric(output: NDArray[Any], target: NDArray[Any]) -> float:
        return divided(*parts(output, target, IGNORE_INDEX))

    metric.parts = parts  # type: ignore[attr-defined]
    return metric


def divided(total: float, count: float) -> float:
    """total / count; NaN where nothing was counted."""
    return total / count if count else math.nan


@_share_of
def accuracy(output: NDArray[Any], target: NDArray[Any], ignore_index: int = IGNORE_INDEX) -> Any:
    """Share of right answers.

    Parameters
    ----------
    output : array
        Logits or probabilities of classes, (N, C) or (N, C, d1, ...); or binary logits, of the
        target's shape or (N, 1), which answer yes above 0.
    target : array
        Class indices, (N,) or (N, d1, ...); for binary logits 0 or 1, of the output's shape.
    ignore_index : int, default -100
        Class indices of this value count neither as right nor as wrong. A trainer gives its loss's.

    Returns
    -------
    float
        NaN if all labels are ignored.

    Raises
    ------
    ValueError
        If the shapes do not fit each other, or the target holds something else.
    """
    output, target = np.asarray(output), np.asarray(target)
    if _is_binary(output, target):
        scores, positive = _binary("accuracy", output, target)
        return int(np.count_nonzero((scores > 0) == positive)), positive.size
    _check_classes("accuracy", output, target)
    return _share(output.argmax(1) == target, target, ignore_index)


class _TopK:
    """What `top_k` makes."""

    of_classes = True

    def __init__(self, k: int) -> None:
        self.k = k
        self.__name__ = f"top_{k}"

    def __call__(self, output: NDArray[Any], target: NDArray[Any], ignore_index: int = IGNORE_INDEX) -> float:
        return divided(*self.parts(output, target, ignore_index))

    def parts(self, output: NDArray[Any], target: NDArray[Any], ignore_index: int) -> Parts:
        output, target = np.asarray(output), np.asarray(target)
        _check_classes(self.__name__, output, target)
        index = np.expand_dims(np.where((target < 0) | (target == ignore_index), 0, target), 1)
        own = np.take_along_axis(output, index, 1)
        classes = np.arange(output.shape[1]).reshape(1, -1, *[1] * (output.ndim - 2))
        # A NaN beats everything, so that a broken model is not a perfect one.
        ahead = ~(output < own) & (classes != index) & ((output != own) | (classes < index))
        return _share((ahead.sum(1) < self.k) & (target >= 0), target, ignore_index)


def top_k(k: int) -> Metric:
    """Make a metric: the share of samples whose class is among the k with the largest logits.

    Parameters
    ----------
    k : int
        At least 1.

    Returns
    -------
    callable
        Takes logits (N, C, ...), class indices (N, ...) and, as `accuracy` does, `ignore_index`; named
        ``top_k``, such as ``top_5``. Of equal logits, those before the target's count against it.
    """
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)):
        raise TypeError(f"k: expected an int, got {k!r}")
    if k < 1:
        raise ValueError(f"k: expected at least 1, got {k}")
    return _TopK(int(k))


@_mean_of
def mean_absolute_error(output: NDArray[Any], target: NDArray[Any]) -> Any:
    """Mean of abs(output - target), two arrays of one shape."""
    _check_pair("mean_absolute_error", output, target)
    return np.abs(np.subtract(output, target))


@_mean_of
def mean_squared_error(output: NDArray[Any], target: NDArray[Any]) -> Any:
    """Mean of (output - target)**2, two arrays of one shape."""
    _check_pair("mean_squared_error", output, target)
    return np.square(np.subtract(output, target))


def _ratio_of(counts: Callable[[int, int, int], Parts]) -> Callable[[Metric], Metric]:
    """A metric made of the numbers of right, all and actual answers for a class."""

    def decorate(documented: Metric) -> Metric:
        name = documented.__name__

        @functools.wraps(documented)
        def metric(
            output: NDArray[Any],
            target: NDArray[Any],
            average: str | None = "macro",
            ignore_index: int = IGNORE_INDEX,
        ) -> Any:
            if average not in ("macro", "weighted", "micro", None):
                raise ValueError(f"average must be 'macro', 'weighted', 'micro' or None, got {_check.brief(average)}")
            table, binary = _table(name, output, target, ignore_index)
            right, answered, actual = table.diagonal(), table.sum(0), table.sum(1)
            if average == "micro" and not binary:
                return _or_zero(*counts(int(right.sum()), int(answered.sum()), int(actual.sum())))
            values = np.array([_or_zero(*counts(*map(int, row))) for row in zip(right, answered, actual, strict=True)])
            if binary:
                return float(values[1])
            if average is None:
                return values
            return float(values.mean() if average == "macro" else _or_zero(values @ actual, actual.sum()))

        def parts(output: NDArray[Any], target: NDArray[Any], ignore_index: int) -> Parts:
            table, _ = _table(name, output, target, ignore_index)
            return counts(int(table[1, 1]), int(table[:, 1].sum()), int(table[1].sum()))

        metric.parts = parts  # type: ignore[attr-defined]  # of binary logits
        metric.of_classes = metric.of_whole_classes = True  # type: ignore[attr-defined]
        return metric

    return decorate


@_ratio_of(lambda right, answered, actual: (right, answered))
def precision(output: NDArray[Any], target: NDArray[Any], average: str | None = "macro") -> Any:
    """Share of the positive answers that are right.

    Parameters
    ----------
    output : array
        As `accuracy` takes it: logits of classes, (N, C) or (N, C, d1, ...), or binary logits.
    target : array
        Likewise: class indices, or 0 and 1.
    average : {"macro", "weighted", "micro"} or None
        Of the classes, each taken as the positive one: their mean, the mean weighted by how often each occurs, that of
        all answers together, or an array with each. Binary logits have one positive class.
    ignore_index : int, default -100
        Class indices of this value do not count.

    Returns
    -------
    float, or array (C,) where average is None
        0 for a class that is never answered, as scikit-learn has it; in a trainer, which adds batches of binary logits
        up, NaN and a warning. Of several classes it is no mean over batches: a trainer measures it of validation data.

    Examples
    --------
    >>> from fastnn.train.metrics import precision
    >>> precision(np.array([2.0, 1.0, -3.0]), np.array([1, 0, 1]))
    0.5
    """


@_ratio_of(lambda right, answered, actual: (right, actual))
def recall(output: NDArray[Any], target: NDArray[Any], average: str | None = "macro") -> Any:
    """Share of the positive samples that are found; arguments and averages are those of `precision`.

    Examples
    --------
    >>> from fastnn.train.metrics import recall
    >>> round(recall(np.array([2.0, 1.0, -3.0, 1.0]), np.array([1, 0, 1, 1])), 4)
    0.6667
    """


@_ratio_of(lambda right, answered, actual: (2 * right, answered + actual))
def f1(output: NDArray[Any], target: NDArray[Any], average: str | None = "macro") -> Any:
    """The harmonic mean of precision and recall; arguments and averages are those of `precision`.

    Examples
    --------
    >>> from fastnn.train.metrics import f1
    >>> f1(np.array([2.0, 1.0, -3.0]), np.array([1, 0, 1]))
    0.5
    """


def confusion_matrix(output: NDArray[Any], target: NDArray[Any], ignore_index: int = IGNORE_INDEX) -> NDArray[np.int64]:
    """How often samples of each class are taken for each class.

    Parameters
    ----------
    output, target : array
        As `accuracy` takes them.
    ignore_index : int, default -100
        Class indices of this value do not count.

    Returns
    -------
    array (C, C) of int64
        A row a class, a column an answer; (2, 2) for binary logits.

    Examples
    --------
    >>> from fastnn.train.metrics import confusion_matrix
    >>> confusion_matrix(np.array([2.0, 1.0, -3.0]), np.array([1, 0, 1]))
    array([[0, 1],
           [1, 1]])
    """
    return _table("confusion_matrix", output, target, ignore_index)[0]


def roc_auc(output: NDArray[Any], target: NDArray[Any]) -> float:
    """The area under the receiver operating characteristic: how often a positive sample has the larger score.

    Parameters
    ----------
    output : array
        Scores, such as binary logits or probabilities, of the target's shape or (N, 1).
    target : array
        0 or 1. All samples at once: it is no mean over batches. A trainer measures it of validation data.

    Returns
    -------
    float
        Ties count half. NaN if there is one class alone, or a score is NaN.

    Examples
    --------
    >>> from fastnn.train.metrics import roc_auc
    >>> roc_auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1]))
    0.75
    """
    scores, positive = _binary("roc_auc", np.asarray(output), np.asarray(target))
    yes = int(np.count_nonzero(positive))
    no = positive.size - yes
    if not yes or not no or np.isnan(scores).any():
        return math.nan
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place.ravel()]
    return float((rank[positive].sum() - yes * (yes + 1) / 2) / (yes * no))


def r2(output: NDArray[Any], target: NDArray[Any]) -> float:
    """The coefficient of determination: 1 less the squared error's share of the target's variance.

    Parameters
    ----------
    output, target : array
        Of one shape, (N,) or (N, ...); the mean is taken over what follows N. All samples at once: it is no mean over
        batches. A trainer measures it of validation data.

    Returns
    -------
    float
        1 at best, 0 for the target's mean. Of a constant target 1 if it is met, else 0, as scikit-learn has it.

    Examples
    --------
    >>> from fastnn.train.metrics import r2
    >>> r2(np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 3.0]))
    0.5
    """
    _check_pair("r2", output, target)
    y, t = (np.asarray(a, np.float64).reshape(len(a), -1) for a in (output, target))
    error, spread = np.square(y - t).sum(0), np.square(t - t.mean(0)).sum(0)
    flat = spread == 0
    values = np.where(flat, error == 0, 1 - error / np.where(flat, 1, spread))
    return float(values.mean())


roc_auc.of_whole = True  # type: ignore[attr-defined]
r2.of_whole = True  # type: ignore[attr-defined]
confusion_matrix.is_table = True  # type: ignore[attr-defined]


def is_of_whole(metric: Metric, output: Any, target: Any) -> bool:
    """Whether a metric is no mean over batches: it is measured of all samples at once, in evaluation."""
    if getattr(metric, "of_whole", False):
        return True
    return getattr(metric, "of_whole_classes", False) and not _is_binary(np.asarray(output), np.asarray(target))


def usual(loss: Any) -> tuple[str, ...]:
    """Names of the metrics that go with a loss; none for a function of one's own."""
    if isinstance(loss, Loss):
        return loss.metrics
    return ("accuracy",) if loss in (F.cross_entropy, F.binary_cross_entropy_with_logits) else ()


NAMED: dict[str, Metric] = {
    "accuracy": accuracy,
    "f1": f1,
    "mean_absolute_error": mean_absolute_error,
    "mean_squared_error": mean_squared_error,
    "precision": precision,
    "r2": r2,
    "recall": recall,
    "roc_auc": roc_auc,
}


def resolve(metrics: Sequence[str | Metric]) -> dict[str, Metric]:
    """Metrics by the names they have in logs.

    Raises
    ------
    TypeError, ValueError
        For an unknown name, something that cannot be called, or two metrics of one name.
    """
    if isinstance(metrics, str) or not isinstance(metrics, Sequence):
        one = isinstance(metrics, str) or callable(metrics)
        hint = "; of one metric, too: metrics=[metric]" if one else ""
        raise TypeError(f"metrics: expected a list of names or callables, got {_check.brief(metrics)}{hint}")
    found: dict[str, Metric] = {}
    for metric in metrics:
        if isinstance(metric, str):
            if metric not in NAMED:
                known = ", ".join(map(repr, NAMED))
                raise ValueError(f"metrics: {metric!r} is unknown; there are {known} and callables")
            name, function = metric, NAMED[metric]
        elif callable(metric) and not isinstance(metric, type):
            name, function = getattr(metric, "__name__", type(metric).__name__), metric
        else:
            raise TypeError(f"metrics: expected names or callables, got {_check.kind_of(metric)}")
        if getattr(function, "is_table", False):
            raise ValueError(f"metrics: {name} is a table and no number; call {name}(trainer.predict(x), y) instead")
        if name in found or name == "loss":
            raise ValueError(f"metrics: the name {name!r} is taken; each metric needs a __name__ of its own")
        found[name] = function
    return found


def _is_binary(output: NDArray[Any], target: NDArray[Any]) -> bool:
    """Whether the output is binary logits of the target's shape, or (N, 1) for (N,)."""
    return output.shape == target.shape or (output.ndim == 2 and output.shape == (*target.shape, 1))


def _binary(name: str, output: NDArray[Any], target: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Scores, and which of them ought to be positive, in a row."""
    if not _is_binary(output, target):
        raise ValueError(
            f"{name}: output has shape {output.shape}, target {target.shape}; they must agree, or be (N, 1) and (N,)"
        )
    if not ((target == 0) | (target == 1)).all():
        raise ValueError(
            f"{name}: expected targets 0 or 1 for binary logits of shape {output.shape}, got others; a "
            f"regression has no {name}: give metrics=[] or others"
        )
    return output.ravel(), target.ravel() > 0


def _table(name: str, output: NDArray[Any], target: NDArray[Any], ignore_index: int) -> tuple[NDArray[np.int64], bool]:
    """The confusion matrix, and whether it is that of binary logits."""
    output, target = np.asarray(output), np.asarray(target)
    if binary := _is_binary(output, target):
        scores, positive = _binary(name, output, target)
        actual, answer, classes = positive.astype(np.int64), (scores > 0).astype(np.int64), 2
    else:
        _check_classes(name, output, target)
        counted = target != ignore_index
        actual, answer, classes = target[counted].astype(np.int64), output.argmax(1)[counted], output.shape[1]
        if actual.size and not 0 <= actual.min() <= actual.max() < classes:
            raise ValueError(f"{name}: classes must lie in 0 ... {classes - 1}, got {actual.min()} ... {actual.max()}")
    return np.bincount(actual * classes + answer, minlength=classes**2).reshape(classes, classes), binary


def _or_zero(total: float, count: float) -> float:
    return float(total / count) if count else 0.0


def _share(right: NDArray[np.bool_], target: NDArray[Any], ignore_index: int) -> Parts:
    """How many answers are right, of how many labels that are not ignored."""
    counted = target != ignore_index
    return int(np.count_nonzero(right & counted)), int(np.count_nonzero(counted))


def _check_classes(name: str, output: NDArray[Any], target: NDArray[Any]) -> None:
    expected = output.shape[:1] + output.shape[2:]
    if output.ndim < 2 or target.shape != expected or target.dtype.kind not in "iu":
        raise ValueError(
            f"{name}: output has shape {output.shape}, target {target.shape} and dtype "
            f"{target.dtype}; expected logits (N, C, ...) and class indices (N, ...); a regression has no {name}: "
            "give metrics=[] or others"
        )


def _check_pair(name: str, output: NDArray[Any], target: NDArray[Any]) -> None:
    if np.shape(output) != np.shape(target):
        raise ValueError(f"{name}: output has shape {np.shape(output)}, target {np.shape(target)}; they must agree")
