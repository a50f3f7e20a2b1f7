"""Random tree ensembles as ONNX models, and rows that lie on their thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

Array = npt.NDArray[Any]

MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")


def tree_model(kind: str, features: int, attrs: Mapping[str, Any], *, double: bool = False) -> onnx.ModelProto:
    """Return a model of one `TreeEnsembleClassifier`, `TreeEnsembleRegressor` or `TreeEnsemble`."""
    version = 5 if kind == "TreeEnsemble" else 3
    element = TensorProto.DOUBLE if double else TensorProto.FLOAT
    outputs = ["label", "scores"] if kind == "TreeEnsembleClassifier" else ["y"]
    node = helper.make_node(kind, ["x"], outputs, domain="ai.onnx.ml", **attrs)
    kinds = {"label": TensorProto.INT64, "y": element if kind == "TreeEnsemble" else TensorProto.FLOAT}
    graph = helper.make_graph(
        [node],
        "trees",
        [helper.make_tensor_value_info("x", element, [None, features])],
        [helper.make_tensor_value_info(name, kinds.get(name, TensorProto.FLOAT), None) for name in outputs],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", version)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def random_attributes(
    random: np.random.Generator, *, features: int, trees: int, depth: int, targets: int, prefix: str = "target"
) -> dict[str, Any]:
    """Return the attributes of random trees: every mode, missing values, thresholds that come again.

    Args:
        random: The generator.
        features: Elements of the input.
        trees: How many trees.
        depth: Of the deepest.
        targets: How many values a leaf has.
        prefix: `target` or `class`.
    """
    columns: dict[str, list[Any]] = {
        key: []
        for key in ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids", "missing")
    }
    leaves: dict[str, list[Any]] = {key: [] for key in ("treeids", "nodeids", "ids", "weights")}
    known = np.round(random.normal(size=4 * features), 1).astype(np.float32)
    modes = MODES if random.random() < 0.5 else MODES[:1]

    def grow(tree: int, left: int) -> int:
        number = len(columns["nodeids"]) - first
        row = len(columns["nodeids"])
        for key, value in zip(columns, (tree, number, 0, "LEAF", 0.0, 0, 0, 0), strict=True):
            columns[key].append(value)
        if left == 0 or (left < depth and random.random() < 0.2):
            for target in range(targets):
                for key, value in zip(leaves, (tree, number, target, float(random.normal())), strict=True):
                    leaves[key].append(value)
            return number
        columns["featureids"][row] = int(random.integers(features))
        columns["modes"][row] = str(random.choice(modes))
        columns["values"][row] = float(random.choice(known) if random.random() < 0.7 else np.float32(random.normal()))
        columns["missing"][row] = int(random.random() < 0.3)
        columns["truenodeids"][row] = grow(tree, left - 1)
        columns["falsenodeids"][row] = grow(tree, left - 1)
        return number

    for tree in range(trees):
        first = len(columns["nodeids"])
        grow(tree, depth)
    missing = columns.pop("missing")
    attrs: dict[str, Any] = {f"nodes_{key}": column for key, column in columns.items()}
    attrs["nodes_missing_value_tracks_true"] = missing
    attrs |= {f"{prefix}_{key}": column for key, column in leaves.items()}
    return attrs


def threshold_rows(random: np.random.Generator, model: onnx.ModelProto, rows: int) -> Array:
    """Return float32 rows whose elements are thresholds of the model, the floats next to those, NaN, or others."""
    thresholds: dict[int, list[float]] = {}
    features = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    for node in model.graph.node:
        attrs = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        for key in ("nodes_values", "nodes_splits"):
            values = attrs.get(key)
            if values is None:
                continue
            values = onnx.numpy_helper.to_array(values) if isinstance(values, onnx.TensorProto) else values
            for feature, value in zip(attrs["nodes_featureids"], values, strict=True):
                thresholds.setdefault(int(feature), []).append(float(value))
    found = random.normal(size=(rows, features)).astype(np.float32)
    for feature in range(features):
        values = np.array(thresholds.get(feature, [0.0]), dtype=np.float32)
        near = random.choice(values, rows)
        side = random.choice(np.array([-np.inf, 0.0, np.inf], dtype=np.float32), rows)
        found[:, feature] = np.where(side == 0, near, np.nextafter(near, side))
    found[random.random(found.shape) < 0.05] = np.nan
    return found
