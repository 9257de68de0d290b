"""Networks ready to use."""

from fastnn.models.mlp import mlp

__all__ = ["mlp"]
