"""WAD values to ranks by a table of floats: x / 10^18 is rounded to a float as a computer does it, once an element.

The *key* of a float is the integer that its bits are, its sign apart, negative for negative floats, and moved up so
that it is positive: keys have the order of the floats. An edge takes the bytes of a float, then, not of a WAD value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ml2sc.ir.program import (
    Apply,
    Assign,
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
    binary,
    const,
    div,
    gt,
    iszero,
    loop,
    mul,
    or_,
    shl,
    shr,
    slt,
    sub,
)
from ml2sc.ir.thermometer import Ladder

from .context import DraftSection, Lowering
from .elementwise import at_most

_mod = binary(OpCode.MOD)
_WAD = 10**18
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
        self.per_word = 256 // self.bits
        self._kind = np.float64 if double else np.float32
        self._integer = np.uint64 if double else np.uint32

    def key(self, edge: float) -> int:
        """Return an edge's key; of infinity, which nothing exceeds, one that nothing does."""
        if edge == math.inf:
            return (1 << self.bits) - 1
        magnitude = int(np.abs(self._kind(edge)).view(self._integer))
        return self.zero + (magnitude if edge > 0 else -magnitude)


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
    keys = [[kind.key(edge) for edge in ladder.edges[index]] for _, ladder, index in asked]
    each = -(-max(map(len, keys)) // kind.per_word)
    pad = (1 << kind.bits) - 1
    words = []
    for own in keys:
        padded = own + [pad] * (each * kind.per_word - len(own))
        words += [
            sum(key << kind.bits * place for place, key in enumerate(padded[at : at + kind.per_word]))
            for at in range(0, len(padded), kind.per_word)
        ]
    numbers = [number for number, _, _ in asked]
    buffer = context.buffer("ranks", len(asked))
    body = quantize.body
    body.append(
        Note("x / 10^18 as a float, its bits in the order of floats; how many of the element's edges it exceeds.")
    )
    for first, count in _runs(numbers):
        # each run of the table by itself: a copy lies in one data contract
        for start in range(0, count, max(_MOST_WORDS // each, 1)):
            size = min(count - start, max(_MOST_WORDS // each, 1))
            at = numbers.index(first + start)
            part = words[at * each : (at + size) * each]
            in_data = len(words) > _CODE_WORDS
            table = context.table(quantize, "edges", part, in_data=in_data)
            body.append(_element(kind, table, buffer, first + start, at, size, each))
    return {number: Load(buffer, const(place)) for place, number in enumerate(numbers)}


_MOST_WORDS = 512


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Return runs of numbers that follow each other: the first, and how many."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and number == sum(runs[-1]):
            runs[-1] = runs[-1][0], runs[-1][1] + 1
        else:
            runs.append((number, 1))
    return runs


def _element(kind: _Kind, table: str, buffer: str, first: int, place: int, count: int, each: int) -> For:
    """Return the loop over elements from `first` on, whose ranks go to a buffer from `place` on."""
    word: list[Statement] = [Let("word", Load(table, Var("t")))]
    total: Expr = Var("rank")
    for position in range(kind.per_word):
        edge = and_(shr(kind.bits * position, Var("word")), const((1 << kind.bits) - 1))
        total = add(gt(Var("key"), edge), total)
    word.append(Assign("rank", total))
    inner = For((Induction("w", const(0), 1), Induction("t", Var("at"), 1)), each, tuple(word))
    body = [*_key(kind), Let("rank", const(0)), inner, Store(buffer, Var("o"), Var("rank"))]
    also = [Induction("o", const(place), 1), Induction("at", const(0), each)]
    return loop("i", count, body, start=first, also=also)


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
        Let("exact", or_(shl(1, q), iszero(iszero(_mod(Var("numerator"), Var("divisor")))))),
        Let("drop", add(longer, const(4))),
        # a mantissa's highest bit, which a float does not hold, adds 1 to the exponent
        Let("key", add(shl(kind.mantissa, sub(add(exponent, longer), const(1))), rounded)),
        at_most("key", const(kind.infinity)),
        If(iszero(a), (Assign("key", const(0)),)),
        If(Var("negative"), (Assign("key", sub(const(0), Var("key"))),)),
        Assign("key", add(Var("key"), const(kind.zero))),
    ]
