"""Packed inputs outside their format: taken as the nearest in it, or refused by name; whole words at a time."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml2sc.ir import wad
from ml2sc.ir.analysis import prove_intervals
from ml2sc.ir.graph import Graph, Tensor
from ml2sc.ir.interpret import Interpreter, ProgramError
from ml2sc.ir.types import FixedPoint, Interval
from ml2sc.passes.lower import PlanOptions, lower

ONE = Fraction(1, wad.WAD)


def passing(count: int, format_: FixedPoint, lo: int, hi: int) -> Graph:
    """Return a graph that gives its inputs back, each multiplied by one in a layer."""
    graph = Graph()
    graph.add_tensor(Tensor("x", (1, count), format_, interval=Interval(lo, hi)))
    graph.inputs = ["x"]
    identity = np.eye(count, dtype=np.int64).astype(object)
    graph.add_tensor(
        Tensor("w", (count, count), FixedPoint(2, True, Fraction(1)), identity, Interval(0, 1), np.eye(count))
    )
    graph.add_tensor(Tensor("y", (1, count), FixedPoint(128, True, ONE)))
    graph.add("Gemm", ["x", "w"], ["y"])
    graph.outputs = ["y"]
    graph.errors = {"y": 0.0}
    prove_intervals(graph)
    return graph


@st.composite
def inputs(draw: st.DrawFn) -> tuple[Graph, list[int], int]:
    bits, signed = draw(st.sampled_from([2, 4, 7, 8, 12, 16, 30, 61, 90])), draw(st.booleans())
    format_ = FixedPoint(bits, signed, ONE)
    lo, hi = sorted(draw(st.lists(st.integers(format_.qmin, format_.qmax), min_size=2, max_size=2, unique=True)))
    if draw(st.booleans()):
        lo = format_.qmin
    count = draw(st.integers(1, 40))
    graph = passing(count, format_, lo, hi)
    width = wad.element_width(graph)
    least, most = (-(1 << 8 * width - 1), (1 << 8 * width - 1) - 1) if signed else (0, (1 << 8 * width) - 1)
    ends = [v for end in (lo, hi, least, most) for v in (end - 1, end, end + 1) if least <= v <= most]
    values = draw(st.lists(st.one_of(st.sampled_from(ends), st.integers(least, most)), min_size=count, max_size=count))
    return graph, values, width


def packed(graph: Graph, values: list[int], width: int) -> bytes:
    signed = graph.tensor("x").format.signed
    return b"".join(v.to_bytes(width, "big", signed=signed) for v in values)


@given(inputs())
def test_out_of_range_is_the_nearest_in_it(case: tuple[Graph, list[int], int]) -> None:
    graph, values, width = case
    interval = graph.tensor("x").interval
    assert interval is not None
    found = Interpreter(lower(graph)).run(packed(graph, values, width)).outputs
    assert list(found) == [min(max(v, interval.lo), interval.hi) for v in values]


@given(inputs())
def test_the_first_out_of_range_is_named(case: tuple[Graph, list[int], int]) -> None:
    graph, values, width = case
    interval = graph.tensor("x").interval
    assert interval is not None
    interpreter = Interpreter(lower(graph, PlanOptions(strict_input=True)))
    wrong = [(i, v) for i, v in enumerate(values) if not interval.lo <= v <= interval.hi]
    if not wrong:
        assert list(interpreter.run(packed(graph, values, width)).outputs) == values
        return
    with pytest.raises(ProgramError) as caught:
        interpreter.run(packed(graph, values, width))
    assert caught.value.error == "InputOutOfRange"
    assert caught.value.args[1:] == (wrong[0][0], wrong[0][1] % (1 << 256))
