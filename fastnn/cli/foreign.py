"""What the commands ask of a network that is one file, of whichever system, and of a run's as far as it is the same."""

from __future__ import annotations

import argparse
import math
import os
from typing import Any

import numpy as np

from fastnn import _check, nn
from fastnn.cli.run import Run
from fastnn.interop.files import NAMES, kind_of, load
from fastnn.train.evaluation import predict

Array = np.ndarray[Any, Any]
Shape = tuple[int | None, ...]
_BATCH = 256  # samples that are computed at a time, where a network takes any number of them


class Network:
    """A network and what is known of its inputs.

    Parameters
    ----------
    path : str
        As the user has named it.
    kind : str
        What messages call the file.
    model : Module
        In evaluation mode.
    shapes : list
        Of a sample of each input, None where the file does not say it.
    batch : int, optional
        The only number of samples that it takes at a time.
    """

    def __init__(
        self, path: str, kind: str, model: nn.Module, shapes: list[Shape | None], batch: int | None = None
    ) -> None:
        self.path = path
        self.kind = kind
        self.model = model.eval()
        self.shapes = shapes
        self.batch = batch

    @classmethod
    def open(cls, args: argparse.Namespace) -> Network:
        """Of a file, or of a run folder."""
        path, weights = args.run, getattr(args, "weights", None)
        asked = getattr(args, "input", None)
        place = _run_of(path)
        if place is not None:
            if weights is not None or asked is not None:
                option = "--weights" if weights is not None else "--input"
                raise ValueError(
                    f"{option}: it goes with a file of another system, and {path} is a run's; leave it out"
                )
            return cls(path, "a run of fastnn", place.load_model(), [place.source(asked=False).shape])
        try:
            model = load(path, weights)
        except ImportError as error:
            raise ValueError(str(error)) from None
        whole = list(getattr(model, "input_shapes", (None,)))
        shapes: list[Shape | None] = [None if shape is None else tuple(shape[1:]) for shape in whole]
        if asked is not None:
            if len(shapes) != 1:
                raise ValueError(f"--input: {path} has {len(shapes)} inputs; leave it out")
            shapes = [tuple(asked)]
        fixed: set[int] = {shape[0] for shape in whole if shape} - {None}
        return cls(path, NAMES[kind_of(path)], model, shapes, fixed.pop() if len(fixed) == 1 else None)

    def example(self, batch: int) -> list[Array]:
        """Numbers by chance for each input, of so many samples."""
        draw = np.random.default_rng(0)
        found = []
        for shape in self.shapes:
            if shape is None or None in shape:
                known = "nothing of" if shape is None else f"{described(shape)} for"
                raise ValueError(
                    f"--input: {self.path} says {known} the sizes of a sample; give them, such as --input 1,28,28"
                )
            sizes = [size for size in shape if size is not None]
            found.append(draw.standard_normal((self.batch or batch, *sizes)).astype(np.float32))
        return found

    def outputs(self, inputs: list[Array]) -> list[Array]:
        """What it gives for samples; several arrays where it has several outputs."""
        count = len(inputs[0])
        if self.batch is not None and count % self.batch:
            raise ValueError(f"{self.path}: it takes {self.batch} samples at a time, and there are {count}")
        try:
            result = predict(self.model, tuple(inputs), self.batch or _BATCH)
        except TypeError as error:
            raise ValueError(f"{self.path}: {error}") from None
        parts = list(result.values()) if isinstance(result, dict) else result
        return list(parts) if isinstance(parts, (tuple, list)) else [parts]

    def fitted(self, array: Array, name: str, number: int = 0) -> Array:
        """Samples as an input takes them: images with their channels where it has them, or as rows."""
        wanted = self.shapes[number]
        if wanted is not None and _agree(array.shape, wanted):
            return array[np.newaxis]
        forms = _forms(array)
        for form in forms if wanted is None else [f for f in forms if _agree(f.shape[1:], wanted)]:
            if wanted is not None or self._takes(form):
                return form
        shape = _check.brief(array.shape)
        if wanted is None:
            raise ValueError(f"{name}: holds an array of shape {shape}, and {self.path} takes none such in any layout")
        raise ValueError(f"{name}: holds an array of shape {shape}; {self.path} takes samples of {described(wanted)}")

    def _takes(self, form: Array) -> bool:
        try:
            predict(self.model, form[: self.batch or 2])
        except (TypeError, ValueError):
            return False
        return True


