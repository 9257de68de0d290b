"""Gradients of elementwise functions, activations, softmax and losses where formulas miss their limits: at zeros,
infinities, NaN, kinks and the ends of the range, beside PyTorch's in float64."""

import itertools
from functools import partial

import numpy as np
import pytest

import fastnn as fn
import fastnn.nn.functional as F
from fastnn import nn

from native.activation import FUNCTIONS, OURS_ALONE, call

ENDS = (np.inf, -np.inf, np.nan, 1e300, -1e300, 1e-300, -1e-300, 5e-324)
POINTS = np.array([0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 3.0, -3.0, *ENDS, 20.0, -20.0, 750.0, -750.0])
LEFT, RIGHT = (grid.ravel() for grid in np.meshgrid(POINTS, POINTS))
ROWS = np.array(list(itertools.product(POINTS, repeat=3)))
EXPONENTS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, -0.5, -1.0, -2.0)
KINDS = [kind for kind in FUNCTIONS if kind not in OURS_ALONE]
MADE = ["celu", "logsigmoid", "relu6", "tanhshrink"]  # of a kind with settings, or of several ops

MAPS = {
    "negation": lambda x: -x,
    "reciprocal": lambda x: 1 / x,
    "product with itself": lambda x: x * x,
    **{f"power {e}": (lambda x, e=e: x**e) for e in EXPONENTS},
}
PAIRS = {
    "sum": lambda a, b: a + b,
    "difference": lambda a, b: a - b,
    "product": lambda a, b: a * b,
    "quotient": lambda a, b: a / b,
    "power": lambda a, b: a**b,
}


def gradients(function, dy, *arrays):
    """The value of function(*arrays), and the gradients that dy comes to."""
    pulled = fn.grad(lambda *xs: (function(*xs) * dy).sum(), argnums=tuple(range(len(arrays))))
    return fn.trace(function)(*arrays), pulled(*arrays)


def torch_gradients(function, dy, *arrays):
    torch = pytest.importorskip("torch")
    leaves = [torch.tensor(array, requires_grad=True) for array in arrays]
    y = function(*leaves)
    y.backward(torch.tensor(dy))
    return y.detach().numpy(), [leaf.grad.numpy() for leaf in leaves]


def assert_alike(actual, expected, tolerance=1e-10):
    """NaN and infinities in the same places, the rest near each other."""
    (y, grads), (torch_y, torch_grads) = actual, expected
    np.testing.assert_allclose(y, torch_y, rtol=tolerance, atol=1e-300)
    for grad, torch_grad in zip(grads, torch_grads, strict=True):
        np.testing.assert_allclose(grad, torch_grad, rtol=tolerance, atol=1e-300)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("slope", [1.0, 0.0, np.inf, np.nan])
@pytest.mark.parametrize("name", ["exp", "log", "sqrt", "abs", *MAPS, *KINDS, *MADE])
def test_gradients_of_maps_at_special_points_are_pytorchs(isa, name, slope):
    torch = pytest.importorskip("torch")
    if name in MAPS:
        ours = theirs = MAPS[name]
    elif name in KINDS:
        ours, theirs = partial(call, F, name), partial(call, torch.nn.functional, name)
    elif name in MADE:
        ours, theirs = getattr(F, name), getattr(torch.nn.functional, name)
    else:
        ours, theirs = getattr(fn, name), getattr(torch, name)
    points = POINTS
    if name == "gelu_tanh":  # PyTorch's 1 + tanh is 0 at -20, and its cube overflows
        points = POINTS[~np.isin(POINTS, (-20, 1e300, -1e300))]
    dy = np.full(points.shape, slope)
    # Slopes are taken from outputs near 1 or -1, of which one rounding is so much at 20 and -20.
    # PyTorch's 1 / 6 in the gradient of hardsigmoid is a float32.
    tolerance = 1e-7 if name in ("elu", "celu", "selu", "sigmoid", "tanh", "hardsigmoid") else 1e-10
    expected = torch_gradients(theirs, dy, points)
    if name == "softsign":  # PyTorch makes it of two parts, which an infinite dy leaves NaN; it is linear in dy
        y, (grad,) = torch_gradients(theirs, np.ones(POINTS.shape), POINTS)
        expected = y, [grad * slope]
    assert_alike(gradients(ours, dy, points), expected, tolerance)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", [*PAIRS, "maximum", "minimum"])
