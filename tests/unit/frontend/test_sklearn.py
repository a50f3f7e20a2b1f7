"""What skl2onnx writes, compared with onnxruntime."""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper
from support import heavy
from support.checking import check_bounds, check_interpreters

import ml2sc
from ml2sc.errors import DataError, ToolchainError, UnsupportedModelError, UsageError
from ml2sc.frontend.onnx_import import import_graph, load_onnx
from ml2sc.frontend.sklearn_export import export_sklearn
from ml2sc.ir import wad
from ml2sc.ir.evaluate import evaluate_float
from ml2sc.ir.interpret import Interpreter
from ml2sc.ir.types import DType

pytest.importorskip("skl2onnx")
from skl2onnx import to_onnx
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, Int64TensorType
from sklearn.base import is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import StackingClassifier, StackingRegressor, VotingClassifier, VotingRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor, NearestCentroid
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, OneHotEncoder, RobustScaler, StandardScaler
from sklearn.svm import SVC, SVR, LinearSVC
from sklearn.tree import DecisionTreeClassifier

pytestmark = pytest.mark.filterwarnings("ignore:::sklearn", "ignore:::skl2onnx")

RNG = np.random.default_rng(3)
X = RNG.normal(size=(120, 4)).astype(np.float32)
THREE = (X[:, 0] > 0.3).astype(int) + (X[:, 1] + X[:, 2] > 0.5)
TWO = (X.sum(axis=1) > 0).astype(int)


def small(activation: Any = "relu", kind: int = MLPClassifier) -> Any:
    return kind(hidden_layer_sizes=(5,), activation=activation, max_iter=30, random_state=0)


CLASSIFIERS = {
    "mlp-relu": (small(), THREE),
    "mlp-logistic": (small("logistic"), THREE),
    "mlp-identity": (small("identity"), THREE),
    "mlp-binary": (small(), TWO),
    "mlp-labels": (small(), np.array([3, 7, 9])[THREE]),
    "logistic": (LogisticRegression(), THREE),
    "logistic-binary": (LogisticRegression(), TWO),
    "logistic-labels": (LogisticRegression(), np.array([9, -4])[TWO]),
    "standard": (make_pipeline(StandardScaler(), small()), THREE),
    "minmax": (make_pipeline(MinMaxScaler(), LogisticRegression()), THREE),
    "minmax-clip": (make_pipeline(MinMaxScaler(clip=True), LogisticRegression()), TWO),
}
REGRESSORS = {
    "mlp-relu": (small(kind=MLPRegressor), X[:, 0] * X[:, 1]),
    "mlp-logistic": (small("logistic", MLPRegressor), X[:, 0]),
    "mlp-two-outputs": (small("identity", MLPRegressor), X[:, :2]),
    "linear": (LinearRegression(), X[:, 0] + 2),
    "linear-two-outputs": (LinearRegression(), X[:, :2] * 3),
    "maxabs": (make_pipeline(MaxAbsScaler(), small(kind=MLPRegressor)), X[:, 3]),
    "robust": (make_pipeline(RobustScaler(), LinearRegression()), X[:, 3]),
}


@pytest.mark.parametrize("zipmap", [False, True], ids=["tensor", "zipmap"])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers(kit: Any, caplog: pytest.LogCaptureFixture, name: str, zipmap: bool) -> None:
    estimator, labels = CLASSIFIERS[name]
    proto = to_onnx(estimator.fit(X, labels), X[:1], options=None if zipmap else {"zipmap": False})
    caplog.set_level(logging.INFO, logger="ml2sc")
    graph = kit.assert_like_onnxruntime(proto, samples=20)
    label, probabilities = (graph.tensor(n) for n in graph.outputs)
    assert (label.type, label.shape) == (DType.INT64, (1,))
    assert (probabilities.type, probabilities.shape) == (DType.FLOAT, (1, len(set(labels))))
    assert ("dropped" in caplog.text) == zipmap


