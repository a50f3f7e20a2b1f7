from __future__ import annotations

from collections.abc import Callable

import pytest

from ml2sc.ir.graph import Graph
from ml2sc.ir.parser import parse_graph
from ml2sc.passes.fold_scaling import FoldScaling

GEMM = """
graph "m"
input %x: float[1,2]
const %W: float[2,2] = [1.0, 2.0, 3.0, 4.0]
const %b: float[2] = [1.0, -1.0]
const %f: float[2] = [2.0, 4.0]
const %s: float[] = [0.5]
const %zero: float[] = [0.0]
"""


@pytest.mark.parametrize(
    ("op", "weights", "bias"),
    [
        ("Mul(%h, %f)", "[2.0, 8.0, 6.0, 16.0]", "[2.0, -4.0]"),
        ("Mul(%f, %h)", "[2.0, 8.0, 6.0, 16.0]", "[2.0, -4.0]"),
        ("Div(%h, %f)", "[0.5, 0.5, 1.5, 1.0]", "[0.5, -0.25]"),
        ("Mul(%h, %s)", "[0.5, 1.0, 1.5, 2.0]", "[0.5, -0.5]"),
        ("Neg(%h)", "[-1.0, -2.0, -3.0, -4.0]", "[-1.0, 1.0]"),
        ("Add(%h, %f)", "[1.0, 2.0, 3.0, 4.0]", "[3.0, 3.0]"),
        ("Sub(%f, %h)", "[-1.0, -2.0, -3.0, -4.0]", "[1.0, 5.0]"),
    ],
)
def test_after_a_gemm(rewrite: Callable[..., Graph], op: str, weights: str, bias: str) -> None:
    rewrite(
        FoldScaling(),
        GEMM + f'%h: float[1,2] = Gemm(%x, %W, %b) @gemm from ("a")\n%y: float[1,2] = {op} @op from ("b")\noutput %y',
        f"""
graph "m"
input %x: float[1,2]
const %W: float[2,2] = {weights}
const %b: float[2] = {bias}
%y: float[1,2] = Gemm(%x, %W, %b) @gemm from ("a", "b")
output %y
""",
    )


@pytest.mark.parametrize(
    ("op", "weights", "bias"),
    [
        ("Mul(%x, %f)", "[2.0, 4.0, 12.0, 16.0]", "[1.0, -1.0]"),
        ("Div(%x, %f)", "[0.5, 1.0, 0.75, 1.0]", "[1.0, -1.0]"),
        ("Neg(%x)", "[-1.0, -2.0, -3.0, -4.0]", "[1.0, -1.0]"),
        ("Add(%x, %f)", "[1.0, 2.0, 3.0, 4.0]", "[15.0, 19.0]"),
        ("Sub(%x, %s)", "[1.0, 2.0, 3.0, 4.0]", "[-1.0, -4.0]"),
        ("Sub(%s, %x)", "[-1.0, -2.0, -3.0, -4.0]", "[3.0, 2.0]"),
    ],
)
def test_before_a_gemm(rewrite: Callable[..., Graph], op: str, weights: str, bias: str) -> None:
    rewrite(
        FoldScaling(),
        GEMM + f'%z: float[1,2] = {op} @op from ("a")\n%y: float[1,2] = Gemm(%z, %W, %b) @gemm from ("b")\noutput %y',
        f"""
graph "m"
input %x: float[1,2]
const %W: float[2,2] = {weights}
const %b: float[2] = {bias}
%y: float[1,2] = Gemm(%x, %W, %b) @gemm from ("a", "b")
output %y
""",
    )


def test_whole_chains_on_both_sides(rewrite: Callable[..., Graph]) -> None:
    graph = rewrite(
        FoldScaling(),
        GEMM
        + """
%z1: float[1,2] = Sub(%x, %s) @sub from ("1")
%z2: float[1,2] = Div(%z1, %f) @div from ("2")
%h: float[1,2] = Gemm(%z2, %W) @gemm from ("3")
%y1: float[1,2] = Mul(%h, %f) @mul from ("4")
%y2: float[1,2] = Add(%y1, %s) @add from ("5")
%y: float[1,2] = Relu(%y2) @relu from ("6")
output %y
""",
        """
graph "m"
input %x: float[1,2]
const %W: float[2,2] = [1.0, 4.0, 1.5, 4.0]
const %gemm.bias: float[2] = [-0.75, -3.5]
%y2: float[1,2] = Gemm(%x, %W, %gemm.bias) @gemm from ("1", "2", "3", "4", "5")
%y: float[1,2] = Relu(%y2) @relu from ("6")
output %y
""",
    )
    assert [n.op_type for n in graph] == ["Gemm", "Relu"]


