"""What `--explain` says of columns: a line for each, fewer where there are many."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnx
import pytest

import ml2sc
from ml2sc.backends.columns import MOST, column_lines

Ranges = tuple[tuple[float, float], ...]


def compiled(head: str, size: int, **options: Any) -> dict[str, Any]:
    weights = ", ".join(str(1 + n % 3) for n in range(2 * size))
    model = onnx.parser.parse_model(
        f'<ir_version: 9, opset_import: ["" : 18]> t ({head}) => (float[1,2] y) <float[{size},2] w = {{{weights}}}> '
        f"{{ {'c = Concat<axis=1>(x, z)' if 'z' in head else 'c = Identity(x)'} y = MatMul(c, w) }}"
    )
    return dict(ml2sc.compile(model, precision="int8", **options).manifest)


def cells(line: str) -> list[str]:
    return re.split(r" {2,}", line)


def test_every_column_has_its_line() -> None:
    size = np.array([0.01, 1.0, 1000.0])
    x = np.random.default_rng(0).uniform(1, 2, (200, 3)) * size
    ranges: Ranges = ((0.01, 0.02), (-1.0, 1.5), (1000.0, 1900.0))
    options = {"calibration": {"x": x}, "input_ranges": (ranges,), "column_names": ("a", "b\n", "c")}
    manifest = compiled("float[1,3] x", 3, **options)
    header, *rows = map(cells, column_lines(manifest))
    assert header == ["column", "name", "range", "scale", "zero point", "outside"]
    beyond = ((x < np.array(ranges)[:, 0]) | (x > np.array(ranges)[:, 1])).sum(axis=0)
    assert 0 == beyond[0] < beyond[2] < beyond[1]
    steps = [(hi - lo) / 255 for lo, hi in ranges]
    shown_ranges = ("0.01 to 0.02", "-1 to 1.5", "1000 to 1900")
    for index, (name, shown) in enumerate(zip(["a", r"b\n", "c"], shown_ranges, strict=True)):
        point = (0 - ranges[index][0]) / steps[index]
        wanted = [str(index), name, shown, f"{steps[index]:.3g}", f"{point:.1f}", str(beyond[index])]
        assert rows[index] == wanted
    assert "outside: values of the calibration data" in rows[-1][0]


def test_what_is_said_is_what_a_packer_does() -> None:
    """Scale and zero point lead from the range to 0 and 255, of columns as of an input with one range."""
    manifest = compiled("float[1,2] x, float[1,1] z", 3, input_ranges=(((-3.0, 1.0), (5.0, 900.0)), (-1.0, 3.0)))
    for line in list(column_lines(manifest))[1:4]:
        range_, scale, point = cells(line)[2:]
        lo, hi = map(float, range_.split(" to "))
        assert float(scale) * (0 - float(point)) == pytest.approx(lo, rel=0.02)
        assert float(scale) * (255 - float(point)) == pytest.approx(hi, rel=0.02)
    assert [cells(line)[:2] for line in list(column_lines(manifest))[1:4]] == [["0", "x[0]"], ["1", "x[1]"], ["2", "z"]]
    assert "outside" not in "".join(column_lines(manifest))


def test_an_input_of_one_range_has_one_line() -> None:
    manifest = compiled("float[1,900] x", 900, input_ranges=((0.0, 1.0),))
    _, line, legend = column_lines(manifest)
    assert cells(line) == ["0–899", "x", "0 to 1", "0.00392", "0"]
    assert legend.startswith("column: ")


def test_of_many_columns_those_with_values_outside_are_listed() -> None:
    count = MOST + 40
    ranges: Ranges = tuple((0.0, 1.0 + n) for n in range(count))
    x = np.random.default_rng(0).uniform(0, 1, (150, count))
    x[:3, 90], x[:5, 70] = 1_000, -1
    manifest = compiled(f"float[1,{count}] x", count, input_ranges=(ranges,), calibration={"x": x})
    lines = list(column_lines(manifest))
    listed = {cells(line)[0]: cells(line)[-1] for line in lines[1:9]}
    assert (listed["70"], listed["90"], listed["0"]) == ("5", "3", "0")
    assert list(listed) == sorted(listed, key=int)
    assert lines[9] == f"and {count - 8} more of 'x', scales 0.00392 to {count / 255:.3g} (manifest.json: inputs)"
    assert len(lines) == 12
