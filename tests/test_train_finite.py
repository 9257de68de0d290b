"""A loss that is not finite ends training, and says why, before it changes anything."""

import json

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn, optim
from fastnn.data import DataLoader
from fastnn.train import callbacks

RNG = np.random.default_rng(0)
X = RNG.standard_normal((40, 6)).astype(np.float32)
Y = RNG.integers(0, 3, 40)


class Log(nn.Module):
    """NaN where the input is below `limit`."""

    def __init__(self, limit=-100.0):
        super().__init__()
        self.limit = limit

    def forward(self, x):
        return (x - self.limit).log()


class Net(nn.Module):
    """Running statistics, random numbers and, if so wished, a layer that gives NaN."""

    def __init__(self, bad=None, width=8, dropout=0.3):
        super().__init__()
        self.fc1 = nn.Linear(6, width)
        self.norm = nn.BatchNorm1d(width)
        self.drop = nn.Dropout(dropout)
        self.bad = nn.Identity() if bad is None else bad
        self.fc2 = nn.Linear(width, 3)

    def forward(self, x):
        return self.fc2(self.bad(self.drop(self.norm(self.fc1(x)).relu())))


def make(loss=None, seed=0, **settings):
    fn.manual_seed(seed)
    model = Net(**settings)
    opt = optim.Adam(model.parameters(), lr=0.01)
    return fn.Trainer(model, loss or nn.CrossEntropyLoss(), opt, metrics=[])


def state(trainer):
    """All that a step changes, as bytes and plain values."""
    saved = trainer.optimizer.state_dict()
    return (
        {name: array.tobytes() for name, array in trainer.model.state_dict().items()},
        [{name: array.tobytes() for name, array in states.items()} for states in saved["state"]],
        json.dumps(saved["groups"]),
        fn.get_rng_state(),
    )


def fit(trainer, data=(X, Y), **arguments):
    return trainer.fit(data, **{"batch_size": 10, "shuffle": False, "verbose": False, "seed": 0, **arguments})


def with_nan(array, row, value=np.nan):
    result = array.copy()
    result[row, 1] = value
    return result


# ---- one step ----------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_step_that_must_be_finite_is_made_whole_or_not_at_all(value, threads):
    trainer = make(width=300)
    step = fn.TrainStep(trainer.model, trainer.loss, trainer.optimizer, finite=True)
    with fn.config.threads(threads):
        step(X, Y)
        before = state(trainer)
        for _ in range(5):
            with pytest.raises(FloatingPointError, match="loss is not finite"):
                step(with_nan(X, 3, value), Y)
            assert state(trainer) == before
        assert np.isfinite(step(X, Y))
    assert state(trainer) != before


def test_a_float64_loss_is_looked_at_as_such():
    model = nn.Linear(2, 2).double()
    step = fn.TrainStep(model, nn.MSELoss(), optim.SGD(model.parameters(), lr=0.0), finite=True)
    x = np.full((4, 2), 1e100)
    assert step(x, x * 2) > 1e190
    with pytest.raises(FloatingPointError):
        step(x * 1e100, x)


def test_watching_the_loss_changes_no_bit():
    trained = []
    for finite in (False, True):
        trainer = make()
        step = fn.TrainStep(trainer.model, trainer.loss, trainer.optimizer, finite=finite)
        losses = [step(X, Y) for _ in range(5)]
        trained.append((losses, state(trainer)))
    assert trained[0] == trained[1]


# ---- fit: what it says -------------------------------------------------------------------------


def message_of(trainer, data=(X, Y), **arguments):
    with pytest.raises(FloatingPointError) as error:
        fit(trainer, data, **arguments)
    return str(error.value)


def test_the_message_names_epoch_batch_and_the_first_layer_that_is_not_finite():
    class Later(callbacks.Callback):
        """Breaks the layer after a while."""

        def on_batch_end(self, batch, logs):
            if (self.trainer.epoch, batch) == (2, 1):
                self.trainer.model.bad.limit = 100.0

    assert message_of(make(bad=Log()), epochs=5, callbacks=[Later()]) == (
        "the loss is nan in epoch 3, batch 3: the first layer whose output is not finite is bad (Log); the "
        "parameters are as they were before this batch"
    )


def test_inputs_and_targets_that_are_not_finite_are_named_with_their_sample():
    assert "batch 3: input is not finite, first in sample 4 of" in message_of(make(), (with_nan(X, 24), Y))
    target = RNG.standard_normal((40, 3)).astype(np.float32)
    message = message_of(make(nn.MSELoss()), (X, with_nan(target, 39, np.inf)))
    assert "the loss is inf in epoch 1, batch 4: target is not finite, first in sample 9 of" in message


def test_weights_that_are_not_finite_themselves_are_named():
    trainer = make()
    trainer.model.fc2.weight.data[1, 1] = np.nan
    assert "is fc2 (Linear), whose weight is not finite either; " in message_of(trainer)


