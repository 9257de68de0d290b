"""Arrays that lie in files of their own beside an ONNX file: from its folder alone, whatever it says."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastnn import _check


class Unreadable(ValueError):
    """A file that is no ONNX network, or does not hold together."""


class External:
    """The files beside an ONNX file in `folder`; None where it is no file."""

    def __init__(self, folder: str | None) -> None:
        self.folder = folder

    def array(self, name: str, entries: Mapping[str, str], dtype: np.dtype[Any], count: int) -> np.ndarray[Any, Any]:
        """`count` elements at the place that the entries name.

        Raises
        ------
        ValueError
            If that is not within a file of the folder.
        """
        location = entries.get("location", "")
        try:
            offset = int(entries.get("offset", 0))
            length = int(entries.get("length", count * dtype.itemsize))
        except ValueError:
            raise Unreadable(f"{name}: its place in {_check.brief(location)} is not in numbers") from None
        if length != count * dtype.itemsize or offset < 0:
            raise Unreadable(f"{name}: {length} bytes from {offset} on; its shape wants {count * dtype.itemsize}")
        path = self._path(name, location)
        try:
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
        except OSError as error:
            raise Unreadable(f"{name}: {_check.brief(location)} cannot be read: {error.strerror}") from None
        with open(descriptor, "rb") as file:
            size = os.fstat(descriptor).st_size
            if offset + length > size:
                raise Unreadable(
                    f"{name}: {_check.brief(location)} has {size} bytes; {length} from {offset} on are wanted"
                )
            file.seek(offset)
            return np.frombuffer(file.read(length), dtype, count)

    def _path(self, name: str, location: str) -> str:
        """Where a file of the folder lies; ValueError for whatever could be elsewhere."""
        if self.folder is None:
            raise Unreadable(
                f"{name} lies in a file of its own, {_check.brief(location)}: load the network by its path"
            )
        parts = location.split("/")
        if not location or "\\" in location or ":" in location or "\0" in location or {"", "..", "."} & set(parts):
            raise Unreadable(f"{name}: {_check.brief(location)} is no path within the network's folder")
        path = self.folder
        for i, part in enumerate(parts):
            path = os.path.join(path, part)
            try:
                found = os.lstat(path)
            except OSError as error:
                raise Unreadable(f"{name}: {_check.brief(location)} cannot be read: {error.strerror}") from None
            last = i == len(parts) - 1
            if not (stat.S_ISREG(found.st_mode) and found.st_nlink == 1 if last else stat.S_ISDIR(found.st_mode)):
                raise Unreadable(f"{name}: {_check.brief(location)} is no plain file within the network's folder")
        return path
