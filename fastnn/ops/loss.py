"""Softmax, and the losses: each computes its value and the gradient for its input in one pass."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.graph import Arguments, Emitter, Node, Op, OutputTypes, Tensor, active_graph, as_tensor
from fastnn.ops.arguments import check_dtypes, check_float, normalize_dim
from fastnn.ops.elementwise import cast, compare, logical_not
from fastnn.ops.layout import BROADCAST, RESHAPE, broadcast_to
from fastnn.ops.reduce import DIVIDE
from fastnn.sizes import count, describe, is_one, same_shape
from fastnn_ext.loss import PIECES, REDUCTIONS

OF_DIFFERENCE = ("mse", "l1", "smooth_l1", "huber")  # losses of input - target


class Softmax(Op):
    """Over the last dimension. attrs: log."""

    name = "softmax"

    def infer(self, node: Node) -> OutputTypes:
        return [(node.inputs[0].shape, node.inputs[0].dtype)]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        grad = active_graph().add(SOFTMAX_GRAD, [grads[0], node.output], log=node.attrs["log"])  # type: ignore[list-item]
        return [grad.output]

    def lower(self, node: Node, to: Emitter) -> None:
        sizes, flops = _softmax_sizes(node), 5 * count(node.output.shape)
        to.emit("softmax", y=node.output, x=node.inputs[0], **sizes, flops=flops)


class SoftmaxGrad(Op):
    """dx from dy and y. attrs: log."""

    name = "softmax_grad"

    def infer(self, node: Node) -> OutputTypes:
        return [(node.inputs[0].shape, node.inputs[0].dtype)]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        (dy, y), u = node.inputs, grads[0]
        assert u is not None
        if node.attrs["log"]:  # dx = dy - exp(y) * total
            p, total = y.exp(), dy.sum(-1, keepdim=True)
            return [u - (u * p).sum(-1, keepdim=True), -(u * p * total)]
        again = active_graph().add(SOFTMAX_GRAD, [u, y], log=False).output  # dx = y (dy - sum of dy y)
        mean, other = (dy * y).sum(-1, keepdim=True), (u * y).sum(-1, keepdim=True)
        return [again, u * (dy - mean) - dy * other]

    def lower(self, node: Node, to: Emitter) -> None:
        (dy, y), flops = node.inputs, 4 * count(node.output.shape)
        to.emit("softmax_backward", dx=node.output, dy=dy, y=y, **_softmax_sizes(node), flops=flops)


def _softmax_sizes(node: Node) -> Arguments:
    shape = node.output.shape
    return dict(rows=count(shape[:-1]), cols=shape[-1], log=int(node.attrs["log"]))


class CrossEntropy(Op):
    """inputs: logits (rows, cols), labels (rows,), weight (cols,) if attrs["weighted"].

    outputs: the rows' losses, already divided by the denominator where the reduction is a mean; the
    gradient of their sum (for "none": of each) for the logits.
    attrs: ignore_index, reduction, smoothing, weighted.
    """

    name = "cross_entropy"

    def infer(self, node: Node) -> OutputTypes:
        logits = node.inputs[0]
        return [(logits.shape[:1], logits.dtype), (logits.shape, logits.dtype)]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        dloss = grads[0]
        if any(needs[1:]):
            raise TypeError(f"{self.name} has a gradient for its input alone, not for target or weight")
        rest: list[Tensor | None] = [None] * (len(node.inputs) - 1)
        second = None if grads[1] is None else self._second(node, grads[1])
        if dloss is None:
            return [second, *rest]
        if node.attrs["reduction"] == "none":
            dloss = dloss.unsqueeze(-1)
        else:
            dloss = _first(dloss)
        first = node.outputs[1] * dloss
        return [first if second is None else first + second, *rest]

    @staticmethod
    def _second(node: Node, u: Tensor) -> Tensor | None:
        """The gradient of the gradient, softmax - target, for each row that counts, over their number in a mean."""
        if node.attrs["weighted"]:
            raise TypeError("cross_entropy with class weights has no gradient of its gradient")
        logits, labels = node.inputs
        p = softmax(logits, -1)
        counts = logical_not(compare(labels, node.attrs["ignore_index"], "equal"))
        counts = cast(counts, logits.dtype)
        if node.attrs["reduction"] == "mean":
            counts = counts / counts.sum()
        return p * (u - (p * u).sum(-1, keepdim=True)) * counts.unsqueeze(-1)

    def lower(self, node: Node, to: Emitter) -> None:
        logits, labels, *weight = node.inputs
        to.emit(
            "cross_entropy",
            row_loss=node.output,
            dlogits=to.wanted(node.outputs)[1],
            logits=logits,
            labels=labels,
            weight=weight[0] if weight else None,
            rows=logits.shape[0],
            cols=logits.shape[1],
            ignore_index=node.attrs["ignore_index"],
            reduction=REDUCTIONS.index(node.attrs["reduction"]),
            smoothing=node.attrs["smoothing"],
            flops=8 * count(logits.shape),
        )


class NegativeLogLikelihood(CrossEntropy):
    """As CrossEntropy, of log-probabilities in place of logits, and without smoothing."""

    name = "nll_loss"

    @staticmethod
    def _second(node: Node, u: Tensor) -> Tensor | None:
        """None: the gradient does not change with the input."""
        return None

    def lower(self, node: Node, to: Emitter) -> None:
        logs, labels, *weight = node.inputs
        to.emit(
            "nll",
            row_loss=node.output,
            dlogits=to.wanted(node.outputs)[1],
            logits=logs,
            labels=labels,
            weight=weight[0] if weight else None,
            rows=logs.shape[0],
            cols=logs.shape[1],
            ignore_index=node.attrs["ignore_index"],
            reduction=REDUCTIONS.index(node.attrs["reduction"]),
            flops=count(labels.shape),
        )


class Elementwise(Op):
    """A loss that is a mean or sum over elements: mse, bce_with_logits, ... by attrs["kernel"].

    inputs: input, target, then those that attrs["extras"] names, as the kernel does. outputs: pieces of the
    sum (or the elements, for "none"), and the gradient for the input. attrs: kernel, reduction, extras,
    settings (what else the kernel takes, by name).
    """

    name = "loss"

    def infer(self, node: Node) -> OutputTypes:
        x = node.inputs[0]
        pieces = x.shape if node.attrs["reduction"] == "none" else (PIECES,)
        return [(pieces, x.dtype), (x.shape, x.dtype)]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        dloss, u = grads
        second = None
        if u is not None:
            if node.attrs["kernel"] != "mse":
                raise TypeError(f"{node.attrs['kernel']} has no gradient of its gradient; written as arithmetic it has")
            second = u * 2.0
            if node.attrs["reduction"] == "mean":
                second = active_graph().add(DIVIDE, [second], length=count(u.shape)).output
        if dloss is None:
            assert second is not None
            return [second, -second if needs[1] else None, *[None] * (len(node.inputs) - 2)]
        if any(needs[2 if node.attrs["kernel"] in OF_DIFFERENCE else 1 :]):
            raise TypeError(f"{node.attrs['kernel']} has a gradient for its input alone, not for target or weights")
        if node.attrs["reduction"] != "none":
            dloss = _first(dloss)
        dx = node.outputs[1] * dloss
        dx = dx if second is None else dx + second
        return [dx, -dx if needs[1] else None, *[None] * (len(node.inputs) - 2)]

    def lower(self, node: Node, to: Emitter) -> None:
        x, target, *extras = node.inputs
        to.emit(
            node.attrs["kernel"],
            loss=node.output,
            dinput=to.wanted(node.outputs)[1],
            input=x,
            target=target,
            n=count(x.shape),
            reduction=REDUCTIONS.index(node.attrs["reduction"]),
            flops=4 * count(x.shape),
            **dict(zip(node.attrs["extras"], extras, strict=True)),
            **node.attrs["settings"],
        )


SOFTMAX = Softmax()
SOFTMAX_GRAD = SoftmaxGrad()
CROSS_ENTROPY = CrossEntropy()
NLL = NegativeLogLikelihood()
ELEMENTWISE = Elementwise()


def _first(dloss: Tensor) -> Tensor:
    """The gradient for a sum, from the gradient for its addends: they are all the same."""
    node = dloss.node
    while node.op in (BROADCAST, RESHAPE):
        if node.inputs[0].ndim == 0:
            return node.inputs[0]
        node = node.inputs[0].node
    return dloss[0].reshape(())


def softmax(x: Any, dim: int, log: bool = False) -> Tensor:
    """exp(x) / sum(exp(x)) along a dimension, or its logarithm."""
    x = as_tensor(x)
    name = "log_softmax" if log else "softmax"
    check_float(name, x)
    d = normalize_dim(dim, x.ndim, name)
    if d != x.ndim - 1:
        return softmax(x.transpose(d, -1), -1, log).transpose(d, -1)
    return active_graph().add(SOFTMAX, [x], log=log).output


def check_reduction(reduction: str) -> str:
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}; got {reduction!r}")
    return reduction


def reduced(values: Tensor, reduction: str) -> Tensor:
    """Values of elements, their mean or their sum."""
    check_reduction(reduction)
    return values if reduction == "none" else values.mean() if reduction == "mean" else values.sum()


def _have_checked(what: str, labels: Tensor, classes: int, ignore_index: int) -> None:
    """Tell the plan to look at the labels before it runs: the native op trusts them."""
    node = labels.node
    while node.op.view_of is not None:
        node = node.inputs[node.op.view_of].node
    if "limit" not in node.attrs:
        raise TypeError(
            f"{what}: target must be an argument of the traced function, whose labels are checked before it "
            f"runs, not the result of {node.op.name}"
        )
    before = node.attrs["limit"], node.attrs["ignore"]
    if before[0] and before != (classes, ignore_index):
        raise ValueError(
            f"{what}: one target serves losses over {before[0]} and {classes} classes (ignore_index "
            f"{before[1]} and {ignore_index}); pass a target for each"
        )
    node.attrs["limit"], node.attrs["ignore"] = classes, ignore_index


def cross_entropy(
    logits: Any,
    labels: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """See fastnn.nn.functional.cross_entropy."""
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"cross_entropy: label_smoothing must lie in 0 ... 1, got {label_smoothing}")
    logits, labels = as_tensor(logits), _target("cross_entropy", labels)
    if logits.dtype.kind == labels.dtype.kind == "f" and same_shape(logits.shape, labels.shape):
        return _soft_cross_entropy(logits, labels, weight, ignore_index, reduction, float(label_smoothing))
    return _of_classes(CROSS_ENTROPY, logits, labels, weight, ignore_index, reduction, smoothing=float(label_smoothing))


def nll_loss(logs: Any, labels: Any, weight: Any, ignore_index: int, reduction: str) -> Tensor:
    """See fastnn.nn.functional.nll_loss."""
    return _of_classes(NLL, as_tensor(logs), _target("nll_loss", labels), weight, ignore_index, reduction)


def _target(what: str, target: Any) -> Tensor:
    if isinstance(target, np.ndarray) and target.dtype.kind in "iu":
        raise TypeError(
            f"{what}: target must be an argument of the traced function, whose labels are checked before it runs, not "
            "an array that the function holds"
        )
    return as_tensor(target)


def _of_classes(
    op: Op, logits: Tensor, labels: Tensor, weight: Any, ignore_index: int, reduction: str, **settings: float
) -> Tensor:
    check_reduction(reduction)
    check_float(op.name, logits)
    if labels.dtype.kind not in "iu":
        raise TypeError(
            f"{op.name}: target must hold class indices as int64, got {labels.dtype}; convert them with "
            ".astype(np.int64), and rows of probabilities or one-hot rows with .argmax(1)"
        )
    if logits.ndim < 1 or not same_shape(labels.shape, (*logits.shape[:-1][:1], *logits.shape[2:])):
        raise ValueError(
            f"{op.name}: input has shape {describe(logits.shape)}, target {describe(labels.shape)}; "
            f"expected (N, C) and (N,), or (N, C, d1, ...) and (N, d1, ...){_reshaped(logits, labels)}"
        )
    result = labels.shape
    _have_checked(op.name, labels, int(logits.shape[min(1, logits.ndim - 1)]), int(ignore_index))
    if logits.ndim == 1:
        logits, labels = logits.unsqueeze(0), labels.unsqueeze(0)
    elif logits.ndim > 2:
        logits = logits.permute(0, *range(2, logits.ndim), 1).flatten(0, -2)
        labels = labels.flatten()
    inputs = [logits, labels]
    if weight is not None:
        inputs.append(class_weight(op.name, logits, weight, 1))
    attrs = dict(ignore_index=int(ignore_index), reduction=reduction, weighted=weight is not None, **settings)
    losses: Tensor = active_graph().add(op, inputs, **attrs).output
    return losses.reshape(result) if reduction == "none" else losses.sum()


def class_weight(what: str, logits: Tensor, weight: Any, dim: int) -> Tensor:
    tensor = as_tensor(weight, like=logits)
    check_dtypes(what, logits, tensor, ("the input", "the weight"))
    if not same_shape(tensor.shape, logits.shape[dim : dim + 1]):
        raise ValueError(f"{what}: weight has shape {describe(tensor.shape)}; expected ({logits.shape[dim]},)")
    return tensor


def _soft_cross_entropy(
    logits: Tensor, target: Tensor, weight: Any, ignore_index: int, reduction: str, smoothing: float
) -> Tensor:
    """For a target of probabilities, of the logits' shape."""
    check_dtypes("cross_entropy", logits, target, ("the input", "the target"))
    if logits.ndim < 1:
        raise ValueError("cross_entropy: input has shape (); expected (N, C) or (C,)")
    if ignore_index >= 0:
        raise ValueError(
            f"cross_entropy: ignore_index={ignore_index} names a class, and the target holds probabilities; leave it "
            "out"
        )
    dim = min(1, logits.ndim - 1)
    share = target * (1.0 - smoothing) + smoothing / logits.shape[dim] if smoothing else target
    if weight is not None:
        weight = class_weight("cross_entropy", logits, weight, dim)
        share = share * weight.reshape(-1, *[1] * (logits.ndim - 1 - dim))
    return reduced(-(share * softmax(logits, dim, log=True)).sum(dim), reduction)


