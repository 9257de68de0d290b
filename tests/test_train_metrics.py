"""Metrics of a batch."""

import numpy as np
import pytest

import fastnn as fn
from fastnn.train.metrics import (
    accuracy,
    mean_absolute_error,
    mean_squared_error,
    resolve,
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
        (["precision"], ValueError),
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
