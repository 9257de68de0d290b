"""What a batch becomes before a model reads it: the rule of `fastnn.data.dtypes`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from fastnn._check import FLOATS
from fastnn.data.columns import as_column
from fastnn.data.dtypes import as_labels, as_numbers
from fastnn.graph import IntegersError
from fastnn.nn.module import Module
from fastnn.train.batches import Batch

Result = TypeVar("Result")
_TARGET = -1
_LABELS = np.dtype(np.int64)


class Intake:
    """Batches as a model takes them: numbers in its dtype, and integers as int64 where it reads them as labels.

    Which integers are numbers a trace says, by refusing them.

    Parameters
    ----------
    model : Module
    name : str
        What messages call the data.
    """

    def __init__(self, model: Module, name: str) -> None:
        self.name = name
        self._computed: set[Any] = set()  # of integers: by place or name
        self._first = next((p for p in model.parameters() if p.dtype in FLOATS), None)  # its dtype is the model's

    def run(self, batch: Batch, call: Callable[[Batch], Result]) -> Result:
        """What `call` returns of the batch so converted; a trace that refuses it has run nothing."""
        dtype = None if self._first is None else self._first.dtype
        while True:
            try:
                return call(batch if self._fits(batch, dtype) else self._converted(batch, dtype))
            except IntegersError as error:
                keys = _keys(batch)
                found = {keys[i] for i in error.inputs if i < len(keys)} - self._computed
                if not found:
                    raise
                self._computed |= found

    def _fits(self, batch: Batch, dtype: np.dtype[Any] | None) -> bool:
        """Whether all is as the model takes it: most batches are, and the check takes half a microsecond."""
        if self._computed or batch.keywords:
            return False
        arrays = batch.inputs if batch.target is None else (*batch.inputs, batch.target)
        return all(type(a) is np.ndarray and (a.dtype == dtype or a.dtype == _LABELS) for a in arrays)

    def _converted(self, batch: Batch, dtype: np.dtype[Any] | None) -> Batch:
        def of(key: Any, value: Any, name: str) -> Any:
            array = value if isinstance(value, np.ndarray) else as_column(value, name)[:]
            if array.dtype.kind in "iub" and key not in self._computed:
                return as_labels(array, name)
            kept = np.dtype(np.float64 if array.dtype == np.float64 else np.float32)
            return as_numbers(array, kept if dtype is None else dtype, name)

        one = len(batch.inputs) == 1 and batch.target is None and not batch.keywords
        inputs = [of(i, value, self.name if one else f"{self.name}[{i}]") for i, value in enumerate(batch.inputs)]
        keywords = {key: of(key, value, f"{self.name}[{key!r}]") for key, value in batch.keywords.items()}
        target = None if batch.target is None else of(_TARGET, batch.target, f"{self.name}: the target")
        return batch._replace(inputs=tuple(inputs), keywords=keywords, target=target)


def _keys(batch: Batch) -> list[Any]:
    """The arrays of a batch as a trace numbers them: in order, the target, by name."""
    named = [*batch.keywords, *(["sample_weight"] if batch.weight is not None else [])]
    return [*range(len(batch.inputs)), *([] if batch.target is None else [_TARGET]), *sorted(named)]