def test_doubles_of_two_classes_need_no_data(kit: Any) -> None:
    """Exported with doubles, scores are s and −s, and probabilities are divided by a sum that is 1: it is left out."""
    estimator = make_pipeline(StandardScaler(), LogisticRegression()).fit(1e3 * X.astype(np.float64), TWO)
    types = [("X", DoubleTensorType([None, X.shape[1]]))]
    proto = to_onnx(estimator, initial_types=types, options={"zipmap": False})
    assert "Div" in {node.op_type for node in proto.graph.node[2:]}
    graph = import_graph(load_onnx(proto))
    assert not {"Normalizer", "Reciprocal"} & {node.op_type for node in graph}
    assert ml2sc.compile(proto, precision="auto", input_ranges=((-1e5, 1e5),)).manifest["error_bound"] <= 1e-6
    given = 1e3 * X[:40].astype(np.float64)
    fidelity = ml2sc.compile(proto, precision="int8", calibration={"X": given}).manifest["calibration"]
    assert fidelity["decision_agreement"] == 1.0


@pytest.mark.parametrize("name", REGRESSORS)
def test_regressors(kit: Any, name: str) -> None:
    estimator, target = REGRESSORS[name]
    kit.assert_like_onnxruntime(to_onnx(estimator.fit(X, target), X[:1]), samples=20)


@pytest.mark.parametrize("labels", [THREE, TWO])
def test_linear_svc(kit: Any, labels: Any) -> None:
    kit.assert_like_onnxruntime(to_onnx(LinearSVC().fit(X, labels), X[:1]), samples=20)


@pytest.mark.parametrize(
    ("zipmap", "estimator"),
    heavy.in_turns(2, [False, True], [small(), LogisticRegression()]),
    ids=["tensor-mlp", "tensor-logistic", "zipmap-mlp", "zipmap-logistic"],
)
def test_string_labels(estimator: Any, zipmap: bool) -> None:
    names = np.array(["a", "b", "c \n@dev"])
    proto = to_onnx(estimator.fit(X, names[THREE]), X[:1], options=None if zipmap else {"zipmap": False})
    graph = import_graph(load_onnx(proto))
    assert graph.class_names == tuple(names)
    for target in ("solidity", "vyper"):
        artifact = ml2sc.compile(proto, precision="w16a16", target=target, calibration={"X": X})
        assert artifact.manifest["classes"] == list(names)
        assert "the number of the class: 0 " in artifact.source
        assert "@dev'" not in artifact.source
        assert artifact.manifest["calibration"]["decision_agreement"] == 1.0
    kit_answers = [
        evaluate_float(graph, {"X": x[None]})["label" if "label" in graph.tensors else "output_label"] for x in X
    ]
    assert [names[int(i)] for i in np.ravel(kit_answers)] == estimator.predict(X).tolist()


@pytest.mark.parametrize("post", ["NONE", "LOGISTIC", "SOFTMAX"])
@pytest.mark.parametrize(("rows", "labels"), [(1, [0, 1]), (1, [5, 2]), (2, [0, 1]), (2, [5, 2]), (3, [0, 1, 2])])
def test_linear_classifiers_by_hand(kit: Any, post: str, labels: Any, rows: int) -> None:
    rng = np.random.default_rng(rows)
    node = helper.make_node(
        "LinearClassifier",
        ["x"],
        ["label", "p"],
        domain="ai.onnx.ml",
        coefficients=rng.normal(size=4 * rows).tolist(),
        intercepts=rng.normal(size=rows).tolist(),
        classlabels_ints=labels,
        post_transform=post,
    )
    proto = kit.model([node], {"x": ["N", 4]}, ["label", "p"], ml=True)
    proto.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    if rows == 1 and post == "SOFTMAX":
        with pytest.raises(UnsupportedModelError, match="one row"):
            import_graph(load_onnx(proto))
        return
    graph = kit.assert_like_onnxruntime(proto, samples=20)
    assert {n.origin for n in graph} == {("linearclassifier_0",)}


@pytest.mark.parametrize("norm", ["L1", "L2", "MAX"])
def test_normalizer(kit: Any, norm: str) -> None:
    node = helper.make_node("Normalizer", ["x"], ["y"], domain="ai.onnx.ml", norm=norm)
    proto = kit.model([node], {"x": ["N", 4]}, ["y"], ml=True)
    assert [n.op_type for n in kit.assert_like_onnxruntime(proto)] == ["Normalizer"]


