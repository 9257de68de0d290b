"""Pictures of networks and of how they learn; drawn with matplotlib, an extra.

Install it with ``pip install "fastnn[plot]"``; it is imported at the first picture. Each function
returns its Figure: a new one of pyplot, so that ``plt.show()`` and notebooks show it, or the one
that was given to be drawn on. `confusion_matrix` is plain NumPy.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn import _check
from fastnn.files import named
from fastnn.graph import Tensor, active_graph
from fastnn.lowering.profile import Profile
from fastnn.nn.module import Module
from fastnn.nn.parameter import Parameter
from fastnn.train.callbacks import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    Canvas: TypeAlias = Figure | SubFigure

__all__ = [
    "confusion_matrix",
    "plot_confusion",
    "plot_feature_maps",
    "plot_filters",
    "plot_history",
    "plot_profile",
]

_TRAINING, _VALIDATION, _INK, _EDGE = "#8fa8c8", "#c2410c", "#333333", "#b0b0b0"
_DIVERGING = "RdBu_r"  # red above zero, white at it, blue below
_SEQUENTIAL = "magma"
_MOST_PANELS = 100  # side by side: at 120 dots an inch, matplotlib's widest picture has 105
_LARGEST_DRAWN = 1e300


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
    side_by_side = channels if channels not in (1, 3) else _columns(columns, count)

    picture = _mosaic(tiles, side_by_side)
    figure = _figure(figure, *_size_of(picture))
    axes = figure.subplots()
    image = _show(axes, picture, -1, 1, _DIVERGING)
    _separate(axes, picture, height, width)
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
    limits = (low, high, _SEQUENTIAL) if low >= 0 else (-edge, edge, _DIVERGING)
    picture = _mosaic(maps, _columns(columns, len(maps)))
    given = _as_picture(sample[0])
    width, height = _size_of(picture)
    figure = _figure(figure, width + 2.6, height)
    before, after = figure.subplots(1, 2, width_ratios=[2.4, width])
    _show(before, given, cmap="gray")
    before.set_title("input")
    image = _show(after, picture, *limits)
    _separate(after, picture, maps.shape[1], maps.shape[2])
    size = "×".join(map(str, maps.shape[1:]))
    after.set_title(f"{tap.found}: {len(maps)} maps of {size}", parse_math=False)
    bar = figure.colorbar(image, ax=after, shrink=0.6, aspect=24, pad=0.02)
    bar.outline.set_visible(False)
    return figure


def plot_history(
    history: History | Mapping[str, Sequence[float]] | str | os.PathLike[str],
    figure: Canvas | None = None,
) -> Canvas:
    """Loss, accuracy and what else was measured, epoch by epoch.

    The best epoch of the validation data is marked, by its lowest loss or highest accuracy. A loss
    that spans more than a factor of 20 is drawn on a logarithmic axis.

    Parameters
    ----------
    history : History, mapping of str to values, or path-like
        What `Trainer.fit` returned, or its ``history``; or a folder that ``fastnn train`` left, or
        a CSV file of `CSVLogger`.
    figure : Figure or SubFigure, optional
        Drawn on instead of a new one.

    Returns
    -------
    Figure

    Raises
    ------
    ImportError
        Without matplotlib.
    FileNotFoundError
        If there is no such file.
    TypeError, ValueError
        If it holds no epoch, or something else.
    """
    source, columns = _read_history(history)
    epochs = columns.pop("epoch")
    names = list(dict.fromkeys(name.removeprefix("val_") for name in columns))
    if len(epochs) == 0 or not names:
        raise ValueError(f"{source}: expected the logs of at least one epoch, got none")
    if len(names) > _MOST_PANELS:
        raise ValueError(f"{source}: {len(names)} logs are more than the {_MOST_PANELS} that a picture holds")
    figure = _figure(figure, 5.2 * len(names), 3.8)
    for name, axes in zip(names, figure.subplots(1, len(names), squeeze=False)[0], strict=True):
        _draw_curves(axes, name, epochs, columns.get(name), columns.get(f"val_{name}"))
    return figure


def confusion_matrix(labels: ArrayLike, predictions: ArrayLike, classes: int | None = None) -> NDArray[np.int64]:
    """How often each class was taken for each.

    Parameters
    ----------
    labels : array of int, shape (N,)
        The classes, from 0.
    predictions : array, shape (N,) of int, or (N, classes)
        Predicted classes; or logits or probabilities, of which the largest counts.
    classes : int, optional
        Default: the columns of `predictions`, or as many as occur.

    Returns
    -------
    ndarray of int64, shape (classes, classes)
        At [i, j] the number of samples of class i that were taken for class j.

    Raises
    ------
    TypeError, ValueError
        Naming the argument.
    """
    truth, taken, columns = _classes_of(labels, predictions)
    highest = max(int(truth.max(initial=-1)), int(taken.max(initial=-1)))
    if classes is None:
        number = columns or highest + 1
    else:
        number = _check.integer("classes", classes, 1)
    if highest >= number:
        name = "labels" if truth.max(initial=-1) == highest else "predictions"
        raise ValueError(f"{name}: expected classes from 0 to {number - 1}, got {highest}")
    counts = np.bincount(truth * number + taken, minlength=number * number)
    return counts.reshape(number, number).astype(np.int64)


def plot_confusion(
    labels: ArrayLike,
    predictions: ArrayLike,
    images: ArrayLike | None = None,
    names: Sequence[str] | None = None,
    worst: int = 25,
    figure: Canvas | None = None,
) -> Canvas:
    """The confusion matrix, and the worst mistakes as images.

    The diagonal is what was right; the colours beside it grow with the number of mistakes.

    Parameters
    ----------
    labels : array of int, shape (N,)
    predictions : array, shape (N,) of int, or (N, classes)
        Predicted classes; or logits or probabilities. With these, a mistake is the worse, the
        larger the ratio of the probability of the predicted class to that of the true one; without,
        mistakes come as they stand.
    images : array of shape (N, channels, height, width) or (N, height, width), optional
        With 1 or 3 channels. Without it the matrix stands alone.
    names : sequence of str, optional
        Of the classes; default: their numbers.
    worst : int, default 25
        Mistakes to show, at most.
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
        Naming the argument.
    """
    matrix = confusion_matrix(labels, predictions, None if names is None else len(names))
    texts = [str(i) for i in range(len(matrix))] if names is None else [str(n) for n in names]
    truth, taken, _ = _classes_of(labels, predictions)
    mistakes = _worst(labels, predictions)[: _check.integer("worst", worst, 0)]
    pictures = None if images is None else np.asarray(images)
    if pictures is not None and (pictures.ndim not in (3, 4) or len(pictures) != len(truth)):
        raise ValueError(
            f"images: expected shape (N, channels, height, width) or (N, height, width) with N = "
            f"{len(truth)}, as labels have, got {pictures.shape}"
        )
    shown = [] if pictures is None else [_as_picture(pictures[i]) for i in mistakes]
    if not shown:
        figure = _figure(figure, 6.4, 6.0)
        _draw_matrix(figure.subplots(), matrix, texts)
        return figure
    figure = _figure(figure, 12.0, 6.0)
    sides: Any = figure.subfigures(1, 2, width_ratios=[1.08, 1])
    left, right = sides
    _draw_matrix(left.subplots(), matrix, texts)
    _draw_mistakes(
        right,
        shown,
        [f"{texts[truth[i]]} → {texts[taken[i]]}" for i in mistakes],
    )
    return figure


def plot_profile(profile: Profile, figure: Canvas | None = None) -> Canvas:
    """Where the time of a plan goes: each op's time by thread, and how near it is to a limit.

    The limit is the machine's peak of arithmetic or its memory, whichever the op is nearer to; more
    than 100% of memory means that the data was in caches. Ops that take less than a hundredth of
    the time are drawn as one.

    Parameters
    ----------
    profile : Profile
        What ``plan.profile(...)`` returned.
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
        If it is no profile, or nothing ran.
    """
    _check.instance("profile", profile, Profile, "a Profile, as plan.profile() returns")
    if not profile.busy:
        raise ValueError("profile: no op took any time")
    shown = [op for op in profile.ops if op.busy >= 0.01 * profile.busy]
    small = [op for op in profile.ops if op.busy < 0.01 * profile.busy]
    labels = [f"{op.name}  {op.shapes.rpartition('-> ')[2]}" for op in shown]
    seconds = [op.seconds for op in shown]
    if small:
        labels.append(f"{len(small)} others")
        seconds.append(tuple(map(sum, zip(*(op.seconds for op in small), strict=True))))
    figure = _figure(figure, 11, 1.6 + 0.26 * len(labels))
    times, limits = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    left = np.zeros(len(labels))
    for thread, each in enumerate(np.array(seconds).T * 1e6):
        times.barh(range(len(labels)), each, left=left, label=f"thread {thread}")
        left += each
    times.set_yticks(range(len(labels)), labels, fontsize=8)
    times.invert_yaxis()
    times.set_xlabel("time, us")
    times.legend(fontsize=8)
    threads = profile.roofline.threads
    rate = sum(op.flops for op in profile.ops) / profile.wall / 1e9
    times.set_title(f"{1e6 * profile.wall:.0f} us a run, {threads} thread(s), {rate:.1f} GF/s", fontsize=10)
    for row, op in enumerate(shown):
        arithmetic = profile.of_peak(op) >= profile.of_memory(op)
        share = profile.of_peak(op) if arithmetic else profile.of_memory(op)
        amount = op.flops if arithmetic else op.bytes
        limits.barh(row, 100 * share, color=_TRAINING if arithmetic else _VALIDATION)
        text = f" {amount / op.busy / 1e9:.1f} {'GF/s' if arithmetic else 'GB/s'} a thread"
        limits.text(100 * share, row, text, va="center", fontsize=7, color=_INK)
    limits.axvline(100, color=_EDGE, linewidth=1)
    limits.margins(x=0.35)
    limits.set_xlabel("% of the limit")
    limits.set_title("blue: of the arithmetic peak, red: of memory", fontsize=10)
    return figure


def pyplot() -> Any:
    """Return matplotlib.pyplot; ImportError that says what to install where it is missing."""
    try:
        from matplotlib import pyplot as module
    except ImportError as error:
        raise ImportError('pictures need matplotlib, which is not installed: pip install "fastnn[plot]"') from error
    return module


# What is shown


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


def _read_history(history: Any) -> tuple[str, dict[str, NDArray[np.float64]]]:
    """What messages call it, and a column for each log, of one length, with "epoch" from 1; NaN where there is no
    value."""
    source = "history"
    if isinstance(history, History):
        history = {"epoch": [epoch + 1 for epoch in history.epoch], **history.history}
    if isinstance(history, Mapping):
        table = {str(name): list(values) for name, values in history.items()}
    else:
        source, table = _read_csv(_check.path("history", history))
    length = max((len(values) for values in table.values()), default=0)
    columns = {
        # A log that began late has no values for the first epochs.
        name: np.array([math.nan] * (length - len(values)) + values, np.float64)
        for name, values in table.items()
        if name != "samples_per_second"
    }
    columns.setdefault("epoch", np.arange(1.0, length + 1))
    return source, columns


def _read_csv(path: str) -> tuple[str, dict[str, list[float]]]:
    """The file's name, and its columns."""
    file_name = os.path.join(path, "history.csv") if os.path.isdir(path) else path
    if not os.path.isfile(file_name):
        raise FileNotFoundError(f"history: there is no file {file_name}")
    try:
        with named(file_name), open(file_name, encoding="utf-8", newline="") as file:
            names, *rows = csv.reader(file, strict=True)
        values = [[float(cell) if cell else math.nan for cell in row] for row in rows]
        if "epoch" not in names or any(len(row) != len(names) for row in values):
            raise ValueError("its lines are not those of a table of epochs")
        table = {name: [row[i] for row in values] for i, name in enumerate(names)}
        for epoch in table["epoch"]:
            if not (epoch.is_integer() and 0 <= epoch <= _check.LARGEST_COUNT):
                raise ValueError(f"no epoch has the number {epoch}")
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{file_name}: no history of a run: {_check.brief(str(error), str)}") from None
    return file_name, table


