"""Convolutions by rows whose output channels are a loop: words of taps are data, the code of a channel is there once.

A channel has a record of words: what its sums start with, and its words of taps, one after the other or several in one
(`Loops.dense`). Either the loop over channels goes around that over the rows, and pixels are read where they are; or
the pixels that some rows read are first copied to a window, at places that are known, and the channels are within.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

from ml2sc.ir.program import (
    CONTRACT_WORDS,
    Apply,
    Block,
    CopySegment,
    Expr,
    Lanes,
    LaterWords,
    Let,
    Load,
    Note,
    OpCode,
    Segment,
    Statement,
    Storage,
    Store,
    Var,
    add,
    and_,
    const,
    or_,
    shl,
    shr,
    sub,
)

from ..epilogue import ChannelScaling
from ..lane_steps import Ending, Factors, spread
from ..nests import over
from ..options import Activity
from .conv import Convolution, RowsOfTaps
from .maps import WORD, Maps

IN_CODE = 64
"""Words of records that are in the contract's code; more are in data contracts."""
_WRITTEN = 800
"""Products that are written out, at most."""
_ROWS = 8
"""Rows of results that are written out, at most."""
_MORE_ROWS = 3
"""Rows of results that may be computed twice, so that they come out even."""
_ALL = (1 << WORD) - 1
_COPY, _COPY_WORD, _UNPACK, _MOVE, _WINDOW, _POINTER, _ENDING = 150, 3, 38, 25, 20, 26, 160
_PRODUCT_BYTES, _UNPACK_BYTES = 11, 50
"""Gas and bytes of code, about: see `LoopedRows.about`."""


@dataclass(frozen=True, slots=True)
class Loops:
    """How the loops lie.

    Attributes:
        rows: Rows of results that are written out.
        window: Whether pixels are copied to known places, and output channels are the innermost loop.
        dense: Whether a word of a record holds several words of taps.
        fold: How many rows of pixels are put into one word of the window.
        apart: Rows of results from one of them to the next.
        parts: Sections among which the output channels are dealt out.
    """

    rows: int
    window: bool
    dense: bool
    fold: int = 1
    apart: int = 0
    parts: int = field(default=1, kw_only=True)

    def __str__(self) -> str:
        order = "bands of rows, then output channels" if self.window else "output channels, then rows"
        folded = f", {self.fold} rows to a word, {self.apart} apart" if self.fold > 1 else ""
        dense = ", several words of taps in one" if self.dense else ""
        return f"{order}, {self.rows} at a time{folded}{dense}"

    @property
    def live(self) -> Activity | None:
        """What pixels look like, where that makes a difference."""
        return None


@dataclass(frozen=True, slots=True)
class Workspace:
    """Names of what the loops need besides the maps.

    Attributes:
        segment: The records.
        record: The buffer of the one in use, or of all.
        taps: The buffer of its words of taps, one each.
        window: The buffer of the pixels that some rows read.
        sums: The buffer of sums of products.
        more_sums: Those of further sections, if there are several: what one leaves in them no other reads.
        partial: The buffer of sums that lack some inputs' products.
    """

    segment: str = "records"
    record: str = "record"
    taps: str = "taps"
    window: str = "window"
    sums: str = "sums"
    more_sums: tuple[str, ...] = ()
    partial: str = "partial"


