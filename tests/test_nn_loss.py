"""Losses give PyTorch's values and gradients."""

import numpy as np
import pytest

import fastnn as fn
import fastnn.nn.functional as F
from fastnn import nn
from fastnn.testing import gradcheck

DTYPES = [np.float32, np.float64]
TOLERANCE = {np.float32: {"rtol": 2e-5, "atol": 2e-6}, np.float64: {"rtol": 1e-9, "atol": 1e-12}}
REDUCTIONS = ["mean", "sum", "none"]
RNG = np.random.default_rng(7)

LOGITS = RNG.standard_normal((9, 5)) * 2
LABELS = RNG.integers(0, 5, 9)
SOME_IGNORED = np.where(np.arange(9) % 3 == 0, -100, LABELS)
IMAGES = RNG.standard_normal((2, 4, 3, 2))
PIXELS = RNG.integers(0, 4, (2, 3, 2))
WEIGHT = RNG.uniform(0.2, 2, 5)
PROBABILITIES = RNG.uniform(0, 1, (9, 5))
SIGNS = np.sign(PROBABILITIES - 0.5)
SHARES = PROBABILITIES / PROBABILITIES.sum(1, keepdims=True)
COUNTS = RNG.integers(0, 5, (9, 5)).astype(np.float64)

CASES = [
    ("MSELoss", {}, LOGITS, PROBABILITIES),
    ("MSELoss", {}, IMAGES, IMAGES[::-1] * 0.5),
    ("MSELoss", {}, LOGITS[0], PROBABILITIES[0]),
    ("L1Loss", {}, LOGITS, PROBABILITIES),
    ("SmoothL1Loss", {}, LOGITS, PROBABILITIES),
    ("SmoothL1Loss", {"beta": 0.3}, LOGITS, PROBABILITIES),
    ("SmoothL1Loss", {"beta": 0.0}, LOGITS, PROBABILITIES),
    ("HuberLoss", {}, LOGITS, PROBABILITIES),
    ("HuberLoss", {"delta": 0.3}, IMAGES, IMAGES[::-1] * 0.5),
    ("SoftMarginLoss", {}, LOGITS, SIGNS),
    ("SoftMarginLoss", {}, LOGITS, PROBABILITIES),
    ("SoftMarginLoss", {}, LOGITS[0], SIGNS[0]),
    ("HingeEmbeddingLoss", {}, LOGITS, SIGNS),
    ("HingeEmbeddingLoss", {"margin": 2.5}, LOGITS, SIGNS),
    ("BCELoss", {}, PROBABILITIES, PROBABILITIES[::-1].copy()),
    ("BCELoss", {"weight": WEIGHT}, PROBABILITIES, (SIGNS > 0) * 1.0),
    ("KLDivLoss", {}, np.log(SHARES), SHARES[::-1].copy()),
    ("KLDivLoss", {}, LOGITS, (SIGNS > 0) * 1.0),
    ("KLDivLoss", {"log_target": True}, np.log(SHARES), np.log(SHARES[::-1])),
    ("PoissonNLLLoss", {}, LOGITS, COUNTS),
    ("PoissonNLLLoss", {"log_input": False, "eps": 1e-3}, PROBABILITIES, COUNTS),
    ("PoissonNLLLoss", {"full": True}, LOGITS, COUNTS),
    ("MultiMarginLoss", {}, LOGITS, LABELS),
    ("MultiMarginLoss", {"p": 2, "margin": 0.4, "weight": WEIGHT}, LOGITS, LABELS),
    ("NLLLoss", {}, LOGITS, SOME_IGNORED),
    ("NLLLoss", {"weight": WEIGHT, "ignore_index": 2}, LOGITS, LABELS),
    ("NLLLoss", {}, IMAGES, PIXELS),
    ("NLLLoss", {}, LOGITS[0], LABELS[0]),
    ("CrossEntropyLoss", {}, LOGITS, SHARES),
    ("CrossEntropyLoss", {"weight": WEIGHT, "label_smoothing": 0.2}, LOGITS, SHARES),
    ("CrossEntropyLoss", {"weight": WEIGHT[:4]}, IMAGES, np.exp(IMAGES)),
    ("CrossEntropyLoss", {}, LOGITS[0], SHARES[0]),
    ("BCEWithLogitsLoss", {}, LOGITS, PROBABILITIES),
    ("BCEWithLogitsLoss", {}, LOGITS, (PROBABILITIES > 0.5) * 1.0),
    ("BCEWithLogitsLoss", {"pos_weight": WEIGHT}, LOGITS, PROBABILITIES),
    ("BCEWithLogitsLoss", {"weight": WEIGHT}, LOGITS, PROBABILITIES),
    (
        "BCEWithLogitsLoss",
        {"weight": WEIGHT, "pos_weight": WEIGHT[::-1].copy()},
        LOGITS,
        PROBABILITIES,
    ),
    ("BCEWithLogitsLoss", {"weight": RNG.uniform(0.5, 1, (9, 1))}, LOGITS, PROBABILITIES),
    ("CrossEntropyLoss", {}, LOGITS, LABELS),
    ("CrossEntropyLoss", {}, LOGITS, SOME_IGNORED),
    ("CrossEntropyLoss", {"ignore_index": 2}, LOGITS, LABELS),
    ("CrossEntropyLoss", {"weight": WEIGHT}, LOGITS, SOME_IGNORED),
    ("CrossEntropyLoss", {"label_smoothing": 0.1}, LOGITS, SOME_IGNORED),
    ("CrossEntropyLoss", {"label_smoothing": 0.3, "weight": WEIGHT}, LOGITS, SOME_IGNORED),
    ("CrossEntropyLoss", {"label_smoothing": 1.0}, LOGITS, LABELS),
    ("CrossEntropyLoss", {}, IMAGES, PIXELS),
    ("CrossEntropyLoss", {"label_smoothing": 0.1, "weight": WEIGHT[:4]}, IMAGES, PIXELS),
    ("CrossEntropyLoss", {}, LOGITS[0], LABELS[0]),
]


