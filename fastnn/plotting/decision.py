"""Where in a plane a network decides for which class."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn import _check
from fastnn.nn.module import Module
from fastnn.plotting.canvas import INK, new_figure

if TYPE_CHECKING:
    from fastnn.plotting.canvas import Canvas


def plot_decision_boundary(
    model: Module | Callable[[NDArray[np.float32]], Any],
    x: ArrayLike,
    labels: ArrayLike,
    resolution: int = 200,
    figure: Canvas | None = None,
) -> Canvas:
    """The points of a plane in the colours of their classes, on what a network makes of the plane.

    The paler a colour, the less sure the network is; a line is where it changes its mind.

    Parameters
    ----------
    model : Module or callable
        Of points (N, 2): one logit, (N,) or (N, 1), positive for class 1, or logits (N, classes).
        A Module runs in evaluation mode.
    x : array of shape (N, 2)
    labels : array of int, shape (N,) or (N, 1)
        The classes, from 0.
    resolution : int, default 200
        Points of the plane along each side, at which the model is evaluated.
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
    points, classes = np.asarray(x, np.float64), np.asarray(labels)
    if points.ndim != 2 or points.shape[1] != 2 or not len(points):
        raise ValueError(f"x: expected points of shape (N, 2), got {points.shape}")
    if classes.size != len(points) or not np.all(classes == np.floor(classes)) or classes.min() < 0:
        raise ValueError(f"labels: expected {len(points)} classes from 0, got {_check.kind_of(labels)}")
    classes = classes.reshape(-1).astype(np.int64)
    side = _check.integer("resolution", resolution, 2)
    low, high = points.min(0), points.max(0)
    margin = 0.15 * np.where(high > low, high - low, 1)
    across, along = (np.linspace(*ends, side) for ends in zip(low - margin, high + margin, strict=True))
    plane = np.stack(np.meshgrid(across, along), 2).reshape(-1, 2).astype(np.float32)
    result = model.evaluated(plane) if isinstance(model, Module) else model(plane)
    leads = _leads(np.asarray(result), len(plane))
    winner, sure = leads.argmax(1), np.nan_to_num(np.tanh(leads.max(1) / 2))

    figure = new_figure(figure, 5.0, 4.6)
    axes = figure.subplots()
    from matplotlib import colormaps

    palette = np.array([colormaps["tab10"](i)[:3] for i in range(10)])
    colours = 1 - (0.15 + 0.4 * sure[:, np.newaxis]) * (1 - palette[winner % 10])
    reach = (across[0], across[-1], along[0], along[-1])
    axes.imshow(colours.reshape(side, side, 3), origin="lower", extent=reach, aspect="auto", interpolation="nearest")
    for lead in leads.T[1:]:
        if lead.min() < 0 < lead.max():
            axes.contour(across, along, lead.reshape(side, side), [0], colors=INK, linewidths=1)
    axes.scatter(points[:, 0], points[:, 1], s=18, c=palette[classes % 10], edgecolors="white", linewidths=0.6)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=8)
    return figure


def _leads(logits: NDArray[Any], count: int) -> NDArray[np.float64]:
    """How far each class's logit lies above the largest of the others, (count, classes)."""
    if logits.shape[:1] != (count,) or logits.ndim not in (1, 2) or logits.size == 0:
        raise ValueError(
            f"model: expected logits (N,), (N, 1) or (N, classes) for {count} points, got shape {logits.shape}"
        )
    logits = logits.reshape(count, -1).astype(np.float64)
    if logits.shape[1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], 1)
    order = np.argsort(logits, 1)
    row = np.arange(count)
    rivals = np.broadcast_to(logits[row, order[:, -1], np.newaxis], logits.shape).copy()
    rivals[row, order[:, -1]] = logits[row, order[:, -2]]
    leads: NDArray[np.float64] = logits - rivals
    return leads
