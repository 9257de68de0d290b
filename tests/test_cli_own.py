"""The command line on one's own data: tables, arrays and folders of images, from training to predictions."""

import csv
import json
import os
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

import fastnn as fn
from fastnn.cli import main
from fastnn.cli.config import SCHEDULES
from fastnn.data import TableRecipe, read_csv
from fastnn.files import load_arrays


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Each test works in an empty folder with a home of its own, and leaves threads and seed as they were."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FASTNN_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    threads, state = fn.get_num_threads(), fn.get_rng_state()
    yield tmp_path
    fn.set_num_threads(threads)
    fn.set_rng_state(state)


@pytest.fixture
def run(capsys):
    """Runs a command that succeeds; returns its standard output."""

    def succeed(*argv):
        capsys.readouterr()
        status = main([str(a) for a in argv])
        out, err = capsys.readouterr()
        assert status == 0, err
        succeed.err = err
        return out

    return succeed


@pytest.fixture
def fails(capsys):
    """Runs a command that fails with status 2; returns the one line that it prints."""

    def fail(*argv):
        capsys.readouterr()
        try:
            status = main([str(a) for a in argv])
        except SystemExit as stop:
            status = stop.code
        out, err = capsys.readouterr()
        assert (status, out) == (2, ""), err
        assert err.startswith("fastnn: error: ") and err.count("\n") == 1 and len(err) < 2100
        return err

    return fail


def digest(run_folder):
    arrays, _ = load_arrays(os.path.join(run_folder, "weights.safetensors"))
    return {name: array.tobytes() for name, array in arrays.items()}


def history(run_folder):
    with open(os.path.join(run_folder, "history.csv"), newline="") as file:
        return list(csv.DictReader(file))


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def houses(name="houses.csv", count=200, seed=0):
    """A table whose price follows from rooms, area and district, with gaps."""
    rng = np.random.default_rng(seed)
    rooms, district = rng.integers(1, 7, count), rng.choice(["north", "south", "west"], count)
    area = 20 * rooms + rng.normal(0, 10, count)
    price = 1000 * area + 30_000 * (district == "south") - 10_000 * (district == "west")
    with open(name, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "rooms", "area", "district", "price", "dear"])
        for i in range(count):
            gap = rng.random(3) < 0.03
            cells = ["" if g else v for g, v in zip(gap, (rooms[i], f"{area[i]:.2f}", district[i]), strict=True)]
            writer.writerow([f"h{i}", *cells, f"{price[i]:.0f}", "yes" if price[i] > 90_000 else "no"])
    return name


def arrays(classes=True):
    rng = np.random.default_rng(0)
    x = rng.normal(100, [1, 20, 5], (120, 3))
    y = (x[:, 0] + x[:, 1] / 20 > 106).astype(int) if classes else x @ [1, 2, 3]
    return x, y


def pictures(root, count=12, size=(12, 10)):
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for number, kind in enumerate(("dark", "light", "stripes")):
        os.makedirs(os.path.join(root, kind))
        for i in range(count):
            pixels = rng.integers(0, 60, (*size, 3), np.uint8) + np.uint8(number * 90)
            if kind == "stripes":
                pixels[::2] = 0
            image.fromarray(pixels).save(os.path.join(root, kind, f"{i}.png"))
    return root


PRICE = ["--data", "houses.csv", "--target", "price", "--drop", "id,dear"]


# ---- tables ----------------------------------------------------------------------------------------


def test_a_table_of_numbers_and_categories_trains_and_new_rows_are_predicted_in_their_own_units(run):
    houses()
    out = run("train", *PRICE, "--epochs", 150, "--out", "r")
    assert "column 'rooms': " in out and "; the median, " in out and "the most frequent category, " in out
    assert ": mlp 5-64-32-1 on houses.csv, 180 samples to train, 20 to validate; " in out
    assert "validation root mean squared error " in out.splitlines()[-1] and "R2 0.9" in out.splitlines()[-1]
    assert sorted(os.listdir("r")) == [
        "checkpoint.safetensors",
        "config.json",
        "history.csv",
        "recipe.json",
        "weights.safetensors",
    ]
    houses("new.csv", 30, seed=1)
    assert run("predict", "r", "new.csv", "--out", "predictions.csv") == "30 predictions are in predictions.csv\n"
    predicted = np.array([float(row["price"]) for row in rows_of("predictions.csv")])
    truth = np.array([float(row["price"]) for row in rows_of("new.csv")])
    whole = np.array([all(row.values()) for row in rows_of("new.csv")])
    assert 1 - np.square(predicted - truth)[whole].sum() / np.square(truth - truth.mean())[whole].sum() > 0.9

    lines = run("predict", "r", "new.csv", "--samples", "3:5").splitlines()
    assert lines == [f"{value:.6g}" for value in predicted[3:5]]
    told = json.loads(run("predict", "r", "new.csv", "--json"))
    assert told["values"] == predicted[:, None].tolist()


