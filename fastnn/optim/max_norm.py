"""The max-norm constraint, as a part of the update."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn.graph import Arguments
from fastnn.lowering.builder import Builder
from fastnn.nn.parameter import Parameter
from fastnn_ext import elementwise, reduce


def emit_max_norm(to: Builder, p: Parameter, memory: Any, most: float) -> None:
    """Append what makes rows of a parameter, whose memory is given, no longer than max_norm; as torch.renorm does."""
    shape, dtype = p._storage.shape, p.dtype
    at = p._order.index(0)
    outer, units, inner = math.prod(shape[:at]), shape[at], math.prod(shape[at + 1 :])

    def made(size: int, kernel: str, kind: int, **arguments: Any) -> Any:
        result = to.temporary((size,), dtype)
        to.emit(kernel, y=result, kind=kind, **arguments, dtype=dtype, commit=True)
        return result

    def unary(x: Any, kind: str, n: int, a: float = 1.0, b: float = 0.0) -> Any:
        return made(n, "unary", elementwise.UNARY.index(kind), x=x, n=n, a=a, b=b)

    def summed(x: Any, outer: int, length: int, inner: int) -> Any:
        if length == 1:
            return x
        sizes: Arguments = dict(outer=outer, length=length, inner=inner, pieces=1)
        return made(outer * inner, "reduce", reduce.REDUCE.index("sum"), x=x, **sizes)

    limit, whole = (to.array(np.array([value], dtype), constant=True) for value in (most, 1.0))
    small: Arguments = {"ndim": 1, "shape": [units]}
    alike, one = [1], [0]
    sums = summed(unary(memory, "square", p.size), outer * units, inner, 1)
    norm = unary(summed(sums, 1, outer, units), "sqrt", units)
    above = unary(norm, "affine", units, 1.0, 1e-7)
    div, greater, mul = (elementwise.BINARY.index(kind) for kind in ("div", "greater", "mul"))
    shares = made(units, "binary", div, a=limit, b=above, **small, a_strides=one, b_strides=alike)
    longer = made(units, "binary", greater, a=norm, b=limit, **small, a_strides=alike, b_strides=one)
    factor = to.temporary((units,), dtype)
    strides: Arguments = dict(c_strides=alike, a_strides=alike, b_strides=one)
    to.emit("where", y=factor, c=longer, a=shares, b=whole, **small, **strides, dtype=dtype, commit=True)
    form: Arguments = dict(shape=[outer, units, inner], a_strides=[units * inner, inner, 1], b_strides=[0, 1, 0])
    to.emit("binary", y=memory, a=memory, b=factor, kind=mul, ndim=3, **form, dtype=dtype, commit=True)
