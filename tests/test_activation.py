"""Activations and their gradients against float64 twins, and PyTorch's special values."""

import ast
import math
import re
from pathlib import Path

import numpy as np
import pytest

from fastnn import nn
from fastnn_ext import runtime

from native.activation import (
    ACTIVATIONS,
    FUNCTIONS,
    LAYERS,
    SAVES,
    SETTINGS,
    activation,
    activation_backward,
    saves_output,
)
from reference import activation as twin

DTYPES = (np.float32, np.float64)
# Settings to try beside the usual ones
OTHERS = {
    "leaky_relu": [(alpha, 0.0) for alpha in (0.0, 0.25, 1.0, 1.5, -0.5)],
    "elu": [*[(alpha, 1.0) for alpha in (0.0, 0.25, 1.5, -0.5)], (2.0, 0.5), (0.25, 4.0), (-2.0, -0.5)],
    "silu": [(0.0, 0.0), (0.5, 0.0), (3.0, 0.0), (-1.0, 0.0)],
    "softplus": [(0.5, 20.0), (4.0, 2.0), (1.0, -1.0), (-2.0, 20.0), (-1.0, math.inf)],
    "hardtanh": [(0.0, 6.0), (-3.0, 0.5), (3.0, 3.0)],
    "hardshrink": [(0.0, 0.0), (3.0, 0.0), (-1.0, 0.0)],
    "softshrink": [(0.0, 0.0), (3.0, 0.0)],
    "threshold": [(0.0, 0.0), (-3.0, 20.0)],
}
CASES = [(kind, *s) for kind in ACTIVATIONS for s in [SETTINGS.get(kind, (0.0, 0.0)), *OTHERS.get(kind, [])]]
USUAL = [(kind, *SETTINGS.get(kind, (0.0, 0.0))) for kind in ACTIVATIONS]
# Made of pieces that are constant or lines, which are exact for small integers
PIECEWISE = ["relu", "leaky_relu", "step", "hardtanh", "hardshrink", "softshrink", "threshold"]
# 0 ... 70 has every tail of every vector, with and without whole vectors before it.
LENGTHS = range(71)


def eps(dtype):
    return {np.float32: 2.0**-24, np.float64: 2.0**-53}[dtype]


def saved_for(kind, x, alpha, beta):
    return activation(kind, x, alpha, beta) if saves_output(kind, alpha) else x


def tiny(dtype):
    return np.finfo(dtype).smallest_subnormal


def special(dtype):
    return [
        0.0,
        -0.0,
        math.inf,
        -math.inf,
        math.nan,
        tiny(dtype),
        -tiny(dtype),
        1e-30,
        -1e-30,
        30.0,
        -30.0,
        1e30,
        -1e30,
    ]


def test_every_kind_has_a_twin_a_function_and_a_layer_and_is_timed():
    assert len(set(ACTIVATIONS)) == len(ACTIVATIONS)
    assert set(twin.VALUE) == set(twin.SLOPE) == set(SAVES) == set(ACTIVATIONS)
    assert set(SETTINGS) == set(OTHERS)
    assert {name for name, _ in FUNCTIONS.values()} <= set(nn.functional.__all__)
    assert {layer.split("(")[0] for layer in LAYERS.values()} <= set(nn.__all__)
    benchmark = Path(__file__).parent.parent / "asv_bench" / "benchmarks" / "activation.py"
    timed = re.search(r"^KINDS = (\[.*?\])", benchmark.read_text(), re.M | re.S)[1]
    assert set(ast.literal_eval(timed)) == set(ACTIVATIONS)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("kind", "alpha", "beta"), CASES)