def _reshaped(logits: Tensor, labels: Tensor) -> str:
    """How to make usual other forms of labels those wanted."""
    if logits.ndim > 1 and same_shape(logits.shape, labels.shape):
        return "; one-hot rows become classes by target.argmax(1)"
    if labels.ndim == logits.ndim and is_one(labels.shape[1]):
        return "; take the column out of the target, as target[:, 0]"
    return ""


def alike(what: str, x: Any, target: Any, names: tuple[str, str] = ("input", "target")) -> tuple[Tensor, Tensor]:
    """Input and target as tensors; ValueError or TypeError if they have not one shape and one floating dtype."""
    x = as_tensor(x)
    target = as_tensor(target, like=x)
    check_float(what, x, names[0])
    check_dtypes(what, x, target, (f"the {names[0]}", f"the {names[1]}"))
    if not same_shape(x.shape, target.shape):
        but_for_ones = same_shape(*([size for size in t.shape if not is_one(size)] for t in (x, target)))
        first, other = names
        mend = (
            f": give the {other} the {first}'s shape, as with {other}[:, None] or {other}[:, 0]" if but_for_ones else ""
        )
        raise ValueError(
            f"{what}: {first} has shape {describe(x.shape)}, {other} {describe(target.shape)}; they must agree{mend}"
        )
    return x, target


