"""Products of matrices that both depend on the input: elements of the one times words of several of the other."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from ml2sc.ir.graph import Graph, Node
from ml2sc.ir.program import Assign, Expr, Let, Load, Note, Statement, Store, Var, add, const, mul, shl, sub
from ml2sc.ir.types import Array

from .context import DraftSection, Lowering, lowering
from .epilogue import ChannelScaling, Epilogue, find_epilogue
from .finish import Finish
from .nests import over
from .plan import LanePlan
from .values import Laned, Packed, Scalars, Value

_WORD = 256
_STRAIGHT = 16
"""Products of a sum that are written out, at most."""

Positions = dict[str, Expr]


@dataclass(frozen=True)
class _Stack:
    """Matrices of equal size, one after the other: element (matrix, row, column) is at first + indices · steps.

    Attributes:
        source: Where they are.
        first: See above.
        steps: See above.
        zero: What stands for 0.
    """

    source: Packed | Scalars
    first: int
    steps: tuple[int, int, int]
    zero: int

    @classmethod
    def of(cls, context: Lowering, draft: DraftSection, name: str, elements: Array) -> _Stack:
        """Return a tensor's elements, given by (matrix, row, column), put in order first if they do not lie so."""
        value = context.scalars(context.values[name], draft).take(elements.ravel())
        zero = context.graph.tensor(name).format.zero_point
        found = cls._regular(value, elements.shape, zero)
        if found is not None:
            return found
        ordered = context.in_order(value, draft, f"in_order_{len(draft.body)}")
        return cls(ordered, 0, (elements[0].size, elements.shape[2], 1), zero)

    @classmethod
    def _regular(cls, value: Value, shape: tuple[int, ...], zero: int) -> _Stack | None:
        where, source = value.where.reshape(shape), value.sources[value.which[0]]
        first = int(where[0, 0, 0])
        nexts = (where[1:2, 0, 0], where[0, 1:2, 0], where[0, 0, 1:2])
        steps = tuple(int(after[0]) - first if after.size else 0 for after in nexts)
        regular = first + np.tensordot(np.array(steps), np.indices(shape), 1)
        if np.any(value.which != value.which[0]) or min(steps) < 0 or not np.array_equal(where, regular):
            return None
        assert not isinstance(source, Laned)
        return cls(source, first, (steps[0], steps[1], steps[2]), zero)

    def read(self, row: Expr, column: int) -> Expr:
        """Return an element of a row that begins at a position."""
        return self.source.read(add(row, const(column * self.steps[2])))


