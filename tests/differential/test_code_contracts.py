"""Contracts whose code is in several, on an EVM: where a contract may have little code, small ones are cut, too.

`ML2SC_SWEEP=1` takes an updatable contract in Vyper, too.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import heavy
from support.contracts import check_contract, new_chain, packed_and_wads
from support.networks import dense
from support.prediction import check_stated

import ml2sc
from ml2sc.backends import Artifact
from ml2sc.backends.interface import keccak
from ml2sc.errors import ArtifactError
from ml2sc.folder import load_folder, write_folder
from ml2sc.ir.divide import apart
from ml2sc.ir.forks import FORKS
from ml2sc.ir.outline import alike, outlined
from ml2sc.ir.program import Program
from ml2sc.runtime.bytecode import compare_bytecode, split_metadata
from ml2sc.runtime.chain import Reverted
from ml2sc.runtime.contract import Contract
from ml2sc.runtime.deploy import deploy, deployment_plan
from ml2sc.runtime.prove import prove

LIMITS = {("solidity", False): 2_300, ("vyper", False): 2_700, ("solidity", True): 6_600}
if os.environ.get("ML2SC_SWEEP"):
    LIMITS |= {("vyper", True): 6_600}
CUT = [(*kind, False) for kind in LIMITS]
SHARED = [("solidity", False, True), ("vyper", False, True), ("solidity", True, True)]
"""Equal layers are calls of a code contract: small ones would not pay for it, so they are put there."""


def _shared(program: Program, *_: object, **__: object) -> Program:
    """Put each procedure in a code contract of its own, and what comes before all calls of them in another."""
    within = outlined(program, alike(program))
    found = apart(within, within.procedures)
    assert found.procedures
    first, *rest = found.layers
    return replace(found, layers=(replace(first, contract=len(found.procedures) + 1), *rest))


def _as_asked(patch: pytest.MonkeyPatch, kind: tuple[str, bool, bool]) -> None:
    target, updatable, shared = kind
    if shared:
        patch.setattr("ml2sc.compiler.fitted", _shared)
    else:
        for name, fork in FORKS.items():
            patch.setitem(FORKS, name, replace(fork, code_limit=LIMITS[target, updatable]))


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(p.values, marks=p.marks) for p in heavy.unless(("solidity", False, True).__ne__, CUT + SHARED)
    ],
    ids=lambda p: f"{p[0]}{'-updatable' if p[1] else ''}{'-shared' if p[2] else ''}",
)
def kind(request: pytest.FixtureRequest) -> tuple[str, bool, bool]:
    found: tuple[str, bool, bool] = request.param
    return found


@pytest.fixture(scope="module")
def built(kind: tuple[str, bool, bool], toolchain: ml2sc.Toolchain) -> Artifact:
    target, updatable, shared = kind
    model = dense(10, 12, 12, 12, 12, 3) if shared else dense(10, 12, 9, 12, 3)
    with pytest.MonkeyPatch.context() as patch:
        _as_asked(patch, kind)
        artifact = ml2sc.compile(
            model,
            target,
            "int8",
            input_ranges=((-1.0, 1.0),),
            updatable=updatable,
            weights="data" if shared else "auto",
        )
        assert artifact.parts
        assert ("like_" in str(artifact.parts[0].program)) == shared
        return ml2sc.build(artifact, toolchain)


def test_answers_and_gas(built: Artifact) -> None:
    assert built.bytecode is not None
    assert built.bytecode.warnings == ()
    assert all(part.warnings == () for part in built.bytecode.parts)
    chain = new_chain()
    deployment = deploy(built, chain)
    contract = Contract(chain, deployment.address, built.abi)
    rng = np.random.default_rng(0)
    packed, wads = packed_and_wads(built, [{"x": rng.uniform(-1, 1, (1, 10))} for _ in range(3)])
    check_contract(contract, built, packed, wads)
    for x in packed:
        check_stated(contract, built, x)
    facts = built.manifest["gas"]
    assert facts["deploy"] == pytest.approx(deployment.gas_deploy, rel=0.005)
    assert facts["weights"] == pytest.approx(deployment.gas_weights, rel=0.005)
    assert facts["transactions"] == 1 + len(built.data) + len(built.parts)
    assert " code contract" in built.summary()
    proof = prove(built, chain, deployment.address)
    assert len(proof.data_addresses) == len(built.data) + len(built.parts)
    assert [step.name for step in deployment_plan(built, sender=chain.account).steps if "code" in step.name] == [
        f"code {number}" for number in range(1, len(built.parts) + 1)
    ]


def test_other_code_is_no_code_contract(built: Artifact) -> None:
    """The constructor computes where the code contract must be: one with other code is elsewhere."""
    assert built.bytecode is not None
    first, *rest = built.bytecode.parts
    other = replace(first, runtime=first.runtime[:-1] + bytes([first.runtime[-1] ^ 1]))
    forged = replace(built, bytecode=replace(built.bytecode, parts=(other, *rest)))
    missing = keccak(b"WeightsMissing(uint256,address)")[:4].hex()
    with pytest.raises(Reverted, match=missing):
        deploy(forged, new_chain())


def test_what_code_contracts_cannot_do(built: Artifact) -> None:
    """They keep nothing, call nobody and stay: it is on this that the contract relies, which knows their init code."""
    assert built.bytecode is not None
    for part in built.bytecode.parts:
        code, _ = split_metadata(part.runtime)
        at = 0
        while at < len(code):
            operation = code[at]
            assert operation not in FORBIDDEN, f"{operation:#x} at {at}"
            at += operation - 0x5E if 0x60 <= operation <= 0x7F else 1


FORBIDDEN = {0x54, 0x55, 0x5C, 0x5D, 0xF0, 0xF1, 0xF2, 0xF4, 0xF5, 0xFA, 0xFF}
"""SLOAD, SSTORE, TLOAD, TSTORE, CREATE, CALL, CALLCODE, DELEGATECALL, CREATE2, STATICCALL, SELFDESTRUCT."""


def test_folder(
    built: Artifact,
    kind: tuple[str, bool, bool],
    tmp_path: Path,
    toolchain: ml2sc.Toolchain,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_folder(built, tmp_path)
    _as_asked(monkeypatch, kind)
    again = load_folder(tmp_path)
    assert again.codes == built.codes
    assert compare_bytecode(again, toolchain).compared
    (file,) = tmp_path.glob("*.code1.bin")
    file.write_text(file.read_text()[:-3] + "00\n")
    with pytest.raises(ArtifactError, match="was edited"):
        load_folder(tmp_path)
