"""Weights that were right when a contract was created are right for ever, whoever created its data contracts."""

from __future__ import annotations

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak
from support.contracts import new_chain
from support.networks import dense

import ml2sc
from ml2sc.backends.base import Artifact
from ml2sc.backends.interface import data_contract_init
from ml2sc.runtime.chain import CREATE2_PROXY, PROXY_CODE, EmbeddedChain, Reverted
from ml2sc.runtime.contract import Contract
from ml2sc.runtime.deploy import code_init, holder

TARGETS = ("solidity", "vyper")

ATTACK = """
// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

contract Killer { fallback() external { selfdestruct(payable(address(0))); } }

// Its code is what the factory says at the moment; its address depends on the factory only.
contract Holder {
    constructor() {
        (bytes memory code, address killer) = Factory(msg.sender).load();
        if (killer != address(0)) { (bool ok,) = killer.delegatecall(""); require(ok); }
        assembly { return(add(code, 32), mload(code)) }
    }
}

contract Factory {
    bytes private code;
    address private killer;
    address public holder;
    bytes32 public seen;
    bytes public refusal;

    function load() external view returns (bytes memory, address) { return (code, killer); }

    // In one transaction: a holder of the right weights that is gone at its end, and the contract that asks for them.
    function attack(bytes calldata right, bytes calldata creation) external {
        killer = address(new Killer());
        code = right;
        holder = address(new Holder{salt: 0}());
        seen = holder.codehash;
        bytes memory init = abi.encodePacked(creation, abi.encode(address(this)));
        address made;
        assembly { made := create(0, add(init, 32), mload(init)) }
        require(made == address(0), "the constructor was fooled");
        assembly {
            let text := mload(0x40)
            mstore(0x40, add(text, 256))
            mstore(text, returndatasize())
            returndatacopy(add(text, 32), 0, returndatasize())
            init := text
        }
        refusal = init;
    }

    function replace(bytes calldata evil) external { killer = address(0); code = evil; new Holder{salt: 0}(); }
}
"""


@pytest.fixture(scope="module")
def attack(toolchain: ml2sc.Toolchain) -> tuple[bytes, list[dict[str, object]]]:
    """Return the attacker's creation code and ABI."""
    run = toolchain.solc(
        {
            "language": "Solidity",
            "sources": {"A.sol": {"content": ATTACK}},
            "settings": {
                "evmVersion": "prague",
                "outputSelection": {"A.sol": {"Factory": ["abi", "evm.bytecode.object"]}},
            },
        }
    )
    factory = run.output["contracts"]["A.sol"]["Factory"]
    return bytes.fromhex(factory["evm"]["bytecode"]["object"]), factory["abi"]


@pytest.fixture(scope="module")
def built(toolchain: ml2sc.Toolchain) -> dict[str, Artifact]:
    """Return a model with two data contracts, for each target."""
    widths = {"solidity": 220, "vyper": 260}
    return {target: compiled(target, "w8a16", width, toolchain) for target, width in widths.items()}


@pytest.fixture(scope="module")
def shorter(toolchain: ml2sc.Toolchain) -> dict[str, Artifact]:
    """Return one whose first data contract can be kept in storage by one transaction."""
    return {target: compiled(target, "int8", 50, toolchain) for target in TARGETS}


def compiled(target: str, precision: str, width: int, toolchain: ml2sc.Toolchain) -> Artifact:
    options = {"precision": precision, "weights": "data", "input_ranges": ((-1.0, 1.0),)}
    return ml2sc.build(ml2sc.compile(dense(40, width, 3), target, **options), toolchain)


def creation(artifact: Artifact) -> bytes:
    assert artifact.bytecode is not None
    return artifact.bytecode.creation


def missing(index: int, account: str) -> bytes:
    return keccak(text="WeightsMissing(uint256,address)")[:4] + encode(["uint256", "address"], [index, account])


@pytest.mark.parametrize("target", TARGETS)
def test_a_data_contract_is_missing(target: str, built: dict[str, Artifact]) -> None:
    """The constructor names the first that is not there yet, and where it must be; then nothing is wrong."""
    artifact, chain = built[target], new_chain()
    assert len(artifact.data) == 2
    init_code = creation(artifact) + encode(["address"], [CREATE2_PROXY])
    for index, data in enumerate(artifact.data):
        call = holder(index, b"\x00" + data)
        with pytest.raises(Reverted) as caught:
            chain.deploy(init_code)
        assert caught.value.data == missing(index, str(call.creates))
        chain.transact(CREATE2_PROXY, call.data)
        assert chain.code(str(call.creates)) == b"\x00" + data
    assert chain.deploy(init_code).code_size


@pytest.mark.parametrize("target", TARGETS)
def test_other_weights_are_elsewhere(target: str, built: dict[str, Artifact]) -> None:
    """Neither other bytes nor the right ones under another number are where the constructor looks."""
    artifact, chain = built[target], new_chain()
    first, second = artifact.data
    proxy = chain.deploy(code_init(PROXY_CODE)).address
    evil = bytes([first[0] ^ 1]) + first[1:]
    for index, data in ((0, evil), (0, second), (1, first), (0, first[:-1])):
        chain.transact(proxy, holder(index, b"\x00" + data, proxy).data)
    with pytest.raises(Reverted) as caught:
        chain.deploy(creation(artifact) + encode(["address"], [proxy]))
    assert caught.value.data == missing(0, str(holder(0, b"\x00" + first, proxy).creates))


@pytest.mark.parametrize("target", TARGETS)
def test_a_holder_that_is_gone_after_the_transaction(
    target: str, shorter: dict[str, Artifact], attack: tuple[bytes, list[dict[str, object]]]
) -> None:
    """EIP-6780 lets a contract destroy itself in the transaction that creates it: so do hashes of code prove nothing.

    The holder has the right code while the constructor runs, is gone at the end, and comes back with other weights.
    """
    artifact, chain = shorter[target], EmbeddedChain()
    init_code, abi = attack
    factory = chain.deploy(init_code).address
    contract = Contract(chain, factory, abi)
    right, evil = b"\x00" + artifact.data[0], b"\x00" + bytes(len(artifact.data[0]))
    chain.transact(factory, contract.calldata("attack", right, creation(artifact)))
    gone = str(contract.call("holder"))
    assert contract.call("seen") == keccak(right)
    assert chain.code(gone) == b""
    chain.transact(factory, contract.calldata("replace", evil))
    assert chain.code(gone) == evil
    assert contract.call("refusal") == missing(0, str(holder(0, b"\x00" + artifact.data[0], factory).creates))


def test_what_creates_a_data_contract_is_fixed() -> None:
    """PUSH, DUP, PUSH, PUSH, CODECOPY, PUSH, RETURN: nothing asks, calls or destroys; what follows is only copied."""
    init_code = data_contract_init(b"\xff" * 9)
    assert init_code[:10] == bytes.fromhex("61000a80600a5f395ff3")
    assert init_code[10:] == b"\x00" + b"\xff" * 9
