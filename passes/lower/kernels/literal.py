"""Convolutions by rows whose words of pixels are held in variables, each for many words of taps that are literals.

Of a row of results, some words of pixels at a time are held, and all their products are added to sums in known places,
one for each output channel: a product is of what is on a stack and of an immediate, and no word of taps is read or
unpacked. What ends the sums is a loop over those. The code grows with the taps: where a contract has no room for it,
some output channels each are a section of their own, which the program can be cut at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from ml2sc.ir.program import (
    Apply,
    Block,
    CopySegment,
    Expr,
    Let,
    Load,
    Note,
    OpCode,
    Statement,
    Store,
    Var,
    add,
    const,
    sub,
)

from ..epilogue import ChannelScaling
from ..lane_steps import Factors, spread
from ..nests import over
from .conv import Convolution
from .held import Held, HeldRows
from .looped import LoopedRows, Loops, Workspace
from .maps import Maps

_TOGETHER = 13
"""Words that are held at once: with two sums and a product above them, all are in reach."""
_SECTION_BYTES, _MOST_PARTS = 14_000, 4
"""Bytes of code of a section, about, at most; and sections."""
_TERM, _SUM, _PIXEL, _FOLDED, _ENDING = 14, 15, 12, 12, 130
_TERM_BYTES, _SUM_BYTES, _PIXEL_BYTES, _REST_BYTES = 4, 10, 10, 900
"""Gas and bytes of code, about: see `LiteralRows.about`."""

_Key = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Literal(Loops):
    """How the loops lie.

    Attributes:
        parts: Sections among which the output channels are dealt out.
    """

    parts: int = 1

    def __str__(self) -> str:
        folded = f", {self.fold} rows to a word, {self.apart} apart" if self.fold > 1 else ""
        parts = f", in {self.parts} sections" if self.parts > 1 else ""
        return f"pixels held, taps literals{folded}{parts}"


class LiteralRows(LoopedRows):
    """Emits a convolution whose words of pixels are held.

    Args:
        conv: The convolution.
        source: Where its input is.
        target: Where its result goes.
        loops: How the loops lie.
        names: Of what they need.
    """

    loops: Literal

    def __init__(
        self,
        conv: Convolution,
        source: Maps,
        target: Maps,
        loops: Literal,
        names: Workspace | None = None,
    ) -> None:
        super().__init__(conv, source, target, loops, names, in_data=False)
        self.size = conv.outputs * self.record_words
        if not self.size:
            self.storage = None

    @classmethod
    def ways(cls, conv: Convolution, source: Maps, target: Maps) -> Iterator[Literal]:
        """Iterate over the ways in which the loops can lie."""
        if conv.groups > 1:
            return
        farthest: dict[int, int] = {}  # apart, so that no row is computed twice that need not be
        for fold, apart in cls._folds(conv, source, target):
            farthest.setdefault(fold, apart)
        for fold, apart in farthest.items():
            rows = cls(conv, source, target, Literal(1, False, False, fold, apart))
            if rows.possible and (parts := -(-rows.about()[1] // _SECTION_BYTES)) <= min(_MOST_PARTS, conv.outputs):
                yield replace(rows.loops, parts=parts)

    @property
    def possible(self) -> bool:
        """Whether no lane has to be closed up, and there are channels enough for what is held."""
        return self.close == 1 and not self.alike

    def about(self) -> tuple[float, int, int]:
        """Return roughly what an inference costs, bytes of code, and bytes of data: to find what is worth walking."""
        loops, conv = self.loops, self.conv
        pixels, gathered = len(self._pixels) * loops.parts, conv.outputs * len(self._sums) * len(self._chunks)
        terms = conv.outputs * sum(len(self._keys[phase]) for _, phase in self._sums)
        gas = _TERM * terms + _SUM * gathered + (_PIXEL + _FOLDED * (loops.fold - 1)) * pixels
        gas += conv.outputs * self.target.phases * (_ENDING + 60 * (len(self.parts(0)) - 1) + 30 * (loops.fold - 1))
        # of a word of taps the highest lane, nearly, and those below it
        size = _TERM_BYTES + (self.source.pitch * (self._span - 1) + self._packing.bits) // 8
        code = size * terms + _SUM_BYTES * gathered + loops.parts * _REST_BYTES + _PIXEL_BYTES * loops.fold * pixels
        return self.height * self.target.words * gas, code, 0

    # -- what there is -----------------------------------------------------------------------------------------------

    @cached_property
    def _sums(self) -> list[tuple[int, int]]:
        """The sums of an output channel: (row of the pool, phase), in the order of the phases of the results."""
        return [part for phase in range(self.target.phases) for part in self.parts(phase)]

    @cached_property
    def _pixels(self) -> list[_Key]:
        """The words of pixels that a row of results is made of: (channel, line, phase)."""
        lines = {(i, self._line(0, row, ky), of) for row, phase in self._sums for i, ky, of in self._keys[phase]}
        return sorted(lines)

    @cached_property
    def _chunks(self) -> list[list[_Key | None]]:
        """The words of pixels that are held together; None is a word of ones, of which the bias is a multiple."""
        every = [None, *self._pixels]
        count = -(-len(every) // _TOGETHER)
        size = -(-len(every) // count)
        return [every[first : first + size] for first in range(0, len(every), size)]

    @cached_property
    def _ones(self) -> int:
        return spread(1, self.source.pitch, self.every)

    @cached_property
    def _products(self) -> list[list[dict[_Key | None, int]]]:
        """By output channel and sum, the word of taps, as an integer of either sign, by the word of pixels."""
        pitch, found = self.source.pitch, []
        for output in range(self.conv.outputs):
            lanes = self._lanes_of(output)
            sums = []
            for row, phase in self._sums:
                # what a pool compares starts alike, so that its differences are as they were
                terms: dict[_Key | None, int] = {None: self.lane_start(output)}
                for i, ky, of in self._keys[phase]:
                    word = lanes[self._taps[phase, i, ky, of]]
                    terms[i, self._line(0, row, ky), of] = sum(v << pitch * lane for lane, v in enumerate(word))
                sums.append({key: taps for key, taps in terms.items() if taps})
            found.append(sums)
        return found

    # -- records: multipliers of output channels ---------------------------------------------------------------------

    @property
    def head(self) -> int:
        return 2 if isinstance(self.conv.epilogue.scaling, ChannelScaling) else 0

    @property
    def record_words(self) -> int:
        return self.head

    def records(self) -> tuple[int, ...]:
        """Return what the results of each output channel are multiplied by, and what is added then."""
        return tuple(word for output in range(self.conv.outputs) for word in self.conv.scaled(output))

    def buffers(self) -> dict[str, int]:
        found = {self.names.sums: -(-self.conv.outputs // self.loops.parts) * len(self._sums)}
        if self.size:
            found[self.names.record] = self.size
        return found

    # -- code --------------------------------------------------------------------------------------------------------

    def pieces(self) -> Iterator[tuple[range, list[Statement]]]:
        """Iterate over what is a section each: its output channels, and its statements."""
        each = -(-self.conv.outputs // self.loops.parts)
        last = self.conv.outputs
        for first in range(0, last, each):
            outputs = range(first, min(first + each, last))
            body: list[Statement] = [Note(f"{self.claim()} Loops: {self.loops}.")]
            body += self.target.rim_rows() if not first else []
            body += self._rows(outputs)
            yield outputs, [*body, *(self.target.joined() if outputs.stop == last else [])]

    def emit(self) -> list[Statement]:
        return [statement for _, body in self.pieces() for statement in body]

    def _rows(self, outputs: range) -> list[Statement]:
        """Return the statements for some output channels of all rows."""
        conv, source, target = self.conv, self.source, self.target
        body: list[Statement] = []
        if self.size:
            body.append(CopySegment(self.names.segment, const(0), self.size, self.names.record))
        step = conv.strides[0] * conv.pool[0] * source.row_words
        rows = ("y", self.height, {"p": step, "o": target.row_words})
        words = ("j", target.words, {"p": 1, "o": 1})
        starts: dict[str, Expr] = {"p": const(self._first), "o": const(target.word(outputs.start, 0))}
        return [*body, *over([rows, words], starts, lambda at: self._word(at, outputs))]

    def _word(self, at: dict[str, Expr], outputs: range) -> list[Statement]:
        """Return the statements for a word of results of each of some output channels."""
        body: list[Statement] = []
        touched: set[int] = set()
        for keys in self._chunks:
            names = {key: f"x{number}" for number, key in enumerate(keys)}
            held: list[Statement] = [
                Let(name, const(self._ones) if key is None else self._folded(at["p"], *key))
                for key, name in names.items()
            ]
            for number, output in enumerate(outputs):
                for nth, terms in enumerate(self._products[output]):
                    place = number * len(self._sums) + nth
                    own = [(names[key], terms[key]) for key in keys if key in terms]
                    if own:
                        held.append(Store(self.names.sums, const(place), self._added(place, own, touched)))
            body.append(Block(tuple(held)))
        each = len(self._sums)
        channel = ("c", len(outputs), {"m": each, "o": self.target.channel_words, "w": self.head})
        starts = {"m": const(0), "o": at["o"], "w": const(outputs.start * self.head)}
        return [*body, *over([channel], starts, self._ended)]

    def _added(self, place: int, terms: Sequence[tuple[str, int]], touched: set[int]) -> Expr:
        """Return a sum, and products that are added to it: those by negative words of taps apart."""
        rises: Expr | None = Load(self.names.sums, const(place)) if place in touched else None
        touched.add(place)
        falls: Expr | None = None
        for name, taps in terms:
            product = Var(name) if abs(taps) == 1 else Apply(OpCode.MUL, (const(abs(taps)), Var(name)))
            if taps > 0:
                rises = product if rises is None else add(product, rises)
            else:
                falls = product if falls is None else add(product, falls)
        rises = const(0) if rises is None else rises
        return rises if falls is None else sub(rises, falls)

    def _ended(self, at: dict[str, Expr]) -> list[Statement]:
        """Return the statements for the words of results of an output channel."""
        body: list[Statement] = []
        for phase in range(self.target.phases):
            parts = len(self.parts(phase))
            sums = [Load(self.names.sums, add(at["m"], const(phase * parts + number))) for number in range(parts)]
            place = add(at["o"], const(phase * self.target.words))
            body.append(Block(tuple(self.ended_word(phase, sums, const(0), place, self.own_factors(at["w"])))))
        return body

    def own_factors(self, record: Expr) -> Factors | None:
        if not self.head:
            return self.factors(*self.literal_factors(0))
        return self.factors(*(Load(self.names.record, add(record, const(number))) for number in (0, 1)))


def ways_in_loops(conv: Convolution, source: Maps, target: Maps) -> Iterator[Loops]:
    """Iterate over the ways in which the loops of a convolution can lie, whatever does it."""
    yield from LoopedRows.ways(conv, source, target)
    yield from HeldRows.ways(conv, source, target)
    yield from LiteralRows.ways(conv, source, target)


def in_loops(
    conv: Convolution,
    source: Maps,
    target: Maps,
    loops: Loops,
    names: Workspace | None = None,
    *,
    in_data: bool | None = None,
) -> LoopedRows:
    """Return what does a convolution in loops that lie in a way.

    Args:
        conv: The convolution.
        source: Where its input is.
        target: Where its result goes.
        loops: How the loops lie.
        names: Of what they need.
        in_data: Whether records are in data contracts; None: if there are many.
    """
    if isinstance(loops, Held):
        return HeldRows(conv, source, target, loops, names, in_data=in_data)
    if isinstance(loops, Literal):
        return LiteralRows(conv, source, target, loops, names)
    return LoopedRows(conv, source, target, loops, names, in_data=in_data)
