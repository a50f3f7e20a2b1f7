"""From a fitted scikit-learn estimator to an ONNX model. skl2onnx is an optional dependency and imported only here."""

from __future__ import annotations

import copy
import importlib.util
import itertools
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ml2sc.errors import ToolchainError, UnsupportedModelError, UsageError

from .labels import ONE_CLASS

_ML = "ai.onnx.ml"
_OLDER = {"": 18, _ML: 3}
"""Operator sets that every converter can write."""
_SHOWN = 300
"""Characters of skl2onnx's error that are passed on."""


def is_estimator(model: Any) -> bool:
    """Return whether an object is an estimator of scikit-learn, or of a library made like it."""
    return not isinstance(model, type) and all(
        callable(getattr(model, method, None)) for method in ("get_params", "set_params", "fit")
    )


def export_sklearn(estimator: Any) -> onnx.ModelProto:
    """Export a fitted estimator or pipeline; its input is x, float32, of shape (batch, features).

    Args:
        estimator: What `fit` has been called on.

    Raises:
        ToolchainError: scikit-learn or skl2onnx is not installed.
        UsageError: the estimator is not fitted.
        UnsupportedModelError: skl2onnx cannot convert it, or it is a classifier of one class.
    """
    for package, name in (("sklearn", "scikit-learn"), ("skl2onnx", "skl2onnx")):
        if importlib.util.find_spec(package) is None:
            raise ToolchainError(
                f"exporting a scikit-learn estimator needs {name}", hint="pip install 'ml2sc[sklearn]'"
            )
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.base import is_classifier

    kind = type(estimator).__name__
    features = getattr(estimator, "n_features_in_", None)
    if features is None:
        raise UsageError(f"the {kind} is not fitted", hint="call its fit(X, y) first")
    if getattr(getattr(estimator, "classes_", None), "shape", None) == (1,):
        raise UnsupportedModelError("a classifier with 1 class labels is not supported", hint=ONE_CLASS)
    types = [("x", FloatTensorType([None, int(features)]))]
    made: dict[int, Any] = {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exportable = _exportable(estimator, made)
            options = _raw_scores(made.values())
            if is_classifier(estimator):
                options[id(exportable)] = {"zipmap": False}
            proto = _converted(to_onnx, exportable, types, options, _name(estimator))
    except Exception as error:
        text = " ".join(str(error).split())  # some errors show whole attributes: every leaf of a forest
        raise UnsupportedModelError(
            f"skl2onnx cannot convert this {kind}: {text[:_SHOWN]}{'…' if len(text) > _SHOWN else ''}",
            hint=_hint(estimator, made.values()),
        ) from error
    assert isinstance(proto, onnx.ModelProto)
    # their order, and numbers in names, depend on what else skl2onnx has converted, and when: the model's hash must not
    proto.opset_import.sort(key=lambda opset: str(opset.domain))
    if any(getattr(part, "method", None) == "isotonic" for part in made.values()):
        _interpolate(proto.graph)
    if any(getattr(part, "loss", None) in {"log_loss", "modified_huber"} for part in made.values()):
        _decide_by_scores(proto.graph)
    _renumber(proto.graph)
    return proto


def _interpolate(graph: onnx.GraphProto) -> None:
    """Let isotonic calibrations interpolate between their thresholds, as scikit-learn does.

    skl2onnx answers with y of the nearest: ArrayFeatureExtractor(y, ArgMin(Abs(Sub(score, x)))). Here each step between
    two thresholds adds its share of its height: y[0] + Σ (y[k+1] − y[k])·clip((score − x[k])/(x[k+1] − x[k]), 0, 1).
    """
    makers = {name: node for node in graph.node for name in node.output}
    constants = {value.name: value for value in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        found = node.op_type == "ArrayFeatureExtractor" and _above(makers, node.input[1], ("ArgMin", "Abs", "Sub"))
        if not found or not {node.input[0], found.input[1]} <= constants.keys():
            nodes.append(node)
            continue
        (y, _), (score, x), (answer,) = node.input, found.input, node.output
        ends, heights = (numpy_helper.to_array(constants[name]).astype(np.float64) for name in (x, y))
        ends, heights = np.append(ends, ends[-1] + 1), np.append(heights, heights[-1])  # there may be one only
        rises = np.flatnonzero(np.diff(heights))  # what does not rise adds nothing
        rises = rises if rises.size else np.array([len(heights) - 2])
        widths = np.maximum(np.diff(ends), np.spacing(1 + np.abs(ends[1:]).astype(np.float32)))[rises]
        for name, values in (
            ("start", ends[rises]),
            ("slope", 1 / widths),
            ("least", np.zeros(())),
            ("most", np.ones(())),
            ("height", np.diff(heights)[rises, None]),
            ("base", heights[:1]),
        ):
            graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), f"{answer}_{name}"))
        for kind, taken, given in (
            ("Sub", (score, f"{answer}_start"), f"{answer}_distance"),
            ("Mul", (f"{answer}_distance", f"{answer}_slope"), f"{answer}_ratio"),
            ("Clip", (f"{answer}_ratio", f"{answer}_least", f"{answer}_most"), f"{answer}_share"),
            ("MatMul", (f"{answer}_share", f"{answer}_height"), f"{answer}_rise"),
            ("Add", (f"{answer}_rise", f"{answer}_base"), answer),
        ):
            nodes.append(helper.make_node(kind, taken, [given], name=given))
    _replace(graph, nodes)


