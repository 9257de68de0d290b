"""What is asked of data sets in files: a split, and a folder or those where data are looked for."""

from __future__ import annotations

import os
import sys
from typing import Any

from fastnn import _check


class DataNotFoundError(FileNotFoundError):
    """Files of a data set are in none of the places.

    Attributes
    ----------
    advice : str
        What is missing, and where to put it; how a place is named is for whoever was given its name.
    """

    def __init__(self, advice: str) -> None:
        super().__init__(f"{advice}, or say where they are with root= or the environment variable FASTNN_DATA.")
        self.advice = advice


def split_of(split: Any, *known: str) -> str:
    """Return `split` if it is one of the known ones; ValueError otherwise, for a folder too.

    torchvision's functions take the folder first.
    """
    if not isinstance(split, str) or split not in known:
        names = ", ".join(map(repr, known))
        raise ValueError(
            f"split must be one of {names}, got {_check.brief(split)}; the folder of the files is the second "
            "argument, root"
        )
    return split


def places(root: str | os.PathLike[str] | None) -> list[str]:
    """List the folders that hold data: `root` alone if it is given, or else the usual ones.

    These are the folder that ``FASTNN_DATA`` names, if it does, and the cache folder.
    """
    if root is not None:
        return [os.path.expanduser(_check.path("root", root))]
    named = os.environ.get("FASTNN_DATA")
    return ([os.path.expanduser(named)] if named else []) + [cache_folder()]


def cache_folder() -> str:
    """Return fastnn's folder among the user's caches.

    On Linux and its kin ``$XDG_CACHE_HOME/fastnn``, which is ``~/.cache/fastnn`` by default (XDG
    Base Directory Specification); ``~/Library/Caches/fastnn`` on macOS;
    ``%LOCALAPPDATA%\\fastnn\\Cache`` on Windows.
    """
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA") or os.path.expanduser(r"~\AppData\Local")
        return os.path.join(local, "fastnn", "Cache")
    if sys.platform == "darwin":
        return os.path.expanduser("~/Library/Caches/fastnn")
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    # The specification has relative paths ignored.
    return os.path.join(xdg if os.path.isabs(xdg) else os.path.expanduser("~/.cache"), "fastnn")
