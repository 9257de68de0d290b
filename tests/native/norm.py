"""The norm stem's native ops as functions, over (rows, channels), (n, rows, channels) and (rows, cols)."""

import numpy as np

from fastnn_ext.norm import group_pieces, pieces_of

from native import run_op
from native.activation import epilogue


def sizes(x, groups=None):
    """The dims of x by name: of samples where there are groups."""
    if groups is None:
        return {"rows": x.shape[0], "channels": x.shape[1]}
    return {"n": x.shape[0], "rows": x.shape[1], "channels": x.shape[2], "groups": groups}


def empty(count, shape, dtype):
    return [np.empty(shape, dtype) for _ in range(count)]


# ---- batch norm ----


def batch_norm_stats(x):
    """partial, zeros where a piece has no rows."""
    partial = np.zeros((pieces_of(len(x)), 2, x.shape[1]), x.dtype)
    run_op("batch_norm_stats", partial=partial, x=x, **sizes(x))
    return partial


def batch_norm_finish(partial, x, eps=1e-5):
    """mean, invstd, var."""
    mean, invstd, var = empty(3, x.shape[1], x.dtype)
    run_op("batch_norm_finish", mean=mean, invstd=invstd, var=var, partial=partial, x=x, **sizes(x), eps=eps)
    return mean, invstd, var


def batch_norm_running(running_mean, running_var, mean, var, rows, momentum=0.1, batches=None):
    """Moves running_mean and running_var, and counts `batches` up; momentum None: the average of all batches."""
    run_op(
        "batch_norm_running", running_mean=running_mean, running_var=running_var, batches=batches, mean=mean, var=var,
        rows=rows, channels=len(mean), momentum=-1 if momentum is None else momentum,
    )  # fmt: skip


def batch_norm_invstd(var, eps=1e-5):
    invstd = np.empty_like(var)
    run_op("batch_norm_invstd", invstd=invstd, var=var, channels=len(var), eps=eps)
    return invstd


def batch_norm_apply(
    x, mean, invstd, weight=None, bias=None, *, residual=None, activation=None, alpha=None, out=None
):  # fmt: skip
    """y."""
    operands = {"mean": mean, "invstd": invstd, "weight": weight, "bias": bias, "residual": residual}
    return apply("batch_norm_apply", x, operands, sizes(x), activation, alpha, out)


def batch_norm_eval(
    x, running_mean, running_var, weight=None, bias=None, eps=1e-5, *, residual=None, activation=None, alpha=None,
    out=None,
):  # fmt: skip
    """y."""
    operands = {"weight": weight, "bias": bias, "residual": residual, "eps": eps}
    operands |= {"running_mean": running_mean, "running_var": running_var}
    return apply("batch_norm_eval", x, operands, sizes(x), activation, alpha, out)


def batch_norm_grad_stats(dy, x, mean, invstd, *, y=None, activation=None, alpha=None):
    """partial, zeros where a piece has no rows."""
    partial = np.zeros((pieces_of(len(dy)), 2, dy.shape[1]), dy.dtype)
    operands = {"dy": dy, "x": x, "mean": mean, "invstd": invstd, "y": y}
    run_op("batch_norm_grad_stats", partial=partial, **operands, **sizes(dy), **epilogue(activation, alpha))
    return partial


def batch_norm_grad_finish(partial, rows):
    """dweight, dbias, sums."""
    channels = partial.shape[2]
    dweight, dbias = empty(2, channels, partial.dtype)
    sums = np.empty((2, channels), partial.dtype)
    results = {"dweight": dweight, "dbias": dbias, "sums": sums}
    run_op("batch_norm_grad_finish", **results, partial=partial, rows=rows, channels=channels)
    return dweight, dbias, sums


def batch_norm_grad_apply(
    dy, x, mean, invstd, weight=None, sums=None, *, y=None, activation=None, alpha=None, residual=False, out=None
):  # fmt: skip
    """dx, or (dx, dresidual)."""
    operands = {"x": x, "mean": mean, "invstd": invstd, "weight": weight, "sums": sums, "y": y}
    return grad_apply("batch_norm_grad_apply", dy, operands, sizes(dy), activation, alpha, residual, out)


# ---- group norm ----


def group_partial(x):
    n, rows, channels = x.shape
    return np.zeros((n, group_pieces(rows), 2, channels), x.dtype)


def group_norm_stats(x):
    """partial."""
    partial = group_partial(x)
    n, rows, channels = x.shape
    run_op("group_norm_stats", partial=partial, x=x, n=n, rows=rows, channels=channels)
    return partial


def group_norm_finish(partial, x, groups, eps=1e-5):
    """mean, invstd."""
    mean, invstd = empty(2, (len(x), groups), x.dtype)
    run_op("group_norm_finish", mean=mean, invstd=invstd, partial=partial, x=x, **sizes(x, groups), eps=eps)
    return mean, invstd


