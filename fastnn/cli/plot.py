"""``fastnn plot``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any

from fastnn import plotting
from fastnn.cli.output import print_json, without_a_window, write_picture
from fastnn.cli.run import Run
from fastnn.data import ClassTarget
from fastnn.train.evaluation import predict


def run(args: argparse.Namespace) -> int:
    """Draw a run: its curves, its first layer, what that makes of an image, and its mistakes."""
    without_a_window()
    place = Run.open(args.run)
    model = place.load_model()
    source = place.source(args.data or args.data_dir)
    images, labels = source.load("test" if "test" in source.splits else "validation")
    shown = images if len(source.shape) == 3 and source.shape[0] in (1, 3) else None
    if not 0 <= args.sample < len(images):
        raise ValueError(f"--sample: expected a test image from 0 to {len(images) - 1}, got {args.sample}")
    convolves = any(p.data.ndim == 4 for p in model.parameters())
    shape = None if convolves else images.shape[1:]
    pictures: dict[str, Callable[[], Any]] = {"history": lambda: plotting.plot_history(place.history)}
    if len(source.shape) == 3:
        pictures["filters"] = lambda: plotting.plot_filters(model, shape)
    if isinstance(source.target, ClassTarget):
        names = source.target.classes
        pictures["confusion"] = lambda: plotting.plot_confusion(labels, predict(model, images), shown, names)
    if convolves:
        pictures["feature_maps"] = lambda: plotting.plot_feature_maps(model, images[args.sample], args.layer)
    elif args.layer is not None:
        raise ValueError(f"--layer: no layer of {place.config.model} makes images; leave --layer {args.layer} out")

    folder = place.folder if args.out is None else args.out
    os.makedirs(folder, exist_ok=True)
    files = []
    for name, draw in pictures.items():
        files.append(os.path.join(folder, f"{name}.png"))
        write_picture(files[-1], draw)
    if args.json:
        print_json({"run": place.folder, "files": files})
    else:
        print("\n".join(files))
    return 0
