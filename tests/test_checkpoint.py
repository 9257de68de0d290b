"""Checkpoints: all is in them, nothing is half loaded, and resumed runs have the same bits."""

import functools
import itertools
import json
import math
import os
import signal
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn, optim
from fastnn.data import DataLoader
from fastnn.files import load_arrays, save_arrays
from fastnn.train import callbacks
from fastnn.train.evaluation import Means

import interrupts
import optimizers
from children import watched
from kills import STAGES

X, Y = fn.data.moons(90, seed=0)

OPTIMIZERS = {
    "sgd": lambda params: optim.SGD(params, lr=0.05, momentum=0.9, nesterov=True),
    "adam": lambda params: optim.Adam(params, lr=0.01, weight_decay=1e-3),
    "amsgrad": lambda params: optim.AdamW(params, lr=0.01, amsgrad=True),
    **{kind: functools.partial(optimizers.make, kind) for kind in optimizers.KINDS},
    "groups": lambda params: optim.Adam(
        [{"params": params[:2]}, {"params": params[2:], "lr": 0.02, "betas": (0.8, 0.9)}]
    ),
}


def make(kind="adam", seed=0, width=8):
    fn.manual_seed(seed)
    model = nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Dropout(0.3), nn.Linear(width, 2))
    optimizer = OPTIMIZERS[kind](list(model.parameters()))
    return model, optimizer


def trainer_of(kind="adam", seed=0):
    model, optimizer = make(kind, seed)
    return fn.Trainer(model, nn.CrossEntropyLoss(), optimizer)


def state(model, optimizer, loader=None):
    """All that a checkpoint holds, as bytes and plain values."""
    saved = optimizer.state_dict()
    return (
        {name: array.tobytes() for name, array in model.state_dict().items()},
        [{name: array.tobytes() for name, array in states.items()} for states in saved["state"]],
        json.dumps(saved["groups"]),
        fn.get_rng_state(),
        None if loader is None else loader.state_dict(),
    )


def fit(trainer, epochs=3, **arguments):
    return trainer.fit((X, Y), epochs=epochs, batch_size=20, seed=4, verbose=False, **arguments)


# ---- round trips -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_checkpoint_holds_model_optimizer_random_state_and_position(tmp_path, kind):
    path = tmp_path / "c.safetensors"
    model, optimizer = make(kind)
    loader = DataLoader((X, Y), batch_size=20, shuffle=True, seed=1)
    step = fn.TrainStep(model, nn.CrossEntropyLoss(), optimizer)
    for _, (xb, yb) in zip(range(3), loader, strict=False):
        step(xb, yb)
    optimizer.param_groups[-1]["lr"] = 0.005
    saved = state(model, optimizer, loader)
    arrays = {"best": np.arange(3.0), "empty": np.zeros((0, 2), np.float32)}
    fn.save_checkpoint(
        path,
        model,
        optimizer,
        step=3,
        epoch=1,
        history={"loss": [0.5, float("nan")]},
        loader=loader,
        extra={"note": ["ä", 1, None]},
        arrays=arrays,
    )

    model, optimizer = make(kind, seed=9)
    loader = DataLoader((X, Y), batch_size=20, shuffle=True, seed=2)
    fn.manual_seed(123)
    assert state(model, optimizer, loader) != saved
    info = fn.load_checkpoint(path, model, optimizer, loader=loader)
    assert state(model, optimizer, loader) == saved
    assert (info["step"], info["epoch"], info["extra"]) == (3, 1, {"note": ["ä", 1, None]})
    np.testing.assert_array_equal(info["history"]["loss"], [0.5, np.nan])
    assert info["arrays"].keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(info["arrays"][name], array)
        assert info["arrays"][name].dtype == array.dtype


def test_a_checkpoint_is_one_safetensors_file_with_named_tensors(tmp_path):
    model, optimizer = make()
    fn.save_checkpoint(tmp_path / "c.safetensors", model, optimizer)
    assert os.listdir(tmp_path) == ["c.safetensors"]
    arrays, metadata = load_arrays(tmp_path / "c.safetensors")
    names = {f"model/{name}" for name in model.state_dict()}
    assert names | {f"optimizer/0/{s}" for s in ("exp_avg", "exp_avg_sq", "steps", "averaged")} == set(arrays)
    np.testing.assert_array_equal(arrays["model/0.weight"], model[0].weight)
    assert json.loads(metadata["checkpoint"])["optimizer"]["kind"] == "Adam"


def test_the_model_alone_can_be_saved_and_loaded(tmp_path):
    path = tmp_path / "c.safetensors"
    model, optimizer = make()
    fn.save_checkpoint(path, model)
    other, _ = make(seed=5)
    fn.load_checkpoint(path, other)
    np.testing.assert_array_equal(other[0].weight, model[0].weight)
    with pytest.raises(ValueError, match="holds no optimizer state"):
        fn.load_checkpoint(path, model, optimizer)
    with pytest.raises(ValueError, match="holds no position"):
        fn.load_checkpoint(path, model, loader=DataLoader(X))


