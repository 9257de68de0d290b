"""Files of other systems: recognised by what is in them, and what the commands do with them."""

import io
import json
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn
from fastnn.cli import main
from fastnn.interop.files import NAMES, kind_of

DATA = os.environ.get("FASTNN_DATA")
MODELS = Path(DATA or "nowhere") / "models"
X = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)


def net(seed=0):
    fn.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))


def run(capsys, *words):
    """A command that ends well: what it printed."""
    status = main([str(word) for word in words])
    printed = capsys.readouterr()
    assert status == 0, printed.err
    return printed.out


def refused(capsys, *words):
    """A command that ends with 2: its one line."""
    try:
        status = main([str(word) for word in words])
    except SystemExit as end:
        status = end.code
    printed = capsys.readouterr()
    assert status == 2 and not printed.out and printed.err.count("\n") == 1, printed
    return printed.err


@pytest.fixture
def onnx_file(tmp_path):
    pytest.importorskip("onnx")
    path = tmp_path / "model.bin"  # the name says nothing
    fn.onnx.save(net(), path, X)
    return path


PROTOTXT = """
# A comment first.
input: "data" input_shape { dim: 1 dim: 1 dim: 6 dim: 6 }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 2 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "ip" type: "InnerProduct" bottom: "conv1" top: "ip"
        inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
"""


def zipped(*members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for member in members:
            archive.writestr(member, b"{}")
    return file.getvalue()


def safetensors(tmp_path):
    net().save(tmp_path / "w")
    return (tmp_path / "w").read_bytes()


def checkpoint(tmp_path):
    model = net()
    fn.save_checkpoint(tmp_path / "c", model, fn.optim.SGD(model.parameters()))
    return (tmp_path / "c").read_bytes()


KINDS = {
    "hdf5": lambda _: b"\x89HDF\r\n\x1a\n" + bytes(100),
    "keras": lambda _: zipped("metadata.json", "config.json", "model.weights.h5"),
    "npz": lambda _: zipped("arr_0.npy", "arr_1.npy"),
    "pickled": lambda _: zipped("archive/data.pkl", "archive/version"),
    "safetensors": safetensors,
    "checkpoint": checkpoint,
    "prototxt": lambda _: PROTOTXT.encode(),
    "torch7": lambda _: b"4\n1\n3\nV 1\n7\nnn.Tanh\n3\n2\n0\n",
    "caffemodel": lambda _: b"\x0a\x05LeNet\xa2\x06\x02\x08\x01",
    "onnx": lambda _: b"\x08\x07\x12\x03abc",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_known_by_its_first_bytes_whatever_its_name(kind, tmp_path):
    data = KINDS[kind](tmp_path)
    for name in ("a.onnx", "b.keras", "c"):
        (tmp_path / name).write_bytes(data)
        assert kind_of(tmp_path / name) == kind


def test_files_of_other_forms_are_recognised_too(tmp_path):
    path = tmp_path / "f"
    for data, kind in {
        b"\x80\x02\x8a\x0a": "pickled",
        struct.pack("<5i", 4, 1, 3, 0, 0): "torch7",
        b"layers {\n  name: 'a'": "prototxt",
        "layer { # ü".encode() + b"\n" * 70000: "prototxt",
        b"\x12\x03abc\x3a\x02\x0a\x00": "onnx",  # without the version, which may stand anywhere
        b"\xa2\x06\x02\x08\x01": "caffemodel",
    }.items():
        path.write_bytes(data)
        assert kind_of(path) == kind, data[:20]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"\xff" * 100,
        b"PK\x03\x04 and no more",
        b"# A text",
        b"\x0b" * 50,
        zipped("a.txt"),
        b"{}",
        b"\x12\x7f",
    ],
)
def test_files_of_no_network_are_refused_in_one_line(data, tmp_path, capsys):
    path = tmp_path / "f.onnx"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"f.onnx is (no file of a network that is known|a damaged zip archive)"):
        kind_of(path)
    for command in ("info", "predict", "eval", "bench", "convert"):
        more = {"predict": ["x.npy"], "convert": [tmp_path / "o.onnx"], "eval": ["--data", "digits"]}.get(command, [])
        assert "f.onnx is " in refused(capsys, command, path, *more)
    assert [entry.name for entry in tmp_path.iterdir()] == ["f.onnx"]


