"""Trees that are added up one by one become one ensemble, and mean the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from sklearn.datasets import load_wine
from sklearn.ensemble import (
    AdaBoostClassifier,
    GradientBoostingRegressor,
    IsolationForest,
    RandomForestRegressor,
    VotingRegressor,
)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from support.forests import random_attributes, threshold_rows, tree_model

import ml2sc
from ml2sc.frontend.model_file import load_onnx
from ml2sc.frontend.onnx_import import import_graph
from ml2sc.frontend.sklearn_export import export_sklearn
from ml2sc.ir import wad
from ml2sc.ir.graph import Graph
from ml2sc.ir.program import to_signed
from ml2sc.ir.shapes import infer_shapes, remove_constant_nodes
from ml2sc.ir.thermometer import TREES
from ml2sc.ir.trees import Ensemble
from ml2sc.passes.bind_trees import bind_trees

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::ml2sc.errors.Ml2scWarning")

FORESTS = VotingRegressor(
    [
        ("forest", RandomForestRegressor(5, max_depth=3, random_state=0)),
        ("boosted", GradientBoostingRegressor(n_estimators=5, random_state=0)),
    ],
    weights=np.array([3, 1]),
)
ESTIMATORS = {
    "AdaBoost": AdaBoostClassifier(DecisionTreeClassifier(max_depth=2), n_estimators=6, random_state=0),
    "IsolationForest": IsolationForest(n_estimators=6, max_samples=32, random_state=0),
    "forests": FORESTS,
}


def bound(proto: onnx.ModelProto) -> Graph:
    graph = import_graph(load_onnx(proto))
    infer_shapes(graph, fold=True)
    remove_constant_nodes(graph)
    bind_trees(graph)
    return graph


@pytest.mark.parametrize("name", ESTIMATORS)
def test_sums_of_trees_are_one_ensemble(name: str) -> None:
    x, y = load_wine(return_X_y=True)
    estimator = ESTIMATORS[name].fit(x, y)
    model = export_sklearn(estimator)
    graph = bound(model)
    (trees,) = (node for node in graph if node.op_type == TREES)
    assert len(Ensemble.of(trees).roots) == (10 if name == "forests" else 6)
    artifact = ml2sc.compile(model)
    assert artifact.graph is not None
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for row in x[::7].astype(np.float32):
        *labels, scores = session.run(None, {session.get_inputs()[0].name: row[None]})
        outcome = wad.run_graph(
            artifact.graph, wad.quantize_inputs(artifact.graph, {artifact.graph.inputs[0]: row[None]})
        )
        theirs = np.ravel(scores).astype(np.float64)
        ours = np.array(outcome.outputs) / wad.WAD
        assert np.abs(ours - theirs).max() <= artifact.manifest["error_bound"] + 1e-5
        if labels:
            assert outcome.decision is not None
            assert to_signed(outcome.decision) == int(np.ravel(labels[0])[0])


def two(after: list[onnx.NodeProto], *, aggregate: str = "SUM") -> onnx.ModelProto:
    """Return a model of two ensembles, `a` of one tree and `b` of three, and what comes after them."""
    random = np.random.default_rng(0)
    nodes = []
    for output, trees in (("a", 1), ("b", 3)):
        attrs: dict[str, Any] = random_attributes(random, features=3, trees=trees, depth=3, targets=1)
        attrs |= {"n_targets": 1, "base_values": [0.25], "aggregate_function": aggregate}
        node = tree_model("TreeEnsembleRegressor", 3, attrs).graph.node[0]
        node.output[0] = output
        nodes.append(node)
    model = tree_model("TreeEnsembleRegressor", 3, {})
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *after])
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0.5], dtype=np.float32), "half"))
    return model


def node(kind: str, inputs: list[str], output: str) -> onnx.NodeProto:
    return onnx.helper.make_node(kind, inputs, [output])


@pytest.mark.parametrize(
    ("after", "ensembles"),
    [
        ([node("Add", ["a", "b"], "y")], 1),
        ([node("Mul", ["half", "b"], "c"), node("Exp", ["a"], "d"), node("Sub", ["d", "c"], "y")], 1),
        ([node("Div", ["b", "half"], "c"), node("Neg", ["a"], "d"), node("Add", ["c", "d"], "y")], 1),
        ([node("Add", ["a", "half"], "c"), node("Add", ["b", "c"], "d"), node("Add", ["d", "a"], "y")], 1),
        ([node("Add", ["a", "b"], "c"), node("Sigmoid", ["c"], "y")], 1),
        ([node("Exp", ["b"], "c"), node("Add", ["a", "c"], "y")], 2),  # of a sum, no leaf of which says it alone
        ([node("Mul", ["a", "b"], "y")], 2),
    ],
)
def test_what_is_a_sum(after: list[onnx.NodeProto], ensembles: int) -> None:
    model = two(after)
    graph = bound(model)
    assert sum(n.op_type == TREES for n in graph) == ensembles
    artifact = ml2sc.compile(model)
    assert artifact.graph is not None
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for row in threshold_rows(np.random.default_rng(1), two([node("Add", ["a", "b"], "y")]), 30):
        (theirs,) = session.run(None, {"x": row[None]})
        outcome = wad.run_graph(artifact.graph, wad.quantize_inputs(artifact.graph, {"x": row[None].astype(float)}))
        assert abs(outcome.outputs[0] / wad.WAD - float(theirs[0, 0])) <= artifact.manifest["error_bound"] + 1e-5


def test_extremes_stay_apart() -> None:
    graph = bound(two([node("Add", ["a", "b"], "y")], aggregate="MAX"))
    assert sum(n.op_type == TREES for n in graph) == 2


def test_one_tree_stays_as_it_is() -> None:
    x, y = load_wine(return_X_y=True)
    model = export_sklearn(DecisionTreeRegressor(max_depth=3, random_state=0).fit(x, y))
    graph = bound(model)
    assert [n.op_type for n in graph] == [TREES, "Identity"]
