"""Children of a process that has trained train too, with the same bits; see forks.py."""

import os
from pathlib import Path

import pytest

from children import watched

pytestmark = [
    pytest.mark.attack,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
]


@pytest.mark.parametrize("count", [20, pytest.param(300, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["main", "nested", "thread", "others", "pool"])
def test_a_forked_child_gets_its_parents_bits(kind, count):
    """From the first thread and from another one, once more in the child, beside threads that train, in a pool."""
    lines = watched(Path(__file__).with_name("forks.py"), kind, count)
    assert int(lines[-1].split()[1]) >= count
