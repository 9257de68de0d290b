"""``fastnn train``."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import shlex
import statistics
import sys
from dataclasses import replace
from typing import Any

import fastnn
import fastnn_ext.runtime as runtime
from fastnn.cli.config import NAMED, Config, schedule_of
from fastnn.cli.learning import check_fit, make_loss, make_model, make_optimizer, make_schedule
from fastnn.cli.output import describe_model, in_own_units, print_json, told
from fastnn.cli.own import Own, class_weights
from fastnn.cli.run import Run, remember
from fastnn.cli.sets import Named
from fastnn.config import get_num_threads
from fastnn.seed import manual_seed
from fastnn.train import Trainer, callbacks
from fastnn.train.checkpoint import read_checkpoint

#: Options that are no part of how a run is trained.
_OTHERS = ("command", "threads", "json", "resume", "out")


def run(args: argparse.Namespace) -> int:
    """Train, with a part of the training data held out for validation; leave a run folder; at last, test."""
    with contextlib.ExitStack() as until_done:
        return _train(args, until_done)


def _train(args: argparse.Namespace, until_done: contextlib.ExitStack) -> int:
    given = {name: value for name, value in vars(args).items() if name not in _OTHERS}
    if args.schedule is not None:
        given |= schedule_of(args.schedule)
    resumed = None if args.resume is None else _resume(args, given, until_done)
    source = _source(given) if resumed is None else resumed.source(args.data or args.data_dir)
    config = source.config if resumed is None else resumed.config
    manual_seed(config.seed)
    model = make_model(config, source.shape, source.target.outputs)
    if resumed is None:
        check_fit(config, model, source.shape)
    optimizer = make_optimizer(config, model)
    trainer = Trainer(model, make_loss(config, source.target), optimizer)
    train, validation, test = source.training()
    schedule = make_schedule(config, optimizer, len(train))
    place = resumed or Run.make(args.out, config)
    if resumed is None:
        until_done.enter_context(place.lock())
        if isinstance(source, Own):
            place.save_recipe(source.recipe)
    place.save_config()

    samples = len(train.dataset)
    count = f"{samples} shifted" if config.shifts else samples
    tested = "" if test is None else f", {len(test[0])} to test"
    out = sys.stderr if args.json else sys.stdout
    if isinstance(source, Own):
        for note in source.recipe.notes():
            print(note, file=out)
    print(
        f"fastnn {fastnn.__version__}: {describe_model(config, source)} on {_data_of(source)}, "
        f"{count} samples to train, {len(validation[0])} to validate{tested}; {get_num_threads()} "
        f"thread{'s' if get_num_threads() > 1 else ''}, {runtime.get_isa()}; {place.folder}",
        file=out,
        flush=True,
    )
    stopping = []
    if config.early_stopping is not None:
        stopping.append(callbacks.EarlyStopping(patience=config.early_stopping, restore_best=True))
    with _hint(place):
        history = trainer.fit(
            train,
            validation_data=validation,
            epochs=config.epochs,
            resume=place.checkpoint if resumed else None,
            callbacks=[
                schedule,
                *stopping,
                callbacks.CSVLogger(place.history),
                callbacks.ProgressBar(out),
                callbacks.LambdaCallback(on_epoch_end=lambda *_: model.save(place.weights)),
                callbacks.ModelCheckpoint(place.checkpoint),
            ],
        ).history
    # The weights are those of the last epoch, or the best.
    best = len(history["loss"]) - 1
    if stopping:
        model.save(place.weights)
        if stopping[0].best in history["val_loss"]:  # no loss is, if none was finite
            best = history["val_loss"].index(stopping[0].best)
    measured = {} if test is None else {"test": trainer.evaluate(test)}
    for logs in measured.values():
        if not math.isfinite(logs["loss"]):
            raise FloatingPointError(f"{place.weights}: the loss on the test set is {logs['loss']}")
    speed = statistics.median(history["samples_per_second"])
    names = ["loss", *(name for name in ("accuracy",) if name in history)]
    result: dict[str, Any] = {
        "run": place.folder,
        "epochs": trainer.epoch,
        "steps": trainer.step,
        "samples_per_second": speed,
        "seconds_per_epoch": samples / speed,
        "train": {name: history[name][best] for name in names},
        "validation": {name: history[f"val_{name}"][best] for name in names},
        **measured,
    }
    if stopping:
        result["best_epoch"] = best + 1
    for split, part in (("validation", validation), ("test", test)):
        if part is not None:
            result[split] |= in_own_units(source.target, trainer.predict(part[0]), part[1])
    if args.json:
        print_json(result)
    else:
        split = "validation" if test is None else "test"
        weights = f"; the weights are those of epoch {best + 1}" if stopping else ""
        print(
            f"{split} {told(result[split], source.target)}, {samples / speed:.2f} s an epoch, "
            f"{speed:,.0f} samples/s (medians){weights}; the run is in {place.folder}"
        )
    return 0


def _source(given: dict[str, Any]) -> Named | Own:
    """The data of a run that begins, with its configuration: a known set, or the user's own."""
    names = given.get("data")
    if names is not None and not (len(names) == 1 and names[0] in NAMED):
        own = Own.new(given, names)
        for name in own.files:
            remember(name)
        return own
    for option in ("target", "task", "numeric", "categorical", "drop", "delimiter", "decimal", "image_size", "grey"):
        if given.get(option) is not None:
            what = f"--data {names[0]}" if names else "the sets that are known by name"
            raise ValueError(f"--{option.replace('_', '-')}: it goes with data of your own, not with {what}")
    chosen = {name: value for name, value in given.items() if name in Config.__annotations__}
    config = Config.of({**chosen, "data": names[0] if names else None})
    source = Named(config, config.data_dir)
    # The user names the folder, now or before; what a run that is resumed names is not taken unasked.
    if config.data_dir is not None:
        remember(config.data_dir)
    if given.get("weigh") is not None:
        config.class_weight = class_weights(given["weigh"], source.target, source.load("train")[1])
    return source


def _data_of(source: Named | Own) -> str:
    if isinstance(source, Named):
        return source.config.data
    what = os.path.basename(os.path.normpath(source.files[0]))
    if source.target.task == "classification":
        return f"{what} ({source.target.outputs} classes)"
    return what


def _resume(args: argparse.Namespace, given: dict[str, Any], until_done: contextlib.ExitStack) -> Run:
    for name, value in {**given, "out": args.out}.items():
        if value is not None and name not in ("epochs", "data_dir", "data"):
            option = {"weigh": "class-weight"}.get(name, name.replace("_", "-"))
            raise ValueError(f"--{option}: the run of --resume has its own already; leave it out")
    run = Run.open(args.resume)
    until_done.enter_context(run.lock())
    if given["epochs"] is not None:
        run.config = replace(run.config, epochs=given["epochs"])
    if given["data_dir"] is not None:
        run.config = replace(run.config, data_dir=os.path.abspath(given["data_dir"]))
    if given["data"] is not None:
        if not run.config.files:
            raise ValueError("--data: the run of --resume has its own already; leave it out")
        run.config = replace(run.config, files=[os.path.abspath(name) for name in given["data"]])
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
