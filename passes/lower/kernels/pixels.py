"""Images as rows of pixels in lanes: of the packed input, a byte a pixel, of values a word each, or of other lanes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ml2sc.ir.program import (
    Assign,
    Block,
    Expr,
    For,
    Induction,
    Let,
    Load,
    LoadInput,
    OpCode,
    Statement,
    Store,
    Var,
    add,
    and_,
    binary,
    const,
    loop,
    mul,
    or_,
    shl,
    shr,
)
from ml2sc.ir.types import Array

from ..channels import Channels
from ..epilogue import Epilogue
from ..lane_steps import Ending, spread
from ..values import Packed, Scalars, Value
from .maps import Maps

_xor = binary(OpCode.XOR)
_BYTE = 8
_BYTES = 32
_MOST_RUNS = 8
"""Parts that feature maps may come in: each has loops of its own."""
_LONGEST_PERIOD = 4
"""Rows, or lanes, after which maps that are enlarged lie as before, at most."""


@dataclass(frozen=True, slots=True)
class Order:
    """How the elements of an image follow each other.

    Attributes:
        first: Place of the first.
        plane, row, pixel: Places from a channel, a row, a pixel to the next.
    """

    first: int
    plane: int
    row: int
    pixel: int = 1

    @classmethod
    def of(cls, places: Array) -> Order | None:
        """Return how elements follow each other that are at some places, (channels, height, width); None: in no way."""
        first = int(places[0, 0, 0])
        ends = (places[-1:, 0, 0], places[0, -1:, 0], places[0, 0, -1:])
        sizes = [max(size - 1, 1) for size in places.shape]
        plane, row, pixel = (int(end[0] - first) // size for end, size in zip(ends, sizes, strict=True))
        channels, height, width = np.indices(places.shape)
        alike = np.array_equal(places, first + channels * plane + height * row + width * pixel)
        return cls(first, plane, row, pixel) if alike and min(plane, row, pixel) >= 0 else None


class Pixels:
    """Emits what brings the packed input into lanes.

    Args:
        packed: The input's bytes.
        target: Where they go.
        clamped: What brings a byte (of a signed input: the byte + 128) into its interval, if it may be outside.
        order: How they follow each other; None: channel by channel and row by row.
    """

    def __init__(self, packed: Packed, target: Maps, clamped: Epilogue | None, order: Order | None = None) -> None:
        self.packed, self.target, self.clamped = packed, target, clamped
        self.order = order or Order(0, target.height * target.width, target.width)

    @staticmethod
    def fits(packed: Packed, target: Maps, clamped: Epilogue | None, pixel: int = 1) -> bool:
        """Return whether the input's bytes can be dealt out to these lanes a word at a time.

        Args:
            packed: The input's bytes.
            target: The lanes.
            clamped: What brings a byte into its interval.
            pixel: Bytes from a pixel of a row to the next.
        """
        reach = _reach(target, target.useful, pixel)
        inside = clamped is None or clamped.proved_bits <= target.pitch
        return packed.width == 1 and target.pitch >= _BYTE and reach <= _BYTES * _BYTE and inside

    def said(self) -> str:
        """Return what is done, in words."""
        target = self.target
        kept = "" if self.clamped is None else f", brought into the range of {target.top + 1} integers"
        return (
            f"Pixels of a row, the last one first, in lanes of {target.pitch} bits{kept}: {target.phases} words each "
            f"with every pixel of that number, {target.useful} pixels of its own a word."
        )

    def emit(self) -> list[Statement]:
        """Return the statements."""
        target = self.target
        inner: list[Statement] = []
        for j in range(target.words):
            for start in sorted({self._start(phase, j) for phase in range(target.phases)}):
                phases = [phase for phase in range(target.phases) if self._start(phase, j) == start]
                read: Expr = LoadInput(add(Var("p"), const(start)))
                if self.packed.signed:
                    read = _xor(read, const(spread(128, _BYTE, range(_BYTES))))
                inner.append(Block((Let("bytes", read), *(s for phase in phases for s in self._word(phase, j, start)))))
        order, first = self.order, self.packed.start + self.order.first
        if target.channels == 1:
            to = Induction("o", const(target.word(0, 0)), target.row_words)
            image = _over("p", target.height, inner, first, order.row, to)
        else:
            row = [Induction("p", Var("plane"), order.row), Induction("o", Var("map"), target.row_words)]
            to = Induction("map", const(target.word(0, 0)), target.channel_words)
            rows = loop("y", target.height, inner, also=row)
            image = _over("plane", target.channels, [rows], first, order.plane, to)
        return [*target.rim_rows(), image, *([] if self._with_those_beside else target.joined())]

    @property
    def _with_those_beside(self) -> bool:
        """Whether a word's nearest pixels of the words beside it are in the same 32 bytes."""
        target = self.target
        return _reach(target, target.before + target.useful + target.after, self.order.pixel) <= _BYTES * _BYTE

    def _lanes(self, phase: int, j: int) -> list[int]:
        """Return the lanes of a word that pixels are dealt out to."""
        target = self.target
        if not self._with_those_beside:
            return target.valid(phase, j)
        of = [
            (lane, j * target.useful + lane - target.before)
            for lane in range(target.before + target.useful + target.after)
        ]
        return [lane for lane, nth in of if 0 <= nth < target.count(phase)]

    def _start(self, phase: int, j: int) -> int:
        """Return with which byte of a row the 32 start that hold a word's pixels."""
        target = self.target
        if (target.width - 1) * self.order.pixel < _BYTES:
            return 0
        last = max(self._lanes(phase, j), default=target.before)
        farthest = target.phases * (j * target.useful + last - target.before) + phase
        return max(target.width - 1 - farthest, 0) * self.order.pixel

    def _word(self, phase: int, j: int, start: int) -> list[Statement]:
        """Return the statements that store one word of lanes, of the 32 bytes in `bytes`."""
        target = self.target
        valid = self._lanes(phase, j)
        filled = target.filled(phase, j) if target.words == 1 or self._with_those_beside else []
        place = add(Var("o"), const(phase * target.words + j))
        zero = const(spread(target.zero, target.pitch, filled))
        if not valid:
            return [Store(target.buffer, place, zero)]
        # the first lane has the last of the pixels
        nth = target.phases * (j * target.useful + valid[0] - target.before) + phase
        nearest = (target.width - 1 - nth) * self.order.pixel - start
        low = _BYTE * (_BYTES - 1 - nearest)
        apart = _BYTE * target.phases * self.order.pixel
        pixels = list(range(len(valid)))
        if apart == target.pitch:
            shift = low - target.pitch * valid[0]
            word: Expr = shr(shift, Var("bytes")) if shift >= 0 else shl(-shift, Var("bytes"))
            word = and_(word, const(spread(255, target.pitch, valid)))
            body: list[Statement] = [Let("v", word)]
        else:
            body = [Let("v", and_(shr(low, Var("bytes")), const(spread(255, apart, pixels))))]
            body += _dealt(len(valid), apart, target.pitch, 255)
            body.append(Assign("v", shl(target.pitch * valid[0], Var("v"))))
        if self.clamped is None:
            return [Block((*body, Store(target.buffer, place, add(Var("v"), zero))))]
        ending = Ending(self.clamped, target.pitch, valid, target.zero, filled)
        start_of = const(spread(self.clamped.constant + ending.half, target.pitch, valid))
        body.append(Assign("v", add(Var("v"), start_of)))
        statements, result = ending.word("v")
        return [Block((*body, *statements, Store(target.buffer, place, result)))]


