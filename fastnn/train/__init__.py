"""Training: single steps, whole runs, callbacks, metrics, checkpoints."""

from fastnn.train import callbacks, metrics
from fastnn.train.callbacks import Callback, History
from fastnn.train.checkpoint import load_checkpoint, save_checkpoint
from fastnn.train.minimize import minimize
from fastnn.train.monitor import Measurements, Monitor, measure_checkpoints
from fastnn.train.range_test import RangeTest, lr_range_test
from fastnn.train.step import TrainStep
from fastnn.train.trainer import Trainer

__all__ = [
    "Callback",
    "History",
    "Measurements",
    "Monitor",
    "RangeTest",
    "TrainStep",
    "Trainer",
    "callbacks",
    "load_checkpoint",
    "lr_range_test",
    "measure_checkpoints",
    "metrics",
    "minimize",
    "save_checkpoint",
]
