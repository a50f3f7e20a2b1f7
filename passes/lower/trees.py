"""Tree ensembles: the same steps as `TreeEnsemble.evaluate_exact`.

A fork's question is a bit of the thermometer code, or several of which an odd number is set. What leaves say is added
up in lanes of words, a lane a target: of each tree's leaves only what they say beyond the least of them, so that no
lane is negative; the rest is constant.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

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
    Segment,
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
from ml2sc.ir.thermometer import TREES, Code, few_questions, graph_code, shallow
from ml2sc.ir.trees import Ensemble, Fork, Leaf

from .context import DraftSection, Lowering, lowering
from .elementwise import lower_map, result_of
from .grid import Grid, perfect, shape_of
from .lookup import Lookup, answers
from .records import Records, forks_of
from .thermo import Bits, Questions, Ranks, element_ladders
from .values import Value
from .walked import least_price, of_sections

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
        input: What is asked.
        least: By tree and target: the least leaf.
        lanes: By target.
        words: Number of sums.
        name: What the names of its tables begin with.
        room: Words in a data contract.
    """

    ensemble: Ensemble
    elements: Sequence[int]
    input: Questions
    least: Sequence[Sequence[int]]
    lanes: Sequence[Lane]
    words: int
    name: str
    room: int

    def question(self, fork: Fork) -> Expr:
        """Return 1 where an odd number of a fork's edges is exceeded, else 0."""
        parts = [self.input.above(self.elements[fork.feature], int(rank), up=fork.up) for rank in fork.edges]
        if not parts:
            return const(0)
        total = parts[0]
        for other in parts[1:]:
            total = _xor(total, other)
        return and_(total, const(1)) if isinstance(self.input, Bits) else total

    def beyond(self, tree: int, leaf: Leaf) -> list[int]:
        """Return by how much a leaf exceeds the least of its tree, by target."""
        return [int(leaf.values.get(target, 0)) - least for target, least in enumerate(self.least[tree])]

    def leaf(self, tree: int, leaf: Leaf) -> list[int]:
        """Return what a leaf adds to each sum."""
        sums = [0] * self.words
        for lane, value in zip(self.lanes, self.beyond(tree, leaf), strict=True):
            sums[lane.word] += value << lane.shift
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
    name = context.identifier("buffer", "trees")
    asked = Bits(code) if isinstance(code, Code) else Ranks(code, element_ladders(graph), f"{name}_ranks")
    return Trees(ensemble, elements, asked, least, lanes, word + 1, name, context.options.contract_words)


@dataclass(frozen=True)
class Way:
    """Statements that compute an ensemble.

    Attributes:
        kernel: What they are called.
        body: The statements, after those that read the code.
        values: The targets then.
        segments: Tables that they copy.
        buffers: Words of the buffers they use.
    """

    kernel: str
    body: tuple[Statement, ...]
    values: tuple[Expr, ...]
    segments: Mapping[str, Segment] = field(default_factory=dict)
    buffers: Mapping[str, int] = field(default_factory=dict)


@lowering(TREES)
def lower_trees(context: Lowering, node: Node) -> None:
    """The trees' leaves, added up: in the way that costs least."""
    trees = trees_of(context, node)
    ensemble = trees.ensemble
    forks = sum(isinstance(ensemble.nodes[n], Fork) for root in ensemble.roots for n, _ in ensemble.walk(root))
    draft = context.section(node, f"{len(ensemble.roots)} trees, {forks} comparisons, {ensemble.targets} sums")
    kernel = context.options.forced(node).get("kernel")
    ways = (way for way in _ways(trees) if kernel in {None, way.kernel})

    def walked(way: Way) -> float:
        tried, trial = context.trial(), dataclasses.replace(draft, body=[], facts={})
        _emit(tried, node, trial, trees, way)
        return least_price(of_sections([trial.finish()], tried, way.segments), context.options)

    way = context.choices.make(draft.name, ways, lambda way: way.kernel, walked)
    context.values[node.output] = _emit(context, node, draft, trees, way)
    draft.facts = {"operator": TREES, "kernel": way.kernel, "trees": len(ensemble.roots), "comparisons": forks}


def _emit(context: Lowering, node: Node, draft: DraftSection, trees: Trees, way: Way) -> Value:
    """Add a way's statements, and return where the targets are then."""
    context.segments |= way.segments
    context.buffers |= way.buffers
    if isinstance(trees.input, Ranks):
        context.buffers[trees.input.buffer] = 1 << trees.input.bits
    result = result_of(context, node, draft)
    draft.body += [*trees.input.start(), *way.body]
    draft.body += [Store(result.buffer, const(target), value) for target, value in enumerate(way.values)]
    return Value.of(result)


def _ways(trees: Trees) -> Iterator[Way]:
    if trees.ensemble.aggregate != "SUM":
        yield extremes(trees)
        return
    yield nested(trees)
    for way in (all_at_once(trees), by_lookup(trees), by_records(trees)):
        if way is not None:
            yield way


# -- all at once -----------------------------------------------------------------------------------------------------