def _dealt(count: int, apart: int, pitch: int, most: int) -> list[Statement]:
    """Return the statements that move the lanes of `v` as far apart as a pitch says, half of them at a time.

    Args:
        count: How many.
        apart: Bits from one to the next, the first at bit 0.
        pitch: Bits from one to the next afterwards.
        most: The greatest integer in a lane, all its bits ones.
    """
    body = list[Statement]()
    places = {i: apart * i for i in range(count)}
    sizes = [1 << bit for bit in reversed(range((count - 1).bit_length()))]
    if apart > pitch:
        sizes.reverse()
    for size in sizes if apart != pitch else ():
        moved = [i for i in places if i & size]
        kept = [i for i in places if not i & size]
        low, high = (sum(most << places[i] for i in group) for group in (kept, moved))
        by = size * (pitch - apart)
        shifted = and_(Var("v"), const(high))
        if by >= 0:  # what is moved up is there already once
            moving = add(mul(shifted, const((1 << by) - 1)), Var("v"))
        else:
            moving = or_(and_(Var("v"), const(low)), shr(-by, shifted))
        body.append(Assign("v", moving))
        for i in moved:
            places[i] += by
    return body


def _reach(target: Maps, lanes: int, pixel: int) -> int:
    """Return the bits of the packed input from the first to the last of so many lanes, pixels being bytes apart."""
    return ((lanes - 1) * target.phases * pixel + 1) * _BYTE


def _over(name: str, count: int, body: Sequence[Statement], start: int, step: int, to: Induction) -> For:
    """Return a loop over places that are read, of which none may follow the first, and those that are written."""
    if step:
        return loop(name, count, body, start=start, step=step, also=[to])
    return For((to, Induction(name, const(start), 0)), count, tuple(body))


