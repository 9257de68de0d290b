"""The command line: ``fastnn train``, ``eval``, ``predict``, ``plot``, ``bench``, ``info``, ``convert``, ``export``."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from fastnn.cli.options import parser
from fastnn.config import set_num_threads
from fastnn.data._folders import DataNotFoundError

_LONGEST_LINE = 2000


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    argv : sequence of str, optional
        Default: the arguments of this process.

    Returns
    -------
    int
        0 if all went well; 1 where a loss or an output is not finite, and 2 after wrong options, or
        missing or damaged files, which one line on standard error explains; 130 after Ctrl-C.
    """
    args = parser().parse_args(argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn  # type: ignore[assignment]
            if args.threads is not None:
                set_num_threads(args.threads)
            status: int = args.command(args)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt as interrupt:
        print(f"fastnn: interrupted{interrupt}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read the output has gone (`| head`).
        _discard_output()
        return 1
    except FloatingPointError as error:
        return _fail(str(error), 1)
    except MemoryError as error:
        return _fail(f"not enough memory: {error}")
    except DataNotFoundError as error:
        return _fail(f"{error.advice}, or say where they are with --data-dir or the environment variable FASTNN_DATA")
    except OSError as error:
        if error.errno is None:
            return _fail(str(error))
        if error.filename is None:  # as no file: what is printed could not be, on a full disk perhaps
            _discard_output()
        return _fail(f"{error.filename or 'standard output'}: {error.strerror}")
    except ValueError as error:
        return _fail(str(error))


def _discard_output() -> None:
    """Let what is still to be printed go nowhere: the interpreter would try once more, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, status: int = 2) -> int:
    text = " ".join(message[:_LONGEST_LINE].split())
    print(f"fastnn: error: {text}{'...' if len(message) > _LONGEST_LINE else ''}", file=sys.stderr)
    return status


def _warn(message: Warning | str, *_: Any) -> None:
    """A warning as one line, without the place in the source."""
    print(f"fastnn: warning: {' '.join(str(message).split())}", file=sys.stderr)
