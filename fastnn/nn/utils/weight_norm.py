"""Weight norm: a weight's length and direction as parameters of their own."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

from fastnn import _check
from fastnn.nn._eager import eager
from fastnn.nn.module import Module
from fastnn.nn.parameter import Parameter
from fastnn.nn.utils.parametrize import parameter_of
from fastnn.ops.arguments import normalize_dim
from fastnn.ops.elementwise import square

__all__ = ["remove_weight_norm", "weight_norm"]

M = TypeVar("M", bound=Module)


class WeightNorm:
    """g * v / |v|, of a module's parameters `name`_g and `name`_v."""

    def __init__(self, name: str, axes: tuple[int, ...]) -> None:
        self.name = name
        self.axes = axes

    def __call__(self, module: Module) -> Any:
        value = _normed(getattr(module, self.name + "_v"), getattr(module, self.name + "_g"), axes=self.axes)
        if isinstance(value, np.ndarray):
            value.flags.writeable = False  # what would be written to it would be lost
        return value


@eager("v", "g")
def _normed(v: Any, g: Any, axes: tuple[int, ...]) -> Any:
    return v * (g / square(v).sum(axes, keepdim=True).sqrt())


def weight_norm(module: M, name: str = "weight", dim: int | None = 0) -> M:
    """Let a weight be g * v / |v|: its length and its direction are trained apart (Salimans and Kingma, 2016).

    The parameter `name` gives way to `name`_g and `name`_v, as in PyTorch; make the optimizer afterwards.

    Parameters
    ----------
    module : Module
        Changed in place, and returned.
    name : str
    dim : int, optional
        The dimension each index of which has a length of its own; None: one for all.

    Examples
    --------
    >>> layer = nn.utils.weight_norm(nn.Linear(3, 2))
    >>> [(name, p.shape) for name, p in layer.named_parameters()]
    [('bias', (2,)), ('weight_g', (2, 1)), ('weight_v', (2, 3))]
    """
    weight = parameter_of(module, name)
    kept = () if dim is None else (normalize_dim(_check.integer("dim", dim, 0), weight.ndim, "weight_norm"),)
    axes = tuple(i for i in range(weight.ndim) if i not in kept)
    length = np.sqrt(np.square(weight.data).sum(axes, keepdims=True))
    del module._parameters[name]
    module.register_parameter(name + "_g", Parameter(length))
    module.register_parameter(name + "_v", weight)
    module.derived = {**module.derived, name: WeightNorm(name, axes)}
    return module


def remove_weight_norm(module: M, name: str = "weight") -> M:
    """Make a weight a parameter again, with the values that it has."""
    _check.instance("module", module, Module)
    if not isinstance(module.derived.get(name), WeightNorm):
        raise ValueError(f"{type(module).__name__} has no weight norm of {name!r}")
    values = getattr(module, name)
    weight = module._parameters[name + "_v"]
    weight.data = values
    module.derived = {other: value for other, value in module.derived.items() if other != name}
    del module._parameters[name + "_v"], module._parameters[name + "_g"]
    module.register_parameter(name, weight)
    return module
