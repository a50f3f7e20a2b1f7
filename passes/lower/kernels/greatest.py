"""Pools whose windows overlap, by rows: the greatest of words of pixels that are moved against each other.

The greatest of a window's rows is found first, word by word, and then of its columns. Of a pool that convolutions have
behind them, without overlap, their sums are compared at once (`conv`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ml2sc.ir.program import Expr, Let, Load, Note, Statement, Var, add, const, shl

from ..lane_steps import greater
from ..nests import over
from .conv import Convolution
from .looped import LoopedRows, Loops, Workspace
from .maps import Maps

_ROWS = 8
"""Rows of results that are written out, at most."""
_WRITTEN = 128
"""Words that are compared in the code, at most."""
_READ, _COMPARED, _ENDING, _ROUND = 10, 45, 130, 60
_READ_BYTES, _COMPARED_BYTES, _ENDING_BYTES = 8, 90, 130
"""Gas and bytes of code, about: see `GreatestRows.about`."""


@dataclass(frozen=True, slots=True)
class Greatest(Loops):
    """How the loops lie."""

    def __str__(self) -> str:
        return f"greatest of windows, {self.rows} rows at a time"


class GreatestRows(LoopedRows):
    """Emits a pool.

    Args:
        conv: The pool, its taps telling only where its windows lie; what padding holds is the least there is.
        source: Where its input is.
        target: Where its result goes.
        loops: How the loops lie.
        names: Of what loops need: nothing here.
    """

    loops: Greatest

    def __init__(
        self,
        conv: Convolution,
        source: Maps,
        target: Maps,
        loops: Greatest,
        names: Workspace | None = None,
    ) -> None:
        super().__init__(conv, source, target, loops, names, in_data=False)
        self.size, self.fields, self.storage = 0, 1, None

    @classmethod
    def ways(cls, conv: Convolution, source: Maps, target: Maps) -> Iterator[Greatest]:
        """Iterate over the ways in which the loops can lie."""
        for rows in (n for n in range(1, min(target.height, _ROWS) + 1) if target.height % n == 0):
            loops = Greatest(rows, window=False, dense=False)
            if cls(conv, source, target, loops).possible:
                yield loops

    @property
    def possible(self) -> bool:
        """Whether words can be closed up where they are, and the code is not too much."""
        whole = self.close == 1 or self.target.words == 1 or self.source.words == self.close * self.target.words
        return whole and self._compared <= _WRITTEN

    def about(self) -> tuple[float, int, int]:
        target = self.target
        results, bands = self.loops.rows * target.phases, self.conv.outputs * target.height // self.loops.rows
        read = self._compared * (_READ + _COMPARED) + results * _ENDING + _ROUND
        code = self._compared * (_READ_BYTES + _COMPARED_BYTES) + results * _ENDING_BYTES
        return bands * target.words * read, code, 0

    @property
    def _compared(self) -> int:
        """Words that are compared in the code."""
        each = sum(
            len(lanes) + int(self.conv.weights.shape[2]) - 1
            for phase in range(self.target.phases)
            for lanes in self._lanes(phase).values()
        )
        return self.loops.rows * self.together * each

    def buffers(self) -> dict[str, int]:
        return {}

    def claim(self) -> str:
        acc = self.ended.accumulator
        return (
            f"Proved for all inputs: {acc.lo} <= value <= {acc.hi}: {self.source.lanes} lanes of {self.source.pitch} "
            "bits a word. The greatest of words that are moved against each other."
        )

    def emit(self) -> list[Statement]:
        conv, source, target = self.conv, self.source, self.target
        body: list[Statement] = [Note(f"{self.claim()} Loops: {self.loops}."), *target.rim_rows()]
        step = conv.strides[0] * source.row_words * self.loops.rows
        channel = ("c", conv.outputs, {"p": source.channel_words, "o": target.channel_words})
        rows = ("y", target.height // self.loops.rows, {"p": step, "o": self.loops.rows * target.row_words})
        words = ("j", target.words, {"p": self.close, "o": 1})
        starts: dict[str, Expr] = {"p": const(self._first), "o": const(target.word(0, 0))}
        return [*body, *over([channel, rows, words], starts, self._results), *target.joined()]

    def _lanes(self, phase: int) -> dict[int, list[int]]:
        """Return, by phase of the pixels, how many lanes up each tap moves them for a phase of the results."""
        found: dict[int, list[int]] = {}
        for _, of, lanes in self.conv.taps(phase, self.phases, self.stride):
            found.setdefault(of, []).append(self.farthest - lanes)
        return found

    def _one(self, at: dict[str, Expr], number: int, phase: int) -> list[Statement]:
        """Return the statements for a word of results of a row of a band."""
        start, factors = const(self.start(0)), self.factors(*self.literal_factors(0))
        place = add(at["o"], const(number * self.target.row_words + phase * self.target.words))
        body: list[Statement] = []
        words: list[list[Expr]] = []
        for across in range(self.together):
            moved: list[Expr] = []
            for of, lanes in self._lanes(phase).items():
                name = f"m{across}_{of}"
                body += self._of_rows(name, at["p"], number, of, across)
                moved += [shl(self.source.pitch * up, Var(name)) for up in lanes]
            words.append(moved if len(moved) > 1 else [add(moved[0], start)])
        if self.close == 1:
            return [*body, *self.ended_word(phase, words[0], start, place, factors)]
        names = [f"v{across}" for across in range(self.together)]
        for name, moved in zip(names, words, strict=True):
            body += self.summed(name, moved, start)
        return [*body, *self.closed_word(phase, [Var(name) for name in names], place, factors)]

    def _of_rows(self, name: str, at: Expr, number: int, of: int, across: int) -> list[Statement]:
        """Return the statements that declare the greatest of the rows of a window, of a word of pixels."""
        source = self.source
        lines = [self._line(number, 0, ky) for ky in range(int(self.conv.weights.shape[2]))]
        words = [Load(source.buffer, add(at, const(self._place(0, line, of) + across))) for line in lines]
        return [Let(name, words[0]), *(greater(name, word, source.pitch, self.every) for word in words[1:])]
