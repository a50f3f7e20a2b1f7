"""A model inside somebody else's contract, as docs/inside-your-contract.md shows it: its answers, and what they cost.

Memory is not clean where it works, and what others have there must stay. Whose compiler settings are used is theirs.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from eth_abi import decode, encode
from support import heavy
from support.examples import compiled
from support.networks import dense
from support.snapshot import check_noted

import ml2sc
from ml2sc.backends.interface import ERRORS, keccak
from ml2sc.backends.solidity.backend import OPTIMIZER
from ml2sc.ir import wad
from ml2sc.ir.interpret import Interpreter
from ml2sc.runtime.chain import CREATE2_PROXY, Chain, Reverted, RevmChain, revm_is_installed
from ml2sc.runtime.contract import Contract
from ml2sc.runtime.deploy import holder

pytestmark = pytest.mark.skipif(not revm_is_installed(), reason="pyrevm is not installed")

PAGE = Path(__file__).parents[2] / "docs" / "inside-your-contract.md"
INHERITING, LIBRARIES, MODULE = re.findall(r"```(?:solidity|vyper)\n(.*?)```", PAGE.read_text(), re.DOTALL)
INLINED = 7_500
"""Gas of digits beyond the consumer's own."""
HEAD = "// SPDX-License-Identifier: MIT\npragma solidity ^0.8.24;\n"

READER = """
contract Reader is Ballot {
    function read(bytes calldata x) external pure returns (uint256) { return _classifyPackedCalldata(x); }
    function nothing(bytes calldata x) external pure returns (uint256) { return x.length; }

    /// In memory that is full of something, between arrays of its own, several times.
    function amid(bytes calldata x, int256[64] calldata wads) external pure returns (bytes memory) {
        bytes memory before = _soil();
        int256[10] memory scores = _predictPackedCalldata(x);
        uint256 start = _free();
        uint256[4] memory decided = [_classifyPacked(x), _classifyPackedCalldata(x), _classify(wads), _free()];
        int256[10] memory again = _predict(wads);
        return abi.encode(before, scores, decided, again, _predictPacked(x), _free() > start);
    }

    function _free() private pure returns (uint256 pointer) {
        assembly ("memory-safe") { pointer := mload(0x40) }
    }

    function _soil() private pure returns (bytes memory mine) {
        assembly ("memory-safe") {
            let pointer := mload(0x40)
            for { let i := 0 } lt(i, 4000) { i := add(i, 32) } { mstore(add(pointer, i), not(0)) }
        }
        mine = new bytes(37);
    }
}
"""


def made(
    toolchain: ml2sc.Toolchain,
    sources: dict[str, str],
    name: str,
    settings: dict[str, Any],
    chain: Chain | None = None,
    arguments: bytes = b"",
) -> Contract:
    """Return a contract of a source, deployed; the compiler has nothing to complain of."""
    vyper, contract = name.endswith(".vy"), name.partition(".")[0]
    select = {name: {contract: ["abi", "evm.bytecode.object"]}} if not vyper else {name: ["abi", "evm.bytecode.object"]}
    question = {
        "language": "Vyper" if vyper else "Solidity",
        "sources": {file: {"content": text} for file, text in sources.items()},
        "settings": {"evmVersion": "prague", **settings, "outputSelection": select},
    }
    output = (toolchain.vyper if vyper else toolchain.solc)(question).output
    assert [m for m in output.get("errors", []) if m["severity"] in {"error", "warning"}] == []
    compiled = output["contracts"][name][contract]
    chain = RevmChain() if chain is None else chain
    code = bytes.fromhex(compiled["evm"]["bytecode"]["object"].removeprefix("0x"))
    return Contract(chain, chain.deploy(code + arguments).address, compiled["abi"])


def encode_error(name: str, *values: int) -> bytes:
    return keccak(f"{name}({','.join(ERRORS[name])})".encode())[:4] + encode(ERRORS[name], values)


def samples(examples: Path, example: str, count: int) -> list[Any]:
    with np.load(examples / example / "samples.npz") as archive:
        return list(archive["x"][:count])


def mean_beyond(contract: Contract, packed: list[bytes]) -> int:
    """Return what a model costs beyond the contract that it is in, on the average."""
    gas = [contract.gas("read", x) - contract.gas("nothing", x) for x in packed]
    return round(sum(gas) / len(gas))


def test_inherited(examples: Path, toolchain: ml2sc.Toolchain, request: pytest.FixtureRequest) -> None:
    artifact = compiled("digits", "solidity", form="abstract")
    assert artifact.program is not None
    assert artifact.graph is not None
    settings = {key: artifact.compiler_input["settings"][key] for key in ("viaIR", "optimizer")}
    sources = {"Digits.sol": artifact.source, "Reader.sol": HEAD + INHERITING + READER}
    contract = made(toolchain, sources, "Reader.sol", settings)
    interpreter, packer, packed = Interpreter(artifact.program), ml2sc.Packer(artifact), []
    for x in samples(examples, "digits", 20):
        packed.append(packer.pack(x))
        answer = interpreter.run(packed[-1])
        outputs, decision = tuple(answer.outputs), answer.decision
        wads = packer.to_wad(x)  # they are rounded otherwise: docs/packing.md
        given = interpreter.run(wad.pack(artifact.graph, wad.inputs_from_wad(artifact.graph, wads)))
        assert contract.call("read", packed[-1]) == decision
        before, scores, decided, again, last, grown = decode(
            ["bytes", "int256[10]", "uint256[4]", "int256[10]", "int256[10]", "bool"],
            contract.call("amid", packed[-1], wads),
        )
        assert (before, scores, last, grown) == (bytes(37), outputs, outputs, True)
        assert (again, decided[:3]) == (tuple(given.outputs), (decision, decision, given.decision))
    with pytest.raises(Reverted, match="InputLength"):
        contract.call("read", b"123")
    contract.chain.transact(contract.address, contract.calldata("vote", packed[0]))
    assert contract.call("votes", interpreter.run(packed[0]).decision) == 1
    check_noted(request, "digits inherited", mean_beyond(contract, packed), INLINED)


