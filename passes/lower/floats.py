"""WAD values to ranks by a table of floats: x / 10^18 is rounded to a float as a computer does it, once an element.

The *key* of a float is the integer that its bits are, its sign apart, negative for negative floats, and moved up so
that it is positive: keys have the order of the floats. An edge takes the bytes of a float, then, not of a WAD value.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate, chain

import numpy as np

from ml2sc.errors import UnsupportedModelError
from ml2sc.ir.program import (
    Apply,
    Assign,
    Block,
    Expr,
    For,
    If,
    Induction,
    Let,
    Load,
    Note,
    OpCode,
    Statement,
    Store,
    Var,
    WadInput,
    add,
    and_,
    const,
    div,
    eq,
    gt,
    iszero,
    loop,
    lt,
    mul,
    or_,
    shl,
    shr,
    slt,
    sub,
)
from ml2sc.ir.thermometer import Ladder, Room

from .context import DraftSection, Lowering
from .elementwise import at_most
from .records import field_at, packed_fields

_WAD = 10**18
_WORD = 256
_CODE_WORDS = 250
"""Words of a table in the code; a longer one is in a data contract."""


class _Kind:
    """A float type.

    Args:
        double: Whether it is float64, else float32.
    """

    def __init__(self, *, double: bool) -> None:
        self.bits = 64 if double else 32
        self.mantissa = 52 if double else 23
        self.bias = 1023 if double else 127
        self.zero = 1 << self.bits - 1
        self.infinity = (2 * self.bias + 1) << self.mantissa
        self.per_word = _WORD // self.bits
        self._kind = np.float64 if double else np.float32
        self._integer = np.uint64 if double else np.uint32

    def key(self, edge: float) -> int:
        """Return an edge's key; of infinity, which nothing exceeds, one that nothing does."""
        if edge == math.inf:
            return (1 << self.bits) - 1
        magnitude = int(np.abs(self._kind(edge)).view(self._integer))
        return self.zero + (magnitude if edge > 0 else -magnitude)

    def row(self, keys: Sequence[int]) -> Iterator[int]:
        """Yield the words that hold an element's keys; what is left over is exceeded by nothing."""
        padding = (1 << self.bits) - 1
        for first in range(0, len(keys), self.per_word):
            own = [*keys[first : first + self.per_word], *[padding] * self.per_word][: self.per_word]
            yield sum(key << self.bits * place for place, key in enumerate(own))


def ranks_by_table(
    context: Lowering, quantize: DraftSection, asked: Sequence[tuple[int, Ladder, int]]
) -> dict[int, Expr]:
    """Emit the ranks of elements, and return where they are.

    Args:
        context: The lowering.
        quantize: The section.
        asked: Elements by number, with the ladder they are on and their place in it.
    """
    kind = _Kind(double=any(ladder.double for _, ladder, _ in asked))
    rows = [list(kind.row([kind.key(edge) for edge in ladder.edges[index]])) for _, ladder, index in asked]
    in_data = sum(map(len, rows)) > _CODE_WORDS
    numbers = [number for number, _, _ in asked]
    buffer = context.buffer("ranks", len(asked))
    body = quantize.body
    body.append(
        Note("x / 10^18 as a float, its bits in the order of floats; how many of the element's edges it exceeds.")
    )
    for first, count in _runs(numbers):
        for start, size in _portions([len(row) for row in rows[numbers.index(first) :][:count]]):
            at = numbers.index(first + start)
            part = rows[at : at + size]
            body.append(_elements(context, quantize, kind, part, buffer, (first + start, at), in_data=in_data))
    return {number: Load(buffer, const(place)) for place, number in enumerate(numbers)}


_MOST_WORDS = 512
"""Words of a table: a copy of it lies in one data contract."""
_SIZE_BITS = 16
"""Bits of the number of an element's words, at the head of a table."""


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Return runs of numbers that follow each other: the first, and how many."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and number == sum(runs[-1]):
            runs[-1] = runs[-1][0], runs[-1][1] + 1
        else:
            runs.append((number, 1))
    return runs