def test_predictions_are_those_of_the_network_on_what_the_recipe_makes(run):
    houses()
    run("train", *PRICE, "--epochs", 3, "--hidden", 8, "--out", "r")
    recipe = TableRecipe.load("r/recipe.json")
    table = read_csv(houses("new.csv", 10, seed=2))
    model = fn.models.mlp(*recipe.shape, [8], 1).load("r/weights.safetensors").eval()
    expected = recipe.target.decode(model(recipe.inputs(table)))
    assert json.loads(run("predict", "r", "new.csv", "--json"))["values"] == expected.tolist()


def test_medians_means_and_deviations_are_those_of_the_training_part(run):
    houses()
    run("train", *PRICE, "--epochs", 1, "--seed", 3, "--out", "r")
    table = read_csv("houses.csv")
    held_out, _ = np.split(fn.data.random_split(np.arange(200), [180, 20], 2**63 + 3)[0].indices, [180])
    expected = TableRecipe.fit(table, "price", rows=np.sort(held_out), drop=["id", "dear"])
    assert TableRecipe.load("r/recipe.json") == expected


def test_a_target_of_texts_is_classified_and_its_names_come_back(run):
    houses()
    options = ["--data", "houses.csv", "--target", "dear", "--drop", "id,price", "--epochs", 60, "--out", "r"]
    out = run("train", *options)
    assert "mlp 5-64-32-2 on houses.csv (2 classes)" in out and "validation error " in out.splitlines()[-1]
    run("predict", "r", "houses.csv", "--out", "p.csv")
    rows, truth = rows_of("p.csv"), [row["dear"] for row in rows_of("houses.csv")]
    assert list(rows[0]) == ["dear", "probability"]
    assert np.mean([row["dear"] == name for row, name in zip(rows, truth, strict=True)]) > 0.9
    first = run("predict", "r", "houses.csv", "--samples", "0:1")
    assert first == f"{rows[0]['dear']} {float(rows[0]['probability']):.4f}\n"
    of_set = run("predict", "r").splitlines()
    assert len(of_set) == 20 and all(line.split(" label ")[1] in ("yes", "no") for line in of_set)
    measured = json.loads(run("evaluate", "r", "houses.csv", "--json"))
    assert measured["accuracy"] == np.mean([row["dear"] == name for row, name in zip(rows, truth, strict=True)])
    assert measured["samples"] == 200


def test_eval_measures_the_parts_of_the_runs_data_and_agrees_with_training(run):
    houses()
    result = json.loads(run("train", *PRICE, "--epochs", 5, "--out", "r", "--json"))
    assert run("eval", "r").startswith("validation: 20 samples, loss ")
    told = json.loads(run("eval", "r", "--json"))
    assert {name: told[name] for name in result["validation"]} == result["validation"]
    assert {"root_mean_squared_error", "mean_absolute_error", "r2"} < result["validation"].keys()
    assert json.loads(run("eval", "r", "--split", "train", "--json"))["samples"] == 180
    other = json.loads(run("eval", "r", houses("other.csv", 50, seed=5), "--json"))
    recipe, table = TableRecipe.load("r/recipe.json"), read_csv("other.csv")
    model = fn.models.mlp(*recipe.shape, [64, 32], 1).load("r/weights.safetensors").eval()
    error = recipe.target.decode(model(recipe.inputs(table)))[:, 0] - table["price"].astype(float)
    assert other["root_mean_squared_error"] == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-5)
    assert other["mean_absolute_error"] == pytest.approx(np.mean(np.abs(error)), rel=1e-5)


def test_categories_that_training_had_not_are_warned_of(run, capsys):
    houses()
    run("train", *PRICE, "--epochs", 1, "--out", "r")
    with open("new.csv", "w") as file:
        file.write("district,rooms,area\nsouth,2,40\nmoon,3,60\n")
    assert len(run("predict", "r", "new.csv").splitlines()) == 2
    assert run.err == (
        "fastnn: warning: new.csv, line 3, column 'district': 'moon' is no category that training had; none of the "
        "column's features is 1 there\n"
    )


