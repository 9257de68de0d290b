"""HDF5 files of strangers, read through h5py; what its C library does not survive is looked for first.

HDF5's library believes a file: a damaged heap of texts keeps it busy for ever or takes all memory, and a nested type
where a text is expected ends the process (seen with HDF5 2.0.0). So heaps are walked here before it sees the file,
attributes are read only where they are texts, and arrays only where they are plain numbers that the file really has.
Source of the layout: HDF5 File Format Specification Version 3.0, section III.E, "Global Heap".
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from fastnn import _check

SIGNATURE = b"\x89HDF\r\n\x1a\n"
#: What a compressed array may grow to, as a multiple of its bytes in the file.
MOST_EXPANSION = 100
#: Filters of HDF5 itself: deflate, shuffle, Fletcher's checksum. Others would load code from elsewhere.
_FILTERS = {1, 2, 3}
#: A dataset or a group may lie so deep.
_DEEPEST = 64


class Damage(Exception):
    """What is wrong with a file, or is not read of it."""


def library() -> Any:
    """The package h5py."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError(
            'HDF5 files are read with h5py, which is not installed: pip install "fastnn[interop]"'
        ) from error
    return h5py


class Stored(NamedTuple):
    """An array that is still in the file: floats or integers."""

    where: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    dataset: Any

    def read(self) -> np.ndarray[Any, Any]:
        """The numbers, in native byte order."""
        with _refused(self.where):
            return np.asarray(self.dataset[()]).astype(self.dtype.newbyteorder("="), copy=False)


@contextlib.contextmanager
def open_hdf5(data: bytes) -> Iterator[Hdf5]:
    """The contents of an HDF5 file, to be read within the block; Damage where they cannot be."""
    h5py = library()
    _check_heaps(data)
    with _refused("the file"):
        file = h5py.File(io.BytesIO(data), "r")
    try:
        yield Hdf5(h5py, file, len(data))
    finally:
        file.close()


class Hdf5:
    """Groups, texts and arrays by path; links that lead out of the file, or are mere names, are refused."""

    def __init__(self, h5py: Any, file: Any, size: int) -> None:
        self._h5py, self._file, self._size = h5py, file, size

    def names(self, path: str) -> list[str]:
        """What a group holds; nothing, if there is no such group."""
        group = self._find(path)
        if not isinstance(group, self._h5py.Group):
            return []
        with _refused(path):
            return list(group)

    def array(self, path: str) -> Stored:
        """An array; Damage if there is none."""
        dataset = self._find(path)
        where = _check.brief(path)
        if not isinstance(dataset, self._h5py.Dataset):
            raise Damage(f"there is no array {where}")
        with _refused(path):
            shape, dtype, plist = dataset.shape, dataset.dtype, dataset.id.get_create_plist()
            stored = dataset.id.get_storage_size()
            elsewhere = plist.get_external_count() or dataset.is_virtual
            filters = {plist.get_filter(i)[0] for i in range(plist.get_nfilters())}
            chunks, first = dataset.chunks, dataset.id.get_offset()
        if elsewhere:
            raise Damage(f"the numbers of {where} are in another file")
        if shape is None or dtype.kind not in "fiu" or dtype.itemsize > 8:
            raise Damage(f"{where} is no array of numbers, but of {_check.brief(str(dtype), str)}")
        if filters - _FILTERS:
            raise Damage(f"{where} is compressed in a way that is not read")
        size = math.prod(shape) * dtype.itemsize
        if chunks is not None:
            held = stored * MOST_EXPANSION
            fits = math.prod(chunks) <= max(2 * math.prod(shape), 4096) and stored <= self._size
        else:
            held, fits = stored, first is None or first + size <= self._size
        if size > held or not fits or min(shape, default=1) < 1:
            raise Damage(f"{where} of shape {_check.brief(shape)} has {stored} bytes in the file")
        return Stored(path, tuple(shape), dtype, dataset)

    def text(self, path: str, name: str) -> str | None:
        """A text that is an attribute; None, if there is no such attribute."""
        found = self._attribute(path, name)
        if found is None:
            return None
        if len(found) != 1:
            raise Damage(f"{name} is no text, but {len(found)} of them")
        return found[0]

    def texts(self, path: str, name: str) -> list[str] | None:
        """Texts that are an attribute, or several with numbered names, since one holds no more than 64 KiB."""
        whole = self._attribute(path, name)
        if whole is not None:
            return whole
        parts: list[list[str]] = []
        while (part := self._attribute(path, f"{name}{len(parts)}")) is not None:
            parts.append(part)
        return [text for part in parts for text in part] if parts else None

    def _attribute(self, path: str, name: str) -> list[str] | None:
        item = self._find(path)
        if item is None:
            return None
        h5 = self._h5py
        with _refused(f"{name} of {path}"):
            if not h5.h5a.exists(item.id, name.encode()):
                return None
            attribute = h5.h5a.open(item.id, name.encode())
            kind, shape = attribute.get_type(), attribute.shape
            if shape == (0,):
                return []
            if not (isinstance(kind, h5.h5t.TypeStringID) and len(shape) <= 1):
                raise Damage(f"{name} is no text")
            stored = attribute.get_storage_size()
            if stored > self._size or math.prod(shape) * (16 if kind.is_variable_str() else kind.get_size()) > stored:
                raise Damage(f"{name} has {stored} bytes in the file")
            value = item.attrs[name]
        return [v.decode() if isinstance(v, bytes) else str(v) for v in np.atleast_1d(np.asarray(value, object))]

    def _find(self, path: str) -> Any:
        """A group or an array by its path, or None."""
        item = self._file
        parts = [part for part in path.split("/") if part]
        if len(parts) > _DEEPEST:
            raise Damage(f"{_check.brief(path)} lies too deep")
        for part in parts:
            with _refused(path):
                if not isinstance(item, self._h5py.Group) or part not in item:
                    return None
                link = item.get(part, getlink=True)
                if not isinstance(link, self._h5py.HardLink):
                    raise Damage(f"{_check.brief(path)} is a link, which is not followed")
                item = item[part]
        return item


@contextlib.contextmanager
def _refused(what: str) -> Iterator[None]:
    """Whatever h5py raises of a damaged file, as Damage."""
    try:
        yield
    except (Damage, MemoryError):
        raise
    except Exception as error:
        raise Damage(f"{_check.brief(what)} cannot be read: {_check.brief(str(error), str)}") from None


def _check_heaps(data: bytes) -> None:
    """Whether each heap of texts is a row of objects that ends where it says."""
    at = data.find(b"GCOL\1")
    while at >= 0:
        end = at + int.from_bytes(data[at + 8 : at + 16], "little")
        place = at + 16
        while place + 16 <= end <= len(data):
            size = int.from_bytes(data[place + 8 : place + 16], "little")
            numbered = data[place : place + 2] != b"\0\0"
            step = 16 + (size + 7) // 8 * 8 if numbered else size  # of what is free, the size counts all
            if not 16 <= step <= end - place:
                raise Damage(f"a heap of texts at byte {at} is damaged")
            place += step
        if end > len(data) or end < at + 16:
            raise Damage(f"a heap of texts at byte {at} is damaged")
        at = data.find(b"GCOL\1", at + 5)
