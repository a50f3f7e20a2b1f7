"""Every operator at least once from ONNX to the EVM: contract == interpreter, float64 within the bound, onnxruntime."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from support import heavy
from support.checking import check_bounds, check_interpreters, check_outputs, compiled
from support.contracts import check_contract, deployed, onnxruntime_outputs, packed_and_wads, reals
from support.operators import RECURRENT, VISION

import ml2sc
from ml2sc.errors import RangeError
from ml2sc.frontend.onnx_import import supported_operators
from ml2sc.ir.wad import quantize_inputs, run_graph

X = "float[1,4] x"
W = "float[4,3] w = {1, -2, 0.5, 0.25, 1.5, -1, 2, 0, -0.75, 0.1, 0.2, 0.3}, float[3] b = {0.5, -0.25, 1}"
C = "float[4] c = {0.5, -2, 3, 1}"

MODELS = {
    "Gemm": (X, "float[1,3] y", W, "y = Gemm(x, w, b)"),
    "Gemm, all attributes": (
        "float[2,1] x",
        "float[1,3] y",
        "float[3,2] w = {1, -2, 0.5, 0.25, 1.5, -1}, float[1] b = {0.5}",
        "y = Gemm<transA=1, transB=1, alpha=0.5, beta=-2.0>(x, w, b)",
    ),
    "FusedGemm": (
        X,
        "float[1,3] y",
        W,
        "h = Gemm(x, w, b) r = Relu(h) v = Transpose(w) z = MatMul(r, v) y = Gemm(z, w)",
    ),
    "MatMul by a constant on the right": ("float[2,2,4] x", "float[2,2,3] y", W, "y = MatMul(x, w)"),
    "MatMul by a constant on the left": ("float[4,2] x", "float[3,2] y", W, "v = Transpose(w) y = MatMul(v, x)"),
    "MatMul by a vector": ("float[1,2,4] x", "float[1,2] y", C, "y = MatMul(x, c)"),
    "MatMul of two vectors": ("float[4] x", "float y", C, "y = MatMul(x, c)"),
    "MatMul of a vector": ("float[4] x", "float[3] y", W, "y = MatMul(x, w)"),
    "MatMul of a vector by a constant on the left": (
        "float[4] x",
        "float[3] y",
        W,
        "v = Transpose(w) y = MatMul(v, x)",
    ),
    "MatMul of matrices by a constant on the left": (
        "float[2,4,2] x",
        "float[2,3,2] y",
        W,
        "v = Transpose(w) y = MatMul(v, x)",
    ),
    "MatMul of two activations": (
        "float[3,4] x",
        "float[3,3] y",
        W,
        "h = MatMul(x, w) y = MatMul(h, h)",
    ),
    "MatMul of activations in batches": (
        "float[2,1,3,4] x",
        "float[2,2,3,4] y, float[2,1,3] v",
        "float[4] c = {0.5, -2, 3, 1}, int64 z = {0}, float[2,1,1] f = {1, -0.5}",
        (
            "t = Transpose<perm = [0,1,3,2]>(x) a = Mul(x, f) g = MatMul(a, t) y = MatMul(g, x) "
            "r = Gather(x, z) m = Gather(r, z) k = Gather(m, z) v = MatMul(x, k)"
        ),
    ),
    "MatMul of shares, and attention": (
        "float[1,3,4] x",
        "float[1,3,4] y",
        "",
        "t = Transpose<perm = [0,2,1]>(x) s = MatMul(x, t) p = Softmax(s) y = MatMul(p, x)",
    ),
    "Gemm of two activations": (
        "float[3,2] x",
        "float[2,2] y",
        "float[2] b = {0.5, -1}",
        "h = Relu(x) y = Gemm<transA = 1, alpha = 0.5, beta = 2.0>(x, h, b)",
    ),
    "Gemm by a constant on the left": (
        X,
        "float[3,1] y",
        f"{W}, float[3,1] c = {{0.5, -0.25, 1}}",
        "y = Gemm<transA=1, transB=1, beta=2.0>(w, x, c)",
    ),
    "Gemm and an activation": (X, "float[1,3] y", W, "h = Gemm(x, w, b) y = Gemm<beta=-0.5>(x, w, h)"),
    "Sum": (X, "float[1,3] y", W, "h = Gemm(x, w, b) r = Relu(h) y = Sum(h, r, b, h)"),
    "Mean": (X, "float[1,3] y", W, "h = Gemm(x, w, b) r = Relu(h) y = Mean(h, r, b)"),
    "Add": (X, "float[1,4] y", C, "y = Add(x, c)"),
    "Add to itself": (X, "float[1,4] y", C, "h = Mul(x, c) y = Add(h, h)"),
    "Sub": (X, "float[3,4] y", "float[3,1] c = {0.5, -2, 3}", "y = Sub(c, x)"),
    "Mul": (X, "float[1,4] y", C, "y = Mul(x, c)"),
    "Mul of two activations": (X, "float[1,4] y", C, "h = Add(x, c) y = Mul(h, x)"),
    "Div": (X, "float[1,4] y", C, "y = Div(x, c)"),
    "Neg": (X, "float[1,4] y", "", "y = Neg(x)"),
    "skip": (X, "float[1,3] y", W, "h = Gemm(x, w, b) r = Relu(h) y = Add(h, r)"),
    "two inputs": ("float[1,4] x, float[1,3] z", "float[1,3] y", W, "h = Gemm(x, w, b) y = Sub(h, z)"),
    "two outputs": (X, "float[1,3] y, float[1,3] s", W, "y = Gemm(x, w, b) s = Sigmoid(y)"),
    "Relu": (X, "float[1,4] y", "", "y = Relu(x)"),
    "LeakyRelu": (X, "float[1,4] y", "", "y = LeakyRelu<alpha=0.1>(x)"),
    "LeakyRelu, negative": (X, "float[1,4] y", "", "y = LeakyRelu<alpha=-0.5>(x)"),
    "Clip": (X, "float[1,4] y", "float lo = {-0.3}, float hi = {1.1}", "y = Clip(x, lo, hi)"),
    "Clip, below only": (X, "float[1,4] y", "float lo = {-0.3}", "y = Clip(x, lo)"),
    "Sigmoid": (X, "float[1,4] y", "", "y = Sigmoid(x)"),
    "Sigmoid, one": (X, "float[1,1] y", "float[4,1] w = {1, -2, 0.5, 1}", "h = MatMul(x, w) y = Sigmoid(h)"),
    "Sigmoid in the middle": (
        X,
        "float[1,3] y",
        W,
        "h = Gemm(x, w, b) s = Sigmoid(h) v = Transpose(w) z = MatMul(s, v) y = Gemm(z, w)",
    ),
    "smooth activations": (
        X,
        "float[1,4] a, float[1,4] e, float[1,4] s, float[1,4] m, float[1,4] g, float[1,4] t",
        "",
        'a = Tanh(x) e = Erf(x) s = Softplus(x) m = Mish(x) g = Gelu(x) t = Gelu<approximate = "tanh">(x)',
    ),
    "exponential units": (
        X,
        "float[1,4] a, float[1,4] b, float[1,4] c, float[1,4] e, float[1,4] n",
        "",
        "a = Elu<alpha=0.5>(x) b = Selu(x) c = Celu<alpha=2.0>(x) s = Sigmoid(x) e = Mul(x, s) n = Elu<alpha=-0.3>(x)",
    ),
    "piecewise": (
        X,
        ", ".join(f"float[{3 if name == 'f' else 1},4] {name}" for name in "abcdefgi"),
        "float[4] v = {0.5, -2, 3, 1}, float[3,1] k = {0.3, -1, 5}, float three = {3}, float two = {2}",
        (
            "a = HardSigmoid(x) b = HardSwish(x) c = ThresholdedRelu<alpha=0.0>(x) d = PRelu(x, v) e = Abs(x) "
            "f = Max(x, k, a) z = Min(x, e, a) g = Pow(z, three) i = Pow(x, two)"
        ),
    ),
    "functions with a domain": (
        X,
        "float[1,4] a, float[1,4] b, float[1,4] c, float[1,4] d, float[1,4] e, float[1,4] f, float[1,4] g",
        "float k = {2.5}, float r = {0.5}, float p = {-1.5}",
        (
            "a = Exp(x) v = Add(x, k) b = Log(v) c = Sqrt(v) w = Neg(v) d = Reciprocal(w) e = Softsign(x) "
            "f = Div(x, v) g = Pow(v, p)"
        ),
    ),
    "what a square is under": (
        X,
        "float[1,4] y, float[1,4] z",
        "float[1] k = {0.5}, int64[1] r = {1}",
        (
            "m = Mul(x, x) n = Add(m, k) y = Sqrt(n) "
            "u = ReduceMean<keepdims=1>(x, r) d = Sub(x, u) e = Mul(d, d) v = ReduceMean<keepdims=1>(e, r) "
            "f = Add(v, k) s = Sqrt(f) z = Div(d, s)"
        ),
    ),
    "Softmax": (X, "float[1,3] y", W, "h = Gemm(x, w, b) y = Softmax<axis=1>(h)"),
    "Softmax in the middle": (X, "float[1,3] y", W, "h = Softmax(x) y = Gemm(h, w, b)"),
    "LogSoftmax": (X, "float[1,3] y", W, "h = Gemm(x, w, b) y = LogSoftmax(h)"),
    "ArgMax": (X, "int64[1] y", W, "h = Gemm(x, w, b) y = ArgMax<axis=1, keepdims=0>(h)"),
    "ArgMax, all negative": (X, "int64[1,1] y", "float[4] c = {-9, -9, -9, -9}", "h = Add(x, c) y = ArgMax<axis=1>(h)"),
    "TableLookup": (
        X,
        "int64[1] y",
        f"{W}, int64[3] t = {{7, -1, 3}}",
        "h = Gemm(x, w, b) i = ArgMax<axis=1, keepdims=0>(h) y = Gather(t, i)",
    ),
    "label and scores": (
        X,
        "int64[1] y, float[1,3] p",
        W,
        "h = Gemm(x, w, b) y = ArgMax<axis=1, keepdims=0>(h) p = Softmax(h)",
    ),
    "BatchNormalization": (
        X,
        "float[1,4] y",
        f"{C}, float[4] d = {{1, 0.5, 0.25, 2}}",
        "y = BatchNormalization(x, c, d, c, d)",
    ),
    "Flatten": ("float[1,2,2] x", "float[1,4] y", "", "y = Flatten(x)"),
    "Reshape": (X, "float[2,2] y", "int64[2] s = {2, -1}", "y = Reshape(x, s)"),
    "Squeeze": ("float[1,1,4] x", "float[1,4] y", "int64[1] a = {1}", "y = Squeeze(x, a)"),
    "Unsqueeze": (X, "float[1,1,4] y", "int64[1] a = {1}", "y = Unsqueeze(x, a)"),
    "Transpose": ("float[1,2,3] x", "float[3,2,1] y", "", "y = Transpose(x)"),
    "Identity": (X, "float[1,4] y", "", "y = Identity(x)"),
    "Dropout": (X, "float[1,4] y", "", "y, mask = Dropout(x)"),
    "Cast": (X, "float[1,4] y", C, "d = Cast<to=11>(c) e = Cast<to=1>(d) y = Add(x, e)"),
    "Concat": (
        X,
        "float[1,11] y",
        f"{W}, float[1,4] k = {{1e-3, 1000, 2, -3}}",
        "h = Gemm(x, w, b) y = Concat<axis=1>(x, h, k)",
    ),
    "Split": (X, "float[1,1] a, float[1,3] c", "int64[2] s = {1, 3}", "a, c = Split<axis=1>(x, s)"),
    "Slice": (
        X,
        "float[1,2] y",
        "int64[1] i = {3}, int64[1] j = {-9}, int64[1] a = {1}, int64[1] t = {-2}",
        "y = Slice(x, i, j, a, t)",
    ),
    "Gather": (X, "float[1,3] y", "int64[3] i = {2, 2, -4}", "y = Gather<axis=1>(x, i)"),
    "Gather of one": (X, "float[1] y", "int64 i = {2}", "y = Gather<axis=1>(x, i)"),
    "Expand": (X, "float[3,4] y", "int64[2] s = {3, 4}", "y = Expand(x, s)"),
    "Tile": (X, "float[1,8] y", "int64[2] s = {1, 2}", "y = Tile(x, s)"),
    "Constant": (X, "float[1,4] y", "", "c = Constant<value = float[1] {2.5}>() y = Mul(x, c)"),
    "ConstantOfShape": (
        X,
        "float[1,4] y",
        "int64[1] s = {4}",
        "c = ConstantOfShape<value = float[1] {0.5}>(s) y = Add(x, c)",
    ),
    "Shape": (
        "float[1,2,2] x",
        "float[1,4] y",
        "int64[1] one = {-1}, int64 z = {0}, int64[1] a = {0}",
        "s = Shape(x) n = Gather(s, z) m = Unsqueeze(n, a) t = Concat<axis=0>(m, one) y = Reshape(x, t)",
    ),
}


def model_of(name: str) -> onnx.ModelProto:
    inputs, outputs, constants, body = MODELS[name]
    declared = f" <{constants}>" if constants else ""
    text = f'<ir_version: 9, opset_import: ["" : 20]> tiny ({inputs}) => ({outputs}){declared} {{ {body} }}'
    model = onnx.parser.parse_model(text)
    onnx.checker.check_model(model, full_check=True)
    return model


def samples_of(model: onnx.ModelProto) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(3)
    shapes = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in model.graph.input}
    return [
        {n: rng.uniform(-2, 2, s).astype(np.float32).astype(np.float64) for n, s in shapes.items()} for _ in range(5)
    ]


@pytest.mark.parametrize("name", MODELS)
def test_on_the_evm(name: str, toolchain: ml2sc.Toolchain) -> None:
    model = model_of(name)
    samples = samples_of(model)
    ranges = ((-2.0, 2.0),) * len(samples[0])
    artifact = compiled(model, precision="auto", input_ranges=ranges)
    assert artifact.manifest["error_bound"] <= 1e-6
    packed, wads = packed_and_wads(artifact, samples)
    contract = deployed(artifact, toolchain)
    check_contract(contract, artifact, packed, [*wads, [2**255 - 1] * len(wads[0]), [-(2**255)] * len(wads[0])])
    for sample, values in zip(samples, wads, strict=True):
        outputs = contract.predict(values)
        check_outputs(artifact, sample, outputs)
        answers = onnxruntime_outputs(model, sample)
        labels = [int(v) for a in answers if a.dtype.kind == "i" for v in a.ravel()]
        scores = np.array([v for a in answers if a.dtype.kind == "f" for v in a.ravel()])
        if scores.size:
            np.testing.assert_allclose(reals(outputs), scores, rtol=1e-5, atol=1e-5)
        if labels:
            assert contract.classify(values) == labels[0] % 2**256
        elif contract.has("classify"):
            assert contract.classify(values) == (int(np.argmax(scores)) if scores.size > 1 else int(scores[0] >= 0.5))


PRECISIONS = ("int8", "w3a5", "w8a16", "q20.80")
WAYS = [(name, level, precision) for level in (2, 0) for precision in PRECISIONS for name in MODELS]
IN_TURN = {way for turn, way in enumerate(WAYS) if way[1:] == (2, "int8") or turn % 24 == 0}


@pytest.mark.parametrize(("name", "level", "precision"), heavy.unless(IN_TURN.__contains__, WAYS))
def test_without_a_chain(name: str, level: int, precision: str) -> None:
    model = model_of(name)
    samples = samples_of(model)
    options = {"precision": precision, "level": level, "input_ranges": ((-2.0, 2.0),) * len(samples[0])}
    artifact = compiled(model, **options)
    check_interpreters(artifact, samples, [])
    check_bounds(artifact, level, samples)


TABULAR = {
    *("And", "ArgMin", "Ceil", "CumSum", "Equal", "Floor", "GatherElements", "Greater", "IsInf", "IsNaN", "Less"),
    *("LessOrEqual", "LpNormalization", "Not", "Or", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp"),
    *("ReduceMax", "ReduceMin", "ReduceSum", "ReduceSumSquare", "Round", "Scan", "Sign", "TopK", "Xor"),
}
"""Those of tables of numbers have one, too, test_tabular_operators.py, and the estimators that exporters write."""
QUANTIZED = {"QuantizeLinear", "DequantizeLinear", "QLinearMatMul", "ConvInteger", "MatMulInteger"}
"""They have files of their own: test_quantized_models.py, unit/frontend/test_quantized.py."""


def test_every_operator_is_here() -> None:
    used = {node.op_type for name in MODELS for node in model_of(name).graph.node}
    folding = {"Shape", "Size", "Range", "Where"}
    there = {name for name in supported_operators() if "." not in name}
    from ml2sc.ir.ops.folding import folds_only

    # steps have a file of their own, test_steps.py; Swish comes from a pass: x · Sigmoid(x)
    assert {name for name in there if not folds_only(name)} - used - folding == {
        "GreaterOrEqual",
        "Swish",
        *TABULAR,
        *QUANTIZED,
        *VISION,
        *RECURRENT,
    }


def test_the_first_of_equal_maxima() -> None:
    artifact = compiled(model_of("ArgMax, all negative"), precision="int8", input_ranges=((-2.0, 2.0),))
    assert artifact.graph is not None
    q = quantize_inputs(artifact.graph, {"x": np.array([[-1.0, 1.0, 1.0, 0.0]])})
    assert run_graph(artifact.graph, q).decision == 1


def test_a_range_that_no_format_serves() -> None:
    with pytest.raises(RangeError, match="no binary format has an error bound of 1e-06"):
        compiled(model_of("Mul of two activations"), precision="auto", input_ranges=((-1e30, 1e30),))
