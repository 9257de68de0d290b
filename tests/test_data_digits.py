"""The embedded digits: what they are, and that damage is noticed."""

import gzip
import hashlib
import importlib.resources
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from fastnn.data import digits

FOLDER = importlib.resources.files("fastnn.data") / "_digits"
NAMES = ["images-idx3-ubyte.gz", "labels-idx1-ubyte.gz"]


def test_images_are_float32_from_0_to_1_in_sixteenths_and_labels_int64():
    images, labels = digits("all")
    assert (images.dtype, images.shape) == (np.float32, (1797, 1, 8, 8))
    assert (labels.dtype, labels.shape) == (np.int64, (1797,))
    assert set((16 * images).ravel().tolist()) == set(range(17))


def test_the_digits_are_those_of_uci_in_its_order():
    images, labels = digits("all")
    # The counts that UCI's description of optdigits.tes gives.
    uci = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert np.bincount(labels).tolist() == uci
    assert labels[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert (16 * images[0, 0, 0]).tolist() == [0, 0, 5, 13, 9, 1, 0, 0]


def test_they_equal_the_copy_in_scikit_learn():
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    source = datasets.load_digits()
    images, labels = digits("all", flatten=True)
    np.testing.assert_array_equal(16 * images, source.data)
    np.testing.assert_array_equal(labels, source.target)


def test_the_parts_have_fixed_sizes_and_36_test_images_of_each_digit():
    assert len(digits("train")[0]) == 1437
    assert np.bincount(digits("test")[1]).tolist() == [36] * 10


def test_the_parts_together_are_all_and_share_nothing():
    images, _ = digits("all", flatten=True)
    test, train = (digits(part, flatten=True)[0] for part in ("test", "train"))
    rows = {row.tobytes() for row in images}
    assert len(rows) == 1797  # no two images are equal, so they can be told apart
    assert {row.tobytes() for row in test} | {row.tobytes() for row in train} == rows
    assert len(test) + len(train) == 1797


def test_the_parts_are_the_same_for_ever():
    images, labels = digits("test")
    content = np.rint(16 * images).astype(np.uint8).tobytes() + labels.astype(np.uint8).tobytes()
    digest = "d84c4549f231cf036c4ceea576422d0e2915ae616eb7a69f06a45e9014c09fea"
    assert hashlib.sha256(content).hexdigest() == digest


def test_the_default_is_the_training_part():
    for default, train in zip(digits(), digits("train"), strict=True):
        np.testing.assert_array_equal(default, train)


def test_flattened_images_are_rows():
    np.testing.assert_array_equal(digits(flatten=True)[0], digits()[0].reshape(1437, 64))


def test_every_call_gives_arrays_of_its_own():
    first, labels = digits()
    first[:], labels[:] = 7, 7
    assert digits()[0].max() == 1
    assert digits()[1].min() == 0


@pytest.mark.parametrize(
    ("options", "error", "name"),
    [
        ({"split": "valid"}, ValueError, "split"),
        ({"split": 0}, ValueError, "split"),
        ({"split": None}, ValueError, "split"),
        ({"flatten": 1}, TypeError, "flatten"),
    ],
)
def test_a_wrong_argument_is_refused_by_name(options, error, name):
    with pytest.raises(error, match=f"^{name}(:| must be) "):
        digits(**options)


@pytest.mark.parametrize("name", NAMES)
def test_damage_anywhere_is_noticed(tmp_path, monkeypatch, name):
    shutil.copytree(str(FOLDER), tmp_path / "_digits")
    monkeypatch.setattr(importlib.resources, "files", lambda package: tmp_path)
    path = tmp_path / "_digits" / name
    good = path.read_bytes()
    assert len(digits()[0]) == 1437

    for position in np.linspace(0, len(good) - 1, 50).astype(int):
        damaged = bytearray(good)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"{name}: damaged"):
            digits()
    for damaged in (b"", good[:-1], good + b"\0", gzip.compress(gzip.decompress(good), 1)):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"{name}: damaged"):
            digits()


def test_the_data_card_tells_source_licence_and_the_checksums_of_each_file():
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    for part in ("Alpaydin", "Kaynak", "UCI", "10.24432/C50P49", "CC BY 4.0"):
        assert part in card
    recorded = re.findall(r"\| ([\d ]+) \| `([0-9a-f]{64})` \|", card)
    actual = []
    for name in NAMES:
        packed = (FOLDER / name).read_bytes()
        for content in (packed, gzip.decompress(packed)):
            actual.append((len(content), hashlib.sha256(content).hexdigest()))
    assert [(int(size.replace(" ", "")), digest) for size, digest in recorded] == actual


def test_the_embedded_files_are_small():
    assert sum(Path(str(FOLDER / name)).stat().st_size for name in NAMES) < 60_000
