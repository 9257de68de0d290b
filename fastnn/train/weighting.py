"""Weights of samples: what they do to a loss, and those that classes have."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import _check
from fastnn.graph import Tensor
from fastnn.nn.loss import Loss
from fastnn.ops.elementwise import cast
from fastnn.sizes import describe, same_shape


def weighted_sum(loss: Any, output: Any, target: Any, weight: Tensor) -> Tensor:
    """The sum of the losses of a batch, each times its sample's weight; traced.

    Parameters
    ----------
    loss : Loss, or callable with an argument `reduction`
    output, target
        Of the loss.
    weight : (N,), or (N, d1, ...) with the first sizes of the losses
        Of any floating dtype.
    """
    each = _each(loss, output, target)
    if not isinstance(each, Tensor) or not each.ndim:
        raise ValueError(f"sample_weight: {_name(loss)} with reduction='none' must give a loss for each sample")
    if weight.ndim > each.ndim or not same_shape(weight.shape, each.shape[: weight.ndim]):
        raise ValueError(
            f"sample_weight has shape {describe(weight.shape)}, and the losses {describe(each.shape)}; expected one "
            "for each sample, (N,), or the first sizes of the losses"
        )
    shaped = weight.reshape(*weight.shape, *[1] * (each.ndim - weight.ndim))
    return (each * cast(shaped, each.dtype)).sum()


def _each(loss: Any, output: Any, target: Any) -> Any:
    """A loss for each sample, or for more than one of each."""
    if isinstance(loss, Loss):
        single = copy.copy(loss)
        vars(single)["reduction"] = "none"
        return single(output, target)
    try:
        reduces = "reduction" in inspect.signature(loss).parameters
    except (TypeError, ValueError):
        reduces = False
    if not reduces:
        raise TypeError(
            f"sample_weight and class_weight need the loss of each sample: a loss of fastnn.nn, or a function with an "
            f"argument reduction, which is given 'none'; {_name(loss)} has none"
        )
    return loss(output, target, reduction="none")


def _name(loss: Any) -> str:
    return getattr(loss, "__name__", type(loss).__name__)


def denominator(loss: Any, target: Any, samples: int, weight: NDArray[Any] | None = None) -> float | None:
    """What a mean over a batch divides by: see `Loss.denominator`; by default its samples, or what they weigh."""
    own = getattr(loss, "denominator", None)
    if own is None:
        return samples if weight is None else float(weight.sum(dtype=np.float64))
    if weight is None:
        return own(target)  # type: ignore[no-any-return]
    if "sample_weight" not in inspect.signature(own).parameters:
        raise TypeError(f"sample_weight: {_name(loss)}.denominator must take it: denominator(target, sample_weight)")
    return own(target, sample_weight=weight)  # type: ignore[no-any-return]


def shares(loss: Any, target: Any, weight: NDArray[Any]) -> NDArray[Any]:
    """Weights as they enter a batch's sum, which is then Keras's loss: over what an unweighted one divides by."""
    count = denominator(loss, target, len(weight))
    if count is None:
        return weight
    return weight / count if count else np.zeros_like(weight)


def as_sample_weight(name: str, weight: Any, rows: int) -> NDArray[np.float64]:
    """Weights of rows, found to be such."""
    array = np.asarray(_check.readable(name, weight))
    if array.dtype.kind not in "fiub" or array.shape[:1] != (rows,):
        raise ValueError(
            f"{name}: expected a number for each of {rows} samples, shape ({rows},), got {array.dtype} {array.shape}"
        )
    array = array.astype(np.float64)
    if not (np.isfinite(array).all() and (array >= 0).all()):
        raise ValueError(f"{name}: expected finite numbers of at least 0")
    return array


class ClassWeights:
    """What samples weigh by the classes in their targets; 1 if their class is not named.

    Parameters
    ----------
    weights : mapping of int to float, or "balanced"
    labels : array, optional
        The targets of all samples, for "balanced": a class then weighs samples / (classes * samples of the class), as
        in scikit-learn.
    ignore_index : int, optional
        The loss's: such labels are of no class.
    """

    def __init__(self, weights: Any, labels: Any = None, ignore_index: int | None = None) -> None:
        if isinstance(weights, str):
            _check.choice("class_weight", weights, "balanced")
            found = _classes(labels)
            classes, counts = np.unique(found[found != ignore_index], return_counts=True)
            weights = dict(zip(classes.tolist(), (counts.sum() / (len(classes) * counts)).tolist(), strict=True))
        if not isinstance(weights, Mapping):
            raise TypeError(
                "class_weight: expected a dict of classes and weights, such as {0: 1.0, 1: 5.0}, or 'balanced', got "
                f"{_check.kind_of(weights)}"
            )
        table = {_check.integer("class_weight", c): w for c, w in weights.items()}
        self.table = {c: _check.real(f"class_weight[{c}]", w, 0) for c, w in table.items()}

    def of(self, target: Any) -> NDArray[np.float64]:
        """The weight of each sample, or of each of its labels."""
        labels = _classes(target)
        weights = np.ones(labels.shape)
        for label, weight in self.table.items():
            weights[labels == label] = weight
        return weights


def _classes(target: Any) -> NDArray[np.int64]:
    """Classes of a target: labels, binary numbers (N,) or (N, 1), or probabilities (N, C, ...)."""
    labels = np.asarray(target)
    if labels.dtype.kind in "iub":
        return labels.astype(np.int64, copy=False)
    if labels.ndim > 1 and labels.shape[1] > 1:
        return np.asarray(labels.argmax(1), np.int64)
    labels = labels[:, 0] if labels.ndim == 2 else labels
    if labels.ndim != 1 or not (labels == np.round(labels)).all():
        raise ValueError("class_weight: expected classes as targets, integers, or probabilities of shape (N, C)")
    return labels.astype(np.int64)
