"""Losses."""

from __future__ import annotations

import math
from typing import Any

from fastnn import _check
from fastnn.graph import Tensor, as_tensor
from fastnn.nn._eager import eager
from fastnn.ops import loss
from fastnn.ops.activation import activation
from fastnn.ops.arguments import check_dtypes, check_float
from fastnn.ops.elementwise import clamp, equal, exp, log, minimum, sqrt, where
from fastnn.ops.index import gather, one_hot
from fastnn.sizes import describe, same_shape


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
    target : (N,), () or (N, d1, ...) of int64, or probabilities of the input's shape
        Classes, 0 ... C - 1; or how probable each of them is, over which a mean divides by the rows alone.
    weight : (C,), optional
        Weight of each class; a mean over classes is then weighted by it.
    ignore_index : int
        Classes of this value count for nothing.
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


@eager("input", "target", "weight")
def nll_loss(input: Any, target: Any, weight: Any = None, ignore_index: int = -100, reduction: str = "mean") -> Any:
    """Negative log-likelihood of classes, of log-probabilities such as those of log_softmax.

    Parameters
    ----------
    input : (N, C), (C,) or (N, C, d1, ...)
    target : (N,), () or (N, d1, ...) of int64
        Classes, 0 ... C - 1.
    weight : (C,), optional
        Weight of each class; a mean is then weighted by it.
    ignore_index : int
        Targets of this value count for nothing.
    reduction : {"mean", "sum", "none"}

    Examples
    --------
    >>> F.nll_loss(np.log([[0.25, 0.75], [0.5, 0.5]]), np.array([1, 0]), reduction="none").round(4)
    array([0.2877, 0.6931])
    """
    return loss.nll_loss(input, target, weight, _check.integer("ignore_index", ignore_index), reduction)


@eager("input", "target", "weight")
def mse_loss(input: Any, target: Any, reduction: str = "mean", weight: Any = None) -> Any:
    """(input - target) ** 2, reduced by "mean", "sum" or "none"; both have one shape.

    `weight` is that of each element, or of each sample as (N, 1, ...); a mean is then weighted by it.
    """
    return _weighted("mse", input, target, weight, reduction)


@eager("input", "target")
def half_mse_loss(input: Any, target: Any, reduction: str = "mean") -> Any:
    """(input - target) ** 2 / 2, whose gradient is input - target, reduced by "mean", "sum" or "none".

    Examples
    --------
    >>> F.half_mse_loss(np.array([1.0, 4.0]), np.array([0.0, 0.0]), reduction="sum")
    8.5
    """
    return loss.elementwise("huber", input, target, reduction, delta=math.inf)


@eager("input", "target", "weight")
def l1_loss(input: Any, target: Any, reduction: str = "mean", weight: Any = None) -> Any:
    """|input - target|, reduced by "mean", "sum" or "none", with the slope 0 where both are equal.

    `weight` is that of each element, or of each sample as (N, 1, ...); a mean is then weighted by it.

    Examples
    --------
    >>> F.l1_loss(np.array([1.0, 4.0]), np.array([0.0, 6.0]))
    1.5
    """
    return _weighted("l1", input, target, weight, reduction)


@eager("input", "target")
def smooth_l1_loss(input: Any, target: Any, reduction: str = "mean", beta: float = 1.0) -> Any:
    """d ** 2 / (2 beta) where |d| < beta, else |d| - beta / 2, with d = input - target (Girshick, 2015).

    Examples
    --------
    >>> F.smooth_l1_loss(np.array([0.5, 4.0]), np.array([0.0, 6.0]), reduction="none")
    array([0.125, 1.5  ])
    """
    beta = _check.real("beta", beta, 0)
    if beta == 0:
        return loss.elementwise("l1", input, target, reduction)
    return loss.elementwise("smooth_l1", input, target, reduction, beta=beta)


@eager("input", "target", "weight")
def huber_loss(input: Any, target: Any, reduction: str = "mean", delta: float = 1.0, weight: Any = None) -> Any:
    """d ** 2 / 2 where |d| <= delta, else delta * (|d| - delta / 2), with d = input - target (Huber, 1964).

    `weight` is a factor of each element, or of each sample as (N, 1, ...); a mean divides by the elements all the same.

    Examples
    --------
    >>> F.huber_loss(np.array([0.5, 4.0]), np.array([0.0, 6.0]), reduction="none", delta=0.5)
    array([0.125, 0.875])
    """
    delta = _check.positive("delta", delta)
    if weight is None:
        return loss.elementwise("huber", input, target, reduction, delta=delta)
    input = as_tensor(input)
    weight = loss.element_weight("huber", input, weight)
    return loss.reduced(loss.elementwise("huber", input, target, "none", delta=delta) * weight, reduction)


