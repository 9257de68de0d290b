"""What the pictures have in common: figures, mosaics of tiles, colours."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastnn import _check

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    Canvas: TypeAlias = Figure | SubFigure

TRAINING, VALIDATION, INK, EDGE = "#8fa8c8", "#c2410c", "#333333", "#b0b0b0"
DIVERGING = "RdBu_r"  # red above zero, white at it, blue below
SEQUENTIAL = "magma"


def pyplot() -> Any:
    """Return matplotlib.pyplot; ImportError that says what to install where it is missing."""
    try:
        from matplotlib import pyplot as module
    except ImportError as error:
        raise ImportError('pictures need matplotlib, which is not installed: pip install "fastnn[plot]"') from error
    return module


def new_figure(figure: Canvas | None, width: float, height: float) -> Canvas:
    """The figure given, or a new one, in inches."""
    if figure is not None:
        return figure
    made: Canvas = pyplot().figure(figsize=(width, height), layout="constrained")
    engine: Any = made.get_layout_engine()
    engine.set(w_pad=0.1, h_pad=0.1)  # inches
    return made


def columns_of(columns: int | None, count: int) -> int:
    """How many tiles stand side by side: as given, or so that `count` of them fill a 5:3 table."""
    if columns is not None:
        return _check.integer("columns", columns, 1)
    ideal = math.sqrt(count * 5 / 3)
    divisors = [d for d in range(1, count + 1) if count % d == 0]
    nearest = min(divisors, key=lambda d: abs(math.log(d / ideal)))
    return nearest if ideal / 2 <= nearest <= ideal * 2 else math.ceil(ideal)


def mosaic(tiles: NDArray[Any], columns: int) -> NDArray[np.float64]:
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


def size_of(picture: NDArray[Any]) -> tuple[float, float]:
    """Inches for a mosaic with its title and its bar."""
    height, width = (size * _scale(picture) for size in picture.shape[:2])
    return max(width, 3.0) + 0.8, max(height, 1.2) + 0.6


def as_picture(image: NDArray[Any]) -> NDArray[Any]:
    """(channels, height, width) or (height, width), as grey or colours stretched to 0 ... 1."""
    if image.ndim == 3:
        if image.shape[0] not in (1, 3):
            raise ValueError(f"images: expected 1 or 3 channels, got shape {image.shape}")
        image = image[0] if image.shape[0] == 1 else image.transpose(1, 2, 0)
    low, high = float(image.min()), float(image.max())
    return (image - low) / (high - low) if high > low else np.zeros(image.shape)


def show(axes: Axes, picture: NDArray[Any], low: float = 0, high: float = 1, cmap: str | None = None) -> Any:
    """imshow without axes; NaN is left out, in colours too."""
    if picture.ndim == 3:
        clear = np.isnan(picture[..., :1])
        picture = np.concatenate([np.where(clear, 1, picture), ~clear], axis=2)
    axes.spines[:].set_visible(False)
    axes.set_xticks([])
    axes.set_yticks([])
    return axes.imshow(picture, cmap=cmap, vmin=low, vmax=high, interpolation="nearest")


def separate(axes: Axes, picture: NDArray[Any], height: int, width: int) -> None:
    """White bands between the tiles of a mosaic, with a thin edge: white may be a tile's colour."""
    rows, columns = (int(size) for size in picture.shape[:2])
    points = 72 * _scale(picture) * max(height, width)  # of a tile's side
    band = min(0.08 * points, 5.0)
    across = np.arange(0, rows + 1, height) - 0.5
    along = np.arange(0, columns + 1, width) - 0.5
    for colour, thickness in ((EDGE, band + min(0.02 * points, 1.2)), ("white", band)):
        axes.hlines(across, -0.5, columns - 0.5, colors=colour, linewidths=thickness)
        axes.vlines(along, -0.5, rows - 0.5, colors=colour, linewidths=thickness)