def cast(value, dtype):
    value = np.asarray(value)
    return value.astype(dtype) if value.dtype.kind == "f" else value


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("name", "settings", "y", "target"), CASES)
def test_values_and_gradients_are_pytorchs(name, settings, y, target, reduction, dtype):
    torch = pytest.importorskip("torch")
    y, target = cast(y, dtype), cast(target, dtype)
    settings = {k: cast(v, dtype) if isinstance(v, np.ndarray) else v for k, v in settings.items()}
    ours = getattr(nn, name)(**settings, reduction=reduction)
    theirs = getattr(torch.nn, name)(
        **{k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in settings.items()},
        reduction=reduction,
    )
    y_torch = torch.tensor(y, requires_grad=True)
    expected = theirs(y_torch, torch.tensor(target))
    np.testing.assert_allclose(ours(y, target), expected.detach().numpy(), **TOLERANCE[dtype])
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    if expected.ndim == 0:
        expected.backward()
        value, dy = ours.value_and_grad(y, target)
        assert isinstance(value, float)
        assert value == ours(y, target)
        assert dy.dtype == dtype
        np.testing.assert_allclose(dy, y_torch.grad.numpy(), **TOLERANCE[dtype])


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("name", "settings", "y", "target"), CASES)
def test_gradients_agree_with_central_differences(name, settings, y, target, reduction):
    assert gradcheck(getattr(nn, name)(**settings, reduction=reduction), y, target)


# Losses that PyTorch has not: written out.
OTHERS = [
    ("HalfMSELoss", {}, LOGITS, PROBABILITIES, lambda y, t: (y - t) ** 2 / 2),
    ("HingeLoss", {}, LOGITS, SIGNS, lambda y, t: np.maximum(0, 1 - t * y)),
    ("SquaredHingeLoss", {}, LOGITS, SIGNS, lambda y, t: np.maximum(0, 1 - t * y) ** 2),
    ("PerceptronLoss", {}, LOGITS, (SIGNS + 1) / 2, lambda y, t: np.maximum(0, (1 - 2 * t) * y)),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "settings", "y", "target", "formula"), OTHERS)
