"""Keras's weights for a module that somebody has written: which layer's are whose, and in which layout."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from fastnn import _check, nn
from fastnn.interop.hdf5 import Damage, Hdf5, Stored
from fastnn.interop.keras.conv import depthwise

_Array = np.ndarray[Any, Any]

#: What Keras 3's files call the layers that a module may be.
_STEMS: dict[type[nn.Module], tuple[str, ...]] = {
    nn.Linear: ("dense",),
    nn.Conv1d: ("conv1d", "depthwise_conv1d"),
    nn.Conv2d: ("conv2d", "depthwise_conv2d"),
    nn.ConvTranspose1d: ("conv1d_transpose",),
    nn.ConvTranspose2d: ("conv2d_transpose",),
    nn.BatchNorm1d: ("batch_normalization",),
    nn.BatchNorm2d: ("batch_normalization",),
    nn.LayerNorm: ("layer_normalization",),
    nn.GroupNorm: ("group_normalization",),
    nn.RMSNorm: ("rms_normalization",),
    nn.Embedding: ("embedding",),
}
#: How deep groups are looked through.
_DEEPEST = 16


class _Source(NamedTuple):
    """A layer of a file: its name, what its group is called, and its arrays."""

    name: str
    group: str
    arrays: list[Stored]


def load(model: nn.Module, file: Hdf5) -> None:
    """Copy a file's weights into the layers of a module; ValueError or Damage if they do not fit it."""
    targets = [(name, module) for name, module in model.named_modules() if type(module) in _STEMS]
    covered = {f"{name}.{own}" if name else own for name, module in targets for own in module.state_dict()}
    others = [name for name in model.state_dict() if name not in covered]
    if others:
        raise ValueError(f"no layer of Keras has what the model has as {_check.some(others)}")
    sources, ordered = _sources(file)
    if len(sources) != len(targets):
        raise ValueError(f"{len(sources)} layer(s) have weights in it; {len(targets)} of the model want them")
    state: dict[str, _Array] = {}
    channels = 0
    for (name, module), source in zip(targets, _matched(targets, sources, ordered), strict=True):
        what = f"{_check.brief(name)} ({type(module).__name__}) from layer {_check.brief(source.name)}"
        arrays = [stored.read() for stored in source.arrays]
        own = [key for key in module.state_dict() if key != "num_batches_tracked"]
        if len(arrays) != len(own):
            raise ValueError(f"{what}: {len(arrays)} array(s) in the file; expected {_check.some(own)}")
        try:
            arrays[0] = _converted(module, arrays[0], channels)
        except ValueError:
            raise ValueError(f"{what}: its first array has shape {arrays[0].shape}") from None
        for key, array in zip(own, arrays, strict=True):
            if array.shape != module.state_dict()[key].shape:
                raise ValueError(f"{what}: {key} has shape {array.shape}; expected {module.state_dict()[key].shape}")
            state[f"{name}.{key}" if name else key] = array
        channels = getattr(module, "out_channels", channels if hasattr(module, "num_features") else 0)
    model.load_state_dict(state, strict=False)


def _sources(file: Hdf5) -> tuple[list[_Source], bool]:
    """The layers that have arrays, and whether they are in the model's order."""
    path = "model_weights" if "model_weights" in file.names("") else ""
    names = file.texts(path, "layer_names")
    if names is None:
        return list(_walked(file, "", 0)), False
    found = []
    for name in names:
        arrays = file.texts(f"{path}/{name}", "weight_names") or []
        if arrays:
            found.append(_Source(name, name, [file.array(f"{path}/{name}/{array}") for array in arrays]))
    return found, True


def _walked(file: Hdf5, path: str, depth: int) -> Iterator[_Source]:
    if depth > _DEEPEST:
        raise Damage(f"{_check.brief(path)} lies too deep")
    for group in file.names(path):
        here = f"{path}/{group}"
        if group in ("vars", "seed_generator") or (not depth and group.startswith(("optimizer", "_", "metrics"))):
            continue
        arrays = sorted(file.names(f"{here}/vars"), key=lambda name: (len(name), name))
        if arrays:
            name = file.text(f"{here}/vars", "name") or group
            yield _Source(name, group, [file.array(f"{here}/vars/{array}") for array in arrays])
        yield from _walked(file, here, depth + 1)


def _matched(targets: list[tuple[str, nn.Module]], sources: list[_Source], ordered: bool) -> list[_Source]:
    """A source for each target: of its name, if all have names that the file knows; else in order, of its class."""
    for key in ("name", "group"):
        by_name = {getattr(source, key): source for source in sources}
        wanted = [name.rpartition(".")[2] for name, _ in targets]
        if set(wanted) == by_name.keys() and len(set(wanted)) == len(targets):
            return [by_name[name] for name in wanted]
    if ordered:
        return sources
    by_stem: dict[str, list[_Source]] = {}
    for source in sorted(sources, key=_place):
        by_stem.setdefault(re.sub(r"_\d+$", "", source.group), []).append(source)
    result = []
    for name, module in targets:
        stems = _STEMS[type(module)]
        if len(stems) > 1 and not (module.groups == module.in_channels > 1 and by_stem.get(stems[1])):
            stems = stems[:1]
        left = by_stem.get(stems[-1])
        if not left:
            raise ValueError(f"it has no weights for {_check.brief(name)} ({type(module).__name__})")
        result.append(left.pop(0))
    return result


def _place(source: _Source) -> int:
    number = re.search(r"_(\d{1,9})$", source.group)
    return int(number[1]) if number else 0


def _converted(module: nn.Module, array: _Array, channels: int) -> _Array:
    """A layer's first array in fastnn's layout; ValueError if it has none that could be meant."""
    if isinstance(module, nn.Linear):
        rows = array.shape[0]
        if channels and rows > channels and rows % channels == 0:  # of images that are flattened: (pixels, channels)
            array = array.reshape(-1, channels, *array.shape[1:]).swapaxes(0, 1).reshape(array.shape)
        return np.transpose(array)
    if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d)):
        if module.groups == module.in_channels > 1 and array.ndim > 2 and array.shape[-2] == module.in_channels:
            return depthwise(array)
        return np.moveaxis(array, (-1, -2), (0, 1))
    return array
