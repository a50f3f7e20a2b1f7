"""Operators of ai.onnx.ml and those written out in others: what is refused, and what onnxruntime makes of the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from ml2sc.errors import Ml2scError, ModelFormatError, UnsupportedModelError
from ml2sc.frontend.onnx_import import import_graph, load_onnx
from ml2sc.ir.analysis import real_bounds

ML = "ai.onnx.ml"
SVM = {
    "kernel_type": "RBF",
    "kernel_params": [0.5, 0.0, 3.0],
    "support_vectors": [0.0, 1.0, 2.0, 3.0, -1.0, 0.5, 1.0, 1.0],
    "coefficients": [1.0, -1.0],
    "rho": [0.25],
}
CLASSES = {"classlabels_ints": [0, 1], "vectors_per_class": [1, 1]}


def ml(op_type: str, outputs: list[str], **attrs: Any) -> Any:
    return helper.make_node(op_type, ["x"], outputs, domain=ML, **attrs)


WRONG = {
    "vectors of another width": (
        ml("SVMRegressor", ["y"], **{**SVM, "support_vectors": [1.0] * 6, "n_supports": 2}),
        "no support",
    ),
    "coefficients for other vectors": (
        ml("SVMRegressor", ["y"], **{**SVM, "coefficients": [1.0], "n_supports": 2}),
        "1 coeff",
    ),
    "an unknown kernel": (ml("SVMRegressor", ["y"], **{**SVM, "kernel_type": "PRE", "n_supports": 2}), "kernel PRE"),
    "a transform": (ml("SVMRegressor", ["y"], **SVM, n_supports=2, post_transform="PROBIT"), "post_transform PROBIT"),
    "one class": (ml("SVMRegressor", ["y"], **SVM, n_supports=2, one_class=1), "one_class"),
    "classes without vectors": (ml("SVMClassifier", ["y", "p"], **SVM, classlabels_ints=[0, 1]), "by class do not fit"),
    "constants for other classes": (
        ml("SVMClassifier", ["y", "p"], **{**SVM, "rho": [1.0, 2.0]}, **CLASSES),
        "2 constants",
    ),
    "labels for other classes": (
        ml("SVMClassifier", ["y", "p"], **SVM, **{**CLASSES, "classlabels_ints": [0, 1, 2]}),
        "3 class labels",
    ),
    "probabilities of three classes": (
        ml(
            "SVMClassifier",
            ["y", "p"],
            **{**SVM, "coefficients": [1.0] * 6, "rho": [0.0] * 3, "support_vectors": [1.0] * 12},
            vectors_per_class=[1, 1, 1],
            prob_a=[1.0] * 3,
            prob_b=[0.0] * 3,
        ),
        "more than two classes",
    ),
    "a norm": (ml("Normalizer", ["y"], norm="L9"), "norm L9"),
    "an Imputer of nothing": (ml("Imputer", ["y"]), "lacks the values"),
    "categories that are strings": (
        ml("OneHotEncoder", ["y"], cats_strings=["a", "b"]),
        "categories as integers|of strings",
    ),
    "values without keys": (ml("LabelEncoder", ["y"], keys_int64s=[1], values_int64s=[1, 2]), "1 keys and 2 values"),
    "features to strings": (ml("LabelEncoder", ["y"], keys_int64s=[1], values_strings=["a"]), "class labels only"),
    "k that depends on the input": (helper.make_node("TopK", ["x", "x"], ["y", "i"]), "constant k"),
    "more than there are": (helper.make_node("TopK", ["x", "nine"], ["y", "i"]), "the 9 greatest of 4"),
    "a sum from the end": (helper.make_node("CumSum", ["x", "nought"], ["y"], reverse=1), "reversed"),
    "several elements": (helper.make_node("GatherElements", ["x", "two"], ["y"], axis=1), "one element"),
    "a norm of another kind": (helper.make_node("LpNormalization", ["x"], ["y"], p=3), "p = 3"),
    "axes that depend on the input": (helper.make_node("ReduceL2", ["x", "x"], ["y"]), "constant|integers"),
    "an axis that is not there": (helper.make_node("ReduceMax", ["x", "nine"], ["y"]), "axis 9"),
    "And of numbers": (helper.make_node("And", ["x", "x"], ["y"]), "takes bools"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_refused(kit: Any, name: str) -> None:
    node, message = WRONG[name]
    ints = {"nine": [9], "two": [[0, 1]], "nought": 0}
    outputs = [o for o in node.output if o][:1]
    proto = kit.model(
        [node], {"x": [1, 4]}, outputs, {n: np.array(v, dtype=np.int64) for n, v in ints.items()}, ml=True
    )
    proto.opset_import[1].version = 4
    with pytest.raises(Ml2scError, match=message) as caught:
        import_graph(load_onnx(proto))
    assert caught.value.exit_code == 1 if hasattr(caught.value, "exit_code") else True
    assert caught.value.node is not None or isinstance(caught.value, ModelFormatError)


def scan(body: list[Any], **attrs: Any) -> Any:
    """Return a Scan of a constant matrix w for the input x."""
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("s", "r", "kept", "out")]
    graph = helper.make_graph(body, "body", ends[:2], ends[2:])
    return helper.make_node("Scan", ["x", "w"], ["last", "y"], body=graph, num_scan_inputs=1, **attrs)


KEEP = helper.make_node("Identity", ["s"], ["kept"])
FAR = helper.make_node("Sub", ["s", "r"], ["far"])
SCANS = {
    "a matrix": [KEEP, FAR, helper.make_node("MatMul", ["far", "far"], ["out"])],
    "a sum of the batch": [KEEP, FAR, helper.make_node("ReduceL1", ["far"], ["out"], axes=[0], keepdims=0)],
    "another state": [helper.make_node("Neg", ["s"], ["kept"]), FAR, helper.make_node("Abs", ["far"], ["out"])],
}


@pytest.mark.parametrize("name", SCANS)
def test_other_scans_are_refused(kit: Any, name: str) -> None:
    proto = kit.model([scan(SCANS[name])], {"x": [1, 4]}, ["y"], {"w": np.ones((3, 4))}, opset=13)
    with pytest.raises(UnsupportedModelError, match="Scan") as caught:
        import_graph(load_onnx(proto))
    assert "distances from constant rows" in str(caught.value.hint)


def test_a_distance_from_each_row(kit: Any) -> None:
    body = [KEEP, FAR, helper.make_node("ReduceL1", ["far"], ["out"], axes=[1], keepdims=0)]
    w = np.arange(12.0).reshape(3, 4)
    graph = kit.assert_like_onnxruntime(kit.model([scan(body)], {"x": [1, 4]}, ["y"], {"w": w}, opset=13))
    assert graph.tensor("y").shape == (3, 1)


def test_what_exporters_write_out_is_put_together(kit: Any) -> None:
    """Softmax, LogSoftmax, the logistic function and probabilities divided by their sum."""
    node = helper.make_node
    nodes = [
        node("ReduceLogSumExp", ["x"], ["l"], axes=[1]),
        node("Sub", ["x", "l"], ["a"]),
        node("Exp", ["a"], ["b"]),
        node("Neg", ["x"], ["n"]),
        node("Exp", ["n"], ["e"]),
        node("Add", ["e", "one"], ["f"]),
        node("Reciprocal", ["f"], ["c"]),
        node("ReduceSum", ["c", "axis"], ["t"]),
        node("Div", ["c", "t"], ["d"]),
        node("ReduceSum", ["e", "axis"], ["u"]),
        node("Div", ["e", "u"], ["g"]),
    ]
    constants = {"one": np.array([1.0]), "axis": np.array([1], dtype=np.int64)}
    graph = kit.assert_like_onnxruntime(kit.model(nodes, {"x": [1, 4]}, ["a", "b", "c", "d", "g"], constants, opset=13))
    made = [graph.producer(name) for name in ("a", "b", "c")]
    assert [n.op_type for n in made if n is not None] == ["LogSoftmax", "Softmax", "Sigmoid"]
    assert {"Normalizer", "Softmax"} <= {n.op_type for n in graph}
    graph.input_ranges = {"x": (-50.0, 50.0)}
    bounds = real_bounds(graph)
    assert all(bounds[name].lo.min() >= 0 and bounds[name].hi.max() <= 1 for name in "bcdg")


def test_a_norm_that_scikit_learn_means_otherwise(kit: Any) -> None:
    graph = kit.to_graph(kit.model([ml("Normalizer", ["y"], norm="MAX")], {"x": [1, 4]}, ["y"], ml=True))
    graph.input_ranges = {"x": (0.0, 5.0)}
    real_bounds(graph)
    graph.input_ranges = {"x": (-1.0, 5.0)}
    with pytest.raises(UnsupportedModelError, match="norm MAX is supported of what cannot be below 0"):
        real_bounds(graph)


@pytest.mark.parametrize("missing", [np.nan, np.inf, -1.0])
def test_missing_values(kit: Any, missing: float) -> None:
    node = ml("Imputer", ["y"], imputed_value_floats=[1.0, 2.0, 3.0, 4.0], replaced_value_float=missing)
    graph = kit.assert_like_onnxruntime(kit.model([node], {"x": [1, 4]}, ["y"], ml=True))
    assert ("Where" in {n.op_type for n in graph}) == np.isfinite(missing)


def test_labels_of_labels(kit: Any) -> None:
    """Keys that are features' values, and keys that are a label's names."""
    encode = ml("LabelEncoder", ["y"], keys_floats=[1.0, 2.0], values_floats=[5.0, 7.0], default_float=-1.0)
    proto = kit.model([encode], {"x": [1, 3]}, ["y"], ml=True)
    proto.opset_import[1].version = 2
    kit.assert_like_onnxruntime(proto)
    nodes = [
        helper.make_node("ArgMax", ["x"], ["i"], axis=1, keepdims=0),
        helper.make_node("Gather", ["names", "i"], ["s"]),
        helper.make_node(
            "LabelEncoder", ["s"], ["y"], domain=ML, keys_strings=["b", "a"], values_int64s=[20, 10], default_int64=0
        ),
    ]
    proto = kit.model(nodes, {"x": [1, 3]}, ["y"], ml=True, output_type=TensorProto.INT64)
    proto.opset_import[1].version = 2
    proto.graph.initializer.append(numpy_helper.from_array(np.array([b"a", b"b", b"c"], dtype=object), "names"))
    assert kit.assert_like_onnxruntime(proto, samples=10).class_names == ()


def test_entries_of_tables_at_one_place(kit: Any) -> None:
    """A slope between two entries of tables is an entry of a table: what it is divided by is known beforehand."""
    node = helper.make_node
    nodes = [
        node("ArgMax", ["x"], ["i"], axis=1, keepdims=0),
        node("Add", ["i", "one"], ["j"]),
        *(node("Gather", [table, index], [f"{table}{index}"]) for table in "pq" for index in "ij"),
        node("Sub", ["pj", "pi"], ["dp"]),
        node("Sub", ["qj", "qi"], ["dq"]),
        node("Div", ["dp", "dq"], ["y"]),
    ]
    constants = {"p": np.array([1.0, 2.5, -3.0, 4.0]), "q": np.array([1.0, 2.0, 4.0, 4.5]), "one": np.array([1])}
    graph = kit.assert_like_onnxruntime(kit.model(nodes, {"x": [1, 3]}, ["y"], constants), samples=10)
    assert [n.op_type for n in graph if n.output == "y"] == ["TableLookup"]


@pytest.mark.parametrize(("norm", "least", "found"), [("L2", 1e-12, True), ("L1", 1e-12, True), ("L2", 0.5, False)])
def test_a_vector_over_its_norm(kit: Any, norm: str, least: float, *, found: bool) -> None:
    """As PyTorch's `normalize` is written: the norm is kept from 0."""
    nodes = [
        helper.make_node(f"Reduce{norm}", ["x", "axis"], ["n"], keepdims=1),
        helper.make_node("Clip", ["n", "least"], ["c"]),
        helper.make_node("Expand", ["c", "shape"], ["e"]),
        helper.make_node("Div", ["x", "e"], ["y"]),
    ]
    constants = {"axis": np.array([1]), "least": np.array(least, dtype=np.float32), "shape": np.array([1, 4])}
    graph = kit.assert_like_onnxruntime(kit.model(nodes, {"x": [1, 4]}, ["y"], constants), samples=10)
    assert ({node.attrs.get("norm") for node in graph} == {None, norm}) is found


