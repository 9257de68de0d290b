"""Arrays of one's own: .npy and .npz files, and recipes that standardise features and images."""

import json
import zipfile

import numpy as np
import pytest

import fastnn as fn
from fastnn.data import ArrayRecipe, ClassTarget, NumberTarget, read_npy, read_npz


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


RNG = np.random.default_rng(0)
X = RNG.normal([1, -50, 1e6], [2, 0.5, 3e4], (40, 3))


# ---- files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "array", [X, X.astype(">f4"), np.asfortranarray(X), np.arange(6, dtype=np.int8), np.zeros((0, 2))]
)
def test_arrays_of_numbers_are_read_as_they_were_saved(array):
    np.save("a.npy", array)
    np.savez("a.npz", x=array, other=array[:1])
    np.savez_compressed("b.npz", x=array)
    for again in (read_npy("a.npy"), read_npz("a.npz")["x"], read_npz("b.npz")["x"]):
        assert again.dtype == array.dtype
        np.testing.assert_array_equal(again, array)
    assert sorted(read_npz("a.npz")) == ["other", "x"] and sorted(read_npz("a.npz", ["x", "y"])) == ["x"]


def test_texts_are_read_where_they_are_asked_for():
    np.save("a.npy", ["cat", "dog"])
    assert read_npy("a.npy", "biufU").tolist() == ["cat", "dog"]
    with pytest.raises(ValueError, match=r"a.npy: holds <U3; expected numbers$"):
        read_npy("a.npy")
    np.save("b.npy", [b"cat"])
    with pytest.raises(ValueError, match=r"b.npy: holds \|S3; expected numbers or texts$"):
        read_npy("b.npy", "biufU")


def test_damaged_archives_are_refused_by_name():
    np.savez_compressed("a.npz", x=np.arange(5000.0), objects=np.array([{}], object))
    with pytest.raises(ValueError, match=r"^a.npz: objects: holds object; expected numbers"):
        read_npz("a.npz")
    np.savez_compressed("a.npz", x=np.arange(5000.0))
    data = open("a.npz", "rb").read()
    for wrong in (b"", data[:100], data[:-30], b"PK" + data[5:], data[:200] + b"\0" * 100 + data[300:]):
        with open("b.npz", "wb") as file:
            file.write(wrong)
        with pytest.raises(ValueError, match=r"^b.npz: "):
            read_npz("b.npz")
    with zipfile.ZipFile("c.npz", "w") as archive:
        with archive.open("x.npy", "w") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (2**40,)})
    with pytest.raises(ValueError, match=r"^c.npz: x: no intact .npy file: 0 bytes follow its header"):
        read_npz("c.npz")


# ---- features --------------------------------------------------------------------------------------


def test_features_are_standardised_by_the_training_rows_and_nan_becomes_the_median():
    x = X.copy()
    x[3, 0] = x[30, 1] = np.nan
    rows = np.arange(20)
    recipe = ArrayRecipe.fit(x, np.arange(40) % 3, rows=rows)
    train = x[:20].copy()
    train[3, 0] = np.nanmedian(x[:20, 0])
    expected = (np.where(np.isnan(x), np.median(train, 0), x) - train.mean(0)) / train.std(0)
    features, labels = recipe(x, np.arange(40) % 3)
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-6)
    assert features.dtype == np.float32 and labels.tolist() == (np.arange(40) % 3).tolist()
    assert recipe.shape == (3,) and recipe.target == ClassTarget(("0", "1", "2"))
    np.testing.assert_array_equal(recipe.inputs(x[5]), features[5:6])


def test_a_constant_feature_is_zero():
    recipe = ArrayRecipe.fit(np.array([[5.0, 1], [5.0, 2]]), [0, 1])
    assert recipe.inputs([[5, 1]])[0, 0] == 0


