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
from ml2sc.backends.solidity.backend import FEWEST_RUNS, FORWARDS, HOISTS, MOVES, OPTIMIZER, STEPS
from ml2sc.runtime.chain import EmbeddedChain, RevmChain, revm_is_installed
from ml2sc.runtime.contract import Contract
from ml2sc.runtime.deploy import deploy


def branches() -> onnx.ModelProto:
    """Return six layers side by side, then six that each read one of them: some 20 words wait."""
    rng = np.random.default_rng(0)
    nodes, weights = [], {}
    for i in range(6):
        weights |= {f"w{i}": rng.normal(size=(3, 10)), f"v{i}": rng.normal(size=(10, 3))}
        nodes += [helper.make_node("MatMul", ["x", f"w{i}"], [f"h{i}"]), helper.make_node("Relu", [f"h{i}"], [f"r{i}"])]
    nodes += [helper.make_node("MatMul", [f"r{i}", f"v{i}"], [f"y{i}"]) for i in range(6)]
    graph = helper.make_graph(
        nodes,
        "branches",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor_value_info(f"y{i}", TensorProto.FLOAT, [1, 3]) for i in range(6)],
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


@pytest.mark.parametrize(
    ("steps", "model", "options", "share"),
    [
        pytest.param(
            MOVES, dense(65, 15, 2), {"precision": "q7.24", "optimize": "deploy"}, 0.96, marks=pytest.mark.heavy
        ),
        (FORWARDS, branches(), {"precision": "q20.30"}, 0.96),
        pytest.param(
            HOISTS, dense(31, 55, 1), {"precision": "int8", "optimize": "deploy"}, 0.98, marks=pytest.mark.heavy
        ),
        (FORWARDS + HOISTS, dense(79, 11, 3), {"precision": "w8a16", "optimize": "balanced"}, 0.98),
    ],
    ids=["crowded", "forwarded", "hoisted", "repeated and hoisted"],
)
def test_steps_that_cost_gas_are_left_out(
    steps: str,
    model: onnx.ModelProto,
    options: dict[str, str],
    share: float,
    toolchain: ml2sc.Toolchain,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # the planner, which knows what solc makes of such code, would find another
    monkeypatch.setattr("ml2sc.compiler.generators_of", lambda target, form: ())
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(0).normal(size=(12, *shape[1:]))
    artifact = ml2sc.compile(model, calibration={"x": x[1:]}, **options)
    settings = json.loads(json.dumps(artifact.compiler_input))
    done = settings["settings"]["optimizer"]["details"]["yulDetails"]["optimizerSteps"]
    assert {*STEPS} - {*done} == {*steps}
    settings["settings"]["optimizer"] = OPTIMIZER
    packed = packed_and_wads(artifact, [{"x": x[:1]}])[0][0]
    assert gas(artifact, toolchain, packed) < share * gas(replace(artifact, compiler_input=settings), toolchain, packed)


def test_solc_weighs_code_against_the_calls_asked_for(toolchain: ml2sc.Toolchain) -> None:
    """For few calls it computes long literals of few digits instead of holding them, but for those that loops use."""
    model = onnx.parser.parse_model(
        """<ir_version: 9, opset_import: ["" : 18]> turned (float[16,16] x) => (float[16,16] y) {
            t = Transpose<perm = [1, 0]>(x)
            y = Relu(t)
        }"""
    )
    runs, deployed = [], []
    for asked in ({}, {"optimize": "balanced"}, {"optimize": "deploy"}, {"expected_calls": 9_999}):
        artifact = ml2sc.compile(model, "solidity", "int8", input_ranges=((-1.0, 1.0),), **asked)
        built = ml2sc.build(artifact, toolchain)
        runs.append(artifact.compiler_input["settings"]["optimizer"]["runs"])
        deployed.append(built.manifest["gas"]["deploy"])
    assert runs == [1_000_000, 100 * 256, 256, 1_000_000]  # all long literals are in a loop of 256 rounds
    assert max(deployed) <= 270_000
    assert deployed[2] < deployed[1] == deployed[3]

    straight = ml2sc.compile(dense(4, 3), "solidity", "int8", input_ranges=((-1.0, 1.0),), optimize="deploy")
    assert straight.compiler_input["settings"]["optimizer"]["runs"] == FEWEST_RUNS
