"""Parameter: an array that training changes, kept in the layout that kernels read."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn.graph import FLOATS, Graph, Tensor, TensorMethods

# Counts changes that can make a plan stale: storages moved, gradients frozen, modules edited.
_versions = itertools.count(1)
structure_version = 0


def structure_changed() -> None:
    global structure_version
    structure_version = next(_versions)


class Parameter(TensorMethods):
    """An array with a gradient.

    Parameters
    ----------
    data : array
        Initial values, float32 or float64, in PyTorch's shape; copied. Buffers, which are not
        trained, may also be int64: they count.
    requires_grad : bool
        False: plans skip its gradient and its update.
    order : sequence of int, optional
        The order of its dimensions in memory: a Linear's weight of shape (out, in) has (1, 0), since
        kernels read it as (in, out). What users see always has PyTorch's shape.
    """

    __slots__ = ("__weakref__", "_grad_storage", "_order", "_requires_grad", "_storage")

    def __init__(self, data: Any, requires_grad: bool = True, order: Sequence[int] | None = None) -> None:
        array = np.asarray(data)
        counts = array.dtype == np.int64 and not requires_grad
        if array.dtype not in FLOATS and not counts:
            raise TypeError(f"a parameter holds float32 or float64 numbers, got dtype {array.dtype}")
        self._order = tuple(order) if order is not None else tuple(range(array.ndim))
        self._storage = np.array(array.transpose(self._order), order="C")
        self._grad_storage: np.ndarray[Any, Any] | None = None
        self._requires_grad = bool(requires_grad)
        structure_changed()

    def _view(self, storage: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return storage.transpose(np.argsort(self._order)) if storage.ndim > 1 else storage

    def _freeze(self) -> None:
        """Make the values read-only for good: programs compute what depends on them alone once."""
        self._storage.flags.writeable = False
        self._grad_storage = None
        self._requires_grad = False
        structure_changed()

    def _check_not_frozen(self) -> None:
        if not self._storage.flags.writeable:
            raise ValueError("the parameters of a frozen module are read-only and cannot be trained")

    def _move(self, storage: np.ndarray[Any, Any], grad: np.ndarray[Any, Any]) -> None:
        """Continue in other memory (an optimizer's flat arrays), with the present values."""
        self._check_not_frozen()
        storage[...] = self._storage
        if self._grad_storage is not None:
            grad[...] = self._grad_storage
        self._storage, self._grad_storage = storage, grad
        structure_changed()

    def _convert(self, dtype: np.dtype[Any]) -> None:
        """Change the dtype; gradients are dropped."""
        self._check_not_frozen()
        self._storage = self._storage.astype(dtype)
        self._grad_storage = None
        structure_changed()

    def _gradient_storage(self) -> np.ndarray[Any, Any]:
        if self._grad_storage is None:
            self._grad_storage = np.zeros_like(self._storage)
        return self._grad_storage

    def _as_tensor(self, graph: Graph) -> Tensor:
        from fastnn.ops.shape import transpose

        return transpose(graph.memory(self._storage), tuple(int(i) for i in np.argsort(self._order)))

    @property
    def data(self) -> np.ndarray[Any, Any]:
        """The values: a view that can be written to. Assigning copies into it."""
        return self._view(self._storage)

    @data.setter
    def data(self, value: Any) -> None:
        self._check_not_frozen()
        array = np.asarray(value)
        if array.shape != self.shape:
            raise ValueError(f"data has shape {array.shape}; the parameter has {self.shape}")
        if array.dtype.kind not in "fiu":
            raise TypeError(f"data has dtype {array.dtype}; the parameter has {self.dtype}")
        self.data[...] = array

    @property
    def grad(self) -> np.ndarray[Any, Any] | None:
        """The gradient of the last backward pass, a view, or None before the first."""
        return None if self._grad_storage is None else self._view(self._grad_storage)

    @grad.setter
    def grad(self, value: Any) -> None:
        if value is None:
            if self._grad_storage is not None:
                self._grad_storage[...] = 0
            return
        array = np.asarray(value)
        if array.shape != self.shape:
            raise ValueError(f"grad has shape {array.shape}; the parameter has {self.shape}")
        self._view(self._gradient_storage())[...] = array

    @property
    def requires_grad(self) -> bool:
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if bool(value) != self._requires_grad:
            self._check_not_frozen()
            self._requires_grad = bool(value)
            structure_changed()

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._storage.dtype

    @property
    def ndim(self) -> int:
        return self._storage.ndim

    @property
    def size(self) -> int:
        return self._storage.size

    def numel(self) -> int:
        return self._storage.size

    def numpy(self) -> np.ndarray[Any, Any]:
        """The values, as `data`."""
        return self.data

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        if copy is False and dtype is not None and np.dtype(dtype) != self.dtype:
            raise ValueError("a copy is needed to change the dtype")
        return np.array(self.data, dtype=dtype) if copy or dtype is not None else self.data

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        frozen = "" if self._requires_grad else ", requires_grad=False"
        return f"Parameter(shape={self.shape}, dtype={self.dtype}{frozen})"
