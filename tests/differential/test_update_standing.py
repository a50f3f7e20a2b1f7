"""What an owner can do now: read from the contract, said in words and JSON, and then done."""

from __future__ import annotations

from typing import Any

import pytest
from eth_utils.address import to_canonical_address
from support.updates import built, network, new_chain, put, samples, send

import ml2sc
from ml2sc.backends.base import Artifact
from ml2sc.backends.interface import data_contract_init, weights_hash
from ml2sc.runtime.contract import Contract, ContractError
from ml2sc.runtime.deploy import code_init
from ml2sc.runtime.prove import prove
from ml2sc.runtime.update import NOT_PROVED, UpdateState, Waiting, read_state

NOTICE = 3600


@pytest.fixture(scope="module")
def artifact(toolchain: ml2sc.Toolchain) -> Artifact:
    """Return an updatable contract with a timelock."""
    calibration = {"x": samples(1, (3, 2))}
    return built(network(1, (3, 2)), toolchain, calibration, precision="int8", target="vyper", timelock=NOTICE)


def state(artifact: Artifact, contract: Contract) -> UpdateState:
    found = read_state(contract, [len(data) for data in artifact.data])
    assert dict(found.rows())["weights"] == found.summary
    told: dict[str, Any] = found.to_json()
    assert told["not_proved"] == NOT_PROVED
    assert told["now"] == {
        "can_activate": found.can_activate,
        "can_rollback": found.can_rollback,
        "can_replace": found.can_replace,
    }
    return found


def hashed(data: bytes) -> str:
    return f"0x{weights_hash([data]).hex()}"


def test_what_waits_is_told(artifact: Artifact) -> None:
    chain = new_chain()
    contract = put(artifact, chain)
    (right,) = artifact.data
    evil = right[:-1] + bytes([right[-1] ^ 1])

    first = state(artifact, contract)
    assert (first.can_activate, first.can_rollback, first.can_replace) == (False, False, False)
    assert first.summary.endswith("may replace with 3,600 s of notice")
    assert (str(first.staged), str(first.previous)) == ("nothing", "nothing")

    send(contract, "stage", 0, evil)
    told = state(artifact, contract)
    assert not told.can_activate
    assert told.staged.weights_hash == hashed(evil)
    assert "from 2026-01-01 01:00:00+00:00 on" in dict(told.rows())["staged"]
    assert told.summary.endswith("may replace with 3,600 s of notice")
    with pytest.raises(ContractError, match="TooEarly"):
        send(contract, "activate", weights_hash([evil]))

    chain.time += NOTICE
    told = state(artifact, contract)
    assert told.can_activate
    assert told.summary.endswith("AT ONCE by what is staged, by others with 3,600 s of notice")
    assert dict(told.rows())["staged"].endswith("can be put in use at once")

    send(contract, "activate", weights_hash([evil]))
    send(contract, "stage", 0, right)
    chain.time += NOTICE
    send(contract, "activate", weights_hash([right]))
    told = state(artifact, contract)
    assert told.weights_hash == hashed(right)
    assert told.can_rollback
    assert told.previous.weights_hash == hashed(evil)
    assert told.summary.endswith("AT ONCE by version 2, by others with 3,600 s of notice")
    assert prove(artifact, chain, contract.address).update == told

    send(contract, "rollback")
    assert state(artifact, contract).weights_hash == hashed(evil)
    send(contract, "transferOwnership", "0x" + "77" * 20)
    assert "can accept at once" in dict(state(artifact, contract).rows())["offered to"]
    send(contract, "freeze")
    told = state(artifact, contract)
    assert (told.can_activate, told.can_rollback, told.can_replace) == (False, False, False)
    assert told.summary == "version 2, frozen for ever"


@pytest.mark.parametrize("holder", ["data", "code"])
def test_storage_that_another_constructor_wrote(artifact: Artifact, holder: str) -> None:
    """The code is the artifact's, byte for byte, and other weights are staged though nothing was announced."""
    chain = new_chain()
    honest = put(artifact, chain)
    (right,) = artifact.data
    evil = right[:-1] + bytes([right[-1] ^ 1])
    good = chain.deploy(data_contract_init(right)).address
    # code that is no data contract may be what changes afterwards
    other = chain.deploy(data_contract_init(evil) if holder == "data" else code_init(b"\x5b" + evil)).address
    values = {0: chain.account, 1: None, 2: 1 | 1 << 128 | 1 << 192, 3: good, 4: good, 5: other}
    store = b""
    for slot, value in values.items():
        word = (
            to_canonical_address(value).rjust(32, b"\0") if isinstance(value, str) else (value or 0).to_bytes(32, "big")
        )
        store += b"\x7f" + word + b"\x60" + bytes([slot]) + b"\x55"
    code = chain.code(honest.address)
    length = len(code).to_bytes(2, "big")
    start = (len(store) + 13).to_bytes(2, "big")
    forged = store + b"\x61" + length + b"\x80\x61" + start + b"\x5f\x39\x5f\xf3" + b"\x00\x00" + code
    fake = chain.deploy(forged).address
    assert chain.code(fake) == code

    proof = prove(artifact, chain, fake)
    assert proof.update is not None
    assert proof.update.can_activate
    assert "AT ONCE by what is staged" in proof.update.summary
    assert proof.update.staged.sound == (holder == "data")
    assert ("NOT put there by this contract's code" in dict(proof.update.rows())["staged"]) == (holder == "code")
    if holder == "data":
        contract = Contract(chain, fake, artifact.abi)
        send(contract, "activate", weights_hash([evil]))
        assert state(artifact, contract).weights_hash == hashed(evil)


def test_without_a_timelock(toolchain: ml2sc.Toolchain) -> None:
    calibration = {"x": samples(1, (3, 2))}
    artifact = built(network(1, (3, 2)), toolchain, calibration, precision="int8", target="vyper")
    told = state(artifact, put(artifact))
    assert told.can_replace
    assert told.summary.endswith("may replace at once")


def test_a_part_is_not_the_whole() -> None:
    some = Waiting(("0x" + "11" * 20, None))
    assert str(some) == "1 of 2 chunks"
    assert str(Waiting()) == "nothing"