@dataclass(frozen=True)
class _Product:
    """One product of stacks of matrices, as it is computed.

    Attributes:
        shape: Matrices, rows, what is added up, columns.
        factors: The stack of the first matrices.
        laned: The stack of the second.
        words: Buffer for the second's rows, `chunks` words each.
        finish: What becomes of sums.
    """

    shape: tuple[int, int, int, int]
    factors: _Stack
    laned: _Stack
    words: str
    finish: Finish

    @property
    def _chunks(self) -> range:
        return range(self.finish.words)

    def packed(self) -> list[Statement]:
        """Return statements that put the rows of the second matrices in lanes."""
        plan, (count, _, inner, columns) = self.finish.plan, self.shape

        def row(at: Positions) -> list[Statement]:
            body: list[Statement] = []
            for chunk in self._chunks:
                here = range(chunk * plan.lanes, min((chunk + 1) * plan.lanes, columns))
                word: Expr = const(-sum(self.laned.zero << plan.stride * lane for lane in range(len(here))))
                for lane, column in enumerate(here):
                    word = add(shl(plan.stride * lane, self.laned.read(at["b"], column)), word)
                body.append(Store(self.words, add(at["w"], const(chunk)), word))
            return body

        step, chunks = self.laned.steps, len(self._chunks)
        loops = [("m", count, {"b": step[0], "w": inner * chunks}), ("k", inner, {"b": step[1], "w": chunks})]
        return over(loops, {"b": const(self.laned.first), "w": const(0)}, row)

    def multiplied(self, result: Laned) -> list[Statement]:
        """Return statements that multiply, and end all sums."""
        count, rows, inner, _ = self.shape
        chunks = len(self._chunks)
        loops = [("m", count, {"a": self.factors.steps[0], "w": inner * chunks, "o": rows * chunks})]
        starts: Positions = {"a": const(self.factors.first), "w": const(0), "o": const(0)}
        moves = {"a": self.factors.steps[1], "o": chunks}

        def row(at: Positions) -> list[Statement]:
            lets: list[Statement] = [Let(f"acc{c}", Var(f"start{c}")) for c in self._chunks]
            return [*lets, *self._sums(at), *self.finish.stores(result, at["o"])]

        def matrix(at: Positions) -> list[Statement]:
            return [*self._starts(at), *over([("r", rows, moves)], at, row)]

        return over(loops, starts, matrix)

    def _starts(self, at: Positions) -> list[Statement]:
        """Return what sums start at: with what stands for 0 taken away from all factors at once."""
        lets: list[Statement] = [Let(f"start{c}", const(word)) for c, word in enumerate(self.finish.initial())]
        if not self.factors.zero:
            return lets

        def less(at: Positions) -> list[Statement]:
            words = {c: mul(Load(self.words, add(at["w"], const(c))), const(self.factors.zero)) for c in self._chunks}
            return [Assign(f"start{c}", sub(Var(f"start{c}"), word)) for c, word in words.items()]

        return [*lets, *over([("z", self.shape[2], {"w": len(self._chunks)})], {"w": at["w"]}, less)]

    def _sums(self, at: Positions) -> list[Statement]:
        """Return the sums of a row's products."""
        inner, chunks = self.shape[2], len(self._chunks)
        written = next(d for d in range(min(inner, _STRAIGHT), 0, -1) if inner % d == 0)

        def some(at: Positions) -> list[Statement]:
            totals: list[Expr] = [Var(f"acc{c}") for c in self._chunks]
            for k in range(written):
                for c in self._chunks:
                    word = Load(self.words, add(at["w"], const(k * chunks + c)))
                    totals[c] = add(mul(self.factors.read(at["a"], k), word), totals[c])
            return [Assign(f"acc{c}", total) for c, total in enumerate(totals)]

        moves = {"a": written * self.factors.steps[2], "w": written * chunks}
        return over([("j", inner // written, moves)], {"a": at["a"], "w": at["w"]}, some)


@lowering("ActivationMatMul")
def lower_matrices(context: Lowering, node: Node) -> None:
    """Σ (a − z_a)·(b − z_b): each a, of a row, times a word with the row of b that it meets, a column in each lane."""
    graph = context.graph
    first, second = node.inputs
    epilogue = _epilogue(graph, node)
    *batch, rows, columns = graph.tensor(node.output).shape
    count, inner, most = prod(batch), graph.tensor(first).shape[-1], _WORD // epilogue.proved_bits
    left, right = (_elements(graph.tensor(name).shape, batch, count) for name in node.inputs)
    order = np.arange(count * rows * columns).reshape(count, rows, columns)
    if rows * -(-columns // most) > columns * -(-rows // most):  # (A·B)' = B'·A'
        first, second, rows, columns = second, first, columns, rows
        left, right, order = right.swapaxes(1, 2), left.swapaxes(1, 2), order.swapaxes(1, 2)
    chunks = -(-columns // most)
    draft = context.section(node, f"MatMul, {count} of {rows} x {inner} by {inner} x {columns}")
    bits = epilogue.proved_bits
    plan = LanePlan.of_sums(bits, bits, -(-columns // chunks), chunks)
    bias: Array = np.full((1, columns), epilogue.constant + epilogue.offsets[0], dtype=object)
    computed = _Product(
        (count, rows, inner, columns),
        _Stack.of(context, draft, first, left),
        _Stack.of(context, draft, second, right),
        context.buffer(f"{draft.name}_words", count * inner * chunks),
        Finish(context, draft, plan, epilogue, bias, across=count * rows),
    )
    result = computed.finish.result()
    draft.body += [Note(f"{plan.lanes} columns of the second matrix to a word, {plan.stride} bits apart.")]
    draft.body += computed.packed()
    draft.body += [Note(computed.finish.said()), *computed.multiplied(result)]
    draft.facts = {
        "operator": " + ".join(["MatMul", *(n.op_type for n in epilogue.nodes[1:])]),
        "bits": bits,
        "lanes": plan.lanes,
        "stride": plan.stride,
    }
    context.values[epilogue.output.name] = computed.finish.value(result).take(np.argsort(order.ravel()))
    context.done.update(n.name for n in epilogue.nodes)


def _epilogue(graph: Graph, node: Node) -> Epilogue:
    """Return what happens to the sums in their lanes: nothing where lanes have no room, or factors of their own."""
    found = find_epilogue(graph, node, sums=False)
    if found.proved_bits <= _WORD and not isinstance(found.scaling, ChannelScaling):
        return found
    output = graph.tensor(node.output)
    assert output.interval is not None
    return Epilogue(output, (node,), 0, output.format.zero_point, output.interval, output.interval)


def _elements(shape: tuple[int, ...], batch: list[int], count: int) -> Array:
    """Return the elements of stacked matrices, broadcast to a batch: (count, rows, columns)."""
    elements = np.arange(prod(shape)).reshape(shape)
    return np.broadcast_to(elements, (*batch, *shape[-2:])).reshape(count, *shape[-2:])
