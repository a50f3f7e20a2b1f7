"""Steps that act on all lanes of a word at once: the greater of two, and what ends a sum (Relu, Requantize, Clip).

Lanes may be any places of a word, a pitch apart. What lies between them, or beside them, neither matters nor is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ml2sc.ir.program import (
    Assign,
    Block,
    Expr,
    Let,
    OpCode,
    Statement,
    Var,
    add,
    and_,
    binary,
    const,
    mul,
    or_,
    shl,
    shr,
    sub,
)

from .epilogue import Epilogue

_xor = binary(OpCode.XOR)


def spread(value: int, pitch: int, lanes: Sequence[int]) -> int:
    """Return a word with a value in each of some lanes (and, if it is negative, borrows between them)."""
    return sum(value << (pitch * lane) for lane in lanes) & ((1 << 256) - 1)


def greater(kept: str, other: Expr, pitch: int, lanes: Sequence[int]) -> Statement:
    """Return the statement kept = max(kept, other), lane by lane.

    Both are sums of lanes · 2^(pitch · lane), lanes of either sign; obligation: two that meet are less than
    2^(pitch − 1) apart. Only the difference is taken apart, and it is made non-negative first.
    """
    half = 1 << (pitch - 1)
    difference = sub(add(Var("other"), const(spread(half, pitch, lanes))), Var(kept))
    says = and_(shr(pitch - 1, Var("more")), const(spread(1, pitch, lanes)))
    more = add(and_(Var("more"), mul(says, const(half - 1))), Var(kept))
    # a long sum first, on its own: nothing else is above the words it reads, then
    return Block((Let("other", other), Let("more", difference), Assign(kept, more)))


@dataclass(frozen=True, slots=True)
class Ending:
    """What happens to sums that stand in lanes, and where the results go.

    Attributes:
        epilogue: Relu, Requantize and Clip.
        pitch: Bits from lane to lane.
        lanes: Where results are, in the word that is stored.
        fill: What the lanes `rim` of that word hold.
        rim: Lanes of the word that hold `fill`.
        down: How many lanes lower results are than sums (if negative: higher).
    """

    epilogue: Epilogue
    pitch: int
    lanes: Sequence[int]
    fill: int = 0
    rim: Sequence[int] = ()
    down: int = 0

    @property
    def half(self) -> int:
        """What is added to every sum, besides the epilogue's constant, to make it non-negative."""
        return 1 << (self.epilogue.proved_bits - 1) if self.epilogue.clamps_below else 0

    def word(self, name: str) -> tuple[list[Statement], Expr]:
        """Return statements, and the word to store, of a variable's sums, `half` and the epilogue's constant added."""
        e = self.epilogue
        body: list[Statement] = []
        keep: Expr | None = None
        if e.clamps_below:
            keep = and_(self._down(name, e.proved_bits - 1), self._ones(1))
        bits = e.quotient_bits
        quotient = self._down(name, e.shift)
        if not e.clamps_above:
            mask = self._ones((1 << bits) - 1) if keep is None else mul(keep, const((1 << bits) - 1))
            return body, self._filled(and_(quotient, mask))
        body.append(Let("q", and_(quotient, self._ones((1 << bits) - 1))))
        over = and_(shr(bits, add(Var("q"), self._ones((1 << bits) - 1 - e.top))), self._ones(1))
        width = e.top.bit_length()
        if e.top == (1 << width) - 1:
            result = or_(Var("q"), mul(over, const(e.top)))
        else:
            body.append(Let("over", over))
            body.append(Let("full", mul(Var("over"), const((1 << bits) - 1))))
            kept = _xor(or_(Var("q"), Var("full")), Var("full"))
            result = add(kept, mul(Var("over"), const(e.top)))
        mask = self._ones((1 << width) - 1) if keep is None else mul(keep, const((1 << width) - 1))
        return body, self._filled(and_(result, mask))

    def _down(self, name: str, bits: int) -> Expr:
        """Return the sums' word so shifted that bit `bits` of each lane is the lowest of its result."""
        shift = self.pitch * self.down + bits
        return shr(shift, Var(name)) if shift >= 0 else shl(-shift, Var(name))

    def _ones(self, value: int) -> Expr:
        return const(spread(value, self.pitch, self.lanes))

    def _filled(self, word: Expr) -> Expr:
        return add(word, const(spread(self.fill, self.pitch, self.rim)))
