"""An export is held against the estimator that it was made of."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import heavy

import ml2sc
from ml2sc.errors import DataError, FewSamplesWarning, Ml2scWarning, PoorResultWarning, UnsupportedModelError
from ml2sc.runtime import exported

pytest.importorskip("skl2onnx")
import joblib
from skl2onnx import update_registered_converter
from skl2onnx.algebra.onnx_ops import OnnxMul
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import AdaBoostClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor, RadiusNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, OneHotEncoder, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from ml2sc.cli.compile import main
from ml2sc.runtime.original import compare_original

pytestmark = pytest.mark.filterwarnings("ignore:::sklearn", "ignore:::skl2onnx")

RNG = np.random.default_rng(3)
X = RNG.normal(size=(120, 4))
TWO = (X.sum(axis=1) > 0).astype(int)
THREE = (X[:, 0] > 0.3).astype(int) + (X[:, 1] + X[:, 2] > 0.5)


class Halved(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Halves what it is given; its converter does so with the columns before `whole` only."""

    def __init__(self, whole: int = 4) -> None:
        self.whole = whole

    def fit(self, x: Any, y: Any = None) -> Halved:
        self.n_features_in_ = x.shape[1]
        return self

    def transform(self, x: Any) -> Any:
        return x / 2


def _shape(operator: Any) -> None:
    operator.outputs[0].type = operator.inputs[0].type


def _convert(scope: Any, operator: Any, container: Any) -> None:
    factors = np.where(np.arange(4) < operator.raw_operator.whole, 0.5, 1.0).astype(np.float32)
    OnnxMul(operator.inputs[0], factors, op_version=container.target_opset, output_names=operator.outputs).add_to(
        scope, container
    )


update_registered_converter(Halved, "TestHalved", _shape, _convert)


def told(model: Any, x: Any = X, **options: Any) -> list[str]:
    """Return what users are warned of, but for how few samples there are."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", Ml2scWarning)
        ml2sc.lift(model, calibration=None if x is None else {"x": x}, **options)
    return [str(one.message) for one in caught if "export" in str(one.message)]


def test_a_converter_that_is_wrong() -> None:
    right = make_pipeline(Halved(), LinearRegression()).fit(X, X @ [1.0, 2, 3, 4])
    assert told(right) == []
    wrong = make_pipeline(Halved(3), LinearRegression()).fit(X, X @ [1.0, 2, 3, 4])
    row = int(np.abs(X[:, 3]).argmax())
    with pytest.raises(
        UnsupportedModelError, match="the export of this Pipeline of Halved, LinearRegression"
    ) as caught:
        told(wrong)
    value = float(wrong.predict(X[row : row + 1])[0])
    said = f"predict is off by up to {4 * abs(X[row, 3]):.3g} .* of sample {row} it is \\[{value:.6g}\\], and \\["
    assert caught.match(said)
    assert "skl2onnx.to_onnx" in str(caught.value.hint)
    ml2sc.lift(ml2sc.export_sklearn(wrong), calibration={"x": X})  # the export itself is taken as it is


def test_nobody_gives_rows() -> None:
    """Then some are made up, and what differs on them is said."""
    wrong = make_pipeline(Halved(3), LogisticRegression()).fit(X, TWO)
    (text,) = told(wrong, None)
    assert "labels are others: of the made-up row [" in text
    wrong = make_pipeline(Halved(3), LinearRegression()).fit(X, X @ [1.0, 2, 3, 4])
    (text,) = told(wrong, None, input_ranges=((5.0, 6.0),))
    assert all(5 <= float(value) <= 6 for value in text.partition("made-up row [")[2].partition("]")[0].split(", "))
    assert told(make_pipeline(Halved(), LogisticRegression()).fit(X, TWO), None) == []
    assert told(RandomForestClassifier(5, max_depth=4, random_state=0).fit(X, THREE), None) == []


def test_labels_that_are_others() -> None:
    """What skl2onnx is known to misread: rows far from all, support vectors under one-against-the-rest or boosting."""
    names = np.array(["no", "perhaps", "yes"])
    with pytest.raises(UnsupportedModelError, match=r"labels are others: of sample \d+ it is '(no|perhaps|yes)', and "):
        told(OneVsRestClassifier(SVC()).fit(X, names[THREE]))
    with pytest.raises(UnsupportedModelError, match=r"of sample \d+ it is -1, and 0 by the export"):
        told(RadiusNeighborsClassifier(0.5, outlier_label=-1).fit(X[:20], THREE[:20]))
    with pytest.raises(UnsupportedModelError, match="120 of 120 labels are others: of sample 0 it is 1, and 0"):
        told(AdaBoostClassifier(SVC(), n_estimators=2).fit(X, TWO))


def test_scores_that_are_others() -> None:
    """Where the labels are right there is a warning: of one class against another the export's scores are 1 − s, s."""
    (text,) = told(OneVsOneClassifier(LogisticRegression()).fit(X, TWO))
    assert "decision_function is off by up to 1 (" in text
    assert told(SVC().fit(X, TWO)) == []  # s and −s, in either order