def test_values_are_the_twins(isa, dtype, kind, alpha, beta):
    rng = np.random.default_rng(0)
    for n in LENGTHS:
        x = (rng.standard_normal(n) * 3).astype(dtype)
        y = activation(kind, x, alpha, beta)
        assert y.shape == x.shape
        assert y.dtype == dtype
        want = twin.activation(kind, x, alpha, beta)
        # gelu multiplies by 1 + erf, of which the absolute error is small; sums of x and a number have that of both.
        scale = np.abs(x) if kind in ("gelu", "softshrink", "hardswish") else np.abs(want)
        if kind == "hardsigmoid":
            scale = 0.5
        elif kind == "gelu_tanh":  # sigmoid's argument was rounded
            scale = scale * (1 + np.abs(twin.tanh_argument(x.astype(np.float64))))
        elif kind == "silu":
            scale = scale * (1 + np.abs(alpha * x))
        elif kind == "softplus":
            scale = scale * (1 + np.maximum(-alpha * x, 0))
        # What underflows has an absolute error.
        assert (np.abs(y - want) <= 8 * eps(dtype) * scale + tiny(dtype) * np.abs(x)).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("kind", "alpha", "beta"), CASES)
def test_gradients_are_the_twins(isa, dtype, kind, alpha, beta):
    rng = np.random.default_rng(1)
    for n in LENGTHS:
        x, dy = (rng.standard_normal((2, n)) * 3).astype(dtype)
        dx = activation_backward(kind, dy, saved_for(kind, x, alpha, beta), alpha, beta)
        want = twin.activation_backward(kind, dy, x, alpha, beta)
        # Slopes are differences of numbers of the order of 1, or of x by its factor.
        size = 2 + np.abs(x) * max(1, abs(alpha) if kind == "silu" else 1)
        if kind == "gelu_tanh":
            size = size * (1 + np.abs(x) ** 3)
        assert (np.abs(dx - want) <= 8 * eps(dtype) * np.abs(dy) * size).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("kind", "alpha", "beta"), [case for case in CASES if case[0] in PIECEWISE])
def test_small_integers_are_exact(isa, dtype, kind, alpha, beta):
    if kind == "leaky_relu":
        alpha = round(4 * alpha) / 4
    rng = np.random.default_rng(2)
    for n in LENGTHS:
        x, dy = rng.integers(-64, 65, (2, n)).astype(dtype)
        np.testing.assert_array_equal(activation(kind, x, alpha, beta), twin.activation(kind, x, alpha, beta))
        np.testing.assert_array_equal(
            activation_backward(kind, dy, saved_for(kind, x, alpha, beta), alpha, beta),
            twin.activation_backward(kind, dy, x, alpha, beta),
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("kind", "alpha", "beta"), CASES)
def test_special_values_pass_in_every_lane_and_leave_the_others_alone(isa, dtype, kind, alpha, beta):
    for value in special(dtype):
        for place in range(19):
            x = np.full(19, 0.25, dtype)
            usual = activation(kind, x, alpha, beta)[0]
            x[place] = value
            y = activation(kind, x, alpha, beta)
            dx = activation_backward(kind, np.ones_like(x), saved_for(kind, x, alpha, beta), alpha, beta)
            want = twin.activation(kind, x, alpha, beta)[place]
            slope = twin.activation_backward(kind, np.ones_like(x), x, alpha, beta)[place]
            np.testing.assert_allclose(y[place], want.astype(dtype), rtol=8 * eps(dtype), atol=tiny(dtype))
            np.testing.assert_allclose(dx[place], slope, rtol=8 * eps(dtype), atol=32 * eps(dtype))
            if value == 0:
                assert np.signbit(y[place]) == np.signbit(want)
            assert (np.delete(y, place) == usual).all()
            assert np.isfinite(np.delete(dx, place)).all()


def as_torch(kind, t, alpha, beta):
    """PyTorch's activation of a tensor."""
    import torch

    f = torch.nn.functional
    match kind:
        case "elu":
            return torch.ops.aten.elu(t, alpha, 1.0, beta)
        case "gelu_tanh":
            return f.gelu(t, approximate="tanh")
        case "leaky_relu" | "hardshrink" | "softshrink":
            return getattr(f, kind)(t, alpha)
        case "silu":
            return t * torch.sigmoid(alpha * t)
        case "softplus" if beta == math.inf:
            return alpha * f.logsigmoid(-alpha * t) * -1
        case "softplus" | "threshold":
            return getattr(f, kind)(t, alpha, beta)
        case "hardtanh":
            return f.hardtanh(t, alpha, beta)
    return getattr(torch if kind in ("sigmoid", "tanh") else f, kind)(t)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("kind", "alpha", "beta"), [case for case in CASES if case[0] != "step"])
