"""mnist(): where it looks, what it returns, and what it says when it cannot."""

import gzip
import os

import numpy as np
import pytest

from fastnn.data import mnist, write_idx

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 28, 28), np.uint8)
IMAGES[0, 0, :2] = 0, 255
LABELS = np.array([7, 0, 9, 1, 7], np.uint8)
FILES = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
]


def put(folder, images=IMAGES, labels=LABELS, end=""):
    """Write a tiny MNIST: its test set is the training set backwards."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in zip(FILES, [images, labels, images[::-1], labels[::-1]], strict=True):
        write_idx(folder / (name + end), array)


@pytest.fixture(autouse=True)
def homeless(tmp_path_factory, monkeypatch):
    """No set of the user's own is found: the cache is an empty folder."""
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.delenv("FASTNN_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setattr("sys.platform", "linux")
    return cache


def test_images_are_float32_from_0_to_1_and_labels_int64(tmp_path):
    put(tmp_path)
    images, labels = mnist(root=tmp_path)
    assert (images.dtype, images.shape) == (np.float32, (5, 1, 28, 28))
    assert (labels.dtype, labels.shape) == (np.int64, (5,))
    assert (images.min(), images.max()) == (0, 1)
    np.testing.assert_array_equal(images[:, 0], IMAGES.astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(labels, LABELS)


def test_the_test_set_is_another(tmp_path):
    put(tmp_path)
    images, labels = mnist("test", tmp_path, normalize=False)
    np.testing.assert_array_equal(images[:, 0], IMAGES[::-1])
    np.testing.assert_array_equal(labels, LABELS[::-1])


def test_flattened_images_are_rows(tmp_path):
    put(tmp_path)
    np.testing.assert_array_equal(mnist(root=tmp_path, flatten=True)[0], mnist(root=tmp_path)[0].reshape(5, 784))


def test_images_that_are_not_normalized_are_the_bytes_of_the_file(tmp_path):
    put(tmp_path)
    images, _ = mnist(root=tmp_path, normalize=False)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images[:, 0], IMAGES)


def test_float64_is_scaled_in_float64(tmp_path):
    put(tmp_path)
    images, _ = mnist(root=tmp_path, dtype="float64")
    np.testing.assert_array_equal(images[:, 0], IMAGES / 255)


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize("subfolder", ["", "mnist", "MNIST/raw"])
@pytest.mark.parametrize("told", ["root", "FASTNN_DATA", "cache"])
def test_files_are_found_where_they_may_be(tmp_path, homeless, monkeypatch, told, subfolder, end):
    place = homeless / "fastnn" if told == "cache" else tmp_path
    put(place / subfolder, end=end)
    if told == "FASTNN_DATA":
        monkeypatch.setenv("FASTNN_DATA", str(tmp_path))
    images, _ = mnist(root=str(tmp_path) if told == "root" else None)
    assert len(images) == 5


def test_the_environment_comes_before_the_cache(tmp_path, homeless, monkeypatch):
    put(homeless / "fastnn", IMAGES[:2], LABELS[:2])
    monkeypatch.setenv("FASTNN_DATA", str(tmp_path))
    assert len(mnist()[0]) == 2  # nothing there yet
    put(tmp_path)
    assert len(mnist()[0]) == 5


def test_a_given_root_is_the_only_place(tmp_path, homeless, monkeypatch):
    put(homeless / "fastnn")
    put(tmp_path / "elsewhere")
    monkeypatch.setenv("FASTNN_DATA", str(tmp_path / "elsewhere"))
    with pytest.raises(FileNotFoundError):
        mnist(root=tmp_path)


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    put(tmp_path / "digits")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert len(mnist(root="~/digits")[0]) == 5


def test_images_and_labels_come_from_the_same_folder(tmp_path):
    put(tmp_path, IMAGES[:3], LABELS[:3])
    (tmp_path / FILES[1]).unlink()
    put(tmp_path / "mnist")
    assert len(mnist(root=tmp_path)[0]) == 5


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/fastnn"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/fastnn"),
        ("linux", {}, "/home/me/.cache/fastnn"),
        ("darwin", {}, "/home/me/Library/Caches/fastnn"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/fastnn/Cache"),
    ],
)
@pytest.mark.skipif(os.name != "posix", reason="the paths here are POSIX's")
def test_the_cache_folder_is_the_one_of_the_platform(tmp_path, monkeypatch, platform, environment, expected):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.delenv("XDG_CACHE_HOME")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.platform", platform)
    with pytest.raises(FileNotFoundError) as raised:
        mnist()
    assert f" into {expected}, " in str(raised.value)


