"""Who judges what `auto` finds: samples that took no part in the search."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ml2sc import calibration
from ml2sc.calibration import _HALVED, _PARTS, _judges, choose_formats
from ml2sc.ir.graph import Graph
from ml2sc.ir.parser import parse_graph
from ml2sc.passes import samples as looking
from ml2sc.passes.calibrate import Calibrate
from ml2sc.passes.manager import run_pipeline
from ml2sc.passes.precision import Integer
from ml2sc.passes.search_formats import Choice, Search
from ml2sc.passes.tune import Goal, Tuning, Workbench

GRAPH = """
graph "m"
input %x: float[1,1]
range %x [0.0, 400.0]
const %W: float[1,2] = [1.0, -1.0]
%h: float[1,2] = Gemm(%x, %W) @fc1
%r: float[1,2] = Relu(%h) @relu
const %V: float[2,1] = [1.0, 0.5]
%y: float[1,1] = Gemm(%r, %V) @fc2
output %y
"""


def samples(count: int) -> list[dict[str, Any]]:
    """Return samples each of which has its own number for a value."""
    return [{"x": np.array([[float(number)]])} for number in range(count)]


def numbers(some: Any) -> list[int]:
    return [int(sample["x"][0, 0]) for sample in some]


@pytest.mark.parametrize("count", [_HALVED, _HALVED + 1])
def test_of_many_samples_one_half_searches_and_the_other_judges(count: int) -> None:
    graph = parse_graph(GRAPH)
    whole = Workbench(graph, samples(count))
    bench, judges = _judges(whole, whole.samples)
    (judge,) = judges
    assert numbers(bench.samples) == list(range(0, count, 2))
    assert numbers(judge.samples) == list(range(1, count, 2))
    assert judge.bench is bench, "ranges and corrections are those of the search"


@pytest.mark.parametrize("count", [4, 62, _HALVED - 1])
def test_of_few_samples_each_part_is_judged_with_what_the_others_give(count: int) -> None:
    whole = Workbench(parse_graph(GRAPH), samples(count))
    bench, judges = _judges(whole, whole.samples)
    assert bench is whole
    assert len(judges) == _PARTS
    assert sorted(number for judge in judges for number in numbers(judge.samples)) == list(range(count))
    for judge in judges:
        assert sorted(numbers(judge.samples) + numbers(judge.bench.samples)) == list(range(count))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_hardly_any_samples(count: int) -> None:
    whole = Workbench(parse_graph(GRAPH), samples(count))
    _, judges = _judges(whole, whole.samples)
    assert [numbers(judge.samples) for judge in judges] == [[number] for number in range(count)]
    for number, judge in enumerate(judges):
        others = [other for other in range(count) if other != number]
        assert numbers(judge.bench.samples) == (others or [0]), "one alone must judge itself"


def test_a_judge_measures_its_own_samples_in_formats_calibrated_with_others() -> None:
    """The hidden range is that of inputs up to 98: the last sample lies far beyond, and nothing else is off by much."""
    far = [*samples(99), {"x": np.array([[399.0]])}]
    whole = Workbench(parse_graph(GRAPH), far)
    _, judges = _judges(whole, whole.samples)
    found = [judge.measure(Integer(8, 8), Tuning()) for judge in judges]
    assert [part.samples for part in found] == [25] * 4
    assert found[3].largest > 250
    assert max(part.largest for part in found[:3]) < 5
    assert whole.measure(whole.quantized(Integer(8, 8), Tuning())).largest < 5
    part = judges[3].measure(Integer(8, 8), Tuning(), Goal(tolerance=1e-9))
    assert part.samples < 25, "it stops where the goal cannot be reached any more"


@pytest.mark.parametrize("margin", [None, 0.25])
def test_the_search_gets_judges_and_margin(monkeypatch: pytest.MonkeyPatch, margin: float | None) -> None:
    seen: list[Search] = []

    def run(search: Search) -> Choice:
        seen.append(search)
        return Choice(Integer(8, 8), Tuning())

    monkeypatch.setattr(Search, "run", run)

    def gas(graph: Graph) -> int:
        return 1

    more = {} if margin is None else {"margin": margin}
    arguments = (parse_graph(GRAPH), "auto", samples(_HALVED), Goal(tolerance=1.0), gas, print, lambda count: None)
    choose_formats(*arguments, **more)
    (search,) = seen
    assert search.margin == (0.03 if margin is None else margin)
    assert search.whole is not None
    assert len(search.whole.samples) == _HALVED
    assert [len(judge.samples) for judge in search.judges] == [_HALVED // 2]


@pytest.mark.parametrize(
    ("agreement", "count", "most"), [(1.0, 100, 0), (0.95, 20, 1), (0.95, 19, 0), (0.9, 10, 1), (0.55, 100, 45)]
)
def test_a_goal_allows_so_many_lost_decisions(agreement: float, count: int, most: int) -> None:
    goal = Goal(agreement)
    assert goal.allows(most, 1e9, count)
    assert not goal.allows(most + 1, 0.0, count)
    assert not Goal(agreement, 0.5).allows(0, 0.51, count)
    assert Goal(agreement, 0.5).allows(0, 0.5, count)


def test_many_processes_find_what_one_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges, how values are spread, and which decision is the closest."""
    many = [{"x": np.array([[x]])} for x in np.random.default_rng(0).lognormal(0, 3, 101).clip(0, 400)]
    found = []
    for workers in (1, 2):
        monkeypatch.setattr(calibration, "_SHARED", 50)
        monkeypatch.setattr(looking, "PART", 20)
        formats = choose_formats(
            parse_graph(GRAPH),
            "int8",
            many,
            Goal(1.0, 1.0),
            lambda graph: 1.0,
            lambda text: None,
            lambda count: None,
            workers=workers,
        )
        graph = parse_graph(GRAPH)
        run_pipeline(graph, formats.passes)
        spreads = next(p for p in formats.passes if isinstance(p, Calibrate)).spreads
        counted = {name: (s.lo, s.hi, s.width, s.counts.tolist()) for name, s in spreads.items()}
        found.append((formats.precision, graph.observed, counted))
    assert found[0] == found[1]
