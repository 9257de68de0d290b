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
    if output.ndim == 2 and output.shape[1] == 1:
        output = output[:, 0]
        target = target[:, 0] if target.shape[1:] == (1,) else target
    if output.shape == target.shape:
        if not ((target == 0) | (target == 1)).all():
            raise ValueError(
                f"accuracy: expected targets 0 or 1 for binary logits of shape {output.shape}, got others; a "
                "regression has no accuracy: give metrics=[] or others"
            )
        return int(np.count_nonzero((output > 0) == (target > 0))), target.size
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


def usual(loss: Any) -> tuple[str, ...]:
    """Names of the metrics that go with a loss; none for a function of one's own."""
    if isinstance(loss, Loss):
        return loss.metrics
    return ("accuracy",) if loss in (F.cross_entropy, F.binary_cross_entropy_with_logits) else ()


NAMED: dict[str, Metric] = {
    "accuracy": accuracy,
    "mean_absolute_error": mean_absolute_error,
    "mean_squared_error": mean_squared_error,
}


def resolve(metrics: Sequence[str | Metric]) -> dict[str, Metric]:
    """Metrics by the names they have in logs.

    Raises
    ------
    TypeError, ValueError
        For an unknown name, something that cannot be called, or two metrics of one name.
    """
    if isinstance(metrics, str) or not isinstance(metrics, Sequence):
        raise TypeError(f"metrics: expected a list of names or callables, got {_check.brief(metrics)}")
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
        if name in found or name == "loss":
            raise ValueError(f"metrics: the name {name!r} is taken; each metric needs a __name__ of its own")
        found[name] = function
    return found


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
