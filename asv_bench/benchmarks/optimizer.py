"""One sweep of an optimizer over its flat arrays."""

from __future__ import annotations

import functools

from fastnn import nn, optim

from .common import warm

KINDS = {
    "sgd": lambda p: optim.SGD(p, lr=1e-5),
    "sgd, momentum": lambda p: optim.SGD(p, lr=1e-5, momentum=0.9),
    "adam": lambda p: optim.Adam(p, lr=1e-5),
    "adamw": lambda p: optim.AdamW(p, lr=1e-5),
    "rmsprop": lambda p: optim.RMSprop(p, lr=1e-5),
}
SIZES = {"10 thousand": 100, "1 million": 1000, "16 million": 4000}


@functools.cache
def sweep(kind: str, parameters: str):
    model = nn.Linear(SIZES[parameters], SIZES[parameters], bias=False)
    opt = KINDS[kind](list(model.parameters()))
    opt.zero_grad()
    return model, warm(opt.step)


class Optimizer:
    params = [list(KINDS), list(SIZES)]
    param_names = ["optimizer", "parameters"]

    def setup(self, kind, parameters):
        _, self.step = sweep(kind, parameters)

    def time_step(self, kind, parameters):
        self.step()