def test_half_a_file_never_raises_anything_but_one_error(tmp_path):
    for make in KINDS.values():
        data = make(tmp_path)
        for end in range(min(len(data), 300)):
            (tmp_path / "half").write_bytes(data[:end])
            try:
                assert kind_of(tmp_path / "half") in NAMES
            except ValueError as error:
                assert str(error).count("\n") == 0 and "half" in str(error)


MISTAKES = {
    "weights alone": (["predict", "w.safetensors", "x.npy"], ["holds weights and no network", "model.load(path)"]),
    "a checkpoint": (["eval", "c.safetensors", "--data", "digits"], ["a checkpoint of fastnn", "fn.load_checkpoint"]),
    "a pickle": (
        ["info", "p.pt"],
        ["pickled objects", "torch.load(open('p.pt', 'rb'), weights_only=True)", "save_file"],
    ),
    "arrays": (["info", "a.npz"], ["fn.interop.load_lasagne(path, model)"]),
    "no file": (["info", "missing.onnx"], ["missing.onnx: No such file or directory"]),
    "no samples": (["predict", "t.t7"], ["name the samples, such as: fastnn predict t.t7 x.npy"]),
    "no data": (["eval", "t.t7"], ["--data: say what t.t7 is measured on: digits, mnist, cifar10"]),
    "a file too many": (["predict", "t.t7", "x.npy", "x.npy"], ["t.t7 has 1 inputs, a file each; got 2 file(s)"]),
    "weights for what has its own": (
        ["info", "t.t7", "--weights", "x.npy"],
        ["weights: t.t7 is Torch7, which is one file"],
    ),
    "a prototxt alone": (["eval", "n.prototxt", "--data", "digits"], ["beside it is no file .caffemodel", "--weights"]),
    "sizes that are not known": (["bench", "t.t7"], ["--input: t.t7 says nothing of the sizes", "--input 1,28,28"]),
    "an ending that is none": (
        ["convert", "t.t7", "out.txt"],
        ["OUT: expected a name that ends in .onnx, .safetensors"],
    ),
    "another ending": (["export", "t.t7", "out.safetensors"], ["expected a name that ends in .onnx, got"]),
    "an output of no kind": (["predict", "t.t7", "x.npy", "-o", "y.txt"], [".npy, .npz or .csv, got 'y.txt'"]),
    "too many samples": (["predict", "t.t7", "x.npy", "--samples", "0:9"], ["0:5, got 0:9"]),
    "a deviation of 0": (["predict", "t.t7", "x.npy", "--std", "0"], ["--std: expected numbers other than 0"]),
    "a scale of 0": (["predict", "t.t7", "x.npy", "--scale", "0"], ["--scale: expected a number above 0, got '0'"]),
    "means of channels that are not there": (["predict", "t.t7", "x.npy", "--mean", "1,2"], ["--mean: 2 numbers"]),
    "a folder that is no run": (["info", "folder"], ["folder is no run folder"]),
    "an option of files for a run's weights": (
        ["convert", "RUN/weights.safetensors", "o.onnx", "--input", "3"],
        ["--input: it goes with a file of another system"],
    ),
    "an option of files for a run": (["info", "RUN", "--input", "3"], ["--input: it goes with a file of a network"]),
    "a part that is not there": (["eval", "t.t7", "--data", "digits", "--split", "validation"], ["train and test"]),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    (folder / "w.safetensors").write_bytes(safetensors(folder))
    (folder / "c.safetensors").write_bytes(checkpoint(folder))
    (folder / "p.pt").write_bytes(KINDS["pickled"](folder))
    (folder / "a.npz").write_bytes(KINDS["npz"](folder))
    (folder / "t.t7").write_bytes(KINDS["torch7"](folder))
    (folder / "n.prototxt").write_text(PROTOTXT)
    np.save(folder / "x.npy", X)
    (folder / "folder").mkdir()
    for name in ("w", "c"):
        (folder / name).unlink()
    assert main(["train", "--epochs", "1", "--out", str(folder / "RUN")]) == 0
    return folder


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_said_in_one_line_and_leaves_nothing_behind(mistake, place, capsys, monkeypatch):
    monkeypatch.chdir(place)
    before = sorted(entry.name for entry in place.iterdir())
    words, phrases = MISTAKES[mistake]
    text = refused(capsys, *words)
    assert text.startswith("fastnn: error: ")
    for phrase in phrases:
        assert phrase in text, text
    assert sorted(entry.name for entry in place.iterdir()) == before


def test_predictions_of_a_file_are_the_modules(onnx_file, tmp_path, capsys):
    np.save(tmp_path / "x.npy", X)
    wanted = net().eval()(X)
    lines = run(capsys, "predict", onnx_file, tmp_path / "x.npy").splitlines()
    np.testing.assert_allclose([[float(v) for v in line.split()] for line in lines], wanted, rtol=1e-5)
    text = run(capsys, "predict", onnx_file, tmp_path / "x.npy", "-o", tmp_path / "y.npy")
    assert "5 predictions are in" in text and "(5, 2)" in text
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), wanted)
    run(capsys, "predict", onnx_file, tmp_path / "x.npy", "--samples", "1:3", "-o", tmp_path / "y.csv")
    np.testing.assert_allclose(np.loadtxt(tmp_path / "y.csv", delimiter=","), wanted[1:3], rtol=1e-6)
    told = json.loads(run(capsys, "predict", onnx_file, tmp_path / "x.npy", "--json"))
    np.testing.assert_allclose(told["outputs"][0], wanted, rtol=1e-6)
    np.save(tmp_path / "z.npy", np.round(X * 10).astype(np.int16))
    run(capsys, "predict", onnx_file, tmp_path / "z.npy", "--scale", "10", "--mean", "1", "-o", tmp_path / "y.npy")
    scaled = (np.round(X * 10).astype(np.float32) / np.float32(10)) - np.float32(1)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), net().eval()(scaled))


