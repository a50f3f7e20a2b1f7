from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support import heavy

from ml2sc.errors import (
    ModelFormatError,
    NonFiniteError,
    ShapeError,
    UnsupportedModelError,
    UnsupportedOperatorError,
)
from ml2sc.frontend.onnx_import import import_graph, load_onnx, supported_operators
from ml2sc.ir.evaluate import evaluate_float
from ml2sc.ir.graph import Graph
from ml2sc.ir.ops import OPS
from ml2sc.ir.ops.folding import FoldingOp
from ml2sc.ir.types import Array, DType

NEWEST = onnx.defs.onnx_opset_version()
OPSETS = range(7, NEWEST + 1)
node = helper.make_node


def ints(*values: int) -> Array:
    return np.array(values, dtype=np.int64)


def ops(graph: Graph) -> list[str]:
    return [n.op_type for n in graph]


@pytest.mark.parametrize("opset", OPSETS)
def test_every_opset(kit: Any, opset: int) -> None:
    """Flatten, Unsqueeze/Squeeze, Clip, Split, Slice, Dropout, BatchNormalization, Softmax: all changed over time."""
    rng = np.random.default_rng(0)
    constants = {"W": rng.normal(size=(12, 6)), "b": rng.normal(size=6), "lo": np.array(-1.0), "hi": np.array(1.5)}
    constants |= {"one": ints(1), "two": ints(2), "zero": ints(0), "four": ints(4), "sizes": ints(2, 4)}
    constants |= {k: rng.uniform(0.5, 1, size=6) for k in ("scale", "bias", "mean", "var")}
    axes = opset >= 13
    nodes = [
        node("Flatten", ["x"], ["f"]),
        node("Gemm", ["f", "W", "b"], ["h"]),
        node("BatchNormalization", ["h", "scale", "bias", "mean", "var"], ["n"], epsilon=1e-3),
        node("Clip", ["n", "lo", "hi"], ["c"]) if opset >= 11 else node("Clip", ["n"], ["c"], min=-1.0, max=1.5),
        node("Dropout", ["c"], ["d"], **({} if opset >= 12 else {"ratio": 0.3})),
        node("Unsqueeze", ["d", "two"], ["u"]) if axes else node("Unsqueeze", ["d"], ["u"], axes=[2]),
        node("Squeeze", ["u", "two"], ["q"]) if axes else node("Squeeze", ["u"], ["q"], axes=[2]),
        node("Split", ["q", "sizes"], ["s", "t"], axis=1)
        if axes
        else node("Split", ["q"], ["s", "t"], axis=1, split=[2, 4]),
        node("Slice", ["t", "one", "four", "one"], ["v"])
        if opset >= 10
        else node("Slice", ["t"], ["v"], starts=[1], ends=[4], axes=[1]),
        node("Concat", ["s", "v"], ["k"], axis=1),
        node("Softmax", ["k"], ["y"], axis=1),
    ]
    proto = kit.model(nodes, {"x": ["N", 3, 4]}, ["y"], constants, opset=opset)
    graph = kit.assert_like_onnxruntime(proto) if opset < 25 else kit.to_graph(proto)
    assert graph.tensor("x").shape == (1, 3, 4)
    assert graph.tensor("y").shape == (1, 5)


@pytest.mark.parametrize("opset", [7, 12, 13, NEWEST])
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("attrs", [{}, {"axis": 0}, {"axis": 1}, {"axis": 2}])
def test_softmax_before_and_after_opset_13(kit: Any, opset: int, op: str, attrs: dict[str, Any]) -> None:
    proto = kit.model([node(op, ["x"], ["y"], **attrs)], {"x": [2, 3, 4]}, ["y"], opset=opset)
    if opset < 25:
        kit.assert_like_onnxruntime(proto)
    else:
        kit.to_graph(proto)


def test_the_first_dimension_becomes_one(kit: Any) -> None:
    for first in ("batch", None, 1):
        proto = kit.model([node("Relu", ["x"], ["y"])], {"x": [first, 3]}, ["y"])
        assert kit.to_graph(proto).tensor("y").shape == (1, 3)


