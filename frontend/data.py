"""Calibration and sample files."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn, TypeAlias, overload

import numpy as np

from ml2sc.errors import DataError
from ml2sc.ir.graph import Graph, Tensor
from ml2sc.ir.types import Array
from ml2sc.ir.wad import WAD

from .names import in_order
from .npz import Npz, block_rows
from .parquet import ParquetTable
from .table import HINT, FileRows, SampleFile, Stored, open_table, part_of

Sample: TypeAlias = dict[str, Array]

Rows: TypeAlias = Array | Stored | FileRows
"""Samples, one a row."""

_MOST = 2.0**255 / WAD
"""Where the reals end that an `int256` of WAD can be."""

_SHOWN_KEYS = 10
"""Keys of a file that a message names."""


@dataclass(frozen=True, eq=False)
class Samples(Sequence[Sample]):
    """Inputs for a model: every sample the inputs' arrays by tensor, in float64 and their tensors' shapes.

    They stay where and what they are until they are asked for; ask in ascending order (see `NpzRows`).

    Attributes:
        arrays: By input tensor: one sample a row.
        ranges: By input tensor: the least and the greatest of all values.
        columns: By input tensor: the least and the greatest value of each element, in its shape.
        labels: The right answers, if known: one number or one row of them a sample (see `ml2sc.frontend.truth`).
        shapes: The tensor shape of each input, batch dimension included.
        names: Names of the elements of all inputs, in order; empty if they have none.
        file: Where arrays that are not in memory are.
    """

    arrays: Mapping[str, Rows]
    ranges: Mapping[str, tuple[float, float]]
    columns: Mapping[str, tuple[Array, Array]]
    labels: Rows | None
    shapes: Mapping[str, tuple[int, ...]]
    names: tuple[str, ...] = ()
    file: SampleFile | None = None

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values()), ()))

    def __getstate__(self) -> dict[str, Any]:
        """Pickled, what is in a file is but the place: whoever asks for samples reads them there."""
        rows = {name: part_of(array, self.file, 0, len(self)) for name, array in self.arrays.items()}
        return {**vars(self), "arrays": rows, "labels": None if self.labels is None else self.labels[:]}

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        chosen = range(len(self))[index]
        return self._sample(chosen) if isinstance(chosen, int) else [self._sample(i) for i in chosen]

    def names_of(self, name: str) -> tuple[str, ...]:
        """Return the names of one input's elements; empty if they have none."""
        sizes = {other: math.prod(shape) for other, shape in self.shapes.items()}
        first = sum(sizes[other] for other in list(sizes)[: list(sizes).index(name)])
        return self.names[first : first + sizes[name]]

    def part(self, first: int, last: int) -> Samples:
        """Return the samples from number `first` up to `last`, exclusive; ranges stay those of all."""
        rows = {name: part_of(array, self.file, first, min(last, len(self))) for name, array in self.arrays.items()}
        return replace(self, arrays=rows, labels=None if self.labels is None else self.labels[first:last])

    def outside(self, ranges: Mapping[str, tuple[Array | float, Array | float]]) -> tuple[Array, dict[str, Array]]:
        """Return the numbers of the samples that have a value outside its range, and how many values each element has.

        Args:
            ranges: By input tensor the ends of its range, or of each element's, in its shape.

        Returns:
            The samples; and by input, in its shape, where there are any, the values outside.
        """
        found = np.zeros(len(self), dtype=bool)
        counts: dict[str, Array] = {}
        for name, (lo, hi) in ranges.items():
            least, greatest = self.columns[name]
            if not ((least < lo) | (greatest > hi)).any():
                continue
            ends = [np.broadcast_to(end, least.shape).ravel() for end in (lo, hi)]
            counts[name] = np.zeros(least.shape, dtype=np.int64)
            for first, block in _blocks(self.arrays[name]):
                beyond = (block < ends[0]) | (block > ends[1])
                found[first : first + len(block)] |= beyond.any(axis=1)
                counts[name] += beyond.sum(axis=0).reshape(least.shape)
        return np.flatnonzero(found), counts

    def _sample(self, index: int) -> Sample:
        # a copy: a view would keep the whole block it was read with
        return {
            name: np.array(a[index], dtype=np.float64).reshape(self.shapes[name]) for name, a in self.arrays.items()
        }


