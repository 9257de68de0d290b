"""What native ops take, by name: drivers say so when they register them (fastnn_ext.runtime)."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastnn_ext import runtime

ANY = -1


@dataclass(frozen=True)
class Parameter:
    """One name of a signature, and how many places it takes (ANY: as many as are given)."""

    name: str
    places: int = 1
    optional: bool = False
    written: bool = False  # an input that is written to as well
    in_place: bool = False  # an input in whose memory the first output may lie


@dataclass(frozen=True)
class Signature:
    """Names of a native op's outputs, inputs, dims and scalars, in the order of its `buf`, `dim` and `scalar`."""

    kernel: str
    outputs: tuple[Parameter, ...]
    inputs: tuple[Parameter, ...]
    dims: tuple[Parameter, ...]
    scalars: tuple[Parameter, ...]

    @functools.cached_property
    def names(self) -> dict[str, Parameter]:
        return {p.name: p for p in (*self.outputs, *self.inputs, *self.dims, *self.scalars)}

    @functools.cached_property
    def needed(self) -> list[str]:
        return [name for name, p in self.names.items() if not p.optional and p.places == 1]

    @functools.cached_property
    def written(self) -> frozenset[str]:
        """Names of the inputs that are written to as well."""
        return frozenset(p.name for p in self.inputs if p.written)

    @functools.cached_property
    def in_place(self) -> frozenset[str]:
        """Names of the inputs in whose memory the first output may lie."""
        return frozenset(p.name for p in self.inputs if p.in_place)

    def check(self, given: Mapping[str, Any]) -> None:
        """TypeError unless `given` has what is needed, and nothing else."""
        missing = [name for name in self.needed if given.get(name) is None]
        unknown = given.keys() - self.names.keys()
        if missing or unknown:
            what = [f"lacks {', '.join(missing)}"] if missing else []
            what += [f"has no {', '.join(sorted(unknown))}"] if unknown else []
            raise TypeError(f"{self.kernel} {' and '.join(what)}; it takes {', '.join(self.names)}")


def places(parameters: Sequence[Parameter], given: Mapping[str, Any], absent: Any) -> list[tuple[str, Any]]:
    """Each place of these parameters with what is given for it, or `absent`."""
    found: list[tuple[str, Any]] = []
    for p in parameters:
        value = given.get(p.name)
        if p.places == 1:
            found.append((p.name, absent if value is None else value))
            continue
        values = list(value or ())
        if p.places != ANY:
            if len(values) > p.places:
                raise ValueError(f"{p.name} takes {p.places} places, got {len(values)}")
            values += [absent] * (p.places - len(values))
        found += [(p.name, entry) for entry in values]
    return found


@functools.cache
def signature(kernel: str) -> Signature:
    """The signature of a registered native op."""
    return Signature(kernel, *(tuple(map(_parsed, names.split())) for names in runtime.signature(kernel)))


def _parsed(word: str) -> Parameter:
    match = re.fullmatch(r"([+*]?)(\w+)(?:\[(\d+)\]|(\.\.\.)|(\?))?", word)
    assert match, word
    mark, name, count, many, optional = match.groups()
    size = int(count) if count else ANY if many else 1
    return Parameter(name, size, bool(optional), written=mark == "+", in_place=mark == "*")