@eager("input", "target", "weight")
def binary_cross_entropy(input: Any, target: Any, weight: Any = None, reduction: str = "mean") -> Any:
    """-(target * log(input) + (1 - target) * log(1 - input)), with logarithms of at least -100.

    Parameters
    ----------
    input : (...)
        Probabilities of the positive class, 0 ... 1. Of logits, `binary_cross_entropy_with_logits` is exact.
    target : (...)
        The same as they should be, of the input's shape.
    weight : array, optional
        Factor of each element; broadcast to the input's shape.
    reduction : {"mean", "sum", "none"}

    Examples
    --------
    >>> F.binary_cross_entropy(np.array([0.5, 0.0]), np.array([1.0, 1.0]), reduction="none").round(4)
    array([  0.6931, 100.    ])
    """
    if weight is None:
        return loss.elementwise("bce", input, target, reduction)
    input = as_tensor(input)
    weight = loss.element_weight("bce", input, weight)
    return loss.reduced(loss.elementwise("bce", input, target, "none") * weight, reduction)


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


@eager("input", "target")
def soft_margin_loss(input: Any, target: Any, reduction: str = "mean") -> Any:
    """log(1 + exp(-target * input)), computed without overflow.

    Parameters
    ----------
    input : (...)
        Scores, above 0 for the positive class.
    target : (...)
        1 or -1, of the input's shape and dtype.
    reduction : {"mean", "sum", "none"}

    Examples
    --------
    >>> F.soft_margin_loss(np.array([0.0, -1000.0]), np.array([1.0, 1.0]), reduction="none")
    array([6.93147181e-01, 1.00000000e+03])
    """
    return loss.elementwise("soft_margin", input, target, reduction)


@eager("input", "target")
def hinge_loss(input: Any, target: Any, reduction: str = "mean") -> Any:
    """max(0, 1 - target * input), for targets 1 and -1, of the input's shape and dtype.

    Examples
    --------
    >>> F.hinge_loss(np.array([0.5, 2.0, 2.0]), np.array([1.0, 1.0, -1.0]), reduction="none")
    array([0.5, 0. , 3. ])
    """
    x, t = loss.alike("hinge_loss", input, target)
    return loss.reduced(activation(1.0 - t * x, "relu"), reduction)


@eager("input", "target")
def squared_hinge_loss(input: Any, target: Any, reduction: str = "mean") -> Any:
    """max(0, 1 - target * input) ** 2, for targets 1 and -1, of the input's shape and dtype.

    Examples
    --------
    >>> F.squared_hinge_loss(np.array([0.5, 2.0, 2.0]), np.array([1.0, 1.0, -1.0]), reduction="none")
    array([0.25, 0.  , 9.  ])
    """
    x, t = loss.alike("squared_hinge_loss", input, target)
    return loss.reduced(activation(1.0 - t * x, "relu").square(), reduction)


@eager("input", "target")
def perceptron_loss(input: Any, target: Any, reduction: str = "mean") -> Any:
    """How far an input is on the wrong side of 0: max(0, -input) for targets 1, max(0, input) for targets 0.

    An input of 0 is wrong where the target is 1: so descent by single points, at the rate 1, is the perceptron rule,
    weight += (target - (output > 0)) * point (Rosenblatt, 1958).

    Examples
    --------
    >>> F.perceptron_loss(np.array([0.5, 2.0, -2.0]), np.array([1.0, 0.0, 1.0]), reduction="none")
    array([0., 2., 2.])
    """
    x, t = loss.alike("perceptron_loss", input, target)
    return loss.reduced(where(t, clamp(-x, min=0.0), activation(x, "relu")), reduction)


