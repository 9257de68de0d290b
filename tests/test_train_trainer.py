"""fit, evaluate and predict."""

import signal
import threading
import time

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn, optim
from fastnn.data import ArrayDataset, DataLoader
from fastnn.train import callbacks
from fastnn.train.metrics import accuracy, mean_absolute_error, top_k

X, Y = fn.data.moons(100, seed=0)
XV, YV = fn.data.moons(30, seed=1)


def make(seed=0, dropout=0.0, optimizer=optim.SGD, metrics=("accuracy",), **settings):
    fn.manual_seed(seed)
    model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, 2))
    opt = optimizer(model.parameters(), **{"lr": 0.1, **settings})
    return fn.Trainer(model, nn.CrossEntropyLoss(), opt, metrics)


def weights(trainer):
    return np.concatenate([a.ravel() for a in trainer.model.state_dict().values()])


class Recorder(callbacks.Callback):
    """Writes down which methods were called."""

    def __init__(self):
        self.calls = []

    def on_train_begin(self):
        self.calls.append("train begin")

    def on_train_end(self):
        self.calls.append("train end")

    def on_epoch_begin(self, epoch):
        self.calls.append(f"epoch {epoch}")

    def on_epoch_end(self, epoch, logs):
        self.calls.append(f"epoch {epoch} end")

    def on_batch_end(self, batch, logs):
        self.calls.append(f"batch {batch}")

    def close(self):
        self.calls.append("close")


# ---- fit ---------------------------------------------------------------------------------------


def test_fit_learns():
    trainer = make(momentum=0.9)
    history = trainer.fit((X, Y), validation_data=(XV, YV), epochs=60, verbose=False)
    assert history.history["accuracy"][-1] > 0.97
    assert history.history["val_accuracy"][-1] > 0.95
    assert history.history["loss"][-1] < history.history["loss"][0] / 3


def test_fit_is_a_loop_of_train_steps():
    trainer = make(dropout=0.3, momentum=0.9)
    trainer.fit((X, Y), epochs=3, batch_size=16, seed=5, verbose=False)

    twin = make(dropout=0.3, momentum=0.9)
    step = fn.TrainStep(twin.model, twin.loss, twin.optimizer)
    loader = DataLoader((X, Y), batch_size=16, shuffle=True, seed=5)
    for _ in range(3):
        for xb, yb in loader:
            step(xb, yb)
    np.testing.assert_array_equal(weights(trainer), weights(twin))


def test_metrics_do_not_change_training():
    trained = []
    for metrics in ([], ["accuracy", top_k(1)]):
        trainer = make(dropout=0.3, metrics=metrics)
        trainer.fit((X, Y), epochs=2, seed=0, verbose=False)
        trained.append(weights(trainer))
    np.testing.assert_array_equal(*trained)


def test_validation_does_not_change_training():
    trained = []
    for validation in (None, (XV, YV)):
        trainer = make(dropout=0.3)
        trainer.fit((X, Y), validation_data=validation, epochs=2, seed=0, verbose=False)
        trained.append(weights(trainer))
    np.testing.assert_array_equal(*trained)


def test_arrays_a_dataset_and_a_loader_are_trained_on_alike():
    trained = []
    for data in ((X, Y), [X, Y], ArrayDataset(X, Y), DataLoader((X, Y), 16, True, seed=3)):
        trainer = make()
        given = {} if isinstance(data, DataLoader) else {"batch_size": 16, "seed": 3}
        trainer.fit(data, epochs=2, verbose=False, **given)
        trained.append(weights(trainer))
    for other in trained[1:]:
        np.testing.assert_array_equal(trained[0], other)


def test_the_order_follows_from_manual_seed_unless_a_seed_is_given():
    def train(seed_of_all, seed):
        trainer = make(seed=seed_of_all)
        for p in trainer.model.parameters():
            p.data = np.full(p.shape, 0.1, np.float32) * np.arange(1, 1 + p.size).reshape(p.shape)
        trainer.fit((X, Y), epochs=1, seed=seed, verbose=False)
        return weights(trainer)

    assert (train(1, None) == train(1, None)).all()
    assert (train(1, None) != train(2, None)).any()
    assert (train(1, 7) == train(2, 7)).all()


