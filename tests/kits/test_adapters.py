"""The adapters ERC-7007, 7992 and 8004 on a deployed model, with registries written by hand; ERC-165 and ERC-7201."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak
from support.updates import network, samples

import ml2sc
from ml2sc.backends.interface import interface_id, state_slot
from ml2sc.errors import UsageError
from ml2sc.folder import write_folder
from ml2sc.kits import write_kits
from ml2sc.runtime.chain import Chain, Reverted, RevmChain, local_chain, revm_is_installed
from ml2sc.runtime.contract import Contract, ContractError, decode_revert, encode_call
from ml2sc.runtime.deploy import deploy

DATA = {"x": samples(1)}
ADAPTERS = ("erc7007", "erc7992", "erc8004")

REGISTRIES = """
// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

struct ModelCommitment { bytes32 modelHash; bytes32 circuitHash; bytes32 vkHash; bytes4 proofSystemId; string uri; }

contract Models {
    ModelCommitment private held;
    bool private deprecated;

    function put(bytes32 modelHash, bytes32 circuitHash, bytes4 system, bool deprecated_) external {
        held = ModelCommitment(modelHash, circuitHash, 0, system, "");
        deprecated = deprecated_;
    }

    function getModel(uint256) external view returns (ModelCommitment memory, bool, address) {
        return (held, deprecated, address(this));
    }
}

contract Validations {
    mapping(bytes32 => address) private asked;
    mapping(bytes32 => uint256) public answers;

    function validationRequest(address validator, uint256, string calldata, bytes32 hash) external {
        asked[hash] = validator;
    }

    function validationResponse(bytes32 hash, uint8 response, string calldata, bytes32, string calldata) external {
        require(asked[hash] == msg.sender);
        answers[hash] = 1 + response;
    }

    function getValidationStatus(bytes32 hash)
        external
        view
        returns (address, uint256, uint8, bytes32, string memory, uint256)
    {
        return (asked[hash], 1, 0, 0, "", 0);
    }
}
"""


def solidity(toolchain: ml2sc.Toolchain, sources: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return contracts' ABI and init code by name."""
    settings = {"evmVersion": "prague", "outputSelection": {"*": {"*": ["abi", "evm.bytecode.object"]}}}
    content = {name: {"content": text} for name, text in sources.items()}
    output = toolchain.solc({"language": "Solidity", "sources": content, "settings": settings}).output
    assert [e["formattedMessage"] for e in output.get("errors", ())] == []
    made = {name: made for file in output["contracts"].values() for name, made in file.items()}
    return {n: {"abi": m["abi"], "init": bytes.fromhex(m["evm"]["bytecode"]["object"])} for n, m in made.items()}


class Placed(NamedTuple):
    """A model on a chain, the adapters' and registries' bytecode, a packed input and the right answers."""

    artifact: ml2sc.Artifact
    chain: Chain
    model: Contract
    made: Mapping[str, Mapping[str, Any]]
    packed: bytes
    decision: bytes
    outputs: bytes

    def put(self, name: str, *addresses: str) -> Contract:
        made = self.made[name]
        init = made["init"] + encode(["address"] * len(addresses), addresses)
        return Contract(self.chain, self.chain.deploy(init).address, made["abi"])


