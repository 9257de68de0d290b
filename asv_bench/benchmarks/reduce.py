"""Sums in a fixed order, over rows, columns and all."""

from __future__ import annotations

import functools

from .common import array, kernel

DIMS = {"rows": (1,), "columns": (0,), "all": (0, 1)}


@functools.cache
def total(dim: str):
    from fastnn.ops.reduce import reduce

    return kernel(lambda x: reduce(x, "sum", DIMS[dim]), array(512, 1024))


class Sum:
    params = list(DIMS)
    param_names = ["over"]

    def setup(self, dim):
        self.run = total(dim)

    def time_half_a_million(self, dim):
        self.run()
