"""Weights of samples and classes, and what validates: fit and evaluate, next to sums written out in NumPy."""

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn, optim
from fastnn.data import ArrayDataset, DataLoader
from fastnn.nn import functional as F
from fastnn.train.weighting import ClassWeights

from native import on_threads

RNG = np.random.default_rng(4)
X = RNG.standard_normal((30, 3))
Y = RNG.integers(0, 4, 30)
REAL = RNG.standard_normal((30, 4))
BINARY = RNG.integers(0, 2, (30, 4)).astype(float)
W = RNG.random(30) * 2
PIXELS = RNG.integers(0, 3, (6, 4, 5))
CLASSES = np.array([0.5, 2.0, 1.0, 3.0])


def make(loss, lr=0.0, seed=0, **settings):
    fn.manual_seed(seed)
    model = nn.Linear(3, 4).double()
    return fn.Trainer(model, loss, optim.SGD(model.parameters(), lr=lr), **settings)


def bits(trainer):
    return b"".join(a.tobytes() for a in trainer.model.state_dict().values())


def cross_entropy(logits, target):
    rows = np.arange(len(target))
    return np.log(np.exp(logits).sum(1)) - logits[rows, target]


LOSSES = {
    "cross-entropy": (nn.CrossEntropyLoss(), Y, cross_entropy, lambda t: np.ones(len(t))),
    "cross-entropy of classes that weigh": (
        nn.CrossEntropyLoss(weight=CLASSES),
        Y,
        lambda o, t: cross_entropy(o, t) * CLASSES[t],
        lambda t: CLASSES[t],
    ),
    "cross-entropy with ignored labels": (
        nn.CrossEntropyLoss(ignore_index=2),
        Y,
        lambda o, t: cross_entropy(o, t) * (t != 2),
        lambda t: (t != 2).astype(float),
    ),
    "squared error": (nn.MSELoss(), REAL, lambda o, t: ((o - t) ** 2).sum(1), lambda t: np.full(len(t), 4.0)),
    "binary cross-entropy": (
        nn.BCEWithLogitsLoss(),
        BINARY,
        lambda o, t: (np.log1p(np.exp(o)) - t * o).sum(1),
        lambda t: np.full(len(t), 4.0),
    ),
    "a function": (F.mse_loss, REAL, lambda o, t: ((o - t) ** 2).mean(1), lambda t: np.ones(len(t))),
}


@pytest.mark.parametrize("batch_size", [1, 7, 30])
@pytest.mark.parametrize("name", [name for name in LOSSES if name != "a function"])
def test_the_losses_shown_are_means_weighted_by_the_samples(name, batch_size):
    loss, target, each, counts = LOSSES[name]
    trainer = make(loss, metrics=[])
    expected = pytest.approx((W * each(trainer.predict(X), target)).sum() / (W * counts(target)).sum(), rel=1e-10)
    assert trainer.evaluate((X, target), batch_size, W)["loss"] == expected
    history = trainer.fit((X, target), batch_size=batch_size, sample_weight=W, verbose=False)
    assert history.history["loss"] == [expected]


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "a function"])
def test_a_step_minimizes_the_loss_of_keras(name):
    """The sum of the losses times their weights, over what a mean without weights divides by."""
    loss, target, each, counts = LOSSES[name]
    weighted, twin = make(loss, lr=1.0), make(loss, lr=0.0)
    value = fn.TrainStep(weighted.model, loss, weighted.optimizer)(X, target, sample_weight=W)
    output = twin.predict(X)
    assert value == pytest.approx((W * each(output, target)).sum() / counts(target).sum(), rel=1e-10)
    eps = 1e-5
    for (_, p), (_, q) in zip(weighted.model.named_parameters(), twin.model.named_parameters(), strict=True):
        gradient = np.zeros(p.shape)
        for at in np.ndindex(p.shape):
            kept, sums = q.data[at], []
            for shift in (eps, -eps):
                q.data[at] = kept + shift
                sums.append((W * each(twin.predict(X), target)).sum() / counts(target).sum())
            q.data[at] = kept
            gradient[at] = (sums[0] - sums[1]) / (2 * eps)
        np.testing.assert_allclose(q.data - p.data, gradient, rtol=1e-6, atol=1e-9)


