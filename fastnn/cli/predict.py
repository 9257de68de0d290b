"""``fastnn predict``."""

from __future__ import annotations

import argparse
import io
import math
import os
import sys
from typing import Any, BinaryIO

import numpy as np

from fastnn import _check, nn
from fastnn.cli.output import print_json
from fastnn.cli.run import Config, Run
from fastnn.data.idx import NotIDXError, read_idx
from fastnn.files import named
from fastnn.train.evaluation import predict

_LONGEST_HEADER = 1 << 16  # bytes of a .npy file: NumPy parses no more than 10 000 characters


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
    with named(path), open(path, "rb") as file:
        try:
            shape, columns, dtype = _header(file)
        except OSError:
            raise
        except Exception as error:
            # NumPy hands the header to Python's parser, and what that raises is no closed list: SyntaxError,
            # RecursionError, MemoryError, TypeError, ...
            raise ValueError(f"{path}: no intact .npy file: {_check.brief(str(error), str)}") from None
        if dtype.kind not in "biuf":
            raise ValueError(f"{path}: holds {_check.brief(str(dtype), str)}; expected numbers")
        count, there = math.prod(shape), os.fstat(file.fileno()).st_size - file.tell()
        if count * dtype.itemsize > there:
            raise ValueError(
                f"{path}: no intact .npy file: {there} bytes follow its header, too few for {dtype} "
                f"{_check.brief(shape)}"
            )
        array = np.fromfile(file, dtype, count)
    if array.size != count:
        raise ValueError(f"{path}: it was made shorter while it was read")
    return array.reshape(shape, order="F" if columns else "C")


def _header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether columns come first, and dtype; the file stands behind its header then."""
    start = io.BytesIO(file.read(_LONGEST_HEADER))  # memory would be taken for as many bytes as a header announces
    version = np.lib.format.read_magic(start)
    if version == (1, 0):
        header = np.lib.format.read_array_header_1_0(start)
    elif version == (2, 0):
        header = np.lib.format.read_array_header_2_0(start)
    else:
        raise ValueError(f"version {version} is not read")
    file.seek(start.tell())
    shape, columns, dtype = header
    if len(shape) > 32 or any(type(length) is not int or not 0 <= length < 2**63 for length in shape):
        raise ValueError(f"no array has the shape {_check.brief(shape)}")
    if math.prod(length or 1 for length in shape) * max(dtype.itemsize, 1) > sys.maxsize:
        raise ValueError(f"no array can have the shape {_check.brief(shape)}")
    return shape, columns, dtype
