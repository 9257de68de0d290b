"""commit: all or nothing, whatever is wrong and whenever an interrupt comes."""

import copy
import os
import signal
import sys
import threading

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn, optim
from fastnn.data import DataLoader
from fastnn_ext.atomic import Calls, Held, Meanwhile, Temporary, commit, sync_folder

from interrupts import Interrupted, places, run


class Thing:
    value = 1


def test_arrays_entries_and_attributes_are_all_set():
    matrix, vector, table, thing = np.zeros((3, 4)), np.zeros(2, np.int64), {"a": 1}, Thing()
    commit(
        [(matrix.T[1:], np.arange(9.0).reshape(3, 3)), (vector, np.array([5, 6]))],
        [(table, "a", 2), (table, "b", 3)],
        [(thing, "value", 7)],
    )
    np.testing.assert_array_equal(matrix[:, 1:], np.arange(9.0).reshape(3, 3).T)
    assert (vector.tolist(), table, thing.value) == ([5, 6], {"a": 2, "b": 3}, 7)


@pytest.mark.parametrize(
    ("copies", "entries", "attributes"),
    [
        ([(np.zeros(3), np.zeros(4))], [], []),
        ([(np.zeros(3), np.zeros(3, np.float32))], [], []),
        ([(np.zeros(3), [1, 2, 3])], [], []),
        ([(np.zeros(3), None)], [], []),
        ([(np.zeros(2, object), np.zeros(2, object))], [], []),
        ([(np.broadcast_to(0.0, 3), np.zeros(3))], [], []),
        ([], [([], "a", 1)], []),
        ([], [({}, 5, 1)], []),
        ([], [], [(nn.Linear(1, 1), "training", False)]),
        ([], [], [(Thing(), 5, 1)]),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is(copies, entries, attributes):
    array, table, thing = np.zeros(2), {"a": 1}, Thing()
    with pytest.raises((TypeError, ValueError)):
        commit([(array, np.ones(2)), *copies], [(table, "a", 2), *entries], [(thing, "value", 7), *attributes])
    assert (array.tolist(), table, thing.value) == ([0, 0], {"a": 1}, 1)


class Refusing:
    @property
    def value(self):
        return 1


def test_what_was_assigned_is_taken_back_where_something_cannot_be():
    array, table, thing = np.zeros(2), {"a": 1}, Thing()
    entries, attributes = [(table, "a", 2), (table, "b", 3)], [(thing, "value", 7), (thing, "other", 8)]
    with pytest.raises(AttributeError):
        commit([(array, np.ones(2))], entries, [*attributes, (Refusing(), "value", 9)])
    assert (array.tolist(), table, thing.__dict__) == ([0, 0], {"a": 1}, {"value": 1})


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(), (0,), (5,), (3, 4), (2, 3, 4), (2, 1, 0, 4)])
def test_arrays_of_any_layout_are_copied(order, shape):
    source = np.asarray(np.random.default_rng(0).standard_normal(shape), order=order)
    for target in (np.zeros(shape), np.zeros(shape, order="F"), np.zeros((*shape, 2))[..., 1], np.zeros(shape).T.T):
        commit([(target, source)])
        np.testing.assert_array_equal(target, source)


def test_what_is_so_for_the_time_of_a_block_is_so_no_longer_however_it_ends():
    table, array, thing = {"a": 1}, np.arange(6.0).reshape(2, 3).T, Thing()
    for error in (None, KeyError, Interrupted):
        try:
            with Meanwhile([(table, "a", 2), (table, "b", 3)], [array], [(thing, "value")]):
                assert table == {"a": 2, "b": 3}
                thing.value = 5
                array[...] = 7
                table["b"] = 4
                if error:
                    raise error
        except (KeyError, Interrupted):
            pass
        assert table == {"a": 1} and thing.value == 1
        np.testing.assert_array_equal(array, np.arange(6.0).reshape(2, 3).T)


def test_a_block_that_begins_without_memory_leaves_things_as_they_were():
    """References, too: with one too few, a thing is freed that is in use."""
    memory = pytest.importorskip("_testcapi")
    names = [f"name {i}" for i in range(9)]
    table = {name: object() for name in names}
    before, failed = dict(table), 0
    for nth in range(100):
        meanwhile = Meanwhile([(table, name, 1) for name in names], [np.zeros(3)])
        references = [sys.getrefcount(value) for value in before.values()]
        try:
            memory.set_nomemory(nth, nth + 1)
            meanwhile.__enter__()
        except MemoryError:
            failed += 1
        else:
            meanwhile.__exit__(None, None, None)
        finally:
            memory.remove_mem_hooks()
        del meanwhile
        assert table == before
        assert [sys.getrefcount(value) for value in before.values()] == references
    assert failed > 3


