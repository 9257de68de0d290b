"""Benchmarks: the comparison with peers, and the airspeed-velocity suite.

They measure the fastnn of the checkout that they lie in, or, where that is not built, the one that is installed.
"""

import os
import sys
from importlib.machinery import PathFinder
from importlib.util import find_spec

_CHECKOUT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def _leave_the_source_out() -> None:
    """Take an unbuilt checkout from the path, where `python -m` puts it first, if fastnn is found without it."""
    source = os.path.join(_CHECKOUT, "fastnn_ext")
    if not os.path.isdir(source) or PathFinder.find_spec("runtime", [source]) is not None:
        return
    before = sys.path[:]
    sys.path[:] = [entry for entry in before if os.path.abspath(entry) != _CHECKOUT]
    if find_spec("fastnn_ext") is None:
        sys.path[:] = before  # importing fastnn says what to do


_leave_the_source_out()
