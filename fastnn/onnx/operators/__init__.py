"""The operators of ONNX files, one family a file: importing them registers them (see fastnn.onnx.operator)."""

from fastnn.onnx.operators import elementwise, linear, shape  # noqa: F401
