"""Gemm: the layer as numbers, and every way to compute it. How they are emitted is in `lanes` and `dots`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ml2sc.ir.graph import Graph, Node
from ml2sc.ir.layout import Axis, Layout
from ml2sc.ir.types import Array, Interval, as_python_ints

from ..choices import RUNNERS_UP
from ..context import Lowering
from ..formulas import SHORTLIST, shortlist
from ..options import DENSE
from ..plan import DotPlan, Layer, Plan, ends_of, every_plan, plan_name
from ..product import Product, Rows
from ..values import Laned, Packed, Scalars, Source, Value
from . import KERNELS, Estimated
from .dots import DotSections, dot_forms
from .lanes import LaneSections


@dataclass(frozen=True)
class DenseWay(Estimated):
    """A layer, with what ends its sums, as a plan says.

    Attributes:
        node: The layer.
        product: Its numbers.
        plan: How.
        section: Its section's name.
        about: What the formulas say that it costs.
    """

    node: Node
    product: Product
    plan: Plan
    section: str
    about: float

    @property
    def name(self) -> str:
        return plan_name(self.plan)

    @property
    def covers(self) -> tuple[Node, ...]:
        return self.product.epilogue.nodes

    @property
    def packed(self) -> tuple[str, ...]:
        return ()

    @property
    def reads(self) -> Mapping[str, Layout]:
        """Where they are found: nothing is asked of that."""
        return {}

    @property
    def gives(self) -> Mapping[str, Layout]:
        product, ends = self.product, ends_of(self.plan)
        interval = (product.epilogue.scaling or product.epilogue).interval
        words = ends.result_words(product.outputs)
        axes = (
            Axis(0, product.across, 1, words=words),
            Axis(1, ends.lanes, 1, lanes=1),
            Axis(1, words, ends.lanes, words=1),
        )
        bits = max((interval.hi - interval.lo).bit_length(), 1)
        layout = Layout((product.across, product.outputs), axes, ends.stride, bits, interval.lo)
        return {product.epilogue.output.name: layout}

    @property
    def proofs(self) -> tuple[str, ...]:
        bounds = self.product.epilogue.accumulator
        return (f"{bounds.lo} <= sum <= {bounds.hi}: {ends_of(self.plan).proved_bits} bits hold it",)

    def emit(self, context: Lowering, inputs: Mapping[str, Packed]) -> dict[str, Value]:
        draft = context.section(self.node, self.product.title())
        product, name = self.product, self.product.epilogue.output.name
        if isinstance(self.plan, DotPlan):
            return {name: DotSections(context, draft, product, self.plan).emit()}
        return {name: LaneSections(context, draft, product, self.plan).emit()}


class Dense:
    """Vectors times a matrix."""

    operators = ("FusedGemm", "Gemm")

    def ways(self, context: Lowering, node: Node, inputs: Mapping[str, Packed]) -> Iterable[DenseWay]:
        options, product, section = context.options, _product(context, node), context.name_of(node)
        layer = _layer(context, node, product)
        if section in options.choices:
            return (DenseWay(node, product, plan, section, 0.0) for plan in every_plan(layer, options))
        found = shortlist(layer, options, SHORTLIST if options.generators else 1 + RUNNERS_UP)
        return (DenseWay(node, product, plan, section, about) for about, plan in found)


KERNELS.register("dense")(Dense())


def _product(context: Lowering, node: Node) -> Product:
    """Return a layer's numbers, its inputs being where they are; those that do not lie alike are brought together."""
    graph, epilogue = context.graph, context.epilogue(node)
    x, w = graph.tensor(node.inputs[0]), graph.tensor(node.inputs[1])
    interval = x.interval
    assert w.data is not None and interval is not None
    k, n = w.shape
    across, value, weights = x.size // k, context.values[x.name], _narrowed(w.data)
    observed = context.options.observed.get(x.name)
    seen = None if observed is None else observed.reshape(-1, k)

    def groups(value: Value) -> tuple[Rows, ...]:
        return tuple(_groups(value.take(np.arange(k)), weights, x.format.zero_point, interval, seen))

    apart = _apart(value, across)
    found = groups(value) if apart is not None else ()
    gathered = across > 1 and len(found) != 1
    if gathered:
        value, apart = Value.of(Scalars("", x.size)), k
        found = groups(value)
    bias = _bias(graph, node, n) + sum(group.correction for group in found) + epilogue.constant
    activity = context.options.activity.get(context.name_of(node))
    if context.options.rules.charges_limit:
        activity = DENSE  # nothing that is skipped is cheaper
    elif activity is None:
        largest = max(found, key=lambda g: len(g.weights), default=None)
        activity = largest.activity() if largest else DENSE
    return Product(
        x.name,
        value,
        epilogue,
        found,
        bias + np.array(epilogue.offsets, dtype=object),
        " + ".join("Gemm + Relu" if n.op_type == "FusedGemm" else n.op_type for n in epilogue.nodes),
        k,
        activity,
        across,
        apart or 0,
        gathered,
    )


