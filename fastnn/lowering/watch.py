"""What a trace depends on besides its arguments: a walk from a function to the values that decide it.

The walk follows the code that a trace can reach (`forward`, the loss, functions that they name, methods,
closures) to the Python values that this code names: attributes of modules and of plain objects, what
lists, dicts and tuples hold, globals, closure cells, class attributes. Each becomes a fact of a Watch
(fastnn_ext.watch). Attributes that no reachable code names are left out, so that a history that grows in
a module costs no new trace.

Libraries are taken as they are: fastnn's layers depend on their own attributes alone, which say so when
they are set; NumPy's functions and the standard library's on nothing but what they hold (containers,
partials, decorated functions). Code that names `eval`, `exec` or `globals` may depend on anything: it is
traced at every call.

Arrays are facts by content, unless the graph reads them in place (it then sees what is written to them);
small ones are in both cases, as `float(self.scale[0])` may have been read, too.
"""

from __future__ import annotations

import array
import collections
import contextlib
import contextvars
import functools
import sys
import types
import weakref
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from fastnn_ext.watch import (
    ABSENT,
    ATTRIBUTE,
    BYTES,
    CALLED,
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
    TYPE,
    Fact,
    Watch,
    version_of,
)

#: Arrays of up to so many bytes are compared even where the graph reads them in place: about a microsecond.
SMALL = 1 << 15

_OURS = {"fastnn", "fastnn_ext", "numpy"}
_STANDARD = set(sys.stdlib_module_names) - {"__main__"}
#: Large packages whose functions depend on nothing of a user's.
_LARGE = {
    "torch", "jax", "jaxlib", "tensorflow", "keras", "scipy", "pandas", "sklearn", "matplotlib", "PIL", "numba", "tqdm",
    "hypothesis", "pytest", "_pytest",
}  # fmt: skip
_LIBRARIES = _OURS | _STANDARD | _LARGE
#: Of the standard library, what holds no values of a user's that a trace may read.
_SILENT = {"logging", "io", "_io", "socket", "subprocess", "asyncio", "concurrent", "warnings", "unittest", "_thread"}
_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(...), type(NotImplemented), range, slice)
#: Special methods that run as an object is made, not as it is used.
_MAKING = {"__new__", "__init__", "__post_init__", "__init_subclass__", "__class_getitem__", "__set_name__"}
#: Code that names these may read any attribute.
_DYNAMIC = {"getattr", "vars", "__dict__", "attrgetter", "__getattribute__", "dir"}
#: Code that names these may read anything.
_ANYTHING = {"eval", "exec", "globals", "locals", "__import__", "import_module"}


def is_library(value: Any) -> bool:
    """Whether a class or function is fastnn's, NumPy's, the standard library's, or another large one's."""
    table = getattr(value, "__globals__", None)
    module = table.get("__name__") if isinstance(table, dict) else getattr(value, "__module__", None)
    return isinstance(module, str) and module.partition(".")[0] in _LIBRARIES


