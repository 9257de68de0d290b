"""Where data files are looked for."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def places(root: str | os.PathLike[str] | None) -> list[Path]:
    """List the folders that hold data: `root` alone if it is given, or else the usual ones.

    These are the folder that ``FASTNN_DATA`` names, if it does, and the cache folder.
    """
    if root is not None:
        bases = [Path(root)]
    else:
        named = os.environ.get("FASTNN_DATA")
        bases = [Path(named)] if named else []
        bases.append(cache_folder())
    return [Path(os.path.expanduser(base)) for base in bases]


def cache_folder() -> Path:
    """Return fastnn's folder among the user's caches.

    On Linux and its kin ``$XDG_CACHE_HOME/fastnn``, which is ``~/.cache/fastnn`` by default (XDG
    Base Directory Specification); ``~/Library/Caches/fastnn`` on macOS;
    ``%LOCALAPPDATA%\\fastnn\\Cache`` on Windows.
    """
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA") or os.path.expanduser("~\\AppData\\Local")
        return Path(local, "fastnn", "Cache")
    if sys.platform == "darwin":
        return Path(os.path.expanduser("~/Library/Caches/fastnn"))
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    # The specification has relative paths ignored.
    return Path(xdg if os.path.isabs(xdg) else os.path.expanduser("~/.cache"), "fastnn")
