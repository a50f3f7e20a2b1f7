"""From a fitted scikit-learn estimator to an ONNX model. skl2onnx is an optional dependency and imported only here."""

from __future__ import annotations

import copy
import importlib.util
import warnings
from collections.abc import Iterable, Iterator
from numbers import Integral
from typing import Any

import numpy as np
import onnx

from ml2sc.errors import ToolchainError, UnsupportedModelError, UsageError

from .labels import ONE_CLASS
from .sklearn_graph import decide_by_scores, interpolate, renumber

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
            _require_no_indicators(made.values())
            options = _raw_scores(made.values())
            if is_classifier(estimator):
                options[id(exportable)] = {"zipmap": False}
            proto = _converted(to_onnx, exportable, types, options, _name(estimator))
    except UnsupportedModelError:
        raise
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
        interpolate(proto.graph)
    if any(getattr(part, "loss", None) in {"log_loss", "modified_huber"} for part in made.values()):
        decide_by_scores(proto.graph)
    renumber(proto.graph)
    return proto


def _require_no_indicators(parts: Iterable[Any]) -> None:
    """Refuse an imputer that says what was missing, in columns of its own: skl2onnx leaves them out without a word."""
    for part in parts:
        if getattr(part, "add_indicator", False):
            raise UnsupportedModelError(
                f"{type(part).__name__}(add_indicator=True) is not supported: skl2onnx leaves its indicators out",
                hint="fit it without; columns that say what is missing may be columns of the data",
            )


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
    if isinstance(missing := held.get("missing_values"), Integral):
        held["missing_values"] = float(missing)  # skl2onnx wants the type of the input, a float
    if "flatten_transform" in held:
        held["flatten_transform"] = False
    return changed


def _as_logistic(part: Any) -> Any:
    """Return a discriminant of two classes as the logistic regression that it is; None of all else.

    Its probabilities are the logistic of its score s; skl2onnx takes the softmax of (-s, s), the logistic of 2s.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.linear_model import LogisticRegression

    if not isinstance(part, LinearDiscriminantAnalysis) or np.shape(getattr(part, "classes_", ())) != (2,):
        return None
    logistic = LogisticRegression()
    for name in ("classes_", "coef_", "intercept_", "n_features_in_"):
        setattr(logistic, name, getattr(part, name))
    return logistic


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
