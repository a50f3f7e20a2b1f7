"""Profiles of chains: what a public chain charges, and what it lets a contract and a transaction be.

A profile is data. Those that are known are here; others come from a file (`ml2sc.chain_file`). Figures were read in the
chains' own documentation in November 2026: chains change them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

from .forks import FORKS, Fork

_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
_MOST = 10**12
"""Of any figure: a limit of gas, a price, a chain's number."""
_MOST_BYTES = 1 << 23
"""Of code: what says its size in a contract's init code has three bytes."""
_LEAST = {
    "code_limit": 1_024,
    "initcode_limit": 1_024,
    "transaction_gas": 100_000,
    "block_gas": 100_000,
    "call_gas": 100_000,
    "page_slots": 1,
}


class ProfileError(Exception):
    """An entry of a profile cannot be.

    Args:
        key: The entry; empty if it is none in particular.
        text: What is wrong with it.
    """

    def __init__(self, key: str, text: str) -> None:
        super().__init__(f"{key}: {text}" if key else text)
        self.key, self.text = key, text


@dataclass(frozen=True, slots=True)
class ChainProfile(Fork):
    """The rules of a chain, and what else is to be known of it.

    Attributes:
        evm: The newest EVM version whose instructions it knows.
        chain_ids: Its numbers: the main chain's, then those of test chains. None: nobody knows.
        data_fee: Whether a transaction also pays for its bytes on the chain below, which is no gas of this one.
        l1_base_scalar: By the OP Stack's formula (`data_fee`), what the chain below's price of gas counts, in 10^-6; 0
            with the next: that formula is not the chain's.
        l1_blob_scalar: And its price of blobs.
    """

    evm: str = "prague"
    chain_ids: tuple[int, ...] = ()
    data_fee: bool = False
    l1_base_scalar: int = 0
    l1_blob_scalar: int = 0

    @classmethod
    def of(cls, entries: Mapping[str, Any]) -> ChainProfile:
        """Return a profile with these entries; what is missing is as on Ethereum in Prague.

        Raises:
            ProfileError: an entry is unknown, or its value cannot be.
        """
        known = {field.name: field for field in fields(cls)}
        for key, value in entries.items():
            if key not in known:
                raise ProfileError(key, f"there is no such entry; there are {', '.join(known)}")
            _check(key, value, str(known[key].type))
        if "name" not in entries:
            raise ProfileError("", "it has no name")
        chain_ids = {"chain_ids": tuple(entries["chain_ids"])} if "chain_ids" in entries else {}
        found = cls(**{**entries, **chain_ids})
        if found.initcode_limit < found.code_limit:
            raise ProfileError("initcode_limit", "less than code_limit: what creates a contract holds its code")
        if found.block_gas < found.transaction_gas and not found.state_apart:
            raise ProfileError("block_gas", "less than transaction_gas: a transaction is in a block")
        if found.deposit_state > found.deposit:
            raise ProfileError("deposit_state", "more than deposit, of which it is a part")
        return found

    @property
    def prices_data(self) -> bool:
        """Whether `data_fee` says what a transaction's bytes cost."""
        return self.data_fee and bool(self.l1_base_scalar or self.l1_blob_scalar)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values, every entry."""
        return {**asdict(self), "chain_ids": list(self.chain_ids)}


def _check(key: str, value: object, kind: str) -> None:
    if kind == "bool":
        if not isinstance(value, bool):
            raise ProfileError(key, "neither true nor false")
    elif kind == "int":
        least, most = _LEAST.get(key, 0), _MOST_BYTES if key in {"code_limit", "initcode_limit"} else _MOST
        _whole(key, value, least, most)
    elif kind == "str":
        _check_text(key, value)
    else:
        if not isinstance(value, list | tuple):
            raise ProfileError(key, "no list of numbers")
        for number in value:
            _whole(key, number, 1, (1 << 53) - 1)


def _whole(key: str, value: object, least: int, most: int) -> None:
    if type(value) is not int or not least <= value <= most:
        raise ProfileError(key, f"not a whole number from {least:,} to {most:,}")


def _check_text(key: str, value: object) -> None:
    if key == "evm":
        if value not in FORKS:
            raise ProfileError(key, f"not one of {', '.join(FORKS)}")
    elif not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ProfileError(key, "not 1 to 40 small letters, digits and hyphens, the first a letter")


def _profile(name: str, like: Fork | None = None, **entries: Any) -> ChainProfile:
    base = {} if like is None else {f.name: getattr(like, f.name) for f in fields(Fork) if f.default is not MISSING}
    return ChainProfile(name, **{**base, **entries})


_CAP = 1 << 24
"""Gas of a transaction by EIP-7825."""

PROFILES: Mapping[str, ChainProfile] = {
    profile.name: profile
    for profile in (
        _profile(
            "ethereum",
            transaction_gas=_CAP,
            call_gas=224_000_000,
            evm="osaka",
            chain_ids=(1, 11_155_111, 560_048, 17_000),
        ),
        _profile("glamsterdam", FORKS["glamsterdam"], evm="glamsterdam"),
        _profile(
            "base",
            transaction_gas=_CAP,
            block_gas=400_000_000,
            chain_ids=(8_453, 84_532),
            data_fee=True,
            l1_base_scalar=2_269,
            l1_blob_scalar=1_055_762,
        ),
        _profile(
            "op",
            transaction_gas=_CAP,
            block_gas=40_000_000,
            call_gas=101_000_000,
            chain_ids=(10, 11_155_420),
            data_fee=True,
            l1_base_scalar=5_227,
            l1_blob_scalar=1_014_213,
        ),
        _profile("bnb", transaction_gas=_CAP, block_gas=55_000_000, call_gas=300_000_000, chain_ids=(56, 97)),
        _profile(
            "arbitrum",
            transaction_gas=32_000_000,
            block_gas=32_000_000,
            call_gas=50_000_000,
            chain_ids=(42_161, 421_614),
            data_fee=True,
        ),
        _profile(
            "monad",
            code_limit=131_072,
            initcode_limit=262_144,
            transaction_gas=30_000_000,
            block_gas=150_000_000,
            call_gas=150_000_000,
            charges_limit=True,
            cold_account=10_100,
            cold_slot=8_100,
            page_slots=128,  # MIP-8
            new_slot_state=17_000,
            memory_words=2,  # MIP-3
            memory_limit=8 << 20,
            chain_ids=(143, 10_143),
        ),
        _profile(
            "megaeth",
            code_limit=524_288,
            initcode_limit=548_864,
            transaction_gas=200_000_000,  # of computation; what is kept has a price, and no limit but the block's
            block_gas=10_000_000_000,
            call_gas=60_000_000,
            base=60_000,  # 21,000 and 39,000
            calldata_byte=176,  # ten times more, for keeping them
            calldata_zero=44,
            floor_byte=440,
            floor_zero=110,
            deposit=10_200,
            deposit_state=10_000,
            state_apart=True,
            new_slot_state=17_100,
            chain_ids=(4_326, 6_343),
        ),
    )
}
"""All profiles by name."""


def rules_of(options: Mapping[str, Any]) -> Fork:
    """Return the rules that a manifest's `options` were compiled for: the chain's, else the fork's."""
    profile = options.get("chain_profile")
    return FORKS[str(options["fork"])] if profile is None else ChainProfile.of(profile)


def owner_of(chain_id: int) -> ChainProfile | None:
    """Return the profile that a chain's number belongs to."""
    return next((profile for profile in PROFILES.values() if chain_id in profile.chain_ids), None)
