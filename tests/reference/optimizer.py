"""Float64 twins of fastnn_ext.optimizer: the papers' formulas with PyTorch's details."""

import numpy as np


def sgd(param, grad, buffer, lr, momentum, dampening, weight_decay, step, nesterov, maximize):
    """The new (param, buffer); `step` counts the steps before this one."""
    g = -grad if maximize else grad
    g = g + weight_decay * param
    if momentum == 0:
        return param - lr * g, buffer
    buffer = g if step == 0 else momentum * buffer + (1 - dampening) * g
    direction = g + momentum * buffer if nesterov else buffer
    return param - lr * direction, buffer


def adam(param, grad, m, v, vmax, lr, beta1, beta2, eps, weight_decay, step, decoupled, maximize):
    """The new (param, m, v, vmax); `step` counts the steps before this one."""
    g = -grad if maximize else grad
    if decoupled:
        param = param * (1 - lr * weight_decay)
    else:
        g = g + weight_decay * param
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    vmax = None if vmax is None else np.maximum(vmax, v)
    m_hat = m / (1 - beta1 ** (step + 1))
    v_hat = (v if vmax is None else vmax) / (1 - beta2 ** (step + 1))
    return param - lr * m_hat / (np.sqrt(v_hat) + eps), m, v, vmax


def rmsprop(param, grad, square, buffer, mean, lr, alpha, eps, weight_decay, momentum, maximize):
    """The new (param, square, buffer, mean)."""
    g = (-grad if maximize else grad) + weight_decay * param
    square = alpha * square + (1 - alpha) * g * g
    mean = None if mean is None else alpha * mean + (1 - alpha) * g
    u = g / (np.sqrt(square if mean is None else square - mean * mean) + eps)
    if buffer is not None:
        buffer = u = momentum * buffer + u
    return param - lr * u, square, buffer, mean
