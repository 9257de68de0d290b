"""Weights that are computed from other parameters: weight norm here, and `parametrizations` (spectral norm, noise);
penalties on what layers give."""

from fastnn.nn.regularization import activity_regularizer
from fastnn.nn.utils import parametrizations, parametrize
from fastnn.nn.utils.weight_norm import remove_weight_norm, weight_norm

__all__ = ["activity_regularizer", "parametrizations", "parametrize", "remove_weight_norm", "weight_norm"]
