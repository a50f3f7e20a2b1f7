"""Sums over whole channels whose elements lie in lanes: words are added, then a multiplication adds up their lanes."""

from __future__ import annotations

from typing import Self

from ml2sc.ir.program import Expr, Let, Load, Statement, Var, add, and_, const, mul, shr

from .channels import Channels
from .lane_steps import spread
from .values import Value

_WRITTEN = 64
"""Words of a channel, at most: their sum is written out."""


class LaneSums(Channels):
    """Channels whose sums have room in a lane, and whose words are few."""

    @classmethod
    def of(cls, value: Value, channels: int) -> Self | None:
        """Return where the elements of a value's channels are; None if no few words of lanes have room for their sums.

        Args:
            value: The value, its elements channel by channel.
            channels: How many there are.
        """
        found = super().of(value, channels)
        if found is None:
            return None
        distinct = all(len(set(lanes)) == len(lanes) for lanes in found.words.values())
        return found if distinct and len(found.words) <= _WRITTEN and found.top < 1 << found.source.stride else None

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