def group_norm_apply(
    x, mean, invstd, weight=None, bias=None, *, residual=None, activation=None, alpha=None, out=None
):  # fmt: skip
    """y."""
    operands = {"mean": mean, "invstd": invstd, "weight": weight, "bias": bias, "residual": residual}
    return apply("group_norm_apply", x, operands, sizes(x, mean.shape[1]), activation, alpha, out)


def group_norm_grad_stats(dy, x, mean, invstd, *, y=None, activation=None, alpha=None):
    """partial."""
    partial = group_partial(dy)
    operands = {"dy": dy, "x": x, "mean": mean, "invstd": invstd, "y": y}
    dims = sizes(dy, mean.shape[1])
    run_op("group_norm_grad_stats", partial=partial, **operands, **dims, **epilogue(activation, alpha))
    return partial


def group_norm_grad_params(partial, rows):
    """dweight, dbias."""
    n, channels = partial.shape[0], partial.shape[3]
    dweight, dbias = empty(2, channels, partial.dtype)
    dims = {"n": n, "rows": rows, "channels": channels}
    run_op("group_norm_grad_params", dweight=dweight, dbias=dbias, partial=partial, **dims)
    return dweight, dbias


def group_norm_grad_finish(partial, rows, groups, weight=None):
    """sums."""
    n, channels = partial.shape[0], partial.shape[3]
    sums = np.empty((n, 2, groups), partial.dtype)
    dims = {"n": n, "rows": rows, "channels": channels, "groups": groups}
    run_op("group_norm_grad_finish", sums=sums, partial=partial, weight=weight, **dims)
    return sums


def group_norm_grad_apply(
    dy, x, mean, invstd, weight=None, sums=None, *, y=None, activation=None, alpha=None, residual=False, out=None
):  # fmt: skip
    """dx, or (dx, dresidual)."""
    operands = {"x": x, "mean": mean, "invstd": invstd, "weight": weight, "sums": sums, "y": y}
    dims = sizes(dy, mean.shape[1])
    return grad_apply("group_norm_grad_apply", dy, operands, dims, activation, alpha, residual, out)


# ---- layer norm ----


def layer_norm(x, weight=None, bias=None, eps=1e-5, *, out=None):
    """y, mean, invstd."""
    rows, cols = x.shape
    mean, invstd = empty(2, rows, x.dtype)
    y = np.empty_like(x) if out is None else out
    operands = {"x": x, "weight": weight, "bias": bias, "rows": rows, "cols": cols, "eps": eps}
    run_op("layer_norm", y=y, mean=mean, invstd=invstd, **operands)
    return y, mean, invstd


def layer_norm_backward(dy, x, mean, invstd, weight=None, *, out=None):
    """dx."""
    rows, cols = dy.shape
    dx = np.empty_like(dy) if out is None else out
    operands = {"dy": dy, "x": x, "mean": mean, "invstd": invstd, "weight": weight}
    run_op("layer_norm_backward", dx=dx, **operands, rows=rows, cols=cols)
    return dx


def layer_norm_grad_params(dy, x, mean, invstd):
    """partial, zeros where a piece has no rows; for batch_norm_grad_finish."""
    rows, cols = dy.shape
    partial = np.zeros((pieces_of(rows), 2, cols), dy.dtype)
    operands = {"dy": dy, "x": x, "mean": mean, "invstd": invstd}
    run_op("layer_norm_grad_params", partial=partial, **operands, rows=rows, cols=cols)
    return partial


# ---- local response norm ----


def window(channels, size, alpha, beta):
    """A window beyond all channels sees no more of them; alpha is divided by the size that was asked for."""
    seen = min(size, 2 * channels)
    return {"channels": channels, "size": seen, "alpha": alpha * (seen / size), "beta": beta}


def local_response_norm(x, size, alpha=1e-4, beta=0.75, k=1.0, *, out=None):
    """y, base."""
    y, base = np.empty_like(x) if out is None else out, np.empty_like(x)
    run_op("local_response_norm", y=y, base=base, x=x, rows=len(x), **window(x.shape[1], size, alpha, beta), k=k)
    return y, base


def local_response_norm_backward(dy, x, base, size, alpha=1e-4, beta=0.75, *, out=None):
    """dx."""
    dx = np.empty_like(dy) if out is None else out
    settings = window(x.shape[1], size, alpha, beta)
    run_op("local_response_norm_backward", dx=dx, dy=dy, x=x, base=base, rows=len(x), **settings)
    return dx


# ---- what batch and group norm share ----


def apply(kernel, x, operands, dims, activation, alpha, out):
    y = np.empty_like(x) if out is None else out
    run_op(kernel, y=y, x=x, **operands, **dims, **epilogue(activation, alpha))
    return y


def grad_apply(kernel, dy, operands, dims, activation, alpha, residual, out):
    dx = np.empty_like(dy) if out is None else out
    dresidual = np.empty_like(dy) if residual else None
    run_op(kernel, dx=dx, dresidual=dresidual, dy=dy, **operands, **dims, **epilogue(activation, alpha))
    return (dx, dresidual) if residual else dx
