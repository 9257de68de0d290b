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


VALUE = {
    "relu": lambda x, alpha: np.where(x < 0, 0, x),
    "leaky_relu": lambda x, alpha: np.where(x > 0, x, alpha * x),
    "elu": lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(x)),
    "sigmoid": lambda x, alpha: sigmoid(x),
    "tanh": lambda x, alpha: np.tanh(x),
    "gelu": lambda x, alpha: x * normal_cdf(x),
    "silu": lambda x, alpha: x * sigmoid(x),
    "softsign": lambda x, alpha: x / (1 + np.abs(x)),
}
SLOPE = {
    "relu": lambda x, alpha: np.where(x <= 0, 0, 1),
    "leaky_relu": lambda x, alpha: np.where(x > 0, 1, alpha),
    "elu": lambda x, alpha: np.where(x > 0, 1, alpha * np.exp(x)),
    "sigmoid": lambda x, alpha: sigmoid(x) * sigmoid(-x),
    "tanh": lambda x, alpha: 1 - np.tanh(x) ** 2,
    "gelu": lambda x, alpha: normal_cdf(x) + x * normal_density(x),
    "silu": lambda x, alpha: sigmoid(x) * (1 + x * sigmoid(-x)),
    "softsign": lambda x, alpha: (1 - np.abs(x / (1 + np.abs(x)))) ** 2,
}


def activation(kind, x, alpha):
    with np.errstate(all="ignore"):
        return VALUE[kind](x.astype(np.float64), alpha)


def activation_backward(kind, dy, x, alpha):
    """From the input x, also where the kernel starts from the output."""
    with np.errstate(all="ignore"):
        return dy.astype(np.float64) * SLOPE[kind](x.astype(np.float64), alpha)
