"""What a Monitor has measured, layer by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastnn import _check
from fastnn.plotting.canvas import SEQUENTIAL, new_figure, pyplot
from fastnn.train.monitor import FIGURES, Measurements

if TYPE_CHECKING:
    from fastnn.plotting.canvas import Canvas


def plot_measurements(measurements: Measurements, what: str = "update_ratio", figure: Canvas | None = None) -> Canvas:
    """A figure of every parameter or layer, step by step.

    Parameters
    ----------
    measurements : Measurements
        Of a `train.Monitor`, or of `train.measure_checkpoints`.
    what : str, default "update_ratio"
        See `Measurements`.
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
        If there is no such figure, or nothing was measured.
    """
    _check.instance("measurements", measurements, Measurements)
    _check.choice("what", what, *FIGURES)
    table = measurements[what]
    if not table:
        raise ValueError(f"what: there is no {what} among the {len(measurements)} measurements")
    figure = new_figure(figure, 7.0, 4.2)
    axes = figure.subplots()
    colours = pyplot().get_cmap("viridis")(np.linspace(0, 0.9, len(table)))
    for (name, values), colour in zip(table.items(), colours, strict=True):
        axes.plot(measurements.steps, values, color=colour, marker=".", label=name or "output")
    positive = np.concatenate(list(table.values()))
    if what.endswith(("std", "ratio")) and np.nanmin(positive, initial=np.inf) > 0:
        axes.set_yscale("log")
    axes.set_xlabel("update")
    axes.set_title(what.replace("_", " "))
    if len(table) <= 20:
        axes.legend(fontsize="small", ncols=2)
    return figure


def plot_histograms(measurements: Measurements, kind: str, name: str, figure: Canvas | None = None) -> Canvas:
    """How values are spread, step by step: dark where there are many.

    Parameters
    ----------
    measurements : Measurements
        With histograms: see the `bins` of a Monitor.
    kind : {"weight", "gradient", "update", "activation"}
    name : str
        Of the parameter or layer.
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
        If there is no such histogram.
    """
    _check.instance("measurements", measurements, Measurements)
    counts, edges = measurements.histogram(kind, name)
    figure = new_figure(figure, 7.0, 4.2)
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    steps = measurements.steps.astype(np.float64)
    half = np.diff(steps).min() / 2 if len(steps) > 1 else 0.5
    for step, row, edge in zip(steps, shares, edges, strict=True):
        if np.isfinite(edge).all():
            axes.pcolormesh([step - half, step + half], edge, row[:, None], cmap=f"{SEQUENTIAL}_r", vmin=0, vmax=0.3)
    axes.set_xlabel("update")
    axes.set_title(f"{kind} of {name or 'the output'}")
    return figure
