"""What is added to sums in lanes: brought into the same lanes of as many words, if it is not there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ml2sc.ir.program import (
    Block,
    Expr,
    Induction,
    Lanes,
    Let,
    Load,
    LoadInput,
    Statement,
    Store,
    Var,
    add,
    and_,
    byte,
    const,
    loop,
    mul,
    shl,
    shr,
    sub,
)
from ml2sc.ir.types import Interval

from .context import DraftSection, Lowering
from .epilogue import Addend
from .values import Laned, Packed, Value

_BYTES = 32
_STRAIGHT_WORDS = 12
"""Words that are put together of others' lanes without a loop."""


@dataclass(frozen=True, slots=True)
class Lanewise:
    """Where the elements of rows of a matrix are in words of lanes, every row from a word of its own on.

    Attributes:
        lanes: Elements of a word.
        stride: Bits from one to the next.
        width: Elements of a row.
        words: Words of a row; there may be some without elements at its end.
        rows: Rows.
    """

    lanes: int
    stride: int
    width: int
    words: int
    rows: int = 1

    def first_word(self, value: Value) -> int | None:
        """Return the word where a value's first element is, if all are in such lanes; None if they are not."""
        source = value.sources[value.which[0]]
        if not isinstance(source, Laned) or source.from_top or np.any(value.which != value.which[0]):
            return None
        start = int(value.where[0])
        rows = start + self.words * self.lanes * np.arange(self.rows)[:, None]
        alike = (source.lanes, source.stride, start % self.lanes) == (self.lanes, self.stride, 0)
        if not alike or not np.array_equal(value.where, (rows + np.arange(self.width)).ravel()):
            return None
        return start // self.lanes


@dataclass(frozen=True, slots=True)
class Added:
    """An addend in the lanes of the sums.

    Attributes:
        buffer: Where its words are.
        first: The word for the first word of sums.
        multiplier: What each lane is multiplied by.
        correction: What is to be added to each sum besides.
        top: The most that a lane holds.
    """

    buffer: str
    first: int
    multiplier: int
    correction: int
    top: int

    @property
    def deepest(self) -> int:
        """How far below 0 it can take a lane that nothing else is in."""
        return max(-self.multiplier, 0) * self.top

    def to(self, total: Expr, word: Expr, up: int) -> Expr:
        """Return a word of sums, whose lanes are some bits up, with what is added to those of the n-th word."""
        lanes = Load(self.buffer, add(word, const(self.first)))
        if self.multiplier > 0 and self.multiplier & (self.multiplier - 1) == 0:
            return add(shl(self.multiplier.bit_length() - 1 + up, lanes), total)
        product = mul(lanes, const(abs(self.multiplier) << up))
        return add(product, total) if self.multiplier > 0 else sub(total, product)


def brought(context: Lowering, draft: DraftSection, value: Value, addend: Addend, to: Lanewise) -> Added:
    """Return a value in the lanes of sums, after adding to the section what brings it there, if it must.

    Args:
        context: The lowering.
        draft: The section of the sums.
        value: The elements, in the sums' order.
        addend: What they are.
        to: The lanes.
    """
    first = to.first_word(value)
    source = value.sources[value.which[0]]
    if first is not None and first + to.rows * to.words > context.buffers[source.buffer]:
        first = None
    interval = addend.tensor.interval
    assert interval is not None

    def added(buffer: str, offset: int, top: int, first: int = 0) -> Added:
        return Added(buffer, first, addend.multiplier, addend.correction(offset), top)

    if first is not None:
        assert isinstance(source, Laned)
        return added(source.buffer, source.offset, _top(context, source), first)
    straight = to.rows == 1 and np.array_equal(value.where, value.where[0] + np.arange(to.width))
    straight = straight and not np.any(value.which != value.which[0])
    name = f"{draft.name}_added"
    if straight and isinstance(source, Packed) and not source.signed:
        top = (1 << 8 * source.width) - 1
        buffer = context.buffer(name, to.words, Lanes(to.lanes, to.stride, 0, top))
        draft.body += _unused(buffer, to)
        draft.body += _of_bytes(source, int(value.where[0]), buffer, to)
        return added(buffer, 0, top)
    if straight and isinstance(source, Laned) and to.words <= _STRAIGHT_WORDS:
        top = _top(context, source)
        buffer = context.buffer(name, to.words, Lanes(to.lanes, to.stride, 0, top))
        draft.body += _unused(buffer, to)
        draft.body += _of_lanes(source, int(value.where[0]), buffer, to)
        return added(buffer, source.offset, top)
    scalars = context.scalars(value, draft)
    buffer = context.buffer(name, to.rows * to.words, Lanes(to.lanes, to.stride, 0, interval.hi - interval.lo))
    draft.body += _unused(buffer, to)
    draft.body += _of_words(context, draft, scalars, buffer, to, interval)
    return added(buffer, interval.lo, interval.hi - interval.lo)


