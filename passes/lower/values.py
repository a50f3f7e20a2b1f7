"""Where the elements of a tensor are while a Program runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ml2sc.ir.program import PACKED, Expr, Load, LoadInput, add, and_, byte, const, mul, sar, shr
from ml2sc.ir.types import Array


@dataclass(frozen=True, slots=True)
class Packed:
    """Elements of the packed input.

    Attributes:
        start: Byte offset of the first.
        width: Bytes of one.
        signed: Whether they are two's complement.
        count: How many.
    """

    start: int
    width: int
    signed: bool
    count: int
    offset: int = 0

    @property
    def qmin(self) -> int:
        """Least integer that its bytes can be."""
        return -(1 << (8 * self.width - 1)) if self.signed else 0

    @property
    def qmax(self) -> int:
        """Greatest integer that its bytes can be."""
        return self.qmin + (1 << 8 * self.width) - 1

    def read(self, position: Expr) -> Expr:
        """Return the element at a position, as q."""
        return self.read_at(add(mul(position, const(self.width)), const(self.start)))

    def read_at(self, byte_offset: Expr) -> Expr:
        """Return the element at a byte offset, as q."""
        return (sar if self.signed else shr)(256 - 8 * self.width, LoadInput(byte_offset))


@dataclass(frozen=True, slots=True)
class Laned:
    """`lanes` elements to a word, as u = q − offset >= 0: the first at bit 0, each `stride` bits above the last.

    Attributes:
        buffer: Where.
        lanes: Elements in a word.
        stride: Bits from one lane to the next.
        bits: Width of u.
        offset: What u = 0 stands for.
        count: How many elements.
        from_top: Whether the first is in the top lane instead, and the last at bit 0.
    """

    buffer: str
    lanes: int
    stride: int
    bits: int
    offset: int
    count: int
    from_top: bool = False

    @property
    def words(self) -> int:
        """Words of the buffer in use."""
        return -(-self.count // self.lanes)

    def place(self, number: int) -> int:
        """Return the bit where the element of a number in its word starts."""
        return self.stride * (self.lanes - 1 - number if self.from_top else number)

    def lane(self, word: Expr, number: int) -> Expr:
        """Return u of the element of a number in a word."""
        place = self.place(number)
        if self.stride == 8 and place % 8 == 0:
            return byte(const(31 - place // 8), word)
        shifted = shr(place, word)
        return shifted if place == self.stride * (self.lanes - 1) else and_(shifted, const((1 << self.bits) - 1))


@dataclass(frozen=True, slots=True)
class Scalars:
    """One element a word, q in two's complement."""

    buffer: str
    count: int
    offset: int = 0

    def read(self, position: Expr) -> Expr:
        """Return the element at a position, as q."""
        return Load(self.buffer, position)


Source = Packed | Laned | Scalars


@dataclass(frozen=True)
class Value:
    """The elements of a tensor, row-major: element e is at position `where[e]` of `sources[which[e]]`."""

    sources: tuple[Source, ...]
    which: Array
    where: Array

    @classmethod
    def of(cls, source: Source) -> Value:
        """Return all elements of one source, in its order."""
        return cls((source,), np.zeros(source.count, dtype=np.int64), np.arange(source.count))

    @property
    def size(self) -> int:
        """Number of elements."""
        return len(self.which)

    @property
    def key(self) -> tuple[tuple[Source, ...], bytes, bytes]:
        """The same for all values whose elements are in the same places."""
        return self.sources, self.which.tobytes(), self.where.tobytes()

    def take(self, elements: Array) -> Value:
        """Return the value whose elements are those of this one at the given indices."""
        return Value(self.sources, self.which[elements], self.where[elements])

    def reads(self) -> dict[str, int]:
        """Return the words of each buffer in which the elements are, a bit each; as `PACKED` bytes of the input."""
        found: dict[str, int] = {}
        for number, source in enumerate(self.sources):
            where = self.where[self.which == number]
            if isinstance(source, Packed):
                first = source.start + source.width * where
                name, places = PACKED, np.concatenate([first + k for k in range(source.width)])
            else:
                name, places = source.buffer, where // source.lanes if isinstance(source, Laned) else where
            found[name] = found.get(name, 0) | bits_of(places)
        return {name: bits for name, bits in found.items() if bits}

    def direct(self) -> Source | None:
        """Return the source if the value is just that, in order."""
        source = self.sources[self.which[0]]
        if source.count != self.size or np.any(self.which != self.which[0]):
            return None
        return source if np.array_equal(self.where, np.arange(self.size)) else None

    @staticmethod
    def joined(values: Sequence[Value]) -> tuple[tuple[Source, ...], Array, Array]:
        """Return the sources of several values, and which/where of all their elements one after the other."""
        sources: list[Source] = []
        which, where = [], []
        for value in values:
            index = []
            for source in value.sources:
                if source not in sources:
                    sources.append(source)
                index.append(sources.index(source))
            which.append(np.asarray(index)[value.which])
            where.append(value.where)
        return tuple(sources), np.concatenate(which), np.concatenate(where)


def bits_of(places: Array) -> int:
    """Return the integer with ones at some places."""
    if not places.size:
        return 0
    ones = np.zeros(int(places.max()) + 1, dtype=np.uint8)
    ones[places.astype(np.int64)] = 1
    return int.from_bytes(np.packbits(ones, bitorder="little").tobytes(), "little")


@dataclass(frozen=True, slots=True)
class Run:
    """Elements first … first + count − 1 of a result, with every operand at an arithmetic progression.

    Attributes:
        first: Index of the first element.
        count: How many.
        starts: Position of each operand at the first.
        steps: How far each operand moves from one element to the next.
        sources: Index of each operand's source.
    """

    first: int
    count: int
    starts: tuple[int, ...]
    steps: tuple[int, ...]
    sources: tuple[int, ...]


def runs(operands: Sequence[Value], longest: int) -> Iterator[Run]:
    """Cut equally long values into the fewest runs, greedily from the left."""
    size = operands[0].size
    first = 0
    while first < size:
        which = tuple(int(v.which[first]) for v in operands)
        steps, count = [0] * len(operands), 1
        if first + 1 < size and all(int(v.which[first + 1]) == w for v, w in zip(operands, which, strict=True)):
            steps = [int(v.where[first + 1] - v.where[first]) for v in operands]
            if all(s >= 0 for s in steps):
                count = _length(operands, which, steps, first, min(size, first + longest))
        if count == 1:
            steps = [0] * len(operands)
        yield Run(first, count, tuple(int(v.where[first]) for v in operands), tuple(steps), which)
        first += count


def _length(operands: Sequence[Value], which: Sequence[int], steps: Sequence[int], first: int, end: int) -> int:
    length = end - first
    for value, source, step in zip(operands, which, steps, strict=True):
        expected = value.where[first] + step * np.arange(end - first)
        good = (value.which[first:end] == source) & (value.where[first:end] == expected)
        bad = np.flatnonzero(~good)
        length = min(length, int(bad[0]) if bad.size else length)
    return length
