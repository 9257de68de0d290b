"""load_mocha: the parameters of a network of Mocha.jl's, as HDF5, into a module that is there."""

from __future__ import annotations

import os
from typing import Any, TypeVar

import numpy as np

from fastnn import _check, nn
from fastnn.files import named
from fastnn.interop.hdf5 import Damage, Hdf5
from fastnn.interop.network import refusal

Model = TypeVar("Model", bound=nn.Module)

#: Mocha's names of parameters.
_NAMES = {"weight": "weight", "filter": "weight", "bias": "bias"}


def load_mocha(path: str | os.PathLike[str], model: Model) -> Model:
    """Read parameters that Mocha.jl keeps as HDF5 into a model whose layers have the same names.

    Parameters are datasets ``layer___weight`` or
    ``layer___filter``, and ``layer___bias``. Julia counts axes from the other end: its weight of (in, out) and filter
    of (width, height, in, out) are (out, in) and (out, in, height, width) in the file. A bias that is not there is 0,
    as in Mocha.

    Parameters
    ----------
    path : path-like
    model : Module
        ``layer___weight`` becomes ``layer.weight``.

    Returns
    -------
    Module
        The model.

    Raises
    ------
    OSError
        If there is no such file.
    ValueError
        If it is damaged, or does not fit the model, which is then as before.

    Examples
    --------
    >>> import h5py
    >>> with h5py.File("mocha.hdf5", "w") as file:
    ...     file["ip1___weight"], file["ip1___bias"] = np.ones((2, 3)), np.zeros((1, 2))
    >>> model = nn.Sequential({"ip1": nn.Linear(3, 2)})
    >>> fn.interop.load_mocha("mocha.hdf5", model)(np.ones((1, 3), np.float32))
    array([[3., 3.]], dtype=float32)
    """
    name = _check.path("path", path)
    _check.instance("model", model, nn.Module)
    own = {key: value.shape for key, value in (*model.named_parameters(), *model.named_buffers())}
    with named(name), open(name, "rb") as file:
        data = file.read()
    try:
        state, problems = _read(Hdf5(data), own)
    except Damage as damage:
        raise ValueError(f"{name} is no HDF5 file that is read: {damage}") from None
    if not state and not problems:
        raise ValueError(f"{name}: it holds no datasets layer___weight, layer___filter or layer___bias")
    missing = [key for key in own if key not in state and not key.endswith("bias")]
    problems += [f"{key} is missing" for key in missing]
    if problems:
        raise refusal(f"{name} does not fit {type(model).__name__}", problems)
    zeros = {key: np.zeros(shape, np.float32) for key, shape in own.items() if key not in state}
    model.load_state_dict({**state, **zeros}, strict=False)
    return model


def _read(file: Hdf5, own: dict[str, tuple[int, ...]]) -> tuple[dict[str, np.ndarray[Any, Any]], list[str]]:
    """Arrays for the model's parameters, of which `own` are the shapes, and what does not fit."""
    state: dict[str, np.ndarray[Any, Any]] = {}
    problems: list[str] = []
    for key in file.names(""):
        layer, mark, slot = key.rpartition("___")
        if not mark:
            continue
        target = f"{layer}.{_NAMES.get(slot)}"
        if target not in own:
            problems.append(f"{_check.brief(key, str)} has no counterpart")
            continue
        try:
            stored = file.array(key)
            if _sizes(stored.shape) != _sizes(own[target]):
                found = _check.brief(stored.shape)
                raise Damage(f"{_check.brief(key, str)} has shape {found}; expected {own[target]} for {target}")
            state[target] = stored.read().reshape(own[target])
        except Damage as damage:
            problems.append(str(damage))
    return state, problems


def _sizes(shape: tuple[int, ...]) -> list[int]:
    """Those that count: Mocha's arrays may have more of 1."""
    return [size for size in shape if size != 1]
