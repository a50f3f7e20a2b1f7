from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from ml2sc.errors import IrSyntaxError
from ml2sc.ir.graph import Graph, Tensor
from ml2sc.ir.parser import parse_graph
from ml2sc.ir.printer import print_graph
from ml2sc.ir.types import DType, FixedPoint, Interval

TEXT = """\
graph "a \\"model\\""
input %x: u8*1/255+3[1,2] in [0, 255]
range %x [-0.5, 1.0]
const %W: s16*1/1024[2,5] in [-300, 300]
const %shape: int64[2] = [1, -1]
const %empty: float[0] = []
tensor %spare: bool[]

%h: s24*1/261120[1,5] in [-9, 9] = Gemm(%x, %W, _) {f=1.0, i=[0, 1], s="a\\nb", none=[]} @fc from ("/fc", "q \\u00e9")
%"odd name": float[1,5], _ = Custom(%h, %h) @"a node"

output %"odd name", %h
decision %h
observed %h [-inf, 1e-300]

data %W = [
  1, 2, 3, 4, 5, 6, 7, 8, 9, 170141183460469231731687303715884105728
]
real %W = [
  0.1, -0.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, nan
]
"""


def test_text_is_what_it_reads() -> None:
    graph = parse_graph(TEXT)
    assert print_graph(graph) == TEXT
    assert graph.tensor("x").type == FixedPoint(8, False, Fraction(1, 255), 3)
    assert graph.tensor("W").data[1, 4] == 2**127
    assert graph.node("fc").attrs == {"f": 1.0, "i": (0, 1), "s": "a\nb", "none": ()}
    assert graph.node("fc").origin == ("/fc", "q é")
    assert graph.node("fc").inputs == ("x", "W", "")
    assert graph.node("a node").outputs == ("odd name", "")
    assert graph.tensor("h").interval == Interval(-9, 9)
    assert graph.tensor("spare").shape == ()


def test_insertion_order_survives() -> None:
    graph = Graph("order")
    graph.add_tensor(Tensor("x", (1,), DType.FLOAT))
    graph.inputs = ["x"]
    for name in ("z", "b", "a"):
        graph.add_tensor(Tensor(name, (1,), DType.FLOAT))
        graph.add("Relu", ["x"], [name], name=f"make_{name}")
    graph.outputs = ["a", "b", "z"]
    assert [n.name for n in parse_graph(print_graph(graph))] == ["make_z", "make_b", "make_a"]


def test_node_and_tensor_may_share_a_name() -> None:
    text = 'graph "m"\ninput %x: float[1]\n\n%relu: float[1] = Relu(%x) @relu\n\noutput %relu\n'
    assert print_graph(parse_graph(text)) == text


def test_long_constants_are_wrapped_and_exact() -> None:
    graph = Graph()
    data = np.random.default_rng(1).normal(size=(20, 20))
    graph.add_tensor(Tensor("W", (20, 20), DType.FLOAT, data))
    text = print_graph(graph)
    assert max(map(len, text.splitlines())) <= 120
    assert parse_graph(text).tensor("W").data.tobytes() == data.tobytes()


def test_comments_and_layout_do_not_matter() -> None:
    graph = parse_graph('# a test\ngraph "m" input %x: float[1] %y: float[1] = Relu(\n%x) @r # the end\noutput %y')
    assert [n.op_type for n in graph] == ["Relu"]


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("", 1, "expected 'graph'"),
        ("graph g", 1, "expected a string"),
        ('graph "g"\n\nfoo', 3, "expected a node or one of input, const"),
        ('graph "g"\ninput %x: float[1', 2, "expected ']'"),
        ('graph "g"\ninput %x: double[1]', 2, "expected float, int64, bool or a fixed-point type"),
        ('graph "g"\ninput %x: s8*1/0[1]', 2, "divides by zero"),
        ('graph "g"\ninput %x: float[-1]', 2, "negative dimension"),
        ('graph "g"\ninput %x: s8*1[1] in [3, 2]', 2, "lo <= hi"),
        ('graph "g"\ninput %x: float[1]\ninput %x: float[1]', 3, "%x exists twice"),
        ('graph "g"\nconst %c: float[2] = [1.0]', 2, "has shape [2], but 1 elements"),
        ('graph "g"\nconst %c: int64[1] = [1.5]', 2, "expected an int, found '1.5'"),
        ('graph "g"\nconst %c: float[9]', 2, "constant %c has no data"),
        ('graph "g"\n%y: float[1] = Relu(%x) @r', 2, "%x is not declared"),
        ('graph "g"\ninput %x: float[1]\n%y: float[1] = Relu(%x)\noutput %y', 4, "expected the operator's name"),
        ('graph "g"\ninput %x: float[1]\n%y: float[1] = Relu(%x) @r\n%z: float[1] = Relu(%x) @r', 4, "@r exists twice"),
        ('graph "g"\ninput %x: float[1]\n%y: float[1] = Relu(%x) {a=[1, "b"]} @r', 3, "mixes types"),
        ('graph "g"\noutput %y', 2, "%y is not declared"),
        ('graph "g"\nrange %x [1.0]', 2, "expected [lo, hi]"),
        ('graph "g"\ninput %x: float[1] ;', 2, "cannot read ';'"),
        ('graph "a\\q"', 1, "cannot read the string"),
    ],
)
def test_errors_give_the_line(text: str, line: int, what: str) -> None:
    with pytest.raises(IrSyntaxError) as error:
        parse_graph(text)
    assert error.value.message.startswith(f"line {line}: ")
    assert what in error.value.message
    assert "error[ML134]" in str(error.value)
