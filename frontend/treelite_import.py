"""Native models of XGBoost, LightGBM and scikit-learn, read by treelite: as ONNX, their thresholds stay what they are.

Exporters round LightGBM's thresholds to float32, or leave out what is done to the sum. Here comparisons are in the type
the library uses, and what follows the sum is the library's own.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ml2sc.errors import ModelFormatError, ToolchainError, UnsupportedModelError, UsageError

_KINDS = {".json": "xgboost", ".ubj": "xgboost", ".txt": "lightgbm"}
_OPERATORS = {"<": "BRANCH_LT", "<=": "BRANCH_LEQ", ">": "BRANCH_GT", ">=": "BRANCH_GTE", "==": "BRANCH_EQ"}
_OPSET, _ML_OPSET, _IR = 17, 3, 9


def native_kind(path: Path, data: bytes) -> str | None:
    """Return which library's model a file holds, by its name and its first bytes; None if it is none of them."""
    kind = _KINDS.get(path.suffix.lower())
    if kind == "xgboost":
        return kind if data[:1] == b"{" and b"learner" in data[:_HEAD] else None
    return kind if kind is not None and data.lstrip()[:4] == b"tree" else None


_HEAD = 1 << 16
_LAST = b"end of trees"
"""What LightGBM writes after its trees."""


def require_native(path: Path, size: int) -> None:
    """Refuse a file whose name promises a model that treelite reads, and that holds none.

    Args:
        path: The file.
        size: Its bytes.

    Raises:
        ModelFormatError: its name does.
    """
    kind = _KINDS.get(path.suffix.lower())
    if kind is not None:
        library = {"xgboost": "XGBoost", "lightgbm": "LightGBM"}[kind]
        raise ModelFormatError(
            f"{path} holds no model of {library}, or it is truncated ({size} bytes)",
            hint=f"{path.suffix} files are read as {library}'s save_model writes them; other models as .onnx files",
        )


def import_native(path: Path, kind: str, data: bytes) -> onnx.ModelProto:
    """Return a native model as ONNX.

    Args:
        path: The file.
        kind: What `native_kind` said.
        data: Its contents.

    Raises:
        ToolchainError: treelite is not installed.
        ModelFormatError: treelite cannot read it, or it ends too soon.
        UnsupportedModelError: it does what ONNX's trees do not, or takes 0 for a missing value.
    """
    if kind == "lightgbm" and _LAST not in data:  # treelite would read the trees up to there, as if they were all
        raise ModelFormatError(
            f"{path} is truncated ({len(data)} bytes): its trees have no end",
            hint="save the model again, or copy all of it",
        )
    if kind == "xgboost":
        _require_trees(str(path), data)
    if kind == "lightgbm":
        _require_zero_is_a_number(data, str(path))
        _require_ends(data, str(path))
    treelite = _treelite(f"{path} is a model of {kind}")
    load = {"xgboost": treelite.frontend.load_xgboost_model, "lightgbm": treelite.frontend.load_lightgbm_model}[kind]
    return _read(lambda: load(str(path)), str(path))


def library_of(model: Any) -> str | None:
    """Return whose fitted model an object is, of those that treelite reads as they are; None if it is none of them.

    Those are the models of XGBoost and LightGBM, and of scikit-learn's the ones that compare float64.
    """
    kinds = type(model).__mro__
    packages = {kind.__module__.partition(".")[0] for kind in kinds}
    if "sklearn" in packages and {kind.__name__ for kind in kinds} & _HISTOGRAMS:
        return "scikit-learn"
    return next((library for library in ("xgboost", "lightgbm") if library in packages), None)


_HISTOGRAMS = {"HistGradientBoostingClassifier", "HistGradientBoostingRegressor"}


def import_estimator(model: Any) -> onnx.ModelProto:
    """Return a fitted model of a library that `library_of` names as ONNX.

    Raises:
        ToolchainError: treelite is not installed.
        UsageError: the model is not fitted.
        ModelFormatError: treelite cannot read it.
        UnsupportedModelError: it does what ONNX's trees do not, or takes a number for a missing value.
    """
    kind, library = type(model).__name__, library_of(model)
    treelite = _treelite(f"the {kind} is a model of {library}")
    if library != "scikit-learn":
        fitted = getattr(model, "__sklearn_is_fitted__", None)
        if fitted is not None and not fitted():
            raise UsageError(f"the {kind} is not fitted", hint="call its fit(X, y) first")
    elif not hasattr(model, "n_features_in_"):
        raise UsageError(f"the {kind} is not fitted", hint="call its fit(X, y) first")
    if library == "xgboost":
        _require_trees(f"the {kind}", _booster(model).save_config().encode())
    if library == "lightgbm":
        _require_zero_is_a_number(getattr(model, "booster_", model).model_to_string().encode(), f"the {kind}")
    missing = getattr(model, "missing", None) if library == "xgboost" else None
    if missing is not None and not math.isnan(missing):
        raise UnsupportedModelError(
            f"the {kind} takes {missing:g} for a missing value (its parameter `missing`); its trees do not show it",
            hint=f"fit it with NaN in place of {missing:g}, and leave `missing` out",
        )
    load = {
        "xgboost": lambda: treelite.frontend.from_xgboost(_booster(model)),
        "lightgbm": lambda: treelite.frontend.from_lightgbm(getattr(model, "booster_", model)),
        "scikit-learn": lambda: treelite.sklearn.import_model(model),
    }[str(library)]
    return _read(load, f"the {kind}")


