"""Computing ahead: one thread works while the consumer consumes.

The consumer owns the order and the thread owns nothing. Items go out through one queue, results
come back through another, and ``None`` ends the thread, as does the consumer's end. Both are
`queue.SimpleQueue`, whose ``get`` leaves Ctrl-C working and whose ``put`` never blocks, so neither
side can hold the other up.

The thread is `_thread`'s and not `threading`'s: `threading.Thread.start` waits, without an end, for a thread
that got no memory before it could say that it has begun (CPython 3.10 to 3.14).
"""

from __future__ import annotations

import os
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from queue import SimpleQueue

Item = TypeVar("Item")
Result = TypeVar("Result")

# Nearly always long enough for the item in hand, and short enough for Ctrl-C; what takes longer
# ends by itself when that item is done.
PATIENCE = 0.05  # seconds
# How often the consumer, while it waits, looks whether there is a thread to wait for.
LOOK = 1.0  # seconds


def ahead(function: Callable[[Item], Result], items: Iterable[Item], depth: int) -> Generator[Result, None, None]:
    """Yield ``function(item)`` for each item in order, up to `depth` of them computed in advance.

    Parameters
    ----------
    function : callable
        Called with one item at a time, in the background thread (in the caller's for depth 0).
    items : iterable
        Drawn from in the caller's thread.
    depth : int
        Results that may wait, made or in the making, beyond the one being consumed. 0: no thread.

    Yields
    ------
    object
        What `function` returned. What it raised is raised here, in its turn, and ends the
        iteration. The thread starts at the first result and ends with the iteration: at its end,
        on an error, on ``close()`` or when it is dropped midway, and at the interpreter's exit.
        A child forked midway computes what remains without a thread, and so does a process that is
        given no thread.
    """
    if depth == 0:
        # Not map(): a StopIteration out of `function` would end it in silence. Here, and wherever
        # else a generator raises one, it becomes a RuntimeError (PEP 479).
        for item in items:
            yield function(item)
        return

    import _thread
    import atexit
    from queue import Empty, SimpleQueue

    requests: SimpleQueue[Any] = SimpleQueue()
    replies: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
    ends: SimpleQueue[Any] = SimpleQueue()
    # Ctrl-C may come before `stop` at the end, too. Then this object is let go of, and that ends the thread.
    consumer = _Held()
    leash = weakref.ref(consumer, requests.put)
    # The thread alone holds this one, from its start on and however it ends.
    breath = _Held()
    alive = weakref.ref(breath, ends.put)
    worker = None

    def stop() -> None:
        try:
            while True:
                requests.get_nowait()
        except Empty:
            requests.put(None)
        # Garbage collection may run this in the worker itself.
        if alive() is not None and worker != _thread.get_ident():
            try:
                ends.get(timeout=PATIENCE)
            except Empty:
                pass

    def receive() -> tuple[Any, BaseException | None]:
        while True:
            try:
                return replies.get(timeout=LOOK)
            except Empty:
                if alive() is None and replies.empty():  # it could not even say what was wrong
                    raise MemoryError("the thread that computes ahead has ended without a result") from None

    items = iter(items)
    pending: deque[Item] = deque()
    home = os.getpid()

    def request(count: int) -> None:
        for item in islice(items, count):
            pending.append(item)
            requests.put((item,))

    # A daemon must not run on into the interpreter's end, where it would be cut off in a call.
    atexit.register(stop)
    try:
        try:
            worker = _thread.start_new_thread(_work, (function, requests, replies, leash, breath))
        except RuntimeError:  # the system gives no thread
            del breath
            yield from ahead(function, items, 0)
            return
        del breath
        request(depth)
        while pending:
            if os.getpid() != home:
                yield from ahead(function, [*pending, *items], 0)
                return
            result, error = receive()
            if error is not None:
                raise error
            pending.popleft()
            request(1)
            yield result
    finally:
        atexit.unregister(stop)
        stop()


class _Held:
    """Is there as long as somebody holds it, which a weak reference tells."""


def _work(
    function: Callable[[Item], Result],
    requests: SimpleQueue[Any],
    replies: SimpleQueue[tuple[Any, BaseException | None]],
    leash: weakref.ref[_Held],
    breath: _Held,
) -> None:
    import sys
    import threading

    # As in a `threading.Thread`: coverage, debuggers and profilers see what is called here.
    sys.settrace(threading.gettrace())
    sys.setprofile(threading.getprofile())
    # Items come in tuples; anything else ends the work.
    while isinstance(request := requests.get(), tuple):
        try:
            replies.put((function(*request), None))
        except BaseException as error:  # whatever it is belongs to the consumer
            replies.put((None, error))
            return
