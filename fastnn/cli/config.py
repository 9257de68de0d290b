"""What decides the bits of a run: options, their defaults by data and model, and what a file may say."""

from __future__ import annotations

import inspect
import json
import math
import os
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from typing import Any

import fastnn
from fastnn import _check, models, optim
from fastnn.optim import lr_scheduler
from fastnn.optim.optimizer import Optimizer

_LARGEST_SIZE = 2**31  # of a layer, a batch

_SHARED: dict[str, Any] = {
    "files": [],
    "delimiter": None,
    "decimal": ".",
    "fingerprint": None,
    "hidden": [],
    "dropout": 0.0,
    "optimizer": "sgd",
    "schedule": "cosine",
    "settings": {},
    "class_weight": [],
    "val_fraction": 0.1,
    "early_stopping": None,
    "shifts": False,
    "crops": False,
    "seed": 0,
}
_RESNET: dict[str, Any] = {
    "epochs": 40,
    "batch_size": 128,
    "weight_decay": 5e-4,
    "crops": True,
}
#: Options by model and data set; the first set of a model is its default, and so is the first model
#: of a set.
DEFAULTS: dict[tuple[str, str], dict[str, Any]] = {
    ("mlp", "digits"): {
        "hidden": [256, 128],
        "epochs": 20,
        "batch_size": 64,
        "dropout": 0.3,
        "weight_decay": 1e-4,
        "shifts": True,
    },
    ("mlp", "mnist"): {
        "hidden": [225, 144],
        "epochs": 5,
        "batch_size": 128,
        "dropout": 0.1,
        "weight_decay": 1e-5,
        "shifts": True,
    },
    ("lenet5", "mnist"): {
        "epochs": 10,
        "batch_size": 64,
        "lr": 0.05,
        "weight_decay": 1e-4,
    },
    ("resnet20", "cifar10"): _RESNET,
    ("resnet32", "cifar10"): _RESNET,
    ("resnet56", "cifar10"): _RESNET,
    ("resnet110", "cifar10"): _RESNET,
}
NAMED = list(dict.fromkeys(data for _, data in DEFAULTS))

#: The kinds of data of one's own, with the options of an mlp and of a network for images.
OWN = ("table", "arrays", "images")
OWN_DEFAULTS: dict[str, dict[str, Any]] = {
    "mlp": {"hidden": [64, 32], "epochs": 100, "batch_size": 32, "optimizer": "adam", "weight_decay": 1e-4},
    "images": {"epochs": 20, "batch_size": 32, "optimizer": "adam", "weight_decay": 1e-4},
}
#: Networks for images of one's own: those of fastnn.models that are told the number of classes.
IMAGE_MODELS = [
    name
    for name in models.__all__
    if name.islower() and {"num_classes", "classes"} & inspect.signature(getattr(models, name)).parameters.keys()
]
MODELS = ["mlp", *(name for name in IMAGE_MODELS if name != "mlp")]

#: Learning rates that are not the optimizers' own.
_RATES = {"sgd": 0.1, "rmsprop": 1e-3}


def _optimizers() -> dict[str, type[Optimizer]]:
    """Those that are told a rate, and what the others may do without."""
    classes = (getattr(optim, name) for name in optim.__all__)
    found = {}
    for kind in classes:
        if isinstance(kind, type) and issubclass(kind, Optimizer):
            rate = inspect.signature(kind).parameters.get("lr")
            if rate is not None and isinstance(rate.default, float):
                found[kind.__name__.lower()] = kind
    return found


OPTIMIZERS = _optimizers()
#: Learning rates by optimizer.
RATES = {name: _RATES.get(name, inspect.signature(kind).parameters["lr"].default) for name, kind in OPTIMIZERS.items()}

#: The schedules that plain settings describe, by PyTorch's names.
SCHEDULES: dict[str, Callable[..., lr_scheduler.LRScheduler]] = {
    name: kind
    for name, kind in vars(lr_scheduler).items()
    if isinstance(kind, type)
    and issubclass(kind, lr_scheduler.LRScheduler)
    and kind is not lr_scheduler.LRScheduler
    and not name.startswith("_")
    and not {"lr_lambda", "schedulers"} & inspect.signature(kind).parameters.keys()
}
PLAIN_SCHEDULES = ("cosine", "constant")