def test_without_shuffle_the_data_come_as_they_stand():
    trainer = make()
    trainer.fit((X, Y), batch_size=16, shuffle=False, verbose=False)
    twin = make()
    step = fn.TrainStep(twin.model, twin.loss, twin.optimizer)
    for i in range(0, 100, 16):
        step(X[i : i + 16], Y[i : i + 16])
    np.testing.assert_array_equal(weights(trainer), weights(twin))


def test_the_smaller_last_batch_counts_by_its_size():
    trainer = make(lr=0.0)
    logs = trainer.fit((X, Y), batch_size=64, verbose=False).history
    whole = trainer.evaluate((X, Y), batch_size=100)
    assert logs["loss"][0] == pytest.approx(whole["loss"], rel=1e-6)
    assert logs["accuracy"][0] == pytest.approx(whole["accuracy"], rel=1e-12)


def test_the_smaller_last_batch_needs_no_plan_of_its_own():
    trainer = make()
    trainer.fit((X, Y), validation_data=(XV, YV), batch_size=64, epochs=3, verbose=False)
    assert trainer._train_step._programs.count() == 1


def test_initial_epoch_goes_on_where_a_shorter_fit_ended():
    once = make(momentum=0.9)
    once.fit((X, Y), epochs=4, seed=2, verbose=False)
    twice = make(momentum=0.9)
    twice.fit((X, Y), epochs=2, seed=2, verbose=False)
    history = twice.fit((X, Y), epochs=4, initial_epoch=2, seed=2, verbose=False)
    assert history.epoch == [2, 3]
    np.testing.assert_array_equal(weights(once), weights(twice))


def test_several_inputs_come_before_the_target():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(1, 2), nn.Linear(1, 2)

        def forward(self, x, y):
            return self.a(x) + self.b(y)

    fn.manual_seed(0)
    model = Sum()
    opt = optim.SGD(model.parameters(), lr=0.5)
    trainer = fn.Trainer(model, nn.CrossEntropyLoss(), opt)
    inputs = X[:, :1].copy(), X[:, 1:].copy()
    history = trainer.fit((*inputs, Y), epochs=20, seed=0, verbose=False).history
    assert history["accuracy"][-1] > 0.8
    assert trainer.predict(inputs).shape == (100, 2)


def test_a_regression_trains_with_errors_as_metrics():
    fn.manual_seed(0)
    model = nn.Linear(2, 1)
    opt = optim.SGD(model.parameters(), lr=0.1)
    trainer = fn.Trainer(model, nn.MSELoss(), opt, [mean_absolute_error, "mean_squared_error"])
    target = X @ np.array([[1], [-2]], np.float32) + 3
    logs = trainer.fit((X, target), epochs=30, seed=0, verbose=False).history
    assert logs["mean_absolute_error"][-1] < 0.1
    assert logs["mean_squared_error"] == pytest.approx(logs["loss"], rel=1e-5)


def test_each_module_has_its_own_mode_again():
    trainer = make(dropout=0.5)
    model = trainer.model
    seen = []
    watch = callbacks.LambdaCallback(on_batch_end=lambda *_: seen.append(model[2].training))
    model.eval()
    model[0].train()
    trainer.fit((X, Y), validation_data=(XV, YV), epochs=2, callbacks=[watch], verbose=False)
    trainer.evaluate((X, Y))
    trainer.predict(X)
    assert all(seen) and seen
    assert [m.training for m in model] == [True, False, False, False]


def test_modes_are_restored_after_an_error():
    trainer = make()
    trainer.model.eval()
    with pytest.raises(ValueError):
        trainer.fit((X, np.full(100, 2)), verbose=False)
    assert not any(m.training for m in trainer.model.modules())


def test_samples_a_second_leave_validation_out(monkeypatch):
    trainer = make()
    evaluate = trainer.evaluate

    def slow(*args):
        time.sleep(0.5)
        return evaluate(*args)

    monkeypatch.setattr(trainer, "evaluate", slow)
    trainer.fit((X, Y), validation_data=(XV, YV), verbose=False)
    trainer.fit((X, Y), validation_data=(XV, YV), verbose=False)
    assert trainer.history.history["samples_per_second"][0] > 100 / 0.5


