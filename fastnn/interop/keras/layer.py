"""Layer: what all layers of Keras files have in common here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np

from fastnn import _check
from fastnn.interop.hdf5 import Stored
from fastnn.interop.keras.config import Settings
from fastnn.nn import Module, Parameter

#: A layer's classes by their names in Keras.
LAYERS: dict[str, type[Layer]] = {}

L = TypeVar("L", bound="type[Layer]")


def register(*names: str) -> Callable[[L], L]:
    """Have files know a class by these names."""

    def decorate(layer: L) -> L:
        LAYERS.update(dict.fromkeys(names, layer))
        return layer

    return decorate


class Arrays:
    """A layer's arrays by Keras's names, not yet read."""

    def __init__(self, settings: Settings, stored: Mapping[str, Stored], dtype: np.dtype[Any]) -> None:
        self._settings, self._stored, self.dtype = settings, stored, dtype

    def read(self, name: str, *shape: int | None) -> np.ndarray[Any, Any]:
        """An array of a shape, of which None is any size; ValueError for another one."""
        stored = self._stored[name]
        fits = len(stored.shape) == len(shape) and all(
            want in (None, size) for want, size in zip(shape, stored.shape, strict=True)
        )
        if not fits:
            wanted = ", ".join("any" if size is None else str(size) for size in shape)
            raise self._settings.wrong(f"{name} has shape {_check.brief(stored.shape)}; expected ({wanted})")
        return self.all(name)

    def all(self, name: str) -> np.ndarray[Any, Any]:
        """An array of any shape."""
        return self._stored[name].read().astype(self.dtype, copy=False)

    def shape(self, name: str) -> tuple[int, ...]:
        """Of an array, before it is read."""
        return self._stored[name].shape

    def parameter(self, array: np.ndarray[Any, Any], order: Sequence[int] | None = None) -> Parameter:
        """A Parameter of these values, which is trained if the layer is."""
        return Parameter(array, self._settings.trainable, order)


class Layer(Module):
    """A layer as a Keras file describes it: called with tensors whose layout is the file's.

    Parameters
    ----------
    s : Settings
    arrays : Arrays
    """

    #: Whether it takes a list of tensors.
    merges: ClassVar[bool] = False

    def __init__(self, s: Settings, arrays: Arrays) -> None:
        super().__init__()
        self._shown = ""

    @classmethod
    def variables(cls, s: Settings) -> tuple[list[str], list[str]]:
        """Keras's names of the arrays that are trained, and of the others, in the order of its files."""
        return [], []

    def trains(self, training: bool | None) -> bool:
        """Whether this call is one of training: as the file says of it, or by the mode that the layer is in."""
        return self.training if training is None else training

    def forward(self, input: Any, training: bool | None = None) -> Any:
        """Compute the output from tensors."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        return self._shown


def to_channels_first(x: Any, last: bool) -> Any:
    """x with its channels behind the batch, if they are last."""
    return x.permute(0, x.ndim - 1, *range(1, x.ndim - 1)) if last and x.ndim > 2 else x


def from_channels_first(x: Any, last: bool) -> Any:
    """The opposite."""
    return x.permute(0, *range(2, x.ndim), 1) if last and x.ndim > 2 else x