def test_a_step_without_weights_may_be_told_so():
    trainer = make(nn.MSELoss())
    step = fn.TrainStep(trainer.model, trainer.loss, trainer.optimizer)
    assert step(X, REAL, sample_weight=None) == step(X, REAL)


def test_a_loss_that_is_a_sum_is_a_sum_of_weighted_losses():
    trainer = make(nn.MSELoss(reduction="sum"))
    expected = pytest.approx((W * ((trainer.predict(X) - REAL) ** 2).sum(1)).sum(), rel=1e-10)
    assert trainer.evaluate((X, REAL), 7, W)["loss"] == expected


def test_weights_of_one_are_as_none_and_of_zero_as_samples_that_are_not_there():
    plain, weighted = make(nn.MSELoss(), lr=0.1), make(nn.MSELoss(), lr=0.1)
    a = plain.fit((X, REAL), epochs=2, batch_size=8, seed=1, verbose=False).history["loss"]
    b = weighted.fit((X, REAL), epochs=2, batch_size=8, seed=1, sample_weight=np.ones(30), verbose=False)
    assert a == pytest.approx(b.history["loss"], rel=1e-12)
    np.testing.assert_allclose(plain.model.weight.data, weighted.model.weight.data, rtol=1e-12)
    half = (np.arange(30) < 15).astype(float)
    assert plain.evaluate((X, REAL), sample_weight=half) == pytest.approx(plain.evaluate((X[:15], REAL[:15])))
    with pytest.warns(RuntimeWarning, match="nothing counts"):
        assert np.isnan(plain.evaluate((X, REAL), sample_weight=np.zeros(30))["loss"])


def test_a_function_with_a_reduction_is_weighted_and_another_is_refused():
    trainer = make(F.mse_loss)
    expected = (W * ((trainer.predict(X) - REAL) ** 2).sum(1)).sum() / 30  # its own count is that of samples
    assert trainer.evaluate((X, REAL), 30, W)["loss"] == pytest.approx(expected / W.mean(), rel=1e-10)
    with pytest.raises(TypeError, match="argument reduction"):
        make(lambda output, target: (output - target).square().mean()).evaluate((X, REAL), sample_weight=W)


def test_labels_of_a_sample_may_weigh_each():
    images = RNG.standard_normal((6, 2, 4, 5))
    weight = RNG.random((6, 4, 5))
    fn.manual_seed(0)
    model = nn.Conv2d(2, 3, 1).double()
    trainer = fn.Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.0))
    each = nn.CrossEntropyLoss(reduction="none")(trainer.predict(images), PIXELS)
    logs = trainer.evaluate((images, PIXELS), 4, weight)
    assert logs["loss"] == pytest.approx((each * weight).sum() / weight.sum(), rel=1e-10)
    classes = trainer.fit((images, PIXELS), batch_size=4, class_weight={1: 5.0}, verbose=False).history["loss"]
    table = np.where(PIXELS == 1, 5.0, 1.0)
    assert classes == [pytest.approx((each * table).sum() / table.sum(), rel=1e-10)]


def signs(rng):
    return np.where(rng.random((12, 4)) < 0.5, -1.0, 1.0)


def probabilities(rng):
    values = rng.random((12, 4)) + 0.1
    return values / values.sum(1, keepdims=True)


TARGETS = {
    **dict.fromkeys((nn.CrossEntropyLoss, nn.NLLLoss, nn.MultiMarginLoss), lambda rng: rng.integers(0, 4, 12)),
    **dict.fromkeys((nn.SoftMarginLoss, nn.HingeLoss, nn.SquaredHingeLoss, nn.HingeEmbeddingLoss), signs),
}
KINDS = [(kind, {}) for kind in vars(nn).values() if isinstance(kind, type) and issubclass(kind, nn.Loss)]
KINDS = [(kind, settings) for kind, settings in KINDS if kind is not nn.Loss]
KINDS += [(nn.KLDivLoss, {"reduction": "batchmean"}), (nn.CrossEntropyLoss, {"label_smoothing": 0.2})]
KINDS += [(nn.CrossEntropyLoss, {"reduction": "sum"}), (nn.BCEWithLogitsLoss, {"pos_weight": CLASSES})]


