from __future__ import annotations

import random
import textwrap

import numpy as np
import pytest

from ml2sc.errors import RangeError
from ml2sc.ir.analysis import evaluate_exact, evaluate_samples, exact_bounds, prove_intervals, real_bounds
from ml2sc.ir.graph import Graph
from ml2sc.ir.ops.integers import matmul
from ml2sc.ir.parser import parse_graph

FLOAT = """
graph "m"
input %x: float[1,2]
range %x [-1.0, 3.0]
const %W: float[2,2] = [2.0, -1.0, -4.0, 0.5]
const %b: float[2] = [1.0, -10.0]
%h: float[1,2] = Gemm(%x, %W, %b) @fc
%r: float[1,2] = Relu(%h) @relu
%s: float[1,2] = Mul(%x, %x) @square
output %r, %s
"""

# q of x in [-4, 12] at a quarter, weights at a half, zero point 2: x - z in [-6, 10]
QUANTISED = """
graph "m"
input %x: s5*1/4+2[1,2] in [-4, 12]
const %W: s4*1/2[2,2] in [-8, 4] = [4, -2, -8, 1]
const %b: s8*1/8[2] in [-80, 8] = [8, -80]
%h: s256*1/8[1,2] = Gemm(%x, %W, %b) @fc
%r: s256*1/8[1,2] = Relu(%h) @relu
%q: u3*1[1,2] = Requantize(%r) {multiplier=1, shift=3} @requantize
output %q
"""


def parsed(text: str) -> Graph:
    return parse_graph(textwrap.dedent(text))


def test_real_bounds_by_hand() -> None:
    bounds = real_bounds(parsed(FLOAT))
    # 2·[-1, 3] − 4·[-1, 3] + 1 and −1·[-1, 3] + 0.5·[-1, 3] − 10
    for name, lo, hi in (("h", [-13, -13.5], [11, -7.5]), ("r", [0, 0], [11, 0]), ("s", [0, 0], [9, 9])):
        assert np.all(bounds[name].lo <= lo)
        assert np.all(bounds[name].hi >= hi)
        np.testing.assert_allclose(bounds[name].lo.ravel(), lo, atol=1e-9)
        np.testing.assert_allclose(bounds[name].hi.ravel(), hi, atol=1e-9)


def test_a_bound_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(RangeError, match="cannot be bounded") as caught:
        real_bounds(parsed(FLOAT.replace("[-1.0, 3.0]", "[-1e308, 1e308]")))
    assert (caught.value.node, caught.value.tensor) == ("'fc' (Gemm)", "%h")


def test_intervals_by_hand() -> None:
    graph = parsed(QUANTISED)
    assert prove_intervals(graph)
    # 4·[-6, 10] − 8·[-6, 10] + 8 = [-96, 96] and −2·[-6, 10] + 1·[-6, 10] − 80 = [-106, -58]
    assert {n: str(graph.tensor(n).interval) for n in ("h", "r", "q")} == {
        "h": "[-106, 96]",
        "r": "[0, 96]",
        "q": "[0, 7]",  # 96/8 = 12, saturated
    }
    assert (graph.tensor("h").format.bits, graph.tensor("r").format.bits, graph.tensor("q").format.bits) == (8, 8, 3)
    assert not prove_intervals(graph), "a second proof changes nothing"
    assert not graph.tensor("q").format.signed


def test_a_square_is_never_negative() -> None:
    graph = parsed(QUANTISED.replace("output %q", "%s: s256*1/16[1,2] = Mul(%x, %x) @square\noutput %q, %s"))
    prove_intervals(graph)
    assert str(graph.tensor("s").interval) == "[0, 100]"  # x - z in [-6, 10]
    above = parsed(FLOAT.replace("[-1.0, 3.0]", "[2.0, 3.0]"))
    np.testing.assert_allclose([bound.ravel() for bound in real_bounds(above)["s"]], [[4, 4], [9, 9]])


def test_bounds_by_element() -> None:
    graph = parsed(QUANTISED)
    prove_intervals(graph)
    lo, hi = exact_bounds(graph, "fc")[0]
    assert (lo.tolist(), hi.tolist()) == ([[-96, -106]], [[96, -58]])


