"""Programs of one owner (a module, a training step, a function), made at need and kept while they hold.

A program is found by the forms of the arguments: dtypes and sizes but the batch, or all sizes where it is
for one batch alone. It is kept together with a Watch of what its trace depended on. Where the watch is
broken, the function is traced again: if it does what it did, the program goes on, else there is a new one.
What is kept of earlier states (a model switched between training and evaluation) is found again without a
trace.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fastnn.graph import Graph, Tensor, TraceError, TraceWarning, recording
from fastnn.lowering.call import Keywords, only, to_array
from fastnn.lowering.fusion import absorb
from fastnn.lowering.program import Program
from fastnn.lowering.trace import (
    Form,
    Parted,
    Record,
    Trace,
    align,
    generalise,
    in_place,
    reads_the_same_memory,
    trace,
)
from fastnn.lowering.watch import Walk, bases
from fastnn.sizes import SpecialiseError
from fastnn_ext import runtime
from fastnn_ext.atomic import Held
from fastnn_ext.plan import Arena, Marked, Receipt, Repeated, Route
from fastnn_ext.watch import ATTRIBUTE, Fact, Watch, is_checking

Array = np.ndarray[Any, Any]

#: Bytes of programs, without the arena that they share, that an owner keeps: the least recently used go first.
LIMIT = 16 << 20
#: How often a trace that another thread disturbs is made again.
ATTEMPTS = 10
#: States of a model (modes, attributes) of which an owner keeps programs.
STATES = 8


@dataclass
class Recipe:
    """What is to be made of a graph: the arguments of Program, and how results are returned.

    Attributes
    ----------
    outputs : list of list of Tensor
        What each stage returns.
    rebuild : callable
        From the first stage's values to what a call returns.
    sinks, update
        See Program.
    facts : list of fact
        What it depends on beyond the trace: where gradients lie, say, and which parameters are trained.
    marks : list of (Parameter, bool)
        Which have a gradient once the last stage was run, and which have none.
    receipt : (Receipt, callable), optional
        Where each run leaves its values, too, and from them to the receipt's result.
    """

    outputs: list[list[Tensor]]
    rebuild: Callable[[Any], Any]
    sinks: Sequence[tuple[Tensor, Array, int]] = ()
    update: Callable[[Any], None] | None = None
    facts: Sequence[Fact] = ()
    marks: Sequence[tuple[Marked, bool]] = ()
    receipt: tuple[Receipt, Callable[[Any], Any]] | None = None


@dataclass(eq=False)
class Entry:
    """A program, the record that it was made of, and the batches at which the function was seen to match it
    in one state."""

    record: Record
    program: Program
    rebuild: Callable[[Any], Any]
    arrays: list[Array]  # that it reads in place
    facts: list[Fact]  # beyond the trace: where parameters and gradients lie, which are trained
    contents: list[Array]  # that Python read while it was traced
    batches: set[int]
    used: int = 0

    def __post_init__(self) -> None:
        self._own = Watch([], self.facts)

    def serve(self, batches: set[int]) -> None:
        self.batches |= batches
        self.program.batches.update(batches)

    def holds(self) -> bool:
        """Whether all arrays that the program works on are still those of the parameters."""
        return self._own.first_broken() is None


@dataclass(eq=False)
class State:
    """Programs that were made while one set of facts held."""

    entries: dict[Any, list[Entry]]
    watch: Watch = field(default_factory=lambda: Watch([], []))


class Programs(Repeated):
    """The programs of one owner.

    Parameters
    ----------
    function : callable
        Of tensors; what is traced.
    finish : callable
        finish(graph, result) makes a Recipe of what the function returned; the graph is recording.
    names : callable
        names(count) gives what messages call the arguments.
    roots : sequence
        Objects that the trace may depend on; the walk begins there.
    what : str
        What messages call the function.
    any_batch : bool
        Whether the first size of the first argument, and of those that agree with it, is a batch.
    trusted : bool
        fastnn's own functions, which are traced once.
    training : bool, optional
        The mode in which modules are traced, whatever mode they are in; None for the latter.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        finish: Callable[[Graph, Any], Recipe],
        names: Callable[[int], Sequence[str]],
        roots: Sequence[Any],
        what: str,
        *,
        any_batch: bool = True,
        trusted: bool = False,
        training: bool | None = None,
    ) -> None:
        self.function = function
        self.finish = finish
        self.names = names
        self.roots = roots
        self.what = what
        self.any_batch = any_batch
        self.trusted = trusted
        self.training = training
        self._states: list[State] = []  # the latest first
        self._arena = Arena()
        self._lock = threading.RLock()
        self._forks = runtime.forks()
        self._clock = 0

    def serve(self, args: tuple[Any, ...], keywords: Mapping[str, Any] | None) -> Any:
        """Run the program for these arguments, which may be anything that to_array takes."""
        arrays, entry = self.served(args, keywords)
        return entry.rebuild(entry.program.plans[0].run(*arrays))

    def served(self, args: Sequence[Any], keywords: Mapping[str, Any] | None = None) -> tuple[list[Array], Entry]:
        """Arguments as arrays, and the entry that serves them."""
        if not keywords:
            arrays = self.arrays(args)
            return arrays, self.find(arrays)
        variant = Keywords(self.function, self.names(len(args)) if args else (), keywords)
        arrays = self.arrays(args) if args else []
        arrays += [to_array(keywords[name], name) for name in variant.keywords]
        return arrays, self.find(arrays, variant)

    def arrays(self, args: Sequence[Any]) -> list[Array]:
        return [to_array(a, name) for a, name in zip(args, self.names(len(args)), strict=True)]

    def find(self, arrays: Sequence[Array], variant: Any = None) -> Entry:
        """The entry that serves these arrays; made if there is none.

        A `variant` is a function, with the `names` of its arguments, to be traced in place of the owner's;
        it is part of the key.
        """
        if self._forks != runtime.forks():
            self._lock, self._forks = threading.RLock(), runtime.forks()  # another thread may have held it for ever
        with Held(self._lock):
            forms = self._forms(arrays, self.names(len(arrays)) if variant is None else variant.names)
            key = (variant, tuple((f.dtype.char, f.batched, f.at(0)) for f in forms))
            batch = arrays[0].shape[0] if arrays and arrays[0].ndim else 1
            state = self._current()
            entry = None if state is None else self._kept(state, key, batch)
            if entry is None or is_checking():
                state, entry = self._traced(key, forms, batch, variant, entry)
            self._clock += 1
            entry.used = self._clock
            assert state is not None
            rebuild = None if entry.rebuild is only else entry.rebuild
            way = (state.watch, entry.program.plans[0], entry.batches, rebuild)
            if variant is None:
                self.latest = Route(*way)
            elif isinstance(variant, Keywords) and variant.keywords and not variant.settings:
                self.latest_named = Route(*way, tuple(variant.keywords))
            return entry

    def count(self) -> int:
        """How many programs are kept."""
        return len({e.program for e in self._entries()})

    def clear(self) -> None:
        """Forget all programs."""
        with Held(self._lock):
            self._states, self._arena = [], Arena()
            self.latest = self.latest_named = None

    # ---- keys and states --------------------------------------------------------------------------

    def _forms(self, arrays: Sequence[Array], names: Sequence[str]) -> list[Form]:
        batch = arrays[0].shape[0] if self.any_batch and arrays and arrays[0].ndim else None
        return [
            Form(name, a.shape, a.dtype, a.ndim > 0 and a.shape[0] == batch)
            for name, a in zip(names, arrays, strict=True)
        ]

    def _current(self) -> State | None:
        """The state that holds now, as the first."""
        for i, state in enumerate(self._states):
            if state.watch.first_broken() is None:
                if i:
                    self._states.insert(0, self._states.pop(i))
                return state
        return None

    @staticmethod
    def _kept(state: State, key: Any, batch: int) -> Entry | None:
        for entry in state.entries.get(key, ()):
            if batch in entry.batches:
                return entry
        return None

    def _entries(self) -> list[Entry]:
        return [e for state in self._states for entries in state.entries.values() for e in entries]

    # ---- making -----------------------------------------------------------------------------------

    def _traced(
        self, key: Any, forms: Sequence[Form], batch: int, variant: Any, found: Entry | None
    ) -> tuple[State, Entry]:
        """An entry whose record is what the function does now, at this batch."""
        held = self._current()
        function = self.function if variant is None else variant
        attempts = 0
        while True:
            walk = Walk(self.roots)
            before = walk.watch_now()

            def at(size: int, generators: Sequence[Any] = walk.generators) -> Trace:
                return trace(function, forms, size, self.what, generators, self.training)

            first = at(batch)
            if found is not None and (difference := _difference(found, first, batch)):
                raise TraceError(
                    f"{self.what} is another program than it was, and nothing watched says why: {difference}"
                )
            entry = found or self._known(held, key, first, batch)
            try:
                entry = entry or self._made(first, at, any(f.batched for f in forms), batch)
            except TraceError:
                attempts += 1
                if attempts == ATTEMPTS or before.first_broken() is None:
                    raise
                continue  # another thread has changed something in between
            if before.first_broken() is None:
                break
            # The function itself has changed something while it was traced, as it then does once more; or
            # another thread has, and this trace may be half of what was and half of what is.
            changed, walk = before.broken(), Walk(self.roots)
            again = walk.watch_now()
            same = not _difference(entry, at(batch), batch)
            repeated = changed & again.broken()
            if repeated != changed:
                held = None
            if same and (names := sorted(name for _, name in repeated if name in walk.read)):
                warnings.warn(
                    f"{self.what} reads {', '.join(names)}, which it changes itself: it does so when it is traced, and "
                    "not in every call, as programs run without Python. Keep such state outside of it",
                    TraceWarning,
                    stacklevel=2,
                )
            if same:
                walk = Walk(self.roots)
                break
        return self._keep(held or self._current(), key, entry, walk, batch), entry

    def _known(self, held: State | None, key: Any, now: Trace, batch: int) -> Entry | None:
        """An entry of this state that serves a trace, or one of another state, as a new one of this."""
        for state in self._states:
            for entry in state.entries.get(key, ()):
                if not _difference(entry, now, batch):
                    return entry if state is held else replace(entry, batches={batch})
        return None

    def _made(self, first: Trace, at: Callable[[int], Trace], batched: bool, batch: int) -> Entry:
        if self.trusted:
            return self._lowered(first, batch)
        if batched and batch > 1:
            try:
                other = at(batch - 1 if batch > 2 else batch + 1)
            except MemoryError:
                raise
            except Exception:  # what the function makes of another batch is not for this caller
                other = None
            try:
                if other is not None:
                    generalise(first, align(first.record, other.record, fit=True))
                    return self._lowered(first, batch)
            except (Parted, SpecialiseError):  # a program for this batch alone
                first = at(batch)
        again = at(batch)
        try:
            align(first.record, again.record)
        except Parted as parted:
            raise TraceError(
                f"{self.what} is another program each time it is traced: {parted}. Randomness or state that changes "
                "while tracing cannot be held in a program; random numbers are drawn anew in each run by "
                "fn.random.normal, uniform and bernoulli, and by nn.Dropout"
            ) from None
        return self._lowered(again, batch)

    def _lowered(self, traced: Trace, batch: int) -> Entry:
        graph = traced.graph
        arrays = in_place(graph)
        facts: list[Fact] = [(ATTRIBUTE, owner, "_storage", array) for owner, array in graph.owners]
        with recording(graph):
            absorb(graph, [*traced.tensors, *graph.penalties])
            recipe = self.finish(graph, traced.result)
        program = Program(graph, recipe.outputs, recipe.sinks, recipe.update, self._arena, {batch}, recipe.marks)
        if recipe.receipt is not None:
            program.plans[0].leave_in(*recipe.receipt)
        read = {id(part) for array in arrays if id(array) not in _owned(graph) for part in bases(array)}
        contents = [p._storage for p in graph.exposed if id(p._storage) not in read]
        return Entry(traced.record, program, recipe.rebuild, arrays, [*facts, *recipe.facts], contents, {batch})

    def _keep(self, held: State | None, key: Any, entry: Entry, walk: Walk, batch: int) -> State:
        """The state that holds with an entry for a batch more, and with a watch of all that its entries depend on.

        It is made beside the one that there was, and takes its place when it is whole: an entry that some other
        watch stood for would go on when it no longer holds.
        """
        table = {} if held is None else dict(held.entries)
        others = [e for e in table.get(key, ()) if e is not entry]
        covered = [e for e in others if _covers(entry, e)]
        table[key] = [*(e for e in others if e not in covered), entry]
        states = [State(table), *(s for s in self._states if s is not held)][:STATES]
        _forget(states, entry)
        kept = [e for parts in states[0].entries.values() for e in parts]
        read = [{id(a) for a in e.arrays} for e in kept]
        everywhere = [a for a in entry.arrays if all(id(a) in each for each in read)]
        states[0].watch = walk.watch(
            everywhere, [a for e in kept for a in e.contents], [fact for e in kept for fact in e.facts]
        )
        entry.serve({batch}.union(*(e.batches for e in covered)))
        self._states = states
        return states[0]