def test_gradients_of_pairs_at_special_points_are_pytorchs(isa, name):
    torch = pytest.importorskip("torch")
    ours = PAIRS[name] if name in PAIRS else getattr(fn, name)
    theirs = PAIRS[name] if name in PAIRS else getattr(torch, name)
    dy = np.ones(LEFT.shape)
    assert_alike(gradients(ours, dy, LEFT, RIGHT), torch_gradients(theirs, dy, LEFT, RIGHT))


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_an_infinite_gradient_leaves_the_loser_alone_as_pytorch_has_it(isa, name):
    torch = pytest.importorskip("torch")
    dy = np.full(LEFT.shape, np.inf)
    ours, theirs = getattr(fn, name), getattr(torch, name)
    assert_alike(gradients(ours, dy, LEFT, RIGHT), torch_gradients(theirs, dy, LEFT, RIGHT))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_gradients_of_softmax_at_special_points_are_pytorchs(isa, name):
    torch = pytest.importorskip("torch")
    dy = np.broadcast_to([1.0, -2.0, 0.5], ROWS.shape).copy()
    assert_alike(
        gradients(lambda x: getattr(F, name)(x, 1), dy, ROWS),
        torch_gradients(lambda x: getattr(torch.nn.functional, name)(x, 1), dy, ROWS),
    )


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("label", [0, 1, 2])
@pytest.mark.parametrize("how", ["plain", "smoothed", "weighted"])
def test_gradients_of_cross_entropy_at_special_points_are_pytorchs(isa, how, label):
    torch = pytest.importorskip("torch")
    labels, weight = np.full(len(ROWS), label), np.array([2.0, 0.0, 1.0])
    options = {
        "plain": {},
        "smoothed": {"label_smoothing": 0.1},
        "weighted": {"weight": weight},
    }[how]

    def ours(x, t):
        return F.cross_entropy(x, t, reduction="none", **options)

    def theirs(x):
        there = {k: torch.tensor(v) if k == "weight" else v for k, v in options.items()}
        return torch.nn.functional.cross_entropy(x, torch.tensor(labels), reduction="none", **there)

    grad = fn.grad(lambda x, t: ours(x, t).sum(), argnums=0)(ROWS, labels)
    actual = fn.trace(ours)(ROWS, labels), [grad]
    assert_alike(actual, torch_gradients(theirs, np.ones(len(ROWS)), ROWS), 1e-9)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", ["mse_loss", "binary_cross_entropy_with_logits"])
def test_gradients_of_losses_at_special_points_are_pytorchs(isa, name):
    torch = pytest.importorskip("torch")
    ours, theirs = getattr(F, name), getattr(torch.nn.functional, name)
    targets = POINTS if name == "mse_loss" else [0.0, 1.0, 0.25, 0.5]
    for target in targets:
        t = np.full(POINTS.shape, target)
        assert_alike(
            gradients(lambda x, t=t: ours(x, t, reduction="none"), np.ones(t.shape), POINTS),
            torch_gradients(lambda x, t=t: theirs(x, torch.tensor(t), reduction="none"), np.ones(t.shape), POINTS),
            1e-7,  # sigmoid(20) - 1
        )


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("slope", [1.0, np.inf, np.nan])
def test_a_power_of_0_is_1_and_flat_everywhere(isa, dtype, slope):
    points = POINTS.astype(dtype)
    dy = np.full(points.shape, slope, dtype)
    y, (dx,) = gradients(lambda x: x**0, dy, points)
    assert np.all(y == 1) and np.all(dx == 0)
    y, (dx, _) = gradients(lambda a, b: a**b, dy, points, np.zeros_like(points))
    assert np.all(y == 1) and np.all(dx == 0)


@pytest.mark.parametrize("slope", [1.0, np.inf])
def test_zero_to_a_power_that_is_not_negative_is_flat_in_the_exponent(isa, slope):
    exponents = np.array([0.0, 0.5, 1.0, 2.0, 1e300, np.inf])
    for zero in (0.0, -0.0):
        base = np.full(exponents.shape, zero)
        dy = np.full(exponents.shape, slope)
        _, (_, db) = gradients(lambda a, b: a**b, dy, base, exponents)
        np.testing.assert_array_equal(db, np.zeros(exponents.shape))


def test_powers_of_broadcast_operands_have_the_gradients_of_their_sums(isa):
    base, exponent = np.array([[0.0], [2.0], [3.0]]), np.array([0.0, 1.0, 2.0])
    _, (da, db) = gradients(lambda a, b: a**b, np.ones((3, 3)), base, exponent)
    np.testing.assert_allclose(da, [[1], [5], [7]])
    logs = np.log([[2.0], [3.0]])
    np.testing.assert_allclose(db, (np.array([[1.0, 2, 4], [1, 3, 9]]) * logs).sum(0))


def test_a_parameter_to_the_power_of_0_is_reached_by_a_gradient_of_zeros():
    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(np.zeros(3, np.float32))

        def forward(self, x):
            return x * self.scale**0

    model, x = Flat(), np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(model.forward_train(x), x)
    model.backward(np.full((2, 3), np.inf, np.float32))
    np.testing.assert_array_equal(model.scale.grad, np.zeros(3))