def test_info_says_what_a_file_holds(onnx_file, tmp_path, capsys):
    text = run(capsys, "info", onnx_file)
    assert "ONNX" in text and "23 parameters" in text and "samples of (4,)" in text and "(2,) a sample" in text
    assert "2 Gemm, 1 Relu" in text
    told = json.loads(run(capsys, "info", onnx_file, "--json"))
    assert told["inputs"] == [[4]] and told["outputs"] == [[2]] and told["layers"] == {"Gemm": 2, "Relu": 1}
    assert told["bytes"] == onnx_file.stat().st_size
    net().save(tmp_path / "w")
    text = run(capsys, "info", tmp_path / "w")
    assert (
        "safetensors" in text and "4 tensors of 23 numbers, no network" in text and "0.weight: float32 (3, 4)" in text
    )


def test_a_network_goes_between_files_without_a_bit_lost(onnx_file, tmp_path, capsys):
    first = fn.interop.load(onnx_file)
    run(capsys, "convert", onnx_file, tmp_path / "b.onnx")
    second = fn.interop.load(tmp_path / "b.onnx")
    assert {k: v.tobytes() for k, v in first.state_dict().items()} == {
        k: v.tobytes() for k, v in second.state_dict().items()
    }
    text = run(capsys, "convert", onnx_file, tmp_path / "b.safetensors")
    assert "safetensors" in text
    other = net(1)
    other.load(tmp_path / "b.safetensors")
    np.testing.assert_array_equal(other.eval()(X), net().eval()(X))


def test_a_run_is_exported_and_measured_again(place, tmp_path, capsys):
    pytest.importorskip("onnx")
    text = run(capsys, "export", place / "RUN", tmp_path / "m.onnx")
    assert "ONNX" in text and "(1, 8, 8)" in text
    own = json.loads(run(capsys, "eval", place / "RUN", "--json"))
    told = json.loads(run(capsys, "eval", tmp_path / "m.onnx", "--data", "digits", "--scale", "16", "--json"))
    assert told["accuracy"] == own["accuracy"] and told["loss"] == pytest.approx(own["loss"], rel=1e-5)
    lines = run(capsys, "bench", tmp_path / "m.onnx", "--seconds", "0.01", "--batch-size", "8")
    assert "training step, batch 8" in lines


def test_the_weights_of_a_run_are_its_network(place, tmp_path, capsys):
    pytest.importorskip("onnx")
    for given in ("RUN", "RUN/weights.safetensors"):
        run(capsys, "export", place / given, tmp_path / f"{len(given)}.onnx")
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1
    with pytest.raises(ValueError, match=r"is a folder; .*python -m tf2onnx.convert --saved-model"):
        fn.interop.load(place)