class Walk:
    """One walk over what is reachable from `roots`.

    Objects that know what of them a trace depends on have a method `__fastnn_watch__(walk)`, which calls
    `entry`, `attribute`, `mapping` and `visit`.

    Attributes
    ----------
    loud, silent : list of fact
    arrays : dict of int to array
        By id: what was found.
    generators : list
        Random generators that were found.
    names, read : set of str
        Attributes that reachable code names; those that it reads.
    """

    def __init__(self, roots: Iterable[Any]) -> None:
        self.names: set[str] = set()
        self.read: set[str] = set()
        self.any_name = False
        roots = list(roots)
        while True:  # until no code that was reached names what the walk before did not look for
            self.loud: list[Fact] = []
            self.silent: list[Fact] = []
            self.arrays: dict[int, np.ndarray[Any, Any]] = {}
            self.generators: list[Any] = []
            self._seen: dict[int, Any] = {}
            self._made: set[int] = set()
            self._pending = list(roots)
            before = (len(self.names), self.any_name)
            while self._pending:
                self._expand(self._pending.pop())
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
        seen = {id(part) for each in in_place for part in bases(each)}
        large = [a for key, a in self.arrays.items() if key not in seen and a.nbytes > SMALL]
        contents = [*self._contents, *(_content(a) for a in (*large, *read))]
        return Watch([*self.loud, *facts], [*self.silent, *contents])

    def watch_now(self) -> Watch:
        """The facts as a Watch, with the content of small arrays."""
        return Watch(self.loud, [*self.silent, *self._contents])

    # ---- for objects with a method __fastnn_watch__ ---------------------------------------------------------

    def selects(self, name: str) -> bool:
        """Whether reachable code names this attribute, or Python reads it unnamed."""
        return self.any_name or name in self.names or name == "forward" or _is_special(name)

    def visit(self, value: Any) -> None:
        """Everything that can be reached from a value."""
        self._pending.append(value)

    def entry(self, table: dict[str, Any], name: str, *, loud: bool = False) -> None:
        """table[name], and what it holds; or that there is no such entry."""
        value = table.get(name, ABSENT)
        (self.loud if loud else self.silent).append((ENTRY, table, name, value))
        self.visit(value)

    def attribute(self, owner: Any, name: str, *, loud: bool = False) -> None:
        """owner.name, by identity."""
        (self.loud if loud else self.silent).append((ATTRIBUTE, owner, name, getattr(owner, name, ABSENT)))

    def mapping(self, table: Mapping[Any, Any], *, loud: bool = False) -> None:
        """All entries of a dict, in their order, and what they hold."""
        items = tuple(table.items())
        (self.loud if loud else self.silent).append((MAPPING, table, None, items))
        for _, value in items:
            self.visit(value)

    def object_of(self, value: Any) -> None:
        """An object's class."""
        if not is_library(type(value)):
            self.silent.append((TYPE, value, None, type(value)))
        self._class(type(value), makes=False)

    def keys(self, table: Mapping[str, Any], *, loud: bool = False) -> None:
        """Which names there are: one that is added may hide another, or be what `hasattr` asks for."""
        (self.loud if loud else self.silent).append((NAMES, table, None, tuple(table)))

    # ---- the walk ---------------------------------------------------------------------------------

    def _expand(self, value: Any) -> None:
        if isinstance(value, _PLAIN) or value is ABSENT:
            return
        if isinstance(value, type):  # code that names a class may make objects of it
            self._class(value, makes=True)
            return
        if id(value) in self._seen or isinstance(value, (np.generic, np.dtype, np.ufunc, types.CodeType)):
            return
        self._seen[id(value)] = value
        kind = type(value)
        if hasattr(kind, "__fastnn_watch__"):
            value.__fastnn_watch__(self)
        elif isinstance(value, np.ndarray):
            self.arrays[id(value)] = value
            if value.dtype.hasobject:
                self._each(value.ravel().tolist())
            if "_mask" in (table := _table_of(value) or {}):  # of a masked array
                self.entry(table, "_mask")
        elif isinstance(value, (tuple, frozenset)):
            self._each(value)
            self._object(value)
        elif isinstance(value, (list, collections.deque)):
            members = tuple(value)
            self.silent.append((SEQUENCE, value, None, members))
            self._each(members)
            self._object(value)
        elif isinstance(value, (dict, types.MappingProxyType)):
            self.mapping(value)
            self._object(value)
        elif isinstance(value, set):
            self.silent.append((SET, value, None, frozenset(value)))
            self._each(value)
        elif isinstance(value, types.FunctionType):
            self._function(value)
        elif isinstance(value, types.MethodType):
            self._each((value.__self__, value.__func__))
        elif isinstance(value, types.BuiltinFunctionType):
            if not isinstance(value.__self__, types.ModuleType):
                self.visit(value.__self__)
        elif isinstance(value, (functools.partial, functools.partialmethod)):
            self._each((value.func, value.args, value.keywords))
        elif isinstance(value, (staticmethod, classmethod)):
            self.visit(value.__func__)
        elif isinstance(value, property):
            self._each((value.fget, value.fset))
        elif isinstance(value, types.CellType):
            self._cell(value)
        elif isinstance(value, types.ModuleType):
            self._module(value)
        elif isinstance(value, weakref.ref):
            self.visit(value())
        elif isinstance(value, contextvars.ContextVar):
            self._called(functools.partial(value.get, ABSENT))
        elif _is_generator(value):
            self.generators.append(value)
        elif not self._buffer(value):
            self._object(value)

    def _each(self, values: Iterable[Any]) -> None:
        for value in list(values):
            self.visit(value)

    def _called(self, function: Any) -> None:
        value = function()
        self.silent.append((CALLED, function, None, value))
        self.visit(value)

    def _buffer(self, value: Any) -> bool:
        """What holds numbers as bytes, or shares them as an array: by content."""
        if isinstance(value, (bytearray, array.array, memoryview)) or type(value).__module__ == "_ctypes":
            content = True
        else:
            content = any("_length_" in vars(base) or base.__name__ == "_SimpleCData" for base in type(value).__mro__)
        if content:
            with contextlib.suppress(Exception):
                self.silent.append((BYTES, value, None, bytes(memoryview(value))))
                return True
        if any("__array__" in vars(base) for base in type(value).__mro__):
            with contextlib.suppress(Exception):
                shared = np.asarray(value)
                self.arrays[id(shared)] = shared
                return True
        return False

    def _object(self, value: Any) -> None:
        """The named attributes of an object (of one of the standard library or NumPy, all), and its class."""
        cls = type(value)
        if cls.__module__ == "builtins":
            return
        room = cls.__module__.partition(".")[0] if isinstance(cls.__module__, str) else ""
        if room in _SILENT or room in _LARGE:
            return
        table = _table_of(value)
        if table is not None:
            for name in list(table):
                if self.selects(name) or room in _STANDARD or room == "numpy":
                    self.entry(table, name)
            self.keys(table)
        self.object_of(value)
        for base in cls.__mro__:
            slots = vars(base).get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                if name.startswith("__") and not name.endswith("__"):
                    name = f"_{base.__name__.lstrip('_')}{name}"
                if self.selects(name) and name in vars(base):
                    with contextlib.suppress(Exception):
                        self.attribute(value, name)
                        self.visit(getattr(value, name, None))

    def _class(self, cls: type, makes: bool) -> None:
        """The named members of a user's class and its bases; with those that make objects, if code names it."""
        if id(cls) in self._made or (not makes and id(cls) in self._seen):
            return
        self._seen[id(cls)] = cls
        if makes:
            self._made.add(id(cls))
        facts: list[Fact] = []
        for base in cls.__mro__:
            if is_library(base):
                continue
            members = vars(base)
            facts.append((NAMES, members, None, tuple(members)))
            for name, value in list(members.items()):
                if self.selects(name) and (makes or name not in _MAKING) and name not in ("__dict__", "__weakref__"):
                    facts.append((MEMBER, members, name, value))
                    self.visit(value)
        if facts:
            self.silent.append((CLASS, cls, None, [version_of(cls), facts]))
        if type(cls) is not type:
            self._class(type(cls), makes=False)

    def _module(self, module: types.ModuleType) -> None:
        room = module.__name__.partition(".")[0]
        if room == "os" and {"environ", "getenv"} & self.names:
            self.mapping(module.environ._data)
        if room in _LIBRARIES:
            return
        table = vars(module)
        for name in list(table):
            if name in self.names and (name == "__getattr__" or not name.startswith("__")):
                self.entry(table, name)
        self.visit(table.get("__getattr__"))
        self.silent.append((COUNT, table, None, len(table)))

    def _function(self, function: types.FunctionType) -> None:
        if is_library(function):
            if function.__globals__.get("__name__", "").partition(".")[0] in _STANDARD:
                self._held(function)  # a decorated one: functools.singledispatch, lru_cache
            return
        names, read, global_names, modules = _names_of(function.__code__)
        self.names |= names
        self.read |= read
        self.any_name |= bool(_DYNAMIC & (names | global_names))
        if _ANYTHING & (names | global_names):
            self._called(object)  # never the same
        for name in sorted(global_names):
            self.entry(function.__globals__, name)
        for name in modules:
            self.visit(sys.modules.get(name))
        made_of = (function.__code__, function.__defaults__, function.__kwdefaults__)
        self.silent.append((FUNCTION, function, None, made_of))
        self._each((function.__defaults__, function.__kwdefaults__))
        self._held(function)

    def _held(self, function: types.FunctionType) -> None:
        """What a function holds beside its code: cells, attributes, what it wraps."""
        for cell in function.__closure__ or ():
            self._cell(cell)
        for name in list(function.__dict__):
            if self.selects(name) or name == "__wrapped__":
                self.entry(function.__dict__, name)

    def _cell(self, cell: types.CellType) -> None:
        try:
            value = cell.cell_contents
        except ValueError:
            value = ABSENT
        self.silent.append((CELL, cell, None, value))
        self.visit(value)


