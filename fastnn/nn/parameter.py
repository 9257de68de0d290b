"""Parameter: an array that training changes, kept in the layout that kernels read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fastnn import _check
from fastnn._check import FLOATS
from fastnn.graph import Graph, Tensor, TensorMethods, TraceError, active_graph, is_tracing
from fastnn.lowering.watch import Walk
from fastnn_ext.atomic import assign, commit
from fastnn_ext.plan import Marked
from fastnn_ext.watch import changed


class Parameter(TensorMethods, Marked):
    """An array with a gradient.

    Parameters
    ----------
    data : array
        Initial values, float32 or float64, in PyTorch's shape; copied. Buffers, which are not
        trained, may also be int64: they count. Python's floats, and lists of them, become float32.
    requires_grad : bool
        False: plans skip its gradient and its update.
    order : sequence of int, optional
        The order of its dimensions in memory: a Linear's weight of shape (out, in) has (1, 0), since
        kernels read it as (in, out). What users see always has PyTorch's shape.
    """

    __slots__ = ("__weakref__", "_grad_storage", "_order", "_requires_grad", "_storage")

    def __init__(self, data: Any, requires_grad: bool = True, order: Sequence[int] | None = None) -> None:
        array = np.asarray(_check.readable("data", data))
        if array.dtype == np.float64 and isinstance(data, (float, list, tuple)) and not isinstance(data, np.generic):
            array = array.astype(np.float32)
        counts = array.dtype == np.int64 and not requires_grad
        if array.dtype not in FLOATS and not counts:
            hint = "; convert it with .astype(np.float32)" if array.dtype.kind in "biuf" else ""
            raise TypeError(f"data: a parameter holds float32 or float64 numbers, got dtype {array.dtype}{hint}")
        self._order = tuple(order) if order is not None else tuple(range(array.ndim))
        self._storage = np.array(array.transpose(self._order), order="C")
        #: The gradient, of the storage's layout; whatever a run has left there while _has_grad is False.
        self._grad_storage: np.ndarray[Any, Any] | None = None
        self._has_grad = False
        self._requires_grad = bool(requires_grad)

    def _view(self, storage: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return storage.transpose(self._shown) if storage.ndim > 1 else storage

    @property
    def _shown(self) -> tuple[int, ...]:
        """The order of the storage's dimensions in what users see."""
        return tuple(sorted(range(len(self._order)), key=self._order.__getitem__))

    def _freeze(self) -> None:
        """Make the values read-only for good: programs compute what depends on them alone once."""
        self._storage.flags.writeable = False
        self._grad_storage = None
        self._has_grad = self._requires_grad = False
        changed()

    def _check_not_frozen(self) -> None:
        if not self._storage.flags.writeable:
            raise ValueError(
                "the parameters of a frozen module are read-only and cannot be trained; train the module that it is a "
                "copy of"
            )

    def _move(self, storage: np.ndarray[Any, Any], grad: np.ndarray[Any, Any]) -> None:
        """Continue in other memory (an optimizer's flat arrays), with the present values."""
        self._check_not_frozen()
        storage[...] = self._storage
        if self._has_grad and self._grad_storage is not None:
            grad[...] = self._grad_storage
        commit([], [], [(self, "_storage", storage), (self, "_grad_storage", grad)])

    def _converted(self, dtype: np.dtype[Any]) -> list[tuple[Any, str, Any]]:
        """What `commit` assigns to change the dtype, in memory of its own."""
        self._check_not_frozen()
        grad = self._grad_storage.astype(dtype) if self._has_grad and self._grad_storage is not None else None
        return [(self, "_storage", self._storage.astype(dtype)), (self, "_grad_storage", grad)]

    def _gradient_storage(self) -> np.ndarray[Any, Any]:
        if self._grad_storage is None:
            self._grad_storage = np.zeros_like(self._storage)
            changed()
        return self._grad_storage

    def _as_tensor(self, graph: Graph) -> Tensor:
        return graph.memory(self._storage, self).permute(*self._shown)

    def __fastnn_watch__(self, walk: Walk) -> None:
        walk.attribute(self, "_storage", loud=True)
        walk.attribute(self, "_requires_grad", loud=True)

    # A copy has memory of its own, wherever the original lies (in an optimizer's flat arrays, say).

    def __getstate__(self) -> dict[str, Any]:
        return {
            "storage": self._storage.copy(),
            "grad": self._grad_storage.copy() if self._has_grad and self._grad_storage is not None else None,
            "order": self._order,
            "requires_grad": self._requires_grad,
            "frozen": not self._storage.flags.writeable,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Protocol 5 of pickle gives arrays that lie in another object's memory, perhaps read-only.
        storage, grad = state["storage"], state["grad"]
        self._storage = np.require(storage, requirements=["O", "W"])
        self._grad_storage = None if grad is None else np.require(grad, requirements=["O", "W"])
        self._has_grad = grad is not None
        self._order, self._requires_grad = state["order"], state["requires_grad"]
        self._storage.flags.writeable = not state["frozen"]

    @property
    def data(self) -> np.ndarray[Any, Any]:
        """The values: a view that can be written to. Assigning copies into it."""
        if is_tracing():
            active_graph().exposed.append(self)
        return self._view(self._storage)

    @data.setter
    def data(self, value: Any) -> None:
        self._check_not_frozen()
        array = np.asarray(_check.readable("data", value))
        if array.shape != self.shape:
            raise ValueError(f"data has shape {array.shape}; expected {self.shape}, the parameter's")
        if array.dtype.kind not in "fiu":
            raise TypeError(f"data has dtype {array.dtype}; expected {self.dtype}, the parameter's")
        self._view(self._storage)[...] = array

    @property
    def grad(self) -> np.ndarray[Any, Any] | None:
        """The gradient, a view; None if there is none since it was last set to None.

        A backward pass that does not reach the parameter leaves it without one, and an optimizer leaves a
        parameter without a gradient alone.
        """
        if is_tracing():
            raise TraceError("a gradient cannot be read in forward: it is another one in each run of the program")
        if not self._has_grad or self._grad_storage is None:
            return None
        return self._view(self._grad_storage)

    @grad.setter
    def grad(self, value: Any) -> None:
        if value is None:
            assign([], [], marks((), (self,)))
            return
        array = np.asarray(_check.readable("grad", value))
        if array.shape != self.shape:
            raise ValueError(f"grad has shape {array.shape}; expected {self.shape}, the parameter's")
        target = self._view(self._gradient_storage())
        assign([(target, array.astype(target.dtype))], [], marks((self,)))

    @property
    def requires_grad(self) -> bool:
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if changes := self._trained(bool(value)):
            commit([], [], changes)

    def _trained(self, requires_grad: bool) -> list[tuple[Any, str, Any]]:
        """What `commit` assigns to train it or not."""
        if requires_grad == self._requires_grad:
            return []
        self._check_not_frozen()
        return [(self, "_requires_grad", requires_grad)]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self._view(self._storage).shape)

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

    def item(self) -> float:
        """The value of a parameter of one element."""
        return self.data.item()  # type: ignore[no-any-return]

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        if copy is False and dtype is not None and np.dtype(dtype) != self.dtype:
            raise ValueError(f"copy=False: the parameter is {self.dtype}, and a copy is needed to make it {dtype}")
        return np.array(self.data, dtype=dtype) if copy or dtype is not None else self.data

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **settings: Any) -> Tensor:
        if not is_tracing():
            raise TypeError(f"np.{ufunc.__name__} is called with a Parameter; give its array, parameter.data")
        return super().__array_ufunc__(ufunc, method, *inputs, **settings)

    def _on_values(self, *_: Any) -> Any:
        raise TypeError(
            "a Parameter is neither compared nor assigned to in part; its array is, as in parameter.data >= 0 and "
            "parameter.data[0] = 1"
        )

    def __lt__(self, other: Any) -> Tensor:
        return super().__lt__(other) if is_tracing() else self._on_values()

    def __le__(self, other: Any) -> Tensor:
        return super().__le__(other) if is_tracing() else self._on_values()

    def __gt__(self, other: Any) -> Tensor:
        return super().__gt__(other) if is_tracing() else self._on_values()

    def __ge__(self, other: Any) -> Tensor:
        return super().__ge__(other) if is_tracing() else self._on_values()

    def __eq__(self, other: object) -> Any:
        """Between parameters it is identity: collections of them are searched. Values are compared in a trace."""
        return super().__eq__(other) if is_tracing() and not isinstance(other, Parameter) else self is other

    def __ne__(self, other: object) -> Any:
        return super().__ne__(other) if is_tracing() and not isinstance(other, Parameter) else self is not other

    __hash__ = object.__hash__
    __setitem__ = _on_values

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        frozen = "" if self._requires_grad else ", requires_grad=False"
        return f"Parameter(shape={self.shape}, dtype={self.dtype}{frozen})"


def zero_grads(parameters: Iterable[Parameter], set_to_none: bool) -> None:
    """Leave parameters without a gradient, or let those that there are be 0."""
    if _check.flag("set_to_none", set_to_none):
        assign([], [], marks((), parameters))
    else:
        arrays = [p._gradient_storage() for p in parameters if p._has_grad]
        assign([(array, np.zeros_like(array)) for array in arrays], [], [])


def marks(present: Iterable[Parameter], absent: Iterable[Parameter] = ()) -> list[tuple[Any, str, Any]]:
    """What `assign` does to say which parameters have a gradient now, and which have none."""
    return [*((p, "_has_grad", True) for p in present), *((p, "_has_grad", False) for p in absent)]
