"""load_caffe: a prototxt and its weights as a module."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fastnn import _check
from fastnn.files import named
from fastnn.graph import INPUT, Graph, Tensor, recording
from fastnn.interop.caffe.layers import DATA, KINDS, LEFT_OUT, Layer, SizesMissing
from fastnn.interop.caffe.proto import need_protobuf, net_parameter
from fastnn.interop.network import Network, Step, free_name, refusal
from fastnn.nn.module import Module

_LONGEST_TEXT = 1 << 21  # bytes of a prototxt: some seconds of parsing


def load_caffe(
    prototxt: str | os.PathLike[str],
    caffemodel: str | os.PathLike[str] | None = None,
    input_shape: Sequence[Any] | None = None,
) -> Network:
    """A network of Caffe's.

    It needs protobuf: ``pip install "fastnn[interop]"``. A prototxt for training serves as well as one for
    deployment: layers of data, losses and accuracies are left out, and of phases TEST is taken. What data layers do
    to images (scale, mean, crop, mirror) is not part of the module.

    Parameters
    ----------
    prototxt : path-like
        The layers, ``layer { type: "Convolution" ... }`` or in the older form ``layers { type: CONVOLUTION ... }``.
    caffemodel : path-like, optional
        Their weights. Without it they start as the fillers say.
    input_shape : tuple of int, or a list of such, optional
        Of the input, or of each in order, with the batch: for a network without weights whose prototxt says none, since
        data layers do not. It takes the place of what the prototxt says.

    Returns
    -------
    Network
        Its inputs are the prototxt's, or what its data layers make, in order; its outputs, what no layer that is kept
        reads: one as an array, several as a tuple. Parameters have the layers' names: ``conv1.weight``; those of rate
        0 (``lr_mult``) are not trained. It is in evaluation mode, and predicts as in Caffe; ``train()`` it before a
        TrainStep.

    Raises
    ------
    ImportError
        Without protobuf.
    OSError
        If a file is not there.
    ValueError
        If a file is damaged, or holds layers that cannot be read; the message names each.

    Examples
    --------
    >>> text = '''
    ... input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }
    ... layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
    ...         convolution_param { num_output: 4 kernel_size: 3 } }
    ... layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }'''
    >>> file = open("net.prototxt", "a").write(text)
    >>> net = fn.interop.load_caffe("net.prototxt")
    >>> net(np.zeros((2, 3, 8, 8), np.float32)).shape
    (2, 4, 6, 6)
    >>> sorted(net.state_dict())
    ['conv1.bias', 'conv1.weight']
    """
    need_protobuf("load_caffe")
    path = _check.path("prototxt", prototxt)
    net = _parsed_text(path)
    weights = None if caffemodel is None else _weights(_check.path("caffemodel", caffemodel))
    problems: list[str] = []
    lacks_sizes = False
    layers = [layer for layer in _layers(net, path) if layer.kind not in LEFT_OUT]
    # Data come from somewhere, whatever the phase and stage.
    kept = [layer for layer in layers if not layer.makes_data and _is_in(net.state, layer.message)]
    shapes = _inputs(net, layers, kept)
    if not kept:
        raise ValueError(f"{path}: there is no layer but of data and losses")
    if input_shape is not None:
        shapes = dict(zip(shapes, _given(input_shape, list(shapes)), strict=True))
    build = _Build(shapes, weights)
    for layer in kept:
        try:
            build.add(layer)
        except SizesMissing:
            lacks_sizes = True
            build.unknown(layer)
        except (ValueError, TypeError, IndexError) as error:
            text = _check.brief(str(error).partition("\n")[0], str)
            problems.append(f"{_check.brief(layer.name, str)} ({_check.brief(layer.kind, str)}): {text}")
            build.unknown(layer)
    if problems:
        where = path if caffemodel is None else f"{path} with {_check.path('caffemodel', caffemodel)}"
        raise refusal(where, problems)
    if lacks_sizes:
        raise ValueError(
            f"{path} does not say the sizes of its input, from which those of weights follow: give "
            "input_shape=(batch, channels, height, width), or the caffemodel"
        )
    left: dict[str, None] = {}  # what nobody has read since it was made
    for layer in kept:
        for bottom in layer.bottoms:
            left.pop(bottom, None)
        left.update(dict.fromkeys(layer.tops))
    network = Network(build.modules, build.steps, list(shapes), list(left))
    network.input_shapes = tuple(None if shape is None else (None, *shape[1:]) for shape in shapes.values())
    network.eval()
    return network


# ---- files ------------------------------------------------------------------------------------------


def _parsed_text(path: str) -> Any:
    from google.protobuf import text_format

    with named(path), open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size > _LONGEST_TEXT:
            raise ValueError(f"{path}: a prototxt has at most {_LONGEST_TEXT} bytes")
        data = file.read()
    net = net_parameter()()
    try:
        text_format.Parse(data.decode(), net, allow_unknown_field=True)
    except (text_format.ParseError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise ValueError(f"{path} is no prototxt: {_check.brief(str(error), str)}") from None
    return net


def _weights(path: str) -> dict[str, list[np.ndarray[Any, Any]]]:
    """The arrays of each layer that has some."""
    from google.protobuf.message import DecodeError

    net = net_parameter()()
    with named(path), open(path, "rb") as file:
        data = file.read()
    try:
        net.ParseFromString(data)
    except DecodeError as error:
        raise ValueError(f"{path} is no caffemodel: {_check.brief(str(error), str)}") from None
    found: dict[str, list[np.ndarray[Any, Any]]] = {}
    for layer in (*net.layer, *net.layers):
        if layer.blobs:
            try:
                found[layer.name] = [_array(blob) for blob in layer.blobs]
            except ValueError as error:
                raise ValueError(f"{path}: layer {_check.brief(layer.name)} {error}") from None
    if not net.layer and not net.layers:
        raise ValueError(f"{path} is no caffemodel: it holds no layers")
    return found


def _array(blob: Any) -> np.ndarray[Any, Any]:
    sizes = list(blob.shape.dim) if blob.HasField("shape") else [blob.num, blob.channels, blob.height, blob.width]
    singles = b"".join(blob.data)
    data, dtype = (singles, np.dtype("<f4")) if singles else (b"".join(blob.double_data), np.dtype("<f8"))
    values = None if len(data) % dtype.itemsize else np.frombuffer(data, dtype).astype(np.float32, copy=False)
    if values is None or len(sizes) > 32 or min(sizes, default=1) < 0 or math.prod(sizes) != values.size:
        count = "a part of a number" if values is None else values.size
        raise ValueError(f"has {count} in an array of the sizes {_check.brief(sizes)}")
    return values.reshape(sizes)


# ---- layers -----------------------------------------------------------------------------------------


def _layers(net: Any, path: str) -> list[Layer]:
    """All of them."""
    if net.layer and net.layers:
        raise ValueError(f"{path}: it has layers of the new form (layer) and of the old one (layers)")
    found = []
    for message in net.layer or net.layers:
        kind = message.type if net.layer else _kind_of(message.DESCRIPTOR.fields_by_name["type"].enum_type, message)
        found.append(Layer(message.name, kind, message))
    return found


def _kind_of(types: Any, message: Any) -> str:
    """SOFTMAX_LOSS and its like under their new names."""
    name = types.values_by_number[message.type].name
    if name == "SOFTMAX_LOSS":
        return "SoftmaxWithLoss"
    plain = name.replace("_", "").lower()
    return next((kind for kind in (*KINDS, *DATA, *LEFT_OUT) if kind.lower() == plain), name)


def _is_in(state: Any, message: Any) -> bool:
    if message.include:
        return any(_meets(state, rule) for rule in message.include)
    return not any(_meets(state, rule) for rule in message.exclude)


def _meets(state: Any, rule: Any) -> bool:
    if rule.HasField("phase") and rule.phase != 1:
        return False
    if rule.HasField("min_level") and state.level < rule.min_level:
        return False
    if rule.HasField("max_level") and state.level > rule.max_level:
        return False
    return set(rule.stage) <= set(state.stage) and not set(rule.not_stage) & set(state.stage)


def _inputs(net: Any, layers: list[Layer], kept: list[Layer]) -> dict[str, tuple[int, ...] | None]:
    """What comes from outside and is read, with its sizes where they are known."""
    found: dict[str, tuple[int, ...] | None] = {}
    sizes = [tuple(shape.dim) for shape in net.input_shape]
    sizes = sizes or [tuple(net.input_dim[i : i + 4]) for i in range(0, len(net.input_dim), 4)]
    for i, name in enumerate(net.input):
        found[name] = sizes[i] if i < len(sizes) else None
    for layer in layers:
        if layer.makes_data:
            shapes = (
                [tuple(shape.dim) for shape in layer.settings("input_param").shape] if layer.kind == "Input" else []
            )
            for i, top in enumerate(layer.tops):
                found.setdefault(top, shapes[min(i, len(shapes) - 1)] if shapes else None)
    read = {bottom for layer in kept for bottom in layer.bottoms}
    return {name: shape for name, shape in found.items() if name in read}


def _given(shapes: Sequence[Any], names: list[str]) -> list[tuple[int, ...]]:
    """The argument input_shape as a shape for each input."""
    listed = (
        list(shapes)
        if isinstance(shapes, (list, tuple)) and shapes and isinstance(shapes[0], (list, tuple))
        else [shapes]
    )
    if len(listed) != len(names):
        raise ValueError(
            f"input_shape must have a shape for each of the inputs {_check.some(names)}, got {len(listed)}"
        )
    return [tuple(_check.size("input_shape", size, 1) for size in shape) for shape in listed]


class _Build:
    """The network as far as its layers have been read."""

    def __init__(
        self, inputs: dict[str, tuple[int, ...] | None], weights: dict[str, list[np.ndarray[Any, Any]]] | None
    ) -> None:
        self.modules: dict[str, Module] = {}
        self.steps: list[Step] = []
        self._weights = weights
        self._shared: dict[str, Any] = {}
        #: Values that have been made: as symbols, by which sizes are found and checked, where these are known.
        self._values: dict[str, Tensor | None] = {}
        self._graph = Graph(training=False)
        self._inputs = inputs

    def add(self, layer: Layer) -> None:
        for name in layer.bottoms:
            if name in self._inputs and name not in self._values:
                shape = self._inputs[name]
                self._values[name] = None if shape is None else self._symbol(name, shape)
        lacking = [name for name in layer.bottoms if name not in self._values]
        if lacking:
            raise ValueError(f"it reads {_check.some(lacking)}, which no layer before it makes")
        if layer.kind not in KINDS:
            raise ValueError("this kind of layer is not known")
        make, counts = KINDS[layer.kind]
        if not layer.bottoms or (counts is not None and len(layer.bottoms) not in counts):
            raise ValueError(f"it has {len(layer.bottoms)} inputs")
        if len(layer.tops) != 1 and layer.kind not in ("Slice", "Split"):
            raise ValueError(f"it has {len(layer.tops)} outputs")
        tensors = [self._values[name] for name in layer.bottoms]
        layer.shapes = [None if tensor is None else tensor.shape for tensor in tensors]
        if self._weights is not None:
            layer.arrays = self._weights.get(layer.name, [])
        module = make(layer)
        self._share(layer, module)
        if all(tensor is not None for tensor in tensors):
            with recording(self._graph):
                result = module(*tensors)
        else:
            result = None
        results = result if isinstance(result, tuple) else (result,) * len(layer.tops)
        self._values.update(zip(layer.tops, results, strict=True))
        name = free_name(layer.name, self.modules)
        self.modules[name] = module
        self.steps.append(Step(name, layer.bottoms, layer.tops))

    def unknown(self, layer: Layer) -> None:
        """What a layer that cannot be read makes is there, but not known, for those behind it."""
        self._values.update(dict.fromkeys(layer.tops))

    def _symbol(self, name: str, shape: tuple[int, ...]) -> Tensor:
        if min(shape, default=0) < 1:
            raise ValueError(f"input {_check.brief(name)} has the sizes {_check.brief(shape)}")
        return self._graph.add(INPUT, (), name=name, shape=shape, dtype=np.dtype(np.float32), limit=0, ignore=-1).output

    def _share(self, layer: Layer, module: Module) -> None:
        """Parameters that have a name are one; those of rate 0 are not trained."""
        slots = [name for name, value in module._parameters.items() if value is not None]
        for slot, (name, is_fixed) in zip(slots, _specs(layer.message), strict=False):
            if is_fixed:
                module._parameters[slot].requires_grad = False
            if name and name in self._shared:
                if self._shared[name].shape != module._parameters[slot].shape:
                    raise ValueError(f"its parameter {_check.brief(name)} has another shape in another layer")
                module._parameters[slot] = self._shared[name]
            elif name:
                self._shared[name] = module._parameters[slot]


def _specs(message: Any) -> Iterator[tuple[str, bool]]:
    """Name and whether its rate is 0, of each parameter that the layer says something of."""
    if message.DESCRIPTOR.name == "LayerParameter":
        for spec in message.param:
            yield spec.name, spec.lr_mult == 0
    else:
        rates = list(message.blobs_lr)
        for i in range(max(len(rates), len(message.param))):
            name = message.param[i] if i < len(message.param) else ""
            yield name, i < len(rates) and rates[i] == 0
