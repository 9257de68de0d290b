"""Callbacks: when they are called, and what those of fastnn do."""

import copy
import csv
import io
import math
import pickle
import sys

import numpy as np
import pytest
from test_train_trainer import XV, YV, Recorder, X, Y, make, weights

import fastnn as fn
from fastnn import nn, optim
from fastnn.train import callbacks
from fastnn.train.evaluation import Means
from fastnn.train.metrics import top_k


class Logs(callbacks.Callback):
    """Puts given values into the logs of the epochs."""

    def __init__(self, name, values):
        self.name, self.values = name, values

    def on_epoch_end(self, epoch, logs):
        logs[self.name] = self.values[epoch]


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_callbacks_are_called_in_the_order_of_events():
    recorder = Recorder()
    make().fit((X, Y), epochs=2, batch_size=50, callbacks=[recorder], verbose=False)
    epoch = [["epoch 0", "batch 0", "batch 1", "epoch 0 end"]]
    epoch += [["epoch 1", "batch 0", "batch 1", "epoch 1 end"]]
    assert recorder.calls == ["train begin", *epoch[0], *epoch[1], "train end", "close"]


def test_callbacks_are_closed_after_an_error():
    recorder = Recorder()
    with pytest.raises(ValueError):
        make().fit((X, Y + 5), callbacks=[recorder], verbose=False)
    assert recorder.calls == ["train begin", "epoch 0", "close"]


def test_the_logs_of_a_batch_are_means_so_far():
    seen = []
    watch = callbacks.LambdaCallback(on_batch_end=lambda batch, logs: seen.append(logs))
    trainer = make()
    history = trainer.fit((X, Y), batch_size=50, callbacks=[watch], verbose=False).history
    assert list(seen[0]) == ["loss", "accuracy"]
    assert seen[-1]["loss"] == history["loss"][0]


def test_a_callback_can_stop_training():
    def stop(epoch, logs):
        trainer.stop_training = epoch == 2

    trainer = make()
    history = trainer.fit((X, Y), epochs=9, callbacks=[callbacks.LambdaCallback(on_epoch_end=stop)], verbose=False)
    assert history.epoch == [0, 1, 2]


@pytest.mark.parametrize("functions", [{"on_epoch": print}, {"on_epoch_end": 3}, {"close": print}])
def test_a_lambda_callback_refuses_what_is_no_event(functions):
    with pytest.raises(TypeError, match=next(iter(functions))):
        callbacks.LambdaCallback(**functions)


def test_history_holds_a_list_for_each_log():
    history = make().fit((X, Y), validation_data=(XV, YV), epochs=3, verbose=False)
    names = ["loss", "accuracy", "val_loss", "val_accuracy", "samples_per_second"]
    assert list(history.history) == names
    assert [len(values) for values in history.history.values()] == [3] * 5
    assert history.epoch == [0, 1, 2]


# ---- CSVLogger ---------------------------------------------------------------------------------


def test_a_csv_file_holds_the_history(tmp_path):
    path = tmp_path / "h.csv"
    history = make().fit((X, Y), epochs=3, callbacks=[callbacks.CSVLogger(path)], verbose=False).history
    rows = read(path)
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [float(row["loss"]) for row in rows] == history["loss"]
    assert list(rows[0]) == ["epoch", *history]


def test_each_line_is_in_the_file_when_its_epoch_ends(tmp_path):
    path, lines = tmp_path / "h.csv", []
    count = callbacks.LambdaCallback(on_epoch_end=lambda *_: lines.append(len(read(path))))
    make().fit((X, Y), epochs=3, callbacks=[callbacks.CSVLogger(path), count], verbose=False)
    assert lines == [1, 2, 3]


def test_another_training_begins_the_csv_file_anew(tmp_path):
    path = tmp_path / "h.csv"
    logger, trainer = callbacks.CSVLogger(path), make()
    trainer.fit((X, Y), epochs=3, callbacks=[logger], verbose=False)
    trainer.fit((X, Y), epochs=2, callbacks=[logger], verbose=False)
    assert len(read(path)) == 2


def test_a_log_that_appears_late_gets_a_column(tmp_path):
    class Late(callbacks.Callback):
        def on_epoch_end(self, epoch, logs):
            if epoch == 1:
                logs["extra"] = 7.0
                self.trainer.history.history["extra"] = [7.0]

    path = tmp_path / "h.csv"
    make().fit((X, Y), epochs=2, callbacks=[Late(), callbacks.CSVLogger(path)], verbose=False)
    assert [row["extra"] for row in read(path)] == ["", "7.0"]


