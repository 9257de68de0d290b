"""What a Monitor measures, next to NumPy; and the same from checkpoints."""

import contextlib
import csv

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn, optim
from fastnn.train import Monitor, callbacks, measure_checkpoints
from fastnn.train.checkpoint import read_checkpoint

from interrupts import Interrupted, distinct, run

X, Y = fn.data.moons(40, seed=0)
ORDERED = dict(batch_size=8, shuffle=False, verbose=False)


def make(seed=0, dropout=0.2, **settings):
    fn.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(dropout), nn.Sequential(nn.Linear(8, 2), nn.Tanh())
    )
    return fn.Trainer(model, nn.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=0.05), **settings)


def bits(trainer):
    return b"".join(a.tobytes() for a in trainer.model.state_dict().values())


def test_looking_changes_nothing():
    trained = []
    for chain in ([], [Monitor(every=2, by="step", bins=5, log=FIGURES)]):
        trainer = make()
        history = trainer.fit((X, Y), (X, Y), epochs=3, batch_size=8, seed=0, callbacks=chain, verbose=False)
        trained.append((bits(trainer), history.history["val_loss"], fn.get_rng_state()))
    assert trained[0] == trained[1]


FIGURES = ("update_ratio", "dead")


def test_figures_of_weights_gradients_and_updates_are_those_of_the_step():
    trainer, monitor = make(), Monitor(every=3, by="step", bins=4)
    trainer.fit((X, Y), epochs=2, callbacks=[monitor], **ORDERED)
    found = monitor.measurements
    assert found.steps.tolist() == [3, 6, 9] and len(found) == 3

    twin = make()
    step, expected = fn.TrainStep(twin.model.train(), twin.loss, twin.optimizer), {}
    for number, i in enumerate([*range(0, 40, 8)] * 2, 1):
        before = {name: p.data.copy() for name, p in twin.model.named_parameters()}
        step(X[i : i + 8], Y[i : i + 8])
        if number % 3:
            continue
        for name, p in twin.model.named_parameters():
            values = {"weight": p.data, "gradient": p.grad, "update": p.data - before[name]}
            for kind, array in values.items():
                expected.setdefault((f"{kind}_mean", name), []).append(array.mean(dtype=np.float64))
                expected.setdefault((f"{kind}_std", name), []).append(array.std(dtype=np.float64))
                counts, edges = np.histogram(array, 4)
                got = found.histogram(kind, name)
                assert got[0].shape == (3, 4) and got[1].shape == (3, 5)
                if array.min() < array.max():
                    at = number // 3 - 1
                    np.testing.assert_array_equal(got[0][at], counts)
                    np.testing.assert_allclose(got[1][at], edges, rtol=1e-5, atol=1e-6)
            ratio = np.linalg.norm(values["update"]) / np.linalg.norm(p.data)
            expected.setdefault(("update_ratio", name), []).append(ratio)
    for (figure, name), values in expected.items():
        np.testing.assert_allclose(found[figure][name], values, rtol=1e-5, atol=1e-12)


def test_signals_are_those_of_the_batch_in_training_mode():
    trainer, monitor = make(dropout=0.0), Monitor(by="step", bins=3)
    trainer.fit((X, Y), callbacks=[monitor], **{**ORDERED, "batch_size": 40})
    layers = list(monitor.measurements["activation_mean"])
    assert layers == ["0", "1", "2", "4.0", "4.1"]  # of a container there is its last layer; without dropout, no "3"
    weight, bias = (trainer.model[0]._parameters[name].data for name in ("weight", "bias"))
    first = X @ weight.T + bias
    gamma, beta = (trainer.model[1]._parameters[name].data for name in ("weight", "bias"))
    second = (first - first.mean(0)) / np.sqrt(first.var(0) + 1e-5) * gamma + beta
    outputs = {"0": first, "1": second, "2": np.maximum(second, 0)}
    for name, output in outputs.items():
        assert monitor.measurements["activation_mean"][name] == pytest.approx(output.mean(), rel=1e-4, abs=1e-6)
        assert monitor.measurements["activation_std"][name] == pytest.approx(output.std(), rel=1e-4)
        assert monitor.measurements.histogram("activation", name)[0].sum() == output.size