def test_kinds_of_columns_and_the_task_are_as_the_options_say(run):
    houses()
    run("train", *PRICE, "--categorical", "rooms", "--val-fraction", 0.25, "--epochs", 1, "--out", "r")
    features = TableRecipe.load("r/recipe.json").features
    assert features[:6] == tuple(f"rooms={i}" for i in range(1, 7))
    options = ["--data", "houses.csv", "--target", "rooms", "--task", "classification", "--drop", "id"]
    with open("houses.csv") as file:
        rows = [line for line in file if ",," not in line]
    with open("houses.csv", "w") as file:
        file.writelines(rows)
    assert "(6 classes)" in run("train", *options, "--epochs", 1)
    assert os.path.isdir("runs/houses-mlp-1")


def test_a_table_with_decimal_commas_is_read_as_the_option_says(run, fails):
    with open(houses()) as file:
        lines = file.read().splitlines()
    with open("commas.csv", "w") as file:
        file.write("\n".join(line.replace(",", ";").replace(".", ",") for line in lines) + "\n")
    options = ["--data", "commas.csv", *PRICE[2:], "--epochs", 1]
    assert "commas.csv, line 2, column 'area': " in fails("train", *options)
    run("train", *options, "--decimal", ",", "--out", "a")
    run("train", *PRICE, "--epochs", 1, "--out", "b")
    assert digest("a") == digest("b") and run("predict", "a", "commas.csv") == run("predict", "b", "houses.csv")


