from __future__ import annotations

import pytest

from ml2sc.errors import RangeError
from ml2sc.ir import wad
from ml2sc.ir.analysis import prove_intervals
from ml2sc.ir.graph import Graph
from ml2sc.ir.parser import parse_graph
from ml2sc.passes.choose_precision import TARGET_ERROR, choose_binary
from ml2sc.passes.precision import Binary
from ml2sc.passes.quantize import quantize

SCORES = """
graph "m"
input %x: float[1,2]
range %x [-1.0, 1.0]
const %W: float[2,2] = [1.0, {second}, 0.3, 0.1]
%y: float[1,2] = Gemm(%x, %W) @fc
const %shape: int64[1] = [2]
%flat: float[2] = Reshape(%y, %shape) @flat
%d: int64[] = ArgMax(%flat) {{axis=0, keepdims=0}} @argmax
output %y
decision %d
"""


def bound(graph: Graph, precision: Binary) -> float:
    quantised = quantize(graph, precision)
    prove_intervals(quantised)
    return wad.output_error_bound(quantised)


@pytest.mark.parametrize("limit", [1.0, 1000.0, 65536.0, 1e6])
def test_the_narrowest_binary_format(limit: float) -> None:
    graph = parse_graph(SCORES.format(second=0.7))
    graph.input_ranges["x"] = (-limit, limit)
    said: list[str] = []
    chosen = choose_binary(graph, said.append)
    assert bound(graph, chosen) <= TARGET_ERROR
    assert bound(graph, Binary(chosen.integer_bits, chosen.fraction_bits - 1)) > TARGET_ERROR
    assert 2**chosen.integer_bits > limit, "no input saturates"
    assert any(line.startswith(f"{chosen}: error bound") for line in said)
    assert len(said) <= 20


def test_no_format_is_good_enough() -> None:
    graph = parse_graph(SCORES.format(second=0.7))
    graph.input_ranges["x"] = (-1e30, 1e30)
    with pytest.raises(RangeError, match=r"no binary format .* bound of 1e-06 .*; the best is \S+, of q101\.24"):
        choose_binary(graph, lambda _: None)


@pytest.mark.parametrize(("limit", "jumps"), [(1.0, True), (0.2, False)])
def test_a_bound_below_a_jump_says_where_it_jumps(limit: float, jumps: bool) -> None:
    graph = parse_graph(
        f'graph "m"\ninput %x: float[1,2]\nrange %x [-{limit}, {limit}]\n'
        "%y: float[1,2] = ThresholdedRelu(%x) {alpha=0.5} @gate\noutput %y\n"
    )
    if not jumps:  # the threshold is out of reach
        assert choose_binary(graph, lambda _: None)
        return
    with pytest.raises(RangeError, match=r"bound of 1e-06: .* jumps by 0.5 .* the best is 0.5, of q") as caught:
        choose_binary(graph, lambda _: None)
    assert "'gate' (ThresholdedRelu)" in str(caught.value)
    assert "--calibrate" in str(caught.value)


def test_a_tolerance_takes_the_place_of_the_bound() -> None:
    graph = parse_graph(SCORES.format(second=0.7))
    chosen = choose_binary(graph, lambda _: None, 1e-3)
    assert bound(graph, chosen) <= 1e-3 < bound(graph, Binary(chosen.integer_bits, chosen.fraction_bits - 1))