def _top(context: Lowering, source: Laned) -> int:
    return context.holds[source.buffer].hi if source.buffer in context.holds else (1 << source.bits) - 1


def _unused(buffer: str, to: Lanewise) -> list[Statement]:
    """Return what clears words at the end of rows that have no elements."""
    used = -(-to.width // to.lanes)
    places = [row * to.words + word for row in range(to.rows) for word in range(used, to.words)]
    return [Store(buffer, const(place), const(0)) for place in places]


def _put_together(elements: Sequence[Expr], stride: int) -> Expr:
    """Return the word that has elements in its lanes, the first at bit 0.

    Operands are computed from the right: nothing waits on the stack.
    """
    word = elements[-1]
    for element in reversed(elements[:-1]):
        word = add(element, shl(stride, word))
    return word


def _of_bytes(source: Packed, first: int, buffer: str, to: Lanewise) -> list[Statement]:
    """Return what brings elements of the packed input into lanes."""
    each = _BYTES // source.width

    def word(at: Expr, index: Expr, count: int) -> Statement:
        reads = range(0, count, each)
        lets = [Let(f"bytes{k}", LoadInput(add(at, const(k * source.width)))) for k in reads]
        elements = [_element(source, Var(f"bytes{k // each * each}"), k % each) for k in range(count)]
        return Block((*lets, Store(buffer, index, _put_together(elements, to.stride))))

    return _words(word, source.start + first * source.width, source.width, to)


def _element(source: Packed, word: Expr, number: int) -> Expr:
    if source.width == 1:
        return byte(const(number), word)
    place = 8 * (_BYTES - source.width * (number + 1))
    return and_(shr(place, word), const((1 << 8 * source.width) - 1))


def _words(word: Callable[[Expr, Expr, int], Statement], start: int, step: int, to: Lanewise) -> list[Statement]:
    """Return one row's words, each made of a place to read from, its index and the number of its elements."""
    full, rest = divmod(to.width, to.lanes)
    body: list[Statement] = []
    if full:
        also = [Induction("p", const(start), step * to.lanes)]
        body.append(loop("o", full, [word(Var("p"), Var("o"), to.lanes)], also=also))
    if rest:
        body.append(word(const(start + step * to.lanes * full), const(full), rest))
    return body


def _of_lanes(source: Laned, first: int, buffer: str, to: Lanewise) -> list[Statement]:
    """Return what deals the lanes of words out anew."""
    body: list[Statement] = []
    for index in range(-(-to.width // to.lanes)):
        numbers = range(first + index * to.lanes, first + min((index + 1) * to.lanes, to.width))
        needed = sorted({n // source.lanes for n in numbers})
        lets = [Let(f"lanes{w}", Load(source.buffer, const(w))) for w in needed]
        elements = [source.lane(Var(f"lanes{n // source.lanes}"), n % source.lanes) for n in numbers]
        body.append(Block((*lets, Store(buffer, const(index), _put_together(elements, to.stride)))))
    return body


def _of_words(
    context: Lowering, draft: DraftSection, value: Value, buffer: str, to: Lanewise, interval: Interval
) -> list[Statement]:
    """Return what brings elements that have a word each, wherever they are, into lanes."""
    body: list[Statement] = []
    holds = Lanes(1, 256, interval.lo, interval.hi, assumed=True)
    source = context.in_order(value, draft, "in_order", holds)

    def word(at: Expr, index: Expr, count: int) -> Statement:
        elements = [sub(source.read(add(at, const(k))), const(interval.lo)) for k in range(count)]
        return Store(buffer, index, _put_together(elements, to.stride))

    if to.rows == 1:
        return body + _words(word, 0, 1, to)
    full, rest = divmod(to.width, to.lanes)
    inner: list[Statement] = []
    if full:
        also = [Induction("p", Var("element"), to.lanes), Induction("o", Var("word"), 1)]
        inner.append(loop("n", full, [word(Var("p"), Var("o"), to.lanes)], also=also))
    if rest:
        inner.append(word(add(Var("element"), const(full * to.lanes)), add(Var("word"), const(full)), rest))
    also = [Induction("word", const(0), to.words)]
    return [*body, loop("element", to.rows, inner, step=to.width, also=also)]
