"""Which system's a file is, by what is in it, and the network that it holds."""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Callable
from typing import Any

from fastnn import _check
from fastnn.files import named, read_forms, unpickling
from fastnn.nn.module import Module

_HDF5 = b"\x89HDF\r\n\x1a\n"
_LONGEST_TEXT = 1 << 16  # bytes of a text that are looked at

#: What each kind is called.
NAMES = {
    "onnx": "ONNX",
    "keras": "Keras",
    "hdf5": "HDF5",
    "prototxt": "Caffe's prototxt",
    "caffemodel": "Caffe's weights",
    "torch7": "Torch7",
    "safetensors": "safetensors",
    "checkpoint": "a checkpoint of fastnn",
    "npz": "NumPy's .npz",
    "pickled": "pickled objects, PyTorch's perhaps",
}


def kind_of(path: str | os.PathLike[str]) -> str:
    """Which kind of file this is, by its first bytes: its name may say anything.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    str
        One of `NAMES`.

    Raises
    ------
    OSError
        If there is no such file.
    ValueError
        For one of no kind that is known.

    Examples
    --------
    >>> from fastnn.interop.files import kind_of
    >>> nn.Linear(2, 3).save("weights.keras")
    >>> kind_of("weights.keras")
    'safetensors'
    """
    name = _check.path("path", path)
    if os.path.isdir(name):
        raise ValueError(
            f"{name} is a folder; runs of fastnn train are opened by its commands, and TensorFlow's SavedModels become "
            f"ONNX: python -m tf2onnx.convert --saved-model {_check.brief(name, str)} --output model.onnx"
        )
    with named(name), open(name, "rb") as file:
        start = file.read(_LONGEST_TEXT)
        size = os.fstat(file.fileno()).st_size
        kind = _by_start(start, size) or (_of_protocol_buffers(file, size) if start else None)
    if kind == "zip":
        kind = _of_archive(name)
    if kind == "safetensors" and any(key.startswith("model/") for key in read_forms(name)):
        kind = "checkpoint"
    if kind is None:
        known = ", ".join(NAMES[k] for k in ("onnx", "keras", "prototxt", "torch7", "safetensors"))
        raise ValueError(f"{name} is no file of a network that is known: {known}")
    return kind


def load(path: str | os.PathLike[str], weights: str | os.PathLike[str] | None = None) -> Module:
    """The network of a file, of whichever system it is.

    Parameters
    ----------
    path : path-like
        ONNX, Keras (.keras or HDF5), Caffe (prototxt or caffemodel) or Torch7, recognised by its first bytes.
    weights : path-like, optional
        For Caffe, the other one of the two files; by default the only one of its kind beside the first one, or that
        with its name.

    Returns
    -------
    Module

    Raises
    ------
    ImportError
        Without the package that reads such files; the message says how to install it.
    OSError
        If there is no such file.
    ValueError
        If it is damaged, or of a kind that holds no network: what helps is said.

    Examples
    --------
    >>> with open("sigmoid.t7", "a") as file:
    ...     _ = file.write("4\\n1\\n3\\nV 1\\n10\\nnn.Sigmoid\\n3\\n2\\n0\\n")
    >>> fn.interop.load("sigmoid.t7")
    Sigmoid()
    """
    name, kind = _check.path("path", path), kind_of(path)
    if kind in ("prototxt", "caffemodel"):
        from fastnn.interop.caffe.read import load_caffe

        return load_caffe(*pair(name, kind, weights))
    if weights is not None:
        raise ValueError(f"weights: {name} is {NAMES[kind]}, which is one file; leave {os.fspath(weights)} out")
    if kind in _READERS:
        return _READERS[kind](name)
    raise ValueError(f"{name} is {NAMES[kind]}: {_no_network(kind, name)}")


def pair(name: str, kind: str, other: Any = None) -> tuple[str, str]:
    """Caffe's two files, prototxt and weights, of which one is given."""
    wanted = "caffemodel" if kind == "prototxt" else "prototxt"
    if other is None:
        other = _beside(name, wanted)
    found, other = kind_of(other), _check.path("weights", other)
    if found != wanted:
        raise ValueError(f"{other} is {NAMES[found]}; {NAMES[wanted]} go with {name}")
    return (name, other) if kind == "prototxt" else (other, name)


