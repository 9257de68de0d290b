"""``fastnn eval``."""

from __future__ import annotations

import argparse
import math

from fastnn.cli.foreign import is_file, not_for_runs
from fastnn.cli.foreign_predict import run_eval
from fastnn.cli.learning import make_loss
from fastnn.cli.output import in_own_units, print_json, told
from fastnn.cli.run import Run
from fastnn.train.evaluation import Evaluation, predict


def run(args: argparse.Namespace) -> int:
    """Print loss and accuracy, or errors in the target's own units, on a split of the run's data or on other files."""
    if is_file(args.run):
        return run_eval(args)
    not_for_runs(args)
    place = Run.open(args.run)
    model = place.load_model()
    source = place.source(args.data or args.data_dir, asked=not args.files)
    if args.files:
        if args.split is not None:
            raise ValueError(f"--split: it goes with the run's own data, and {args.files[0]} is given; leave it out")
        what, samples = args.files[0], source.labelled(args.files)
    else:
        what = args.split or ("test" if "test" in source.splits else "validation")
        samples = source.load(what)
    logs = Evaluation(model, make_loss(place.config, source.target)).measure(samples)
    if not math.isfinite(logs["loss"]):
        raise FloatingPointError(f"{place.weights}: the loss on the {what} set is {logs['loss']}")
    logs |= in_own_units(source.target, predict(model, samples[0]), samples[1])
    if args.json:
        print_json({"run": place.folder, "split": what, "samples": len(samples[1]), **logs})
    else:
        accuracy = f", accuracy {logs['accuracy']:.4f}" if "accuracy" in logs else ""
        print(f"{what}: {len(samples[1])} samples, loss {logs['loss']:.4f}{accuracy}, {told(logs, source.target)}")
    return 0
