"""Whether columns get ranges of their own: judged on the half of the samples that the ranges do not come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from ml2sc.errors import DataError, RangeError
from ml2sc.ir.graph import Graph
from ml2sc.ir.parser import parse_graph
from ml2sc.passes import calibrate
from ml2sc.passes import choose_scales as module
from ml2sc.passes.choose_scales import TRIED, ElementRanges, choose_scales, constant_elements, element_ranges
from ml2sc.passes.measure import Measured
from ml2sc.passes.precision import Integer
from ml2sc.passes.quantize import quantize
from ml2sc.passes.samples import real_values

Array = npt.NDArray[Any]

SIZES = np.array([[1.0, 1000.0, 0.02]])
"""Of the columns, which count for as much as each other."""
BODY = """
const %shape: int64[1] = [2]
%flat: float[2] = Reshape(%y, %shape) @flat
%d: int64[] = ArgMax(%flat) {axis=0, keepdims=0} @argmax
output %y
decision %d
"""
LAYER = "%y: float[1,2] = Gemm(%x, %W) @fc"


def graph_of(samples: Array, layer: str = LAYER) -> Graph:
    """Return scores of three columns of unlike size; the input's range is that of the samples."""
    w = ", ".join(f"{v!r}" for v in (np.array([[1.0, -1.0], [-0.7, 0.8], [0.5, 0.4]]) / SIZES.T).ravel().tolist())
    lo, hi = float(samples.min()), float(samples.max())
    head = f'graph "m"\ninput %x: float[1,3]\nrange %x [{lo!r}, {hi!r}]\nconst %W: float[3,2] = [{w}]\n'
    return parse_graph(f"{head}{layer}\n{BODY}")


def chosen(samples: Array, layer: str = LAYER, said: list[str] | None = None) -> ElementRanges | None:
    rows = [{"x": row.reshape(1, 3)} for row in samples]
    columns = {"x": (samples.min(axis=0).reshape(1, 3), samples.max(axis=0).reshape(1, 3))}
    say = (lambda _: None) if said is None else said.append
    return choose_scales(graph_of(samples, layer), Integer(8, 8), rows, columns, say)


def uniform(count: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).uniform(-1, 1, (count, 3)) * SIZES


@pytest.mark.parametrize("count", [20, 200])
def test_columns_of_unlike_size_get_ranges_of_their_own(count: int) -> None:
    found = chosen(uniform(count))
    assert found is not None
    assert found.bits == {"x": 8}
    assert not found.clips, "nothing is rare in values that are all alike"


def test_columns_of_like_size_keep_one_range_and_nothing_is_tried() -> None:
    said: list[str] = []
    samples = np.random.default_rng(0).uniform(0.0, [1.0, 0.5, 0.7], (50, 3))
    samples[0], samples[1] = 0.0, [1.0, 0.5, 0.7]
    assert chosen(samples, said=said) is None
    assert said == []
    samples[:, 1] *= 0.98  # a column that one range serves with fewer than half of its steps
    chosen(samples, said=said)
    assert len(said) == 2


def test_an_input_that_something_else_reads_keeps_one_range() -> None:
    assert chosen(uniform(50), "%r: float[1,3] = Relu(%x) @r\n%y: float[1,2] = Gemm(%r, %W) @fc") is None


def test_ranges_are_judged_on_samples_that_they_do_not_come_from() -> None:
    """On its own half each range is perfect; the other half lies beyond it."""
    samples = uniform(100) / 10
    samples[:, 0] += np.where(np.arange(100) % 2, 0.9, -0.9)
    assert chosen(samples) is None
    assert chosen(samples[np.random.default_rng(1).permutation(100)]) is not None, "in any other order they are fine"


@pytest.mark.parametrize("count", [1, 2, 3])
def test_so_few_samples_are_judged_as_well_as_can_be(count: int) -> None:
    said: list[str] = []
    found = chosen(uniform(count), said=said)
    assert all(f" of {count} decisions kept" in line for line in said)
    assert len(said) == 2
    assert found is None or not found.clips


def test_ranges_without_rare_values_are_tried_where_there_are_enough_samples() -> None:
    for count, tried in ((63, 2), (64, 3)):
        said: list[str] = []
        chosen(uniform(count), said=said)
        assert len(said) == tried
        assert [line for line in said if "without rare values" in line] == said[2:]


def test_rare_values_are_left_outside_where_the_format_is_better_off() -> None:
    values = np.random.default_rng(0).uniform(-1, 1, (250, 2))
    values[7, 1] = 30.0
    rows = [{"x": row} for row in values]
    narrow, wide = (ElementRanges({"x": bits}, clips=True).of(rows).ranges["x"] for bits in (2, 8))
    assert narrow.hi[1] < 15
    assert wide.hi[1] == pytest.approx(30), "the one far value would add more than all others lose"
    for found in (narrow, wide):
        assert -1 <= found.lo[0] < -0.6
        assert 0.6 < found.hi[0] <= 1


def test_no_more_samples_are_tried_than_are_needed() -> None:
    said: list[str] = []
    chosen(uniform(3 * TRIED + 1), said=said)
    counts = {int(line.split(" of ")[1].split()[0]) for line in said}
    assert len(counts) == 1
    assert TRIED / 2 < counts.pop() <= TRIED


def measured(kept: int, square: float) -> Measured:
    return Measured(100, kept, 1.0, square)