@eager("input", "target")
def hinge_embedding_loss(input: Any, target: Any, margin: float = 1.0, reduction: str = "mean") -> Any:
    """The input where the target is 1, max(0, margin - input) where it is -1.

    Examples
    --------
    >>> F.hinge_embedding_loss(np.array([0.25, 0.25]), np.array([1.0, -1.0]), reduction="none")
    array([0.25, 0.75])
    """
    x, t = loss.alike("hinge_embedding_loss", input, target)
    near = where(equal(t, -1.0), 0.0, x)
    far = where(equal(t, 1.0), 0.0, clamp(_check.real("margin", margin) - x, min=0.0))
    return loss.reduced(near + far, reduction)


@eager("input", "target", "weight")
def multi_margin_loss(
    input: Any, target: Any, p: int = 1, margin: float = 1.0, weight: Any = None, reduction: str = "mean"
) -> Any:
    """Sum over the other classes i of max(0, margin - input[target] + input[i]) ** p, divided by the classes.

    Parameters
    ----------
    input : (N, C)
    target : (N,) of int64
        Classes, 0 ... C - 1.
    p : {1, 2}
    margin : float
    weight : (C,), optional
        Weight of each class, with which a row counts whose class it is. A mean divides by the rows.
    reduction : {"mean", "sum", "none"}

    Examples
    --------
    >>> F.multi_margin_loss(np.array([[1.0, 2.0, 4.0]]), np.array([1]))
    1.0
    """
    x, labels = as_tensor(input), as_tensor(target)
    check_float("multi_margin_loss", x)
    if p not in (1, 2) or isinstance(p, bool):
        raise ValueError(f"p must be 1 or 2, got {_check.brief(p)}")
    margin = _check.real("margin", margin)
    if x.ndim != 2 or not same_shape(labels.shape, x.shape[:1]):
        raise ValueError(
            f"multi_margin_loss: input has shape {describe(x.shape)}, target {describe(labels.shape)}; expected (N, C) "
            "and (N,)"
        )
    classes = int(x.shape[1])
    over = where(one_hot(labels, classes), 0.0, margin - gather(x, 1, labels.unsqueeze(1)) + x)
    over = activation(over, "relu")
    values = (over if p == 1 else over.square()).sum(1) * (1.0 / classes)
    if weight is not None:
        values = values * gather(loss.class_weight("multi_margin_loss", x, weight, 1), 0, labels)
    return loss.reduced(values, reduction)


@eager("input", "target")
def kl_div(input: Any, target: Any, reduction: str = "mean", log_target: bool = False) -> Any:
    """target * (log(target) - input): the Kullback-Leibler divergence of log-probabilities from probabilities.

    Parameters
    ----------
    input : (...)
        Logarithms of probabilities, such as those of log_softmax.
    target : (...)
        Probabilities, of the input's shape; their logarithms with `log_target`.
    reduction : {"mean", "batchmean", "sum", "none"}
        The divergence itself is "batchmean": the sum, divided by the first size.
    log_target : bool

    Examples
    --------
    >>> round(F.kl_div(np.log([[0.25, 0.75]]), np.array([[0.0, 1.0]]), reduction="batchmean"), 4)
    0.2877
    """
    x, t = loss.alike("kl_div", input, target)
    if _check.flag("log_target", log_target):
        values = exp(t) * (t - x)
    else:
        values = where(equal(t, 0.0), 0.0, t * log(t)) - t * x
    if reduction == "batchmean":
        return values.sum() if x.ndim == 0 else values.mean(0).sum()
    return loss.reduced(values, reduction)


@eager("input", "target")
def poisson_nll_loss(
    input: Any, target: Any, log_input: bool = True, full: bool = False, eps: float = 1e-8, reduction: str = "mean"
) -> Any:
    """Negative log-likelihood of counts under a Poisson distribution.

    Parameters
    ----------
    input : (...)
        The expected counts, or their logarithms.
    target : (...)
        Counts, of the input's shape and dtype.
    log_input : bool
        Whether the input is logarithms: exp(input) - target * input, else input - target * log(input + eps).
    full : bool
        Whether Stirling's approximation of log(target!) is added, where the target is above 1.
    eps : float
    reduction : {"mean", "sum", "none"}

    Examples
    --------
    >>> F.poisson_nll_loss(np.array([0.0]), np.array([3.0]))
    1.0
    """
    x, t = loss.alike("poisson_nll_loss", input, target)
    eps = _check.real("eps", eps, 0)
    values = exp(x) - t * x if _check.flag("log_input", log_input) else x - t * log(x + eps)
    if _check.flag("full", full):
        stirling = t * log(t) - t + log(t * (2 * math.pi)) * 0.5
        values = values + where(t > 1.0, stirling, 0.0)
    return loss.reduced(values, reduction)


