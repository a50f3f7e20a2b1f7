"""Convolutions by rows whose words of taps are held in variables, each for many words of pixels.

The pixels that some rows read are first copied to known places (as in `looped`), or rather the linear forms of them
that the products are of (`bilinear`); so a product is a word of memory times a variable. Output channels are a loop:
of each the words of taps are unpacked, some at a time, and all their products are added to sums in known places. What
ends the sums is a loop over those. Where a stride, or a pool, leaves every second lane out, those of two words are
closed up.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TypeVar

import numpy as np

from ml2sc.ir.program import (
    CONTRACT_WORDS,
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
    and_,
    const,
    mul,
    or_,
    shl,
    shr,
    sub,
)
from ml2sc.ir.types import Array

from ..lane_steps import spread
from ..nests import over, places
from .bilinear import Bilinear, Form, bilinear
from .conv import PAIR, Convolution
from .looped import Dense, LoopedRows, Loops, Workspace
from .maps import WORD, Maps

HELD = 9
"""Words of taps that are held at once: with what is below them on a stack, all are in reach."""
_LINES = 8
"""Words of a column of pixels that are held at once, while forms are made of them."""
_T = TypeVar("_T")
_WRITTEN = 1_700
"""Products that are written out, at most."""
_BAND = 64
"""Words of sums of a row of sums of products, at most."""
_MOST_POINTS = 7
"""Points, at most, that a fast filter evaluates polynomials at."""
_ENDS = 6
"""Rounds of the loop that ends sums, at most, that are written out instead."""
_TERM, _TAP, _RECORD, _FORM, _LINE, _SUM, _ENDING, _CLOSING = 19, 24, 220, 26, 16, 24, 165, 110
_LOOP, _KNOWN = 30, 6
_TERM_BYTES, _TAP_BYTES, _REST_BYTES, _ENDING_BYTES = 7.3, 16, 1_500, 150
"""Gas and bytes of code, about: see `HeldRows.about`."""


@dataclass(frozen=True, slots=True)
class Held(Loops):
    """How the loops lie.

    Attributes:
        group: Rows of results that are computed of the same products.
        fast: Whether there are fewer of those than rows times rows of taps.
        whole: Whether a band is of whole rows; else of a word of each.
        ends: Whether what ends the sums is written out for each, whose places are known then; else it is a loop.
    """

    group: int = 1
    fast: bool = False
    whole: bool = True
    ends: bool = False

    def __str__(self) -> str:
        words = "" if self.whole else ", a word of each"
        how = f", {self.group} from fewer products" if self.fast else f" by {self.group}" if self.group > 1 else ""
        folded = f", {self.fold} rows to a word, {self.apart} apart" if self.fold > 1 else ""
        ends = ", ends written out" if self.ends else ""
        return f"taps held for bands of {self.rows} rows{words}{how}{folded}{ends}"


class HeldRows(LoopedRows):
    """Emits a convolution whose words of taps are held.

    Args:
        conv: The convolution.
        source: Where its input is.
        target: Where its result goes.
        loops: How the loops lie.
        names: Of what they need.
        in_data: Whether records are in data contracts; None: if there are many.
    """

    loops: Held

    def __init__(
        self,
        conv: Convolution,
        source: Maps,
        target: Maps,
        loops: Held,
        names: Workspace | None = None,
        *,
        in_data: bool | None = None,
    ) -> None:
        self.form: Bilinear = self.formed(
            bilinear(loops.group * conv.pool[0], int(conv.weights.shape[2]), conv.strides[0], fast=loops.fast)
        )
        super().__init__(conv, source, target, loops, names, in_data=in_data)
        self.fields = self._packing.fields
        self.every = range(min(source.lanes, (WORD - self.form.shift) // source.pitch))

    @classmethod
    def ways(cls, conv: Convolution, source: Maps, target: Maps) -> Iterator[Held]:
        """Iterate over the ways in which the loops can lie."""
        for fold, apart in cls._folds(conv, source, target):
            height = target.height - (fold - 1) * apart
            for rows in (n for n in range(1, height + 1) if height % n == 0):
                for group in (n for n in (1, 2, 4) if rows % n == 0):
                    for fast, whole in itertools.product((False, True), (True, False)):
                        if not whole and target.words == 1:
                            continue
                        if cls._makes_sense(conv, group, fast=fast):
                            held = Held(rows, True, True, fold, apart, group, fast, whole)
                            way = cls(conv, source, target, held)
                            if way.possible:
                                yield held
                                if 1 < way.rounds <= _ENDS:
                                    yield replace(held, ends=True)

    @staticmethod
    def formed(form: Bilinear) -> Bilinear:
        """Return how rows are computed, so that words of taps are best made of it."""
        return form

    @staticmethod
    def _makes_sense(conv: Convolution, group: int, *, fast: bool) -> bool:
        rows, taps, stride = group * conv.pool[0], int(conv.weights.shape[2]), conv.strides[0]
        if rows > 1 and conv.dilations[0] > 1:
            return False
        if not fast:  # rows of results have no product in common
            return group == 1
        return rows > 1 and -(-taps // stride) + rows <= _MOST_POINTS and bilinear(rows, taps, stride, fast=True).fast

    @property
    def possible(self) -> bool:
        """Whether lanes can be where they are to be, a record fits a data contract, and the code is not too much."""
        return (
            self.legal and self._written <= _WRITTEN and self._places <= _BAND and self.record_words <= CONTRACT_WORDS
        )

    @property
    def legal(self) -> bool:
        """Whether lanes that are closed up come to what is done with them, and no power of two cuts off a lane."""
        kept = self.source.before + self.farthest + self.source.useful + (self.loops.fold - 1) * self.step
        if self.close > 1 and not self.narrow and self.conv.beside is not None:
            return False
        if self.close * self.target.words > self.source.words and not self.loops.whole:
            return False
        return kept <= len(self.every)

    # -- sizes -------------------------------------------------------------------------------------------------------

    @cached_property
    def narrow(self) -> bool:
        """Whether it is pixels that are closed up, which is possible for kernels of one column."""
        return self.close > 1 and int(self.conv.weights.shape[3]) == 1 and self.conv.pool[1] == 1

    @property
    def _apart(self) -> int:
        """Words of sums that make one of results."""
        return 1 if self.narrow else self.close

    @property
    def _words(self) -> int:
        """Words of results of a row of a band."""
        return self.target.words if self.loops.whole else 1

    @property
    def _across(self) -> int:
        """Words of sums of a row of a band."""
        return min(self._apart * self._words, self.source.words)

    @property
    def _groups(self) -> int:
        """Groups of rows of a band."""
        return self.loops.rows // self.loops.group

    @property
    def rounds(self) -> int:
        """Rounds of the loop that ends the sums."""
        return self._groups * (self._words if self._across == self._apart * self._words else 1)

    @property
    def _places(self) -> int:
        """Words of sums of a band, of one row of each group."""
        return self._groups * self._across

    @property
    def _written(self) -> int:
        inputs = [len({of for _, _, of in keys}) * self.channels for keys in self._keys]
        return self._places * len(self.form.products) * sum(inputs)

    def about(self) -> tuple[float, int, int]:
        """Return roughly what an inference costs, bytes of code, and bytes of data: to find what is worth walking."""
        loops, conv, form = self.loops, self.conv, self.form
        bands = self.height // loops.rows * (self.target.words // self._words)
        lines = len(form.pixels[0])
        window = self._places * self.source.phases * (_FORM * len(form.pixels) + _LINE * lines * loops.fold)
        window += self._places * _CLOSING * lines * self.narrow
        results = self._groups * self._words * self.target.phases * loops.group
        parts = len(self.parts(0)) * self._apart
        ending = _ENDING + (loops.fold - 1) * 30 + parts * _SUM * (form.totals if loops.fast else 1)
        ending += _CLOSING * (self.close > 1 and not self.narrow) + 60 * (parts - self._apart)
        ending -= loops.ends * (_LOOP + _KNOWN * parts * (form.totals if loops.fast else 1))
        taps = len(self._taps)
        gas = bands * conv.groups * self.channels * window
        gas += bands * conv.outputs * (self._written * _TERM + taps * _TAP + _RECORD + results * ending)
        code = int(self._written * _TERM_BYTES + taps * _TAP_BYTES) + _REST_BYTES
        code += loops.ends * (self.rounds - 1) * loops.group * self.target.phases * _ENDING_BYTES * parts
        return gas, code, 32 * self.size if self.in_data else 0

    def buffers(self) -> dict[str, int]:
        inputs = self.channels * self.source.phases
        return {
            self.names.record: self.record_words if self.in_data else self.size,
            self.names.window: len(self.form.pixels) * self._places * inputs,
            self.names.sums: self.phases * self.form.totals * self._places,
        }

    # -- words of taps -----------------------------------------------------------------------------------------------

    @property
    def _formed(self) -> Array:
        return _formed(self.conv, self.form)

    @cached_property
    def _taps(self) -> dict[tuple[int, int, int, int], int]:
        """Number of the word of taps for (phase of the sums, channel, form of taps, phase of the pixels)."""
        return _taps_of(self.conv, self.phases, self.stride, len(self.form.taps))

    @cached_property
    def _packing(self) -> Dense:
        return Dense.of(*_extremes(self.conv, self.form), self.source.pitch, self._span)

    def _lanes_of(self, output: int) -> list[list[int]]:
        words = [[0] * self._span for _ in self._taps]
        for phase in range(self.phases):
            for tap, of, lanes in self.conv.taps(phase, self.phases, self.stride):
                for i, t in np.ndindex(self.channels, len(self.form.taps)):
                    words[self._taps[phase, i, t, of]][self.farthest - lanes] += int(self._formed[output, i, t, tap])
        return words

    def claim(self) -> str:
        form = self.form
        if not self.loops.fast:
            return super().claim()
        odd = form.factor >> form.shift
        scaled = f", which come {form.factor} times as large" if form.factor > 1 else ""
        left = [f"{odd} leaves by its inverse mod 2^256"] if odd > 1 else []
        left += [f"2^{form.shift} by a shift, {form.shift} bits above the lanes being free"] if form.shift else []
        reason = f" ({', '.join(left)})" if left else ""
        return (
            f"{super().claim()} {form.rows} rows of sums are made of {len(form.products)} rows of products instead of "
            f"{form.rows * len(form.taps[0])}: an identity of integers mod 2^256, so that nothing between needs room"
            f"{scaled}{reason}."
        )

    # -- loops -------------------------------------------------------------------------------------------------------

    def emit(self) -> list[Statement]:
        conv, source, target, loops = self.conv, self.source, self.target, self.loops
        body: list[Statement] = [Note(f"{self.claim()} Loops: {loops}."), *target.rim_rows()]
        if self.alike or not self.in_data:  # all there are, read once
            body.append(CopySegment(self.names.segment, const(0), self.size, self.names.record))
        outputs = conv.outputs // conv.groups
        step = conv.strides[0] * conv.pool[0] * source.row_words * loops.rows
        rows = ("y", self.height // loops.rows, {"p": step, "o": loops.rows * target.row_words})
        words = ("j", target.words // self._words, {"p": self.close * self._words, "o": self._words})
        w, o = 0 if self.alike else self.record_words, target.channel_words
        group = ("g", conv.groups, {"p": self.channels * source.channel_words, "o": outputs * o, "w": outputs * w})
        channel = ("c", outputs, {"o": o, "w": w})
        starts: dict[str, Expr] = {"p": const(self._first), "o": const(target.word(0, 0)), "w": const(0)}
        nest = over(
            [rows, words, group],
            starts,
            lambda at: [*self._windowed(at["p"]), *over([channel], at, self._channel)],
        )
        return [*body, *nest, *target.joined()]

    def _windowed(self, at: Expr) -> list[Statement]:
        """Return the statements that make the forms of the pixels which a band reads, of all channels of a group."""
        phases, conv = self.source.phases, self.conv
        inputs = self.channels * phases
        step = conv.strides[0] * conv.pool[0] * self.loops.group * self.source.row_words

        def made(place: dict[str, Expr]) -> list[Statement]:
            across = itertools.product(range(phases), range(self._across))
            return [Block(tuple(self._forms(place, phase, j))) for phase, j in across]

        loops = [
            ("i", self.channels, {"p": self.source.channel_words, "n": phases}),
            ("b", self._groups, {"p": step, "n": self._across * inputs}),
        ]
        return over(loops, {"p": at, "n": const(0)}, made)

    def _forms(self, place: dict[str, Expr], phase: int, j: int) -> list[Statement]:
        """Return the statements that make the forms of one word of pixels of each row of a group."""
        inputs = self.channels * self.source.phases
        used = Counter(line for form in self.form.pixels for line, factor in enumerate(form) if factor)
        body: list[Statement] = []
        lines: dict[int, Expr] = {}
        for line, uses in used.items():
            statements, word = self._pixels(place["p"], line, phase, j, f"d{line}")
            if not statements and uses > 1 and len(used) <= _LINES:
                statements, word = [Let(f"d{line}", word)], Var(f"d{line}")
            body += statements
            lines[line] = word
        for number, form in enumerate(self.form.pixels):
            at = (number * self._places + j) * inputs + phase
            body.append(Store(self.names.window, add(place["n"], const(at)), linear(form, lines)))
        return body

    def _pixels(self, at: Expr, line: int, phase: int, j: int, name: str) -> tuple[list[Statement], Expr]:
        """Return what must be done before, and a word of pixels of a line of a band: rows folded, lanes closed up.

        Where something must be done it is in the variable that is named.
        """
        conv, source = self.conv, self.source
        line *= conv.dilations[0] if self.form.rows == 1 else 1

        def read(row: int, j: int) -> Expr:
            return Load(source.buffer, add(at, const(self._place(0, row, phase) + j)))

        if self.narrow:
            base = source.before + self.farthest
            kept = [
                and_(read(line, k), const(spread((1 << source.pitch) - 1, source.pitch, self.pairs(base))))
                for k in range(PAIR * j, min(PAIR * (j + 1), source.words))
            ]
            both = kept[0] if len(kept) == 1 else or_(kept[0], shl(source.pitch, kept[1]))
            return self.in_order(name, both, base), Var(name)
        word = read(line, j)
        for number in range(1, self.loops.fold):
            row = line + number * self.loops.apart * conv.strides[0] * conv.pool[0]
            word = or_(shl(number * self.step * source.pitch, read(row, j)), word)
        return [], word

    # -- one output channel ------------------------------------------------------------------------------------------

    def _channel(self, at: dict[str, Expr]) -> list[Statement]:
        """Return the statements for one output channel of a band."""
        body: list[Statement] = []
        if self.in_data and not self.alike:
            body.append(CopySegment(self.names.segment, at["w"], self.record_words, self.names.record))
        record = const(0) if self.in_data else at["w"]
        dense, pitch = self._packing, self.source.pitch
        held: list[Statement] = []
        if self.dense:
            held.append(Let("mask", const(spread((1 << dense.bits) - 1, pitch, range(self._span)))))
        touched: set[int] = set()
        for phase in range(self.phases):
            held += [Block(tuple(self._products(record, phase, keys, touched))) for keys in self._chunks(phase)]
        body.append(Block(tuple(held)))
        loops = [
            ("r", self._groups, {"m": self._across, "o": self.loops.group * self.target.row_words}),
            ("k", self._words, {"m": self._apart, "o": 1}),
        ]
        if self._across != self._apart * self._words:  # the last word of results has fewer words of sums
            loops = loops[:1]

        def ended(place: dict[str, Expr]) -> list[Statement]:
            words = range(self._words if len(loops) == 1 else 1)
            every = itertools.product(range(self.target.phases), words)
            return [statement for phase, k in every for statement in self.ended_rows(place, record, phase, k)]

        starts = {"m": const(0), "o": at["o"]}
        if self.loops.ends:
            return [*body, *(s for place in places(loops, starts) for s in ended(place))]
        return [*body, *over(loops, starts, ended)]

    def _chunks(self, phase: int) -> Iterator[Sequence[tuple[int, int, int]]]:
        """Iterate over the words of taps held together: (form of taps, channel, phase of the pixels)."""
        by_form = [
            [(t, i, of) for p, i, t_, of in self._taps if p == phase and t_ == t] for t in range(len(self.form.taps))
        ]
        each = len(by_form[0])
        if each <= HELD:
            for forms in _batches(by_form, HELD // each):
                yield [key for keys in forms for key in keys]
            return
        size = -(-each // -(-each // HELD))
        for keys in by_form:
            yield from _batches(keys, size)

    def _products(
        self, record: Expr, phase: int, keys: Sequence[tuple[int, int, int]], touched: set[int]
    ) -> Iterator[Statement]:
        """Iterate over the statements that hold some words of taps, and add all their products to the sums."""
        inputs = self.channels * self.source.phases
        names = {key: f"k{number}" for number, key in enumerate(keys)}
        for (t, i, of), name in names.items():
            yield Let(name, self._word_of_taps(record, self._taps[phase, i, t, of]))
        for total, place in itertools.product(range(self.form.totals), range(self._places)):
            at = const((phase * self.form.totals + total) * self._places + place)
            value: Expr | None = Load(self.names.sums, at) if at.value in touched else None
            for product in self.form.products:
                if product.total != total:
                    continue
                for (t, i, of), name in names.items():
                    if t != product.taps:
                        continue
                    window = (product.pixels * self._places + place) * inputs + i * self.source.phases + of
                    term = Apply(OpCode.MUL, (Load(self.names.window, const(window)), Var(name)))
                    value = term if value is None else add(term, value)
            if value is not None and not isinstance(value, Load):
                touched.add(at.value)
                yield Store(self.names.sums, at, value)

    def _word_of_taps(self, record: Expr, number: int) -> Expr:
        dense, pitch = self._packing, self.source.pitch
        if not self.dense:
            return Load(self.names.record, add(record, const(self.head + number)))
        word, shift = divmod(number, dense.each)
        taps = and_(shr(self._shift(shift), Load(self.names.record, add(record, const(self.head + word)))), Var("mask"))
        return sub(taps, const(spread(-dense.least, pitch, range(self._span))))

    def _totals(self, at: Expr, phase: int, across: int) -> tuple[list[Statement], list[Expr]]:
        """Return what must be done before, and for each row of a group a word of sums, less the factor of products."""
        form = self.form
        words: list[Expr] = [
            Load(self.names.sums, add(at, const((phase * form.totals + total) * self._places + across)))
            for total in range(form.totals)
        ]
        body: list[Statement] = []
        rows = [list(row) for row in form.results]
        for i, j in form.pairs:
            names = [f"{kind}{phase}_{across}_{i}" for kind in ("one", "other", "both", "apart")]
            one, other, both, apart = map(Var, names)
            values = words[i], words[j], add(one, other), sub(one, other)
            body += [Let(name, value) for name, value in zip(names, values, strict=True)]
            words[i], words[j] = both, apart
            for row in rows:
                row[i], row[j] = (row[i], 0) if row[i] == row[j] else (0, row[i])
        found = []
        for row in rows:
            word = linear(tuple(row), dict(enumerate(words)))
            found.append(shr(form.shift, word if form.inverse == 1 else mul(word, const(form.inverse))))
        return body, found

    def started(self, record: Expr) -> Expr:
        """Return what must still be added to the sums of a channel, in every lane."""
        return Load(self.names.record, record)

    def ended_rows(self, at: dict[str, Expr], record: Expr, phase: int, k: int) -> list[Statement]:
        """Return the statements for a word of results of each row of a group."""
        start, factors = self.started(record), self.own_factors(record)
        own = range(self._apart * k, min(self._apart * (k + 1), self._across))
        made = {
            (of, across): self._totals(at["m"], of, across)
            for across, of in itertools.product(own, sorted({of for _, of in self.parts(phase)}))
        }
        body = [statement for before, _ in made.values() for statement in before]
        for row in range(self.loops.group):
            place = add(at["o"], const(row * self.target.row_words + phase * self.target.words + k))
            words = [
                [made[of, across][1][row * self.conv.pool[0] + part] for part, of in self.parts(phase)]
                for across in own
            ]
            words = [[add(sums[0], start)] if len(sums) == 1 else sums for sums in words]
            if self._apart == 1:
                body.append(Block(tuple(self.ended_word(phase, words[0], start, place, factors))))
                continue
            names = [f"v{number}" for number in range(len(words))]
            summed = [s for name, sums in zip(names, words, strict=True) for s in self.summed(name, sums, start)]
            closed = self.closed_word(phase, [Var(name) for name in names], place, factors)
            body.append(Block((*summed, *closed)))
        return [Block(tuple(body))]


def _batches(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    """Iterate over runs of so many items, the last of those that are left."""
    for first in range(0, len(items), size):
        yield items[first : first + size]


@lru_cache(maxsize=64)
def _taps_of(conv: Convolution, phases: int, stride: int, forms: int) -> dict[tuple[int, int, int, int], int]:
    """Return the number of the word of taps for (phase of the sums, channel, form of taps, phase of the pixels)."""
    every: list[tuple[int, int, int, int]] = []
    for phase in range(phases):
        read = sorted({of for _, of, _ in conv.taps(phase, phases, stride)})
        every += itertools.product([phase], range(forms), range(conv.weights.shape[1]), read)
    return {(phase, i, t, of): number for number, (phase, t, i, of) in enumerate(every)}


@lru_cache(maxsize=64)
def _formed(conv: Convolution, form: Bilinear) -> Array:
    """Return the forms of the rows of taps: (outputs, inputs of a group, forms, columns)."""
    weights = np.moveaxis(conv.weights.astype(object), 2, -1)
    forms = [sum(weights[..., k] * factor for k, factor in enumerate(taps) if factor) for taps in form.taps]
    return np.stack(forms, axis=2)


@lru_cache(maxsize=64)
def _extremes(conv: Convolution, form: Bilinear) -> tuple[int, int]:
    """Return the least and the greatest value of the forms of the rows of taps."""
    if all(sum(map(abs, taps)) == 1 and sum(taps) == 1 for taps in form.taps):
        return conv.extremes
    formed = _formed(conv, form)
    return int(formed.min()), int(formed.max())


def linear(form: Form, words: Mapping[int, Expr]) -> Expr:
    """Return a linear form of words, mod 2^256."""
    total: Expr | None = None
    for number, factor in sorted(enumerate(form), key=lambda item: item[1] < 0):
        if not factor:
            continue
        size = abs(factor)
        power = size & (size - 1) == 0
        term = shl(size.bit_length() - 1, words[number]) if power else mul(words[number], const(size))
        if factor > 0:
            total = term if total is None else add(term, total)
        else:
            total = sub(const(0) if total is None else total, term)
    return const(0) if total is None else total