def _forget(states: list[State], newest: Entry) -> None:
    """Let the least recently used programs go while they take more than LIMIT together."""
    while True:
        entries = [e for state in states for parts in state.entries.values() for e in parts]
        programs = {e.program: e for e in sorted(entries, key=lambda e: e.used)}
        total = sum(program.nbytes for program in programs)
        oldest = next((p for p in programs if p is not newest.program), None)
        if total <= LIMIT or oldest is None:
            return
        for state in states:
            left = {key: [e for e in parts if e.program is not oldest] for key, parts in state.entries.items()}
            state.entries = {key: parts for key, parts in left.items() if parts}


def _difference(entry: Entry, now: Trace, batch: int) -> str:
    """Why an entry's program does not serve a trace at this batch; "" if it does."""
    if batch > entry.program.batch or (entry.program.batched and batch == 1):
        return "the batch"
    if not entry.holds():
        return "a parameter or its gradient has moved, or is trained or frozen now"
    try:
        align(entry.record, now.record)
    except Parted as parted:
        return str(parted)
    return "" if reads_the_same_memory(entry.record, now.record) else "other arrays are read"


def _owned(graph: Graph) -> set[int]:
    return {id(array) for _, array in graph.owners}


def _covers(wide: Entry, other: Entry) -> bool:
    """Whether an entry's program is at all batches of another one what that one's is."""
    if max(other.batches) > wide.program.batch or (wide.program.batched and 1 in other.batches):
        return False
    try:
        align(wide.record, other.record, lines=other.program.batched)
    except Parted:
        return False
    return reads_the_same_memory(wide.record, other.record)
