"""Tables of text with named columns, read from CSV files."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn import _check
from fastnn.files import named

_DELIMITERS = (",", ";", "\t", "|")
_MARK = b"\xef\xbb\xbf"  # the byte order mark
_ROWS = 4096  # that are gathered before they become an array


class Table:
    """Rows of cells as a file has them: texts, under the names of their columns.

    `read_csv` makes one; a `TableRecipe` makes numbers of it.

    Parameters
    ----------
    names : sequence of str
        Of the columns.
    cells : array of str, shape (N, columns)
    source : str, default "table"
        What messages call it: the path of its file.
    lines : array of int, shape (N,), optional
        The line of the file in which each row begins. Default: 1, 2, ...
    decimal : {".", ","}
        What stands before the decimals of its numbers.

    Attributes
    ----------
    names : tuple of str
    cells : ndarray of object, shape (N, columns)
    source : str
    lines : ndarray of int64, shape (N,)

    Raises
    ------
    ValueError
        For names that are empty or occur twice, and for cells of another shape.

    Examples
    --------
    >>> table = fn.data.Table(["height", "kind"], [["1.5", "tall"], ["0.2", "low"], ["0.3", "low"]])
    >>> len(table), table["kind"].tolist()
    (3, ['tall', 'low', 'low'])
    >>> table[:2].names
    ('height', 'kind')
    """

    def __init__(
        self,
        names: Sequence[str],
        cells: ArrayLike,
        source: str = "table",
        lines: ArrayLike | None = None,
        decimal: str = ".",
    ) -> None:
        self.names = tuple(names)
        self.cells: NDArray[Any] = np.asarray(cells, dtype=object)
        self.source = source
        self.decimal = _check.choice("decimal", decimal, ".", ",")
        _check_names(source, self.names)
        if self.cells.ndim != 2 or self.cells.shape[1] != len(self.names):
            raise ValueError(
                f"cells: expected shape (N, {len(self.names)}), a column for each name, got {self.cells.shape}"
            )
        count = len(self.cells)
        self.lines: NDArray[np.int64] = np.asarray(np.arange(1, count + 1) if lines is None else lines, np.int64)
        if self.lines.shape != (count,):
            raise ValueError(f"lines: expected one for each of the {count} rows, got shape {self.lines.shape}")

    def __len__(self) -> int:
        return len(self.cells)

    def __getitem__(self, key: str | slice | ArrayLike) -> Any:
        """Return a column by its name, or some rows, chosen as NumPy does, as a Table."""
        if isinstance(key, str):
            return self.cells[:, self.index(key)]
        rows = key if isinstance(key, slice) else np.asarray(key)
        if not isinstance(rows, slice) and (rows.ndim != 1 or rows.dtype.kind not in "iub"):
            wanted = "the name of a column, a slice or row numbers"
            raise TypeError(f"table[...]: expected {wanted}, got {_check.brief(key)}")
        return Table(self.names, self.cells[rows], self.source, self.lines[rows], self.decimal)

    def index(self, name: str) -> int:
        """The number of a column; ValueError if there is none of this name."""
        try:
            return self.names.index(name)
        except ValueError:
            raise ValueError(
                f"{self.source}: there is no column {_check.brief(name)}; the columns are {_check.some(self.names)}"
            ) from None

    def __repr__(self) -> str:
        return f"Table({len(self)} rows of {_check.some(self.names)})"


def read_csv(
    path: str | os.PathLike[str],
    delimiter: str | None = None,
    names: Sequence[str] | None = None,
    decimal: str = ".",
) -> Table:
    """Read a file of comma-separated values in UTF-8 (RFC 4180), whose first line names the columns.

    Cells may be quoted ("..."), and then hold delimiters, line ends and doubled quotes. Empty lines are passed over, a
    byte order mark too. Spaces around a name or a cell mean nothing.

    Parameters
    ----------
    path : path-like
    delimiter : str, optional
        One character. Default: whichever of comma, semicolon, tab and ``|`` the first line has most of.
    names : sequence of str, optional
        The names of the columns, where the file does not begin with them.
    decimal : {".", ","}
        What stands before the decimals of numbers, as of pandas' read_csv.

    Returns
    -------
    Table

    Raises
    ------
    OSError
        If there is no such file, or the system does not let it be read.
    ValueError
        If it is no such table; the message begins with the path and says the line.

    Examples
    --------
    >>> with open("houses.csv", "w") as file:
    ...     count = file.write("rooms;district;price\\n3;north;310000\\n5;south;\\n")
    >>> table = fn.data.read_csv("houses.csv")
    >>> table.names, table["district"].tolist(), table.lines.tolist()
    (('rooms', 'district', 'price'), ['north', 'south'], [2, 3])
    """
    name = _check.path("path", path)
    if delimiter is not None and (not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '"\r\n \0'):
        raise ValueError(f"delimiter must be one character, such as ';', got {_check.brief(delimiter)}")
    with named(name), open(name, "rb") as file:
        data = file.read()
    _check.choice("decimal", decimal, ".", ",")
    _check_text(name, data)
    return _parsed(name, data, delimiter, names, decimal)


def is_number(text: str, decimal: str = ".") -> bool:
    """Whether a cell holds a number, which may be infinite."""
    try:
        return "_" not in text and not math.isnan(float(text.replace(decimal, ".")))
    except ValueError:
        return False


def _check_text(name: str, data: bytes) -> None:
    if not data.removeprefix(_MARK).strip():
        raise ValueError(f"{name}: the file is empty")
    try:
        data.decode("utf-8")
        wrong = data.find(b"\0")
        problem = "a zero byte, which no text has" if wrong >= 0 else ""
    except UnicodeDecodeError as error:
        wrong = error.start
        problem = f"byte 0x{data[wrong]:02x} is no UTF-8; save the table as UTF-8"
    if problem:
        line = data.count(b"\n", 0, wrong) + 1
        raise ValueError(f"{name}, line {line}: {problem}")


def _parsed(name: str, data: bytes, delimiter: str | None, names: Sequence[str] | None, decimal: str) -> Table:
    import csv

    text = io.TextIOWrapper(io.BytesIO(data), "utf-8-sig", newline="")
    reader = csv.reader(text, delimiter=delimiter or _delimiter(data), strict=True)
    header = None if names is None else [str(given) for given in names]
    rows: list[list[str]] = []
    begins: list[int] = []
    parts: list[NDArray[Any]] = []
    lines: list[NDArray[np.int64]] = []
    begin = 1

    def gather() -> None:
        if rows:
            parts.append(np.array(rows, dtype=object))
            lines.append(np.array(begins, np.int64))
            rows.clear()
            begins.clear()

    try:
        for row in reader:
            if header is None:
                if row:
                    header = _header(name, begin, row)
            elif row:
                if len(row) != len(header):
                    raise ValueError(
                        f"{name}, line {begin}: {_cells(len(row))}, where {'names=' if names else 'the first line'} "
                        f"has {len(header)} columns"
                    )
                rows.append(list(map(str.strip, row)))
                begins.append(begin)
                if len(rows) == _ROWS:
                    gather()
            begin = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"{name}, line {begin}: {_check.brief(str(error), str)}") from None
    gather()
    if header is None or not parts:
        raise ValueError(f"{name}: it names columns, and there are no rows below")
    return Table(header, np.concatenate(parts), name, np.concatenate(lines), decimal)


def _header(name: str, line: int, row: list[str]) -> list[str]:
    header = [cell.strip() for cell in row]
    if all(map(is_number, header)):
        raise ValueError(
            f"{name}, line {line}: numbers, where the names of the columns are expected; add a first line with names"
        )
    _check_names(f"{name}, line {line}", header)
    return header


def _check_names(source: str, names: Sequence[str]) -> None:
    if not names:
        raise ValueError(f"{source}: expected at least one column")
    seen = set()
    for number, name in enumerate(names, 1):
        if not isinstance(name, str) or not name:
            raise ValueError(f"{source}: column {number} has no name")
        if name in seen:
            raise ValueError(f"{source}: two columns have the name {_check.brief(name)}")
        seen.add(name)


def _delimiter(data: bytes) -> str:
    """Whichever of the usual ones the first line has most of, outside of quotes."""
    for line in data.removeprefix(_MARK).splitlines():
        if line.strip():
            bare = "".join(line.decode("utf-8").split('"')[::2])
            return max(_DELIMITERS, key=bare.count)
    return ","


def _cells(count: int) -> str:
    return "1 cell" if count == 1 else f"{count} cells"
