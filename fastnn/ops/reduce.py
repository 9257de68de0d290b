"""Sums, means, maxima, minima, products and variances over dimensions, in an order fixed by the shape; running sums."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import fastnn_ext.reduce as native
from fastnn import _check
from fastnn.graph import Arguments, Emitter, Node, Op, OutputTypes, Temporary, Tensor, active_graph, as_tensor
from fastnn.ops.arguments import check_float, normalize_dim
from fastnn.ops.elementwise import binary, equal, less, where
from fastnn.ops.layout import broadcast_to, reshape
from fastnn.sizes import Dim, count, is_one

#: From this many elements an output on, a reduction to fewer outputs than PIECES is cut into pieces, lest only some
#: threads have work.
LONG = 8192


class Reduce(Op):
    """attrs: kind, axis, length: x (outer, length, inner), reduced over its middle.

    The axes reduced over are neighbours, so that x is such a view.
    """

    name = "reduce"

    def infer(self, node: Node) -> OutputTypes:
        x, first, last = node.inputs[0], node.attrs["first"], node.attrs["last"]
        return [((*x.shape[:first], *x.shape[last + 1 :]), x.dtype)]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        (dy,), x, y = grads, node.inputs[0], node.output
        assert dy is not None
        first, last = node.attrs["first"], node.attrs["last"]
        kept = (*x.shape[:first], *[1] * (last + 1 - first), *x.shape[last + 1 :])
        if node.attrs["kind"] == "mean":
            length = count(x.shape[first : last + 1])
            if isinstance(length, Dim):
                dy = active_graph().add(DIVIDE, [dy], length=length).output
            else:
                dy = dy * (1.0 / length)
        grad = broadcast_to(dy.reshape(kept), x.shape)
        match node.attrs["kind"]:
            case "sum" | "mean":
                return [grad]
            case "prod":
                return [grad * self._others(x, tuple(range(first, last + 1)))]
            case _:
                # Shared equally among ties, as PyTorch's amax and amin.
                hits = binary(x, y.reshape(kept), "equal")
                ties = hits.sum(tuple(range(first, last + 1)), keepdim=True)
                return [grad * (hits / ties)]

    @staticmethod
    def _others(x: Tensor, axes: tuple[int, ...]) -> Tensor:
        """For each element the product of the others: of several zeros it is 0 everywhere, of one at all but it."""
        zero = equal(x, 0.0)
        zeros = zero.sum(axes, keepdim=True)
        rest = reduce(where(zero, 1.0, x), "prod", axes, keepdim=True)
        alone = where(zero, less(zeros, 1.5), equal(zeros, 0.0))
        return where(alone, rest / where(zero, 1.0, x), 0.0)

    def lower(self, node: Node, to: Emitter) -> None:
        x, y, kind = node.inputs[0], node.output, native.REDUCE.index(node.attrs["kind"])
        source: Tensor | Temporary = x
        first, last = node.attrs["first"], node.attrs["last"]
        outer, length = count(x.shape[:first]), count(x.shape[first : last + 1])
        inner = count(x.shape[last + 1 :])
        sizes: Arguments = dict(outer=outer, inner=inner)
        if int(length) >= LONG and int(outer) * int(inner) < native.PIECES:
            partial = to.temporary((outer, native.PIECES, inner), x.dtype)
            flops = count(x.shape)
            to.emit("reduce", y=partial, x=x, kind=kind, **sizes, length=length, pieces=native.PIECES, flops=flops)
            combine = "sum" if node.attrs["kind"] == "mean" else node.attrs["kind"]
            kind, length, source = native.REDUCE.index(combine), native.PIECES, partial
        to.emit("reduce", y=y, x=source, kind=kind, **sizes, length=length, pieces=1, flops=count(source.shape))


class DivideBySize(Op):
    """x / length, where length may follow the batch. attrs: length."""

    name = "divide_by_size"
    sized = ("length",)

    def infer(self, node: Node) -> OutputTypes:
        return [(node.inputs[0].shape, node.inputs[0].dtype)]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        return [active_graph().add(DIVIDE, [grads[0]], length=node.attrs["length"]).output]  # type: ignore[list-item]

    def lower(self, node: Node, to: Emitter) -> None:
        n = count(node.output.shape)
        to.emit("divide_by_size", y=node.output, x=node.inputs[0], n=n, size=node.attrs["length"], flops=n)


class CumSum(Op):
    """attrs: dim, reverse."""

    name = "cumsum"

    def infer(self, node: Node) -> OutputTypes:
        return [(node.inputs[0].shape, node.inputs[0].dtype)]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        assert grads[0] is not None
        dim, reverse = node.attrs["dim"], not node.attrs["reverse"]
        return [active_graph().add(CUMSUM, [grads[0]], dim=dim, reverse=reverse).output]

    def lower(self, node: Node, to: Emitter) -> None:
        x, d = node.inputs[0], node.attrs["dim"]
        sizes: Arguments = dict(outer=count(x.shape[:d]), length=x.shape[d], inner=count(x.shape[d + 1 :]))
        to.emit("cumsum", y=node.output, x=x, **sizes, reverse=int(node.attrs["reverse"]), flops=count(x.shape))


class Variance(Op):
    """inputs: the variance, x, and x - mean. attrs: shape, of the variance with the sizes of 1; length: what the
    squares were divided by.

    The gradient is PyTorch's, which does not go through the mean: the differences sum up to 0.
    """

    name = "variance"
    sized = ("shape", "length")
    view_of = 0

    def infer(self, node: Node) -> OutputTypes:
        return [(node.inputs[0].shape, node.inputs[0].dtype)]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        assert grads[0] is not None
        scaled = active_graph().add(DIVIDE, [grads[0] * 2.0], length=node.attrs["length"]).output
        return [None, reshape(scaled, node.attrs["shape"]) * node.inputs[2], None]

    def lower(self, node: Node, to: Emitter) -> None:
        to.alias(node.output, node.inputs[0])


REDUCE = Reduce()
VARIANCE = Variance()
CUMSUM = CumSum()
DIVIDE = DivideBySize()


def _axes(dim: Any, ndim: int, what: str) -> list[int]:
    if dim is None:
        return list(range(ndim))
    dims: Sequence[Any] = dim if isinstance(dim, (tuple, list)) else (dim,)
    axes = [normalize_dim(d, ndim, what) for d in dims]
    if len(set(axes)) != len(axes):
        raise ValueError(f"{what}: dim {dim} names a dimension twice")
    return sorted(axes)


def reduce(x: Any, kind: str, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Reduce over one dimension, several, or all (dim=None)."""
    x = as_tensor(x)
    check_float(kind, x)
    axes = _axes(dim, x.ndim, kind)
    kept = tuple(1 if i in axes else size for i, size in enumerate(x.shape))
    result = tuple(size for i, size in enumerate(x.shape) if i not in axes)
    y = x
    axes = [a for a in axes if not is_one(x.shape[a])]
    while axes:  # from the last run of neighbouring axes to the first
        last = first = axes.pop()
        while axes and axes[-1] == first - 1:
            first = axes.pop()
        y = active_graph().add(REDUCE, [y], kind=kind, first=first, last=last).output
    return reshape(y, kept if keepdim else result)


