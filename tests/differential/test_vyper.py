"""Vyper and Solidity: one Program, one interface, the same integers and the same errors.

`ML2SC_FUZZ=100 python -m pytest tests/differential/test_vyper.py -k random` tries that many models instead of a few.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from eth_utils.crypto import keccak
from support.random_models import Case, seeded_case

import ml2sc
from ml2sc.backends import Artifact
from ml2sc.errors import ContractLimitError, RangeError, UnsupportedModelError
from ml2sc.ir import wad
from ml2sc.ir.interpret import Interpreter, ProgramError
from ml2sc.ir.program import MASK
from ml2sc.runtime.chain import Chain, EmbeddedChain, Reverted, RevmChain, revm_is_installed
from ml2sc.runtime.contract import Contract, ContractError
from ml2sc.runtime.deploy import data_contract_init, deploy

FUZZ = int(os.environ.get("ML2SC_FUZZ", "0"))
TARGETS = ("solidity", "vyper")

Answer = tuple[Any, ...]


def new_chain() -> Chain:
    return RevmChain() if revm_is_installed() else EmbeddedChain()


def deployed(artifact: Artifact) -> Contract:
    chain = new_chain()
    return Contract(chain, deploy(artifact, chain).address, artifact.abi)


def answer(call: Callable[..., Any], *args: Any) -> Answer:
    """Return what a contract answers, or the error it reverts with."""
    try:
        result = call(*args)
    except ContractError as error:
        return error.name, *(value & MASK for value in error.arguments.values())
    return tuple(result) if isinstance(result, list) else (result,)


def expected_packed(interpreter: Interpreter, packed: bytes) -> tuple[Answer, Answer]:
    """Return what `predict` and `classify` must answer."""
    outcome = interpreter.run(packed)
    return outcome.outputs, (outcome.decision,)


def expected_wad(interpreter: Interpreter, wads: Sequence[int]) -> tuple[Answer, Answer]:
    try:
        return expected_packed(interpreter, interpreter.quantize(wads))
    except ProgramError as error:
        refusal = (error.error, *(word & MASK for word in error.args[1:]))
        return refusal, refusal


def compare(artifacts: Sequence[Artifact], packed: Sequence[bytes], wads: Sequence[Sequence[int]]) -> None:
    """Call every function of every contract, and compare with the interpreter's answers."""
    first = artifacts[0]
    assert first.program is not None
    assert all(a.program == first.program for a in artifacts)
    assert all(a.abi == first.abi for a in artifacts)
    interpreter = Interpreter(first.program)
    decides = first.program.has_decision
    for artifact in artifacts:
        contract = deployed(artifact)
        assert contract.model_hash().hex() == first.manifest["model_hash"].removeprefix("0x")
        for x in packed:
            predicted, decided = expected_packed(interpreter, x)
            assert answer(contract.predict_packed, x) == predicted, artifact.target
            assert not decides or answer(contract.classify_packed, x) == decided, artifact.target
        for values in wads:
            predicted, decided = expected_wad(interpreter, values)
            assert answer(contract.predict, values) == predicted, artifact.target
            assert not decides or answer(contract.classify, values) == decided, artifact.target
        length = len(packed[0])
        for wrong in (b"", bytes(length - 1), bytes(length + 1), bytes(length + 1000)):
            assert answer(contract.predict_packed, wrong) == ("InputLength", length, len(wrong)), artifact.target


def flat(artifact: Artifact, sample: dict[str, Any]) -> list[int]:
    assert artifact.graph is not None
    return wad.to_wad([v for name in artifact.graph.inputs for v in sample[name].ravel().tolist()])


def compiled(case: Case, toolchain: ml2sc.Toolchain) -> list[Artifact]:
    """Return a case's contracts, built; none if the model cannot be compiled or is too large for a contract."""
    try:
        made = [ml2sc.compile(case.model, target=t, calibration=case.calibration, **case.options) for t in TARGETS]
        return [ml2sc.build(artifact, toolchain) for artifact in made]
    except (RangeError, UnsupportedModelError, ContractLimitError):
        return []


