"""Tree ensembles: the same steps as `TreeEnsemble.evaluate_exact`.

A fork's question is a bit of the thermometer code, or several of which an odd number is set. What leaves say is added
up in lanes of words, a lane a target: of each tree's leaves only what they say beyond the least of them, so that no
lane is negative; the rest is constant.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ml2sc.errors import InternalError, UnsupportedModelError
from ml2sc.ir.divide import CALL_GAS
from ml2sc.ir.gas import Sizes, section_bytes
from ml2sc.ir.graph import Node
from ml2sc.ir.ops.base import attr_int
from ml2sc.ir.ops.trees import EXCEEDS
from ml2sc.ir.program import (
    Assign,
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
    Store,
    Var,
    add,
    and_,
    binary,
    const,
    iszero,
    mul,
    sgt,
    shr,
    slt,
    sub,
)
from ml2sc.ir.thermometer import TREES, Code, few_questions, graph_code, large, shallow
from ml2sc.ir.tree_room import tables
from ml2sc.ir.trees import MOST_NESTED, Ensemble, Fork, Leaf
from ml2sc.ir.types import Reserve, TreeRoom

from .columns import Columns
from .context import DraftSection, Lowering, lowering
from .elementwise import lower_map, result_of
from .grid import Grid, perfect, shapes_of
from .lookup import Lookup, answers
from .network import Place
from .options import CODE_MARGIN, PlanOptions
from .records import Flat, Group, Records, forks_of, power
from .thermo import Bits, Questions, Ranks, element_ladders
from .values import Value
from .walked import Line, least, lines, of_sections

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
        reserved: What there is room for, if they may be replaced by others; then what sums leave out is data.
    """

    ensemble: Ensemble
    elements: Sequence[int]
    input: Questions
    least: Sequence[Sequence[int]]
    lanes: Sequence[Lane]
    words: int
    name: str
    room: int
    reserved: Reserve | None = None

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
        for target, lane in enumerate(self.lanes):
            value = shr(lane.shift, sums[lane.word])
            alone = sum(other.word == lane.word for other in self.lanes) == 1
            found.append(add(value if alone else and_(value, const((1 << lane.bits) - 1)), self.constant(target)))
        return found

    def constant(self, target: int) -> Expr:
        """Return what the sum of a target leaves out."""
        if not isinstance(self.input, Ranks) or self.input.limits is None:
            return const(self.lanes[target].constant)
        return Load(self.input.limits, const(len(self.input.tops()) + target))

    def limits(self) -> dict[str, tuple[int, ...]]:
        """Return what is data besides tables, in a buffer of that name: greatest ranks, and what sums leave out."""
        if not isinstance(self.input, Ranks) or self.input.limits is None:
            return {}
        return {self.input.limits: (*self.input.tops(), *(lane.constant % (1 << _WORD) for lane in self.lanes))}


def trees_of(context: Lowering, node: Node) -> Trees:
    """Make a node's ensemble ready."""
    name = context.identifier("buffer", "trees")
    return context.known.once((TREES, node.name, name), lambda: _ready(context, node, name))


def _ready(context: Lowering, node: Node, name: str) -> Trees:
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
    reserved = graph.reserves.get(node.name)
    for target, base in enumerate(ensemble.base):
        most = sum(int(own[target][1]) - int(own[target][0]) for own in spans)
        if reserved is not None and reserved.trees is not None:
            most = (reserved.trees.own[target] + reserved.trees.joint) * ((1 << reserved.weight_bits) - 1)
        bits = max(most.bit_length(), 1)
        if shift and (shift + bits > _WORD or not summed):
            word, shift = word + 1, 0
        lanes.append(Lane(word, shift, bits, int(base) + sum(own[target] for own in least)))
        shift += bits
    tops = None if reserved is None else f"{name}_limits"
    asked = Bits(code) if isinstance(code, Code) else Ranks(code, element_ladders(graph), f"{name}_ranks", tops)
    return Trees(ensemble, elements, asked, least, lanes, word + 1, name, context.options.contract_words, reserved)


