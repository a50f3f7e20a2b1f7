"""Gemm: one kernel for each row of its input (one, as a rule), or for all of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from ml2sc.ir.gas import Costs
from ml2sc.ir.graph import Node, Tensor
from ml2sc.ir.program import Program
from ml2sc.ir.types import Array, Interval, as_python_ints

from .choices import RUNNERS_UP
from .context import Lowering, lowering
from .dots import DotKernel, dot_forms
from .epilogue import ChannelScaling, Epilogue
from .kernel import Kernel
from .plan import (
    DENSE,
    FINALISTS,
    DotPlan,
    Layer,
    Plan,
    every_plan,
    formula_price,
    plan_name,
    shortlist,
)
from .product import Product, Rows
from .values import Laned, Source, Value
from .walked import of_sections, price


@lowering("Gemm", "FusedGemm")
def lower_gemm(context: Lowering, node: Node) -> None:
    """Emit one section a row of the layer's input (one, as a rule), or one for all rows where they lie alike."""
    graph = context.graph
    epilogue = context.epilogue(node)
    addends = [context.values[a.tensor.name] for a in epilogue.addends]
    x, w = graph.tensor(node.inputs[0]), graph.tensor(node.inputs[1])
    c = graph.tensor(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
    assert w.data is not None and x.interval is not None
    k, n = w.shape
    value = context.values[x.name]
    observed = context.options.observed.get(x.name)
    weights = _narrowed(w.data)
    if (apart := _apart(value, x.size // k, c)) and not isinstance(epilogue.scaling, ChannelScaling):
        seen = None if observed is None else observed.reshape(-1, k)
        groups = list(_gather_rows(value.take(np.arange(k)), weights, x.format.zero_point, x.interval, seen))
        if len(groups) == 1:
            bias = _bias(c, 0, n) + groups[0].correction + epilogue.constant + np.array(epilogue.offsets, dtype=object)
            whole = _emit(context, node, epilogue, groups, bias, addends, x.size // k, apart)
            context.values[epilogue.output.name] = whole
            context.done.update(n.name for n in epilogue.nodes)
            return
    results = []
    for row in range(x.size // k):
        elements = np.arange(row * k, (row + 1) * k)
        seen = None if observed is None else observed[:, elements]
        groups = list(_gather_rows(value.take(elements), weights, x.format.zero_point, x.interval, seen))
        bias = _bias(c, row, n) + sum(g.correction for g in groups)
        bias = bias + epilogue.constant + np.array(epilogue.offsets, dtype=object)
        own = [value.take(np.arange(row * n, (row + 1) * n)) for value in addends]
        results.append(_emit(context, node, epilogue, groups, bias, own))
    sources, which, where = Value.joined(results)
    context.values[epilogue.output.name] = Value(sources, which, where)
    context.done.update(n.name for n in epilogue.nodes)


_ALIKE = 4
"""Rows from which on their code is there once."""


def _apart(value: Value, rows: int, c: Tensor | None) -> int:
    """Return how many positions each row of a matrix is from the one before; 0 if they do not lie alike, or are few."""
    if rows < _ALIKE or (c is not None and c.data is not None and c.data.ndim > 1 and c.data.size > c.data.shape[-1]):
        return 0
    where, which = value.where.reshape(rows, -1), value.which.reshape(rows, -1)
    apart = int(where[1, 0] - where[0, 0])
    source = value.sources[which[0, 0]]
    whole = apart % source.lanes == 0 if isinstance(source, Laned) else True
    alike = np.array_equal(where, where[:1] + apart * np.arange(rows)[:, None]) and np.all(which == which[0, 0])
    return apart if apart > 0 and whole and alike else 0


def _bias(c: Tensor | None, row: int, outputs: int) -> Array:
    """Return the bias of a row."""
    if c is None or c.data is None:
        return np.zeros(outputs, dtype=object)
    return as_python_ints(c.data if c.data.ndim == 1 else c.data.reshape(-1, outputs)[row])


def _emit(
    context: Lowering,
    node: Node,
    epilogue: Epilogue,
    groups: list[Rows],
    bias: Array,
    addends: Sequence[Value],
    across: int = 1,
    apart: int = 0,
) -> Value:
    """Emit the section of one row of the input, in the way that is planned for it, or of as many as lie alike."""
    largest = max(groups, key=lambda g: len(g.weights), default=None)
    operator = " + ".join("Gemm + Relu" if n.op_type == "FusedGemm" else n.op_type for n in epilogue.nodes)
    inputs = context.graph.tensor(node.inputs[1]).shape[0]
    rows = "" if across == 1 else f"{across} rows of "
    draft = context.section(node, f"{operator}, {rows}{inputs} -> {len(bias)}")
    activity = context.options.activity.get(draft.name) or (largest.activity() if largest else DENSE)
    if context.options.rules.charges_limit:
        activity = DENSE  # nothing that is skipped is cheaper
    for group in groups:
        draft.read(group.needed(across, apart))
    product = Product(context, draft, epilogue, groups, bias, operator, inputs, activity, tuple(addends), across, apart)
    widest = max((Interval(int(g.weights.min()), int(g.weights.max())).signed_bits for g in groups), default=1)
    reserved = context.graph.reserves.get(node.name)
    layer = Layer(
        str(node),
        product.rows,
        len(bias),
        context.lane_bits(epilogue, len(bias)),
        widest if reserved is None else reserved.weight_bits,
        largest.unit if largest else 1,
        len({g.unit for g in groups}) > 1,
        activity,
        context.options.rules,
        context.options.contract_words,
        context.options.forced(node),
        () if context.options.updatable or across > 1 else dot_forms(groups, widest),  # they depend on the weights
    )
    key = repr(layer)  # the rows of a matrix are alike: they are planned once
    if key not in context.plans:
        context.plans[key] = _planned(layer, product)
    return _computed(product, context.plans[key])


def _computed(product: Product, plan: Plan) -> Value:
    """Emit a layer as planned."""
    return (DotKernel(product, plan) if isinstance(plan, DotPlan) else Kernel(product, plan)).emit()


def _planned(layer: Layer, product: Product) -> Plan:
    """Return the plan that costs least: by what would be emitted, where the target says what that costs."""
    options, name, make = product.context.options, product.draft.name, product.context.choices.make
    if name in options.choices or not options.generators:
        plans = every_plan(layer, options) if name in options.choices else shortlist(layer, options, 1 + RUNNERS_UP)
        return make(name, plans, plan_name, lambda plan: formula_price(plan, layer, options))
    made = product.context.choices.made
    before = (name, options.code_price, *((other, choice.way) for other, choice in made.items()))
    walked = product.context.known.walked
    if before not in walked:
        walked[before] = list(_walked(layer, product))
    price_of = (lambda way: min(way[1])) if options.decides is None else (lambda way: way[1][options.decides])
    return make(name, walked[before], lambda way: plan_name(way[0]), price_of)[0]


def _walked(layer: Layer, product: Product) -> Iterator[tuple[Plan, tuple[float, ...]]]:
    """Yield the plans that may be the cheapest, with their prices by each code generator."""
    options, before = product.context.options, product.context.segments

    def alone(plan: Plan) -> Program:
        context = product.context.trial()
        draft = dataclasses.replace(product.draft, body=[], facts={})
        value = _computed(dataclasses.replace(product, context=context, draft=draft), plan)
        new = {name: segment for name, segment in context.segments.items() if name not in before}
        reads = [source.buffer for source in value.sources if isinstance(source, Laned)]
        return of_sections([draft.finish()], context, new, reads)

    found = [(plan, alone(plan)) for plan in shortlist(layer, options)]
    if len(found) > FINALISTS:  # walking what a target's printer makes of them takes ten times as long
        found.sort(key=lambda way: price(Costs(way[1]), options))
    for plan, program in found[:FINALISTS]:
        yield plan, tuple(price(generator(program), options) for generator in options.generators)


def _gather_rows(
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
