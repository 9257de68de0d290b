"""The IDX format of MNIST: an array of any shape behind a short header.

A file is two zero bytes, a type code, the number of axes, one big-endian 32-bit length an axis, and
the elements, big-endian, last axis fastest. Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST
database of handwritten digits", section "The IDX file format".
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn import _check
from fastnn.files import write_atomically

_TYPES: dict[int, np.dtype[Any]] = {
    0x08: np.dtype(np.uint8),
    0x09: np.dtype(np.int8),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
_CODES = {dtype.newbyteorder("="): code for code, dtype in _TYPES.items()}
_MOST_AXES = 32  # of an array in every NumPy
_LONGEST_AXIS = 2**32 - 1
_GZIP_MAGIC = b"\x1f\x8b"
_CHUNK = 1 << 18  # bytes


class NotIDXError(ValueError):
    """A file does not begin as IDX files do."""


#: Called with the dtype and shape of a file's header; raises ValueError if they are not those wanted.
Check = Callable[[np.dtype[Any], tuple[int, ...]], None]


def read_idx(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Read an array from an IDX file, compressed with gzip or not.

    Parameters
    ----------
    path : path-like
        Its first bytes, not its name, tell whether it is compressed.

    Returns
    -------
    ndarray
        uint8, int8, int16, int32, float32 or float64, in native byte order, writeable.

    Raises
    ------
    ValueError
        If the file is anything but one whole IDX array; names the file and what is wrong. No more
        is held in memory than the file has bytes to give, whatever its header says.
    OSError
        If the file cannot be opened or read.
    """
    return read_checked(_check.path("path", path))


def read_checked(path: str, check: Check | None = None) -> NDArray[Any]:
    """As `read_idx`; what `check` refuses is refused before the elements are read, or unpacked."""
    from fastnn.files import named

    with named(path), open(path, "rb") as file:
        if file.peek(2)[:2] != _GZIP_MAGIC:
            return _read(file, path, check)

        import gzip
        import zlib

        try:
            with gzip.GzipFile(fileobj=file) as plain:
                return _read(cast(BinaryIO, plain), path, check)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(f"{path}: damaged gzip file: {error}") from error


def write_idx(path: str | os.PathLike[str], array: ArrayLike) -> None:
    """Write an array as an IDX file.

    A reader sees the old file or the whole new one, whenever this process ends: the bytes go to a
    temporary name in the same folder, reach the disk, and then take the place of `path`.

    Parameters
    ----------
    path : path-like
        Compressed with gzip if its name ends in ``.gz``.
    array : array_like
        uint8, int8, int16, int32, float32 or float64, with 1 to 32 axes of less than 2**32.

    Raises
    ------
    TypeError
        For any other dtype; nothing is converted silently.
    ValueError
        For another number of axes, or an axis that is too long.
    OSError
        If the file cannot be written; `path` is then as it was.
    """
    path = _check.path("path", path)
    values = np.asarray(array)
    native = values.dtype.newbyteorder("=")
    if native not in _CODES:
        names = ", ".join(str(dtype) for dtype in _CODES)
        raise TypeError(f"array: IDX holds {names}, got {values.dtype}")
    if not 1 <= values.ndim <= _MOST_AXES or max(values.shape) > _LONGEST_AXIS:
        raise ValueError(
            f"array: IDX holds 1 to {_MOST_AXES} axes of at most {_LONGEST_AXIS}, got shape {values.shape}"
        )
    code = _CODES[native]
    header = bytes([0, 0, code, values.ndim]) + np.array(values.shape, ">u4").tobytes()
    elements = np.ascontiguousarray(values, dtype=_TYPES[code]).reshape(-1).view(np.uint8).data

    if not path.endswith(".gz"):
        write_atomically(path, header, elements)
        return
    import gzip
    import io

    compressed = io.BytesIO()
    # No name and no time in the gzip header: the same array gives the same bytes.
    with gzip.GzipFile("", "wb", 9, compressed, mtime=0) as packed:
        packed.write(header)
        packed.write(elements)
    write_atomically(path, compressed.getbuffer())


def _read(file: BinaryIO, path: str, check: Check | None) -> NDArray[Any]:
    magic = _read_exactly(file, 4, path, "magic number")
    if magic[:2] != b"\0\0" or magic[2] not in _TYPES or not 1 <= magic[3] <= _MOST_AXES:
        raise NotIDXError(
            f"{path}: no IDX file: it begins with the bytes {magic.hex(' ')}; expected 00 00, "
            f"a type ({', '.join(f'{code:02x}' for code in _TYPES)}) and a number of axes from "
            f"01 to {_MOST_AXES:02x}"
        )
    dtype = _TYPES[magic[2]]
    lengths = np.frombuffer(_read_exactly(file, 4 * magic[3], path, "axis lengths"), ">u4")
    shape = tuple(map(int, lengths))
    # NumPy multiplies all lengths but the zeros, and refuses what does not fit an address.
    if math.prod(length or 1 for length in shape) * dtype.itemsize > sys.maxsize:
        raise ValueError(f"{path}: no array can have the shape {shape} that its header gives")
    if check is not None:
        check(dtype.newbyteorder("="), shape)
    size = math.prod(shape) * dtype.itemsize
    elements = _read_exactly(file, size, path, f"{size} bytes of {dtype.name} {shape}")
    if file.read(1):
        raise ValueError(f"{path}: bytes follow after the end of its {dtype.name} array {shape}")
    array: NDArray[Any] = np.frombuffer(elements, dtype).reshape(shape)
    if not dtype.isnative:
        array = array.byteswap(inplace=True).view(dtype.newbyteorder("="))
    return array


def _read_exactly(file: BinaryIO, size: int, path: str, what: str) -> bytearray:
    # In chunks: a header may promise more than there is, so memory follows what has arrived.
    data = bytearray()
    while len(data) < size:
        chunk = file.read(min(_CHUNK, size - len(data)))
        if not chunk:
            raise ValueError(f"{path}: ends after {len(data)} bytes of its {what}")
        data += chunk
    return data