def by_column(counts: Mapping[str, Array]) -> list[dict[str, Any]]:
    """Return how many values of each element of each input were counted, as JSON values: those that are not 0.

    Elements are numbered from 0 in their input, as they are given.
    """
    return [
        {"input": name, "column": column, "values": int(values.flat[column])}
        for name, values in counts.items()
        for column in np.flatnonzero(values).tolist()
    ]


def columns_text(entries: Sequence[Mapping[str, Any]], shown: int = 5) -> str:
    """Return what `by_column` counted in words, the columns with the most values first."""
    most = sorted(entries, key=lambda entry: -int(entry["values"]))
    several = len({entry["input"] for entry in entries}) > 1
    parts = [
        f"{entry['values']:,} in column {entry['column']}{' of ' + repr(entry['input']) if several else ''}"
        for entry in most[:shown]
    ]
    return ", ".join(parts) + (f" and in {len(most) - shown} more" if most[shown:] else "") + " (counted from 0)"


def as_samples(
    given: Samples | str | os.PathLike[str] | Array | Mapping[str, Array], graph: Graph, names: tuple[str, ...] = ()
) -> Samples:
    """Return samples, whatever they are given as: a file, arrays, tables (DataFrames), or samples already.

    Args:
        given: The samples.
        graph: The model they are for.
        names: The model's for the elements of all its inputs, in order; empty if it has none. What has names as well
            is taken by name.

    Raises:
        DataError: they do not fit the model's inputs.
    """
    match given:
        case Samples():
            return given
        case str() | os.PathLike():
            return load_samples(given, graph, names)
    return samples_from_arrays(given, graph, names=names)


def load_samples(path: str | os.PathLike[str], graph: Graph, names: tuple[str, ...] = ()) -> Samples:
    """Read through a file of samples; none of them stays in memory, but for arrays in Fortran's order.

    Args:
        path: An .npz file; an .npy file, whose array is `x`; a Parquet file, whose columns of numbers but `y` are `x`
            where none has that name.
        graph: The model they are for.
        names: As `as_samples` takes them.

    Raises:
        DataError: the file cannot be read or does not fit the model's inputs.
    """
    source = str(path)
    try:
        file = SampleFile.of(Path(path), names[: graph.tensor(graph.inputs[0]).size] if graph.inputs else ())
        archive = open_table(Path(path), file.names)
    except OSError as error:
        raise DataError(f"cannot read {source}: {error.strerror or error}") from error
    try:
        samples = replace(_samples(archive, graph, source, names), file=file)
        file.require_same()
    except DataError:
        if isinstance(archive, Npz):
            archive.close()
        raise
    return samples


def samples_from_arrays(
    arrays: Array | Mapping[str, Array], graph: Graph, source: str = "the samples", names: tuple[str, ...] = ()
) -> Samples:
    """Check arrays against the model's inputs; they are not copied, but for tables.

    Args:
        arrays: By key, as in the file; a lone array is `x`, and so is a lone table (a DataFrame of pandas or polars, a
            Table of pyarrow) but for a column `y` too many, which is the labels.
        graph: The model they are for.
        source: What to call them in messages.
        names: As `as_samples` takes them.

    Raises:
        DataError: they do not fit.
    """
    table: dict[str, Any] = dict(arrays) if isinstance(arrays, Mapping) else {"x": arrays}
    count = sum(graph.tensor(name).size for name in graph.inputs)
    found, first, lone = list[str](), 0, not isinstance(arrays, Mapping)
    for position, name in enumerate(graph.inputs):
        key, size = _key(table, name, position), graph.tensor(name).size
        header, own = _header(table.get(key)), names[first : first + size]
        first += size
        if lone and "y" in header and "y" not in own and len(header) > size:
            table["y"] = np.asarray(_selected(table[key], ["y"])).ravel()
            header = tuple(column for column in header if column != "y")
            table[key] = _selected(table[key], header)
        if header:
            found += header
            if own:
                table[key] = _selected(table[key], in_order(header, own, f"{source}, key {key!r}"))
    if len(set(found)) == count == len(found) and not names and all(found) and "columns" not in graph.inputs:
        table.setdefault("columns", np.array(found))
    return _samples({key: np.asarray(array) for key, array in table.items()}, graph, source, names)


def _header(table: Any) -> tuple[str, ...]:
    """Return the names of a table's columns; nothing for an array, or if they are no strings."""
    kind = type(table)  # a column may be called as an attribute is
    columns = next((getattr(table, name) for name in ("column_names", "columns") if hasattr(kind, name)), ())
    names = tuple(columns) if isinstance(columns, Iterable) else ()
    return names if all(isinstance(name, str) for name in names) else ()


