"""Files that are there as a whole or not at all, and arrays in them as safetensors.

A safetensors file is the length of its header (8 bytes, little-endian), the header (JSON: dtype, shape and place
of each tensor, and a table of texts under ``__metadata__``), and the tensors' bytes, row-major and little-endian,
one after another without gaps. Source: https://github.com/huggingface/safetensors, "Format".

It is read here, and not by the package of that name, since that maps files: one that is cut or written over while
it is loaded ends a process that has it mapped. Nothing is believed of a file before it has been checked, and no
more memory is taken than it has bytes, but for bfloat16, which is widened.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import stat
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from fastnn import _check
from fastnn_ext.atomic import Temporary, sync_folder

Arrays = dict[str, np.ndarray[Any, Any]]

#: What a header may be: larger ones than any network's, and small enough to be parsed in a second.
_LARGEST_HEADER = 1 << 25  # bytes
_MOST_TENSORS = 1 << 17
_MOST_LISTS = 1 << 20  # and tables

_DTYPES = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4", "U64": "<u8",
    "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8", "C64": "<c8", "BF16": "<u2",
}  # fmt: skip
# By their strings: NumPy 2.4 keeps a wrong hash of a dtype that memory lacked for once.
_NAMES = {np.dtype(code).str: name for name, code in _DTYPES.items() if name != "BF16"}

#: The metadata entry that holds a file's checksum. Files that others wrote have none.
_DIGEST = "fastnn.crc32"
#: What files of a model say of it. One without a checksum is of a fastnn that wrote none.
MODEL = "fastnn.model"
#: What checkpoints say of theirs.
CHECKPOINT = "checkpoint"


# ---- whole files ------------------------------------------------------------------------------------


def write_atomically(path: str | os.PathLike[str], *parts: Any) -> None:
    """Write bytes to a temporary name in the same folder, fsync, rename over `path`, fsync the folder.

    A file that was there leaves its mode and, where the system lets it, its owner to the new one; a symbolic link
    stays one, and what it points to is replaced. What is no file, such as /dev/stdout, is written to.

    Parameters
    ----------
    path : path-like
    *parts : bytes-like
        One after another.

    Raises
    ------
    OSError
        If it cannot be written; names `path`, which is then as it was.
    """
    name = _check.path("path", path)
    with named(name):
        _write(name, parts)


@contextlib.contextmanager
def named(path: str) -> Iterator[None]:
    """Have what the system refuses name the file: of a read or a write, as on a full disk, it names none."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, path) from error


def _write(name: str, parts: tuple[Any, ...]) -> None:
    try:
        old = os.stat(name)
    except FileNotFoundError:
        old = None
    if old is not None and not stat.S_ISREG(old.st_mode):
        with open(name, "ab", buffering=0) as file:
            _write_all(file, parts)
        return
    target = os.path.realpath(name)
    folder = os.path.dirname(target)
    # Of a length of its own: with the target's name in it, it could be longer than the system allows.
    temporary = os.path.join(folder, f".fastnn-{os.getpid()}-{os.urandom(6).hex()}.tmp")
    # open and the opener are C: no interrupt comes between the descriptor and the object that will close it. A file
    # that nobody else may read is never readable, not even while it is empty.
    opener = functools.partial(os.open, mode=0o666 if old is None else 0o600)
    with Temporary(os.fsencode(temporary)):
        with open(temporary, "xb", buffering=0, opener=opener) as file:
            if old is not None:
                _inherit(file, old)
            _write_all(file, parts)
            os.fsync(file.fileno())
        os.replace(temporary, target)
    sync_folder(os.fsencode(folder))  # the rename itself must reach the disk


def _inherit(file: Any, old: os.stat_result) -> None:
    """Owner and mode of the file that will be replaced."""
    if hasattr(os, "fchown"):  # not on Windows
        new = os.fstat(file.fileno())
        if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
            with contextlib.suppress(OSError):  # for others than root
                os.fchown(file.fileno(), old.st_uid, old.st_gid)
        os.fchmod(file.fileno(), stat.S_IMODE(old.st_mode))


