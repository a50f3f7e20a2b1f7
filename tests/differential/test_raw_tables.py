"""scikit-learn pipelines on raw columns: decisions, and R², on rows that calibration did not see."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support import checking

import ml2sc
from ml2sc.calibration import Calibrated
from ml2sc.compiler import Quantized
from ml2sc.ir import wad

Array = npt.NDArray[Any]

datasets = pytest.importorskip("sklearn.datasets")


def split(name: str) -> tuple[Array, Array, Array, Array]:
    from sklearn.model_selection import train_test_split

    options = {"scaled": False} if name == "diabetes" else {}
    x, y = getattr(datasets, f"load_{name}")(return_X_y=True, **options)
    strata = None if name == "diabetes" else y
    return tuple(train_test_split(x.astype(np.float32), y, test_size=0.3, random_state=0, stratify=strata))  # type: ignore[return-value]


def pipeline(estimator: Any, x: Array, y: Array) -> tuple[Any, Any]:
    from skl2onnx import to_onnx
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    fitted = make_pipeline(StandardScaler(), estimator).fit(x, y)
    options = {id(estimator): {"zipmap": False}} if hasattr(estimator, "classes_") else None
    proto = to_onnx(fitted, x[:1], options=options)
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    return fitted, proto


def outcomes(quantised: ml2sc.Artifact | Quantized, rows: Array) -> list[wad.Outcome]:
    graph = quantised.graph
    assert graph is not None
    (name,) = graph.inputs
    samples = [{name: row.reshape(1, -1).astype(np.float64)} for row in rows]
    return checking.outcomes(graph, samples)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    ("name", "kind", "most", "precision"),
    [
        ("wine", "network", 1, "int8"),
        pytest.param("wine", "network", 1, "auto", marks=pytest.mark.heavy),
        pytest.param("breast_cancer", "network", 2, "int8", marks=pytest.mark.heavy),
        pytest.param("breast_cancer", "logistic", 2, "int8", marks=pytest.mark.heavy),
    ],
)
def test_decisions_are_kept(name: str, kind: str, most: int, precision: str) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier

    rows, others, labels, _ = split(name)
    network = MLPClassifier((16,), max_iter=500, random_state=0)
    fitted, proto = pipeline(network if kind == "network" else LogisticRegression(), rows, labels)
    artifact = ml2sc.compile(proto, precision=precision, calibration=rows, name="Raw")
    lost = sum(o.decision != int(y) for o, y in zip(outcomes(artifact, others), fitted.predict(others), strict=True))
    assert lost <= most
    manifest = artifact.manifest
    assert manifest["calibration"]["advice"] is None
    again = ml2sc.compile(
        proto,
        precision=str(manifest["precision"]),
        input_ranges=tuple(manifest["options"]["input_ranges"]),
        calibrated=Calibrated.from_json(manifest["calibrated"]),
        activity={layer["layer"]: layer["live"] for layer in manifest["plan"] if "live" in layer},
        name="Raw",
    )
    assert again.source == artifact.source, "the manifest says enough to compile the same again"
    # one range for all leaves most columns 0, and zeros are cheap: what the code takes at most is compared
    whole = ((float(rows.min()), float(rows.max())),)
    one = ml2sc.compile(proto, precision=str(manifest["precision"]), calibration=rows, input_ranges=whole, name="Raw")
    assert manifest["gas"]["worst"] <= 1.01 * one.manifest["gas"]["worst"]
    if precision == "int8":
        compared(name, kind, artifact, one, lost, others, fitted.predict(others))


def compared(
    name: str, kind: str, own: ml2sc.Artifact, one: ml2sc.Artifact, lost: int, rows: Array, wanted: Array
) -> None:
    """Hold what docs/numbers.md says of columns with a range each, and with one for all, against what is found."""
    table = (Path(__file__).parents[2] / "docs" / "numbers.md").read_text(encoding="utf-8")
    title = f"{name.replace('_', ' ')}, {'network' if kind == 'network' else 'logistic regression'}"
    (line,) = re.findall(rf"^\| {title} \| (.*) \|$", table, re.MULTILINE)
    stated = [int(cell.split()[0].replace(",", "")) for cell in line.split(" | ")]
    lost_by_one = sum(o.decision != int(y) for o, y in zip(outcomes(one, rows), wanted, strict=True))
    costs = [(a.manifest["gas"]["predicted"], a.manifest["gas"]["worst"]) for a in (one, own)]
    # training ends elsewhere on other machines
    assert stated == pytest.approx([lost_by_one, *costs[0], lost, *costs[1]], rel=0.02, abs=3)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_regression_keeps_its_score() -> None:
    from sklearn.metrics import r2_score
    from sklearn.neural_network import MLPRegressor

    rows, others, labels, right = split("diabetes")
    network = MLPRegressor(hidden_layer_sizes=(16,), max_iter=2000, random_state=0)
    fitted, proto = pipeline(network, rows, labels)
    quantised = ml2sc.quantize(ml2sc.lift(proto, precision="int8", calibration=rows))
    found = [o.outputs[0] / wad.WAD for o in outcomes(quantised, others)]
    assert abs(r2_score(right, found) - r2_score(right, fitted.predict(others))) <= 0.01


def test_a_precision_is_checked_against_what_is_asked() -> None:
    from sklearn.linear_model import LogisticRegression

    rows, _, labels, _ = split("wine")
    _, proto = pipeline(LogisticRegression(), rows, labels)
    assert ml2sc.compile(proto, precision="q15.20", calibration=rows, min_agreement=1.0, tolerance=1e-3)
    with pytest.raises(ml2sc.errors.CheckError, match=r"in q12\.1 does not keep its model: .* \d+ of 124 decisions"):
        ml2sc.compile(proto, precision="q12.1", calibration=rows, min_agreement=0.999)
    with pytest.raises(ml2sc.errors.CheckError, match=r"q15\.6 is off .* and the tolerance is 1e-09"):
        ml2sc.compile(proto, precision="q15.6", calibration=rows, tolerance=1e-9)