def _beside(name: str, wanted: str) -> str:
    """The file that goes with one of Caffe's."""
    folder = os.path.dirname(name) or "."
    same = f"{os.path.splitext(name)[0]}.{wanted}"
    if os.path.isfile(same):
        return same
    with named(folder):
        found = sorted(entry for entry in os.listdir(folder) if entry.endswith(f".{wanted}"))
    if len(found) != 1:
        held = f"{len(found)} files" if found else "no file"
        raise ValueError(
            f"{name}: Caffe's networks are a prototxt and a caffemodel, and beside it is {held} .{wanted}; say which: "
            f"weights='net.{wanted}', or --weights at the command line"
        )
    return os.path.join(os.path.dirname(name), found[0])


def _onnx(name: str) -> Module:
    from fastnn.onnx import load as load_onnx

    return load_onnx(name)


def _keras(name: str) -> Module:
    from fastnn.interop.keras.read import load_keras

    return load_keras(name)


def _torch7(name: str) -> Module:
    from fastnn.interop.torch7.read import load_torch7

    return load_torch7(name)


_READERS: dict[str, Callable[[str], Module]] = {"onnx": _onnx, "keras": _keras, "hdf5": _keras, "torch7": _torch7}


def _no_network(kind: str, name: str) -> str:
    """Why there is no network, and what helps."""
    if kind == "pickled":
        return f"it would run what it likes when it is read; make it safetensors: {unpickling(name)}"
    if kind == "npz":
        return "it holds arrays alone; fn.interop.load_lasagne(path, model) reads Theano's into a model"
    read = "fn.load_checkpoint(path, model)" if kind == "checkpoint" else "model.load(path)"
    return f"it holds weights and no network; {read} reads them into a model, and a run's folder has both"


# ---- the first bytes ----------------------------------------------------------------------------


def _by_start(start: bytes, size: int) -> str | None:
    if start.startswith(_HDF5):
        return "hdf5"
    if start.startswith(b"PK\x03\x04"):
        return "zip"
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "pickled"
    if len(start) > 8 and start[8:9] == b"{" and 0 < struct.unpack("<Q", start[:8])[0] <= size - 8:
        return "safetensors"
    # A type, 1 to 8, and where it is an object or a table its index: as int32, or in ASCII, a number a line.
    if start[:8] in (struct.pack("<2i", 4, 1), struct.pack("<2i", 3, 1)) or start.startswith((b"4\n1\n", b"3\n1\n")):
        return "torch7"
    return "prototxt" if _is_prototxt(start) else None


def _is_prototxt(start: bytes) -> bool:
    """Whether this is a text with a layer, or an input, as a prototxt names them."""
    try:
        text = start.decode()
    except UnicodeDecodeError as error:
        if error.start < len(start) - 4:  # else a character is cut
            return False
        text = start[: error.start].decode()
    lines = [line.strip() for line in text.splitlines()]
    plain = [line for line in lines if line and not line.startswith("#")]
    first = plain[0].replace(" ", "") if plain else ""
    return first.startswith(("layer{", "layers{", "name:", "input:", "input_dim:", "input_shape{", "layer:{", "state{"))


def _of_archive(name: str) -> str | None:
    try:
        with named(name), zipfile.ZipFile(name) as archive:
            members = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        raise ValueError(f"{name} is a damaged zip archive") from None
    if "config.json" in members:
        return "keras"
    if any(member.endswith(("/data.pkl", "constants.pkl")) or member == "data.pkl" for member in members):
        return "pickled"
    return "npz" if members and all(member.endswith(".npy") for member in members) else None


def _of_protocol_buffers(file: Any, size: int) -> str | None:
    """ONNX's model or Caffe's network, by the fields of the outermost message."""
    place = 0
    found = None
    for _ in range(1000):
        key, place = _varint(file, place)
        if key is None or found is not None:
            break
        field, wire = key >> 3, key & 7
        # Field 1 is ONNX's version and Caffe's name, 7 ONNX's graph, 2 and 100 Caffe's layers.
        found = {(1, 0): "onnx", (7, 2): "onnx", (1, 2): "caffemodel", (100, 2): "caffemodel"}.get((field, wire))
        if wire == 0:
            value, place = _varint(file, place)
        elif wire == 2:
            value, place = _varint(file, place)
            place += value or 0
        else:
            value, place = (0, place + 8) if wire == 1 else (0, place + 4) if wire == 5 else (None, place)
        if value is None or place > size:
            return None
    return found


def _varint(file: Any, place: int) -> tuple[int | None, int]:
    """A number of seven bits a byte, and what is behind it; None where there is none."""
    file.seek(place)
    value = 0
    for i, byte in enumerate(file.read(10)):
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value, place + i + 1
    return None, place
