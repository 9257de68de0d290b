"""Arithmetic with broadcasting over half a million elements."""

from __future__ import annotations

import functools

import fastnn as fn

from .common import array, kernel

KINDS = {
    "a + b": (lambda a, b: a + b, (512, 1024), (512, 1024)),
    "a * row": (lambda a, b: a * b, (512, 1024), (1024,)),
    "a * column": (lambda a, b: a * b, (512, 1024), (512, 1)),
    "exp(a)": (lambda a: fn.exp(a), (512, 1024)),
    "where(a > b, a, b)": (lambda a, b: fn.where(a > b, a, b), (512, 1024), (512, 1024)),
}


@functools.cache
def run(kind: str):
    for name in ("exp", "where"):
        if kind.startswith(name) and not hasattr(fn, name):
            raise NotImplementedError(f"no {name}")
    function, *shapes = KINDS[kind]
    return kernel(function, *(array(*shape) for shape in shapes))


class Elementwise:
    params = list(KINDS)
    param_names = ["what"]

    def setup(self, kind):
        self.run = run(kind)

    def time_half_a_million(self, kind):
        self.run()