@dataclass(frozen=True)
class Way:
    """Statements that compute an ensemble.

    Attributes:
        kernel: What they are called.
        body: The statements, after those that read the code.
        values: The targets then.
        segments: Tables that they copy.
        buffers: Words of the buffers they use.
        before: Statements of sections before theirs, each of which may be in a code contract of its own.
        form: What tells it from others of its kernel.
    """

    kernel: str
    body: tuple[Statement, ...]
    values: tuple[Expr, ...]
    segments: Mapping[str, Segment] = field(default_factory=dict)
    buffers: Mapping[str, int] = field(default_factory=dict)
    before: tuple[tuple[Statement, ...], ...] = ()
    form: str = ""


@lowering(TREES)
def lower_trees(context: Lowering, node: Node) -> None:
    """The trees' leaves, added up: in the way that costs least."""
    trees = trees_of(context, node)
    ensemble = trees.ensemble
    forks = sum(map(ensemble.comparisons, ensemble.roots))
    draft = context.section(node, f"{_size(trees, forks)}, {ensemble.targets} sums")
    kernel = context.options.forced(node).get("kernel")
    every = context.known.once((TREES, node.name, trees.name, "ways"), lambda: list(_ways(trees, context.options)))
    ways = [way for way in every if kernel in {None, way.kernel}]
    if not ways:
        raise _too_large(trees, node)

    def walked(way: Way) -> tuple[Line, ...]:
        tried, trial = context.trial(), dataclasses.replace(draft, body=[], facts={})
        _, before = _emit(tried, node, trial, trees, way)
        program = of_sections([section.finish() for section in (*before, trial)], tried, way.segments)
        limit = context.options.code_limit
        if not before:
            return lines(program, context.options, limit)
        # its sections need not fit one contract, each must fit one: no byte of code is dearer than what deploys it
        room = round(CODE_MARGIN * limit)
        contracts = sum(section_bytes(program, Sizes()).values()) // room
        return tuple(Line(one.gas + contracts * CALL_GAS) for one in lines(program, context.options, room))

    seen = node.name, context.seen_by([node]), bool(context.options.generators)

    def price(way: Way) -> float:
        return least(context.known.walk((*seen, _name(way)), lambda: walked(way)), context.options)

    way = context.choices.make(draft.name, ways, _name, price)
    context.values[node.output], before = _emit(context, node, draft, trees, way)
    place = context.sections.index(draft)
    context.sections[place:place] = before
    draft.facts = {"operator": TREES, "kernel": way.kernel, "trees": len(ensemble.roots), "comparisons": forks}


def _name(way: Way) -> str:
    return f"{way.kernel} {way.form}".strip()


def _size(trees: Trees, forks: int) -> str:
    """Return how large an ensemble is, or may be: that is in the code's comments, too."""
    if trees.reserved is None or trees.reserved.trees is None:
        return f"{len(trees.ensemble.roots)} trees, {forks} comparisons"
    room = trees.reserved.trees
    return f"room for {sum(room.own) + room.joint} trees of {room.forks} comparisons, {room.depth} levels"


def _emit(
    context: Lowering, node: Node, draft: DraftSection, trees: Trees, way: Way
) -> tuple[Value, list[DraftSection]]:
    """Add a way's statements; return where the targets are then, and the sections that come before."""
    context.segments |= way.segments
    context.buffers |= way.buffers
    ranks = 0
    if isinstance(trees.input, Ranks):
        ranks = way.buffers.get(trees.input.buffer, max(len(trees.input.places), 1))
        context.buffers[trees.input.buffer] = ranks
    for name, words in trees.limits().items():
        context.buffers[name] = len(words)
        draft.body.append(CopySegment(name, const(0), len(words), name))
    result = result_of(context, node, draft)
    before: list[DraftSection] = []
    for number, body in enumerate(way.before):
        name, title = context.identifier("section", f"{draft.name}_trees"), f"Trees, part {number + 1}"
        read = trees.input.again() if before else trees.input.start(ranks)
        before.append(dataclasses.replace(draft, name=name, title=title, body=[*read, *body], facts={}))
    draft.body += way.body if before else [*trees.input.start(ranks), *way.body]
    draft.body += [Store(result.buffer, const(target), value) for target, value in enumerate(way.values)]
    return Value.of(result), before


