"""What the command line understands."""

from __future__ import annotations

import argparse
import math
import sys
import textwrap
from typing import Any, NoReturn

import fastnn
from fastnn.cli import bench, convert, evaluate, info, plot, predict, train
from fastnn.cli.config import DEFAULTS, MODELS, NAMED, OWN_DEFAULTS, RATES, SCHEDULES


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
    _convert(commands)
    return top


def _command(commands: Any, name: str, run: Any, text: str, *aliases: str) -> Parser:
    description = "\n".join(textwrap.wrap(text, 100))
    command: Parser = commands.add_parser(name, help=text, description=description, allow_abbrev=False, aliases=aliases)
    command.set_defaults(command=run)
    command.add_argument("--threads", type=_at_least(1), metavar="N", help="default: all cores of this process")
    command.add_argument("--json", action="store_true", help="one JSON object on standard output")
    return command


def _train(commands: Any) -> None:
    text = (
        "Train a network and leave a run folder: on a table, arrays or images of your own, or on a known set; without "
        "options, on embedded digits. A part of the training data is held out for validation; a test set, if there is "
        "one, is measured when training is done."
    )
    command = _command(commands, "train", train.run, text)
    command.formatter_class = argparse.RawDescriptionHelpFormatter
    command.usage = "%(prog)s [--data NAME|FILE ...] [--target COLUMN] [options]"
    command.epilog = _epilog()
    add = _group(command, "data")
    add(
        "--data",
        nargs="+",
        metavar="NAME|FILE",
        help=f"{', '.join(NAMED)}; a table (.csv, .tsv) with --target; a folder with a folder of images a class; "
        "two .npy files, of inputs and targets; or an .npz file. Default: what goes with the model, or digits",
    )
    add("--data-dir", metavar="DIR", help="folder of the files of a known set (default: $FASTNN_DATA)")
    add("--target", metavar="COLUMN", help="of a table: what is to be predicted")
    add(
        "--task",
        choices=["regression", "classification"],
        help="default: classification for texts and for arrays of whole numbers, regression for other numbers",
    )
    add("--drop", type=_names, metavar="COLUMN,...", help="columns of a table to leave out, such as ids")
    add("--numeric", type=_names, metavar="COLUMN,...", help="columns that are numbers; default: recognised")
    add("--categorical", type=_names, metavar="COLUMN,...", help="columns that are categories; default: recognised")
    add("--decimal", choices=[".", ","], help="what stands before the decimals of a table's numbers; default: .")
    add(
        "--delimiter",
        metavar="C",
        help="between cells of a table; default: what its first line has most of",
    )
    add(
        "--image-size",
        type=_image_size,
        metavar="H,W",
        help="to which images of a folder are scaled and cut; default: that of the first one, 64 a side at most",
    )
    add("--grey", action="store_const", const=True, help="take images of a folder without their colours")
    add("--val-fraction", type=_share, metavar="X", help="share of the data held out for validation; default: 0.1")

    add = _group(command, "network")
    add(
        "--model",
        choices=MODELS,
        metavar="NAME",
        help=f"{', '.join(MODELS)}; default: cnn for images of your own, or mlp",
    )
    add("--hidden", type=_sizes, metavar="N,N,...", help="sizes of the hidden layers of mlp")
    add("--dropout", type=_number(1), metavar="P", help="probability of dropping a value of mlp")

    add = _group(command, "training")
    add("--epochs", type=_at_least(1), metavar="N")
    add("--batch-size", type=_at_least(1), metavar="N")
    add("--optimizer", choices=list(RATES), metavar="NAME", help=", ".join(RATES))
    add("--lr", type=_number(), metavar="X", help="learning rate at the beginning; default: the optimizer's, sgd 0.1")
    add("--momentum", type=_number(), metavar="X", help="of sgd; default: 0.9")
    add("--weight-decay", type=_number(), metavar="X")
    add(
        "--schedule",
        nargs="+",
        metavar="NAME",
        help="of the learning rate: cosine (default), constant, or a schedule of optim.lr_scheduler with its settings, "
        "such as: --schedule StepLR step_size=30 gamma=0.5",
    )
    add(
        "--early-stopping",
        type=_at_least(1),
        nargs="?",
        const=10,
        metavar="N",
        help="stop when the validation loss has not fallen for N epochs (10), and keep the best weights",
    )
    add(
        "--class-weight",
        dest="weigh",
        nargs="+",
        metavar="CLASS=X",
        help="what a sample of a class counts: balanced, or CLASS=WEIGHT ..., 1 for the others",
    )
    add(
        "--shifts",
        action=argparse.BooleanOptionalAction,
        help="train on copies moved by a pixel to each side, too (default for mlp on a known set)",
    )
    add(
        "--crops",
        action=argparse.BooleanOptionalAction,
        help="move images by up to four pixels and mirror them, by chance (default for cifar10)",
    )
    add("--seed", type=_at_least(0), metavar="N", help="default: 0")

    add = _group(command, "run folder")
    add("--out", metavar="DIR", help="run folder to make; default: runs/DATA-MODEL-NUMBER")
    add("--resume", metavar="RUN", help="go on with an interrupted run, to the same bits")


