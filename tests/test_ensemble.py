"""Ensembles, and snapshots that make them of one run."""

import copy

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn, optim
from fastnn.train import Ensemble, callbacks

from native import on_threads

RNG = np.random.default_rng(4)
X, LABELS = RNG.standard_normal((70, 6)), RNG.integers(0, 4, 70)


def network(seed, dtype=np.float64):
    fn.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.3), nn.Linear(12, 4)
    ).to(dtype)  # fmt: skip


def bits(model):
    return b"".join(array.tobytes() for array in model.state_dict().values())


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


MEANS = {"outputs": lambda z: z, "softmax": softmax, "sigmoid": lambda z: 1 / (1 + np.exp(-z))}


@pytest.mark.parametrize("average", MEANS)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_an_ensemble_predicts_the_mean_of_its_members(average, count):
    members = [network(seed) for seed in range(count)]
    ensemble = Ensemble(members, average)
    expected = np.mean([MEANS[average](np.asarray(member.evaluated(X))) for member in members], 0)
    for batch_size in (256, 32):
        np.testing.assert_allclose(ensemble.predict(X, batch_size), expected, rtol=1e-12)
    np.testing.assert_array_equal(ensemble.predict(X), ensemble.eval()(X))
    members[0][4].bias.data[:] += 1.0  # its members are the models, not copies
    assert np.any(ensemble.predict(X) != expected)


def test_its_weights_are_those_of_its_members_and_are_saved_with_it(tmp_path):
    ensemble, other = (Ensemble([network(seed + i) for i in range(2)], "softmax") for seed in (0, 5))
    ensemble.save(tmp_path / "e.safetensors")
    other.load(tmp_path / "e.safetensors")
    np.testing.assert_array_equal(other.predict(X), ensemble.predict(X))
    assert "members.1.0.weight" in ensemble.state_dict()
    assert "average='softmax'" in repr(ensemble)
    np.testing.assert_array_equal(copy.deepcopy(ensemble).predict(X), ensemble.predict(X))


def test_its_bits_do_not_depend_on_the_threads():
    x = RNG.standard_normal((300, 6)).astype(np.float32)
    ensemble = Ensemble([network(seed, np.float32) for seed in range(3)], "softmax")
    first, *rest = on_threads(lambda: ensemble.predict(x).tobytes(), (1, 2, 3, 8))
    assert all(each == first for each in rest)


def test_models_of_several_inputs_make_an_ensemble():
    class Sum(nn.Module):
        def __init__(self, seed):
            super().__init__()
            fn.manual_seed(seed)
            self.a, self.b = nn.Linear(6, 2), nn.Linear(3, 2)
            self.double()

        def forward(self, x, z):
            return self.a(x) + self.b(z)

    z = RNG.standard_normal((70, 3))
    members = [Sum(0), Sum(1)]
    expected = np.mean([member(X, z) for member in members], 0)
    np.testing.assert_allclose(Ensemble(members).predict((X, z)), expected, rtol=1e-12)


def test_what_does_not_make_an_ensemble_is_refused():
    for models, settings, error in (
        ([], {}, ValueError), ([network(0), abs], {}, TypeError), ([network(0)], {"average": "mean"}, ValueError),
    ):  # fmt: skip
        with pytest.raises(error):
            Ensemble(models, **settings)
    with pytest.raises(ValueError, match="one shape"):
        Ensemble([network(0), nn.Linear(6, 3).double()]).predict(X)

    class Pair(nn.Module):
        def forward(self, x):
            return x, x

    with pytest.raises(TypeError, match=r"members\[1\] must give one output"):
        Ensemble([network(0), Pair()]).predict(X)


# ---- snapshots --------------------------------------------------------------------------------------


class Keep(callbacks.Callback):
    """Copies of the model after each epoch; an interrupt at a step."""

    def __init__(self, stop=None):
        self.models, self.stop = [], stop

    def on_epoch_end(self, epoch, logs):
        self.models.append(copy.deepcopy(self.trainer.model))

    def on_batch_end(self, batch, logs):
        if self.trainer.step == self.stop:
            raise KeyboardInterrupt


