"""What libraries train, exported and natively: decisions are the library's and onnxruntime's, on edges too."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from sklearn.datasets import make_classification
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from support import heavy
from support.forests import threshold_rows

import ml2sc
from ml2sc.errors import ModelFormatError, UnsupportedModelError, UsageError
from ml2sc.frontend.sklearn_export import export_sklearn
from ml2sc.ir import wad
from ml2sc.ir.interpret import Interpreter

Array = npt.NDArray[Any]
ROWS = 60


@pytest.fixture(scope="module")
def data() -> tuple[Array, Array]:
    x, y = make_classification(300, 6, n_informative=5, n_redundant=0, n_classes=3, random_state=0)
    x = x.astype(np.float32)
    x[::17, 2] = np.nan
    return x, y


def decisions(artifact: ml2sc.Artifact, rows: Array) -> list[int]:
    assert artifact.graph is not None
    assert artifact.program is not None
    interpreter, graph = Interpreter(artifact.program), artifact.graph
    found = []
    for row in rows:
        q = wad.quantize_inputs(graph, {graph.inputs[0]: row[None].astype(np.float64)})
        outcome = interpreter.run(wad.pack(graph, q))
        assert outcome == wad.run_graph(graph, q)
        assert outcome.decision is not None
        found.append(outcome.decision)
    return found


def check(model: onnx.ModelProto, predict: Callable[[Array], Array], rows: Array) -> None:
    """Hold decisions against onnxruntime's and the library's, where scores are not equal but for rounding."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    answers = [session.run(None, {session.get_inputs()[0].name: row[None]}) for row in rows]
    scores = np.array([np.ravel(list(a[-1][0].values()) if isinstance(a[-1], list) else a[-1]) for a in answers])
    clear = np.diff(np.sort(scores, axis=1))[:, -1] > 1e-4
    ours = np.array(decisions(ml2sc.compile(model), rows))
    assert clear.mean() > 0.8
    assert (ours == [int(np.ravel(a[0])[0]) for a in answers])[clear].all()
    assert (ours == np.ravel(predict(rows)).astype(int))[clear].all()


@pytest.mark.parametrize(
    ("estimator", "binary"),
    heavy.in_turns(
        2,
        [
            DecisionTreeClassifier(max_depth=5, random_state=0),
            RandomForestClassifier(7, max_depth=5, random_state=0),
            ExtraTreesClassifier(7, max_depth=4, random_state=0),
            GradientBoostingClassifier(n_estimators=8, max_depth=2, random_state=0),
        ],
        [True, False],
    ),
    ids=lambda value: ("three classes", "binary")[value] if isinstance(value, bool) else type(value).__name__,
)
@pytest.mark.filterwarnings("ignore:.*onnxruntime's label")
def test_scikit_learn(data: tuple[Array, Array], estimator: Any, binary: bool) -> None:
    x, y = data
    known = ~np.isnan(x).any(axis=1)
    estimator.fit(x[known], y[known] % 2 if binary else y[known])
    model = export_sklearn(estimator)
    rows = threshold_rows(np.random.default_rng(0), model, ROWS)
    rows = np.where(np.isnan(rows), np.float32(0), rows)  # skl2onnx loses where they go
    check(model, estimator.predict, rows)


def test_one_against_the_rest_of_two_classes(data: tuple[Array, Array]) -> None:
    """1 − p and p are divided by their sum, which is not 0."""
    x, y = data
    known = ~np.isnan(x).any(axis=1)
    estimator = OneVsRestClassifier(RandomForestClassifier(5, max_depth=3, random_state=0)).fit(x[known], y[known] % 2)
    check(export_sklearn(estimator), estimator.predict, x[known][:ROWS])


def test_xgboost(data: tuple[Array, Array], tmp_path: Path) -> None:
    xgboost = pytest.importorskip("xgboost")
    onnxmltools = pytest.importorskip("onnxmltools")
    from onnxmltools.convert.common.data_types import FloatTensorType

    x, y = data
    estimator = xgboost.XGBClassifier(n_estimators=5, max_depth=3, n_jobs=1).fit(x, y)
    model = onnxmltools.convert_xgboost(estimator, initial_types=[("x", FloatTensorType([None, x.shape[1]]))])
    rows = threshold_rows(np.random.default_rng(0), model, ROWS)
    check(model, estimator.predict, rows)
    pytest.importorskip("treelite")
    for name in ("model.json", "model.ubj"):
        estimator.save_model(tmp_path / name)
        assert (np.array(decisions(ml2sc.compile(tmp_path / name), rows)) == estimator.predict(rows)).all()


