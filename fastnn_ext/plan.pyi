from collections.abc import Sequence
from typing import Any

import numpy as np

DTYPES: tuple[str, ...]

class NotFiniteError(FloatingPointError): ...

class Spec:
    name: str
    dtype: int
    ndim: int
    limit: int
    ignore: int
    def describe(self) -> str: ...

class Plan:
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
        shared: Plan | None = None,
        once: int = 0,
    ) -> None: ...
    def run(self, *args: Any) -> tuple[Any, ...]: ...
    def try_run(self, *args: Any) -> tuple[Any, ...] | None: ...
    def start_profile(self, events: int = 0) -> None: ...
    def profile_events(self) -> np.ndarray[Any, Any]: ...
    def stop_profile(self) -> np.ndarray[Any, Any]: ...
    def phases(self, batch: int) -> list[tuple[int, int, int, bool, float]]: ...