def test_shape_arithmetic_folds(kit: Any) -> None:
    """Shape, Gather, Mul, Concat, Equal, Where, Expand, Range: how exporters write view(x.size(0), -1) and the like."""
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "i1"], ["d1"]),
        node("Gather", ["shape", "i2"], ["d2"]),
        node("Mul", ["d1", "d2"], ["flat"]),
        node("Concat", ["minus", "flat"], ["target"], axis=0),
        node("Equal", ["target", "minus"], ["is_minus"]),
        node("Where", ["is_minus", "ones", "target"], ["target2"]),
        node("Reshape", ["x", "target2"], ["f"]),
        node("ConstantOfShape", ["target2"], ["c"], value=numpy_helper.from_array(np.array([2.5], dtype=np.float32))),
        node("Range", ["r0", "r6", "r1"], ["range"]),
        node("Gather", ["f", "range"], ["g"], axis=1),
        node("Mul", ["g", "c"], ["m"]),
        node("Expand", ["r1f", "target2"], ["e"]),
        node("Add", ["m", "e"], ["y"]),
    ]
    constants = {"i1": ints(1), "i2": ints(2), "minus": ints(-1), "ones": ints(1, 1), "r1f": np.array([1.0])}
    constants |= {"r0": np.array(0), "r6": np.array(6), "r1": np.array(1)}
    graph = kit.assert_like_onnxruntime(kit.model(nodes, {"x": ["N", 2, 3]}, ["y"], constants))
    assert ops(graph) == ["Reshape", "Gather", "Mul", "Add"]


@pytest.mark.parametrize(
    ("attrs", "value"),
    [
        ({"value": numpy_helper.from_array(np.full((1, 3), 2, np.float32))}, [[2, 2, 2]]),
        ({"value_float": 1.5}, 1.5),
        ({"value_floats": [1.0, 2.0, 3.0]}, [1, 2, 3]),
        ({"value": numpy_helper.from_array(np.full((3,), 0.5, np.float16))}, [0.5] * 3),
        ({"value": numpy_helper.from_array(np.full((3,), 0.1, np.float64))}, [0.1] * 3),
    ],
)
def test_constant_nodes(kit: Any, attrs: dict[str, Any], value: Any) -> None:
    nodes = [node("Constant", [], ["c"], **attrs), node("Add", ["x", "c"], ["y"])]
    graph = kit.to_graph(kit.model(nodes, {"x": [1, 3]}, ["y"]))
    data = graph.tensor("c").data
    assert data.dtype == np.float64
    np.testing.assert_array_equal(data, value)
    assert ops(graph) == ["Add"]


def test_integer_constant_nodes(kit: Any) -> None:
    nodes = [
        node("Constant", [], ["a"], value_ints=[1, 3]),
        node("Constant", [], ["i"], value_int=1),
        node("Reshape", ["x", "a"], ["r"]),
        node("Gather", ["r", "i"], ["y"], axis=1),
    ]
    assert kit.assert_like_onnxruntime(kit.model(nodes, {"x": [3]}, ["y"])).tensor("y").shape == (1,)


def test_initialisers_that_are_also_inputs(kit: Any) -> None:
    proto = kit.mlp()
    for name, shape in {"W1": [3, 4], "b1": [3]}.items():
        proto.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    assert kit.assert_like_onnxruntime(proto).inputs == ["x"]


@pytest.mark.parametrize("name", ["a b", "/x/y:0", "%", '"quoted"', "ünï☃", "x\ny", "1", "gemm_0"])
def test_any_name(kit: Any, name: str) -> None:
    nodes = [node("Gemm", ["x", f"{name}W"], [name]), node("Relu", [name], [f"{name}'"], name=name)]
    proto = kit.model(nodes, {"x": [1, 2]}, [f"{name}'"], {f"{name}W": np.eye(2)})
    graph = kit.assert_like_onnxruntime(proto)
    assert graph.outputs == [f"{name}'"]
    assert [n.origin for n in graph] == [("gemm_0",), (name,)]


