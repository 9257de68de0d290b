from collections.abc import Callable, Sequence
from typing import Any, TypeVar

Result = TypeVar("Result")

def commit(
    copies: list[tuple[Any, Any]],
    entries: list[tuple[dict[str, Any], str, Any]] | None = None,
    attributes: list[tuple[Any, str, Any]] | None = None,
) -> None: ...
def put(table: dict[str, Any], key: str, value: Any, target: Any, source: Any) -> None: ...
def restoring(
    entries: list[tuple[dict[str, Any], str, Any]],
    attributes: list[tuple[Any, str, Any]],
    function: Callable[..., Result],
    *args: Any,
) -> Result: ...

class Calls:
    method: str
    objects: tuple[Any, ...]
    number: int
    done: int
    def __init__(self, method: str, objects: Sequence[Any], number: int = 0, done: int = 0) -> None: ...
    def next(self, *args: Any) -> bool: ...
    def rest(self, *args: Any) -> None: ...
    def again(self, number: int) -> None: ...
    def left(self) -> tuple[Any, ...]: ...

def sync_folder(path: bytes) -> None: ...
