"""Tree ensembles: the same steps as `TreeEnsemble.evaluate_exact`.

A fork's question is a bit of the thermometer code, or several of which an odd number is set. What leaves say is added
up in lanes of words, a lane a target: of each tree's leaves only what they say beyond the least of them, so that no
lane is negative; the rest is constant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ml2sc.errors import InternalError
from ml2sc.ir.graph import Node
from ml2sc.ir.ops.base import attr_int
from ml2sc.ir.ops.trees import EXCEEDS
from ml2sc.ir.program import (
    Assign,
    Expr,
    If,
    Let,
    Note,
    OpCode,
    Statement,
    Store,
    Var,
    add,
    and_,
    binary,
    const,
    mul,
    sgt,
    shr,
    slt,
    sub,
)
from ml2sc.ir.thermometer import TREES, graph_code
from ml2sc.ir.trees import Ensemble, Fork, Leaf

from .context import DraftSection, Lowering, lowering
from .elementwise import lower_map, result_of
from .thermo import Bits
from .values import Value

_xor = binary(OpCode.XOR)
_WORD = 256


@dataclass(frozen=True)
class Lane:
    """Where a target is added up.

    Attributes:
        word: Number of the sum.
        shift: Its lowest bit there.
        bits: Its width.
        constant: What the sum leaves out: base value, and the least leaf of each tree.
    """

    word: int
    shift: int
    bits: int
    constant: int


@dataclass(frozen=True)
class Trees:
    """An ensemble of integers, made ready to be written out.

    Attributes:
        ensemble: Its edges are ranks.
        elements: For each feature the number of the element among all inputs'.
        bits: The code.
        least: By tree and target: the least leaf.
        lanes: By target.
        words: Number of sums.
    """

    ensemble: Ensemble
    elements: Sequence[int]
    bits: Bits
    least: Sequence[Sequence[int]]
    lanes: Sequence[Lane]
    words: int

    def question(self, fork: Fork) -> Expr:
        """Return 1 where an odd number of a fork's edges is exceeded, else 0."""
        places = [self.bits.at(self.elements[fork.feature], int(rank), up=fork.up) for rank in fork.edges]
        if not places:
            return const(0)
        shifted = [shr(bit, self.bits.word(word)) for word, bit in places]
        total = shifted[0]
        for other in shifted[1:]:
            total = _xor(total, other)
        return and_(total, const(1))

    def leaf(self, tree: int, leaf: Leaf) -> list[int]:
        """Return what a leaf adds to each sum."""
        sums = [0] * self.words
        for target, (lane, least) in enumerate(zip(self.lanes, self.least[tree], strict=True)):
            sums[lane.word] += int(leaf.values.get(target, 0)) - least << lane.shift
        return sums

    def lanes_of(self, sums: Sequence[Expr]) -> list[Expr]:
        """Return the targets, given the sums."""
        found = []
        for lane in self.lanes:
            value = shr(lane.shift, sums[lane.word])
            alone = sum(other.word == lane.word for other in self.lanes) == 1
            found.append(add(value if alone else and_(value, const((1 << lane.bits) - 1)), const(lane.constant)))
        return found


def trees_of(context: Lowering, node: Node) -> Trees:
    """Make a node's ensemble ready."""
    graph = context.graph
    ensemble, _ = Ensemble.ranked(node)
    code = graph_code(graph)
    if code is None:
        raise InternalError(f"{node} has no ladders")
    first, offsets = 0, {}
    for name in graph.inputs:
        offsets[name] = first
        first += graph.tensor(name).size
    elements = [offsets[name] + index for name in node.inputs for index in range(graph.tensor(name).size)]
    spans = [ensemble.spans(root) for root in ensemble.roots]
    summed = ensemble.aggregate == "SUM"
    least = [[int(lo) if summed else 0 for lo, _ in own] for own in spans]
    lanes: list[Lane] = []
    word = shift = 0
    for target, base in enumerate(ensemble.base):
        most = sum(int(own[target][1]) - int(own[target][0]) for own in spans)
        bits = max(most.bit_length(), 1)
        if shift and (shift + bits > _WORD or not summed):
            word, shift = word + 1, 0
        lanes.append(Lane(word, shift, bits, int(base) + sum(own[target] for own in least)))
        shift += bits
    return Trees(ensemble, elements, Bits(code), least, lanes, word + 1)


