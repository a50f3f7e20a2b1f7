"""Kernels: ways to compute an operator, and what follows it, on whole words. The cheapest that fits is taken.

To add one copy `rows.py`: a class with a name, and `ways`, which returns everything that could be done about a node.
What each way costs is found by walking what it emits.
"""

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from ml2sc.ir.graph import Node
from ml2sc.ir.layout import Layout
from ml2sc.ir.program import OURS, Program
from ml2sc.registry import Registry

from ..context import LOWERINGS, Lowering, lower_node
from ..inputs import Given
from ..options import PlanOptions
from ..values import Laned, Packed, Value
from ..walked import least, lines, of_sections
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


class Composed(Way):
    """A way put together of parts, of which each was priced alone before all are walked together.

    Attributes:
        settled: What of it the planner's prices decide, and its place in its kernel's list does not tell.
        guess: What formulas say that the parts cost. It is compared with that of ways that are alike.
        parts: What they cost.
        alike: What tells which ways these are: they cover the same nodes, and read them from the same places.
    """

    @property
    @abstractmethod
    def settled(self) -> Hashable: ...

    @property
    @abstractmethod
    def guess(self) -> float: ...

    @property
    @abstractmethod
    def parts(self) -> float: ...

    @property
    @abstractmethod
    def alike(self) -> Hashable: ...


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
    def key(self) -> Hashable:
        """What tells it from all others of its node, whatever the prices."""
        return str(self), self.way.settled if isinstance(self.way, Composed) else None

    @property
    def group(self) -> Hashable:
        """What it has in common with offers whose parts tell which of them are worth being walked."""
        return (self.kernel, self.way.alike) if isinstance(self.way, Composed) else self.key

    @property
    def guess(self) -> float:
        """What formulas say that its parts cost, where those of others are compared with them."""
        return self.way.guess if isinstance(self.way, Composed) else 0.0

    @property
    def parts(self) -> float:
        """What they cost."""
        return self.way.parts if isinstance(self.way, Composed) else 0.0

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
    trial = _Trial(context, [n for n in context.graph if n.name in names], given)

    def price(offer: _Offer) -> float:
        return trial.price(offer, options)

    if estimated:
        good = dataclasses.replace(options, generators=())
        return make(name, _close(offers, lambda offer: trial.price(offer, good), price), str, price)
    groups: dict[Hashable, list[_Offer]] = {}
    for offer in offers:
        groups.setdefault(offer.group, []).append(offer)
    close = set[tuple[str, int]]()
    for group in groups.values():
        least = min(offer.guess for offer in group)
        near = _close([o for o in group if o.guess <= _FAR * least], lambda offer: offer.parts, price)
        close.update((offer.kernel, offer.number) for offer in near)
    return make(name, [offer for offer in offers if (offer.kernel, offer.number) in close], str, price)


_FINALISTS, _CLOSE, _FAR = 12, 1.25, 1.5
"""Ways that are walked with a target's costs, at most, of those that a good compiler's find cheapest; and how much
dearer than the best of these that gets on a chain they may be, by these costs and by formulas. In sixty layers of both
targets the target's best was always among the first ten, and at most an eighth dearer than that. Walking what a printer
makes of one takes ten times as long."""


def _close(
    offers: Sequence[_Offer], about: Callable[[_Offer], float], price: Callable[[_Offer], float]
) -> list[_Offer]:
    """Return the offers that may be the cheapest, by what is known of them before they are walked, the best first.

    Args:
        offers: The offers.
        about: What is known of them.
        price: What one costs: asked until one gets on a chain.
    """
    known = sorted(((about(offer), offer) for offer in offers), key=lambda found: found[0])[:_FINALISTS]
    least = next((told for told, offer in known if price(offer) < math.inf), math.inf)
    return [offer for told, offer in known if told <= _CLOSE * least]


class _Trial:
    """Emits and walks what is offered for a node, each way once for all prices that a lowering is made with.

    Args:
        context: The lowering of the graph, as far as the node.
        span: The nodes that some way covers: what a way does not is lowered as it stands.
        given: The graph's inputs.
    """

    def __init__(self, context: Lowering, span: Sequence[Node], given: Given) -> None:
        self._context, self._span, self._given = context, span, given
        self._before = span[0].name, context.seen_by(span)
        self._programs: dict[Hashable, tuple[Program, bool]] = {}

    def price(self, offer: _Offer, options: PlanOptions) -> float:
        """Return what is offered costs.

        Args:
            offer: What is offered.
            options: What the planner is told: which code generators walk it.
        """
        walked, plain = self._context.known.walked, (*self._before, offer.key, bool(options.generators))
        # where something within was chosen by prices, it may come out otherwise at others
        priced = (*plain, self._context.options.code_price, self._context.options.decides)
        for key in (plain, priced):
            if key in walked:
                return least(walked[key], options)
        if offer.key not in self._programs:
            self._programs[offer.key] = _tried(self._context, self._span, self._given, offer)
        program, is_free = self._programs[offer.key]
        found = walked[priced if is_free else plain] = lines(program, options)
        return least(found, options)


def _tried(context: Lowering, span: Sequence[Node], given: Given, offer: _Offer) -> tuple[Program, bool]:
    """Return what is emitted for some nodes alone: as is offered for the first, as they stand the others.

    With it comes whether anything was chosen by prices meanwhile.
    """
    tried = context.trial()
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
    return of_sections(sections, tried, segments, reads), tried.choices.free > 0


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
