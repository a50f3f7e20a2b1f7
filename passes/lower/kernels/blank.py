"""Convolutions whose words of taps are literals, and that skip words of pixels which are all zero.

Where no pixel that a word of sums reads is anything but 0, every lane holds what it started with: a literal. So all
words of pixels that it reads are tested at once, and the sums of all output channels come of products, or they do not;
what ends them finds them in known places. Images have margins, and what is drawn on them is thin.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass, replace

import numpy as np

from ml2sc.ir.program import Block, Expr, If, Let, Load, Statement, Store, Var, add, const, or_
from ml2sc.ir.types import Array

from ..options import DENSE, Activity
from .conv import HELD, Convolution, RowsOfTaps
from .looped import Loops
from .maps import Maps

_TEST, _MOVE = 50, 24
"""Gas, about, of a test, and of sums that wait in memory."""


@dataclass(frozen=True, slots=True)
class Blank(Loops):
    """How the loops lie.

    Attributes:
        share: How often words of pixels that are read together are not all zero.
    """

    share: float = 1.0

    def __str__(self) -> str:
        return "literals, no products of words that are zero"

    @property
    def live(self) -> Activity:
        return replace(DENSE, word=self.share)


class BlankRows(RowsOfTaps):
    """Emits a convolution that skips words of pixels which are all zero.

    Args:
        conv: The convolution.
        source: Where its input is.
        target: Where its result goes.
        loops: How often it does not skip them.
        sums: The buffer of the sums of a word of results of every channel.
    """

    def __init__(self, conv: Convolution, source: Maps, target: Maps, loops: Blank, sums: str = "sums") -> None:
        super().__init__(conv, source, target, sums)
        self._share = loops.share

    @property
    def possible(self) -> bool:
        """Whether all words of pixels that are read together can be held, so that they are tested where they are."""
        if len(self._read(range(1))) > HELD:
            return False  # one channel alone reads more
        each = self.conv.outputs // self.conv.groups
        return super().possible and len(self._held(range(each))) == len(self._read(range(each)))

    def buffers(self) -> dict[str, int]:
        return {self._sums: self.together * self._results}

    def about(self) -> tuple[float, int, int]:
        gas, code, data = super().about()
        visits = self.target.height * self.target.words
        moved = self.together * self._results * _MOVE
        return self._share * gas + visits * (self.together * _TEST + moved), code + moved, data

    @property
    def _results(self) -> int:
        """Words of results of a place, of all channels."""
        return self.conv.outputs * self.target.phases

    def _read(self, outputs: range) -> set[tuple[int, int, int]]:
        return {key for output in outputs for terms in self._all_terms(output) for key, _ in terms}

    def _row(self) -> list[Statement]:
        each = self.conv.outputs // self.conv.groups
        body: list[Statement] = []
        for group, number in itertools.product(range(self.conv.groups), range(self.together)):
            outputs = range(group * each, (group + 1) * each)
            names = self._held(outputs)
            read = [Let(name, self._load(*key, number)) for key, name in names.items()]
            every = list(itertools.product(outputs, range(self.target.phases)))
            made = tuple(Block(tuple(self._waiting(output, phase, names, number))) for output, phase in every)
            blank = tuple(Store(self._sums, self._place(o, phase, number), const(self.start(o))) for o, phase in every)
            words: list[Expr] = [Var(name) for name in names.values()]
            some = functools.reduce(or_, words) if words else const(0)
            body.append(Block((*read, If(some, made, blank, share=self._share))))
        results = itertools.product(range(self.conv.outputs), range(self.target.phases))
        return [*body, *(Block(tuple(self._ended(output, phase))) for output, phase in results)]

    def _waiting(self, output: int, phase: int, names: dict[tuple[int, int, int], str], number: int) -> list[Statement]:
        """Return the statements that make a word of sums, and put it where it is ended."""
        own = self.summed_up(output, phase, names, number)
        return [*own, Store(self._sums, self._place(output, phase, number), Var("v"))]

    def _place(self, output: int, phase: int, number: int) -> Expr:
        return const(number * self._results + output * self.target.phases + phase)

    def _ended(self, output: int, phase: int) -> list[Statement]:
        """Return the statements that end the sums of a word of results."""
        sums = [Load(self._sums, self._place(output, phase, number)) for number in range(self.together)]
        at = add(Var("o"), const(self.target.word(output, 0, phase) - self.target.word(0, 0)))
        factors = self.factors(*self.literal_factors(output))
        if self.close == 1:
            return self.ended_word(phase, sums, const(0), at, factors)
        held: list[Statement] = [Let(f"v{number}", word) for number, word in enumerate(sums)]
        return [*held, *self.closed_word(phase, [Var(f"v{number}") for number in range(len(sums))], at, factors)]


def share_of(conv: Convolution, source: Maps, live: Array) -> float:
    """Return how often the words of pixels that a word of sums reads are not all zero.

    Args:
        conv: The convolution.
        source: Where its input is.
        live: Whether pixels are not zero: (samples, channels, rows, columns).
    """
    lines = np.asarray(live.any(axis=1))[:, :, ::-1]  # lanes count from the end of a row
    starts = conv.strides[0] * conv.pool[0] * np.arange(conv.out_height // conv.pool[0]) - conv.pads[0]
    reach = conv.strides[0] * (conv.pool[0] - 1) + (int(conv.weights.shape[2]) - 1) * conv.dilations[0] + 1
    bands = np.stack([lines[:, max(first, 0) : max(first + reach, 0)].any(axis=1) for first in starts], axis=1)
    found = []
    for word in range(source.words):
        first = source.phases * (source.useful * word - source.before)
        last = source.phases * (source.useful * (word + 1) + source.after)
        found.append(bands[..., max(first, 0) : last].any(axis=2))
    return round(float(np.stack(found).mean()), 3)
