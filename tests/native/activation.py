"""The activation stem's native ops as functions, and its kinds as tests take them."""

import numpy as np

from fastnn import nn
from fastnn_ext.activation import ACTIVATIONS, SAVES

from native import run_op

ALPHA = {"leaky_relu": 0.01, "elu": 1.0}  # PyTorch's defaults
#: The layer's name by the kind's.
LAYERS = {kind: next(name for name in nn.__all__ if name.lower() == kind.replace("_", "")) for kind in ACTIVATIONS}

__all__ = ["ACTIVATIONS", "ALPHA", "LAYERS", "SAVES", "activation", "activation_backward", "epilogue", "saves_output"]


def saves_output(kind, alpha):
    return SAVES[kind] == "output" or (SAVES[kind] == "output if alpha > 0" and alpha > 0)


def epilogue(kind, alpha=None, name="act"):
    """An activation, or None, as the ops take it that apply one to what they made."""
    settings = {"alpha": ALPHA.get(kind, 0.0) if alpha is None else alpha, "beta": 0.0}
    return {name: -1 if kind is None else ACTIVATIONS.index(kind), **settings}


def activation(kind, x, alpha=None, *, out=None):
    """y = f(x)."""
    out = np.empty_like(x) if out is None else out
    run_op("activation", y=out, x=x, n=x.size, **epilogue(kind, alpha, "kind"))
    return out


def activation_backward(kind, dy, saved, alpha=None, *, out=None):
    """dx = dy * f'(x), from what the kind saves."""
    out = np.empty_like(dy) if out is None else out
    run_op("activation_backward", dx=out, dy=dy, saved=saved, n=dy.size, **epilogue(kind, alpha, "kind"))
    return out
