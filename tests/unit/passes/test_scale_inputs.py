from __future__ import annotations

import numpy as np
import pytest

from ml2sc.ir.evaluate import evaluate_float
from ml2sc.ir.graph import Graph
from ml2sc.ir.parser import parse_graph
from ml2sc.ir.printer import print_graph
from ml2sc.ir.types import Scaling
from ml2sc.ir.verify import verify
from ml2sc.passes.scale_inputs import ScaleInputs, scalable

HEAD = """
graph "m"
input %x: float[1,3]
input %z: float[1,2]
const %W: float[3,2] = [1.0, 2.0, 3.0, 4.0, -5.0, 6.0]
const %V: float[5,2] = [1.0, 2.0, 3.0, 4.0, -5.0, 6.0, 0.5, 0.25, 1.5, -1.0]
const %T: float[2,3] = [1.0, 3.0, -5.0, 2.0, 4.0, 6.0]
const %R: float[2,1] = [2.0, -3.0]
const %b: float[2] = [1.0, -1.0]
const %order: int64[3] = [2, 0, 1]
const %shape: int64[2] = [3, 1]
range %x [-2000.0, 30000.0]
range %z [0.0, 1.0]
"""
RANGES = {
    "x": Scaling(np.array([[0.0, -2000.0, 10_000.0]]), np.array([[1.0, 2000.0, 30_000.0]])),
    "z": Scaling(np.array([[0.0, 0.25]]), np.array([[0.5, 0.75]])),
}
TAKEN_UP = {
    "a Gemm": "%y: float[1,2] = Gemm(%x, %W, %b) @g",
    "a Gemm of a transposed matrix, scaled": "%y: float[1,2] = Gemm(%x, %T, %b) {alpha=0.5, beta=2.0, transB=1} @g",
    "a Gemm without a bias": "%y: float[1,2] = Gemm(%x, %W) @g",
    "a Gemm with its activation": '%y: float[1,2] = FusedGemm(%x, %W, %b) {activation="Relu"} @g',
    "a product": "%y: float[1,2] = MatMul(%x, %W) @g",
    "two readers": "%p: float[1,2] = Gemm(%x, %W, %b) @g\n%q: float[1,2] = MatMul(%x, %W) @h\n"
    "%y: float[1,2] = Add(%p, %q) @a",
    "elements in another order": (
        "%o: float[1,3] = Gather(%x, %order) {axis=1} @o\n%y: float[1,2] = Gemm(%o, %W, %b) @g"
    ),
    "several inputs": "%o: float[1,5] = Concat(%x, %z) {axis=1} @o\n%y: float[1,2] = Gemm(%o, %V, %b) @g",
    "a product from the left": "%o: float[3,1] = Reshape(%x, %shape) @o\n%y: float[2,1] = MatMul(%T, %o) @g",
}


def before(body: str) -> Graph:
    graph = parse_graph(f"{HEAD}\n{body}\noutput %y")
    graph.prune()
    return graph


@pytest.mark.parametrize("name", TAKEN_UP)
def test_layers_take_the_ranges_up(name: str) -> None:
    graph = before(TAKEN_UP[name])
    scaled = graph.copy()
    assert ScaleInputs(RANGES).run(scaled)
    verify(scaled)
    assert scaled.input_ranges["x"] == (0.0, 1.0)
    rng = np.random.default_rng(0)
    for _ in range(5):
        sample = {n: r.lo + (r.hi - r.lo) * rng.random(r.lo.shape) for n, r in RANGES.items()}
        want, got = (evaluate_float(g, sample)["y"] for g in (graph, scaled))
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-9)
    text = print_graph(scaled)
    assert print_graph(parse_graph(text)) == text
    assert [s.lo.tolist() for s in parse_graph(text).scalings.values()] == [
        s.lo.tolist() for s in scaled.scalings.values()
    ]


@pytest.mark.parametrize(
    "body",
    [
        "%r: float[1,3] = Relu(%x) @r\n%y: float[1,2] = Gemm(%r, %W, %b) @g",
        (
            "%p: float[1,2] = Gemm(%x, %W, %b) @g\n%r: float[1,3] = Relu(%x) @r\n%q: float[1,2] = Gemm(%r, %W) @h\n"
            "%y: float[1,2] = Add(%p, %q) @a"
        ),
        "%y: float[1,3] = Identity(%x) @i",
    ],
    ids=["another operator reads it", "another operator reads it, too", "it is an output"],
)
def test_what_keeps_one_range(body: str) -> None:
    graph = before(body)
    assert scalable(graph, ["x"]) == []
    assert not ScaleInputs({"x": RANGES["x"]}).run(graph)
    assert not graph.scalings


def test_elements_that_meet_the_same_weights_share_a_range() -> None:
    """Two rows of three features: a feature's range holds for both."""
    graph = parse_graph(
        'graph "m"\ninput %x: float[1,6]\nrange %x [0.0, 9.0]\nconst %s: int64[2] = [2, 3]\n'
        "const %W: float[3,1] = [1.0, 2.0, 3.0]\n%h: float[2,3] = Reshape(%x, %s) @s\n"
        "%y: float[2,1] = Gemm(%h, %W) @g\noutput %y"
    )
    lo, hi = np.array([[0.0, 1, 2, 3, 4, 5]]), np.array([[1.0, 2, 3, 9, 5, 6]])
    assert ScaleInputs({"x": Scaling(lo, hi)}).run(graph)
    assert graph.scalings["x"].lo.tolist() == [[0, 1, 2, 0, 1, 2]]
    assert graph.scalings["x"].hi.tolist() == [[9, 5, 6, 9, 5, 6]]


def test_elements_that_share_a_row_with_others_keep_one_range() -> None:
    """Two inputs below each other, of which one has no range by element."""
    graph = parse_graph(
        'graph "m"\ninput %x: float[1,2]\ninput %z: float[1,2]\nrange %x [0.0, 9.0]\nrange %z [0.0, 9.0]\n'
        "const %W: float[2,1] = [1.0, 2.0]\n%h: float[2,2] = Concat(%x, %z) {axis=0} @c\n"
        "%y: float[2,1] = Gemm(%h, %W) @g\noutput %y"
    )
    assert scalable(graph, ["x"]) == []
    assert scalable(graph, ["x", "z"]) == ["x", "z"]
