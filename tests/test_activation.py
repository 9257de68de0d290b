"""Activations and their gradients against float64 twins, and PyTorch's special values."""

import ast
import math
import re
from pathlib import Path

import numpy as np
import pytest

from fastnn import nn
from fastnn_ext import runtime

from native.activation import ACTIVATIONS, SAVES, activation, activation_backward, saves_output
from reference import activation as twin

DTYPES = (np.float32, np.float64)
ALPHA = {"leaky_relu": 0.25, "elu": 1.5}
ALPHAS = [0.0, 0.01, 0.25, 1.0, 1.5, -0.5]
# 0 ... 70 has every tail of every vector, with and without whole vectors before it.
LENGTHS = range(71)


def eps(dtype):
    return {np.float32: 2.0**-24, np.float64: 2.0**-53}[dtype]


def saved_for(kind, x, alpha):
    return activation(kind, x, alpha) if saves_output(kind, alpha) else x


def special(dtype):
    tiny = np.finfo(dtype).smallest_subnormal
    return [
        0.0,
        -0.0,
        math.inf,
        -math.inf,
        math.nan,
        tiny,
        -tiny,
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
    assert set(ACTIVATIONS) <= set(nn.functional.__all__)
    benchmark = Path(__file__).parent.parent / "asv_bench" / "benchmarks" / "activation.py"
    timed = re.search(r"^KINDS = (\[.*?\])$", benchmark.read_text(), re.M | re.S)[1]
    assert set(ast.literal_eval(timed)) == set(ACTIVATIONS)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_values_are_the_twins(isa, dtype, kind):
    rng = np.random.default_rng(0)
    for n in LENGTHS:
        x = (rng.standard_normal(n) * 3).astype(dtype)
        y = activation(kind, x, ALPHA.get(kind))
        assert y.shape == x.shape
        assert y.dtype == dtype
        want = twin.activation(kind, x, ALPHA.get(kind))
        # gelu multiplies by 1 + erf, of which the absolute error is small.
        scale = np.abs(x) if kind == "gelu" else np.abs(want)
        assert (np.abs(y - want) <= 8 * eps(dtype) * scale).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_gradients_are_the_twins(isa, dtype, kind):
    rng = np.random.default_rng(1)
    alpha = ALPHA.get(kind, 1.0)
    for n in LENGTHS:
        x, dy = (rng.standard_normal((2, n)) * 3).astype(dtype)
        dx = activation_backward(kind, dy, saved_for(kind, x, alpha), alpha)
        want = twin.activation_backward(kind, dy, x, alpha)
        # Slopes are differences of numbers of the order of 1, or of x.
        assert (np.abs(dx - want) <= 8 * eps(dtype) * np.abs(dy) * (2 + np.abs(x))).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["relu", "leaky_relu"])
def test_small_integers_are_exact(isa, dtype, kind):
    rng = np.random.default_rng(2)
    for n in LENGTHS:
        x, dy = rng.integers(-64, 65, (2, n)).astype(dtype)
        np.testing.assert_array_equal(activation(kind, x, 0.25), twin.activation(kind, x, 0.25))
        np.testing.assert_array_equal(
            activation_backward(kind, dy, activation(kind, x, 0.25), 0.25),
            twin.activation_backward(kind, dy, x, 0.25),
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_special_values_pass_in_every_lane_and_leave_the_others_alone(isa, dtype, kind):
    alpha = ALPHA.get(kind, 1.0)
    for value in special(dtype):
        for place in range(19):
            x = np.full(19, 0.5, dtype)
            usual = activation(kind, x, alpha)[0]
            x[place] = value
            y = activation(kind, x, alpha)
            dx = activation_backward(kind, np.ones_like(x), saved_for(kind, x, alpha), alpha)
            want = twin.activation(kind, x, alpha)[place]
            slope = twin.activation_backward(kind, np.ones_like(x), x, alpha)[place]
            np.testing.assert_allclose(y[place], want.astype(dtype), rtol=8 * eps(dtype), atol=0)
            np.testing.assert_allclose(dx[place], slope, rtol=0, atol=32 * eps(dtype))
            if value == 0:
                assert np.signbit(y[place]) == np.signbit(want)
            assert (np.delete(y, place) == usual).all()
            assert np.isfinite(np.delete(dx, place)).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("kind", "alpha"),
    [(kind, alpha) for kind in ACTIVATIONS for alpha in (ALPHAS if kind in ALPHA else [0.0])],
)
def test_special_values_and_their_gradients_are_pytorchs(isa, dtype, kind, alpha):
    torch = pytest.importorskip("torch")
    x = np.array([*special(dtype), 0.3, -0.3, 3.0, -3.0], dtype)
    # In float64: its float32 kernels for AVX-512 give gelu(inf) = nan and the like.
    t = torch.tensor(x.astype(np.float64), requires_grad=True)
    y = getattr(torch.nn.functional, kind)(t, *([alpha] if kind in ALPHA else []))
    y.sum().backward()
    got = activation(kind, x, alpha)
    tolerance = {"rtol": 16 * eps(dtype), "atol": 8 * eps(dtype)}
    np.testing.assert_allclose(got, y.detach().numpy().astype(dtype), **tolerance)
    slope = activation_backward(kind, np.ones_like(x), saved_for(kind, x, alpha), alpha)
    # x (1 - sigma(x)) is as inaccurate as 1 - sigma, times x.
    np.testing.assert_allclose(slope, t.grad.numpy(), rtol=0, atol=64 * eps(dtype))


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