def _classes_of(labels: ArrayLike, predictions: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64], int | None]:
    """True and predicted classes, and the number of classes if the predictions are scores."""
    truth, taken = np.asarray(labels), np.asarray(predictions)
    columns = taken.shape[1] if taken.ndim == 2 else None
    if columns == 1 and taken.dtype.kind == "f":
        raise ValueError(
            f"predictions: shape {taken.shape} has one score a sample, and not one for each class; of binary logits "
            "the classes are (predictions[:, 0] > 0).astype(int)"
        )
    if taken.ndim == 2 and taken.shape[1] and taken.dtype.kind == "f":
        taken = taken.argmax(1)
    for name, array in (("labels", truth), ("predictions", taken)):
        if array.ndim != 1 or array.dtype.kind not in "iu":
            scores = " or scores (N, classes)" if name == "predictions" else ""
            raise TypeError(f"{name}: expected integers of shape (N,){scores}, got {array.dtype} {array.shape}")
        if array.min(initial=0) < 0:
            raise ValueError(f"{name}: expected classes from 0, got {array.min()}")
    if len(truth) != len(taken):
        raise ValueError(f"predictions: expected {len(truth)}, as labels, got {len(taken)}")
    return truth.astype(np.int64), taken.astype(np.int64), columns


def _worst(labels: ArrayLike, predictions: ArrayLike) -> NDArray[np.int64]:
    """The rows of the mistakes, worst first."""
    truth, taken, columns = _classes_of(labels, predictions)
    (wrong,) = np.nonzero(truth != taken)
    if columns is None:
        return wrong
    scores = np.asarray(predictions)[wrong].astype(np.float64)
    # Of logits, a difference is the logarithm of the ratio of probabilities; probabilities are
    # brought to that.
    if (scores >= 0).all() and np.allclose(scores.sum(1), 1, atol=1e-3):
        scores = np.log(np.maximum(scores, np.finfo(np.float64).tiny))
    row = np.arange(len(wrong))
    lead = scores[row, taken[wrong]] - scores[row, truth[wrong]]
    return wrong[np.argsort(-lead, kind="stable")]


