"""The operators of ONNX files, one family a file: importing them registers them (see fastnn.onnx.operator)."""

from fastnn.onnx.operators import (  # noqa: F401
    activation,
    conv,
    elementwise,
    linear,
    loss,
    norm,
    optimizer,
    pool,
    random,
    resize,
    shape,
)
