"""The thread that computes ahead: the same results as without it, and it never stays behind."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from fastnn.data import prefetch
from fastnn.data.prefetch import ahead

import interrupts
from workers import is_worker, no_worker_within

pytestmark = pytest.mark.filterwarnings("error", "ignore:This process .* is multi-threaded:DeprecationWarning")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def exit_code_of_child(work, seconds=30.0):
    """Run `work` in a forked child; return its exit code, or None if it had to be killed."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if work() else 1)
        finally:
            os._exit(2)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def test_no_thread_stays_behind_whatever_ctrl_c_comes_between():
    def consume():
        results = ahead(abs, range(6), 2)
        assert [next(results), next(results)] == [0, 1]
        results.close()

    for at in interrupts.places(consume, 10_000):
        with pytest.raises(interrupts.Interrupted):
            interrupts.run(consume, at)
        assert no_worker_within(), at


@pytest.mark.parametrize("depth", [0, 1, 2, 3, 50])
@pytest.mark.parametrize("count", [0, 1, 2, 20])
def test_results_come_in_order_at_any_depth(depth, count):
    assert list(ahead(lambda i: i * i, range(count), depth)) == [i * i for i in range(count)]


def test_a_thread_that_ends_without_a_word_is_not_waited_for(monkeypatch):
    """As one does that has no memory to say so."""
    monkeypatch.setattr(prefetch, "_work", lambda *queues: None)
    monkeypatch.setattr(prefetch, "LOOK", 0.01)
    with pytest.raises(MemoryError, match="the thread that computes ahead has ended without a result"):
        list(ahead(abs, range(5), 2))


def test_none_is_an_item_and_a_result_like_any_other():
    assert list(ahead(lambda item: item, [None, 1, None], 2)) == [None, 1, None]


def test_depth_bounds_how_far_ahead_it_computes():
    calls = []
    results = ahead(calls.append, range(20), 3)
    for consumed in range(1, 5):
        next(results)
        deadline = time.monotonic() + 10
        while len(calls) < consumed + 3 and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.02)
        assert calls == list(range(consumed + 3))
    results.close()


def test_work_happens_in_the_background_only_if_depth_allows():
    here = threading.get_ident()
    assert set(ahead(lambda _: (threading.get_ident(), is_worker()), range(3), 0)) == {(here, False)}
    there = set(ahead(lambda _: (threading.get_ident(), is_worker()), range(3), 2))
    assert [worker for _, worker in there] == [True] and here not in dict(there)


def test_hooks_of_coverage_and_debuggers_see_the_thread():
    seen = []

    def hook(frame, event, argument):
        seen.append(frame.f_code)

    def function(item):
        return item

    before = threading.gettrace(), threading.getprofile()
    for set_hook, old in ((threading.settrace, before[0]), (threading.setprofile, before[1])):
        seen.clear()
        set_hook(hook)
        try:
            assert list(ahead(function, range(3), 2)) == [0, 1, 2]
        finally:
            set_hook(old)
        assert seen.count(function.__code__) >= 3


def test_without_a_thread_to_be_had_the_caller_computes(monkeypatch):
    """As where the system's limit of threads is reached."""

    def refuse(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("_thread.start_new_thread", refuse)
    calls = []

    def function(item):
        calls.append((item, is_worker()))
        return item

    results = ahead(function, range(5), 3)
    assert next(results) == 0 and calls == [(0, False)]
    assert list(results) == [1, 2, 3, 4]
    assert no_worker_within()


def test_a_thread_that_gets_no_memory_before_it_begins_is_not_waited_for(monkeypatch):
    """CPython reports what its bootstrap raises, and lets go of the arguments: no word of it comes through a queue."""

    def broken(*_):
        raise MemoryError

    monkeypatch.setattr(prefetch, "_work", broken)
    monkeypatch.setattr(prefetch, "LOOK", 0.01)
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    with pytest.raises(MemoryError, match="the thread that computes ahead has ended without"):
        list(ahead(abs, range(5), 2))


@pytest.mark.parametrize("depth", [0, 1, 5])
@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt])
def test_an_error_is_raised_in_its_turn(depth, kind):
    error = kind("broken item")

    def function(item):
        if item == 2:
            raise error
        return item

    results = ahead(function, range(5), depth)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(kind) as raised:
        next(results)
    assert raised.value is error
    assert next(results, "nothing more") == "nothing more"
    assert no_worker_within()