# How it is drawn


def _figure(figure: Canvas | None, width: float, height: float) -> Canvas:
    """The figure given, or a new one, in inches."""
    if figure is not None:
        return figure
    made: Canvas = pyplot().figure(figsize=(width, height), layout="constrained")
    engine: Any = made.get_layout_engine()
    engine.set(w_pad=0.1, h_pad=0.1)  # inches
    return made


def _columns(columns: int | None, count: int) -> int:
    """How many tiles stand side by side: as given, or so that `count` of them fill a 5:3 table."""
    if columns is not None:
        return _check.integer("columns", columns, 1)
    ideal = math.sqrt(count * 5 / 3)
    divisors = [d for d in range(1, count + 1) if count % d == 0]
    nearest = min(divisors, key=lambda d: abs(math.log(d / ideal)))
    return nearest if ideal / 2 <= nearest <= ideal * 2 else math.ceil(ideal)


def _mosaic(tiles: NDArray[Any], columns: int) -> NDArray[np.float64]:
    """Tiles (n, height, width) or (n, height, width, 3) as one image; NaN where none is left."""
    count, height, width, *colours = tiles.shape
    rows = -(-count // columns)
    cells = np.full((rows * columns, height, width, *colours), np.nan)
    cells[:count] = tiles
    table: NDArray[np.float64] = cells.reshape(rows, columns, *cells.shape[1:]).swapaxes(1, 2)
    return table.reshape(rows * height, columns * width, *colours)


def _scale(picture: NDArray[Any]) -> float:
    """Inches a pixel: a mosaic is 7 wide, or less if it is tall."""
    return float(min(7 / picture.shape[1], 8 / picture.shape[0]))


def _size_of(picture: NDArray[Any]) -> tuple[float, float]:
    """Inches for a mosaic with its title and its bar."""
    height, width = (size * _scale(picture) for size in picture.shape[:2])
    return max(width, 3.0) + 0.8, max(height, 1.2) + 0.6


def _as_picture(image: NDArray[Any]) -> NDArray[Any]:
    """(channels, height, width) or (height, width), as grey or colours stretched to 0 ... 1."""
    if image.ndim == 3:
        if image.shape[0] not in (1, 3):
            raise ValueError(f"images: expected 1 or 3 channels, got shape {image.shape}")
        image = image[0] if image.shape[0] == 1 else image.transpose(1, 2, 0)
    low, high = float(image.min()), float(image.max())
    return (image - low) / (high - low) if high > low else np.zeros(image.shape)


def _show(axes: Axes, picture: NDArray[Any], low: float = 0, high: float = 1, cmap: str | None = None) -> Any:
    """imshow without axes; NaN is left out, in colours too."""
    if picture.ndim == 3:
        clear = np.isnan(picture[..., :1])
        picture = np.concatenate([np.where(clear, 1, picture), ~clear], axis=2)
    axes.spines[:].set_visible(False)
    axes.set_xticks([])
    axes.set_yticks([])
    return axes.imshow(picture, cmap=cmap, vmin=low, vmax=high, interpolation="nearest")


def _separate(axes: Axes, picture: NDArray[Any], height: int, width: int) -> None:
    """White bands between the tiles of a mosaic, with a thin edge: white may be a tile's colour."""
    rows, columns = (int(size) for size in picture.shape[:2])
    points = 72 * _scale(picture) * max(height, width)  # of a tile's side
    band = min(0.08 * points, 5.0)
    across = np.arange(0, rows + 1, height) - 0.5
    along = np.arange(0, columns + 1, width) - 0.5
    for colour, thickness in ((_EDGE, band + min(0.02 * points, 1.2)), ("white", band)):
        axes.hlines(across, -0.5, columns - 0.5, colors=colour, linewidths=thickness)
        axes.vlines(along, -0.5, rows - 0.5, colors=colour, linewidths=thickness)


def _draw_curves(
    axes: Axes,
    name: str,
    epochs: NDArray[np.float64],
    training: NDArray[np.float64] | None,
    validation: NDArray[np.float64] | None,
) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    # No axis reaches from -1e308 to 1e308: larger numbers are left out, as infinities are.
    training, validation = (
        curve if curve is None else np.where(np.abs(curve) <= _LARGEST_DRAWN, curve, np.nan)
        for curve in (training, validation)
    )
    is_share = "accuracy" in name or "top_" in name
    dots = "o" if len(epochs) <= 40 else ""
    values = []
    for curve, label, colour in (
        (training, "training", _TRAINING),
        (validation, "validation", _VALIDATION),
    ):
        if curve is not None:
            axes.plot(epochs, curve, color=colour, label=label, marker=dots, markersize=3)
            values.append(curve[np.isfinite(curve)])
    known = np.concatenate(values)
    name = _check.brief(name, str)
    if validation is not None and np.isfinite(validation).any():
        best = int(np.nanargmax(validation) if is_share else np.nanargmin(validation))
        text = f"{validation[best]:.2%}" if is_share else f"{validation[best]:.4g}"
        axes.plot(epochs[best], validation[best], "o", color=_VALIDATION, markersize=7, mfc="none")
        axes.set_title(f"{name}: best {text} in epoch {epochs[best]:.0f}", loc="left", parse_math=False)
    else:
        axes.set_title(name, loc="left", parse_math=False)
    if is_share:
        axes.yaxis.set_major_formatter(PercentFormatter(1))
    elif known.size and known.min() > 0 and known.max() > 20 * known.min():
        axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    if len(epochs) == 1:
        axes.set_xlim(epochs[0] - 1, epochs[0] + 1)
    axes.set_xlabel("epoch")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.legend(frameon=False)


def _draw_matrix(axes: Axes, matrix: NDArray[np.int64], names: Sequence[str]) -> None:
    number, total = len(matrix), int(matrix.sum())
    right = int(np.trace(matrix))
    wrong = np.where(np.eye(number, dtype=bool), 0, matrix)
    most = max(int(wrong.max()), 5)  # a mistake or two are no alarm
    axes.imshow(wrong, cmap="OrRd", vmin=0, vmax=most, interpolation="nearest")
    diagonal = np.where(np.eye(number, dtype=bool), 0.5, np.nan)
    axes.imshow(diagonal, cmap="Greys", vmin=0, vmax=2.6, interpolation="nearest")
    if number <= 20:
        dark = wrong > 0.55 * most
        for i, j in zip(*np.nonzero(matrix), strict=True):
            colour = "white" if dark[i, j] else _INK
            axes.text(j, i, f"{matrix[i, j]}", ha="center", va="center", color=colour, fontsize=8)
        tilt = max(map(len, names)) > 3
        axes.set_xticks(
            range(number), names, rotation=40 if tilt else 0, ha="right" if tilt else "center", parse_math=False
        )
        axes.set_yticks(range(number), names, parse_math=False)
        axes.set_xticks(np.arange(number + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(number + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=1)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    share = right / total if total else 0.0
    axes.set_title(f"accuracy {share:.2%}: {_mistakes(total - right)} among {total:,}")


def _mistakes(number: int) -> str:
    return f"{number:,} mistake{'' if number == 1 else 's'}"


def _draw_mistakes(figure: Canvas, pictures: list[NDArray[Any]], texts: list[str]) -> None:
    columns = max(3, math.ceil(math.sqrt(len(pictures))))
    rows = max(3, -(-len(pictures) // columns))
    size = 9 if max(map(len, texts)) <= 12 else 7.5
    figure.suptitle("the worst mistakes: true → predicted class")
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in places:
        axes.set_axis_off()
    for axes, picture, text in zip(places, pictures, texts, strict=False):
        _show(axes, picture, cmap="gray")
        axes.set_title(text, fontsize=size, pad=3, parse_math=False)
