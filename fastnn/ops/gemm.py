"""Matrix products: y = act(op(A) op(B) + bias), with transposes absorbed into strides."""

from __future__ import annotations

from typing import Any

import fastnn_ext.gemm as native
from fastnn.graph import Arguments, Emitter, Node, Op, OutputTypes, Temporary, Tensor, active_graph, as_tensor
from fastnn.ops.activation import epilogue
from fastnn.ops.arguments import check_dtypes, check_float
from fastnn.ops.elementwise import of_one_dtype
from fastnn.ops.layout import TRANSPOSE, broadcast_to, reshape
from fastnn.sizes import broadcast_shapes, count, describe, is_one, linear, same_shape

#: The batch at which a product must be large for its program to have room for a copy of B: the room is taken once, for
#: all batches, and inference with a handful of samples should not pay for it. Batches of training are about as large.
SOME = 320


class MatMul(Op):
    """A product of two matrices, or of two stacks of matrices (batched along the first dimension).

    inputs: a, b, then bias (n,) if attrs["bias"], then what the gradient of an activation was saved
    from if attrs["grad"]. attrs: ta, tb (read that operand transposed); act and grad: None or
    (kind, settings), put there by fusion.
    """

    name = "matmul"
    epilogue = ("act", "grad")

    def sizes(self, node: Node) -> tuple[int, int, int, int]:
        """(stack, m, n, k)"""
        a, b = node.inputs[:2]
        stack: int = 1 if a.ndim == 2 else a.shape[0]
        m, k = (a.shape[-1], a.shape[-2]) if node.attrs["ta"] else a.shape[-2:]
        n = b.shape[-2] if node.attrs["tb"] else b.shape[-1]
        return stack, m, n, k

    def infer(self, node: Node) -> OutputTypes:
        a, b = node.inputs[:2]
        _, m, n, k = self.sizes(node)
        k2 = b.shape[-1] if node.attrs["tb"] else b.shape[-2]
        if linear(k) != linear(k2):
            raise ValueError(f"matmul: {describe((m, k))} times {describe((k2, n))}: the inner sizes must agree")
        return [((*a.shape[:-2], m, n), a.dtype)]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        (dy,) = grads
        assert dy is not None
        a, b = node.inputs[:2]
        ta, tb = node.attrs["ta"], node.attrs["tb"]
        da = db = dbias = None
        if needs[0]:
            da = product(b, dy, ta=tb, tb=True) if ta else product(dy, b, tb=not tb)
        if needs[1]:
            db = product(dy, a, ta=True, tb=ta) if tb else product(a, dy, ta=not ta)
        if node.attrs["bias"]:
            if needs[2]:
                dbias = dy.sum(tuple(range(dy.ndim - 1)))
            return [da, db, dbias]
        return [da, db]

    def lower(self, node: Node, to: Emitter) -> None:
        inputs = list(node.inputs)
        a, b = inputs[:2]
        rest = inputs[2:]
        bias = rest.pop(0) if node.attrs["bias"] else None
        saved = rest.pop(0) if node.attrs["grad"] else None
        stack, m, n, k = self.sizes(node)
        a_row, a_col = (1, a.shape[-1]) if node.attrs["ta"] else (a.shape[-1], 1)
        b_row, b_col = (1, b.shape[-1]) if node.attrs["tb"] else (b.shape[-1], 1)
        act, grad = node.attrs["act"], node.attrs["grad"]
        sizes: Arguments = dict(
            batch=stack,
            m=m,
            n=n,
            k=k,
            a_row=a_row,
            a_col=a_col,
            a_batch=count(a.shape[-2:]) if a.ndim == 3 else 0,
            b_row=b_row,
            b_col=b_col,
            b_batch=count(b.shape[-2:]) if b.ndim == 3 else 0,
            c_row=n,
            c_batch=count((m, n)) if a.ndim == 3 else 0,
        )
        panels, partial, flops = self._panels(node, to), self._partial(node, to), 2 * count((stack, m, n, k))
        end: Arguments = dict(
            c=node.output,
            partial=partial,
            bias=bias,
            saved=saved,
            **(epilogue(act) | {"act_grad": -1} if grad is None else epilogue(grad, "act_grad") | {"act": -1}),
        )
        if panels is not None:
            to.emit("gemm_pack", panels=panels, b=b, **sizes)
        to.emit("gemm", a=a, b=b, panels=panels, **sizes, **end, flops=flops)
        if partial is not None:
            to.emit("gemm_sum", **sizes, **end)

    def _panels(self, node: Node, to: Emitter) -> Temporary | None:
        """Room for a copy of B that all chunks of a large product read."""
        stack, *sizes = self.sizes(node)
        m, n, k = (fixed + per_sample * SOME for fixed, per_sample in map(linear, sizes))
        columns = native.packed_columns(m, n, k, node.output.dtype.itemsize)
        if not is_one(stack) or linear(sizes[1])[1] or not columns:
            return None
        return to.temporary((sizes[2], columns), node.output.dtype)

    def _partial(self, node: Node, to: Emitter) -> Temporary | None:
        """Room for the parts of a product that has, or with a batch of one would have, a single row."""
        stack, m, n, k = self.sizes(node)
        if not is_one(stack) or node.attrs["tb"] or linear(m) not in ((1, 0), (0, 1)) or linear(n)[1] or linear(k)[1]:
            return None
        dtype = node.output.dtype
        parts = native.row_parts(int(n), int(k), dtype.itemsize)
        return to.temporary((parts, n), dtype) if parts > 1 else None