@pytest.mark.parametrize("seed", range(FUZZ or 10))
def test_random_models(seed: int, toolchain: ml2sc.Toolchain) -> None:
    case = seeded_case(seed)
    artifacts = compiled(case, toolchain)
    if not artifacts:
        pytest.skip("the model cannot be compiled")
    graph = artifacts[0].graph
    assert graph is not None
    packed = [wad.pack(graph, wad.quantize_inputs(graph, sample)) for sample in case.samples]
    wads = [*(flat(artifacts[0], sample) for sample in case.samples), *case.wads]
    compare(artifacts, packed, [[v & MASK if v >= 1 << 255 else v for v in w] for w in wads])


@pytest.mark.parametrize("precision", ["int8", "auto"])
@pytest.mark.parametrize(
    ("name", "limit"),
    [("breast_cancer", 1.5), ("digits", 1.5), pytest.param("mnist", 2.5, marks=pytest.mark.slow)],
)
def test_examples(examples: Path, toolchain: ml2sc.Toolchain, name: str, limit: float, precision: str) -> None:
    """Bit-exact, and gas not far above Solidity's."""
    folder, gas = examples / name, {}
    with np.load(folder / "samples.npz") as archive:
        samples = archive["x"][:5]
    calibration = folder / "calibration.npz"
    for target in TARGETS:
        artifact = ml2sc.compile(folder / f"{name}.onnx", target, precision, calibration)
        report = ml2sc.check(ml2sc.build(artifact, toolchain), samples, toolchain=toolchain)
        assert report.bit_exact, report.failure
        assert report.within_bound, report.failure
        gas[target] = report.gas.mean
    assert gas["vyper"] <= limit * gas["solidity"]


def test_weights_that_are_not_the_models(examples: Path, toolchain: ml2sc.Toolchain) -> None:
    """The constructor names the data contract that is another one, in both languages alike."""
    folder, refusals = examples / "digits", []
    for target in TARGETS:
        artifact = ml2sc.compile(
            folder / "digits.onnx", target, "int8", folder / "calibration.npz", weights="data", optimize="deploy"
        )
        assert artifact.data
        artifact = ml2sc.build(artifact, toolchain)
        assert artifact.bytecode is not None
        chain = new_chain()
        wrong = chain.deploy(data_contract_init(b"other weights")).address
        arguments = bytes(12) + bytes.fromhex(wrong.removeprefix("0x"))
        with pytest.raises(Reverted) as caught:
            chain.deploy(artifact.bytecode.creation + arguments * len(artifact.data))
        refusals.append(caught.value.data)
        assert refusals[-1] == keccak(text="WeightsMismatch(uint256,address)")[:4] + bytes(32) + arguments
    assert refusals[0] == refusals[1]


def test_folder_records_the_code_generator(examples: Path, toolchain: ml2sc.Toolchain, tmp_path: Path) -> None:
    folder = examples / "breast_cancer"
    artifact = ml2sc.compile(folder / "breast_cancer.onnx", "vyper", "int8", folder / "calibration.npz")
    built = ml2sc.build(artifact, toolchain)
    assert built.manifest["toolchain"]["settings"] == {"experimentalCodegen": True}
    assert built.compiler_input["settings"]["experimentalCodegen"] is True
    ml2sc.write_folder(built, tmp_path / "out")
    loaded = ml2sc.load_folder(tmp_path / "out")
    assert loaded.source == built.source
    assert loaded.bytecode is not None
    assert built.bytecode is not None
    assert loaded.bytecode.creation == built.bytecode.creation
    run = toolchain.vyper(built.compiler_input)
    contract = run.output["contracts"][built.source_name][built.name]
    assert contract["evm"]["bytecode"]["object"].removeprefix("0x") == built.bytecode.creation.hex()
