"""The loss stem's native ops as functions."""

import numpy as np

from fastnn_ext.loss import PIECES, REDUCTIONS

from native import run_op

__all__ = [
    "PIECES", "REDUCTIONS", "bce_with_logits", "cross_entropy", "huber", "l1", "mse", "smooth_l1", "softmax",
    "softmax_backward",
]  # fmt: skip


def softmax(x, log=False, *, out=None):
    """Over the last axis."""
    out = np.empty_like(x) if out is None else out
    run_op("softmax", y=out, x=x, **rows(x), log=log)
    return out


def softmax_backward(dy, y, log=False, *, out=None):
    out = np.empty_like(dy) if out is None else out
    run_op("softmax_backward", dx=out, dy=dy, y=y, **rows(dy), log=log)
    return out


def cross_entropy(
    logits, labels, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0, gradient=True, *, out=None
):  # fmt: skip
    """(row_loss, dlogits or None), or out of these."""
    row_loss, dlogits = outputs(logits, len(logits), gradient) if out is None else out
    run_op(
        "cross_entropy", row_loss=row_loss, dlogits=dlogits, logits=logits, labels=labels, weight=weight,
        **rows(logits), ignore_index=ignore_index, reduction=REDUCTIONS.index(reduction), smoothing=label_smoothing,
    )  # fmt: skip
    return row_loss, dlogits


def nll(logs, labels, weight=None, ignore_index=-100, reduction="mean", gradient=True, *, out=None):
    """As cross_entropy."""
    row_loss, dlogits = outputs(logs, len(logs), gradient) if out is None else out
    run_op(
        "nll", row_loss=row_loss, dlogits=dlogits, logits=logs, labels=labels, weight=weight, **rows(logs),
        ignore_index=ignore_index, reduction=REDUCTIONS.index(reduction),
    )  # fmt: skip
    return row_loss, dlogits


def mse(input, target, reduction="mean", gradient=True, *, out=None):
    """(loss, dinput or None), or out of these; so the others."""
    return elementwise("mse", input, target, reduction, gradient, out)


def l1(input, target, reduction="mean", gradient=True, *, out=None):
    return elementwise("l1", input, target, reduction, gradient, out)


def smooth_l1(input, target, beta=1.0, reduction="mean", gradient=True, *, out=None):
    return elementwise("smooth_l1", input, target, reduction, gradient, out, beta=beta)


def huber(input, target, delta=1.0, reduction="mean", gradient=True, *, out=None):
    return elementwise("huber", input, target, reduction, gradient, out, delta=delta)


def bce(input, target, reduction="mean", gradient=True, *, out=None):
    return elementwise("bce", input, target, reduction, gradient, out)


def soft_margin(input, target, reduction="mean", gradient=True, *, out=None):
    return elementwise("soft_margin", input, target, reduction, gradient, out)


def bce_with_logits(
    input, target, weight=None, pos_weight=None, reduction="mean", gradient=True, *, out=None
):  # fmt: skip
    extras = {"weight": weight, "pos_weight": pos_weight, "cols": input.shape[-1] if input.ndim else 1}
    return elementwise("bce_with_logits", input, target, reduction, gradient, out, **extras)


def elementwise(kernel, input, target, reduction, gradient, out, **extras):
    if out is None:
        out = outputs(input, input.shape if reduction == "none" else PIECES, gradient)
    loss, dinput = out
    settings = {"n": input.size, "reduction": REDUCTIONS.index(reduction), **extras}
    run_op(kernel, loss=loss, dinput=dinput, input=input, target=target, **settings)
    return loss, dinput


def outputs(x, shape, gradient):
    return np.empty(shape, x.dtype), np.empty_like(x) if gradient else None


def rows(x):
    cols = x.shape[-1]
    return {"rows": x.size // cols, "cols": cols}
