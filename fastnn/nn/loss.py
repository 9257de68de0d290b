"""Losses as modules; fastnn.nn.functional has them as functions, with their shapes."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from fastnn import _check
from fastnn.graph import Graph, Tensor, is_tracing
from fastnn.lowering.cache import Recipe
from fastnn.lowering.gradients import gradients, one
from fastnn.nn import functional as F
from fastnn.nn.module import Module
from fastnn.ops.loss import check_reduction


class Loss(Module):
    """Base of the losses: `forward(input, target)` gives a scalar, or one value an element.

    Called with arrays, a loss returns a float (an array where its reduction is "none"). A subclass
    writes `forward` with tensors, as any module does.

    Attributes
    ----------
    metrics : tuple of str
        Names of what a trainer measures beside the loss if it is not told: see `fn.Trainer`.
    """

    input_names = ("input", "target")
    metrics: ClassVar[tuple[str, ...]] = ()
    reduction: str = "mean"

    def __call__(self, input: Any, target: Any) -> Any:
        if is_tracing() and isinstance(input, (tuple, list, dict)):
            raise TypeError(
                f"input is a {type(input).__name__} of {len(input)}, and {type(self).__name__} compares one output "
                "with the target; where a model returns several, give a loss function of your own, such as "
                "lambda output, target: loss(output[0], target)"
            )
        return super().__call__(input, target)

    def denominator(self, target: Any, sample_weight: Any = None) -> float | None:
        """What the mean over a batch divides by, so that batches can be put together again.

        The loss of several batches is the sum of loss * denominator over the sum of denominators.

        Parameters
        ----------
        target : array
        sample_weight : array, optional
            Of each sample, (N,), or with more of the target's first sizes: then what the weighted mean divides by.

        Returns
        -------
        float or None
            Here the number of samples; None where the reduction is "sum", which divides by nothing.
        """
        if self.reduction == "sum":
            return None
        return len(target) if sample_weight is None else float(np.sum(sample_weight, dtype=np.float64))

    def classes(self, target: Any) -> Any:
        """What metrics of classes, such as accuracy, compare the model's output with.

        Parameters
        ----------
        target : array

        Returns
        -------
        array
            Here the target as it is; of cross-entropy's probabilities, the most probable classes.
        """
        return target

    def scores(self, output: Any) -> Any:
        """What metrics of classes take for the model's answers: logits, of which binary ones say yes above 0.

        Parameters
        ----------
        output : array

        Returns
        -------
        array
            Here the output as it is; of probabilities, what they are above 1/2.
        """
        return output

    def value_and_grad(self, input: Any, target: Any) -> tuple[float, np.ndarray[Any, Any]]:
        """The loss and its gradient for `input`, from one run.

        Parameters
        ----------
        input : array
            The model's output.
        target : array

        Returns
        -------
        loss : float
        grad : array of input's shape and dtype

        Raises
        ------
        TypeError, ValueError
            If an array's dtype or shape does not fit, or the loss is no scalar.
        """
        programs = self._programs.get("gradient") or self._programs_for("gradient", self._finish_gradient)
        return programs((input, target))  # type: ignore[no-any-return]

    def _finish_gradient(self, graph: Graph, value: Any) -> Recipe:
        name = type(self).__name__
        if not isinstance(value, Tensor) or value.shape != ():
            raise ValueError(f"{name} gives {value!r}, no scalar to differentiate; use reduction='mean' or 'sum'")
        (grad,) = gradients(graph, {value: one(value.dtype)}, graph.inputs[:1])
        if grad is None:
            raise ValueError(f"{name} does not depend on its input")
        return Recipe([[value, grad]], tuple)


class CrossEntropyLoss(Loss):
    """Cross-entropy of int64 classes, or of probabilities, under the softmax of logits; see functional.cross_entropy.

    Parameters
    ----------
    weight : array (C,), optional
        Weight of each class, of the logits' dtype; lists become float32.
    ignore_index : int, default -100
        Targets of this value count for nothing.
    reduction : {"mean", "sum", "none"}
    label_smoothing : float, default 0.0
        The part of the target that is spread evenly over all classes.
    """

    metrics = ("accuracy",)
    weight: Any

    def __init__(
        self,
        weight: Any = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        _register(self, "weight", weight, ndim=1)
        self.ignore_index = _check.integer("ignore_index", ignore_index)
        self.reduction = check_reduction(reduction)
        self.label_smoothing = _check.real("label_smoothing", label_smoothing, 0, 1)

    def forward(self, input: Any, target: Any) -> Any:
        return F.cross_entropy(input, target, self.weight, self.ignore_index, self.reduction, self.label_smoothing)

    def denominator(self, target: Any, sample_weight: Any = None) -> float | None:
        """The sum of the class weights of the labels that are not ignored: see `Loss.denominator`."""
        if self.reduction == "sum":
            return None
        labels = np.asarray(target)
        if labels.dtype.kind == "f":  # probabilities, over which a mean divides by the rows
            rows = np.delete(labels.shape, min(1, labels.ndim - 1))
            return float(np.prod(rows)) if sample_weight is None else _weighed(np.ones(rows), sample_weight)
        if sample_weight is not None:
            counted = labels != self.ignore_index
            weights = counted if self.weight is None else self.weight.data[np.where(counted, labels, 0)] * counted
            return _weighed(weights, sample_weight)
        if self.weight is None:
            return int(np.count_nonzero(labels != self.ignore_index))
        return float(self.weight.data[labels[labels != self.ignore_index]].sum(dtype=np.float64))

    def classes(self, target: Any) -> Any:
        """Class indices; of probabilities, those of the most probable: see `Loss.classes`."""
        labels = np.asarray(target)
        return labels.argmax(min(1, labels.ndim - 1)) if labels.dtype.kind == "f" else labels


class _Elementwise(Loss):
    """Base of the losses that are means or sums over elements."""

    def denominator(self, target: Any, sample_weight: Any = None) -> float | None:
        """The number of elements: see `Loss.denominator`."""
        if self.reduction == "sum":
            return None
        return np.size(target) if sample_weight is None else _weighed(np.ones(np.shape(target)), sample_weight)


class NLLLoss(CrossEntropyLoss):
    """Negative log-likelihood of int64 classes, of log-probabilities; see functional.nll_loss.

    Parameters
    ----------
    weight : array (C,), optional
        Weight of each class, of the input's dtype; lists become float32.
    ignore_index : int, default -100
        Targets of this value count for nothing.
    reduction : {"mean", "sum", "none"}
    """

    def __init__(self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__(weight, ignore_index, reduction)

    def forward(self, input: Any, target: Any) -> Any:
        return F.nll_loss(input, target, self.weight, self.ignore_index, self.reduction)


class _Reduced(_Elementwise):
    """Base of those by elements that have no setting but how they are reduced."""

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = check_reduction(reduction)


class MSELoss(_Reduced):
    """(input - target) ** 2, reduced by "mean", "sum" or "none"."""

    def forward(self, input: Any, target: Any) -> Any:
        return F.mse_loss(input, target, self.reduction)


class HalfMSELoss(_Reduced):
    """(input - target) ** 2 / 2, reduced by "mean", "sum" or "none"."""

    def forward(self, input: Any, target: Any) -> Any:
        return F.half_mse_loss(input, target, self.reduction)


class L1Loss(_Reduced):
    """|input - target|, reduced by "mean", "sum" or "none"."""

    def forward(self, input: Any, target: Any) -> Any:
        return F.l1_loss(input, target, self.reduction)


class SmoothL1Loss(_Elementwise):
    """d ** 2 / (2 beta) where |d| < beta, else |d| - beta / 2, with d = input - target."""

    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__()
        self.reduction = check_reduction(reduction)
        self.beta = _check.real("beta", beta, 0)

    def forward(self, input: Any, target: Any) -> Any:
        return F.smooth_l1_loss(input, target, self.reduction, self.beta)


class HuberLoss(_Elementwise):
    """d ** 2 / 2 where |d| <= delta, else delta * (|d| - delta / 2), with d = input - target."""

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__()
        self.reduction = check_reduction(reduction)
        self.delta = _check.positive("delta", delta)

    def forward(self, input: Any, target: Any) -> Any:
        return F.huber_loss(input, target, self.reduction, self.delta)


class _OfSigns(_Reduced):
    """Base of those whose targets are 1 and -1."""

    metrics = ("accuracy",)

    def classes(self, target: Any) -> Any:
        """1 for 1, and 0 for -1: see `Loss.classes`."""
        signs = np.asarray(target)
        return np.where(signs == 1, 1, np.where(signs == -1, 0, signs))


class SoftMarginLoss(_OfSigns):
    """log(1 + exp(-target * input)) for targets 1 and -1; see functional.soft_margin_loss.

    Examples
    --------
    >>> nn.SoftMarginLoss(reduction="sum")(np.array([0.0, -1000.0]), np.array([1.0, 1.0]))
    1000.6931471805599
    """

    def forward(self, input: Any, target: Any) -> Any:
        return F.soft_margin_loss(input, target, self.reduction)


class HingeLoss(_OfSigns):
    """max(0, 1 - target * input), for targets 1 and -1."""

    def forward(self, input: Any, target: Any) -> Any:
        return F.hinge_loss(input, target, self.reduction)


class SquaredHingeLoss(_OfSigns):
    """max(0, 1 - target * input) ** 2, for targets 1 and -1."""

    def forward(self, input: Any, target: Any) -> Any:
        return F.squared_hinge_loss(input, target, self.reduction)


class PerceptronLoss(_Reduced):
    """How far an input is on the wrong side of 0, for targets 1 and 0; see functional.

    Examples
    --------
    >>> neuron = nn.Linear(2, 1)
    >>> rule = fn.TrainStep(neuron, nn.PerceptronLoss("sum"), optim.SGD(neuron.parameters(), lr=1.0))
    >>> loss = rule(np.ones((1, 2), np.float32), np.zeros((1, 1), np.float32))
    """

    def forward(self, input: Any, target: Any) -> Any:
        return F.perceptron_loss(input, target, self.reduction)


class HingeEmbeddingLoss(_Elementwise):
    """The input where the target is 1, max(0, margin - input) where it is -1."""

    def __init__(self, margin: float = 1.0, reduction: str = "mean") -> None:
        super().__init__()
        self.margin = _check.real("margin", margin)
        self.reduction = check_reduction(reduction)

    def forward(self, input: Any, target: Any) -> Any:
        return F.hinge_embedding_loss(input, target, self.margin, self.reduction)


class MultiMarginLoss(Loss):
    """Sum over the other classes of max(0, margin - input[target] + input[i]) ** p / C; see functional.

    Parameters
    ----------
    p : {1, 2}
    margin : float, default 1
    weight : array (C,), optional
        Weight of each class; a mean divides by the rows all the same.
    reduction : {"mean", "sum", "none"}
    """

    metrics = ("accuracy",)
    weight: Any

    def __init__(self, p: int = 1, margin: float = 1.0, weight: Any = None, reduction: str = "mean") -> None:
        super().__init__()
        if p not in (1, 2) or isinstance(p, bool):
            raise ValueError(f"p must be 1 or 2, got {_check.brief(p)}")
        self.p = p
        self.margin = _check.real("margin", margin)
        _register(self, "weight", weight, ndim=1)
        self.reduction = check_reduction(reduction)

    def forward(self, input: Any, target: Any) -> Any:
        return F.multi_margin_loss(input, target, self.p, self.margin, self.weight, self.reduction)


class KLDivLoss(_Elementwise):
    """target * (log(target) - input), of log-probabilities and probabilities; see functional.kl_div.

    Parameters
    ----------
    reduction : {"mean", "batchmean", "sum", "none"}
        The divergence itself is "batchmean": the sum, divided by the first size.
    log_target : bool, default False
        Whether the target is logarithms, too.
    """

    def __init__(self, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__()
        self.reduction = reduction if reduction == "batchmean" else check_reduction(reduction)
        self.log_target = _check.flag("log_target", log_target)

    def forward(self, input: Any, target: Any) -> Any:
        return F.kl_div(input, target, self.reduction, self.log_target)

    def denominator(self, target: Any, sample_weight: Any = None) -> float | None:
        """The number of elements, or the first size for "batchmean": see `Loss.denominator`."""
        if self.reduction == "batchmean":
            return Loss.denominator(self, target, sample_weight)
        return super().denominator(target, sample_weight)


class PoissonNLLLoss(_Elementwise):
    """exp(input) - target * input: that of counts under a Poisson distribution; see functional.poisson_nll_loss."""

    def __init__(self, log_input: bool = True, full: bool = False, eps: float = 1e-8, reduction: str = "mean") -> None:
        super().__init__()
        self.log_input = _check.flag("log_input", log_input)
        self.full = _check.flag("full", full)
        self.eps = _check.real("eps", eps, 0)
        self.reduction = check_reduction(reduction)

    def forward(self, input: Any, target: Any) -> Any:
        return F.poisson_nll_loss(input, target, self.log_input, self.full, self.eps, self.reduction)


class BCELoss(_Elementwise):
    """Binary cross-entropy on probabilities; see functional.binary_cross_entropy.

    Parameters
    ----------
    weight : array, optional
        Factor of each element, broadcast to the input's shape; of the input's dtype.
    reduction : {"mean", "sum", "none"}
    """

    weight: Any

    def __init__(self, weight: Any = None, reduction: str = "mean") -> None:
        super().__init__()
        _register(self, "weight", weight)
        self.reduction = check_reduction(reduction)

    def forward(self, input: Any, target: Any) -> Any:
        return F.binary_cross_entropy(input, target, self.weight, self.reduction)

    def scores(self, output: Any) -> Any:
        """See `Loss.scores`."""
        return np.asarray(output) - 0.5


class SigmoidFocalLoss(_Elementwise):
    """Binary cross-entropy on logits, less of what is right already; see functional.sigmoid_focal_loss."""

    metrics = ("accuracy",)

    def __init__(self, alpha: float = 0.25, gamma: float = 2.0, reduction: str = "mean") -> None:
        super().__init__()
        self.alpha = F.loss.focal_alpha(alpha)
        self.gamma = _check.real("gamma", gamma, 0)
        self.reduction = check_reduction(reduction)

    def forward(self, input: Any, target: Any) -> Any:
        return F.sigmoid_focal_loss(input, target, self.alpha, self.gamma, self.reduction)


class BCEWithLogitsLoss(_Elementwise):
    """Binary cross-entropy on logits; see functional.binary_cross_entropy_with_logits.

    Parameters
    ----------
    weight : array, optional
        Factor of each element, broadcast to the input's shape; of the input's dtype.
    reduction : {"mean", "sum", "none"}
    pos_weight : array, optional
        Weight of positive targets; its sizes are the last ones of the input's shape.
    """

    metrics = ("accuracy",)
    weight: Any
    pos_weight: Any

    def __init__(self, weight: Any = None, reduction: str = "mean", pos_weight: Any = None) -> None:
        super().__init__()
        _register(self, "weight", weight)
        _register(self, "pos_weight", pos_weight)
        self.reduction = check_reduction(reduction)

    def forward(self, input: Any, target: Any) -> Any:
        return F.binary_cross_entropy_with_logits(input, target, self.weight, self.reduction, self.pos_weight)


class CosineEmbeddingLoss(Module):
    """1 - cos, or max(0, cos - margin), of the angle between two vectors; see functional.cosine_embedding_loss.

    A loss of two outputs: ``lambda output, target: loss(output[0], output[1], target)``.
    """

    def __init__(self, margin: float = 0.0, reduction: str = "mean") -> None:
        super().__init__()
        self.margin = _check.real("margin", margin)
        self.reduction = check_reduction(reduction)

    def forward(self, input1: Any, input2: Any, target: Any) -> Any:
        return F.cosine_embedding_loss(input1, input2, target, self.margin, self.reduction)


class GaussianNLLLoss(Module):
    """(log(var) + (input - target) ** 2 / var) / 2; see functional.gaussian_nll_loss.

    A loss of two outputs: ``lambda output, target: loss(output[0], target, output[1])``.
    """

    def __init__(self, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean") -> None:
        super().__init__()
        self.full = _check.flag("full", full)
        self.eps = _check.positive("eps", eps)
        self.reduction = check_reduction(reduction)

    def forward(self, input: Any, target: Any, var: Any) -> Any:
        return F.gaussian_nll_loss(input, target, var, self.full, self.eps, self.reduction)


class MarginRankingLoss(Module):
    """max(0, margin - target * (input1 - input2)); see functional.margin_ranking_loss.

    A loss of two outputs: ``lambda output, target: loss(output[0], output[1], target)``.
    """

    def __init__(self, margin: float = 0.0, reduction: str = "mean") -> None:
        super().__init__()
        self.margin = _check.real("margin", margin)
        self.reduction = check_reduction(reduction)

    def forward(self, input1: Any, input2: Any, target: Any) -> Any:
        return F.margin_ranking_loss(input1, input2, target, self.margin, self.reduction)


class TripletMarginLoss(Module):
    """max(0, margin + |anchor - positive|_p - |anchor - negative|_p); see functional.triplet_margin_loss.

    A loss of three outputs: ``lambda output, target: loss(*output)``.
    """

    def __init__(
        self, margin: float = 1.0, p: float = 2.0, eps: float = 1e-6, swap: bool = False, reduction: str = "mean"
    ) -> None:
        super().__init__()
        self.margin = _check.positive("margin", margin)
        self.p = _check.real("p", p, 1)
        self.eps = _check.real("eps", eps)
        self.swap = _check.flag("swap", swap)
        self.reduction = check_reduction(reduction)

    def forward(self, anchor: Any, positive: Any, negative: Any) -> Any:
        return F.triplet_margin_loss(
            anchor, positive, negative, self.margin, self.p, self.eps, self.swap, self.reduction
        )


def _weighed(counts: Any, sample_weight: Any) -> float:
    """The sum of what each label counts, times its sample's weight."""
    weight = np.asarray(sample_weight, np.float64)
    return float((np.reshape(counts, (*weight.shape, -1)).sum(-1) * weight).sum())


def _register(module: Module, name: str, value: Any, ndim: int | None = None) -> None:
    """A weight as a buffer, as PyTorch keeps it, or None."""
    if value is None:
        module.register_parameter(name, None)
        return
    array = np.asarray(value)
    if not isinstance(value, np.ndarray) and array.dtype.kind in "fiu" and not hasattr(value, "dtype"):
        array = array.astype(np.float32)
    _check.floating(name, array.dtype)
    if ndim is not None and array.ndim != ndim:
        raise ValueError(f"{name} must have shape (C,), got {array.shape}")
    module.register_buffer(name, array)