@lowering(TREES)
def lower_trees(context: Lowering, node: Node) -> None:
    """The trees' leaves, added up."""
    trees = trees_of(context, node)
    ensemble = trees.ensemble
    forks = sum(isinstance(ensemble.nodes[n], Fork) for root in ensemble.roots for n, _ in ensemble.walk(root))
    title = f"{len(ensemble.roots)} trees, {forks} comparisons, {ensemble.targets} sums"
    draft = context.section(node, title)
    draft.body += trees.bits.start()
    if ensemble.aggregate == "SUM":
        sums = nested(draft, trees)
        values = trees.lanes_of(sums)
    else:
        values = _extremes(draft, trees)
    result = result_of(context, node, draft)
    draft.body += [Store(result.buffer, const(target), value) for target, value in enumerate(values)]
    draft.facts = {"operator": TREES, "kernel": "nested", "trees": len(ensemble.roots), "comparisons": forks}
    context.values[node.output] = Value.of(result)


# -- nested comparisons ----------------------------------------------------------------------------------------------


def nested(draft: DraftSection, trees: Trees) -> list[Expr]:
    """Emit comparisons inside of one another, a tree after the other, and return the sums."""
    draft.body.append(Note("Each tree's leaf adds what it says beyond the least leaf of its tree."))
    draft.body += [Let(f"sum{word}", const(0)) for word in range(trees.words)]

    def add_leaf(word: int, value: Expr) -> Statement:
        return Assign(f"sum{word}", add(Var(f"sum{word}"), value))

    for tree, root in enumerate(trees.ensemble.roots):

        def say(leaf: Leaf, tree: int = tree) -> list[int]:
            return trees.leaf(tree, leaf)

        draft.body += _written(trees, root, say, add_leaf)
    return [Var(f"sum{word}") for word in range(trees.words)]


def _written(
    trees: Trees, number: int, say: Callable[[Leaf], list[int]], give: Callable[[int, Expr], Statement]
) -> list[Statement]:
    """Return the statements of a tree from a node on.

    Args:
        trees: The ensemble.
        number: The node.
        say: What a leaf adds to each sum.
        give: Adds a value to a sum.
    """
    node = trees.ensemble.nodes[number]
    if isinstance(node, Leaf):
        return [give(word, const(value)) for word, value in enumerate(say(node)) if value]
    question = trees.question(node)
    odd, even = trees.ensemble.nodes[node.odd], trees.ensemble.nodes[node.even]
    if isinstance(odd, Leaf) and isinstance(even, Leaf):
        both = [(word, a, b) for word, (a, b) in enumerate(zip(say(odd), say(even), strict=True)) if a or b]
        if len(both) == 1:
            ((word, a, b),) = both
            if a == b:
                return [give(word, const(a))]
            step = mul(question, const(abs(a - b)))  # never negative: that would be a long literal
            return [give(word, add(step, const(b)) if a > b else sub(const(b), step))]
    body = _written(trees, node.odd, say, give)
    otherwise = _written(trees, node.even, say, give)
    if not body:
        body, otherwise, question = otherwise, [], sub(const(1), question)
    return [If(question, tuple(body), tuple(otherwise))] if body else []


def _extremes(draft: DraftSection, trees: Trees) -> list[Expr]:
    """Emit the least or the greatest of the trees' leaves, and return the targets."""
    least = trees.ensemble.aggregate == "MIN"
    draft.body.append(Note(f"The {'least' if least else 'greatest'} of what the trees' leaves say."))
    for tree, root in enumerate(trees.ensemble.roots):

        def say(leaf: Leaf) -> list[int]:
            return [int(leaf.values[target]) for target in range(trees.ensemble.targets)]

        names = [f"best{t}" if tree == 0 else f"leaf{tree}_{t}" for t in range(trees.ensemble.targets)]
        draft.body += [Let(name, const(0)) for name in names]

        def give(word: int, value: Expr, names: Sequence[str] = tuple(names)) -> Statement:
            return Assign(names[word], value)

        draft.body += _written(trees, root, say, give)
        if tree:
            for target, name in enumerate(names):
                best = Var(f"best{target}")
                better = slt(Var(name), best) if least else sgt(Var(name), best)
                draft.body.append(If(better, (Assign(f"best{target}", Var(name)),)))
    return [add(Var(f"best{target}"), const(int(base))) for target, base in enumerate(trees.ensemble.base)]


@lowering(EXCEEDS)
def lower_exceeds(context: Lowering, node: Node) -> None:
    """1 if x > cut, else 0."""
    cut = const(attr_int(node, "cut", 0))
    lower_map(context, node, lambda operands: ([], sgt(operands[0], cut)))
