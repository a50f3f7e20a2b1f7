"""`auto` with data, on models small enough to know what must come out; gas is pretended."""

from __future__ import annotations

import gc
import pickle
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import cache

import numpy as np
import pytest

from ml2sc.errors import RangeError, UsageError
from ml2sc.ir.graph import Graph
from ml2sc.ir.parser import parse_graph
from ml2sc.passes import search_formats
from ml2sc.passes.formats import Formats
from ml2sc.passes.measure import Measured
from ml2sc.passes.precision import Binary, Integer, Layered, Precision, layered, parse_precision
from ml2sc.passes.search_formats import Choice, Descended, Descent, Search, Share, _cheapest_first
from ml2sc.passes.tune import Goal, Judge, Tuning, Workbench

SCORES = """
graph "m"
input %x: float[1,2]
range %x [-1.0, 1.0]
const %W: float[2,2] = [1.0, {second}, 0.3, 0.1]
const %V: float[2,2] = [1.0, 0.0, 0.0, 1.0]
%h: float[1,2] = Gemm(%x, %W) @fc1
%y: float[1,2] = Gemm(%h, %V) @fc2
const %shape: int64[1] = [2]
%flat: float[2] = Reshape(%y, %shape) @flat
%d: int64[] = ArgMax(%flat) {{axis=0, keepdims=0}} @argmax
output %y
decision %d
"""


def bits(graph: Graph) -> int:
    """Pretend that gas is a thousand for every bit of an accumulator."""
    return 1000 * sum(t.interval.signed_bits for t in graph.tensors.values() if t.interval is not None)


def found(second: float, samples: list[list[float]], goal: Goal | None = None, *, decides: bool = True) -> Choice:
    graph = parse_graph(SCORES.format(second=second))
    if not decides:
        graph.decision = None
        graph.prune()
    bench = Workbench(graph, [{"x": np.array([s])} for s in samples])
    return Search(bench, goal or Goal(), bits, lambda _: None, detailed=True).run()


def test_bits_go_as_far_down_as_the_decisions_allow() -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, (40, 2)).tolist()
    choice = found(0.2, samples)
    assert isinstance(choice.precision, Integer | Layered)
    taken = next(c for c in choice.candidates if c.precision == choice.precision)
    assert taken.good
    assert choice.precision != Integer(8, 8)
    assert found(0.2, samples) == choice, "the same data gives the same formats"


def test_runners_up_are_measured_if_somebody_asks() -> None:
    samples = [{"x": np.array([s])} for s in np.random.default_rng(0).uniform(-1, 1, (40, 2))]
    bench = Workbench(parse_graph(SCORES.format(second=0.9)), samples)
    quick, full = (Search(bench, Goal(), bits, lambda _: None, detailed=d).run() for d in (False, True))
    assert (quick.precision, quick.tuning, quick.candidates) == (full.precision, full.tuning, ())
    assert {(c.good, c.measured.kept == 40) for c in full.candidates if c.measured} == {(True, True), (False, False)}