def test_a_keyboard_interrupt_leaves_a_model_that_trains_on():
    trainer = make()

    def interrupt(batch, logs):
        if batch == 2:
            signal.raise_signal(signal.SIGINT)

    recorder = Recorder()
    chain = [callbacks.LambdaCallback(on_batch_end=interrupt), recorder]
    with pytest.raises(KeyboardInterrupt):
        trainer.fit((X, Y), callbacks=chain, batch_size=10, verbose=False)
    assert recorder.calls[-1] == "close"
    assert "train end" not in recorder.calls
    assert trainer.step == 3
    trainer.fit((X, Y), batch_size=10, verbose=False)
    assert trainer.step == 13


# ---- evaluate and predict ----------------------------------------------------------------------


def test_evaluate_gives_the_same_for_any_batch_size():
    trainer = make(dropout=0.5, metrics=["accuracy", top_k(2)])
    results = [trainer.evaluate((X, Y), batch_size=n) for n in (1, 33, 100, 1000)]
    assert list(results[0]) == ["loss", "accuracy", "top_2"]
    for other in results[1:]:
        assert other == pytest.approx(results[0], rel=1e-6)
    output = trainer.predict(X)
    assert results[0]["accuracy"] == pytest.approx(accuracy(output, Y))
    picked = output[np.arange(100), Y].astype(float)
    loss = np.log(np.exp(output.astype(float)).sum(1)) - picked
    assert results[0]["loss"] == pytest.approx(loss.mean(), rel=1e-6)


LOGITS = np.random.default_rng(2).standard_normal((20, 5)).astype(np.float32)
CLASSES = np.random.default_rng(3).integers(0, 5, 20)
CLASSES[:7] = -100  # a whole batch of 7, and of 1
WEIGHTS = np.array([0.1, 3, 1, 0.5, 2], np.float32)


METRICS = ("accuracy", top_k(2))


def identity(loss, metrics=METRICS):
    """A trainer whose model gives back its input."""
    model = nn.Linear(5, 5, bias=False)
    model.weight.data = np.eye(5, dtype=np.float32)
    return fn.Trainer(model, loss, optim.SGD(model.parameters(), lr=0.0), metrics)


@pytest.mark.parametrize("batch_size", [1, 7, 19, 20])
@pytest.mark.parametrize("settings", [{}, {"weight": WEIGHTS}, {"reduction": "sum"}, {"ignore_index": 3}])
def test_a_mean_over_batches_is_that_of_the_whole_set(settings, batch_size):
    loss = nn.CrossEntropyLoss(**settings)
    target = np.where(CLASSES == -100, loss.ignore_index, CLASSES)
    trainer = identity(loss)
    with np.errstate(all="raise"):
        counted = target != loss.ignore_index
        expected = {
            "loss": pytest.approx(loss(LOGITS, target), rel=1e-6),
            "accuracy": pytest.approx(accuracy(LOGITS[counted], target[counted]), rel=1e-12),
            "top_2": pytest.approx(top_k(2)(LOGITS[counted], target[counted]), rel=1e-12),
        }
    assert trainer.evaluate((LOGITS, target), batch_size) == expected
    history = trainer.fit((LOGITS, target), (LOGITS, target), batch_size=batch_size, verbose=False).history
    for name, value in expected.items():
        assert history[name] == [value]
        assert history[f"val_{name}"] == [value]


def test_pixels_that_are_ignored_weigh_nothing():
    images = np.random.default_rng(0).standard_normal((6, 3, 4, 4)).astype(np.float32)
    target = np.random.default_rng(1).integers(0, 3, (6, 4, 4))
    target[0] = target[1, 1:] = target[4, :, 2] = 255
    model = nn.Conv2d(3, 3, 1)
    trainer = fn.Trainer(model, nn.CrossEntropyLoss(ignore_index=255), optim.SGD(model.parameters()))
    whole = trainer.evaluate((images, target), batch_size=6)
    counted = np.concatenate([(model(images).argmax(1) == target)[target != 255]])
    assert whole["accuracy"] == pytest.approx(counted.mean(), rel=1e-12)
    for batch_size in (1, 4):
        assert trainer.evaluate((images, target), batch_size) == pytest.approx(whole, rel=1e-6)


