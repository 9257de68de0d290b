"""How a table becomes what a network takes: fitted on training data, saved as JSON, applied to any other table."""

from __future__ import annotations

import functools
import json
import os
import warnings
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn import _check
from fastnn.data.table import Table, is_number
from fastnn.data.target import (
    ClassTarget,
    NumberTarget,
    Target,
    are_names,
    are_numbers,
    mean_and_std,
    standardized,
    target_of,
)
from fastnn.files import named, write_atomically

#: Cells that say that a value is missing, as pandas' read_csv has them, and UCI's question mark.
MISSING = frozenset(
    "#N/A,#N/A N/A,#NA,-1.#IND,-1.#QNAN,-NaN,-nan,1.#IND,1.#QNAN,<NA>,?,N/A,NA,NULL,NaN,None,n/a,nan,null,".split(",")
)
_MOST_CATEGORIES = 100
_LARGEST_RECIPE = 1 << 26  # bytes


@dataclass(frozen=True)
class NumberColumn:
    """A column of numbers, which become one standardised feature.

    Attributes
    ----------
    name : str
    fill : float
        What stands in for a missing value: the median of those that are there.
    mean, std : float
        Of the training rows, filled; std is that of a population.
    missing : int
        How many values of the training rows were missing.
    """

    name: str
    fill: float
    mean: float
    std: float
    missing: int

    @property
    def width(self) -> int:
        return 1


@dataclass(frozen=True)
class CategoryColumn:
    """A column of categories, which become a feature each, 1 or 0.

    Attributes
    ----------
    name : str
    fill : str
        What stands in for a missing value: the most frequent category.
    categories : tuple of str
    other : bool
        Whether there is one feature more, for all others: rare ones of the training rows, and unknown ones.
    missing : int
        How many values of the training rows were missing.
    """

    name: str
    fill: str
    categories: tuple[str, ...]
    other: bool
    missing: int

    @property
    def width(self) -> int:
        return len(self.categories) + self.other


