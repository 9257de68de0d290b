"""Run folders: a configuration, weights, a checkpoint and a history.

config.json               `Config`
recipe.json               how one's own data become what the network takes
weights.safetensors       the model's state_dict after the last epoch
checkpoint.safetensors    what ``--resume`` goes on from
history.csv               a line an epoch
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import math
import os
import shlex
import warnings
from collections.abc import Iterator
from dataclasses import asdict

from fastnn import _check, nn
from fastnn.cli.config import OWN, Config, checked
from fastnn.cli.learning import make_model
from fastnn.cli.own import Own, Recipe, read_recipe
from fastnn.cli.sets import Named
from fastnn.data import _folders
from fastnn.files import named, read_forms, write_atomically
from fastnn.train.checkpoint import read_checkpoint

_LARGEST_CONFIG = 1 << 20  # bytes


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
        self.recipe_file = os.path.join(folder, "recipe.json")

    @classmethod
    def make(cls, folder: str | None, config: Config) -> Run:
        """A new folder, by default the next free one under ``runs``."""
        if folder is None:
            os.makedirs("runs", exist_ok=True)
            number = 1
            while True:
                folder = os.path.join("runs", f"{_stem(config)}-{config.model}-{number}")
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

    @functools.cached_property
    def recipe(self) -> Recipe:
        """How the user's own data become what the network takes.

        Raises
        ------
        FileNotFoundError, ValueError
            If the file is missing or damaged.
        """
        if not os.path.isfile(self.recipe_file):
            raise FileNotFoundError(f"{self.folder} holds no recipe.json, which says how its data are read")
        return read_recipe(self.recipe_file)

    def source(self, given: str | list[str] | None = None, asked: bool = True) -> Named | Own:
        """The data of the run.

        Parameters
        ----------
        given : str or list of str, optional
            Where the command line says that they are: the folder of a known set, or the files of one's own.
        asked : bool, default True
            Whether they will be read.
        """
        source: Named | Own
        if self.config.data in OWN:
            if isinstance(given, str):
                raise ValueError("--data-dir: the run has data of your own; say where they are with --data")
            source = Own(self.config, self.recipe, self.data_files(given) if asked else [])
        else:
            if isinstance(given, list):
                raise ValueError(f"--data: the run has the set {self.config.data}; say where it is with --data-dir")
            source = Named(self.config, self.data_folder(given) if asked else None)
        self._check_together(source)
        return source

    def _check_together(self, source: Named | Own) -> None:
        """ValueError unless configuration and recipe are of one run."""
        config, outputs = self.config, source.target.outputs
        problem = None
        if len(config.class_weight) not in (0, outputs):
            problem = f"class_weight has {len(config.class_weight)} numbers for {outputs} outputs"
        elif len(source.shape) != 3 and (config.model != "mlp" or config.shifts or config.crops):
            problem = f"model {config.model}, shifts and crops go with images, and a sample has shape {source.shape}"
        if problem is not None:
            raise ValueError(f"{os.path.join(self.folder, 'config.json')}: {problem}")

    def save_config(self) -> None:
        text = json.dumps(asdict(self.config), indent=2) + "\n"
        write_atomically(os.path.join(self.folder, "config.json"), text.encode())

    def save_recipe(self, recipe: Recipe) -> None:
        recipe.save(self.recipe_file)

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
            return cls(folder, checked(json.loads(text)))
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
        source = self.source(asked=False)
        return make_model(self.config, source.shape, source.target.outputs).load(self.weights)

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
        config, source = self.config, self.source(asked=False)
        forms = {name: shape for name, (_, shape) in read_forms(path).items() if name.startswith(prefix)}
        if config.model != "mlp":  # the others have one size, and a small one, but for their first and last layers
            if config.data in OWN and not (
                any(len(shape) == 4 and shape[1] == source.shape[0] for shape in forms.values())
                and any(len(shape) == 2 and shape[0] == source.target.outputs for shape in forms.values())
            ):
                raise ValueError(f"{path} does not fit the network of {self.recipe_file}")
            return
        held = sum(map(math.prod, forms.values()))
        sizes = [math.prod(source.shape), *config.hidden, source.target.outputs]
        wanted = sum((inputs + 1) * outputs for inputs, outputs in itertools.pairwise(sizes))
        if held != wanted:
            raise ValueError(
                f"{path} holds {held} numbers, and the network of {os.path.join(self.folder, 'config.json')} has "
                f"{_check.brief(wanted)}"
            )

    def data_files(self, given: list[str] | None) -> list[str]:
        """The files of one's own data: those that the command line gives, or the configuration's.

        The latter as with `data_folder`: only if the user has named them before, or where they lie in the run folder or
        where data are looked for anyway.
        """
        if given is not None:
            files = [os.path.abspath(name) for name in given]
            for name in files:
                remember(name)
            return files
        for name in self.config.files:
            if not self._may_read(name):
                raise ValueError(
                    f"{os.path.join(self.folder, 'config.json')} names the data {_check.brief(name)}, which were not "
                    "given by --data on this computer before; if they are to be read, say so with --data"
                )
        return self.config.files

    def data_folder(self, given: str | None) -> str | None:
        """The folder of the data files: the one that the command line gives, or the configuration's.

        A run folder may be a stranger's, and what its configuration names anything: a share of another machine,
        say. So the latter is taken only if it lies where data are looked for anyway or in the run folder, or if
        this user has named it with --data-dir before.
        """
        if given is not None:
            remember(given)
            return given
        folder = self.config.data_dir
        if folder is None or self.config.data == "digits" or self._may_read(folder):
            return None if self.config.data == "digits" else folder
        raise ValueError(
            f"{os.path.join(self.folder, 'config.json')} names the data folder {_check.brief(folder)}, which was not "
            "given by --data-dir on this computer before; if its files are to be read, say so with --data-dir"
        )

    def _may_read(self, path: str) -> bool:
        real = os.path.realpath(path) if _is_local(path) else path
        for place in (self.folder, *_folders.places(None)):
            place = os.path.realpath(place)
            if real == place or real.startswith(os.path.join(place, "")):
                return True
        return os.path.isfile(_mark_of(path))


def _stem(config: Config) -> str:
    """What the run's data are called in the name of its folder."""
    if config.data not in OWN:
        return config.data
    return os.path.splitext(os.path.basename(config.files[0]))[0] or config.data


def remember(path: str) -> None:
    """Note that the user named a folder or file of data, so that later commands on the run find it by its
    configuration."""
    path = os.path.abspath(path)
    mark = _mark_of(path)
    if not os.path.isfile(mark):
        with contextlib.suppress(OSError):  # a home that cannot be written to: later commands will ask
            os.makedirs(os.path.dirname(mark), mode=0o700, exist_ok=True)
            write_atomically(mark, os.fsencode(path))


def _mark_of(path: str) -> str:
    """The file that is there once the user has named a folder or file."""
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()
    return os.path.join(_folders.cache_folder(), "data-folders", digest[:32])


def _is_local(path: str) -> bool:
    """Whether a path may be looked at: on Windows, a look at another machine's tells it who the user is."""
    return os.path.isabs(path) and not path.startswith(("\\\\", "//"))
