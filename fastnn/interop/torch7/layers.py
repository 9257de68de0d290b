"""One entry a class of Torch7's layers: from its fields to a module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn import _check, nn
from fastnn.interop.network import Apply, bare
from fastnn.interop.torch7 import functions as f
from fastnn.interop.torch7.file import Object, Storage, Table, Tensor


class Fields:
    """What an object holds, by name; ValueError where that is not what a layer needs."""

    def __init__(self, thing: Object, shared: dict[Any, nn.Parameter]) -> None:
        self.kind = thing.kind
        self._fields = thing.fields
        self._shared = shared

    def get(self, name: str) -> Any:
        return self._fields.get(name)

    def integer(self, name: str, default: int | None = None, minimum: int | None = None) -> int:
        value = self._fields.get(name, default)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        return _check.integer(name, value, minimum)

    def optional(self, name: str) -> int | None:
        return None if self.get(name) is None else self.integer(name)

    def real(self, name: str, default: float | None = None) -> float:
        return _check.real(name, self._fields.get(name, default))

    def flag(self, name: str) -> bool:
        """As Lua has it: what is missing is false."""
        return self.get(name) not in (None, False)

    def sizes(self, name: str) -> tuple[int, ...]:
        value = self.get(name)
        if not isinstance(value, Storage) or value.numbers.dtype.kind not in "iu" or value.numbers.size > 32:
            raise ValueError(f"its {name} is no storage of sizes")
        return tuple(int(size) for size in value.numbers)

    def array(self, name: str) -> np.ndarray[Any, Any] | None:
        """A tensor; None where there is none, or an empty one."""
        value = self.get(name)
        if value is None:
            return None
        if not isinstance(value, Tensor):
            raise ValueError(f"its {name} is no tensor")
        array = value.array()
        return array if array.size else None

    def needed(self, name: str, *dims: int) -> np.ndarray[Any, Any]:
        array = self.array(name)
        if array is None or (dims and array.ndim not in dims):
            got = "none" if array is None else f"one of shape {array.shape}"
            raise ValueError(
                f"its {name} must be a tensor of {' or '.join(map(str, dims))} dimensions, and it has {got}"
            )
        return array

    def put(self, module: Any, slot: str, array: np.ndarray[Any, Any], name: str | None = None) -> None:
        """Give a module's parameter values, or make it the one that another layer's tensor in this place became."""
        parameter = getattr(module, slot)
        if array.shape != parameter.shape:
            raise ValueError(f"its {name or slot} has the shape {array.shape}; expected {parameter.shape}")
        parameter.data = array
        self.share(module, slot, name)

    def share(self, module: Any, slot: str, name: str | None = None) -> None:
        tensor = self.get(name or slot)
        key = (id(tensor.storage), tensor.offset, tensor.sizes, tensor.strides, getattr(module, slot).shape)
        setattr(module, slot, self._shared.setdefault(key, getattr(module, slot)))


def with_weights(fields: Fields, module: nn.Module, weight: np.ndarray[Any, Any]) -> nn.Module:
    fields.put(module, "weight", weight)
    if module.bias is not None:
        fields.put(module, "bias", fields.needed("bias", 1))
    return module


def _linear(o: Fields) -> nn.Module:
    weight = o.needed("weight", 2)
    return with_weights(o, bare(nn.Linear, weight.shape[1], weight.shape[0], o.array("bias") is not None), weight)


def _geometry(o: Fields, stride: str = "d", padding: str = "pad") -> tuple[tuple[int, int], ...]:
    """Kernel, stride and padding, each of height and width."""
    older = o.integer("padding", 0)
    names = [("kH", "kW"), (f"{stride}H", f"{stride}W"), (f"{padding}H", f"{padding}W")]
    defaults = (None, 1, older)
    pairs = [(o.integer(h, d), o.integer(w, d)) for (h, w), d in zip(names, defaults, strict=True)]
    return tuple(pairs)


def _convolution(o: Fields) -> nn.Module:
    kernel, stride, padding = _geometry(o)
    inputs, outputs = o.integer("nInputPlane", None, 1), o.integer("nOutputPlane", None, 1)
    groups = o.integer("groups", 1, 1)
    dilation = (o.integer("dilationH", 1), o.integer("dilationW", 1))
    weight = o.needed("weight", 2, 4)
    full = "Full" in o.kind
    if o.flag("groups") and inputs % groups:
        raise ValueError(f"{inputs} channels are no multiple of {groups} groups")
    shape = (inputs, outputs // groups, *kernel) if full else (outputs, inputs // groups, *kernel)
    if min(kernel) < 1 or weight.size != _check.size("a weight's size", int(np.prod(shape, dtype=object)), 1):
        raise ValueError(f"its weight has the shape {weight.shape}; expected {shape}")
    bias = o.array("bias") is not None
    settings: dict[str, Any] = dict(dilation=dilation, groups=groups, bias=bias)
    if full:
        settings["output_padding"] = (o.integer("adjH", 0), o.integer("adjW", 0))
    kind = nn.ConvTranspose2d if full else nn.Conv2d
    return with_weights(o, bare(kind, inputs, outputs, kernel, stride, padding, **settings), weight.reshape(shape))


def _temporal_convolution(o: Fields) -> nn.Module:
    weight = o.needed("weight", 2)
    inputs, size, outputs = o.integer("inputFrameSize", None, 1), o.integer("kW", None, 1), weight.shape[0]
    if weight.shape[1] != inputs * size:
        raise ValueError(f"its weight has the shape {weight.shape}; expected ({outputs}, {inputs * size})")
    module = bare(f.TemporalConvolution, inputs, outputs, size, o.integer("dW", 1))
    return with_weights(o, module, weight.reshape(outputs, size, inputs).transpose(0, 2, 1))


def _max_pooling(o: Fields) -> nn.Module:
    kernel, stride, padding = _geometry(o)
    dilation = (o.integer("dilationH", 1), o.integer("dilationW", 1))
    return nn.MaxPool2d(kernel, stride, padding, dilation, o.flag("ceil_mode"))


def _average_pooling(o: Fields) -> nn.Module:
    kernel, stride, padding = _geometry(o)
    older = o.get("ceil_mode") is None and o.kind.startswith("nn.")
    padding = (0, 0) if older else padding
    include = True if o.get("count_include_pad") is None else o.flag("count_include_pad")
    if o.kind.startswith("nn.") and not o.flag("divide"):
        settings: dict[str, Any] = dict(kernel=kernel, stride=stride, padding=padding, include=include)
        return Apply(f.summed_windows, ceil_mode=o.flag("ceil_mode"), **settings)
    return nn.AvgPool2d(kernel, stride, padding, o.flag("ceil_mode"), include)


def _adaptive(o: Fields) -> nn.Module:
    kind = nn.AdaptiveMaxPool2d if "Max" in o.kind else nn.AdaptiveAvgPool2d
    return kind((o.integer("H", None, 1), o.integer("W", None, 1)))


def _batch_norm(o: Fields) -> nn.Module:
    mean, eps = o.needed("running_mean", 1), o.real("eps", 1e-5)
    kind = nn.BatchNorm2d if "Spatial" in o.kind else nn.BatchNorm1d
    affine = o.array("weight") is not None
    module = kind(mean.size, eps, o.real("momentum", 0.1), affine)
    module.running_mean.data = mean
    var = o.array("running_var")
    if var is None:  # older files have 1 / sqrt(var + eps)
        var = o.needed("running_std", 1).astype(np.float64) ** -2.0 - eps
    if var.shape != mean.shape:
        raise ValueError(f"its variances have the shape {var.shape}; expected {mean.shape}")
    module.running_var.data = var
    return with_weights(o, module, o.needed("weight", 1)) if affine else module


def _lookup(o: Fields) -> nn.Module:
    weight = o.needed("weight", 2)
    if o.flag("maxNorm"):
        raise ValueError("a table whose rows are made shorter as they are read (maxNorm) is not known")
    padding = o.integer("paddingValue", 0)
    module = bare(f.LookupTable, weight.shape[0], weight.shape[1], padding - 1 if padding > 0 else None)
    o.put(module, "weight", weight)
    return module


def _prelu(o: Fields) -> nn.Module:
    weight = o.needed("weight", 1)
    module = nn.PReLU(weight.size)
    o.put(module, "weight", weight)
    return module


def _factor(o: Fields) -> nn.Module:
    weight = None if o.kind in ("nn.Add", "nn.CAdd") else o.needed("weight")
    bias = o.needed("bias") if o.kind in ("nn.Add", "nn.CAdd") else None
    module = f.Factor(*(None if a is None else a.astype(np.float32) for a in (weight, bias)))
    o.share(module, "bias" if weight is None else "weight")
    return module


def _dropout(o: Fields) -> nn.Module:
    p = _check.real("p", o.get("p"), 0, 1)
    spatial = o.kind.endswith("SpatialDropout")
    if o.flag("stochastic_inference"):
        raise ValueError("dropout that goes on in evaluation is not known")
    drop = nn.Dropout2d(p) if spatial else nn.Dropout(p)
    # The older kind divides by nothing in training, and multiplies by 1 - p afterwards.
    return drop if o.flag("v2") and not spatial else nn.Sequential(Apply(f.scaled, constant=1 - p), drop)


def _lrn(o: Fields) -> nn.Module:
    return nn.LocalResponseNorm(
        o.integer("size", 5, 1), o.real("alpha", 1e-4), o.real("beta", 0.75), o.real("k", o.real("K", 1.0))
    )


def _padding(o: Fields) -> nn.Module:
    if o.integer("index", 1) != 1 or o.real("value", 0.0) != 0:
        raise ValueError("padding with other numbers than 0, or within a dimension, is not known")
    inputs = o.optional("nInputDim")
    return Apply(f.padded, dimension=o.integer("dim"), pad=o.integer("pad"), inputs=inputs)


def _frame(o: Fields) -> nn.Module:
    sides = [o.integer(f"pad_{side}", o.optional("pad_l")) for side in "lrtb"]
    if o.kind.endswith("SpatialZeroPadding"):
        return Apply(f.framed, **dict(zip(("left", "right", "top", "bottom"), sides, strict=True)))
    left, right, top, bottom = sides
    kind = nn.ReflectionPad2d if "Reflection" in o.kind else nn.ReplicationPad2d
    return kind((left, right, top, bottom))


def _upsampling(o: Fields) -> nn.Module:
    return nn.Upsample(scale_factor=o.integer("scale_factor", None, 1))


def _bilinear(o: Fields) -> nn.Module:
    sides = [o.optional(name) for name in ("scale_factor", "oheight", "owidth")]
    if not sides[0] and None in sides[1:]:
        raise ValueError("it has neither a scale_factor nor a size")
    return Apply(f.resized, **dict(zip(("scale", "height", "width"), sides, strict=True)))


def _view(o: Fields) -> nn.Module:
    size = o.sizes("size")
    if size.count(-1) > 1 or min(size, default=0) < -1 or 0 in size:
        raise ValueError(f"its size is {_check.brief(size)}")
    return Apply(f.viewed, size=size, inputs=o.optional("numInputDims"))


def _reshape(o: Fields) -> nn.Module:
    size, batch = o.sizes("size"), o.get("batchMode")
    if min(size, default=0) < 1:
        raise ValueError(f"its size is {_check.brief(size)}")
    return Apply(f.reshaped, size=size, batch=None if batch is None else bool(batch))


def _transpose(o: Fields) -> nn.Module:
    swaps = o.get("permutations")
    pairs = [pair.items_in_order() for pair in swaps.items_in_order()] if isinstance(swaps, Table) else [[]]
    if any(len(pair) != 2 or any(type(d) is not float for d in pair) for pair in pairs):
        raise ValueError("its permutations are no pairs of dimensions")
    inputs = o.optional("numInputDims")
    return Apply(f.transposed, swaps=tuple((int(a), int(b)) for a, b in pairs), inputs=inputs)


def _reduction(o: Fields) -> nn.Module:
    kind = o.kind.removeprefix("nn.")
    kind = "Mean" if kind == "Sum" and o.flag("sizeAverage") else kind
    squeeze = True if o.get("squeeze") is None else o.flag("squeeze")
    inputs = o.optional("nInputDims")
    return Apply(f.reduced, kind=kind, dimension=o.integer("dimension", 1), inputs=inputs, squeeze=squeeze)


def _apply(function: Callable[..., Any], **names: tuple[Any, ...]) -> Callable[[Fields], nn.Module]:
    """An Apply whose settings are read by methods of Fields: setting=(method, field, default, ...)."""

    def make(o: Fields) -> nn.Module:
        return Apply(function, **{name: how[0](o, *how[1:]) for name, how in names.items()})

    return make


_int, _real, _any, _flag = Fields.integer, Fields.real, Fields.optional, Fields.flag
_same = _apply(f.itself)


def _fixed(function: Callable[..., Any], **settings: Any) -> Callable[[Fields], nn.Module]:
    return lambda o: Apply(function, **settings)


#: By the class's name behind nn. and cudnn.; containers stand in read.py, as they know each other.
KINDS: dict[str, Callable[[Fields], nn.Module]] = {
    "Abs": _fixed(f.absolute),
    "Add": _factor,
    "AddConstant": _apply(f.added, constant=(_real, "constant_scalar")),
    "BatchNormalization": _batch_norm,
    "CAdd": _factor,
    "CAddTable": _fixed(f.total),
    "CDivTable": _fixed(f.quotient),
    "CMaxTable": _fixed(f.largest),
    "CMinTable": _fixed(f.smallest),
    "CMul": _factor,
    "CMulTable": _fixed(f.product),
    "CSubTable": _fixed(f.difference),
    "Clamp": lambda o: nn.Hardtanh(o.real("min_val"), o.real("max_val")),
    "Contiguous": _same,
    "Copy": _same,
    "Dropout": _dropout,
    "ELU": lambda o: nn.ELU(o.real("alpha", 1.0)),
    "Exp": _fixed(f.exponential),
    "FlattenTable": _fixed(f.flat),
    "HardShrink": lambda o: nn.Hardshrink(o.real("lambda", 0.5)),
    "HardTanh": lambda o: nn.Hardtanh(o.real("min_val", -1.0), o.real("max_val", 1.0)),
    "Identity": _same,
    "JoinTable": _apply(f.joined, dimension=(_int, "dimension"), inputs_dims=(_any, "nInputDims")),
    "LeakyReLU": lambda o: nn.LeakyReLU(o.real("negval", 0.01)),
    "Linear": _linear,
    "Log": _fixed(f.logarithm),
    "LogSigmoid": lambda o: nn.LogSigmoid(),
    "LogSoftMax": _fixed(f.softmax, log=True),
    "LookupTable": _lookup,
    "MM": _apply(f.matrix_product, left=(_flag, "transA"), right=(_flag, "transB")),
    "Max": _reduction,
    "Mean": _reduction,
    "Min": _reduction,
    "Mul": _factor,
    "MulConstant": _apply(f.scaled, constant=(_real, "constant_scalar")),
    "Narrow": _apply(f.narrowed, dimension=(_int, "dimension"), start=(_int, "index"), length=(_int, "length")),
    "NarrowTable": _apply(f.entries, start=(_int, "offset", 1, 1), length=(_int, "length", 1, 1)),
    "Normalize": _apply(f.normalized, p=(_real, "p"), eps=(_real, "eps", 1e-10)),
    "PReLU": _prelu,
    "Padding": _padding,
    "Power": _apply(f.power, exponent=(_real, "pow")),
    "RReLU": lambda o: nn.RReLU(o.real("lower", 1 / 8), o.real("upper", 1 / 3)),
    "ReLU": lambda o: nn.ReLU(),
    "ReLU6": lambda o: nn.ReLU6(),
    "Replicate": _apply(
        f.replicated, count=(_int, "nfeatures", None, 1), dimension=(_int, "dim", 1, 1), inputs=(_any, "ndim")
    ),
    "Reshape": _reshape,
    "Select": _apply(f.selected, dimension=(_int, "dimension"), index=(_int, "index")),
    "SelectTable": _apply(f.entry, index=(_int, "index")),
    "Sigmoid": lambda o: nn.Sigmoid(),
    "SoftMax": _fixed(f.softmax, log=False),
    "SoftMin": _fixed(f.softmax, log=False, sign=-1),
    "SoftPlus": lambda o: nn.Softplus(o.real("beta", 1.0), o.real("threshold", 20.0)),
    "SoftShrink": lambda o: nn.Softshrink(o.real("lambda", 0.5)),
    "SoftSign": lambda o: nn.Softsign(),
    "SpatialAdaptiveAveragePooling": _adaptive,
    "SpatialAdaptiveMaxPooling": _adaptive,
    "SpatialAveragePooling": _average_pooling,
    "SpatialBatchNormalization": _batch_norm,
    "SpatialConvolution": _convolution,
    "SpatialConvolutionMM": _convolution,
    "SpatialCrossMapLRN": _lrn,
    "SpatialDilatedConvolution": _convolution,
    "SpatialDilatedMaxPooling": _max_pooling,
    "SpatialDropout": _dropout,
    "SpatialFullConvolution": _convolution,
    "SpatialLogSoftMax": _fixed(f.softmax, log=True),
    "SpatialMaxPooling": _max_pooling,
    "SpatialReflectionPadding": _frame,
    "SpatialReplicationPadding": _frame,
    "SpatialSoftMax": _fixed(f.softmax, log=False),
    "SpatialUpSamplingBilinear": _bilinear,
    "SpatialUpSamplingNearest": _upsampling,
    "SpatialZeroPadding": _frame,
    "SplitTable": _apply(f.split, dimension=(_int, "dimension"), inputs=(_any, "nInputDims")),
    "Sqrt": _apply(f.root, eps=(_real, "eps", 0.0)),
    "Square": _fixed(f.square),
    "Squeeze": _apply(f.squeezed, dimension=(_any, "dim"), inputs=(_any, "numInputDims")),
    "Sum": _reduction,
    "Tanh": lambda o: nn.Tanh(),
    "TanhShrink": lambda o: nn.Tanhshrink(),
    "TemporalConvolution": _temporal_convolution,
    "TemporalMaxPooling": _apply(f.max_over_time, size=(_int, "kW", None, 1), stride=(_int, "dW", 1, 1)),
    "Threshold": lambda o: nn.Threshold(o.real("threshold", 0.0), o.real("val", 0.0)),
    "Transpose": _transpose,
    "Unsqueeze": _apply(f.unsqueezed, position=(_int, "pos"), inputs=(_any, "numInputDims")),
    "View": _view,
}
