"""Deploying with data contracts, and the typed handle, on a small contract written by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from eth_utils.crypto import keccak

from ml2sc.backends.base import Artifact, Bytecode
from ml2sc.backends.interface import data_contract_init
from ml2sc.errors import ArtifactError, ContractLimitError, InternalError, ToolchainError
from ml2sc.runtime.chain import Chain, Reverted, revm_is_installed
from ml2sc.runtime.contract import Contract, ContractError
from ml2sc.runtime.deploy import CONTRACT, PROXY, deploy, deployment_plan
from ml2sc.runtime.opening import open_chain
from ml2sc.runtime.toolchain import Toolchain

WAD = 10**18

# The frame every backend emits, around the model y = (x0 + w, x1 - w), with w the last byte of the data contracts.
SOURCE = """
// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

contract Tiny {
    error InputLength(uint256 expected, uint256 actual);
    error InputOutOfRange(uint256 index, int256 value);

    address private immutable first;
    address private immutable second;

    constructor(address factory) { first = at(factory, 0, FIRST); second = at(factory, 1, SECOND); }

    function at(address factory, uint256 salt, bytes32 init) private pure returns (address) {
        return address(uint160(uint256(keccak256(abi.encodePacked(bytes1(0xff), factory, salt, init)))));
    }

    function predict(int256[2] calldata x) public view returns (int256[2] memory y) {
        if (x[0] > 100e18) revert InputOutOfRange(0, x[0]);
        (y[0], y[1]) = (x[0] + weight(first), x[1] - weight(second));
    }

    function classify(int256[2] calldata x) external view returns (uint256) {
        int256[2] memory y = predict(x);
        return y[1] > y[0] ? 1 : 0;
    }

    function predictPacked(bytes calldata x) external view returns (int256[2] memory y) {
        if (x.length != 2) revert InputLength(2, x.length);
        y[0] = int256(int8(uint8(x[0]))) * 1e18 + weight(first);
        y[1] = int256(int8(uint8(x[1]))) * 1e18 - weight(second);
    }

    function modelHash() external pure returns (bytes32) { return bytes32(uint256(0xabc)); }

    function fail(uint256 how) external pure returns (uint256) {
        if (how == 0) revert("because");
        if (how == 1) return 1 / (how - 1);
        if (how == 2) assembly { revert(0, 0) }
        assembly { mstore(0, not(0)) revert(0, 8) }
    }

    function weight(address data) private view returns (int256 w) {
        assembly {
            mstore(0, 0)
            extcodecopy(data, 31, sub(extcodesize(data), 1), 1)
            w := mul(mload(0), 1000000000000000000)
        }
    }
}
"""

DATA = (bytes(24_574) + b"\x07", b"\x03")


@pytest.fixture(scope="session")
def toolchain() -> Toolchain:
    chosen = Toolchain()
    try:
        chosen.solc({"language": "Solidity", "sources": {"T.sol": {"content": "contract T {}"}}})
    except ToolchainError as error:
        pytest.skip(str(error))
    return chosen


@pytest.fixture(scope="session")
def artifact(toolchain: Toolchain) -> Artifact:
    first, second = (f"0x{keccak(data_contract_init(data)).hex()}" for data in DATA)
    sources = {"Tiny.sol": {"content": SOURCE.replace("FIRST", first).replace("SECOND", second)}}
    settings: dict[str, Any] = {
        "viaIR": True,
        "evmVersion": "prague",
        "optimizer": {"enabled": True},
        "outputSelection": {"*": {"*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"]}},
    }
    run = toolchain.solc({"language": "Solidity", "sources": sources, "settings": settings})
    errors = [e["formattedMessage"] for e in run.output.get("errors", ()) if e["severity"] == "error"]
    assert not errors, errors
    out = run.output["contracts"]["Tiny.sol"]["Tiny"]
    code = {kind: bytes.fromhex(out["evm"][kind]["object"]) for kind in ("bytecode", "deployedBytecode")}
    bytecode = Bytecode(code["bytecode"], code["deployedBytecode"], out["abi"], run.compiler, run.how)
    return Artifact("Tiny", "solidity", "Tiny.sol", "", {}, out["abi"], data=DATA, bytecode=bytecode)


@pytest.fixture(
    params=["py-evm", pytest.param("revm", marks=pytest.mark.skipif(not revm_is_installed(), reason="no pyrevm"))]
)
def chain(request: pytest.FixtureRequest) -> Iterator[Chain]:
    with open_chain(request.param) as opened:
        yield opened


@pytest.fixture
def contract(chain: Chain, artifact: Artifact) -> Contract:
    return Contract(chain, deploy(artifact, chain).address, artifact.abi)


@pytest.mark.parametrize("size", [0, 1, 255, 256, 24_575])
def test_data_contract(chain: Chain, size: int) -> None:
    data = (bytes(range(256)) * 97)[:size]
    receipt = chain.deploy(data_contract_init(data))
    assert chain.code(receipt.address) == b"\x00" + data
    assert receipt.code_size == size + 1
    assert chain.call(receipt.address, b"anything") == b""


def test_data_contract_limit() -> None:
    with pytest.raises(ContractLimitError, match="holds 24,575 bytes, not 24,576"):
        data_contract_init(bytes(24_576))


def test_deploy(chain: Chain, artifact: Artifact) -> None:
    done = deploy(artifact, chain)
    assert [chain.code(a) for a in done.data_addresses] == [b"\x00" + data for data in artifact.data]
    assert artifact.bytecode is not None
    assert done.code_bytes == len(chain.code(done.address)) == len(artifact.bytecode.runtime)
    assert done.gas_deploy > 32_000 + 21_000 + 200 * done.code_bytes
    assert done.gas_weights > 200 * (24_576 + 2)
    assert Contract(chain, done.address, artifact.abi).predict([0, 0]) == [7 * WAD, -3 * WAD]


def test_deploy_without_data(chain: Chain) -> None:
    bytecode = Bytecode(bytes.fromhex("60015ff3"), b"\x00", (), "solc", "PATH")
    done = deploy(Artifact("A", "solidity", "A.sol", "", {}, (), bytecode=bytecode), chain)
    assert (done.gas_weights, done.data_addresses, done.code_bytes) == (0, (), 1)


def test_deploy_what_does_not_fit(chain: Chain, artifact: Artifact) -> None:
    with pytest.raises(ArtifactError, match="not compiled"):
        deploy(replace(artifact, bytecode=None), chain)
    with pytest.raises(InternalError, match="and there are 0 data contracts"):
        deploy(replace(artifact, data=()), chain)
    others = [entry for entry in artifact.abi if entry["type"] != "constructor"]
    for types in ([], ["address[2]"], ["address", "address"], ["uint256"]):
        inputs = [{"name": "factory", "type": type_} for type_ in types]
        abi = [*others, {"type": "constructor", "inputs": inputs}]
        with pytest.raises(InternalError, match="2 data contracts"):
            deploy(replace(artifact, abi=abi), chain)


def test_the_plan_creates_the_same(chain: Chain, artifact: Artifact) -> None:
    """By the chain's CREATE2 proxy, or by one of its own; the quoted gas is what is used."""
    for has_proxy in (True, False):
        plan = deployment_plan(artifact, has_proxy=has_proxy)
        addresses: dict[str, str] = {}
        before = [] if has_proxy else [PROXY]
        assert [step.name for step in plan.steps] == [*before, "weights 0", "weights 1", CONTRACT]
        for step in plan.steps:
            call = step.build(addresses)
            assert step.gas is not None
            foreseen = step.gas(addresses)
            if call.to is None:
                receipt = chain.deploy(call.data)
                addresses[step.name], used = receipt.address, receipt.gas_used
            else:
                addresses[step.name], used = str(call.creates), chain.transact(call.to, call.data).gas_used
            assert used == foreseen
            assert len(chain.code(addresses[step.name])) == step.code_bytes
        assert [chain.code(addresses[f"weights {i}"]) for i in (0, 1)] == [b"\x00" + data for data in DATA]
        assert Contract(chain, addresses[CONTRACT], artifact.abi).predict([0, 0]) == [7 * WAD, -3 * WAD]
    assert deployment_plan(artifact).identity != plan.identity


