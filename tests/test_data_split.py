"""Parts of datasets: subsets, random and stratified splits, folds, rows drawn by weight."""

from itertools import chain

import numpy as np
import pytest

import fastnn as fn
from fastnn import data, nn, optim

ROWS = np.arange(100)


def rows_of(parts):
    return [part[np.arange(len(part))][0].tolist() for part in parts]


def test_a_subset_has_its_rows_in_its_order():
    subset = data.Subset((ROWS, ROWS * 2), [5, -1, 5])
    x, y = subset[np.array([0, 1, 2])]
    assert x.tolist() == [5, 99, 5] and y.tolist() == [10, 198, 10] and len(subset) == 3
    inner = data.Subset(subset, [1])
    assert inner[np.array([0])][0].tolist() == [99]
    assert len(data.Subset(ROWS, [])) == 0


@pytest.mark.parametrize(
    "indices, error",
    [([100], IndexError), ([-101], IndexError), ([[1]], TypeError), ([0.5], TypeError), ([True], TypeError)],
)
def test_rows_that_are_none_are_refused(indices, error):
    with pytest.raises(error, match="indices"):
        data.Subset(ROWS, indices)


@pytest.mark.parametrize(
    "lengths, counts",
    [
        ([60, 40], [60, 40]),
        ([0, 100], [0, 100]),
        ([0.8, 0.2], [80, 20]),
        ([1 / 3, 1 / 3, 1 / 3], [34, 33, 33]),
        ([0.7, 0.3], [70, 30]),
        ([0.1] * 10, [10] * 10),
        (np.array([0.29, 0.71]), [29, 71]),
        ([1.0], [100]),
    ],
)
def test_a_random_split_shares_no_row_and_loses_none(lengths, counts):
    parts = rows_of(data.random_split(ROWS, lengths, seed=1))
    assert [len(part) for part in parts] == counts
    assert sorted(chain(*parts)) == ROWS.tolist()
    assert parts == rows_of(data.random_split(ROWS, lengths, seed=1))
    if max(counts) < 100:
        assert parts != rows_of(data.random_split(ROWS, lengths, seed=2))


def test_a_split_is_the_same_on_every_machine_and_numpy():
    training, validation = data.random_split(np.arange(8), [6, 2], seed=3)
    assert (
        training.indices.tolist() + validation.indices.tolist()
        == data.DataLoader(np.arange(8), 8, shuffle=True, seed=3)._order(0).tolist()
    )


@pytest.mark.parametrize("lengths", [[0.8, 0.2], [0.6, 0.2, 0.2], [34, 33, 33], [0.1] * 10])
def test_parts_of_a_stratified_split_have_their_share_of_each_class(lengths):
    rng = np.random.default_rng(0)
    classes = rng.choice(4, 100, p=[0.5, 0.3, 0.15, 0.05])
    for seed in range(20):
        parts = data.random_split(ROWS, lengths, seed, stratify=classes)
        assert sorted(chain(*rows_of(parts))) == ROWS.tolist()
        for part in parts:
            share = len(part) / len(ROWS)
            counts = np.bincount(classes[part.indices], minlength=4)
            assert np.abs(counts - share * np.bincount(classes)).max() < 2


def test_rows_of_a_class_are_dealt_out_by_chance():
    classes = ROWS % 2
    first = [set(data.random_split(ROWS, [50, 50], seed, stratify=classes)[0].indices.tolist()) for seed in range(10)]
    assert len({frozenset(rows) for rows in first}) == 10
    assert len(set.union(*first)) > 90


