"""One function a kind of Caffe's layers: from its message and its weights to a module."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastnn import _check, nn
from fastnn.interop.caffe import functions as f
from fastnn.interop.caffe.proto import net_parameter
from fastnn.interop.network import Apply, bare
from fastnn.nn import init
from fastnn.seed import generator

#: Parameters of a network that comes without a file of weights: 1 GiB of them.
MOST_PARAMETERS = 1 << 28

DATA = {"Data", "ImageData", "MemoryData", "HDF5Data", "WindowData", "DummyData", "Input"}
#: What a network is trained and judged by, and layers that make nothing.
LEFT_OUT = {
    "SoftmaxWithLoss", "EuclideanLoss", "HingeLoss", "SigmoidCrossEntropyLoss", "InfogainLoss", "Accuracy",
    "MultinomialLogisticLoss", "ContrastiveLoss", "Silence", "HDF5Output",
}  # fmt: skip


class SizesMissing(ValueError):
    """What a layer is follows from its input's sizes, and these are not known."""


class Layer:
    """A layer of a prototxt, of either form.

    Attributes
    ----------
    name, kind : str
    bottoms, tops : tuple of str
    message : LayerParameter or V1LayerParameter
    arrays : list of array, or None
        What the file of weights holds for it; None where there is no such file.
    shapes : list of tuple or None
        Of its bottoms, where they are known.
    """

    def __init__(self, name: str, kind: str, message: Any) -> None:
        self.name = name
        self.kind = kind
        self.bottoms = tuple(message.bottom)
        self.tops = tuple(message.top)
        self.message = message
        self.arrays: list[np.ndarray[Any, Any]] | None = None
        self.shapes: list[tuple[int, ...] | None] = []

    @property
    def makes_data(self) -> bool:
        """Whether it is one of the layers that data come from; in Python, too."""
        return self.kind in DATA or (self.kind == "Python" and not self.bottoms)

    def settings(self, field: str) -> Any:
        """One of its parameter messages; with its defaults where the old form has no such field."""
        if field in self.message.DESCRIPTOR.fields_by_name:
            return getattr(self.message, field)
        return getattr(net_parameter()().layer.add(), field)

    def array(self, i: int) -> np.ndarray[Any, Any] | None:
        """Its i-th array of weights; None where there is no file of them."""
        if self.arrays is None:
            return None
        if i >= len(self.arrays):
            raise ValueError("the caffemodel has no weights for it" if not self.arrays else f"it lacks weights {i + 1}")
        return self.arrays[i]

    def size(self, axis: int) -> int:
        """A size of its first bottom."""
        shape = self.shape()
        if not -len(shape) <= axis < len(shape):
            raise ValueError(f"its input of shape {shape} has no axis {axis}")
        return shape[axis]

    def shape(self) -> tuple[int, ...]:
        if self.shapes[0] is None:
            raise SizesMissing("its sizes follow from those of the input")
        return self.shapes[0]

    def new(self, kind: Any, *args: Any, **settings: Any) -> Any:
        """A module of this kind, with initial values where there is no file of weights."""
        return kind(*args, **settings) if self.arrays is None else bare(kind, *args, **settings)

    def put(self, parameter: Any, i: int, transposed: bool = False) -> None:
        """Give a parameter the values of its i-th array; older files have sizes of 1 before those that count."""
        array = self.array(i)
        if array is None:
            return
        array = array.reshape(array.shape[-2:]).T if transposed else array
        if _without_ones(array.shape) != _without_ones(parameter.shape) or array.size != parameter.size:
            raise ValueError(f"its weights {i + 1} have the shape {array.shape}; expected {parameter.shape}")
        parameter.data = array.reshape(parameter.shape)

    def fill(self, parameter: Any, settings: Any, field: str) -> None:
        """Initial values of a parameter that no file gives, where the prototxt says which."""
        if self.arrays is None and settings.HasField(field):
            _fill(parameter, getattr(settings, field))


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(shape[next((i for i, size in enumerate(shape) if size != 1), len(shape)) :])


