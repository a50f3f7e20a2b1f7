from __future__ import annotations

from typing import Any

from ml2sc.ir.parser import parse_graph
from ml2sc.ir.verify import verify
from ml2sc.passes.fold_constants import FoldConstants
from ml2sc.passes.infer_shapes import InferShapes


def test_constants_and_shapes_fold(rewrite: Any) -> None:
    rewrite(
        FoldConstants(),
        """
graph "m"
input %x: float[1,2,3]
const %a: float[2] = [1.0, -2.0]
const %c: float[1] = [2.0]
%n: float[2] = Neg(%a) @neg from ("neg")
%r: float[2] = Relu(%n) @relu
%f: float[1,6] = Flatten(%x) @flatten
%unused: float[2] = Neg(%r) @dead
%y: float[1,6] = Mul(%f, %c) @mul
output %y, %r
""",
        """
graph "m"
input %x: float[1,2,3]
const %c: float[1] = [2.0]
const %r: float[2] = [0.0, 2.0]
%f: float[1,6] = Flatten(%x) @flatten
%y: float[1,6] = Mul(%f, %c) @mul
output %y, %r
""",
    )


def test_shape_arithmetic_folds() -> None:
    graph = parse_graph("""
graph "m"
input %x: float[1,2,3]
const %minus: int64[1] = [-1]
const %first: int64[1] = [0]
%s: int64[3] = Shape(%x) @shape
%d: int64[1] = Gather(%s, %first) @gather
%t: int64[2] = Concat(%d, %minus) {axis=0} @concat
%y: float[7] = Reshape(%x, %t) @reshape
output %y
""")
    assert FoldConstants().run(graph)
    assert [node.op_type for node in graph] == ["Reshape"]
    assert graph.tensor("y").shape == (1, 6)
    verify(graph)


def test_nothing_to_fold(rewrite: Any) -> None:
    rewrite(FoldConstants(), 'graph "m"\ninput %x: float[1,2]\n%y: float[1,2] = Relu(%x) @r\noutput %y')


def test_shapes_are_found_again() -> None:
    graph = parse_graph(
        'graph "m"\ninput %x: float[1,2]\n%h: float[7] = Relu(%x) @r\n%y: int64[9] = Add(%h, %x) @a\noutput %y'
    )
    assert InferShapes().run(graph)
    assert [str((t.shape, t.type.value)) for t in graph.tensors.values()] == ["((1, 2), 'float')"] * 3
    assert not InferShapes().run(graph)