# ---- ProgressBar -------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_without_a_terminal_there_is_a_plain_line_an_epoch(capsys):
    make().fit((X, Y), validation_data=(XV, YV), epochs=2)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("epoch 2/2  loss ")
    for part in ("accuracy", "val_loss", "val_accuracy", "samples/s"):
        assert part in lines[0]


def test_a_terminal_shows_a_bar_and_then_the_line():
    out = Terminal()
    make().fit((X, Y), epochs=2, callbacks=[callbacks.ProgressBar(out)])
    text = out.getvalue()
    assert "epoch 1/2:" in text and "\r" in text
    assert sum(line.strip("\r ").startswith("epoch 2/2  loss ") for line in text.split("\r")) == 1


@pytest.mark.parametrize("verbose", [False, 0, np.int64(0)])
def test_verbose_false_prints_nothing(capsys, verbose):
    make().fit((X, Y), verbose=verbose)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("verbose", "bar"), [(True, True), (1, True), (2, False)])
def test_verbose_is_kerass_1_a_bar_and_2_a_line_an_epoch(monkeypatch, verbose, bar):
    out = Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    make().fit((X, Y), epochs=2, verbose=verbose)
    text = out.getvalue()
    assert ("epoch 1/2:" in text) is bar
    assert sum(line.strip("\r ").startswith("epoch 2/2  loss ") for line in text.replace("\n", "\r").split("\r")) == 1


@pytest.mark.parametrize(("verbose", "error"), [(3, ValueError), (-1, ValueError), ("2", TypeError), (1.0, TypeError)])
def test_another_verbose_is_refused(verbose, error):
    trainer = make()
    with pytest.raises(error, match=r"^verbose must be an int from 0 to 2"):
        trainer.fit((X, Y), verbose=verbose)
    assert trainer.step == 0


def test_a_history_shows_how_many_epochs_it_has_and_how_the_last_ended():
    assert repr(callbacks.History()) == "History(0 epochs)"
    history = make().fit((X, Y), validation_data=(XV, YV), epochs=2, verbose=0)
    logs = {name: values[-1] for name, values in history.history.items()}
    names = ("loss", "accuracy", "val_loss", "val_accuracy")
    assert repr(history) == f"History(2 epochs, {', '.join(f'{name} {logs[name]:.4g}' for name in names)})"


# ---- EarlyStopping -----------------------------------------------------------------------------


def stopped_after(values, monitor="val_loss", **settings):
    stopping = callbacks.EarlyStopping(monitor, **settings)
    chain = [Logs(monitor, values), stopping, callbacks.TerminateOnNaN("ignore")]
    trainer = make()
    return len(trainer.fit((X, Y), epochs=len(values), callbacks=chain, verbose=False).epoch)


@pytest.mark.parametrize(
    ("values", "settings", "epochs"),
    [
        ([3, 2, 1, 0.5], {}, 4),
        ([3, 2, 2, 1], {}, 3),
        ([3, 2, 2, 1, 1, 1, 0], {"patience": 2}, 6),
        ([3, 2, 2.5, 2.5, 1], {"patience": 2}, 4),
        ([3, 2.9, 2.8, 1], {"min_delta": 0.5, "patience": 2}, 3),
        ([3, math.nan, math.inf, 1], {"patience": 2}, 3),
        ([1, 2, 3, 3], {"mode": "max"}, 4),
        ([0.5, 0.6, 0.55, 0.9], {"monitor": "val_accuracy"}, 3),
        ([0.5, 0.6, 0.55, 0.9], {"monitor": "top_5"}, 3),
        ([0.5, 0.6, 0.4], {"monitor": "val_accuracy", "mode": "min"}, 2),
    ],
)
def test_early_stopping_waits_for_an_improvement(values, settings, epochs):
    assert stopped_after(values, **settings) == epochs


def test_early_stopping_returns_to_the_best_weights():
    kept = []
    chain = [
        callbacks.LambdaCallback(on_epoch_end=lambda *_: kept.append(weights(trainer))),
        Logs("val_loss", [3, 1, 2, 2, 2]),
        callbacks.EarlyStopping(patience=2, restore_best=True),
    ]
    trainer = make()
    trainer.fit((X, Y), epochs=5, callbacks=chain, verbose=False)
    assert len(kept) == 4
    np.testing.assert_array_equal(weights(trainer), kept[1])


