"""The gas stated before a call against receipts: random models, and shapes nobody looked at while writing the model.

`ML2SC_PREDICT=300:400 python -m pytest -n 2 tests/gas/test_prediction.py` takes those random models instead of the
few of every run. What compilers fold away, as a layer that always gives the same, is not predicted (docs/gas.md).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from support.contracts import packed_and_wads
from support.networks import dense
from support.prediction import check_stated
from support.random_models import Limits, seeded_case

import ml2sc
from ml2sc.backends.base import Artifact
from ml2sc.backends.vyper import backend as vyper
from ml2sc.runtime.chain import EmbeddedChain, RevmChain, revm_is_installed
from ml2sc.runtime.contract import Contract
from ml2sc.runtime.deploy import deploy

DEPLOYMENT = 0.005
"""How far a deployment may be from what is stated once the code is known."""


def check(artifact: Artifact, packed: Sequence[bytes], toolchain: ml2sc.Toolchain) -> float:
    """Compare what is predicted for each packed input, and at worst, with receipts; return the mean of these."""
    built = ml2sc.build(artifact, toolchain)
    chain = RevmChain() if revm_is_installed() else EmbeddedChain()
    deployment = deploy(built, chain)
    contract = Contract(chain, deployment.address, built.abi)
    facts = built.manifest["gas"]
    receipts = [check_stated(contract, built, x) for x in packed]
    assert facts["worst"] >= max(receipts)
    assert facts["code"] == "compiled"
    assert facts["deploy"] == pytest.approx(deployment.gas_deploy, rel=DEPLOYMENT)
    assert facts["weights"] == pytest.approx(deployment.gas_weights, rel=DEPLOYMENT if built.updatable else 0)
    return sum(receipts) / len(receipts)


@pytest.mark.parametrize("target", ["solidity", "vyper"])
@pytest.mark.parametrize("seed", range(*map(int, os.environ.get("ML2SC_PREDICT", "100:103").split(":"))))
def test_random_models(seed: int, target: str, toolchain: ml2sc.Toolchain) -> None:
    case = seeded_case(seed, Limits(depth=4, width=8, widest=40))
    artifact = ml2sc.compile(case.model, calibration=case.calibration, **{**case.options, "target": target})
    check(artifact, packed_and_wads(artifact, case.samples[:2])[0], toolchain)


@pytest.mark.parametrize(
    ("seed", "target"),
    [
        (147, "solidity"),  # literals that come again in long straight code, for few calls
        (248, "solidity"),  # words that several products take apart, beside six sums
        (164, "vyper"),  # 64 results, which are copied to answer with
        (186, "vyper"),  # a word of weights in each round
    ],
)
def test_what_was_stated_wrong(seed: int, target: str, toolchain: ml2sc.Toolchain) -> None:
    test_random_models(seed, target, toolchain)


def test_literals_in_loops(toolchain: ml2sc.Toolchain) -> None:
    """For 100 inferences solc would compute a convolution's masks in each round, for 3 % more gas."""
    case = seeded_case(103, Limits(depth=4, width=8, widest=40))
    artifact = ml2sc.compile(case.model, calibration=case.calibration, **{**case.options, "target": "solidity"})
    assert artifact.manifest["options"]["optimize"] == "balanced"
    assert artifact.compiler_input["settings"]["optimizer"]["runs"] > 500
    check(artifact, packed_and_wads(artifact, case.samples[:2])[0], toolchain)


@pytest.mark.parametrize(
    ("target", "widths", "options"),
    [
        pytest.param("solidity", (90, 50, 3), {"precision": "int8"}, marks=pytest.mark.heavy),
        pytest.param("solidity", (150, 21, 7), {"precision": "w4a8"}, marks=pytest.mark.heavy),
        ("solidity", (8, 128, 3), {"precision": "int8"}),
        pytest.param("solidity", (45, 30, 4), {"precision": "q15.16"}, marks=pytest.mark.heavy),
        pytest.param("solidity", (70, 44, 5), {"precision": "int8", "optimize": "deploy"}, marks=pytest.mark.heavy),
        ("solidity", (130, 12, 20, 2), {"precision": "w4a8", "optimize": "balanced"}),
        pytest.param("solidity", (75, 23, 6), {"precision": "int8", "updatable": True}, marks=pytest.mark.heavy),
        pytest.param("vyper", (90, 50, 3), {"precision": "int8"}, marks=pytest.mark.heavy),
        pytest.param("vyper", (45, 30, 4), {"precision": "q15.16"}, marks=pytest.mark.heavy),
        ("vyper", (64, 72, 2), {"precision": "int8"}),  # products by literals, of several inputs between two jumps
        pytest.param("vyper", (70, 44, 5), {"precision": "int8", "optimize": "deploy"}, marks=pytest.mark.heavy),
        pytest.param("vyper", (75, 23, 6), {"precision": "int8", "updatable": True}, marks=pytest.mark.heavy),
    ],
)
def test_unseen_shapes(
    target: str, widths: tuple[int, ...], options: dict[str, Any], toolchain: ml2sc.Toolchain
) -> None:
    x = np.maximum(np.random.default_rng(1).normal(size=(8, widths[0])), 0)
    artifact = ml2sc.compile(dense(*widths), target, calibration={"x": x[2:]}, **options)
    check(artifact, packed_and_wads(artifact, [{"x": row[None]} for row in x[:2]])[0], toolchain)


@pytest.mark.parametrize("target", ["solidity", "vyper"])
def test_loops_over_single_elements(target: str, toolchain: ml2sc.Toolchain) -> None:
    """Several words of memory at places that a round computes, and loops that carry several places."""
    model = onnx.parser.parse_model(
        """<ir_version: 9, opset_import: ["" : 18]> net (float[1,4,32] image) => (float[?] y) {
            a = Conv<strides = [2], pads = [2,2]>(image, w)
            b = LeakyRelu<alpha = 0.1>(a)
            c = AveragePool<kernel_shape = [3], strides = [2], pads = [1,1], count_include_pad = 0>(b)
            y = Flatten(c)
        }"""
    )
    taps = np.random.default_rng(1).normal(size=(4, 4, 5)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(taps, "w"))
    x = np.random.default_rng(2).random(size=(8, 1, 4, 32))
    artifact = ml2sc.compile(model, target, precision="int8", calibration={"image": x[2:, 0]})
    check(artifact, packed_and_wads(artifact, [{"image": image} for image in x[:2]])[0], toolchain)


@pytest.mark.parametrize("target", ["solidity", "vyper"])
def test_tables(target: str, toolchain: ml2sc.Toolchain, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function of 8 bits, 64 values of it: what it costs more than ReLU is in docs/gas.md.

    Venom does not compile the Tanh, so that the two would be compared across code generators.
    """
    monkeypatch.setattr(vyper, "PIPELINES", {"classic": False})
    x = np.random.default_rng(1).normal(size=(8, 8))
    measured = {}
    for activation in ("Relu", "Tanh"):
        model = dense(8, 64, 2, activation=activation)
        artifact = ml2sc.compile(model, target, precision="int8", calibration={"x": x[2:]})
        packed = packed_and_wads(artifact, [{"x": row[None]} for row in x[:2]])[0]
        measured[activation] = check(artifact, packed, toolchain)
    assert (measured["Tanh"] - measured["Relu"]) / 64 < {"solidity": 70, "vyper": 170}[target]
