"""What a .t7 file of Torch7 holds: tables, objects of classes, tensors and storages; no code of it is run.

A value is a tag and its content: 0 nil; 1 a number (a double); 2 a string (its length, its bytes); 3 a table and 4 an
object (an index, by which later ones refer to it, and, the first time, the content); 5 a bool; 6, 7 and 8 functions
(their code, and a table of what they hold). An object is a version, a class and what the class writes: a tensor its
sizes, strides, offset and storage; a storage its numbers; all others a table. Ints have 4 bytes, longs 8, or 4 where
32-bit machines have written; in ASCII files they are text.
Source: https://github.com/torch/torch7, File.lua, lib/TH/THDiskFile.c, generic/Tensor.c and generic/Storage.c.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Generator
from typing import Any, TypeAlias

import numpy as np

from fastnn import _check

_DEEPEST = 10_000  # values within values
_LONGEST_NUMBER = 40  # characters
_WORD = re.compile(rb"\s*([-+.\w]{1,40})(?=\s)")  # what ends with the file may have been cut
_NUMBERS = {"Byte": "u1", "Char": "i1", "Short": "<i2", "Int": "<i4", "Float": "<f4", "Double": "<f8", "Half": "<f2"}
_ARRAYS = re.compile(rf"torch\.(Cuda|Cl)?({'|'.join(_NUMBERS)}|Long)?(Tensor|Storage)")


class Damage(Exception):
    """What is wrong with a file's bytes."""


class Table(dict[Any, Any]):
    """A table of Lua's; one is a key of another by what it is, not by what it holds."""

    __hash__ = object.__hash__  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return self is other

    def items_in_order(self) -> list[Any]:
        """The values of 1, 2, ..., as far as these go."""
        found: list[Any] = []
        while len(found) + 1 in self:
            found.append(self[len(found) + 1])
        return found


class Object:
    """An object of a class: `kind` is its name, `fields` a Table."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.fields = Table()


class Function:
    """A function of Lua's, which is not read."""


class Storage:
    """Numbers one after the other."""

    def __init__(self) -> None:
        self.numbers: np.ndarray[Any, Any] = np.empty(0)


