"""Elements by labels, and what is trained through them: an embedding of 100 000 words, of which a batch names 5120."""

from __future__ import annotations

import functools
import inspect

import numpy as np

import fastnn as fn
from fastnn import nn, optim
from fastnn.graph import Tensor

from .common import array, kernel, warm

PLACES = np.random.default_rng(1).integers(0, 512, 512)
CHOICES = {
    "x[rows]": lambda x: x[PLACES],
    "x[:, columns]": lambda x: x[:, PLACES],
    "x.gather": lambda x: x.gather(1, np.broadcast_to(PLACES[:, None], (512, 1024)).copy()),
    "x.argmax(1)": lambda x: x.argmax(1),
    "x.topk(10)": lambda x: x.topk(10)[0],
}


@functools.cache
def choice(name: str, wrt: int | None):
    if not hasattr(fn, "gather") or ("topk" in name and not hasattr(Tensor, "topk")):
        raise NotImplementedError("no indexing by labels, or no topk")
    return kernel(CHOICES[name], array(512, 1024), wrt=wrt)


class Index:
    params = list(CHOICES)
    param_names = ["what"]

    def setup(self, name):
        self.run = choice(name, None)

    def time_half_a_million(self, name):
        self.run()


class IndexGradient:
    params = [name for name in CHOICES if "argmax" not in name]
    param_names = ["of"]

    def setup(self, name):
        self.run = choice(name, 0)

    def time_half_a_million(self, name):
        self.run()


class Bag(nn.Module):
    """The mean of words' features, and a number of it."""

    def __init__(self, **settings: bool):
        super().__init__()
        self.words, self.head = nn.Embedding(100_000, 64, **settings), nn.Linear(64, 1)

    def forward(self, x):
        return self.head(self.words(x).mean(1))


OPTIMIZERS = {
    "SGD": ({}, lambda p: optim.SGD(p, lr=0.1)),
    "SGD, sparse": ({"sparse": True}, lambda p: optim.SGD(p, lr=0.1)),
    "Adam": ({}, lambda p: optim.Adam(p)),
}


@functools.cache
def bag(name: str | None):
    """A training step, or without an optimizer a forward pass."""
    settings, make = OPTIMIZERS[name] if name else ({}, None)
    if not hasattr(nn, "Embedding") or settings.keys() - inspect.signature(nn.Embedding).parameters.keys():
        raise NotImplementedError("no such Embedding")
    model, words = Bag(**settings), np.random.default_rng(2).integers(0, 100_000, (256, 20))
    if make is None:
        return warm(lambda: model(words))
    step = fn.TrainStep(model, nn.MSELoss(), make(model.parameters()))
    target = array(256, 1)
    return warm(lambda: step(words, target))


class Embedding:
    def setup(self):
        self.run = bag(None)

    def time_forward(self):
        self.run()


class EmbeddingStep:
    params = list(OPTIMIZERS)
    param_names = ["optimizer"]

    def setup(self, name):
        self.run = bag(name)

    def time_step(self, name):
        self.run()