def _ways(trees: Trees, options: PlanOptions) -> Iterator[Way]:
    if trees.reserved is not None:
        yield from _of_records(by_records(trees), trees)
        return
    if trees.ensemble.aggregate != "SUM":
        if not large(trees.ensemble):
            yield extremes(trees)
        return
    if not large(trees.ensemble):
        portions = list(_portions(trees))
        several = options.divides and len(portions) > _ONE_CONTRACT
        yield nested_in_portions(trees, portions) if several else nested(trees)
    yield from all_at_once(trees)
    yield from by_lookup(trees)
    yield from _of_records(by_records(trees), trees)


def _of_records(records: Records | None, trees: Trees) -> Iterator[Way]:
    if records is not None and records.fits and isinstance(trees.input, Ranks):
        ranks = {trees.input.buffer: 1 << trees.input.bits}  # a record may name any of so many
        values = tuple(trees.lanes_of([Var("sum0")]))
        limits = {name: Segment(words, Storage.DATA, len(words)) for name, words in trees.limits().items()}
        segments = records.segments() | limits
        yield Way("records", tuple(records.statements()), values, segments, records.buffers() | ranks)


def _too_large(trees: Trees, node: Node) -> UnsupportedModelError:
    """Return what says how large an ensemble may be, of which nothing holds this one."""
    own = [trees.ensemble.comparisons(root) for root in trees.ensemble.roots]
    text = f"{sum(own):,} comparisons are too many for any form: nested ones may be {MOST_NESTED:,}"
    records = by_records(trees) if trees.ensemble.aggregate == "SUM" else None
    if records is not None:
        text += f", a tree in a table about {records.most:,}, the largest has {max(own):,}"
    return UnsupportedModelError(
        text, node=str(node), hint="train fewer or shallower trees; max_leaf_nodes or max_depth bound their size"
    )


# -- all at once -----------------------------------------------------------------------------------------------------


def all_at_once(trees: Trees) -> Iterator[Way]:
    """Yield what computes shallow trees, many in a word; nothing where they are no such trees.

    Trees that would be few in a word of their own may be nested comparisons instead.
    """
    ensemble, bits = trees.ensemble, trees.input
    if not isinstance(bits, Bits) or not shallow(ensemble):
        return
    depth = max(max(ensemble.depth(root) for root in ensemble.roots), 1)
    written = [perfect(ensemble, root, depth) for root in ensemble.roots]
    leaves = [
        [trees.beyond(tree, leaf) for number in numbers if isinstance(leaf := ensemble.nodes[number], Leaf)]
        for tree, (_, numbers) in enumerate(written)
    ]
    places = [
        {
            position: bits.at(trees.elements[fork.feature], int(fork.edges[0]), up=fork.up)
            for position, number in forks.items()
            if isinstance(fork := ensemble.nodes[number], Fork)
        }
        for forks, _ in written
    ]
    code = [bits.word(number) for number in range(bits.code.words)]
    for shape in shapes_of(ensemble, leaves, places):
        rest = sorted(set(range(len(written))) - {tree for slots in shape.words for tree in slots})
        count = len(shape.words)
        for guarded, said in (((), ""), (range(2, count, 2), "guarded in pairs"), (range(count), "guarded")):
            if not guarded and said:  # no more than two words
                continue
            grid = Grid(ensemble, shape, leaves, places, code, guarded=guarded)
            text = f"{shape.lanes} trees of depth {depth} in a word: their questions, put in order; leaves; sums."
            body: list[Statement] = [Note(text), *grid.start()]
            others: list[Expr] = [const(lane.constant) for lane in trees.lanes]
            if rest:
                body += _no_sums(trees)
                others = trees.lanes_of([Var(f"sum{word}") for word in range(trees.words)])
            for number, word in enumerate(grid.words()):
                # jumps between words: what lies between two of them is what a compiler has to keep at once
                body += [word, *_added(trees, rest[number :: len(shape.words)])]
            sums = grid.targets(body)
            values = [add(total, other) for total, other in zip(sums, others, strict=True)]
            form = " ".join([*(["nested"] if rest else []), *([said] if said else [])])
            yield Way("grid", tuple(body), tuple(values), form=form)


