"""DataLoader: which batches come, in which order, and from where they go on."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastnn as fn
from fastnn import nn, optim
from fastnn.data import ArrayDataset, DataLoader
from fastnn.train.callbacks import LambdaCallback

from interrupts import Interrupted, places, run
from workers import no_worker_within


def rows_of(batches):
    """The row numbers that batches of an arange hold, as a list of lists."""
    return [batch[0].tolist() for batch in batches]


def flat(lists):
    return [row for rows in lists for row in rows]


def loader_of(n, **options):
    return DataLoader((np.arange(n),), **options)


# Which batches


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(1, 40),
    batch_size=st.integers(1, 45),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
    prefetch=st.integers(0, 3),
)
def test_an_epoch_holds_every_row_once(n, batch_size, shuffle, drop_last, prefetch):
    if drop_last and batch_size > n:
        with pytest.raises(ValueError, match="leaves no batch"):
            loader_of(n, batch_size=batch_size, drop_last=True)
        return
    loader = loader_of(
        n,
        batch_size=batch_size,
        shuffle=shuffle,
        seed=1,
        drop_last=drop_last,
        prefetch=prefetch,
    )
    batches = rows_of(loader)
    rows = flat(batches)
    whole, rest = divmod(n, batch_size)
    sizes = [batch_size] * whole + ([rest] if rest and not drop_last else [])
    assert [len(batch) for batch in batches] == sizes
    assert len(loader) == len(sizes)
    assert len(set(rows)) == len(rows) == sum(sizes)
    if not shuffle:
        assert rows == list(range(sum(sizes)))


def test_rows_of_all_arrays_stay_together():
    x = np.arange(30).reshape(10, 3)
    for xb, yb in DataLoader([x, np.arange(10)], batch_size=4, shuffle=True, seed=0):
        np.testing.assert_array_equal(xb, x[yb])


def test_a_single_array_is_a_dataset_too():
    assert rows_of(DataLoader(np.arange(3), batch_size=2)) == [[0, 1], [2]]


def test_the_transform_of_the_dataset_is_applied_to_each_batch():
    dataset = ArrayDataset(np.arange(5), transform=lambda x: (10 * x,))
    assert rows_of(DataLoader(dataset, batch_size=3)) == [[0, 10, 20], [30, 40]]


def test_any_object_with_a_length_and_rows_is_a_dataset():
    class Squares:
        def __len__(self):
            return 5

        def __getitem__(self, indices):
            assert indices.dtype == np.int64
            return (indices**2,)

    assert rows_of(DataLoader(Squares(), batch_size=2)) == [[0, 1], [4, 9], [16]]


# What a batch is


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("prefetch", [0, 2])
def test_batches_belong_to_the_consumer(shuffle, prefetch):
    x = np.arange(24.0).reshape(8, 3)
    loader = DataLoader((x,), batch_size=4, shuffle=shuffle, seed=0, prefetch=prefetch)
    (first,), (second,) = loader
    assert not np.shares_memory(first, second)
    assert not np.shares_memory(first, x)
    first[:] = second[:] = -1
    np.testing.assert_array_equal(x, np.arange(24.0).reshape(8, 3))


def test_batches_stay_as_they_were_when_others_are_drawn():
    loader = loader_of(100, batch_size=10, shuffle=True, seed=3)
    held, copies = [], []
    for (batch,) in loader:
        held.append(batch)
        copies.append(batch.copy())
    np.testing.assert_array_equal(held, copies)


BASE = np.arange(120.0).reshape(10, 4, 3)


@pytest.mark.parametrize(
    "array",
    [
        np.asfortranarray(BASE),
        BASE[::-1],
        BASE[:, ::2, ::-1],
        BASE.transpose(0, 2, 1),
        BASE.astype(">f4"),
        BASE.astype(">i2")[:, 1:],
        np.broadcast_to(BASE[:1], BASE.shape),
        np.frombuffer(b"\0" + BASE.tobytes(), np.uint8)[1:].view(np.float64).reshape(10, 12),
        BASE[:, :0],
        BASE > 50,
        BASE.astype(np.float16),
        BASE.astype(complex),
    ],
    ids=[
        "fortran",
        "reversed",
        "strided",
        "transposed",
        "big-endian",
        "big-endian strided",
        "broadcast",
        "misaligned read-only",
        "no columns",
        "bool",
        "float16",
        "complex",
    ],
)
def test_batches_of_any_layout_are_contiguous_aligned_and_native(array):
    read_only = array.view()
    read_only.flags.writeable = False
    taken = []
    for (batch,) in DataLoader(read_only, batch_size=3):
        assert type(batch) is np.ndarray
        assert batch.flags.c_contiguous and batch.flags.aligned and batch.flags.writeable
        assert batch.dtype == array.dtype.newbyteorder("=") and batch.dtype.isnative
        taken.append(batch)
    np.testing.assert_array_equal(np.concatenate(taken), array)


# The order


def test_without_shuffle_rows_come_as_they_stand_each_epoch():
    loader = loader_of(5, batch_size=2, seed=9)
    for _ in range(3):
        assert rows_of(loader) == [[0, 1], [2, 3], [4]]


def test_each_epoch_has_its_own_order():
    loader = loader_of(50, batch_size=50, shuffle=True, seed=0)
    orders = {tuple(rows_of(loader)[0]) for _ in range(20)}
    assert len(orders) == 20


def test_the_order_depends_on_seed_and_epoch_alone():
    def orders(seed, batch_size, prefetch):
        loader = loader_of(37, batch_size=batch_size, shuffle=True, seed=seed, prefetch=prefetch)
        return [flat(rows_of(loader)) for _ in range(4)]

    assert orders(5, 1, 0) == orders(5, 8, 2) == orders(5, 37, 7)
    assert all(a != b for a, b in zip(orders(5, 8, 2), orders(6, 8, 2), strict=True))


def test_the_order_is_the_same_on_every_machine_and_numpy():
    loader = loader_of(12, batch_size=12, shuffle=True, seed=2024)
    assert rows_of(loader) == [[8, 10, 7, 6, 4, 9, 1, 5, 0, 11, 3, 2]]
    assert rows_of(loader) == [[0, 5, 1, 7, 9, 2, 4, 11, 3, 6, 8, 10]]


def test_the_order_has_no_preference():
    counts = np.zeros((4, 4), int)
    loader = loader_of(4, batch_size=4, shuffle=True, seed=0, prefetch=0)
    for _ in range(4000):
        ((order,),) = loader
        counts[np.arange(4), order] += 1
    # Mean 1000, standard deviation 27.4: five of them.
    assert np.abs(counts - 1000).max() < 137


def test_the_largest_seed_is_a_seed():
    assert rows_of(loader_of(9, batch_size=9, shuffle=True, seed=2**64 - 1)) != rows_of(
        loader_of(9, batch_size=9, shuffle=True, seed=2**63 - 1)
    )


def test_without_a_seed_each_loader_draws_one_that_repeats_it():
    first, second = (loader_of(30, batch_size=7, shuffle=True) for _ in range(2))
    assert first.seed != second.seed
    again = loader_of(30, batch_size=7, shuffle=True, seed=first.seed)
    for _ in range(2):
        assert rows_of(first) == rows_of(again)


def test_a_generator_is_asked_for_the_seed():
    seeds = [loader_of(3, seed=np.random.default_rng(7)).seed for _ in range(2)]
    assert seeds[0] == seeds[1]
    generator = np.random.default_rng(7)
    assert loader_of(3, seed=generator).seed != loader_of(3, seed=generator).seed


# Epochs, and where a loader stands


def test_epochs_are_counted():
    loader = loader_of(5, batch_size=2)
    for epoch in range(3):
        assert loader.epoch == epoch
        for _ in loader:
            assert loader.epoch == epoch
    assert loader.epoch == 3


def test_leaving_early_ends_the_epoch():
    loader, other = (loader_of(20, batch_size=2, shuffle=True, seed=4) for _ in range(2))
    for _ in loader:
        break
    assert loader.epoch == 0
    list(other)
    assert rows_of(loader) == rows_of(other)
    assert loader.epoch == 2


def test_two_iterations_at_once_are_two_epochs():
    loader, other = (loader_of(6, batch_size=2, shuffle=True, seed=4) for _ in range(2))
    both = [(a.tolist(), b.tolist()) for (a,), (b,) in zip(loader, loader, strict=True)]
    assert [list(side) for side in zip(*both, strict=True)] == [rows_of(other), rows_of(other)]
    assert loader.epoch == other.epoch == 2


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("prefetch", [0, 1, 3])
def test_a_run_resumes_at_every_position(drop_last, prefetch):
    options = {"batch_size": 3, "shuffle": True, "drop_last": drop_last, "prefetch": prefetch}

    whole = loader_of(11, seed=8, **options)
    run = [rows_of(whole) for _ in range(3)]
    for epoch in range(2):
        for position in range(len(whole) + 1):
            stopped = loader_of(11, seed=8, **options)
            for _ in range(epoch):
                list(stopped)
            if position:
                for number, _ in enumerate(stopped, 1):
                    if number == position:
                        state = stopped.state_dict()
                        break
            else:
                state = stopped.state_dict()
            assert (state["epoch"], state["batch"]) == (epoch, position)

            resumed = loader_of(11, seed=0, **options)
            resumed.load_state_dict(json.loads(json.dumps(state)))
            assert resumed.state_dict() == state
            assert rows_of(resumed) == run[epoch][position:]
            assert rows_of(resumed) == run[epoch + 1]


def test_a_state_taken_after_the_loop_is_the_next_epoch():
    loader = loader_of(4, batch_size=2)
    list(loader)
    state = loader.state_dict()
    assert (state["epoch"], state["batch"]) == (1, 0)


def test_a_state_loaded_midway_leaves_the_iteration_under_way_alone():
    loader = loader_of(12, batch_size=3, shuffle=True, seed=1)
    start = loader.state_dict()
    run = [rows_of(loader), rows_of(loader)]

    loader.load_state_dict(start)
    batches = iter(loader)
    taken = [next(batches)]
    loader.load_state_dict({**start, "epoch": 1, "batch": 2})
    taken += list(batches)
    assert rows_of(taken) == run[0]
    assert rows_of(loader) == run[1][2:]


GOOD_STATE = loader_of(10, batch_size=4, seed=1).state_dict()


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        (None, TypeError, "state: expected a mapping"),
        ([("seed", 1)], TypeError, "state: expected a mapping"),
        ({}, ValueError, "state: expected the keys"),
        ({**GOOD_STATE, "more": 1}, ValueError, "state: expected the keys"),
        ({**GOOD_STATE, "seed": -1}, ValueError, r"state\['seed'\]"),
        ({**GOOD_STATE, "seed": 2**64}, ValueError, r"state\['seed'\]"),
        ({**GOOD_STATE, "seed": "1"}, TypeError, r"state\['seed'\]"),
        ({**GOOD_STATE, "epoch": -1}, ValueError, r"state\['epoch'\]"),
        ({**GOOD_STATE, "epoch": 0.5}, TypeError, r"state\['epoch'\]"),
        ({**GOOD_STATE, "batch": -1}, ValueError, r"state\['batch'\]"),
        ({**GOOD_STATE, "batch": 4}, ValueError, r"state\['batch'\].* 0 to 3, got 4"),
        ({**GOOD_STATE, "batch": True}, TypeError, r"state\['batch'\]"),
        ({**GOOD_STATE, "samples": 11}, ValueError, "samples is 11 there and 10"),
        ({**GOOD_STATE, "batch_size": 5}, ValueError, "batch_size is 5 there and 4"),
        ({**GOOD_STATE, "shuffle": True}, ValueError, "shuffle is True there and False"),
        ({**GOOD_STATE, "drop_last": True}, ValueError, "drop_last is True there and False"),
    ],
)
def test_a_wrong_state_is_refused_and_changes_nothing(state, error, message):
    loader = loader_of(10, batch_size=4, seed=3)
    before = loader.state_dict()
    with pytest.raises(error, match=message):
        loader.load_state_dict(state)
    assert loader.state_dict() == before


# The thread


def test_an_iteration_that_is_left_leaves_no_thread():
    loader = loader_of(1000, batch_size=2, shuffle=True)
    for _ in range(50):
        for number, _ in enumerate(loader):
            if number == 3:
                break
    assert no_worker_within()


def test_an_error_in_the_loop_leaves_no_thread():
    loader = loader_of(100)
    with pytest.raises(ZeroDivisionError):
        for _ in loader:
            1 / 0  # noqa: B018
    assert no_worker_within()


@pytest.mark.parametrize("prefetch", [0, 1, 4])
def test_an_error_of_the_transform_is_raised_at_its_batch_and_the_loader_lives_on(prefetch):
    broken = True

    def transform(x):
        if broken and 5 in x:
            raise OSError("the fifth row is damaged")
        return (x,)

    loader = DataLoader(ArrayDataset(np.arange(10), transform=transform), batch_size=2, prefetch=prefetch)
    taken = []
    with pytest.raises(OSError, match="fifth row"):
        for batch in loader:
            taken.append(batch)
    assert rows_of(taken) == [[0, 1], [2, 3]]
    assert no_worker_within()

    assert loader.state_dict()["batch"] == 2
    broken = False
    loader.load_state_dict(loader.state_dict())
    assert rows_of(loader) == [[4, 5], [6, 7], [8, 9]]


class Returns:
    def __init__(self, result):
        self.result = result

    def __len__(self):
        return 4

    def __getitem__(self, indices):
        len(indices)
        return self.result


@pytest.mark.parametrize(
    ("result", "error"),
    [
        (np.zeros(2), TypeError),
        ((np.zeros(3),), ValueError),
        ((0.0,), ValueError),
    ],
)
def test_a_dataset_that_returns_no_batch_is_named(result, error):
    with pytest.raises(error, match=r"dataset\[indices\]: expected"):
        list(DataLoader(Returns(result), batch_size=2))


# Arguments


@pytest.mark.parametrize(
    ("options", "error", "name"),
    [
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"batch_size": -1}, ValueError, "batch_size"),
        ({"batch_size": 2.5}, TypeError, "batch_size"),
        ({"batch_size": 2.0}, TypeError, "batch_size"),
        ({"batch_size": True}, TypeError, "batch_size"),
        ({"batch_size": None}, TypeError, "batch_size"),
        ({"batch_size": "8"}, TypeError, "batch_size"),
        ({"batch_size": 11, "drop_last": True}, ValueError, "batch_size"),
        ({"shuffle": 1}, TypeError, "shuffle"),
        ({"shuffle": None}, TypeError, "shuffle"),
        ({"seed": -1}, ValueError, "seed"),
        ({"seed": 2**64}, ValueError, "seed"),
        ({"seed": 0.5}, TypeError, "seed"),
        ({"seed": True}, TypeError, "seed"),
        ({"seed": np.random.RandomState(0)}, TypeError, "seed"),
        ({"drop_last": "no"}, TypeError, "drop_last"),
        ({"prefetch": -1}, ValueError, "prefetch"),
        ({"prefetch": 1.0}, TypeError, "prefetch"),
        ({"prefetch": False}, TypeError, "prefetch"),
        ({"dataset": 3}, TypeError, "dataset"),
        ({"dataset": None}, TypeError, "dataset"),
        ({"dataset": iter([1])}, TypeError, "dataset"),
        ({"dataset": ()}, TypeError, "arrays"),
        ({"dataset": (np.zeros(3), np.zeros(4))}, ValueError, "arrays"),
        ({"dataset": np.zeros(())}, ValueError, r"arrays\[0\]"),
        ({"dataset": np.zeros((0, 3))}, ValueError, "dataset"),
        ({"dataset": ArrayDataset(np.zeros((0, 3)))}, ValueError, "dataset"),
    ],
)
def test_a_wrong_argument_is_refused_by_name(options, error, name):
    with pytest.raises(error, match=f"^{name}(:| must be) "):
        DataLoader(**{"dataset": (np.arange(10),), **options})


def test_integers_of_numpy_are_integers():
    loader = loader_of(10, batch_size=np.int64(4), seed=np.uint8(3), prefetch=np.int32(1))
    assert type(loader.batch_size) is type(loader.seed) is int
    assert len(rows_of(loader)) == 3


def test_an_interrupted_loop_goes_on_with_a_batch_that_it_had_or_was_to_have_next():
    def loop(epochs=2):
        for _ in range(epochs):
            for batch in loader:
                seen.append(batch[0].tolist())

    def begin():
        return loader_of(10, batch_size=4, shuffle=True, seed=1, prefetch=0), []

    loader, seen = begin()
    loop(3)
    whole = seen
    loader, seen = begin()
    for at in places(loop, 10**9):
        loader, seen = begin()
        with pytest.raises(Interrupted):
            run(loop, at)
        place = loader.state_dict()
        number = place["epoch"] * 3 + place["batch"]
        assert number in (len(seen), len(seen) + 1), (at, place)
        loader.load_state_dict(place)
        assert loader.epoch == place["epoch"]
        rest = [batch[0].tolist() for batch in loader]
        assert rest == whole[number : (place["epoch"] + 1) * 3]


def test_a_loop_that_was_left_is_followed_by_the_next_epoch_in_fit(tmp_path):
    loader = DataLoader((np.zeros((6, 2), np.float32), np.zeros(6, np.int64)), 2, prefetch=0)
    next(iter(loader))
    model = nn.Linear(2, 2)
    trainer = fn.Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters()))
    places = []
    trainer.fit(loader, verbose=False, callbacks=[LambdaCallback(on_batch_end=lambda *_: places.append(trainer.batch))])
    assert places == [1, 2, 3] and loader.epoch == 2
