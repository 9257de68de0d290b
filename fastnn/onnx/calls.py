"""Calls of a network with arrays: what enters by name, what must be known while tracing, and what leaves."""

from __future__ import annotations

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

    def served(self, args: Sequence[Any], keywords: Mapping[str, Any] | None = None) -> tuple[list[Array], Entry]:
        """Arguments as arrays, and the entry that serves them."""
        ports = self.source.diagram.inputs
        given = self.source.in_order(args, keywords or {})
        arrays = [_array(value, port) for value, port in zip(given, ports, strict=True)]
        while True:
            known = {
                i: a for i, (a, port) in enumerate(zip(arrays, ports, strict=True)) if port.name in self.source.by_value
            }
            traced = [a for i, a in enumerate(arrays) if i not in known]
            try:
                if not known:
                    return traced, self.find(traced)
                return traced, self.find(traced, _Given(self.function, [p.name for p in ports], known))
            except NeedsNumbers as needs:
                for port, array in zip(ports, arrays, strict=True):
                    if port.name in needs.names and array.size > LARGEST_KNOWN:
                        raise ValueError(f"{needs}; {port.name} holds {array.size}, more than is possible") from None
                self.source.by_value |= needs.names


class _Given:
    """A network of which some inputs are given. Equal to another one with the same."""

    def __init__(self, function: Callable[..., Any], names: Sequence[str], known: Mapping[int, Array]) -> None:
        self.function = function
        self.known = known
        self.names = [name for i, name in enumerate(names) if i not in known]
        self._key = tuple((i, a.dtype.char, a.shape, a.tobytes()) for i, a in known.items())

    def __call__(self, *tensors: Any) -> Any:
        rest = iter(tensors)
        count = len(tensors) + len(self.known)
        return self.function(*(self.known[i] if i in self.known else next(rest) for i in range(count)))

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Given) and self._key == other._key


def _array(value: Any, port: Port) -> Array:
    """An argument as an array that a program takes: bools as labels."""
    if port.dtype.kind == "b" and np.asarray(value).dtype == bool:
        return np.asarray(value, np.int64)
    return to_array(value, _check.brief(port.name, str))


def declared(ports: Sequence[Port], result: Any) -> Any:
    """Results in the dtypes that the file says: programs know floats and labels."""
    if len(ports) == 1:
        return _declared(ports[0], result)
    if isinstance(result, tuple) and len(result) == len(ports):
        return tuple(_declared(port, part) for port, part in zip(ports, result, strict=True))
    return result  # of a hook's making


def _declared(port: Port, value: Any) -> Any:
    if port.dtype.kind != "f" and isinstance(value, (np.ndarray, np.generic, int, float)):
        return np.asarray(value).astype(port.dtype)
    return value