class Tensor:
    """A view of a storage: sizes, strides and the place of its first number; `storage` may be None."""

    def __init__(self) -> None:
        self.sizes: tuple[int, ...] = ()
        self.strides: tuple[int, ...] = ()
        self.offset = 0
        self.storage: Storage | None = None

    def array(self) -> np.ndarray[Any, Any]:
        """Its numbers; ValueError where they are not all there, or there are more than the storage has."""
        numbers = np.empty(0) if self.storage is None else self.storage.numbers
        count = math.prod(self.sizes) if self.sizes else 0
        if not count:
            return np.empty(self.sizes or (0,), np.float32)
        last = self.offset + sum((n - 1) * s for n, s in zip(self.sizes, self.strides, strict=True))
        if self.offset < 0 or min(self.strides) < 0 or last >= numbers.size or count > numbers.size:
            raise ValueError(
                f"a tensor of sizes {_check.brief(self.sizes)} and strides {_check.brief(self.strides)} does not lie "
                f"within {numbers.size} numbers"
            )
        strides = [stride * numbers.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(numbers[self.offset :], self.sizes, strides)


_Parts: TypeAlias = Generator[None, Any, Any]


def parse(data: bytes) -> Any:
    """The value that a file holds, in whichever form it was written; Damage where it is none."""
    if re.match(rb"[0-8]\s", data):
        return _Ascii(data).whole()
    try:
        return _Binary(data, 8).whole()
    except Damage as damage:
        try:
            return _Binary(data, 4).whole()
        except Damage:
            raise damage from None


class _Binary:
    """A binary file, whose longs have `long` bytes."""

    def __init__(self, data: bytes, long: int) -> None:
        self._data = data
        self._at = 0
        self._known: dict[int, Any] = {}
        self._long = f"<i{long}"

    # ---- what is written ------------------------------------------------------------------------

    def _bytes(self, count: int) -> bytes:
        if not 0 <= count <= len(self._data) - self._at:
            there = len(self._data) - self._at
            raise Damage(f"at byte {self._at} it announces {_check.brief(count)} bytes, and there are {there}")
        self._at += count
        return self._data[self._at - count : self._at]

    def _int(self) -> int:
        return int.from_bytes(self._bytes(4), "little", signed=True)

    def _double(self) -> float:
        return float(struct.unpack("<d", self._bytes(8))[0])

    def _array(self, code: str, count: int) -> np.ndarray[Any, Any]:
        dtype = np.dtype(self._long if code == "Long" else _NUMBERS[code])
        return np.frombuffer(self._bytes(count * dtype.itemsize), dtype)

    def _ends(self) -> bool:
        return self._at == len(self._data)

    # ---- values ---------------------------------------------------------------------------------

    def whole(self) -> Any:
        """The file's value. Values within values wait on a stack of our own, as they may lie deep."""
        waiting: list[_Parts] = [self._value()]
        value = None
        while waiting:
            try:
                waiting[-1].send(value)
            except StopIteration as done:
                waiting.pop()
                value = done.value
            else:
                if len(waiting) == _DEEPEST:
                    raise Damage(f"its values are nested deeper than {_DEEPEST}")
                waiting.append(self._value())
                value = None
        if not self._ends():
            raise Damage(f"behind its value, at byte {self._at}, there is more")
        return value

    def _text(self) -> str:
        return self._bytes(self._int()).decode("latin-1")

    def _value(self) -> _Parts:
        """Reads a value; yields where one within it is to be read and sent."""
        tag = self._int()
        if tag == 0:
            return None
        if tag == 1:
            return self._double()
        if tag == 2:
            return self._text()
        if tag == 5:
            return self._int() != 0
        if tag == 6:
            self._text()
            yield
            return Function()
        if tag not in (3, 4, 7, 8):
            raise Damage(f"before byte {self._at} there is the tag {tag}, which stands for nothing")
        index = self._int()
        if index in self._known:
            return self._known[index]
        if tag in (7, 8):
            self._known[index] = Function()
            self._text()
            yield
        elif tag == 3:
            table = self._known[index] = Table()
            for _ in range(self._int()):
                key = yield
                value = yield
                if key is None or key != key:
                    raise Damage(f"before byte {self._at} a table has a key that is none")
                # True is 1 in Python, and not in Lua.
                key = str(key) if isinstance(key, bool) else key
                table[int(key) if isinstance(key, float) and key.is_integer() else key] = value
        else:
            yield from self._object(index)
        return self._known[index]

    def _object(self, index: int) -> _Parts:
        kind = self._text()
        if re.fullmatch(r"V \d+", kind):
            kind = self._text()
        found = _ARRAYS.fullmatch(kind)
        code = found and (found[2] or (found[1] and "Float"))
        if found is None or not code:
            thing = self._known[index] = Object(kind)
            fields = yield
            if not isinstance(fields, Table):
                raise Damage(f"its object of class {_check.brief(kind)} holds no table")
            thing.fields = fields
        elif found[3] == "Storage":
            storage = self._known[index] = Storage()
            storage.numbers = self._array(code, self._longs(1)[0])
        else:
            tensor = self._known[index] = Tensor()
            count = self._int()
            if not 0 <= count <= 32:
                raise Damage(f"before byte {self._at} a tensor has {count} dimensions")
            tensor.sizes, tensor.strides = self._longs(count), self._longs(count)
            tensor.offset = self._longs(1)[0] - 1
            storage = yield
            if storage is not None and not isinstance(storage, Storage):
                raise Damage(f"before byte {self._at} a tensor has no storage")
            if min(tensor.sizes, default=0) < 0:
                raise Damage(f"before byte {self._at} a tensor has the sizes {_check.brief(tensor.sizes)}")
            tensor.storage = storage

    def _longs(self, count: int) -> tuple[int, ...]:
        return tuple(int(number) for number in self._array("Long", count))


class _Ascii(_Binary):
    """A file of text; bytes of strings, and of storages of bytes and chars, stand as they are."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data, 8)

    def _line_end(self) -> None:
        if self._data[self._at : self._at + 1] == b"\n":
            self._at += 1

    def _number(self) -> bytes:
        word = _WORD.match(self._data, self._at)
        if word is None:
            raise Damage(f"at byte {self._at} there is no number")
        self._at = word.end()
        self._line_end()
        return word[1]

    def _bytes(self, count: int) -> bytes:
        data = super()._bytes(count)
        if count:
            self._line_end()
        return data

    def _int(self) -> int:
        try:
            return int(self._number())
        except ValueError:
            raise Damage(f"before byte {self._at} there is no integer") from None

    def _double(self) -> float:
        try:
            return float(self._number())
        except ValueError:
            raise Damage(f"before byte {self._at} there is no number") from None

    def _array(self, code: str, count: int) -> np.ndarray[Any, Any]:
        if code in ("Byte", "Char"):
            return np.frombuffer(self._bytes(count), _NUMBERS[code])
        dtype = "<f8" if code in ("Float", "Double", "Half") else "<i8"
        if not count:
            return np.empty(0, dtype)
        start, self._at = self._at, self._data.find(b"\n", self._at) + 1
        words = self._data[start : self._at].split()
        if len(words) != count or max(map(len, words)) > _LONGEST_NUMBER:  # none where the line has no end
            raise Damage(f"at byte {start} it announces {_check.brief(count)} numbers, and the line has {len(words)}")
        try:
            return np.array(words).astype(dtype)
        except (ValueError, OverflowError):
            raise Damage(f"the line at byte {start} does not hold numbers") from None

    def _ends(self) -> bool:
        return not self._data[self._at :].strip()
