"""Pooling over channels-last images, forward and backward."""

from __future__ import annotations

import functools

import fastnn.nn.functional as F

from .common import array, kernel

#: function, batch, size, channels
POOLS = {
    "max 2x2, lenet b64": (lambda x: F.max_pool2d(x, 2), 64, 28, 6),
    "max 3x3/2, resnet18 b16": (lambda x: F.max_pool2d(x, 3, 2, 1), 16, 112, 64),
    "average 2x2": (lambda x: F.avg_pool2d(x, 2), 64, 32, 32),
    "global, resnet18 b16": (lambda x: F.adaptive_avg_pool2d(x, 1), 16, 7, 512),
}


@functools.cache
def pool(name: str, direction: str):
    function, batch, size, channels = POOLS[name]

    def pooled(x):
        return function(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    return kernel(pooled, array(batch, size, size, channels), wrt=None if direction == "forward" else 0)


class Pool2d:
    params = [list(POOLS), ["forward", "gradient"]]
    param_names = ["pool", "direction"]

    def setup(self, name, direction):
        self.run = pool(name, direction)

    def time_pool(self, name, direction):
        self.run()