def test_caffes_files_find_each_other(tmp_path, capsys, monkeypatch):
    pytest.importorskip("google.protobuf")
    monkeypatch.chdir(tmp_path)
    Path("n.prototxt").write_text(PROTOTXT)
    Path("a.caffemodel").write_bytes(KINDS["caffemodel"](tmp_path))
    for given in ("n.prototxt", "a.caffemodel"):
        assert "no weights" in (text := refused(capsys, "info", given)) and "a.caffemodel" in text
    Path("b.caffemodel").write_bytes(b"\x0a\x01b")
    assert "beside it is 2 files .caffemodel" in refused(capsys, "info", "n.prototxt")
    assert "b.caffemodel" in refused(capsys, "info", "n.prototxt", "--weights", "b.caffemodel")
    Path("n.caffemodel").write_bytes(b"\x0a\x01b")
    assert "n.caffemodel" in refused(capsys, "info", "n.prototxt")
    Path("net.t7").write_bytes(KINDS["torch7"](tmp_path))
    assert "Caffe" in run(capsys, "convert", "net.t7", "net.prototxt", "--input", "4")
    np.save("x.npy", X)
    run(capsys, "predict", "net.prototxt", "x.npy", "-o", "y.npy")
    np.testing.assert_allclose(np.load("y.npy"), np.tanh(X), rtol=1e-5, atol=1e-6)


# ---- files that others have trained -------------------------------------------------------------

ACCURACIES = {
    "lenet_iter_10000.caffemodel": (["--scale", "256"], 0.9905, "google.protobuf"),
    "lenet_train_test.prototxt": (["--scale", "256"], 0.9905, "google.protobuf"),
    "mnist_cnn.keras": (["--scale", "255"], 0.9909, "h5py"),
    "mnist_cnn_legacy.h5": (["--scale", "255"], 0.9867, "h5py"),
    "mnist_mlp.t7": (["--mean", "33.318", "--std", "78.567"], 0.9802, "numpy"),
}


@pytest.mark.parametrize("name", ACCURACIES)
def test_networks_that_others_trained_have_their_accuracy(name, capsys):
    options, accuracy, package = ACCURACIES[name]
    pytest.importorskip(package)
    if not (MODELS / name).is_file():
        pytest.skip(f"FASTNN_DATA has no models/{name}")
    told = json.loads(run(capsys, "eval", MODELS / name, "--data", "mnist", *options, "--json"))
    assert round(told["accuracy"], 4) == accuracy and told["samples"] == 10000


# ---- layouts, several inputs and outputs, measures ----------------------------------------------


@pytest.mark.parametrize("shape", [(1, 8, 8), (8, 8, 1), (8, 8), (64,)])
def test_samples_take_the_layout_of_the_input(shape, tmp_path, capsys):
    pytest.importorskip("onnx")
    images, labels = fn.data.digits("test")
    images = (images * 16).astype(np.uint8)
    fn.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    wanted = model.eval()(images.reshape(-1, 64).astype(np.float32) / 16)
    fn.onnx.save(model, tmp_path / "m.onnx", np.zeros((2, *shape), np.float32))
    told = json.loads(run(capsys, "eval", tmp_path / "m.onnx", "--data", "digits", "--scale", "16", "--json"))
    assert told["accuracy"] == np.mean(wanted.argmax(1) == labels)
    assert told["loss"] == pytest.approx(nn.CrossEntropyLoss()(wanted, labels), rel=1e-5)
    for form in ((8, 8), (1, 8, 8), (64,), (8, 8, 1)):
        np.save(tmp_path / "x.npy", images.reshape(-1, *form))
        run(capsys, "predict", tmp_path / "m.onnx", tmp_path / "x.npy", "--scale", "16", "-o", tmp_path / "y.npy")
        np.testing.assert_allclose(np.load(tmp_path / "y.npy"), wanted, rtol=1e-5, atol=1e-5)


def test_colours_are_moved_and_never_flattened_by_guess(tmp_path, capsys):
    pytest.importorskip("onnx")
    fn.manual_seed(0)
    images = np.random.default_rng(0).random((4, 6, 5, 3), np.float32)
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(24, 2))
    fn.onnx.save(model, tmp_path / "m.onnx", np.zeros((2, 3, 6, 5), np.float32))
    np.save(tmp_path / "x.npy", images)
    run(capsys, "predict", tmp_path / "m.onnx", tmp_path / "x.npy", "-o", tmp_path / "y.npy")
    wanted = model.eval()(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), wanted, rtol=1e-5, atol=1e-6)
    fn.onnx.save(nn.Linear(90, 2), tmp_path / "m.onnx", np.zeros((2, 90), np.float32))
    assert "takes samples of (90,)" in refused(capsys, "predict", tmp_path / "m.onnx", tmp_path / "x.npy")