def test_the_best_weights_return_when_training_ends_in_time_too():
    kept = []
    chain = [
        callbacks.LambdaCallback(on_epoch_end=lambda *_: kept.append(weights(trainer))),
        Logs("val_loss", [1, 2]),
        callbacks.EarlyStopping(patience=5, restore_best=True),
    ]
    trainer = make()
    trainer.fit((X, Y), epochs=2, callbacks=chain, verbose=False)
    np.testing.assert_array_equal(weights(trainer), kept[0])


def test_a_log_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(ValueError, match=r"'val_loss'.*loss, accuracy"):
        make().fit((X, Y), callbacks=[callbacks.EarlyStopping()], verbose=False)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"monitor": 3}, TypeError),
        ({"patience": -1}, ValueError),
        ({"patience": 1.5}, TypeError),
        ({"min_delta": -1}, ValueError),
        ({"mode": "best"}, ValueError),
        ({"restore_best": 1}, TypeError),
    ],
)
def test_early_stopping_refuses_wrong_settings(settings, error):
    with pytest.raises(error, match=next(iter(settings))):
        callbacks.EarlyStopping(**settings)


# ---- LearningRateScheduler ---------------------------------------------------------------------


def test_a_schedule_sets_the_rate_of_each_epoch():
    rates = []
    chain = [
        callbacks.LearningRateScheduler(lambda epoch: 0.1 / (epoch + 1)),
        callbacks.LambdaCallback(on_epoch_end=lambda *_: rates.append(trainer.optimizer.lr)),
    ]
    trainer = make()
    trainer.fit((X, Y), epochs=3, callbacks=chain, verbose=False)
    assert rates == [0.1, 0.05, 0.1 / 3]


def test_a_rate_of_zero_leaves_the_weights():
    trainer = make()
    before = weights(trainer)
    chain = [callbacks.LearningRateScheduler(lambda epoch: 0.0)]
    trainer.fit((X, Y), callbacks=chain, verbose=False)
    np.testing.assert_array_equal(weights(trainer), before)


def test_a_schedule_must_be_callable():
    with pytest.raises(TypeError, match="schedule"):
        callbacks.LearningRateScheduler(0.1)


def test_the_line_of_an_epoch_is_printed_when_all_is_saved(tmp_path):
    path, epochs = tmp_path / "c.safetensors", []

    class Out(io.StringIO):
        def write(self, text):
            if text.startswith("epoch"):
                epochs.append(fn.train.checkpoint.read_checkpoint(path)[0]["epoch"])
            return super().write(text)

    chain = [callbacks.ProgressBar(Out()), callbacks.ModelCheckpoint(path)]
    make().fit((X, Y), epochs=2, callbacks=chain)
    assert epochs == [1, 2]


# ---- ModelCheckpoint ---------------------------------------------------------------------------


def test_a_checkpoint_is_there_from_the_beginning_and_after_each_epoch(tmp_path):
    path, epochs = tmp_path / "c.safetensors", []

    class Watch(callbacks.ModelCheckpoint):  # sorted last, as all checkpoints
        def on_epoch_begin(self, epoch):
            epochs.append(fn.train.checkpoint.read_checkpoint(path)[0]["epoch"])

        def on_epoch_end(self, epoch, logs):
            pass

    chain = [callbacks.ModelCheckpoint(path), Watch(path)]
    make().fit((X, Y), epochs=3, callbacks=chain, verbose=False)
    assert epochs == [0, 1, 2]
    assert fn.train.checkpoint.read_checkpoint(path)[0]["epoch"] == 3


def test_only_the_best_epochs_are_saved_if_so_wished(tmp_path):
    path = tmp_path / "c.safetensors"
    kept = []
    trainer = make()
    chain = [
        callbacks.ModelCheckpoint(path, best_only=True),
        Logs("val_loss", [3, 1, 2]),
        callbacks.LambdaCallback(on_epoch_end=lambda *_: kept.append(weights(trainer))),
    ]
    trainer.fit((X, Y), epochs=3, callbacks=chain, verbose=False)
    assert fn.load_checkpoint(path, trainer.model)["epoch"] == 2
    np.testing.assert_array_equal(weights(trainer), kept[1])


def test_a_folder_that_is_missing_is_an_error_at_once(tmp_path):
    chain = [callbacks.ModelCheckpoint(tmp_path / "no" / "c.safetensors")]
    trainer = make()
    with pytest.raises(FileNotFoundError):
        trainer.fit((X, Y), callbacks=chain, verbose=False)
    assert trainer.step == 0