def test_normalizing_a_softmax_changes_nothing(kit: Any) -> None:
    nodes = [helper.make_node("Softmax", ["x"], ["p"]), helper.make_node("Identity", ["p"], ["q"])]
    nodes.append(helper.make_node("Normalizer", ["q"], ["y"], domain="ai.onnx.ml", norm="L1"))
    graph = kit.assert_like_onnxruntime(kit.model(nodes, {"x": ["N", 4]}, ["y"], ml=True))
    assert [n.op_type for n in graph] == ["Softmax", "Identity", "Identity"]


def compiled(estimator: Any, labels: Any) -> tuple[Any, dict[str, Any]]:
    """Fit and compile an estimator as it is; return it and what calibration found."""
    fitted = estimator.fit(X, labels)
    artifact = ml2sc.compile(fitted, precision="w16a16", calibration={"x": X, "y": labels})
    assert artifact.name == type(fitted[-1] if hasattr(fitted, "steps") else fitted).__name__
    assert export_sklearn(fitted).SerializeToString() == export_sklearn(fitted).SerializeToString()
    return fitted, dict(artifact.manifest["calibration"])


@pytest.mark.parametrize("name", heavy.but_each(4, CLASSIFIERS))
def test_a_fitted_classifier_is_compiled_as_it_is(name: str) -> None:
    fitted, found = compiled(*CLASSIFIERS[name])
    labels = CLASSIFIERS[name][1]
    assert found["model_accuracy"] == np.mean(fitted.predict(X) == labels)
    assert abs(found["accuracy"] - found["model_accuracy"]) <= 0.02
    assert found["r2"] is found["label_r2"] is None


@pytest.mark.parametrize("name", heavy.but_each(4, REGRESSORS))
def test_a_fitted_regressor_is_compiled_as_it_is(name: str) -> None:
    fitted, found = compiled(*REGRESSORS[name])
    assert found["model_label_r2"] == pytest.approx(fitted.score(X, REGRESSORS[name][1]), abs=1e-5)
    assert found["label_r2"] == pytest.approx(found["model_label_r2"], abs=1e-3)
    assert found["r2"] > 0.999
    assert found["accuracy"] is None


def test_estimators_that_need_other_options() -> None:
    """skl2onnx has no ZipMap to leave out of a LinearSVC, and takes no vote with flatten_transform."""
    compiled(LinearSVC(), THREE)
    vote = VotingClassifier([("a", LogisticRegression()), ("b", LogisticRegression(C=0.1))], voting="soft")
    compiled(make_pipeline(StandardScaler(), vote), THREE)
    assert vote.flatten_transform


def test_estimators_that_cannot_be_exported(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="the LinearSVC is not fitted"):
        ml2sc.compile(LinearSVC())
    with pytest.raises(UnsupportedModelError, match="skl2onnx cannot convert this Own"):
        ml2sc.compile(Own())
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ToolchainError, match="needs scikit-learn") as caught:
        export_sklearn(LinearRegression().fit(X, X[:, 0]))
    assert "ml2sc[sklearn]" in str(caught.value.hint)


class Own(LinearRegression):  # type: ignore[misc]
    """What skl2onnx does not know."""

    n_features_in_ = 4


CODES = np.random.default_rng(4).integers(0, 3, size=(60, 4)).astype(np.float32)
MIXED = np.c_[CODES[:, 0], X[:60, 1], CODES[:, 2], X[:60, 3]].astype(np.float32)
ALIKE = (CODES[:, 0] == CODES[:, 2]).astype(int)


def test_whole_numbers_are_given_exactly() -> None:
    """Their format has steps of 1: comparing them with categories is exact."""
    estimator = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(CODES.astype(np.int64), ALIKE)
    proto = to_onnx(estimator, initial_types=[("x", Int64TensorType([None, 4]))], options={"zipmap": False})
    artifact = ml2sc.compile(proto, precision="int8", input_ranges=((0.0, 2.0),))
    (x,) = artifact.manifest["inputs"]
    assert (x["format"], x["scale"], x["zero_point"]) == ("uint8", "1", 0)
    samples = [{"x": row[None].astype(np.float64)} for row in CODES[:8]]
    check_interpreters(artifact, samples, [])
    check_bounds(artifact, 2, samples)
    assert artifact.manifest["error_bound"] < 0.01
    wide = ml2sc.compile(proto, precision="int8", input_ranges=((-300.0, 2000.0),)).manifest["inputs"][0]
    assert (wide["format"], wide["scale"], wide["zero_point"]) == ("uint12", "1", 300)


