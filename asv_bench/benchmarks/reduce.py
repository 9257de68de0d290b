"""Sums in a fixed order, over rows, columns and all; and running sums."""

from __future__ import annotations

import functools

import fastnn as fn

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


@functools.cache
def running(dim: int, wrt: int | None):
    if not hasattr(fn, "cumsum"):
        raise NotImplementedError("no cumsum")
    return kernel(lambda x: fn.cumsum(x, dim), array(512, 1024), wrt=wrt)


class RunningSum:
    params = [[0, 1], ["forward", "gradient"]]
    param_names = ["dim", "what"]

    def setup(self, dim, what):
        self.run = running(dim, 0 if what == "gradient" else None)

    def time_half_a_million(self, dim, what):
        self.run()
