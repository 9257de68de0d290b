"""Which classes are taken for which, and the worst mistakes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn import _check
from fastnn.plotting.canvas import INK, as_picture, new_figure, show

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fastnn.plotting.canvas import Canvas


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
    shown = [] if pictures is None else [as_picture(pictures[i]) for i in mistakes]
    if not shown:
        figure = new_figure(figure, 6.4, 6.0)
        _draw_matrix(figure.subplots(), matrix, texts)
        return figure
    figure = new_figure(figure, 12.0, 6.0)
    sides: Any = figure.subfigures(1, 2, width_ratios=[1.08, 1])
    left, right = sides
    _draw_matrix(left.subplots(), matrix, texts)
    _draw_mistakes(
        right,
        shown,
        [f"{texts[truth[i]]} → {texts[taken[i]]}" for i in mistakes],
    )
    return figure


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
            colour = "white" if dark[i, j] else INK
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
        show(axes, picture, cmap="gray")
        axes.set_title(text, fontsize=size, pad=3, parse_math=False)
