"""Data of the user's own: tables, arrays, and images in a folder a class."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import numpy as np

from fastnn import _check, data
from fastnn.cli.config import Config
from fastnn.cli.sets import Shifted
from fastnn.cli.source import Samples, Source, read_samples
from fastnn.data import ArrayRecipe, ClassTarget, DataLoader, TableRecipe
from fastnn.data.folder import image_files, read_images
from fastnn.data.recipe import load_recipe

Recipe: TypeAlias = TableRecipe | ArrayRecipe
Array: TypeAlias = np.ndarray[Any, Any]
Kind = TypeVar("Kind")

_TABLES = (".csv", ".tsv", ".txt")
_KINDS = "biufU"  # of arrays: numbers, and texts for classes
#: Names of inputs and targets in an archive: Keras' sets, scikit-learn's, MedMNIST's.
_PAIRS = (
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("x", "y", "x_test", "y_test"),
    ("data", "target", "", ""),
    ("images", "labels", "", ""),
    ("features", "labels", "", ""),
)
_SIDE = 64  # of images, where they are larger and no size is given
_SPLIT = 2**63  # added to the seed: the order in which rows are dealt out is none of an epoch's


def kind_of(files: list[str]) -> str:
    """Which kind of data the user names: "table", "arrays" or "images"."""
    first = files[0]
    ending = os.path.splitext(first)[1].lower()
    if not os.path.lexists(first):
        raise ValueError(
            f"--data: {_check.brief(first)} is neither one of the sets digits, mnist and cifar10 nor a file or folder"
        )
    wanted = {".npy": 2}.get(ending, 1)
    if len(files) != wanted:
        what = "two .npy files, of inputs and of targets, are" if wanted == 2 else "one file or folder is"
        raise ValueError(f"--data: {what} expected, got {_check.some(files)}")
    if os.path.isdir(first):
        return "images"
    if ending in _TABLES:
        return "table"
    if ending in (".npy", ".npz"):
        return "arrays"
    raise ValueError(
        f"--data: {first} is no table ({', '.join(_TABLES)}), no .npy or .npz file, and no folder of images, by its "
        "ending"
    )


@dataclass
class Options:
    """How one's own data are to be read: what the recipe then holds."""

    target: str | None = None
    task: str = "auto"
    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    image_size: tuple[int, int] | None = None
    grey: bool = False

    @classmethod
    def of(cls, kind: str, given: Mapping[str, Any]) -> Options:
        """From options that were given (None: not given); ValueError for those that another kind of data has."""
        chosen = {name: value for name, value in given.items() if value is not None}
        tables = ("target", "numeric", "categorical", "drop", "delimiter", "decimal")
        images = ("image_size", "grey")
        others = {"table": images, "arrays": (*tables, *images), "images": (*tables, "task")}[kind]
        for name in others:
            if name in chosen:
                goes = "tables" if name in tables else "folders of images" if name in images else "tables and arrays"
                raise ValueError(f"--{name.replace('_', '-')}: it goes with {goes}; leave it out")
        return cls(**{name: value for name, value in chosen.items() if name in cls.__annotations__})


@dataclass
class Form:
    """How a table is written."""

    delimiter: str | None = None
    decimal: str = "."


class Whole:
    """All samples as the files have them.

    Attributes
    ----------
    count : int
    """

    count: int

    def fit(self, options: Options, rows: Array | None) -> Recipe:
        """The recipe, learned from some rows."""
        raise NotImplementedError

    def targets(self, recipe: Recipe) -> Array:
        """The targets of all rows, as a loss takes them."""
        raise NotImplementedError

    def samples(self, recipe: Recipe, rows: Array) -> Samples:
        """Inputs and targets of some rows, as networks take them."""
        raise NotImplementedError

    def training(self, recipe: Recipe, rows: Array) -> tuple[Samples, data.augment.Augmentation | None]:
        """Samples to train on, and what is done to each batch of them."""
        return self.samples(recipe, rows), None

    def test(self, recipe: Recipe) -> Samples | None:
        """What comes beside as a test set."""
        return None


