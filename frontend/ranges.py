"""Ranges of single columns: `NAME=LO,HI`, and files of them (`column,lo,hi`)."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ml2sc.errors import DataError, UsageError
from ml2sc.foreign import require_shallow
from ml2sc.ir.graph import Graph
from ml2sc.ir.types import Array

_HINT = 'a CSV file with the header column,lo,hi and a line a column; or JSON, {"column": [lo, hi], ...}'
_MOST_BYTES = 1 << 24
_NAMED = 8
"""Columns that a message names."""


@dataclass(frozen=True)
class ColumnRange:
    """The declared range of a column.

    Attributes:
        column: Its name; its number, from 0, among the elements of all inputs; or the name of an input, for all of its.
        lo: Least value.
        hi: Greatest value.
    """

    column: str
    lo: float
    hi: float

    def check(self) -> None:
        """Check the two ends.

        Raises:
            UsageError: they are not a range.
        """
        if not -math.inf < self.lo < self.hi < math.inf:
            raise UsageError(
                f"the range {self.lo:g},{self.hi:g} of column {self.column!r} is not a range: LO must be below HI, "
                "both finite"
            )


def read_ranges(path: str | os.PathLike[str]) -> tuple[ColumnRange, ...]:
    """Read a file of columns' ranges, in the file's order.

    Raises:
        DataError: it cannot be read, or is none.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    if len(content) > _MOST_BYTES:
        raise DataError(f"{path} is larger than {_MOST_BYTES:,} bytes: it is no file of ranges", hint=_HINT)
    try:
        text = content.decode("utf-8-sig")
        rows = _json_rows(text) if str(path).lower().endswith(".json") else _csv_rows(text)
        found = tuple(ColumnRange(name, float(lo), float(hi)) for name, lo, hi in rows)
    except (ValueError, TypeError, LookupError, csv.Error) as error:
        raise DataError(f"{path} is no file of ranges: {error}", hint=_HINT) from error
    if not found:
        raise DataError(f"{path} holds no ranges", hint=_HINT)
    for number, range_ in enumerate(found):
        if any(range_.column == other.column for other in found[:number]):
            raise DataError(f"{path}: column {range_.column!r} occurs twice")
        if not -math.inf < range_.lo < range_.hi < math.inf:
            raise DataError(
                f"{path}: column {range_.column!r} goes from {range_.lo:g} to {range_.hi:g}: lo must be below hi, both "
                "finite"
            )
    return found


def _csv_rows(text: str) -> list[tuple[str, Any, Any]]:
    reader = csv.DictReader(text.splitlines(), skipinitialspace=True, strict=True)
    header = [name.strip().lower() for name in reader.fieldnames or []]
    if sorted(header) != ["column", "hi", "lo"]:
        raise ValueError(f"its header is {','.join(header) or 'missing'}, not column,lo,hi")
    reader.fieldnames = header
    rows = []
    for row in reader:
        if None in row or None in row.values():
            raise ValueError(f"line {reader.line_num} has not three fields")
        rows.append((str(row["column"]).strip(), row["lo"], row["hi"]))
    return rows


def _json_rows(text: str) -> list[tuple[str, Any, Any]]:
    def unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        if len(set(names)) < len(names):
            raise ValueError(f"column {next(n for n in names if names.count(n) > 1)!r} occurs twice")
        return dict(pairs)

    require_shallow(text.encode())
    content = json.loads(text, object_pairs_hook=unique)
    if isinstance(content, Mapping):
        return [(str(name), *_two(ends)) for name, ends in content.items()]
    if not isinstance(content, list):
        raise TypeError("it is neither an object nor a list")
    return [(str(entry["column"]), entry["lo"], entry["hi"]) for entry in content]


def _two(ends: Any) -> tuple[Any, Any]:
    if not isinstance(ends, list) or len(ends) != 2:
        raise TypeError(f"{ends!r} is not [lo, hi]")
    return ends[0], ends[1]


def column_names(ranges: Sequence[ColumnRange], graph: Graph) -> tuple[str, ...]:
    """Return the names that ranges give to a model's columns, where there is one for each in the columns' order."""
    names = tuple(dict.fromkeys(range_.column for range_ in ranges))
    count = sum(graph.tensor(name).size for name in graph.inputs)
    given = len(names) == count and not any(n.isdecimal() or n in graph.inputs for n in names)
    return names if given else ()


def apply_ranges(
    ranges: Sequence[ColumnRange], names: Sequence[str], graph: Graph, ends: Mapping[str, tuple[Array, Array]]
) -> set[str]:
    """Write declared ranges of columns over what is known of the inputs' elements; of two for a column the last holds.

    Args:
        ranges: The declared ranges.
        names: The columns' names, if they have any.
        graph: The model.
        ends: By input, the ends of its elements' ranges, in its shape; NaN where nothing is known. Changed in place.

    Returns:
        The inputs that columns were declared of.

    Raises:
        UsageError: a column does not exist, or one is declared and another of its input has no range at all.
    """
    places = [(name, index) for name in graph.inputs for index in range(graph.tensor(name).size)]
    known = {name: [number] for number, name in enumerate(names)}
    first = 0
    for name in graph.inputs:
        size = graph.tensor(name).size
        known.setdefault(name, list(range(first, first + size)))
        first += size
    touched: set[str] = set()
    for range_ in ranges:
        numbers = known.get(range_.column)
        if numbers is None and range_.column.isdecimal() and int(range_.column) < len(places):
            numbers = [int(range_.column)]
        if numbers is None:
            raise UsageError(f"the model has no column {range_.column!r}", hint=_columns(names, graph, len(places)))
        for number in numbers:
            name, index = places[number]
            ends[name][0].flat[index], ends[name][1].flat[index] = range_.lo, range_.hi
            touched.add(name)
    missing = [n for n, (name, index) in enumerate(places) if name in touched and np.isnan(ends[name][0].flat[index])]
    if missing:
        shown = ", ".join(repr(names[n]) if names else str(n) for n in missing[:_NAMED])
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        raise UsageError(
            f"{len(missing)} of {len(places)} columns have no range: {shown}{more}",
            hint="declare them, too (--input-range COLUMN=LO,HI), or give typical inputs (--calibrate data.npz)",
        )
    return touched


def _columns(names: Sequence[str], graph: Graph, count: int) -> str:
    if names:
        shown = ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
        return f"its columns are {shown}, or 0 to {count - 1}"
    return (
        f"columns are 0 to {count - 1}, or an input's name ({', '.join(graph.inputs)}); names of columns come from "
        f"a file of ranges with a line for each of the {count}, or from the key 'columns' of the calibration data"
    )
