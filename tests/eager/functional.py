"""Functions of tensors: activations, convolution, batch norm, losses."""

import numpy as np

from eager.tensor import Tensor, as_tensor


def relu(input):
    return input.relu()


def tanh(input):
    return input.tanh()


def sigmoid(input):
    return input.sigmoid()


def exp(input):
    return as_tensor(input).exp()


def sqrt(input):
    return as_tensor(input).sqrt()


def maximum(a, b):
    """The larger one; a tie shares the gradient in halves."""
    a, b = as_tensor(a), as_tensor(b)
    share = (a.data > b.data) + 0.5 * (a.data == b.data)
    return a * share + b * (1 - share)


def minimum(a, b):
    return -maximum(-as_tensor(a), -as_tensor(b))


def concat(tensors, dim=0):
    tensors = [as_tensor(t) for t in tensors]
    ends = np.cumsum([t.shape[dim] for t in tensors])

    def part(end, size):
        return lambda g: g.take(range(end - size, end), dim)

    parents = [(t, part(end, t.shape[dim])) for t, end in zip(tensors, ends, strict=True)]
    return Tensor(np.concatenate([t.data for t in tensors], dim), parents)


def stack(tensors, dim=0):
    return concat([as_tensor(t).unsqueeze(dim) for t in tensors], dim)


def conv2d(input, weight, bias=None, stride=1, padding=0, groups=1):
    """(N, C, H, W) with (O, C / groups, KH, KW): a sum over the kernel's places."""
    n, c, height, width = input.shape
    o, _, kh, kw = weight.shape
    oh, ow = ((size + 2 * padding - k) // stride + 1 for size, k in ((height, kh), (width, kw)))
    padded = np.pad(input.data, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    x = padded.reshape(n, groups, c // groups, *padded.shape[2:])
    w = weight.data.reshape(groups, o // groups, c // groups, kh, kw)
    places = [(i, j, np.s_[..., i : i + stride * oh : stride, j : j + stride * ow : stride])
              for i in range(kh) for j in range(kw)]  # fmt: skip
    y = sum(np.einsum("ngchw,goc->ngohw", x[at], w[..., i, j]) for i, j, at in places)

    def for_input(g):
        g, dx = g.reshape(n, groups, o // groups, oh, ow), np.zeros(x.shape)
        for i, j, at in places:
            dx[at] += np.einsum("ngohw,goc->ngchw", g, w[..., i, j])
        whole = dx.reshape(padded.shape)
        return whole[:, :, padding : padding + height, padding : padding + width]

    def for_weight(g):
        g, dw = g.reshape(n, groups, o // groups, oh, ow), np.zeros(w.shape)
        for i, j, at in places:
            dw[..., i, j] = np.einsum("ngohw,ngchw->goc", g, x[at])
        return dw.reshape(weight.shape)

    result = Tensor(y.reshape(n, o, oh, ow), [(input, for_input), (weight, for_weight)])
    return result if bias is None else result + bias.reshape(1, o, 1, 1)


def batch_norm(input, running, weight, bias, training, momentum, eps):
    """running: (mean, variance), which move towards the batch's mean and unbiased variance, or None."""
    axes = tuple(i for i in range(input.ndim) if i != 1)
    shape = tuple(size if i == 1 else 1 for i, size in enumerate(input.shape))
    if training or running is None:
        count = input.numel() // input.shape[1]
        if count == 1:
            raise ValueError(f"batch_norm: one value a channel in {input.shape}, which has no deviation")
        mean = input.mean(axes, keepdim=True)
        var = (input - mean).square().mean(axes, keepdim=True)
        if running is not None:
            for buffer, batch in zip(running, (mean.data, var.data * count / (count - 1)), strict=True):
                buffer.data += momentum * (batch.ravel() - buffer.data)
    else:
        mean, var = (as_tensor(np.array(buffer.data)).reshape(shape) for buffer in running)
    y = (input - mean) / (var + eps).sqrt()
    return y if weight is None else y * weight.reshape(shape) + bias.reshape(shape)


def mse_loss(input, target, reduction="mean"):
    return _reduced((input - as_tensor(target)).square(), reduction)


def cross_entropy(input, target, weight=None, ignore_index=-100, reduction="mean"):
    """Of logits (N, C) and classes (N,); a mean is weighted by the classes' weights."""
    labels = as_tensor(target).data
    factor = np.where(labels == ignore_index, 0.0, 1.0)
    hit = np.where(labels == ignore_index, 0, labels)
    if weight is not None:
        factor = factor * np.array(as_tensor(weight).data)[hit]
    losses = -(input.log_softmax(1) * np.eye(input.shape[1])[hit]).sum(1) * factor
    return losses.sum() / factor.sum() if reduction == "mean" else _reduced(losses, reduction)


def _reduced(losses, reduction):
    return losses.mean() if reduction == "mean" else losses.sum() if reduction == "sum" else losses