def test_equal_states_make_equal_files(tmp_path):
    model, optimizer = make()
    for name in ("a", "b"):
        fn.save_checkpoint(tmp_path / name, model, optimizer, step=7)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


# ---- what is refused ---------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "c.safetensors"
    model, optimizer = make("adam", width=2)
    loader = DataLoader((X, Y), batch_size=20, seed=1)
    fn.save_checkpoint(path, model, optimizer, step=3, loader=loader, extra={"a": 1})
    return path


def test_every_flipped_bit_is_noticed_or_harmless(saved):
    """Some bits mean nothing, such as those of the spaces that fill the header."""
    data = saved.read_bytes()
    content = fn.train.checkpoint.read_checkpoint(saved)
    refused = 0
    for position in range(len(data)):
        bit = 1 << (position % 8)
        damaged = data[:position] + bytes([data[position] ^ bit]) + data[position + 1 :]
        saved.write_bytes(damaged)
        try:
            read = fn.train.checkpoint.read_checkpoint(saved)
        except ValueError:
            refused += 1
        else:
            assert json.dumps(read[0]) == json.dumps(content[0])
            assert {k: (v.dtype, v.shape, v.tobytes()) for k, v in read[1].items()} == {
                k: (v.dtype, v.shape, v.tobytes()) for k, v in content[1].items()
            }
    assert refused > 0.95 * len(data)


@pytest.mark.parametrize("size", [0, 7, 8, 100, -4, -1])
def test_a_truncated_file_changes_nothing(saved, size):
    saved.write_bytes(saved.read_bytes()[:size])
    assert_refused(saved, "is no intact safetensors file")


def test_other_files_change_nothing(tmp_path):
    text = tmp_path / "text"
    text.write_text("not a checkpoint" * 100)
    assert_refused(text, "is no intact safetensors file")
    weights = tmp_path / "weights"
    make(width=2)[0].save(weights)
    assert_refused(weights, "is no checkpoint of fastnn")
    for content in ("[]", "{}", "{", "null", '{"crc32": 5}'):
        save_arrays(weights, {}, {"checkpoint": content})
        assert_refused(weights, "damaged")


def rewritten(path, change):
    """The checkpoint with other content, and a checksum that fits it."""
    content, arrays = fn.train.checkpoint.read_checkpoint(path)
    change(content, arrays)
    content["crc32"] = fn.train.checkpoint.checksum(json.dumps(content), arrays)
    save_arrays(path, arrays, {"checkpoint": json.dumps(content)})


@pytest.mark.parametrize(
    "change",
    [
        lambda c, a: c.pop("random"),
        lambda c, a: c.pop("history"),
        lambda c, a: c.update(version=2),
        lambda c, a: c.update(step=-1),
        lambda c, a: c.update(step="3"),
        lambda c, a: c.update(history={"loss": 1}),
        lambda c, a: c.update(random={}),
        lambda c, a: c["random"].update(plan=[1]),
        lambda c, a: c["random"]["generator"].update(bit_generator="MT19937"),
        lambda c, a: c.update(loader=5),
        lambda c, a: c["loader"].update(batch=10**6),
        lambda c, a: c["loader"].update(samples=7),
        lambda c, a: c["loader"].pop("epoch"),
        lambda c, a: c.update(optimizer=[]),
        lambda c, a: c["optimizer"].pop("kind"),
        lambda c, a: c["optimizer"].update(kind="SGD"),
        lambda c, a: c["optimizer"].update(groups=None),
        lambda c, a: c["optimizer"].update(groups=[]),
        lambda c, a: c["optimizer"]["groups"].append(c["optimizer"]["groups"][0]),
        lambda c, a: c["optimizer"]["groups"][0].pop("steps"),
        lambda c, a: c["optimizer"]["groups"][0].pop("eps"),
        lambda c, a: c["optimizer"]["groups"][0].update(lr=-1),
        lambda c, a: c["optimizer"]["groups"][0].update(lr="fast"),
        lambda c, a: c["optimizer"]["groups"][0].update(betas=[0.9]),
        lambda c, a: a.pop("model/0.weight"),
        lambda c, a: a.update({"model/0.weight": a["model/0.weight"].T[:1]}),
        lambda c, a: a.update({"model/0.weight": a["model/0.weight"].astype(np.float64)}),
        lambda c, a: a.update({"model/9.weight": a["model/0.weight"]}),
        lambda c, a: a.pop("optimizer/0/exp_avg"),
        lambda c, a: a.update({"optimizer/0/exp_avg": np.zeros(3, np.float32)}),
        lambda c, a: a.update({"optimizer/0/exp_avg": a["optimizer/0/exp_avg"].astype(float)}),
        lambda c, a: a.update({"optimizer/0/more": np.zeros(3, np.float32)}),
    ],
)
def test_a_file_that_does_not_fit_changes_nothing(saved, change):
    rewritten(saved, change)
    assert_refused(saved, "c.safetensors")


