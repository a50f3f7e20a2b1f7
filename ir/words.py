"""What a word can be, for every input: a sum of bounded integers times known words, mod 2^256.

The verifier computes with such sums instead of words. A byte of the input, a lane of a buffer, a bit that tells a sign
are integers in a known interval (`Atom`); a weight is known data, whichever round of a loop reads it (`Data`); what a
loop adds up is a sum over its rounds. Addition, multiplication by what is known, and shifts to the left are exact.

Lanes need no declaration: cut at some bits, each factor is a sum of digits, one a lane, and the word's bits there are
the lane's sum if that is proved to lie in [0, 2^width) for this lane and those below it. Digits may be negative: where
lanes borrow from each other on the way, signed digits are those for which the proof works. Nothing here knows how a
kernel means its lanes; where masks and shifts take lanes apart that meet, the proof fails.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import count, pairwise
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np

from .program import MASK, WORD, Segment
from .types import Array

BITS = 256
_LO, _HI = attrgetter("lo"), attrgetter("hi")
_HALF = WORD >> 1
_NARROW = 57
"""Digits of so many bits are read eight bytes at a time."""
_INT64 = 62
_serial = count()


class LanesMeetError(Exception):
    """Bits are taken out of a word that are not proved to be what is meant by them."""


class Loop:
    """A loop's counter: 0 in its first round.

    Attributes:
        count: Rounds.
        number: In the order in which loops are met, outer before inner.
    """

    __slots__ = ("count", "number")

    def __init__(self, rounds: int) -> None:
        self.count, self.number = rounds, next(_serial)


class Test(NamedTuple):
    """A bit that is 1 where, and only where, a lane is at least `limit`: the lane without what is constant in it."""

    lane: object
    limit: int


class Atom:
    """An integer that nothing is known of but its interval.

    Attributes:
        lo: The least.
        hi: The greatest.
        loop: The loop whose counter it is.
        test: What it tells, if it is a bit.
        gate: A bit; where that is 1, this is 0.
        full: Where it has more bits than so many, those below are ones.
        by_round: Loops, and its bounds in each of their rounds, if they differ.
        lane: Whether it is one of several in a word of a buffer.
    """

    __slots__ = ("by_round", "full", "gate", "hi", "lane", "lo", "loop", "number", "test")

    def __init__(self, lo: int, hi: int, *, loop: Loop | None = None) -> None:
        self.lo, self.hi, self.loop, self.number = lo, hi, loop, next(_serial)
        self.test: Test | None = None
        self.gate: Atom | None = None
        self.full: int | None = None
        self.by_round: tuple[list[Loop], Array, Array] | None = None
        self.lane = False


ONE = Atom(1, 1)


class Data(NamedTuple):
    """A word of a segment, after some operations.

    Attributes:
        segment: Its name.
        first: Which word, in the first rounds of all loops.
        steps: Loops, and how many words further each of their rounds goes.
        operations: (name, operand) of each: `shr`, `and`, `mul`, `extend` (so many low bits, as signed
            ones), `over` (what is above a signed digit of so many bits).
    """

    segment: str
    first: int
    steps: tuple[tuple[Loop, int], ...]
    operations: tuple[tuple[str, int], ...] = ()

    def then(self, name: str, operand: int) -> Data:
        """Return it after one more operation."""
        return self._replace(operations=(*self.operations, (name, operand)))

    @property
    def mask(self) -> int | None:
        """The bits that can be ones, if the last operation tells."""
        return self.operations[-1][1] if self.operations and self.operations[-1][0] == "and" else None


Factor = int | dict[Data | None, int]
"""A word, mod 2^256, or a sum of words of segments times integers (None: of 1)."""
Key = tuple[Atom, tuple[Loop, ...]]
"""An atom, and the loops over whose rounds it is added up."""
Terms = Mapping[Key, Factor]


class Word:
    """A sum of atoms times factors; its parts are added up when it is asked for.

    Args:
        terms: Atoms of its own.
        parts: Other sums, times integers.
        known: Low bits that it is right in.

    Attributes:
        atom: What can stand for it, if it is proved to be a number.
        clean: Whether the bits above those it is right in are zeros.
    """

    __slots__ = ("_fields", "_flat", "_range", "atom", "clean", "known", "parts", "serial", "terms")

    def __init__(self, terms: Terms | None = None, parts: Sequence[tuple[int, Word]] = (), known: int = BITS) -> None:
        self.terms: Terms = terms or {}
        self.parts = parts
        self.known: int = min([known, *(p.known for _, p in parts)])
        self.serial = next(_serial)
        self.atom: Word | None = None
        self.clean = False
        self._flat: dict[Key, Factor] | None = None
        self._fields: list[Field] | bool | None = False
        self._range: tuple[int, int] | None = None

    @property
    def flat(self) -> dict[Key, Factor]:
        """All its terms."""
        if self._flat is None:
            self._flat = self.without(None)[1]
        return self._flat

    def without(self, stop: Word | None) -> tuple[int, dict[Key, Factor]]:
        """Return how often another sum is a part of it, and all the rest of it."""
        times: dict[int, int] = {self.serial: 1}
        words: dict[int, Word] = {self.serial: self}
        newest = [-self.serial]  # a sum is newer than its parts: each is looked at once
        found: dict[Key, Factor] = {}
        stopped = 0
        while newest:
            serial = -heapq.heappop(newest)
            word, factor = words[serial], times[serial]
            if word is stop:
                stopped = factor
                continue
            terms, parts = (word.terms, word.parts) if word._flat is None or stop is not None else (word._flat, ())
            for key, own in terms.items():
                found[key] = _plus(found[key], own, factor) if key in found else _plus(0, own, factor)
            for scale, part in parts:
                if part.serial not in words:
                    words[part.serial], times[part.serial] = part, 0
                    heapq.heappush(newest, -part.serial)
                times[part.serial] += factor * scale
        return stopped, {key: factor for key, factor in found.items() if factor}

    @property
    def constant(self) -> int | None:
        """Its value, if it has but one."""
        total = 0
        for (atom, span), factor in self.flat.items():
            if atom is not ONE or not isinstance(factor, int):
                return None
            total += factor * _rounds(span)
        return total & MASK

    @property
    def data(self) -> Data | None:
        """The word of a segment that it is, if it is just that."""
        if len(self.flat) != 1:
            return None
        ((atom, span), factor) = next(iter(self.flat.items()))
        if atom is not ONE or span or isinstance(factor, int) or len(factor) != 1:
            return None
        return next((d for d, times in factor.items() if times == 1), None)

    @property
    def has_data(self) -> bool:
        """Whether words of segments are in it."""
        return any(not isinstance(factor, int) for factor in self.flat.values())


class Field(NamedTuple):
    """A lane of a sum of non-negative terms that do not meet: bits from `start` on.

    Attributes:
        start: Its lowest bit.
        lo: Least value.
        hi: Greatest value.
        terms: Without the constant.
        constant: What is added to them.
    """

    start: int
    lo: int
    hi: int
    terms: Mapping[Key, int]
    constant: int

    @property
    def end(self) -> int:
        """The first bit above it."""
        return self.start + self.hi.bit_length()

    @property
    def lane(self) -> object:
        """What is the same for the same lane, whatever is added to it."""
        return frozenset(self.terms.items())


def _plus(a: Factor, b: Factor, times: int) -> Factor:
    if isinstance(a, int) and isinstance(b, int):
        return (a + times * b) & MASK
    total: dict[Data | None, int] = dict(a) if not isinstance(a, int) else {None: a} if a else {}
    more: dict[Data | None, int] = b if not isinstance(b, int) else {None: b}
    for key, value in more.items():
        total[key] = total.get(key, 0) + times * value
    if total.get(None, 1) & MASK == 0:
        del total[None]
    total = {key: value for key, value in total.items() if value}
    return total.get(None, 0) & MASK if not total.keys() - {None} else total


def _rounds(span: Iterable[Loop]) -> int:
    return math.prod(loop.count for loop in span)


def fresh(lo: int, hi: int) -> Word:
    """Return any integer of an interval."""
    return literal(lo) if lo == hi else Word({(Atom(lo, hi), ()): 1})


def lane(lo: int, hi: int) -> Word:
    """Return any integer of an interval, one of several in a word."""
    atom = Atom(lo, hi)
    atom.lane = True
    return of_atom(atom)


def anything() -> Word:
    """Return a word that nothing is known of."""
    return fresh(0, MASK)


@lru_cache(maxsize=4096)
def literal(value: int) -> Word:
    """Return a constant."""
    return Word({(ONE, ()): value & MASK} if value & MASK else {})


def of_atom(atom: Atom, factor: Factor = 1) -> Word:
    """Return an atom times a factor."""
    return Word({(atom, ()): factor})


def raised(word: Word, times: int) -> Word:
    """Return times · word; sums in it that are proved to be numbers of their own are no longer looked into."""
    return Word(parts=((times, word.atom or Word(word.terms, [(n, p.atom or p) for n, p in word.parts], word.known)),))


def added(a: Word, b: Word, times: int = 1) -> Word:
    """Return a + times · b."""
    a, b = (word.atom if word.clean and word.atom else word for word in (a, b))
    if times == 1 and not (a.terms or a.parts):
        return b
    return Word(parts=((1, a), (times, b)))


def summed(loop: Loop, rest: Terms, before: Word) -> Word:
    """Return what a variable is after a loop each of whose rounds adds something to it."""
    return Word({(atom, (*span, loop)): factor for (atom, span), factor in rest.items()}, ((1, before),))


_PRODUCTS = 3
"""A sum of so many terms is one of products, in lanes that must not meet."""


_Bounds = tuple[Array, Array]


def _vary(varying: dict[tuple[Loop, ...], _Bounds], axes: tuple[Loop, ...], least: Array, most: Array) -> None:
    """Add bounds that differ from round to round."""
    before = varying.get(axes)
    varying[axes] = (least, most) if before is None else (before[0] + least, before[1] + most)


class _Apart(NamedTuple):
    """A sum taken apart into lanes.

    Attributes:
        bounds: Of each lane.
        constants: What of each is constant; None where that depends on loops.
        rounds: The loops in whose rounds bounds differ.
        least: Least values, in each round: (rounds…, lanes).
        most: Greatest values.
    """

    bounds: list[tuple[int, int]]
    constants: list[int] | None
    rounds: list[Loop]
    least: Array
    most: Array

    def top(self) -> Word:
        """Return anything that the highest lane can be."""
        lo, hi = self.bounds[-1]
        found = fresh(lo, hi)
        if self.rounds and lo < hi:
            ((atom, _),) = found.terms
            atom.by_round = self.rounds, self.least[..., -1], self.most[..., -1]
        return found


_FEW = 2
"""Terms of a sum of products whose bounds are looked at even where nothing is to be proved of lanes; and what a factor
that chooses a part of a word may be besides its least."""
_MANY = 1 << 16
"""Rounds of loops in each of which such a word is looked at."""


class Words:
    """Arithmetic on words.

    Args:
        segments: The program's data.
        proves: Whether lanes are proved not to meet; else nothing is known of what is taken out of sums of products.
    """

    def __init__(self, segments: Mapping[str, Segment], *, proves: bool) -> None:
        self._segments, self._proves = segments, proves
        self._digits: dict[object, Array] = {}
        self._values: dict[object, Array] = {}

    # -- intervals -------------------------------------------------------------------------------------------------

    def interval(self, word: Word) -> tuple[int, int]:
        """Return bounds of an integer that is the word mod 2^256."""
        if word._range is None:
            if word.known < BITS:
                return 0, MASK
            fields = self.fields(word)
            if fields is not None:
                total = [sum(v << f.start for f, v in zip(fields, side, strict=True)) for side in _sides(fields)]
                wraps = WORD if total[0] >= _HALF else 0
                word._range = total[0] - wraps, total[1] - wraps
            else:
                (word._range,) = self.lanes(word, (0, BITS), signed=True)
        return word._range

    def unsigned(self, word: Word) -> tuple[int, int] | None:
        """Return bounds of the word, if it does not wrap."""
        lo, hi = self.interval(word)
        if hi < 0 and lo >= -WORD:
            return lo + WORD, hi + WORD
        return (lo, hi) if lo >= 0 and hi < WORD else None

    def as_signed(self, word: Word) -> tuple[int, int]:
        """Return bounds of the word in two's complement."""
        lo, hi = self.interval(word)
        if lo >= -_HALF and hi < _HALF:
            return lo, hi
        return -_HALF, _HALF - 1

    def lanes(self, word: Word, cuts: Sequence[int], *, signed: bool) -> list[tuple[int, int]]:
        """Return bounds of the sums between cuts, if every factor is taken apart into digits there."""
        return self._apart(word, cuts, signed=signed).bounds

    def _apart(self, word: Word, cuts: Sequence[int], *, signed: bool) -> _Apart:
        """Take every factor apart into digits between cuts."""
        cuts = tuple(cuts)
        size = len(cuts) - 1
        lows: list[int] = [0] * size
        highs: list[int] = [0] * size
        varying: dict[tuple[Loop, ...], tuple[Array, Array]] = {}
        varying_words: list[tuple[Data, int, tuple[Loop, ...]]] = []
        gated: dict[Key, tuple[int, ...]] = {}
        alike: dict[tuple[tuple[Loop, ...], object], list[tuple[Atom, dict[Data | None, int]]]] = {}
        constant: Any = 0
        for (atom, span), factor in word.flat.items():
            if atom is ONE:
                number = factor if isinstance(factor, int) else factor.get(None, 0)
                constant = constant + number * _rounds(span)
                varying_words += [(data, times, span) for data, times in _data_in(factor)]
                continue
            if isinstance(factor, int):
                rounds, digits = _rounds(span), _digits(factor, cuts, signed)
                if atom.by_round is not None and not span:
                    loops, *sides_of = atom.by_round
                    each = [np.multiply.outer(side, np.array(digits, dtype=object)) for side in sides_of]
                    _vary(varying, tuple(loops), np.minimum(*each), np.maximum(*each))
                    continue
                lo, hi = rounds * atom.lo, rounds * atom.hi
                for j, digit in enumerate(digits):
                    lows[j] += digit * (lo if digit >= 0 else hi)
                    highs[j] += digit * (hi if digit >= 0 else lo)
                if atom.gate is not None or atom.test is not None:
                    gated[atom, span] = digits
                continue
            kind = tuple(None if d is None else (d._replace(first=0), times) for d, times in factor.items())
            alike.setdefault((span, kind), []).append((atom, factor))
        for (span, _), terms in alike.items():
            _vary(varying, *self._terms(terms, span, cuts, signed=signed))
        for (atom, span), digits in gated.items():  # of the two only one is not 0
            if atom.gate is not None and (atom.gate, span) in gated:
                for j, (own, gate) in enumerate(zip(digits, gated[atom.gate, span], strict=True)):
                    highs[j] -= min(max(own, 0) * atom.hi, max(gate, 0))
        if not varying and not varying_words:
            known = _dealt(constant, cuts, lows)
            ends = [[low + digit for low, digit in zip(side, known, strict=True)] for side in (lows, highs)]
            return _Apart(list(zip(*ends, strict=True)), known, [], *(np.array(end, dtype=object) for end in ends))
        axes_of_words = [tuple(x for x, _ in data.steps if x not in span) for data, _, span in varying_words]
        every = sorted({x for axes in (*varying, *axes_of_words) for x in axes}, key=lambda x: x.number)
        shape = [x.count for x in every]
        sides = [np.zeros((*shape, size), dtype=object) + np.array(side, dtype=object) for side in (lows, highs)]
        for some, arrays in varying.items():
            for side, array in enumerate(arrays):
                sides[side] = sides[side] + array.reshape([x.count if x in some else 1 for x in every] + [size])
        for data, times, span in varying_words:
            inner = tuple(range(len(every), len(every) + sum(x in span for x, _ in data.steps)))
            rounds = _rounds(x for x in span if x not in dict(data.steps))
            constant = constant + np.sum(self._at(data, every, span), axis=inner) * (times * rounds)
        constants = np.empty((*shape, size), dtype=object)
        for j, digit in enumerate(_dealt(constant, cuts, [sides[0][..., j] for j in range(size)])):
            constants[..., j] = digit
        least, most = (side + constants for side in sides)
        over = tuple(range(len(every)))
        bounds = list(zip(least.min(axis=over).tolist(), most.max(axis=over).tolist(), strict=True))
        return _Apart(bounds, None if varying_words else constants.reshape(-1, size)[0].tolist(), every, least, most)

    def _at(self, data: Data, every: Sequence[Loop], span: Sequence[Loop]) -> Array:
        """Return the words that some data is in all rounds: axes for `every` loop, then for its own among `span`."""
        axes = [*every, *(x for x, _ in data.steps if x in span)]
        index: Any = np.full([1] * len(axes), data.first)
        for loop, step in data.steps:
            index = index + (np.arange(loop.count) * step).reshape([loop.count if x is loop else 1 for x in axes])
        return np.asarray(self._words(data)[index], dtype=object)

    def _terms(
        self,
        terms: Sequence[tuple[Atom, Mapping[Data | None, int]]],
        span: Sequence[Loop],
        cuts: tuple[int, ...],
        *,
        signed: bool,
    ) -> tuple[tuple[Loop, ...], Array, Array]:
        """Return the loops in whose rounds a sum of terms differs, and its bounds there: (rounds…, lanes).

        Args:
            terms: Atoms and factors, which differ in nothing but what is constant and where their data begin.
            span: Loops over whose rounds all are added up.
            cuts: Where digits begin and end.
            signed: Whether these have signs.
        """
        axes = sorted({x for d in terms[0][1] if d is not None for x, _ in d.steps}, key=lambda x: x.number)
        total: Any = 0
        for entries in zip(*(factor.items() for _, factor in terms), strict=True):
            data, times = entries[0]
            if data is None:
                digits = np.array([_digits(number, cuts, signed) for _, number in entries], dtype=object)
                total = total + digits.reshape(len(terms), *[1] * len(axes), -1)
                continue
            if times not in (1, -1):
                data, times = data.then("mul", times & MASK), 1
            index: Any = np.array([d.first for d, _ in entries if d is not None]).reshape(-1, *[1] * len(axes))
            for loop, step in data.steps:
                shape = [loop.count if x is loop else 1 for x in axes]
                index = index + (np.arange(loop.count) * step).reshape(shape)
            digits = self._table(data, cuts, signed=signed)[index]
            total = total + (digits if times == 1 else digits * times)
        reach = sum(max(abs(atom.lo), abs(atom.hi), 1) for atom, _ in terms) * _rounds(span)
        widest = max(abs(int(total.max(initial=0))), abs(int(total.min(initial=0))), 1)
        type_: Any = np.int64 if (reach * widest).bit_length() <= _INT64 else object
        total = total.astype(type_)
        ends = [
            total * np.array([side(atom) for atom, _ in terms], dtype=type_).reshape(-1, *[1] * (len(axes) + 1))
            for side in (_LO, _HI)
        ]
        inner = (0, *(i for i, x in enumerate(axes, 1) if x in span))
        rounds = _rounds(x for x in span if x not in axes)
        least, most = (
            np.asarray(e.sum(axis=inner) * rounds).astype(object) for e in (np.minimum(*ends), np.maximum(*ends))
        )
        return tuple(x for x in axes if x not in span), least, most

    def _table(self, data: Data, cuts: tuple[int, ...], *, signed: bool) -> Array:
        """Return the digits of all words of a segment: (words, lanes)."""
        key = data.segment, data.operations, cuts, signed
        if key not in self._digits:
            self._digits[key] = _digits_of(self._words(data), cuts, signed=signed)
        return self._digits[key]

    def _words(self, data: Data) -> Array:
        """Return what all words of a segment are after some operations."""
        key = data.segment, data.operations
        if key not in self._values:
            if not data.operations:
                words = list(self._segments[data.segment].words)
                self._values[key] = np.array(words, dtype=object)
            else:
                *_, (name, operand) = data.operations
                before = self._words(data._replace(operations=data.operations[:-1]))
                self._values[key] = _operated(name, operand, before)
        return self._values[key]

    def content(self, segment: str, start: int, words: int) -> Sequence[int]:
        """Return some words of a segment."""
        return list(self._words(Data(segment, 0, ()))[start : start + words])

    # -- lanes -----------------------------------------------------------------------------------------------------

    def fields(self, word: Word) -> list[Field] | None:
        """Return the lanes of a sum of non-negative terms, without gaps between what can meet; None: it is not one."""
        if word._fields is False:
            word._fields = _fields(word)
        return word._fields  # type: ignore[return-value]

    def masked(self, word: Word, shift: int, mask: int) -> Word:
        """Return (word >> shift) & mask.

        Raises:
            LanesMeetError: that takes bits of lanes that are not proved to be theirs alone.
        """
        mask &= MASK >> shift
        runs = _runs(mask)
        if not runs:
            return literal(0)
        if (value := word.constant) is not None and word.known == BITS:
            return literal(value >> shift & mask)
        if (data := word.data) is not None:
            data = data.then("shr", shift) if shift else data
            return of_atom(ONE, {data if mask == MASK >> shift else data.then("and", mask): 1})
        if not self._proves and _is_sum_of_products(word):
            ends = self.unsigned(word) if len(word.flat) <= _FEW and mask == MASK >> shift else None
            return fresh(0, mask) if ends is None else fresh(ends[0] >> shift, ends[1] >> shift)
        fields = self.fields(word) if word.known == BITS else None
        try:
            if fields is not None and len(fields) > 1 and not _is_sum_of_products(word):
                return _picked(fields, shift, runs)
            if len(runs) > 1:
                return self._cut_lanes(word, shift, runs)
            return self._cut_one(word, fields, shift, runs[0])
        except LanesMeetError:
            if not self._proves:
                return fresh(0, mask)
            if (found := self._chosen(word, shift, mask)) is None:
                raise
            return found

    def _chosen(self, word: Word, shift: int, mask: int) -> Word | None:
        """Return (word >> shift) & mask where a word of a segment is multiplied by one of a few factors; else None."""
        atoms = [atom for atom, _ in word.flat if atom is not ONE]
        loops = sorted({x for data in _all_data(word) for x, _ in data.steps}, key=lambda x: x.number)
        few = len(atoms) == 1 and atoms[0].hi - atoms[0].lo <= _FEW and _rounds(loops) <= _MANY
        if not few or word.known < BITS or any(span for _, span in word.flat):
            return None
        found: list[int] = []
        for value in range(atoms[0].lo, atoms[0].hi + 1):
            total: Any = 0
            for (atom, _), factor in word.flat.items():
                own: Any = factor if isinstance(factor, int) else factor.get(None, 0)
                for data, times in _data_in(factor):
                    own = own + self._at(data, loops, ()) * times
                total = total + own * (1 if atom is ONE else value)
            found += [int(v) % WORD >> shift & mask for v in np.asarray(total, dtype=object).ravel()]
        return fresh(min(found), max(found))

    def _cut_one(self, word: Word, fields: list[Field] | None, shift: int, run: tuple[int, int]) -> Word:
        place, width = run
        start, end = place + shift, place + shift + width
        if word.clean and end > word.known > start:
            end, width = word.known, word.known - start
        if fields and fields[0].start >= start and fields[0].end <= end:
            return _shifted(fields[0], -shift)
        if end > word.known:
            return fresh(0, mask_of([run]))
        several = _is_sum_of_products(word) or sum(atom is not ONE for atom, _ in word.flat) > 1
        for signed in _signs(word) if several else ():
            apart = self._apart(word, [*([0] if start else []), start, end], signed=signed)
            if start and not (apart.bounds[0][0] >= 0 and apart.bounds[0][1] < 1 << start):
                continue
            lo, hi = apart.bounds[-1]
            inside = lo >= 0 and hi < 1 << width
            constant = None if apart.constants is None else apart.constants[-1]
            if inside and not start and constant is None:
                return _placed(_clean(word, end, apart.top()), place)
            if (inside or (not signed and end == BITS)) and (constant is not None or self._starts_at(word, start)):
                known = BITS if inside else BITS - start
                found = _cut(word, start, end, constant, signed=signed, known=known)
                found.atom = apart.top() if inside else None
                return _placed(found, place)
            if inside:
                return _placed(apart.top(), place)
        ends = None if word.has_data else self.unsigned(word)
        products = word.has_data or sum(atom is not ONE for atom, _ in word.flat) >= _PRODUCTS
        if ends is None and not products:
            return fresh(0, mask_of([run]))
        if products:
            found_ends = (self.lanes(word, (0, end), signed=signed)[0] for signed in _signs(word)[::-1])
            ends = next((e for e in found_ends if e[0] >= 0 and not e[1] >> end), None)
        if ends is None:
            lo, hi = self.lanes(word, (0, end), signed=True)[0]
            raise LanesMeetError(
                f"bits {start} to {end - 1} are taken out of a word whose low {end} bits are not proved to be all of "
                f"it: it can be {_shown(lo)} to {_shown(hi)}"
            )
        found = _part(ends, start, width, place)
        if fields and not _is_sum_of_products(word):
            _mark(found, fields[0].lane, start - fields[0].start, fields[0].constant)
        else:
            lowest = _lowest_bit(word)
            _mark(found, ("cut", word.serial, lowest), start - lowest)
        return found

    def _starts_at(self, word: Word, start: int) -> bool:
        """Return whether all that is constant in a word, in any round, has no bits below one."""
        below = (1 << start) - 1
        for (atom, _), factor in word.flat.items():
            if atom is ONE:
                number = factor if isinstance(factor, int) else factor.get(None, 0)
                words = [
                    w * n
                    for data, n in _data_in(factor)
                    for w in self._at(data, (), [x for x, _ in data.steps]).ravel()
                ]
                if any(v & below for v in (number, *words)):
                    return False
        return True

    def _cut_lanes(self, word: Word, shift: int, runs: Sequence[tuple[int, int]]) -> Word:
        starts = [place + shift for place, _ in runs]
        pitch = starts[1] - starts[0]
        if any(b - a != pitch for a, b in pairwise(starts)):
            raise LanesMeetError(f"a mask of {len(runs)} lanes that are not equally far apart")
        inside = (starts[0] - _lowest_bit(word)) % pitch
        bounds = self._proved(word, [(s - inside, s - inside + pitch) for s in starts])
        total: list[tuple[int, Word]] = []
        for (place, width), start, (lo, hi) in zip(runs, starts, bounds, strict=True):
            if hi >> inside >= 1 << width:
                raise LanesMeetError(
                    f"a mask of {width} bits at bit {start} cuts a lane that can be {_shown(hi >> inside)}"
                )
            found = fresh(lo >> inside, hi >> inside)
            _mark(found, ("cut", word.serial, start - inside), inside)
            total.append((1 << place, found))
        return Word(parts=total)

    def _proved(self, word: Word, places: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Return bounds of lanes, (first bit, bit above), that are proved to lie in them; so is all below them."""
        end = word.known if word.clean else BITS
        cuts = sorted({0, *(min(bit, end) for place in places for bit in place)})
        if cuts[-1] > word.known:
            raise LanesMeetError("lanes are taken out of bits that are not known")
        worst: tuple[int, int, int, int] | None = None
        for signed in _signs(word):
            bounds = self.lanes(word, cuts, signed=signed)
            bad = [
                (start, end, lo, hi)
                for (start, end), (lo, hi) in zip(pairwise(cuts), bounds, strict=True)
                if lo < 0 or hi >> (end - start)
            ]
            if not bad:
                at = dict(zip(cuts, bounds, strict=False))
                return [at[start] for start, _ in places]
            worst = worst or bad[0]
        assert worst is not None
        start, end, lo, hi = worst
        raise LanesMeetError(f"lanes meet: what has the bits {start} to {end - 1} can be {_shown(lo)} to {_shown(hi)}")

    def lane_bounds(self, word: Word, pitch: int, lanes: int) -> list[tuple[int, int]]:
        """Return bounds of the lanes of a word, and of what is above them.

        Raises:
            LanesMeetError: they meet.
        """
        end = min(pitch * lanes, word.known)
        cuts = [*range(0, end, pitch), end, *([word.known] if end < word.known else [])]
        for signed in _signs(word):
            *bounds, (_, above) = self.lanes(word, cuts, signed=signed) + ([] if end < word.known else [(0, 0)])
            if all(lo >= 0 and not hi >> (b - a) for (a, b), (lo, hi) in zip(pairwise(cuts), bounds, strict=False)):
                room = BITS if not word.clean else word.known
                known = above < 1 << (word.known - end) and word.known == room
                return [*bounds, (0, above if known else (1 << (room - end)) - 1)]
        raise LanesMeetError(f"lanes of {pitch} bits meet in a word that is stored")

    def require_numbers(self, args: Iterable[Word]) -> None:
        """Refuse to compare a word with several lanes of a buffer as if it were a number.

        Raises:
            LanesMeetError: one of them is such a word.
        """
        for word in args if self._proves else ():
            fields = self.fields(word)
            if fields is not None and sum(any(atom.lane for atom, _ in field.terms) for field in fields) > 1:
                raise LanesMeetError(f"a word of {len(fields)} lanes is compared as if it were a number")

    # -- masks that depend on lanes --------------------------------------------------------------------------------

    def both(self, a: Word, b: Word) -> Word:
        """Return a & b, neither of them known."""
        for word, other in ((a, b), (b, a)):
            spread = self._spread(other)
            if spread is not None and self._proves:
                return self._kept(word, spread)
        ends = self.unsigned(a), self.unsigned(b)
        least = [end[1] for end in ends if end is not None]
        return fresh(0, min([MASK, *least]))

    def _spread(self, word: Word) -> list[tuple[int, Atom, int]] | None:
        """Return (place, bit, width) of each lane, if each is a bit that tells something times 2^width − 1."""
        found = []
        for field in self.fields(word) or ():
            if not field.terms:
                found += [(field.start + place, ONE, width) for place, width in _runs(field.constant)]
                continue
            if field.constant or len(field.terms) != 1:
                return None
            ((atom, span), factor) = next(iter(field.terms.items()))
            if atom.test is None or span or factor & (factor + 1):
                return None
            found.append((field.start, atom, factor.bit_length()))
        return found or None

    def _kept(self, word: Word, spread: Sequence[tuple[int, Atom, int]]) -> Word:
        """Return the lanes of a word whose bits are ones, without their top bit."""
        lanes = self._lanes_at(word, [(place, place + width + 1) for place, _, width in spread])
        total: list[tuple[int, Word]] = []
        for (place, bit, width), (names, lo, hi) in zip(spread, lanes, strict=True):
            limits = [bit.test.limit + n.limit for n in names if bit.test is not None and bit.test.lane == n.lane]
            if 1 << width in limits and hi < 2 << width:
                total.append((1 << place, fresh(0, max(hi - (1 << width), 0))))
            elif bit is ONE and lo >= 1 << width and hi < 2 << width:
                total.append((1 << place, fresh(lo - (1 << width), hi - (1 << width))))
            elif hi < 1 << width:
                total.append((1 << place, fresh(0, hi)))
            else:
                raise LanesMeetError(f"a mask of {width} bits at bit {place} cuts a lane that can be {_shown(hi)}")
        return Word(parts=total)

    def _lanes_at(self, word: Word, places: Sequence[tuple[int, int]]) -> list[tuple[list[Test], int, int]]:
        """Return a lane's names (each with the constant that is not in it), and its bounds, at each place."""
        fields = self.fields(word)
        lanes = {field.start: field for field in fields or () if field.terms}
        known = sum(field.constant << field.start for field in fields or () if not field.terms)
        if fields is None or _is_sum_of_products(word) or any(_straddles(f, p) for f in lanes.values() for p in places):
            bounds, lanes, known = self._proved(word, places), {}, 0
        else:
            bounds = [(lanes[place].lo, lanes[place].hi) if place in lanes else (0, 0) for place, _ in places]
        found = []
        for (place, end), (lo, hi) in zip(places, bounds, strict=True):
            own = known >> place & ((1 << (end - place)) - 1)
            names = [Test(("cut", word.serial, place), 0)]
            if place in lanes:
                names.append(Test(lanes[place].lane, lanes[place].constant + own))
            found.append((names, lo + own, hi + own))
        return found

    def either(self, a: Word, b: Word) -> Word:
        """Return a | b."""
        mine, others = self.fields(a), self.fields(b)
        if mine is None or others is None or not self._proves:
            return self._bitwise(a, b)
        if _bits(mine) & _bits(others) == 0:
            return added(a, b)
        for word, other in ((a, b), (b, a)):
            spread = self._spread(other)
            if spread is not None:
                return self._saturated(word, spread)
        return _merged(sorted([*mine, *others], key=lambda field: field.start))

    def _saturated(self, word: Word, spread: Sequence[tuple[int, Atom, int]]) -> Word:
        fields = {field.start: field for field in self.fields(word) or ()}
        total = [(1, _shifted(field, 0)) for place, field in fields.items() if place not in {p for p, *_ in spread}]
        for place, bit, width in spread:
            field = fields.get(place)
            if bit is ONE and (field is None or not field.hi >> width):
                total.append((1 << place, literal((1 << width) - 1)))
                continue
            hi = max(0 if field is None else field.hi, (1 << width) - 1)
            atom = Atom(0, (1 << hi.bit_length()) - 1)
            if field is not None and bit.test is not None and bit.test.lane == field.lane:
                limit = bit.test.limit + field.constant
                if limit & (limit - 1) == 0 and limit.bit_length() - 1 <= width:
                    atom.full = limit.bit_length() - 1
            total.append((1 << place, of_atom(atom)))
        return Word(parts=total)

    def without(self, word: Word, mask: Word) -> Word:
        """Return (word | mask) ^ mask: the bits that are not in the mask."""
        spread, fields = self._spread(mask), self.fields(word)
        if spread is None or fields is None or not self._proves:
            ends = self.unsigned(word)
            return fresh(0, MASK if ends is None else ends[1])
        at = {field.start: field for field in fields}
        total = [(1, _shifted(field, 0)) for place, field in at.items() if place not in {p for p, *_ in spread}]
        for place, bit, width in spread:
            field = at.get(place)
            if field is None or (bit is ONE and not field.hi >> width):
                continue
            if field.hi >> width:
                raise LanesMeetError(f"{width} bits at bit {place} do not clear a lane that can be {_shown(field.hi)}")
            atom = Atom(0, field.hi)
            if bit.test is not None and bit.test.lane == field.lane:
                atom.hi = min(field.hi, max(bit.test.limit + field.constant - 1, 0))
            atom.gate = bit
            total.append((1 << place, of_atom(atom)))
        return Word(parts=total)

    def _bitwise(self, a: Word, b: Word) -> Word:
        ends = self.unsigned(a), self.unsigned(b)
        if ends[0] is None or ends[1] is None:
            return anything()
        return fresh(0, (1 << max(ends[0][1], ends[1][1]).bit_length()) - 1)

    def flipped(self, word: Word, mask: int) -> Word:
        """Return word ^ mask, for a known mask."""
        fields = self.fields(word)
        if fields is None:
            return anything()
        flipped = [(1 << field.start, fresh(0, (1 << field.hi.bit_length()) - 1)) for field in fields]
        return Word(parts=[(1, literal(mask & ~_bits(fields))), *flipped])


# -- bits ------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _runs(mask: int) -> list[tuple[int, int]]:
    """Return (first bit, length) of each run of ones."""
    runs, at = [], 0
    while mask:
        gap = (mask & -mask).bit_length() - 1
        mask >>= gap
        size = (~mask & (mask + 1)).bit_length() - 1
        runs.append((at + gap, size))
        mask >>= size
        at += gap + size
    return runs


def mask_of(runs: Iterable[tuple[int, int]]) -> int:
    """Return the word with ones in some runs of bits."""
    return sum(((1 << size) - 1) << at for at, size in runs)


@lru_cache(maxsize=1 << 14)
def _digits(factor: int, cuts: tuple[int, ...], signed: bool) -> tuple[int, ...]:
    """Return a factor's digits between cuts; the same factors come again and again."""
    halves, places = _places(cuts, signed)
    raised = (factor & MASK) + halves
    return tuple((raised >> start & ones) - half for start, ones, half in places)


@lru_cache(maxsize=1024)
def _places(cuts: tuple[int, ...], signed: bool) -> tuple[int, list[tuple[int, int, int]]]:
    """Return what is added to a word before it is cut, and of each digit its first bit, its mask, what is taken off."""
    places = [(a, (1 << (b - a)) - 1, 1 << (b - a - 1) if signed else 0) for a, b in pairwise(cuts)]
    return sum(1 << (end - 1) for end in cuts[1:]) if signed else 0, places


def _dealt(constant: Any, cuts: Sequence[int], lows: Sequence[Any]) -> list[Any]:
    """Return a constant's digits: such that the least of what they are added to is a digit.

    Args:
        constant: An integer, or one for each round of loops.
        cuts: Where digits begin and end.
        lows: The least of each, likewise.
    """
    digits = []
    left = constant % WORD
    whole = tuple(cuts) == (0, BITS)
    for (start, end), low in zip(pairwise(cuts), lows, strict=True):
        size = 1 << (end - start)
        digit = (left >> start) % size
        digit = digit - (digit >> (BITS - 1)) * size if whole else digit - (low + digit) // size * size
        left = left - digit * (1 << start)
        digits.append(digit)
    return digits


def _digits_of(words: Array, cuts: tuple[int, ...], *, signed: bool) -> Array:
    """Return the same for many words: (words, lanes)."""
    halves, places = _places(cuts, signed)
    raised = words + halves
    if max(end - start for start, end in pairwise(cuts)) > _NARROW:
        return np.stack([(raised >> start & ones) - half for start, ones, half in places], axis=-1)
    packed = b"".join(w.to_bytes(40, "little") for w in raised.tolist())
    table = np.frombuffer(packed, dtype=np.uint8).reshape(-1, 40)
    digits = np.empty((len(words), len(places)), dtype=np.int64)
    for j, (start, ones, half) in enumerate(places):
        eight = np.ascontiguousarray(table[:, start // 8 : start // 8 + 8]).view("<u8").ravel()
        digits[:, j] = (eight >> np.uint64(start % 8) & np.uint64(ones)).astype(np.int64) - half
    return digits


def _lowest_bit(word: Word) -> int:
    """Return the bit that all masked words of segments in it start at; 0 if there are none."""
    masks = [data.mask or 1 for data in _all_data(word)]
    return min(((mask & -mask).bit_length() - 1 for mask in masks), default=0)


def _signs(word: Word) -> tuple[bool, bool]:
    """Return in which order digits are tried, with signs or without: words that are masked have none, as a rule."""
    return (False, True) if all(data.mask is not None for data in _all_data(word)) else (True, False)


def _all_data(word: Word) -> Iterator[Data]:
    for factor in word.flat.values():
        yield from (data for data, _ in _data_in(factor))


def _data_in(factor: Factor) -> list[tuple[Data, int]]:
    return [] if isinstance(factor, int) else [(data, n) for data, n in factor.items() if data is not None]


def _fields(word: Word) -> list[Field] | None:
    if word.known < BITS:
        return None
    constant, entries = 0, []
    for (atom, span), factor in word.flat.items():
        if not isinstance(factor, int):
            return None
        rounds = _rounds(span)
        if atom is ONE:
            constant += factor * rounds
        elif atom.lo < 0:
            return None
        else:
            entries.append(((factor & -factor).bit_length() - 1, factor, rounds, (atom, span)))
    if constant + sum(factor * rounds * key[0].hi for _, factor, rounds, key in entries) >= WORD:
        return None
    entries.sort(key=lambda entry: entry[0])
    lowest = (constant & -constant).bit_length() - 1
    if constant and (not entries or lowest < entries[0][0]):
        entries.insert(0, (lowest, 0, 1, (ONE, ())))
    fields: list[Field] = []
    members: list[tuple[int, int, Key]] = []
    start = entries[0][0] if entries else 0
    for place, factor, rounds, key in [*entries, (BITS, 0, 1, (ONE, ()))]:
        if members and place > start:
            hi = sum(f * n * k[0].hi for f, n, k in members) >> start
            added_up = hi + (constant >> start & ((1 << (place - start)) - 1))
            if not added_up >> (place - start):
                fields += _field(start, place, members, constant)
                members, start = [], place
        if not members:
            start = place
        members.append((factor, rounds, key))
    return fields


def _field(start: int, end: int, members: Sequence[tuple[int, int, Key]], constant: int) -> list[Field]:
    """Return a lane, and what is constant above it."""
    own = constant >> start & ((1 << (end - start)) - 1)
    terms = {key: factor >> start for factor, _, key in members if factor}
    lo, hi = (sum(f * n * side(k[0]) for f, n, k in members) >> start for side in (_LO, _HI))
    for (atom, span), factor in terms.items():
        if atom.gate is not None and (atom.gate, span) in terms:
            hi -= min(factor * atom.hi, terms[atom.gate, span])
    if not terms:
        return [Field(start, own, own, {}, own)] if own else []
    size = hi.bit_length()
    while hi + (own & ((1 << size) - 1)) >> size:
        size += 1
    low = own & ((1 << size) - 1)
    above = own >> size << size
    fields = [Field(start, lo + low, hi + low, terms, low)] if hi + low else []
    if above:
        up = (above & -above).bit_length() - 1
        fields.append(Field(start + up, above >> up, above >> up, {}, above >> up))
    return fields


def _sides(fields: Sequence[Field]) -> tuple[list[int], list[int]]:
    return [f.lo for f in fields], [f.hi for f in fields]


def _bits(fields: Sequence[Field]) -> int:
    return mask_of((f.start, f.hi.bit_length()) for f in fields)


def _picked(fields: Sequence[Field], shift: int, runs: Sequence[tuple[int, int]]) -> Word:
    """Return the lanes of a word that a mask leaves, or what a shift has left of them."""
    total: list[tuple[int, Word]] = []
    for field in fields:
        if not field.terms:
            total.append((1, literal(field.constant << field.start >> shift & mask_of(runs))))
            continue
        run = next(((p, w) for p, w in runs if p + shift < field.end and field.start < p + shift + w), None)
        if run is None:
            continue
        start, end = run[0] + shift, run[0] + shift + run[1]
        if start <= field.start and field.end <= end:
            total.append((1, _shifted(field, -shift)))
            continue
        inside = start - field.start
        top = _full(field)
        if field.start == start and top is not None and run[1] == top:
            total.append((1 << run[0], fresh(0, (1 << top) - 1)))
            continue
        if inside <= 0 or field.end > end or (len(runs) == 1 and len(fields) > 1):
            raise LanesMeetError(
                f"bits {start} to {end - 1} are taken out of a word in which a lane has the bits {field.start} to "
                f"{field.end - 1}"
            )
        found = fresh(field.lo >> inside, field.hi >> inside)
        _mark(found, field.lane, inside, field.constant)
        total.append((1 << run[0], found))
    return Word(parts=total)


def _is_sum_of_products(word: Word) -> bool:
    """Return whether a factor may be weights of several lanes: it is neither a place in the word nor spreads a bit."""
    every = ((atom, factor) for (atom, _), factor in word.flat.items() if atom is not ONE)
    return any(not isinstance(f, int) or (atom.test is None and f & (f - 1)) for atom, f in every)


def _full(field: Field) -> int | None:
    if len(field.terms) != 1 or field.constant:
        return None
    (atom, span), factor = next(iter(field.terms.items()))
    return atom.full if factor == 1 and not span else None


def _shifted(field: Field, by: int) -> Word:
    place = 1 << (field.start + by)
    terms: dict[Key, Factor] = {key: factor * place for key, factor in field.terms.items()}
    if field.constant:
        terms[ONE, ()] = field.constant * place
    return Word(terms)


def _mark(word: Word, lane: object, inside: int, constant: int = 0) -> None:
    """Note what a bit tells: that a lane is at least 2^inside."""
    for atom, _ in word.terms:
        if (atom.lo, atom.hi) == (0, 1):
            atom.test = Test(lane, (1 << inside) - constant)


def _part(whole: tuple[int, int], start: int, width: int, place: int) -> Word:
    lo, hi = (v >> start for v in whole)
    found = fresh(lo, hi) if hi < 1 << width else fresh(0, (1 << width) - 1)
    return _placed(found, place)


def _placed(word: Word, place: int) -> Word:
    return Word(parts=((1 << place, word),)) if place else word


def _clean(word: Word, end: int, atom: Word) -> Word:
    """Return the low bits of a word, which are proved to be all of what is meant by it."""
    found = Word(parts=((1, word),), known=end)
    found.clean, found.atom = True, atom
    return found


def _cut(word: Word, start: int, end: int, constant: int | None, *, signed: bool, known: int) -> Word:
    """Return the digits of all factors from bit `start` to `end`; of what is constant, the digit that is given.

    None: it has none below `start`.
    """
    cuts = (*((0,) if start else ()), start, end)
    terms: dict[Key, Factor] = {}
    for (atom, span), factor in word.flat.items():
        if atom is ONE and constant is not None:
            continue
        number = factor if isinstance(factor, int) else factor.get(None, 0)
        digits: dict[Data | None, int] = {None: _digits(number, cuts, signed)[-1]}
        for data, times in _data_in(factor):
            cut = data if times == 1 else data.then("mul", times & MASK)
            if signed:
                cut = cut.then("extend", end) if end < BITS else cut
                cut = cut.then("over", start) if start else cut
            else:
                cut = cut.then("shr", start) if start else cut
                cut = cut if end == BITS else cut.then("and", (1 << (end - start)) - 1)
            digits[cut] = digits.get(cut, 0) + 1
        terms[atom, span] = digits if len(digits) > 1 else digits[None] & MASK
    return Word(terms, ((1, literal(constant or 0)),), known)


def _operated(name: str, operand: int, words: Array) -> Array:
    match name:
        case "shr":
            return words >> operand
        case "and":
            return words & operand
        case "mul":
            return words * operand & MASK
        case "extend":
            return _extended(words, operand) & MASK
    return (_extended(words, BITS) + (1 << (operand - 1)) >> operand) & MASK


def _extended(words: Array, bits: int) -> Array:
    """Return the signed integers of some low bits."""
    half = 1 << (bits - 1)
    return (words + half & (1 << bits) - 1) - half


def _straddles(field: Field, place: tuple[int, int]) -> bool:
    """Return whether a lane lies partly at a place, or starts at another bit of it."""
    return field.start < place[1] and place[0] < field.end and (field.start != place[0] or field.end > place[1])


def _merged(fields: Sequence[Field]) -> Word:
    """Return lanes that hold the bits of several, where they lie in each other's."""
    total: list[tuple[int, Word]] = []
    start, end = fields[0].start, fields[0].end
    for field in fields[1:]:
        if field.start >= end:
            total.append((1 << start, fresh(0, (1 << (end - start)) - 1)))
            start = field.start
        end = max(end, field.end)
    total.append((1 << start, fresh(0, (1 << (end - start)) - 1)))
    return Word(parts=total)


def _shown(value: int) -> str:
    return str(value) if abs(value) < 1 << 64 else f"{'-' if value < 0 else ''}2^{abs(value).bit_length() - 1} or more"