def test_lightgbm_keeps_double_thresholds(data: tuple[Array, Array], tmp_path: Path) -> None:
    lightgbm = pytest.importorskip("lightgbm")
    pytest.importorskip("treelite")
    x, y = data
    params = {"objective": "binary", "num_leaves": 6, "verbose": -1, "num_threads": 1}
    booster = lightgbm.train(params, lightgbm.Dataset(x.astype(np.float64), y % 2), 6)
    booster.save_model(tmp_path / "model.txt")
    edges = [tree["tree_structure"]["threshold"] for tree in booster.dump_model()["tree_info"]]
    feature = booster.dump_model()["tree_info"][0]["tree_structure"]["split_feature"]
    rows = np.repeat(x[:1].astype(np.float64), 3, axis=0)
    rows[:, feature] = edges[0], np.nextafter(edges[0], np.inf), np.nan
    rows = np.concatenate([rows, x[:ROWS].astype(np.float64)])
    found = decisions(ml2sc.compile(tmp_path / "model.txt"), rows)
    assert found == (booster.predict(rows) > 0.5).astype(int).tolist()


def test_a_truncated_file_is_not_read_as_fewer_trees(data: tuple[Array, Array], tmp_path: Path) -> None:
    lightgbm = pytest.importorskip("lightgbm")
    pytest.importorskip("treelite")
    x, y = data
    params = {"objective": "binary", "num_leaves": 3, "verbose": -1, "num_threads": 1}
    path = tmp_path / "model.txt"
    lightgbm.train(params, lightgbm.Dataset(x.astype(np.float64), y % 2), 3).save_model(path)
    whole = path.read_bytes()
    for end in (400, whole.index(b"Tree=2"), whole.index(b"end of trees")):
        path.write_bytes(whole[:end])
        with pytest.raises(ModelFormatError, match="its trees have no end"):
            ml2sc.compile(path)
    path.write_bytes(whole[: whole.index(b"Tree=0")] + whole[whole.index(b"end of trees") :])
    with pytest.raises(ModelFormatError, match=r"has no tree|treelite cannot read"):
        ml2sc.compile(path)


def native(name: str) -> Any:
    """Return a model that treelite reads as it is, not fitted."""
    if name == "HistGradientBoosting":
        return HistGradientBoostingClassifier(max_iter=5, max_leaf_nodes=6, random_state=0)
    if name == "XGBoost":
        library = pytest.importorskip("xgboost")
        return library.XGBClassifier(n_estimators=40, max_depth=3, n_jobs=1, early_stopping_rounds=2)
    return pytest.importorskip("lightgbm").LGBMClassifier(n_estimators=5, num_leaves=6, n_jobs=1, verbose=-1)


@pytest.mark.parametrize("name", ["XGBoost", "LightGBM", "HistGradientBoosting"])
@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_fitted_models_as_they_are(name: str, data: tuple[Array, Array]) -> None:
    """Also where training stopped early, features are missing, and on thresholds, which are doubles."""
    pytest.importorskip("treelite")
    x, y = data
    estimator = native(name)
    with pytest.raises(UsageError, match="is not fitted"):
        ml2sc.compile(estimator)
    stops = {"eval_set": [(x[200:], y[200:])], "verbose": False} if name == "XGBoost" else {}
    estimator.fit(x[:200], y[:200], **stops)
    artifact = ml2sc.compile(estimator)
    assert artifact.name == type(estimator).__name__
    assert artifact.graph is not None
    (ladder,) = artifact.graph.ladders.values()
    rows = ladder.samples(np.random.default_rng(0), ROWS)
    if name == "XGBoost":
        assert estimator.best_iteration < 39
        rows = rows.astype(np.float32)
    scores = np.sort(estimator.predict_proba(rows), axis=1)
    clear = scores[:, -1] - scores[:, -2] > 1e-5
    assert clear.mean() > 0.8
    assert (np.array(decisions(artifact, rows)) == estimator.predict(rows))[clear].all()


def test_trees_of_a_text_without_an_end(data: tuple[Array, Array], tmp_path: Path) -> None:
    """Treelite would look for it for ever."""
    lightgbm = pytest.importorskip("lightgbm")
    pytest.importorskip("treelite")
    path = tmp_path / "model.txt"
    lightgbm.LGBMRegressor(n_estimators=2, num_leaves=4, verbose=-1).fit(*data).booster_.save_model(path)
    text = path.read_text()
    ml2sc.lift(path)
    for children in ("left_child=0 -1 -2", "left_child=1 1 -2"):
        path.write_text(re.sub("left_child=.*", children, text, count=1))
        with pytest.raises(ModelFormatError, match="tree 0: more than one way leads to node"):
            ml2sc.lift(path)
    path.write_text(re.sub("(threshold=)[^ ]*", r"\1nan", text, count=1))
    with pytest.raises(ModelFormatError, match="a threshold or a leaf that is no finite number"):
        ml2sc.lift(path)


