"""The command line: train, eval, predict, info; wrong options, damaged files, Ctrl-C, resuming."""

import csv
import errno
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import fastnn as fn
from fastnn.cli import main
from fastnn.cli.config import RATES, Config
from fastnn.cli.learning import cosine, make_model
from fastnn.cli.sets import Named, Shifted
from fastnn.data import write_idx
from fastnn.files import load_arrays

MNIST = os.environ.get("FASTNN_DATA")
SMALL = ["--hidden", "16", "--epochs", "3", "--no-shifts"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Each test works in an empty folder, and leaves the threads and the seed as they were."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FASTNN_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    threads = fn.get_num_threads()
    state = fn.get_rng_state()
    yield tmp_path
    fn.set_num_threads(threads)
    fn.set_rng_state(state)


@pytest.fixture
def run(capsys):
    """Runs a command that succeeds; returns its standard output."""

    def succeed(*argv):
        status = main([str(a) for a in argv])
        out, err = capsys.readouterr()
        assert status == 0, err
        return out

    return succeed


@pytest.fixture
def fails(capsys):
    """Runs a command that fails, with 2 unless it is told; returns the one line it prints."""

    def fail(*argv, expected=2, header=False):
        try:
            status = main([str(a) for a in argv])
        except SystemExit as stop:
            status = stop.code
        out, err = capsys.readouterr()
        assert status == expected
        assert out == ""
        if header:  # what was said before
            assert err.splitlines()[-1].startswith("fastnn: error: ")
            return err
        assert err.startswith("fastnn: error: ") and err.count("\n") == 1 and err.endswith("\n")
        return err

    return fail


def digest(run_folder):
    arrays, _ = load_arrays(os.path.join(run_folder, "weights.safetensors"))
    return {name: array.tobytes() for name, array in arrays.items()}


def history(run_folder):
    with open(os.path.join(run_folder, "history.csv"), newline="") as file:
        return list(csv.DictReader(file))


def tiny_mnist(folder):
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, count in (("train", 50), ("t10k", 20)):
        labels = np.arange(count, dtype=np.uint8) % 10
        images = rng.integers(0, 50, (count, 28, 28), np.uint8)
        images[np.arange(count), labels] = 255
        write_idx(folder / f"{name}-images-idx3-ubyte", images)
        write_idx(folder / f"{name}-labels-idx1-ubyte", labels)
    return folder


# ---- train -------------------------------------------------------------------------------------


def test_training_without_options_reaches_97_percent_on_held_out_digits(run):
    out = run("train").splitlines()
    epochs = [line for line in out if line.startswith("epoch ")]
    for line in epochs:
        assert "loss" in line and "accuracy" in line and line.endswith("samples/s")
    assert len(epochs) == len(out) - 2
    assert len(history("runs/digits-mlp-1")) == len(epochs)
    assert float(re.fullmatch(r"test error (\d+\.\d\d)%, .*", out[-1])[1]) <= 3
    assert sorted(os.listdir("runs/digits-mlp-1")) == [
        "checkpoint.safetensors",
        "config.json",
        "history.csv",
        "weights.safetensors",
    ]


def test_json_is_all_there_is_on_standard_output(run):
    result = json.loads(run("train", *SMALL, "--json"))
    assert result["run"] == os.path.join("runs", "digits-mlp-1")
    assert (result["epochs"], result["steps"]) == (3, 3 * 21)
    assert result["samples_per_second"] > 0
    assert 0.5 < result["test"]["accuracy"] <= 1


@pytest.mark.parametrize("threads", [2, 3])
def test_the_seed_decides_the_weights_and_the_threads_do_not(run, threads):
    run("train", *SMALL, "--threads", 1, "--seed", 3, "--out", "a")
    run("train", *SMALL, "--threads", threads, "--seed", 3, "--out", "b")
    run("train", *SMALL, "--threads", 1, "--seed", 4, "--out", "c")
    assert digest("a") == digest("b")
    assert digest("a") != digest("c")


def test_options_are_in_the_configuration(run):
    run(
        *[
            "train",
            "--hidden",
            "8,4",
            "--epochs",
            2,
            "--batch-size",
            100,
            "--lr",
            0.02,
            "--seed",
            9,
        ],
        *[
            "--optimizer",
            "adamw",
            "--weight-decay",
            0.1,
            "--dropout",
            0.25,
            "--schedule",
            "constant",
        ],
    )
    config = json.loads(open("runs/digits-mlp-1/config.json").read())
    expected = {
        "data": "digits",
        "data_dir": None,
        "files": [],
        "delimiter": None,
        "decimal": ".",
        "fingerprint": None,
        "model": "mlp",
        "hidden": [8, 4],
        "dropout": 0.25,
        "epochs": 2,
        "batch_size": 100,
        "optimizer": "adamw",
        "lr": 0.02,
        "schedule": "constant",
        "settings": {},
        "momentum": 0.0,
        "weight_decay": 0.1,
        "class_weight": [],
        "val_fraction": 0.1,
        "early_stopping": None,
        "shifts": True,
        "crops": False,
        "seed": 9,
        "version": fn.__version__,
    }
    assert config == expected
    arrays, _ = load_arrays("runs/digits-mlp-1/weights.safetensors")
    assert sorted(a.shape for a in arrays.values() if a.ndim == 2) == [(4, 8), (8, 64), (10, 4)]


@pytest.mark.parametrize("optimizer", RATES)
def test_each_optimizer_learns(run, optimizer):
    rate = RATES[optimizer] * {"sgd": 1, "adadelta": 1, "radam": 50, "lion": 30}.get(
        optimizer, 10
    )  # there are few steps
    result = json.loads(run("train", *SMALL, "--optimizer", optimizer, "--lr", rate, "--json"))
    assert result["test"]["accuracy"] > 0.5


def test_runs_are_numbered(run):
    for number in (1, 2):
        assert json.loads(run("train", *SMALL, "--json"))["run"].endswith(f"digits-mlp-{number}")


def test_shifted_copies_are_the_image_moved_by_a_pixel():
    images = np.arange(2 * 9, dtype=np.float32).reshape(2, 1, 3, 3) + 1
    data = Shifted(images, np.array([4, 5]))
    assert len(data) == 10
    x, y = data[np.arange(10)]
    np.testing.assert_array_equal(y, [4] * 5 + [5] * 5)
    np.testing.assert_array_equal(x[5], images[1])
    down, up, right, left = x[1, 0], x[2, 0], x[3, 0], x[4, 0]
    np.testing.assert_array_equal(down, [[0, 0, 0], [1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(up, [[4, 5, 6], [7, 8, 9], [0, 0, 0]])
    np.testing.assert_array_equal(right, [[0, 1, 2], [0, 4, 5], [0, 7, 8]])
    np.testing.assert_array_equal(left, [[2, 3, 0], [5, 6, 0], [8, 9, 0]])
    picked, labels = data[np.array([7, 0])]
    np.testing.assert_array_equal(picked, x[[7, 0]])
    np.testing.assert_array_equal(labels, [5, 4])


def test_the_learning_rate_follows_half_a_cosine():
    rate = cosine(Config.of({"lr": 0.4, "epochs": 4}))
    assert [rate(e) for e in range(4)] == pytest.approx([0.4, 0.3414214, 0.2, 0.0585786])
    rate = cosine(Config.of({"lr": 0.4, "schedule": "constant"}))
    assert [rate(e) for e in (0, 99)] == [0.4, 0.4]


# ---- MNIST -------------------------------------------------------------------------------------


def test_mnist_is_read_from_a_folder_and_found_again(run, tmp_path):
    tiny_mnist(tmp_path / "data")
    out = run("train", "--data", "mnist", "--data-dir", "data", "--epochs", 5, "--out", "r")
    assert "mlp 784-225-144-10 on mnist, 225 shifted samples to train, 5 to validate, 20 to test" in out
    os.chdir("/")
    assert "20 samples" in run("eval", tmp_path / "r")
    os.rename(tmp_path / "data", tmp_path / "moved")
    moved = ["--data-dir", tmp_path / "moved"]
    assert "45 samples" in run("eval", tmp_path / "r", *moved, "--split", "train")
    assert "5 samples" in run("eval", tmp_path / "r", *moved, "--split", "validation")
    os.chdir(tmp_path)
    run("train", "--resume", "r", "--epochs", 6, "--data-dir", "moved")
    os.chdir("/")
    assert "20 samples" in run("eval", tmp_path / "r")


def test_bytes_are_scaled_as_the_runs_data_are(run, tmp_path):
    data = tiny_mnist(tmp_path / "data")
    run("train", "--data", "mnist", "--data-dir", "data", "--epochs", 2, "--out", "r")
    of_set = json.loads(run("predict", "r", "--json"))
    of_file = json.loads(run("predict", "r", data / "t10k-images-idx3-ubyte", "--json"))
    assert of_set["probabilities"] == of_file["probabilities"]
    images = fn.data.read_idx(data / "t10k-images-idx3-ubyte")
    np.save("flat.npy", (images.reshape(20, 784) / 255).astype(np.float32))
    np.save("one.npy", images[3])
    flat = json.loads(run("predict", "r", "flat.npy", "--json"))
    assert flat["probabilities"] == of_file["probabilities"]
    assert json.loads(run("predict", "r", "one.npy", "--json"))["classes"] == [of_set["classes"][3]]


# ---- what is held out --------------------------------------------------------------------------


def rows_of(images):
    return {row.tobytes() for row in np.ascontiguousarray(images)}


def test_validation_is_cut_from_the_training_data_before_copies_of_them_are_made():
    source = Named(Config.of({"data": "digits", "seed": 3}))
    loader, (images, labels), _ = source.training()
    whole, wanted = fn.data.digits("train")
    assert len(loader.dataset) == 5 * (1437 - 144) and len(images) == len(labels) == 144
    unmoved, _ = loader.dataset[np.arange(0, len(loader.dataset), 5)]
    assert rows_of(unmoved) | rows_of(images) == rows_of(whole)
    assert not rows_of(unmoved) & rows_of(images)
    where = [int(np.flatnonzero((whole == image).all((1, 2, 3)))[0]) for image in images]
    np.testing.assert_array_equal(wanted[where], labels)
    for split, expected in (("train", unmoved), ("validation", images)):
        np.testing.assert_array_equal(source.load(split)[0], expected)


def test_the_seed_alone_decides_what_is_held_out():
    def held_out(seed):
        return rows_of(Named(Config.of({"data": "digits", "seed": seed})).load("validation")[0])

    assert held_out(3) == held_out(3)
    assert held_out(3) != held_out(4)


def test_the_test_set_is_measured_once_when_training_is_done(run, monkeypatch):
    from fastnn.train.evaluation import Evaluation

    measured = []

    def measure(self, data, *args, own=Evaluation.measure):
        logs = own(self, data, *args)
        rows = data[0] if isinstance(data, tuple) else getattr(data, "loader", data).dataset
        measured.append((len(rows), logs))
        return logs

    monkeypatch.setattr(Evaluation, "measure", measure)
    result = json.loads(run("train", *SMALL, "--out", "r", "--json"))
    assert [samples for samples, _ in measured] == [144, 144, 144, 360]
    assert measured[-1][1] == result["test"]
    assert measured[-2][1] == result["validation"]
    assert float(history("r")[-1]["val_loss"]) == result["validation"]["loss"]
    assert json.loads(run("eval", "r", "--split", "validation", "--json"))["loss"] == result["validation"]["loss"]


# ---- convolutional networks ----------------------------------------------------------------------


def tiny_cifar10(folder):
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        records = rng.integers(0, 256, (8, 1 + 3072), np.uint8)
        records[:, 0] = rng.integers(0, 10, 8)
        records.tofile(folder / f"{name}.bin")
    return folder


def test_lenet5_learns_images_of_mnist_and_says_how_long_an_epoch_takes(run, tmp_path):
    data = tiny_mnist(tmp_path / "data")
    out = run("train", "--model", "lenet5", "--data-dir", "data", "--epochs", 12, "--batch-size", 10)
    assert "lenet5 on mnist, 45 samples to train, 5 to validate, 20 to test" in out
    assert re.search(r"epoch  1/12 .* \d+\.\d\d s  [\d,]+ samples/s$", out, re.MULTILINE)
    assert re.search(r"error .*, \d+\.\d\d s an epoch, ", out)
    place = "runs/mnist-lenet5-1"
    assert float(history(place)[-1]["loss"]) < float(history(place)[0]["loss"])
    assert "20 samples" in run("eval", place)
    of_set = json.loads(run("predict", place, "--json"))
    of_file = json.loads(run("predict", place, data / "t10k-images-idx3-ubyte", "--json"))
    assert of_set["probabilities"] == of_file["probabilities"]
    assert "parameters: 61,706" in run("info", place)


def test_resnet20_trains_on_moved_and_mirrored_images_of_cifar10(run, tmp_path):
    data = tiny_cifar10(tmp_path / "data")
    options = ["--model", "resnet20", "--data", "cifar10", "--data-dir", "data", "--batch-size", 16]
    out = run("train", *options, "--epochs", 2, "--out", "whole")
    assert "resnet20 on cifar10, 36 samples to train, 4 to validate, 8 to test" in out
    assert json.loads(open("whole/config.json").read())["crops"] is True
    run("train", *options, "--epochs", 2, "--no-crops", "--out", "plain")
    assert digest("plain") != digest("whole")
    run("train", *options, "--epochs", 1, "--schedule", "constant", "--out", "part")
    run("train", "--resume", "part", "--epochs", 2)
    run("train", *options, "--epochs", 2, "--schedule", "constant", "--out", "constant")
    assert digest("part") == digest("constant")

    of_set = json.loads(run("predict", "whole", "--json"))
    images, _ = fn.data.cifar10("test", data, normalize=False)
    np.save("bytes.npy", images)
    np.save("one.npy", images[3])
    of_file = json.loads(run("predict", "whole", "bytes.npy", "--json"))
    assert of_file["probabilities"] == of_set["probabilities"]
    assert json.loads(run("predict", "whole", "one.npy", "--json"))["classes"] == [of_set["classes"][3]]
    measured = json.loads(run("eval", "whole", "--json"))
    assert measured["accuracy"] == np.mean(np.equal(of_set["classes"], of_set["labels"]))


def test_a_model_finds_its_data_and_data_their_model(run, fails):
    from fastnn.cli.config import DEFAULTS

    assert Config.of({"model": "resnet56"}).data == "cifar10"
    assert Config.of({"data": "cifar10"}).model == "resnet20"
    assert Config.of({"data": "mnist"}).model == "mlp"
    for model, data in DEFAULTS:
        config = Config.of({"model": model, "data": data})
        shape = Named(config).shape
        make_model(config, shape, 10)(np.zeros((2, *shape), np.float32))


@pytest.mark.slow
def test_lenet5_reaches_99_percent_on_mnist_in_10_epochs(run):
    if MNIST is None:
        pytest.skip("FASTNN_DATA names no folder of MNIST")
    options = ["--model", "lenet5", "--data", "mnist", "--data-dir", MNIST]
    result = json.loads(run("train", *options, "--json"))
    assert result["epochs"] <= 10
    assert result["test"]["accuracy"] >= 0.99


@pytest.mark.slow
def test_mnist_ends_at_one_and_a_half_percent_error_or_less(run):
    if MNIST is None:
        pytest.skip("FASTNN_DATA names no folder of MNIST")
    options = ["--model", "mlp", "--hidden", "225,144", "--data", "mnist", "--data-dir", MNIST]
    result = json.loads(run("train", *options, "--json"))
    assert result["test"]["accuracy"] >= 0.985


# ---- eval, predict, info -----------------------------------------------------------------------


def test_eval_agrees_with_the_last_line_of_training(run):
    result = json.loads(run("train", *SMALL, "--json"))
    measured = json.loads(run("eval", result["run"], "--json"))
    assert measured["samples"] == 360
    assert {k: measured[k] for k in ("loss", "accuracy")} == result["test"]
    text = run("eval", result["run"])
    assert text.startswith("test: 360 samples, loss ") and text.count("\n") == 1


def test_predict_prints_a_class_and_its_probability_a_line(run):
    run("train", *SMALL, "--out", "r")
    model = fn.models.mlp(64, [16], 10, dropout=0.3).load("r/weights.safetensors").eval()
    images, labels = fn.data.digits("test")
    logits = model(images)[5:9].astype(float)
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)

    lines = run("predict", "r", "--samples", "5:9").splitlines()
    for line, row, label in zip(lines, chances, labels[5:9], strict=True):
        assert line == f"{row.argmax()} {row.max():.4f} label {label}"
    np.save("some.npy", images[5:9])
    assert run("predict", "r", "some.npy").splitlines() == [line.split(" label")[0] for line in lines]
    assert len(run("predict", "r").splitlines()) == 360


def test_info_describes_the_installation_or_a_run(run):
    text = run("info")
    assert "used: " in text and f"fastnn: {fn.__version__}" in text
    assert set(json.loads(run("info", "--json"))) == {"versions", "config"}
    run("train", *SMALL, "--out", "r")
    text = run("info", "r")
    assert "mlp 64-16-10" in text and "lr: 0.1" in text and "parameters: 1,210" in text
    assert json.loads(run("info", "r", "--json"))["config"]["hidden"] == [16]


def test_the_module_is_the_command(folder):
    result = subprocess.run([sys.executable, "-m", "fastnn", "--version"], capture_output=True, text=True, check=True)
    assert result.stdout == f"fastnn {fn.__version__}\n"


def test_a_reader_that_goes_away_ends_the_command_quietly(run):
    run("train", *SMALL, "--out", "r")
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        result = subprocess.run([sys.executable, "-m", "fastnn", "predict", "r"], stdout=pipe, stderr=subprocess.PIPE)
    assert (result.returncode, result.stderr) == (1, b"")


# ---- resuming ----------------------------------------------------------------------------------


class Crash(Exception):
    pass


@pytest.mark.parametrize("step", [1, 21, 22, 40])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_crashed_run_resumes_to_the_same_bits(run, monkeypatch, step, optimizer):
    options = ["train", *SMALL, "--optimizer", optimizer, "--dropout", 0.2]
    run(*options, "--out", "whole")

    def crash(self, *batch, made=fn.TrainStep.__call__):
        if self.optimizer.param_groups[0].steps == step:
            raise Crash
        return made(self, *batch)

    with monkeypatch.context() as patched:
        patched.setattr(fn.TrainStep, "__call__", crash)
        with pytest.raises(Crash):
            run(*options, "--out", "part")
    run("train", "--resume", "part", "--threads", 2)
    assert digest("part") == digest("whole")
    names = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy")
    for mine, other in zip(history("part"), history("whole"), strict=True):
        assert [mine[name] for name in names] == [other[name] for name in names]


def test_a_finished_run_goes_on_to_more_epochs(run, fails):
    run("train", *SMALL, "--schedule", "constant", "--out", "r")
    assert "larger --epochs" in fails("train", "--resume", "r")
    assert "larger --epochs" in fails("train", "--resume", "r", "--epochs", 2)
    run("train", "--resume", "r", "--epochs", 5)
    assert len(history("r")) == 5
    run("train", *SMALL, "--schedule", "constant", "--epochs", 5, "--out", "whole")
    assert digest("r") == digest("whole")


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no SIGINT to send")
def test_ctrl_c_exits_with_130_and_the_run_resumes_to_the_same_bits(run, folder):
    options = ["train", "--hidden", "128", "--epochs", "8", "--threads", "1"]
    run(*options, "--out", "whole")
    command = [sys.executable, "-m", "fastnn", *options, "--out", "part"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not child.stdout.readline().startswith("epoch 1/8"):
        pass
    child.send_signal(signal.SIGINT)
    start = time.monotonic()
    _, err = child.communicate(timeout=30)
    assert time.monotonic() - start < 10
    assert child.returncode == 130
    assert err == "fastnn: interrupted; go on with: fastnn train --resume part\n"
    run("eval", "part")
    run("train", "--resume", "part")
    assert digest("part") == digest("whole")


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no locks of BSD's kind")
def test_a_run_that_another_process_trains_is_not_resumed_until_that_has_ended(run, fails, folder):
    options = ["train", "--hidden", "128", "--epochs", "200", "--no-shifts", "--threads", "1"]
    command = [sys.executable, "-m", "fastnn", *options, "--out", "r"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        while not child.stdout.readline().startswith("epoch   1/200"):
            pass
        child.send_signal(signal.SIGSTOP)
        try:
            before = {path.name: path.read_bytes() for path in (folder / "r").iterdir()}
            assert "r: another process is training this run" in fails("train", "--resume", "r")
            assert {path.name: path.read_bytes() for path in (folder / "r").iterdir()} == before
            run("eval", "r")
        finally:
            child.kill()
    done = fn.train.checkpoint.read_checkpoint("r/checkpoint.safetensors")[0]["epoch"]
    run("train", "--resume", "r", "--epochs", done + 1)
    assert len(history("r")) == done + 1


def test_a_folder_that_cannot_be_locked_is_warned_of_and_trained_in(run, monkeypatch, capsys):
    fcntl = pytest.importorskip("fcntl")

    def flock(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    assert main(["train", *SMALL, "--out", "r"]) == 0
    (warning,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"fastnn: warning: r cannot be locked \(.*\); train it in one process alone", warning)


@pytest.mark.parametrize("command", ["eval", "predict", "bench", "plot"])
def test_a_run_that_was_stopped_in_its_first_epoch_says_how_to_go_on(run, fails, monkeypatch, capsys, command):
    if command == "plot":
        pytest.importorskip("matplotlib")

    def crash(self, *batch, made=fn.TrainStep.__call__):
        if self.optimizer.param_groups[0].steps == 5:
            raise Crash
        return made(self, *batch)

    with monkeypatch.context() as patched:
        patched.setattr(fn.TrainStep, "__call__", crash)
        with pytest.raises(Crash):
            run("train", *SMALL, "--out", "a run")
    capsys.readouterr()
    reason = "a run has no weights yet, since no epoch of its training is done; "
    assert f"{reason}go on with: fastnn train --resume 'a run'\n" in fails(command, "a run")
    run("train", "--resume", "a run")
    run("eval", "a run")
    os.remove("a run/weights.safetensors")
    assert "there is no file a run/weights.safetensors" in fails(command, "a run")
    os.remove("a run/checkpoint.safetensors")
    assert f"{reason}begin a new run\n" in fails(command, "a run")


# ---- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "COMMAND"),
        (["fit"], "fit"),
        (["train", "--epoch", "3"], "--epoch"),
        (["train", "--epochs", "0"], "--epochs"),
        (["train", "--epochs", "x"], "--epochs"),
        (["train", "--batch-size", "-1"], "--batch-size"),
        (["train", "--hidden", "10,,5"], "--hidden"),
        (["train", "--hidden", "0"], "--hidden"),
        (["train", "--model", "resnet"], "--model"),
        (["train", "--data", "cifar"], "--data"),
        (["train", "--model", "lenet5", "--data", "digits"], "--model lenet5 goes with mnist"),
        (["train", "--model", "lenet5", "--hidden", "3"], "--hidden"),
        (["train", "--model", "resnet20", "--dropout", "0.1"], "--dropout"),
        (["train", "--data", "mnist", "--crops"], "--crops"),
        (["train", "--model", "resnet20", "--data-dir", "nowhere"], "nowhere"),
        (["train", "--optimizer", "lbfgs"], "--optimizer"),
        (["train", "--lr", "fast"], "--lr"),
        (["train", "--lr", "-1"], "lr"),
        (["train", "--lr", "nan"], "lr"),
        (["train", "--momentum", "-0.1"], "momentum"),
        (["train", "--optimizer", "adam", "--momentum", "0.9"], "--momentum"),
        (["train", "--weight-decay", "-1"], "--weight-decay: expected a number of at least 0"),
        (["train", "--dropout", "1.5"], "p"),
        (["train", "--threads", "0"], "--threads"),
        (["train", "--seed", "-1"], "--seed"),
        (["train", "--seed", str(2**63)], "--seed"),
        (["train", "--data", "mnist"], "FASTNN_DATA"),
        (["train", "--data", "mnist", "--data-dir", "nowhere"], "nowhere"),
        (["train", "--resume", "nowhere"], "nowhere"),
        (["eval"], "RUN"),
        (["eval", "nowhere"], "nowhere"),
        (["predict", "nowhere"], "nowhere"),
        (["predict", "nowhere", "--samples", "5:2"], "--samples"),
        (["info", "nowhere"], "nowhere"),
        (["eval", "."], "config.json"),
    ],
)
def test_wrong_options_give_one_clear_line_and_no_run(fails, argv, message):
    assert message in fails(*argv)
    assert not os.path.exists("runs")


def test_an_option_of_the_run_cannot_be_changed_by_resuming(run, fails):
    run("train", *SMALL, "--out", "r")
    for option in (["--lr", 0.1], ["--seed", 0], ["--out", "x"], ["--hidden", 16], ["--no-shifts"]):
        assert option[0].replace("no-", "") in fails("train", "--resume", "r", *option)


def test_a_folder_that_holds_something_is_not_written_to(fails, folder):
    (folder / "r").mkdir()
    (folder / "r" / "file").write_text("mine")
    assert "r exists already" in fails("train", *SMALL, "--out", "r")
    assert "file exists already" in fails("train", *SMALL, "--out", "r/file")
    assert os.listdir("r") == ["file"]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"data": "digits"}', "\x00\xff", None],
)
def test_a_damaged_configuration_is_named(run, fails, folder, text):
    run("train", *SMALL, "--out", "r")
    config = json.loads((folder / "r" / "config.json").read_text())
    (folder / "r" / "config.json").write_text(json.dumps({**config, "hidden": "16"}) if text is None else text)
    for command in ("eval", "predict", "info"):
        assert "config.json" in fails(command, "r")
    assert "config.json" in fails("train", "--resume", "r")


@pytest.mark.parametrize(
    "change",
    [
        {"data": "other"},
        {"model": "resnet"},
        {"model": "resnet20"},
        {"optimizer": "lbfgs"},
        {"schedule": 3},
        {"epochs": "3"},
        {"batch_size": 0},
        {"hidden": [0]},
        {"hidden": [True]},
        {"lr": None},
        {"seed": 1.5},
        {"shifts": 1},
        {"crops": None},
        {"data_dir": 5},
        {"more": 1},
    ],
)
def test_a_configuration_with_a_wrong_value_is_named(run, fails, folder, change):
    path = folder / "r" / "config.json"
    run("train", *SMALL, "--out", "r")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert "config.json" in fails("info", "r")


def test_damaged_and_missing_weights_are_named(run, fails, folder):
    run("train", *SMALL, "--out", "r")
    weights = folder / "r" / "weights.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-10])
    assert "weights.safetensors" in fails("eval", "r")
    weights.unlink()
    assert "weights.safetensors" in fails("predict", "r")


def test_training_that_diverges_ends_with_a_line_that_says_where(run, fails):
    line = fails("train", *SMALL, "--out", "r", "--lr", 1e30, "--json", expected=1, header=True)
    assert re.search(r"error: the loss is (nan|inf) in epoch 1, batch 2: the first layer whose .* as they were", line)
    assert fn.train.checkpoint.read_checkpoint("r/checkpoint.safetensors")[0]["step"] == 0


def test_a_test_loss_that_is_not_finite_is_a_line_and_a_status(run, fails, monkeypatch):
    def load(self, split, own=Named.load):
        images, labels = own(self, split)
        return (images * np.nan if split == "test" else images), labels

    monkeypatch.setattr(Named, "load", load)
    lines = fails("train", *SMALL, "--out", "r", "--json", expected=1, header=True).splitlines()
    assert not any("warning" in line for line in lines)
    assert lines[-1] == f"fastnn: error: {os.path.join('r', 'weights.safetensors')}: the loss on the test set is nan"


def test_eval_and_predict_say_that_a_result_is_not_finite(run, fails):
    run("train", *SMALL, "--out", "r")
    images = fn.data.digits("test")[0][:5]
    images[2, 0, 3, 3] = np.nan
    np.save("some.npy", images)
    line = fails("predict", "r", "some.npy", expected=1)
    assert "the output is not finite for 1 of 5 samples of some.npy, which are not all finite themselves" in line
    model = fn.models.mlp(64, [16], 10, dropout=0.3).load("r/weights.safetensors")
    next(iter(model.parameters())).data[0, 0] = np.nan
    model.save("r/weights.safetensors")
    assert "the loss on the test set is nan" in fails("eval", "r", expected=1)
    assert "not finite for 360 of 360 samples of the test set\n" in fails("predict", "r", "--json", expected=1)


def test_a_damaged_checkpoint_is_named_and_the_run_stays_as_it_was(run, fails, folder):
    run("train", *SMALL, "--out", "r")
    checkpoint = folder / "r" / "checkpoint.safetensors"
    data = bytearray(checkpoint.read_bytes())
    data[-5] ^= 1
    checkpoint.write_bytes(data)
    before = {p.name: p.read_bytes() for p in (folder / "r").iterdir()}
    assert "damaged" in fails("train", "--resume", "r", "--epochs", 9)
    assert {p.name: p.read_bytes() for p in (folder / "r").iterdir()} == before
    checkpoint.unlink()
    assert "checkpoint.safetensors" in fails("train", "--resume", "r", "--epochs", 9)


def test_samples_that_do_not_fit_are_named(run, fails, folder):
    run("train", *SMALL, "--out", "r")
    np.save("shape.npy", np.zeros((3, 7, 7), np.float32))
    np.save("none.npy", np.zeros((0, 64), np.float32))
    np.save("text.npy", np.array([["a"] * 64]))
    np.save("objects.npy", np.array([{}], object), allow_pickle=True)
    (folder / "empty.npy").write_bytes(b"")
    np.save("cut.npy", np.zeros((3, 64)))
    (folder / "cut.npy").write_bytes((folder / "cut.npy").read_bytes()[:-9])
    (folder / "file.idx").write_bytes(b"no such format")
    for name in os.listdir():
        if os.path.isfile(name):
            assert name in fails("predict", "r", name)
    assert "missing.npy" in fails("predict", "r", "missing.npy")
    assert "missing.idx" in fails("predict", "r", "missing.idx")
    assert "--samples" in fails("predict", "r", "--samples", "0:361")


# ---- bench --------------------------------------------------------------------------------------


def test_bench_times_training_and_inference_on_one_thread_and_on_all(run):
    result = json.loads(run("bench", "--model", "mlp", "--batch-size", "8", "--seconds", "0.01", "--json"))
    kinds = {(r["what"], r["batch"], r["threads"]) for r in result["results"]}
    counts = {1, fn.get_num_threads()}
    assert kinds == {(w, b, t) for w, b in (("training step", 8), ("inference", 8), ("inference", 1)) for t in counts}
    assert all(0 < r["min"] <= r["median"] and r["gflops"] > 0 for r in result["results"])


def test_bench_takes_a_network_of_ones_own(run, folder):
    (folder / "mine.py").write_text("from fastnn import nn\ndef make():\n    return nn.Linear(5, 3)\n")
    try:
        text = run("bench", "--model", "mine:make", "--input", "5", "--seconds", "0.01", "--profile")
    finally:
        sys.modules.pop("mine", None)
    assert "mine:make, 18 parameters" in text
    assert "matmul" in text


def test_bench_takes_a_run_and_writes_a_trace(run, folder):
    run("train", *SMALL, "--epochs", "1", "--out", "r")
    assert "r, " in run("bench", "r", "--seconds", "0.01", "--trace", "trace.json")
    assert json.loads((folder / "trace.json").read_text())["traceEvents"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "nonsense"], "'nonsense' is none of alexnet"),
        (["--model", "VGG"], "'VGG' is none of"),
        (["--model", "math:sqrt", "--input", "3"], "math:sqrt"),
        (["--model", "math:nothing", "--input", "3"], "nothing"),
        (["--model", "math:sqrt"], "--input"),
        (["--seconds", "0"], "--seconds"),
        (["nowhere"], "nowhere"),
        (["nowhere", "--model", "mlp"], "RUN"),
        (["--model", "lenet5", "--input", "5"], "expected (N, C, H, W)"),
    ],
)
def test_bench_says_what_is_wrong(fails, options, message):
    assert message in fails("bench", *options)
