"""Activations: as words, as serialized functions and layers, and as layers of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn import _check, nn
from fastnn.interop.keras.config import Settings, entry, is_of_keras
from fastnn.interop.keras.layer import Arrays, Layer, register
from fastnn.nn import functional as F


class Elementwise(nn.Module):
    """An activation that fastnn.nn has no layer for."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, input: Any) -> Any:
        x = input
        match self.name:
            case "exponential":
                return x.exp()
            case "squareplus":
                return (x + (x * x + 4.0).sqrt()) * 0.5
            case "sparse_sigmoid":
                return (x * 0.5 + 0.5).clamp(0.0, 1.0)
            case "sparse_plus":  # 0, (x + 1)^2 / 4 between -1 and 1, x
                inner = x.clamp(-1.0, 1.0) + 1.0
                return inner * inner * 0.25 + F.relu(x - 1.0)
            case _:  # Keras 2's hard_sigmoid
                return (x * 0.2 + 0.5).clamp(0.0, 1.0)

    def extra_repr(self) -> str:
        return self.name


#: log(1 + exp(x)) for all x, without PyTorch's threshold.
_ENDLESS = 1e30

_WORDS: dict[str, Callable[[], nn.Module | None]] = {
    "linear": lambda: None,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky_relu": lambda: nn.LeakyReLU(0.2),
    "elu": nn.ELU,
    "selu": nn.SELU,
    "celu": nn.CELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "swish": nn.SiLU,
    "mish": nn.Mish,
    "sigmoid": nn.Sigmoid,
    "log_sigmoid": nn.LogSigmoid,
    "hard_sigmoid": nn.Hardsigmoid,
    "hard_silu": nn.Hardswish,
    "hard_swish": nn.Hardswish,
    "tanh": nn.Tanh,
    "hard_tanh": nn.Hardtanh,
    "tanh_shrink": nn.Tanhshrink,
    "hard_shrink": nn.Hardshrink,
    "soft_shrink": nn.Softshrink,
    "softplus": lambda: nn.Softplus(1.0, _ENDLESS),
    "softsign": nn.Softsign,
    "softmax": lambda: nn.Softmax(-1),
    "log_softmax": lambda: nn.LogSoftmax(-1),
    "glu": nn.GLU,
    "exponential": lambda: Elementwise("exponential"),
    "squareplus": lambda: Elementwise("squareplus"),
    "sparse_plus": lambda: Elementwise("sparse_plus"),
    "sparse_sigmoid": lambda: Elementwise("sparse_sigmoid"),
}


def unread(value: Any) -> str | None:
    """The name of an activation that is not read, or None."""
    if value is None:
        return None
    if isinstance(value, str):
        return None if value in _WORDS else f"the activation {_check.brief(value)}"
    if not isinstance(value, dict):
        return f"the activation {_check.brief(value)}"
    kind = value.get("class_name")
    if not is_of_keras(value):
        return f"the custom activation {_check.brief(value.get('registered_name') or kind)}"
    if isinstance(kind, str) and kind.lower() == "function":
        return unread(value.get("config")) if isinstance(value.get("config"), str) else "an activation without a name"
    return None if kind in _LAYERS else f"the activation {_check.brief(kind)}"


def activation(s: Settings, value: Any) -> nn.Module | None:
    """The module for what a config has as activation, or None for the identity."""
    if value is None:
        return None
    if isinstance(value, dict):
        value = entry(value, "an activation")
        inner = value.get("config")
        if value["class_name"] in _LAYERS and isinstance(inner, dict):
            own = Settings(s.name, value["class_name"], inner, s.major)
            return _LAYERS[value["class_name"]](own)
        value = inner
    if value == "hard_sigmoid" and s.major < 3:
        return Elementwise("hard_sigmoid of Keras 2")
    if not isinstance(value, str) or value not in _WORDS:
        raise s.wrong(f"the activation {_check.brief(value)} is not read")
    return _WORDS[value]()


class Limited(nn.Module):
    """Keras's ReLU: x above the threshold, at most max_value; negative_slope * (x - threshold) below it."""

    def __init__(self, negative_slope: float, max_value: float | None, threshold: float) -> None:
        super().__init__()
        self.negative_slope, self.max_value, self.threshold = negative_slope, max_value, threshold

    def forward(self, input: Any) -> Any:
        at = self.threshold
        y = F.threshold(input, at, 0.0) if at else F.relu(input)
        if self.max_value is not None:
            y = y.clamp(0.0, self.max_value)
        return y - F.relu(at - input) * self.negative_slope if self.negative_slope else y

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}, max_value={self.max_value}, threshold={self.threshold}"


def _relu(s: Settings) -> nn.Module:
    slope = s.number("negative_slope", 0.0) if s.get("negative_slope") is not None else 0.0
    most = None if s.get("max_value") is None else s.number("max_value", 0.0, 0.0)
    at = s.number("threshold", 0.0) if s.get("threshold") is not None else 0.0
    if at == 0 and most is None:
        return nn.LeakyReLU(slope) if slope else nn.ReLU()
    return Limited(slope, most, at)


def _leaky_relu(s: Settings) -> nn.Module:
    return nn.LeakyReLU(s.number("negative_slope" if "negative_slope" in s.values else "alpha", 0.3))


def _softmax(s: Settings) -> nn.Module:
    return nn.Softmax(s.axis())


#: Layers that are activations without arrays.
_LAYERS: dict[str, Callable[[Settings], nn.Module]] = {
    "ReLU": _relu,
    "LeakyReLU": _leaky_relu,
    "ELU": lambda s: nn.ELU(s.number("alpha", 1.0)),
    "Softmax": _softmax,
    "ThresholdedReLU": lambda s: nn.Threshold(s.number("theta", 1.0), 0.0),
}


@register("Activation", *_LAYERS)
class Activation(Layer):
    """An activation as a layer."""

    def __init__(self, s: Settings, arrays: Arrays) -> None:
        super().__init__(s, arrays)
        made = _LAYERS[s.kind](s) if s.kind in _LAYERS else activation(s, s.get("activation"))
        self.activation = made if made is not None else nn.Identity()

    def forward(self, input: Any, training: bool | None = None) -> Any:
        return self.activation(input)


@register("PReLU")
class PReLU(Layer):
    """x where x > 0, else weight * x, with a weight for each place but along shared axes."""

    def __init__(self, s: Settings, arrays: Arrays) -> None:
        super().__init__(s, arrays)
        self.weight = arrays.parameter(arrays.all("alpha"))

    @classmethod
    def variables(cls, s: Settings) -> tuple[list[str], list[str]]:
        return ["alpha"], []

    def forward(self, input: Any, training: bool | None = None) -> Any:
        return F.relu(input) - self.weight * F.relu(-input)
