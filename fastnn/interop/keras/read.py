"""load_keras: a file, told by its first bytes, as a Network."""

from __future__ import annotations

import io
import json
import os
import zipfile
import zlib
from typing import Any, NamedTuple

from fastnn import _check
from fastnn.interop.hdf5 import MOST_EXPANSION, SIGNATURE, Damage, Hdf5
from fastnn.interop.keras import plain
from fastnn.interop.keras.network import Network, check, dtype_of
from fastnn.interop.keras.parts import Unread, bound, parse
from fastnn.interop.keras.weights import attach
from fastnn.nn import Module

#: What a config may be: larger ones than any network's, and small enough to be parsed in a second.
_LARGEST_CONFIG = 1 << 24
_MOST_LISTS = 1 << 19


class _Content(NamedTuple):
    """What a file has beside its arrays: JSON, where it has it."""

    config: str | None
    compiled: str
    major: int
    weights: bytes


def load_keras(path: str | os.PathLike[str], model: Module | None = None) -> Module:
    """Read a model that Keras has saved: as `.keras`, as HDF5, or weights alone into a model that is there.

    Files of Keras 3, of tf.keras and of Keras 2 are read, and told by their contents, whatever they are called.
    Sequential, functional and nested models are read, of the usual layers; not those with Lambda or custom layers,
    since no code of a file is ever run.

    Parameters
    ----------
    path : str or path
    model : Module, optional
        It gets the file's weights: what `load_keras` gave for another file of the same model; or a module whose layers
        are those of `fastnn.nn`. These take the weights of the layers of their names, if the file has all of them,
        and else of their kinds in order; a Linear behind a convolution takes them as if images with the channels last
        had been flattened in Keras, and with the channels first here.

    Returns
    -------
    Module
        The model that was given; or a new `Network` in evaluation mode, so that it predicts what the original does:
        call `train()` before it is trained on. Its parameters have the layers' names and fastnn's layouts
        (`dense.weight` is (units, features)), and are trained at once, but for those that were frozen in Keras. Inputs
        stay as Keras has them: images (N, H, W, C), if it was built for that. Regularizers, constraints and what the
        model was compiled with are not used, but kept as text: see `Network`.

    Raises
    ------
    FileNotFoundError, ValueError
        If it is missing or damaged, if arrays do not fit, or if it has layers that are not read: all of them are
        named. A model that was given is then as it was.

    Notes
    -----
    In training, the running variance of batch norm follows PyTorch's rule, which divides by one less than the number
    of values. A call of a layer that was made with ``training=`` keeps that mode in files of Keras 2 alone, as `fit`
    and `predict` of Keras 3 tell all layers theirs. What Keras computes in float16 or bfloat16 is computed in float32.

    Examples
    --------
    >>> net = fn.interop.load_keras("model.keras")  # doctest: +SKIP
    >>> net = fn.interop.load_keras("epoch_12.weights.h5", net)  # doctest: +SKIP
    """
    if model is not None:
        _check.instance("model", model, Module)
    name = _check.path("path", path)
    if not os.path.isfile(name):
        raise FileNotFoundError(f"there is no file {name}")
    with open(name, "rb") as file:
        data = file.read()
    try:
        content = _content(data)
        return _made(content) if model is None else _loaded(content, model)
    except (Damage, ValueError, TypeError, RecursionError) as error:
        text = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        most = 8000 if isinstance(error, Unread) else 800
        shown = _check.printable(text if len(text) <= most else f"{text[:most]}...")
        raise ValueError(f"{name} is no Keras file that can be read: {shown}") from None


def _content(data: bytes) -> _Content:
    if data.startswith(SIGNATURE):
        return _of_hdf5(Hdf5(data), data)
    if data.startswith(b"PK"):
        return _of_zip(data)
    raise Damage("it is neither a zip archive nor an HDF5 file")


def _of_hdf5(file: Hdf5, data: bytes) -> _Content:
    config = file.text("", "model_config")
    version = file.text("", "keras_version") or file.text("model_weights", "keras_version")
    return _Content(config, file.text("", "training_config") or "null", _major(version, 2), data)


def _of_zip(data: bytes) -> _Content:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            held = set(archive.namelist())
            if "config.json" not in held or "model.weights.h5" not in held:
                raise Damage("as a zip archive it lacks config.json or model.weights.h5")
            config = _member(archive, "config.json", len(data))
            metadata = _member(archive, "metadata.json", len(data)) if "metadata.json" in held else b"{}"
            weights = _member(archive, "model.weights.h5", len(data))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError, zlib.error) as error:
        raise Damage(f"its zip archive is damaged: {_check.brief(str(error), str)}") from None
    value = _json(metadata.decode())
    version = value.get("keras_version") if isinstance(value, dict) else None
    return _Content(config.decode(), "", _major(version, 3), weights)


def _member(archive: zipfile.ZipFile, name: str, size: int) -> bytes:
    """A file in an archive, if it is no larger than what such an archive can honestly hold."""
    info = archive.getinfo(name)
    if info.flag_bits & 1:
        raise Damage(f"{name} is encrypted")
    if info.compress_size > size or info.file_size > MOST_EXPANSION * info.compress_size:
        raise Damage(f"{name} would unpack from {info.compress_size} bytes to {info.file_size}")
    with archive.open(info) as file:
        return file.read(info.file_size)


def _major(version: Any, otherwise: int) -> int:
    """Keras's version: 3, or 2 for all before."""
    if not isinstance(version, str) or not version[:1].isdigit():
        return otherwise
    return 3 if int(version[0]) >= 3 else 2


def _json(text: str) -> Any:
    """A value that is JSON; Damage if it is none, or too much to be parsed."""
    if len(text) > _LARGEST_CONFIG or text.count("[") + text.count("{") > _MOST_LISTS:
        raise Damage("its config is larger than any that is read")
    try:
        return json.loads(text)
    except ValueError as error:
        raise Damage(f"its config is no JSON: {_check.brief(str(error), str)}") from None


def _made(content: _Content) -> Network:
    """A new network."""
    if content.config is None:
        raise Damage("it holds weights alone: read the model first, and give it, load_keras(path, model)")
    value = _json(content.config)
    compiled = value.get("compile_config") if isinstance(value, dict) else None
    network = _built(value, content.major, content.weights)
    network.keras_config, network.keras_major = content.config, content.major
    network.compile_config = content.compiled or json.dumps(compiled)
    network.eval()
    return network


def _built(value: Any, major: int, weights: bytes) -> Network:
    part = parse(value, major)
    bound(part)
    attach(part, Hdf5(weights))
    dtype = dtype_of(part)
    network = Network(part, dtype)
    check(network, part, dtype)
    return network


def _loaded(content: _Content, model: Module) -> Module:
    """A model that is there, with the file's weights."""
    if not isinstance(model, Network):
        plain.load(model, Hdf5(content.weights))
        return model
    other = _built(_json(model.keras_config), model.keras_major, content.weights)
    model.load_state_dict(other.state_dict())
    return model