def test_a_temporary_file_is_there_no_longer_unless_it_was_renamed(tmp_path):
    for error in (None, Interrupted):
        try:
            with Temporary(bytes(tmp_path / "a")):
                (tmp_path / "a").write_bytes(b"1")
                if error:
                    raise error
        except Interrupted:
            pass
        assert not list(tmp_path.iterdir())
    with Temporary(bytes(tmp_path / "a")):
        (tmp_path / "a").write_bytes(b"1")
        (tmp_path / "a").rename(tmp_path / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_lock_is_held_for_the_time_of_a_block():
    lock = threading.Lock()
    with Held(lock):
        assert lock.locked()
    assert not lock.locked()
    with pytest.raises(KeyError), Held(lock):
        raise KeyError
    assert not lock.locked()


def test_a_block_that_nobody_leaves_ends_when_it_is_let_go_of(tmp_path):
    table, array, lock, file = {"a": 1}, np.zeros(3), threading.Lock(), tmp_path / "a"
    blocks = [Meanwhile([(table, "a", 2), (table, "b", 3)], [array]), Temporary(bytes(file)), Held(lock)]
    while blocks:
        blocks.pop(0).__enter__()
    assert table == {"a": 1} and not file.exists() and not lock.locked()
    blocks = [Meanwhile([(table, "a", 2), (table, "b", 3)], [array]), Temporary(bytes(file)), Held(lock)]
    for i in range(3):
        blocks[i].__enter__()
    array[:] = 1
    file.write_bytes(b"1")
    assert table == {"a": 2, "b": 3} and lock.locked()
    blocks.clear()
    assert table == {"a": 1} and not array.any() and not file.exists() and not lock.locked()


def test_a_block_that_was_not_entered_ends_nothing(tmp_path):
    table, lock, file = {"a": 1}, threading.Lock(), tmp_path / "a"
    file.write_bytes(b"1")
    lock.acquire()
    blocks = [Meanwhile([(table, "a", 2)]), Temporary(bytes(file)), Held(lock)]
    table["a"] = 3
    blocks.clear()
    assert table == {"a": 3} and file.exists() and lock.locked()


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="this system's signals end a process")
def test_a_signal_between_an_exception_and_the_end_of_a_block_changes_nothing():
    """Python 3.10 hears it there."""

    def strike(*_):
        raise Interrupted

    table, lock, heard = {"a": 1}, threading.Lock(), signal.signal(signal.SIGUSR1, strike)
    try:
        for _ in range(100):
            with pytest.raises((TypeError, Interrupted)), Held(lock), Meanwhile([(table, "a", 2)]):
                sum(map(os.kill, [os.getpid(), None], [signal.SIGUSR1, None]))  # raises before Python hears of it
            assert table == {"a": 1} and not lock.locked()
    finally:
        signal.signal(signal.SIGUSR1, heard)


def test_a_folder_that_cannot_be_synced_is_no_error(tmp_path):
    sync_folder(bytes(tmp_path))
    sync_folder(bytes(tmp_path / "none"))


# ---- calls that Python may interrupt -------------------------------------------------------------


class Listener:
    def __init__(self, calls=None, error=None):
        self.heard, self.calls, self.error = [], calls, error

    def hear(self, *args):
        if self.calls is not None:
            self.done = self.calls.done
        if self.error is not None:
            raise self.error
        self.heard.append(args)


def test_each_of_several_objects_is_called_once():
    listeners = [Listener() for _ in range(4)]
    calls = Calls("hear", listeners, 7)
    assert (calls.method, calls.objects, calls.number, calls.done) == ("hear", tuple(listeners), 7, 0)
    assert calls.next(1, 2)
    assert calls.left() == tuple(listeners[1:])
    listeners[2].error = error = Interrupted()
    listeners[2].calls = calls
    with pytest.raises(Interrupted) as caught:
        calls.rest(3)
    assert caught.value is error
    assert (calls.done, calls.left()) == (2, tuple(listeners[2:]))
    assert listeners[2].done == 3  # while it ran, it counted
    listeners[2].error = None
    calls.rest(4)
    assert [listener.heard for listener in listeners] == [[(1, 2)], [(3,)], [(4,)], [(4,)]]
    assert not calls.next(5) and calls.left() == ()
    calls.again(8)
    assert (calls.number, calls.left()) == (8, tuple(listeners))
    done = Calls("hear", listeners, 0, 3)
    assert done.left() == (listeners[3],)
    assert copy.copy(done).left() == done.left()