def test_a_table_with_tabs_and_one_with_another_delimiter_are_read(run):
    with open(houses()) as file:
        text = file.read()
    for name, delimiter, options in (("a.tsv", "\t", []), ("b.csv", ":", ["--delimiter", ":"])):
        with open(name, "w") as file:
            file.write(text.replace(",", delimiter))
        run("train", "--data", name, *PRICE[2:], *options, "--epochs", 1, "--out", name[0])
    run("train", *PRICE, "--epochs", 1, "--out", "c")
    assert digest("a") == digest("b") == digest("c")
    assert run("predict", "b", "b.csv") == run("predict", "c", "houses.csv")


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")  # scikit-learn's, which would go on
@pytest.mark.parametrize("name", ["diabetes", "wine", "breast_cancer"])
def test_tables_of_scikit_learn_come_near_its_own_perceptron(name, run):
    """As a user has them: a CSV file, trained on a part, judged on rows that neither library has seen."""
    datasets = pytest.importorskip("sklearn.datasets")
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    whole = getattr(datasets, f"load_{name}")()
    regression = name == "diabetes"
    names = whole.target if regression else np.array([f"class {i}" for i in whole.target])
    rows = np.random.default_rng(0).permutation(len(names))
    cut = len(rows) * 3 // 4
    for path, part in (("train.csv", rows[:cut]), ("test.csv", rows[cut:])):
        with open(path, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([*whole.feature_names, "outcome"])
            writer.writerows([*whole.data[i].tolist(), names[i]] for i in part)
    run("train", "--data", "train.csv", "--target", "outcome", "--early-stopping", 20, "--out", "r")
    mine = json.loads(run("eval", "r", "test.csv", "--json"))
    kind = MLPRegressor if regression else MLPClassifier
    theirs = make_pipeline(StandardScaler(), kind(hidden_layer_sizes=(64, 32), random_state=0, max_iter=1000))
    score = theirs.fit(whole.data[rows[:cut]], names[rows[:cut]]).score(whole.data[rows[cut:]], names[rows[cut:]])
    assert mine["r2" if regression else "accuracy"] > score - 0.05
    assert mine["r2" if regression else "accuracy"] > (0.3 if regression else 0.93)


# ---- arrays ----------------------------------------------------------------------------------------


def test_two_arrays_train_a_classifier(run):
    x, y = arrays()
    np.save("x.npy", x)
    np.save("y.npy", y)
    out = run("train", "--data", "x.npy", "y.npy", "--epochs", 40, "--out", "r")
    assert "mlp 3-64-32-2 on x.npy (2 classes)" in out
    told = json.loads(run("predict", "r", "x.npy", "--json"))
    assert np.mean(np.array(told["classes"], int) == y) > 0.9
    assert json.loads(run("eval", "r", "x.npy", "y.npy", "--json"))["samples"] == 120
    np.save("one.npy", x[5])
    assert json.loads(run("predict", "r", "one.npy", "--json"))["classes"] == told["classes"][5:6]


def test_an_archive_with_a_test_set_is_tested_at_last(run):
    x, y = arrays(classes=False)
    np.savez("set.npz", x_train=x[:100], y_train=y[:100], x_test=x[100:], y_test=y[100:])
    out = run("train", "--data", "set.npz", "--epochs", 100, "--out", "r")
    assert "mlp 3-64-32-1 on set.npz, 90 samples to train, 10 to validate, 20 to test" in out
    assert out.splitlines()[-1].startswith("test root mean squared error ")
    measured = json.loads(run("eval", "r", "--json"))
    assert (measured["split"], measured["samples"]) == ("test", 20) and measured["r2"] > 0.9
    np.savez("new.npz", x=x[:3])
    assert len(run("predict", "r", "new.npz").splitlines()) == 3


def test_several_numbers_of_a_sample_are_predicted_together(run):
    x, y = arrays(classes=False)
    np.savez("set.npz", x=x, y=np.column_stack([y, -y]))
    run("train", "--data", "set.npz", "--epochs", 60, "--out", "r")
    np.save("x.npy", x)
    run("predict", "r", "x.npy", "--out", "p.csv")
    rows = rows_of("p.csv")
    assert list(rows[0]) == ["value0", "value1"]
    assert np.corrcoef([float(row["value0"]) for row in rows], y)[0, 1] > 0.9


@pytest.mark.parametrize("model", ["cnn", "mlp", "lenet5"])
def test_grey_images_of_an_array_are_classified(run, model):
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    images = rng.integers(0, 80, (90, 28, 28)).astype(np.uint8)
    images[labels == 1, :14] += 150
    images[labels == 2, :, ::3] += 150
    np.savez("set.npz", images=images, labels=np.array(["a", "b", "c"])[labels])
    out = run("train", "--data", "set.npz", "--model", model, "--epochs", 8, "--out", "r")
    assert "(3 classes)" in out
    np.save("images.npy", images)
    predicted = json.loads(run("predict", "r", "images.npy", "--json"))["classes"]
    assert np.mean([name == "abc"[label] for name, label in zip(predicted, labels, strict=True)]) > 0.9
    assert "samples/s" in run("bench", "r", "--seconds", 0.01)


# ---- folders of images ----------------------------------------------------------------------------


def test_a_folder_of_images_a_class_trains_a_network_and_files_are_predicted(run, folder):
    pictures("shots")
    out = run("train", "--data", "shots/", "--epochs", 12, "--out", "r")
    assert "cnn on shots (3 classes), 32 samples to train, 4 to validate" in out
    assert json.load(open("r/recipe.json"))["shape"] == [3, 12, 10]
    run("predict", "r", "shots/stripes", "shots/dark/3.png", "--out", "p.csv")
    rows = rows_of("p.csv")
    assert [row["file"] for row in rows][-2:] == ["shots/stripes/9.png", "shots/dark/3.png"]
    assert [row["class"] for row in rows[:-1]].count("stripes") >= 10 and rows[-1]["class"] == "dark"
    assert json.loads(run("eval", "r", "shots", "--json"))["accuracy"] > 0.8
    assert json.loads(run("train", "--data", "shots", "--crops", "--epochs", 1, "--json"))["epochs"] == 1


def test_a_last_batch_of_one_image_is_left_out(run):
    """The network's batch norm would have one value a channel, where images have shrunk to a pixel."""
    pictures("shots", count=7, size=(4, 4))
    options = ["--data", "shots", "--model", "cnn", "--epochs", 2, "--val-fraction", 0.2]
    assert ", 17 samples to train, 4 to validate" in run("train", *options, "--batch-size", 8)


def test_images_are_scaled_and_taken_grey_as_the_options_say(run):
    pictures("shots", size=(80, 70))
    options = ["--data", "shots", "--epochs", 1]
    run("train", *options, "--out", "a")
    run("train", *options, "--image-size", "16,20", "--grey", "--shifts", "--out", "b")
    assert json.load(open("a/recipe.json"))["shape"] == [3, 64, 64]
    assert json.load(open("b/recipe.json"))["shape"] == [1, 16, 20]
    assert len(run("predict", "b", "shots/dark").splitlines()) == 12
    assert run("eval", "b").startswith("validation: 4 samples")


# ---- how it is trained -------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_each_schedule_trains_and_resumes_to_the_same_bits(run, schedule, monkeypatch):
    houses(count=60)
    options = [*PRICE, "--epochs", 4, "--hidden", 4, "--schedule", schedule]
    run("train", *options, "--out", "whole")
    interrupted(run, monkeypatch, 5, *options, "--out", "part")
    run("train", "--resume", "part", "--threads", 2)
    assert digest("part") == digest("whole")


class Crash(Exception):
    pass


def interrupted(run, monkeypatch, step, *options):
    def crash(self, *batch, made=fn.TrainStep.__call__):
        if self.optimizer.param_groups[0].steps == step:
            raise Crash
        return made(self, *batch)

    with monkeypatch.context() as patched:
        patched.setattr(fn.TrainStep, "__call__", crash)
        with pytest.raises(Crash):
            run("train", *options)


@pytest.mark.parametrize("kind", ["table", "arrays", "images"])
def test_a_stopped_run_resumes_to_the_same_bits_and_predicts_the_same(run, monkeypatch, kind):
    options = {"table": PRICE, "arrays": ["--data", "x.npy", "y.npy"], "images": ["--data", "shots"]}[kind]
    if kind == "table":
        houses()
        options = [*options, "--dropout", 0.1, "--early-stopping", 2, "--optimizer", "nadam"]
    elif kind == "arrays":
        for name, array in zip(("x.npy", "y.npy"), arrays(), strict=True):
            np.save(name, array)
        options = [*options, "--class-weight", "balanced"]
    else:
        pictures("shots")
        options = [*options, "--crops"]
    options = [*options, "--epochs", 4, "--batch-size", 16]
    run("train", *options, "--threads", 1, "--out", "whole")
    interrupted(run, monkeypatch, 4, *options, "--out", "part")
    run("train", "--resume", "part", "--threads", 3)
    assert digest("part") == digest("whole")
    names = ("epoch", "loss", "val_loss")
    for mine, other in zip(history("part"), history("whole"), strict=True):
        assert [mine[name] for name in names] == [other[name] for name in names]
    assert run("predict", "part") == run("predict", "whole")


def test_a_run_is_resumed_only_on_the_data_that_it_began_with(run, fails):
    houses()
    run("train", *PRICE, "--epochs", 2, "--schedule", "constant", "--out", "r")
    os.rename("houses.csv", "moved.csv")
    assert "houses.csv" in fails("train", "--resume", "r", "--epochs", 3)
    run("train", "--resume", "r", "--epochs", 3, "--data", "moved.csv")
    run("eval", "r")  # which knows of the move
    with open("moved.csv", "a") as file:
        file.write("x,1,20,north,20000,no\n")
    assert "moved.csv: the data are not those that the run began with" in fails("train", "--resume", "r", "--epochs", 4)
    assert "the data are not those that the run began with" in fails("eval", "r")
    assert len(run("predict", "r", "moved.csv").splitlines()) == 201


def test_early_stopping_ends_training_and_keeps_the_best_weights(run):
    houses(count=60)
    options = [*PRICE, "--hidden", 64, "--epochs", 200, "--lr", 0.05, "--schedule", "constant"]
    result = json.loads(run("train", *options, "--early-stopping", 3, "--out", "r", "--json"))
    losses = [float(row["val_loss"]) for row in history("r")]
    assert result["epochs"] == len(losses) < 200
    assert result["best_epoch"] == int(np.argmin(losses)) + 1 == len(losses) - 3
    assert result["validation"]["loss"] == min(losses)
    assert json.loads(run("eval", "r", "--json"))["loss"] == pytest.approx(min(losses), rel=1e-6)
    weights = digest("r")
    run("train", "--resume", "r")
    assert digest("r") == weights and len(history("r")) == len(losses)


def test_class_weights_are_balanced_or_by_name(run, fails):
    houses()
    options = ["--data", "houses.csv", "--target", "dear", "--drop", "id,price", "--epochs", 3]
    run("train", *options, "--class-weight", "balanced", "--out", "a")
    table = read_csv("houses.csv")
    (train, _) = fn.data.random_split(np.arange(200), [180, 20], 2**63, (table["dear"] == "yes").astype(int))
    counts = np.bincount((table["dear"][train.indices] == "yes").astype(int))
    assert json.load(open("a/config.json"))["class_weight"] == pytest.approx((180 / (2 * counts)).tolist())
    run("train", *options, "--class-weight", "yes=3", "--out", "b")
    assert json.load(open("b/config.json"))["class_weight"] == [1.0, 3.0]
    run("train", *options, "--out", "c")
    assert digest("a") != digest("c") != digest("b")
    for wrong in ("maybe=2", "yes", "yes=-1", "yes=x", "yes=inf"):
        assert f"--class-weight: expected balanced, or CLASS=WEIGHT with one of no, yes, got '{wrong}'" in fails(
            "train", *options, "--class-weight", wrong
        )
    assert "one class at least must weigh more than 0" in fails("train", *options, "--class-weight", "yes=0", "no=0")
    assert "--class-weight: the target is a number" in fails("train", *PRICE, "--class-weight", "balanced")


def test_a_known_set_takes_the_same_options(run):
    options = ["--hidden", 8, "--no-shifts", "--epochs", 2, "--val-fraction", 0.2, "--early-stopping"]
    options += ["--class-weight", "3=2", "--schedule", "MultiStepLR", "milestones=[1]", "gamma=0.5"]
    out = run("train", *options, "--out", "r")
    assert "1150 samples to train, 287 to validate, 360 to test" in out and "the weights are those of epoch 2" in out
    config = json.load(open("r/config.json"))
    assert config["settings"] == {"milestones": [1], "gamma": 0.5} and config["class_weight"][3] == 2
    assert run("eval", "r").startswith("test: 360 samples")


def test_settings_of_a_schedule_reach_it(run):
    houses(count=60)
    run("train", *PRICE, "--epochs", 3, "--schedule", "StepLR", "step_size=1", "gamma=0.0", "--out", "a")
    run("train", *PRICE, "--epochs", 1, "--schedule", "constant", "--out", "b")
    assert digest("a") == digest("b")


def test_plot_and_info_describe_a_run_on_own_data(run, folder):
    pytest.importorskip("matplotlib")
    houses()
    run("train", *PRICE, "--epochs", 2, "--out", "a")
    run("train", *["--data", "houses.csv", "--target", "dear", "--drop", "id,price"], "--epochs", 2, "--out", "b")
    pictures("shots")
    run("train", "--data", "shots", "--epochs", 1, "--out", "c")
    drawn = {name: [os.path.basename(line) for line in run("plot", name).splitlines()] for name in "abc"}
    assert drawn["a"] == ["history.png"] and drawn["b"] == ["history.png", "confusion.png"]
    assert drawn["c"] == ["history.png", "filters.png", "confusion.png", "feature_maps.png"]
    text = run("info", "a")
    assert "mlp 5-64-32-1" in text and "district=north" in text and "the median, " in text
    assert json.loads(run("info", "c", "--json"))["config"]["data"] == "images"


def test_help_names_what_there_is(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = capsys.readouterr().out
    for word in ("--data", "table", ".npy", "--target", "fastnn predict", "OneCycleLR", "adam", "--early-stopping"):
        assert word in text


def test_the_commands_of_the_readme_work(run):
    readme = (Path(__file__).resolve().parent.parent / "README.md").read_text()
    (block,) = re.findall(r"<!-- own data -->\n```sh\n(.*?)```", readme, re.DOTALL)
    commands = [shlex.split(line) for line in block.splitlines()]
    assert [command[:2] for command in commands] == [["fastnn", "train"], ["fastnn", "predict"]]
    for name, columns in (("houses.csv", slice(1, 5)), ("new.csv", slice(1, 4))):
        rows = [line.split(",")[columns] for line in Path(houses(name)).read_text().splitlines()]
        Path(name).write_text("".join(",".join(row) + "\n" for row in rows))
    for _, *words in commands:
        run(*words)
    assert len(rows_of("predictions.csv")) == 200


# ---- used wrongly ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "none.csv"], "--data: 'none.csv' is neither one of the sets digits, mnist and cifar10 nor a file"),
        (["--data", ""], "--data: '' is neither one of the sets digits, mnist and cifar10 nor a file or folder"),
        (["--data", "houses.csv"], "--target: say which column is to be predicted; houses.csv has id, rooms, area"),
        (
            ["--data", "houses.csv", "--target", "cost"],
            "houses.csv: there is no column 'cost'; the columns are id, rooms",
        ),
        (["--data", "houses.csv", "--target", "price"], "houses.csv, column 'id': 200 different texts in 200 rows"),
        ([*PRICE, "x.csv"], "unrecognized arguments: x.csv"),
        (
            ["--data", "houses.csv", "x.csv", "--target", "price"],
            "--data: one file or folder is expected, got houses.csv",
        ),
        (["--data", "x.npy"], "--data: two .npy files, of inputs and of targets, are expected, got x.npy"),
        (["--data", "x.doc"], "--data: x.doc is no table (.csv, .tsv, .txt), no .npy or .npz file, and no folder"),
        (["--data", "empty"], "fastnn: error: expected a subfolder for each class in empty"),
        (["--data", "x.npy", "short.npy"], "short.npy: holds an array of shape (3,), and x.npy 120 samples"),
        (["--data", "x.npy", "y.npy", "--target", "price"], "--target: it goes with tables; leave it out"),
        (["--data", "x.npy", "y.npy", "--grey"], "--grey: it goes with folders of images; leave it out"),
        (["--data", "digits", "--target", "price"], "--target: it goes with data of your own, not with --data digits"),
        (["--task", "regression"], "--task: it goes with data of your own, not with the sets that are known by name"),
        ([*PRICE, "--data-dir", "."], "--data-dir: it goes with sets that are known by name"),
        ([*PRICE, "--model", "cnn"], "--model cnn: it takes images, and a sample here has 5 features; use mlp"),
        ([*PRICE, "--crops"], "--crops: it goes with images, and a sample here has 5 features"),
        ([*PRICE, "--val-fraction", "1"], "--val-fraction: expected a number above 0 and below 1, got '1'"),
        ([*PRICE, "--val-fraction", "0.999"], "houses.csv: 200 samples, of which 200 are to be held out"),
        ([*PRICE, "--early-stopping", "0"], "--early-stopping: expected an integer from 1, got '0'"),
        ([*PRICE, "--schedule", "Step"], "--schedule: 'Step' is none of cosine, constant, InverseTimeLR"),
        ([*PRICE, "--schedule", "StepLR", "0.5"], "expected settings such as gamma=0.5 after StepLR, got '0.5'"),
        ([*PRICE, "--schedule", "StepLR", "size=5"], "--schedule StepLR: got an unexpected keyword argument 'size'"),
        ([*PRICE, "--schedule", "StepLR", "step_size=0"], "--schedule StepLR: step_size must be an int of at least 1"),
        ([*PRICE, "--schedule", "cosine", "x=1"], "--schedule: cosine has no settings, got x"),
        ([*PRICE, "--optimizer", "rprop", "--weight-decay", "0.1"], "--weight-decay: --optimizer rprop has none"),
        ([*PRICE, "--drop", "price"], "column 'price' is in both target and drop"),
        ([*PRICE, "--drop", "id,"], "--drop: expected names of columns such as id,name; got 'id,'"),
        ([*PRICE, "--delimiter", ";;"], "delimiter must be one character"),
        ([*PRICE, "--image-size", "1,2,3"], "--image-size: expected a height and a width such as 64,64"),
        ([*PRICE, "--out", "."], "--out: . exists already"),
    ],
)
def test_wrong_options_give_one_clear_line_and_no_run(fails, folder, options, message):
    houses()
    x, y = arrays()
    for name, array in (("x.npy", x), ("y.npy", y), ("short.npy", y[:3])):
        np.save(name, array)
    (folder / "x.doc").write_text("")
    (folder / "empty").mkdir()
    before = sorted(os.listdir())
    assert message in fails("train", *options)
    assert sorted(os.listdir()) in (before, sorted([*before, "cache"]))


