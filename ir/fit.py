"""How well numbers estimate others: R², added up exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction


@dataclass
class Fit:
    """Sums for R² = 1 − Σ(estimate − value)² / Σ(value − mean)², of each of several outputs.

    All of them are integers (WAD): whatever the order in which samples are added, or parts are merged, the sums are the
    same.

    Attributes:
        count: Samples.
        missed: Σ(estimate − value)², by output.
        values: Σ value, by output.
        squares: Σ value², by output.
    """

    count: int = 0
    missed: list[int] = field(default_factory=list)
    values: list[int] = field(default_factory=list)
    squares: list[int] = field(default_factory=list)

    def add(self, estimates: Sequence[int], values: Sequence[int]) -> None:
        """Add a sample: an estimate and the value it is of, for each output."""
        missed = [(e - v) ** 2 for e, v in zip(estimates, values, strict=True)]
        self.merge(Fit(1, missed, list(values), [v * v for v in values]))

    def merge(self, other: Fit) -> None:
        """Add what another has gathered on other samples."""
        if not self.count:
            self.missed, self.values, self.squares = ([0] * len(other.values) for _ in range(3))
        if not other.count:
            return
        self.count += other.count
        for own, more in ((self.missed, other.missed), (self.values, other.values), (self.squares, other.squares)):
            own[:] = [a + b for a, b in zip(own, more, strict=True)]

    @property
    def r2(self) -> float | None:
        """The mean of R² over all outputs that vary; None if none does."""
        found = [
            1 - Fraction(missed) / spread
            for missed, total, square in zip(self.missed, self.values, self.squares, strict=True)
            if (spread := square - Fraction(total * total, self.count))
        ]
        return float(sum(found) / len(found)) if found else None
