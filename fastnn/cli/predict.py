"""``fastnn predict``."""

from __future__ import annotations

import argparse
import math
from typing import Any

import numpy as np

from fastnn import _check, nn
from fastnn.cli.output import print_json
from fastnn.cli.run import Config, Run
from fastnn.data import read_npy
from fastnn.data.idx import NotIDXError, read_idx
from fastnn.train.evaluation import predict


def run(args: argparse.Namespace) -> int:
    """Print a class and its probability for each sample of a file or of the test set."""
    place = Run.open(args.run)
    model = nn.Sequential(place.load_model(), nn.Softmax(dim=1))
    labels = None
    if args.file is None:
        images, labels = place.config.load_data("test", place.data_folder(args.data_dir))
    else:
        images = _samples(args.file, place.config)
    if args.samples is not None:
        if args.samples.stop > len(images):
            raise ValueError(
                f"--samples: expected a part of the {len(images)} samples, 0:{len(images)}, got "
                f"{args.samples.start}:{args.samples.stop}"
            )
        images = images[args.samples]
        labels = None if labels is None else labels[args.samples]
    probabilities = predict(model, images)
    _check_finite(probabilities, images, args.file or "the test set", place.weights)
    classes = probabilities.argmax(1).tolist()
    chances = probabilities.max(1).tolist()
    if args.json:
        result = {"run": place.folder, "classes": classes, "probabilities": chances}
        print_json(result if labels is None else {**result, "labels": labels.tolist()})
    elif labels is None:
        print("\n".join(f"{c} {p:.4f}" for c, p in zip(classes, chances, strict=True)))
    else:
        rows = zip(classes, chances, labels.tolist(), strict=True)
        print("\n".join(f"{c} {p:.4f} label {label}" for c, p, label in rows))
    return 0


def _check_finite(probabilities: np.ndarray[Any, Any], images: np.ndarray[Any, Any], source: str, weights: str) -> None:
    wrong = np.flatnonzero(~np.isfinite(probabilities).all(1))
    if len(wrong):
        text = f"{weights}: the output is not finite for {len(wrong)} of {len(images)} samples of {source}"
        if not np.isfinite(images[wrong]).all():
            text += ", which are not all finite themselves"
        raise FloatingPointError(text)


def _samples(path: str, config: Config) -> np.ndarray[Any, Any]:
    """Samples of a file as float32, (N, C, H, W); one sample alone makes N = 1."""
    array = _read(path)
    shape, size = config.set.shape, math.prod(config.set.shape)
    if array.shape in (shape, (1, *shape), (size,)):
        array = array[np.newaxis]
    if array.ndim < 2 or math.prod(array.shape[1:]) != size or len(array) == 0:
        raise ValueError(
            f"{path}: holds an array of shape {_check.brief(array.shape)}; {config.data} has samples of shape "
            f"{shape}, so expected (N, {', '.join(map(str, shape))}) or (N, {size})"
        )
    if array.dtype.kind in "iu":
        return config.set.scaled(array)
    if array.dtype.kind != "f":
        raise ValueError(f"{path}: holds {array.dtype}; expected numbers")
    return array.astype(np.float32).reshape(-1, *config.set.image)


def _read(path: str) -> np.ndarray[Any, Any]:
    if not path.endswith(".npy"):
        try:
            return read_idx(path)
        except NotIDXError as error:
            raise ValueError(
                f"{error}. Samples are read from .npy files, by that ending, and from IDX files; numbers in a text "
                f"file become one by np.save('samples.npy', np.loadtxt({path!r}, delimiter=','))"
            ) from None
    return read_npy(path)