def takes(optimizer: str, setting: str) -> bool:
    """Whether an optimizer has a setting."""
    return setting in inspect.signature(OPTIMIZERS[optimizer]).parameters


@dataclass
class Config:
    """All that decides the bits of a run, beside the recipe of one's own data."""

    data: str
    data_dir: str | None
    files: list[str]
    delimiter: str | None
    decimal: str
    fingerprint: int | None
    model: str
    hidden: list[int]
    dropout: float
    epochs: int
    batch_size: int
    optimizer: str
    lr: float
    schedule: str
    settings: dict[str, Any]
    momentum: float
    weight_decay: float
    class_weight: list[float]
    val_fraction: float
    early_stopping: int | None
    shifts: bool
    crops: bool
    seed: int
    version: str

    @classmethod
    def of(cls, given: dict[str, Any]) -> Config:
        """Of a known set, from options that were given (None: not given), with defaults for the others."""
        chosen = {name: value for name, value in given.items() if value is not None}
        pair = _model_and_data(chosen.get("model"), chosen.get("data"))
        if chosen.get("crops") and pair[1] != "cifar10":
            raise ValueError(f"--crops: it goes with --data cifar10, not {pair[1]}; leave it out")
        return cls._completed({**DEFAULTS[pair], **chosen, "model": pair[0], "data": pair[1]}, chosen)

    @classmethod
    def own(cls, given: dict[str, Any], shape: tuple[int, ...]) -> Config:
        """Of the user's own data, whose samples have a shape."""
        chosen = {name: value for name, value in given.items() if value is not None}
        images = len(shape) == 3
        # Below 8 pixels there is not much to pool.
        model = chosen.get("model", "cnn" if images and min(shape[1:]) >= 8 else "mlp")
        if model != "mlp" and not images:
            raise ValueError(f"--model {model}: it takes images, and a sample here has {shape[0]} features; use mlp")
        for option in ("shifts", "crops"):
            if chosen.get(option) and not images:
                raise ValueError(f"--{option}: it goes with images, and a sample here has {shape[0]} features")
        defaults = OWN_DEFAULTS["mlp" if model == "mlp" else "images"]
        return cls._completed({**defaults, **chosen, "model": model}, chosen)

    @classmethod
    def _completed(cls, values: dict[str, Any], chosen: dict[str, Any]) -> Config:
        values = {**_SHARED, **values}
        model, optimizer = values["model"], values["optimizer"]
        for option in ("hidden", "dropout"):
            if option in chosen and model != "mlp":
                raise ValueError(f"--{option}: it goes with --model mlp, not {model}; leave it out")
        if values["shifts"] and values["crops"]:
            raise ValueError("--shifts: with --crops images are moved already; leave one of them out")
        values.setdefault("lr", RATES[optimizer])
        for setting, usual in (("momentum", 0.9 if optimizer == "sgd" else 0.0), ("weight_decay", 0.0)):
            if setting == "momentum" and optimizer != "sgd" and setting in chosen:
                raise ValueError(f"--momentum: it goes with --optimizer sgd, not {optimizer}; leave it out")
            if not takes(optimizer, setting):
                if setting in chosen:
                    raise ValueError(f"--{setting.replace('_', '-')}: --optimizer {optimizer} has none; leave it out")
                values[setting] = 0.0
            values.setdefault(setting, usual)
        folder = values.get("data_dir")
        values["data_dir"] = None if folder is None else os.path.abspath(folder)
        return cls(**values, version=fastnn.__version__)


def _model_and_data(model: str | None, name: str | None) -> tuple[str, str]:
    """The two as given, or what goes with the one that is."""
    for pair in DEFAULTS:
        if model in (None, pair[0]) and name in (None, pair[1]):
            return pair
    sets = ", ".join(known for network, known in DEFAULTS if network == model)
    if not sets:
        raise ValueError(f"--data: --model {model} goes with images of your own, got {name or 'no data'}")
    raise ValueError(f"--data: --model {model} goes with {sets}, got {name}")


