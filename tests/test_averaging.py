"""Averages of weights: what they are, that the step makes them, bits, checkpoints, batch norm."""

import copy
import json

import numpy as np
import pytest
from test_optim_steps import Heads, X, Y, bits, both_ways, heads, in_one

import fastnn as fn
from fastnn import nn, optim
from fastnn.files import load_arrays, save_arrays
from fastnn.train import callbacks
from fastnn.train.checkpoint import checksum

from native import on_threads
from optimizers import CLASSES, every_kind, make

RNG = np.random.default_rng(3)
IMAGES, LABELS = RNG.standard_normal((50, 3, 5, 5)), RNG.integers(0, 4, 50)

every_mean = pytest.mark.parametrize("averaging", [0.9, 0.3, "uniform"])


def mean_of(history, averaging):
    """The average of a list of arrays, in float64."""
    if averaging == "uniform":
        return np.mean(history, 0)
    average = history[0]
    for value in history[1:]:
        average = averaging * average + (1 - averaging) * value
    return average


def normed(seed=0, dtype=np.float64):
    """A small network with batch norm and dropout, on images."""
    fn.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(36, 4),
        nn.BatchNorm1d(4),
    ).to(dtype)  # fmt: skip


@every_kind
@both_ways
@every_mean
@pytest.mark.parametrize("every", [1, 3])
def test_an_average_is_that_of_the_weights_after_each_step_and_leaves_them_alone(kind, way, averaging, every):
    model, plain = heads(), heads()
    opt, other = (
        make(kind, model.parameters(), averaging=averaging, averaging_every=every),
        make(kind, plain.parameters()),
    )
    step, same = way(model, opt), way(plain, other)
    seen = {name: [p.data.copy()] for name, p in model.named_parameters() if name.startswith("b")}
    for i in range(10):
        assert step(X, Y) == same(X, Y)
        if (i + 1) % every == 0:
            for name, p in plain.named_parameters():
                seen.setdefault(name, []).append(p.data.copy())
    assert bits(model) == bits(plain)
    mean = fn.train.averaged(model, opt)
    for name, p in mean.named_parameters():  # head b has no update, so that it is as it was
        expected = mean_of(seen[name][:1] if name.startswith("b") else seen[name], averaging)
        np.testing.assert_allclose(p.data, expected, rtol=1e-13, atol=1e-15)
    assert bits(mean) != bits(model)
    assert bits(model) == bits(plain)