def _is_special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _table_of(value: Any) -> dict[str, Any] | None:
    """An object's own attributes, without running code of its class."""
    try:
        table = object.__getattribute__(value, "__dict__")
    except (AttributeError, TypeError):
        return None
    return table if isinstance(table, dict) else None


@functools.lru_cache(maxsize=1024)
def _names_of(code: types.CodeType) -> tuple[frozenset[str], ...]:
    """Names of attributes, of those that are read, of globals, and of modules that are imported, in code and in
    what it defines."""
    import dis

    attributes: set[str] = set()
    read: set[str] = set()
    global_names: set[str] = set()
    modules: set[str] = set()
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            global_names.add(instruction.argval)
        elif instruction.opname == "IMPORT_NAME":
            modules.add(instruction.argval)
        elif isinstance(instruction.argval, str) and instruction.argval in code.co_names:
            attributes.add(instruction.argval)
            if instruction.opname.startswith("LOAD"):
                read.add(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            for mine, inner in zip((attributes, read, global_names, modules), _names_of(constant), strict=True):
                mine |= inner
        elif isinstance(constant, str):
            attributes.add(constant)  # getattr(self, "name"), operator.attrgetter
    return frozenset(attributes), frozenset(read), frozenset(global_names), frozenset(modules)


def _content(source: np.ndarray[Any, Any]) -> Fact:
    return (CONTENT, source, None, np.array(source, order="C"))


def bases(source: np.ndarray[Any, Any]) -> Iterator[Any]:
    """An array, and those whose memory it is a view of."""
    part: Any = source
    while part is not None:
        yield part
        part = getattr(part, "base", None)


def _is_generator(value: Any) -> bool:
    python, numpy = sys.modules.get("random"), sys.modules.get("numpy.random")
    return (python is not None and isinstance(value, python.Random)) or (
        numpy is not None and isinstance(value, (numpy.Generator, numpy.RandomState, numpy.BitGenerator))
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
    bits = getattr(generator, "bit_generator", None) or getattr(generator, "_bit_generator", generator)
    return _comparable(bits.state)


def _comparable(state: Any) -> Any:
    if isinstance(state, dict):
        return [(name, _comparable(part)) for name, part in state.items()]
    return state.tobytes() if isinstance(state, np.ndarray) else state
