"""Threads, and what this build is and runs on."""

from __future__ import annotations

import contextlib
import operator
import os
import platform
import sys
from collections.abc import Iterator
from typing import Any

import fastnn_ext.runtime as runtime

__version__ = "0.1.0"


def set_num_threads(n: int) -> None:
    """Set how many threads fastnn runs on from now on, in every Python thread.

    The default is the least of the cores, the process's affinity and its cgroup's quota;
    ``OMP_NUM_THREADS`` overrides it. Results are the same bits for any number.

    Parameters
    ----------
    n : int
        At least 1; of more than 8 for each core (64 at least) the rest is left out, with a warning.
        Where the system refuses so many, those are used that can be had.

    Raises
    ------
    TypeError, ValueError
        If n is no such integer.
    """
    runtime.set_num_threads(_thread_count(n))


def get_num_threads() -> int:
    """How many threads fastnn may use, as called now from this Python thread.

    Tells the effect of `set_num_threads`, ``OMP_NUM_THREADS`` and `threadpoolctl` alike.
    """
    return int(runtime.get_num_threads())


@contextlib.contextmanager
def threads(n: int) -> Iterator[None]:
    """Run the ``with`` block on n threads, and return to the number before.

    Parameters
    ----------
    n : int
        At least 1.

    Examples
    --------
    >>> with fn.threads(1):
    ...     y = model(x)
    """
    count = _thread_count(n)
    before = get_num_threads()
    set_num_threads(count)
    try:
        yield
    finally:
        set_num_threads(before)


def show_config(mode: str = "stdout") -> dict[str, Any] | None:
    """What fastnn was built with and what of it runs here.

    Parameters
    ----------
    mode : {"stdout", "dicts"}, default "stdout"
        Print, or return a dict (the words of `numpy.show_config`).

    Returns
    -------
    dict or None
        ``isa``: instruction sets ``compiled`` in, ``found`` on this machine among them, and the one
        ``used``, which ``FASTNN_ISA`` caps; ``openmp``: its ``version`` (the date in ``_OPENMP``; 0
        in a serial build) and the ``runtimes`` loaded in this process; ``threads``; ``compiler``.
    """
    if _is_printed(mode):
        _print(_config())
        return None
    return _config()


def show_versions(mode: str = "stdout") -> dict[str, Any] | None:
    """Versions of Python, fastnn and what it stands on: what a bug report needs.

    Parameters
    ----------
    mode : {"stdout", "dicts"}, default "stdout"
        Print, or return a dict.
    """
    if _is_printed(mode):
        _print(_versions())
        return None
    return _versions()


def _config() -> dict[str, Any]:
    from threadpoolctl import threadpool_info

    wanted = ("internal_api", "version", "num_threads", "filepath")
    return {
        "isa": {
            "compiled": list(runtime.built_isas()),
            "found": list(runtime.available_isas()),
            "used": runtime.get_isa(),
            "FASTNN_ISA": os.environ.get("FASTNN_ISA"),
        },
        "openmp": {
            "version": runtime.openmp_version(),
            "runtimes": [
                {name: entry[name] for name in wanted} for entry in threadpool_info() if entry["user_api"] == "openmp"
            ],
        },
        "threads": get_num_threads(),
        "compiler": runtime.compiler(),
    }


def _versions() -> dict[str, Any]:
    from importlib.metadata import PackageNotFoundError, version

    packages: dict[str, str | None] = {"fastnn": __version__}
    for name in ("numpy", "threadpoolctl", "safetensors", "tqdm", "matplotlib", "pillow", "pip"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = None
    return {
        "system": {
            "python": sys.version.replace("\n", " "),
            "executable": sys.executable,
            "machine": platform.platform(),
        },
        "packages": packages,
    }


def _thread_count(n: int) -> int:
    try:
        if isinstance(n, bool):
            raise TypeError
        count = operator.index(n)
    except TypeError:
        raise TypeError(f"n: expected a number of threads, an int, got {n!r}") from None
    if not 1 <= count < 2**31:
        raise ValueError(f"n: expected at least 1 thread, got {count}")
    return count


def _is_printed(mode: str) -> bool:
    if mode not in ("stdout", "dicts"):
        raise ValueError(f"mode: expected 'stdout' or 'dicts', got {mode!r}")
    return mode == "stdout"


def _print(entries: dict[str, Any], indent: str = "") -> None:
    """Nested dicts as lines of "name: value"."""
    for name, value in entries.items():
        if isinstance(value, dict):
            print(f"{indent}{name}:")
            _print(value, indent + "  ")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            print(f"{indent}{name}:")
            for entry in value:
                print(f"{indent}  {', '.join(f'{k} {v}' for k, v in entry.items())}")
        else:
            text = ", ".join(value) if isinstance(value, list) else value
            print(f"{indent}{name}: {'-' if text is None else text}")
