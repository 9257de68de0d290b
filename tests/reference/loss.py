"""Float64 twins of fastnn_ext.loss; sums of softmax in extended precision where NumPy has it."""

import numpy as np


def softmax(x, log=False):
    x = x.astype(np.longdouble)
    with np.errstate(invalid="ignore", divide="ignore"):
        shifted = x - x.max(axis=-1, keepdims=True)
        total = np.exp(shifted).sum(axis=-1, keepdims=True)
        return (shifted - np.log(total) if log else np.exp(shifted) / total).astype(np.float64)


def softmax_backward(dy, y, log=False):
    dy, y = dy.astype(np.longdouble), y.astype(np.longdouble)
    if log:
        dx = dy - np.exp(y) * dy.sum(axis=-1, keepdims=True)
    else:
        dx = y * (dy - (dy * y).sum(axis=-1, keepdims=True))
    return dx.astype(np.float64)


def cross_entropy(logits, labels, weight, ignore_index, reduction, label_smoothing):
    """(row_loss, dlogits), row_loss divided by the mean's denominator."""
    cols = logits.shape[1]
    w = np.ones(cols) if weight is None else weight.astype(np.float64)
    valid = labels != ignore_index
    label = np.where(valid, labels, 0)
    one_hot = (label[:, None] == np.arange(cols)).astype(np.float64)
    # Each row's loss is -sum(share * log softmax): a linear form in log softmax.
    share = (1 - label_smoothing) * one_hot * w[label][:, None] + label_smoothing / cols * w
    share = share * valid[:, None]
    if reduction == "mean":
        with np.errstate(divide="ignore", invalid="ignore"):
            share = share / w[label][valid].sum() if valid.any() else share * np.nan
    q = softmax(logits, log=True)
    row_loss = -np.where(share == 0, 0, share * q).sum(axis=1)
    dlogits = softmax(logits) * share.sum(axis=1, keepdims=True) - share
    return row_loss, np.where(valid[:, None], dlogits, 0)


def nll(logs, labels, weight, ignore_index, reduction):
    """As cross_entropy, of log-probabilities."""
    cols = logs.shape[1]
    valid = labels != ignore_index
    label = np.where(valid, labels, 0)
    share = valid * (np.ones(cols) if weight is None else weight.astype(np.float64))[label]
    if reduction == "mean":
        with np.errstate(divide="ignore", invalid="ignore"):
            share = share / share.sum() if valid.any() else share * np.nan
    x = logs.astype(np.float64)[np.arange(len(label)), label]
    one_hot = (label[:, None] == np.arange(cols)) & valid[:, None]
    return np.where(valid, -share * x, 0 * share), np.where(one_hot, -share[:, None], 0)


def reduced(value, slope, reduction):
    """(loss, gradient) for values and slopes of each element."""
    if reduction == "none":
        return value, slope
    n = value.size if reduction == "mean" else 1
    return value.sum() / n, slope / n


def mse(input, target, reduction):
    d = input.astype(np.float64) - target
    return reduced(d * d, 2 * d, reduction)


def l1(input, target, reduction):
    d = input.astype(np.float64) - target
    return reduced(abs(d), np.sign(d), reduction)


def smooth_l1(input, target, beta, reduction):
    d = input.astype(np.float64) - target
    if beta == 0:
        return l1(input, target, reduction)
    near = abs(d) < beta
    value = np.where(near, d * d / (2 * beta), abs(d) - beta / 2)
    return reduced(value, np.where(near, d / beta, np.sign(d)), reduction)


def huber(input, target, delta, reduction):
    d = input.astype(np.float64) - target
    value = np.where(abs(d) <= delta, d * d / 2, delta * (abs(d) - delta / 2))
    return reduced(value, np.clip(d, -delta, delta), reduction)


def bce_with_logits(input, target, weight, pos_weight, reduction):
    x, t = input.astype(np.float64), target.astype(np.float64)
    w = 1.0 if weight is None else weight.astype(np.float64)
    p = 1.0 if pos_weight is None else pos_weight.astype(np.float64)
    softplus = np.logaddexp(0, -x)  # log(1 + e^-x)
    sigmoid = np.exp(-softplus)
    value = w * ((1 - t) * (x + softplus) + p * t * softplus)
    return reduced(value, w * ((1 - t) * sigmoid - p * t * (1 - sigmoid)), reduction)


def bce(input, target, reduction):
    x, t = input.astype(np.float64), target.astype(np.float64)
    with np.errstate(divide="ignore"):
        value = -(t * np.maximum(np.log(x), -100) + (1 - t) * np.maximum(np.log1p(-x), -100))
    return reduced(value, (x - t) / np.maximum((1 - x) * x, 1e-12), reduction)


def soft_margin(input, target, reduction):
    t = target.astype(np.float64)
    m = t * input
    z = np.exp(-abs(m))
    return reduced(np.maximum(-m, 0) + np.log1p(z), -t * np.where(m > 0, z, 1) / (1 + z), reduction)
