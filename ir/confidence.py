"""How sure a share is that was counted on few samples."""

from __future__ import annotations

from decimal import Context, Decimal, localcontext

_STEPS = 20
"""Bits of the bound: it is rounded down to a multiple of 2^-20."""
_DIGITS = Context(prec=50)
"""Decimal arithmetic is the same on every machine; fifty digits leave more than thirty after a million roundings."""
_ROUNDING = Decimal("1e-30")


def lower_confidence(successes: int, trials: int, percent: int = 95) -> float:
    """Return the one-sided lower confidence bound of a probability (Clopper and Pearson, 1934).

    It is the greatest p, rounded down, at which so many successes or more have a probability of at most
    1 − percent/100.

    Args:
        successes: How often it was so, 0 to `trials`.
        trials: How often it was tried, at least 1.
        percent: The confidence, 1 to 99.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"{successes} of {trials} is no share")
    one = 1 << _STEPS
    low, high = 0, one  # at `low` it is improbable enough, at `high` it is not
    with localcontext(_DIGITS):
        allowed = Decimal(100 - percent) / 100 - _ROUNDING
        while successes and high - low > 1:
            middle = (low + high) // 2
            improbable = _tail(successes, trials, Decimal(middle) / one) <= allowed
            low, high = (middle, high) if improbable else (low, middle)
    return low / one


def _tail(successes: int, trials: int, p: Decimal) -> Decimal:
    """Return the probability of so many successes or more, Σ_{i >= successes} C(trials, i)·p^i·(1 − p)^(trials − i)."""
    if 2 * successes <= trials:  # the other side has fewer terms
        return 1 - _tail(trials - successes + 1, trials, 1 - p)
    total = term = p**trials
    for i in range(trials, successes, -1):
        term *= (1 - p) / p * i / (trials - i + 1)
        total += term
    return total