def test_a_row_at_a_step() -> None:
    """Rows that float32 takes to the other side of a threshold are no mistake of the exporter's; others are."""
    steps = make_pipeline(StandardScaler(), DecisionTreeClassifier(max_depth=3, random_state=0)).fit(X, THREE)
    tree = steps[-1].tree_
    inner = np.flatnonzero(tree.feature >= 0)
    rows = np.repeat(X[:20], 40, axis=0)
    for number, node in enumerate(RNG.choice(inner, len(rows))):
        column = tree.feature[node]
        at = tree.threshold[node] * steps[0].scale_[column] + steps[0].mean_[column]
        rows[number, column] = at * (1 + RNG.normal() * 1e-8)
    assert told(steps, rows) == []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exported, "_ASIDE", 0.0)
        with pytest.raises(UnsupportedModelError, match="labels are others"):
            told(steps, rows)


@pytest.mark.parametrize(
    ("kind", "metric", "first"),
    heavy.in_turns(2, [KNeighborsClassifier, KNeighborsRegressor], ["euclidean", "manhattan"], [[], [MaxAbsScaler()]]),
)
def test_neighbours_that_are_equally_far(kind: Any, metric: str, first: Any) -> None:
    """Among whole numbers many are: which ones are taken nobody says. What is misread is found on the other rows."""
    whole = np.clip(np.rint(X * 2), -3, 3)
    model = make_pipeline(*first, kind(4, metric=metric)).fit(whole[:60], THREE[:60])
    said: list[str] = []
    assert told(model, whole, explain=said.append) == []
    assert re.search(r"rows: they agree, but for \d+ rows with equally far neighbours", said[-1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exported, "_TIED", -1.0)
        with pytest.raises(UnsupportedModelError, match=r"is off by up to|labels are others"):
            told(model, whole)
    wrong = make_pipeline(*first, Halved(3), kind(4, metric=metric)).fit(whole[:60], THREE[:60])
    with pytest.raises(UnsupportedModelError, match=r"is off by up to|labels are others"):
        told(wrong, whole)


def test_estimators_of_other_kinds() -> None:
    """Fitted on float32 or a DataFrame, with labels of any kind, read by treelite, or of trees alone."""
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(X, columns=list("abcd"))
    names = np.array(["no", "perhaps", "yes"])
    for model in (
        KMeans(3, n_init=1, random_state=0).fit(X.astype(np.float32)),
        make_pipeline(StandardScaler(), Ridge()).fit(table, X[:, 0]),
        RandomForestClassifier(5, max_depth=4, random_state=0).fit(table, names[THREE]),
        RandomForestClassifier(5, max_depth=4, random_state=0).fit(X, THREE > 1),
        HistGradientBoostingClassifier(max_iter=5).fit(X, np.array([3, 5, 9])[THREE]),
        LogisticRegression().fit(X, TWO * 2.0 + 1),
        DecisionTreeRegressor(max_depth=4).fit(X, X[:, :2]),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("error", PoorResultWarning)
            warnings.simplefilter("ignore", FewSamplesWarning)
            said: list[str] = []
            ml2sc.lift(model, calibration={"x": X}, explain=said.append)
        assert "with it on 120 rows: they agree" in said[-1]


def test_columns_are_taken_by_name_from_data_and_samples(tmp_path: Path) -> None:
    pandas, _ = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    table = pandas.DataFrame(X[:, :3] * [1, 50, 9] + [0, 300, -8], columns=list("abc"))
    steps = ColumnTransformer([("one", StandardScaler(), ["a", "b"]), ("other", "passthrough", ["c"])])
    model = make_pipeline(steps, LogisticRegression()).fit(table, TWO)
    artifact = ml2sc.compile(model, calibration=table[["c", "a", "b"]])
    assert artifact.columns == ("a", "b", "c")
    assert artifact.source == ml2sc.compile(model, calibration={"x": table.to_numpy()}).source
    table[["b", "c", "a"]].assign(y=model.predict(table)).to_parquet(tmp_path / "own.parquet")
    assert (compare_original(artifact, tmp_path / "own.parquet").equal or 0) > 115
    with pytest.raises(DataError, match="columns are taken by name: it lacks the model's 'c'"):
        ml2sc.check(artifact, table[["a", "b"]])


def test_rows_that_the_estimator_refuses() -> None:
    codes = RNG.integers(0, 3, size=(60, 4)).astype(float)
    model = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(codes, TWO[:60])
    assert told(model, codes) == []
    said: list[str] = []
    (text,) = told(model, codes + 3, explain=said.append)
    assert "could not be compared with it: its predict says: Found unknown categories" in text
    assert said[-1] == text
    assert told(model, None, explain=said.append) == []
    assert "could not be compared with it: its predict says: Found unknown categories" in said[-1]


def test_a_pickle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    joblib.dump(AdaBoostClassifier(SVC(), n_estimators=2).fit(X, TWO), tmp_path / "model.pkl")
    np.savez(tmp_path / "data.npz", x=X)
    given = [str(tmp_path / "model.pkl"), "--unpickle", "--calibrate", str(tmp_path / "data.npz")]
    assert main([*given, "-o", str(tmp_path / "out")]) == 1
    assert "labels are others: of sample 0 it is 1, and 0 by the export" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