def test_several_inputs_and_doubles() -> None:
    columns = ColumnTransformer([("codes", OneHotEncoder(), [0, 2]), ("numbers", StandardScaler(), [1, 3])])
    estimator = make_pipeline(columns, LogisticRegression()).fit(MIXED, ALIKE)
    kinds = (Int64TensorType, DoubleTensorType, Int64TensorType, FloatTensorType)
    types = [(name, kind([None, 1])) for name, kind in zip("abcd", kinds, strict=True)]
    for initial_types in (types, [("x", FloatTensorType([None, 4]))], [("x", DoubleTensorType([None, 4]))]):
        proto = to_onnx(estimator, initial_types=initial_types, options={"zipmap": False})
        names = [name for name, _ in initial_types]
        split = dict(zip(names, np.split(MIXED, len(names), axis=1), strict=True))
        found = ml2sc.compile(proto, precision="int8", calibration={**split, "y": ALIKE}).manifest["calibration"]
        assert found["decision_agreement"] == 1.0
        assert found["accuracy"] == np.mean(estimator.predict(MIXED) == ALIKE)


def test_labels_may_be_names_in_the_data() -> None:
    names = np.array(["a", "b", "c"])[THREE]
    estimator = LogisticRegression().fit(X, names)
    found = ml2sc.compile(estimator, precision="w16a16", calibration={"x": X, "y": names}).manifest["calibration"]
    assert found["accuracy"] == np.mean(estimator.predict(X) == names)
    with pytest.raises(DataError, match="the label of sample 2, 'd', is none") as caught:
        ml2sc.compile(estimator, precision="int8", calibration={"x": X[:3], "y": np.array(["a", "b", "d"])})
    assert caught.value.hint == "the classes are 'a', 'b', 'c'"


def test_the_nearest_of_some_centroids() -> None:
    """docs/scikit-learn.md: |x − c|² is least where 2·c·x − |c|² is greatest."""
    nearest = NearestCentroid().fit(X, THREE)
    linear = LogisticRegression()
    linear.classes_, linear.n_features_in_ = nearest.classes_, X.shape[1]
    linear.coef_, linear.intercept_ = 2 * nearest.centroids_, -(nearest.centroids_**2).sum(axis=1)
    found = ml2sc.compile(linear, precision="w16a16", calibration={"x": X, "y": nearest.predict(X)})
    assert found.manifest["calibration"]["accuracy"] >= 0.99


def test_a_distance_is_one_to_each_row_of_a_matrix(kit: Any) -> None:
    """Neighbours of onnxruntime, by their distances, and by all that comes of them."""
    for estimator in (KNeighborsClassifier(3), KNeighborsRegressor(2, weights="uniform", metric="manhattan")):
        proto = to_onnx(
            estimator.fit(X[:25], THREE[:25]), X[:1], options={"zipmap": False} if is_classifier(estimator) else None
        )
        kit.assert_like_onnxruntime(proto, samples=10)


@pytest.mark.parametrize("kernel", ["linear", "poly", "rbf", "sigmoid"])
@pytest.mark.parametrize("labels", [TWO, THREE, np.array([4, 9])[TWO], np.array(["a", "b", "c"])[THREE]])
def test_support_vectors(kit: Any, kernel: str, labels: Any) -> None:
    proto = to_onnx(SVC(kernel=kernel).fit(X[:60], labels[:60]), X[:1], options={"zipmap": False})
    if labels.dtype.kind == "U":
        assert kit.to_graph(proto).class_names == ("a", "b", "c")
    else:
        kit.assert_like_onnxruntime(proto, samples=10)
    kit.assert_like_onnxruntime(to_onnx(SVR(kernel=kernel).fit(X[:60], X[:60, 0]), X[:1]), samples=3)


