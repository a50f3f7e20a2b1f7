"""Activations at any place, in any precision, at the ends of their ranges; as PyTorch writes them; on both targets."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from support import heavy
from support.checking import check_bounds, check_interpreters, compiled, float_graph
from support.contracts import check_contract, deployed, onnxruntime_outputs, packed_and_wads

import ml2sc
from ml2sc.errors import RangeError, UnsupportedModelError, UnsupportedOperatorError
from ml2sc.ir.program import Storage

CONSTANTS = (
    "float[4,3] w = {1, -2, 0.5, 0.25, 1.5, -1, 2, 0, -0.75, 0.1, 0.2, 0.3}, float[3] b = {0.5, -0.25, 1}, "
    "float[3,2] v = {0.5, -1, 0.25, 1, 2, -0.125}, float slope = {0.2}, float two = {2}, float[3] k = {0.1, -0.2, 3}"
)
ANYWHERE = {
    "Sigmoid": "Sigmoid(h)",
    "Tanh": "Tanh(h)",
    "Erf": "Erf(h)",
    "Softplus": "Softplus(h)",
    "Mish": "Mish(h)",
    "Gelu": "Gelu(h)",
    "Gelu, tanh": 'Gelu<approximate = "tanh">(h)',
    "Elu": "Elu<alpha = 0.7>(h)",
    "Elu, negative": "Elu<alpha = -0.7>(h)",
    "Selu": "Selu(h)",
    "Celu": "Celu<alpha = 2.0>(h)",
    "Softsign": "Softsign(h)",
    "HardSigmoid": "HardSigmoid(h)",
    "HardSwish": "HardSwish(h)",
    "LeakyRelu": "LeakyRelu(h)",
    "PRelu": "PRelu(h, slope)",
    "ThresholdedRelu": "ThresholdedRelu<alpha = 0.0>(h)",
    "Abs": "Abs(h)",
    "Max": "Max(h, k)",
    "Min": "Min(h, k, slope)",
    "Pow": "Pow(h, two)",
    "Softmax": "Softmax(h)",
    "LogSoftmax": "LogSoftmax(h)",
}
SOMEWHERE = {
    "Exp": "{ c = Min(h, k) s = Exp(c) }",
    "Log": "{ e = Abs(h) c = Add(e, slope) s = Log(c) }",
    "Sqrt": "{ c = Relu(h) s = Sqrt(c) }",
    "Reciprocal": "{ e = Abs(h) c = Add(e, slope) d = Neg(c) s = Reciprocal(d) }",
    "Div": "{ e = Abs(h) c = Add(e, slope) s = Div(h, c) }",
    "Pow, any": "{ e = Abs(h) c = Add(e, slope) p = Constant<value_float = 1.7>() s = Pow(c, p) }",
    "root and reciprocal": "{ e = Abs(h) c = Add(e, slope) p = Constant<value_float = -0.5>() s = Pow(c, p) }",
    "a power of a constant": "{ c = Min(h, k) p = Constant<value_float = 1.5>() s = Pow(p, c) }",
    "Mul": "{ a = Tanh(h) s = Mul(a, h) }",
}
"""Functions that need a part of the reals, with what makes it."""
BODIES = {**{name: f"s = {call}" for name, call in ANYWHERE.items()}, **{n: b[2:-2] for n, b in SOMEWHERE.items()}}
RANGES = ((-2.0, 2.0), (-1000.0, 1000.0), (0.5, 9.0))


def model(body: str, *, middle: bool) -> onnx.ModelProto:
    """Return Gemm, the function, and another Gemm if it is to be in the middle."""
    output, tail = ("float[1,2] y", "y = Gemm(s, v)") if middle else ("float[1,3] s", "")
    text = f'<ir_version: 9, opset_import: ["" : 20]> tiny (float[1,4] x) => ({output}) <{CONSTANTS}>'
    return onnx.parser.parse_model(f"{text} {{ h = Gemm(x, w, b) {body} {tail} }}")


def samples(lo: float, hi: float) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(7)
    near = rng.uniform(max(lo, -3), min(hi, 3), (3, 1, 4)).astype(np.float32).astype(np.float64)
    ends = [np.full((1, 4), lo), np.full((1, 4), hi), np.array([[lo, hi, lo, hi]]), np.array([[hi, lo, hi, lo]])]
    return [{"x": x} for x in (*near, *ends, rng.uniform(lo, hi, (1, 4)))]


PRECISIONS = {"int8": None, "w4a4": 0, "w8a16": 1, "q16.16": 0, "q31.32": 1, "auto": None}
"""With the range that each is tried on, None for all."""


PLACES = [
    (name, precision, number)
    for name in BODIES
    for precision, only in PRECISIONS.items()
    for number, (_, hi) in enumerate(RANGES)
    if only in (None, number) and not (precision == "auto" and name in SOMEWHERE and hi == 1000.0)
]
"""Each function in each precision, and the number of a range: x / |x| and the like have no bound of 1e-6 in all."""
IN_TURN = {place for turn, place in enumerate(PLACES) if turn % 27 == 0}


@pytest.mark.parametrize(
    ("name", "precision", "number"),
    heavy.unless(IN_TURN.__contains__, PLACES),
)
def test_any_precision_and_place(name: str, precision: str, number: int) -> None:
    lo, hi = RANGES[number]
    artifact = ml2sc.compile(model(BODIES[name], middle=number != 2), precision=precision, input_ranges=((lo, hi),))
    assert precision != "auto" or artifact.manifest["error_bound"] <= 1e-6
    check_interpreters(artifact, samples(lo, hi), [[2**255 - 1] * 4, [-(2**255)] * 4])
    check_bounds(artifact, 2, samples(lo, hi))


def test_narrow_formats_use_tables_and_wide_ones_share_them() -> None:
    body = "a = Tanh(h) c = Gemm(a, q) s = Tanh(c)"
    text = CONSTANTS + ", float[3,3] q = {1, 0, 0.5, 1, 1, 0, 0, 1, 0.25}"
    proto = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 20]> tiny (float[1,4] x) => (float[1,2] y) '
        f"<{text}> {{ h = Gemm(x, w, b) {body} y = Gemm(s, v) }}"
    )
    tabulated = ml2sc.compile(proto, precision="int8", input_ranges=((-2.0, 2.0),))
    assert tabulated.graph is not None
    assert [n.op_type for n in tabulated.graph].count("Tanh") == 2
    assert all(len(n.attrs["table"]) == 256 for n in tabulated.graph if n.op_type == "Tanh")  # type: ignore[arg-type]
    # entries are the next layer's activations: nothing is requantised after a table
    for node in tabulated.graph:
        if node.op_type == "Tanh":
            assert [use.node.op_type for use in tabulated.graph.uses(node.output)] == ["Gemm"]
    body = "n = Neg(h) a = Tanh(h) c = Tanh(n) s = Mul(a, c)"
    wide = ml2sc.compile(model(body, middle=True), precision="q20.30", input_ranges=((-2.0, 2.0),))
    assert wide.program is not None
    tables = [name for name in wide.program.segments if "tanh" in name]
    assert len(tables) == 1  # both are one table
    assert wide.program.segments[tables[0]].storage is Storage.CODE


def test_what_the_ends_of_exp_give() -> None:
    """Nothing reverts: exp of a very negative value is 0, and the error is still what is stated."""
    text = '<ir_version: 9, opset_import: ["" : 20]> t (float[1,2] x) => (float[1,2] y) { y = Exp(x) }'
    artifact = compiled(onnx.parser.parse_model(text), precision="q40.30", input_ranges=((-1e9, 3.0),))
    points = [{"x": np.array([[a, b]])} for a, b in ((-1e9, 3.0), (-50.0, -20.0), (-1e-9, 0.0))]
    check_interpreters(artifact, points, [[-(2**255), 2**255 - 1]])
    check_bounds(artifact, 2, points)
    assert artifact.manifest["error_bound"] < 1e-7


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        ("y = Log(x)", RangeError, r"Log needs values above 0, .* from -1 to 1\n.*'log_0' \(Log\)"),
        ("y = Sqrt(x)", RangeError, "Sqrt needs values of at least 0"),
        ("y = Reciprocal(x)", RangeError, "all above or all below 0"),
        ("a = Abs(x) y = Div(x, a)", RangeError, "Reciprocal needs"),
        ("y = Div(x, x)", UnsupportedModelError, "does not depend on its input"),
        ("a = Abs(x) y = Log(a)", RangeError, "from 0 to 1(.|\n)*hint: .*--input-range"),
        ("c = Constant<value_float = 500.0>() a = Mul(x, c) y = Exp(a)", RangeError, "at most 100"),
        ("y = Pow(x, x)", UnsupportedModelError, "constant power"),
        ("c = Constant<value_float = 1.5>() y = Pow(x, c)", RangeError, "Log needs"),
        ("y = HardSigmoid<alpha = -1.0>(x)", UnsupportedModelError, "negative alpha"),
        ("y = Selu<gamma = -1.0>(x)", UnsupportedModelError, "negative alpha or gamma"),
        ("y = Celu<alpha = 0.0>(x)", UnsupportedModelError, "alpha = 0"),
        ("y = PRelu(x, x)", UnsupportedModelError, "slope must be constant"),
        ('y = Gelu<approximate = "fast">(x)', UnsupportedModelError, "approximate='fast'"),
        ("a = RandomNormalLike(x) y = Bernoulli(a)", UnsupportedOperatorError, "2 operators are not supported"),
    ],
)
def test_what_cannot_be_computed(body: str, error: type[Exception], message: str) -> None:
    text = f'<ir_version: 9, opset_import: ["" : 20]> t (float[1,2] x) => (float[1,2] y) {{ {body} }}'
    for precision in ("int8", "auto"):
        with pytest.raises(error, match=message):
            ml2sc.compile(onnx.parser.parse_model(text), precision=precision, input_ranges=((-1.0, 1.0),))


# -- on the EVM --------------------------------------------------------------------------------------------------------

CHAIN = (
    "a = Tanh(h) c = Gemm(a, q) d = Gelu(c) e = HardSwish(d) l = Softplus(e) m = Sqrt(l) n = Gemm(m, q) "
    "o = Softmax(n) p = Gemm(o, q) r = Sigmoid(p) s = Mul(r, p)"
)


@pytest.mark.parametrize("target", ["vyper", pytest.param("solidity", marks=pytest.mark.heavy)])
def test_a_deep_network_on_the_evm(target: str, toolchain: ml2sc.Toolchain) -> None:
    text = CONSTANTS + ", float[3,3] q = {1, 0, -0.5, 1, 1, 0, 0, -1, 0.25}"
    proto = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 20]> deep (float[1,4] x) => (float[1,2] y) '
        f"<{text}> {{ h = Gemm(x, w, b) {CHAIN} y = Gemm(s, v) }}"
    )
    artifact = ml2sc.compile(proto, target=target, precision="int8", input_ranges=((-2.0, 2.0),))
    inputs = samples(-2.0, 2.0)
    check_interpreters(artifact, inputs, [])
    check_bounds(artifact, 2, inputs)
    packed, wads = packed_and_wads(artifact, inputs)
    check_contract(deployed(artifact, toolchain), artifact, packed, wads[:3])


def test_many_functions_in_vyper(toolchain: ml2sc.Toolchain) -> None:
    """One element a function, so that every form is written out straight and in little code."""
    calls = {
        "a": "Tanh(x)",
        "b": "Gelu(x)",
        "c": "Selu(x)",
        "d": "Mish(x)",
        "e": "Exp(x)",
        "f": "Softsign(x)",
        "g": "HardSwish(x)",
        "i": "Pow(x, two)",
        "k": "Reciprocal(z)",
        "l": "Log(z)",
        "m": "Sqrt(z)",
        "n": "Max(x, z, half)",
        "o": "PRelu(x, half)",
    }
    body = " ".join(f"{name} = {call}" for name, call in calls.items())
    proto = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 20]> many (float[1] x) => '
        f"({', '.join(f'float[1] {name}' for name in calls)}) "
        f"<float half = {{0.5}}, float two = {{2}}> {{ h = Pow(x, two) z = Add(h, half) {body} }}"
    )
    artifact = ml2sc.compile(proto, target="vyper", precision="q12.20", input_ranges=((-9.0, 9.0),))
    inputs = [{"x": np.array([v])} for v in (-9.0, -1.25, -1e-6, 0.0, 0.7, 9.0)]
    check_interpreters(artifact, inputs, [])
    check_bounds(artifact, 2, inputs)
    packed, wads = packed_and_wads(artifact, inputs)
    check_contract(deployed(artifact, toolchain), artifact, packed, [*wads, [2**255 - 1], [-(2**255)]])


# -- as PyTorch writes them --------------------------------------------------------------------------------------------

MODULES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "GELU": (lambda nn: nn.GELU(), "Gelu"),
    "GELU, tanh": (lambda nn: nn.GELU(approximate="tanh"), "Gelu"),
    "SiLU": (lambda nn: nn.SiLU(), "Swish"),
    "Mish": (lambda nn: nn.Mish(), "Mish"),
    "Softplus": (lambda nn: nn.Softplus(), "Softplus"),
    "Softplus, scaled": (lambda nn: nn.Softplus(beta=2.0, threshold=15.0), "Softplus"),
    "LogSigmoid": (lambda nn: nn.LogSigmoid(), "Softplus"),
    "Softsign": (lambda nn: nn.Softsign(), "Softsign"),
    "Hardswish": (lambda nn: nn.Hardswish(), "HardSwish"),
    "Tanhshrink": (lambda nn: nn.Tanhshrink(), "Tanh"),
    "CELU": (lambda nn: nn.CELU(alpha=0.5), "Elu"),
    "PReLU": (lambda nn: nn.PReLU(4), "PRelu"),
    "GLU": (lambda nn: nn.GLU(), "Sigmoid"),
}


DIFFERENT_IN_DYNAMO = ("Softplus, scaled", "Softsign", "GELU")


@pytest.mark.torch
@pytest.mark.parametrize(
    ("name", "exporter"),
    [
        *heavy.but_each(3, [(name, "torchscript, opset 17") for name in MODULES]),
        *((name, "dynamo") for name in DIFFERENT_IN_DYNAMO),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_as_pytorch_writes_it(name: str, exporter: str) -> None:
    import torch

    make, wanted = MODULES[name]
    torch.manual_seed(3)
    module = torch.nn.Sequential(
        torch.nn.Linear(3, 4), make(torch.nn), torch.nn.Linear(2 if name == "GLU" else 4, 2)
    ).eval()
    if exporter == "dynamo":
        proto = ml2sc.export_torch(module, torch.zeros(1, 3))
    else:
        file = io.BytesIO()
        torch.onnx.export(module, (torch.zeros(1, 3),), file, dynamo=False, opset_version=17)
        proto = onnx.load_from_string(file.getvalue())
    (given,) = proto.graph.input
    artifact = ml2sc.compile(proto, precision="auto", input_ranges=((-40.0, 40.0),))
    assert wanted in {node.op_type for node in float_graph(artifact, 2)}
    rng = np.random.default_rng(1)
    inputs = [{given.name: rng.uniform(-top, top, (1, 3)).astype(np.float32).astype(np.float64)} for top in (2, 9, 40)]
    check_interpreters(artifact, inputs, [])
    check_bounds(artifact, 2, inputs)
    if name != "LogSigmoid":  # onnxruntime takes the logarithm of a Sigmoid that is 0
        for sample in inputs:
            reference = module(torch.tensor(sample[given.name], dtype=torch.float32)).detach().numpy()
            np.testing.assert_allclose(onnxruntime_outputs(proto, sample)[0], reference, rtol=1e-4, atol=1e-4)