def test_plans_without_data_need_no_proxy(chain: Chain) -> None:
    bytecode = Bytecode(bytes.fromhex("60015ff3"), b"\x00", (), "solc", "PATH")
    bare = Artifact("A", "solidity", "A.sol", "", {}, (), bytecode=bytecode)
    with_proxy, without = (deployment_plan(bare, has_proxy=has_proxy) for has_proxy in (True, False))
    assert with_proxy.identity == without.identity
    assert [step.name for step in without.steps] == [CONTRACT]


def test_calls(contract: Contract) -> None:
    assert contract.predict([-5 * WAD, 2**255 - 1]) == [2 * WAD, 2**255 - 1 - 3 * WAD]
    assert contract.classify([0, 11 * WAD]) == 1
    assert contract.classify([0, 10 * WAD]) == 0
    assert contract.predict_packed(b"\xff\x7f") == [6 * WAD, 124 * WAD]
    assert contract.model_hash() == (0xABC).to_bytes(32, "big")


def test_gas_is_a_transactions(contract: Contract) -> None:
    assert contract.has("predictPacked")
    assert not contract.has("classifyPacked")
    calldata = contract.calldata("predictPacked", b"\x01\x02")
    assert contract.gas_packed(b"\x01\x02") == contract.chain.transact(contract.address, calldata).gas_used > 21_000


def test_errors_of_the_abi(contract: Contract) -> None:
    with pytest.raises(ContractError) as caught:
        contract.predict_packed(b"\x01")
    assert (caught.value.name, caught.value.arguments) == ("InputLength", {"expected": 2, "actual": 1})
    assert "InputLength(expected=2, actual=1)" in str(caught.value)
    with pytest.raises(ContractError, match="InputLength"):
        contract.gas_packed(b"")
    with pytest.raises(ContractError) as caught:
        contract.classify([101 * WAD, 0])
    assert caught.value.arguments == {"index": 0, "value": 101 * WAD}


def test_other_reverts(contract: Contract) -> None:
    with pytest.raises(ContractError, match="reason=because"):
        contract.call("fail", 0)
    with pytest.raises(ContractError, match=r"Panic\(code=18\)"):
        contract.call("fail", 1)
    for how in (2, 3):
        with pytest.raises(Reverted) as caught:
            contract.call("fail", how)
        assert not isinstance(caught.value, ContractError)


def test_wrong_contract(contract: Contract) -> None:
    with pytest.raises(ArtifactError, match="no contract at 0x5555"):
        Contract(contract.chain, "0x" + "55" * 20, ())
    with pytest.raises(ArtifactError, match="no function classifyPacked"):
        contract.classify_packed(b"")
    other = contract.chain.deploy(data_contract_init(b"nothing")).address
    abi = [{"type": "function", "name": "modelHash", "inputs": [], "outputs": [{"name": "", "type": "bytes32"}]}]
    with pytest.raises(ArtifactError, match="do not fit its ABI"):
        Contract(contract.chain, other, abi).model_hash()
