"""The activation stem's native ops as functions, and its kinds as tests take them."""

import numpy as np

from fastnn import nn
from fastnn_ext.activation import ACTIVATIONS, SAVES

from native import run_op

# alpha and beta, PyTorch's defaults where it has them
SETTINGS = {
    "leaky_relu": (0.01, 0.0),
    "elu": (1.0, 1.0),
    "silu": (1.0, 0.0),
    "softplus": (1.0, 20.0),
    "hardtanh": (-1.0, 1.0),
    "hardshrink": (0.5, 0.0),
    "softshrink": (0.5, 0.0),
    "threshold": (0.5, -0.25),
}
#: The function's name by the kind's, and the settings that it has no default for.
FUNCTIONS = {kind: (kind, {}) for kind in ACTIVATIONS}
FUNCTIONS["gelu_tanh"] = ("gelu", {"approximate": "tanh"})
FUNCTIONS["threshold"] = ("threshold", {"threshold": 0.5, "value": -0.25})
OURS_ALONE = {"step"}  # PyTorch has none


def layer_of(kind):
    """The layer as an expression, without its module."""
    name, settings = FUNCTIONS[kind]
    layer = next(layer for layer in nn.__all__ if layer.lower() == name.replace("_", ""))
    return f"{layer}({', '.join(f'{key}={value!r}' for key, value in settings.items())})"


#: The layer by the kind's name.
LAYERS = {kind: layer_of(kind) for kind in ACTIVATIONS}

__all__ = ["ACTIVATIONS", "FUNCTIONS", "LAYERS", "OURS_ALONE", "SAVES", "SETTINGS"]
__all__ += ["activation", "activation_backward", "call", "epilogue", "saves_output"]


def call(module, kind, x):
    """The activation in its public form, of fastnn.nn.functional or torch.nn.functional."""
    name, settings = FUNCTIONS[kind]
    return getattr(module, name)(x, **settings)


def settings_of(kind, alpha, beta):
    usual = SETTINGS.get(kind, (0.0, 0.0))
    return {"alpha": usual[0] if alpha is None else alpha, "beta": usual[1] if beta is None else beta}


def saves_output(kind, alpha):
    return SAVES[kind] == "output" or (SAVES[kind] == "output if alpha > 0" and alpha > 0)


def epilogue(kind, alpha=None, beta=None, name="act"):
    """An activation, or None, as the ops take it that apply one to what they made."""
    return {name: -1 if kind is None else ACTIVATIONS.index(kind), **settings_of(kind, alpha, beta)}


def activation(kind, x, alpha=None, beta=None, *, out=None):
    """y = f(x)."""
    out = np.empty_like(x) if out is None else out
    run_op("activation", y=out, x=x, n=x.size, **epilogue(kind, alpha, beta, "kind"))
    return out


def activation_backward(kind, dy, saved, alpha=None, beta=None, *, out=None):
    """dx = dy * f'(x), from what the kind saves."""
    out = np.empty_like(dy) if out is None else out
    run_op("activation_backward", dx=out, dy=dy, saved=saved, n=dy.size, **epilogue(kind, alpha, beta, "kind"))
    return out
