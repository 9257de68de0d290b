"""Checkpoints: all that training needs to go on with the same bits, in one safetensors file.

Tensors: ``model/NAME`` for each entry of the state_dict, ``optimizer/GROUP/NAME`` for the
optimizer's flat state, ``extra/NAME`` for what the caller adds. The metadata has one entry,
"checkpoint", which is JSON:

    version    of this layout, 1
    step       updates made
    epoch      whole epochs done
    history    dict of lists, one value an epoch
    optimizer  kind and groups (settings and step counts), or null
    random     `fastnn.get_rng_state()`
    loader     `DataLoader.state_dict()`, or null
    extra      the caller's own
    crc32      of all this and the tensors: safetensors itself notices no changed bit in a number
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastnn import _check
from fastnn.data import DataLoader
from fastnn.files import load_arrays, save_arrays
from fastnn.nn.module import Module
from fastnn.optim.optimizer import Optimizer
from fastnn.seed import get_rng_state, set_rng_state

VERSION = 1

Arrays = dict[str, np.ndarray[Any, Any]]


def save_checkpoint(
    path: str | os.PathLike[str],
    model: Module,
    optimizer: Optimizer | None = None,
    *,
    step: int = 0,
    epoch: int = 0,
    history: Mapping[str, list[Any]] | None = None,
    loader: DataLoader | Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
    arrays: Mapping[str, np.ndarray[Any, Any]] | None = None,
) -> None:
    """Write a checkpoint; whenever the process ends, `path` is the old file or the whole new one.

    Parameters
    ----------
    path : path-like
        By custom with the ending ``.safetensors``.
    model : Module
    optimizer : Optimizer, optional
    step, epoch : int, default 0
        Updates made, and whole epochs done.
    history : mapping of str to list, optional
    loader : DataLoader or its state_dict, optional
        Its position is stored, so that the epoch under way goes on with the batches it still had.
    extra : mapping, optional
        More to remember: whatever JSON holds, and NumPy's numbers, which become Python's.
    arrays : mapping of str to array, optional
        More arrays to remember.

    Raises
    ------
    TypeError
        If an argument is of another kind, or `extra` or `history` holds what JSON cannot.
    OSError
        If the file cannot be written; a file that was there stays.

    Notes
    -----
    The state of fastnn's random numbers is always stored.
    """
    position = loader.state_dict() if isinstance(loader, DataLoader) else loader
    _check_kinds(model, optimizer, None if isinstance(position, Mapping) else loader)
    tensors: Arrays = {f"model/{name}": array for name, array in model.state_dict().items()}
    settings = None
    if optimizer is not None:
        state = optimizer.state_dict()
        settings = {"kind": state["kind"], "groups": state["groups"]}
        for i, states in enumerate(state["state"]):
            tensors |= {f"optimizer/{i}/{name}": array for name, array in states.items()}
    for name, array in (arrays or {}).items():
        values = tensors[f"extra/{name}"] = np.asarray(array)
        if values.dtype.kind not in "biuf":
            raise TypeError(f"arrays: {name} has dtype {values.dtype}; expected NumPy's bool, int or float")
    content = {
        "version": VERSION,
        "step": int(step),
        "epoch": int(epoch),
        "history": dict(history or {}),
        "optimizer": settings,
        "random": get_rng_state(),
        "loader": None if position is None else dict(position),
        "extra": dict(extra or {}),
    }
    content = _check.plain(content)
    try:
        text = json.dumps(content)
    except (TypeError, ValueError) as error:
        raise TypeError(f"extra or history holds what JSON cannot: {error}") from None
    content["crc32"] = _checksum(text, tensors)
    save_arrays(path, tensors, {"checkpoint": json.dumps(content)})


def load_checkpoint(
    path: str | os.PathLike[str],
    model: Module,
    optimizer: Optimizer | None = None,
    *,
    loader: DataLoader | None = None,
) -> dict[str, Any]:
    """Return to a checkpoint: weights, optimizer, random numbers and the loader's position.

    Parameters
    ----------
    path : path-like
    model : Module
        Built as the one that was saved; so the optimizer and the loader.
    optimizer : Optimizer, optional
        Without it the optimizer's state in the file is passed over.
    loader : DataLoader, optional

    Returns
    -------
    dict
        ``step``, ``epoch``, ``history``, ``extra`` and ``arrays``, as they were saved.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged or no checkpoint, or does not fit the model, optimizer or loader, or holds
        no state for one of them. Nothing is changed then.
    """
    _check_kinds(model, optimizer, loader)
    content, tensors = read_checkpoint(path)
    name = os.fspath(path)
    weights = _part(tensors, "model/")
    fit_model(name, model, weights)
    state = None
    if optimizer is not None:
        if content["optimizer"] is None:
            raise ValueError(f"{name} holds no optimizer state")
        state = {
            **content["optimizer"],
            "state": [
                _part(tensors, f"optimizer/{i}/")
                for i, _ in enumerate(content["optimizer"]["groups"])
            ],
        }
        for arrays, saved, group in zip(state["state"], state["groups"], optimizer.param_groups, strict=False):
            # Files of before parameters counted their own updates.
            arrays.setdefault("steps", np.full(len(group["params"]), float(saved["steps"])))
        _fit_optimizer(name, optimizer, state)
    if loader is not None and content["loader"] is None:
        raise ValueError(f"{name} holds no position of a loader")

    before = get_rng_state()
    position = {} if loader is None else loader.state_dict()
    try:
        set_rng_state(content["random"])
        if loader is not None:
            loader.load_state_dict(content["loader"])
        if optimizer is not None and state is not None:
            optimizer.load_state_dict(state)
    except (TypeError, ValueError) as error:
        set_rng_state(before)
        if loader is not None and loader.state_dict() != position:
            loader.load_state_dict(position)
        raise ValueError(f"{name} does not fit: {error}") from None
    model.load_state_dict(weights)
    result = {key: content[key] for key in ("step", "epoch", "history", "extra")}
    return {**result, "arrays": _part(tensors, "extra/")}


def read_checkpoint(path: str | os.PathLike[str]) -> tuple[dict[str, Any], Arrays]:
    """The JSON and the tensors of a checkpoint, found intact.

    Raises
    ------
    FileNotFoundError, ValueError
        If it is missing, damaged or no checkpoint.
    """
    tensors, metadata = load_arrays(path)
    name = os.fspath(path)
    if "checkpoint" not in metadata:
        raise ValueError(f"{name} is no checkpoint of fastnn")
    try:
        content = json.loads(metadata["checkpoint"])
        checksum = content.pop("crc32")
        intact = checksum == _checksum(json.dumps(content), tensors)
        version = content["version"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        intact, version = False, None
    if not intact:
        raise ValueError(f"{name} is damaged: its checksum is not the one recorded in it")
    if version != VERSION:
        raise ValueError(f"{name} has version {version}; this fastnn reads version {VERSION}")
    if not _is_complete(content):
        raise ValueError(f"{name} is no checkpoint of fastnn: its entries are not those of one")
    return content, tensors


def _is_complete(content: dict[str, Any]) -> bool:
    """Whether each entry is there and of its kind, so that what follows need not ask."""
    kinds: dict[str, Any] = {
        "step": int,
        "epoch": int,
        "history": dict,
        "optimizer": (dict, type(None)),
        "random": dict,
        "loader": (dict, type(None)),
        "extra": dict,
    }
    if any(not isinstance(content.get(key, ...), kind) for key, kind in kinds.items()):
        return False
    if min(content["step"], content["epoch"]) < 0:
        return False
    if any(not isinstance(values, list) for values in content["history"].values()):
        return False
    groups = [] if content["optimizer"] is None else content["optimizer"].get("groups")
    return isinstance(groups, list) and all(
        isinstance(group, dict) and isinstance(group.get("steps"), int) for group in groups
    )


def fit_model(name: str, model: Module, weights: Arrays) -> None:
    """ValueError unless the model can take these weights as they are, dtype included."""
    own = model.state_dict()
    problems = [f"{key} is missing" for key in own if key not in weights]
    problems += [f"{key} is unexpected" for key in weights if key not in own]
    for key in own.keys() & weights.keys():
        if (own[key].shape, own[key].dtype) != (weights[key].shape, weights[key].dtype):
            problems.append(
                f"{key} is {weights[key].dtype} {weights[key].shape}, not {own[key].dtype} "
                f"{own[key].shape}"
            )
    if problems:
        raise ValueError(f"{name} does not fit {type(model).__name__}: {'; '.join(problems)}")


def _fit_optimizer(name: str, optimizer: Optimizer, state: dict[str, Any]) -> None:
    """ValueError unless load_state_dict will take this state whole."""
    own = optimizer.state_dict()
    if own["kind"] != state.get("kind"):
        raise ValueError(f"{name} holds the state of {state.get('kind')}, not of {own['kind']}")
    names = [[sorted(group) for group in groups] for groups in (own["groups"], state["groups"])]
    if names[0] != names[1]:
        raise ValueError(
            f"{name} does not fit the optimizer: groups with settings {names[1]}, not {names[0]}"
        )
    for i, (mine, saved) in enumerate(zip(own["state"], state["state"], strict=True)):
        form, other = ({k: (a.dtype, a.shape) for k, a in s.items()} for s in (mine, saved))
        if form != other:
            raise ValueError(
                f"{name} does not fit the optimizer: group {i} holds {other}, not {form}"
            )


def _part(tensors: Arrays, prefix: str) -> Arrays:
    return {k.removeprefix(prefix): a for k, a in tensors.items() if k.startswith(prefix)}


def _checksum(text: str, tensors: Arrays) -> str:
    """CRC-32 over the JSON and each tensor's name, dtype, shape and bytes, in hexadecimal."""
    crc = zlib.crc32(text.encode())
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        crc = zlib.crc32(f"{name} {array.dtype} {tensors[name].shape}".encode(), crc)
        crc = zlib.crc32(array.reshape(-1).view(np.uint8).data, crc)
    return f"{crc:08x}"


def _check_kinds(model: Any, optimizer: Any, loader: Any) -> None:
    for name, value, kind in (
        ("model", model, Module),
        ("optimizer", optimizer, Optimizer),
        ("loader", loader, DataLoader),
    ):
        if not isinstance(value, kind) and (name == "model" or value is not None):
            raise TypeError(f"{name} must be a {kind.__name__}, got {type(value).__name__}")
