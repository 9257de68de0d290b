"""Ctrl-C between any two bytecodes: raised by a trace function, so that a test decides where."""

import contextlib
import dis
import functools
import os
import sys

import fastnn

#: Where bytecodes are counted: in fastnn, and in what enters and leaves its with blocks.
FILES = (os.path.dirname(fastnn.__file__), contextlib.__file__)


class Interrupted(KeyboardInterrupt):
    """What a test raises: not to be taken for somebody's Ctrl-C."""


@functools.cache
def leaving(code):
    """Where a block of a with statement has ended well, and __exit__ is about to be called: Python hears no signal from
    there until it has been, and no code could do without that."""
    found, begun = set(), []
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_CONST", "DUP_TOP", "PRECALL") and (instruction.argval is None or begun):
            begun.append(instruction.offset)
        else:
            if len(begun) >= 3 and instruction.opname in ("CALL", "CALL_FUNCTION"):
                found.update([*begun, instruction.offset])
            begun = []
    return found


def run(function, at=None):
    """Call `function`, and raise Interrupted before bytecode number `at` that it runs in FILES.

    Returns how many bytecodes were run there; all of them if `at` is None or beyond.
    """
    count = 0

    def trace(frame, event, argument):
        nonlocal count
        if not frame.f_code.co_filename.startswith(FILES):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and frame.f_lasti not in leaving(frame.f_code):
            if count == at:
                sys.settrace(None)
                raise Interrupted
            count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return count


def places(function, most):
    """Numbers of bytecodes to interrupt at: all that `function` runs, or `most` of them, evenly spread."""
    total = run(function)
    if total <= most:
        return range(total)
    # All of the last ones, where what was prepared is done.
    return sorted({total * i // most for i in range(most)} | set(range(total - 60, total)))