@pytest.mark.parametrize("stratify", [None, ROWS % 3])
@pytest.mark.parametrize("k", [2, 3, 7, 100])
def test_each_row_validates_once(k, stratify):
    seen = []
    for training, validation in data.k_fold(ROWS, k, seed=0, stratify=stratify):
        x, held = rows_of([training, validation])
        assert sorted(x + held) == ROWS.tolist()
        assert 100 // k <= len(held) <= 100 // k + 1
        seen += held
    assert sorted(seen) == ROWS.tolist()


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda: data.random_split(ROWS, [50, 40]), ValueError, "add up to 90, and the dataset has 100 rows"),
        (lambda: data.random_split(ROWS, [0.5, 0.4]), ValueError, "add up to 1"),
        (lambda: data.random_split(ROWS, [1.5, -0.5]), ValueError, r"lengths\[0\]"),
        (lambda: data.random_split(ROWS, [-1, 101]), ValueError, r"lengths\[0\]"),
        (lambda: data.random_split(ROWS, 0.5), TypeError, "lengths"),
        (lambda: data.random_split(ROWS, []), TypeError, "lengths"),
        (lambda: data.random_split(ROWS, [True, 99]), TypeError, r"lengths\[0\]"),
        (lambda: data.random_split(ROWS, [50, 50], stratify=[0, 1]), ValueError, "stratify"),
        (lambda: data.random_split(ROWS, [50, 50], stratify=ROWS / 7), ValueError, "stratify"),
        (lambda: data.random_split("rows", [1]), TypeError, "dataset"),
        (lambda: data.k_fold(ROWS, 1), ValueError, "k"),
        (lambda: data.k_fold(ROWS, 101), ValueError, "k: 101 folds of a dataset of 100 rows"),
        (lambda: data.DataLoader(ROWS, weights=[1, 2]), ValueError, "weights"),
        (lambda: data.DataLoader(ROWS, weights=np.zeros(100)), ValueError, "weights"),
        (lambda: data.DataLoader(ROWS, weights=-np.ones(100)), ValueError, "weights"),
        (lambda: data.DataLoader(ROWS, weights=np.full(100, np.nan)), ValueError, "weights"),
        (lambda: data.DataLoader(ROWS, weights=np.ones(100), shuffle=True), ValueError, "shuffle"),
        (lambda: data.balanced_weights([0.5]), TypeError, "labels"),
        (lambda: data.balanced_weights([]), TypeError, "labels"),
    ],
)
def test_what_divides_nothing_is_refused_by_name(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_rows_are_drawn_as_often_as_their_weights_say():
    weights = np.array([0, 1, 2, 0, 5, 0])
    loader = data.DataLoader(np.arange(6), 6, seed=0, weights=weights)
    counts = np.zeros(6)
    for _ in range(3000):
        for (x,) in loader:
            counts += np.bincount(x, minlength=6)
    assert not counts[weights == 0].any()
    np.testing.assert_allclose(counts / counts.sum(), weights / 8, atol=0.01)


def test_an_epoch_of_drawn_rows_depends_on_seed_and_epoch_alone_and_resumes():
    loaders = [data.DataLoader(ROWS, 8, seed=4, weights=ROWS + 1.0) for _ in range(2)]
    first = [[x.tolist() for (x,) in loaders[0]] for _ in range(2)]
    assert first[0] != first[1]
    batches = iter(loaders[1])
    kept = [next(batches)[0].tolist() for _ in range(5)]
    again = data.DataLoader(ROWS, 8, seed=4, weights=ROWS + 1.0)
    again.load_state_dict(loaders[1].state_dict())
    assert kept + [x.tolist() for (x,) in again] == first[0]
    with pytest.raises(ValueError, match=r"weights is .* there and .* in this loader"):
        data.DataLoader(ROWS, 8, seed=4, weights=ROWS + 2.0).load_state_dict(loaders[1].state_dict())
    with pytest.raises(ValueError, match="keys"):
        data.DataLoader(ROWS, 8, seed=4).load_state_dict(loaders[1].state_dict())


def test_balanced_weights_draw_every_class_alike():
    labels = (np.arange(1000) % 10 == 0).astype(np.int64)
    loader = data.DataLoader(labels, 1000, seed=0, weights=data.balanced_weights(labels))
    shares = [x.mean() for _ in range(20) for (x,) in loader]
    assert abs(np.mean(shares) - 0.5) < 0.02


def test_parts_train_and_validate(tmp_path):
    x, labels = data.digits("train", flatten=True)
    fn.manual_seed(0)
    for training, validation in data.k_fold((x, labels), 3, seed=0, stratify=labels):
        model = nn.Linear(64, 10)
        trainer = fn.Trainer(model, nn.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=0.01))
        trainer.fit(training, validation_data=validation, epochs=3, batch_size=32, verbose=0)
        assert trainer.history.history["val_accuracy"][-1] > 0.85
