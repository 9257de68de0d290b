"""``fastnn eval``."""

from __future__ import annotations

import argparse
import math

from fastnn import nn
from fastnn.cli.output import print_json
from fastnn.cli.run import Run
from fastnn.train.evaluation import Evaluation


def run(args: argparse.Namespace) -> int:
    """Print loss and accuracy on a split of the run's data."""
    place = Run.open(args.run)
    model = place.load_model()
    images, labels = place.config.load_data(args.split, place.data_folder(args.data_dir))
    logs = Evaluation(model, nn.CrossEntropyLoss(), ["accuracy"]).measure((images, labels))
    if not math.isfinite(logs["loss"]):
        raise FloatingPointError(f"{place.weights}: the loss on the {args.split} set is {logs['loss']}")
    if args.json:
        print_json({"run": place.folder, "split": args.split, "samples": len(labels), **logs})
    else:
        print(
            f"{args.split}: {len(labels)} samples, loss {logs['loss']:.4f}, accuracy "
            f"{logs['accuracy']:.4f}, error {100 * (1 - logs['accuracy']):.2f}%"
        )
    return 0
