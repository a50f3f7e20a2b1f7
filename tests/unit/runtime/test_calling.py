"""What a contract pays that calls another: the EVM's own figures, the same on both embedded chains."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ml2sc.errors import ContractLimitError
from ml2sc.runtime.calling import measure_call
from ml2sc.runtime.chain import Chain, EmbeddedChain, RevmChain, revm_is_installed

COLD, WARM = 2_600, 100
CHAINS = [EmbeddedChain, *([RevmChain] if revm_is_installed() else [])]


def deployed(chain: Chain, code: str) -> str:
    """Put code on a chain: init code that copies what is behind it."""
    length = len(bytes.fromhex(code))
    return chain.deploy(bytes.fromhex(f"60{length:02x}600a5f3960{length:02x}5ff3{code}")).address


@pytest.mark.parametrize("make", CHAINS)
@pytest.mark.parametrize(
    ("code", "cold", "warm"),
    [
        ("00", COLD, WARM),
        ("5f545000", COLD + 2 + 2_100 + 2, WARM + 2 + 100 + 2),  # a slot is read: PUSH0 SLOAD POP
        (
            "36505f3560005200",
            COLD + 2 + 2 + 2 + 3 + 3 + 3 + 3,
            WARM + 2 + 2 + 2 + 3 + 3 + 3 + 3,
        ),  # memory grows by a word
    ],
)
@pytest.mark.parametrize("length", [0, 4, 1_000])
def test_what_the_evm_takes(make: Callable[[], Chain], code: str, cold: int, warm: int, length: int) -> None:
    chain = make()
    address = deployed(chain, code)
    assert measure_call(chain, address, bytes(length)) == (cold, warm)
    assert measure_call(chain, address, bytes(length)) == (cold, warm), "the first call left something warm"


@pytest.mark.parametrize("make", CHAINS)
def test_a_call_that_reverts_has_no_price(make: Callable[[], Chain]) -> None:
    chain = make()
    assert measure_call(chain, deployed(chain, "5f5ffd"), b"") is None


@pytest.mark.parametrize("make", CHAINS)
def test_too_much_calldata(make: Callable[[], Chain]) -> None:
    chain = make()
    with pytest.raises(ContractLimitError, match="too many to run"):
        measure_call(chain, deployed(chain, "00"), bytes(50_000))
