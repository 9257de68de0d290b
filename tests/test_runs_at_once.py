"""Programs that run at once, each called from a thread of its own, share the processors."""

import threading

import numpy as np
import pytest

import fastnn as fn
from fastnn import nn
from fastnn_ext import runtime


class Seen(fn.Function):
    """Notes how many threads are taken while a program runs, and lets others go on meanwhile."""

    def __init__(self, notes, meanwhile=lambda: None):
        self.notes, self.meanwhile = notes, meanwhile

    def forward(self, x):
        self.notes.append(runtime.threads_taken())
        self.meanwhile()
        return x


class Large(nn.Module):
    """Enough work for a team, and a look at it."""

    def __init__(self, *look):
        super().__init__()
        self.layer = nn.Linear(512, 512)
        self.look = Seen(*look)

    def forward(self, x):
        return self.look(self.layer(x))


BATCH = np.ones((256, 512), np.float32)


@pytest.fixture
def four():
    with fn.threads(4):
        yield


def test_a_program_alone_takes_all_threads(four):
    notes = []
    Large(notes)(BATCH)
    assert notes == [4] and runtime.threads_taken() == 0


def test_what_begins_while_another_runs_takes_its_fair_share_and_then_both_do(four):
    notes, begun, may_end = {"first": [], "other": []}, threading.Event(), threading.Event()

    def wait():
        begun.set()
        assert may_end.wait(60)

    other = Large(notes["other"], wait)
    thread = threading.Thread(target=lambda: [fn.set_num_threads(4), other(BATCH)])
    first = Large(notes["first"], lambda: (thread.start(), begun.wait(60)) if not thread.ident else None)
    first(BATCH)
    assert notes == {"first": [4], "other": [4 + 2]}
    first(BATCH)  # as the other one still runs, and holds two
    assert notes["first"][1:] == [2 + 2]
    may_end.set()
    thread.join()
    assert runtime.threads_taken() == 0
    first(BATCH)
    assert notes["first"][2:] == [4]


def test_many_at_once_take_one_each(four):
    notes, inside = [], []

    def nested(depth):
        return Large(notes, lambda: depth and inside.append(nested(depth - 1)(BATCH)))

    nested(5)(BATCH)
    assert notes == [4, 6, 7, 8, 9, 10]


def test_a_program_on_one_thread_takes_none(four):
    notes = []

    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            self.look = Seen(notes)

        def forward(self, x):
            return self.look(x)

    Small()(np.ones((2, 2), np.float32))
    assert notes == [0]


def test_what_is_raised_gives_the_threads_back(four):
    def fail():
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        Large([], fail)(BATCH)
    assert runtime.threads_taken() == 0
