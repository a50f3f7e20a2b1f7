"""Sums over whole channels whose elements lie in lanes: words are added, then a multiplication adds up their lanes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ml2sc.ir.program import Expr, Let, Load, Statement, Var, add, and_, const, mul, shr

from .lane_steps import spread
from .values import Laned, Value

_WRITTEN = 64
"""Words of a channel, at most: their sum is written out."""


@dataclass(frozen=True)
class LaneSums:
    """Where the elements of channels are: those of each in words and lanes that lie as the first one's do.

    Attributes:
        source: The lanes.
        first: Word of the first channel.
        step: Words from a channel to the next.
        words: By word of a channel: the lanes of it that hold elements of the channel.
        count: Elements of a channel.
    """

    source: Laned
    first: int
    step: int
    words: Mapping[int, tuple[int, ...]]
    count: int

    @classmethod
    def of(cls, value: Value, channels: int) -> LaneSums | None:
        """Return where the elements of a value's channels are; None if no few words of lanes have room for their sums.

        Args:
            value: The value, its elements channel by channel.
            channels: How many there are.
        """
        source = value.sources[value.which[0]]
        if not isinstance(source, Laned) or source.from_top or np.any(value.which != value.which[0]):
            return None
        word, lane = (part.reshape(channels, -1) for part in np.divmod(value.where, source.lanes))
        first = int(word[0].min())
        step = int(word[1].min()) - first if channels > 1 else 0
        ahead = word - first - step * np.arange(channels)[:, None]
        if np.any(ahead != ahead[0]) or np.any(lane != lane[0]) or step < 0:
            return None
        words: dict[int, tuple[int, ...]] = {}
        for at, number in sorted(zip(ahead[0].tolist(), lane[0].tolist(), strict=True)):
            words[at] = (*words.get(at, ()), number)
        found = cls(source, first, step, words, word.shape[1])
        distinct = all(len(set(lanes)) == len(lanes) for lanes in words.values())
        return found if distinct and len(words) <= _WRITTEN and found.top < 1 << source.stride else None

    @property
    def top(self) -> int:
        """Greatest sum of a channel's u."""
        return self.count * ((1 << self.source.bits) - 1)

    def said(self) -> str:
        """Return what is proved, in words."""
        return (
            f"{len(self.words)} words of lanes are added; a multiplication by ones adds up their lanes. Proved: the "
            f"sum of {self.count} elements is {self.top} at most, and has room in a lane of {self.source.stride} bits."
        )

    def total(self, at: Expr, name: str) -> tuple[list[Statement], Expr]:
        """Return statements, and the sum of a channel's q as they leave it.

        Args:
            at: The channel's first word.
            name: What they call a variable.
        """
        source = self.source
        total: Expr | None = None
        masks = {lanes: spread((1 << source.bits) - 1, source.stride, lanes) for lanes in self.words.values()}
        for lanes, mask in masks.items():
            for ahead in (ahead for ahead, own in self.words.items() if own == lanes):
                word = and_(Load(source.buffer, add(at, const(ahead))), const(mask))
                total = word if total is None else add(word, total)
        assert total is not None
        every = {lane for lanes in self.words.values() for lane in lanes}
        low, high = min(every), max(every)
        ones = spread(1, source.stride, range(high - low + 1))
        lanes_added = mul(shr(source.stride * low, Var(name)), const(ones))
        # lanes above the last one's run over the word's end, as they may
        cut = and_(shr(source.stride * (high - low), lanes_added), const((1 << source.stride) - 1))
        return [Let(name, total)], add(cut, const(self.count * source.offset))
