"""Batch, group, layer and local response norm.

All but layer norm work channels-last, as convolution does. Batch and group norm take an activation
and a residual that follow them into their own pass over the data, and into their gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import fastnn_ext.norm as native
from fastnn.graph import Arguments, Emitter, Node, Op, OutputTypes, Tensor, active_graph, as_tensor
from fastnn.ops.activation import epilogue
from fastnn.ops.arguments import check_dtypes, check_float
from fastnn.ops.layout import RESHAPE, permute, reshape
from fastnn.sizes import count, describe, linear

Array = np.ndarray[Any, Any]


class BatchNorm(Op):
    """Normalises by the statistics of the batch.

    inputs: x (..., C), then weight and bias (C,) if attrs["affine"], then a tensor of x's shape to be
    added if attrs["residual"]. outputs: y, mean (C,), 1 / deviation (C,). attrs: eps, momentum (-1:
    cumulative), running (arrays: mean, variance and, or None, the count of batches; or None), call (its
    number among the graph's: one that is used twice moves its statistics in the order of calls), act.
    """

    name = "batch_norm"
    epilogue = ("act",)
    absorbs = ("residual", "act")

    def infer(self, node: Node) -> OutputTypes:
        x = node.inputs[0]
        return [(x.shape, x.dtype), (x.shape[-1:], x.dtype), (x.shape[-1:], x.dtype)]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        _, mean, invstd = node.outputs
        return _norm_vjp(BATCH_NORM_GRAD, node, grads[0], needs, mean, invstd, training=True)

    def lower(self, node: Node, to: Emitter) -> None:
        x, dtype, (y, mean, invstd) = node.inputs[0], node.inputs[0].dtype, node.outputs
        sizes, n = _rows_and_channels(x), count(x.shape)
        partial = to.temporary((native.pieces_of(int(count(x.shape[:-1]))), 2, x.shape[-1]), dtype)
        var = to.temporary(x.shape[-1:], dtype) if node.attrs["running"] else None
        statistics: Arguments = dict(mean=mean, invstd=invstd)
        to.emit("batch_norm_stats", partial=partial, x=x, **sizes, flops=3 * n)
        to.emit("batch_norm_finish", **statistics, var=var, partial=partial, x=x, **sizes, eps=node.attrs["eps"])
        to.emit("batch_norm_apply", y=y, x=x, **statistics, **_operands_of(node, 1), **sizes, flops=2 * n)
        if node.attrs["running"]:
            running_mean, running_var, batches = (a if a is None else to.array(a) for a in node.attrs["running"])
            to.emit(
                "batch_norm_running",
                running_mean=running_mean,
                running_var=running_var,
                batches=batches,
                mean=mean,
                var=var,
                **sizes,
                momentum=node.attrs["momentum"],
                dtype=dtype,
                commit=True,
                late=node.attrs["call"],
            )

    def acts(self, node: Node) -> bool:
        return node.attrs["running"] is not None


class BatchNormEval(Op):
    """Normalises by running statistics.

    inputs: x (..., C), running mean and variance (C,), then as BatchNorm. attrs: eps, act.
    """

    name = "batch_norm_eval"
    epilogue = ("act",)
    absorbs = ("residual", "act")

    def infer(self, node: Node) -> OutputTypes:
        return [(node.inputs[0].shape, node.inputs[0].dtype)]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        _, mean, var = node.inputs[:3]
        invstd = active_graph().add(BATCH_NORM_INVSTD, [var], eps=node.attrs["eps"]).output
        needs = [needs[0], *needs[3:]]
        dx, *rest = _norm_vjp(BATCH_NORM_GRAD, node, grads[0], needs, mean, invstd, weight_at=3, training=False)
        return [dx, None, None, *rest]

    def lower(self, node: Node, to: Emitter) -> None:
        x, mean, var = node.inputs[:3]
        to.emit(
            "batch_norm_eval",
            y=node.output,
            x=x,
            running_mean=mean,
            running_var=var,
            **_operands_of(node, 3),
            **_rows_and_channels(x),
            eps=node.attrs["eps"],
            flops=2 * count(x.shape),
        )


class BatchNormInvstd(Op):
    """1 / sqrt(variance + eps). attrs: eps."""

    name = "batch_norm_invstd"

    def infer(self, node: Node) -> OutputTypes:
        return [(node.inputs[0].shape, node.inputs[0].dtype)]

    def lower(self, node: Node, to: Emitter) -> None:
        channels, eps = count(node.output.shape), node.attrs["eps"]
        to.emit("batch_norm_invstd", invstd=node.output, var=node.inputs[0], channels=channels, eps=eps)


class BatchNormGrad(Op):
    """inputs: dy, x, mean, 1 / deviation, then weight if attrs["affine"], then what the activation's
    gradient is taken from if attrs["act"]. outputs: dx, dweight, dbias, dresidual. attrs: training
    (False: mean and deviation are constants)."""

    name = "batch_norm_grad"

    def infer(self, node: Node) -> OutputTypes:
        x = node.inputs[1]
        channels = (x.shape[-1:], x.dtype)
        return [(x.shape, x.dtype), channels, channels, (x.shape, x.dtype)]

    def lower(self, node: Node, to: Emitter) -> None:
        operands, weight = _gradient_operands(node)
        x = node.inputs[1]
        dx, dweight, dbias, dresidual = to.wanted(node.outputs)
        sizes, n = _rows_and_channels(x), count(x.shape)
        sums = None
        if dx is not None and node.attrs["training"]:
            sums = to.temporary((2, x.shape[-1]), x.dtype)
        results: Arguments = dict(dweight=dweight, dbias=dbias, sums=sums)
        if any(t is not None for t in results.values()):
            partial = to.temporary((native.pieces_of(int(count(x.shape[:-1]))), 2, x.shape[-1]), x.dtype)
            to.emit("batch_norm_grad_stats", partial=partial, **operands, **sizes, flops=4 * n)
            to.emit("batch_norm_grad_finish", **results, partial=partial, **sizes, dtype=x.dtype)
        if dx is not None or dresidual is not None:
            results = dict(dx=dx, dresidual=dresidual)
            operands |= dict(weight=weight, sums=sums)
            to.emit("batch_norm_grad_apply", **results, **operands, **sizes, dtype=x.dtype, flops=5 * n)


class GroupNorm(Op):
    """Normalises groups of channels of each sample by their own statistics.

    inputs: x (N, ..., C), then as BatchNorm. outputs: y, mean (N, groups), 1 / deviation (N, groups).
    attrs: groups, eps, affine, residual, act.
    """

    name = "group_norm"
    epilogue = ("act",)
    absorbs = ("residual", "act")

    def infer(self, node: Node) -> OutputTypes:
        x = node.inputs[0]
        statistics = ((x.shape[0], node.attrs["groups"]), x.dtype)
        return [(x.shape, x.dtype), statistics, statistics]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        _, mean, invstd = node.outputs
        groups = node.attrs["groups"]
        return _norm_vjp(GROUP_NORM_GRAD, node, grads[0], needs, mean, invstd, groups=groups)

    def lower(self, node: Node, to: Emitter) -> None:
        x, (y, mean, invstd) = node.inputs[0], node.outputs
        sizes, n = _sample_sizes(x), count(x.shape)
        partial = to.temporary(_group_partial(x), x.dtype)
        to.emit("group_norm_stats", partial=partial, x=x, **sizes, flops=3 * n)
        statistics: Arguments = dict(mean=mean, invstd=invstd)
        sizes["groups"] = node.attrs["groups"]
        to.emit("group_norm_finish", **statistics, partial=partial, x=x, **sizes, eps=node.attrs["eps"])
        to.emit("group_norm_apply", y=y, x=x, **statistics, **_operands_of(node, 1), **sizes, flops=2 * n)


class GroupNormGrad(Op):
    """inputs and outputs as BatchNormGrad's. attrs: groups, affine, act."""

    name = "group_norm_grad"

    def infer(self, node: Node) -> OutputTypes:
        return BATCH_NORM_GRAD.infer(node)

    def lower(self, node: Node, to: Emitter) -> None:
        operands, weight = _gradient_operands(node)
        x, groups = node.inputs[1], node.attrs["groups"]
        dx, dweight, dbias, dresidual = to.wanted(node.outputs)
        sizes, n = _sample_sizes(x), count(x.shape)
        partial = to.temporary(_group_partial(x), x.dtype)
        to.emit("group_norm_grad_stats", partial=partial, **operands, **sizes, groups=groups, flops=4 * n)
        if dweight is not None or dbias is not None:
            results: Arguments = dict(dweight=dweight, dbias=dbias)
            to.emit("group_norm_grad_params", **results, partial=partial, **sizes, dtype=x.dtype)
        if dx is not None or dresidual is not None:
            sizes["groups"] = groups
            sums = to.temporary((x.shape[0], 2, groups), x.dtype)
            to.emit("group_norm_grad_finish", sums=sums, partial=partial, weight=weight, **sizes)
            results = dict(dx=dx, dresidual=dresidual)
            operands |= dict(weight=weight, sums=sums)
            to.emit("group_norm_grad_apply", **results, **operands, **sizes, dtype=x.dtype, flops=5 * n)


class LayerNorm(Op):
    """Normalises rows. inputs: x (rows, cols), then weight and bias (cols,) if attrs["affine"].
    outputs: y, mean (rows,), 1 / deviation (rows,). attrs: eps."""

    name = "layer_norm"

    def infer(self, node: Node) -> OutputTypes:
        x = node.inputs[0]
        return [(x.shape, x.dtype), (x.shape[:1], x.dtype), (x.shape[:1], x.dtype)]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        operands = [grads[0], node.inputs[0], *node.outputs[1:], *node.inputs[1:2]]
        affine = node.attrs["affine"]
        grad = active_graph().add(LAYER_NORM_GRAD, operands, affine=affine)  # type: ignore[arg-type]
        result = grad.outputs if affine else grad.outputs[:1]
        return [g if need else None for g, need in zip(result, needs, strict=True)]

    def lower(self, node: Node, to: Emitter) -> None:
        x, (weight, bias) = node.inputs[0], _optional(node, 1, "affine", "affine")
        mean, invstd = to.wanted(node.outputs[1:])
        rows, cols = x.shape
        to.emit(
            "layer_norm",
            y=node.output,
            mean=mean,
            invstd=invstd,
            x=x,
            weight=weight,
            bias=bias,
            rows=rows,
            cols=cols,
            eps=node.attrs["eps"],
            flops=5 * count(x.shape),
        )


class LayerNormGrad(Op):
    """inputs: dy, x, mean, 1 / deviation, then weight if attrs["affine"]. outputs: dx, dweight, dbias."""

    name = "layer_norm_grad"

    def infer(self, node: Node) -> OutputTypes:
        return BATCH_NORM_GRAD.infer(node)[:3]

    def lower(self, node: Node, to: Emitter) -> None:
        dy, x, mean, invstd = node.inputs[:4]
        (weight,) = _optional(node, 4, "affine")
        dx, dweight, dbias = to.wanted(node.outputs)
        (rows, cols), n = x.shape, count(x.shape)
        operands: Arguments = dict(dy=dy, x=x, mean=mean, invstd=invstd, rows=rows, cols=cols)
        if dx is not None:
            to.emit("layer_norm_backward", dx=dx, **operands, weight=weight, flops=9 * n)
        if dweight is not None or dbias is not None:
            partial = to.temporary((native.pieces_of(int(rows)), 2, cols), x.dtype)
            to.emit("layer_norm_grad_params", partial=partial, **operands, flops=4 * n)
            results: Arguments = dict(dweight=dweight, dbias=dbias)
            to.emit("batch_norm_grad_finish", **results, partial=partial, rows=rows, channels=cols, dtype=x.dtype)


class LocalResponseNorm(Op):
    """inputs: x (..., C). outputs: y, and what x was divided by before it was raised to beta.
    attrs: size, alpha, beta, k."""

    name = "local_response_norm"

    def infer(self, node: Node) -> OutputTypes:
        return [(node.inputs[0].shape, node.inputs[0].dtype)] * 2

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        operands = [grads[0], node.inputs[0], node.outputs[1]]
        return [active_graph().add(LOCAL_RESPONSE_NORM_GRAD, operands, **node.attrs).output]  # type: ignore[arg-type]

    def lower(self, node: Node, to: Emitter) -> None:
        x, (base,) = node.inputs[0], to.wanted(node.outputs[1:])
        flops = (node.attrs["size"] + 4) * count(x.shape)
        to.emit(self.name, y=node.output, base=base, x=x, **_rows_and_channels(x), **node.attrs, flops=flops)


class LocalResponseNormGrad(Op):
    """inputs: dy, x, the base that LocalResponseNorm kept. attrs: its own."""

    name = "local_response_norm_backward"

    def infer(self, node: Node) -> OutputTypes:
        return [(node.inputs[1].shape, node.inputs[1].dtype)]

    def lower(self, node: Node, to: Emitter) -> None:
        dy, x, base = node.inputs
        settings: Arguments = {name: node.attrs[name] for name in ("size", "alpha", "beta")}
        flops = (node.attrs["size"] + 8) * count(x.shape)
        to.emit(self.name, dx=node.output, dy=dy, x=x, base=base, **_rows_and_channels(x), **settings, flops=flops)


BATCH_NORM = BatchNorm()
BATCH_NORM_EVAL = BatchNormEval()
BATCH_NORM_INVSTD = BatchNormInvstd()
BATCH_NORM_GRAD = BatchNormGrad()
GROUP_NORM = GroupNorm()
GROUP_NORM_GRAD = GroupNormGrad()
LAYER_NORM = LayerNorm()
LAYER_NORM_GRAD = LayerNormGrad()
LOCAL_RESPONSE_NORM = LocalResponseNorm()
LOCAL_RESPONSE_NORM_GRAD = LocalResponseNormGrad()


def _optional(node: Node, first: int, *names: str) -> list[Tensor | None]:
    """The inputs from `first` on, None for those that the attributes of these names deny."""
    rest = iter(node.inputs[first:])
    return [next(rest) if node.attrs[name] else None for name in names]


def _operands_of(node: Node, first: int) -> Arguments:
    """What the passes that make y take beside x and its statistics: inputs from `first` on, and an activation."""
    weight, bias, residual = _optional(node, first, "affine", "affine", "residual")
    return dict(weight=weight, bias=bias, residual=residual, **epilogue(node.attrs["act"]))


def _gradient_operands(node: Node) -> tuple[Arguments, Tensor | None]:
    """What both passes over the data of a gradient take, and the weight."""
    dy, x, mean, invstd = node.inputs[:4]
    weight, y = _optional(node, 4, "affine", "act")
    return dict(dy=dy, x=x, mean=mean, invstd=invstd, y=y, **epilogue(node.attrs["act"])), weight


def _rows_and_channels(x: Tensor) -> Arguments:
    return dict(rows=count(x.shape[:-1]), channels=x.shape[-1])


def _sample_sizes(x: Tensor) -> Arguments:
    return dict(n=x.shape[0], rows=count(x.shape[1:-1]), channels=x.shape[-1])


def _group_partial(x: Tensor) -> tuple[int, ...]:
    sizes = _sample_sizes(x)
    return (sizes["n"], native.group_pieces(int(sizes["rows"])), 2, sizes["channels"])


def _norm_vjp(
    op: Op,
    node: Node,
    dy: Tensor | None,
    needs: Sequence[bool],
    mean: Tensor,
    invstd: Tensor,
    weight_at: int = 1,
    **attrs: Any,
) -> list[Tensor | None]:
    """Gradients for x, then weight and bias, then the residual, as far as they are inputs."""
    assert dy is not None
    affine, act = node.attrs["affine"], node.attrs["act"]
    operands = [dy, node.inputs[0], mean, invstd]
    if affine:
        operands.append(node.inputs[weight_at])
    if act:
        operands.append(node.output)
    grad = active_graph().add(op, operands, affine=affine, act=act, **attrs)
    result = list(grad.outputs[:3] if affine else grad.outputs[:1])
    if node.attrs["residual"]:
        result.append(grad.outputs[3] if act else dy)
    return [g if need else None for g, need in zip(result, needs, strict=True)]


def _channels_last(x: Tensor) -> Tensor:
    return permute(x, 0, *range(2, x.ndim), 1)


def _channels_first(x: Tensor) -> Tensor:
    return permute(x, 0, x.ndim - 1, *range(1, x.ndim - 1))


def _operand(what: str, name: str, value: Any, x: Tensor, shape: tuple[int, ...]) -> Tensor:
    tensor = as_tensor(value, like=x)
    check_dtypes(what, x, tensor, ("the input", name), of_model=True)
    if tuple(map(linear, tensor.shape)) != tuple(map(linear, shape)):
        raise ValueError(
            f"{what}: {name} has shape {describe(tensor.shape)}; the input of shape {describe(x.shape)} takes "
            f"{describe(shape)}"
        )
    return tensor


def _affine(what: str, x: Tensor, weight: Any, bias: Any, shape: tuple[int, ...]) -> list[Tensor]:
    """weight and bias as operands: both, or none."""
    if weight is None and bias is None:
        return []
    weight = np.ones(shape, x.dtype) if weight is None else weight
    bias = np.zeros(shape, x.dtype) if bias is None else bias
    return [
        _operand(what, "the weight", weight, x, shape),
        _operand(what, "the bias", bias, x, shape),
    ]


def _input(what: str, given: Any, least: int) -> Tensor:
    x = as_tensor(given)
    check_float(what, x)
    if x.ndim < least:
        sizes = "N, C, ..." if least == 2 else "N, C, L, ..."
        raise ValueError(f"{what}: input has shape {describe(x.shape)}; expected ({sizes})")
    return x


def batch_norm(
    x: Any,
    running: tuple[Any, Any, Any] | None,
    weight: Any,
    bias: Any,
    training: bool,
    momentum: float,
    eps: float,
) -> Tensor:
    """See fastnn.nn.functional.batch_norm. running: parameters or arrays of mean, variance and, or None, count
    of batches, which training updates; momentum < 0 stands for their cumulative average."""
    x = _input("batch_norm", x, 2)
    shape = (x.shape[1],)
    affine = _affine("batch_norm", x, weight, bias, shape)
    if running is not None:
        for name, array in (("the running mean", running[0]), ("the running variance", running[1])):
            check_dtypes("batch_norm", x, array, ("the input", name), of_model=True)
            if array.shape != shape:
                raise ValueError(
                    f"batch_norm: {name} has shape {array.shape}; the input of shape {describe(x.shape)} takes "
                    f"{describe(shape)}"
                )
    attrs = dict(eps=eps, affine=bool(affine), residual=False, act=None)
    last = rows = _channels_last(x)
    if rows.node.op is RESHAPE and linear(rows.node.inputs[0].shape[-1]) == linear(rows.shape[-1]):
        rows = rows.node.inputs[0]  # sequences that a convolution made as images one pixel high
    if training or running is None:
        values = count(rows.shape[:-1])
        if linear(values) == (1, 0):
            raise ValueError(
                f"batch_norm: input has shape {describe(x.shape)}: one value a channel, which has no "
                "deviation; training needs more"
            )
        updated = None
        if training and running is not None:
            updated = tuple(None if r is None else active_graph().storage(r) for r in running)
        call = sum(node.op is BATCH_NORM for node in active_graph().nodes)
        node = active_graph().add(BATCH_NORM, [rows, *affine], running=updated, call=call, momentum=momentum, **attrs)
    else:
        statistics = [as_tensor(value) for value in running[:2]]
        node = active_graph().add(BATCH_NORM_EVAL, [rows, *statistics, *affine], **attrs)
    return _channels_first(reshape(node.output, last.shape))


def group_norm(x: Any, groups: int, weight: Any, bias: Any, eps: float) -> Tensor:
    """See fastnn.nn.functional.group_norm."""
    x = _input("group_norm", x, 2)
    if x.shape[1] % groups:
        raise ValueError(
            f"group_norm: num_groups is {groups}, which does not divide the {x.shape[1]} channels of an input of "
            f"shape {describe(x.shape)}"
        )
    affine = _affine("group_norm", x, weight, bias, (x.shape[1],))
    attrs = dict(groups=groups, eps=eps, affine=bool(affine), residual=False, act=None)
    return _channels_first(active_graph().add(GROUP_NORM, [_channels_last(x), *affine], **attrs).output)


def layer_norm(x: Any, shape: tuple[int, ...], weight: Any, bias: Any, eps: float) -> Tensor:
    """See fastnn.nn.functional.layer_norm."""
    x = _input("layer_norm", x, 1)
    first = x.ndim - len(shape)
    if first < 0 or tuple(map(linear, x.shape[first:])) != tuple(map(linear, shape)):
        raise ValueError(
            f"layer_norm: input has shape {describe(x.shape)}; expected (..., {', '.join(map(str, shape))})"
        )
    affine = [reshape(t, (count(shape),)) for t in _affine("layer_norm", x, weight, bias, shape)]
    rows = reshape(x, (count(x.shape[:first]), count(shape)))
    node = active_graph().add(LAYER_NORM, [rows, *affine], eps=eps, affine=bool(affine))
    return reshape(node.output, x.shape)


def local_response_norm(x: Any, size: int, alpha: float, beta: float, k: float) -> Tensor:
    """See fastnn.nn.functional.local_response_norm."""
    x = _input("local_response_norm", x, 3)
    # A window beyond all channels sees no more of them; alpha is divided by the size that was asked for.
    seen = min(size, 2 * int(x.shape[1]))
    attrs = dict(size=seen, alpha=alpha * (seen / size), beta=beta, k=k)
    node = active_graph().add(LOCAL_RESPONSE_NORM, [_channels_last(x)], **attrs)
    return _channels_first(node.output)
