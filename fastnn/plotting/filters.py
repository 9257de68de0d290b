"""What a layer has learned: its filters, and what it makes of an input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn import _check
from fastnn.graph import Tensor, active_graph
from fastnn.nn.module import Module
from fastnn.nn.parameter import Parameter
from fastnn.plotting.canvas import (
    DIVERGING,
    SEQUENTIAL,
    as_picture,
    columns_of,
    mosaic,
    new_figure,
    separate,
    show,
    size_of,
)

if TYPE_CHECKING:
    from fastnn.plotting.canvas import Canvas


def plot_filters(
    model_or_weight: Module | ArrayLike,
    shape: Sequence[int] | None = None,
    columns: int | None = None,
    figure: Canvas | None = None,
) -> Canvas:
    """The filters of a first layer, each as an image.

    Filters over three channels are shown in their colours, red, green and blue, with grey for zero;
    those over one in red above and blue below zero. For any other number of channels each filter is
    a row, with a tile for each channel. Every filter is scaled by its own largest absolute weight.

    Parameters
    ----------
    model_or_weight : Module or array
        A module, of which the first weight with two or four axes is taken; or a weight, of shape
        (filters, channels, height, width), or (out, in) of a linear layer.
    shape : (channels, height, width) or (height, width), optional
        What the inputs of a linear layer were before they were flattened; needed for one.
    columns : int, optional
        Filters side by side.
    figure : Figure or SubFigure, optional
        Drawn on instead of a new one.

    Returns
    -------
    Figure

    Raises
    ------
    ImportError
        Without matplotlib.
    TypeError, ValueError
        If there is no such weight, or `shape` is missing or does not fit.
    """
    name, weight = _first_weight(model_or_weight)
    filters = _as_filters(weight, shape)
    count, channels, height, width = filters.shape
    largest = np.abs(filters).max(axis=(1, 2, 3), keepdims=True)
    with np.errstate(invalid="ignore"):  # a diverged filter is drawn, too
        scaled = filters / np.where(largest > 0, largest, 1)
    if channels == 3:
        tiles = (scaled.transpose(0, 2, 3, 1) + 1) / 2
    else:
        tiles = scaled.reshape(-1, height, width)
    side_by_side = channels if channels not in (1, 3) else columns_of(columns, count)

    picture = mosaic(tiles, side_by_side)
    figure = new_figure(figure, *size_of(picture))
    axes = figure.subplots()
    image = show(axes, picture, -1, 1, DIVERGING)
    separate(axes, picture, height, width)
    axes.set_title(f"{name}{count} filters of {channels}×{height}×{width}")
    if channels != 3:
        bar = figure.colorbar(image, ax=axes, shrink=0.6, aspect=24, pad=0.02, ticks=[-1, 0, 1])
        bar.set_label("weight / largest of its filter")
        bar.outline.set_visible(False)
    if side_by_side == channels and channels > 1:
        axes.set_xlabel("input channel")
        axes.set_ylabel("filter")
    return figure


def plot_feature_maps(
    model: Module,
    x: ArrayLike,
    layer: str | None = None,
    columns: int | None = None,
    figure: Canvas | None = None,
) -> Canvas:
    """What a layer makes of an input: the input, and each channel of the layer's output.

    All channels are on one scale, so that the brightest says most.

    Parameters
    ----------
    model : Module
        Run in evaluation mode.
    x : array of shape (channels, height, width) or (1, channels, height, width)
        One input, as the model takes it.
    layer : str, optional
        The name of a module, as `named_modules` has it. Default: the first one whose output is an
        image, (N, channels, height, width).
    columns : int, optional
        Maps side by side.
    figure : Figure or SubFigure, optional
        Drawn on instead of a new one.

    Returns
    -------
    Figure

    Raises
    ------
    ImportError
        Without matplotlib.
    TypeError, ValueError
        If the layer is unknown, not run or has no image for its output, or `x` does not fit.
    """
    _check.instance("model", model, Module)
    sample = np.asarray(x)
    if sample.ndim == 3:
        sample = sample[np.newaxis]
    if sample.ndim != 4 or len(sample) != 1:
        raise ValueError(
            "x: expected one input of shape (channels, height, width) or (1, channels, height, "
            f"width), got shape {np.shape(x)}"
        )
    tap = _Tap(model, layer)
    maps = tap.evaluated(sample)[0]  # (channels, height, width)

    known = maps[np.isfinite(maps)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    edge = max(-low, high)
    limits = (low, high, SEQUENTIAL) if low >= 0 else (-edge, edge, DIVERGING)
    picture = mosaic(maps, columns_of(columns, len(maps)))
    given = as_picture(sample[0])
    width, height = size_of(picture)
    figure = new_figure(figure, width + 2.6, height)
    before, after = figure.subplots(1, 2, width_ratios=[2.4, width])
    show(before, given, cmap="gray")
    before.set_title("input")
    image = show(after, picture, *limits)
    separate(after, picture, maps.shape[1], maps.shape[2])
    size = "×".join(map(str, maps.shape[1:]))
    after.set_title(f"{tap.found}: {len(maps)} maps of {size}", parse_math=False)
    bar = figure.colorbar(image, ax=after, shrink=0.6, aspect=24, pad=0.02)
    bar.outline.set_visible(False)
    return figure


class _Tap(Module):
    """A model up to one of its layers: returns what that layer does.

    Attributes
    ----------
    found : str
        The name of the layer, once the model was traced.
    """

    input_names = ("x",)

    def __init__(self, model: Module, layer: str | None) -> None:
        super().__init__()
        self.model = model
        self._layer = layer
        self._found: list[str] = []
        names = [name for name, _ in model.named_modules() if name]
        if layer is not None and layer not in names:
            raise ValueError(f"layer: {layer!r} is no module of the model, which has {_check.some(names)}")

    @property
    def found(self) -> str:
        return self._found[-1]

    def forward(self, x: Any) -> Any:
        self.model(x)
        names = {id(module): name for name, module in self.model.named_modules()}
        images = []
        for module, result in active_graph().calls:
            name = names.get(id(module), "")
            if isinstance(result, Tensor) and result.ndim == 4:
                images.append(name or type(module).__name__)
                if self._layer in (None, name):
                    self._found.append(images[-1])
                    return result
        what = "no layer" if self._layer is None else f"layer: {self._layer!r} is not run, or"
        raise ValueError(f"{what} has an image (N, channels, height, width) for its output; those that have: {images}")


def _first_weight(model_or_weight: Any) -> tuple[str, NDArray[Any]]:
    """A title for the weight, and the weight."""
    if not isinstance(model_or_weight, Module):
        is_parameter = isinstance(model_or_weight, Parameter)
        array = np.asarray(model_or_weight.data if is_parameter else model_or_weight)
        if array.ndim not in (2, 4) or array.size == 0 or array.dtype.kind not in "fiu":
            raise ValueError(
                "model_or_weight: expected a Module, or a weight of shape (filters, channels, "
                f"height, width) or (out, in), got {array.dtype} {array.shape}"
            )
        return "", array
    for name, parameter in model_or_weight.named_parameters():
        if parameter.data.ndim in (2, 4):
            return f"{name}: ", np.asarray(parameter.data)
    raise ValueError(
        f"model_or_weight: {type(model_or_weight).__name__} has no weight with two or four axes, as linear layers and "
        "2-D convolutions have"
    )


def _as_filters(weight: NDArray[Any], shape: Sequence[int] | None) -> NDArray[np.float64]:
    """A weight as (filters, channels, height, width)."""
    if weight.ndim == 4:
        if shape is not None:
            raise ValueError(
                f"shape: it goes with the weight of a linear layer, and this one is {weight.shape}; leave {shape} out"
            )
        return weight.astype(np.float64)
    if shape is None:
        raise ValueError(
            f"shape: the weight {weight.shape} is that of a linear layer; give the (channels, "
            "height, width) of what it flattens"
        )
    sizes = tuple(_check.integer(f"shape[{i}]", size, 1) for i, size in enumerate(shape))
    if len(sizes) not in (2, 3) or math.prod(sizes) != weight.shape[1]:
        raise ValueError(
            f"shape: expected (channels, height, width) or (height, width) with a product of "
            f"{weight.shape[1]}, got {tuple(shape)}"
        )
    return weight.reshape(len(weight), *(sizes if len(sizes) == 3 else (1, *sizes))).astype(float)