@pytest.mark.parametrize(("kind", "settings"), KINDS)
@pytest.mark.parametrize("soft", [False, True])
def test_whole_weights_are_as_samples_that_come_so_often(kind, settings, soft):
    """Of every loss that there is."""
    rng = np.random.default_rng(0)
    x, target = rng.random((12, 4)) / 4 + 0.1, TARGETS.get(kind, probabilities)(rng)
    if soft:
        if kind is not nn.CrossEntropyLoss:
            pytest.skip("has one form of targets")
        target = probabilities(rng)
    model = nn.Linear(4, 4, bias=False).double()
    model.weight.data = np.eye(4)
    trainer = fn.Trainer(model, kind(**settings), optim.SGD(model.parameters()), metrics=[])
    times = rng.integers(0, 4, 12)
    often = trainer.evaluate((x.repeat(times, 0), target.repeat(times, 0)), 5)
    assert trainer.evaluate((x, target), 5, times) == pytest.approx(often, rel=1e-10)


def test_a_weighted_training_follows_pytorchs_over_50_steps():
    torch = pytest.importorskip("torch")
    ours, theirs = make(nn.CrossEntropyLoss(weight=CLASSES), lr=0.3), torch.nn.Linear(3, 4).double()
    theirs.load_state_dict({name: torch.tensor(a) for name, a in ours.model.state_dict().items()})
    each = torch.nn.CrossEntropyLoss(weight=torch.tensor(CLASSES), reduction="none")
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.3)
    step = fn.TrainStep(ours.model, ours.loss, ours.optimizer)
    for i in range(50):
        rows = np.arange(i, i + 10) % 30
        expected = (each(theirs(torch.tensor(X[rows])), torch.tensor(Y[rows])) * torch.tensor(W[rows])).sum()
        expected = expected / CLASSES[Y[rows]].sum()
        optimizer.zero_grad()
        expected.backward()
        optimizer.step()
        assert step(X[rows], Y[rows], sample_weight=W[rows]) == pytest.approx(expected.item(), rel=1e-9)
    np.testing.assert_allclose(ours.model.weight.data, theirs.weight.detach(), rtol=1e-9)


def test_the_bits_are_the_same_on_all_threads():
    def trained_bits():
        fn.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 14 * 14, 10))
        nn.utils.activity_regularizer(model[1], l1=1e-4, l2=1e-4)
        model[0].register_forward_hook(lambda module, args, output: output + output.mean())
        rng = np.random.default_rng(0)
        x, y = rng.standard_normal((64, 1, 16, 16)).astype(np.float32), rng.integers(0, 10, 64)
        trainer = fn.Trainer(model, nn.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=1e-3), accumulate=2)
        settings = dict(sample_weight=rng.random(64), class_weight="balanced", validation_split=0.25)
        history = trainer.fit((x, y), epochs=2, batch_size=16, verbose=False, **settings).history
        return bits(trainer), history["loss"], history["val_loss"]

    first, *rest = on_threads(trained_bits, (1, 2, 3, 8))
    assert all(one == first for one in rest)


# ---- classes -----------------------------------------------------------------------------------


def test_class_weights_multiply_those_of_samples():
    table = np.array([2.0, 1.0, 0.5, 1.0])
    trained = []
    for settings in (
        dict(sample_weight=W * table[Y]),
        dict(sample_weight=W, class_weight={0: 2.0, 2: 0.5}),
    ):
        trainer = make(nn.CrossEntropyLoss(), lr=0.1)
        loss = trainer.fit((X, Y), epochs=2, batch_size=8, seed=0, verbose=False, **settings).history["loss"]
        trained.append((bits(trainer), loss))
    assert trained[0] == trained[1]


