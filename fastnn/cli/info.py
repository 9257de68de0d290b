"""``fastnn info``."""

from __future__ import annotations

import argparse
import os
from dataclasses import asdict

from fastnn import _check
from fastnn.cli.foreign import is_file, not_for_runs
from fastnn.cli.foreign_info import describe
from fastnn.cli.learning import make_model
from fastnn.cli.output import describe_model, print_json
from fastnn.cli.own import Own
from fastnn.cli.run import Run
from fastnn.config import show_config, show_versions


def run(args: argparse.Namespace) -> int:
    """Print what fastnn was built with and runs on, or what a run is."""
    if args.run is None:
        if args.json:
            print_json({"versions": show_versions("dicts"), "config": show_config("dicts")})
        else:
            show_versions()
            show_config()
        return 0
    if is_file(args.run):
        return describe(args)
    not_for_runs(args)
    place = Run.open(args.run)
    config = asdict(place.config)
    if args.json:
        print_json({"run": place.folder, "config": config})
        return 0
    source = place.source(asked=False)
    kept = [(path, part) for path, part in ((place.weights, ""), (place.checkpoint, "model/")) if os.path.isfile(path)]
    for path, part in kept:
        place.check_size(path, part)
    print(f"{place.folder}: {describe_model(place.config, source)}")
    for name, value in config.items():
        print(f"  {name}: {_check.printable(str(value))}")
    if isinstance(source, Own):
        print(f"  recipe: {_check.some(getattr(source.recipe, 'features', source.recipe.shape))}")
        for note in source.recipe.notes():
            print(f"    {note}")
    if kept or place.config.model != "mlp":  # else nothing says that there was a network of these sizes
        model = make_model(place.config, source.shape, source.target.outputs)
        print(model.eval().summary(*source.shape))
    return 0
