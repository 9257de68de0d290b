"""JAX: whole steps and whole inferences under jit, parameters donated."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from asv_bench.peers import networks
from asv_bench.peers.rows import Inference, Row

NAMES = ("jax jit",)
REQUIRES = ("jax", "jaxlib")


def offers(name: str, row: Row) -> bool:
    """No dropout (random keys would be threaded through), and no ImageNet networks: XLA's CPU
    convolutions take seconds a step there."""
    if row.kind not in ("train", "infer"):
        return False
    network = row.work.network
    return (not network.images or network.input[-1] < 224) and not network.contains(networks.Dropout)


def make(name: str, row: Row, threads: int) -> Callable[[], object]:
    # XLA makes as many threads as the process may use cores, and has no other setting.
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[:threads])
    import jax
    import jax.numpy as jnp

    work = row.work
    samples, labels = work.network.batch(work.batch)
    if work.network.images:
        samples = samples.transpose(0, 2, 3, 1).copy()
    x, y = jnp.asarray(samples), jnp.asarray(labels)
    layers = work.network.layers
    parameters = initial(layers)
    if isinstance(work, Inference):
        infer = jax.jit(lambda p, x: apply(layers, p, x, False)[0])
        return lambda: infer(parameters, x).block_until_ready()
    step = jax.jit(training_step(layers, work.optimizer), donate_argnums=(0,))
    zeros = [jax.tree.map(jnp.zeros_like, parameters) for _ in range(2)]
    state = [(parameters, *zeros, jnp.zeros(()))]

    def run() -> float:
        state[0], loss = step(state[0], x, y)
        return float(loss)

    return run


def training_step(layers: Sequence[networks.Layer], optimizer: str) -> Callable[..., Any]:
    import jax
    import jax.numpy as jnp

    def loss_of(parameters: Any, x: Any, y: Any) -> Any:
        logits, updated = apply(layers, parameters, x, True)
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=1)
        return -chosen.mean(), updated

    def step(state: Any, x: Any, y: Any) -> Any:
        _, m, v, t = state
        (loss, parameters), g = jax.value_and_grad(loss_of, has_aux=True)(state[0], x, y)
        t = t + 1
        if optimizer == "adam":
            m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
            v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
            rate = 1e-5 * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
            moved = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) + 1e-8), parameters, m, v)
        else:
            m = jax.tree.map(lambda m, g: 0.9 * m + g, m, g)
            moved = jax.tree.map(lambda p, m: p - 1e-5 * m, parameters, m)
        return (moved, m, v, t), loss

    return step


def initial(layers: Sequence[networks.Layer]) -> list[Any]:
    """Parameters layer by layer; weights of convolutions are (KH, KW, IC, OC)."""
    import jax.numpy as jnp
    import numpy as np

    rng = np.random.default_rng(0)

    def uniform(shape: tuple[int, ...], fan_in: int) -> Any:
        return jnp.asarray(rng.uniform(-(fan_in**-0.5), fan_in**-0.5, shape), jnp.float32)

    result: list[Any] = []
    for layer in layers:
        match layer:
            case networks.Conv(fan_in, fan_out, kernel, _, _, bias):
                fan = fan_in * kernel * kernel
                w = uniform((kernel, kernel, fan_in, fan_out), fan)
                result.append({"w": w, "b": uniform((fan_out,), fan)} if bias else {"w": w})
            case networks.Norm(c):
                ones, zeros = jnp.ones(c), jnp.zeros(c)
                result.append({"w": ones, "b": zeros, "mean": zeros + 0, "var": ones + 0})
            case networks.Linear(fan_in, fan_out):
                result.append({"w": uniform((fan_in, fan_out), fan_in), "b": uniform((fan_out,), fan_in)})
            case networks.Residual(body, shortcut):
                result.append({"body": initial(body), "shortcut": initial(shortcut)})
            case _:
                result.append({})
    return result


def apply(layers: Sequence[networks.Layer], parameters: list[Any], x: Any, training: bool) -> Any:
    """The output, and the parameters with new running statistics."""
    import jax
    import jax.numpy as jnp

    updated = []
    for layer, p in zip(layers, parameters, strict=True):
        match layer:
            case networks.Conv(_, _, _, stride, padding, bias):
                sides = ((padding, padding), (padding, padding))
                x = jax.lax.conv_general_dilated(
                    x, p["w"], (stride, stride), sides, dimension_numbers=("NHWC", "HWIO", "NHWC")
                )
                x = x + p["b"] if bias else x
            case networks.Norm():
                mean, var = p["mean"], p["var"]
                if training:
                    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
                    count = x.size // x.shape[-1]
                    p = {
                        **p,
                        "mean": 0.9 * p["mean"] + 0.1 * mean,
                        "var": 0.9 * p["var"] + 0.1 * var * count / (count - 1),
                    }
                x = (x - mean) * (jax.lax.rsqrt(var + 1e-5) * p["w"]) + p["b"]
            case networks.Relu():
                x = jax.nn.relu(x)
            case networks.MaxPool(kernel, stride, padding):
                x = jax.lax.reduce_window(
                    x,
                    -jnp.inf,
                    jax.lax.max,
                    (1, kernel, kernel, 1),
                    (1, stride, stride, 1),
                    ((0, 0), (padding, padding), (padding, padding), (0, 0)),
                )
            case networks.GlobalPool():
                x = x.mean((1, 2), keepdims=True)
            case networks.Flatten():
                x = x.reshape(x.shape[0], -1)
            case networks.Linear():
                x = x @ p["w"] + p["b"]
            case networks.Residual(body, shortcut):
                y, inner = apply(body, p["body"], x, training)
                x, outer = apply(shortcut, p["shortcut"], x, training)
                x, p = x + y, {"body": inner, "shortcut": outer}
            case _:
                raise TypeError(layer)
        updated.append(p)
    return x, updated
