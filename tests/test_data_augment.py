"""Augmentation: what becomes of the images, and which numbers decide it."""

import numpy as np
import pytest

from fastnn.data import (
    Compose,
    DataLoader,
    GaussianNoise,
    Normalize,
    RandomCrop,
    RandomHorizontalFlip,
    RandomShift,
)

from workers import is_worker

ALL = [
    RandomCrop(5),
    RandomCrop((4, 6), padding=2, fill=1),
    RandomCrop(8, padding=3, padding_mode="reflect"),
    RandomShift(2),
    RandomHorizontalFlip(),
    Normalize((0.1, 0.2, 0.3), 0.5),
    Compose([RandomShift(1), Normalize(0.5, 0.5), GaussianNoise(0.1)]),
]


def generator(key=0):
    return np.random.Generator(np.random.Philox(key=key))


def images(n=50, channels=3, height=8, width=7, dtype=np.float32):
    return np.random.default_rng(1).uniform(0.1, 1, (n, channels, height, width)).astype(dtype)


# What becomes of the images


def positions(windows, whole):
    """Where each window, one an image, lies in its image; fails unless there is one such place."""
    found = []
    height, width = windows.shape[-2:]
    for window, image in zip(windows, whole, strict=True):
        places = [
            (i, j)
            for i in range(image.shape[-2] - height + 1)
            for j in range(image.shape[-1] - width + 1)
            if np.array_equal(window, image[:, i : i + height, j : j + width])
        ]
        (place,) = places
        found.append(place)
    return found


@pytest.mark.parametrize("size", [(5, 4), (8, 3), (1, 1), (8, 7)])
def test_a_crop_is_a_window_of_the_image_and_every_window_occurs(size):
    x = images(600)
    (windows,) = RandomCrop(size)((x,), generator())
    assert windows.shape == (600, 3, *size)
    places = positions(windows, x)
    assert set(places) == {(i, j) for i in range(9 - size[0]) for j in range(8 - size[1])}


def test_all_windows_are_alike_probable():
    x = np.arange(4.0).reshape(1, 1, 2, 2).repeat(40_000, axis=0)
    (pixels,) = RandomCrop(1)((x,), generator())
    # Mean 10 000, standard deviation 86.6: five of them.
    assert np.abs(np.bincount(pixels.ravel().astype(int)) - 10_000).max() < 433


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "symmetric"])
def test_padding_is_numpys(mode):
    x = images(300, height=4, width=5)
    (windows,) = RandomCrop((4, 5), padding=2, padding_mode=mode)((x,), generator())
    padded = np.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2)), mode=mode)
    assert len(set(positions(windows, padded))) == 25


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_fill_is_what_stands_around(dtype):
    x = (images(200) * 100).astype(dtype) + dtype(10)
    (windows,) = RandomCrop((8, 7), padding=3, fill=5)((x,), generator())
    assert windows.dtype == dtype
    padded = np.pad(x, ((0, 0), (0, 0), (3, 3), (3, 3)), constant_values=5)
    positions(windows, padded)


def test_a_shift_moves_by_whole_pixels_and_fills_what_it_bares():
    x = images(400, height=6, width=6)
    (moved,) = RandomShift(2)((x,), generator())
    assert moved.shape == x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2)))
    assert set(positions(moved, padded)) == {(i, j) for i in range(5) for j in range(5)}
    assert (RandomShift(6, fill=0.25)((x,), generator())[0] == 0.25).any()
    np.testing.assert_array_equal(RandomShift(0)((x,), generator())[0], x)


def test_channels_of_an_image_move_together():
    x = images(100).mean(1, keepdims=True).repeat(3, axis=1)
    for augmentation in (RandomCrop(4), RandomShift(3), RandomHorizontalFlip()):
        (y,) = augmentation((x,), generator())
        np.testing.assert_array_equal(y, y[:, :1].repeat(3, axis=1))