def schedule_of(words: list[str]) -> dict[str, Any]:
    """The schedule that the command line names, with its settings: NAME SETTING=VALUE ..."""
    name, *rest = words
    if name not in PLAIN_SCHEDULES and name not in SCHEDULES:
        raise ValueError(f"--schedule: {_check.brief(name)} is none of {', '.join((*PLAIN_SCHEDULES, *SCHEDULES))}")
    settings = {}
    for word in rest:
        setting, equals, text = word.partition("=")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        if not (setting and equals and is_setting(value)):
            raise ValueError(f"--schedule: expected settings such as gamma=0.5 after {name}, got {_check.brief(word)}")
        settings[setting] = value
    if settings and name in PLAIN_SCHEDULES:
        raise ValueError(f"--schedule: {name} has no settings, got {_check.some(settings)}")
    return {"schedule": name, "settings": settings}


def is_setting(value: Any) -> bool:
    """Whether a schedule may have this value: a number, a text, a truth value, or a list of such."""
    if isinstance(value, list):
        return (
            len(value) <= 1000 and not any(isinstance(entry, list) for entry in value) and all(map(is_setting, value))
        )
    return isinstance(value, (bool, str)) or (type(value) in (int, float) and abs(value) <= sys.float_info.max)


def checked(values: Any) -> Config:
    """The configuration that JSON describes; ValueError for any other."""
    if not isinstance(values, dict) or values.keys() != {field.name for field in fields(Config)}:
        raise ValueError("its entries are not those of one")
    config = Config(**values)

    def is_size(value: Any) -> bool:
        return type(value) is int and 0 < value <= _LARGEST_SIZE

    def is_number(value: Any, end: float = math.inf) -> bool:
        return type(value) in (int, float) and 0 <= value <= min(end, sys.float_info.max)

    def is_name(value: Any, known: Collection[str]) -> bool:
        return isinstance(value, str) and value in known

    def is_path(value: Any) -> bool:
        try:
            return isinstance(value, str) and b"\0" not in os.fsencode(value)
        except UnicodeEncodeError:
            return False

    own = config.data in OWN if isinstance(config.data, str) else False
    known = MODELS if own else [model for model, data in DEFAULTS if data == config.data]
    right = {
        "data": own or is_name(config.data, NAMED),
        "model": is_name(config.model, known),
        "data_dir": config.data_dir is None or (is_path(config.data_dir) and not own),
        "files": isinstance(config.files, list) and len(config.files) <= 2 and all(map(is_path, config.files))
        and bool(config.files) is own,
        "delimiter": config.delimiter is None or (isinstance(config.delimiter, str) and len(config.delimiter) == 1),
        "decimal": is_name(config.decimal, (".", ",")),
        "fingerprint": type(config.fingerprint) is int if own else config.fingerprint is None,
        "hidden": isinstance(config.hidden, list) and len(config.hidden) <= 1000 and all(map(is_size, config.hidden)),
        "dropout": is_number(config.dropout, 1),
        "epochs": is_size(config.epochs),
        "batch_size": is_size(config.batch_size),
        "optimizer": is_name(config.optimizer, RATES),
        "lr": is_number(config.lr),
        "schedule": is_name(config.schedule, (*PLAIN_SCHEDULES, *SCHEDULES)),
        "settings": isinstance(config.settings, dict) and all(map(is_setting, config.settings.values())),
        "momentum": is_number(config.momentum),
        "weight_decay": is_number(config.weight_decay),
        "class_weight": isinstance(config.class_weight, list) and all(map(is_number, config.class_weight)),
        "val_fraction": is_number(config.val_fraction, 1) and 0 < config.val_fraction < 1,
        "early_stopping": config.early_stopping is None or is_size(config.early_stopping),
        "shifts": type(config.shifts) is bool,
        "crops": type(config.crops) is bool and (config.data == "cifar10" or own or not config.crops),
        "seed": type(config.seed) is int and 0 <= config.seed < 2**63,
        "version": isinstance(config.version, str) and config.version.isprintable() and len(config.version) < 100,
    }  # fmt: skip
    for field, fits in right.items():
        if not fits:
            raise ValueError(f"{field} cannot be {_check.brief(values[field])}")
    return config
