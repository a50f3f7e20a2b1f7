"""The stated bounds against exact rational arithmetic, and the cases in which they or the integers once were wrong."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from support import heavy
from support.checking import check_bounds, check_interpreters, compiled

import ml2sc
from ml2sc.errors import RangeError, UnsupportedModelError
from ml2sc.ir import fixmath, wad
from ml2sc.ir.types import round_half_up

Rationals = list[Fraction]
PRECISIONS = ["int8", "w2a2", "w8a16", "w32a32", "q8.8", "q31.32", "q20.80", "q8.110", "auto"]


def model(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : 18]> {text}')


@st.composite
def networks(draw: st.DrawFn) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Draw weights and biases of one to three layers."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=2, max_size=4))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    size = draw(st.sampled_from([1.0, 100.0, 1e-5, 1e6]))
    weights = [(size * rng.normal(size=s)).astype(np.float32) for s in itertools.pairwise(sizes)]
    return weights, [(size * rng.normal(size=w.shape[1])).astype(np.float32) for w in weights]


def as_onnx(weights: list[np.ndarray], biases: list[np.ndarray]) -> onnx.ModelProto:
    nodes, constants, last = [], [], "x"
    for i, (w, b) in enumerate(zip(weights, biases, strict=True)):
        constants += [numpy_helper.from_array(w, f"w{i}"), numpy_helper.from_array(b, f"b{i}")]
        nodes.append(helper.make_node("Gemm", [last, f"w{i}", f"b{i}"], [last := f"h{i}"]))
        if i + 1 < len(weights):
            nodes.append(helper.make_node("LeakyRelu", [last], [last := f"a{i}"], alpha=0.25))
    ends = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, k])
        for n, k in (("x", len(weights[0])), (last, weights[-1].shape[1]))
    ]
    graph = helper.make_graph(nodes, "exact", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def exactly(weights: list[np.ndarray], biases: list[np.ndarray], x: Rationals) -> Rationals:
    for i, (w, b) in enumerate(zip(weights, biases, strict=True)):
        x = [Fraction(float(b[n])) + sum(v * Fraction(float(w[k, n])) for k, v in enumerate(x)) for n in range(len(b))]
        if i + 1 < len(weights):
            x = [v if v >= 0 else v / 4 for v in x]
    return x


@settings(max_examples=30, derandomize=True, database=None)
@given(networks(), st.sampled_from(PRECISIONS), st.sampled_from([(-1, 1), (0, 255), (-65536, 65536)]), st.data())
def test_the_bound_holds_in_exact_arithmetic(
    network: tuple[list[np.ndarray], list[np.ndarray]], precision: str, ends: tuple[int, int], data: st.DataObject
) -> None:
    ranges = ((float(ends[0]), float(ends[1])),)
    try:
        graph = ml2sc.quantize(ml2sc.lift(as_onnx(*network), precision=precision, input_ranges=ranges)).graph
    except RangeError:
        return
    bound = Fraction(wad.output_error_bound(graph)) * (1 + Fraction(1, 10**9))  # a float64 sum of float64 bounds
    size = len(network[0][0])
    for _ in range(4):
        x = data.draw(st.lists(st.fractions(*ends), min_size=size, max_size=size))
        want = exactly(*network, x)
        from_wad = wad.inputs_from_wad(graph, [round_half_up(v * 10**18) for v in x])
        format_ = graph.tensor("x").format
        nearest = {"x": np.array([[format_.quantize_one(v) for v in x]], dtype=object)}
        for q in (from_wad, nearest):
            got = wad.run_graph(graph, q).outputs
            assert max(abs(Fraction(g, 10**18) - w) for g, w in zip(got, want, strict=True)) <= bound


FINE = (  # weights so small beside the biases that an accumulator has far more bits than they need
    "<float[2,5] w = {1e-5, 2e-5, -3e-5, 1e-5, 1e-5, 5e-5, 1e-5, 0, -1e-5, 2e-5}, float[5] b = {1, -1, 0.5, 2, -3}>"
)
ONCE_WRONG = {
    "weights of one sign, in a format wider than int64": (
        "t (float[1,2] x) => (float[1,2] y) <float[2,2] w = {-1, -2, -0.5, -3}> { y = MatMul(x, w) }",
        {"precision": "q40.80"},
    ),
    "weights that are all zero, in a format wider than int64": (
        "t (float[1,2] x) => (float[1,2] y) <float[2,2] w = {0, 0, 0, 0}> { y = MatMul(x, w) }",
        {"precision": "q40.80"},
    ),
    "tensors without axes": (
        (
            "t (float[1] x) => (float y) <float c = {0.5}, int64[0] s = {}> "
            "{ a = Reshape(x, s) r = Relu(a) m = Mul(r, c) l = LeakyRelu<alpha=0.1>(m) y = Sigmoid(l) }"
        ),
        {"precision": "q40.80"},
    ),
    "a join of an activation and something wider": (
        (
            "t (float[1,2] x) => (float[1,5] y) <float[1,1] c = {0.001}> "
            "{ r = Relu(x) m = Mul(x, x) y = Concat<axis=1>(c, r, m) }"
        ),
        {"precision": "w4a4"},
    ),
    "a lower bound above what the format of an input holds": (
        "t (float[1,2] x) => (float[1,2] y) <float lo = {5}> { y = Clip(x, lo) }",
        {"precision": "int8"},
    ),
    "an accumulator of fewer bits than its shift": (
        (
            "t (float[1,2] x) => (float[1,5] y) <float[2,4] w = {0, 0, 0, 0, 0, 0, 0, 0}, float[4,5] v = "
            "{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}> { h = MatMul(x, w) y = MatMul(h, v) }"
        ),
        {"precision": "q1.1"},
    ),
    "a sigmoid of integers of 150 bits": (
        f"t (float[1,2] x) => (float[1,5] y) {FINE} {{ h = Gemm(x, w, b) m = Mul(h, h) y = Sigmoid(m) }}",
        {"precision": "w32a32"},
    ),
    "a softmax of integers of 150 bits": (
        f"t (float[1,2] x) => (float[1,5] y) {FINE} {{ h = Gemm(x, w, b) m = Mul(h, h) y = Softmax(m) }}",
        {"precision": "w32a32"},
    ),
    "logarithms of probabilities of scores of 150 bits": (
        f"t (float[1,2] x) => (float[1,5] y) {FINE} {{ h = Gemm(x, w, b) m = Mul(h, h) y = LogSoftmax(m) }}",
        {"precision": "w32a32"},
    ),
    "bringing integers of 190 bits to another scale": (
        (
            f"t (float[1,2] x) => (float[1,7] y) {FINE.replace('e-5', 'e-10')} {{ h = LeakyRelu<alpha=0.3>(x) "
            "i = LeakyRelu<alpha=0.3>(h) j = LeakyRelu<alpha=0.3>(i) k = LeakyRelu<alpha=0.3>(j) "
            "l = LeakyRelu<alpha=0.3>(k) g = Gemm(x, w, b) m = LeakyRelu<alpha=0.3>(g) n = LeakyRelu<alpha=0.3>(m) "
            "o = LeakyRelu<alpha=0.3>(n) p = LeakyRelu<alpha=0.3>(o) y = Concat<axis=1>(l, p) }"
        ),
        {"precision": "w8a29"},
    ),
    "scores that folding has moved to another tensor": (
        (
            "t (float[1,2] x) => (int64[1] y) <float[2,2] w = {1, 2, -3, 1}, float[2] c = {1, 2}, int64[2] s = {1, 2}> "
            "{ h = MatMul(x, w) f = Flatten(h) a = Add(c, f) r = Reshape(a, s) y = ArgMax<axis=1, keepdims=0>(r) }"
        ),
        {"precision": "int8"},
    ),
    "a scale that is no float64": (
        (
            "t (double[1,2] x) => (double[1,2] y) "
            "<double[1] a = {1e-250}> { m = Mul(x, a) n = Mul(m, a) o = Mul(n, a) y = LeakyRelu<alpha=0.1>(o) }"
        ),
        {"precision": "int8", "level": 0},
    ),
}


@pytest.mark.parametrize("name", ONCE_WRONG)
def test_what_once_was_wrong(name: str) -> None:
    text, options = ONCE_WRONG[name]
    proto = model(text)
    shape = [d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim]
    rng = np.random.default_rng(0)
    samples = [
        {"x": v} for v in (rng.uniform(-1, 1, shape), np.full(shape, -1.0), np.full(shape, 1.0), np.zeros(shape))
    ]
    artifact = compiled(proto, input_ranges=((-1.0, 1.0),), **options)
    check_interpreters(artifact, samples, [[2**255 - 1] * int(np.prod(shape)), [-(2**255)] * int(np.prod(shape))])
    check_bounds(artifact, options.get("level", 2), samples)


JOINS = {
    "Add": "{y} = Add({x}, {m})",
    "Concat": "c{y} = Concat<axis = 1>({x}, {m}) {y} = Slice(c{y}, one, five, one)",
}


@pytest.mark.parametrize(
    ("precision", "join"),
    heavy.unless({("int8", "Add"), ("w8a16", "Concat")}.__contains__, itertools.product(("int8", "w8a16"), JOINS)),
)
def test_deep_residual_networks_stay_in_a_word(precision: str, join: str) -> None:
    """Each block's sum has a finer scale than either operand: after sixteen no word would hold it."""
    body, x = "", "x"
    for y in (f"h{i}" for i in range(16)):
        body += f"g{y} = MatMul({x}, w) m{y} = Relu(g{y}) {JOINS[join].format(x=x, y=y, m=f'm{y}')} "
        x = y
    proto = model(
        f"t (float[1,4] x) => (float[1,4] {x}) <float[4,4] w = {{0.1, -0.2, 0, 0.1, 0, 0.15, -0.1, 0.1, "
        f"0.3, 0, 0, -0.1, 0.05, 0, 0.1, 0.2}}, int64[1] one = {{1}}, int64[1] five = {{5}}> {{ {body} }}"
    )
    rng = np.random.default_rng(0)
    samples = [{"x": v} for v in (*rng.uniform(-1, 1, (3, 1, 4)), -np.ones((1, 4)), np.ones((1, 4)))]
    artifact = compiled(proto, precision=precision, input_ranges=((-1.0, 1.0),))
    check_interpreters(artifact, samples, [])
    check_bounds(artifact, 2, samples)


