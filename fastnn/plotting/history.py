"""The curves of a run."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastnn import _check
from fastnn.files import named
from fastnn.plotting.canvas import TRAINING, VALIDATION, new_figure
from fastnn.train.callbacks import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fastnn.plotting.canvas import Canvas

_MOST_PANELS = 100  # side by side: at 120 dots an inch, matplotlib's widest picture has 105
_LARGEST_DRAWN = 1e300


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
    figure = new_figure(figure, 5.2 * len(names), 3.8)
    for name, axes in zip(names, figure.subplots(1, len(names), squeeze=False)[0], strict=True):
        _draw_curves(axes, name, epochs, columns.get(name), columns.get(f"val_{name}"))
    return figure


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
        (training, "training", TRAINING),
        (validation, "validation", VALIDATION),
    ):
        if curve is not None:
            axes.plot(epochs, curve, color=colour, label=label, marker=dots, markersize=3)
            values.append(curve[np.isfinite(curve)])
    known = np.concatenate(values)
    name = _check.brief(name, str)
    if validation is not None and np.isfinite(validation).any():
        best = int(np.nanargmax(validation) if is_share else np.nanargmin(validation))
        text = f"{validation[best]:.2%}" if is_share else f"{validation[best]:.4g}"
        axes.plot(epochs[best], validation[best], "o", color=VALIDATION, markersize=7, mfc="none")
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
