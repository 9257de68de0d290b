"""Ctrl-C is heard soon, and what it interrupts is done as a whole or not at all; see signals.py."""

import sys
from pathlib import Path

import pytest

from children import watched

pytestmark = [
    pytest.mark.attack,
    pytest.mark.skipif(sys.platform == "win32", reason="this system has no SIGINT to send"),
]


def attack(action, count, threads):
    *lines, longest = watched(Path(__file__).with_name("signals.py"), action, count, "--threads", threads)
    assert lines[-1] == f"{action}: {count} signals"
    return float(longest)


@pytest.mark.parametrize("count", [10, pytest.param(80, marks=pytest.mark.slow)])
@pytest.mark.parametrize("action", ["step", "images", "pieces", "trace", "files"])
def test_ctrl_c_halves_nothing(action, count):
    attack(action, count, 2)


@pytest.mark.parametrize("count", [6, pytest.param(50, marks=pytest.mark.slow)])
@pytest.mark.parametrize("threads", [1, 2])
def test_ctrl_c_is_heard_within_a_long_native_call(threads, count):
    # 0.1 s is the promise. What is measured is processor time, which a busy machine does not stretch.
    assert attack("long", count, threads) < 0.25 * threads
