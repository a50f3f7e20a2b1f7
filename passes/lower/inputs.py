"""Packed inputs whose proved interval is narrower than their bytes: brought into it, or refused, a word at a time.

A word holds as many elements as there is room for. Every other one at a time, each has a lane twice as wide as itself,
so that what is added to test it has room. An element q in [lo, hi] is kept as u = q − lo.
"""

from __future__ import annotations

from bisect import bisect, insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from ml2sc.ir.graph import Graph, Node
from ml2sc.ir.limits import shown
from ml2sc.ir.ops.base import op_of
from ml2sc.ir.program import (
    OUT_OF_RANGE,
    Assign,
    Expr,
    Fail,
    If,
    Induction,
    Lanes,
    Let,
    LoadInput,
    OpCode,
    Statement,
    Store,
    Var,
    add,
    and_,
    binary,
    const,
    loop,
    mul,
    or_,
    sgt,
    shl,
    shr,
    slt,
    sub,
)
from ml2sc.ir.types import Interval
from ml2sc.ir.wad import element_width

from ..gemm import RESHAPING
from .context import DraftSection, Lowering, lower_node
from .elementwise import at_least, at_most
from .values import Laned, Packed, Scalars, Value

_xor = binary(OpCode.XOR)
_WORD = 256


_IN_ORDER = frozenset({*RESHAPING, "Transpose"})
"""Movements that may leave all elements where they are."""


@dataclass(frozen=True)
class Given:
    """The graph's inputs: packed, until something reads them that does not take them so.

    Attributes:
        packed: Where each is packed, under all names that it has.
        copies: The tensors that are an input under another name or shape, which nothing else reads: what makes them.
    """

    packed: Mapping[str, Packed]
    copies: Mapping[str, tuple[Node, ...]]

    @classmethod
    def of(cls, graph: Graph) -> Given:
        """Return those of a graph."""
        if graph.ladders:  # trees read the code's bits themselves
            return cls({}, {})
        packed = _packed_inputs(graph)
        copies = _copies(graph, packed)
        return cls(packed | {name: packed[nodes[0].inputs[0]] for name, nodes in copies.items()}, copies)

    def place(self, context: Lowering, names: Iterable[str]) -> None:
        """Say where tensors are that are inputs: brought into their range, where need be, before all else."""
        for name in names:
            if name in context.values or name not in self.packed:
                continue
            if name in self.copies:
                self.place(context, self.copies[name][0].inputs)
                for node in self.copies[name]:
                    if node.name not in context.done:
                        lower_node(context, node)
                        context.done.add(node.name)
                continue
            count = len(context.sections)
            place_input(context, name, self.packed[name])
            if len(context.sections) > count:
                number = context.graph.inputs.index(name)
                context.sections.insert(bisect(context.placed, number), context.sections.pop())
                insort(context.placed, number)

    def take(self, context: Lowering, names: Iterable[str]) -> None:
        """Note that a kernel reads inputs as they are packed: nobody else does, and it sees to their range itself."""
        for name in names:
            context.values[name] = Value.of(self.packed[name])
            for node in self.copies.get(name, ()):
                context.values[node.inputs[0]] = context.values[name]
                context.done.add(node.name)


def place_input(context: Lowering, name: str, packed: Packed) -> None:
    """Say where a graph input's elements are: packed, and brought into their interval where need be.

    Args:
        context: The lowering of the graph.
        name: The graph input.
        packed: Where its elements are packed.
    """
    interval = context.graph.tensor(name).interval
    assert interval is not None
    if (interval.lo, interval.hi) == (packed.qmin, packed.qmax):
        context.values[name] = Value.of(packed)
    else:
        context.values[name] = in_range(context, name, packed, interval)


def _packed_inputs(graph: Graph) -> dict[str, Packed]:
    """Return where the inputs' elements are in the packed input."""
    width, position, found = element_width(graph), 0, {}
    for name in graph.inputs:
        tensor = graph.tensor(name)
        found[name] = Packed(position * width, width, tensor.format.signed, tensor.size)
        position += tensor.size
    return found


def _copies(graph: Graph, inputs: Mapping[str, Packed]) -> dict[str, tuple[Node, ...]]:
    """Return the tensors that are a graph input under another name or shape, which nothing else reads: what makes them.

    A kernel reads them as they are packed.
    """
    found: dict[str, tuple[Node, ...]] = {}
    for node in (node for node in graph if node.op_type in _IN_ORDER):
        x = node.inputs[0]
        if (x in inputs or x in found) and graph.only_use(x) is node:
            numbers = np.arange(graph.tensor(x).size).reshape(graph.tensor(x).shape)
            operands = [None if not name else graph.tensor(name).data for name in node.inputs[1:]]
            order = op_of(node).evaluate(node, [numbers, *operands])[0].ravel()
            if np.array_equal(order, numbers.ravel()):
                found[node.output] = (*found.get(x, ()), node)
    return found