@pytest.mark.parametrize(
    "scale", [Fraction(1, 1 << 240), Fraction(1, 3), Fraction(64), Fraction(1000), Fraction(1 << 160)]
)
@pytest.mark.parametrize("x_bits", [1, 100, 250])
def test_the_argument_of_exp_stays_in_a_word(scale: Fraction, x_bits: int) -> None:
    x = fixmath.InputScale(**fixmath.input_attrs(scale, x_bits))
    largest = min((1 << x_bits) - 1, x.limit)
    assert largest * x.multiplier + (1 << x.shift) < 1 << 255
    assert x.apply(largest) * fixmath.INV_LN2 + (1 << 192) < 1 << 255
    exact = min(largest * min(scale, Fraction(fixmath.LIMIT)), Fraction(2 * fixmath.LIMIT))
    assert abs(Fraction(x.apply(largest), fixmath.ONE) - exact) <= Fraction(x.error(scale)) * (1 + Fraction(1, 10**9))


def test_names_decide_nothing() -> None:
    text = "t (float[1,2] x) => (float[1,2] y) <float[1] NAME = {1e3}> { y = Mul(x, NAME) }"
    results: list[Any] = []
    for name in ("scale", '"scale.weight"'):
        artifact = compiled(model(text.replace("NAME", name)), precision="int8", input_ranges=((-1.0, 1.0),))
        results.append(artifact.manifest["error_bound"])
    assert results[0] == results[1] < 10


