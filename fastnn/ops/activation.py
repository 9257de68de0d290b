"""Activations. Gradients are computed from the output where that suffices, else from the input."""

from __future__ import annotations

from math import inf
from typing import Any, TypeAlias

import fastnn_ext.activation as native
from fastnn.graph import Arguments, Emitter, Node, Op, OutputTypes, Tensor, active_graph, as_tensor
from fastnn.ops.arguments import check_float
from fastnn.ops.elementwise import affine, where
from fastnn.ops.layout import behind_layout
from fastnn.sizes import count


class Activation(Op):
    """attrs: kind, settings (two numbers, of which a kind reads those that it has)."""

    name = "activation"

    def infer(self, node: Node) -> OutputTypes:
        return [(node.inputs[0].shape, node.inputs[0].dtype)]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        saved = node.output if saves_output(*_act(node)) else node.inputs[0]
        grad = active_graph().add(ACTIVATION_GRAD, [grads[0], saved], **node.attrs)  # type: ignore[list-item]
        return [grad.output]

    def lower(self, node: Node, to: Emitter) -> None:
        n = count(node.output.shape)
        to.emit("activation", y=node.output, x=node.inputs[0], n=n, **epilogue(_act(node), "kind"), flops=n)


class ActivationGrad(Op):
    """dx = dy * f'(.), from dy and what the activation saved. attrs: kind, settings."""

    name = "activation_grad"

    def infer(self, node: Node) -> OutputTypes:
        return [(node.inputs[0].shape, node.inputs[0].dtype)]

    def vjp(self, node: Node, grads: list[Tensor | None], needs: list[bool]) -> list[Tensor | None]:
        (dy, saved), ddx = node.inputs, grads[0]
        assert ddx is not None
        again = active_graph().add(ACTIVATION_GRAD, [ddx, saved], **node.attrs).output if needs[0] else None
        bend = _slopes_derivative(*_act(node), saved) if needs[1] else None
        return [again, None if bend is None else ddx * dy * bend]

    def lower(self, node: Node, to: Emitter) -> None:
        dy, saved = node.inputs
        n, act = count(node.output.shape), epilogue(_act(node), "kind")
        to.emit("activation_backward", dx=node.output, dy=dy, saved=saved, n=n, **act, flops=2 * n)


ACTIVATION = Activation()
ACTIVATION_GRAD = ActivationGrad()


#: A kind, and its two settings.
Act: TypeAlias = tuple[str, tuple[float, float]]


def _act(node: Node) -> Act:
    return node.attrs["kind"], node.attrs["settings"]


def saves_output(kind: str, settings: tuple[float, float]) -> bool:
    """Whether the gradient can be had from the output; the sign of x must show in it."""
    saves = native.SAVES[kind]
    return bool(saves == "output" or (saves == "output if alpha > 0" and settings[0] > 0))


def _slopes_derivative(kind: str, settings: tuple[float, float], s: Tensor) -> Tensor | None:
    """How the slope changes with what was saved, for gradients of gradients; None where it does not."""
    a, b = settings
    match kind:
        case "relu" | "leaky_relu" | "step" | "hardsigmoid" | "hardtanh" | "hardshrink" | "softshrink" | "threshold":
            return None
        case "sigmoid":
            return affine(s, -2.0, 1.0)
        case "tanh":
            return affine(s, -2.0)
        case "elu":
            return where(s > 0.0, 0.0, b if saves_output(kind, settings) else (s * b).exp() * (a * b * b))
        case "selu":
            return where(s > 0.0, 0.0, 1.0)
        case "softsign":
            return affine(s.abs(), 2.0, -2.0) * s.sign()
        case "silu":
            sigma = activation(s * a, "sigmoid")
            return sigma * affine(sigma, -a, a) * (s * a * affine(sigma, -2.0, 1.0) + 2.0)
        case "softplus":
            sigma = activation(s * a, "sigmoid")
            return where(s * a > b, 0.0, sigma * affine(sigma, -a, a))
        case "mish":
            sigma, rest = activation(s, "sigmoid"), activation(activation(s, "softplus", 1.0, inf), "tanh")
            share = s * affine(sigma, -1.0, 1.0) - s * sigma * rest * 2.0 + 2.0
            return affine(rest.square(), -1.0, 1.0) * sigma * share
        case "hardswish":
            return where(s.abs() < 3.0, 1 / 3, 0.0)
        case "gelu":
            density = affine(s.square(), -0.5).exp() * 0.39894228040143267794
            return density * affine(s.square(), -1.0, 2.0)
        case "gelu_tanh":
            scale = 0.79788456080286535588  # sqrt(2 / pi)
            inner = affine(s.square(), 3 * 0.044715 * scale, scale)  # the slope of tanh's argument
            t = (affine(s.square(), 0.044715 * scale, scale) * s).tanh()
            return affine(t.square(), -1.0, 1.0) * (inner + s * (s * (3 * 0.044715 * scale) - t * inner.square()))
    raise TypeError(f"{kind} has no gradient of its gradient")


def epilogue(act: Act | None, name: str = "act") -> Arguments:
    """An activation, or the gradient of one, as the native ops take it that apply it to what they made."""
    kind, (alpha, beta) = act or (None, (0.0, 0.0))
    return {name: -1 if kind is None else native.ACTIVATIONS.index(kind), "alpha": alpha, "beta": beta}


def activation(x: Any, kind: str, alpha: float = 0.0, beta: float = 0.0) -> Tensor:
    x = as_tensor(x)
    check_float(kind, x)
    settings = (float(alpha), float(beta))
    return behind_layout(lambda t: active_graph().add(ACTIVATION, [t], kind=kind, settings=settings).output, x)