def test_special_values_and_their_gradients_are_pytorchs(isa, dtype, kind, alpha, beta):
    torch = pytest.importorskip("torch")
    kinks = np.array([0.5, -0.5, 1, -1, 3, -3, 6, 20], dtype)
    sides = [kinks, np.nextafter(kinks, dtype(100)), np.nextafter(kinks, dtype(-100))]
    x = np.array([*special(dtype), 0.3, -0.3, *np.concatenate(sides)], dtype)
    # In float64: its float32 kernels for AVX-512 give gelu(inf) = nan and the like.
    t = torch.tensor(x.astype(np.float64), requires_grad=True)
    y = as_torch(kind, t, alpha, beta)
    y.sum().backward()
    got = activation(kind, x, alpha, beta)
    tolerance = {"rtol": 16 * eps(dtype), "atol": 8 * eps(dtype)}
    np.testing.assert_allclose(got, y.detach().numpy().astype(dtype), **tolerance)
    slope = activation_backward(kind, np.ones_like(x), saved_for(kind, x, alpha, beta), alpha, beta)
    # x (1 - sigma(x)) is as inaccurate as 1 - sigma, times x.
    rtol = 1e-7 if kind == "hardsigmoid" else 8 * eps(dtype)  # PyTorch's 1 / 6 is a float32
    np.testing.assert_allclose(slope, t.grad.numpy(), rtol=rtol, atol=64 * eps(dtype))


def test_default_alphas_are_pytorchs():
    x = np.array([-1.0, 2.0])
    np.testing.assert_array_equal(activation("leaky_relu", x), [-0.01, 2.0])
    np.testing.assert_allclose(activation("elu", x), [math.expm1(-1.0), 2.0], rtol=1e-15)


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_the_bits_do_not_depend_on_the_threads(isa, kind, threads):
    x, dy = np.random.default_rng(3).standard_normal((2, 300_007)).astype(np.float32)
    y, dx = activation(kind, x), activation_backward(kind, dy, x)
    runtime.set_num_threads(1)
    np.testing.assert_array_equal(y, activation(kind, x))
    np.testing.assert_array_equal(dx, activation_backward(kind, dy, x))
    pieces = [activation(kind, part) for part in np.split(x, [1, 17, 100_000, 100_003])]
    np.testing.assert_array_equal(y, np.concatenate(pieces))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_tails_stop_at_the_end_of_their_buffers(isa, guarded, dtype, kind):
    for n in LENGTHS:
        x, dy = np.random.default_rng(n).standard_normal((2, n)).astype(dtype)
        y = activation(kind, guarded(x), out=guarded(np.zeros(n, dtype)))
        np.testing.assert_array_equal(y, activation(kind, x))
        dx = activation_backward(kind, guarded(dy), guarded(x), out=guarded(np.zeros(n, dtype)))
        np.testing.assert_array_equal(dx, activation_backward(kind, dy, x))


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_both_work_in_place(isa, kind):
    x, dy = np.random.default_rng(4).standard_normal((2, 45)).astype(np.float32)
    y, dx = activation(kind, x), activation_backward(kind, dy, x)
    for target in (dy.copy(), x.copy()):
        operands = (target, x) if (target == dy).all() else (dy, target)
        assert activation_backward(kind, *operands, out=target) is target
        np.testing.assert_array_equal(target, dx)
    assert activation(kind, x, out=x) is x
    np.testing.assert_array_equal(x, y)


def test_any_shape_is_taken_and_kept(isa):
    for shape in [(), (0,), (3, 0, 2), (2, 3, 5)]:
        assert activation("tanh", np.ones(shape)).shape == shape