class Gathered:
    """Emits what brings values, a word each, into lanes.

    Args:
        source: The tensor's elements, in order.
        target: Where they go.
    """

    def __init__(self, source: Scalars, target: Maps) -> None:
        self.source, self.target = source, target

    def emit(self) -> list[Statement]:
        """Return the statements."""
        target = self.target
        inner = [
            Store(target.buffer, add(Var("o"), const(phase * target.words + j)), self._word(phase, j))
            for phase in range(target.phases)
            for j in range(target.words)
        ]
        row = [Induction("p", Var("plane"), target.width), Induction("o", Var("map"), target.row_words)]
        rows = loop("y", target.height, inner, also=row)
        also = [Induction("map", const(target.word(0, 0)), target.channel_words)]
        planes = loop("plane", target.channels, [rows], step=target.height * target.width, also=also)
        return [*target.rim_rows(), planes, *target.joined()]

    def _word(self, phase: int, j: int) -> Expr:
        """Return one word of lanes: q of each, less what u = 0 stands for in all of them together."""
        target = self.target
        valid = target.valid(phase, j)
        filled = target.filled(phase, j) if target.words == 1 else []
        rest = spread(target.zero, target.pitch, filled) - sum(target.offset << target.pitch * lane for lane in valid)
        total: Expr = const(rest)
        for lane in valid:
            nth = target.phases * (j * target.useful + lane - target.before) + phase
            q = Load(self.source.buffer, add(Var("p"), const(target.width - 1 - nth)))
            total = add(shl(target.pitch * lane, q), total)
        return total


def relaid(value: Value, target: Maps) -> list[Statement] | None:
    """Return what brings feature maps into other lanes, a word at a time; None if nothing does.

    Args:
        value: The maps, of one source or joined ones.
        target: Where they go.
    """
    runs = Channels.runs(value, target.channels)
    if runs is None or len(runs) > _MOST_RUNS or any(where.source.offset != target.offset for _, where in runs):
        return None
    parts = [_Relaid(where, target, channels) for channels, where in runs]
    if not all(part.fits for part in parts):
        return None
    return [*target.rim_rows(), *(part.planes() for part in parts), *target.joined()]


