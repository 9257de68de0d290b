"""``fastnn predict``."""

from __future__ import annotations

import argparse
import csv
import io
from typing import Any, TypeAlias

import numpy as np

from fastnn import _check, nn
from fastnn.cli.foreign import is_file, not_for_runs
from fastnn.cli.foreign_predict import run_predict
from fastnn.cli.output import print_json
from fastnn.cli.own import Own
from fastnn.cli.run import Run
from fastnn.data import NumberTarget
from fastnn.files import write_atomically
from fastnn.train.evaluation import predict

Column: TypeAlias = tuple[str, list[Any]]


def run(args: argparse.Namespace) -> int:
    """Print or write a prediction for each sample of files, or of the run's test or validation set."""
    if is_file(args.run):
        return run_predict(args)
    not_for_runs(args)
    place = Run.open(args.run)
    source = place.source(args.data or args.data_dir, asked=not args.files)
    model = place.load_model()
    classes = not isinstance(source.target, NumberTarget)
    if classes:
        model = nn.Sequential(model, nn.Softmax(dim=1))
    names = labels = None
    if args.files:
        inputs, what = source.inputs(args.files), args.files[0]
        names = source.names(args.files) if isinstance(source, Own) else None
    else:
        split = "test" if "test" in source.splits else "validation"
        inputs, labels = source.load(split)
        what = f"the {split} set"
    if args.samples is not None:
        if args.samples.stop > len(inputs):
            raise ValueError(
                f"--samples: expected a part of the {len(inputs)} samples, 0:{len(inputs)}, got "
                f"{args.samples.start}:{args.samples.stop}"
            )
        inputs = inputs[args.samples]
        labels = None if labels is None else labels[args.samples]
        names = None if names is None else names[args.samples]
    output = predict(model, inputs)
    _check_finite(output, inputs, what, place.weights)
    predictions = source.decoded(output)
    columns: list[Column] = [] if names is None else [("file", names)]
    name = getattr(source.target, "name", None)
    if classes:
        columns += [(name or "class", predictions), ("probability", output.max(1).tolist())]
    else:
        numbers = [name or "value"] if output.shape[1] == 1 else [f"value{i}" for i in range(output.shape[1])]
        columns += zip(numbers, map(list, zip(*predictions, strict=True)), strict=True)
    truth = None if labels is None else _truth(source, labels)
    if args.out is not None:
        write_atomically(args.out, _as_csv(columns if truth is None else [*columns, ("label", truth)]).encode())
    if args.json:
        result: dict[str, Any] = {"run": place.folder, **({} if names is None else {"files": names})}
        if classes:
            result |= {"classes": predictions, "probabilities": columns[-1][1]}
        else:
            result["values"] = predictions
        print_json(result if truth is None else {**result, "labels": truth})
    elif args.out is not None:
        print(f"{len(predictions)} predictions are in {args.out}")
    else:
        shown = [[_text(value, heading == "probability") for value in values] for heading, values in columns]
        if truth is not None:
            shown.append([f"label {_text(value)}" for value in truth])
        print("\n".join(map(" ".join, zip(*shown, strict=True))))
    return 0


def _truth(source: Any, labels: np.ndarray[Any, Any]) -> list[Any]:
    """The targets of samples as predictions are written."""
    target = source.target
    if not isinstance(source, Own):
        return labels.tolist()  # type: ignore[no-any-return]
    if isinstance(target, NumberTarget):
        rows = target.decode(labels).tolist()
        return [row[0] if len(row) == 1 else row for row in rows]
    return [target.classes[label] for label in labels.tolist()]


def _text(value: Any, share: bool = False) -> str:
    """A value as a line shows it."""
    if isinstance(value, list):
        return " ".join(map(_text, value))
    if isinstance(value, float):
        return f"{value:.4f}" if share else f"{value:.6g}"
    return _check.printable(str(value))


def _as_csv(columns: list[Column]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(name for name, _ in columns)
    writer.writerows(zip(*(values for _, values in columns), strict=True))
    return text.getvalue()


def _check_finite(output: np.ndarray[Any, Any], inputs: np.ndarray[Any, Any], source: str, weights: str) -> None:
    wrong = np.flatnonzero(~np.isfinite(output).all(1))
    if len(wrong):
        text = f"{weights}: the output is not finite for {len(wrong)} of {len(inputs)} samples of {source}"
        if not np.isfinite(inputs[wrong]).all():
            text += ", which are not all finite themselves"
        raise FloatingPointError(text)
