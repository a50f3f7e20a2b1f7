"""Kernels: ways to compute an operator, and what follows it, on whole words. The cheapest that fits is taken.

To add one copy `rows.py`: a class with a name, and `ways`, which returns everything that could be done about a node.
What each way costs is found by walking what it emits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

from ml2sc.ir.gas import Costs, Shares, Sizes, memory_gas, section_bytes
from ml2sc.ir.graph import Graph, Node
from ml2sc.ir.layout import Layout
from ml2sc.ir.program import OURS, InputFormat, Program, Section, Storage
from ml2sc.registry import Registry

from ..context import Lowering, lower_node
from ..epilogue import Epilogue
from ..inputs import place_input
from ..plan import PlanOptions
from ..values import Packed, Value

DEPOSIT = 216
"""Gas of a byte of code: deposited, and in calldata."""


class Way(Protocol):
    """One way to compute some nodes of a graph.

    Attributes:
        covers: The nodes, in order.
        packed: The graph's inputs that it takes as they are packed, so that nothing has to bring them into their range.
        reads, gives: Where the elements of tensors are, by their names, before and after.
        proofs: What must be true of the numbers for it to be exact, in words; it is, or this would be no way.
    """

    @property
    def covers(self) -> tuple[Node, ...]: ...

    @property
    def packed(self) -> tuple[str, ...]: ...

    @property
    def reads(self) -> Mapping[str, Layout]: ...

    @property
    def gives(self) -> Mapping[str, Layout]: ...

    @property
    def proofs(self) -> tuple[str, ...]: ...

    def emit(self, context: Lowering, inputs: Mapping[str, Packed]) -> dict[str, Value]:
        """Add sections, and return where the elements of the tensors are that `gives` names.

        Args:
            context: The lowering of the graph.
            inputs: Where the graph's inputs are.
        """


@runtime_checkable
class Kernel(Protocol):
    """Knows ways to compute some operators.

    Attributes:
        operators: ONNX's names of them.
    """

    @property
    def operators(self) -> tuple[str, ...]: ...

    def ways(self, graph: Graph, node: Node, inputs: Mapping[str, Packed], options: PlanOptions) -> Iterable[Way]:
        """Return the ways to compute a node, with those that follow it where there are such.

        Args:
            graph: A quantised graph with proved intervals.
            node: One of the kernel's operators.
            inputs: Where the graph's inputs are.
            options: What the planner is told.
        """


def _adapt(name: str, item: Any) -> Kernel:
    """Return the kernel that a plugin's entry point stands for: a class or an object of it."""
    kernel = item() if isinstance(item, type) else item
    if not isinstance(kernel, Kernel):
        raise TypeError(f"{item!r} is no kernel: it has no operators or no ways")
    return kernel


KERNELS: Registry[Kernel] = Registry("kernel", "ml2sc.kernels", _adapt)
"""All kernels; plugins add theirs through the entry-point group `ml2sc.kernels`."""


def chosen(
    graph: Graph, inputs: Mapping[str, Packed], options: PlanOptions, epilogues: dict[str, Epilogue]
) -> dict[str, tuple[str, Way]]:
    """Choose ways for a graph's nodes, by the name of the first node each covers, with the kernel's name.

    A node for which no kernel knows a way, or whose lowering is cheaper, is lowered as it stands.
    """
    found: dict[str, tuple[str, Way]] = {}
    covered: set[str] = set()
    for node in graph:
        if node.name in covered:
            continue
        ways: list[tuple[str, Way | None]] = [
            (name, way)
            for name, kernel in KERNELS.items()
            if node.op_type in kernel.operators
            for way in kernel.ways(graph, node, inputs, options)
        ]
        if not ways:
            continue
        names = {n.name for _, way in ways if way is not None for n in way.covers}
        span = [n for n in graph if n.name in names]
        ways.append((OURS, None))
        prices = [
            (_price(_tried(graph, name, way, span, inputs, options, epilogues), inputs, options), number)
            for number, (name, way) in enumerate(ways)
        ]
        name, best = ways[min(prices)[1]]
        if best is not None:
            found[best.covers[0].name] = name, best
            covered |= {n.name for n in best.covers}
    return found


def _tried(
    graph: Graph,
    name: str,
    way: Way | None,
    span: Iterable[Node],
    inputs: Mapping[str, Packed],
    options: PlanOptions,
    epilogues: dict[str, Epilogue],
) -> Lowering:
    """Return a lowering of some nodes alone: by a kernel's way those it covers, as they stand the others.

    What they read besides the graph's inputs is taken to be there, a value a word.
    """
    scratch = Lowering(graph, options, epilogues)
    taken = () if way is None else way.packed
    for node in span:
        for x in node.inputs:
            if x in inputs and x not in taken and x not in scratch.values:
                place_input(scratch, x, inputs[x])
    for node in span:
        if way is not None and node is way.covers[0]:
            lower_way(scratch, name, way, inputs)
        elif node.name not in scratch.done:
            lower_node(scratch, node)
    return scratch


def _price(tried: Lowering, inputs: Mapping[str, Packed], options: PlanOptions) -> float:
    """Return what a lowering of some nodes costs: an inference, and its share of the deployment."""
    nothing = Section("none", "", ())
    sections = tuple(draft.finish() for draft in tried.sections)
    program = Program(
        InputFormat(max((p.start + p.count * p.width for p in inputs.values()), default=0), 1, False, ()),
        0,
        tried.buffers,
        tried.segments,
        nothing,
        sections,
        nothing,
        has_decision=False,
    )
    costs, shares = Costs(program), Shares()
    gas = sum(costs.section(section, shares) for section in sections) + memory_gas(costs.memory_words(sections))
    size = sum(section_bytes(program, Sizes()).values())
    stored = sum(32 * len(s.words) for s in tried.segments.values() if s.storage is Storage.DATA)
    return gas + size * options.code_price + (size + stored) * DEPOSIT / options.calls


def lower_way(context: Lowering, name: str, way: Way, inputs: Mapping[str, Packed]) -> None:
    """Lower the nodes that a kernel's way covers."""
    context.maker = KERNELS.owner(name)
    context.values.update(way.emit(context, inputs))
    context.done.update(node.name for node in way.covers)
    context.maker = OURS
