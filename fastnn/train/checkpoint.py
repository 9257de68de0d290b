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
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastnn import _check, seed
from fastnn.data import DataLoader
from fastnn.files import CHECKPOINT, MODEL, checksum, load_arrays, save_arrays
from fastnn.nn.module import Module
from fastnn.optim.optimizer import SHARED, Optimizer
from fastnn.seed import get_rng_state
from fastnn_ext.atomic import commit

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
        "step": _check.count("step", step),
        "epoch": _check.count("epoch", epoch),
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
    content["crc32"] = checksum(text, tensors)
    save_arrays(path, tensors, {CHECKPOINT: json.dumps(content)})


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

    Notes
    -----
    All is checked first, and then changed at once: whatever happens, Ctrl-C included, the state is that of
    the file or the one before.
    """
    prepared = prepare(path, model, optimizer, loader)
    if loader is not None and prepared.content["loader"] is None:
        raise no_position(prepared.name)
    prepared.commit()
    return prepared.info


def no_position(name: str) -> ValueError:
    """The refusal of a checkpoint that says nothing of a loader."""
    return ValueError(f"{name} holds no position of a loader")


class Prepared:
    """A checkpoint that has been read and found to fit, and changes nothing until `commit`.

    Attributes
    ----------
    name : str
        Of the file.
    content : dict
        The JSON.
    info : dict
        What `load_checkpoint` returns.
    generator : numpy Generator
        The default source of random numbers, as it will be.
    """

    generator: np.random.Generator

    def __init__(self, name: str, content: dict[str, Any], info: dict[str, Any]) -> None:
        self.name, self.content, self.info = name, content, info
        self.copies: list[Any] = []
        self.entries: list[Any] = []
        self.attributes: list[Any] = []

    def commit(self) -> None:
        """Make the state that of the file, in one piece that no interrupt cuts."""
        commit(self.copies, self.entries, self.attributes)


def prepare(
    path: str | os.PathLike[str], model: Module, optimizer: Optimizer | None, loader: DataLoader | None
) -> Prepared:
    """As `load_checkpoint`, up to where something would change; a loader of which the file says nothing stays."""
    _check_kinds(model, optimizer, loader)
    name = _check.path("path", path)
    content, tensors = read_checkpoint(name)
    weights = _part(tensors, "model/")
    fit_model(name, model, weights)
    info = {key: content[key] for key in ("step", "epoch", "history", "extra")}
    prepared = Prepared(name, content, {**info, "arrays": _part(tensors, "extra/")})
    prepared.copies += model._staged(name, weights)
    copies, entries = _named(name, "random", seed.staged, content["random"])
    prepared.copies += copies
    prepared.entries += entries
    prepared.generator = entries[0][2]
    if optimizer is not None:
        if content["optimizer"] is None:
            raise ValueError(f"{name} holds no optimizer state; it was saved without: leave optimizer out")
        groups = content["optimizer"]["groups"]
        # A part for each group of the optimizer, however many the file names: each is looked for among all tensors.
        parts = [_part(tensors, f"optimizer/{i}/") for i, _ in enumerate(optimizer.param_groups)]
        state = {**content["optimizer"], "state": parts}
        for arrays, saved, group in zip(parts, groups, optimizer.param_groups, strict=False):
            # Files of before parameters counted their own updates.
            arrays.setdefault("steps", np.full(len(group["params"]), float(saved["steps"])))
        _fit_optimizer(name, optimizer, state)
        staged = _named(name, "optimizer", optimizer._staged, state)
        for mine, more in zip((prepared.copies, prepared.entries, prepared.attributes), staged, strict=True):
            mine += more
    if loader is not None and content["loader"] is not None:
        prepared.attributes += _named(name, "loader", loader._staged, content["loader"])
    return prepared


def _named(name: str, field: str, function: Callable[[Any], Any], value: Any) -> Any:
    """What a function makes of a field's value; ValueErrors name the file and the field."""
    try:
        return function(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} does not fit: {field}: {error}") from None
    except RecursionError:
        raise ValueError(f"{name} does not fit: {field}: it is nested too deeply") from None