@dataclass(frozen=True)
class TableRecipe:
    """What was learned of a table's columns, by which it, and every other of its kind, becomes features and a target.

    Numbers are standardised: less their mean, by their standard deviation. Of texts each category becomes a feature,
    1 or 0. Missing values (empty cells, ``NA``, ``NaN``, ``null``, ``?`` and the others that pandas knows) are filled:
    by the median of numbers, by the most frequent category. Columns are found by their names; others are passed over.

    `TableRecipe.fit` makes one.

    Attributes
    ----------
    columns : tuple of NumberColumn or CategoryColumn
        In the order of the features.
    target : ClassTarget or NumberTarget
    left_out : tuple of str
        Columns that have one value in all training rows, or none.

    Examples
    --------
    >>> rows = [["3", "north", "31"], ["5", "south", "52"], ["", "north", "29"], ["4", "south", "44"]]
    >>> table = fn.data.Table(["rooms", "district", "price"], rows)
    >>> recipe = fn.data.TableRecipe.fit(table, "price", rows=[0, 1, 2])
    >>> x, y = recipe(table)
    >>> x.shape, y.shape, recipe.features
    ((4, 3), (4, 1), ('rooms', 'district=north', 'district=south'))
    >>> recipe.notes()
    ["column 'rooms': 1 missing value; the median, 4, stands in"]
    >>> recipe.save("recipe.json")
    >>> fn.data.TableRecipe.load("recipe.json") == recipe
    True
    """

    columns: tuple[NumberColumn | CategoryColumn, ...]
    target: Target
    left_out: tuple[str, ...] = ()

    @classmethod
    def fit(
        cls,
        table: Table,
        target: str,
        task: str = "auto",
        rows: ArrayLike | None = None,
        numeric: Collection[str] = (),
        categorical: Collection[str] = (),
        drop: Collection[str] = (),
        max_categories: int = _MOST_CATEGORIES,
    ) -> TableRecipe:
        """Learn a recipe from a table.

        Parameters
        ----------
        table : Table
        target : str
            The column to be predicted.
        task : {"auto", "regression", "classification"}
            Whether the target is a number or a class; "auto": a number, if all its cells are numbers.
        rows : array of int, optional
            The training rows: medians, means, deviations and categories are theirs alone. What kind a column is of,
            and which classes there are, is looked up in all. Default: all.
        numeric, categorical : collection of str
            Columns whose kind is given; that of the others is recognised: numbers, if all their values are.
        drop : collection of str
            Columns to leave out.
        max_categories : int, default 100
            How many categories of a column have a feature of their own, the most frequent ones; the rest share one, as
            those do that training had not. Without such a rest, an unknown category has no feature that is 1. (Both as
            scikit-learn's ``OneHotEncoder(handle_unknown="infrequent_if_exist")``.)

        Returns
        -------
        TableRecipe

        Raises
        ------
        ValueError
            For a column that is not there, a missing target, a column of numbers with something else in it (more than
            half of its values are numbers), one of texts that nearly all differ, infinite or overly large numbers, and
            where no column is left. The message names file, line and column.
        """
        _check.instance("table", table, Table)
        _check.choice("task", task, "auto", "regression", "classification")
        known = {"target": [target], "numeric": numeric, "categorical": categorical, "drop": drop}
        for names in known.values():
            for name in names:
                table.index(name)
        _check_apart(target, numeric, categorical, drop)
        most = _check.integer("max_categories", max_categories, 1)
        training = np.arange(len(table)) if rows is None else np.asarray(rows, np.int64)
        fitted = fit_target(table, target, task, training)
        columns: list[NumberColumn | CategoryColumn] = []
        left_out = []
        for name in table.names:
            if name == target or name in drop:
                continue
            cells = _Cells(table, name)
            kind = "numeric" if name in numeric else "categorical" if name in categorical else cells.kind(most)
            column = cells.numbers_of(training) if kind == "numeric" else cells.categories_of(training, most)
            if column is None:
                left_out.append(name)
            else:
                columns.append(column)
        if not columns:
            raise ValueError(f"{table.source}: beside the target there is no column that differs from row to row")
        return cls(tuple(columns), fitted, tuple(left_out))

    @property
    def features(self) -> tuple[str, ...]:
        """A name for each feature: the column's, for categories with ``=`` and the category."""
        names: list[str] = []
        for column in self.columns:
            if isinstance(column, NumberColumn):
                names.append(column.name)
            else:
                names += [f"{column.name}={category}" for category in column.categories]
                names += [f"{column.name}=(other)"] * column.other
        return tuple(names)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a sample, as a network takes it: the number of features."""
        return (sum(column.width for column in self.columns),)

    def __call__(self, table: Table) -> tuple[NDArray[np.float32], NDArray[Any]]:
        """Features and target of a table: float32 (N, features), and int64 (N,) or float32 (N, 1)."""
        return self.inputs(table), self.targets(table)

    def inputs(self, table: Table) -> NDArray[np.float32]:
        """The features of a table, float32 (N, features); the target's column need not be there.

        Warns
        -----
        UserWarning
            Of categories that training had not.

        Raises
        ------
        ValueError
            For a column that is missing, and for what is no finite number where one is expected. The message names
            file, line and column.
        """
        x = np.zeros((len(table), *self.shape), np.float32)
        first = 0
        for column in self.columns:
            cells = _Cells(table, column.name)
            part = x[:, first : first + column.width]
            if isinstance(column, NumberColumn):
                values = np.where(cells.missing, column.fill, cells.numbers())
                part[...] = standardized(values[:, None], column.mean, column.std, cells.at)
            else:
                codes = cells.codes(column)
                chosen = np.flatnonzero(codes >= 0)
                part[chosen, codes[chosen]] = 1
            first += column.width
        return x

    def targets(self, table: Table) -> NDArray[Any]:
        """The target of a table, as a loss takes it."""
        assert self.target.name is not None
        cells = _Cells(table, self.target.name)
        cells.check_complete()
        if isinstance(self.target, ClassTarget):
            return self.target.encode(cells.texts, cells.at)
        return self.target.encode(cells.numbers(), cells.at)

    def notes(self) -> list[str]:
        """What was done that one should know of: what was filled, and what was left out."""
        notes = []
        for column in self.columns:
            what = f"column {_check.brief(column.name)}: "
            if column.missing:
                many = "1 missing value" if column.missing == 1 else f"{column.missing} missing values"
                fill = f"median, {column.fill:g}," if isinstance(column, NumberColumn) else (
                    f"most frequent category, {_check.brief(column.fill)},"
                )  # fmt: skip
                notes.append(f"{what}{many}; the {fill} stands in")
            if isinstance(column, CategoryColumn) and column.other:
                notes.append(f"{what}the {len(column.categories)} most frequent categories have a feature each")
        notes += [
            f"column {_check.brief(name)}: left out, as it has one value in all training rows" for name in self.left_out
        ]
        return notes

    def to_json(self) -> dict[str, Any]:
        """The recipe as plain values."""
        return {
            "kind": "table",
            "columns": [
                {"kind": "numeric" if isinstance(column, NumberColumn) else "categorical", **asdict(column)}
                for column in self.columns
            ],
            "left_out": list(self.left_out),
            "target": self.target.to_json(),
        }

    @classmethod
    def from_json(cls, values: Any) -> TableRecipe:
        """The recipe that plain values describe; ValueError for any others."""
        entries = {"kind", "columns", "left_out", "target"}
        if not isinstance(values, dict) or values.keys() != entries or values["kind"] != "table":
            raise ValueError("its entries are not those of a recipe of a table")
        if not isinstance(values["columns"], list) or not values["columns"]:
            raise ValueError(f"columns cannot be {_check.brief(values['columns'])}")
        if not are_names(values["left_out"]):
            raise ValueError(f"left_out cannot be {_check.brief(values['left_out'])}")
        columns = tuple(map(_column_of, values["columns"]))
        target = target_of(values["target"])
        names = [column.name for column in columns]
        if target.name is None or len({*names, target.name}) <= len(names):
            raise ValueError("columns and target must have names, each another")
        return cls(columns, target, tuple(values["left_out"]))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the recipe as JSON: the whole file, or nothing."""
        save_recipe(path, self.to_json())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TableRecipe:
        """Read a recipe that `save` has written; ValueError, which names the file, for any other."""
        return load_recipe(path, cls.from_json)  # type: ignore[no-any-return]