def _layer(context: Lowering, node: Node, product: Product) -> Layer:
    """Return what is planned."""
    options, groups, epilogue = context.options, product.groups, product.epilogue
    widest = max((Interval(int(g.weights.min()), int(g.weights.max())).signed_bits for g in groups), default=1)
    reserved = context.graph.reserves.get(node.name)
    largest = max(groups, key=lambda g: len(g.weights), default=None)
    return Layer(
        str(node),
        product.rows,
        product.outputs,
        context.lane_bits(epilogue, product.outputs),
        widest if reserved is None else reserved.weight_bits,
        largest.unit if largest else 1,
        len({g.unit for g in groups}) > 1,
        product.activity,
        options.rules,
        options.contract_words,
        options.forced(node),
        () if options.updatable else dot_forms(groups, widest),  # they depend on the weights
        product.across,
    )


def _apart(value: Value, rows: int) -> int | None:
    """Return how many positions each row of a matrix is from the one before; None if they do not lie alike."""
    where, which = value.where.reshape(rows, -1), value.which.reshape(rows, -1)
    if rows == 1:
        return 0
    apart = int(where[1, 0] - where[0, 0])
    source = value.sources[which[0, 0]]
    whole = apart % source.lanes == 0 if isinstance(source, Laned) else True
    alike = np.array_equal(where, where[:1] + apart * np.arange(rows)[:, None]) and np.all(which == which[0, 0])
    return apart if apart > 0 and whole and alike else None


def _bias(graph: Graph, node: Node, outputs: int) -> Array:
    """Return the biases, (rows, outputs): one row where all are alike."""
    c = graph.tensor(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
    if c is None or c.data is None:
        return np.zeros((1, outputs), dtype=object)
    return as_python_ints(c.data).reshape(-1, outputs)


def _groups(
    value: Value, weights: Array, zero_point: int, interval: Interval, observed: Array | None
) -> Iterator[Rows]:
    """Bring the rows of W into the order in which the inputs lie."""
    for index, source in enumerate(value.sources):
        elements = np.flatnonzero(value.which == index)
        if not elements.size:
            continue
        where = value.where[elements].astype(np.int64)
        offset = source.offset - zero_point
        common = interval.lo == zero_point and offset == 0
        positions = np.unique(where).tolist()
        for first, last in _spans(positions, source):
            inside = (first <= where) & (where < last)
            block = np.zeros((last - first, weights.shape[1]), dtype=weights.dtype)
            if len(where) == len(positions):
                block[where[inside] - first] = weights[elements[inside]]
            else:  # an element comes several times
                np.add.at(block, where[inside] - first, weights[elements[inside]])
            live = None
            if observed is not None:
                live = np.zeros((len(observed), last - first), dtype=bool)
                live[:, where[inside] - first] = observed[:, elements[inside]] != source.offset
            yield Rows(source, first, block, offset * as_python_ints(block.sum(axis=0)), common, live)


def _narrowed(weights: Array) -> Array:
    """Return integers in int64 if sums over all inputs fit it, else Python ints."""
    top = max(abs(int(weights.max(initial=0))), abs(int(weights.min(initial=0))))
    return weights.astype(np.int64 if top * max(len(weights), 1) < 1 << 62 else object)


def _spans(positions: Sequence[int], source: Source) -> Iterator[tuple[int, int]]:
    """Yield [first, last) ranges that cover the positions: whole words of a laned source, else without gaps."""
    if isinstance(source, Laned):
        lanes = source.lanes
        yield positions[0] // lanes * lanes, (positions[-1] // lanes + 1) * lanes
        return
    first = previous = positions[0]
    for position in positions[1:]:
        if position != previous + 1:
            yield first, previous + 1
            first = position
        previous = position
    yield first, previous + 1
