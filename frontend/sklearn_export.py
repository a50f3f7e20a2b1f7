"""From a fitted scikit-learn estimator to an ONNX model. skl2onnx is an optional dependency and imported only here."""

from __future__ import annotations

import copy
import importlib.util
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import onnx

from ml2sc.errors import ToolchainError, UnsupportedModelError, UsageError

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
        UnsupportedModelError: skl2onnx cannot convert it.
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
    options = {"zipmap": False} if is_classifier(estimator) else None
    types = [("x", FloatTensorType([None, int(features)]))]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            proto = _converted(to_onnx, _exportable(estimator), types, options, _name(estimator))
    except Exception as error:
        text = " ".join(str(error).split())  # some errors show whole attributes: every leaf of a forest
        raise UnsupportedModelError(
            f"skl2onnx cannot convert this {kind}: {text[:_SHOWN]}{'…' if len(text) > _SHOWN else ''}",
            hint=_hint(estimator),
        ) from error
    assert isinstance(proto, onnx.ModelProto)
    # in which order they come depends on what else skl2onnx has converted: the model's hash must not
    proto.opset_import.sort(key=lambda opset: str(opset.domain))
    return proto


def _hint(estimator: Any) -> str:
    """Return what to do about an estimator that cannot be converted."""
    if any(isinstance(value, str) for values in _categories(estimator) for value in values):
        return "a contract takes numbers: give categories that are text their numbers before the estimator is fitted"
    return "skl2onnx.to_onnx of the estimator must succeed"


def _categories(estimator: Any) -> Iterator[Iterable[Any]]:
    """Iterate over the categories of each column that an encoder in an estimator knows."""
    yield from getattr(estimator, "categories_", ())
    for inner in (*getattr(estimator, "steps", ()), *getattr(estimator, "transformers_", ())):
        yield from _categories(inner[1])


def _converted(convert: Any, estimator: Any, types: Any, options: Any, name: str) -> Any:
    """Return the ONNX model.

    A classifier that knows no option `zipmap` writes no dictionaries, or they are dropped. Some converters (that of
    IsolationForest) refuse the newest operators of ai.onnx.ml, and say so.
    """
    try:
        return convert(estimator, initial_types=types, options=options, name=name)
    except NameError as error:
        if options is None or "zipmap" not in str(error):
            raise
    except RuntimeError as error:
        if f"'{_ML}': {_OLDER[_ML]}" not in str(error):
            raise
        return convert(estimator, initial_types=types, options=options, name=name, target_opset=_OLDER)
    return convert(estimator, initial_types=types, name=name)


def _exportable(estimator: Any) -> Any:
    """Return an estimator as skl2onnx takes it.

    Columns that a ColumnTransformer takes by name, slice or mask are taken by number: the input is one table.
    A vote is without `flatten_transform`, which is not about predictions.
    """
    if getattr(estimator, "steps", None):
        pipeline = copy.copy(estimator)
        pipeline.steps = [(name, _exportable(step)) for name, step in estimator.steps]
        return pipeline
    if hasattr(estimator, "transformers_"):
        numbers = estimator._transformer_to_input_indices  # there is no other place that says them
        estimator = copy.copy(estimator)
        estimator.transformers_ = [(name, step, list(numbers[name])) for name, step, _ in estimator.transformers_]
    if getattr(estimator, "flatten_transform", False):
        estimator = copy.copy(estimator)
        estimator.flatten_transform = False
    return estimator


def _name(estimator: Any) -> str:
    """Return the class of the estimator, of a pipeline's last step."""
    steps = getattr(estimator, "steps", None)
    return type(steps[-1][1] if steps else estimator).__name__
