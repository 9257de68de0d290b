"""What a trace depends on besides its arguments: a walk from a function to the values that decide it.

The walk follows the code that a trace can reach (`forward`, the loss, functions that they name, methods,
closures) to the Python values that this code names: attributes of modules and of plain objects, what
lists, dicts and tuples hold, globals, closure cells, class attributes. Each becomes a fact of a Watch
(fastnn_ext.watch). Attributes that no reachable code names are left out, so that a history that grows in
a module costs no new trace.

Libraries are taken as they are: fastnn's layers depend on their own attributes alone, which say so when
they are set; NumPy's functions and the standard library's on nothing.

Arrays are facts by content, unless the graph reads them in place (it then sees what is written to them);
small ones are in both cases, as `float(self.scale[0])` may have been read, too.
"""

from __future__ import annotations

import collections
import functools
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from fastnn_ext.watch import (
    ABSENT,
    ATTRIBUTE,
    CELL,
    CLASS,
    CONTENT,
    COUNT,
    ENTRY,
    FUNCTION,
    MAPPING,
    MEMBER,
    NAMES,
    SEQUENCE,
    SET,
    Fact,
    Watch,
    version_of,
)

#: Arrays of up to so many bytes are compared even where the graph reads them in place.
SMALL = 4096

_LIBRARIES = {"fastnn", "fastnn_ext", "numpy", *sys.stdlib_module_names} - {"__main__"}
_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(...), type(NotImplemented), range, slice)
#: Methods that run without being named.
_IMPLICIT = {
    "forward", "__call__", "__getattr__", "__getattribute__", "__getitem__", "__len__", "__iter__", "__next__",
    "__contains__", "__bool__", "__eq__", "__lt__", "__le__", "__gt__", "__ge__", "__hash__", "__add__",
    "__radd__", "__sub__", "__rsub__", "__mul__", "__rmul__", "__truediv__", "__rtruediv__", "__pow__",
    "__neg__", "__float__", "__int__", "__index__", "__array__", "__enter__", "__exit__", "__get__",
}  # fmt: skip
#: Code that names these may read any attribute.
_DYNAMIC = {"getattr", "vars", "__dict__", "eval", "exec", "attrgetter", "setattr"}


def is_library(value: Any) -> bool:
    """Whether a class or function is fastnn's, NumPy's or the standard library's."""
    module = getattr(value, "__module__", None)
    return isinstance(module, str) and module.partition(".")[0] in _LIBRARIES