def test_losses_that_pytorch_has_not_are_their_formulas(name, settings, y, target, formula, dtype):
    values = formula(y, target)
    for reduction, expected in (("mean", values.mean()), ("sum", values.sum()), ("none", values)):
        loss = getattr(nn, name)(**settings, reduction=reduction)
        np.testing.assert_allclose(loss(y.astype(dtype), target.astype(dtype)), expected, **TOLERANCE[dtype])
        assert gradcheck(loss, y, target)
        assert loss.denominator(target) == (None if reduction == "sum" else y.size)


def focal(y, t, alpha, gamma):
    p = 1 / (1 + np.exp(-y))
    right = np.where(t == 1, p, 1 - p)
    weight = 1 if alpha < 0 else np.where(t == 1, alpha, 1 - alpha)
    return -weight * (1 - right) ** gamma * np.log(right)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (-1, 2.0), (0.6, 0.0), (0.25, 1.5)])
def test_focal_loss_is_its_formula(alpha, gamma, dtype):
    target = (SIGNS > 0) * 1.0
    values = focal(LOGITS, target, alpha, gamma)
    ours = F.sigmoid_focal_loss(LOGITS.astype(dtype), target.astype(dtype), alpha, gamma)
    np.testing.assert_allclose(ours, values, **TOLERANCE[dtype])
    loss = nn.SigmoidFocalLoss(alpha, gamma)
    np.testing.assert_allclose(loss(LOGITS, target), values.mean())
    assert gradcheck(lambda y: F.sigmoid_focal_loss(y, target, alpha, gamma, "sum"), LOGITS)


VECTORS = [RNG.standard_normal((6, 4)) for _ in range(3)]
ONES = np.array([1.0, -1.0, 1.0, -1.0, -1.0, 1.0])
SEVERAL = [
    ("CosineEmbeddingLoss", {}, (*VECTORS[:2], ONES)),
    ("CosineEmbeddingLoss", {"margin": -0.5}, (*VECTORS[:2], ONES)),
    ("CosineEmbeddingLoss", {"margin": 0.1}, (VECTORS[0][0], VECTORS[1][0], ONES[1])),
    ("GaussianNLLLoss", {}, (*VECTORS[:2], abs(VECTORS[2]))),
    ("GaussianNLLLoss", {"full": True, "eps": 0.5}, (*VECTORS[:2], abs(VECTORS[2][:, :1]))),
    ("GaussianNLLLoss", {"eps": 1e-3}, (*VECTORS[:2], abs(VECTORS[2][:, 0]))),
    ("MarginRankingLoss", {}, (VECTORS[0][:, 0], VECTORS[1][:, 0], ONES)),
    ("MarginRankingLoss", {"margin": 0.7}, (VECTORS[0], VECTORS[1], np.sign(VECTORS[2]))),
    ("TripletMarginLoss", {}, tuple(VECTORS)),
    ("TripletMarginLoss", {"margin": 2.0, "p": 1.0, "swap": True}, tuple(VECTORS)),
    ("TripletMarginLoss", {"margin": 2.0, "p": 3.0, "eps": 1e-3}, tuple(VECTORS)),
    ("TripletMarginLoss", {"swap": True}, tuple(v[0] for v in VECTORS)),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("name", "settings", "arrays"), SEVERAL)
