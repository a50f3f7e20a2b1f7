"""Steps, bools, labels as numbers and inputs of integers on both targets: contract == interpreter, within the bound."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from support import heavy
from support.checking import check_interpreters, check_outputs, compiled
from support.contracts import check_contract, deployed, packed_and_wads

import ml2sc
from ml2sc.runtime.check import check

W = "float[4,3] w = {1, -2, 0.5, 0.25, 1.5, -1, 2, 0, -0.75, 0.1, 0.2, 0.3}, float[3] b = {0.5, -0.25, 1}"

MODELS = {
    "hard steps between layers": (
        "float[1,4] x",
        "float[1,4] y",
        "h = Gemm(x, w, b) g = GreaterOrEqual(h, z) s = Cast<to=1>(g) t = Transpose(w) y = MatMul(s, t)",
    ),
    "steps at the end": (
        "float[1,4] x",
        "float[1,3] y",
        "h = Gemm(x, w, b) g = GreaterOrEqual(h, z) y = Cast<to=1>(g)",
    ),
    "a bool": ("float[1,4] x", "bool[1] y", "h = MatMul(x, v) y = GreaterOrEqual(h, z)"),
    "a bool and its score": ("float[1,4] x", "bool[1] y, float[1] h", "h = MatMul(x, v) y = GreaterOrEqual(h, z)"),
    "a bool cast to an integer": (
        "float[1,4] x",
        "int64[1] y",
        "h = MatMul(x, v) g = GreaterOrEqual(h, z) y = Cast<to=7>(g)",
    ),
    "a label cast to float": (
        "float[1,4] x",
        "float[1] y",
        "h = Gemm(x, w, b) i = ArgMax<axis=1, keepdims=0>(h) y = Cast<to=1>(i)",
    ),
    "a label as a number": (
        "float[1,4] x",
        "float[1,3] y",
        "h = Gemm(x, w, b) i = ArgMax<axis=1>(h) n = Cast<to=1>(i) y = Sum(h, n, b)",
    ),
    "bytes that are dequantised": (
        "uint8[1,4] x",
        "float[1,3] y",
        "r = DequantizeLinear(x, scale, zero) y = Gemm(r, w, b)",
    ),
    "signed bytes that are cast": (
        "int8[1,4] x",
        "float[1,3] y",
        "r = Cast<to=1>(x) s = Mul(r, scale) y = Gemm(s, w, b)",
    ),
}


def model_of(name: str) -> onnx.ModelProto:
    inputs, outputs, body = MODELS[name]
    constants = f"{W}, float z = {{0}}, float[4] v = {{0.5, -2, 3, 1}}, float scale = {{0.05}}, uint8 zero = {{128}}"
    text = f'<ir_version: 9, opset_import: ["" : 20]> tiny ({inputs}) => ({outputs}) <{constants}> {{ {body} }}'
    model = onnx.parser.parse_model(text)
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.mark.parametrize(
    ("name", "target"),
    heavy.unless(
        lambda case: case[1] == ("solidity", "vyper")[list(MODELS).index(case[0]) % 2],
        [(name, target) for name in MODELS for target in ("solidity", "vyper")],
    ),
)
def test_on_the_evm(name: str, target: str, toolchain: ml2sc.Toolchain) -> None:
    integers = "int8[" in MODELS[name][0]
    ranges = {} if integers else {"input_ranges": ((-2.0, 2.0),)}
    artifact = compiled(model_of(name), precision="int8", target=target, **ranges)
    assert np.isfinite(artifact.manifest["error_bound"])
    rng = np.random.default_rng(3)
    lo, hi = artifact.manifest["inputs"][0]["range"]
    drawn = [rng.uniform(lo, hi, (1, 4)).astype(np.float32) for _ in range(5)]
    samples = [{"x": np.rint(x) if integers else x.astype(np.float64)} for x in drawn]
    packed, wads = packed_and_wads(artifact, samples)
    check_interpreters(artifact, samples, wads)
    contract = deployed(ml2sc.build(artifact, toolchain), toolchain)
    check_contract(contract, artifact, packed, [*wads, [2**255 - 1] * 4, [-(2**255)] * 4])
    for sample, values in zip(samples, wads, strict=True):
        check_outputs(artifact, sample, contract.predict(values))


@pytest.mark.parametrize(
    "name", ["a bool", "a bool and its score", "a label cast to float", "signed bytes that are cast"]
)
def test_decisions_are_onnxruntimes(name: str, toolchain: ml2sc.Toolchain) -> None:
    """At a bound of 1e-6, which a jump of the decision alone does not stand in the way of."""
    ranges = {} if "int8[" in MODELS[name][0] else {"input_ranges": ((-2.0, 2.0),)}
    artifact = ml2sc.compile(model_of(name), **ranges)
    assert artifact.manifest["error_bound"] <= 1e-6
    report = check(artifact, toolchain=toolchain, limit=20)
    assert report.ok
    assert report.decision_agreement == 1.0


def test_bytes_go_into_the_contract_as_they_are() -> None:
    for precision in ("int8", "w4a4", "auto"):
        artifact = ml2sc.compile(model_of("bytes that are dequantised"), precision=precision)
        assert artifact.manifest["inputs"][0] | {"interval": None} == {
            "name": "x",
            "shape": [1, 4],
            "format": "uint8",
            "scale": "1",
            "zero_point": 0,
            "interval": None,
            "range": [0.0, 255.0],
        }
