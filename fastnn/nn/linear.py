"""Linear, Bilinear and Identity."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn import _check
from fastnn.nn import functional as F
from fastnn.nn import init
from fastnn.nn.module import Module
from fastnn.nn.parameter import Parameter


class Linear(Module):
    """y = x W^T + b over the last dimension.

    Parameters
    ----------
    in_features, out_features : int
    bias : bool, default True
    dtype : float32 or float64, default float32

    Attributes
    ----------
    weight : Parameter (out_features, in_features)
        Starts uniform in +-1 / sqrt(in_features), as PyTorch's.
    bias : Parameter (out_features,), or None
        Likewise.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, dtype: Any = None) -> None:
        super().__init__()
        self.in_features = _check.size("in_features", in_features, 1)
        self.out_features = _check.size("out_features", out_features, 1)
        dtype = _check.floating("dtype", dtype)
        # (in, out) in memory: the products read rows of it.
        self.weight = Parameter(np.zeros((self.out_features, self.in_features), dtype), order=(1, 0))
        has_bias = _check.flag("bias", bias)
        self.register_parameter("bias", Parameter(np.zeros(self.out_features, dtype)) if has_bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features)
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Any) -> Any:
        return F.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Bilinear(Module):
    """y_k = x1^T W_k x2 + b_k, over the last dimensions of two inputs.

    Parameters
    ----------
    in1_features, in2_features, out_features : int
    bias : bool, default True
    dtype : float32 or float64, default float32

    Attributes
    ----------
    weight : Parameter (out_features, in1_features, in2_features)
        Starts uniform in +-1 / sqrt(in1_features), as PyTorch's.
    bias : Parameter (out_features,), or None
        Likewise.

    Examples
    --------
    >>> nn.Bilinear(2, 3, 4)(np.ones((5, 2), np.float32), np.ones((5, 3), np.float32)).shape
    (5, 4)
    """

    def __init__(
        self, in1_features: int, in2_features: int, out_features: int, bias: bool = True, dtype: Any = None
    ) -> None:
        super().__init__()
        self.in1_features = _check.size("in1_features", in1_features, 1)
        self.in2_features = _check.size("in2_features", in2_features, 1)
        self.out_features = _check.size("out_features", out_features, 1)
        dtype = _check.floating("dtype", dtype)
        self.weight = Parameter(np.zeros((self.out_features, self.in1_features, self.in2_features), dtype))
        has_bias = _check.flag("bias", bias)
        self.register_parameter("bias", Parameter(np.zeros(self.out_features, dtype)) if has_bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        bound = 1 / math.sqrt(self.in1_features)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def forward(self, input1: Any, input2: Any) -> Any:
        return F.bilinear(input1, input2, self.weight, self.bias)

    def extra_repr(self) -> str:
        sizes = f"in1_features={self.in1_features}, in2_features={self.in2_features}, out_features={self.out_features}"
        return f"{sizes}, bias={self.bias is not None}"


class Identity(Module):
    """y = x; any arguments are accepted, so that it can stand in for any layer."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, input: Any) -> Any:
        return input
