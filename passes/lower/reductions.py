"""Sums, extremes and the greatest elements of vectors; the same steps as `evaluate_exact` of the operators."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from math import prod

import numpy as np

from ml2sc.ir.graph import Node
from ml2sc.ir.ops.base import attr_int
from ml2sc.ir.ops.reductions import reduced_axes
from ml2sc.ir.program import (
    Assign,
    Expr,
    If,
    Induction,
    Lanes,
    Let,
    Load,
    Statement,
    Store,
    Var,
    add,
    const,
    loop,
    sgt,
    sub,
)

from .context import DraftSection, Lowering, lowering
from .elementwise import at_least, at_most, result_of
from .values import Laned, Packed, Scalars, Value

_STRAIGHT = 8
"""Vectors of at most so many elements are written out instead of looped over."""


class _Rows:
    """Vectors of equal length, their elements where arithmetic progressions say.

    Attributes:
        source: Where the elements are.
        first: Position of the first vector's first element.
        step: How far one element is from the next.
        row_step: How far one vector is from the next.
    """

    def __init__(self, source: Packed | Scalars, first: int, step: int, row_step: int) -> None:
        self.source, self.first, self.step, self.row_step = source, first, step, row_step

    @classmethod
    def of(cls, value: Value, rows: int, size: int) -> _Rows | None:
        """Return the rows of a value, or None if its elements do not lie so."""
        where = value.where.reshape(rows, size)
        first = int(where[0, 0])
        step = int(where[0, 1] - first) if size > 1 else 0
        row_step = int(where[1, 0] - first) if rows > 1 else 0
        want = first + row_step * np.arange(rows)[:, None] + step * np.arange(size)[None, :]
        if np.any(value.which != value.which[0]) or step < 0 or row_step < 0 or not np.array_equal(where, want):
            return None
        source = value.sources[value.which[0]]
        return None if isinstance(source, Laned) else cls(source, first, step, row_step)


def _rows_of(context: Lowering, draft: DraftSection, value: Value, rows: int, size: int) -> _Rows:
    """Return a value as vectors, copied to a buffer of their own if need be."""
    found = _Rows.of(value, rows, size)
    if found is not None:
        return found
    buffer = context.buffer(f"{draft.name}_in", value.size)
    context.emit_map(draft, [value], [], buffer, lambda operands: ([], operands[0]))
    return _Rows(Scalars(buffer, value.size), 0, 1, size)


def _lower(context: Lowering, node: Node, step: Callable[[Expr], list[Statement]], *, adds: bool) -> None:
    """Emit a reduction.

    Args:
        context: The lowering.
        node: The node.
        step: Gives what is done to variable `total` for the next element.
        adds: Whether that is adding it.
    """
    graph = context.graph
    tensor, output = graph.tensor(node.inputs[0]), graph.tensor(node.output)
    axes = reduced_axes(node, len(tensor.shape), None)
    size = prod(tensor.shape[axis] for axis in axes)
    draft = context.section(node, f"{node.op_type}, {output.size} of {size}")
    order = np.moveaxis(np.arange(tensor.size).reshape(tensor.shape), axes, range(-len(axes), 0)).ravel()
    value = context.scalars(context.values[tensor.name], draft).take(order)
    rows = _rows_of(context, draft, value, output.size, size)
    result = result_of(context, node, draft)

    def row(start: Callable[[int], Expr]) -> list[Statement]:
        if adds and size <= _STRAIGHT:
            return [Let("total", reduce(add, (rows.source.read(start(rows.step * k)) for k in range(size))))]
        body: list[Statement] = [Let("total", rows.source.read(start(0)))]
        if size > 1:
            also = [Induction("p", start(rows.step), rows.step)]
            body.append(loop("j", size - 1, step(rows.source.read(Var("p"))), start=1, also=also))
        return body

    total = sub(Var("total"), const(tensor.format.zero_point * (size if adds else 1)))
    if output.size == 1:
        draft.body += [*row(lambda offset: const(rows.first + offset)), Store(result.buffer, const(0), total)]
    else:
        body = [*row(lambda offset: add(Var("s"), const(offset))), Store(result.buffer, Var("r"), total)]
        draft.body.append(loop("r", output.size, body, also=[Induction("s", const(rows.first), rows.row_step)]))
    draft.facts = {"operator": node.op_type, "lanes": 1}
    context.values[node.output] = Value.of(result)


@lowering("ReduceSum", "ReduceMean")
def lower_sum(context: Lowering, node: Node) -> None:
    """Σ (x − z)."""
    _lower(context, node, lambda x: [Assign("total", add(Var("total"), x))], adds=True)


@lowering("ReduceMax", "ReduceMin")
def lower_reduced_extreme(context: Lowering, node: Node) -> None:
    """The greatest or least x − z."""
    closer = at_least if node.op_type == "ReduceMax" else at_most
    _lower(context, node, lambda x: [Let("v", x), closer("total", Var("v"))], adds=False)


@lowering("TopIndices", "TopValues")
def lower_top(context: Lowering, node: Node) -> None:
    """As often as asked for: the first greatest element, which then becomes less than all others."""
    graph = context.graph
    tensor, output = graph.tensor(node.inputs[0]), graph.tensor(node.output)
    assert tensor.interval is not None
    draft = context.section(node, f"{node.op_type}, {output.size} of {tensor.size}")
    buffer = context.buffer(f"{draft.name}_in", tensor.size)
    value = context.scalars(context.values[tensor.name], draft)
    context.emit_map(draft, [value], [], buffer, lambda operands: ([], operands[0]))
    lowest = tensor.interval.lo - 1
    result = result_of(context, node, draft)
    if node.op_type == "TopIndices":
        holds = Lanes(1, 256, 0, tensor.size - 1, assumed=True)
        context.holds[result.buffer] = holds
    better = If(sgt(Var("v"), Var("best")), (Assign("best", Var("v")), Assign("index", Var("e"))))
    best = sub(Var("best"), const(tensor.format.zero_point))
    body: list[Statement] = [
        Let("best", const(lowest)),
        Let("index", const(0)),
        loop("e", tensor.size, [Let("v", Load(buffer, Var("e"))), better]),
        Store(buffer, Var("index"), const(lowest)),
        Store(result.buffer, Var("k"), Var("index") if node.op_type == "TopIndices" else best),
    ]
    draft.body.append(loop("k", attr_int(node, "k", 1), body))
    draft.facts = {"operator": node.op_type, "lanes": 1}
    context.values[node.output] = Value.of(result)