class Walk:
    """One walk over what is reachable from `roots`.

    Objects that know what of them a trace depends on have a method `_watch(walk)`, which calls `entry`,
    `attribute`, `mapping` and `visit`.

    Attributes
    ----------
    loud, silent : list of fact
    arrays : dict of int to array
        By id: what was found.
    generators : list
        Random generators that were found.
    """

    def __init__(self, roots: Iterable[Any]) -> None:
        self.names: set[str] = set()
        self.any_name = False
        roots = list(roots)
        while True:  # until no code that was reached names what the walk before did not look for
            self.loud: list[Fact] = []
            self.silent: list[Fact] = []
            self.arrays: dict[int, np.ndarray[Any, Any]] = {}
            self.generators: list[Any] = []
            self._seen: dict[int, Any] = {}
            before = (len(self.names), self.any_name)
            for root in roots:
                self.visit(root)
            if (len(self.names), self.any_name) == before:
                break
        self._contents = [_content(a) for a in self.arrays.values() if a.nbytes <= SMALL]

    def watch(
        self,
        in_place: Iterable[np.ndarray[Any, Any]],
        read: Iterable[np.ndarray[Any, Any]],
        facts: Iterable[Fact],
    ) -> Watch:
        """The facts as a Watch.

        Parameters
        ----------
        in_place : iterable of array
            What programs read whenever they run.
        read : iterable of array
            More arrays whose content a trace depended on.
        facts : iterable of fact
            More loud ones.
        """
        seen = {id(part) for array in in_place for part in bases(array)}
        large = [a for key, a in self.arrays.items() if key not in seen and a.nbytes > SMALL]
        contents = [*self._contents, *(_content(a) for a in (*large, *read))]
        return Watch([*self.loud, *facts], [*self.silent, *contents])

    def watch_now(self) -> Watch:
        """The facts as a Watch, with the content of small arrays."""
        return Watch(self.loud, [*self.silent, *self._contents])

    # ---- for objects with a method _watch ---------------------------------------------------------

    def selects(self, name: str) -> bool:
        """Whether reachable code names this attribute."""
        return self.any_name or name in self.names or name in _IMPLICIT

    def entry(self, table: dict[str, Any], name: str, *, loud: bool = False) -> None:
        """table[name], and what it holds; or that there is no such entry."""
        value = table.get(name, ABSENT)
        (self.loud if loud else self.silent).append((ENTRY, table, name, value))
        self.visit(value)

    def attribute(self, owner: Any, name: str, *, loud: bool = False) -> None:
        """owner.name, by identity."""
        (self.loud if loud else self.silent).append((ATTRIBUTE, owner, name, getattr(owner, name, ABSENT)))

    def mapping(self, table: dict[Any, Any], *, loud: bool = False) -> None:
        """All entries of a dict, in their order, and what they hold."""
        items = tuple(table.items())
        (self.loud if loud else self.silent).append((MAPPING, table, None, items))
        for _, value in items:
            self.visit(value)

    def keys(self, table: Mapping[str, Any], *, loud: bool = False) -> None:
        """Which names there are: one that is added may hide another, or be what `hasattr` asks for."""
        (self.loud if loud else self.silent).append((NAMES, table, None, tuple(table)))

    # ---- the walk ---------------------------------------------------------------------------------

    def visit(self, value: Any) -> None:
        """Everything that can be reached from a value."""
        if isinstance(value, _PLAIN) or value is ABSENT or id(value) in self._seen:
            return
        if isinstance(value, (np.generic, np.dtype, np.ufunc, types.BuiltinFunctionType, types.CodeType)):
            return
        self._seen[id(value)] = value
        if hasattr(type(value), "_watch"):
            value._watch(self)
        elif isinstance(value, np.ndarray):
            self.arrays[id(value)] = value
        elif isinstance(value, (tuple, frozenset)):
            self._each(value)
            self._object(value)
        elif isinstance(value, (list, collections.deque)):
            members = tuple(value)
            self.silent.append((SEQUENCE, value, None, members))
            self._each(members)
            self._object(value)
        elif isinstance(value, dict):
            self.mapping(value)
            self._object(value)
        elif isinstance(value, set):
            self.silent.append((SET, value, None, frozenset(value)))
            self._each(value)
        elif isinstance(value, types.FunctionType):
            self._function(value)
        elif isinstance(value, types.MethodType):
            self.visit(value.__self__)
            self.visit(value.__func__)
        elif isinstance(value, functools.partial):
            self._each((value.func, value.args, value.keywords))
        elif isinstance(value, (staticmethod, classmethod)):
            self.visit(value.__func__)
        elif isinstance(value, property):
            self._each((value.fget, value.fset))
        elif isinstance(value, types.CellType):
            self._cell(value)
        elif isinstance(value, type):
            self._class(value)
        elif isinstance(value, types.ModuleType):
            self._module(value)
        elif _is_generator(value):
            self.generators.append(value)
        else:
            if hasattr(value, "__wrapped__"):  # functools.lru_cache and its like
                self.visit(value.__wrapped__)
            self._object(value)

    def _each(self, values: Iterable[Any]) -> None:
        for value in list(values):
            self.visit(value)

    def _object(self, value: Any) -> None:
        """The named attributes of a plain object, and its class."""
        cls = type(value)
        table = getattr(value, "__dict__", None)
        if isinstance(table, dict):
            for name in list(table):
                if self.selects(name):
                    self.entry(table, name)
            self.keys(table)
        for base in cls.__mro__:
            slots = base.__dict__.get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                if self.selects(name):
                    self.attribute(value, name)
                    self.visit(getattr(value, name, None))
        self.visit(cls)

    def _class(self, cls: type) -> None:
        facts: list[Fact] = []
        for base in cls.__mro__:
            if is_library(base):
                continue
            members = vars(base)
            facts.append((NAMES, members, None, tuple(members)))
            for name, value in list(members.items()):
                if name in _IMPLICIT or (self.selects(name) and not name.startswith("__")):
                    facts.append((MEMBER, members, name, value))
                    self.visit(value)
        if facts:
            self.silent.append((CLASS, cls, None, [version_of(cls), facts]))

    def _module(self, module: types.ModuleType) -> None:
        if module.__name__.partition(".")[0] in _LIBRARIES:
            return
        table = vars(module)
        for name in list(table):
            if name in self.names and not name.startswith("__"):
                self.entry(table, name)
        self.silent.append((COUNT, table, None, len(table)))

    def _function(self, function: types.FunctionType) -> None:
        if is_library(function):
            return
        names, global_names = _names_of(function.__code__)
        self.names |= names
        self.any_name |= bool(_DYNAMIC & (names | global_names))
        for cell in function.__closure__ or ():
            self._cell(cell)
        for name in sorted(global_names):
            self.entry(function.__globals__, name)
        made_of = (function.__code__, function.__defaults__, function.__kwdefaults__)
        self.silent.append((FUNCTION, function, None, made_of))
        self._each((function.__defaults__, function.__kwdefaults__))
        self.visit(getattr(function, "__wrapped__", None))

    def _cell(self, cell: types.CellType) -> None:
        try:
            value = cell.cell_contents
        except ValueError:
            value = ABSENT
        self.silent.append((CELL, cell, None, value))
        self.visit(value)