def edited(line, cells):
    with open(houses()) as file:
        lines = file.read().splitlines()
    lines[line - 1] = cells
    with open("houses.csv", "w") as file:
        file.write("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ("h1,2,40,north,100", "houses.csv, line 57: 5 cells, where the first line has 6 columns"),
        ("h1,two,40,north,100,no", "houses.csv, line 57, column 'rooms': 'two' is no number, as "),
        ("h1,2,inf,north,100,no", "houses.csv, line 57, column 'area': 'inf' is no finite number"),
        ("h1,2,40,north,,no", "houses.csv, line 57, column 'price': the target is missing"),
        ("h1,2,40,north,cheap,no", "houses.csv, line 57, column 'price': 'cheap' is no number"),
        ('h1,2,40,"north,1,no', "houses.csv, line 57: unexpected end of data"),
    ],
)
def test_a_wrong_cell_is_named_by_file_line_and_column(fails, cells, message):
    edited(57, cells)
    assert message in fails("train", *PRICE)
    assert not os.path.exists("runs")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rooms,district\n2,north\n", "new.csv: there is no column 'area'; the columns are rooms, district"),
        ("rooms,area,district\n2,x,north\n", "new.csv, line 2, column 'area': 'x' is no number"),
        ("rooms,area,district\n2,4e99,north\n", "new.csv, line 2, column 'area': 4e+99 is not finite, or too far"),
        ("rooms,area,district\n", "new.csv: it names columns, and there are no rows below"),
        ("", "new.csv: the file is empty"),
    ],
)
def test_new_rows_that_do_not_fit_are_named(run, fails, text, message):
    houses()
    run("train", *PRICE, "--epochs", 1, "--out", "r")
    with open("new.csv", "w") as file:
        file.write(text)
    assert message in fails("predict", "r", "new.csv", "--out", "p.csv")
    assert not os.path.exists("p.csv")


