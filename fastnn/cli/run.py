"""Run folders: a configuration, weights, a checkpoint and a history.

config.json               `Config`
weights.safetensors       the model's state_dict after the last epoch
checkpoint.safetensors    what ``--resume`` goes on from
history.csv               a line an epoch
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import math
import os
import shlex
import sys
import warnings
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeAlias

import numpy as np

import fastnn
from fastnn import _check, data, models, nn
from fastnn.data import DataLoader, _folders
from fastnn.files import named, read_forms, write_atomically
from fastnn.train.checkpoint import read_checkpoint

Samples: TypeAlias = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]  # images and labels

_LARGEST_CONFIG = 1 << 20  # bytes
_LARGEST_SIZE = 2**31  # of a layer, a batch
_HELD_OUT = 0.1  # of the training data, for validation
_NO_EPOCH = 2**64 - 1  # the words of a seed that no epoch draws


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

#: Learning rates by optimizer.
RATES = {
    "sgd": 0.1,
    "adagrad": 1e-2,
    "adadelta": 1.0,
    "rmsprop": 1e-3,
    "adam": 1e-3,
    "adamw": 1e-3,
    "adamax": 2e-3,
    "nadam": 2e-3,
    "radam": 1e-3,
    "lion": 1e-4,
}


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
                raise ValueError(f"--{option}: it goes with --model mlp, not {pair[0]}; leave it out")
        if values["crops"] and pair[1] != "cifar10":
            raise ValueError(f"--crops: it goes with --data cifar10, not {pair[1]}; leave it out")
        values.setdefault("schedule", "cosine")
        values.setdefault("seed", 0)
        values.setdefault("lr", RATES[values["optimizer"]])
        if values["optimizer"] != "sgd" and "momentum" in chosen:
            raise ValueError(f"--momentum: it goes with --optimizer sgd, not {values['optimizer']}; leave it out")
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

    def load_data(self, split: str, folder: str | None) -> Samples:
        """Images (N, C, H, W) and labels of "train", "validation" or "test", as networks take them; see
        Run.data_folder."""
        whole = self._read("test" if split == "test" else "train", folder)
        return self._as_taken(whole if split == "test" else self._parts(whole)[split])

    def training_data(self, folder: str | None) -> tuple[DataLoader, Samples]:
        """What the network is trained on, and what it is validated on, as `load_data` gives it.

        With `shifts` it is trained on five images for each of the set; with `crops`, each image is moved and
        mirrored by chance.
        """
        parts = self._parts(self._read("train", folder))
        augment: list[Any] = []
        if self.data == "cifar10":
            # Bytes are a quarter of the memory, and are moved and mirrored in a quarter of the time.
            images, labels = parts["train"]
            if self.crops:
                augment += [data.RandomCrop(images.shape[2], padding=4), data.RandomHorizontalFlip()]
        else:
            images, labels = self._as_taken(parts["train"])
        if self.set.normalize is not None:
            augment.append(self.set.normalize)
        loader = DataLoader(
            Shifted(images, labels) if self.shifts else (images, labels),
            self.batch_size,
            shuffle=True,
            seed=self.seed,
            augment=data.Compose(augment) if augment else None,
        )
        return loader, self._as_taken(parts["validation"])

    def _read(self, split: str, folder: str | None) -> Samples:
        """Images and labels of "train" or "test" as the set has them."""
        if self.data == "digits":
            return data.digits(split)
        return {"mnist": data.mnist, "cifar10": data.cifar10}[self.data](split, folder, normalize=False)

    def _as_taken(self, samples: Samples) -> Samples:
        images, labels = samples
        return (images if images.dtype == np.float32 else self.set.scaled(images)), labels

    def _parts(self, samples: Samples) -> dict[str, Samples]:
        """The training data in two: a tenth, which the seed chooses, is for validation."""
        images, labels = samples
        words = np.random.Philox(key=np.array([self.seed, _NO_EPOCH], np.uint64)).random_raw(len(labels))
        held_out = np.zeros(len(labels), bool)
        held_out[np.argsort(words, kind="stable")[: max(1, round(_HELD_OUT * len(labels)))]] = True
        return {
            "train": (images[~held_out], labels[~held_out]),
            "validation": (images[held_out], labels[held_out]),
        }


def _model_and_data(model: str | None, name: str | None) -> tuple[str, str]:
    """The two as given, or what goes with the one that is."""
    for pair in DEFAULTS:
        if model in (None, pair[0]) and name in (None, pair[1]):
            return pair
    sets = ", ".join(known for network, known in DEFAULTS if network == model)
    raise ValueError(f"--data: --model {model} goes with {sets}, got {name}")


class Shifted:
    """Images as they are, and moved by a pixel to each side: a data set five times as large."""

    moves = ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))  # where the image is cut from its padded self

    def __init__(self, images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> None:
        self.size = images.shape[2:]
        self.padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels) * len(self.moves)

    def __getitem__(self, index: np.ndarray[Any, np.dtype[np.int64]]) -> Samples:
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
        return cls(folder, config)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Let no other process train this run, until the block ends or this process does, however it ends.

        The system locks the folder itself, so that nothing is left behind; a file system that cannot is warned of.
        """
        import fcntl

        place = os.open(self.folder, os.O_RDONLY)
        try:
            try:
                fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(f"{self.folder}: another process is training this run; wait for its end") from None
            except OSError as error:
                reason = error.strerror
                warnings.warn(f"{self.folder} cannot be locked ({reason}); train it in one process alone", stacklevel=3)
            yield
        finally:
            os.close(place)

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
            raise FileNotFoundError(f"RUN: there is no folder {folder}; fastnn train makes one")
        if not os.path.isfile(path):
            raise FileNotFoundError(f"{folder} is no run folder: it holds no config.json")
        try:
            with named(path), open(path, "rb") as file:
                text = file.read(_LARGEST_CONFIG + 1)
            if len(text) > _LARGEST_CONFIG:
                raise ValueError(f"it has more than {_LARGEST_CONFIG} bytes")
            return cls(folder, _checked(json.loads(text)))
        except RecursionError:
            raise ValueError(f"{path} is damaged or no configuration of a run: it is nested too deeply") from None
        except ValueError as error:
            problem = _check.brief(str(error), str)
            raise ValueError(f"{path} is damaged or no configuration of a run: {problem}") from None

    def load_model(self) -> nn.Module:
        """The model with the weights that training left.

        Raises
        ------
        FileNotFoundError, ValueError
            If they are missing, which is so until the first epoch is done, or damaged.
        """
        if not os.path.lexists(self.weights):
            raise FileNotFoundError(self._why_no_weights())
        self.check_size(self.weights)
        return self.config.make_model().load(self.weights)

    def _why_no_weights(self) -> str:
        if os.path.lexists(self.checkpoint):
            self.check_size(self.checkpoint, "model/")
            if read_checkpoint(self.checkpoint)[0]["epoch"]:
                return f"there is no file {self.weights}"
            way = f"go on with: fastnn train --resume {shlex.quote(self.folder)}"
        else:
            way = "begin a new run"
        return f"{self.folder} has no weights yet, since no epoch of its training is done; {way}"

    def check_size(self, path: str, prefix: str = "") -> None:
        """ValueError unless a file's tensors with a prefix have as many numbers as the network that the
        configuration describes: before memory is taken for that."""
        if self.config.model != "mlp":  # the others have one size, and a small one
            return
        forms = read_forms(path)
        held = sum(math.prod(shape) for name, (_, shape) in forms.items() if name.startswith(prefix))
        sizes = [math.prod(self.config.set.shape), *self.config.hidden, self.config.set.classes]
        wanted = sum((inputs + 1) * outputs for inputs, outputs in itertools.pairwise(sizes))
        if held != wanted:
            raise ValueError(
                f"{path} holds {held} numbers, and the network of {os.path.join(self.folder, 'config.json')} has "
                f"{_check.brief(wanted)}"
            )

    def data_folder(self, given: str | None) -> str | None:
        """The folder of the data files: the one that the command line gives, or the configuration's.

        A run folder may be a stranger's, and what its configuration names anything: a share of another machine,
        say. So the latter is taken only if it lies where data are looked for anyway or in the run folder, or if
        this user has named it with --data-dir before.
        """
        if given is not None:
            remember_data_folder(given)
            return given
        folder = self.config.data_dir
        if folder is None or self.config.data == "digits":
            return None
        real = os.path.realpath(folder) if _is_local(folder) else folder
        for place in (self.folder, *_folders.places(None)):
            place = os.path.realpath(place)
            if real == place or real.startswith(os.path.join(place, "")):
                return folder
        if os.path.isfile(_mark_of(folder)):
            return folder
        raise ValueError(
            f"{os.path.join(self.folder, 'config.json')} names the data folder {_check.brief(folder)}, which was not "
            "given by --data-dir on this computer before; if its files are to be read, say so with --data-dir"
        )


