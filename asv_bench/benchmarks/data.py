"""Doors for data: an epoch of batches of 64 of 20 000 rows of 784 numbers, next to those of an array."""

from __future__ import annotations

import functools

import numpy as np

from fastnn.data import ArrayDataset, DataLoader

ROWS, COLUMNS = 20_000, 784


@functools.cache
def table() -> np.ndarray:
    """A fifth of it is not 0, as of MNIST."""
    draw = np.random.default_rng(0)
    values = draw.standard_normal((ROWS, COLUMNS), dtype=np.float32)
    return np.where(draw.random((ROWS, COLUMNS), dtype=np.float32) < 0.2, values, np.float32(0))


def pandas_frame() -> object:
    import pandas

    return pandas.DataFrame(table())


def mixed_frame() -> object:
    import pandas

    frame = pandas.DataFrame(table())
    return frame.astype(dict.fromkeys(range(0, COLUMNS, 2), np.float64))


def polars_frame() -> object:
    import polars

    return polars.DataFrame(table())


def sparse_matrix() -> object:
    from scipy.sparse import csr_array

    return csr_array(table())


DOORS = {
    "array": table,
    "pandas": pandas_frame,
    "pandas, two dtypes": mixed_frame,
    "polars": polars_frame,
    "sparse": sparse_matrix,
}


class Door:
    params = list(DOORS)
    param_names = ["data"]
    timeout = 300

    def setup(self, name):
        try:
            dataset = ArrayDataset(DOORS[name](), np.zeros(ROWS, np.int64))
        except (ImportError, TypeError) as error:
            raise NotImplementedError(str(error)) from None
        self.loader = DataLoader(dataset, 64, shuffle=True, seed=0, prefetch=0)

    def time_epoch(self, name):
        for _ in self.loader:
            pass