@pytest.mark.parametrize("images", [False, True])
def test_dead_units_are_those_that_are_0_for_the_whole_batch(images):
    fn.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten()] if images else [nn.Linear(4, 4), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(16 if images else 4, 2))
    model[0].bias.data = np.array([-100, 100, -100, 100])
    x = np.random.default_rng(0).standard_normal((6, 1, 4, 4) if images else (6, 4)).astype(np.float32)
    trainer, monitor = fn.Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.0)), Monitor()
    trainer.fit((x, np.arange(6) % 2), callbacks=[monitor], verbose=False)
    dead = monitor.measurements["dead"]
    assert dead["0"] == [0] and dead["1"] == [0.5]


def test_by_epochs_the_first_update_of_each_is_measured():
    trainer, monitor = make(), Monitor(every=2)
    trainer.fit((X, Y), epochs=5, callbacks=[monitor], **ORDERED)
    assert monitor.measurements.steps.tolist() == [1, 11, 21]
    assert np.isfinite(monitor.measurements["update_ratio"]["0.weight"]).all()


def test_with_several_batches_an_update_updates_are_measured():
    trainer, monitor = make(accumulate=2), Monitor(by="step")
    trainer.fit((X, Y), epochs=2, callbacks=[monitor], **ORDERED)
    assert monitor.measurements.steps.tolist() == [1, 2, 3, 4, 5]
    assert (monitor.measurements["update_std"]["0.weight"] > 0).all()


def test_figures_go_to_the_logs_the_file_and_what_stops_early(tmp_path):
    trainer = make()
    monitor = Monitor(path=tmp_path / "layers.csv", log=["update_ratio", "dead"])
    stop = callbacks.EarlyStopping("dead/2", patience=3, mode="min")
    logger = callbacks.CSVLogger(tmp_path / "log.csv")
    history = trainer.fit((X, Y), epochs=9, callbacks=[monitor, stop, logger], **ORDERED)
    assert len(history.epoch) < 9
    measured = monitor.measurements
    rows = list(csv.DictReader((tmp_path / "log.csv").read_text().splitlines()))
    assert [float(row["update_ratio/0.weight"]) for row in rows] == measured["update_ratio"]["0.weight"].tolist()
    rows = list(csv.DictReader((tmp_path / "layers.csv").read_text().splitlines()))
    own = [row for row in rows if row["name"] == "0.weight"]
    assert [int(row["step"]) for row in own] == measured.steps.tolist()
    for figure in ("weight_mean", "gradient_std", "update_ratio"):
        assert [float(row[figure]) for row in own] == measured[figure]["0.weight"].tolist()
    assert own[0]["dead"] == "" and {row["name"] for row in rows} > {"0", "1", "2", "4.0"}


def test_a_model_with_inputs_by_name_is_measured():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(2, 2)

        def forward(self, *, left, right):
            return self.a(left).relu() + self.a(right)

    fn.manual_seed(0)
    model = Named()
    trainer, monitor = fn.Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1)), Monitor()
    trainer.fit(({"left": X, "right": X[::-1].copy()}, Y), callbacks=[monitor], verbose=False)
    assert list(monitor.measurements["activation_mean"]) == ["a", "a#2", ""]


@pytest.mark.parametrize("by", ["step", "epoch"])
def test_a_run_that_is_interrupted_anywhere_and_resumed_has_measured_what_the_whole_run_has(tmp_path, by):
    def begin(seed=0):
        trainer = make(seed)
        monitor = Monitor(every=2, by=by, bins=3, path=tmp_path / "m.csv", log=["weight_std"])
        given = dict(epochs=3, batch_size=16, seed=1, callbacks=[monitor], verbose=False)
        return trainer, monitor, lambda **more: trainer.fit((X, Y), **given, **more)

    def outcome(trainer, monitor):
        state = monitor.state_dict()
        tables = {k: v for k, v in state.items() if isinstance(v, np.ndarray)}
        return bits(trainer), tables

    trainer, monitor, fit = begin()
    fit()
    weights, tables = outcome(trainer, monitor)
    numbers, _ = distinct(begin()[2], 2, 12)
    for at in numbers[::3]:
        trainer, monitor, fit = begin()
        with contextlib.suppress(Interrupted):  # with a thread that makes batches, some runs end sooner than others
            run(fit, at)
        trainer.save_checkpoint(tmp_path / "stopped")
        trainer, monitor, fit = begin(7)
        fit(resume=tmp_path / "stopped")
        resumed, again = outcome(trainer, monitor)
        assert resumed == weights and again.keys() == tables.keys()
        for key, table in tables.items():
            missing = np.isnan(again[key]) & ~np.isnan(table)
            np.testing.assert_array_equal(again[key][~missing], table[~missing])
            if missing.any():  # of one measurement, which had no gradients and signals to look at any more
                assert missing.any(0 if "figure" in key else 1).sum() == 1
                assert any(word in key for word in ("gradient", "activation", "dead"))
        assert (tmp_path / "m.csv").read_text().startswith("step,name,weight_mean")


