from typing import Any

Fact = tuple[int, Any, Any, Any]

ENTRY: int
CLASS: int
FUNCTION: int
MEMBER: int
ATTRIBUTE: int
CELL: int
SEQUENCE: int
MAPPING: int
SET: int
CONTENT: int
NAMES: int
COUNT: int
TYPE: int
BYTES: int
CALLED: int
ABSENT: Any

def changed() -> None: ...
def check_traces(enabled: bool) -> None: ...
def is_checking() -> bool: ...
def version_of(cls: type) -> int: ...

class Watch:
    def __init__(self, loud: list[Fact], silent: list[Fact]) -> None: ...
    def holds(self) -> bool: ...
    def first_broken(self) -> Fact | None: ...
    def broken(self) -> set[tuple[int, Any]]: ...
