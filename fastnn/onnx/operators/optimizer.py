"""The optimizers among ONNX's training operators: a step of each, as arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn import _check
from fastnn.graph import Tensor
from fastnn.onnx.operator import Call, Value, Whole, operator
from fastnn.ops.elementwise import cast, sqrt, where

_DOMAIN = "ai.onnx.preview.training"


def _steps(T: Value, like: Tensor) -> Any:
    """The count of steps as a number, or a tensor of the rate's dtype."""
    if isinstance(T, Whole):
        return cast(T.tensor, like.dtype)
    return float(np.asarray(T).reshape(()))


def _once(T: Any, first: Any, later: Any) -> Any:
    """`first` at step 0, else `later`."""
    return where(T > 0.0, later, first) if isinstance(T, Tensor) else later if T > 0 else first


def _groups(tensors: Sequence[Any], kinds: int) -> list[tuple[Tensor, ...]]:
    """Of each parameter: it, its gradient and its states; a file has all parameters first, then all gradients, ..."""
    if not tensors or len(tensors) % kinds:
        raise ValueError(f"it has {len(tensors)} parameters, gradients and states; expected a multiple of {kinds}")
    n = len(tensors) // kinds
    return [tuple(tensors[i::n]) for i in range(n)]


def _in_order(results: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """All new parameters, then all new states of each kind."""
    return tuple(each for kind in zip(*results, strict=True) for each in kind)


@operator("Adam", 1, domain=_DOMAIN, raw="T")
def adam(
    call: Call,
    R: Tensor,
    T: Value,
    *inputs: Tensor,
    alpha: float = 0.9,
    beta: float = 0.999,
    epsilon: float = 0.0,
    norm_coefficient: float = 0.0,
    norm_coefficient_post: float = 0.0,
) -> Any:
    """Kingma and Ba (2015); the deviation has epsilon added before its bias is corrected."""
    steps, results = _steps(T, R), []
    for X, G, V, H in _groups(inputs, 4):
        g = G + X * norm_coefficient
        v = V * alpha + g * (1 - alpha)
        h = H * beta + g.square() * (1 - beta)
        if isinstance(steps, Tensor):
            at = where(steps > 0.0, steps, 1.0)
            corrected = R * sqrt(1.0 - beta**at) / (1.0 - alpha**at)
        else:
            at = max(steps, 1.0)
            corrected = R * ((1.0 - beta**at) ** 0.5 / (1.0 - alpha**at))
        x = X - _once(steps, R, corrected) * v / (sqrt(h) + epsilon)
        results.append((x * (1 - norm_coefficient_post), v, h))
    return _in_order(results)


@operator("Adagrad", 1, domain=_DOMAIN, raw="T")
def adagrad(
    call: Call,
    R: Tensor,
    T: Value,
    *inputs: Tensor,
    decay_factor: float = 0.0,
    epsilon: float = 0.0,
    norm_coefficient: float = 0.0,
) -> Any:
    """Duchi et al. (2011)."""
    rate, results = R / (_steps(T, R) * decay_factor + 1.0), []
    for X, G, H in _groups(inputs, 3):
        g = G + X * norm_coefficient
        h = H + g.square()
        results.append((X - rate * g / (sqrt(h) + epsilon), h))
    return _in_order(results)


@operator("Momentum", 1, domain=_DOMAIN, raw="T")
def momentum(
    call: Call, R: Tensor, T: Value, *inputs: Tensor, alpha: float, beta: float, mode: str, norm_coefficient: float
) -> Any:
    """Gradient descent with momentum, standard or Nesterov's."""
    _check.choice("its mode", mode, "standard", "nesterov")
    share, results = _once(_steps(T, R), 1.0, beta), []
    for X, G, V in _groups(inputs, 3):
        g = G + X * norm_coefficient
        v = V * alpha + g * share
        results.append((X - R * (v if mode == "standard" else g + v * alpha), v))
    return _in_order(results)
