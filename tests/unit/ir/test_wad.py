from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml2sc.errors import RangeError
from ml2sc.ir import wad
from ml2sc.ir.graph import Graph, Tensor
from ml2sc.ir.types import FixedPoint, Interval
from ml2sc.ir.wad import WAD, Rescale

BYTE = FixedPoint(8, False, Fraction(1, 4), 100)


def tensor_of(fmt: FixedPoint, interval: Interval | None = None) -> Tensor:
    return Tensor("t", (1,), fmt, interval=interval or Interval(fmt.qmin, fmt.qmax))


def graph_of(*inputs: FixedPoint) -> Graph:
    """Return a graph whose inputs have two elements each."""
    graph = Graph()
    for i, fmt in enumerate(inputs):
        graph.add_tensor(Tensor(f"x{i}", (2,), fmt, interval=Interval(fmt.qmin, fmt.qmax)))
    graph.inputs = [f"x{i}" for i in range(len(inputs))]
    return graph


def test_rescale_by_hand() -> None:
    r = Rescale(3, 2, -10, 10)  # · 0.75, halves up
    assert [r.apply(v) for v in (0, 1, 2, 3, -1, -2, -3)] == [0, 1, 2, 2, -1, -1, -2]
    assert (r.apply(11), r.apply(-(10**50))) == (r.apply(10), r.apply(-10))
    assert Rescale(5, 0, -10, 10).apply(-3) == -15


def test_input_saturates_at_the_interval() -> None:
    r = wad.input_rescale(tensor_of(BYTE))
    assert [r.apply(round(v * WAD)) for v in (0, 0.25, -25, 38.75, 1e9, -1e9, 0.124, 0.126)] == [
        0, 1, -100, 155, 155, -100, 0, 1,
    ]  # fmt: skip
    assert (r.lo, r.hi) == (-25 * WAD, 38 * WAD + 3 * WAD // 4)


def test_output_of_a_binary_format_is_exact() -> None:
    """2^−18 is the finest step that is a whole number of 10^−18: 10^18 = 2^18 · 5^18."""
    fmt = FixedPoint(64, True, Fraction(1, 1 << 18))
    r = wad.output_rescale(tensor_of(fmt, Interval(-(1 << 40), 1 << 40)))
    assert (r.shift, r.multiplier) == (0, 5**18)
    assert r.apply(-3) == -3 * 5**18
    assert wad.rescale_error(r, fmt.scale * WAD) == 0


SCALES = st.fractions(min_value=Fraction(1, 1 << 100), max_value=Fraction(1 << 20)).filter(bool)


@given(st.integers(8, 128), st.booleans(), SCALES, st.integers(0, 255), st.data())
def test_input_rescale(bits: int, signed: bool, scale: Fraction, zero: int, data: st.DataObject) -> None:
    fmt = FixedPoint(bits, signed, scale, min(zero, (1 << bits - signed) - 1))
    interval = Interval(fmt.qmin, fmt.qmax)
    try:
        r = wad.input_rescale(tensor_of(fmt))
    except RangeError:
        assert interval.magnitude * scale * WAD > 1 << 230
        return
    x = data.draw(st.one_of(st.integers(-(1 << 255), (1 << 255) - 1), st.integers(r.lo - 5, r.hi + 5)))
    clamped = min(max(x, r.lo), r.hi)
    assert abs(clamped * r.multiplier) + (1 << r.shift >> 1) < 1 << 255, "nothing leaves a word"
    q = min(max(r.apply(x) + fmt.zero_point, interval.lo), interval.hi)
    exact = Fraction(x) / (scale * WAD) + fmt.zero_point
    exact = min(max(exact, Fraction(interval.lo)), Fraction(interval.hi))
    # half a step of rounding, half a WAD at the clamped ends, and what the multiplier misses
    slack = wad.rescale_error(r, 1 / (scale * WAD)) + Fraction(1, 2) / (scale * WAD)
    assert abs(q - exact) <= max(slack, Fraction(1, 2))


@given(st.integers(2, 254), SCALES, st.data())
def test_output_rescale(bits: int, scale: Fraction, data: st.DataObject) -> None:
    fmt, interval = FixedPoint(256, True, scale), Interval(-(1 << bits), (1 << bits) - 1)
    try:
        r = wad.output_rescale(tensor_of(fmt, interval))
    except RangeError:
        assert interval.magnitude * max(scale * WAD, 1 << 16) > 1 << 250
        return
    q = data.draw(st.integers(interval.lo, interval.hi))
    assert abs(q * r.multiplier) + (1 << r.shift >> 1) < 1 << 255, "nothing leaves a word"
    assert abs(r.apply(q) - q * scale * WAD) <= wad.rescale_error(r, scale * WAD)


def test_a_wad_value_too_large_for_a_word() -> None:
    with pytest.raises(RangeError, match=r"'t' as WAD .* 2\^255") as caught:
        wad.output_rescale(tensor_of(FixedPoint(256, True, Fraction(1)), Interval(0, 1 << 200)))
    assert caught.value.tensor == "%t"


def test_element_width_is_that_of_the_widest_input() -> None:
    assert wad.element_width(graph_of(BYTE)) == 1
    assert wad.element_width(graph_of(BYTE, FixedPoint(9, True, Fraction(1)))) == 2
    assert wad.element_width(graph_of(FixedPoint(128, True, Fraction(1)))) == 16


def test_pack() -> None:
    graph = graph_of(BYTE, FixedPoint(12, True, Fraction(1)))
    assert wad.pack(graph, {"x0": np.array([1, 255]), "x1": np.array([-1, -2048])}) == bytes.fromhex("000100fffffff800")


def test_quantize_inputs() -> None:
    q = wad.quantize_inputs(graph_of(BYTE), {"x0": np.array([[0.125], [1e6]])})
    assert q["x0"].tolist() == [101, 255]
    both = wad.quantize_samples(graph_of(BYTE), [{"x0": np.array([0.125, 1e6])}, {"x0": np.array([-1e6, 0.0])}])
    assert [sample["x0"].tolist() for sample in both] == [[101, 255], [0, 100]]


@pytest.mark.parametrize("fmt", [BYTE, FixedPoint(33, True, Fraction(1, 1 << 20))])
def test_wad_inputs_are_those_of_the_reals(fmt: FixedPoint) -> None:
    graph = graph_of(fmt, fmt)
    reals = [0.0, -3.3, 7.77, 38.75]
    wads = wad.to_wad(reals)
    assert wads == [round(Fraction(v) * WAD) for v in reals]
    got = wad.inputs_from_wad(graph, wads)
    want = wad.quantize_inputs(graph, {"x0": np.array(reals[:2]), "x1": np.array(reals[2:])})
    assert {k: v.tolist() for k, v in got.items()} == {k: v.tolist() for k, v in want.items()}
