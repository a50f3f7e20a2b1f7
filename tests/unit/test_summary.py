"""What the library says: tables, one line, HTML, and warnings at the user's own line."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import onnx
import pytest

import ml2sc
from ml2sc.errors import CheckError, FewSamplesWarning, Ml2scWarning, PoorResultWarning, RangeWarning, UsageError

MODEL = (
    '<ir_version: 9, opset_import: ["" : 18]> net (float[1,3] x) => (float[1,{outputs}] y) '
    "<float[3,4] w = {{1, -1, 0.5, 2, -0.75, 1, 0.25, -2, 0.1, 0.2, 0.3, 0.4}}, "
    "float[4,{outputs}] v = {{{weights}}}> {{ h = MatMul(x, w) r = Relu(h) y = MatMul(r, v) }}"
)
SAMPLES = np.random.default_rng(7).uniform(-1, 1, (160, 3)).astype(np.float32)


def compiled(precision: str, data: Any = SAMPLES, outputs: int = 2, **options: Any) -> ml2sc.Artifact:
    weights = ", ".join(str(w) for w in [1, -1, 0.5, 0.25, 2, 1, -1, 0.3][: 4 * outputs])
    model = onnx.parser.parse_model(MODEL.format(outputs=outputs, weights=weights))
    return ml2sc.compile(model, precision=precision, calibration=data, **options)


def test_an_artifact_in_one_line() -> None:
    artifact = compiled("int8")
    assert repr(artifact) == "<Artifact Net (solidity): 3 inputs, 2 outputs, precision int8, not compiled>"


def test_an_artifacts_table() -> None:
    artifact = compiled("int8")
    text = artifact.summary()
    lines = text.splitlines()
    assert lines[0] == "Net: 3 inputs, 2 outputs, precision int8"
    assert max(map(len, lines)) <= 120
    gas = artifact.manifest["gas"]
    assert f"  gas, called      {gas['called']['cold']:,} cold, {gas['called']['warm']:,} warm" in text
    assert f"  gas, sent        {gas['predicted']:,} as a transaction" in text
    assert f"{gas['deploy']:,} gas in 1 transaction" in text
    assert "error bound" in lines[-1]
    found = artifact.manifest["calibration"]
    assert f"{round(160 * found['decision_agreement'])} of 160 decisions" in text
    assert "ether" not in text
    assert f"({gas['predicted'] * 3e-9:.7f} ether, $0." in artifact.summary(gas_price=3, eth_price=2_000)
    with pytest.raises(UsageError):
        artifact.summary(eth_price=2_000)


def test_the_bound_for_every_input_is_told_where_nothing_is_measured_or_all_is_to_be_explained() -> None:
    for artifact, options, bounds in (
        (compiled("int8", SAMPLES / 3, input_ranges=((-1.0, 1.0),)), {}, 1),
        (compiled("int8", SAMPLES / 3, input_ranges=((-1.0, 1.0),)), {"explain": True}, 2),
        (compiled("int8", None, input_ranges=((-1.0, 1.0),)), {}, 1),
    ):
        text = artifact.summary(**options)
        assert text.count("proved for") == bounds, text
        every = re.search(rf"{artifact.manifest['error_bound']:.3g}( \([^)]*\))?: proved for every input", text)
        assert bool(every) == (bounds == 2 or "calibration" not in artifact.manifest)


def test_labels_give_accuracies() -> None:
    labels = (SAMPLES[:, 0] > 0).astype(int)
    found = compiled("int8", {"x": SAMPLES, "y": labels})
    assert re.search(r"accuracy +\d\d\.\d\d% of the labels, the model's own \d\d\.\d\d%", found.summary())
    with pytest.warns(Ml2scWarning, match="no accuracy is stated: 80 of 160 labels are none of the model's classes"):
        found = compiled("int8", {"x": SAMPLES, "y": 2 * (np.arange(160) % 2)})
    assert "accuracy" not in found.summary()


def test_an_artifact_as_a_page() -> None:
    page = ET.fromstring(compiled("int8")._repr_html_())
    assert "Gemm + Relu" in {cell.text for cell in page.findall(".//td")}


def test_poor_results_are_warned_of_at_the_callers_line() -> None:
    with pytest.warns(
        PoorResultWarning, match=r"Net keeps its model poorly: .* of 160 decisions .*; .*try --precis"
    ) as caught:
        artifact = compiled("w2a2")
    assert {warning.filename for warning in caught} == {__file__}
    assert "poor result" in artifact.summary()


def test_less_than_was_asked_for_is_an_error_with_the_remedy() -> None:
    with pytest.raises(
        CheckError, match=r"Net in w2a2 does not keep its model: .* and at least 0.95 is asked for"
    ) as caught:
        compiled("w2a2", min_agreement=0.95)
    assert "try --precision" in str(caught.value.hint)
    with pytest.raises(CheckError, match=r"R² of its outputs is .* at least 0.999 is asked for"):
        compiled("w2a2", outputs=1, min_agreement=0.999)
    compiled("w2a2", min_agreement=0.1)


def test_a_good_result_is_not_warned_of() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compiled("int8")


def test_assumptions_are_warned_of() -> None:
    with pytest.warns(RangeWarning, match="no input range is declared for 'x': taken as ±65,536"):
        compiled("int8", None)
    with pytest.warns(FewSamplesWarning, match="20 calibration samples say little"):
        compiled("int8", SAMPLES[:20])


def test_a_folder_says_the_same(tmp_path: Path, toolchain: Any) -> None:
    artifact = ml2sc.build(compiled("int8"), toolchain)
    ml2sc.write_folder(artifact, tmp_path / "out")
    loaded = ml2sc.load_folder(tmp_path / "out")
    assert loaded.summary() == artifact.summary()
    assert repr(loaded) == repr(artifact)
    assert len(repr(artifact)) < 120
    assert len(repr(artifact.bytecode)) < 400


def test_what_a_calling_contract_pays_is_predicted(toolchain: Any) -> None:
    for options in ({}, {"weights": "data"}, {"updatable": True}):
        artifact = ml2sc.build(compiled("int8", **options), toolchain)
        with warnings.catch_warnings():
            warnings.simplefilter("error", PoorResultWarning)
            report = ml2sc.check(artifact, SAMPLES[:25])
        assert report.called is not None
        stated = artifact.manifest["gas"]["called"]
        within = 0.02 * (21_000 + report.called.cold)
        assert abs(stated["cold"] - report.called.cold) <= within
        assert abs(stated["warm"] - report.called.warm) <= within
        assert report.called.cold - report.called.warm == stated["cold"] - stated["warm"]
        assert report.transactions == artifact.manifest["gas"]["transactions"] == 1 + len(artifact.data)