def assert_refused(path, message):
    model, optimizer = make("adam", seed=3, width=2)
    loader = DataLoader((X, Y), batch_size=20, seed=6)
    next(iter(loader))
    before = state(model, optimizer, loader)
    with pytest.raises(ValueError, match=message):
        fn.load_checkpoint(path, model, optimizer, loader=loader)
    assert state(model, optimizer, loader) == before


def test_a_file_that_is_missing_is_named(tmp_path):
    model, _ = make()
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors"):
        fn.load_checkpoint(tmp_path / "none.safetensors", model)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": None}, "model"),
        ({"optimizer": "adam"}, "optimizer"),
        ({"loader": 3}, "loader"),
    ],
)
@pytest.mark.parametrize("call", [fn.save_checkpoint, fn.load_checkpoint])
def test_arguments_of_another_kind_are_refused(saved, call, arguments, message):
    before = saved.read_bytes()
    with pytest.raises(TypeError, match=message):
        call(saved, **{"model": make()[0], **arguments})
    assert saved.read_bytes() == before


@pytest.mark.parametrize("extra", [{"a": np.zeros(2)}, {"a": {1, 2}}, {(1, 2): 3}])
def test_what_json_cannot_hold_is_refused(saved, extra):
    before = saved.read_bytes()
    with pytest.raises(TypeError, match="extra"):
        fn.save_checkpoint(saved, make()[0], extra=extra)
    assert saved.read_bytes() == before


@pytest.mark.parametrize("dtype", [object, complex, "U3"])
def test_arrays_that_a_checkpoint_cannot_hold_are_named(saved, dtype):
    before = saved.read_bytes()
    with pytest.raises(TypeError, match=r"^arrays: mine has dtype "):
        fn.save_checkpoint(saved, make()[0], arrays={"mine": np.zeros(2, dtype)})
    assert saved.read_bytes() == before


def test_a_folder_that_is_missing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        fn.save_checkpoint(tmp_path / "none" / "c", make()[0])


# ---- hostile files: every field, with a checksum that fits ---------------------------------------

DEEP = json.loads("[" * 500 + "]" * 500)
HOSTILE = [
    None, True, -1, 1, 5, 1.5, math.nan, math.inf, 1e300, -(2**20), 2**53 + 1, 2**63, 2**64 - 1, 2**64, 10**400,
    -(10**400), "", "x" * 10**5, [], {}, [[]], [1] * 10**4, {"a": 1}, {"": {}}, DEEP, ["a", None, {}], [-1, 2**64],
]  # fmt: skip


def paths(value, prefix=()):
    """The places in JSON."""
    yield prefix
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in inner:
        yield from paths(entry, (*prefix, key))


def replaced(content, path, value):
    copy = json.loads(json.dumps(content))
    place = copy
    for key in path[:-1]:
        place = place[key]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return copy


def write(path, content, arrays):
    text = {**content, "crc32": fn.train.checkpoint.checksum(json.dumps(content), arrays)}
    save_arrays(path, arrays, {"checkpoint": json.dumps(text)})


@pytest.fixture
def run_file(tmp_path):
    """A checkpoint of a run, with callbacks, in the middle of an epoch."""
    path = tmp_path / "c.safetensors"
    with pytest.raises(Stop):
        fit(trainer_of(), validation_data=(X, Y), callbacks=[*chain(tmp_path), SaveAt(path, 8)])
    return path


def chain(folder):
    stopping = callbacks.EarlyStopping(patience=5, restore_best=True)
    return [stopping, callbacks.ModelCheckpoint(folder / "best", best_only=True)]


def everything(trainer):
    return (*state(trainer.model, trainer.optimizer), trainer.history.history, trainer.epoch)


def tries(run_file, tmp_path, changes):
    """Each changed file is resumed from as a whole, or refused by name in a few words with nothing changed."""
    path = tmp_path / "hostile.safetensors"
    trainer = trainer_of(seed=5)
    initial = everything(trainer)
    refused = 0
    for content, arrays, what in changes:
        try:
            write(path, content, arrays)
        except (ValueError, TypeError, RecursionError):
            continue  # no file can hold this
        before = everything(trainer)
        own = chain(tmp_path)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                fit(trainer, epochs=0, callbacks=own, resume=path)
        except ValueError as error:
            refused += 1
            assert "hostile.safetensors" in str(error), what
            assert len(str(error)) < 1500 and "\n" not in str(error), what
            assert everything(trainer)[:4] == before[:4], what
            assert (own[0].best, own[0].wait) == (math.inf, 0), what
        else:
            fn.manual_seed(5)
            trainer = trainer_of(seed=5)
            assert everything(trainer)[:4] == initial[:4]
    return refused