def test_calls_that_cannot_be_are_refused():
    for done in (-1, 3):
        with pytest.raises(ValueError, match="calls cannot have been made"):
            Calls("hear", [Listener(), Listener()], 0, done)
    with pytest.raises(TypeError):
        Calls(None, [])
    with pytest.raises(TypeError):
        Calls.__new__(Calls).next()
    calls = Calls("other", [Listener()])
    with pytest.raises(AttributeError):
        calls.next()
    assert calls.done == 0


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [("lr", 0.5, [0.5]), ("betas", (0.5, 0.6), [0.5, 0.6]), ("weight_decay", 0.1, [0.1]), ("amsgrad", True, [])],
)
def test_an_interrupted_change_of_a_setting_is_made_as_a_whole_or_not_at_all(name, value, wanted):
    seen = set()
    for at in places(lambda: optim.Adam(nn.Linear(2, 2).parameters()).param_groups[0].update({name: value}), 10**9):
        group = optim.Adam(nn.Linear(2, 2).parameters()).param_groups[0]
        old, revision = group[name], group.revision
        first = next(iter(group._optimizer.numbers(name, value)), "lr")
        start = group._optimizer.hyper.index(first)
        numbers = group.hyper[start : start + len(wanted)].tolist()
        try:
            run(lambda: group.update({name: value}), at)  # noqa: B023  (called at once)
        except Interrupted:
            pass
        now = group.hyper[start : start + len(wanted)].tolist()
        revised = group.revision - revision
        assert (group[name], now) in ((old, numbers), (value, wanted)), at
        assert revised == (group[name] == value and name in ("weight_decay", "amsgrad")), at
        seen.add(group[name] == value)
    assert seen == {False, True}


# ---- loading -------------------------------------------------------------------------------------

X, Y = fn.data.moons(40, seed=0)


def make(seed):
    fn.manual_seed(seed)
    model = nn.Sequential(nn.Linear(2, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2))
    optimizer = optim.Adam(model.parameters(), lr=0.01 * (seed + 1))
    loader = DataLoader((X, Y), 10, shuffle=True, seed=seed)
    step = fn.TrainStep(model, nn.CrossEntropyLoss(), optimizer)
    for _, batch in zip(range(seed + 1), loader, strict=False):
        step(*batch)
    return model, optimizer, loader


def state(model, optimizer, loader):
    saved = optimizer.state_dict()
    return (
        {name: array.tobytes() for name, array in model.state_dict().items()},
        [{name: array.tobytes() for name, array in states.items()} for states in saved["state"]],
        saved["groups"],
        [group.hyper.tolist() for group in optimizer.param_groups],
        loader.state_dict(),
        fn.get_rng_state(),
    )


@pytest.fixture(params=[pytest.param(150, id="some"), pytest.param(10**9, id="all", marks=pytest.mark.slow)])
def most(request):
    return request.param


@pytest.mark.attack
def test_an_interrupt_while_a_checkpoint_is_loaded_leaves_the_old_state_or_the_new_one(tmp_path, most):
    path = tmp_path / "c.safetensors"
    target = make(2)
    fn.save_checkpoint(path, target[0], target[1], loader=target[2])
    new = state(*target)
    subject = make(0)
    back = tmp_path / "back.safetensors"
    fn.save_checkpoint(back, subject[0], subject[1], loader=subject[2])
    old = state(*subject)
    seen = {"old": 0, "new": 0}

    def load():
        fn.load_checkpoint(path, subject[0], subject[1], loader=subject[2])

    numbers = places(load, most)
    for at in numbers:
        fn.load_checkpoint(back, subject[0], subject[1], loader=subject[2])
        with pytest.raises(Interrupted):
            run(load, at)
        now = state(*subject)
        assert now in (old, new), f"a mixture, after an interrupt at bytecode {at}"
        seen["new" if now == new else "old"] += 1
    assert seen["old"] and seen["new"] and sum(seen.values()) == len(numbers)