@pytest.mark.parametrize(
    ("shape", "axis", "found"), [([3, 4], 1, True), ([2, 3, 4], -1, True), ([4, 4], 0, False), ([1, 4, 3], 1, False)]
)
@pytest.mark.parametrize("kind", ["ReduceL2", "ReduceL1"])
def test_each_row_over_its_norm(kit: Any, kind: str, shape: list[int], axis: int, *, found: bool) -> None:
    nodes = [
        helper.make_node(kind, ["x", "axis"], ["n"], keepdims=0),
        helper.make_node("Unsqueeze", ["n", "axis"], ["u"]),
        helper.make_node("Clip", ["u", "least"], ["c"]),
        helper.make_node("Expand", ["c", "shape"], ["e"]),
        helper.make_node("Div", ["x", "e"], ["y"]),
    ]
    constants = {"axis": np.array([axis]), "least": np.array(1e-12, dtype=np.float32), "shape": np.array(shape)}
    graph = kit.assert_like_onnxruntime(kit.model(nodes, {"x": shape}, ["y"], constants), samples=10)
    assert ("Normalizer" in {node.op_type for node in graph}) is found


def test_a_root_keeps_the_order(kit: Any) -> None:
    nodes = [helper.make_node("Abs", ["x"], ["a"]), helper.make_node("Sqrt", ["a"], ["s"])]
    nodes.append(helper.make_node("TopK", ["s", "k"], ["v", "y"], largest=0))
    constants = {"k": np.array([2], dtype=np.int64)}
    proto = kit.model(nodes, {"x": [1, 4]}, ["y"], constants, output_type=TensorProto.INT64)
    assert "Sqrt" not in {n.op_type for n in kit.assert_like_onnxruntime(proto)}
