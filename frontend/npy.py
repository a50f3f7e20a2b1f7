"""An array in an .npy file, read a block of rows at a time.

Read, not mapped into memory: a process that reads past the end of a mapped file, which somebody cut meanwhile, is
killed.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from ml2sc.errors import DataError
from ml2sc.ir.types import Array

from .npz import header, readable

MAGIC = b"\x93NUMPY"
"""What such a file begins with."""


class NpyRows:
    """The array of an .npy file: behaves as one of which only whole rows are asked for.

    Args:
        path: The file.

    Attributes:
        key: What it is asked for as.
        shape: Its shape, at least one-dimensional.
        dtype: Type of its elements.

    Raises:
        DataError: it is damaged, or its rows do not follow one by one.
    """

    key = "x"

    def __init__(self, path: Path) -> None:
        self._path = path
        with readable(str(path)), path.open("rb") as file:
            self.shape, by_rows, self.dtype = header(file, path.stat().st_size)
            self._start = file.tell()
        if not by_rows:
            raise DataError(
                f"{path}: its rows do not follow one by one (it is in Fortran's order, or no array of samples)",
                hint="np.save(path, np.ascontiguousarray(x)) writes one that can be read",
            )

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
            row: Array = self[rows : rows + 1][0]
            return row
        first, last, _ = rows.indices(len(self))
        count = max(last - first, 0)
        size = math.prod(self.shape[1:]) * self.dtype.itemsize
        with readable(str(self._path)), self._path.open("rb") as file:
            file.seek(self._start + first * size)
            data = file.read(count * size)
            if len(data) < count * size:
                raise EOFError(f"it ends within the rows from {first} on")
        return np.frombuffer(data, self.dtype).reshape(count, *self.shape[1:])