def _run_of(path: str) -> Run | None:
    """The run that a folder is, or whose weights a file is: that of the folder in which it lies."""
    if not is_file(path):
        return Run.open(path)
    folder, name = os.path.split(path)
    if name != "weights.safetensors" or not os.path.isfile(os.path.join(folder, "config.json")):
        return None
    return Run.open(folder or ".")


def is_file(path: str) -> bool:
    """Whether a network is one file; a run is a folder."""
    return not os.path.isdir(path) and (os.path.lexists(path) or bool(os.path.splitext(path)[1]))


def not_for_runs(args: argparse.Namespace) -> None:
    """ValueError for options that go with files alone."""
    for option in ("weights", "input", "scale", "mean", "std"):
        if getattr(args, option, None) is not None and not (option == "input" and hasattr(args, "model")):
            raise ValueError(f"--{option}: it goes with a file of a network, and {args.run} is none; leave it out")


def described(shape: Shape | None) -> str:
    """A shape of samples as messages have it."""
    if shape is None:
        return "any shape"
    sizes = ", ".join("?" if size is None else str(size) for size in shape)
    return f"({sizes},)" if len(shape) == 1 else f"({sizes})"


def scaled(array: Array, args: argparse.Namespace) -> Array:
    """Numbers divided by --scale, less --mean, divided by --std; the latter two of each channel, perhaps."""
    if args.scale is None and args.mean is None and args.std is None:
        return array
    result = array.astype(np.float32)
    if args.scale is not None:
        result /= np.float32(args.scale)
    for option, by in (("mean", np.subtract), ("std", np.divide)):
        values = getattr(args, option)
        if values is None:
            continue
        if option == "std" and 0 in values:
            raise ValueError("--std: expected numbers other than 0")
        if len(values) == 1:
            by(result, np.float32(values[0]), out=result)
            continue
        if result.ndim < 2 or result.shape[1] != len(values):
            raise ValueError(f"--{option}: {len(values)} numbers, and samples have shape {result.shape[1:]}")
        by(result, np.asarray(values, np.float32).reshape(-1, *[1] * (result.ndim - 2)), out=result)
    return result


def _forms(array: Array) -> list[Array]:
    """Samples in the layouts that networks may want: rows only where one order of the pixels is the only one."""
    forms = [array]
    if array.ndim == 3:  # (N, H, W)
        forms += [array[:, np.newaxis], array[..., np.newaxis]]
    elif array.ndim == 4:
        forms += [array.transpose(0, 2, 3, 1), array.transpose(0, 3, 1, 2)]
        forms += [array[:, 0]] if array.shape[1] == 1 else []
        forms += [array[..., 0]] if array.shape[3] == 1 else []
    if array.ndim == 3 or (array.ndim == 4 and 1 in (array.shape[1], array.shape[3])):
        forms += [array.reshape(len(array), -1)]
    elif array.ndim == 2:
        side = math.isqrt(array.shape[1])
        if side * side == array.shape[1]:
            grey = array.reshape(-1, side, side)
            forms += [grey, grey[:, np.newaxis], grey[..., np.newaxis]]
        forms += [array[:, np.newaxis], array[:, :, np.newaxis]]
    elif array.ndim == 1:
        forms += [array[:, np.newaxis]]
    return forms


def _agree(shape: tuple[int, ...], wanted: Shape) -> bool:
    return len(shape) == len(wanted) and all(w is None or s == w for s, w in zip(shape, wanted, strict=True))