AUTO_ONCE_REFUSED = {
    "a bound that one more bit does not shrink": (
        "t (float[1,1] x) => (float[1,1] y) <float[1,1] w = {0.125}, float[1,1] v = {0}, float[1,1] b = {0.64042264}> "
        "{ h = MatMul(w, x) y = Gemm(h, v, b) }"
    ),
    "an output that a layer goes on with": (
        "t (float[4] x) => (float[1] y, float[1] z) <float[4,1] w = {-0.65, -0.17, 1.66, 0.66}, float[1,1] v = {0.5}> "
        "{ y = MatMul(x, w) z = MatMul(y, v) }"
    ),
}


@pytest.mark.parametrize("name", AUTO_ONCE_REFUSED)
def test_auto_finds_a_format(name: str) -> None:
    artifact = compiled(model(AUTO_ONCE_REFUSED[name]), precision="auto", input_ranges=((0.0, 1.0),))
    assert artifact.manifest["error_bound"] <= 1e-6


REFUSED = {
    "a label that is constant": (
        (
            "t (float[1,2] x) => (int64[1] y, float[1,2] z) <float[1,2] c = {1, 2}> "
            "{ y = ArgMax<axis=1, keepdims=0>(c) z = Relu(x) }"
        ),
        1.0,
        UnsupportedModelError,
        "does not depend on its input",
    ),
    "a range of which no WAD fits a word": (
        "t (float[1,2] x) => (float[1,2] y) { y = Relu(x) }",
        1e60,
        RangeError,
        "WAD",
    ),
    "a range of which no q fits a word": (
        "t (float[1,2] x) => (float[1,2] y) { y = Relu(x) }",
        1e300,
        RangeError,
        "WAD",
    ),
    "products beyond float64": (
        "t (float[1,2] x) => (float[1,2] y) { a = Mul(x, x) b = Mul(a, a) c = Mul(b, b) y = Mul(c, c) }",
        1e30,
        RangeError,
        "cannot be bounded",
    ),
}


@pytest.mark.parametrize("precision", ["int8", "auto"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_compiled_is_refused_clearly(name: str, precision: str) -> None:
    text, top, error, message = REFUSED[name]
    with pytest.raises(error, match="no binary format" if precision == "auto" and "WAD" in message else message):
        compiled(model(text), precision=precision, input_ranges=((-top, top),))