@pytest.mark.attack
@pytest.mark.parametrize("what", ["load", "load_state_dict", "optimizer", "random", "loader"])
def test_an_interrupt_in_any_loading_leaves_the_old_state_or_the_new_one(tmp_path, most, what):
    target = make(2)
    target[0].save(tmp_path / "m.safetensors")
    weights, settings = target[0].state_dict(), target[1].state_dict()
    place, numbers = target[2].state_dict(), fn.get_rng_state()
    model, optimizer, loader = subject = make(0)
    first = (model.state_dict(), optimizer.state_dict(), loader.state_dict(), fn.get_rng_state())
    old = state(*subject)
    loads = {
        "load": lambda: model.load(tmp_path / "m.safetensors"),
        "load_state_dict": lambda: model.load_state_dict(weights),
        "optimizer": lambda: optimizer.load_state_dict(settings),
        "loader": lambda: loader.load_state_dict(place),
        "random": lambda: fn.set_rng_state(numbers),
    }

    def restore():
        model.load_state_dict(first[0])
        optimizer.load_state_dict(first[1])
        loader.load_state_dict(first[2])
        fn.set_rng_state(first[3])

    loads[what]()
    new = state(*subject)
    assert new != old
    restore()
    for at in places(loads[what], most):
        restore()
        assert state(*subject) == old
        with pytest.raises(Interrupted):
            run(loads[what], at)
        assert state(*subject) in (old, new)


@pytest.mark.parametrize("how", ["load_state_dict", "load", "load_checkpoint"])
def test_a_partly_frozen_model_is_loaded_whole_or_not_at_all(tmp_path, how):
    def build(seed):
        fn.manual_seed(seed)
        return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 3).frozen(), nn.Linear(3, 2))

    model, other = build(0), build(1)
    other.save(tmp_path / "m")
    fn.save_checkpoint(tmp_path / "c", other)
    before = {name: array.copy() for name, array in model.state_dict().items()}
    load = {
        "load_state_dict": lambda: model.load_state_dict(other.state_dict()),
        "load": lambda: model.load(tmp_path / "m"),
        "load_checkpoint": lambda: fn.load_checkpoint(tmp_path / "c", model),
    }[how]
    with pytest.raises(ValueError, match=r"1\.weight is of a frozen module"):
        load()
    assert all((array == before[name]).all() for name, array in model.state_dict().items())

    # With the values that the frozen part has, as when a training is resumed, it is loaded.
    mixed = {**other.state_dict(), **{name: before[name] for name in ("1.weight", "1.bias")}}
    model.load_state_dict(mixed)
    assert all((array == mixed[name]).all() for name, array in model.state_dict().items())


def test_values_that_are_views_of_the_model_are_those_of_before():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    first, second = (model[i].weight.data.copy() for i in (0, 1))
    swapped = {"0.weight": model[1].weight.data, "1.weight": model[0].weight.data}
    model.load_state_dict(swapped, strict=False)
    np.testing.assert_array_equal(model[0].weight.data, second)
    np.testing.assert_array_equal(model[1].weight.data, first)


def test_values_that_float32_lacks_change_nothing_where_that_is_an_error():
    model = nn.Linear(2, 2)
    before = model.weight.data.copy()
    state_dict = {"weight": np.ones((2, 2)), "bias": np.full(2, 1e300)}
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        model.load_state_dict(state_dict)
    np.testing.assert_array_equal(model.weight.data, before)


def test_settings_that_need_state_have_it_when_they_are_set():
    model = nn.Linear(2, 2)
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    optimizer.param_groups[0]["amsgrad"] = True
    assert "max_exp_avg_sq" in optimizer.state_dict()["state"][0]
    other = optim.Adam(nn.Linear(2, 2).parameters(), amsgrad=True)
    other.load_state_dict(optimizer.state_dict())
    step = fn.TrainStep(model, nn.MSELoss(), optimizer)
    step(np.ones((3, 2), np.float32), np.ones((3, 2), np.float32))


@pytest.mark.parametrize("value", [[], 1, None, "yes", 0.5])
def test_a_flag_of_an_optimizer_is_true_or_false(value):
    optimizer = optim.Adam(nn.Linear(2, 2).parameters())
    with pytest.raises(TypeError, match="maximize must be True or False"):
        optimizer.param_groups[0]["maximize"] = value
    assert optimizer.param_groups[0]["maximize"] is False
