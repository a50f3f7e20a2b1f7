"""Images as rows of pixels in lanes: of the packed input, a byte a pixel, or of values a word each."""

from __future__ import annotations

import numpy as np

from ml2sc.ir.program import (
    Assign,
    Block,
    Expr,
    Induction,
    Let,
    Load,
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
    shl,
    shr,
)

from ..context import DraftSection, Lowering
from ..epilogue import Epilogue
from ..lane_steps import Ending, spread
from ..nests import emit_nests
from ..values import Packed, Scalars, Value
from .maps import Maps

_xor = binary(OpCode.XOR)
_BYTE = 8
_BYTES = 32


class Pixels:
    """Emits what brings the packed input into lanes.

    Args:
        packed: The input's bytes, channel by channel and row by row.
        target: Where they go.
        clamped: What brings a byte (of a signed input: the byte + 128) into its interval, if it may be outside.
    """

    def __init__(self, packed: Packed, target: Maps, clamped: Epilogue | None) -> None:
        self.packed, self.target, self.clamped = packed, target, clamped

    @staticmethod
    def fits(packed: Packed, target: Maps, clamped: Epilogue | None) -> bool:
        """Return whether the input's bytes can be dealt out to these lanes a word at a time."""
        reach = _reach(target, target.useful)
        inside = clamped is None or clamped.proved_bits <= target.pitch
        return packed.width == 1 and target.pitch >= _BYTE and reach <= _BYTES * _BYTE and inside

    def said(self) -> str:
        """Return what is done, in words."""
        target = self.target
        kept = "" if self.clamped is None else f", brought into the range of {target.top + 1} integers"
        return (
            f"Pixels of a row, the last one first, in lanes of {target.pitch} bits{kept}: {target.phases} words each "
            f"with every pixel of that number, {target.useful} pixels of its own a word."
        )

    def emit(self) -> list[Statement]:
        """Return the statements."""
        target = self.target
        inner: list[Statement] = []
        for j in range(target.words):
            for start in sorted({self._start(phase, j) for phase in range(target.phases)}):
                phases = [phase for phase in range(target.phases) if self._start(phase, j) == start]
                read: Expr = LoadInput(add(Var("p"), const(start)))
                if self.packed.signed:
                    read = _xor(read, const(spread(128, _BYTE, range(_BYTES))))
                inner.append(Block((Let("bytes", read), *(s for phase in phases for s in self._word(phase, j, start)))))
        first = self.packed.start
        if target.channels == 1:
            also = [Induction("o", const(target.word(0, 0)), target.row_words)]
            image = loop("p", target.height, inner, start=first, step=target.width, also=also)
        else:
            row = [Induction("p", Var("plane"), target.width), Induction("o", Var("map"), target.row_words)]
            also = [Induction("map", const(target.word(0, 0)), target.channel_words)]
            rows = loop("y", target.height, inner, also=row)
            image = loop("plane", target.channels, [rows], start=first, step=target.height * target.width, also=also)
        return [*target.rim_rows(), image, *([] if self._with_those_beside else target.joined())]

    @property
    def _with_those_beside(self) -> bool:
        """Whether a word's nearest pixels of the words beside it are in the same 32 bytes."""
        target = self.target
        return _reach(target, target.before + target.useful + target.after) <= _BYTES * _BYTE

    def _lanes(self, phase: int, j: int) -> list[int]:
        """Return the lanes of a word that pixels are dealt out to."""
        target = self.target
        if not self._with_those_beside:
            return target.valid(phase, j)
        of = [
            (lane, j * target.useful + lane - target.before)
            for lane in range(target.before + target.useful + target.after)
        ]
        return [lane for lane, nth in of if 0 <= nth < target.count(phase)]

    def _start(self, phase: int, j: int) -> int:
        """Return with which byte of a row the 32 start that hold a word's pixels."""
        target = self.target
        if target.width <= _BYTES:
            return 0
        last = max(self._lanes(phase, j), default=target.before)
        farthest = target.phases * (j * target.useful + last - target.before) + phase
        return max(target.width - 1 - farthest, 0)

    def _word(self, phase: int, j: int, start: int) -> list[Statement]:
        """Return the statements that store one word of lanes, of the 32 bytes in `bytes`."""
        target = self.target
        valid = self._lanes(phase, j)
        filled = target.filled(phase, j) if target.words == 1 or self._with_those_beside else []
        place = add(Var("o"), const(phase * target.words + j))
        zero = const(spread(target.zero, target.pitch, filled))
        if not valid:
            return [Store(target.buffer, place, zero)]
        # the first lane has the last of the pixels
        nearest = target.width - 1 - (target.phases * (j * target.useful + valid[0] - target.before) + phase) - start
        low = _BYTE * (_BYTES - 1 - nearest)
        apart = _BYTE * target.phases
        pixels = list(range(len(valid)))
        if apart == target.pitch:
            shift = low - target.pitch * valid[0]
            word: Expr = shr(shift, Var("bytes")) if shift >= 0 else shl(-shift, Var("bytes"))
            word = and_(word, const(spread(255, target.pitch, valid)))
            body: list[Statement] = [Let("v", word)]
        else:
            body = [Let("v", and_(shr(low, Var("bytes")), const(spread(255, apart, pixels)))), *self._dealt(len(valid))]
            body.append(Assign("v", shl(target.pitch * valid[0], Var("v"))))
        if self.clamped is None:
            return [Block((*body, Store(target.buffer, place, add(Var("v"), zero))))]
        ending = Ending(self.clamped, target.pitch, valid, target.zero, filled)
        start_of = const(spread(self.clamped.constant + ending.half, target.pitch, valid))
        body.append(Assign("v", add(Var("v"), start_of)))
        statements, result = ending.word("v")
        return [Block((*body, *statements, Store(target.buffer, place, result)))]

    def _dealt(self, count: int) -> list[Statement]:
        """Return the statements that move lanes as far apart as the pitch says, half of them at a time."""
        target = self.target
        apart, body = _BYTE * target.phases, list[Statement]()
        size = 1 << max((count - 1).bit_length() - 1, 0)
        places = {i: apart * i for i in range(count)}
        sizes = []
        while count > 1 and size:
            sizes.append(size)
            size //= 2
        if apart > target.pitch:
            sizes.reverse()
        for size in sizes:
            moved = [i for i in places if i & size]
            kept = [i for i in places if not i & size]
            low, high = (sum(255 << places[i] for i in group) for group in (kept, moved))
            by = size * (target.pitch - apart)
            shifted = and_(Var("v"), const(high))
            if by >= 0:  # what is moved up is there already once
                moving = add(mul(shifted, const((1 << by) - 1)), Var("v"))
            else:
                moving = or_(and_(Var("v"), const(low)), shr(-by, shifted))
            body.append(Assign("v", moving))
            for i in moved:
                places[i] += by
        return body


