"""Training: single steps, whole runs, callbacks, metrics, checkpoints.

TrainStep makes single steps, Trainer whole runs; callbacks and metrics have rooms of their own.
lr_range_test tries learning rates; Monitor, measure_checkpoints and Signals look into a network while it trains, and
afterwards.
"""

from fastnn.train import callbacks, metrics
from fastnn.train.averaging import averaged, update_bn
from fastnn.train.callbacks import Callback, History
from fastnn.train.checkpoint import load_checkpoint, save_checkpoint
from fastnn.train.ensemble import Ensemble
from fastnn.train.minimize import minimize
from fastnn.train.monitor import Measurements, Monitor, Signals, measure_checkpoints
from fastnn.train.newton import newton
from fastnn.train.range_test import RangeTest, lr_range_test
from fastnn.train.step import TrainStep
from fastnn.train.trainer import Trainer

__all__ = [
    "Callback",
    "Ensemble",
    "History",
    "Measurements",
    "Monitor",
    "RangeTest",
    "Signals",
    "TrainStep",
    "Trainer",
    "averaged",
    "callbacks",
    "load_checkpoint",
    "lr_range_test",
    "measure_checkpoints",
    "metrics",
    "minimize",
    "newton",
    "save_checkpoint",
    "update_bn",
]