def test_losses_of_several_outputs_are_pytorchs(name, settings, arrays, reduction, dtype):
    torch = pytest.importorskip("torch")
    arrays = [np.asarray(array, dtype) for array in arrays]
    ours = getattr(nn, name)(**settings, reduction=reduction)
    theirs = getattr(torch.nn, name)(**settings, reduction=reduction)
    leaves = [torch.tensor(array, requires_grad=True) for array in arrays]
    expected = theirs(*leaves)
    np.testing.assert_allclose(ours(*arrays), expected.detach().numpy(), **TOLERANCE[dtype])
    expected.sum().backward()
    wrt = (0, 1, 2) if name in ("TripletMarginLoss", "GaussianNLLLoss") else (0, 1)
    grads = fn.grad(lambda *xs: ours(*xs).sum(), argnums=wrt)(*arrays)
    for i, g in zip(wrt, grads, strict=True):
        np.testing.assert_allclose(g, leaves[i].grad.numpy(), **TOLERANCE[dtype])
    if dtype == np.float64 and reduction != "none" and settings.get("eps") != 0.5:  # below which values are flat
        assert gradcheck(ours, *arrays, wrt=list(wrt))


def test_a_model_of_two_outputs_is_trained_by_a_loss_of_both():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Linear(4, 3)

        def forward(self, a, b):
            return self.embed(a), self.embed(b)

    model, loss = Pair(), nn.CosineEmbeddingLoss()
    a, b, t = (array.astype(np.float32) for array in (*VECTORS[:2], ONES))
    optimizer = fn.optim.SGD(model.parameters(), lr=0.1)
    step = fn.TrainStep(model, lambda output, target: loss(output[0], output[1], target), optimizer)
    losses = [step(a, b, t) for _ in range(20)]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "huber_loss"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_weights_of_samples_and_elements_are_pytorchs(name, reduction, dtype):
    torch = pytest.importorskip("torch")
    y, t, w = (array.astype(dtype) for array in (LOGITS, PROBABILITIES, RNG.uniform(0.2, 2, (9, 5))))
    for weight in (w, w[:, :1]):
        there = torch.tensor(np.broadcast_to(weight, y.shape).copy())
        leaf = torch.tensor(y, requires_grad=True)
        expected = getattr(torch.nn.functional, name)(leaf, torch.tensor(t), reduction=reduction, weight=there)
        expected.sum().backward()
        ours = getattr(F, name)
        np.testing.assert_allclose(ours(y, t, reduction, weight=weight), expected.detach().numpy(), **TOLERANCE[dtype])
        dy = fn.grad(lambda y, t, w, f=ours: f(y, t, reduction, weight=w).sum(), argnums=0)(y, t, weight)
        np.testing.assert_allclose(dy, leaf.grad.numpy(), **TOLERANCE[dtype])


