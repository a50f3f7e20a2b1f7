"""Networks in NHWC, as exporters of Keras and TensorFlow write them."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from support import heavy
from support.checking import check_interpreters

import ml2sc
from ml2sc.frontend.model_file import load_onnx
from ml2sc.frontend.onnx_import import import_graph
from ml2sc.ir.evaluate import evaluate_float
from ml2sc.ir.verify import verify
from ml2sc.passes import LEVELS, run_pipeline
from ml2sc.passes.eliminate_identity import EliminateIdentity
from ml2sc.passes.sink_transposes import SinkTransposes

TO_NCHW, TO_NHWC = [0, 3, 1, 2], [0, 2, 3, 1]


def nhwc() -> onnx.ModelProto:
    """Conv, bias, Relu6; a residual Add and a Concat; weights of the last layer in NHWC's order."""
    rng = np.random.default_rng(5)
    constants = {
        "w0": rng.normal(size=(4, 2, 3, 3)) / 4,
        "w1": rng.normal(size=(4, 4, 3, 3)) / 6,
        "bias": rng.normal(size=4) / 4,
        "low": np.array(0.0),
        "high": np.array(6.0),
        "last": rng.normal(size=(8 * 5 * 4, 3)) / 12,
    }
    nodes = []

    def add(op_type: str, inputs: list[str], output: str, **attrs: object) -> None:
        nodes.append(helper.make_node(op_type, inputs, [output], name=output, **attrs))

    def conv(x: str, weights: str, output: str) -> None:
        add("Transpose", [x], f"{output}.in", perm=TO_NCHW)
        add("Conv", [f"{output}.in", weights], f"{output}.out", pads=[1, 1, 1, 1])
        add("Transpose", [f"{output}.out"], output, perm=TO_NHWC)

    conv("image", "w0", "c0")
    add("Add", ["c0", "bias"], "biased")
    add("Clip", ["biased", "low", "high"], "clipped")
    conv("clipped", "w1", "c1")
    add("Relu", ["c1"], "r1")
    add("Add", ["r1", "c1"], "sum")
    conv("sum", "w1", "c2")
    add("Concat", ["c2", "sum"], "joined", axis=3)
    add("Flatten", ["joined"], "flat")
    add("MatMul", ["flat", "last"], "scores")
    graph = helper.make_graph(
        nodes,
        "nhwc",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 5, 4, 2])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(a.astype(np.float32), n) for n, a in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def test_layers_are_left_without_transposes_between_them() -> None:
    model = nhwc()
    graph = import_graph(load_onnx(model))
    image = np.random.default_rng(1).uniform(-1, 1, size=(1, 5, 4, 2))
    before = evaluate_float(graph, {"image": image})[graph.outputs[0]]
    assert SinkTransposes().run(graph)
    EliminateIdentity().run(graph)
    verify(graph)
    np.testing.assert_allclose(evaluate_float(graph, {"image": image})[graph.outputs[0]], before, rtol=1e-12)
    transposes = [node for node in graph if node.op_type == "Transpose"]
    assert [node.inputs[0] for node in transposes] == ["image"]  # the last layer's weights are in the other order
    assert not SinkTransposes().run(graph)


def test_the_whole_network_compiles_to_the_same() -> None:
    model = nhwc()
    image = np.random.default_rng(1).uniform(-1, 1, size=(1, 5, 4, 2))
    (wanted,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"image": image.astype(np.float32)})
    artifact = ml2sc.compile(model, precision="q15.16", input_ranges=((-1.0, 1.0),))
    assert artifact.reference is not None
    found = evaluate_float(artifact.reference, {"image": image})[artifact.reference.outputs[0]]
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)
    check_interpreters(artifact, [{"image": image}], [])


