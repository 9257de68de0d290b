"""Checks that cost time: of traces, when a result is not what it should be."""

from __future__ import annotations

from fastnn import _check
from fastnn_ext import watch

__all__ = ["check_traces"]


def check_traces(enabled: bool = True) -> None:
    """Trace at every call, and compare with the program that is kept for it.

    Calls take milliseconds then. Where `forward` or the loss does something else than when its program was
    made, although nothing that fastnn watches has changed, the call raises TraceError with the place where
    the two traces differ. Reading what a trace depends on from a file, a clock or a C extension are such
    cases.

    Parameters
    ----------
    enabled : bool, default True

    Examples
    --------
    >>> fn.debug.check_traces(True)
    >>> y = nn.Linear(2, 2)(np.ones((1, 2), np.float32))
    >>> fn.debug.check_traces(False)
    """
    watch.check_traces(_check.flag("enabled", enabled))
