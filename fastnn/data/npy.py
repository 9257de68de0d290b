"""NumPy's .npy and .npz files, of numbers and texts; whatever bytes they hold."""

from __future__ import annotations

import errno
import io
import math
import os
import sys
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fastnn import _check
from fastnn.files import named

_LONGEST_HEADER = 1 << 16  # bytes of a .npy file: NumPy parses no more than 10 000 characters
_PIECE = 1 << 20  # bytes that are unpacked at a time


def read_npy(path: str | os.PathLike[str], kinds: str = "biuf") -> NDArray[Any]:
    """Read an array that ``np.save`` has written; objects, which would be pickled, are refused.

    Parameters
    ----------
    path : path-like
    kinds : str, default "biuf"
        The kinds of dtype that are taken, as ``dtype.kind`` has them; "U" is text.

    Returns
    -------
    ndarray

    Raises
    ------
    OSError
        If there is no such file, or the system does not let it be read.
    ValueError
        If it is damaged, or holds something else. The message begins with the path. No more memory is taken
        than the file has bytes, whatever its header announces.

    Examples
    --------
    >>> np.save("x.npy", np.eye(2))
    >>> fn.data.read_npy("x.npy")
    array([[1., 0.],
           [0., 1.]])
    """
    name = _check.path("path", path)
    with named(name), open(name, "rb") as file:
        shape, columns, dtype = _header(name, file, kinds)
        count, there = math.prod(shape), os.fstat(file.fileno()).st_size - file.tell()
        if count * dtype.itemsize > there:
            raise _too_few(name, there, shape, dtype)
        array = np.fromfile(file, dtype, count)
    if array.size != count:
        raise ValueError(f"{name}: it was made shorter while it was read")
    return array.reshape(shape, order="F" if columns else "C")


def read_npz(
    path: str | os.PathLike[str], names: Sequence[str] | None = None, kinds: str = "biuf"
) -> dict[str, NDArray[Any]]:
    """Read arrays that ``np.savez`` or ``np.savez_compressed`` has written; objects are refused.

    Parameters
    ----------
    path : path-like
    names : sequence of str, optional
        Read these alone, as far as they are there. Default: all.
    kinds : str, default "biuf"
        As of `read_npy`.

    Returns
    -------
    dict of str to ndarray

    Raises
    ------
    OSError, ValueError
        As `read_npy`. What is compressed is unpacked as far as its header announces.

    Examples
    --------
    >>> np.savez("set.npz", x=np.zeros((3, 2)), y=[0, 1, 1])
    >>> sorted(fn.data.read_npz("set.npz"))
    ['x', 'y']
    """
    import zipfile

    name = _check.path("path", path)
    arrays = {}
    with named(name), open(name, "rb") as file:
        try:
            archive = zipfile.ZipFile(file)
            members = {member.removesuffix(".npy"): member for member in archive.namelist() if member.endswith(".npy")}
            for key, member in members.items():
                if names is None or key in names:
                    arrays[key] = _member(f"{name}: {_check.brief(key, str)}", archive, member, kinds)
        except MemoryError:
            raise
        except Exception as error:
            # BadZipFile, NotImplementedError, RuntimeError, zlib's and struct's errors, ...; and EINVAL, where a place
            # in the file is none.
            if str(error).startswith(f"{name}: ") or getattr(error, "errno", errno.EINVAL) != errno.EINVAL:
                raise
            raise ValueError(f"{name}: no intact .npz file: {_check.brief(str(error), str)}") from None
    return arrays


def _member(name: str, archive: Any, member: str, kinds: str) -> NDArray[Any]:
    with archive.open(member) as file:
        shape, columns, dtype = _header(name, file, kinds)
        missing = math.prod(shape) * dtype.itemsize
        pieces: list[bytes] = []
        while missing:
            # A piece at a time: memory follows what is there.
            piece = file.read(min(missing, _PIECE))
            if not piece:
                raise _too_few(name, sum(map(len, pieces)), shape, dtype)
            pieces.append(piece)
            missing -= len(piece)
    array = np.frombuffer(bytearray().join(pieces), dtype)
    return array.reshape(shape, order="F" if columns else "C")


def _too_few(name: str, there: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> ValueError:
    return ValueError(
        f"{name}: no intact .npy file: {there} bytes follow its header, too few for {dtype} {_check.brief(shape)}"
    )


def _header(name: str, file: BinaryIO, kinds: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether columns come first, and dtype; the file stands behind its header then."""
    try:
        shape, columns, dtype = _parsed(file)
    except OSError:
        raise
    except Exception as error:
        # NumPy hands the header to Python's parser, and what that raises is no closed list: SyntaxError,
        # RecursionError, MemoryError, TypeError, ...
        raise ValueError(f"{name}: no intact .npy file: {_check.brief(str(error), str)}") from None
    if dtype.kind not in kinds:
        wanted = "numbers or texts" if "U" in kinds else "numbers"
        raise ValueError(f"{name}: holds {_check.brief(str(dtype), str)}; expected {wanted}")
    return shape, columns, dtype


def _parsed(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    begin = file.tell()
    start = io.BytesIO(file.read(_LONGEST_HEADER))  # memory would be taken for as many bytes as a header announces
    version = np.lib.format.read_magic(start)
    if version == (1, 0):
        header = np.lib.format.read_array_header_1_0(start)
    elif version == (2, 0):
        header = np.lib.format.read_array_header_2_0(start)
    else:
        raise ValueError(f"version {version} is not read")
    file.seek(begin + start.tell())
    shape, columns, dtype = header
    if len(shape) > 32 or any(type(length) is not int or not 0 <= length < 2**63 for length in shape):
        raise ValueError(f"no array has the shape {_check.brief(shape)}")
    if math.prod(length or 1 for length in shape) * max(dtype.itemsize, 1) > sys.maxsize:
        raise ValueError(f"no array can have the shape {_check.brief(shape)}")
    return shape, columns, dtype
