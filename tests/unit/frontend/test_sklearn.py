"""What skl2onnx writes, compared with onnxruntime."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import ml2sc
from ml2sc.errors import ToolchainError, UnsupportedModelError, UsageError
from ml2sc.frontend.onnx_import import import_graph, load_onnx
from ml2sc.frontend.sklearn_export import export_sklearn
from ml2sc.ir.evaluate import evaluate_float
from ml2sc.ir.types import DType

pytest.importorskip("skl2onnx")
from skl2onnx import to_onnx
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from sklearn.svm import LinearSVC

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


@pytest.mark.parametrize("name", REGRESSORS)
def test_regressors(kit: Any, name: str) -> None:
    estimator, target = REGRESSORS[name]
    kit.assert_like_onnxruntime(to_onnx(estimator.fit(X, target), X[:1]), samples=20)


@pytest.mark.parametrize("labels", [THREE, TWO])
def test_linear_svc(kit: Any, labels: Any) -> None:
    kit.assert_like_onnxruntime(to_onnx(LinearSVC().fit(X, labels), X[:1]), samples=20)


@pytest.mark.parametrize("zipmap", [False, True], ids=["tensor", "zipmap"])
@pytest.mark.parametrize("estimator", [small(), LogisticRegression()])
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


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_fitted_classifier_is_compiled_as_it_is(name: str) -> None:
    fitted, found = compiled(*CLASSIFIERS[name])
    labels = CLASSIFIERS[name][1]
    assert found["model_accuracy"] == np.mean(fitted.predict(X) == labels)
    assert abs(found["accuracy"] - found["model_accuracy"]) <= 0.02
    assert found["r2"] is found["label_r2"] is None


@pytest.mark.parametrize("name", REGRESSORS)
def test_a_fitted_regressor_is_compiled_as_it_is(name: str) -> None:
    fitted, found = compiled(*REGRESSORS[name])
    assert found["model_label_r2"] == pytest.approx(fitted.score(X, REGRESSORS[name][1]), abs=1e-5)
    assert found["label_r2"] == pytest.approx(found["model_label_r2"], abs=1e-3)
    assert found["r2"] > 0.999
    assert found["accuracy"] is None


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