def _require_zero_is_a_number(text: bytes, what: str) -> None:
    """Refuse a model of LightGBM's with nodes that take 0 for a missing value: treelite does not say so.

    Args:
        text: The model, as LightGBM saves it.
        what: What to call it in messages.

    Raises:
        UnsupportedModelError: it has some.
    """
    lines = re.findall(rb"^decision_type=(.*)", text, re.MULTILINE)
    if any(node in _ZERO_IS_MISSING for line in lines for node in line.split()):
        raise UnsupportedModelError(
            f"{what} takes 0 for a missing value (its parameter `zero_as_missing`)",
            hint="fit it with NaN in place of 0, and leave `zero_as_missing` out",
        )


def _require_ends(text: bytes, what: str) -> None:
    """Refuse a model of LightGBM's in which a way through a tree may have no end: treelite would follow it for ever.

    Args:
        text: The model, as LightGBM saves it.
        what: What to call it in messages.

    Raises:
        ModelFormatError: a node has two parents, or the first one has one.
    """
    sides = (re.findall(rb"^%b_child=(.*)" % side, text, re.MULTILINE) for side in (b"left", b"right"))
    for number, lines in enumerate(zip(*sides, strict=False)):
        inner = re.findall(rb"(?<!-)\b\d+", b" ".join(lines))  # leaves have negative numbers
        twice = next((int(node) for node in inner if int(node) == 0 or inner.count(node) > 1), None)
        if twice is not None:
            raise ModelFormatError(
                f"{what}, tree {number}: more than one way leads to node {twice}, or one from its own children",
                hint="save the model again",
            )


_ZERO_IS_MISSING = {b"4", b"5", b"6", b"7"}
"""Decision types of nodes whose bits 2 and 3 (what is missing) say 0; 8 to 11 say NaN. The other bits are flags."""


def _booster(model: Any) -> Any:
    """Return what XGBoost predicts with: where training was stopped early, the trees up to the best round."""
    booster = model.get_booster() if hasattr(model, "get_booster") else model
    try:
        best = int(model.best_iteration)
    except AttributeError:
        return booster
    return booster[: best + 1]


def class_names_of(model: Any) -> tuple[str, ...]:
    """Return the names of a fitted classifier's labels, unless these are 0, 1 and so on."""
    classes = np.ravel(getattr(model, "classes_", ())).tolist()
    return () if classes == [*range(len(classes))] else tuple(map(str, classes))


def _treelite(what: str) -> Any:
    try:
        import treelite
    except ImportError as error:
        raise ToolchainError(
            f"{what}, which treelite reads, and that is not installed",
            hint="pip install 'ml2sc[trees]', or export the model to ONNX",
        ) from error
    return treelite


def _require_trees(what: str, described: bytes) -> None:
    """Refuse a linear model of XGBoost, before treelite does in its own words.

    Args:
        what: What to call the model.
        described: What XGBoost writes about it, as JSON or UBJSON.

    Raises:
        UnsupportedModelError: it is one.
    """
    if _LINEAR.search(described):
        raise UnsupportedModelError(
            f"{what} has no trees: it is a linear model (booster='gblinear')",
            hint="compile an estimator of sklearn.linear_model that has its coef_ and intercept_",
        )


_LINEAR = re.compile(rb'name(":\s*"|SL.{8})gblinear', re.DOTALL)
"""The name of the booster, after a quotation mark or eight bytes that say how long it is."""


def _read(load: Callable[[], Any], what: str) -> onnx.ModelProto:
    """Return what treelite loads as ONNX.

    Raises:
        ModelFormatError: it cannot load it.
    """
    try:
        dumped = load().dump_as_json()
    # treelite's errors, and those of the library it is written in, have no common base
    except Exception as error:
        text = _PLACE.sub("", " ".join(str(error).split()))
        raise ModelFormatError(f"treelite cannot read {what}: {text[:_SHOWN]}") from error
    try:
        model = json.loads(dumped)
    except json.JSONDecodeError as error:
        raise ModelFormatError(f"{what} has a threshold or a leaf that is no finite number") from error
    return as_onnx(model, what)


_SHOWN = 300
_PLACE = re.compile(r"\[[\d:]+\] \S+:\d+: ")
"""What treelite's errors begin with: the time, and where in its source they are raised."""


