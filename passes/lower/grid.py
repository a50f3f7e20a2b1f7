"""Shallow trees, as many at once as a word has room for.

A lane of 2^d bits is a tree of depth d (shallower ones repeat leaves): bit n of it is the question of the n-th fork, as
they come from left to right. The code's bits are brought there by a few shifts and a network that permutes a word. Then
every tree's leaf is chosen at once: a question, spread over its lane, chooses between two words that hold a leaf of
each tree, as many bits of it as a lane has; these choices are a tree themselves. Last, the lanes are added up.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

import numpy as np

from ml2sc.ir.program import (
    Assign,
    Block,
    Expr,
    If,
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
)
from ml2sc.ir.trees import Ensemble, Leaf

from .network import Place, Stage, Term, brought, completed, gathered, routed

_xor = binary(OpCode.XOR)
_WORD = 256


@dataclass(frozen=True)
class Shape:
    """How trees are dealt out to words.

    Attributes:
        depth: Of every tree.
        words: By word and lane: a tree's number; None where the lane is empty.
        groups: By target where each tree adds to one: its first lane, and how many lanes it has in every word; empty
            where all lanes are added up for each target.
    """

    depth: int
    words: tuple[tuple[int | None, ...], ...]
    groups: tuple[tuple[int, int], ...]

    @property
    def width(self) -> int:
        """Bits of a lane."""
        return 1 << self.depth

    @property
    def lanes(self) -> int:
        """Lanes of a word."""
        return _WORD // self.width


def shapes_of(
    ensemble: Ensemble, values: Sequence[Sequence[Sequence[int]]], places: Sequence[Mapping[int, Place]]
) -> Iterator[Shape]:
    """Yield how an ensemble's trees can be dealt out: all of them, or without those that do not fill a word.

    Args:
        ensemble: The ensemble.
        values: By tree, leaf and target: what it adds.
        places: By tree: its forks.
    """
    depth = max(max(ensemble.depth(root) for root in ensemble.roots), 1)
    lanes, trees = _WORD >> depth, len(values)
    targets = [{t for leaf in tree for t, value in enumerate(leaf) if value} for tree in values]
    if ensemble.targets > 1 and all(len(own) <= 1 for own in targets):
        grouped = _grouped(depth, lanes, [min(own, default=0) for own in targets], ensemble.targets)
        yield from () if grouped is None else [grouped]
        return
    order = sorted(range(trees), key=lambda tree: -len(places[tree]))
    full, rest = order[: trees - trees % lanes], order[trees - trees % lanes :]
    asked = tuple(tuple(places[tree].items()) for tree in full)
    deal = dealt(asked, (lanes,) * (len(full) // lanes), 1 << depth)
    words: list[tuple[int | None, ...]] = [tuple(full[tree] for tree in word) for word in deal]
    if not rest or words:
        yield from _fitting(Shape(depth, tuple(words), ()))
    if rest:
        last = (*rest, *[None] * (lanes - len(rest)))
        yield from _fitting(Shape(depth, (*words, last), ()))


_Asked = tuple[tuple[int, Place], ...]
"""By place in a tree's lane: where in the code the bit is that belongs there."""


@lru_cache(maxsize=16)
def dealt(places: tuple[_Asked, ...], sizes: tuple[int, ...], width: int) -> list[list[int]]:
    """Return which trees are in a word together, so that few terms gather their bits: trees that look at like bits.

    Of some deals it is the best; then trees of two words are exchanged where that is no worse.

    Args:
        places: By tree.
        sizes: By word: how many trees it is to have.
        width: Bits of a lane.
    """

    def steps(word: Sequence[int]) -> int:
        return _steps(gathered(dict(_wanted([places[tree] for tree in word], width)))[0])

    def words(order: Sequence[int]) -> list[list[int]]:
        rest = iter(order)
        return [list(islice(rest, size)) for size in sizes]

    if len(sizes) < 2:
        return words(range(len(places)))
    random = np.random.default_rng(0)
    deals = [words(range(len(places))), *(words(random.permutation(len(places)).tolist()) for _ in range(_DEALS))]
    best = min(deals, key=lambda deal: sum(map(steps, deal)))
    counts = list(map(steps, best))
    for _ in range(_EXCHANGES):
        one, other = random.choice(len(sizes), 2, replace=False).tolist()
        first, second = list(best[one]), list(best[other])
        i, j = int(random.integers(len(first))), int(random.integers(len(second)))
        first[i], second[j] = second[j], first[i]
        new = steps(first), steps(second)
        if sum(new) <= counts[one] + counts[other]:
            best[one], best[other] = first, second
            counts[one], counts[other] = new
    return best