def test_numbers_of_a_target_are_standardised_and_come_back():
    y = np.column_stack([X[:, 0], X[:, 2]])
    recipe = ArrayRecipe.fit(X, y, rows=range(10))
    assert isinstance(recipe.target, NumberTarget) and recipe.target.outputs == 2
    encoded = recipe.targets(y)
    np.testing.assert_allclose(encoded[:10].mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(recipe.target.decode(encoded), y, rtol=1e-5)
    assert ArrayRecipe.fit(X, y[:, 0]).targets(y[:, 0]).shape == (40, 1)


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (np.arange(40) % 2 == 0, ("False", "True")),
        (np.array(["b", "a"] * 20), ("a", "b")),
        (np.arange(40)[:, None] % 4 - 1, ("-1", "0", "1", "2")),
        (np.arange(40) % 12, tuple(map(str, range(12)))),
    ],
)
def test_booleans_texts_and_whole_numbers_are_classes(y, classes):
    recipe = ArrayRecipe.fit(X, y)
    assert recipe.target.classes == classes
    assert [classes[label] for label in recipe.targets(y)] == [str(name) for name in y.reshape(-1)]


def test_the_task_decides_where_whole_numbers_may_be_either():
    with pytest.raises(ValueError, match=r"^y holds 40 different whole numbers for 40 samples, of which it"):
        ArrayRecipe.fit(X, np.arange(40))
    assert isinstance(ArrayRecipe.fit(X, np.arange(40), "regression").target, NumberTarget)
    assert ArrayRecipe.fit(X, np.arange(40), "classification").target.outputs == 40
    assert ArrayRecipe.fit(X, (np.arange(40) % 2).astype(float), "classification").target.classes == ("0", "1")


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X[0], np.arange(3), r"^a: holds an array of shape \(3,\); expected features"),
        (X, np.arange(3), r"^b: holds an array of shape \(3,\), and a 40 samples"),
        (X.astype(complex), np.arange(40), "^a: holds complex128; expected numbers"),
        (np.zeros((40, 0)), np.arange(40), r"^a: holds an array of shape \(40, 0\)"),
        (np.where(np.eye(40, 3), np.inf, X), np.arange(40) % 2, "^a: row 0, column 0: inf is no finite number"),
        (np.where([1, 0, 0], np.nan, X), np.arange(40) % 2, "^a: column 0 has no value in the training rows"),
        (np.where(np.eye(40, 3), 1.7e308, -1.7e308), np.arange(40) % 2, "^a: column 0 has values too large"),
        (X, np.zeros(40, int), "^b: the target has one class alone, '0'"),
        (X, np.where(np.arange(40) == 7, np.nan, 1.0), "^b: the target has values that are too large, or not finite"),
        (X, X * [1, np.nan, 1], "^b: the target has values that are too large, or not finite"),
        (X, np.zeros(40), "^b: the target has the same value in all rows, 0"),
        (np.zeros((40, 8, 8, 3)), np.arange(40) % 2, r"with the channels last; expected \(N, C, H, W\)"),
        (np.full((40, 1, 2, 2), np.nan), np.arange(40) % 2, "^a: expected images of finite numbers"),
    ],
)
def test_arrays_that_do_not_fit_are_named(x, y, message):
    with np.errstate(over="ignore"), pytest.raises(ValueError, match=message):
        ArrayRecipe.fit(x, y, names=("a", "b"))


def test_other_arrays_that_do_not_fit_a_recipe_are_named():
    recipe = ArrayRecipe.fit(X, np.arange(40) % 2)
    with pytest.raises(ValueError, match=r"^c: holds an array of shape \(2, 4\); expected \(N, 3\)"):
        recipe.inputs(np.zeros((2, 4)), "c")
    with pytest.raises(ValueError, match=r"^c: row 1, column 2: inf is not finite, or too far"):
        recipe.inputs(np.array([[0, 0, 0], [0, 0, np.inf]]), "c")
    with pytest.raises(ValueError, match=r"^c: row 1: '5' is none of the classes of the target, 0, 1"):
        recipe.targets([1, 5], "c")
    with pytest.raises(ValueError, match=r"^c: row 0: 0.5 is no class"):
        recipe.targets([0.5, 1], "c")
    regression = ArrayRecipe.fit(X, X[:, 1])
    with pytest.raises(ValueError, match=r"^c: the target has 1 numbers a sample, got 2"):
        regression.targets(X[:, :2], "c")
    with pytest.raises(ValueError, match=r"^c: row 1: nan is not finite"):
        regression.targets([1.0, np.nan], "c")


