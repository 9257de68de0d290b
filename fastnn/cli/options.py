"""What the command line understands."""

from __future__ import annotations

import argparse
import math
import sys
from typing import Any, NoReturn

import fastnn
from fastnn.cli import bench, evaluate, info, plot, predict, train
from fastnn.cli.run import DEFAULTS, MODELS, RATES, SETS


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that says what is wrong in one line, and exits with 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"fastnn: error: {message} (see {self.prog} --help)\n")


def parser() -> Parser:
    """The parser of all commands; a parsed command is in ``args.command``."""
    top = Parser(prog="fastnn", description="Trains and runs neural networks on CPUs.")
    top.add_argument("--version", action="version", version=f"fastnn {fastnn.__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    _train(commands)
    _eval(commands)
    _predict(commands)
    _plot(commands)
    _bench(commands)
    _info(commands)
    return top


def _command(commands: Any, name: str, run: Any, text: str) -> Parser:
    command: Parser = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
    command.set_defaults(command=run)
    command.add_argument("--threads", type=_at_least(1), metavar="N", help="default: all cores of this process")
    command.add_argument("--json", action="store_true", help="one JSON object on standard output")
    return command


def _train(commands: Any) -> None:
    text = (
        "Train a network and leave a run folder; without options, on embedded digits. A tenth of the training data is "
        "held out for validation; the test set is measured when training is done."
    )
    command = _command(commands, "train", train.run, text)
    each = "; ".join(
        f"{model} on {name}: " + ", ".join(f"{k} {_text(v)}" for k, v in values.items())
        for (model, name), values in DEFAULTS.items()
    )
    command.epilog = f"Defaults: {each}. Learning rate, where not said: sgd 0.1, adam and adamw 0.001."
    add = command.add_argument
    add("--model", choices=MODELS, help="default: what goes with the data, or mlp")
    add("--hidden", type=_sizes, metavar="N,N,...", help="sizes of the hidden layers of mlp")
    add(
        "--data",
        choices=list(SETS),
        help="default: what goes with the model, or digits, which come with fastnn",
    )
    add("--data-dir", metavar="DIR", help="folder of the data files (default: $FASTNN_DATA)")
    add("--epochs", type=_at_least(1), metavar="N")
    add("--batch-size", type=_at_least(1), metavar="N")
    add("--optimizer", choices=list(RATES))
    add("--lr", type=_number(), metavar="X", help="learning rate at the beginning")
    add("--schedule", choices=["cosine", "constant"], help="of the learning rate; default: cosine")
    add("--momentum", type=_number(), metavar="X", help="of sgd; default: 0.9")
    add("--weight-decay", type=_number(), metavar="X")
    add("--dropout", type=_number(1), metavar="P", help="probability of dropping a value of mlp")
    add(
        "--shifts",
        action=argparse.BooleanOptionalAction,
        help="train on copies moved by a pixel to each side, too (default for mlp)",
    )
    add(
        "--crops",
        action=argparse.BooleanOptionalAction,
        help="move images by up to four pixels and mirror them, by chance (default for cifar10)",
    )
    add("--seed", type=_at_least(0), metavar="N", help="default: 0")
    add("--resume", metavar="RUN", help="go on with an interrupted run, to the same bits")
    add("--out", metavar="DIR", help="run folder to make; default: runs/DATA-MODEL-NUMBER")


def _eval(commands: Any) -> None:
    command = _command(commands, "eval", evaluate.run, "Loss and accuracy of a run.")
    _add_run(command)
    command.add_argument("--split", choices=["train", "validation", "test"], default="test", help="default: test")


def _predict(commands: Any) -> None:
    text = "Print the class of each sample and its probability, a line each."
    command = _command(commands, "predict", predict.run, text)
    _add_run(command)
    command.add_argument(
        "file",
        nargs="?",
        metavar="FILE",
        help="samples as .npy or IDX (.gz or not): floats as the network takes them, or integers, "
        "which are scaled as the run's data set is; default: the test set",
    )
    command.add_argument("--samples", type=_range, metavar="FIRST:END", help="only these, such as 0:10")


def _plot(commands: Any) -> None:
    text = "Draw curves, filters, feature maps and mistakes of a run, as PNG files (matplotlib)."
    command = _command(commands, "plot", plot.run, text)
    _add_run(command)
    add = command.add_argument
    add("--out", metavar="DIR", help="folder of the pictures; default: the run's")
    add("--sample", type=_at_least(0), default=0, metavar="N", help="test image to show maps of")
    add("--layer", metavar="NAME", help="whose maps to show; default: the first that makes images")


def _bench(commands: Any) -> None:
    text = "Time training steps and inference of a network on this machine."
    command = _command(commands, "bench", bench.run, text)
    add = command.add_argument
    add("run", nargs="?", metavar="RUN", help="folder that `fastnn train` left")
    add(
        "--model",
        metavar="NAME",
        help="a network of fastnn.models, such as resnet18; or MODULE:FUNCTION, a function of yours "
        "that takes no arguments and returns a Module; default: lenet5",
    )
    add("--input", type=_sizes, metavar="N,N,...", help="sizes of one sample, such as 3,224,224")
    add("--batch-size", type=_at_least(1), metavar="N", help="default: 64")
    add("--optimizer", choices=["sgd", "adam", "adamw"], help="default: sgd, with momentum")
    add("--seconds", type=float, default=1.0, metavar="X", help="a line; default: 1")
    add("--profile", action="store_true", help="print the time of each op of a training step, too")
    add("--trace", metavar="FILE", help="write some steps as a Chrome trace (ui.perfetto.dev)")
    add("--plot", metavar="FILE", help="draw the profile (matplotlib)")


def _info(commands: Any) -> None:
    text = "Describe this installation and machine, or a run."
    command = _command(commands, "info", info.run, text)
    command.add_argument("run", nargs="?", metavar="RUN", help="folder that `fastnn train` left")


def _add_run(command: Parser) -> None:
    command.add_argument("run", metavar="RUN", help="folder that `fastnn train` left")
    command.add_argument("--data-dir", metavar="DIR", help="folder of the data files (default: the run's)")


def _at_least(minimum: int) -> Any:
    def integer(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = minimum - 1
        if not minimum <= number < 2**63:
            raise argparse.ArgumentTypeError(f"expected an integer from {minimum}, got {text!r}")
        return number

    return integer


def _number(maximum: float = sys.float_info.max) -> Any:
    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 <= value <= maximum:
            wanted = f"from 0 to {maximum:g}" if maximum < sys.float_info.max else "of at least 0"
            raise argparse.ArgumentTypeError(f"expected a number {wanted}, got {text!r}")
        return value

    return number


def _sizes(text: str) -> list[int]:
    try:
        sizes = [int(part) for part in text.split(",")]
        if min(sizes) < 1:
            raise ValueError
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected sizes such as 225,144; got {text!r}") from None
    return sizes


def _range(text: str) -> slice:
    try:
        first, end = (int(part) for part in text.split(":"))
        if not 0 <= first < end:
            raise ValueError
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a range such as 0:10; got {text!r}") from None
    return slice(first, end)


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
