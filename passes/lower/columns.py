"""Trees that ask few different questions, many at once: what each adds for the same answers is a lane of a word.

Each answer is spread over its tree's lane. What a tree adds is a polynomial in these bits, sums being exclusive ors and
products ands: of d questions 2^d literals, with an and and an exclusive or for each. `lookup` takes that for each tree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from ml2sc.ir.program import (
    Assign,
    Block,
    Expr,
    If,
    Let,
    Note,
    OpCode,
    Statement,
    Var,
    add,
    and_,
    binary,
    const,
    mul,
    shl,
    shr,
)

from .grid import dealt, in_order, ones, total_of_lanes
from .network import Place

_xor = binary(OpCode.XOR)
_WORD = 256


@dataclass(frozen=True)
class Columns:
    """The columns of an ensemble's tables.

    Attributes:
        places: By tree: where in the code the answer to each of its questions is.
        values: By tree: what it adds, by the number that its answers are; None for answers that cannot be.
        shifts: By tree: by how much that is to be shifted to the left.
        bits: Of a lane, a power of two: an entry fits it.
        trees: Which of the trees.
        code: The words of the code.
    """

    places: Sequence[Sequence[Place]]
    values: Sequence[Sequence[int | None]]
    shifts: Sequence[int]
    bits: int
    trees: Sequence[int]
    code: Sequence[Expr]

    @property
    def lanes(self) -> int:
        """Lanes of a word."""
        return _WORD // self.bits

    @property
    def fits(self) -> bool:
        """Whether two lanes of all words can be added up in the room of two, and a tree's answers lie in its lane."""
        return bool(self._most) and self._most <= self.bits < _WORD and self._highest < 1 << 2 * self.bits

    @property
    def _most(self) -> int:
        """Questions of a tree at most."""
        return max((len(self.places[tree]) for tree in self.trees), default=0)

    @property
    def _highest(self) -> int:
        """What two lanes of all words may add up to."""
        return 2 * len(self.trees) * ((1 << self.bits) - 1)

    def statements(self) -> list[Statement]:
        """Return what adds up the trees, but for what `total` does."""
        text = f"{self.lanes} trees in a word: their answers, put in order; what each adds; sums."
        body: list[Statement] = [Note(text), *(Let(_sum(shift), const(0)) for shift in self._groups)]
        return [*body, *(Block(tuple(self._word(number, *word))) for number, word in enumerate(self._words))]

    def total(self, body: list[Statement]) -> Expr:
        """Return the sum of all trees, given what `statements` have left; what that takes goes to `body`."""
        found: Expr = const(0)
        for shift in self._groups:
            lanes = self.lanes // 2
            own = total_of_lanes(_sum(shift), 2 * self.bits, self._highest, lanes, lanes, body)
            found = add(shl(shift, own), found)
        return found

    @cached_property
    def _groups(self) -> dict[int, list[int]]:
        """The trees by how much they are shifted."""
        groups: dict[int, list[int]] = {}
        for tree in self.trees:
            groups.setdefault(self.shifts[tree], []).append(tree)
        return groups

    @cached_property
    def _words(self) -> list[tuple[int, list[list[int]]]]:
        """Words of answers: how much their trees are shifted, and sets of these, each of which has a lane.

        Trees of a word are those whose bits are gathered by few terms, and of a set those to which like answers cannot
        be given.
        """
        room = self.bits // self._most * self.lanes
        found = []
        for shift, trees in self._groups.items():
            sizes = [len(trees[first : first + room]) for first in range(0, len(trees), room)]
            for word in dealt(tuple(tuple(enumerate(self.places[t])) for t in trees), tuple(sizes), self._most):
                own = sorted((trees[place] for place in word), key=lambda tree: [v is None for v in self.values[tree]])
                found.append((shift, [own[at : at + self.lanes] for at in range(0, len(own), self.lanes)]))
        return found

    def _word(self, place: int, shift: int, sets: Sequence[Sequence[int]]) -> Iterator[Statement]:
        wanted: dict[int, Place] = {}
        for number, trees in enumerate(sets):
            for lane, tree in enumerate(trees):
                first = self.bits * lane + self._most * number
                wanted |= {first + bit: place for bit, place in enumerate(self.places[tree])}
        gather, *stages = in_order(wanted, self.code)
        # some answer is yes, nearly always: but code between two jumps keeps fewer values, as in `grid`
        yield from [gather, If(Var("asked"), tuple(stages), share=1.0)] if place and stages else [gather, *stages]
        half = ones(2 * self.bits, self.lanes // 2) * ((1 << self.bits) - 1)
        for number, trees in enumerate(sets):
            levels = max(len(self.places[tree]) for tree in trees)
            answers = []
            for level in range(levels):
                bit = and_(shr(self._most * number + level, Var("asked")), const(ones(self.bits, self.lanes)))
                answers.append(Let(f"answer{number}_{level}", mul(bit, const((1 << self.bits) - 1))))
            chosen, all_ = f"chosen{number}", Var(_sum(shift))
            value = _horner(self._coefficients(trees, levels), [Var(answer.name) for answer in answers])
            pairs = add(and_(Var(chosen), const(half)), and_(shr(self.bits, Var(chosen)), const(half)))
            yield Block((*answers, Let(chosen, value), Assign(_sum(shift), add(pairs, all_))))

    def _coefficients(self, trees: Sequence[int], levels: int) -> list[int]:
        """Return the words of the polynomial that is what each tree adds, by the answers of a product.

        What a tree adds for answers that cannot be is such that there the word has zeros.
        """
        words = [0] * (1 << levels)
        for lane, tree in enumerate(trees):
            own = self.values[tree]
            for number, word in enumerate(polynomial([own[n] if n < len(own) else None for n in range(1 << levels)])):
                words[number] |= word << self.bits * lane
        return words


def polynomial(values: Sequence[int | None]) -> list[int]:
    """Return the coefficients of a polynomial in bits of which sums are exclusive ors and products ands.

    Args:
        values: By the number that the bits are: what it is; None: anything.

    Returns:
        By the number that the bits of a product are: its coefficient.
    """
    found = [0] * len(values)
    for number, value in enumerate(values):
        lesser = 0
        part = number
        while part:
            part = (part - 1) & number
            lesser ^= found[part]
        found[number] = 0 if value is None else value ^ lesser
    return found


def _horner(words: Sequence[int], answers: Sequence[Expr]) -> Expr:
    """Return the polynomial with some coefficients."""
    if not answers:
        return const(words[0])
    least, rest = words[: len(words) // 2], words[len(words) // 2 :]
    if not any(rest):
        return _horner(least, answers[:-1])
    product = and_(answers[-1], _horner(rest, answers[:-1]))
    return _xor(product, _horner(least, answers[:-1])) if any(least) else product


def _sum(shift: int) -> str:
    return f"lanes{shift}"