class TwoWays(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 2), nn.Linear(3, 2)

    def forward(self, x, z):
        h = self.a(x) + self.b(z)
        return h, h.sum(1, keepdim=True)


def test_several_inputs_and_outputs_are_several_files_and_arrays(tmp_path, capsys):
    pytest.importorskip("onnx")
    fn.manual_seed(0)
    model, z = TwoWays(), np.ones((5, 3), np.float32)
    path = tmp_path / "m.onnx"
    fn.onnx.save(model, path, X, z)
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "z.npy", z)
    text = run(capsys, "info", path)
    assert "input x: samples of (4,)" in text and "input z: samples of (3,)" in text
    text = run(capsys, "bench", path, "--seconds", "0.01", "--batch-size", "8")
    assert "samples of 4 and 3" in text and "training step, batch 8" in text
    run(capsys, "predict", path, tmp_path / "x.npy", tmp_path / "z.npy", "-o", tmp_path / "y.npz")
    with np.load(tmp_path / "y.npz") as found:
        for array, wanted in zip(found.values(), model.eval()(X, z), strict=True):
            np.testing.assert_allclose(array, wanted, rtol=1e-5, atol=1e-6)
    lines = run(capsys, "predict", path, tmp_path / "x.npy", tmp_path / "z.npy").splitlines()
    assert len(lines) == 5 and len(lines[0].split()) == 3
    text = refused(capsys, "predict", path, tmp_path / "x.npy", tmp_path / "z.npy", "-o", tmp_path / "y.npy")
    assert "2 outputs go into a file .npz" in text
    np.save(tmp_path / "z.npy", z[:3])
    assert "hold 5, 3 samples" in refused(capsys, "predict", path, tmp_path / "x.npy", tmp_path / "z.npy")


def test_a_file_of_one_batch_takes_its_samples_by_batches(tmp_path, capsys):
    pytest.importorskip("onnx")
    model = net()
    fn.onnx.save(model, tmp_path / "m.onnx", X[:2], dynamic_batch=False)
    assert "samples of (4,), 2 at a time" in run(capsys, "info", tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", X[:4])
    run(capsys, "predict", tmp_path / "m.onnx", tmp_path / "x.npy", "-o", tmp_path / "y.npy")
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), model.eval()(X[:4]), rtol=1e-5, atol=1e-6)
    assert "inference, batch 2" in run(capsys, "bench", tmp_path / "m.onnx", "--seconds", "0.01")
    assert "m.onnx takes 2 at a time, got 4" in refused(capsys, "bench", tmp_path / "m.onnx", "--batch-size", "4")
    np.save(tmp_path / "x.npy", X)
    assert "takes 2 samples at a time, and there are 5" in refused(
        capsys, "predict", tmp_path / "m.onnx", tmp_path / "x.npy"
    )


MEASURES = {
    "numbers": (lambda o: o + 0.5, {"loss": 0.25, "mean_absolute_error": 0.5, "root_mean_squared_error": 0.5}, 2),
    "classes": (lambda o: o.argmax(1), {"accuracy": 1.0}, 2),
    "yes and no": (lambda o: (o[:, 0] > 0).astype(np.int64), {"accuracy": 1.0}, 1),
}


@pytest.mark.parametrize("kind", MEASURES)
def test_files_of_ones_own_are_measured(kind, tmp_path, capsys):
    pytest.importorskip("onnx")
    target, wanted, outputs = MEASURES[kind]
    fn.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, outputs))
    fn.onnx.save(model, tmp_path / "m.onnx", X)
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", target(model.eval()(X)))
    words = ["eval", tmp_path / "m.onnx", "--data", tmp_path / "x.npy", tmp_path / "y.npy"]
    told = json.loads(run(capsys, *words, "--json"))
    for name, value in wanted.items():
        assert told[name] == pytest.approx(value, rel=1e-4)
    assert "5 samples, loss " in run(capsys, *words)
    np.save(tmp_path / "y.npy", np.full(5, 9))
    assert "classes" in refused(capsys, *words)
    np.save(tmp_path / "y.npy", np.zeros(3))
    assert "3 targets for 5 samples" in refused(capsys, *words)