def _group(command: Parser, title: str) -> Any:
    return command.add_argument_group(title).add_argument


def _epilog() -> str:
    """Examples, and all that has a default by data and model."""
    lines = [
        "examples:",
        "  fastnn train --data houses.csv --target price --out houses",
        "  fastnn train --data flowers/ --image-size 64,64 --crops --early-stopping",
        "  fastnn train --data x.npy y.npy --hidden 128,64 --optimizer adamw --schedule OneCycleLR",
        "  fastnn predict houses new.csv --out predictions.csv",
        "",
        "schedules:",
        *textwrap.wrap(", ".join(("cosine", "constant", *SCHEDULES)), 100, initial_indent="  ", subsequent_indent="  "),
        "",
        "defaults:",
    ]
    uses = {f"{model} on {name}": values for (model, name), values in DEFAULTS.items()}
    uses |= {f"{'mlp' if kind == 'mlp' else 'other networks'} on own data": v for kind, v in OWN_DEFAULTS.items()}
    for use, values in uses.items():
        text = f"{use}: " + ", ".join(f"{k} {_text(v)}" for k, v in values.items())
        lines += textwrap.wrap(text, 100, initial_indent="  ", subsequent_indent="    ")
    rates = ", ".join(f"{name} {rate:g}" for name, rate in RATES.items())
    lines += textwrap.wrap(f"learning rates: {rates}", 100, initial_indent="  ", subsequent_indent="    ")
    return "\n".join(lines)


def _eval(commands: Any) -> None:
    text = "How good a run is: loss and accuracy, or errors in the target's own units."
    command = _command(commands, "eval", evaluate.run, text, "evaluate")
    _add_run(command)
    command.add_argument(
        "files", nargs="*", metavar="FILE", help="other data with their targets, as those that the run was trained on"
    )
    command.add_argument(
        "--split",
        choices=["train", "validation", "test"],
        help="of the run's own data; default: test, or validation where there is no test set",
    )
    _add_inputs(command)


def _predict(commands: Any) -> None:
    text = "Print a prediction for each sample: its class and the probability of that, or its value; a line each."
    command = _command(commands, "predict", predict.run, text)
    _add_run(command)
    command.add_argument(
        "files",
        nargs="*",
        metavar="FILE",
        help="samples of the kind that the run was trained on: a table, images or folders of them, or .npy (for known "
        "sets also IDX): floats as the network takes them, or integers, which are scaled as the run's data set is; "
        "default: the test set, or the validation set where there is none",
    )
    command.add_argument("--samples", type=_range, metavar="FIRST:END", help="only these, such as 0:10")
    command.add_argument(
        "-o", "--out", metavar="FILE", help="write a CSV file instead; of a network that is a file, .npy or .npz, too"
    )
    _add_inputs(command)


