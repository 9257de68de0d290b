from typing import Any

def commit(
    copies: list[tuple[Any, Any]],
    entries: list[tuple[dict[str, Any], str, Any]] | None = None,
    attributes: list[tuple[Any, str, Any]] | None = None,
) -> None: ...
def sync_folder(path: bytes) -> None: ...
