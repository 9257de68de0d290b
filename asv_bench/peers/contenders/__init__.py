"""The libraries, one a file. A file gives

NAMES            its ways of doing things (eager, compiled, ...), each a contender of its own
REQUIRES         the packages it imports: if one is absent, its contenders are left out by name
offers(name, row)          whether the contender can do this row
make(name, row, threads)   a function without arguments that does it once, ready to be timed

The files import their libraries inside functions, so that the list can be read without them.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable
from types import ModuleType

from asv_bench.peers.contenders import fastnn, jax, numpy, onnxruntime, openvino, sklearn, torch
from asv_bench.peers.rows import Row

LIBRARIES: tuple[ModuleType, ...] = (fastnn, numpy, torch, jax, sklearn, onnxruntime, openvino)

Call = Callable[[], object]


def library(name: str) -> ModuleType:
    """The file that gives this contender."""
    return next(module for module in LIBRARIES if name in module.NAMES)


def names() -> list[str]:
    """All contenders, fastnn first."""
    return [name for module in LIBRARIES for name in module.NAMES]


def absent(name: str) -> list[str]:
    """The packages that this contender needs and this environment lacks."""
    return [p for p in library(name).REQUIRES if importlib.util.find_spec(p) is None]


def version(name: str) -> str:
    """Of the contender's library, such as "torch 2.13.0"."""
    package = library(name).REQUIRES[0]
    try:
        distribution = {"sklearn": "scikit-learn"}.get(package, package)
        return f"{package} {importlib.metadata.version(distribution)}"
    except importlib.metadata.PackageNotFoundError:
        return package


def offers(name: str, row: Row) -> bool:
    return bool(library(name).offers(name, row))
