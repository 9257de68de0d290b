"""Matrix products of the networks' layers."""

from __future__ import annotations

import functools

from .common import array, kernel

#: m, n, k, transpose of a, of b
SHAPES = {
    "mlp b32 784x512 forward": (32, 512, 784, False, False),
    "mlp b128 784x512 forward": (128, 512, 784, False, False),
    "mlp b128 784x512 dW": (784, 512, 128, True, False),
    "mlp b128 512x256 dx": (128, 512, 256, False, True),
    "mlp b1024 256x10 forward": (1024, 10, 256, False, False),
    "lenet b64 400x120 forward": (64, 120, 400, False, False),
    "square 64": (64, 64, 64, False, False),
    "square 512": (512, 512, 512, False, False),
    "alexnet b32 9216x4096 forward": (32, 4096, 9216, False, False),
    "vector times 784x512": (1, 512, 784, False, False),
}


@functools.cache
def product(name: str):
    from fastnn.ops.gemm import product

    m, n, k, ta, tb = SHAPES[name]
    a, b = array(k, m) if ta else array(m, k), array(n, k) if tb else array(k, n)
    return kernel(lambda a, b: product(a, b, ta=ta, tb=tb), a, b)


class Gemm:
    params = list(SHAPES)
    param_names = ["shape"]

    def setup(self, shape):
        self.run = product(shape)

    def time_product(self, shape):
        self.run()
