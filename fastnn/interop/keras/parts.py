"""A model's config as a tree of parts: what its layers are and how they are called."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fastnn import _check
from fastnn.interop.hdf5 import Stored
from fastnn.interop.keras import activation, conv, core, merge, noise, norm, pool, resize  # noqa: F401  (they register)
from fastnn.interop.keras.config import Settings, entry, is_of_keras, policy
from fastnn.interop.keras.layer import LAYERS, Layer

#: Models may hold models so deep.
_DEEPEST = 16
#: How many layers may be called in all, those of a model again at each of its calls.
_MOST_CALLS = 10_000

MODELS = ("Sequential", "Functional", "Model")
#: Of Keras's functions of tensors, those that are as the layers of their names.
_FUNCTIONS = ("Add", "Subtract", "Multiply", "Maximum", "Minimum")
#: Layers that hand on which elements of a sequence count (Embedding's mask_zero), and those that heed it.
_MASKED = {
    "Dense", "Dropout", "SpatialDropout1D", "GaussianNoise", "GaussianDropout", "AlphaDropout", "Activation", "ReLU",
    "LeakyReLU", "PReLU", "ELU", "ThresholdedReLU", "ActivityRegularization", "Identity", "LayerNormalization",
    "RMSNormalization", "UnitNormalization", "Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum",
    "Concatenate", "Dot", "Rescaling", *MODELS,
}  # fmt: skip
_HEED = {"GlobalAveragePooling1D", "Softmax", "BatchNormalization"}


class Unread(ValueError):
    """Of layers that are not read: names them all."""


class Ref(NamedTuple):
    """An output of a call of a layer: the layer's name, which of its calls, which of the call's outputs."""

    layer: str
    call: int
    output: int


@dataclass
class Call:
    """What a layer is called with: outputs of others, and numbers beside them where it merges."""

    inputs: list[Ref | float]
    training: bool | None = None

    @property
    def refs(self) -> list[Ref]:
        """The outputs among its inputs."""
        return [ref for ref in self.inputs if isinstance(ref, Ref)]


@dataclass
class Part:
    """A layer, or a model with its layers.

    Attributes
    ----------
    layer : class, optional
        Of a layer; None for models and inputs.
    calls : list of Call
    shape : list, optional
        Of an input: its sizes, None where they are free, the batch first.
    inputs, outputs : nested lists and dicts of Ref
        Of a model.
    stored : dict of str to Stored
        The layer's arrays by Keras's names.
    twin : Part, optional
        Of a layer that several models have, which tf.keras writes for each of them: where it was first.
    """

    settings: Settings
    layer: type[Layer] | None = None
    parts: list[Part] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    shape: list[int | None] | None = None
    inputs: Any = None
    outputs: Any = None
    stored: dict[str, Stored] = field(default_factory=dict)
    twin: Part | None = None

    @property
    def is_model(self) -> bool:
        """Whether it has layers."""
        return self.outputs is not None

    def leaves(self) -> Iterator[Part]:
        """All layers in it, in the order of the file."""
        if self.layer is not None:
            yield self
        for part in self.parts:
            yield from part.leaves()


def parse(config: Any, major: int) -> Part:
    """The parts of a model.

    Raises
    ------
    Unread
    ValueError
        If it is no model's config.
    """
    problems: list[str] = []
    model = _Reader(major, problems).part(entry(config, "the model's config"), "", 0)
    if problems:
        raise Unread(f"{len(problems)} part(s) of the model cannot be read: {', '.join(problems)}")
    if not model.is_model:
        raise ValueError(f"the config is no model's, but that of a {_check.brief(model.settings.kind, str)}")
    return model


class _Reader:
    def __init__(self, major: int, problems: list[str]) -> None:
        self.major, self.problems = major, problems
        self.shared: dict[int, Part] = {}

    def part(self, value: dict[str, Any], name: str, depth: int) -> Part:
        """One layer or model."""
        kind, config = value["class_name"], value.get("config")
        if kind == "Sequential" and isinstance(config, list):  # of Keras before 2.2.3
            config = {"name": "sequential", "layers": config}
        if not isinstance(config, dict):
            raise ValueError(f"the config of a {_check.brief(kind, str)} is no table, but {_check.brief(config)}")
        own = config.get("name", value.get("name"))
        name = name or (own if isinstance(own, str) else "")
        settings = Settings(name, kind, config, self.major)
        room = value.get("module")
        of_function = isinstance(room, str) and ".ops" in room and kind not in _FUNCTIONS
        if of_function or not is_of_keras(value):
            shown = value.get("registered_name") or f"{value.get('module')}.{kind}"
            custom = "a function" if of_function else "custom"
            self.problems.append(f"layer {_check.brief(name)} ({custom}: {_check.brief(shown, str)})")
        elif kind in MODELS and isinstance(config.get("layers"), list):
            if depth >= _DEEPEST:
                raise ValueError(f"models are nested deeper than {_DEEPEST}")
            return self.model(settings, config, depth)
        elif kind == "InputLayer":
            return self.input(settings)
        elif kind not in LAYERS:
            self.problems.append(f"layer {_check.brief(name)} ({_check.brief(kind, str)})")
        else:
            self.check(settings)
            part, key = Part(settings, LAYERS[kind]), value.get("shared_object_id")
            if type(key) is int and self.shared.setdefault(key, part).settings.kind == kind:
                part.twin = self.shared[key] if self.shared[key] is not part else None
            return part
        return Part(settings)

    def check(self, s: Settings) -> None:
        """Note what of a layer is not read."""
        shown = f"layer {_check.brief(s.name)} ({_check.brief(s.kind, str)})"
        if (problem := activation.unread(s.get("activation"))) is not None:
            self.problems.append(f"{shown} with {problem}")
        if isinstance(s.get("dtype"), dict) and s.get("dtype").get("class_name") == "QuantizedDTypePolicy":
            self.problems.append(f"{shown}, which is quantized")
        elif s.get("quantization_config") is not None or "_from_" in policy(s.get("dtype")):
            self.problems.append(f"{shown}, which is quantized")

    def input(self, s: Settings) -> Part:
        if s.flag("sparse", False) or s.flag("ragged", False):
            self.problems.append(f"layer {_check.brief(s.name)} (InputLayer), which is sparse or ragged")
        shape = s.get("batch_shape", s.get("batch_input_shape", s.get("shape")))
        return Part(s, shape=_shape(s, shape))

    def model(self, s: Settings, config: dict[str, Any], depth: int) -> Part:
        values = [entry(value, f"a layer of {_check.brief(s.name)}") for value in config["layers"]]
        functional = s.kind != "Sequential"
        parts = []
        for i, value in enumerate(values):
            name = value.get("name") if functional else None
            parts.append(self.part(value, name if isinstance(name, str) else "", depth + 1))
            if not parts[-1].settings.name:
                parts[-1].settings.name = f"{parts[-1].settings.kind.lower()}_{i}"
        names = [part.settings.name for part in parts]
        if len(set(names)) != len(names):
            twice = next(name for i, name in enumerate(names) if name in names[:i])
            raise ValueError(f"two layers of {_check.brief(s.name)} have the name {_check.brief(twice)}")
        model = Part(s, parts=parts)
        if not functional:
            _chain(model)
        else:
            for part, value in zip(parts, values, strict=True):
                if part.layer or part.is_model or part.settings.kind == "InputLayer":
                    self.call(part, value)
        if self.problems:  # of which all are told, whatever else is wrong
            model.outputs = []
            return model
        if functional:
            _connect(model)
        self.problems += _heeding(model)
        return model

    def call(self, part: Part, value: dict[str, Any]) -> None:
        """How a layer of a functional model is called."""
        nodes = value.get("inbound_nodes", [])
        if not isinstance(nodes, list):
            raise part.settings.wrong(f"its inbound_nodes are no list, but {_check.brief(nodes)}")
        try:
            calls = [_call(part, node) for node in nodes if node]
        except ValueError as error:
            self.problems.append(str(error))
        else:
            part.calls = calls if part.settings.kind != "InputLayer" else []


def _shape(s: Settings, shape: Any) -> list[int | None] | None:
    if shape is None:
        return None
    if not isinstance(shape, list) or not 1 <= len(shape) <= 32:
        raise s.wrong(f"an input's shape must be a list of sizes, got {_check.brief(shape)}")
    for size in shape:
        if size is not None and (type(size) is not int or not 1 <= size <= _check.LARGEST_SIZE):
            raise s.wrong(f"an input's shape must be a list of sizes, got {_check.brief(shape)}")
    return shape


def _chain(model: Part) -> None:
    """The calls of a Sequential."""
    s = model.settings
    layers = [part for part in model.parts if part.shape is None and part.settings.kind != "InputLayer"]
    start = next((part for part in model.parts if part.settings.kind == "InputLayer"), None)
    if start is None:
        first = layers[0].settings if layers else s
        shape = first.get("batch_input_shape", s.get("build_input_shape"))
        if isinstance(first.get("input_shape"), list):
            shape = [None, *first.get("input_shape")]
        start = Part(Settings("input", "InputLayer", {}, s.major), shape=_shape(first, shape))
    if not layers:
        raise s.wrong("it has no layers")
    model.parts = [start, *layers]
    last = Ref(start.settings.name, 0, 0)
    model.inputs = last
    for part in layers:
        part.calls = [Call([last])]
        last = Ref(part.settings.name, 0, 0)
    model.outputs = last


def _connect(model: Part) -> None:
    """What the calls of a functional model refer to."""
    s = model.settings
    model.inputs, model.outputs = _refs(s, s.get("input_layers"), 0), _refs(s, s.get("output_layers"), 0)
    by_name = {part.settings.name: part for part in model.parts}
    everywhere = [*flat(model.inputs), *flat(model.outputs)]
    everywhere += [ref for part in model.parts for call in part.calls for ref in call.refs]
    # A model that was made with inputs of its own has a first call that files do not list, but count.
    counted = {
        name
        for name, part in by_name.items()
        if part.is_model and any(ref.layer == name and ref.call >= len(part.calls) for ref in everywhere)
    }

    def moved(value: Any) -> Any:
        if isinstance(value, Ref):
            return value._replace(call=value.call - 1) if value.layer in counted else value
        if isinstance(value, dict):
            return {key: moved(each) for key, each in value.items()}
        return [moved(each) for each in value]

    model.inputs, model.outputs = moved(model.inputs), moved(model.outputs)
    for part in model.parts:
        for call in part.calls:
            call.inputs = [moved(ref) if isinstance(ref, Ref) else ref for ref in call.inputs]
    for ref in [
        *flat(model.inputs),
        *flat(model.outputs),
        *(r for p in model.parts for c in p.calls for r in c.refs),
    ]:
        if ref.layer not in by_name:
            raise s.wrong(f"there is no layer {_check.brief(ref.layer)}, which another one refers to")
        named = by_name[ref.layer]
        most = 1 if named.settings.kind == "InputLayer" else len(named.calls)
        if not 0 <= ref.call < most:
            raise s.wrong(f"layer {_check.brief(ref.layer)} has no call number {ref.call}")
    for ref in flat(model.inputs):
        if by_name[ref.layer].settings.kind != "InputLayer":
            raise s.wrong(f"its input {_check.brief(ref.layer)} is no InputLayer")


def _heeding(model: Part) -> list[str]:
    """The layers that would compute something else where an Embedding's labels are 0."""
    by_name = {part.settings.name: part for part in model.parts}
    readers: dict[str, list[Part]] = {name: [] for name in by_name}
    for part in model.parts:
        for name in {ref.layer for call in part.calls for ref in call.refs}:
            readers[name].append(part)
    todo = [part for part in model.parts if any(_has_mask(leaf) for leaf in part.leaves())]
    reached: dict[str, Part] = {}
    while todo:
        for part in readers[todo.pop().settings.name]:
            if part.settings.name not in reached:
                reached[part.settings.name] = part
                if part.settings.kind in _MASKED:
                    todo.append(part)
    heeding = [part for part in reached.values() if any(leaf.settings.kind in _HEED for leaf in part.leaves())]
    return [
        f"layer {_check.brief(part.settings.name)} ({part.settings.kind}) behind an Embedding with mask_zero"
        for part in heeding
    ]


