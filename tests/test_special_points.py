"""Gradients of elementwise functions, activations, softmax and losses where formulas miss their limits: at zeros,
infinities, NaN, kinks and the ends of the range, beside PyTorch's in float64."""

import inspect
import itertools
from functools import partial

import numpy as np
import pytest

import fastnn as fn
import fastnn.nn.functional as F
from fastnn import nn
from fastnn.nn.functional import activation, loss

from native.activation import FUNCTIONS, OURS_ALONE, call

ENDS = (np.inf, -np.inf, np.nan, 1e300, -1e300, 1e-300, -1e-300, 5e-324)
POINTS = np.array([0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 3.0, -3.0, *ENDS, 20.0, -20.0, 750.0, -750.0])
LEFT, RIGHT = (grid.ravel() for grid in np.meshgrid(POINTS, POINTS))
ROWS = np.array(list(itertools.product(POINTS, repeat=3)))
EXPONENTS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, -0.5, -1.0, -2.0)
KINDS = [kind for kind in FUNCTIONS if kind not in OURS_ALONE]
#: Where activations have kinks, with their usual settings; their sides are the numbers next to them.
KINKS = np.array([0.0, 0.5, -0.5, 1.0, -1.0, 3.0, -3.0, 6.0, 20.0])
MAP_POINTS = np.concatenate([POINTS, KINKS, np.nextafter(KINKS, np.inf), np.nextafter(KINKS, -np.inf)])
COUPLES = np.array(list(itertools.product(MAP_POINTS, repeat=2)))
#: Of a kind with settings, or of several ops: as they are, or written out, for F and for PyTorch's.
MADE = {
    **{name: (name, name) for name in ("celu", "logsigmoid", "relu6", "rrelu", "tanhshrink")},
    "elu 0.3": (lambda kit, x: kit.elu(x, 0.3),) * 2,
    "celu -0.5": (lambda kit, x: kit.celu(x, -0.5),) * 2,
    "leaky_relu -0.3": (lambda kit, x: kit.leaky_relu(x, -0.3),) * 2,
    "hardshrink 1": (lambda kit, x: kit.hardshrink(x, 1.0),) * 2,
    "softshrink 1": (lambda kit, x: kit.softshrink(x, 1.0),) * 2,
    "hardtanh 3": (lambda kit, x: kit.hardtanh(x, -0.5, 3.0),) * 2,
    "threshold -1": (lambda kit, x: kit.threshold(x, -1.0, 20.0),) * 2,
    "softplus": (lambda kit, x: kit.softplus(x, 2.0, 6.0),) * 2,
    "prelu": (lambda kit, x: kit.prelu(x, np.array([0.25])), lambda kit, x: kit.leaky_relu(x, 0.25)),
    "swish": (lambda kit, x: kit.swish(x, 0.5), lambda kit, x: x * (0.5 * x).sigmoid()),
    "sign": (lambda kit, x: kit.sign(x), lambda kit, x: x.sign()),
    "step": (lambda kit, x: kit.step(x), lambda kit, x: x.detach().where(x.isnan(), x.sign().div(2).ceil())),
}
#: What makes one of several elements.
OF_SEVERAL = {
    "glu": (lambda kit, x: kit.glu(x, 1),) * 2,
    "maxout": (lambda kit, x: kit.maxout(x, 2), lambda kit, x: x.amax(1, keepdim=True)),
    "softmax": (lambda kit, x: kit.softmax(x, 1),) * 2,
    "softmin": (lambda kit, x: kit.softmin(x, 1),) * 2,
    "log_softmax": (lambda kit, x: kit.log_softmax(x, 1),) * 2,
}

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
    y.backward(torch.tensor(np.broadcast_to(dy, y.shape).copy()))
    return y.detach().numpy(), [leaf.grad.numpy() for leaf in leaves]


