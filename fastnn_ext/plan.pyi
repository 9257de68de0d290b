from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastnn_ext.watch import Watch

DTYPES: tuple[str, ...]

class Marked:
    _has_grad: bool

class NotFiniteError(FloatingPointError): ...

class Spec:
    name: str
    dtype: int
    ndim: int
    limit: int
    ignore: int
    def describe(self) -> str: ...

class Arena:
    nbytes: int

class Receipt:
    runs: int
    def __init__(self, runs: int = 0) -> None: ...
    def result(self) -> Any: ...

class Plan:
    arena: Arena
    batches: set[int]
    inputs: tuple[Spec, ...]
    outputs: tuple[Spec, ...]
    max_batch: int
    arena_bytes: int
    kernels: tuple[str, ...]
    def __init__(
        self,
        ops: Sequence[tuple[Any, ...]],
        phases: Sequence[tuple[int, int]],
        commit: int,
        arena_bytes: int,
        fixed: Sequence[Any],
        inputs: Sequence[tuple[Any, ...]],
        outputs: Sequence[tuple[Any, ...]],
        max_batch: int,
        arena: Arena | None = None,
        after: Plan | None = None,
        constant: int = 0,
        copies: tuple[tuple[Any, Any], ...] = (),
        batches: set[int] | None = None,
        marks: tuple[tuple[Marked, bool], ...] = (),
    ) -> None: ...
    def run(self, *args: Any) -> tuple[Any, ...]: ...
    def try_run(self, *args: Any) -> tuple[Any, ...] | None: ...
    def leave_in(self, receipt: Receipt, rebuild: Callable[[Any], Any] | None = None) -> None: ...
    def start_profile(self, events: int = 0) -> None: ...
    def profile_events(self) -> np.ndarray[Any, Any]: ...
    def stop_profile(self) -> np.ndarray[Any, Any]: ...
    def phases(self, batch: int) -> list[tuple[int, int, int, bool, float]]: ...

class Route:
    def __init__(
        self,
        watch: Watch,
        plan: Plan,
        batches: set[int],
        rebuild: Callable[[Any], Any] | None = None,
        names: tuple[str, ...] = (),
    ) -> None: ...
    def take(self, args: tuple[Any, ...]) -> Any: ...

class Repeated:
    latest: Route | None
    latest_named: Route | None
    def __call__(self, args: tuple[Any, ...], keywords: dict[str, Any] | None = None) -> Any: ...
