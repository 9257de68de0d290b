"""One sweep of an optimizer over its flat arrays."""

from __future__ import annotations

import functools

import numpy as np

from fastnn import nn, optim

from .common import warm

#: By name: class, settings, and how many arrays of the parameters' size an update reads or writes at least.
KINDS = {
    "sgd": ("SGD", {}, 3),
    "sgd, momentum": ("SGD", {"momentum": 0.9}, 5),
    "adagrad": ("Adagrad", {}, 5),
    "adadelta": ("Adadelta", {}, 7),
    "rmsprop": ("RMSprop", {}, 5),
    "rmsprop, momentum, centered": ("RMSprop", {"momentum": 0.9, "centered": True}, 9),
    "rprop": ("Rprop", {}, 7),
    "adam": ("Adam", {}, 7),
    "amsgrad": ("Adam", {"amsgrad": True}, 9),
    "adamw": ("AdamW", {}, 7),
    "adamax": ("Adamax", {}, 7),
    "nadam": ("NAdam", {}, 7),
    "radam": ("RAdam", {}, 7),
    "lion": ("Lion", {}, 5),
    "sgd, averaged": ("SGD", {"averaging": 0.995}, 5),
    "adam, averaged": ("Adam", {"averaging": 0.995}, 9),
}
SIZES = {"10 thousand": 100, "1 million": 1000, "16 million": 4000}


@functools.cache
def sweep(kind: str, parameters: str):
    model = nn.Linear(SIZES[parameters], SIZES[parameters], bias=False)
    name, settings, _ = KINDS[kind]
    if not hasattr(optim, name):
        raise NotImplementedError(name)  # an older commit
    opt = getattr(optim, name)(list(model.parameters()), lr=1e-5, **settings)
    model.weight.grad = np.full(model.weight.shape, 0.5, np.float32)
    return model, warm(opt.step)


class Optimizer:
    params = [list(KINDS), list(SIZES)]
    param_names = ["optimizer", "parameters"]

    def setup(self, kind, parameters):
        _, self.step = sweep(kind, parameters)

    def time_step(self, kind, parameters):
        self.step()
