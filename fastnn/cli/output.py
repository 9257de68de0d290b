"""What several commands print."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from typing import Any

from fastnn import plotting
from fastnn.cli.run import Config
from fastnn.files import write_atomically


def print_json(value: Any) -> None:
    """One JSON object on one line; NaN and infinities, which JSON lacks, become null."""
    print(json.dumps(_finite(value), allow_nan=False))


def without_a_window() -> None:
    """Have pictures drawn for files; ValueError where matplotlib is missing."""
    try:
        plotting.pyplot().switch_backend("Agg")
    except ImportError as error:
        raise ValueError(str(error)) from None


def write_picture(path: str, draw: Callable[[], Any]) -> None:
    """Write the figure that `draw` makes as a PNG file, and close it."""
    figure = draw()
    image = io.BytesIO()
    try:
        figure.savefig(image, format="png", dpi=120)
    finally:
        plotting.pyplot().close(figure)
    write_atomically(path, image.getvalue())


def describe_model(config: Config) -> str:
    """The network in a few characters, such as "mlp 784-225-144-10"."""
    if config.model != "mlp":
        return config.model
    sizes = [math.prod(config.set.shape), *config.hidden, config.set.classes]
    return f"{config.model} {'-'.join(map(str, sizes))}"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