def _has_mask(part: Part) -> bool:
    return part.settings.kind == "Embedding" and part.settings.flag("mask_zero", False)


def _refs(s: Settings, value: Any, depth: int) -> Any:
    """What a config has as inputs or outputs."""
    if isinstance(value, list) and len(value) == 3 and isinstance(value[0], str):
        return _ref(s, value)
    if depth < 4 and isinstance(value, dict) and value:
        return {str(key): _refs(s, each, depth + 1) for key, each in value.items()}
    if depth < 4 and isinstance(value, list) and value:
        return [_refs(s, each, depth + 1) for each in value]
    raise s.wrong(f"its inputs and outputs must be named as lists of layers, got {_check.brief(value)}")


def _ref(s: Settings, value: Any) -> Ref:
    if not isinstance(value, list) or len(value) < 3 or not isinstance(value[0], str):
        raise s.wrong(f"what it is called with must be a layer's output, got {_check.brief(value)}")
    if any(type(n) is not int or not 0 <= n < 2**31 for n in value[1:3]):
        raise s.wrong(f"what it is called with must be a layer's output, got {_check.brief(value)}")
    return Ref(*value[:3])


def flat(value: Any) -> list[Ref]:
    """The references in nested lists and tables, tables by their sorted keys, as Keras does it."""
    if isinstance(value, Ref):
        return [value]
    if isinstance(value, dict):
        return [ref for key in sorted(value) for ref in flat(value[key])]
    return [ref for each in value for ref in flat(each)]


