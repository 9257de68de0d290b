"""Files that are there as a whole or not at all, and arrays in them as safetensors."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write to a temporary name in the same folder, fsync, rename over `path`, fsync the folder."""
    import tempfile

    target = os.path.abspath(os.fspath(path))
    folder = os.path.dirname(target)
    handle, temporary = tempfile.mkstemp(prefix=f".{os.path.basename(target)}.", dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    # The rename itself must reach the disk; not every system lets a folder be synced.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def save_arrays(
    path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray[Any, Any]], metadata: Mapping[str, str]
) -> None:
    """Write named arrays as a safetensors file.

    Parameters
    ----------
    path : path-like
    arrays : mapping of str to array
    metadata : mapping of str to str
    """
    from safetensors.numpy import save

    contiguous = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in arrays.items()}
    write_atomically(path, save(contiguous, dict(metadata)))


#: What safetensors calls the dtypes that NumPy has.
_NUMPY = {"BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64", "F16", "F32", "F64", "C64"}


def load_arrays(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, str]]:
    """Arrays and metadata of a safetensors file; bfloat16, which NumPy lacks, is widened to float32.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged or no safetensors file, or holds a dtype that is neither NumPy's nor bfloat16.
    """
    from safetensors import SafetensorError, safe_open

    name = os.fspath(path)
    if not os.path.isfile(name):
        raise FileNotFoundError(f"there is no file {name}")
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    try:
        with safe_open(name, framework="numpy") as file:
            metadata = dict(file.metadata() or {})
            dtypes = {key: file.get_slice(key).get_dtype() for key in file.keys()}
            refusal = _refusal(dtypes)
            if refusal is None:
                for key, dtype in dtypes.items():
                    arrays[key] = _bfloat16(name, key) if dtype == "BF16" else file.get_tensor(key)
                return arrays, metadata
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        refusal = _refusal(_dtypes(name))
        if refusal is None:
            raise ValueError(f"{name} is no intact safetensors file: {error}") from None
    raise ValueError(f"{name}: {refusal}")


def _refusal(dtypes: Mapping[str, str]) -> str | None:
    """What is to be said of the first tensor whose dtype is neither NumPy's nor bfloat16."""
    for key, dtype in dtypes.items():
        if dtype not in _NUMPY and dtype != "BF16":
            return f"tensor {key!r} has dtype {dtype}, which fastnn does not read; convert it to F32, F16 or BF16"
    return None


def _header(file: BinaryIO) -> tuple[Any, int]:
    """The header of a safetensors file, and where its data begin."""
    size = int.from_bytes(file.read(8), "little")
    return json.loads(file.read(min(size, os.fstat(file.fileno()).st_size))), 8 + size


def _dtypes(name: str) -> dict[str, str]:
    """What dtypes a file says that its tensors have, if it can be read at all: to tell what is wrong with it."""
    try:
        with open(name, "rb") as file:
            header, _ = _header(file)
        return {key: str(entry["dtype"]) for key, entry in header.items() if key != "__metadata__"}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return {}


def _bfloat16(name: str, key: str) -> np.ndarray[Any, Any]:
    """A bfloat16 tensor of an intact file as float32, whose upper half it is."""
    with open(name, "rb") as file:
        header, start = _header(file)
        begin, end = header[key]["data_offsets"]
        file.seek(start + begin)
        words = np.frombuffer(file.read(end - begin), "<u2")
    wide = words.astype(np.uint32)
    wide <<= 16
    return wide.view(np.float32).reshape(header[key]["shape"])
