"""The README: its Python runs as it stands, and what it says of the package is so."""

import importlib
import os
import platform
import re
import shutil
import zlib
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import numpy as np
import pytest

import fastnn as fn

README = (Path(__file__).resolve().parent.parent / "README.md").read_text()
OTHERS = dict(re.findall(r"^<!-- (\w+) -->\n```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL))
BLOCKS = [
    b for b in re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL) if b not in OTHERS.values()
]


@pytest.fixture
def names(tmp_path, monkeypatch):
    """The README's names, after the blocks that train."""
    monkeypatch.chdir(tmp_path)
    state = fn.get_rng_state()
    namespace = {}
    for block in BLOCKS[:2]:
        exec(block, namespace)
    yield namespace
    fn.set_rng_state(state)


def test_the_example_learns_and_its_loop_trains_with_dropout(names, capsys):
    assert names["history"].history["val_accuracy"][-1] > 0.9
    tested = names["trainer"].evaluate(fn.data.digits("test", flatten=True))
    assert tested["accuracy"] > 0.9
    assert names["model"].training
    assert "dropout" in names["step"].plan(names["xb"], names["yb"]).explain()


def test_the_example_tells_the_error_on_the_test_set_last(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    state = fn.get_rng_state()
    exec(BLOCKS[0], {})
    fn.set_rng_state(state)
    *epochs, last = capsys.readouterr().out.splitlines()
    assert len(epochs) == 20 and last.startswith("{'loss': ")


def test_the_other_examples_run(names, capsys):
    names["torch_model"] = fn.models.resnet18()
    for block in BLOCKS[2:-1]:
        exec(block, names)


def test_an_onnx_file_is_tuned_and_written(names):
    pytest.importorskip("onnx")
    names["images"], names["labels"] = names["x"], names["y"]
    fn.onnx.save(names["model"], "model.onnx", names["x"][:2])
    exec(OTHERS["onnx"], names)
    assert Path("tuned.onnx").exists() and names["tuned"].history.epoch == [0]


def test_files_of_other_toolboxes_are_read(names):
    for package in ("h5py", "google.protobuf"):
        pytest.importorskip(package)
    models = Path(os.environ.get("FASTNN_DATA", "nowhere")) / "models"
    for name, there in {
        "cnn.keras": "mnist_cnn.keras",
        "lenet.prototxt": "lenet_train_test.prototxt",
        "lenet.caffemodel": "lenet_iter_10000.caffemodel",
        "mlp.t7": "mnist_mlp.t7",
    }.items():
        if not (models / there).is_file():
            pytest.skip(f"FASTNN_DATA has no models/{there}")
        shutil.copy(models / there, name)
    exec(OTHERS["files"], names)
    assert names["net"](np.zeros((2, 28, 28, 1), np.float32)).shape == (2, 10)


def table():
    pandas = pytest.importorskip("pandas")
    x, y = fn.data.moons(60, seed=0)
    return pandas.DataFrame(x, columns=["height", "width"]).assign(kind=y)


def test_an_estimator_stands_in_a_pipeline(names):
    pytest.importorskip("sklearn")
    names["frame"] = table()
    exec(OTHERS["sklearn"], names)
    assert names["scores"].mean() > 0.5


def test_a_data_frame_is_trained_on(names):
    names["frame"] = frame = table()
    exec(OTHERS["pandas"], names)
    wanted = names["trainer"].predict(frame[["height", "width"]].to_numpy())
    np.testing.assert_array_equal(names["trainer"].predict(frame[["width", "height"]]), wanted)


def test_the_example_of_a_profile_runs(names, capsys, monkeypatch):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("Agg")
    try:
        exec(BLOCKS[-1], names)
    finally:
        pyplot.close("all")
    assert Path("trace.json").exists()


def test_the_wheel_is_as_large_as_it_says():
    """Files compressed as in a wheel; of the build that wheels have."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        pytest.skip("other machines have fewer kernels")
    (stated,) = re.findall(r"A wheel of about (\d+) megabytes", README)
    size = 0
    for package in ("fastnn", "fastnn_ext"):
        for path in Path(importlib.import_module(package).__file__).parent.rglob("*"):
            if path.suffix in (".py", ".pyi", ".pxd", ".gz") or path.name.endswith(EXTENSION_SUFFIXES[0]):
                data = path.read_bytes()
                if b".debug_info" in data:
                    pytest.skip("built with what debuggers need")
                size += len(zlib.compress(data))
    assert round(size / 1e6) == int(stated)
