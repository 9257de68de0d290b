"""Losses of class labels."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn import _check
from fastnn.graph import Tensor, as_tensor
from fastnn.onnx.operator import Call, Value, Whole, operator
from fastnn.ops import loss
from fastnn.ops.layout import reshape
from fastnn.sizes import same_shape

#: A label that no array holds, for nodes that ignore none.
NONE = -(2**63)


@operator("SoftmaxCrossEntropyLoss", 12, raw="labels", settings="weights")
def softmax_cross_entropy_loss(
    call: Call,
    scores: Tensor,
    labels: Value,
    weights: Value | None = None,
    *,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> Any:
    """-log softmax(scores) at each label, and log softmax(scores)."""
    result = _loss(loss.CROSS_ENTROPY, scores, labels, _share(call, weights), ignore_index, reduction)
    return (result, loss.softmax(scores, 1, log=True)) if call.wants(1) else result


@operator("NegativeLogLikelihoodLoss", 12, raw="target", settings="weight")
def negative_log_likelihood_loss(
    call: Call,
    input: Tensor,
    target: Value,
    weight: Value | None = None,
    *,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-input at each label."""
    return _loss(loss.NLL, input, target, _share(call, weight), ignore_index, reduction)


def _share(call: Call, weight: Value | None) -> Tensor | None:
    return None if weight is None else call.tensor(weight)


def _loss(op: Any, x: Tensor, labels: Value, weight: Tensor | None, ignore_index: int | None, reduction: str) -> Tensor:
    _check.choice("its reduction", reduction, "none", "mean", "sum")
    ignored = NONE if ignore_index is None else ignore_index
    if isinstance(labels, Whole) and labels.tensor.dtype.kind == "i":
        if op is loss.CROSS_ENTROPY:
            return loss.cross_entropy(x, labels.tensor, weight, ignored, reduction)
        return loss.nll_loss(x, labels.tensor, weight, ignored, reduction)
    if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "iu":
        raise TypeError("its labels must be an input of the network, or constants")
    return _known(x if op is loss.NLL else loss.softmax(x, 1, log=True), labels, weight, ignored, reduction)


def _known(logs: Tensor, labels: np.ndarray[Any, Any], weight: Tensor | None, ignored: int, reduction: str) -> Tensor:
    """The loss for labels that are constants."""
    if not same_shape(labels.shape, (logs.shape[0], *logs.shape[2:])):
        raise ValueError(f"its labels have shape {labels.shape}, its input {tuple(logs.shape)}")
    counts = (labels != ignored).astype(logs.dtype)
    chosen = np.where(labels == ignored, 0, labels).astype(np.int64)
    if chosen.size and not 0 <= chosen.min() <= chosen.max() < logs.shape[1]:
        raise ValueError(f"its labels go from {chosen.min()} to {chosen.max()}, for {logs.shape[1]} classes")
    share: Any = as_tensor(counts, like=logs)
    if weight is not None:
        share = share * reshape(loss.class_weight("it", logs, weight, 1).take(chosen), labels.shape)
    losses = share * -reshape(logs.gather(1, np.expand_dims(chosen, 1)), labels.shape)
    total: Tensor = losses if reduction == "none" else losses.sum()
    return total / share.sum() if reduction == "mean" else total
