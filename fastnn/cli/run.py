"""Run folders: a configuration, weights, a checkpoint and a history.

config.json               `Config`
weights.safetensors       the model's state_dict after the last epoch
checkpoint.safetensors    what ``--resume`` goes on from
history.csv               a line an epoch
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

import fastnn
from fastnn import data, models, nn
from fastnn.data import DataLoader
from fastnn.files import write_atomically


@dataclass(frozen=True)
class Set:
    """A data set that the command line knows."""

    shape: tuple[int, ...]  # of a sample as files have it
    classes: int
    scale: float  # what integer values are divided by
    normalize: data.Normalize | None = None  # and what is done to them then

    @property
    def image(self) -> tuple[int, ...]:
        """Channels, height, width."""
        return self.shape if len(self.shape) == 3 else (1, *self.shape)

    def scaled(self, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Integers (N, ...) as networks take them."""
        images = np.divide(images, self.scale, dtype=np.float32).reshape(-1, *self.image)
        return images if self.normalize is None else self.normalize((images,))[0]


# Means and deviations of the training set's pixels.
_CIFAR10 = data.Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))

SETS = {
    "digits": Set((8, 8), 10, 16.0),
    "mnist": Set((28, 28), 10, 255.0),
    "cifar10": Set((3, 32, 32), 10, 255.0, _CIFAR10),
}