def in_range(context: Lowering, name: str, packed: Packed, interval: Interval) -> Value:
    """Emit the section that brings packed elements into the proved interval (or refuses them).

    Args:
        context: The lowering of the graph.
        name: The graph input.
        packed: Where its elements are.
        interval: What each must lie in.
    """
    draft = context.plain_section(
        f"input_{name}", f"Input {shown(name)!r}: {packed.count} values in {interval}", predict=True, classify=True
    )
    draft.read(Value.of(packed))
    lanes = 32 // packed.width
    readers = [use.node for use in context.graph.uses(name)]
    taken_apart = not all(node.op_type in {"Gemm", "FusedGemm"} or op_of(node).moves for node in readers)
    if 32 % packed.width or lanes < 2 or taken_apart:
        return _one_by_one(context, draft, packed, interval)
    words = -(-packed.count // lanes)
    result = Laned(
        context.buffer(f"{draft.name}_words", words, Lanes(lanes, 8 * packed.width, 0, interval.hi - interval.lo)),
        lanes,
        8 * packed.width,
        max((interval.hi - interval.lo).bit_length(), 1),
        interval.lo,
        packed.count,
        from_top=True,
    )
    body: list[Statement] = [Let("word", LoadInput(Var("p")))]
    if packed.signed:
        body.append(Assign("word", _xor(Var("word"), const(_ones(result.stride, result.stride - 1, 1)))))
    if context.options.strict_input:
        body += _checked(packed, interval, lanes)
    halves = [_half(packed, interval, h) for h in range(2)]
    body += [statement for statements, _ in halves for statement in statements]
    body.append(Store(result.buffer, Var("o"), or_(halves[0][1], shl(result.stride, halves[1][1]))))
    draft.body.append(loop("o", words, body, also=[Induction("p", const(packed.start), 32)]))
    return Value.of(result)


def _ones(stride: int, place: int, bits: int) -> int:
    return sum(((1 << bits) - 1) << (start + place) for start in range(0, _WORD, stride))


def _half(packed: Packed, interval: Interval, half: int) -> tuple[list[Statement], Expr]:
    """Return statements, and u of every other element of `word`, each in a lane of two elements' width."""
    bits = 8 * packed.width
    lowest = -(1 << (bits - 1)) if packed.signed else 0  # what an element of zero bits stands for by now
    lo, top = interval.lo - lowest, interval.hi - interval.lo
    ones, full = _ones(2 * bits, 0, 1), _ones(2 * bits, 0, bits)
    name, word = f"v{half}", Var(f"v{half}")
    body: list[Statement] = [Let(name, and_(shr(bits * half, Var("word")), const(full)))]
    if lo:
        # v + 2^bits − lo: the bit above says v >= lo, below it is v − lo
        body.append(Assign(name, add(word, const(ones * ((1 << bits) - lo)))))
        keep = f"keep{half}"
        body.append(Let(keep, and_(shr(bits, word), const(ones))))
        body.append(Assign(name, and_(word, sub(shl(bits, Var(keep)), Var(keep)))))
    if interval.hi < lowest + (1 << bits) - 1:
        over = f"over{half}"
        body.append(Let(over, and_(shr(bits, add(word, const(ones * ((1 << bits) - 1 - top)))), const(ones))))
        m = top.bit_length()
        spread = sub(shl(bits, Var(over)), Var(over))
        if top == (1 << m) - 1:
            body.append(Assign(name, and_(or_(word, spread), const(_ones(2 * bits, 0, m)))))
        else:
            body.append(Let(f"spread{half}", spread))
            kept = _xor(or_(word, Var(f"spread{half}")), Var(f"spread{half}"))
            body.append(Assign(name, add(kept, mul(Var(over), const(top)))))
    return body, word


def _checked(packed: Packed, interval: Interval, lanes: int) -> list[Statement]:
    """Refuse the first element out of range of those that `word` holds, if there is one."""
    bits = 8 * packed.width
    lowest = -(1 << (bits - 1)) if packed.signed else 0
    lo, hi = interval.lo - lowest, interval.hi - lowest
    ones, full = _ones(2 * bits, 0, 1), _ones(2 * bits, 0, bits)
    found: Expr | None = None
    for half in range(2):
        v = and_(shr(bits * half, Var("word")), const(full))
        above = add(v, const(ones * ((1 << bits) - 1 - hi)))
        # a missing bit says v < lo
        below = _xor(add(v, const(ones * ((1 << bits) - lo))), const(ones << bits))
        test = or_(above, below) if lo else above
        found = test if found is None else or_(found, test)
    assert found is not None
    index = add(Var("e"), const(packed.start // packed.width))
    outside = refuse(index, interval.lo, interval.hi)
    each: list[Statement] = [Let("x", packed.read_at(Var("q"))), If(sgt(const(packed.count), Var("e")), (outside,))]
    also = [Induction("e", mul(Var("o"), const(lanes)), 1), Induction("q", Var("p"), packed.width)]
    inner = loop("k", lanes, each, also=also)
    return [If(and_(found, const(ones << bits)), (inner,))]


def refuse(index: Expr, lo: int, hi: int) -> If:
    """Return the statement that reverts if the variable x is not in [lo, hi], naming an element."""
    outside = or_(slt(Var("x"), const(lo)), sgt(Var("x"), const(hi)))
    return If(outside, (Fail(OUT_OF_RANGE, (index, Var("x"))),))


def _one_by_one(context: Lowering, draft: DraftSection, packed: Packed, interval: Interval) -> Value:
    """Do the same for each by itself: where a word holds no whole number of them, or its readers take it apart."""
    holds = Lanes(1, _WORD, interval.lo, interval.hi)
    result = Scalars(context.buffer(f"{draft.name}_values", packed.count, holds), packed.count)
    body: list[Statement] = [Let("x", packed.read_at(Var("p")))]
    if context.options.strict_input:
        body.append(refuse(add(Var("o"), const(packed.start // packed.width)), interval.lo, interval.hi))
    else:
        body += [at_least("x", const(interval.lo)), at_most("x", const(interval.hi))]
    body.append(Store(result.buffer, Var("o"), Var("x")))
    draft.body.append(loop("o", packed.count, body, also=[Induction("p", const(packed.start), packed.width)]))
    return Value.of(result)