def _plot(commands: Any) -> None:
    text = "Draw curves, filters, feature maps and mistakes of a run, as PNG files (matplotlib)."
    command = _command(commands, "plot", plot.run, text)
    _add_run(command, files=False)
    add = command.add_argument
    add("--out", metavar="DIR", help="folder of the pictures; default: the run's")
    add("--sample", type=_at_least(0), default=0, metavar="N", help="test image to show maps of")
    add("--layer", metavar="NAME", help="whose maps to show; default: the first that makes images")


def _bench(commands: Any) -> None:
    text = "Time training steps and inference of a network on this machine."
    command = _command(commands, "bench", bench.run, text)
    add = command.add_argument
    add("run", nargs="?", metavar="RUN|FILE", help=_RUN_OR_FILE)
    add("--weights", metavar="FILE", help="Caffe's other file, if it is not the only one beside the first")
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
    text = "Describe this installation and machine, a run, or a file of a network."
    command = _command(commands, "info", info.run, text)
    command.add_argument("run", nargs="?", metavar="RUN|FILE", help=_RUN_OR_FILE)
    _add_file(command)


def _convert(commands: Any) -> None:
    text = "Write a network as a file of another kind: .onnx, .safetensors, or .prototxt with .caffemodel."
    command = _command(commands, "convert", convert.run, text)
    command.add_argument("run", metavar="RUN|FILE", help=_RUN_OR_FILE)
    command.add_argument("out", metavar="OUT", help="the file to write; the ending of its name says the kind")
    _add_file(command)
    command.set_defaults(exports=False)
    command = _command(commands, "export", convert.run, "Write the network of a run as an ONNX file.")
    command.add_argument("run", metavar="RUN|FILE", help=_RUN_OR_FILE)
    command.add_argument("out", metavar="OUT", help="the file to write, such as model.onnx")
    _add_file(command)
    command.set_defaults(exports=True)


_RUN = "folder that `fastnn train` left"
_RUN_OR_FILE = f"{_RUN}, or a file of a network: ONNX, Keras, Caffe or Torch7"


def _add_file(command: Parser) -> None:
    add = command.add_argument
    add("--weights", metavar="FILE", help="Caffe's other file, if it is not the only one beside the first")
    add("--input", type=_sizes, metavar="N,N,...", help="sizes of a sample, where the file does not say them")


def _add_inputs(command: Parser) -> None:
    """How samples become what a network of a file takes."""
    _add_file(command)
    add = command.add_argument
    add("--scale", type=_above_zero, metavar="X", help="divide samples by this first: 255 makes bytes numbers up to 1")
    add("--mean", type=_reals, metavar="X,...", help="then subtract this, or one a channel")
    add("--std", type=_reals, metavar="X,...", help="then divide by this, or one a channel")


def _add_run(command: Parser, files: bool = True) -> None:
    add = command.add_argument
    add("run", metavar="RUN|FILE" if files else "RUN", help=_RUN_OR_FILE if files else _RUN)
    add("--data-dir", metavar="DIR", help="folder of the data files (default: the run's)")
    more = f"; for a network's file, {', '.join(NAMED)}, or .npy files of inputs and targets" if files else ""
    add("--data", nargs="+", metavar="FILE", help=f"where one's own data are (default: the run's){more}")


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


def _reals(text: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(map(math.isfinite, numbers)):
        raise argparse.ArgumentTypeError(f"expected numbers such as 0.5 or 0.49,0.48,0.45; got {text!r}")
    return numbers


def _above_zero(text: str) -> float:
    value: float = _number()(text)
    if not value:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise argparse.ArgumentTypeError(f"expected names of columns such as id,name; got {text!r}")
    return names


def _image_size(text: str) -> tuple[int, int]:
    sizes = _sizes(text)
    if len(sizes) > 2:
        raise argparse.ArgumentTypeError(f"expected a height and a width such as 64,64; got {text!r}")
    return sizes[0], sizes[-1]


def _share(text: str) -> float:
    value: float = _number(1)(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0 and below 1, got {text!r}")
    return value


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
