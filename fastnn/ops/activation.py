"""Activations. Gradients are computed from the output where that suffices, else from the input."""

from __future__ import annotations

from typing import Any

import fastnn_ext.activation as native
from fastnn.graph import Arguments, Emitter, Node, Op, OutputTypes, Tensor, active_graph, as_tensor
from fastnn.ops.arguments import check_float
from fastnn.ops.layout import behind_layout
from fastnn.sizes import count


class Activation(Op):
    """attrs: kind, alpha (slope or scale)."""

    name = "activation"

    def infer(self, node: Node) -> OutputTypes:
        return [(node.inputs[0].shape, node.inputs[0].dtype)]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        saved = node.output if saves_output(node.attrs["kind"], node.attrs["alpha"]) else node.inputs[0]
        grad = active_graph().add(ACTIVATION_GRAD, [grads[0], saved], **node.attrs)  # type: ignore[list-item]
        return [grad.output]

    def lower(self, node: Node, to: Emitter) -> None:
        n, kind = count(node.output.shape), native.ACTIVATIONS.index(node.attrs["kind"])
        to.emit(
            "activation", y=node.output, x=node.inputs[0], n=n, kind=kind, alpha=node.attrs["alpha"], flops=n
        )


class ActivationGrad(Op):
    """dx = dy * f'(.), from dy and what the activation saved. attrs: kind, alpha."""

    name = "activation_grad"

    def infer(self, node: Node) -> OutputTypes:
        return [(node.inputs[0].shape, node.inputs[0].dtype)]

    def lower(self, node: Node, to: Emitter) -> None:
        dy, saved = node.inputs
        n, kind = count(node.output.shape), native.ACTIVATIONS.index(node.attrs["kind"])
        to.emit(
            "activation_backward",
            dx=node.output,
            dy=dy,
            saved=saved,
            n=n,
            kind=kind,
            alpha=node.attrs["alpha"],
            flops=2 * n,
        )


ACTIVATION = Activation()
ACTIVATION_GRAD = ActivationGrad()


def saves_output(kind: str, alpha: float) -> bool:
    """Whether the gradient can be had from the output: the sign of x must show in y."""
    if kind in ("leaky_relu", "elu") and alpha <= 0:
        return False
    return bool(native.SAVES[kind] == "output")


def epilogue(act: tuple[str, float] | None, name: str = "act") -> Arguments:
    """An activation, or the gradient of one, as the native ops take it that apply it to what they made."""
    kind, alpha = act or (None, 0.0)
    return {name: -1 if kind is None else native.ACTIVATIONS.index(kind), "alpha": alpha}


def activation(x: Any, kind: str, alpha: float = 0.0) -> Tensor:
    x = as_tensor(x)
    check_float(kind, x)
    return behind_layout(
        lambda t: active_graph().add(ACTIVATION, [t], kind=kind, alpha=float(alpha)).output, x
    )