@eager("input", "target", "var")
def gaussian_nll_loss(
    input: Any, target: Any, var: Any, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
) -> Any:
    """(log(var) + (input - target) ** 2 / var) / 2: negative log-likelihood under normal distributions.

    Parameters
    ----------
    input : (...)
        Expected values.
    target : (...)
        Of the input's shape.
    var : (...), (..., 1) or without the last size
        Variances. Where they are below `eps`, eps stands in their place, with their gradient.
    full : bool
        Whether log(2 pi) / 2 is added.
    eps : float
        Above 0.
    reduction : {"mean", "sum", "none"}

    Examples
    --------
    >>> F.gaussian_nll_loss(np.array([1.0, 2.0]), np.array([0.0, 2.0]), np.array([1.0, 1.0]))
    0.25
    """
    x, t = loss.alike("gaussian_nll_loss", input, target)
    v = as_tensor(var, like=x)
    check_dtypes("gaussian_nll_loss", x, v, ("the input", "the var"))
    eps = _check.positive("eps", eps)
    if x.ndim and same_shape(v.shape, x.shape[:-1]):
        v = v.unsqueeze(-1)
    if not same_shape(v.shape, x.shape) and not (x.ndim and same_shape(v.shape, (*x.shape[:-1], 1))):
        raise ValueError(
            f"gaussian_nll_loss: input has shape {describe(x.shape)}, var {describe(v.shape)}; expected the same, with "
            "a last size of 1, or without the last size"
        )
    v = where(v < eps, eps + (v - v.detach()), v)
    values = (log(v) + (x - t).square() / v) * 0.5
    if _check.flag("full", full):
        values = values + 0.5 * math.log(2 * math.pi)
    return loss.reduced(values, reduction)


@eager("input1", "input2", "target")
def cosine_embedding_loss(input1: Any, input2: Any, target: Any, margin: float = 0.0, reduction: str = "mean") -> Any:
    """1 - cos where the target is 1, max(0, cos - margin) where it is -1, of the angle between two vectors.

    Parameters
    ----------
    input1, input2 : (N, D) or (D,)
    target : (N,) or ()
        1 or -1, of the inputs' dtype.
    margin : float
    reduction : {"mean", "sum", "none"}

    Examples
    --------
    >>> F.cosine_embedding_loss(np.array([[1.0, 0.0]]), np.array([[0.0, 2.0]]), np.array([1.0]))
    1.0
    """
    a, b = loss.alike("cosine_embedding_loss", input1, input2, ("input1", "input2"))
    t = as_tensor(target, like=a)
    check_dtypes("cosine_embedding_loss", a, t, ("input1", "the target"))
    margin = _check.real("margin", margin)
    if a.ndim not in (1, 2) or not same_shape(t.shape, a.shape[:-1]):
        raise ValueError(
            f"cosine_embedding_loss: input1 has shape {describe(a.shape)}, target {describe(t.shape)}; expected (N, D) "
            "and (N,), or (D,) and ()"
        )
    eps = 1e-12  # PyTorch's
    cos = (a * b).sum(-1) / sqrt((a.square().sum(-1) + eps) * (b.square().sum(-1) + eps))
    near, far = where(equal(t, 1.0), 1.0 - cos, 0.0), where(equal(t, -1.0), clamp(cos - margin, min=0.0), 0.0)
    return loss.reduced(near + far, reduction)


@eager("input1", "input2", "target")
def margin_ranking_loss(input1: Any, input2: Any, target: Any, margin: float = 0.0, reduction: str = "mean") -> Any:
    """max(0, margin - target * (input1 - input2)): a target of 1 wants input1 larger, one of -1 input2.

    Examples
    --------
    >>> F.margin_ranking_loss(np.array([1.0, 1.0]), np.array([3.0, 3.0]), np.array([1.0, -1.0]), reduction="none")
    array([2., 0.])
    """
    a, b = loss.alike("margin_ranking_loss", input1, input2, ("input1", "input2"))
    _, t = loss.alike("margin_ranking_loss", a, target, ("input1", "target"))
    return loss.reduced(clamp(_check.real("margin", margin) - t * (a - b), min=0.0), reduction)