def both(torch, ours, theirs):
    """A function of F and PyTorch's, each by its name or as a function of the kit and x."""
    kits = (F, ours), (torch.nn.functional, theirs)
    return [getattr(kit, f) if isinstance(f, str) else partial(f, kit) for kit, f in kits]


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
        ours, theirs = both(torch, *MADE[name])
    else:
        ours, theirs = getattr(fn, name), getattr(torch, name)
    points = MAP_POINTS if name in KINDS or name in MADE else POINTS
    if name == "gelu_tanh":  # PyTorch's 1 + tanh is 0 at -20, and its cube overflows
        points = points[~np.isin(points, (-20, 1e300, -1e300))]
    dy = np.full(points.shape, slope)
    # Slopes are taken from outputs near 1 or -1, of which one rounding is so much at 20 and -20.
    # PyTorch's 1 / 6 in the gradient of hardsigmoid is a float32.
    rounded = ("elu", "celu", "selu", "sigmoid", "tanh", "hardsigmoid", "swish")
    tolerance = 1e-7 if name.split()[0] in rounded else 1e-10
    expected = torch_gradients(theirs, dy, points)
    if name in ("softsign", "swish"):  # of two parts there, which an infinite dy leaves NaN; they are linear in dy
        y, (grad,) = torch_gradients(theirs, np.ones(points.shape), points)
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
@pytest.mark.parametrize("name", OF_SEVERAL)
def test_gradients_of_activations_of_several_elements_at_special_points_are_pytorchs(isa, name):
    torch = pytest.importorskip("torch")
    ours, theirs = both(torch, *OF_SEVERAL[name])
    x = COUPLES if name in ("glu", "maxout") else ROWS
    dy = np.ones((len(x), 1)) if x is COUPLES else np.broadcast_to([1.0, -2.0, 0.5], x.shape).copy()
    tolerance = 1e-7 if name == "glu" else 1e-10  # the slope of its sigmoid
    assert_alike(gradients(ours, dy, x), torch_gradients(theirs, dy, x), tolerance)


def test_each_activation_is_tried_at_special_points():
    functions = {name for name in F.__all__ if inspect.getmodule(getattr(F, name)) is activation}
    tried = {FUNCTIONS[kind][0] for kind in KINDS} | {name.split()[0] for name in (*MADE, *OF_SEVERAL)}
    assert tried == functions


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
@pytest.mark.parametrize("label", [0, 1, 2])
@pytest.mark.parametrize("settings", [{}, {"p": 2}])
def test_gradients_of_multi_margin_at_special_points_are_pytorchs(isa, settings, label):
    """But for a NaN, also of infinity less infinity, which PyTorch leaves out of the sum: a loss of 0 would hide it."""
    torch = pytest.importorskip("torch")
    missing = np.isnan(np.delete(1 - ROWS[:, [label]] + ROWS, label, 1)).any(1)
    assert np.isnan(
        F.multi_margin_loss(ROWS[missing], np.full(missing.sum(), label), reduction="none", **settings)
    ).all()
    x = ROWS[~missing]
    labels = np.full(len(x), label)

    def ours(x, t):
        return F.multi_margin_loss(x, t, reduction="none", **settings)

    def theirs(x):
        return torch.nn.functional.multi_margin_loss(x, torch.tensor(labels), reduction="none", **settings)

    actual = fn.trace(ours)(x, labels), [fn.grad(lambda x, t: ours(x, t).sum(), argnums=0)(x, labels)]
    assert_alike(actual, torch_gradients(theirs, np.ones(len(x)), x))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("label", [0, 1, 2])
def test_gradients_of_likelihoods_at_special_points_are_pytorchs(isa, label):
    torch = pytest.importorskip("torch")
    labels, shares = np.full(len(ROWS), label), np.broadcast_to(np.roll([0.25, 0.75, 0.0], label), ROWS.shape).copy()
    dy = np.ones(len(ROWS))

    def ours(x, t):
        return F.nll_loss(x, t, reduction="none")

    theirs = torch.nn.functional
    actual = fn.trace(ours)(ROWS, labels), [fn.grad(lambda x, t: ours(x, t).sum(), argnums=0)(ROWS, labels)]
    assert_alike(
        actual, torch_gradients(lambda x: theirs.nll_loss(x, torch.tensor(labels), reduction="none"), dy, ROWS)
    )
    assert_alike(
        gradients(lambda x: F.cross_entropy(x, shares, reduction="none"), dy, ROWS),
        torch_gradients(lambda x: theirs.cross_entropy(x, torch.tensor(shares), reduction="none"), dy, ROWS),
        1e-9,
    )