def test_a_target_of_probabilities_is_trained_on_and_measured_by_its_largest():
    fn.manual_seed(0)
    x = LOGITS.astype(np.float32)
    soft = np.full((9, 5), 0.05, np.float32)
    soft[np.arange(9), LABELS] = 0.8
    model = nn.Linear(5, 5)
    optimizer = fn.optim.SGD(model.parameters(), lr=0.5)
    trainer = fn.Trainer(model, loss=nn.CrossEntropyLoss(), optimizer=optimizer)
    trainer.fit((x, soft), epochs=3, batch_size=4, verbose=False)
    right = (trainer.predict(x).argmax(1) == LABELS).mean()
    measured = trainer.evaluate((x, soft))
    assert measured["accuracy"] == pytest.approx(right)
    assert measured["loss"] == pytest.approx(nn.CrossEntropyLoss()(trainer.predict(x), soft), rel=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_soft_margins_of_any_size_are_the_twins(dtype):
    y = np.array([1e30, 1e4, 700, 60, 20, 0, -20, -60, -700, -1e4, -1e30], dtype)
    value = nn.SoftMarginLoss(reduction="none")(y, np.ones_like(y))
    unit, tiny = np.finfo(dtype).eps, np.finfo(dtype).smallest_subnormal
    np.testing.assert_allclose(value, np.logaddexp(0, -y.astype(np.float64)), rtol=8 * unit, atol=tiny)
    _, dy = nn.SoftMarginLoss(reduction="sum").value_and_grad(y, np.ones_like(y))
    expected = -np.exp(-np.logaddexp(0, y.astype(np.float64)))
    np.testing.assert_allclose(dy, expected, rtol=8 * unit, atol=tiny)
    assert dy[3] != 0  # that of 60 had vanished


@pytest.mark.parametrize("dtype", DTYPES)
def test_probabilities_of_0_and_1_have_pytorchs_losses(dtype):
    torch = pytest.importorskip("torch")
    tiny = np.finfo(dtype).smallest_subnormal
    p = np.array([0, 1, tiny, 1e-30, 1e-13, 0.5, 1 - np.finfo(dtype).epsneg], dtype)
    y, t = (grid.ravel().copy() for grid in np.meshgrid(p, np.array([0, 1, 0.25], dtype)))
    leaf = torch.tensor(y.astype(np.float64), requires_grad=True)
    expected = torch.nn.functional.binary_cross_entropy(leaf, torch.tensor(t.astype(np.float64)), reduction="none")
    expected.sum().backward()
    tolerance = {"rtol": 8 * np.finfo(dtype).eps, "atol": np.finfo(dtype).eps}
    np.testing.assert_allclose(F.binary_cross_entropy(y, t, reduction="none"), expected.detach().numpy(), **tolerance)
    dy = fn.grad(lambda y, t: F.binary_cross_entropy(y, t, reduction="sum"), argnums=0)(y, t)
    # PyTorch's least divisor, 1e-12, is a float32.
    np.testing.assert_allclose(dy, leaf.grad.numpy(), rtol=8 * np.finfo(dtype).eps + 1e-8)


KINKS = np.array([0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 1e-300, -1e-300, np.inf, -np.inf, np.nan])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("name", "settings", "targets"),
    [
        ("l1_loss", {}, KINKS),
        ("smooth_l1_loss", {"beta": 0.5}, [0.0, 1.0, np.inf]),
        ("huber_loss", {"delta": 0.5}, [0.0, 1.0, np.inf]),
        ("hinge_embedding_loss", {"margin": 0.5}, [1.0, -1.0, 0.0]),
        ("kl_div", {}, [0.0, 0.5, 1.0]),
        ("kl_div", {"log_target": True}, [0.0, -1.0, -np.inf]),
        ("poisson_nll_loss", {"full": True}, [0.0, 1.0, 3.0]),
        ("margin_ranking_loss", {"margin": 0.5}, [1.0, -1.0]),
    ],
)
def test_losses_at_their_kinks_and_at_infinity_are_pytorchs(name, settings, targets):
    torch = pytest.importorskip("torch")
    function, theirs = getattr(F, name), getattr(torch.nn.functional, name)
    between = (np.zeros(len(KINKS)),) if name == "margin_ranking_loss" else ()
    for target in targets:
        t = np.full(len(KINKS), target)
        leaf = torch.tensor(KINKS, requires_grad=True)
        expected = theirs(leaf, *map(torch.tensor, between), torch.tensor(t), reduction="none", **settings)
        expected.sum().backward()
        actual = function(KINKS, *between, t, reduction="none", **settings)
        np.testing.assert_allclose(actual, expected.detach().numpy(), rtol=1e-12, err_msg=str(target))
        call = fn.grad(lambda *xs: function(*xs, reduction="none", **settings).sum(), argnums=0)
        np.testing.assert_allclose(call(KINKS, *between, t), leaf.grad.numpy(), rtol=1e-12, err_msg=str(target))


def test_the_slope_of_half_the_square_is_the_difference_however_large():
    y = np.array([0.0, -3.0, 1e150, np.inf, np.nan])
    np.testing.assert_array_equal(F.half_mse_loss(y, 0 * KINKS[:5], "none"), y * y / 2)
    dy = fn.grad(lambda y, t: F.half_mse_loss(y, t, "sum"), argnums=0)(y, 0 * KINKS[:5])
    np.testing.assert_array_equal(dy, y)


