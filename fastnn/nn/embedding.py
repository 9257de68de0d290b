"""Embedding."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn import _check
from fastnn.nn import functional as F
from fastnn.nn import init
from fastnn.nn.functional.embedding import padding_row
from fastnn.nn.module import Module
from fastnn.nn.parameter import Parameter


class Embedding(Module):
    """A row of features for each label.

    Parameters
    ----------
    num_embeddings : int
        How many labels there are: 0 ... num_embeddings - 1.
    embedding_dim : int
    padding_idx : int, optional
        A label whose row starts as 0 and gets no gradient; a negative one counts from the end.
    sparse : bool, default False
        Let a `TrainStep` visit the rows that the batch names alone: where SGD has no momentum, decay or penalty, nor
        clips by norm, the others stay as they are, to the bit. The weight has no `grad` then. Other optimizers, and
        a weight that the loss reaches on another way too, take the whole gradient.
    dtype : float32 or float64, default float32

    Attributes
    ----------
    weight : Parameter (num_embeddings, embedding_dim)
        Starts normal, of mean 0 and deviation 1.

    Examples
    --------
    >>> nn.Embedding(10, 3)(np.array([[1, 2], [4, 1]])).shape
    (2, 2, 3)

    Of a large table a step visits the rows that the batch names:

    >>> words = nn.Embedding(1000, 3, sparse=True)
    >>> step = fn.TrainStep(words, nn.MSELoss(), optim.SGD(words.parameters(), lr=0.1))
    >>> labels, target = np.array([7, 3, 7]), np.zeros((3, 3), np.float32)
    >>> step(labels, target) > step(labels, target), words.weight.grad is None
    (True, True)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        sparse: bool = False,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.num_embeddings = _check.size("num_embeddings", num_embeddings, 1)
        self.embedding_dim = _check.size("embedding_dim", embedding_dim, 1)
        self.padding_idx = None if padding_idx is None else padding_row(padding_idx, self.num_embeddings)
        self.sparse = _check.flag("sparse", sparse)
        shape = (self.num_embeddings, self.embedding_dim)
        self.weight = Parameter(np.zeros(shape, _check.floating("dtype", dtype)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the rows anew."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            self.weight.data[self.padding_idx] = 0

    def forward(self, input: Any) -> Any:
        return F.embedding(input, self.weight, self.padding_idx, sparse=self.sparse)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        sparse = ", sparse=True" if self.sparse else ""
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}{sparse}"
