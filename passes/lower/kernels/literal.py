"""Convolutions by rows whose words of pixels are held in variables, each for many words of taps that are literals.

Of a row of results, or a few, some words of pixels at a time are held, or linear forms of them (`bilinear`), and all
their products are added to sums in known places, those of every output channel: a product is of what is on a stack and
of an immediate, and no word of taps is read or unpacked. What ends the sums is a loop over those. The code grows with
the taps: where a contract has no room for it, some output channels each are a section, and between those the program
can be cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from ml2sc.ir.program import (
    Apply,
    Assign,
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
    shl,
    sub,
)

from ..epilogue import ChannelScaling
from ..lane_steps import Factors, spread
from ..nests import over
from .abreast import Abreast, AbreastRows
from .bilinear import Bilinear
from .conv import Convolution
from .greatest import Greatest, GreatestRows
from .held import Held, HeldRows, linear
from .looped import LoopedRows, Loops, Workspace
from .maps import Maps

_TOGETHER = 13
"""Words that are held at once: with two sums and a product above them, all are in reach."""
_SECTION_BYTES, _MOST_PARTS = 14_000, 4
"""Bytes of code of a section, about, at most; and sections."""
_TERM, _SUM, _LINE, _ENDING, _TOTAL = 14, 15, 12, 130, 24
_TERM_BYTES, _SUM_BYTES, _LINE_BYTES, _REST_BYTES = 4, 10, 10, 900
"""Gas and bytes of code, about: see `LiteralRows.about`."""

_Key = tuple[int, int, int]
"""A word that is held: form of rows of pixels, channel, phase."""


@dataclass(frozen=True, slots=True)
class Literal(Held):
    """How the loops lie."""

    def __str__(self) -> str:
        how = f", {self.group} rows from fewer products" if self.fast else ""
        folded = f", {self.fold} rows to a word, {self.apart} apart" if self.fold > 1 else ""
        parts = f", in {self.parts} sections" if self.parts > 1 else ""
        return f"pixels held, taps literals{how}{folded}{parts}"


class LiteralRows(HeldRows):
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
        self.size, self.fields = conv.outputs * self.record_words, 1
        if not self.size:
            self.storage = None

    @staticmethod
    def formed(form: Bilinear) -> Bilinear:
        return form.of_larger_taps()

    @classmethod
    def ways(cls, conv: Convolution, source: Maps, target: Maps) -> Iterator[Literal]:
        """Iterate over the ways in which the loops can lie."""
        if conv.groups > 1:
            return
        farthest: dict[int, int] = {}  # apart, so that no row is computed twice that need not be
        for fold, apart in cls._folds(conv, source, target):
            farthest.setdefault(fold, apart)
        for fold, apart in farthest.items():
            height = target.height - (fold - 1) * apart
            for group in (n for n in (1, 2, 4) if height % n == 0):
                for fast in (False, True):
                    if cls._makes_sense(conv, group, fast=fast):
                        loops = Literal(group, True, False, fold, apart, group, fast, target.words == 1)
                        rows = cls(conv, source, target, loops)
                        if rows.possible:
                            yield replace(loops, parts=rows.fewest_parts)

    @property
    def possible(self) -> bool:
        """Whether the lanes can be where they are to be, and the code is not too much."""
        narrow = self.narrow and any(len([v for v in form if v]) > 1 for form in self.form.pixels)
        return not (self.alike or narrow) and self.legal and self.fewest_parts <= min(_MOST_PARTS, self.conv.outputs)

    @property
    def fewest_parts(self) -> int:
        """Sections that the code needs."""
        return -(-self.about()[1] // _SECTION_BYTES)

    def about(self) -> tuple[float, int, int]:
        """Return roughly what an inference costs, bytes of code, and bytes of data: to find what is worth walking."""
        loops, conv, form = self.loops, self.conv, self.form
        visits = self.height // loops.rows * (self.target.words // self._words)
        terms = conv.outputs * sum(len(form.products) * self._inputs(phase) for phase in range(self.phases))
        gathered = conv.outputs * self.phases * form.totals * (1 if loops.fast else len(self._held_together))
        forms = [sum(map(bool, form.pixels[key[0]])) for chunk in self._held_together for key in chunk if key]
        lines = loops.parts * loops.fold * sum(forms)
        parts = len(self.parts(0)) * self._apart
        ending = _ENDING + 30 * (loops.fold - 1) + 60 * (parts - 1) + _TOTAL * parts * form.totals * loops.fast
        ending += 110 * (self.close > 1)
        each = _TERM * terms + _SUM * gathered + _LINE * lines
        gas = self._across * each + conv.outputs * self.target.phases * loops.group * ending
        # of a word of taps the highest lane, nearly, and those below it
        size = _TERM_BYTES + (self.source.pitch * (self._span - 1) + self._packing.bits) // 8
        code = size * terms + _SUM_BYTES * gathered + loops.parts * _REST_BYTES + _LINE_BYTES * lines
        return visits * gas, code, 0

    # -- what there is -----------------------------------------------------------------------------------------------

    def _inputs(self, phase: int) -> int:
        """Return how many words of pixels a row of taps meets, for the sums of a phase."""
        return len({of for _, _, of in self._keys[phase]}) * self.channels

    @cached_property
    def _held_together(self) -> list[list[_Key | None]]:
        """The words that are held together; None is a word of ones, of which what sums start with is a multiple."""
        of = sorted({of for keys in self._keys for _, _, of in keys})
        keys = [(f, i, o) for f in range(len(self.form.pixels)) for i in range(self.channels) for o in of]
        if self.loops.fast:  # those that are made of each other together
            paired = [form for pair in self.form.pixel_pairs for form in pair]
            keys.sort(key=lambda key: (paired.index(key[0]) if key[0] in paired else len(paired), key))
        else:  # all forms go into one sum
            keys.sort(key=lambda key: (key[1], key[0]))
        every: list[_Key | None] = [None, *keys]
        size = -(-len(every) // -(-len(every) // _TOGETHER))
        return [every[first : first + size] for first in range(0, len(every), size)]

    def _literals(self, output: int) -> list[dict[_Key | None, int]]:
        """Return, by sum of a channel, the words of taps, of either sign, by what they are multiplied by."""
        pitch, of_ones = self.source.pitch, constants(self.form)
        lanes = self._lanes_of(output)
        words = {key: sum(v << pitch * n for n, v in enumerate(lanes[at])) for key, at in self._taps.items()}
        sums: list[dict[_Key | None, int]] = []
        for phase in range(self.phases):
            # what a pool compares starts alike, so that its differences are as they were
            totals: list[dict[_Key | None, int]] = [{None: self.lane_start(output) * of_ones[t]} for t in of_ones]
            for product in self.form.products:
                for p, i, t, of in self._taps:
                    if (p, t) == (phase, product.taps):
                        totals[product.total][product.pixels, i, of] = words[p, i, t, of]
            sums += [{key: word for key, word in total.items() if word} for total in totals]
        return sums

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
        each = self.phases * self.form.totals * self._across
        found = {self.names.sums: -(-self.conv.outputs // self.loops.parts) * each}
        if self.size:
            found[self.names.record] = self.size
        return found

    # -- code --------------------------------------------------------------------------------------------------------

    def pieces(self) -> Iterator[tuple[range, list[Statement]]]:
        last = self.conv.outputs
        each = -(-last // self.loops.parts)
        sums = [self.names.sums, *(self.names.more_sums or [self.names.sums] * (self.loops.parts - 1))]
        for first, name in zip(range(0, last, each), sums, strict=False):
            outputs = range(first, min(first + each, last))
            body: list[Statement] = [Note(f"{self.claim()} Loops: {self.loops}.")]
            body += self.target.rim_rows() if not first else []
            names = replace(self.names, sums=name)
            body += LiteralRows(self.conv, self.source, self.target, self.loops, names)._rows(outputs)
            yield outputs, [*body, *(self.target.joined() if outputs.stop == last else [])]

    def emit(self) -> list[Statement]:
        return [statement for _, body in self.pieces() for statement in body]

    def _rows(self, outputs: range) -> list[Statement]:
        """Return the statements for some output channels of all rows."""
        conv, source, target, group = self.conv, self.source, self.target, self.loops.group
        body: list[Statement] = []
        if self.size:
            body.append(CopySegment(self.names.segment, const(0), self.size, self.names.record))
        step = conv.strides[0] * conv.pool[0] * source.row_words * group
        rows = ("y", self.height // group, {"p": step, "o": group * target.row_words})
        words = ("j", target.words // self._words, {"p": self.close * self._words, "o": self._words})
        starts: dict[str, Expr] = {"p": const(self._first), "o": const(target.word(outputs.start, 0))}
        return [*body, *over([rows, words], starts, lambda at: self._band(at, outputs))]

    def _band(self, at: dict[str, Expr], outputs: range) -> list[Statement]:
        """Return the statements for a word of results, of each row of a band and each of some output channels."""
        along = 1 if self.narrow else self._across
        across = ("a", along, {"p": 1, "m": 1})
        sums = over([across], {"p": at["p"], "m": const(0)}, lambda place: self._summed_up(place, outputs))
        each = self.phases * self.form.totals * self._across
        channel = ("c", len(outputs), {"m": each, "o": self.target.channel_words, "w": self.head})
        starts = {"m": const(0), "o": at["o"], "w": const(outputs.start * self.head)}
        return [*sums, *over([channel], starts, self._endings)]

    def _summed_up(self, at: dict[str, Expr], outputs: range) -> list[Statement]:
        """Return the statements that add all products of some output channels up."""
        body: list[Statement] = []
        touched: set[int] = set()
        literals_of = [self._literals(output) for output in outputs]
        for keys in self._held_together:
            held: list[Statement] = []
            names = {key: f"x{number}" for number, key in enumerate(keys)}
            pairs = self._pairs_of(keys)
            for key, name in names.items():
                if key is not None and key in pairs:
                    held += self._both_words(name, names[pairs[key]], at["p"], key)
                elif key not in pairs.values():
                    held += self._held_word(name, at["p"], key)
            for number, each in enumerate(literals_of):
                for nth, literals in enumerate(each):
                    own = [(names[key], literals[key]) for key in keys if key in literals]
                    place = (number * len(each) + nth) * self._across
                    if own:
                        index = add(at["m"], const(place))
                        before = Load(self.names.sums, index) if place in touched else None
                        held.append(Store(self.names.sums, index, _with_products(before, own)))
                        touched.add(place)
            body.append(Block(tuple(held)))
        places = range(0, sum(map(len, literals_of)) * self._across, self._across)
        without = [place for place in places if place not in touched]  # all their taps are 0
        return [*body, *(Store(self.names.sums, add(at["m"], const(place)), const(0)) for place in without)]

    def _pairs_of(self, keys: Sequence[_Key | None]) -> dict[_Key, _Key]:
        """Return of the words that are held together those that are made of the same, by the first of both."""
        other = dict(self.form.pixel_pairs) if self.loops.fast and not self.narrow else {}
        pairs = {key: (other[key[0]], key[1], key[2]) for key in keys if key is not None and key[0] in other}
        return {first: second for first, second in pairs.items() if second in keys}

    def _both_words(self, first: str, second: str, at: Expr, key: _Key) -> list[Statement]:
        """Return the statements that declare two words which are the sum and the difference of two others."""
        one, other = (self.form.pixels[form] for form in (key[0], dict(self.form.pixel_pairs)[key[0]]))
        shared = tuple(a if a == b else 0 for a, b in zip(one, other, strict=True))
        rest = tuple(a if a != b else 0 for a, b in zip(one, other, strict=True))
        place = add(at, const(key[1] * self.source.channel_words))
        lines = {line: self._pixels(place, line, key[2], 0, "")[1] for line, factor in enumerate(one) if factor}
        return [
            Let(first, linear(shared, lines)),
            Let(second, linear(rest, lines)),
            Assign(first, add(Var(first), Var(second))),
            Assign(second, sub(Var(first), shl(1, Var(second)))),
        ]

    def _held_word(self, name: str, at: Expr, key: _Key | None) -> list[Statement]:
        """Return the statements that declare a word which is held."""
        if key is None:
            return [Let(name, const(spread(1, self.source.pitch, self.every)))]
        form, channel, phase = key
        place = add(at, const(channel * self.source.channel_words))
        lines = {line: self._pixels(place, line, phase, 0, name) for line, v in enumerate(self.form.pixels[form]) if v}
        statements = [s for found, _ in lines.values() for s in found]
        if statements:  # lanes are closed up in the variable itself
            return statements
        return [Let(name, linear(self.form.pixels[form], {line: word for line, (_, word) in lines.items()}))]

    def _endings(self, at: dict[str, Expr]) -> list[Statement]:
        """Return the statements for the words of results of an output channel."""
        return [s for phase in range(self.target.phases) for s in self.ended_rows(at, at["w"], phase, 0)]

    def started(self, record: Expr) -> Expr:
        return const(0)

    def own_factors(self, record: Expr) -> Factors | None:
        if not self.head:
            return self.factors(*self.literal_factors(0))
        return self.factors(*(Load(self.names.record, add(record, const(number))) for number in (0, 1)))


def _with_products(before: Expr | None, products: Sequence[tuple[str, int]]) -> Expr:
    """Return a sum, and products of variables that are added to it: those by negative literals apart."""
    rises: Expr | None = before
    falls: Expr | None = None
    for name, literal in products:
        product = Var(name) if abs(literal) == 1 else Apply(OpCode.MUL, (const(abs(literal)), Var(name)))
        if literal > 0:
            rises = product if rises is None else add(product, rises)
        else:
            falls = product if falls is None else add(product, falls)
    rises = const(0) if rises is None else rises
    return rises if falls is None else sub(rises, falls)


def constants(form: Bilinear) -> dict[int, int]:
    """Return, for each sum of products, of which multiple of a number it starts so that all rows of results rise by it.

    A sum that all rows take alike does it, as that of the point 1; else each row has sums of its own.
    """
    alike = {t: form.results[0][t] for t in range(form.totals) if len({row[t] for row in form.results}) == 1}
    for total, share in alike.items():
        if share and form.factor % share == 0:
            return dict.fromkeys(range(form.totals), 0) | {total: form.factor // share}
    own = {row.index(form.factor): 1 for row in form.results}
    return dict.fromkeys(range(form.totals), 0) | own


def ways_in_loops(conv: Convolution, source: Maps, target: Maps) -> Iterator[Loops]:
    """Iterate over the ways in which the loops of a convolution can lie, whatever does it."""
    if conv.largest:
        yield from GreatestRows.ways(conv, source, target)
        return
    yield from LoopedRows.ways(conv, source, target)
    yield from HeldRows.ways(conv, source, target)
    yield from LiteralRows.ways(conv, source, target)
    yield from AbreastRows.ways(conv, source, target)


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
    if isinstance(loops, Greatest):
        return GreatestRows(conv, source, target, loops, names)
    if isinstance(loops, Abreast):
        return AbreastRows(conv, source, target, loops, names, in_data=in_data)
    if isinstance(loops, Literal):
        return LiteralRows(conv, source, target, loops, names)
    if isinstance(loops, Held):
        return HeldRows(conv, source, target, loops, names, in_data=in_data)
    return LoopedRows(conv, source, target, loops, names, in_data=in_data)