# ---- images ----------------------------------------------------------------------------------------


def test_images_are_standardised_by_channel_and_bytes_are_numbers_from_0_to_1():
    images = RNG.integers(0, 256, (2100, 3, 4, 5), np.uint8)
    images[:, 1] //= 2
    rows = np.arange(0, 2100, 2)
    recipe = ArrayRecipe.fit(images, np.arange(2100) % 3, rows=rows)
    unit = images / 255
    mean, std = unit[rows].mean((0, 2, 3)), unit[rows].std((0, 2, 3))
    np.testing.assert_allclose(recipe.mean, mean)
    np.testing.assert_allclose(recipe.std, std)
    expected = (unit - mean[:, None, None]) / std[:, None, None]
    for given in (images, images.astype(np.int64), unit, unit.astype(np.float32)):
        np.testing.assert_allclose(recipe.inputs(given), expected, rtol=1e-4, atol=1e-5)
    assert recipe.shape == (3, 4, 5) and recipe.fill == ()
    np.testing.assert_array_equal(recipe.inputs(images[7]), recipe.inputs(images)[7:8])
    with pytest.raises(ValueError, match=r"^x: image 1 is not finite"):
        recipe.inputs(np.where(np.arange(2)[:, None, None, None] == 1, np.nan, unit[:2]))


def test_grey_images_may_come_without_their_channel():
    images = RNG.random((10, 4, 5))
    recipe = ArrayRecipe.fit(images, np.arange(10) % 2)
    assert recipe.shape == (1, 4, 5) and recipe.inputs(images).shape == (10, 1, 4, 5)
    np.testing.assert_array_equal(recipe.inputs(images.reshape(10, 20)), recipe.inputs(images))
    assert recipe.inputs(images[0]).shape == (1, 1, 4, 5)


# ---- saved -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("y", [np.arange(40) % 3, X[:, 0]], ids=["classes", "numbers"])
@pytest.mark.parametrize("x", [X, RNG.integers(0, 256, (40, 3, 2, 2), np.uint8)], ids=["features", "images"])
def test_a_recipe_is_saved_as_json_and_read_again(x, y):
    recipe = ArrayRecipe.fit(x, y)
    recipe.save("recipe.json")
    assert ArrayRecipe.load("recipe.json") == recipe
    values = json.loads(open("recipe.json").read())
    for key in values:
        for value in (None, 5, "x", [0], ["a", "b", "c"], {"a": 1}, [1e999], [True]):
            with open("recipe.json", "w") as file:
                json.dump({**values, key: value}, file)
            with pytest.raises(ValueError, match=r"^recipe.json is damaged or no recipe"):
                ArrayRecipe.load("recipe.json")


def test_a_network_learns_what_a_recipe_makes():
    fn.manual_seed(0)
    target = X @ [3.0, 1.0, 1e-4]
    recipe = ArrayRecipe.fit(X, target)
    x, y = recipe(X, target)
    model = fn.nn.Linear(3, 1)
    trainer = fn.Trainer(model, fn.nn.MSELoss(), fn.optim.SGD(model.parameters(), lr=0.3))
    trainer.fit((x, y), epochs=60, batch_size=40, verbose=0)
    np.testing.assert_allclose(recipe.target.decode(trainer.predict(x))[:, 0], target, atol=1e-3 * target.std())
