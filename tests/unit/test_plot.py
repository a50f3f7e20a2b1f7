"""The picture of the formats: every point is in it, with a number that the table beside it explains."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Sequence
from xml.etree import ElementTree as ET

import numpy as np
import onnx
import pytest

import ml2sc
from ml2sc.passes.measure import Measured
from ml2sc.passes.precision import Integer, parse_precision
from ml2sc.passes.search_formats import Candidate
from ml2sc.plot import picture

NS = "{http://www.w3.org/2000/svg}"
LETTER = 6.4


def candidate(name: str, gas: int, kept: int, largest: float = 0.1, accuracy: float | None = None) -> Candidate:
    precision = parse_precision(name)
    assert precision is not None
    return Candidate(precision, gas, Measured(500, kept, largest, 0.01), good=kept >= 495, accuracy=accuracy)


MANY = [
    candidate("w4a4", 30_000, 300, 5.0, 0.6),
    candidate("w6a6", 30_500, 490, 1.0, 0.93),
    candidate("int8", 31_000, 499, 0.5, 0.95),
    candidate("w7a8", 31_000, 499, 0.5, 0.95),
    candidate("w8a9", 31_010, 499, 0.5, 0.95),
    candidate("w16a16", 90_000, 500, 0.01, 0.96),
    candidate("w12a12", 95_000, 480, 0.2, 0.9),
]


def drawn(candidates: Sequence[Candidate], chosen: str, **options: object) -> ET.Element:
    text = picture(candidates, chosen, title="a < b", **{"decides": True, **options})  # type: ignore[arg-type]
    assert text == picture(list(reversed(candidates)), chosen, title="a < b", **{"decides": True, **options})  # type: ignore[arg-type]
    return ET.fromstring(text)


def texts(root: ET.Element) -> list[str]:
    return [str(element.text) for element in root.iter(f"{NS}text")]


def points(root: ET.Element) -> list[ET.Element]:
    return [circle for circle in root.iter(f"{NS}circle") if circle.find(f"{NS}title") is not None]


def labels(root: ET.Element) -> list[ET.Element]:
    return [element for element in root.iter(f"{NS}text") if element.get("class") == "mark"]


def numbers(text: str) -> list[int]:
    found = []
    for part in text.split(":")[0].split(", "):
        first, _, last = part.partition("–")
        found += list(range(int(first), int(last or first) + 1))
    return found


@pytest.mark.parametrize("decides", [True, False])
@pytest.mark.parametrize("accuracy", [None, 0.96])
def test_every_format_has_a_point_a_number_and_a_row(decides: bool, accuracy: float | None) -> None:
    root = drawn(MANY, "int8", decides=decides, model_accuracy=accuracy)
    assert {c.find(f"{NS}title").text for c in points(root)} == {str(c.precision) for c in MANY}  # type: ignore[union-attr]
    shown = sorted(number for label in labels(root) for number in numbers(str(label.text)))
    assert shown == list(range(1, len(MANY) + 1))
    for c in MANY:
        assert str(c.precision) in texts(root)
        assert f"{c.gas:,}" in texts(root)
    what = "largest error" if not decides else "decisions kept" if accuracy is None else "accuracy"
    assert what in texts(root)
    assert any("the float model" in text for text in texts(root))
    assert ("the float model: 96.00% of the labels" in texts(root)) == (decides and accuracy is not None)


def test_the_best_are_named_and_the_axis_ends_at_all() -> None:
    root = drawn(MANY, "int8")
    named = [str(label.text) for label in labels(root) if ":" in str(label.text)]
    assert named == ["1: w4a4", "2: w6a6", "3–5: int8", "6: w16a16"]
    assert "100 %" in texts(root)
    assert min(float(c.get("cy", 0)) for c in points(root)) == 64  # the end of the axis
    assert not [text for text in texts(root) if re.fullmatch(r"1[1-9]0 %", text)]


def test_the_gas_axis_is_not_zoomed_into_noise() -> None:
    close = [candidate("w7a8", 23_115, 500), candidate("int8", 23_192, 500)]
    root = drawn(close, "int8")
    ticks = [int(text.replace(",", "")) for text in texts(root) if re.fullmatch(r"\d\d,000", text)]
    assert max(ticks) - min(ticks) >= 23_192 / 4
    assert [str(label.text) for label in labels(root)] == ["1, 2: w7a8"]


def test_nothing_lies_on_another_and_all_is_inside() -> None:
    rng = random.Random(5)
    names = [f"w{w}a{a}" for w, a in itertools.product(range(2, 9), (4, 8))]
    for _ in range(30):
        some = [candidate(n, rng.randrange(25_000, 60_000), rng.randrange(250, 501)) for n in rng.sample(names, 12)]
        root = drawn(some, str(some[0].precision))
        assert root.get("width") == "800"
        height = float(root.get("height", 0))
        boxes = []
        for label in labels(root):
            x, y = float(label.get("x", 0)), float(label.get("y", 0))
            boxes.append((x, y - 9, x + LETTER * len(str(label.text)), y))
        assert all(a > 0 and c < 460 and b > 0 and d < height for a, b, c, d in boxes)
        for p, q in itertools.combinations(boxes, 2):
            assert not (p[0] < q[2] and q[0] < p[2] and p[1] < q[3] and q[1] < p[3])
        assert all(0 < float(e.get("y", 0)) < height for e in root.iter(f"{NS}text"))


def test_long_names_are_cut() -> None:
    name = "/".join(["w2a4", "w3a5"] * 10)
    root = drawn([candidate(name, 30_000, 500)], name)
    assert all(len(text) < 50 for text in texts(root))


def test_int8_is_always_among_what_auto_shows() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 18]> t (float[1,3] x) => (float[1,2] y) '
        "<float[3,4] w = {1, -1, 0.5, 2, -0.75, 1, 0.25, -2, 0.1, 0.2, 0.3, 0.4}, "
        "float[4,2] v = {1, -1, 0.5, 0.25, 2, 1, -1, 0.3}> { h = MatMul(x, w) r = Relu(h) y = MatMul(r, v) }"
    )
    x = np.random.default_rng(7).uniform(-1, 1, (60, 3)).astype(np.float32)
    for labels_ in ({}, {"y": (x[:, 0] > 0).astype(int)}):
        candidates: list[Candidate] = []
        artifact = ml2sc.compile(model, calibration={"x": x, **labels_}, runners_up=candidates.extend)
        assert Integer(8, 8) in [c.precision for c in candidates]
        found, chosen = artifact.manifest["calibration"], artifact.manifest["precision"]
        (taken,) = (c for c in candidates if str(c.precision) == chosen)
        assert taken.accuracy == found["accuracy"]
        assert (taken.accuracy is None) == (not labels_)
        assert all(c.measured is not None and c.measured.samples == 60 for c in candidates)
        picture(candidates, chosen, decides=True, title="t", model_accuracy=found["model_accuracy"])
