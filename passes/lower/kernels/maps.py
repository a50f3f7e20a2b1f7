"""Feature maps in lanes: neighbouring pixels of a row in neighbouring lanes of a word.

Lanes count from the end of a row: so the bytes of the packed input, of which the first is the highest of its word, lie
in the right order. A row is in `phases` runs of words, of which run r holds every `phases`th pixel from the r-th on: a
stride of two then reads words, and no lane of a result is lost. Between two channels lie rows of what stands for zero.
"""

from __future__ import annotations

from dataclasses import dataclass

from ml2sc.ir.layout import Axis, Layout
from ml2sc.ir.program import (
    Block,
    Expr,
    For,
    Induction,
    Lanes,
    Let,
    Load,
    Statement,
    Store,
    Var,
    add,
    and_,
    const,
    loop,
    or_,
    shl,
    shr,
)

from ..lane_steps import spread
from ..values import Laned, Value

WORD = 256


@dataclass(frozen=True, slots=True)
class Maps:
    """Where the channels of a tensor (1, channels, height, width) are.

    Attributes:
        buffer: The buffer.
        channels, height, width: The tensor's shape.
        pitch: Bits from lane to lane.
        phases: Runs of words a row.
        useful: Pixels of a word that its neighbours do not have.
        words: Words of a run.
        before, after: Lanes below and above them, for the nearest pixels of the words beside it, or for what stands for
            zero.
        rim: Rows of what stands for zero before, between and after the channels.
        top: Greatest u.
        offset: What u = 0 stands for.
        zero: The u that stands for zero: what the rim holds.
    """

    buffer: str
    channels: int
    height: int
    width: int
    pitch: int
    phases: int = 1
    useful: int = 1
    words: int = 1
    before: int = 0
    after: int = 0
    rim: int = 0
    top: int = 255
    offset: int = 0
    zero: int = 0

    @property
    def lanes(self) -> int:
        """Lanes of a word."""
        return WORD // self.pitch

    @property
    def row_words(self) -> int:
        """Words of a row."""
        return self.phases * self.words

    @property
    def channel_words(self) -> int:
        """Words from a channel to the next."""
        return (self.height + self.rim) * self.row_words

    @property
    def size(self) -> int:
        """Words of the buffer."""
        return self.channels * self.channel_words + self.rim * self.row_words

    def word(self, channel: int, row: int, phase: int = 0, j: int = 0) -> int:
        """Return where the j-th word of a phase of a row is; rows outside the map are in the rim."""
        return (self.rim + row) * self.row_words + channel * self.channel_words + phase * self.words + j

    @property
    def layout(self) -> Layout:
        """The same, said of the tensor's axes."""
        return Layout(
            (self.channels, self.height, self.width),
            (
                Axis(0, self.channels, 1, words=self.channel_words),
                Axis(1, self.height, 1, words=self.row_words),
                Axis(2, self.phases, 1, words=self.words),
                Axis(2, self.useful, self.phases, lanes=1),
                Axis(2, self.words, self.phases * self.useful, words=1),
            ),
            pitch=self.pitch,
            bits=max(self.top.bit_length(), 1),
            offset=self.offset,
            word=self.rim * self.row_words,
            lane=self.before,
            mirrored=(False, False, True),
            rim=((0, 0), (self.rim, self.rim), (self.before * self.phases, self.after * self.phases)),
        )

    @property
    def used(self) -> int:
        """Lanes of a word, from the lowest on, that may hold anything, pixels or what stands for zero."""
        if self.after:
            return self.lanes
        filled = self.before + self.useful if self.zero else 0
        return max(self.before + min(self.useful, self.count(0)), filled)

    @property
    def holds(self) -> Lanes:
        """What is true of every word."""
        return Lanes(self.used, self.pitch, 0, self.top)

    def value(self) -> Value:
        """Return the same as a value of the lowering, whose elements come in the tensor's order."""
        words, lanes = self.layout.places()
        used = self.used
        source = Laned(self.buffer, used, self.pitch, max(self.top.bit_length(), 1), self.offset, self.size * used)
        return Value.of(source).take(words * used + lanes)

    def count(self, phase: int) -> int:
        """Return how many pixels of a row are in a phase."""
        return max(-(-(self.width - phase) // self.phases), 0)

    def valid(self, phase: int, j: int) -> list[int]:
        """Return the lanes of the j-th word of a phase that hold pixels of its own."""
        number = min(max(self.count(phase) - j * self.useful, 0), self.useful)
        return [self.before + i for i in range(number)]

    def filled(self, phase: int, j: int) -> list[int]:
        """Return the lanes of a word that hold what stands for zero, at the ends of a row.

        Where a row ends before a word, the lanes for the pixels of the word before it may hold that, too.
        """
        if self.zero == 0:
            return []
        end = max(self.before + self.count(phase) - j * self.useful, 0)
        return [*range(self.before if j == 0 else 0), *range(end, self.before + self.useful + self.after)]

    def joined(self) -> list[Statement]:
        """Return the statements that put the nearest pixels of the words beside it into each word of a row.

        What the last word of a row has too much is cleared. Words of a row that has just one are complete.
        """
        whole = all(len(self.valid(phase, self.words - 1)) == self.useful for phase in range(self.phases))
        if self.words == 1 or (whole and self.before == self.after == 0):
            return []
        shift = self.pitch * self.useful
        inner: list[Statement] = []
        for phase in range(self.phases):
            at = [add(Var("o"), const(phase * self.words + j)) for j in range(self.words)]
            body: list[Statement] = []
            for j in range(self.words):
                own: Expr = Load(self.buffer, at[j])
                if len(self.valid(phase, j)) < self.useful:
                    own = and_(own, const(spread((1 << self.pitch) - 1, self.pitch, self.valid(phase, j))))
                body.append(Let(f"w{j}", own))
            for j in range(self.words):
                word: Expr = Var(f"w{j}")
                if j and self.before:
                    word = or_(shr(shift, Var(f"w{j - 1}")), word)
                if j + 1 < self.words and self.after:
                    word = or_(shl(shift, Var(f"w{j + 1}")), word)
                word = add(word, const(spread(self.zero, self.pitch, self.filled(phase, j))))
                body.append(Store(self.buffer, at[j], word))
            inner.append(Block(tuple(body)))
        if self.rim == 0:
            return [loop("o", self.height * self.channels, inner, step=self.row_words)]
        first = Induction("y", const(0), 1)
        nested = For((first, Induction("o", Var("channel"), self.row_words)), self.height, tuple(inner))
        return [loop("channel", self.channels, [nested], start=self.word(0, 0), step=self.channel_words)]

    def rim_rows(self) -> list[Statement]:
        """Return the statements that write the rim."""
        words = self.rim * self.row_words
        if not words:
            return []
        zero = const(spread(self.zero, self.pitch, range(self.lanes)))
        body = [Store(self.buffer, add(Var("o"), const(k)), zero) for k in range(words)]
        return [loop("o", self.channels + 1, body, step=self.channel_words)]