@pytest.mark.parametrize("data", ["arrays", "data set", "loader"])
def test_balanced_classes_weigh_as_in_scikit_learn(data):
    counts = np.bincount(Y)
    table = {c: 30 / (4 * n) for c, n in enumerate(counts)}
    loader = DataLoader((X, Y), 8, shuffle=True, seed=3)
    given = {"arrays": (X, Y), "data set": ArrayDataset(X, Y), "loader": loader}[data]
    settings = {} if data == "loader" else {"batch_size": 8, "seed": 3}
    trained = []
    for weights, source in (("balanced", given), (table, (X, Y))):
        trainer = make(nn.CrossEntropyLoss(), lr=0.1)
        own = settings if source is given else {"batch_size": 8, "seed": 3}
        trainer.fit(source, class_weight=weights, verbose=False, **own)
        trained.append(bits(trainer))
    assert trained[0] == trained[1]


def test_classes_are_found_in_all_forms_of_targets():
    weights = ClassWeights({0: 1.0, 1: 3.0, 2: 7.0})
    np.testing.assert_array_equal(weights.of(np.array([0, 2, 5])), [1, 7, 1])
    np.testing.assert_array_equal(weights.of(np.array([[0.0], [1.0]])), [1, 3])
    np.testing.assert_array_equal(weights.of(np.array([0.0, 1.0])), [1, 3])
    np.testing.assert_array_equal(weights.of(np.array([[0.1, 0.2, 0.7], [0.6, 0.4, 0.0]])), [7, 1])
    balanced = ClassWeights("balanced", np.array([1, 1, 1, 0, -100]), ignore_index=-100)
    assert balanced.table == {0: 2.0, 1: pytest.approx(2 / 3)}


# ---- validation --------------------------------------------------------------------------------


def test_a_validation_split_takes_the_last_rows_as_keras():
    split, given = (make(nn.CrossEntropyLoss(), lr=0.1) for _ in range(2))
    a = split.fit((X, Y), validation_split=0.3, epochs=3, batch_size=8, seed=2, sample_weight=W, verbose=False)
    b = given.fit((X[:21], Y[:21]), epochs=3, batch_size=8, seed=2, sample_weight=W[:21], verbose=False)
    assert a.history["loss"] == b.history["loss"] and bits(split) == bits(given)
    expected = given.evaluate((X[21:], Y[21:]), sample_weight=W[21:])["loss"]
    assert a.history["val_loss"][-1] == pytest.approx(expected, rel=1e-12)


# ---- wrongly used ------------------------------------------------------------------------------


def loader():
    return DataLoader((X, Y), 8)


WRONG = {
    "weights of other length": (dict(sample_weight=W[:4]), ValueError, "sample_weight: expected .* 30 samples"),
    "weights below 0": (dict(sample_weight=W - W.mean()), ValueError, "at least 0"),
    "weights that are no numbers": (dict(sample_weight=np.where(W > 1, W, np.nan)), ValueError, "finite"),
    "weights of a loader": (dict(data=loader, sample_weight=W), ValueError, "sample_weight: the DataLoader"),
    "weights of elements": (dict(sample_weight=np.ones((30, 2))), ValueError, "sample_weight has shape"),
    "a split of a loader": (dict(data=loader, validation_split=0.5), ValueError, "validation_split: the DataLoader"),
    "a split of everything": (dict(validation_split=1.0), ValueError, "validation_split"),
    "a split that is no share": (dict(validation_split=2), ValueError, "validation_split"),
    "a split and data": (dict(validation_split=0.5, validation_data=(X, Y)), ValueError, "leave one of them out"),
    "classes as a list": (dict(class_weight=[1.0, 2.0]), TypeError, "expected a dict"),
    "an unknown word": (dict(class_weight="even"), ValueError, "balanced"),
    "classes by name": (dict(class_weight={"cat": 1.0}), TypeError, "class_weight"),
    "a class below 0": (dict(class_weight={0: -1.0}), ValueError, r"class_weight\[0\]"),
    "steps of arrays": (dict(steps_per_epoch=3), ValueError, "steps_per_epoch"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_refused_before_anything_changes(name):
    given, error, match = WRONG[name]
    trainer = make(nn.CrossEntropyLoss(), lr=0.1)
    before, random = bits(trainer), fn.get_rng_state()
    given = {"data": lambda: (X, Y), **given}
    data = given.pop("data")()
    with pytest.raises(error, match=match):
        trainer.fit(data, verbose=False, **given)
    assert bits(trainer) == before
    if "elements" not in name:  # which the first batch shows
        assert fn.get_rng_state() == random
