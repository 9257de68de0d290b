"""Binds ops to the operators and methods of tensors and parameters, which fastnn.graph declares."""

from __future__ import annotations

from typing import Any

from fastnn.graph import Tensor, TensorMethods
from fastnn.ops.activation import activation
from fastnn.ops.elementwise import (
    abs,
    add,
    cast,
    clamp,
    cos,
    div,
    double,
    equal,
    exp,
    greater,
    greater_equal,
    less,
    less_equal,
    log,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    mul,
    neg,
    not_equal,
    power,
    sign,
    sin,
    single,
    sqrt,
    square,
    sub,
)
from fastnn.ops.gemm import matmul
from fastnn.ops.index import argmax, argmin, gather, getitem, index_select, largest, smallest, take, topk
from fastnn.ops.layout import detach, flatten, permute, reshape, squeeze, swap, transpose_all, unsqueeze
from fastnn.ops.loss import softmax
from fastnn.ops.maps import (
    acos,
    acosh,
    asin,
    asinh,
    atan,
    atanh,
    ceil,
    cosh,
    erf,
    expm1,
    floor,
    log1p,
    round,
    sinh,
    tan,
    trunc,
)
from fastnn.ops.reduce import amax, amin, cumsum, prod, reduce, std, var


def _bind(**methods: Any) -> None:
    for name, method in methods.items():
        if method in (largest, smallest, swap, cast, single):  # of the methods alone: errors call them as users do
            method.__qualname__ = f"Tensor.{name}"
        setattr(TensorMethods, name, method)


_bind(
    __add__=add,
    __radd__=lambda self, other: add(other, self),
    __sub__=sub,
    __rsub__=lambda self, other: sub(other, self),
    __mul__=mul,
    __rmul__=lambda self, other: mul(other, self),
    __truediv__=div,
    __rtruediv__=lambda self, other: div(other, self),
    __pow__=power,
    __rpow__=lambda self, other: power(other, self),
    __matmul__=matmul,
    __rmatmul__=lambda self, other: matmul(other, self),
    __neg__=neg,
    __abs__=abs,
    __getitem__=getitem,
    __lt__=less,
    __le__=less_equal,
    __gt__=greater,
    __ge__=greater_equal,
    __eq__=equal,
    __ne__=not_equal,
    __and__=logical_and,
    __rand__=lambda self, other: logical_and(other, self),
    __or__=logical_or,
    __ror__=lambda self, other: logical_or(other, self),
    __xor__=logical_xor,
    __rxor__=lambda self, other: logical_xor(other, self),
    __invert__=logical_not,
    T=property(transpose_all),
    abs=abs,
    acos=acos,
    acosh=acosh,
    amax=amax,
    amin=amin,
    argmax=argmax,
    argmin=argmin,
    asin=asin,
    asinh=asinh,
    atan=atan,
    atanh=atanh,
    ceil=ceil,
    clamp=clamp,
    clip=clamp,
    cos=cos,
    cosh=cosh,
    cumsum=cumsum,
    detach=detach,
    double=double,
    erf=erf,
    exp=exp,
    expm1=expm1,
    flatten=flatten,
    float=single,
    floor=floor,
    gather=gather,
    index_select=index_select,
    log1p=log1p,
    log=log,
    max=largest,
    min=smallest,
    permute=permute,
    pow=power,
    prod=prod,
    reshape=reshape,
    round=round,
    sign=sign,
    sin=sin,
    sinh=sinh,
    sqrt=sqrt,
    square=square,
    squeeze=squeeze,
    std=std,
    take=take,
    tan=tan,
    to=cast,
    topk=topk,
    transpose=swap,
    trunc=trunc,
    unsqueeze=unsqueeze,
    var=var,
    view=reshape,
)


def _relu(self: Any) -> Tensor:
    """max(0, x), elementwise."""
    return activation(self, "relu")


def _tanh(self: Any) -> Tensor:
    """Hyperbolic tangent, elementwise."""
    return activation(self, "tanh")


def _sigmoid(self: Any) -> Tensor:
    """1 / (1 + exp(-x)), elementwise."""
    return activation(self, "sigmoid")


def _softmax(self: Any, dim: int) -> Tensor:
    """exp(x) / sum(exp(x)) along a dimension."""
    return softmax(self, dim)


def _log_softmax(self: Any, dim: int) -> Tensor:
    """The logarithm of softmax along a dimension."""
    return softmax(self, dim, log=True)


def _sum(self: Any, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The sum over one dimension, several, or all (dim=None)."""
    return reduce(self, "sum", dim, keepdim)


def _mean(self: Any, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The mean over one dimension, several, or all (dim=None)."""
    return reduce(self, "mean", dim, keepdim)


_bind(
    log_softmax=_log_softmax,
    mean=_mean,
    relu=_relu,
    sigmoid=_sigmoid,
    softmax=_softmax,
    sum=_sum,
    tanh=_tanh,
)
