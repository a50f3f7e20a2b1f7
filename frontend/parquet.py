"""Samples in a Parquet file, read a batch of rows at a time; needs pyarrow (`pip install 'ml2sc[parquet]'`).

Every column can be asked for by its name: plain numbers, or lists of equal length. Where no column is called `x`, that
is all columns of plain numbers but `y`, side by side: a table of features, in the order of the model's names for them,
in the file's if it has none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ml2sc.errors import DataError, ToolchainError
from ml2sc.ir.types import Array

from .names import in_order
from .npz import DAMAGE, said

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

MAGIC = b"PAR1"
"""What such a file begins with."""

_BATCH_BYTES = 1 << 20  # of an array in float64 that are in memory at a time


class ParquetRows:
    """Columns of a Parquet file: behave as an array of which only whole rows are asked for.

    Ask for rows in ascending order: to go back is to read from the beginning of a row group again.

    Args:
        path: The file.
        key: What they are asked for as.
        columns: Their names; several are numbers that lie side by side.
        shape: Of all of them together.
        dtype: Type of the elements.
    """

    def __init__(
        self, path: Path, key: str, columns: tuple[str, ...], shape: tuple[int, ...], dtype: np.dtype[np.generic]
    ) -> None:
        self.path, self.key, self.shape, self.dtype = path, key, shape, dtype
        self._columns = columns
        self._batches: Iterator[Array] | None = None
        self._first, self._batch = 0, np.empty((0, *shape[1:]), dtype)

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: int | slice) -> Array:
        """Return one row, or those from one to another.

        Raises:
            DataError: the file is damaged.
        """
        if not isinstance(rows, slice):
            row: Array = self._read(rows, rows + 1)[0]
            return row
        first, last, _ = rows.indices(len(self))
        return self._read(first, max(first, last))

    def _read(self, first: int, last: int) -> Array:
        parts: list[Array] = []
        while first < last:
            if not self._first <= first < self._first + len(self._batch):
                self._turn_to(first)
            part = self._batch[first - self._first : last - self._first]
            parts.append(part)
            first += len(part)
        return np.concatenate(parts) if parts else self._batch[:0]

    def _turn_to(self, row: int) -> None:
        """Read on to the batch with a row, from the beginning of its row group if need be."""
        with readable(self.path):
            if self._batches is None or row != self._first + len(self._batch):
                self._first, self._batches = self._from_group_of(row)
                self._batch = self._batch[:0]
            while row >= self._first + len(self._batch):
                self._first += len(self._batch)
                batch = next(self._batches, None)
                if batch is None:
                    raise EOFError(f"it ends before row {row}")
                self._batch = batch

    def _from_group_of(self, row: int) -> tuple[int, Iterator[Array]]:
        file, first = _open(self.path), 0
        for group in range(file.metadata.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            if row < first + count:
                groups = range(group, file.metadata.num_row_groups)
                step = max(_BATCH_BYTES // (8 * max(math.prod(self.shape[1:]), 1)), 1)
                batches = file.iter_batches(step, row_groups=list(groups), columns=list(self._columns))
                return first, (_array(batch, self._columns, self.shape[1:], self.dtype) for batch in batches)
            first += count
        raise EOFError(f"it ends before row {row}")


class ParquetTable(Mapping[str, ParquetRows]):
    """The columns of a Parquet file.

    Args:
        path: The file.
        names: The model's for the columns of `x`, in its order; empty if it has none.

    Attributes:
        features: Names of the columns that `x` is made of, in the file's order; empty if `x` is a column itself.

    Raises:
        DataError: it is no Parquet file.
        ToolchainError: pyarrow is not installed.
    """

    def __init__(self, path: Path, names: tuple[str, ...] = ()) -> None:
        self._path, self._names = path, names
        with readable(path):
            file = _open(path)
            self._rows = file.metadata.num_rows
            self._types = {field.name: field.type for field in file.schema_arrow}
        plain = [name for name, kind in self._types.items() if self._dtype(kind) is not None]
        table = "x" not in self._types or ("x" in plain and "x" in names)
        self.features = tuple(name for name in plain if name != "y" or name in names) if table else ()

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._types, *(["x"] if self.features else [])]))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __getitem__(self, key: str) -> ParquetRows:
        """Return a column, or all features.

        Raises:
            DataError: it holds no numbers, or lists of different lengths; or the model has other features.
        """
        if key == "x" and self.features:
            columns = in_order(self.features, self._names, str(self._path)) if self._names else self.features
            types = [self._dtype(self._types[name]) for name in columns]
            dtype = np.result_type(*(kind for kind in types if kind is not None))
            return ParquetRows(self._path, key, columns, (self._rows, len(columns)), dtype)
        plain = self._dtype(self._types[key])
        if plain is not None:
            return ParquetRows(self._path, key, (key,), (self._rows,), plain)
        element = self._dtype(getattr(self._types[key], "value_type", None))
        if element is None:
            raise DataError(f"{self._path}, column {key!r}: its elements are {self._types[key]}, not numbers")
        with readable(self._path):
            length = len(next(_open(self._path).iter_batches(1, columns=[key]))[0][0]) if self._rows else 0
        return ParquetRows(self._path, key, (key,), (self._rows, length), element)

    @staticmethod
    def _dtype(kind: Any) -> np.dtype[np.generic] | None:
        """Return numpy's type of a plain number, None for anything else."""
        try:
            found = np.dtype(kind.to_pandas_dtype())
        except (AttributeError, NotImplementedError, TypeError):
            return None
        return found if found.kind in "fiub" else None


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Report as a DataError what goes wrong when the file is read."""
    try:
        yield
    except DAMAGE as error:  # pyarrow's own errors are among these
        raise DataError(
            f"{path} cannot be read: {said(error)}", hint="columns of numbers, or of lists of equal length"
        ) from error


def _open(path: Path) -> ParquetFile:
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise ToolchainError("reading Parquet needs pyarrow", hint="pip install 'ml2sc[parquet]'") from error
    return ParquetFile(path)


def _array(batch: Any, columns: tuple[str, ...], row: tuple[int, ...], dtype: np.dtype[np.generic]) -> Array:
    """Return a batch as numbers; a value that is missing is refused, as NaN is.

    Raises:
        ValueError: a value is missing, or a list has another length.
    """
    arrays = []
    for name in columns:
        column = batch.column(batch.schema.get_field_index(name))
        if column.null_count:
            raise ValueError(f"column {name!r} lacks values")
        if hasattr(column, "flatten") and hasattr(column.type, "value_type"):
            flat = column.flatten()
            if len(flat) != len(column) * row[0] or flat.null_count:
                raise ValueError(f"the lists of column {name!r} are not all of {row[0]} numbers")
            return np.asarray(flat.to_numpy(zero_copy_only=False), dtype=dtype).reshape(len(column), *row)
        arrays.append(np.asarray(column.to_numpy(zero_copy_only=False), dtype=dtype))
    return np.stack(arrays, axis=1) if row else arrays[0]
