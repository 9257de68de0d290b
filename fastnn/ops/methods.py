"""Binds ops to the operators and methods of tensors and parameters, which fastnn.graph declares."""

from __future__ import annotations

from typing import Any

from fastnn.graph import Tensor, TensorMethods
from fastnn.ops.activation import activation
from fastnn.ops.elementwise import abs, add, div, exp, log, mul, neg, power, sqrt, square, sub
from fastnn.ops.gemm import matmul
from fastnn.ops.layout import flatten, permute, reshape, squeeze, swap, transpose_all, unsqueeze
from fastnn.ops.loss import softmax
from fastnn.ops.reduce import reduce
from fastnn.ops.shape import getitem


def _bind(**methods: Any) -> None:
    for name, method in methods.items():
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
    T=property(transpose_all),
    abs=abs,
    exp=exp,
    flatten=flatten,
    log=log,
    permute=permute,
    pow=power,
    reshape=reshape,
    sqrt=sqrt,
    square=square,
    squeeze=squeeze,
    transpose=swap,
    unsqueeze=unsqueeze,
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
