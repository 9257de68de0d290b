"""The threads that compute ahead, as `fastnn.data.prefetch` starts them: whether one is there."""

import sys
import threading
import time

from fastnn.data import prefetch


def is_worker(ident=None):
    """Whether a thread, by default the calling one, computes ahead."""
    frame = sys._current_frames().get(threading.get_ident() if ident is None else ident)
    while frame is not None:
        if frame.f_code is prefetch._work.__code__:
            return True
        frame = frame.f_back
    return False


def no_worker_within(seconds=10.0):
    """Whether no such thread is left, at once or after a short while."""
    deadline = time.monotonic() + seconds
    while any(map(is_worker, sys._current_frames())):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True
