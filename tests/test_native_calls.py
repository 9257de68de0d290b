"""Every function of fastnn_ext that Python can call: what does not fit is refused, and never crashes or hangs."""

import os
import time
from collections import Counter

import numpy as np
import pytest

from fuzz_calls import CALLS, METHODS, NATIVE, Usual, arguments, check, drawn, function_of

QUICK = 3000
SEED = int(os.environ.get("FASTNN_FUZZ_SEED", 1_000_000))
COUNT = int(os.environ.get("FASTNN_FUZZ_COUNT", 100_000))
F4 = np.float32


def real(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(F4)


ROWS = real(5, 4)
ELSEWHERE = ("atomic.assign", "atomic.commit", "atomic.sync_folder")  # test_atomic.py
SETTINGS = ("runtime.always_share", "runtime.fail_allocation", "watch.check_traces")  # no more than a switch
ODD = [
    None, 0, 1, -1, 7, 2**43, 2**53, 2**62, 2**63, -(2**63), 2.5, float("nan"), float("inf"), True, "x", b"x", (), [],
    (0, 0), (-1, 1), (2**40, 2**40), (2**62, 1), (0, 0, 0, 0), (2**31, 1, 1, 1), (2, 6, 6, 0), (1, 0, 0, 1, 1), {},
    object, np.int64(3), np.zeros(0, F4), np.zeros((0, 4), F4), np.zeros((0, 0, 0, 0), F4), np.zeros(()), real(1),
    real(2, 4), real(3, 3, 3), real(5, 8)[:, ::2], real(4, 5).T, ROWS.astype(">f4"), ROWS.astype(np.float64),
    np.zeros((5, 4), object), np.full(5, 2**62), np.full((2, 3, 3, 4), 255, np.uint8),
    np.full((2, 2, 3, 4), -1, np.int32), np.full((2, 2, 3, 4), 2**31 - 1, np.int32),
]  # fmt: skip


@pytest.fixture(autouse=True)
def same_settings_afterwards():
    runtime = NATIVE["runtime"]
    isa, threads = runtime.get_isa(), runtime.get_num_threads()
    yield
    runtime.set_isa(isa)
    runtime.set_num_threads(threads)


def callables():
    for module, native in NATIVE.items():
        for name, value in vars(native).items():
            if type(value).__name__ in ("cython_function_or_method", "builtin_function_or_method"):
                if getattr(value, "__module__", native.__name__) == native.__name__ and not name.startswith("_"):
                    yield f"{module}.{name}", value


def test_no_function_is_left_out():
    without_arguments = {"built_isas", "available_isas", "get_isa", "get_num_threads", "openmp_version", "compiler",
                         "registered_ops", "forks", "changed", "is_checking", "held_allocations",
                         "threads_taken"}  # fmt: skip
    names = {name for name, _ in callables() if name.split(".")[1] not in without_arguments}
    assert names == {*CALLS, *SETTINGS, *ELSEWHERE}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [*CALLS, *METHODS])
def test_what_does_not_fit_is_refused(name):
    call, usual = function_of(name), arguments(name, Usual())
    call(**usual)
    for argument in usual:
        for odd in ODD:
            begun = time.perf_counter()
            try:
                call(**{**usual, argument: odd})
            except (TypeError, ValueError, OverflowError, MemoryError):
                pass
            assert time.perf_counter() - begun < 5, (name, argument, odd)


def make_calls(seeds, progress=None):
    """Makes the calls that are named by seeds, and says how they ended."""
    endings, begun = Counter(), time.perf_counter()
    for seed in seeds:
        endings[check(seed)] += 1
        if progress is not None and sum(endings.values()) % 10_000 == 0:
            progress(f"{seed}: {sum(endings.values())} calls, {time.perf_counter() - begun:.0f} s: {dict(endings)}")
    assert min(endings["returns"], endings["refused"]) > 0.3 * len(seeds), endings
    return endings


def test_random_calls_return_or_refuse():
    make_calls(range(QUICK))


@pytest.mark.slow
def test_many_random_calls_return_or_refuse(capsys):
    """FASTNN_FUZZ_SEED and FASTNN_FUZZ_COUNT name other calls, or more."""

    def progress(text):
        with capsys.disabled():
            print(text, flush=True)

    make_calls(range(SEED, SEED + COUNT), progress)


def test_random_calls_reach_every_function():
    assert {drawn(seed).name for seed in range(QUICK)} == {*CALLS, *METHODS}


def test_a_plan_is_made_once_and_a_route_of_something():
    plan = NATIVE["plan"]
    with pytest.raises((TypeError, ValueError)):
        plan.Plan.__new__(plan.Plan).phases(1)
    with pytest.raises(TypeError):
        plan.Plan.__new__(plan.Plan).run()
    with pytest.raises(TypeError):
        plan.Route(None, None)
    with pytest.raises(TypeError, match="marks are pairs of Marked and bool, got object"):
        plan.Plan([], [], 0, 64, [], [], [], 1, marks=((object(), True),))
    made = plan.Plan([], [], 0, 64, [], [], [], 1)
    with pytest.raises(RuntimeError, match="made once"):
        made.__init__([], [], 0, 64, [], [], [], 1)
