"""The activation stem's native ops as functions."""

import numpy as np

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

__all__ = ["ACTIVATIONS", "SAVES", "SETTINGS", "activation", "activation_backward", "epilogue", "saves_output"]


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
