"""Rows for labels."""

from __future__ import annotations

from typing import Any

from fastnn import _check
from fastnn.graph import as_tensor
from fastnn.nn._eager import eager
from fastnn.ops import index
from fastnn.ops.elementwise import equal, where


@eager("input", "weight")
def embedding(input: Any, weight: Any, padding_idx: int | None = None, *, sparse: bool = False) -> Any:
    """The rows of weight that labels name.

    Parameters
    ----------
    input : (...) of int64
        Labels, 0 ... rows - 1.
    weight : (rows, features)
    padding_idx : int, optional
        A label whose row gets no gradient; a negative one counts from the end.
    sparse : bool, default False
        See nn.Embedding.

    Returns
    -------
    (..., features)

    Examples
    --------
    >>> F.embedding(np.array([1, 0, 1]), np.array([[0.0, 1.0], [2.0, 3.0]]))
    array([[2., 3.],
           [0., 1.],
           [2., 3.]])
    """
    table = as_tensor(weight)
    if table.ndim != 2:
        raise ValueError(f"embedding: weight has shape {tuple(table.shape)}; expected (rows, features)")
    chosen = index.labels("embedding", input, int(table.shape[0]))
    rows = index.rows_of(table, chosen, _check.flag("sparse", sparse))
    if padding_idx is None:
        return rows
    padded = equal(chosen, padding_row(padding_idx, int(table.shape[0]))).unsqueeze(-1)
    return where(padded, rows.detach(), rows)


def padding_row(padding_idx: int, rows: int) -> int:
    """The row that a padding index names."""
    row = _check.integer("padding_idx", padding_idx)
    if not -rows <= row < rows:
        raise ValueError(f"padding_idx must lie in {-rows} ... {rows - 1}, got {row}")
    return row % rows


@eager("input")
def one_hot(input: Any, num_classes: int) -> Any:
    """A row of zeros with a one at its place for each label, as a mask: float32, or the dtype it is combined with.

    Parameters
    ----------
    input : (...) of int64
        Labels, 0 ... num_classes - 1.
    num_classes : int

    Returns
    -------
    (..., num_classes)

    Examples
    --------
    >>> F.one_hot(np.array([2, 0]), 3)
    array([[0., 0., 1.],
           [1., 0., 0.]], dtype=float32)
    """
    return index.one_hot(input, _check.size("num_classes", num_classes, 1))
