"""Reductions, running sums, and the places of the largest and the smallest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastnn.graph import Tensor, active_graph
from fastnn.onnx.operator import Array, Call, Ints, Value, Whole, axes_of, axis_of, dense, operator
from fastnn.onnx.operators.shape import ints, reshaped, sliced
from fastnn.onnx.whole import elementwise, numbers
from fastnn.ops.elementwise import equal, where
from fastnn.ops.layout import broadcast_to
from fastnn.ops.reduce import CUMSUM, reduce
from fastnn.ops.shape import zero_pad


def _by(kind: str) -> Callable[..., Tensor]:
    return lambda x, axes: reduce(x, kind, axes, keepdim=True)


def _l2(x: Tensor, axes: Ints) -> Tensor:
    """The root of the sum of squares; where that is 0, so is its gradient."""
    squares = reduce(x.square(), "sum", axes, keepdim=True)
    none = equal(squares, 0.0)
    return where(none, 0.0, where(none, 1.0, squares).sqrt())


def _log_sum_exp(x: Tensor, axes: Ints) -> Tensor:
    """The logarithm of the sum of exponentials, of which none overflows."""
    top = reduce(x, "max", axes, keepdim=True).detach()
    top = where(equal(top.abs(), np.inf), 0.0, top)
    return reduce((x - top).exp(), "sum", axes, keepdim=True).log() + top


def _extreme(function: Callable[..., Any], of_none: float) -> Callable[..., Any]:
    """The largest or smallest; of nothing, what all numbers are beyond."""

    def compute(x: Array, axes: Ints, keepdims: bool) -> Any:
        limits = np.iinfo(x.dtype) if x.dtype.kind in "iu" else None
        least = of_none if limits is None else limits.min if of_none < 0 else limits.max
        return function(x, axes, keepdims=keepdims, initial=bool(least > 0) if x.dtype == bool else least)

    return compute


#: By name: what computes it in NumPy, in the graph (dimensions of size 1 stay), and the version from which on its axes
#: are an input.
_KINDS: dict[str, tuple[Callable[..., Any], Callable[[Tensor, Any], Tensor], int]] = {
    "Sum": (np.sum, _by("sum"), 13),
    "Mean": (np.mean, _by("mean"), 18),
    "Max": (_extreme(np.max, -np.inf), _by("max"), 18),
    "Min": (_extreme(np.min, np.inf), _by("min"), 18),
    "Prod": (np.prod, _by("prod"), 18),
    "L1": (lambda x, a, keepdims: np.abs(x).sum(a, keepdims=keepdims), lambda x, a: _by("sum")(x.abs(), a), 18),
    "L2": (lambda x, a, keepdims: np.sqrt((x * x).sum(a, keepdims=keepdims)), _l2, 18),
    "SumSquare": (lambda x, a, keepdims: (x * x).sum(a, keepdims=keepdims), lambda x, a: _by("sum")(x.square(), a), 18),
    "LogSum": (lambda x, a, keepdims: np.log(x.sum(a, keepdims=keepdims)), lambda x, a: _by("sum")(x, a).log(), 18),
    "LogSumExp": (lambda x, a, keepdims: np.log(np.exp(x).sum(a, keepdims=keepdims)), _log_sum_exp, 18),
}


def _reductions(name: str) -> None:
    of_arrays, of_tensors, since = _KINDS[name]

    def by_input(
        call: Call, data: Value, axes: Array | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
    ) -> Value:
        if (axes is None or not axes.size) and noop_with_empty_axes:
            return reduced(call, data, (), True)
        return reduced(call, data, None if axes is None or not axes.size else ints(axes), bool(keepdims))

    def by_attribute(call: Call, data: Value, *, axes: Ints | None = None, keepdims: int = 1) -> Value:
        return reduced(call, data, axes, bool(keepdims))

    def reduced(call: Call, x: Value, axes: Sequence[int] | None, keepdims: bool) -> Value:
        chosen = tuple(range(len(x.shape)) if axes is None else axes_of(axes, len(x.shape)))
        if isinstance(x, np.ndarray):
            with np.errstate(all="ignore"):
                return np.asarray(of_arrays(dense(x), chosen, keepdims=keepdims)).astype(x.dtype)
        if x.dtype.kind == "f":
            y: Value = of_tensors(call.tensor(x), chosen)
        else:
            y = Whole(of_tensors(numbers(x)[0], chosen), x.dtype, late=True)
        return y if keepdims else reshaped(y, [size for i, size in enumerate(x.shape) if i not in chosen])

    operator(f"Reduce{name}", 1, raw="data")(by_attribute)
    operator(f"Reduce{name}", since, raw="data", known="axes")(by_input)


for _name in _KINDS:
    _reductions(_name)


def _places(kind: str) -> Callable[..., Value]:
    def compute(call: Call, x: Value, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Value:
        d = axis_of(axis, len(x.shape))
        last = x.shape[d] - 1
        if select_last_index:
            x = sliced(x, {d: slice(None, None, -1)})
        if isinstance(x, np.ndarray):
            index = np.expand_dims(getattr(dense(x), f"arg{kind}")(d), d).astype(np.int64)
            found: Value = last - index if select_last_index else index
        else:
            tensor = call.tensor(x) if x.dtype.kind == "f" else numbers(x)[0]
            place = getattr(tensor, f"arg{kind}")(d, keepdim=True)
            found = Whole(place.double() * -1.0 + float(last) if select_last_index else place, np.int64, late=True)
        return found if keepdims else reshaped(found, [size for i, size in enumerate(x.shape) if i != d])

    return compute


operator("ArgMax", 1, raw="x")(_places("max"))
operator("ArgMin", 1, raw="x")(_places("min"))


@operator("CumSum", 11, raw="x", known="axis")
def cumsum(call: Call, x: Value, axis: Array, *, exclusive: int = 0, reverse: int = 0) -> Value:
    """The sums of the elements up to each one, or from each one on; `exclusive`: without itself."""
    d = axis_of(int(axis.reshape(())), len(x.shape))

    def of_arrays(a: Array) -> Array:
        flipped = np.flip(a, d) if reverse else a
        sums = np.cumsum(flipped, d, dtype=a.dtype)
        if exclusive:
            sums = np.concatenate([np.zeros_like(sums.take([0], d)), sums.take(range(sums.shape[d] - 1), d)], d)
        return np.flip(sums, d) if reverse else sums

    def of_tensors(t: Tensor) -> Tensor:
        if exclusive and t.shape[d] == 1:
            return broadcast_to(t.dtype.type(0), t.shape)
        if exclusive:  # all but the last, behind a 0
            kept = slice(1, None) if reverse else slice(None, -1)
            rest = t[tuple(kept if i == d else slice(None) for i in range(t.ndim))]
            widths = [(0, 0)] * t.ndim
            widths[d] = (0, 1) if reverse else (1, 0)
            t = zero_pad(rest, tuple(w for pair in reversed(widths) for w in pair))
        return active_graph().add(CUMSUM, [t], dim=d, reverse=bool(reverse)).output

    if isinstance(x, np.ndarray):
        return of_arrays(dense(x))
    return elementwise(call, of_arrays, of_tensors, x)
