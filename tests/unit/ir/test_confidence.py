"""Clopper and Pearson's bound against its definition, in rational arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest

from ml2sc.ir.confidence import lower_confidence


def tail(successes: int, trials: int, p: Fraction) -> Fraction:
    ways = ((i, math.comb(trials, i)) for i in range(successes, trials + 1))
    return sum((count * p**i * (1 - p) ** (trials - i) for i, count in ways), Fraction(0))


@pytest.mark.parametrize(("successes", "trials"), [(1, 1), (1, 2), (3, 10), (9, 10), (20, 41), (21, 41), (59, 60)])
@pytest.mark.parametrize("percent", [95, 80])
def test_bound_is_the_greatest_improbable_one(successes: int, trials: int, percent: int) -> None:
    bound = Fraction(lower_confidence(successes, trials, percent))
    allowed = Fraction(100 - percent, 100)
    assert tail(successes, trials, bound) <= allowed < tail(successes, trials, bound + Fraction(1, 1 << 20))


def test_all_and_none() -> None:
    assert lower_confidence(0, 5) == 0
    assert lower_confidence(500, 500) == pytest.approx(0.05 ** (1 / 500), abs=1e-6)
    assert lower_confidence(500, 500) <= 0.05 ** (1 / 500)
    assert lower_confidence(99_990, 100_000) > 0.9998


@pytest.mark.parametrize(("successes", "trials"), [(-1, 5), (6, 5), (0, 0)])
def test_no_share(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match="is no share"):
        lower_confidence(successes, trials)
