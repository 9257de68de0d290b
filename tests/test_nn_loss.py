"""Losses give PyTorch's values and gradients."""

import numpy as np
import pytest

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

CASES = [
    ("MSELoss", {}, LOGITS, PROBABILITIES),
    ("MSELoss", {}, IMAGES, IMAGES[::-1] * 0.5),
    ("MSELoss", {}, LOGITS[0], PROBABILITIES[0]),
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
    if (name == "CrossEntropyLoss" and y.ndim == 1) or np.shape(settings.get("weight")) == (9, 1):
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
