"""The chains' profiles: their figures, by hand, and what is no profile."""

from __future__ import annotations

from typing import Any

import pytest

from ml2sc.ir.chains import PROFILES, ChainProfile, ProfileError, owner_of, rules_of
from ml2sc.ir.forks import FORKS, memory_gas

MEGAETH, MONAD = PROFILES["megaeth"], PROFILES["monad"]


def test_all_are_there_and_sound() -> None:
    names = ["ethereum", "glamsterdam", "base", "op", "bnb", "arbitrum", "monad", "megaeth"]
    assert list(PROFILES) == names
    for profile in PROFILES.values():
        assert ChainProfile.of(profile.to_json()) == profile
    numbers = [number for profile in PROFILES.values() for number in profile.chain_ids]
    assert len(set(numbers)) == len(numbers), "a chain has one profile"
    assert (owner_of(143), owner_of(31_337)) == (MONAD, None)


def test_where_nothing_is_said_it_is_prague() -> None:
    plain, prague = ChainProfile.of({"name": "plain"}), FORKS["prague"]
    assert plain.transaction(10, 20, 5_000) == prague.transaction(10, 20, 5_000)
    assert plain.dearer(cold_accounts=2, cold_slots=3, new_slots=1, written_slots=2, memory=[5_000]) == 0
    assert plain.data_words == 767


def test_larger_code_is_larger_data() -> None:
    """A data contract is as large as its code, and the gas of the transaction that creates it, allow."""
    words = {name: profile.data_words for name, profile in PROFILES.items()}
    assert {words[name] for name in ("ethereum", "base", "op", "bnb", "arbitrum")} == {767}
    assert (words["glamsterdam"], words["monad"], words["megaeth"]) == (2_047, 4_095, 16_383)
    gas = MONAD.created(131_072) + MONAD.intrinsic(b"\xff" * 131_083, called=True)
    assert gas < MONAD.transaction_gas == 30_000_000
    little = ChainProfile.of({"name": "little", "code_limit": 131_072, "initcode_limit": 262_144})
    assert little.data_words == 4_095
    assert ChainProfile.of({**little.to_json(), "transaction_gas": 10_000_000}).data_words * 32 * 217 < 10_000_000


def test_monad() -> None:
    """Cold accounts 10,100, slots 8,100 a page, memory two words a unit of gas."""
    assert MONAD.dearer(cold_accounts=3) == 3 * (10_100 - 2_600)
    assert MONAD.dearer(cold_slots=4) == (8_100 + 3 * 100) - 4 * 2_100
    assert MONAD.dearer(new_slots=2) == (2_900 + 100 + 2 * 17_000) - 2 * 20_000
    assert MONAD.memory(1_001) == 500
    assert MONAD.dearer(memory=[1_000, 4]) == 500 + 2 - memory_gas(1_000) - memory_gas(4)
    assert MONAD.charges_limit


def test_megaeth() -> None:
    """60,000 for a transaction, ten times more for what is kept; that does not count against the 200 million."""
    assert MEGAETH.transaction(40, 60, 50_000) == 60_000 + 44 * 40 + 176 * 60 + 50_000
    assert MEGAETH.transaction(40, 60, 0) == 60_000 + 110 * 40 + 440 * 60
    assert MEGAETH.created(1_000) == 32_000 + 10_200 * 1_000
    assert MEGAETH.state(1, 1_000) == 10_000 * 1_000


def test_the_rules_of_a_manifest() -> None:
    assert rules_of({"fork": "osaka"}) == FORKS["osaka"]
    assert rules_of({"fork": "osaka", "chain_profile": MONAD.to_json()}) == MONAD


@pytest.mark.parametrize(
    ("entries", "key", "text"),
    [
        ({}, "", "no name"),
        ({"name": "X"}, "name", "small letters"),
        ({"name": "x" * 41}, "name", "1 to 40"),
        ({"name": "x", "gas": 1}, "gas", "there is no such entry"),
        ({"name": "x", "deposit": -1}, "deposit", "from 0"),
        ({"name": "x", "deposit": 1.0}, "deposit", "not a whole number"),
        ({"name": "x", "deposit": True}, "deposit", "not a whole number"),
        ({"name": "x", "code_limit": 10}, "code_limit", "from 1,024 to 8,388,608"),
        ({"name": "x", "code_limit": 1 << 24}, "code_limit", "from 1,024 to 8,388,608"),
        ({"name": "x", "code_limit": 65_536}, "initcode_limit", "less than code_limit"),
        ({"name": "x", "block_gas": 1_000_000}, "block_gas", "less than transaction_gas"),
        ({"name": "x", "deposit_state": 300}, "deposit_state", "more than deposit"),
        ({"name": "x", "page_slots": 0}, "page_slots", "from 1"),
        ({"name": "x", "charges_limit": 1}, "charges_limit", "neither true nor false"),
        ({"name": "x", "evm": "london"}, "evm", "not one of prague, osaka, glamsterdam"),
        ({"name": "x", "chain_ids": 1}, "chain_ids", "no list of numbers"),
        ({"name": "x", "chain_ids": [0]}, "chain_ids", "from 1"),
    ],
)
def test_what_is_no_profile(entries: dict[str, Any], key: str, text: str) -> None:
    with pytest.raises(ProfileError, match=text) as caught:
        ChainProfile.of(entries)
    assert caught.value.key == key
