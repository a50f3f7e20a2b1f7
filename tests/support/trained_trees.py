"""Tree ensembles of the shapes whose figures the project promises, trained here by the libraries themselves.

Each is exported by the converter of its library, and kept with what the library predicts.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine, make_classification
from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor, RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from ml2sc.frontend.sklearn_export import export_sklearn

Array = npt.NDArray[Any]
Table = tuple[Array, Array]


@dataclass(frozen=True)
class Trained:
    """A model.

    Attributes:
        model: As ONNX.
        predict: What the library predicts for rows: labels, or values.
        x: Rows of the table it was trained on, float32.
    """

    model: onnx.ModelProto
    predict: Callable[[Array], Array]
    x: Array


@cache
def made_up(classes: int = 2) -> Table:
    """Return a table of 20 columns, of which twelve say something."""
    x, y = make_classification(2_000, 20, n_informative=12, n_classes=classes, random_state=0)
    return x.astype(np.float32), y


def _known(load: Callable[..., Table]) -> Table:
    x, y = load(return_X_y=True)
    return x.astype(np.float32), y


def scikit_learn(estimator: Any, load: Callable[..., Table]) -> Trained:
    """Return an estimator of scikit-learn's, exported by skl2onnx."""
    x, y = _known(load)
    estimator.fit(x, y)
    return Trained(export_sklearn(estimator), estimator.predict, x)


def _features(x: Array) -> list[tuple[str, Any]]:
    from onnxmltools.convert.common.data_types import FloatTensorType

    return [("x", FloatTensorType([None, x.shape[1]]))]


def xgboost(trees: int, depth: int, classes: int = 2) -> Trained:
    """Return boosted trees of XGBoost's: so many for each class."""
    library, converters = pytest.importorskip("xgboost"), pytest.importorskip("onnxmltools")
    x, y = made_up(classes)
    estimator = library.XGBClassifier(n_estimators=trees, max_depth=depth, n_jobs=1).fit(x, y)
    return Trained(converters.convert_xgboost(estimator, initial_types=_features(x)), estimator.predict, x)


def lightgbm(trees: int, leaves: int) -> Trained:
    """Return boosted trees of LightGBM's."""
    library, converters = pytest.importorskip("lightgbm"), pytest.importorskip("onnxmltools")
    x, y = made_up()
    settings = {"n_estimators": trees, "num_leaves": leaves, "n_jobs": 1, "verbose": -1}
    estimator = library.LGBMClassifier(**settings).fit(x.astype(np.float64), y)
    model = converters.convert_lightgbm(estimator, initial_types=_features(x), zipmap=False)
    return Trained(model, lambda rows: estimator.predict(rows.astype(np.float64)), x)


def catboost(trees: int, depth: int) -> Trained:
    """Return oblivious trees of CatBoost's."""
    library = pytest.importorskip("catboost")
    x, y = made_up()
    settings = {"iterations": trees, "depth": depth, "verbose": 0, "thread_count": 1, "allow_writing_files": False}
    estimator = library.CatBoostClassifier(**settings).fit(x, y)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        estimator.save_model(str(path), format="onnx")
        model = onnx.load(path)
    return Trained(model, lambda rows: np.ravel(estimator.predict(rows)), x)


def _tree(**settings: Any) -> DecisionTreeClassifier:
    return DecisionTreeClassifier(random_state=0, **settings)


def _forest(trees: int, depth: int) -> RandomForestClassifier:
    return RandomForestClassifier(trees, max_depth=depth, random_state=0)


def _boosted(trees: int, depth: int) -> GradientBoostingClassifier:
    return GradientBoostingClassifier(n_estimators=trees, max_depth=depth, random_state=0)


def forest(trees: int, depth: int) -> Trained:
    """Return a forest on the made-up table."""
    x, y = made_up()
    estimator = _forest(trees, depth).fit(x, y)
    return Trained(export_sklearn(estimator), estimator.predict, x)


TRAINED: dict[str, Callable[[], Trained]] = {
    "tree, wine, depth 4": lambda: scikit_learn(_tree(max_depth=4), load_wine),
    "tree, cancer, full": lambda: scikit_learn(_tree(), load_breast_cancer),
    "tree, diabetes": lambda: scikit_learn(DecisionTreeRegressor(max_depth=5, random_state=0), load_diabetes),
    "forest, wine, 10": lambda: scikit_learn(_forest(10, 6), load_wine),
    "forest, cancer, 20": lambda: scikit_learn(_forest(20, 6), load_breast_cancer),
    "boosted, wine, 15 × 3": lambda: scikit_learn(_boosted(15, 2), load_wine),
    "boosted, cancer, 30": lambda: scikit_learn(_boosted(30, 3), load_breast_cancer),
    "boosted, diabetes, 40": lambda: scikit_learn(
        GradientBoostingRegressor(n_estimators=40, max_depth=2, random_state=0), load_diabetes
    ),
    "XGBoost 100 × d2": partial(xgboost, 100, 2),
    "XGBoost 100 × d3": partial(xgboost, 100, 3),
    "XGBoost 100 × d4": partial(xgboost, 100, 4),
    "XGBoost 34 × 3 × d3": partial(xgboost, 34, 3, 3),
    "XGBoost 100 × d6": partial(xgboost, 100, 6),
    "LightGBM 100 × 15 leaves": partial(lightgbm, 100, 15),
    "LightGBM 100 × 31 leaves": partial(lightgbm, 100, 31),
    "CatBoost 100 × d4": partial(catboost, 100, 4),
    "CatBoost 100 × d6": partial(catboost, 100, 6),
    "forest 100 × d8": partial(forest, 100, 8),
}


@cache
def trained(name: str) -> Trained:
    """Return a model by its name; it is trained once."""
    found = TRAINED[name]()
    # converters have them in an order that depends on what they converted before, and with it the model's hash
    found.model.opset_import.sort(key=lambda opset: str(opset.domain))
    return found
