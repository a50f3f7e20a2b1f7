"""Kernels: ways to compute an operator, and what follows it, on whole words. The cheapest that fits is taken.

To add one copy `rows.py`: a class with a name, and `ways`, which returns everything that could be done about a node.
What each way costs is found by walking what it emits.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

from ml2sc.ir.gas import Costs
from ml2sc.ir.graph import Node
from ml2sc.ir.layout import Layout
from ml2sc.ir.program import OURS, Program
from ml2sc.registry import Registry

from ..context import LOWERINGS, Known, Lowering, lower_node
from ..inputs import Given
from ..plan import PlanOptions
from ..values import Laned, Packed, Value
from ..walked import least_price, of_sections, price
from .claims import check_covers, check_reads, settle


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


class Estimated(Way):
    """A way of which formulas say what it costs, so that not all of a kernel's have to be walked.

    Attributes:
        section: The section that it adds: the choice goes by its name.
        name: What tells it from others of the section.
        about: What the formulas say that an inference costs, with its share of the deployment. Where no target's costs
            are known they decide.
    """

    section: str
    about: float

    @property
    @abstractmethod
    def name(self) -> str: ...


@runtime_checkable
class Kernel(Protocol):
    """Knows ways to compute some operators.

    Attributes:
        operators: ONNX's names of them.
    """

    @property
    def operators(self) -> tuple[str, ...]: ...

    def ways(self, context: Lowering, node: Node, inputs: Mapping[str, Packed]) -> Iterable[Way]:
        """Return the ways to compute a node, with those that follow it where there are such.

        Args:
            context: The lowering so far: of a quantised graph with proved intervals, what the planner is told, and
                where the tensors are that the node reads (`values`; the graph's inputs brought into their range).
            node: One of the kernel's operators.
            inputs: Where the graph's inputs are packed.
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


def lower_cheapest(context: Lowering, node: Node, given: Given) -> None:
    """Lower a node, and what follows it, in the way that costs least, what brings its inputs there included.

    A node for which no kernel knows a way is lowered as it stands; so is one whose lowering is cheaper.

    Args:
        context: The lowering of the graph, in which the choice is noted.
        node: The node.
        given: The graph's inputs.

    Raises:
        RangeError: its numbers, or what is settled of its plan, allow no way.
        UnsupportedOperatorError: it has neither a kernel nor a lowering.
    """
    offers = _offers(context, node, given)
    known = any(offer.way is not None for offer in offers)
    (_cheapest(context, node, offers, given) if known else _AS_IT_STANDS).lower(context, node, given)


@dataclass(frozen=True)
class _Offer:
    """The nth way of a kernel; none is to lower the node as it stands."""

    kernel: str
    number: int
    way: Way | None

    def __str__(self) -> str:
        if isinstance(self.way, Estimated):
            return self.way.name
        return AS_IT_STANDS if self.way is None else f"{self.kernel} {self.number}"

    @property
    def about(self) -> float | None:
        """What formulas say that it costs, if there are such."""
        return self.way.about if isinstance(self.way, Estimated) else None

    def lower(self, context: Lowering, node: Node, given: Given) -> None:
        """Lower the node so."""
        if self.way is None:
            given.place(context, node.inputs)
            lower_node(context, node)
        else:
            _lower_way(context, self.kernel, self.way, given)


_AS_IT_STANDS = _Offer(OURS, 0, None)


def _offers(context: Lowering, node: Node, given: Given) -> list[_Offer]:
    """Return what kernels and the lowering offer for a node, the lowering's last."""
    asked = [(name, kernel) for name, kernel in KERNELS.items() if node.op_type in kernel.operators]
    offers: list[_Offer] = []
    if asked:
        seen = context.trial()
        given.place(seen, node.inputs)
        free = [other for other in context.graph if other.name not in context.done]
        offers = [
            _Offer(name, number, way)
            for name, kernel in asked
            for number, way in enumerate(kernel.ways(seen, node, given.packed))
        ]
        for offer in offers:
            assert offer.way is not None
            check_covers(offer.kernel, KERNELS.owner(offer.kernel), node, offer.way.covers, free)
    return [*offers, _AS_IT_STANDS] if node.op_type in LOWERINGS else offers


def _cheapest(context: Lowering, node: Node, offers: list[_Offer], given: Given) -> _Offer:
    """Return the offer that is settled, or the cheapest.

    Formulas find those that are worth being walked; without a target they decide.
    """
    options, make = context.options, context.choices.make
    section = next((o.way.section for o in offers if isinstance(o.way, Estimated)), None)
    name = f"@{node.name}" if section is None else section
    estimated = all(offer.about is not None for offer in offers)
    if name in options.choices or (estimated and not options.generators):
        return make(name, offers, str, lambda offer: offer.about or 0.0)
    names = {n.name for offer in offers if offer.way is not None for n in offer.way.covers}
    tried = partial(_tried, context, [n for n in context.graph if n.name in names], given)
    if not estimated:
        return make(name, offers, str, lambda offer: least_price(tried(offer), options))
    made = context.choices.made.items()
    before = (node.name, options.code_price, *((other, choice.way) for other, choice in made))
    walked = context.known.walked
    if before not in walked:
        walked[before] = list(_walked([tried(offer) for offer in offers], options))
    price_of = (lambda way: min(way[1])) if options.decides is None else (lambda way: way[1][options.decides])
    return offers[make(name, walked[before], lambda way: str(offers[way[0]]), price_of)[0]]


_FINALISTS = 12
"""Ways that are walked with a target's costs, of those that a good compiler's find cheapest: in thirty layers of both
targets the target's best was always among these' first ten. Walking what a printer makes of one takes ten times as
long."""


def _walked(programs: Sequence[Program], options: PlanOptions) -> Iterator[tuple[int, tuple[float, ...]]]:
    """Yield the numbers of the programs that may be the cheapest, with their prices by each code generator."""
    numbers = list(range(len(programs)))
    if len(programs) > _FINALISTS:
        numbers.sort(key=lambda number: price(Costs(programs[number]), options))
    for number in numbers[:_FINALISTS]:
        yield number, tuple(price(generator(programs[number]), options) for generator in options.generators)


def _tried(context: Lowering, span: Sequence[Node], given: Given, offer: _Offer) -> Program:
    """Return what is emitted for some nodes alone: as is offered for the first, as they stand the others."""
    tried = context.trial()
    tried.known = Known(context.known.epilogues, context.known.widths)  # what is walked there lies in another program
    offer.lower(tried, span[0], given)
    for node in span[1:]:
        if node.name in tried.done:
            continue
        if node.op_type in LOWERINGS:
            _AS_IT_STANDS.lower(tried, node, given)
        else:
            lower_cheapest(tried, node, given)
    before = {draft.name for draft in context.sections}
    sections = [draft.finish() for draft in tried.sections if draft.name not in before]
    segments = {name: segment for name, segment in tried.segments.items() if name not in context.segments}
    results = () if offer.way is None else offer.way.gives
    reads = [s.buffer for name in results for s in tried.values[name].sources if isinstance(s, Laned)]
    return of_sections(sections, tried, segments, reads)


def _lower_way(context: Lowering, name: str, way: Way, given: Given) -> None:
    """Lower the nodes that a kernel's way covers.

    Raises:
        PluginError: its layouts are not what it says.
    """
    owner = KERNELS.owner(name)
    read = [x for node in way.covers for x in node.inputs if x]
    check_reads(name, owner, way.reads, context.graph, read)
    given.place(context, [x for x in read if x not in way.packed])
    given.take(context, way.packed)
    context.maker = owner
    made = way.emit(context, given.packed)
    context.maker = OURS
    settle(context, name, owner, way.gives, made)
    context.values.update(made)
    context.done.update(node.name for node in way.covers)
