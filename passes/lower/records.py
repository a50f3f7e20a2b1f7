"""Trees of any shape as tables of records, in data contracts: the way of ensembles too large for a contract's code.

A record is a fork: which rank it looks at, which edge must be exceeded, and where it goes on, if so and if not. Numbers
of forks go from 0 up, those of leaves from the greatest down. A tree's table is its records and then what its leaves
add; trees with about as many forks have tables of one size, so that a loop goes over them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ml2sc.ir.program import (
    Apply,
    Assign,
    Block,
    CopySegment,
    Expr,
    For,
    If,
    Induction,
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
    const,
    gt,
    iszero,
    lt,
    mul,
    shl,
    shr,
    sub,
)
from ml2sc.ir.trees import Ensemble, Fork, Leaf

_WORD = 256
_COPIED = 64
"""Words that are copied at a time, at most, of tables that are small."""
_TOGETHER = 4
"""Levels that are written out one after the other."""


@dataclass(frozen=True)
class Flat:
    """A tree as a list of forks, each of which asks of one edge.

    Attributes:
        forks: Place of the rank, rank of the edge, and where it goes on if that is exceeded and if not: a fork's
            number, or −1 less a leaf's.
        leaves: The ensemble's numbers of the leaves.
        depth: Forks on the longest way.
    """

    forks: Sequence[tuple[int, int, int, int]]
    leaves: Sequence[int]
    depth: int


def forks_of(ensemble: Ensemble, root: int, place: Callable[[Fork], int]) -> Flat:
    """Return a tree as a list; a fork with several edges becomes as many, from the greatest edge down.

    Args:
        ensemble: The ensemble.
        root: The tree's first node.
        place: Says where the rank is that a fork looks at.
    """
    order = ensemble.sorted(root)
    firsts: dict[int, int] = {}
    leaves: dict[int, int] = {}
    count = 0
    for number in order:
        node = ensemble.nodes[number]
        if isinstance(node, Leaf):
            leaves[number] = len(leaves)
        else:
            firsts[number] = count
            count += max(len(node.edges), 1)

    def goes_to(number: int) -> int:
        return firsts[number] if number in firsts else -1 - leaves[number]

    forks: list[tuple[int, int, int, int]] = []
    depths = [0] * (count + 1)
    for number in order:
        node = ensemble.nodes[number]
        if isinstance(node, Leaf):
            continue
        edges = sorted(node.edges, reverse=True)
        for position, edge in enumerate(edges):
            above = node.even if (len(edges) - position) % 2 == 0 else node.odd
            last = position == len(edges) - 1
            below = goes_to(node.even) if last else len(forks) + 1
            forks.append((place(node), int(edge), goes_to(above), below))
        if not edges:
            forks.append((0, 0, goes_to(node.even), goes_to(node.even)))
    for number in reversed(range(len(forks))):
        depths[number] = 1 + max(depths[to] if to >= 0 else 0 for to in forks[number][2:])
    return Flat(forks, list(leaves), depths[0])


@dataclass(frozen=True)
class Group:
    """Trees with tables of one size.

    Attributes:
        trees: Their forks, and what their leaves add.
        name: Of segment and buffer.
        forks: The most forks of a tree.
        leaves: The most leaves.
        depth: The greatest depth.
        shift: By how many bits what a leaf adds is to be shifted to the left.
        leaf: Bits of what a leaf adds before that, a power of two.
        roomy: Whether trees may be replaced by others: then several tables are copied at a time.
    """

    trees: Sequence[tuple[Flat, Sequence[int]]]
    name: str
    forks: int
    leaves: int
    depth: int
    shift: int
    leaf: int
    roomy: bool = False


@dataclass(frozen=True)
class Records:
    """The tables of an ensemble.

    Attributes:
        groups: Trees that are alike.
        ranks: The buffer of ranks.
        place: Bits of a rank's place.
        rank: Bits of an edge's rank.
        number: Bits of the number of a fork or a leaf.
        room: Words in a data contract.
    """

    groups: Sequence[Group]
    ranks: str
    place: int
    rank: int
    number: int
    room: int

    @classmethod
    def of(cls, flat: Sequence[Flat], leaves: Sequence[Sequence[int]], ranks: str, place: int, room: int) -> Records:
        """Return the tables.

        Args:
            flat: The trees.
            leaves: By tree, what its leaves add.
            ranks: The buffer of ranks.
            place: Bits of a rank's place in it.
            room: Words in a data contract.
        """
        by_size: dict[int, list[tuple[Flat, Sequence[int]]]] = {}
        for tree, own in zip(flat, leaves, strict=True):
            if tree.forks:  # else its only leaf is the least, and adds nothing
                by_size.setdefault(len(tree.forks).bit_length(), []).append((tree, own))
        value = max((v for own in leaves for v in own), default=0).bit_length()
        groups = [
            Group(
                trees,
                f"{ranks}_table{number}",
                max(len(tree.forks) for tree, _ in trees),
                max(len(own) for _, own in trees),
                max(tree.depth for tree, _ in trees),
                0,
                power(max(value, 1)),
            )
            for number, (_, trees) in enumerate(sorted(by_size.items()))
        ]
        rank = max((fork[1] for tree in flat for fork in tree.forks), default=0).bit_length()
        return cls(groups, ranks, place, max(rank, 1), _number_bits(groups), room)

    @classmethod
    def roomy(cls, groups: Sequence[Group], ranks: str, place: int, rank: int, room: int) -> Records:
        """Return the tables of trees that may be replaced by others.

        Args:
            groups: Their tables.
            ranks: The buffer of ranks.
            place: Bits of a rank's place in it.
            rank: Bits of a rank.
            room: Words in a data contract.
        """
        return cls(groups, ranks, place, rank, _number_bits(groups), room)

    @property
    def fits(self) -> bool:
        """Whether each tree's table fits a data contract, and a record a word."""
        small = self.record <= _WORD and all(group.leaf <= _WORD for group in self.groups)
        return small and all(self.words(group) <= self.room for group in self.groups)

    @property
    def most(self) -> int:
        """The comparisons of a tree, about, whose table fits a data contract."""
        return self.room * _WORD // (self.record + max((group.leaf for group in self.groups), default=0))

    @property
    def record(self) -> int:
        """Bits of a record, a power of two."""
        return power(self.place + self.rank + 2 * self.number)

    def fork_words(self, group: Group) -> int:
        """Return the words of a table's records."""
        return -(-group.forks * self.record // _WORD)

    def words(self, group: Group) -> int:
        """Return the words of a table."""
        return self.fork_words(group) + -(-group.leaves * group.leaf // _WORD)

    def together(self, group: Group) -> int:
        """Return how many tables are copied at a time: a divisor of how many there are."""
        count, most = len(group.trees), min(_COPIED, self.room) // self.words(group)
        return max((n for n in range(1, most + 1) if count % n == 0), default=1) if group.roomy else 1

    def segments(self) -> dict[str, Segment]:
        """Return the tables."""
        found = {}
        for group in self.groups:
            size = self.words(group) * self.together(group)
            words = tuple(word for tree, leaves in group.trees for word in self._table(group, tree, leaves))
            found[group.name] = Segment(words, Storage.DATA, self.room // size * size)
        return found

    def buffers(self) -> dict[str, int]:
        """Return the words of the buffers that tables are copied to."""
        return {group.name: self.words(group) * self.together(group) for group in self.groups}

    def _table(self, group: Group, tree: Flat, leaves: Sequence[int]) -> Iterator[int]:
        end = (1 << self.number) - 1

        def numbered(to: int) -> int:
            return to if to >= 0 else end + 1 + to

        records = [
            ((place << self.rank | rank) << self.number | numbered(below)) << self.number | numbered(above)
            for place, rank, above, below in tree.forks
        ]
        yield from packed_fields(records, self.record, self.fork_words(group))
        yield from packed_fields(leaves, group.leaf, self.words(group) - self.fork_words(group))

    def statements(self) -> list[Statement]:
        """Return what adds up the leaves of all trees in `sum0`."""
        body: list[Statement] = [
            Note(
                "A tree's table: records (place of a rank, an edge, where to go on if it is exceeded or not); leaves."
            ),
            Let("sum0", const(0)),
        ]
        return [*body, *(self._group(group) for group in self.groups)]

    def _group(self, group: Group) -> For:
        end, size, together = (1 << self.number) - 1, self.words(group), self.together(group)
        at, record, leaf = Var("at"), Var("record"), Var("leaf")
        base: Expr = Var("base") if together > 1 else const(0)
        place = and_(shr(self.rank + 2 * self.number, record), const((1 << self.place) - 1))
        edge = and_(shr(2 * self.number, record), const((1 << self.rank) - 1))
        below = iszero(gt(Load(self.ranks, place), edge))
        next_ = and_(Apply(OpCode.SHR, (mul(below, const(self.number)), record)), const(end))
        step = (Let("record", field_at(group.name, at, self.record, base)), Assign("at", next_))
        value = field_at(group.name, leaf, group.leaf, add(base, const(self.fork_words(group))))
        value = value if group.leaf == _WORD else and_(value, const((1 << group.leaf) - 1))
        value = shl(group.shift, value) if group.shift else value
        copied = CopySegment(group.name, Var("table"), size * together, group.name)
        body: list[Statement] = [
            Let("at", const(0)),
            Block((Let("record", Load(group.name, base)), Assign("at", next_))),  # the first record is the root
            *self._levels(group.depth - 1, If(lt(at, const(group.forks)), step)),
            Let("leaf", sub(const(end), at)),
            If(lt(leaf, const(group.leaves)), (Assign("sum0", add(Var("sum0"), value)),)),
        ]
        if together > 1:
            body = [For((Induction("one", const(0), 1), Induction("base", const(0), size)), together, tuple(body))]
        also = Induction("table", const(0), size * together)
        return For((Induction("tree", const(0), 1), also), len(group.trees) // together, (copied, *body))

    @staticmethod
    def _levels(depth: int, step: If) -> list[Statement]:
        """Return a step for each level, a few at a time: most ways are shorter than the longest."""
        if depth <= _TOGETHER:
            return [step] * depth
        some = If(step.condition, (step,) * _TOGETHER)
        return [For((Induction("level", const(0), 1),), -(-depth // _TOGETHER), (some,))]


def _number_bits(groups: Sequence[Group]) -> int:
    """Return the bits of the number of a fork or a leaf."""
    most = max((group.forks + group.leaves for group in groups), default=1)
    return (most - 1).bit_length() or 1


def power(bits: int) -> int:
    """Return the least power of two, 8 at least, that is not below some bits."""
    return max(1 << (bits - 1).bit_length(), 8)


def packed_fields(fields: Sequence[int], bits: int, words: int) -> Iterator[int]:
    """Yield words of fields, the first at bit 0 of the first word."""
    per = _WORD // bits
    for first in range(0, words * per, per):
        yield sum(field << bits * place for place, field in enumerate(fields[first : first + per]))


def field_at(buffer: str, index: Expr, bits: int, first: Expr) -> Expr:
    """Return a field of a table, what is above it in its word with it."""
    per = (_WORD // bits).bit_length() - 1
    word = Load(buffer, add(shr(per, index), first))
    if per == 0:
        return word
    inside = and_(index, const((1 << per) - 1))
    return Apply(OpCode.SHR, (shl(bits.bit_length() - 1, inside), word))
