"""``fastnn bench``."""

from __future__ import annotations

import argparse
import functools
import importlib
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn import config, models, nn, optim, plotting
from fastnn.cli.foreign import Network, is_file, not_for_runs
from fastnn.cli.output import print_json, without_a_window, write_picture
from fastnn.cli.run import Run
from fastnn.lowering.explain import work
from fastnn.lowering.profile import Profile
from fastnn.lowering.program import Program
from fastnn.lowering.roofline import roofline
from fastnn.train import TrainStep
from fastnn_ext import runtime

Array = np.ndarray[Any, Any]

#: Sizes of one sample of the networks of fastnn.models.
INPUTS = {
    "mlp": (784,),
    "lenet5": (1, 28, 28),
    **dict.fromkeys(("resnet20", "resnet32", "resnet56", "resnet110"), (3, 32, 32)),
}
OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    # Steps so small that thousands on one batch change nothing about the numbers' size.
    "sgd": lambda p: optim.SGD(p, lr=1e-6, momentum=0.9),
    "adam": lambda p: optim.Adam(p, lr=1e-6),
    "adamw": lambda p: optim.AdamW(p, lr=1e-6),
}
TURN = 0.02  # seconds of calls that are timed together


def run(args: argparse.Namespace) -> int:
    """Time a network on one thread and on all, and hold it against what the machine gives."""
    if not args.seconds > 0:
        raise ValueError(f"--seconds: expected more than 0, got {args.seconds}")
    if args.plot:
        without_a_window()
    name, model, shapes, fixed = _model(args)
    size = fixed or args.batch_size or 64
    if args.batch_size not in (None, size):
        raise ValueError(f"--batch-size: {name} takes {fixed} at a time, got {args.batch_size}")
    draw = np.random.default_rng(0)
    x = [draw.standard_normal((size, *shape), dtype=np.float32) for shape in shapes]
    try:
        target, loss = _target(model, x)
    except (TypeError, ValueError) as error:
        what = f"{args.run}:" if args.run is not None else f"--model {name} with"
        sizes = " and ".join(",".join(map(str, shape)) for shape in shapes)
        raise ValueError(f"{what} an --input of {sizes}: {error}") from None
    step = TrainStep(model, loss, OPTIMIZERS[args.optimizer or "sgd"](model.parameters()))
    frozen = model.frozen()
    counts = sorted({1, config.get_num_threads()})
    machine = [{"threads": n, **_roof(n)} for n in counts]
    lines = []
    for threads in counts:
        with config.threads(threads):
            lines.append(_measure("training step", size, threads, lambda: step(*x, target), args.seconds))
            lines[-1].update(_rates(lines[-1], step.plan(*x, target)))
            for batch in sorted({size, fixed or 1}, reverse=True):
                part = [array[:batch] for array in x]
                lines.append(_measure("inference", batch, threads, functools.partial(frozen, *part), args.seconds))
                lines[-1].update(_rates(lines[-1], frozen.plan(*part)))
    profile = None
    if args.profile or args.trace or args.plot:
        profile = step.plan(*x, target).profile(*x, target)
        _keep(profile, args)
    if args.json:
        print_json({"model": name, "isa": runtime.get_isa(), "machine": machine, "results": lines})
        return 0
    for m in machine:
        print(f"{m['threads']} thread(s), {runtime.get_isa()}: {m['gflops']:.0f} GF/s, {m['gbytes']:.0f} GB/s")
    parameters = sum(p.size for p in model.parameters())
    print(f"{name}, {parameters:,} parameters, samples of {' and '.join('x'.join(map(str, s)) for s in shapes)}")
    for entry in lines:
        print(_line(entry))
    if args.profile:
        print(profile)
    return 0


