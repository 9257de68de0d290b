"""HDF5 files of strangers: their groups, texts and arrays.

They are read here, and not by h5py, since HDF5's library believes what a file says: of files with a few damaged bytes
version 2.0.0 was busy for ever, took gigabytes, or ended the process. Here every place is compared with the file's
size before it is read, every walk is bounded, and no memory is taken but for arrays that the file really has.

What is read is what h5py writes if it is not told otherwise, and all that Keras does: groups as tables of symbols or as
links in their headers, texts in attributes, arrays that lie in one piece or in chunks, packed by deflate and shuffle.
Source: HDF5 File Format Specification Version 3.0, https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from fastnn import _check

SIGNATURE = b"\x89HDF\r\n\x1a\n"
#: What a packed array may grow to, as a multiple of its bytes in the file.
MOST_EXPANSION = 100
#: A group or an array may lie so deep, and a file have so many parts.
_DEEPEST = 64
_MOST_PARTS = 1 << 18

_NOWHERE = 2**64 - 1
_DATASPACE, _LINK_INFO, _DATATYPE, _EXTERNAL, _LINK, _LAYOUT, _FILTERS = 1, 2, 3, 7, 6, 8, 11
_ATTRIBUTE, _CONTINUATION, _SYMBOLS = 12, 16, 17
_READ = (_DATASPACE, _LINK_INFO, _DATATYPE, _LINK, _LAYOUT, _FILTERS, _ATTRIBUTE)
#: Sizes and places of a float's parts by its bytes: precision, exponent (place, bits), mantissa (place, bits), bias.
_FLOATS = {
    (16, 10, 5, 0, 10, 15): "f2",
    (32, 23, 8, 0, 23, 127): "f4",
    (64, 52, 11, 0, 52, 1023): "f8",
    (16, 7, 8, 0, 7, 127): "bfloat16",
}


class Damage(Exception):
    """What is wrong with a file, or is not read of it."""


class _Type(NamedTuple):
    """Of elements: "f4", ">i8", "bfloat16", "text" or "heap" (a text elsewhere), or what is not read; and bytes."""

    kind: str
    size: int


class Stored(NamedTuple):
    """An array that is still in the file: floats or integers."""

    where: str
    shape: tuple[int, ...]
    type: _Type
    #: One piece, or the parts of it with their first indices.
    pieces: list[tuple[int, int, tuple[int, ...]]]
    chunk: tuple[int, ...] | None
    filters: tuple[int, ...]
    data: bytes

    def read(self) -> np.ndarray[Any, Any]:
        """The numbers, in native byte order and memory of their own."""
        if self.chunk is None:
            ((place, size, _),) = self.pieces
            return self._numbers(self.data[place : place + size], self.shape)
        whole = np.zeros(self.shape, self._numbers(b"", (0,)).dtype)
        for place, size, first in self.pieces:
            part = self._numbers(self._unpacked(self.data[place : place + size]), self.chunk)
            target = whole[tuple(slice(at, at + n) for at, n in zip(first, self.chunk, strict=True))]
            target[...] = part[tuple(slice(n) for n in target.shape)]
        return whole

    def _numbers(self, data: bytes, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        if self.type.kind == "bfloat16":  # the upper half of a float32
            wide = np.frombuffer(data, "<u2").astype(np.uint32) << 16
            return wide.view(np.float32).reshape(shape)
        array = np.frombuffer(data, self.type.kind).reshape(shape)
        return array.astype(array.dtype.newbyteorder("="))

    def _unpacked(self, data: bytes) -> bytes:
        wanted = math.prod(self.chunk or ()) * self.type.size
        for kind in reversed(self.filters):
            if kind == 1:
                try:
                    data = zlib.decompressobj().decompress(data, wanted + 1)
                except zlib.error:
                    raise Damage(f"{_check.brief(self.where)} is not packed as it says") from None
            elif len(data) == wanted:  # bytes of one place of all elements, then of the next
                data = np.frombuffer(data, np.uint8).reshape(self.type.size, -1).T.tobytes()
        if len(data) != wanted:
            raise Damage(f"a part of {_check.brief(self.where)} has not the {wanted} bytes that it should have")
        return data


class Hdf5:
    """Groups, texts and arrays by path, of the bytes of a file; links that lead out of it are refused."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._parts = self._taken = 0
        self._headers: dict[int, list[tuple[int, bytes]]] = {}
        self._groups: dict[int, dict[str, int | None]] = {}
        if not data.startswith(SIGNATURE):
            raise Damage("it is no HDF5 file")
        version = self._int(8, 1)
        if version not in (0, 1, 2, 3):
            raise Damage(f"its HDF5 is of version {version}, which is not read")
        sizes, base, root = (13, 24, 64) if version == 0 else (13, 28, 68) if version == 1 else (9, 12, 36)
        if self._int(sizes, 2) != 0x0808 or self._int(base, 8) != 0:
            raise Damage("its HDF5 has addresses of other sizes than 8 bytes, or begins elsewhere")
        self._root = self._int(root, 8)

    # ---- what is asked for ------------------------------------------------------------------------

    def names(self, path: str) -> list[str]:
        """What a group holds; nothing, if there is no such group."""
        place = self._find(path)
        return [] if place is None else list(self._group(place))

    def array(self, path: str) -> Stored:
        """An array; Damage if there is none."""
        place, where = self._find(path), _check.brief(path)
        messages = dict(self._header(place)) if place is not None else {}
        if not {_DATASPACE, _DATATYPE, _LAYOUT} <= messages.keys():
            raise Damage(f"there is no array {where}")
        if _EXTERNAL in messages:
            raise Damage(f"the numbers of {where} are in another file")
        shape, kind = self._shape(messages[_DATASPACE]), _type(messages[_DATATYPE])
        if kind.kind in ("text", "heap") or kind.size > 8:
            raise Damage(f"{where} is no array of numbers")
        if shape is None or min(shape, default=1) < 1 or math.prod(shape) > len(self._data) * MOST_EXPANSION:
            raise Damage(f"{where} has the shape {_check.brief(shape)}")
        filters = tuple(_filters(messages[_FILTERS])) if _FILTERS in messages else ()
        if set(filters) - {1, 2}:
            raise Damage(f"{where} is packed in a way that is not read")
        return self._laid(path, shape, kind, filters, messages[_LAYOUT])

    def text(self, path: str, name: str) -> str | None:
        """A text that is an attribute; None, if there is no such attribute."""
        found = self._attribute(path, name)
        if found is not None and len(found) != 1:
            raise Damage(f"{name} is no text, but {len(found)} of them")
        return found[0] if found else None

    def texts(self, path: str, name: str) -> list[str] | None:
        """Texts that are an attribute, or several with numbered names, since one holds no more than 64 KiB."""
        whole = self._attribute(path, name)
        if whole is not None:
            return whole
        parts: list[list[str]] = []
        while (part := self._attribute(path, f"{name}{len(parts)}")) is not None:
            parts.append(part)
        return [text for part in parts for text in part] if parts else None

    # ---- bytes --------------------------------------------------------------------------------------

    def _bytes(self, at: int, size: int) -> bytes:
        if at + size > len(self._data):
            raise Damage(f"it ends before byte {at + size}")
        return self._data[at : at + size]

    def _int(self, at: int, size: int) -> int:
        return int.from_bytes(self._bytes(at, size), "little")

    def _count(self) -> None:
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise Damage("it has more parts than are read, or goes in circles")

    # ---- objects ------------------------------------------------------------------------------------

    def _find(self, path: str) -> int | None:
        """Where a group or an array has its header, or None."""
        place, parts = self._root, [part for part in path.split("/") if part]
        if len(parts) > _DEEPEST:
            raise Damage(f"{_check.brief(path)} lies too deep")
        for part in parts:
            group = self._group(place)
            if part not in group:
                return None
            target = group[part]
            if target is None:
                raise Damage(f"{_check.brief(path)} is a link, which is not followed")
            place = target
        return place

    def _header(self, place: int) -> list[tuple[int, bytes]]:
        """An object's messages: their types and contents."""
        if place not in self._headers:
            self._headers[place] = list(self._messages(place))
        return self._headers[place]

    def _messages(self, place: int) -> Iterator[tuple[int, bytes]]:
        if self._bytes(place, 4) == b"OHDR":
            flags = self._int(place + 5, 1)
            at = place + 6 + (16 if flags & 32 else 0) + (4 if flags & 16 else 0)
            width = 1 << (flags & 3)
            blocks = [(at + width, self._int(at, width))]
            head, short = (6 if flags & 4 else 4), 1
        elif self._int(place, 1) == 1:
            blocks, head, short = [(place + 16, self._int(place + 8, 4))], 8, 2
        else:
            raise Damage(f"there is no group and no array at byte {place}")
        for at, size in blocks:  # which grows
            self._bytes(at, size)
            end = at + size
            while at + head <= end:
                self._count()
                kind, length = self._int(at, short), self._int(at + short, 2)
                flags, at = self._int(at + short + 2, 1), at + head
                if at + length > end:
                    raise Damage(f"the header at byte {place} is damaged")
                content = self._bytes(at, length)
                at += length
                if length < 4 and kind in _READ:
                    raise Damage(f"the header at byte {place} is damaged")
                if kind == _CONTINUATION:
                    begin, more = int.from_bytes(content[:8], "little"), int.from_bytes(content[8:16], "little")
                    if short == 1 and (more < 8 or self._bytes(begin, 4) != b"OCHK"):
                        raise Damage(f"the header at byte {place} is damaged")
                    blocks.append((begin + 4, more - 8) if short == 1 else (begin, more))
                elif flags & 2 and kind in _READ:
                    raise Damage("it shares what describes its arrays, which is not read")
                else:
                    yield kind, content

    def _group(self, place: int) -> dict[str, int | None]:
        """What a group holds: where each object's header is, or None for a link that is not followed."""
        if place in self._groups:
            return self._groups[place]
        found: dict[str, int | None] = {}
        for kind, content in self._header(place):
            if kind == _SYMBOLS and len(content) >= 16:
                found |= self._symbols(int.from_bytes(content[:8], "little"), int.from_bytes(content[8:16], "little"))
            elif kind == _LINK:
                found |= [_link(content)]
            elif kind == _LINK_INFO:
                at = 10 if content[1:2] and content[1] & 1 else 2
                if int.from_bytes(content[at : at + 8], "little") != _NOWHERE:
                    raise Damage(
                        "its groups are in HDF5's newer form for many links, which is not read; copy it with h5py's "
                        "usual settings"
                    )
        self._groups[place] = found
        return found

    def _symbols(self, tree: int, heap: int) -> Iterator[tuple[str, int | None]]:
        """The entries of a group that is a table of symbols."""
        if self._bytes(heap, 4) != b"HEAP":
            raise Damage(f"there is no heap of names at byte {heap}")
        size, begin = self._int(heap + 8, 8), self._int(heap + 24, 8)
        self._bytes(begin, size)
        for _, leaf in self._leaves(tree, 0, 8):
            if self._bytes(leaf, 4) != b"SNOD":
                raise Damage(f"there are no symbols at byte {leaf}")
            for i in range(self._int(leaf + 6, 2)):
                self._count()
                at = leaf + 8 + 40 * i
                name, target, cached = self._int(at, 8), self._int(at + 8, 8), self._int(at + 16, 4)
                if name >= size:
                    raise Damage(f"a name at byte {at} is outside of its heap")
                end = self._data.find(b"\0", begin + name, begin + size)
                if end < 0:
                    raise Damage(f"a name at byte {at} has no end")
                yield _decoded(self._data[begin + name : end]), None if cached == 2 else target

    def _leaves(self, tree: int, kind: int, key: int) -> Iterator[tuple[bytes, int]]:
        """The keys and children of a tree's lowest nodes, in order."""
        seen: set[int] = set()
        todo = [(tree, -1)]
        while todo:
            place, wanted = todo.pop()
            if place == _NOWHERE:
                continue
            if place in seen or self._bytes(place, 4) != b"TREE" or self._int(place + 4, 1) != kind:
                raise Damage(f"the tree at byte {place} is damaged")
            seen.add(place)
            level, count = self._int(place + 5, 1), self._int(place + 6, 2)
            if wanted not in (-1, level):
                raise Damage(f"the tree at byte {place} is damaged")
            inner = []
            for i in range(count):
                self._count()
                at = place + 24 + (key + 8) * i
                child = self._int(at + key, 8)
                if level:
                    inner.append((child, level - 1))
                else:
                    yield self._bytes(at, key), child
            todo += reversed(inner)

    # ---- arrays -------------------------------------------------------------------------------------

    def _shape(self, content: bytes) -> tuple[int, ...] | None:
        """The sizes that a dataspace message says; None if it is of nothing."""
        version, rank = content[0], content[1]
        if version not in (1, 2) or rank > 32 or (version == 2 and content[3] == 2):
            return None
        at = 8 if version == 1 else 4
        sizes = [content[at + 8 * i : at + 8 * i + 8] for i in range(rank)]
        if any(len(size) < 8 for size in sizes):
            raise Damage("a shape is damaged")
        return tuple(int.from_bytes(size, "little") for size in sizes)

    def _laid(self, path: str, shape: tuple[int, ...], kind: _Type, filters: tuple[int, ...], content: bytes) -> Stored:
        """Where the numbers of an array are."""
        where, size = _check.brief(path), math.prod(shape) * kind.size
        version, layout = content[0], content[1]
        if version not in (3, 4) or layout > 2 or (version == 4 and layout == 2):
            raise Damage(f"{where} is laid out in a way that is not read; copy the file with h5py's usual settings")
        if layout == 0:
            held = int.from_bytes(content[2:4], "little")
            if held != size or len(content) < 4 + size:
                raise Damage(f"{where} of shape {_check.brief(shape)} has {held} bytes in the file")
            return Stored(path, shape, kind, [(0, size, ())], None, (), content[4 : 4 + size])
        if layout == 1:
            place, held = int.from_bytes(content[2:10], "little"), int.from_bytes(content[10:18], "little")
            if held != size or place + size > len(self._data):
                raise Damage(f"{where} of shape {_check.brief(shape)} has {held} bytes in the file")
            self._take(size)
            return Stored(path, shape, kind, [(place, size, ())], None, (), self._data)
        tree = int.from_bytes(content[3:11], "little")
        chunk = tuple(int.from_bytes(content[11 + 4 * i : 15 + 4 * i], "little") for i in range(content[2]))
        if len(chunk) != len(shape) + 1 or not shape or min(chunk) < 1 or chunk[-1] != kind.size:
            raise Damage(f"{where} is cut into chunks of shape {_check.brief(chunk)}")
        pieces = list(self._chunks(tree, shape, chunk[:-1]))
        wanted = math.prod(-(-n // part) for n, part in zip(shape, chunk, strict=False))
        held = sum(piece[1] for piece in pieces)
        most = math.prod(chunk) * len(pieces)
        if len(pieces) != wanted or most > max(MOST_EXPANSION * held, 1 << 16) or (not filters and held != most):
            raise Damage(f"{where} of shape {_check.brief(shape)} has {held} bytes in {len(pieces)} chunks")
        self._take(held)
        return Stored(path, shape, kind, pieces, chunk[:-1], filters, self._data)

    def _take(self, size: int) -> None:
        """Count the bytes of arrays: of many that are the same bytes again and again, a small file could have much."""
        self._taken += size
        if self._taken > len(self._data):
            raise Damage("its arrays have more bytes than it has")

    def _chunks(
        self, tree: int, shape: tuple[int, ...], chunk: tuple[int, ...]
    ) -> Iterator[tuple[int, int, tuple[int, ...]]]:
        seen: set[tuple[int, ...]] = set()
        for key, place in self._leaves(tree, 1, 16 + 8 * len(shape)):
            first = tuple(int.from_bytes(key[8 + 8 * i : 16 + 8 * i], "little") for i in range(len(shape)))
            fits = all(at < size and at % part == 0 for at, size, part in zip(first, shape, chunk, strict=True))
            size, skipped = int.from_bytes(key[:4], "little"), int.from_bytes(key[4:8], "little")
            if first in seen or not fits or skipped or place + size > len(self._data):
                raise Damage(f"a chunk at {_check.brief(first)} is damaged")
            seen.add(first)
            yield place, size, first

    # ---- texts --------------------------------------------------------------------------------------

    def _attribute(self, path: str, name: str) -> list[str] | None:
        """The texts of an attribute, or None."""
        place = self._find(path)
        wanted = name.encode()
        for kind, content in self._header(place) if place is not None else ():
            if kind == _ATTRIBUTE and (parts := _attribute(content)) is not None and parts[0] == wanted:
                return self._texts(name, *parts[1:])
        return None

    def _texts(self, name: str, kind: bytes, space: bytes, data: bytes) -> list[str]:
        shape, of = self._shape(space), _type(kind)
        count = 0 if shape is None else math.prod(shape)
        if not count:
            return []
        if of.kind not in ("text", "heap") or of.size < 1 or count * of.size > len(data):
            raise Damage(f"{name} is no text")
        rows = [data[of.size * i : of.size * (i + 1)] for i in range(count)]
        if of.kind == "text":
            return [_decoded(row.split(b"\0", 1)[0].rstrip(b" ") if row else row) for row in rows]
        return [_decoded(self._of_heap(row)) for row in rows]

    def _of_heap(self, reference: bytes) -> bytes:
        """What a heap of texts holds at a reference: the length, the heap's place, the number of the object."""
        length, heap = int.from_bytes(reference[:4], "little"), int.from_bytes(reference[4:12], "little")
        number = int.from_bytes(reference[12:16], "little")
        if not length:
            return b""
        if self._bytes(heap, 4) != b"GCOL":
            raise Damage(f"there is no heap of texts at byte {heap}")
        at, end = heap + 16, heap + self._int(heap + 8, 8)
        while at + 16 <= end:
            self._count()
            index, size = self._int(at, 2), self._int(at + 8, 8)
            if index == number and size >= length:
                return self._bytes(at + 16, length).split(b"\0", 1)[0]
            if index == 0:
                break
            at += 16 + -(-size // 8) * 8
        raise Damage(f"a text is not in its heap at byte {heap}")


def _decoded(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise Damage("a name or a text in it is not UTF-8") from None


def _type(content: bytes) -> _Type:
    """What a datatype message says."""
    kind, bits, size = content[0] & 15, content[1], int.from_bytes(content[4:8], "little")
    order = ">" if bits & 1 else "<"
    if kind == 0 and size in (1, 2, 4, 8) and content[8:12] == bytes([0, 0, 8 * size, 0]):
        return _Type(f"{order}{'i' if bits & 8 else 'u'}{size}", size)
    if kind == 1 and len(content) >= 20 and content[8:10] == b"\0\0":
        parts = (int.from_bytes(content[10:12], "little"), *content[12:16], int.from_bytes(content[16:20], "little"))
        name = _FLOATS.get(parts)
        if name is not None and 8 * size == parts[0] and not bits & 64 and (name != "bfloat16" or order == "<"):
            return _Type(name if name == "bfloat16" else order + name, size)
    if kind == 5 and size == 2 and content[8:9] in (b"", b"\0"):  # what NumPy has no name for
        return _Type("bfloat16", size)
    if kind == 3:
        return _Type("text", size)
    if kind == 9 and bits & 15 == 1 and size == 16:
        return _Type("heap", size)
    return _Type("other", 1 << 20)


def _filters(content: bytes) -> Iterator[int]:
    """The numbers of the ways in which an array is packed."""
    version, count = content[0], content[1]
    at = 8 if version == 1 else 2
    for _ in range(count):
        kind = int.from_bytes(content[at : at + 2], "little")
        named = version == 1 or kind >= 256
        name = int.from_bytes(content[at + 2 : at + 4], "little") if named else 0
        at += 4 if named else 2
        values = int.from_bytes(content[at + 2 : at + 4], "little")
        at += 4 + (-(-name // 8) * 8 if version == 1 else name) + 4 * (values + (values % 2 if version == 1 else 0))
        yield kind


def _link(content: bytes) -> tuple[str, int | None]:
    """The name of a link message, and where it leads, or None for one that is not followed."""
    flags, at = content[1], 2
    kind = content[at] if flags & 8 else 0
    at += (1 if flags & 8 else 0) + (8 if flags & 4 else 0) + (1 if flags & 16 else 0)
    width = 1 << (flags & 3)
    size = int.from_bytes(content[at : at + width], "little")
    at += width
    name, target = content[at : at + size], content[at + size : at + size + 8]
    if len(name) < size or (kind == 0 and len(target) < 8):
        raise Damage("a link is damaged")
    return _decoded(name), int.from_bytes(target, "little") if kind == 0 else None


def _attribute(content: bytes) -> tuple[bytes, bytes, bytes, bytes] | None:
    """Name, datatype, dataspace and data of an attribute message; None if they are elsewhere."""
    version = content[0]
    if version not in (1, 2, 3) or (version > 1 and content[1] & 3):
        return None
    sizes = [int.from_bytes(content[at : at + 2], "little") for at in (2, 4, 6)]
    at, parts = (9 if version == 3 else 8), []
    for size in sizes:
        parts.append(content[at : at + size])
        at += -(-size // 8) * 8 if version == 1 else size
    if at > len(content) or len(parts[1]) < 8 or len(parts[2]) < 4:
        raise Damage("an attribute is damaged")
    return parts[0].split(b"\0", 1)[0], parts[1], parts[2], content[at:]
