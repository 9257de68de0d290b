"""Float64 twins of fastnn_ext.optimizer: the papers' formulas with PyTorch's details.

Each gives the new parameter for (p, g, s, t, c): the parameter, its gradient after decay and so on, its states by name,
which get new values, the number of this step from 1 on, and the settings.
"""

from types import SimpleNamespace

import numpy as np


def sgd(p, g, s, t, c):
    if c.momentum:
        b = s["momentum_buffer"] = g if t == 1 else c.momentum * s["momentum_buffer"] + (1 - c.dampening) * g
        g = g + c.momentum * b if c.nesterov else b
    return p - c.lr * g


def adagrad(p, g, s, t, c):
    s["sum"] = (c.initial_accumulator_value if t == 1 else s["sum"]) + g * g
    return p - c.lr / (1 + (t - 1) * c.lr_decay) * g / (np.sqrt(s["sum"]) + c.eps)


def adadelta(p, g, s, t, c):
    s["square_avg"] = c.rho * s["square_avg"] + (1 - c.rho) * g * g
    u = np.sqrt(s["acc_delta"] + c.eps) / np.sqrt(s["square_avg"] + c.eps) * g
    s["acc_delta"] = c.rho * s["acc_delta"] + (1 - c.rho) * u * u
    return p - c.lr * u


def rmsprop(p, g, s, t, c):
    v = s["square_avg"] = c.alpha * s["square_avg"] + (1 - c.alpha) * g * g
    if c.centered:
        s["grad_avg"] = c.alpha * s["grad_avg"] + (1 - c.alpha) * g
        v = np.maximum(v - s["grad_avg"] ** 2, 0)
    u = g / (np.sqrt(v) + c.eps)
    if c.momentum:
        u = s["momentum_buffer"] = c.momentum * s["momentum_buffer"] + u
    return p - c.lr * u


def rprop(p, g, s, t, c):
    """Igel and Huesken's: prev is 0 where the sign has changed, but in Rprop-."""
    before = np.full_like(p, c.lr) if t == 1 else s["step_size"]
    last, changed = -np.sign(s["prev"]) * before, g * s["prev"] < 0
    factor = np.where(changed, c.etas[0], np.where(g * s["prev"] > 0, c.etas[1], 1))
    s["step_size"] = np.clip(before * factor, *c.step_sizes)
    s["prev"] = g if c.variant == "rprop-" else np.where(changed, 0, g)
    new = p - np.sign(s["prev"]) * s["step_size"]
    return np.where(changed, p - last, new) if c.variant == "rprop+" else new


def means(g, s, c):
    s["exp_avg"] = c.betas[0] * s["exp_avg"] + (1 - c.betas[0]) * g
    s["exp_avg_sq"] = c.betas[1] * s["exp_avg_sq"] + (1 - c.betas[1]) * g * g
    return s["exp_avg"], s["exp_avg_sq"]


def adam(p, g, s, t, c):
    m, v = means(g, s, c)
    if c.amsgrad:
        v = s["max_exp_avg_sq"] = np.maximum(s["max_exp_avg_sq"], v)
    m, corrected = m / (1 - c.betas[0] ** t), np.sqrt(v / (1 - c.betas[1] ** t))
    if c.uncorrected_eps:
        return p - c.lr * m * np.sqrt(1 - c.betas[1] ** t) / (np.sqrt(v) + c.eps)
    return p - c.lr * m / (corrected + c.eps)


def adamax(p, g, s, t, c):
    m = s["exp_avg"] = c.betas[0] * s["exp_avg"] + (1 - c.betas[0]) * g
    u = s["exp_inf"] = np.maximum(c.betas[1] * s["exp_inf"], abs(g) + c.eps)
    return p - c.lr / (1 - c.betas[0] ** t) * m / u


def nadam(p, g, s, t, c):
    m, v = means(g, s, c)
    mu = [c.betas[0] * (1 - 0.5 * 0.96 ** (i * c.momentum_decay)) for i in range(1, t + 2)]
    s["mu_product"] = np.prod(mu[:t])
    ahead = (1 - mu[t - 1]) * g / (1 - np.prod(mu[:t])) + mu[t] * m / (1 - np.prod(mu))
    return p - c.lr * ahead / (np.sqrt(v / (1 - c.betas[1] ** t)) + c.eps)


def radam(p, g, s, t, c):
    m, v = means(g, s, c)
    m, beta2 = m / (1 - c.betas[0] ** t), c.betas[1]
    most = 2 / (1 - beta2) - 1
    length = most - 2 * t * beta2**t / (1 - beta2**t)
    if length <= 5:
        return p - c.lr * m
    rectify = np.sqrt((length - 4) * (length - 2) * most / ((most - 4) * (most - 2) * length))
    return p - c.lr * rectify * m * np.sqrt(1 - beta2**t) / (np.sqrt(v) + c.eps)


def lion(p, g, s, t, c):
    direction = np.sign(c.betas[0] * s["exp_avg"] + (1 - c.betas[0]) * g)
    s["exp_avg"] = c.betas[1] * s["exp_avg"] + (1 - c.betas[1]) * g
    return p - c.lr * direction


def update(kernel, p, g, s, t, settings, decoupled=False):
    """The new parameter; `s` has the new states. `settings` is a group's."""
    c = SimpleNamespace(**{"weight_decay": 0.0, "decoupled_weight_decay": decoupled, **settings})
    g = -g if c.maximize else g
    if c.clip_grad_value is not None:
        g = np.clip(g, -c.clip_grad_value, c.clip_grad_value)
    if c.decoupled_weight_decay:
        p = p * (1 - c.lr * c.weight_decay)
    else:
        g = g + c.weight_decay * p
    return globals()[kernel](p, g + c.l1_penalty * np.sign(p), s, t, c)
