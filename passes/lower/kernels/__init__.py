"""Kernels: ways to compute an operator, and what follows it, on whole words. The cheapest that fits is taken.

To add one copy `rows.py`: a class with a name, and `ways`, which returns everything that could be done about a node.
What each way costs is found by walking what it emits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

from ml2sc.ir.gas import Costs, Shares, Sizes, section_bytes
from ml2sc.ir.graph import Graph, Node
from ml2sc.ir.layout import Layout
from ml2sc.ir.program import OURS, InputFormat, Program, Section
from ml2sc.registry import Registry

from ..context import Lowering
from ..epilogue import Epilogue
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
        ways = [
            (name, way)
            for name, kernel in KERNELS.items()
            if node.op_type in kernel.operators
            for way in kernel.ways(graph, node, inputs, options)
        ]
        if not ways:
            continue
        priced = [
            (_price(graph, way, inputs, options, epilogues, KERNELS.owner(name)), number)
            for number, (name, way) in enumerate(ways)
        ]
        name, way = ways[min(priced)[1]]
        found[way.covers[0].name] = name, way
        covered |= {n.name for n in way.covers}
    return found


def _price(
    graph: Graph,
    way: Way,
    inputs: Mapping[str, Packed],
    options: PlanOptions,
    epilogues: dict[str, Epilogue],
    maker: str,
) -> float:
    """Return what a way costs: an inference, and its share of the deployment, walked over what it emits."""
    scratch = Lowering(graph, options, epilogues)
    scratch.maker = maker
    way.emit(scratch, inputs)
    nothing = Section("none", "", ())
    sections = tuple(draft.finish() for draft in scratch.sections)
    program = Program(
        InputFormat(max((p.start + p.count * p.width for p in inputs.values()), default=0), 1, False, ()),
        0,
        scratch.buffers,
        scratch.segments,
        nothing,
        sections,
        nothing,
        False,
    )
    costs, shares = Costs(program), Shares()
    gas = sum(costs.section(section, shares) for section in sections)
    size = sum(section_bytes(program, Sizes()).values())
    return gas + size * (options.code_price + DEPOSIT / options.calls)


def lower_way(context: Lowering, name: str, way: Way, inputs: Mapping[str, Packed]) -> None:
    """Lower the nodes that a kernel's way covers."""
    context.maker = KERNELS.owner(name)
    context.values.update(way.emit(context, inputs))
    context.done.update(node.name for node in way.covers)
    context.maker = OURS
