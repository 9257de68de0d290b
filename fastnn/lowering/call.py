"""What enters and leaves a call: argument arrays, and structures of outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fastnn import _check
from fastnn.graph import Tensor, as_tensor


def to_array(value: Any, name: str) -> np.ndarray[Any, Any]:
    """An argument as a C-contiguous native array: float32, float64, or int64 for integers.

    Arrays that already are pass through; other layouts and byte orders are copied. Lists of numbers
    become float32 (int64 if all are integers).

    Raises
    ------
    TypeError
        For dtypes that plans do not hold (float16, bool, object, ...), and masked arrays: nothing is cast or
        dropped silently.
    """
    _check.readable(name, value)
    if not isinstance(value, np.ndarray):
        if isinstance(value, Tensor):
            raise TypeError(f"{name} is a traced tensor; arrays are expected outside a trace")
        if hasattr(value, "__dlpack__"):
            try:
                value = np.from_dlpack(value)
            except (BufferError, RuntimeError) as error:  # bfloat16, or on another device
                kind = getattr(value, "dtype", type(value).__name__)
                raise TypeError(f"{name} of dtype {kind} cannot be read as an array: {error}") from None
        elif isinstance(value, (list, tuple, int, float)) and not isinstance(value, bool):
            value = _from_sequence(value, name)
        else:
            given, value = value, np.asarray(value)
            if value.dtype.kind in "OUS" and not value.ndim:  # not an array at all
                raise TypeError(f"{name} must be an array of float32 or float64, got {_check.kind_of(given)}")
    dtype = value.dtype
    if dtype.kind in "iu" and dtype.itemsize <= 8:
        if dtype == np.uint64 and value.size and int(value.max()) > np.iinfo(np.int64).max:
            raise ValueError(f"{name} holds {int(value.max())}, which does not fit int64")
        return _aligned(np.ascontiguousarray(value, np.int64).reshape(value.shape))
    if dtype.kind != "f" or dtype.itemsize not in (4, 8):
        hint = "; convert it with .astype(np.float32)" if "float" in dtype.name or dtype.kind in "bO" else ""
        raise TypeError(f"{name} has dtype {dtype}; expected float32 or float64 (or integers for labels){hint}")
    return _aligned(np.ascontiguousarray(value, dtype.newbyteorder("=")).reshape(value.shape))


def _from_sequence(value: Any, name: str) -> np.ndarray[Any, Any]:
    """Python's numbers as an array of float32, or of integers."""
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} is a {type(value).__name__} of unequal parts, which is no array: {error}") from None
    return array.astype(np.float32) if array.dtype == np.float64 else array


def _aligned(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return array if array.ctypes.data % array.itemsize == 0 else array.copy()


def tensors_in(result: Any) -> Iterator[Tensor]:
    """The tensors in a tensor, tuple, list or dict, and in what these hold."""
    if isinstance(result, Tensor):
        yield result
    elif isinstance(result, dict):
        yield from tensors_in(list(result.values()))
    elif isinstance(result, (tuple, list)):
        for part in result:
            yield from tensors_in(part)


def flatten_result(result: Any, what: str) -> tuple[list[Tensor], Callable[[Sequence[Any]], Any]]:
    """The tensors in a returned tensor, tuple, list or dict, and how to put values in their places."""
    if isinstance(result, Tensor):
        return [result], only
    if hasattr(result, "_as_tensor") or isinstance(result, (int, float, np.ndarray)):
        return [as_tensor(result)], only
    if isinstance(result, dict):
        parts = [flatten_result(v, what) for v in result.values()]
        keys = list(result)
        return _merge(parts, lambda values: dict(zip(keys, values, strict=True)))
    if isinstance(result, (tuple, list)):
        kind = type(result)
        make = kind if kind in (tuple, list) else lambda values: kind(*values)
        return _merge([flatten_result(v, what) for v in result], make)
    hint = "; is a `return` missing?" if result is None else ""
    raise TypeError(
        f"{what} returned {type(result).__name__}; expected a tensor, or a tuple, list or dict of tensors{hint}"
    )


def only(values: Sequence[Any]) -> Any:
    """The one value of a result that is a single tensor."""
    return values[0]


def _merge(
    parts: list[tuple[list[Tensor], Callable[[Sequence[Any]], Any]]], make: Callable[[list[Any]], Any]
) -> tuple[list[Tensor], Callable[[Sequence[Any]], Any]]:
    tensors = [t for part, _ in parts for t in part]

    def rebuild(values: Sequence[Any]) -> Any:
        result, at = [], 0
        for part, inner in parts:
            result.append(inner(values[at : at + len(part)]))
            at += len(part)
        return make(result)

    return tensors, rebuild


class Keywords:
    """A function of arrays of which some are given by name, beside settings. Equal to another one that takes the same.

    Parameters
    ----------
    function : callable
    positional : sequence of str
        What messages call the arrays that are given in order.
    keywords : mapping of str to object
        Arrays, which become arguments behind those in order; None, bools, numbers and text are settings.
    """

    def __init__(self, function: Callable[..., Any], positional: Sequence[str], keywords: Mapping[str, Any]) -> None:
        self.function = function
        self.settings = {k: v for k, v in keywords.items() if v is None or isinstance(v, (bool, int, float, str))}
        self.keywords = sorted(k for k in keywords if k not in self.settings)
        self.names = [*positional, *self.keywords]
        settings = tuple((name, type(value), repr(value)) for name, value in sorted(self.settings.items()))
        self._key = (len(positional), tuple(self.keywords), settings)

    def __call__(self, *tensors: Any) -> Any:
        at = len(tensors) - len(self.keywords)
        named = dict(zip(self.keywords, tensors[at:], strict=True))
        return self.function(*tensors[:at], **named, **self.settings)

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Keywords) and self._key == other._key