@pytest.mark.parametrize("values", [HOSTILE[::8], pytest.param(HOSTILE, marks=pytest.mark.slow)], ids=["some", "all"])
def test_no_value_of_any_field_of_a_checkpoint_crashes_or_is_half_loaded(run_file, tmp_path, values):
    content, arrays = fn.train.checkpoint.read_checkpoint(run_file)
    places = [path for path in paths(content) if path]
    kinds = {"random", "loader", "optimizer", "history", "extra", "step", "epoch", "version"}
    assert {path[0] for path in places} == kinds
    changes = [(replaced(content, path, v), arrays, (path, v)) for path in places for v in (..., *values)]
    refused = tries(run_file, tmp_path, changes)
    assert refused > 0.6 * len(changes)


def test_no_tensor_of_a_checkpoint_crashes_or_is_half_loaded(run_file, tmp_path):
    content, arrays = fn.train.checkpoint.read_checkpoint(run_file)
    changes = []
    for name, array in arrays.items():
        others = [
            array[:0], array[..., None], array.reshape(-1)[:1], array.astype(np.float16), array.astype(bool),
            array.astype(np.complex64), np.zeros((0, 2**40), array.dtype), None,
        ]  # fmt: skip
        if name.endswith("/steps"):
            others += [np.full_like(array, v) for v in (np.nan, np.inf, -1, 1e300, 0.5, 2.0**64)]
        for other in others:
            if other is not None and (other.dtype, other.shape) == (array.dtype, array.shape):
                continue
            changed = {key: a for key, a in arrays.items() if key != name} | ({} if other is None else {name: other})
            changes.append((content, changed, (name, None if other is None else (other.dtype, other.shape))))
    weights = [change for change in changes if "EarlyStopping" in change[2][0]]
    assert weights and tries(run_file, tmp_path, changes) >= len(changes) - len(weights)