# -- by lookup --------------------------------------------------------------------------------------------------------


def by_lookup(trees: Trees) -> Iterator[Way]:
    """Yield what looks up what trees of few questions add; nothing where they ask more, or say much at once."""
    ensemble, bits = trees.ensemble, trees.input
    if not isinstance(bits, Bits) or trees.words > 1 or not few_questions(ensemble):
        return
    places: list[list[Place]] = []
    values: list[list[int | None]] = []
    shifts: list[int] = []
    for tree, root in enumerate(ensemble.roots):
        asked, leaves = answers(ensemble, root)
        places.append([bits.at(trees.elements[feature], int(edge), up=up) for feature, edge, up in asked])
        beyond = [None if leaf is None else trees.beyond(tree, leaf) for leaf in leaves]
        targets = {target for own in beyond if own is not None for target, value in enumerate(own) if value}
        alone = len(targets) == 1
        shifts.append(trees.lanes[min(targets)].shift if alone else 0)
        values.append(
            [
                None if leaf is None or own is None else max(own) if alone else trees.leaf(tree, leaf)[0]
                for own, leaf in zip(beyond, leaves, strict=True)
            ]
        )
    code = [bits.word(number) for number in range(bits.code.words)]
    lookup = Lookup(places, [[value or 0 for value in own] for own in values], shifts, code, trees.name)
    if not lookup.fits:
        return
    ways = {"": lookup}
    if lookup.buffers() and lookup.bits < _WORD:
        ways["fields"] = dataclasses.replace(lookup, fields=True)
        ways["fields apart"] = dataclasses.replace(lookup, fields=True, apart=True)
        ways["literals"] = dataclasses.replace(lookup, literal=True)
    for form, way in ways.items():
        sums = tuple(trees.lanes_of([Var("sum0")]))
        yield Way("lookup", tuple(way.statements()), sums, way.segments(), way.buffers(), form=form)
    for rest in ([], _beyond_words(shifts, _WORD // lookup.bits)):
        full = [tree for tree in range(len(places)) if tree not in rest]
        columns = Columns(places, values, shifts, lookup.bits, full, code)
        tables = dataclasses.replace(lookup.of(rest), literal=True) if rest else None
        if columns.fits:
            body = [*columns.statements(), *(_no_sums(trees) if tables is None else tables.statements())]
            body.append(Assign("sum0", add(columns.total(body), Var("sum0"))))
            sums = tuple(trees.lanes_of([Var("sum0")]))
            yield Way("columns", tuple(body), sums, form="lookup" if rest else "")


def _beyond_words(shifts: Sequence[int], lanes: int) -> list[int]:
    """Return the trees that would not fill a word with others that are shifted as they are."""
    rest: list[int] = []
    for shift in sorted(set(shifts)):
        own = [tree for tree, other in enumerate(shifts) if other == shift]
        rest += own[len(own) - len(own) % lanes :]
    return rest


# -- by records -------------------------------------------------------------------------------------------------------


def by_records(trees: Trees) -> Records | None:
    """Return tables of records, whatever the trees; None where ranks are not packed, or leaves are long."""
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
    reserved = trees.reserved
    if reserved is None or reserved.trees is None:
        return Records.of(flat, leaves, ranks.buffer, ranks.bits, trees.room)
    groups = list(_roomy_groups(trees, flat, leaves, reserved, reserved.trees))
    return Records.roomy(groups, ranks.buffer, ranks.bits, 8 * ranks.code.width, trees.room)


def _roomy_groups(
    trees: Trees, flat: Sequence[Flat], leaves: Sequence[Sequence[int]], reserved: Reserve, room: TreeRoom
) -> Iterator[Group]:
    """Yield tables for any trees that there is room for; one that no tree takes holds zeros, which add nothing."""
    own, joint = tables(room, list(_targets(trees)))
    lanes, bits = trees.lanes, reserved.weight_bits
    wanted = [(numbers, count, lane.shift, bits) for numbers, count, lane in zip(own, room.own, lanes, strict=True)]
    wanted.append((joint, room.joint, 0, lanes[-1].shift + bits))
    for numbers, count, shift, width in wanted:
        if count:
            some = [(flat[tree], [value >> shift for value in leaves[tree]]) for tree in numbers]
            empty = [(Flat((), (), 0), ())] * (count - len(some))
            name = f"{trees.name}_{'joint' if numbers is joint else f'table{shift}'}"
            yield Group([*some, *empty], name, room.forks, room.forks + 1, room.depth, shift, power(width), roomy=True)


def _targets(trees: Trees) -> Iterator[list[int]]:
    """Yield what each tree adds to."""
    for tree, root in enumerate(trees.ensemble.roots):
        reached = (trees.ensemble.nodes[number] for number in trees.ensemble.reached(root))
        beyond = [trees.beyond(tree, leaf) for leaf in reached if isinstance(leaf, Leaf)]
        yield [target for target in range(len(trees.lanes)) if any(own[target] for own in beyond)]


# -- nested comparisons ----------------------------------------------------------------------------------------------


def nested(trees: Trees) -> Way:
    """Return comparisons inside of one another, a tree after the other."""
    note = Note("Each tree's leaf adds what it says beyond the least leaf of its tree.")
    sums = [Var(f"sum{word}") for word in range(trees.words)]
    body = (note, *_no_sums(trees), *_added(trees, range(len(trees.ensemble.roots))))
    return Way("nested", body, tuple(trees.lanes_of(sums)))


_PORTION = 300
"""Comparisons of a section: a few of them fit a code contract."""
_ONE_CONTRACT = 3
"""Portions that fit one contract."""


def _portions(trees: Trees) -> Iterator[list[int]]:
    """Yield trees, by number, that have together about as many comparisons as a section is to have."""
    ensemble, portion, size = trees.ensemble, list[int](), 0
    for tree, root in enumerate(ensemble.roots):
        own = ensemble.comparisons(root)
        if portion and size + own > _PORTION:
            yield portion
            portion, size = [], 0
        portion.append(tree)
        size += own
    yield portion


def nested_in_portions(trees: Trees, portions: Sequence[Sequence[int]]) -> Way:
    """Return comparisons inside of one another in sections of a few trees, each of which adds to the sums."""
    buffer = f"{trees.name}_sums"
    bodies: list[tuple[Statement, ...]] = []
    for portion in portions:
        start = [Let(f"sum{w}", Load(buffer, const(w)) if bodies else const(0)) for w in range(trees.words)]
        end = [Store(buffer, const(word), Var(f"sum{word}")) for word in range(trees.words)]
        bodies.append((*start, *_added(trees, portion), *end))
    last = tuple(Let(f"sum{word}", Load(buffer, const(word))) for word in range(trees.words))
    values = tuple(trees.lanes_of([Var(f"sum{word}") for word in range(trees.words)]))
    return Way("nested", last, values, buffers={buffer: trees.words}, before=tuple(bodies))


def _no_sums(trees: Trees) -> list[Statement]:
    return [Let(f"sum{word}", const(0)) for word in range(trees.words)]


def _added(trees: Trees, numbers: Iterable[int]) -> list[Statement]:
    """Return comparisons inside of one another that add some trees' leaves to `sum0` and so on."""
    body: list[Statement] = []

    def add_leaf(word: int, value: Expr) -> Statement:
        return Assign(f"sum{word}", add(Var(f"sum{word}"), value))

    for tree in numbers:

        def say(leaf: Leaf, tree: int = tree) -> list[int]:
            return trees.leaf(tree, leaf)

        body += _written(trees, trees.ensemble.roots[tree], say, add_leaf)
    return body


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
        body, otherwise, question = otherwise, [], iszero(question)
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