def _selected(table: Any, columns: Sequence[str]) -> Any:
    """Return columns of a table, in their order; pandas has no `select`, and pyarrow nothing else."""
    return table.select(list(columns)) if hasattr(type(table), "select") else table[list(columns)]


def _key(table: Mapping[str, Any], name: str, position: int) -> str:
    """Return the key of an input: its name, or x with its number."""
    return name if name in table else f"x{position or ''}"


def _samples(table: Mapping[str, Rows], graph: Graph, source: str, known: tuple[str, ...]) -> Samples:
    arrays: dict[str, Rows] = {}
    counts: dict[str, int] = {}
    columns = {}
    names, first = _names(table, graph, source, known), 0
    for position, name in enumerate(graph.inputs):
        key, short = _key(table, name, position), _key({}, name, position)
        if key not in table:
            wanted = f"{short!r}" if name == short else f"{name!r} or {short!r}"
            found = ", ".join(f"{key!r:.60}" for key in islice(table, _SHOWN_KEYS)) or "nothing"
            found += f" and {len(table) - _SHOWN_KEYS} more" if len(table) > _SHOWN_KEYS else ""
            raise DataError(
                f"the key {wanted} is missing in {source}; found: {found}", tensor=_text(graph.tensor(name)), hint=HINT
            )
        arrays[name] = table[key]
        own = names[first : first + graph.tensor(name).size]
        first += graph.tensor(name).size
        where = f"{source}, key {key!r}"
        columns[name] = _fit(arrays[name], graph.tensor(name), where, own, missing=name in graph.ladders)
        counts[key] = len(arrays[name])
    if len(set(counts.values())) > 1:
        raise DataError(f"{source} has different numbers of samples: {counts}")
    labels = None
    if "y" in table and "y" not in graph.inputs and not (isinstance(table, ParquetTable) and "y" in table.features):
        labels = _labels(table["y"], next(iter(counts.values()), 0), f"{source}, key 'y'", graph.class_names)
    ranges = {name: (float(lo.min()), float(hi.max())) for name, (lo, hi) in columns.items()}
    shapes = {name: graph.tensor(name).shape for name in graph.inputs}
    return Samples(arrays, ranges, columns, labels, shapes, names)


