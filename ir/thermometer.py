"""The packed input of a model whose inputs only trees read: which edges each feature exceeds, a bit an edge.

A *ladder* holds the edges that trees compare an element with, ascending: its *rank* is how many of them it exceeds, one
more than there are if it is missing. The *thermometer code* of an element is a field of bits, one for each edge, of
which the lowest `rank` are set, and a bit that is 0 above it. No field straddles a word. Whoever packs compares with
the very edges, so that nothing is rounded: the code is exact for every number.

Where some trees take a missing element for great and others for small, it has a field for each of the two.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from .trees import MOST_NESTED, Ensemble, Fork
from .types import Array

if TYPE_CHECKING:
    from .graph import Graph

TREES = "TreeEnsemble"
"""The operator."""

_WAD = 10**18
_WORD = 256
_BYTES = 32
_LONGEST = 255
"""Bits of a field: it and the bit above fit a word. What is longer is several fields, each full before the next."""
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_INT_MAX = (1 << 255) - 1
_SHARE_MISSING = 0.02


@dataclass(frozen=True)
class Room:
    """What stays of packed ranks when trees are replaced by others, with other edges.

    Attributes:
        width: Bytes of a rank.
        up: Whether nodes may take a missing element for great.
        down: Whether nodes may take it for small.
        edges: The most edges of all elements together, where WAD values are compared with them; else 0.
        double: Whether these are float64, else float32.
    """

    width: int
    up: bool
    down: bool
    edges: int = 0
    double: bool = False

    @property
    def most(self) -> int:
        """The most edges that an element may have."""
        return (1 << 8 * self.width) - 2


@dataclass(frozen=True)
class Ladder:
    """What trees compare the elements of an input with.

    Attributes:
        edges: By element: ascending numbers.
        up: By element: the ranks of the edges of nodes that take a missing element for great.
        down: By element: those of the others.
        double: Whether elements are compared as float64, else as float32.
        ranked: Whether ranks are packed instead of a bit for each edge.
        room: If the edges may be replaced by others: what stays. Then every element has a rank.
    """

    edges: tuple[tuple[float, ...], ...]
    up: tuple[tuple[int, ...], ...]
    down: tuple[tuple[int, ...], ...]
    double: bool
    ranked: bool = False
    room: Room | None = None

    @property
    def top(self) -> int:
        """The greatest rank of any element: a missing one's."""
        return max((len(own) + 1 for own in self.edges if own or self.room is not None), default=0)

    def ranks(self, real: Array) -> Array:
        """Return the ranks of reals.

        Args:
            real: float64 of shape (samples, elements); NaN where one is missing.
        """
        values = real if self.double else as_float32(real)
        found = np.zeros(real.shape, dtype=np.int64)
        for element, edges in enumerate(self.edges):
            if edges or self.room is not None:
                column = values[:, element]
                own = np.searchsorted(np.array(edges), column, side="left")
                found[:, element] = np.where(np.isnan(column), len(edges) + 1, own)
        return found

    def samples(self, random: np.random.Generator, count: int) -> Array:
        """Return made-up elements: at an edge, next to it on either side, far from all, or missing.

        Returns:
            float64 of shape (count, elements).
        """
        kind = np.float64 if self.double else np.float32
        found = random.normal(size=(count, len(self.edges)))
        for element, edges in enumerate(self.edges):
            finite = [edge for edge in edges if math.isfinite(edge)]
            if not finite:
                continue
            near = random.choice(np.array(finite), count).astype(kind)
            side = random.choice(np.array([-np.inf, 0.0, np.inf]), count).astype(kind)
            with np.errstate(over="ignore"):  # beyond the greatest float comes infinity
                beside = np.nextafter(near, side)
            found[:, element] = np.where(side == 0, near, beside)
        found = np.where(random.random(found.shape) < _SHARE_MISSING, np.nan, found)
        return np.clip(as_float32(found), -_FLOAT32_MAX, _FLOAT32_MAX) if not self.double else found

    def wads(self) -> tuple[tuple[int, ...], ...]:
        """Return, by element, the greatest WAD value that does not exceed each edge."""
        return _wads(self.edges, double=self.double)


@functools.lru_cache(maxsize=16)
def _wads(edges: tuple[tuple[float, ...], ...], *, double: bool) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(wad_edge(edge, double=double) for edge in own) for own in edges)


def as_float32(real: Array) -> Array:
    """Return reals rounded to float32 as an ONNX model's input is, in float64."""
    with np.errstate(over="ignore"):
        return np.asarray(real, dtype=np.float64).astype(np.float32).astype(np.float64)