def elementwise(
    kernel: str,
    x: Any,
    target: Any,
    reduction: str,
    extras: dict[str, Any] | None = None,
    **settings: float,
) -> Tensor:
    """A loss over pairs of elements of input and target, which have one shape.

    `extras` are operands and `settings` numbers that the kernel takes by these names.
    """
    check_reduction(reduction)
    x, target = alike(kernel, x, target)
    present = {name: as_tensor(e, like=x) for name, e in (extras or {}).items() if e is not None}
    node = active_graph().add(
        ELEMENTWISE,
        [x, target, *present.values()],
        kernel=kernel,
        reduction=reduction,
        extras=tuple(present),
        settings=settings,
    )
    return node.output if reduction == "none" else node.output.sum()


def element_weight(what: str, x: Tensor, weight: Any) -> Tensor:
    """A weight of elements, broadcast to the input's shape."""
    weight = as_tensor(weight, like=x)
    check_dtypes(what, x, weight, ("the input", "the weight"))
    try:
        return broadcast_to(weight, x.shape)
    except ValueError:
        raise ValueError(
            f"{what}: weight has shape {describe(weight.shape)}, which does not broadcast to "
            f"the input's {describe(x.shape)}"
        ) from None


def bce_with_logits(x: Any, target: Any, weight: Any, pos_weight: Any, reduction: str) -> Tensor:
    """See fastnn.nn.functional.binary_cross_entropy_with_logits."""
    x = as_tensor(x)
    if weight is not None:
        weight = element_weight("bce_with_logits", x, weight)
    cols: int = 1
    if pos_weight is not None:
        pos_weight = as_tensor(pos_weight, like=x)
        check_dtypes("bce_with_logits", x, pos_weight, ("the input", "the pos_weight"))
        cols = count(pos_weight.shape)
        if pos_weight.ndim > x.ndim or not same_shape(pos_weight.shape, x.shape[x.ndim - pos_weight.ndim :]):
            raise ValueError(
                f"bce_with_logits: pos_weight has shape {describe(pos_weight.shape)}; expected the last "
                f"sizes of the input's {describe(x.shape)}"
            )
    return elementwise("bce_with_logits", x, target, reduction, {"weight": weight, "pos_weight": pos_weight}, cols=cols)
