"""Cutout and MixUp: what they make of a batch, by chance that the loader's place decides."""

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn, optim
from fastnn.data import Compose, Cutout, DataLoader, MixUp, Normalize

RNG = np.random.default_rng(0)
IMAGES = RNG.random((40, 3, 12, 10), dtype=np.float32) + 1
LABELS = RNG.integers(0, 4, 40)


def generator(seed=0):
    return np.random.Generator(np.random.Philox(seed))


# ---- cutout ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
@pytest.mark.parametrize(("size", "height", "width"), [(4, 4, 4), ((3, 6), 3, 6), (1, 1, 1)])
def test_a_rectangle_of_each_image_is_covered_in_all_channels(dtype, size, height, width):
    images = (IMAGES * 50).astype(dtype)
    result, labels = Cutout(size)((images, LABELS), generator())
    assert result.dtype == dtype and labels is LABELS
    covered = (result == 0).all(1)
    np.testing.assert_array_equal(result, np.where(covered[:, None], 0, images))
    for mask in covered:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert mask[np.ix_(rows, columns)].all() and mask.sum() == len(rows) * len(columns)
        assert len(rows) <= height and len(columns) <= width
        inside = rows[0] > 0 and rows[-1] < 11
        assert not inside or len(rows) == height  # only the edge cuts off
    assert (covered.sum((1, 2)) == height * width).any()


def test_all_pixels_are_alike_probable_to_be_the_middle():
    images = np.ones((20000, 1, 5, 5), np.float32)
    (covered,) = Cutout(1)((images,), generator(1))
    counts = (covered == 0).sum((0, 1))
    np.testing.assert_allclose(counts, 800, atol=5 * 800**0.5)


def test_holes_may_be_several_and_of_another_value():
    (one,), (three,) = (Cutout(3, holes=h, fill=7.0)((IMAGES,), generator(2)) for h in (1, 3))
    assert ((one == 7).sum() < (three == 7).sum()) and (one[one != 7] == IMAGES[one != 7]).all()
    assert (IMAGES != 7).all()  # what was given stays


# ---- mixup -------------------------------------------------------------------------------------


def mixed(alpha, seed=0, target=LABELS, num_classes=4, inputs=(IMAGES,)):
    return MixUp(alpha, num_classes)((*inputs, target), generator(seed))


def test_samples_and_targets_are_mixed_by_one_share_with_others():
    other = -IMAGES[:, 0]
    x, z, y = mixed(1.0, inputs=(IMAGES, other))
    shares = []
    for i in range(len(x)):
        if np.allclose(x[i], IMAGES[i], atol=1e-5):  # with itself
            np.testing.assert_allclose(y[i], np.eye(4)[LABELS[i]], atol=1e-6)
            continue
        found = []  # of all others, the one that explains the sample
        for j in range(len(x)):
            difference = IMAGES[i] - IMAGES[j]
            a = ((x[i] - IMAGES[j]) * difference).sum() / max((difference**2).sum(), 1e-9)
            if i != j and np.allclose(x[i], a * IMAGES[i] + (1 - a) * IMAGES[j], atol=1e-4):
                found.append((a, j))
        ((a, j),) = found
        shares.append(a)
        np.testing.assert_allclose(z[i], a * other[i] + (1 - a) * other[j], atol=1e-3)
        np.testing.assert_allclose(y[i], a * np.eye(4)[LABELS[i]] + (1 - a) * np.eye(4)[LABELS[j]], atol=1e-3)
    assert len(shares) > 30
    np.testing.assert_allclose(shares, shares[0], atol=1e-3)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y.sum(1), 1, rtol=1e-6)


def test_shares_are_those_of_the_beta_distribution():
    x, y = np.arange(2, dtype=np.float64)[:, None], np.array([0.0, 1.0])
    shares = []
    for seed in range(4000):
        a, _ = MixUp(0.4)((x, y), generator(seed))
        if a[0, 0] != 0 or a[1, 0] != 1:  # mixed with the other one, not with itself
            shares.append(a[1, 0])
    assert abs(np.mean(shares) - 0.5) < 0.03
    assert np.var(shares) == pytest.approx(1 / (4 * (2 * 0.4 + 1)), rel=0.08)