@functools.lru_cache(maxsize=1024)
def _names_of(code: types.CodeType) -> tuple[frozenset[str], frozenset[str]]:
    """Attribute names, and names of globals, in code and in what is defined within it."""
    import dis

    attributes: set[str] = set()
    global_names: set[str] = set()
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            global_names.add(instruction.argval)
        elif instruction.argval in code.co_names and isinstance(instruction.argval, str):
            attributes.add(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            inner, outer = _names_of(constant)
            attributes |= inner
            global_names |= outer
        elif isinstance(constant, str):
            attributes.add(constant)  # getattr(self, "name"), operator.attrgetter
    return frozenset(attributes), frozenset(global_names)


def _content(array: np.ndarray[Any, Any]) -> Fact:
    return (CONTENT, array, None, np.array(array, order="C"))


def bases(array: np.ndarray[Any, Any]) -> Iterator[Any]:
    """An array, and those whose memory it is a view of."""
    part: Any = array
    while part is not None:
        yield part
        part = getattr(part, "base", None)


def _is_generator(value: Any) -> bool:
    python, numpy = sys.modules.get("random"), sys.modules.get("numpy.random")
    return (python is not None and isinstance(value, python.Random)) or (
        numpy is not None and isinstance(value, (numpy.Generator, numpy.RandomState))
    )


def global_generators() -> list[Any]:
    """The generators behind the functions of the modules random and numpy.random."""
    found: list[Any] = []
    if (python := sys.modules.get("random")) is not None:
        found.append(python.random.__self__)
    if (numpy := sys.modules.get("numpy.random")) is not None:
        found.append(numpy.mtrand._rand)
    return found


def state_of(generator: Any) -> Any:
    """What a random generator will draw next depends on, to be compared."""
    if hasattr(generator, "getstate"):
        return generator.getstate()
    bits = getattr(generator, "bit_generator", None) or generator._bit_generator
    return _comparable(bits.state)


def _comparable(state: Any) -> Any:
    if isinstance(state, dict):
        return [(name, _comparable(part)) for name, part in state.items()]
    return state.tobytes() if isinstance(state, np.ndarray) else state