def cumsum(x: Any, dim: int) -> Tensor:
    """The sums of the elements up to each one, along a dimension."""
    x = as_tensor(x)
    check_float("cumsum", x)
    d = normalize_dim(dim, x.ndim, "cumsum")
    return active_graph().add(CUMSUM, [x], dim=d, reverse=False).output


def prod(x: Any, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The product over one dimension, several, or all (dim=None)."""
    return reduce(x, "prod", dim, keepdim)


def amax(x: Any, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The largest value over one dimension, several, or all (dim=None). Ties share the gradient."""
    return reduce(x, "max", dim, keepdim)


def amin(x: Any, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The smallest value over one dimension, several, or all (dim=None). Ties share the gradient."""
    return reduce(x, "min", dim, keepdim)


def var(x: Any, dim: Any = None, correction: float = 1, keepdim: bool = False) -> Tensor:
    """The variance over one dimension, several, or all (dim=None): squares are divided by their number - correction."""
    x = as_tensor(x)
    check_float("var", x)
    by = _check.integer("var: correction", correction)
    axes = _axes(dim, x.ndim, "var")
    length = max(count([x.shape[a] for a in axes]) - by, 0)
    differences = x - reduce(x, "mean", dim, keepdim=True)
    squares = reduce(differences.square(), "sum", dim, keepdim)
    value = active_graph().add(DIVIDE, [squares], length=length).output
    shape = tuple(1 if i in axes else size for i, size in enumerate(x.shape))
    return active_graph().add(VARIANCE, [value, x, differences], shape=shape, length=length).output


def std(x: Any, dim: Any = None, correction: float = 1, keepdim: bool = False) -> Tensor:
    """The square root of the variance; where that is 0, so is the gradient."""
    variance = var(x, dim, correction, keepdim)
    none = equal(variance, 0.0)
    return where(none, 0.0, where(none, 1.0, variance).sqrt())