def read_checkpoint(path: str | os.PathLike[str]) -> tuple[dict[str, Any], Arrays]:
    """The JSON and the tensors of a checkpoint, found intact.

    Raises
    ------
    FileNotFoundError, ValueError
        If it is missing, damaged or no checkpoint.
    """
    name = _check.path("path", path)
    tensors, metadata = load_arrays(name)
    if CHECKPOINT not in metadata:
        hint = "; it holds a model alone: read it with model.load(path)" if MODEL in metadata else ""
        raise ValueError(f"{name} is no checkpoint of fastnn{hint}")
    try:
        content = json.loads(metadata[CHECKPOINT])
        recorded = content.pop("crc32")
        intact = recorded == checksum(json.dumps(content), tensors)
        version = content["version"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        intact, version = False, None
    if not intact:
        raise ValueError(f"{name} is damaged: its checksum is not the one recorded in it")
    if version != VERSION:
        raise ValueError(f"{name} has version {_check.brief(version)}; this fastnn reads version {VERSION}")
    _check_content(name, content)
    return content, tensors


def _check_content(name: str, content: dict[str, Any]) -> None:
    """ValueError unless each entry is there and of its kind, so that what follows need not ask."""

    def expect(right: bool, field: str, wanted: str, value: Any) -> None:
        if not right:
            raise ValueError(f"{name} is no checkpoint of fastnn: {field} must be {wanted}, got {_check.brief(value)}")

    for field in ("step", "epoch", "history", "optimizer", "random", "loader", "extra"):
        if field not in content:
            raise ValueError(f"{name} is no checkpoint of fastnn: it lacks {field}")
    counts = {"step": content["step"], "epoch": content["epoch"]}
    for field in ("history", "random", "extra"):
        expect(isinstance(content[field], dict), field, "a table", content[field])
    for log, values in content["history"].items():
        expect(isinstance(values, list), f"history[{_check.brief(log)}]", "a list", values)
    for field in ("optimizer", "loader"):
        expect(isinstance(content[field], (dict, type(None))), field, "a table or null", content[field])
    if content["optimizer"] is not None:
        kind, groups = content["optimizer"].get("kind"), content["optimizer"].get("groups")
        expect(isinstance(kind, str), "optimizer.kind", "a name", kind)
        expect(isinstance(groups, list), "optimizer.groups", "a list", groups)
        for i, group in enumerate(groups):
            expect(isinstance(group, dict), f"optimizer.groups[{i}]", "a table", group)
            counts[f"optimizer.groups[{i}].steps"] = group.get("steps")
    for field, value in counts.items():
        right = type(value) is int and 0 <= value <= _check.LARGEST_COUNT
        expect(right, field, f"an int from 0 to {_check.LARGEST_COUNT}", value)


def fit_model(name: str, model: Module, weights: Arrays) -> None:
    """ValueError unless the model can take these weights as they are, dtype included."""
    own = model.state_dict()
    problems = [f"{key} is missing" for key in own if key not in weights]
    problems += [f"{_check.brief(key, str)} is unexpected" for key in weights if key not in own]
    for key in own.keys() & weights.keys():
        if (own[key].shape, own[key].dtype) != (weights[key].shape, weights[key].dtype):
            problems.append(
                f"{key} is {weights[key].dtype} {_check.brief(weights[key].shape)}, not {own[key].dtype} "
                f"{own[key].shape}"
            )
    if problems:
        raise ValueError(f"{name} does not fit {type(model).__name__}: {_check.some(problems)}")


def _fit_optimizer(name: str, optimizer: Optimizer, state: dict[str, Any]) -> None:
    """ValueError unless load_state_dict will take this state whole."""
    own = optimizer.state_dict()
    if own["kind"] != state.get("kind"):
        raise ValueError(f"{name} holds the state of {_check.brief(state['kind'], str)}, not of {own['kind']}")
    later = SHARED.keys() - {"maximize"}
    # Files of before there was a setting that does nothing by default lack it.
    names = [[sorted(group.keys() - later) for group in groups] for groups in (own["groups"], state["groups"])]
    if names[0] != names[1]:
        raise ValueError(f"{name} does not fit the optimizer: {_differing(names[1], names[0])}")
    for i, (group, saved) in enumerate(zip(optimizer.param_groups, state["state"], strict=True)):
        forms = optimizer.forms(group)
        form = {k: forms[k] for k in saved if k in forms}
        other = {k: (a.dtype, a.shape) for k, a in saved.items()}
        if form != other:
            raise ValueError(f"{name} does not fit the optimizer: group {i} holds {_shown(other)}, not {_shown(form)}")


def _differing(saved: list[list[str]], own: list[list[str]]) -> str:
    if len(saved) != len(own):
        return f"{len(saved)} groups, not {len(own)}"
    i = next(i for i, pair in enumerate(zip(saved, own, strict=True)) if pair[0] != pair[1])
    return f"group {i} with the settings {_check.some(saved[i])}, not {_check.some(own[i])}"


def _shown(form: Mapping[str, Any]) -> str:
    return _check.some(f"{_check.brief(k, str)}: {dtype} {_check.brief(shape)}" for k, (dtype, shape) in form.items())


def _part(tensors: Arrays, prefix: str) -> Arrays:
    return {k.removeprefix(prefix): a for k, a in tensors.items() if k.startswith(prefix)}


def _check_kinds(model: Any, optimizer: Any, loader: Any) -> None:
    for name, value, kind in (
        ("model", model, Module),
        ("optimizer", optimizer, Optimizer),
        ("loader", loader, DataLoader),
    ):
        if name == "model" or value is not None:
            _check.instance(name, value, kind, "fastnn's DataLoader" if kind is DataLoader else "")
