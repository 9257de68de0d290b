"""Which layers of Caffe's a module, a function of Caffe's or a node of a graph is written as."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn import nn
from fastnn.graph import Node
from fastnn.interop.caffe import functions as f
from fastnn.interop.caffe.writer import Writer
from fastnn.ops.conv2d import padding_of

# ---- modules ----------------------------------------------------------------------------------------


def _numbers(parameter: Any) -> np.ndarray[Any, Any]:
    return np.asarray(parameter.data)


def _convolution(w: Writer, m: Any, name: str, x: Any, y: Any) -> None:
    sides = padding_of(m.padding, m.kernel_size, m.stride, m.dilation)
    transposed = isinstance(m, nn.ConvTranspose2d)
    if sides[0] != sides[1] or sides[2] != sides[3] or (transposed and any(m.output_padding)):
        raise ValueError("Caffe pads both sides by the same number, and outputs by none")
    if m.dilation[0] != m.dilation[1]:
        settings: dict[str, Any] = {"dilation": m.dilation}
    else:
        settings = {"dilation": [m.dilation[0]]} if m.dilation[0] != 1 else {}
    for key, (height, width) in (("kernel_size", m.kernel_size), ("stride", m.stride), ("pad", (sides[0], sides[2]))):
        usual = {"stride": 1, "pad": 0}.get(key)
        if (height, width) != (usual, usual):
            settings[key] = [height] if height == width else [height, width]
    settings |= {"num_output": m.out_channels, "bias_term": m.bias is not None}
    if m.groups != 1:
        settings["group"] = m.groups
    blobs = [_numbers(p) for p in (m.weight, m.bias) if p is not None]
    w.add("Deconvolution" if transposed else "Convolution", name, x, y, blobs, convolution_param=settings)


def _linear(w: Writer, m: Any, name: str, x: Any, y: Any) -> None:
    axis = m.axis if isinstance(m, f.InnerProduct) else x[0].ndim - 1
    settings = {"num_output": m.out_features, "bias_term": m.bias is not None} | ({"axis": axis} if axis != 1 else {})
    blobs = [_numbers(p) for p in (m.weight, m.bias) if p is not None]
    w.add("InnerProduct", name, x, y, blobs, inner_product_param=settings)


def _batch_norm(w: Writer, m: Any, name: str, x: Any, y: Any) -> None:
    settings: dict[str, Any] = {"eps": m.eps}
    blobs = [np.full(size, value, np.float32) for size, value in ((m.num_features, 0), (m.num_features, 1), (1, 1))]
    if m.track_running_stats:
        blobs[:2] = [_numbers(m.running_mean), _numbers(m.running_var)]
        settings["moving_average_fraction"] = 0.999 if m.momentum is None else 1 - m.momentum
        settings |= {"use_global_stats": True} if m._is_frozen else {}
    else:
        settings["use_global_stats"] = False
    if m.weight is None:
        w.add("BatchNorm", name, x, y, blobs, batch_norm_param=settings)
        return
    layer = w.add("BatchNorm", name, x, [None], blobs, batch_norm_param=settings)
    affine = [_numbers(m.weight), _numbers(m.bias)]
    w.add("Scale", f"{name}/scale", layer.top, y, affine, scale_param={"bias_term": True})


def _scale(w: Writer, m: Any, name: str, x: Any, y: Any) -> None:
    weight, bias = m.weight, m.bias
    if weight is None and bias is None:
        raise ValueError("it has neither weight nor bias")
    shape = (bias if weight is None else weight).shape
    settings = {"axis": m.axis, "num_axes": len(shape)}
    if weight is None:
        w.add("Bias", name, x, y, [_numbers(bias)], bias_param=settings)
    else:
        blobs = [_numbers(p) for p in (weight, bias) if p is not None]
        w.add("Scale", name, x, y, blobs, scale_param=settings | {"bias_term": bias is not None})


def _pool(w: Writer, name: str, x: Any, y: Any, s: dict[str, Any], maxima: bool, axes: Any = None) -> None:
    """Pooling by windows, whose sizes must be Caffe's or those of its round_mode FLOOR."""
    kernel, stride, padding = s["kernel"], s["stride"], s["padding"]
    spatial = [2, 3] if axes is None else [axes.index(2), axes.index(3)]
    sizes, wanted = ([t.shape[d] for d in spatial] for t in (x[0], y[0]))

    def rounded(up: bool) -> list[int]:
        found = []
        for i, size in enumerate(sizes):
            count = (size + 2 * padding[i] - kernel[i] + (stride[i] - 1 if up else 0)) // stride[i] + 1
            found.append(count - (any(padding) and (count - 1) * stride[i] >= size + padding[i]))
        return found

    settings: dict[str, Any] = {} if maxima else {"pool": 1}
    if rounded(True) != wanted:
        settings["round_mode"] = 1
        if rounded(False) != wanted:
            raise ValueError(f"Caffe has no pool from {tuple(sizes)} to {tuple(wanted)} pixels by these windows")
    for key, (height, width) in (("kernel", kernel), ("stride", stride), ("pad", padding)):
        if height == width:
            settings["kernel_size" if key == "kernel" else key] = height
        else:
            settings |= {f"{key}_h": height, f"{key}_w": width}
    w.add("Pooling", name, x, y, axes=axes, pooling_param=settings)