ENDING = {"epoch": 1, "logs": {"loss": 0.5}, "seconds": 0.1, "callbacks": []}
FIELDS = [
    (
        "random",
        lambda c, v: c["random"]["generator"].update(buffer_pos=v),
        [-(2**20), -1, 5, 2**31, 2**64, 0.5, None, "1"],
    ),
    (
        "random",
        lambda c, v: c["random"]["generator"].update(buffer=v),
        [[], [1] * 3, [1] * 5, [-1] * 4, [2**64] * 4, {}],
    ),
    (
        "random",
        lambda c, v: c["random"]["generator"]["state"].update(key=v),
        [[], [1], [1] * 3, "ab", [1.0, 2.0]],
    ),
    (
        "random",
        lambda c, v: c["random"]["generator"]["state"].update(counter=v),
        [[], [1] * 3, [None] * 4, 5],
    ),
    (
        "random",
        lambda c, v: c["random"]["generator"].update(uinteger=v),
        [-1, 2**32, "a", []],
    ),
    (
        "random",
        lambda c, v: c["random"]["generator"].update(has_uint32=v),
        [-1, 2, True, []],
    ),
    (
        "random",
        lambda c, v: c["random"].update(plan=v),
        [[1], [1, 2, 3], [-1, 0], [2**64, 0], [math.nan, 0], {}],
    ),
    (
        "step",
        lambda c, v: c.update(step=v),
        [math.nan, 1e300, 2**64 - 1, -1, 1.0, True, None, []],
    ),
    (
        "epoch",
        lambda c, v: c.update(epoch=v),
        [math.nan, 1e300, 2**64 - 1, -1, 1.0, True, None, []],
    ),
    (
        "steps",
        lambda c, v: c["optimizer"]["groups"][0].update(steps=v),
        [math.nan, 1e300, 2**64 - 1, -1, 1.5, True, None],
    ),
    (
        "maximize",
        lambda c, v: c["optimizer"]["groups"][0].update(maximize=v),
        [[], {}, 1, 0, None, "no", 0.0],
    ),
    (
        "max_exp_avg_sq",
        lambda c, v: c["optimizer"]["groups"][0].update(amsgrad=v),
        [True],
    ),
    (
        "betas",
        lambda c, v: c["optimizer"]["groups"][0].update(betas=v),
        [[], [0.9], [0.9, 1], [0.9, math.nan], [[], []], 5],
    ),
    (
        "lr",
        lambda c, v: c["optimizer"]["groups"][0].update(lr=v),
        [math.nan, math.inf, 10**400, -1, [], None, True],
    ),
    (
        "loader",
        lambda c, v: c["loader"].update(epoch=v),
        [math.nan, 1e300, 2**64 - 1, -1, True, None],
    ),
    (
        "loader",
        lambda c, v: c["loader"].update(seed=v),
        [math.nan, 1e300, 2**64, -1, True, None],
    ),
    (
        "loader",
        lambda c, v: c["loader"].update(batch=v),
        [math.nan, 1e300, 2**64, -1, 6, True, None],
    ),
    (
        "loader",
        lambda c, v: c["loader"].update(shuffle=v),
        [1, None, []],
    ),
    (
        "history",
        lambda c, v: c["history"].update(epoch=v),
        [5, {}, [math.nan], [1e300], [-1], [2**64 - 1], [[]], []],
    ),
    (
        "history",
        lambda c, v: c["history"].update(loss=v),
        [5, None, {}, [1.0] * 50, ["a"], [None], [[1.0]], [{}], [10**400], [0.5, "\ud800"]],
    ),
    (
        "means",
        lambda c, v: c["extra"].update(means=v),
        [5, [], {}, {"samples": 1}, {"samples": 1, "sums": 5}],
    ),
    (
        "samples",
        lambda c, v: c["extra"]["means"].update(samples=v),
        [math.nan, 1e300, 2**64 - 1, -1, None, "5"],
    ),
    (
        "counts",
        lambda c, v: c["extra"]["means"]["counts"].update(loss=v),
        [math.nan, 1e300, 2**64 - 1, -1, None, "5", [], True],
    ),
    (
        "sums",
        lambda c, v: c["extra"]["means"]["sums"].update(loss=v),
        [None, "5", [], True, 10**400],
    ),
    (
        "sums",
        lambda c, v: c["extra"]["means"]["sums"].update({v: 1.0}),
        ["val_loss", "\x1b[2J", "\ud800", ""],
    ),
    (
        "counts",
        lambda c, v: c["extra"]["means"]["counts"].update({v: 1}),
        ["other"],
    ),
    (
        "callbacks",
        lambda c, v: c["extra"].update(callbacks=v),
        [5, [], None, {"EarlyStopping.1": 5}],
    ),
    (
        "untold",
        lambda c, v: c["extra"].update(untold=v),
        [5, None, {}, "History.1", [1], [None]],
    ),
    (
        "ending",
        lambda c, v: c["extra"].update(ending=v),
        [5, [], {}, {"epoch": 1}, {**ENDING, "more": 1}],
    ),
    (
        "epoch",
        lambda c, v: c["extra"].update(ending={**ENDING, "epoch": v}),
        [math.nan, 1e300, 2**64 - 1, -1, None, True],
    ),
    (
        "logs",
        lambda c, v: c["extra"].update(ending={**ENDING, "logs": v}),
        [None, [], {"loss": None}, {"loss": "1"}, {"loss": True}, {"loss": 10**400}],
    ),
    (
        "seconds",
        lambda c, v: c["extra"].update(ending={**ENDING, "seconds": v}),
        [math.nan, math.inf, -1.0, None, "1"],
    ),
    (
        "callbacks",
        lambda c, v: c["extra"].update(ending={**ENDING, "callbacks": v}),
        [None, "History.1", {}, [1]],
    ),
    (
        "validation",
        lambda c, v: c["extra"].update(validation=v),
        [5, [], {"seed": 1}, {"seed": -1, "epoch": 0}, {"seed": 1, "epoch": -1}, {"seed": 1, "epoch": 0, "batch": 0}],
    ),
    (
        "EarlyStopping",
        lambda c, v: c["extra"]["callbacks"]["EarlyStopping.1"].update(best=v),
        [None, "a", [], math.nan, 10**400],
    ),
    (
        "wait",
        lambda c, v: c["extra"]["callbacks"]["EarlyStopping.1"].update(wait=v),
        [None, "a", [], math.nan, 1e300, -1, 2**64],
    ),
]


@pytest.mark.parametrize(("field", "change", "values"), FIELDS, ids=[f"{i}-{f[0]}" for i, f in enumerate(FIELDS)])
def test_a_hostile_value_is_refused_by_file_and_field_and_changes_nothing(run_file, tmp_path, field, change, values):
    content, arrays = fn.train.checkpoint.read_checkpoint(run_file)
    path = tmp_path / "hostile.safetensors"
    trainer = trainer_of(seed=5)
    before = everything(trainer)
    for value in values:
        changed = json.loads(json.dumps(content))
        change(changed, value)
        write(path, changed, arrays)
        own = chain(tmp_path)
        with pytest.raises(ValueError, match=rf"hostile\.safetensors.*{field}") as caught:
            fit(trainer, validation_data=DataLoader((X, Y), 30), callbacks=own, resume=path)
        assert len(str(caught.value)) < 1000 and str(caught.value).isprintable()
        assert everything(trainer)[:4] == before[:4]
        assert own[0].best == math.inf


