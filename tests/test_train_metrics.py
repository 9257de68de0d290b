"""Metrics of a batch."""

import numpy as np
import pytest

import fastnn as fn
from fastnn.train.metrics import (
    accuracy,
    confusion_matrix,
    f1,
    mean_absolute_error,
    mean_squared_error,
    precision,
    r2,
    recall,
    resolve,
    roc_auc,
    top_k,
)

LOGITS = np.array([[1, 3, 2], [5, 1, 0], [0, 1, 2], [2, 2, 9]], np.float32)


def test_accuracy_is_the_share_of_largest_logits_at_the_class():
    assert accuracy(LOGITS, np.array([1, 0, 0, 2])) == 0.75


def test_accuracy_of_pixels_counts_each_pixel():
    logits = np.moveaxis(LOGITS.reshape(2, 2, 3), -1, 1)  # (2, 3, 2)
    assert accuracy(logits, np.array([[1, 0], [0, 0]])) == 0.5


@pytest.mark.parametrize(("out_shape", "target_shape"), [((4,), (4,)), ((4, 1), (4,)), ((4, 1), (4, 1))])
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_accuracy_of_binary_logits_answers_yes_above_zero(out_shape, target_shape, dtype):
    output = np.array([-1, 0.5, 2, -3], np.float32).reshape(out_shape)
    target = np.array([0, 1, 0, 0], dtype).reshape(target_shape)
    assert accuracy(output, target) == 0.75


def test_accuracy_of_many_labels_counts_each_label():
    output = np.array([[1.0, -1.0, 1.0], [-1.0, -1.0, 1.0]])
    assert accuracy(output, np.array([[1, 0, 0], [0, 1, 1.0]])) == pytest.approx(4 / 6)


@pytest.mark.parametrize(
    ("output", "target"),
    [
        (np.zeros((4, 3)), np.zeros(4)),  # classes as floats
        (np.zeros((4, 3)), np.zeros(5, int)),
        (np.zeros(4), np.zeros((4, 3), int)),
        (np.zeros((4, 1)), np.full((4, 1), 0.5)),  # a regression
    ],
)
def test_accuracy_refuses_what_does_not_fit(output, target):
    with pytest.raises(ValueError, match="accuracy"):
        accuracy(output, target)


RNG = np.random.default_rng(5)
SCORES, CLASSES = RNG.standard_normal((60, 4)), RNG.choice(3, 60)  # the fourth class does not occur
BINARY, YES = RNG.standard_normal(60).round(1), RNG.choice(2, 60)
RATIOS = {"precision": precision, "recall": recall, "f1": f1}


def ratio(name, right, answered, actual):
    """Written out, for one class."""
    p, r = right / max(answered, 1), right / max(actual, 1)
    return {"precision": p, "recall": r, "f1": 2 * p * r / (p + r) if p + r else 0.0}[name]


@pytest.mark.parametrize("name", RATIOS)
def test_precision_recall_and_f1_of_binary_logits_are_those_of_the_positive_class(name):
    hit, answered, actual = np.sum((BINARY > 0) & (YES == 1)), np.sum(BINARY > 0), YES.sum()
    for output, target in ((BINARY, YES), (BINARY[:, None], YES), (BINARY[:, None], YES[:, None] * 1.0)):
        assert RATIOS[name](output, target) == pytest.approx(ratio(name, hit, answered, actual))
    assert RATIOS[name](-np.ones(3), np.zeros(3)) == 0


