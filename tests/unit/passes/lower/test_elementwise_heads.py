"""Every operator that is not a layer: the Program gives the graph interpreter's integers."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest
from support import heavy

from ml2sc.errors import UnsupportedOperatorError
from ml2sc.ir.graph import Graph, Tensor
from ml2sc.ir.types import FixedPoint, Interval
from ml2sc.passes.lower import PlanOptions, lower
from ml2sc.passes.precision import Binary, Integer, Precision

from .conftest import Agree

HEAD = """
    graph "m"
    input %x: float[2,5]
    input %z: float[2,5]
    range %x [-3.0, 5.0]
    range %z [0.0, 1.5]
    const %c: float[5] = [0.5, -1.5, 0.3, 2.0, 0.0]
    const %one: float[] = [1.7]
    const %lo: float[] = [-0.4]
    const %hi: float[] = [2.2]
"""
VECTOR = """
    graph "m"
    input %x: float[1,5]
    range %x [-3.0, 5.0]
    const %i: int64[5] = [4, 2, 0, 1, 3]
"""
LAYER = "const %W: float[5,5] = [" + ", ".join(str((7 * i % 11 - 5) / 4) for i in range(25)) + "]\n"
PRECISIONS: list[Precision] = [Integer(8, 8), Integer(8, 16), Binary(8, 20), Binary(20, 60)]


@pytest.mark.parametrize(
    ("body", "precision"),
    heavy.in_turns(
        2,
        [
            "%y: float[2,5] = Add(%x, %z) @n\noutput %y",
            "%y: float[2,5] = Sub(%x, %z) @n\noutput %y",
            "%y: float[2,5] = Add(%x, %c) @n\noutput %y",
            "%y: float[2,5] = Sub(%one, %x) @n\noutput %y",
            "%y: float[2,5] = Add(%x, %x) @n\noutput %y",
            "%y: float[2,5] = Mul(%x, %z) @n\noutput %y",
            "%y: float[2,5] = Mul(%x, %c) @n\noutput %y",
            "%y: float[2,5] = Div(%z, %one) @n\noutput %y",
            "%y: float[2,5] = Neg(%x) @n\noutput %y",
            "%y: float[2,5] = Relu(%x) @n\noutput %y",
            "%y: float[2,5] = LeakyRelu(%x) {alpha=0.1} @n\noutput %y",
            "%y: float[2,5] = LeakyRelu(%x) {alpha=-2.5} @n\noutput %y",
            "%y: float[2,5] = Clip(%x, %lo, %hi) @n\noutput %y",
            "%y: float[2,5] = Clip(%x, _, %hi) @n\noutput %y",
            "%y: float[2,5] = Sigmoid(%x) @n\noutput %y",
            "%y: float[2,5] = Softmax(%x) {axis=1} @n\noutput %y",
            "%y: float[2,5] = LogSoftmax(%x) {axis=1} @n\noutput %y",
            '%y: float[2,5] = Normalizer(%z) {norm="L1"} @n\noutput %y',
            '%y: float[2,5] = Normalizer(%x) {norm="L1"} @n\noutput %y',
            "%a: float[2,5] = Sigmoid(%x) @n\n%y: float[2,5] = Mul(%a, %x) @swish\noutput %y, %a",
            (
                "%a: float[5,2] = Transpose(%x) @t\n%b: float[5,2] = Relu(%a) @r\n"
                "%y: float[2,5] = Transpose(%b) @u\noutput %y"
            ),
        ],
        PRECISIONS,
    ),
    ids=str,
)
def test_arithmetic(
    quantised: Callable[[str, Precision], Graph], agree: Agree, body: str, precision: Precision
) -> None:
    agree(quantised(HEAD + "\n".join("    " + line for line in body.splitlines()), precision))


@pytest.mark.parametrize(
    ("body", "precision", "layer"),
    heavy.in_turns(
        2,
        [
            "%y: float[1,5] = Softmax({h}) {{axis=-1}} @n\noutput %y",
            "%y: float[1,5] = LogSoftmax({h}) {{axis=-1}} @n\noutput %y",
            "%d: int64[1] = ArgMax({h}) {{axis=1, keepdims=0}} @n\noutput {h}\ndecision %d",
            (
                "%g: float[1,5] = Gather({h}, %i) {{axis=1}} @g\n%d: int64[1] = ArgMax(%g) {{axis=1, keepdims=0}} @n\n"
                "output {h}\ndecision %d"
            ),
            (
                "%d: int64[1] = ArgMax({h}) {{axis=1, keepdims=0}} @n\nconst %t: int64[5] = [7, 3, 3, 100, 0]\n"
                "%l: int64[1] = TableLookup(%t, %d) @l\noutput {h}\ndecision %l"
            ),
            (
                "%d: int64[1] = ArgMax({h}) {{axis=1, keepdims=0}} @n\nconst %t: int64[5] = [0, 1, 2, 3, 4]\n"
                "%l: int64[1] = TableLookup(%t, %d) @l\noutput {h}\ndecision %l"
            ),
        ],
        PRECISIONS,
        [False, True],
    ),
    ids=str,
)
def test_heads(
    quantised: Callable[[str, Precision], Graph], agree: Agree, body: str, precision: Precision, layer: bool
) -> None:
    text = VECTOR + ("    " + LAYER + "    %h: float[1,5] = Gemm(%x, %W) @fc\n" if layer else "")
    lines = body.format(h="%h" if layer else "%x").splitlines()
    program = agree(quantised(text + "\n".join("    " + line for line in lines), precision))
    assert program.has_decision == ("decision" in body)


def test_a_sigmoids_decision(quantised: Callable[[str, Precision], Graph], agree: Agree) -> None:
    text = """
    graph "m"
    input %x: float[1,1]
    range %x [-3.0, 5.0]
    const %zero: float[] = [0.0]
    %y: float[1,1] = Sigmoid(%x) @s
    %b: bool[1,1] = GreaterOrEqual(%x, %zero) @g
    output %y
    decision %b
    """
    program = agree(quantised(text, Integer(8, 8)))
    assert program.has_decision
    assert [s.classify for s in program.layers if s.name.startswith("s")] == [False], "no exp is needed to decide"


def test_strict_inputs_are_refused_not_clamped(quantised: Callable[[str, Precision], Graph]) -> None:
    text = """
    graph "m"
    input %x: float[1,2]
    range %x [-3.0, 5.0]
    %y: float[1,2] = Relu(%x) @n
    output %y
    """
    graph = quantised(text, Binary(8, 20))
    for strict in (False, True):
        program = lower(graph, PlanOptions(strict_input=strict))
        assert ("InputOutOfRange" in repr(program.quantize)) == strict
        assert ("InputOutOfRange" in repr(program.layers)) == strict


def test_an_operator_without_a_lowering() -> None:
    graph = Graph()
    for name in ("x", "y"):
        graph.add_tensor(Tensor(name, (1,), FixedPoint(8, False, Fraction(1)), interval=Interval(0, 255)))
    graph.add("Nonsense", ["x"], ["y"], name="n")
    graph.inputs, graph.outputs = ["x"], ["y"]
    with pytest.raises(UnsupportedOperatorError, match="operator Nonsense has no lowering"):
        lower(graph)