def test_groups_that_the_optimizer_lacks_are_not_looked_for_among_the_tensors(run_file, tmp_path, monkeypatch):
    """A file of 30 MB can name two million, and a hundred thousand tensors."""
    content, arrays = fn.train.checkpoint.read_checkpoint(run_file)
    content["optimizer"]["groups"] *= 1000
    write(tmp_path / "c", content, arrays)
    model, optimizer = make()
    searches, part = [], fn.train.checkpoint._part
    monkeypatch.setattr(fn.train.checkpoint, "_part", lambda *args: searches.append(args) or part(*args))
    with pytest.raises(ValueError, match=r"does not fit the optimizer: 1000 groups, not 1"):
        fn.load_checkpoint(tmp_path / "c", model, optimizer)
    assert len(searches) < 10


@pytest.mark.parametrize(
    "change",
    [
        {"plan": [1]},
        {"generator": None},
        {"generator": {"bit_generator": "MT19937"}},
        {"more": 1},
    ],
)
def test_a_state_of_random_numbers_that_is_none_is_refused_and_the_present_one_kept(change):
    before = fn.get_rng_state()
    with pytest.raises(ValueError, match="not a random state of fastnn"):
        fn.set_rng_state({**before, **change})
    for buffer_pos in (-(2**20), -1, 5, 2**31 - 1, 2**40):
        with pytest.raises(ValueError, match="buffer_pos must be an int from 0 to 4"):
            fn.set_rng_state({**before, "generator": {**before["generator"], "buffer_pos": buffer_pos}})
    for other in (None, [], {}, 5, "state"):
        with pytest.raises(ValueError, match="not a random state of fastnn"):
            fn.set_rng_state(other)
    assert fn.get_rng_state() == before


def test_a_million_unknown_tensors_are_named_in_a_few_words(run_file, tmp_path):
    content, arrays = fn.train.checkpoint.read_checkpoint(run_file)
    write(run_file, content, {**arrays, **{f"model/{'x' * 50}{i}": np.zeros(0) for i in range(20_000)}})
    with pytest.raises(ValueError, match=r"c\.safetensors does not fit .* more$") as caught:
        fit(trainer_of(), resume=run_file)
    assert len(str(caught.value)) < 2000


def test_arrays_of_another_byte_order_are_remembered(tmp_path):
    path, model = tmp_path / "c", make()[0]
    fn.save_checkpoint(path, model, arrays={"a": np.arange(4, dtype=">f4")})
    found = fn.load_checkpoint(path, model)["arrays"]["a"]
    assert found.dtype == np.float32 and found.tolist() == [0, 1, 2, 3]


@pytest.mark.attack
@pytest.mark.parametrize("most", [60, pytest.param(3000, marks=pytest.mark.slow)])
def test_an_interrupted_resumption_leaves_the_old_state_or_the_new_one(run_file, tmp_path, most):
    def whole(trainer):
        place = trainer.step, trainer.epoch, trainer.batch, trainer.history.history
        return state(trainer.model, trainer.optimizer), *place

    trainer = trainer_of(seed=5)
    back = tmp_path / "back"
    with pytest.raises(Stop):
        fit(trainer_of(seed=5), callbacks=[SaveAt(back, 1)])
    fit(trainer, epochs=0, resume=back)
    old = whole(trainer)
    fit(trainer, epochs=0, resume=run_file)
    new = whole(trainer)

    def resume(path):
        trainer._resume(path, trainer._callbacks, False)

    for at in interrupts.places(lambda: resume(run_file), most):
        resume(back)
        assert whole(trainer) == old
        with pytest.raises(interrupts.Interrupted):
            interrupts.run(lambda: resume(run_file), at)
        assert whole(trainer) in (old, new)


# ---- resumed training --------------------------------------------------------------------------


class Stop(Exception):
    pass


class SaveAt(callbacks.Callback):
    """Saves after one step, and ends training there as a crash would."""

    def __init__(self, path, step):
        self.path, self.step = path, step

    def on_batch_end(self, batch, logs):
        if self.trainer.step == self.step:
            self.trainer.save_checkpoint(self.path)
            raise Stop


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_training_resumed_after_any_step_has_the_same_bits(tmp_path, kind):
    """3 epochs of 5 batches, the last of them smaller; dropout and shuffling go on, too."""
    path = tmp_path / "c.safetensors"
    whole = trainer_of(kind)
    history = fit(whole).history
    for step in range(1, 16):
        first = trainer_of(kind)
        with pytest.raises(Stop):
            fit(first, callbacks=[SaveAt(path, step)])
        second = trainer_of(kind, seed=77)
        resumed = fit(second, resume=path)
        assert state(second.model, second.optimizer) == state(whole.model, whole.optimizer)
        assert resumed.epoch == [0, 1, 2]
        for name in ("loss", "accuracy"):
            assert resumed.history[name] == history[name]