def fit_target(table: Table, name: str, task: str, rows: NDArray[np.int64]) -> Target:
    """The target in a column of a table: classes of all rows, or numbers by mean and deviation of some."""
    cells = _Cells(table, name)
    cells.check_complete()
    if task == "auto":
        task = ClassTarget.task if cells.kind(_MOST_CATEGORIES) == "categorical" else NumberTarget.task
    try:
        if task == ClassTarget.task:
            return ClassTarget.fit(cells.texts, name)
        return NumberTarget.fit(cells.numbers()[rows], name)
    except ValueError as error:
        message = str(error)
        raise ValueError(message if message.startswith(table.source) else f"{table.source}: {message}") from None


def save_recipe(path: str | os.PathLike[str], values: dict[str, Any]) -> None:
    write_atomically(path, (json.dumps(values, indent=1) + "\n").encode())


def load_recipe(path: str | os.PathLike[str], made_of: Callable[[Any], Any]) -> Any:
    """What a function makes of a file of JSON; ValueErrors name the file."""
    name = _check.path("path", path)
    with named(name), open(name, "rb") as file:
        large = os.fstat(file.fileno()).st_size > _LARGEST_RECIPE
        text = b"" if large else file.read()
    try:
        if large:
            raise ValueError(f"it has more than {_LARGEST_RECIPE} bytes")
        return made_of(json.loads(text))
    except RecursionError:
        raise ValueError(f"{name} is damaged or no recipe: it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{name} is damaged or no recipe: {_check.brief(str(error), str)}") from None