def exported(model: Any, rows: Any, output: int = 0) -> Any:
    """Return what an estimator's export answers to rows; the estimator is as it was."""
    before = pickle.dumps(model)
    graph = import_graph(load_onnx(export_sklearn(model)))
    assert pickle.dumps(model) == before
    return np.array([evaluate_float(graph, {"x": row[None]})[graph.outputs[output]].ravel() for row in rows])


def some(columns: Any, step: Any = None) -> ColumnTransformer:
    return ColumnTransformer([("some", StandardScaler() if step is None else step, columns)], remainder="passthrough")


HOLDERS: dict[str, Callable[[Any], Any]] = {
    "pipeline": lambda columns: make_pipeline(some(columns), Ridge()),
    "column transformer": lambda columns: make_pipeline(some(slice(0, 3), some(columns)), Ridge()),
    "pipeline in a column transformer": lambda columns: make_pipeline(
        some(slice(0, 3), make_pipeline("passthrough", some(columns), None)), Ridge()
    ),
    "union": lambda columns: make_pipeline(
        FeatureUnion([("a", some(columns)), ("b", "passthrough"), ("c", "drop")]), Ridge()
    ),
    "vote": lambda columns: VotingRegressor([("a", make_pipeline(some(columns), Ridge())), ("b", LinearRegression())]),
    "stack": lambda columns: StackingRegressor([("a", make_pipeline(some(columns), Ridge()))], Ridge()),
    "search": lambda columns: GridSearchCV(make_pipeline(some(columns), Ridge()), {"ridge__alpha": [1, 2]}),
    "one against the rest": lambda columns: OneVsRestClassifier(make_pipeline(some(columns), LogisticRegression())),
    "calibration": lambda columns: CalibratedClassifierCV(make_pipeline(some(columns), LogisticRegression()), cv=2),
}


@pytest.mark.parametrize(
    ("holder", "columns"),
    heavy.in_turns(2, HOLDERS, [["kind", "size"], slice("kind", "size"), [False, True, True], slice(1, 3), [-1, 0]]),
)
def test_columns_by_names_slices_and_masks(holder: str, columns: Any) -> None:
    """Wherever the ColumnTransformer is."""
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(X[:, :3] * [1, 5, 9] + [0, 3, -8], columns=["age", "kind", "size"])
    model = HOLDERS[holder](columns)
    model.fit(table, THREE)
    rows = table.to_numpy()
    if is_classifier(model):
        np.testing.assert_array_equal(exported(model, rows)[:, 0], model.predict(table))
        np.testing.assert_allclose(exported(model, rows, 1), model.predict_proba(table), atol=1e-5)
    else:
        np.testing.assert_allclose(exported(model, rows)[:, 0], model.predict(table), atol=1e-5)


@pytest.mark.parametrize("columns", [[True, True, True], [2, 0, 1], [1, 1, 0]])
@pytest.mark.parametrize("step", [StandardScaler(), make_pipeline(MinMaxScaler(), StandardScaler()), "passthrough"])
def test_as_many_columns_as_there_are(columns: Any, step: Any) -> None:
    """skl2onnx takes True for column 1, and all columns in the order in which they come."""
    rows = X[:, :3] * [1.0, 5, 9] + [0, 3, -8]
    inner = ColumnTransformer([("all", step, columns), ("none", "drop", [2, 1, 0])])
    model = make_pipeline(ColumnTransformer([("inner", inner, [1, 2, 3])]), Ridge())
    model.fit(np.c_[X[:, 3], rows], X[:, 0])
    expected = model.predict(np.c_[X[:, 3], rows])
    np.testing.assert_allclose(exported(model, np.c_[X[:, 3], rows])[:, 0], expected, atol=1e-5)
    model = make_pipeline(inner, Ridge()).fit(rows, X[:, 0])
    np.testing.assert_allclose(exported(model, rows)[:, 0], model.predict(rows), atol=1e-5)


@pytest.mark.parametrize(
    ("inner", "labels", "method"),
    heavy.in_turns(
        2,
        [
            make_pipeline(StandardScaler(), LogisticRegression()),
            make_pipeline(StandardScaler(), make_pipeline(MinMaxScaler(), SVC())),
            make_pipeline(StandardScaler(), DecisionTreeClassifier(max_depth=2)),
            SVC(probability=True, random_state=0),
            make_pipeline(StandardScaler(), SVC(probability=True, random_state=0)),
        ],
        [TWO, THREE],
        ["sigmoid", "isotonic"],
    ),
)
def test_pipelines_that_are_calibrated(inner: Any, labels: Any, method: str) -> None:
    """By their last step's scores, if it has some; between the thresholds of an isotonic one, too."""
    model = CalibratedClassifierCV(inner, cv=2, method=method).fit(X, labels)
    np.testing.assert_allclose(exported(model, X[:40].astype(float), 1), model.predict_proba(X[:40]), atol=1e-5)