def test_a_loss_is_named_if_all_layers_are_finite():
    def loss(output, target):
        return (output.square() + 1).mean().log() / 0.0

    assert "the loss is inf in epoch 1, batch 1: the outputs of all layers are finite" in message_of(make(loss))


def test_what_a_model_computes_outside_its_layers_is_the_models_own():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(6, 3)

        def forward(self, x):
            return (self.fc(x) - 100).log()

    model = Own()
    trainer = fn.Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters()))
    assert "first layer whose output is not finite is the whole Own;" in message_of(trainer)


def test_a_dropout_mask_that_makes_a_layer_infinite_is_found_again():
    class Inverse(nn.Module):
        def forward(self, x):
            return 1 / x

    fn.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 3), nn.Dropout(0.003), Inverse())
    trainer = fn.Trainer(model, nn.MSELoss(), optim.SGD(model.parameters(), lr=0.0), metrics=[])
    message = message_of(trainer, (X, X[:, :3]), epochs=100)
    assert "epoch 1, batch 1:" not in message
    assert "the first layer whose output is not finite is 2 (Inverse)" in message


# ---- fit: what it leaves -----------------------------------------------------------------------


def test_all_is_as_it_was_before_the_bad_batch():
    trainer = make()
    message_of(trainer, (with_nan(X, 25), Y))
    twin = make()
    fit(twin, (X[:20], Y[:20]))
    assert state(trainer) == state(twin)
    assert (trainer.epoch, trainer.batch, trainer.step) == (0, 2, 2)


def test_training_may_stop_with_a_warning_instead():
    trainer, ends = make(bad=Log()), []
    chain = [
        callbacks.TerminateOnNaN("stop"),
        callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch: setattr(trainer.model.bad, "limit", 100.0 if epoch == 2 else -100.0),
            on_train_end=lambda: ends.append(trainer.epoch),
        ),
    ]
    with pytest.warns(RuntimeWarning, match="the loss is nan in epoch 3, batch 1: .* bad "):
        history = fit(trainer, epochs=5, callbacks=chain)
    assert history.epoch == [0, 1]
    assert ends == [2]
    assert all(np.isfinite(a).all() for a in trainer.model.state_dict().values())


def test_a_loss_that_is_not_finite_may_be_ignored():
    data = with_nan(X, 25), Y
    trainer = make()
    history = fit(trainer, data, callbacks=[callbacks.TerminateOnNaN("ignore")]).history
    twin = make()
    step = fn.TrainStep(twin.model, twin.loss, twin.optimizer)
    for batch in DataLoader(data, 10):
        step(*batch)
    assert np.isnan(history["loss"]).all()
    assert state(trainer)[0] == state(twin)[0]


def test_a_batch_of_ignored_labels_alone_ends_nothing():
    target = Y.copy()
    target[10:20] = -100
    trainer = make()
    history = fit(trainer, (X, target), epochs=2).history
    twin = make()
    step = fn.TrainStep(twin.model, twin.loss, twin.optimizer)
    for _ in range(2):
        for batch in DataLoader((X, target), 10):
            step(*batch)
    assert np.isfinite(history["loss"]).all()
    assert state(trainer)[0] == state(twin)[0]


def test_a_validation_loss_that_is_not_finite_is_warned_of():
    with pytest.warns(RuntimeWarning, match="the validation loss is nan in epoch 1"):
        history = fit(make(), validation_data=(with_nan(X, 3), Y))
    assert np.isnan(history.history["val_loss"]).all()


def test_another_action_is_refused():
    with pytest.raises(ValueError, match=r"^action must be one of 'raise', 'stop', 'ignore', got 'skip'"):
        callbacks.TerminateOnNaN("skip")


@pytest.mark.parametrize(
    ("values", "mode"), [([np.inf, 3, 5], "max"), ([-np.inf, 3, 1], "min"), ([np.nan, 3, 9], "min")]
)
def test_what_is_not_finite_is_never_the_best(values, mode, tmp_path):
    class Logs(callbacks.Callback):
        def on_epoch_end(self, epoch, logs):
            logs["quality"] = values[epoch]

    path = tmp_path / "best.safetensors"
    stopping = callbacks.EarlyStopping("quality", patience=3, mode=mode, restore_best=True)
    kept = callbacks.ModelCheckpoint(path, best_only=True, monitor="quality", mode=mode)
    trainer, weights = make(), []
    watch = callbacks.LambdaCallback(on_epoch_end=lambda *_: weights.append(state(trainer)[0]))
    fit(trainer, epochs=3, callbacks=[Logs(), watch, stopping, kept])
    best = [v for v in values if np.isfinite(v)]
    assert stopping.best == kept.best == (max(best) if mode == "max" else min(best))
    assert state(trainer)[0] == weights[values.index(stopping.best)]
    assert fn.load_checkpoint(path, trainer.model)["epoch"] == values.index(stopping.best) + 1
