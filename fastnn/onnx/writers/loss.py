"""Losses, which are written as a whole: what the graph has as parts of a sum is there as the sum."""

from __future__ import annotations

import math

from fastnn.graph import Node, Tensor
from fastnn.onnx.writer import INT64, Value, Writer, fixed, writes
from fastnn.onnx.writers.elementwise import affine, clipped, compared
from fastnn.onnx.writers.reduce import reduced
from fastnn.sizes import is_one


def _put(w: Writer, y: Tensor, values: str, like: Value, reduction: str) -> None:
    """The losses of elements, or their mean or sum in place of its parts."""
    if reduction == "none":
        w.put(y, values, like)
        return
    kind = "ReduceMean" if reduction == "mean" else "ReduceSum"
    _put_total(w, y, reduced(w, kind, values, list(range(len(like.shape))), False))


def _put_total(w: Writer, y: Tensor, total: str) -> None:
    if is_one(y.shape[0]):
        w.put(y, w.reshape(total, (), (1,)))
    else:
        w.totals[y] = total


@writes("loss")
def elementwise(w: Writer, node: Node) -> None:
    x, target, *extras = node.inputs
    names, like = w.together(x, (x, target, *extras))
    more = dict(zip(node.attrs["extras"], names[2:], strict=True))
    values = _Losses(w, node, names[0], names[1], more).write(node.attrs["kernel"])
    _put(w, node.output, values, like, node.attrs["reduction"])


class _Losses:
    """The losses of elements `x` and `t`."""

    def __init__(self, w: Writer, node: Node, x: str, t: str, more: dict[str, str]) -> None:
        self.w, self.x, self.t, self.more = w, x, t, more
        self.settings = node.attrs["settings"]
        self.dtype = node.output.dtype

    def write(self, kernel: str) -> str:
        values: str = getattr(self, f"_{kernel}")()
        return values

    def _affine(self, x: str, a: float, b: float = 0.0) -> str:
        return affine(self.w, x, a, b, self.dtype)

    def _product(self, x: str, y: str) -> str:
        return self.w.node("Mul", x, y)

    def _difference(self) -> str:
        return self.w.node("Sub", self.x, self.t)

    def _mse(self) -> str:
        d = self._difference()
        return self._product(d, d)

    def _l1(self) -> str:
        return self.w.node("Abs", self._difference())

    def _smooth_l1(self) -> str:
        beta = self.settings["beta"]
        return self._bent(beta, 1 / beta, 1.0)

    def _huber(self) -> str:
        delta = self.settings["delta"]
        return self._affine(self._mse(), 0.5) if delta == math.inf else self._bent(delta, 1.0, delta)

    def _bent(self, bound: float, curve: float, slope: float) -> str:
        """curve / 2 * d^2 within the bound, and a line beyond it."""
        w, d = self.w, self._difference()
        size = w.node("Abs", d)
        inner = self._affine(self._product(d, d), curve / 2)
        outer = self._affine(size, slope, -slope * bound / 2)
        return w.node("Where", compared(w, "less", size, w.constant(bound, self.dtype)), inner, outer)

    def _bce(self) -> str:
        """-(t log x + (1 - t) log(1 - x)), with logarithms of at least -100."""
        w = self.w
        first, second = (
            clipped(w, w.node("Log", p), -100.0, math.inf, self.dtype)
            for p in (self.x, self._affine(self.x, -1.0, 1.0))
        )
        share = self._affine(self.t, -1.0, 1.0)
        total = w.node("Add", self._product(self.t, first), self._product(share, second))
        return w.node("Neg", total)

    def _soft_margin(self) -> str:
        return self.w.node("Softplus", self.w.node("Neg", self._product(self.t, self.x)))

    def _bce_with_logits(self) -> str:
        """(1 - t) x + (1 + (pos_weight - 1) t) log(1 + e^-x), times the weight."""
        w = self.w
        low = w.node("Softplus", w.node("Neg", self.x))
        if "pos_weight" in self.more:
            factor = self._product(self._affine(self.more["pos_weight"], 1.0, -1.0), self.t)
            low = self._product(self._affine(factor, 1.0, 1.0), low)
        values = w.node("Add", self._product(self._affine(self.t, -1.0, 1.0), self.x), low)
        return self._product(values, self.more["weight"]) if "weight" in self.more else values


@writes("cross_entropy", "nll_loss")
def of_classes(w: Writer, node: Node) -> None:
    """Of rows of classes."""
    logits, labels, *weight = node.inputs
    y, attrs = node.output, node.attrs
    smoothing, of_logits = attrs.get("smoothing", 0.0), node.op.name == "cross_entropy"
    names = [w.name(t) for t in (logits, labels, *weight)]
    if w.opset >= 12 and not smoothing:
        kind = "SoftmaxCrossEntropyLoss" if of_logits else "NegativeLogLikelihoodLoss"
        values = w.node(kind, *names, ignore_index=attrs["ignore_index"], reduction=attrs["reduction"])
    else:
        logs = w.node("LogSoftmax", names[0], axis=1) if of_logits else names[0]
        values = _by_steps(w, node, logs, names[1], names[2] if weight else None, smoothing)
    if attrs["reduction"] == "none":
        w.put(y, values)
    else:
        _put_total(w, y, values)


def _by_steps(w: Writer, node: Node, logs: str, labels: str, weight: str | None, smoothing: float) -> str:
    dtype, classes, reduction = node.output.dtype, fixed(node.inputs[0].shape[1]), node.attrs["reduction"]
    zero = w.constant(0, dtype)
    ignored = w.node("Equal", labels, w.constant(node.attrs["ignore_index"], INT64))
    chosen = w.node("Where", ignored, w.constant(0, INT64), labels)
    hot = w.node("OneHot", chosen, w.constant(classes, INT64), w.constant([0, 1], dtype), axis=-1)

    def over_classes(values: str) -> str:
        return reduced(w, "ReduceSum", values, [1], False)

    logs = logs if weight is None else w.node("Mul", logs, weight)
    picked = over_classes(w.node("Where", w.cast(hot, "bool"), logs, zero))
    if smoothing:
        spread = affine(w, over_classes(logs), smoothing / classes, 0.0, dtype)
        picked = w.node("Add", affine(w, picked, 1.0 - smoothing, 0.0, dtype), spread)
    losses = w.node("Where", ignored, zero, w.node("Neg", picked))
    if reduction == "none":
        return losses
    total = reduced(w, "ReduceSum", losses, [0], False)
    if reduction == "sum":
        return total
    counts = w.constant(1, dtype) if weight is None else over_classes(w.node("Mul", hot, weight))
    return w.node("Div", total, reduced(w, "ReduceSum", w.node("Where", ignored, zero, counts), [0], False))