def _names(table: Mapping[str, Rows], graph: Graph, source: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the elements of all inputs, those that the model knows; nothing where they have none."""
    count = sum(graph.tensor(n).size for n in graph.inputs)
    if isinstance(table, ParquetTable):
        return known or (table.features if len(table.features) == count else ())
    if "columns" not in table or "columns" in graph.inputs:
        return known
    rows, where = table["columns"], f"{source}, key 'columns'"
    if rows.dtype.kind != "U" or rows.shape != (count,):
        raise DataError(f"{where}: it holds no {count} names of columns", hint="an array of as many strings")
    names = tuple(map(str, rows[:].tolist()))
    if len(set(names)) < count or not all(names):
        raise DataError(f"{where}: names are empty, or occur twice")
    if known and in_order(names, known, where) != names:
        raise DataError(f"{where}: the model's columns are in another order", hint=f"x must have {', '.join(known)}")
    return known or names


def _fit(rows: Rows, tensor: Tensor, where: str, names: Sequence[str], *, missing: bool = False) -> tuple[Array, Array]:
    """Check one input's samples; return the least and the greatest value of each element.

    Args:
        rows: The samples.
        tensor: The input.
        where: What to call them in messages.
        names: Of the input's elements; empty if they have none.
        missing: Whether elements may be missing (NaN).
    """
    _numbers(rows, where)
    shape = tensor.shape[1:] if tensor.shape[:1] == (1,) else tensor.shape
    fits = rows.ndim > 0 and (rows.shape[1:] in (shape, tensor.shape, (tensor.size,)))
    if not fits:
        _misfit(rows, tensor, where, shape)
    if len(rows) == 0:
        raise DataError(f"{where}: it holds no samples", tensor=_text(tensor), hint=HINT)
    lo, hi = np.full(tensor.size, math.inf), np.full(tensor.size, -math.inf)
    for first, block in _blocks(rows):
        for wrong, what in (
            (np.isinf(block) if missing else ~np.isfinite(block), "infinite values" if missing else _NOT_FINITE),
            (np.abs(block) >= _MOST, f"values that no contract's input can: it ends at {_MOST:.2g}"),
        ):
            if wrong.any():
                at = first + int(np.flatnonzero(wrong.any(axis=1))[0])
                raise DataError(f"{where}: sample {at} holds {what} ({_place(wrong, names)})", tensor=_text(tensor))
        least, greatest = (np.fmin, np.fmax) if missing else (np.minimum, np.maximum)
        lo, hi = least(lo, least.reduce(block, axis=0)), greatest(hi, greatest.reduce(block, axis=0))
    if missing:  # of an element that is missing in every sample nothing is known
        lo, hi = (np.where(np.isfinite(end), end, 0.0) for end in (lo, hi))
    return lo.reshape(tensor.shape), hi.reshape(tensor.shape)


def _place(wrong: Array, names: Sequence[str]) -> str:
    """Name the columns, counted from 0, in which the first wrong row of a block is wrong."""
    row = int(np.flatnonzero(wrong.any(axis=1))[0])
    columns = np.flatnonzero(wrong[row])
    return f"column{'s' if columns.size > 1 else ''} {numbered(columns.tolist(), names)}"


def numbered(columns: Sequence[int], names: Sequence[str] = ()) -> str:
    """Return columns in words, by number and, if they have one, by name: the first few of many."""
    words = (f"{column} ({names[column]!r:.60})" if names else str(column) for column in columns[:_NAMED])
    return ", ".join(words) + (", …" if len(columns) > _NAMED else "")


_NAMED = 8
"""Columns that a message names."""


def _blocks(rows: Rows) -> Iterator[tuple[int, Array]]:
    """Iterate over blocks of rows, in float64, flattened, each with the number of its first."""
    step = block_rows(rows.shape)
    for first in range(0, len(rows), step):
        block = rows[first : first + step]
        with np.errstate(over="ignore", invalid="ignore"):  # what becomes infinite or NaN is refused as such
            reals = block.astype(np.float64).reshape(len(block), -1)
        yield first, reals


def _labels(rows: Rows, count: int, where: str, classes: Sequence[str]) -> Rows:
    """Return labels: read, if there is one for each sample; those that are strings as the numbers of their classes."""
    if rows.ndim == 0 or len(rows) != count:
        raise DataError(f"{where}: shape {list(rows.shape)!s:.200}, but there are {count} samples")
    if classes and rows.dtype.kind in "UO" and rows.shape == (count,):
        return _numbered(rows[:].tolist(), where, classes)
    _numbers(rows, where)
    for first, block in _blocks(rows):
        wrong = ~np.isfinite(block).all(axis=1)
        if wrong.any():
            raise DataError(f"{where}: the label of sample {first + int(np.flatnonzero(wrong)[0])} is NaN or infinite")
    return rows[:].ravel() if math.prod(rows.shape) == count else rows


def _numbered(names: Sequence[object], where: str, classes: Sequence[str]) -> Array:
    """Return the numbers of classes that are named."""
    numbers: dict[object, int] = {name: number for number, name in enumerate(classes)}
    strange = next((index for index, name in enumerate(names) if name not in numbers), None)
    if strange is not None:
        known = ", ".join(f"{name!r:.40}" for name in classes[:_NAMED])
        raise DataError(
            f"{where}: the label of sample {strange}, {names[strange]!r:.100}, is none of the model's classes",
            hint=f"the classes are {known}{', …' if len(classes) > _NAMED else ''}",
        )
    return np.array([numbers[name] for name in names], dtype=np.int64)


_NOT_FINITE = "NaN or infinite values"


def _numbers(array: Rows, where: str) -> None:
    if array.dtype.kind not in "fiub":
        raise DataError(
            f"{where}: its elements are {array.dtype}, not numbers", hint="store plain numeric arrays, no objects"
        )


def _misfit(array: Rows, tensor: Tensor, where: str, shape: tuple[int, ...]) -> NoReturn:
    wanted = f"(samples, {', '.join(map(str, shape))})" if shape else "(samples,)"
    raise DataError(f"{where}: shape {array.shape!s:.200}, expected {wanted}", tensor=_text(tensor), hint=HINT)


def _text(tensor: Tensor) -> str:
    return f"%{tensor.name}: float{list(tensor.shape)}".replace(" ", "").replace(":", ": ")