def test_what_others_do_side_by_side_is_what_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers go down elsewhere, in any order: the choice, and what is told of it, are the same."""
    monkeypatch.setattr(search_formats, "_SHORT", 0.0)
    shared: list[int] = []

    def share(job: Descent, knobs: Sequence[int]) -> Iterator[Descended]:
        for knob in reversed(knobs):  # each by a worker of its own
            shared.append(knob)
            with pickle.loads(pickle.dumps(job)).open() as work:
                yield pickle.loads(pickle.dumps(work(knob)))

    def search(share: Share | None) -> tuple[Choice, list[str], int]:
        samples = [{"x": np.array([s])} for s in np.random.default_rng(0).uniform(-1, 1, (40, 2))]
        told, tried = list[str](), list[int]()
        bench = Workbench(parse_graph(SCORES.format(second=0.2)), samples)
        return Search(bench, Goal(), bits, told.append, tried.append, share=share).run(), told, tried[-1]

    alone = search(None)
    assert not shared
    assert search(share) == alone
    assert len(shared) > 1


def test_graphs_of_formats_that_were_tried_are_let_go() -> None:
    seen: list[weakref.ref[Graph]] = []

    def gas(graph: Graph) -> int:
        seen.append(weakref.ref(graph))
        if len(seen) == 10:
            gc.collect()
            assert sum(ref() is not None for ref in seen) == 1
        return bits(graph)

    samples = [{"x": np.array([s])} for s in np.random.default_rng(0).uniform(-1, 1, (40, 2))]
    Search(Workbench(parse_graph(SCORES.format(second=0.9)), samples), Goal(), gas, lambda _: None).run()
    assert len(seen) >= 10


def test_what_is_not_held_in_memory_counts_as_much(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, samples = parse_graph(SCORES.format(second=0.9)), np.random.default_rng(0).uniform(-1, 1, (40, 1, 2))
    benches = [Workbench(graph, [{"x": s} for s in samples])]
    monkeypatch.setattr("ml2sc.passes.tune.HELD", 3)
    benches.append(Workbench(graph, [{"x": s} for s in samples]))
    quantized = benches[0].quantized(Integer(4, 4), Tuning())
    held, read = (bench.measure(quantized) for bench in benches)
    assert (read.samples, read.kept, read.largest) == (40, held.kept, held.largest)
    assert held.kept < 40
    assert read.square == pytest.approx(held.square)
    assert [b.meets(quantized, Goal(held.kept / 40, held.largest)) for b in benches] == [True, True]
    assert [b.meets(quantized, Goal((held.kept + 1) / 40)) for b in benches] == [False, False]


def test_a_close_decision_needs_a_finer_format() -> None:
    """The scores differ by a ten-thousandth of themselves: 8 bits of weight cannot tell them apart."""
    wide = found(1.0001, [[1.0, 0.0]]).precision
    widest = wide.widest if isinstance(wide, Layered) else wide
    assert isinstance(widest, Binary) or widest.weight_bits > 8


def test_a_share_of_the_decisions() -> None:
    samples = [[1.0, 0.0]] + [[-1.0, 1.0]] * 9  # the first is too close for few bits
    strict, lax = found(1.0001, samples), found(1.0001, samples, Goal(agreement=0.9))
    gas = [next(c.gas for c in choice.candidates if c.precision == choice.precision) for choice in (strict, lax)]
    assert gas[1] < gas[0]


def test_a_tolerance() -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, (20, 2)).tolist()
    coarse = found(0.2, samples, Goal(tolerance=0.1), decides=False)
    fine = found(0.2, samples, Goal(tolerance=1e-4), decides=False)
    prices = [next(c.gas for c in choice.candidates if c.precision == choice.precision) for choice in (coarse, fine)]
    assert prices[0] < prices[1]


def test_a_tolerance_that_cannot_be_met_says_what_can() -> None:
    with pytest.raises(
        RangeError, match=r"errors of at most 1e-30 .*; the best is .*: errors up to .* gas an inference"
    ):
        found(0.2, [[0.3, 0.7]], Goal(tolerance=1e-30), decides=False)


def test_cheapest_combinations_come_first() -> None:
    saved = [[0, 5, 7], [0, 1], [0]]
    order = list(_cheapest_first(saved, 100))
    sums = [sum(options[i] for options, i in zip(saved, combination, strict=True)) for combination in order]
    assert sums == sorted(sums, reverse=True)
    assert len(set(order)) == len(order) == 6
    assert len(list(_cheapest_first(saved, 2))) == 2


# -- judges, and the margin --------------------------------------------------------------------------------------------

CLOSE, EASY = [1.0, 0.0], [-1.0, 1.0]
"""A sample whose scores are hardly apart where `second` is 1.0001, and one whose scores are far apart."""


def rows(samples: list[list[float]]) -> list[dict[str, np.ndarray]]:
    return [{"x": np.array([s])} for s in samples]


class Held(Workbench):
    """Makes each quantised graph once: many searches on the same samples begin alike."""

    @cache  # noqa: B019 - they are few
    def quantized(self, precision: Precision, tuning: Tuning) -> Graph:
        return super().quantized(precision, tuning)


@cache
def held(*samples: tuple[float, ...]) -> Held:
    return Held(parse_graph(SCORES.format(second=1.0001)), rows([list(s) for s in samples]))


def judged(
    judges: list[list[list[float]]],
    *,
    goal: Goal | None = None,
    margin: float = 0.0,
    said: list[str] | None = None,
    whole: list[list[float]] | None = None,
) -> Choice:
    """Search on easy samples only, and judge on others."""
    bench = held(*[tuple(EASY), (1.0, -1.0)] * 10)
    return Search(
        bench,
        goal or Goal(),
        bits,
        (lambda _: None) if said is None else said.append,
        margin=margin,
        judges=[Judge(bench, rows(samples)) for samples in judges],
        whole=None if whole is None else held(*map(tuple, whole)),
    ).run()


def keeps_close_decisions(choice: Choice) -> bool:
    bench = held(tuple(CLOSE), (-1.0, 0.0), tuple(EASY))
    return bench.meets(bench.quantized(choice.precision, choice.tuning), Goal())


def test_what_loses_decisions_of_the_judges_is_not_taken() -> None:
    said: list[str] = []
    assert not keeps_close_decisions(judged([]))
    assert not keeps_close_decisions(judged([[EASY] * 5]))
    assert keeps_close_decisions(judged([[EASY] * 5 + [CLOSE]], said=said))
    assert any(line.endswith("loses 1 of 6 decisions that it was not chosen on") for line in said)


def test_every_judge_counts_and_they_count_together() -> None:
    easy, hard = [EASY] * 9, [EASY] * 9 + [CLOSE]
    for judges in ([easy, hard], [hard, easy]):
        assert keeps_close_decisions(judged(judges))
    assert not keeps_close_decisions(judged([easy, hard], goal=Goal(agreement=0.94))), "one of nineteen may be lost"
    assert keeps_close_decisions(judged([easy, hard], goal=Goal(agreement=0.95)))
    assert not keeps_close_decisions(judged([hard, easy, easy], goal=Goal(agreement=0.96)))
    assert keeps_close_decisions(judged([hard, hard], goal=Goal(agreement=0.95))), "two of twenty may not"
    assert not keeps_close_decisions(judged([hard, hard], goal=Goal(agreement=0.9)))


class Strict(Judge):
    """Finds every format of 8 bits or fewer off by one, and all others without fault."""

    def measure(self, precision: Precision, tuning: Tuning, goal: Goal | None = None) -> Measured:
        return Measured(len(self.samples), len(self.samples), float(is_narrow(precision)), 0.0)


def is_narrow(precision: Precision) -> bool:
    each = precision.layers if isinstance(precision, Layered) else [precision]
    return all(isinstance(p, Integer) and max(p.weight_bits, p.activation_bits) <= 8 for p in each)


@pytest.mark.parametrize(("tolerance", "narrow"), [(0.5, False), (1.0, True), (None, True)])
def test_a_tolerance_is_asked_of_the_judges_too(tolerance: float | None, narrow: bool) -> None:
    graph = parse_graph(SCORES.format(second=0.2))
    bench = Workbench(graph, rows([EASY, [1.0, -1.0]] * 10))
    judges = [Strict(bench, rows([EASY])), Judge(bench, rows([EASY]))]
    found = Search(bench, Goal(tolerance=tolerance), bits, lambda _: None, judges=judges).run()
    assert is_narrow(found.precision) == narrow


def test_the_choice_must_do_on_all_samples_calibrated_with_them() -> None:
    assert keeps_close_decisions(judged([[EASY]], whole=[EASY, CLOSE]))
    assert not keeps_close_decisions(judged([[EASY]], whole=[EASY, EASY]))


def test_judges_that_nothing_satisfies() -> None:
    with pytest.raises(RangeError, match=r"no format gives errors of at most 1e-30 .* and every decision; the best is"):
        judged([[CLOSE]], goal=Goal(tolerance=1e-30))


def taken(margin: float, gas: Callable[[Graph], int] = bits) -> tuple[Precision, int, float]:
    """Return what is chosen with a margin, its gas, and its mean square error."""
    samples = rows(np.random.default_rng(0).uniform(-1, 1, (40, 2)).tolist())
    bench = Workbench(parse_graph(SCORES.format(second=0.2)), samples)
    choice = Search(bench, Goal(), gas, lambda _: None, margin=margin, plain=True).run()
    graph = bench.quantized(choice.precision, choice.tuning)
    return choice.precision, gas(graph), bench.measure(graph).square


def test_a_margin_of_the_gas_is_spent_on_smaller_errors() -> None:
    (_, least, worst), *others = [taken(margin) for margin in (0.0, 0.05, 0.2, 0.5)]
    last = worst
    for margin, (_, gas, error) in zip((0.05, 0.2, 0.5), others, strict=True):
        assert gas <= least * (1 + margin)
        assert error <= last
        last = error
    assert last < worst / 8


def test_of_formats_that_cost_the_same_the_smallest_error_is_taken() -> None:
    precision, _, error = taken(0.0, lambda graph: 1000)
    assert precision == Integer(8, 8)
    samples = rows(np.random.default_rng(0).uniform(-1, 1, (40, 2)).tolist())
    bench = Workbench(parse_graph(SCORES.format(second=0.2)), samples)
    for other in (Integer(8, 7), Integer(7, 8), Integer(4, 8)):
        assert bench.measure(bench.quantized(other, Tuning())).square > error


def test_layers_have_bits_of_their_own() -> None:
    graph = parse_graph(SCORES.format(second=0.2))
    formats = Formats(graph, Layered((Integer(7, 8), Integer(5, 6))))
    assert [formats.weights("h"), formats.weights("y")] == [7, 5]
    assert [formats.activation("x"), formats.activation("h")] == [8, 6]
    with pytest.raises(UsageError, match="is for 3 layers, the model has 2: fc1, fc2"):
        Formats(graph, Layered((Integer(8, 8),) * 3))


def test_layered_precisions_are_written_and_read() -> None:
    text = "w7a8/w8a7"
    assert parse_precision(text) == Layered((Integer(7, 8), Integer(8, 7)))
    assert str(parse_precision(text)) == text
    assert layered([Integer(8, 8)] * 3) == Integer(8, 8)
    for wrong in ("w7a8/q8.8", "w7a8/auto", "w7a8/"):
        with pytest.raises(UsageError):
            parse_precision(wrong)
