"""Batch norm in training, alone and with ReLU, forward and backward: steps of one layer."""

from __future__ import annotations

import functools

import numpy as np

import fastnn as fn
from fastnn import nn

from .common import array, warm

#: batch, channels, size
SHAPES = {"resnet20 b128 16x32x32": (128, 16, 32), "resnet18 b16 64x56x56": (16, 64, 56)}


@functools.cache
def layer(shape: str, relu: bool):
    if not hasattr(nn, "BatchNorm2d"):
        raise NotImplementedError("no batch norm")
    batch, channels, size = SHAPES[shape]
    net = nn.Sequential(nn.BatchNorm2d(channels), *([nn.ReLU()] if relu else [])).train()
    x = array(batch, channels, size, size)
    dy = np.ones_like(x)
    net.forward_train(x)
    return warm(lambda: net.forward_train(x)), warm(lambda: (net.forward_train(x), net.backward(dy)))


class BatchNorm2d:
    params = [list(SHAPES), [False, True]]
    param_names = ["shape", "relu"]

    def setup(self, shape, relu):
        fn.manual_seed(0)
        self.forward, self.both = layer(shape, relu)

    def time_forward(self, shape, relu):
        self.forward()

    def time_forward_and_backward(self, shape, relu):
        self.both()
