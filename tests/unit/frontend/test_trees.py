"""What is no ensemble, or one that onnxruntime answers nonsense to, is refused; what is folded means the same."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.numpy_helper import from_array
from support import heavy
from support.forests import random_attributes, threshold_rows, tree_model

import ml2sc
from ml2sc.caller import interface_of
from ml2sc.errors import Ml2scError, PoorResultWarning
from ml2sc.frontend.model_file import load_onnx
from ml2sc.frontend.onnx_import import import_graph
from ml2sc.ir import wad
from ml2sc.ir.interpret import Interpreter
from ml2sc.ir.thermometer import TREES
from ml2sc.ir.trees import Ensemble, Fork, Leaf

Attrs = dict[str, Any]


def stump(**changes: Any) -> Attrs:
    return {
        "nodes_treeids": [0, 0, 0],
        "nodes_nodeids": [0, 1, 2],
        "nodes_featureids": [0, 0, 0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
        "nodes_values": [1.0, 0.0, 0.0],
        "nodes_truenodeids": [1, 0, 0],
        "nodes_falsenodeids": [2, 0, 0],
        "target_treeids": [0, 0],
        "target_nodeids": [1, 2],
        "target_ids": [0, 0],
        "target_weights": [1.0, 2.0],
        "n_targets": 1,
    } | changes


def classifier(weights: list[float], ids: list[int], labels: list[int], **changes: Any) -> Attrs:
    nodes = {key: value for key, value in stump().items() if key.startswith("nodes")}
    half = len(weights) // 2
    return {
        **nodes,
        "class_treeids": [0] * len(weights),
        "class_nodeids": [1] * half + [2] * half,
        "class_ids": ids,
        "class_weights": weights,
        "classlabels_int64s": labels,
    } | changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nodes_truenodeids": [0, 0, 0]}, "a cycle through node 0"),
        ({"nodes_falsenodeids": [1, 0, 0]}, "node 2 of the ensemble belongs to no tree"),
        ({"nodes_featureids": [7, 0, 0]}, "node 0 looks at feature 7, and the input has 2"),
        ({"nodes_values": [float("nan"), 0.0, 0.0]}, "the threshold of node 0 of tree 0 is NaN"),
        ({"nodes_modes": ["BRANCH_NEAR", "LEAF", "LEAF"]}, "mode BRANCH_NEAR of node 0 of tree 0 is unknown"),
        ({"nodes_falsenodeids": [5, 0, 0]}, "node 0 of tree 0 leads to node 5, which there is not"),
        ({"nodes_values": [1.0, 0.0]}, "differ in length"),
        ({"nodes_nodeids": [0, 1, 1]}, "two nodes of a tree have the same id"),
        ({"target_nodeids": [1, 1]}, "has two weights for target 0"),
        ({"target_nodeids": [1, 0]}, "names node 0 of tree 0, which is no leaf"),
        ({"target_weights": [1.0, float("inf")]}, "attribute target_weights of TreeEnsembleRegressor is not finite"),
        ({"base_values": [1.0, 2.0]}, "2 base values for 1 targets"),
        ({"base_values": [float("nan")]}, "base_values of TreeEnsembleRegressor is not finite: entry 0 is nan"),
        ({"aggregate_function": "MEDIAN"}, "aggregate_function MEDIAN is unknown"),
        ({"post_transform": "PROBIT"}, "post_transform PROBIT is not supported"),
        ({"target_ids": [0, 3]}, "adds to a target beyond 1"),
    ],
)
def test_no_ensemble(changes: Attrs, message: str) -> None:
    with pytest.raises(Ml2scError, match=message):
        ml2sc.compile(tree_model("TreeEnsembleRegressor", 2, stump(**changes)))


def test_too_many_nodes() -> None:
    count = 200_001
    columns = {key: [0] * count for key in ("featureids", "truenodeids", "falsenodeids")}
    attrs = {f"nodes_{key}": column for key, column in columns.items()} | {
        "nodes_treeids": list(range(count)),
        "nodes_nodeids": [0] * count,
        "nodes_modes": ["LEAF"] * count,
        "nodes_values": [0.0] * count,
    }
    with pytest.raises(Ml2scError, match="200,001 nodes; 200,000 is the most"):
        import_graph(load_onnx(tree_model("TreeEnsembleRegressor", 2, stump(**attrs))))


def grown(trees: int, depth: int) -> onnx.ModelProto:
    random = np.random.default_rng(0)
    attrs = random_attributes(random, features=3, trees=trees, depth=depth, targets=1)
    modes = [mode if mode == "LEAF" else "BRANCH_LEQ" for mode in attrs["nodes_modes"]]
    return tree_model("TreeEnsembleRegressor", 3, attrs | {"nodes_modes": modes, "n_targets": 1})


def test_what_is_too_large_for_nested_comparisons_is_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ml2sc.ir.thermometer.MOST_NESTED", 40)
    model = grown(6, 6)
    artifact = ml2sc.compile(model)
    assert [layer["kernel"] for layer in artifact.manifest["plan"] if "kernel" in layer] == ["records"]
    assert artifact.graph is not None
    assert artifact.program is not None
    for row in threshold_rows(np.random.default_rng(1), model, 20).astype(np.float64):
        q = wad.quantize_inputs(artifact.graph, {"x": row[None]})
        assert Interpreter(artifact.program).run(wad.pack(artifact.graph, q)) == wad.run_graph(artifact.graph, q)


def test_too_large_for_any_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ml2sc.ir.thermometer.MOST_NESTED", 1_000)
    with pytest.raises(Ml2scError, match=r"too many for any form: .*tree in a table about 2,.*, the largest has"):
        ml2sc.compile(grown(1, 17))


@pytest.mark.parametrize(
    ("attrs", "message"),
    [
        (classifier([0.4, 0.6], [1, 1], [0, 1]), "only the second has weights"),
        (classifier([0.4, 0.6], [0, 0], [3]), "with 1 class labels"),
        (classifier([0.4, 0.6], [0, 0], [0, 1], base_values=[0.1, 0.2]), "two base values for one score"),
        (classifier([0.4, 0.6, 0.1, 0.9], [0, 1, 0, 1], [0, 1], base_values=[0.1, 0.2]), "scores of their own"),
        (classifier([0.4, 0.6], [0, 1], [0, 1, 2]), "class 0 has no weight in some leaf"),
        (classifier([0.4, 0.6], [0, 0], [0, 1], post_transform="PROBIT"), "PROBIT"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*onnxruntime's label")
def test_refused_classifiers(attrs: Attrs, message: str) -> None:
    with pytest.raises(Ml2scError, match=message):
        ml2sc.compile(tree_model("TreeEnsembleClassifier", 2, attrs))


def test_trees_behind_other_operators_are_refused() -> None:
    model = tree_model("TreeEnsembleRegressor", 2, stump())
    model.graph.node[0].input[0] = "scaled"
    model.graph.node.insert(0, onnx.helper.make_node("Mul", ["x", "two"], ["scaled"]))
    model.graph.initializer.append(from_array(np.array([2.0], dtype=np.float32), "two"))
    with pytest.raises(Ml2scError, match="trees are supported whose features are the model's inputs"):
        ml2sc.compile(model, precision="int8", input_ranges=((-1.0, 1.0),))


def answers(model: onnx.ModelProto, rows: Any, **options: Any) -> tuple[list[Any], list[Any]]:
    """Return outputs and decisions of the interpreter, and what onnxruntime answers."""
    graph = ml2sc.quantize(ml2sc.lift(model, **options)).graph
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    ours, theirs = [], []
    for row in rows:
        kinds = {"tensor(double)": np.float64, "tensor(int64)": np.int64}
        x = np.array([row], dtype=kinds.get(session.get_inputs()[0].type, np.float32))
        outcome = wad.run_graph(graph, wad.quantize_inputs(graph, {"x": x.astype(np.float64)}))
        ours.append(([value / wad.WAD for value in outcome.outputs], outcome.decision))
        answer = session.run(None, {"x": x})
        label = None if len(answer) == 1 else int(answer[0][0])
        theirs.append((np.asarray(answer[-1], dtype=np.float64).ravel().tolist(), label))
    return ours, theirs


def assert_same(ours: list[Any], theirs: list[Any]) -> None:
    for (scores, decision), (wanted, label) in zip(ours, theirs, strict=True):
        assert scores == pytest.approx(wanted, abs=2e-5)
        assert decision == label


BINARY: Mapping[str, Attrs] = {
    "half": classifier([0.5, 0.50000006], [0, 0], [0, 1]),
    "labels": classifier([0.4, 0.6], [0, 0], [5, 3]),
    "sign": classifier([-0.4, 0.6], [0, 0], [0, 1]),
    "zero": classifier([0.0, -1.0], [0, 0], [0, 1], post_transform="LOGISTIC"),
    "base": classifier([0.4, 0.6], [0, 0], [0, 1], base_values=[-0.05]),
    "logistic": classifier([0.4, 0.6], [0, 0], [0, 1], post_transform="LOGISTIC"),
    "softmax": classifier([-0.4, 0.6], [0, 0], [0, 1], post_transform="SOFTMAX"),
    "two": classifier([0.7, 0.3, 1.0, 0.0], [0, 1, 0, 1], [0, 1]),
    "three": classifier([0.4, 0.4, 0.2, 0.0, 0.0, 0.0], [0, 1, 2, 0, 1, 2], [7, 8, 9]),
    "three, based": classifier([0.4, 0.4, 0.2, 0.0], [0, 1, 1, 2], [7, 8, 9], base_values=[0.0, 0.5, 0.1]),
}


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.filterwarnings("ignore:.*onnxruntime's label")
def test_labels_are_onnxruntimes(name: str) -> None:
    assert_same(*answers(tree_model("TreeEnsembleClassifier", 2, BINARY[name]), [[0.0, 0.0], [2.0, 0.0]]))


@pytest.mark.parametrize("name", [name for name in BINARY if name not in {"labels", "softmax"}])
@pytest.mark.filterwarnings("ignore:.*onnxruntime's label")
def test_labels_may_be_names(name: str) -> None:
    attrs = BINARY[name].copy()
    names = [f"name {label}" for label in attrs.pop("classlabels_int64s")]
    model = tree_model("TreeEnsembleClassifier", 2, attrs | {"classlabels_strings": names})
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.STRING
    artifact = ml2sc.compile(model)
    assert artifact.graph is not None
    assert artifact.manifest["classes"] == names
    assert interface_of(artifact)["decision"]["classes"] == names
    assert "the number of the class: 0 " in artifact.source
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for x in ([0.0, 0.0], [2.0, 0.0]):
        q = wad.quantize_inputs(artifact.graph, {"x": np.array([x])})
        decision = wad.run_graph(artifact.graph, q).decision
        assert decision is not None
        assert [names[decision]] == session.run(["label"], {"x": np.array([x], dtype=np.float32)})[0].tolist()


@pytest.mark.parametrize("name", ["logistic", "two"])
def test_contradicting_labels_are_said_and_can_be_the_scores(name: str) -> None:
    model = tree_model("TreeEnsembleClassifier", 2, BINARY[name])
    with pytest.warns(PoorResultWarning, match="onnxruntime's label is not always what its own scores say"):
        runtime, _ = answers(model, [[0.0, 0.0]])
    scores, theirs = answers(model, [[0.0, 0.0]], labels="scores")
    assert runtime[0][1] == theirs[0][1] != scores[0][1]
    assert scores[0][1] == int(np.argmax(theirs[0][0]))


MODES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]
THRESHOLDS = [1.0, 0.0, -0.0, 1e-40, 3.4028234663852886e38, np.inf, -np.inf]


@pytest.mark.parametrize(
    ("threshold", "mode", "missing"), heavy.but_each(5, itertools.product(THRESHOLDS, MODES, (0, 1)))
)
def test_every_comparison(mode: str, missing: int, threshold: float) -> None:
    changes = {"nodes_modes": [mode, "LEAF", "LEAF"], "nodes_missing_value_tracks_true": [missing, 0, 0]}
    model = tree_model("TreeEnsembleRegressor", 1, stump(**changes, nodes_values=[threshold, 0.0, 0.0]))
    values = [-1.0, -0.0, 0.0, 1.0, 2.0, np.nan, np.float32(1e-40), np.finfo(np.float32).max]
    with np.errstate(over="ignore"):
        near = [float(np.nextafter(np.float32(threshold), np.float32(side))) for side in (-np.inf, np.inf)]
    rows = [[value] for value in [*values, *near] if not np.isinf(value)]
    assert_same(*answers(model, rows))


def test_doubles_are_compared_as_doubles() -> None:
    model = tree_model("TreeEnsembleRegressor", 1, stump(nodes_values=[0.1, 0.0, 0.0]), double=True)
    edge = float(np.float32(0.1))
    rows = [[0.1], [edge], [np.nextafter(edge, 1.0)], [np.nextafter(edge, 0.0)], [np.nan]]
    assert_same(*answers(model, rows))


@pytest.mark.parametrize(
    ("mode", "threshold"),
    heavy.but_each(3, itertools.product(MODES, (-2.0, -1.5, -0.5, 0.0, 0.5, 2.0, 2.5, float(1 << 30)))),
)
def test_whole_numbers(mode: str, threshold: float) -> None:
    nodes = {"nodes_modes": [mode, "LEAF", "LEAF"], "nodes_values": [threshold, 0.0, 0.0]}
    model = tree_model("TreeEnsembleClassifier", 2, classifier([0.4, 0.6], [0, 0], [0, 1], **nodes))
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    rows = [[value, 0] for value in (*range(-4, 5), (1 << 30) - 64, 1 << 30, (1 << 30) + 128)]
    assert_same(*answers(model, rows))


@pytest.mark.parametrize(
    "edges", [(0.5,), (2.0,), (-0.5,), (-2.0,), (0.0,), (1.2, 1.7), (1.2, 2.0, 2.5), (1.9999999, 2.0)]
)
def test_what_is_no_whole_number_counts_as_its_whole_part(edges: tuple[float, ...]) -> None:
    forks = (Fork(0, edges, True, 1, 2), Leaf({0: 1.0}), Leaf({}))
    before = Ensemble(1, 1, forks, (0,), (0.0,))
    after = before.of_whole({0})
    there = np.array([False])
    for x in np.arange(-24, 25, dtype=np.float32)[:, None] / 8:
        assert after.evaluate(x, there) == before.evaluate(np.trunc(x), there)


def listed(mode: int, split: float, member: list[float] | None = None, **changes: Any) -> Attrs:
    attrs = {
        "n_targets": 1,
        "tree_roots": [0],
        "nodes_modes": from_array(np.array([mode], np.uint8)),
        "nodes_featureids": [0],
        "nodes_splits": from_array(np.array([split], np.float32)),
        "nodes_truenodeids": [0],
        "nodes_trueleafs": [1],
        "nodes_falsenodeids": [1],
        "nodes_falseleafs": [1],
        "leaf_targetids": [0, 0],
        "leaf_weights": from_array(np.array([1, 2], np.float32)),
    } | changes
    return attrs if member is None else attrs | {"membership_values": from_array(np.array(member, np.float32))}


@pytest.mark.parametrize("mode", range(6))
def test_operator_set_five(mode: int) -> None:
    model = tree_model("TreeEnsemble", 1, listed(mode, 1.0))
    assert_same(*answers(model, [[0.0], [1.0], [np.nextafter(np.float32(1), np.float32(2))], [np.nan]]))


def test_membership() -> None:
    model = tree_model("TreeEnsemble", 1, listed(6, 0.0, [1.0, 3.0, np.nan]))
    assert_same(*answers(model, [[1.0], [2.0], [3.0], [4.0], [np.nan]]))


@pytest.mark.parametrize(
    ("attrs", "message"),
    [
        (listed(9, 1.0), "mode 9 of node 0 is unknown"),
        (listed(0, float("nan")), "the threshold of node 0 is NaN"),
        (listed(6, 1.0), "no set in membership_values for node 0"),
        (listed(0, 1.0, nodes_truenodeids=[4]), "a node leads to leaf 4, which there is not"),
        (listed(0, 1.0, tree_roots=[3]), "tree_roots names a node that there is not"),
        (listed(0, 1.0, aggregate_function=8), "aggregate_function 8"),
    ],
)
def test_no_ensemble_of_operator_set_five(attrs: Attrs, message: str) -> None:
    with pytest.raises(Ml2scError, match=message):
        ml2sc.compile(tree_model("TreeEnsemble", 1, attrs))


def chain(values: list[float]) -> Attrs:
    """Return a chain of equalities, as LightGBM's categories are written."""
    count = len(values)
    yes, no = count, count + 1
    attrs = {
        "nodes_nodeids": [*range(count), yes, no],
        "nodes_modes": ["BRANCH_EQ"] * count + ["LEAF"] * 2,
        "nodes_values": [*values, 0.0, 0.0],
        "nodes_truenodeids": [yes] * count + [0, 0],
        "nodes_falsenodeids": [*range(1, count), no, 0, 0],
        "nodes_featureids": [0] * (count + 2),
        "nodes_treeids": [0] * (count + 2),
        "target_nodeids": [yes, no],
    }
    return stump(**attrs)


def test_chains_of_categories_are_one_comparison() -> None:
    model = tree_model("TreeEnsembleRegressor", 1, chain([1.0, 2.0, 5.0, 9.0]))
    graph = import_graph(load_onnx(model))
    (node,) = [node for node in graph if node.op_type == TREES]
    forks = [fork for fork in Ensemble.of(node).nodes if isinstance(fork, Fork)]
    assert [len(fork.edges) for fork in forks] == [8]
    assert_same(*answers(model, [[float(v)] for v in range(11)] + [[np.nan], [1.5]]))