def test_a_set_of_which_nothing_counts_is_nan_and_said_to_be():
    trainer = identity(nn.CrossEntropyLoss())
    with pytest.warns(RuntimeWarning, match="loss and accuracy and top_2 of 7 samples: nothing counts"):
        logs = trainer.evaluate((LOGITS[:7], CLASSES[:7]))
    assert np.isnan(list(logs.values())).all()


def test_a_loss_and_a_metric_of_ones_own_count_by_samples():
    def first(output, target):
        return output[:, 0].mean()

    def loss(output, target):
        return (output * output).mean()

    trainer = identity(loss, [first])
    whole = trainer.evaluate((LOGITS, LOGITS), batch_size=20)
    assert whole["first"] == pytest.approx(LOGITS[:, 0].mean(), rel=1e-5)
    for batch_size in (1, 7):
        assert trainer.evaluate((LOGITS, LOGITS), batch_size) == pytest.approx(whole, rel=1e-5)


def test_a_metric_that_is_no_number_is_named():
    def nothing(output, target):
        return None

    with pytest.raises(TypeError, match="nothing gave None"):
        identity(nn.MSELoss(), [nothing]).evaluate((LOGITS, LOGITS))


def test_predict_is_the_model_in_evaluation_mode():
    trainer = make(dropout=0.5)
    output = trainer.predict(X, batch_size=7)
    np.testing.assert_allclose(output, trainer.model.eval()(X), rtol=1e-6)


def test_predict_joins_what_the_model_returns():
    class Two(nn.Module):
        def forward(self, x):
            return {"double": x * 2.0, "both": (x + 1.0, [x])}

    model = Two()
    trainer = make()
    result = fn.train.evaluation.predict(model, X, 33)
    np.testing.assert_array_equal(result["double"], X * 2)
    assert isinstance(result["both"], tuple)
    np.testing.assert_array_equal(result["both"][1][0], X)
    assert trainer.predict(X.tolist()).shape == (100, 2)


# ---- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (X, TypeError, "data: "),
        ((X,), ValueError, "data: "),
        (None, TypeError, "data: "),
        (5, TypeError, "data: "),
        ((X, Y[:50]), ValueError, "lengths"),
        ((X, Y.astype(str)), TypeError, r"data\[1\]: expected numbers or booleans, got dtype <U"),
        ((X[:0], Y[:0]), ValueError, "row"),
        ((X.astype(np.complex64), Y), TypeError, "real and imaginary"),
        ((X, Y + 1), ValueError, "target"),
        ((X[:, :1], Y), ValueError, "shape"),
        (DataLoader(X), ValueError, "data: "),
    ],
)
@pytest.mark.parametrize("call", ["fit", "evaluate"])
def test_wrong_data_are_refused_and_nothing_changes(call, data, error, message):
    trainer = make()
    before = weights(trainer)
    with pytest.raises(error, match=message):
        trainer.fit(data, verbose=False) if call == "fit" else trainer.evaluate(data)
    np.testing.assert_array_equal(weights(trainer), before)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"epochs": -1}, ValueError),
        ({"epochs": 1.5}, TypeError),
        ({"batch_size": 0}, ValueError),
        ({"batch_size": "3"}, TypeError),
        ({"shuffle": 1}, TypeError),
        ({"callbacks": callbacks.History()}, TypeError),
        ({"callbacks": [print]}, TypeError),
        ({"initial_epoch": -1}, ValueError),
        ({"seed": -1}, ValueError),
        ({"seed": 1.5}, TypeError),
        ({"verbose": "yes"}, TypeError),
        ({"validation_data": X}, TypeError),
        ({"initial_epoch": 1, "resume": "x"}, ValueError),
    ],
)
def test_wrong_arguments_of_fit_are_refused_by_name(arguments, error):
    with pytest.raises(error, match=next(iter(arguments))):
        make().fit((X, Y), **arguments)


@pytest.mark.parametrize("name", ["batch_size", "shuffle", "seed"])
def test_what_a_loader_brings_cannot_be_given_again(name):
    with pytest.raises(ValueError, match=name):
        make().fit(DataLoader((X, Y)), verbose=False, **{name: True if name == "shuffle" else 1})


