"""Activations by themselves; in networks most are fused into the op before them."""

from __future__ import annotations

import functools

import fastnn.nn.functional as F

from .common import array, kernel

KINDS = ["relu", "leaky_relu", "elu", "sigmoid", "tanh", "gelu", "silu", "softsign", "selu", "softplus", "mish"]
KINDS += ["hardswish", "hardtanh"]


@functools.cache
def activation(kind: str, direction: str):
    return kernel(getattr(F, kind), array(512, 1024), wrt=None if direction == "forward" else 0)


class Activation:
    params = [KINDS, ["forward", "gradient"]]
    param_names = ["kind", "direction"]

    def setup(self, kind, direction):
        self.run = activation(kind, direction)

    def time_half_a_million(self, kind, direction):
        self.run()
