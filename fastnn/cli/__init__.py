"""The command line: ``fastnn train``, ``eval``, ``predict``, ``plot`` and ``info``."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from fastnn.cli.options import parser
from fastnn.config import set_num_threads

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
        # Whoever read the output has gone (`| head`); the interpreter must not flush into the pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except FloatingPointError as error:
        return _fail(str(error), 1)
    except MemoryError as error:
        return _fail(f"not enough memory: {error}")
    except OSError as error:
        named = error.filename is not None and error.strerror is not None
        return _fail(f"{error.filename}: {error.strerror}" if named else str(error))
    except ValueError as error:
        return _fail(str(error))


def _fail(message: str, status: int = 2) -> int:
    text = " ".join(message[:_LONGEST_LINE].split())
    print(f"fastnn: error: {text}{'...' if len(message) > _LONGEST_LINE else ''}", file=sys.stderr)
    return status


def _warn(message: Warning | str, *_: Any) -> None:
    """A warning as one line, without the place in the source."""
    print(f"fastnn: warning: {' '.join(str(message).split())}", file=sys.stderr)
