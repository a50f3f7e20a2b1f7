"""The thermometer code of inputs that only trees read: made of WAD values, and refused where it is none."""

from __future__ import annotations

from ml2sc.ir.program import (
    Apply,
    Assign,
    Expr,
    Fail,
    If,
    InputFormat,
    Let,
    LoadInput,
    Note,
    OpCode,
    Statement,
    StoreInput,
    Var,
    WadInput,
    add,
    and_,
    const,
    gt,
    or_,
    sgt,
    shr,
    sub,
)
from ml2sc.ir.thermometer import Code, Ladder

from .context import DraftSection, Lowering

MALFORMED = "MalformedInput"
"""The error of a packed input that no elements have; its argument is the number of the 32-byte word."""

_BYTES = 32
_ANY = (-(1 << 255), (1 << 255) - 1)
_MOST_VARIABLES = 6
"""Words of the code that are kept in variables; of more, each bit is read where it is asked for."""


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

    def start(self) -> list[Statement]:
        """Return statements that read the code, and refuse one that no elements have."""
        words = range(self.code.words)
        lets = [Let(f"code{j}", LoadInput(const(_BYTES * j))) for j in words] if self._kept else []
        tests = [(j, test) for j in words for test in self._tests(j)]
        if not tests:
            return list(lets)
        wrong = tests[-1][1]
        for _, test in reversed(tests[:-1]):
            wrong = or_(test, wrong)
        told: list[Statement] = [If(test, (Fail(MALFORMED, (const(j),)),)) for j, test in tests[:-1]]
        told.append(Fail(MALFORMED, (const(tests[-1][0]),)))
        note = "In each field the lowest bits are set and no others: adding 1 to it carries out of them all."
        return [*lets, Note(note), If(wrong, tuple(told))]

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


def quantize_code(context: Lowering, quantize: DraftSection, code: Code) -> InputFormat:
    """Emit what turns WAD values into the code."""
    graph = context.graph
    ladders = [(ladder, i) for n in graph.inputs for ladder in (graph.ladders[n],) for i in range(len(ladder.edges))]
    body = quantize.body
    body.append(
        Note("x / 10^18, as a float, exceeds an edge if x is greater than the edge's number: a bit is set for each.")
    )
    body += [Let(f"code{j}", const(0)) for j in range(code.words)]
    for element, (ladder, index) in enumerate(ladders):
        fields = [f for f in code.fields if f.element == element]
        if fields:
            body.append(Let(f"x{element}", WadInput(const(element))))
        for field in fields:
            count = _exceeded(Var(f"x{element}"), ladder, index, field.ranks)
            name = f"code{field.word}"
            one = Apply(OpCode.SHL, (count, const(1 << field.bit)))
            body.append(Assign(name, add(Var(name), sub(one, const(1 << field.bit)))))
    for j in range(code.words):
        width = _BYTES - code.last_shift(j) // 8
        body.append(StoreInput(const(_BYTES * j), width, Var(f"code{j}")))
    if not code.words:
        body.append(StoreInput(const(0), code.length, const(0)))
    return InputFormat(len(ladders), _BYTES, False, (_ANY,) * len(ladders), code.length)


def _exceeded(x: Expr, ladder: Ladder, index: int, ranks: tuple[int, ...]) -> Expr:
    """Return how many edges of a field x exceeds."""
    wads = ladder.wads()[index]
    total: Expr | None = None
    for rank in ranks:
        test = sgt(x, const(wads[rank]))
        total = test if total is None else Apply(OpCode.ADD, (test, total))
    assert total is not None
    return total


__all__ = ["MALFORMED", "Bits", "quantize_code"]
