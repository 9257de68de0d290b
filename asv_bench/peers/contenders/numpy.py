"""NumPy, and the OpenBLAS in it: matrix products."""

from __future__ import annotations

from collections.abc import Callable

from asv_bench.peers.rows import Gemm, Row

NAMES = ("openblas",)
REQUIRES = ("numpy",)


def offers(name: str, row: Row) -> bool:
    return row.kind == "gemm"


def make(name: str, row: Row, threads: int) -> Callable[[], object]:
    import numpy as np

    work = row.work
    assert isinstance(work, Gemm)
    rng = np.random.default_rng(0)
    a = rng.standard_normal((work.k, work.m) if work.ta else (work.m, work.k), dtype=np.float32)
    b = rng.standard_normal((work.n, work.k) if work.tb else (work.k, work.n), dtype=np.float32)
    left, right = a.T if work.ta else a, b.T if work.tb else b
    result = np.zeros((work.m, work.n), np.float32)
    return lambda: np.matmul(left, right, out=result)