def test_through_reshapes_of_a_single_row(rewrite: Callable[..., Graph]) -> None:
    rewrite(
        FoldScaling(),
        """
graph "m"
input %x: float[1,2,1,1]
const %f: float[2,1,1] = [2.0, 4.0]
const %W: float[2,2] = [1.0, 2.0, 3.0, 4.0]
const %shape: int64[1] = [2]
%z: float[1,2,1,1] = Mul(%x, %f) @mul
%flat: float[1,2] = Flatten(%z) @flat
%h: float[1,2] = Gemm(%flat, %W) @gemm
%r: float[2] = Reshape(%h, %shape) @reshape
%y: float[2] = Neg(%r) @neg
output %y
""",
        """
graph "m"
input %x: float[1,2,1,1]
const %W: float[2,2] = [-2.0, -4.0, -12.0, -16.0]
const %shape: int64[1] = [2]
%flat: float[1,2] = Flatten(%x) @flat
%h: float[1,2] = Gemm(%flat, %W) @gemm
%y: float[2] = Reshape(%h, %shape) @reshape
output %y
""",
    )


def test_rows_by_columns(rewrite: Callable[..., Graph]) -> None:
    """The factor must be one for all rows; the offset may differ."""
    rewrite(
        FoldScaling(),
        """
graph "m"
input %x: float[2,2]
const %W: float[2,1] = [1.0, 2.0]
const %o: float[2,1] = [3.0, 4.0]
%z: float[2,2] = Add(%x, %o) @add
%y: float[2,1] = Gemm(%z, %W) @gemm
output %y
""",
        """
graph "m"
input %x: float[2,2]
const %W: float[2,1] = [1.0, 2.0]
const %gemm.bias: float[2,1] = [9.0, 12.0]
%y: float[2,1] = Gemm(%x, %W, %gemm.bias) @gemm
output %y
""",
    )


@pytest.mark.parametrize(
    "text",
    [
        "%z: float[1,2] = Mul(%x, %f) @mul\n%y: float[1,2] = Gemm(%z, %W, %b) @g\noutput %y, %z",  # an output too
        "%z: float[1,2] = Mul(%x, %f) @m\n%h: float[1,2] = Gemm(%z, %W) @g\n%y: float[1,2] = Add(%h, %z) @a\noutput %y",
        "%z: float[1,2] = Gemm(%x, %W) @g\n%y: float[1,2] = Div(%f, %z) @div\noutput %y",  # not affine
        "%h: float[1,2] = Gemm(%x, %W) @g\n%y: float[1,2] = Mul(%h, %h) @mul\noutput %y",
        '%h: float[1,2] = FusedGemm(%x, %W) {activation="Relu"} @g\n%y: float[1,2] = Mul(%h, %f) @mul\noutput %y',
    ],
)
def test_leaves(rewrite: Callable[..., Graph], text: str) -> None:
    rewrite(FoldScaling(), GEMM + text)


@pytest.mark.parametrize("op", ["Div(%h, %zero)", "Mul(%h, %huge)"])
def test_leaves_what_would_not_be_finite(op: str) -> None:
    head = GEMM + "const %huge: float[] = [1e308]\n%h: float[1,2] = Gemm(%x, %W) @g\n"
    assert not FoldScaling().run(parse_graph(head + f"%y: float[1,2] = {op} @d\noutput %y"))


def test_leaves_a_factor_that_differs_between_rows(rewrite: Callable[..., Graph]) -> None:
    rewrite(
        FoldScaling(),
        """
graph "m"
input %x: float[2,2]
const %W: float[2,1] = [1.0, 2.0]
const %f: float[2,1] = [3.0, 4.0]
%z: float[2,2] = Mul(%x, %f) @before
%h: float[2,1] = Gemm(%z, %W) @gemm
%y: float[2,1] = Mul(%h, %f) @after
output %y
""",
    )


def test_shared_weights_are_not_overwritten(rewrite: Callable[..., Graph]) -> None:
    rewrite(
        FoldScaling(),
        GEMM
        + """
%h: float[1,2] = Gemm(%x, %W, %b) @g1
%z: float[1,2] = Mul(%h, %s) @mul
%y: float[1,2] = Gemm(%x, %W, %b) @g2
output %z, %y
""",
        """
graph "m"
input %x: float[1,2]
const %W: float[2,2] = [1.0, 2.0, 3.0, 4.0]
const %b: float[2] = [1.0, -1.0]
const %W.1: float[2,2] = [0.5, 1.0, 1.5, 2.0]
const %b.1: float[2] = [0.5, -0.5]
%z: float[1,2] = Gemm(%x, %W.1, %b.1) @g1
%y: float[1,2] = Gemm(%x, %W, %b) @g2
output %z, %y
""",
    )
