"""An artifact's inputs, column by column: which range each has, in which steps, and what lies outside."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

from ml2sc.foreign import shown
from ml2sc.sheet import table

MOST = 64
"""Columns of an input up to which all are listed."""
_SOME = 8
"""Columns that are listed of more."""
_NAME = 40
"""Characters of a name that are shown."""
_LEGEND = (
    "column: as --input-range and InputOutOfRange count; real = scale · (q − zero point)",
    "outside: values of the calibration data beyond the range, which saturate",
)


def column_lines(manifest: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a table of the inputs' columns; an input with one range for all has one line.

    Args:
        manifest: The artifact's; what it says of `inputs`, and of `calibration` if there was any.
    """
    inputs: Sequence[Mapping[str, Any]] = manifest.get("inputs", ())
    found = manifest.get("calibration")
    outside = {} if found is None else {(e["input"], e["column"]): int(e["values"]) for e in found["outside"]}
    rows, notes, first = list[list[object]](), list[str](), 0
    for entry in inputs:
        size = math.prod(entry["shape"])
        own = [outside.get((entry["name"], column), 0) for column in range(size)]
        if isinstance(entry["scale"], list):
            listed = _listed(own)
            rows += [_row(entry, column, first, own[column], several=len(inputs) > 1) for column in listed]
            notes += _rest(entry, size - len(listed))
        else:
            rows.append(_whole(entry, first, size, sum(own)))
        first += size
    header = ["column", "name", "range", "scale", "zero point", "outside"]
    if found is None:
        header, rows = header[:-1], [row[:-1] for row in rows]
    yield from (table(header, rows) if rows else ())
    yield from notes
    yield from _LEGEND if found is not None else _LEGEND[:1]


def _listed(outside: Sequence[int]) -> list[int]:
    """Return which columns are listed: of many those with the most values outside, then the first."""
    columns = range(len(outside))
    if len(outside) <= MOST:
        return list(columns)
    return sorted(sorted(columns, key=lambda column: -outside[column])[:_SOME])


def _row(entry: Mapping[str, Any], column: int, first: int, outside: int, *, several: bool) -> list[object]:
    scale, offset = float(Fraction(entry["scale"][column])), float(entry["offset"][column])
    names, own = entry.get("columns"), f"{entry['name']}[{column}]" if several else ""
    name = shown(str(names[column] if names else own), _NAME)
    point = (0.0 - offset) / scale
    return [str(first + column), name, _range(entry["range"][column]), f"{scale:.3g}", f"{point:.1f}", outside]


def _whole(entry: Mapping[str, Any], first: int, size: int, outside: int) -> list[object]:
    """Return the row of an input with one range for all of its elements."""
    scale = float(Fraction(entry["scale"]))
    columns = f"{first}–{first + size - 1}" if size > 1 else str(first)
    point = str(entry["zero_point"])
    return [columns, shown(str(entry["name"]), _NAME), _range(entry["range"]), f"{scale:.3g}", point, outside]


def _rest(entry: Mapping[str, Any], count: int) -> list[str]:
    """Return a line on the columns that are not listed."""
    if not count:
        return []
    scales = [float(Fraction(scale)) for scale in entry["scale"]]
    name = shown(str(entry["name"]), _NAME)
    return [f"and {count:,} more of {name!r}, scales {min(scales):.3g} to {max(scales):.3g} (manifest.json: inputs)"]


def _range(ends: Sequence[float]) -> str:
    return f"{ends[0]:.6g} to {ends[1]:.6g}"