def test_the_accumulator_is_what_it_is_before_the_activation() -> None:
    graph = parsed(QUANTISED.replace("= Gemm(%x, %W, %b)", '= FusedGemm(%x, %W, %b) {activation="Relu"}'))
    prove_intervals(graph)
    assert exact_bounds(graph, "fc")[0].lo.tolist() == [[0, 0]]
    assert exact_bounds(graph, "fc", raw=True)[0].lo.tolist() == [[-96, -106]]


def test_a_sum_that_leaves_a_word_names_node_bound_and_limit() -> None:
    wide = QUANTISED.replace("s5*1/4+2[1,2] in [-4, 12]", f"s254*1/4+2[1,2] in [-4, {1 << 252}]")
    with pytest.raises(RangeError, match=r"\|h\| can reach 2\^256, and the EVM computes with 2\^255") as caught:
        prove_intervals(parsed(wide))
    assert caught.value.node == "'fc' (Gemm)"


def test_evaluate_exact_by_hand() -> None:
    graph = parsed(QUANTISED)
    prove_intervals(graph)
    values = evaluate_exact(graph, {"x": np.array([12, -4])})
    assert {n: values[n].tolist() for n in ("h", "r", "q")} == {"h": [[96, -106]], "r": [[96, 0]], "q": [[7, 0]]}
    # 4·1 − 8·(−1) + 8 = 20: 20/8 = 2.5 goes up
    assert evaluate_exact(graph, {"x": np.array([3, 1])})["q"].tolist() == [[3, 0]]


def test_inputs_saturate_at_their_interval() -> None:
    graph = parsed(QUANTISED)
    prove_intervals(graph)
    for outside, inside in (([100, -100], [12, -4]), ([13, -5], [12, -4])):
        assert evaluate_exact(graph, {"x": np.array(outside)})["h"].tolist() == (
            evaluate_exact(graph, {"x": np.array(inside)})["h"].tolist()
        )


def test_numbers_wider_than_64_bits_stay_exact() -> None:
    graph = parsed(QUANTISED.replace("s5*1/4+2[1,2] in [-4, 12]", f"s101*1/4+2[1,2] in [-{1 << 99}, {1 << 99}]"))
    prove_intervals(graph)
    x = [(1 << 99) - 1, -(1 << 99)]
    h = evaluate_exact(graph, {"x": np.array(x, dtype=object)})["h"]
    assert h.tolist() == [[4 * (x[0] - 2) - 8 * (x[1] - 2) + 8, -2 * (x[0] - 2) + (x[1] - 2) - 80]]


@pytest.mark.parametrize("x_bits", [1, 26, 70, 200])
@pytest.mark.parametrize("bits", [25, 26, 27, 33, 34, 35, 51, 60, 62, 70])
def test_products_are_exact_whatever_int64_holds(bits: int, x_bits: int) -> None:
    rng = random.Random(bits)
    x = [[rng.choice([(1 << x_bits) - 1, 1 - (1 << x_bits), 1, -1, 0]) for _ in range(3)] for _ in range(2)]
    w = [[rng.choice([1, -1]) * ((1 << bits) - 1 - 2 * rng.randrange(3)) for _ in range(2)] for _ in range(3)]
    kind = np.int64 if bits < 63 else object
    exact = [[sum(a * row[j] for a, row in zip(one, w, strict=True)) for j in range(2)] for one in x]
    assert matmul(np.array(x, dtype=object), np.array(w, dtype=kind)).tolist() == exact


def test_samples_together_give_what_each_gives_alone() -> None:
    text = QUANTISED.replace("[1,2]", "[3,2]").replace("s8*1/8[2] in", "s8*1/8[3,2] in")
    graph = parsed(text.replace("[8, -80]\n", "[8, -80, 7, 6, 5, 4]\n"))
    prove_intervals(graph)
    samples = [{"x": np.array(x)} for x in ([12, -4, 3, 1, 0, 0], [1, 2, 3, 4, 5, 6], [9, 9, -1, -1, 2, -2])]
    together = evaluate_samples(graph, samples)
    for sample, values in zip(samples, together, strict=True):
        alone = evaluate_exact(graph, sample)
        assert {n: v.tolist() for n, v in values.items()} == {n: v.tolist() for n, v in alone.items()}
    # row 1 of the first: (3 − 2, 1 − 2) · W + (7, 6)
    assert together[0]["h"][1].tolist() == [4 + 8 + 7, -2 - 1 + 6]