def _fill(parameter: Any, filler: Any) -> None:
    shape, kind = parameter.shape, filler.type
    fans = [parameter.size / shape[0], parameter.size / shape[1] if len(shape) > 1 else parameter.size]
    count = (fans[0], fans[1], sum(fans) / 2)[filler.variance_norm]
    if kind == "constant":
        init.constant_(parameter, filler.value)
    elif kind == "uniform":
        init.uniform_(parameter, filler.min, filler.max)
    elif kind == "gaussian":
        init.normal_(parameter, filler.mean, filler.std)
        if filler.sparse >= 0:  # so many weights of each input are not 0, on average
            parameter.data = parameter.data * (generator().random(shape) < filler.sparse / shape[0])
    elif kind == "positive_unitball":
        values = generator().random(shape).reshape(shape[0], -1)
        parameter.data = (values / values.sum(1, keepdims=True)).reshape(shape)
    elif kind == "xavier":
        init.uniform_(parameter, -math.sqrt(3 / count), math.sqrt(3 / count))
    elif kind == "msra":
        init.normal_(parameter, 0.0, math.sqrt(2 / count))
    elif kind == "bilinear" and len(shape) == 4:
        sides = []
        for size in shape[2:]:
            half = math.ceil(size / 2)
            sides.append(1 - np.abs(np.arange(size) / half - (size - 1) / (2 * half)))
        parameter.data = np.broadcast_to(np.outer(*sides), shape).astype(np.float32)
    else:
        raise ValueError(f"its filler {_check.brief(kind)} is not known")


def _afford(*sizes: int) -> None:
    count = math.prod(sizes)
    if min(sizes) < 1 or count > MOST_PARAMETERS:
        raise ValueError(f"weights of the sizes {_check.brief(sizes)} are not made without a file that holds them")


def _pair(settings: Any, name: str, default: int | None) -> tuple[int, int]:
    """A size for height and width: once, twice, or as name_h and name_w."""
    stem = name.removesuffix("_size")
    given = getattr(settings, name)
    values = list(given) if not isinstance(given, int) else [given] * settings.HasField(name)
    if stem != "dilation" and (settings.HasField(f"{stem}_h") or settings.HasField(f"{stem}_w")):
        values = [getattr(settings, f"{stem}_h"), getattr(settings, f"{stem}_w")]
    if not values and default is not None:
        values = [default]
    if len(values) not in (1, 2):
        raise ValueError(f"{name} is given for {len(values)} dimensions; images have 2")
    return values[0], values[-1]


