"""The onnx package, imported when it is used."""

from __future__ import annotations

from typing import Any


def package(what: str) -> Any:
    """The onnx package; `what` needs it, and says which line installs it."""
    try:
        import onnx
    except ImportError:
        raise ImportError(f'{what} needs the onnx package: pip install "fastnn[onnx]"') from None
    return onnx
