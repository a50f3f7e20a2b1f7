"""The packed input, an image a byte a pixel, as rows of pixels in lanes."""

from __future__ import annotations

from ml2sc.ir.program import (
    Assign,
    Block,
    Expr,
    Induction,
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
    or_,
    shl,
    shr,
)

from ..epilogue import Epilogue
from ..lane_steps import Ending, spread
from ..values import Packed
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
        reach = ((target.useful - 1) * target.phases + 1) * _BYTE
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
        return [*target.rim_rows(), image, *target.joined()]

    def _start(self, phase: int, j: int) -> int:
        """Return with which byte of a row the 32 start that hold a word's pixels."""
        target = self.target
        if target.width <= _BYTES:
            return 0
        farthest = target.phases * (j * target.useful + max(len(target.valid(phase, j)) - 1, 0)) + phase
        return max(target.width - 1 - farthest, 0)

    def _word(self, phase: int, j: int, start: int) -> list[Statement]:
        """Return the statements that store one word of lanes, of the 32 bytes in `bytes`."""
        target = self.target
        valid = target.valid(phase, j)
        filled = target.filled(phase, j) if target.words == 1 else []
        place = add(Var("o"), const(phase * target.words + j))
        zero = const(spread(target.zero, target.pitch, filled))
        if not valid:
            return [Store(target.buffer, place, zero)]
        # the word's first lane of its own has the last of its pixels
        nearest = target.width - 1 - (target.phases * j * target.useful + phase) - start
        low = _BYTE * (_BYTES - 1 - nearest)
        apart = _BYTE * target.phases
        pixels = list(range(len(valid)))
        if apart == target.pitch:
            shift = low - target.pitch * target.before
            word: Expr = shr(shift, Var("bytes")) if shift >= 0 else shl(-shift, Var("bytes"))
            word = and_(word, const(spread(255, target.pitch, valid)))
            body: list[Statement] = [Let("v", word)]
        else:
            body = [Let("v", and_(shr(low, Var("bytes")), const(spread(255, apart, pixels)))), *self._dealt(len(valid))]
            body.append(Assign("v", shl(target.pitch * target.before, Var("v"))))
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
            shifted = shl(by, shifted) if by >= 0 else shr(-by, shifted)
            body.append(Assign("v", or_(and_(Var("v"), const(low)), shifted)))
            for i in moved:
                places[i] += by
        return body