_SHARED: dict[str, Any] = {
    "hidden": [],
    "dropout": 0.0,
    "optimizer": "sgd",
    "shifts": False,
    "crops": False,
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
MODELS = list(dict.fromkeys(model for model, _ in DEFAULTS))
RATES = {"sgd": 0.1, "adam": 1e-3, "adamw": 1e-3}


@dataclass
class Config:
    """All that decides the bits of a run."""

    data: str
    data_dir: str | None
    model: str
    hidden: list[int]
    dropout: float
    epochs: int
    batch_size: int
    optimizer: str
    lr: float
    schedule: str
    momentum: float
    weight_decay: float
    shifts: bool
    crops: bool
    seed: int
    version: str

    @classmethod
    def of(cls, given: dict[str, Any]) -> Config:
        """From options that were given (None: not given), with defaults for the others."""
        chosen = {name: value for name, value in given.items() if value is not None}
        pair = _model_and_data(chosen.get("model"), chosen.get("data"))
        values = {**_SHARED, **DEFAULTS[pair], **chosen}
        values["model"], values["data"] = pair
        for option in ("hidden", "dropout"):
            if option in chosen and pair[0] != "mlp":
                raise ValueError(f"--{option}: it goes with --model mlp")
        if values["crops"] and pair[1] != "cifar10":
            raise ValueError("--crops: it goes with --data cifar10")
        values.setdefault("schedule", "cosine")
        values.setdefault("seed", 0)
        values.setdefault("lr", RATES[values["optimizer"]])
        if values["optimizer"] != "sgd" and "momentum" in chosen:
            raise ValueError("--momentum: it goes with --optimizer sgd")
        values.setdefault("momentum", 0.9 if values["optimizer"] == "sgd" else 0.0)
        folder = values.get("data_dir")
        values["data_dir"] = None if folder is None else os.path.abspath(folder)
        return cls(**values, version=fastnn.__version__)

    @property
    def set(self) -> Set:
        return SETS[self.data]

    def make_model(self) -> nn.Module:
        if self.model == "mlp":
            size, classes = math.prod(self.set.shape), self.set.classes
            return models.mlp(size, self.hidden, classes, dropout=self.dropout)
        model: nn.Module = getattr(models, self.model)(self.set.classes)
        return model

    def load_data(
        self, split: str, folder: str | None = None
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Images (N, C, H, W) and labels of "train" or "test", as networks take them."""
        if self.data == "digits":
            return data.digits(split)
        if self.data == "mnist":
            return data.mnist(folder or self.data_dir, split)
        images, labels = data.cifar10(folder or self.data_dir, split, normalize=False)
        return self.set.scaled(images), labels

    def training_loader(self) -> DataLoader:
        """What the network is trained on: with `shifts`, five images for each of the set; with
        `crops`, each image moved and mirrored by chance."""
        augment: list[Any] = []
        if self.data == "cifar10":
            # Bytes are a quarter of the memory, and are moved and mirrored in a quarter of the time.
            images, labels = data.cifar10(self.data_dir, normalize=False)
            if self.crops:
                augment += [data.RandomCrop(images.shape[2], padding=4), data.RandomHorizontalFlip()]
        else:
            images, labels = self.load_data("train")
        if self.set.normalize is not None:
            augment.append(self.set.normalize)
        return DataLoader(
            Shifted(images, labels) if self.shifts else (images, labels),
            self.batch_size,
            shuffle=True,
            seed=self.seed,
            augment=data.Compose(augment) if augment else None,
        )


def _model_and_data(model: str | None, name: str | None) -> tuple[str, str]:
    """The two as given, or what goes with the one that is."""
    for pair in DEFAULTS:
        if model in (None, pair[0]) and name in (None, pair[1]):
            return pair
    sets = ", ".join(known for network, known in DEFAULTS if network == model)
    raise ValueError(f"--data {name}: --model {model} goes with {sets}")


class Shifted:
    """Images as they are, and moved by a pixel to each side: a data set five times as large."""

    moves = ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))  # where the image is cut from its padded self

    def __init__(self, images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> None:
        self.size = images.shape[2:]
        self.padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels) * len(self.moves)

    def __getitem__(
        self, index: np.ndarray[Any, np.dtype[np.int64]]
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        row, move = np.divmod(index, len(self.moves))
        height, width = self.size
        channels = self.padded.shape[1]
        images = np.empty((len(index), channels, height, width), self.padded.dtype)
        for k, (i, j) in enumerate(self.moves):
            chosen = move == k
            images[chosen] = self.padded[row[chosen], :, i : i + height, j : j + width]
        return images, self.labels[row]


class Run:
    """A run folder.

    Parameters
    ----------
    folder : str
    config : Config
    """

    def __init__(self, folder: str, config: Config) -> None:
        self.folder = folder
        self.config = config
        self.weights = os.path.join(folder, "weights.safetensors")
        self.checkpoint = os.path.join(folder, "checkpoint.safetensors")
        self.history = os.path.join(folder, "history.csv")

    @classmethod
    def make(cls, folder: str | None, config: Config) -> Run:
        """A new folder, by default the next free one under ``runs``."""
        if folder is None:
            os.makedirs("runs", exist_ok=True)
            number = 1
            while True:
                folder = os.path.join("runs", f"{config.data}-{config.model}-{number}")
                try:
                    os.mkdir(folder)
                    break
                except FileExistsError:
                    number += 1
        elif os.path.lexists(folder) and (not os.path.isdir(folder) or os.listdir(folder)):
            raise ValueError(f"--out: {folder} exists already; give another, or --resume it")
        else:
            os.makedirs(folder, exist_ok=True)
        run = cls(folder, config)
        run.save_config()
        return run

    def save_config(self) -> None:
        text = json.dumps(asdict(self.config), indent=2) + "\n"
        write_atomically(os.path.join(self.folder, "config.json"), text.encode())

    @classmethod
    def open(cls, folder: str) -> Run:
        """A folder that exists.

        Raises
        ------
        FileNotFoundError, ValueError
            If it is missing, no run folder, or its configuration damaged.
        """
        path = os.path.join(folder, "config.json")
        if not os.path.isdir(folder):
            raise FileNotFoundError(f"there is no folder {folder}")
        if not os.path.isfile(path):
            raise FileNotFoundError(f"{folder} is no run folder: it holds no config.json")
        try:
            with open(path, encoding="utf-8") as file:
                return cls(folder, _checked(json.load(file)))
        except ValueError as error:
            raise ValueError(f"{path} is damaged or no configuration of a run: {error}") from None

    def load_model(self) -> nn.Module:
        """The model with the weights that training left."""
        return self.config.make_model().load(self.weights)


def _checked(values: Any) -> Config:
    if not isinstance(values, dict) or values.keys() != {field.name for field in fields(Config)}:
        raise ValueError("its entries are not those of one")
    config = Config(**values)
    if not isinstance(config.hidden, list):
        raise ValueError("hidden must be a list of sizes")
    sizes = [config.epochs, config.batch_size, *config.hidden]
    numbers = [config.lr, config.momentum, config.weight_decay, config.dropout]
    right = (
        (config.model, config.data) in DEFAULTS
        and config.optimizer in RATES
        and config.schedule in ("cosine", "constant")
        and all(type(size) is int and size > 0 for size in sizes)
        and all(type(number) in (int, float) for number in numbers)
        and type(config.seed) is int
        and type(config.shifts) is bool
        and type(config.crops) is bool
        and isinstance(config.data_dir, (str, type(None)))
    )
    if not right:
        raise ValueError("a value is of the wrong kind")
    return config