def test_the_same_figures_come_from_checkpoints_afterwards(tmp_path):
    trainer, monitor = make(dropout=0.0), Monitor(every=1, by="step", bins=4)
    keep = callbacks.ModelCheckpoint(tmp_path / "{step}", every=1, by="step")
    trainer.fit((X, Y), epochs=4, callbacks=[monitor, keep], **{**ORDERED, "batch_size": 40})
    model = make(9, dropout=0.0).model.train()
    before, random = model.state_dict(), fn.get_rng_state()
    paths = [tmp_path / str(step) for step in range(5)]
    found = measure_checkpoints(paths, model, X, Y, loss=nn.CrossEntropyLoss(), bins=4)
    assert fn.get_rng_state() == random
    assert all((before[name] == a).all() for name, a in model.state_dict().items())
    live = monitor.measurements
    assert found.steps.tolist() == [0, 1, 2, 3, 4] and live.steps.tolist() == [1, 2, 3, 4]
    for figure in ("weight_mean", "weight_std", "update_mean", "update_std", "update_ratio", "activation_mean", "dead"):
        for name, values in live[figure].items():
            np.testing.assert_array_equal(found[figure][name][1:], values)
    # The gradients of a step are those at the weights before it.
    for name, values in live["gradient_std"].items():
        np.testing.assert_allclose(found["gradient_std"][name][:-1], values, rtol=1e-4, atol=1e-7)
    assert np.isnan(found["update_ratio"]["0.weight"][0])
    plain = measure_checkpoints(paths[:2], model)
    assert not plain["activation_mean"] and not plain["gradient_mean"] and len(plain["weight_mean"]) == 6


def test_what_does_not_fit_is_refused(tmp_path):
    trainer = make()
    trainer.save_checkpoint(tmp_path / "c")
    other = nn.Linear(2, 2)
    for call, error, match in (
        (lambda: Monitor(every=0), ValueError, "every"),
        (lambda: Monitor(by="batch"), ValueError, "by"),
        (lambda: Monitor(bins=-1), ValueError, "bins"),
        (lambda: Monitor(log="dead"), TypeError, r"log=\['dead'\]"),
        (lambda: Monitor(log=["deaf"]), ValueError, "log"),
        (lambda: Monitor().measurements["deaf"], ValueError, "figure"),
        (lambda: Monitor().measurements.histogram("weight", "0.weight"), ValueError, "bins"),
        (lambda: measure_checkpoints([tmp_path / "c"], other), ValueError, "c does not fit Linear"),
        (lambda: measure_checkpoints(tmp_path / "c", trainer.model), TypeError, "list of files"),
        (lambda: measure_checkpoints([tmp_path / "d"], trainer.model), FileNotFoundError, "d"),
        (lambda: measure_checkpoints([], trainer.model, X, loss=nn.MSELoss()), ValueError, "target"),
    ):
        with pytest.raises(error, match=match):
            call()


def test_a_checkpoint_whose_measurements_are_damaged_is_refused(tmp_path):
    trainer, monitor = make(), Monitor(by="step", bins=2)
    trainer.fit((X, Y), callbacks=[monitor], **ORDERED)
    state = monitor.state_dict()
    monitor.check_state(state)
    for change in (
        {"steps": 3},
        {"names": None},
        {"figure/dead": np.zeros((1, 2))},
        {"figure/deaf": np.zeros((0, 5))},
        {"steps": np.full(5, np.inf)},
        {"names": {"dead": "0123"}},
        {"names": {}},
        {"histogram/weight/0.weight": np.zeros((5, 2))},
        {"histogram/weight/0.weight": np.zeros(3)},
        {"before/0.weight": np.zeros(3)},
        {"begun": 2},
    ):
        with pytest.raises((TypeError, ValueError)):
            monitor.check_state({**state, **change})


