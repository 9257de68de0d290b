"""What several commands print."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn import plotting
from fastnn.cli.config import Config
from fastnn.cli.source import Source
from fastnn.data import NumberTarget
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


def describe_model(config: Config, source: Source) -> str:
    """The network in a few characters, such as "mlp 784-225-144-10"."""
    if config.model != "mlp":
        return config.model
    sizes = [math.prod(source.shape), *config.hidden, source.target.outputs]
    return f"{config.model} {'-'.join(map(str, sizes))}"


def in_own_units(target: Any, output: np.ndarray[Any, Any], truth: np.ndarray[Any, Any]) -> dict[str, float]:
    """Of a target of numbers, how far predictions are off in its own units, and the share of its variance that they
    explain (R2, a mean over several numbers)."""
    if not isinstance(target, NumberTarget):
        return {}
    predicted, true = target.decode(output), target.decode(truth)
    error, spread = predicted - true, true - true.mean(0)
    variance = np.square(spread).sum(0)
    share = 1 - np.square(error).sum(0) / np.where(variance > 0, variance, np.nan)
    return {
        "root_mean_squared_error": float(np.sqrt(np.square(error).mean())),
        "mean_absolute_error": float(np.abs(error).mean()),
        "r2": float(share.mean()),
    }


def told(logs: dict[str, float], target: Any) -> str:
    """How good predictions are, in a few words."""
    if not isinstance(target, NumberTarget):
        return f"error {100 * (1 - logs['accuracy']):.2f}%"
    return (
        f"root mean squared error {logs['root_mean_squared_error']:.6g}, mean absolute error "
        f"{logs['mean_absolute_error']:.6g}, R2 {logs['r2']:.4f}"
    )


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