@dataclass(frozen=True, slots=True)
class Dense:
    """How words of taps lie in one word.

    Attributes:
        bits: Of a tap above the least.
        least: The least tap, or 0.
        fields: Taps of different words in a lane.
        spans: Runs of lanes.
    """

    bits: int
    least: int
    fields: int
    spans: int

    @classmethod
    def of(cls, least: int, most: int, pitch: int, span: int) -> Dense:
        """Return how words of taps in an interval, of so many lanes, lie best."""
        least, most = min(least, 0), max(most, 0)  # lanes without a tap hold 0
        bits = max((most - least).bit_length(), 1)
        fields = max(pitch // bits, 1)
        spans = max((WORD - fields * bits + pitch) // (pitch * span), 1)
        return cls(bits, least, fields, spans)

    @property
    def each(self) -> int:
        """Words of taps in one."""
        return self.fields * self.spans


class LoopedRows(RowsOfTaps):
    """Emits a convolution with a loop over its output channels.

    Args:
        conv: The convolution.
        source: Where its input is.
        target: Where its result goes.
        loops: How the loops lie.
        names: Of what they need.
        in_data: Whether records are in data contracts; None: if there are many.
    """

    def __init__(
        self,
        conv: Convolution,
        source: Maps,
        target: Maps,
        loops: Loops,
        names: Workspace | None = None,
        *,
        in_data: bool | None = None,
    ) -> None:
        super().__init__(conv, source, target)
        self.loops, self.names = loops, names or Workspace()
        self.nearest = conv.reach(self.phases, self.stride)[0]
        self.channels = int(conv.weights.shape[1])
        self.alike = conv.alike
        self.size = (1 if self.alike else conv.outputs) * self.record_words
        self.in_data = self.size > IN_CODE if in_data is None else in_data
        self.storage = Storage.DATA if self.in_data else Storage.CODE
        self.fields = self._packing.fields if loops.dense else 1

    @classmethod
    def ways(cls, conv: Convolution, source: Maps, target: Maps) -> Iterator[Loops]:
        """Iterate over the ways in which the loops can lie."""
        for fold, apart in cls._folds(conv, source, target):
            height = target.height - (fold - 1) * apart
            for rows in (n for n in range(1, min(height, _ROWS) + 1) if height % n == 0):
                for window, dense in itertools.product((False, True) if fold == 1 else (True,), (False, True)):
                    loops = Loops(rows, window, dense, fold, apart)
                    if cls(conv, source, target, loops).possible:
                        yield loops

    @classmethod
    def _folds(cls, conv: Convolution, source: Maps, target: Maps) -> Iterator[tuple[int, int]]:
        """Iterate over how many rows a word of the window has room for, and how far apart those can be.

        Rows that two of them come to are computed twice, which gives the same.
        """
        yield 1, 0
        plain = LoopedRows(conv, source, target, Loops(1, window=True, dense=False))
        if source.words > 1 or source.zero or max(plain.gap, plain.close) > 1:
            return
        # for the sums, and for the results, which may lie higher
        room = source.lanes - source.useful - max(source.before + plain.farthest, target.before)
        for fold in range(2, 1 + room // plain.step + 1):
            for apart in range(target.height // fold, 0, -1):
                height = target.height - (fold - 1) * apart
                if apart <= height <= -(-target.height // fold) + _MORE_ROWS:
                    yield fold, apart

    @property
    def step(self) -> int:
        """Lanes from a row in a word of the window to the next: no sum that is kept reads pixels of two."""
        return self.source.useful + max(self.farthest, -self.nearest, 0)

    @property
    def height(self) -> int:
        """Rows of results that are computed, those in one word being one."""
        return self.target.height - (self.loops.fold - 1) * self.loops.apart

    @property
    def possible(self) -> bool:
        """Whether a record fits a data contract, and the code is not too much."""
        if self.close > 1:
            return False
        if self.loops.dense and (self._packing.each < 2 or len(self._taps) < 2):
            return False
        return self._written <= _WRITTEN and self.record_words <= CONTRACT_WORDS

    @property
    def _written(self) -> int:
        """Products in the code."""
        return self.loops.rows * len(self.parts(0)) * sum(map(len, self._keys[:: self.columns]))

    def about(self) -> tuple[float, int, int]:
        """Return roughly what an inference costs, bytes of code, and bytes of data: to find what is worth walking."""
        loops, conv, words = self.loops, self.conv, self.target.words
        bands = self.height // loops.rows
        visits = (bands * words if loops.window else 1) if not self.alike else 1 / conv.outputs
        taps = len(self._taps)
        read = (_COPY + _COPY_WORD * self.record_words if self.in_data else 0) + (_UNPACK * taps if loops.dense else 0)
        each = _WINDOW if loops.window else _POINTER
        if not (self.in_data or loops.dense):
            each += _POINTER - _WINDOW
        results = self.height * words * self.target.phases
        ending = _ENDING * len(self.parts(0)) + _MOVE * (loops.fold - 1)
        gas = conv.outputs * (visits * read + bands * words * self._written * each + results * ending)
        if loops.window:
            pixels = self.channels * len(self._window_rows) * self.source.phases
            gas += conv.groups * bands * words * pixels * _MOVE * loops.fold
        code = self._written * _PRODUCT_BYTES + (self._packing.each * _UNPACK_BYTES if loops.dense else 0)
        return gas, code, 32 * self.size if self.in_data else 0

    # -- words of taps -----------------------------------------------------------------------------------------------

    @property
    def dense(self) -> bool:
        """Whether there are several words of taps in one."""
        return self.loops.dense and self._packing.each > 1

    @cached_property
    def _keys(self) -> list[list[tuple[int, int, int]]]:
        """By phase of the sums, which words of pixels are read: (channel of the group, kernel row, phase)."""
        return _keys_of(self.conv, self.phases, self.stride)

    @cached_property
    def _taps(self) -> dict[tuple[int, int, int, int], int]:
        """Number of the word of taps for a phase of the sums and a word of pixels."""
        return _taps_of(self.conv, self.phases, self.stride)

    @property
    def _span(self) -> int:
        """Lanes of a word of taps."""
        return self.farthest - self.nearest + 1

    @cached_property
    def _packing(self) -> Dense:
        return Dense.of(*self.conv.extremes, self.source.pitch, self._span)

    @property
    def _dense_words(self) -> int:
        return -(-len(self._taps) // self._packing.each)

    @property
    def record_words(self) -> int:
        """Words of an output channel's record."""
        return self.head + (self._dense_words if self.dense else len(self._taps))

    @property
    def head(self) -> int:
        """Words of a record before those of taps: what sums start with, and what is a channel's own in the end."""
        return 3 if isinstance(self.conv.epilogue.scaling, ChannelScaling) else 1

    def _lanes_of(self, output: int) -> list[list[int]]:
        """Return the lanes of every word of taps of an output channel."""
        conv, words = self.conv, [[0] * self._span for _ in self._taps]
        for phase in range(self.phases):
            for tap, of, lanes in conv.taps(phase, self.phases, self.stride):
                for i in range(self.channels):
                    for ky in range(conv.weights.shape[2]):
                        word = words[self._taps[phase, i, ky, of]]
                        word[self.farthest - lanes] += int(conv.weights[output, i, ky, tap])
        return words

    def records(self) -> tuple[int, ...]:
        """Return the words of all records, channel by channel; of channels that are alike, one."""
        pitch, found = self.source.pitch, list[int]()
        for output in range(self.size // self.record_words):
            found.append(self.start(output) & _ALL)
            if self.head > 1:
                found += self.conv.scaled(output)
            lanes = self._lanes_of(output)
            if not self.dense:
                found += [sum(v << pitch * lane for lane, v in enumerate(word)) & _ALL for word in lanes]
                continue
            dense = self._packing
            words = [0] * self._dense_words
            for number, word in enumerate(lanes):
                at, shift = divmod(number, dense.each)
                words[at] |= sum(v - dense.least << pitch * lane for lane, v in enumerate(word)) << self._shift(shift)
            found += words
        return tuple(found)

    def _shift(self, number: int) -> int:
        """Return the lowest bit of a word of taps among those of one word."""
        span, field = divmod(number, self._packing.fields)
        return span * self._span * self.source.pitch + field * self._packing.bits

    def segment(self) -> Segment:
        """Return the records as a segment."""
        words = LaterWords(self.size, self.records)
        if not self.in_data:
            return Segment(words)
        return Segment(words, Storage.DATA, CONTRACT_WORDS // self.record_words * self.record_words)

    def buffers(self) -> dict[str, int]:
        """Return the words of the buffers that are needed, by their names."""
        found = {self.names.record: self.record_words if self.in_data else self.size}
        if self.loops.dense:
            found[self.names.taps] = self._dense_words * self._packing.each
        if self.loops.window:
            found[self.names.window] = self.channels * len(self._window_rows) * self.source.phases
        return found

    def holds(self) -> dict[str, Lanes]:
        """Return what is proved of the words of some of them."""
        return {}

    # -- loops -------------------------------------------------------------------------------------------------------

    def emit(self) -> list[Statement]:
        conv, source, target, loops = self.conv, self.source, self.target, self.loops
        body: list[Statement] = [Note(f"{self.claim()} Loops: {loops}."), *target.rim_rows()]
        if not self.in_data:
            body.append(CopySegment(self.names.segment, const(0), self.size, self.names.record))
        outputs = conv.outputs // conv.groups
        step = conv.strides[0] * conv.pool[0] * source.row_words * loops.rows
        rows = ("y", self.height // loops.rows, {"p": step, "o": loops.rows * target.row_words})
        words = ("j", target.words, {"p": 1, "o": 1})
        inputs = self.channels * source.channel_words
        w, o = 0 if self.alike else self.record_words, target.channel_words
        group = ("g", conv.groups, {"p": inputs, "o": outputs * o, "w": outputs * w})
        channel = ("c", outputs, {"o": o, "w": w})
        starts: dict[str, Expr] = {"p": const(self._first), "o": const(target.word(0, 0)), "w": const(0)}
        if self.alike:  # a mean, say: one record, read once
            body += self._read(const(0))

        def once(at: dict[str, Expr]) -> list[Statement]:
            return [] if self.alike else self._read(at["w"])

        if not loops.window:
            nest = over([group, channel], starts, lambda at: [*once(at), *over([rows, words], at, self._results)])
        else:
            nest = over(
                [rows, words, group],
                starts,
                lambda at: [
                    *self._windowed(at["p"]),
                    *over([channel], at, lambda at: [*once(at), *self._results(at)]),
                ],
            )
        return [*body, *nest, *target.joined()]

    @property
    def _first(self) -> int:
        first = self.source.word(0, -self.conv.pads[0])
        assert first >= 0
        return first

    def _place(self, channel: int, row: int, phase: int) -> int:
        """Return how many words a word of pixels is from where a band begins."""
        return self.source.word(channel, row, phase) - self.source.word(0, 0)

    @cached_property
    def _window_rows(self) -> dict[int, int]:
        """Return the rows that a band reads, each with its number."""
        conv = self.conv
        rows = {
            self._line(number, row, ky)
            for number in range(self.loops.rows)
            for row in range(conv.pool[0])
            for ky in range(conv.weights.shape[2])
        }
        return {row: number for number, row in enumerate(sorted(rows))}

    def _line(self, number: int, row: int, ky: int) -> int:
        """Return the row of pixels for a row of results of a band, a row of the pool and one of the kernel."""
        conv = self.conv
        return conv.strides[0] * (conv.pool[0] * number + row) + ky * conv.dilations[0]

    def _windowed(self, at: Expr) -> list[Statement]:
        """Return the statements that copy the pixels which a band reads, of all channels of a group."""
        phases = self.source.phases
        each = len(self._window_rows) * phases

        def channel(place: dict[str, Expr]) -> list[Statement]:
            return [
                Store(
                    self.names.window,
                    add(place["n"], const(number * phases + phase)),
                    self._folded(place["p"], 0, row, phase),
                )
                for row, number in self._window_rows.items()
                for phase in range(phases)
            ]

        loops = [("i", self.channels, {"p": self.source.channel_words, "n": each})]
        return over(loops, {"p": at, "n": const(0)}, channel)

    def _folded(self, at: Expr, channel: int, line: int, phase: int) -> Expr:
        """Return a word of pixels of a band that begins somewhere: of as many rows as are put into one."""
        word: Expr = Load(self.source.buffer, add(at, const(self._place(channel, line, phase))))
        apart = self.loops.apart * self.conv.strides[0] * self.conv.pool[0]
        for number in range(1, self.loops.fold):
            other = Load(self.source.buffer, add(at, const(self._place(channel, line + number * apart, phase))))
            word = or_(shl(number * self.step * self.source.pitch, other), word)
        return word

    def _read(self, at: Expr) -> list[Statement]:
        """Return the statements that bring a record's words of taps to known places."""
        names, dense = self.names, self._packing
        body: list[Statement] = []
        if self.in_data:
            body.append(CopySegment(names.segment, at, self.record_words, names.record))
        if not self.loops.dense:
            return body
        pitch, lanes = self.source.pitch, range(self._span)
        mask = const(spread((1 << dense.bits) - 1, pitch, lanes))
        least = const(spread(-dense.least, pitch, lanes))

        def word(place: dict[str, Expr]) -> list[Statement]:
            word = Let("w", Load(names.record, add(place["d"], const(self.head))))
            stores = [
                Store(
                    names.taps,
                    add(place["t"], const(number)),
                    sub(and_(shr(self._shift(number), Var("w")), mask), least),
                )
                for number in range(dense.each)
            ]
            return [Block((word, *stores))]

        loops = [("d", self._dense_words, {"d": 1, "t": dense.each})]
        return [*body, *over(loops, {"d": const(0) if self.in_data else at, "t": const(0)}, word)]

    def _results(self, at: dict[str, Expr]) -> list[Statement]:
        """Return the statements for the results of a band, of one output channel."""
        target = self.target
        return [
            Block(tuple(self._one(at, row, phase))) for row in range(self.loops.rows) for phase in range(target.phases)
        ]

    def _one(self, at: dict[str, Expr], number: int, phase: int) -> list[Statement]:
        record = const(0) if self.in_data else at["w"]
        start = Load(self.names.record, record)
        parts = self.parts(phase)
        sums = [self._looped_sum(at, record, number, row, of, start if len(parts) == 1 else None) for row, of in parts]
        place = number * self.target.row_words + phase * self.target.words
        return self.ended_word(phase, sums, start, add(at["o"], const(place)), self.own_factors(record))

    def own_factors(self, record: Expr) -> Factors | None:
        """Return what the results of a channel are multiplied by in the end, and what is added then."""
        if self.head == 1:
            return self.factors(*self.literal_factors(0))
        return self.factors(*(Load(self.names.record, add(record, const(at))) for at in (1, 2)))

    def _looped_sum(
        self, at: dict[str, Expr], record: Expr, number: int, row: int, phase: int, start: Expr | None
    ) -> Expr:
        total = start
        for i, ky, of in self._keys[phase]:
            tap = self._taps[phase, i, ky, of]
            if self.loops.dense:
                taps = Load(self.names.taps, const(tap))
            else:
                taps = Load(self.names.record, add(record, const(self.head + tap)))
            line = self._line(number, row, ky)
            if self.loops.window:
                place = (i * len(self._window_rows) + self._window_rows[line]) * self.source.phases + of
                pixels = Load(self.names.window, const(place))
            else:
                pixels = Load(self.source.buffer, add(at["p"], const(self._place(i, line, of))))
            product = Apply(OpCode.MUL, (taps, pixels))
            total = product if total is None else add(product, total)
        assert total is not None
        return total

    def ending(self, phase: int) -> Ending:
        plain, fold = super().ending(phase), self.loops.fold
        if fold == 1:
            return plain
        lanes = [lane + number * self.step for number in range(fold) for lane in plain.lanes]
        return replace(plain, lanes=lanes, rim=())

    def added(self, phase: int, place: Expr) -> Expr:
        if self.loops.fold == 1:
            return super().added(phase, place)
        assert self.conv.beside is not None and self.conv.beside.maps is not None
        maps, target = self.conv.beside.maps, self.target
        mask = spread((1 << maps.pitch) - 1, maps.pitch, maps.valid(phase, 0))
        total: Expr = const(0)
        for number in range(self.loops.fold):
            row = add(place, const(number * self.loops.apart * target.row_words))
            total = add(self.beside_word(row, self.up + number * self.step * target.pitch, mask), total)
        return total

    def stored(self, phase: int, place: Expr, word: Expr) -> list[Statement]:
        if self.loops.fold == 1:
            return super().stored(phase, place, word)
        target, plain = self.target, super().ending(phase)
        rim = const(spread(target.zero, target.pitch, plain.rim))
        mask = const(spread((1 << target.pitch) - 1, target.pitch, plain.lanes))
        body: list[Statement] = [Let("all", word)]
        for number in range(self.loops.fold):
            own = and_(shr(number * self.step * target.pitch, Var("all")), mask)  # beside it lie other rows' lanes
            row = add(place, const(number * self.loops.apart * target.row_words))
            body.append(Store(target.buffer, row, add(own, rim)))
        return body


@lru_cache(maxsize=64)
def _keys_of(conv: Convolution, phases: int, stride: int) -> list[list[tuple[int, int, int]]]:
    """Return, by phase of the sums, which words of pixels are read: (channel of the group, kernel row, phase)."""
    channels, kernel_rows = range(conv.weights.shape[1]), range(conv.weights.shape[2])
    of = [sorted({of for _, of, _ in conv.taps(phase, phases, stride)}) for phase in range(phases)]
    return [[(i, ky, o) for i in channels for ky in kernel_rows for o in each] for each in of]


@lru_cache(maxsize=64)
def _taps_of(conv: Convolution, phases: int, stride: int) -> dict[tuple[int, int, int, int], int]:
    """Return the number of the word of taps for a phase of the sums and a word of pixels."""
    every = [(phase, *key) for phase, keys in enumerate(_keys_of(conv, phases, stride)) for key in keys]
    return {key: number for number, key in enumerate(every)}