@pytest.mark.parametrize("averaging", [0.95, "uniform"])
def test_averages_follow_pytorchs_over_50_steps(averaging):
    torch = pytest.importorskip("torch")
    from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn, get_swa_avg_fn, update_bn

    ours = normed()
    ours[4] = nn.Dropout(0.0)
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Dropout(0.0),
        torch.nn.Linear(36, 4), torch.nn.BatchNorm1d(4),
    ).double()  # fmt: skip
    theirs.load_state_dict({name: torch.tensor(array) for name, array in ours.state_dict().items()})
    how = get_swa_avg_fn() if averaging == "uniform" else get_ema_avg_fn(averaging)
    mean = AveragedModel(theirs, avg_fn=how)
    opt = optim.SGD(ours.parameters(), lr=0.05, momentum=0.9, averaging=averaging)
    torch_opt = torch.optim.SGD(theirs.parameters(), lr=0.05, momentum=0.9)
    step = fn.TrainStep(ours, nn.CrossEntropyLoss(), opt)
    for i in range(50):
        rows = np.arange(10 * i, 10 * i + 10) % 50
        step(IMAGES[rows], LABELS[rows])
        torch_opt.zero_grad()
        output = theirs(torch.tensor(IMAGES[rows]))
        torch.nn.functional.cross_entropy(output, torch.tensor(LABELS[rows])).backward()
        torch_opt.step()
        mean.update_parameters(theirs)
    ours = fn.train.averaged(ours, opt)
    for name, p in mean.module.named_parameters():
        np.testing.assert_allclose(dict(ours.named_parameters())[name].data, p.detach(), rtol=1e-9, atol=1e-11)
    fn.train.update_bn((IMAGES, LABELS), ours, batch_size=16)
    update_bn([(torch.tensor(IMAGES[i : i + 16]),) for i in range(0, 50, 16)], mean)
    for name, p in mean.module.named_buffers():
        np.testing.assert_allclose(dict(ours.named_buffers())[name].data, p, rtol=1e-9, atol=1e-11)
    mean.eval()
    expected = mean(torch.tensor(IMAGES)).detach()
    np.testing.assert_allclose(ours.evaluated(IMAGES), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", CLASSES)
def test_the_bits_of_averages_do_not_depend_on_the_threads(name):
    x, y = (RNG.standard_normal((32, n)).astype(np.float32) for n in (200, 100))

    def train():
        fn.manual_seed(0)
        model = nn.Sequential(nn.Linear(200, 150), nn.ReLU(), nn.Linear(150, 100))
        opt = getattr(optim, name)(model.parameters(), **CLASSES[name], averaging=0.9)
        step = fn.TrainStep(model, nn.MSELoss(), opt)
        for _ in range(3):
            step(x, y)
        return bits(model) + bits(fn.train.averaged(model, opt))

    first, *rest = on_threads(train, (1, 2, 3, 8))
    assert all(each == first for each in rest)


@pytest.mark.parametrize("name", CLASSES)
def test_averages_of_a_run_that_is_stopped_and_resumed_have_the_same_bits(tmp_path, name):
    def made(seed):
        model = heads(seed)
        return model, getattr(optim, name)(model.parameters(), **CLASSES[name], averaging="uniform", averaging_every=2)

    model, opt = made(0)
    step = in_one(model, opt)
    for stop in range(5):
        fn.train.save_checkpoint(tmp_path / f"{stop}.safetensors", model, opt)
        step(X, Y)
    for stop in range(5):
        twin, other = made(1)
        fn.train.load_checkpoint(tmp_path / f"{stop}.safetensors", twin, other)
        step = in_one(twin, other)
        for _ in range(stop, 5):
            step(X, Y)
        assert bits(twin) + bits(fn.train.averaged(twin, other)) == bits(model) + bits(fn.train.averaged(model, opt))


def test_a_part_that_is_frozen_stays_as_it_is():
    head = nn.Linear(4, 3).double()
    model = nn.Sequential(nn.Linear(4, 4).double().frozen(), head)
    opt = optim.SGD(head.parameters(), lr=0.1, averaging=0.5)
    step = in_one(model, opt)
    step(X, Y)
    step(X, Y)
    mean = fn.train.averaged(model, opt)
    assert bits(mean[0]) == bits(model[0])
    assert bits(mean[1]) != bits(model[1])
    assert fn.train.averaged(model, opt, out=mean) is mean


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_average_goes_along_with_dtypes_and_checkpoints(tmp_path, dtype):
    model = heads(dtype=dtype)
    opt = make("adam", model.parameters(), averaging=0.9)
    step = in_one(model, opt)
    x, y = X.astype(dtype), Y.astype(dtype)
    step(x, y)
    path = tmp_path / "a.safetensors"
    fn.train.save_checkpoint(path, model, opt)
    twin = heads(1, dtype)
    other = make("adam", twin.parameters())  # which is told by the file that there is an average
    fn.train.load_checkpoint(path, twin, other)
    for _ in range(3):
        assert step(x, y) == in_one(twin, other)(x, y)
    assert bits(fn.train.averaged(model, opt)) == bits(fn.train.averaged(twin, other))
    model.to(np.float64)
    step(X, Y)
    assert {p.dtype for p in fn.train.averaged(model, opt).parameters()} == {np.dtype(np.float64)}


def test_a_checkpoint_of_before_there_were_averages_is_read(tmp_path):
    model = heads()
    opt = make("adam", model.parameters())
    in_one(model, opt)(X, Y)
    path = tmp_path / "a.safetensors"
    fn.train.save_checkpoint(path, model, opt)
    arrays, metadata = load_arrays(path)
    del arrays["optimizer/0/averaged"]
    content = json.loads(metadata["checkpoint"])
    for name in ("averaging", "averaging_every"):
        del content["optimizer"]["groups"][0][name]
    del content["crc32"]
    content["crc32"] = checksum(json.dumps(content), arrays)
    save_arrays(path, arrays, {"checkpoint": json.dumps(content)})
    twin = heads(1)
    other = make("adam", twin.parameters())
    fn.train.load_checkpoint(path, twin, other)
    assert in_one(model, opt)(X, Y) == in_one(twin, other)(X, Y)
    assert bits(model) == bits(twin)


def test_an_average_that_is_turned_on_later_or_on_again_begins_anew():
    model = heads()
    opt = make("momentum", model.parameters())
    step, (group,) = in_one(model, opt), opt.param_groups
    step(X, Y)
    with pytest.raises(ValueError, match="keeps no averages"):
        fn.train.averaged(model, opt)
    for change in (
        {"averaging": "uniform"}, {"averaging": 0.5}, {"averaging_every": 2}, {"averaging": None}, {"averaging": 0.5},
    ):  # fmt: skip
        group.update(change)
        if group["averaging"] is None:
            step(X, Y)
            continue
        assert bits(fn.train.averaged(model, opt)) == bits(model)  # nothing is averaged yet
        seen = []
        for i in range(4):
            step(X, Y)
            if (i + 1) % group["averaging_every"] == 0:
                seen.append(model.trunk.weight.data.copy())
        mean = fn.train.averaged(model, opt).trunk.weight.data
        np.testing.assert_allclose(mean, mean_of(seen, group["averaging"]), rtol=1e-13)
    group["averaging"] = 0.25  # another decay goes on with the same average
    before = fn.train.averaged(model, opt).trunk.weight.data
    step(X, Y), step(X, Y)
    after = fn.train.averaged(model, opt).trunk.weight.data
    np.testing.assert_allclose(after, 0.25 * before + 0.75 * model.trunk.weight.data, rtol=1e-13)


def test_an_average_that_held_nan_begins_anew_without_it():
    model = heads()
    opt = make("sgd", model.parameters(), averaging=0.5)
    step, good = in_one(model, opt), model.state_dict()
    step(X * np.nan, Y)
    assert np.isnan(fn.train.averaged(model, opt).trunk.weight.data).all()
    model.load_state_dict(good)
    opt.param_groups[0]["averaging"] = None
    opt.param_groups[0]["averaging"] = 0.5
    step(X, Y)
    assert bits(fn.train.averaged(model, opt)) == bits(model)


def test_settings_that_are_none_are_refused():
    model = heads()
    for value, error in (
        (0.0, ValueError),
        (1.0, ValueError),
        (-0.5, ValueError),
        ("mean", TypeError),
        ([], TypeError),
    ):
        with pytest.raises(error, match="averaging"):
            optim.SGD(model.parameters(), averaging=value)
    for value, error in ((0, ValueError), (1.5, TypeError)):
        with pytest.raises(error, match="averaging_every"):
            optim.SGD(model.parameters(), averaging_every=value)
        with pytest.raises(error, match="every"):
            callbacks.Averaging(every=value)
    for value in (0.0, 1.0):
        with pytest.raises(ValueError, match="averaging"):
            callbacks.Averaging(value)
    with pytest.raises(ValueError, match="start"):
        callbacks.Averaging(start=-1)


def test_out_is_filled_again_and_must_be_a_copy_of_the_model():
    model = heads()
    opt = make("sgd", model.parameters(), averaging="uniform")
    step = in_one(model, opt)
    step(X, Y)
    mean = fn.train.averaged(model, opt)
    before = bits(mean)
    step(X, Y)
    assert bits(mean) == before
    assert fn.train.averaged(model, opt, out=mean) is mean
    assert bits(mean) == bits(fn.train.averaged(model, opt)) != before
    before = bits(mean)
    for other in (nn.Linear(4, 5), Heads(np.float32)):
        with pytest.raises(ValueError, match="out must be"):
            fn.train.averaged(model, opt, out=other)
    assert bits(mean) == before


# ---- batch norm -------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", ["array", "pair", "loader"])
def test_running_statistics_are_taken_anew_and_nothing_else_changes(data):
    model = normed()
    model(IMAGES)
    model[1].eval()
    model[6].momentum = 0.3
    before = {name: p.data.copy() for name, p in model.named_parameters()}
    loader = fn.data.DataLoader((IMAGES, LABELS), batch_size=25)
    given = {"array": IMAGES, "pair": (IMAGES, LABELS), "loader": loader}[data]
    fn.train.update_bn(given, model, None if data == "loader" else 25)
    inside = np.asarray(model[0](IMAGES))
    means = [inside[i : i + 25].mean((0, 2, 3)) for i in (0, 25)]
    np.testing.assert_allclose(model[1].running_mean.data, np.mean(means, 0), rtol=1e-12)
    variances = [inside[i : i + 25].var((0, 2, 3), ddof=1) for i in (0, 25)]
    np.testing.assert_allclose(model[1].running_var.data, np.mean(variances, 0), rtol=1e-12)
    assert model[1].num_batches_tracked.data == model[6].num_batches_tracked.data == 2
    assert [module.training for module in model] == [True, False, True, True, True, True, True]
    assert [model[1].momentum, model[6].momentum] == [0.1, 0.3]
    for name, p in model.named_parameters():
        np.testing.assert_array_equal(p.data, before[name])


def test_whatever_is_raised_leaves_the_running_statistics_as_they_were():
    model = normed()
    model(IMAGES)
    before = bits(model)
    batches = fn.data.DataLoader((IMAGES, LABELS), batch_size=25)

    class Stopped(fn.data.DataLoader):
        def __iter__(self):
            yield next(iter(batches))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fn.train.update_bn(Stopped((IMAGES, LABELS)), model)
    with pytest.raises(ValueError):
        fn.train.update_bn(IMAGES[:, :2], model)
    assert bits(model) == before
    assert [model[1].momentum, model.training] == [0.1, True]
    plain = nn.Linear(3, 2)
    fn.train.update_bn(np.zeros((4, 3), np.float32), plain)  # there are none


# ---- the trainer ------------------------------------------------------------------------------------


def trained(epochs, callback, seed=0, resume=None, more=(), opt=None):
    model = normed(seed, np.float32)
    opt = optim.SGD(model.parameters(), lr=0.05, momentum=0.9) if opt is None else opt(model.parameters())
    trainer = fn.Trainer(model, nn.CrossEntropyLoss(), opt)
    data = (IMAGES.astype(np.float32), LABELS)
    trainer.fit(
        data, epochs=epochs, batch_size=8, callbacks=[callback, *more], verbose=0, seed=1, resume=resume
    )  # fmt: skip
    return trainer


@pytest.mark.parametrize(
    ("averaging", "start", "every"), [(0.9, 0, "step"), ("uniform", 2, "step"), ("uniform", 1, "epoch"), (0.5, 1, 3)]
)
def test_a_trainer_averages_from_an_epoch_on(averaging, start, every):
    seen = []

    def keep(batch, logs):
        done = trainer_of[0].step - 7 * start
        if done > 0 and done % {"step": 1, "epoch": 7}.get(every, every) == 0:
            seen.append({n: p.data.astype(np.float64) for n, p in trainer_of[0].model.named_parameters()})

    class Keep(callbacks.Callback):
        def on_train_begin(self):
            trainer_of[:] = [self.trainer]

        def on_batch_end(self, batch, logs):
            keep(batch, logs)

    trainer_of = []
    trainer = trained(4, callbacks.Averaging(averaging, start, every), more=[Keep()])
    mean = fn.train.averaged(trainer.model, trainer.optimizer)
    for name, p in mean.named_parameters():
        np.testing.assert_allclose(p.data, mean_of([each[name] for each in seen], averaging), rtol=1e-5, atol=1e-6)
    x = IMAGES.astype(np.float32)
    np.testing.assert_array_equal(trainer.predict(x, averaged=True), mean.evaluated(x))
    assert np.any(trainer.predict(x, averaged=True) != trainer.predict(x))
    of_mean = fn.Trainer(mean, nn.CrossEntropyLoss(), optim.SGD(mean.parameters())).evaluate((x, LABELS))
    assert trainer.evaluate((x, LABELS), averaged=True) == of_mean != trainer.evaluate((x, LABELS))
    step = fn.TrainStep(trainer.model, nn.CrossEntropyLoss(), trainer.optimizer)
    for _ in range(7):
        step(x, LABELS)  # the average goes on, and so does what is asked on demand
    mean = fn.train.averaged(trainer.model, trainer.optimizer)
    np.testing.assert_array_equal(trainer.predict(x, averaged=True), mean.evaluated(x))


@pytest.mark.parametrize(("start", "every"), [(0, "step"), (1, "step"), (1, "epoch"), (2, 3)])
@pytest.mark.parametrize("stop", [3, 7, 10, 16])
def test_a_run_that_is_stopped_and_resumed_has_the_same_averages(tmp_path, start, every, stop):
    path = tmp_path / "run.safetensors"

    class Stop(callbacks.Callback):
        def on_batch_end(self, batch, logs):
            if self.trainer.step == stop:
                raise KeyboardInterrupt

    class Keep(callbacks.Callback):
        def on_train_begin(self):
            kept[:] = [self.trainer]

    kept = []
    whole = trained(4, callbacks.Averaging(0.9, start, every))
    with pytest.raises(KeyboardInterrupt):
        trained(4, callbacks.Averaging(0.9, start, every), more=[Stop(), Keep()])
    kept[0].save_checkpoint(path)
    again = trained(4, callbacks.Averaging(0.9, start, every), seed=5, resume=path)
    for each in (whole, again):
        assert each.step == 28
    assert bits(again.model) == bits(whole.model)
    ends = [fn.train.averaged(each.model, each.optimizer) for each in (whole, again)]
    assert bits(ends[0]) == bits(ends[1]) != bits(whole.model)


def test_a_second_fit_begins_a_new_average():
    trainer = trained(2, callbacks.Averaging("uniform"))
    x = IMAGES.astype(np.float32)
    seen = []
    keep = callbacks.LambdaCallback(
        on_batch_end=lambda batch, logs: seen.append(trainer.model[0].weight.data.astype(np.float64))
    )
    trainer.fit((x, LABELS), epochs=1, batch_size=8, callbacks=[callbacks.Averaging("uniform"), keep], verbose=0)
    mean = fn.train.averaged(trainer.model, trainer.optimizer)
    np.testing.assert_allclose(mean[0].weight.data, np.mean(seen, 0), rtol=1e-5, atol=1e-6)


def test_without_an_average_a_trainer_says_how_to_get_one():
    trainer = trained(1, callbacks.Callback())
    with pytest.raises(ValueError, match="callback Averaging"):
        trainer.predict(IMAGES.astype(np.float32), averaged=True)
    with pytest.raises(TypeError, match="averaged"):
        trainer.predict(IMAGES.astype(np.float32), averaged=1)


def test_a_copied_trainer_has_averages_of_its_own():
    trainer = trained(2, callbacks.Averaging())
    x = IMAGES.astype(np.float32)
    before = trainer.predict(x, averaged=True)
    twin = copy.deepcopy(trainer)
    twin.fit((x, LABELS), epochs=1, callbacks=[callbacks.Averaging()], verbose=0)
    assert np.any(twin.predict(x, averaged=True) != before)
    np.testing.assert_array_equal(trainer.predict(x, averaged=True), before)


def test_averages_by_epochs_need_a_known_number_of_updates():
    for settings, batches in ((dict(accumulate=2), (X, Y)), ({}, iter([(X, Y)]))):
        model = nn.Linear(X.shape[1], 4)
        trainer = fn.Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1), **settings)
        with pytest.raises(ValueError, match="every='epoch' needs an update for each batch"):
            trainer.fit(batches, callbacks=[fn.callbacks.Averaging(every="epoch")], verbose=False)