def test_nothing_is_computed_after_an_error():
    calls = []
    with pytest.raises(IndexError):
        next(ahead(lambda item: calls.append(item) or [][item], range(10), 5))
    assert no_worker_within()
    assert calls == [0]


@pytest.mark.parametrize("depth", [0, 2])
def test_a_stop_iteration_from_the_function_is_no_silent_end(depth):
    def function(item):
        raise StopIteration

    with pytest.raises(RuntimeError, match="StopIteration"):
        list(ahead(function, range(3), depth))


def test_no_thread_starts_before_the_first_result_is_asked_for():
    results = ahead(str, range(3), 2)
    assert no_worker_within(0)
    next(results)
    assert not no_worker_within(0)
    results.close()


@pytest.mark.parametrize("leave", ["end", "close", "break", "drop"])
def test_the_thread_ends_with_the_iteration(leave):
    results = ahead(str, range(10), 2)
    if leave == "end":
        list(results)
    elif leave == "close":
        next(results)
        results.close()
    elif leave == "break":
        del results
        for _ in ahead(str, range(10), 2):
            break
    else:
        next(results)
        del results
    gc.collect()
    assert no_worker_within()


def test_a_slow_item_does_not_hold_up_the_one_who_leaves():
    release = threading.Event()
    results = ahead(lambda item: item == 0 or release.wait(30), range(10), 2)
    next(results)
    begin = time.monotonic()
    results.close()
    assert time.monotonic() - begin < 10
    release.set()
    assert no_worker_within()


def test_what_was_requested_and_not_begun_is_not_computed_after_leaving():
    release, calls = threading.Event(), []

    def function(item):
        calls.append(item)
        return item == 0 or release.wait(30)

    results = ahead(function, range(10), 5)
    next(results)
    results.close()
    release.set()
    assert no_worker_within()
    assert calls in ([0], [0, 1])


def test_the_worker_may_be_the_one_that_drops_the_iteration():
    held, suspended = [], threading.Event()

    def function(item):
        if item == 1:
            assert suspended.wait(30)
            held.clear()
        return item

    held.append(ahead(function, range(10), 3))
    assert next(held[0]) == 0
    suspended.set()
    assert no_worker_within()
    assert held == []


def test_ctrl_c_ends_the_wait_for_a_result():
    release = threading.Event()
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    begin = time.monotonic()
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        next(ahead(lambda _: release.wait(60), range(3), 2))
    assert time.monotonic() - begin < 30
    timer.join()
    release.set()
    assert no_worker_within()


@needs_fork
def test_a_child_forked_midway_computes_what_remains():
    results = ahead(lambda item: item, range(20), 3)
    first = [next(results) for _ in range(5)]
    for _ in range(20):
        assert exit_code_of_child(lambda: list(results) == list(range(5, 20))) == 0
    assert first + list(results) == list(range(20))


@needs_fork
def test_a_child_forked_midway_starts_iterations_of_its_own():
    results = ahead(lambda item: item, range(20), 3)
    next(results)
    for _ in range(20):
        code = exit_code_of_child(lambda: list(ahead(str, range(3), 2)) == ["0", "1", "2"])
        assert code == 0
    results.close()


def test_the_thread_of_an_iteration_left_hanging_ends_before_the_interpreter():
    program = (
        "import atexit, sys; from fastnn.data.prefetch import ahead\n"
        "atexit.register(lambda: print(len(sys._current_frames())))\n"
        "results = ahead(str, range(10**9), 2)\n"
        "next(results)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
