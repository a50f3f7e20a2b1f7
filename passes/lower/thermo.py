"""The thermometer code of inputs that only trees read: made of WAD values, and refused where it is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ml2sc.ir.graph import Graph
from ml2sc.ir.program import (
    Apply,
    Assign,
    Expr,
    Fail,
    If,
    InputFormat,
    Let,
    Load,
    LoadInput,
    Note,
    OpCode,
    Statement,
    Store,
    StoreInput,
    Var,
    WadInput,
    add,
    and_,
    const,
    gt,
    lt,
    mul,
    or_,
    sgt,
    shl,
    shr,
    sub,
)
from ml2sc.ir.thermometer import Code, Ladder, RankCode

from .context import DraftSection, Lowering
from .elementwise import at_least, at_most
from .floats import ranks_by_halves, ranks_by_table

MALFORMED = "MalformedInput"
"""The error of a packed input that no elements have; its argument is the 32-byte word's number, or the element's."""

_BYTES = 32
_WORD = 256
_ANY = (-(1 << 255), (1 << 255) - 1)
_ASKED_TOGETHER = 8
"""Ranks that are asked together whether they are too great: of 20 that wait for that venom has no room for the last."""
_MOST_VARIABLES = 6
"""Words of the code that are kept in variables; of more, each bit is read where it is asked for."""


class Questions(Protocol):
    """What trees ask of the packed input."""

    def start(self, words: int) -> list[Statement]:
        """Return statements that read the code, and refuse one that no elements have.

        Args:
            words: Of the buffer that ranks are in.
        """

    def again(self) -> list[Statement]:
        """Return statements that read the code in a section after the one that has refused what is none."""

    def above(self, element: int, rank: int, *, up: bool) -> Expr:
        """Return a word whose lowest bit says whether an element exceeds an edge; others may be set."""


class Bits:
    """The bits of a section's code.

    Args:
        code: The code.
    """

    def __init__(self, code: Code) -> None:
        self.code = code
        self._place = code.place()
        self._kept = code.words <= _MOST_VARIABLES

    def word(self, number: int) -> Expr:
        """Return a word, its last byte that of the packed input or a zero after it."""
        return Var(f"code{number}") if self._kept else LoadInput(const(_BYTES * number))

    def at(self, element: int, rank: int, *, up: bool) -> tuple[int, int]:
        """Return the number of the word, and the bit in it, that says whether an element exceeds an edge."""
        word, bit = self._place[element, up, rank]
        return word, bit + self.code.last_shift(word)

    def above(self, element: int, rank: int, *, up: bool) -> Expr:
        """Return a word whose lowest bit says whether an element exceeds an edge."""
        word, bit = self.at(element, rank, up=up)
        return shr(bit, self.word(word))

    def start(self, words: int) -> list[Statement]:
        """Return statements that read the code, and refuse one that no elements have."""
        lets = self.again()
        tests = [(j, test) for j in range(self.code.words) for test in self._tests(j)]
        if not tests:
            return lets
        note = "In each field the lowest bits are set and no others: adding 1 to it carries out of them all."
        return [*lets, Note(note), _refused(tests)]

    def again(self) -> list[Statement]:
        """Return statements that read the code."""
        words = range(self.code.words) if self._kept else ()
        return [Let(f"code{j}", LoadInput(const(_BYTES * j))) for j in words]

    def _tests(self, number: int) -> list[Expr]:
        """Return expressions that are not 0 if a word is malformed."""
        code, shift = self.code, self.code.last_shift(number)
        mask = (1 << 256) - 1
        unused = ~(code.used(number) << shift) & mask
        word = self.word(number)
        tests = [and_(word, or_(add(word, const(code.lowest(number) << shift)), const(unused)))]
        for before, field in zip(code.fields, code.fields[1:], strict=False):
            if field.follows and field.word == number:
                last = before.bit + len(before.ranks) - 1 + code.last_shift(before.word)
                full = and_(shr(last, self.word(before.word)), const(1))
                tests.append(gt(and_(shr(field.bit + shift, word), const(1)), full))
        return tests


def _refused(tests: Sequence[tuple[int, Expr]]) -> Statement:
    """Return what reverts if any of some tests is not 0, naming the number of the first."""
    wrong = tests[-1][1]
    for _, test in reversed(tests[:-1]):
        wrong = or_(test, wrong)
    last: Expr = const(tests[-1][0])
    if len(tests) == 1:
        return If(wrong, (Fail(MALFORMED, (last,)),))
    told = [If(test, (Assign("wrong", const(number)),)) for number, test in reversed(tests[:-1])]
    return If(wrong, (Let("wrong", last), *told, Fail(MALFORMED, (Var("wrong"),))))


class Ranks:
    """Ranks, a word each in a buffer.

    Args:
        code: The code.
        ladders: By element of all inputs: its ladder, and its place there.
        buffer: Name of the buffer.
        limits: Name of a buffer that begins with the greatest rank of each element, where these may change; None: they
            are in the code.
    """

    def __init__(
        self, code: RankCode, ladders: Sequence[tuple[Ladder, int]], buffer: str, limits: str | None = None
    ) -> None:
        self.code, self.buffer, self.limits = code, buffer, limits
        sides = [
            (element, up)
            for element in code.elements
            for ladder, index in (ladders[element],)
            for up, ranks in _sides(ladder, index)
            if ranks
        ]
        self.places = {side: place for place, side in enumerate(sides)}

    def tops(self) -> list[int]:
        """Return words of the greatest rank of each element, from the lowest bits up: what a buffer of them holds."""
        per, tops = _WORD // _TOP_BITS, self.code.tops
        return [
            sum(top << _TOP_BITS * place for place, top in enumerate(tops[at : at + per]))
            for at in range(0, len(tops), per)
        ]

    def _top(self, position: int) -> Expr:
        if self.limits is None:
            return const(self.code.tops[position])
        word, place = divmod(position, _WORD // _TOP_BITS)
        return and_(shr(_TOP_BITS * place, Load(self.limits, const(word))), const((1 << _TOP_BITS) - 1))

    @property
    def bits(self) -> int:
        """Bits of the number of a word."""
        return max((len(self.places) - 1).bit_length(), 1)

    def above(self, element: int, rank: int, *, up: bool) -> Expr:
        """Return 1 if an element exceeds an edge, else 0."""
        return gt(Load(self.buffer, const(self.places[element, up])), const(rank))

    def again(self) -> list[Statement]:
        """Return nothing: the ranks are in the buffer."""
        return []

    def start(self, words: int) -> list[Statement]:
        """Return statements that read the ranks, and refuse one that is too great; zeros follow them in the buffer."""
        code = self.code
        body: list[Statement] = [Note("A rank for each element.")]
        for first in range(0, len(code.elements), _ASKED_TOGETHER):
            tests = []
            for position, element in list(enumerate(code.elements))[first : first + _ASKED_TOGETHER]:
                rank, top = Var(f"rank{position}"), self._top(position)
                body.append(Let(rank.name, shr(_WORD - 8 * code.width, LoadInput(const(code.width * position)))))
                for up in (True, False):
                    if (element, up) in self.places:
                        # one that is missing exceeds every edge, or none
                        value = rank if up else mul(rank, lt(rank, top))
                        body.append(Store(self.buffer, const(self.places[element, up]), value))
                tests.append((element, gt(rank, top)))
            body.append(_refused(tests))
        return body + [Store(self.buffer, const(place), const(0)) for place in range(len(self.places), words)]


def _sides(ladder: Ladder, index: int) -> tuple[tuple[bool, object], ...]:
    """Return, for either side of a missing element, whether nodes that look at an element are, or may be, of it."""
    if ladder.room is not None:
        return (True, ladder.room.up), (False, ladder.room.down)
    return (True, ladder.up[index]), (False, ladder.down[index])


_TOP_BITS = 32
"""Of the greatest rank of an element, in a word of them."""


def element_ladders(graph: Graph) -> list[tuple[Ladder, int]]:
    """Return, by element of all inputs, its ladder and its place there."""
    return [(ladder, i) for n in graph.inputs for ladder in (graph.ladders[n],) for i in range(len(ladder.edges))]


def quantize_code(context: Lowering, quantize: DraftSection, code: Code | RankCode) -> InputFormat:
    """Emit what turns WAD values into the code."""
    ladders = element_ladders(context.graph)
    body = quantize.body
    ranks = _ranks(context, quantize, ladders)
    form = InputFormat(len(ladders), _BYTES, False, (_ANY,) * len(ladders), code.length)
    if isinstance(code, RankCode):
        for position, element in enumerate(code.elements):
            body.append(StoreInput(const(code.width * position), code.width, ranks.get(element, const(0))))
        body += [StoreInput(const(0), 1, const(0))] if not code.elements else []
        return form
    for j in range(code.words):
        # a word after the other: of all at once the compiler would hold more than it has room for
        body.append(Let(f"code{j}", const(0)))
        for position, field in enumerate(code.fields):
            if field.word != j:
                continue
            whole = len(ladders[field.element][0].edges[ladders[field.element][1]])
            statements, count = _set(f"count{position}", ranks[field.element], field.ranks, whole)
            body += statements
            bits = sub(Apply(OpCode.SHL, (count, const(1))), const(1))
            body.append(Assign(f"code{j}", add(Var(f"code{j}"), shl(field.bit, bits))))
        body.append(StoreInput(const(_BYTES * j), _BYTES - code.last_shift(j) // 8, Var(f"code{j}")))
    if not code.words:
        body.append(StoreInput(const(0), code.length, const(0)))
    return form


def _set(name: str, rank: Expr, ranks: tuple[int, ...], edges: int) -> tuple[list[Statement], Expr]:
    """Return statements, and how many bits of a field are set then.

    Args:
        name: For a variable.
        rank: The element's rank.
        ranks: Those of the field's edges.
        edges: How many edges the element has.
    """
    first, count = ranks[0], len(ranks)
    if count == edges:
        return [], rank
    if ranks == tuple(range(first, first + count)):
        lets = [Let(name, sub(rank, const(first))), at_least(name, const(0)), at_most(name, const(count))]
        return lets, Var(name)
    total: Expr = const(0)
    for own in ranks:
        total = Apply(OpCode.ADD, (gt(rank, const(own)), total))
    return [Let(name, total)], Var(name)


_Element = tuple[Ladder, int]
"""A ladder, and which of its elements."""


def _ranks(context: Lowering, quantize: DraftSection, ladders: Sequence[_Element]) -> dict[int, Expr]:
    """Emit the ranks of the elements that have edges, and return where they are."""
    room = ladders[0][0].room
    if room is not None and room.edges:
        return ranks_by_halves(context, quantize, ladders, room)
    asked = [(number, *element) for number, element in enumerate(ladders) if element[0].edges[element[1]]]
    if sum(len(ladder.edges[index]) for _, ladder, index in asked) <= _WRITTEN_OUT:
        note = "x / 10^18, as a float, exceeds an edge if x is greater than the number here."
        quantize.body.append(Note(note))
        for number, ladder, index in asked:
            quantize.body.append(Let(f"x{number}", WadInput(const(number))))
            total: Expr = const(0)
            for wad in ladder.wads()[index]:
                total = Apply(OpCode.ADD, (sgt(Var(f"x{number}"), const(wad)), total))
            quantize.body.append(Let(f"rank{number}", total))
        return {number: Var(f"rank{number}") for number, _, _ in asked}
    return ranks_by_table(context, quantize, [(number, ladder, index) for number, ladder, index in asked])


_WRITTEN_OUT = 40
"""Edges that WAD values are compared with in the code: of more there is a table."""
__all__ = ["MALFORMED", "Bits", "Questions", "Ranks", "element_ladders", "quantize_code"]
