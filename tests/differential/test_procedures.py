"""Equal layers that are one procedure, on an EVM: the answers are the interpreter's, the gas is what was predicted."""

from __future__ import annotations

import numpy as np
import pytest
from support.contracts import check_contract, deployed, packed_and_wads
from support.networks import dense
from support.prediction import check_stated

import ml2sc
from ml2sc.ir.program import calls_of


@pytest.mark.parametrize("target", ["solidity", "vyper"])
def test_equal_layers(target: str, toolchain: ml2sc.Toolchain) -> None:
    model = dense(8, 8, 8, 8, 8, 3, activation="Tanh")
    options = {"precision": "q8.8", "weights": "data", "optimize": "deploy"}
    artifact = ml2sc.compile(model, target, input_ranges=((-1.0, 1.0),), **options)
    assert artifact.program is not None
    calls = [call.procedure for section in artifact.program.layers for call in calls_of(section.body)]
    assert len(calls) > len(artifact.program.procedures) > 1
    assert {layer.get("procedure") for layer in artifact.manifest["plan"]} >= {*calls}
    rng = np.random.default_rng(0)
    samples = [{"x": rng.uniform(-1, 1, (1, 8))} for _ in range(3)]
    built = ml2sc.build(artifact, toolchain)
    contract = deployed(built, toolchain)
    packed, wads = packed_and_wads(built, samples)
    check_contract(contract, built, packed, wads)
    for x in packed:
        check_stated(contract, built, x)