def test_predict_and_eval_used_wrongly_say_so(run, fails):
    houses()
    run("train", *PRICE, "--epochs", 1, "--out", "r")
    assert "none.csv: No such file" in fails("predict", "r", "none.csv")
    assert "one file is read, got 2" in fails("predict", "r", "houses.csv", "houses.csv")
    assert "--samples: expected a part of the 200 samples" in fails("predict", "r", "houses.csv", "--samples", "9:999")
    assert "--split: houses.csv has no test set" in fails("eval", "r", "--split", "test").replace(os.getcwd() + "/", "")
    assert "--split: it goes with the run's own data" in fails("eval", "r", "houses.csv", "--split", "train")
    assert "the run was trained on table, and this is arrays" in fails("eval", "r", np_file("x.npy"), np_file("y.npy"))
    assert "--data-dir: the run has data of your own" in fails("eval", "r", "--data-dir", ".")
    with open("new.csv", "w") as file:
        file.write("rooms,area,district\n2,40,north\n")
    assert "new.csv: there is no column 'price'" in fails("eval", "r", "new.csv")
    for option in (
        ["--target", "area"],
        ["--early-stopping", 3],
        ["--class-weight", "balanced"],
        ["--schedule", "StepLR"],
    ):
        assert f"{option[0]}: the run of --resume has its own" in fails(
            "train", "--resume", "r", *option, "--epochs", 2
        )


