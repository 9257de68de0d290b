"""The operators of ONNX files, one family a file: importing them registers them (see fastnn.onnx.operator)."""

from fastnn.onnx.operators import creation, elementwise, index, linear, logic, reduce, shape  # noqa: F401