@pytest.mark.parametrize("loss", ["log_loss", "modified_huber"])
@pytest.mark.parametrize("holder", [lambda model: model, lambda model: make_pipeline(StandardScaler(), model)])
def test_scores_decide_where_probabilities_are_alike(holder: Any, loss: str) -> None:
    names = np.array(["a", "b", "c"])[THREE]
    for labels, rows in ((THREE, 20.0 * X), (names, X)):
        model = holder(SGDClassifier(loss=loss, random_state=0)).fit(X, labels)
        decisions = exported(model, rows.astype(float))[:, 0]
        classes = model.classes_ if labels is THREE else np.arange(3)
        np.testing.assert_array_equal(decisions, classes[model.decision_function(rows).argmax(axis=1)])
        np.testing.assert_allclose(exported(model, rows.astype(float), 1), model.predict_proba(rows), atol=1e-5)
        alike = np.sort(model.predict_proba(rows), axis=1)
        assert labels is names or (alike[:, -1] == alike[:, -2]).any()


DISCRIMINANT = LinearDiscriminantAnalysis()


@pytest.mark.parametrize("labels", [TWO, THREE, np.array(["a", "b"])[TWO]])
@pytest.mark.parametrize(
    "model",
    [
        DISCRIMINANT,
        make_pipeline(StandardScaler(), LinearDiscriminantAnalysis(priors=None, solver="lsqr", shrinkage=0.1)),
        CalibratedClassifierCV(make_pipeline(StandardScaler(), DISCRIMINANT), cv=2),
        StackingClassifier([("a", DISCRIMINANT), ("b", LogisticRegression())], DISCRIMINANT, cv=2),
        VotingClassifier([("a", DISCRIMINANT), ("b", LogisticRegression())], voting="soft"),
        OneVsRestClassifier(DISCRIMINANT),
        GridSearchCV(DISCRIMINANT, {"solver": ["svd", "lsqr"]}, cv=2),
    ],
)
def test_discriminants(model: Any, labels: Any) -> None:
    """Of two classes, probabilities are the logistic of the score (skl2onnx: of twice as much), whatever holds them."""
    model.fit(X, labels)
    np.testing.assert_allclose(exported(model, X[:40].astype(float), 1), model.predict_proba(X[:40]), atol=1e-5)
    assert export_sklearn(DISCRIMINANT.fit(X, labels)).graph.name == "LinearDiscriminantAnalysis"


def test_an_isotonic_calibration_that_knows_nothing() -> None:
    """Scores that say nothing of the classes have one threshold, or steps of no height."""
    model = CalibratedClassifierCV(LogisticRegression(), cv=2, method="isotonic")
    model.fit(np.zeros((40, 4)), [0, 1] * 20)
    np.testing.assert_allclose(exported(model, X[:5].astype(float), 1), model.predict_proba(X[:5]), atol=1e-5)
    model.fit(np.tile(X[:20], (2, 1)), np.repeat([0, 1], 20))
    np.testing.assert_allclose(exported(model, X[:40].astype(float), 1), model.predict_proba(X[:40]), atol=1e-5)


@pytest.mark.parametrize("label", ["a", "7", 3])
def test_one_class(label: Any) -> None:
    with pytest.raises(UnsupportedModelError, match="a classifier with 1 class labels is not supported") as caught:
        export_sklearn(DecisionTreeClassifier().fit(X, np.full(len(X), label)))
    assert "two classes or more" in str(caught.value.hint)