def _decide_by_scores(graph: onnx.GraphProto) -> None:
    """Let an SGDClassifier of several classes decide by its scores, as scikit-learn does.

    skl2onnx decides by what becomes of them, where several may be the greatest: 1 at a score of 1 and above
    (modified_huber), or what no float tells from 1 (log_loss).
    """
    makers = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        for kinds in _OF_SCORES if node.op_type == "ArgMax" else ():
            if (found := _above(makers, node.input[0], kinds)) is not None:
                node.input[0] = found.input[0]


_OF_SCORES = (("Div", "Add", "Div", "Add", "Clip"), ("Div", "Add", "Reciprocal", "Add", "Exp", "Mul"))
"""What skl2onnx makes probabilities of an SGDClassifier's scores with, the last operator first."""


def _above(makers: Mapping[str, onnx.NodeProto], name: str, kinds: Iterable[str]) -> onnx.NodeProto | None:
    """Return the last of nodes of these kinds that a tensor comes from, each by the first input of the one before."""
    node = None
    for kind in kinds:
        node = makers.get(name)
        if node is None or node.op_type != kind:
            return None
        name = node.input[0]
    return node


def _replace(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> None:
    """Give a graph other nodes, but for those that nobody reads."""
    read, kept = {value.name for value in graph.output}, []
    for node in reversed(nodes):
        if read.intersection(node.output):
            read.update(node.input)
            kept.append(copy.deepcopy(node))
    constants = [copy.deepcopy(value) for value in graph.initializer if value.name in read]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(constants)


def _renumber(graph: onnx.GraphProto) -> None:
    """Number the names of a graph's nodes and tensors anew, as they come, those of its subgraphs included.

    skl2onnx counts some in all conversions of a process, and puts addresses of objects into others. Names without a
    number stay, and so do those of inputs and outputs.
    """
    names: dict[str, str] = {value.name: value.name for value in (*graph.input, *graph.output)}
    taken = set(names)

    def named(name: str) -> str:
        if name not in names:
            stem = _NUMBER.sub("", name)
            candidates = (f"{stem}{number}" for number in itertools.count(1))
            names[name] = next(new for new in candidates if new not in taken) if stem != name else name
            taken.add(names[name])
        return names[name]

    def visit(part: onnx.GraphProto) -> None:
        for node in part.node:
            if node.name:
                node.name = named(node.name)
            node.input[:] = map(named, node.input)
            node.output[:] = map(named, node.output)
            for attribute in node.attribute:
                for inner in (*attribute.graphs, *((attribute.g,) if attribute.HasField("g") else ())):
                    visit(inner)
        for value in (*part.input, *part.output, *part.initializer, *part.value_info):
            value.name = named(value.name)

    visit(graph)


_NUMBER = re.compile(r"\d+")


def _hint(estimator: Any, parts: Iterable[Any]) -> str:
    """Return what to do about an estimator that cannot be converted.

    Args:
        estimator: The estimator.
        parts: The estimators inside of it that were met, itself among them.
    """
    for part in parts:
        packages = {kind.__module__.partition(".")[0] for kind in type(part).__mro__}
        if hint := next((hint for package, hint in _BY_ITSELF.items() if package in packages), None):
            return hint
    if any(isinstance(value, str) for values in _categories(estimator) for value in values):
        return "a contract takes numbers: give categories that are text their numbers before the estimator is fitted"
    return "skl2onnx.to_onnx of the estimator must succeed"


_BY_ITSELF = {
    "catboost": 'compile the file that model.save_model("model.onnx", format="onnx") of the CatBoost model writes',
    **dict.fromkeys(
        ("xgboost", "lightgbm"),
        "skl2onnx knows no models of XGBoost and LightGBM: compile the model by itself, as it is or the file of its "
        "save_model; or register onnxmltools' converter for it (skl2onnx.update_registered_converter)",
    ),
}
"""What to do about models of other libraries, which are not read inside of an estimator."""


def _categories(estimator: Any) -> Iterator[Iterable[Any]]:
    """Iterate over the categories of each column that an encoder in an estimator knows."""
    yield from getattr(estimator, "categories_", ())
    for inner in (*getattr(estimator, "steps", ()), *getattr(estimator, "transformers_", ())):
        yield from _categories(inner[1])


def _converted(convert: Any, estimator: Any, types: Any, options: Any, name: str) -> Any:
    """Return the ONNX model.

    A classifier that knows no option `zipmap` writes no dictionaries, or they are dropped. Some converters (that of
    IsolationForest) refuse the newest operators of ai.onnx.ml, and say so.

    Args:
        convert: skl2onnx's `to_onnx`.
        estimator: What is converted.
        types: Names and types of its inputs.
        options: Of the estimator and of those inside of it, by their ids.
        name: Of the graph.
    """
    try:
        return convert(estimator, initial_types=types, options=options, name=name)
    except NameError as error:
        if id(estimator) not in options or "zipmap" not in str(error):
            raise
        options = {key: value for key, value in options.items() if key != id(estimator)}
    except RuntimeError as error:
        if f"'{_ML}': {_OLDER[_ML]}" not in str(error):
            raise
        return convert(estimator, initial_types=types, options=options, name=name, target_opset=_OLDER)
    return convert(estimator, initial_types=types, options=options, name=name)


def _exportable(part: Any, made: dict[int, Any]) -> Any:
    """Return an estimator as skl2onnx takes it: a copy, estimators inside of it included, whatever holds them.

    Columns that a ColumnTransformer takes by name, slice or mask are taken by number: the input is one table, and
    skl2onnx takes True for column 1. What a pipeline passes on and what a union drops is left out. A vote is without
    `flatten_transform`, which is not about predictions.

    Args:
        part: An estimator, or anything that it holds; what is neither an estimator nor a collection is returned.
        made: Copies of the estimators that were met, by the estimators' ids: they may know one another.
    """
    if id(part) in made:
        return made[id(part)]
    if type(part) in (list, tuple):
        return type(part)(_exportable(value, made) for value in part)
    if isinstance(part, dict):
        members = copy.copy(part)
        members.update((key, _exportable(value, made)) for key, value in part.items())
        return members
    # those of a calibration have no fit
    if isinstance(part, type) or not any(callable(getattr(part, method, None)) for method in ("fit", "predict_proba")):
        return part
    made[id(part)] = changed = _as_logistic(part) or copy.copy(part)
    held = vars(changed)
    held.update((name, _exportable(value, made)) for name, value in list(held.items()))
    if "transformers_" in held:
        numbers = held["_transformer_to_input_indices"]  # there is no other place that says them
        held["transformers_"] = [
            (name, *_in_order(step, [int(number) for number in numbers[name]], changed.n_features_in_))
            for name, step, _ in held["transformers_"]
        ]
    for attribute in ("steps", "transformer_list"):
        if attribute in held:
            held[attribute] = [
                (name, step) for name, step in held[attribute] if step is not None and not isinstance(step, str)
            ]
    if "flatten_transform" in held:
        held["flatten_transform"] = False
    return changed


def _as_logistic(part: Any) -> Any:
    """Return a discriminant of two classes as the logistic regression that it is; None of all else.

    Its probabilities are the logistic of its score s; skl2onnx takes the softmax of (-s, s), the logistic of 2s.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.linear_model import LogisticRegression

    if not isinstance(part, LinearDiscriminantAnalysis) or len(getattr(part, "classes_", ())) != _TWO:
        return None
    logistic = LogisticRegression()
    for name in ("classes_", "coef_", "intercept_", "n_features_in_"):
        setattr(logistic, name, getattr(part, name))
    return logistic


_TWO = 2


def _raw_scores(parts: Iterable[Any]) -> dict[int, dict[str, bool]]:
    """Return options, by id, of classifiers that are calibrated as last steps of pipelines: their scores are read.

    skl2onnx asks a classifier for them, but none in a pipeline, and support vectors that know probabilities give those:
    the copies are made to know none.
    """
    options = {}
    last: Any
    for part in parts:
        last, inside = (part.estimator if hasattr(part, "calibrators") else None), False
        while getattr(last, "steps", None):
            last, inside = last.steps[-1][1], True
        if getattr(last, "probability", False):
            vars(last).update(probability=False, _probA=np.empty(0), _probB=np.empty(0))
        if inside and hasattr(last, "decision_function"):
            # one without probabilities has no dictionaries to leave out
            options[id(last)] = {"raw_scores": True} | ({"zipmap": False} if hasattr(last, "predict_proba") else {})
    return options


def _in_order(step: Any, columns: list[int], features: int) -> tuple[Any, list[int]]:
    """Return a step of a ColumnTransformer and the numbers of its columns, as skl2onnx takes them.

    As many columns as there are are taken in the order in which they come, whatever their numbers: another order is a
    step of its own, which takes the first column and those after it.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline

    every = list(range(features))
    if len(columns) != features or columns == every or step == "drop":
        return step, columns
    order = ColumnTransformer([])
    order.transformers_ = [("first", "passthrough", columns[:1]), ("others", "passthrough", columns[1:])]
    return Pipeline([("order", order), *([] if isinstance(step, str) else [("ordered", step)])]), every


def _name(estimator: Any) -> str:
    """Return the class of the estimator, of a pipeline's last step."""
    steps = [step for _, step in getattr(estimator, "steps", ()) if step is not None and not isinstance(step, str)]
    return type(steps[-1] if steps else estimator).__name__