@pytest.mark.parametrize("name", RATIOS)
def test_precision_recall_and_f1_of_classes_are_averaged(name):
    answer = SCORES.argmax(1)
    each = [ratio(name, np.sum((answer == c) & (CLASSES == c)), np.sum(answer == c), np.sum(CLASSES == c))
            for c in range(4)]  # fmt: skip
    function, share = RATIOS[name], np.bincount(CLASSES, minlength=4) / 60
    np.testing.assert_allclose(function(SCORES, CLASSES, average=None), each)
    assert function(SCORES, CLASSES) == pytest.approx(np.mean(each))
    assert function(SCORES, CLASSES, average="weighted") == pytest.approx(share @ each)
    assert function(SCORES, CLASSES, average="micro") == pytest.approx(np.mean(answer == CLASSES))
    some = np.where(np.arange(60) % 5 == 0, -100, CLASSES)
    kept = some >= 0
    assert function(SCORES, some) == pytest.approx(function(SCORES[kept], CLASSES[kept]))
    images = np.moveaxis(SCORES.reshape(2, 6, 5, 4), -1, 1)
    assert function(images, CLASSES.reshape(2, 6, 5)) == pytest.approx(np.mean(each))


def test_all_of_them_are_scikit_learns():
    theirs = pytest.importorskip("sklearn.metrics")
    for average in ("macro", "weighted", "micro", None):
        for name, function in RATIOS.items():
            settings = {"average": average, "labels": range(4), "zero_division": 0}
            expected = getattr(theirs, f"{name}_score")(CLASSES, SCORES.argmax(1), **settings)
            np.testing.assert_allclose(function(SCORES, CLASSES, average=average), expected)
    expected = theirs.confusion_matrix(CLASSES, SCORES.argmax(1), labels=range(4))
    np.testing.assert_array_equal(confusion_matrix(SCORES, CLASSES), expected)
    assert roc_auc(BINARY, YES) == pytest.approx(theirs.roc_auc_score(YES, BINARY))
    for y, t in ((SCORES, SCORES[::-1] + 0.5), (BINARY, YES), (SCORES, np.ones_like(SCORES)), (YES * 0, YES * 0)):
        assert r2(y, t) == pytest.approx(theirs.r2_score(t, y))


def test_a_confusion_matrix_has_a_row_a_class_and_a_column_an_answer():
    np.testing.assert_array_equal(
        confusion_matrix(LOGITS, np.array([1, 0, 0, -100])), [[1, 0, 1], [0, 1, 0], [0, 0, 0]]
    )
    np.testing.assert_array_equal(confusion_matrix(np.array([1.0, -1, 2]), np.array([1, 1, 0])), [[0, 1], [1, 1]])


def test_the_area_under_the_curve_is_how_often_a_positive_sample_scores_more():
    pairs = BINARY[YES == 1][:, None] - BINARY[YES == 0]
    assert roc_auc(BINARY, YES) == pytest.approx(np.mean((pairs > 0) + 0.5 * (pairs == 0)))
    assert roc_auc(BINARY[:, None], YES[:, None]) == roc_auc(BINARY, YES)
    assert np.isnan(roc_auc(BINARY, YES * 0)) and np.isnan(roc_auc(np.full(60, np.nan), YES))


def test_r2_is_1_at_best_and_0_for_the_mean():
    t = SCORES[:, 0]
    assert r2(t, t) == 1
    assert r2(np.full(60, t.mean()), t) == pytest.approx(0)
    assert r2(t + 1, t) == pytest.approx(1 - 1 / t.var())


@pytest.mark.parametrize("name", RATIOS)
def test_a_trainer_adds_them_up_over_batches(name):
    x = RNG.standard_normal((50, 3)).astype(np.float32)
    y = (x[:, :1] + 0.5 * RNG.standard_normal((50, 1)) > 0.4).astype(np.float32)
    model = fn.nn.Linear(3, 1)
    trainer = fn.Trainer(
        model, loss=fn.nn.BCEWithLogitsLoss(), optimizer=fn.optim.SGD(model.parameters(), lr=0.1), metrics=[name]
    )
    trainer.fit((x, y), epochs=2, batch_size=8, verbose=False)
    measured = trainer.evaluate((x, y), batch_size=7)
    assert measured[name] == pytest.approx(RATIOS[name](trainer.predict(x), y))


def trained(loss, target, metrics, outputs=4):
    model = fn.nn.Linear(3, outputs)
    x = RNG.standard_normal((len(target), 3)).astype(np.float32)
    trainer = fn.Trainer(model, loss, fn.optim.SGD(model.parameters(), lr=0.1), metrics)
    history = trainer.fit((x, target), (x, target), epochs=2, batch_size=8, verbose=False).history
    return trainer, x, history


