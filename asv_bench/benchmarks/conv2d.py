"""Convolution layers of the networks, each direction by itself."""

from __future__ import annotations

import functools

import fastnn.nn.functional as F

from .common import array, kernel

#: batch, channels in and out, kernel, stride, padding, size of the input
LAYERS = {
    "lenet b64 1->6 5x5": (64, 1, 6, 5, 1, 2, 28),
    "lenet b64 6->16 5x5": (64, 6, 16, 5, 1, 0, 14),
    "resnet20 b128 3->16 3x3": (128, 3, 16, 3, 1, 1, 32),
    "resnet20 b128 16->16 3x3": (128, 16, 16, 3, 1, 1, 32),
    "resnet20 b128 64->64 3x3": (128, 64, 64, 3, 1, 1, 8),
    "resnet18 b16 64->64 3x3": (16, 64, 64, 3, 1, 1, 56),
    "resnet18 b16 64->128 3x3/2": (16, 64, 128, 3, 2, 1, 56),
    "resnet18 b16 64->128 1x1/2": (16, 64, 128, 1, 2, 0, 56),
    "resnet18 b16 512->512 3x3": (16, 512, 512, 3, 1, 1, 7),
    "alexnet b32 3->64 11x11/4": (32, 3, 64, 11, 4, 2, 224),
    "alexnet b32 64->192 5x5": (32, 64, 192, 5, 1, 2, 27),
}
DIRECTIONS = {"forward": None, "input gradient": 0, "weight gradient": 1}


@functools.cache
def layer(name: str, direction: str):
    batch, fan_in, fan_out, size, stride, padding, image = LAYERS[name]

    def convolve(x, w):
        """Both as the kernels want them: (N, H, W, IC) and (KH, KW, IC, OC)."""
        y = F.conv2d(x.permute(0, 3, 1, 2), w.permute(3, 2, 0, 1), None, stride, padding)
        return y.permute(0, 2, 3, 1)

    x, w = array(batch, image, image, fan_in), array(size, size, fan_in, fan_out)
    return kernel(convolve, x, w, wrt=DIRECTIONS[direction])


class Conv2d:
    params = [list(LAYERS), list(DIRECTIONS)]
    param_names = ["layer", "direction"]

    def setup(self, name, direction):
        self.run = layer(name, direction)

    def time_layer(self, name, direction):
        self.run()