@pytest.mark.parametrize(
    ("one", "own", "clipped", "taken"),
    [
        (measured(90, 1.0), measured(90, 0.25), None, "own"),  # the root of it is halved
        (measured(90, 1.0), measured(90, 0.26), None, "one"),
        (measured(90, 1.0), measured(89, 0.001), None, "one"),  # a decision less is too dear at any price
        (measured(90, 1.0), measured(99, 0.9), None, "one"),
        (measured(90, 1.0), measured(90, 1.0), measured(90, 1.0), "one"),
        (measured(90, 0.0), measured(90, 0.0), measured(90, 0.0), "one"),  # nothing is left to be halved
        (None, measured(10, 9.0), None, "own"),
        (None, None, measured(10, 9.0), "clipped"),
        (None, None, None, "one"),
        (measured(90, 1.0), measured(91, 0.2), measured(91, 0.1), "own"),
        (measured(90, 1.0), measured(91, 0.2), measured(91, 0.05), "clipped"),
        (measured(90, 1.0), measured(91, 0.2), measured(90, 0.01), "own"),
        (measured(90, 1.0), measured(80, 0.01), measured(90, 0.2), "clipped"),
    ],
)
def test_what_is_taken_must_be_clearly_better(
    monkeypatch: pytest.MonkeyPatch,
    one: Measured | None,
    own: Measured | None,
    clipped: Measured | None,
    taken: str,
) -> None:
    def judged(graph: Graph, precision: object, rows: Sequence[object], ranges: ElementRanges | None) -> Any:
        return one if ranges is None else clipped if ranges.clips else own

    monkeypatch.setattr(module, "_judged", judged)
    said: list[str] = []
    found = chosen(uniform(100), said=said)
    assert ("one" if found is None else "clipped" if found.clips else "own") == taken
    assert len(said) == 3
    assert sum("cannot be quantised" in line for line in said) == [one, own, clipped].count(None)


def test_what_cannot_be_quantised_is_no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(graph: Graph, *arguments: Any, **options: Any) -> Graph:
        if not graph.scalings:
            raise RangeError("too wide")
        return quantize(graph, *arguments, **options)

    monkeypatch.setattr(module, "quantize", refused)
    said: list[str] = []
    assert chosen(uniform(50), said=said) is not None
    assert said[0] == "one range for each input: it cannot be quantised so"


def test_room_is_left_but_a_sign_is_kept_and_flags_stay_flags() -> None:
    rng = np.random.default_rng(0)
    columns = [rng.uniform(10, 20, 100), rng.integers(0, 2, 100), rng.uniform(0.01, 1, 100), -rng.uniform(0, 1, 100)]
    samples = np.stack([*columns, rng.normal(size=100), rng.integers(0, 8, 100), np.arange(100) % 9], axis=1)
    lo, hi = samples.min(axis=0), samples.max(axis=0)
    found = ElementRanges({"x": 8}, clips=False).of([{"x": row} for row in samples]).ranges["x"]
    room = (hi - lo) / 10
    assert found.lo == pytest.approx([lo[0] - room[0], 0, 0, lo[3] - room[3], lo[4] - room[4], 0, 0])
    assert found.hi == pytest.approx([hi[0] + room[0], 1, hi[2] + room[2], 0, hi[4] + room[4], 7, 8.8])


def test_ends_that_are_known_count_for_more_than_those_of_the_samples() -> None:
    rows = [{"x": np.array([value])} for value in np.linspace(0, 1, 20)]
    ends = {"x": (np.array([-5.0]), np.array([9.0]))}
    found = ElementRanges({"x": 8}, clips=False).of(rows, ends).ranges["x"]
    assert (found.lo[0], found.hi[0]) == pytest.approx((-6.4, 10.4))


def test_constant_columns() -> None:
    lo = np.array([0.0, 1.0, 0.5, 7.0, -3.0, 1e9, 2.0, 1e9, 0.0])
    hi = np.array([0.0, 1.0, 0.5, 7.0, -3.0, 1e9, 2.5, 1e9 * (1 + 1e-12), 1e-40])
    assert constant_elements(lo, hi).tolist() == [True] * 6 + [False, True, False]
    found = element_ranges(lo, hi)
    half = 1e9 * 2.0**-20
    assert found.lo == pytest.approx([0, 0, 0, 6.5, -3.5, 1e9 - half, 2.0, 1e9 - half, 0])
    assert found.hi == pytest.approx([1, 1, 1, 7.5, -2.5, 1e9 + half, 2.5, 1e9 + half, 1e-40])
    assert found.width[5] == pytest.approx(2 * half)


def test_the_model_runs_once_on_each_sample_and_once_more_for_each_way_to_make_ranges(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran: list[int] = []

    def counted(graph: Graph, samples: Any) -> Any:
        return real_values(graph, (ran.append(1) or sample for sample in samples))

    for user in (module, calibrate):
        monkeypatch.setattr(user, "real_values", counted)
    said: list[str] = []
    assert chosen(uniform(100), said=said) is not None
    assert len(said) == 3
    assert len(ran) == 3 * 100


def test_a_sample_that_the_model_breaks_down_on_is_for_others_to_name() -> None:
    samples, layer = uniform(10), "%a: float[1,2] = Gemm(%x, %W) @fc\n%y: float[1,2] = Log(%a) @log"
    with pytest.raises(DataError, match="computes nan for a sample"):
        module._half(graph_of(samples, layer), [{"x": row.reshape(1, 3)} for row in samples])
    assert chosen(samples, layer) is None