@pytest.mark.parametrize("p", [0.0, 0.2, 0.5, 1.0])
def test_as_many_images_are_flipped_as_p_says(p):
    x = images(10_000, channels=1, height=1, width=2)
    (y,) = RandomHorizontalFlip(p)((x,), generator())
    flipped = (y == x[..., ::-1]).all((1, 2, 3))
    np.testing.assert_array_equal(y[~flipped], x[~flipped])
    # Standard deviation at most 50: five of them.
    assert abs(flipped.sum() - 10_000 * p) <= (250 if 0 < p < 1 else 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_noise_is_normal_with_the_given_deviation(dtype):
    x = images(100, dtype=dtype)
    (y,) = GaussianNoise(0.3)((x,), generator())
    noise = (y - x) / 0.3
    assert y.dtype == dtype
    assert abs(noise.mean()) < 5 / np.sqrt(noise.size)
    assert abs(noise.std() - 1) < 5 / np.sqrt(2 * noise.size)
    assert len(np.unique(noise)) > 0.9 * noise.size


def test_normalizing_is_per_channel():
    mean, std = np.array([0.1, 0.2, 0.3]), np.array([0.5, 2, 3])
    expected = (images(dtype=np.float64) - mean[:, None, None]) / std[:, None, None]
    for dtype, error in ((np.float32, 1e-6), (np.float64, 1e-14)):
        (y,) = Normalize(mean, tuple(std))((images(dtype=dtype),))
        assert y.dtype == dtype
        np.testing.assert_allclose(y, expected, atol=error)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bytes_are_scaled_to_1_before_they_are_normalized(dtype):
    x = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    (y,) = Normalize(0.5, 0.25, dtype)((x,))
    assert y.dtype == dtype
    np.testing.assert_allclose(y, (x / 255 - 0.5) / 0.25, atol=4 * np.finfo(dtype).eps)


def test_normalizing_by_a_sets_own_numbers_gives_mean_0_and_deviation_1():
    x = images(dtype=np.float64)
    (y,) = Normalize(x.mean((0, 2, 3)), x.std((0, 2, 3)))((x,))
    np.testing.assert_allclose(y.mean((0, 2, 3)), 0, atol=1e-12)
    np.testing.assert_allclose(y.std((0, 2, 3)), 1)


def test_one_number_serves_all_channels_and_shapes():
    x = images()
    for form in (x, x[:, 0]):
        np.testing.assert_allclose(Normalize(0.5, 2)((form,))[0], (form - 0.5) / 2, atol=1e-7)


@pytest.mark.parametrize("augmentation", ALL, ids=repr)
def test_the_images_given_stay_as_they_were_and_labels_pass(augmentation):
    x = images()
    x.flags.writeable = False
    labels, more = np.arange(50), np.ones((50, 2))
    y, *rest = augmentation((x, labels, more), generator())
    assert not np.shares_memory(x, y)
    assert len(y) == 50 and y.dtype == np.float32
    assert rest[0] is labels and rest[1] is more


def test_composed_augmentations_go_on_with_the_numbers_where_the_one_before_ended():
    x = images()
    parts = [RandomCrop(6), RandomHorizontalFlip(), GaussianNoise(0.5)]
    chance = generator(7)
    expected = (x,)
    for part in parts:
        expected = part(expected, chance)
    np.testing.assert_array_equal(Compose(parts)((x,), generator(7))[0], expected[0])
    assert Compose([])((x,), generator())[0] is x


def test_the_places_are_the_same_on_every_machine_and_numpy():
    x = np.arange(100.0).reshape(1, 1, 10, 10).repeat(6, axis=0)
    (pixels,) = RandomCrop(1)((x,), generator(2024))
    assert pixels.ravel().tolist() == [74, 63, 81, 85, 53, 77]
    (flipped,) = RandomHorizontalFlip(0.75)((x,), generator(2024))
    assert flipped[:, 0, 0, 0].tolist() == [0, 9, 0, 0, 9, 0]


# Which numbers decide it: those of the loader


def draw(batch, chance):
    """An augmentation that shows the numbers it is given: they stand in the first array."""
    rows, *rest = batch
    words = chance.bit_generator.random_raw(len(rows))
    return words.astype(np.float64), *rest


def runs(epochs=2, n=10, batch_size=4, **options):
    options = {"seed": 5, "augment": draw, **options}
    loader = DataLoader((np.arange(n), np.arange(n)), batch_size, **options)
    return [[(x.tolist(), y.tolist()) for x, y in loader] for _ in range(epochs)]


@pytest.mark.parametrize("shuffle", [False, True])
def test_the_numbers_depend_on_seed_epoch_and_batch_alone(shuffle):
    run = runs(shuffle=shuffle)
    assert run == runs(shuffle=shuffle) == runs(shuffle=shuffle, prefetch=0)
    assert run == runs(shuffle=shuffle, prefetch=7)
    numbers = [x for epoch in run for batch, _ in epoch for x in batch]
    assert len(set(numbers)) == 20
    others = [x for epoch in runs(shuffle=shuffle, seed=6) for batch, _ in epoch for x in batch]
    assert not set(numbers) & set(others)


def test_the_numbers_are_those_of_the_documented_stream():
    key = np.array([5, 1], np.uint64)
    words = np.random.Philox(key=key, counter=[0, 0, 3, 0]).random_raw(2)
    ((x, _),) = runs()[1][2:]
    assert x == words.astype(np.float64).tolist()


def test_drawing_more_for_one_batch_changes_no_other():
    def greedy(batch, chance):
        if 0 in batch[1]:
            chance.standard_normal(1000)
        return draw(batch, chance)

    for epoch, other in zip(runs(), runs(augment=greedy), strict=True):
        assert epoch[0] != other[0]
        assert epoch[1:] == other[1:]


def test_augmentation_leaves_the_order_alone():
    loaders = [
        DataLoader(np.arange(30), 7, shuffle=True, seed=2, augment=augment)
        for augment in (None, lambda batch, chance: (chance.random(1), batch)[1])
    ]
    plain, augmented = ([x.tolist() for (x,) in loader] for loader in loaders)
    assert plain == augmented


@pytest.mark.parametrize("prefetch", [0, 3])
@pytest.mark.parametrize("position", range(4))
def test_a_resumed_run_draws_what_the_whole_run_drew(position, prefetch):
    def loader(seed):
        return DataLoader(
            (images(22), np.arange(22)),
            batch_size=6,
            shuffle=True,
            seed=seed,
            prefetch=prefetch,
            augment=Compose([RandomCrop(6, padding=2), GaussianNoise(0.1)]),
        )

    whole = loader(9)
    list(whole)
    expected = [x for x, _ in whole]

    stopped = loader(9)
    list(stopped)
    for number, _ in enumerate(stopped):
        if number == position:
            state = stopped.state_dict()
            break
    resumed = loader(0)
    resumed.load_state_dict(state)
    rest = [x for x, _ in resumed]
    assert len(rest) == 3 - position
    for got, wanted in zip(rest, expected[position + 1 :], strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_a_state_loaded_midway_leaves_the_numbers_of_the_iteration_under_way_alone():
    expected = runs(epochs=1, prefetch=0)[0]
    loader = DataLoader((np.arange(10), np.arange(10)), 4, seed=5, augment=draw, prefetch=0)
    batches = iter(loader)
    loader.load_state_dict({**loader.state_dict(), "seed": 99})
    assert [(x.tolist(), y.tolist()) for x, y in batches] == expected


def test_batches_are_augmented_in_the_loaders_thread():
    threads = []

    def watched(batch, chance):
        threads.append(is_worker())
        return batch

    list(DataLoader(np.arange(6), 2, augment=watched))
    assert threads == [True] * 3
    list(DataLoader(np.arange(6), 2, augment=watched, prefetch=0))
    assert threads[3:] == [False] * 3


def test_augmented_batches_are_contiguous_and_native():
    def awkward(batch, chance):
        return batch[0].astype(">f4")[:, :, ::-1], batch[1]

    for x, y in DataLoader((images(5), np.arange(5)), 2, augment=awkward):
        assert x.flags.c_contiguous and x.dtype.isnative and len(x) == len(y)


def test_the_dataset_stays_as_it_was():
    x = images()
    before = x.copy()
    for augmentation in ALL:
        list(DataLoader((x,), 16, seed=0, augment=augmentation))
    np.testing.assert_array_equal(x, before)


# What is refused


@pytest.mark.parametrize(
    ("make", "error", "name"),
    [
        (lambda: RandomCrop(0), ValueError, "size"),
        (lambda: RandomCrop(2.5), TypeError, "size"),
        (lambda: RandomCrop((3, 0)), ValueError, r"size\[1\]"),
        (lambda: RandomCrop((3, 3, 3)), ValueError, "size"),
        (lambda: RandomCrop(3, padding=-1), ValueError, "padding"),
        (lambda: RandomCrop(3, padding=(1, 1)), TypeError, "padding"),
        (lambda: RandomCrop(3, fill="black"), TypeError, "fill"),
        (lambda: RandomCrop(3, fill=float("nan")), ValueError, "fill"),
        (lambda: RandomCrop(3, padding_mode="wrap"), ValueError, "padding_mode"),
        (lambda: RandomShift(-1), ValueError, "max"),
        (lambda: RandomShift(1.0), TypeError, "max"),
        (lambda: RandomHorizontalFlip(1.5), ValueError, "p"),
        (lambda: RandomHorizontalFlip("often"), TypeError, "p"),
        (lambda: GaussianNoise(-0.1), ValueError, "std"),
        (lambda: GaussianNoise(float("inf")), ValueError, "std"),
        (lambda: Normalize((), 1), ValueError, "mean"),
        (lambda: Normalize(0, 0), ValueError, "std"),
        (lambda: Normalize(0, (1, -1)), ValueError, "std"),
        (lambda: Normalize((0, 0, 0), (1, 1)), ValueError, "std"),
        (lambda: Normalize("grey", 1), TypeError, "mean"),
        (lambda: Normalize(0, 1, dtype=int), TypeError, "dtype"),
        (lambda: Compose(RandomShift(1)), TypeError, "augmentations"),
        (lambda: Compose([RandomShift(1), 3]), TypeError, r"augmentations\[1\]"),
        (lambda: DataLoader(np.arange(3), augment="flip"), TypeError, "augment"),
    ],
)
def test_a_wrong_argument_is_refused_by_name(make, error, name):
    with pytest.raises(error, match=f"^{name}(:| must be) "):
        make()


X = images(4)


@pytest.mark.parametrize(
    ("augmentation", "batch", "error", "message"),
    [
        (RandomCrop(9), (X,), ValueError, "size: a window of 9x9 .* 8x7"),
        (RandomCrop(3), (X.reshape(4, -1),), ValueError, r"images: expected shape .*\(4, 168\)"),
        (RandomCrop(3), X, TypeError, "batch: expected a tuple"),
        (RandomCrop(3), (), TypeError, "batch: expected a tuple"),
        (RandomShift(1, fill=0.5), (np.zeros((2, 1, 3, 3), np.uint8),), ValueError, "fill: "),
        (RandomShift(1, fill=256), (np.zeros((2, 1, 3, 3), np.uint8),), ValueError, "fill: "),
        (GaussianNoise(1), (np.zeros((2, 1, 3, 3), np.uint8),), TypeError, "images: .*uint8"),
        (Normalize(0, (1, 1)), (X,), ValueError, "images: expected 2 channels"),
        (Normalize(0, 1), (np.zeros((2, 1, 3, 3), int),), TypeError, "images: .*int64"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused_by_name(augmentation, batch, error, message):
    with pytest.raises(error, match=f"^{message}"):
        augmentation(batch, generator())


@pytest.mark.parametrize(("result", "error"), [(X, TypeError), ((X[:1],), ValueError), (None, TypeError)])
def test_an_augmentation_that_returns_no_batch_is_named(result, error):
    with pytest.raises(error, match=r"augment\(batch, generator\): expected"):
        list(DataLoader(X, 2, augment=lambda batch, chance: result))
