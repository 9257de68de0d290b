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
    """Cross-entropy of int64 classes under the softmax of logits; see functional.cross_entropy.

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
        if sample_weight is not None:
            counted = labels != self.ignore_index
            weights = counted if self.weight is None else self.weight.data[np.where(counted, labels, 0)] * counted
            return _weighed(weights, sample_weight)
        if self.weight is None:
            return int(np.count_nonzero(labels != self.ignore_index))
        return float(self.weight.data[labels[labels != self.ignore_index]].sum(dtype=np.float64))


class _Elementwise(Loss):
    """Base of the losses that are means or sums over elements."""

    def denominator(self, target: Any, sample_weight: Any = None) -> float | None:
        """The number of elements: see `Loss.denominator`."""
        if self.reduction == "sum":
            return None
        return np.size(target) if sample_weight is None else _weighed(np.ones(np.shape(target)), sample_weight)


class MSELoss(_Elementwise):
    """(input - target) ** 2, reduced by "mean", "sum" or "none"."""

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = check_reduction(reduction)

    def forward(self, input: Any, target: Any) -> Any:
        return F.mse_loss(input, target, self.reduction)


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