def test_cross_entropy_of_ignored_labels_alone_is_nan_for_a_mean_and_zero_for_a_sum():
    labels = np.full(9, -100)
    assert np.isnan(nn.CrossEntropyLoss()(LOGITS, labels))
    value, dy = nn.CrossEntropyLoss(reduction="sum").value_and_grad(LOGITS, labels)
    assert value == 0
    assert not dy.any()


def test_large_logits_overflow_nowhere():
    y = np.array([[1e4, -1e4, 0.0]], np.float32)
    assert nn.CrossEntropyLoss()(y, [0]) == 0
    assert nn.CrossEntropyLoss()(y, [1]) == 2e4
    value, dy = nn.BCEWithLogitsLoss(reduction="sum").value_and_grad(y, np.array([[1, 1, 1]], np.float32))
    assert value == pytest.approx(1e4 + np.log(2))
    np.testing.assert_allclose(dy, [[0, -1, -0.5]])


def test_a_smaller_batch_is_served_by_the_same_program():
    loss = nn.CrossEntropyLoss()
    whole = loss.value_and_grad(LOGITS, LABELS)
    assert loss.value_and_grad(LOGITS[:4], LABELS[:4])[1].shape == (4, 5)
    assert loss._programs["gradient"].count() == 1
    np.testing.assert_array_equal(loss.value_and_grad(LOGITS, LABELS)[1], whole[1])


def test_a_setting_that_is_changed_takes_effect():
    loss = nn.CrossEntropyLoss()
    before = loss(LOGITS, LABELS)
    loss.label_smoothing = 0.2
    assert loss(LOGITS, LABELS) == nn.CrossEntropyLoss(label_smoothing=0.2)(LOGITS, LABELS) != before


def test_weights_may_be_lists_and_are_then_float32():
    loss = nn.CrossEntropyLoss(weight=[1, 2, 3, 4, 5])
    assert loss.state_dict()["weight"].dtype == np.float32
    assert np.isfinite(loss(LOGITS.astype(np.float32), LABELS))


def test_a_loss_written_by_a_user_has_a_gradient_too():
    class Absolute(nn.Loss):
        def forward(self, input, target):
            return (input - target).abs().sum()

    value, dy = Absolute().value_and_grad(LOGITS, PROBABILITIES)
    assert value == pytest.approx(abs(LOGITS - PROBABILITIES).sum())
    np.testing.assert_array_equal(dy, np.sign(LOGITS - PROBABILITIES))


def test_a_model_and_a_loss_in_pieces_give_pytorchs_gradients():
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)).double()
    ours = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    ours.load_state_dict(theirs.state_dict())
    labels = LABELS % 3
    torch.nn.CrossEntropyLoss()(theirs(torch.tensor(LOGITS)), torch.tensor(labels)).backward()
    _, dy = nn.CrossEntropyLoss().value_and_grad(ours.forward_train(LOGITS), labels)
    ours.backward(dy)
    for p, p_torch in zip(ours.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(p.grad, p_torch.grad.numpy(), rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(("name", "settings", "y", "target"), CASES)
def test_a_loss_of_all_follows_from_those_of_its_parts(name, settings, y, target, reduction):
    if (name in ("CrossEntropyLoss", "NLLLoss") and y.ndim == 1) or np.shape(settings.get("weight")) == (9, 1):
        pytest.skip("there is no batch that could be cut")
    loss = getattr(nn, name)(reduction=reduction, **settings)
    whole = loss(cast(y, np.float64), cast(target, np.float64))
    total = count = 0.0
    for part in (slice(1), slice(1, None)):
        value = loss(cast(y[part], np.float64), cast(target[part], np.float64))
        denominator = loss.denominator(target[part])
        assert (denominator is None) == (reduction == "sum")
        if denominator != 0:
            total += value * (denominator or 1)
            count += denominator or 0
    assert total / (count or 1) == pytest.approx(whole, rel=1e-12)


def test_a_loss_of_ones_own_counts_by_samples():
    class Own(nn.Loss):
        def forward(self, input, target):
            return ((input - target) ** 2).mean()

    assert Own().denominator(np.zeros((3, 4))) == 3