def all_at_once(trees: Trees) -> Way | None:
    """Return what computes shallow trees, many in a word; None where they are no such trees."""
    ensemble, bits = trees.ensemble, trees.input
    if not isinstance(bits, Bits) or not shallow(ensemble):
        return None
    depth = max(max(ensemble.depth(root) for root in ensemble.roots), 1)
    written = [perfect(ensemble, root, depth) for root in ensemble.roots]
    leaves = [
        [trees.beyond(tree, leaf) for number in numbers if isinstance(leaf := ensemble.nodes[number], Leaf)]
        for tree, (_, numbers) in enumerate(written)
    ]
    shape = shape_of(ensemble, leaves)
    if shape is None:
        return None
    places = [
        {
            position: bits.at(trees.elements[fork.feature], int(fork.edges[0]), up=fork.up)
            for position, number in forks.items()
            if isinstance(fork := ensemble.nodes[number], Fork)
        }
        for forks, _ in written
    ]
    code = [bits.word(number) for number in range(bits.code.words)]
    grid = Grid(ensemble, shape, leaves, places, code)
    text = f"{shape.lanes} trees of depth {depth} in a word: their questions, put in order; their leaves; their sums."
    body = [Note(text), *grid.statements()]
    sums = grid.targets(body)
    values = [add(total, const(lane.constant)) for total, lane in zip(sums, trees.lanes, strict=True)]
    return Way("grid", tuple(body), tuple(values))


# -- by lookup --------------------------------------------------------------------------------------------------------


def by_lookup(trees: Trees) -> Way | None:
    """Return what looks up what trees of few questions add; None where they ask more, or say much at once."""
    ensemble, bits = trees.ensemble, trees.input
    if not isinstance(bits, Bits) or trees.words > 1 or not few_questions(ensemble):
        return None
    places, values, shifts = [], [], []
    for tree, root in enumerate(ensemble.roots):
        asked, leaves = answers(ensemble, root)
        places.append([bits.at(trees.elements[feature], int(edge), up=up) for feature, edge, up in asked])
        beyond = [trees.beyond(tree, leaf) for leaf in leaves]
        targets = {target for own in beyond for target, value in enumerate(own) if value}
        alone = len(targets) == 1
        shifts.append(trees.lanes[min(targets)].shift if alone else 0)
        values.append(
            [max(own) if alone else trees.leaf(tree, leaf)[0] for own, leaf in zip(beyond, leaves, strict=True)]
        )
    code = [bits.word(number) for number in range(bits.code.words)]
    lookup = Lookup(places, values, shifts, code, trees.name)
    if not lookup.fits:
        return None
    body = tuple(lookup.statements())
    return Way("lookup", body, tuple(trees.lanes_of([Var("sum0")])), lookup.segments(), lookup.buffers())


# -- by records -------------------------------------------------------------------------------------------------------


def by_records(trees: Trees) -> Way | None:
    """Return what walks tables of records, whatever the trees; None where ranks are not packed, or leaves are long."""
    ranks = trees.input
    if not isinstance(ranks, Ranks) or trees.words > 1:
        return None
    ensemble = trees.ensemble
    flat = [
        forks_of(ensemble, root, lambda fork: ranks.places[trees.elements[fork.feature], fork.up])
        for root in ensemble.roots
    ]
    leaves = [
        [trees.leaf(tree, leaf)[0] for number in own.leaves if isinstance(leaf := ensemble.nodes[number], Leaf)]
        for tree, own in enumerate(flat)
    ]
    records = Records.of(flat, leaves, ranks.buffer, ranks.bits, trees.room)
    if records is None:
        return None
    values = tuple(trees.lanes_of([Var("sum0")]))
    return Way("records", tuple(records.statements()), values, records.segments(), records.buffers())


# -- nested comparisons ----------------------------------------------------------------------------------------------


def nested(trees: Trees) -> Way:
    """Return comparisons inside of one another, a tree after the other."""
    body: list[Statement] = [Note("Each tree's leaf adds what it says beyond the least leaf of its tree.")]
    body += [Let(f"sum{word}", const(0)) for word in range(trees.words)]

    def add_leaf(word: int, value: Expr) -> Statement:
        return Assign(f"sum{word}", add(Var(f"sum{word}"), value))

    for tree, root in enumerate(trees.ensemble.roots):

        def say(leaf: Leaf, tree: int = tree) -> list[int]:
            return trees.leaf(tree, leaf)

        body += _written(trees, root, say, add_leaf)
    sums = [Var(f"sum{word}") for word in range(trees.words)]
    return Way("nested", tuple(body), tuple(trees.lanes_of(sums)))


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


def extremes(trees: Trees) -> Way:
    """Return what finds the least or the greatest of the trees' leaves."""
    least = trees.ensemble.aggregate == "MIN"
    body: list[Statement] = [Note(f"The {'least' if least else 'greatest'} of what the trees' leaves say.")]
    for tree, root in enumerate(trees.ensemble.roots):

        def say(leaf: Leaf) -> list[int]:
            return [int(leaf.values[target]) for target in range(trees.ensemble.targets)]

        names = [f"best{t}" if tree == 0 else f"leaf{tree}_{t}" for t in range(trees.ensemble.targets)]
        body += [Let(name, const(0)) for name in names]

        def give(word: int, value: Expr, names: Sequence[str] = tuple(names)) -> Statement:
            return Assign(names[word], value)

        body += _written(trees, root, say, give)
        if tree:
            for target, name in enumerate(names):
                best = Var(f"best{target}")
                better = slt(Var(name), best) if least else sgt(Var(name), best)
                body.append(If(better, (Assign(f"best{target}", Var(name)),)))
    values = [add(Var(f"best{target}"), const(int(base))) for target, base in enumerate(trees.ensemble.base)]
    return Way("nested", tuple(body), tuple(values))


@lowering(EXCEEDS)
def lower_exceeds(context: Lowering, node: Node) -> None:
    """1 if x > cut, else 0."""
    cut = const(attr_int(node, "cut", 0))
    lower_map(context, node, lambda operands: ([], sgt(operands[0], cut)))