def test_nameless_nodes_and_equal_names(kit: Any) -> None:
    nodes = [node("Relu", ["x"], ["a"]), node("Neg", ["a"], ["b"], name="n"), node("Neg", ["b"], ["y"], name="n")]
    graph = kit.to_graph(kit.model(nodes, {"x": [1, 2]}, ["y"]))
    assert [n.origin for n in graph] == [("relu_0",), ("n",), ("n",)]
    assert len({n.name for n in graph}) == 3


def test_functions_are_inlined(kit: Any) -> None:
    function = helper.make_function(
        "local", "Twice", ["a"], ["b"], [node("Add", ["a", "a"], ["b"], name="sum")], [helper.make_opsetid("", 21)]
    )
    proto = kit.model([node("Twice", ["x"], ["y"], domain="local", name="call")], {"x": [1, 3]}, ["y"])
    proto.opset_import.append(helper.make_opsetid("local", 1))
    proto.functions.append(function)
    assert ops(kit.assert_like_onnxruntime(proto)) == ["Add"]


def test_what_no_output_needs_is_left_out(kit: Any) -> None:
    proto = kit.mlp()
    proto.graph.node.append(node("Einsum", ["x"], ["dead"], equation="ij->i"))
    proto.graph.initializer.append(numpy_helper.from_array(np.array([b"text"], dtype=object), "unused"))
    assert ops(kit.to_graph(proto)) == ["Gemm", "Relu", "Gemm"]


@pytest.mark.parametrize("opset", [7, 10, 21])
def test_bounds_that_bound_nothing(kit: Any, opset: int) -> None:
    big = float(np.finfo(np.float32).max)
    if opset < 11:
        proto = kit.model([node("Clip", ["x"], ["y"], min=-big, max=big)], {"x": [1, 3]}, ["y"], opset=opset)
    else:
        bounds = {"lo": np.array(-np.inf), "hi": np.array(big)}
        proto = kit.model([node("Clip", ["x", "lo", "hi"], ["y"])], {"x": [1, 3]}, ["y"], bounds, opset=opset)
    assert ops(kit.to_graph(proto)) == ["Identity"]


def test_relu_as_clip(kit: Any) -> None:
    bounds = {"lo": np.array(0.0), "hi": np.array(np.inf)}
    graph = kit.assert_like_onnxruntime(
        kit.model([node("Clip", ["x", "lo", "hi"], ["y"])], {"x": [1, 3]}, ["y"], bounds)
    )
    assert [n.inputs for n in graph] == [("x", "lo")]


def test_slices_with_negative_steps_and_wild_bounds(kit: Any) -> None:
    cases = [(-1, -100, -1), (100, -100, -2), (-3, 100, 1), (3, 0, -1), (0, 2**63 - 1, 3)]
    for start, end, step in cases:
        constants = {"s": ints(start), "e": ints(end), "a": ints(-1), "t": ints(step)}
        kit.assert_like_onnxruntime(
            kit.model([node("Slice", ["x", "s", "e", "a", "t"], ["y"])], {"x": [1, 7]}, ["y"], constants)
        )


def test_a_class_table(kit: Any) -> None:
    nodes = [node("ArgMax", ["x"], ["i"], axis=1, keepdims=0), node("Gather", ["table", "i"], ["y"])]
    proto = kit.model(nodes, {"x": [1, 3]}, ["y"], {"table": ints(30, 10, 20)}, output_type=TensorProto.INT64)
    graph = kit.assert_like_onnxruntime(proto)
    assert ops(graph) == ["ArgMax", "TableLookup"]
    assert graph.tensor("y").type is DType.INT64


# -- what cannot be imported -------------------------------------------------------------------------------------------


def test_all_unsupported_operators_in_one_message(kit: Any) -> None:
    nodes = [
        node("Relu", ["x"], ["a"]),
        node("Einsum", ["a"], ["b"], name="/head/Einsum", equation="ij->ij"),
        node("Mod", ["a", "a"], ["c"], name="e", fmod=1),
        node("MyOp", ["b", "c"], ["y"], name="mine", domain="acme"),
    ]
    proto = kit.model(nodes, {"x": ["N", 4]}, ["y"])
    proto.opset_import.append(helper.make_opsetid("acme", 1))
    with pytest.raises(UnsupportedOperatorError) as caught:
        import_graph(load_onnx(proto))
    assert str(caught.value) == (
        "error[ML110]: 3 operators are not supported\n"
        "  node '/head/Einsum' (Einsum), input %a: float[1,4]\n"
        "  node 'e' (Mod), input %a: float[1,4]\n"
        "  node 'mine' (acme.MyOp), input %b: float[1,4]\n"
        "  hint: 'ml2sc-compile --explain' lists the supported operators; docs/add-an-operator.md shows how to add one"
    )


