"""Networks as ONNX files: read, trained on, and written. It needs the package onnx: `pip install "fastnn[onnx]"`.

`load` reads a file as a `Network`, a module like others; `save` writes a module; `Backend` runs ONNX's own tests.
"""

from fastnn.onnx.backend import Backend
from fastnn.onnx.network import Network, load
from fastnn.onnx.save import save

__all__ = ["Backend", "Network", "load", "save"]
