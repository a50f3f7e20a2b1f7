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
    assert FORKS["prague"].creating(init, 90, 5) == FORKS["osaka"].creating(init, 90, 5) == spent + 90 * 200 + 5
    # 12,000 (EIP-2780) + calldata + 4 words of init code, + 12,000 and 120 bytes of state for the contract, its code
    wanted = 12_000 + 16 * 100 + 2 * 4 + 12_000 + (120 + 90) * 1_530 + 5
    assert FORKS["glamsterdam"].creating(init, 90, 5) == wanted


def test_a_call_in_glamsterdam() -> None:
    fork = FORKS["glamsterdam"]
    assert fork.transaction(40, 60, 10_000) == 12_000 + 3_000 + 40 * 4 + 60 * 16 + 10_000
    assert fork.transaction(40, 60, 0) == 12_000 + 3_000 + 64 * 100
    # the packed input of MNIST's 784 pixels, with selector, offset, length and padding: 868 bytes
    assert fork.transaction(434, 434, 40_000) == 15_000 + 868 * 64


def test_accounts_and_slots() -> None:
    prague, glamsterdam = FORKS["prague"], FORKS["glamsterdam"]
    assert prague.dearer(cold_accounts=3, new_slots=2, written_slots=1) == 0
    assert glamsterdam.dearer(cold_accounts=1) == 400
    assert glamsterdam.dearer(written_slots=1) == 10_000 - 2_900
    assert glamsterdam.dearer(new_slots=1) == 10_000 + 97_920 - 20_000


def test_state_does_not_count() -> None:
    assert FORKS["osaka"].state(1, 1_000, 1) == 0
    assert FORKS["glamsterdam"].state(1, 1_000, 2) == 183_600 + 1_530_000 + 2 * 97_920


def test_limits() -> None:
    assert list(FORKS) == ["prague", "osaka", "glamsterdam"]
    assert FORKS["osaka"].transaction_gas == 16_777_216
    assert FORKS["glamsterdam"].code_limit == 64 * 1024
    assert FORKS["glamsterdam"].initcode_limit == 128 * 1024