def np_file(name):
    np.save(name, np.zeros((3, 2)))
    return name


def test_a_recipe_that_is_missing_or_damaged_or_of_another_network_is_named(run, fails, folder):
    houses()
    run("train", *PRICE, "--epochs", 1, "--out", "r")
    recipe = folder / "r" / "recipe.json"
    values = json.loads(recipe.read_text())
    commands = (["eval", "r"], ["predict", "r", "houses.csv"], ["info", "r"], ["bench", "r"])
    for text in ("", "{", "[]", "[" * 100_000, json.dumps({**values, "columns": []}), None):
        recipe.unlink() if text is None else recipe.write_text(text)
        for command in (*commands, ["train", "--epochs", "5", "--resume", "r"]):
            assert "recipe.json" in fails(*command)
    for change in (
        {"columns": values["columns"][:1]},
        {"columns": [*values["columns"], {**values["columns"][0], "name": "z"}]},
    ):
        recipe.write_text(json.dumps({**values, **change}))
        for command in commands:
            assert ".safetensors holds" in fails(*command)


@pytest.mark.parametrize("change", [{"model": "cnn"}, {"shifts": True}, {"crops": True}, {"class_weight": [1.0, 2.0]}])
def test_a_configuration_that_does_not_fit_its_recipe_is_named(run, fails, folder, change):
    houses()
    run("train", *PRICE, "--epochs", 1, "--out", "r")
    path = folder / "r" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    for command in (["eval", "r"], ["predict", "r", "houses.csv"], ["train", "--epochs", "5", "--resume", "r"]):
        assert "config.json: " in fails(*command)


