"""Comparisons, answers, reductions, rounding and norms on both targets: contract == interpreter, within the bound."""

from __future__ import annotations

import os

import numpy as np
import onnx
import pytest
from support import heavy
from support.checking import check_bounds, check_interpreters, check_outputs, compiled
from support.contracts import check_contract, deployed, packed_and_wads

import ml2sc

SWEEP = bool(os.environ.get("ML2SC_SWEEP"))
CONSTANTS = (
    "float[4] c = {0.5, -0.25, 1, 0}, float z = {0}, int64[1] one = {1}, int64[2] square = {2, 2}, int64[1] k = {2}, "
    "float[2,4] w = {1, -2, 0.5, 0.25, 1.5, -1, 2, 0}"
)
MODELS = {
    "comparisons": (
        "float[1,4] x",
        "float[1,4] a, float[1,4] b, float[1,4] d, float[1,4] e, float[1,4] f, float[1,4] g, float[1,4] h",
        (
            "p = Greater(x, c) q = Less(x, c) r = Not(q) s = And(p, r) t = Or(p, q) u = Xor(t, r) v = Equal(x, c) "
            "m = LessOrEqual(x, z) n = GreaterOrEqual(c, x) a = Cast<to=1>(p) b = Cast<to=1>(s) d = Cast<to=1>(u) "
            "e = Cast<to=1>(v) f = Where(m, x, c) l = Cast<to=1>(n) g = Where(r, l, z) h = Sign(x)"
        ),
    ),
    "comparisons of two activations": (
        "float[1,4] x, float[1,4] y",
        "float[1,4] a, float[1,4] b, float[1,4] d",
        "m = Mul(x, c) p = Greater(m, y) q = Equal(x, y) a = Cast<to=1>(p) b = Cast<to=1>(q) d = Where(p, m, y)",
    ),
    "reductions": (
        "float[1,4] x",
        (
            "float[2] a, float[1,2] b, float[1] d, float e, float[2,1] f, float[1] g, float[1] h, float[1,4] i, "
            "float[1,1] j"
        ),
        (
            "s = Reshape(x, square) a = ReduceSum<keepdims=0>(s, one) b = ReduceMean(s, nought) "
            "d = ReduceMax<keepdims=0>(x, one) e = ReduceMin<keepdims=0>(s) f = ReduceProd(s, one) "
            "g = ReduceSumSquare<keepdims=0>(x, one) h = ReduceL1<keepdims=0>(x, one) "
            "o = ReduceLogSumExp(x, one) i = Sub(x, o) j = ReduceL2(x, one)"
        ),
    ),
    "long reductions": (
        "float[1,4] x",
        "float[10] a, float[10] b, float[12,1] d",
        (
            "t = Sub(x, many) n = Reshape(t, rows) a = ReduceSum<keepdims=0>(n, nought) "
            "b = ReduceMin<keepdims=0>(n, nought) u = Transpose(n) r = Reshape(u, columns) d = ReduceMax(r, one)"
        ),
    ),
    "rounding": (
        "float[1,4] x",
        "float[1,4] a, float[1,4] b, float[1,4] d, float[1,4] e",
        "m = Mul(x, c) a = Floor(x) b = Ceil(m) d = Round(x) t = Cast<to=7>(x) e = Cast<to=1>(t)",
    ),
    "norms": (
        "float[1,4] x",
        "float[1,4] a, float[1,4] b, float[2,2] d",
        (
            "a = LpNormalization<p=1>(x) b = LpNormalization<p=2>(x) y = Abs(x) s = Reshape(y, square) "
            'd = ai.onnx.ml.Normalizer<norm = "MAX">(s)'
        ),
    ),
    "the first of several": (
        "float[1,4] x",
        "float[1,2] a, float[1,2] b, float[1,2] d, int64[1] i",
        (
            "v, n = TopK(x, k) u, m = TopK<largest=0>(x, k) a = Identity(v) b = Cast<to=1>(m) "
            "l = Gather(c, n) d = Identity(l) i = ArgMin<axis=1, keepdims=0>(x)"
        ),
    ),
}
PRECISIONS = ["int8", "w3a5", "w16a16", "q8.20"] if SWEEP else ["int8", "q8.20"]


def model_of(name: str) -> onnx.ModelProto:
    inputs, outputs, body = MODELS[name]
    many = ", ".join(f"{v:.2f}" for v in np.linspace(-1, 1, 30))
    constants = (
        f"{CONSTANTS}, int64[1] nought = {{0}}, float[30,1] many = {{{many}}}, int64[2] rows = {{12, 10}}, "
        "int64[2] columns = {12, 10}"
    )
    text = (
        f'<ir_version: 9, opset_import: ["" : 20, "ai.onnx.ml" : 3]> tiny ({inputs}) => ({outputs}) <{constants}> '
        f"{{ {body} }}"
    )
    model = onnx.parser.parse_model(text)
    onnx.checker.check_model(model, full_check=True)
    return model


def samples_of(model: onnx.ModelProto) -> list[dict[str, np.ndarray]]:
    """Return rows, some of them on the thresholds."""
    rng = np.random.default_rng(3)
    names = [i.name for i in model.graph.input]
    rows = [{n: rng.uniform(-2, 2, (1, 4)).astype(np.float32).astype(np.float64) for n in names} for _ in range(4)]
    edges = [np.array([[0.5, -0.25, 1.0, 0.0]]), np.array([[-1.0, 2.0, 0.0, 1.0]]), np.zeros((1, 4))]
    return [*rows, *(dict.fromkeys(names, edge) for edge in edges)]


@pytest.mark.parametrize(("name", "precision"), heavy.in_turns(2, MODELS, PRECISIONS))
def test_without_a_chain(name: str, precision: str) -> None:
    model = model_of(name)
    samples = samples_of(model)
    options = {"precision": precision, "input_ranges": ((-2.0, 2.0),) * len(samples[0])}
    artifact = compiled(model, **options)
    check_interpreters(artifact, samples, [])
    check_bounds(artifact, 2, samples)


VYPER = list(MODELS) if SWEEP else ["comparisons", "reductions"]
"""Vyper's compiler takes long: the others only where ML2SC_SWEEP asks for them."""


@pytest.mark.parametrize(("name", "target"), [*((n, "solidity") for n in MODELS), *((n, "vyper") for n in VYPER)])
def test_on_the_evm(name: str, target: str, toolchain: ml2sc.Toolchain) -> None:
    model = model_of(name)
    samples = samples_of(model)
    ranges = ((-2.0, 2.0),) * len(samples[0])
    artifact = compiled(model, precision="w16a16", target=target, input_ranges=ranges)
    packed, wads = packed_and_wads(artifact, samples)
    contract = deployed(artifact, toolchain)
    check_contract(contract, artifact, packed, [*wads, [2**255 - 1] * len(wads[0]), [-(2**255)] * len(wads[0])])
    for sample, values in zip(samples, wads, strict=True):
        check_outputs(artifact, sample, contract.predict(values))