_MOVED, _IN_PLACE, _STAGE = 3, 2, 5
"""Steps of a term that is shifted, masked and added, of one that is not shifted, and of a stage of the network."""
_DEALS = 8
"""Deals that are tried besides the one in which trees come."""
_EXCHANGES = 200
"""Of trees between two words that are tried: 100 trees of depth 3 take 50 gas less, of depth 6 370."""


def _steps(terms: Iterable[Term]) -> int:
    return sum(_MOVED if term.shift else _IN_PLACE for term in terms)


def _wanted(places: Sequence[Iterable[tuple[int, Place]]], width: int) -> tuple[tuple[int, Place], ...]:
    """Return, by place in a word, where the bits are that the trees of its lanes ask for."""
    return tuple((width * lane + position, place) for lane, own in enumerate(places) for position, place in own)


def _grouped(depth: int, lanes: int, classes: Sequence[int], targets: int) -> Shape | None:
    """Give each target lanes of its own, an even number of them, the same in every word."""
    members = [[tree for tree, own in enumerate(classes) if own == target] for target in range(targets)]
    for count in range(1, len(classes) + 1):
        sizes = [2 * -(-len(own) // (2 * count)) for own in members]
        if sum(sizes) <= lanes:
            break
    else:
        return None
    firsts = [sum(sizes[:target]) for target in range(targets)]
    words = []
    for word in range(count):
        slots: list[int | None] = [None] * lanes
        for own, first, size in zip(members, firsts, sizes, strict=True):
            part = own[word * size : (word + 1) * size]
            slots[first : first + len(part)] = part
        words.append(tuple(slots))
    return next(_fitting(Shape(depth, tuple(words), tuple(zip(firsts, sizes, strict=True)))), None)


def _fitting(shape: Shape) -> Iterator[Shape]:
    """Yield a shape if two lanes of all its words can be added up in the room of two."""
    most = 2 * len(shape.words) * ((1 << shape.width) - 1)
    if most < 1 << 2 * shape.width:
        yield shape


class Grid:
    """Writes an ensemble out.

    Args:
        ensemble: Trees of depth up to 4.
        shape: How they are dealt out.
        leaves: By tree, leaf (of the `perfect` tree) and target: what it adds.
        places: By tree and place of a fork: where in the code its question is.
        code: The words of the code.
        guarded: Words whose bits are put in order only where some are set. They always are, nearly: but code between
            two jumps keeps fewer values, and a compiler that moves it about finds room for them on the stack.
    """

    def __init__(
        self,
        ensemble: Ensemble,
        shape: Shape,
        leaves: Sequence[Sequence[Sequence[int]]],
        places: Sequence[Mapping[int, Place]],
        code: Sequence[Expr],
        *,
        guarded: Collection[int],
    ) -> None:
        self._guarded = guarded
        self._ensemble, self._shape, self._leaves, self._places, self._code = ensemble, shape, leaves, places, code
        most = max((value for tree in leaves for leaf in tree for value in leaf), default=0)
        self._planes = max(-(-most.bit_length() // shape.width), 1)
        targets = 1 if shape.groups else ensemble.targets
        self._sums = [(target, plane) for target in range(targets) for plane in range(self._planes)]
        self._count = 0

    def start(self) -> list[Statement]:
        """Return what comes before `words`."""
        return [Let(self._sum(key), const(0)) for key in self._sums]

    def words(self) -> Iterator[Statement]:
        """Yield what adds the leaves of the trees of each word, and leaves the targets' sums to `targets`."""
        return (Block(tuple(self._word(number, slots))) for number, slots in enumerate(self._shape.words))

    def targets(self, body: list[Statement]) -> list[Expr]:
        """Return the targets, given what `words` have left; what is to be done for that goes to `body`."""
        shape = self._shape
        width, lanes = 2 * shape.width, shape.lanes // 2
        most = 2 * len(shape.words) * ((1 << shape.width) - 1)
        if not shape.groups:
            return [
                self._total([total_of_lanes(self._sum((t, p)), width, most, lanes, lanes, body) for p in self._all()])
                for t in range(self._ensemble.targets)
            ]
        found = []
        for target, (first, size) in enumerate(shape.groups):
            parts = []
            for plane in self._all():
                own = sum(((1 << width) - 1) << width * lane for lane in range(first // 2, (first + size) // 2))
                word = and_(Var(self._sum((0, plane))), const(own))
                parts.append(total_of_lanes(f"class{target}_{plane}", width, most, lanes, size // 2, body, word))
            found.append(self._total(parts))
        return found

    def _all(self) -> range:
        return range(self._planes)

    def _sum(self, key: tuple[int, int]) -> str:
        return f"lanes{key[0]}_{key[1]}"

    def _total(self, planes: Sequence[Expr]) -> Expr:
        total = planes[0]
        for plane, part in enumerate(planes[1:], 1):
            total = add(shl(self._shape.width * plane, part), total)
        return total

    # -- a word ----------------------------------------------------------------------------------------------------

    def _word(self, number: int, slots: Sequence[int | None]) -> Iterator[Statement]:
        shape = self._shape
        own = [() if tree is None else tuple(self._places[tree].items()) for tree in slots]
        gather, *stages = in_order(dict(_wanted(own, shape.width)), self._code)
        guarded = number in self._guarded and stages
        yield from [gather, If(Var("asked"), tuple(stages), share=1.0)] if guarded else [gather, *stages]
        names = [f"chosen{t}_{p}" for t, p in self._sums]
        yield from (Let(name, const(0)) for name in names)
        yield from self._choice(slots, 0, shape.width, names)
        half = sum(((1 << shape.width) - 1) << 2 * shape.width * lane for lane in range(shape.lanes // 2))
        for key, name in zip(self._sums, names, strict=True):
            pairs = add(and_(Var(name), const(half)), and_(shr(shape.width, Var(name)), const(half)))
            yield Assign(self._sum(key), add(pairs, Var(self._sum(key))) if number else pairs)

    def _choice(self, slots: Sequence[int | None], first: int, count: int, names: Sequence[str]) -> Iterator[Statement]:
        """Yield statements that give variables, one for each sum, the chosen of some leaves of every tree."""
        left, right = first, first + count // 2
        self._count += 1
        chooser = f"chooser{self._count}"
        question = Let(chooser, self._spread(first + count // 2 - 1))
        if count == 2:
            pairs = [(self._plane(slots, left, key), self._plane(slots, right, key)) for key in self._sums]
            chosen = (_xor(and_(Var(chooser), const(a ^ b)), const(a)) if a != b else const(a) for a, b in pairs)
            yield Block((question, *(Assign(name, value) for name, value in zip(names, chosen, strict=True))))
            return
        yield from self._choice(slots, left, count // 2, names)
        others = [f"other{self._count}_{number}" for number in range(len(names))]
        inner: list[Statement] = [Let(other, const(0)) for other in others]
        inner += self._choice(slots, right, count // 2, others)
        inner.append(question)
        for name, other in zip(names, others, strict=True):
            inner.append(Assign(name, _xor(and_(Var(chooser), _xor(Var(name), Var(other))), Var(name))))
        yield Block(tuple(inner))

    def _spread(self, position: int) -> Expr:
        """Return a word in each lane of which all bits are a fork's question."""
        shape = self._shape
        bit = and_(shr(position, Var("asked")), const(ones(shape.width, shape.lanes)))
        return mul(bit, const((1 << shape.width) - 1))

    def _plane(self, slots: Sequence[int | None], leaf: int, key: tuple[int, int]) -> int:
        """Return a word that holds, by lane, bits of what a leaf of each tree adds."""
        target, plane = key
        width, found = self._shape.width, 0
        for lane, tree in enumerate(slots):
            if tree is not None:
                values = self._leaves[tree][leaf]
                value = max(values) if self._shape.groups else values[target]
                found |= (value >> width * plane & ((1 << width) - 1)) << width * lane
        return found


def in_order(wanted: Mapping[int, Place], code: Sequence[Expr]) -> Iterator[Statement]:
    """Yield statements that bring bits of the code into a word, `asked`.

    Args:
        wanted: By place in the word: where in the code a bit is.
        code: The words of the code.
    """
    terms, stages = _moves(tuple(wanted.items()))
    bits: Expr | None = None
    for term in terms:
        source = code[term.word]
        moved = shl(term.shift, source) if term.shift >= 0 else shr(-term.shift, source)
        part = and_(moved, const(term.mask))
        bits = part if bits is None else or_(part, bits)
    yield Let("asked", bits or const(0))
    for stage in stages:
        moving = and_(_xor(Var("asked"), shr(stage.distance, Var("asked"))), const(stage.mask))
        yield Assign("asked", _xor(Var("asked"), mul(moving, const(1 + (1 << stage.distance)))))


@lru_cache(maxsize=64)
def _moves(wanted: tuple[tuple[int, Place], ...]) -> tuple[list[Term], list[Stage]]:
    """Return the terms and the stages that bring bits into a word: no stage where few bits go their own ways."""
    terms, found = gathered(dict(wanted))
    stages, straight = routed(completed(found)), brought(dict(wanted))
    if _steps(straight) <= _steps(terms) + _STAGE * len(stages):
        return straight, []
    return terms, stages


def perfect(ensemble: Ensemble, root: int, depth: int) -> tuple[dict[int, int], list[int]]:
    """Return a tree as one of a given depth: its forks by their place from left to right, and its leaves.

    Args:
        ensemble: The ensemble.
        root: The tree's first node.
        depth: At least the tree's own.

    Returns:
        Numbers of nodes. Places whose fork the tree does not have are left out: there both ways lead to one leaf.
    """
    forks: dict[int, int] = {}
    leaves = [root] * (1 << depth)
    todo = [(root, 0, 1 << depth)]
    while todo:
        number, first, count = todo.pop()
        node = ensemble.nodes[number]
        if isinstance(node, Leaf):
            leaves[first : first + count] = [number] * count
            continue
        middle = first + count // 2
        forks[middle - 1] = number
        todo += [(node.even, first, count // 2), (node.odd, middle, count // 2)]
    return forks, leaves


def total_of_lanes(
    name: str, width: int, most: int, lanes: int, used: int, body: list[Statement], word: Expr | None = None
) -> Expr:
    """Return the sum of a word's lanes; they are made wider until it fits one.

    Args:
        name: What the word is called.
        width: Bits of a lane.
        most: The most that a lane holds.
        lanes: Lanes of the word.
        used: How many of them are added.
        body: Where statements go that it takes.
        word: The word; None: it has its name already.
    """
    if word is not None and lanes > 1 and most * used >= 1 << width:
        body.append(Let(name, word))
        word = None
    word = word or Var(name)
    while lanes > 1 and most * used >= 1 << width:
        even = sum(((1 << width) - 1) << 2 * width * lane for lane in range(lanes // 2))
        halves = and_(Var(name), const(even)), and_(shr(width, Var(name)), const(even))
        body.append(Assign(name, add(*halves)))
        width, most, lanes = 2 * width, 2 * most, lanes // 2
    return word if lanes == 1 else shr(_WORD - width, mul(word, const(ones(width, lanes))))


def ones(width: int, lanes: int) -> int:
    """Return a word whose lanes are all 1."""
    return sum(1 << width * lane for lane in range(lanes))