def remember_data_folder(folder: str) -> None:
    """Note that the user named a folder of data, so that later commands on the run find it by its configuration."""
    folder = os.path.abspath(folder)
    mark = _mark_of(folder)
    if not os.path.isfile(mark):
        with contextlib.suppress(OSError):  # a home that cannot be written to: later commands will ask
            os.makedirs(os.path.dirname(mark), mode=0o700, exist_ok=True)
            write_atomically(mark, os.fsencode(folder))


def _mark_of(folder: str) -> str:
    """The file that is there once the user has named a folder."""
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()
    return os.path.join(_folders.cache_folder(), "data-folders", digest[:32])


def _is_local(folder: str) -> bool:
    """Whether a path may be looked at: on Windows, a look at another machine's tells it who the user is."""
    return os.path.isabs(folder) and not folder.startswith(("\\\\", "//"))


def _checked(values: Any) -> Config:
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

    right = {
        "data": is_name(config.data, SETS),
        "model": is_name(config.model, [model for model, data in DEFAULTS if data == config.data]),
        "data_dir": config.data_dir is None or is_path(config.data_dir),
        "hidden": isinstance(config.hidden, list) and len(config.hidden) <= 1000 and all(map(is_size, config.hidden)),
        "dropout": is_number(config.dropout, 1),
        "epochs": is_size(config.epochs),
        "batch_size": is_size(config.batch_size),
        "optimizer": is_name(config.optimizer, RATES),
        "lr": is_number(config.lr),
        "schedule": is_name(config.schedule, ("cosine", "constant")),
        "momentum": is_number(config.momentum),
        "weight_decay": is_number(config.weight_decay),
        "shifts": type(config.shifts) is bool,
        "crops": type(config.crops) is bool and (config.data == "cifar10" or not config.crops),
        "seed": type(config.seed) is int and 0 <= config.seed < 2**63,
        "version": isinstance(config.version, str) and config.version.isprintable() and len(config.version) < 100,
    }
    for field, fits in right.items():
        if not fits:
            raise ValueError(f"{field} cannot be {_check.brief(values[field])}")
    return config
