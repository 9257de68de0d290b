"""What a configuration means: the network, its loss, its optimizer, and the rates of its epochs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn import models, nn
from fastnn.cli.config import OPTIMIZERS, SCHEDULES, Config, takes
from fastnn.data import ClassTarget, NumberTarget
from fastnn.optim.lr_scheduler import CyclicLR, OneCycleLR
from fastnn.optim.optimizer import Optimizer
from fastnn.train import callbacks


def make_model(config: Config, shape: tuple[int, ...], outputs: int) -> nn.Module:
    """The network for samples of a shape."""
    if config.model == "mlp":
        return models.mlp(math.prod(shape), config.hidden, outputs, dropout=config.dropout)
    model: nn.Module
    if config.model in ("lenet5", "cnn"):
        model = getattr(models, config.model)(outputs, in_channels=shape[0])
    else:
        model = getattr(models, config.model)(outputs)
    return model


def check_fit(config: Config, model: nn.Module, shape: tuple[int, ...]) -> None:
    """ValueError, in the words of the command line, if a network does not take samples of a shape."""
    try:
        model.eval()(np.zeros((2, *shape), np.float32))
    except ValueError as error:
        size = "x".join(map(str, shape))
        raise ValueError(f"--model {config.model}: it does not take samples of {size}: {error}") from None


def make_loss(config: Config, target: ClassTarget | NumberTarget) -> nn.Loss:
    """Cross-entropy for classes, the mean squared error of standardised numbers."""
    if isinstance(target, NumberTarget):
        return nn.MSELoss()
    return nn.CrossEntropyLoss(np.array(config.class_weight, np.float32) if config.class_weight else None)


def make_optimizer(config: Config, model: nn.Module) -> Optimizer:
    """The optimizer that a configuration names."""
    settings: dict[str, Any] = {"lr": config.lr}
    if config.optimizer == "sgd":
        settings["momentum"] = config.momentum
    if takes(config.optimizer, "weight_decay"):
        settings["weight_decay"] = config.weight_decay
    return OPTIMIZERS[config.optimizer](model.parameters(), **settings)


def cosine(config: Config) -> Callable[[int], float]:
    """The learning rate of each epoch: constant, or along a half cosine (Loshchilov and Hutter,
    2017, eq. 5, without restarts) that would reach zero one epoch after the last."""
    if config.schedule == "constant":
        return lambda epoch: config.lr
    return lambda epoch: config.lr * 0.5 * (1 + math.cos(math.pi * epoch / config.epochs))


def make_schedule(config: Config, optimizer: Optimizer, batches: int) -> callbacks.Callback:
    """The callback that sets the rates: the two plain schedules know the epochs, PyTorch's have settings.

    Settings that follow from the rest of the configuration need not be given: the highest rate is ``--lr``, the length
    of a schedule the whole training. Cycles go by the step, the others by the epoch, if ``every`` does not say another.
    """
    if config.schedule not in SCHEDULES:
        return callbacks.LearningRateScheduler(cosine(config))
    kind = SCHEDULES[config.schedule]
    settings = dict(config.settings)
    every = settings.pop("every", "step" if kind in (CyclicLR, OneCycleLR) else "epoch")
    length = config.epochs * (batches if every == "step" else 1)
    by_name: dict[str, dict[str, Any]] = {
        "CosineAnnealingLR": {"T_max": length},
        "CosineAnnealingWarmRestarts": {"T_0": max(length // 3, 1)},
        "CyclicLR": {"base_lr": config.lr / 10, "max_lr": config.lr, "step_size_up": max(length // 10, 1)},
        "InverseTimeLR": {"decay_steps": 1, "decay_rate": 0.1},
        "OneCycleLR": {"max_lr": config.lr, "total_steps": length},
        "PolynomialLR": {"total_iters": length},
        "StepLR": {"step_size": max(length // 3, 1)},
        "MultiStepLR": {"milestones": [length // 2, 3 * length // 4]},
        "ExponentialLR": {"gamma": 0.95},
    }
    usual = by_name.get(config.schedule, {})
    momentum = {"momentum", "betas"} & optimizer.defaults.keys()
    if kind in (CyclicLR, OneCycleLR) and not momentum:
        usual = {**usual, "cycle_momentum": False}
    try:
        schedule = kind(optimizer, **{**usual, **settings})
        return callbacks.Scheduler(schedule, every)
    except (TypeError, ValueError) as error:
        message = str(error).replace(f"{config.schedule}.__init__() ", "")
        raise ValueError(f"--schedule {config.schedule}: {message}") from None