def _column_of(values: Any) -> NumberColumn | CategoryColumn:
    if isinstance(values, dict):
        kind, rest = values.get("kind"), {k: v for k, v in values.items() if k != "kind"}
        missing: Any = rest.get("missing")
        named = are_names([rest.get("name")]) and type(missing) is int and 0 <= missing <= _check.LARGEST_COUNT
        if named and kind == "numeric" and rest.keys() == {"name", "fill", "mean", "std", "missing"}:
            figures = [rest["fill"], rest["mean"], rest["std"]]
            if are_numbers(figures) and rest["std"] > 0:
                fill, mean, std = map(float, figures)
                return NumberColumn(rest["name"], fill, mean, std, missing)
        if named and kind == "categorical" and rest.keys() == {"name", "fill", "categories", "other", "missing"}:
            categories = rest["categories"]
            unlike = are_names(categories) and len(set(categories)) == len(categories) > 0
            if unlike and are_names([rest["fill"]]) and type(rest["other"]) is bool:
                return CategoryColumn(rest["name"], rest["fill"], tuple(categories), rest["other"], rest["missing"])
    raise ValueError(f"no column can be {_check.brief(values)}")


def _check_apart(target: str, numeric: Collection[str], categorical: Collection[str], drop: Collection[str]) -> None:
    groups = {"target": {target}, "numeric": set(numeric), "categorical": set(categorical), "drop": set(drop)}
    seen: dict[str, str] = {}
    for group, names in groups.items():
        for name in sorted(names):
            if name in seen:
                raise ValueError(f"column {_check.brief(name)} is in both {seen[name]} and {group}")
            seen[name] = group


