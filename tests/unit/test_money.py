from __future__ import annotations

import pytest

from ml2sc.errors import UsageError
from ml2sc.money import Prices


def test_what_gas_costs() -> None:
    assert Prices().of(28_410) == ""
    assert Prices(2).of(28_410) == " (0.0000568 ether)"
    assert Prices(2, 3_000).of(28_410) == " (0.0000568 ether, $0.170)"
    assert Prices(2, 3_000).of(0) == " (0 ether, $0)"  # what was deployed before costs nothing now
    assert Prices(50, 4_000).of(17_700_000) == " (0.885 ether, $3,540.00)"


@pytest.mark.parametrize(("gas", "ether"), [(0, None), (-1, None), (float("nan"), 1), (1, float("inf")), (None, 3_000)])
def test_prices_that_are_none(gas: float | None, ether: float | None) -> None:
    with pytest.raises(UsageError):
        Prices(gas, ether)
