"""load_mocha: the parameters of a network of Mocha.jl's, as HDF5, into a module that is there."""

from __future__ import annotations

import os
from typing import Any, TypeVar

import numpy as np

from fastnn import _check, nn
from fastnn.files import named
from fastnn.interop.network import refusal

Model = TypeVar("Model", bound=nn.Module)

#: Mocha's names of parameters.
_NAMES = {"weight": "weight", "filter": "weight", "bias": "bias"}


def load_mocha(path: str | os.PathLike[str], model: Model) -> Model:
    """Read parameters that Mocha.jl keeps as HDF5 into a model whose layers have the same names.

    It needs h5py: ``pip install "fastnn[interop]"``. Parameters are datasets ``layer___weight`` or
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
    ImportError
        Without h5py.
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
    try:
        import h5py
    except ImportError:
        raise ImportError('load_mocha needs h5py: pip install "fastnn[interop]"') from None
    name = _check.path("path", path)
    _check.instance("model", model, nn.Module)
    own = {key: value.shape for key, value in (*model.named_parameters(), *model.named_buffers())}
    with named(name), open(name, "rb") as file:
        try:
            with h5py.File(file, "r") as archive:
                state, problems = _read(archive, own)
        except MemoryError:
            raise
        except Exception as error:  # the library raises many kinds where bytes are wrong
            raise ValueError(f"{name} is no intact HDF5 file: {_check.brief(str(error), str)}") from None
    if not state and not problems:
        raise ValueError(f"{name}: it holds no datasets layer___weight, layer___filter or layer___bias")
    missing = [key for key in own if key not in state and not key.endswith("bias")]
    problems += [f"{key} is missing" for key in missing]
    if problems:
        raise refusal(f"{name} does not fit {type(model).__name__}", problems)
    zeros = {key: np.zeros(shape, np.float32) for key, shape in own.items() if key not in state}
    model.load_state_dict({**state, **zeros}, strict=False)
    return model


def _read(archive: Any, own: dict[str, tuple[int, ...]]) -> tuple[dict[str, np.ndarray[Any, Any]], list[str]]:
    """Arrays for the model's parameters, of which `own` are the shapes, and what does not fit."""
    import h5py

    state: dict[str, np.ndarray[Any, Any]] = {}
    problems: list[str] = []
    for key in archive:
        layer, mark, slot = key.rpartition("___")
        if not mark:
            continue
        target = f"{layer}.{_NAMES.get(slot)}"
        if target not in own:
            problems.append(f"{_check.brief(key, str)} has no counterpart")
            continue
        data = archive[key] if isinstance(archive.get(key, getlink=True), h5py.HardLink) else None
        if not isinstance(data, h5py.Dataset) or data.external or data.is_virtual or data.dtype.kind not in "fiu":
            problems.append(f"{_check.brief(key, str)} holds no numbers of its own")
        elif [size for size in data.shape or () if size != 1] != [size for size in own[target] if size != 1]:
            problems.append(f"{_check.brief(key, str)} has shape {data.shape}; expected {own[target]} for {target}")
        else:
            state[target] = data[()].reshape(own[target])
    return state, problems