@pytest.mark.parametrize("kind", ["table", "images"])
def test_data_that_only_the_configuration_names_are_not_read(run, fails, folder, monkeypatch, kind):
    data = houses() if kind == "table" else pictures("shots")
    run("train", *(PRICE if kind == "table" else ["--data", data]), "--epochs", 1, "--out", "r")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "another home"))
    for command in (["eval", "r"], ["predict", "r"], ["train", "--epochs", "2", "--resume", "r"]):
        line = fails(*command)
        assert "config.json names the data " in line and data in line and "say so with --data" in line
    assert run("predict", "r", data if kind == "table" else f"{data}/dark")
    expected = run("eval", "r", "--data", data)
    assert run("eval", "r") == expected
    shutil.rmtree(folder / "another home")
    fails("eval", "r")
    config = json.loads((folder / "r" / "config.json").read_text())
    shutil.move(data, folder / "r" / data)
    (folder / "r" / "config.json").write_text(json.dumps({**config, "files": [str(folder / "r" / data)]}))
    assert run("eval", "r") == expected


def test_predictions_replace_a_file_as_a_whole_or_not_at_all(run, fails, folder, monkeypatch):
    houses()
    run("train", *PRICE, "--epochs", 1, "--out", "r")
    (folder / "p.csv").write_text("before")
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        assert "p.csv: No space left on device" in fails("predict", "r", "houses.csv", "--out", "p.csv")
    assert (folder / "p.csv").read_text() == "before" and not list(folder.glob(".fastnn*"))
    run("predict", "r", "houses.csv", "--out", "p.csv")
    assert len(rows_of("p.csv")) == 200


def test_names_that_a_terminal_obeys_are_printed_harmlessly(run):
    with open("t.csv", "w") as file:
        file.write("a,b\n" + "".join(f"{i},{'x' if i % 2 else chr(27) + '[2J'}\n" for i in range(40)))
    run("train", "--data", "t.csv", "--target", "b", "--epochs", 1, "--out", "r")
    assert "\x1b" not in run("predict", "r") + run("info", "r")
