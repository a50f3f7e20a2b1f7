"""Arrays in an .npz file, read a block of rows at a time: the file may be larger than memory."""

from __future__ import annotations

import math
import os
import struct
import sys
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from ml2sc.errors import DataError
from ml2sc.ir.types import Array

BLOCK_BYTES = 1 << 20
"""Bytes of an array that are in memory at a time, counted in float64; one row at least."""

WHOLE_BYTES = 1 << 30
"""Bytes of the largest array in Fortran's order: such are read whole."""

DAMAGE = (
    *(ArithmeticError, EOFError, LookupError, MemoryError, OSError, RuntimeError, SyntaxError, TypeError, ValueError),
    *(struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)
"""What zipfile and numpy raise about files that are damaged or made up."""

_SAID = 200
"""Characters of their texts that are repeated: they may quote the file."""

_READ_HEADER = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class NpzRows:
    """An array in an .npz file, compressed or not: behaves as an array of which only whole rows are asked for.

    Ask for rows in ascending order: to go back is to read from the beginning again.

    Args:
        archive: The open file.
        member: Name of the array's member.
        where: What to call the array in messages.
        shape: Its shape, at least one-dimensional.
        dtype: Type of its elements.

    Attributes:
        shape: The same.
        dtype: The same.
    """

    def __init__(
        self, archive: zipfile.ZipFile, member: str, where: str, shape: tuple[int, ...], dtype: np.dtype[np.generic]
    ) -> None:
        self.shape, self.dtype = shape, dtype
        self._archive, self._member, self._where = archive, member, where
        self._row_bytes = math.prod(shape[1:]) * dtype.itemsize
        self._stream: IO[bytes] | None = None
        self._next = 0  # the row that the stream stands at
        self._first, self._block = 0, np.empty((0, *shape[1:]), dtype)

    @property
    def key(self) -> str:
        """What it is asked for as."""
        return self._member.removesuffix(".npy")

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
        if isinstance(rows, slice):
            first, last, _ = rows.indices(len(self))
            return self._read(first, last)
        if not self._first <= rows < self._first + len(self._block):
            step = block_rows(self.shape)
            first = rows - rows % step
            self._first, self._block = first, self._read(first, min(first + step, len(self)))
        row: Array = self._block[rows - self._first]
        return row

    def close(self) -> None:
        """Read no more."""
        if self._stream is not None:
            self._stream.close()

    def _read(self, first: int, last: int) -> Array:
        with readable(self._where):
            if self._stream is None or first < self._next:
                self._stream, self._next = self._archive.open(self._member), 0
                header(self._stream, self._archive.getinfo(self._member).file_size)
            skipped = (first - self._next) * self._row_bytes
            while skipped > 0:  # zipfile's own seek takes 16 MB at a time
                skipped -= len(self._stream.read(min(skipped, BLOCK_BYTES))) or skipped
            wanted = (last - first) * self._row_bytes
            data = self._stream.read(wanted)
            if len(data) < wanted:
                raise EOFError(f"it ends within the rows from {first} on")
            self._next = last
            if last == len(self):
                self._stream.read(1)  # the end is where zipfile compares the checksum
        return np.frombuffer(data, self.dtype).reshape(last - first, *self.shape[1:])


class Npz(Mapping[str, Array | NpzRows]):
    """The arrays of an .npz file by key, without those that nobody asks for.

    An array in Fortran's order is read whole: its rows are spread over all of it.

    Args:
        path: The file.

    Raises:
        OSError: it cannot be read.
        zipfile.BadZipFile: it is no .npz file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path
        with Path(path).open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise zipfile.BadZipFile("the table at its end is missing")
        try:
            self._archive = zipfile.ZipFile(path)
        except DAMAGE as error:
            raise zipfile.BadZipFile(said(error)) from error
        self._members = {name.removesuffix(".npy"): name for name in self._archive.namelist()}
        self._opened: list[NpzRows] = []

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __getitem__(self, key: str) -> Array | NpzRows:
        """Return an array.

        Raises:
            DataError: it cannot be read.
        """
        member, where = self._members[key], f"{self._path}, key {key!r:.100}"
        info = self._archive.getinfo(member)
        with readable(where), self._archive.open(member) as stream:
            if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                raise ValueError("it is compressed in a way that numpy does not write")
            shape, by_rows, dtype = header(stream, info.file_size)
            if by_rows:
                self._opened.append(NpzRows(self._archive, member, where, shape, dtype))
                return self._opened[-1]
            if math.prod(shape) * dtype.itemsize > WHOLE_BYTES:
                raise ValueError("it is too large to be in Fortran's order; numpy.ascontiguousarray changes that")
            return np.frombuffer(stream.read(), dtype).reshape(shape, order="F")

    def close(self) -> None:
        """Close the file: no array can be read any more."""
        for rows in self._opened:
            rows.close()
        self._archive.close()


def block_rows(shape: tuple[int, ...]) -> int:
    """Return how many rows of samples are a block.

    Args:
        shape: Of all of them.
    """
    return max(BLOCK_BYTES // (8 * max(math.prod(shape[1:]), 1)), 1)


@contextmanager
def readable(where: str) -> Iterator[None]:
    """Report as a DataError what goes wrong when an array is read."""
    try:
        yield
    except DAMAGE as error:
        raise DataError(
            f"{where} cannot be read: {said(error)}", hint="store plain numeric arrays, no objects"
        ) from error


def said(error: BaseException) -> str:
    """Return a library's words about a file: not too many, and nothing that cannot be shown."""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(error)[:_SAID])
    return text or type(error).__name__


def header(stream: IO[bytes], size: int) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """Read an array's header.

    Args:
        stream: Where it begins.
        size: Bytes of header and elements.

    Returns:
        Its shape, whether its rows follow one by one, and the type of its elements.

    Raises:
        ValueError: it is no header of a plain array, or there are not as many bytes as it says.
    """
    read = _READ_HEADER.get(np.lib.format.read_magic(stream))
    if read is None:
        raise ValueError("it is of a version of the format that plain arrays do not have")
    shape, fortran, dtype = read(stream)
    if dtype.hasobject:
        raise ValueError("its elements are objects")
    if not all(type(extent) is int and 0 <= extent <= sys.maxsize for extent in shape):
        raise ValueError(f"{shape} is no shape")
    stated, held = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if stated != held:
        raise ValueError(f"its header says {stated:,} bytes, and {held:,} are there")
    return shape, bool(shape) and (len(shape) == 1 or not fortran), dtype
