"""What a contract pays that calls another: measured by code that makes the same call twice and looks at its gas.

The code is run, not deployed (`Chain.run`): the first call finds account and slots cold, the second finds them warm.
"""

from __future__ import annotations

from typing import NamedTuple

from .chain import Chain

_WORD = 32
_AROUND = 16
"""Gas between the two readings of GAS that is not the call's: six that push its arguments, and one reading."""

_PUSH0, _PUSH1, _PUSH2, _PUSH3, _PUSH20 = "5f", "60", "61", "62", "73"
_CODECOPY, _MSTORE, _GAS, _SUB, _SWAP1, _SWAP2, _STATICCALL, _RETURN = "39", "52", "5a", "03", "90", "91", "fa", "f3"


class Called(NamedTuple):
    """Gas of a call, with what the EVM takes for making it; the caller's own preparations are not in it.

    Attributes:
        cold: Of the first in a transaction.
        warm: Of another.
    """

    cold: int
    warm: int


def measure_call(chain: Chain, address: str, calldata: bytes) -> Called | None:
    """Return what a contract pays for a call; None if it reverts.

    Args:
        chain: The chain.
        address: Who is called.
        calldata: With what.

    Raises:
        ContractLimitError: it needs more gas than the chain's call allowance, or has too much calldata.
        Reverted: the chain refuses to run the code.
    """
    answer = chain.run(_code(address, calldata))
    warm, again, cold, once = (int.from_bytes(answer[i : i + _WORD], "big") for i in range(0, 4 * _WORD, _WORD))
    return Called(cold - _AROUND, warm - _AROUND) if once and again else None


def _code(address: str, calldata: bytes) -> bytes:
    """Return code that copies the calldata behind it into memory, calls twice, and returns what both took."""
    length = _PUSH3 + len(calldata).to_bytes(3, "big").hex()
    call = [
        _GAS,
        # returned: 0 bytes to 0; calldata: all of memory; of the rest of the gas all it may have
        *(_PUSH0, _PUSH0, length, _PUSH0, _PUSH20 + address.removeprefix("0x"), _GAS, _STATICCALL),
        _GAS,
        # from (before, success, after) to (success, before - after)
        *(_SWAP1, _SWAP2, _SUB),
    ]
    results = [part for slot in range(4) for part in (_PUSH1 + f"{slot * _WORD:02x}", _MSTORE)]
    rest = [*call, *call, *results, _PUSH1 + f"{4 * _WORD:02x}", _PUSH0, _RETURN]
    size = len(bytes.fromhex("".join([length, _PUSH2 + "0000", _PUSH0, _CODECOPY, *rest])))
    return bytes.fromhex("".join([length, _PUSH2 + f"{size:04x}", _PUSH0, _CODECOPY, *rest])) + calldata
