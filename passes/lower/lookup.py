"""Trees that ask few different questions: the answers, side by side, are the place of what the tree adds in a table.

CatBoost's trees are so: all forks of a level ask the same, d questions for 2^d leaves. Answers are brought side by side
as in `grid`: a lane of bits is a tree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from itertools import islice, pairwise

from ml2sc.ir.program import (
    CONTRACT_WORDS,
    Apply,
    Assign,
    Block,
    CopySegment,
    Expr,
    If,
    Let,
    Load,
    Note,
    OpCode,
    Segment,
    Statement,
    Storage,
    Var,
    add,
    and_,
    binary,
    const,
    field_of,
    or_,
    shl,
    shr,
)
from ml2sc.ir.thermometer import Question, questions
from ml2sc.ir.trees import Ensemble, Fork, Leaf

from .grid import dealt, in_order
from .network import Place

_xor = binary(OpCode.XOR)
_WORD = 256
_LEAST_LANE = 4
"""Bits of a lane at least: of less there would be more trees in a word than a compiler can keep apart."""
_TOGETHER = 10
"""Trees that are looked up between two jumps, where they are few: venom has room for some 12 places."""


def answers(ensemble: Ensemble, root: int) -> tuple[list[Question], list[Leaf | None]]:
    """Return a tree's questions, and the leaf for each way to answer them: bit n of its number is the n-th answer.

    There is no leaf where an edge is exceeded and a lesser one of the same element is not. The questions that come last
    are about the element that is asked about most: a word of a table is then of answers that cannot be.
    """
    asked = questions(ensemble, root)
    times = Counter((feature, up) for feature, _, up in asked)
    asked.sort(key=lambda question: (times[question[0], question[2]], question[0], question[2], question[1]))
    place = {question: bit for bit, question in enumerate(asked)}
    among = [(a, b) for a, b in pairwise(asked) if (a[0], a[2]) == (b[0], b[2])]
    found: list[Leaf | None] = []
    for number in range(1 << len(asked)):
        if any(number >> place[greater] & 1 > number >> place[lesser] & 1 for lesser, greater in among):
            found.append(None)
            continue
        node = ensemble.nodes[root]
        while isinstance(node, Fork):
            bit = place[node.feature, node.edges[0], node.up]
            node = ensemble.nodes[node.odd if number >> bit & 1 else node.even]
        found.append(node)
    return asked, found


@dataclass(frozen=True)
class Lookup:
    """The tables of an ensemble.

    Attributes:
        places: By tree: where in the code the answer to each of its questions is.
        values: By tree: what it adds, by the number that its answers are.
        shifts: By tree: by how much that is to be shifted to the left.
        code: The words of the code.
        name: Of tables, and what buffers' names begin with.
        fields: Whether entries of tables in memory lie so that a target with memory in bytes reads one alone: the first
            at the top of its word; else it is the lowest, which takes a step less where words are read.
        apart: Whether a word follows the tables, so that an entry may be read as the first bytes of one wherever it is,
            and trees are looked up a few between two jumps: a compiler that finds the places of all entries between two
            jumps before it reads the first has room for those of a few.
        literal: Whether tables of several words are literals, too. A tree's are all shifted to the right, so that the
            entry is the lowest of one: the others are shifted by more than a word, which leaves nothing.
    """

    places: Sequence[Sequence[Place]]
    values: Sequence[Sequence[int]]
    shifts: Sequence[int]
    code: Sequence[Expr]
    name: str
    fields: bool = False
    apart: bool = False
    literal: bool = False

    @property
    def lane(self) -> int:
        """Bits of a tree's lane."""
        return max(self._most, _LEAST_LANE)

    @property
    def _most(self) -> int:
        """Questions of a tree at most."""
        return max(map(len, self.places))

    @cached_property
    def bits(self) -> int:
        """Bits of an entry of a table, a power of two."""
        most = max(value for own in self.values for value in own)
        return max(1 << (max(most.bit_length(), 1) - 1).bit_length(), 8)

    @property
    def stride(self) -> int:
        """Words of a tree's table."""
        return max((self.bits << self._most) // _WORD, 1)

    @property
    def fits(self) -> bool:
        """Whether an entry fits a word, and a tree's table a data contract."""
        return self.bits <= _WORD and self.stride <= CONTRACT_WORDS

    def of(self, trees: Sequence[int]) -> Lookup:
        """Return the tables of some of the trees."""
        places, values = [self.places[tree] for tree in trees], [self.values[tree] for tree in trees]
        return replace(self, places=places, values=values, shifts=[self.shifts[tree] for tree in trees])

    @property
    def _chunk(self) -> int:
        """Trees whose tables are together in a data contract."""
        return (CONTRACT_WORDS - self.apart) // self.stride

    def _table(self, tree: int) -> Iterator[int]:
        per = _WORD // self.bits
        own = list(self.values[tree])
        if self.fields:  # beside the answers of a tree that asks less than others are any bits: its table comes again
            own *= 1 << self._most - len(self.places[tree])
        for first in range(0, self.stride * per, per):
            word = own[first : first + per]
            yield sum(value << self.bits * place for place, value in enumerate(word[::-1] if self.fields else word))

    def _chunks(self) -> Iterator[tuple[str, range]]:
        if self.stride > 1 and not self.literal:
            for number, first in enumerate(range(0, len(self.values), self._chunk)):
                yield f"{self.name}_table{number}", range(first, min(first + self._chunk, len(self.values)))

    def segments(self) -> dict[str, Segment]:
        """Return the tables that are no literals."""
        found = {}
        for name, trees in self._chunks():
            words = (*(word for tree in trees for word in self._table(tree)), *((0,) if self.apart else ()))
            found[name] = Segment(words, Storage.DATA, len(words))
        return found

    def buffers(self) -> dict[str, int]:
        """Return the words of the buffers that they are copied to."""
        return {name: len(trees) * self.stride + self.apart for name, trees in self._chunks()}

    def statements(self) -> list[Statement]:
        """Return what adds up all trees in `sum0`."""
        body: list[Statement] = [
            Note("The answers of each tree, side by side, are the place in its table of what it adds."),
        ]
        buffers: dict[int, tuple[str, int]] = {}
        for name, trees in self._chunks():
            words = len(trees) * self.stride + self.apart
            body.append(CopySegment(name, const(0), words, name))
            buffers |= {tree: (name, position * self.stride) for position, tree in enumerate(trees)}
        body.append(Let("sum0", const(0)))
        for own in self._deal:
            # the first tree's place in its table is where it is wanted, then: it is not shifted
            first = self._step if self.lane * len(own) + self._step <= _WORD else 0
            bits = {tree: first + self.lane * position for position, tree in enumerate(own)}
            wanted = {bits[tree] + bit: place for tree in own for bit, place in enumerate(self.places[tree])}
            inner = list(in_order(wanted, self.code))
            looked_up = [self._added(tree, bits[tree], buffers.get(tree)) for tree in own]
            body.append(Block((*inner, *(self._parted(own, looked_up) if self.apart else looked_up))))
        return body

    def _parted(self, trees: Sequence[int], looked_up: Sequence[Statement]) -> Iterator[Statement]:
        """Yield what adds what some trees say, a few between two jumps: the branch is taken if any answer is yes."""
        for at in range(0, len(trees), _TOGETHER):
            none = sum(self.values[tree][0] << self.shifts[tree] for tree in trees[at : at + _TOGETHER])
            otherwise = Assign("sum0", add(Var("sum0"), const(none)))
            yield If(Var("asked"), tuple(looked_up[at : at + _TOGETHER]), (otherwise,), share=1.0)

    @cached_property
    def _deal(self) -> list[list[int]]:
        """Which trees are in a word together: about as many in each, of which bits are gathered by fewer terms."""
        trees, lanes = len(self.places), _WORD // self.lane
        count = -(-trees // lanes)
        sizes = tuple((trees + word) // count for word in range(count))
        return dealt(tuple(tuple(enumerate(own)) for own in self.places), sizes, self.lane)

    @property
    def _step(self) -> int:
        """Bits by which the number of an entry is shifted to become a place in a table: in bytes, or in a word."""
        return (self.bits // 8 if self.fields and self.stride > 1 else self.bits).bit_length() - 1

    def _added(self, tree: int, bit: int, table: tuple[str, int] | None) -> Statement:
        """Return what adds what a tree says, whose answers are at a bit of `asked`."""
        per, size = (_WORD // self.bits).bit_length() - 1, self.bits.bit_length() - 1
        count = len(self.places[tree])
        if self.fields and table is not None:
            value = field_of(*table, Var("asked"), bit, self._most, self.bits)
            return Assign("sum0", add(shl(self.shifts[tree], value), Var("sum0")))
        inside = count if table is None else min(per, count)
        shifted = shr(bit - size, Var("asked")) if bit >= size else shl(size - bit, Var("asked"))
        place = and_(shifted, const((1 << inside) - 1 << size))
        if table is None and count > per:
            words = enumerate(islice(self._table(tree), 1 << count - per))
            parts: list[Expr] = [
                Apply(OpCode.SHR, (_xor(Var("place"), const(_WORD * number)) if number else Var("place"), const(word)))
                for number, word in words
                if word
            ]
            entry = reduce(lambda others, part: or_(part, others), parts) if parts else const(0)
            return Block((Let("place", place), self._sum(tree, entry)))
        if table is None:
            word: Expr = const(next(self._table(tree)))
        else:
            buffer, first = table
            which = and_(shr(bit + per, Var("asked")), const((1 << max(count - per, 0)) - 1))
            word = Load(buffer, add(which, const(first)) if count > per else const(first))
        return self._sum(tree, Apply(OpCode.SHR, (place, word)) if inside else word)

    def _sum(self, tree: int, value: Expr) -> Statement:
        """Return what adds the entry at the low end of a word."""
        entry = and_(value, const((1 << self.bits) - 1)) if self.bits < _WORD else value
        return Assign("sum0", add(shl(self.shifts[tree], entry), Var("sum0")))