SIDES = np.array([1.0, -1.0, 0.0, 0.5, -0.5])  # where losses have kinks
LOSS_POINTS = np.concatenate([POINTS, np.nextafter(SIDES, np.inf), np.nextafter(SIDES, -np.inf)])
SIGNS, SHARES, COUNTS = (1.0, -1.0), (0.0, 1.0, 0.25, 0.5), (0.0, 1.0, 3.0)
WITHIN = (0.0, 1.0, 0.5, 5e-324, 1e-300, np.nextafter(1, 0))  # probabilities


def perceptron(kit, x, t):
    return (-x).clamp(min=0).where(t > 0, kit.relu(x))


def focal(kit, x, t):
    p = x.sigmoid()
    right, alpha = p * t + (1 - p) * (1 - t), 0.25 * t + 0.75 * (1 - t)
    return alpha * (1 - right) ** 2 * kit.binary_cross_entropy_with_logits(x, t, reduction="none")


#: Losses by elements: settings, the inputs and the targets that are tried, whether targets have a gradient too; and
#: the formula where PyTorch has not the function.
BY_ELEMENTS = [
    ("mse_loss", {}, POINTS, POINTS, True, None),
    ("half_mse_loss", {}, POINTS, POINTS, True, lambda kit, x, t: (x - t) ** 2 * 0.5),
    ("l1_loss", {}, POINTS, POINTS, True, None),
    ("smooth_l1_loss", {}, LOSS_POINTS, POINTS, True, None),
    ("smooth_l1_loss", {"beta": 0.5}, LOSS_POINTS, POINTS, True, None),
    ("smooth_l1_loss", {"beta": 0.0}, LOSS_POINTS, POINTS, True, lambda kit, x, t: kit.l1_loss(x, t, reduction="none")),
    ("huber_loss", {}, LOSS_POINTS, POINTS, True, None),
    ("huber_loss", {"delta": 0.5}, LOSS_POINTS, POINTS, True, None),
    ("binary_cross_entropy_with_logits", {}, POINTS, SHARES, False, None),
    ("binary_cross_entropy", {}, WITHIN, SHARES, False, None),
    ("sigmoid_focal_loss", {}, POINTS, SHARES[:2], False, focal),
    ("soft_margin_loss", {}, POINTS, SIGNS, False, lambda kit, x, t: kit.softplus(-t * x)),
    ("hinge_loss", {}, LOSS_POINTS, SIGNS, False, lambda kit, x, t: kit.relu(1 - t * x)),
    ("squared_hinge_loss", {}, LOSS_POINTS, SIGNS, False, lambda kit, x, t: kit.relu(1 - t * x) ** 2),
    ("perceptron_loss", {}, LOSS_POINTS, SHARES[:2], False, perceptron),
    ("hinge_embedding_loss", {}, LOSS_POINTS, SIGNS, False, None),
    ("hinge_embedding_loss", {"margin": 0.5}, LOSS_POINTS, SIGNS, False, None),
    ("kl_div", {}, POINTS, (*SHARES, np.inf, np.nan), True, None),
    ("kl_div", {"log_target": True}, POINTS, POINTS, True, None),
    ("poisson_nll_loss", {}, POINTS, COUNTS, False, None),
    ("poisson_nll_loss", {"full": True}, POINTS, COUNTS, False, None),
    ("poisson_nll_loss", {"log_input": False}, POINTS, COUNTS, False, None),
]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("row", BY_ELEMENTS, ids=lambda row: f"{row[0]} {row[1] or ''}")
def test_gradients_of_losses_at_special_points_are_pytorchs(isa, row):
    torch = pytest.importorskip("torch")
    name, settings, points, targets, wrt_target, formula = row
    kit = torch.nn.functional
    x, t = (grid.ravel() for grid in np.meshgrid(points, targets))

    def ours(x, t):
        return getattr(F, name)(x, t, reduction="none", **settings)

    def theirs(x, t):
        return formula(kit, x, t) if formula else getattr(kit, name)(x, t, reduction="none", **settings)

    dy = np.ones(x.shape)
    if wrt_target:
        actual, expected = gradients(ours, dy, x, t), torch_gradients(theirs, dy, x, t)
    else:
        actual = gradients(lambda x: ours(x, t), dy, x)
        expected = torch_gradients(lambda x: theirs(x, torch.tensor(t)), dy, x)
    assert_alike(actual, expected, 1e-7)  # sigmoid(20) - 1