def test_missing_files_are_told_by_name_and_place(tmp_path, homeless, monkeypatch):
    monkeypatch.setenv("FASTNN_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError) as raised:
        mnist()
    message = str(raised.value)
    for part in [*FILES, str(tmp_path), str(homeless / "fastnn"), "root=", "FASTNN_DATA"]:
        assert part in message


@pytest.mark.parametrize("absent", FILES[2:])
def test_half_a_pair_is_missing_too(tmp_path, absent):
    put(tmp_path)
    (tmp_path / absent).unlink()
    with pytest.raises(FileNotFoundError, match=f"no folder with both {FILES[2]} and {FILES[3]}"):
        mnist("test", tmp_path)
    assert len(mnist("train", tmp_path)[0]) == 5


@pytest.mark.parametrize(
    ("images", "labels", "culprit"),
    [
        (IMAGES.astype(np.int16), LABELS, FILES[0]),
        (IMAGES[:, :27], LABELS, FILES[0]),
        (IMAGES[0], LABELS, FILES[0]),
        (LABELS, LABELS, FILES[0]),
        (IMAGES, LABELS[:4], FILES[1]),
        (IMAGES, IMAGES, FILES[1]),
        (IMAGES, LABELS.astype(np.int32), FILES[1]),
        (IMAGES, LABELS + 1, FILES[1]),
    ],
)
def test_files_that_hold_something_else_are_refused_by_name(tmp_path, images, labels, culprit):
    put(tmp_path, images, labels)
    with pytest.raises(ValueError, match=f"{culprit}: expected"):
        mnist(root=tmp_path)


def test_a_damaged_file_is_refused_by_name(tmp_path):
    put(tmp_path)
    path = tmp_path / FILES[0]
    path.write_bytes(gzip.compress(path.read_bytes())[:-20])
    with pytest.raises(ValueError, match=f"{FILES[0]}: damaged gzip file"):
        mnist(root=tmp_path)


@pytest.mark.parametrize(
    ("options", "error", "name"),
    [
        ({"root": 3}, TypeError, "root"),
        ({"split": "valid"}, ValueError, "split"),
        ({"split": None}, ValueError, "split"),
        ({"split": True}, ValueError, "split"),
        ({"flatten": 1}, TypeError, "flatten"),
        ({"normalize": "yes"}, TypeError, "normalize"),
        ({"dtype": np.int64}, TypeError, "dtype"),
        ({"dtype": bool}, TypeError, "dtype"),
        ({"dtype": "colour"}, TypeError, "dtype"),
    ],
)
def test_a_wrong_argument_is_refused_by_name(tmp_path, options, error, name):
    put(tmp_path)
    with pytest.raises(error, match=f"^{name}(:| must be) "):
        mnist(**{"root": tmp_path, **options})


REAL = os.environ.get("FASTNN_DATA")


@pytest.mark.skipif(not REAL, reason="MNIST: FASTNN_DATA does not say where it is")
def test_the_real_mnist_has_its_known_sizes_and_sums():
    try:
        images, labels = mnist(root=REAL, normalize=False)
    except FileNotFoundError:
        pytest.skip(f"MNIST: not in FASTNN_DATA={REAL}")
    assert images.shape == (60000, 1, 28, 28)
    assert labels[:5].tolist() == [5, 0, 4, 1, 9]
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(labels).tolist() == counts
    # The mean and deviation that everybody normalizes MNIST by.
    scaled = images.astype(np.float64) / 255
    assert (round(scaled.mean(), 4), round(scaled.std(), 4)) == (0.1307, 0.3081)

    images, labels = mnist("test", REAL, flatten=True)
    assert images.shape == (10000, 784)
    assert np.bincount(labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