def _reach(target: Maps, lanes: int) -> int:
    """Return the bits of the packed input from the first to the last pixel of so many lanes."""
    return ((lanes - 1) * target.phases + 1) * _BYTE


class Gathered:
    """Emits what brings values, a word each, into lanes.

    Args:
        source: The tensor's elements, in order.
        target: Where they go.
    """

    def __init__(self, source: Scalars, target: Maps) -> None:
        self.source, self.target = source, target

    @staticmethod
    def in_order(context: Lowering, draft: DraftSection, value: Value) -> Scalars:
        """Return a value's elements in order, after adding to a section what puts them so where they are not.

        Args:
            context: The lowering of the graph.
            draft: The section.
            value: A value without laned sources.
        """
        source = value.direct()
        if isinstance(source, Scalars):
            return source
        ordered = Scalars(context.buffer(f"{draft.name}_values", value.size), value.size)
        draft.body += emit_nests([value], np.arange(value.size), ordered.buffer, lambda x: ([], x[0]))
        return ordered

    def emit(self) -> list[Statement]:
        """Return the statements."""
        target = self.target
        inner = [
            Store(target.buffer, add(Var("o"), const(phase * target.words + j)), self._word(phase, j))
            for phase in range(target.phases)
            for j in range(target.words)
        ]
        row = [Induction("p", Var("plane"), target.width), Induction("o", Var("map"), target.row_words)]
        rows = loop("y", target.height, inner, also=row)
        also = [Induction("map", const(target.word(0, 0)), target.channel_words)]
        planes = loop("plane", target.channels, [rows], step=target.height * target.width, also=also)
        return [*target.rim_rows(), planes, *target.joined()]

    def _word(self, phase: int, j: int) -> Expr:
        """Return one word of lanes: q of each, less what u = 0 stands for in all of them together."""
        target = self.target
        valid = target.valid(phase, j)
        filled = target.filled(phase, j) if target.words == 1 else []
        rest = spread(target.zero, target.pitch, filled) - sum(target.offset << target.pitch * lane for lane in valid)
        total: Expr = const(rest)
        for lane in valid:
            nth = target.phases * (j * target.useful + lane - target.before) + phase
            q = Load(self.source.buffer, add(Var("p"), const(target.width - 1 - nth)))
            total = add(shl(target.pitch * lane, q), total)
        return total
