"""What nodes answer, typed: every value is checked before anybody uses it.

A node may be broken or hostile. Each function here takes a JSON value and returns what it means, or raises
`AnswerError` with what was expected and what came instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from eth_utils.address import to_checksum_address

from ml2sc.foreign import described, shown

T = TypeVar("T")

_QUANTITY = re.compile(r"0x[0-9a-fA-F]{1,64}")
_DATA = re.compile(r"0x(?:[0-9a-fA-F]{2})*")
_HASH = re.compile(r"0x[0-9a-fA-F]{64}")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_MOST_ACCOUNTS = 10_000


class AnswerError(Exception):
    """A JSON value is not what was asked for."""


def _wrong(wanted: str, value: object) -> AnswerError:
    return AnswerError(f"{described(value)}, which is no {wanted}")


def quantity(value: object, bits: int = 64) -> int:
    """Return a number of at most so many bits."""
    if not isinstance(value, str) or not _QUANTITY.fullmatch(value) or int(value, 16) >> bits:
        raise _wrong(f"quantity (0x and hexadecimal digits) below 2^{bits}", value)
    return int(value, 16)


def amount(value: object) -> int:
    """Return an amount of wei."""
    return quantity(value, 256)


def data(value: object) -> bytes:
    """Return bytes."""
    if not isinstance(value, str) or not _DATA.fullmatch(value):
        raise _wrong("data (0x and an even number of hexadecimal digits)", value)
    return bytes.fromhex(value[2:])


def digest(value: object) -> str:
    """Return a hash: 0x and 64 small hexadecimal digits."""
    if not isinstance(value, str) or not _HASH.fullmatch(value):
        raise _wrong("hash (0x and 64 hexadecimal digits)", value)
    return value.lower()


def address(value: object) -> str:
    """Return an address, checksummed."""
    if not isinstance(value, str) or not _ADDRESS.fullmatch(value):
        raise _wrong("address (0x and 40 hexadecimal digits)", value)
    return to_checksum_address(value)


def accounts(value: object) -> list[str]:
    """Return addresses, checksummed."""
    if not isinstance(value, list) or len(value) > _MOST_ACCOUNTS:
        raise _wrong("list of accounts", value)
    return [address(account) for account in value]


def text(value: object) -> str:
    """Return a text that can be shown."""
    if not isinstance(value, str):
        raise _wrong("text", value)
    return shown(value, 60)


def _members(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(what, value)
    return value


def _member(value: dict[str, Any], name: str, parse: Callable[[Any], T]) -> T:
    try:
        return parse(value.get(name))
    except AnswerError as error:
        raise AnswerError(f"{name} {error}") from None


def optional(parse: Callable[[Any], T]) -> Callable[[Any], T | None]:
    """Return a parser that takes null for None."""
    return lambda value: None if value is None else parse(value)


@dataclass(frozen=True)
class Block:
    """A block's head.

    Attributes:
        hash: Its hash.
        gas_limit: Gas its transactions may use.
        timestamp: Seconds since 1970.
        base_fee: Its base fee, in wei a gas; None on a chain without EIP-1559.
    """

    hash: str
    gas_limit: int
    timestamp: int
    base_fee: int | None


def block(value: object) -> Block:
    """Return a block's head."""
    members = _members(value, "block")
    return Block(
        _member(members, "hash", digest),
        _member(members, "gasLimit", quantity),
        _member(members, "timestamp", quantity),
        _member(members, "baseFeePerGas", optional(amount)),
    )


@dataclass(frozen=True)
class SentTransaction:
    """A transaction that a node knows.

    Attributes:
        hash: Its hash.
        sender: Who signed it.
        nonce: Its nonce.
        to: Whom it calls; None if it creates.
        data: Calldata or init code.
        block: The block it is in; None if it waits.
    """

    hash: str
    sender: str
    nonce: int
    to: str | None
    data: bytes
    block: int | None


def transaction(value: object) -> SentTransaction:
    """Return a transaction."""
    members = _members(value, "transaction")
    return SentTransaction(
        _member(members, "hash", digest),
        _member(members, "from", address),
        _member(members, "nonce", quantity),
        _member(members, "to", optional(address)),
        _member(members, "input", data),
        _member(members, "blockNumber", optional(quantity)),
    )


def transactions(value: object) -> list[SentTransaction]:
    """Return the transactions of a block that was asked for with them."""
    listed = _members(value, "block").get("transactions")
    if not isinstance(listed, list):
        raise _wrong("list of transactions", listed)
    return [transaction(item) for item in listed]


@dataclass(frozen=True)
class Receipt:
    """What became of a transaction.

    Attributes:
        hash: The transaction's.
        succeeded: Whether it went through.
        gas_used: Gas it took.
        price: What a unit of gas cost, in wei; 0 if the node does not say.
        created: The contract it created; None if none.
        block: The block it is in; None if it waits.
        data_fee: What its bytes cost besides, on the chain below, in wei.
    """

    hash: str
    succeeded: bool
    gas_used: int
    price: int
    created: str | None
    block: int | None
    data_fee: int = 0

    @property
    def fee(self) -> int:
        """What it cost, in wei."""
        return self.gas_used * self.price + self.data_fee


def receipt(value: object) -> Receipt:
    """Return a receipt."""
    members = _members(value, "receipt")
    return Receipt(
        _member(members, "transactionHash", digest),
        _member(members, "status", _bit) == 1,
        _member(members, "gasUsed", quantity),
        _member(members, "effectiveGasPrice", optional(amount)) or 0,
        _member(members, "contractAddress", optional(address)),
        _member(members, "blockNumber", optional(quantity)),
        _member(members, "l1Fee", optional(amount)) or 0,
    )


def _bit(value: object) -> int:
    return quantity(value, 1)


@dataclass(frozen=True)
class Simulated:
    """How a call would end.

    Attributes:
        succeeded: Whether it would go through.
        gas_used: Gas a transaction that makes it would take.
        returned: What it returns, or reverts with.
    """

    succeeded: bool
    gas_used: int
    returned: bytes


def simulated(value: object) -> Simulated:
    """Return the outcome of the only call of an eth_simulateV1."""
    first = value[0] if isinstance(value, list) and len(value) == 1 else value
    calls = _members(first, "simulated block").get("calls")
    members = _members(calls[0] if isinstance(calls, list) and len(calls) == 1 else calls, "simulated call")
    returned = _member(members, "returnData", optional(data)) or b""
    return Simulated(_member(members, "status", _bit) == 1, _member(members, "gasUsed", quantity), returned)


def signed(value: object) -> bytes:
    """Return a transaction that a node has signed; nodes give it alone or under "raw"."""
    return data(value.get("raw") if isinstance(value, dict) else value)
