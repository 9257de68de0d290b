"""``fastnn train``."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import shlex
import statistics
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import fastnn
import fastnn_ext.runtime as runtime
from fastnn import nn, optim
from fastnn.cli.output import describe_model, print_json
from fastnn.cli.run import Config, Run, remember_data_folder
from fastnn.config import get_num_threads
from fastnn.optim.optimizer import Optimizer
from fastnn.seed import manual_seed
from fastnn.train import Trainer, callbacks
from fastnn.train.checkpoint import read_checkpoint


def run(args: argparse.Namespace) -> int:
    """Train, with a part of the training data held out for validation; leave a run folder; at last, test."""
    with contextlib.ExitStack() as until_done:
        return _train(args, until_done)


def _train(args: argparse.Namespace, until_done: contextlib.ExitStack) -> int:
    given = {field.name: getattr(args, field.name, None) for field in fields(Config)}
    resumed = None if args.resume is None else _resume(args, given, until_done)
    config = resumed.config if resumed else Config.of(given)
    manual_seed(config.seed)
    # The user names the folder, now or before; what a run that is resumed names is not taken unasked.
    folder = config.data_dir if resumed is None else resumed.data_folder(args.data_dir)
    if resumed is None and folder is not None:
        remember_data_folder(folder)
    model = config.make_model()
    trainer = Trainer(model, nn.CrossEntropyLoss(), make_optimizer(config, model))
    train, validation = config.training_data(folder)
    test = config.load_data("test", folder)
    place = resumed or Run.make(args.out, config)
    if resumed is None:
        until_done.enter_context(place.lock())
    place.save_config()

    samples = len(train.dataset)
    count = f"{samples} shifted" if config.shifts else samples
    out = sys.stderr if args.json else sys.stdout
    print(
        f"fastnn {fastnn.__version__}: {describe_model(config)} on {config.data}, "
        f"{count} samples to train, {len(validation[0])} to validate, {len(test[0])} to test; {get_num_threads()} "
        f"thread{'s' if get_num_threads() > 1 else ''}, {runtime.get_isa()}; {place.folder}",
        file=out,
        flush=True,
    )
    with _hint(place):
        history = trainer.fit(
            train,
            validation_data=validation,
            epochs=config.epochs,
            resume=place.checkpoint if resumed else None,
            callbacks=[
                callbacks.LearningRateScheduler(schedule(config)),
                callbacks.CSVLogger(place.history),
                callbacks.ProgressBar(out),
                callbacks.LambdaCallback(on_epoch_end=lambda *_: model.save(place.weights)),
                callbacks.ModelCheckpoint(place.checkpoint),
            ],
        ).history
    tested = trainer.evaluate(test)
    if not math.isfinite(tested["loss"]):
        raise FloatingPointError(f"{place.weights}: the loss on the test set is {tested['loss']}")
    speed = statistics.median(history["samples_per_second"])
    result = {
        "run": place.folder,
        "epochs": trainer.epoch,
        "steps": trainer.step,
        "samples_per_second": speed,
        "seconds_per_epoch": samples / speed,
        "train": {"loss": history["loss"][-1], "accuracy": history["accuracy"][-1]},
        "validation": {"loss": history["val_loss"][-1], "accuracy": history["val_accuracy"][-1]},
        "test": tested,
    }
    if args.json:
        print_json(result)
    else:
        print(
            f"test error {100 * (1 - tested['accuracy']):.2f}%, {samples / speed:.2f} s an epoch, "
            f"{speed:,.0f} samples/s (medians); the run is in {place.folder}"
        )
    return 0


def make_optimizer(config: Config, model: nn.Module) -> Optimizer:
    """The optimizer that a configuration names."""
    if config.optimizer == "sgd":
        return optim.SGD(model.parameters(), config.lr, config.momentum, weight_decay=config.weight_decay)
    kinds = {name.lower(): getattr(optim, name) for name in optim.__all__}
    made: Optimizer = kinds[config.optimizer](model.parameters(), config.lr, weight_decay=config.weight_decay)
    return made


def schedule(config: Config) -> Callable[[int], float]:
    """The learning rate of each epoch: constant, or along a half cosine (Loshchilov and Hutter,
    2017, eq. 5, without restarts) that would reach zero one epoch after the last."""
    if config.schedule == "constant":
        return lambda epoch: config.lr
    return lambda epoch: config.lr * 0.5 * (1 + math.cos(math.pi * epoch / config.epochs))


def _resume(args: argparse.Namespace, given: dict[str, Any], until_done: contextlib.ExitStack) -> Run:
    for name, value in {**given, "out": args.out}.items():
        if value is not None and name not in ("epochs", "data_dir"):
            raise ValueError(f"--{name.replace('_', '-')}: the run of --resume has its own already; leave it out")
    run = Run.open(args.resume)
    until_done.enter_context(run.lock())
    if given["epochs"] is not None:
        run.config = replace(run.config, epochs=given["epochs"])
    if given["data_dir"] is not None:
        run.config = replace(run.config, data_dir=os.path.abspath(given["data_dir"]))
    run.check_size(run.checkpoint, "model/")
    done = read_checkpoint(run.checkpoint)[0]["epoch"]
    if done >= run.config.epochs:
        raise ValueError(f"{run.folder} has done its {done} epochs; a larger --epochs goes on")
    return run


@contextlib.contextmanager
def _hint(place: Run) -> Any:
    """Tell who interrupts how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        folder = shlex.quote(place.folder)
        raise KeyboardInterrupt(f"; go on with: fastnn train --resume {folder}") from None
