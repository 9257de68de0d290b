"""Modules that hold modules: Sequential, ModuleList, ModuleDict."""

from __future__ import annotations

import itertools
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from typing import Any, TypeVar, overload

from fastnn import _check
from fastnn.nn.module import Module

Self = TypeVar("Self", bound="_Ordered")


class _Ordered(Module):
    """Modules in an order, addressed by position."""

    def append(self: Self, module: Module) -> Self:
        """Add a module at the end."""
        name = next(str(i) for i in itertools.count(len(self)) if str(i) not in self._modules)
        _add(self, name, module)
        return self

    def extend(self: Self, modules: Iterable[Module]) -> Self:
        """Add modules at the end."""
        for module in modules:
            self.append(module)
        return self

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self: Self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> Module:
        """The module at a position; a slice gives a container of the same modules."""
        if isinstance(index, slice):
            return self._part(list(self._modules.items())[index])
        return self._modules[self._name(index)]

    def __setitem__(self, index: int, module: Module) -> None:
        _check.instance("module", module, Module)
        self._modules[self._name(index)] = module

    def _name(self, index: int) -> str:
        i = _check.integer("index", index)
        if not -len(self) <= i < len(self):
            raise IndexError(f"index {i} is out of range for {len(self)} modules")
        return list(self._modules)[i]

    def _part(self, items: list[tuple[str, Module]]) -> Module:
        raise NotImplementedError


class Sequential(_Ordered):
    """Modules that are called one after the other.

    Parameters
    ----------
    *modules : Module, or one mapping of str to Module
        Named "0", "1", ..., or by the mapping's keys.
    """

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            for name, module in modules[0].items():
                _add(self, name, module)
        elif len(modules) == 1 and isinstance(modules[0], (tuple, list)):
            kind = type(modules[0]).__name__
            raise TypeError(f"each argument must be a Module, got {kind}; write Sequential(*modules)")
        else:
            self.extend(modules)  # type: ignore[arg-type]

    def forward(self, input: Any) -> Any:
        for module in self:
            input = module(input)
        return input

    def _part(self, items: list[tuple[str, Module]]) -> Module:
        return type(self)(dict(items))


class ModuleList(_Ordered):
    """A list of modules, for a `forward` that walks it."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__()
        self.extend(modules)

    def _part(self, items: list[tuple[str, Module]]) -> Module:
        return type(self)(module for _, module in items)


class ModuleDict(Module):
    """Modules by name, for a `forward` that picks from them."""

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        super().__init__()
        for name, module in (modules or {}).items():
            self[name] = module

    def __getitem__(self, name: str) -> Module:
        return self._modules[name]

    def __setitem__(self, name: str, module: Module) -> None:
        _add(self, name, module)

    def __delitem__(self, name: str) -> None:
        del self._modules[name]

    def __contains__(self, name: object) -> bool:
        return name in self._modules

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def keys(self) -> KeysView[str]:
        return self._modules.keys()

    def values(self) -> ValuesView[Module]:
        return self._modules.values()

    def items(self) -> ItemsView[str, Module]:
        return self._modules.items()


def _add(container: Module, name: str, module: Any) -> None:
    """add_module, but a name may not hide an attribute such as `training`."""
    if isinstance(name, str) and name not in container._modules and hasattr(container, name):
        raise ValueError(f"{name!r} is an attribute of {type(container).__name__}; choose another name")
    container.add_module(name, module)