def _convolution(layer: Layer) -> nn.Module:
    p = layer.settings("convolution_param")
    if p.axis != 1:
        raise ValueError(f"its axis is {p.axis}; channels are read from axis 1")
    transposed = layer.kind == "Deconvolution"
    kernel, stride = _pair(p, "kernel_size", None), _pair(p, "stride", 1)
    padding, dilation = _pair(p, "pad", 0), _pair(p, "dilation", 1)
    out, groups = _check.size("num_output", p.num_output, 1), _check.size("group", p.group, 1)
    weight = layer.array(0)
    if weight is None:
        channels = layer.size(1)
        _afford(out, channels, *kernel)
    else:
        if weight.ndim != 4:
            raise ValueError(f"its weights have the shape {weight.shape}; expected 4 dimensions")
        channels = weight.shape[0] if transposed else weight.shape[1] * groups
        shape = (channels, out // groups, *kernel) if transposed else (out, channels // groups, *kernel)
        if weight.shape != shape:
            raise ValueError(f"its weights have the shape {weight.shape}; expected {shape}")
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    module = layer.new(kind, channels, out, kernel, stride, padding, dilation=dilation, groups=groups, bias=p.bias_term)
    return _filled(layer, module, p)


def _filled(layer: Layer, module: Any, p: Any, transposed: bool = False) -> nn.Module:
    layer.put(module.weight, 0, transposed)
    layer.fill(module.weight, p, "weight_filler")
    if module.bias is not None:
        layer.put(module.bias, 1)
        layer.fill(module.bias, p, "bias_filler")
    return module  # type: ignore[no-any-return]


def _inner_product(layer: Layer) -> nn.Module:
    p = layer.settings("inner_product_param")
    out = _check.size("num_output", p.num_output, 1)
    weight = layer.array(0)
    if weight is None:
        layer.size(p.axis)
        features = math.prod(layer.shape()[p.axis :])
        _afford(out, features)
    else:
        features = weight.size // out
        if weight.size != out * features or not features:
            raise ValueError(f"its weights have the shape {weight.shape}, and num_output is {out}")
    return _filled(layer, layer.new(f.InnerProduct, features, out, p.bias_term, p.axis), p, p.transpose)


def _pooling(layer: Layer) -> nn.Module:
    p = layer.settings("pooling_param")
    if p.pool > 1:
        raise ValueError("stochastic pooling is not known")
    maxima, floor = p.pool == 0, p.round_mode == 1
    if p.global_pooling:
        return nn.AdaptiveMaxPool2d(1) if maxima else nn.AdaptiveAvgPool2d(1)
    kernel, stride, padding = _pair(p, "kernel_size", None), _pair(p, "stride", 1), _pair(p, "pad", 0)
    if any(2 * side > size for side, size in zip(padding, kernel, strict=True)):
        raise ValueError(f"its padding {padding} is more than half of its kernel {kernel}")
    if not any(padding) and any(s > k for s, k in zip(stride, kernel, strict=True)):
        return Apply(f.pooled, maxima=maxima, kernel=kernel, stride=stride, floor=floor)
    return (nn.MaxPool2d if maxima else nn.AvgPool2d)(kernel, stride, padding, ceil_mode=not floor)


def _lrn(layer: Layer) -> nn.Module:
    p = layer.settings("lrn_param")
    size = _check.size("local_size", p.local_size, 1)
    if size % 2 == 0:
        raise ValueError(f"local_size must be odd, got {size}")
    if p.norm_region == 1:
        return Apply(f.lrn_within, size=size, alpha=_number("alpha", p.alpha), beta=_number("beta", p.beta))
    return nn.LocalResponseNorm(size, _number("alpha", p.alpha), _number("beta", p.beta), _number("k", p.k))


def _number(name: str, value: float) -> float:
    """A setting, which files hold in single precision, by the digits that somebody wrote."""
    return _check.real(name, float(f"{value:.7g}"))


def _batch_norm(layer: Layer) -> nn.Module:
    p = layer.settings("batch_norm_param")
    mean = layer.array(0)
    channels = layer.size(1) if mean is None else mean.size
    batch_alone = p.HasField("use_global_stats") and not p.use_global_stats
    fraction = 1 - _number("moving_average_fraction", p.moving_average_fraction)
    module = f.BatchNorm(channels, _number("eps", p.eps), fraction, False, not batch_alone)
    if p.use_global_stats:  # in training, too
        object.__setattr__(module, "_is_frozen", True)
        module.training = False
    if mean is not None and not batch_alone:
        layer.put(module.running_mean, 0)
        layer.put(module.running_var, 1)
        factor = np.asarray(layer.array(2)).reshape(-1)
        if factor.size != 1:
            raise ValueError(f"its third array has {factor.size} numbers; expected one, by which the sums are divided")
        if factor[0] != 0:
            module.running_mean.data = module.running_mean.data / factor[0]
            module.running_var.data = module.running_var.data / factor[0]
    return module


def _scale(layer: Layer) -> nn.Module:
    is_scale = layer.kind == "Scale"
    p = layer.settings("scale_param" if is_scale else "bias_param")
    if len(layer.bottoms) == 2:
        if is_scale and p.bias_term:
            raise ValueError("a Scale of two inputs with a bias is not known")
        return Apply(f.scaled if is_scale else f.shifted, axis=p.axis)
    array = layer.array(0)
    if array is None:
        layer.size(p.axis)
        shape = layer.shape()[p.axis :]
        shape = shape if p.num_axes == -1 else shape[: p.num_axes]
        _afford(*shape, 1)
    else:
        shape = array.shape
        while len(shape) > p.num_axes >= 0 and shape[0] == 1:  # older files give four sizes
            shape = shape[1:]
        if p.num_axes >= 0 and len(shape) != p.num_axes:
            raise ValueError(f"its weights have the shape {array.shape}; expected {p.num_axes} dimension(s)")
    module = f.Scale(shape, p.axis, is_scale, not is_scale or p.bias_term)
    if is_scale:
        layer.put(module.weight, 0)
        layer.fill(module.weight, p, "filler")
    if module.bias is not None:
        layer.put(module.bias, int(is_scale))
        layer.fill(module.bias, p, "bias_filler" if is_scale else "filler")
    return module


def _prelu(layer: Layer) -> nn.Module:
    p = layer.settings("prelu_param")
    slope = layer.array(0)
    module = nn.PReLU(1 if p.channel_shared else layer.size(1) if slope is None else max(slope.size, 1))
    layer.put(module.weight, 0)
    layer.fill(module.weight, p, "filler")
    return module


def _relu(layer: Layer) -> nn.Module:
    slope = layer.settings("relu_param").negative_slope
    return nn.LeakyReLU(_number("negative_slope", slope)) if slope else nn.ReLU()


def _eltwise(layer: Layer) -> nn.Module:
    p = layer.settings("eltwise_param")
    if p.operation != 1:
        return Apply(f.eltwise_prod if p.operation == 0 else f.eltwise_max)
    coeff = tuple(_number("coeff", value) for value in p.coeff)
    if coeff and len(coeff) != len(layer.bottoms):
        raise ValueError(f"{len(layer.bottoms)} inputs have {len(coeff)} coefficients")
    return Apply(f.eltwise_sum, coeff=coeff) if coeff else Apply(f.eltwise_sum)


def _axis(settings: Any, older: str) -> int:
    """The axis, which older files call otherwise."""
    return int(getattr(settings, older) if settings.HasField(older) else settings.axis)


def _slice(layer: Layer) -> nn.Module:
    p = layer.settings("slice_param")
    count = len(layer.tops)
    return Apply(f.sliced, axis=_axis(p, "slice_dim"), points=tuple(p.slice_point), count=count)


def _reshape(layer: Layer) -> nn.Module:
    p = layer.settings("reshape_param")
    sizes = tuple(_check.integer("dim", size, -1) for size in p.shape.dim)
    return Apply(f.reshaped, shape=sizes, axis=p.axis, num_axes=_check.integer("num_axes", p.num_axes, -1))


def _arithmetic(field: str, function: Callable[..., Any], *names: str) -> Callable[[Layer], nn.Module]:
    def make(layer: Layer) -> nn.Module:
        p = layer.settings(field)
        settings = {name: _number(name, getattr(p, name)) for name in names}
        base = settings.get("base", -1)
        if base != -1 and (base <= 0 or (base == 1 and field == "log_param")):
            raise ValueError(f"its base is {base:g}")
        return Apply(function, **settings)

    return make


def _mvn(layer: Layer) -> nn.Module:
    p = layer.settings("mvn_param")
    eps = _number("eps", p.eps)
    return Apply(f.normalized, variance=p.normalize_variance, across_channels=p.across_channels, eps=eps)


def _crop(layer: Layer) -> nn.Module:
    p = layer.settings("crop_param")
    return Apply(f.cropped, axis=p.axis, offsets=tuple(p.offset))


def _tile(layer: Layer) -> nn.Module:
    p = layer.settings("tile_param")
    return Apply(f.tiled, axis=p.axis, tiles=_check.integer("tiles", p.tiles, 1, 1000))


def _clip(layer: Layer) -> nn.Module:
    p = layer.settings("clip_param")
    return nn.Hardtanh(_number("min", p.min), _number("max", p.max))


#: Functions, and how many inputs they take (None: one or more).
KINDS: dict[str, tuple[Callable[[Layer], nn.Module], Sequence[int] | None]] = {
    "AbsVal": (lambda layer: Apply(f.absolute), (1,)),
    "BNLL": (lambda layer: nn.Softplus(), (1,)),
    "BatchNorm": (_batch_norm, (1,)),
    "Bias": (_scale, (1, 2)),
    "Clip": (_clip, (1,)),
    "Concat": (lambda layer: Apply(f.joined, axis=_axis(layer.settings("concat_param"), "concat_dim")), None),
    "Convolution": (_convolution, (1,)),
    "Crop": (_crop, (2,)),
    "Deconvolution": (_convolution, (1,)),
    "Dropout": (lambda layer: nn.Dropout(_number("p", layer.settings("dropout_param").dropout_ratio)), (1,)),
    "ELU": (lambda layer: nn.ELU(_number("alpha", layer.settings("elu_param").alpha)), (1,)),
    "Eltwise": (_eltwise, None),
    "Exp": (_arithmetic("exp_param", f.exponential, "base", "scale", "shift"), (1,)),
    "Flatten": (
        lambda layer: nn.Flatten(layer.settings("flatten_param").axis, layer.settings("flatten_param").end_axis),
        (1,),
    ),
    "InnerProduct": (_inner_product, (1,)),
    "LRN": (_lrn, (1,)),
    "Log": (_arithmetic("log_param", f.logarithm, "base", "scale", "shift"), (1,)),
    "MVN": (_mvn, (1,)),
    "PReLU": (_prelu, (1,)),
    "Pooling": (_pooling, (1,)),
    "Power": (_arithmetic("power_param", f.power, "power", "scale", "shift"), (1,)),
    "ReLU": (_relu, (1,)),
    "Reshape": (_reshape, (1,)),
    "Scale": (_scale, (1, 2)),
    "Sigmoid": (lambda layer: nn.Sigmoid(), (1,)),
    "Slice": (_slice, (1,)),
    "Softmax": (lambda layer: nn.Softmax(layer.settings("softmax_param").axis), (1,)),
    "Split": (lambda layer: Apply(f.copied, count=len(layer.tops)), (1,)),
    "Swish": (lambda layer: nn.Swish(_number("beta", layer.settings("swish_param").beta)), (1,)),
    "TanH": (lambda layer: nn.Tanh(), (1,)),
    "Tile": (_tile, (1,)),
}