def test_schedules_and_optimizers_with_groups_share_the_rate():
    model = nn.Linear(2, 2)
    groups = [{"params": [model.weight]}, {"params": [model.bias], "lr": 0.5}]
    opt = optim.SGD(groups, lr=0.1)
    chain = [callbacks.LearningRateScheduler(lambda epoch: 0.2)]
    fn.Trainer(model, nn.CrossEntropyLoss(), opt).fit((X, Y), callbacks=chain, verbose=False)
    assert [group["lr"] for group in opt.param_groups] == [0.2, 0.2]


# ---- copies ------------------------------------------------------------------------------------


def schedule(epoch):
    return 0.1


def copies(value):
    return copy.deepcopy(value), pickle.loads(pickle.dumps(value))


def used(*chain, **arguments):
    """What a fit with these callbacks leaves, in the middle of an epoch."""
    trainer, taken = make(), []

    def take(batch, logs):
        if trainer.epoch == 1 and batch == 1:
            taken.extend(copies([trainer.history, *chain]))

    watch = callbacks.LambdaCallback(on_batch_end=take)
    trainer.fit((X, Y), (XV, YV), epochs=2, callbacks=[*chain, watch], **arguments)
    return trainer, [*taken, *copies([trainer.history, *chain])]


def test_a_history_in_use_can_be_copied_and_pickled():
    trainer, taken = used(verbose=False)
    for (history,), epochs in zip(taken, [[0], [0], [0, 1], [0, 1]], strict=True):
        assert type(history) is callbacks.History
        assert history.epoch == epochs
        assert history.history == {k: v[: len(epochs)] for k, v in trainer.history.history.items()}
        assert not hasattr(history, "trainer")


def test_callbacks_in_use_can_be_copied_and_pickled_with_settings_and_state(tmp_path):
    chain = [
        callbacks.EarlyStopping(patience=3, restore_best=True),
        callbacks.ModelCheckpoint(tmp_path / "c.safetensors", best_only=True, monitor="loss"),
        callbacks.CSVLogger(tmp_path / "h.csv"),
        callbacks.LearningRateScheduler(schedule),
        callbacks.TerminateOnNaN("stop"),
        Recorder(),
    ]
    for _, *taken in used(*chain, verbose=False)[1][2:]:
        for own, other in zip(chain, taken, strict=True):
            kept = {name: value for name, value in vars(own).items() if name not in ("trainer", "_weights")}
            assert type(other) is type(own)
            assert {name: value for name, value in vars(other).items() if name != "_weights"} == kept
        for name, array in chain[0]._weights.items():
            np.testing.assert_array_equal(taken[0]._weights[name], array)
            assert taken[0]._weights[name] is not array
        make().fit((X, Y), (XV, YV), callbacks=taken, verbose=False)  # and they can be used on


def test_a_progress_bar_in_use_stays_behind(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setattr(sys, "stderr", Terminal())
    for stream in ("stdout", "stderr"):
        for _, bar in used(callbacks.ProgressBar(getattr(sys, stream)))[1]:
            assert bar.file is getattr(sys, stream)
            assert bar._bar is None
            make().fit((X, Y), callbacks=[bar])


def test_what_a_trainer_measures_can_be_copied_and_pickled():
    measures = make(metrics=["accuracy", top_k(2), "mean_squared_error"])._measures
    means = Means()
    means.add({"loss": (3.0, 2), "accuracy": (1.0, 2)}, 2)
    for twin in copies(means):
        assert twin.logs() == {"loss": 1.5, "accuracy": 0.5}
    for twin in copies(measures.metrics):
        assert list(twin) == ["accuracy", "top_2", "mean_squared_error"]
        assert twin["top_2"](np.array([[1.0, 2, 3]]), np.array([1])) == 1


def test_callbacks_hear_of_a_turn_in_the_order_of_their_classes(tmp_path, capsys):
    heard = []

    class Last(callbacks.Callback):
        order = 3

        def on_epoch_end(self, epoch, logs):
            heard.append(("last", (tmp_path / "model").exists(), "epoch" in capsys.readouterr().out))

    class First(callbacks.Callback):
        order = -1

        def on_epoch_end(self, epoch, logs):
            heard.append(("first", (tmp_path / "model").exists()))

    class Plain(callbacks.Callback):
        def on_epoch_end(self, epoch, logs):
            heard.append(("plain", (tmp_path / "model").exists()))

    saver = callbacks.ModelCheckpoint(tmp_path / "model", best_only=True, monitor="loss")
    make().fit((X, Y), callbacks=[Last(), saver, Plain(), First()], verbose=2)
    assert heard == [("first", False), ("plain", False), ("last", True, True)]
