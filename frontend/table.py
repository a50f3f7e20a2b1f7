"""Sample files of every kind, and parts of them that workers read where they are."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

import numpy as np

from ml2sc.errors import DataError
from ml2sc.files import open_file
from ml2sc.ir.types import Array

from .npy import MAGIC as NUMPY
from .npy import NpyRows
from .npz import Npz, NpzRows
from .parquet import MAGIC as PARQUET
from .parquet import ParquetRows, ParquetTable

Stored: TypeAlias = NpzRows | NpyRows | ParquetRows
"""Samples in a file, one a row: whole rows are asked for, in ascending order."""

HINT = "an .npz file with x (and x1, x2, … or the inputs' own names) of shape (samples, …), and optionally labels y"
"""What a file of samples is."""

_OPEN_FILES = 8
_ZIP = b"PK"
_KINDS = (".npz", ".npy", ".parquet")


@dataclass(frozen=True)
class SampleFile:
    """A file as it was when it was opened.

    Attributes:
        path: Where it is, absolute: workers may have another working directory.
        size: Its bytes.
        modified: When it was last written, in nanoseconds since 1970.
        names: The model's for the columns of `x`, by which they are taken from a table; empty if it has none.
    """

    path: Path
    size: int
    modified: int
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, path: Path, names: tuple[str, ...] = ()) -> SampleFile:
        """Note what a file is like now.

        Raises:
            DataError: it is not there.
        """
        try:
            about = path.stat()
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror or error}") from error
        return cls(path.absolute(), about.st_size, about.st_mtime_ns, names)

    def require_same(self) -> None:
        """Refuse to go on with a file that is another one now.

        Raises:
            DataError: it was changed, or it is gone.
        """
        if SampleFile.of(self.path, self.names) != self:
            raise DataError(f"{self.path} was changed while it was being read", hint="begin again, with a file at rest")


@dataclass(frozen=True)
class FileRows:
    """Some rows of an array in a file. Pickled, it is but the place: whoever asks for rows reads them there.

    Attributes:
        file: The file.
        key: The array's key in it.
        first: The first row's number in that array.
        shape: As an array's.
        dtype: Type of the elements.
    """

    file: SampleFile
    key: str
    first: int
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: int | slice) -> Array:
        """Return one row, or those from one to another.

        Raises:
            DataError: the file is damaged, or it was changed.
        """
        if not isinstance(rows, slice):
            row: Array = self[rows : rows + 1][0]
            return row
        begin, end, _ = rows.indices(len(self))
        self.file.require_same()
        found = _opened(self.file, self.key)[self.first + begin : self.first + max(begin, end)]
        self.file.require_same()
        return found


@lru_cache(maxsize=_OPEN_FILES)
def _opened(file: SampleFile, key: str) -> Array | Stored:
    """Return a file's array; it stays open for the parts that follow."""
    return open_table(file.path, file.names)[key]


def open_table(path: Path, names: tuple[str, ...] = ()) -> Mapping[str, Array | Stored]:
    """Return the arrays of a sample file by key; what kind it is shows in its first bytes.

    Args:
        path: An .npz file, an .npy file (its array is `x`), or a Parquet file.
        names: The model's for the columns of `x`, by which they are taken from a table; empty if it has none.

    Raises:
        OSError: it cannot be read.
        DataError: it is of none of these kinds, or damaged.
        ToolchainError: a package that reads it is missing.
    """
    with open_file(path, follow=True) as file:
        begin = file.read(max(len(NUMPY), len(PARQUET)))
    if begin.startswith(NUMPY):
        return {"x": NpyRows(path)}
    if begin.startswith(PARQUET):
        return ParquetTable(path, names)
    try:
        return Npz(path)
    except zipfile.BadZipFile as error:
        if begin.startswith(_ZIP):
            message = f"is damaged or truncated: it begins as an .npz file does, but {error}"
        elif path.suffix.lower() in _KINDS:
            message = f"is damaged, or no {path.suffix} file: it does not begin as one" if begin else "is empty"
        else:
            message = "is no .npz, .npy or Parquet file"
        raise DataError(f"{path} {message}", hint=HINT) from error


def part_of(rows: Array | Stored | FileRows, file: SampleFile | None, first: int, last: int) -> Array | FileRows:
    """Return some rows of an array: those of one in memory themselves, those of a file's by their place."""
    if file is None or isinstance(rows, np.ndarray | FileRows):
        return rows[first:last]
    return FileRows(file, rows.key, first, (last - first, *rows.shape[1:]), rows.dtype)
