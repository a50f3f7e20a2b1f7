"""Addresses of contracts, as web3 knows them."""

from __future__ import annotations

import random

from eth_utils.address import to_checksum_address
from web3.types import Nonce
from web3.utils.address import get_create_address

from ml2sc.runtime.transactions import create_address


def test_addresses_of_contracts_are_web3s() -> None:
    draws = random.Random(0)
    for nonce in (0, 1, 127, 128, 255, 256, 1 << 20, *(draws.randrange(1 << 60) for _ in range(20))):
        sender = to_checksum_address(draws.randbytes(20))
        assert create_address(sender, nonce) == get_create_address(sender, Nonce(nonce))