def _windows(w: Writer, m: Any, name: str, x: Any, y: Any) -> None:
    sides = padding_of(m.padding, m.kernel_size, m.stride, (1, 1))
    maxima = isinstance(m, nn.MaxPool2d)
    counts = maxima or m.count_include_pad or not any(sides)
    if not counts or getattr(m, "divisor_override", None) or sides[::2] != sides[1::2] or set(_dilation(m)) != {1}:
        raise ValueError("Caffe's pools have no dilation, one padding for both sides, and count it in means")
    _pool(w, name, x, y, dict(kernel=m.kernel_size, stride=m.stride, padding=sides[::2]), maxima)


def _dilation(m: Any) -> tuple[int, ...]:
    dilation = getattr(m, "dilation", 1)
    return dilation if isinstance(dilation, tuple) else (dilation,)


def _adaptive(w: Writer, m: Any, name: str, x: Any, y: Any) -> None:
    """The whole image, or windows that are all of one size."""
    maxima = isinstance(m, nn.AdaptiveMaxPool2d)
    sizes, wanted = x[0].shape[2:], y[0].shape[2:]
    if tuple(wanted) == (1, 1):
        w.add("Pooling", name, x, y, pooling_param={"pool": int(not maxima), "global_pooling": True})
        return
    if any(size % count for size, count in zip(sizes, wanted, strict=True)):
        raise ValueError(f"windows that cut {tuple(sizes)} pixels into {tuple(wanted)} parts are not all of one size")
    kernel = tuple(size // count for size, count in zip(sizes, wanted, strict=True))
    _pool(w, name, x, y, dict(kernel=kernel, stride=kernel, padding=(0, 0)), maxima)


def _flatten(w: Writer, m: Any, name: str, x: Any, y: Any) -> None:
    w.add("Flatten", name, x, y, flatten_param={"axis": m.start_dim, "end_axis": m.end_dim})


def _norm(w: Writer, m: Any, name: str, x: Any, y: Any) -> None:
    if m.size % 2 == 0:
        raise ValueError("Caffe's LRN has an odd number of channels")
    w.add("LRN", name, x, y, lrn_param=dict(local_size=m.size, alpha=m.alpha, beta=m.beta, k=m.k))


def _prelu(w: Writer, m: Any, name: str, x: Any, y: Any) -> None:
    shared = m.weight.size == 1
    blob = _numbers(m.weight).reshape(()) if shared else _numbers(m.weight)
    w.add("PReLU", name, x, y, [blob], prelu_param={"channel_shared": shared})


def _simple(kind: str, message: str = "", **names: str) -> Callable[..., None]:
    """A layer whose settings are attributes of the module, field=attribute."""

    def write(w: Writer, m: Any, name: str, x: Any, y: Any) -> None:
        layer = w.add(kind, name, x, y)
        w.set(layer, message, {key: getattr(m, a) for key, a in names.items()})

    return write


def _softplus(w: Writer, m: Any, name: str, x: Any, y: Any) -> None:
    if m.beta != 1:
        raise ValueError("Caffe's BNLL has a beta of 1")
    w.add("BNLL", name, x, y)


def _swish(w: Writer, m: Any, name: str, x: Any, y: Any) -> None:
    if not isinstance(m.beta, float):
        raise ValueError("Caffe's Swish has no beta that is trained")
    w.add("Swish", name, x, y, swish_param={"beta": m.beta})


def _log_softmax(w: Writer, m: Any, name: str, x: Any, y: Any) -> None:
    layer = w.add("Softmax", f"{name}/softmax", x, [None], softmax_param={"axis": m.dim})
    w.add("Log", name, layer.top, y)


LAYERS: dict[type[nn.Module], Callable[..., None]] = {
    nn.AdaptiveAvgPool2d: _adaptive,
    nn.AdaptiveMaxPool2d: _adaptive,
    nn.AvgPool2d: _windows,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.Conv2d: _convolution,
    nn.ConvTranspose2d: _convolution,
    nn.Dropout: _simple("Dropout", "dropout_param", dropout_ratio="p"),
    nn.ELU: _simple("ELU", "elu_param", alpha="alpha"),
    nn.Flatten: _flatten,
    nn.Hardtanh: _simple("Clip", "clip_param", min="min_val", max="max_val"),
    nn.LeakyReLU: _simple("ReLU", "relu_param", negative_slope="negative_slope"),
    nn.Linear: _linear,
    nn.LocalResponseNorm: _norm,
    nn.LogSoftmax: _log_softmax,
    nn.MaxPool2d: _windows,
    nn.PReLU: _prelu,
    nn.ReLU: _simple("ReLU"),
    nn.Sigmoid: _simple("Sigmoid"),
    nn.Softmax: _simple("Softmax", "softmax_param", axis="dim"),
    nn.Softplus: _softplus,
    nn.Swish: _swish,
    nn.Tanh: _simple("TanH"),
    f.BatchNorm: _batch_norm,
    f.InnerProduct: _linear,
    f.Scale: _scale,
}


def _applied(kind: str, message: str = "", **names: str) -> Callable[..., None]:
    """A function of Caffe's, whose settings it has itself, field=setting; those of None are left out."""

    def write(w: Writer, m: Any, name: str, x: Any, y: Any) -> None:
        table = {key: m.settings[s] for key, s in names.items() if s in m.settings}
        w.set(w.add(kind, name, x, y), message, table)

    return write


def _eltwise(operation: int) -> Callable[..., None]:
    def write(w: Writer, m: Any, name: str, x: Any, y: Any) -> None:
        coeff = m.settings.get("coeff", ())
        w.add("Eltwise", name, x, y, eltwise_param={"operation": operation, "coeff": coeff})

    return write


def _reshape(w: Writer, m: Any, name: str, x: Any, y: Any) -> None:
    layer = w.add("Reshape", name, x, y, reshape_param={"axis": m.settings["axis"], "num_axes": m.settings["num_axes"]})
    layer.reshape_param.shape.dim.extend(m.settings["shape"])


def _pooled(w: Writer, m: Any, name: str, x: Any, y: Any) -> None:
    s = m.settings
    _pool(w, name, x, y, dict(kernel=s["kernel"], stride=s["stride"], padding=(0, 0)), s["maxima"])


def _lrn_within(w: Writer, m: Any, name: str, x: Any, y: Any) -> None:
    s = m.settings
    table = dict(norm_region=1, local_size=s["size"], alpha=s["alpha"], beta=s["beta"])
    w.add("LRN", name, x, y, lrn_param=table)


_ARITHMETIC = dict(scale="scale", shift="shift")
FUNCTIONS: dict[Any, Callable[..., None]] = {
    f.absolute: _applied("AbsVal"),
    f.copied: _applied("Split"),
    f.cropped: _applied("Crop", "crop_param", axis="axis", offset="offsets"),
    f.eltwise_max: _eltwise(2),
    f.eltwise_prod: _eltwise(0),
    f.eltwise_sum: _eltwise(1),
    f.exponential: _applied("Exp", "exp_param", base="base", **_ARITHMETIC),
    f.joined: _applied("Concat", "concat_param", axis="axis"),
    f.logarithm: _applied("Log", "log_param", base="base", **_ARITHMETIC),
    f.lrn_within: _lrn_within,
    f.normalized: _applied(
        "MVN", "mvn_param", normalize_variance="variance", across_channels="across_channels", eps="eps"
    ),
    f.pooled: _pooled,
    f.power: _applied("Power", "power_param", power="power", **_ARITHMETIC),
    f.reshaped: _reshape,
    f.scaled: _applied("Scale", "scale_param", axis="axis"),
    f.shifted: _applied("Bias", "bias_param", axis="axis"),
    f.sliced: _applied("Slice", "slice_param", axis="axis", slice_point="points"),
    f.tiled: _applied("Tile", "tile_param", axis="axis", tiles="tiles"),
}

# ---- functions between modules, which may have channels last ----------------------------------------


def _elementwise(w: Writer, node: Node, kind: str, **settings: Any) -> None:
    x = [t for t in node.inputs if t.ndim]
    values = [w.value(t) for t in x]
    if any(value.axes != values[0].axes for value in values) or any(t.shape != node.output.shape for t in x):
        raise ValueError("Caffe combines tensors of one shape alone")
    w.add(kind, kind.lower(), x, [node.output], axes=values[0].axes, **settings)


def _activation(w: Writer, node: Node) -> None:
    kind, (a, _) = node.attrs["kind"], node.attrs["settings"]
    known: dict[str, tuple[str, dict[str, Any]]] = {
        "relu": ("ReLU", {}),
        "leaky_relu": ("ReLU", {"relu_param": {"negative_slope": a}}),
        "elu": ("ELU", {"elu_param": {"alpha": a}}),
        "sigmoid": ("Sigmoid", {}),
        "tanh": ("TanH", {}),
    }
    if kind not in known:
        raise ValueError(f"Caffe has no {kind}")
    _elementwise(w, node, known[kind][0], **known[kind][1])


def _unary(w: Writer, node: Node) -> None:
    kind, a, b = (node.attrs[key] for key in ("kind", "a", "b"))
    powers = {"square": 2.0, "sqrt": 0.5, "reciprocal": -1.0, "power": a}
    if kind in powers:
        _elementwise(w, node, "Power", power_param={"power": powers[kind]})
    elif kind == "affine":
        _elementwise(w, node, "Power", power_param={"scale": a, "shift": b})
    elif kind in ("abs", "exp", "log"):
        _elementwise(w, node, {"abs": "AbsVal", "exp": "Exp", "log": "Log"}[kind])
    else:
        raise ValueError(f"Caffe has no {kind}")


def _binary(w: Writer, node: Node) -> None:
    kind = node.attrs["kind"]
    table: dict[str, dict[str, Any]] = {
        "add": {"operation": 1},
        "sub": {"operation": 1, "coeff": [1.0, -1.0]},
        "mul": {"operation": 0},
        "maximum": {"operation": 2},
    }
    if kind not in table or any(not t.ndim for t in node.inputs):
        raise ValueError(f"Caffe has no {kind} of these")
    _elementwise(w, node, "Eltwise", eltwise_param=table[kind])


def _concat(w: Writer, node: Node) -> None:
    values = [w.value(t) for t in node.inputs]
    axes = values[0].axes
    if any(value.axes != axes for value in values):
        raise ValueError("it joins tensors with their axes in another order")
    w.add("Concat", "concat", node.inputs, [node.output], axes=axes, concat_param={"axis": axes[node.attrs["dim"]]})


def _reshaped(w: Writer, node: Node) -> None:
    x, y = node.inputs[0], node.output
    w.plain(x)
    if y.ndim < x.ndim and y.shape[:-1] == x.shape[: y.ndim - 1]:
        w.add("Flatten", "flatten", [x], [y], flatten_param={"axis": y.ndim - 1})
        return
    layer = w.add("Reshape", "reshape", [x], [y], reshape_param={})
    keeps = x.shape[:1] == y.shape[:1]
    layer.reshape_param.shape.dim.extend([0, *y.shape[1:]] if keeps else y.shape)


def _softmax(w: Writer, node: Node) -> None:
    """Over the last dimension."""
    axes = w.value(node.inputs[0]).axes
    settings = {"axis": axes[-1]}
    if not node.attrs["log"]:
        w.add("Softmax", "softmax", node.inputs, [node.output], axes=axes, softmax_param=settings)
        return
    layer = w.add("Softmax", "softmax", node.inputs, [None], axes=axes, softmax_param=settings)
    w.add("Log", "log_softmax", layer.top, [node.output], axes=axes)


def _pool_node(w: Writer, node: Node) -> None:
    s = node.attrs["settings"]
    stride, padding = (s["stride_h"], s["stride_w"]), (s["pad_top"], s["pad_left"])
    counts = s.get("count_include_pad", 1) or not any(padding)
    if {s["dilation_h"], s["dilation_w"]} != {1} or s.get("divisor") or not counts:
        raise ValueError("Caffe's pools have no dilation, and count padding in means")
    axes = w.value(node.inputs[0]).axes
    settings = dict(kernel=(s["kh"], s["kw"]), stride=stride, padding=padding)
    _pool(w, "pool", node.inputs[:1], [node.output], settings, node.op.name == "max_pool2d", axes)


NODES: dict[str, Callable[[Writer, Node], None]] = {
    "activation": _activation,
    "avg_pool2d": _pool_node,
    "binary": _binary,
    "concat": _concat,
    "max_pool2d": _pool_node,
    "reshape": _reshaped,
    "softmax": _softmax,
    "unary": _unary,
}
