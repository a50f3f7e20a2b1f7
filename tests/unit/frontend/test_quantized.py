"""QDQ and QOperator forms: what they become, and what is refused with node and tensor."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

import ml2sc
from ml2sc.errors import UnsupportedModelError, UnsupportedOperatorError, UsageError
from ml2sc.frontend.onnx_import import import_graph, load_onnx
from ml2sc.ir import wad
from ml2sc.ir.evaluate import evaluate_float
from ml2sc.ir.types import Array
from ml2sc.passes.prescribed import input_range

node = helper.make_node
RNG = np.random.default_rng(5)
WEIGHTS = RNG.integers(-127, 128, size=(4, 3), dtype=np.int8)


def f32(*values: float) -> Any:
    return np.array(values[0] if len(values) == 1 else values, dtype=np.float32)


def qdq(name: str, x: str, y: str) -> list[onnx.NodeProto]:
    """QuantizeLinear and DequantizeLinear of %x by `{name}.s` and `{name}.z`."""
    return [
        node("QuantizeLinear", [x, f"{name}.s", f"{name}.z"], [f"{y}.q"], name=f"{name}.quantize"),
        node("DequantizeLinear", [f"{y}.q", f"{name}.s", f"{name}.z"], [y], name=f"{name}.dequantize"),
    ]


CONSTANTS: dict[str, Any] = {
    "x.s": f32(0.02),
    "x.z": np.uint8(100),
    "y.s": f32(0.1),
    "y.z": np.int8(-3),
    "W": WEIGHTS,
    "W.s": f32(0.01, 0.02, 0.005),
    "W.z": np.zeros(3, np.int8),
    "B": np.array([100, -200, 50], np.int32),
    "B.s": f32(0.0002, 0.0004, 0.0001),
}
LAYER = [
    *qdq("x", "x", "a"),
    node("DequantizeLinear", ["W", "W.s", "W.z"], ["w"], name="weights", axis=1),
    node("DequantizeLinear", ["B", "B.s"], ["b"], axis=0),
    node("Gemm", ["a", "w", "b"], ["g"], name="layer"),
    *qdq("y", "g", "y"),
]


def model(kit: Any, nodes: list[onnx.NodeProto] | None = None, /, **changed: Any) -> onnx.ModelProto:
    """Return a quantised layer x·W + b of 4 inputs and 3 outputs, with some constants changed."""
    constants = CONSTANTS | {key.replace("_", "."): value for key, value in changed.items()}
    proto: onnx.ModelProto = kit.model(
        nodes or LAYER, {"x": ["N", 4]}, ["y"], {k: np.asarray(v) for k, v in constants.items()}
    )
    return proto


def operators(proto: onnx.ModelProto) -> list[str]:
    return [n.op_type for n in import_graph(load_onnx(proto)) if n.op_type != "Identity"]


def test_a_layer_keeps_its_integers_and_scales(kit: Any) -> None:
    proto = model(kit)
    kit.assert_like_onnxruntime(proto)
    graph = import_graph(load_onnx(proto))
    layer = next(n for n in graph if n.op_type == "ScaledGemm")
    integers, scales = (graph.tensor(name).data for name in layer.inputs[1:3])
    np.testing.assert_array_equal(integers, WEIGHTS)
    np.testing.assert_array_equal(scales, CONSTANTS["W.s"].astype(np.float64))
    assert operators(proto) == ["FakeQuantize", "ScaledGemm", "FakeQuantize"]


def test_weights_may_be_moved_before_they_are_used(kit: Any) -> None:
    nodes = [*qdq("x", "x", "a"), node("DequantizeLinear", ["W", "W.s", "W.z"], ["w"], axis=0)]
    nodes += [node("Transpose", ["w"], ["t"], perm=[1, 0]), node("MatMul", ["a", "t"], ["g"]), *qdq("y", "g", "y")]
    proto = model(kit, nodes, W=np.ascontiguousarray(WEIGHTS.T))
    kit.assert_like_onnxruntime(proto)
    assert operators(proto) == ["FakeQuantize", "ScaledGemm", "FakeQuantize"]


def test_zero_points_of_weights_are_taken_away(kit: Any) -> None:
    proto = model(kit, W=(WEIGHTS.astype(np.int16) + 128).astype(np.uint8), W_z=np.array([1, 255, 128], np.uint8))
    kit.assert_like_onnxruntime(proto)


def test_weights_that_the_exporter_left_in_float(kit: Any) -> None:
    nodes = [node("QuantizeLinear", ["F", "W.s", "W.z"], ["W.q"], axis=1)]
    nodes += [
        n if n.name != "weights" else node("DequantizeLinear", ["W.q", "W.s", "W.z"], ["w"], axis=1) for n in LAYER
    ]
    proto = model(kit, nodes, F=RNG.normal(size=(4, 3)))
    kit.assert_like_onnxruntime(proto)


@pytest.mark.parametrize(("kind", "lo", "hi"), [("INT4", -8, 7), ("UINT4", 0, 15), ("INT16", -900, 900)])
def test_narrow_and_wide_types(kit: Any, kind: str, lo: int, hi: int) -> None:
    code = TensorProto.DataType.Value(kind)
    proto = model(kit)
    for name, values in (("W", RNG.integers(lo, hi + 1, size=12)), ("W.z", np.zeros(3, int))):
        old = next(t for t in proto.graph.initializer if t.name == name)
        old.CopyFrom(helper.make_tensor(name, code, list(old.dims), values.tolist()))
    kit.assert_like_onnxruntime(proto)


def test_integers_may_be_reshaped_clipped_and_compared(kit: Any) -> None:
    nodes = [
        node("QuantizeLinear", ["x", "x.s", "x.z"], ["q"]),
        node("Clip", ["q", "lo", "hi"], ["c"]),
        node("Reshape", ["c", "shape"], ["r"]),
        node("ArgMax", ["r"], ["label"], axis=1),
        node("DequantizeLinear", ["r", "x.s", "x.z"], ["y"]),
    ]
    constants = {"lo": np.uint8(90), "hi": np.uint8(127), "shape": np.array([1, 4])}
    proto = model(kit, nodes, **constants)
    proto.graph.output.append(helper.make_tensor_value_info("label", TensorProto.INT64, None))
    kit.assert_like_onnxruntime(proto)


QOPERATORS = {
    "QLinearMatMul": node("QLinearMatMul", ["q", "x.s", "x.z", "W", "W.s", "W.z", "y.s", "u"], ["r"]),
    "QGemm": node("QGemm", ["q", "x.s", "x.z", "W", "W.s", "W.z", "B", "y.s", "u"], ["r"], domain="com.microsoft"),
    "QGemm, float": node(
        "QGemm", ["q", "x.s", "x.z", "W", "W.s", "W.z", "B"], ["y"], domain="com.microsoft", alpha=0.5
    ),
    "QLinearAdd": node("QLinearAdd", ["q", "x.s", "x.z", "q", "x.s", "x.z", "y.s", "u"], ["r"], domain="com.microsoft"),
    "QLinearMul": node("QLinearMul", ["q", "x.s", "x.z", "c", "x.s", "x.z", "y.s", "u"], ["r"], domain="com.microsoft"),
    "QLinearSigmoid": node("QLinearSigmoid", ["q", "x.s", "x.z", "y.s", "u"], ["r"], domain="com.microsoft"),
    "QLinearLeakyRelu": node(
        "QLinearLeakyRelu", ["q", "x.s", "x.z", "y.s", "u"], ["r"], domain="com.microsoft", alpha=0.125
    ),
    "QLinearSoftmax": node(
        "QLinearSoftmax", ["q", "x.s", "x.z", "y.s", "u"], ["r"], domain="com.microsoft", axis=1, opset=13
    ),
    "QLinearConcat": node(
        "QLinearConcat", ["y.s", "u", "q", "x.s", "x.z", "q", "x.s", "x.z"], ["r"], domain="com.microsoft", axis=1
    ),
}


def qoperator(kit: Any, name: str) -> onnx.ModelProto:
    # the formats of both sides must fit what the operators make: steps of 0.02 in, of 0.1 out
    nodes = [node("QuantizeLinear", ["x", "x.s", "x.z"], ["q"]), QOPERATORS[name]]
    if "r" in QOPERATORS[name].output:
        nodes.append(node("DequantizeLinear", ["r", "y.s", "u"], ["y"]))
    y_scale = f32(0.0078125 if name in {"QLinearSigmoid", "QLinearSoftmax"} else 0.1)
    more = {"u": np.uint8(3), "c": np.array([[1, 90, 200, 255]], np.uint8), "y_s": y_scale}
    proto = model(kit, nodes, **more)
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return proto


@pytest.mark.parametrize("name", QOPERATORS)
def test_qoperator_form(kit: Any, name: str) -> None:
    """At most one step from onnxruntime, whose fast kernels round a few results otherwise; the integers the same.

    Sums of large products saturate in onnxruntime where a processor has no VNNI: inputs here stay small.
    """
    import onnxruntime

    proto = qoperator(kit, name)
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"])
    graph = ml2sc.quantize(ml2sc.lift(proto)).graph
    step = 0.0 if name == "QGemm, float" else float(graph.tensor("y").format.scale)
    for x in np.random.default_rng(5).normal(scale=0.5, size=(20, 1, 4)):
        (want,) = session.run(None, {"x": x.astype(np.float32)})
        outcome = wad.run_graph(graph, wad.quantize_inputs(graph, {"x": x}))
        found = np.array(outcome.outputs, dtype=np.float64) / wad.WAD
        np.testing.assert_allclose(found, want.ravel(), rtol=1e-5, atol=step + 1e-6)


REFUSED = {
    "scale of 0": ({"x_s": f32(0.0)}, r"positive number, not 0\b", "x.quantize", "%x.s"),
    "negative scale": ({"W_s": f32(0.1, -0.2, 0.1)}, r"not -0.2 at \[1\]", "weights", "%W.s"),
    "NaN": ({"W_s": f32(0.1, 0.2, np.nan)}, r"not nan at \[2\]", "weights", "%W.s"),
    "infinite scale": ({"y_s": f32(np.inf)}, "not inf", "y.quantize", "%y.s"),
    "float zero point": ({"x_z": f32(3.0)}, "zero point .* not float", "x.quantize", "%x.z"),
    "zero point of another type": ({"W_z": np.zeros(3, np.uint8)}, "uint8, but what it .* int8", "weights", "%W.z"),
    "too few scales": (
        {"W_s": f32(0.1, 0.2), "W_z": np.zeros(2, np.int8)},
        "2 scales do not fit axis 1",
        "weights",
        "%W.s",
    ),
    "one zero point for three scales": ({"W_z": np.int8(0)}, "the zero point has shape", "weights", "%W.z"),
    "scales a channel of activations": (
        {"x_s": f32(0.1, 0.2, 0.1, 0.1), "x_z": np.zeros(4, np.uint8)},
        "one scale a channel",
        "x.quantize",
        "%x.s",
    ),
    "another scale back": ({"again_s": f32(0.3)}, "dequantised as", "x.dequantize", "%a.q"),
    "axis out of range": ({"axis": 2}, "axis 2 does not exist", "weights", "%W.s"),
    "blocks": ({"block_size": 2}, "by blocks", "weights", ""),
    "scales along the sum": (
        {"axis": 0, "W_s": f32(0.1, 0.2, 0.1, 0.3), "W_z": np.zeros(4, np.int8)},
        "differ along the axis that is summed",
        "layer",
        "",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(kit: Any, case: str) -> None:
    changed, message, where, tensor = REFUSED[case]
    changed = dict(changed)
    attrs = {key: changed.pop(key) for key in ("axis", "block_size") if key in changed}
    nodes = [
        node("DequantizeLinear", ["W", "W.s", "W.z"], ["w"], **{"axis": 1, "name": "weights", **attrs})
        if n.name == "weights"
        else node("DequantizeLinear", ["a.q", "again.s", "x.z"], ["a"], name="x.dequantize")
        if n.name == "x.dequantize" and "again_s" in changed
        else n
        for n in LAYER
    ]
    with pytest.raises(UnsupportedModelError, match=message) as caught:
        import_graph(load_onnx(model(kit, nodes, **changed)))
    assert where in str(caught.value.node)
    assert tensor in (caught.value.tensor or "")


def test_scales_computed_while_running_are_refused(kit: Any) -> None:
    nodes = [node("Identity", ["x"], ["s"]), node("QuantizeLinear", ["x", "s", "x.z"], ["q"], name="bad")]
    nodes += [node("DequantizeLinear", ["q", "s", "x.z"], ["y"])]
    with pytest.raises(UnsupportedModelError, match="a scale must be constant") as caught:
        import_graph(load_onnx(model(kit, nodes)))
    assert caught.value.tensor == "%s"


def test_dynamic_quantisation_says_what_to_do(kit: Any) -> None:
    nodes = [node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]), node("MatMulInteger", ["q", "W", "z"], ["i"])]
    with pytest.raises(UnsupportedOperatorError, match="quantize_static"):
        import_graph(load_onnx(model(kit, [*nodes, node("Cast", ["i"], ["y"], to=TensorProto.FLOAT)])))


SUMS = [
    node("QuantizeLinear", ["x", "x.s", "x.z"], ["q"]),
    node("MatMulInteger", ["q", "W", "x.z", "V.z"], ["i"], name="sums"),
    node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
    node("Mul", ["f", "B.s"], ["m"]),
    node("Add", ["m", "c"], ["g"]),
    *qdq("y", "g", "y"),
]
C = f32(0.5, -0.25, 0.125)


def test_sums_of_integers_are_a_layer_with_its_scale_behind_it(kit: Any) -> None:
    proto = model(kit, SUMS, V_z=np.int8(3), c=C)
    kit.assert_like_onnxruntime(proto)
    artifact = ml2sc.compile(proto)
    assert artifact.graph is not None
    left = [n.op_type for n in artifact.graph if n.op_type != "Identity"]
    assert left == ["Gemm", "FakeQuantize", "ArgMax"]  # the scales are its own: as of QGemm


@pytest.mark.parametrize(
    ("tail", "more"),
    [
        ([node("DequantizeLinear", ["i", "B.s"], ["y"], axis=1)], {}),
        ([node("DequantizeLinear", ["i", "x.s"], ["y"])], {}),
        ([node("Reshape", ["i", "shape"], ["r"]), node("Cast", ["r"], ["y"], to=1)], {"shape": np.array([3, 1])}),
    ],
)
def test_sums_of_integers_are_dequantised_and_moved(kit: Any, tail: list[onnx.NodeProto], more: dict[str, Any]) -> None:
    kit.assert_like_onnxruntime(model(kit, [*SUMS[:2], *tail], V_z=np.int8(3), **more))


def test_a_convolution_of_bytes_that_are_given(kit: Any) -> None:
    nodes = [
        node("ConvInteger", ["x", "K", "x.z"], ["i"], pads=[1, 1, 1, 1], name="sums"),
        node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
        node("Mul", ["f", "x.s"], ["y"]),
    ]
    kernel = RNG.integers(-127, 128, size=(3, 2, 3, 3), dtype=np.int8)
    proto = kit.model(nodes, {"x": [1, 2, 4, 5]}, ["y"], {"K": kernel, "x.z": np.uint8(9), "x.s": f32(0.01)})
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    x = RNG.integers(0, 256, size=(1, 2, 4, 5), dtype=np.uint8)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (want,) = session.run(None, {"x": x})
    artifact = ml2sc.compile(proto)
    assert artifact.graph is not None
    found = wad.run_graph(artifact.graph, wad.quantize_inputs(artifact.graph, {"x": x.astype(np.float64)}))
    np.testing.assert_allclose(np.array(found.outputs, dtype=np.float64) / wad.WAD, want.ravel(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([SUMS[0], node("MatMulInteger", ["q", "W", "u"], ["i"])], "is multiplied with the zero point 0"),
        ([SUMS[0], node("MatMulInteger", ["q", "q", "x.z"], ["i"])], "weights that are not constant"),
        ([node("MatMulInteger", ["V", "W"], ["i"])], "must be an activation of integers"),
        ([SUMS[0], node("MatMulInteger", ["q", "cube", "x.z"], ["i"])], "weights of shape .1, 4, 3. is not supported"),
    ],
)
def test_sums_of_integers_that_are_refused(kit: Any, nodes: list[onnx.NodeProto], message: str) -> None:
    constants = {"u": np.uint8(0), "V": WEIGHTS.T.copy(), "cube": WEIGHTS[None].copy(), "c": C}
    proto = model(kit, [*nodes, node("Cast", ["i"], ["f"], to=1), node("Add", ["f", "c"], ["y"])], **constants)
    with pytest.raises(UnsupportedModelError, match=message):
        import_graph(load_onnx(proto))


def test_sums_of_integers_as_an_output_are_refused(kit: Any) -> None:
    with pytest.raises(UnsupportedModelError, match="a layer's sums of integers"):
        import_graph(load_onnx(model(kit, [SUMS[0], node("MatMulInteger", ["q", "W", "x.z"], ["y"])])))


def test_arithmetic_on_integers_is_refused(kit: Any) -> None:
    nodes = [node("QuantizeLinear", ["x", "x.s", "x.z"], ["q"]), node("Relu", ["q"], ["r"], name="relu")]
    nodes.append(node("DequantizeLinear", ["r", "x.s", "x.z"], ["y"]))
    with pytest.raises(UnsupportedModelError, match="Relu of quantised integers"):
        import_graph(load_onnx(model(kit, nodes)))


def test_an_output_of_integers_is_refused(kit: Any) -> None:
    with pytest.raises(UnsupportedModelError, match="output of the model is quantised"):
        import_graph(load_onnx(model(kit, [node("QuantizeLinear", ["x", "x.s", "x.z"], ["y"])])))


def test_a_precision_that_contradicts_the_model(kit: Any) -> None:
    proto = model(kit)
    assert ml2sc.compile(proto).manifest["precision"] == "int8"
    assert ml2sc.compile(proto, precision="w8a8").source == ml2sc.compile(proto, precision="int8").source
    with pytest.raises(UsageError, match="contradicts the model: it is quantised already, as int8"):
        ml2sc.compile(proto, precision="q8.8")


def test_a_precision_for_what_the_model_leaves_in_float(kit: Any) -> None:
    """Weights alone are quantised: the precision says what activations are."""
    nodes = [
        node("DequantizeLinear", ["W", "W.s", "W.z"], ["w"], axis=1),
        node("Gemm", ["x", "w"], ["g"]),
        node("Relu", ["g"], ["y"]),
    ]
    proto = model(kit, nodes)
    for precision in ("w8a8", "w8a16", "q4.20", "auto"):
        artifact = ml2sc.compile(proto, precision=precision, input_ranges=((-1.0, 1.0),))
        assert artifact.graph is not None
        x = RNG.uniform(-1, 1, size=(1, 4))
        found = wad.run_graph(artifact.graph, wad.quantize_inputs(artifact.graph, {"x": x})).outputs
        exact = np.maximum(x @ (WEIGHTS * CONSTANTS["W.s"].astype(np.float64)), 0)
        assert np.abs(np.array(found) / wad.WAD - exact).max() <= artifact.manifest["error_bound"]
        if precision == "auto":
            assert artifact.manifest["error_bound"] <= 1e-6


@pytest.mark.parametrize("scale", [1 / 256, 0.003, 0.3])
def test_a_rounded_probability_decides(kit: Any, scale: float) -> None:
    """One output behind a Sigmoid: what the model rounds it to is at least a half, or is not (0.3 has no half)."""
    nodes = [*LAYER[:-2], node("Slice", ["g", "first", "second", "axis"], ["one"]), node("Sigmoid", ["one"], ["p"])]
    more = {"first": np.array([0]), "second": np.array([1]), "axis": np.array([1])}
    proto = model(kit, [*nodes, *qdq("y", "p", "y")], y_s=f32(scale), y_z=np.int8(-128), **more)
    graph = ml2sc.quantize(ml2sc.lift(proto)).graph
    decisions = set()
    for x in RNG.normal(size=(40, 1, 4)):
        outcome = wad.run_graph(graph, wad.quantize_inputs(graph, {"x": x}))
        assert outcome.decision == (outcome.outputs[0] >= wad.WAD // 2)
        decisions.add(outcome.decision)
    assert decisions == {0, 1}


def test_the_input_is_packed_as_the_model_quantises_it(kit: Any) -> None:
    artifact = ml2sc.compile(model(kit))
    (x,) = artifact.manifest["inputs"]
    assert (x["format"], x["zero_point"], Fraction(x["scale"])) == ("uint8", 100, Fraction(float(f32(0.02))))
    assert artifact.manifest["outputs"][0]["format"] == "int8"


def test_a_signed_input_is_packed_without_sign(kit: Any) -> None:
    """Every q and the zero point are 128 more: the same real numbers."""
    signed = ml2sc.compile(model(kit, x_z=np.int8(-28)))
    (x,) = signed.manifest["inputs"]
    assert (x["format"], x["zero_point"]) == ("uint8", 100)
    assert signed.graph is not None
    plain = ml2sc.compile(model(kit)).graph
    assert plain is not None
    q = {"x": RNG.integers(0, 256, size=(1, 4)).astype(object)}
    assert wad.run_graph(signed.graph, q) == wad.run_graph(plain, q)


INTEGERS = {
    TensorProto.UINT8: np.uint8,
    TensorProto.INT8: np.int8,
    TensorProto.UINT16: np.uint16,
    TensorProto.INT16: np.int16,
}


def integer_model(kit: Any, kind: int, nodes: list[onnx.NodeProto], constants: dict[str, Array]) -> onnx.ModelProto:
    proto = kit.model(nodes, {"x": [1, 4]}, ["y"], constants)
    proto.graph.input[0].type.tensor_type.elem_type = kind
    return proto


@pytest.mark.parametrize("kind", INTEGERS)
@pytest.mark.parametrize(
    "nodes",
    [
        [node("DequantizeLinear", ["x", "s", "z"], ["y"])],
        [node("DequantizeLinear", ["x", "s"], ["y"])],
        [node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)],
        [node("Reshape", ["x", "shape"], ["r"]), node("DequantizeLinear", ["r", "s", "z"], ["y"])],
        [
            node("DequantizeLinear", ["x", "s", "z"], ["a"]),
            node("Cast", ["x"], ["b"], to=TensorProto.FLOAT),
            node("Add", ["a", "b"], ["y"]),
        ],
    ],
)
def test_inputs_of_integers(kit: Any, kind: int, nodes: list[onnx.NodeProto]) -> None:
    type_ = INTEGERS[kind]
    shape = np.array([2, 2] if nodes[0].op_type == "Reshape" else [1, 4], dtype=np.int64)
    constants = {"s": np.array(0.05), "z": np.array(7, dtype=type_), "shape": shape}
    used = {name for n in nodes for name in n.input}
    proto = integer_model(kit, kind, nodes, {name: c for name, c in constants.items() if name in used})
    graph, info = kit.to_graph(proto), np.iinfo(type_)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.array([[info.min, 0, 3, info.max]])
    (want,) = session.run(None, {"x": x.astype(type_)})
    np.testing.assert_allclose(evaluate_float(graph, {"x": x.astype(np.float64)})["y"], want, rtol=1e-6)
    assert input_range(graph, "x") == (info.min, info.max)


@pytest.mark.parametrize(
    ("nodes", "match"),
    [
        ([node("Identity", ["x"], ["y"])], "an output of the model is its input"),
        ([node("Cast", ["x"], ["c"], to=TensorProto.INT32), node("Cast", ["c"], ["y"], to=1)], "Cast of integers"),
        ([node("QuantizeLinear", ["x", "s", "z"], ["y"])], "quantised already"),
        ([node("Add", ["x", "x"], ["c"]), node("Cast", ["c"], ["y"], to=1)], "Add of integers"),
        ([node("DequantizeLinear", ["x", "s", "w"], ["y"])], "the zero point is int8, but what it belongs to is uint8"),
    ],
)
def test_what_inputs_of_integers_cannot_be_used_for(kit: Any, nodes: list[onnx.NodeProto], match: str) -> None:
    constants = {"s": np.array(0.05), "z": np.array(7, dtype=np.uint8), "w": np.array(7, dtype=np.int8)}
    used = {name for n in nodes for name in n.input}
    proto = integer_model(kit, TensorProto.UINT8, nodes, {name: c for name, c in constants.items() if name in used})
    with pytest.raises(UnsupportedModelError, match=match):
        import_graph(load_onnx(proto))