def test_libraries(examples: Path, toolchain: ml2sc.Toolchain) -> None:
    """Two in one contract, by solc's settings of old: without the intermediate representation."""
    settings = {"optimizer": {**OPTIMIZER, "runs": 200}}
    artifact, other = (compiled(name, "solidity", form="library") for name in ("digits", "breast_cancer"))
    assert artifact.program is not None
    assert other.program is not None
    sources = {"Digits.sol": artifact.source, "BreastCancer.sol": other.source, "Twice.sol": HEAD + LIBRARIES}
    contract = made(toolchain, sources, "Twice.sol", settings)
    packer, interpreter = ml2sc.Packer(artifact), Interpreter(artifact.program)
    packed = [packer.pack(x) for x in samples(examples, "digits", 6)]
    decisions = [interpreter.run(x).decision or 0 for x in packed]
    for i in range(5):
        assert contract.call("sum", packed[i], packed[i + 1]) == decisions[i] + decisions[i + 1]
    packer, interpreter = ml2sc.Packer(other), Interpreter(other.program)
    for x in samples(examples, "breast_cancer", 5):
        assert contract.call("benign", packer.to_wad(x)) == (interpreter.run(packer.pack(x)).decision == 1)


NOTHING = """
@external
@view
def nothing(drawing: Bytes[64]) -> uint256:
    return len(drawing)

@external
@view
def read(drawing: Bytes[64]) -> uint256:
    return Digits._classify_packed(drawing)
"""


def test_a_module(examples: Path, toolchain: ml2sc.Toolchain, request: pytest.FixtureRequest) -> None:
    artifact = compiled("digits", "vyper", form="library")
    assert artifact.program is not None
    sources = {"Digits.vy": artifact.source, "Ballot.vy": MODULE + NOTHING}
    contract = made(toolchain, sources, "Ballot.vy", {"optimize": "gas"})
    interpreter, packer = Interpreter(artifact.program), ml2sc.Packer(artifact)
    packed = [packer.pack(x) for x in samples(examples, "digits", 20)]
    for x in packed:
        assert contract.call("read", x) == interpreter.run(x).decision
    contract.chain.transact(contract.address, contract.calldata("vote", packed[0]))
    assert contract.call("votes", interpreter.run(packed[0]).decision) == 1
    with pytest.raises(Reverted) as refused:
        contract.call("read", b"123")
    assert refused.value.data == encode_error("InputLength", 64, 3)
    check_noted(request, "digits as a Vyper module", mean_beyond(contract, packed), INLINED)


BY_CONSTRUCTOR = {
    "Owner.sol": HEAD
    + """
import {SmallModel} from "./Small.sol";

contract Owner is SmallModel {
    constructor(address factory) SmallModel(factory) {}
    function read(bytes calldata x) external view returns (uint256) { return _classifyPackedCalldata(x); }
}
""",
    "Owner.vy": """
# pragma version ~=0.4.3
import Small

initializes: Small

@deploy
def __init__(factory: address):
    Small.__init__(factory)

@external
@view
def read(x: Bytes[64]) -> uint256:
    return Small._classify_packed(x)
""",
}


@pytest.mark.parametrize("name", heavy.unless("Owner.vy".__ne__, BY_CONSTRUCTOR))
def test_weights_in_data_contracts(name: str, toolchain: ml2sc.Toolchain) -> None:
    """The constructor of whoever takes the model in hands on who created them."""
    vyper = name.endswith(".vy")
    target, form = ("vyper", "library") if vyper else ("solidity", "abstract")
    options = {"name": "Small", "weights": "data", "input_ranges": ((0.0, 1.0),), "form": form}
    artifact = ml2sc.compile(dense(64, 30, 3), target, "int8", **options)
    assert artifact.program is not None
    assert artifact.data
    chain, interpreter = RevmChain(), Interpreter(artifact.program)
    for index, code in enumerate(artifact.codes):
        call = holder(index, code)
        chain.transact(str(call.to), call.data)
    settings = {"optimize": "gas"} if vyper else {"optimizer": {"enabled": True, "runs": 200}, "viaIR": True}
    sources = {artifact.source_name: artifact.source, name: BY_CONSTRUCTOR[name]}
    contract = made(toolchain, sources, name, settings, chain, bytes(12) + bytes.fromhex(CREATE2_PROXY[2:]))
    draw = np.random.default_rng(0)
    for packed in (draw.bytes(artifact.program.input.length) for _ in range(5)):
        assert contract.call("read", packed) == interpreter.run(packed).decision
