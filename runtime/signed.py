"""Signed transactions, taken apart: who signed what is read from the bytes, not believed."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import rlp
from eth_keys.datatypes import Signature
from eth_keys.exceptions import BadSignature
from eth_utils.address import to_canonical_address, to_checksum_address
from eth_utils.crypto import keccak
from eth_utils.exceptions import ValidationError

_TYPED = b"\x02"
"""First byte of an EIP-1559 transaction (EIP-2718); a legacy one begins with its list's length, above 0xbf."""


@dataclass(frozen=True)
class SignedTransaction:
    """What a signed transaction says.

    Attributes:
        hash: Its hash.
        sender: Who signed it, checksummed.
        chain_id: The only chain that takes it.
        nonce: Its nonce.
        to: Whom it calls, checksummed; None if it creates.
        data: Calldata or init code.
        value: Wei it hands over.
        gas: Its gas limit.
        max_fee: The most it pays a unit of gas, in wei; a legacy transaction's gas price.
        tip: What it offers above the base fee; likewise.
        legacy: Whether it is one without EIP-1559's fees.
    """

    hash: str
    sender: str
    chain_id: int
    nonce: int
    to: str | None
    data: bytes
    value: int
    gas: int
    max_fee: int
    tip: int
    legacy: bool


@functools.lru_cache(maxsize=256)  # recovering a signer takes some hundredths of a second
def read_signed(raw: bytes) -> SignedTransaction:
    """Take a signed transaction apart: EIP-1559's without an access list, or a legacy one of one chain (EIP-155).

    Raises:
        ValueError: it is neither, or nobody can have signed it.
    """
    try:
        return (_read_typed if raw.startswith(_TYPED) else _read_legacy)(raw)
    except (rlp.exceptions.RLPException, BadSignature, ValidationError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"no signed transaction: {type(error).__name__}") from None


def unsigned(chain_id: int, nonce: int, tip: int, max_fee: int, gas: int, to: str | None, data: bytes) -> bytes:
    """Return an EIP-1559 transaction without a value that nobody has signed yet; the arguments are its fields."""
    called = b"" if to is None else to_canonical_address(to)
    return _TYPED + bytes(rlp.encode([chain_id, nonce, tip, max_fee, gas, called, 0, data, []]))


def _read_typed(raw: bytes) -> SignedTransaction:
    fields = rlp.decode(raw[1:])
    chain_id, nonce, tip, max_fee, gas, to, value, data, access, odd, r, s = fields
    if access:
        raise ValueError("it has an access list")
    return SignedTransaction(
        hash=f"0x{keccak(raw).hex()}",
        sender=_signer(_TYPED + rlp.encode(fields[:9]), _number(odd), r, s),
        chain_id=_number(chain_id),
        nonce=_number(nonce),
        to=_address(to),
        data=bytes(data),
        value=_number(value),
        gas=_number(gas),
        max_fee=_number(max_fee),
        tip=_number(tip),
        legacy=False,
    )


def _read_legacy(raw: bytes) -> SignedTransaction:
    fields = rlp.decode(raw)
    nonce, price, gas, to, value, data, v, r, s = fields
    chain_id, odd = divmod(_number(v) - 35, 2)
    if chain_id < 1:
        raise ValueError("every chain would take it")
    return SignedTransaction(
        hash=f"0x{keccak(raw).hex()}",
        sender=_signer(rlp.encode([*fields[:6], chain_id, 0, 0]), odd, r, s),
        chain_id=chain_id,
        nonce=_number(nonce),
        to=_address(to),
        data=bytes(data),
        value=_number(value),
        gas=_number(gas),
        max_fee=_number(price),
        tip=_number(price),
        legacy=True,
    )


def _signer(message: bytes, odd: int, r: object, s: object) -> str:
    signature = Signature(vrs=(odd, _number(r), _number(s)))
    return str(signature.recover_public_key_from_msg_hash(keccak(message)).to_checksum_address())


def _address(field: bytes) -> str | None:
    return to_checksum_address(field) if field else None


def _number(field: object) -> int:
    if not isinstance(field, bytes) or len(field) > 32:
        raise ValueError("no number")
    return int.from_bytes(field, "big")