def test_control_flow_is_unsupported(kit: Any) -> None:
    branch = helper.make_graph([node("Identity", ["x"], ["o"])], "b", [], [helper.make_tensor_value_info("o", 1, None)])
    nodes = [node("Constant", [], ["c"], value=numpy_helper.from_array(np.array(True)))]
    nodes.append(node("If", ["c"], ["y"], then_branch=branch, else_branch=branch))
    with pytest.raises(UnsupportedOperatorError, match=r"1 operator is not supported\n  node 'if_1' \(If\)"):
        import_graph(load_onnx(kit.model(nodes, {"x": [1]}, ["y"])))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_not_finite(kit: Any, value: Any) -> None:
    proto = kit.mlp()
    weights = np.ones((3, 4), dtype=np.float32)
    weights[1, 2] = value
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "W1"))
    with pytest.raises(NonFiniteError, match=rf"{value} at \[1, 2\]") as caught:
        import_graph(load_onnx(proto))
    assert caught.value.tensor == "%W1: [3, 4]"
    assert "/fc1/Gemm" in caught.value.node


def test_a_weight_that_is_not_finite_is_found_through_folded_nodes(kit: Any) -> None:
    nodes = [node("Transpose", ["W"], ["T"]), node("MatMul", ["x", "T"], ["y"], name="mm")]
    with pytest.raises(NonFiniteError) as caught:
        import_graph(load_onnx(kit.model(nodes, {"x": [1, 2]}, ["y"], {"W": np.array([[1.0, np.nan], [0.0, 1.0]])})))
    assert caught.value.tensor == "%W: [2, 2]"
    assert "mm" in caught.value.node


@pytest.mark.parametrize("dims", [["N", "T", 4], ["N", 3, None], [1, -1]])
def test_a_dynamic_dimension_other_than_the_first(kit: Any, dims: Any) -> None:
    with pytest.raises(ShapeError, match=r"only the first \(batch\)") as caught:
        import_graph(load_onnx(kit.model([node("Relu", ["x"], ["y"])], {"x": dims}, ["y"])))
    assert caught.value.tensor.startswith("%x: [")
    assert caught.value.hint


def test_tensors_without_elements(kit: Any) -> None:
    with pytest.raises(ShapeError, match="no elements"):
        import_graph(load_onnx(kit.model([node("Relu", ["x"], ["y"])], {"x": ["N", 0]}, ["y"])))
    proto = kit.model([node("MatMul", ["x", "W"], ["y"])], {"x": [1, 3]}, ["y"], {"W": np.zeros((3, 0))})
    with pytest.raises(ShapeError, match="no elements"):
        import_graph(load_onnx(proto))


def test_string_tensors(kit: Any) -> None:
    """Strings are class labels or nothing."""
    nodes = [node("ArgMax", ["x"], ["i"], axis=1, keepdims=0), node("Gather", ["names", "i"], ["y"])]
    names = numpy_helper.from_array(np.array([b"cat", b"dog"], dtype=object), "names")
    proto = kit.model(nodes, {"x": [1, 2]}, ["y"], output_type=TensorProto.STRING)
    proto.graph.initializer.append(names)
    graph = kit.to_graph(proto)
    assert graph.class_names == ("cat", "dog")
    assert evaluate_float(graph, {"x": np.array([[0.0, 1.0]])})["y"].tolist() == [1]
    proto = kit.model([*nodes, node("Equal", ["y", "names"], ["z"])], {"x": [1, 2]}, ["z"])
    proto.graph.initializer.append(names)
    with pytest.raises(UnsupportedModelError, match="Equal of strings") as caught:
        import_graph(load_onnx(proto))
    assert caught.value.tensor == "%y"
    proto.graph.initializer[0].string_data[0] = b"\xff"
    with pytest.raises(ModelFormatError, match="constant of strings"):
        import_graph(load_onnx(proto))


