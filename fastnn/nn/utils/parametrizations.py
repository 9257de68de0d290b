"""Weights as functions of parameters: spectral norm, noise."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

from fastnn import _check
from fastnn.graph import as_tensor
from fastnn.nn import init
from fastnn.nn._eager import eager
from fastnn.nn.conv import ConvTranspose1d, ConvTranspose2d
from fastnn.nn.dropout import GaussianNoise
from fastnn.nn.module import Module
from fastnn.nn.parameter import Parameter
from fastnn.nn.utils.parametrize import parameter_of, parametrize
from fastnn.ops.arguments import normalize_dim
from fastnn.ops.assign import assign, assigned
from fastnn.ops.elementwise import maximum, square

__all__ = ["spectral_norm", "weight_noise"]

M = TypeVar("M", bound=Module)

#: Iterations with which u and v begin.
FIRST_ITERATIONS = 15


class SpectralNorm(Module):
    """A weight divided by its largest singular value u^T W v, as PyTorch's."""

    def __init__(self, weight: Parameter, n_power_iterations: int, dim: int, eps: float) -> None:
        super().__init__()
        self.n_power_iterations = n_power_iterations
        self.dim = dim
        self.eps = eps
        if weight.ndim > 1:
            rows = weight.shape[dim]
            v = Parameter(np.zeros(weight.size // rows, weight.dtype), requires_grad=False)
            init.normal_(v)
            start = _normalized(v.data, eps=eps)
            u, v = _iterated(weight.data, start, count=FIRST_ITERATIONS, dim=dim, eps=eps)
            self.register_buffer("_u", u)
            self.register_buffer("_v", v)

    def forward(self, weight: Any) -> Any:
        if weight.ndim == 1:
            return _normalized(weight, eps=self.eps)
        u, v = assigned(self._u), assigned(self._v)
        if self.training:
            u, v = _iterated(weight, v, count=self.n_power_iterations, dim=self.dim, eps=self.eps)
            assign(self._u, u)
            assign(self._v, v)
        return _divided(weight, u, v, dim=self.dim)

    def value(self, weight: Parameter) -> Any:
        """The weight as evaluation has it, outside a trace."""
        if weight.ndim == 1:
            return _normalized(weight.data, eps=self.eps)
        return _divided(weight.data, self._u.data, self._v.data, dim=self.dim)

    def extra_repr(self) -> str:
        return f"n_power_iterations={self.n_power_iterations}, dim={self.dim}, eps={self.eps}"


def _matrix(weight: Any, dim: int) -> Any:
    """(weight.shape[dim], all others)."""
    order = (dim, *(i for i in range(weight.ndim) if i != dim))
    return as_tensor(weight).permute(*order).flatten(1)


@eager("x")
def _normalized(x: Any, eps: float) -> Any:
    return x / maximum(square(x).sum().sqrt(), eps)


@eager("weight", "v")
def _iterated(weight: Any, v: Any, count: int, dim: int, eps: float) -> Any:
    """u and v after so many power iterations, as constants."""
    matrix = _matrix(weight, dim)
    for _ in range(count):
        u = _normalized(matrix @ v, eps=eps)
        v = _normalized(u @ matrix, eps=eps)
    return u.detach(), v.detach()


@eager("weight", "u", "v")
def _divided(weight: Any, u: Any, v: Any, dim: int) -> Any:
    return weight / (u * (_matrix(weight, dim) @ v)).sum()


def spectral_norm(
    module: M, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> M:
    """Let a weight be W / sigma(W): its largest singular value is 1 (Miyato and others, 2018).

    The parameter `name` becomes `parametrizations.weight.original`, and what it gave is computed of it. sigma is
    u^T W v, of buffers u and v that each forward pass in training mode brings nearer to the singular vectors; in
    evaluation mode, and where `module.weight` is read outside of forward, they stay as they are.

    Parameters
    ----------
    module : Module
        Changed in place, and returned. An optimizer that holds the parameter trains it on.
    name : str
    n_power_iterations : int, default 1
        Power iterations a forward pass.
    eps : float, default 1e-12
        The least that u and v are divided by.
    dim : int, optional
        The dimension whose indices are the rows of W, all others together being its columns; by default 0, and 1 of
        a transposed convolution.

    Examples
    --------
    >>> layer = nn.utils.parametrizations.spectral_norm(nn.Linear(30, 20))
    >>> bool(abs(np.linalg.norm(layer.weight, 2) - 1) < 0.1)
    True
    >>> list(layer.state_dict())[1:]
    ['parametrizations.weight.original', 'parametrizations.weight.0._u', 'parametrizations.weight.0._v']
    """
    weight = parameter_of(module, name)
    count = _check.integer("n_power_iterations", n_power_iterations, 1)
    default = 1 if isinstance(module, (ConvTranspose1d, ConvTranspose2d)) else 0
    rows = normalize_dim(default if dim is None else _check.integer("dim", dim), weight.ndim, "spectral_norm")
    parametrize(module, name, SpectralNorm(weight, count, rows, _check.real("eps", eps, 0)))
    return module


class WeightNoise(GaussianNoise):
    """A weight with noise in training mode."""

    def value(self, weight: Parameter) -> Any:
        """The weight as evaluation has it, outside a trace."""
        return weight.data.view()


def weight_noise(module: M, std: float, name: str = "weight") -> M:
    """Add normal noise to a weight in training mode, drawn anew in each run (Graves, 2011).

    The parameter `name` becomes `parametrizations.weight.original`; its gradient is taken at the weight with its noise.
    In evaluation mode, and where `module.weight` is read outside of forward, there is no noise.

    Parameters
    ----------
    module : Module
        Changed in place, and returned. An optimizer that holds the parameter trains it on.
    std : float
        The noise's standard deviation.
    name : str, default "weight"

    Examples
    --------
    >>> layer = nn.utils.parametrizations.weight_noise(nn.Linear(3, 2), std=0.1)
    >>> x = np.ones((1, 3), np.float32)
    >>> bool((layer(x) == layer(x)).any())
    False
    >>> bool((layer.eval()(x) == layer(x)).all())
    True
    """
    parametrize(module, name, WeightNoise(std))
    return module
