"""Prices and limits of the forks."""

from __future__ import annotations

from ml2sc.ir.forks import FORKS
from ml2sc.runtime.chain import intrinsic_gas


def test_a_transaction_is_priced_as_the_chain_prices_it() -> None:
    data = bytes(40) + b"\xab" * 60
    spent, floor = intrinsic_gas(data, create=False)
    assert FORKS["prague"].transaction(40, 60, 10_000) == spent + 10_000
    assert FORKS["prague"].transaction(40, 60, 0) == floor


def test_a_creation_pays_its_deposit() -> None:
    init = b"\xab" * 100
    spent, _ = intrinsic_gas(init, create=True)
    assert FORKS["prague"].creation(init, 90, 5) == FORKS["osaka"].creation(init, 90, 5) == spent + 90 * 200 + 5
    assert FORKS["glamsterdam"].creation(init, 90, 5) == spent + 90 * 1_530 + 5


def test_limits() -> None:
    assert list(FORKS) == ["prague", "osaka", "glamsterdam"]
    assert FORKS["osaka"].transaction_gas == 16_777_216
    assert FORKS["glamsterdam"].code_limit == 64 * 1024
