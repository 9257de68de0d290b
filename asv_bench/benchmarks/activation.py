"""Activations by themselves; in networks most are fused into the op before them."""

from __future__ import annotations

import functools

import fastnn.nn.functional as F

from .common import array, kernel

KINDS = [
    "relu", "leaky_relu", "elu", "sigmoid", "tanh", "gelu", "silu", "softsign", "step", "selu", "softplus",
    "gelu_tanh", "mish", "hardsigmoid", "hardswish", "hardtanh", "hardshrink", "softshrink", "threshold",
]  # fmt: skip
#: Functions of another name than the kind's, or with settings that have no default.
FUNCTIONS = {
    "gelu_tanh": functools.partial(F.gelu, approximate="tanh"),
    "threshold": functools.partial(F.threshold, threshold=0.5, value=0.0),
}


@functools.cache
def activation(kind: str, direction: str):
    return kernel(FUNCTIONS.get(kind) or getattr(F, kind), array(512, 1024), wrt=None if direction == "forward" else 0)


class Activation:
    params = [KINDS, ["forward", "gradient"]]
    param_names = ["kind", "direction"]

    def setup(self, kind, direction):
        self.run = activation(kind, direction)

    def time_half_a_million(self, kind, direction):
        self.run()
