"""Channels whose elements lie in lanes, those of each as the first one's do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from ml2sc.ir.types import Array

from .values import Laned, Value


@dataclass(frozen=True, eq=False)
class Channels:
    """Where the elements of channels are: those of each in words and lanes that lie as the first one's do.

    Attributes:
        source: The lanes.
        first: Word of the first channel.
        step: Words from a channel to the next.
        ahead: By element of a channel: how many words it is from the channel's first.
        lanes: By element of a channel: its lane.
    """

    source: Laned
    first: int
    step: int
    ahead: Array
    lanes: Array

    @classmethod
    def of(cls, value: Value, channels: int) -> Self | None:
        """Return where the elements of a value's channels are; None if they do not lie alike in words of lanes.

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
        return cls(source, first, step, ahead[0], lane[0])

    @classmethod
    def runs(cls, value: Value, channels: int) -> list[tuple[range, Self]] | None:
        """Return where the elements of a value's channels are, those of one source equally far apart together.

        Args:
            value: The value, its elements channel by channel.
            channels: How many there are.

        Returns:
            Numbers of channels and where these are; None if the elements of one do not lie in words of lanes.
        """
        size = value.size // channels
        lanes = np.array([source.lanes if isinstance(source, Laned) else 1 for source in value.sources])
        which, words = (part.reshape(channels, -1) for part in (value.which, value.where // lanes[value.which]))
        first, found, begin = words.min(axis=1), list[tuple[range, Self]](), 0
        steps = np.diff(first)
        for end in range(1, channels + 1):
            alike = end < channels and which[end, 0] == which[begin, 0] and steps[end - 1] >= 0
            if alike and steps[end - 1] == steps[begin]:
                continue
            part = cls.of(value.take(np.arange(begin * size, end * size)), end - begin)
            if part is None:
                return None
            found.append((range(begin, end), part))
            begin = end
        return found

    @property
    def count(self) -> int:
        """Elements of a channel."""
        return len(self.ahead)

    @cached_property
    def words(self) -> Mapping[int, tuple[int, ...]]:
        """By word of a channel: the lanes of it that hold elements of the channel."""
        words: dict[int, tuple[int, ...]] = {}
        for at, number in sorted(zip(self.ahead.tolist(), self.lanes.tolist(), strict=True)):
            words[at] = (*words.get(at, ()), number)
        return words