class TableData(Whole):
    """A table."""

    def __init__(self, path: str, form: Form) -> None:
        tabs = "\t" if path.lower().endswith(".tsv") else None
        self.table = data.read_csv(path, form.delimiter or tabs, decimal=form.decimal)
        self.count = len(self.table)

    def fit(self, options: Options, rows: Array | None) -> TableRecipe:
        if options.target is None:
            columns = _check.some(self.table.names)
            raise ValueError(f"--target: say which column is to be predicted; {self.table.source} has {columns}")
        return TableRecipe.fit(
            self.table, options.target, options.task, rows, options.numeric, options.categorical, options.drop
        )

    def targets(self, recipe: Recipe) -> Array:
        return _as(TableRecipe, recipe).targets(self.table)

    def samples(self, recipe: Recipe, rows: Array) -> Samples:
        return _as(TableRecipe, recipe)(self.table[rows])


class ArrayData(Whole):
    """Arrays of inputs and targets; images are standardised batch by batch."""

    def __init__(
        self,
        x: Array,
        y: Array,
        names: tuple[str, str],
        classes: tuple[str, ...] | None = None,
        test: tuple[Array, Array] | None = None,
    ) -> None:
        self.x, self.y, self.names, self.classes = x, y, names, classes
        self._test = test
        self.count = len(x)

    def fit(self, options: Options, rows: Array | None) -> ArrayRecipe:
        return ArrayRecipe.fit(self.x, self.y, options.task, rows, self.classes, self.names)

    def targets(self, recipe: Recipe) -> Array:
        if self.classes is not None:  # which are numbered already
            return self.y
        return _as(ArrayRecipe, recipe).targets(self.y, self.names[1])

    def samples(self, recipe: Recipe, rows: Array) -> Samples:
        return _as(ArrayRecipe, recipe).inputs(self.x[rows], self.names[0]), self.targets(recipe)[rows]

    def training(self, recipe: Recipe, rows: Array) -> tuple[Samples, data.augment.Augmentation | None]:
        arrays = _as(ArrayRecipe, recipe)
        if len(arrays.shape) == 1 or not arrays.bytes:
            return self.samples(recipe, rows), None
        # Bytes are a quarter of the memory, and are moved and mirrored in a quarter of the time.
        images = self.x[rows].reshape(-1, *arrays.shape)
        return (images, self.targets(recipe)[rows]), data.Normalize(arrays.mean, arrays.std)

    def test(self, recipe: Recipe) -> Samples | None:
        if self._test is None:
            return None
        x, y = self._test
        return _as(ArrayRecipe, recipe)(x, y, (f"{self.names[0]} (test)", f"{self.names[1]} (test)"))


def read(kind: str, files: list[str], form: Form, options: Options) -> Whole:
    """All samples of files."""
    if kind == "table":
        return TableData(files[0], form)
    if kind == "images":
        return _folder(files[0], options)
    if len(files) == 2:
        x, y = (data.read_npy(path, _KINDS) for path in files)
        return ArrayData(x, y, (files[0], files[1]))
    return _archive(files[0])


def _folder(root: str, options: Options) -> ArrayData:
    mode = "L" if options.grey else "RGB"
    size = options.image_size
    try:
        if size is None:
            height, width = data.ImageFolder(root, mode=mode)[0][0].shape[1:]
            size = (min(height, _SIDE), min(width, _SIDE))
        folder = data.ImageFolder(root, size, mode, normalize=False)
    except ValueError as error:
        raise ValueError(str(error).removeprefix("root: ")) from None  # which no option is called
    if len(folder.classes) < 2:
        raise ValueError(f"{root}: one class folder alone, {folder.classes[0]}; two at least are needed")
    images, labels = folder[:]
    return ArrayData(images, labels, (root, root), folder.classes)


def _archive(path: str) -> ArrayData:
    arrays = {name.lower(): array for name, array in data.read_npz(path, kinds=_KINDS).items()}
    for x, y, x_test, y_test in _PAIRS:
        if x in arrays and y in arrays:
            test = (arrays[x_test], arrays[y_test]) if x_test in arrays and y_test in arrays else None
            return ArrayData(arrays[x], arrays[y], (f"{path}: {x}", f"{path}: {y}"), test=test)
    raise ValueError(
        f"{path}: expected arrays x and y, or x_train and y_train; it holds {_check.some(arrays) or 'none'}"
    )


def split(count: int, labels: Array | None, fraction: float, seed: int, name: str) -> dict[str, Array]:
    """The rows to train on, and those to validate on, of each class its share."""
    held_out = max(1, round(fraction * count))
    if held_out >= count:
        raise ValueError(f"{name}: {count} samples, of which {held_out} are to be held out for validation; too few")
    lengths = [count - held_out, held_out]
    train, validation = data.random_split(np.arange(count), lengths, _SPLIT + seed, labels)
    return {"train": np.sort(train.indices), "validation": np.sort(validation.indices)}


