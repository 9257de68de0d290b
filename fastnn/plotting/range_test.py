"""The curve of a learning-rate range test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastnn import _check
from fastnn.plotting.canvas import TRAINING, VALIDATION, new_figure
from fastnn.train.range_test import RangeTest

if TYPE_CHECKING:
    from fastnn.plotting.canvas import Canvas


def plot_range_test(result: RangeTest, figure: Canvas | None = None) -> Canvas:
    """The loss against the learning rate, as it came and smoothed; the steepest place is marked.

    Parameters
    ----------
    result : RangeTest
        Of `train.lr_range_test`.
    figure : Figure or SubFigure, optional
        Drawn on instead of a new one.

    Returns
    -------
    Figure

    Raises
    ------
    ImportError
        Without matplotlib.
    TypeError
        For anything else.
    """
    _check.instance("result", result, RangeTest)
    figure = new_figure(figure, 6.0, 4.0)
    axes = figure.subplots()
    axes.plot(result.lr, result.loss, color=TRAINING, linewidth=1, label="loss")
    axes.plot(result.lr, result.smoothed, color=VALIDATION, label="smoothed")
    best = result.suggestion()
    if best is not None:
        at = int(np.flatnonzero(result.lr == best)[0])
        axes.plot(best, result.smoothed[at], "o", color=VALIDATION, label=f"steepest at {best:.2g}")
    if result.lr[0] > 0 and result.lr[-1] / result.lr[0] > 20:
        axes.set_xscale("log")
    finite = result.smoothed[np.isfinite(result.smoothed)]
    if finite.size:
        axes.set_ylim(0, 1.5 * max(finite[0], finite.min() * 2))
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss")
    axes.legend(fontsize="small")
    return figure
