"""Metrics: functions of a batch's output and target that give a mean over its samples.

The trainer averages them over batches, weighted by size, so any function of this form is one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Metric: TypeAlias = Callable[[Any, Any], float]


def accuracy(output: NDArray[Any], target: NDArray[Any]) -> float:
    """Share of right answers.

    Parameters
    ----------
    output : array
        Logits or probabilities of classes, (N, C) or (N, C, d1, ...); or binary logits, of the
        target's shape or (N, 1), which answer yes above 0.
    target : array
        Class indices, (N,) or (N, d1, ...); for binary logits 0 or 1, of the output's shape.

    Returns
    -------
    float

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
                f"accuracy: expected targets 0 or 1 for binary logits of shape {output.shape}; "
                "a regression has no accuracy"
            )
        return float(np.mean((output > 0) == (target > 0)))
    _check_classes("accuracy", output, target)
    return float(np.mean(output.argmax(1) == target))


def top_k(k: int) -> Metric:
    """Make a metric: the share of samples whose class is among the k with the largest logits.

    Parameters
    ----------
    k : int
        At least 1.

    Returns
    -------
    callable
        Takes logits (N, C, ...) and class indices (N, ...); named ``top_k``, such as ``top_5``. Of
        equal logits, those before the target's count against it.
    """
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)):
        raise TypeError(f"k: expected an int, got {k!r}")
    if k < 1:
        raise ValueError(f"k: expected at least 1, got {k}")

    def metric(output: NDArray[Any], target: NDArray[Any]) -> float:
        output, target = np.asarray(output), np.asarray(target)
        _check_classes(metric.__name__, output, target)
        index = np.expand_dims(np.maximum(target, 0), 1)
        own = np.take_along_axis(output, index, 1)
        classes = np.arange(output.shape[1]).reshape(1, -1, *[1] * (output.ndim - 2))
        # A NaN beats everything, so that a broken model is not a perfect one.
        ahead = ~(output < own) & (classes != index) & ((output != own) | (classes < index))
        # A label below 0 is one that the loss ignores; no answer to it is right.
        return float(np.mean((ahead.sum(1) < k) & (target >= 0)))

    metric.__name__ = f"top_{k}"
    return metric


def mean_absolute_error(output: NDArray[Any], target: NDArray[Any]) -> float:
    """Mean of abs(output - target), two arrays of one shape."""
    _check_pair("mean_absolute_error", output, target)
    return float(np.mean(np.abs(output - target), dtype=np.float64))


def mean_squared_error(output: NDArray[Any], target: NDArray[Any]) -> float:
    """Mean of (output - target)**2, two arrays of one shape."""
    _check_pair("mean_squared_error", output, target)
    return float(np.mean(np.square(output - target), dtype=np.float64))


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
        raise TypeError(f"metrics: expected a list of names or callables, got {metrics!r}")
    found: dict[str, Metric] = {}
    for metric in metrics:
        if isinstance(metric, str):
            if metric not in NAMED:
                known = ", ".join(map(repr, NAMED))
                raise ValueError(f"metrics: {metric!r} is unknown; there are {known} and callables")
            name, function = metric, NAMED[metric]
        elif callable(metric):
            name, function = getattr(metric, "__name__", type(metric).__name__), metric
        else:
            raise TypeError(f"metrics: expected names or callables, got {metric!r}")
        if name in found or name == "loss":
            raise ValueError(f"metrics: the name {name!r} is taken")
        found[name] = function
    return found


def _check_classes(name: str, output: NDArray[Any], target: NDArray[Any]) -> None:
    expected = output.shape[:1] + output.shape[2:]
    if output.ndim < 2 or target.shape != expected or target.dtype.kind not in "iu":
        raise ValueError(
            f"{name}: output has shape {output.shape}, target {target.shape} and dtype "
            f"{target.dtype}; expected logits (N, C, ...) and class indices (N, ...)"
        )


def _check_pair(name: str, output: NDArray[Any], target: NDArray[Any]) -> None:
    if np.shape(output) != np.shape(target):
        raise ValueError(
            f"{name}: output has shape {np.shape(output)}, target {np.shape(target)}; they differ"
        )
