"""Float64 twins of fastnn_ext.norm; channels last, statistics over all rows."""

import numpy as np


def moments(x, axes):
    """Mean and biased variance, in two passes; extended precision where NumPy has it."""
    x = x.astype(np.longdouble)
    mean = x.mean(axes, keepdims=True)
    return mean, ((x - mean) ** 2).mean(axes, keepdims=True)


def pieces(x, length):
    """Of each `length` rows of x: the mean, less x[0], and the sum of squared deviations."""
    parts = [x[i : i + length] for i in range(0, len(x), length)]
    found = [(len(part), *moments(part, 0)) for part in parts]
    return np.array([(m[0] - x[0], n * v[0]) for n, m, v in found], np.float64)


def grad_pieces(g, xhat, length):
    """Sums of g and of g xhat of each `length` rows."""
    cuts = range(0, len(g), length)
    both = (g.astype(np.longdouble), g.astype(np.longdouble) * xhat)
    return np.array([[v[i : i + length].sum(0) for v in both] for i in cuts], np.float64)


def normalize(x, mean, invstd, weight=1.0, bias=0.0, residual=0.0):
    return (x.astype(np.float64) - mean) * invstd * weight + bias + residual


def grad(g, xhat, invstd, weight, axes):
    """dx, where mean and invstd are those of x over `axes`, each element a weight of its own."""
    dxhat = g * weight
    along = dxhat.mean(axes, keepdims=True) + xhat * (dxhat * xhat).mean(axes, keepdims=True)
    return invstd * (dxhat - along)


def by_group(x, groups):
    """(n, rows, channels) as (n, rows, groups, channels / groups)."""
    return x.reshape(*x.shape[:2], groups, -1)


def windows(x, size, before):
    """Sums over `size` channels, `before` of which come before the channel."""
    padded = np.pad(x, ((0, 0), (before, size - 1 - before)))
    return sum(padded[:, j : j + x.shape[1]] for j in range(size))


def local_response_norm(x, size, alpha, beta, k):
    """y and base."""
    x = x.astype(np.float64)
    base = k + alpha / size * windows(x**2, size, size // 2)
    return x * base**-beta, base


def local_response_norm_backward(dy, x, size, alpha, beta, k):
    _, base = local_response_norm(x, size, alpha, beta, k)
    terms = windows(dy * x * base ** (-beta - 1), size, (size - 1) // 2)
    return dy * base**-beta - 2 * alpha * beta / size * x * terms
