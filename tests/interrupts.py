"""Ctrl-C between any two bytecodes: raised by a trace function, so that a test decides where."""

import contextlib
import os
import sys

import fastnn

#: Where bytecodes are counted: in fastnn, and in what enters and leaves its with blocks.
FILES = (os.path.dirname(fastnn.__file__), contextlib.__file__)


class Interrupted(KeyboardInterrupt):
    """What a test raises: not to be taken for somebody's Ctrl-C."""


def _traced(function, before):
    """Call `function`; before each bytecode that it runs in FILES, `before(frame)` is called."""

    def trace(frame, event, argument):
        if not frame.f_code.co_filename.startswith(FILES):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            before(frame)
        return trace

    tracer = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(tracer)


def run(function, at=None, strike=None):
    """Call `function`, and raise Interrupted, or call `strike`, before bytecode number `at` that it runs in FILES.

    Returns how many bytecodes were run there; all of them if `at` is None or beyond.
    """
    count = 0

    def before(frame):
        nonlocal count
        if count == at:
            sys.settrace(None)
            if strike is None:
                raise Interrupted
            strike()
        count += 1

    _traced(function, before)
    return count


def places(function, most):
    """Numbers of bytecodes to interrupt at: all that `function` runs, or `most` of them, evenly spread."""
    total = run(function)
    if total <= most:
        return range(total)
    # All of the last ones, where what was prepared is done.
    return sorted({total * i // most for i in range(most)} | set(range(total - 60, total)))


def distinct(function, each, most=None):
    """Numbers of bytecodes to interrupt at, for what runs some code often: `each` of the runs of each bytecode of that
    code, or all where there are no more, evenly spread; then `most` of these, with all of the last ones.

    Returns the numbers, and how many bytecodes the code has.
    """
    runs, count = {}, 0

    def before(frame):
        nonlocal count
        runs.setdefault((frame.f_code, frame.f_lasti), []).append(count)
        count += 1

    _traced(function, before)
    numbers = set()
    for own in runs.values():
        numbers |= set(own) if len(own) <= each else {own[(len(own) - 1) * i // (each - 1)] for i in range(each)}
    chosen = sorted(numbers)
    if most is not None and len(chosen) > most:
        last = range(count - 20, count)
        chosen = sorted({chosen[len(chosen) * i // most] for i in range(most)} | set(last))
    return chosen, len(runs)