@pytest.mark.parametrize("kind", [TensorProto.BOOL, TensorProto.STRING, TensorProto.UINT32])
def test_inputs_must_be_floats(kit: Any, kind: int) -> None:
    proto = kit.model([node("Identity", ["x"], ["y"])], {"x": [1, 3]}, ["y"])
    proto.graph.input[0].type.tensor_type.elem_type = kind
    with pytest.raises(UnsupportedModelError, match="graph inputs must be tensors of floats"):
        import_graph(load_onnx(proto))


@pytest.mark.parametrize("kind", [TensorProto.INT32, TensorProto.INT64])
def test_inputs_of_whole_numbers(kit: Any, kind: int) -> None:
    nodes = [node("Cast", ["x"], ["f"], to=1), node("MatMul", ["f", "w"], ["y"])]
    proto = kit.model(nodes, {"x": [1, 3]}, ["y"], {"w": np.eye(3)})
    proto.graph.input[0].type.tensor_type.elem_type = kind
    graph = kit.to_graph(proto)
    values = evaluate_float(graph, {"x": np.array([[3.0, -7.0, 0.0]])})
    assert values["y"].tolist() == [[3.0, -7.0, 0.0]]
    proto = kit.model([node("Identity", ["x"], ["y"])], {"x": [1, 3]}, ["y"])
    proto.graph.input[0].type.tensor_type.elem_type = kind
    with pytest.raises(UnsupportedModelError, match="its input, integers"):
        import_graph(load_onnx(proto))


def test_an_input_without_a_shape(kit: Any) -> None:
    proto = kit.model([node("Relu", ["x"], ["y"])], {"x": [1]}, ["y"])
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(ShapeError, match="unknown"):
        import_graph(load_onnx(proto))


def test_opsets_out_of_range(kit: Any) -> None:
    with pytest.raises(UnsupportedModelError, match="oldest supported is 7"):
        import_graph(load_onnx(kit.mlp(opset=6)))
    with pytest.raises(ModelFormatError, match="knows up to"):
        import_graph(load_onnx(kit.mlp(opset=NEWEST + 1)))


def test_training_mode(kit: Any) -> None:
    nodes = [
        node("Constant", [], ["t"], value=numpy_helper.from_array(np.array(True))),
        node("Dropout", ["x", "", "t"], ["y"]),
    ]
    with pytest.raises(UnsupportedModelError, match="training mode"):
        import_graph(load_onnx(kit.model(nodes, {"x": [1, 2]}, ["y"])))


@pytest.mark.parametrize(
    ("nodes", "match"),
    [
        ([node("Relu", ["z"], ["y"])], "no input, constant or earlier node"),
        ([node("Relu", ["x"], ["h"])], "no input, constant or earlier node"),
        ([node("Relu", ["x"], ["h"]), node("Neg", ["x"], ["h"]), node("Add", ["h", "h"], ["y"])], "made twice"),
        ([node("Relu", ["x"], ["x"]), node("Neg", ["x"], ["y"])], "made twice"),
    ],
)
def test_models_that_contradict_themselves(kit: Any, nodes: Any, match: str) -> None:
    proto = kit.model(nodes, {"x": [1, 2]}, ["y"])
    with pytest.raises(ModelFormatError, match=match):
        import_graph(load_onnx(proto))


def test_shapes_that_do_not_fit(kit: Any) -> None:
    proto = kit.model([node("Reshape", ["x", "s"], ["y"])], {"x": ["N", 5]}, ["y"], {"s": ints(2, 3)})
    with pytest.raises(ShapeError, match=r"cannot reshape \[1, 5\] to \[2, 3\]"):
        import_graph(load_onnx(proto))


