"""What a rollup asks for a transaction's bytes: the numbers that op-geth and op-alloy test their own formula with."""

from __future__ import annotations

import dataclasses

import pytest

from ml2sc.ir.chains import PROFILES
from ml2sc.ir.data_fee import DataPrices, compressed_size, data_fee

EMPTY = bytes.fromhex("dd80808094095e7baea6a6c7c4c2dfeb977efac326af552d878080808080")
WORD = "00" * 31
CALL = bytes.fromhex(
    "02f901550a758302df1483be21b88304743f94f80e51afb613d764fa61751affd3313c190a86bb870151bd62fd12adb8e41ef24f3f"
    f"{WORD}6e{'00' * 12}af88d065e77c8cc2239327c5edb3a432268e5831{'00' * 29}03c1e5{WORD}00{WORD}a0{WORD}14"
    f"8c89ed219d02f1a5be012c689b4f5b731827bebe{'00' * 12}c001"
    "a033fd89cb37c31b2cba46b6466e040c61fc9b2a3675a7f5f493ebd5ad77c497f8"
    "a07cdf65680e238392693019b4092f610222e71b7cec06449cb922b93b6a12744e"
)


@pytest.mark.parametrize(
    ("data", "size"),
    [(b"", 0), (bytes(1_000), 21), (b"\1" * 1_000, 21), (b"\xfa\xca\xde", 4), (EMPTY, 31), (CALL, 202)],
)
def test_compressed_sizes(data: bytes, size: int) -> None:
    assert compressed_size(data) == size


@pytest.mark.parametrize(("size", "fee"), [(4, 1_700), (202, 2_148)])
def test_fees(size: int, fee: int) -> None:
    """max(100, 0.8365 * size - 42.5856) bytes, times (16 * 1,000 * 1,000 + 1,000 * 1,000) / 10^6."""
    chain = dataclasses.replace(PROFILES["op"], l1_base_scalar=1_000, l1_blob_scalar=1_000)
    assert data_fee(size, chain, DataPrices(1_000, 1_000)) == fee
