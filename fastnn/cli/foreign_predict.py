"""``fastnn predict`` and ``fastnn eval`` of a network that is one file."""

from __future__ import annotations

import argparse
import io
import math
import os
from typing import Any

import numpy as np

from fastnn import _check, nn
from fastnn.cli.foreign import Array, Network, scaled
from fastnn.cli.output import print_json
from fastnn.cli.sets import SETS, read_set
from fastnn.cli.source import read_samples
from fastnn.data import read_npy
from fastnn.files import write_atomically
from fastnn.train.metrics import accuracy

_ROWS = 1 << 16  # numbers that are printed, at most, if no file is asked for


def run_predict(args: argparse.Namespace) -> int:
    """Print what a network gives for samples, a line each, or write it as .npy, .npz or .csv."""
    if not args.files:
        raise ValueError(f"FILE: {args.run} is a network; name the samples, such as: fastnn predict {args.run} x.npy")
    network = Network.open(args)
    if len(args.files) != len(network.shapes):
        raise ValueError(
            f"FILE: {args.run} has {len(network.shapes)} inputs, a file each; got {len(args.files)} file(s)"
        )
    inputs = []
    for i, name in enumerate(args.files):
        array = network.fitted(scaled(read_samples(name), args), name, i)
        inputs.append(array if args.samples is None else _part(array, args.samples))
    if len({len(array) for array in inputs}) > 1:
        raise ValueError(f"FILE: the files hold {', '.join(str(len(array)) for array in inputs)} samples")
    outputs = network.outputs(inputs)
    wrong = sum(int((~np.isfinite(o)).any()) for o in outputs if o.dtype.kind == "f")
    if wrong and all(np.isfinite(array).all() for array in inputs if array.dtype.kind == "f"):
        raise FloatingPointError(f"{args.run}: the output is not finite for samples of {args.files[0]}")
    if args.out is not None:
        write_atomically(args.out, _as_file(args.out, outputs))
    if args.json:
        values = [_check.plain(output) if output.ndim == 0 else output.tolist() for output in outputs]
        print_json({"file": args.run, "samples": len(inputs[0]), "outputs": values if args.out is None else args.out})
    elif args.out is not None:
        shapes = " and ".join(str(output.shape) for output in outputs)
        print(f"{len(inputs[0])} predictions are in {args.out}: {shapes}")
    else:
        _print(args, outputs)
    return 0


def run_eval(args: argparse.Namespace) -> int:
    """Print loss and accuracy, or how far numbers are off, of a network on a known set or on .npy files."""
    network = Network.open(args)
    if args.files:
        raise ValueError(f"{args.files[0]}: say with --data what {args.run} is measured on")
    if not args.data:
        raise ValueError(
            f"--data: say what {args.run} is measured on: {', '.join(SETS)}, or two .npy files, of inputs and targets"
        )
    if len(args.data) == 1 and args.data[0] in SETS:
        what = args.split or "test"
        if what == "validation":
            raise ValueError(f"--split: {args.data[0]} has the parts train and test")
        x, y = read_set(args.data[0], what, args.data_dir)
    else:
        if len(args.data) != len(network.shapes) + 1:
            raise ValueError(
                f"--data: expected one of {', '.join(SETS)}, or {len(network.shapes) + 1} .npy files, of inputs and "
                f"targets; got {_check.some(args.data)}"
            )
        what = args.data[0]
        x, y = read_samples(args.data[0]), read_npy(args.data[-1])
    inputs = [network.fitted(scaled(x, args), args.data[0])]
    inputs += [network.fitted(read_samples(name), name, i) for i, name in enumerate(args.data[1:-1], 1)]
    if {len(array) for array in inputs} != {len(y)}:
        raise ValueError(f"--data: {len(y)} targets for {', '.join(str(len(array)) for array in inputs)} samples")
    output = network.outputs(inputs)[0]
    logs = _measures(args, output, y)
    if not math.isfinite(logs["loss"]):
        raise FloatingPointError(f"{args.run}: the loss on {what} is {logs['loss']}")
    if args.json:
        print_json({"file": args.run, "data": args.data, "samples": len(y), **logs})
    else:
        told = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in logs.items())
        error = f", error {100 * (1 - logs['accuracy']):.2f}%" if "accuracy" in logs else ""
        print(f"{what}: {len(y)} samples, {told}{error}")
    return 0


