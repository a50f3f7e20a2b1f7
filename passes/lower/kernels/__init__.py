"""Kernels: ways to compute an operator, and what follows it, on whole words. The cheapest that fits is taken.

To add one copy `rows.py`: a class with a name, and `ways`, which returns everything that could be done about a node.
What each way costs is found by walking what it emits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

from ml2sc.ir.graph import Graph, Node
from ml2sc.ir.layout import Layout
from ml2sc.ir.program import OURS
from ml2sc.registry import Registry

from ..context import Known, Lowering, lower_node
from ..inputs import place_input
from ..plan import PlanOptions
from ..values import Packed, Scalars, Value
from ..walked import least_price, of_sections
from .claims import check_reads, settle


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


AS_IT_STANDS = "as it stands"
"""The way of a node that no kernel computes."""


def chosen(context: Lowering, inputs: Mapping[str, Packed]) -> dict[str, tuple[str, Way]]:
    """Choose ways for a graph's nodes, by the name of the first node each covers, with the kernel's name.

    A node for which no kernel knows a way, or whose lowering is cheaper, is lowered as it stands.

    Args:
        context: The lowering of the graph, in which the choices are noted.
        inputs: Where the graph's inputs are.
    """
    graph, options = context.graph, context.options
    found: dict[str, tuple[str, Way]] = {}
    covered: set[str] = set()
    for node in graph:
        if node.name in covered:
            continue
        ways = [
            _Offer(name, number, way)
            for name, kernel in KERNELS.items()
            if node.op_type in kernel.operators
            for number, way in enumerate(kernel.ways(graph, node, inputs, options))
        ]
        if not ways:
            continue
        names = {n.name for offer in ways if offer.way is not None for n in offer.way.covers}
        span = [n for n in graph if n.name in names]
        ways.append(_Offer(OURS, 0, None))
        price = partial(_price, context, span, inputs)
        offer = context.choices.make(f"@{node.name}", ways, str, price)
        if offer.way is not None:
            found[offer.way.covers[0].name] = offer.kernel, offer.way
            covered |= {n.name for n in offer.way.covers}
    return found


@dataclass(frozen=True)
class _Offer:
    """The nth way of a kernel; none is to lower the nodes as they stand."""

    kernel: str
    number: int
    way: Way | None

    def __str__(self) -> str:
        return AS_IT_STANDS if self.way is None else f"{self.kernel} {self.number}"


def _price(context: Lowering, span: Sequence[Node], inputs: Mapping[str, Packed], offer: _Offer) -> float:
    """Return what some nodes alone cost in a way: an inference, and its share of the deployment."""
    tried = _tried(context, offer.kernel, offer.way, span, inputs)
    sections = [draft.finish() for draft in tried.sections]
    return least_price(of_sections(sections, tried, tried.segments), tried.options)


def _tried(
    context: Lowering, name: str, way: Way | None, span: Sequence[Node], inputs: Mapping[str, Packed]
) -> Lowering:
    """Return a lowering of some nodes alone: by a kernel's way those it covers, as they stand the others.

    What they read besides the graph's inputs is taken to be there, a value a word.
    """
    graph = context.graph
    known = Known(context.known.epilogues)  # what is walked there lies in another program
    scratch = Lowering(graph, dataclasses.replace(context.options, choices={}), known)
    taken = () if way is None else way.packed
    made = {x for node in span for x in node.outputs}
    for x in dict.fromkeys(x for node in span for x in node.inputs if x and x not in made and x not in taken):
        tensor = graph.tensor(x)
        if x in inputs:
            place_input(scratch, x, inputs[x])
        elif tensor.data is None:
            scratch.values[x] = Value.of(Scalars(scratch.buffer("given", tensor.size), tensor.size))
    for node in span:
        if way is not None and node is way.covers[0]:
            lower_way(scratch, name, way, inputs)
        elif node.name not in scratch.done:
            lower_node(scratch, node)
    return scratch


def lower_way(context: Lowering, name: str, way: Way, inputs: Mapping[str, Packed]) -> None:
    """Lower the nodes that a kernel's way covers.

    Raises:
        PluginError: its layouts are not what it says.
    """
    owner = KERNELS.owner(name)
    check_reads(name, owner, way.reads, context.graph, [x for node in way.covers for x in node.inputs if x])
    context.maker = owner
    made = way.emit(context, inputs)
    context.maker = OURS
    settle(context, name, owner, way.gives, made)
    context.values.update(made)
    context.done.update(node.name for node in way.covers)
