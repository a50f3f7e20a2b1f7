from __future__ import annotations

import pytest

from ml2sc.errors import RangeError
from ml2sc.ir import wad
from ml2sc.ir.analysis import prove_intervals, real_bounds
from ml2sc.ir.graph import Graph
from ml2sc.ir.parser import parse_graph
from ml2sc.passes.choose_precision import TARGET_ERROR, bits_needed, choose_binary
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


LABELS = """
graph "m"
input %x: float[1,4]
range %x [-1.0, 1.0]
const %start: int64[1] = [1]
const %end: int64[1] = [{end}]
const %axis: int64[1] = [1]
const %table: int64[3] = {labels}
%y: float[1,3] = Slice(%x, %start, %end, %axis) @s
%i: int64[1] = ArgMax(%y) {{axis=1, keepdims=0}} @a
%l: int64[1] = TableLookup(%table, %i) @t
output %y
decision %l
"""


def test_only_tensors_of_reals_need_bits() -> None:
    plain = parse_graph(LABELS.format(end=4, labels=[0, 1, 2]))
    large = parse_graph(LABELS.format(end=2**63 - 1, labels=[2**41, -(2**41), 3]))
    chosen = [choose_binary(graph, lambda _: None) for graph in (plain, large)]
    assert chosen[0] == chosen[1]
    assert chosen[0].integer_bits == 1


def test_a_label_that_counts_as_a_number_needs_bits() -> None:
    text = LABELS.format(end=4, labels=[5, 15, 25]).replace(
        "output %y", "%n: float[1] = Cast(%l) {to=1} @c\noutput %y, %n"
    )
    graph = parse_graph(text)
    assert bits_needed(graph, real_bounds(graph)) == 1  # an output is as wide as it is
    used = parse_graph(text.replace("output %y, %n", "%z: float[1] = Neg(%n) @m\noutput %y, %z"))
    assert bits_needed(used, real_bounds(used)) == 5


def test_a_jump_of_the_decision_alone_is_not_to_blame() -> None:
    step = (
        'graph "m"\ninput %x: float[1,1]\nrange %x [-1e30, 1e30]\nconst %zero: float[] = [0.0]\n'
        "%g: bool[1,1] = GreaterOrEqual(%x, %zero) @step\n"
    )
    with pytest.raises(RangeError, match="no binary format"):
        choose_binary(parse_graph(step + "%y: float[1,1] = Mul(%x, %x) @m\noutput %y\ndecision %g"), lambda _: None)
    with pytest.raises(RangeError, match="the result jumps by 1 at one value") as caught:
        choose_binary(parse_graph(step + "%y: float[1,1] = Cast(%g) {to=1} @c\noutput %y"), lambda _: None)
    assert caught.value.node == "'step' (GreaterOrEqual)"
