"""IR text before and after: the range of a tensor with a rare value far out is drawn in, others stay."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
import pytest

from ml2sc.errors import UsageError
from ml2sc.ir.analysis import evaluate_nodes
from ml2sc.ir.graph import Graph, Node
from ml2sc.ir.parser import parse_graph
from ml2sc.ir.printer import print_graph
from ml2sc.ir.types import Array
from ml2sc.passes.calibrate import Calibrate, Spread
from ml2sc.passes.clip_ranges import METHODS, ClipRanges, clipped

TEXT = """
graph "two"
input %x: float[1,1]
range %x [0.0, 1.0]
const %W: float[1,1] = [100.0]
const %V: float[1,1] = [1.0]

%h: float[1,1] = MatMul(%x, %W) @fc1
%y: float[1,1] = MatMul(%h, %V) @fc2

output %y
"""


def calibrated(values: list[float]) -> tuple[Graph, Calibrate, list[dict[str, np.ndarray]]]:  # type: ignore[type-arg]
    graph, samples = parse_graph(TEXT), [{"x": np.array([[v]])} for v in values]
    calibrate = Calibrate(samples)
    calibrate.run(graph)
    return graph, calibrate, samples


def test_one_value_far_out_is_cut_off() -> None:
    graph, calibrate, samples = calibrated([*np.linspace(0, 0.1, 3000).tolist(), 0.2])
    before = print_graph(graph)
    clip = ClipRanges("w16a3", calibrate.spreads, samples)
    assert clip.run(graph)
    lo, hi = graph.observed["h"]
    assert lo == 0
    assert 9 < hi < 11
    assert clip.methods["h"] in {"percentile", "mse"}
    assert print_graph(graph) == before.replace("observed %h [0.0, 20.0]", f"observed %h [0.0, {hi!r}]")


@pytest.mark.parametrize("precision", ["w16a8", "w16a17", "q8.8"])
def test_fine_steps_need_no_clipping(precision: str) -> None:
    graph, calibrate, samples = calibrated(np.linspace(0, 0.1, 30).tolist())
    before = dict(graph.observed)
    assert not ClipRanges(precision, calibrate.spreads, samples).run(graph) or graph.observed["h"][1] > 9
    assert graph.observed["x"] == before["x"]


def test_methods() -> None:
    spread = Spread()
    spread.add(np.array([*np.linspace(-1, 1, 20_000), 5.0]))
    assert clipped(spread, 4, "minmax") == (-1, 5)
    for method in METHODS[1:]:
        lo, hi = clipped(spread, 4, method)
        assert -1.001 <= lo < -0.7
        assert 0.9 < hi < 2
    with pytest.raises(UsageError, match="needs a precision"):
        ClipRanges("auto").run(parse_graph(TEXT))


def test_what_is_known_is_not_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, calibrate, samples = calibrated([*np.linspace(0, 0.1, 300).tolist(), 0.2])
    clip = ClipRanges("w16a3", calibrate.spreads, samples)
    clip.run(graph)
    again, _, _ = calibrated([*np.linspace(0, 0.1, 300).tolist(), 0.2])
    monkeypatch.delattr("ml2sc.passes.clip_ranges.quantize")
    ClipRanges("w16a3", calibrate.spreads, samples, ranges=clip.ranges).run(again)
    assert again.observed == graph.observed


def test_layers_far_before_a_range_are_not_evaluated_again(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated: Counter[str] = Counter()

    def counted(graph: Graph, nodes: Iterable[Node], found: dict[str, Array]) -> None:
        these = list(nodes)
        evaluated.update(node.name for node in these)
        evaluate_nodes(graph, these, found)

    monkeypatch.setattr("ml2sc.ir.batch.evaluate_nodes", counted)
    samples = [{"x": np.array([[v]])} for v in [*np.linspace(0, 0.1, 300).tolist(), 0.2]]
    text = TEXT.replace("%h: float[1,1] = MatMul(%x, %W) @fc1", "%g: float[1,1] = MatMul(%x, %W) @fc0")
    chain = ["%f: float[1,1] = MatMul(%g, %V) @fc1", "%e: float[1,1] = MatMul(%f, %V) @fc2"]
    chain.append("%h: float[1,1] = MatMul(%e, %V) @fc3")
    graph = parse_graph(text.replace("@fc2", "@fc4").replace("%y:", "\n".join([*chain, "%y:"])))
    calibrate = Calibrate(samples)
    calibrate.run(graph)
    ClipRanges("w16a3", calibrate.spreads, samples[:4]).run(graph)  # as many as are looked at in one go
    # a layer's weights have a scale that suits its result's: it is another one for another range of that
    assert 0 < evaluated["fc0"] <= evaluated["fc1"] < evaluated["fc4"]


@pytest.mark.parametrize("bits", [2, 8])
def test_least_error_by_the_definition(bits: int) -> None:
    """What `mse` takes is the first of its ranges with the least error, by a sum over all bins."""
    rng = np.random.default_rng(0)
    for values in (rng.normal(size=300), np.abs(rng.normal(size=50)), rng.integers(-2, 9, 40).astype(np.float64)):
        spread = Spread()
        spread.add(values)

        def error(lo: float, hi: float, spread: Spread = spread) -> float:
            away = np.maximum(np.maximum(lo - spread.centres, spread.centres - hi), 0.0)
            step = (hi - lo) / (2**bits - 1)
            return float(spread.counts @ np.where(away > 0, away * away, step * step / 12))

        shares = [1 - 0.75 * cut / 16 for cut in range(17)]
        ranges = [(min(spread.lo * a, 0.0), max(spread.hi * b, 0.0)) for a in shares for b in shares]
        lo, hi = min(ranges, key=lambda ends: error(*ends))
        assert clipped(spread, bits, "mse") == (max(lo, spread.lo), min(hi, spread.hi))