def test_without_alpha_nothing_is_mixed_and_floats_are_mixed_as_they_are():
    x, y = mixed(0.0)
    np.testing.assert_array_equal(x, IMAGES)
    np.testing.assert_array_equal(y, np.eye(4)[LABELS])
    real = RNG.random((40, 2))
    x, y = mixed(1.0, target=real, num_classes=None)
    assert y.dtype == np.float64 and not np.array_equal(y, real)
    assert y.mean() == pytest.approx(real.mean())
    soft = mixed(1.0, target=np.eye(4, dtype=np.float32)[LABELS])[1]
    np.testing.assert_array_equal(soft, mixed(1.0)[1])


# ---- in a loader and a training ----------------------------------------------------------------


@pytest.mark.parametrize(
    "augment", [Cutout(4), MixUp(0.3, 4), Compose([Cutout(4), Normalize(0.5, 2.0), MixUp(1.0, 4)])]
)
def test_the_same_place_in_a_run_gives_the_same_batch(augment):
    def epochs(prefetch, **state):
        loader = DataLoader((IMAGES, LABELS), 16, shuffle=True, seed=5, prefetch=prefetch, augment=augment)
        loader.load_state_dict({**loader.state_dict(), **state})
        return [[array.tobytes() for array in batch] for _ in range(2) for batch in loader]

    whole = epochs(0)
    assert epochs(2) == whole and whole[0] != whole[3]
    assert epochs(0, epoch=1, batch=1)[:2] == whole[4:]


def test_a_training_on_mixed_samples_resumes_and_measures_accuracy(tmp_path):
    x, y = fn.data.digits("train", flatten=True)

    def fit(epochs, **resume):
        fn.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        trainer = fn.Trainer(model, nn.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=3e-3))
        loader = DataLoader((x, y), 64, shuffle=True, seed=1, augment=MixUp(0.2, num_classes=10))
        trainer.fit(loader, fn.data.digits("test", flatten=True), epochs=epochs, verbose=False, **resume)
        return trainer

    whole = fit(6)
    assert whole.history.history["val_accuracy"][-1] > 0.85
    assert 0.7 < whole.history.history["accuracy"][-1] < 1
    fit(3).save_checkpoint(tmp_path / "c")
    resumed = fit(6, resume=tmp_path / "c")
    for name, array in whole.model.state_dict().items():
        np.testing.assert_array_equal(resumed.model.state_dict()[name], array)


# ---- wrongly used ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: Cutout(0), ValueError, "size"),
        (lambda: Cutout("3"), TypeError, "size"),
        (lambda: Cutout(3, holes=0), ValueError, "holes"),
        (lambda: Cutout(3, fill="0"), TypeError, "fill"),
        (lambda: Cutout(3)((LABELS,), generator()), ValueError, "images"),
        (lambda: Cutout(3, fill=0.5)(((IMAGES * 9).astype(np.uint8),), generator()), ValueError, "fill"),
        (lambda: MixUp(-1.0), ValueError, "alpha"),
        (lambda: MixUp(1.0, 1), ValueError, "num_classes"),
        (lambda: MixUp()((IMAGES, LABELS), generator()), ValueError, "num_classes: it is needed"),
        (lambda: MixUp(1.0, 3)((IMAGES, LABELS), generator()), ValueError, r"0 \.\.\. 2, got 0 \.\.\. 3"),
        (lambda: MixUp(1.0, 3)((IMAGES, LABELS[:, None]), generator()), ValueError, "target: expected class indices"),
        (lambda: MixUp(1.0, 4)((LABELS, LABELS), generator()), TypeError, "put Normalize before"),
        (lambda: MixUp(1.0, 4)((IMAGES,), generator()), ValueError, r"\(x, y\)"),
    ],
)
def test_what_does_not_fit_is_refused(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_they_show_their_settings():
    assert repr(Cutout(4, 2, 0.5)) == "Cutout((4, 4), holes=2, fill=0.5)" and repr(Cutout(4)) == "Cutout((4, 4))"
    assert repr(MixUp(0.2, 10)) == "MixUp(0.2, num_classes=10)" and repr(MixUp()) == "MixUp(1)"
