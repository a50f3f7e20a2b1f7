"""What rollups of the OP Stack charge for a transaction's bytes on the chain below: their formula since Fjord.

The fee depends on how short FastLZ makes the signed transaction, and on two prices of the chain below: of its gas, and
of its blobs. All is exact, in integers, as in the chain's own code.
"""

from __future__ import annotations

from dataclasses import dataclass

from .chains import ChainProfile

_LEAST = 100 * 10**6
_INTERCEPT, _SLOPE = -42_585_600, 836_500
"""Of a line that foretells, from the length that FastLZ makes of it, what it adds to a batch: in 10^-6 bytes."""
_CALLDATA = 16
_SCALED = 10**12

_HASHED = 2_654_435_769
_SLOTS, _SHIFT = 8_192, 19
_FARTHEST, _LONGEST = 8_191, 262
_LITERALS = 32
_TAIL = 13
"""The last bytes are never looked up."""


@dataclass(frozen=True)
class DataPrices:
    """What the chain below costs.

    Attributes:
        base_fee: Of its gas, in wei.
        blob_fee: Of its blobs' gas, in wei.
    """

    base_fee: int
    blob_fee: int


def data_fee(compressed: int, chain: ChainProfile, prices: DataPrices) -> int:
    """Return the fee of a signed transaction's bytes in wei, of which its gas is no part.

    Args:
        compressed: `compressed_size` of the transaction as it is sent.
        chain: With `l1_base_scalar` and `l1_blob_scalar`.
        prices: Of the chain below.
    """
    size = max(_LEAST, _INTERCEPT + _SLOPE * compressed)
    price = chain.l1_base_scalar * _CALLDATA * prices.base_fee + chain.l1_blob_scalar * prices.blob_fee
    return size * price // _SCALED


def compressed_size(data: bytes) -> int:
    """Return how many bytes FastLZ (level 1) makes of some."""
    size, anchor, at = 0, 0, 2
    end = len(data) - _TAIL
    seen = [0] * _SLOTS
    while at < end - 1:
        # three bytes are looked up where they, or others of their hash, were seen last
        three = data[at : at + 3]
        slot = _slot(three)
        before, seen[slot] = seen[slot], at
        if at - before > _FARTHEST or data[before : before + 3] != three:
            at += 1
            continue
        more = _common(data, before + 3, at + 3, end + 9)
        size += _literals(at - anchor) + 3 * ((more - 1) // _LONGEST) + (3 if (more - 1) % _LONGEST >= 6 else 2)
        at += more
        for _ in range(2):
            seen[_slot(data[at : at + 3])] = at
            at += 1
        anchor = at
    return size + _literals(len(data) - anchor)


def _slot(three: bytes) -> int:
    return (_HASHED * int.from_bytes(three, "little") >> _SHIFT) % _SLOTS


def _common(data: bytes, first: int, second: int, end: int) -> int:
    """Return the number of the byte, from 1, that differs; if none does before `end`, of the last."""
    for length in range(end - second):
        if data[first + length] != data[second + length]:
            return length + 1
    return end - second


def _literals(count: int) -> int:
    """Return how many bytes those take that are copied: one more for each 32."""
    return count + -(-count // _LITERALS)