def test_a_trainer_needs_a_model_a_loss_and_its_optimizer():
    model, other = nn.Linear(2, 2), nn.Linear(2, 2)
    opt = optim.SGD(model.parameters())
    with pytest.raises(TypeError, match="model"):
        fn.Trainer(None, nn.CrossEntropyLoss(), opt)
    with pytest.raises(TypeError, match="loss"):
        fn.Trainer(model, "ce", opt)
    with pytest.raises(TypeError, match="optimizer"):
        fn.Trainer(model, nn.CrossEntropyLoss(), "sgd")
    with pytest.raises(ValueError, match="optimizer"):
        fn.Trainer(other, nn.CrossEntropyLoss(), opt)


def test_a_regression_is_told_that_it_has_no_accuracy():
    model = nn.Linear(2, 1)
    trainer = fn.Trainer(model, nn.MSELoss(), optim.SGD(model.parameters()), metrics=["accuracy"])
    with pytest.raises(ValueError, match="accuracy"):
        trainer.fit((X, X[:, :1].copy()), verbose=False)


@pytest.mark.parametrize("batch_size", [0, -1, 1.5])
def test_predict_refuses_a_wrong_batch_size(batch_size):
    with pytest.raises((ValueError, TypeError), match="batch_size"):
        make().predict(X, batch_size)


def test_predict_refuses_a_model_that_gives_one_number():
    class Mean(nn.Module):
        def forward(self, x):
            return x.mean()

    with pytest.raises(ValueError, match="row for each sample"):
        fn.train.evaluation.predict(Mean(), X)


def test_prediction_and_evaluation_switch_no_mode_that_another_thread_sees():
    model = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 2))
    trainer = fn.Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.0))
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((64, 4)).astype(np.float32), rng.integers(0, 2, 64)
    expected, statistics = trainer.predict(x), model[1].running_mean.data.copy()
    modes, outputs, stop = set(), [], threading.Event()

    def predicts():
        while not stop.is_set():
            outputs.append(trainer.predict(x))
            trainer.evaluate((x, y))

    def watches():
        while not stop.is_set():
            modes.update(module.training for module in model.modules())

    threads = [threading.Thread(target=f) for f in (predicts, predicts, watches)]
    for thread in threads:
        thread.start()
    while len(outputs) < 100:
        time.sleep(0.001)
    stop.set()
    for thread in threads:
        thread.join()
    assert modes == {True}
    for output in outputs:
        np.testing.assert_array_equal(output, expected)
    np.testing.assert_array_equal(model[1].running_mean.data, statistics)


def test_training_beside_prediction_trains_in_training_mode():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    step = fn.TrainStep(model, nn.MSELoss(), optim.SGD(model.parameters(), lr=0.0))
    trainer = fn.Trainer(model, nn.MSELoss(), optim.SGD(model.parameters(), lr=0.0), metrics=[])
    x = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
    stop = threading.Event()

    def predicts():
        while not stop.is_set():
            trainer.predict(x)

    thread = threading.Thread(target=predicts)
    thread.start()
    for _ in range(200):
        step(x, x)
    stop.set()
    thread.join()
    assert model[1].num_batches_tracked.data == 200


def test_a_trainer_and_a_step_show_what_they_are_made_of_and_how_far_they_are():
    trainer = make(momentum=0.9)
    parts = f"model=Sequential, loss=CrossEntropyLoss(), optimizer={trainer.optimizer!r}"
    assert repr(trainer) == f"Trainer({parts}, metrics=[accuracy], epoch=0, step=0)"
    trainer.fit((X, Y), epochs=2, batch_size=50, verbose=0)
    assert repr(trainer) == f"Trainer({parts}, metrics=[accuracy], epoch=2, step=4)"
    assert repr(fn.TrainStep(trainer.model, trainer.loss, trainer.optimizer)) == f"TrainStep({parts})"

    def squares(output, target):
        return ((output - target) ** 2).mean()

    assert "loss=squares, " in repr(fn.TrainStep(trainer.model, squares, trainer.optimizer))
