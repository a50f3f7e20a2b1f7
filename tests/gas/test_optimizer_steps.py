"""Steps of solc's optimiser are left out where they cost gas (backends/solidity/backend.py)."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.contracts import packed_and_wads
from support.networks import dense
from support.prediction import check_stated

import ml2sc
from ml2sc.backends.base import Artifact
from ml2sc.backends.solidity.backend import FORWARDS, MOVES, OPTIMIZER
from ml2sc.backends.solidity.stack import crowded, forwarded
from ml2sc.runtime.chain import EmbeddedChain, RevmChain, revm_is_installed
from ml2sc.runtime.contract import Contract
from ml2sc.runtime.deploy import deploy


def rows(rng: np.random.Generator) -> onnx.ModelProto:
    """Return two layers over five rows, each of which has code of its own: 25 words wait for the second layer."""
    weights = {"w": rng.normal(size=(3, 10)), "v": rng.normal(size=(10, 3))}
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"]),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("MatMul", ["r", "v"], ["y"]),
        ],
        "rows",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 5, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5, 3])],
        [numpy_helper.from_array(a.astype(np.float32), name) for name, a in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def gas(artifact: Artifact, toolchain: ml2sc.Toolchain, packed: bytes) -> int:
    """Return the receipt's gas, which must be as stated if the contract is compiled with its own settings."""
    built = ml2sc.build(artifact, toolchain)
    chain = RevmChain() if revm_is_installed() else EmbeddedChain()
    contract = Contract(chain, deploy(built, chain).address, built.abi)
    own = artifact.compiler_input["settings"]["optimizer"] != OPTIMIZER
    return check_stated(contract, built, packed) if own else contract.gas_packed(packed)


@pytest.mark.parametrize("step", [MOVES, FORWARDS])
def test_a_step_that_costs_gas_is_left_out(step: str, toolchain: ml2sc.Toolchain) -> None:
    rng = np.random.default_rng(0)
    if step == MOVES:
        model, shape = dense(79, 11, 3), (12, 79)
        options = {"precision": "w8a16", "optimize": "balanced"}
    else:
        model, shape = rows(rng), (12, 5, 3)
        options = {"precision": "q20.30"}
    x = rng.normal(size=shape)
    artifact = ml2sc.compile(model, calibration={"x": x[1:]}, **options)
    assert artifact.program is not None
    assert (crowded(artifact.program), forwarded(artifact.program)) == (step == MOVES, step == FORWARDS)
    settings = json.loads(json.dumps(artifact.compiler_input))
    assert step not in settings["settings"]["optimizer"]["details"]["yulDetails"]["optimizerSteps"]
    settings["settings"]["optimizer"] = OPTIMIZER
    packed = packed_and_wads(artifact, [{"x": x[:1]}])[0][0]
    assert gas(artifact, toolchain, packed) < 0.96 * gas(replace(artifact, compiler_input=settings), toolchain, packed)