@pytest.mark.parametrize(
    "before",
    [
        SimpleImputer(),
        SimpleImputer(strategy="constant", fill_value=-1.5),
        ColumnTransformer([("a", SimpleImputer(), [2, 0]), ("b", SimpleImputer(strategy="median"), [1])]),
    ],
)
@pytest.mark.parametrize("export", [False, True])
def test_trees_take_missing_values_for_what_is_put_in(before: Any, export: bool) -> None:
    lacking = X.copy()
    lacking[RNG.random(X.shape) < 0.3] = np.nan
    model = make_pipeline(before, DecisionTreeClassifier(max_depth=4, random_state=0)).fit(lacking, THREE)
    source = to_onnx(model, lacking[:1], options={"zipmap": False}) if export else model
    artifact = ml2sc.compile(source, precision="int8", calibration=lacking)
    assert artifact.program is not None
    assert artifact.graph is not None
    interpreter = Interpreter(artifact.program)
    (name,) = artifact.graph.inputs
    found = [
        interpreter.run(wad.pack(artifact.graph, wad.quantize_inputs(artifact.graph, {name: row[None]}))).decision
        for row in lacking
    ]
    assert found == model.predict(lacking).tolist()


@pytest.mark.parametrize("missing", [-1, np.int64(-1), -1.0])
def test_a_number_that_says_what_is_missing(missing: Any) -> None:
    lacking = np.where(RNG.random(X.shape) < 0.3, np.float32(-1), X)
    model = make_pipeline(SimpleImputer(missing_values=missing), LogisticRegression()).fit(lacking, THREE)
    np.testing.assert_allclose(exported(model, lacking.astype(float), 1), model.predict_proba(lacking), atol=1e-5)


def test_indicators_of_what_is_missing_are_refused() -> None:
    lacking = np.where(RNG.random(X.shape) < 0.3, np.nan, X)
    steps = ColumnTransformer([("a", SimpleImputer(add_indicator=True), [0, 1, 2, 3])]), DecisionTreeClassifier()
    with pytest.raises(UnsupportedModelError, match=r"SimpleImputer\(add_indicator=True\) is not supported"):
        export_sklearn(make_pipeline(*steps).fit(lacking, THREE))


def test_categories_that_are_text() -> None:
    words = np.array([["red"], ["green"]] * 60, dtype=object)
    model = make_pipeline(ColumnTransformer([("words", OneHotEncoder(), [0])]), LogisticRegression()).fit(words, TWO)
    with pytest.raises(UnsupportedModelError, match="skl2onnx cannot convert this Pipeline") as caught:
        export_sklearn(model)
    assert "categories that are text" in str(caught.value.hint)


def test_operator_sets_have_an_order() -> None:
    """Skl2onnx's depends on what it has converted before, and the hash of the model would."""
    for estimator in (LogisticRegression(), make_pipeline(StandardScaler(), small())):
        domains = [opset.domain for opset in export_sklearn(estimator.fit(X, TWO)).opset_import]
        assert domains == sorted(domains)
        assert len(domains) > 1


_EXPORTED = """
import hashlib, pickle, sys
from pathlib import Path
from ml2sc import export_sklearn
for model in pickle.loads(Path(sys.argv[1]).read_bytes()):
    print(hashlib.sha256(export_sklearn(model).SerializeToString()).hexdigest())
"""


def test_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    """Skl2onnx counts names in all conversions of a process, and puts addresses of objects into them."""
    models = [KNeighborsRegressor(2, metric=metric) for metric in ("manhattan", "euclidean")]
    models += [GaussianProcessRegressor(optimizer=None, alpha=0.1)]
    (tmp_path / "models").write_bytes(pickle.dumps([model.fit(X[:9], X[:9, 0]) for model in models]))
    here = [hashlib.sha256(export_sklearn(model).SerializeToString()).hexdigest() for model in models * 2]
    there = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _EXPORTED, str(tmp_path / "models")],
        env={**os.environ, "PYTHONHASHSEED": "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert here == there + there
    assert len(set(there)) == 3


def test_numbered_names_stay_apart() -> None:
    """Those of subgraphs, too, which read what is around them: onnxruntime answers as before."""
    model = KNeighborsRegressor(2, metric="manhattan").fit(X[:25], X[:25, :2])
    proto = export_sklearn(model)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"x": X})[0], model.predict(X), atol=1e-5)
    assert not any(len(digits) > 2 for node in proto.graph.node for digits in re.findall(r"\d+", node.name))
