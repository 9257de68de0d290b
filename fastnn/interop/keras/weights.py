"""Which of a file's arrays are whose: by the paths of Keras 3, or by the order of Keras 2."""

from __future__ import annotations

import re

from fastnn import _check
from fastnn.interop.hdf5 import Damage, Hdf5, Stored
from fastnn.interop.keras.parts import Part


def attach(model: Part, file: Hdf5) -> None:
    """Give each layer of a model its arrays of a file, not yet read."""
    names = file.names("")
    if "model_weights" in names:
        _by_order(model, file, "model_weights")
    elif file.texts("", "layer_names") is not None:
        _by_order(model, file, "")
    elif "layers" in names or "_layer_checkpoint_dependencies" in names:
        # Keras 2.13 has another name for what Keras 3 calls layers.
        _by_path(model, file, "", "layers" if "layers" in names else "_layer_checkpoint_dependencies")
    elif any(wanted(part) for part in model.leaves()):
        raise Damage("it holds no weights of Keras")


def wanted(part: Part) -> list[str]:
    """Keras's names of a layer's arrays, in the order of its files."""
    assert part.layer is not None
    trained, others = part.layer.variables(part.settings)
    return [*trained, *others]


def snake_case(name: str) -> str:
    """A class's name as paths have it: MaxPooling2D is max_pooling2d."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _by_path(model: Part, file: Hdf5, path: str, room: str) -> None:
    """layers/dense_1/vars/0: the second layer of its class, and its first array."""
    used: dict[str, int] = {}
    for part in model.parts:
        stem = "functional" if part.is_model and part.settings.kind == "Model" else snake_case(part.settings.kind)
        used[stem] = used.get(stem, -1) + 1
        here = f"{path}/{room}/{stem}" + (f"_{used[stem]}" if used[stem] else "")
        if part.is_model:
            _by_path(part, file, here, room)
        elif part.layer is not None:
            names = wanted(part)
            found = file.names(f"{here}/vars")
            if sorted(found) != sorted(str(i) for i in range(len(names))):
                raise part.settings.wrong(f"{len(found)} array(s) in the file; expected {_check.some(names) or 'none'}")
            part.stored = {name: file.array(f"{here}/vars/{i}") for i, name in enumerate(names)}


def _by_order(model: Part, file: Hdf5, path: str) -> None:
    """The layers that have arrays, one after another, whatever they are called."""
    own = [(part, order) for part in model.parts if (order := _order(part))]
    found: list[list[Stored]] = []
    for name in file.texts(path, "layer_names") or []:
        arrays = file.texts(f"{path}/{name}", "weight_names") or []
        if arrays:
            found.append([file.array(f"{path}/{name}/{array}") for array in arrays])
    if len(found) != len(own):
        raise Damage(f"{len(found)} layer(s) have weights in it; {len(own)} of the model want them")
    for (part, order), stored in zip(own, found, strict=True):
        if len(order) != len(stored):
            names = _check.some(name for _, name in order)
            raise part.settings.wrong(f"{len(stored)} array(s) in the file; expected {names}")
        for (leaf, name), array in zip(order, stored, strict=True):
            leaf.stored[name] = array


def _order(part: Part) -> list[tuple[Part, str]]:
    """A layer's arrays, or those of all layers of a model: first what is trained."""
    trained: list[tuple[Part, str]] = []
    others: list[tuple[Part, str]] = []

    def walk(part: Part, frozen: bool) -> None:
        frozen = frozen or not part.settings.trainable
        if part.layer is not None:
            first, second = part.layer.variables(part.settings)
            (others if frozen else trained).extend((part, name) for name in first)
            others.extend((part, name) for name in second)
        for inner in part.parts:
            walk(inner, frozen)

    walk(part, False)
    return [*trained, *others]