def trained(snapshots, keep, epochs=7, seed=0, resume=None):
    model = network(seed)
    opt = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    schedule = optim.lr_scheduler.CosineAnnealingWarmRestarts(opt, 2)
    trainer = fn.Trainer(model, nn.CrossEntropyLoss(), opt)
    chain = [snapshots, callbacks.Scheduler(schedule), keep]
    keep.trainer = trainer
    trainer.fit((X, LABELS), epochs=epochs, batch_size=10, callbacks=chain, verbose=0, seed=1, resume=resume)
    return trainer


@pytest.mark.parametrize(
    ("cycle", "last", "kept"),
    [(2, None, [2, 4, 6]), (3, 1, [6]), (1, 3, [5, 6, 7]), ([1, 3, 7], None, [1, 3, 7]), ((2, 6), 1, [6])],
)
def test_snapshots_are_the_weights_at_the_ends_of_cycles(cycle, last, kept):
    snapshots, keep = callbacks.Snapshots(cycle, last), Keep()
    trainer = trained(snapshots, keep)
    before = bits(trainer.model)
    ensemble = snapshots.ensemble("softmax")
    assert [bits(member) for member in ensemble.members] == [bits(keep.models[done - 1]) for done in kept]
    expected = np.mean([softmax(np.asarray(keep.models[done - 1].evaluated(X))) for done in kept], 0)
    np.testing.assert_allclose(ensemble.predict(X), expected, rtol=1e-12)
    assert bits(trainer.model) == before


@pytest.mark.parametrize("stop", [5, 14, 21, 30])
def test_snapshots_of_a_run_that_is_stopped_and_resumed_are_the_same(tmp_path, stop):
    path = tmp_path / "run.safetensors"
    whole = callbacks.Snapshots(2)
    trained(whole, Keep())
    stopped, keep = callbacks.Snapshots(2), Keep(stop)
    with pytest.raises(KeyboardInterrupt):
        trained(stopped, keep)
    keep.trainer.save_checkpoint(path)
    again = callbacks.Snapshots(2)
    trained(again, Keep(), seed=3, resume=path)
    one, other = (snapshots.ensemble() for snapshots in (whole, again))
    assert bits(one) == bits(other)
    assert len(one.members) == 3


def test_states_that_are_none_are_refused():
    snapshots = callbacks.Snapshots(1)
    trained(snapshots, Keep(), epochs=2)
    state = snapshots.state_dict()
    snapshots.check_state(state)
    for change in (
        {"count": 3}, {"count": 1}, {"count": -1}, {"count": "2"}, {"0/0.weight": np.zeros((2, 2))},
        {"0/0.weight": 1.0}, {"0/other": np.zeros(3)}, {"5/0.weight": np.zeros((12, 6))},
    ):  # fmt: skip
        with pytest.raises((ValueError, TypeError)):
            snapshots.check_state({**state, **change})
    with pytest.raises(TypeError):
        snapshots.check_state({})
    del state["1/0.weight"]
    with pytest.raises(ValueError):
        snapshots.check_state(state)
    for settings in ({"cycle": 0}, {"cycle": [2, 0]}, {"cycle": 1, "last": 0}):
        with pytest.raises(ValueError):
            callbacks.Snapshots(**settings)
    with pytest.raises(TypeError):
        callbacks.Snapshots("2")
    with pytest.raises(ValueError, match="no cycle has ended"):
        callbacks.Snapshots(2).ensemble()


def test_a_new_fit_forgets_the_snapshots_of_the_one_before():
    snapshots = callbacks.Snapshots(2)
    trainer = trained(snapshots, Keep(), epochs=4)
    trainer.fit((X, LABELS), epochs=2, callbacks=[snapshots], verbose=0)
    assert len(snapshots.ensemble().members) == 1
