"""Networks that other systems have trained: Keras, Caffe, Torch7, Theano and Mocha.

Readers are imported when they are first used, and what they need beside fastnn when they read:
`pip install "fastnn[interop]"`.

load_keras      a model that Keras has saved, as .keras or HDF5, or weights into one that is there
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastnn.interop.keras import load_keras

__all__ = ["load_keras"]

_ROOMS = {"load_keras": "keras"}


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return getattr(import_module(f"fastnn.interop.{_ROOMS[name]}"), name)
    raise AttributeError(f"module 'fastnn.interop' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