def keras(layout: str) -> onnx.ModelProto:
    """Return padding, a convolution, PRelu, halves exchanged, a strided convolution, the mean: in NHWC or in NCHW."""
    rng = np.random.default_rng(6)
    last = layout == "NHWC"
    slopes = rng.uniform(0, 0.5, size=(4, 1, 1))
    constants = {
        "w0": rng.normal(size=(4, 1, 3, 3)) / 3,
        "w1": rng.normal(size=(6, 4, 3, 3)) / 6,
        "slopes": slopes.transpose(1, 2, 0) if last else slopes,
        "dense": rng.normal(size=(6, 3)),
        "rim": np.array([0, 1, 1, 0, 0, 1, 1, 0] if last else [0, 0, 1, 1, 0, 0, 1, 1]),
        "halves": np.array([2, 2]),
        "image": np.array([1, 2] if last else [2, 3]),
        "start": np.array([1]),
        "end": np.array([11]),
        "row": np.array([1 if last else 2]),
    }
    nodes = []

    def add(op_type: str, inputs: list[str], outputs: list[str], **attrs: object) -> None:
        nodes.append(helper.make_node(op_type, inputs, outputs, name=outputs[0], **attrs))

    def conv(x: str, weights: str, output: str, **attrs: object) -> None:
        if last:
            add("Transpose", [x], [f"{output}.in"], perm=TO_NCHW)
            add("Conv", [f"{output}.in", weights], [f"{output}.out"], **attrs)
            add("Transpose", [f"{output}.out"], [output], perm=TO_NHWC)
        else:
            add("Conv", [x, weights], [output], **attrs)

    channel = 3 if last else 1
    add("Pad", ["x", "rim"], ["padded"])
    conv("padded", "w0", "c0")
    add("PRelu", ["c0", "slopes"], ["r0"])
    add("Split", ["r0", "halves"], ["left", "right"], axis=channel)
    add("Concat", ["right", "left"], ["exchanged"], axis=channel)
    add("Slice", ["exchanged", "start", "end", "row"], ["cut"])
    add("Pad", ["cut", "rim"], ["padded1"])
    conv("padded1", "w1", "c1", strides=[2, 2])
    add("Relu", ["c1"], ["r1"])
    add("ReduceMean", ["r1", "image"], ["mean"], keepdims=0)
    add("MatMul", ["mean", "dense"], ["scores"])
    graph = helper.make_graph(
        nodes,
        "keras",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 12, 12, 1] if last else [1, 1, 12, 12])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(a.astype(np.float32 if a.dtype.kind == "f" else np.int64), n)
            for n, a in constants.items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def test_a_network_in_nhwc_becomes_that_in_nchw() -> None:
    image = np.random.default_rng(1).uniform(0, 1, size=(1, 12, 12, 1))
    kinds, answers = [], []
    for layout in ("NHWC", "NCHW"):
        graph = import_graph(load_onnx(keras(layout)))
        run_pipeline(graph, LEVELS[2])
        verify(graph)
        assert graph.inputs == ["x"]
        answers.append(evaluate_float(graph, {"x": image.reshape(graph.tensor("x").shape)})[graph.outputs[0]])
        kinds.append([node.op_type for node in graph if node.op_type != "Transpose"])
        # of the image, which has one channel: its pixels are in the same order
        assert sum(node.op_type == "Transpose" for node in graph) == (layout == "NHWC")
    np.testing.assert_allclose(*answers, rtol=1e-9)
    assert kinds[0] == kinds[1]
    session = onnxruntime.InferenceSession(keras("NHWC").SerializeToString())
    (wanted,) = session.run(None, {"x": image.astype(np.float32)})
    np.testing.assert_allclose(answers[0], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("op_type", "kept"), heavy.in_turns(2, ["ReduceMean", "ReduceMax", "ReduceSum"], [0, 1]))
def test_reductions_of_images_are_pools(op_type: str, kept: int) -> None:
    """Squeeze and excite in NHWC, and the end of a network: nothing is transposed but the image."""
    given = f"keepdims = {kept}>(g, axes)" if op_type == "ReduceSum" else f"axes = [1,2], keepdims = {kept}>(g)"
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 13]> net (float[1,5,4,2] image) => (float[?] y) {{
            a = Transpose<perm = [0,3,1,2]>(image)
            b = Conv<pads = [1,1,1,1]>(a, w)
            c = Transpose<perm = [0,2,3,1]>(b)
            d = Relu(c)
            e = ReduceMean<axes = [1,2], keepdims = 1>(d)
            f = Sigmoid(e)
            g = Mul(d, f)
            h = {op_type}<{given}
            i = Flatten(h)
            y = MatMul(i, m)
        }}"""
    )
    rng = np.random.default_rng(2)
    for name, shape in (("w", (3, 2, 3, 3)), ("m", (3, 2))):
        model.graph.initializer.append(numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 2]), "axes"))
    graph = import_graph(load_onnx(model))
    image = rng.uniform(-1, 1, size=(1, 5, 4, 2))
    before = evaluate_float(graph, {"image": image})[graph.outputs[0]]
    assert SinkTransposes().run(graph)
    verify(graph)
    np.testing.assert_allclose(evaluate_float(graph, {"image": image})[graph.outputs[0]], before, rtol=1e-12)
    assert not {"ReduceMean", "ReduceMax", "ReduceSum"} & {node.op_type for node in graph}
    moved = [node for node in graph if node.op_type == "Transpose" and min(graph.tensor(node.output).shape[1:3]) > 1]
    assert len(moved) == 1
    artifact = ml2sc.compile(model, precision="int8", input_ranges=((-1.0, 1.0),))
    check_interpreters(artifact, [{"image": image}], [])