def test_checkpoints_by_steps_and_by_name(tmp_path):
    trainer = make()
    chain = [
        callbacks.ModelCheckpoint(tmp_path / "s{step:03d}", every=4, by="step"),
        callbacks.ModelCheckpoint(tmp_path / "e{epoch}", every=2),
        callbacks.ModelCheckpoint(tmp_path / "best", best_only=True, monitor="loss", by="step"),
    ]
    trainer.fit((X, Y), epochs=4, callbacks=chain, **ORDERED)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "best", "e0", "e2", "e4", "s000", "s004", "s008", "s012", "s016", "s020",
    ]  # fmt: skip
    content, _ = read_checkpoint(tmp_path / "s008")
    assert (content["step"], content["epoch"], content["loader"]["batch"]) == (8, 1, 3)
    second = make(5)
    second.fit((X, Y), epochs=4, resume=tmp_path / "s008", **ORDERED)
    assert bits(second) == bits(trainer)
    for pattern in ("{step", "{step:q}", "{epoch.x}", "{step}{other}"):
        with pytest.raises(ValueError, match=r"path: .* is no pattern of \{step\} and \{epoch\}"):
            callbacks.ModelCheckpoint(tmp_path / pattern)


class Losses(callbacks.Callback):
    """Puts figures into the logs, one an epoch."""

    def __init__(self, values):
        self.values = values

    def on_epoch_end(self, epoch, logs):
        logs["figure"] = self.values[epoch]


def stopped(values, **settings):
    trainer = make()
    stop = callbacks.EarlyStopping("figure", **{"mode": "min", **settings})
    chain = [Losses(values), stop]
    return len(trainer.fit((X, Y), epochs=len(values), callbacks=chain, **ORDERED).epoch), stop


def deep_learning_tutorial(values, patience, increase, threshold):
    """The loop of the tutorials of Bengio and others, with an epoch for an iteration."""
    best, done = np.inf, 0
    for iteration, value in enumerate(values, 1):
        done = iteration
        if value < best:
            if value < best * threshold:
                patience = max(patience, iteration * increase)
            best = value
        if patience <= iteration:
            break
    return done


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("patience", "increase", "threshold"), [(3, 2, 0.995), (5, 1.5, 0.9), (2, 2, 1.0)])
def test_patience_grows_as_in_the_deep_learning_tutorials(seed, patience, increase, threshold):
    rng = np.random.default_rng(seed)
    values = (np.exp(-np.arange(30) / 6) + 0.3 * rng.random(30)).tolist()
    settings = dict(patience=patience, patience_increase=increase, improvement_threshold=threshold)
    assert stopped(values, **settings)[0] == deep_learning_tutorial(values, **dict(
        patience=patience, increase=increase, threshold=threshold,
    ))  # fmt: skip
    # More is better: the same of what is missing from 0.
    assert stopped([-v for v in values], mode="max", **settings)[0] == stopped(values, **settings)[0]


def test_patience_that_has_grown_is_part_of_a_checkpoint(tmp_path):
    values = [1.0, 0.9, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]
    count, _ = stopped(values, patience=3, patience_increase=2)
    assert count == 6
    trainer = make()
    chain = [Losses(values), callbacks.EarlyStopping("figure", 3, mode="min", patience_increase=2)]
    trainer.fit((X, Y), epochs=4, callbacks=chain, **ORDERED)
    trainer.save_checkpoint(tmp_path / "c")
    second = make(3)
    chain = [Losses(values), callbacks.EarlyStopping("figure", 3, mode="min", patience_increase=2)]
    history = second.fit((X, Y), epochs=10, callbacks=chain, resume=tmp_path / "c", **ORDERED)
    assert len(history.epoch) == 6


@pytest.mark.parametrize("name", ["patience_increase", "improvement_threshold"])
def test_growth_that_is_none_is_refused(name):
    for value, error in ((-1, ValueError), ("2", TypeError)):
        with pytest.raises(error, match=name):
            callbacks.EarlyStopping(**{name: value})
