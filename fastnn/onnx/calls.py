"""Calls of a network with arrays: what enters by name, what must be known while tracing, and what leaves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fastnn import _check
from fastnn.graph import Graph
from fastnn.lowering.cache import Entry, Programs, Recipe
from fastnn.lowering.call import to_array
from fastnn.nn.module import Module
from fastnn.onnx.file import Array, Port
from fastnn.onnx.operator import LARGEST_KNOWN
from fastnn.onnx.run import NeedsNumbers, Source
from fastnn_ext.atomic import Meanwhile


class Calls(Programs):
    """The programs of a network. Of inputs whose numbers decide a trace, each value has a program of its own."""

    def __init__(
        self,
        network: Module,
        source: Source,
        finish: Callable[[Graph, Any], Recipe],
        names: Callable[[int], Sequence[str]],
        training: bool | None,
    ) -> None:
        super().__init__(network, finish, names, (network,), "Network.forward", training=training)
        self.source = source
        self.integers = {p.name for p in source.diagram.inputs if p.dtype.kind != "f"}

    def serve(self, args: tuple[Any, ...], keywords: Mapping[str, Any] | None) -> Any:
        """Run the program for these arguments. Where labels do not lie in 0 ... size - 1, as ONNX allows it here and
        there, the integers are taken into the trace, which knows what each of them means."""
        given = self._given(args, keywords)
        try:
            arrays, entry = self._found(given, self.source.by_value)
            return entry.rebuild(entry.program.plans[0].run(*arrays))
        except (ValueError, IndexError):
            names = {name for name, a in given.items() if name in self.integers and a.size <= LARGEST_KNOWN}
            if names <= self.source.by_value:
                raise
        arrays, entry = self._found(given, self.source.by_value | names)
        return entry.rebuild(entry.program.plans[0].run(*arrays))

    def served(self, args: Sequence[Any], keywords: Mapping[str, Any] | None = None) -> tuple[list[Array], Entry]:
        """Arguments as arrays, and the entry that serves them."""
        return self._found(self._given(args, keywords), self.source.by_value)

    def _given(self, args: Sequence[Any], keywords: Mapping[str, Any] | None) -> dict[str, Array]:
        given = self.source.in_order(args, keywords or {})
        return {p.name: _array(v, p) for v, p in zip(given, self.source.diagram.inputs, strict=True)}

    def _found(self, given: dict[str, Array], by_value: set[str]) -> tuple[list[Array], Entry]:
        """The entry for arguments of which some are known while tracing, those without elements among them."""
        while True:
            known = {name: a for name, a in given.items() if name in by_value or not a.size}
            traced = [a for name, a in given.items() if name not in known]
            try:
                if known or self.integers or not traced:
                    return traced, self.find(traced, _Known(self.function, tuple(given), known))
                return traced, self.find(traced)
            except NeedsNumbers as needs:
                for name in needs.names:
                    if given[name].size > LARGEST_KNOWN:
                        raise ValueError(f"{needs}; {name} has {given[name].size} elements, too many") from None
                self.source.by_value |= needs.names
                by_value = by_value | needs.names


class _Called(threading.local):
    """The network that this thread traces for a direct call, which can find out the numbers of integers; or None."""

    network: Any = None


called = _Called()


class _Known:
    """A network of which some inputs are known. Equal to another one with the same."""

    def __init__(self, function: Callable[..., Any], names: Sequence[str], known: Mapping[str, Array]) -> None:
        self.function = function
        self.known = known
        self.order = names
        self.names = [name for name in names if name not in known]
        self._key = tuple((name, a.dtype.char, a.shape, a.tobytes()) for name, a in known.items())

    def __call__(self, *tensors: Any) -> Any:
        rest = iter(tensors)
        with Meanwhile([(called.__dict__, "network", self.function)]):
            return self.function(*(self.known[name] if name in self.known else next(rest) for name in self.order))

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Known) and self._key == other._key


def _array(value: Any, port: Port) -> Array:
    """An argument as an array that a program takes: bools as labels."""
    if port.dtype.kind == "b" and np.asarray(value).dtype == bool:
        return np.asarray(value, np.int64)
    return to_array(value, _check.brief(port.name, str))