def as_onnx(model: Mapping[str, Any], what: str) -> onnx.ModelProto:
    """Return treelite's description of a model as ONNX.

    Args:
        model: What `dump_as_json` says.
        what: What to call it in messages.

    Raises:
        ModelFormatError: it has no tree.
        UnsupportedModelError: it does what ONNX's trees do not.
    """
    if not any("leaf_value" in node for tree in model["trees"] for node in tree["nodes"]):
        raise ModelFormatError(f"{what} has no tree", hint="train it, and save it again")
    classes = model["num_class"]
    if model["num_target"] != 1 or len(classes) != 1:
        raise UnsupportedModelError(f"{what} has {model['num_target']} targets", hint="one is supported")
    targets = max(int(classes[0]), 1)
    double = model["threshold_type"] == "float64"
    attrs = _columns(model, targets, what)
    attrs |= {
        "n_targets": targets,
        "aggregate_function": "AVERAGE" if model["average_tree_output"] else "SUM",
    }
    kind = np.float64 if double else np.float32
    base = [float(value) for value in model["base_scores"]]
    for key, values in (
        ("nodes_values", attrs.pop("values")),
        ("target_weights", attrs.pop("weights")),
        ("base_values", base),
    ):
        if double:
            attrs[f"{key}_as_tensor"] = numpy_helper.from_array(np.array(values, dtype=kind), key)
        else:
            attrs[key] = values
    sums = helper.make_node("TreeEnsembleRegressor", ["x"], ["sum"], domain="ai.onnx.ml", **attrs)
    nodes, constants = _after(model, what)
    element = TensorProto.DOUBLE if double else TensorProto.FLOAT
    graph = helper.make_graph(
        [sums, *nodes],
        "model",
        [helper.make_tensor_value_info("x", element, [None, int(model["num_feature"])])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, targets])],
        constants,
    )
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid("ai.onnx.ml", _ML_OPSET)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=_IR, producer_name="ml2sc from treelite")


def _columns(model: Mapping[str, Any], targets: int, what: str) -> dict[str, Any]:
    """Return the attributes that describe nodes and leaves."""
    nodes: dict[str, list[Any]] = {key: [] for key in (*_NODE_KEYS, "values")}
    leaves: dict[str, list[Any]] = {key: [] for key in ("treeids", "nodeids", "ids", "weights")}
    for tree, (described, class_id) in enumerate(zip(model["trees"], model["class_id"], strict=True)):
        for node in described["nodes"]:
            number = int(node["node_id"])
            row: Sequence[Any]
            if "leaf_value" in node:
                row = (tree, number, 0, "LEAF", 0, 0, 0, 0.0)
                values = node["leaf_value"] if isinstance(node["leaf_value"], list) else [node["leaf_value"]]
                first = max(int(class_id), 0)
                if first + len(values) > targets:
                    raise UnsupportedModelError(f"{what}: a leaf of tree {tree} has {len(values)} values")
                for offset, value in enumerate(values):
                    entry = (tree, number, first + offset, float(value))
                    for column, part in zip(leaves.values(), entry, strict=True):
                        column.append(part)
            elif node.get("node_type") != "numerical_test_node" or node.get("comparison_op") not in _OPERATORS:
                raise UnsupportedModelError(
                    f"{what}: node {number} of tree {tree} is a {node.get('node_type')!s:.40}",
                    hint="comparisons with numbers are supported; categories are in models exported to ONNX",
                )
            else:
                mode, left, right = _OPERATORS[node["comparison_op"]], int(node["left_child"]), int(node["right_child"])
                missing = int(bool(node["default_left"]))
                row = (
                    tree,
                    number,
                    int(node["split_feature_id"]),
                    mode,
                    left,
                    right,
                    missing,
                    float(node["threshold"]),
                )
            for column, item in zip(nodes.values(), row, strict=True):
                column.append(item)
    found: dict[str, Any] = {f"nodes_{key}": nodes[key] for key in _NODE_KEYS}
    found |= {f"target_{key}": leaves[key] for key in ("treeids", "nodeids", "ids")}
    return found | {"values": nodes["values"], "weights": leaves["weights"]}


_NODE_KEYS = (
    "treeids",
    "nodeids",
    "featureids",
    "modes",
    "truenodeids",
    "falsenodeids",
    "missing_value_tracks_true",
)


def _after(model: Mapping[str, Any], what: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Return what is done to the sums."""
    post = str(model["postprocessor"])
    if post in {"identity", "identity_multiclass"}:
        return [helper.make_node("Identity", ["sum"], ["y"])], []
    if post == "softmax":
        return [helper.make_node("Softmax", ["sum"], ["y"], axis=-1)], []
    if post not in {"sigmoid", "multiclass_ova"}:
        raise UnsupportedModelError(
            f"{what}: what it does to its sums, {post!s:.40}, is not supported",
            hint="identity, sigmoid, softmax and multiclass_ova are",
        )
    alpha = float(model["sigmoid_alpha"])
    if alpha == 1:
        return [helper.make_node("Sigmoid", ["sum"], ["y"])], []
    factor = numpy_helper.from_array(np.array(alpha, dtype=np.float32), "alpha")
    return [helper.make_node("Mul", ["sum", "alpha"], ["z"]), helper.make_node("Sigmoid", ["z"], ["y"])], [factor]