def _measures(args: argparse.Namespace, output: Array, y: Array) -> dict[str, float]:
    """Loss and accuracy for classes, whole numbers, and mean errors for others."""
    if output.ndim == 2 and output.shape[1] == 1:
        output = output[:, 0]
    classes = y.reshape(len(y)).astype(np.int64) if y.dtype.kind in "iub" and y.size == len(y) else None
    if classes is None:
        if output.size != y.size:
            raise ValueError(f"{args.run}: outputs have shape {output.shape}, and the targets {y.shape}")
        error = output.reshape(-1).astype(np.float64) - y.reshape(-1)
        return {
            "loss": float(np.square(error).mean()),
            "root_mean_squared_error": float(np.sqrt(np.square(error).mean())),
            "mean_absolute_error": float(np.abs(error).mean()),
        }
    if output.ndim == 1:
        if set(np.unique(classes).tolist()) - {0, 1}:
            raise ValueError(f"{args.run}: it gives one number a sample, and the classes are not 0 and 1 alone")
        logits = _logits(output) if ((output >= 0) & (output <= 1)).all() else output
        loss = nn.BCEWithLogitsLoss()(logits, classes.astype(logits.dtype))
        return {"loss": loss, "accuracy": accuracy(logits, classes.astype(logits.dtype))}
    if output.ndim != 2:
        raise ValueError(f"{args.run}: outputs have shape {output.shape}; expected (N, classes)")
    if classes.min() < 0 or classes.max() >= output.shape[1]:
        raise ValueError(f"{args.run}: it has {output.shape[1]} outputs, and the classes go to {classes.max()}")
    # The softmax of logarithms of probabilities is the probabilities: so it may be either, or logits.
    is_share = bool((output >= 0).all() and np.allclose(output.sum(1), 1, atol=1e-3))
    smallest = np.finfo(output.dtype).tiny
    logits = np.log(np.maximum(output, smallest)) if is_share else output
    return {"loss": nn.CrossEntropyLoss()(logits, classes), "accuracy": accuracy(output, classes)}


def _logits(shares: Array) -> Array:
    tiny = np.finfo(shares.dtype).eps
    inner = np.clip(shares, tiny, 1 - tiny)
    return np.asarray(np.log(inner) - np.log1p(-inner))


def _part(array: Array, samples: slice) -> Array:
    if samples.stop > len(array):
        raise ValueError(
            f"--samples: expected a part of the {len(array)} samples, 0:{len(array)}, got "
            f"{samples.start}:{samples.stop}"
        )
    return array[samples]


def _as_file(path: str, outputs: list[Array]) -> bytes:
    """The outputs as .npy, or, of several, as .npz; as .csv where the name says so."""
    ending = os.path.splitext(path)[1].lower()
    file = io.BytesIO()
    if ending == ".npz" or (ending == ".npy" and len(outputs) > 1):
        if ending == ".npy":
            raise ValueError(f"--out: {len(outputs)} outputs go into a file .npz, not {path}")
        np.savez(file, *outputs)
    elif ending == ".npy":
        np.save(file, outputs[0])
    elif ending == ".csv":
        rows = np.concatenate([output.reshape(len(output), -1) for output in outputs], axis=1)
        np.savetxt(file, rows, fmt="%.9g", delimiter=",")
    else:
        raise ValueError(f"--out: expected a name that ends in .npy, .npz or .csv, got {_check.brief(path)}")
    return file.getvalue()


def _print(args: argparse.Namespace, outputs: list[Array]) -> None:
    if sum(output.size for output in outputs) > _ROWS:
        shapes = " and ".join(str(output.shape) for output in outputs)
        raise ValueError(f"--out: the outputs are many numbers, {shapes}; name a file, such as --out y.npy")
    rows: list[list[Any]] = [[] for _ in range(len(outputs[0]))]
    for output in outputs:
        for row, values in zip(rows, output.reshape(len(output), -1).tolist(), strict=True):
            row += values
    print("\n".join(" ".join(f"{value:.6g}" for value in row) for row in rows))
