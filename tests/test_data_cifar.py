"""cifar10() and cifar100(): where they look, what they return, and what they refuse."""

import os

import numpy as np
import pytest

from fastnn.data import CIFAR10_CLASSES, cifar10, cifar100

FILES = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (17, 3, 32, 32), np.uint8)
IMAGES[0, 0, 0, :2] = 0, 255
LABELS = np.arange(17) * 7 % 10
COARSE, FINE = np.arange(17) % 20, np.arange(17) * 11 % 100
PARTS = [(0, 3), (3, 6), (6, 10), (10, 11), (11, 13), (13, 17)]  # rows of each file


def records(*columns):
    """Rows of label bytes and pixels, as a file of the binary version holds them."""
    *labels, images = columns
    rows = [*(np.asarray(column)[:, None] for column in labels), images.reshape(len(images), -1)]
    return np.concatenate(rows, axis=1).astype(np.uint8).tobytes()


def put10(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, (start, end) in zip(FILES, PARTS, strict=True):
        (folder / name).write_bytes(records(LABELS[start:end], IMAGES[start:end]))


def put100(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("train.bin", slice(0, 12)), ("test.bin", slice(12, 17))):
        (folder / name).write_bytes(records(COARSE[rows], FINE[rows], IMAGES[rows]))


@pytest.fixture(autouse=True)
def homeless(tmp_path_factory, monkeypatch):
    """No set of the user's own is found: the cache is an empty folder."""
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.delenv("FASTNN_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setattr("sys.platform", "linux")
    return cache


def test_the_five_training_files_follow_each_other(tmp_path):
    put10(tmp_path)
    images, labels = cifar10(root=tmp_path)
    assert (images.dtype, images.shape) == (np.float32, (13, 3, 32, 32))
    assert (labels.dtype, labels.shape) == (np.int64, (13,))
    assert (images.min(), images.max()) == (0, 1)
    np.testing.assert_array_equal(images, IMAGES[:13].astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(labels, LABELS[:13])


def test_the_test_set_is_another(tmp_path):
    put10(tmp_path)
    images, labels = cifar10("test", root=tmp_path, normalize=False)
    np.testing.assert_array_equal(images, IMAGES[13:])
    np.testing.assert_array_equal(labels, LABELS[13:])


def test_red_comes_before_green_before_blue_and_rows_before_columns(tmp_path):
    put10(tmp_path)
    pixels = np.zeros(3072, np.uint8)
    pixels[[1, 1024 + 32, 2048]] = 10, 20, 30
    (tmp_path / FILES[5]).write_bytes(bytes([3]) + pixels.tobytes())
    images, labels = cifar10("test", tmp_path, normalize=False)
    assert labels.tolist() == [3]
    assert (images[0, 0, 0, 1], images[0, 1, 1, 0], images[0, 2, 0, 0]) == (10, 20, 30)


def test_flattened_images_are_rows(tmp_path):
    put10(tmp_path)
    flat, _ = cifar10(root=tmp_path, flatten=True)
    np.testing.assert_array_equal(flat, cifar10(root=tmp_path)[0].reshape(13, 3072))


def test_images_that_are_not_normalized_are_the_bytes_of_the_file(tmp_path):
    put10(tmp_path)
    images, _ = cifar10(root=tmp_path, normalize=False)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, IMAGES[:13])


def test_float64_is_scaled_in_float64(tmp_path):
    put10(tmp_path)
    np.testing.assert_array_equal(cifar10(root=tmp_path, dtype="float64")[0], IMAGES[:13] / 255)


@pytest.mark.parametrize("form", ["fine", "coarse"])
def test_cifar100_has_two_labels_to_choose_from(tmp_path, form):
    put100(tmp_path)
    expected = {"fine": FINE, "coarse": COARSE}[form]
    for split, rows in (("train", slice(0, 12)), ("test", slice(12, 17))):
        images, labels = cifar100(split, tmp_path, normalize=False, labels=form)
        np.testing.assert_array_equal(images, IMAGES[rows])
        np.testing.assert_array_equal(labels, expected[rows])
        assert labels.dtype == np.int64 and labels.flags.c_contiguous
    np.testing.assert_array_equal(cifar100(root=tmp_path)[1], FINE[:12])


@pytest.mark.parametrize("told", ["root", "FASTNN_DATA", "cache"])
@pytest.mark.parametrize(
    ("read", "put", "subfolder"),
    [
        (cifar10, put10, ""),
        (cifar10, put10, "cifar-10-batches-bin"),
        (cifar10, put10, "cifar10"),
        (cifar10, put10, "cifar10/cifar-10-batches-bin"),
        (cifar100, put100, ""),
        (cifar100, put100, "cifar-100-binary"),
        (cifar100, put100, "cifar100"),
        (cifar100, put100, "cifar100/cifar-100-binary"),
    ],
)
def test_files_are_found_where_they_may_be(tmp_path, homeless, monkeypatch, told, read, put, subfolder):
    place = homeless / "fastnn" if told == "cache" else tmp_path
    put(place / subfolder)
    if told == "FASTNN_DATA":
        monkeypatch.setenv("FASTNN_DATA", str(tmp_path))
    _, labels = read(root=str(tmp_path) if told == "root" else None)
    assert len(labels) in (12, 13)


def test_a_given_root_is_the_only_place(tmp_path, homeless):
    put10(homeless / "fastnn")
    with pytest.raises(FileNotFoundError):
        cifar10(root=tmp_path)


@pytest.mark.parametrize(
    ("read", "names", "subfolder"),
    [
        (cifar10, FILES, "cifar-10-batches-bin"),
        (cifar100, ["train.bin", "test.bin"], "cifar-100-binary"),
    ],
)
def test_missing_files_are_told_by_name_and_place(tmp_path, homeless, monkeypatch, read, names, subfolder):
    monkeypatch.setenv("FASTNN_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError) as raised:
        read()
    places = [str(tmp_path), str(homeless / "fastnn"), subfolder]
    for part in [*names, *places, "root=", "FASTNN_DATA", "binary version"]:
        assert part in str(raised.value)


@pytest.mark.parametrize("absent", range(5))
def test_four_files_of_five_are_not_the_training_set(tmp_path, absent):
    put10(tmp_path)
    (tmp_path / FILES[absent]).unlink()
    with pytest.raises(FileNotFoundError, match=FILES[absent]):
        cifar10(root=tmp_path)
    assert len(cifar10("test", tmp_path)[0]) == 4


@pytest.mark.parametrize("size", [0, 1, 3072, 3073 * 2 - 1, 3073 * 2 + 1, 3074])
def test_a_file_that_is_no_whole_number_of_records_is_refused_by_name(tmp_path, size):
    put10(tmp_path)
    (tmp_path / FILES[3]).write_bytes(bytes(size))
    with pytest.raises(ValueError, match=rf"{FILES[3]}: expected .* 3073 bytes.* {size} bytes"):
        cifar10(root=tmp_path)


def test_a_label_of_no_class_is_refused_by_name(tmp_path):
    put10(tmp_path)
    (tmp_path / FILES[4]).write_bytes(records([9, 10], IMAGES[:2]))
    with pytest.raises(ValueError, match=rf"{FILES[4]}: expected labels 0 to 9, got 10"):
        cifar10(root=tmp_path)


@pytest.mark.parametrize(
    ("coarse", "fine", "message"),
    [(20, 0, "labels 0 to 19, got 20"), (0, 100, "labels 0 to 99, got 100")],
)
def test_both_labels_of_cifar100_are_checked(tmp_path, coarse, fine, message):
    put100(tmp_path)
    (tmp_path / "test.bin").write_bytes(records([coarse], [fine], IMAGES[:1]))
    with pytest.raises(ValueError, match=f"test.bin: expected {message}"):
        cifar100("test", tmp_path)


@pytest.mark.parametrize(
    ("options", "error", "name"),
    [
        ({"root": 3}, TypeError, "root"),
        ({"split": "valid"}, ValueError, "split"),
        ({"flatten": 1}, TypeError, "flatten"),
        ({"normalize": "yes"}, TypeError, "normalize"),
        ({"dtype": np.int64}, TypeError, "dtype"),
    ],
)
@pytest.mark.parametrize(("read", "put"), [(cifar10, put10), (cifar100, put100)])
def test_a_wrong_argument_is_refused_by_name(tmp_path, read, put, options, error, name):
    put(tmp_path)
    with pytest.raises(error, match=f"^{name}(:| must be) "):
        read(**{"root": tmp_path, **options})


def test_cifar100_refuses_other_labels(tmp_path):
    put100(tmp_path)
    with pytest.raises(ValueError, match=r"^labels must be "):
        cifar100(root=tmp_path, labels="both")


def test_the_classes_have_names():
    assert len(CIFAR10_CLASSES) == 10
    assert CIFAR10_CLASSES[3] == "cat"


REAL = os.environ.get("FASTNN_DATA")


@pytest.mark.skipif(not REAL, reason="CIFAR-10: FASTNN_DATA does not say where it is")
def test_the_real_cifar10_has_its_known_sizes_and_sums():
    try:
        images, labels = cifar10(root=REAL, normalize=False)
    except FileNotFoundError:
        pytest.skip(f"CIFAR-10: not in FASTNN_DATA={REAL}")
    assert images.shape == (50000, 3, 32, 32)
    assert np.bincount(labels).tolist() == [5000] * 10
    # The means that everybody normalizes CIFAR-10 by.
    assert np.round(images.mean((0, 2, 3)) / 255, 4).tolist() == [0.4914, 0.4822, 0.4465]
    assert np.bincount(cifar10("test", REAL)[1]).tolist() == [1000] * 10
