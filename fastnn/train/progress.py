"""What a trainer keeps, so that a checkpoint written after Ctrl-C goes on as if there had been none."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fastnn import _check
from fastnn.data import DataLoader
from fastnn.optim.optimizer import Optimizer
from fastnn.seed import Snapshot, snapshot
from fastnn.train.callbacks import (
    Callback,
    CSVLogger,
    EarlyStopping,
    History,
    Logs,
    ModelCheckpoint,
    ProgressBar,
    TerminateOnNaN,
)
from fastnn.train.evaluation import numbers
from fastnn.train.monitor import Monitor
from fastnn_ext.atomic import Calls


@dataclass(frozen=True)
class Ending:
    """The end of an epoch whose batches are done: its logs, and the calls of on_epoch_end."""

    epoch: int
    logs: Logs
    calls: Calls


class World(NamedTuple):
    """What validation, and callbacks that others have written, change beyond themselves."""

    random: Snapshot
    settings: list[dict[str, Any]]  # of the optimizer's groups
    validation: dict[str, Any] | None  # where its loader begins

    @classmethod
    def of(cls, optimizer: Optimizer, validation: DataLoader | None) -> World:
        return cls(
            snapshot(),
            [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups],
            None if validation is None else start_of(validation),
        )


class Before(NamedTuple):
    """What is put back when validation, or a callback's on_epoch_end, is left by an exception: it is done again."""

    done: int  # calls of the epoch's end before this one; -1 for validation
    world: World | None
    epochs: int  # in the history
    lengths: dict[str, int]
    logs: Logs
    state: dict[str, Any]  # the callback's

    @classmethod
    def validation(cls, history: History, optimizer: Optimizer, loader: DataLoader | None) -> Before:
        """Before a validation, by a loader of the user's own if there is one."""
        return cls(-1, World.of(optimizer, loader), len(history.epoch), _lengths(history), {}, {})

    @classmethod
    def call(cls, ending: Ending, history: History, optimizer: Optimizer, loader: DataLoader | None) -> Before:
        """Before the next call of an epoch's end."""
        done = ending.calls.done
        callback = ending.calls.objects[done]
        world = None if type(callback) in OWN else World.of(optimizer, loader)
        state = _copied(callback.state_dict())
        return cls(done, world, len(history.epoch), _lengths(history), ending.logs.copy(), state)


#: Callbacks that change nothing but themselves and the history.
OWN = (History, CSVLogger, ProgressBar, TerminateOnNaN, EarlyStopping, ModelCheckpoint, Monitor)


def _lengths(history: History) -> dict[str, int]:
    return {name: len(values) for name, values in history.history.items()}


def start_of(loader: DataLoader) -> dict[str, Any]:
    """What decides a loader's next pass."""
    return {"seed": loader.seed, "epoch": loader._next()[0]}


def _copied(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state that stays as it is: whoever gives a read-only array does not write to it."""
    return {name: value if _is_constant(value) else copy.deepcopy(value) for name, value in state.items()}


def _is_constant(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return not value.flags.writeable
    return value is None or isinstance(value, (bool, int, float, str))


def named(callbacks: Sequence[Callback]) -> Iterator[tuple[str, Callback]]:
    """Callbacks with the names under which checkpoints know them."""
    seen: dict[str, int] = {}
    for callback in callbacks:
        kind = type(callback).__name__
        seen[kind] = seen.get(kind, 0) + 1
        yield f"{kind}.{seen[kind]}", callback


def names_of(some: Sequence[Callback], callbacks: Sequence[Callback]) -> list[str]:
    """The names of some of the callbacks. What a progress bar has not shown is nothing to a resumed run."""
    wanted = {id(callback) for callback in some if not isinstance(callback, ProgressBar)}
    return [name for name, callback in named(callbacks) if id(callback) in wanted]


def overriding(method: str, callbacks: Sequence[Callback]) -> list[Callback]:
    """Those of the callbacks that have a method of their own."""
    own = getattr(Callback, method)
    return [c for c in callbacks if getattr(getattr(c, method), "__func__", None) is not own]


def chosen(what: str, names: Any, callbacks: Sequence[Callback]) -> list[Callback]:
    """The callbacks that a checkpoint names; ValueError if it does not hold names."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{what} must be a list of names, got {_check.brief(names)}")
    return [callback for name, callback in named(callbacks) if name in names]


def saved_ending(ending: Ending | None, seconds: float, callbacks: Sequence[Callback]) -> dict[str, Any] | None:
    """What a checkpoint says of an epoch's end that is not done."""
    left = [] if ending is None else names_of(ending.calls.left(), callbacks)
    if ending is None or not left:
        return None
    logs = {name: _check.plain(value) for name, value in ending.logs.items()}
    logs = {name: value for name, value in logs.items() if type(value) in (int, float)}
    return {"epoch": ending.epoch, "logs": logs, "seconds": seconds, "callbacks": left}


def resumed_ending(saved: Any, callbacks: Sequence[Callback]) -> tuple[Ending | None, float]:
    """The epoch's end that a checkpoint says is not done, and the seconds of the epoch's steps."""
    if saved is None:
        return None, 0.0
    if not isinstance(saved, dict) or saved.keys() != {"epoch", "logs", "seconds", "callbacks"}:
        raise ValueError(f"ending must hold epoch, logs, seconds and callbacks, got {_check.brief(saved)}")
    epoch = _check.count("ending['epoch']", saved["epoch"])
    seconds = _check.real("ending['seconds']", saved["seconds"], 0)
    logs = numbers("ending['logs']", saved["logs"], -math.inf, math.inf)
    left = chosen("ending['callbacks']", saved["callbacks"], callbacks)
    return Ending(epoch, logs, Calls("on_epoch_end", left)), seconds
