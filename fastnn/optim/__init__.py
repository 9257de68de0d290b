"""Optimizers, simplest first. Parameters, gradients and state lie in flat arrays, swept once a step.

`optim.lr_scheduler` has the learning-rate schedules.
"""

from fastnn.optim.optimizer import Group, Optimizer
from fastnn.optim.sgd import SGD

from fastnn.optim import lr_scheduler  # isort: skip
from fastnn.optim.adagrad import Adagrad  # isort: skip
from fastnn.optim.adadelta import Adadelta  # isort: skip
from fastnn.optim.rmsprop import RMSprop  # isort: skip
from fastnn.optim.rprop import Rprop  # isort: skip
from fastnn.optim.adam import Adam, AdamW  # isort: skip
from fastnn.optim.adamax import Adamax  # isort: skip
from fastnn.optim.nadam import NAdam  # isort: skip
from fastnn.optim.radam import RAdam  # isort: skip
from fastnn.optim.lion import Lion  # isort: skip
from fastnn.optim.custom import Custom  # isort: skip

__all__ = [
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Custom",
    "Group",
    "Lion",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "Rprop",
    "lr_scheduler",
]
