from __future__ import annotations

import numpy as np
import pytest

from ml2sc.ir.parser import parse_graph
from ml2sc.passes import calibrate
from ml2sc.passes.calibrate import Calibrate, Spread, count_values

TEXT = """
graph "m"
input %x: float[1,2]
const %W: float[2,1] = [1.0, -2.0]
%h: float[1,1] = Gemm(%x, %W) @fc
%y: float[1,1] = Relu(%h) @relu
%d: int64[] = ArgMax(%x) {axis=1, keepdims=0} @argmax
output %y, %d
"""


def test_records_least_and_greatest_value() -> None:
    graph = parse_graph(TEXT)
    samples = [{"x": np.array([[a, b]])} for a, b in ((1.0, 2.0), (-5.0, 0.0), (4.0, 0.5))]
    assert Calibrate(samples).run(graph)
    assert graph.observed == {"x": (-5.0, 4.0), "h": (-5.0, 3.0), "y": (0.0, 3.0)}


def test_nothing_to_observe() -> None:
    graph = parse_graph(TEXT)
    assert not Calibrate().run(graph)
    assert graph.observed == {}


def test_values_are_counted_as_they_come() -> None:
    values = np.random.default_rng(1).normal(size=(50, 7)) * np.geomspace(1e-3, 1e3, 50)[:, None]
    spread = Spread()
    for row in values:
        spread.add(row)
    assert (spread.lo, spread.hi) == (values.min(), values.max())
    assert spread.counts.sum() == values.size
    assert spread.width <= 2 * np.abs(values).max() / 4096
    for edge in (-100.0, 0.0, 3.0):
        bins = int(np.floor(edge / spread.width))
        assert spread.counts[: bins + 4096].sum() == (values < bins * spread.width).sum()


def test_zeros_and_constants_can_be_counted() -> None:
    spread = Spread()
    spread.add(np.zeros(3))
    spread.add(np.array([1e-9, -1e-9]))
    spread.add(np.full(2, 1e9))
    assert spread.counts.sum() == 7
    assert (spread.lo, spread.hi) == (-1e-9, 1e9)


@pytest.mark.parametrize("seed", range(5))
def test_parts_that_are_merged_are_the_whole(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(40, 5)) * rng.lognormal(0, 6, (40, 1)) * rng.integers(0, 2, (40, 1))
    whole, parts = Spread(), [Spread() for _ in range(4)]
    for number, row in enumerate(values):
        whole.add(row)
        parts[number // 10].add(row)
    merged = Spread()
    for number in rng.permutation(4):
        merged.merge(parts[number])
    assert (merged.lo, merged.hi, merged.width) == (whole.lo, whole.hi, whole.width)
    assert np.array_equal(merged.counts, whole.counts)


def test_missing_values_are_not_counted() -> None:
    graph = parse_graph('graph "m"\ninput %x: float[1,3]\n%y: float[1,3] = Relu(%x) @r\noutput %y\n')
    found = count_values(graph, [{"x": np.array([[[np.nan, 2.0, -1.0]]])}, {"x": [np.full((1, 3), np.nan)]}])
    assert (found["x"].lo, found["x"].hi) == (-1.0, 2.0)
    assert found["x"].counts.sum() == 2


@pytest.mark.parametrize("together", [0, 5, 1 << 18])
def test_values_counted_together_are_those_counted_one_by_one(together: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "_TOGETHER", together)
    graph = parse_graph('graph "m"\ninput %x: float[1,3]\n%y: float[1,3] = Relu(%x) @r\noutput %y\n')
    rows = np.random.default_rng(2).normal(size=(20, 1, 3)) * 2.0 ** np.arange(-10, 10)[:, None, None]
    parts = (rows[first : first + 3] for first in range(0, 20, 3))
    found = count_values(graph, ({"x": part, "y": [np.maximum(row, 0) for row in part]} for part in parts))
    assert list(found) == ["x", "y"]
    for name, values in (("x", rows), ("y", np.maximum(rows, 0))):
        one_by_one = Spread()
        for row in values:
            one_by_one.add(row)
        assert (found[name].lo, found[name].hi) == (one_by_one.lo, one_by_one.hi)
        assert found[name].width == one_by_one.width
        np.testing.assert_array_equal(found[name].counts, one_by_one.counts)