@pytest.mark.parametrize("name", [*RATIOS, "roc_auc", "r2"])
def test_what_is_no_mean_over_batches_is_measured_of_validation_data(name):
    if name == "roc_auc":
        loss, target, outputs, function = fn.nn.BCEWithLogitsLoss(), YES[:, None].astype(np.float32), 1, roc_auc
    elif name == "r2":
        loss, target, outputs, function = fn.nn.MSELoss(), SCORES.astype(np.float32), 4, r2
    else:
        loss, target, outputs, function = fn.nn.CrossEntropyLoss(), CLASSES, 4, RATIOS[name]
    trainer, x, history = trained(loss, target, [name, "accuracy"] if name in RATIOS else [name], outputs)
    assert name not in history and len(history[f"val_{name}"]) == 2
    expected = function(trainer.predict(x), target)
    assert history[f"val_{name}"][-1] == pytest.approx(expected, rel=1e-12)
    measured = trainer.evaluate((x, target), batch_size=7)
    assert measured[name] == pytest.approx(expected, rel=1e-12)
    assert list(measured)[:2] == ["loss", name]
    stop = fn.callbacks.EarlyStopping(f"val_{name}")
    assert stop.mode == "max"


def test_labels_that_the_loss_ignores_are_ignored_in_what_is_measured_of_all_samples():
    target = np.where(CLASSES == 2, 255, CLASSES)
    trainer, x, history = trained(fn.nn.CrossEntropyLoss(ignore_index=255), target, ["f1"])
    expected = RATIOS["f1"](trainer.predict(x), target, ignore_index=255)
    assert history["val_f1"][-1] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kind", [fn.nn.HingeLoss, fn.nn.SquaredHingeLoss, fn.nn.SoftMarginLoss])
def test_accuracy_goes_with_losses_of_signs(kind):
    target = np.where(YES, 1, -1)[:, None].astype(np.float32)
    trainer, x, history = trained(kind(), target, None, 1)
    expected = ((trainer.predict(x) > 0) == (target > 0)).mean()
    assert history["val_accuracy"][-1] == pytest.approx(expected)
    with pytest.raises(ValueError, match="expected targets 0 or 1"):
        trainer.evaluate((x, target * 2))


def test_accuracy_of_probabilities_says_yes_above_one_half():
    model = fn.nn.Sequential(fn.nn.Linear(3, 1), fn.nn.Sigmoid())
    x = RNG.standard_normal((60, 3)).astype(np.float32)
    target = YES[:, None].astype(np.float32)
    trainer = fn.Trainer(model, fn.nn.BCELoss(), fn.optim.SGD(model.parameters()), ["accuracy", "recall", "roc_auc"])
    measured, output = trainer.evaluate((x, target)), trainer.predict(x)
    assert measured["accuracy"] == pytest.approx(((output > 0.5) == (target > 0.5)).mean())
    assert 0 < measured["recall"] < 1
    assert measured["roc_auc"] == pytest.approx(roc_auc(output, target))


def test_what_is_no_number_is_refused_in_a_trainer():
    with pytest.raises(ValueError, match=r"confusion_matrix is a table .* call confusion_matrix\(trainer.predict"):
        resolve([confusion_matrix])

    class Two(fn.nn.Module):
        def __init__(self):
            super().__init__()
            self.a = fn.nn.Linear(3, 1)

        def forward(self, x):
            return self.a(x), x

    model = Two()

    def loss(output, target):
        return (output[0] - target).square().mean()

    for name in ("r2", "f1"):
        trainer = fn.Trainer(model, loss, fn.optim.SGD(model.parameters()), [name])
        with pytest.raises(TypeError, match=f"{name} compares one output with the target, and the model returns a"):
            trainer.evaluate((np.ones((4, 3), np.float32), np.ones((4, 1), np.float32)))
    with pytest.raises(ValueError, match="average must be"):
        precision(SCORES, CLASSES, "all")
    with pytest.raises(ValueError, match=r"classes must lie in 0 \.\.\. 3, got 0 \.\.\. 4"):
        recall(SCORES, CLASSES * 2)
    for function in (*RATIOS.values(), confusion_matrix):
        with pytest.raises(ValueError, match=function.__name__):
            function(SCORES, CLASSES[:5])
    with pytest.raises(ValueError, match="roc_auc: output has shape"):
        roc_auc(SCORES, CLASSES)
    with pytest.raises(ValueError, match="r2: output has shape"):
        r2(SCORES, CLASSES)


