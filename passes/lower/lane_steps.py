"""Steps that act on all lanes of a word at once: the greater of two, and what ends a sum (Relu, Requantize, Clip).

Lanes may be any places of a word, a pitch apart. What lies between them, or beside them, neither matters nor is kept.
"""

from __future__ import annotations

import itertools
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
class Factors:
    """What lanes that are clamped below are multiplied by: u = min(floor((v·multiplier + rest) / 2^shift), top).

    Attributes:
        multiplier: The same for all lanes of a word.
        rest: Likewise.
        shift: See above.
        product_bits: Of a product and its rest, at most.
        most: The greatest u before the minimum is taken.
        top: See above.
    """

    multiplier: Expr
    rest: Expr
    shift: int
    product_bits: int
    most: int
    top: int

    @property
    def bits(self) -> int:
        """Bits that a lane must have for u, and to find out whether it is above the top."""
        return self.most.bit_length() + (self.most > self.top)

    def dealt(self, places: Sequence[int]) -> list[Sequence[int]]:
        """Return the places of lanes, dealt out to as few words as give each product room."""
        for ways in range(1, len(places) + 1):
            runs = [places[way::ways] for way in range(ways)]
            if all(self._have_room(run) for run in runs):
                return runs
        raise ValueError("a product has no room in a word")

    def _have_room(self, run: Sequence[int]) -> bool:
        apart = all(after - place >= self.product_bits for place, after in itertools.pairwise(run))
        return apart and run[-1] - run[0] + self.product_bits <= _WORD


_WORD = 256


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
        factors: What the results are multiplied by in the end.
        clears: Whether negative lanes become 0 before anything else, and not with the last step: that takes a few
            operations more, and the verifier can follow it.
    """

    epilogue: Epilogue
    pitch: int
    lanes: Sequence[int]
    fill: int = 0
    rim: Sequence[int] = ()
    down: int = 0
    factors: Factors | None = None
    clears: bool = False

    @property
    def half(self) -> int:
        """What is added to every sum, besides the epilogue's constant, to make it non-negative."""
        return 1 << (self.epilogue.proved_bits - 1) if self.epilogue.clamps_below else 0

    def word(self, name: str) -> tuple[list[Statement], Expr]:
        """Return statements, and the word to store, of a variable's sums, `half` and the epilogue's constant added."""
        e = self.epilogue
        body: list[Statement] = []
        keep: Expr | None = None
        if e.clamps_below and self.clears:
            above = e.proved_bits - 1
            body.append(Let("keep", and_(shr(above, Var(name)), self._ones(1))))
            body.append(Assign(name, and_(Var(name), sub(shl(above, Var("keep")), Var("keep")))))
        elif e.clamps_below:
            keep = and_(self._down(name, e.proved_bits - 1), self._ones(1))
        bits = e.quotient_bits
        quotient = self._down(name, e.shift)
        if not e.clamps_above:
            mask = self._ones((1 << bits) - 1) if keep is None else mul(keep, const((1 << bits) - 1))
            return self._multiplied(body, and_(quotient, mask), bits)
        body.append(Let("q", and_(quotient, self._ones((1 << bits) - 1))))
        steps, result = self._at_most(e.top, "q", bits)
        body += steps
        width = e.top.bit_length()
        mask = self._ones((1 << width) - 1) if keep is None else mul(keep, const((1 << width) - 1))
        return self._multiplied(body, and_(result, mask), width)

    def _at_most(self, top: int, name: str, bits: int) -> tuple[list[Statement], Expr]:
        """Return statements, and the lanes of a variable of so many bits, or the top where they are above.

        Bits that the top has not are to be masked away.
        """
        over = and_(shr(bits, add(Var(name), self._ones((1 << bits) - 1 - top))), self._ones(1))
        if top == (1 << top.bit_length()) - 1:
            return [], or_(Var(name), mul(over, const(top)))
        body: list[Statement] = [Let("over", over), Let("full", mul(Var("over"), const((1 << bits) - 1)))]
        kept = _xor(or_(Var(name), Var("full")), Var("full"))
        return body, add(kept, mul(Var("over"), const(top)))

    def _multiplied(self, body: list[Statement], word: Expr, bits: int) -> tuple[list[Statement], Expr]:
        """Return the statements and the word to store of clamped lanes of so many bits."""
        factors = self.factors
        if factors is None or not self.lanes:  # no lane: a phase of a row that has fewer pixels than phases
            return body, self._filled(word)
        body = [*body, Let("u", word)]
        parts: list[Expr] = []
        for run in factors.dealt([self.pitch * lane for lane in self.lanes]):
            places = [place - run[0] for place in run]
            dealt = shr(run[0], Var("u"))
            if len(run) < len(self.lanes):
                dealt = and_(dealt, const(_every(places, bits)))
            rests = mul(factors.rest, const(_every(places, 1)))
            scaled = shr(factors.shift, add(mul(dealt, factors.multiplier), rests))
            parts.append(shl(run[0], and_(scaled, const(_every(places, factors.most.bit_length())))))
        total = parts[0]
        for part in parts[1:]:
            total = or_(part, total)
        if factors.most <= factors.top:
            return body, self._filled(total)
        steps, result = self._at_most(factors.top, "w", factors.most.bit_length())
        mask = self._ones((1 << factors.top.bit_length()) - 1)
        return [*body, Let("w", total), *steps], self._filled(and_(result, mask))

    def _down(self, name: str, bits: int) -> Expr:
        """Return the sums' word so shifted that bit `bits` of each lane is the lowest of its result."""
        shift = self.pitch * self.down + bits
        return shr(shift, Var(name)) if shift >= 0 else shl(-shift, Var(name))

    def _ones(self, value: int) -> Expr:
        return const(spread(value, self.pitch, self.lanes))

    def _filled(self, word: Expr) -> Expr:
        return add(word, const(spread(self.fill, self.pitch, self.rim)))


def _every(places: Sequence[int], bits: int) -> int:
    """Return a word with `bits` ones at each place."""
    return sum(((1 << bits) - 1) << place for place in places)