@eager("anchor", "positive", "negative")
def triplet_margin_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: str = "mean",
) -> Any:
    """max(0, margin + |anchor - positive + eps|_p - |anchor - negative + eps|_p) (Balntas et al., 2016).

    Parameters
    ----------
    anchor, positive, negative : (N, D) or (D,)
    margin : float
    p : float
        Of the norm, at least 1.
    eps : float
    swap : bool
        Whether the distance of the negative from the positive counts, where it is the smaller one.
    reduction : {"mean", "sum", "none"}

    Examples
    --------
    >>> round(F.triplet_margin_loss(np.array([[0.0, 0.0]]), np.array([[3.0, 4.0]]), np.array([[0.0, 2.0]])), 4)
    4.0
    """
    a, b = loss.alike("triplet_margin_loss", anchor, positive, ("anchor", "positive"))
    _, c = loss.alike("triplet_margin_loss", a, negative, ("anchor", "negative"))
    margin, p, eps = _check.positive("margin", margin), _check.real("p", p, 1), _check.real("eps", eps)
    if a.ndim < 1:
        raise ValueError("triplet_margin_loss: anchor has shape (); expected (N, D) or (D,)")
    far = _distance(a, c, p, eps)
    if _check.flag("swap", swap):
        far = minimum(far, _distance(b, c, p, eps))
    return loss.reduced(clamp(margin + _distance(a, b, p, eps) - far, min=0.0), reduction)


def _distance(a: Tensor, b: Tensor, p: float, eps: float) -> Tensor:
    d = a - b + eps
    if p == 1:
        return d.abs().sum(-1)
    total = d.square().sum(-1) if p == 2 else (d.abs() ** p).sum(-1)
    nothing = equal(total, 0.0)  # whose root is steep: what comes back to a distance of 0 counts for nothing
    total = where(nothing, 1.0, total)
    return where(nothing, 0.0, sqrt(total) if p == 2 else total ** (1 / p))


@eager("inputs", "targets")
def sigmoid_focal_loss(
    inputs: Any, targets: Any, alpha: float = 0.25, gamma: float = 2.0, reduction: str = "none"
) -> Any:
    """(1 - p) ** gamma times the binary cross-entropy, p the probability of what is right (Lin et al., 2017).

    Parameters
    ----------
    inputs : (...)
        Logits.
    targets : (...)
        0 or 1, of the inputs' shape and dtype.
    alpha : float
        Weight of positive targets, 0 ... 1; that of the others is 1 - alpha. None is weighted if it is -1.
    gamma : float
    reduction : {"mean", "sum", "none"}
        "none" by default, as torchvision's.

    Examples
    --------
    >>> F.sigmoid_focal_loss(np.array([0.0]), np.array([1.0]), alpha=-1).round(4)
    array([0.1733])
    """
    x, t = loss.alike("sigmoid_focal_loss", inputs, targets, ("inputs", "targets"))
    alpha, gamma = focal_alpha(alpha), _check.real("gamma", gamma, 0)
    p = activation(x, "sigmoid")
    wrong = p + t - 2.0 * (p * t)
    values = wrong**gamma * loss.elementwise("bce_with_logits", x, t, "none", cols=1)
    if alpha >= 0:
        values = values * (t * (2 * alpha - 1) + (1 - alpha))
    return loss.reduced(values, reduction)


def focal_alpha(alpha: Any) -> float:
    """The weight of positive targets, or -1 for none."""
    number = _check.real("alpha", alpha, maximum=1)
    if number < 0 and number != -1:
        raise ValueError(f"alpha must be a number from 0 to 1, or -1, got {number}")
    return number


def _weighted(kernel: str, input: Any, target: Any, weight: Any, reduction: str) -> Tensor:
    """A loss by elements, with the mean weighted."""
    if weight is None:
        return loss.elementwise(kernel, input, target, reduction)
    loss.check_reduction(reduction)
    input = as_tensor(input)
    weight = loss.element_weight(kernel, input, weight)
    values = loss.elementwise(kernel, input, target, "none") * weight
    return values.sum() / weight.sum() if reduction == "mean" else loss.reduced(values, reduction)
