"""Interface and handle library, used by somebody else's contract: the model's answers, its errors, what it costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.snapshot import check_noted

import ml2sc
from ml2sc.interfaces import interface_files
from ml2sc.runtime.chain import Reverted, RevmChain, revm_is_installed
from ml2sc.runtime.contract import Contract
from ml2sc.runtime.deploy import deploy

pytestmark = pytest.mark.skipif(not revm_is_installed(), reason="pyrevm is not installed")

CONSUMER = """\
// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;
import {IDigits} from "./IDigits.sol";
import {DigitsHandle} from "./DigitsHandle.sol";

contract Consumer {
    using DigitsHandle for address;
    address public immutable model;
    constructor(address model_) { model = model_; }
    function byHandle(bytes calldata x) external view returns (uint256) { return model.classifyPacked(x); }
    function byInterface(bytes calldata x) external view returns (uint256) { return IDigits(model).classifyPacked(x); }
    function scores(bytes calldata x) external view returns (int256[10] memory) { return model.predictPacked(x); }
    function inWad(int256[64] calldata x) external view returns (int256[10] memory) { return model.predict(x); }
    function decided(int256[64] calldata x) external view returns (uint256) { return model.classify(x); }
    function isModel(address account) external view returns (bool) { return account.isModel(); }
    function nothing(bytes calldata x) external pure returns (uint256) { bytes memory y = x; return y.length; }
}
"""
CALLED = 9_500
"""Gas of a call beyond the consumer's own."""


def compiled(artifact: ml2sc.Artifact, toolchain: ml2sc.Toolchain) -> tuple[bytes, list[dict[str, Any]]]:
    sources = {**interface_files(artifact), "Consumer.sol": CONSUMER}
    settings = {
        "evmVersion": "prague",
        "optimizer": {"enabled": True, "runs": 200},
        "outputSelection": {"*": {"*": ["abi", "evm.bytecode.object"]}},
    }
    texts = {name: {"content": text} for name, text in sources.items() if name.endswith(".sol")}
    output = toolchain.solc({"language": "Solidity", "sources": texts, "settings": settings}).output
    assert [m for m in output.get("errors", []) if m["severity"] in {"error", "warning"}] == []
    made = output["contracts"]["Consumer.sol"]["Consumer"]
    return bytes.fromhex(made["evm"]["bytecode"]["object"]), made["abi"]


@pytest.fixture(scope="module")
def artifact(examples: Path, toolchain: ml2sc.Toolchain) -> ml2sc.Artifact:
    model = ml2sc.compile(examples / "digits" / "digits.onnx", precision="int8", input_ranges=((0.0, 1.0),))
    return ml2sc.build(model, toolchain)


def test_a_consumer(
    artifact: ml2sc.Artifact, examples: Path, toolchain: ml2sc.Toolchain, request: pytest.FixtureRequest
) -> None:
    creation, abi = compiled(artifact, toolchain)
    chain = RevmChain()
    model = Contract(chain, deploy(artifact, chain).address, artifact.abi)
    made = chain.deploy(creation + bytes(12) + bytes.fromhex(model.address[2:]))
    consumer, beyond = Contract(chain, made.address, abi), []
    for x in np.load(examples / "digits" / "samples.npz")["x"][:5]:
        packed, wads = ml2sc.pack(artifact, x), ml2sc.Packer(artifact).to_wad(x)
        decision = model.classify_packed(packed)
        assert [consumer.call(name, packed) for name in ("byHandle", "byInterface")] == [decision, decision]
        assert list(consumer.call("scores", packed)) == model.predict_packed(packed)
        assert list(consumer.call("inWad", wads)) == model.predict(wads)
        assert consumer.call("decided", wads) == model.classify(wads)
        beyond.append(consumer.gas("byHandle", packed) - consumer.gas("nothing", packed))
    check_noted(request, "digits called", round(sum(beyond) / len(beyond)), CALLED)
    assert consumer.call("isModel", model.address) is True
    passed_on = Contract(chain, consumer.address, [*abi, *(e for e in artifact.abi if e["type"] == "error")])
    with pytest.raises(Reverted, match="InputLength"):
        passed_on.call("byHandle", b"123")
    nobody = Contract(chain, chain.deploy(creation + bytes(12) + b"\x77" * 20).address, abi)
    with pytest.raises(Reverted, match="NoModel"):
        nobody.call("byHandle", bytes(64))
    with pytest.raises(Reverted, match="NoModel"):
        consumer.call("isModel", "0x" + "77" * 20)


IMPORTER = """\
# pragma version ~=0.4.3
import IDigits

model: immutable(IDigits)

@deploy
def __init__(account: address):
    model = IDigits(account)

@external
@view
def decided(x: Bytes[64]) -> uint256:
    return staticcall model.classifyPacked(x)
"""


def test_a_consumer_in_vyper(artifact: ml2sc.Artifact, examples: Path, toolchain: ml2sc.Toolchain) -> None:
    sources = {"Consumer.vy": {"content": IMPORTER}}
    question = {
        "language": "Vyper",
        "sources": sources,
        "interfaces": {"IDigits.vyi": {"content": interface_files(artifact)["IDigits.vyi"]}},
        "settings": {"evmVersion": "prague", "outputSelection": {"Consumer.vy": ["abi", "evm.bytecode.object"]}},
    }
    output = json.loads(json.dumps(toolchain.vyper(question).output))
    made = output["contracts"]["Consumer.vy"]["Consumer"]
    chain = RevmChain()
    model = Contract(chain, deploy(artifact, chain).address, artifact.abi)
    creation = bytes.fromhex(made["evm"]["bytecode"]["object"].removeprefix("0x"))
    place = chain.deploy(creation + bytes(12) + bytes.fromhex(model.address[2:])).address
    consumer = Contract(chain, place, made["abi"])
    packed = ml2sc.pack(artifact, np.load(examples / "digits" / "samples.npz")["x"][0])
    assert consumer.call("decided", packed) == model.classify_packed(packed)