MATMUL = MatMul()


def _untransposed(x: Tensor) -> tuple[Tensor, bool]:
    """The matrix that x is a transpose of, if it is one."""
    node = x.node
    if node.op is TRANSPOSE:
        axes = node.attrs["axes"]
        swapped = (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2)
        if x.ndim >= 2 and axes == swapped:
            return node.inputs[0], True
    return x, False


def product(a: Tensor, b: Tensor, *, ta: bool = False, tb: bool = False, bias: Tensor | None = None) -> Tensor:
    """op(a) @ op(b) + bias for two matrices or two stacks of as many."""
    a, flipped = _untransposed(a)
    ta ^= flipped
    b, flipped = _untransposed(b)
    tb ^= flipped
    inputs = [a, b] if bias is None else [a, b, bias]
    return active_graph().add(MATMUL, inputs, ta=ta, tb=tb, bias=bias is not None, act=None, grad=None).output


def matmul(a: Any, b: Any) -> Tensor:
    """`a @ b` as NumPy's: vectors, matrices, and stacks of matrices, whose leading sizes broadcast."""
    a = as_tensor(a) if not isinstance(a, Tensor) else a
    a, b = of_one_dtype(a, as_tensor(b, like=a))
    check_float("matmul", a, "the left operand")
    check_dtypes("matmul", a, b)
    if a.ndim == 0 or b.ndim == 0:
        raise ValueError("matmul: operands must have at least one dimension; use * for numbers")
    if a.ndim == 1 and b.ndim == 1:
        return reshape(matmul(reshape(a, (1, a.shape[0])), reshape(b, (b.shape[0], 1))), ())
    if a.ndim == 1:
        y = matmul(reshape(a, (1, a.shape[0])), b)
        return reshape(y, (*y.shape[:-2], y.shape[-1]))
    if b.ndim == 1:
        y = matmul(a, reshape(b, (b.shape[0], 1)))
        return reshape(y, y.shape[:-1])
    if b.ndim == 2:
        rows = reshape(a, (count(a.shape[:-1]), a.shape[-1])) if a.ndim > 2 else a
        y = product(rows, b)
        return reshape(y, (*a.shape[:-1], y.shape[-1])) if a.ndim > 2 else y
    if not same_shape(a.shape[:-2], b.shape[:-2]):
        leading = broadcast_shapes("matmul: stacks of", a.shape[:-2], b.shape[:-2])
        a, b = broadcast_to(a, (*leading, *a.shape[-2:])), broadcast_to(b, (*leading, *b.shape[-2:]))
    if a.ndim == 3:
        return product(a, b)
    stack = count(a.shape[:-2])
    y = product(reshape(a, (stack, *a.shape[-2:])), reshape(b, (stack, *b.shape[-2:])))
    return reshape(y, (*a.shape[:-1], b.shape[-1]))


def linear_map(x: Any, weight: Any, bias: Any = None) -> Tensor:
    """x W^T + b over the last dimension: x (..., in), weight (out, in), bias (out,) -> (..., out)."""
    x = as_tensor(x)
    weight = as_tensor(weight, like=x)
    check_float("linear", x)
    check_dtypes("linear", x, weight, ("the input", "the weight"), of_model=True)
    if weight.ndim != 2:
        raise ValueError(f"linear: weight has shape {describe(weight.shape)}; expected (out, in)")
    if x.ndim == 0 or linear(x.shape[-1]) != linear(weight.shape[1]):
        raise ValueError(
            f"linear: input has shape {describe(x.shape)}; expected (..., {weight.shape[1]}) to fit the "
            f"weight of shape {describe(weight.shape)}"
        )
    if bias is not None:
        bias = as_tensor(bias, like=x)
        check_dtypes("linear", x, bias, ("the input", "the bias"), of_model=True)
        if bias.ndim != 1 or linear(bias.shape[0]) != linear(weight.shape[0]):
            raise ValueError(f"linear: bias has shape {describe(bias.shape)}; expected ({weight.shape[0]},)")
    if x.ndim == 2:
        return product(x, weight, tb=True, bias=bias)
    rows = reshape(x, (count(x.shape[:-1]), x.shape[-1]))
    return reshape(product(rows, weight, tb=True, bias=bias), (*x.shape[:-1], weight.shape[0]))