def wad_edge(edge: float, *, double: bool) -> int:
    """Return the greatest integer x for which x / 10^18, rounded to the float type, does not exceed an edge.

    Half-way cases go to the float whose last bit is 0; nothing exceeds infinity.

    Args:
        edge: A float of the type.
        double: Whether the type is float64, else float32.
    """
    if edge == math.inf:
        return _INT_MAX
    if edge == -math.inf:
        return -_INT_MAX - 1
    kind, bits = (np.float64, np.uint64) if double else (np.float32, np.uint32)
    own = kind(edge)
    with np.errstate(over="ignore"):
        after = np.nextafter(own, kind(np.inf))
    last = np.finfo(kind)
    # beyond the greatest float comes what would be the next one
    above = Fraction(2) ** int(last.maxexp) if np.isinf(after) else Fraction(float(after))
    middle = (Fraction(float(own)) + above) / 2 * _WAD
    found = math.floor(middle)
    odd = int(np.abs(own).view(bits)) & 1
    return min(max(found - int(middle.denominator == 1 and odd == 1), -_INT_MAX - 1), _INT_MAX)


@dataclass(frozen=True)
class Field:
    """Where bits of an element are.

    Attributes:
        element: Number of the element among all inputs'.
        up: Whether all bits are set if it is missing, else none.
        ranks: The ranks of its edges, ascending: bit n is set if the element's rank is greater than the n-th.
        word: Which word of the packed input it is in.
        bit: Its lowest bit there.
        follows: Whether it goes on where the field before it was too long for a word.
    """

    element: int
    up: bool
    ranks: tuple[int, ...]
    word: int
    bit: int
    follows: bool = False

    @property
    def mask(self) -> int:
        """Its bits in the word."""
        return ((1 << len(self.ranks)) - 1) << self.bit

    def of(self, rank: int, top: int) -> int:
        """Return its bits for an element's rank.

        Args:
            rank: The rank.
            top: That of a missing element.
        """
        if rank == top:
            return self.mask if self.up else 0
        return ((1 << sum(rank > r for r in self.ranks)) - 1) << self.bit