def test_top_k_counts_a_class_among_the_k_largest():
    target = np.array([2, 1, 0, 0])
    assert [top_k(k)(LOGITS, target) for k in (1, 2, 3)] == [0, 0.75, 1]


def test_top_1_is_accuracy_for_any_logits():
    rng = np.random.default_rng(0)
    logits = rng.integers(0, 3, (500, 4)).astype(np.float32)  # with many ties
    target = rng.integers(0, 4, 500)
    assert top_k(1)(logits, target) == accuracy(logits, target)


def test_top_k_of_pixels_counts_each_pixel():
    logits = np.moveaxis(LOGITS.reshape(2, 2, 3), -1, 1)
    assert top_k(2)(logits, np.array([[2, 1], [0, 0]])) == 0.75


def test_logits_that_are_nan_are_never_right():
    logits = np.full((2, 3), np.nan, np.float32)
    assert top_k(2)(logits, np.array([0, 2])) == 0


@pytest.mark.parametrize("metric", [accuracy, top_k(1)])
def test_ignored_labels_count_neither_as_right_nor_as_wrong(metric):
    assert metric(LOGITS, np.array([1, 0, -100, 1])) == 2 / 3
    assert metric(LOGITS, np.array([1, 0, 255, 1]), ignore_index=255) == 2 / 3
    assert metric(LOGITS, np.array([1, 0, 0, 0]), ignore_index=1) == 1 / 3  # an answer to a label of its own
    assert np.isnan(metric(LOGITS, np.full(4, -100)))


@pytest.mark.parametrize("metric", [accuracy, top_k(3)])
def test_no_answer_to_a_label_below_zero_is_right_unless_it_is_ignored(metric):
    assert metric(LOGITS[:1], np.array([-1])) == 0


@pytest.mark.parametrize(("k", "error"), [(0, ValueError), (1.5, TypeError), (True, TypeError)])
def test_top_k_refuses_a_wrong_k(k, error):
    with pytest.raises(error, match=r"^k: "):
        top_k(k)


def test_errors_are_means_over_elements():
    output, target = np.array([[1.0, 2.0], [3.0, 5.0]]), np.array([[1.0, 0.0], [0.0, 5.0]])
    assert mean_absolute_error(output, target) == 1.25
    assert mean_squared_error(output, target) == 3.25


@pytest.mark.parametrize("metric", [mean_absolute_error, mean_squared_error])
def test_errors_refuse_shapes_that_would_broadcast(metric):
    with pytest.raises(ValueError, match=metric.__name__):
        metric(np.zeros((4, 1)), np.zeros(4))


def test_metrics_have_the_names_of_their_functions():
    def mine(output, target):
        return 0.0

    class Other:
        def __call__(self, output, target):
            return 0.0

    names = resolve(["accuracy", top_k(2), mine, Other()])
    assert list(names) == ["accuracy", "top_2", "mine", "Other"]


@pytest.mark.parametrize(
    ("metrics", "error"),
    [
        (["jaccard"], ValueError),
        (["accuracy", "accuracy"], ValueError),
        ("accuracy", TypeError),
        ([3], TypeError),
        ([dict], TypeError),
    ],
)
def test_unknown_metrics_are_refused(metrics, error):
    model = fn.nn.Linear(2, 2)
    with pytest.raises(error, match=r"^metrics: "):
        fn.Trainer(model, fn.nn.CrossEntropyLoss(), fn.optim.SGD(model.parameters()), metrics)
