"""What gas costs in money."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .errors import UsageError

_GWEI = 1e-9


@dataclass(frozen=True)
class Prices:
    """What gas and ether cost; as they are not known, nobody is told a sum.

    Attributes:
        gas: Price of a unit of gas in gwei.
        ether: Price of an ether in dollars; of use with the other only.
        below: Prices on the chain below a rollup, of gas and of blobs, in gwei.
    """

    gas: float | None = None
    ether: float | None = None
    below: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for what, price in (("gas", self.gas), ("ether", self.ether)):
            if price is not None and not 0 < price < math.inf:
                raise UsageError(f"a price of {price:g} for {what} is none: a number above 0")
        if any(not 0 <= price < math.inf for price in self.below or ()):
            raise UsageError("prices on the chain below are two numbers of gwei, none of them below 0")
        if self.ether is not None and self.gas is None:
            raise UsageError("the price of ether says nothing without that of gas", hint="give --gas-price, too (gwei)")

    def of(self, gas: float) -> str:
        """Return what so much gas costs, in brackets and with a blank before them; empty where nothing is known."""
        return "" if self.gas is None else f" ({self.said(gas * self.gas * _GWEI)})"

    def said(self, ether: float) -> str:
        """Return an amount of ether, in dollars, too, where their price is known."""
        dollars = "" if self.ether is None else f", ${_figures(ether * self.ether)}"
        return f"{_figures(ether)} ether{dollars}"


def _figures(value: float) -> str:
    """Return an amount with three significant figures, cents at the least."""
    digits = max(2, 2 - math.floor(math.log10(value))) if value else 0
    return f"{value:,.{digits}f}"