PLACES = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e300, 1e-300, 3.0])
VECTORS = np.array(list(itertools.product(PLACES, repeat=4)))
TRIPLES = np.array(list(itertools.product([0.0, -0.0, 1.0, -1.0, np.inf, np.nan, 1e300, 2.0], repeat=3)))
FLAT = [np.stack([column, np.zeros_like(column)], 1) for column in TRIPLES.T]
NUMBERS = [grid.ravel() for grid in np.meshgrid(LOSS_POINTS, LOSS_POINTS)]
VARIANCES = [grid.ravel() for grid in np.meshgrid(
    POINTS, [0.0, 1.0, np.inf, np.nan, 1e300],
    [0.0, 1e-6, np.nextafter(1e-6, 1), np.nextafter(1e-6, 0), 1.0, np.inf, np.nan, 1e300, 1e-300],
)]  # fmt: skip
OF_SEVERAL_INPUTS = [
    *(("cosine_embedding_loss", {"margin": margin}, (VECTORS[:, :2], VECTORS[:, 2:]), sign)
      for margin in (0.0, 0.5) for sign in SIGNS),
    *(("margin_ranking_loss", {"margin": margin}, NUMBERS, sign) for margin in (0.0, 0.5) for sign in SIGNS),
    *(("gaussian_nll_loss", {"full": full}, VARIANCES, None) for full in (False, True)),
    *(("triplet_margin_loss", settings, FLAT, None)
      for settings in ({}, {"p": 1.0}, {"p": 3.0}, {"swap": True}, {"eps": 0.0}, {"eps": 0.0, "p": 3.0})),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("row", OF_SEVERAL_INPUTS, ids=lambda row: f"{row[0]} {row[1]} {row[3] or ''}")
def test_gradients_of_losses_of_several_inputs_at_special_points_are_pytorchs(isa, row):
    torch = pytest.importorskip("torch")
    name, settings, inputs, sign = row
    inputs = [np.ascontiguousarray(array) for array in inputs]
    target = [] if sign is None else [np.full(len(inputs[0]), sign)]
    dy = np.ones(len(inputs[0]))

    def ours(*xs):
        return getattr(F, name)(*xs, *target, reduction="none", **settings)

    def theirs(*xs):
        return getattr(torch.nn.functional, name)(*xs, *map(torch.tensor, target), reduction="none", **settings)

    (y, grads), (torch_y, torch_grads) = gradients(ours, dy, *inputs), torch_gradients(theirs, dy, *inputs)
    # PyTorch's cosine rounds 1e-12 away beside 1e6 where a vector is 0.
    rounding = 1e-8 if name == "cosine_embedding_loss" else 1e-9
    np.testing.assert_allclose(y, torch_y, rtol=rounding)
    for grad, torch_grad in zip(grads, torch_grads, strict=True):
        # A triplet's is the difference of two unit vectors, perhaps the same.
        tolerance = 1e-14 if name == "triplet_margin_loss" else 1e-300
        np.testing.assert_allclose(grad, torch_grad, rtol=rounding, atol=tolerance)


def test_each_loss_is_tried_at_special_points():
    functions = {name for name in F.__all__ if inspect.getmodule(getattr(F, name)) is loss}
    tried = {row[0] for row in (*BY_ELEMENTS, *OF_SEVERAL_INPUTS)}
    assert tried | {"cross_entropy", "nll_loss", "multi_margin_loss"} == functions


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