def _call(part: Part, node: Any) -> Call:
    """One of a layer's inbound nodes, as Keras 3 or 2 writes it."""
    s = part.settings
    if isinstance(node, dict):
        args, kwargs = node.get("args", []), node.get("kwargs", {})
        inputs = _tensors(s, args, 0)
        if (
            part.layer is not None
            and not part.layer.merges
            and (numbers := [n for n in inputs if not isinstance(n, Ref)])
        ):
            raise s.wrong(f"it is called with what is not read: {numbers[0]}")
    else:
        items = node if isinstance(node, list) and node and isinstance(node[0], list) else [node]
        inputs = [_ref(s, item) for item in items]
        kwargs = {}
        for item in items:
            extra = item[3] if len(item) > 3 else {}
            kwargs |= extra if isinstance(extra, dict) else {"arguments": extra}
    if not isinstance(kwargs, dict):
        raise s.wrong(f"the settings of its call are no table, but {_check.brief(kwargs)}")
    training = kwargs.pop("training", None)
    if isinstance(training, int) and training in (0, 1):
        training = bool(training)
    more = {key: value for key, value in kwargs.items() if value is not None}
    if more or not (training is None or isinstance(training, bool)):
        raise s.wrong(f"it is called with settings that are not read: {_check.some(more or ['training'])}")
    if not any(isinstance(ref, Ref) for ref in inputs):
        raise s.wrong("it is called without an input")
    # In Keras 3 `fit` and `predict` say the mode to all layers, whatever a call was made with.
    return Call(inputs, training if s.major < 3 else None)


def _tensors(s: Settings, value: Any, depth: int) -> list[Ref | float]:
    """The tensors and numbers that are the arguments of a call, as Keras 3 writes them."""
    if type(value) in (int, float) and abs(value) < 1e300:
        return [float(value)]
    if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
        config = value.get("config")
        return [_ref(s, config.get("keras_history") if isinstance(config, dict) else None)]
    if depth < 4 and isinstance(value, dict) and "class_name" not in value:
        return [ref for key in sorted(value) for ref in _tensors(s, value[key], depth + 1)]
    if depth < 4 and isinstance(value, list):
        return [ref for each in value for ref in _tensors(s, each, depth + 1)]
    raise s.wrong(f"it is called with what is not read: {_check.brief(value)}")


def bound(model: Part) -> int:
    """How many layers one call of a model calls; ValueError if that is more than are read."""
    total = 0
    for part in model.parts:
        total += (bound(part) if part.is_model else 1) * max(len(part.calls), 1)
        if total > _MOST_CALLS:
            raise model.settings.wrong(f"it calls more than {_MOST_CALLS} layers")
    return total