class _Cells:
    """A column of a table, with what is missing in it."""

    def __init__(self, table: Table, name: str) -> None:
        self.table, self.name = table, name
        self.texts: list[str] = table[name].tolist()
        self.missing: NDArray[np.bool_] = np.fromiter(map(MISSING.__contains__, self.texts), bool, len(self.texts))

    def at(self, row: int, _: int = 0) -> str:
        return f"{self.table.source}, line {self.table.lines[row]}, column {_check.brief(self.name)}"

    def check_complete(self) -> None:
        if self.missing.any():
            raise ValueError(f"{self.at(int(self.missing.argmax()))}: the target is missing; take such rows out")

    def present(self, rows: NDArray[np.int64] | None = None) -> list[str]:
        there = ~self.missing if rows is None else rows[~self.missing[rows]]
        texts: list[str] = self.table[self.name][there].tolist()
        return texts

    @functools.cached_property
    def _floats(self) -> NDArray[np.float64] | None:
        """The cells as numbers, NaN where they are missing; None where a cell is no number."""
        values = np.full(len(self.texts), np.nan)
        present = self.present()
        if self.table.decimal != ".":
            present = [text.replace(self.table.decimal, ".") for text in present]
        try:
            if "_" in "\n".join(present):  # which Python's own numbers may have
                return None
            values[~self.missing] = np.array(present, np.float64)
        except ValueError:
            return None
        return values

    def kind(self, most: int) -> str:
        """ "numeric" or "categorical"; ValueError where it is neither plainly."""
        if self._floats is not None:
            return "numeric"
        counts = Counter(self.present())
        whole = sum(counts.values())
        decimal = self.table.decimal
        numbers = sum(count for text, count in counts.items() if is_number(text, decimal))
        commas = sum(count for text, count in counts.items() if is_number(text, ",")) if decimal == "." else 0
        if commas > max(numbers, whole / 2):
            row = next(i for i, text in enumerate(self.texts) if "," in text and is_number(text, ","))
            raise ValueError(
                f"{self.at(row)}: {_check.brief(self.texts[row])} is no number; if the table has decimal commas, say "
                "so (decimal), or say the column's kind"
            )
        if 2 * numbers > whole:
            row = self._first_that_is_none()
            raise ValueError(
                f"{self.at(row)}: {_check.brief(self.texts[row])} is no number, as {numbers} of the column's {whole} "
                "values are; mend the cell, empty it, or say the column's kind"
            )
        if len(counts) > most and 2 * len(counts) > whole:
            raise ValueError(
                f"{self.table.source}, column {_check.brief(self.name)}: {len(counts)} different texts in {whole} "
                f"rows, such as {_check.brief(next(iter(counts)))}, from which nothing general can be learned; drop "
                "the column, or say its kind"
            )
        return "categorical"

    def _first_that_is_none(self) -> int:
        decimal = self.table.decimal
        return next(i for i, text in enumerate(self.texts) if not self.missing[i] and not is_number(text, decimal))

    def numbers(self) -> NDArray[np.float64]:
        """The numbers of all rows, NaN where one is missing; ValueError for a cell that holds none, or an infinite."""
        values = self._floats
        if values is None:
            row = self._first_that_is_none()
            raise ValueError(f"{self.at(row)}: {_check.brief(self.texts[row])} is no number")
        wrong = ~np.isfinite(values) & ~self.missing
        if wrong.any():
            row = int(wrong.argmax())
            raise ValueError(f"{self.at(row)}: {_check.brief(self.texts[row])} is no finite number")
        return values

    def numbers_of(self, rows: NDArray[np.int64]) -> NumberColumn | None:
        values, missing = self.numbers()[rows], self.missing[rows]
        if missing.all():
            return None
        with np.errstate(over="ignore"):
            fill = float(np.median(values[~missing]))
        filled = np.where(missing, fill, values)
        ((mean,), (std,)) = mean_and_std(filled[:, None])
        if not np.isfinite([fill, mean, std]).all():
            row = int(rows[np.argmax(np.abs(np.where(missing, 0, values)))])
            raise ValueError(f"{self.at(row)}: {_check.brief(self.texts[row])} is too large to be standardised")
        if std == 0:
            return None
        return NumberColumn(self.name, fill, float(mean), float(std), int(missing.sum()))

    def categories_of(self, rows: NDArray[np.int64], most: int) -> CategoryColumn | None:
        counts = Counter(self.present(rows))
        if not counts:
            return None
        # The most frequent first, those of one count by the alphabet: the order of the rows does not matter.
        ranked = sorted(counts, key=lambda text: (-counts[text], text))
        if len(ranked) == 1:
            return None
        missing = int(self.missing[rows].sum())
        return CategoryColumn(self.name, ranked[0], tuple(sorted(ranked[:most])), len(ranked) > most, missing)

    def codes(self, column: CategoryColumn) -> NDArray[np.int64]:
        """Which feature of the column is 1 in each row; -1 for none. Warns of categories that training had not."""
        numbers = {category: code for code, category in enumerate(column.categories)}
        other = len(column.categories) if column.other else -1
        numbers.update(dict.fromkeys(MISSING, numbers.get(column.fill, other)))
        codes = np.fromiter((numbers.get(text, -2) for text in self.texts), np.int64, len(self.texts))
        unknown = codes == -2
        codes[unknown] = other
        if unknown.any() and not column.other:
            row, count = int(unknown.argmax()), int(unknown.sum())
            warnings.warn(
                f"{self.at(row)}: {_check.brief(self.texts[row])} is no category that training had"
                + (f", as in {count - 1} more rows" if count > 1 else "")
                + "; none of the column's features is 1 there",
                UserWarning,
                stacklevel=4,
            )
        return codes