def test_the_list_of_operators() -> None:
    names = supported_operators()
    assert {"Gemm", "Constant", "ai.onnx.ml.Scaler", "ai.onnx.ml.Normalizer"} <= set(names)
    assert "TableLookup" not in names
    standard = [name for name in names if not name.startswith("com.microsoft.")]  # those are onnxruntime's own
    assert {"com.microsoft.QGemm", "com.microsoft.QuantizeLinear"} <= set(names)
    assert all(onnx.defs.has(name.rpartition(".")[2], name.rpartition(".")[0]) for name in standard)


_ROUNDED = {"test_averagepool_2d_ceil_last_window_starts_on_pad"}
"""Cases whose answers are written down with four digits, the last of them one off."""


_LARGE = {"test_averagepool_3d_default", "test_lppool_3d_default", "test_maxpool_3d_default"}
"""Cases whose answers ONNX's own reference takes two thirds of the time to find."""


def own_node_tests(*, large: bool) -> list[Any]:
    """Return ONNX's own cases: the large ones, or all others."""
    from onnx.backend.test.case import base
    from onnx.backend.test.loader import load_model_tests

    def make(cls: type, name: str, bases: object, members: Mapping[str, object]) -> None:
        """Make the cases of a class as ONNX does, but for the large ones and for its documentation."""
        for key in members:
            if key.startswith("export") and key.replace("export", "test") not in _LARGE:
                np.random.seed(0)  # noqa: NPY002  # theirs
                getattr(cls, key)()

    with patch.object(base._Exporter, "__init__", make):
        cases = load_model_tests(kind="node")
    if large:
        from onnx.backend.test.case.node import averagepool, lppool, maxpool

        averagepool.AveragePool.export_averagepool_3d_default()
        lppool.LpPool.export_lppool_3d_default()
        maxpool.MaxPool.export_maxpool_3d_default()
    return [case for case in cases if (case.name in _LARGE) == large]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("large", heavy.but_each(2, [False, True]))
def test_onnx_own_node_tests(large: bool) -> None:
    """ONNX's own test of every operator, each as a model whose first input varies and whose others are constant."""
    passed, wrong = 0, []
    for case in own_node_tests(large=large):
        proto, data = case.model, case.data_sets
        if case.name.startswith(("test_isnan", "test_isinf")):
            continue  # what a contract is given is neither
        if case.name == "test_resize_downsample_scales_linear_align_corners":
            continue  # onnxruntime, which is the judge, takes the last pixel for the last
        if (
            proto is None
            or not data
            or len(proto.graph.node) != 1
            or proto.graph.node[0].op_type not in supported_operators()
        ):
            continue
        arrays = [[numpy_helper.to_array(a) if isinstance(a, TensorProto) else a for a in part] for part in data[0]]
        if not all(isinstance(a, np.ndarray) for part in arrays for a in part):
            continue
        op = OPS.get(proto.graph.node[0].op_type) if proto.graph.node[0].op_type in OPS else None
        folds = isinstance(op, FoldingOp) and not op.shape_only
        kinds = {v.name: v.type.tensor_type.elem_type for v in proto.graph.input}
        names = list(kinds)
        varies = bool(names) and kinds[names[0]] in (TensorProto.FLOAT, TensorProto.DOUBLE) and not folds
        model = onnx.ModelProto()
        model.CopyFrom(proto)
        model.graph.initializer.extend(
            numpy_helper.from_array(array, name) for name, array in zip(names[varies:], arrays[0][varies:], strict=True)
        )
        if not varies:
            model.graph.input.append(helper.make_tensor_value_info("unused", TensorProto.FLOAT, [1]))
        try:
            graph = import_graph(load_onnx(model))
        except (UnsupportedModelError, NonFiniteError, ShapeError):
            continue  # strings, training mode, infinities, empty tensors
        values = evaluate_float(graph, {name: arrays[0][0] if varies else np.zeros(1) for name in graph.inputs})
        narrow = "FLOAT16" in case.name.upper()  # a cast to it rounds; we stay in float64
        for name, want in zip(graph.outputs, arrays[1], strict=False):
            got = values[name]
            atol = 1e-2 if narrow else 1e-4 if case.name in _ROUNDED else 1e-5
            if got.shape != want.shape or not np.allclose(got, want.astype(got.dtype), atol=atol, equal_nan=True):
                wrong.append(case.name)
        passed += 1
    assert not wrong
    assert passed > (1 if large else 350)


