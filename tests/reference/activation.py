"""Float64 twins of fastnn_ext.activation: values, and slopes as functions of the input."""

import math

import numpy as np

erf = np.vectorize(math.erf, otypes=[np.float64])


def normal_cdf(x):
    return 0.5 * (1 + erf(x * math.sqrt(0.5)))


def normal_density(x):
    return np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


def sigmoid(x):
    z = np.exp(-np.abs(x))
    return np.where(x < 0, z, 1) / (1 + z)


def softplus(x):
    return np.logaddexp(0, x)


def tanh_argument(x):
    """Twice that of the tanh in GELU's approximation."""
    return math.sqrt(8 / math.pi) * (x + 0.044715 * x**3)


def slope_of_tanh_argument(x):
    return math.sqrt(8 / math.pi) * (1 + 3 * 0.044715 * x**2)


SELU_SCALE, SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717

VALUE = {
    "relu": lambda x, a, b: np.where(x < 0, 0, x),
    "leaky_relu": lambda x, a, b: np.where(x > 0, x, a * x),
    "elu": lambda x, a, b: np.where(x > 0, x, a * np.expm1(b * x)),
    "sigmoid": lambda x, a, b: sigmoid(x),
    "tanh": lambda x, a, b: np.tanh(x),
    "gelu": lambda x, a, b: x * normal_cdf(x),
    "silu": lambda x, a, b: x * sigmoid(a * x),
    "softsign": lambda x, a, b: x / (1 + np.abs(x)),
    "step": lambda x, a, b: np.heaviside(x, 0),
    "selu": lambda x, a, b: SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(x)),
    "softplus": lambda x, a, b: np.where(a * x > b, x, softplus(a * x) / a),
    "gelu_tanh": lambda x, a, b: x * sigmoid(tanh_argument(x)),
    "mish": lambda x, a, b: x * np.tanh(softplus(x)),
    "hardsigmoid": lambda x, a, b: np.clip(x + 3, 0, 6) / 6,
    "hardswish": lambda x, a, b: x * (np.clip(x + 3, 0, 6) / 6),
    "hardtanh": lambda x, a, b: np.clip(x, a, b),
    "hardshrink": lambda x, a, b: np.where(np.abs(x) <= a, 0, x),
    "softshrink": lambda x, a, b: np.where(np.abs(x) <= a, 0 * x, x - a * np.sign(x)),
    "threshold": lambda x, a, b: np.where(x <= a, b, x),
}
SLOPE = {
    "relu": lambda x, a, b: np.where(x <= 0, 0, 1),
    "leaky_relu": lambda x, a, b: np.where(x > 0, 1, a),
    "elu": lambda x, a, b: np.where(x > 0, 1, a * b * np.exp(b * x)),
    "sigmoid": lambda x, a, b: sigmoid(x) * sigmoid(-x),
    "tanh": lambda x, a, b: 1 - np.tanh(x) ** 2,
    "gelu": lambda x, a, b: normal_cdf(x) + x * normal_density(x),
    "silu": lambda x, a, b: sigmoid(a * x) * (1 + a * x * sigmoid(-a * x)),
    "softsign": lambda x, a, b: (1 - np.abs(x / (1 + np.abs(x)))) ** 2,
    "step": lambda x, a, b: np.zeros_like(x),
    "selu": lambda x, a, b: SELU_SCALE * np.where(x > 0, 1, SELU_ALPHA * np.exp(x)),
    "softplus": lambda x, a, b: np.where(a * x > b, 1, sigmoid(a * x)),
    "gelu_tanh": lambda x, a, b: (
        sigmoid(tanh_argument(x)) * (1 + x * sigmoid(-tanh_argument(x)) * slope_of_tanh_argument(x))
    ),
    "mish": lambda x, a, b: np.tanh(softplus(x)) + x * sigmoid(x) * (1 - np.tanh(softplus(x)) ** 2),
    "hardsigmoid": lambda x, a, b: np.where((x > -3) & (x < 3), 1 / 6, 0),
    "hardswish": lambda x, a, b: np.where(x <= -3, 0, np.where(x >= 3, 1, x / 3 + 0.5)),
    "hardtanh": lambda x, a, b: np.where((x > a) & (x < b), 1, 0),
    "hardshrink": lambda x, a, b: np.where(np.abs(x) > a, 1, 0),
    "softshrink": lambda x, a, b: np.where(np.abs(x) > a, 1, 0),
    "threshold": lambda x, a, b: np.where(x <= a, 0, 1),
}


def activation(kind, x, a, b):
    with np.errstate(all="ignore"):
        return VALUE[kind](x.astype(np.float64), a, b)


def activation_backward(kind, dy, x, a, b):
    """From the input x, also where the kernel starts from the output."""
    with np.errstate(all="ignore"):
        return dy.astype(np.float64) * SLOPE[kind](x.astype(np.float64), a, b)
