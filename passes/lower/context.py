"""What lowerings share: the program under construction, the values of tensors, and the registry of lowerings."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import networkx as nx
import numpy as np

from ml2sc.errors import ContractLimitError, UnsupportedOperatorError
from ml2sc.ir.analysis import LINEAR
from ml2sc.ir.flatten import flattened
from ml2sc.ir.graph import Graph, Node
from ml2sc.ir.limits import shown
from ml2sc.ir.program import (
    OURS,
    Block,
    CopySegment,
    Expr,
    Induction,
    Lanes,
    Let,
    Load,
    Section,
    Segment,
    Statement,
    Storage,
    Store,
    Var,
    add,
    const,
    loop,
)
from ml2sc.ir.program_verify import MOST_WORDS
from ml2sc.ir.types import Array
from ml2sc.registry import Registry

from .choices import Choices
from .epilogue import STEPS, Epilogue, find_epilogue
from .nests import emit_nests, scattered
from .options import PlanOptions
from .values import Laned, Packed, Run, Scalars, Value, runs

if TYPE_CHECKING:
    from .walked import Line

T = TypeVar("T")

_STRAIGHT = 3
"""Runs of at most so many elements are written out instead of looped over."""
_WRITTEN_LANES, _LANE_BYTES, _LANE_GAS = 64, 60, 15
"""Elements in lanes that are written out where they are unpacked, if code is cheap: bytes of each, and gas that it
saves at least, by far more in Vyper."""
_WORD = 256
_TABLE_ROWS = 512
"""Longest run with a table of constants: one copy of it must lie in one data contract."""


_NAME_LENGTH = 60


@dataclass
class DraftSection:
    """A section under construction; its flags grow with its consumers."""

    name: str
    title: str
    body: list[Statement]
    predict: bool
    classify: bool
    facts: dict[str, int | str] = field(default_factory=dict)
    maker: str = OURS
    reads: dict[str, int] = field(default_factory=dict)

    def read(self, value: Value) -> None:
        """Note that the section is there to read all of a value: the verifier sees to it that it does."""
        for name, bits in value.reads().items():
            self.reads[name] = self.reads.get(name, 0) | bits

    def finish(self) -> Section:
        """Return it frozen."""
        return Section(
            self.name,
            self.title,
            flattened(self.body),
            self.predict,
            self.classify,
            self.facts,
            self.maker,
            reads=self.reads,
        )


@dataclass
class Known:
    """What is found out once for all lowerings of a graph.

    Attributes:
        epilogues: By layer, what happens to its sums.
        widths: Of results that are added to each other, by tensor: bits of the widest lane among them.
        walked: What ways cost that were walked: by what they are, and all that this depends on.
        found: What else is found out, by who does and of what.
    """

    epilogues: dict[str, Epilogue] = field(default_factory=dict)
    widths: dict[str, int] | None = None
    walked: dict[Hashable, tuple[Line, ...]] = field(default_factory=dict)
    found: dict[Hashable, Any] = field(default_factory=dict)

    def walk(self, key: Hashable, walk: Callable[[], tuple[Line, ...]]) -> tuple[Line, ...]:
        """Return what a way costs that is walked the first time it is asked for."""
        if key not in self.walked:
            self.walked[key] = walk()
        return self.walked[key]

    def once(self, key: Hashable, find: Callable[[], T]) -> T:
        """Return what is found out under a key, the first time it is asked for."""
        if key not in self.found:
            self.found[key] = find()
        result: T = self.found[key]
        return result


class Lowering:
    """The state of a lowering.

    Args:
        graph: A quantised graph with proved intervals.
        options: What the planner is told.
        known: What was found out by other lowerings of the graph.
    """

    def __init__(self, graph: Graph, options: PlanOptions, known: Known) -> None:
        self.graph = graph
        self.options = options
        self.known = known
        self.buffers: dict[str, int] = {}
        self.holds: dict[str, Lanes] = {}
        self.segments: dict[str, Segment] = {}
        self.sections: list[DraftSection] = []
        self.values: dict[str, Value] = {}
        self.placed: list[int] = []
        """Numbers of the graph's inputs whose sections begin the program."""
        self.choices = Choices(options.choices)
        self.maker = OURS
        """Who wrote the lowering that is running."""
        self.done: set[str] = set()
        """Nodes that an earlier node's lowering has taken in."""
        self._names: dict[str, set[str]] = {"section": set(), "buffer": set(), "segment": set()}
        self._tables: dict[tuple[int, ...], tuple[str, DraftSection]] = {}
        self._unpacked: dict[Laned, tuple[Scalars, DraftSection]] = {}
        self._for_outputs = _needed(graph, graph.outputs)
        self._for_decision = _needed(graph, [graph.decision] if graph.decision else [])

    def trial(self) -> Lowering:
        """Return a lowering that goes on from here, and of which this one sees nothing; nothing is settled there."""
        other = copy.copy(self)
        other.buffers, other.holds, other.segments = dict(self.buffers), dict(self.holds), dict(self.segments)
        other.values, other.done, other.placed = dict(self.values), set(self.done), list(self.placed)
        other._names = {kind: set(names) for kind, names in self._names.items()}
        other.choices = Choices({}, dict(self.choices.made))
        drafts = {draft.name: copy.copy(draft) for draft in self.sections}  # their flags grow with their consumers
        other.sections = list(drafts.values())
        other._tables = {key: (name, drafts[draft.name]) for key, (name, draft) in self._tables.items()}
        other._unpacked = {key: (found, drafts[draft.name]) for key, (found, draft) in self._unpacked.items()}
        return other

    def seen_by(self, nodes: Iterable[Node]) -> Hashable:
        """Return what lowering some nodes depends on, apart from the nodes: where what they read is by now."""
        names = sorted({name for node in nodes for name in node.inputs if name in self.values})
        values = [self.values[name] for name in names]
        taken_apart = {source for value in values for source in value.sources if source in self._unpacked}
        tables = frozenset(name for name, _ in self._tables.values())
        return tuple(zip(names, (value.key for value in values), strict=True)), frozenset(taken_apart), tables

    def name_of(self, node: Node) -> str:
        """Return the name that a section of a node gets when it is started now."""
        return self._free("section", _label(node))

    def section(self, node: Node, title: str) -> DraftSection:
        """Start the section of a node."""
        return self._start(
            self.identifier("section", _label(node)),
            title,
            node.name in self._for_outputs,
            node.name in self._for_decision,
        )

    def plain_section(self, name: str, title: str, *, predict: bool, classify: bool) -> DraftSection:
        """Start a section that belongs to no node."""
        return self._start(self.identifier("section", name), title, predict, classify)

    def _start(self, name: str, title: str, predict: bool, classify: bool) -> DraftSection:
        draft = DraftSection(name, title, [], predict, classify, maker=self.maker)
        self.sections.append(draft)
        return draft

    def identifier(self, kind: str, text: str) -> str:
        """Return an identifier like `text` that no section, buffer or segment (whichever is asked for) has yet."""
        name = self._free(kind, text)
        self._names[kind].add(name)
        return name

    def _free(self, kind: str, text: str) -> str:
        base = re.sub(r"\W+", "_", text, flags=re.ASCII)[:_NAME_LENGTH].strip("_").lower() or "layer"
        base = f"l_{base}" if base[0].isdigit() else base
        name, count = base, 1
        while name in self._names[kind]:
            count += 1
            name = f"{base}_{count}"
        return name

    def buffer(self, name: str, words: int, holds: Lanes | None = None) -> str:
        """Add a buffer and return its name.

        Args:
            name: Like what it is to be called.
            words: Its size.
            holds: What is true of its words when a section that writes it has ended: the verifier sees to it.

        Raises:
            ContractLimitError: no inference could pay for so much memory.
        """
        if words > MOST_WORDS:
            raise ContractLimitError(
                f"{name} takes {words:,} words of memory; an inference can pay for {MOST_WORDS:,} at most",
                hint="compile a smaller model, or a part of it: memory's price grows with the square of its size",
            )
        name = self.identifier("buffer", name)
        self.buffers[name] = words
        if holds is not None:
            self.holds[name] = holds
        return name

    def segment(self, name: str, segment: Segment) -> str:
        """Add a data segment and return its name."""
        name = self.identifier("segment", name)
        self.segments[name] = segment
        return name

    def epilogue(self, node: Node) -> Epilogue:
        """Return what happens to a layer's sums, or to a sum of activations."""
        epilogues = self.known.epilogues
        if node.name not in epilogues:
            epilogues[node.name] = find_epilogue(self.graph, node)
        return epilogues[node.name]

    def lane_bits(self, epilogue: Epilogue, outputs: int) -> int:
        """Return the bits for a lane of sums: those of others that they are added to, if that takes no more words.

        Lanes as wide as the operand's are added to it as they are.
        """
        bits = epilogue.proved_bits
        if self.known.widths is None:
            self.known.widths = self._joint_widths()
        joint = max(self.known.widths.get(epilogue.output.name, bits), bits)
        return joint if joint <= _WORD and -(-outputs // (_WORD // joint)) == -(-outputs // (_WORD // bits)) else bits

    def _joint_widths(self) -> dict[str, int]:
        """Return the widest lane among all results that are added to each other, or only end later, by tensor."""
        bits: dict[str, int] = {}
        sums: nx.Graph[str] = nx.Graph()
        taken = set[str]()
        if not any(node.op_type == "Add" or node.op_type in STEPS for node in self.graph):
            return {}
        for node in sorted(self.graph, key=lambda n: n.op_type not in LINEAR):
            if node.op_type not in LINEAR and (node.name in taken or not self._is_step(node)):
                continue
            epilogue = self.epilogue(node)
            bits[epilogue.output.name] = max(epilogue.proved_bits, bits.get(epilogue.output.name, 0))
            sums.add_edges_from((epilogue.output.name, addend.tensor.name) for addend in epilogue.addends)
            taken.update(n.name for n in epilogue.nodes)
        joint: dict[str, int] = {}
        for group in nx.connected_components(sums):
            joint.update(dict.fromkeys(group, max(bits.get(name, 0) for name in group)))
        return joint

    def _is_step(self, node: Node) -> bool:
        tensors = [self.graph.tensor(name) for name in node.inputs]
        alike = all(t.data is None and t.size == self.graph.tensor(node.output).size for t in tensors)
        return (node.op_type == "Add" or node.op_type in STEPS) and alike

    def constant(self, name: str) -> None:
        """Make a constant tensor of the graph a value like any other."""
        if name not in self.values:
            data = self.graph.tensor(name).data
            assert data is not None
            words = [int(v) for v in data.ravel()]
            draft = self.plain_section(f"constant_{name}", f"Constant {shown(name)!r}", predict=True, classify=True)
            self.values[name] = Value.of(Scalars(self.table(draft, draft.name, words), len(words)))

    # -- values ----------------------------------------------------------------------------------------------------

    def scalars(self, value: Value, user: DraftSection, *, whole: bool = True) -> Value:
        """Return a value none of whose sources is laned, unpacking those that are in sections before `user`.

        Args:
            value: The value.
            user: The section that reads it.
            whole: Whether it reads every element.
        """
        sources = tuple(self._unpack(s, user) if isinstance(s, Laned) else s for s in value.sources)
        found = Value(sources, value.which, value.where)
        if whole:
            user.read(found)
        return found

    def _unpack(self, source: Laned, user: DraftSection) -> Scalars:
        if source not in self._unpacked:
            lanes = self.holds.get(source.buffer, Lanes(1, source.stride, 0, (1 << source.bits) - 1))
            holds = Lanes(1, 256, lanes.lo + source.offset, lanes.hi + source.offset)
            buffer = self.buffer(f"{source.buffer}_scalars", source.words * source.lanes, holds)
            scalars = Scalars(buffer, source.count)
            draft = DraftSection(
                self.identifier("section", f"unpack_{source.buffer}"),
                f"Unpack {source.buffer}: a value a word",
                [],
                False,
                False,
            )
            self.sections.insert(self.sections.index(user), draft)
            draft.body += self._taken_apart(source, buffer)
            draft.read(Value.of(source))
            self._unpacked[source] = scalars, draft
        scalars, draft = self._unpacked[source]
        if user in self.sections and self.sections.index(draft) > self.sections.index(user):
            self.sections.remove(draft)
            self.sections.insert(self.sections.index(user), draft)
        draft.predict |= user.predict
        draft.classify |= user.classify
        return scalars

    def _taken_apart(self, source: Laned, buffer: str) -> list[Statement]:
        """Return statements that store each element of a laned source in a word of a buffer."""

        def word(index: Expr, place: Expr, count: int) -> list[Statement]:
            lanes = (add(source.lane(Var("word"), lane), const(source.offset)) for lane in range(count))
            stores = (Store(buffer, add(place, const(lane)), q) for lane, q in enumerate(lanes))
            return [Let("word", Load(source.buffer, index)), *stores]

        words, lanes, options = source.words, source.lanes, self.options
        # what code costs to deploy, and not what a byte of it is worth while plans are tried: those are not noted
        cheap = options.rules.byte_price * _LANE_BYTES < _LANE_GAS * options.calls and source.count <= _WRITTEN_LANES
        if words == 1:
            return word(const(0), const(0), source.count)
        if cheap:  # places that are known are not computed, nor are subscripts checked
            rest = [min(lanes, source.count - i * lanes) for i in range(words)]
            return [Block(tuple(word(const(i), const(i * lanes), count))) for i, count in enumerate(rest)]
        return [loop("i", words, word(Var("i"), Var("o"), lanes), also=[Induction("o", const(0), lanes)])]

    def in_order(
        self, value: Value, draft: DraftSection, name: str = "in_order", holds: Lanes | None = None
    ) -> Scalars:
        """Return a value's elements in order, a word each, after adding to a section what puts them so if they are not.

        Args:
            value: A value without laned sources.
            draft: The section.
            name: What the buffer of what is put in order is called, after the section.
            holds: What is true of that buffer's words.
        """
        source = value.direct()
        if isinstance(source, Scalars):
            return source
        ordered = Scalars(self.buffer(f"{draft.name}_{name}", value.size, holds), value.size)
        draft.body += emit_nests([value], np.arange(value.size), ordered.buffer, lambda operands: ([], operands[0]))
        return ordered

    # -- elementwise -----------------------------------------------------------------------------------------------

    def emit_map(
        self,
        draft: DraftSection,
        operands: Sequence[Value],
        constants: Sequence[Array],
        result: str,
        compute: Callable[[list[Expr]], tuple[list[Statement], Expr]],
        *,
        first: int = 0,
    ) -> None:
        """Add statements that store compute(operands…, constants…) of each element in buffer `result`.

        Args:
            draft: The section.
            operands: Equally long values without laned sources.
            constants: Integer arrays as long as the operands.
            result: Buffer for one word an element.
            compute: Gives, for variables that hold an element of each operand and constant, statements and the result.
            first: Word of the buffer where the first element goes.
        """
        if not constants and scattered(operands, _STRAIGHT + 1):
            places = np.arange(first, first + operands[0].size)
            draft.body += emit_nests(operands, places, result, compute)
            return
        for run in runs(operands, _TABLE_ROWS):
            self._emit_run(draft, run, operands, constants, result, compute, first)

    def _emit_run(
        self,
        draft: DraftSection,
        run: Run,
        operands: Sequence[Value],
        constants: Sequence[Array],
        result: str,
        compute: Callable[[list[Expr]], tuple[list[Statement], Expr]],
        first: int,
    ) -> None:
        rows = [c[run.first : run.first + run.count] for c in constants]
        if run.count <= _STRAIGHT:
            for i in range(run.count):
                reads = [self._read(v, s, const(p + i * d)) for v, s, p, d in _each(operands, run)]
                literals = [const(int(r[i])) for r in rows]
                at = const(first + run.first + i)
                draft.body.append(Block(tuple(self._element(reads, literals, result, at, compute))))
            return
        inductions, reads = [], []
        for k, (value, source, start, step) in enumerate(_each(operands, run)):
            packed = value.sources[source]
            name = f"p{k}"
            if isinstance(packed, Packed):
                inductions.append(Induction(name, const(packed.start + start * packed.width), step * packed.width))
                reads.append(packed.read_at(Var(name)))
            else:
                inductions.append(Induction(name, const(start), step))
                reads.append(self._read(value, source, Var(name)))
        loaded: list[Expr] = []
        for k, row in enumerate(rows):
            if np.all(row == row[0]):
                loaded.append(const(int(row[0])))
                continue
            table = self.table(draft, f"{draft.name}_constants", [int(v) for v in row])
            inductions.append(Induction(f"t{k}", const(0), 1))
            loaded.append(Load(table, Var(f"t{k}")))
        body = self._element(reads, loaded, result, Var("o"), compute)
        draft.body.append(loop("o", run.count, body, start=first + run.first, also=inductions))

    def _element(
        self,
        reads: list[Expr],
        literals: Sequence[Expr],
        result: str,
        index: Expr,
        compute: Callable[[list[Expr]], tuple[list[Statement], Expr]],
    ) -> list[Statement]:
        lets: list[Statement] = [Let(f"x{k}", read) for k, read in enumerate(reads)]
        statements, value = compute([*(Var(f"x{k}") for k in range(len(reads))), *literals])
        return [*lets, *statements, Store(result, index, value)]

    def _read(self, value: Value, source: int, position: Expr) -> Expr:
        where = value.sources[source]
        assert not isinstance(where, Laned)
        return where.read(position)

    @property
    def has_data(self) -> bool:
        """Whether what is lowered so far has data contracts."""
        return any(segment.storage is Storage.DATA for segment in self.segments.values())

    def table(self, draft: DraftSection, name: str, words: list[int], *, in_data: bool = False) -> str:
        """Add a small table of constants, the statement that copies it, and return the buffer that holds it.

        Args:
            draft: The section that reads it.
            name: What to call it.
            words: The constants.
            in_data: Whether it is in a data contract instead of the code.
        """
        values = tuple(const(w).value for w in words)
        segment = self.segment(name, Segment(values, Storage.DATA, len(values)) if in_data else Segment(values))
        buffer = self.buffer(f"{segment}_table", len(words))
        draft.body.append(CopySegment(segment, const(0), len(words), buffer))
        return buffer

    def shared_table(self, node: Node, words: Sequence[int]) -> str:
        """Return a buffer that holds constants when `node` runs; equal tables of several nodes are one."""
        key = tuple(words)
        if key not in self._tables:
            title = f"Table of {len(key)} words, for {node.op_type}"
            draft = self.plain_section(f"table_{node.op_type}", title, predict=False, classify=False)
            self._tables[key] = self.table(draft, draft.name, list(key)), draft
        buffer, draft = self._tables[key]
        draft.predict |= node.name in self._for_outputs
        draft.classify |= node.name in self._for_decision
        return buffer


def _each(operands: Sequence[Value], run: Run) -> list[tuple[Value, int, int, int]]:
    return list(zip(operands, run.sources, run.starts, run.steps, strict=True))


def _needed(graph: Graph, outputs: Sequence[str]) -> set[str]:
    """Return the names of all nodes that some outputs depend on."""
    needed: set[str] = set()
    stack = list(outputs)
    while stack:
        node = graph.producer(stack.pop())
        if node is not None and node.name not in needed:
            needed.add(node.name)
            stack += [name for name in node.inputs if name]
    return needed


def _label(node: Node) -> str:
    return (node.origin[0] if node.origin else node.name).strip("/") or node.op_type


LowerFunction = Callable[[Lowering, Node], None]


def _adapt(name: str, item: Any) -> LowerFunction:
    """Return the function that a plugin's entry point stands for."""
    if not callable(item):
        raise TypeError(f"{item!r} is no function")
    function: LowerFunction = item
    return function


LOWERINGS: Registry[LowerFunction] = Registry("lowering", "ml2sc.lowerings", _adapt)
"""A lowering an operator; plugins add theirs through the entry-point group `ml2sc.lowerings`."""


def lowering(*op_types: str) -> Callable[[LowerFunction], LowerFunction]:
    """Function decorator: file a lowering under the operators it serves."""

    def file(function: LowerFunction) -> LowerFunction:
        for op_type in op_types:
            LOWERINGS.register(op_type)(function)
        return function

    return file


def lower_node(context: Lowering, node: Node) -> None:
    """Lower one node.

    Raises:
        UnsupportedOperatorError: it has no lowering.
    """
    if node.op_type not in LOWERINGS:
        raise UnsupportedOperatorError(
            f"operator {node.op_type} has no lowering",
            node=str(node),
            hint="who defines the operator names one in the entry-point group 'ml2sc.lowerings'",
        )
    context.maker = LOWERINGS.owner(node.op_type)
    LOWERINGS.get(node.op_type)(context, node)
    context.maker = OURS