def test_samples_a_second_of_a_resumed_epoch_are_those_of_what_was_left(tmp_path, monkeypatch):
    path = tmp_path / "c.safetensors"
    with pytest.raises(Stop):
        fit(trainer_of(), callbacks=[SaveAt(path, 3)])
    seconds = itertools.count(step=2)
    monkeypatch.setattr(time, "perf_counter", lambda: next(seconds))
    history = fit(trainer_of(), resume=path).history
    assert history["samples_per_second"] == [15, 45, 45]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_run_resumed_on_other_threads_has_the_same_bits(tmp_path, threads):
    path = tmp_path / "c.safetensors"
    whole = trainer_of()
    fit(whole)
    with pytest.raises(Stop), fn.threads(2):
        fit(trainer_of(), callbacks=[SaveAt(path, 7)])
    second = trainer_of(seed=5)
    with fn.threads(threads):
        fit(second, resume=path)
    assert state(second.model, second.optimizer) == state(whole.model, whole.optimizer)


@pytest.mark.parametrize("where", ["batch", "validation", "epoch"])
def test_a_checkpoint_written_after_ctrl_c_resumes_to_the_same_bits(tmp_path, where):
    path = tmp_path / "c.safetensors"
    whole = trainer_of()
    fit(whole, validation_data=(X, Y))

    def interrupt(*_):
        if first.epoch >= 1 and first.step >= 7:
            signal.raise_signal(signal.SIGINT)

    class Slow:
        """A data set that is interrupted when it is read."""

        def __len__(self):
            return len(X)

        def __getitem__(self, index):
            interrupt()
            return X[index], Y[index]

    first = trainer_of()
    validation = DataLoader(Slow(), 30, prefetch=0) if where == "validation" else (X, Y)
    hooks = {"batch": {"on_batch_end": interrupt}, "epoch": {"on_epoch_begin": interrupt}}
    chain = [callbacks.LambdaCallback(**hooks.get(where, {}))]
    with pytest.raises(KeyboardInterrupt):
        fit(first, validation_data=validation, callbacks=chain)
    first.save_checkpoint(path)

    second = trainer_of(seed=5)
    fit(second, validation_data=(X, Y), resume=path)
    assert state(second.model, second.optimizer) == state(whole.model, whole.optimizer)


@pytest.mark.parametrize("number", [np.float32, np.float64, lambda value: np.array(value, np.float32)])
def test_numbers_of_numpy_are_settings_and_results_as_pythons_are(tmp_path, number):
    path, loaded = tmp_path / "c.safetensors", []

    def half(output, target):
        return number(0.5)

    class Own(callbacks.Callback):
        def on_epoch_end(self, epoch, logs):
            self.trainer.history.history.setdefault("own", []).append(number(0.25))

        def state_dict(self):
            return {"a": number(2), "b": [np.int64(3), {np.int64(4): np.bool_(True)}]}

        def load_state_dict(self, state):
            loaded.append(state)

    def run(epochs, **arguments):
        model, _ = make()
        optimizer = optim.Adam(model.parameters(), lr=np.float32(0.5), betas=(np.float32(0.5), np.float64(0.75)))
        trainer = fn.Trainer(model, nn.CrossEntropyLoss(), optimizer, [half])
        stopping = callbacks.EarlyStopping("half", np.int64(5), number(0.125))
        schedule = callbacks.LearningRateScheduler(lambda epoch: number(0.25))
        chain = [stopping, schedule, Own(), callbacks.ModelCheckpoint(path)]
        trainer.fit((X, Y), None, np.int64(epochs), np.int64(20), verbose=np.bool_(False), callbacks=chain, **arguments)
        return trainer, stopping

    trainer, stopping = run(1)
    resumed, _ = run(2, resume=path)
    assert resumed.history.epoch == [0, 1]
    assert resumed.history.history["own"] == [0.25, 0.25]
    values = [stopping.min_delta, stopping.best, trainer.optimizer.lr, *trainer.history.history["half"]]
    assert values == [0.125, 0.5, 0.25, 0.5]
    assert {type(value) for value in values} == {float}
    assert loaded == [{"a": 2, "b": [3, {"4": True}]}]


def test_a_schedule_that_gives_no_number_is_named(tmp_path):
    chain = [callbacks.LearningRateScheduler(lambda epoch: None)]
    with pytest.raises(TypeError, match=r"^schedule\(0\) must be a finite number, got None"):
        fit(trainer_of(), callbacks=chain)