def _write_all(file: Any, parts: tuple[Any, ...]) -> None:
    for part in parts:
        view = memoryview(part).cast("B")
        while len(view):
            view = view[file.write(view) :]


# ---- arrays -----------------------------------------------------------------------------------------


def save_arrays(
    path: str | os.PathLike[str],
    arrays: Mapping[str, np.ndarray[Any, Any]],
    metadata: Mapping[str, str],
    digest: bool = False,
) -> None:
    """Write named arrays as a safetensors file.

    Parameters
    ----------
    path : path-like
    arrays : mapping of str to array
    metadata : mapping of str to str
    digest : bool, default False
        Add a checksum of it all to the metadata, which `load_arrays` compares.

    Raises
    ------
    TypeError
        If an array has a dtype that such files lack.
    ValueError
        If there is more than a header can hold.
    OSError
        If the file cannot be written; one that was there stays.
    """
    table: dict[str, Any] = {"__metadata__": dict(metadata)}
    if digest:
        table["__metadata__"][_DIGEST] = checksum(_digested(metadata), arrays)
    # Larger elements first, so that each tensor lies at a multiple of its own.
    order = sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))
    contents, end = [], 0
    for name in order:
        array = _little(arrays[name])
        begin, end = end, end + array.nbytes
        kind = _NAMES.get(array.dtype.str)
        if kind is None:
            raise TypeError(f"{_check.brief(name, str)} has dtype {array.dtype}, which safetensors files do not hold")
        table[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [begin, end]}
        contents.append(array.reshape(-1).view(np.uint8).data)
    # Letters as they are: a changed bit in an escape such as \u00e4 may leave it what it was.
    text = json.dumps(table, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    problem = _too_large(text) or (f"{len(order)} tensors" if len(order) > _MOST_TENSORS else None)
    if problem:
        name = _check.path("path", path)
        raise ValueError(f"{name} cannot hold {problem}; keep numbers in arrays, and arrays in fewer")
    write_atomically(path, len(text).to_bytes(8, "little"), text, *contents)


def _little(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """As files hold it: row-major and little-endian."""
    return np.asarray(array, array.dtype.newbyteorder("<"), order="C")


#: dtype, shape, first byte and last + 1 of a tensor, counted from the header's end.
_Entry = tuple[str, tuple[int, ...], int, int]

#: What a file says of its tensors: dtype (float32 for bfloat16) and shape.
Forms = dict[str, tuple[np.dtype[Any], tuple[int, ...]]]


def load_arrays(
    path: str | os.PathLike[str], check: Callable[[Forms, dict[str, str]], None] | None = None
) -> tuple[Arrays, dict[str, str]]:
    """Arrays and metadata of a safetensors file; bfloat16, which NumPy lacks, is widened to float32.

    Parameters
    ----------
    path : path-like
    check : callable, optional
        Called with the dtypes and shapes that the file will give, and its metadata, before any memory is taken
        for them.

    Returns
    -------
    arrays : dict of str to array
        Each in memory of its own.
    metadata : dict of str to str

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged or no safetensors file, or holds a dtype that is neither NumPy's nor bfloat16.
    """
    name = _check.path("path", path)
    if not os.path.isfile(name):
        raise FileNotFoundError(f"there is no file {name}")
    arrays: Arrays = {}
    with named(name), open(name, "rb", buffering=0) as file:
        try:
            entries, metadata = _read_header(file)
            for key, (dtype, *_) in entries.items():
                if dtype not in _DTYPES:
                    raise _Refusal(
                        f"tensor {_check.brief(key)} has dtype {_check.brief(dtype, str)}, which fastnn does not "
                        "read; convert it to F32, F16 or BF16"
                    )
            if check is not None:
                check({key: (_dtype(entry[0]), entry[1]) for key, entry in entries.items()}, metadata)
            for key, (dtype, shape, _, _) in entries.items():
                array = np.empty(shape, np.dtype(_DTYPES[dtype]))
                _read_into(file, array.reshape(-1).view(np.uint8).data, f"tensor {_check.brief(key)}")
                arrays[key] = _decoded(array, dtype, key)
        except _Damage as damage:
            if _is_pickled(file):
                raise ValueError(
                    f"{name} holds pickled objects, which could run code as they are read; convert it where you trust "
                    f"it: {unpickling(name)}"
                ) from None
            raise ValueError(f"{name} is no intact safetensors file: {damage}") from None
        except _Refusal as refusal:
            raise ValueError(f"{name}: {refusal}") from None
    _check_digest(name, arrays, metadata)
    return arrays, metadata


def read_forms(path: str | os.PathLike[str]) -> Forms:
    """What `load_arrays` would give, by its header alone; raises what that does."""
    found: Forms = {}

    class Done(Exception):
        pass

    def take(forms: Forms, _: dict[str, str]) -> None:
        found.update(forms)
        raise Done

    with contextlib.suppress(Done):
        load_arrays(path, take)
    return found


class _Damage(Exception):
    """What is wrong with a file's bytes."""


class _Refusal(Exception):
    """What an intact file holds that is not read."""


def _dtype(name: str) -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype(np.float32 if name == "BF16" else _DTYPES[name]).newbyteorder("=")
    return dtype


def unpickling(name: str) -> str:
    """The line of Python that makes a safetensors file of a pickle of PyTorch's, whatever its name: hence `open`."""
    new = os.path.splitext(os.path.basename(name))[0] + ".safetensors"
    loaded = f"torch.load(open({_check.brief(name)}, 'rb'), weights_only=True)"
    return f"import torch, safetensors.torch as s; s.save_file({loaded}, {_check.brief(new)})"


def _is_pickled(file: Any) -> bool:
    """Whether this is what torch.save writes, today in a zip archive, by its first bytes."""
    file.seek(0)
    start = file.read(256)
    if start[:4] == b"PK\x03\x04":
        return b"data.pkl" in start
    # A header's length that begins like a pickle has zeros where this has instructions.
    return start[:1] == b"\x80" and start[1:2] in (b"\2", b"\3", b"\4", b"\5") and any(start[4:8])


def _read_into(file: Any, buffer: memoryview, what: str) -> None:
    done = 0
    while done < len(buffer):
        count = file.readinto(buffer[done:])
        if not count:
            raise _Damage(f"it ends after {done} of the {len(buffer)} bytes of its {what}")
        done += count


def _decoded(array: np.ndarray[Any, Any], dtype: str, key: str) -> np.ndarray[Any, Any]:
    """What the bytes of a tensor stand for, in native order."""
    if dtype == "BF16":  # the upper half of a float32
        wide = array.astype(np.uint32)
        wide <<= 16
        return wide.view(np.float32)
    if dtype == "BOOL" and array.size and array.view(np.uint8).max() > 1:
        raise _Damage(f"tensor {_check.brief(key)} holds bytes that are neither 0 nor 1 for bools")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _read_header(file: Any) -> tuple[dict[str, _Entry], dict[str, str]]:
    """The tensors in the order of their places, and the metadata; _Damage if anything about them is not so."""
    size = os.fstat(file.fileno()).st_size
    start = bytearray(8)
    _read_into(file, memoryview(start), "header's length")
    length = int.from_bytes(start, "little")
    if length > size - 8:
        raise _Damage(f"its header would take {length} bytes, and there are {size - 8}")
    if length > _LARGEST_HEADER:
        raise _Damage(f"its header takes {length} bytes, more than the {_LARGEST_HEADER} that are read")
    text = bytearray(length)
    _read_into(file, memoryview(text), "header")
    problem = _too_large(text)
    if problem:
        raise _Damage(f"its header holds {problem}, more than is read")
    table = _parse(text)
    if not isinstance(table, dict):
        raise _Damage("its header is no table of tensors")
    metadata = table.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _Damage("its __metadata__ is no table of texts")
    entries = {key: _entry(key, value) for key, value in table.items()}
    ordered = sorted(entries.items(), key=lambda item: item[1][2:])
    place = 0
    for key, (_, _, begin, end) in ordered:
        if begin != place:
            raise _Damage(f"tensor {_check.brief(key)} begins at byte {begin}, and the one before it ends at {place}")
        place = end
    if 8 + length + place != size:
        raise _Damage(f"its tensors take {place} bytes, and {size - 8 - length} follow the header")
    return dict(ordered), metadata


def _parse(text: bytearray) -> Any:
    objects = 0

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal objects
        objects += 1
        if objects > _MOST_TENSORS + 2:
            raise _Damage(f"its header has more than the {_MOST_TENSORS} tensors that are read")
        table = dict(pairs)
        if len(table) != len(pairs):
            names = [key for key, _ in pairs]
            twice = next(key for i, key in enumerate(names) if key in names[:i]) if len(names) < 1000 else "one"
            raise _Damage(f"its header names {_check.brief(twice)} twice")
        return table

    def wrong(constant: str) -> None:
        raise _Damage(f"its header holds {constant}")

    try:
        table = json.loads(text.decode(), object_pairs_hook=unique, parse_constant=wrong)
        if b"\\ud" in text.lower():  # half of a character, which UTF-8 lacks, can be written as an escape
            json.dumps(table, ensure_ascii=False).encode()
        return table
    except RecursionError:
        raise _Damage("its header is nested too deeply") from None
    except ValueError as error:
        raise _Damage(f"its header is no JSON: {_check.brief(str(error), str)}") from None


def _entry(key: str, value: Any) -> _Entry:
    what = f"tensor {_check.brief(key)}"
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise _Damage(f"{what} is not given as dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str):
        raise _Damage(f"the dtype of {what} is {_check.brief(dtype)}")
    if not _are_sizes(shape) or len(shape) > 32:
        raise _Damage(f"the shape of {what} is {_check.brief(shape)}")
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _Damage(f"the data_offsets of {what} are {_check.brief(offsets)}")
    if dtype in _DTYPES:
        itemsize = np.dtype(_DTYPES[dtype]).itemsize
        # NumPy multiplies all sizes but the zeros, and refuses what does not fit an address.
        if math.prod(length or 1 for length in shape) * itemsize > sys.maxsize:
            raise _Damage(f"no array can have the shape of {what}, {_check.brief(shape)}")
        if math.prod(shape) * itemsize != offsets[1] - offsets[0]:
            raise _Damage(f"{what} of {dtype} {_check.brief(shape)} has {offsets[1] - offsets[0]} bytes")
    return dtype, tuple(shape), offsets[0], offsets[1]


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(size) is int and 0 <= size < 2**63 for size in value)


def _too_large(text: bytes | bytearray) -> str | None:
    """What a header has too much of to be parsed in little memory and time."""
    if len(text) > _LARGEST_HEADER:
        return f"a header of {len(text)} bytes"
    lists = text.count(b"[") + text.count(b"{")
    return f"{lists} lists and tables" if lists > _MOST_LISTS else None


# ---- checksums --------------------------------------------------------------------------------------


def checksum(text: str, arrays: Mapping[str, np.ndarray[Any, Any]]) -> str:
    """CRC-32 over a text and each array's name, dtype, shape and bytes, in hexadecimal."""
    crc = zlib.crc32(text.encode())
    for name in sorted(arrays):
        array = _little(arrays[name])
        crc = zlib.crc32(f"{name} {array.dtype.name} {array.shape}".encode(), crc)
        crc = zlib.crc32(array.reshape(-1).view(np.uint8).data, crc)
    return f"{crc:08x}"


def _digested(metadata: Mapping[str, str]) -> str:
    """The part of the metadata that its checksum is over."""
    return json.dumps(sorted((key, value) for key, value in metadata.items() if key != _DIGEST))


def _check_digest(name: str, arrays: Arrays, metadata: Mapping[str, str]) -> None:
    if _DIGEST in metadata:
        if metadata[_DIGEST] != checksum(_digested(metadata), arrays):
            raise ValueError(f"{name} is damaged: its checksum is not the one recorded in it")
    elif MODEL in metadata and len(metadata) > 1:
        # A changed bit in the checksum's name must not pass for there being none.
        others = _check.brief(sorted(metadata.keys() - {MODEL}))
        raise ValueError(f"{name} is damaged: in place of its checksum it has {others}")
