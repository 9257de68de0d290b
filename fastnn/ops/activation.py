"""Activations. Gradients are computed from the output where that suffices, else from the input."""

from __future__ import annotations

from typing import Any

import fastnn_ext.activation as native
from fastnn.graph import Emitter, Node, Op, Signature, Tensor, active_graph, as_tensor
from fastnn.ops.arguments import check_float
from fastnn.ops.layout import behind_layout
from fastnn.sizes import count


class Activation(Op):
    """attrs: kind, alpha (slope or scale)."""

    name = "activation"

    def infer(self, node: Node) -> Signature:
        return [(node.inputs[0].shape, node.inputs[0].dtype)]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        saved = node.output if saves_output(node.attrs["kind"], node.attrs["alpha"]) else node.inputs[0]
        grad = active_graph().add(ACTIVATION_GRAD, [grads[0], saved], **node.attrs)  # type: ignore[list-item]
        return [grad.output]

    def lower(self, node: Node, to: Emitter) -> None:
        to.emit(
            "activation",
            outputs=node.outputs,
            inputs=node.inputs,
            dims=[count(node.output.shape), native.ACTIVATIONS.index(node.attrs["kind"])],
            scalars=[node.attrs["alpha"]],
            in_place=(0,),
        )

    def flops(self, node: Node) -> int:
        return count(node.output.shape)


class ActivationGrad(Op):
    """dx = dy * f'(.), from dy and what the activation saved. attrs: kind, alpha."""

    name = "activation_grad"

    def infer(self, node: Node) -> Signature:
        return [(node.inputs[0].shape, node.inputs[0].dtype)]

    def lower(self, node: Node, to: Emitter) -> None:
        to.emit(
            "activation_backward",
            outputs=node.outputs,
            inputs=node.inputs,
            dims=[count(node.output.shape), native.ACTIVATIONS.index(node.attrs["kind"])],
            scalars=[node.attrs["alpha"]],
            in_place=(0,),
        )

    def flops(self, node: Node) -> int:
        return 2 * count(node.output.shape)


ACTIVATION = Activation()
ACTIVATION_GRAD = ActivationGrad()


def saves_output(kind: str, alpha: float) -> bool:
    """Whether the gradient can be had from the output: the sign of x must show in y."""
    if kind in ("leaky_relu", "elu") and alpha <= 0:
        return False
    return bool(native.SAVES[kind] == "output")


def activation(x: Any, kind: str, alpha: float = 0.0) -> Tensor:
    x = as_tensor(x)
    check_float(kind, x)
    return behind_layout(
        lambda t: active_graph().add(ACTIVATION, [t], kind=kind, alpha=float(alpha)).output, x
    )