class Own(Source):
    """Data of the user's own, which a recipe makes fit for a network.

    Parameters
    ----------
    config : Config
    recipe : TableRecipe or ArrayRecipe
    files : list of str
        See Run.data_files.
    whole : Whole, optional
        What the files hold, if they have been read.
    """

    def __init__(self, config: Config, recipe: Recipe, files: list[str], whole: Whole | None = None) -> None:
        self.config = config
        self.recipe = recipe
        self.files = files
        self.shape = recipe.shape
        self.target = recipe.target
        self._whole = whole

    @classmethod
    def new(cls, given: Mapping[str, Any], names: list[str]) -> Own:
        """Of a run that begins: its recipe is learned, and its configuration made."""
        kind = kind_of(names)
        options = Options.of(kind, {
            field: given.get(field) for field in (*Options.__annotations__, *Form.__annotations__)
        })  # fmt: skip
        files = [os.path.abspath(name) for name in names]
        whole = read(kind, names, Form(given.get("delimiter"), given.get("decimal") or "."), options)
        first = whole.fit(options, None)  # what the classes are decides which rows train
        if given.get("data_dir") is not None:
            raise ValueError("--data-dir: it goes with sets that are known by name; leave it out")
        chosen = {name: value for name, value in given.items() if name in Config.__annotations__}
        config = Config.own({**chosen, "data": kind, "files": files}, first.shape)
        rows = _rows(config, whole, first, names[0])
        recipe = whole.fit(options, rows["train"])
        config.fingerprint = _fingerprint(whole, recipe)
        config.class_weight = class_weights(given.get("weigh"), recipe.target, whole.targets(recipe)[rows["train"]])
        return cls(config, recipe, files, whole)

    @property
    def splits(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("train", "validation") if self.whole.test(self.recipe) is None else ("train", "validation", "test")

    @property
    def whole(self) -> Whole:
        """All samples, which are read when they are first asked for, and must be those that the run began with."""
        if self._whole is None:
            config, shape = self.config, self.shape
            options = Options()
            if config.data == "images":
                options = Options(image_size=(shape[1], shape[2]), grey=shape[0] == 1)
            whole = read(config.data, self.files, self._form, options)
            if _fingerprint(whole, self.recipe) != config.fingerprint:
                raise ValueError(f"{self.files[0]}: the data are not those that the run began with")
            self._whole = whole
        return self._whole

    @property
    def _form(self) -> Form:
        return Form(self.config.delimiter, self.config.decimal)

    def load(self, split: str) -> Samples:
        if split == "test":
            tested = self.whole.test(self.recipe)
            if tested is None:
                raise ValueError(f"--split: {self.files[0]} has no test set; there are {', '.join(self.splits)}")
            return tested
        return self.whole.samples(self.recipe, self._rows()[split])

    def training(self) -> tuple[DataLoader, Samples, Samples | None]:
        config = self.config
        rows = self._rows()
        samples, encode = self.whole.training(self.recipe, rows["train"])
        augment: list[Any] = []
        if config.crops:
            augment += [data.RandomCrop(self.shape[1:], padding=4), data.RandomHorizontalFlip()]
        if encode is not None:
            augment.append(encode)
        dataset = data.ArrayDataset(*samples) if not config.shifts else Shifted(*samples)
        # Batch norm has no statistics of a single sample where its image has shrunk to a pixel.
        alone = config.model != "mlp" and len(dataset) % config.batch_size == 1 < len(dataset)
        loader = DataLoader(
            dataset,
            config.batch_size,
            shuffle=True,
            seed=config.seed,
            drop_last=alone and config.batch_size > 1,
            augment=data.Compose(augment) if augment else None,
        )
        return loader, self.whole.samples(self.recipe, rows["validation"]), self.whole.test(self.recipe)

    def inputs(self, files: list[str]) -> Array:
        if self.config.data == "images":
            return _as(ArrayRecipe, self.recipe).inputs(self._images(files), files[0])
        if len(files) != 1:
            raise ValueError(f"{files[1]}: one file is read, got {len(files)}")
        (path,) = files
        if self.config.data == "table":
            return _as(TableRecipe, self.recipe).inputs(TableData(path, self._form).table)
        if path.endswith(".npz"):
            archive = {name.lower(): array for name, array in data.read_npz(path).items()}
            found = next((x for x in ("x", "x_test", "data", "images", "features") if x in archive), None)
            if found is None:
                raise ValueError(f"{path}: expected an array x; it holds {_check.some(archive) or 'none'}")
            return _as(ArrayRecipe, self.recipe).inputs(archive[found], f"{path}: {found}")
        return _as(ArrayRecipe, self.recipe).inputs(read_samples(path), path)

    def names(self, files: list[str]) -> list[str] | None:
        """What samples of files are called: images by their files, others by nothing."""
        return self._image_files(files) if self.config.data == "images" else None

    def labelled(self, files: list[str]) -> Samples:
        kind = kind_of(files)
        if kind != self.config.data:
            raise ValueError(f"{files[0]}: the run was trained on {self.config.data}, and this is {kind}")
        shape = self.shape
        options = Options(image_size=(shape[1], shape[2]), grey=shape[0] == 1) if kind == "images" else Options()
        whole = read(kind, files, self._form, options)
        if isinstance(whole, ArrayData) and whole.classes is not None:
            texts = [whole.classes[label] for label in whole.y.tolist()]
            labels = _as(ClassTarget, self.target).encode(texts, lambda _: files[0])
            return _as(ArrayRecipe, self.recipe).inputs(whole.x, files[0]), labels
        return whole.samples(self.recipe, np.arange(whole.count))

    def decoded(self, output: Array) -> list[Any]:
        if isinstance(self.target, ClassTarget):
            return self.target.decode(output)
        rows: list[Any] = self.target.decode(output).tolist()
        return rows

    def _rows(self) -> dict[str, Array]:
        return _rows(self.config, self.whole, self.recipe, self.files[0])

    def _image_files(self, files: list[str]) -> list[str]:
        found = [path for name in files for path in (image_files(name) if os.path.isdir(name) else [name])]
        if not found:
            raise ValueError(f"{files[0]}: it holds no image")
        return found

    def _images(self, files: list[str]) -> Array:
        channels, height, width = self.shape
        return read_images(self._image_files(files), (height, width), "RGB" if channels == 3 else "L")


def _rows(config: Config, whole: Whole, recipe: Recipe, name: str) -> dict[str, Array]:
    labels = whole.targets(recipe) if isinstance(recipe.target, ClassTarget) else None
    return split(whole.count, labels, config.val_fraction, config.seed, name)


def class_weights(given: list[str] | None, target: Any, labels: Array) -> list[float]:
    """A weight for each class: "balanced" makes them as scikit-learn does; else some by name, and 1 for the rest."""
    if given is None:
        return []
    if not isinstance(target, ClassTarget):
        raise ValueError("--class-weight: the target is a number, which has no classes; leave it out")
    if given == ["balanced"]:
        counts = np.bincount(labels, minlength=target.outputs)
        weights: list[float] = (len(labels) / (target.outputs * np.maximum(counts, 1))).tolist()
        return weights
    chosen = dict.fromkeys(target.classes, 1.0)
    for entry in given:
        name, _, text = entry.rpartition("=")
        try:
            weight = float(text)
        except ValueError:
            weight = -1.0
        if name not in chosen or not 0 <= weight < float("inf"):
            raise ValueError(
                f"--class-weight: expected balanced, or CLASS=WEIGHT with one of {_check.some(target.classes)}, got "
                f"{_check.brief(entry)}"
            )
        chosen[name] = weight
    if not any(chosen.values()):
        raise ValueError("--class-weight: one class at least must weigh more than 0")
    return list(chosen.values())


def read_recipe(path: str) -> Recipe:
    """The recipe of a file, of whichever kind it is."""

    def made_of(values: Any) -> Recipe:
        kind = values.get("kind") if isinstance(values, dict) else None
        if kind not in ("table", "arrays"):
            raise ValueError("it says of no kind that there is")
        return TableRecipe.from_json(values) if kind == "table" else ArrayRecipe.from_json(values)

    return load_recipe(path, made_of)  # type: ignore[no-any-return]


def _fingerprint(whole: Whole, recipe: Recipe) -> int:
    """A checksum of all samples, by which a run knows its data again."""
    if isinstance(whole, TableData):
        table = whole.table
        return zlib.crc32("\0".join([*table.names, *table.cells.reshape(-1).tolist()]).encode())
    arrays = [_as(ArrayData, whole).x, whole.targets(recipe)]
    crc = 0
    for array in arrays:
        crc = zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data, crc)
    return crc


def _as(kind: type[Kind], value: Any) -> Kind:
    assert isinstance(value, kind)
    return value
