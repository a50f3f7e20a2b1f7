"""What calibration reports, layer by layer, and the picture of the formats."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import onnx
import pytest
from support.random_cnns import random_cnn
from support.random_models import seeded_case

import ml2sc
from ml2sc.calibration import Calibrated
from ml2sc.errors import CheckError, FewSamplesWarning, RangeError, RangeWarning, UsageError
from ml2sc.fidelity import assess
from ml2sc.passes import LEVELS, run_pipeline

MODEL = (
    '<ir_version: 9, opset_import: ["" : 18]> t (float[1,3] x) => (float[1,2] y) '
    "<float[3,4] w = {1, -1, 0.5, 2, -0.75, 1, 0.25, -2, 0.1, 0.2, 0.3, 0.4}, "
    "float[4,2] v = {1, -1, 0.5, 0.25, 2, 1, -1, 0.3}> { h = MatMul(x, w) r = Relu(h) y = MatMul(r, v) }"
)
SAMPLES = np.random.default_rng(7).uniform(-1, 1, (60, 3)).astype(np.float32)


def compiled(precision: str, samples: Any = SAMPLES, **options: Any) -> dict[str, Any]:
    artifact = ml2sc.compile(onnx.parser.parse_model(MODEL), precision=precision, calibration=samples, **options)
    return dict(artifact.manifest)


def test_what_is_reported() -> None:
    manifest = compiled("int8")
    found = manifest["calibration"]
    assert found["samples"] == found["assessed"] == 60
    assert found["mean_abs_error"] <= found["error_percentiles"]["99"] <= found["max_abs_error"]
    assert found["max_abs_error"] <= manifest["error_bound"]
    assert found["decision_agreement"] == (60 - len(found["differing"])) / 60
    assert 0 < found["agreement_lower_bound"] < found["decision_agreement"]
    names = [layer["tensor"] for layer in found["layers"]]
    assert names[0] == "x"
    assert names[-1] == "y"
    hidden = next(layer for layer in found["layers"] if layer["operator"] == "Requantize")
    assert hidden["format"] == "uint8"
    assert hidden["range"] in {"minmax", "percentile", "mse", None}
    assert 0 < hidden["added"] <= 0.6 * hidden["scale"]
    assert all(layer["signal_to_noise"] > 30 for layer in found["layers"])
    assert found["advice"] is None


@pytest.mark.parametrize(
    "case",
    [random_cnn(2), seeded_case(0), seeded_case(3), seeded_case(77)],
    ids=["maps", "vectors", "rows", "a scalar of wide integers"],
)
def test_the_same_however_many_samples_are_looked_at_together(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {name: value for name, value in case.options.items() if name != "input_ranges"}
    samples = {name: np.array([sample[name] for sample in 3 * case.samples]) for name in case.samples[0]}
    given = {name: x.reshape(len(x), -1) for name, x in samples.items()}
    manifests = []
    for together in (256, 1):
        monkeypatch.setattr("ml2sc.passes.samples._TOGETHER", together)
        manifests.append(ml2sc.compile(case.model, calibration=given, **options).manifest)
    assert manifests[0] == manifests[1]


def test_a_poor_result_names_a_layer() -> None:
    found = compiled("w2a8")["calibration"]
    assert found["differing"]
    assert all(d["contract"] != d["model"] for d in found["differing"])
    assert found["decision_agreement"] < 1
    assert "the rounded weights of" in found["advice"]
    assert "--precision w8a2" not in found["advice"]
    found = compiled("w16a2")["calibration"]
    assert re.match(r"rounding '.*' .* to uint2 adds most of the error: try --precision w16a8 \(", found["advice"])


def test_inputs_of_unlike_size_are_named_and_the_remedies_work() -> None:
    size = np.array([1000.0, 1.0, 0.1], np.float32)
    model = onnx.parser.parse_model(MODEL)
    weights = onnx.numpy_helper.to_array(model.graph.initializer[0]) / size[:, None]
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weights, "w"))
    samples = SAMPLES * size
    by_element = ml2sc.compile(model, precision="int8", calibration=samples).manifest["calibration"]
    assert by_element["differing"] == []
    assert by_element["advice"] is None
    one = {"calibration": samples, "input_ranges": ((float(samples.min()), float(samples.max())),)}
    found = ml2sc.compile(model, precision="int8", **one).manifest["calibration"]
    assert found["decision_agreement"] < 0.95
    assert found["advice"].startswith("2 of 3 elements of input 'x' move by less than 4 steps of its scale, 7.24: ")
    assert "scale the inputs alike before the call" in found["advice"]
    assert compiled("int8")["calibration"]["advice"] is None
    named = re.search(r"--precision (\w+) \(on some of the samples (\d+) of \2 decisions kept", found["advice"])
    assert named is not None
    better = ml2sc.compile(model, precision=named[1], **one).manifest["calibration"]
    assert better["differing"] == []


def test_saturated_values_are_counted() -> None:
    """The ranges are those of inputs half as large."""
    calibrated = Calibrated.from_json(compiled("int8", SAMPLES / 2)["calibrated"])
    artifact = ml2sc.compile(
        onnx.parser.parse_model(MODEL), precision="int8", calibrated=calibrated, input_ranges=((-1.0, 1.0),)
    )
    assert artifact.graph is not None
    assert artifact.reference is not None
    samples = [{"x": x.reshape(1, 3).astype(np.float64)} for x in SAMPLES]
    source = artifact.reference.copy()
    run_pipeline(source, LEVELS[2])
    calibrated.apply(source)
    found = assess(artifact.reference, source, artifact.graph, samples, {}, None)
    assert 0 < found["saturated_samples"] < 60
    assert sum(layer["saturated"] for layer in found["layers"]) >= found["saturated_samples"]


def test_one_sample_and_constant_inputs() -> None:
    for samples in (SAMPLES[:1], np.zeros((5, 3), np.float32), np.ones((5, 3), np.float32)):
        manifest = compiled("auto", samples)
        assert manifest["calibration"]["differing"] == []
        assert manifest["calibration"]["agreement_lower_bound"] < 0.6


def test_few_samples_are_warned_of() -> None:
    for samples, said in (
        (SAMPLES[:20], "20 calibration samples say little about other inputs"),
        (SAMPLES[:1], "one calibration sample says little about other inputs"),
        (np.ones((200, 3), np.float32), "all 200 calibration samples are the same"),
    ):
        with pytest.warns(FewSamplesWarning, match=said):
            compiled("int8", samples)


def test_the_options_must_mean_something() -> None:
    for options in ({"min_agreement": 0.0}, {"min_agreement": 1.5}, {"tolerance": -1.0}, {"tolerance": float("nan")}):
        with pytest.raises(UsageError):
            compiled("auto", **options)
    with pytest.raises(UsageError, match="without calibration data"):
        compiled("auto", None, min_agreement=0.99)
    with pytest.raises(UsageError, match="there is no choice to spend gas on"):
        compiled("int8", margin=0.1)


def test_a_precision_that_is_asked_for_is_checked_against_the_tolerance() -> None:
    with pytest.raises(CheckError, match=r"int8 is off on the calibration data by up to .*tolerance is 1e-06"):
        compiled("int8", tolerance=1e-6)
    assert compiled("int8", tolerance=1.0)["calibration"]["max_abs_error"] <= 1.0
    with pytest.raises(CheckError, match=r"q15.16 is proved to be off by at most .*, and the tolerance is 1e-12"):
        compiled("q15.16", None, tolerance=1e-12, input_ranges=((-1.0, 1.0),))


def test_a_tolerance_without_data_is_proved() -> None:
    proved = compiled("auto", None, tolerance=1e-3, input_ranges=((-1.0, 1.0),))
    assert proved["error_bound"] <= 1e-3
    assert proved["precision"].startswith("q")
    with pytest.raises(RangeError, match=r"bound of 1e-40 .* the best is .*, of q\S+, at .* gas an inference"):
        compiled("auto", None, tolerance=1e-40, input_ranges=((-1.0, 1.0),))


def test_samples_outside_the_declared_range_are_counted() -> None:
    count = int((np.abs(SAMPLES) > 0.9).any(axis=1).sum())
    with pytest.warns(RangeWarning, match=f"{count} of 60 calibration samples lie outside the declared input range"):
        compiled("int8", SAMPLES, input_ranges=((-0.9, 0.9),))
    found = compiled("int8", SAMPLES * 3, input_ranges=((-1.0, 1.0),))["calibration"]
    assert found["layers"][0]["saturated"] == (np.abs(SAMPLES * 3) > 1).sum()
    assert re.match(r"input 'x' goes from -2\.\d+ to 2\.\d+ in the samples: declare that range", found["advice"])


def test_a_binary_format_that_is_too_narrow_is_warned_of() -> None:
    poor = compiled("q1.3", SAMPLES, input_ranges=((-1.0, 1.0),))["calibration"]
    assert re.match(r"'\S+' .* saturates on .* values: it needs more bits before the point", poor["advice"])
    with pytest.warns(RangeWarning, match=r"q1\.20 holds reals within ±2\^1, .* what is beyond saturates") as caught:
        compiled("q1.20", None, input_ranges=((-1.0, 1.0),))
    needed = int(str(caught[0].message).split("can reach 2^")[1].split()[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compiled(f"q{needed}.20", None, input_ranges=((-1.0, 1.0),))


def test_a_range_below_the_step_of_its_inputs() -> None:
    with pytest.raises(RangeError, match="below 1e-18"):
        compiled("auto", None, input_ranges=((-1e-30, 1e-30),))