@dataclass(frozen=True)
class Code:
    """A thermometer code.

    Attributes:
        fields: Its fields.
        length: Bytes of the packed input: whole words, but for the last.
        edges: By element of all inputs, how many edges its ladder has.
    """

    fields: tuple[Field, ...]
    length: int
    edges: tuple[int, ...]

    @property
    def words(self) -> int:
        """Words it is in."""
        return -(-self.length // _BYTES)

    def last_shift(self, word: int) -> int:
        """Return by how many bits a word, read from the packed input, is to be shifted to the right."""
        return 8 * max(_BYTES * (word + 1) - self.length, 0)

    def place(self) -> dict[tuple[int, bool, int], tuple[int, int]]:
        """Return word and bit of each edge: by element, side and rank."""
        return {(f.element, f.up, rank): (f.word, f.bit + n) for f in self.fields for n, rank in enumerate(f.ranks)}

    def lowest(self, word: int) -> int:
        """Return the lowest bit of each field of a word."""
        return sum(1 << f.bit for f in self.fields if f.word == word)

    def used(self, word: int) -> int:
        """Return all bits of a word that stand for an edge."""
        return sum(f.mask for f in self.fields if f.word == word)

    def pack(self, ranks: Sequence[int]) -> bytes:
        """Return the packed input for the ranks of all elements."""
        words = [0] * self.words
        for field in self.fields:
            words[field.word] |= field.of(int(ranks[field.element]), self.edges[field.element] + 1)
        packed = b"".join(
            word.to_bytes(_BYTES - self.last_shift(number) // 8, "big") for number, word in enumerate(words)
        )
        return packed or bytes(self.length)


@dataclass(frozen=True)
class RankCode:
    """Ranks, big-endian: of elements with so many edges that a bit for each would take more calldata.

    Attributes:
        elements: Numbers of the elements that have edges, among all inputs': in this order.
        width: Bytes of a rank.
        tops: Of each of them the greatest rank: a missing element's.
    """

    elements: tuple[int, ...]
    width: int
    tops: tuple[int, ...]

    @property
    def length(self) -> int:
        """Bytes of the packed input."""
        return max(self.width * len(self.elements), 1)

    def pack(self, ranks: Sequence[int]) -> bytes:
        """Return the packed input for the ranks of all elements."""
        return b"".join(int(ranks[e]).to_bytes(self.width, "big") for e in self.elements) or bytes(1)


def rank_code(ladders: Sequence[Ladder]) -> RankCode:
    """Return the code that packs ranks."""
    edges = [len(own) for ladder in ladders for own in ladder.edges]
    room = next((ladder.room for ladder in ladders), None)
    elements = tuple(number for number, count in enumerate(edges) if count or room is not None)
    tops = tuple(edges[number] + 1 for number in elements)
    return RankCode(elements, -(-max(tops, default=1).bit_length() // 8) if room is None else room.width, tops)


@functools.lru_cache(maxsize=16)
def code_of(ladders: tuple[Ladder, ...]) -> Code:
    """Return the code for inputs with ladders: long fields first, each in the first word with room for it."""
    wanted: list[tuple[int, bool, tuple[int, ...]]] = []
    edges: list[int] = []
    for ladder in ladders:
        for own, high, low in zip(ladder.edges, ladder.up, ladder.down, strict=True):
            wanted += [(len(edges), side, ranks) for side, ranks in ((True, high), (False, low)) if ranks]
            edges.append(len(own))
    fields: list[Field] = []
    ends: list[int] = []
    for element, up, ranks in sorted(wanted, key=lambda w: -len(w[2])):
        for first in range(0, len(ranks), _LONGEST):
            part = ranks[first : first + _LONGEST]
            room = (n for n, end in enumerate(ends) if end + len(part) + 1 <= _WORD)
            word = len(ends) if first else next(room, len(ends))
            if word == len(ends):
                ends.append(0)
            fields.append(Field(element, up, part, word, ends[word], follows=first > 0))
            ends[word] += len(part) + 1
    length = max(_BYTES * (len(ends) - 1) + -(-ends[-1] // 8), 1) if ends else 1
    return Code(tuple(fields), length, tuple(edges))


def tree_nodes(graph: Graph) -> Iterator[tuple[Ensemble, Sequence[str]]]:
    """Iterate over the ensembles that read nothing but graph inputs, with the names of those."""
    inputs = set(graph.inputs)
    for node in graph:
        if node.op_type == TREES and inputs.issuperset(node.inputs):
            yield Ensemble.of(node), node.inputs


def find_ladders(graph: Graph) -> dict[str, Ladder]:
    """Return the ladder of each input, if nothing but tree ensembles reads any of them; else nothing."""
    sides: dict[str, list[dict[float, set[bool]]]] = {}
    doubles: dict[str, bool] = {}
    for ensemble, names in tree_nodes(graph):
        where = [(name, index) for name in names for index in range(graph.tensor(name).size)]
        for name in names:
            sides.setdefault(name, [{} for _ in range(graph.tensor(name).size)])
            doubles[name] = doubles.get(name, False) or ensemble.double
        for fork in (node for node in ensemble.nodes if isinstance(node, Fork)):
            name, index = where[fork.feature]
            for edge in fork.edges:
                sides[name][index].setdefault(edge, set()).add(fork.up)
    found = {}
    for name in graph.inputs:
        read = any(use.node.op_type != TREES for use in graph.uses(name)) or name in graph.outputs
        if read or (name not in sides and graph.uses(name)):
            return {}
        elements = sides.get(name, [{} for _ in range(graph.tensor(name).size)])
        ordered = [sorted(own) for own in elements]
        up, down = (
            tuple(
                tuple(rank for rank, edge in enumerate(edges) if side in own[edge])
                for own, edges in zip(elements, ordered, strict=True)
            )
            for side in (True, False)
        )
        found[name] = Ladder(tuple(map(tuple, ordered)), up, down, doubles.get(name, False))
    if not sides:
        return {}
    ensembles = [ensemble for ensemble, _ in tree_nodes(graph)]
    edges = [len(own) for ladder in found.values() for own in ladder.edges if own]
    many = sum(edges) > _BITS_A_RANK * len(edges) or any(large(e) for e in ensembles)
    if many and not all(shallow(e) or few_questions(e) for e in ensembles):
        found = {name: replace(ladder, ranked=True) for name, ladder in found.items()}
    return found


SHALLOW = 4
"""Depth of trees of which a word holds enough to be worth it."""
_BITS_A_RANK = 17
"""Edges an element, on average, from which on ranks are cheaper."""


def shallow(ensemble: Ensemble) -> bool:
    """Whether an ensemble's trees can be computed many at once: of small depth, each fork one question."""
    return _simple(ensemble) and all(ensemble.depth(root) <= SHALLOW for root in ensemble.roots)


def _simple(ensemble: Ensemble) -> bool:
    return all(len(node.edges) == 1 for node in ensemble.nodes if isinstance(node, Fork))


def large(ensemble: Ensemble) -> bool:
    """Whether an ensemble is too large for nested comparisons: tables of records, which need ranks, may hold it."""
    return sum(map(ensemble.comparisons, ensemble.roots)) > MOST_NESTED


Question = tuple[int, float, bool]
"""Feature, edge and side of a missing element."""
FEW_QUESTIONS = 8
"""Questions of a tree whose answers may be the place in a table."""


def questions(ensemble: Ensemble, root: int) -> list[Question]:
    """Return what the forks of a tree, each of which has one edge, ask: each question once."""
    forks = (node for number in ensemble.reached(root) if isinstance(node := ensemble.nodes[number], Fork))
    return sorted({(fork.feature, fork.edges[0], fork.up) for fork in forks})


def few_questions(ensemble: Ensemble) -> bool:
    """Whether each tree of an ensemble asks so few questions that a table may hold what it adds for all answers."""
    return _simple(ensemble) and all(len(questions(ensemble, root)) <= FEW_QUESTIONS for root in ensemble.roots)


def graph_code(graph: Graph) -> Code | RankCode | None:
    """Return the code of a graph's inputs; None if their elements are packed one by one."""
    if not graph.ladders:
        return None
    if any(ladder.ranked for ladder in graph.ladders.values()):
        return rank_code([graph.ladders[name] for name in graph.inputs])
    return code_of(tuple(graph.ladders[name] for name in graph.inputs))


def packed(graph: Graph, code: Code | RankCode, inputs: Mapping[str, Array]) -> bytes:
    """Return the packed input for ranks."""
    return code.pack([int(rank) for name in graph.inputs for rank in np.ravel(inputs[name])])