def _portions(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield runs of elements whose rows fit a table: the first, and how many."""
    first = words = 0
    for number, size in enumerate(sizes):
        if words and words + size > _MOST_WORDS:
            yield first, number - first
            first, words = number, 0
        words += size
    yield first, len(sizes) - first


def ranks_by_halves(
    context: Lowering, quantize: DraftSection, elements: Sequence[tuple[Ladder, int]], room: Room
) -> dict[int, Expr]:
    """Emit the ranks of all elements where edges may be replaced by others, and return where they are.

    The table is data: where each element's edges end, then the keys of all of them, the first place left free. An
    element's rank is found by halving what is left of its edges.

    Args:
        context: The lowering.
        quantize: The section.
        elements: Each one's ladder, and its place there.
        room: How many edges there may be.

    Raises:
        UnsupportedModelError: the table does not fit a data contract.
    """
    kind, count = _Kind(double=room.double), len(elements)
    keys = [[kind.key(edge) for edge in ladder.edges[index]] for ladder, index in elements]
    ends = [0, *accumulate(map(len, keys))]
    heads, places = -(-len(ends) // (_WORD // _END_BITS)), room.edges + 1
    edges = packed_fields([0, *chain.from_iterable(keys)], kind.bits, -(-places // kind.per_word))
    words = [*packed_fields(ends, _END_BITS, heads), *edges]
    if len(words) > context.options.contract_words or places >= 1 << _END_BITS:
        raise UnsupportedModelError(
            f"predict and classify hold the edges of trees in a data contract of {context.options.contract_words:,} "
            f"words, and {room.edges:,} of them, later ones included, take {len(words):,}",
            hint="add --packed-only, or lower --headroom",
        )
    table = context.table(quantize, "edges", words, in_data=True)
    buffer = context.buffer("ranks", count)

    def entry(place: Expr, bits: int, first: int) -> Expr:
        return and_(field_at(table, place, bits, const(first)), const((1 << bits) - 1))

    steps = min(room.most, room.edges).bit_length()
    exceeded = gt(Var("key"), entry(Var("middle"), kind.bits, heads))
    step = Apply(OpCode.SHR, (Var("half"), const(1 << steps - 1)))
    halves = For(
        (Induction("half", const(0), 1),),
        steps,
        (
            Let("step", step),
            Let("middle", add(Var("at"), Var("step"))),
            If(lt(Var("middle"), Var("end")), (Assign("at", add(Var("at"), mul(Var("step"), exceeded))),)),
        ),
    )
    body = [
        *_key(kind),
        Let("start", entry(Var("i"), _END_BITS, 0)),
        Let("end", add(entry(Var("n"), _END_BITS, 0), const(1))),
        at_most("end", const(places)),
        Let("at", Var("start")),
        halves,
        Store(buffer, Var("i"), sub(Var("at"), Var("start"))),
    ]
    text = "x / 10^18 as a float, its bits in the order of floats; how many of the element's edges it exceeds."
    quantize.body += [Note(text), loop("i", count, body, also=[Induction("n", const(1), 1)])]
    return {number: Load(buffer, const(number)) for number in range(count)}


_END_BITS = 16
"""Bits of the place where an element's edges end."""


def _elements(
    context: Lowering,
    quantize: DraftSection,
    kind: _Kind,
    rows: Sequence[Sequence[int]],
    buffer: str,
    first: tuple[int, int],
    *,
    in_data: bool,
) -> Block:
    """Return what stores the ranks of elements that follow each other.

    Args:
        context: The lowering.
        quantize: The section.
        kind: The float type.
        rows: Of each element the words of its keys.
        buffer: Where ranks go.
        first: The first element's number, and its place in the buffer.
        in_data: Whether the table is in a data contract.
    """
    per = _WORD // _SIZE_BITS
    sizes = [len(row) for row in rows]
    heads = [
        sum(size << _SIZE_BITS * place for place, size in enumerate(sizes[at : at + per]))
        for at in range(0, len(sizes), per)
    ]
    words = [*heads, *(word for row in rows for word in row)]
    table = context.table(quantize, "edges", words, in_data=in_data)
    total: Expr = Var("rank")
    for position in range(kind.per_word):
        edge = and_(shr(kind.bits * position, Var("word")), const((1 << kind.bits) - 1))
        total = add(gt(Var("key"), edge), total)
    word = (
        Let("word", Load(table, Var("at"))),
        Assign("rank", total),
        Assign("at", add(Var("at"), const(1))),
    )
    shift = shl(_SIZE_BITS.bit_length() - 1, and_(Var("n"), const(per - 1)))
    head = Load(table, shr(per.bit_length() - 1, Var("n")))
    own = and_(Apply(OpCode.SHR, (shift, head)), const((1 << _SIZE_BITS) - 1))
    inner = For((Induction("w", const(0), 1),), max(sizes), (If(lt(Var("w"), Var("own")), word),))
    body = [*_key(kind), Let("rank", const(0)), Let("own", own), inner, Store(buffer, Var("o"), Var("rank"))]
    also = [Induction("o", const(first[1]), 1), Induction("n", const(0), 1)]
    return Block((Let("at", const(len(heads))), loop("i", len(rows), body, start=first[0], also=also)))


def _key(kind: _Kind) -> list[Statement]:
    """Return statements that leave in `key` that of element i's float.

    The number is a / 10^18 with a = |x|. With p the place of the highest bit of a, a · 2^(s − p) / 10^18 has three or
    four bits more than a float; they, and whether the division leaves a rest, decide how it is rounded.
    """
    scale = kind.mantissa + 3 + 60
    a, place, q = Var("a"), Var("place"), Var("q")
    find: list[Statement] = [Let("place", const(0)), Let("rest", a)]
    for bits in (128, 64, 32, 16, 8, 4, 2, 1):
        step = (Assign("place", add(place, const(bits))), Assign("rest", shr(bits, Var("rest"))))
        find.append(If(shr(bits, Var("rest")), step))
    up = Apply(OpCode.SHL, (sub(const(scale), place), a))  # 0 where it would be a shift to the right
    above = gt(place, const(scale))
    down = Apply(OpCode.SHL, (sub(place, const(scale)), const(_WAD)))
    longer = shr(kind.mantissa + 4, q)
    exponent = add(sub(place, const(scale)), const(kind.mantissa + 3 + kind.bias))
    drop = Var("drop")
    odd = and_(Apply(OpCode.SHR, (drop, Var("exact"))), const(1))
    half = sub(Apply(OpCode.SHL, (sub(drop, const(1)), const(1))), const(1))
    rounded = Apply(OpCode.SHR, (drop, add(Var("exact"), add(half, odd))))
    return [
        Let("x", WadInput(Var("i"))),
        Let("negative", slt(Var("x"), const(0))),
        Let("a", Var("x")),
        If(Var("negative"), (Assign("a", sub(const(0), Var("x"))),)),
        *find,
        Let("numerator", or_(up, mul(above, a))),
        Let("divisor", const(_WAD)),
        If(above, (Assign("divisor", down),)),
        Let("q", div(Var("numerator"), Var("divisor"))),
        # one bit more at the end: whether anything is left
        Let("exact", or_(shl(1, q), iszero(eq(mul(q, Var("divisor")), Var("numerator"))))),
        Let("drop", add(longer, const(4))),
        # a mantissa's highest bit, which a float does not hold, adds 1 to the exponent
        Let("key", add(shl(kind.mantissa, sub(add(exponent, longer), const(1))), rounded)),
        at_most("key", const(kind.infinity)),
        If(iszero(a), (Assign("key", const(0)),)),
        If(Var("negative"), (Assign("key", sub(const(0), Var("key"))),)),
        Assign("key", add(Var("key"), const(kind.zero))),
    ]
