"""Losses with their gradients for the network's output."""

from __future__ import annotations

import functools

import numpy as np

from fastnn import nn

from .common import array, warm

#: loss, shape of the output, classes (0: the target is as the output)
LOSSES = {
    "cross-entropy, 128 of 10": (nn.CrossEntropyLoss, (128, 10), 10),
    "cross-entropy, 64 of 1000": (nn.CrossEntropyLoss, (64, 1000), 1000),
    "mean squared error, 128x1024": (nn.MSELoss, (128, 1024), 0),
    "binary cross-entropy, 128x1024": (nn.BCEWithLogitsLoss, (128, 1024), 0),
}


@functools.cache
def loss(name: str):
    make, shape, classes = LOSSES[name]
    function, output = make(), array(*shape)
    rng = np.random.default_rng(1)
    target = rng.integers(0, classes, shape[0]) if classes else rng.random(shape, np.float32)
    return warm(lambda: function.value_and_grad(output, target))


class Loss:
    params = list(LOSSES)
    param_names = ["loss"]

    def setup(self, name):
        self.run = loss(name)

    def time_value_and_gradient(self, name):
        self.run()
