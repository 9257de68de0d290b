"""Optimizers, simplest first. Parameters, gradients and state lie in flat arrays, swept once a step."""

from fastnn.optim.optimizer import Group, Optimizer
from fastnn.optim.sgd import SGD

from fastnn.optim.rmsprop import RMSprop  # isort: skip
from fastnn.optim.adam import Adam, AdamW  # isort: skip

__all__ = ["SGD", "Adam", "AdamW", "Group", "Optimizer", "RMSprop"]
