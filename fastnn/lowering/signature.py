"""What native ops take, by name: drivers say so when they register them (fastnn_ext.runtime)."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
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

    def check(self, given: Mapping[str, Any]) -> None:
        """TypeError unless `given` has what is needed, and nothing else."""
        names = {p.name: p for p in (*self.outputs, *self.inputs, *self.dims, *self.scalars)}
        missing = [n for n, p in names.items() if not p.optional and p.places == 1 and given.get(n) is None]
        unknown = given.keys() - names.keys()
        if missing or unknown:
            what = [f"lacks {', '.join(missing)}"] if missing else []
            what += [f"has no {', '.join(sorted(unknown))}"] if unknown else []
            raise TypeError(f"{self.kernel} {' and '.join(what)}; it takes {', '.join(names)}")


def places(parameters: Sequence[Parameter], given: Mapping[str, Any], absent: Any) -> Iterator[tuple[str, Any]]:
    """Each place of these parameters with what is given for it, or `absent`."""
    for p in parameters:
        value = given.get(p.name)
        if p.places == 1:
            yield p.name, absent if value is None else value
            continue
        values = list(value or ())
        if p.places != ANY:
            if len(values) > p.places:
                raise ValueError(f"{p.name} takes {p.places} places, got {len(values)}")
            values += [absent] * (p.places - len(values))
        for entry in values:
            yield p.name, entry


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