def test_means_of_a_checkpoint_of_before_denominators_count_by_samples():
    assert Means({"samples": 4, "sums": {"loss": 8.0, "accuracy": 3.0}}).logs() == {"loss": 2, "accuracy": 0.75}


def test_a_finished_run_goes_on_for_more_epochs(tmp_path):
    path = tmp_path / "c.safetensors"
    whole = trainer_of()
    history = fit(whole, epochs=5).history
    first = trainer_of()
    fit(first, epochs=2)
    first.save_checkpoint(path)
    second = trainer_of(seed=5)
    assert fit(second, epochs=5, resume=path).history["loss"] == history["loss"]
    assert state(second.model, second.optimizer) == state(whole.model, whole.optimizer)
    assert fit(trainer_of(), epochs=2, resume=path).epoch == [0, 1]


def test_a_loader_of_ones_own_resumes_too_and_again(tmp_path):
    path = tmp_path / "c.safetensors"

    def train(trainer, **arguments):
        loader = DataLoader((X, Y), batch_size=20, shuffle=True, seed=3, drop_last=True)
        if "resume" not in arguments:
            for _ in loader:  # its epochs are one ahead of the trainer's
                pass
        trainer.fit(loader, epochs=3, verbose=False, **arguments)
        return state(trainer.model, trainer.optimizer, loader)

    whole = train(trainer_of())
    with pytest.raises(Stop):
        train(trainer_of(), callbacks=[SaveAt(path, 6)])
    with pytest.raises(Stop):
        train(trainer_of(seed=3), callbacks=[SaveAt(path, 9)], resume=path)
    assert train(trainer_of(seed=5), resume=path) == whole


def test_callbacks_resume_where_they_were(tmp_path):
    path = tmp_path / "c.safetensors"
    values = [5, 3, 4, 4, 4, 4]

    class Logs(callbacks.Callback):
        def on_epoch_end(self, epoch, logs):
            logs["val_loss"] = values[epoch]

    def train(trainer, epochs, **arguments):
        stopping = callbacks.EarlyStopping(patience=3, restore_best=True)
        chain = [
            callbacks.ModelCheckpoint(path),  # first in the list, and still the last to be called
            callbacks.CSVLogger(tmp_path / "h.csv"),
            Logs(),
            stopping,
            callbacks.LearningRateScheduler(lambda epoch: 0.01 / (1 + epoch)),
        ]
        history = fit(trainer, epochs=epochs, callbacks=chain, **arguments)
        return history.epoch, stopping.best, stopping.wait

    whole = trainer_of()
    expected = train(whole, 6)
    assert expected == ([0, 1, 2, 3, 4], 3, 3)
    for epochs in (1, 2, 3, 4):
        first = trainer_of()
        train(first, epochs)
        second = trainer_of(seed=5)
        assert train(second, 6, resume=path) == expected
        assert state(second.model, second.optimizer) == state(whole.model, whole.optimizer)
        lines = (tmp_path / "h.csv").read_text().splitlines()
        assert [line.split(",")[0] for line in lines] == ["epoch", "1", "2", "3", "4", "5"]
    # Early stopping had ended it: so it stays, unless with more patience.
    assert train(trainer_of(), 6, resume=path) == expected


@pytest.mark.parametrize(
    "other",
    [
        {"batch_size": 10},
        {"shuffle": False},
        {"data": (X[:50], Y[:50])},
    ],
)
def test_other_data_are_refused_and_nothing_changes(tmp_path, other):
    path = tmp_path / "c.safetensors"
    first = trainer_of()
    fit(first)
    first.save_checkpoint(path)
    second = trainer_of(seed=5)
    before = state(second.model, second.optimizer)
    arguments = {"data": (X, Y), "batch_size": 20, "seed": 4, **other}
    with pytest.raises(ValueError, match="loader"):
        second.fit(**arguments, epochs=5, resume=path, verbose=False)
    assert state(second.model, second.optimizer) == before


# ---- crashes -----------------------------------------------------------------------------------


@pytest.mark.attack
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("kills", [60, pytest.param(4000, marks=pytest.mark.slow)])
def test_a_process_killed_while_it_saves_leaves_a_whole_file(tmp_path, kills):
    """The old file or the new one, and never less than what it had said was saved; see kills.py."""
    *lines, places = watched(Path(__file__).with_name("kills.py"), tmp_path / "c.safetensors", kills)
    print(places)
    assert lines[-1] == f"kill {kills}"
    assert all(f"{stage}: " in places for stage in STAGES)


def test_a_failed_write_leaves_the_old_file(saved, monkeypatch):
    before = saved.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        fn.save_checkpoint(saved, make()[0])
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]
