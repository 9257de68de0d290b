"""Losses."""

from __future__ import annotations

from typing import Any

from fastnn import _check
from fastnn.nn._eager import eager
from fastnn.ops import loss


@eager("input", "target", "weight")
def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """Negative log-likelihood of classes under the softmax of logits.

    Parameters
    ----------
    input : (N, C), (C,) or (N, C, d1, ...)
        Logits.
    target : (N,), () or (N, d1, ...) of int64
        Classes, 0 ... C - 1.
    weight : (C,), optional
        Weight of each class; a mean is then weighted by it.
    ignore_index : int
        Targets of this value count for nothing.
    reduction : {"mean", "sum", "none"}
    label_smoothing : float
        The part of the target that is spread evenly over all classes, 0 ... 1 (Szegedy et al.,
        2016).
    """
    return loss.cross_entropy(
        input,
        target,
        weight,
        _check.integer("ignore_index", ignore_index),
        reduction,
        _check.real("label_smoothing", label_smoothing, 0, 1),
    )


@eager("input", "target")
def mse_loss(input: Any, target: Any, reduction: str = "mean") -> Any:
    """(input - target) ** 2, reduced by "mean", "sum" or "none"; both have one shape."""
    return loss.elementwise("mse", input, target, reduction)


@eager("input", "target", "weight", "pos_weight")
def binary_cross_entropy_with_logits(
    input: Any, target: Any, weight: Any = None, reduction: str = "mean", pos_weight: Any = None
) -> Any:
    """Binary cross-entropy of sigmoid(input), computed from the logits without overflow.

    Parameters
    ----------
    input : (...)
        Logits.
    target : (...)
        Probabilities of the positive class, of the input's shape.
    weight : array, optional
        Factor of each element; broadcast to the input's shape.
    reduction : {"mean", "sum", "none"}
    pos_weight : array, optional
        Weight of positive targets; its sizes are the last ones of the input's shape.
    """
    return loss.bce_with_logits(input, target, weight, pos_weight, reduction)