class _Relaid:
    """Emits what brings some channels of feature maps into other lanes.

    Args:
        where: Their elements, by channel.
        target: Where they go.
        channels: Which channels of the target they are.
    """

    def __init__(self, where: Channels, target: Maps, channels: range) -> None:
        self.where, self.target, self.channels = where, target, channels
        self.ahead = where.ahead.reshape(target.height, target.width)
        self.lanes = where.lanes.reshape(target.height, target.width)
        periods = (n for n in range(1, _LONGEST_PERIOD + 1) if target.height % n == 0)
        self.period = next((n for n in periods if self._step(n) is not None), 0)
        """Rows after which they lie as before, some words on; 0: they do not."""
        self.row = self._step(self.period) or 0

    def _step(self, period: int) -> int | None:
        """Return how many words on a row lies, that so many rows are before, if all lie alike so."""
        height, width = self.ahead.shape
        if not period:
            return None
        ahead, lanes = (part.reshape(height // period, period, width) for part in (self.ahead, self.lanes))
        step = int(ahead[-1, 0, 0] - ahead[0, 0, 0]) // max(len(ahead) - 1, 1)
        rows = step * np.arange(len(ahead))[:, None, None]
        alike = np.array_equal(ahead, ahead[0] + rows) and bool(np.all(lanes == lanes[0]))
        return step if alike and step >= 0 else None

    @property
    def fits(self) -> bool:
        """Return whether rows lie alike, and the pixels of a word come from others in few even steps."""
        whole = self.period > 0 and self.where.source.bits <= self.target.pitch
        return whole and all(self._moves(*place) is not None for place in self._places())

    def _places(self) -> Iterator[tuple[int, int, int]]:
        """Iterate over the words of the rows of a period: row, phase, and number."""
        return itertools.product(range(self.period), range(self.target.phases), range(self.target.words))

    def _taken(self, row: int, phase: int, j: int) -> dict[int, list[tuple[int, int]]]:
        """Return, by a row's words, the lanes of a word of the target, each with the one in which its pixel is."""
        target = self.target
        taken: dict[int, list[tuple[int, int]]] = {}
        for lane in target.valid(phase, j):
            pixel = target.width - 1 - target.phases * (j * target.useful + lane - target.before) - phase
            taken.setdefault(int(self.ahead[row, pixel]), []).append((lane, int(self.lanes[row, pixel])))
        return taken

    def _moves(self, row: int, phase: int, j: int) -> dict[_Move, list[int]] | None:
        """Return what goes into a word of the target, each with the lanes its first pixel goes to; None: no way."""
        moves: dict[_Move, list[int]] = {}
        for ahead, lanes in self._taken(row, phase, j).items():
            ways = (_in_steps(lanes, by) for by in range(1, _LONGEST_PERIOD + 1))
            runs = next((runs for runs in ways if runs is not None), None)
            if runs is None:
                return None
            for first, at, apart, step, count in runs:
                moves.setdefault(_Move(ahead, at, apart, step, count), []).append(first)
        return moves

    @cached_property
    def _together(self) -> int:
        """Channels whose pixels share lanes while these are moved apart or closer: each step is one for all."""
        source, target = self.where.source, self.target
        moves = itertools.chain.from_iterable(self._moves(*place) or () for place in self._places())
        if all(move.count == 1 or source.stride * move.apart == target.pitch * move.step for move in moves):
            return 1
        room = min(source.stride, target.pitch) // source.bits
        return max(n for n in range(1, max(room, 1) + 1) if len(self.channels) % n == 0)

    def planes(self) -> Statement:
        """Return the loop over the channels."""
        target, where, channels, together = self.target, self.where, self.channels, self._together
        inner: list[Statement] = []
        rows_of: dict[bytes, list[int]] = {}  # what is repeated is computed once
        for number in range(self.period):
            rows_of.setdefault(self.ahead[number].tobytes() + self.lanes[number].tobytes(), []).append(number)
        for rows in rows_of.values():
            words = itertools.product(range(target.phases), range(target.words))
            inner += [Block(tuple(self._word(rows, phase, j))) for phase, j in words]
        row = [Induction("p", Var("plane"), self.row), Induction("o", Var("map"), self.period * target.row_words)]
        body = loop("y", target.height // self.period, inner, also=row)
        to = Induction("map", const(target.word(channels.start, 0)), together * target.channel_words)
        return _over("plane", len(channels) // together, [body], where.first, together * where.step, to)

    def _word(self, rows: Sequence[int], phase: int, j: int) -> list[Statement]:
        """Return the statements that store a word of lanes of each channel, the same in some rows of a period."""
        target, bits, together = self.target, self.where.source.bits, self._together
        filled = target.filled(phase, j) if target.words == 1 else []
        rim = const(spread(target.zero, target.pitch, filled))
        body: list[Statement] = [Let("made", rim if together == 1 else const(0))]
        for move, lanes in (self._moves(rows[0], phase, j) or {}).items():
            body.append(Block(tuple(self._moved(move, lanes))))
        own = const(spread((1 << bits) - 1, target.pitch, target.valid(phase, j)))
        for number in range(together):
            word: Expr = Var("made")
            if together > 1:
                body.append(Let(f"u{number}", add(and_(shr(number * bits, word), own), rim)))
                word = Var(f"u{number}")
            for row in rows:
                place = number * target.channel_words + row * target.row_words + phase * target.words + j
                body.append(Store(target.buffer, add(Var("o"), const(place)), word))
        return body

    def _moved(self, move: _Move, lanes: Sequence[int]) -> list[Statement]:
        """Return the statements that add to `made` what is in some lanes of a word of the row."""
        source, target = self.where.source, self.target
        apart, most = source.stride * move.apart, (1 << self._together * source.bits) - 1
        word: Expr = Load(source.buffer, add(Var("p"), const(move.ahead)))
        for number in range(1, self._together):
            other = Load(source.buffer, add(Var("p"), const(number * self.where.step + move.ahead)))
            word = add(shl(number * source.bits, other), word)
        word = shr(source.stride * move.at, word)
        body: list[Statement] = [Let("v", and_(word, const(spread(most, apart, range(move.count)))))]
        body += _dealt(move.count, apart, target.pitch * move.step, most)
        moved = shl(target.pitch * lanes[0], Var("v"))
        if len(lanes) > 1:  # pixels that are repeated
            moved = mul(Var("v"), const(spread(1, target.pitch, lanes)))
        return [*body, Assign("made", or_(Var("made"), moved))]


@dataclass(frozen=True, slots=True)
class _Move:
    """Pixels of one word that go to another, equally many lanes apart.

    Attributes:
        ahead: The word's place in the row.
        at: Lane of the first.
        apart: Lanes from one to the next.
        step: The same, of the word that they go to.
        count: How many there are.
    """

    ahead: int
    at: int
    apart: int
    step: int
    count: int


def _in_steps(lanes: Sequence[tuple[int, int]], by: int) -> list[tuple[int, int, int, int, int]] | None:
    """Return pairs of lanes, to and from, as runs in even steps, one of those that are each so many places on.

    Returns:
        Of each run: where it begins, to and from; its steps, from and to; and how many there are. None: there are none.
    """
    runs = []
    for first in range(min(by, len(lanes))):
        to, at = zip(*lanes[first::by], strict=True)
        steps = {after - before for before, after in itertools.pairwise(to)}
        apart = {after - before for before, after in itertools.pairwise(at)}
        if max(len(steps), len(apart)) > 1 or min(steps | apart, default=1) < 1:
            return None
        runs.append((to[0], at[0], apart.pop() if apart else 1, steps.pop() if steps else 1, len(to)))
    return runs