def test_a_linear_booster_is_refused(data: tuple[Array, Array], tmp_path: Path) -> None:
    """In words of its own, whatever it comes as; trees over a feature of that name are none."""
    xgboost = pytest.importorskip("xgboost")
    pytest.importorskip("treelite")
    x, y = data
    linear = xgboost.XGBRegressor(booster="gblinear", n_estimators=2, n_jobs=1).fit(np.nan_to_num(x), y)
    for model in (linear, linear.get_booster(), tmp_path / "model.json", tmp_path / "model.ubj"):
        if isinstance(model, Path):
            linear.save_model(model)
        with pytest.raises(UnsupportedModelError, match="has no trees: it is a linear model") as caught:
            ml2sc.compile(model)
        assert "coef_ and intercept_" in str(caught.value.hint)
    names = ["gblinear", *(f"f{index}" for index in range(1, x.shape[1]))]
    trees = xgboost.train({"max_depth": 2}, xgboost.DMatrix(x, y, feature_names=names), 2)
    trees.save_model(tmp_path / "model.json")
    for model in (trees, tmp_path / "model.json"):
        ml2sc.lift(model)


def test_models_inside_of_an_estimator(data: tuple[Array, Array]) -> None:
    """Skl2onnx knows none of them: the hint says what else to do."""
    xgboost, catboost = pytest.importorskip("xgboost"), pytest.importorskip("catboost")
    x, y = data
    cat = catboost.CatBoostClassifier(iterations=2, verbose=0, thread_count=1, allow_writing_files=False)
    settings = {"n_estimators": 2, "max_depth": 2, "n_jobs": 1}
    for model, words in (
        (cat, 'save_model("model.onnx", format="onnx")'),
        (make_pipeline(StandardScaler(), cat), 'save_model("model.onnx", format="onnx")'),
        (make_pipeline(StandardScaler(), xgboost.XGBClassifier(**settings)), "compile the model by itself"),
        (OneVsRestClassifier(xgboost.XGBClassifier(**settings)), "onnxmltools"),
    ):
        with pytest.raises(UnsupportedModelError, match="skl2onnx cannot convert this") as caught:
            export_sklearn(model.fit(np.nan_to_num(x), y))
        assert words in str(caught.value.hint)


def test_a_number_that_stands_for_a_missing_value_is_refused(data: tuple[Array, Array], tmp_path: Path) -> None:
    """The trees do not say so: they would compare it."""
    pytest.importorskip("treelite")
    xgboost, lightgbm = pytest.importorskip("xgboost"), pytest.importorskip("lightgbm")
    x, y = np.nan_to_num(data[0], nan=-999), data[1]
    for missing in (-999, 0, np.inf):
        model = xgboost.XGBClassifier(n_estimators=2, max_depth=2, missing=missing).fit(np.nan_to_num(data[0]), y)
        with pytest.raises(UnsupportedModelError, match=f"takes {missing:g} for a missing value") as caught:
            ml2sc.lift(model)
        assert caught.value.hint == f"fit it with NaN in place of {missing:g}, and leave `missing` out"
    for mode in ({"missing": None}, {"missing": np.nan}, {}):
        ml2sc.lift(xgboost.XGBClassifier(n_estimators=2, max_depth=2, **mode).fit(x, y), calibration=x)
    path = tmp_path / "model.txt"
    zero = lightgbm.LGBMClassifier(n_estimators=2, num_leaves=4, verbose=-1, zero_as_missing=True).fit(np.rint(x), y)
    zero.booster_.save_model(path)
    for given in (zero, zero.booster_, path):
        with pytest.raises(UnsupportedModelError, match=r"takes 0 for a missing value .*`zero_as_missing`"):
            ml2sc.lift(given)
    ml2sc.lift(lightgbm.LGBMClassifier(n_estimators=2, num_leaves=4, verbose=-1).fit(data[0], y), calibration=x)


def test_names_of_labels_are_kept(data: tuple[Array, Array]) -> None:
    pytest.importorskip("treelite")
    x, y = data
    estimator = native("HistGradientBoosting").fit(x, np.array(["low", "middle", "high"])[y])
    artifact = ml2sc.compile(estimator)
    assert artifact.manifest["options"]["class_names"] == ("high", "low", "middle")


def test_catboost(data: tuple[Array, Array], tmp_path: Path) -> None:
    catboost = pytest.importorskip("catboost")
    x, y = data
    known = ~np.isnan(x).any(axis=1)
    settings = {"iterations": 10, "depth": 5, "verbose": 0, "thread_count": 1, "allow_writing_files": False}
    estimator = catboost.CatBoostClassifier(**settings).fit(x[known], y[known] % 2)
    estimator.save_model(tmp_path / "model.onnx", format="onnx")
    model = onnx.load(tmp_path / "model.onnx")
    rows = threshold_rows(np.random.default_rng(0), model, ROWS)
    check(model, estimator.predict, np.where(np.isnan(rows), np.float32(0), rows))
