"""Networks as ONNX files: read, trained on, and written."""

from fastnn.onnx.save import save

__all__ = ["save"]