@pytest.fixture(scope="module")
def placed(toolchain: ml2sc.Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Placed:
    artifact = ml2sc.build(ml2sc.compile(network(1), calibration=DATA, precision="int8", name="Net"), toolchain)
    folder = tmp_path_factory.mktemp("adapters") / "net"
    write_folder(artifact, folder)
    write_kits(ADAPTERS, artifact, folder, {1: "0x" + "11" * 20})
    sources = {path.name: path.read_text() for path in Path(folder, "kits").rglob("*.sol")}
    chain = local_chain()
    model = Contract(chain, deploy(artifact, chain).address, artifact.abi)
    packed = ml2sc.pack(artifact, DATA["x"][0])
    answers = [
        chain.call(model.address, encode_call(artifact.abi, f, packed)) for f in ("classifyPacked", "predictPacked")
    ]
    made = {**solidity(toolchain, {"Registries.sol": REGISTRIES})}
    for name, text in sources.items():
        made |= solidity(toolchain, {name: text})
    return Placed(artifact, chain, model, made, packed, *answers)


def test_erc7007(placed: Placed) -> None:
    """What the model answers is verified, and nothing else; `addAigcData` is for whom a token says."""
    adapter = placed.put("NetERC7007", placed.model.address)
    right, packed = placed.artifact.model_hash, placed.packed
    wrong = bytes(31) + bytes([placed.decision[-1] ^ 1])
    for data, proof, good in (
        (placed.decision, b"", True),
        (placed.outputs, b"", True),
        (placed.decision, right, True),
        (placed.decision, bytes(32), False),
        (wrong, b"", False),
        (placed.outputs[:-1], b"", False),
        (b"", b"", False),
    ):
        assert adapter.call("verify", packed, data, proof) is good
    assert adapter.call("verify", packed + b"x", placed.decision, b"") is False, "an input that is none"
    assert [adapter.call("supportsInterface", bytes.fromhex(i)) for i in ("702c55a6", "01ffc9a7", "ffffffff")] == [
        True,
        True,
        False,
    ]
    with pytest.raises(ContractError) as caught:
        adapter.call("addAigcData", 1, packed, placed.decision, b"")
    assert caught.value.name == "NotAllowed"


def test_too_little_gas_is_no_answer(placed: Placed) -> None:
    """Nobody can have the truth called false by giving the model too little gas."""
    adapter = placed.put("NetERC7007", placed.model.address)
    question = encode_call(placed.made["NetERC7007"]["abi"], "verify", placed.packed, placed.decision, b"")
    needed = placed.chain.gas(adapter.address, question)
    if not revm_is_installed():
        pytest.skip("no pyrevm")
    chain = placed.chain
    assert isinstance(chain, RevmChain)
    answers = {
        outcome.output
        for gas in range(26_000, needed, (needed - 26_000) // 40)
        if not (outcome := chain._execute(adapter.address, question, gas, commit=False)).failure
    }
    assert answers <= {(1).to_bytes(32, "big")}


def test_another_model_is_refused(placed: Placed) -> None:
    for name in ("NetERC7007", "NetERC7992", "NetERC8004"):
        addresses = ["0x" + "22" * 20] * (1 if name == "NetERC7007" else 2)
        with pytest.raises(Reverted):
            placed.put(name, *addresses)


def test_erc7992(placed: Placed) -> None:
    registry = placed.put("Models")
    adapter = placed.put("NetERC7992", placed.model.address, registry.address)
    system = adapter.call("PROOF_SYSTEM")
    assert system == keccak(b"reexecution-evm-v1")[:4]
    code_hash, salt = keccak(placed.chain.code(placed.model.address)), b"\x05" * 32
    proof = encode(["bytes32", "bytes"], [salt, placed.packed])
    commitment = adapter.call("commitment", salt, placed.packed)

    def verified(output: bytes = placed.decision, commitment: bytes = commitment, proof: bytes = proof) -> str:
        try:
            placed.chain.call(
                adapter.address,
                encode_call(placed.made["NetERC7992"]["abi"], "verifyInference", 7, commitment, output, proof),
            )
        except Reverted as error:
            return str(getattr(decode_revert(error, placed.made["NetERC7992"]["abi"]), "name", "reverted"))
        return ""

    def put(model: bytes, code: bytes, system: bytes, deprecated: bool) -> None:
        data = encode_call(placed.made["Models"]["abi"], "put", model, code, system, deprecated)
        placed.chain.transact(registry.address, data)

    good = (placed.artifact.model_hash, code_hash, system)
    put(*good, False)
    assert (verified(), verified(placed.outputs)) == ("", "")
    assert verified(output=bytes(32 * 3)) == "OutputMismatch"
    assert verified(commitment=bytes(32)) == "InputCommitmentMismatch"
    other = encode(["bytes32", "bytes"], [salt, b"x"])
    assert verified(proof=other, commitment=adapter.call("commitment", salt, b"x")) == "InvalidProof"
    for changed, error in (
        ((*good, True), "VerificationRefused_ModelDeprecated"),
        ((bytes(32), *good[1:], False), "ModelMismatch"),
        ((good[0], bytes(32), system, False), "ModelMismatch"),
        ((*good[:2], b"zkml", False), "UnsupportedProofSystem"),
    ):
        put(*changed)
        assert verified() == error
    assert adapter.call("proofSystemOf", 7) == b"zkml"
    assert adapter.call("registry").lower() == registry.address.lower()


def test_erc8004(placed: Placed) -> None:
    """The validator answers 100 for what the model says, 0 for anything else, and only what it was asked."""
    registry = placed.put("Validations")
    adapter = placed.put("NetERC8004", placed.model.address, registry.address)
    abi, registered = placed.made["NetERC8004"]["abi"], placed.made["Validations"]["abi"]
    wrong = bytes(31) + bytes([placed.decision[-1] ^ 1])
    for given, output, response in (
        (placed.packed, placed.decision, 100),
        (placed.packed, placed.outputs, 100),
        (placed.packed, wrong, 0),
        (placed.packed[:-1], placed.decision, 0),
    ):
        asked = adapter.call("requestHash", given, output)
        validate = encode_call(abi, "validate", given, output)
        with pytest.raises(ContractError) as caught:
            adapter.call("validate", given, output)
        assert caught.value.name == "NotAsked"
        request = encode_call(registered, "validationRequest", adapter.address, 1, "ipfs://", asked)
        placed.chain.transact(registry.address, request)
        placed.chain.transact(adapter.address, validate)
        assert registry.call("answers", asked) == 1 + response


def test_erc165_and_erc7201(toolchain: ml2sc.Toolchain) -> None:
    """An updatable contract's state is where ERC-7201 says, and it lives as any other does."""
    options: dict[str, Any] = {"calibration": DATA, "precision": "int8", "name": "Net", "updatable": True}
    plain = ml2sc.compile(network(1), **options)
    artifact = ml2sc.build(ml2sc.compile(network(1), **options, erc165=True, erc7201=True), toolchain)
    assert "supportsInterface" not in plain.source
    assert {"erc165", "erc7201", "chain_profile"}.isdisjoint(plain.manifest["options"])
    slot = int(state_slot("Net"), 16)
    inner = int.from_bytes(keccak(b"ml2sc.Net"), "big") - 1
    assert slot == int.from_bytes(keccak(inner.to_bytes(32, "big")), "big") & ~0xFF
    chain = local_chain()
    contract = Contract(chain, deploy(artifact, chain).address, artifact.abi)
    assert contract.call("version") == 1
    assert artifact.program is not None
    own = bytes.fromhex(interface_id(artifact.program)[2:])
    assert [contract.call("supportsInterface", i) for i in (own, b"\x01\xff\xc9\xa7", b"\xff" * 4)] == [
        True,
        True,
        False,
    ]
    if isinstance(chain, RevmChain):
        used = {number for (address, number) in chain._storage if address == contract.address}
        assert used
        assert all(slot <= number < slot + 256 for number in used)


def test_what_has_no_state_has_no_slot() -> None:
    for options, text in (
        ({}, "of fixed weights has no state"),
        ({"updatable": True, "target": "vyper"}, "cannot say"),
    ):
        with pytest.raises(UsageError, match=text):
            ml2sc.Options(erc7201=True, **options).check()  # type: ignore[arg-type]


@pytest.mark.heavy
def test_erc165_in_vyper(toolchain: ml2sc.Toolchain) -> None:
    options: dict[str, Any] = {"calibration": DATA, "precision": "int8", "name": "Net", "target": "vyper"}
    artifact = ml2sc.build(ml2sc.compile(network(1), **options, erc165=True), toolchain)
    chain = local_chain()
    contract = Contract(chain, deploy(artifact, chain).address, artifact.abi)
    assert artifact.program is not None
    own = bytes.fromhex(interface_id(artifact.program)[2:])
    assert [contract.call("supportsInterface", i) for i in (own, b"\x01\xff\xc9\xa7", b"\xff" * 4)] == [
        True,
        True,
        False,
    ]