def _model(args: argparse.Namespace) -> tuple[str, nn.Module, list[tuple[int, ...]], int | None]:
    """The network, in training mode, with its name, the sizes of one sample of each input, and of its batch where it
    takes one alone."""
    if args.run is not None:
        if is_file(args.run):
            if args.model is not None:
                raise ValueError(f"--model: {args.run} is a network already; leave it out")
            network = Network.open(args)
            shapes = [array.shape[1:] for array in network.example(1)]
            return args.run, network.model.train(), shapes, network.batch
        not_for_runs(args)
        if args.model is not None or args.input is not None:
            raise ValueError(f"RUN {args.run}: it has a model and an input already; leave --model and --input out")
        place = Run.open(args.run)
        return place.folder, place.load_model().train(), [place.source(asked=False).shape], None
    name = args.model or "lenet5"
    if ":" in name:
        if args.input is None:
            raise ValueError(
                "--input: the sizes of one sample are needed for a model of your own, such as --input 3,32,32"
            )
        model = _own(name)
    else:
        make = getattr(models, name, None)
        if not callable(make) or not name.islower():
            known = ", ".join(n for n in models.__all__ if n.islower())
            raise ValueError(f"--model: {name!r} is none of {known}, nor MODULE:FUNCTION")
        model = models.mlp(784, (512, 256), 10) if name == "mlp" else make()
    return name, model.train(), [tuple(args.input or INPUTS.get(name, (3, 224, 224)))], None


def _own(name: str) -> nn.Module:
    module, _, function = name.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        model = getattr(importlib.import_module(module), function)()
    except (ImportError, AttributeError, TypeError) as error:
        raise ValueError(f"--model {name}: {error}") from None
    finally:
        sys.path.remove(os.getcwd())
    if not isinstance(model, nn.Module):
        raise ValueError(f"--model {name}: it returned {type(model).__name__}, not a Module")
    return model


def _target(model: nn.Module, x: list[Array]) -> tuple[Array, Callable[..., Any]]:
    """Labels and cross-entropy for rows of logits; else zeros and the mean squared error. Of several outputs the first
    is trained on."""
    output = model.eval()(*x)
    model.train()
    loss: Callable[..., Any]
    one = output[0] if isinstance(output, tuple) else output
    if not isinstance(one, np.ndarray):
        raise ValueError(f"its output is a {type(one).__name__}; an array, or a tuple of such, is expected")
    if one.ndim == 2 and one.shape[1] > 1:
        target, loss = np.random.default_rng(1).integers(0, one.shape[1], len(one)), nn.CrossEntropyLoss()
    else:
        target, loss = np.zeros_like(one), nn.MSELoss()
    if one is output:
        return target, loss
    return target, lambda outputs, labels: loss(outputs[0], labels)


def _measure(what: str, batch: int, threads: int, call: Callable[[], object], seconds: float) -> dict[str, Any]:
    for _ in range(3):
        call()
    begun = time.perf_counter()
    call()
    loops = max(1, round(TURN / max(time.perf_counter() - begun, 1e-7)))
    turns: list[float] = []
    end = time.perf_counter() + seconds
    while len(turns) < 3 or time.perf_counter() < end:
        begun = time.perf_counter()
        for _ in range(loops):
            call()
        turns.append((time.perf_counter() - begun) / loops)
    low, middle = min(turns), statistics.median(turns)
    times = {"min": low, "median": middle, "samples_per_second": batch / middle}
    return {"what": what, "batch": batch, "threads": threads, **times}


def _rates(entry: dict[str, Any], program: Program) -> dict[str, float]:
    part = entry["batch"] / program.batch
    flops = sum(work(op, part)[0] for phase in program.phases for op in phase)
    return {
        "gflops": flops / entry["min"] / 1e9,
        "share_of_peak": flops / entry["min"] / roofline(entry["threads"]).flops,
    }


def _roof(threads: int) -> dict[str, float]:
    roof = roofline(threads)
    return {"gflops": roof.flops / 1e9, "gbytes": roof.bytes / 1e9}


def _line(entry: dict[str, Any]) -> str:
    scale, unit = (1e6, "us") if entry["min"] < 1e-3 else (1e3, "ms")
    return (
        f"{entry['what'] + ', batch ' + str(entry['batch']):26} {entry['threads']} thread(s)  "
        f"{scale * entry['min']:8.2f} {unit} (median {scale * entry['median']:.2f})  "
        f"{entry['samples_per_second']:10,.0f} samples/s  {entry['gflops']:7.1f} GF/s, "
        f"{100 * entry['share_of_peak']:.0f}% of peak"
    )


def _keep(profile: Profile, args: argparse.Namespace) -> None:
    if args.trace:
        profile.save_trace(args.trace)
    if args.plot:
        write_picture(args.plot, lambda: plotting.plot_profile(profile))
