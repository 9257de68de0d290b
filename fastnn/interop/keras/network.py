"""Network: a module that calls the layers of a Keras file as the file says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from fastnn import _check
from fastnn.interop.keras.config import policy
from fastnn.interop.keras.layer import Arrays
from fastnn.interop.keras.parts import Part, Ref, flat
from fastnn.lowering.trace import Form, trace
from fastnn.nn import Module


class Step(NamedTuple):
    """A call of a layer: its name here, the places of its inputs, or numbers, whether it takes a list, and its mode."""

    layer: str
    inputs: tuple[tuple[int, int] | float, ...]
    merges: bool
    training: bool | None


class Network(Module):
    """A network that was read from a Keras file; `load_keras` makes it.

    Called with arrays, in the file's order or by the names of the file's inputs, it returns the file's outputs: an
    array, or a tuple or dict of several. Sequences and images have the layout that they have in Keras.

    Attributes
    ----------
    input_names : tuple of str
        As the file has them.
    keras_config : str
        The model's config as JSON; the layers' regularizers and constraints are in it, and are not used here.
    compile_config : str
        What the model was compiled with, its loss and optimizer, as JSON; "null" if the file does not say.
    """

    keras_config = compile_config = "null"
    keras_major = 3

    def __init__(self, part: Part, dtype: np.dtype[Any], shared: dict[int, Module] | None = None) -> None:
        super().__init__()
        shared = {} if shared is None else shared  # layers that several models have
        names: dict[str, str] = {}
        for inner in part.parts:
            if inner.layer is None and not inner.is_model:
                continue
            name = names[inner.settings.name] = self._free(inner.settings.name)
            key = id(inner.twin or inner)
            if key not in shared:
                arrays = Arrays(inner.settings, inner.stored, dtype)
                made = inner.layer(inner.settings, arrays) if inner.layer else Network(inner, dtype, shared)
                shared[key] = made
            self.add_module(name, shared[key])
        inputs = [ref.layer for ref in flat(part.inputs)]
        object.__setattr__(self, "input_names", tuple(inputs))
        shapes = {inner.settings.name: inner.shape for inner in part.parts}
        self._shapes = tuple(None if (shape := shapes[name]) is None else tuple(shape) for name in inputs)
        #: Shapes of the inputs, with the batch first, as the file has them.
        self.input_shapes = self._shapes
        self._steps, places = _ordered(part, inputs, names)
        self._outputs = _placed(part.outputs, places)

    def _free(self, name: str) -> str:
        """A layer's name as a module's: without dots, and not that of an attribute."""
        name = name.replace(".", "_").replace("/", "_")
        while not name or hasattr(self, name):
            name += "_"
        return name

    def forward(self, *inputs: Any, training: bool | None = None, **named: Any) -> Any:
        """Call the layers."""
        values: list[Any] = self._given(inputs, named)
        for step in self._steps:
            given = [x if isinstance(x, float) else _picked(values[x[0]], x[1]) for x in step.inputs]
            layer = self._modules[step.layer]
            mode = training if step.training is None else step.training
            try:
                if step.merges:
                    result = layer(given, training=mode)
                else:
                    result = layer(*given, training=mode)
            except ValueError as error:
                raise type(error)(f"layer {step.layer!r}: {error}") from error
            values.append(list(result.values()) if isinstance(result, dict) else result)
        return _filled(self._outputs, values)

    def _given(self, inputs: tuple[Any, ...], named: dict[str, Any]) -> list[Any]:
        """The inputs in order, of the shapes that the file says."""
        names = self.input_names
        if named:
            if inputs or set(named) != set(names):
                raise TypeError(f"expected the inputs {', '.join(names)}, got {', '.join(named)}")
            inputs = tuple(named[name] for name in names)
        if len(inputs) != len(names):
            raise TypeError(f"expected {len(names)} input(s), {', '.join(names)}, got {len(inputs)}")
        for name, x, shape in zip(names, inputs, self._shapes, strict=True):
            if shape is None:
                continue
            fits = x.ndim == len(shape) and all(
                want in (None, size) for want, size in zip(shape[1:], x.shape[1:], strict=True)
            )
            if not fits:
                wanted = ", ".join("any" if size is None else str(size) for size in shape[1:])
                raise ValueError(
                    f"input {name!r} has shape {tuple(x.shape)}; expected (N, {wanted})".replace(", )", ")")
                )
        return list(inputs)


def _ordered(
    part: Part, inputs: list[str], names: dict[str, str]
) -> tuple[tuple[Step, ...], dict[tuple[str, int], int]]:
    """A model's calls such that each comes behind those that it depends on, and the place of each one's result."""
    places = {(name, 0): i for i, name in enumerate(inputs)}
    waiting = [(inner, i) for inner in part.parts for i in range(len(inner.calls))]
    readers: dict[tuple[str, int], list[int]] = {}
    missing: list[int] = []
    for at, (inner, i) in enumerate(waiting):
        needs = {(ref.layer, ref.call) for ref in inner.calls[i].refs}
        missing.append(len(needs - places.keys()))
        for key in needs - places.keys():
            readers.setdefault(key, []).append(at)
    steps: list[Step] = []
    ready = [at for at in range(len(waiting)) if not missing[at]]
    for at in ready:  # which grows
        inner, i = waiting[at]
        call = inner.calls[i]
        name = inner.settings.name
        where = tuple((places[ref.layer, ref.call], ref.output) if isinstance(ref, Ref) else ref for ref in call.inputs)
        merges = inner.layer is not None and inner.layer.merges
        if inner.layer is not None and not merges and len(where) != 1:
            raise inner.settings.wrong(f"it takes one input, and is called with {len(where)}")
        places[name, i] = len(inputs) + len(steps)
        steps.append(Step(names[name], where, merges, call.training))
        for reader in readers.get((name, i), ()):
            missing[reader] -= 1
            if not missing[reader]:
                ready.append(reader)
    if len(steps) < len(waiting):
        left = [waiting[at][0].settings.name for at in range(len(waiting)) if missing[at] > 0]
        raise part.settings.wrong(
            f"layers depend on themselves, or on what is no input: {_check.some(dict.fromkeys(left))}"
        )
    return tuple(steps), places


def _placed(refs: Any, places: dict[tuple[str, int], int]) -> Any:
    """References as places of results; one output alone is not in a list."""
    if isinstance(refs, Ref):
        if (refs.layer, refs.call) not in places:
            raise ValueError(f"the output {_check.brief(refs.layer)} is not computed")
        return (places[refs.layer, refs.call], refs.output)
    if isinstance(refs, dict):
        return {key: _placed(each, places) for key, each in refs.items()}
    each = [_placed(ref, places) for ref in refs]
    return each if len(each) > 1 else each[0]


def _filled(outputs: Any, values: list[Any]) -> Any:
    """What `_placed` gave, with the tensors in their places."""
    if isinstance(outputs, tuple):
        return _picked(values[outputs[0]], outputs[1])
    if isinstance(outputs, dict):
        return {key: _filled(each, values) for key, each in outputs.items()}
    return tuple(_filled(each, values) for each in outputs)


def _picked(value: Any, output: int) -> Any:
    """One of a call's outputs."""
    several = list(_tensors(value))
    if output >= len(several):
        raise ValueError(f"output {output} of a layer that has {len(several)}")
    return several[output]


def _tensors(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple)):
        for each in value:
            yield from _tensors(each)
    else:
        yield value


def dtype_of(part: Part) -> np.dtype[Any]:
    """float64 if a layer has it; what Keras computes in float16 is computed in float32."""
    double = any(policy(leaf.settings.get("dtype")) == "float64" for leaf in part.leaves())
    return np.dtype(np.float64 if double else np.float32)


def check(network: Network, part: Part, dtype: np.dtype[Any]) -> None:
    """Call the layers with inputs that have a shape and no numbers yet: ValueError if they do not fit each other."""
    shapes = network._shapes
    if any(shape is None or None in shape[1:] for shape in shapes):
        return
    kinds = {inner.settings.name: policy(inner.settings.get("dtype")) for inner in part.parts}
    forms = []
    for name, shape in zip(network.input_names, shapes, strict=True):
        own = np.dtype(np.int64) if "int" in kinds.get(name, "") else dtype
        forms.append(Form(name, (2, *(size or 1 for size in (shape or ())[1:])), own, True))
    trace(network.forward, forms, 2, "the network", training=False)
