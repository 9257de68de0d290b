"""Softmax, and the losses: each computes its value and the gradient for its input in one pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import fastnn_ext.loss as native
from fastnn.graph import Node, Tensor, active_graph, as_tensor, count, describe, is_one, same_shape
from fastnn.ops.base import Op, Signature, check_dtypes, check_float, normalize_dim

if TYPE_CHECKING:
    from fastnn.lowering.builder import Builder

REDUCTIONS = ("none", "mean", "sum")
OF_DIFFERENCE = ("mse", "l1", "smooth_l1", "huber")  # losses of input - target


class Softmax(Op):
    """Over the last dimension. attrs: log."""

    name = "softmax"

    def infer(self, node: Node) -> Signature:
        return [(node.inputs[0].shape, node.inputs[0].dtype)]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        grad = active_graph().add(SOFTMAX_GRAD, [grads[0], node.output], log=node.attrs["log"])  # type: ignore[list-item]
        return [grad.output]

    def lower(self, node: Node, to: Builder) -> None:
        shape = node.output.shape
        dims = [count(shape[:-1]), shape[-1], int(node.attrs["log"])]
        to.emit("softmax", node.outputs, node.inputs, dims, [])

    def flops(self, node: Node) -> int:
        return 5 * count(node.output.shape)


class SoftmaxGrad(Op):
    """dx from dy and y. attrs: log."""

    name = "softmax_grad"

    def infer(self, node: Node) -> Signature:
        return [(node.inputs[0].shape, node.inputs[0].dtype)]

    def lower(self, node: Node, to: Builder) -> None:
        shape = node.output.shape
        dims = [count(shape[:-1]), shape[-1], int(node.attrs["log"])]
        to.emit("softmax_backward", node.outputs, node.inputs, dims, [])

    def flops(self, node: Node) -> int:
        return 4 * count(node.output.shape)


class CrossEntropy(Op):
    """inputs: logits (rows, cols), labels (rows,), weight (cols,) if attrs["weighted"].

    outputs: the rows' losses, already divided by the denominator where the reduction is a mean; the
    gradient of their sum (for "none": of each) for the logits.
    attrs: ignore_index, reduction, smoothing, weighted.
    """

    name = "cross_entropy"

    def infer(self, node: Node) -> Signature:
        logits = node.inputs[0]
        return [(logits.shape[:1], logits.dtype), (logits.shape, logits.dtype)]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        from fastnn.ops.elementwise import mul
        from fastnn.ops.shape import reshape

        dloss = grads[0]
        assert dloss is not None
        if any(needs[1:]):
            raise TypeError("cross_entropy has a gradient for its input alone, not for target or weight")
        if node.attrs["reduction"] == "none":
            dloss = reshape(dloss, (*dloss.shape, 1))
        else:
            dloss = _first(dloss)
        return [mul(node.outputs[1], dloss), *[None] * (len(node.inputs) - 1)]

    def lower(self, node: Node, to: Builder) -> None:
        logits, labels, *weight = node.inputs
        to.emit(
            "cross_entropy",
            outputs=[node.output, to.wanted(node.outputs)[1]],
            inputs=[logits, labels, weight[0] if weight else None],
            dims=[
                logits.shape[0],
                logits.shape[1],
                node.attrs["ignore_index"],
                REDUCTIONS.index(node.attrs["reduction"]),
            ],
            scalars=[node.attrs["smoothing"]],
        )

    def flops(self, node: Node) -> int:
        return 8 * count(node.inputs[0].shape)


class Elementwise(Op):
    """A loss that is a mean or sum over elements: mse, bce_with_logits, ... by attrs["kernel"].

    inputs: input, target, then what the kernel takes beside them (None where absent is not stored;
    attrs["extras"] says which are there). outputs: pieces of the sum (or the elements, for "none"),
    and the gradient for the input. attrs: kernel, reduction, extras, scalars, cols.
    """

    name = "loss"

    def infer(self, node: Node) -> Signature:
        x = node.inputs[0]
        pieces = x.shape if node.attrs["reduction"] == "none" else (native.PIECES,)
        return [(pieces, x.dtype), (x.shape, x.dtype)]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        from fastnn.ops.elementwise import mul, neg

        dloss = grads[0]
        assert dloss is not None
        if any(needs[2 if node.attrs["kernel"] in OF_DIFFERENCE else 1 :]):
            raise TypeError(f"{node.attrs['kernel']} has a gradient for its input alone, not for target or weights")
        if node.attrs["reduction"] != "none":
            dloss = _first(dloss)
        dx = mul(node.outputs[1], dloss)
        return [dx, neg(dx) if needs[1] else None, *[None] * (len(node.inputs) - 2)]

    def lower(self, node: Node, to: Builder) -> None:
        rest = list(node.inputs[2:])
        extras = [rest.pop(0) if there else None for there in node.attrs["extras"]]
        to.emit(
            node.attrs["kernel"],
            outputs=[node.output, to.wanted(node.outputs)[1]],
            inputs=[*node.inputs[:2], *extras],
            dims=[
                count(node.inputs[0].shape),
                REDUCTIONS.index(node.attrs["reduction"]),
                *node.attrs["cols"],
            ],
            scalars=node.attrs["scalars"],
        )

    def flops(self, node: Node) -> int:
        return 4 * count(node.inputs[0].shape)


SOFTMAX = Softmax()
SOFTMAX_GRAD = SoftmaxGrad()
CROSS_ENTROPY = CrossEntropy()
ELEMENTWISE = Elementwise()


def _first(dloss: Tensor) -> Tensor:
    """The gradient for a sum, from the gradient for its addends: they are all the same."""
    from fastnn.ops.shape import BROADCAST, RESHAPE, getitem, reshape

    node = dloss.node
    while node.op in (BROADCAST, RESHAPE):
        if node.inputs[0].ndim == 0:
            return node.inputs[0]
        node = node.inputs[0].node
    return reshape(getitem(dloss, 0), ())


def softmax(x: Any, dim: int, log: bool = False) -> Tensor:
    """exp(x) / sum(exp(x)) along a dimension, or its logarithm."""
    from fastnn.ops.shape import swap

    x = as_tensor(x)
    name = "log_softmax" if log else "softmax"
    check_float(name, x)
    d = normalize_dim(dim, x.ndim, name)
    if d != x.ndim - 1:
        return swap(softmax(swap(x, d, -1), -1, log), d, -1)
    return active_graph().add(SOFTMAX, [x], log=log).output


def check_reduction(reduction: str) -> str:
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}; got {reduction!r}")
    return reduction


def _have_checked(labels: Tensor, classes: int, ignore_index: int) -> None:
    """Tell the plan to look at the labels before it runs: the native op trusts them."""
    node = labels.node
    while node.op.view_of is not None:
        node = node.inputs[node.op.view_of].node
    if "limit" not in node.attrs:
        raise TypeError(
            "cross_entropy: target must be an argument of the traced function, whose labels are checked before it "
            f"runs, not the result of {node.op.name}"
        )
    before = node.attrs["limit"], node.attrs["ignore"]
    if before[0] and before != (classes, ignore_index):
        raise ValueError(
            f"cross_entropy: one target serves losses over {before[0]} and {classes} classes (ignore_index "
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
    from fastnn.ops.reduce import reduce
    from fastnn.ops.shape import permute, reshape

    check_reduction(reduction)
    logits = as_tensor(logits)
    labels = as_tensor(labels)
    check_float("cross_entropy", logits)
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"cross_entropy: label_smoothing must lie in 0 ... 1, got {label_smoothing}")
    if labels.dtype.kind not in "iu":
        raise TypeError(
            f"cross_entropy: target must hold class indices as int64, got {labels.dtype}; convert them with "
            ".astype(np.int64), and rows of probabilities or one-hot rows with .argmax(1)"
        )
    if logits.ndim < 1 or not same_shape(labels.shape, (*logits.shape[:-1][:1], *logits.shape[2:])):
        raise ValueError(
            f"cross_entropy: input has shape {describe(logits.shape)}, target {describe(labels.shape)}; "
            f"expected (N, C) and (N,), or (N, C, d1, ...) and (N, d1, ...){_reshaped(logits, labels)}"
        )
    result = labels.shape
    _have_checked(labels, int(logits.shape[min(1, logits.ndim - 1)]), int(ignore_index))
    if logits.ndim == 1:
        logits, labels = reshape(logits, (1, logits.shape[0])), reshape(labels, (1,))
    elif logits.ndim > 2:
        logits = permute(logits, (0, *range(2, logits.ndim), 1))
        logits = reshape(logits, (count(logits.shape[:-1]), logits.shape[-1]))
        labels = reshape(labels, (count(labels.shape),))
    inputs = [logits, labels]
    if weight is not None:
        weight = as_tensor(weight, like=logits)
        check_dtypes("cross_entropy", logits, weight, ("the input", "the weight"))
        if not same_shape(weight.shape, logits.shape[1:]):
            raise ValueError(
                f"cross_entropy: weight has shape {describe(weight.shape)}; expected ({logits.shape[1]},)"
            )
        inputs.append(weight)
    losses = active_graph().add(
        CROSS_ENTROPY,
        inputs,
        ignore_index=int(ignore_index),
        reduction=reduction,
        smoothing=float(label_smoothing),
        weighted=weight is not None,
    ).output
    return reshape(losses, result) if reduction == "none" else reduce(losses, "sum")


def _reshaped(logits: Tensor, labels: Tensor) -> str:
    """How to make usual other forms of labels those wanted."""
    if logits.ndim > 1 and same_shape(logits.shape, labels.shape):
        return "; one-hot rows become classes by target.argmax(1)"
    if labels.ndim == logits.ndim and is_one(labels.shape[1]):
        return "; take the column out of the target, as target[:, 0]"
    return ""


def elementwise(
    kernel: str,
    x: Any,
    target: Any,
    reduction: str,
    extras: tuple[Any, ...] = (),
    scalars: tuple[float, ...] = (),
    cols: tuple[int, ...] = (),
) -> Tensor:
    """A loss over pairs of elements of input and target, which have one shape."""
    from fastnn.ops.reduce import reduce

    check_reduction(reduction)
    x = as_tensor(x)
    target = as_tensor(target, like=x)
    check_float(kernel, x)
    check_dtypes(kernel, x, target, ("the input", "the target"))
    if not same_shape(x.shape, target.shape):
        alike = same_shape(*([size for size in t.shape if not is_one(size)] for t in (x, target)))
        mend = ": give the target the input's shape, as with target[:, None] or target[:, 0]" if alike else ""
        raise ValueError(
            f"{kernel}: input has shape {describe(x.shape)}, target {describe(target.shape)}; they must agree{mend}"
        )
    present = [as_tensor(e, like=x) for e in extras if e is not None]
    node = active_graph().add(
        ELEMENTWISE,
        [x, target, *present],
        kernel=kernel,
        reduction=reduction,
        extras=[e is not None for e in extras],
        scalars=list(scalars),
        cols=list(cols),
    )
    return node.output if reduction == "none" else reduce(node.output, "sum")


def bce_with_logits(x: Any, target: Any, weight: Any, pos_weight: Any, reduction: str) -> Tensor:
    """See fastnn.nn.functional.binary_cross_entropy_with_logits."""
    from fastnn.ops.shape import broadcast_to

    x = as_tensor(x)
    if weight is not None:
        weight = as_tensor(weight, like=x)
        check_dtypes("bce_with_logits", x, weight, ("the input", "the weight"))
        try:
            weight = broadcast_to(weight, x.shape)
        except ValueError:
            raise ValueError(
                f"bce_with_logits: weight has shape {describe(weight.shape)}, which does not broadcast to "
                f"the input's {describe(x.shape)}"
            ) from None
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
    return elementwise("bce_with_logits", x, target, reduction, (weight, pos_weight), cols=(cols,))
