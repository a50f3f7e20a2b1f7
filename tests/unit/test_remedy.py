"""Where a precision does not keep its model, what is named was tried and helps: doing it gives what was said."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import onnx
import pytest

import ml2sc
from ml2sc.errors import CheckError, PoorResultWarning

MODEL = (
    '<ir_version: 9, opset_import: ["" : 18]> net (float[1,3] x) => (float[1,{outputs}] y) '
    "<float[3,4] w = {{{first}}}, float[4,{outputs}] v = {{{second}}}> "
    "{{ h = MatMul(x, w) r = Relu(h) y = MatMul(r, v) }}"
)
WEIGHTS = np.array([[1, -1, 0.5, 2], [-0.75, 1, 0.25, -2], [0.1, 0.2, 0.3, 0.4]])
UNLIKE = np.array([1000.0, 1.0, 0.1])
SAMPLES = np.random.default_rng(7).uniform(-1, 1, (200, 3))


def model(sizes: Any = 1.0, outputs: int = 2) -> onnx.ModelProto:
    first = ", ".join(map(str, (WEIGHTS / np.reshape(sizes * np.ones(3), (3, 1))).ravel()))
    second = ", ".join(map(str, [1, -1, 0.5, 0.25, 2, 1, -1, 0.3][: 4 * outputs]))
    return onnx.parser.parse_model(MODEL.format(outputs=outputs, first=first, second=second))


def hint(net: onnx.ModelProto, data: Any, **options: Any) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("error", PoorResultWarning)
        with pytest.raises(CheckError) as failed:
            ml2sc.compile(net, calibration=data, **options)
    return str(failed.value.hint)


def test_a_range_for_all_columns_is_named_where_one_for_each_helps() -> None:
    data = SAMPLES * UNLIKE
    range_ = ((float(data.min()), float(data.max())),)
    said = hint(model(UNLIKE), data, precision="int8", input_ranges=range_, min_agreement=0.95)
    found = re.match(r"leave --input-range out \(tried: int8, [\d,]+ gas, (\d+) of 200 decisions are the model's", said)
    assert found is not None, said
    artifact = ml2sc.compile(model(UNLIKE), calibration=data, precision="int8", min_agreement=0.95)
    assert 200 - len(artifact.manifest["calibration"]["differing"]) == int(found[1]) > 195


@pytest.mark.parametrize("outputs", [1, pytest.param(2, marks=pytest.mark.heavy)])
def test_auto_is_named_where_it_keeps_the_model(outputs: int) -> None:
    net = model(outputs=outputs)
    for ranges in ({}, {"input_ranges": ((-1.0, 1.0),)}):
        said = hint(net, SAMPLES, precision="w2a2", min_agreement=0.95, **ranges)
        found = re.match(r"leave --precision out \(tried: (\S+), ([\d,]+) gas, (.*?)\); ", said)
        assert found is not None, said
        assert found[3].startswith("200 of 200" if outputs == 2 else "R² of its outputs is 1.0000")
        artifact = ml2sc.compile(net, calibration=SAMPLES, **ranges)
        assert artifact.manifest["precision"] == found[1]
        assert artifact.manifest["gas"]["predicted"] == pytest.approx(int(found[2].replace(",", "")), rel=0.01)
        assert "--min-agreement takes less" in said


def test_a_tolerance_is_kept_by_what_is_named() -> None:
    said = hint(model(), SAMPLES, precision="int8", tolerance=1e-5)
    found = re.match(r"leave --precision out \(tried: (\S+),", said)
    assert found is not None, said
    kept = ml2sc.compile(model(), calibration=SAMPLES, precision=found[1], tolerance=1e-5)
    assert kept.manifest["calibration"]["max_abs_error"] <= 1e-5
    said = hint(model(), None, precision="q15.6", tolerance=1e-5, input_ranges=((-1.0, 1.0),))
    found = re.match(r"leave --precision out \(tried: (\S+),", said)
    assert found is not None, said
    proved = ml2sc.compile(model(), precision=found[1], tolerance=1e-5, input_ranges=((-1.0, 1.0),))
    assert proved.manifest["error_bound"] <= 1e-5


def test_what_does_not_help_is_said_not_to() -> None:
    said = hint(model(), SAMPLES, precision="w2a2", tolerance=1e-40)
    assert said.startswith("auto was tried and does not help: no format gives errors of at most 1e-40")
    assert "leave --precision out" not in said


def test_a_poor_result_that_nobody_asks_more_of_names_auto_without_trying_it() -> None:
    with pytest.warns(PoorResultWarning, match=r"poorly: .*: try --precision .*; without --precision auto looks for"):
        ml2sc.compile(model(), calibration=SAMPLES, precision="w2a2")