@pytest.mark.parametrize("op_type", ["Sum", "Mean"])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_sums_and_means_of_several_inputs(kit: Any, op_type: str, count: int) -> None:
    constants = {"c": np.array([1.0, -2.0, 3.0]), "d": np.array([[0.5], [7.0]])}
    graph = kit.assert_like_onnxruntime(
        kit.model([node(op_type, ["x", "d", "c", "x"][:count], ["y"])], {"x": [1, 3]}, ["y"], constants)
    )
    assert graph.tensor("y").shape == ((2, 3) if count > 1 else (1, 3))


@pytest.mark.parametrize("opset", [7, 9, 11, 12, 13, 21])
def test_an_output_that_nobody_reads(kit: Any, opset: int) -> None:
    nodes = [node("Dropout", ["x"], ["d", "mask"]), node("Relu", ["d"], ["y"])]
    graph = kit.assert_like_onnxruntime(kit.model(nodes, {"x": [1, 3]}, ["y"], opset=opset))
    assert ops(graph) == ["Dropout", "Relu"]


def test_an_output_that_says_that_the_model_is_in_training(kit: Any) -> None:
    constants = dict.fromkeys(("s", "b", "m", "v"), np.ones(3))
    nodes = [node("BatchNormalization", ["x", "s", "b", "m", "v"], ["y", "mean", "var", "m2", "v2"])]
    with pytest.raises(UnsupportedModelError, match="training mode"):
        kit.to_graph(kit.model(nodes, {"x": [1, 3]}, ["y"], constants, opset=9))


def functions_of(kit: Any, opset: int, shape: list[int], body: list[onnx.NodeProto]) -> onnx.ModelProto:
    """Return a model of opset 17 whose only node is a function of another one."""
    proto = kit.model([node("F", ["x"], ["y"], domain="my.dom")], {"x": shape}, ["y"], opset=17)
    proto.opset_import.append(helper.make_opsetid("my.dom", 1))
    proto.functions.append(helper.make_function("my.dom", "F", ["X"], ["Y"], body, [helper.make_opsetid("", opset)]))
    return proto


@pytest.mark.parametrize("shape", [[1, 3], [1, 2, 3]])
def test_a_function_of_another_operator_set(kit: Any, shape: list[int]) -> None:
    """Softmax of opset 11 is one of all elements from axis 1 on."""
    graph = kit.to_graph(functions_of(kit, 11, shape, [node("Softmax", ["X"], ["Y"])]))
    x = np.arange(float(np.prod(shape))).reshape(shape) / 3
    want = np.exp(x) / np.exp(x).sum()
    np.testing.assert_allclose(evaluate_float(graph, {"x": x})["y"], want, rtol=1e-12)


def test_a_function_that_cannot_be_brought_to_the_models_operator_set(kit: Any) -> None:
    proto = functions_of(kit, 24, [1, 4], [node("Swish", ["X"], ["Y"])])
    with pytest.raises((UnsupportedModelError, ModelFormatError)) as caught:
        kit.to_graph(proto)
    assert "my.dom.F is written in operator set 24, the model in 17" in str(caught.value)


@pytest.mark.parametrize(
    ("to", "value", "rounded"),
    [
        (TensorProto.FLOAT16, 0.1, 0.0999755859375),
        (TensorProto.FLOAT16, 2049.0, 2048.0),
        (TensorProto.BFLOAT16, 0.1, 0.10009765625),
        (TensorProto.FLOAT, 0.1, float(np.float32(0.1))),
        (TensorProto.DOUBLE, 0.1, float(np.float32(0.1))),
    ],
)
def test_a_constant_is_rounded_to_the_type_it_is_cast_to(kit: Any, to: int, value: float, rounded: float) -> None:
    nodes = [node("Cast", ["c"], ["d"], to=to), node("Cast", ["d"], ["e"], to=1), node("Add", ["x", "e"], ["y"])]
    graph = kit.to_graph(kit.model(nodes, {"x": [1]}, ["y"], {"c": np.array([value])}))
    assert graph.tensor("e").data.tolist() == [rounded]


