"""What is added up over the samples of a check: parts of it, found apart, add up to the whole exactly.

No sum here depends on the order of its terms. So a check gives the same report, byte for byte, whoever took which
samples, and whenever they were done.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Generic, TypeVar

import numpy as np

from ml2sc.ir.confidence import lower_confidence
from ml2sc.ir.fit import Fit
from ml2sc.ir.interpret import Profile
from ml2sc.ir.types import Array

from .report import Differing

T = TypeVar("T")

PERCENTILES = (50, 90, 99)
"""Of the errors: which percentiles are reported."""

KEPT = 1 << 20
"""So many differences are kept as they are; of more, percentiles are known to 0.4 % (`Spread`)."""

LISTED = 10_000
"""Samples that a list names; all of them are counted."""

_SHIFT = 1_074  # of a float64: every one is a multiple of 2^-1074
_MANTISSA = 53
_PIECE = 1 << 9  # so many mantissas add up within an int64
_BIN_BITS = 44  # of a float64's 52 bits of mantissa: 8 are left, a bin is 2^-8 of its value wide


@dataclass
class Spread:
    """Absolute differences: their mean, the greatest, percentiles.

    The sum is an integer, in units of 2^-1074, so the mean is that of the exact sum. Up to `KEPT` differences stay
    here and percentiles are differences that occurred; of more, counts by bins remain, and a percentile is its bin's
    upper end, 0.4 % too high at most.

    Attributes:
        count: How many there are.
        largest: The greatest; None without any.
    """

    count: int = 0
    largest: float | None = None
    _sum: int = 0
    _values: array[float] | None = field(default_factory=lambda: array("d"))
    _bins: Counter[int] = field(default_factory=Counter)

    def add(self, differences: Array) -> None:
        """Add some more.

        Args:
            differences: Finite float64 numbers, none negative.
        """
        if not differences.size:
            return
        self.count += differences.size
        self.largest = max(self.largest or 0.0, float(differences.max()))
        self._sum += _exact_sum(differences)
        if self._values is None:
            self._bins.update(_in_bins(differences))
        else:
            self._values.frombytes(differences.tobytes())
            self._bound()

    def merge(self, other: Spread) -> None:
        """Add another's."""
        if not other.count:
            return
        self.count += other.count
        self.largest = max(self.largest or 0.0, other.largest or 0.0)
        self._sum += other._sum
        if self._values is not None and other._values is not None:
            self._values.extend(other._values)
            self._bound()
            return
        for part in (self, other):
            if part._values is not None:
                self._bins.update(_in_bins(np.array(part._values)))
            elif part is other:
                self._bins.update(other._bins)
        self._values = None

    @property
    def mean(self) -> float | None:
        """The mean, None without any."""
        return float(Fraction(self._sum, self.count << _SHIFT)) if self.count else None

    @property
    def percentiles(self) -> dict[int, float]:
        """Differences that so many percent of them do not exceed, by percentage."""
        if not self.count:
            return {}
        if self._values is not None:
            # a value that occurred, so that no difference between two of them is invented
            return {p: float(np.percentile(self._values, p, method="higher")) for p in PERCENTILES}
        return {p: self._percentile(p) for p in PERCENTILES}

    def _bound(self) -> None:
        if self._values is not None and len(self._values) > KEPT:
            self._bins.update(_in_bins(np.array(self._values)))
            self._values = None

    def _percentile(self, percent: int) -> float:
        rank = -(-percent * (self.count - 1) // 100)  # of numpy's "higher", from 0
        bins = sorted(self._bins)
        upto = np.cumsum([self._bins[bin_] for bin_ in bins])
        edge = bins[int(np.searchsorted(upto, rank, side="right"))] + 1
        assert self.largest is not None
        return min(float(np.array(edge << _BIN_BITS, dtype=np.uint64).view(np.float64)), self.largest)


def _exact_sum(values: Array) -> int:
    """Return the sum in units of 2^-1074."""
    fractions, exponents = np.frexp(values.ravel())
    mantissas = np.ldexp(fractions, _MANTISSA).astype(np.int64)
    total = 0
    for exponent in np.unique(exponents).tolist():
        chosen = mantissas[exponents == exponent]
        some = sum(int(chosen[first : first + _PIECE].sum()) for first in range(0, len(chosen), _PIECE))
        shift = exponent - _MANTISSA + _SHIFT
        total += some << shift if shift >= 0 else some >> -shift  # below 2^-1022 the low bits are zeros
    return total


def _in_bins(values: Array) -> dict[int, int]:
    bins, counts = np.unique(values.ravel().view(np.uint64) >> _BIN_BITS, return_counts=True)
    return dict(zip(bins.tolist(), counts.tolist(), strict=True))


@dataclass
class Share:
    """Counts how often something is so."""

    so: int = 0
    count: int = 0

    def add(self, value: bool) -> None:
        """Count one more."""
        self.so += value
        self.count += 1

    def merge(self, other: Share) -> None:
        """Add another's counts."""
        self.so += other.so
        self.count += other.count

    @property
    def share(self) -> float | None:
        """How often it is so, 0 to 1; None if nothing was counted."""
        return self.so / self.count if self.count else None

    @property
    def lower_bound(self) -> float | None:
        """What that is at least, with a confidence of 95 %."""
        return lower_confidence(self.so, self.count) if self.count else None


@dataclass
class GasTally:
    """Gas of transactions.

    Attributes:
        count: How many there were.
        total: Gas of all.
        least: Of the cheapest.
        most: Of the dearest.
    """

    count: int = 0
    total: int = 0
    least: int = 1 << 63
    most: int = 0

    def add(self, gas: int) -> None:
        """Count one more."""
        self.merge(GasTally(1, gas, gas, gas))

    def merge(self, other: GasTally) -> None:
        """Add another's."""
        self.count += other.count
        self.total += other.total
        self.least = min(self.least, other.least)
        self.most = max(self.most, other.most)


@dataclass
class Listed(Generic[T]):
    """Samples by their number, the first `LISTED` of them."""

    count: int = 0
    first: dict[int, T] = field(default_factory=dict)

    def add(self, sample: int, about: T) -> None:
        """Add one."""
        self.merge(Listed(1, {sample: about}))

    def merge(self, other: Listed[T]) -> None:
        """Add another's."""
        self.count += other.count
        self.first |= other.first
        if len(self.first) > LISTED:
            self.first = dict(sorted(self.first.items())[:LISTED])

    @property
    def in_order(self) -> list[tuple[int, T]]:
        """They and what is said of each, the lowest number first."""
        return sorted(self.first.items(), key=lambda item: item[0])


@dataclass
class Tally:
    """Everything that is counted and measured over samples.

    Attributes:
        samples: How many were tried.
        wad_samples: How many of them took the WAD road, too.
        outside: How many are outside the declared range.
        unsaturated: How many in it have no value clamped.
        within_bound: Whether the stated bounds hold on all of them.
        inexact: Those on which an integer differs, and how.
        differing: Those with another decision than onnxruntime's.
        gas: Of the inference transactions.
        errors: Distances to the model in float64, of samples in the declared range.
        runtime_errors: Distances to onnxruntime, likewise.
        unsaturated_errors: Distances to the float64 model where nothing is clamped.
        outside_errors: Distances to it outside the range.
        agreement: Decisions equal to onnxruntime's, in the range.
        outside_agreement: The same outside of it.
        outside_values: By input, how many values of each element are outside of its range.
        accuracy: Decisions equal to the labels.
        runtime_accuracy: onnxruntime's decisions equal to the labels.
        cold: Gas that a contract pays for a call, the first of a transaction; of some of the samples.
        warm: The same of another call.
        fit: R² of the outputs as estimates of the float64 model's, in the range.
        label_fit: R² of the outputs as estimates of the labels.
        model_label_fit: The same of the float64 model's outputs.
        profile: Branches taken, for the gas prediction.
    """

    samples: int = 0
    wad_samples: int = 0
    outside: int = 0
    unsaturated: int = 0
    within_bound: bool = True
    inexact: Listed[str] = field(default_factory=Listed)
    differing: Listed[Differing] = field(default_factory=Listed)
    gas: GasTally = field(default_factory=GasTally)
    errors: Spread = field(default_factory=Spread)
    runtime_errors: Spread = field(default_factory=Spread)
    unsaturated_errors: Spread = field(default_factory=Spread)
    outside_errors: Spread = field(default_factory=Spread)
    agreement: Share = field(default_factory=Share)
    outside_agreement: Share = field(default_factory=Share)
    outside_values: dict[str, Array] = field(default_factory=dict)
    accuracy: Share = field(default_factory=Share)
    runtime_accuracy: Share = field(default_factory=Share)
    cold: GasTally = field(default_factory=GasTally)
    warm: GasTally = field(default_factory=GasTally)
    fit: Fit = field(default_factory=Fit)
    label_fit: Fit = field(default_factory=Fit)
    model_label_fit: Fit = field(default_factory=Fit)
    profile: Profile = field(default_factory=Profile)

    def merge(self, other: Tally) -> None:
        """Add another's samples."""
        self.samples += other.samples
        self.wad_samples += other.wad_samples
        self.outside += other.outside
        self.unsaturated += other.unsaturated
        self.within_bound &= other.within_bound
        self.inexact.merge(other.inexact)
        self.differing.merge(other.differing)
        for name in ("gas", "cold", "warm"):
            gas: GasTally = getattr(self, name)
            gas.merge(getattr(other, name))
        for name in ("fit", "label_fit", "model_label_fit"):
            fit: Fit = getattr(self, name)
            fit.merge(getattr(other, name))
        for name in ("errors", "runtime_errors", "unsaturated_errors", "outside_errors"):
            spread: Spread = getattr(self, name)
            spread.merge(getattr(other, name))
        for name in ("agreement", "outside_agreement", "accuracy", "runtime_accuracy"):
            share: Share = getattr(self, name)
            share.merge(getattr(other, name))
        self.count_outside(other.outside_values)
        self.profile.merge(other.profile)

    def count_outside(self, values: Mapping[str, Array]) -> None:
        """Count values outside their range: by input one for each element, or how many there are of each."""
        for name, found in values.items():
            self.outside_values[name] = self.outside_values.get(name, np.zeros(found.shape, dtype=np.int64)) + found
