"""A weight as a function of a parameter and of buffers, under PyTorch's names in the state dict."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn import _check
from fastnn.graph import is_tracing
from fastnn.nn.container import ModuleDict
from fastnn.nn.module import Module
from fastnn.nn.parameter import Parameter

__all__ = ["is_parametrized", "remove_parametrizations"]


class Parametrized(Module):
    """A module's parameter `original`, and how its weight is computed from it: the module "0"."""

    def __init__(self, original: Parameter, parametrization: Module) -> None:
        super().__init__()
        self.original = original
        self.add_module("0", parametrization)

    def forward(self) -> Any:
        return self._modules["0"](self.original)


class _Value:
    """A parametrized weight, where it is read."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, module: Module) -> Any:
        weight = module.parametrizations[self.name]
        if is_tracing():
            return weight()
        value = weight._modules["0"].value(weight.original)
        value.flags.writeable = False  # what would be written to it would be lost
        return value


def parameter_of(module: Any, name: str) -> Parameter:
    """A parameter that can give way to what it is computed from."""
    _check.instance("module", module, Module)
    parameter = module._parameters.get(name)
    if not isinstance(parameter, Parameter):
        why = ": it is computed from others already" if name in module.derived else ""
        raise ValueError(f"{type(module).__name__} has no parameter {name!r}{why}")
    return parameter


def parametrize(module: Module, name: str, parametrization: Module) -> None:
    """Let `name` be `parametrization(original)`, which outside a trace is `parametrization.value(original)`."""
    original = parameter_of(module, name)
    if "parametrizations" not in module._modules:
        module.parametrizations = ModuleDict()
    del module._parameters[name]
    module.parametrizations[name] = Parametrized(original, parametrization)
    module.derived = {**module.derived, name: _Value(name)}


def is_parametrized(module: Module, tensor_name: str | None = None) -> bool:
    """Whether a module computes this weight, or any, from another parameter."""
    _check.instance("module", module, Module)
    return any(isinstance(value, _Value) and tensor_name in (None, name) for name, value in module.derived.items())


def remove_parametrizations(module: Module, tensor_name: str, leave_parametrized: bool = True) -> Module:
    """Make a weight a parameter again.

    Parameters
    ----------
    module : Module
        Changed in place, and returned.
    tensor_name : str
    leave_parametrized : bool, default True
        With the values that it has been computed to; False: with those of the parameter it was computed from.

    Examples
    --------
    >>> layer = nn.utils.parametrizations.spectral_norm(nn.Linear(3, 2))
    >>> layer = nn.utils.parametrize.remove_parametrizations(layer, "weight")
    >>> sorted(layer.state_dict())
    ['bias', 'weight']
    """
    if not is_parametrized(module, tensor_name):
        raise ValueError(f"{type(module).__name__} has no parametrized {tensor_name!r}")
    original: Parameter = module.parametrizations[tensor_name].original
    if _check.flag("leave_parametrized", leave_parametrized):
        original.data = np.array(getattr(module, tensor_name))
    module.derived = {name: value for name, value in module.derived.items() if name != tensor_name}
    del module.parametrizations[tensor_name]
    if not len(module.parametrizations):
        del module.parametrizations
    module.register_parameter(tensor_name, original)
    return module