def test_a_constant_beyond_the_type_it_is_cast_to(kit: Any) -> None:
    nodes = [node("Cast", ["c"], ["d"], to=10), node("Cast", ["d"], ["e"], to=1), node("Add", ["x", "e"], ["y"])]
    with pytest.raises(NonFiniteError):
        kit.to_graph(kit.model(nodes, {"x": [1]}, ["y"], {"c": np.array([70_000.0])}))


def test_constants_of_integers_become_floats_where_they_are_cast(kit: Any) -> None:
    nodes = [node("Cast", ["c"], ["d"], to=1), node("Div", ["d", "two"], ["e"]), node("Add", ["x", "e"], ["y"])]
    proto = kit.model(nodes, {"x": [3]}, ["y"], {"c": ints(1, 2, 3), "two": np.array(2.0)})
    assert kit.assert_like_onnxruntime(proto).tensor("e").data.tolist() == [0.5, 1.0, 1.5]
    wrapped = [
        node("Cast", ["c"], ["d"], to=TensorProto.INT8),
        node("Cast", ["d"], ["e"], to=1),
        node("Add", ["x", "e"], ["y"]),
    ]
    graph = kit.assert_like_onnxruntime(kit.model(wrapped, {"x": [2]}, ["y"], {"c": ints(200, -129)}))
    assert graph.tensor("e").data.tolist() == [-56.0, 127.0]


@pytest.mark.parametrize(
    ("constant", "x"),
    [((3, 4), (4,)), ((4,), (4,)), ((4,), (4, 5)), ((4,), (2, 4, 5)), ((3, 4), (4, 5)), ((3, 4), (2, 2, 4, 5))],
)
def test_matmul_by_a_constant_from_the_left(kit: Any, constant: tuple[int, ...], x: tuple[int, ...]) -> None:
    w = np.random.default_rng(0).normal(size=constant)
    graph = kit.assert_like_onnxruntime(kit.model([node("MatMul", ["w", "x"], ["y"])], {"x": x}, ["y"], {"w": w}))
    assert set(ops(graph)) <= {"MatMul", "Transpose"}


@pytest.mark.parametrize("turned", [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("bias", [None, (), (5,), (3, 1), (3, 5)])
def test_gemm_of_a_constant_from_the_left(kit: Any, turned: tuple[int, int], bias: tuple[int, ...] | None) -> None:
    rng = np.random.default_rng(0)
    constants = {"w": rng.normal(size=(4, 3) if turned[0] else (3, 4))}
    if bias is not None:
        constants["c"] = rng.normal(size=bias)
    attrs = {"transA": turned[0], "transB": turned[1], "alpha": 0.5, "beta": -2.0}
    nodes = [node("Gemm", ["w", "x", *(["c"] if bias is not None else [])], ["y"], **attrs)]
    graph = kit.assert_like_onnxruntime(kit.model(nodes, {"x": [5, 4] if turned[1] else [4, 5]}, ["y"], constants))
    assert ops(graph) == ["Gemm", "Transpose"]


@pytest.mark.parametrize("beta", [1.0, -0.5])
def test_gemm_and_a_c_that_depends_on_the_input(kit: Any, beta: float) -> None:
    nodes = [node("Relu", ["x"], ["c"]), node("Gemm", ["x", "w", "c"], ["y"], beta=beta)]
    weights = {"w": np.random.default_rng(0).normal(size=(3, 3))}
    graph = kit.assert_like_onnxruntime(kit.model(nodes, {"x": [1, 3]}, ["y"], weights))
    assert {"Gemm", "Add"} <= set(ops(graph))


@pytest.mark.parametrize(("op_type", "opset"), [("Softmax", 11), ("Softmax", 13), ("LogSoftmax", 11), ("ArgMax", 13)])
@pytest.mark.parametrize("axis", [0, -1])
def test_a_scalar_has_no_axis(kit: Any, op_type: str, opset: int, axis: int) -> None:
    with pytest.raises(ShapeError, match=rf"axis {axis} does not exist in a tensor of rank 0"):
        kit.to_graph(kit.model([node(op_type, ["x"], ["y"], axis=axis)], {"x": []}, ["y"], opset=opset))
